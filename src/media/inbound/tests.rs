//! The receiving half by itself, given what no sender would send.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
use super::*;
use crate::rtp::packet::RtpHeader;
use proptest::prelude::*;

const EVENT: u8 = 101;
const NOISE: u8 = 13;

struct Bench {
    inbound: Inbound,
    start: Instant,
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        let mut inbound = Inbound::new(1);
        let accepted = [AcceptedCodec { payload_type: 0, codec: Codec::Pcmu }];
        let events = [TelephoneEvent { payload_type: EVENT, clock_rate: 8_000 }];
        inbound.configure(start, &accepted, events.into_iter(), Some(NOISE), None).unwrap();
        Self { inbound, start }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn packet(&mut self, ms: u64, payload_type: u8, ssrc: u32, (sequence, timestamp): (u16, u32)) {
        let header = RtpHeader { payload_type, sequence, timestamp, ssrc, ..RtpHeader::default() };
        let payload = match payload_type {
            EVENT => &[5, 0x8a, 1, 64][..],
            NOISE => &[60][..],
            _ => &[0x55; 160][..],
        };
        let now = self.at(ms);
        self.inbound.packet(now, RtpPacket { header, payload });
    }

    /// Takes a frame and asks all that others ask.
    fn pull(&mut self, ms: u64) {
        let now = self.at(ms);
        let mut frame = [0; 160];
        self.inbound.pull(now, &mut frame);
        self.survey(ms);
    }

    fn survey(&mut self, ms: u64) {
        let now = self.at(ms);
        assert!(self.inbound.buffered_ms() <= 10_100);
        assert!(self.inbound.delay_ms() <= 10_000 && self.inbound.target_ms(now) <= 10_000);
        assert!(self.inbound.due(now).is_none_or(|due| due <= now + Duration::from_secs(1)));
        let _ = (self.inbound.sound(), self.inbound.stats.report(now), self.inbound.stats.jitter_ms());
    }
}

/// Copies of an event whose timestamp jumps by half the circle, while sound waits: the time line is the sound's alone.
#[test]
fn events_whose_timestamps_jump_move_no_time_line() {
    for step in [1 << 31, (1 << 31) - 1] {
        let mut bench = Bench::new();
        bench.packet(0, 0, 1, (10, 0));
        bench.pull(10);
        bench.packet(20, 0, 1, (11, 160));
        for n in 0..5_000_u32 {
            bench.packet(21, EVENT, 1, (12, n.wrapping_mul(step)));
        }
        bench.packet(22, 0, 1, (13, 320));
        assert!(bench.inbound.buffered_ms() <= 60, "{}", bench.inbound.buffered_ms());
        for n in 0..20 {
            bench.pull(30 + n * 20);
        }
    }
}

/// Packets whose timestamps each jump by a little less than another stream's would: what waits, and the change of length that
/// is asked for, have bounds.
#[test]
fn steps_of_a_minute_stay_within_bounds() {
    let mut bench = Bench::new();
    for n in 0..2_000_u32 {
        let ms = u64::from(n) * 5;
        bench.packet(ms, 0, 1, (n as u16, n.wrapping_mul(8_000 * 59)));
        bench.packet(ms, EVENT, 1, (n as u16, n.wrapping_mul(8_000 * 119)));
        bench.survey(ms);
        if n % 4 == 3 {
            bench.pull(ms);
        }
    }
}

/// One thing that a sender does: what it waits before, the payload type, the steps in sequence and timestamp, and how often it
/// repeats the packet with the same step in the timestamp alone.
#[derive(Debug, Clone, Copy)]
struct Deed {
    pause: u64,
    payload_type: u8,
    other_source: bool,
    sequence: i32,
    timestamp: u32,
    copies: u32,
}

/// Small steps as a stream has them, and now and then a jump.
fn deed() -> impl Strategy<Value = Deed> {
    let payload_type = prop_oneof![12 => Just(0), 2 => Just(EVENT), 1 => Just(NOISE)];
    let sequence = prop_oneof![20 => Just(1), 2 => 0..4_i32, 2 => -8..0_i32, 1 => -120..1_200_i32];
    let timestamp = prop_oneof![
        20 => Just(160_u32), 2 => Just(0), 1 => Just(8_000 * 59), 1 => Just(1 << 31), 1 => any::<u32>(),
    ];
    let copies = prop_oneof![40 => Just(0_u32), 2 => 1..8_u32, 1 => 1_000..6_000_u32];
    let other_source = proptest::bool::weighted(0.03);
    (0_u64..40, payload_type, other_source, sequence, timestamp, copies).prop_map(
        |(pause, payload_type, other_source, sequence, timestamp, copies)| Deed {
            pause,
            payload_type,
            other_source,
            sequence,
            timestamp,
            copies,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn no_input_at_all_makes_it_panic_or_stall(deeds in proptest::collection::vec(deed(), 0..120)) {
        let mut bench = Bench::new();
        let (mut ms, mut frame, mut sequence, mut timestamp) = (0, 0, 0_u16, 0_u32);
        for deed in deeds {
            ms += deed.pause;
            while frame <= ms {
                bench.pull(frame);
                frame += 20;
            }
            sequence = sequence.wrapping_add(deed.sequence as u16);
            for _ in 0..=deed.copies {
                timestamp = timestamp.wrapping_add(deed.timestamp);
                let ssrc = 1 + u32::from(deed.other_source);
                bench.packet(ms, deed.payload_type, ssrc, (sequence, timestamp));
            }
            bench.survey(ms);
        }
        for n in 0..100 {
            bench.pull(frame + n * 20);
        }
        prop_assert_eq!(bench.inbound.playout.buffered_ms(), 0);
    }
}
