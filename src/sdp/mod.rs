//! Session descriptions and the offer/answer engine.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
