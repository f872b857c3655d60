//! Deadlines by key: which is due, and when the next one is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// One deadline per key, in the order of time. Setting, removing and taking cost O(log n).
#[derive(Debug)]
pub(super) struct Schedule<K: Ord + Copy> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K: Ord + Copy> Schedule<K> {
    pub(super) fn new() -> Self {
        Schedule { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }

    /// Sets, moves or (`None`) removes the deadline of `key`.
    pub(super) fn set(&mut self, key: K, at: Option<Instant>) {
        let old = match at {
            Some(at) => self.by_key.insert(key, at),
            None => self.by_key.remove(&key),
        };
        if let Some(old) = old {
            self.by_time.remove(&(old, key));
        }
        if let Some(at) = at {
            self.by_time.insert((at, key));
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes one key whose deadline has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let (at, key) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.set(key, None);
        Some(key)
    }
}
