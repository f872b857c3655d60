//! Codecs: PCM frames to payload bytes and back, loss concealment, comfort noise, tones.
//!
//! Everything is mono PCM at the [`Rate`] of a direction, 8 or 16 kHz, and allocates only when it is made.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod conceal;
mod deep;
pub mod dtmf;
pub mod g711;
pub mod g722;
pub mod noise;
pub mod opus;
pub mod resample;
pub mod stretch;
pub mod tone;
pub mod wav;

use g711::{G711Decoder, Law};
use g722::{G722Decoder, G722Encoder};
use opus::{OpusDecoder, OpusEncoder, OpusSettings};

/// Samples per second of the telephone's rate.
pub const SAMPLE_RATE: u32 = 8_000;
/// Samples of the longest packet that a decoder may yield at any rate: 120 ms at 16 kHz.
pub const MAX_PACKET_SAMPLES: usize = 1_920;
/// Bytes of the longest packet of a codec with one byte per tick of its 8 kHz clock: 120 ms.
const MAX_PACKET_BYTES: usize = 960;

/// How fast the sound of a direction is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Rate {
    /// 8 kHz: the telephone.
    #[default]
    Narrow,
    /// 16 kHz: G.722, and Opus where both sides can hear it.
    Wide,
}

impl Rate {
    /// Samples per second.
    pub const fn hz(self) -> u32 {
        match self {
            Rate::Narrow => 8_000,
            Rate::Wide => 16_000,
        }
    }

    /// Samples of 20 ms.
    pub const fn frame(self) -> usize {
        self.samples(20)
    }

    /// Samples of `ms` milliseconds.
    pub const fn samples(self, ms: usize) -> usize {
        8 * self.scale() * ms
    }

    /// How many times the telephone's rate.
    pub const fn scale(self) -> usize {
        match self {
            Rate::Narrow => 1,
            Rate::Wide => 2,
        }
    }
}

/// What can go wrong with a codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The payload is not one of this codec: the sender's fault, the packet counts as lost.
    #[error("the payload does not belong to its codec")]
    Malformed,
    /// Our own fault: a buffer too small or a length the codec cannot take.
    #[error("a buffer has the wrong size")]
    BufferSize,
    /// This codec has no sound at the rate asked for.
    #[error("{} has no sound at this rate", .0.name())]
    Unsupported(Codec),
    /// The library failed to make or run a codec.
    #[error("the codec library failed")]
    Library,
}

impl From<opus_plc::Error> for CodecError {
    fn from(error: opus_plc::Error) -> Self {
        if error.is_invalid_packet() {
            CodecError::Malformed
        } else if error.is_bad_argument() {
            CodecError::BufferSize
        } else {
            CodecError::Library
        }
    }
}

impl From<::opus::Error> for CodecError {
    fn from(error: ::opus::Error) -> Self {
        match error.code() {
            ::opus::ErrorCode::InvalidPacket => CodecError::Malformed,
            ::opus::ErrorCode::BadArg | ::opus::ErrorCode::BufferTooSmall => CodecError::BufferSize,
            _ => CodecError::Library,
        }
    }
}

/// A decoder of one stream to mono PCM, with the concealment that suits it.
#[derive(Debug)]
pub enum Decoder {
    /// G.711 of either law.
    G711(G711Decoder),
    /// G.722.
    G722(G722Decoder),
    /// Opus, with its own concealment and redundancy.
    Opus(OpusDecoder),
}

impl Decoder {
    /// A decoder for `codec` that renders at `rate`.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] for G.711 at the wide rate, which it has no sound for.
    pub fn new(codec: Codec, rate: Rate) -> Result<Self, CodecError> {
        match (codec, rate) {
            (Codec::Opus, _) => Ok(Decoder::Opus(OpusDecoder::new(rate)?)),
            (Codec::G722, _) => Ok(Decoder::G722(G722Decoder::new(rate))),
            (Codec::Pcmu, Rate::Narrow) => Ok(Decoder::G711(G711Decoder::new(Law::Mu))),
            (Codec::Pcma, Rate::Narrow) => Ok(Decoder::G711(G711Decoder::new(Law::A))),
            (Codec::Pcmu | Codec::Pcma, Rate::Wide) => Err(CodecError::Unsupported(codec)),
        }
    }

    /// The codec that this decodes.
    pub fn codec(&self) -> Codec {
        match self {
            Decoder::G711(decoder) => decoder.law().codec(),
            Decoder::G722(_) => Codec::G722,
            Decoder::Opus(_) => Codec::Opus,
        }
    }

    /// The rate at which this renders.
    pub fn rate(&self) -> Rate {
        match self {
            Decoder::G711(_) => Rate::Narrow,
            Decoder::G722(decoder) => decoder.rate(),
            Decoder::Opus(decoder) => decoder.rate(),
        }
    }

    /// With `on`, encoding what was decoded gives every byte back unchanged. Of all codes only mu-law's negative zero needs
    /// it: it is rendered as -1 then, where the reference says 0.
    pub fn set_transparent(&mut self, on: bool) {
        if let Decoder::G711(decoder) = self {
            decoder.set_transparent(on);
        }
    }

    /// Decodes one packet; returns the number of samples written to `out`, which should hold [`MAX_PACKET_SAMPLES`].
    pub fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        match self {
            Decoder::G711(decoder) => decoder.decode(payload, out),
            Decoder::G722(decoder) => decoder.decode(payload, out),
            Decoder::Opus(decoder) => decoder.decode(payload, out),
        }
    }

    /// Fills all of `out` with the audio lost right before `next`: from the redundancy in `next` where it has any, else so that
    /// it leads there (G.711), else as [`conceal`](Self::conceal) does.
    pub fn recover(&mut self, next: &[u8], out: &mut [i16]) {
        match self {
            Decoder::Opus(decoder) => {
                if decoder.decode_fec(next, out).is_err() {
                    out.fill(0);
                }
            }
            Decoder::G711(decoder) => decoder.lead_to(next, out),
            Decoder::G722(decoder) => decoder.conceal(out),
        }
    }

    /// Fills all of `out` where the sender is silent on purpose (discontinuous transmission): with the background that the
    /// codec keeps, where it keeps one.
    pub fn rest(&mut self, out: &mut [i16]) {
        match self {
            Decoder::Opus(decoder) => {
                if decoder.rest(out).is_err() {
                    out.fill(0);
                }
            }
            Decoder::G711(_) | Decoder::G722(_) => self.conceal(out),
        }
    }

    /// What was made up last ends there, and nothing of it goes over into what arrives next: there was silence between.
    pub fn break_off(&mut self) {
        match self {
            Decoder::G711(decoder) => decoder.break_off(),
            Decoder::G722(decoder) => decoder.break_off(),
            Decoder::Opus(decoder) => decoder.break_off(),
        }
    }

    /// Fills all of `out` where nothing arrived. For Opus the length must be a multiple of 2.5 ms.
    pub fn conceal(&mut self, out: &mut [i16]) {
        match self {
            Decoder::G711(decoder) => decoder.conceal(out),
            Decoder::G722(decoder) => decoder.conceal(out),
            Decoder::Opus(decoder) => {
                if decoder.conceal(out).is_err() {
                    out.fill(0);
                }
            }
        }
    }
}

/// An encoder of one stream from mono PCM.
#[derive(Debug)]
pub enum Encoder {
    /// G.711 of either law.
    G711(Law),
    /// G.722.
    G722(Box<G722Encoder>),
    /// Opus narrowband or wideband.
    Opus(Box<OpusEncoder>),
}

impl Encoder {
    /// An encoder for `codec` of sound at `rate`; `settings` are for Opus.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] for G.711 at the wide rate.
    pub fn new(codec: Codec, rate: Rate, settings: OpusSettings) -> Result<Self, CodecError> {
        match (codec, rate) {
            (Codec::Opus, _) => Ok(Encoder::Opus(Box::new(OpusEncoder::new(rate, settings)?))),
            (Codec::G722, _) => Ok(Encoder::G722(Box::new(G722Encoder::new(rate)))),
            (Codec::Pcmu, Rate::Narrow) => Ok(Encoder::G711(Law::Mu)),
            (Codec::Pcma, Rate::Narrow) => Ok(Encoder::G711(Law::A)),
            (Codec::Pcmu | Codec::Pcma, Rate::Wide) => Err(CodecError::Unsupported(codec)),
        }
    }

    /// The codec that this encodes.
    pub fn codec(&self) -> Codec {
        match self {
            Encoder::G711(law) => law.codec(),
            Encoder::G722(_) => Codec::G722,
            Encoder::Opus(_) => Codec::Opus,
        }
    }

    /// The rate of the sound it takes.
    pub fn rate(&self) -> Rate {
        match self {
            Encoder::G711(_) => Rate::Narrow,
            Encoder::G722(encoder) => encoder.rate(),
            Encoder::Opus(encoder) => encoder.rate(),
        }
    }

    /// Encodes one frame (Opus: 10, 20, 40 or 60 ms); returns the number of bytes written to `out`.
    pub fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        match self {
            Encoder::Opus(encoder) => encoder.encode(pcm, out),
            Encoder::G722(encoder) => encoder.encode(pcm, out),
            Encoder::G711(_) if out.len() < pcm.len() => Err(CodecError::BufferSize),
            Encoder::G711(law) => Ok(law.encode(pcm, out)),
        }
    }

    /// Sets the most bits per second that the peer takes; codecs of one rate take no notice.
    pub fn set_most(&mut self, most: Option<u32>) -> Result<(), CodecError> {
        match self {
            Encoder::Opus(encoder) => encoder.set_most(most),
            Encoder::G711(_) | Encoder::G722(_) => Ok(()),
        }
    }

    /// Sets the loss that redundancy shall cover, in percent; codecs without redundancy take no notice.
    pub fn set_fec(&mut self, expected_loss: Option<u8>) -> Result<(), CodecError> {
        match self {
            Encoder::Opus(encoder) => encoder.set_fec(expected_loss),
            Encoder::G711(_) | Encoder::G722(_) => Ok(()),
        }
    }

    /// Sets how much work is spent, 0 (cheapest) to 10; codecs that know one way only take no notice.
    pub fn set_complexity(&mut self, complexity: i32) -> Result<(), CodecError> {
        match self {
            Encoder::Opus(encoder) => encoder.set_complexity(complexity),
            Encoder::G711(_) | Encoder::G722(_) => Ok(()),
        }
    }
}

/// A codec that a session description can name. Payload numbers are the description's business, except the static ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Opus ([RFC 7587](https://www.rfc-editor.org/rfc/rfc7587)).
    Opus,
    /// G.711 mu-law ([RFC 3551](https://www.rfc-editor.org/rfc/rfc3551) section 4.5.14).
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722, whose RTP clock is 8000 although it samples at 16000 (RFC 3551 section 4.5.2).
    G722,
}

impl Codec {
    /// The encoding name as it stands in `a=rtpmap`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
            Codec::G722 => "G722",
        }
    }

    /// The RTP clock rate in Hz.
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::Pcmu | Codec::Pcma | Codec::G722 => 8_000,
        }
    }

    /// Channels as written in `a=rtpmap`; Opus always says 2 (RFC 7587 section 7).
    pub fn channels(self) -> u8 {
        if self == Codec::Opus { 2 } else { 1 }
    }

    /// The payload number that RFC 3551 gave it, if any.
    pub fn static_payload_type(self) -> Option<u8> {
        match self {
            Codec::Opus => None,
            Codec::Pcmu => Some(0),
            Codec::Pcma => Some(8),
            Codec::G722 => Some(9),
        }
    }

    /// Whether it carries more than the telephone's band: sound at [`Rate::Wide`].
    pub fn is_wideband(self) -> bool {
        matches!(self, Codec::Opus | Codec::G722)
    }

    /// How long `payload` sounds, in units of the codec's RTP clock; at most 120 ms.
    pub fn duration(self, payload: &[u8]) -> Result<u32, CodecError> {
        match self {
            Codec::Opus => opus::packet_duration(payload, self.clock_rate()),
            Codec::Pcmu | Codec::Pcma | Codec::G722 => match payload.len() {
                1..=MAX_PACKET_BYTES => Ok(payload.len() as u32),
                _ => Err(CodecError::Malformed),
            },
        }
    }

    /// Whether `payload` holds redundancy for the packet before it.
    pub fn has_redundancy(self, payload: &[u8]) -> bool {
        self == Codec::Opus && opus::has_redundancy(payload)
    }

    /// Whether `payload` says "nothing is said" rather than sound (discontinuous transmission).
    pub fn is_dtx(self, payload: &[u8]) -> bool {
        self == Codec::Opus && opus::is_dtx(payload)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn mu_law_passes_through_bit_by_bit_when_transparent() {
        let mut decoder = Decoder::new(Codec::Pcmu, Rate::Narrow).unwrap();
        decoder.set_transparent(true);
        let mut encoder = Encoder::new(Codec::Pcmu, Rate::Narrow, OpusSettings::default()).unwrap();
        let codes: Vec<u8> = (0..=255).collect();
        let (mut pcm, mut back) = ([0; 256], [0; 256]);
        assert_eq!(decoder.decode(&codes, &mut pcm), Ok(256));
        assert_eq!(encoder.encode(&pcm, &mut back), Ok(256));
        assert_eq!(&codes[..], &back[..]);
    }

    #[test]
    fn each_codec_at_each_rate_or_it_says_so() {
        for rate in [Rate::Narrow, Rate::Wide] {
            for codec in [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma] {
                let wide_g711 = rate == Rate::Wide && matches!(codec, Codec::Pcmu | Codec::Pcma);
                match (Encoder::new(codec, rate, OpusSettings::default()), Decoder::new(codec, rate)) {
                    (Ok(mut encoder), Ok(mut decoder)) if !wide_g711 => {
                        assert_eq!((encoder.codec(), encoder.rate()), (codec, rate));
                        assert_eq!((decoder.codec(), decoder.rate()), (codec, rate));
                        let (mut packet, mut pcm) = ([0; 400], [1; MAX_PACKET_SAMPLES]);
                        let len = encoder.encode(&[0; 320][..rate.frame()], &mut packet).unwrap();
                        assert_eq!(decoder.decode(&packet[..len], &mut pcm), Ok(rate.frame()));
                        decoder.conceal(&mut pcm[..rate.frame()]);
                        decoder.recover(&packet[..len], &mut pcm[..rate.frame()]);
                    }
                    (Err(one), Err(other)) if wide_g711 => {
                        assert_eq!((one, other), (CodecError::Unsupported(codec), CodecError::Unsupported(codec)));
                    }
                    other => panic!("{codec:?} at {rate:?}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn sizes_are_checked() {
        let mut decoder = Decoder::new(Codec::Pcma, Rate::Narrow).unwrap();
        assert_eq!(decoder.decode(&[0; 200], &mut [0; 160]), Err(CodecError::BufferSize));
        let mut encoder = Encoder::new(Codec::Opus, Rate::Narrow, OpusSettings::default()).unwrap();
        assert_eq!(encoder.encode(&[0; 161], &mut [0; 400]), Err(CodecError::BufferSize));
        assert_eq!(Codec::Pcmu.duration(&[0; 480]), Ok(480));
        assert!(Codec::Pcmu.duration(&[]).is_err());
        assert!(Codec::Pcmu.duration(&[0; 1_300]).is_err());
    }
}
