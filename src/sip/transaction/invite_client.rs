//! The INVITE client transaction: [RFC 3261 section 17.1.1](https://www.rfc-editor.org/rfc/rfc3261#section-17.1.1), figure 5,
//! with the Accepted state of [RFC 6026 section 7.2](https://www.rfc-editor.org/rfc/rfc6026#section-7.2).

use std::time::Instant;

use super::timers::{Backoff, Context, Timer, earlier};
use super::{ClientAction, ClientEvent};
use crate::sip::{Headers, Method, Request, Response};

/// The machine. Each state owns what only it needs; [`InviteClient::handle`] consumes one and gives the next.
#[derive(Debug)]
pub enum InviteClient {
    /// The INVITE was sent, nothing has come back.
    Calling(Calling),
    /// A provisional response came: retransmission has ended.
    Proceeding(Proceeding),
    /// A 2xx came; repeated and further 2xx pass up until timer M.
    Accepted(Accepted),
    /// A 300-699 came and was acknowledged; its repetitions are, until timer D.
    Completed(Completed),
    /// Over.
    Terminated,
}

/// See [`InviteClient::Calling`].
#[derive(Debug)]
pub struct Calling {
    request: Request,
    wire: Vec<u8>,
    a: Option<Backoff>,
    b: Instant,
}

/// See [`InviteClient::Proceeding`].
#[derive(Debug)]
pub struct Proceeding {
    request: Request,
}

/// See [`InviteClient::Accepted`].
#[derive(Debug)]
pub struct Accepted {
    m: Instant,
}

/// See [`InviteClient::Completed`].
#[derive(Debug)]
pub struct Completed {
    ack: Vec<u8>,
    d: Instant,
}

impl InviteClient {
    /// Sends the INVITE (its top Via is in place) and starts timers A and B.
    pub fn start(now: Instant, context: &Context, request: Request, out: &mut Vec<ClientAction>) -> Self {
        let wire = request.to_bytes();
        out.push(ClientAction::Send(wire.clone()));
        InviteClient::Calling(Calling {
            request,
            wire,
            a: context.backoff(now, Timer::A),
            b: context.deadline_or_now(now, Timer::B),
        })
    }

    /// One step.
    pub fn handle(self, now: Instant, context: &Context, event: ClientEvent, out: &mut Vec<ClientAction>) -> Self {
        match self {
            InviteClient::Calling(state) => state.handle(now, context, event, out),
            InviteClient::Proceeding(state) => state.handle(now, context, event, out),
            InviteClient::Accepted(state) => state.handle(now, event, out),
            InviteClient::Completed(state) => state.handle(now, event, out),
            InviteClient::Terminated => InviteClient::Terminated,
        }
    }

    /// When the machine wants [`ClientEvent::Timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            InviteClient::Calling(state) => earlier(state.a.map(|a| a.at()), Some(state.b)),
            InviteClient::Accepted(state) => Some(state.m),
            InviteClient::Completed(state) => Some(state.d),
            InviteClient::Proceeding(_) | InviteClient::Terminated => None,
        }
    }

    /// True once nothing is left to do.
    pub fn is_terminated(&self) -> bool {
        matches!(self, InviteClient::Terminated)
    }
}

impl Calling {
    fn handle(
        mut self,
        now: Instant,
        context: &Context,
        event: ClientEvent,
        out: &mut Vec<ClientAction>,
    ) -> InviteClient {
        match event {
            ClientEvent::Response(response) => receive(now, context, self.request, response, out),
            ClientEvent::Timeout if self.b <= now => {
                out.push(ClientAction::TimedOut);
                InviteClient::Terminated
            }
            ClientEvent::Timeout => {
                if let Some(a) = self.a.as_mut().filter(|a| a.is_due(now)) {
                    // RFC 3261 section 17.1.1.2: A doubles without a cap; B ends it after 7 sendings.
                    a.restart(now, None);
                    out.push(ClientAction::Send(self.wire.clone()));
                }
                InviteClient::Calling(self)
            }
            ClientEvent::TransportFailure => {
                out.push(ClientAction::TransportFailed);
                InviteClient::Terminated
            }
        }
    }
}

impl Proceeding {
    fn handle(self, now: Instant, context: &Context, event: ClientEvent, out: &mut Vec<ClientAction>) -> InviteClient {
        match event {
            ClientEvent::Response(response) => receive(now, context, self.request, response, out),
            ClientEvent::Timeout => InviteClient::Proceeding(self),
            // The answer to an INVITE sent over a connection that broke cannot be asked for again.
            ClientEvent::TransportFailure => {
                out.push(ClientAction::TransportFailed);
                InviteClient::Terminated
            }
        }
    }
}

impl Accepted {
    fn handle(self, now: Instant, event: ClientEvent, out: &mut Vec<ClientAction>) -> InviteClient {
        match event {
            ClientEvent::Response(response) => {
                if (200..300).contains(&response.status) {
                    out.push(ClientAction::Deliver(response));
                }
                InviteClient::Accepted(self)
            }
            ClientEvent::Timeout if self.m <= now => InviteClient::Terminated,
            ClientEvent::Timeout | ClientEvent::TransportFailure => InviteClient::Accepted(self),
        }
    }
}

impl Completed {
    fn handle(self, now: Instant, event: ClientEvent, out: &mut Vec<ClientAction>) -> InviteClient {
        match event {
            ClientEvent::Response(response) => {
                if response.status >= 300 {
                    out.push(ClientAction::Send(self.ack.clone()));
                }
                InviteClient::Completed(self)
            }
            ClientEvent::Timeout if self.d <= now => InviteClient::Terminated,
            ClientEvent::Timeout => InviteClient::Completed(self),
            // The ACK could not be sent; the final response was delivered, so the user has nothing to learn from it.
            ClientEvent::TransportFailure => InviteClient::Terminated,
        }
    }
}

/// A response in Calling or Proceeding.
fn receive(
    now: Instant,
    context: &Context,
    request: Request,
    response: Response,
    out: &mut Vec<ClientAction>,
) -> InviteClient {
    match response.status {
        0..200 => {
            out.push(ClientAction::Deliver(response));
            InviteClient::Proceeding(Proceeding { request })
        }
        200..300 => {
            out.push(ClientAction::Deliver(response));
            InviteClient::Accepted(Accepted { m: context.deadline_or_now(now, Timer::M) })
        }
        _ => {
            let ack = ack_for_failure(&request, &response).to_bytes();
            out.push(ClientAction::Send(ack.clone()));
            out.push(ClientAction::Deliver(response));
            if context.reliable {
                return InviteClient::Terminated;
            }
            InviteClient::Completed(Completed { ack, d: context.deadline_or_now(now, Timer::D) })
        }
    }
}

/// The ACK of a 300-699: [RFC 3261 section 17.1.1.3](https://www.rfc-editor.org/rfc/rfc3261#section-17.1.1.3).
fn ack_for_failure(request: &Request, response: &Response) -> Request {
    let mut ack = Request::new(Method::Ack, request.uri.clone());
    let copy = |to: &mut Headers, from: &Headers, name: &str| {
        if let Some(value) = from.get(name) {
            to.push(name, value);
        }
    };
    if let Ok(via) = request.headers.top_via() {
        ack.headers.push("Via", via.to_string());
    }
    for route in request.headers.get_all("Route") {
        ack.headers.push("Route", route);
    }
    ack.headers.push("Max-Forwards", "70");
    copy(&mut ack.headers, &request.headers, "From");
    copy(&mut ack.headers, &response.headers, "To");
    copy(&mut ack.headers, &request.headers, "Call-ID");
    if let Ok(cseq) = request.headers.cseq() {
        ack.headers.push("CSeq", format!("{} ACK", cseq.number));
    }
    ack
}
