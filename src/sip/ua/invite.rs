//! The caller's side of an INVITE: [RFC 3261 section 13.2](https://www.rfc-editor.org/rfc/rfc3261#section-13.2).

use std::time::Instant;

use super::core::{Core, Purpose, body_of, in_dialog, is_clean, put_body};
use super::established::Established;
use super::refer_to::check_referred_by;
use super::session::{Common, Session, State};
use super::session_timer::Timer;
use super::types::{Body, EndedBy, Failure, Invite, Reliable, SessionId, SessionOptions, UaError, UaEvent};
use super::update::{Agreed, Early};
use super::{bye, cancel, capabilities, forks, prack};
use crate::sip::transaction::{ClientFailure, ClientId, ServerId, earlier};
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
    "Session-Expires",
    "Min-SE",
    "RSeq",
    "RAck",
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
    "x",
];

/// Our INVITE has no final response yet.
#[derive(Debug)]
pub(super) struct Inviting {
    pub(super) transaction: ClientId,
    pub(super) early: Vec<Early>,
    /// The INVITE has had a provisional response: it may be cancelled.
    pub(super) provisional: bool,
    /// `UaEvent::Trying` has been told.
    pub(super) tried: bool,
    pub(super) ending: Option<Ending>,
    pub(super) timer: Timer,
}

/// What a provisional response tells our user.
struct Heard {
    body: Option<Body>,
    reliable: bool,
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
    // The offer of a reliable response would want an answer in the PRACK: without an offer of ours there are none.
    let reliable = if invite.body.is_some() { invite.options.reliable } else { Reliable::Off };
    let timer = Timer::new(invite.options.timer);
    capabilities::declare_in_session(headers, reliable != Reliable::Off, timer.is_on());
    if reliable == Reliable::Required {
        headers.push("Require", capabilities::RELIABLE);
    }
    timer.ask(headers);
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
    let state = State::Inviting(Inviting {
        transaction,
        early: Vec::new(),
        provisional: false,
        tried: false,
        ending: None,
        timer,
    });
    Ok(Session { common, state, told: None })
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
    let wrong = match () {
        () if !same_uri(request_uri) => "Request-URI",
        () if !is_sound(from) => "From",
        () if !is_sound(to) || to.tag().is_some() => "To",
        () => return Ok(()),
    };
    Err(UaError::Header { name: wrong.to_owned() })
}

/// True for an address that is read again as it is meant.
pub(super) fn is_sound(address: &NameAddr) -> bool {
    let text = address.to_string();
    is_clean(&text) && text.parse().as_ref() == Ok(address)
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
        let give_up = self.ending.as_ref().and_then(|ending| ending.give_up);
        earlier(give_up, self.early.iter().filter_map(Early::deadline).min())
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
            // The answer to our CANCEL or PRACK tells nothing that the INVITE's does not.
            if let Some(early) = self.offering(id).filter(|_| response.status >= 200) {
                early.update_answered(common, core, now, &response);
            }
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
                self.fail(common, core, now, why, status, response.reason, response.headers)
            }
        }
    }

    /// The early dialog whose UPDATE this is.
    fn offering(&mut self, id: ClientId) -> Option<&mut Early> {
        self.early.iter_mut().find(|early| early.offer.is_for(id))
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
        let to_tag = response.headers.to().ok().and_then(|to| to.tag().map(str::to_owned)).unwrap_or_default();
        let body = body_of(&response.headers, &response.body);
        let Some(Heard { body, reliable }) = self.hear(common, core, now, response, &to_tag, body) else { return };
        let (status, reason) = (response.status, response.reason.clone());
        core.event(UaEvent::Provisional { session: common.id, status, reason, to_tag, body, reliable });
    }

    /// Sorts a provisional response into its early dialog, which it may begin, and acknowledges it where it came
    /// reliably. `None`: it is one to be passed over.
    fn hear(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        response: &Response,
        to_tag: &str,
        body: Option<Body>,
    ) -> Option<Heard> {
        if to_tag.is_empty() {
            return Some(Heard { body, reliable: false });
        }
        let at = match self.early.iter().position(|early| early.dialog.remote_tag() == to_tag) {
            Some(at) => at,
            None if self.early.len() >= MAX_EARLY => return None,
            None => {
                let request = &core.pending.get(&self.transaction)?.request;
                let agreed = if request.body.is_empty() { Agreed::Nothing } else { Agreed::Ours };
                let Ok(dialog) = Dialog::of_caller(request, response) else {
                    return Some(Heard { body, reliable: false });
                };
                self.early.push(Early::new(dialog, true, agreed));
                self.early.len() - 1
            }
        };
        let early = self.early.get_mut(at)?;
        early.dialog.note_allow(&response.headers);
        let rseq = prack::rseq_of(response);
        if let Some(rseq) = rseq {
            if !early.takes(rseq) {
                return None;
            }
            early.acknowledge(common, core, now, rseq, response.headers.cseq().ok()?.number);
        }
        // RFC 3261 section 13.2.1: after the answer nothing more is described in responses to the INVITE.
        let body = body.filter(|body| early.agreed != Agreed::Both || !prack::is_description(body));
        if rseq.is_some() && early.agreed == Agreed::Ours && body.as_ref().is_some_and(prack::is_description) {
            early.agreed = Agreed::Both;
        }
        Some(Heard { body, reliable: rseq.is_some() })
    }

    /// The first 2xx makes the call. One that crossed our hangup is acknowledged and ended.
    fn answered(mut self, common: &Common, core: &mut Core, now: Instant, response: &Response) -> State {
        let Some(mut early) = self.confirm(core, response) else {
            // A 2xx whose dialog cannot be read can be neither acknowledged nor ended.
            let reason = default_reason(502).to_owned();
            return self.fail(common, core, now, Failure::Rejected, 502, reason, Headers::new());
        };
        forks::acknowledge(core, common.next_flow(&early.dialog), self.transaction, &early.dialog);
        self.leave_early(core, now);
        if let Some(ending) = self.ending {
            report_ending(common, core, ending.why);
            let dialog = early.dialog.clone();
            early.close(core, now);
            return bye::release(common, core, now, dialog, ending.reason.as_deref());
        }
        let answered = early.agreed == Agreed::Both;
        let body = body_of(&response.headers, &response.body);
        let body = body.filter(|body| !(answered && prack::is_description(body)));
        core.event(UaEvent::Answered { session: common.id, to_tag: early.dialog.remote_tag().to_owned(), body });
        if early.local.is_none()
            && let Some(pending) = core.pending.get(&self.transaction)
        {
            early.local = body_of(&pending.request.headers, &pending.request.body);
        }
        self.timer.granted(now, &response.headers);
        State::Established(Box::new(Established::of_caller(early, self.timer)))
    }

    /// The dialog that the 2xx confirms: an early one, with the peer's sequence numbers, or a new one.
    fn confirm(&mut self, core: &Core, response: &Response) -> Option<Early> {
        let request = &core.pending.get(&self.transaction)?.request;
        let fresh = Dialog::of_caller(request, response).ok()?;
        match self.early.iter().position(|early| early.dialog.remote_tag() == fresh.remote_tag()) {
            Some(at) => {
                let mut early = self.early.swap_remove(at);
                early.dialog.confirm(response).ok()?;
                Some(early)
            }
            None => Some(Early::new(fresh, true, Agreed::Ours)),
        }
    }

    /// The early dialogs end with their INVITE, but for the one that was answered.
    fn leave_early(&mut self, core: &mut Core, now: Instant) {
        for early in self.early.drain(..) {
            early.close(core, now);
        }
    }

    pub(super) fn failed(
        mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        id: ClientId,
        why: ClientFailure,
    ) -> State {
        if id != self.transaction {
            if let Some(early) = self.offering(id) {
                early.update_failed(common, core, why);
            }
            return State::Inviting(self);
        }
        let status = why.status();
        let why = match why {
            ClientFailure::Timeout => Failure::Timeout,
            ClientFailure::Transport => Failure::Transport,
        };
        self.fail(common, core, now, why, status, default_reason(status).to_owned(), Headers::new())
    }

    /// The INVITE is over without a call. After a hangup that is 487, whatever it really was.
    #[allow(clippy::too_many_arguments)]
    fn fail(
        mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        why: Failure,
        status: u16,
        reason: String,
        headers: Headers,
    ) -> State {
        self.leave_early(core, now);
        match self.ending {
            Some(ending) => report_ending(common, core, ending.why),
            None => core.event(UaEvent::Failed { session: common.id, status, reason, why, headers }),
        }
        State::Closed
    }

    pub(super) fn retry(&mut self, id: ClientId, request: &Request, sent: u32) -> Option<u32> {
        if self.ending.is_some() {
            return None;
        }
        if id == self.transaction {
            return Some(sent.saturating_add(1));
        }
        let to = request.headers.to().ok()?;
        let tag = to.tag().unwrap_or_default();
        self.early.iter_mut().find(|early| early.dialog.remote_tag() == tag).map(|early| early.dialog.next_cseq())
    }

    pub(super) fn retried(&mut self, core: &mut Core, now: Instant, old: ClientId, new: ClientId) {
        if self.transaction == old {
            self.transaction = new;
            self.leave_early(core, now);
            self.provisional = false;
        }
        for early in &mut self.early {
            early.offer.retried(old, new);
        }
    }

    /// 64*T1 after the CANCEL no final response has come: the INVITE is dead.
    pub(super) fn timeout(mut self, common: &Common, core: &mut Core, now: Instant) -> State {
        match &self.ending {
            Some(Ending { give_up: Some(at), why, .. }) if *at <= now => {
                report_ending(common, core, *why);
                core.layer.abandon(self.transaction);
                self.leave_early(core, now);
                return State::Closed;
            }
            _ => {}
        }
        for early in &mut self.early {
            early.timeout(common, core, now);
        }
        State::Inviting(self)
    }

    /// Our offer in the early dialog that has come far enough for one; the last, where several have.
    pub(super) fn reoffer(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        body: Body,
    ) -> Result<(), UaError> {
        let early = self.early.iter_mut().rev().find(|early| early.agreed == Agreed::Both);
        match early.filter(|_| self.ending.is_none()) {
            Some(early) => early.offer(common, core, now, body),
            None => Err(UaError::State),
        }
    }

    /// Our user's reply to the offer of an early dialog.
    pub(super) fn answer_peer(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        answer: Result<Body, u16>,
    ) -> Result<(), UaError> {
        match self.early.iter_mut().find(|early| early.peer.is_some()) {
            Some(early) => early.answer_peer(common, core, now, answer),
            None => Err(UaError::State),
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
            Method::Update => {
                let tag =
                    request.headers.from().ok().and_then(|from| from.tag().map(str::to_owned)).unwrap_or_default();
                match self.early.iter_mut().find(|early| early.dialog.remote_tag() == tag) {
                    Some(early) => early.peer_update(common, core, now, server, request),
                    None => core.refuse(now, server, &request, 481),
                }
            }
            // Only a callee has something to be acknowledged.
            Method::Prack => core.refuse(now, server, &request, 481),
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
