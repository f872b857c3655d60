//! The non-INVITE server transaction: [RFC 3261 section 17.2.2](https://www.rfc-editor.org/rfc/rfc3261#section-17.2.2), figure 8.

use std::time::Instant;

use super::timers::{Context, Timer};
use super::{ServerAction, ServerEvent};
use crate::sip::Response;

/// The machine. Each state owns what only it needs; [`NonInviteServer::handle`] consumes one and gives the next.
#[derive(Debug)]
pub enum NonInviteServer {
    /// The request arrived, nothing was answered: retransmissions are absorbed.
    Trying,
    /// A provisional response was sent and answers retransmissions.
    Proceeding(Proceeding),
    /// A final response was sent and answers retransmissions until timer J.
    Completed(Completed),
    /// Over.
    Terminated,
}

/// See [`NonInviteServer::Proceeding`].
#[derive(Debug)]
pub struct Proceeding {
    last: Vec<u8>,
}

/// See [`NonInviteServer::Completed`].
#[derive(Debug)]
pub struct Completed {
    response: Vec<u8>,
    j: Instant,
}

impl NonInviteServer {
    /// A request has arrived.
    pub fn start() -> Self {
        NonInviteServer::Trying
    }

    /// One step.
    pub fn handle(self, now: Instant, context: &Context, event: ServerEvent, out: &mut Vec<ServerAction>) -> Self {
        match (self, event) {
            (NonInviteServer::Trying | NonInviteServer::Proceeding(_), ServerEvent::Respond(response)) => {
                respond(now, context, &response, out)
            }
            (NonInviteServer::Proceeding(state), ServerEvent::Retransmission) => {
                out.push(ServerAction::Send(state.last.clone()));
                NonInviteServer::Proceeding(state)
            }
            (NonInviteServer::Completed(state), ServerEvent::Retransmission) => {
                out.push(ServerAction::Send(state.response.clone()));
                NonInviteServer::Completed(state)
            }
            (NonInviteServer::Completed(state), ServerEvent::Timeout) if state.j <= now => NonInviteServer::Terminated,
            // RFC 6026 section 8.8 (replacing RFC 3261 section 17.2.4): the user is told and the machine stays where it is.
            (
                state @ (NonInviteServer::Proceeding(_) | NonInviteServer::Completed(_)),
                ServerEvent::TransportFailure,
            ) => {
                out.push(ServerAction::TransportFailed);
                state
            }
            (state, _) => state,
        }
    }

    /// When the machine wants [`ServerEvent::Timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            NonInviteServer::Completed(state) => Some(state.j),
            NonInviteServer::Trying | NonInviteServer::Proceeding(_) | NonInviteServer::Terminated => None,
        }
    }

    /// True once nothing is left to do.
    pub fn is_terminated(&self) -> bool {
        matches!(self, NonInviteServer::Terminated)
    }
}

fn respond(now: Instant, context: &Context, response: &Response, out: &mut Vec<ServerAction>) -> NonInviteServer {
    let wire = response.to_bytes();
    out.push(ServerAction::Send(wire.clone()));
    if response.status < 200 {
        return NonInviteServer::Proceeding(Proceeding { last: wire });
    }
    if context.reliable {
        return NonInviteServer::Terminated;
    }
    NonInviteServer::Completed(Completed { response: wire, j: context.deadline_or_now(now, Timer::J) })
}
