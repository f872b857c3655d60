//! Dialogs: [RFC 3261 section 12](https://www.rfc-editor.org/rfc/rfc3261#section-12).

use super::{CSeq, HeaderError, Headers, Method, NameAddr, Request, Response, Uri};

/// How many methods of a peer's Allow are remembered.
const MAX_METHODS: usize = 32;

/// The state that two user agents share: identity, sequence numbers, and the way to the peer.
#[derive(Clone, Debug)]
pub struct Dialog {
    call_id: String,
    local: NameAddr,
    remote: NameAddr,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    remote_target: Uri,
    route_set: Vec<NameAddr>,
    /// What the peer's last Allow says.
    peer_allows: Vec<Method>,
}

/// A request came with a CSeq that is not above the last one: section 12.2.2 answers 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("CSeq out of order")]
pub struct OutOfOrder;

impl Dialog {
    /// The caller's dialog, from a response with a To-tag: section 12.1.2.
    ///
    /// A response without a usable Contact leaves the Request-URI as target: there is still an ACK and a BYE to be sent.
    pub fn of_caller(request: &Request, response: &Response) -> Result<Self, HeaderError> {
        let mut route_set = response.headers.record_routes()?;
        route_set.reverse();
        Ok(Dialog {
            call_id: request.headers.call_id()?.to_owned(),
            local: request.headers.from()?,
            remote: response.headers.to()?,
            local_cseq: request.headers.cseq()?.number,
            remote_cseq: None,
            remote_target: contact(&response.headers).unwrap_or_else(|| request.uri.clone()),
            route_set,
            peer_allows: allows(&response.headers),
        })
    }

    /// The callee's dialog, from the request that asks for it and the tag we give: section 12.1.1.
    /// `Ok(None)`: the request has no Contact, so nothing could ever be sent to its maker.
    pub fn of_callee(request: &Request, local_tag: &str) -> Result<Option<Self>, HeaderError> {
        let Some(remote_target) = contact(&request.headers) else { return Ok(None) };
        Ok(Some(Dialog {
            call_id: request.headers.call_id()?.to_owned(),
            local: request.headers.to()?.with_tag(local_tag),
            remote: request.headers.from()?,
            local_cseq: 0,
            remote_cseq: Some(request.headers.cseq()?.number),
            remote_target,
            route_set: request.headers.record_routes()?,
            peer_allows: allows(&request.headers),
        }))
    }

    /// The Call-ID.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Our tag.
    pub fn local_tag(&self) -> &str {
        self.local.tag().unwrap_or_default()
    }

    /// The peer's tag; empty for a peer of RFC 2543 without tags.
    pub fn remote_tag(&self) -> &str {
        self.remote.tag().unwrap_or_default()
    }

    /// Our own address in it.
    pub fn local(&self) -> &NameAddr {
        &self.local
    }

    /// The peer's address in it.
    pub fn remote(&self) -> &NameAddr {
        &self.remote
    }

    /// The peer's Contact.
    pub fn remote_target(&self) -> &Uri {
        &self.remote_target
    }

    /// The methods of the peer's last Allow; empty where he said nothing.
    pub fn peer_allows(&self) -> &[Method] {
        &self.peer_allows
    }

    /// The number of our last request.
    pub fn local_cseq(&self) -> u32 {
        self.local_cseq
    }

    /// True if the peer has said that he takes this method.
    pub fn allows(&self, method: &Method) -> bool {
        self.peer_allows.contains(method)
    }

    /// Takes the peer's Allow, if this message has one.
    pub fn note_allow(&mut self, headers: &Headers) {
        let allows = allows(headers);
        if !allows.is_empty() {
            self.peer_allows = allows;
        }
    }

    /// The way that the next request takes.
    pub fn route_set(&self) -> &[NameAddr] {
        &self.route_set
    }

    /// Where the next request goes: the first route, or without one the peer's Contact.
    pub fn next_hop(&self) -> &Uri {
        self.route_set.first().map_or(&self.remote_target, |route| &route.uri)
    }

    /// Takes the next sequence number: also for a request that is sent again with credentials.
    pub fn next_cseq(&mut self) -> u32 {
        self.local_cseq = self.local_cseq.saturating_add(1);
        self.local_cseq
    }

    /// A new request inside the dialog: section 12.2.1.1. Via and body are the sender's part.
    pub fn request(&mut self, method: Method) -> Request {
        let number = self.next_cseq();
        self.numbered(method, number)
    }

    /// The ACK of a 2xx to the INVITE with this number: section 13.2.2.4.
    pub fn ack(&self, invite: u32) -> Request {
        self.numbered(Method::Ack, invite)
    }

    /// Checks and notes the number of a peer's request (never of ACK or CANCEL): section 12.2.2.
    pub fn accept(&mut self, cseq: &CSeq) -> Result<(), OutOfOrder> {
        if self.remote_cseq.is_some_and(|last| cseq.number <= last) {
            return Err(OutOfOrder);
        }
        self.remote_cseq = Some(cseq.number);
        Ok(())
    }

    /// Takes a new Contact from a target refresh (re-INVITE, UPDATE, and their 2xx), and Allow with it.
    pub fn refresh_target(&mut self, headers: &Headers) {
        self.note_allow(headers);
        if let Some(target) = contact(headers) {
            self.remote_target = target;
        }
    }

    /// Takes what the 2xx says, where an early dialog becomes a confirmed one: section 13.2.2.4 recomputes the route set.
    pub fn confirm(&mut self, response: &Response) -> Result<(), HeaderError> {
        let mut route_set = response.headers.record_routes()?;
        route_set.reverse();
        self.route_set = route_set;
        self.refresh_target(&response.headers);
        Ok(())
    }

    fn numbered(&self, method: Method, number: u32) -> Request {
        let (uri, routes) = self.route();
        let cseq = format!("{number} {method}");
        let mut request = Request::new(method, uri);
        for route in routes {
            request.headers.push("Route", route);
        }
        request.headers.push("Max-Forwards", "70");
        request.headers.push("From", self.local.to_string());
        request.headers.push("To", self.remote.to_string());
        request.headers.push("Call-ID", self.call_id.clone());
        request.headers.push("CSeq", cseq);
        request
    }

    /// Request-URI and Route values. A first route with `lr` is a loose router; without it the router is strict:
    /// it wants itself as Request-URI and the target at the end of the list.
    fn route(&self) -> (Uri, Vec<String>) {
        match self.route_set.split_first() {
            Some((first, rest)) if first.uri.params.get("lr").is_none() => {
                let mut routes: Vec<String> = rest.iter().map(NameAddr::to_string).collect();
                routes.push(format!("<{}>", self.remote_target));
                (first.uri.clone(), routes)
            }
            _ => (self.remote_target.clone(), self.route_set.iter().map(NameAddr::to_string).collect()),
        }
    }
}

fn allows(headers: &Headers) -> Vec<Method> {
    headers.tokens("Allow").iter().filter_map(|name| name.parse().ok()).take(MAX_METHODS).collect()
}

/// The one Contact of a message that makes or refreshes a dialog.
fn contact(headers: &Headers) -> Option<Uri> {
    headers.contacts().ok()?.into_iter().next().map(|contact| contact.uri)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::sip::Message;

    fn invite() -> Request {
        let text = "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
                    Record-Route: <sip:near.example.com;lr>, <sip:far.example.com;lr>\r\nFrom: Alice <sip:alice@a.example>;tag=a\r\n\
                    To: <sip:bob@example.com>\r\nCall-ID: c\r\nCSeq: 41 INVITE\r\nContact: <sip:alice@192.0.2.1:5070>\r\n\
                    Content-Length: 0\r\n\r\n";
        match Message::parse(text.as_bytes()).unwrap() {
            Message::Request(request) => request,
            Message::Response(_) => panic!("a request"),
        }
    }

    fn ok() -> Response {
        let mut response = invite().response(200, "OK");
        response.headers.set("To", "<sip:bob@example.com>;tag=b");
        response.headers.push("Contact", "<sip:bob@192.0.2.2>");
        response
    }

    fn routes(request: &Request) -> Vec<&str> {
        request.headers.get_all("Route").collect()
    }

    #[test]
    fn the_callee_keeps_the_order_of_record_routes_and_the_caller_reverses_it() {
        let mut callee = Dialog::of_callee(&invite(), "b").unwrap().unwrap();
        let bye = callee.request(Method::Bye);
        assert_eq!(bye.uri.to_string(), "sip:alice@192.0.2.1:5070");
        assert_eq!(routes(&bye), ["<sip:near.example.com;lr>", "<sip:far.example.com;lr>"]);
        assert_eq!(bye.headers.get("From"), Some("<sip:bob@example.com>;tag=b"));
        assert_eq!(bye.headers.get("To"), Some("\"Alice\" <sip:alice@a.example>;tag=a"));
        assert_eq!(bye.headers.get("CSeq"), Some("1 BYE"));

        let mut caller = Dialog::of_caller(&invite(), &ok()).unwrap();
        let bye = caller.request(Method::Bye);
        assert_eq!(bye.uri.to_string(), "sip:bob@192.0.2.2");
        assert_eq!(routes(&bye), ["<sip:far.example.com;lr>", "<sip:near.example.com;lr>"]);
        assert_eq!(bye.headers.get("CSeq"), Some("42 BYE"));
        assert_eq!(caller.ack(41).headers.get("CSeq"), Some("41 ACK"));
        assert_eq!(caller.next_hop().to_string(), "sip:far.example.com;lr");
    }

    #[test]
    fn numbers_must_rise_and_may_leap() {
        let mut dialog = Dialog::of_callee(&invite(), "b").unwrap().unwrap();
        let mut accept = |number| dialog.accept(&CSeq { number, method: Method::Info }).is_ok();
        assert!(!accept(40) && !accept(41) && accept(42) && accept(100) && !accept(99));
    }

    #[test]
    fn the_2xx_decides_the_route_set_of_an_early_dialog() {
        let mut ringing = ok();
        ringing.status = 180;
        let mut dialog = Dialog::of_caller(&invite(), &ringing).unwrap();
        let mut answer = ok();
        answer.headers.remove("Record-Route");
        answer.headers.set("Contact", "<sip:bob@192.0.2.3>");
        dialog.confirm(&answer).unwrap();
        let ack = dialog.ack(41);
        assert!(routes(&ack).is_empty());
        assert_eq!(ack.uri.to_string(), "sip:bob@192.0.2.3");
    }

    #[test]
    fn without_a_contact_there_is_no_callees_dialog_and_the_caller_makes_do() {
        let mut request = invite();
        request.headers.remove("Contact");
        assert!(Dialog::of_callee(&request, "b").unwrap().is_none());
        let mut response = ok();
        response.headers.remove("Contact");
        assert_eq!(Dialog::of_caller(&invite(), &response).unwrap().ack(41).uri.to_string(), "sip:bob@example.com");
    }
}
