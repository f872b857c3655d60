//! Comfort noise ([RFC 3389](https://www.rfc-editor.org/rfc/rfc3389)): what is heard while the other side sends nothing on
//! purpose.

/// Makes noise of the level that a comfort noise packet names. The spectrum that may follow the level is not used: white
/// noise of the right level is what telephones play.
#[derive(Debug, Clone)]
pub struct ComfortNoise {
    state: u32,
    peak: i32,
}

impl ComfortNoise {
    /// Silence until a level is set. The noise depends on `seed` alone.
    pub fn new(seed: u32) -> Self {
        Self { state: seed | 1, peak: 0 }
    }

    /// Takes the level from the payload of a comfort noise packet (RFC 3389 section 3): 0 to 127 stands for 0 to -127 dBov.
    /// An empty payload leaves the level as it was.
    pub fn set_payload(&mut self, payload: &[u8]) {
        if let Some(level) = payload.first() {
            self.set_level(level & 0x7f);
        }
    }

    /// Sets the level to `-level` dBov.
    pub fn set_level(&mut self, level: u8) {
        // Nobody wants to hear "comfort" louder than -30 dBov, whatever a broken sender says.
        let rms = 32_767.0 * 10.0_f32.powf(-f32::from(level.max(30)) / 20.0);
        // The root mean square of uniform noise is its peak over the root of three.
        self.peak = (rms * 3.0_f32.sqrt()) as i32;
    }

    /// Fills `out` with noise.
    pub fn fill(&mut self, out: &mut [i16]) {
        for sample in out {
            // xorshift32 (Marsaglia)
            self.state ^= self.state << 13;
            self.state ^= self.state >> 17;
            self.state ^= self.state << 5;
            let unit = (self.state >> 16) as i32 - 32_768;
            *sample = (unit * self.peak / 32_768) as i16;
        }
    }
}

#[cfg(test)]
mod tests {
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
}
