//! Why calls have ended in the last hour, counted by the minute.

use std::collections::{BTreeMap, VecDeque};

use schemars::JsonSchema;
use serde::Serialize;

use crate::call::Origin;
use crate::switch::Cdr;

/// What is looked back on, minutes.
const MINUTES: u64 = 60;
/// The most causes that are told apart in one minute: more than there are, unless somebody makes them up.
const CAUSES: usize = 64;
/// What those beyond are called.
const OTHER: &str = "other";

/// Why calls have ended in the last hour.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::gateway) struct LastHour {
    /// What is counted since then, Unix milliseconds: an hour ago, or the gateway's start.
    since: u64,
    /// Calls that have ended.
    calls: u64,
    /// Those of them that were answered.
    answered: u64,
    /// Why they ended, the most frequent cause first.
    causes: Vec<CauseCount>,
}

/// One cause.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct CauseCount {
    /// Its word, as in the call's record.
    cause: String,
    /// Who ended the calls.
    by: Origin,
    /// Whether the calls failed: neither party wanted them to end so.
    failed: bool,
    /// How many.
    calls: u64,
    /// In words, as of the last one.
    text: String,
    /// The last one's id.
    last: String,
    /// When that one ended, Unix milliseconds.
    at: u64,
}

/// The ends of calls that somebody has wanted, or that are in the nature of calls.
const WANTED: [&str; 10] = [
    "normal",
    "cancelled",
    "answered-elsewhere",
    "transferred",
    "busy",
    "declined",
    "no-answer",
    "unavailable",
    "ignored",
    "max-duration",
];

#[derive(Debug, Default)]
struct Tally {
    calls: u64,
    text: String,
    last: String,
    at: u64,
}

#[derive(Debug)]
struct Minute {
    number: u64,
    answered: u64,
    causes: BTreeMap<(String, &'static str), (Origin, Tally)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Hour {
    start: u64,
    minutes: VecDeque<Minute>,
}

impl Hour {
    pub(super) fn new(start: u64) -> Hour {
        Hour { start, minutes: VecDeque::new() }
    }

    /// Counts a call that is over.
    pub(super) fn ended(&mut self, cdr: &Cdr) {
        let number = cdr.end / 60_000;
        // A clock that was set back counts on in the last minute that there was.
        if self.minutes.back().is_none_or(|last| last.number < number) {
            self.minutes.push_back(Minute { number, answered: 0, causes: BTreeMap::new() });
        }
        while self.minutes.front().is_some_and(|first| first.number + MINUTES < number) {
            self.minutes.pop_front();
        }
        let Some(minute) = self.minutes.back_mut() else { return };
        minute.answered += u64::from(cdr.answer.is_some());
        let by = cdr.by.as_str();
        let known = minute.causes.len() < CAUSES || minute.causes.contains_key(&(cdr.cause.clone(), by));
        let cause = if known { cdr.cause.clone() } else { OTHER.to_owned() };
        let (_, tally) = minute.causes.entry((cause, by)).or_insert((cdr.by, Tally::default()));
        tally.calls += 1;
        (tally.text, tally.last, tally.at) = (cdr.text.clone(), cdr.call.clone(), cdr.end);
    }

    /// What was counted in the hour before `unix_ms`, to the minute.
    pub(super) fn told(&self, unix_ms: u64) -> LastHour {
        let first = (unix_ms / 60_000).saturating_sub(MINUTES);
        let minutes = || self.minutes.iter().filter(|minute| minute.number >= first);
        let mut sums: BTreeMap<(&str, &str), CauseCount> = BTreeMap::new();
        for ((cause, by), (origin, tally)) in minutes().flat_map(|minute| &minute.causes) {
            let sum = sums.entry((cause, by)).or_insert_with(|| CauseCount {
                failed: !WANTED.contains(&cause.as_str()),
                cause: cause.clone(),
                by: *origin,
                calls: 0,
                text: String::new(),
                last: String::new(),
                at: 0,
            });
            sum.calls += tally.calls;
            (sum.text, sum.last, sum.at) = (tally.text.clone(), tally.last.clone(), tally.at);
        }
        let mut causes: Vec<CauseCount> = sums.into_values().collect();
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.calls));
        LastHour {
            since: self.start.max(first * 60_000),
            calls: causes.iter().map(|cause| cause.calls).sum(),
            answered: minutes().map(|minute| minute.answered).sum(),
            causes,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::call::Cause;
    use crate::switch::{CallId, Direction};

    fn ended(hour: &mut Hour, call: u64, status: u16, end: u64) {
        let mut cdr = Cdr::begin(CallId(call), Direction::Outbound, "alice", "600", end);
        cdr.finish(&Cause::from_status(Origin::Trunk, status), end);
        hour.ended(&cdr);
    }

    fn told(hour: &Hour, at: u64) -> Vec<(String, u64, bool, String)> {
        let told = hour.told(at);
        assert_eq!(told.calls, told.causes.iter().map(|cause| cause.calls).sum::<u64>());
        told.causes.into_iter().map(|it| (it.cause, it.calls, it.failed, it.last)).collect()
    }

    #[test]
    fn calls_are_counted_by_cause_for_an_hour() {
        const MINUTE: u64 = 60_000;
        let mut hour = Hour::new(5 * MINUTE);
        for (call, status, minute) in [(1, 503, 10), (2, 486, 10), (3, 503, 40), (4, 403, 69)] {
            ended(&mut hour, call, status, minute * MINUTE);
        }
        let row = |cause: &str, calls, failed, last| (cause.to_owned(), calls, failed, CallId(last).to_string());
        let all = [row("congestion", 2, true, 3), row("busy", 1, false, 2), row("not-allowed", 1, true, 4)];
        assert_eq!(told(&hour, 70 * MINUTE), all);
        assert_eq!(hour.told(70 * MINUTE).since, 10 * MINUTE);
        assert_eq!(hour.told(30 * MINUTE).since, 5 * MINUTE, "no longer than it runs");
        assert_eq!(told(&hour, 71 * MINUTE), [row("congestion", 1, true, 3), row("not-allowed", 1, true, 4)]);
        assert!(told(&hour, 1000 * MINUTE).is_empty());
        // The clock is set back: what ends then is counted, and nothing is lost.
        ended(&mut hour, 5, 503, 60 * MINUTE);
        assert_eq!(told(&hour, 70 * MINUTE)[0], row("congestion", 3, true, 5));
        ended(&mut hour, 6, 503, 500 * MINUTE);
        assert_eq!((hour.minutes.len(), told(&hour, 500 * MINUTE)), (1, vec![row("congestion", 1, true, 6)]));
    }

    #[test]
    fn causes_that_somebody_makes_up_have_a_bound() {
        let mut hour = Hour::new(0);
        for call in 0..500 {
            let mut cdr = Cdr::begin(CallId(call), Direction::Outbound, "alice", "600", 0);
            cdr.cause = format!("cause-{call}");
            hour.ended(&cdr);
        }
        assert_eq!(hour.minutes[0].causes.len(), CAUSES + 1);
        let told = hour.told(0);
        assert_eq!((told.calls, told.causes[0].cause.as_str()), (500, OTHER));
    }
}
