//! The signalling plane as one deterministic value.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
