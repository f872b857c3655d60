//! How loud a party is.

/// The least that is told, in dB below full scale.
const SILENCE_DB: f32 = -100.0;
/// Digital silence: what the coarsest codec makes of nothing (A-law's smallest step), and no microphone is as quiet.
const NOTHING: u16 = 8;

/// Measures frames of a party's sound, and changes none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meter {
    squares: u64,
    samples: u32,
    /// Whether anything but digital silence was ever heard.
    sounded: bool,
}

impl Meter {
    /// Takes one frame.
    pub fn frame(&mut self, pcm: &[i16]) {
        let mut squares = 0_u64;
        let mut peak = 0_u16;
        for sample in pcm {
            let magnitude = sample.unsigned_abs();
            squares += u64::from(magnitude) * u64::from(magnitude);
            peak = peak.max(magnitude);
        }
        self.squares += squares;
        self.samples = self.samples.saturating_add(pcm.len() as u32);
        self.sounded |= peak > NOTHING;
    }

    /// Whether anything but digital silence was ever heard.
    pub fn sounded(&self) -> bool {
        self.sounded
    }

    /// RMS since the last time, in dB below full scale: 0 to -100.
    pub fn take_db(&mut self) -> i8 {
        let (squares, samples) = (std::mem::take(&mut self.squares), std::mem::take(&mut self.samples));
        let mean = squares as f32 / samples.max(1) as f32 / (32_768.0 * 32_768.0);
        (10.0 * mean.max(1e-12).log10()).clamp(SILENCE_DB, 0.0) as i8
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::codec::g711::Law;

    #[test]
    fn full_scale_is_0_db_and_half_of_it_6_below() {
        let mut meter = Meter::default();
        for (amplitude, db) in [(32_767, 0), (16_384, -6), (328, -39), (1, -90), (0, -100)] {
            meter.frame(&[amplitude; 160]);
            assert!((meter.take_db() - db).abs() <= 1, "{amplitude}");
        }
        assert_eq!(meter.take_db(), -100);
    }

    #[test]
    fn digital_silence_of_either_law_is_none_and_the_faintest_sound_is_one() {
        let mut meter = Meter::default();
        for law in [Law::Mu, Law::A] {
            meter.frame(&[law.decode_sample(law.encode_sample(0)); 160]);
            assert!(!meter.sounded(), "{law:?}");
        }
        meter.frame(&[0, 9]);
        assert!(meter.sounded());
    }
}
