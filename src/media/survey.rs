//! The bridge's view of its own sound: a look at both directions four times a second, a report once a second.

use std::time::{Duration, Instant};

use super::party::{Parties, Party};
use super::verdict::{LOOK_EVERY, Watch};
use crate::sdp::{CallQuality, Hears, LegQuality, MediaReport, Side};

const REPORT_EVERY: Duration = Duration::from_secs(1);

/// When to look, and what was seen.
#[derive(Debug)]
pub(super) struct Survey {
    look: Instant,
    report: Instant,
    a: Watch,
    b: Watch,
}

impl Survey {
    pub fn new(now: Instant) -> Self {
        Self { look: now, report: now + REPORT_EVERY, a: Watch::new(Side::A), b: Watch::new(Side::B) }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Instant {
        self.look.min(self.report)
    }

    /// A leg was replaced: what was counted of the one before says nothing of it.
    pub fn restart(&mut self, mut tell: impl FnMut(MediaReport)) {
        for watch in [&mut self.a, &mut self.b] {
            rest(watch, &mut tell);
        }
    }

    /// Looks, where it is time to.
    pub fn handle_timeout(&mut self, now: Instant, parties: &mut Parties, mut tell: impl FnMut(MediaReport)) {
        if now >= self.look {
            self.look = now + LOOK_EVERY;
            self.look(now, parties, &mut tell);
        }
        if now >= self.report {
            self.report = now + REPORT_EVERY;
            if let Some(quality) = measure(now, parties) {
                tell(MediaReport::Quality(quality));
            }
        }
    }

    fn look(&mut self, now: Instant, parties: &Parties, mut tell: impl FnMut(MediaReport)) {
        let (Some(a), Some(b)) = (parties.get(Side::A), parties.get(Side::B)) else {
            return self.restart(tell);
        };
        let talk = a.hears() == Hears::Peer && b.hears() == Hears::Peer;
        let facts = (a.leg.facts(now), b.leg.facts(now));
        for (watch, speaker, listener) in [(&mut self.a, &facts.0, &facts.1), (&mut self.b, &facts.1, &facts.0)] {
            if !talk {
                rest(watch, &mut tell);
            } else if let Some(verdict) = watch.look(now, speaker, listener) {
                tell(MediaReport::Audio { from: watch.from(), verdict });
            }
        }
    }
}

fn rest(watch: &mut Watch, tell: &mut impl FnMut(MediaReport)) {
    if watch.rest() {
        tell(MediaReport::Audio { from: watch.from(), verdict: None });
    }
}

/// How a call with two legs sounds, or one whose only party tries the way to us.
fn measure(now: Instant, parties: &mut Parties) -> Option<CallQuality> {
    let of = |party: &mut Party| (party.leg.measure(now), party.hears().peer());
    match parties.pair(Side::A) {
        (Some(a), Some(b)) => {
            let ((a, a_hears), (b, b_hears)) = (of(a), of(b));
            Some(CallQuality { a: a.report(Some(&b).filter(|_| a_hears)), b: b.report(Some(&a).filter(|_| b_hears)) })
        }
        (Some(a), None) if a.hears() == Hears::Comfort => {
            Some(CallQuality { a: a.leg.measure(now).report(None), b: LegQuality::NONE })
        }
        _ => None,
    }
}
