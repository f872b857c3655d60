//! A caller in virtual time: a user agent of the gateway's kind, and its media.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::codec::Codec;
use crate::codec::g711::Law;
use crate::rtp::packet::{HEADER_LEN, RtpHeader, RtpPacket};
use crate::sdp::{Direction, RtpMedia, TrunkLocal, trunk};
use crate::sip::{
    Body, Flow, Host, Invite, NameAddr, Params, SessionId, SessionOptions, Timers, Transport, UaConfig, UaEvent,
    UaOutput, Uri, UserAgent,
};
use crate::testphone::{CallId, Output, Phone, PhoneConfig};

pub const PHONE: &str = "127.0.0.1:5070";
pub const GATEWAY: &str = "127.0.0.1:5060";
pub const RTP: &str = "127.0.0.1:7000";

/// One RTP packet that the phone sent.
pub struct Heard {
    pub at: Instant,
    pub header: RtpHeader,
    pub pcm: Vec<i16>,
}

pub struct Bench {
    pub now: Instant,
    pub phone: Phone,
    pub caller: UserAgent,
    pub events: Vec<UaEvent>,
    pub heard: Vec<Heard>,
    pub reports: usize,
    pub open: BTreeSet<CallId>,
    /// Whether the phone gets ports.
    pub ports: bool,
    sequence: u16,
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn flow() -> Flow {
    Flow { transport: Transport::Udp, local: address(GATEWAY), remote: address(PHONE), id: 0 }
}

/// The caller's side of the description.
pub fn local(direction: Direction, version: u64) -> TrunkLocal {
    TrunkLocal {
        session_id: 9,
        version,
        codecs: vec![Codec::Pcma, Codec::Pcmu],
        direction,
        ..TrunkLocal::new(address(RTP), 42)
    }
}

pub fn offer(direction: Direction, version: u64) -> Body {
    let text = trunk::offer(&local(direction, version));
    Body { content_type: "application/sdp".into(), bytes: text.into_bytes() }
}

pub fn caller(max_sessions: usize) -> UserAgent {
    let config = UaConfig {
        user_agent: String::new(),
        timers: Timers::default(),
        max_sessions,
        max_transactions: 1_000,
        registrar: false,
        advertise: Vec::new(),
    };
    UserAgent::new(config, [1; 32])
}

/// An INVITE to a number of the phone at `to`, from the user "alice".
pub fn invite(flow: Flow, number: &str, body: Option<Body>) -> Invite {
    let at = |user, address: SocketAddr| NameAddr {
        display: None,
        uri: Uri::sip(Some(user), Host::from(address.ip()), Some(address.port())).unwrap(),
        params: Params::new(),
    };
    let to = at(number, flow.remote);
    Invite {
        flow,
        request_uri: to.uri.clone(),
        from: at("alice", flow.local),
        to,
        contact_user: None,
        headers: Vec::new(),
        body,
        credentials: None,
        options: SessionOptions::default(),
    }
}

impl Bench {
    pub fn new() -> Bench {
        let config = PhoneConfig { sip: address(PHONE), gateway: address(GATEWAY), canary: None };
        Bench {
            now: Instant::now(),
            phone: Phone::new(config, [7; 32]),
            caller: caller(200),
            events: Vec::new(),
            heard: Vec::new(),
            reports: 0,
            open: BTreeSet::new(),
            ports: true,
            sequence: 0,
        }
    }

    /// Calls a number and lets the first messages pass.
    pub fn call(&mut self, number: &str) -> SessionId {
        let session =
            self.caller.invite(self.now, invite(flow(), number, Some(offer(Direction::SendRecv, 1)))).unwrap();
        self.exchange();
        session
    }

    /// Lets `ms` milliseconds pass.
    pub fn run(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        loop {
            self.exchange();
            let due = self.phone.poll_timeout().into_iter().chain(self.caller.poll_timeout()).min();
            match due.filter(|due| *due < end) {
                Some(due) => self.now = self.now.max(due),
                None => break,
            }
            self.phone.handle_timeout(self.now);
            self.caller.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// Delivers everything until nobody has anything to say.
    pub fn exchange(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(output) = self.caller.poll_output() {
                quiet = false;
                match output {
                    UaOutput::Transmit { bytes, .. } => self.phone.handle_sip(self.now, address(GATEWAY), &bytes),
                    UaOutput::Event(event) => self.events.push(event),
                }
            }
            while let Some(output) = self.phone.poll_output() {
                quiet = false;
                self.deliver(output);
            }
            if quiet {
                return;
            }
        }
    }

    fn deliver(&mut self, output: Output) {
        match output {
            Output::Sip { to, bytes } => {
                assert_eq!(to, address(GATEWAY));
                self.caller.handle_datagram(self.now, flow(), &bytes);
            }
            Output::Open { call } => {
                if self.ports {
                    assert!(self.open.insert(call), "opened once");
                }
                let rtp = SocketAddr::from(([127, 0, 0, 1], 8_000 + 2 * call.0 as u16));
                self.phone.opened(self.now, call, self.ports.then_some(rtp));
            }
            Output::Close { call } => assert!(self.open.remove(&call), "closed once"),
            Output::Rtp { call, to, bytes } => {
                assert!(self.open.contains(&call));
                assert_eq!(to, address(RTP));
                let packet = RtpPacket::parse(&bytes).unwrap();
                let mut pcm = vec![0; packet.payload.len()];
                assert_eq!(packet.header.payload_type, 8, "A-law is what the caller offers first");
                Law::A.decode(packet.payload, &mut pcm);
                self.heard.push(Heard { at: self.now, header: packet.header, pcm });
            }
            Output::Rtcp { call, to, .. } => {
                assert!(self.open.contains(&call));
                assert_eq!(to.port(), address(RTP).port() + 1);
                self.reports += 1;
            }
        }
    }

    /// Sends one RTP packet to the only call there is.
    pub fn send(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let mut bytes = vec![0; HEADER_LEN];
        let header = RtpHeader { marker: false, payload_type, sequence: self.sequence, timestamp, ssrc: 42 };
        header.write(&mut bytes).unwrap();
        bytes.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        let call = *self.open.first().unwrap();
        self.phone.handle_rtp(self.now, call, address(RTP), &bytes);
    }

    /// Everything heard since the last time, joined.
    pub fn audio(&mut self) -> Vec<i16> {
        self.heard.drain(..).flat_map(|heard| heard.pcm).collect()
    }

    /// The status and description of the provisional responses.
    pub fn provisionals(&self) -> Vec<(u16, Option<Body>)> {
        let provisional = |event: &UaEvent| match event {
            UaEvent::Provisional { status, body, .. } => Some((*status, body.clone())),
            _ => None,
        };
        self.events.iter().filter_map(provisional).collect()
    }

    /// True once the call has been answered.
    pub fn answered(&self) -> bool {
        self.events.iter().any(|event| matches!(event, UaEvent::Answered { .. }))
    }

    /// The description in the answer, if the call was answered.
    pub fn answer(&self) -> Option<Body> {
        self.events.iter().find_map(|event| match event {
            UaEvent::Answered { body, .. } => body.clone(),
            _ => None,
        })
    }

    /// The negotiated media of an answered call.
    pub fn media(&self) -> RtpMedia {
        trunk::read_answer(&local(Direction::SendRecv, 1), &self.answer().unwrap().bytes).unwrap()
    }

    /// The status with which the call failed, if it did.
    pub fn failure(&self) -> Option<u16> {
        self.events.iter().find_map(|event| match event {
            UaEvent::Failed { status, .. } => Some(*status),
            _ => None,
        })
    }

    /// Asserts that nothing of any call is left on either side.
    pub fn assert_over(&self) {
        assert!(self.phone.is_idle());
        assert!(self.open.is_empty());
        assert_eq!(self.caller.session_count(), 0);
    }
}
