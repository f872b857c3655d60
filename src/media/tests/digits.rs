//! Digits as telephone events.

use super::*;

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
