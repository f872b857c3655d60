//! Sound that takes a little longer or less, at the same pitch: a period is repeated or left out where the signal is alike
//! before and after (WSOLA: [Verhelst and Roelands, 1993](https://doi.org/10.1109/ICASSP.1993.319366)).
//!
//! [`Stretcher`] works in place on sound that waits to be played, with what was played last before it. It changes one place at
//! a time, and only one that nobody hears: where the signal repeats itself well over the joint and around it, or where it is
//! quiet beside what is said. How well "well" is depends on how much the change matters ([`Ease`]), and on how long it has
//! been waited for.

use super::Rate;

/// How easily a change may be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ease {
    /// Not at all: there is time.
    Unheard,
    /// Hardly.
    Soon,
    /// Better heard than left undone.
    Now,
}

/// The span of periods, in milliseconds: 400 to 66 Hz, of which multiples count too.
const SHORTEST_MS: f32 = 2.5;
const LONGEST_MS: usize = 15;
/// What is compared: so much before the joint and so much behind it.
const BEFORE_MS: usize = 10;
const BEHIND_MS: usize = 5;
/// The longest blend.
const BLEND_MS: usize = 10;
/// A signal is quiet this far below the loudest of the last seconds (26 dB), or below this level.
const QUIET_PART: f32 = 0.05;
const QUIET_RMS: f32 = 40.0;
/// By this factor the memory of the loudest fades in each millisecond: to a half in 5 s.
const LOUD_FADE: f32 = 0.999_861;
/// Signals whose levels differ by more than this (3 dB, as energies) are not alike.
const SAME_LEVEL: f32 = 2.0;
/// How much longer a stretch may become than was asked for.
const OVERSHOOT_MS: usize = 3;

/// How much of the past before what waits must be kept, in milliseconds, for [`Stretcher::stretch`] to repeat from.
pub const HISTORY_MS: usize = LONGEST_MS + BEFORE_MS;
/// The most by which one call makes sound longer, in milliseconds.
pub const LONGEST_STRETCH_MS: usize = LONGEST_MS;

impl Ease {
    /// The likeness that is asked for at first, by how much less is asked for each second, and the time between changes in
    /// milliseconds, between which the first are heard as one.
    fn demands(self) -> (f32, f32, usize) {
        match self {
            // (For the first seconds there is no such likeness: a pause between words is waited for.)
            Ease::Unheard => (1.1, 0.05, 200),
            Ease::Soon => (1.0, 0.2, 60),
            Ease::Now => (0.5, 1.5, 0),
        }
    }
}

/// Changes the length of sound.
#[derive(Debug, Clone)]
pub struct Stretcher {
    rate: Rate,
    /// The loudest of the last seconds, as root mean square.
    loud: f32,
    /// Samples since the last change, and since a change is asked for in vain.
    since: usize,
    asked: usize,
    /// Samples left out and put in, altogether.
    removed: u64,
    added: u64,
}

/// A period that could be left out or repeated.
#[derive(Debug, Clone, Copy)]
struct Period {
    lag: usize,
    /// The normalised correlation, -1 to 1.
    likeness: f32,
    /// The energies of both stretches, each a mean square.
    energies: (f32, f32),
}

impl Stretcher {
    /// A stretcher of sound of this rate.
    pub fn new(rate: Rate) -> Self {
        Self { rate, loud: 0.0, since: usize::MAX / 2, asked: 0, removed: 0, added: 0 }
    }

    /// Samples left out so far.
    pub fn removed(&self) -> u64 {
        self.removed
    }

    /// Samples put in so far.
    pub fn added(&self) -> u64 {
        self.added
    }

    /// Takes note of sound that is about to be played, or to be stretched.
    pub fn hear(&mut self, pcm: &[i16]) {
        let per_ms = self.rate.samples(1);
        for part in pcm.chunks(per_ms * 5) {
            self.loud = (self.loud * LOUD_FADE.powi((part.len() / per_ms) as i32)).max(energy(part).sqrt());
        }
        self.since = self.since.saturating_add(pcm.len());
    }

    /// Nothing is asked for: what was is forgotten.
    pub fn rest(&mut self) {
        self.asked = 0;
    }

    /// Makes `signal[from..end]` longer (`by` > 0) or shorter by up to `by` samples at its beginning, if that can be done
    /// there; returns its new end. Before `from` lies what was played last, [`HISTORY_MS`] of it at least; behind `end` there
    /// is room for [`LONGEST_STRETCH_MS`].
    pub fn stretch(&mut self, signal: &mut [i16], from: usize, end: usize, by: isize, ease: Ease) -> usize {
        let frame = self.rate.frame();
        self.asked = self.asked.saturating_add(frame);
        let (likeness, less, pause) = ease.demands();
        let seconds = self.asked as f32 / self.rate.hz() as f32;
        let likeness = (likeness - less * seconds).max(0.2);
        // A quiet place may be changed sooner than a loud one. What cannot come of it is not searched for: that is the dear part.
        let (before, behind) = (self.rate.samples(BEFORE_MS), self.rate.samples(BEHIND_MS));
        let Some(here) = from.checked_sub(before).and_then(|start| signal.get(start..from + behind)) else {
            return end;
        };
        let here = energy(here);
        let loud_may = self.since >= self.rate.samples(pause) && likeness <= 1.0;
        let quiet_may = self.since >= self.rate.samples(pause.min(20)) && self.is_quiet((here, 0.0));
        if !(loud_may || quiet_may) {
            return end;
        }
        let Some(period) = self.find(signal, from, end, by, here) else { return end };
        let quiet = quiet_may && self.is_quiet(period.energies);
        if !(quiet || loud_may && is_alike(&period, likeness, ease)) {
            return end;
        }
        self.since = 0;
        // Who had to wait long need not do so again for the next piece.
        self.asked /= 2;
        let blend = self.rate.samples(BLEND_MS).min(period.lag);
        if by > 0 {
            self.added += period.lag as u64;
            repeat(signal, from, end, period, blend)
        } else {
            self.removed += period.lag as u64;
            leave_out(signal, from, end, period, blend)
        }
    }

    fn is_quiet(&self, (a, b): (f32, f32)) -> bool {
        a.max(b).sqrt() <= (self.loud * QUIET_PART).max(QUIET_RMS)
    }

    /// The best period for a change at `from`, around which the energy is `mine`.
    fn find(&self, signal: &[i16], from: usize, end: usize, by: isize, mine: f32) -> Option<Period> {
        let (before, behind) = (self.rate.samples(BEFORE_MS), self.rate.samples(BEHIND_MS));
        let shortest = (self.rate.samples(1) as f32 * SHORTEST_MS) as usize;
        let room = end.checked_sub(from + behind)?;
        let longest = self.rate.samples(LONGEST_MS);
        let longest = if by > 0 {
            longest.min(by.unsigned_abs() + self.rate.samples(OVERSHOOT_MS)).min(from.checked_sub(before)?)
        } else {
            longest.min(by.unsigned_abs()).min(room)
        };
        let here = signal.get(from.checked_sub(before)?..from + behind)?;
        let there = |lag: usize| {
            let start = if by > 0 { from - before - lag } else { from - before + lag };
            signal.get(start..start + before + behind)
        };
        let compare = |lag: usize, step: usize| {
            let there = there(lag)?;
            let (both, theirs) = correlate(here, there, step);
            let likeness = if mine * theirs > 0.0 { both / (mine * theirs).sqrt() } else { 0.0 };
            Some(Period { lag, likeness, energies: (mine, theirs) })
        };
        // In a quiet place the longest cut is as good as any: one change instead of three.
        let shortest = if self.is_quiet((mine, 0.0)) { shortest.max(longest * 3 / 4) } else { shortest };
        let step = self.rate.scale();
        let better = |a: Period, b: Period| if b.likeness > a.likeness { b } else { a };
        let rough = (shortest..=longest).step_by(step).filter_map(|lag| compare(lag, step)).reduce(better)?;
        let around = rough.lag.saturating_sub(step).max(shortest)..=(rough.lag + step).min(longest);
        around.filter_map(|lag| compare(lag, 1)).reduce(better)
    }
}

fn is_alike(period: &Period, likeness: f32, ease: Ease) -> bool {
    let (a, b) = period.energies;
    let level = if ease == Ease::Now { SAME_LEVEL * SAME_LEVEL } else { SAME_LEVEL };
    period.likeness >= likeness && a <= b * level && b <= a * level
}

/// The mean square.
fn energy(pcm: &[i16]) -> f32 {
    correlate(pcm, pcm, 1).0
}

/// The mean product of both signals and the mean square of the second, of each `step`th sample.
fn correlate(a: &[i16], b: &[i16], step: usize) -> (f32, f32) {
    let pairs = a.iter().zip(b).step_by(step);
    let count = pairs.len().max(1) as f32;
    let (mut both, mut second) = (0.0, 0.0);
    for (a, b) in pairs {
        let (a, b) = (f32::from(*a), f32::from(*b));
        both += a * b;
        second += b * b;
    }
    (both / count, second / count)
}

/// Leaves out the period that begins at `from`.
fn leave_out(signal: &mut [i16], from: usize, end: usize, period: Period, blend: usize) -> usize {
    let lag = period.lag;
    let blend = blend.min(end.saturating_sub(from + lag));
    glide(signal, from, from + lag, blend, period);
    signal.copy_within(from + lag + blend..end, from + blend);
    end - lag
}

/// Repeats the period that ends at `from`.
fn repeat(signal: &mut [i16], from: usize, end: usize, period: Period, blend: usize) -> usize {
    let lag = period.lag;
    let blend = blend.min(end - from);
    if end + lag > signal.len() {
        return end;
    }
    signal.copy_within(from + blend - lag..end, from + blend);
    glide(signal, from, from - lag, blend, period);
    end + lag
}

/// At `at` the signal glides from its own into the one at `to` within `blend` samples. Signals that are not alike add up to
/// less than each; that is made up for.
fn glide(signal: &mut [i16], at: usize, to: usize, blend: usize, period: Period) {
    let likeness = period.likeness.clamp(0.0, 1.0);
    for n in 0..blend {
        let (Some(old), Some(new)) = (signal.get(at + n).copied(), signal.get(to + n).copied()) else { return };
        let part = (n + 1) as f32 / (blend + 1) as f32;
        let (a, b) = (1.0 - part, part);
        let gain = (a * a + b * b + 2.0 * likeness * a * b).sqrt().recip();
        if let Some(sample) = signal.get_mut(at + n) {
            *sample = ((f32::from(old) * a + f32::from(new) * b) * gain) as i16;
        }
    }
}

#[cfg(test)]
mod tests;
