//! The media bridge between two legs: datagrams in, datagrams out, and statistics.
//!
//! ```text
//! browser --SRTP--> webrtc --+                                    +--> webrtc --SRTP--> browser
//!                            +--> inbound (playout, decoder) ...  |
//! peer ----RTP----> latch ---+     ... 20 ms of PCM ....... outbound (encoder, own time line) --RTP--> peer
//! ```
//!
//! A [`Bridge`] is one call: two sides, each with a leg of either kind, or with none yet. It is sans-IO: datagrams and time are arguments, and after every `handle_*`, `update`,
//! `send_digits` or `close` the caller polls [`Bridge::poll_transmit`] until `None`, then [`Bridge::poll_report`] until
//! `None`, then asks [`Bridge::poll_timeout`]. On the way of a packet it takes no lock and allocates nothing
//! (`tests/no_alloc.rs`).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod bridge;
mod crypto;
mod digits;
mod effort;
mod fifo;
mod filler;
mod gauge;
mod inbound;
mod latch;
mod leg;
mod level;
mod outbound;
mod party;
mod quality;
mod queue;
mod redundancy;
mod relay;
mod sound;
mod survey;
#[cfg(test)]
mod tests;
mod verdict;

use crate::codec::Rate;
use crate::sdp::RtpSlot;

pub use bridge::{Bridge, BridgeError, Means};
pub use effort::Effort;
pub use queue::Transmit;

/// The socket that a datagram came in by or goes out by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Port {
    /// The worker's socket for all browsers.
    Browser,
    /// The RTP socket of one of the call's own pairs.
    Rtp(RtpSlot),
    /// The RTCP socket of one of the call's own pairs.
    Rtcp(RtpSlot),
}

/// Samples of the longest frame: 20 ms at 16 kHz.
pub(crate) const LONGEST_FRAME: usize = Rate::Wide.frame();
/// Milliseconds of one frame.
pub(crate) const FRAME_MS: u32 = 20;
