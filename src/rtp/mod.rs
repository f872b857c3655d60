//! RTP and RTCP without sockets or clocks.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod srtp;
