//! What a receiver knows of a stream: loss and jitter as RTCP reports them
//! ([RFC 3550 section 6.4 and appendix A](https://www.rfc-editor.org/rfc/rfc3550#appendix-A.3)).

use super::rtcp::ReportBlock;
use super::sequence::SequenceExtender;
use super::xr::Bursts;
use std::time::{Duration, Instant};

/// More packets than these missing at once are another part of the stream, and no burst.
const LONGEST_GAP: u64 = 1_000;

/// Counts one source's packets.
#[derive(Debug, Clone, Default)]
pub struct ReceiveStats {
    source: Option<Source>,
    last_sr: Option<(u32, Instant)>,
    /// Expected and lost of sources that came before a change of SSRC, and the gaps of all.
    expected_before: u64,
    lost_before: u64,
    gaps: u64,
    /// Of the present source.
    bursts: Bursts,
}

#[derive(Debug, Clone)]
struct Source {
    ssrc: u32,
    extender: SequenceExtender,
    first: i64,
    highest: i64,
    received: i64,
    reported_expected: i64,
    reported_received: i64,
    /// The last packet's arrival and timestamp, and its clock rate.
    last: (Instant, u32, u32),
    /// Jitter in clock units.
    jitter: f64,
    /// It has said BYE, and nothing since.
    left: bool,
}

impl ReceiveStats {
    /// Counts a packet that arrived now. `clock_rate` is that of its payload type.
    pub fn packet(&mut self, now: Instant, ssrc: u32, sequence: u16, timestamp: u32, clock_rate: u32) {
        match &mut self.source {
            Some(source) if source.ssrc == ssrc => {
                let missing = source.packet(now, sequence, timestamp, clock_rate);
                self.came(missing);
            }
            _ => {
                (self.expected_before, self.lost_before) = (self.expected(), self.lost());
                self.last_sr = None;
                self.bursts = Bursts::default();
                self.source = Some(Source::new(now, ssrc, sequence, timestamp, clock_rate));
            }
        }
    }

    /// Counts a packet whose timestamp is not the time of its sending: a telephone event keeps that of its start.
    pub fn untimed_packet(&mut self, now: Instant, ssrc: u32, sequence: u16, timestamp: u32, clock_rate: u32) {
        match &mut self.source {
            Some(source) if source.ssrc == ssrc => {
                let missing = source.count(sequence);
                self.came(missing);
            }
            _ => self.packet(now, ssrc, sequence, timestamp, clock_rate),
        }
    }

    /// A packet came, and so many before it did not (yet).
    fn came(&mut self, missing: u64) {
        self.gaps += u64::from(missing > 0);
        (0..missing.min(LONGEST_GAP)).for_each(|_| self.bursts.lost());
        self.bursts.received();
    }

    /// A source has left (RFC 3550 section 6.3.4): it is reported on no more, unless it sends again.
    pub fn bye(&mut self, ssrc: u32) {
        if let Some(source) = self.source.as_mut().filter(|source| source.ssrc == ssrc) {
            source.left = true;
        }
    }

    /// Where the present source's losses lie.
    pub fn bursts(&self) -> &Bursts {
        &self.bursts
    }

    /// The present source.
    pub fn ssrc(&self) -> Option<u32> {
        self.source.as_ref().map(|source| source.ssrc)
    }

    /// Takes the NTP time of a sender report that arrived now.
    pub fn sender_report(&mut self, now: Instant, ntp: u64) {
        self.last_sr = Some(((ntp >> 16) as u32, now));
    }

    /// The block for our next report; asking for it starts a new interval.
    pub fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let last_sr = self.last_sr;
        let source = self.source.as_mut().filter(|source| !source.left)?;
        let expected = source.expected();
        let interval = expected - source.reported_expected;
        let lost = interval - (source.received - source.reported_received);
        source.reported_expected = expected;
        source.reported_received = source.received;
        let fraction = if interval > 0 && lost > 0 { (lost * 256 / interval).min(255) as u8 } else { 0 };
        let delay = |at: Instant| {
            let since = now.saturating_duration_since(at);
            (since.as_micros() * 65_536 / 1_000_000).min(u128::from(u32::MAX)) as u32
        };
        Some(ReportBlock {
            ssrc: source.ssrc,
            fraction_lost: fraction,
            cumulative_lost: (expected - source.received).clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: (source.highest - 0x1_0000) as u32,
            jitter: source.jitter as u32,
            last_sr: last_sr.map_or(0, |(ntp, _)| ntp),
            delay_since_last_sr: last_sr.map_or(0, |(_, at)| delay(at)),
        })
    }

    /// Packets that should have come, over the whole call.
    pub fn expected(&self) -> u64 {
        self.expected_before + self.source.as_ref().map_or(0, |source| source.expected().max(0) as u64)
    }

    /// How often one or more packets in a row were missing when the next one came.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// Packets that never arrived, over the whole call.
    pub fn lost(&self) -> u64 {
        let current = self.source.as_ref().map_or(0, |source| (source.expected() - source.received).max(0) as u64);
        self.lost_before + current
    }

    /// Interarrival jitter in milliseconds.
    pub fn jitter_ms(&self) -> u32 {
        self.source.as_ref().map_or(0, |source| (source.jitter * 1_000.0 / f64::from(source.last.2.max(1))) as u32)
    }
}

impl Source {
    fn new(now: Instant, ssrc: u32, sequence: u16, timestamp: u32, clock_rate: u32) -> Self {
        let mut extender = SequenceExtender::default();
        let first = extender.extend(sequence);
        Self {
            ssrc,
            extender,
            first,
            highest: first,
            received: 1,
            reported_expected: 0,
            reported_received: 0,
            last: (now, timestamp, clock_rate),
            jitter: 0.0,
            left: false,
        }
    }

    /// Counts a packet; how many before it are missing.
    fn count(&mut self, sequence: u16) -> u64 {
        let extended = self.extender.extend(sequence);
        let missing = (extended - self.highest - 1).max(0) as u64;
        self.left = false;
        self.first = self.first.min(extended);
        self.highest = self.highest.max(extended);
        self.received += 1;
        missing
    }

    fn packet(&mut self, now: Instant, sequence: u16, timestamp: u32, clock_rate: u32) -> u64 {
        let missing = self.count(sequence);
        let (then, last, last_rate) = std::mem::replace(&mut self.last, (now, timestamp, clock_rate));
        if last_rate != clock_rate {
            self.jitter *= f64::from(clock_rate) / f64::from(last_rate.max(1));
            return missing;
        }
        let arrived = now.saturating_duration_since(then);
        let media = f64::from(timestamp.wrapping_sub(last) as i32);
        let transit = (arrived.as_secs_f64() * f64::from(clock_rate) - media).abs();
        // A pause or a jump of the sender's clock is not the network's jitter.
        if transit < f64::from(clock_rate) && arrived < Duration::from_secs(2) {
            self.jitter += (transit - self.jitter) / 16.0;
        }
        missing
    }

    fn expected(&self) -> i64 {
        self.highest - self.first + 1
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
    use super::*;

    #[test]
    fn loss_and_jitter_as_rfc_3550_counts_them() {
        let start = Instant::now();
        let mut stats = ReceiveStats::default();
        assert_eq!(stats.report(start), None);
        for n in 0..100_u32 {
            if n % 10 == 5 {
                continue;
            }
            let at = start + Duration::from_millis(u64::from(20 * n + 4 * (n % 2)));
            stats.packet(at, 1, (65_500 + n) as u16, n * 160, 8_000);
        }
        stats.sender_report(start, 0x1111_2222_3333_4444);
        let block = stats.report(start + Duration::from_millis(500)).unwrap();
        assert_eq!(block.cumulative_lost, 10);
        assert_eq!(block.fraction_lost, (10 * 256 / 100) as u8);
        assert_eq!(block.highest_sequence, 65_599);
        assert_eq!((block.last_sr, block.delay_since_last_sr), (0x2222_3333, 32_768));
        assert!((2..=4).contains(&stats.jitter_ms()), "{}", stats.jitter_ms());
        // Nothing new: an interval without loss.
        assert_eq!(stats.report(start).unwrap().fraction_lost, 0);
        stats.packet(start, 2, 7, 0, 8_000);
        assert_eq!((stats.lost(), stats.gaps(), stats.expected()), (10, 10, 101));
        assert_eq!(stats.report(start).unwrap().cumulative_lost, 0);
    }

    #[test]
    fn who_has_left_is_reported_on_no_more_rfc3550_6_3_4() {
        let now = Instant::now();
        let mut stats = ReceiveStats::default();
        stats.packet(now, 1, 10, 0, 8_000);
        stats.bye(2);
        assert!(stats.report(now).is_some(), "another one left");
        stats.bye(1);
        assert_eq!(stats.report(now), None);
        stats.packet(now, 1, 11, 160, 8_000);
        assert!(stats.report(now).is_some(), "it is back");
    }

    #[test]
    fn a_digit_is_no_jitter() {
        let start = Instant::now();
        let mut stats = ReceiveStats::default();
        for n in 0..60_u32 {
            let at = start + Duration::from_millis(u64::from(n) * 20);
            match n {
                20..40 => stats.untimed_packet(at, 1, n as u16, 20 * 160, 8_000),
                _ => stats.packet(at, 1, n as u16, n * 160, 8_000),
            }
        }
        assert_eq!((stats.lost(), stats.jitter_ms()), (0, 0));
    }

    #[test]
    fn reordering_and_duplicates_are_no_loss() {
        let now = Instant::now();
        let mut stats = ReceiveStats::default();
        for sequence in [10, 9, 12, 11, 11] {
            stats.packet(now, 1, sequence, 0, 8_000);
        }
        assert_eq!(stats.lost(), 0);
        assert_eq!(stats.report(now).unwrap().cumulative_lost, -1);
    }
}
