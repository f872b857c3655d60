//! Parallel ringing: those who are called at once, of whom the first to answer has the call.

use std::net::SocketAddr;
use std::time::Instant;

use super::browser_leg::BrowserLeg;
use super::leg::{Happened, Progress};
use super::party::{Party, Said};
use super::slots::Loan;
use super::trunk_leg::TrunkLeg;
use super::{Cause, Context, Origin, Special, TrunkTried};
use crate::sdp::{Band, LegMedia};
use crate::sip::Replaces;

/// The candidates of a call's called side, browsers and SIP peers alike.
#[derive(Debug)]
pub(super) struct Hunt {
    candidates: Vec<Party>,
    /// The refusal that counts most so far.
    refusal: Option<Cause>,
    /// What those who have left the hunt tried, for the record.
    tried: Vec<TrunkTried>,
    sent: Option<String>,
    /// Which candidate's early media is heard: that of the last who sent any.
    heard: Option<usize>,
}

/// What came of a hunt's event.
#[derive(Debug)]
pub(super) enum Hunted {
    /// Nothing the call need know.
    Nothing,
    /// A candidate gets on.
    Progress(Progress),
    /// A candidate has the call; the others have been told.
    Answered(Box<Party>),
    /// Nobody is left.
    Over(Cause),
}

impl Hunt {
    pub(super) fn new(candidates: Vec<Party>) -> Hunt {
        Hunt { candidates, refusal: None, tried: Vec::new(), sent: None, heard: None }
    }

    /// The SIP candidates are called in the place of another call, or at somebody's word.
    pub(super) fn refer(&mut self, replaces: Option<&Replaces>, referred_by: Option<&str>) {
        for leg in self.candidates.iter_mut().filter_map(Party::sip_mut) {
            leg.refer_route(replaces, referred_by);
        }
    }

    /// The addresses of all SIP peers that may be called, for the lease: none where only browsers ring.
    pub(super) fn peers(&self) -> Vec<SocketAddr> {
        let mut peers: Vec<SocketAddr> =
            self.candidates.iter().filter_map(Party::sip).flat_map(|leg| leg.peers()).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// Whether any candidate is a browser, whatever it speaks.
    pub(super) fn has_browsers(&self) -> bool {
        self.candidates.iter().any(Party::is_browser)
    }

    /// The browsers among the candidates that speak the browser protocol.
    pub(super) fn browsers(&self) -> impl Iterator<Item = &BrowserLeg> {
        self.candidates.iter().filter_map(Party::browser)
    }

    /// What any of the candidates can carry at best.
    pub(super) fn band(&self) -> Band {
        self.candidates.iter().map(|party| party.leg().band()).max().unwrap_or_default()
    }

    /// The media resources are here: calls everybody, for a caller who can carry `band`. Candidates that cannot be called are left out.
    ///
    /// # Errors
    /// The cause why nobody could be called.
    pub(super) fn offer(&mut self, cx: &mut Context, loan: &Loan, band: Band) -> Result<Progress, Cause> {
        let mut progress = Progress::default();
        for mut party in std::mem::take(&mut self.candidates) {
            let offered = party.leg_mut().prepare(cx, loan, band).and_then(|()| party.leg_mut().offer(cx));
            match offered {
                Ok(own) => {
                    progress.ringing |= own.ringing;
                    progress.early_media |= own.early_media;
                    self.candidates.push(party);
                }
                Err(cause) => self.refused(party, cause),
            }
        }
        if self.candidates.is_empty() { Err(self.why()) } else { Ok(progress) }
    }

    /// Whether a candidate speaks.
    pub(super) fn speaks(&self, said: &Said) -> bool {
        self.candidates.iter().any(|party| party.speaks(said))
    }

    /// Takes what a candidate says.
    pub(super) fn handle(&mut self, cx: &mut Context, said: Said) -> Hunted {
        let Some(at) = self.candidates.iter().position(|party| party.speaks(&said)) else { return Hunted::Nothing };
        let Some(party) = self.candidates.get_mut(at) else { return Hunted::Nothing };
        let happened = party.handle(cx, said, false);
        self.happened(cx, at, happened)
    }

    /// Does what is due for the candidates.
    pub(super) fn tick(&mut self, cx: &mut Context) -> Hunted {
        // One that is over leaves; those after it are looked at in the next turn, which is at once.
        for at in 0..self.candidates.len() {
            let Some(party) = self.candidates.get_mut(at) else { break };
            if party.leg().deadline().is_some_and(|due| due <= cx.now.instant) {
                let happened = party.leg_mut().tick(cx);
                match self.happened(cx, at, happened) {
                    Hunted::Nothing => {}
                    hunted => return hunted,
                }
            }
        }
        Hunted::Nothing
    }

    /// When [`Hunt::tick`] is wanted.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.candidates.iter().filter_map(|party| party.leg().deadline()).min()
    }

    fn happened(&mut self, cx: &mut Context, at: usize, happened: Happened) -> Hunted {
        match happened {
            Happened::Progress(progress) => {
                if progress.early_media {
                    self.heard = Some(at);
                }
                Hunted::Progress(progress)
            }
            Happened::Answered => {
                let winner = self.candidates.remove(at);
                let elsewhere = Cause::special(Origin::Gateway, Special::AnsweredElsewhere);
                for party in &mut self.candidates {
                    party.leg_mut().end(cx, &elsewhere, false);
                }
                for party in std::mem::take(&mut self.candidates) {
                    self.remember(party);
                }
                self.heard = None;
                Hunted::Answered(Box::new(winner))
            }
            Happened::Over(cause) => {
                let mut party = self.candidates.remove(at);
                self.heard = match self.heard {
                    Some(heard) if heard == at => None,
                    Some(heard) if heard > at => Some(heard - 1),
                    heard => heard,
                };
                party.leg_mut().end(cx, &cause, true);
                self.refused(party, cause);
                if self.candidates.is_empty() { Hunted::Over(self.why()) } else { Hunted::Nothing }
            }
            _ => Hunted::Nothing,
        }
    }

    fn refused(&mut self, party: Party, cause: Cause) {
        if self.refusal.as_ref().is_none_or(|worst| rank(worst) < rank(&cause)) {
            self.refusal = Some(cause);
        }
        self.remember(party);
    }

    fn remember(&mut self, mut party: Party) {
        if let Some(leg) = party.sip_mut() {
            self.tried.append(&mut leg.take_tried());
            self.sent = leg.sent().map(str::to_owned).or_else(|| self.sent.take());
        }
    }

    fn why(&self) -> Cause {
        self.refusal.clone().unwrap_or_else(|| Cause::from_status(Origin::Gateway, 480))
    }

    /// The early media that is heard.
    pub(super) fn media(&self) -> Option<LegMedia> {
        self.candidates.get(self.heard?)?.leg().media()
    }

    /// Ends all candidates.
    pub(super) fn end(&mut self, cx: &mut Context, cause: &Cause) {
        for party in &mut self.candidates {
            party.leg_mut().end(cx, cause, false);
        }
        for party in std::mem::take(&mut self.candidates) {
            self.remember(party);
        }
    }

    /// The trunks tried by those who are no candidates any more.
    pub(super) fn take_tried(&mut self) -> Vec<TrunkTried> {
        std::mem::take(&mut self.tried)
    }

    /// The trunks tried so far, by all of them.
    pub(super) fn tried(&self) -> impl Iterator<Item = &TrunkTried> {
        self.tried.iter().chain(self.legs().flat_map(TrunkLeg::tried))
    }

    /// The number as it was sent to the last of the candidates that are called.
    pub(super) fn sent_now(&self) -> Option<&str> {
        self.legs().filter_map(TrunkLeg::sent).last().or(self.sent())
    }

    fn legs(&self) -> impl Iterator<Item = &TrunkLeg> {
        self.candidates.iter().filter_map(Party::sip)
    }

    /// The number as it was sent to the last of those.
    pub(super) fn sent(&self) -> Option<&str> {
        self.sent.as_deref()
    }
}

/// Which refusal tells the caller most, of several (RFC 3261 section 16.7 step 6, for people): a decline, then busy,
/// then what somebody said, then what nobody said.
fn rank(cause: &Cause) -> u8 {
    match (cause.origin, cause.sip) {
        (Origin::Network, _) => 0,
        (_, Some(600..)) => 5,
        (_, Some(486)) => 4,
        (_, Some(401 | 407 | 415 | 488)) => 3,
        (_, Some(408 | 480 | 500..=599)) => 1,
        _ => 2,
    }
}
