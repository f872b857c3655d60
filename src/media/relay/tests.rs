#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
use super::*;
use proptest::prelude::*;

const PER_MS: i32 = 48;
const MS: u32 = PER_MS as u32;

/// A relay and the time line of its listener, as `Outbound` keeps it.
struct Desk {
    start: Instant,
    relay: Relay,
    at_ms: u64,
    line: Line,
    /// What went out: number, timestamp, and whether it was passed on.
    out: Vec<(u16, u32, bool)>,
}

impl Desk {
    fn new() -> Self {
        let line = Line { per_ms: PER_MS, now: u32::MAX - 500 * MS, end: None, next: 65_500, interrupted: false };
        Self { start: Instant::now(), relay: Relay::default(), at_ms: 0, line, out: Vec::new() }
    }

    fn wait(&mut self, ms: u64) {
        self.at_ms += ms;
        self.line.now = self.line.now.wrapping_add(ms as u32 * MS);
    }

    /// A packet of 20 ms comes.
    fn comes(&mut self, ssrc: u32, sequence: u16, timestamp: u32) -> Option<Place> {
        let header = RtpHeader { marker: false, payload_type: 111, sequence, timestamp, ssrc };
        let now = self.start + Duration::from_millis(self.at_ms);
        let place = self.relay.place(now, &header, self.line)?;
        self.out.push((place.sequence, place.timestamp, true));
        if let Some(shift) = place.newest {
            self.line.next = place.sequence.wrapping_add(1);
            self.line.now = self.line.now.wrapping_add(shift as u32);
            let end = place.timestamp.wrapping_add(20 * MS);
            self.line.end = Some(self.line.end.filter(|before| after(*before, end) > 0).unwrap_or(end));
            self.line.interrupted = false;
        }
        Some(place)
    }

    /// We send 20 ms of our own.
    fn own(&mut self) {
        let start = self.line.end.filter(|end| after(*end, self.line.now) > 0).unwrap_or(self.line.now);
        self.out.push((self.line.next, start, false));
        self.line.next = self.line.next.wrapping_add(1);
        self.line.now = start;
        self.line.end = Some(start.wrapping_add(20 * MS));
        self.line.interrupted = true;
        self.wait(20);
    }

    /// The timestamp of the nth packet sent, from the first on.
    fn since_first(&self, n: usize) -> u32 {
        self.out[n].1.wrapping_sub(self.out[0].1) / MS
    }
}

#[test]
fn a_gap_stays_a_gap_and_a_reordered_packet_goes_to_its_place() {
    let mut desk = Desk::new();
    // 3 is lost, 5 and 6 change places, 7 comes twice.
    for n in [0_u16, 1, 2, 4, 6, 5, 7, 7, 8] {
        desk.comes(7, 65_533_u16.wrapping_add(n), u32::from(n) * 20 * MS);
        desk.wait(20);
    }
    let numbers: Vec<u16> = desk.out.iter().map(|(number, ..)| number.wrapping_sub(65_500)).collect();
    assert_eq!(numbers, [0, 1, 2, 4, 6, 5, 7, 8]);
    let times: Vec<u32> = (0..desk.out.len()).map(|n| desk.since_first(n)).collect();
    assert_eq!(times, [0, 20, 40, 80, 120, 100, 140, 160]);
}

#[test]
fn after_packets_of_our_own_it_goes_on_behind_them_and_true_to_time() {
    let mut desk = Desk::new();
    for n in 0..5_u16 {
        desk.comes(7, n, u32::from(n) * 20 * MS);
        desk.wait(20);
    }
    for _ in 0..10 {
        desk.own();
    }
    // What waited in the network is past; the next one is in time.
    assert_eq!(desk.comes(7, 5, 5 * 20 * MS), None);
    assert_eq!(desk.comes(7, 4, 4 * 20 * MS), None, "nor a second time");
    let place = desk.comes(7, 15, 15 * 20 * MS).unwrap();
    assert!(place.first && place.sequence == 65_500_u16.wrapping_add(15));
    assert_eq!(desk.since_first(desk.out.len() - 1), 300);
    // And one that comes later but is older than that is not sent any more.
    assert_eq!(desk.comes(7, 14, 14 * 20 * MS), None);
}

#[test]
fn a_way_that_is_longer_now_is_not_silence_for_ever() {
    let mut desk = Desk::new();
    desk.comes(7, 0, 0);
    for _ in 0..50 {
        desk.own();
    }
    // From now on everything comes 300 ms late.
    let mut heard = None;
    for n in 35..60_u16 {
        if desk.comes(7, n, u32::from(n) * 20 * MS).is_some() {
            heard = heard.or(Some(n));
        }
        desk.wait(20);
    }
    assert_eq!(heard, Some(40), "100 ms later, and then all of them");
    assert_eq!(desk.out.len(), 51 + 20);
}

#[test]
fn another_source_and_another_time_line_begin_anew() {
    let mut desk = Desk::new();
    desk.comes(7, 100, 1_000);
    desk.wait(20);
    let place = desk.comes(8, 40_000, 777_777).unwrap();
    assert!(place.first);
    assert_eq!((desk.out[1].0.wrapping_sub(desk.out[0].0), desk.since_first(1)), (1, 20));
    desk.wait(20);
    // Its clock jumps by a minute, its numbers go on.
    let place = desk.comes(8, 40_001, 777_777 + 60_000 * MS).unwrap();
    assert!(place.first);
    assert_eq!((desk.out[2].0.wrapping_sub(desk.out[0].0), desk.since_first(2)), (2, 40));
    desk.wait(20);
    // Its numbers jump: the first is not believed, the second is.
    assert_eq!(desk.comes(8, 10, 20 * MS), None);
    desk.wait(20);
    assert!(desk.comes(8, 11, 40 * MS).is_some_and(|place| place.first));
    assert_eq!((desk.out[3].0.wrapping_sub(desk.out[0].0), desk.since_first(3)), (3, 80));
}

#[test]
fn numbers_that_step_back_are_a_sender_that_began_anew_after_five_packets() {
    for origin in [40 * 20 * MS, 0x4000_0000, 0xc000_0000] {
        let mut desk = Desk::new();
        for n in 0..40_u16 {
            desk.comes(7, 1_000 + n, u32::from(n) * 20 * MS);
            desk.wait(20);
        }
        // What comes twice, in sequence too, is not sent again.
        (20..40_u16).for_each(|n| assert_eq!(desk.comes(7, 1_000 + n, u32::from(n) * 20 * MS), None));
        let heard: Vec<u32> = (0..20_u16)
            .filter_map(|n| {
                let place = desk.comes(7, 980 + n, origin.wrapping_add(u32::from(n) * 20 * MS));
                desk.wait(20);
                place.map(|place| place.timestamp.wrapping_sub(desk.out[0].1) / MS / 20)
            })
            .collect();
        assert_eq!(heard, (44..60).collect::<Vec<_>>(), "{origin:x}");
        let numbers: Vec<u16> = desk.out.iter().map(|(number, ..)| number.wrapping_sub(65_500)).collect();
        assert_eq!(numbers, (0..56).collect::<Vec<_>>());
    }
}

#[test]
fn a_slow_and_a_fast_clock_are_followed() {
    for ppm in [-200_i64, 200] {
        let mut desk = Desk::new();
        for n in 0..30_000_u32 {
            let media = i64::from(n) * 20 * i64::from(MS) * (1_000_000 + ppm) / 1_000_000;
            desk.comes(7, n as u16, media as u32);
            desk.wait(20);
        }
        assert_eq!(desk.out.len(), 30_000);
        // Ten minutes later our time is still that of what is passed on.
        let off = after(desk.line.now, desk.out[29_999].1) - 20 * PER_MS;
        assert!(off.abs() < 5 * PER_MS, "{ppm}: {off}");
    }
}

#[derive(Debug, Clone)]
enum Act {
    Packet { ahead: i16, jitter_ms: i16 },
    Again(u8),
    Own(u8),
    Swallow,
    Wait(u16),
    Source(u32),
    Jump(u16, u32),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (1..4_i16, -30..30_i16).prop_map(|(ahead, jitter_ms)| Act::Packet { ahead, jitter_ms }),
        4 => (0..80_u8).prop_map(Act::Again),
        2 => (1..30_u8).prop_map(Act::Own),
        1 => Just(Act::Swallow),
        3 => (0..400_u16).prop_map(Act::Wait),
        1 => (1..3_u32).prop_map(Act::Source),
        1 => (any::<u16>(), any::<u32>()).prop_map(|(number, time)| Act::Jump(number, time)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// No number is used twice, whatever comes: with SRTP that would be a key stream used twice. And what we send ourselves never
    /// begins before the end of what was sent.
    #[test]
    fn no_number_twice(acts in prop::collection::vec(act(), 1..120)) {
        let mut desk = Desk::new();
        let (mut ssrc, mut number, mut time) = (1, 65_000_u16, 0_u32);
        for act in acts {
            match act {
                Act::Packet { ahead, jitter_ms } => {
                    number = number.wrapping_add(ahead as u16);
                    time = time.wrapping_add(ahead as u32 * 20 * MS);
                    desk.comes(ssrc, number, time.wrapping_add((i32::from(jitter_ms) as u32).wrapping_mul(MS)));
                    desk.wait(20);
                }
                Act::Again(back) => {
                    desk.comes(ssrc, number.wrapping_sub(u16::from(back)), time.wrapping_sub(u32::from(back) * 20 * MS));
                }
                Act::Own(count) => (0..count).for_each(|_| {
                    let end = desk.line.end;
                    desk.own();
                    let began = desk.out.last().unwrap().1;
                    assert!(end.is_none_or(|end| after(began, end) >= 0));
                }),
                Act::Swallow => {
                    number = number.wrapping_add(1);
                    let header = RtpHeader { marker: false, payload_type: 111, sequence: number, timestamp: time, ssrc };
                    desk.relay.swallow(desk.start + Duration::from_millis(desk.at_ms), &header);
                }
                Act::Wait(ms) => {
                    desk.wait(u64::from(ms));
                    time = time.wrapping_add(u32::from(ms) * MS);
                }
                Act::Source(other) => ssrc = other,
                Act::Jump(to, at) => (number, time) = (to, at),
            }
        }
        let mut numbers: Vec<u16> = desk.out.iter().map(|(number, ..)| *number).collect();
        let sent = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        prop_assert_eq!(numbers.len(), sent);
    }
}

#[test]
fn another_clock_begins_anew() {
    let mut desk = Desk::new();
    desk.comes(7, 100, 1_000);
    desk.wait(20);
    desk.line.per_ms = 8;
    let place = desk.comes(7, 101, 1_000 + 160).unwrap();
    assert!(place.first);
    let place = desk.comes(7, 102, 1_000 + 320).unwrap();
    assert!(!place.first);
}
