//! Offers and answers of an established session: hold and resume by either side, and what else a re-INVITE brings
//! ([RFC 3264 section 8](https://www.rfc-editor.org/rfc/rfc3264#section-8)).
//!
//! Our direction follows from two facts, whether we hold the peer and whether it holds us:
//!
//! | we hold | it holds us | our offer | our answer to `sendrecv`, `sendonly`, `recvonly`, `inactive` |
//! |---|---|---|---|
//! | no | no | sendrecv | sendrecv, recvonly, sendonly, inactive |
//! | no | yes | sendrecv | the same |
//! | yes | no | sendonly | sendonly, inactive, sendonly, inactive |
//! | yes | yes | inactive | the same |

use super::leg::Happened;
use super::slots::Loan;
use super::trunk_leg::{Asked, TrunkLeg, is_sdp, sdp_body};
use super::{Cause, Context, Origin, Special};
use crate::sdp::{Direction, LegMedia};
use crate::sip::Body;

impl TrunkLeg {
    /// The answer to an offer of ours in an ACK or a PRACK.
    pub(super) fn acked(&mut self, body: Option<Body>) -> Happened {
        if !std::mem::take(&mut self.awaiting_answer) {
            return Happened::Nothing;
        }
        match self.read_description(body.as_ref()) {
            Some(media) => self.take_media(media),
            // RFC 3261 section 14.2: a re-offer that came to nothing leaves the session as it was.
            None if self.media.is_some() => Happened::Nothing,
            None => Happened::Over(Cause::special(Origin::Trunk, Special::BadTrunkMedia)),
        }
    }

    /// The answer to the session timer's re-INVITE, which says again what we said last: what it says may be new.
    pub(super) fn refreshed(&mut self, body: Option<Body>) -> Happened {
        match self.read_description(body.as_ref()) {
            Some(media) => self.take_media(media),
            None => Happened::Nothing,
        }
    }

    /// Takes media newly agreed at the peer's wish; says whether the peer holds us now, or no longer.
    fn take_media(&mut self, media: LegMedia) -> Happened {
        let held = media.is_held();
        self.settle(&media);
        self.renew_early(&media);
        if self.media.as_ref().map(LegMedia::transport) != Some(media.transport()) {
            self.presence.restarted();
        }
        self.media = Some(media);
        if held == self.held_by_them {
            return Happened::Nothing;
        }
        self.held_by_them = held;
        Happened::Held(held)
    }

    /// The peer's re-INVITE or UPDATE.
    pub(super) fn reoffered(&mut self, cx: &mut Context, body: Option<Body>) -> Happened {
        let Some(session) = self.session else { return Happened::Nothing };
        let before = self.media.as_ref().map(LegMedia::direction);
        let (answer, happened) = match body {
            None => match self.own_offer(self.hold.on) {
                Some(offer) => {
                    self.awaiting_answer = true;
                    (Ok(offer), Happened::Nothing)
                }
                None => (Err(488), Happened::Nothing),
            },
            Some(body) if !is_sdp(&body) => (Err(415), Happened::Nothing),
            // Each costs a handshake: as often as by protocol v1, and the session stays as it was (RFC 3261 section 14.1).
            Some(body) if self.restarts_too_often(cx, &body) => (Err(500), Happened::Nothing),
            Some(body) => {
                let wanted = if self.hold.on { Direction::SendOnly } else { Direction::SendRecv };
                let answered = self.description.as_mut().map(|description| {
                    description.set_direction(wanted);
                    description.answer(cx, &body.bytes)
                });
                match answered {
                    Some(Ok((text, media))) => (Ok(sdp_body(text)), self.take_media(media)),
                    Some(Err(error)) => (Err(error.status()), Happened::Nothing),
                    None => (Err(488), Happened::Nothing),
                }
            }
        };
        // Refused where the session has ended meanwhile: its own event follows.
        let _ = cx.ua.answer_reoffer(cx.now.instant, session, answer);
        if self.thinks_it_is_held(before) {
            self.ask_back(cx);
        }
        happened
    }

    /// Whether a browser that takes its call back wants to hear alone. Its hold was answered `inactive`, which sipML5 takes for a
    /// hold of ours.
    fn thinks_it_is_held(&self, before: Option<Direction>) -> bool {
        let is = (before, self.media.as_ref().map(LegMedia::direction));
        self.is_browser() && !self.hold.on && is == (Some(Direction::Inactive), Some(Direction::SendOnly))
    }

    /// Asks for sound both ways, when the peer's own exchange is over. What it answers is right: it may be muted.
    fn ask_back(&mut self, cx: &mut Context) {
        if self.asked.is_some() {
            return;
        }
        let offer = self.own_offer(false);
        let sent = self.session.zip(offer).map(|(session, offer)| cx.ua.reoffer(cx.now.instant, session, offer));
        if let Some(Ok(_)) = sent {
            self.asked = Some(Asked::Back);
        }
    }

    /// A hold of the other party's that was wished meanwhile is asked for now.
    fn is_back(&mut self, cx: &mut Context, result: Result<Option<Body>, u16>) -> Happened {
        let media = result.ok().and_then(|body| self.read_description(body.as_ref()));
        let happened = media.map_or(Happened::Nothing, |media| self.take_media(media));
        self.catch_up_hold(cx).map_or(happened, |agreed| Happened::HoldAnswered(true, agreed))
    }

    /// Whether the offer asks for another ICE restart than a browser may have now.
    fn restarts_too_often(&mut self, cx: &Context, offer: &Body) -> bool {
        let restarts = self.description.as_ref().is_some_and(|description| description.restarts(&offer.bytes));
        restarts && !self.presence.may_restart(cx.now.instant)
    }

    /// Our offer, while we hold the peer or not.
    fn own_offer(&mut self, hold: bool) -> Option<Body> {
        let direction = match (hold, self.held_by_them) {
            (false, _) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (true, true) => Direction::Inactive,
        };
        let description = self.description.as_mut()?;
        description.set_direction(direction);
        Some(sdp_body(description.offer()))
    }

    /// The other party holds this one, or takes it back. One re-INVITE at a time: the last wish is followed when the
    /// present one is answered. `Some(false)`: it cannot be asked.
    pub(super) fn want_hold(&mut self, cx: &mut Context, on: bool) -> Option<bool> {
        self.hold.wanted = on;
        match self.asked {
            // A hold that was wished during a move has not been asked for yet.
            Some(Asked::Move) if on == self.hold.on => Some(true),
            Some(_) => None,
            None => self.ask_hold(cx),
        }
    }

    /// Asks for the hold that was wished during a move which is over; `Some(false)`: it cannot be asked.
    pub(super) fn catch_up_hold(&mut self, cx: &mut Context) -> Option<bool> {
        match self.asked {
            None if self.hold.wanted != self.hold.on => self.ask_hold(cx),
            _ => None,
        }
    }

    /// Whether the peer is held, or is not, and nothing else is wanted of it.
    pub(super) fn hold_is(&self, on: bool) -> bool {
        self.hold.on == on && self.hold.wanted == on
    }

    /// Tells the peer of other ports of ours; [`Happened::Moved`] is the answer.
    ///
    /// # Errors
    /// The status of why it cannot be asked now.
    pub(super) fn move_to(&mut self, cx: &mut Context, loan: &Loan) -> Result<(), u16> {
        if self.asked.is_some() {
            return Err(491);
        }
        let remote = self.remote().ok_or(481u16)?;
        let rtp = loan.rtp_for(remote).map_err(|_| 488u16)?;
        let description = self.description.as_mut().ok_or(481u16)?;
        self.before = Some(description.move_to(cx, loan, rtp).ok_or(488u16)?);
        let offer = self.own_offer(self.hold.on);
        let sent = self.session.zip(offer).map(|(session, offer)| cx.ua.reoffer(cx.now.instant, session, offer));
        match sent {
            Some(Ok(_)) => {
                self.asked = Some(Asked::Move);
                Ok(())
            }
            _ => {
                self.stay();
                Err(491)
            }
        }
    }

    /// Tells the peer of our ports of before its last move.
    ///
    /// # Errors
    /// The status of why it cannot be asked now.
    pub(super) fn move_back(&mut self, cx: &mut Context) -> Result<(), u16> {
        let loan = self.own_loan().ok_or(481u16)?;
        self.move_to(cx, &loan)
    }

    /// Whether a move is under way.
    pub(super) fn is_moving(&self) -> bool {
        self.asked == Some(Asked::Move)
    }

    /// Our ports are those of before.
    fn stay(&mut self) {
        if let (Some(before), Some(description)) = (self.before.take(), self.description.as_mut()) {
            description.stay(before);
        }
    }

    /// A hold that was wished meanwhile is the call's to ask for: the leg may go to another one.
    fn moved(&mut self, result: Result<Option<Body>, u16>) -> Happened {
        let result = result.and_then(|body| self.read_description(body.as_ref()).ok_or(488));
        let moved = match result {
            Ok(media) => {
                self.media = Some(media);
                self.before = None;
                Ok(())
            }
            Err(status) => {
                self.stay();
                Err(status)
            }
        };
        Happened::Moved(moved)
    }

    fn ask_hold(&mut self, cx: &mut Context) -> Option<bool> {
        let wanted = self.hold.wanted;
        let offer = self.own_offer(wanted);
        let sent = self.session.zip(offer).map(|(session, offer)| cx.ua.reoffer(cx.now.instant, session, offer));
        if let Some(Ok(_)) = sent {
            self.asked = Some(Asked::Hold(wanted));
            return None;
        }
        self.hold.wanted = self.hold.on;
        Some(false)
    }

    /// The answer to a re-INVITE of ours, or its refusal: then the session stays as it was (RFC 3261 section 14.1), and
    /// so does what we want of it.
    pub(super) fn reoffer_answered(&mut self, cx: &mut Context, result: Result<Option<Body>, u16>) -> Happened {
        let asked = match self.asked.take() {
            Some(Asked::Hold(asked)) => asked,
            Some(Asked::Move) => return self.moved(result),
            Some(Asked::Back) => return self.is_back(cx, result),
            None => return Happened::Nothing,
        };
        let media = result.ok().and_then(|body| self.read_description(body.as_ref()));
        let agreed = media.is_some();
        if let Some(media) = media {
            self.media = Some(media);
            self.hold.on = asked;
            if self.hold.wanted != self.hold.on {
                self.ask_hold(cx);
            }
        } else {
            self.hold.wanted = self.hold.on;
        }
        Happened::HoldAnswered(asked, agreed)
    }
}
