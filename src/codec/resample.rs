//! Between 8 and 16 kHz, by one half-band filter: what a telephone's two rates need, and nothing more.

/// One side of the filter: the odd taps of a windowed sinc of 47 taps (Kaiser, beta 5.65). Its middle is a half and its even
/// taps are zero. Flat within 0.5 dB to 3.6 kHz, 60 dB down from 4.6 kHz.
const SIDE: [f32; 12] = [
    0.317_048, -0.101_975, 0.056_929, -0.036_432, 0.024_388, -0.016_440, 0.010_916, -0.007_015, 0.004_285, -0.002_429,
    0.001_225, -0.000_500,
];
/// Taps of the branch that does the work: both sides.
const TAPS: usize = SIDE.len() * 2;

/// The samples that a filter still needs, newest last, written twice so that the last [`TAPS`] always lie side by side.
#[derive(Debug, Clone)]
struct Line {
    samples: [f32; TAPS * 2],
    at: usize,
}

impl Line {
    const fn new() -> Self {
        Self { samples: [0.0; TAPS * 2], at: 0 }
    }

    fn push(&mut self, sample: f32) {
        for place in [self.at, self.at + TAPS] {
            if let Some(kept) = self.samples.get_mut(place) {
                *kept = sample;
            }
        }
        self.at = (self.at + 1) % TAPS;
    }

    /// The odd taps over the kept samples: a value half a sample before the middle of them.
    fn filtered(&self) -> f32 {
        let kept = self.samples.get(self.at..self.at + TAPS).unwrap_or_default();
        let (before, after) = kept.split_at(kept.len() / 2);
        SIDE.iter().zip(before.iter().rev().zip(after)).map(|(tap, (left, right))| tap * (left + right)).sum()
    }

    /// The sample `back` pushes before the last one.
    fn ago(&self, back: usize) -> f32 {
        self.samples.get(self.at + TAPS - 1 - back).copied().unwrap_or_default()
    }
}

/// From 16 to 8 kHz; 1.4 ms late.
#[derive(Debug, Clone)]
pub struct Halver {
    odd: Line,
    even: Line,
}

impl Default for Halver {
    fn default() -> Self {
        Self { odd: Line::new(), even: Line::new() }
    }
}

impl Halver {
    /// How much later than it comes in a sample goes out, in samples that go out.
    pub const LATE: usize = SIDE.len() - 1;

    /// Writes half as many samples as there are in `pcm` to `out` (a last odd one is dropped); returns their number, or that
    /// of the samples that fit.
    pub fn process(&mut self, pcm: &[i16], out: &mut [i16]) -> usize {
        let mut written = 0;
        for (pair, sample) in pcm.chunks_exact(2).zip(out) {
            let [first, second] = *pair else { break };
            self.even.push(f32::from(first));
            self.odd.push(f32::from(second));
            // The middle of the kept odd samples is an even one, 11 pairs back.
            *sample = rounded(self.odd.filtered() + 0.5 * self.even.ago(SIDE.len() - 1));
            written += 1;
        }
        written
    }
}

/// From 8 to 16 kHz; 1.5 ms late.
#[derive(Debug, Clone)]
pub struct Doubler {
    line: Line,
}

impl Default for Doubler {
    fn default() -> Self {
        Self { line: Line::new() }
    }
}

impl Doubler {
    /// How much later than it comes in a sample goes out, in samples that go out.
    pub const LATE: usize = SIDE.len() * 2;

    /// Writes twice as many samples as there are in `pcm` to `out`; returns their number, or that of the samples that fit.
    pub fn process(&mut self, pcm: &[i16], out: &mut [i16]) -> usize {
        let mut written = 0;
        for (sample, pair) in pcm.iter().zip(out.chunks_exact_mut(2)) {
            self.line.push(f32::from(*sample));
            if let [first, second] = pair {
                *first = rounded(self.line.ago(SIDE.len()));
                *second = rounded(2.0 * self.line.filtered());
                written += 2;
            }
        }
        written
    }
}

/// To the nearest sample; `as` saturates.
fn rounded(value: f32) -> i16 {
    value.round() as i16
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::codec::tone::{amplitude, rms};

    fn sine(hz: f32, rate: f32, len: usize) -> Vec<i16> {
        (0..len).map(|n| (8_000.0 * (std::f32::consts::TAU * hz * n as f32 / rate).sin()) as i16).collect()
    }

    fn halved(hz: f32) -> Vec<i16> {
        let mut halver = Halver::default();
        let mut out = Vec::new();
        for frame in sine(hz, 16_000.0, 16_000).chunks(320) {
            let mut half = [0; 160];
            assert_eq!(halver.process(frame, &mut half), 160);
            out.extend(half);
        }
        out
    }

    #[test]
    fn what_fits_passes_and_the_rest_is_not_folded_back() {
        for hz in [100.0, 1_000.0, 3_000.0, 3_400.0] {
            let level = amplitude(&halved(hz)[100..], 8_000, hz);
            assert!((7_900.0..8_100.0).contains(&level), "{hz} Hz at {level}");
        }
        for hz in [4_700.0, 5_500.0, 7_000.0] {
            let level = rms(&halved(hz)[100..]);
            assert!(level < 10.0, "{hz} Hz folds back at {level}");
        }
    }

    #[test]
    fn a_doubled_tone_has_no_image() {
        for hz in [300.0, 1_000.0, 3_400.0] {
            let mut doubler = Doubler::default();
            let mut out = vec![0; 16_000];
            assert_eq!(doubler.process(&sine(hz, 8_000.0, 8_000), &mut out), 16_000);
            let level = amplitude(&out[200..], 16_000, hz);
            let image = amplitude(&out[200..], 16_000, 8_000.0 - hz);
            assert!((7_900.0..8_100.0).contains(&level) && image < 12.0, "{hz} Hz: {level}, image {image}");
        }
    }

    #[test]
    fn there_and_back_is_the_same_46_samples_later() {
        let pcm: Vec<i16> = (0..4_000)
            .map(|n| [220.0, 900.0, 2_700.0].map(|hz: f32| (std::f32::consts::TAU * hz * n as f32 / 8_000.0).sin()))
            .map(|waves| (3_000.0 * waves.iter().sum::<f32>()) as i16)
            .collect();
        let (mut wide, mut back) = (vec![0; 8_000], vec![0; 4_000]);
        Doubler::default().process(&pcm, &mut wide);
        Halver::default().process(&wide, &mut back);
        let late = (0..60).min_by_key(|late| {
            pcm.iter().zip(&back[*late..]).skip(200).map(|(a, b)| (i64::from(*a) - i64::from(*b)).pow(2)).sum::<i64>()
        });
        assert_eq!(late, Some(23), "23 samples of 8 kHz are 46 of 16");
        let error: Vec<i16> = pcm.iter().zip(&back[23..]).map(|(a, b)| a - b).collect();
        assert!(rms(&error[200..]) < 10.0, "{}", rms(&error[200..]));
    }

    #[test]
    fn any_length_is_taken() {
        let (mut halver, mut doubler, mut out) = (Halver::default(), Doubler::default(), [0; 8]);
        assert_eq!(halver.process(&[1; 7], &mut out), 3);
        assert_eq!(halver.process(&[], &mut out), 0);
        assert_eq!(halver.process(&[1; 70], &mut out), 8);
        assert_eq!(doubler.process(&[i16::MAX; 70], &mut out), 8);
        assert_eq!(doubler.process(&[i16::MIN; 3], &mut out), 6);
    }
}
