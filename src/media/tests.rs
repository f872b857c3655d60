#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
//! A whole bridge in virtual time: plain RTP stands in for the browser's transport.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Bridge, Means, Port};
use crate::codec::g711::Law;
use crate::codec::opus::{OpusEncoder, OpusSettings};
use crate::codec::tone::{amplitude, detect_dtmf, rms};
use crate::codec::{Codec, Decoder};
use crate::rtp::event::{EventReceiver, EventSender, EventStep, EventUpdate, char_event, event_char};
use crate::rtp::packet::{RtpHeader, RtpPacket};
use crate::rtp::rtcp::{self, Compound, ReportBlock, RtcpItem, SenderInfo};
use crate::sdp::{
    AcceptedCodec, BrowserMedia, Direction, DtlsRole, Hears, IceCredentials, LegMedia, LegPlan, MediaLoss, MediaPlan,
    MediaReport, Network, RtpMedia, RtpSlot, Side, TelephoneEvent, Tone,
};

const BROWSER_SSRC: u32 = 0xb0b0;
const TRUNK_SSRC: u32 = 0x7070;
const TRUNK_RTP: Port = Port::Rtp(RtpSlot(0));
const TRUNK_RTCP: Port = Port::Rtcp(RtpSlot(0));

pub(super) fn address(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], port))
}

fn browser_address() -> SocketAddr {
    address(1, 5_000)
}

fn trunk_address() -> SocketAddr {
    address(2, 4_000)
}

pub(super) fn accepted(payload_type: u8, codec: Codec) -> AcceptedCodec {
    AcceptedCodec { payload_type, codec }
}

pub(super) fn browser_media(codec: Codec) -> BrowserMedia {
    let send = accepted(codec.static_payload_type().unwrap_or(111), codec);
    let ice = || IceCredentials { ufrag: "abcd".into(), pwd: "0123456789012345678901".into() };
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

pub(super) fn leg(media: LegMedia, hears: Hears) -> Option<LegPlan> {
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
pub(super) struct Sent {
    pub at: Duration,
    pub to: SocketAddr,
    pub header: RtpHeader,
    pub payload: Vec<u8>,
}

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
}

impl Lab {
    fn new(plan: MediaPlan) -> Self {
        let start = Instant::now();
        let bridge = Bridge::plain(start, plan.clone(), [browser_address(), address(6, 5_000)]);
        let (to_browser, to_trunk, rtcp, reports) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { bridge, start, now: start, plan, to_browser, to_trunk, rtcp, reports }
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
            let packet = RtpPacket::parse(bytes).unwrap();
            let sent = Sent { at, to: transmit.to, header: packet.header, payload: packet.payload.to_vec() };
            match transmit.port {
                Port::Browser => self.to_browser.push(sent),
                _ => self.to_trunk.push(sent),
            }
        }
        while let Some(report) = self.bridge.poll_report() {
            self.reports.push(report);
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
        hear(&self.to_browser, Codec::Opus)
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
pub(super) fn hear(sent: &[Sent], codec: Codec) -> Vec<i16> {
    let mut decoder = Decoder::new(codec).unwrap();
    let mut heard = Vec::new();
    let mut pcm = [0; 960];
    for packet in sent.iter().filter(|p| ![101, 110].contains(&p.header.payload_type)) {
        let len = decoder.decode(&packet.payload, &mut pcm).unwrap();
        heard.extend_from_slice(&pcm[..len]);
    }
    heard
}

pub(super) fn sine(hz: f32, start: usize, len: usize) -> Vec<i16> {
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
        Self { encoder: OpusEncoder::new(settings).unwrap(), hz }
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

/// Timestamps stand exactly for the time sent, and no number is left out.
pub(super) fn assert_exact_time_line(sent: &[Sent], clock_per_ms: u32) {
    let first = &sent[0];
    for packet in sent {
        let media = packet.header.timestamp.wrapping_sub(first.header.timestamp);
        let time = (packet.at - first.at).as_micros() as u64;
        assert_eq!(u64::from(media) * 1_000, time * u64::from(clock_per_ms), "at {:?}", packet.at);
    }
    for pair in sent.windows(2) {
        assert_eq!(pair[1].header.sequence, pair[0].header.sequence.wrapping_add(1));
        assert_eq!(pair[1].header.ssrc, first.header.ssrc);
    }
}

#[test]
fn a_tone_is_heard_at_both_ends() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 100, |_| false);
    for (pcm, hz, other) in [(lab.trunk_pcm(), 440.0, 1_000.0), (lab.browser_pcm(), 1_000.0, 440.0)] {
        let steady = &pcm[4_000..14_000];
        let level = amplitude(steady, 8_000, hz);
        assert!((6_500.0..9_500.0).contains(&level), "{hz} Hz at {level}");
        assert!(amplitude(steady, 8_000, other) < 200.0);
    }
    assert_exact_time_line(&lab.to_trunk, 8);
    assert_exact_time_line(&lab.to_browser, 48);
    assert!(
        lab.to_trunk.iter().all(|p| p.header.ssrc == 0x2222 && p.header.payload_type == 0 && p.payload.len() == 160)
    );
    assert!(lab.to_browser.iter().all(|p| p.header.ssrc == 0x1111 && p.header.payload_type == 111));
    assert!(lab.to_trunk[0].header.marker && lab.to_browser[0].header.marker);
    assert_eq!(lab.reports, [MediaReport::FirstRtp(Side::A), MediaReport::FirstRtp(Side::B)]);
    let stats = lab.bridge.stats();
    assert_eq!((stats.a.packets_in, stats.b.packets_in), (100, 100));
    assert_eq!((stats.a.lost, stats.a.concealed_ms, stats.b.concealed_ms), (0, 0, 0));
    assert_eq!(stats.b.packets_out, lab.to_trunk.len() as u64);
}

#[test]
fn the_delay_without_loss_is_short() {
    // A click in the middle of silence, G.711 both ways so that no codec adds its own delay.
    for browser in [Codec::Pcmu, Codec::Pcma] {
        let mut lab = Lab::new(plan(browser, Codec::Pcmu));
        for n in 0..50 {
            lab.run_to(n * 20 + 3);
            let law = if browser == Codec::Pcmu { Law::Mu } else { Law::A };
            let pcm = if n == 30 { [9_000; 160] } else { [0; 160] };
            let number = browser.static_payload_type().unwrap();
            lab.browser_says(number, n as u16, n as u32 * 160, &companded(law, &pcm));
        }
        lab.run_to(1_100);
        let click = lab.to_trunk.iter().find(|p| rms(&hear(std::slice::from_ref(p), Codec::Pcmu)) > 5_000.0).unwrap();
        let delay = click.at.as_millis() as u64 - 603;
        assert!(delay <= 5, "{delay} ms");
    }
}

#[test]
fn five_percent_loss_leaves_fifty_packets_a_second_and_an_exact_time_line() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let mut state = 99_u32;
    converse(&mut lab, 1_500, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % 100 < 5
    });
    for (sent, clock) in [(&lab.to_trunk, 8), (&lab.to_browser, 48)] {
        assert_exact_time_line(sent, clock);
        for from in [1, 10, 19] {
            let span = Duration::from_secs(from)..Duration::from_secs(from + 10);
            let count = sent.iter().filter(|p| span.contains(&p.at)).count();
            assert!((499..=501).contains(&count), "{count}");
        }
    }
    let stats = lab.bridge.stats();
    assert!((50..110).contains(&stats.a.lost), "{stats:?}");
    assert!(stats.a.concealed_ms >= stats.a.lost * 20);
    // The tone stays whole: redundancy and concealment fill it.
    let pcm = lab.trunk_pcm();
    // (After a loss SILK needs a few frames to find a pure tone's level again: that is no hole.)
    let holes = pcm[8_000..].chunks_exact(160).filter(|c| rms(c) < 400.0).count();
    assert!(holes < 8, "{holes} frames fell out");
}

#[test]
fn mu_law_on_both_sides_passes_through_bit_by_bit() {
    let mut lab = Lab::new(plan(Codec::Pcmu, Codec::Pcmu));
    let payload: Vec<u8> = (0..160_u32).map(|n| (n * 37 + 11) as u8).chain([0x7f, 0xff]).take(160).collect();
    let mut with_zero = payload.clone();
    with_zero[3] = 0x7f;
    for n in 0..20 {
        lab.run_to(u64::from(n) * 20);
        lab.trunk_says(0, n, u32::from(n) * 160, &with_zero);
    }
    lab.run_to(500);
    // (The first may be left out: it came before frames were in step with it.)
    assert!(lab.to_browser.iter().filter(|p| p.payload == with_zero).count() >= 19);
}

#[test]
fn packets_of_all_lengths_come_out_as_twenty_milliseconds() {
    for law in [Law::Mu, Law::A] {
        let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
        let (number, mut samples, mut sequence) = (if law == Law::Mu { 0 } else { 8 }, 0_usize, 0_u16);
        for ms in [10, 20, 30, 40, 60, 60, 40, 30, 20, 10].into_iter().cycle().take(120) {
            let len = ms * 8;
            // A packet leaves its sender when it is full.
            lab.run_to((samples + len) as u64 / 8);
            lab.trunk_says(number, sequence, 1_000 + samples as u32, &companded(law, &sine(1_000.0, samples, len)));
            samples += len;
            sequence += 1;
        }
        lab.run_to(samples as u64 / 8);
        assert_exact_time_line(&lab.to_browser, 48);
        let pcm = lab.browser_pcm();
        let level = amplitude(&pcm[8_000..24_000], 8_000, 1_000.0);
        assert!((6_500.0..9_500.0).contains(&level), "{level}");
        let concealed = lab.bridge.stats().b.concealed_ms;
        assert!(concealed <= 120, "{concealed} ms while the delay was being learnt");
    }
}

#[test]
fn our_packet_length_follows_the_plan() {
    for ptime in [10, 30, 40, 60] {
        let mut plan = plan(Codec::Opus, Codec::Pcmu);
        trunk_of(&mut plan).ptime = ptime;
        let mut lab = Lab::new(plan);
        converse(&mut lab, 60, |_| false);
        assert!(lab.to_trunk.iter().all(|p| p.payload.len() == usize::from(ptime) * 8));
        let steps = lab.to_trunk[5..]
            .windows(2)
            .all(|w| w[1].header.timestamp.wrapping_sub(w[0].header.timestamp) == u32::from(ptime) * 8);
        assert!(steps, "{ptime}");
        assert!(amplitude(&lab.trunk_pcm()[2_400..7_200], 8_000, 440.0) > 6_500.0);
    }
}

#[test]
fn early_media_is_heard_and_the_browser_is_not() {
    let mut lab = Lab::new(early_plan(Tone::Eu));
    let mut tongue = Tongue::new(440.0);
    for n in 0..50 {
        lab.run_to(n * 20);
        lab.browser_says(111, n as u16, n as u32 * 960, &tongue.packet(n as usize));
    }
    lab.run_to(1_000);
    let ringing = amplitude(&lab.browser_pcm()[1_600..6_400], 8_000, 425.0);
    assert!(ringing > 2_000.0, "the ringing tone: {ringing}");
    assert!(lab.to_trunk.len() >= 45, "silence keeps the way open");
    assert_eq!(rms(&lab.trunk_pcm()), 0.0);
    // Early media from the trunk takes the ringing tone's place at once.
    lab.to_browser.clear();
    for n in 0..50 {
        lab.run_to(1_000 + n * 20);
        lab.trunk_says(0, n as u16, n as u32 * 160, &companded(Law::Mu, &sine(1_000.0, n as usize * 160, 160)));
    }
    let pcm = lab.browser_pcm();
    assert!(amplitude(&pcm[1_600..6_400], 8_000, 1_000.0) > 6_500.0);
    assert!(amplitude(&pcm[1_600..6_400], 8_000, 425.0) < 200.0);
    // The answer: now the trunk hears the browser, without what was said before.
    lab.to_trunk.clear();
    lab.update(|early| *early = plan(Codec::Opus, Codec::Pcmu));
    for n in 100..150 {
        lab.run_to(n * 20);
        lab.browser_says(111, n as u16, n as u32 * 960, &tongue.packet(n as usize));
    }
    assert!(amplitude(&lab.trunk_pcm()[1_600..6_400], 8_000, 440.0) > 6_500.0);
    assert_exact_time_line(&lab.to_trunk, 8);
}

/// Dials by telephone event from one side while the network loses packets; the digits that the other side receives.
fn dial(from: Side, codec: Codec, digits: &str, loss: u32) -> (Lab, String) {
    let mut lab = Lab::new(plan(codec, Codec::Pcmu));
    converse(&mut lab, 25, |_| false);
    let (number, clock) = match from {
        Side::A => (110, codec.clock_rate()),
        Side::B => (101, 8_000),
    };
    let mut sender = EventSender::new(clock);
    for digit in digits.chars() {
        assert!(sender.queue(char_event(digit).unwrap(), 100));
    }
    let (mut state, mut n) = (5_u32, 0_u32);
    let base = (lab.now - lab.start).as_millis() as u64;
    // 25 packets were sent before, with these first numbers.
    let first = if from == Side::A { 65_525_u16 } else { 65_425 };
    let origin =
        if from == Side::A { (u32::MAX - 48_000).wrapping_add(24_000) } else { (u32::MAX - 8_000).wrapping_add(4_000) };
    let mut tongue = Tongue::new(440.0);
    while sender.busy() || n < 20 {
        lab.run_to(base + u64::from(n) * 20);
        let timestamp = origin.wrapping_add(n * clock / 50);
        let sequence = first.wrapping_add(n as u16);
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let lost = (state >> 16) % 100 < loss;
        let (payload_type, timestamp, payload) = match sender.step(timestamp, clock / 50) {
            EventStep::Packet(packet) => (number, packet.timestamp, packet.payload.to_vec()),
            EventStep::Audio if from == Side::B => {
                (0, timestamp, companded(Law::Mu, &sine(1_000.0, n as usize * 160, 160)))
            }
            EventStep::Audio if codec == Codec::Opus => (111, timestamp, tongue.packet(n as usize)),
            EventStep::Audio => (0, timestamp, companded(Law::Mu, &sine(440.0, n as usize * 160, 160))),
        };
        if !lost {
            match from {
                Side::A => lab.browser_says(payload_type, sequence, timestamp, &payload),
                Side::B => lab.trunk_says(payload_type, sequence, timestamp, &payload),
            }
        }
        n += 1;
    }
    lab.run_to(base + u64::from(n) * 20 + 1_000);
    let (sent, number, clock) = match from {
        Side::A => (&lab.to_trunk, 101, 8_000),
        Side::B => (&lab.to_browser, 110, codec.clock_rate()),
    };
    let heard = receive_digits(&lab, sent, number, clock);
    (lab, heard)
}

fn receive_digits(lab: &Lab, sent: &[Sent], number: u8, clock: u32) -> String {
    let mut receiver = EventReceiver::default();
    let events = sent.iter().filter(|p| p.header.payload_type == number);
    let updates = events.flat_map(|p| receiver.handle(lab.start + p.at, p.header.timestamp, &p.payload, clock));
    updates
        .filter_map(|update| match update {
            EventUpdate::Ended { event, ms } => {
                assert!((60..=220).contains(&ms), "{ms} ms");
                event_char(event)
            }
            EventUpdate::Started { .. } => None,
        })
        .collect()
}

#[test]
fn digits_pass_both_ways_at_both_clocks_with_and_without_loss() {
    let dialled = "0123456789*#ABCD5500";
    for loss in [0, 5, 10] {
        for (from, codec) in [(Side::A, Codec::Opus), (Side::A, Codec::Pcmu), (Side::B, Codec::Opus)] {
            let (lab, heard) = dial(from, codec, dialled, loss);
            assert_eq!(heard, dialled, "{from:?} {codec:?} at {loss} %");
            let reported: String = lab.digits().iter().map(|(_, digit, _)| *digit).collect();
            assert_eq!(reported, dialled);
            assert!(lab.digits().iter().all(|(side, ..)| *side == from));
            if loss == 0 {
                assert!(lab.digits().iter().all(|(.., ms)| *ms == 100));
            }
        }
    }
}

#[test]
fn digits_on_command_are_queued_with_gaps_and_sound_goes_on_between_them() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 25, |_| false);
    lab.bridge.send_digits(lab.now, Side::B, "11x#", 100);
    lab.bridge.send_digits(lab.now, Side::A, "7", 100);
    lab.to_trunk.clear();
    lab.to_browser.clear();
    lab.run_to(2_000);
    assert_eq!(receive_digits(&lab, &lab.to_trunk, 101, 8_000), "11#");
    assert_eq!(receive_digits(&lab, &lab.to_browser, 110, 48_000), "7");
    let kinds: Vec<bool> = lab.to_trunk.iter().map(|p| p.header.payload_type == 101).collect();
    let gaps = kinds.windows(2).filter(|w| w[0] && !w[1]).count();
    assert_eq!(gaps, 3, "sound between and after the digits");
    let first_sound =
        lab.to_trunk.windows(2).find(|w| w[0].header.payload_type == 101 && w[1].header.payload_type == 0);
    assert!(first_sound.unwrap()[1].header.marker);
}

#[test]
fn digits_under_either_number_of_telephone_event_are_passed_on() {
    let mut whole = plan(Codec::Opus, Codec::Pcmu);
    let event = |payload_type| TelephoneEvent { payload_type, clock_rate: 8_000 };
    let trunk = trunk_of(&mut whole);
    (trunk.telephone_event, trunk.accepted_events) = (Some(event(96)), vec![event(101)]);
    let mut lab = Lab::new(whole);
    for (n, payload_type) in [96, 101].into_iter().enumerate() {
        let timestamp = 1_600 * n as u32;
        lab.run_to(n as u64 * 200);
        lab.trunk_says(payload_type, n as u16, timestamp, &[n as u8, 0x8a, 3, 0x20]);
    }
    assert_eq!(lab.digits(), [(Side::B, '0', 100), (Side::B, '1', 100)]);
}

/// Music on hold gives way to the person: another SSRC, with timestamps before the others.
#[test]
fn digits_of_a_new_source_are_not_lost() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    for (n, timestamp) in [900_000, 500, 500].into_iter().enumerate() {
        lab.run_to(n as u64 * 200);
        let header = RtpHeader { payload_type: 101, sequence: 7, timestamp, ssrc: n as u32, marker: true };
        lab.rtp(TRUNK_RTP, trunk_address(), header, &[4, 0x0a, 3, 0x20]);
        lab.rtp(TRUNK_RTP, trunk_address(), RtpHeader { sequence: 8, ..header }, &[4, 0x8a, 3, 0x20]);
    }
    assert_eq!(lab.digits(), [(Side::B, '4', 100); 3]);
}

#[test]
fn the_tone_under_a_digit_is_not_heard() {
    // A trunk that sends the tone in band beside the event.
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let note = [crate::codec::tone::dtmf('5', 200).unwrap()];
    let mut tone = crate::codec::tone::TonePlayer::once(&note, 8_000);
    let mut sender = EventSender::new(8_000);
    sender.queue(5, 200);
    let mut sequence = 0;
    for n in 0..40_u32 {
        lab.run_to(u64::from(n) * 20);
        let mut pcm = [0; 160];
        if n >= 10 {
            tone.fill(&mut pcm);
            if let EventStep::Packet(packet) = sender.step(n * 160, 160) {
                lab.trunk_says(101, sequence, packet.timestamp, &packet.payload);
                sequence += 1;
            }
        }
        lab.trunk_says(0, sequence, n * 160, &companded(Law::Mu, &pcm));
        sequence += 1;
    }
    lab.run_to(1_200);
    let pcm = lab.browser_pcm();
    assert!(pcm.chunks(160).all(|frame| detect_dtmf(frame).is_none()));
    assert!(rms(&pcm) < 100.0, "{}", rms(&pcm));
    assert_eq!(lab.digits(), [(Side::B, '5', 200)]);
}

#[test]
fn hold_is_honoured_and_time_goes_on() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 50, |_| false);
    let before = lab.to_trunk.last().unwrap().clone();
    lab.to_trunk.clear();
    lab.update(|plan| trunk_of(plan).direction = Direction::Inactive);
    lab.to_browser.clear();
    for n in 50..100 {
        lab.run_to(n * 20);
        lab.trunk_says(
            0,
            65_400_u16.wrapping_add(n as u16),
            (u32::MAX - 8_000).wrapping_add(n as u32 * 160),
            &[0x10; 160],
        );
    }
    assert!(lab.to_trunk.is_empty(), "nothing to a held trunk");
    assert!(rms(&lab.browser_pcm()[1_600..]) < 30.0, "nothing heard from it");
    lab.update(|plan| trunk_of(plan).direction = Direction::SendRecv);
    lab.run_to(2_100);
    let after = &lab.to_trunk[0];
    assert!(after.header.marker, "a new spurt");
    assert_eq!(after.header.sequence, before.header.sequence.wrapping_add(1));
    let media = after.header.timestamp.wrapping_sub(before.header.timestamp);
    assert_eq!(u128::from(media), (after.at - before.at).as_millis() * 8);
    // Hold by 0.0.0.0: nowhere to send, and the resume restores it.
    lab.update(|plan| trunk_of(plan).remote_rtp = None);
    lab.to_trunk.clear();
    lab.run_to(2_500);
    assert!(lab.to_trunk.is_empty());
    lab.update(|plan| trunk_of(plan).remote_rtp = Some(trunk_address()));
    lab.run_to(2_600);
    assert!(!lab.to_trunk.is_empty());
}

/// The browser holds: the trunk hears a soft tone and not the browser, whose own transport goes on as it was.
#[test]
fn a_held_trunk_hears_a_comfort_tone_and_not_the_holder() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 50, |_| false);
    lab.update(|plan| {
        trunk_of(plan).direction = Direction::SendOnly;
        plan.b.as_mut().unwrap().hears = Hears::Music;
        plan.a.as_mut().unwrap().hears = Hears::Nothing;
    });
    lab.to_trunk.clear();
    lab.to_browser.clear();
    converse(&mut lab, 100, |_| false);
    let pcm = lab.trunk_pcm();
    assert!(amplitude(&pcm[..4_000], 8_000, 392.0) > 500.0 && rms(&pcm) < 1_000.0);
    assert!(amplitude(&pcm, 8_000, 440.0) < 100.0, "the holder is not heard");
    assert!(lab.to_browser.len() >= 99 && rms(&lab.browser_pcm()[1_600..]) < 30.0);
    assert_exact_time_line(&lab.to_trunk, 8);
    // Taken back: both hear each other at once.
    lab.update(|whole| *whole = plan(Codec::Opus, Codec::Pcmu));
    lab.to_trunk.clear();
    converse(&mut lab, 100, |_| false);
    assert!(amplitude(&lab.trunk_pcm()[4_000..], 8_000, 440.0) > 6_500.0);
}

#[test]
fn those_on_hold_hear_the_music_that_was_configured_over_and_over() {
    let start = Instant::now();
    let music: Vec<i16> = sine(700.0, 0, 4_000);
    let means = Means { identity: None, music: Some(music.into()) };
    let only_trunk = MediaPlan { a: None, b: leg(LegMedia::Rtp(trunk_media(Codec::Pcmu)), Hears::Music) };
    let mut bridge = Bridge::new(start, only_trunk, &means, [1; 32]).unwrap();
    let mut sent = Vec::new();
    let mut buf = [0; 1_500];
    for n in 0..150 {
        let at = Duration::from_millis(n * 20);
        bridge.handle_timeout(start + at);
        while let Some(transmit) = bridge.poll_transmit(&mut buf) {
            if transmit.port == TRUNK_RTP {
                let packet = RtpPacket::parse(&buf[..transmit.len]).unwrap();
                sent.push(Sent { at, to: transmit.to, header: packet.header, payload: packet.payload.to_vec() });
            }
        }
    }
    let pcm = hear(&sent, Codec::Pcmu);
    assert!(pcm.len() >= 23_000);
    for part in pcm.chunks_exact(4_000) {
        assert!(amplitude(part, 8_000, 700.0) > 7_000.0, "a round of the music");
    }
}

/// The trunk holds with sendonly: its own music is heard while it plays, ours when it does not. Inactive, and 0.0.0.0
/// without a packet: ours.
#[test]
fn a_trunk_that_holds_is_heard_while_it_plays_and_else_a_comfort_tone() {
    let table = [
        (Direction::RecvOnly, Some(trunk_address()), true, 1_000.0),
        (Direction::RecvOnly, Some(trunk_address()), false, 392.0),
        (Direction::Inactive, Some(trunk_address()), true, 392.0),
        (Direction::RecvOnly, None, false, 392.0),
    ];
    for (direction, remote, plays, hz) in table {
        let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
        converse(&mut lab, 20, |_| false);
        lab.update(|plan| {
            let trunk = trunk_of(plan);
            (trunk.direction, trunk.remote_rtp) = (direction, remote);
            plan.a.as_mut().unwrap().hears = Hears::PeerOrMusic;
            plan.b.as_mut().unwrap().hears = Hears::Nothing;
        });
        lab.to_trunk.clear();
        // Whether it plays at once, or is silent for long.
        if !plays {
            lab.run_to(4_900);
            lab.to_browser.clear();
        }
        for n in 0..250 {
            lab.run_to((lab.now - lab.start).as_millis() as u64 + 20);
            if plays {
                let payload = companded(Law::Mu, &sine(1_000.0, n * 160, 160));
                lab.trunk_says(0, 500 + n as u16, 900_000 + n as u32 * 160, &payload);
            }
        }
        let pcm = lab.browser_pcm();
        let level = pcm.chunks_exact(4_000).map(|part| amplitude(part, 8_000, hz)).fold(0.0, f32::max);
        assert!(level > 300.0, "{direction:?} {remote:?} {plays}: {hz} Hz at {level}");
        assert!(lab.to_trunk.is_empty(), "nothing to it who holds");
    }
}

/// What the phone sends while we hold it is not reported as lost afterwards.
#[test]
fn packets_of_a_held_peer_are_no_loss() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    for n in 0..150_u16 {
        let direction = if (50..100).contains(&n) { Direction::SendOnly } else { Direction::SendRecv };
        lab.run_to(u64::from(n) * 20);
        lab.update(|plan| trunk_of(plan).direction = direction);
        lab.trunk_says(0, n, u32::from(n) * 160, &[0xff; 160]);
    }
    let stats = lab.bridge.stats().b;
    assert_eq!((stats.lost, stats.packets_in), (0, 100));
}

#[test]
fn digits_that_waited_when_a_hold_began_are_not_sent_after_it() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    lab.bridge.send_digits(lab.now, Side::B, "123456", 100);
    lab.run_to(50);
    lab.update(|plan| trunk_of(plan).direction = Direction::RecvOnly);
    lab.run_to(1_000);
    lab.to_trunk.clear();
    lab.update(|plan| trunk_of(plan).direction = Direction::SendRecv);
    lab.run_to(2_000);
    assert!(lab.to_trunk.len() > 40 && lab.to_trunk.iter().all(|p| p.header.payload_type == 0));
}

#[test]
fn a_stranger_is_neither_heard_nor_sent_to() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let stranger = address(9, 9_999);
    for n in 0..200_u16 {
        lab.run_to(u64::from(n) * 20);
        lab.trunk_says(0, n, u32::from(n) * 160, &companded(Law::Mu, &[0; 160]));
        let header = RtpHeader { payload_type: 0, sequence: n, timestamp: u32::from(n) * 160, ssrc: 1, marker: false };
        lab.rtp(TRUNK_RTP, stranger, header, &companded(Law::Mu, &[9_000; 160]));
    }
    assert!(lab.to_trunk.iter().all(|p| p.to == trunk_address()));
    assert!(lab.rtcp.iter().all(|(_, _, to, _)| *to != stranger));
    assert!(rms(&lab.browser_pcm()) < 30.0);
    assert_eq!(lab.bridge.stats().b.rejected, 200);
    // A known source with an unknown payload type is refused too, and is no sign of life for the latch.
    lab.trunk_says(77, 1, 1, &[1; 160]);
    assert_eq!(lab.bridge.stats().b.rejected, 201);
}

#[test]
fn a_stranger_gets_nothing_while_the_described_address_is_silent() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let stranger = address(9, 9_999);
    for n in 0..200_u16 {
        lab.run_to(u64::from(n) * 20);
        let header = RtpHeader { sequence: n, timestamp: u32::from(n) * 160, ssrc: 1, ..RtpHeader::default() };
        lab.rtp(TRUNK_RTP, stranger, header, &companded(Law::Mu, &[9_000; 160]));
    }
    assert!(lab.to_trunk.iter().all(|p| p.to == trunk_address()));
    assert!(lab.rtcp.iter().all(|(_, _, to, _)| *to != stranger));
    assert!(lab.browser_pcm().iter().all(|sample| sample.abs() < 100));
    assert!(lab.reports.is_empty());
    assert_eq!(lab.bridge.stats().b.rejected, 200);
}

#[test]
fn a_trunk_behind_a_nat_is_followed_and_a_reinvite_moves_it() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let behind = address(3, 30_000);
    for n in 0..20_u16 {
        lab.run_to(u64::from(n) * 20);
        let header = RtpHeader { payload_type: 0, sequence: n, timestamp: u32::from(n) * 160, ssrc: 1, marker: false };
        lab.rtp(TRUNK_RTP, behind, header, &companded(Law::Mu, &[0; 160]));
    }
    assert_eq!(lab.to_trunk[0].to, trunk_address());
    assert_eq!(lab.to_trunk.last().unwrap().to, behind);
    assert!(lab.reports.contains(&MediaReport::FirstRtp(Side::B)));
    let moved = address(4, 6_000);
    lab.update(|plan| trunk_of(plan).remote_rtp = Some(moved));
    lab.run_to(500);
    assert_eq!(lab.to_trunk.last().unwrap().to, moved);
}

/// The phone's NAT gives it another port after a hold: it is heard, and sent to, there.
#[test]
fn a_nat_mapping_that_changed_in_a_hold_is_followed() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let say = |lab: &mut Lab, from: u64, source: SocketAddr| {
        for n in from..from + 20 {
            lab.run_to(n * 20);
            let header =
                RtpHeader { sequence: n as u16, timestamp: n as u32 * 160, ssrc: TRUNK_SSRC, ..RtpHeader::default() };
            lab.rtp(TRUNK_RTP, source, header, &companded(Law::Mu, &sine(1_000.0, n as usize * 160, 160)));
        }
    };
    let (before, after) = (address(3, 30_000), address(3, 30_123));
    say(&mut lab, 0, before);
    assert_eq!(lab.to_trunk.last().unwrap().to, before);
    lab.update(|plan| trunk_of(plan).direction = Direction::RecvOnly);
    lab.run_to(10_000);
    lab.update(|plan| trunk_of(plan).direction = Direction::SendRecv);
    lab.to_browser.clear();
    say(&mut lab, 500, after);
    assert_eq!(lab.to_trunk.last().unwrap().to, after);
    assert!(rms(&lab.browser_pcm()) > 2_000.0);
}

#[test]
fn comfort_noise_is_heard_as_noise_and_is_no_loss() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 50, |_| false);
    let sequence = 65_400_u16.wrapping_add(50);
    lab.trunk_says(13, sequence, (u32::MAX - 8_000).wrapping_add(50 * 160), &[40]);
    lab.to_browser.clear();
    lab.run_to(3_000);
    let level = rms(&lab.browser_pcm()[4_000..]);
    assert!((100.0..500.0).contains(&level), "{level}");
    assert_eq!(lab.bridge.stats().b.concealed_ms, 0);
    // The voice comes back where its time stands.
    lab.to_browser.clear();
    for n in 150..200_u32 {
        lab.run_to(u64::from(n) * 20);
        let timestamp = (u32::MAX - 8_000).wrapping_add(n * 160);
        let payload = companded(Law::Mu, &sine(1_000.0, n as usize * 160, 160));
        lab.trunk_says(0, sequence.wrapping_add((n - 149) as u16), timestamp, &payload);
    }
    assert!(amplitude(&lab.browser_pcm()[1_600..6_400], 8_000, 1_000.0) > 6_500.0);
    assert_eq!(lab.bridge.stats().b.concealed_ms, 0);
}

#[test]
fn a_payload_type_that_a_reinvite_leaves_out_lives_on_for_a_moment() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    lab.trunk_says(8, 1, 160, &[0xd5; 160]);
    lab.update(|plan| trunk_of(plan).accepted.retain(|a| a.codec == Codec::Pcmu));
    lab.run_to(1_000);
    lab.trunk_says(8, 2, 8_000, &[0xd5; 160]);
    assert_eq!(lab.bridge.stats().b.packets_in, 2);
    lab.run_to(3_000);
    lab.trunk_says(8, 3, 24_000, &[0xd5; 160]);
    assert_eq!((lab.bridge.stats().b.packets_in, lab.bridge.stats().b.rejected), (2, 1));
}

#[test]
fn reports_go_both_ways_and_a_bye_ends_them() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let start = lab.now;
    converse(&mut lab, 50, |n| n % 10 == 5);
    let mut sr = [0; 200];
    let sender = Some(SenderInfo { ntp: 0x1_0002_0003_0004, ..SenderInfo::default() });
    let block = ReportBlock { ssrc: 0x1111, fraction_lost: 25, ..ReportBlock::default() };
    let compound = Compound { ssrc: BROWSER_SSRC, sender, report: Some(block), cname: "browser", bye: false };
    let len = compound.write(&mut sr).unwrap();
    let now = lab.now;
    lab.bridge.handle_datagram(now, Port::Browser, browser_address(), &mut sr[..len]);
    lab.run_to(30_000);
    for (port, ssrc, peer, to, count) in [
        (Port::Browser, 0x1111, BROWSER_SSRC, browser_address(), 15..45),
        (TRUNK_RTCP, 0x2222, TRUNK_SSRC, address(2, 4_001), 4..14),
    ] {
        let sent: Vec<_> = lab.rtcp.iter().filter(|(_, p, ..)| *p == port).collect();
        assert!(count.contains(&sent.len()), "{port:?}: {}", sent.len());
        assert_eq!(sent[0].0, Duration::from_millis(500), "the first one soon");
        assert!(sent.iter().all(|(_, _, dest, _)| *dest == to));
        let mut items = Vec::new();
        for (.., bytes) in sent {
            rtcp::read(bytes, |item| items.push(item)).unwrap();
        }
        assert!(
            items.iter().any(|i| matches!(i, RtcpItem::Sender { ssrc: s, info } if *s == ssrc && info.packets > 0))
        );
        let lost = items.iter().filter_map(|i| match i {
            RtcpItem::Report { from, block } if *from == ssrc && block.ssrc == peer => Some(block.cumulative_lost),
            _ => None,
        });
        assert_eq!(lost.max(), Some(5));
    }
    let echoed = lab.rtcp.iter().any(|(.., bytes)| {
        let mut found = false;
        rtcp::read(bytes, |item| {
            found |= matches!(item, RtcpItem::Report { block, .. } if block.last_sr == 0x0002_0003)
        })
        .unwrap();
        found
    });
    assert!(echoed, "the browser's sender report is answered with its time");
    // The RTP time of a sender report is that of its NTP time.
    check_sender_clock(&lab, start);
    lab.rtcp.clear();
    lab.bridge.close(lab.now);
    lab.drain();
    assert_eq!(lab.rtcp.len(), 2);
    for (.., bytes) in &lab.rtcp {
        let mut bye = false;
        rtcp::read(bytes, |item| bye |= matches!(item, RtcpItem::Bye { .. })).unwrap();
        assert!(bye);
    }
    assert_eq!(lab.bridge.poll_timeout(), None);
    let sent = lab.to_trunk.len();
    lab.trunk_says(0, 1, 1, &[0xff; 160]);
    lab.bridge.handle_timeout(lab.now + Duration::from_secs(1));
    lab.drain();
    assert_eq!(lab.to_trunk.len(), sent);
}

fn check_sender_clock(lab: &Lab, _start: Instant) {
    let mut infos = Vec::new();
    for (_, port, _, bytes) in &lab.rtcp {
        if *port == TRUNK_RTCP {
            let _ = rtcp::read(bytes, |item| {
                if let RtcpItem::Sender { info, .. } = item {
                    infos.push(info);
                }
            });
        }
    }
    for pair in infos.windows(2) {
        let seconds = (pair[1].ntp - pair[0].ntp) as f64 / 4_294_967_296.0;
        let units = f64::from(pair[1].rtp_timestamp.wrapping_sub(pair[0].rtp_timestamp));
        assert!((units - seconds * 8_000.0).abs() <= 2.0, "{units} units in {seconds} s");
    }
    assert!(infos.len() >= 3);
}

#[test]
fn a_dead_trunk_is_noticed_unless_it_is_held() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    lab.run_to(120_000);
    assert!(lab.reports.is_empty(), "one that never sent is another matter");
    converse(&mut lab, 10, |_| false);
    lab.run_to(240_000);
    let lost = MediaReport::Lost { side: Side::B, loss: MediaLoss::RtpSilent };
    assert_eq!(lab.reports.iter().filter(|r| **r == lost).count(), 1);
    // We hold (SendOnly), the phone holds (RecvOnly), or both.
    for direction in [Direction::SendOnly, Direction::RecvOnly, Direction::Inactive] {
        let mut held = Lab::new(plan(Codec::Opus, Codec::Pcmu));
        converse(&mut held, 10, |_| false);
        held.update(|plan| trunk_of(plan).direction = direction);
        held.run_to(200_000);
        assert!(!held.reports.contains(&lost), "{direction:?}");
        // Taken back from hold it is watched again, from then on.
        held.update(|plan| trunk_of(plan).direction = Direction::SendRecv);
        held.run_to(259_000);
        assert!(!held.reports.contains(&lost), "{direction:?}");
        held.run_to(262_000);
        assert!(held.reports.contains(&lost), "{direction:?}");
    }
}

/// RTCP and comfort noise count as life: a phone that says nothing is not gone.
#[test]
fn rtcp_and_comfort_noise_count_as_life() {
    for by_rtcp in [true, false] {
        let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
        converse(&mut lab, 10, |_| false);
        for n in 0..20_u32 {
            lab.run_to(200 + u64::from(n) * 10_000);
            if by_rtcp {
                let compound = Compound { ssrc: TRUNK_SSRC, sender: None, report: None, cname: "phone", bye: false };
                let mut report = [0; 200];
                let len = compound.write(&mut report).unwrap();
                lab.bridge.handle_datagram(lab.now, TRUNK_RTCP, address(2, 4_001), &mut report[..len]);
            } else {
                lab.trunk_says(13, 65_410_u16.wrapping_add(n as u16), n * 80_000, &[40]);
            }
        }
        let lost = |report: &MediaReport| matches!(report, MediaReport::Lost { .. });
        assert!(!lab.reports.iter().any(lost), "by RTCP {by_rtcp}");
        lab.run_to(270_000);
        assert!(lab.reports.iter().any(lost), "and then nothing for a minute");
    }
}

/// What a packet is, its payload type says, whatever we send ourselves: a peer may change its codec at any time.
#[test]
fn a_peer_that_changes_its_codec_is_heard_on() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    for n in 0..100_u16 {
        lab.run_to(u64::from(n) * 20);
        let (number, law) = if n < 50 { (0, Law::Mu) } else { (8, Law::A) };
        lab.trunk_says(number, n, u32::from(n) * 160, &companded(law, &sine(1_000.0, usize::from(n) * 160, 160)));
    }
    lab.run_to(2_000);
    for part in lab.browser_pcm()[2_400..15_000].chunks_exact(1_600) {
        let level = amplitude(part, 8_000, 1_000.0);
        assert!((6_000.0..9_500.0).contains(&level), "{level}");
    }
    assert_eq!((lab.bridge.stats().b.rejected, lab.bridge.stats().b.concealed_ms), (0, 0));
}

/// A browser's header extensions (mid, audio level) stay here: what goes to a trunk is the bare header of RFC 3550.
#[test]
fn header_extensions_never_reach_the_trunk() {
    let mut lab = Lab::new(plan(Codec::Pcmu, Codec::Pcmu));
    let mut seen = 0;
    for n in 0..50_u16 {
        lab.now = lab.start + Duration::from_millis(u64::from(n) * 20);
        lab.bridge.handle_timeout(lab.now);
        // One-byte extensions (RFC 8285): an audio level and a mid.
        let mut bytes = vec![0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0xbe, 0xde, 0, 1, 0x10, 0x85, 0x20, b'0'];
        bytes[2..4].copy_from_slice(&n.to_be_bytes());
        bytes[4..8].copy_from_slice(&(u32::from(n) * 160).to_be_bytes());
        bytes.extend([0x2a; 160]);
        lab.bridge.handle_datagram(lab.now, Port::Browser, browser_address(), &mut bytes);
        let mut buf = [0; 1_500];
        while let Some(transmit) = lab.bridge.poll_transmit(&mut buf) {
            if transmit.port == TRUNK_RTP {
                assert_eq!((buf[0], transmit.len), (0x80, 172));
                seen += usize::from(buf[12..172] == [0x2a; 160]);
            }
        }
    }
    assert!(seen > 40, "and the sound behind them does: {seen}");
}

#[test]
fn a_leg_may_come_later_and_a_process_may_stop() {
    let whole = plan(Codec::Opus, Codec::Pcmu);
    let mut lab = Lab::new(MediaPlan { b: None, ..early_plan(Tone::Us) });
    lab.run_to(200);
    assert_eq!(lab.to_browser.len(), 11, "the ringing tone needs no trunk");
    lab.update(|plan| *plan = whole);
    converse(&mut lab, 50, |_| false);
    assert!(amplitude(&lab.trunk_pcm()[3_200..6_400], 8_000, 440.0) > 6_500.0);
    // Ten seconds in which nobody called: no flood afterwards, and the time line has not slipped.
    lab.to_trunk.clear();
    lab.now += Duration::from_secs(10);
    lab.bridge.handle_timeout(lab.now);
    lab.drain();
    assert!(lab.to_trunk.len() <= 6, "{}", lab.to_trunk.len());
}

#[test]
fn a_caller_hears_nothing_from_us_while_the_browser_rings() {
    let mut lab = Lab::new(MediaPlan { a: None, ..early_plan(Tone::Us) });
    for n in 0..50 {
        lab.run_to(n * 20);
        lab.trunk_says(0, n as u16, n as u32 * 160, &[0xff; 160]);
    }
    assert!(lab.to_trunk.is_empty());
    lab.update(|plan| plan.b.as_mut().unwrap().hears = Hears::Peer);
    lab.run_to(1_100);
    assert!(!lab.to_trunk.is_empty());
}

#[test]
fn a_plan_that_cannot_be_followed_is_an_error_and_not_a_panic() {
    let mut g722 = plan(Codec::Opus, Codec::Pcmu);
    trunk_of(&mut g722).accepted.push(accepted(9, Codec::G722));
    let trunk_only = MediaPlan { a: None, ..g722.clone() };
    assert!(Bridge::new(Instant::now(), trunk_only, &Means::default(), [0; 32]).is_err());
    assert!(
        Bridge::new(Instant::now(), plan(Codec::Opus, Codec::Pcmu), &Means::default(), [0; 32]).is_err(),
        "no identity"
    );
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 10, |_| false);
    lab.update(|plan| *plan = g722);
    lab.run_to(1_000);
    for len in 0..80 {
        let mut rubbish = vec![0x80; len];
        for port in [Port::Browser, TRUNK_RTP, TRUNK_RTCP] {
            lab.bridge.handle_datagram(lab.now, port, trunk_address(), &mut rubbish);
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]
    #[test]
    fn any_datagrams_at_any_time(
        datagrams in proptest::collection::vec(
            (0_u64..60, 0_u8..3, 0_u8..2, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..90)), 0..120),
    ) {
        let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
        let mut ms = 0;
        for (pause, port, kind, mut bytes) in datagrams {
            ms += pause;
            lab.run_to(ms);
            if let (1, [first, second, ..]) = (kind, &mut bytes[..]) {
                // Make it look like RTP of a type that was negotiated.
                *first = 0x80;
                *second = [0, 8, 13, 101, 110, 111][usize::from(*second) % 6];
            }
            let (port, source) = match port {
                0 => (Port::Browser, browser_address()),
                1 => (TRUNK_RTP, trunk_address()),
                _ => (TRUNK_RTCP, trunk_address()),
            };
            lab.bridge.handle_datagram(lab.now, port, source, &mut bytes);
            lab.drain();
        }
        lab.run_to(ms + 500);
        assert_eq!(lab.bridge.stats().a.packets_out as usize, lab.to_browser.len());
    }
}
