//! A peer that says exactly what a test wants.

use std::time::{Duration, Instant};

use super::net::{address, body, call, config, flow, origin};
use crate::sip::ua::*;
use crate::sip::{Message, Method, Request, Response};

/// A user agent and what it did.
pub(super) struct Bench {
    pub(super) ua: UserAgent,
    pub(super) now: Instant,
    pub(super) requests: Vec<Request>,
    pub(super) responses: Vec<Response>,
    pub(super) events: Vec<UaEvent>,
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::with(config())
    }

    pub(super) fn with(config: UaConfig) -> Bench {
        Bench {
            ua: UserAgent::new(config, [9; 32]),
            now: origin(),
            requests: Vec::new(),
            responses: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.ua.poll_output() {
            match output {
                UaOutput::Transmit { bytes, .. } => match Message::parse(&bytes) {
                    Ok(Message::Request(request)) => self.requests.push(request),
                    Ok(Message::Response(response)) => self.responses.push(response),
                    // The refusal of a broken message repeats what was broken.
                    Err(_) if bytes.starts_with(b"SIP/2.0 400 ") => {}
                    Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&bytes)),
                },
                UaOutput::Event(event) => self.events.push(event),
            }
        }
    }

    /// The peer sends this text.
    pub(super) fn hear(&mut self, text: &str) {
        self.ua.handle_datagram(self.now, flow(0), text.as_bytes());
        self.drain();
    }

    /// The peer sends this response.
    pub(super) fn answer(&mut self, response: &Response) {
        self.ua.handle_datagram(self.now, flow(0), &response.to_bytes());
        self.drain();
    }

    /// The peer sends this request.
    pub(super) fn ask(&mut self, request: &Request) {
        self.ua.handle_datagram(self.now, flow(0), &request.to_bytes());
        self.drain();
    }

    /// Our user wishes something.
    pub(super) fn user<T>(&mut self, wish: impl FnOnce(&mut UserAgent, Instant) -> T) -> T {
        let result = wish(&mut self.ua, self.now);
        self.drain();
        result
    }

    /// Time passes, with every timer at its moment.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.ua.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.ua.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// Everything is over and nothing is left.
    pub(super) fn check_empty(&mut self) {
        self.pass(Duration::from_secs(120));
        assert_eq!(self.ua.session_count(), 0, "{:?}", self.events);
        assert_eq!(self.ua.transaction_count(), 0);
        assert_eq!(self.ua.poll_timeout(), None);
    }

    /// The last request of this method that was sent.
    pub(super) fn last(&self, method: Method) -> Request {
        self.requests.iter().rfind(|request| request.method == method).expect("a request").clone()
    }

    pub(super) fn count(&self, method: Method) -> usize {
        self.requests.iter().filter(|request| request.method == method).count()
    }

    pub(super) fn last_status(&self) -> u16 {
        self.responses.last().map_or(0, |response| response.status)
    }

    /// Our call to the peer, answered 200 with the tag `b` and acknowledged.
    pub(super) fn established(&mut self) -> SessionId {
        let id = self.user(|ua, now| ua.invite(now, call(0)).unwrap());
        let ok = reply(&self.last(Method::Invite), 200, "b");
        self.answer(&ok);
        id
    }
}

/// A response of the peer's with his tag and Contact.
pub(super) fn reply(request: &Request, status: u16, tag: &str) -> Response {
    let mut response = request.response(status, "Text");
    if status > 100 {
        let to = response.headers.to().unwrap();
        if to.tag().is_none() {
            response.headers.set("To", to.with_tag(tag).to_string());
        }
        response.headers.push("Contact", format!("<sip:{tag}@{}>", address(1)));
        if status < 300 && request.method == Method::Invite {
            response.headers.push("Content-Type", "application/sdp");
            response.body = body("sdp").bytes;
        }
    }
    response
}

/// A request of the peer's outside of any dialog.
pub(super) fn foreign(method: &str, branch: &str, extra: &str) -> String {
    format!(
        "{method} sip:us@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK{branch};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:peer@192.0.2.2>;tag=peer\r\nTo: <sip:us@192.0.2.1>\r\nCall-ID: foreign\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:peer@192.0.2.2:5060>\r\n{extra}Content-Length: 0\r\n\r\n"
    )
}

/// A request of the peer's inside the dialog that our `invite` and his tag `b` made.
pub(super) fn inside(invite: &Request, method: Method, cseq: u32) -> Request {
    let mut request = Request::new(method.clone(), invite.headers.contacts().unwrap()[0].uri.clone());
    let headers = &mut request.headers;
    headers.push("Via", format!("SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKpeer{cseq}{method};rport"));
    headers.push("Max-Forwards", "70");
    headers.push("From", invite.headers.to().unwrap().with_tag("b").to_string());
    headers.push("To", invite.headers.from().unwrap().to_string());
    headers.push("Call-ID", invite.headers.call_id().unwrap());
    headers.push("CSeq", format!("{cseq} {method}"));
    headers.push("Contact", "<sip:b@192.0.2.2:5060>");
    request
}
