//! The jitter buffer: packets of one stream in the order of their sequence numbers.

use std::ops::Range;

/// Packets held at most; a power of two.
const SLOTS: usize = 64;
/// Payloads that there is room for from the begin: 320 ms. Most streams never hold more.
const READY: usize = 16;
/// Bytes of such a room: 20 ms of anything a telephone sends. One that once saw more stays as large.
const READY_BYTES: usize = 256;

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

/// What is known of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The extended timestamp.
    pub timestamp: i64,
    /// How long it sounds, in clock units.
    pub duration: u32,
    /// What it means.
    pub kind: Kind,
    /// Whether it holds redundancy for the packet before.
    pub fec: bool,
    /// Its payload type.
    pub payload_type: u8,
    /// Whether it came in a later packet's redundancy (RFC 2198), and not itself.
    pub repeated: bool,
}

/// A packet in the buffer.
#[derive(Debug, Clone)]
pub struct Slot {
    sequence: i64,
    /// What is known of it.
    pub entry: Entry,
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
    /// Its turn is over, and there was one of its number with another timestamp.
    Again,
    /// Its turn is over, and it was here before.
    Copy,
    /// It is there already.
    Duplicate,
    /// So far ahead of the others that the buffer cannot hold both.
    TooFar,
}

/// Numbers before the next that are remembered: more than any that is still taken for one of the stream is behind.
const MEMORY: usize = 128;

/// Orders packets. It allocates when it is made; later once for each packet that is held beyond sixteen, and for one of
/// unusual size: what it has then it keeps.
#[derive(Debug, Clone)]
pub struct JitterBuffer {
    slots: Vec<Slot>,
    /// Room for payloads that no slot has. It moves with the packets, so that few are in use and stay in the cache.
    spare: Vec<Vec<u8>>,
    /// The slot whose packet was taken last: whoever took it may still read it.
    taken: Option<usize>,
    /// The lowest number that may still come out; `None` before the first packet.
    next: Option<i64>,
    highest: i64,
    len: usize,
    /// Which of the [`MEMORY`] numbers before `next` were here, the latest in the lowest bit.
    past: u128,
    /// Their timestamps.
    timestamps: Box<[i64; MEMORY]>,
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
            entry: Entry { timestamp: 0, duration: 0, kind: Kind::Audio, fec: false, payload_type: 0, repeated: false },
            payload: Vec::new(),
        };
        let mut spare = Vec::with_capacity(SLOTS);
        spare.resize_with(READY, || Vec::with_capacity(READY_BYTES));
        Self {
            slots: (0..SLOTS).map(|_| slot()).collect(),
            spare,
            taken: None,
            next: None,
            highest: 0,
            len: 0,
            past: 0,
            timestamps: Box::new([0; MEMORY]),
        }
    }

    /// Packets held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// How long the packets held sound, in clock units.
    pub fn sounding(&self) -> i64 {
        self.slots.iter().filter(|slot| slot.sequence != EMPTY).map(|slot| i64::from(slot.entry.duration)).sum()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The next sequence number in turn, once there was a packet.
    pub fn next_sequence(&self) -> Option<i64> {
        self.next
    }

    /// Puts a packet with this extended sequence number in its place.
    pub fn insert(&mut self, sequence: i64, entry: Entry, payload: &[u8]) -> Inserted {
        let next = *self.next.get_or_insert(sequence);
        if sequence < next {
            return self.late(sequence, next - 1 - sequence, entry.timestamp);
        }
        if sequence >= next + SLOTS as i64 {
            if self.len > 0 {
                return Inserted::TooFar;
            }
            self.advance(sequence);
        }
        self.give_back();
        let Some(slot) = self.slots.get_mut(index(sequence)) else { return Inserted::TooFar };
        if slot.sequence == sequence {
            slot.entry.repeated &= entry.repeated;
            return Inserted::Duplicate;
        }
        slot.sequence = sequence;
        slot.entry = entry;
        slot.payload = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(READY_BYTES));
        slot.payload.extend_from_slice(payload);
        self.highest = if self.len == 0 { sequence } else { self.highest.max(sequence) };
        self.len += 1;
        Inserted::Stored
    }

    /// Whether the packet of this number is missing among those that are held, and `time`, when it would sound, is no other's.
    pub fn lacks(&self, sequence: i64, time: Range<i64>) -> bool {
        if self.len == 0 || sequence >= self.highest || !self.misses(sequence) {
            return false;
        }
        let apart = |slot: &Slot| {
            let Entry { timestamp, duration, kind, .. } = slot.entry;
            match slot.sequence < sequence {
                _ if kind == Kind::Event => true,
                true => timestamp.saturating_add(i64::from(duration)) <= time.start,
                false => timestamp >= time.end,
            }
        };
        self.slots.iter().filter(|slot| slot.sequence != EMPTY).all(apart)
    }

    /// Whether the packet of this number could still play and is not here.
    pub fn misses(&self, sequence: i64) -> bool {
        let here = || self.slots.get(index(sequence)).is_some_and(|slot| slot.sequence == sequence);
        self.next.is_some_and(|next| sequence >= next) && !here()
    }

    /// A packet `ago` before the last number whose turn is over.
    fn late(&mut self, sequence: i64, ago: i64, timestamp: i64) -> Inserted {
        let bit = u32::try_from(ago).ok().and_then(|ago| 1_u128.checked_shl(ago)).unwrap_or(0);
        if self.past & bit == 0 {
            self.past |= bit;
            if bit != 0 {
                self.remember(sequence, timestamp);
            }
            return Inserted::Late;
        }
        let before = self.timestamps.get(sequence.rem_euclid(MEMORY as i64) as usize);
        if before == Some(&timestamp) { Inserted::Copy } else { Inserted::Again }
    }

    fn remember(&mut self, sequence: i64, timestamp: i64) {
        if let Some(place) = self.timestamps.get_mut(sequence.rem_euclid(MEMORY as i64) as usize) {
            *place = timestamp;
        }
    }

    /// The numbers up to `next` are in the past; none of those from the old `next` on was here.
    fn advance(&mut self, next: i64) {
        let step = next - self.next.unwrap_or(next);
        self.past = u32::try_from(step).ok().and_then(|step| self.past.checked_shl(step)).unwrap_or(0);
        self.next = Some(next);
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
        let Slot { sequence, entry: Entry { timestamp, .. }, .. } = *self.first()?;
        self.remember(sequence, timestamp);
        self.advance(sequence + 1);
        self.past |= 1;
        self.len -= 1;
        self.give_back();
        self.taken = Some(index(sequence));
        let slot = self.slots.get_mut(index(sequence))?;
        slot.sequence = EMPTY;
        Some(slot)
    }

    /// The room of the packet that was taken last is free again.
    fn give_back(&mut self) {
        if let Some(slot) = self.taken.take().and_then(|place| self.slots.get_mut(place)) {
            free(slot, &mut self.spare);
        }
    }

    /// Empties the buffer; whatever comes next is the first.
    pub fn reset(&mut self) {
        self.give_back();
        for slot in self.slots.iter_mut().filter(|slot| slot.sequence != EMPTY) {
            slot.sequence = EMPTY;
            free(slot, &mut self.spare);
        }
        self.next = None;
        self.len = 0;
        self.past = 0;
    }
}

/// Takes the room of a slot whose packet is gone.
fn free(slot: &mut Slot, spare: &mut Vec<Vec<u8>>) {
    let mut payload = std::mem::take(&mut slot.payload);
    payload.clear();
    spare.push(payload);
}

fn index(sequence: i64) -> usize {
    sequence.rem_euclid(SLOTS as i64) as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
    use super::*;

    fn put(buffer: &mut JitterBuffer, sequence: i64) -> Inserted {
        buffer.insert(sequence, entry(sequence), &sequence.to_be_bytes())
    }

    fn entry(sequence: i64) -> Entry {
        let (timestamp, kind) = (sequence * 160, Kind::Audio);
        Entry { timestamp, duration: 160, kind, fec: false, payload_type: 0, repeated: false }
    }

    #[test]
    fn what_is_missing_is_told_from_what_was_here_and_from_what_has_no_room() {
        let mut buffer = JitterBuffer::new();
        let lacks = |buffer: &JitterBuffer, sequence: i64, from: i64| buffer.lacks(sequence, from..from + 160);
        assert!(!lacks(&buffer, 100, 16_000), "nothing was here");
        assert_eq!([100, 103].map(|sequence| put(&mut buffer, sequence)), [Inserted::Stored; 2]);
        for (sequence, from, missing) in [
            (99, 15_840, false),
            (100, 16_000, false),
            (101, 16_160, true),
            (101, 16_100, false),
            (102, 16_320, true),
            (102, 16_400, false),
            (103, 16_480, false),
            (104, 16_640, false),
            (103 + SLOTS as i64, 16_640, false),
        ] {
            assert_eq!(lacks(&buffer, sequence, from), missing, "{sequence} at {from}");
        }
        assert_eq!([99, 100, 101, 102, 103].map(|n| buffer.misses(n)), [false, false, true, true, false]);
        buffer.take_first();
        assert!(!lacks(&buffer, 100, 16_000) && lacks(&buffer, 101, 16_160));
        let again = Entry { repeated: true, ..entry(102) };
        assert_eq!(buffer.insert(102, again, b"x"), Inserted::Stored);
        assert!(buffer.first().unwrap().entry.repeated);
        assert_eq!(put(&mut buffer, 102), Inserted::Duplicate);
        assert!(!buffer.first().unwrap().entry.repeated, "it came itself");
        buffer.take_first();
        assert!(!lacks(&buffer, 101, 16_160) && !lacks(&buffer, 102, 16_320));
    }

    #[test]
    fn room_for_payloads_is_used_again_and_never_grows_beyond_what_is_held() {
        let mut buffer = JitterBuffer::new();
        let rooms = |buffer: &JitterBuffer| {
            buffer.spare.len() + buffer.slots.iter().filter(|slot| slot.payload.capacity() > 0).count()
        };
        for sequence in 0..1_000 {
            put(&mut buffer, sequence);
            if sequence >= 5 {
                assert_eq!(buffer.take_first().unwrap().payload(), (sequence - 5).to_be_bytes());
            }
            assert_eq!(rooms(&buffer), READY, "at {sequence}");
        }
        buffer.reset();
        let all = SLOTS as i64;
        (0..all).for_each(|sequence| assert_eq!(put(&mut buffer, sequence), Inserted::Stored));
        assert_eq!(rooms(&buffer), SLOTS);
        buffer.reset();
        (5_000..5_000 + all).for_each(|sequence| assert_eq!(put(&mut buffer, sequence), Inserted::Stored));
        (0..all).for_each(|n| assert_eq!(buffer.take_first().unwrap().payload(), (5_000 + n).to_be_bytes()));
        assert_eq!(rooms(&buffer), SLOTS);
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
    fn a_late_packet_is_told_from_one_that_was_played() {
        let mut buffer = JitterBuffer::new();
        for sequence in [100, 101, 104] {
            put(&mut buffer, sequence);
        }
        while buffer.take_first().is_some() {}
        assert_eq!([101, 103, 103, 102].map(|n| put(&mut buffer, n)), {
            use Inserted::{Copy, Late};
            [Copy, Late, Copy, Late]
        });
        assert_eq!([105, 200].map(|n| put(&mut buffer, n)), [Inserted::Stored, Inserted::TooFar]);
        while buffer.take_first().is_some() {}
        assert_eq!(put(&mut buffer, 180), Inserted::Stored);
        buffer.take_first();
        assert_eq!([179, 180, 105].map(|n| put(&mut buffer, n)), [Inserted::Late, Inserted::Copy, Inserted::Copy]);
    }

    proptest::proptest! {
        #[test]
        fn any_order_of_numbers_keeps_the_buffer_sound(numbers in proptest::collection::vec(-200_i64..200, 0..300)) {
            let mut buffer = JitterBuffer::new();
            let mut last = i64::MIN;
            for number in numbers {
                if number % 5 == 0 {
                    if let Some(slot) = buffer.take_first() {
                        assert!(slot.entry.timestamp > last);
                        last = slot.entry.timestamp;
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
