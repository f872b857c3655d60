//! Session descriptions and the offer/answer engine.
//!
//! What a negotiation yields is plain data ([`plan`]): the one value in which the call and its media meet.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod browser;
pub mod fragment;
pub mod keys;
pub mod network;
pub mod offer_answer;
pub mod plan;
pub mod presses;
pub mod quality;
pub mod sdes;
pub mod session;
pub mod trunk;

pub use crate::codec::Codec;
pub use browser::{BrowserLocal, BrowserOffer, CodecPolicy, Connection};
pub use fragment::IceFragment;
pub use keys::{DtlsRole, Fingerprint, FingerprintError, IceCredentials, SrtpKey, SrtpPlan, SrtpSuite};
pub use network::{Network, NetworkError};
pub use offer_answer::OwnDescription;
pub use plan::{
    AcceptedCodec, Band, BrowserMedia, Direction, Hears, InBand, LegMedia, LegPlan, LegStats, MediaCommand, MediaLoss,
    MediaPlan, MediaReport, MediaStats, Pass, RtpMedia, RtpSlot, Side, TelephoneEvent, Tone, TransportName,
};
pub use presses::Presses;
pub use quality::{CallQuality, FlowQuality, Heard, LegQuality, Mos, NoAudio, Verdict};
pub use sdes::{SrtpAgreed, SrtpKeys, SrtpLocal, SrtpPolicy};
pub use session::{SdpError, unchanged};
pub use trunk::{OwnNumbers, TrunkLocal};
