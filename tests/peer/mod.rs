//! The ends of a call, for tests against the running gateway: a browser and a phone that speak, listen and measure what
//! they hear. Nothing here is the gateway's own code: the browser's ICE, DTLS and SRTP come from an independent
//! implementation, G.711 and RTP are written here once more. (The phone's SRTP and wideband codecs alone are the library's, which
//! are held against the RFCs' vectors and other implementations elsewhere.)

#![allow(dead_code, unused_imports)] // each suite uses its part

pub mod browser;
pub mod gateway;
pub mod machine;
pub mod phone;
pub mod rtp;
pub mod sound;

pub use browser::{Browser, Codecs};
pub use gateway::Gateway;
pub use machine::Machine;
pub use phone::{OPUS, Phone};
pub use sound::Sound;

use std::time::Duration;

/// How long a test waits for what should take milliseconds: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);
