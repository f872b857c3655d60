//! G.722 ([ITU-T G.722](https://www.itu.int/rec/T-REC-G.722), 64 kbit/s) at either rate of a bridge.
//!
//! The codec itself samples at 16 kHz, two samples a byte; its RTP clock counts bytes (RFC 3551 section 4.5.2). At
//! [`Rate::Narrow`] a half-band filter stands between it and the bridge.

use super::conceal::Concealer;
use super::resample::{Doubler, Halver};
use super::{CodecError, Rate};
use audio_codec::{Decoder as _, Encoder as _};

/// Bytes of the longest packet taken: 120 ms.
const LONGEST: usize = 960;

/// A decoder of one stream.
pub struct G722Decoder {
    inner: audio_codec::g722::G722Decoder,
    halver: Option<Box<Halver>>,
    concealer: Box<Concealer>,
}

impl G722Decoder {
    /// A decoder that renders at `rate`.
    pub fn new(rate: Rate) -> Self {
        Self {
            inner: audio_codec::g722::G722Decoder::new(),
            halver: (rate == Rate::Narrow).then(Box::default),
            concealer: Box::new(Concealer::new(rate)),
        }
    }

    /// The rate at which it renders.
    pub fn rate(&self) -> Rate {
        if self.halver.is_some() { Rate::Narrow } else { Rate::Wide }
    }

    /// Decodes one packet; returns the number of samples written to `out`.
    ///
    /// # Errors
    /// [`CodecError::BufferSize`] when `out` does not hold the packet's sound, [`CodecError::Malformed`] past 120 ms.
    pub fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        if payload.len() > LONGEST {
            return Err(CodecError::Malformed);
        }
        let samples = payload.len() * self.rate().scale();
        let out = out.get_mut(..samples).ok_or(CodecError::BufferSize)?;
        match &mut self.halver {
            None => {
                self.inner.decode_into(payload, out).map_err(|_| CodecError::BufferSize)?;
            }
            Some(halver) => {
                let mut wide = [0; 320];
                for (codes, out) in payload.chunks(160).zip(out.chunks_mut(160)) {
                    let len = self.inner.decode_into(codes, &mut wide).map_err(|_| CodecError::BufferSize)?;
                    halver.process(wide.get(..len).unwrap_or_default(), out);
                }
            }
        }
        self.concealer.good(out);
        Ok(samples)
    }

    /// See [`Decoder::break_off`](super::Decoder::break_off).
    pub fn break_off(&mut self) {
        self.concealer.break_off();
    }

    /// Fills all of `out` where nothing arrived.
    pub fn conceal(&mut self, out: &mut [i16]) {
        self.concealer.conceal(out);
    }
}

impl std::fmt::Debug for G722Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("G722Decoder").field("rate", &self.rate()).finish_non_exhaustive()
    }
}

/// An encoder of one stream.
pub struct G722Encoder {
    inner: audio_codec::g722::G722Encoder,
    doubler: Option<Box<Doubler>>,
}

impl G722Encoder {
    /// An encoder of sound at `rate`.
    pub fn new(rate: Rate) -> Self {
        Self { inner: audio_codec::g722::G722Encoder::new(), doubler: (rate == Rate::Narrow).then(Box::default) }
    }

    /// The rate of the sound it takes.
    pub fn rate(&self) -> Rate {
        if self.doubler.is_some() { Rate::Narrow } else { Rate::Wide }
    }

    /// Encodes `pcm`, at the wide rate an even number of samples; returns the number of bytes written to `out`.
    ///
    /// # Errors
    /// [`CodecError::BufferSize`] when `out` is too short or a wide sample stands alone.
    pub fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        let scale = self.rate().scale();
        let bytes = pcm.len() / scale;
        if !pcm.len().is_multiple_of(scale) {
            return Err(CodecError::BufferSize);
        }
        let out = out.get_mut(..bytes).ok_or(CodecError::BufferSize)?;
        match &mut self.doubler {
            None => {
                self.inner.encode_into(pcm, out).map_err(|_| CodecError::BufferSize)?;
            }
            Some(doubler) => {
                let mut wide = [0; 320];
                for (pcm, out) in pcm.chunks(160).zip(out.chunks_mut(160)) {
                    let len = doubler.process(pcm, &mut wide);
                    let wide = wide.get(..len).unwrap_or_default();
                    self.inner.encode_into(wide, out).map_err(|_| CodecError::BufferSize)?;
                }
            }
        }
        Ok(bytes)
    }
}

impl std::fmt::Debug for G722Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("G722Encoder").field("rate", &self.rate()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::codec::tone::amplitude;

    fn sine(hz: f32, rate: Rate, len: usize) -> Vec<i16> {
        let omega = std::f32::consts::TAU * hz / rate.hz() as f32;
        (0..len).map(|n| (8_000.0 * (omega * n as f32).sin()) as i16).collect()
    }

    fn through(hz: f32, from: Rate, to: Rate) -> Vec<i16> {
        let (mut encoder, mut decoder) = (G722Encoder::new(from), G722Decoder::new(to));
        let mut heard = Vec::new();
        for frame in sine(hz, from, from.frame() * 50).chunks(from.frame()) {
            let (mut packet, mut pcm) = ([0; 160], [0; 320]);
            assert_eq!(encoder.encode(frame, &mut packet), Ok(160));
            assert_eq!(decoder.decode(&packet, &mut pcm), Ok(to.frame()));
            heard.extend_from_slice(&pcm[..to.frame()]);
        }
        heard
    }

    #[test]
    fn a_tone_survives_between_all_rates() {
        for (from, to, hz) in [
            (Rate::Wide, Rate::Wide, 1_000.0),
            (Rate::Wide, Rate::Wide, 6_000.0),
            (Rate::Wide, Rate::Narrow, 1_000.0),
            (Rate::Narrow, Rate::Wide, 1_000.0),
            (Rate::Narrow, Rate::Narrow, 3_000.0),
        ] {
            let level = amplitude(&through(hz, from, to)[2_000..], to.hz(), hz);
            assert!((7_500.0..8_500.0).contains(&level), "{from:?} to {to:?}, {hz} Hz: {level}");
        }
        // What only the wide rate can hold is not folded into the narrow one.
        assert!(amplitude(&through(6_000.0, Rate::Wide, Rate::Narrow), 8_000, 2_000.0) < 100.0);
    }

    #[test]
    fn rubbish_is_noise_and_never_a_panic() {
        let mut state = 1_u32;
        for rate in [Rate::Narrow, Rate::Wide] {
            let mut decoder = G722Decoder::new(rate);
            let mut pcm = [0; 1_920];
            for len in (0..=960).step_by(7) {
                let bytes: Vec<u8> = (0..len)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (state >> 24) as u8
                    })
                    .collect();
                assert_eq!(decoder.decode(&bytes, &mut pcm), Ok(len * rate.scale()));
                let loud = vec![if len % 2 == 0 { 0 } else { 0xff }; len];
                assert_eq!(decoder.decode(&loud, &mut pcm), Ok(len * rate.scale()));
            }
            assert_eq!(decoder.decode(&[0; 961], &mut pcm), Err(CodecError::Malformed));
            assert_eq!(decoder.decode(&[0; 960], &mut [0; 100]), Err(CodecError::BufferSize));
            let mut encoder = G722Encoder::new(rate);
            let mut out = [0; 960];
            for level in [i16::MIN, i16::MAX, 0, i16::MIN] {
                assert_eq!(encoder.encode(&vec![level; rate.frame()], &mut out), Ok(160));
            }
            assert_eq!(encoder.encode(&[0; 320], &mut [0; 10]), Err(CodecError::BufferSize));
        }
        assert_eq!(G722Encoder::new(Rate::Wide).encode(&[0; 161], &mut [0; 160]), Err(CodecError::BufferSize));
    }
}
