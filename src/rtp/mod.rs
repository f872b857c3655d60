//! RTP and RTCP without sockets or clocks.
//!
//! - [`packet`]: reading and writing RTP packets; [`rtcp`]: reports, CNAME and BYE; [`xr`]: extended reports; [`srtp`]: their protection.
//! - [`receive`]: loss and jitter as RTCP reports them; [`sequence`]: counters that wrap.
//! - [`jitter`], [`delay`] and [`playout`]: the receiving side's buffer, what it learns of the network, and its decisions.
//! - [`event`]: digits in RTP; [`red`]: packets that hold those before once more.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod delay;
pub mod event;
pub mod jitter;
pub mod packet;
pub mod playout;
pub mod receive;
pub mod red;
pub mod rtcp;
pub mod sequence;
pub mod srtp;
pub mod xr;
