//! The browser's transport: ICE-lite, DTLS and SRTP keys, without sockets or clocks.
//!
//! A [`Transport`] is one browser's side of a call. It takes whole datagrams, answers connectivity checks
//! ([RFC 8445](https://www.rfc-editor.org/rfc/rfc8445), the lite and always controlled agent), shakes hands by DTLS
//! and yields plain RTP and RTCP in place, just as a trunk's socket does. An [`Identity`] is the process's certificate,
//! made once.
//!
//! The drain rule: after every `handle_*` or `restart_ice` or `close`, call [`Transport::poll_transmit`] until `None`,
//! then [`Transport::poll_event`] until `None`, then ask [`Transport::poll_timeout`].

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod dtls;
mod ice;
mod packet;
mod stun;
pub mod stun_client;
mod transport;

#[cfg(test)]
pub(crate) mod test_browser;
#[cfg(test)]
mod tests;

pub use dtls::{Identity, IdentityError};
pub use packet::{PacketKind, classify, stun_username};
pub use transport::{
    Received, Transport, TransportError, TransportEvent, TransportFailure, TransportStats, TransportTimes,
};
