//! One call leg: its states, and which state's procedure an input goes to.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use super::answer::Ringing;
use super::bye::Releasing;
use super::core::{Core, Purpose, address_of, next_flow, next_flow_anew};
use super::established::Established;
use super::invite::Inviting;
use super::left;
use super::types::{Body, SessionId, SessionOptions, UaError};
use crate::sip::transaction::{ClientFailure, ClientId, ServerId};
use crate::sip::{Credentials, Dialog, Flow, Headers, Method, NameAddr, Request, Response, Transport};

/// What a session has in every state.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) id: SessionId,
    pub(super) flow: Flow,
    /// The address that the call was set up with: the one that its credentials are for.
    pub(super) peer: IpAddr,
    /// The flow's connection is gone.
    pub(super) lost: bool,
    /// The INVITE that made it, if the peer sent it.
    pub(super) invite: Option<ServerId>,
    pub(super) credentials: Option<Credentials>,
    pub(super) contact: NameAddr,
    pub(super) call_id: String,
    pub(super) local_tag: String,
}

impl Common {
    /// Where a request inside this dialog goes.
    pub(super) fn next_flow(&self, dialog: &Dialog) -> Flow {
        if self.lost { next_flow_anew(self.flow, dialog.next_hop()) } else { next_flow(self.flow, dialog.next_hop()) }
    }
}

/// The states. Each is consumed by what happens in it.
// One per session, in place in the map; the one that lasts is boxed.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(super) enum State {
    /// Caller: our INVITE has no final response.
    Inviting(Inviting),
    /// Callee: the INVITE has no final response.
    Ringing(Ringing),
    /// A 2xx was sent or received.
    Established(Box<Established>),
    /// Our BYE is under way.
    Releasing(Releasing),
    /// Over.
    Closed,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) common: Common,
    pub(super) state: State,
    /// What was last told of its dialog.
    pub(super) told: Option<left::Told>,
}

impl Session {
    /// Its dialog; of several early ones the last.
    pub(super) fn dialog(&self) -> Option<&Dialog> {
        match &self.state {
            State::Inviting(state) => state.early.last().map(|early| &early.dialog),
            State::Ringing(state) => Some(&state.early.dialog),
            State::Established(state) => Some(&state.dialog),
            State::Releasing(state) => Some(&state.dialog),
            State::Closed => None,
        }
    }

    /// Takes the state out, to be consumed by a step that gives the next one.
    fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Closed)
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// When [`Session::timeout`] is wanted.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Inviting(state) => state.deadline(),
            State::Ringing(state) => state.deadline(),
            State::Established(state) => state.deadline(),
            State::Releasing(_) | State::Closed => None,
        }
    }

    pub(super) fn timeout(&mut self, core: &mut Core, now: Instant) {
        self.state = match self.take() {
            State::Inviting(state) => state.timeout(&self.common, core, now),
            State::Ringing(state) => state.timeout(&self.common, core, now),
            State::Established(state) => state.timeout(&self.common, core, now),
            state @ (State::Releasing(_) | State::Closed) => state,
        };
    }

    /// A response to a request of this session.
    pub(super) fn response(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: ClientId,
        purpose: Purpose,
        response: Response,
    ) {
        self.state = match self.take() {
            State::Inviting(state) => state.response(&self.common, core, now, id, response),
            State::Established(state) => state.response(&self.common, core, now, id, purpose, response),
            State::Releasing(state) => state.response(id, response.status),
            State::Ringing(mut state) => {
                if response.status >= 200 && state.early.offer.is_for(id) {
                    state.early.update_answered(&self.common, core, now, &response);
                }
                State::Ringing(state)
            }
            State::Closed => State::Closed,
        };
    }

    /// A request of this session ended without a final response.
    pub(super) fn request_failed(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: ClientId,
        purpose: Purpose,
        why: ClientFailure,
    ) {
        self.state = match self.take() {
            State::Inviting(state) => state.failed(&self.common, core, now, id, why),
            State::Established(state) => state.request_failed(&self.common, core, now, id, purpose, why),
            State::Releasing(state) => state.failed(id),
            State::Ringing(mut state) => {
                if state.early.offer.is_for(id) {
                    state.early.update_failed(&self.common, core, why);
                }
                State::Ringing(state)
            }
            State::Closed => State::Closed,
        };
    }

    /// The sequence number with which a request shall be sent again; `None`: it is not worth it any more.
    pub(super) fn retry(&mut self, id: ClientId, request: &Request, sent: u32) -> Option<u32> {
        let to = request.headers.to().ok()?;
        let of_dialog =
            |dialog: &mut Dialog| (dialog.remote_tag() == to.tag().unwrap_or_default()).then(|| dialog.next_cseq());
        match &mut self.state {
            State::Inviting(state) => state.retry(id, request, sent),
            State::Ringing(state) => of_dialog(&mut state.early.dialog),
            State::Established(state) => {
                let number = of_dialog(&mut state.dialog)?;
                state.refers.renumbered(id, number);
                Some(number)
            }
            State::Releasing(state) => state.retry(id),
            State::Closed => None,
        }
    }

    /// The request `old` was sent again as `new`.
    pub(super) fn retried(&mut self, core: &mut Core, now: Instant, old: ClientId, new: ClientId) {
        match &mut self.state {
            State::Inviting(state) => state.retried(core, now, old, new),
            State::Ringing(state) => state.early.offer.retried(old, new),
            State::Established(state) => {
                state.offer.retried(old, new);
                state.timer.retried(old, new);
                state.refers.retried(old, new);
            }
            State::Releasing(state) => state.retried(old, new),
            State::Closed => {}
        }
    }

    /// A 422 has told of the shortest interval that the peer takes (RFC 4028 section 7.3).
    pub(super) fn note_min_se(&mut self, headers: &Headers) {
        match &mut self.state {
            State::Inviting(state) => state.timer.note_min_se(headers),
            State::Established(state) => state.timer.note_min_se(headers),
            State::Ringing(_) | State::Releasing(_) | State::Closed => {}
        }
    }

    /// True if this is the dialog's peer speaking, or an early dialog's.
    pub(super) fn has_peer(&self, remote_tag: &str) -> bool {
        match &self.state {
            State::Inviting(state) => state.early.iter().any(|early| early.dialog.remote_tag() == remote_tag),
            State::Ringing(state) => state.early.dialog.remote_tag() == remote_tag,
            State::Established(state) => state.dialog.remote_tag() == remote_tag,
            State::Releasing(state) => state.dialog.remote_tag() == remote_tag,
            State::Closed => false,
        }
    }

    /// A request inside the dialog, other than ACK and CANCEL. Methods and extensions have been checked.
    pub(super) fn request(&mut self, core: &mut Core, now: Instant, server: ServerId, request: Request, flow: Flow) {
        if let Some(dialog) = self.dialog_mut(request.headers.from().ok().as_ref().and_then(NameAddr::tag)) {
            let in_order = request.headers.cseq().is_ok_and(|cseq| dialog.accept(&cseq).is_ok());
            if !in_order {
                return core.refuse(now, server, &request, 500);
            }
        }
        // A stream's newest connection is the one to talk over.
        if flow.transport != Transport::Udp && flow.transport == self.common.flow.transport {
            self.common.flow = flow;
            self.common.lost = false;
        }
        if request.method == Method::Options {
            return super::options::answer(core, now, server, &request);
        }
        // Subscriptions are made by REFER alone, and that is for established sessions.
        if request.method == Method::Notify && !matches!(self.state, State::Established(_)) {
            return core.refuse(now, server, &request, 481);
        }
        self.state = match self.take() {
            State::Inviting(state) => state.request(&self.common, core, now, server, request),
            State::Ringing(state) => state.request(&self.common, core, now, server, request),
            State::Established(state) => state.request(&self.common, core, now, server, request),
            State::Releasing(state) => state.request(core, now, server, request),
            State::Closed => State::Closed,
        };
    }

    /// A CANCEL, already answered with 200, for the INVITE of `server`.
    pub(super) fn cancelled(&mut self, core: &mut Core, now: Instant, server: ServerId, cancel: &Request) {
        self.state = match self.take() {
            State::Ringing(state) if state.server == server => state.cancelled(&self.common, core, now, cancel),
            State::Established(mut state) => {
                state.peer_offer_cancelled(core, now, server);
                State::Established(state)
            }
            state => state,
        };
    }

    /// The ACK of a 2xx of ours.
    pub(super) fn ack(&mut self, core: &mut Core, now: Instant, ack: &Request) {
        self.state = match self.take() {
            State::Established(state) => state.ack(&self.common, core, now, ack),
            state => state,
        };
    }

    /// A response of ours could not be delivered.
    pub(super) fn response_failed(&mut self, core: &mut Core, now: Instant, server: ServerId) {
        self.state = match self.take() {
            State::Ringing(state) if state.server == server => state.caller_vanished(&self.common, core, now),
            state => state,
        };
    }

    /// The connection is gone: what comes next goes over a new one, to the next hop.
    pub(super) fn flow_lost(&mut self, flow: Flow) {
        if flow.id != 0 && self.common.flow.id == flow.id {
            self.common.flow.id = 0;
            self.common.lost = true;
        }
    }

    /// What went over one WebSocket goes over another.
    pub(super) fn moved(&mut self, from: Flow, to: Flow) {
        let own = self.common.flow;
        if own == from || self.common.lost && own == (Flow { id: 0, ..from }) {
            (self.common.flow, self.common.lost) = (to, false);
        }
    }

    pub(super) fn configure(&mut self, core: &mut Core, now: Instant, options: SessionOptions) -> Result<(), UaError> {
        match self.take() {
            State::Ringing(state) => {
                let (state, result) = state.configure(core, now, options);
                self.state = state;
                result
            }
            state => {
                self.state = state;
                Err(UaError::State)
            }
        }
    }

    pub(super) fn ring(
        &mut self,
        core: &mut Core,
        now: Instant,
        status: u16,
        body: Option<Body>,
    ) -> Result<(), UaError> {
        match &mut self.state {
            State::Ringing(state) => state.ring(&self.common, core, now, status, body),
            _ => Err(UaError::State),
        }
    }

    pub(super) fn accept(&mut self, core: &mut Core, now: Instant, body: Body) -> Result<(), UaError> {
        match self.take() {
            State::Ringing(state) => {
                let (state, result) = state.accept(&self.common, core, now, body);
                self.state = state;
                result
            }
            state => {
                self.state = state;
                Err(UaError::State)
            }
        }
    }

    pub(super) fn reject(
        &mut self,
        core: &mut Core,
        now: Instant,
        status: u16,
        reason: &str,
        headers: &[(String, String)],
    ) -> Result<(), UaError> {
        match self.take() {
            State::Ringing(state) => {
                self.state = state.reject(&self.common, core, now, status, reason, headers);
                Ok(())
            }
            state => {
                self.state = state;
                Err(UaError::State)
            }
        }
    }

    pub(super) fn hangup(&mut self, core: &mut Core, now: Instant, reason: Option<&str>) {
        self.state = match self.take() {
            State::Inviting(state) => state.hangup(&self.common, core, now, reason),
            State::Ringing(state) => state.hangup(&self.common, core, now, reason),
            State::Established(state) => state.hangup(&self.common, core, now, reason),
            state @ (State::Releasing(_) | State::Closed) => state,
        };
    }

    /// The established state, for what can be done only there.
    pub(super) fn established(&mut self) -> Result<(&Common, &mut Established), UaError> {
        match &mut self.state {
            State::Established(state) if state.hangup.is_none() => Ok((&self.common, state)),
            _ => Err(UaError::State),
        }
    }

    /// Our offer: in a re-INVITE, or while the call has no answer in an UPDATE.
    pub(super) fn reoffer(&mut self, core: &mut Core, now: Instant, body: Body) -> Result<(), UaError> {
        match &mut self.state {
            State::Inviting(state) => state.reoffer(&self.common, core, now, body),
            State::Ringing(state) => state.reoffer(&self.common, core, now, body),
            State::Established(state) if state.hangup.is_none() => state.offer(&self.common, core, now, body),
            State::Established(_) | State::Releasing(_) | State::Closed => Err(UaError::State),
        }
    }

    /// Our user's reply to the peer's offer.
    pub(super) fn answer_reoffer(
        &mut self,
        core: &mut Core,
        now: Instant,
        answer: Result<Body, u16>,
    ) -> Result<(), UaError> {
        match &mut self.state {
            State::Inviting(state) => state.answer_peer(&self.common, core, now, answer),
            State::Ringing(state) => state.early.answer_peer(&self.common, core, now, answer),
            State::Established(state) if state.hangup.is_none() => state.answer_peer(&self.common, core, now, answer),
            State::Established(_) | State::Releasing(_) | State::Closed => Err(UaError::State),
        }
    }

    /// The addresses that requests of this session's dialogs go to.
    pub(super) fn next_hops(&self) -> BTreeSet<IpAddr> {
        let dialogs: &[Dialog] = match &self.state {
            State::Inviting(state) => return hops(state.early.iter().map(|early| &early.dialog)),
            State::Ringing(state) => std::slice::from_ref(&state.early.dialog),
            State::Established(state) => std::slice::from_ref(&state.dialog),
            State::Releasing(state) => std::slice::from_ref(&state.dialog),
            State::Closed => &[],
        };
        hops(dialogs.iter())
    }

    fn dialog_mut(&mut self, remote_tag: Option<&str>) -> Option<&mut Dialog> {
        match &mut self.state {
            State::Inviting(state) => {
                let tag = remote_tag.unwrap_or_default();
                state.early.iter_mut().map(|early| &mut early.dialog).find(|dialog| dialog.remote_tag() == tag)
            }
            State::Ringing(state) => Some(&mut state.early.dialog),
            State::Established(state) => Some(&mut state.dialog),
            State::Releasing(state) => Some(&mut state.dialog),
            State::Closed => None,
        }
    }
}

fn hops<'a>(dialogs: impl Iterator<Item = &'a Dialog>) -> BTreeSet<IpAddr> {
    dialogs.filter_map(|dialog| address_of(dialog.next_hop())).collect()
}
