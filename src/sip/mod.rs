//! SIP: messages, transactions, dialogs and the user agent, without sockets or clocks.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
