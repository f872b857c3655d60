//! Passing sound on from one party to the other without decoding it: Opus, and G.711 where cost goes before quality.
//!
//! Payloads go through as they are; sequence numbers and timestamps are moved onto the time line that we have with the
//! listener. Inside a run of packets both are moved by a constant: a packet that is lost before us leaves a gap behind us, and
//! the listener's own decoder fills it from the redundancy in the next one; a pause of the sender's (discontinuous
//! transmission) is a pause; a reordered packet goes to its place. Whenever packets of our own come between (a tone, digits,
//! silence on hold) the next packet of the sender is moved anew behind them: numbers go on, timestamps stay true to time,
//! and what is older than what the listener has heard already is not sent any more.
//!
//! Nothing is sent twice under one number: with SRTP that would use a key stream twice (RFC 3711 section 9.1).

use std::time::{Duration, Instant};

use crate::rtp::packet::RtpHeader;

/// Numbers further ahead are another stream, or a stray packet: they are believed when the next packet confirms them
/// (RFC 3550 appendix A.1, MAX_DROPOUT).
const LARGEST_JUMP: i32 = 1_000;
/// The packets of which is known whether they were sent; an older one is not sent any more.
const WINDOW: i32 = 64;
/// A timestamp that is further from the time than this is on another time line.
const LARGEST_STEP_MS: i32 = 1_000;
/// A packet that would begin less than this before the end of what was sent is moved there.
const OVERLAP_MS: i32 = 60;
/// What comes late for so long is not late: the way is longer now.
const NEW_DELAY: Duration = Duration::from_millis(100);
/// So many packets in sequence whose numbers are late and whose timestamps are new are a sender that stepped back.
const LATE_RUN: u8 = 5;
/// No packet sounds longer (RFC 6716 section 3.4).
const LONGEST_MS: i32 = 120;
/// How slowly our time follows a sender whose packets come later than we expect.
const FOLLOW: i32 = 64;

/// Our time line with the listener, in its codec's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// Units of the clock in a millisecond.
    pub per_ms: i32,
    /// The timestamp of what would be sent now.
    pub now: u32,
    /// The end of what was sent; `None` where nothing was.
    pub end: Option<u32>,
    /// The number of the next packet.
    pub next: u16,
    /// Packets of our own were sent since the last that was passed on.
    pub interrupted: bool,
}

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub sequence: u16,
    pub timestamp: u32,
    /// It begins a run: what came before it has nothing to do with it.
    pub first: bool,
    /// The newest so far, and how far our time has to move after it.
    pub newest: Option<i32>,
}

/// Moves the packets of one direction.
#[derive(Debug, Default)]
pub(super) struct Relay {
    run: Option<Run>,
    /// The number that would confirm a jump.
    jump: Option<u16>,
    /// The number that would go on with a run of late numbers under new timestamps, and how many there were.
    stepped: (u16, u8),
    /// Since when all packets come too late.
    late: Option<Instant>,
    /// When a packet came that is to be passed on.
    heard: Option<Instant>,
    /// One was swallowed: the run is over.
    swallowed: bool,
}

/// A run of packets that are all moved by the same.
#[derive(Debug, Clone, Copy)]
struct Run {
    ssrc: u32,
    per_ms: i32,
    /// What is added.
    sequence: u16,
    timestamp: u32,
    /// The sender's number that the run began with, and the highest so far.
    first: u16,
    highest: u16,
    /// The sender's timestamp under the highest.
    latest: u32,
    /// Which of the last numbers up to the highest were sent, the highest in the lowest bit.
    sent: u64,
}

impl Relay {
    /// Whether a packet came within `time`.
    pub fn is_live(&self, now: Instant, time: Duration) -> bool {
        self.heard.is_some_and(|heard| now.saturating_duration_since(heard) < time)
    }

    /// The sender's sound is not passed on any more, or not for now.
    pub fn rest(&mut self) {
        self.heard = None;
    }

    /// A packet that is not to be heard, as under a digit: it is in the past for those to come.
    pub fn swallow(&mut self, now: Instant, header: &RtpHeader) {
        self.heard = Some(now);
        self.swallowed = true;
        let Some(run) = self.run.as_mut().filter(|run| run.ssrc == header.ssrc) else { return };
        let ahead = i32::from(header.sequence.wrapping_sub(run.highest) as i16);
        if (1..=LARGEST_JUMP).contains(&ahead) {
            run.advance(ahead, header);
        }
    }

    /// Whether a packet that came once more, in the redundancy of one that is to be passed on next, is missing before that.
    pub fn misses(&self, header: &RtpHeader) -> bool {
        let Some(run) = self.run.as_ref().filter(|run| run.ssrc == header.ssrc) else { return false };
        let ahead = i32::from(header.sequence.wrapping_sub(run.highest) as i16);
        (1..WINDOW).contains(&ahead)
            && (1..=ahead * LONGEST_MS * run.per_ms).contains(&after(header.timestamp, run.latest))
    }

    /// The place of a packet on our time line, if it is to be sent at all.
    pub fn place(&mut self, now: Instant, header: &RtpHeader, line: Line) -> Option<Place> {
        self.heard = Some(now);
        let jump = self.jump.take();
        let same = |run: &&mut Run| run.ssrc == header.ssrc && run.per_ms == line.per_ms;
        let Some(run) = self.run.as_mut().filter(same) else {
            return Some(self.begin(header, line));
        };
        let ahead = i32::from(header.sequence.wrapping_sub(run.highest) as i16);
        if !(1 - WINDOW..=LARGEST_JUMP).contains(&ahead) {
            if jump == Some(header.sequence) {
                return Some(self.begin(header, line));
            }
            self.jump = Some(header.sequence.wrapping_add(1));
            return None;
        }
        let timestamp = header.timestamp.wrapping_add(run.timestamp);
        let interrupted = line.interrupted || self.swallowed;
        if ahead <= 0 && !run.has_had(header.timestamp) {
            return self.stepped_back(header.sequence).then(|| self.begin(header, line));
        }
        if ahead <= 0 {
            // Reordered: to its place, unless it is before the run, which is past.
            let missing = !interrupted && run.began_before(header.sequence) && run.mark(ahead);
            let sequence = header.sequence.wrapping_add(run.sequence);
            return missing.then_some(Place { sequence, timestamp, first: false, newest: None });
        }
        let off = after(timestamp, line.now);
        if off.saturating_abs() > LARGEST_STEP_MS * line.per_ms {
            return Some(self.begin(header, line));
        }
        if !interrupted {
            run.advance(ahead, header);
            run.sent |= 1;
            let sequence = header.sequence.wrapping_add(run.sequence);
            let newest = Some(if off > 0 { off } else { off / FOLLOW });
            return Some(Place { sequence, timestamp, first: false, newest });
        }
        match line.end.map_or(0, |end| after(timestamp, end)) {
            0.. => Some(self.resume(header, line, timestamp)),
            overlap if overlap >= -OVERLAP_MS * line.per_ms => Some(self.begin(header, line)),
            _ => {
                let since = *self.late.get_or_insert(now);
                if now.saturating_duration_since(since) >= NEW_DELAY {
                    return Some(self.begin(header, line));
                }
                run.advance(ahead, header);
                None
            }
        }
    }

    /// Whether the last packets were all late by their numbers and in sequence: reordering makes no such run of new timestamps,
    /// a sender that began anew does.
    fn stepped_back(&mut self, sequence: u16) -> bool {
        let (expected, count) = self.stepped;
        let count = if sequence == expected { count.saturating_add(1) } else { 1 };
        self.stepped = (sequence.wrapping_add(1), count);
        count >= LATE_RUN
    }

    /// A run that begins now, behind all that was sent.
    fn begin(&mut self, header: &RtpHeader, line: Line) -> Place {
        let timestamp = line.end.filter(|end| after(*end, line.now) > 0).unwrap_or(line.now);
        self.resume(header, line, timestamp)
    }

    /// A run that begins at `timestamp`.
    fn resume(&mut self, header: &RtpHeader, line: Line, timestamp: u32) -> Place {
        (self.late, self.swallowed, self.stepped) = (None, false, (0, 0));
        self.run = Some(Run {
            ssrc: header.ssrc,
            per_ms: line.per_ms,
            sequence: line.next.wrapping_sub(header.sequence),
            timestamp: timestamp.wrapping_sub(header.timestamp),
            first: header.sequence,
            highest: header.sequence,
            latest: header.timestamp,
            sent: 1,
        });
        let newest = Some(after(timestamp, line.now).max(0));
        Place { sequence: line.next, timestamp, first: true, newest }
    }
}

impl Run {
    /// The highest number is `ahead` of the one before; it counts as not sent.
    fn advance(&mut self, ahead: i32, header: &RtpHeader) {
        let sequence = header.sequence;
        self.latest = header.timestamp;
        self.sent = u32::try_from(ahead).ok().and_then(|ahead| self.sent.checked_shl(ahead)).unwrap_or(0);
        self.highest = sequence;
        // Before it comes near the numbers that are reused.
        if i32::from(sequence.wrapping_sub(self.first) as i16) > 2 * WINDOW {
            self.first = sequence.wrapping_sub(WINDOW as u16);
        }
    }

    /// Whether a late packet of this timestamp can be one of the window's.
    fn has_had(&self, timestamp: u32) -> bool {
        (-WINDOW * LONGEST_MS * self.per_ms..=0).contains(&after(timestamp, self.latest))
    }

    fn began_before(&self, sequence: u16) -> bool {
        sequence.wrapping_sub(self.first) as i16 > 0
    }

    /// Notes that the number `behind` (zero or less) the highest is sent; `false` where it was already.
    fn mark(&mut self, behind: i32) -> bool {
        let bit = 1_u64.checked_shl(behind.unsigned_abs()).unwrap_or(0);
        let missing = bit != 0 && self.sent & bit == 0;
        self.sent |= bit;
        missing
    }
}

/// How far `timestamp` is after `other`.
fn after(timestamp: u32, other: u32) -> i32 {
    timestamp.wrapping_sub(other) as i32
}

#[cfg(test)]
mod tests;
