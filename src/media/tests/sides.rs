//! Any kind of leg on either side, and a leg that takes the place of another.

use super::*;
use crate::codec::{Encoder, Rate};
use crate::rtp::srtp::{Profile, SrtpContext};
use crate::sdp::{SrtpKey, SrtpPlan, SrtpSuite};

/// A party at the far end of a leg: it says a tone, and keeps what it is sent.
struct End {
    port: Port,
    address: SocketAddr,
    media: LegMedia,
    hz: f32,
    encoder: Encoder,
    /// The far end's own contexts, sending and receiving.
    srtp: Option<[SrtpContext; 2]>,
    said: u32,
    heard: Vec<Sent>,
    left: bool,
}

impl End {
    fn browser(side: Side, codec: Codec, hz: f32) -> Self {
        let address = address(if side == Side::A { 1 } else { 6 }, 5_000);
        let media = BrowserMedia { ssrc: hz as u32, ..browser_media(codec) };
        Self::new(Port::Browser, address, LegMedia::Browser(media), hz)
    }

    fn rtp(slot: u8, codec: Codec, hz: f32) -> Self {
        let address = address(10 + slot, 4_000);
        let send = accepted(codec.static_payload_type().unwrap(), codec);
        let media = RtpMedia { slot: RtpSlot(slot), ..RtpMedia::new(address, send, hz as u32) };
        Self::new(Port::Rtp(RtpSlot(slot)), address, LegMedia::Rtp(media), hz)
    }

    fn new(port: Port, address: SocketAddr, media: LegMedia, hz: f32) -> Self {
        let encoder = Encoder::new(media.send().codec, Rate::Narrow, OpusSettings::default()).unwrap();
        let srtp = media.rtp().and_then(|rtp| rtp.srtp.as_ref()).map(contexts);
        Self { port, address, media, hz, encoder, srtp, said: 0, heard: Vec::new(), left: false }
    }

    fn codec(&self) -> Codec {
        self.media.send().codec
    }

    fn packet(&mut self) -> Vec<u8> {
        let n = self.said;
        self.said += 1;
        let clock = self.codec().clock_rate() / 50;
        let header = RtpHeader {
            payload_type: self.media.send().payload_type,
            sequence: n as u16,
            timestamp: n * clock,
            ssrc: self.hz as u32 + 7,
            marker: n == 0,
        };
        let mut bytes = vec![0; 412];
        header.write(&mut bytes).unwrap();
        let len = self.encoder.encode(&sine(self.hz, n as usize * 160, 160), &mut bytes[12..]).unwrap();
        bytes.truncate(12 + len);
        if let Some([sending, _]) = &mut self.srtp {
            let len = bytes.len();
            bytes.resize(len + 20, 0);
            let len = sending.protect_rtp(&mut bytes, len).unwrap();
            bytes.truncate(len);
        }
        bytes
    }

    /// With keys of its own, which depend on `seed`.
    fn secure(mut self, suite: SrtpSuite, seed: u8) -> Self {
        let LegMedia::Rtp(media) = &mut self.media else { panic!("a browser has no such keys") };
        let key = |byte| SrtpKey(vec![byte; suite.key_and_salt_len()]);
        media.srtp = Some(SrtpPlan { suite, our_key: key(seed), their_key: key(seed + 100), their_mki: 0 });
        self.srtp = media.srtp.as_ref().map(contexts);
        self
    }
}

fn contexts(plan: &SrtpPlan) -> [SrtpContext; 2] {
    let profile = match plan.suite {
        SrtpSuite::AesCm128HmacSha1_80 => Profile::Aes128CmSha1_80,
        SrtpSuite::AesCm128HmacSha1_32 => Profile::Aes128CmSha1_32,
        SrtpSuite::AeadAes128Gcm => Profile::AeadAes128Gcm,
        SrtpSuite::AeadAes256Gcm => Profile::AeadAes256Gcm,
    };
    [&plan.their_key, &plan.our_key].map(|key| {
        let (key, salt) = key.0.split_at(profile.key_len());
        SrtpContext::new(profile, key, salt).unwrap()
    })
}

/// Two parties, those who were there before them, and the bridge.
struct Line {
    bridge: Bridge,
    start: Instant,
    now: Instant,
    ends: [End; 2],
    gone: Vec<End>,
    reports: Vec<MediaReport>,
}

impl Line {
    fn new(a: End, b: End) -> Self {
        let start = Instant::now();
        let ends = [a, b];
        let bridge = Bridge::plain(start, plan(&ends), [address(1, 5_000), address(6, 5_000)]);
        Self { bridge, start, now: start, ends, gone: Vec::new(), reports: Vec::new() }
    }

    fn replace(&mut self, index: usize, end: End) {
        let old = std::mem::replace(&mut self.ends[index], end);
        self.gone.push(old);
        self.bridge.update(self.now, plan(&self.ends));
        self.drain();
    }

    fn drain(&mut self) {
        let at = self.now - self.start;
        let mut buf = [0; 1_500];
        while let Some(transmit) = self.bridge.poll_transmit(&mut buf) {
            let bytes = &mut buf[..transmit.len];
            let to = |end: &&mut End| match transmit.port {
                Port::Browser => end.port == Port::Browser && end.address == transmit.to,
                Port::Rtp(slot) | Port::Rtcp(slot) => end.port == Port::Rtp(slot),
            };
            let Some(end) = self.ends.iter_mut().chain(&mut self.gone).find(to) else { panic!("to nobody") };
            if (192..=223).contains(&bytes[1]) {
                let len = match &mut end.srtp {
                    Some([_, receiving]) => receiving.unprotect_rtcp(bytes).expect("an authentic report"),
                    None => bytes.len(),
                };
                let bytes = &bytes[..len];
                rtcp::read(bytes, |item| end.left |= matches!(item, RtcpItem::Bye { .. })).unwrap();
                continue;
            }
            let len = match &mut end.srtp {
                Some([_, receiving]) => receiving.unprotect_rtp(bytes).expect("an authentic packet"),
                None => bytes.len(),
            };
            end.heard.push(Sent::read(at, transmit.to, &bytes[..len]));
        }
        self.reports.extend(std::iter::from_fn(|| self.bridge.poll_report()));
    }

    fn run_to(&mut self, end: Instant) {
        while let Some(next) = self.bridge.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.bridge.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// Both talk for so many frames.
    fn talk(&mut self, frames: u32) {
        for _ in 0..frames {
            for index in [0, 1] {
                let (port, source, mut packet) =
                    (self.ends[index].port, self.ends[index].address, self.ends[index].packet());
                self.bridge.handle_datagram(self.now, port, source, &mut packet);
                self.drain();
                self.run_to(self.now + Duration::from_millis(10));
            }
        }
    }

    /// Each hears the other, and not itself, in its last second.
    fn assert_tones(&self) {
        for (end, other) in [(&self.ends[0], &self.ends[1]), (&self.ends[1], &self.ends[0])] {
            let last = &end.heard[end.heard.len() - 50..];
            let pcm = hear(last, end.codec());
            let (told, echo) = (amplitude(&pcm[1_600..], 8_000, other.hz), amplitude(&pcm[1_600..], 8_000, end.hz));
            assert!((6_000.0..9_500.0).contains(&told) && echo < 300.0, "{} Hz at {told}, {echo}", other.hz);
        }
    }
}

fn plan([a, b]: &[End; 2]) -> MediaPlan {
    MediaPlan { a: leg(a.media.clone(), Hears::Peer), b: leg(b.media.clone(), Hears::Peer) }
}

#[test]
fn every_kind_of_leg_talks_to_every_other() {
    let browser = |side, codec, hz| End::browser(side, codec, hz);
    let lines = [
        (browser(Side::A, Codec::Opus, 440.0), End::rtp(0, Codec::Pcmu, 1_000.0)),
        (End::rtp(0, Codec::Pcma, 440.0), browser(Side::B, Codec::Opus, 1_000.0)),
        (End::rtp(0, Codec::Pcmu, 440.0), End::rtp(1, Codec::Pcma, 1_000.0)),
        (End::rtp(2, Codec::Pcma, 440.0), End::rtp(3, Codec::Pcma, 1_000.0)),
        (browser(Side::A, Codec::Opus, 440.0), browser(Side::B, Codec::Opus, 1_000.0)),
        (browser(Side::A, Codec::Opus, 440.0), browser(Side::B, Codec::Pcmu, 1_000.0)),
    ];
    for (a, b) in lines {
        let mut line = Line::new(a, b);
        line.talk(100);
        line.assert_tones();
        // What is passed on begins behind the silence of before.
        let ahead_ms = if line.ends.iter().all(|end| end.codec() == Codec::Opus) { 20 } else { 0 };
        for end in &line.ends {
            assert_time_line(&end.heard, end.codec().clock_rate() / 1_000, ahead_ms);
            assert!(end.heard.iter().all(|sent| sent.header.ssrc == end.hz as u32));
        }
        line.reports.retain(|report| !matches!(report, MediaReport::Quality(_)));
        assert_eq!(line.reports, [MediaReport::FirstRtp(Side::A), MediaReport::FirstRtp(Side::B)]);
        let stats = line.bridge.stats();
        assert_eq!((stats.a.packets_in, stats.b.packets_in, stats.a.lost, stats.b.lost), (100, 100, 0, 0));
    }
}

/// The bytes of one law go from trunk to trunk as they are: all 256 of them.
#[test]
fn trunk_to_trunk_with_one_law_passes_payloads_through() {
    for codec in [Codec::Pcmu, Codec::Pcma] {
        let mut line = Line::new(End::rtp(0, codec, 440.0), End::rtp(1, codec, 1_000.0));
        let payloads: [Vec<u8>; 2] = [(0..160).collect(), (96..=255).collect()];
        for n in 0..100_u16 {
            let (timestamp, ssrc) = (u32::from(n) * 160, 3);
            let payload_type = codec.static_payload_type().unwrap();
            let header = RtpHeader { payload_type, sequence: n, timestamp, ssrc, marker: false };
            let mut bytes = vec![0; 12];
            header.write(&mut bytes).unwrap();
            bytes.extend(&payloads[usize::from(n % 2)]);
            let (port, source) = (line.ends[0].port, line.ends[0].address);
            line.bridge.handle_datagram(line.now, port, source, &mut bytes);
            line.run_to(line.now + Duration::from_millis(20));
        }
        for payload in &payloads {
            let whole = line.ends[1].heard.iter().filter(|sent| sent.payload == *payload).count();
            assert!(whole >= 48, "{codec:?}: {whole}");
        }
    }
}

/// A transfer: first who was called is another, then who called. The one who stays hears the new party on one unbroken stream.
#[test]
fn a_leg_takes_the_place_of_another_while_the_other_side_goes_on() {
    let mut line = Line::new(End::browser(Side::A, Codec::Opus, 440.0), End::rtp(0, Codec::Pcmu, 1_000.0));
    line.talk(100);
    line.assert_tones();
    // Another slot, another codec.
    line.replace(1, End::rtp(1, Codec::Pcma, 1_500.0));
    line.talk(100);
    line.assert_tones();
    // Another kind.
    line.replace(1, End::browser(Side::B, Codec::Opus, 700.0));
    line.talk(100);
    line.assert_tones();
    assert_time_line(&line.ends[0].heard, 48, 20);
    assert!(line.ends[0].heard.iter().all(|sent| sent.header.ssrc == 440));
    assert!(line.gone.iter().all(|end| end.left), "each was told goodbye");
    // Now the caller: a browser gives way to an RTP leg in the slot that the first callee had.
    line.gone.clear();
    line.replace(0, End::rtp(0, Codec::Pcmu, 1_900.0));
    line.talk(100);
    line.assert_tones();
    assert_time_line(&line.ends[1].heard, 48, 20);
    // The same slot, but another party.
    line.gone.clear();
    line.replace(0, End::rtp(0, Codec::Pcmu, 2_300.0));
    line.talk(100);
    line.assert_tones();
    assert_time_line(&line.ends[1].heard, 48, 20);
    assert!(line.ends[1].heard.iter().all(|sent| sent.header.ssrc == 700));
    // What all legs of a side did is counted.
    let stats = line.bridge.stats();
    assert_eq!((stats.a.packets_in, stats.b.packets_in), (500, 500));
}

/// Late packets of the party that left are not the new party's.
#[test]
fn the_old_party_is_not_heard_any_more() {
    let mut line = Line::new(End::browser(Side::A, Codec::Opus, 440.0), End::rtp(0, Codec::Pcmu, 1_000.0));
    line.talk(100);
    line.replace(1, End::rtp(1, Codec::Pcmu, 1_500.0));
    for _ in 0..100 {
        let (port, source, mut packet) = (line.gone[0].port, line.gone[0].address, line.gone[0].packet());
        line.bridge.handle_datagram(line.now, port, source, &mut packet);
        line.talk(1);
    }
    line.assert_tones();
    let last = &line.ends[0].heard[line.ends[0].heard.len() - 50..];
    assert!(amplitude(&hear(last, Codec::Opus)[1_600..], 8_000, 1_000.0) < 200.0);
}

/// Transferred while a key was down: the party that stays would hear the digit for ever, and no sound.
#[test]
fn a_key_held_by_a_party_that_leaves_comes_up() {
    let mut line = Line::new(End::rtp(0, Codec::Pcmu, 440.0), End::rtp(1, Codec::Pcmu, 1_000.0));
    for end in &mut line.ends {
        let LegMedia::Rtp(media) = &mut end.media else { panic!("RTP") };
        media.telephone_event = Some(TelephoneEvent { payload_type: 101, clock_rate: 8_000 });
    }
    line.bridge.update(line.now, plan(&line.ends));
    line.talk(50);
    let (port, source, mut packet) = (line.ends[0].port, line.ends[0].address, line.ends[0].packet());
    let header = RtpPacket::parse(&packet).unwrap().header;
    RtpHeader { payload_type: 101, ..header }.write(&mut packet).unwrap();
    packet.splice(12.., [5, 10, 0, 160]);
    line.bridge.handle_datagram(line.now, port, source, &mut packet);
    line.run_to(line.now + Duration::from_millis(100));
    assert_eq!(line.ends[1].heard.last().unwrap().header.payload_type, 101, "the key is held");
    line.replace(0, End::rtp(2, Codec::Pcmu, 1_500.0));
    line.talk(100);
    line.assert_tones();
    let digits = |report: &&MediaReport| matches!(report, MediaReport::Digit { from: Side::A, digit: '5', .. });
    assert_eq!(line.reports.iter().filter(digits).count(), 1);
}

/// A side without a leg is no fault: the other one is not disturbed, and may be the only one for a while.
#[test]
fn a_side_may_be_empty_for_a_while() {
    let mut line = Line::new(End::rtp(0, Codec::Pcmu, 440.0), End::rtp(1, Codec::Pcmu, 1_000.0));
    line.talk(50);
    let without = MediaPlan { b: None, a: leg(line.ends[0].media.clone(), Hears::Music) };
    line.bridge.update(line.now, without);
    line.drain();
    let mut packet = line.ends[1].packet();
    line.bridge.handle_datagram(line.now, line.ends[1].port, line.ends[1].address, &mut packet);
    line.run_to(line.now + Duration::from_secs(1));
    let whole = plan(&line.ends);
    line.bridge.update(line.now, whole);
    line.talk(100);
    line.assert_tones();
    assert_exact_time_line(&line.ends[0].heard, 8);
}

/// SDES: what a leg with keys sends and takes is SRTP, in each suite, beside legs of every kind.
#[test]
fn a_leg_with_keys_talks_srtp_in_each_suite() {
    for suite in SrtpSuite::ALL {
        let secure = |slot, hz| End::rtp(slot, Codec::Pcmu, hz).secure(suite, slot);
        for (a, b) in [
            (End::browser(Side::A, Codec::Opus, 440.0), secure(0, 1_000.0)),
            (secure(0, 440.0), End::rtp(1, Codec::Pcma, 1_000.0)),
            (secure(0, 440.0), secure(1, 1_000.0)),
        ] {
            let mut line = Line::new(a, b);
            line.talk(100);
            line.assert_tones();
            let stats = line.bridge.stats();
            assert_eq!((stats.a.rejected, stats.b.rejected, stats.a.lost, stats.b.lost), (0, 0, 0, 0), "{suite:?}");
            line.bridge.close(line.now);
            line.drain();
            assert!(line.ends.iter().all(|end| end.left), "the goodbye is authentic too");
        }
    }
}

/// Without the key nothing gets in, neither plain nor encrypted otherwise.
#[test]
fn what_is_not_authentic_is_refused_and_counted() {
    let secure = End::rtp(1, Codec::Pcmu, 1_000.0).secure(SrtpSuite::AesCm128HmacSha1_80, 1);
    let mut line = Line::new(End::rtp(0, Codec::Pcmu, 440.0), secure);
    let mut plain = End::rtp(1, Codec::Pcmu, 1_500.0);
    let mut other = End::rtp(1, Codec::Pcmu, 1_900.0).secure(SrtpSuite::AesCm128HmacSha1_80, 50);
    for _ in 0..50 {
        for end in [&mut plain, &mut other] {
            let (port, source, mut packet) = (end.port, end.address, end.packet());
            line.bridge.handle_datagram(line.now, port, source, &mut packet);
        }
        line.talk(1);
    }
    let stats = line.bridge.stats();
    assert_eq!((stats.b.rejected, stats.b.packets_in), (100, 50));
    line.talk(50);
    line.assert_tones();
}

/// A re-INVITE: the same keys change nothing though sequence numbers have wrapped; a new key of the peer's counts at once.
#[test]
fn keys_and_counters_over_a_re_invite() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let mut secure = End::rtp(1, Codec::Pcmu, 1_000.0).secure(suite, 1);
    secure.said = 65_500;
    let mut line = Line::new(End::rtp(0, Codec::Pcmu, 440.0), secure);
    line.talk(100);
    // Held and taken back with the same keys: the rollover counter stays at 1.
    for hears in [Hears::Music, Hears::Peer] {
        let mut plan = plan(&line.ends);
        plan.b.as_mut().unwrap().hears = hears;
        if let LegMedia::Rtp(media) = &mut plan.b.as_mut().unwrap().media {
            media.ptime = if hears == Hears::Music { 40 } else { 20 };
        }
        line.bridge.update(line.now, plan);
        line.talk(50);
    }
    line.talk(50);
    line.assert_tones();
    assert_eq!(line.bridge.stats().b.rejected, 0);
    // The peer's new key: its counter begins anew with it. Ours goes on.
    let their_key = SrtpKey(vec![77; suite.key_and_salt_len()]);
    let LegMedia::Rtp(media) = &mut line.ends[1].media else { panic!() };
    media.srtp.as_mut().unwrap().their_key = their_key;
    let [fresh, _] = contexts(media.srtp.as_ref().unwrap());
    line.ends[1].srtp.as_mut().unwrap()[0] = fresh;
    let whole = plan(&line.ends);
    line.bridge.update(line.now, whole);
    line.talk(100);
    line.assert_tones();
    assert_eq!(line.bridge.stats().b.rejected, 0);
}

/// Forks that are heard in turns before the answer, each with its keys: one that is heard again goes on where it was, so that
/// no part of a key stream is used twice.
#[test]
fn a_leg_with_keys_that_comes_back_goes_on_where_it_was() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let one = End::rtp(1, Codec::Pcmu, 1_000.0).secure(suite, 1);
    let mut line = Line::new(End::browser(Side::A, Codec::Opus, 440.0), one);
    line.talk(60);
    for round in 0..3 {
        line.replace(1, End::rtp(2, Codec::Pcmu, 1_500.0 + 50.0 * f32::from(round)).secure(suite, 2 + round));
        line.talk(60);
        line.assert_tones();
        let one = line.gone.remove(0);
        let last = one.heard.last().unwrap().header;
        // Its own counters, ours at its end among them, are those of before: what was repeated would be refused there.
        let heard = one.heard.len();
        line.replace(1, one);
        line.talk(60);
        line.assert_tones();
        let next = line.ends[1].heard[heard].header;
        assert_eq!((next.ssrc, next.sequence), (last.ssrc, last.sequence.wrapping_add(1)));
        line.gone.clear();
    }
    assert_eq!(line.bridge.stats().b.rejected, 0);
    // More of them than a call can have had: the leg that is there stays.
    for seed in 10..60 {
        let media = End::rtp(2, Codec::Pcmu, 2_000.0 + f32::from(seed)).secure(suite, seed).media;
        let plan = MediaPlan { b: leg(media, Hears::Peer), ..plan(&line.ends) };
        line.bridge.update(line.now, plan);
        while line.bridge.poll_transmit(&mut [0; 1_500]).is_some() {}
    }
    let media = line.ends[1].media.clone();
    line.bridge.update(line.now, MediaPlan { b: leg(media, Hears::Peer), ..plan(&line.ends) });
    line.talk(60);
    line.assert_tones();
}
