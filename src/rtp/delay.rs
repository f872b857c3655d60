//! How late packets come, and so how long playout must wait for them.
//!
//! Lateness is measured against the fastest packet of the last `SPANS` intervals: no clock of the sender's is needed, and a
//! clock that drifts is followed. What is learnt is the *latest* packet of each interval of half a second, in a histogram that
//! forgets within half a minute: a quantile of it says how often sound is missed, and that is what is heard, while a quantile
//! of all packets would call three in a hundred gaps a second good enough. Two peaks above it within ten seconds (a radio
//! link that scans, a queue that fills) raise the delay at once. Redundancy is needed only where something was lost: for it a
//! quantile of all packets is the measure.
//!
//! Where no packet of a whole interval comes near the fastest of before, the way has become longer: lateness is measured from
//! its new length on, and the change itself was none. Should it be as short as before again soon, the change was lateness.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

/// The interval of which the latest packet counts, and the most of its packets that are looked at.
const INTERVAL: Duration = Duration::from_millis(500);
const INTERVAL_PACKETS: usize = 64;
/// The fastest packet is looked for in so many intervals, the running one among them.
const SPANS: usize = 4;
/// Width of one class of lateness, and how many there are: 400 ms in all.
const CLASS_US: i64 = 1_000;
const CLASSES: usize = 400;
/// The least that is allowed for: timers of both ends are not exact.
const LEAST_US: i64 = 2_000;
/// The share of packets that shall be there when what was lost before them is to be had from them.
const THERE: f32 = 0.95;
/// The share of intervals in which nothing shall come too late.
const IN_TIME: f32 = 0.96;
/// Memory of about 60 intervals.
const FORGET: f32 = 0.983;
/// The first intervals count as they are: nothing is known yet that they could be an exception to.
const FIRST: u32 = 4;
/// A peak is so much above what the histogram asks for; two within [`PEAKS_WITHIN`] are believed for so long.
const PEAK_US: i64 = 20_000;
const PEAKS_WITHIN: Duration = Duration::from_secs(10);
/// The way is longer when none of an interval's packets, of at least so many, comes closer to the fastest of before.
const LONGER_US: i64 = 20_000;
const LONGER_PACKETS: u32 = 5;
/// A longer way that is short again within this time was lateness.
const WAVE: Duration = Duration::from_secs(10);
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
    packets: u32,
}

impl Transit {
    fn of(transit: i64) -> Self {
        Self { least: transit, most: transit, packets: 1 }
    }

    fn with(self, transit: i64) -> Self {
        Self { least: self.least.min(transit), most: self.most.max(transit), packets: self.packets.saturating_add(1) }
    }
}

/// A way that has become longer: when, from which transit time of its fastest packet, and by how much.
#[derive(Debug, Clone, Copy)]
struct Longer {
    since: Instant,
    base: i64,
    by: i64,
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
    lateness: Lateness,
    /// The same without the last interval.
    before: Lateness,
    each: Everything,
    longer: Option<Longer>,
}

impl DelayEstimator {
    /// Forgets all that was learnt.
    pub fn reset(&mut self) {
        *self = Self { epoch: self.epoch, ..Self::default() };
    }

    fn micros(&mut self, now: Instant) -> i64 {
        let epoch = *self.epoch.get_or_insert(now);
        now.saturating_duration_since(epoch).as_micros() as i64
    }

    /// Starts the time line anew at a packet that arrives now with this media time (microseconds): what was learnt of the
    /// network's jitter stays.
    pub fn rebase(&mut self, now: Instant, media_us: i64) {
        let transit = self.micros(now).saturating_sub(media_us);
        self.current = Some(Transit::of(transit));
        (self.past, self.longer) = ([None; SPANS - 1], None);
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
        self.current = Some(self.current.map_or(Transit::of(transit), |current| current.with(transit)));
        self.each.packet(late);
    }

    /// Ends the running interval.
    fn close(&mut self, now: Instant) {
        self.end = Some(now + INTERVAL);
        let Some(ended) = self.current.take() else { return };
        let before = self.base().unwrap_or(ended.least);
        let mut waves = 0;
        if ended.least - before > LONGER_US && ended.packets >= LONGER_PACKETS {
            self.lengthen(now, before, ended.least);
        } else {
            waves = self.look_back(now, ended.least);
        }
        let base = self.base().unwrap_or(ended.least).min(ended.least);
        self.before.copy_from(&self.lateness);
        self.lateness.interval(now, (ended.most - base).max(waves));
        self.each.interval();
        self.past.rotate_right(1);
        if let Some(newest) = self.past.first_mut() {
            *newest = Some(ended.least);
        }
    }

    /// The way is longer than before: the interval in which it became so saw both, and learnt nothing true.
    fn lengthen(&mut self, now: Instant, before: i64, least: i64) {
        self.lateness.copy_from(&self.before);
        self.each.discard();
        self.past = [None; SPANS - 1];
        let base = self.longer.map_or(before, |longer| longer.base.min(before));
        self.longer = Some(Longer { since: now, base, by: least - base });
    }

    /// How late packets were by a way that was longer and is not any more; nothing where there was none.
    fn look_back(&mut self, now: Instant, least: i64) -> i64 {
        let Some(Longer { since, base, by }) = self.longer else { return 0 };
        let lasts = now.saturating_duration_since(since) <= WAVE;
        let is_back = least - base <= LONGER_US;
        if !lasts || is_back {
            self.longer = None;
        }
        if lasts && is_back { by } else { 0 }
    }

    /// The transit time of the fastest packet.
    fn base(&self) -> Option<i64> {
        self.past.iter().flatten().copied().chain(self.current.map(|current| current.least)).min()
    }

    /// How late packets come, so that few intervals have a later one, in microseconds.
    pub fn jitter_us(&self, now: Instant) -> i64 {
        let Lateness { histogram, peaks } = &self.lateness;
        let intervals = histogram.intervals;
        let running = match (self.current, self.base()) {
            (Some(current), Some(base)) if intervals < FIRST => (current.most - base).min(MOST_US),
            _ => 0,
        };
        let seen = histogram.quantile_us(IN_TIME).max(running);
        // The fewer were seen, the likelier is a later one to come.
        let foreseen = (seen + seen / (2 * i64::from(intervals) + 2)).min(MOST_US);
        foreseen.max(peaks.floor_us(now)).max(LEAST_US)
    }

    /// How late packets come, so that most are there when something before them is missing, in microseconds.
    pub fn redundancy_us(&self) -> i64 {
        self.each.histogram.quantile_us(THERE).max(LEAST_US)
    }

    /// How long after the fastest packet's arrival the media time `media_us` would be played now, in microseconds.
    pub fn delay_us(&self, now: Instant, media_us: i64) -> i64 {
        let (Some(epoch), Some(base)) = (self.epoch, self.base()) else { return 0 };
        (now.saturating_duration_since(epoch).as_micros() as i64).saturating_sub(media_us).saturating_sub(base)
    }
}

const MOST_US: i64 = CLASSES as i64 * CLASS_US;

/// How late the latest packets of intervals came.
#[derive(Debug, Clone, Default)]
struct Lateness {
    histogram: Histogram,
    peaks: Peaks,
}

impl Lateness {
    fn interval(&mut self, now: Instant, late_us: i64) {
        self.peaks.interval(now, late_us, self.histogram.quantile_us(IN_TIME));
        self.histogram.forget();
        self.histogram.add(late_us, 1.0);
    }

    fn copy_from(&mut self, other: &Self) {
        self.histogram.classes.copy_from_slice(other.histogram.classes.as_slice());
        self.histogram.intervals = other.histogram.intervals;
        self.peaks = other.peaks.clone();
    }
}

/// How late all packets came: those of each interval count as much as those of any other.
#[derive(Debug, Clone, Default)]
struct Everything {
    histogram: Histogram,
    running: ArrayVec<i64, INTERVAL_PACKETS>,
}

impl Everything {
    fn packet(&mut self, late_us: i64) {
        let _ = self.running.try_push(late_us);
    }

    fn discard(&mut self) {
        self.running.clear();
    }

    fn interval(&mut self) {
        if self.running.is_empty() {
            return;
        }
        self.histogram.forget();
        let share = 1.0 / self.running.len() as f32;
        for late_us in self.running.drain(..) {
            self.histogram.add(late_us, share);
        }
    }
}

/// Packets by classes of lateness; each interval weighs as much as the one before, which is forgotten by and by.
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
    /// Makes room for a new interval.
    fn forget(&mut self) {
        self.intervals = self.intervals.saturating_add(1);
        let keep = self.keep();
        for weight in self.classes.iter_mut() {
            *weight *= keep;
        }
    }

    fn keep(&self) -> f32 {
        FORGET.min(1.0 - 1.0 / self.intervals.max(1) as f32)
    }

    /// Counts a packet that makes up this share of the newest interval.
    fn add(&mut self, late_us: i64, share: f32) {
        let weight = share * (1.0 - self.keep());
        let class = (late_us.max(0) / CLASS_US) as usize;
        if let Some(sum) = self.classes.get_mut(class.min(CLASSES - 1)) {
            *sum += weight;
        }
    }

    /// The upper edge of the class below which this `part` of all weight lies.
    fn quantile_us(&self, part: f32) -> i64 {
        let enough = self.classes.iter().sum::<f32>() * part;
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

    /// The way takes 100 ms more from some moment on: within a second that is no lateness any more, and never was.
    #[test]
    fn a_longer_way_is_no_jitter() {
        let start = Instant::now();
        for (before, spread, most) in [(100, 1, 2_000), (1_000, 1, 2_000), (1_013, 1, 2_000), (1_000, 10, 11_000)] {
            let mut estimator = DelayEstimator::default();
            let late = |n: u64| n * 7 % spread + if n >= before { 100 } else { 0 };
            learn(&mut estimator, start, 0..before, late);
            learn(&mut estimator, start, before..before + 52, late);
            let now = start + Duration::from_millis((before + 52) * 20);
            assert!(estimator.jitter_us(now) <= most, "{before}, {spread}: {}", estimator.jitter_us(now));
            assert!(estimator.redundancy_us() <= most);
            let media = (before as i64 + 51) * 20_000;
            let arrives = start + Duration::from_millis((before + 51) * 20 + 100);
            assert!((0..10_000).contains(&estimator.delay_us(arrives, media)), "the new way's length counts");
        }
    }

    /// A way that is longer for a second now and then, as where a queue fills and empties, is lateness all the same.
    #[test]
    fn a_way_that_is_longer_for_a_while_is_late() {
        let start = Instant::now();
        let mut estimator = DelayEstimator::default();
        learn(&mut estimator, start, 0..1_500, |n| if n % 400 >= 330 { 80 } else { 1 });
        assert!(estimator.jitter_us(start + Duration::from_secs(30)) >= 78_000);
        let mut once = DelayEstimator::default();
        learn(&mut once, start, 0..1_500, |n| if (1_000..1_060).contains(&n) { 80 } else { 1 });
        assert_eq!(once.jitter_us(start + Duration::from_secs(30)), 2_000, "one is an exception");
    }

    /// What redundancy waits for is what most packets need, not the latest of each interval.
    #[test]
    fn redundancy_waits_for_most_packets() {
        let start = Instant::now();
        let mut estimator = DelayEstimator::default();
        learn(&mut estimator, start, 0..1_500, |n| if n % 23 == 0 { 60 } else { n % 10 });
        assert!(estimator.jitter_us(start + Duration::from_secs(30)) > 58_000);
        assert!((9_000..=11_000).contains(&estimator.redundancy_us()), "{}", estimator.redundancy_us());
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
