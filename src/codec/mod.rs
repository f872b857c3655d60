//! Codecs: PCM frames to payload bytes and back.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
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
}
