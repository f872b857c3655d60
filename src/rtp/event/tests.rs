#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
use super::*;

/// Runs a sender of one clock until it is idle; every packet with its step's number.
fn run(sender: &mut EventSender, start: u32) -> Vec<(u32, EventPacket)> {
    let units = sender.clock_rate() / 50;
    let mut packets = Vec::new();
    for step in 0..2_000 {
        if !sender.busy() {
            break;
        }
        if let EventStep::Packet(packet) = sender.step(start.wrapping_add(step * units), units) {
            packets.push((step, packet));
        }
    }
    packets
}

fn digits(updates: &[EventUpdate]) -> Vec<(char, u16)> {
    updates
        .iter()
        .filter_map(|update| match update {
            EventUpdate::Ended { event, ms } => Some((event_char(*event).unwrap(), *ms)),
            EventUpdate::Started { .. } => None,
        })
        .collect()
}

/// Feeds packets to a receiver, 20 ms a step, and lets time pass at the end.
fn receive(packets: &[(u32, EventPacket)], clock: u32) -> Vec<EventUpdate> {
    let start = Instant::now();
    let mut receiver = EventReceiver::default();
    let mut updates = Vec::new();
    let mut at = start;
    for (step, packet) in packets {
        at = start + Duration::from_millis(u64::from(*step) * 20);
        updates.extend(receiver.handle_timeout(at));
        updates.extend(receiver.handle(at, packet.timestamp, &packet.payload, clock));
    }
    updates.extend(receiver.handle_timeout(at + Duration::from_secs(1)));
    updates
}

#[test]
fn characters_and_events() {
    for (event, digit) in "0123456789*#ABCD!".chars().enumerate() {
        assert_eq!(event_char(event as u8), Some(digit));
        assert_eq!(char_event(digit), Some(event as u8));
    }
    assert_eq!(char_event('a'), Some(12));
    assert_eq!((char_event('E'), event_char(17)), (None, None));
}

#[test]
fn one_digit_on_the_wire() {
    for clock in [8_000, 48_000] {
        let mut sender = EventSender::new(clock);
        assert!(sender.queue(5, 100));
        let packets = run(&mut sender, 1_000);
        assert_eq!(packets.len(), 7, "five of 20 ms, the last three times");
        assert!(packets.iter().all(|(_, p)| p.timestamp == 1_000));
        assert!(packets[0].1.marker && packets[1..].iter().all(|(_, p)| !p.marker));
        let unit = (clock / 50) as u16;
        let durations: Vec<u16> =
            packets.iter().map(|(_, p)| u16::from_be_bytes([p.payload[2], p.payload[3]]) / unit).collect();
        assert_eq!(durations, [1, 2, 3, 4, 5, 5, 5]);
        let ends: Vec<bool> = packets.iter().map(|(_, p)| p.payload[1] & 0x80 != 0).collect();
        assert_eq!(ends, [false, false, false, false, true, true, true]);
        assert_eq!(
            receive(&packets, clock),
            [EventUpdate::Started { event: 5 }, EventUpdate::Ended { event: 5, ms: 100 }]
        );
    }
}

#[test]
fn the_same_digit_twice_is_two_digits_with_a_gap() {
    let mut sender = EventSender::new(8_000);
    for _ in 0..2 {
        sender.queue(7, 60);
    }
    let packets = run(&mut sender, u32::MAX - 300);
    let (first, second) = (packets[0].1.timestamp, packets[5].1.timestamp);
    assert!(second.wrapping_sub(first) >= (60 + 50) * 8);
    assert_eq!(digits(&receive(&packets, 8_000)), [('7', 60), ('7', 60)]);
}

#[test]
fn only_end_packets_are_a_digit_and_only_one() {
    let packet = EventPacket { payload: [3, 0x8a, 0x03, 0x20], timestamp: 9, marker: false };
    assert_eq!(digits(&receive(&[(0, packet), (0, packet), (1, packet)], 8_000)), [('3', 100)]);
}

#[test]
fn lost_ends_are_made_up_for_by_time_or_by_the_next_digit() {
    let packet = |event, timestamp| EventPacket { payload: [event, 10, 0x03, 0x20], timestamp, marker: true };
    assert_eq!(digits(&receive(&[(0, packet(3, 9))], 8_000)), [('3', 100)]);
    assert_eq!(digits(&receive(&[(0, packet(3, 9)), (5, packet(4, 2_000))], 8_000)), [('3', 100), ('4', 100)]);
}

#[test]
fn stragglers_of_an_old_digit_are_not_a_new_one() {
    let end = |event, timestamp| EventPacket { payload: [event, 0x8a, 0x03, 0x20], timestamp, marker: false };
    let packets = [(0, end(1, 100)), (5, end(2, 2_000)), (6, end(1, 100)), (7, end(2, 2_000)), (9, end(1, 4_000))];
    assert_eq!(digits(&receive(&packets, 8_000)), [('1', 100), ('2', 100), ('1', 100)]);
}

#[test]
fn a_digit_with_the_timestamp_of_one_long_ago_is_a_new_one() {
    let (start, end) = (Instant::now(), [1, 0x8a, 3, 0x20]);
    let mut receiver = EventReceiver::default();
    let mut counts = Vec::new();
    for ms in [0, 20, 40, 3_100, 3_120] {
        counts.push(receiver.handle(start + Duration::from_millis(ms), 500, &end, 8_000).len());
    }
    assert_eq!(counts, [2, 0, 0, 2, 0]);
}

#[test]
fn a_new_time_line_makes_no_straggler_of_a_digit() {
    let (now, end) = (Instant::now(), [1, 0x8a, 3, 0x20]);
    let mut receiver = EventReceiver::default();
    assert_eq!(receiver.handle(now, 9_000, &end, 8_000).len(), 2);
    assert_eq!(receiver.handle(now, 500, &end, 8_000).len(), 0);
    receiver.new_time_line();
    assert_eq!(receiver.handle(now, 9_000, &end, 8_000).len(), 0, "but its end may still be repeated");
    assert_eq!(receiver.handle(now, 500, &end, 8_000).len(), 2);
    assert_eq!(receiver.handle(now, 400, &end, 8_000).len(), 0);
}

#[test]
fn a_long_press_is_split_and_put_together_again() {
    for (clock, ms) in [(48_000, 5_000), (8_000, 20_000)] {
        let mut sender = EventSender::new(clock);
        sender.queue(11, ms);
        let packets = run(&mut sender, 77);
        let mut segments: Vec<u32> = packets.iter().map(|(_, p)| p.timestamp).collect();
        segments.dedup();
        assert!(segments.len() >= 3);
        assert_eq!(packets.iter().filter(|(_, p)| p.marker).count(), 1);
        assert_eq!(digits(&receive(&packets, clock)), [('#', ms)]);
    }
}

/// A burst of losses longer than the silence that passes for an end, across the border of two segments or within one.
#[test]
fn a_long_press_with_a_hole_is_one_digit() {
    for clock in [8_000, 48_000] {
        let mut sender = EventSender::new(clock);
        sender.queue(5, 10_000);
        let packets = run(&mut sender, 77);
        for hole in (10..480).step_by(3) {
            let heard: Vec<_> = packets.iter().filter(|(step, _)| !(hole..hole + 12).contains(step)).copied().collect();
            let start = Instant::now();
            let (mut receiver, mut updates) = (EventReceiver::default(), Vec::new());
            for (step, packet) in heard {
                let at = start + Duration::from_millis(u64::from(step) * 20);
                updates.extend(receiver.handle_timeout(at));
                updates.extend(receiver.handle(at, packet.timestamp, &packet.payload, clock));
            }
            updates.extend(receiver.handle_timeout(start + Duration::from_secs(60)));
            assert_eq!(digits(&updates).len(), 1, "a hole at {hole}, {clock} Hz: {updates:?}");
        }
    }
}

#[test]
fn a_live_key_is_sent_while_it_is_held() {
    let mut sender = EventSender::new(8_000);
    sender.press(4);
    let mut packets = Vec::new();
    for step in 0..20 {
        if step == 7 {
            sender.release(4, 130);
        }
        if let EventStep::Packet(packet) = sender.step(step * 160, 160) {
            packets.push((step, packet));
        }
    }
    assert_eq!(digits(&receive(&packets, 8_000)), [('4', 140)], "140 ms were out already");
    // Pressed and released before it could start: its length is known then.
    sender.press(6);
    sender.release(6, 80);
    assert_eq!(digits(&receive(&run(&mut sender, 50_000), 8_000)), [('6', 80)]);
}

/// The digits of a call under random loss: none lost at 10 %, none doubled, at both clocks.
#[test]
fn digits_survive_ten_percent_loss() {
    let mut state = 12_345_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    for clock in [8_000, 48_000] {
        for _ in 0..50 {
            let mut sender = EventSender::new(clock);
            let dialled = "0123456789*#ABCD5500";
            for digit in dialled.chars() {
                assert!(sender.queue(char_event(digit).unwrap(), 100));
            }
            let mut packets = run(&mut sender, random() << 16);
            packets.retain(|_| random() % 100 >= 10);
            let heard: String = digits(&receive(&packets, clock)).iter().map(|(digit, _)| *digit).collect();
            assert_eq!(heard, dialled);
        }
    }
}

#[test]
fn malformed_and_unknown_events_are_nothing() {
    let mut receiver = EventReceiver::default();
    let now = Instant::now();
    assert!(receiver.handle(now, 1, &[], 8_000).is_empty());
    assert!(receiver.handle(now, 1, &[1, 2, 3], 8_000).is_empty());
    assert!(receiver.handle(now, 1, &[200, 0x80, 0, 1], 8_000).is_empty());
    assert!(!receiver.active());
    let mut sender = EventSender::new(8_000);
    assert_eq!((0..100).filter(|_| sender.queue(1, 100)).count(), QUEUE);
}
