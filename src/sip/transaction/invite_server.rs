//! The INVITE server transaction: [RFC 3261 section 17.2.1](https://www.rfc-editor.org/rfc/rfc3261#section-17.2.1), figure 7,
//! with the Accepted state of [RFC 6026 section 7.1](https://www.rfc-editor.org/rfc/rfc6026#section-7.1).

use std::time::Instant;

use super::timers::{Backoff, Context, Timer, earlier};
use super::{ServerAction, ServerEvent};
use crate::sip::Response;

/// The machine. Each state owns what only it needs; [`InviteServer::handle`] consumes one and gives the next.
#[derive(Debug)]
pub enum InviteServer {
    /// No final response yet; the last provisional answers retransmissions.
    Proceeding(Proceeding),
    /// A 2xx was sent: the user repeats it, retransmitted INVITEs are absorbed, ACKs pass up, until timer L.
    Accepted(Accepted),
    /// A 300-699 was sent and is repeated until the ACK or timer H.
    Completed(Completed),
    /// The ACK came; repeated ones are absorbed until timer I.
    Confirmed(Confirmed),
    /// Over.
    Terminated,
}

/// See [`InviteServer::Proceeding`].
#[derive(Debug, Default)]
pub struct Proceeding {
    last: Option<Vec<u8>>,
}

/// See [`InviteServer::Accepted`].
#[derive(Debug)]
pub struct Accepted {
    l: Instant,
}

/// See [`InviteServer::Completed`].
#[derive(Debug)]
pub struct Completed {
    response: Vec<u8>,
    g: Option<Backoff>,
    h: Instant,
}

/// See [`InviteServer::Confirmed`].
#[derive(Debug)]
pub struct Confirmed {
    i: Instant,
}

impl InviteServer {
    /// An INVITE has arrived. The user answers with 100 at once.
    pub fn start() -> Self {
        InviteServer::Proceeding(Proceeding::default())
    }

    /// One step.
    pub fn handle(self, now: Instant, context: &Context, event: ServerEvent, out: &mut Vec<ServerAction>) -> Self {
        match self {
            InviteServer::Proceeding(state) => state.handle(now, context, event, out),
            InviteServer::Accepted(state) => state.handle(now, event, out),
            InviteServer::Completed(state) => state.handle(now, context, event, out),
            InviteServer::Confirmed(state) => match event {
                ServerEvent::Timeout if state.i <= now => InviteServer::Terminated,
                _ => InviteServer::Confirmed(state),
            },
            InviteServer::Terminated => InviteServer::Terminated,
        }
    }

    /// When the machine wants [`ServerEvent::Timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            InviteServer::Accepted(state) => Some(state.l),
            InviteServer::Completed(state) => earlier(state.g.map(|g| g.at()), Some(state.h)),
            InviteServer::Confirmed(state) => Some(state.i),
            InviteServer::Proceeding(_) | InviteServer::Terminated => None,
        }
    }

    /// True once nothing is left to do.
    pub fn is_terminated(&self) -> bool {
        matches!(self, InviteServer::Terminated)
    }
}

impl Proceeding {
    fn handle(
        mut self,
        now: Instant,
        context: &Context,
        event: ServerEvent,
        out: &mut Vec<ServerAction>,
    ) -> InviteServer {
        match event {
            ServerEvent::Respond(response) => return self.respond(now, context, &response, out),
            ServerEvent::Retransmission => out.extend(self.last.clone().map(ServerAction::Send)),
            // RFC 6026 section 8.8: the user is told and the machine stays where it is.
            ServerEvent::TransportFailure => {
                self.last = None;
                out.push(ServerAction::TransportFailed);
            }
            ServerEvent::Ack(_) | ServerEvent::Timeout => {}
        }
        InviteServer::Proceeding(self)
    }

    fn respond(
        mut self,
        now: Instant,
        context: &Context,
        response: &Response,
        out: &mut Vec<ServerAction>,
    ) -> InviteServer {
        let wire = response.to_bytes();
        out.push(ServerAction::Send(wire.clone()));
        match response.status {
            0..200 => {
                self.last = Some(wire);
                InviteServer::Proceeding(self)
            }
            200..300 => InviteServer::Accepted(Accepted { l: context.deadline_or_now(now, Timer::L) }),
            _ => InviteServer::Completed(Completed {
                response: wire,
                g: context.backoff(now, Timer::G),
                h: context.deadline_or_now(now, Timer::H),
            }),
        }
    }
}

impl Accepted {
    fn handle(self, now: Instant, event: ServerEvent, out: &mut Vec<ServerAction>) -> InviteServer {
        match event {
            ServerEvent::Respond(response) if (200..300).contains(&response.status) => {
                out.push(ServerAction::Send(response.to_bytes()));
            }
            ServerEvent::Ack(ack) => out.push(ServerAction::Ack(ack)),
            ServerEvent::Timeout if self.l <= now => return InviteServer::Terminated,
            ServerEvent::TransportFailure => out.push(ServerAction::TransportFailed),
            ServerEvent::Respond(_) | ServerEvent::Retransmission | ServerEvent::Timeout => {}
        }
        InviteServer::Accepted(self)
    }
}

impl Completed {
    fn handle(
        mut self,
        now: Instant,
        context: &Context,
        event: ServerEvent,
        out: &mut Vec<ServerAction>,
    ) -> InviteServer {
        match event {
            ServerEvent::Ack(_) if context.reliable => return InviteServer::Terminated,
            ServerEvent::Ack(_) => {
                return InviteServer::Confirmed(Confirmed { i: context.deadline_or_now(now, Timer::I) });
            }
            ServerEvent::Retransmission => out.push(ServerAction::Send(self.response.clone())),
            ServerEvent::Timeout if self.h <= now => {
                out.push(ServerAction::NoAck);
                return InviteServer::Terminated;
            }
            ServerEvent::Timeout => {
                if let Some(g) = self.g.as_mut().filter(|g| g.is_due(now)) {
                    g.restart(now, Some(context.timers.t2));
                    out.push(ServerAction::Send(self.response.clone()));
                }
            }
            ServerEvent::TransportFailure => out.push(ServerAction::TransportFailed),
            ServerEvent::Respond(_) => {}
        }
        InviteServer::Completed(self)
    }
}
