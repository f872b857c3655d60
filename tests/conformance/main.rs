//! What the standards say must come of what, row by row; what their own bad and good messages must do to us, message by message; and what must hold for any input.
//!
//! The messages of RFC 4475 and RFC 5118 are read from `../shared/testdata` or `RINGBACK_TESTDATA`. Where they are not at
//! hand the tests say so and pass, unless `RINGBACK_REQUIRE_TESTDATA=1`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    missing_docs
)]

mod answers;
mod bench;
mod data;
mod details;
mod framing;
mod parsing;
mod properties;
mod rfc3261_10;
mod rfc3261_17;
mod rfc3261_8;
mod rfc3262;
mod rfc3311;
mod rfc3515;
mod rfc3891;
mod rfc4028;
mod rfc4475;
mod rfc5118;
mod running;
mod script;
#[allow(dead_code)]
#[path = "../gateway/support.rs"]
mod support;
mod table;
