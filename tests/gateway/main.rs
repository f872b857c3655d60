//! The program as its operator and as a browser's signalling meet it: command line, messages about what is wrong, limits
//! of the WebSocket, the end of calls and of the gateway. Media is for the suites with real browsers, but for what an operator
//! does, or has done to him, while calls are talking.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod broken;
mod busy;
mod canary;
mod cdr;
mod cli;
mod dashboard;
mod doctor;
mod exhausted;
mod full_disk;
mod https;
mod killed;
mod limits;
mod load;
mod metrics;
mod operator;
mod otlp;
#[path = "../peer/mod.rs"]
mod peer;
mod plans;
mod reload;
mod rest;
mod routes;
mod secrets;
mod session;
mod shutdown;
mod sip_websocket;
#[allow(dead_code)] // other suites use the rest
#[path = "../sipp/sipp.rs"]
mod sipp;
mod support;
mod talk;
#[allow(dead_code)]
#[path = "../sipp/tls.rs"]
mod tls;
mod trace;
mod traffic;
mod transports;
mod uas;
mod whip;
mod wire;
