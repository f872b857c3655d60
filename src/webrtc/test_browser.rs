//! For tests: the browser's side by an independent implementation (a full, controlling ICE agent), without sockets,
//! and a network in virtual time between it and a [`Transport`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::config::{DtlsVersion, Fingerprint as TheirFingerprint};
use str0m::ice::IceCreds;
use str0m::media::MediaKind;
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite, Ssrc};
use str0m::{Candidate, Event, Input, Output, Rtc};

use super::{Identity, Received, Transport, TransportEvent};
use crate::codec::Codec;
use crate::sdp::{AcceptedCodec, BrowserMedia, Direction, DtlsRole, Fingerprint, IceCredentials};

/// The payload type that both sides agreed on for Opus.
pub(crate) const OPUS: u8 = 111;
/// The SSRC with which the gateway sends.
pub(crate) const OUR_SSRC: u32 = 0x0A0B_0C0D;
/// The SSRC with which the browser sends.
pub(crate) const BROWSER_SSRC: u32 = 0x0102_0304;

/// A datagram: from, to, bytes.
pub(crate) type Datagram = (SocketAddr, SocketAddr, Vec<u8>);

/// One browser with one audio m-line.
pub(crate) struct Browser {
    pub rtc: Rtc,
    pub received: Vec<RtpPacket>,
    pub closed: bool,
    out: VecDeque<Datagram>,
    timeout: Instant,
    sequence: u64,
}

impl Browser {
    /// A browser at `address` that knows our candidate, credentials and fingerprint.
    pub fn new(
        now: Instant,
        address: SocketAddr,
        gateway: SocketAddr,
        local: &IceCredentials,
        fingerprint: &Fingerprint,
        role: DtlsRole,
        version: DtlsVersion,
    ) -> Self {
        let mut rtc = Rtc::builder().set_dtls_version(version).set_rtp_mode(true).clear_extension_map().build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        rtc.add_remote_candidate(Candidate::host(gateway, "udp").unwrap());
        let mut direct = rtc.direct_api();
        direct.set_remote_ice_credentials(IceCreds { ufrag: local.ufrag.clone(), pass: local.pwd.clone() });
        direct.set_remote_fingerprint(TheirFingerprint {
            hash_func: fingerprint.algorithm.clone(),
            bytes: fingerprint.digest.clone(),
        });
        direct.set_ice_controlling(true);
        direct.start_dtls(role == DtlsRole::Passive).unwrap();
        let mid = "0".into();
        direct.declare_media(mid, MediaKind::Audio);
        direct.declare_stream_tx(Ssrc::from(BROWSER_SSRC), None, mid, None);
        direct.expect_stream_rx(Ssrc::from(OUR_SSRC), None, mid, None);
        let (received, out) = (Vec::new(), VecDeque::new());
        let mut browser = Self { rtc, received, closed: false, out, timeout: now, sequence: 100 };
        browser.drain();
        browser
    }

    /// What our side's offer/answer would have agreed on.
    pub fn media(&mut self, local: &IceCredentials, role: DtlsRole) -> BrowserMedia {
        let direct = self.rtc.direct_api();
        let creds = direct.local_ice_credentials();
        let told = direct.local_dtls_fingerprint();
        BrowserMedia {
            local_ice: local.clone(),
            remote_ice: IceCredentials::new(creds.ufrag, creds.pass),
            fingerprints: vec![Fingerprint { algorithm: told.hash_func.clone(), digest: told.bytes.clone() }],
            dtls: role,
            ..media_named(&local.ufrag)
        }
    }

    /// Takes another SSRC of ours.
    pub fn expect(&mut self, ssrc: u32) {
        self.rtc.direct_api().expect_stream_rx(Ssrc::from(ssrc), None, "0".into(), None);
    }

    /// Takes a datagram.
    pub fn receive(&mut self, now: Instant, (from, to, bytes): &Datagram) {
        if let Ok(receive) = Receive::new(Protocol::Udp, *from, *to, bytes) {
            // A browser whose handshake fails says so by an error; the tests look at our side.
            let _ = self.rtc.handle_input(Input::Receive(now, receive));
            self.drain();
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = self.rtc.handle_input(Input::Timeout(now));
        self.drain();
    }

    /// When to do so next.
    pub fn poll_timeout(&self) -> Instant {
        self.timeout
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Datagram> {
        self.out.pop_front()
    }

    /// Sends one 20 ms packet of Opus.
    pub fn send_audio(&mut self, now: Instant, payload: &[u8]) {
        self.sequence += 1;
        let time = (self.sequence * 960) as u32;
        let mut direct = self.rtc.direct_api();
        let stream = direct.stream_tx(&Ssrc::from(BROWSER_SSRC)).unwrap();
        stream.write_rtp(RtpWrite::new(OPUS.into(), self.sequence.into(), time, now, payload));
        self.drain();
    }

    /// Closes the peer connection, as a page does that goes away.
    pub fn close(&mut self) {
        let _ = self.rtc.close();
        self.drain();
    }

    fn drain(&mut self) {
        while let Ok(output) = self.rtc.poll_output() {
            match output {
                Output::Timeout(at) => {
                    self.timeout = at;
                    return;
                }
                Output::Transmit(sent) => self.out.push_back((sent.source, sent.destination, sent.contents.to_vec())),
                Output::Event(Event::RtpPacket(packet)) => self.received.push(packet),
                Output::Event(Event::Closed) => self.closed = true,
                Output::Event(_) => {}
            }
        }
        self.timeout = self.timeout.max(self.timeout + Duration::from_millis(100));
    }
}

/// The credentials of our side in the tests.
pub(crate) fn our_credentials() -> IceCredentials {
    IceCredentials::new("Ring", "ring-back-password-22ch")
}

/// A browser's media as agreed with nobody in particular, but for our ufrag.
pub(crate) fn media_named(ufrag: &str) -> BrowserMedia {
    let opus = AcceptedCodec { payload_type: OPUS, codec: Codec::Opus };
    BrowserMedia {
        local_ice: IceCredentials { ufrag: ufrag.into(), ..our_credentials() },
        remote_ice: IceCredentials::new("them", "a-browser-password-22c"),
        fingerprints: vec![Fingerprint { algorithm: "sha-256".into(), digest: vec![0; 32] }],
        dtls: DtlsRole::Passive,
        send: opus,
        accepted: vec![opus],
        telephone_event: None,
        direction: Direction::SendRecv,
        ssrc: OUR_SSRC,
        cname: "gateway".into(),
        ptime: 20,
        opus_fec: true,
        opus_bitrate: None,
        red: None,
        mid_extension: None,
    }
}

/// A [`Transport`], a [`Browser`], and the network between them.
pub(crate) struct Network {
    pub now: Instant,
    pub transport: Transport,
    pub browser: Browser,
    pub events: Vec<TransportEvent>,
    /// Plain RTP that came out of the transport.
    pub rtp: Vec<Vec<u8>>,
    pub rtcp: usize,
    /// Whether a datagram is lost: its number, and whether the browser sent it.
    pub lose: Box<dyn FnMut(usize, bool) -> bool>,
    /// What became of the browser's address on its way (a NAT).
    pub translate: Box<dyn Fn(SocketAddr) -> SocketAddr>,
    pub gateway: SocketAddr,
    inside: SocketAddr,
    flying: VecDeque<(Instant, bool, Datagram)>,
    count: usize,
}

const DELAY: Duration = Duration::from_millis(5);

impl Network {
    /// Both sides as told, nothing sent yet. `edit` changes what our side believes was agreed.
    pub fn new(
        identity: &Identity,
        addresses: (&str, &str),
        role: DtlsRole,
        version: DtlsVersion,
        edit: impl FnOnce(&mut BrowserMedia),
    ) -> Self {
        #[allow(clippy::disallowed_methods)] // an anchor for virtual time
        let now = Instant::now();
        let gateway: SocketAddr = addresses.1.parse().unwrap();
        let local = our_credentials();
        let address = addresses.0.parse().unwrap();
        let mut browser = Browser::new(now, address, gateway, &local, &identity.fingerprint(), role, version);
        let mut media = browser.media(&local, role);
        edit(&mut media);
        let transport = Transport::new(identity, &media, now).unwrap();
        Self {
            now,
            transport,
            browser,
            events: Vec::new(),
            rtp: Vec::new(),
            rtcp: 0,
            lose: Box::new(|_, _| false),
            translate: Box::new(|address| address),
            gateway,
            inside: address,
            flying: VecDeque::new(),
            count: 0,
        }
    }

    /// Runs until `done` or for `limit` of virtual time; says whether it was `done`.
    pub fn run(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            self.collect();
            if done(self) {
                return true;
            }
            let arrival = self.flying.front().map(|(at, ..)| *at);
            let ours = self.transport.poll_timeout();
            let next = [arrival, ours, Some(self.browser.poll_timeout())].into_iter().flatten().min().unwrap();
            if next > end {
                self.now = end;
                return false;
            }
            // At least a little, so that a side that asks for "now" again and again does not stop time.
            self.now = next.max(self.now + Duration::from_micros(10));
            self.step();
        }
    }

    fn step(&mut self) {
        while self.flying.front().is_some_and(|(at, ..)| *at <= self.now) {
            let Some((_, to_us, datagram)) = self.flying.pop_front() else { break };
            if to_us {
                self.deliver(datagram.0, datagram.2);
            } else {
                self.browser.receive(self.now, &datagram);
            }
            self.collect();
        }
        if self.transport.poll_timeout().is_some_and(|at| at <= self.now) {
            self.transport.handle_timeout(self.now);
        }
        if self.browser.poll_timeout() <= self.now {
            self.browser.handle_timeout(self.now);
        }
    }

    /// Gives our side a datagram as if it had come from `source`.
    pub fn deliver(&mut self, source: SocketAddr, mut bytes: Vec<u8>) {
        match self.transport.handle_datagram(self.now, source, &mut bytes) {
            Received::Rtp(len) => self.rtp.push(bytes[..len].to_vec()),
            Received::Rtcp(_) => self.rtcp += 1,
            Received::Nothing => {}
        }
    }

    /// Sends one RTP packet of ours.
    pub fn send_audio(&mut self, sequence: u16, payload: &[u8]) {
        let mut buf = vec![0x80, OPUS, 0, 0, 0, 0, 0, 0];
        buf[2..4].copy_from_slice(&sequence.to_be_bytes());
        buf[4..8].copy_from_slice(&(u32::from(sequence) * 960).to_be_bytes());
        buf.extend(OUR_SSRC.to_be_bytes());
        buf.extend(payload);
        let plain = buf.len();
        buf.resize(plain + 16, 0);
        let (len, to) = self.transport.protect_rtp(&mut buf, plain).unwrap();
        self.fly(false, (self.gateway, to, buf[..len].to_vec()));
    }

    /// Takes what both sides have to send and say.
    pub fn collect(&mut self) {
        let mut buf = [0; 1500];
        while let Some((len, to)) = self.transport.poll_transmit(&mut buf) {
            self.fly(false, (self.gateway, to, buf[..len].to_vec()));
        }
        self.events.extend(std::iter::from_fn(|| self.transport.poll_event()));
        while let Some((from, to, bytes)) = self.browser.poll_transmit() {
            let from = (self.translate)(from);
            self.fly(true, (from, to, bytes));
        }
    }

    fn fly(&mut self, to_us: bool, mut datagram: Datagram) {
        self.count += 1;
        if (self.lose)(self.count, to_us) {
            return;
        }
        if !to_us {
            // Back through the NAT; what was sent to a mapping that is gone is lost.
            if datagram.1 != (self.translate)(self.inside) {
                return;
            }
            datagram.1 = self.inside;
        }
        self.flying.push_back((self.now + DELAY, to_us, datagram));
    }
}
