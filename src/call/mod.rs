//! The call: two legs, one state machine.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
