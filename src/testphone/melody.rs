//! The melody: four bars of Beethoven's "Ode to Joy" as a music box would play them, computed once.

use std::f32::consts::TAU;
use std::sync::LazyLock;

use crate::codec::SAMPLE_RATE;

/// One beat in samples: 150 beats a minute.
const BEAT: usize = SAMPLE_RATE as usize * 2 / 5;
/// Silence between two rounds, in beats.
const PAUSE: usize = 3;
/// The tune: frequency in Hz and length in half beats.
const TUNE: &[(f32, usize)] = &[
    (B4, 2),
    (B4, 2),
    (C5, 2),
    (D5, 2),
    (D5, 2),
    (C5, 2),
    (B4, 2),
    (A4, 2),
    (G4, 2),
    (G4, 2),
    (A4, 2),
    (B4, 2),
    (A4, 3),
    (G4, 1),
    (G4, 4),
];
/// The second voice: frequency in Hz and length in half beats.
const BASS: &[(f32, usize)] = &[(G3, 4), (D4, 4), (G3, 4), (D4, 4), (G3, 4), (D4, 4), (D4, 4), (G3, 4)];

const G3: f32 = 196.00;
const D4: f32 = 293.66;
const G4: f32 = 392.00;
const A4: f32 = 440.00;
const B4: f32 = 493.88;
const C5: f32 = 523.25;
const D5: f32 = 587.33;

static MELODY: LazyLock<Vec<i16>> = LazyLock::new(compose);

/// One round of the melody that 601, 605 and the call back of 606 play, its pause included: 8 kHz PCM.
pub fn melody() -> &'static [i16] {
    &MELODY
}

fn compose() -> Vec<i16> {
    let beats = TUNE.iter().map(|(_, halves)| halves).sum::<usize>() / 2 + PAUSE;
    let mut mix = vec![0.0; beats * BEAT];
    add_voice(&mut mix, TUNE, 7_000.0);
    add_voice(&mut mix, BASS, 3_500.0);
    mix.into_iter().map(|sample| sample as i16).collect()
}

fn add_voice(mix: &mut [f32], voice: &[(f32, usize)], level: f32) {
    let mut start = 0;
    for (hz, halves) in voice {
        // A struck tone rings on into the next one.
        for (offset, sample) in mix.iter_mut().skip(start).take(3 * BEAT).enumerate() {
            *sample += level * struck(*hz, offset as f32 / SAMPLE_RATE as f32);
        }
        start += halves * BEAT / 2;
    }
}

/// A struck tongue of a music box, `seconds` after the stroke: a soft onset, a slow decay, two overtones that fade sooner.
fn struck(hz: f32, seconds: f32) -> f32 {
    let wave = |multiple: f32| (TAU * (multiple * hz * seconds).fract()).sin();
    let decay = |per_second: f32| (-per_second * seconds).exp();
    let onset = (seconds / 0.005).min(1.0);
    onset * (0.75 * wave(1.0) * decay(3.0) + 0.2 * wave(2.0) * decay(6.0) + 0.05 * wave(3.0) * decay(12.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::codec::tone::{amplitude, rms};

    #[test]
    fn the_notes_are_heard_and_nothing_clips() {
        let pcm = melody();
        assert_eq!(pcm.len(), 19 * BEAT);
        assert!(pcm.iter().all(|s| s.unsigned_abs() < 20_000));
        let mut start = 0;
        for (hz, halves) in TUNE {
            let note = &pcm[start..start + BEAT / 2];
            let level = amplitude(note, SAMPLE_RATE, *hz);
            assert!(level > 2_000.0, "{hz} Hz: {level}");
            start += halves * BEAT / 2;
        }
        assert!(rms(&pcm[pcm.len() - BEAT..]) < 100.0, "the pause is quiet");
    }
}
