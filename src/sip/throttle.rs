//! Slowing down who guesses: failures counted by key, and a time of refusal that doubles with each beyond the first few.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// When guessing is slowed, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Failures that are free.
    pub free: u32,
    /// The refusal after the first that is not; it doubles with each further.
    pub first: Duration,
    /// The longest refusal.
    pub longest: Duration,
    /// Without a failure for so long, all is forgotten.
    pub forget: Duration,
    /// How many keys are remembered; beyond it the one whose failure is oldest is forgotten.
    pub entries: usize,
}

impl Default for ThrottleLimits {
    /// 5 free, then 10 s to 15 minutes, forgotten after an hour; 8,192 keys.
    fn default() -> Self {
        ThrottleLimits {
            free: 5,
            first: Duration::from_secs(10),
            longest: Duration::from_secs(900),
            forget: Duration::from_secs(3_600),
            entries: 8_192,
        }
    }
}

#[derive(Debug)]
struct Entry {
    failures: u32,
    last: Instant,
    until: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Throttle<K: Ord + Clone> {
    limits: ThrottleLimits,
    entries: BTreeMap<K, Entry>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K: Ord + Clone> Throttle<K> {
    pub(super) fn new(limits: ThrottleLimits) -> Self {
        Throttle { limits, entries: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    /// How long this key is still refused.
    pub(super) fn refused_for(&self, now: Instant, key: &K) -> Option<Duration> {
        let left = self.entries.get(key)?.until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Counts a failure; true if the key is refused from now on.
    pub(super) fn failed(&mut self, now: Instant, key: K) -> bool {
        self.forget_old(now);
        let failures = self.remove(&key).map_or(0, |entry| entry.failures).saturating_add(1);
        while self.entries.len() >= self.limits.entries.max(1) {
            let Some((_, oldest)) = self.by_time.pop_first() else { break };
            self.entries.remove(&oldest);
        }
        let over = failures.saturating_sub(self.limits.free);
        let pause = match over {
            0 => Duration::ZERO,
            over => self.limits.first.saturating_mul(1 << (over - 1).min(20)).min(self.limits.longest),
        };
        self.by_time.insert((now, key.clone()));
        self.entries.insert(key, Entry { failures, last: now, until: now + pause });
        over > 0
    }

    /// The key has shown that it knows.
    pub(super) fn succeeded(&mut self, key: &K) {
        self.remove(key);
    }

    /// How many keys are refused now.
    pub(super) fn refused(&self, now: Instant) -> usize {
        self.entries.values().filter(|entry| entry.until > now).count()
    }

    fn remove(&mut self, key: &K) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.by_time.remove(&(entry.last, key.clone()));
        Some(entry)
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((last, _)) = self.by_time.first()
            && now.saturating_duration_since(*last) >= self.limits.forget
            && let Some((_, key)) = self.by_time.pop_first()
        {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // the origin of virtual time
    fn a_few_failures_are_free_and_then_each_costs_double() {
        let mut now = Instant::now();
        let mut throttle = Throttle::new(ThrottleLimits { entries: 3, ..ThrottleLimits::default() });
        let mut pauses = Vec::new();
        for _ in 0..14 {
            throttle.failed(now, 1);
            let pause = throttle.refused_for(now, &1).unwrap_or_default();
            pauses.push(pause.as_secs());
            now += pause;
            assert_eq!(throttle.refused_for(now, &1), None);
        }
        assert_eq!(pauses, [0, 0, 0, 0, 0, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
        throttle.succeeded(&1);
        assert!(!throttle.failed(now, 1));
        // The table is bounded, and forgets.
        for key in 2..100 {
            now += Duration::from_secs(1);
            throttle.failed(now, key);
        }
        assert_eq!((throttle.entries.len(), throttle.by_time.len()), (3, 3));
        now += Duration::from_secs(4_000);
        throttle.failed(now, 100);
        assert_eq!((throttle.entries.len(), throttle.by_time.len()), (1, 1));
        assert_eq!(throttle.refused(now), 0);
    }
}
