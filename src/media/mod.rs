//! The media bridge between two legs.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
