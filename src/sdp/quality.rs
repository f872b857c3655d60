//! What the media path tells of a call's sound while the call lasts: how good it is, and why there is none.

use std::fmt;

use super::plan::Side;
use crate::codec::Codec;

/// A mean opinion score as the E-model estimates it for listeners: 1 (bad) to 5 (excellent), in hundredths
/// ([ITU-T G.107](https://www.itu.int/rec/T-REC-G.107) Annex B; 4.41 is the most that narrowband reaches).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mos(u16);

impl Mos {
    /// The score nearest to `value`, held within 1 to 5.
    pub fn new(value: f32) -> Self {
        Mos((value.clamp(1.0, 5.0) * 100.0).round() as u16)
    }

    /// The score as a number.
    pub fn value(self) -> f32 {
        f32::from(self.0) / 100.0
    }
}

impl fmt::Display for Mos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.value())
    }
}

/// One direction of one leg, over about the last second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowQuality {
    /// What the sound is coded with.
    pub codec: Codec,
    /// Packets that were lost on the way, in thousandths of those expected.
    pub loss_permille: u16,
    /// Interarrival jitter in milliseconds ([RFC 3550](https://www.rfc-editor.org/rfc/rfc3550#section-6.4.1) section 6.4.1).
    pub jitter_ms: u16,
    /// Milliseconds of sound that the receiver had to invent in one second; unknown of a peer that does not report it.
    pub concealed_ms: Option<u16>,
    /// Milliseconds of sound that wait in the receiver's buffer; unknown of a peer that does not report it.
    pub buffer_ms: Option<u16>,
    /// The one-way delay in milliseconds, estimated: half the round trip, the packet's own length and the receiver's buffer.
    pub delay_ms: u16,
    /// What a listener would think of this direction alone.
    pub mos: Mos,
}

impl FlowQuality {
    /// The share of the second that the receiver had to invent, in percent.
    pub fn concealed_pct(&self) -> Option<f32> {
        self.concealed_ms.map(|ms| f32::from(ms.min(1_000)) / 10.0)
    }
}

/// What the party of a leg hears, from the other party's mouth to his ear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The one-way delay of both legs in milliseconds, estimated.
    pub delay_ms: u16,
    /// What he would think of it.
    pub mos: Mos,
}

/// Both directions of one leg, over about the last second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegQuality {
    /// What the peer sends us; `None` while nothing comes.
    pub inbound: Option<FlowQuality>,
    /// What we send the peer, by its own RTCP reports; `None` while there are none.
    pub outbound: Option<FlowQuality>,
    /// The round trip to the peer by RTCP, in milliseconds; `None` until it is known.
    pub rtt_ms: Option<u16>,
    /// What this party hears; `None` while nothing is sent to it that the other party says.
    pub hears: Option<Heard>,
    /// Loudness of what this party says, RMS over the second in dB below full scale: 0 is the loudest, -100 silence.
    pub level_db: i8,
}

impl LegQuality {
    /// Of a leg that there is not.
    pub const NONE: LegQuality =
        LegQuality { inbound: None, outbound: None, rtt_ms: None, hears: None, level_db: -100 };
}

/// Both legs of a call, once a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallQuality {
    /// Who called.
    pub a: LegQuality,
    /// Who was called.
    pub b: LegQuality,
}

impl CallQuality {
    /// The leg of a side.
    pub fn leg(&self, side: Side) -> &LegQuality {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }
}

/// Why one party's sound does not reach the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoAudio {
    /// No connectivity check of the browser has passed: nothing gets through between it and us.
    NoIce,
    /// ICE is up, but the DTLS handshake is not done: there are no keys.
    NoDtls,
    /// No RTP packet comes.
    NoRtp,
    /// RTP comes, under payload types that were not negotiated or with payloads that are none.
    WrongPayloadType,
    /// RTP comes from addresses that are not the peer's, and is refused.
    Stranger,
    /// SRTP comes that is not authentic: the sender has other keys.
    NotAuthentic,
    /// Sound comes, and it was digital silence from its beginning: a muted or wrong microphone.
    Silent,
    /// The peer's description says that it sends nothing, or wants nothing: it holds.
    Held,
}

impl NoAudio {
    /// All of them, in the order in which they are looked for.
    pub const ALL: [NoAudio; 8] = [
        NoAudio::NoIce,
        NoAudio::NoDtls,
        NoAudio::NoRtp,
        NoAudio::WrongPayloadType,
        NoAudio::Stranger,
        NoAudio::NotAuthentic,
        NoAudio::Silent,
        NoAudio::Held,
    ];

    /// The name, as in logs, call records and the browser protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            NoAudio::NoIce => "no-ice",
            NoAudio::NoDtls => "no-dtls",
            NoAudio::NoRtp => "no-rtp",
            NoAudio::WrongPayloadType => "wrong-payload-type",
            NoAudio::Stranger => "stranger",
            NoAudio::NotAuthentic => "not-authentic",
            NoAudio::Silent => "silent",
            NoAudio::Held => "held",
        }
    }

    /// Whether something is broken. Silence and hold may be just what the parties want.
    pub fn is_fault(self) -> bool {
        !matches!(self, NoAudio::Silent | NoAudio::Held)
    }
}

impl fmt::Display for NoAudio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The verdict on one direction of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// The leg at which the sound ends.
    pub at: Side,
    /// Why.
    pub cause: NoAudio,
}
