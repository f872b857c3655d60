//! Whole calls through the running program, with SIPp as the phone or the caller and a browser that is a media engine
//! of its own. A call counts as good when the SOUND at the far end is: each test that connects one measures both ways.
//!
//! A test sets up a [`Plot`](scene::Plot) (which SIPp scenario, as phone or as caller, and what the configuration and the
//! dial plan say beyond the usual), starts it, and plays on the [`Scene`](scene::Scene). Scenarios are in `scenarios/`; what
//! is the same in many of them stands in `scenarios/parts/` and is put in for `@NAME@`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // these tests are sockets, clocks and programs
#![allow(missing_docs)]

mod control;
mod extensions;
mod http;
mod inbound;
mod killed;
mod outbound;
#[path = "../peer/mod.rs"]
mod peer;
mod procedures;
mod redirection;
mod registration;
#[allow(dead_code)] // a vocabulary, of which each test uses its part
mod scene;
mod silence;
#[allow(dead_code)]
mod sipp;
mod srtp;
mod tls;
mod transfer;
mod transports;
mod trunks;
mod wideband;

use peer::Browser;
use scene::{BROWSER_TONE, Plot, Scene};
use sipp::Setup;
