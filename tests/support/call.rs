//! One call through a [`Bridge`] in virtual time: an independent WebRTC implementation is the browser, plain RTP the trunk.
//! Work on the packet path is kept apart from everything around it, so that it alone can be measured.

#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringback::codec::opus::OpusSettings;
use ringback::codec::tone::amplitude;
use ringback::codec::{Codec, Decoder, Encoder, Rate};
use ringback::media::{Bridge, Means, Port};
use ringback::rtp::packet::{RtpHeader, RtpPacket};
use ringback::sdp::{
    AcceptedCodec, BrowserMedia, Direction, DtlsRole, Fingerprint, Hears, IceCredentials, LegMedia, LegPlan, MediaPlan,
    MediaReport, Pass, RtpMedia, RtpSlot, Side, TelephoneEvent,
};
use ringback::webrtc::{Identity, PacketKind, classify};
use str0m::ice::IceCreds;
use str0m::media::MediaKind;
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpWrite, Ssrc};
use str0m::{Candidate, Event, Input, Output, Rtc};

/// What the browser sends with.
pub const BROWSER_SSRC: u32 = 0x0102_0304;
const OUR_SSRC: u32 = 0x0a0b_0c0d;
/// What the browser says and what the trunk says.
pub const BROWSER_HZ: f32 = 440.0;
pub const TRUNK_HZ: f32 = 1_000.0;

/// The payloads of what a browser says, by the numbers of their 20 ms.
pub type Says = Box<dyn FnMut(u64) -> Vec<u8>>;

/// The call.
pub struct Call {
    pub bridge: Bridge,
    pub now: Instant,
    rtc: Rtc,
    rtc_timeout: Instant,
    browser: SocketAddr,
    gateway: SocketAddr,
    trunk: SocketAddr,
    codec: Codec,
    says: Says,
    trunk_hz: f32,
    frame: u64,
    /// Datagrams that the browser has sent and the bridge has not got yet.
    from_browser: Vec<Vec<u8>>,
    /// The media packets of the step that is next.
    step: Vec<(Port, SocketAddr, Vec<u8>)>,
    sent: Vec<(Port, usize, [u8; 700])>,
    pub reports: Vec<MediaReport>,
    pub heard_by_browser: Vec<Vec<u8>>,
    pub heard_by_trunk: Vec<Vec<u8>>,
}

impl Call {
    /// A connected call: the browser speaks `codec`, the trunk PCMU.
    pub fn connected(codec: Codec) -> Self {
        Self::connected_as(codec, Pass::Quality)
    }

    /// The same with a trunk whose G.711 is passed on as it comes, or not.
    pub fn connected_as(codec: Codec, pass: Pass) -> Self {
        let settings = OpusSettings { fec: Some(10), ..OpusSettings::default() };
        let mut encoder = Encoder::new(codec, Rate::Narrow, settings).expect("an encoder");
        let says = move |frame| {
            let mut payload = vec![0; 400];
            let len = encoder.encode(&sine(BROWSER_HZ, frame), &mut payload).expect("a packet");
            payload.truncate(len);
            payload
        };
        Self::connected_saying(codec, pass, Box::new(says))
    }

    /// The trunk sends silence.
    pub fn with_silent_trunk(mut self) -> Self {
        self.trunk_hz = 0.0;
        self
    }

    /// The same with what the browser says.
    pub fn connected_saying(codec: Codec, pass: Pass, says: Says) -> Self {
        let now = Instant::now();
        let identity = Identity::generate().expect("a certificate");
        let [browser, gateway, trunk] =
            ["192.0.2.1:5000", "192.0.2.9:3478", "192.0.2.2:4000"].map(|text| text.parse().expect("an address"));
        let local = IceCredentials { ufrag: "Ring".into(), pwd: "ring-back-password-22ch".into() };
        let mut rtc = browser_side(now, browser, gateway, &local, &identity.fingerprint());
        let plan = MediaPlan {
            a: Some(leg(LegMedia::Browser(browser_media(&mut rtc, local, codec)))),
            b: Some(leg(LegMedia::Rtp(RtpMedia { pass, ..trunk_media(trunk) }))),
        };
        let means = Means { identity: Some(identity), music: None };
        let bridge = Bridge::new(now, plan, &means, [3; 32]).expect("a bridge");
        let mut call = Self {
            bridge,
            now,
            rtc,
            rtc_timeout: now,
            browser,
            gateway,
            trunk,
            codec,
            says,
            trunk_hz: TRUNK_HZ,
            frame: 0,
            from_browser: Vec::new(),
            step: Vec::new(),
            sent: Vec::with_capacity(64),
            reports: Vec::new(),
            heard_by_browser: Vec::new(),
            heard_by_trunk: Vec::new(),
        };
        for _ in 0..1_000 {
            // However long the handshakes took, the packets of a call come half-way between the bridge's ticks.
            let in_phase = (call.now - now).as_millis() % 20 == 10;
            if in_phase
                && call.reports.iter().any(|report| matches!(report, MediaReport::Connected { side: Side::A, .. }))
            {
                return call;
            }
            call.now += Duration::from_millis(5);
            call.work();
            call.around();
        }
        panic!("the browser did not connect: {:?}", call.reports);
    }

    /// Makes the packets of the next 20 ms: one from each side.
    pub fn prepare(&mut self) {
        self.now += Duration::from_millis(20);
        self.around();
        let n = self.frame;
        self.frame += 1;
        let clock = u64::from(self.codec.clock_rate() / 50);
        let payload = (self.says)(n);
        let number = self.codec.static_payload_type().unwrap_or(111);
        let mut direct = self.rtc.direct_api();
        let stream = direct.stream_tx(&Ssrc::from(BROWSER_SSRC)).expect("a stream");
        let write = RtpWrite::new(number.into(), (n + 100).into(), (n * clock) as u32, self.now, &payload[..]);
        stream.write_rtp(write);
        self.drain_browser();
        for bytes in std::mem::take(&mut self.from_browser) {
            if matches!(classify(&bytes), PacketKind::Rtp) {
                self.step.push((Port::Browser, self.browser, bytes));
            } else {
                self.from_browser.push(bytes);
            }
        }
        let header =
            RtpHeader { payload_type: 0, sequence: n as u16, timestamp: n as u32 * 160, ssrc: 7, marker: n == 0 };
        let mut bytes = vec![0; 172];
        header.write(&mut bytes).expect("room");
        let samples = sine(self.trunk_hz, n);
        ringback::codec::g711::Law::Mu.encode(&samples, &mut bytes[12..]);
        self.step.push((Port::Rtp(RtpSlot(0)), self.trunk, bytes));
    }

    /// The packet path and nothing else: datagrams in, time, datagrams out.
    pub fn work(&mut self) {
        for (port, source, bytes) in &mut self.step {
            self.bridge.handle_datagram(self.now, *port, *source, bytes);
        }
        while self.bridge.poll_timeout().is_some_and(|at| at <= self.now) {
            self.bridge.handle_timeout(self.now);
        }
        let mut buf = [0; 1_500];
        while let Some(transmit) = self.bridge.poll_transmit(&mut buf) {
            let mut kept = [0; 700];
            let len = transmit.len.min(700);
            kept[..len].copy_from_slice(&buf[..len]);
            if transmit.len <= 700 {
                self.sent.push((transmit.port, len, kept));
            } else {
                self.give_browser(&buf[..transmit.len]);
            }
        }
    }

    /// Everything else: the browser's own life, checks and handshakes, and the ears at both ends.
    pub fn around(&mut self) {
        self.step.clear();
        for (port, len, bytes) in std::mem::take(&mut self.sent) {
            let bytes = &bytes[..len];
            match port {
                Port::Browser => self.give_browser(bytes),
                Port::Rtp(_) => {
                    self.heard_by_trunk.push(RtpPacket::parse(bytes).expect("RTP").payload.to_vec());
                }
                Port::Rtcp(_) => {}
            }
        }
        self.sent.reserve(64);
        self.reports.extend(std::iter::from_fn(|| self.bridge.poll_report()));
        if self.rtc_timeout <= self.now {
            let _ = self.rtc.handle_input(Input::Timeout(self.now));
        }
        self.drain_browser();
        for mut bytes in std::mem::take(&mut self.from_browser) {
            self.bridge.handle_datagram(self.now, Port::Browser, self.browser, &mut bytes);
        }
    }

    fn give_browser(&mut self, bytes: &[u8]) {
        if let Ok(receive) = Receive::new(Protocol::Udp, self.gateway, self.browser, bytes) {
            let _ = self.rtc.handle_input(Input::Receive(self.now, receive));
            self.drain_browser();
        }
    }

    fn drain_browser(&mut self) {
        while let Ok(output) = self.rtc.poll_output() {
            match output {
                Output::Timeout(at) => {
                    self.rtc_timeout = at;
                    return;
                }
                Output::Transmit(sent) => self.from_browser.push(sent.contents.to_vec()),
                Output::Event(Event::RtpPacket(packet)) => self.heard_by_browser.push(packet.payload.to_vec()),
                Output::Event(_) => {}
            }
        }
    }

    /// Forgets what was heard so far.
    pub fn forget(&mut self) {
        self.heard_by_browser.clear();
        self.heard_by_trunk.clear();
    }

    /// The level of the other side's tone at the trunk and at the browser.
    pub fn levels(&self) -> (f32, f32) {
        let level = |packets: &[Vec<u8>], codec, hz| {
            let mut decoder = Decoder::new(codec, Rate::Narrow).expect("a decoder");
            let mut pcm = [0; 960];
            let heard: Vec<i16> = packets
                .iter()
                .flat_map(|packet| {
                    let len = decoder.decode(packet, &mut pcm).unwrap_or(0);
                    pcm[..len].to_vec()
                })
                .collect();
            amplitude(heard.get(1_600..).unwrap_or_default(), 8_000, hz)
        };
        (level(&self.heard_by_trunk, Codec::Pcmu, BROWSER_HZ), level(&self.heard_by_browser, self.codec, TRUNK_HZ))
    }
}

fn sine(hz: f32, frame: u64) -> [i16; 160] {
    std::array::from_fn(|n| {
        let time = (frame * 160 + n as u64) as f64 / 8_000.0;
        (((time * f64::from(hz)).fract() * std::f64::consts::TAU).sin() * 8_000.0) as i16
    })
}

/// An independent browser's side of a call with the gateway at `gateway`, whose ICE credentials and certificate are `ice` and `ours`.
pub fn browser_side(
    now: Instant,
    browser: SocketAddr,
    gateway: SocketAddr,
    ice: &IceCredentials,
    ours: &Fingerprint,
) -> Rtc {
    let mut rtc = Rtc::builder().enable_pcmu(true, false).set_rtp_mode(true).clear_extension_map().build(now);
    rtc.add_local_candidate(Candidate::host(browser, "udp").expect("a candidate"));
    rtc.add_remote_candidate(Candidate::host(gateway, "udp").expect("a candidate"));
    let mut direct = rtc.direct_api();
    direct.set_remote_ice_credentials(IceCreds { ufrag: ice.ufrag.clone(), pass: ice.pwd.clone() });
    direct.set_remote_fingerprint(str0m::config::Fingerprint {
        hash_func: ours.algorithm.clone(),
        bytes: ours.digest.clone(),
    });
    direct.set_ice_controlling(true);
    direct.start_dtls(true).expect("DTLS");
    direct.declare_media("0".into(), MediaKind::Audio);
    direct.declare_stream_tx(Ssrc::from(BROWSER_SSRC), None, "0".into(), None);
    direct.expect_stream_rx(Ssrc::from(OUR_SSRC), None, "0".into(), None);
    rtc
}

/// Our leg to that browser.
pub fn browser_media(rtc: &mut Rtc, local_ice: IceCredentials, codec: Codec) -> BrowserMedia {
    let direct = rtc.direct_api();
    let ice = direct.local_ice_credentials();
    let certificate = direct.local_dtls_fingerprint();
    let send = AcceptedCodec { payload_type: codec.static_payload_type().unwrap_or(111), codec };
    BrowserMedia {
        local_ice,
        remote_ice: IceCredentials { ufrag: ice.ufrag, pwd: ice.pass },
        fingerprints: vec![Fingerprint { algorithm: certificate.hash_func.clone(), digest: certificate.bytes.clone() }],
        dtls: DtlsRole::Passive,
        send,
        accepted: vec![send],
        telephone_event: Some(TelephoneEvent { payload_type: 110, clock_rate: codec.clock_rate() }),
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

/// A leg that hears the other party.
pub fn leg(media: LegMedia) -> LegPlan {
    LegPlan { media, hears: Hears::Peer }
}

/// Our leg to a trunk that speaks PCMU.
pub fn trunk_media(trunk: SocketAddr) -> RtpMedia {
    let send = AcceptedCodec { payload_type: 0, codec: Codec::Pcmu };
    RtpMedia {
        telephone_event: Some(TelephoneEvent { payload_type: 101, clock_rate: 8_000 }),
        ..RtpMedia::new(trunk, send, 0x2222)
    }
}
