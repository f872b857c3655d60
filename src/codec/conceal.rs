//! Loss concealment for waveform codecs, G.711 and G.722: what deep PLC says (`deep`), joined to what arrives.
//!
//! Where the packet after the gap is there already, what is said is stretched or pressed by up to 1.5 ms so that it meets that
//! packet in step: most of what is heard of a concealed loss is the jump at its end.

use super::Rate;
use super::deep::Speaker;

/// Milliseconds, times eight, over which what was said goes over into what arrives.
const BLEND: usize = 60;
/// How far what was said may be moved to meet the next packet, and how much of both is compared, in samples at 8 kHz.
const REACH: usize = 12;
const COMPARED: usize = 80;
/// Below this likeness the two do not belong together, and nothing is moved.
const ALIKE: f32 = 0.5;
/// The longest gap that is fitted to what follows: 60 ms.
const LONGEST_MS: usize = 60;
/// Room for it at 16 kHz.
const ROOM: usize = 16 * LONGEST_MS + 2 * (BLEND + COMPARED + REACH);

/// Conceals loss in one mono stream. Every frame that is heard goes through it: good ones by [`good`](Self::good),
/// missing ones by [`conceal`](Self::conceal) or [`lead_to`](Self::lead_to).
#[derive(Debug)]
pub struct Concealer {
    rate: Rate,
    speaker: Speaker,
    /// What was meant to follow the last gap, when it was fitted to the next packet.
    tail: Option<[i16; BLEND * 2]>,
    concealing: bool,
}

impl Concealer {
    /// A concealer that has heard nothing yet and would conceal with silence.
    pub fn new(rate: Rate) -> Self {
        Self { rate, speaker: Speaker::new(rate), tail: None, concealing: false }
    }

    /// Takes a frame that arrived; right after a loss its first milliseconds are blended with the concealment.
    pub fn good(&mut self, pcm: &mut [i16]) {
        let blend = (BLEND * self.rate.scale()).min(pcm.len());
        if let Some(tail) = self.tail.take() {
            join(pcm, tail.get(..blend).unwrap_or_default());
        } else if self.speaker.speaking() {
            let mut tail = [0; BLEND * 2];
            let tail = tail.get_mut(..blend).unwrap_or_default();
            self.speaker.speak(tail);
            join(pcm, tail);
        }
        self.speaker.stop();
        self.concealing = false;
        self.speaker.hear(pcm);
    }

    /// Fills `out` with what may have been said where nothing arrived.
    pub fn conceal(&mut self, out: &mut [i16]) {
        self.tail = None;
        self.speaker.speak(out);
        self.speaker.remember(out);
        self.concealing = true;
    }

    /// Fills `out`, the gap right before `next`, so that it leads there.
    pub fn lead_to(&mut self, next: &[i16], out: &mut [i16]) {
        let scale = self.rate.scale();
        let (blend, reach, compared) = (BLEND * scale, REACH * scale, COMPARED * scale);
        let (Some(next), true) =
            (next.get(..compared), out.len() <= self.rate.samples(LONGEST_MS) && out.len() > reach)
        else {
            return self.conceal(out);
        };
        let mut said = [0; ROOM];
        let said = said.get_mut(..out.len() + compared.max(blend) + reach + 1).unwrap_or_default();
        self.speaker.speak(said);
        let moved = best_move(said, out.len(), next, reach);
        let mut tail = [0; BLEND * 2];
        for (n, sample) in out.iter_mut().chain(tail.iter_mut().take(blend)).enumerate() {
            *sample = said_at(said, n, moved);
        }
        self.speaker.remember(out);
        self.speaker.stop();
        self.tail = Some(tail);
        self.concealing = true;
    }

    /// Silence follows: nothing of what was made up goes over into the next good frame.
    pub fn break_off(&mut self) {
        self.tail = None;
        self.speaker.stop();
    }

    /// Whether the last frame was concealed.
    pub fn concealing(&self) -> bool {
        self.concealing
    }
}

/// Goes over from `old` into `pcm`.
fn join(pcm: &mut [i16], old: &[i16]) {
    let steps = old.len() as f32 + 1.0;
    for (n, (sample, old)) in pcm.iter_mut().zip(old).enumerate() {
        let part = (n + 1) as f32 / steps;
        *sample = (f32::from(*sample) * part + f32::from(*old) * (1.0 - part)) as i16;
    }
}

/// How a gap's speech is moved at its end, in samples, and how long the gap is.
#[derive(Clone, Copy)]
struct Move {
    by: f32,
    gap: usize,
}

/// The move by which `said` fits best onto `next` at the end of the gap.
fn best_move(said: &[i16], gap: usize, next: &[i16], reach: usize) -> Move {
    let (mut best, mut most) = (0.0, ALIKE);
    for start in gap - reach..=gap + reach {
        let Some(place) = said.get(start..start + next.len()) else { continue };
        let (mut cross, mut mine, mut theirs) = (0.0_f32, 1.0_f32, 1.0_f32);
        for (a, b) in place.iter().zip(next) {
            let (a, b) = (f32::from(*a), f32::from(*b));
            cross += a * b;
            mine += a * a;
            theirs += b * b;
        }
        let likeness = cross / (mine * theirs).sqrt();
        if likeness > most {
            (best, most) = (start as f32 - gap as f32, likeness);
        }
    }
    Move { by: best, gap }
}

/// The sample of `said` that is heard at `n`: the move grows along the gap.
fn said_at(said: &[i16], n: usize, moved: Move) -> i16 {
    let at = n as f32 + moved.by * (n as f32 / moved.gap as f32).min(1.0);
    let sample = |index: usize| said.get(index).copied().map_or(0.0, f32::from);
    let (whole, part) = (at as usize, at.fract());
    (sample(whole) * (1.0 - part) + sample(whole + 1) * part) as i16
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::codec::tone::{amplitude, rms};

    /// Harmonics that fall off, and their level swells: something like a voice.
    fn voice(rate: Rate, hz: f32, start: usize, len: usize) -> Vec<i16> {
        (start..start + len)
            .map(|n| {
                let t = n as f32 / rate.hz() as f32;
                (1..12)
                    .map(|h| 2_000.0 / h as f32 * (std::f32::consts::TAU * hz * h as f32 * t + h as f32).sin())
                    .sum::<f32>() as i16
            })
            .collect()
    }

    fn after_speech(rate: Rate, hz: f32) -> Concealer {
        let mut concealer = Concealer::new(rate);
        for frame in 0..20 {
            concealer.good(&mut voice(rate, hz, frame * rate.frame(), rate.frame()));
        }
        concealer
    }

    fn error(one: &[i16], other: &[i16]) -> f32 {
        rms(&one.iter().zip(other).map(|(a, b)| a.saturating_sub(*b)).collect::<Vec<_>>())
    }

    #[test]
    fn a_lost_frame_of_a_steady_voice_is_hardly_missed() {
        for rate in [Rate::Narrow, Rate::Wide] {
            let frame = rate.frame();
            let mut concealer = after_speech(rate, 125.0);
            let (mut out, truth) = (vec![0; frame], voice(rate, 125.0, 20 * frame, frame));
            concealer.conceal(&mut out);
            assert!(concealer.concealing());
            let quarter = frame / 4;
            let missed = error(&out[..quarter], &truth[..quarter]) / rms(&truth);
            assert!(missed < 0.5, "{rate:?}: {missed}");
            let level = rms(&out) / rms(&truth);
            assert!((0.6..1.4).contains(&level), "{rate:?}: {level}");
            // What arrives next is untouched after the blend, and does not jump.
            let clean = voice(rate, 125.0, 21 * frame, frame);
            let mut next = clean.clone();
            concealer.good(&mut next);
            let blend = BLEND * rate.scale();
            assert!(!concealer.concealing() && next[blend..] == clean[blend..]);
            let steepest = |pcm: &[i16]| pcm.windows(2).map(|w| w[1].abs_diff(w[0])).max().unwrap();
            assert!(next[0].abs_diff(out[frame - 1]) <= steepest(&clean) * 2, "{rate:?}");
        }
    }

    #[test]
    fn a_gap_leads_to_the_packet_behind_it() {
        // The voice rises by a semitone in the gap: what was said before does not meet it.
        let rate = Rate::Narrow;
        let mut next = voice(rate, 132.5, 21 * 160, 160);
        let (mut led, mut blind) = (vec![0; 160], vec![0; 160]);
        let mut concealer = after_speech(rate, 125.0);
        concealer.lead_to(&next.clone(), &mut led);
        let clean = next.clone();
        concealer.good(&mut next);
        let (with, mut unled) = (error(&next[..60], &clean[..60]), clean.clone());
        let mut concealer = after_speech(rate, 125.0);
        concealer.conceal(&mut blind);
        concealer.good(&mut unled);
        let without = error(&unled[..60], &clean[..60]);
        assert!(with < without, "{with} against {without}");
        assert!(rms(&led) > 0.5 * rms(&clean));
    }

    #[test]
    fn a_long_loss_fades_into_the_noise_behind_it() {
        let mut state = 1_u32;
        let mut noise = |len: usize| -> Vec<i16> {
            (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (i32::from((state >> 16) as i16) * 60 / 32_768) as i16
                })
                .collect()
        };
        let mut concealer = Concealer::new(Rate::Narrow);
        for frame in 0..50 {
            // Half a second of nothing but noise, then speech over it.
            let speech = voice(Rate::Narrow, 125.0, frame * 160, 160);
            let mut pcm = noise(160);
            if frame >= 25 {
                pcm.iter_mut().zip(speech).for_each(|(sample, voice)| *sample += voice);
            }
            concealer.good(&mut pcm);
        }
        let mut out = [0; 8_000];
        for frame in out.chunks_mut(160) {
            concealer.conceal(frame);
        }
        let level = rms(&out[2_000..]);
        assert!(rms(&out[..160]) > 1_000.0, "{}", rms(&out[..160]));
        assert!((15.0..70.0).contains(&level), "{level}, of 35");
    }

    #[test]
    fn a_tone_keeps_its_frequency() {
        let mut concealer = Concealer::new(Rate::Narrow);
        let sine = |start: usize| -> Vec<i16> {
            let wave = |n: usize| (std::f32::consts::TAU * 440.0 * n as f32 / 8_000.0).sin();
            (start..start + 160).map(|n| (8_000.0 * wave(n)) as i16).collect()
        };
        for frame in 0..20 {
            concealer.good(&mut sine(frame * 160));
        }
        let mut out = [0; 160];
        concealer.conceal(&mut out);
        // A vocoder of speech does not hold a pure tone's level, but it holds the tone.
        let level = amplitude(&out, 8_000, 440.0);
        assert!(level > 3_000.0 && amplitude(&out, 8_000, 600.0) < level / 2.0, "{level}");
    }

    #[test]
    fn silence_stays_silence_and_any_length_is_taken() {
        for rate in [Rate::Narrow, Rate::Wide] {
            let mut concealer = Concealer::new(rate);
            let mut out = [9; 37];
            concealer.conceal(&mut out);
            assert!(out.iter().all(|sample| sample.abs() < 20), "{out:?}");
            concealer.good(&mut []);
            concealer.good(&mut [i16::MAX; 1_000]);
            concealer.good(&mut [i16::MIN; 3]);
            let mut out = [0; 4_000];
            concealer.conceal(&mut out);
            concealer.conceal(&mut []);
            for len in [0, 1, 12, 24, 25, 160, 480, 481, 960, 961, 1_920] {
                let mut out = vec![0; len];
                concealer.lead_to(&[i16::MIN; 160], &mut out);
                concealer.lead_to(&[i16::MAX; 3], &mut out);
                concealer.lead_to(&[], &mut out);
                concealer.good(&mut vec![i16::MIN; len]);
            }
            assert!(!concealer.concealing());
        }
    }
}
