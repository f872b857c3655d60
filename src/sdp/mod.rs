//! Session descriptions and the offer/answer engine.
//!
//! What a negotiation yields is plain data ([`plan`]): the one value in which the call and its media meet.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod plan;

pub use plan::{
    AcceptedCodec, BrowserMedia, Direction, DtlsRole, Fingerprint, FingerprintError, IceCredentials, LegStats,
    MediaCommand, MediaLoss, MediaPlan, MediaReport, MediaStats, Side, TelephoneEvent, Tone, TrunkMedia,
};
