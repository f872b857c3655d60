//! Digits as tones in the sound: DTMF ([ITU-T Q.23](https://www.itu.int/rec/T-REC-Q.23)) made, and recognised within the limits of
//! [ITU-T Q.24](https://www.itu.int/rec/T-REC-Q.24).
//!
//! The detector looks at the last 20 ms every 5 ms. A digit is one tone of each group that together are nearly all of the
//! sound, at the right frequencies (by the turn of their phases), of like level, for `BEGIN` looks in a row; it is over
//! after `END` looks without it. That makes, whatever the place of the tone between the looks:
//!
//! | | always | never |
//! |---|---|---|
//! | tone recognised | from 40 ms | up to 23 ms |
//! | pause parts two digits | from 40 ms | up to 10 ms |
//! | level of a tone | -27 to -3 dBm0 | below -34 dBm0 |
//! | frequency | within 1.5 % + 2 Hz | off by 3.5 % |
//! | twist (high over low) | -8 to +4 dB | below -13, above +9 dB |
//!
//! It costs about 70,000 multiplications a second at 8 kHz, and allocates nothing.

use std::f32::consts::TAU;

const LOW: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const HIGH: [f32; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];
const KEYS: &[u8; 16] = b"123A456B789C*0#D";

/// The peak of a sine at the overload point of G.711, and what that is in dBm0.
const FULL_SCALE: f32 = 32_124.0;
const FULL_SCALE_DBM0: f32 = 3.17;
/// The levels that we send, in dBm0: the high group 2 dB above the low one, against what lines take away from it.
const LOW_LEVEL: f32 = -10.0;
const HIGH_LEVEL: f32 = -8.0;
/// The edges of our tones rise and fall in this time, in milliseconds.
const RAMP_MS: u32 = 2;

/// The weakest tone that is one, in dBm0.
const WEAKEST: f32 = -31.0;
/// The share of the pair in the power of the sound.
const SHARE: f32 = 0.8;
/// How much stronger the high tone may be than the low one, and the low one than the high one, as ratios of power.
const TWIST_HIGH: f32 = 3.55;
const TWIST_LOW: f32 = 8.9;
/// A tone this much off its frequency, as a share of it, is another tone.
const OFF: f32 = 0.026;
/// Looks in a row with a digit until it is believed, and without it until it is over.
const BEGIN: u8 = 5;
const END: u8 = 7;
/// Milliseconds between two looks; each is at four of these.
const HOP_MS: u32 = 5;
const HOPS: usize = 4;
/// Samples of a hop at the highest rate.
const LARGEST_HOP: usize = 80;

/// What the detector found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtmfUpdate {
    /// A digit sounds, and has for some 40 ms.
    Started {
        /// One of `0-9 * # A-D`.
        digit: char,
    },
    /// It is over.
    Ended {
        /// The digit.
        digit: char,
        /// How long it sounded, in milliseconds, within 10 ms.
        ms: u16,
    },
}

/// The peak amplitude of a sine of this level.
fn amplitude(dbm0: f32) -> f32 {
    FULL_SCALE * 10.0_f32.powf((dbm0 - FULL_SCALE_DBM0) / 20.0)
}

/// A complex number.
#[derive(Debug, Clone, Copy, Default)]
struct Complex {
    re: f32,
    im: f32,
}

impl Complex {
    fn turn(angle: f32) -> Self {
        Self { re: angle.cos(), im: angle.sin() }
    }

    fn times(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }

    fn plus(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }

    fn conjugate(self) -> Self {
        Self { re: self.re, im: -self.im }
    }

    fn power(self) -> f32 {
        self.re * self.re + self.im * self.im
    }

    fn angle(self) -> f32 {
        self.im.atan2(self.re)
    }
}

/// One frequency, listened for hop by hop.
#[derive(Debug, Clone)]
struct Ear {
    hz: f32,
    coefficient: f32,
    /// One sample back in phase.
    back: Complex,
    /// A hop ahead in phase.
    ahead: Complex,
    /// The last hops, the oldest first.
    hops: [Complex; HOPS],
}

/// What an ear makes of a window: the power of its tone and how far off it is, in Hz.
#[derive(Debug, Clone, Copy, Default)]
struct Tone {
    hz: f32,
    power: f32,
    off: f32,
}

impl Ear {
    fn new(hz: f32, rate: u32, hop: usize) -> Self {
        let omega = TAU * hz / rate as f32;
        Self {
            hz,
            coefficient: 2.0 * omega.cos(),
            back: Complex::turn(-omega),
            ahead: Complex::turn(TAU * (hz * hop as f32 / rate as f32).fract()),
            hops: [Complex::default(); HOPS],
        }
    }

    /// Goertzel's algorithm over one hop: the tone's phasor at its last sample.
    fn hear(&mut self, pcm: &[i16]) {
        let (mut s1, mut s2) = (0.0, 0.0);
        for sample in pcm {
            (s1, s2) = (f32::from(*sample) + self.coefficient * s1 - s2, s1);
        }
        let phasor = Complex { re: s1 - self.back.re * s2, im: -self.back.im * s2 };
        self.hops.rotate_left(1);
        if let Some(last) = self.hops.last_mut() {
            *last = phasor;
        }
    }

    /// The window of all hops, `samples` long in `seconds`. The turn between its halves tells the true frequency, and that
    /// what the window's own shape has taken away.
    fn tone(&self, samples: f32, seconds: f32) -> Tone {
        let [a, b, c, d] = self.hops;
        let (first, second) = (a.times(self.ahead).plus(b), c.times(self.ahead).plus(d));
        let expected = first.times(self.ahead).times(self.ahead);
        let off = second.times(expected.conjugate()).angle() / (TAU * seconds / 2.0);
        let whole = expected.plus(second);
        let x = TAU / 2.0 * off * seconds;
        let shape = if x.abs() < 0.01 { 1.0 } else { x.sin() / x };
        // A sine of peak A gives a phasor of A/2 per sample, and has a power of A^2/2.
        Tone { hz: self.hz, power: 2.0 * whole.power() / (samples * samples * shape * shape).max(1.0), off }
    }
}

/// Finds digits in a stream of sound at 8 or 16 kHz.
#[derive(Debug, Clone)]
pub struct DtmfDetector {
    rate: u32,
    low: [Ear; 4],
    high: [Ear; 4],
    /// The energy of each of the last hops.
    energy: [f32; HOPS],
    /// Hops in the window.
    filled: usize,
    /// A digit that may be one.
    candidate: Option<Candidate>,
    current: Option<Sounding>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    key: u8,
    /// Looks in a row that found it, and the time since the first, in hops.
    looks: u8,
    age: u32,
}

#[derive(Debug, Clone, Copy)]
struct Sounding {
    key: u8,
    /// The time since the first look that found it, and up to the last that did, in hops.
    age: u32,
    heard: u32,
    misses: u8,
}

impl Sounding {
    fn ended(self) -> DtmfUpdate {
        // The first and the last look that find it see it in four fifths of their time.
        let ms = (self.heard * HOP_MS + 15).min(u32::from(u16::MAX));
        DtmfUpdate::Ended { digit: char::from(self.key), ms: ms as u16 }
    }
}

impl DtmfDetector {
    /// A detector for sound at `rate` Hz: 8000 or 16000.
    pub fn new(rate: u32) -> Self {
        let hop = (rate * HOP_MS / 1_000) as usize;
        Self {
            rate,
            low: LOW.map(|hz| Ear::new(hz, rate, hop)),
            high: HIGH.map(|hz| Ear::new(hz, rate, hop)),
            energy: [0.0; HOPS],
            filled: 0,
            candidate: None,
            current: None,
        }
    }

    /// The rate that it listens at.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Whether a digit sounds.
    pub fn active(&self) -> bool {
        self.current.is_some()
    }

    /// Whether the last look found what may become a digit, or one sounds.
    pub fn suspects(&self) -> bool {
        self.active() || self.candidate.is_some()
    }

    /// Listens to sound that follows the last: whole multiples of 5 ms. `found` gets the news in order.
    pub fn handle(&mut self, pcm: &[i16], mut found: impl FnMut(DtmfUpdate)) {
        let hop = (self.rate * HOP_MS / 1_000) as usize;
        for pcm in pcm.chunks_exact(hop.clamp(1, LARGEST_HOP)) {
            let key = self.look(pcm);
            self.judge(key, &mut found);
        }
    }

    /// Lets `ms` milliseconds pass in which the sound is not the sender's: what had to be invented neither makes a digit nor
    /// ends one.
    pub fn skip(&mut self, ms: u32) {
        self.filled = 0;
        let hops = ms / HOP_MS;
        if let Some(current) = &mut self.current {
            current.age = current.age.saturating_add(hops);
        }
        if let Some(candidate) = &mut self.candidate {
            candidate.age = candidate.age.saturating_add(hops);
        }
    }

    /// Forgets all that was heard; a digit that sounds is over.
    pub fn reset(&mut self) -> Option<DtmfUpdate> {
        (self.filled, self.candidate) = (0, None);
        self.current.take().map(Sounding::ended)
    }

    fn look(&mut self, pcm: &[i16]) -> Option<u8> {
        for ear in self.low.iter_mut().chain(&mut self.high) {
            ear.hear(pcm);
        }
        self.energy.rotate_left(1);
        if let Some(last) = self.energy.last_mut() {
            *last = pcm.iter().map(|s| f32::from(*s) * f32::from(*s)).sum();
        }
        self.filled = (self.filled + 1).min(HOPS);
        if self.filled < HOPS {
            return None;
        }
        let samples = (pcm.len() * HOPS) as f32;
        let power = self.energy.iter().sum::<f32>() / samples;
        let weakest = amplitude(WEAKEST).powi(2) / 2.0;
        if power < 2.0 * weakest {
            return None;
        }
        let seconds = (HOP_MS as usize * HOPS) as f32 / 1_000.0;
        let (row, low) = strongest(&self.low, samples, seconds)?;
        let (column, high) = strongest(&self.high, samples, seconds)?;
        let right = |tone: Tone| tone.power >= weakest && tone.off.abs() <= tone.hz * OFF;
        let alike = high.power <= low.power * TWIST_HIGH && low.power <= high.power * TWIST_LOW;
        let alone = low.power + high.power >= power * SHARE;
        let digit = right(low) && right(high) && alike && alone;
        digit.then(|| KEYS.get(row * 4 + column).copied()).flatten()
    }

    fn judge(&mut self, key: Option<u8>, found: &mut impl FnMut(DtmfUpdate)) {
        if let Some(current) = &mut self.current {
            current.age = current.age.saturating_add(1);
            if key == Some(current.key) {
                current.heard = current.age;
                current.misses = 0;
                self.candidate = None;
                return;
            }
            // Only a window without invented sound can miss it.
            if self.filled == HOPS {
                current.misses += 1;
            }
            if current.misses >= END {
                found(current.ended());
                self.current = None;
            }
        }
        self.candidate = match (key, self.candidate) {
            (Some(key), Some(Candidate { key: before, looks, age })) if before == key => {
                Some(Candidate { key, looks: looks + 1, age: age + 1 })
            }
            (Some(key), _) => Some(Candidate { key, looks: 1, age: 0 }),
            (None, Some(candidate)) if self.filled < HOPS => Some(Candidate { age: candidate.age + 1, ..candidate }),
            (None, _) => None,
        };
        if let Some(Candidate { key, age, .. }) = self.candidate.filter(|candidate| candidate.looks >= BEGIN) {
            if let Some(before) = self.current.take() {
                found(before.ended());
            }
            self.current = Some(Sounding { key, age, heard: age, misses: 0 });
            self.candidate = None;
            found(DtmfUpdate::Started { digit: char::from(key) });
        }
    }
}

fn strongest(ears: &[Ear; 4], samples: f32, seconds: f32) -> Option<(usize, Tone)> {
    let tones = ears.iter().map(|ear| ear.tone(samples, seconds)).enumerate();
    // One that is far off its frequency is the neighbour of the one that is meant.
    tones.filter(|(_, tone)| tone.off.abs() <= tone.hz * OFF).max_by(|(_, a), (_, b)| a.power.total_cmp(&b.power))
}

/// Makes one digit's pair of tones.
#[derive(Debug, Clone)]
pub struct DtmfTone {
    /// Turns per sample.
    low: f64,
    high: f64,
    ramp: u32,
    position: u32,
}

impl DtmfTone {
    /// The tones of a digit (`0-9 * # A-D`, letters in either case) at `rate` Hz.
    pub fn new(digit: char, rate: u32) -> Option<Self> {
        let key = KEYS.iter().position(|key| char::from(*key) == digit.to_ascii_uppercase())?;
        let turns = |hz: &f32| f64::from(*hz) / f64::from(rate);
        Some(Self {
            low: turns(LOW.get(key / 4)?),
            high: turns(HIGH.get(key % 4)?),
            ramp: (rate * RAMP_MS / 1_000).max(1),
            position: 0,
        })
    }

    /// Goes on for all of `out`; with `last` the tone dies away at its end.
    pub fn fill(&mut self, out: &mut [i16], last: bool) {
        let (low, high, len) = (amplitude(LOW_LEVEL), amplitude(HIGH_LEVEL), out.len());
        for (n, sample) in out.iter_mut().enumerate() {
            let wave = |turns: f64| (TAU * (turns * f64::from(self.position)).fract() as f32).sin();
            let to_end = if last { (len - n) as u32 } else { self.ramp };
            let edge = (self.position + 1).min(to_end).min(self.ramp) as f32 / self.ramp as f32;
            *sample = ((wave(self.low) * low + wave(self.high) * high) * edge) as i16;
            self.position = self.position.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests;
