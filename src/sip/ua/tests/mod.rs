//! The user agent against another of its kind over a bad network, against a scripted peer, and against noise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod calls;
mod extensions;
mod net;
mod noise;
mod peer;
mod scripted;
