//! Dial plans: who may call what, and by which trunk.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
