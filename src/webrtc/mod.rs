//! The browser's transport: ICE-lite, DTLS and SRTP keys, without sockets or clocks.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
