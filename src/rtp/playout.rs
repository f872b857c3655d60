//! Playout: when does which packet sound, and what fills the gaps.
//!
//! [`Playout`] takes a stream's packets as they come and is asked for sound whenever more is needed, at a steady pace. It
//! decides alone: which packet, what to do about one that is missing, and whether the sound should take less time or more
//! ([`Pace`]). Whoever renders the sound does as much of that as can be done unheard and says nothing back: with each
//! question comes the time that is rendered already and not yet played, and that is all there is to know.
//!
//! Its time line is that of the stream: a loss is filled with exactly the time that is missing, so nothing slips. A packet
//! that did not come in time and is not lost is played when it comes: what was waited is added to the delay.
//!
//! **Slack** is how much later than the fastest packet a packet may arrive and still be in time. It must be at least what the
//! network needs ([`DelayEstimator`]) plus one packet to look ahead where the stream carries redundancy. Frames and packets
//! have lengths, so slack comes in steps (20 ms when both are 20 ms): where it sinks below the need, sound is stretched up
//! to the next step; where it is a whole step more than needed, sound is shortened by that. In between nothing is done:
//! a clock that drifts by 200 ppm costs 20 ms of stretching in 100 s, no more.

use super::delay::DelayEstimator;
use super::jitter::{Entry, Inserted, JitterBuffer, Kind, Slot};
use super::packet::RtpPacket;
use super::sequence::{SequenceExtender, TimestampExtender};
use std::time::{Duration, Instant};

/// After so long without a packet the stream pauses, and starts anew with the next.
const PAUSE_MS: u32 = 200;
/// A stream of which a packet came within this is not given up for a single packet of another.
const LIVE: Duration = Duration::from_millis(PAUSE_MS as u64);
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
/// No packet is taken for further off its time than this.
const MOST_SLACK_US: i64 = 100_000_000;
/// No packet's length should change by more.
const MOST_PACE_US: i64 = 1_000_000;
/// Slack aimed at above what is needed.
const MARGIN_US: i64 = 2_000;
/// What the network is thought to need at least before it has shown anything. Frames are brought into step with a new stream
/// once; whatever it needs beyond that then costs a whole frame.
const UNKNOWN_US: i64 = 4_000;
/// This part of what the network needs, which is an estimate, must be left above that after a step back.
const HYSTERESIS_PART: i64 = 8;
/// Timers are not exact: so much is not told apart.
const GRACE_US: i64 = 500;
/// Time that gives no slack, because it is less than a step, is taken back from here on.
const LARGEST_SLOP_US: i64 = 5_000;
/// Slack that is missing by less than this, or this part of what is needed, is worth no haste.
const SMALL_LACK_US: i64 = 2_000;
const SMALL_LACK_PART: i64 = 8;
/// Delay above what is needed: from here on it is worth being heard, and from there on worth any haste.
const LARGE_SURPLUS_US: i64 = 20_000;
const HUGE_SURPLUS_US: i64 = 60_000;
/// No packet waits longer for its turn.
const MOST_WAIT_US: i64 = 1_000_000;
/// Nothing is shortened for so long after the buffer ran dry.
const CALM: Duration = Duration::from_millis(500);
/// A small surplus of delay is taken back when it has lasted so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many packets without redundancy are a stream without it.
const FEC_MEMORY: u16 = 500;
/// So long, in packets, it is looked ahead for packets that come once more after one was missed.
const REPEAT_MEMORY: u16 = 1_000;
/// It is never looked ahead further, in microseconds.
const MOST_AHEAD_US: i64 = 60_000;
/// Two packets missing in a row, and again within so many packets, are no accident: two packets of look-ahead repair both.
const RUN_MEMORY: u16 = 500;
/// So many packets that are longer than before are a stream of longer packets.
const LENGTH_MEMORY: u16 = 100;
/// Gaps are filled in pieces of this: what Opus and the concealers work in.
const PIECE_MS: u32 = 10;

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
    /// Whether it holds redundancy for the packet before.
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

/// Whether sound should take another time than its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// The most that its length should change in all, in microseconds: positive is longer. A part of it is welcome too.
    pub by_us: i64,
    /// What may be heard of it.
    pub hurry: Hurry,
}

/// How much a change of length matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Hurry {
    /// Only where nobody can hear it.
    #[default]
    Unheard,
    /// Soon, where it is hardly heard.
    Soon,
    /// At once: the delay disturbs more than the change does.
    Now,
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
        /// Whether it should take longer or less.
        pace: Pace,
    },
    /// The packet before `next` is lost: decode the redundancy in `next`, or make up what leads there, for this duration.
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
    /// Nothing of this stream was played: its first packet waits until its delay is full.
    Starting,
    /// Between spurts: the same, but what waits is not left out, however late it is.
    Paused,
    /// In the middle of sound.
    Playing,
}

/// How long packets are: the shortest, and what they all have in common with frames (the step in which slack comes), in
/// milliseconds. A shorter one counts at once, longer ones when there are no others any more.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    now: (u32, u32),
    /// The same of the packets since the last review, and their number.
    since: (u32, u32),
    packets: u16,
    /// No packet was seen.
    first: bool,
}

impl Lengths {
    fn new(frame_ms: u32) -> Self {
        Self { now: (frame_ms, frame_ms), since: (u32::MAX, frame_ms), packets: 0, first: true }
    }

    fn packet(&mut self, frame_ms: u32, ms: u32) {
        let grid = gcd(frame_ms, ms);
        self.since = (self.since.0.min(ms), self.since.1.min(grid));
        self.packets += 1;
        self.now = if self.first { self.since } else { (self.now.0.min(ms), self.now.1.min(grid)) };
        self.first = false;
        if self.packets >= LENGTH_MEMORY {
            self.now = self.since;
            self.since = (u32::MAX, frame_ms);
            self.packets = 0;
        }
    }
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
    /// Counts down to "no redundancy".
    fec: u16,
    /// Counts down to "nothing is missed": while it is not there, packets that hold those before once more delay nothing.
    missed: u16,
    /// The same of two that are missing in a row, and of such a run that would be the first.
    missed_runs: u16,
    missed_run: u16,
    /// Packets that did not come, and played from a later one's redundancy.
    repaired: u64,
    last_sequence: u16,
    last_timestamp: u32,
    /// The sequence number that would confirm a jump.
    jump: Option<u16>,
    /// Another source, and the sequence number that would confirm it.
    other: Option<(u32, u16)>,
    /// When a packet of the stream was stored last.
    heard: Option<Instant>,
    /// The sequence number that would go on with a run of late packets, and how many there were.
    late: (u16, u8),
    state: State,
    /// The media time that sounds next.
    expected: i64,
    /// Time already filled beyond `expected`, in clock units.
    filled: i64,
    lengths: Lengths,
    quiet: bool,
    /// Nothing is shortened before.
    calm: Option<Instant>,
    /// Since when there is a step of slack more than needed.
    surplus: Option<Instant>,
}

impl Playout {
    /// A playout that will be asked for frames of `frame_ms` milliseconds.
    pub fn new(frame_ms: u32) -> Self {
        Self {
            buffer: JitterBuffer::new(),
            delay: DelayEstimator::default(),
            sequences: SequenceExtender::default(),
            timestamps: TimestampExtender::default(),
            ssrc: None,
            clock_rate: 8_000,
            frame_ms,
            fec: 0,
            missed: 0,
            missed_runs: 0,
            missed_run: 0,
            repaired: 0,
            last_sequence: 0,
            last_timestamp: 0,
            jump: None,
            other: None,
            heard: None,
            late: (0, 0),
            state: State::Starting,
            expected: 0,
            filled: 0,
            lengths: Lengths::new(frame_ms),
            quiet: false,
            calm: None,
            surplus: None,
        }
    }

    /// Forgets the stream: the next packet begins one.
    pub fn reset(&mut self) {
        self.ssrc = None;
        self.buffer.reset();
        self.delay.reset();
        self.state = State::Starting;
    }

    /// The RTP clock of the stream, in which the durations of [`Step`] are.
    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// Takes a packet that arrived now.
    pub fn insert(&mut self, now: Instant, incoming: &Incoming<'_>) -> Arrival {
        let header = &incoming.packet.header;
        if !self.believes(now, header.ssrc, header.sequence) {
            return Arrival::Dropped;
        }
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
        if self.stepped_back(now, header.sequence, inserted) && incoming.kind != Kind::Event {
            new_stream = true;
            self.start(header.ssrc, incoming.clock_rate);
            // The run was taken for lateness.
            self.delay.reset();
            inserted = self.place(now, incoming);
        }
        match inserted {
            Inserted::Stored if new_stream => Arrival::NewStream,
            Inserted::Stored => Arrival::Stored,
            Inserted::Late | Inserted::Again | Inserted::Copy | Inserted::Duplicate => Arrival::Dropped,
            Inserted::TooFar => {
                // Nobody fetched for over a second: what waits is stale.
                self.buffer.reset();
                self.state = State::Starting;
                Arrival::Dropped
            }
        }
    }

    /// Takes a packet of before that came once more, in the redundancy of the one that was taken just now (RFC 2198): it plays
    /// if it is missing and its time is not filled yet. When it came says nothing of the network, and shifts nothing.
    pub fn repair(&mut self, incoming: &Incoming<'_>) {
        let Incoming { packet, clock_rate, duration, kind, fec } = *incoming;
        let header = &packet.header;
        let same = self.ssrc == Some(header.ssrc) && clock_rate == self.clock_rate && kind != Kind::Event;
        if !same || self.state != State::Playing {
            return;
        }
        let sequence = self.sequences.near(header.sequence);
        let timestamp = self.timestamps.extend(header.timestamp);
        let end = timestamp.saturating_add(i64::from(duration));
        if end <= self.expected || !self.buffer.lacks(sequence, timestamp..end) {
            return;
        }
        self.missed = REPEAT_MEMORY;
        // Two in a row that both can be had: this one and the next, or the one before it from its own redundancy.
        if self.buffer.misses(sequence + 1) || fec && self.buffer.misses(sequence - 1) {
            self.missed_runs = if self.missed_run > 0 { REPEAT_MEMORY } else { self.missed_runs };
            self.missed_run = RUN_MEMORY;
        }
        if timestamp >= self.expected.saturating_add(self.filled) {
            let entry = Entry { timestamp, duration, kind, fec, payload_type: header.payload_type, repeated: true };
            self.buffer.insert(sequence, entry, packet.payload);
        }
    }

    /// Packets that did not come, and played from a later one's redundancy.
    pub fn repaired(&self) -> u64 {
        self.repaired
    }

    /// Whether a packet is of the stream, or of another that takes its place: one packet alone does not end what is heard.
    fn believes(&mut self, now: Instant, ssrc: u32, sequence: u16) -> bool {
        if self.ssrc.is_none_or(|current| current == ssrc) || !self.is_live(now) {
            return true;
        }
        self.other.replace((ssrc, sequence.wrapping_add(1))) == Some((ssrc, sequence))
    }

    fn is_live(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| now.saturating_duration_since(heard) < LIVE)
    }

    /// Puts a packet on the stream's time line and into the buffer.
    fn place(&mut self, now: Instant, incoming: &Incoming<'_>) -> Inserted {
        let header = &incoming.packet.header;
        let sequence = self.sequences.extend(header.sequence);
        if self.buffer.next_sequence().is_none_or(|next| sequence >= next) {
            self.last_sequence = header.sequence;
        }
        let timestamp = self.timestamps.extend(header.timestamp);
        let Incoming { kind, duration, fec, .. } = *incoming;
        let payload_type = header.payload_type;
        let entry = Entry { timestamp, duration, kind, fec, payload_type, repeated: false };
        let first = self.buffer.is_empty() && self.state != State::Playing;
        let payload = if kind == Kind::Event { &[][..] } else { incoming.packet.payload };
        let inserted = self.buffer.insert(sequence, entry, payload);
        if inserted == Inserted::Stored {
            self.heard = Some(now);
        }
        if kind != Kind::Event {
            // The time line is that of the sound: whatever else comes is measured by it and does not move it.
            if inserted == Inserted::Stored {
                self.timestamps.follow(timestamp);
                self.last_timestamp = header.timestamp;
            }
            // A second copy took a way of its own.
            if matches!(inserted, Inserted::Stored | Inserted::Late) {
                self.observe(now, &entry, first);
            }
        }
        inserted
    }

    /// Whether the last packets were all late and in sequence: reordering makes no such run, a sender that began anew does.
    /// Copies of what was here are none either, unless nothing else comes: a recording that is sent once more.
    fn stepped_back(&mut self, now: Instant, sequence: u16, inserted: Inserted) -> bool {
        let (expected, run) = self.late;
        let counts = match inserted {
            Inserted::Late | Inserted::Again => true,
            Inserted::Copy => !self.is_live(now),
            Inserted::Stored | Inserted::Duplicate | Inserted::TooFar => false,
        };
        let run = match counts {
            true if sequence == expected => run.saturating_add(1),
            counts => u8::from(counts),
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
        self.state = State::Starting;
        self.late = (0, 0);
        self.other = None;
        self.quiet = false;
        (self.fec, self.missed, self.missed_runs, self.missed_run) = (0, 0, 0, 0);
        self.lengths = Lengths::new(self.frame_ms);
        self.calm = None;
        self.surplus = None;
    }

    /// Learns from a packet: the `first` one after a start or a pause, or one of many.
    fn observe(&mut self, now: Instant, entry: &Entry, first: bool) {
        let media = self.media_us(entry.timestamp);
        match self.state {
            State::Starting if first => self.delay.rebase(now, media),
            State::Paused if first => self.delay.resume(now, media),
            _ => self.delay.packet(now, media),
        }
        if entry.kind != Kind::Audio {
            return;
        }
        self.fec = if entry.fec { FEC_MEMORY } else { self.fec.saturating_sub(1) };
        for left in [&mut self.missed, &mut self.missed_runs, &mut self.missed_run] {
            *left = left.saturating_sub(1);
        }
        self.lengths.packet(self.frame_ms, (entry.duration / (self.clock_rate / 1_000)).max(1));
    }

    fn media_us(&self, timestamp: i64) -> i64 {
        // Microseconds of years fit in 64 bits; saturating, because a peer chooses the steps.
        timestamp.saturating_mul(1_000_000) / i64::from(self.clock_rate)
    }

    /// The slack that is needed: what the network's jitter takes, and one packet to look ahead for redundancy, two where two in
    /// a row are lost and the redundancy reaches so far; the second waits together with the jitter. A stream that repeats whole packets whether any are lost or not is looked
    /// ahead in only while some are.
    pub fn target_us(&self, now: Instant) -> i64 {
        let packet_us = i64::from(self.lengths.now.0) * 1_000;
        let runs = self.missed_runs > 0;
        let first = if runs || self.fec > 0 || self.missed > 0 { packet_us.min(MOST_AHEAD_US) } else { 0 };
        let second = if runs { packet_us.min(MOST_AHEAD_US - first) + UNKNOWN_US } else { 0 };
        first + self.delay.jitter_us(now).max(second)
    }

    fn grid_us(&self) -> i64 {
        i64::from(self.lengths.now.1) * 1_000
    }

    /// How late a packet of `timestamp` may be when its sound begins `ready_us` from now, as all the packets that follow it:
    /// a frame is sent whole, so its last packet must be there when its first one sounds.
    fn slack_us(&self, now: Instant, ready_us: u32, timestamp: i64) -> i64 {
        let ready = i64::from(ready_us);
        let whole = ready - ready % self.grid_us() - (i64::from(self.frame_ms) * 1_000 - self.grid_us());
        let slack = self.delay.delay_us(now, self.media_us(timestamp)).saturating_add(whole);
        slack.clamp(-MOST_SLACK_US, MOST_SLACK_US)
    }

    /// Whether nothing has sounded of the stream that is there, or will be.
    pub fn is_starting(&self) -> bool {
        self.state == State::Starting
    }

    /// When the first packet that waits is due; for a new stream: when to ask for the first frame.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let slot = self.buffer.first()?;
        let wait = self.target_us(now).max(UNKNOWN_US) + MARGIN_US - self.slack_us(now, 0, slot.entry.timestamp);
        Some(now + Duration::from_micros(wait.clamp(0, MOST_WAIT_US) as u64))
    }

    /// How long after the fastest packet's arrival the sound is played that begins `ready_us` from now, in microseconds: the
    /// delay that this receiver adds.
    pub fn delay_us(&self, now: Instant, ready_us: u32) -> i64 {
        self.delay.delay_us(now, self.media_us(self.expected)).saturating_add(i64::from(ready_us))
    }

    /// Milliseconds of sound that wait. What is missing between them is not counted: a timestamp may jump.
    pub fn buffered_ms(&self) -> u32 {
        (self.buffer.sounding() * 1_000 / i64::from(self.clock_rate)) as u32
    }

    fn span(&self) -> i64 {
        match (self.buffer.first(), self.buffer.last()) {
            (Some(Slot { entry: first, .. }), Some(Slot { entry: last, .. })) => {
                last.timestamp + i64::from(last.duration) - first.timestamp
            }
            _ => 0,
        }
    }

    fn units(&self, ms: u32) -> i64 {
        i64::from(ms) * i64::from(self.clock_rate) / 1_000
    }

    /// What sounds next, when `ready_us` of sound are rendered and not played yet. Ask until the frame is full; each answer
    /// stands for its duration.
    pub fn next(&mut self, now: Instant, ready_us: u32) -> Step<'_> {
        self.skip_events();
        self.shed(now);
        self.drop_unreachable(now, ready_us);
        let piece = self.piece(ready_us);
        let Some(head) = self.buffer.first() else { return self.underrun(now, piece) };
        let Entry { timestamp, duration, .. } = head.entry;
        let gap = timestamp - self.expected;
        let missing = gap - self.filled;
        // A packet is lost when numbers are missing; when only time is missing the sender was silent.
        let lost =
            self.state == State::Playing && self.buffer.next_sequence().is_some_and(|next| next < head.sequence());
        let waits = self.state != State::Playing || (gap > 0 && !lost);
        let wait = self.wait_us(now, ready_us, timestamp);
        let sane = match self.state {
            State::Playing => missing.abs() <= i64::from(self.clock_rate),
            State::Starting | State::Paused => wait <= MOST_WAIT_US,
        };
        // Waiting is right only for a wait that a delay can explain; after a jump of the sender's clock the packet plays at once.
        if waits && wait > GRACE_US && sane {
            self.filled += i64::from(piece);
            return Step::Silence { duration: piece };
        }
        if lost && missing > 0 && missing <= i64::from(self.clock_rate) {
            return self.fill_loss(missing, i64::from(duration), piece);
        }
        if self.state == State::Starting {
            self.trim(now, ready_us);
        }
        self.play(now, ready_us, piece)
    }

    /// What a gap is filled with at a time, in clock units: enough for the frame, in pieces.
    fn piece(&self, ready_us: u32) -> u32 {
        let lacks = (self.frame_ms * 1_000).saturating_sub(ready_us).div_ceil(PIECE_MS * 1_000) * PIECE_MS;
        self.units(lacks.clamp(PIECE_MS, self.frame_ms.max(PIECE_MS))) as u32
    }

    /// Events hold a place in the sequence, so that they are no loss, and have no sound.
    fn skip_events(&mut self) {
        while self.buffer.first().is_some_and(|slot| slot.entry.kind == Kind::Event) {
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
    fn trim(&mut self, now: Instant, ready_us: u32) {
        while self.buffer.len() > 1
            && let Some(Slot { entry, .. }) = self.buffer.first()
        {
            let packet = i64::from(entry.duration) * 1_000_000 / i64::from(self.clock_rate);
            let over = self.slack_us(now, ready_us, entry.timestamp) - self.target_us(now) - MARGIN_US;
            if packet == 0 || over + GRACE_US < packet {
                return;
            }
            self.discard_first();
        }
    }

    /// Until a packet of `timestamp` is due when its sound begins `ready_us` from now. Up to [`GRACE_US`] are none: a whole
    /// frame would be waited for.
    fn wait_us(&self, now: Instant, ready_us: u32, timestamp: i64) -> i64 {
        self.target_us(now) + MARGIN_US - self.slack_us(now, ready_us, timestamp)
    }

    /// Before anything sounds: packets that are ahead of those behind them by more than a delay can explain are left out.
    fn drop_unreachable(&mut self, now: Instant, ready_us: u32) {
        while self.state != State::Playing
            && self.buffer.len() > 1
            && self.buffer.first().is_some_and(|head| self.wait_us(now, ready_us, head.entry.timestamp) > MOST_WAIT_US)
        {
            self.discard_first();
        }
    }

    fn underrun(&mut self, now: Instant, piece: u32) -> Step<'_> {
        self.filled = self.filled.saturating_add(i64::from(piece));
        if self.state == State::Playing {
            self.calm = Some(now + CALM);
            if self.filled > self.units(PAUSE_MS) {
                self.state = State::Paused;
            }
        }
        if self.state != State::Playing || self.quiet {
            return Step::Silence { duration: piece };
        }
        Step::Conceal { duration: piece }
    }

    /// `missing` units before the head are lost: the last packet's worth may be in the head's redundancy, and its concealment
    /// has to lead to the head.
    fn fill_loss(&mut self, missing: i64, head_duration: i64, piece: u32) -> Step<'_> {
        let sound = !self.quiet && self.buffer.first().is_some_and(|head| head.entry.kind == Kind::Audio);
        let before_head = if sound { head_duration.max(1) } else { 0 };
        if missing <= before_head {
            self.filled += missing;
            if let Some(head) = self.buffer.first() {
                return Step::Recover {
                    payload_type: head.entry.payload_type,
                    next: head.payload(),
                    duration: missing as u32,
                };
            }
        }
        let duration = (missing - before_head).min(i64::from(piece));
        self.filled += duration;
        if self.quiet {
            Step::Silence { duration: duration as u32 }
        } else {
            Step::Conceal { duration: duration as u32 }
        }
    }

    fn play(&mut self, now: Instant, ready_us: u32, piece: u32) -> Step<'_> {
        let Some(head) = self.buffer.first() else { return self.underrun(now, piece) };
        let Entry { timestamp, duration, kind, payload_type, repeated, .. } = head.entry;
        self.repaired += u64::from(repeated);
        let pace = if kind == Kind::Audio { self.pace(now, ready_us, timestamp) } else { Pace::default() };
        self.state = State::Playing;
        self.expected = timestamp + i64::from(duration);
        self.filled = 0;
        self.quiet = kind == Kind::Quiet;
        let payload = self.buffer.take_first().map(Slot::payload).unwrap_or_default();
        Step::Packet { payload_type, payload, duration, pace }
    }

    /// Whether the head's sound should take longer or less (see the [module](self)).
    fn pace(&mut self, now: Instant, ready_us: u32, timestamp: i64) -> Pace {
        let Pace { by_us, hurry } = self.unbounded_pace(now, ready_us, timestamp);
        Pace { by_us: by_us.clamp(-MOST_PACE_US, MOST_PACE_US), hurry }
    }

    fn unbounded_pace(&mut self, now: Instant, ready_us: u32, timestamp: i64) -> Pace {
        let need = self.target_us(now);
        let slack = self.slack_us(now, ready_us, timestamp);
        let grid = self.grid_us();
        // What is ready beyond whole steps delays the sound and gives no slack.
        let slop = i64::from(ready_us) % grid;
        let spare = slack - need - MARGIN_US;
        let surplus = spare + GRACE_US - self.delay.jitter_us(now) / HYSTERESIS_PART;
        let since = if surplus >= grid { *self.surplus.get_or_insert(now) } else { now };
        self.surplus = (surplus >= grid).then_some(since);
        if slack < need {
            let lack = need - slack;
            let hurry = if lack <= SMALL_LACK_US.max(need / SMALL_LACK_PART) { Hurry::Unheard } else { Hurry::Soon };
            return Pace { by_us: (lack + grid - 1) / grid * grid - slop, hurry };
        }
        if self.calm.is_some_and(|calm| now < calm) {
            return Pace::default();
        }
        if surplus >= grid {
            let by_us = -(surplus / grid * grid + slop);
            return match surplus - grid {
                HUGE_SURPLUS_US.. => Pace { by_us, hurry: Hurry::Now },
                LARGE_SURPLUS_US.. => Pace { by_us, hurry: Hurry::Soon },
                // What is needed is an estimate: it may be more again soon.
                _ if now.saturating_duration_since(since) < PATIENCE => Pace::default(),
                _ => Pace { by_us, hurry: Hurry::Unheard },
            };
        }
        if slop >= LARGEST_SLOP_US && spare >= 0 {
            return Pace { by_us: -slop, hurry: Hurry::Unheard };
        }
        Pace::default()
    }

    /// Never holds more than [`LONGEST_SPAN_MS`]: the oldest packets go.
    fn shed(&mut self, now: Instant) {
        if self.span() <= self.units(LONGEST_SPAN_MS) {
            return;
        }
        let keep =
            self.units((self.target_us(now) / 1_000) as u32 + self.lengths.now.0).min(self.units(LONGEST_SPAN_MS));
        while self.span() > keep && self.buffer.len() > 1 {
            self.discard_first();
        }
        if let Some(head) = self.buffer.first() {
            self.expected = head.entry.timestamp;
            self.filled = 0;
        }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_red;
