//! The jitter buffer: packets of one stream in the order of their sequence numbers, and an estimate of how late they come.

use std::time::{Duration, Instant};

/// Packets held at most; a power of two.
const SLOTS: usize = 64;
/// Bytes kept ready in each slot: 20 ms of anything a telephone sends. A slot that once saw more keeps the room.
const SLOT_BYTES: usize = 256;

/// What a packet means to playout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sound.
    Audio,
    /// A word that no sound follows for now: comfort noise, or a codec in discontinuous transmission.
    Quiet,
    /// Takes a sequence number but has no place in the sound: a telephone event.
    Event,
}

/// A packet in the buffer. Sequence number and timestamp are extended.
#[derive(Debug, Clone)]
pub struct Slot {
    sequence: i64,
    /// The extended timestamp.
    pub timestamp: i64,
    /// How long it sounds, in clock units.
    pub duration: u32,
    /// What it means.
    pub kind: Kind,
    /// Its payload type.
    pub payload_type: u8,
    payload: Vec<u8>,
}

impl Slot {
    /// The extended sequence number.
    pub fn sequence(&self) -> i64 {
        self.sequence
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// What became of a packet put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It waits for its turn.
    Stored,
    /// Its turn is over.
    Late,
    /// It is there already.
    Duplicate,
    /// So far ahead of the others that the buffer cannot hold both.
    TooFar,
}

/// Orders packets. It allocates when it is made (and once for a slot that meets a packet of unusual size).
#[derive(Debug, Clone)]
pub struct JitterBuffer {
    slots: Vec<Slot>,
    /// The lowest number that may still come out; `None` before the first packet.
    next: Option<i64>,
    highest: i64,
    len: usize,
}

const EMPTY: i64 = i64::MIN;

impl Default for JitterBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl JitterBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        let slot = || Slot {
            sequence: EMPTY,
            timestamp: 0,
            duration: 0,
            kind: Kind::Audio,
            payload_type: 0,
            payload: Vec::with_capacity(SLOT_BYTES),
        };
        Self { slots: (0..SLOTS).map(|_| slot()).collect(), next: None, highest: 0, len: 0 }
    }

    /// Packets held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The next sequence number in turn, once there was a packet.
    pub fn next_sequence(&self) -> Option<i64> {
        self.next
    }

    /// Puts a packet in its place.
    pub fn insert(
        &mut self,
        sequence: i64,
        timestamp: i64,
        duration: u32,
        kind: Kind,
        payload_type: u8,
        payload: &[u8],
    ) -> Inserted {
        let next = *self.next.get_or_insert(sequence);
        if sequence < next {
            return Inserted::Late;
        }
        if sequence >= next + SLOTS as i64 {
            if self.len > 0 {
                return Inserted::TooFar;
            }
            self.next = Some(sequence);
        }
        let Some(slot) = self.slots.get_mut(index(sequence)) else { return Inserted::TooFar };
        if slot.sequence == sequence {
            return Inserted::Duplicate;
        }
        slot.sequence = sequence;
        slot.timestamp = timestamp;
        slot.duration = duration;
        slot.kind = kind;
        slot.payload_type = payload_type;
        slot.payload.clear();
        slot.payload.extend_from_slice(payload);
        self.highest = if self.len == 0 { sequence } else { self.highest.max(sequence) };
        self.len += 1;
        Inserted::Stored
    }

    /// The packet with the lowest number.
    pub fn first(&self) -> Option<&Slot> {
        if self.len == 0 {
            return None;
        }
        (self.next?..=self.highest).map(index).filter_map(|i| self.slots.get(i)).find(|slot| slot.sequence != EMPTY)
    }

    /// The packet with the highest number.
    pub fn last(&self) -> Option<&Slot> {
        if self.len == 0 { None } else { self.slots.get(index(self.highest)) }
    }

    /// Takes the packet with the lowest number; numbers up to its own are in the past then.
    pub fn take_first(&mut self) -> Option<&Slot> {
        let sequence = self.first()?.sequence;
        let slot = self.slots.get_mut(index(sequence))?;
        slot.sequence = EMPTY;
        self.next = Some(sequence + 1);
        self.len -= 1;
        Some(slot)
    }

    /// Empties the buffer; whatever comes next is the first.
    pub fn reset(&mut self) {
        for slot in &mut self.slots {
            slot.sequence = EMPTY;
        }
        self.next = None;
        self.len = 0;
    }
}

fn index(sequence: i64) -> usize {
    sequence.rem_euclid(SLOTS as i64) as usize
}

/// Width of one class of lateness, and how many there are: 400 ms in all.
const CLASS_US: i64 = 2_000;
const CLASSES: usize = 200;
/// The least that is allowed for: timers of both ends are not exact.
const LEAST_CLASS: usize = 1;
/// The share of packets that shall be in time.
const IN_TIME: f32 = 0.97;
/// Memory of about 500 packets.
const FORGET: f32 = 0.998;
/// The fastest way is looked for anew in spans of this length.
const SPAN: Duration = Duration::from_secs(2);

/// Learns how late packets come compared with the fastest of the last seconds, and from that the delay that suffices.
#[derive(Debug, Clone)]
pub struct DelayEstimator {
    epoch: Option<Instant>,
    /// Smallest transit time (arrival minus media time, in microseconds) of this span and of the one before.
    current: Option<i64>,
    previous: Option<i64>,
    span_end: Option<Instant>,
    classes: Vec<f32>,
    packets: u32,
}

impl Default for DelayEstimator {
    fn default() -> Self {
        Self::new()
    }
}

impl DelayEstimator {
    /// An estimator that knows nothing yet.
    pub fn new() -> Self {
        Self { epoch: None, current: None, previous: None, span_end: None, classes: vec![0.0; CLASSES], packets: 0 }
    }

    /// Forgets all that was learnt.
    pub fn reset(&mut self) {
        (self.current, self.previous, self.span_end, self.packets) = (None, None, None, 0);
        self.classes.fill(0.0);
    }

    fn micros(&mut self, now: Instant) -> i64 {
        let epoch = *self.epoch.get_or_insert(now);
        now.saturating_duration_since(epoch).as_micros() as i64
    }

    /// Starts the time line anew at a packet that arrives now with this media time (microseconds): what was learnt of the
    /// network's jitter stays.
    pub fn rebase(&mut self, now: Instant, media_us: i64) {
        self.current = Some(self.micros(now) - media_us);
        self.previous = None;
        self.span_end = Some(now + SPAN);
    }

    /// Counts a packet that arrives now.
    pub fn packet(&mut self, now: Instant, media_us: i64) {
        let transit = self.micros(now) - media_us;
        if self.span_end.is_none_or(|end| now >= end) {
            self.previous = self.current.take();
            self.span_end = Some(now + SPAN);
        }
        let late = transit - self.base().unwrap_or(transit);
        if late.abs() > 1_000_000 {
            // The sender's clock jumped: not the network's doing.
            self.rebase(now, media_us);
            return;
        }
        self.current = Some(self.current.map_or(transit, |current| current.min(transit)));
        self.packets = self.packets.saturating_add(1);
        let keep = FORGET.min(1.0 - 1.0 / self.packets as f32);
        let class = (late.max(0) / CLASS_US) as usize;
        for weight in &mut self.classes {
            *weight *= keep;
        }
        if let Some(weight) = self.classes.get_mut(class.min(CLASSES - 1)) {
            *weight += 1.0 - keep;
        }
    }

    fn base(&self) -> Option<i64> {
        match (self.current, self.previous) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// How late packets come, so that `IN_TIME` of them are covered, in microseconds.
    pub fn jitter_us(&self) -> i64 {
        let total: f32 = self.classes.iter().sum();
        let mut sum = 0.0;
        for (class, weight) in self.classes.iter().enumerate() {
            sum += weight;
            if sum >= total * IN_TIME {
                return (class.max(LEAST_CLASS) as i64 + 1) * CLASS_US;
            }
        }
        (LEAST_CLASS as i64 + 1) * CLASS_US
    }

    /// How long after the fastest packet's arrival the media time `media_us` would be played now, in microseconds.
    pub fn delay_us(&self, now: Instant, media_us: i64) -> i64 {
        let (Some(epoch), Some(base)) = (self.epoch, self.base()) else { return 0 };
        now.saturating_duration_since(epoch).as_micros() as i64 - media_us - base
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
    use super::*;

    fn put(buffer: &mut JitterBuffer, sequence: i64) -> Inserted {
        buffer.insert(sequence, sequence * 160, 160, Kind::Audio, 0, &sequence.to_be_bytes())
    }

    #[test]
    fn packets_come_out_in_order_once() {
        let mut buffer = JitterBuffer::new();
        assert!(buffer.is_empty() && buffer.first().is_none() && buffer.last().is_none());
        for sequence in [100, 102, 101, 105] {
            assert_eq!(put(&mut buffer, sequence), Inserted::Stored);
        }
        assert_eq!(put(&mut buffer, 102), Inserted::Duplicate);
        assert_eq!(put(&mut buffer, 99), Inserted::Late);
        assert_eq!(put(&mut buffer, 100 + 64), Inserted::TooFar);
        assert_eq!(buffer.last().unwrap().sequence(), 105);
        let order: Vec<i64> =
            std::iter::from_fn(|| buffer.take_first().map(|s| i64::from_be_bytes(s.payload().try_into().unwrap())))
                .collect();
        assert_eq!(order, [100, 101, 102, 105]);
        assert_eq!(put(&mut buffer, 104), Inserted::Late);
        assert_eq!(put(&mut buffer, 106), Inserted::Stored);
        assert_eq!((buffer.len(), buffer.next_sequence()), (1, Some(106)));
        buffer.reset();
        assert_eq!(put(&mut buffer, 3), Inserted::Stored);
    }

    #[test]
    fn the_estimate_follows_the_jitter() {
        let start = Instant::now();
        for (spread, range) in [(1, 4_000..=4_000), (10, 8_000..=12_000), (60, 50_000..=62_000)] {
            let mut estimator = DelayEstimator::new();
            for n in 0..1_000_u64 {
                let late = n * 7 % spread;
                estimator.packet(start + Duration::from_millis(n * 20 + late), n as i64 * 20_000);
            }
            assert!(range.contains(&estimator.jitter_us()), "{spread}: {}", estimator.jitter_us());
        }
    }

    #[test]
    fn a_jump_of_the_senders_clock_is_no_jitter() {
        let start = Instant::now();
        let mut estimator = DelayEstimator::new();
        for n in 0..500_u64 {
            let jump = if n > 250 { 1_000_000_000 } else { 0 };
            estimator.packet(start + Duration::from_millis(n * 20), n as i64 * 20_000 - jump);
        }
        assert_eq!(estimator.jitter_us(), 4_000);
    }

    proptest::proptest! {
        #[test]
        fn any_order_of_numbers_keeps_the_buffer_sound(numbers in proptest::collection::vec(-200_i64..200, 0..300)) {
            let mut buffer = JitterBuffer::new();
            let mut last = i64::MIN;
            for number in numbers {
                if number % 5 == 0 {
                    if let Some(slot) = buffer.take_first() {
                        assert!(slot.timestamp > last);
                        last = slot.timestamp;
                    }
                } else {
                    put(&mut buffer, number);
                }
                assert!(buffer.len() <= SLOTS);
                assert_eq!(buffer.is_empty(), buffer.first().is_none());
            }
        }
    }
}
