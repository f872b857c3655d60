//! Dialogs: [RFC 3261 section 12](https://www.rfc-editor.org/rfc/rfc3261#section-12).

use super::{CSeq, HeaderError, Headers, Method, NameAddr, Request, Response, Uri};

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

    /// The number of our last request.
    pub fn local_cseq(&self) -> u32 {
        self.local_cseq
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

    /// Takes a new Contact from a target refresh (re-INVITE, UPDATE, and their 2xx).
    pub fn refresh_target(&mut self, headers: &Headers) {
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

/// The one Contact of a message that makes or refreshes a dialog.
fn contact(headers: &Headers) -> Option<Uri> {
    headers.contacts().ok()?.into_iter().next().map(|contact| contact.uri)
}
