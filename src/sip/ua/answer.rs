//! The callee's side of an INVITE: [RFC 3261 section 13.3](https://www.rfc-editor.org/rfc/rfc3261#section-13.3).

use std::time::{Duration, Instant};

use super::core::{Core, furnish, reason_of};
use super::established::Established;
use super::session::{Common, Session, State};
use super::types::{Body, SessionId, SessionOptions, UaError, UaEvent};
use super::{info, invite, reinvite};
use crate::sip::transaction::{Backoff, ServerId, earlier};
use crate::sip::{Dialog, Flow, Method, Request, Response, default_reason};

/// How often a provisional response is repeated so that proxies keep waiting (section 13.3.1.1).
const REFRESH: Duration = Duration::from_secs(60);

/// The INVITE waits for our final response.
#[derive(Debug)]
pub(super) struct Ringing {
    pub(super) server: ServerId,
    pub(super) dialog: Dialog,
    request: Request,
    options: SessionOptions,
    /// The last provisional response beyond 100, and when it is due again.
    last: Option<(Response, Instant)>,
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
    let state = State::Ringing(Ringing {
        server,
        dialog,
        request: request.clone(),
        options: SessionOptions::default(),
        last: None,
    });
    Some(Session { common, state })
}

impl Ringing {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.last.as_ref().map(|(_, due)| *due)
    }

    pub(super) fn timeout(mut self, core: &mut Core, now: Instant) -> State {
        if let Some((last, due)) = self.last.as_mut().filter(|(_, due)| *due <= now) {
            *due = now + REFRESH;
            core.layer.respond(now, self.server, last.clone());
        }
        State::Ringing(self)
    }

    /// Our user's wishes for this call.
    pub(super) fn configure(
        mut self,
        _common: &Common,
        _core: &mut Core,
        _now: Instant,
        options: SessionOptions,
    ) -> (State, Result<(), UaError>) {
        if self.last.is_some() {
            return (State::Ringing(self), Err(UaError::State));
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
        let mut response = core.tagged_response(&self.request, status, default_reason(status), &common.local_tag);
        furnish(&mut response, &common.contact, body);
        self.last = Some((response.clone(), now + REFRESH));
        core.layer.respond(now, self.server, response);
        Ok(())
    }

    pub(super) fn accept(self, common: &Common, core: &mut Core, now: Instant, body: Body) -> State {
        let offerless = self.request.body.is_empty();
        let unacked = answer_invite(common, core, now, self.server, &self.request, body, offerless, true);
        State::Established(Box::new(Established::of_callee(self.dialog, unacked)))
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
        self,
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
            Method::Info => info::receive(common, core, now, server, &request),
            Method::Update if request.body.is_empty() => reinvite::refresh(common, core, now, server, &request),
            // RFC 3311 section 5.2 and RFC 3261 section 14.2: the first offer has no answer yet.
            _ => reinvite::refuse_overlap(core, now, server, &request),
        }
        State::Ringing(self)
    }
}

/// Answers an INVITE or re-INVITE with 200 and keeps it until the ACK.
#[allow(clippy::too_many_arguments)]
pub(super) fn answer_invite(
    common: &Common,
    core: &mut Core,
    now: Instant,
    server: ServerId,
    request: &Request,
    body: Body,
    offerless: bool,
    initial: bool,
) -> Unacked {
    let mut response = core.tagged_response(request, 200, default_reason(200), &common.local_tag);
    furnish(&mut response, &common.contact, Some(body));
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
