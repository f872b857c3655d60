//! Packets that hold those before once more (RFC 2198).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
use super::*;
use crate::rtp::packet::RtpHeader;
use proptest::prelude::*;

/// What sounds in a frame: the packet of this number, or what is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Packet(u16),
    /// Opus' own redundancy in this packet.
    Fec(u16),
    Concealed,
    Silence,
}
use Seen::{Concealed, Fec, Silence};

/// Packets of 20 ms of a stream that wraps both its counters; each holds the `levels` before it. A frame is played 5 ms after
/// each packet's time, by a renderer that stretches exactly as asked for, in pieces of 5 ms.
struct Line {
    playout: Playout,
    start: Instant,
    levels: u16,
    fec: bool,
    ready_us: i64,
    seen: Vec<Seen>,
    delays: Vec<i64>,
}

impl Line {
    fn new(levels: u16, fec: bool) -> Line {
        let (playout, start) = (Playout::new(20), Instant::now());
        Line { playout, start, levels, fec, ready_us: 0, seen: Vec::new(), delays: Vec::new() }
    }

    fn at(&self, us: u64) -> Instant {
        self.start + Duration::from_micros(us)
    }

    fn incoming<'a>(&self, n: u16, payload: &'a [u8]) -> Incoming<'a> {
        let header = RtpHeader {
            sequence: n.wrapping_sub(50),
            timestamp: u32::from(n).wrapping_mul(960).wrapping_sub(30_000),
            ssrc: 1,
            ..RtpHeader::default()
        };
        let packet = RtpPacket { header, payload };
        Incoming { packet, clock_rate: 48_000, duration: 960, kind: Kind::Audio, fec: self.fec }
    }

    fn arrives(&mut self, us: u64, n: u16) -> Arrival {
        let now = self.at(us);
        let payload = n.to_be_bytes();
        let arrival = self.playout.insert(now, &self.incoming(n, &payload));
        for back in (1..=self.levels.min(n)).rev() {
            let payload = (n - back).to_be_bytes();
            self.playout.repair(&self.incoming(n - back, &payload));
        }
        arrival
    }

    fn frame(&mut self, us: u64) {
        let now = self.at(us);
        while self.ready_us < 20_000 {
            let number = |payload: &[u8]| u16::from_be_bytes([payload[0], payload[1]]);
            let (seen, duration) = match self.playout.next(now, self.ready_us as u32) {
                Step::Packet { payload, duration, pace, .. } => {
                    self.ready_us += pace.by_us.clamp(-5_000, 5_000);
                    (Seen::Packet(number(payload)), duration)
                }
                Step::Recover { next, duration, .. } => (Fec(number(next)), duration),
                Step::Conceal { duration } => (Concealed, duration),
                Step::Silence { duration } => (Silence, duration),
            };
            self.seen.push(seen);
            self.ready_us += i64::from(duration) * 1_000 / 48;
        }
        self.delays.push(self.playout.delay_us(now, self.ready_us as u32));
        self.ready_us -= 20_000;
    }

    /// Packets arrive `way(n)` milliseconds after their time, or never.
    fn run(&mut self, packets: std::ops::Range<u16>, way: impl Fn(u16) -> Option<u64>) {
        let mut arrivals: Vec<(u64, u16)> =
            packets.clone().filter_map(|n| way(n).map(|ms| (u64::from(n) * 20_000 + ms * 1_000, n))).collect();
        arrivals.sort_unstable();
        let mut arrivals = arrivals.into_iter().peekable();
        for n in packets {
            let at = u64::from(n) * 20_000 + 5_000;
            while let Some((us, n)) = arrivals.next_if(|(us, _)| *us <= at) {
                self.arrives(us, n);
            }
            self.frame(at);
        }
    }

    fn made_up(&self) -> usize {
        self.seen.iter().filter(|seen| matches!(seen, Concealed | Fec(_))).count()
    }
}

/// What costs nothing while nothing is lost: the delay is that of a stream without redundancy.
#[test]
fn without_loss_it_delays_nothing() {
    let (mut plain, mut red) = (Line::new(0, false), Line::new(1, false));
    for line in [&mut plain, &mut red] {
        line.run(0..2_000, |n| Some(u64::from(n * 7 % 3)));
    }
    assert_eq!((&plain.delays, &plain.seen), (&red.delays, &red.seen));
    assert!(red.delays[1_999] < 12_000 && red.playout.repaired() == 0, "{}", red.delays[1_999]);
}

/// The first loss is concealed, and from then on there is a packet of look-ahead: what is lost by itself plays whole. Nothing
/// slips: the delay grows by that packet and no more, and it goes when nothing is lost any more.
#[test]
fn after_the_first_loss_the_others_play_whole() {
    let mut line = Line::new(1, false);
    line.run(0..1_500, |n| (n < 300 || n % 20 != 7).then_some(0));
    let lost = (300..1_500).filter(|n| n % 20 == 7).count();
    assert!(line.made_up() <= 2, "{}", line.made_up());
    assert!(line.playout.repaired() as usize >= lost - 2, "{} of {lost}", line.playout.repaired());
    assert!((20_000..32_000).contains(&line.delays[1_400]), "{}", line.delays[1_400]);
    line.run(1_500..4_000, |_| Some(0));
    assert!(line.delays[3_999] < 12_000, "{}", line.delays[3_999]);
}

/// Of two lost packets in a row the second is in the next one, and the first in the second's own redundancy only where there is
/// time to wait for that. It goes before what Opus has of its own.
#[test]
fn a_whole_packet_goes_before_the_codecs_own_redundancy() {
    for fec in [false, true] {
        let mut line = Line::new(1, fec);
        line.run(0..600, |n| (n % 50 != 9 && n != 500 && n != 501).then_some(0));
        let at = line.seen.iter().position(|seen| *seen == Seen::Packet(499)).unwrap();
        assert_eq!(line.seen[at + 1..at + 4], [Concealed, Seen::Packet(501), Seen::Packet(502)], "{fec}");
    }
}

/// Where losses come two in a row there are two packets of look-ahead, if the redundancy reaches so far: the packet that comes
/// once more has redundancy of its own for the one before it.
#[test]
fn runs_of_two_are_looked_ahead_for_where_both_can_be_had() {
    for (levels, fec, reaches) in [(1, true, true), (2, false, true), (1, false, false)] {
        let mut line = Line::new(levels, fec);
        line.run(0..1_500, |n| (n < 300 || n % 50 > 1).then_some(0));
        let concealed = line.seen.iter().skip(600).filter(|seen| **seen == Concealed).count();
        assert_eq!(concealed == 0, reaches, "{levels} {fec}: {concealed}");
        let most = if reaches { 52_000 } else { 32_000 };
        assert!((most - 12_000..most).contains(&line.delays[1_400]), "{levels} {fec}: {}", line.delays[1_400]);
        let from = line.seen.iter().position(|seen| *seen == Seen::Packet(1_399)).unwrap() + 1;
        let first = match (levels, fec) {
            (2, _) => Seen::Packet(1_400),
            (_, true) => Fec(1_401),
            _ => Concealed,
        };
        assert_eq!(line.seen[from..from + 3], [first, Seen::Packet(1_401), Seen::Packet(1_402)]);
        line.run(1_500..5_000, |_| Some(0));
        let rest = if fec { 32_000 } else { 12_000 };
        assert!(line.delays[4_999] < rest, "{levels} {fec}: {}", line.delays[4_999]);
    }
    // One run is an accident.
    let mut line = Line::new(1, true);
    line.run(0..900, |n| (!(500..502).contains(&n)).then_some(0));
    assert!(line.delays.iter().skip(520).all(|delay| *delay < 32_000));
}

#[test]
fn two_levels_bridge_two_losses_where_there_is_time() {
    let mut line = Line::new(2, false);
    // Jitter of 25 ms gives the time.
    line.run(0..1_500, |n| (n % 40 > 1 || n < 400).then_some(if n % 3 == 0 { 25 } else { 0 }));
    let lost = (400..1_500).filter(|n| n % 40 <= 1).count();
    assert!(line.playout.repaired() as usize > lost * 9 / 10, "{} of {lost}", line.playout.repaired());
}

/// What is overtaken by its copy is not late: the delay does not learn from it, and it is not heard twice.
#[test]
fn a_packet_that_its_copy_overtook_is_no_lateness() {
    let mut line = Line::new(1, false);
    line.run(0..2_000, |n| Some(if n > 200 && n % 10 == 3 { 45 } else { 0 }));
    let mut played: Vec<u16> =
        line.seen.iter().filter_map(|seen| if let Seen::Packet(n) = seen { Some(*n) } else { None }).collect();
    let count = played.len();
    played.dedup();
    assert_eq!(played.len(), count, "none twice");
    assert!(played.is_sorted() && line.delays[1_999] < 32_000, "{}", line.delays[1_999]);
    assert!(line.made_up() <= 3, "{}", line.made_up());
}

/// A stray source's redundancy, one of another clock, one before the stream, and one whose number is another packet's.
#[test]
fn what_does_not_fit_is_left_out() {
    let mut line = Line::new(0, false);
    for n in [10, 11, 12, 15] {
        let us = u64::from(n) * 20_000;
        line.arrives(us, n);
        line.frame(us + 5_000);
    }
    let (good, fits) = (line.incoming(14, b"14"), line.playout.buffered_ms());
    let other = |change: fn(&mut RtpHeader)| {
        let mut incoming = good;
        change(&mut incoming.packet.header);
        incoming
    };
    for bad in [
        other(|header| header.ssrc = 2),
        other(|header| header.sequence = header.sequence.wrapping_sub(5)),
        other(|header| header.sequence = header.sequence.wrapping_add(500)),
        other(|header| header.timestamp = header.timestamp.wrapping_add(500)),
        other(|header| header.timestamp = header.timestamp.wrapping_sub(100_000)),
        Incoming { clock_rate: 8_000, ..good },
        Incoming { kind: Kind::Event, ..good },
    ] {
        line.playout.repair(&bad);
        assert_eq!(line.playout.buffered_ms(), fits, "{bad:?}");
    }
    line.playout.repair(&good);
    assert_eq!(line.playout.buffered_ms(), fits + 20);
    line.playout.repair(&good);
    assert_eq!(line.playout.buffered_ms(), fits + 20);
}

/// A digit takes a number and has no sound: the sound before it is not played once more in its place.
#[test]
fn a_lost_digit_is_no_lost_sound() {
    let mut line = Line::new(0, false);
    for n in 0..10 {
        line.arrives(u64::from(n) * 20_000, n);
        line.frame(u64::from(n) * 20_000 + 5_000);
    }
    // 10 was a digit and is lost; 11 holds the sound of 9.
    let payload = 11_u16.to_be_bytes();
    let next = line.incoming(11, &payload);
    let now = line.at(220_000);
    line.playout.insert(now, &next);
    let mut copy = line.incoming(9, b"09");
    copy.packet.header.sequence = copy.packet.header.sequence.wrapping_add(1);
    line.playout.repair(&copy);
    line.frame(225_000);
    line.frame(245_000);
    assert_eq!(line.playout.repaired(), 0);
}

proptest! {
    /// Whatever arrives and whatever it says that was before: packets play in the order of their time, and nothing runs away.
    #[test]
    fn no_redundancy_makes_it_run_away(
        network in proptest::collection::vec(proptest::option::weighted(0.8, 0_u64..200), 50..300),
        wrong in proptest::collection::vec((any::<u16>(), any::<u32>(), 0_u32..5_800, any::<bool>()), 1..20),
        levels in 0_u16..4,
    ) {
        let mut line = Line::new(levels, false);
        let mut arrivals: Vec<(u64, u16)> = network
            .iter()
            .enumerate()
            .filter_map(|(n, way)| way.map(|ms| (n as u64 * 20_000 + ms * 1_000, n as u16)))
            .collect();
        arrivals.sort_unstable();
        let mut arrivals = arrivals.into_iter().peekable();
        for frame in 0..network.len() as u64 + 30 {
            while let Some((us, n)) = arrivals.next_if(|(us, _)| *us <= frame * 20_000) {
                line.arrives(us, n);
                let (sequence, timestamp, duration, near) = wrong[usize::from(n) % wrong.len()];
                let mut copy = line.incoming(n, b"??");
                let header = &mut copy.packet.header;
                header.sequence = if near { header.sequence.wrapping_sub(sequence % 70) } else { sequence };
                header.timestamp = if near { header.timestamp.wrapping_sub(timestamp % 70_000) } else { timestamp };
                line.playout.repair(&Incoming { duration, ..copy });
            }
            let before = line.seen.len();
            line.frame(frame * 20_000 + 5_000);
            prop_assert!(line.seen.len() - before < 50);
            prop_assert!(line.playout.buffered_ms() <= LONGEST_SPAN_MS + 140);
        }
    }
}
