//! Playout: when does which packet sound, and what fills the gaps.
//!
//! [`Playout`] takes a stream's packets as they come and is asked for sound whenever more is needed, at a steady pace. Its
//! time line is that of the stream: a gap is filled with exactly the time that is missing, so nothing downstream slips.
//!
//! The delay it plays with is learnt from the network ([`DelayEstimator`]) plus one packet of look-ahead where the codec
//! carries redundancy. It grows by itself when packets come too late, and is taken back by leaving out a packet
//! ([`Step::Packet::surplus`]) once the delay has been too long for a while. Time stretching would go in at the same place.

use super::jitter::{DelayEstimator, Inserted, JitterBuffer, Kind};
use super::packet::RtpPacket;
use super::sequence::{SequenceExtender, TimestampExtender};
use std::time::{Duration, Instant};

/// After so long without a packet the stream pauses, and starts anew with the next.
const PAUSE_MS: u32 = 200;
/// A sequence number further ahead, or further back, than this is another stream, or a stray packet (RFC 3550 appendix A.1:
/// MAX_DROPOUT and MAX_MISORDER).
const LARGEST_JUMP: i32 = 1_000;
const LARGEST_STEP_BACK: i32 = 100;
/// So many packets in sequence that are all too late are a stream that stepped back by less than that.
const LATE_RUN: u8 = 5;
/// A timestamp further off than this, in seconds, is another time line: the stream begins anew.
const LARGEST_TIME_JUMP: u32 = 60;
/// More sound than this is never held.
const LONGEST_SPAN_MS: u32 = 600;
/// Surplus delay is judged by its minimum over this time.
const SURPLUS_WINDOW: Duration = Duration::from_secs(1);
/// The same when the surplus is over [`LARGE_SURPLUS_US`].
const SHORT_SURPLUS_WINDOW: Duration = Duration::from_millis(200);
const LARGE_SURPLUS_US: i64 = 60_000;

/// A packet and what its codec says about it.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// The packet.
    pub packet: RtpPacket<'a>,
    /// The RTP clock of its payload type in Hz.
    pub clock_rate: u32,
    /// How long it sounds, in clock units.
    pub duration: u32,
    /// What it means.
    pub kind: Kind,
    /// Whether a packet of this codec may hold redundancy for the one before.
    pub fec: bool,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The first of a stream, or of a stream that starts anew.
    NewStream,
    /// It waits for its turn.
    Stored,
    /// Too late, twice, or not believed.
    Dropped,
}

/// What to do for the next stretch of sound. Durations are in clock units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Decode this.
    Packet {
        /// Its payload type.
        payload_type: u8,
        /// Its payload.
        payload: &'a [u8],
        /// How long it sounds by its own account.
        duration: u32,
        /// The delay is longer than it need be: this packet may be left out after decoding. Say so by
        /// [`Playout::dropped`].
        surplus: bool,
    },
    /// The packet before `next` is lost: decode the redundancy in `next`, for this duration.
    Recover {
        /// The payload type of `next`.
        payload_type: u8,
        /// The payload of the packet after the lost one.
        next: &'a [u8],
        /// The time to fill.
        duration: u32,
    },
    /// Something is missing and cannot be had: conceal it.
    Conceal {
        /// The time to fill.
        duration: u32,
    },
    /// Nothing is missing: the sender says nothing.
    Silence {
        /// The time to fill.
        duration: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between streams or spurts: the next packet waits until its delay is full.
    Paused,
    /// In the middle of sound.
    Playing,
}

/// The receiver of one stream.
#[derive(Debug, Clone)]
pub struct Playout {
    buffer: JitterBuffer,
    delay: DelayEstimator,
    sequences: SequenceExtender,
    timestamps: TimestampExtender,
    ssrc: Option<u32>,
    clock_rate: u32,
    frame_ms: u32,
    fec: bool,
    last_sequence: u16,
    last_timestamp: u32,
    /// The sequence number that would confirm a jump.
    jump: Option<u16>,
    /// The sequence number that would go on with a run of late packets, and how many there were.
    late: (u16, u8),
    state: State,
    /// The media time that sounds next.
    expected: i64,
    /// Time already filled beyond `expected`, in clock units.
    filled: i64,
    /// Packet length of the stream in milliseconds.
    packet_ms: u32,
    quiet: bool,
    surplus: Option<(i64, Instant)>,
    surplus_found: bool,
}

impl Playout {
    /// A playout that will be asked for frames of `frame_ms` milliseconds.
    pub fn new(frame_ms: u32) -> Self {
        Self {
            buffer: JitterBuffer::new(),
            delay: DelayEstimator::new(),
            sequences: SequenceExtender::default(),
            timestamps: TimestampExtender::default(),
            ssrc: None,
            clock_rate: 8_000,
            frame_ms,
            fec: false,
            last_sequence: 0,
            last_timestamp: 0,
            jump: None,
            late: (0, 0),
            state: State::Paused,
            expected: 0,
            filled: 0,
            packet_ms: frame_ms,
            quiet: false,
            surplus: None,
            surplus_found: false,
        }
    }

    /// The RTP clock of the stream, in which the durations of [`Step`] are.
    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// Takes a packet that arrived now.
    pub fn insert(&mut self, now: Instant, incoming: &Incoming<'_>) -> Arrival {
        let header = &incoming.packet.header;
        let mut new_stream =
            self.ssrc != Some(header.ssrc) || (incoming.kind != Kind::Event && incoming.clock_rate != self.clock_rate);
        let ahead = i32::from(header.sequence.wrapping_sub(self.last_sequence) as i16);
        if !new_stream && !(-LARGEST_STEP_BACK..=LARGEST_JUMP).contains(&ahead) {
            // Believed when the next packet confirms it (RFC 3550 appendix A.1).
            if self.jump != Some(header.sequence) {
                self.jump = Some(header.sequence.wrapping_add(1));
                return Arrival::Dropped;
            }
            new_stream = true;
        }
        let time_jump = header.timestamp.wrapping_sub(self.last_timestamp) as i32;
        if !new_stream && incoming.kind != Kind::Event && time_jump.unsigned_abs() / self.clock_rate > LARGEST_TIME_JUMP
        {
            new_stream = true;
        }
        if new_stream {
            if incoming.kind == Kind::Event {
                // An event has no place on a time line that does not exist yet.
                return Arrival::Dropped;
            }
            self.start(header.ssrc, incoming.clock_rate);
        }
        self.jump = None;
        let mut inserted = self.place(now, incoming);
        if self.stepped_back(header.sequence, inserted) && incoming.kind != Kind::Event {
            new_stream = true;
            self.start(header.ssrc, incoming.clock_rate);
            // The run was taken for lateness.
            self.delay.reset();
            inserted = self.place(now, incoming);
        }
        match inserted {
            Inserted::Stored if new_stream => Arrival::NewStream,
            Inserted::Stored => Arrival::Stored,
            Inserted::Late | Inserted::Duplicate => Arrival::Dropped,
            Inserted::TooFar => {
                // Nobody fetched for over a second: what waits is stale.
                self.buffer.reset();
                self.state = State::Paused;
                Arrival::Dropped
            }
        }
    }

    /// Puts a packet on the stream's time line and into the buffer.
    fn place(&mut self, now: Instant, incoming: &Incoming<'_>) -> Inserted {
        let header = &incoming.packet.header;
        let sequence = self.sequences.extend(header.sequence);
        if self.buffer.next_sequence().is_none_or(|next| sequence >= next) {
            self.last_sequence = header.sequence;
        }
        let timestamp = self.timestamps.extend(header.timestamp);
        if incoming.kind != Kind::Event {
            self.last_timestamp = header.timestamp;
            self.fec = incoming.fec;
            self.observe(now, timestamp, incoming);
        }
        let payload = if incoming.kind == Kind::Event { &[][..] } else { incoming.packet.payload };
        self.buffer.insert(sequence, timestamp, incoming.duration, incoming.kind, header.payload_type, payload)
    }

    /// Whether the last packets were all late and in sequence: reordering makes no such run, a sender that began anew does.
    fn stepped_back(&mut self, sequence: u16, inserted: Inserted) -> bool {
        let (expected, run) = self.late;
        let run = match inserted {
            Inserted::Late if sequence == expected => run.saturating_add(1),
            Inserted::Late => 1,
            _ => 0,
        };
        self.late = (sequence.wrapping_add(1), run);
        run >= LATE_RUN
    }

    fn start(&mut self, ssrc: u32, clock_rate: u32) {
        self.ssrc = Some(ssrc);
        self.clock_rate = clock_rate.max(1_000);
        self.buffer.reset();
        self.sequences = SequenceExtender::default();
        self.timestamps = TimestampExtender::default();
        self.state = State::Paused;
        self.late = (0, 0);
        self.quiet = false;
        self.forget_surplus();
    }

    fn observe(&mut self, now: Instant, timestamp: i64, incoming: &Incoming<'_>) {
        let media = self.media_us(timestamp);
        if self.state == State::Paused && self.buffer.is_empty() {
            self.delay.rebase(now, media);
        }
        self.delay.packet(now, media);
        if incoming.kind == Kind::Audio {
            self.packet_ms = (incoming.duration * 1_000 / self.clock_rate).max(1);
        }
    }

    fn media_us(&self, timestamp: i64) -> i64 {
        // Microseconds of years fit in 64 bits; saturating, because a peer chooses the steps.
        timestamp.saturating_mul(1_000_000) / i64::from(self.clock_rate)
    }

    /// The delay aimed at: the network's jitter, one packet to look ahead for redundancy, and what it takes when packets and
    /// frames are of different lengths.
    pub fn target_us(&self) -> i64 {
        let uneven = self.frame_ms - gcd(self.frame_ms, self.packet_ms);
        let look_ahead = if self.fec { self.packet_ms.min(60) } else { 0 };
        self.delay.jitter_us() + i64::from(look_ahead + uneven) * 1_000
    }

    /// When the first packet that waits is due; for a new stream: when to ask for the first frame.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let slot = self.buffer.first()?;
        let wait = self.target_us() - self.delay.delay_us(now, self.media_us(slot.timestamp));
        Some(now + Duration::from_micros(wait.max(0) as u64))
    }

    /// Milliseconds of sound that wait.
    pub fn buffered_ms(&self) -> u32 {
        (self.span().max(0) * 1_000 / i64::from(self.clock_rate)) as u32
    }

    fn span(&self) -> i64 {
        match (self.buffer.first(), self.buffer.last()) {
            (Some(first), Some(last)) => last.timestamp + i64::from(last.duration) - first.timestamp,
            _ => 0,
        }
    }

    fn frame_units(&self) -> u32 {
        self.frame_ms * self.clock_rate / 1_000
    }

    /// What sounds next. Ask until the frame is full; each answer stands for its duration.
    pub fn next(&mut self, now: Instant) -> Step<'_> {
        self.skip_events();
        self.shed();
        let frame = self.frame_units();
        let Some(head) = self.buffer.first() else { return self.underrun(frame) };
        let gap = head.timestamp - self.expected;
        let missing = gap - self.filled;
        // A packet is lost when numbers are missing; when only time is missing the sender was silent.
        let lost =
            self.state == State::Playing && self.buffer.next_sequence().is_some_and(|next| next < head.sequence());
        let (duration, due) = (i64::from(head.duration), self.is_due(now, head.timestamp));
        if (self.state == State::Paused || (gap > 0 && !lost))
            && !due
            && missing_is_sane(missing, self.clock_rate, self.state)
        {
            self.filled += i64::from(frame);
            return Step::Silence { duration: frame };
        }
        if lost && missing > 0 && missing <= i64::from(self.clock_rate) {
            return self.fill_loss(missing, duration, frame);
        }
        if self.state == State::Paused {
            self.trim(now);
        }
        self.play(now)
    }

    /// Events hold a place in the sequence, so that they are no loss, and have no sound.
    fn skip_events(&mut self) {
        while self.buffer.first().is_some_and(|slot| slot.kind == Kind::Event) {
            self.buffer.take_first();
        }
    }

    /// Leaves out what would sound next; an event behind it does not take its place.
    fn discard_first(&mut self) {
        self.buffer.take_first();
        self.skip_events();
    }

    /// At a start packets may have waited longer than the delay aimed at, because frames are asked for at steady times:
    /// what is too old by a whole packet is left out before anything was heard, not later in the middle of speech.
    fn trim(&mut self, now: Instant) {
        while self.buffer.len() > 1
            && let Some(head) = self.buffer.first()
        {
            let packet = i64::from(head.duration) * 1_000_000 / i64::from(self.clock_rate);
            let over = self.delay.delay_us(now, self.media_us(head.timestamp)) - self.target_us();
            if packet == 0 || over + 500 < packet {
                return;
            }
            self.discard_first();
        }
    }

    fn is_due(&self, now: Instant, timestamp: i64) -> bool {
        // Half a millisecond of grace: timers are not exact, and a whole frame would be waited for.
        self.delay.delay_us(now, self.media_us(timestamp)) + 500 >= self.target_us()
    }

    fn underrun(&mut self, frame: u32) -> Step<'_> {
        self.filled = self.filled.saturating_add(i64::from(frame));
        if self.state == State::Playing && self.filled > i64::from(PAUSE_MS * (self.clock_rate / 1_000)) {
            self.state = State::Paused;
            self.forget_surplus();
        }
        if self.state == State::Paused || self.quiet {
            return Step::Silence { duration: frame };
        }
        Step::Conceal { duration: frame }
    }

    /// `missing` units before the head are lost: the last packet's worth may be in the head's redundancy.
    fn fill_loss(&mut self, missing: i64, head_duration: i64, frame: u32) -> Step<'_> {
        let by_redundancy = if self.fec && !self.quiet { head_duration.max(1) } else { 0 };
        if missing <= by_redundancy {
            self.filled += missing;
            if let Some(head) = self.buffer.first() {
                return Step::Recover {
                    payload_type: head.payload_type,
                    next: head.payload(),
                    duration: missing as u32,
                };
            }
        }
        let duration = (missing - by_redundancy).min(i64::from(frame));
        self.filled += duration;
        if self.quiet {
            Step::Silence { duration: duration as u32 }
        } else {
            Step::Conceal { duration: duration as u32 }
        }
    }

    fn play(&mut self, now: Instant) -> Step<'_> {
        let frame = self.frame_units();
        let surplus = self.judge_surplus(now);
        if self.buffer.is_empty() {
            return self.underrun(frame);
        }
        let Some(slot) = self.buffer.take_first() else { return Step::Silence { duration: frame } };
        self.state = State::Playing;
        self.expected = slot.timestamp + i64::from(slot.duration);
        self.filled = 0;
        self.quiet = slot.kind == Kind::Quiet;
        Step::Packet { payload_type: slot.payload_type, payload: slot.payload(), duration: slot.duration, surplus }
    }

    /// Never holds more than [`LONGEST_SPAN_MS`]: the oldest packets go.
    fn shed(&mut self) {
        let units = |ms: u32| i64::from(ms) * i64::from(self.clock_rate) / 1_000;
        if self.span() <= units(LONGEST_SPAN_MS) {
            return;
        }
        let keep = units((self.target_us() / 1_000) as u32 + self.packet_ms).min(units(LONGEST_SPAN_MS));
        while self.span() > keep && self.buffer.len() > 1 {
            self.discard_first();
        }
        if let Some(head) = self.buffer.first() {
            self.expected = head.timestamp;
            self.filled = 0;
        }
        self.forget_surplus();
    }

    /// Whether the delay was longer than needed by a whole packet all through the last window.
    fn judge_surplus(&mut self, now: Instant) -> bool {
        let Some(head) = self.buffer.first() else { return false };
        let delay = self.delay.delay_us(now, self.media_us(head.timestamp));
        let over = delay - self.target_us();
        let packet = i64::from(head.duration) * 1_000_000 / i64::from(self.clock_rate);
        let (least, since) = *self.surplus.get_or_insert((over, now));
        let least = least.min(over);
        self.surplus = Some((least, since));
        let window = if least > LARGE_SURPLUS_US { SHORT_SURPLUS_WINDOW } else { SURPLUS_WINDOW };
        if now.saturating_duration_since(since) >= window {
            self.surplus_found = least >= packet + 2_000;
            self.surplus = None;
        }
        self.surplus_found
    }

    /// The packet marked as surplus was left out.
    pub fn dropped(&mut self) {
        self.forget_surplus();
    }

    fn forget_surplus(&mut self) {
        self.surplus = None;
        self.surplus_found = false;
    }
}

/// Waiting is right only for a wait that a delay can explain; after a jump of the sender's clock the packet plays at once.
fn missing_is_sane(missing: i64, clock_rate: u32, state: State) -> bool {
    state == State::Paused || missing.abs() <= i64::from(clock_rate)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
