//! The browser protocol v1 and its session tokens.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
