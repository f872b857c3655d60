//! The caller's side of an INVITE: [RFC 3261 section 13.2](https://www.rfc-editor.org/rfc/rfc3261#section-13.2).

use std::time::Instant;

use super::core::{Core, Purpose, body_of, in_dialog, is_clean, put_body};
use super::established::Established;
use super::refer_to::check_referred_by;
use super::session::{Common, Session, State};
use super::types::{EndedBy, Failure, Invite, SessionId, SessionOptions, UaError, UaEvent};
use super::{bye, cancel, capabilities, forks};
use crate::sip::transaction::{ClientFailure, ClientId, ServerId};
use crate::sip::{Dialog, Headers, Message, Method, NameAddr, Request, Response, Uri, default_reason};

/// How many early dialogs of one INVITE are told apart; further forks are heard of only when they answer.
const MAX_EARLY: usize = 16;

/// The header fields that the user agent writes itself.
const OWN: &[&str] = &[
    "Via",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Allow",
    "Supported",
    "Content-Length",
    "Content-Type",
    "Authorization",
    "Proxy-Authorization",
    "Record-Route",
    "Replaces",
    "Referred-By",
    "b",
    "v",
    "f",
    "t",
    "i",
    "m",
    "k",
    "l",
    "c",
];

/// Our INVITE has no final response yet.
#[derive(Debug)]
pub(super) struct Inviting {
    pub(super) transaction: ClientId,
    pub(super) early: Vec<Dialog>,
    /// The INVITE has had a provisional response: it may be cancelled.
    pub(super) provisional: bool,
    /// `UaEvent::Trying` has been told.
    pub(super) tried: bool,
    pub(super) ending: Option<Ending>,
}

/// The INVITE is to end before its answer.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) why: Failure,
    pub(super) reason: Option<String>,
    /// Set once CANCEL was sent: when the INVITE is taken for dead (section 9.1).
    pub(super) give_up: Option<Instant>,
}

/// Sends the INVITE of a new session.
pub(super) fn start(core: &mut Core, now: Instant, id: SessionId, invite: Invite) -> Result<Session, UaError> {
    check_headers(&invite.headers)?;
    check_places(&invite.request_uri, &invite.from, &invite.to)?;
    let flow = invite.flow;
    let contact = core.contact(flow, invite.contact_user.as_deref())?;
    let local_tag = core.token();
    let call_id = format!("{}{}", core.token(), core.token());
    let mut request = Request::new(Method::Invite, invite.request_uri);
    let headers = &mut request.headers;
    if !invite.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Max-Forwards")) {
        headers.push("Max-Forwards", "70");
    }
    headers.push("From", invite.from.with_tag(&local_tag).to_string());
    headers.push("To", invite.to.to_string());
    headers.push("Call-ID", call_id.clone());
    headers.push("CSeq", "1 INVITE");
    headers.push("Contact", contact.to_string());
    capabilities::declare(headers);
    core.sign(headers, "User-Agent");
    write_options(headers, &invite.options)?;
    for (name, value) in invite.headers {
        headers.push(name, value);
    }
    put_body(&mut request, invite.body);
    check_whole(&request)?;
    let pending = in_dialog(Purpose::Invite, Some(id), flow, request, invite.credentials.clone());
    let transaction = core.send(now, pending);
    let peer = flow.remote.ip();
    let common = Common {
        id,
        flow,
        peer,
        lost: false,
        invite: None,
        credentials: invite.credentials,
        contact,
        call_id,
        local_tag,
    };
    let state =
        State::Inviting(Inviting { transaction, early: Vec::new(), provisional: false, tried: false, ending: None });
    Ok(Session { common, state })
}

/// Replaces (RFC 3891 section 4: an INVITE that cannot replace shall not become a call beside) and Referred-By (RFC 3892).
fn write_options(headers: &mut Headers, options: &SessionOptions) -> Result<(), UaError> {
    if let Some(replaces) = &options.replaces {
        if !replaces.is_sound() {
            return Err(UaError::Header { name: "Replaces".to_owned() });
        }
        headers.push("Require", "replaces");
        headers.push("Replaces", replaces.to_string());
    }
    if let Some(by) = &options.referred_by {
        check_referred_by(by)?;
        headers.push("Referred-By", by.clone());
    }
    Ok(())
}

/// Refuses header fields that would break a message or contradict the user agent.
///
/// # Errors
/// [`UaError::Header`] names the first of them.
pub fn check_headers(headers: &[(String, String)]) -> Result<(), UaError> {
    let is_token =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b));
    match headers.iter().find(|(name, value)| {
        !is_token(name) || !is_clean(value) || OWN.iter().any(|own| own.eq_ignore_ascii_case(name))
    }) {
        Some((name, _)) => Err(UaError::Header { name: name.clone() }),
        None => Ok(()),
    }
}

/// Refuses addresses that would not be read as they are meant.
pub(super) fn check_places(request_uri: &Uri, from: &NameAddr, to: &NameAddr) -> Result<(), UaError> {
    let same_uri = |uri: &Uri| uri.to_string().parse().as_ref() == Ok(uri);
    let same = |address: &NameAddr| address.to_string().parse().as_ref() == Ok(address);
    let wrong = match () {
        () if !same_uri(request_uri) => "Request-URI",
        () if !same(from) => "From",
        () if !same(to) || to.tag().is_some() => "To",
        () => return Ok(()),
    };
    Err(UaError::Header { name: wrong.to_owned() })
}

/// Refuses a request, all but its Via in place, that its receiver would not read exactly as it is meant: the last of
/// the checks, and the one that nothing escapes.
pub(super) fn check_whole(request: &Request) -> Result<(), UaError> {
    let mut sent = request.clone();
    sent.headers.push_front("Via", "SIP/2.0/UDP invalid;branch=z9hG4bK");
    let read = match Message::parse(&sent.to_bytes()) {
        Ok(Message::Request(mut read)) => {
            read.headers.remove("Content-Length");
            read
        }
        Ok(Message::Response(_)) => return Err(UaError::Header { name: "Request-URI".to_owned() }),
        Err(_) => return Err(UaError::Header { name: "headers".to_owned() }),
    };
    let pairs = read.headers.iter().zip(sent.headers.iter());
    let wrong = pairs.filter(|(read, sent)| read != sent).map(|(_, (name, _))| name.to_owned()).next();
    match wrong {
        Some(name) => Err(UaError::Header { name }),
        None if read == sent => Ok(()),
        None => Err(UaError::Header { name: "Request-URI".to_owned() }),
    }
}

impl Inviting {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.ending.as_ref().and_then(|ending| ending.give_up)
    }

    pub(super) fn response(
        mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        id: ClientId,
        response: Response,
    ) -> State {
        if id != self.transaction {
            // The answer to our CANCEL tells nothing that the INVITE's does not.
            return State::Inviting(self);
        }
        match response.status {
            0..200 => {
                self.provisional(common, core, now, &response);
                State::Inviting(self)
            }
            200..300 => self.answered(common, core, now, &response),
            status => {
                let why = if matches!(status, 401 | 407) { Failure::Auth } else { Failure::Rejected };
                self.fail(common, core, why, status, response.reason, response.headers)
            }
        }
    }

    fn provisional(&mut self, common: &Common, core: &mut Core, now: Instant, response: &Response) {
        let first = !std::mem::replace(&mut self.provisional, true);
        if self.ending.is_some() {
            if first {
                cancel::send(self, common, core, now);
            }
            return;
        }
        if response.status == 100 {
            if !std::mem::replace(&mut self.tried, true) {
                core.event(UaEvent::Trying { session: common.id });
            }
            return;
        }
        let Some(request) = core.pending.get(&self.transaction).map(|pending| &pending.request) else { return };
        let to_tag = response.headers.to().ok().and_then(|to| to.tag().map(str::to_owned)).unwrap_or_default();
        let known = self.early.iter().any(|dialog| dialog.remote_tag() == to_tag);
        if !to_tag.is_empty() && !known {
            if self.early.len() >= MAX_EARLY {
                return;
            }
            self.early.extend(Dialog::of_caller(request, response).ok());
        }
        core.event(UaEvent::Provisional {
            session: common.id,
            status: response.status,
            reason: response.reason.clone(),
            to_tag,
            body: body_of(&response.headers, &response.body),
            reliable: false,
        });
    }

    /// The first 2xx makes the call. One that crossed our hangup is acknowledged and ended.
    fn answered(mut self, common: &Common, core: &mut Core, now: Instant, response: &Response) -> State {
        let Some(dialog) = self.confirm(core, response) else {
            // A 2xx whose dialog cannot be read can be neither acknowledged nor ended.
            return self.fail(common, core, Failure::Rejected, 502, default_reason(502).to_owned(), Headers::new());
        };
        forks::acknowledge(core, common.next_flow(&dialog), self.transaction, &dialog);
        if let Some(ending) = self.ending {
            report_ending(common, core, ending.why);
            return bye::release(common, core, now, dialog, ending.reason.as_deref());
        }
        core.event(UaEvent::Answered {
            session: common.id,
            to_tag: dialog.remote_tag().to_owned(),
            body: body_of(&response.headers, &response.body),
        });
        State::Established(Box::new(Established::of_caller(dialog)))
    }

    /// The dialog that the 2xx confirms: an early one, with the peer's sequence numbers, or a new one.
    fn confirm(&mut self, core: &Core, response: &Response) -> Option<Dialog> {
        let request = &core.pending.get(&self.transaction)?.request;
        let fresh = Dialog::of_caller(request, response).ok()?;
        match self.early.iter().position(|dialog| dialog.remote_tag() == fresh.remote_tag()) {
            Some(at) => {
                let mut dialog = self.early.swap_remove(at);
                dialog.confirm(response).ok()?;
                Some(dialog)
            }
            None => Some(fresh),
        }
    }

    pub(super) fn failed(self, common: &Common, core: &mut Core, id: ClientId, why: ClientFailure) -> State {
        if id != self.transaction {
            return State::Inviting(self);
        }
        let (why, status) = match why {
            ClientFailure::Timeout => (Failure::Timeout, 408),
            ClientFailure::Transport => (Failure::Transport, 503),
        };
        self.fail(common, core, why, status, default_reason(status).to_owned(), Headers::new())
    }

    /// The INVITE is over without a call. After a hangup that is 487, whatever it really was.
    fn fail(
        self,
        common: &Common,
        core: &mut Core,
        why: Failure,
        status: u16,
        reason: String,
        headers: Headers,
    ) -> State {
        match self.ending {
            Some(ending) => report_ending(common, core, ending.why),
            None => core.event(UaEvent::Failed { session: common.id, status, reason, why, headers }),
        }
        State::Closed
    }

    pub(super) fn retry(&mut self, id: ClientId, sent: u32) -> Option<u32> {
        (id == self.transaction && self.ending.is_none()).then(|| sent.saturating_add(1))
    }

    pub(super) fn retried(&mut self, old: ClientId, new: ClientId) {
        if self.transaction == old {
            self.transaction = new;
            self.early.clear();
            self.provisional = false;
        }
    }

    /// 64*T1 after the CANCEL no final response has come: the INVITE is dead.
    pub(super) fn timeout(self, common: &Common, core: &mut Core, now: Instant) -> State {
        match &self.ending {
            Some(Ending { give_up: Some(at), why, .. }) if *at <= now => {
                report_ending(common, core, *why);
                core.layer.abandon(self.transaction);
                State::Closed
            }
            _ => State::Inviting(self),
        }
    }

    /// A request in an early dialog.
    pub(super) fn request(
        mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        server: ServerId,
        request: Request,
    ) -> State {
        match request.method {
            // The callee may not do this (section 15), but it is clear what it means.
            Method::Bye => {
                core.refuse(now, server, &request, 200);
                self.end(common, core, now, Failure::Rejected, None);
            }
            Method::Info => super::info::receive(common, core, now, server, &request),
            // RFC 3311 section 5.2: our offer has no answer yet.
            Method::Update if !request.body.is_empty() => core.refuse(now, server, &request, 491),
            Method::Update => super::reinvite::refresh(common, core, now, server, &request),
            _ => core.refuse(now, server, &request, 491),
        }
        State::Inviting(self)
    }

    pub(super) fn hangup(mut self, common: &Common, core: &mut Core, now: Instant, reason: Option<&str>) -> State {
        self.end(common, core, now, Failure::Cancelled, reason);
        State::Inviting(self)
    }

    fn end(&mut self, common: &Common, core: &mut Core, now: Instant, why: Failure, reason: Option<&str>) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Ending { why, reason: reason.map(str::to_owned), give_up: None });
        if self.provisional {
            cancel::send(self, common, core, now);
        }
    }
}

fn report_ending(common: &Common, core: &mut Core, why: Failure) {
    let reason = default_reason(487).to_owned();
    core.event(UaEvent::Failed { session: common.id, status: 487, reason, why, headers: Headers::new() });
}

/// What ended an established dialog whose request failed.
pub(super) fn ended_by(why: ClientFailure) -> EndedBy {
    match why {
        ClientFailure::Timeout => EndedBy::Timeout,
        ClientFailure::Transport => EndedBy::Transport,
    }
}
