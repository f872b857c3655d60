//! The program as its operator and as a browser's signalling meet it: command line, messages about what is wrong, limits
//! of the WebSocket, the end of calls and of the gateway. Media is for the suites with real browsers.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cdr;
mod cli;
mod doctor;
mod https;
mod killed;
mod limits;
mod metrics;
mod operator;
mod plans;
mod reload;
mod rest;
mod secrets;
mod session;
mod shutdown;
mod sip_websocket;
mod support;
mod trace;
mod transports;
mod uas;
mod whip;
mod wire;
