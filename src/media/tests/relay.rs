//! Opus that both parties speak goes through as it is.

use super::*;
use crate::codec::MAX_PACKET_SAMPLES;

/// Our clock with a peer that speaks Opus, per millisecond.
const PER_MS: u32 = 48;

fn opus_trunk(plan: &mut MediaPlan) {
    let media = trunk_of(plan);
    media.send = accepted(96, Codec::Opus);
    media.accepted = vec![accepted(96, Codec::Opus), accepted(0, Codec::Pcmu)];
    media.telephone_event = Some(TelephoneEvent { payload_type: 101, clock_rate: 48_000 });
}

/// A browser and a trunk that both speak Opus.
pub(super) fn opus_plan() -> MediaPlan {
    let mut plan = plan(Codec::Opus, Codec::Pcmu);
    opus_trunk(&mut plan);
    plan
}

/// A payload that says which it is: 20 ms of wideband SILK by its first byte.
pub(super) fn payload(n: usize) -> Vec<u8> {
    let mut payload = vec![9 << 3; 60];
    payload[1..3].copy_from_slice(&(n as u16).to_be_bytes());
    payload
}

/// Which it is, if it was passed on.
pub(super) fn which(packet: &Sent) -> Option<usize> {
    (packet.payload.len() == 60 && packet.payload[3..].iter().all(|byte| *byte == 9 << 3))
        .then(|| usize::from(u16::from_be_bytes([packet.payload[1], packet.payload[2]])))
}

/// The browser's nth packet comes.
fn browser(lab: &mut Lab, n: usize) {
    lab.browser_says(
        111,
        65_500_u16.wrapping_add(n as u16),
        (n as u32).wrapping_mul(960).wrapping_add(77),
        &payload(n),
    );
}

/// The browser's packets of `range` come, one every 20 ms.
fn talk(lab: &mut Lab, range: std::ops::Range<usize>, mut lost: impl FnMut(usize) -> bool) {
    let begin = (lab.now - lab.start).as_millis() as u64;
    let first = range.start;
    for n in range.clone() {
        lab.run_to(begin + (n - first) as u64 * 20);
        if !lost(n) {
            browser(lab, n);
        }
    }
    lab.run_to(begin + range.len() as u64 * 20);
}

/// What holds of any stream of ours: no number twice, and in the order of the numbers no packet begins before the end of the one
/// before.
fn assert_sound(sent: &[Sent]) {
    let mut sent: Vec<&Sent> = sent.iter().collect();
    let first = sent[0].header.sequence;
    sent.sort_by_key(|packet| packet.header.sequence.wrapping_sub(first));
    for pair in sent.windows(2) {
        assert_ne!(pair[0].header.sequence, pair[1].header.sequence);
        let step = pair[1].header.timestamp.wrapping_sub(pair[0].header.timestamp) as i32;
        let events = pair.iter().filter(|packet| packet.header.payload_type == 101).count();
        let least = if events > 0 { 0 } else { 20 * PER_MS as i32 };
        assert!(step >= least, "{step} at {:?}", pair[1].at);
    }
}

/// The time of each packet's timestamp against that of its sending, in milliseconds, from the first.
fn early_ms(sent: &[Sent]) -> Vec<i64> {
    let line = |packet: &Sent| {
        let media = packet.header.timestamp.wrapping_sub(sent[0].header.timestamp) as i32;
        i64::from(media) / i64::from(PER_MS) - (packet.at - sent[0].at).as_millis() as i64
    };
    sent.iter().map(line).collect()
}

#[test]
fn payloads_go_through_unchanged_at_once_and_both_ways() {
    let mut lab = Lab::new(opus_plan());
    for n in 0..200 {
        lab.run_to(n as u64 * 20 + 3);
        browser(&mut lab, n);
        lab.run_to(n as u64 * 20 + 9);
        lab.trunk_says(96, n as u16, n as u32 * 960, &payload(n + 1_000));
    }
    for (sent, from) in [(&lab.to_trunk, 0), (&lab.to_browser, 1_000)] {
        let first = sent.iter().position(|packet| which(packet).is_some()).unwrap();
        let passed = &sent[first..];
        // Before the first there may be silence of ours.
        assert!(first <= 1, "{first}");
        assert_eq!(
            passed.iter().map(|packet| which(packet).unwrap()).collect::<Vec<_>>(),
            (from..from + 200).collect::<Vec<_>>()
        );
        assert_exact_time_line(passed, PER_MS);
        assert!(passed[0].header.marker && passed[1..].iter().all(|packet| !packet.header.marker));
    }
    assert!(lab.to_trunk.iter().all(|p| (p.header.payload_type, p.header.ssrc) == (96, 0x2222)));
    assert!(lab.to_browser.iter().all(|p| (p.header.payload_type, p.header.ssrc) == (111, 0x1111)));
    // At once: nothing waits in a buffer.
    let of = |n| lab.to_trunk.iter().find(|packet| which(packet) == Some(n)).unwrap().at;
    assert_eq!(of(150), Duration::from_millis(150 * 20 + 3));
    let stats = lab.bridge.stats();
    assert_eq!((stats.a.packets_in, stats.a.concealed_ms, stats.b.concealed_ms), (200, 0, 0));
}

#[test]
fn what_is_lost_before_us_is_a_gap_behind_us() {
    let mut lab = Lab::new(opus_plan());
    talk(&mut lab, 0..100, |n| n % 10 == 7);
    let passed: Vec<Sent> = lab.to_trunk.iter().filter(|packet| which(packet).is_some()).cloned().collect();
    assert_eq!(passed.len(), 90);
    assert_gaps_stand(&passed, which, PER_MS);
    assert_eq!(lab.bridge.stats().a.lost, 10);
    assert_eq!(lab.bridge.stats().a.concealed_ms, 0, "that is the listener's business");
}

#[test]
fn a_pause_is_a_pause_and_a_long_silence_is_filled() {
    let mut lab = Lab::new(opus_plan());
    talk(&mut lab, 0..20, |_| false);
    // Discontinuous transmission: a packet every 400 ms.
    let before = lab.to_trunk.len();
    talk(&mut lab, 20..120, |n| n % 20 != 0);
    assert_eq!(lab.to_trunk.len() - before, 5, "nothing of ours in between");
    assert!(early_ms(&lab.to_trunk[1..]).iter().all(|early| early.abs() <= 20));
    // Then nothing at all: from a second on the listener gets silence, so that the way stays open.
    let before = lab.to_trunk.len();
    lab.run_to(2_400 + 3_000);
    let silence = lab.to_trunk.len() - before;
    assert!((115..=135).contains(&silence), "{silence}");
    talk(&mut lab, 270..300, |_| false);
    assert_eq!(lab.to_trunk.iter().rev().take(29).filter(|packet| which(packet).is_some()).count(), 29);
    assert_sound(&lab.to_trunk);
    assert!(early_ms(&lab.to_trunk[1..]).iter().all(|early| early.abs() <= 40), "true to time all along");
    assert_eq!(lab.qualities.last().unwrap().a.inbound.unwrap().delay_ms, 20, "a packet, and nothing of a playout");
}

#[test]
fn hold_and_resume_without_anything_stale() {
    let mut lab = Lab::new(opus_plan());
    talk(&mut lab, 0..50, |_| false);
    // The trunk's party is held and hears a tone of ours; the browser talks on, for longer than numbers are compared.
    lab.update(|plan| plan.b.as_mut().unwrap().hears = Hears::Music);
    let held = lab.to_trunk.len();
    talk(&mut lab, 50..1_250, |_| false);
    assert!(lab.to_trunk[held..].iter().all(|packet| which(packet).is_none()));
    let music = hear(&lab.to_trunk[held..], Codec::Opus);
    assert!(rms(&music[..32_000]) > 20.0, "{}", rms(&music[..32_000]));
    lab.update(|plan| plan.b.as_mut().unwrap().hears = Hears::Peer);
    let resumed = lab.to_trunk.len();
    talk(&mut lab, 1_250..1_350, |_| false);
    let after: Vec<usize> = lab.to_trunk[resumed..].iter().filter_map(which).collect();
    assert!(after.len() >= 97 && after.iter().all(|n| *n >= 1_250), "{after:?}");
    assert!(lab.to_trunk.iter().find(|p| which(p) == after.first().copied()).unwrap().header.marker);
    assert_sound(&lab.to_trunk);
    assert!(early_ms(&lab.to_trunk[1..]).iter().all(|early| early.abs() <= 60), "true to time all along");
}

#[test]
fn a_digit_goes_its_own_way_and_no_sound_goes_beside_it() {
    let mut lab = Lab::new(opus_plan());
    talk(&mut lab, 0..20, |_| false);
    // The browser presses a key for 120 ms; its sound goes on under it, as Chromium's does not but others' does.
    for n in 20..26_u16 {
        let event = [5, if n == 25 { 0x8a } else { 0x0a }, 0, 0];
        let mut event = event.to_vec();
        event[2..].copy_from_slice(&((n - 19) * 960).to_be_bytes());
        lab.browser_says(110, 65_500_u16.wrapping_add(2 * n - 20), 20 * 960 + 77, &event);
        let sound = payload(usize::from(n));
        lab.browser_says(111, 65_500_u16.wrapping_add(2 * n - 19), u32::from(n) * 960 + 77, &sound);
        let at = (lab.now - lab.start).as_millis() as u64;
        lab.run_to(at + 20);
    }
    let pressed = lab.to_trunk.len();
    for n in 26..60_u16 {
        lab.browser_says(111, 65_500_u16.wrapping_add(n + 6), u32::from(n) * 960 + 77, &payload(usize::from(n)));
        let at = (lab.now - lab.start).as_millis() as u64;
        lab.run_to(at + 20);
    }
    assert_eq!(lab.digits(), [(Side::A, '5', 120)]);
    let events: Vec<usize> =
        lab.to_trunk.iter().enumerate().filter(|(_, p)| p.header.payload_type == 101).map(|(at, _)| at).collect();
    assert!(events.len() >= 6);
    let between = &lab.to_trunk[events[0]..=events[events.len() - 1]];
    assert!(between.iter().all(|packet| which(packet).is_none()), "no sound beside the digit");
    let said: Vec<usize> = lab.to_trunk.iter().filter_map(which).collect();
    assert!(said.iter().all(|n| *n < 20 || *n > 26) && said.contains(&59), "{said:?}");
    assert!(lab.to_trunk[pressed..].len() >= 30, "and the time of it is not silence without packets");
    assert_sound(&lab.to_trunk);
}

#[test]
fn digits_on_command_are_sent_between() {
    let mut lab = Lab::new(opus_plan());
    talk(&mut lab, 0..20, |_| false);
    lab.bridge.send_digits(lab.now, Side::B, "12", 100);
    talk(&mut lab, 20..80, |_| false);
    let mut receiver = EventReceiver::default();
    let mut digits = String::new();
    for packet in lab.to_trunk.iter().filter(|p| p.header.payload_type == 101) {
        for update in receiver.handle(lab.start + packet.at, packet.header.timestamp, &packet.payload, 48_000) {
            if let EventUpdate::Ended { event, .. } = update {
                digits.extend(event_char(event));
            }
        }
    }
    assert_eq!(digits, "12");
    assert_eq!(lab.to_trunk.iter().rev().take(20).filter_map(which).count(), 20);
    assert_sound(&lab.to_trunk);
}

#[test]
fn a_ringing_tone_gives_way_to_early_media() {
    let mut plan = opus_plan();
    plan.a.as_mut().unwrap().hears = Hears::PeerOr(Tone::Us);
    plan.b.as_mut().unwrap().hears = Hears::Nothing;
    let mut lab = Lab::new(plan);
    lab.run_to(1_000);
    assert!(rms(&lab.browser_pcm()[1_600..]) > 1_000.0);
    for n in 0..50_u16 {
        lab.trunk_says(96, n, u32::from(n) * 960, &payload(usize::from(n)));
        lab.run_to(1_000 + (u64::from(n) + 1) * 20);
    }
    assert_eq!(lab.to_browser.iter().rev().take(50).filter_map(which).count(), 50);
    assert_sound(&lab.to_browser);
    assert!(lab.to_trunk.iter().all(|packet| which(packet).is_none()));
}

#[test]
fn a_leg_that_takes_anothers_place_is_passed_on_to_or_transcoded_as_it_speaks() {
    let mut lab = Lab::new(opus_plan());
    let mut tongue = Tongue::new(440.0);
    let mut says = |lab: &mut Lab, range: std::ops::Range<usize>| {
        for n in range {
            let packet = tongue.packet(n);
            lab.browser_says(111, n as u16, n as u32 * 960, &packet);
            let at = (lab.now - lab.start).as_millis() as u64;
            lab.run_to(at + 20);
        }
    };
    says(&mut lab, 0..50);
    let first = lab.to_trunk.len();
    // A phone with G.711 alone, in other ports of ours and under another SSRC.
    let mut phone = plan(Codec::Opus, Codec::Pcmu);
    let media = trunk_of(&mut phone);
    (media.ssrc, media.accepted) = (0x3333, vec![accepted(0, Codec::Pcmu)]);
    lab.update(|plan| *plan = phone);
    says(&mut lab, 50..150);
    assert!(lab.to_trunk[first..].iter().all(|p| p.header.ssrc == 0x3333 && p.header.payload_type == 0));
    let heard = hear(&lab.to_trunk[first..], Codec::Pcmu);
    assert!(amplitude(&heard[8_000..], 8_000, 440.0) > 5_000.0);
    // And back to one with Opus.
    let second = lab.to_trunk.len();
    lab.update(|plan| *plan = opus_plan());
    says(&mut lab, 150..250);
    let heard = hear(&lab.to_trunk[second..], Codec::Opus);
    assert!(amplitude(&heard[8_000..], 8_000, 440.0) > 5_000.0);
    assert!(lab.to_trunk[second..].iter().all(|p| p.header.ssrc == 0x2222 && p.header.payload_type == 96));
    assert_sound(&lab.to_trunk[second..]);
    // What the browser hears has known nothing of it.
    assert_exact_time_line(&lab.to_browser, 48);
}

#[test]
fn a_sender_that_changes_its_codec_is_decoded_from_then_on() {
    let mut lab = Lab::new(opus_plan());
    for n in 0..50_u16 {
        lab.trunk_says(96, n, u32::from(n) * 960, &payload(usize::from(n)));
        lab.run_to((u64::from(n) + 1) * 20);
    }
    assert_eq!(lab.to_browser.iter().filter_map(which).count(), 50);
    let passed = lab.to_browser.len();
    for n in 50..150_u16 {
        let sound = companded(Law::Mu, &sine(1_000.0, usize::from(n) * 160, 160));
        lab.trunk_says(0, n, 48_000 + u32::from(n - 50) * 160, &sound);
        lab.run_to((u64::from(n) + 1) * 20);
    }
    let heard = hear(&lab.to_browser[passed..], Codec::Opus);
    assert!(amplitude(&heard[8_000..], 8_000, 1_000.0) > 5_000.0);
    assert_sound(&lab.to_browser);
}

#[test]
fn one_that_wants_less_than_may_come_gets_it_transcoded() {
    let mut plan = opus_plan();
    trunk_of(&mut plan).opus_bitrate = Some(20_000);
    let mut lab = Lab::new(plan);
    talk(&mut lab, 0..50, |_| false);
    assert!(lab.to_trunk.iter().all(|packet| which(packet).is_none()) && lab.to_trunk.len() > 45);
}

/// The loss that the listener reports is that of the whole way: it is what the sender's redundancy is to cover.
#[test]
fn the_listeners_loss_is_told_to_the_sender() {
    let mut lab = Lab::new(opus_plan());
    let block = ReportBlock {
        ssrc: 0x2222,
        fraction_lost: 40,
        cumulative_lost: 10,
        highest_sequence: 100,
        jitter: 0,
        last_sr: 0,
        delay_since_last_sr: 0,
    };
    let compound = Compound { ssrc: TRUNK_SSRC, sender: None, report: Some(block), cname: "trunk", bye: false };
    talk(&mut lab, 0..20, |_| false);
    // The trunk's RTCP is believed once it was heard.
    for n in 0..5_u16 {
        lab.trunk_says(96, n, u32::from(n) * 960, &payload(usize::from(n)));
    }
    let mut bytes = [0; 200];
    let len = compound.write(&mut bytes).unwrap();
    lab.bridge.handle_datagram(lab.now, TRUNK_RTCP, address(2, 4_001), &mut bytes[..len]);
    talk(&mut lab, 20..200, |_| false);
    let mut told = Vec::new();
    for (_, _, _, bytes) in lab.rtcp.iter().filter(|(_, port, ..)| *port == Port::Browser) {
        let _ = rtcp::read(bytes, |item| {
            if let RtcpItem::Report { block, .. } = item {
                told.push(block.fraction_lost);
            }
        });
    }
    assert!(told.last().is_some_and(|lost| *lost == 40), "{told:?}");
    // And of what we send the sender reports tell the time of what is passed on.
    let mut reports = Vec::new();
    for (at, _, _, bytes) in lab.rtcp.iter().filter(|(_, port, ..)| *port == TRUNK_RTCP) {
        let _ = rtcp::read(bytes, |item| {
            if let RtcpItem::Sender { info, .. } = item {
                reports.push((*at, info));
            }
        });
    }
    let last = lab.to_trunk.last().unwrap();
    let (at, SenderInfo { rtp_timestamp, .. }) = *reports.last().unwrap();
    let off =
        last.header.timestamp.wrapping_sub(rtp_timestamp) as i32 / PER_MS as i32 - (last.at - at).as_millis() as i32;
    assert!(off.abs() <= 21, "{off}");
}

#[test]
fn what_a_peer_does_with_opus_of_its_own_making_is_heard_after_a_hold() {
    // Decoded while it was held, passed on again after it: the meter goes on in both.
    let mut lab = Lab::new(opus_plan());
    let mut tongue = Tongue::new(440.0);
    for n in 0..100_usize {
        if n == 50 {
            lab.update(|plan| plan.b.as_mut().unwrap().hears = Hears::Music);
        }
        let packet = tongue.packet(n);
        lab.browser_says(111, n as u16, n as u32 * 960, &packet);
        lab.run_to((n as u64 + 1) * 20);
    }
    let levels: Vec<i8> = lab.qualities.iter().map(|quality| quality.a.level_db).collect();
    assert!(!levels.is_empty() && levels.iter().all(|level| (-20..-9).contains(level)), "{levels:?}");
    let mut pcm = [0; MAX_PACKET_SAMPLES];
    let mut decoder = Decoder::new(Codec::Opus, Rate::Narrow).unwrap();
    assert!(lab.to_trunk.iter().all(|packet| decoder.decode(&packet.payload, &mut pcm).is_ok()));
}

/// RFC 7587 section 6.1: `maxaveragebitrate` is the most that the peer wants, redundancy included, of sound that we encode too.
#[test]
fn the_peers_maxaveragebitrate_is_kept_by_our_encoder_rfc7587() {
    for (most, kbit) in [(Some(14_000), 8..=15), (None, 25..=34)] {
        let mut plan = plan(Codec::Pcmu, Codec::Pcmu);
        opus_trunk(&mut plan);
        (trunk_of(&mut plan).opus_bitrate, trunk_of(&mut plan).opus_fec) = (most, true);
        let mut lab = Lab::new(plan);
        let mut state = 7_u32;
        for n in 0..250_u16 {
            lab.run_to(u64::from(n) * 20);
            let noise: Vec<i16> = (0..160)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ((state >> 16) as i16) / 8
                })
                .collect();
            lab.browser_says(0, n, u32::from(n) * 160, &companded(Law::Mu, &noise));
        }
        let last: Vec<usize> = lab.to_trunk.iter().rev().take(200).map(|packet| packet.payload.len()).collect();
        let average = last.iter().sum::<usize>() * 8 / 4 / 1_000;
        assert!(last.len() == 200 && kbit.contains(&average), "{average} kbit/s of {most:?}");
    }
}
