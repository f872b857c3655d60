#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
//! A whole bridge in virtual time: plain RTP stands in for the browser's transport.

mod cost;
mod digits;
mod effort;
mod hold;
mod network;
mod plans;
mod playout;
mod redundant;
mod relay;
mod sides;
mod sound;
mod transport;
mod verdict;
mod wideband;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Bridge, Means, Port};
use crate::codec::g711::Law;
use crate::codec::opus::{OpusEncoder, OpusSettings};
use crate::codec::tone::{amplitude, detect_dtmf, rms};
use crate::codec::{Codec, Decoder, Rate};
use crate::rtp::event::{EventReceiver, EventSender, EventStep, EventUpdate, char_event, event_char};
use crate::rtp::packet::{RtpHeader, RtpPacket};
use crate::rtp::rtcp::{self, Compound, ReportBlock, RtcpItem, SenderInfo};
use crate::sdp::{
    AcceptedCodec, BrowserMedia, CallQuality, Direction, DtlsRole, Hears, IceCredentials, InBand, LegMedia, LegPlan,
    MediaLoss, MediaPlan, MediaReport, Network, NoAudio, Pass, RtpMedia, RtpSlot, Side, TelephoneEvent, Tone,
};

const BROWSER_SSRC: u32 = 0xb0b0;
const TRUNK_SSRC: u32 = 0x7070;
const TRUNK_RTP: Port = Port::Rtp(RtpSlot(0));
const TRUNK_RTCP: Port = Port::Rtcp(RtpSlot(0));

fn address(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], port))
}

fn browser_address() -> SocketAddr {
    address(1, 5_000)
}

fn trunk_address() -> SocketAddr {
    address(2, 4_000)
}

fn accepted(payload_type: u8, codec: Codec) -> AcceptedCodec {
    AcceptedCodec { payload_type, codec }
}

fn browser_media(codec: Codec) -> BrowserMedia {
    let send = accepted(codec.static_payload_type().unwrap_or(111), codec);
    let ice = || IceCredentials::new("abcd", "0123456789012345678901");
    BrowserMedia {
        local_ice: ice(),
        remote_ice: ice(),
        fingerprints: Vec::new(),
        dtls: DtlsRole::Passive,
        send,
        accepted: vec![send],
        telephone_event: Some(TelephoneEvent { payload_type: 110, clock_rate: codec.clock_rate() }),
        direction: Direction::SendRecv,
        ssrc: 0x1111,
        cname: "ringback".into(),
        ptime: 20,
        opus_fec: true,
        opus_bitrate: None,
        red: None,
        mid_extension: None,
    }
}

fn trunk_media(codec: Codec) -> RtpMedia {
    let send = accepted(codec.static_payload_type().unwrap(), codec);
    RtpMedia {
        sources: vec![Network::from(address(3, 0).ip())],
        accepted: vec![accepted(0, Codec::Pcmu), accepted(8, Codec::Pcma)],
        telephone_event: Some(TelephoneEvent { payload_type: 101, clock_rate: 8_000 }),
        ..RtpMedia::new(trunk_address(), send, 0x2222)
    }
}

fn leg(media: LegMedia, hears: Hears) -> Option<LegPlan> {
    Some(LegPlan { media, hears })
}

/// A browser that called a trunk.
fn plan(browser: Codec, trunk: Codec) -> MediaPlan {
    MediaPlan {
        a: leg(LegMedia::Browser(browser_media(browser)), Hears::Peer),
        b: leg(LegMedia::Rtp(trunk_media(trunk)), Hears::Peer),
    }
}

/// The same while the trunk rings.
fn early_plan(tone: Tone) -> MediaPlan {
    let mut plan = plan(Codec::Opus, Codec::Pcmu);
    plan.a.as_mut().unwrap().hears = Hears::PeerOr(tone);
    plan.b.as_mut().unwrap().hears = Hears::Nothing;
    plan
}

/// The trunk's media in a plan, to be changed.
fn trunk_of(plan: &mut MediaPlan) -> &mut RtpMedia {
    match &mut plan.b.as_mut().unwrap().media {
        LegMedia::Rtp(media) => media,
        LegMedia::Browser(_) => panic!("the trunk is a browser"),
    }
}

/// A packet that the bridge sent: when, and what.
#[derive(Debug, Clone)]
struct Sent {
    at: Duration,
    to: SocketAddr,
    header: RtpHeader,
    /// Whether it has a header extension.
    extended: bool,
    payload: Vec<u8>,
}

impl Sent {
    fn read(at: Duration, to: SocketAddr, bytes: &[u8]) -> Sent {
        let packet = RtpPacket::parse(bytes).unwrap();
        Sent { at, to, header: packet.header, extended: bytes[0] & 0x10 != 0, payload: packet.payload.to_vec() }
    }
}

/// A verdict: when in milliseconds, whose sound, where it ends and why.
type Told = (u64, Side, Option<(Side, NoAudio)>);

/// A bridge and what came out of it. Time moves in milliseconds.
struct Lab {
    bridge: Bridge,
    start: Instant,
    now: Instant,
    plan: MediaPlan,
    to_browser: Vec<Sent>,
    to_trunk: Vec<Sent>,
    rtcp: Vec<(Duration, Port, SocketAddr, Vec<u8>)>,
    reports: Vec<MediaReport>,
    /// Reports of quality, and verdicts: when in milliseconds, whose sound, where it ends and why.
    qualities: Vec<CallQuality>,
    verdicts: Vec<Told>,
}

impl Lab {
    fn new(plan: MediaPlan) -> Self {
        let start = Instant::now();
        let bridge = Bridge::plain(start, plan.clone(), [browser_address(), address(6, 5_000)]);
        Self::of(bridge, start, plan)
    }

    fn of(bridge: Bridge, start: Instant, plan: MediaPlan) -> Self {
        let (to_browser, to_trunk, rtcp, reports) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (qualities, verdicts) = (Vec::new(), Vec::new());
        Self { bridge, start, now: start, plan, to_browser, to_trunk, rtcp, reports, qualities, verdicts }
    }

    fn update(&mut self, change: impl FnOnce(&mut MediaPlan)) {
        change(&mut self.plan);
        self.bridge.update(self.now, self.plan.clone());
        self.drain();
    }

    fn drain(&mut self) {
        let at = self.now - self.start;
        let mut buf = [0; 1_500];
        while let Some(transmit) = self.bridge.poll_transmit(&mut buf) {
            let bytes = &buf[..transmit.len];
            if matches!(transmit.port, Port::Rtcp(_)) || (192..=223).contains(&bytes[1]) {
                self.rtcp.push((at, transmit.port, transmit.to, bytes.to_vec()));
                continue;
            }
            let sent = Sent::read(at, transmit.to, bytes);
            match transmit.port {
                Port::Browser => self.to_browser.push(sent),
                _ => self.to_trunk.push(sent),
            }
        }
        while let Some(report) = self.bridge.poll_report() {
            match report {
                MediaReport::Quality(quality) => self.qualities.push(quality),
                MediaReport::Audio { from, verdict } => {
                    let verdict = verdict.map(|verdict| (verdict.at, verdict.cause));
                    self.verdicts.push((at.as_millis() as u64, from, verdict));
                }
                report => self.reports.push(report),
            }
        }
    }

    /// Lets time pass up to `ms` after the start, waking the bridge only when it asks for it.
    fn run_to(&mut self, ms: u64) {
        let end = self.start + Duration::from_millis(ms);
        while let Some(next) = self.bridge.poll_timeout().filter(|next| *next <= end) {
            assert!(next >= self.now || self.now - next < Duration::from_millis(21), "a timer in the past");
            self.now = self.now.max(next);
            self.bridge.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn rtp(&mut self, port: Port, source: SocketAddr, header: RtpHeader, payload: &[u8]) {
        let mut bytes = vec![0; 12 + payload.len()];
        header.write(&mut bytes).unwrap();
        bytes[12..].copy_from_slice(payload);
        self.bridge.handle_datagram(self.now, port, source, &mut bytes);
        self.drain();
    }

    fn browser_says(&mut self, payload_type: u8, sequence: u16, timestamp: u32, payload: &[u8]) {
        let header = RtpHeader { marker: false, payload_type, sequence, timestamp, ssrc: BROWSER_SSRC };
        self.rtp(Port::Browser, browser_address(), header, payload);
    }

    fn trunk_says(&mut self, payload_type: u8, sequence: u16, timestamp: u32, payload: &[u8]) {
        let header = RtpHeader { marker: false, payload_type, sequence, timestamp, ssrc: TRUNK_SSRC };
        self.rtp(TRUNK_RTP, trunk_address(), header, payload);
    }

    fn trunk_pcm(&self) -> Vec<i16> {
        hear(&self.to_trunk, Codec::Pcmu)
    }

    fn browser_pcm(&self) -> Vec<i16> {
        self.browser_pcm_of(Codec::Opus)
    }

    fn browser_pcm_of(&self, codec: Codec) -> Vec<i16> {
        hear(&self.to_browser, codec)
    }

    fn digits(&self) -> Vec<(Side, char, u16)> {
        let digit = |report: &MediaReport| match report {
            MediaReport::Digit { from, digit, ms } => Some((*from, *digit, *ms)),
            _ => None,
        };
        self.reports.iter().filter_map(digit).collect()
    }
}

/// What a peer hears that plays packets one after the other.
fn hear(sent: &[Sent], codec: Codec) -> Vec<i16> {
    let mut decoder = Decoder::new(codec, Rate::Narrow).unwrap();
    let mut heard = Vec::new();
    let mut pcm = [0; 960];
    for packet in sent.iter().filter(|p| ![101, 110].contains(&p.header.payload_type)) {
        let len = decoder.decode(&packet.payload, &mut pcm).unwrap();
        heard.extend_from_slice(&pcm[..len]);
    }
    heard
}

fn sine(hz: f32, start: usize, len: usize) -> Vec<i16> {
    (start..start + len).map(|n| (8_000.0 * (std::f32::consts::TAU * hz * n as f32 / 8_000.0).sin()) as i16).collect()
}

fn companded(law: Law, pcm: &[i16]) -> Vec<u8> {
    pcm.iter().map(|s| law.encode_sample(*s)).collect()
}

/// A browser that says a tone, packet by packet.
struct Tongue {
    encoder: OpusEncoder,
    hz: f32,
}

impl Tongue {
    fn new(hz: f32) -> Self {
        let settings = OpusSettings { fec: Some(20), ..OpusSettings::default() };
        Self { encoder: OpusEncoder::new(Rate::Narrow, settings).unwrap(), hz }
    }

    fn packet(&mut self, n: usize) -> Vec<u8> {
        let mut packet = vec![0; 400];
        let len = self.encoder.encode(&sine(self.hz, n * 160, 160), &mut packet).unwrap();
        packet.truncate(len);
        packet
    }
}

/// Both sides speak for `packets` x 20 ms: the browser 440 Hz by Opus, the trunk 1000 Hz by PCMU, each with its phase.
/// `lost(n)` says what the network swallows. Sequence numbers and timestamps wrap on the way.
fn converse(lab: &mut Lab, packets: usize, mut lost: impl FnMut(usize) -> bool) {
    let mut tongue = Tongue::new(440.0);
    let begin = (lab.now - lab.start).as_millis() as u64;
    for n in 0..packets {
        let at = begin + n as u64 * 20;
        lab.run_to(at);
        let packet = tongue.packet(n);
        if !lost(n) {
            let timestamp = (u32::MAX - 48_000).wrapping_add(n as u32 * 960);
            lab.browser_says(111, 65_500_u16.wrapping_add(n as u16), timestamp, &packet);
        }
        lab.run_to(at + 7);
        if !lost(n) {
            let payload = companded(Law::Mu, &sine(1_000.0, n * 160, 160));
            lab.trunk_says(
                0,
                65_400_u16.wrapping_add(n as u16),
                (u32::MAX - 8_000).wrapping_add(n as u32 * 160),
                &payload,
            );
        }
    }
    lab.run_to(begin + packets as u64 * 20);
}

/// What was passed on of packets of 20 ms is numbered and timed by which they are: what is missing is a gap in both.
fn assert_gaps_stand(passed: &[Sent], which: impl Fn(&Sent) -> Option<usize>, clock_per_ms: u32) {
    for packet in passed {
        let n = which(packet).unwrap();
        assert_eq!(usize::from(packet.header.sequence.wrapping_sub(passed[0].header.sequence)), n);
        assert_eq!(packet.header.timestamp.wrapping_sub(passed[0].header.timestamp), n as u32 * 20 * clock_per_ms);
    }
}

/// Timestamps stand exactly for the time sent, and no number is left out.
fn assert_exact_time_line(sent: &[Sent], clock_per_ms: u32) {
    assert_time_line(sent, clock_per_ms, 0);
}

/// The same, but they may be ahead by so many milliseconds: what is passed on begins behind the end of what was sent.
fn assert_time_line(sent: &[Sent], clock_per_ms: u32, ahead_ms: u64) {
    let first = &sent[0];
    for packet in sent {
        let media = u64::from(packet.header.timestamp.wrapping_sub(first.header.timestamp)) * 1_000;
        let time = (packet.at - first.at).as_micros() as u64 * u64::from(clock_per_ms);
        let latest = time + ahead_ms * 1_000 * u64::from(clock_per_ms);
        assert!((time..=latest).contains(&media), "{media} for {time} at {:?}", packet.at);
    }
    for pair in sent.windows(2) {
        assert_eq!(pair[1].header.sequence, pair[0].header.sequence.wrapping_add(1));
        assert_eq!(pair[1].header.ssrc, first.header.ssrc);
    }
}
