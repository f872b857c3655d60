#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
use super::*;
use crate::rtp::packet::RtpHeader;
use proptest::prelude::*;

/// A playout in virtual time: milliseconds since its start.
struct Bench {
    playout: Playout,
    start: Instant,
    clock: u32,
    fec: bool,
    ptime: u32,
    /// The pace asked for with the last packet.
    pace: Pace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// The packet with this first payload byte.
    P(u8),
    /// Redundancy in this packet.
    F(u8),
    /// Concealment.
    C,
    /// Silence.
    S,
}
use Seen::{C, F, P, S};

impl Bench {
    fn new(clock: u32, fec: bool) -> Self {
        Self { playout: Playout::new(20), start: Instant::now(), clock, fec, ptime: 20, pace: Pace::default() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn packet(&mut self, ms: u64, n: u8, sequence: u16, timestamp: u32) -> Arrival {
        self.kind(ms, n, sequence, timestamp, Kind::Audio)
    }

    fn kind(&mut self, ms: u64, n: u8, sequence: u16, timestamp: u32, kind: Kind) -> Arrival {
        let header = RtpHeader { sequence, timestamp, ssrc: 1, ..RtpHeader::default() };
        let incoming = Incoming {
            packet: RtpPacket { header, payload: &[n] },
            clock_rate: self.clock,
            duration: self.ptime * self.clock / 1_000,
            kind,
            fec: self.fec,
        };
        let now = self.at(ms);
        self.playout.insert(now, &incoming)
    }

    /// The `n`th packet of a stream that began with sequence 65,530 and a timestamp shortly before its wrap.
    fn nth(&mut self, ms: u64, n: u8) -> Arrival {
        let timestamp = (u32::MAX - 1_000).wrapping_add(u32::from(n) * self.ptime * self.clock / 1_000);
        self.packet(ms, n, 65_530_u16.wrapping_add(u16::from(n)), timestamp)
    }

    /// Asks a little after `ms`: half of the least delay lies in these 2 ms, the other in what the tests add.
    fn step(&mut self, ms: u64) -> (Seen, u32) {
        let now = self.at(ms + 2);
        match self.playout.next(now, 0) {
            Step::Packet { payload, duration, pace, .. } => {
                self.pace = pace;
                (P(payload[0]), duration)
            }
            Step::Recover { next, duration, .. } => (F(next[0]), duration),
            Step::Conceal { duration } => (C, duration),
            Step::Silence { duration } => (S, duration),
        }
    }

    /// Plays one frame's worth at each of `frames` moments, 20 ms apart.
    fn play(&mut self, from: u64, frames: u64) -> Vec<Seen> {
        (0..frames).map(|n| self.step(from + n * 20).0).collect()
    }

    /// Packets `0..count` arrive each 20 ms except those lost; a frame is played right after each arrival, from `delay` on.
    fn run(&mut self, count: u8, lost: &[u8], delay: u64) -> Vec<Seen> {
        let mut seen = Vec::new();
        for n in 0..count {
            let ms = u64::from(n) * 20;
            if !lost.contains(&n) {
                self.nth(ms, n);
            }
            seen.push(self.step(ms + delay).0);
        }
        seen
    }
}

#[test]
fn a_clean_stream_plays_in_order_over_both_wraps() {
    for clock in [8_000, 48_000] {
        let mut bench = Bench::new(clock, false);
        let expected: Vec<Seen> = (0..20).map(P).collect();
        assert_eq!(bench.run(20, &[], 3), expected);
    }
}

#[test]
fn redundancy_waits_one_packet_and_repairs_single_losses() {
    let mut bench = Bench::new(48_000, true);
    let seen = bench.run(12, &[4, 7, 8], 3);
    assert_eq!(seen, [S, P(0), P(1), P(2), P(3), F(5), P(5), P(6), C, F(9), P(9), P(10)]);
}

#[test]
fn without_redundancy_every_loss_is_concealed_and_time_stays() {
    let mut bench = Bench::new(8_000, false);
    let seen = bench.run(12, &[4, 7, 8], 3);
    assert_eq!(seen, [P(0), P(1), P(2), P(3), C, P(5), P(6), C, C, P(9), P(10), P(11)]);
}

#[test]
fn reordered_and_doubled_packets() {
    let mut bench = Bench::new(48_000, true);
    assert_eq!(bench.nth(0, 0), Arrival::NewStream);
    assert_eq!(bench.nth(20, 2), Arrival::Stored);
    assert_eq!(bench.nth(21, 1), Arrival::Stored);
    assert_eq!(bench.nth(22, 1), Arrival::Dropped);
    assert_eq!(bench.play(35, 3), [P(0), P(1), P(2)]);
    assert_eq!(bench.nth(90, 1), Arrival::Dropped);
}

#[test]
fn a_late_packet_is_played_and_the_delay_grows_by_what_was_waited() {
    let mut bench = Bench::new(8_000, false);
    for n in 0..5 {
        bench.nth(u64::from(n) * 20, n);
        assert_eq!(bench.step(u64::from(n) * 20 + 3).0, P(n));
    }
    assert_eq!(bench.step(103).0, C);
    bench.nth(115, 5);
    bench.nth(120, 6);
    assert_eq!(bench.play(123, 2), [P(5), P(6)]);
}

#[test]
fn what_waited_too_long_before_the_first_frame_is_left_out() {
    let mut bench = Bench::new(8_000, false);
    for n in 0..5 {
        bench.nth(u64::from(n) * 20, n);
    }
    assert_eq!(bench.play(83, 1), [P(4)]);
    let mut alone = Bench::new(8_000, false);
    alone.nth(0, 0);
    assert_eq!(alone.play(50, 1), [P(0)], "but never the only one");
}

#[test]
fn silence_on_purpose_is_no_loss() {
    // Discontinuous transmission: numbers go on, time jumps.
    let mut bench = Bench::new(8_000, false);
    bench.packet(0, 0, 10, 0);
    assert_eq!(bench.step(3).0, P(0));
    bench.kind(20, 1, 11, 160, Kind::Quiet);
    assert_eq!(bench.play(23, 11)[..], [P(1), S, S, S, S, S, S, S, S, S, S]);
    bench.packet(400, 2, 12, 3_200);
    bench.packet(420, 3, 13, 3_360);
    assert_eq!(bench.play(403, 2), [P(2), P(3)]);
}

#[test]
fn events_take_numbers_but_no_sound() {
    let mut bench = Bench::new(8_000, false);
    bench.packet(0, 0, 10, 0);
    assert_eq!(bench.step(3).0, P(0));
    for n in 0..5 {
        bench.kind(20 + u64::from(n) * 20, 99, 11 + n, 160, Kind::Event);
    }
    assert_eq!(bench.step(23).0, C, "until the event is recognised the sound is simply missing");
    bench.packet(120, 1, 16, 960);
    let seen = bench.play(43, 5);
    assert!(!seen.contains(&P(99)), "{seen:?}");
    assert_eq!(seen[4], P(1), "{seen:?}");
}

#[test]
fn a_pause_ends_with_a_fresh_start() {
    let mut bench = Bench::new(8_000, false);
    assert_eq!(bench.run(5, &[], 3).last(), Some(&P(4)));
    let silent = bench.play(103, 100);
    assert_eq!(silent[..10], [C; 10]);
    assert!(silent[10..].iter().all(|s| *s == S));
    // The sender's clock stood still meanwhile: nothing is missing.
    bench.nth(2_200, 5);
    assert_eq!(bench.play(2_203, 1), [P(5)]);
}

#[test]
fn a_new_source_begins_anew() {
    let mut bench = Bench::new(8_000, false);
    bench.run(5, &[], 3);
    let header = RtpHeader { sequence: 9, timestamp: 77, ssrc: 2, ..RtpHeader::default() };
    let packet = RtpPacket { header, payload: &[200] };
    let incoming = Incoming { packet, clock_rate: 8_000, duration: 160, kind: Kind::Audio, fec: false };
    let now = bench.at(100);
    assert_eq!(bench.playout.insert(now, &incoming), Arrival::NewStream);
    assert!(bench.playout.due(now).unwrap() <= bench.at(105));
    assert_eq!(bench.step(103).0, P(200));
}

#[test]
fn one_stray_number_is_not_believed_but_two_are() {
    let mut bench = Bench::new(8_000, false);
    bench.run(5, &[], 3);
    assert_eq!(bench.packet(100, 50, 30_000, 0), Arrival::Dropped);
    assert_eq!(bench.nth(101, 5), Arrival::Stored);
    assert_eq!(bench.step(103).0, P(5));
    assert_eq!(bench.packet(120, 50, 30_000, 0), Arrival::Dropped);
    assert_eq!(bench.packet(140, 51, 30_001, 160), Arrival::NewStream);
}

/// A sender that steps back in sequence under the same SSRC is silent for a few packets, not until it has caught up.
#[test]
fn a_stream_that_steps_back_in_sequence_is_heard_again_soon() {
    for (back, timestamp) in [(7_u16, 900_000_u32), (60, 0), (100, 5), (101, 900_000), (500, 0), (999, 0), (2_000, 0)] {
        let mut bench = Bench::new(8_000, false);
        let at = |n: u16| 1_000_u16.wrapping_add(n);
        for n in 0..50_u16 {
            bench.packet(u64::from(n) * 20, 1, at(n), u32::from(n) * 160);
            bench.step(u64::from(n) * 20);
        }
        let mut heard = Vec::new();
        for n in 0..20_u16 {
            let ms = 1_000 + u64::from(n) * 20;
            bench.packet(ms, 100 + n as u8, at(50 + n).wrapping_sub(back), timestamp + u32::from(n) * 160);
            heard.push(bench.step(ms + 2).0);
        }
        let first = heard.iter().position(|seen| matches!(seen, P(n) if *n >= 100));
        assert!(first.is_some_and(|first| first <= 8), "{back} back: {heard:?}");
        assert!(heard[9..].iter().all(|seen| matches!(seen, P(_))), "{back} back: {heard:?}");
    }
}

#[test]
fn late_packets_between_those_in_time_begin_no_stream() {
    let mut bench = Bench::new(8_000, false);
    for n in 0..60_u8 {
        let ms = u64::from(n) * 20;
        assert_ne!((n > 0, bench.nth(ms, n)), (true, Arrival::NewStream));
        bench.step(ms);
        if n >= 20 {
            assert_eq!(bench.nth(ms + 5, n - 20), Arrival::Dropped);
        }
    }
}

#[test]
fn packets_of_any_length_fill_frames_of_twenty_milliseconds() {
    for ptime in [10, 20, 30, 40, 60] {
        let mut bench = Bench::new(8_000, false);
        bench.ptime = ptime;
        let (mut fifo, mut concealed, mut sent) = (0_i64, 0, 0_u64);
        for frame in 0..200_u64 {
            let ms = frame * 20;
            while sent * u64::from(ptime) <= ms + 19 {
                let at = sent * u64::from(ptime);
                bench.packet(at, 0, sent as u16, (sent * u64::from(ptime) * 8) as u32);
                sent += 1;
            }
            while fifo < 160 {
                let (seen, duration) = bench.step(ms + 19);
                fifo += i64::from(duration);
                concealed += i32::from(seen == C);
            }
            fifo -= 160;
        }
        assert_eq!(concealed, 0, "{ptime} ms");
    }
}

/// A network for property tests: per packet its delay in milliseconds, or loss.
fn network() -> impl Strategy<Value = Vec<Option<u16>>> {
    proptest::collection::vec(proptest::option::weighted(0.9, 0_u16..300), 50..400)
}

/// An event whose timestamp is far from the sound's: what was shed to keep the delay short left it at the head, and its
/// payload, which is none, was given out to be decoded.
#[test]
fn an_event_is_never_given_out_as_sound() {
    let mut bench = Bench::new(48_000, true);
    for (sequence, timestamp, duration, kind) in
        [(1697, 4_124_359_859, 1, Kind::Audio), (1730, 1_976_876_211, 0, Kind::Event)]
    {
        let header = RtpHeader { sequence, timestamp, ssrc: 1, ..RtpHeader::default() };
        let packet = RtpPacket { header, payload: &[1, 2, 3] };
        let now = bench.at(0);
        bench.playout.insert(now, &Incoming { packet, clock_rate: 48_000, duration, kind, fec: true });
    }
    let seen = bench.play(0, 20);
    assert!(seen.iter().all(|s| matches!(s, C | S)), "{seen:?}");
}

proptest! {
    #[test]
    fn no_network_makes_it_run_away(network in network(), first_timestamp: u32, first_sequence: u16, fec: bool) {
        let mut bench = Bench::new(48_000, fec);
        let mut arrivals: Vec<(u64, u16)> = network
            .iter()
            .enumerate()
            .filter_map(|(n, delay)| delay.map(|delay| (n as u64 * 20 + u64::from(delay), n as u16)))
            .collect();
        arrivals.sort();
        let (mut next, mut last) = (0, None);
        for frame in 0..network.len() as u64 + 20 {
            let ms = frame * 20;
            while arrivals.get(next).is_some_and(|(at, _)| *at <= ms) {
                let (at, n) = arrivals[next];
                bench.packet(at, 0, first_sequence.wrapping_add(n), first_timestamp.wrapping_add(u32::from(n) * 960));
                next += 1;
            }
            let mut fifo = 0;
            let mut steps = 0;
            while fifo < 960 {
                let now = bench.at(ms);
                let duration = match bench.playout.next(now, 0) {
                    Step::Packet { duration, .. } => {
                        let order = bench.playout.expected;
                        prop_assert!(last.is_none_or(|last| last < order), "packets play in order");
                        last = Some(order);
                        duration
                    }
                    Step::Recover { duration, .. } | Step::Conceal { duration } | Step::Silence { duration } => duration,
                };
                prop_assert!(duration > 0 && duration <= 960);
                fifo += duration;
                steps += 1;
                prop_assert!(steps < 50);
            }
            prop_assert!(bench.playout.buffered_ms() <= LONGEST_SPAN_MS + 20);
        }
    }

    #[test]
    fn no_input_at_all_makes_it_panic_or_stall(
        packets in proptest::collection::vec((0_u64..50, any::<u16>(), any::<u32>(), 0_u32..5_800, 0_u8..3), 0..300),
    ) {
        let mut bench = Bench::new(48_000, true);
        let mut ms = 0;
        for (pause, sequence, timestamp, duration, kind) in packets {
            ms += pause;
            let header = RtpHeader { sequence, timestamp, ssrc: u32::from(sequence % 3), ..RtpHeader::default() };
            let kind = [Kind::Audio, Kind::Quiet, Kind::Event][usize::from(kind)];
            let packet = RtpPacket { header, payload: &[1, 2, 3] };
            let now = bench.at(ms);
            bench.playout.insert(now, &Incoming { packet, clock_rate: 48_000, duration, kind, fec: true });
            let _ = bench.playout.due(now);
            let _ = bench.step(ms);
        }
        let ends = bench.play(ms + 20, 100);
        prop_assert_eq!(*ends.last().unwrap(), S);
    }
}
