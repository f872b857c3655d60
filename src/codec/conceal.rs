//! Loss concealment for waveform codecs, G.711 and G.722, after the idea of [ITU-T G.711 Appendix I](https://www.itu.int/rec/T-REC-G.711-199909-I!AppI):
//! the last pitch periods are repeated, fading, until packets come again.
//!
//! Unlike the appendix it holds nothing back: the appendix delays every sample by 3.75 ms to blend the start of a loss, here
//! the step at that joint is taken away by a short decaying correction instead.

use super::Rate;

// All lengths are in samples at 8 kHz; at 16 kHz they double.

/// Samples of the past that are kept: the longest pitch three times over, and a quarter to blend with.
const HISTORY: usize = 400;
/// The span of pitch periods looked for: 200 to 66 Hz.
const SHORTEST_PITCH: usize = 40;
const LONGEST_PITCH: usize = 120;
/// The stretch of signal that is compared with its own past.
const WINDOW: usize = 160;
/// The synthesis is re-planned, with one period more, every 10 ms.
const STEP: usize = 80;
/// Samples over which two plans are blended.
const BLEND: usize = 30;
/// After 10 ms the level falls by a fifth each 10 ms: silence after 60 ms.
const FADE_PER_SAMPLE: f32 = 0.2 / STEP as f32;

/// Conceals loss in one mono stream. Every frame that is heard goes through it: good ones by [`good`](Self::good),
/// missing ones by [`conceal`](Self::conceal).
#[derive(Debug, Clone)]
pub struct Concealer {
    /// 1 at 8 kHz, 2 at 16.
    scale: usize,
    /// What was heard last, concealment included.
    history: Box<[i16]>,
    /// The history as it stood when the loss began.
    source: Box<[i16]>,
    /// The signal that is repeated: the first `length` samples.
    cycle: Box<[i16]>,
    length: usize,
    position: usize,
    pitch: usize,
    periods: usize,
    /// Samples concealed since the last good one.
    lost: usize,
}

impl Concealer {
    /// A concealer that has heard nothing yet and would conceal with silence.
    pub fn new(rate: Rate) -> Self {
        let scale = rate.scale();
        let zeros = |len: usize| vec![0; len * scale].into_boxed_slice();
        Self {
            scale,
            history: zeros(HISTORY),
            source: zeros(HISTORY),
            cycle: zeros(LONGEST_PITCH * 3),
            length: 1,
            position: 0,
            pitch: SHORTEST_PITCH * scale,
            periods: 0,
            lost: 0,
        }
    }

    /// Takes a frame that arrived; right after a loss its first milliseconds are blended with the concealment.
    pub fn good(&mut self, pcm: &mut [i16]) {
        if self.lost > 0 {
            let step = STEP * self.scale;
            let steps = self.lost / step;
            let blend = (self.pitch / 4 + 32 * self.scale * steps.saturating_sub(1)).min(step).min(pcm.len());
            for (n, sample) in pcm.iter_mut().take(blend).enumerate() {
                let old = f32::from(self.next_sample()) * self.gain();
                self.lost += 1;
                let part = (n + 1) as f32 / (blend + 1) as f32;
                *sample = (f32::from(*sample) * part + old * (1.0 - part)) as i16;
            }
            self.lost = 0;
        }
        self.remember(pcm);
    }

    /// Fills `out` with what may have been said where nothing arrived.
    pub fn conceal(&mut self, out: &mut [i16]) {
        for chunk in out.chunks_mut(STEP * self.scale) {
            self.plan();
            for (n, sample) in chunk.iter_mut().enumerate() {
                let mut value = f32::from(self.next_sample());
                if self.lost < self.pitch / 4 {
                    value += self.step_at_joint(n);
                }
                *sample = (value * self.gain()) as i16;
                self.lost += 1;
            }
            self.remember(chunk);
        }
    }

    /// Whether the last frame was concealed.
    pub fn concealing(&self) -> bool {
        self.lost > 0
    }

    fn gain(&self) -> f32 {
        (1.0 - FADE_PER_SAMPLE * (self.lost / self.scale).saturating_sub(STEP) as f32).max(0.0)
    }

    /// The synthesis repeats the last period, but the signal did not stop at the end of one that looked exactly like it:
    /// the difference is let die away within a quarter of a period.
    fn step_at_joint(&self, n: usize) -> f32 {
        let quarter = self.pitch / 4;
        let last = self.source[self.source.len() - 1];
        let before_cycle = self.source[self.source.len() - 1 - self.pitch];
        let part = 1.0 - (n + 1) as f32 / (quarter + 1) as f32;
        (f32::from(last) - f32::from(before_cycle)) * part
    }

    fn next_sample(&mut self) -> i16 {
        let sample = self.cycle.get(self.position).copied().unwrap_or(0);
        self.position += 1;
        if self.position >= self.length {
            self.position = 0;
        }
        sample
    }

    /// Called every 10 ms of a loss: the first time finds the pitch, then up to three periods are taken in, because one
    /// period alone, repeated, buzzes.
    fn plan(&mut self) {
        if self.lost == 0 {
            self.source.copy_from_slice(&self.history);
            self.pitch = find_pitch(&self.source, self.scale);
            self.periods = 1;
            self.position = 0;
            self.build();
        } else if self.periods < 3 {
            let mut old = [0; BLEND];
            let resume = self.position;
            for sample in &mut old {
                *sample = self.next_sample();
            }
            self.periods += 1;
            self.position = resume % self.pitch;
            self.build();
            // The new cycle starts out as the old one and glides into its own shape.
            let start = self.position;
            for (n, sample) in old.iter().enumerate() {
                let part = (n + 1) as f32 / (BLEND + 1) as f32;
                if let Some(new) = self.cycle.get_mut(start + n) {
                    *new = (f32::from(*new) * part + f32::from(*sample) * (1.0 - part)) as i16;
                }
            }
        }
    }

    /// Copies the last periods into the cycle and blends its end with what preceded its start, so that it runs in a circle.
    fn build(&mut self) {
        self.length = self.pitch * self.periods;
        let start = self.source.len() - self.length;
        self.cycle[..self.length].copy_from_slice(&self.source[start..]);
        let quarter = self.pitch / 4;
        for n in 0..quarter {
            let part = (n + 1) as f32 / (quarter + 1) as f32;
            let end = &mut self.cycle[self.length - quarter + n];
            let before = self.source[start - quarter + n];
            *end = (f32::from(*end) * (1.0 - part) + f32::from(before) * part) as i16;
        }
    }

    fn remember(&mut self, pcm: &[i16]) {
        let len = self.history.len();
        let new = &pcm[pcm.len().saturating_sub(len)..];
        self.history.copy_within(new.len().., 0);
        self.history[len - new.len()..].copy_from_slice(new);
    }
}

/// The lag at which the last 20 ms look most like what came before them.
fn find_pitch(history: &[i16], scale: usize) -> usize {
    let (shortest, longest) = (SHORTEST_PITCH * scale, LONGEST_PITCH * scale);
    // Every other lag and sample first, then the neighbours of the best in full.
    let coarse = best_lag(history, scale, (shortest..=longest).step_by(2 * scale), 2 * scale);
    let fine = coarse.saturating_sub(2 * scale - 1).max(shortest)..=(coarse + 2 * scale - 1).min(longest);
    best_lag(history, scale, fine, 1)
}

fn best_lag(history: &[i16], scale: usize, lags: impl Iterator<Item = usize>, stride: usize) -> usize {
    let start = history.len() - WINDOW * scale;
    let recent = &history[start..];
    let (mut best, mut best_score) = (SHORTEST_PITCH * scale, 0.0_f32);
    for lag in lags {
        let past = &history[start - lag..history.len() - lag];
        let (mut cross, mut energy) = (0_i64, 1_i64);
        for (now, then) in recent.iter().zip(past).step_by(stride) {
            cross += i64::from(*now) * i64::from(*then);
            energy += i64::from(*then) * i64::from(*then);
        }
        if cross > 0 {
            let score = cross as f32 * (cross as f32 / energy as f32);
            if score > best_score {
                (best, best_score) = (lag, score);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::codec::tone::{amplitude, rms};

    fn voice(start: usize, len: usize) -> Vec<i16> {
        // A 125 Hz pulse train with formants, roughly: harmonics that fall off.
        (start..start + len)
            .map(|n| {
                let t = n as f32 / 8_000.0;
                (1..12)
                    .map(|h| 3_000.0 / h as f32 * (std::f32::consts::TAU * 125.0 * h as f32 * t + h as f32).sin())
                    .sum::<f32>() as i16
            })
            .collect()
    }

    #[test]
    fn a_lost_frame_of_a_steady_voice_is_hardly_missed() {
        let mut concealer = Concealer::new(Rate::Narrow);
        for frame in 0..5 {
            concealer.good(&mut voice(frame * 160, 160));
        }
        let (mut out, truth) = ([0; 160], voice(800, 160));
        concealer.conceal(&mut out);
        let error: Vec<i16> = out.iter().zip(&truth).map(|(a, b)| a.saturating_sub(*b)).collect();
        assert!(rms(&error[..80]) < 0.15 * rms(&truth[..80]), "{} of {}", rms(&error[..80]), rms(&truth));
        assert!(rms(&error) < 0.35 * rms(&truth), "{} of {}", rms(&error), rms(&truth));
        let mut next = voice(960, 160);
        let clean = next.clone();
        concealer.good(&mut next);
        assert_eq!(next[80..], clean[80..]);
        let steepest = clean.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap();
        let joint = (i32::from(next[0]) - i32::from(out[159])).abs();
        assert!(joint <= steepest * 3 / 2, "{joint} against {steepest}");
    }

    #[test]
    fn a_long_loss_fades_to_silence() {
        let mut concealer = Concealer::new(Rate::Narrow);
        for frame in 0..5 {
            concealer.good(&mut voice(frame * 160, 160));
        }
        let mut out = [0; 1_600];
        concealer.conceal(&mut out);
        assert!(rms(&out[..160]) > 1_000.0);
        assert!(rms(&out[320..480]) < rms(&out[..160]) / 2.0);
        assert!(out[500..].iter().all(|s| *s == 0));
    }

    #[test]
    fn a_tone_keeps_its_frequency() {
        let sine = |start: usize, len: usize| -> Vec<i16> {
            (start..start + len)
                .map(|n| (8_000.0 * (std::f32::consts::TAU * 440.0 * n as f32 / 8_000.0).sin()) as i16)
                .collect()
        };
        let mut concealer = Concealer::new(Rate::Narrow);
        for frame in 0..4 {
            concealer.good(&mut sine(frame * 160, 160));
        }
        let mut out = [0; 160];
        concealer.conceal(&mut out);
        assert!(amplitude(&out, 8_000, 440.0) > 6_500.0, "{}", amplitude(&out, 8_000, 440.0));
    }

    #[test]
    fn silence_stays_silence_and_any_length_is_taken() {
        let mut concealer = Concealer::new(Rate::Narrow);
        let mut out = [9; 37];
        concealer.conceal(&mut out);
        assert_eq!(out, [0; 37]);
        assert!(concealer.concealing());
        concealer.good(&mut []);
        concealer.good(&mut [i16::MAX; 1_000]);
        concealer.good(&mut [i16::MIN; 3]);
        let mut out = [0; 4_000];
        concealer.conceal(&mut out);
        concealer.conceal(&mut []);
        concealer.good(&mut [i16::MIN; 5]);
        assert!(!concealer.concealing());
    }
}
