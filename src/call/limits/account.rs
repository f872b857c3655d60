//! What is known of one account: what it has used.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{DAY_MS, Limit, LimitUse, Now, Quota, country, day};

/// The time in which calls are counted for `calls_per_minute`.
const MINUTE_MS: u64 = 60_000;
/// A country that was not called for so many days is a new one again.
const REMEMBERED_DAYS: u64 = 30;
/// How often the minutes of calls that stand are written down: no more than these are lost when the process is killed.
const CHECKPOINT: Duration = Duration::from_secs(10);

/// See the module. What is not written down is over with the process: sessions that stand.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Book {
    /// The day that `used_ms` is of.
    day: u64,
    /// Time talked in that day up to `settled`.
    used_ms: u64,
    /// When the calls of the last minute began, Unix milliseconds, the oldest first.
    recent: VecDeque<u64>,
    /// By its code: each country called.
    countries: BTreeMap<String, Seen>,
    /// When its owner runs out, a token, Unix seconds: nothing of it counts after that day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends: Option<u64>,
    /// Sessions that stand.
    #[serde(skip)]
    pub open: u32,
    /// Those of them that are answered.
    #[serde(skip)]
    talking: u32,
    #[serde(skip)]
    settled: Option<Instant>,
    /// What may be talked in a day.
    #[serde(skip)]
    budget_ms: Option<u64>,
    /// The class that its owner, a user, called in last: his limits may be that class's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// When this account is to be looked at, as it stands in the ledger's queue.
    #[serde(skip)]
    pub due: Option<Instant>,
}

/// A country that was called.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Seen {
    /// The day on which it was new.
    since: u64,
    /// The day on which it was called last.
    last: u64,
}

impl Seen {
    fn is_remembered(self, today: u64) -> bool {
        self.last.abs_diff(today) <= REMEMBERED_DAYS
    }
}

impl Book {
    /// Time talked today.
    pub fn used(&self, now: Now) -> u64 {
        let today = day(now.unix_ms);
        let since = self.settled.map_or(Duration::ZERO, |settled| now.instant.saturating_duration_since(settled));
        let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        // The day may have been tomorrow's when a clock that was fast was put back.
        let (before, since) = match self.day == today || self.day == today + 1 {
            true => (self.used_ms, since),
            false => (0, since.min(now.unix_ms % DAY_MS)),
        };
        before.saturating_add(since.saturating_mul(u64::from(self.talking)))
    }

    /// What was used up to now is written down.
    pub fn settle(&mut self, now: Now) {
        self.used_ms = self.used(now);
        self.day = day(now.unix_ms);
        self.settled = (self.talking > 0).then_some(now.instant);
    }

    /// Which limit one more call would break, and when it would not any more. `again`: it goes on with a call that has been
    /// counted, to another number.
    pub fn judge(&self, now: Now, quota: &Quota, number: &str, again: bool) -> Option<(Limit, u32, Option<u64>)> {
        let today = day(now.unix_ms);
        let midnight = Some((today + 1).saturating_mul(DAY_MS));
        if let Some(most) = quota.calls.filter(|most| !again && self.open >= *most) {
            return Some((Limit::Calls, most, None));
        }
        if let Some(most) = quota.minutes_per_day.filter(|most| self.used(now) >= minutes(*most)) {
            return Some((Limit::MinutesPerDay, most, midnight));
        }
        if let (Some(most), Some(code)) = (quota.new_countries_per_day, country::of(number)) {
            let known = self.countries.get(code).is_some_and(|seen| seen.is_remembered(today));
            let fresh = self.countries.values().filter(|seen| seen.since == today).count();
            if !known && fresh >= most as usize {
                return Some((Limit::NewCountriesPerDay, most, midnight));
            }
        }
        let most = quota.calls_per_minute.filter(|_| !again)?;
        let mut recent = self.recent.iter().filter(|at| is_recent(**at, now.unix_ms));
        let many = recent.clone().count();
        let oldest = recent.nth(many.checked_sub(most as usize)?)?;
        Some((Limit::CallsPerMinute, most, Some(oldest.saturating_add(MINUTE_MS))))
    }

    /// A call is begun.
    pub fn count(&mut self, now: Now, quota: &Quota, number: &str, again: bool) {
        let today = day(now.unix_ms);
        if let Some(most) = quota.calls_per_minute.filter(|_| !again) {
            self.recent.retain(|at| is_recent(*at, now.unix_ms));
            self.recent.push_back(now.unix_ms);
            let spare = self.recent.len().saturating_sub(most as usize);
            self.recent.drain(..spare);
        }
        if let Some(code) = country::of(number).filter(|_| quota.new_countries_per_day.is_some()) {
            self.countries.retain(|_, seen| seen.is_remembered(today));
            self.countries.entry(code.to_owned()).or_insert(Seen { since: today, last: today }).last = today;
        }
        self.budget_ms = quota.minutes_per_day.map(minutes);
    }

    /// How much of each limit is used now.
    pub fn uses(&self, now: Now, quota: &Quota) -> Vec<LimitUse> {
        let today = day(now.unix_ms);
        let recent = || self.recent.iter().filter(|at| is_recent(**at, now.unix_ms)).count() as u64;
        let fresh = || self.countries.values().filter(|seen| seen.since == today).count() as u64;
        let told = |limit: Limit, most: Option<u32>, used: &dyn Fn() -> u64| {
            let most = most?;
            Some(LimitUse { limit: limit.name().to_owned(), used: u32::try_from(used()).unwrap_or(u32::MAX), most })
        };
        let each = [
            told(Limit::Calls, quota.calls, &|| u64::from(self.open)),
            told(Limit::CallsPerMinute, quota.calls_per_minute, &recent),
            told(Limit::MinutesPerDay, quota.minutes_per_day, &|| self.used(now) / MINUTE_MS),
            told(Limit::NewCountriesPerDay, quota.new_countries_per_day, &fresh),
        ];
        each.into_iter().flatten().collect()
    }

    /// One more session is answered, or one that was has closed.
    pub fn talk(&mut self, now: Now, one_more: bool) {
        self.settle(now);
        self.talking = if one_more { self.talking.saturating_add(1) } else { self.talking.saturating_sub(1) };
        self.settled = (self.talking > 0).then_some(now.instant);
    }

    /// Whether the minutes of the day are used up, which were to be so many.
    pub fn used_up(&self, now: Now) -> Option<u32> {
        let budget = self.budget_ms.filter(|budget| self.talking > 0 && self.used(now) >= *budget)?;
        u32::try_from(budget / MINUTE_MS).ok()
    }

    /// When it is to be looked at: the minutes will be used up, or are to be written down.
    pub fn wants(&self, now: Now) -> Option<Instant> {
        let budget = self.budget_ms.filter(|_| self.talking > 0)?;
        let left = budget.saturating_sub(self.used(now)).div_ceil(u64::from(self.talking.max(1)));
        Some(now.instant + Duration::from_millis(left).min(CHECKPOINT))
    }

    /// Until when anything of it counts, Unix seconds.
    pub fn until(&self, now: Now) -> u64 {
        let today = day(now.unix_ms);
        let midnight = |day: u64| day.saturating_mul(DAY_MS / 1000);
        let called = self.countries.values().map(|seen| seen.last).max();
        let used = if self.used_ms > 0 { self.day + 1 } else { 0 };
        let last = midnight(called.map_or(0, |day| day + REMEMBERED_DAYS + 1).max(used));
        let recent = self.recent.back().map_or(0, |at| (at + MINUTE_MS) / 1000 + 1);
        let bound = midnight(today + REMEMBERED_DAYS + 2);
        // A name may outlive its token, as an issuer's that renews it: what counts for a day counts for that day.
        let of_today = midnight(called.map_or(0, |day| day + 1).max(used)).max(recent);
        last.max(recent).min(bound).min(self.ends.map_or(u64::MAX, |ends| ends.max(of_today)))
    }

    /// Whether nothing of it counts any more.
    pub fn is_idle(&self, now: Now) -> bool {
        self.open == 0 && self.talking == 0 && self.until(now).saturating_mul(1000) <= now.unix_ms
    }
}

fn minutes(count: u32) -> u64 {
    u64::from(count) * MINUTE_MS
}

/// Of a clock that was put back nothing is held against anybody.
fn is_recent(at: u64, now: u64) -> bool {
    at <= now && now - at < MINUTE_MS
}
