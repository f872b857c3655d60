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

    /// A packet of 20 ms of another source.
    fn of_source(&mut self, ms: u64, ssrc: u32, n: u8, sequence: u16, timestamp: u32) -> Arrival {
        let header = RtpHeader { sequence, timestamp, ssrc, ..RtpHeader::default() };
        let packet = RtpPacket { header, payload: &[n] };
        let incoming = Incoming { packet, clock_rate: 8_000, duration: 160, kind: Kind::Audio, fec: false };
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
    assert_eq!(bench.of_source(100, 2, 199, 9, 77), Arrival::Dropped, "it may be a stray one");
    assert_eq!(bench.of_source(120, 2, 200, 10, 237), Arrival::NewStream);
    assert!(bench.playout.due(bench.at(120)).unwrap() <= bench.at(126));
    assert_eq!(bench.step(123).0, P(200));
    assert_eq!(bench.of_source(320, 3, 201, 9, 77), Arrival::NewStream, "nothing was heard any more");
}

#[test]
fn a_stray_packet_of_another_source_ends_nothing() {
    let mut bench = Bench::new(8_000, false);
    for n in 0..20 {
        let ms = u64::from(n) * 20;
        bench.nth(ms, n);
        if n == 10 {
            assert_eq!(bench.of_source(ms + 1, 2, 99, 500, 7), Arrival::Dropped);
        }
        assert_eq!(bench.step(ms + 3).0, P(n));
    }
}

/// What was played comes once more, in sequence, a second or two later: a route that flaps, or somebody who repeats it.
#[test]
fn old_packets_in_sequence_begin_no_stream() {
    for ago in [20, 60, 90] {
        let mut bench = Bench::new(8_000, false);
        bench.run(120, &[], 3);
        for n in 120 - ago..120 - ago + 12 {
            assert_eq!(bench.nth(2_401, n), Arrival::Dropped, "{n}");
        }
        bench.nth(2_402, 120);
        assert_eq!(bench.step(2_403).0, P(120));
    }
}

/// The first packet's timestamp is far ahead of those that follow.
#[test]
fn a_first_packet_from_far_ahead_holds_nothing_up() {
    let mut bench = Bench::new(8_000, false);
    bench.packet(0, 0, 10, 8_000 * 50);
    let seen: Vec<Seen> = (1..10)
        .map(|n| {
            bench.packet(u64::from(n) * 20, n, 10 + u16::from(n), u32::from(n) * 160);
            bench.step(u64::from(n) * 20 + 3).0
        })
        .collect();
    assert_eq!(seen, (1..10).map(P).collect::<Vec<_>>());
}

/// The same after a pause, for a packet that is alone.
#[test]
fn a_packet_from_far_ahead_plays_after_a_pause() {
    let mut bench = Bench::new(8_000, false);
    bench.run(5, &[], 3);
    bench.play(103, 20);
    bench.nth(520, 6);
    bench.packet(521, 5, 65_535, 8_000 * 50);
    let seen = bench.play(523, 3);
    assert!(seen.iter().filter(|seen| matches!(seen, P(_))).count() >= 1, "{seen:?}");
}

/// With packets of 60 ms one waits at most: a surplus of a frame is taken back all the same.
#[test]
fn a_surplus_is_taken_back_with_long_packets_too() {
    let mut bench = Bench::new(8_000, false);
    bench.ptime = 60;
    let mut shortened = 0;
    for n in 0..400_u16 {
        // The first is late by 45 ms; all that follow are in time.
        let at = u64::from(n) * 60 + if n == 0 { 45 } else { 0 };
        bench.packet(at, 0, n, u32::from(n) * 480);
        bench.step(u64::from(n) * 60 + 50);
        shortened += i64::from(bench.pace.by_us < 0);
    }
    assert!(shortened > 0);
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

/// A network and a renderer in microseconds: packets of 20 ms, each `way(n)` long under way by a clock that is off by `ppm`,
/// and sound that is stretched exactly as asked for, in pieces of 5 ms.
struct Line {
    playout: Playout,
    start: Instant,
    ready_us: i64,
    sent: u64,
    under_way: Vec<(u64, u64)>,
    concealed: u32,
    stretched_us: i64,
    shortened_us: i64,
    /// The delay of each frame.
    delays: Vec<i64>,
}

impl Line {
    fn new() -> Self {
        let (ready_us, sent, concealed, stretched_us, shortened_us) = (0, 0, 0, 0, 0);
        let under_way = Vec::new();
        let (playout, start) = (Playout::new(20), Instant::now());
        Self { playout, start, ready_us, sent, under_way, concealed, stretched_us, shortened_us, delays: Vec::new() }
    }

    fn run(&mut self, packets: std::ops::Range<u64>, ppm: i64, fec: bool, way: impl Fn(u64) -> Option<u64>) {
        let sent = |n: u64| (n * 20_000).saturating_add_signed(n as i64 * 20 * ppm / 1_000);
        // What a fast clock sends ahead of time is sent, too.
        let ahead = packets.end + 20;
        let sends = self.sent..ahead;
        self.sent = ahead;
        self.under_way.extend(sends.filter_map(|n| way(n).map(|way| (sent(n) + way, n))));
        self.under_way.sort_unstable();
        for frame in packets {
            let at = frame * 20_000 + 5_000;
            while let Some((us, n)) = self.under_way.first().copied().filter(|(us, _)| *us <= at) {
                self.under_way.remove(0);
                let header = RtpHeader {
                    sequence: n as u16,
                    timestamp: (n as u32).wrapping_mul(960),
                    ssrc: 1,
                    ..RtpHeader::default()
                };
                let packet = RtpPacket { header, payload: &[0] };
                let now = self.start + Duration::from_micros(us);
                let kind = Kind::Audio;
                self.playout.insert(now, &Incoming { packet, clock_rate: 48_000, duration: 960, kind, fec });
            }
            self.frame(self.start + Duration::from_micros(at));
        }
    }

    fn frame(&mut self, now: Instant) {
        while self.ready_us < 20_000 {
            let duration = match self.playout.next(now, self.ready_us as u32) {
                Step::Packet { duration, pace, .. } => {
                    let by = pace.by_us.clamp(-5_000, 5_000);
                    self.ready_us += by;
                    self.stretched_us += by.max(0);
                    self.shortened_us -= by.min(0);
                    duration
                }
                Step::Recover { duration, .. } | Step::Conceal { duration } => {
                    self.concealed += 1;
                    duration
                }
                Step::Silence { duration } => duration,
            };
            self.ready_us += i64::from(duration) * 1_000 / 48;
        }
        self.delays.push(self.playout.delay_us(now, self.ready_us as u32));
        self.ready_us -= 20_000;
    }
}

/// Ten minutes of a sender whose clock is off: nothing is missed, nothing is changed but what the clocks differ by, and the
/// delay stays within a step.
#[test]
fn a_drifting_clock_costs_what_the_clocks_differ_by() {
    for ppm in [-200, -50, 0, 50, 200] {
        let mut line = Line::new();
        line.run(0..30_000, ppm, false, |n| Some(n * 331 % 700));
        let differ = 600 * ppm.abs();
        assert_eq!(line.concealed, 0, "{ppm} ppm");
        let (more, less) = (line.stretched_us, line.shortened_us);
        assert!(more + less <= differ + 30_000, "{ppm} ppm: {more} us put in, {less} left out");
        assert!((more - less - 600 * ppm).abs() <= 26_000, "{ppm} ppm: {more} us put in, {less} left out");
        let most = line.delays.iter().skip(100).max().unwrap();
        assert!(*most < 34_000, "{ppm} ppm: {most} us");
    }
}

/// Redundancy that begins and ends in the middle of a stream brings its packet of look-ahead, and takes it along.
#[test]
fn look_ahead_is_there_while_there_is_redundancy() {
    let mut line = Line::new();
    let (from, to) = (0..500, 500..1_500);
    line.run(from, 0, false, |_| Some(0));
    assert!(line.delays[499] < 8_000, "{}", line.delays[499]);
    line.run(to, 0, true, |n| (n % 20 != 0).then_some(0));
    assert!((20_000..30_000).contains(&line.delays[600]), "{}", line.delays[600]);
    line.run(1_500..3_500, 0, false, |_| Some(0));
    assert!(line.delays[3_499] < 10_000, "{}", line.delays[3_499]);
}

/// Jitter that begins is met with delay, and the delay goes when it ends.
#[test]
fn delay_follows_the_jitter_up_and_down() {
    let mut line = Line::new();
    line.run(0..500, 0, false, |_| Some(0));
    line.run(500..2_000, 0, false, |n| Some(n * 7_919 % 41_000));
    let calm = line.concealed;
    line.run(2_000..3_000, 0, false, |n| Some(n * 7_919 % 41_000));
    assert_eq!(line.concealed, calm, "learnt by then");
    assert!((40_000..75_000).contains(&line.delays[2_900]), "{}", line.delays[2_900]);
    line.run(3_000..9_000, 0, false, |_| Some(0));
    assert!(line.delays[8_999] < 30_000, "{}", line.delays[8_999]);
}

proptest! {
    /// Whatever is asked of the renderer, and however little of it is done, has bounds.
    #[test]
    fn no_pace_runs_away(
        network in network(), ptimes in proptest::collection::vec(0_usize..5, 1..40), fec: bool, does in 0_i64..4,
    ) {
        let mut bench = Bench::new(48_000, fec);
        let (mut arrivals, mut media) = (Vec::new(), 0_u32);
        for (n, way) in network.iter().enumerate() {
            let ms = [10, 20, 30, 40, 60][ptimes[n % ptimes.len()]];
            if let Some(way) = way {
                arrivals.push((u64::from(media + ms) + u64::from(*way), n, media, ms));
            }
            media += ms;
        }
        arrivals.sort_unstable();
        let (mut next, mut ready) = (0, 0_i64);
        for ms in (0..u64::from(media) + 2_000).step_by(20) {
            while let Some((at, n, media, ptime)) = arrivals.get(next).filter(|(at, ..)| *at <= ms) {
                bench.ptime = *ptime;
                bench.packet(*at, 0, *n as u16, media * 48);
                next += 1;
            }
            let mut steps = 0;
            while ready < 20_000 {
                bench.pace = Pace::default();
                let (_, duration) = { let now = bench.at(ms); let step = bench.playout.next(now, ready as u32); match step {
                    Step::Packet { duration, pace, .. } => { bench.pace = pace; (0, duration) }
                    Step::Recover { duration, .. } | Step::Conceal { duration } | Step::Silence { duration } => (0, duration),
                }};
                let by = bench.pace.by_us;
                prop_assert!(by.abs() <= 1_100_000, "{by}");
                let len = i64::from(duration) * 1_000 / 48;
                ready += len + (by * does / 4).clamp(-len / 2, 15_000);
                steps += 1;
                prop_assert!(steps < 200);
            }
            ready -= 20_000;
            prop_assert!(bench.playout.buffered_ms() <= LONGEST_SPAN_MS + 60);
        }
        prop_assert!(bench.playout.buffered_ms() == 0);
    }
}
