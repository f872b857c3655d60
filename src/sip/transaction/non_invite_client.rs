//! The non-INVITE client transaction: [RFC 3261 section 17.1.2](https://www.rfc-editor.org/rfc/rfc3261#section-17.1.2), figure 6.

use std::time::Instant;

use super::timers::{Backoff, Context, Timer, earlier};
use super::{ClientAction, ClientEvent};
use crate::sip::{Request, Response};

/// The machine. Each state owns what only it needs; [`NonInviteClient::handle`] consumes one and gives the next.
#[derive(Debug)]
pub enum NonInviteClient {
    /// The request was sent, nothing has come back.
    Trying(Waiting),
    /// A provisional response came: retransmission goes on, every T2.
    Proceeding(Waiting),
    /// A final response was delivered; its repetitions are absorbed until timer K.
    Completed(Completed),
    /// Over.
    Terminated,
}

/// What Trying and Proceeding hold: the request to repeat, and timers E and F.
#[derive(Debug)]
pub struct Waiting {
    wire: Vec<u8>,
    e: Option<Backoff>,
    f: Instant,
}

/// See [`NonInviteClient::Completed`].
#[derive(Debug)]
pub struct Completed {
    k: Instant,
}

impl NonInviteClient {
    /// Sends the request (its top Via is in place) and starts timers E and F.
    pub fn start(now: Instant, context: &Context, request: &Request, out: &mut Vec<ClientAction>) -> Self {
        let wire = request.to_bytes();
        out.push(ClientAction::Send(wire.clone()));
        NonInviteClient::Trying(Waiting {
            wire,
            e: context.backoff(now, Timer::E),
            f: context.deadline_or_now(now, Timer::F),
        })
    }

    /// One step.
    pub fn handle(self, now: Instant, context: &Context, event: ClientEvent, out: &mut Vec<ClientAction>) -> Self {
        match (self, event) {
            (NonInviteClient::Trying(state) | NonInviteClient::Proceeding(state), ClientEvent::Response(response)) => {
                state.receive(now, context, response, out)
            }
            (NonInviteClient::Trying(state), ClientEvent::Timeout) => {
                state.timeout(now, context, out).map_or(NonInviteClient::Terminated, NonInviteClient::Trying)
            }
            (NonInviteClient::Proceeding(state), ClientEvent::Timeout) => {
                state.timeout(now, context, out).map_or(NonInviteClient::Terminated, NonInviteClient::Proceeding)
            }
            (NonInviteClient::Trying(_) | NonInviteClient::Proceeding(_), ClientEvent::TransportFailure) => {
                out.push(ClientAction::TransportFailed);
                NonInviteClient::Terminated
            }
            (NonInviteClient::Completed(state), ClientEvent::Timeout) if state.k <= now => NonInviteClient::Terminated,
            (NonInviteClient::Completed(state), _) => NonInviteClient::Completed(state),
            (NonInviteClient::Terminated, _) => NonInviteClient::Terminated,
        }
    }

    /// When the machine wants [`ClientEvent::Timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            NonInviteClient::Trying(state) | NonInviteClient::Proceeding(state) => {
                earlier(state.e.map(|e| e.at()), Some(state.f))
            }
            NonInviteClient::Completed(state) => Some(state.k),
            NonInviteClient::Terminated => None,
        }
    }

    /// True once nothing is left to do.
    pub fn is_terminated(&self) -> bool {
        matches!(self, NonInviteClient::Terminated)
    }
}

impl Waiting {
    fn receive(
        mut self,
        now: Instant,
        context: &Context,
        response: Response,
        out: &mut Vec<ClientAction>,
    ) -> NonInviteClient {
        let provisional = response.status < 200;
        out.push(ClientAction::Deliver(response));
        if provisional {
            if self.e.is_some() {
                self.e = Some(Backoff::start(now, context.timers.t2));
            }
            return NonInviteClient::Proceeding(self);
        }
        if context.reliable {
            return NonInviteClient::Terminated;
        }
        NonInviteClient::Completed(Completed { k: context.deadline_or_now(now, Timer::K) })
    }

    /// Timers E and F; `None` once F has fired.
    fn timeout(mut self, now: Instant, context: &Context, out: &mut Vec<ClientAction>) -> Option<Self> {
        if self.f <= now {
            out.push(ClientAction::TimedOut);
            return None;
        }
        if let Some(e) = self.e.as_mut().filter(|e| e.is_due(now)) {
            e.restart(now, Some(context.timers.t2));
            out.push(ClientAction::Send(self.wire.clone()));
        }
        Some(self)
    }
}
