//! The calls that were lately, for the operator's page: how each has sounded, the records of those that are over, and why
//! calls have ended in the last hour.
//!
//! The driver shows what the media path reports and what the switch says; nothing here holds a call up. Of calls that are
//! over as many are remembered as `[trace] calls` says, each with at most 120 samples and its record: about 10 KiB.

mod history;
mod hour;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use history::History;
pub(super) use history::QualityHistory;
use hour::Hour;
pub(super) use hour::LastHour;

use crate::sdp::CallQuality;
use crate::switch::{CallId, Cdr, Direction};

/// How many calls that are over are listed.
const LISTED: usize = 50;

/// What somebody wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// What has ended lately, and why.
    Ends,
    /// How a call has sounded so far.
    Quality(CallId),
    /// The record of a call that is over.
    Record(CallId),
}

/// What he is told.
#[derive(Debug)]
pub(super) enum Answer {
    Ends(Ends),
    Quality(Option<QualityHistory>),
    Record(Option<Arc<Cdr>>),
}

/// `GET /v1/ended`: what has ended lately, and why.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Ends {
    #[serde(flatten)]
    hour: LastHour,
    /// The calls that ended last, the latest first; 50 at most.
    ended: Vec<EndedView>,
}

/// A call that is over.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EndedCall")]
struct EndedView {
    /// Its id.
    call: String,
    /// Who called whom.
    direction: Direction,
    /// The user whose call it was.
    user: String,
    /// What was dialled.
    dialled: String,
    /// The caller's number as shown to the called side.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// The trunk tried last.
    #[serde(skip_serializing_if = "Option::is_none")]
    trunk: Option<String>,
    /// When it began, Unix milliseconds.
    start: u64,
    /// When it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<u64>,
    /// When it ended.
    end: u64,
    /// Why, in a word.
    cause: String,
    /// Why, for people.
    text: String,
    /// What it sounded like: the worse of both sides' mean scores of what they heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    mos: Option<f32>,
}

impl From<&Cdr> for EndedView {
    fn from(cdr: &Cdr) -> EndedView {
        let sounds = cdr.media.iter().flat_map(|media| [&media.a.sound, &media.b.sound]);
        let means = sounds.filter_map(|sound| sound.mos_heard).map(|score| score.mean);
        EndedView {
            call: cdr.call.clone(),
            direction: cdr.direction,
            user: cdr.user.clone(),
            dialled: cdr.dialled.clone(),
            from: cdr.from.clone(),
            trunk: cdr.trunks.last().map(|tried| tried.trunk.clone()),
            start: cdr.start,
            answer: cdr.answer,
            end: cdr.end,
            cause: cdr.cause.clone(),
            text: cdr.text.clone(),
            mos: means.reduce(f32::min),
        }
    }
}

/// What is remembered of one call.
#[derive(Debug, Default)]
struct Kept {
    history: History,
    /// Once it is over.
    record: Option<Arc<Cdr>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lately {
    /// Calls that are over are remembered up to this number.
    most: usize,
    calls: HashMap<CallId, Kept>,
    /// Those that are over, the first to be forgotten in front.
    over: VecDeque<CallId>,
    hour: Hour,
}

impl Lately {
    /// Of a gateway that starts at `unix_ms` and remembers `most` calls.
    pub(super) fn new(unix_ms: u64, most: usize) -> Lately {
        Lately { most, calls: HashMap::new(), over: VecDeque::new(), hour: Hour::new(unix_ms) }
    }

    /// So many from now on.
    pub(super) fn reload(&mut self, most: usize) {
        self.most = most;
        self.shrink();
    }

    /// A call has begun.
    pub(super) fn began(&mut self, call: &str) {
        if let Some(call) = self.id(call) {
            self.calls.entry(call).or_default();
        }
    }

    /// A second of a call, as it sounded.
    pub(super) fn heard(&mut self, unix_ms: u64, call: CallId, quality: &CallQuality) {
        // What comes after its end is of a call that may be forgotten already.
        if let Some(kept) = self.calls.get_mut(&call) {
            kept.history.add(unix_ms, quality);
        }
    }

    /// A call is over.
    pub(super) fn ended(&mut self, cdr: &Cdr) {
        self.hour.ended(cdr);
        let Some(call) = self.id(&cdr.call) else { return };
        let kept = self.calls.entry(call).or_default();
        if kept.record.replace(Arc::new(cdr.clone())).is_none() {
            self.over.push_back(call);
        }
        self.shrink();
    }

    pub(super) fn answer(&self, unix_ms: u64, question: Question) -> Answer {
        match question {
            Question::Ends => Answer::Ends(Ends { hour: self.hour.told(unix_ms), ended: self.listed() }),
            Question::Quality(call) => Answer::Quality(self.calls.get(&call).map(|kept| kept.history.told(call))),
            Question::Record(call) => Answer::Record(self.calls.get(&call).and_then(|kept| kept.record.clone())),
        }
    }

    fn listed(&self) -> Vec<EndedView> {
        let records = self.over.iter().rev().filter_map(|call| self.calls.get(call)?.record.as_deref());
        records.take(LISTED).map(EndedView::from).collect()
    }

    /// `None` where nothing is remembered of calls.
    fn id(&self, call: &str) -> Option<CallId> {
        call.parse().ok().filter(|_| self.most > 0)
    }

    fn shrink(&mut self) {
        while self.over.len() > self.most {
            if let Some(call) = self.over.pop_front() {
                self.calls.remove(&call);
            }
        }
        if self.most == 0 {
            self.calls.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::call::Cause;
    use crate::call::Origin;
    use crate::sdp::LegQuality;

    fn record(call: u64, status: u16, end: u64) -> Cdr {
        let mut cdr = Cdr::begin(CallId(call), Direction::Outbound, "alice", "600", end - 10);
        cdr.finish(&Cause::from_status(Origin::Trunk, status), end);
        cdr
    }

    fn ends(lately: &Lately, at: u64) -> serde_json::Value {
        let Answer::Ends(ends) = lately.answer(at, Question::Ends) else { panic!("not what was asked for") };
        serde_json::to_value(ends).unwrap()
    }

    fn known(lately: &Lately, call: u64) -> (Option<usize>, bool) {
        let Answer::Quality(quality) = lately.answer(0, Question::Quality(CallId(call))) else { panic!("not that") };
        let Answer::Record(record) = lately.answer(0, Question::Record(CallId(call))) else { panic!("not that") };
        (quality.map(|quality| quality.len()), record.is_some())
    }

    #[test]
    fn of_calls_that_are_over_the_last_ones_are_remembered_and_those_that_stand_all() {
        let second = CallQuality { a: LegQuality::NONE, b: LegQuality::NONE };
        let mut lately = Lately::new(0, 2);
        for call in 1..=4 {
            lately.began(&CallId(call).to_string());
            lately.heard(1000, CallId(call), &second);
        }
        assert_eq!((known(&lately, 1), known(&lately, 5)), ((Some(1), false), (None, false)));
        for call in 1..=3 {
            lately.ended(&record(call, 486, 2000 + call));
        }
        assert_eq!([1, 2, 3, 4].map(|call| known(&lately, call).1), [false, true, true, false]);
        assert_eq!((known(&lately, 1), known(&lately, 4)), ((None, false), (Some(1), false)));
        // A second that comes late is of nobody; so is one of a call that was never heard of.
        lately.heard(2010, CallId(1), &second);
        lately.heard(2010, CallId(9), &second);
        assert_eq!((known(&lately, 1).0, known(&lately, 9).0, lately.calls.len()), (None, None, 3));
        let told = ends(&lately, 3000);
        assert_eq!(told["ended"][0]["call"], CallId(3).to_string(), "the latest first: {told}");
        assert_eq!((told["ended"].as_array().unwrap().len(), told["calls"].as_u64()), (2, Some(3)));
        lately.reload(0);
        lately.ended(&record(4, 486, 2100));
        lately.began(&CallId(5).to_string());
        let told = ends(&lately, 3000);
        assert_eq!(
            (lately.calls.len(), told["ended"].as_array().unwrap().len(), told["calls"].as_u64()),
            (0, 0, Some(4))
        );
    }
}
