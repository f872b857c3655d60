//! "Why is there no audio", and how it sounds, over a whole bridge: each cause by the packets that make it.

use super::*;
use crate::rtp::srtp::{Profile, SrtpContext};
use crate::sdp::{Fingerprint, LegQuality, SrtpKey, SrtpPlan, SrtpSuite};
use crate::webrtc::Identity;

/// What the trunk does each 20 ms; the browser speaks all the while.
type Trunk = fn(&mut Lab, u16);

fn speech(n: u16) -> Vec<u8> {
    companded(Law::Mu, &sine(1_000.0, usize::from(n) * 160, 160))
}

fn talks(lab: &mut Lab, n: u16) {
    lab.trunk_says(0, n, u32::from(n) * 160, &speech(n));
}

/// Lets the browser speak and the trunk do what it does, for so many packets.
fn run(lab: &mut Lab, packets: std::ops::Range<u16>, trunk: Trunk) {
    let mut tongue = Tongue::new(440.0);
    for n in packets {
        lab.run_to(u64::from(n) * 20);
        let packet = tongue.packet(usize::from(n));
        lab.browser_says(111, n, u32::from(n) * 960, &packet);
        trunk(lab, n);
    }
}

fn secure(plan: &mut MediaPlan) {
    let key = |byte| SrtpKey(vec![byte; 30]);
    let (suite, our_key) = (SrtpSuite::AesCm128HmacSha1_80, key(1));
    trunk_of(plan).srtp = Some(SrtpPlan { suite, our_key, their_key: key(2), their_mki: 0 });
}

fn with_another_key(lab: &mut Lab, n: u16) {
    let header = RtpHeader { sequence: n, timestamp: u32::from(n) * 160, ssrc: TRUNK_SSRC, ..RtpHeader::default() };
    let mut bytes = vec![0; 12 + 160 + 16];
    header.write(&mut bytes).unwrap();
    let mut context = SrtpContext::new(Profile::Aes128CmSha1_80, &[7; 16], &[7; 14]).unwrap();
    let len = context.protect_rtp(&mut bytes, 172).unwrap();
    lab.bridge.handle_datagram(lab.now, TRUNK_RTP, trunk_address(), &mut bytes[..len]);
    lab.drain();
}

fn from_a_stranger(lab: &mut Lab, n: u16) {
    let header = RtpHeader { sequence: n, timestamp: u32::from(n) * 160, ssrc: 1, ..RtpHeader::default() };
    lab.rtp(TRUNK_RTP, address(9, 9_999), header, &speech(n));
}

#[test]
fn each_cause_on_the_trunks_side_is_told_within_three_seconds() {
    type Change = fn(&mut MediaPlan);
    let as_it_is: Change = |_| {};
    let table: [(NoAudio, Change, Trunk); 6] = [
        (NoAudio::NoRtp, as_it_is, |_, _| {}),
        (NoAudio::WrongPayloadType, as_it_is, |lab, n| lab.trunk_says(97, n, u32::from(n) * 160, &speech(n))),
        (NoAudio::Stranger, as_it_is, from_a_stranger),
        (NoAudio::NotAuthentic, secure, with_another_key),
        (NoAudio::Silent, as_it_is, |lab, n| lab.trunk_says(0, n, u32::from(n) * 160, &[0xff; 160])),
        (NoAudio::Held, |plan| trunk_of(plan).direction = Direction::SendOnly, talks),
    ];
    for (cause, change, trunk) in table {
        let mut plan = plan(Codec::Opus, Codec::Pcmu);
        change(&mut plan);
        let mut lab = Lab::new(plan);
        run(&mut lab, 0..250, trunk);
        let [(at, Side::B, Some(told))] = lab.verdicts[..] else { panic!("{cause}: {:?}", lab.verdicts) };
        assert!(told == (Side::B, cause) && (2_000..=3_000).contains(&at), "{cause}: {told:?} at {at} ms");
    }
}

#[test]
fn a_trunk_that_wants_nothing_is_where_the_browsers_sound_ends() {
    let mut plan = plan(Codec::Opus, Codec::Pcmu);
    trunk_of(&mut plan).direction = Direction::RecvOnly;
    let mut lab = Lab::new(plan);
    run(&mut lab, 0..200, talks);
    assert!(matches!(lab.verdicts[..], [(_, Side::A, Some((Side::B, NoAudio::Held)))]), "{:?}", lab.verdicts);
}

#[test]
fn sound_that_comes_late_takes_the_verdict_back() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    run(&mut lab, 0..200, |_, _| {});
    run(&mut lab, 200..300, talks);
    let [(_, Side::B, Some(_)), (at, Side::B, None)] = lab.verdicts[..] else { panic!("{:?}", lab.verdicts) };
    assert!((4_000..4_600).contains(&at), "{at}");
}

#[test]
fn a_browser_that_never_comes_has_no_ice() {
    let start = Instant::now();
    let mut plan = plan(Codec::Opus, Codec::Pcmu);
    let LegMedia::Browser(browser) = &mut plan.a.as_mut().unwrap().media else { panic!() };
    browser.fingerprints = vec![Fingerprint { algorithm: "sha-256".into(), digest: vec![0; 32] }];
    let means = Means { identity: Some(Identity::generate().unwrap()), ..Means::default() };
    let bridge = Bridge::new(start, plan.clone(), &means, [7; 32]).unwrap();
    let mut lab = Lab::of(bridge, start, plan);
    for n in 0..200 {
        lab.run_to(u64::from(n) * 20);
        talks(&mut lab, n);
    }
    // What it says cannot come, and what it should hear cannot go.
    let expected = [Side::A, Side::B].map(|from| (2_500, from, Some((Side::A, NoAudio::NoIce))));
    assert_eq!(lab.verdicts, expected);
}

#[test]
fn nothing_is_told_of_calls_that_are_well() {
    // Healthy, with loss and jitter for all that.
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 500, |n| n % 7 == 3);
    assert_eq!(lab.verdicts, []);
    // Muted: the browser goes on with silence, the trunk's line too.
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    run(&mut lab, 0..100, talks);
    let mut silence = Tongue::new(0.0);
    for n in 100..400_u16 {
        lab.run_to(u64::from(n) * 20);
        lab.browser_says(111, n, u32::from(n) * 960, &silence.packet(0));
        lab.trunk_says(0, n, u32::from(n) * 160, &[0xff; 160]);
    }
    assert_eq!(lab.verdicts, []);
    // Ringing, with a caller that says nothing yet, and nothing from the trunk.
    let mut lab = Lab::new(early_plan(Tone::Uk));
    lab.run_to(10_000);
    assert_eq!(lab.verdicts, []);
    // Silence that comfort noise has announced.
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    run(&mut lab, 0..100, talks);
    lab.trunk_says(13, 100, 16_000, &[60]);
    run(&mut lab, 100..400, |_, _| {});
    assert_eq!(lab.verdicts, []);
}

#[test]
fn a_hold_is_no_fault_and_takes_a_verdict_back() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    run(&mut lab, 0..150, |_, _| {});
    assert_eq!(lab.verdicts.len(), 1);
    // The trunk holds: it sends no more, and the browser hears music.
    lab.update(|plan| {
        trunk_of(plan).direction = Direction::Inactive;
        plan.a.as_mut().unwrap().hears = Hears::PeerOrMusic;
        plan.b.as_mut().unwrap().hears = Hears::Nothing;
    });
    run(&mut lab, 150..500, |_, _| {});
    assert!(matches!(lab.verdicts[..], [_, (_, Side::B, None)]), "{:?}", lab.verdicts);
}

#[test]
fn quality_is_told_once_a_second_and_tells_loss_concealment_and_level() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 500, |n| n >= 250 && n % 10 == 5);
    assert_eq!(lab.qualities.len(), 10);
    let (before, after) = (lab.qualities[3], *lab.qualities.last().unwrap());
    for leg in [before.a, before.b] {
        let inbound = leg.inbound.unwrap();
        assert_eq!((inbound.loss_permille, inbound.concealed_ms), (0, Some(0)));
        assert!(inbound.mos.value() > 4.3 && inbound.jitter_ms < 5, "{inbound:?}");
        assert!((-20..-12).contains(&leg.level_db), "{}", leg.level_db);
        assert!(leg.hears.unwrap().mos <= inbound.mos);
    }
    for leg in [after.a, after.b] {
        let inbound = leg.inbound.unwrap();
        assert!((80..=120).contains(&inbound.loss_permille), "{inbound:?}");
        assert!((80..=140).contains(&inbound.concealed_ms.unwrap()), "{inbound:?}");
        assert!(inbound.mos.value() < 4.2);
    }
    let (browser, trunk) = (after.a.inbound.unwrap(), after.b.inbound.unwrap());
    assert!((browser.codec, trunk.codec) == (Codec::Opus, Codec::Pcmu) && browser.mos > trunk.mos);
}

#[test]
fn the_peers_reports_tell_the_round_trip_and_what_it_lost() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 250, |_| false);
    let sent = lab.rtcp.iter().rev().find(|(_, port, _, _)| *port == TRUNK_RTCP).unwrap().clone();
    let mut last = None;
    rtcp::read(&sent.3, |item| {
        if let RtcpItem::Sender { info, .. } = item {
            last = Some((info.ntp >> 16) as u32);
        }
    })
    .unwrap();
    // It had the report for all but 80 ms of the time since.
    let held = (lab.now - lab.start) - sent.0 - Duration::from_millis(80);
    let block = ReportBlock {
        ssrc: 0x2222,
        fraction_lost: 51,
        jitter: 80,
        last_sr: last.unwrap(),
        delay_since_last_sr: (held.as_micros() * 65_536 / 1_000_000) as u32,
        ..ReportBlock::default()
    };
    for (ssrc, heard) in [(0x2222, false), (TRUNK_SSRC, true)] {
        let compound = Compound { ssrc, sender: None, report: Some(block), cname: "x", bye: false };
        let mut bytes = [0; 100];
        let len = compound.write(&mut bytes).unwrap();
        lab.bridge.handle_datagram(lab.now, TRUNK_RTCP, address(2, 4_001), &mut bytes[..len]);
        let end = (lab.now - lab.start).as_millis() as u64 + 1_000;
        lab.run_to(end);
        let trunk = lab.qualities.last().unwrap().b;
        // A report in our own name is our own, sent back.
        assert_eq!((trunk.rtt_ms.is_some(), trunk.outbound.is_some()), (heard, heard));
        if let Some(outbound) = trunk.outbound {
            assert_eq!((outbound.loss_permille, outbound.jitter_ms), (199, 10));
        }
    }
    // The second report came a second after it was written.
    let rtt = lab.qualities.last().unwrap().b.rtt_ms.unwrap();
    assert!((1_075..=1_085).contains(&rtt), "{rtt}");
    let outbound = lab.qualities.last().unwrap().b.outbound.unwrap();
    assert!(outbound.delay_ms.abs_diff(rtt / 2 + 60) <= 1, "{outbound:?}");
}

/// RFC 3611: a trunk that asks for VoIP metrics has them in our reports, and nobody else has.
#[test]
fn voip_metrics_are_sent_where_they_are_asked_for_rfc3611() {
    for asked in [true, false] {
        let mut plan = plan(Codec::Opus, Codec::Pcmu);
        trunk_of(&mut plan).voip_metrics = asked;
        let mut lab = Lab::new(plan);
        converse(&mut lab, 500, |n| n % 20 == 7);
        let blocks: Vec<&[u8]> = lab
            .rtcp
            .iter()
            .filter(|(_, port, _, _)| *port == TRUNK_RTCP)
            .filter_map(|(_, _, _, bytes)| bytes.get(bytes.len().checked_sub(44)?..))
            .filter(|block| block[1] == 207)
            .collect();
        assert_eq!(!blocks.is_empty(), asked);
        let Some(last) = blocks.last() else { continue };
        assert_eq!(last[12..16], TRUNK_SSRC.to_be_bytes());
        assert!((10..=14).contains(&last[16]), "5 % lost, in 256ths: {}", last[16]);
        assert!((60..=93).contains(&last[32]) && (30..=44).contains(&last[34]), "R {}, MOS {}", last[32], last[34]);
        let browsers = lab.rtcp.iter().filter(|(_, port, _, _)| *port == Port::Browser);
        assert!(
            browsers.clone().count() > 5
                && browsers.clone().all(|(_, _, _, bytes)| !bytes.windows(4).any(|head| head == [0x80, 207, 0, 10]))
        );
    }
}

/// A word of RTCP from the trunk.
fn lives(lab: &mut Lab) {
    let compound = Compound { ssrc: TRUNK_SSRC, sender: None, report: None, cname: "trunk", bye: false };
    let mut bytes = [0; 100];
    let len = compound.write(&mut bytes).unwrap();
    lab.bridge.handle_datagram(lab.now, TRUNK_RTCP, address(2, 4_001), &mut bytes[..len]);
    lab.drain();
}

fn lives_now_and_then(lab: &mut Lab, n: u16) {
    if n.is_multiple_of(250) {
        lives(lab);
    }
}

#[test]
fn a_phone_that_spoke_and_sends_nothing_is_silent_and_no_fault_while_it_lives() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    run(&mut lab, 0..100, talks);
    run(&mut lab, 100..1_001, lives_now_and_then);
    assert!(matches!(lab.verdicts[..], [(4_250..=4_750, Side::B, Some((Side::B, NoAudio::Silent)))]));
    // And then nothing at all.
    run(&mut lab, 1_001..1_600, |_, _| {});
    assert!(matches!(lab.verdicts[1..], [(30_000..=30_500, Side::B, Some((Side::B, NoAudio::NoRtp)))]));
}

#[test]
fn a_pause_that_was_announced_is_believed_for_five_seconds_after_the_last_sign_of_life() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    run(&mut lab, 0..100, talks);
    lab.trunk_says(13, 100, 16_000, &[60]);
    run(&mut lab, 100..1_001, lives_now_and_then);
    assert_eq!(lab.verdicts, []);
    run(&mut lab, 1_001..1_600, |_, _| {});
    let told: Vec<_> = lab.verdicts.iter().map(|(at, _, told)| (at / 1_000, told.unwrap().1)).collect();
    assert_eq!(told, [(27, NoAudio::Silent), (30, NoAudio::NoRtp)]);
}

#[test]
fn who_is_passed_on_and_speaks_in_short_bursts_is_not_taken_for_silent() {
    let mut plan = plan(Codec::Opus, Codec::Pcmu);
    trunk_of(&mut plan).send = accepted(96, Codec::Opus);
    trunk_of(&mut plan).accepted = vec![accepted(96, Codec::Opus)];
    let mut lab = Lab::new(plan);
    let mut tongue = Tongue::new(0.0);
    for n in 0..200_u16 {
        lab.run_to(u64::from(n) * 20);
        tongue.hz = if (5..15).contains(&(n % 25)) { 440.0 } else { 0.0 };
        let packet = tongue.packet(usize::from(n));
        lab.browser_says(111, n, u32::from(n) * 960, &packet);
    }
    assert!(lab.verdicts.iter().all(|(_, from, _)| *from == Side::B), "{:?}", lab.verdicts);
}

#[test]
fn a_browser_that_tries_the_way_hears_a_soft_tone_and_is_measured_alone() {
    let mut probe = plan(Codec::Opus, Codec::Pcmu);
    (probe.a.as_mut().unwrap().hears, probe.b) = (Hears::Comfort, None);
    let mut lab = Lab::new(probe);
    let mut tongue = Tongue::new(440.0);
    for n in 0..250_u16 {
        lab.run_to(u64::from(n) * 20);
        // Four of a hundred get lost in the last seconds.
        if n < 100 || n % 25 != 7 {
            lab.browser_says(111, n, u32::from(n) * 960, &tongue.packet(n.into()));
        }
    }
    lab.run_to(5_000);
    assert!((248..=251).contains(&lab.to_browser.len()), "{} packets", lab.to_browser.len());
    let heard = lab.browser_pcm();
    let loudest = heard.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
    assert!((300..3_000).contains(&loudest), "{loudest}");
    assert!(lab.rtcp.iter().any(|(_, port, _, _)| *port == Port::Browser), "RTCP goes out");
    assert_eq!((lab.qualities.len(), &lab.verdicts[..]), (5, &[][..]));
    let (second, last) = (lab.qualities[1], lab.qualities[4]);
    assert_eq!((last.b, last.a.hears), (LegQuality::NONE, None));
    let (before, after) = (second.a.inbound.unwrap(), last.a.inbound.unwrap());
    assert_eq!((before.codec, before.loss_permille, before.concealed_ms), (Codec::Opus, 0, Some(0)));
    assert!(before.mos.value() > 4.3 && before.buffer_ms.unwrap() <= 100, "{before:?}");
    assert!((30..=50).contains(&after.loss_permille) && after.mos < before.mos, "{after:?}");
    assert!((-20..-12).contains(&second.a.level_db), "{}", second.a.level_db);
    // A caller whose call rings hears nothing yet and is not measured.
    let mut rings = plan(Codec::Opus, Codec::Pcmu);
    (rings.a.as_mut().unwrap().hears, rings.b) = (Hears::Nothing, None);
    let mut lab = Lab::new(rings);
    lab.run_to(3_000);
    assert_eq!((lab.to_browser.len(), lab.qualities.len()), (0, 0));
}
