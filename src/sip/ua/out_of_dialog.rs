//! Requests outside of any dialog that we send (REGISTER, OPTIONS and the like): [RFC 3261 section
//! 8.1](https://www.rfc-editor.org/rfc/rfc3261#section-8.1), and those of peers that our user answers (REGISTER).

use std::time::Instant;

use super::core::{Core, Pending, Purpose, in_dialog, put_body};
use super::types::{Body, UaError, UaEvent};
use super::{capabilities, invite};
use crate::sip::transaction::{ClientFailure, ClientId, ServerId};
use crate::sip::{Credentials, Flow, Method, NameAddr, Request, Response, Uri};

/// A request of ours outside of any dialog, from [`super::UserAgent::request`] to [`super::UaEvent::Answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A peer's request that our user answers, from [`super::UaEvent::Request`] to [`super::UserAgent::respond`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerRequestId(pub(super) ServerId);

/// A request to be sent outside of any dialog.
#[derive(Clone, Debug)]
pub struct OutOfDialog {
    /// Over which way.
    pub flow: Flow,
    /// The method: none that makes or needs a dialog.
    pub method: Method,
    /// The Request-URI.
    pub request_uri: Uri,
    /// From; a tag is added where there is none.
    pub from: NameAddr,
    /// To, without a tag.
    pub to: NameAddr,
    /// The Call-ID; `None`: a new one.
    pub call_id: Option<String>,
    /// The sequence number; `None`: 1. A request that is sent again with credentials takes the next one.
    pub cseq: Option<u32>,
    /// Contact, where the method wants one; see [`super::UserAgent::contact_for`].
    pub contact: Option<NameAddr>,
    /// Further header fields, by the rules of [`super::Invite::headers`].
    pub headers: Vec<(String, String)>,
    /// With what 401 and 407 are answered.
    pub credentials: Option<Credentials>,
    /// The body.
    pub body: Option<Body>,
}

/// Sends the request.
pub(super) fn send(core: &mut Core, now: Instant, id: RequestId, wish: OutOfDialog) -> Result<ClientId, UaError> {
    let pending = build(core, id, wish)?;
    Ok(core.send(now, pending))
}

fn build(core: &mut Core, id: RequestId, wish: OutOfDialog) -> Result<Pending, UaError> {
    if !is_plain(&wish.method) {
        return Err(UaError::Method);
    }
    invite::check_headers(&wish.headers)?;
    invite::check_places(&wish.request_uri, &wish.from, &wish.to)?;
    let bad = |name: &str| UaError::Header { name: name.to_owned() };
    if wish.contact.as_ref().is_some_and(|contact| !invite::is_sound(contact)) {
        return Err(bad("Contact"));
    }
    let call_id = match wish.call_id {
        Some(text) if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            return Err(bad("Call-ID"));
        }
        Some(text) => text,
        None => format!("{}{}", core.token(), core.token()),
    };
    let number = wish.cseq.unwrap_or(1);
    if number >= 1 << 31 {
        return Err(bad("CSeq"));
    }
    let from = if wish.from.tag().is_some() { wish.from } else { wish.from.with_tag(&core.token()) };
    let mut request = Request::new(wish.method, wish.request_uri);
    let cseq = format!("{number} {}", request.method);
    let headers = &mut request.headers;
    if !wish.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Max-Forwards")) {
        headers.push("Max-Forwards", "70");
    }
    headers.push("From", from.to_string());
    headers.push("To", wish.to.to_string());
    headers.push("Call-ID", call_id);
    headers.push("CSeq", cseq);
    if let Some(contact) = wish.contact {
        headers.push("Contact", contact.to_string());
    }
    capabilities::declare(headers);
    core.sign(headers, "User-Agent");
    for (name, value) in wish.headers {
        headers.push(name, value);
    }
    put_body(&mut request, wish.body);
    invite::check_whole(&request)?;
    Ok(in_dialog(Purpose::Outside(id), None, wish.flow, request, wish.credentials))
}

/// True for methods that neither make nor need a dialog.
fn is_plain(method: &Method) -> bool {
    matches!(method, Method::Register | Method::Options | Method::Message | Method::Publish | Method::Other(_))
}

/// The final response to a request of ours.
pub(super) fn answered(core: &mut Core, id: ClientId, request: RequestId, response: Response) {
    if response.status >= 200 {
        report(core, id, request, Ok(response));
    }
}

/// A request of ours ended without a final response.
pub(super) fn failed(core: &mut Core, id: ClientId, request: RequestId, why: ClientFailure) {
    report(core, id, request, Err(why));
}

fn report(core: &mut Core, id: ClientId, request: RequestId, result: Result<Response, ClientFailure>) {
    let sent = core.pending.get(&id).and_then(|pending| pending.request.headers.cseq().ok());
    let cseq = sent.map(|cseq| cseq.number).unwrap_or_default();
    core.event(UaEvent::Answer { request, cseq, result });
}

/// The name that our user gets for a peer's request.
pub(super) fn server_id(server: ServerId) -> ServerRequestId {
    ServerRequestId(server)
}

/// Our user's answer to a peer's request.
pub(super) fn respond(core: &mut Core, now: Instant, id: ServerRequestId, mut response: Response) {
    if let Ok(to) = response.headers.to()
        && to.tag().is_none()
    {
        let tag = core.token();
        response.headers.set("To", to.with_tag(&tag).to_string());
    }
    if response.headers.get("Server").is_none() {
        core.sign(&mut response.headers, "Server");
    }
    core.layer.respond(now, id.0, response);
}
