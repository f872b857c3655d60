//! Digits in RTP: telephone-event ([RFC 4733](https://www.rfc-editor.org/rfc/rfc4733)).
//!
//! The receiver keys on (timestamp, event) and needs neither marker nor first packet; an event that shows itself only by end
//! packets is taken. The sender paces events in real time, with three end packets and a gap before the next.

use arrayvec::ArrayVec;
use std::time::{Duration, Instant};

/// The bytes of one event payload (RFC 4733 section 2.3).
pub const PAYLOAD_LEN: usize = 4;
/// The event number of a hook flash, the highest that we take.
pub const FLASH: u8 = 16;

const KEYS: &str = "0123456789*#ABCD!";
/// The power that we claim, 0 to 63 for 0 to -63 dBm0.
const VOLUME: u8 = 10;
/// The end of an event is sent three times (RFC 4733 section 2.5.1.4), and more often to a peer that tells of loss: the event is
/// lost only where all of its packets are, and losses come in bursts.
const END_PACKETS: u8 = 3;
const END_PACKETS_OVER_LOSS: u8 = 6;
/// Steps without anything of ours after that; with the repeated ends they make 80 ms between two digits at 20 ms a step.
const GAP_STEPS: u32 = 2;
/// The shortest event that we send, in milliseconds: shorter digits are not heard by telephone exchanges.
const SHORTEST: u16 = 40;
/// An event without news for so long has ended and its end packets are lost.
const TIMEOUT: Duration = Duration::from_millis(200);
/// A segment of a long event holds no more than this many units (RFC 4733 section 2.5.1.3).
const LONGEST_SEGMENT: u32 = 0xffff;
/// Packets of an event come no later than this after the last one of it.
const RECENT: Duration = Duration::from_secs(3);
/// Events waiting to be sent.
const QUEUE: usize = 64;

/// The character of an event: `0`-`9`, `*`, `#`, `A`-`D`, and `!` for a flash.
pub fn event_char(event: u8) -> Option<char> {
    KEYS.chars().nth(usize::from(event))
}

/// The event of a character, letters in either case.
pub fn char_event(digit: char) -> Option<u8> {
    KEYS.find(digit.to_ascii_uppercase()).map(|index| index as u8)
}

/// What the receiver learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventUpdate {
    /// A key went down.
    Started {
        /// The event, 0 to 16.
        event: u8,
    },
    /// The key went up.
    Ended {
        /// The event, 0 to 16.
        event: u8,
        /// How long it was held, in milliseconds.
        ms: u16,
    },
}

/// All that one packet can tell: the end of one event, the start and the end of the next.
pub type EventUpdates = ArrayVec<EventUpdate, 3>;

/// Recognises the events of one stream.
#[derive(Debug, Clone, Default)]
pub struct EventReceiver {
    current: Option<Received>,
}

#[derive(Debug, Clone, Copy)]
struct Received {
    event: u8,
    timestamp: u32,
    /// Units of the segments before this one.
    earlier: u32,
    duration: u32,
    clock_rate: u32,
    heard: Instant,
    ended: bool,
    /// Its end was made up for by time: it may sound yet.
    presumed: bool,
    /// The stream has begun another time line since: timestamps before this one are no older.
    past: bool,
}

impl Received {
    fn end(&mut self) -> EventUpdate {
        self.ended = true;
        let units = u64::from(self.earlier) + u64::from(self.duration);
        let ms = units * 1_000 / u64::from(self.clock_rate.max(1));
        EventUpdate::Ended { event: self.event, ms: ms.min(u64::from(u16::MAX)) as u16 }
    }

    /// Whether a packet with this timestamp is the next segment of the same long key press. After a silence that was taken for
    /// its end only one that begins where a segment is full.
    fn continued_at(&self, timestamp: u32) -> bool {
        let ahead = timestamp.wrapping_sub(self.timestamp);
        let least = if self.presumed { LONGEST_SEGMENT - self.clock_rate / 15 } else { LONGEST_SEGMENT / 2 };
        (!self.ended || self.presumed)
            && (least..=LONGEST_SEGMENT + 1).contains(&ahead)
            && self.duration > LONGEST_SEGMENT / 4
    }
}

impl EventReceiver {
    /// Takes one telephone-event packet; `clock_rate` is that of its payload type.
    pub fn handle(&mut self, now: Instant, timestamp: u32, payload: &[u8], clock_rate: u32) -> EventUpdates {
        let mut updates = EventUpdates::new();
        let Some([event, flags, high, low]) = payload.first_chunk::<PAYLOAD_LEN>().copied() else { return updates };
        if event > FLASH {
            return updates;
        }
        let end = flags & 0x80 != 0;
        let duration = u32::from(u16::from_be_bytes([high, low]));
        if let Some(current) = &mut self.current {
            let recent = now.saturating_duration_since(current.heard) < RECENT;
            if recent && current.event == event && current.timestamp == timestamp {
                current.heard = now;
                current.duration = current.duration.max(duration);
                if end {
                    // Now it is known: what comes later is another press.
                    current.presumed = false;
                    if !current.ended {
                        updates.push(current.end());
                    }
                }
                return updates;
            }
            if recent && !current.past && (timestamp.wrapping_sub(current.timestamp) as i32) < 0 {
                // A straggler of an event that is over.
                return updates;
            }
            if current.event == event && current.continued_at(timestamp) {
                current.earlier = current.earlier.saturating_add(timestamp.wrapping_sub(current.timestamp));
                current.timestamp = timestamp;
                current.duration = duration;
                current.heard = now;
                if end {
                    current.presumed = false;
                    if !current.ended {
                        updates.push(current.end());
                    }
                }
                return updates;
            }
            if !current.ended {
                updates.push(current.end());
            }
        }
        let mut started = Received {
            event,
            timestamp,
            earlier: 0,
            duration,
            clock_rate,
            heard: now,
            ended: false,
            presumed: false,
            past: false,
        };
        updates.push(EventUpdate::Started { event });
        if end {
            updates.push(started.end());
        }
        self.current = Some(started);
        updates
    }

    /// Ends an event whose end packets were all lost.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<EventUpdate> {
        let current = self.current.as_mut().filter(|c| !c.ended && now >= c.heard + TIMEOUT)?;
        current.presumed = true;
        Some(current.end())
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.current.as_ref().filter(|c| !c.ended).map(|c| c.heard + TIMEOUT)
    }

    /// Whether a key is down.
    pub fn active(&self) -> bool {
        self.current.as_ref().is_some_and(|c| !c.ended)
    }

    /// The stream begins another time line: an event before the last one is a new one then, and no straggler.
    pub fn new_time_line(&mut self) {
        if let Some(current) = &mut self.current {
            current.past = true;
        }
    }

    /// Forgets the stream (a new source began); a key still down comes up.
    pub fn reset(&mut self) -> Option<EventUpdate> {
        self.current.take().filter(|c| !c.ended).map(|mut c| c.end())
    }
}

/// A packet to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPacket {
    /// The payload.
    pub payload: [u8; PAYLOAD_LEN],
    /// The timestamp: that of the event's start, in all of its packets.
    pub timestamp: u32,
    /// Set on the first packet of an event.
    pub marker: bool,
}

/// What is to be sent in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventStep {
    /// Nothing of ours: audio goes on.
    Audio,
    /// An event packet instead of audio.
    Packet(EventPacket),
}

/// Sends events one after the other.
#[derive(Debug, Clone)]
pub struct EventSender {
    clock_rate: u32,
    queue: ArrayVec<Queued, QUEUE>,
    state: SenderState,
    least_ms: u16,
    ends: u8,
}

#[derive(Debug, Clone, Copy)]
struct Queued {
    event: u8,
    /// `None` while the key is still down.
    ms: Option<u16>,
}

#[derive(Debug, Clone, Copy)]
enum SenderState {
    Idle,
    Sounding(Sounding),
    Ending { packet: EventPacket, left: u8 },
    Gap { units: u32 },
}

#[derive(Debug, Clone, Copy)]
struct Sounding {
    event: u8,
    /// Start of the segment.
    timestamp: u32,
    /// Units sent of the segment, and of those before it.
    elapsed: u32,
    earlier: u32,
    /// Units of the whole event; `None` while the key is down.
    target: Option<u32>,
    first: bool,
}

impl EventSender {
    /// A sender whose payload type has this clock.
    pub fn new(clock_rate: u32) -> Self {
        let queue = ArrayVec::new();
        Self { clock_rate, queue, state: SenderState::Idle, least_ms: SHORTEST, ends: END_PACKETS }
    }

    /// The same for events of no less than `ms` milliseconds.
    pub fn at_least(self, ms: u16) -> Self {
        Self { least_ms: self.least_ms.max(ms), ..self }
    }

    /// Whether the peer tells of loss: the ends of events are repeated more often then.
    pub fn set_lossy(&mut self, lossy: bool) {
        self.ends = if lossy { END_PACKETS_OVER_LOSS } else { END_PACKETS };
    }

    /// Drops the events that sound or wait.
    pub fn forget(&mut self) {
        self.queue.clear();
        self.state = SenderState::Idle;
    }

    /// The clock of the payload type.
    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// Queues an event of known length. `false`: the queue is full and the event refused.
    pub fn queue(&mut self, event: u8, ms: u16) -> bool {
        self.queue.try_push(Queued { event, ms: Some(ms) }).is_ok()
    }

    /// A key went down whose length is not yet known; [`release`](Self::release) ends it.
    pub fn press(&mut self, event: u8) -> bool {
        self.queue.try_push(Queued { event, ms: None }).is_ok()
    }

    /// The key that was pressed last came up after `ms`. What was sent already is not taken back.
    pub fn release(&mut self, event: u8, ms: u16) {
        if let Some(waiting) = self.queue.iter_mut().rev().find(|q| q.event == event && q.ms.is_none()) {
            waiting.ms = Some(ms);
            return;
        }
        let units = self.units(ms);
        if let SenderState::Sounding(sounding) = &mut self.state
            && sounding.event == event
            && sounding.target.is_none()
        {
            sounding.target = Some(units.max(sounding.earlier + sounding.elapsed));
        }
    }

    /// Whether an event is sent or waits.
    pub fn busy(&self) -> bool {
        !self.queue.is_empty() || !matches!(self.state, SenderState::Idle)
    }

    /// One step of `units` clock units (20 ms, usually), of which the first has `timestamp`.
    pub fn step(&mut self, timestamp: u32, units: u32) -> EventStep {
        if let SenderState::Gap { units: left } = &mut self.state {
            *left = left.saturating_sub(units);
            if *left > 0 {
                return EventStep::Audio;
            }
            self.state = SenderState::Idle;
        }
        if matches!(self.state, SenderState::Idle) {
            let Some(next) = self.queue.pop_at(0) else { return EventStep::Audio };
            self.state = SenderState::Sounding(Sounding {
                event: next.event,
                timestamp,
                elapsed: 0,
                earlier: 0,
                target: next.ms.map(|ms| self.units(ms)),
                first: true,
            });
        }
        match &mut self.state {
            SenderState::Sounding(sounding) => {
                let (packet, ended) = sounding.step(units);
                if ended {
                    self.state = SenderState::Ending { packet, left: self.ends - 1 };
                }
                EventStep::Packet(packet)
            }
            SenderState::Ending { packet, left } => {
                let again = EventPacket { marker: false, ..*packet };
                *left -= 1;
                if *left == 0 {
                    self.state = SenderState::Gap { units: (GAP_STEPS + 1) * units };
                }
                EventStep::Packet(again)
            }
            SenderState::Idle | SenderState::Gap { .. } => EventStep::Audio,
        }
    }

    /// Units of `ms`, or of the shortest event that may be.
    fn units(&self, ms: u16) -> u32 {
        u32::from(ms.max(self.least_ms)) * (self.clock_rate / 1_000)
    }
}

impl Sounding {
    fn step(&mut self, units: u32) -> (EventPacket, bool) {
        if self.elapsed + units > LONGEST_SEGMENT {
            // The next segment starts where this one ended, without a marker (RFC 4733 section 2.5.1.3).
            self.timestamp = self.timestamp.wrapping_add(self.elapsed);
            self.earlier += self.elapsed;
            self.elapsed = 0;
        }
        self.elapsed += units;
        let mut end = false;
        if let Some(target) = self.target
            && self.earlier + self.elapsed >= target
        {
            self.elapsed = target.saturating_sub(self.earlier);
            end = true;
        }
        let [high, low] = (self.elapsed.min(LONGEST_SEGMENT) as u16).to_be_bytes();
        let payload = [self.event, (u8::from(end) << 7) | VOLUME, high, low];
        (EventPacket { payload, timestamp: self.timestamp, marker: std::mem::take(&mut self.first) }, end)
    }
}

#[cfg(test)]
mod tests;
