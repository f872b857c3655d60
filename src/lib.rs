//! Ringback, the gateway between WebRTC and the telephone network.
//!
//! The library is layers of sans-IO parts; the binary is a thin shell of sockets, clocks and threads around them.
//! A part imports only what its row names, and never a layer above its own (`tests/architecture.rs` checks it).
//!
//! | layer | part | what it is | may import |
//! |---|---|---|---|
//! | 0 | [`codec`] | PCM frames to payload bytes and back | - |
//! | 0 | [`rtp`] | RTP, RTCP, jitter buffer, playout, telephone-event, SRTP | - |
//! | 0 | [`sip`] | messages, digest, transactions, dialogs, the user agent | - |
//! | 0 | [`signal`] | the browser protocol v1, session tokens | - |
//! | 1 | [`sdp`] | session descriptions, offer/answer, the media plan | `codec` |
//! | 1 | [`dialplan`] | normalise, match, choose trunks or refuse | `sip` (its URIs) |
//! | 1 | [`webrtc`] | the browser's transport: ICE-lite, DTLS, SRTP keys | `rtp`, `sdp` |
//! | 2 | [`call`] | the B2BUA: two legs, one state machine, causes | `sip`, `sdp`, `signal`, `dialplan` |
//! | 2 | [`media`] | the bridge between two media legs | `codec`, `rtp`, `sdp`, `webrtc` |
//! | 3 | [`switch`] | the whole signalling plane as one deterministic value | layers 0 to 2, not `media`, not `webrtc` |
//! | shell | `net`, `worker`, `gateway`, `testphone`, `config` | sockets, clocks, threads, tokio | see the test |

pub mod codec;
pub mod rtp;
pub mod signal;
pub mod sip;

pub mod dialplan;
pub mod sdp;
pub mod webrtc;

pub mod call;
pub mod media;

pub mod switch;

#[cfg(feature = "server")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)] // the shell: time, threads and sockets live here
pub mod config;
#[cfg(feature = "server")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)] // the shell: time, threads and sockets live here
pub mod gateway;
#[cfg(feature = "server")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)] // the shell: time, threads and sockets live here
pub mod net;
#[cfg(feature = "server")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)] // the shell: time, threads and sockets live here
pub mod testphone;
#[cfg(feature = "server")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)] // the shell: time, threads and sockets live here
pub mod worker;
