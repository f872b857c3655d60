//! Comfort noise ([RFC 3389](https://www.rfc-editor.org/rfc/rfc3389)): what is heard while the other side sends nothing on
//! purpose, and how our own background is described.

/// Reflection coefficients that are minded: a sender may give more.
const ORDER: usize = 10;
/// Bytes of the description that we write: the level and the coefficients.
pub const DESCRIPTION: usize = 1 + ORDER;
/// Nobody wants to hear "comfort" louder than -30 dBov, whatever a broken sender says.
const LOUDEST: u8 = 30;
/// The power of noise that is taken for background, in full-scale units: -42 dBov. What is louder is speech or music.
const BACKGROUND: f32 = 63.0e-6;
/// By how much the background's power may seem to rise in a frame without being heard so: 3 dB in 10 s.
const RISE: f32 = 1.001_4;

/// Makes noise of a level and a spectrum: those that a comfort noise packet names, or that were learnt.
#[derive(Debug, Clone)]
pub struct ComfortNoise {
    state: u32,
    /// Root mean square of the noise, in samples.
    rms: f32,
    reflection: [f32; ORDER],
    /// Peak of the even noise that goes into the filter.
    peak: f32,
    /// The filter's backward values.
    memory: [f32; ORDER],
    /// The least power heard lately, as a share of full scale, and what the sound was like then.
    floor: f32,
    likeness: [f32; ORDER + 1],
}

impl ComfortNoise {
    /// Silence until a level is set. The noise depends on `seed` alone.
    pub fn new(seed: u32) -> Self {
        Self {
            state: seed | 1,
            rms: 0.0,
            reflection: [0.0; ORDER],
            peak: 0.0,
            memory: [0.0; ORDER],
            floor: 1.0,
            likeness: [0.0; ORDER + 1],
        }
    }

    /// Takes level and spectrum from the payload of a comfort noise packet (RFC 3389 section 3): the level's 0 to 127 stands for
    /// 0 to -127 dBov, each further byte for a reflection coefficient. An empty payload leaves the noise as it was.
    pub fn set_payload(&mut self, payload: &[u8]) {
        let Some((level, spectrum)) = payload.split_first() else { return };
        self.reflection = [0.0; ORDER];
        for (coefficient, byte) in self.reflection.iter_mut().zip(spectrum) {
            // Section 3.2: 258 (N - 127) / 32768 for 0 to 254; 255 is reserved.
            *coefficient = 258.0 * (f32::from((*byte).min(254)) - 127.0) / 32_768.0;
        }
        self.set_level(level & 0x7f);
    }

    /// Sets the level to `-level` dBov.
    pub fn set_level(&mut self, level: u8) {
        self.rms = 32_767.0 * 10.0_f32.powf(-f32::from(level.max(LOUDEST)) / 20.0);
        self.settle();
    }

    /// Takes a frame of what was heard: the quietest of them are the background.
    pub fn learn(&mut self, pcm: &[i16]) {
        let power = power(pcm);
        self.floor = (self.floor * RISE).min(1.0);
        if pcm.len() < 8 * ORDER || power > self.floor * 2.0 || power > BACKGROUND {
            return;
        }
        self.floor = self.floor.min(power);
        let now = autocorrelation(pcm);
        for (kept, new) in self.likeness.iter_mut().zip(now) {
            *kept = *kept * 0.8 + new * 0.2;
        }
        self.reflection = reflection(&self.likeness);
        let [first, ..] = self.likeness;
        self.rms = first.max(0.0).sqrt();
        self.settle();
    }

    /// The even noise that goes in, so that what comes out has the level: the filter adds power.
    fn settle(&mut self) {
        let loss: f32 = self.reflection.iter().map(|k| 1.0 - k * k).product();
        // The root mean square of even noise is its peak over the root of three.
        self.peak = self.rms * (3.0 * loss.max(0.0)).sqrt();
    }

    /// Fills `out` with noise.
    pub fn fill(&mut self, out: &mut [i16]) {
        for sample in out {
            *sample = self.next_sample() as i16;
        }
    }

    /// The next sample: even noise through an all-pole lattice.
    pub fn next_sample(&mut self) -> f32 {
        // xorshift32 (Marsaglia)
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        let mut forward = self.peak * (f32::from((self.state >> 16) as u16) / 32_768.0 - 1.0);
        let mut below = None;
        for (stage, k) in self.reflection.iter().enumerate().rev() {
            let Some(backward) = self.memory.get(stage).copied() else { continue };
            forward -= k * backward;
            let above = backward + k * forward;
            if let Some(place) = self.memory.get_mut(stage + 1) {
                *place = above;
            }
            below = Some(forward);
        }
        if let Some(first) = self.memory.first_mut() {
            *first = below.unwrap_or(forward);
        }
        forward
    }
}

/// Describes `pcm`, a frame of background, as the payload of a comfort noise packet; returns the bytes written to `out`
/// ([`DESCRIPTION`] where there is room).
pub fn describe(pcm: &[i16], out: &mut [u8]) -> usize {
    let level = -10.0 * power(pcm).max(1.0e-13).log10();
    let likeness = autocorrelation(pcm);
    let bytes = reflection(&likeness).map(|k| (k * 32_768.0 / 258.0 + 127.0).round().clamp(0.0, 254.0) as u8);
    let payload = std::iter::once(level.round().clamp(0.0, 127.0) as u8).chain(bytes);
    let mut written = 0;
    for (place, byte) in out.iter_mut().zip(payload) {
        *place = byte;
        written += 1;
    }
    written
}

/// The mean power, as a share of a square wave of full scale (0 dBov).
fn power(pcm: &[i16]) -> f32 {
    let sum: f32 = pcm.iter().map(|sample| (f32::from(*sample) / 32_768.0).powi(2)).sum();
    sum / pcm.len().max(1) as f32
}

/// The mean product of samples that lie 0 to [`ORDER`] apart.
fn autocorrelation(pcm: &[i16]) -> [f32; ORDER + 1] {
    std::array::from_fn(|lag| {
        let apart = pcm.iter().zip(pcm.iter().skip(lag));
        apart.map(|(a, b)| f32::from(*a) * f32::from(*b)).sum::<f32>() / pcm.len().max(1) as f32
    })
}

/// The reflection coefficients of the all-pole filter that gives white noise this autocorrelation (Levinson and Durbin), with
/// the sign that makes the first one `-r(1) / r(0)`.
fn reflection(likeness: &[f32; ORDER + 1]) -> [f32; ORDER] {
    let mut found = [0.0; ORDER];
    let (mut predictor, mut error) = ([0.0_f32; ORDER + 1], likeness[0] * 1.000_1 + 0.01);
    predictor[0] = 1.0;
    for (stage, place) in found.iter_mut().enumerate() {
        let order = stage + 1;
        let reach: f32 = predictor.iter().take(order).zip(likeness[..=order].iter().rev()).map(|(a, r)| a * r).sum();
        let k = (-reach / error).clamp(-0.99, 0.99);
        let old = predictor;
        for (new, mirrored) in predictor.iter_mut().skip(1).take(order).zip(old[..order].iter().rev()) {
            *new += k * mirrored;
        }
        error *= 1.0 - k * k;
        *place = k;
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::codec::tone::rms;

    #[test]
    fn the_level_is_the_one_asked_for() {
        let mut noise = ComfortNoise::new(7);
        let mut pcm = [1; 8_000];
        noise.fill(&mut pcm);
        assert_eq!(rms(&pcm), 0.0);
        for (level, expected) in [(40, 327.67), (60, 32.767), (0, 1_036.0)] {
            noise.set_payload(&[level]);
            noise.fill(&mut pcm);
            assert!((rms(&pcm) / expected - 1.0).abs() < 0.05, "{level}: {}", rms(&pcm));
        }
        noise.set_payload(&[]);
        noise.fill(&mut pcm);
        assert!(rms(&pcm) > 900.0);
    }

    /// The share of power below 1 kHz, by a crude filter: a sample and its neighbours' mean.
    fn tilt(pcm: &[i16]) -> f32 {
        let r = autocorrelation(pcm);
        r[1] / r[0]
    }

    #[test]
    fn the_spectrum_of_rfc_3389_is_heard_at_the_level_asked_for() {
        let mut pcm = [0; 16_000];
        for (byte, tilted) in [(127, 0.0), (20, 0.84), (234, -0.84)] {
            let mut noise = ComfortNoise::new(3);
            noise.set_payload(&[45, byte]);
            noise.fill(&mut pcm);
            assert!((rms(&pcm) / 184.3 - 1.0).abs() < 0.1, "{byte}: {}", rms(&pcm));
            assert!((tilt(&pcm) - tilted).abs() < 0.05, "{byte}: {}", tilt(&pcm));
        }
        // Whatever is sent stays noise: no filter is let run away.
        for byte in [0, 254, 255] {
            let mut noise = ComfortNoise::new(3);
            noise.set_payload(&[40; 1].iter().chain(&[byte; 40]).copied().collect::<Vec<u8>>());
            noise.fill(&mut pcm);
            assert!(rms(&pcm) < 2_000.0, "{byte}: {}", rms(&pcm));
        }
    }

    #[test]
    fn what_is_described_is_heard_again() {
        let mut source = ComfortNoise::new(11);
        source.set_payload(&[50, 60, 150, 120, 140]);
        let (mut said, mut heard) = ([0; 4_000], [0; 4_000]);
        source.fill(&mut said);
        let mut payload = [0; DESCRIPTION];
        assert_eq!(describe(&said, &mut payload), DESCRIPTION);
        assert_eq!(payload[0], 50);
        for (byte, sent) in payload[1..].iter().zip([60_i32, 150, 120, 140, 127]) {
            assert!((i32::from(*byte) - sent).abs() < 8, "{payload:?}");
        }
        let mut noise = ComfortNoise::new(5);
        noise.set_payload(&payload);
        noise.fill(&mut heard);
        assert!((rms(&heard) / rms(&said) - 1.0).abs() < 0.1);
        assert!((tilt(&heard) - tilt(&said)).abs() < 0.05);
        assert_eq!(describe(&[0; 160], &mut payload), DESCRIPTION);
        assert_eq!(payload[0], 127);
        assert_eq!((describe(&[], &mut payload), describe(&said, &mut payload[..3])), (DESCRIPTION, 3));
    }

    #[test]
    fn the_background_is_learnt_and_speech_is_not() {
        let (mut source, mut noise) = (ComfortNoise::new(11), ComfortNoise::new(5));
        source.set_payload(&[55, 60]);
        let mut frame = [0; 160];
        for n in 0..200 {
            source.fill(&mut frame);
            if n % 4 == 0 {
                // Loud, and of another colour.
                frame = std::array::from_fn(|n| if n % 2 == 0 { 6_000 } else { -6_000 });
            }
            noise.learn(&frame);
        }
        let mut heard = [0; 8_000];
        noise.fill(&mut heard);
        assert!((0.6..1.3).contains(&(rms(&heard) / 58.3)), "{}", rms(&heard));
        assert!(tilt(&heard) > 0.3, "{}", tilt(&heard));
    }
}
