//! A direction is wideband where what it receives and what it sends can carry that.

use super::*;
use crate::codec::{Encoder, MAX_PACKET_SAMPLES};

/// A tone that no telephone's band holds.
const HIGH: f32 = 5_500.0;

/// A peer that says a tone by any codec, at any rate of its own.
struct Voice {
    encoder: Encoder,
    hz: f32,
    at: usize,
}

impl Voice {
    fn new(codec: Codec, hz: f32) -> Self {
        let rate = if codec.is_wideband() { Rate::Wide } else { Rate::Narrow };
        Self { encoder: Encoder::new(codec, rate, OpusSettings::of(rate)).unwrap(), hz, at: 0 }
    }

    fn packet(&mut self) -> Vec<u8> {
        let rate = self.encoder.rate();
        let turn = |n: usize| std::f32::consts::TAU * self.hz * n as f32 / rate.hz() as f32;
        let pcm: Vec<i16> = (self.at..self.at + rate.frame()).map(|n| (8_000.0 * turn(n).sin()) as i16).collect();
        self.at += rate.frame();
        let mut packet = vec![0; 400];
        let len = self.encoder.encode(&pcm, &mut packet).unwrap();
        packet.truncate(len);
        packet
    }
}

/// What a wideband peer hears.
fn hear_wide(sent: &[Sent], codec: Codec) -> Vec<i16> {
    let mut decoder = Decoder::new(codec, Rate::Wide).unwrap();
    let (mut heard, mut pcm) = (Vec::new(), [0; MAX_PACKET_SAMPLES]);
    for packet in sent.iter().filter(|p| ![101, 110].contains(&p.header.payload_type)) {
        let len = decoder.decode(&packet.payload, &mut pcm).unwrap();
        heard.extend_from_slice(&pcm[..len]);
    }
    heard
}

/// A browser with Opus that called a trunk which sends `trunk` first and may send the others.
fn wide_plan(trunk: Codec, others: &[Codec]) -> MediaPlan {
    let mut plan = plan(Codec::Opus, Codec::Pcmu);
    let media = trunk_of(&mut plan);
    let number = |codec: Codec| accepted(codec.static_payload_type().unwrap_or(96), codec);
    media.accepted = [&[trunk], others].concat().into_iter().map(number).collect();
    media.send = media.accepted[0];
    plan
}

/// The browser and the trunk speak for `packets` x 20 ms, each with its own voice; the trunk by `trunk`.
fn converse_wide(lab: &mut Lab, packets: usize, mut browser: Voice, mut trunk: Voice, first: u16) {
    let begin = (lab.now - lab.start).as_millis() as u64;
    let codec = trunk.encoder.codec();
    let number = codec.static_payload_type().unwrap_or(96);
    let spoken = browser.encoder.codec();
    for n in 0..packets {
        let at = begin + n as u64 * 20;
        lab.run_to(at);
        let n = first as u32 + n as u32;
        let clock = n * spoken.clock_rate() / 50;
        lab.browser_says(spoken.static_payload_type().unwrap_or(111), n as u16, clock, &browser.packet());
        lab.run_to(at + 7);
        lab.trunk_says(number, n as u16, n * codec.clock_rate() / 50, &trunk.packet());
    }
    lab.run_to(begin + packets as u64 * 20);
}

fn loud(pcm: &[i16], rate: Rate, hz: f32) -> f32 {
    amplitude(&pcm[pcm.len() / 2..], rate.hz(), hz)
}

#[test]
fn what_lies_above_the_telephones_band_arrives_both_ways() {
    for (browser, trunk) in
        [(Codec::Opus, Codec::G722), (Codec::Opus, Codec::Opus), (Codec::G722, Codec::G722), (Codec::G722, Codec::Opus)]
    {
        let mut plan = wide_plan(trunk, &[Codec::Pcmu]);
        plan.a = leg(LegMedia::Browser(browser_media(browser)), Hears::Peer);
        let mut lab = Lab::new(plan);
        converse_wide(&mut lab, 100, Voice::new(browser, HIGH), Voice::new(trunk, 6_000.0), 0);
        // Opus is passed on.
        let ahead_ms = if (browser, trunk) == (Codec::Opus, Codec::Opus) { 20 } else { 0 };
        assert_time_line(&lab.to_trunk, trunk.clock_rate() / 1_000, ahead_ms);
        assert_time_line(&lab.to_browser, browser.clock_rate() / 1_000, ahead_ms);
        let (at_trunk, at_browser) = (hear_wide(&lab.to_trunk, trunk), hear_wide(&lab.to_browser, browser));
        let levels = (loud(&at_trunk, Rate::Wide, HIGH), loud(&at_browser, Rate::Wide, 6_000.0));
        assert!(levels.0 > 5_000.0 && levels.1 > 5_000.0, "{browser:?} and {trunk:?}: {levels:?}");
    }
}

#[test]
fn a_direction_with_a_telephone_at_one_end_stays_narrowband() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse_wide(&mut lab, 50, Voice::new(Codec::Opus, 1_000.0), Voice::new(Codec::Pcmu, 440.0), 0);
    let toc = lab.to_browser.last().unwrap().payload[0] >> 3;
    assert!(toc < 4, "narrowband SILK towards the browser, not {toc}");
    assert!(loud(&lab.trunk_pcm(), Rate::Narrow, 1_000.0) > 5_000.0);
}

/// A peer may send any codec of the answer, whatever we send it (RFC 3264 section 6.1).
#[test]
fn a_trunk_that_sends_another_codec_than_we_do_is_heard() {
    let mut lab = Lab::new(wide_plan(Codec::G722, &[Codec::Pcmu]));
    converse_wide(&mut lab, 100, Voice::new(Codec::Opus, HIGH), Voice::new(Codec::Pcmu, 1_000.0), 0);
    assert!(loud(&hear_wide(&lab.to_trunk, Codec::G722), Rate::Wide, HIGH) > 5_000.0);
    let heard = hear_wide(&lab.to_browser, Codec::Opus);
    assert!(loud(&heard, Rate::Wide, 1_000.0) > 6_000.0);
    assert!(loud(&heard, Rate::Wide, 7_000.0) < 100.0, "no image of the doubled rate");

    // And the other way round: its first G.722 packet makes the direction wideband.
    let mut lab = Lab::new(wide_plan(Codec::Pcmu, &[Codec::G722]));
    converse_wide(&mut lab, 100, Voice::new(Codec::Opus, 1_000.0), Voice::new(Codec::G722, HIGH), 0);
    assert!(loud(&hear_wide(&lab.to_browser, Codec::Opus), Rate::Wide, HIGH) > 5_000.0);
    assert_exact_time_line(&lab.to_browser, 48);
    assert!(loud(&lab.trunk_pcm(), Rate::Narrow, 1_000.0) > 5_000.0);
}

#[test]
fn a_reinvite_from_the_telephones_band_to_wideband_and_back() {
    let mut lab = Lab::new(wide_plan(Codec::Pcmu, &[]));
    converse_wide(&mut lab, 50, Voice::new(Codec::Opus, HIGH), Voice::new(Codec::Pcmu, 1_000.0), 0);
    assert!(loud(&lab.trunk_pcm(), Rate::Narrow, 2_500.0) < 100.0, "and it does not fold back");
    lab.update(|plan| *plan = wide_plan(Codec::G722, &[]));
    let before = (lab.to_trunk.len(), lab.to_browser.len());
    converse_wide(&mut lab, 100, Voice::new(Codec::Opus, HIGH), Voice::new(Codec::G722, HIGH), 50);
    assert!(loud(&hear_wide(&lab.to_trunk[before.0..], Codec::G722), Rate::Wide, HIGH) > 5_000.0);
    assert!(loud(&hear_wide(&lab.to_browser[before.1..], Codec::Opus), Rate::Wide, HIGH) > 5_000.0);
    lab.update(|plan| *plan = wide_plan(Codec::Pcmu, &[]));
    let again = (lab.to_trunk.len(), lab.to_browser.len());
    converse_wide(&mut lab, 100, Voice::new(Codec::Opus, 1_000.0), Voice::new(Codec::Pcmu, 440.0), 150);
    assert!(loud(&hear(&lab.to_trunk[again.0..], Codec::Pcmu), Rate::Narrow, 1_000.0) > 5_000.0);
    assert!(loud(&hear(&lab.to_browser[again.1..], Codec::Opus), Rate::Narrow, 440.0) > 5_000.0);
    // Opus and its time line know nothing of it.
    assert_exact_time_line(&lab.to_browser, 48);
}

#[test]
fn a_ringing_tone_keeps_its_pitch_in_a_wideband_direction() {
    let mut lab = Lab::new(wide_plan(Codec::G722, &[]));
    lab.update(|plan| {
        plan.a.as_mut().unwrap().hears = Hears::PeerOr(Tone::Eu);
        plan.b.as_mut().unwrap().hears = Hears::Nothing;
    });
    lab.run_to(900);
    let heard = hear_wide(&lab.to_browser, Codec::Opus);
    assert!(loud(&heard, Rate::Wide, 425.0) > 2_000.0);
    assert!(loud(&heard, Rate::Wide, 7_575.0) < 20.0);
}
