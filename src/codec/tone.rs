//! Tones: DTMF pairs ([ITU-T Q.23](https://www.itu.int/rec/T-REC-Q.23)), ringback cadences, melodies; and a Goertzel
//! filter to find one frequency in a signal.

use std::f32::consts::TAU;

/// What sounds for a while: up to two frequencies in Hz (0 = none) and a length in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Note {
    /// First frequency in Hz, 0 for none.
    pub low: f32,
    /// Second frequency in Hz, 0 for none.
    pub high: f32,
    /// Length in milliseconds.
    pub ms: u32,
}

impl Note {
    /// One frequency for `ms` milliseconds.
    pub const fn single(hz: f32, ms: u32) -> Self {
        Self { low: hz, high: 0.0, ms }
    }

    /// Two frequencies for `ms` milliseconds.
    pub const fn dual(low: f32, high: f32, ms: u32) -> Self {
        Self { low, high, ms }
    }

    /// Silence for `ms` milliseconds.
    pub const fn rest(ms: u32) -> Self {
        Self { low: 0.0, high: 0.0, ms }
    }
}

/// The country whose ringback the caller hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ringback {
    /// 440 + 480 Hz, 2 s on, 4 s off.
    Us,
    /// 400 + 450 Hz, 0.4 s on, 0.2 s off, 0.4 s on, 2 s off.
    Uk,
    /// 425 Hz, 1 s on, 4 s off ([ETSI TR 101 041](https://www.etsi.org)).
    Eu,
}

impl Ringback {
    /// The cadence, to be repeated until somebody answers.
    pub const fn cadence(self) -> &'static [Note] {
        const UK_BURST: Note = Note::dual(400.0, 450.0, 400);
        const US: &[Note] = &[Note::dual(440.0, 480.0, 2_000), Note::rest(4_000)];
        const UK: &[Note] = &[UK_BURST, Note::rest(200), UK_BURST, Note::rest(2_000)];
        const EU: &[Note] = &[Note::single(425.0, 1_000), Note::rest(4_000)];
        match self {
            Ringback::Us => US,
            Ringback::Uk => UK,
            Ringback::Eu => EU,
        }
    }
}

/// The tone pair of a DTMF digit (`0`-`9`, `*`, `#`, `A`-`D` in either case), for `ms` milliseconds.
pub fn dtmf(digit: char, ms: u32) -> Option<Note> {
    const LOW: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
    const HIGH: [f32; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];
    const KEYS: &str = "123A456B789C*0#D";
    let index = KEYS.find(digit.to_ascii_uppercase())?;
    Some(Note::dual(*LOW.get(index / 4)?, *HIGH.get(index % 4)?, ms))
}

/// Plays notes one after the other as 8 kHz PCM. It holds no buffer: each call to [`fill`](Self::fill) goes on where the last
/// one stopped, with continuous phase inside a note and short ramps at its edges so that nothing clicks.
#[derive(Debug, Clone)]
pub struct TonePlayer<'a> {
    notes: &'a [Note],
    repeat: bool,
    level: f32,
    index: usize,
    position: u32,
}

/// Edges rise and fall over this many samples (2 ms).
const RAMP: u32 = 16;

impl<'a> TonePlayer<'a> {
    /// Plays `notes` once. `level` is the peak of one frequency, 0 to 32767; a pair adds up to twice that.
    pub fn once(notes: &'a [Note], level: i16) -> Self {
        Self { notes, repeat: false, level: f32::from(level), index: 0, position: 0 }
    }

    /// Plays `notes` for ever.
    pub fn repeated(notes: &'a [Note], level: i16) -> Self {
        Self { repeat: true, ..Self::once(notes, level) }
    }

    /// Whether the last note has ended; a repeating player never finishes.
    pub fn finished(&self) -> bool {
        self.index >= self.notes.len()
    }

    /// Writes all of `out`; what lies past the end of the last note is silence.
    pub fn fill(&mut self, out: &mut [i16]) {
        for sample in out {
            *sample = self.next_sample();
        }
    }

    fn next_sample(&mut self) -> i16 {
        // At most one round: notes without length are passed over, and a list of only such notes is silence.
        for _ in 0..=self.notes.len() {
            let Some(note) = self.notes.get(self.index) else { return 0 };
            let length = note.ms.saturating_mul(8);
            if self.position < length {
                let sample = self.sample(note, length);
                self.position += 1;
                if self.position >= length {
                    self.advance();
                }
                return sample;
            }
            self.advance();
        }
        0
    }

    fn sample(&self, note: &Note, length: u32) -> i16 {
        if note.low == 0.0 && note.high == 0.0 {
            return 0;
        }
        let seconds = self.position as f32 / 8_000.0;
        let wave = |hz: f32| if hz == 0.0 { 0.0 } else { (TAU * (hz * seconds).fract()).sin() };
        let edge = (self.position + 1).min(length - self.position).min(RAMP) as f32 / RAMP as f32;
        // `as` saturates: a level too high clips and does not wrap.
        ((wave(note.low) + wave(note.high)) * self.level * edge) as i16
    }

    fn advance(&mut self) {
        self.position = 0;
        self.index += 1;
        if self.repeat && self.index >= self.notes.len() {
            self.index = 0;
        }
    }
}

/// The peak amplitude of `hz` in `pcm`, by Goertzel's algorithm: a sine of peak 8000 gives about 8000.
pub fn amplitude(pcm: &[i16], sample_rate: u32, hz: f32) -> f32 {
    if pcm.is_empty() {
        return 0.0;
    }
    let omega = f64::from(hz) * std::f64::consts::TAU / f64::from(sample_rate);
    let coefficient = 2.0 * omega.cos();
    let (mut s1, mut s2) = (0.0_f64, 0.0_f64);
    for sample in pcm {
        let s0 = f64::from(*sample) + coefficient * s1 - s2;
        s2 = s1;
        s1 = s0;
    }
    let power = s1 * s1 + s2 * s2 - coefficient * s1 * s2;
    (power.max(0.0).sqrt() * 2.0 / pcm.len() as f64) as f32
}

/// The root mean square of `pcm`.
pub fn rms(pcm: &[i16]) -> f32 {
    if pcm.is_empty() {
        return 0.0;
    }
    let sum: f64 = pcm.iter().map(|s| f64::from(*s) * f64::from(*s)).sum();
    (sum / pcm.len() as f64).sqrt() as f32
}

/// The DTMF digit that sounds in `pcm` (8 kHz, best 20 ms or more), if one clearly does.
pub fn detect_dtmf(pcm: &[i16]) -> Option<char> {
    let level = rms(pcm);
    if level < 200.0 {
        return None;
    }
    "0123456789*#ABCD".chars().find(|digit| {
        dtmf(*digit, 0).is_some_and(|note| {
            // Both tones strong, and together most of the signal: speech is spread out.
            let (low, high) = (amplitude(pcm, 8_000, note.low), amplitude(pcm, 8_000, note.high));
            let share = (low * low + high * high) / (2.0 * level * level);
            low > 0.3 * level && high > 0.3 * level && share > 0.75
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn each_digit_is_found_again() {
        for digit in "0123456789*#ABCD".chars() {
            let notes = [dtmf(digit, 100).unwrap()];
            let mut pcm = [0; 800];
            TonePlayer::once(&notes, 8_000).fill(&mut pcm);
            assert_eq!(detect_dtmf(&pcm), Some(digit));
            assert_eq!(detect_dtmf(&pcm[160..320]), Some(digit));
        }
        assert_eq!(dtmf('x', 100), None);
        assert_eq!(detect_dtmf(&[0; 160]), None);
    }

    #[test]
    fn ringback_keeps_its_cadence() {
        for (tone, hz, on, off) in [(Ringback::Us, 480.0, 2_000, 4_000), (Ringback::Eu, 425.0, 1_000, 4_000)] {
            let mut player = TonePlayer::repeated(tone.cadence(), 4_000);
            for round in 0..3 {
                let mut sounding = vec![0; on * 8];
                player.fill(&mut sounding);
                let level = amplitude(&sounding, 8_000, hz);
                assert!((3_800.0..4_200.0).contains(&level), "{tone:?} round {round}: {level}");
                let mut silent = vec![1; off * 8];
                player.fill(&mut silent);
                assert!(silent.iter().all(|s| *s == 0));
            }
            assert!(!player.finished());
        }
    }

    #[test]
    fn frames_join_without_a_step() {
        let notes = [Note::single(440.0, 200)];
        let (mut whole, mut pieces) = ([0; 1_600], Vec::new());
        TonePlayer::once(&notes, 10_000).fill(&mut whole);
        let mut player = TonePlayer::once(&notes, 10_000);
        for _ in 0..10 {
            let mut frame = [0; 160];
            player.fill(&mut frame);
            pieces.extend_from_slice(&frame);
        }
        assert_eq!(&whole[..], &pieces[..]);
        assert!(player.finished());
        let steepest = whole.windows(2).map(|w| (w[1] - w[0]).abs()).max().unwrap();
        assert!(steepest < 3_600, "{steepest}");
    }

    #[test]
    fn odd_lists_are_silence_and_end() {
        let mut pcm = [1; 80];
        TonePlayer::repeated(&[], 1).fill(&mut pcm);
        assert_eq!(pcm, [0; 80]);
        TonePlayer::repeated(&[Note::rest(0), Note::single(440.0, 0)], 1).fill(&mut pcm);
        assert_eq!(pcm, [0; 80]);
    }

    #[test]
    fn goertzel_measures_the_peak() {
        let pcm: Vec<i16> = (0..8_000).map(|n| (5_000.0 * (TAU * 1_000.0 * n as f32 / 8_000.0).sin()) as i16).collect();
        assert!((amplitude(&pcm, 8_000, 1_000.0) - 5_000.0).abs() < 50.0);
        assert!(amplitude(&pcm, 8_000, 1_500.0) < 50.0);
        assert!((rms(&pcm) - 3_535.0).abs() < 40.0);
        assert_eq!(amplitude(&[], 8_000, 1.0), 0.0);
        assert_eq!(rms(&[]), 0.0);
    }
}
