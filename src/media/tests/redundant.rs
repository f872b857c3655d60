//! Packets of Opus that hold those before once more (RFC 2198), through a whole bridge.

use super::relay::{opus_plan, payload, which};
use super::*;
use crate::codec::Encoder;

const RED: u8 = 63;

fn with_red(mut plan: MediaPlan) -> MediaPlan {
    match &mut plan.a.as_mut().unwrap().media {
        LegMedia::Browser(media) => media.red = Some(RED),
        LegMedia::Rtp(_) => panic!("the browser is a trunk"),
    }
    plan
}

/// A payload of redundancy with the packet before, as Chromium makes them.
fn red(before: Option<&[u8]>, own: &[u8]) -> Vec<u8> {
    let head = before.map(|before| (1 << 31 | 111 << 24 | 960 << 10 | before.len() as u32).to_be_bytes().to_vec());
    [&head.unwrap_or_default(), &[111][..], before.unwrap_or_default(), own].concat()
}

/// The browser says `packets`, one every 20 ms, each with the one before; those lost do not come.
fn talk(lab: &mut Lab, packets: &[Vec<u8>], lost: impl Fn(usize) -> bool) {
    for (n, own) in packets.iter().enumerate() {
        lab.run_to(n as u64 * 20);
        let before = n.checked_sub(1).map(|before| packets[before].as_slice());
        if !lost(n) {
            let (sequence, timestamp) = (65_500_u16.wrapping_add(n as u16), (n as u32).wrapping_mul(960));
            lab.browser_says(RED, sequence, timestamp, &red(before, own));
        }
    }
    lab.run_to(packets.len() as u64 * 20 + 100);
}

/// A tone in packets of Opus without redundancy of its own.
fn tone(packets: usize) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(Codec::Opus, Rate::Narrow, OpusSettings::default()).unwrap();
    encoder.set_fec(None).unwrap();
    let said = sine(packets * 160);
    let encode = |pcm: &[i16]| {
        let mut payload = [0; 400];
        let len = encoder.encode(pcm, &mut payload).unwrap();
        payload[..len].to_vec()
    };
    said.chunks(160).map(encode).collect()
}

fn sine(samples: usize) -> Vec<i16> {
    (0..samples).map(|n| ((n as f32 * 0.35).sin() * 8_000.0) as i16).collect()
}

#[test]
fn what_is_lost_is_heard_from_the_next_packet() {
    let packets = tone(500);
    let made_up = |plan: MediaPlan, lost: fn(usize) -> bool| {
        let mut lab = Lab::new(plan);
        talk(&mut lab, &packets, lost);
        assert_exact_time_line(&lab.to_trunk, 8);
        lab.bridge.stats().a
    };
    let red_plan = || with_red(plan(Codec::Opus, Codec::Pcmu));
    let stats = made_up(red_plan(), |n| n % 10 == 7);
    assert_eq!((stats.lost, stats.rejected), (50, 0));
    // The first is concealed, and what waits to be played at the end.
    assert!(stats.repaired >= 48 && stats.concealed_ms <= 160, "{stats:?}");
    let calm = made_up(red_plan(), |_| false);
    assert_eq!((calm.lost, calm.repaired), (0, 0));
    assert!(calm.concealed_ms <= 120, "{calm:?}");
}

/// RTCP goes by what came: a browser hears of the loss, and knows what its redundancy is for.
#[test]
fn loss_is_reported_whether_it_was_repaired_or_not() {
    let mut lab = Lab::new(with_red(plan(Codec::Opus, Codec::Pcmu)));
    talk(&mut lab, &tone(201), |n| n % 4 == 3);
    assert_eq!(lab.bridge.stats().a.lost, 50);
}

#[test]
fn malformed_redundancy_is_refused_and_the_call_goes_on() {
    let packets = tone(100);
    let mut lab = Lab::new(with_red(plan(Codec::Opus, Codec::Pcmu)));
    talk(&mut lab, &packets, |_| false);
    let before = lab.bridge.stats().a;
    let own = &packets[0];
    let nested = [&[RED][..], &red(None, own)].concat();
    let unknown = [&[99][..], own].concat();
    let long = red(Some(&[0; 900]), &[])[..20].to_vec();
    let bad = [vec![], vec![0x80 | 111], long, nested, unknown, vec![111]];
    for (n, payload) in bad.iter().enumerate() {
        lab.browser_says(RED, 65_500_u16.wrapping_add(100 + n as u16), 100 * 960, payload);
    }
    let after = lab.bridge.stats().a;
    assert_eq!((after.rejected - before.rejected, after.packets_in), (bad.len() as u64, before.packets_in));
    // A block of what was not agreed on, or none of Opus, is left out; the packet is taken.
    let block = |payload_type: u8, data: &[u8]| {
        let head = (1 << 31 | u32::from(payload_type) << 24 | 960 << 10 | data.len() as u32).to_be_bytes();
        [&head[..], &[111], data, own].concat()
    };
    for (n, payload) in [block(99, own), block(111, &[0xff; 3]), block(RED, own)].iter().enumerate() {
        lab.browser_says(RED, 65_500_u16.wrapping_add(102 + 2 * n as u16), (102 + 2 * n as u32) * 960, payload);
    }
    let last = lab.bridge.stats().a;
    assert_eq!((last.rejected, last.packets_in), (after.rejected, after.packets_in + 3));
}

/// Without an agreement its payload type is unknown.
#[test]
fn redundancy_that_was_not_agreed_on_is_refused() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    talk(&mut lab, &tone(10), |_| false);
    assert_eq!((lab.bridge.stats().a.rejected, lab.bridge.stats().a.packets_in), (10, 0));
}

/// Where Opus goes through, the listener gets plain Opus, and what was lost before us too: in its place and once.
#[test]
fn what_is_passed_on_is_whole_again() {
    let mut lab = Lab::new(with_red(opus_plan()));
    let packets: Vec<Vec<u8>> = (0..100).map(payload).collect();
    talk(&mut lab, &packets, |n| n % 10 == 7 || n == 50 || n == 51);
    let passed: Vec<&Sent> = lab.to_trunk.iter().filter(|packet| which(packet).is_some()).collect();
    let numbers: Vec<usize> = passed.iter().map(|packet| which(packet).unwrap()).collect();
    // Of two in a row one is in no packet that came; and the last one is followed by none.
    let expected: Vec<usize> = (0..100).filter(|n| *n != 50).collect();
    assert_eq!(numbers, expected);
    for packet in &passed {
        let n = which(packet).unwrap();
        assert_eq!(usize::from(packet.header.sequence.wrapping_sub(passed[0].header.sequence)), n);
        assert_eq!(packet.header.timestamp.wrapping_sub(passed[0].header.timestamp), n as u32 * 960);
        assert_eq!(packet.header.payload_type, 96);
    }
    let stats = lab.bridge.stats().a;
    assert_eq!((stats.lost, stats.repaired), (12, 11));
}
