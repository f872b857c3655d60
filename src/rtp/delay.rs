//! How late packets come, and so how long playout must wait for them.
//!
//! Lateness is measured against the fastest packet of the last `SPANS` intervals: no clock of the sender's is needed, and a
//! clock that drifts is followed. What is learnt is the *latest* packet of each interval of half a second, in a histogram that
//! forgets within half a minute: a quantile of it says how often sound is missed, and that is what is heard, while a quantile
//! of all packets would call three in a hundred gaps a second good enough. Two peaks above it within ten seconds (a radio
//! link that scans, a queue that fills) raise the delay at once.

use std::time::{Duration, Instant};

/// The interval of which the latest packet counts.
const INTERVAL: Duration = Duration::from_millis(500);
/// The fastest packet is looked for in so many intervals, the running one among them.
const SPANS: usize = 4;
/// Width of one class of lateness, and how many there are: 400 ms in all.
const CLASS_US: i64 = 1_000;
const CLASSES: usize = 400;
/// The least that is allowed for: timers of both ends are not exact.
const LEAST_US: i64 = 2_000;
/// The share of intervals in which nothing shall come too late.
const IN_TIME: f32 = 0.96;
/// Memory of about 60 intervals.
const FORGET: f32 = 0.983;
/// The first intervals count as they are: nothing is known yet that they could be an exception to.
const FIRST: u32 = 4;
/// A peak is so much above what the histogram asks for; two within [`PEAKS_WITHIN`] are believed for so long.
const PEAK_US: i64 = 20_000;
const PEAKS_WITHIN: Duration = Duration::from_secs(10);
/// A packet further off than this did not meet a delay of the network's: the sender's clock jumped.
const JUMP_US: i64 = 1_000_000;
/// After a pause, lateness of this size means that the sender's clock stood still.
const STOOD_STILL_US: i64 = 100_000;
/// After so long without a packet the fastest of before says nothing any more: clocks drift.
const STALE: Duration = Duration::from_secs(2);

/// The transit times (arrival minus media time, in microseconds) of an interval: the least and the most.
#[derive(Debug, Clone, Copy)]
struct Transit {
    least: i64,
    most: i64,
}

/// Learns how late packets come compared with the fastest of the last two seconds, and from that the delay that suffices.
#[derive(Debug, Clone, Default)]
pub struct DelayEstimator {
    epoch: Option<Instant>,
    current: Option<Transit>,
    /// When the running interval ends.
    end: Option<Instant>,
    /// The last packet's arrival.
    last: Option<Instant>,
    /// The least transit times of the intervals before, the newest first.
    past: [Option<i64>; SPANS - 1],
    histogram: Histogram,
    peaks: Peaks,
}

impl DelayEstimator {
    /// Forgets all that was learnt.
    pub fn reset(&mut self) {
        (self.current, self.past, self.peaks) = (None, [None; SPANS - 1], Peaks::default());
        self.histogram.clear();
    }

    fn micros(&mut self, now: Instant) -> i64 {
        let epoch = *self.epoch.get_or_insert(now);
        now.saturating_duration_since(epoch).as_micros() as i64
    }

    /// Starts the time line anew at a packet that arrives now with this media time (microseconds): what was learnt of the
    /// network's jitter stays.
    pub fn rebase(&mut self, now: Instant, media_us: i64) {
        let transit = self.micros(now).saturating_sub(media_us);
        self.current = Some(Transit { least: transit, most: transit });
        self.past = [None; SPANS - 1];
        self.end = Some(now + INTERVAL);
        self.last = Some(now);
    }

    /// Counts the first packet after a pause. Where the sender's clock stood still meanwhile the time line starts anew; where
    /// it did not, the packet is as late as it is.
    pub fn resume(&mut self, now: Instant, media_us: i64) {
        let late = self.delay_us(now, media_us);
        if late.saturating_abs() > STOOD_STILL_US
            || self.last.is_none_or(|last| now.saturating_duration_since(last) > STALE)
        {
            self.rebase(now, media_us);
        } else {
            self.packet(now, media_us);
        }
    }

    /// Counts a packet that arrives now.
    pub fn packet(&mut self, now: Instant, media_us: i64) {
        let transit = self.micros(now).saturating_sub(media_us);
        let late = transit.saturating_sub(self.base().unwrap_or(transit));
        if late.saturating_abs() > JUMP_US {
            self.rebase(now, media_us);
            return;
        }
        self.last = Some(now);
        if self.end.is_none_or(|end| now >= end) {
            self.close(now);
        }
        let Transit { least, most } = self.current.unwrap_or(Transit { least: transit, most: transit });
        self.current = Some(Transit { least: least.min(transit), most: most.max(transit) });
    }

    /// Ends the running interval.
    fn close(&mut self, now: Instant) {
        self.end = Some(now + INTERVAL);
        let (Some(base), Some(ended)) = (self.base(), self.current.take()) else { return };
        let late = ended.most - base;
        self.peaks.interval(now, late, self.histogram.quantile_us());
        self.histogram.add(late);
        self.past.rotate_right(1);
        if let Some(newest) = self.past.first_mut() {
            *newest = Some(ended.least);
        }
    }

    /// The transit time of the fastest packet.
    fn base(&self) -> Option<i64> {
        self.past.iter().flatten().copied().chain(self.current.map(|current| current.least)).min()
    }

    /// How late packets come, so that few intervals have a later one, in microseconds.
    pub fn jitter_us(&self, now: Instant) -> i64 {
        let intervals = self.histogram.intervals;
        let running = match (self.current, self.base()) {
            (Some(current), Some(base)) if intervals < FIRST => (current.most - base).min(MOST_US),
            _ => 0,
        };
        let seen = self.histogram.quantile_us().max(running);
        // The fewer were seen, the likelier is a later one to come.
        let foreseen = (seen + seen / (2 * i64::from(intervals) + 2)).min(MOST_US);
        foreseen.max(self.peaks.floor_us(now)).max(LEAST_US)
    }

    /// How long after the fastest packet's arrival the media time `media_us` would be played now, in microseconds.
    pub fn delay_us(&self, now: Instant, media_us: i64) -> i64 {
        let (Some(epoch), Some(base)) = (self.epoch, self.base()) else { return 0 };
        (now.saturating_duration_since(epoch).as_micros() as i64).saturating_sub(media_us).saturating_sub(base)
    }
}

const MOST_US: i64 = CLASSES as i64 * CLASS_US;

/// The latest packets of intervals, by classes of lateness.
#[derive(Debug, Clone)]
struct Histogram {
    classes: Box<[f32; CLASSES]>,
    intervals: u32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { classes: Box::new([0.0; CLASSES]), intervals: 0 }
    }
}

impl Histogram {
    fn clear(&mut self) {
        self.classes.fill(0.0);
        self.intervals = 0;
    }

    fn add(&mut self, late_us: i64) {
        self.intervals = self.intervals.saturating_add(1);
        let keep = FORGET.min(1.0 - 1.0 / self.intervals as f32);
        for weight in self.classes.iter_mut() {
            *weight *= keep;
        }
        let class = (late_us.max(0) / CLASS_US) as usize;
        if let Some(weight) = self.classes.get_mut(class.min(CLASSES - 1)) {
            *weight += 1.0 - keep;
        }
    }

    /// The upper edge of the class below which `IN_TIME` of all weight lies.
    fn quantile_us(&self) -> i64 {
        let enough = self.classes.iter().sum::<f32>() * IN_TIME;
        let mut sum = 0.0;
        for (weight, class) in self.classes.iter().zip(1_i64..) {
            sum += weight;
            if sum > 0.0 && sum >= enough {
                return class * CLASS_US;
            }
        }
        0
    }
}

/// The last two intervals whose latest packet the histogram had not foreseen.
#[derive(Debug, Clone, Default)]
struct Peaks {
    last: Option<(Instant, i64)>,
    before: Option<(Instant, i64)>,
}

impl Peaks {
    fn interval(&mut self, now: Instant, late_us: i64, foreseen_us: i64) {
        if late_us > foreseen_us + PEAK_US {
            self.before = self.last.replace((now, late_us.min(MOST_US)));
        }
    }

    /// The lower of two peaks that came soon after each other, for a while.
    fn floor_us(&self, now: Instant) -> i64 {
        match (self.last, self.before) {
            (Some((last, high)), Some((before, low)))
                if last.saturating_duration_since(before) < PEAKS_WITHIN
                    && now.saturating_duration_since(last) < PEAKS_WITHIN =>
            {
                high.min(low)
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
    use super::*;

    /// Packets of 20 ms, `late(n)` milliseconds late each.
    fn learn(estimator: &mut DelayEstimator, start: Instant, packets: std::ops::Range<u64>, late: impl Fn(u64) -> u64) {
        let mut arrivals: Vec<(u64, u64)> = packets.map(|n| (n * 20 + late(n), n)).collect();
        arrivals.sort_unstable();
        for (at, n) in arrivals {
            estimator.packet(start + Duration::from_millis(at), n as i64 * 20_000);
        }
    }

    #[test]
    fn the_estimate_follows_the_jitter() {
        let start = Instant::now();
        for (spread, range) in [(1, 2_000..=2_000), (10, 9_000..=10_300), (60, 58_000..=61_000)] {
            let mut estimator = DelayEstimator::default();
            learn(&mut estimator, start, 0..1_000, |n| n * 7 % spread);
            let jitter = estimator.jitter_us(start + Duration::from_secs(20));
            assert!(range.contains(&jitter), "{spread}: {jitter}");
        }
    }

    #[test]
    fn it_grows_at_once_and_shrinks_within_a_minute() {
        let start = Instant::now();
        let mut estimator = DelayEstimator::default();
        let jitter = |n: u64| if n < 500 { n * 7 % 40 } else { 0 };
        learn(&mut estimator, start, 0..20, jitter);
        assert!(estimator.jitter_us(start) > 30_000, "from the first packets on");
        learn(&mut estimator, start, 20..500, jitter);
        let mut falls = None;
        for second in 10..100 {
            learn(&mut estimator, start, second * 50..second * 50 + 50, jitter);
            let now = start + Duration::from_secs(second + 1);
            if falls.is_none() && estimator.jitter_us(now) < 10_000 {
                falls = Some(second);
            }
        }
        assert!((20..120).contains(&falls.unwrap()), "{falls:?}");
    }

    #[test]
    fn one_spike_is_an_exception_and_two_are_not() {
        let start = Instant::now();
        let mut estimator = DelayEstimator::default();
        learn(&mut estimator, start, 0..3_000, |n| if n == 2_000 { 90 } else { 1 });
        assert_eq!(estimator.jitter_us(start + Duration::from_secs(60)), 2_000);
        learn(&mut estimator, start, 3_000..3_500, |n| if n == 3_100 || n == 3_300 { 90 } else { 1 });
        assert!(estimator.jitter_us(start + Duration::from_secs(70)) > 85_000);
        learn(&mut estimator, start, 3_500..6_000, |_| 1);
        assert_eq!(estimator.jitter_us(start + Duration::from_secs(120)), 2_000);
    }

    #[test]
    fn a_jump_of_the_senders_clock_is_no_jitter() {
        let start = Instant::now();
        let mut estimator = DelayEstimator::default();
        for n in 0..500_u64 {
            let jump = if n > 250 { 1_000_000_000 } else { 0 };
            estimator.packet(start + Duration::from_millis(n * 20), n as i64 * 20_000 - jump);
        }
        assert_eq!(estimator.jitter_us(start + Duration::from_secs(10)), 2_000);
    }

    /// A clock that stood still in a pause starts a new time line; one that ran on makes the packet late.
    #[test]
    fn a_pause_is_told_from_a_late_packet() {
        let start = Instant::now();
        let after = start + Duration::from_millis(1_500);
        for (media, late) in [(1_000_000, 0), (1_450_000, 50_000)] {
            let mut estimator = DelayEstimator::default();
            learn(&mut estimator, start, 0..50, |_| 0);
            estimator.resume(after, media);
            assert_eq!(estimator.delay_us(after, media), late);
        }
    }

    /// Any arrivals and media times: what comes out has bounds.
    #[test]
    fn nonsense_stays_within_bounds() {
        let start = Instant::now();
        let mut estimator = DelayEstimator::default();
        let mut state = 1_u64;
        for n in 0..20_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let media = if n % 3 == 0 { state as i64 / 2 } else { (state >> 40) as i64 };
            let now = start + Duration::from_millis(n * 3);
            if n % 7 == 0 {
                estimator.resume(now, media)
            } else {
                estimator.packet(now, media)
            }
            assert!((LEAST_US..=MOST_US).contains(&estimator.jitter_us(now)));
        }
    }
}
