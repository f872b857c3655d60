//! The established session: what arrives in it, and which procedure takes it.

use std::time::Instant;

use super::answer::Unacked;
use super::core::{Core, Purpose, body_of, reason_of};
use super::prack::{self, Unpracked};
use super::refer::Refers;
use super::reinvite::{Offer, PeerOffer};
use super::session::{Common, State};
use super::session_timer::Timer;
use super::types::{Body, EndedBy, UaEvent};
use super::update::Early;
use super::{bye, info};
use crate::sip::transaction::{ClientFailure, ClientId, ServerId, earlier};
use crate::sip::{Dialog, Method, Request, Response};

/// A 2xx was sent or received.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) dialog: Dialog,
    /// True for the side that made the call: it owns the Call-ID.
    pub(super) is_caller: bool,
    /// Our 2xx that wait for their ACK.
    pub(super) unacked: Vec<Unacked>,
    /// Our own re-INVITE, or the UPDATE that was under way when the answer came.
    pub(super) offer: Offer,
    /// The peer's re-INVITE or UPDATE that our user has not answered.
    pub(super) peer: Option<PeerOffer>,
    /// The description of ours that holds.
    pub(super) local: Option<Body>,
    pub(super) timer: Timer,
    /// The reliable response that our 2xx overtook.
    pub(super) unpracked: Option<Unpracked>,
    /// INFO requests under way.
    pub(super) infos: usize,
    /// The REFERs of both sides.
    pub(super) refers: Refers,
    /// We hung up and the BYE waits for the ACK.
    pub(super) hangup: Option<Option<String>>,
}

impl Established {
    /// What the early dialog has under way goes on.
    pub(super) fn of_caller(early: Early, timer: Timer) -> Self {
        Self::new(early, timer, true, Vec::new(), None)
    }

    pub(super) fn of_callee(early: Early, timer: Timer, unacked: Unacked, unpracked: Option<Unpracked>) -> Self {
        Self::new(early, timer, false, vec![unacked], unpracked)
    }

    fn new(early: Early, timer: Timer, is_caller: bool, unacked: Vec<Unacked>, unpracked: Option<Unpracked>) -> Self {
        let Early { dialog, offer, peer, local, .. } = early;
        Established {
            dialog,
            is_caller,
            unacked,
            offer,
            peer,
            local,
            timer,
            unpracked,
            infos: 0,
            refers: Refers::default(),
            hangup: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let unacked = self.unacked.iter().filter_map(Unacked::deadline).min();
        let offers = earlier(self.offer.deadline(), self.refers.deadline());
        earlier(earlier(unacked, offers), self.timer.deadline())
    }

    pub(super) fn timeout(mut self: Box<Self>, common: &Common, core: &mut Core, now: Instant) -> State {
        if self.unacked.iter().any(|unacked| unacked.is_lost(now)) {
            return self.end(common, core, now, EndedBy::NoAck);
        }
        if self.timer.is_over(now) {
            return self.end(common, core, now, EndedBy::SessionTimer);
        }
        for unacked in &mut self.unacked {
            unacked.retransmit(core, now);
        }
        self.offer_timeout(common, core, now);
        self.refers_timeout(common, core, now);
        self.refresh_timeout(common, core, now);
        State::Established(self)
    }

    pub(super) fn response(
        mut self: Box<Self>,
        common: &Common,
        core: &mut Core,
        now: Instant,
        id: ClientId,
        purpose: Purpose,
        response: Response,
    ) -> State {
        if response.status < 200 {
            if purpose == Purpose::Reinvite {
                self.offer_provisional(core, now, id);
                self.timer.provisional(core, now, id);
            }
            return State::Established(self);
        }
        match purpose {
            _ if self.offer.is_for(id) => return self.offer_answered(common, core, now, id, purpose, response),
            _ if self.timer.is_refreshing(id) => return self.refresh_answered(common, core, now, response),
            Purpose::Info => {
                self.infos = self.infos.saturating_sub(1);
                if response.status == 481 {
                    return self.end(common, core, now, EndedBy::Remote);
                }
            }
            Purpose::Refer => return self.refer_answered(common, core, now, id, &response),
            Purpose::Notify => self.notify_answered(common, core, now, id, response.status),
            // What was under way in an early dialog, or is of no account any more.
            _ => {}
        }
        State::Established(self)
    }

    pub(super) fn request_failed(
        mut self: Box<Self>,
        common: &Common,
        core: &mut Core,
        now: Instant,
        id: ClientId,
        purpose: Purpose,
        why: ClientFailure,
    ) -> State {
        match purpose {
            _ if self.offer.is_for(id) => self.offer_failed(common, core, now, why),
            _ if self.timer.is_refreshing(id) => self.refresh_failed(common, core, now, why),
            Purpose::Info => {
                self.infos = self.infos.saturating_sub(1);
                State::Established(self)
            }
            Purpose::Refer => {
                self.refer_failed(common, core, id, why);
                State::Established(self)
            }
            Purpose::Notify => {
                self.notify_answered(common, core, now, id, 408);
                State::Established(self)
            }
            // A CANCEL unanswered after the INVITE was; an INVITE whose connection closed after its 2xx.
            _ => State::Established(self),
        }
    }

    pub(super) fn request(
        mut self: Box<Self>,
        common: &Common,
        core: &mut Core,
        now: Instant,
        server: ServerId,
        request: Request,
    ) -> State {
        match request.method {
            Method::Bye => return self.peer_hung_up(common, core, now, server, &request),
            Method::Info => info::receive(common, core, now, server, &request),
            Method::Invite => self.peer_offers(common, core, now, server, request),
            Method::Update => self.peer_offers(common, core, now, server, request),
            Method::Refer => self.referred(common, core, now, server, request),
            Method::Notify => self.notified(common, core, now, server, &request),
            Method::Prack => prack::late(core, now, server, &request, &mut self.unpracked),
            _ => core.refuse(now, server, &request, 405),
        }
        State::Established(self)
    }

    pub(super) fn ack(mut self: Box<Self>, common: &Common, core: &mut Core, now: Instant, ack: &Request) -> State {
        let Ok(cseq) = ack.headers.cseq() else { return State::Established(self) };
        let Some(at) = self.unacked.iter().position(|unacked| unacked.is_for(cseq.number)) else {
            return State::Established(self);
        };
        let unacked = self.unacked.swap_remove(at);
        if unacked.initial
            && let Some(reason) = self.hangup.take()
        {
            return self.release(common, core, now, reason.as_deref());
        }
        if unacked.initial || unacked.offerless {
            core.event(UaEvent::Acked { session: common.id, body: body_of(&ack.headers, &ack.body) });
        }
        self.offer_waited(common, core, now);
        State::Established(self)
    }

    /// Ours ends it. While the 2xx that made the call has no ACK, the BYE waits (section 15).
    pub(super) fn hangup(
        mut self: Box<Self>,
        common: &Common,
        core: &mut Core,
        now: Instant,
        reason: Option<&str>,
    ) -> State {
        if self.hangup.is_some() {
            return State::Established(self);
        }
        if self.unacked.iter().any(|unacked| unacked.initial) {
            self.refuse_peer_offer(core, now);
            self.hangup = Some(reason.map(str::to_owned));
            return State::Established(self);
        }
        self.release(common, core, now, reason)
    }

    /// Ends the session for a reason of the network, unless our user has ended it already.
    pub(super) fn end(mut self: Box<Self>, common: &Common, core: &mut Core, now: Instant, by: EndedBy) -> State {
        let reason = match self.hangup.take() {
            Some(reason) => reason,
            None => {
                core.event(UaEvent::Ended { session: common.id, by, reason: None });
                None
            }
        };
        self.release(common, core, now, reason.as_deref())
    }

    fn release(mut self: Box<Self>, common: &Common, core: &mut Core, now: Instant, reason: Option<&str>) -> State {
        self.refuse_refers(core, now);
        self.refuse_peer_offer(core, now);
        self.forsake_offer(core, now);
        bye::release(common, core, now, self.dialog, reason)
    }

    fn peer_hung_up(
        mut self: Box<Self>,
        common: &Common,
        core: &mut Core,
        now: Instant,
        server: ServerId,
        request: &Request,
    ) -> State {
        core.refuse(now, server, request, 200);
        core.remember(&self.dialog);
        self.refuse_refers(core, now);
        self.refuse_peer_offer(core, now);
        self.forsake_offer(core, now);
        if self.hangup.is_none() {
            let reason = reason_of(&request.headers);
            core.event(UaEvent::Ended { session: common.id, by: EndedBy::Remote, reason });
        }
        State::Closed
    }
}
