//! A load driver: browsers and phones that speak to each other through a gateway, and what that costs and does to the sound.
//!
//! The browsers are WebRTC of an independent implementation (ICE, DTLS-SRTP, Opus or PCMU), the phones plain RTP. What they
//! say is encoded before the first call and what they hear is looked at after the last, so that the driver's own work is
//! small; it is measured apart. One thread has the media of all of them ([`media`]); signalling is tokio's.
//!
//! ```text
//!  run ──▶ middle (ringback: session + trunk | rtpengine: ng) ──▶ legs ──▶ media thread ──▶ heard ──▶ figures
//!                                                                   ▲
//!  sound (prepared packets with marks) ─────────────────────────────┘
//! ```

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a program of sockets, clocks and threads

#[path = "../../../tests/quality/description.rs"]
pub mod description;
pub mod figures;
pub mod gateway;
pub mod growth;
pub mod heard;
pub mod media;
pub mod middle;
#[path = "../../../tests/quality/ng.rs"]
pub mod ng;
pub mod options;
pub mod process;
pub mod recordings;
pub mod report;
pub mod rtp;
pub mod run;
pub mod scrape;
pub mod session;
pub mod soak;
pub mod sound;
pub mod trunk;

pub use figures::{Figures, Way};
pub use growth::Growth;
pub use options::Options;
pub use report::Report;
pub use run::run;
pub use soak::Soak;
