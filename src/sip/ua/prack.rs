//! Reliable provisional responses and PRACK: [RFC 3262](https://www.rfc-editor.org/rfc/rfc3262), both roles.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::Instant;

use rand::RngExt;

use super::answer::Ringing;
use super::capabilities::{self, RELIABLE};
use super::core::{Core, Purpose, body_of, furnish, in_dialog};
use super::session::{Common, State};
use super::types::{Body, Reliable, SessionOptions, UaError, UaEvent};
use super::update::{Agreed, Early};
use crate::sip::transaction::{Backoff, ServerId, earlier};
use crate::sip::{Headers, Method, Request, Response, default_reason};

/// How many provisional responses may wait for the PRACK of the one that is out.
const MAX_WAITING: usize = 8;
/// What the caller's Cancelled event says when he never acknowledged a reliable response.
const NO_PRACK: &str = "SIP;cause=504;text=\"No PRACK\"";

/// The value of RAck (section 7.2): which response to which request a PRACK acknowledges.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RAck {
    rseq: u32,
    cseq: u32,
    method: Method,
}

impl FromStr for RAck {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split_whitespace();
        let mut number = || words.next().and_then(crate::sip::headers::decimal).ok_or(());
        let (rseq, cseq) = (number()?, number()?);
        let method = words.next().and_then(|word| word.parse().ok()).ok_or(())?;
        if words.next().is_some() { Err(()) } else { Ok(RAck { rseq, cseq, method }) }
    }
}

/// True for a body that describes a session: SDP, alone or among other things. Others (ISUP) offer and answer nothing.
pub(super) fn is_description(body: &Body) -> bool {
    let kind = body.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/sdp" || kind.starts_with("multipart/")
}

/// The RSeq of a response that was sent reliably. A 100 never is (section 4).
pub(super) fn rseq_of(response: &Response) -> Option<u32> {
    let reliable = response.status > 100 && capabilities::says(&response.headers, "Require", RELIABLE);
    response.headers.rseq().ok().flatten().filter(|rseq| reliable && *rseq > 0)
}

impl Early {
    /// Takes a reliable response in its order (section 4): false for a repeated one and for one that leaves a gap, which
    /// are neither acknowledged nor looked at.
    pub(super) fn takes(&mut self, rseq: u32) -> bool {
        let in_order = self.rseq.is_none_or(|last| last.checked_add(1) == Some(rseq));
        if in_order {
            self.rseq = Some(rseq);
        }
        in_order
    }

    /// Acknowledges it. What becomes of the PRACK changes nothing: a callee that does not get it refuses the INVITE.
    pub(super) fn acknowledge(&mut self, common: &Common, core: &mut Core, now: Instant, rseq: u32, invite: u32) {
        let mut request = self.dialog.request(Method::Prack);
        request.headers.push("RAck", format!("{rseq} {invite} INVITE"));
        core.sign(&mut request.headers, "User-Agent");
        let flow = common.next_flow(&self.dialog);
        core.send(now, in_dialog(Purpose::Prack, Some(common.id), flow, request, common.credentials.clone()));
    }
}

/// A reliable response of ours without its PRACK.
#[derive(Debug)]
pub(super) struct Unpracked {
    rseq: u32,
    cseq: u32,
    response: Response,
    backoff: Backoff,
    give_up: Instant,
}

impl Unpracked {
    /// True if this PRACK means it.
    fn is_meant(&self, prack: &Headers) -> bool {
        let rack = prack.get("RAck").and_then(|text| text.parse::<RAck>().ok());
        rack.is_some_and(|it| it == RAck { rseq: self.rseq, cseq: self.cseq, method: Method::Invite })
    }

    fn describes(&self) -> bool {
        !self.response.body.is_empty()
    }
}

/// Our reliable responses to one INVITE: the one that is out, and those that wait until it is acknowledged.
#[derive(Debug, Default)]
pub(super) struct Reliably {
    last: Option<u32>,
    out: Option<Unpracked>,
    waiting: VecDeque<(u16, Option<Body>)>,
}

impl Reliably {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.out.as_ref().and_then(|out| earlier(Some(out.backoff.at()), Some(out.give_up)))
    }

    /// True while no 2xx may be sent: a response with a description waits for its PRACK (section 3).
    pub(super) fn blocks_answer(&self) -> bool {
        self.out.as_ref().is_some_and(Unpracked::describes)
    }

    /// What is out, for the time after the 2xx: it is not repeated any more, but its PRACK may still come.
    pub(super) fn into_unpracked(self) -> Option<Unpracked> {
        self.out
    }

    /// 1 to 2^31-1 for the first, and one more for each further one (section 3).
    fn next_rseq(&mut self, core: &mut Core) -> u32 {
        let next = match self.last {
            Some(last) => last.saturating_add(1),
            None => core.rng.random_range(1..1 << 31),
        };
        *self.last.insert(next)
    }
}

/// Checks our wish against what the INVITE says, and refuses it where they do not go together: 420 when it must be
/// reliable and we do not want to (section 3), 421 when we must and the caller cannot.
pub(super) fn check(
    core: &mut Core,
    now: Instant,
    server: ServerId,
    request: &Request,
    options: &SessionOptions,
) -> Result<(), u16> {
    let required = capabilities::says(&request.headers, "Require", RELIABLE);
    let (status, header) = match options.reliable {
        Reliable::Off if required => (420, "Unsupported"),
        Reliable::Required if !capabilities::takes_part(&request.headers, RELIABLE) => (421, "Require"),
        _ => return Ok(()),
    };
    let mut response = core.response(request, status);
    response.headers.push(header, RELIABLE);
    core.layer.respond(now, server, response);
    Err(status)
}

impl Ringing {
    /// True if provisional responses to this INVITE are sent reliably.
    pub(super) fn is_reliable(&self) -> bool {
        self.options.reliable != Reliable::Off && capabilities::takes_part(&self.request.headers, RELIABLE)
    }

    /// Sends a provisional response reliably, or keeps it until the last one is acknowledged.
    pub(super) fn ring_reliably(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        status: u16,
        body: Option<Body>,
    ) -> Result<(), UaError> {
        if self.reliably.out.is_none() {
            self.send_reliably(common, core, now, status, body);
        } else if self.reliably.waiting.len() < MAX_WAITING {
            self.reliably.waiting.push_back((status, body));
        } else {
            return Err(UaError::Full);
        }
        Ok(())
    }

    pub(super) fn send_reliably(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        status: u16,
        body: Option<Body>,
    ) {
        // One offer and one answer: nothing more is described in responses to this INVITE.
        let body = body.filter(|_| matches!(self.early.agreed, Agreed::Nothing | Agreed::Theirs));
        if let Some(body) = &body {
            self.early.agreed = if self.early.agreed == Agreed::Theirs { Agreed::Both } else { Agreed::Ours };
            self.early.local = Some(body.clone());
        }
        let rseq = self.reliably.next_rseq(core);
        let mut response = core.tagged_response(&self.request, status, default_reason(status), &common.local_tag);
        furnish(&mut response, &common.contact, false, body);
        response.headers.push("Require", RELIABLE);
        response.headers.push("RSeq", rseq.to_string());
        core.layer.respond(now, self.server, response.clone());
        self.reliably.out = Some(Unpracked {
            rseq,
            cseq: self.request.headers.cseq().map(|cseq| cseq.number).unwrap_or_default(),
            response,
            backoff: Backoff::start(now, core.config.timers.t1),
            give_up: now + core.config.timers.give_up(),
        });
    }

    /// Repeats what is out, T1 and doubling. After 64*T1 the INVITE is refused: true.
    pub(super) fn repeat_reliably(&mut self, core: &mut Core, now: Instant) -> bool {
        let Some(out) = self.reliably.out.as_mut() else { return false };
        if out.give_up <= now {
            return true;
        }
        if out.backoff.is_due(now) {
            out.backoff.restart(now, None);
            core.layer.respond(now, self.server, out.response.clone());
        }
        false
    }

    /// No PRACK came: section 3 asks for a 5xx.
    pub(super) fn never_pracked(self, common: &Common, core: &mut Core, now: Instant) -> State {
        let state = self.reject(common, core, now, 504, "", &[]);
        core.event(UaEvent::Cancelled { session: common.id, reason: Some(NO_PRACK.to_owned()) });
        state
    }

    /// The peer's PRACK.
    pub(super) fn pracked(
        mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        server: ServerId,
        request: Request,
    ) -> State {
        let Some(out) = self.reliably.out.take_if(|out| out.is_meant(&request.headers)) else {
            core.refuse(now, server, &request, 481);
            return State::Ringing(self);
        };
        let body = body_of(&request.headers, &request.body).filter(is_description);
        match self.early.agreed {
            Agreed::Ours if out.describes() => {
                core.refuse(now, server, &request, 200);
                self.early.agreed = Agreed::Both;
                core.event(UaEvent::Pracked { session: common.id, body });
            }
            Agreed::Both if body.is_some() => self.early.peer_offers(common, core, now, server, request),
            // An offer while there can be none is left unanswered: section 3 wants a 2xx for what matches.
            _ => core.refuse(now, server, &request, 200),
        }
        if self.accepting.is_some() {
            return self.answer(common, core, now);
        }
        if let Some((status, body)) = self.reliably.waiting.pop_front() {
            self.send_reliably(common, core, now, status, body);
        }
        State::Ringing(self)
    }
}

/// A PRACK in the established dialog: for the response that our 2xx overtook (section 3).
pub(super) fn late(
    core: &mut Core,
    now: Instant,
    server: ServerId,
    request: &Request,
    unpracked: &mut Option<Unpracked>,
) {
    let status = if unpracked.take_if(|out| out.is_meant(&request.headers)).is_some() { 200 } else { 481 };
    core.refuse(now, server, request, status);
}
