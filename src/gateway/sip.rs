//! The driver's side of all SIP transports: what goes out, keep-alives, and which connections may end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::net::UdpSocket;

use super::dns::Dns;
use super::sip_stream::Connections;
use crate::sip::{Flow, Transport};

/// How often a NAT is reminded of a registration's flow: after 80 to 100 % of it. NATs forget UDP after 30 s and more.
const REMIND: Duration = Duration::from_secs(29);
/// How often unused connections are looked for.
const SWEEP: Duration = Duration::from_secs(15);

/// See the module.
pub(super) struct Sip {
    pub(super) udp: Vec<(SocketAddr, Arc<UdpSocket>)>,
    pub(super) connections: Connections,
    pub(super) dns: Dns,
    reminders: BTreeMap<Flow, Instant>,
    sweep_at: Instant,
}

impl Sip {
    pub(super) fn new(now: Instant, udp: Vec<(SocketAddr, Arc<UdpSocket>)>, connections: Connections, dns: Dns) -> Sip {
        Sip { udp, connections, dns, reminders: BTreeMap::new(), sweep_at: now + SWEEP }
    }

    /// Sends a message; `false`: it cannot be sent.
    pub(super) fn send(&mut self, now: Instant, flow: Flow, bytes: Vec<u8>) -> bool {
        match flow.transport {
            Transport::Udp => self.send_datagram(flow, &bytes),
            _ => self.connections.send(now, flow, bytes),
        }
    }

    fn send_datagram(&self, flow: Flow, bytes: &[u8]) -> bool {
        let Some((_, socket)) = self.udp.iter().find(|(local, _)| *local == flow.local) else { return false };
        match socket.try_send_to(bytes, flow.remote) {
            Ok(_) => true,
            // A full socket buffer is a lost datagram: SIP retransmits.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => true,
            Err(error) => {
                tracing::warn!(remote = %flow.remote, %error, "SIP send");
                false
            }
        }
    }

    /// A flow's binding in NATs between us and the peer is held, or no longer.
    pub(super) fn keep_alive(&mut self, now: Instant, rng: &mut StdRng, flow: Flow, on: bool) {
        if on {
            self.reminders.entry(flow).or_insert_with(|| next(now, rng));
        } else {
            self.reminders.remove(&flow);
        }
    }

    /// When [`Sip::handle_timeout`] is wanted.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.reminders.values().copied().chain([self.sweep_at]).min().unwrap_or(self.sweep_at)
    }

    /// Whether it is time to say which connections are in use.
    pub(super) fn wants_sweep(&self, now: Instant) -> bool {
        now >= self.sweep_at
    }

    /// Closes what nothing uses.
    pub(super) fn sweep(&mut self, now: Instant, is_used: impl Fn(Flow) -> bool) {
        self.sweep_at = now + SWEEP;
        self.connections.sweep(now, is_used);
    }

    /// Sends the keep-alives that are due: a double CRLF, which every SIP peer passes over (RFC 3261 section 7.5).
    pub(super) fn handle_timeout(&mut self, now: Instant, rng: &mut StdRng) {
        let due = |(flow, at): (&Flow, &Instant)| (*at <= now).then_some(*flow);
        let due: Vec<Flow> = self.reminders.iter().filter_map(due).collect();
        for flow in due {
            self.send_datagram(flow, b"\r\n\r\n");
            self.reminders.insert(flow, next(now, rng));
        }
    }
}

fn next(now: Instant, rng: &mut StdRng) -> Instant {
    now + REMIND.mul_f64(rng.random_range(0.8..=1.0))
}
