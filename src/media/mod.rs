//! The media bridge between two legs: datagrams in, datagrams out, and statistics.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::SocketAddr;
use std::time::Instant;

use crate::sdp::{MediaPlan, MediaReport, MediaStats, Side};
use crate::webrtc::Identity;

/// The socket that a datagram came in by or goes out by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Port {
    /// The worker's socket for all browsers.
    Browser,
    /// The call's own RTP socket towards the trunk.
    TrunkRtp,
    /// The call's own RTCP socket towards the trunk.
    TrunkRtcp,
}

/// A datagram that lies in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// The socket to send it by.
    pub port: Port,
    /// Its destination.
    pub to: SocketAddr,
    /// Its length.
    pub len: usize,
}

/// Why a bridge could not be made.
#[derive(Debug, thiserror::Error)]
#[error("no bridge yet")]
pub struct BridgeError;

/// One call's media. Its shape only, for what is built on it; the bridge itself replaces this file.
#[derive(Debug)]
pub struct Bridge;

#[allow(missing_docs, unused_variables)]
impl Bridge {
    pub fn new(
        now: Instant,
        plan: MediaPlan,
        identity: Option<&Identity>,
        seed: [u8; 32],
    ) -> Result<Self, BridgeError> {
        Err(BridgeError)
    }
    pub fn update(&mut self, now: Instant, plan: MediaPlan) {}
    pub fn send_digits(&mut self, now: Instant, to: Side, digits: &str, ms: u16) {}
    pub fn handle_datagram(&mut self, now: Instant, port: Port, source: SocketAddr, packet: &mut [u8]) {}
    pub fn handle_timeout(&mut self, now: Instant) {}
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    pub fn poll_transmit(&mut self, buf: &mut [u8]) -> Option<Transmit> {
        None
    }
    pub fn poll_report(&mut self) -> Option<MediaReport> {
        None
    }
    pub fn stats(&self) -> MediaStats {
        MediaStats::default()
    }
    pub fn knows_browser(&self, source: SocketAddr) -> bool {
        false
    }
    pub fn close(&mut self, now: Instant) {}
}
