//! Codecs: PCM frames to payload bytes and back, loss concealment, comfort noise, tones.
//!
//! Everything works at 8 kHz mono, the telephone's rate, and allocates only when it is made.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod conceal;
pub mod g711;
pub mod noise;
pub mod opus;
pub mod tone;
pub mod wav;

use conceal::Concealer;
use g711::Law;
use opus::{OpusDecoder, OpusEncoder, OpusSettings};

/// Samples per second of all PCM in this module.
pub const SAMPLE_RATE: u32 = 8_000;
/// Samples of the longest packet that a decoder may yield: 120 ms.
pub const MAX_PACKET_SAMPLES: usize = 960;

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
    /// This codec cannot be transcoded by us.
    #[error("{} is not transcoded", .0.name())]
    Unsupported(Codec),
    /// The library failed to make or run a codec.
    #[error("the codec library failed")]
    Library,
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

/// A decoder of one stream to 8 kHz mono, with the concealment that suits it.
#[derive(Debug)]
pub enum Decoder {
    /// G.711 of either law.
    G711 {
        /// The law of the stream.
        law: Law,
        /// What fills its gaps.
        concealer: Box<Concealer>,
        /// See [`Decoder::set_transparent`].
        transparent: bool,
    },
    /// Opus, with its own concealment and redundancy.
    Opus(OpusDecoder),
}

impl Decoder {
    /// A decoder for `codec`; fails for one that is not transcoded.
    pub fn new(codec: Codec) -> Result<Self, CodecError> {
        let g711 = |law| Decoder::G711 { law, concealer: Box::default(), transparent: false };
        match codec {
            Codec::Opus => Ok(Decoder::Opus(OpusDecoder::new(SAMPLE_RATE)?)),
            Codec::Pcmu => Ok(g711(Law::Mu)),
            Codec::Pcma => Ok(g711(Law::A)),
            Codec::G722 => Err(CodecError::Unsupported(codec)),
        }
    }

    /// The codec that this decodes.
    pub fn codec(&self) -> Codec {
        match self {
            Decoder::G711 { law: Law::Mu, .. } => Codec::Pcmu,
            Decoder::G711 { law: Law::A, .. } => Codec::Pcma,
            Decoder::Opus(_) => Codec::Opus,
        }
    }

    /// With `on`, encoding what was decoded gives every byte back unchanged. Of all codes only mu-law's negative zero needs
    /// it: it is rendered as -1 then, where the reference says 0.
    pub fn set_transparent(&mut self, on: bool) {
        if let Decoder::G711 { transparent, .. } = self {
            *transparent = on;
        }
    }

    /// Decodes one packet; returns the number of samples written to `out`, which should hold [`MAX_PACKET_SAMPLES`].
    pub fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        match self {
            Decoder::Opus(decoder) => decoder.decode(payload, out),
            Decoder::G711 { law, concealer, transparent } => {
                let out = out.get_mut(..payload.len()).ok_or(CodecError::BufferSize)?;
                law.decode(payload, out);
                if *transparent && *law == Law::Mu {
                    for (code, sample) in payload.iter().zip(out.iter_mut()) {
                        if *code == 0x7f {
                            *sample = -1;
                        }
                    }
                }
                concealer.good(out);
                Ok(payload.len())
            }
        }
    }

    /// Fills all of `out` with the audio lost right before `next`, from the redundancy in `next` where the codec has any.
    pub fn recover(&mut self, next: &[u8], out: &mut [i16]) {
        match self {
            Decoder::Opus(decoder) => {
                if decoder.decode_fec(next, out).is_err() {
                    out.fill(0);
                }
            }
            Decoder::G711 { concealer, .. } => concealer.conceal(out),
        }
    }

    /// Fills all of `out` where nothing arrived. For Opus the length must be a multiple of 2.5 ms.
    pub fn conceal(&mut self, out: &mut [i16]) {
        match self {
            Decoder::Opus(decoder) => {
                if decoder.conceal(out).is_err() {
                    out.fill(0);
                }
            }
            Decoder::G711 { concealer, .. } => concealer.conceal(out),
        }
    }
}

/// An encoder of one stream from 8 kHz mono.
#[derive(Debug)]
pub enum Encoder {
    /// G.711 of either law.
    G711(Law),
    /// Opus narrowband.
    Opus(Box<OpusEncoder>),
}

impl Encoder {
    /// An encoder for `codec`; `settings` are for Opus. Fails for a codec that is not transcoded.
    pub fn new(codec: Codec, settings: OpusSettings) -> Result<Self, CodecError> {
        match codec {
            Codec::Opus => Ok(Encoder::Opus(Box::new(OpusEncoder::new(settings)?))),
            Codec::Pcmu => Ok(Encoder::G711(Law::Mu)),
            Codec::Pcma => Ok(Encoder::G711(Law::A)),
            Codec::G722 => Err(CodecError::Unsupported(codec)),
        }
    }

    /// The codec that this encodes.
    pub fn codec(&self) -> Codec {
        match self {
            Encoder::G711(Law::Mu) => Codec::Pcmu,
            Encoder::G711(Law::A) => Codec::Pcma,
            Encoder::Opus(_) => Codec::Opus,
        }
    }

    /// Encodes one frame (Opus: 10, 20, 40 or 60 ms); returns the number of bytes written to `out`.
    pub fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        match self {
            Encoder::Opus(encoder) => encoder.encode(pcm, out),
            Encoder::G711(_) if out.len() < pcm.len() => Err(CodecError::BufferSize),
            Encoder::G711(law) => Ok(law.encode(pcm, out)),
        }
    }

    /// Sets the loss that redundancy shall cover, in percent; codecs without redundancy take no notice.
    pub fn set_fec(&mut self, expected_loss: Option<u8>) -> Result<(), CodecError> {
        match self {
            Encoder::Opus(encoder) => encoder.set_fec(expected_loss),
            Encoder::G711(_) => Ok(()),
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

    /// How long `payload` sounds, in units of the codec's RTP clock; at most 120 ms.
    pub fn duration(self, payload: &[u8]) -> Result<u32, CodecError> {
        match self {
            Codec::Opus => opus::packet_duration(payload, self.clock_rate()),
            Codec::Pcmu | Codec::Pcma | Codec::G722 => match payload.len() {
                1..=MAX_PACKET_SAMPLES => Ok(payload.len() as u32),
                _ => Err(CodecError::Malformed),
            },
        }
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
        let mut decoder = Decoder::new(Codec::Pcmu).unwrap();
        decoder.set_transparent(true);
        let mut encoder = Encoder::new(Codec::Pcmu, OpusSettings::default()).unwrap();
        let codes: Vec<u8> = (0..=255).collect();
        let (mut pcm, mut back) = ([0; 256], [0; 256]);
        assert_eq!(decoder.decode(&codes, &mut pcm), Ok(256));
        assert_eq!(encoder.encode(&pcm, &mut back), Ok(256));
        assert_eq!(&codes[..], &back[..]);
    }

    #[test]
    fn what_is_not_transcoded_says_so() {
        assert_eq!(Decoder::new(Codec::G722).unwrap_err(), CodecError::Unsupported(Codec::G722));
        assert!(Encoder::new(Codec::G722, OpusSettings::default()).is_err());
    }

    #[test]
    fn sizes_are_checked() {
        let mut decoder = Decoder::new(Codec::Pcma).unwrap();
        assert_eq!(decoder.decode(&[0; 200], &mut [0; 160]), Err(CodecError::BufferSize));
        let mut encoder = Encoder::new(Codec::Opus, OpusSettings::default()).unwrap();
        assert_eq!(encoder.encode(&[0; 161], &mut [0; 400]), Err(CodecError::BufferSize));
        assert_eq!(Codec::Pcmu.duration(&[0; 480]), Ok(480));
        assert!(Codec::Pcmu.duration(&[]).is_err());
        assert!(Codec::Pcmu.duration(&[0; 1_300]).is_err());
    }
}
