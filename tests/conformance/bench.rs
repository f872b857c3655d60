//! A user agent in virtual time, and a peer that says exactly what a table wants.

use std::time::{Duration, Instant};

use ringback::sip::{
    Body, Credentials, Flow, Invite, Message, Method, NameAddr, Request, Response, SessionId, SessionOptions,
    Transport, UaConfig, UaEvent, UaOutput, UserAgent,
};

use crate::answers::flow;

/// See the module.
pub struct Bench {
    pub ua: UserAgent,
    pub now: Instant,
    /// What the user agent sent, in order.
    pub requests: Vec<(Flow, Request)>,
    pub responses: Vec<Response>,
    pub events: Vec<UaEvent>,
    cseq: u32,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with(config())
    }

    pub fn with(config: UaConfig) -> Bench {
        let ua = UserAgent::new(config, [3; 32]);
        Bench { ua, now: Instant::now(), requests: Vec::new(), responses: Vec::new(), events: Vec::new(), cseq: 10 }
    }

    fn drain(&mut self) {
        while let Some(output) = self.ua.poll_output() {
            match output {
                UaOutput::Transmit { flow, bytes } => match Message::parse(&bytes).unwrap() {
                    Message::Request(request) => self.requests.push((flow, request)),
                    Message::Response(response) => self.responses.push(response),
                },
                UaOutput::Event(event) => self.events.push(event),
            }
        }
    }

    /// The peer asks; gives the final response to it, if there is one yet.
    pub fn ask(&mut self, request: &Request) -> Option<Response> {
        let before = self.responses.len();
        self.ua.handle_datagram(self.now, flow(Transport::Udp), &request.to_bytes());
        self.drain();
        self.responses[before..].iter().find(|response| response.status >= 200).cloned()
    }

    /// The peer answers.
    pub fn answer(&mut self, response: &Response) {
        self.ua.handle_datagram(self.now, flow(Transport::Udp), &response.to_bytes());
        self.drain();
    }

    /// The peer answers the last request of this method.
    pub fn reply(&mut self, method: Method, status: u16, headers: &[(&str, &str)]) {
        let mut response = reply(&self.last(method), status);
        headers.iter().for_each(|(name, value)| response.headers.push(*name, *value));
        self.answer(&response);
    }

    /// Our user wishes something.
    pub fn user<T>(&mut self, wish: impl FnOnce(&mut UserAgent, Instant) -> T) -> T {
        let result = wish(&mut self.ua, self.now);
        self.drain();
        result
    }

    /// Time passes, with every timer at its moment.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.ua.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.ua.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// The last request of this method that was sent.
    pub fn last(&self, method: Method) -> Request {
        self.requests.iter().rfind(|(_, request)| request.method == method).expect("a request").1.clone()
    }

    /// How many requests of this method were sent, retransmissions not counted.
    pub fn count(&self, method: Method) -> usize {
        let cseqs = self.requests.iter().filter(|(_, it)| it.method == method).map(|(_, it)| it.headers.get("CSeq"));
        cseqs.collect::<std::collections::BTreeSet<_>>().len()
    }

    /// What has happened since this was asked last.
    pub fn news(&mut self) -> Vec<UaEvent> {
        std::mem::take(&mut self.events)
    }

    /// Our call to the peer, answered.
    pub fn established(&mut self) -> SessionId {
        self.established_with(None)
    }

    pub fn established_with(&mut self, credentials: Option<Credentials>) -> SessionId {
        let id = self.user(|ua, now| ua.invite(now, Invite { credentials, ..call() }).unwrap());
        self.reply(Method::Invite, 200, &[]);
        self.events.clear();
        id
    }

    /// A request of the peer's inside the dialog of our last INVITE.
    pub fn inside(&mut self, method: Method) -> Request {
        self.cseq += 1;
        let invite = self.last(Method::Invite);
        let to = invite.headers.to().unwrap().with_tag("b").to_string();
        let target = invite.headers.contacts().unwrap()[0].uri.clone();
        let mut request = Request::new(method, target);
        let (cseq, from) = (self.cseq, invite.headers.from().unwrap().to_string());
        let headers = &mut request.headers;
        headers.push("Via", format!("SIP/2.0/UDP 198.51.100.2:5060;branch=z9hG4bKpeer{cseq};rport"));
        headers.push("Max-Forwards", "70");
        headers.push("From", to);
        headers.push("To", from);
        headers.push("Call-ID", invite.headers.call_id().unwrap());
        headers.push("CSeq", format!("{cseq} {}", request.method));
        request.headers.push("Contact", "<sip:b@198.51.100.2:5060>");
        request
    }

    /// A request of the peer's outside of any dialog.
    pub fn outside(&mut self, method: Method) -> Request {
        self.cseq += 1;
        let cseq = self.cseq;
        let mut request = Request::new(method, "sip:us@198.51.100.1".parse().unwrap());
        let headers = &mut request.headers;
        headers.push("Via", format!("SIP/2.0/UDP 198.51.100.2:5060;branch=z9hG4bKout{cseq};rport"));
        headers.push("Max-Forwards", "70");
        headers.push("From", format!("<sip:peer@198.51.100.2>;tag=p{cseq}"));
        headers.push("To", "<sip:us@198.51.100.1>");
        headers.push("Call-ID", format!("out{cseq}"));
        headers.push("CSeq", format!("{cseq} {}", request.method));
        request.headers.push("Contact", "<sip:peer@198.51.100.2:5060>");
        request
    }

    /// Everything ends and nothing is left.
    pub fn check_empty(&mut self) {
        self.pass(Duration::from_secs(200));
        assert_eq!((self.ua.session_count(), self.ua.transaction_count()), (0, 0), "{:?}", self.events);
        assert_eq!(self.ua.poll_timeout(), None);
    }
}

pub fn config() -> UaConfig {
    UaConfig {
        user_agent: "Ringback".into(),
        timers: ringback::sip::Timers::default(),
        max_sessions: 10,
        max_transactions: 100,
        registrar: false,
        advertise: Vec::new(),
    }
}

pub fn name(text: &str) -> NameAddr {
    text.parse().unwrap()
}

pub fn sdp() -> Body {
    Body { content_type: "application/sdp".into(), bytes: b"v=0\r\n".to_vec() }
}

/// A call of ours to the peer.
pub fn call() -> Invite {
    Invite {
        flow: flow(Transport::Udp),
        request_uri: name("<sip:b@198.51.100.2>").uri,
        from: name("<sip:us@198.51.100.1>"),
        to: name("<sip:b@198.51.100.2>"),
        contact_user: Some("us".into()),
        headers: Vec::new(),
        body: Some(sdp()),
        credentials: None,
        options: SessionOptions::default(),
    }
}

/// A response of the peer's, with his tag `b` and Contact.
pub fn reply(request: &Request, status: u16) -> Response {
    let mut response = request.response(status, "Text");
    let to = response.headers.to().unwrap();
    if status > 100 && to.tag().is_none() {
        response.headers.set("To", to.with_tag("b").to_string());
    }
    response.headers.push("Contact", "<sip:b@198.51.100.2:5060>");
    if status == 200 && request.method == Method::Invite {
        response.headers.push("Content-Type", "application/sdp");
        response.body = sdp().bytes;
    }
    response
}
