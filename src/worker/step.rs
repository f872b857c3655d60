//! What the worker asks of a call: the interface of [`Bridge`], so that tests can put a faulty one in its place.

use std::net::SocketAddr;
use std::time::Instant;

use crate::media::{Bridge, Effort, Port, Transmit};
use crate::sdp::{MediaPlan, MediaReport, MediaStats, Side};

/// One call's media as a state machine. After every change: `poll_transmit` and `poll_report` until dry, then
/// `poll_timeout`.
pub(super) trait Step: Sized + Send + 'static {
    fn update(&mut self, now: Instant, plan: MediaPlan);
    fn send_digits(&mut self, now: Instant, to: Side, digits: &str, ms: u16);
    fn set_effort(&mut self, effort: Effort);
    fn handle_datagram(&mut self, now: Instant, port: Port, source: SocketAddr, packet: &mut [u8]);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_timeout(&self) -> Option<Instant>;
    fn poll_transmit(&mut self, buf: &mut [u8]) -> Option<Transmit>;
    fn poll_report(&mut self) -> Option<MediaReport>;
    fn stats(&self) -> MediaStats;
    /// Whether the browser has shown that this address is its own.
    fn knows_browser(&self, source: SocketAddr) -> bool;
    /// Says goodbye to both sides.
    fn close(&mut self, now: Instant);
}

impl Step for Bridge {
    fn update(&mut self, now: Instant, plan: MediaPlan) {
        Bridge::update(self, now, plan);
    }

    fn send_digits(&mut self, now: Instant, to: Side, digits: &str, ms: u16) {
        Bridge::send_digits(self, now, to, digits, ms);
    }

    fn set_effort(&mut self, effort: Effort) {
        Bridge::set_effort(self, effort);
    }

    fn handle_datagram(&mut self, now: Instant, port: Port, source: SocketAddr, packet: &mut [u8]) {
        Bridge::handle_datagram(self, now, port, source, packet);
    }

    fn handle_timeout(&mut self, now: Instant) {
        Bridge::handle_timeout(self, now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Bridge::poll_timeout(self)
    }

    fn poll_transmit(&mut self, buf: &mut [u8]) -> Option<Transmit> {
        Bridge::poll_transmit(self, buf)
    }

    fn poll_report(&mut self) -> Option<MediaReport> {
        Bridge::poll_report(self)
    }

    fn stats(&self) -> MediaStats {
        Bridge::stats(self)
    }

    fn knows_browser(&self, source: SocketAddr) -> bool {
        Bridge::knows_browser(self, source)
    }

    fn close(&mut self, now: Instant) {
        Bridge::close(self, now);
    }
}
