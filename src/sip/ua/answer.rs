//! The callee's side of an INVITE: [RFC 3261 section 13.3](https://www.rfc-editor.org/rfc/rfc3261#section-13.3).

use std::time::{Duration, Instant};

use super::core::{Core, furnish, reason_of};
use super::established::Established;
use super::prack::{self, Reliably};
use super::reinvite::{Offer, refuse_overlap};
use super::session::{Common, Session, State};
use super::session_timer::{self, Timer};
use super::types::{Body, SessionId, SessionOptions, UaError, UaEvent};
use super::update::{Agreed, Early};
use super::{info, invite};
use crate::sip::transaction::{Backoff, ServerId, earlier};
use crate::sip::{Dialog, Flow, Method, Request, Response, default_reason};

/// How often a provisional response is repeated so that proxies keep waiting (section 13.3.1.1).
const REFRESH: Duration = Duration::from_secs(60);

/// The INVITE waits for our final response.
#[derive(Debug)]
pub(super) struct Ringing {
    pub(super) server: ServerId,
    pub(super) early: Early,
    pub(super) request: Request,
    pub(super) options: SessionOptions,
    /// The last provisional response beyond 100, and when it is due again.
    last: Option<(Response, Instant)>,
    /// Those that are sent reliably.
    pub(super) reliably: Reliably,
    /// Our user has answered, and the 200 waits for a PRACK.
    pub(super) accepting: Option<Body>,
}

/// A 2xx of ours that waits for its ACK (section 13.3.1.4).
#[derive(Debug)]
pub(super) struct Unacked {
    server: ServerId,
    cseq: u32,
    response: Response,
    backoff: Backoff,
    give_up: Instant,
    /// The 2xx carries our offer: the ACK brings the answer.
    pub(super) offerless: bool,
    /// The 2xx made the call; without its ACK no BYE may be sent (section 15).
    pub(super) initial: bool,
}

/// Makes the session of a new INVITE and answers 100. A refusal has been sent where there is none.
pub(super) fn start(
    core: &mut Core,
    now: Instant,
    id: SessionId,
    server: ServerId,
    request: &Request,
    flow: Flow,
) -> Option<Session> {
    let local_tag = core.token();
    let user = request.uri.decoded_user().filter(|user| request.uri.is_sip() && !user.is_empty());
    let (dialog, contact) = match (Dialog::of_callee(request, &local_tag), core.contact(flow, user.as_deref())) {
        (Ok(Some(dialog)), Ok(contact)) => (dialog, contact),
        _ => {
            core.refuse(now, server, request, 400);
            return None;
        }
    };
    let trying = core.tagged_response(request, 100, default_reason(100), &local_tag);
    core.layer.respond(now, server, trying);
    let common = Common {
        id,
        flow,
        peer: flow.remote.ip(),
        lost: false,
        invite: Some(server),
        credentials: None,
        contact,
        call_id: dialog.call_id().to_owned(),
        local_tag,
    };
    let agreed = if request.body.is_empty() { Agreed::Nothing } else { Agreed::Theirs };
    let state = State::Ringing(Ringing {
        server,
        early: Early::new(dialog, false, agreed),
        request: request.clone(),
        options: SessionOptions::default(),
        last: None,
        reliably: Reliably::default(),
        accepting: None,
    });
    Some(Session { common, state, told: None })
}

impl Ringing {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let refresh = self.last.as_ref().map(|(_, due)| *due);
        earlier(earlier(refresh, self.reliably.deadline()), self.early.deadline())
    }

    pub(super) fn timeout(mut self, common: &Common, core: &mut Core, now: Instant) -> State {
        if self.repeat_reliably(core, now) {
            return self.never_pracked(common, core, now);
        }
        if let Some((last, due)) = self.last.as_mut().filter(|(_, due)| *due <= now) {
            *due = now + REFRESH;
            let last = last.clone();
            self.refresh(common, core, now, last);
        }
        self.early.timeout(common, core, now);
        State::Ringing(self)
    }

    /// Says again that it still rings. A reliable response cannot be said twice: it takes one of its own.
    fn refresh(&mut self, common: &Common, core: &mut Core, now: Instant, last: Response) {
        if !self.is_reliable() {
            core.layer.respond(now, self.server, last);
        } else if self.reliably.deadline().is_none() {
            self.send_reliably(common, core, now, last.status, None);
        }
    }

    /// Our user's wishes for this call, where they go with what the INVITE says.
    pub(super) fn configure(
        mut self,
        core: &mut Core,
        now: Instant,
        options: SessionOptions,
    ) -> (State, Result<(), UaError>) {
        if self.last.is_some() || self.accepting.is_some() {
            return (State::Ringing(self), Err(UaError::State));
        }
        if let Err(status) = prack::check(core, now, self.server, &self.request, &options) {
            return (State::Closed, Err(UaError::Refused(status)));
        }
        if let Some(min_se) = Timer::new(options.timer).too_short(&self.request.headers) {
            session_timer::refuse(core, now, self.server, &self.request, min_se);
            return (State::Closed, Err(UaError::Refused(422)));
        }
        self.options = options;
        (State::Ringing(self), Ok(()))
    }

    pub(super) fn ring(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        status: u16,
        body: Option<Body>,
    ) -> Result<(), UaError> {
        if !(101..200).contains(&status) {
            return Err(UaError::Status(status));
        }
        if self.accepting.is_some() {
            return Err(UaError::State);
        }
        // An offer of ours is one only where its arrival is certain (RFC 3261 section 13.2.1).
        let body = body.filter(|_| self.is_reliable() || self.early.agreed == Agreed::Theirs);
        let mut response = core.tagged_response(&self.request, status, default_reason(status), &common.local_tag);
        furnish(&mut response, &common.contact, false, body.clone());
        self.last = Some((response.clone(), now + REFRESH));
        if self.is_reliable() {
            return self.ring_reliably(common, core, now, status, body);
        }
        core.layer.respond(now, self.server, response);
        Ok(())
    }

    /// Answers, at once or when the PRACK has come that must come first.
    pub(super) fn accept(
        mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        body: Body,
    ) -> (State, Result<(), UaError>) {
        if self.accepting.is_some() {
            return (State::Ringing(self), Err(UaError::State));
        }
        self.accepting = Some(body);
        if self.reliably.blocks_answer() {
            return (State::Ringing(self), Ok(()));
        }
        (self.answer(common, core, now), Ok(()))
    }

    /// Sends the 200. Where a reliable response has carried our description, it goes without.
    pub(super) fn answer(mut self, common: &Common, core: &mut Core, now: Instant) -> State {
        let body = self.accepting.take().filter(|_| self.early.agreed != Agreed::Both);
        let mut timer = Timer::new(self.options.timer);
        self.early.local = self.early.local.or_else(|| body.clone());
        let offerless = self.early.agreed == Agreed::Nothing;
        let answer = Answer { body, offerless, initial: true };
        let unacked = answer_invite(common, core, now, self.server, &self.request, answer, &mut timer);
        State::Established(Box::new(Established::of_callee(self.early, timer, unacked, self.reliably.into_unpracked())))
    }

    /// Our offer in the early dialog. One that comes while the 200 waits, waits with it for the ACK.
    pub(super) fn reoffer(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        body: Body,
    ) -> Result<(), UaError> {
        if self.accepting.is_some() && matches!(self.early.offer, Offer::None) && self.early.peer.is_none() {
            self.early.offer = Offer::Waiting { body, tries: 1, at: None };
            return Ok(());
        }
        // Until its PRACK has come, an answer of ours is not known to have arrived.
        if self.reliably.blocks_answer() {
            return Err(UaError::Pending);
        }
        self.early.offer(common, core, now, body)
    }

    pub(super) fn reject(
        self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        status: u16,
        reason: &str,
        headers: &[(String, String)],
    ) -> State {
        let reason = if reason.is_empty() { default_reason(status) } else { reason };
        let mut response = core.tagged_response(&self.request, status, reason, &common.local_tag);
        for (name, value) in headers {
            response.headers.push(name.clone(), value.clone());
        }
        core.layer.respond(now, self.server, response);
        self.early.close(core, now);
        State::Closed
    }

    pub(super) fn hangup(self, common: &Common, core: &mut Core, now: Instant, reason: Option<&str>) -> State {
        let headers: Vec<(String, String)> =
            reason.map(|reason| ("Reason".to_owned(), reason.to_owned())).into_iter().collect();
        let headers = if invite::check_headers(&headers).is_ok() { headers } else { Vec::new() };
        self.reject(common, core, now, 480, "", &headers)
    }

    pub(super) fn cancelled(self, common: &Common, core: &mut Core, now: Instant, cancel: &Request) -> State {
        self.gave_up(common, core, now, reason_of(&cancel.headers))
    }

    pub(super) fn caller_vanished(self, common: &Common, core: &mut Core, now: Instant) -> State {
        self.gave_up(common, core, now, None)
    }

    fn gave_up(self, common: &Common, core: &mut Core, now: Instant, reason: Option<String>) -> State {
        let state = self.reject(common, core, now, 487, "", &[]);
        core.event(UaEvent::Cancelled { session: common.id, reason });
        state
    }

    /// A request in the early dialog.
    pub(super) fn request(
        mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        server: ServerId,
        request: Request,
    ) -> State {
        match request.method {
            // Section 15.1.2: the INVITE still gets its own answer.
            Method::Bye => {
                core.refuse(now, server, &request, 200);
                return self.gave_up(common, core, now, reason_of(&request.headers));
            }
            Method::Prack => return self.pracked(common, core, now, server, request),
            Method::Info => info::receive(common, core, now, server, &request),
            Method::Update => self.early.peer_update(common, core, now, server, request),
            // RFC 3261 section 14.2: the first INVITE has no answer yet.
            _ => refuse_overlap(core, now, server, &request),
        }
        State::Ringing(self)
    }
}

/// What a 200 to an INVITE is to say and to be.
pub(super) struct Answer {
    /// `None`: all has been described before.
    pub(super) body: Option<Body>,
    /// Our description is an offer.
    pub(super) offerless: bool,
    /// It makes the call.
    pub(super) initial: bool,
}

/// Answers an INVITE or re-INVITE with 200 and keeps it until the ACK.
pub(super) fn answer_invite(
    common: &Common,
    core: &mut Core,
    now: Instant,
    server: ServerId,
    request: &Request,
    answer: Answer,
    timer: &mut Timer,
) -> Unacked {
    let Answer { body, offerless, initial } = answer;
    let mut response = core.tagged_response(request, 200, default_reason(200), &common.local_tag);
    furnish(&mut response, &common.contact, timer.is_on(), body);
    timer.grant(now, &request.headers, &mut response.headers);
    core.layer.respond(now, server, response.clone());
    Unacked {
        server,
        cseq: request.headers.cseq().map(|cseq| cseq.number).unwrap_or_default(),
        response,
        backoff: Backoff::start(now, core.config.timers.t1),
        give_up: now + core.config.timers.give_up(),
        offerless,
        initial,
    }
}

impl Unacked {
    pub(super) fn is_for(&self, cseq: u32) -> bool {
        self.cseq == cseq
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        earlier(Some(self.backoff.at()), Some(self.give_up))
    }

    pub(super) fn is_lost(&self, now: Instant) -> bool {
        self.give_up <= now
    }

    /// Sends the 2xx again: T1, doubling up to T2, on every kind of transport.
    pub(super) fn retransmit(&mut self, core: &mut Core, now: Instant) {
        if self.backoff.is_due(now) {
            self.backoff.restart(now, Some(core.config.timers.t2));
            core.layer.respond(now, self.server, self.response.clone());
        }
    }
}
