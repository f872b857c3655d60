//! SIP over streams, TCP and TLS alike: connections accepted from peers and opened to them, one task each
//! ([RFC 3261 section 18](https://www.rfc-editor.org/rfc/rfc3261#section-18)).
//!
//! The driver never waits for a peer: what it sends goes into the connection's bounded outbox, and a peer that does not
//! read loses its connection.

mod accept;
mod open;
mod pump;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

use super::{Event, Tasks};
use crate::net::tls::{TlsClient, TlsServer};
use crate::sip::{Flow, Target, Transport};
use crate::switch::Admission;

pub(super) use accept::accept;
pub(super) use open::{connect, tls_hint};
use pump::Pace;

/// The longest message on a stream.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;
/// Messages that may wait for a slow peer; past it the connection counts as failed.
pub(super) const OUTBOX: usize = 256;

/// Connection ids: never 0, which means "any".
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

pub(super) fn next_id() -> u64 {
    NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed)
}

/// How many connections there may be, and how long anything about them may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Accepted at once, by all listeners together; and opened at once.
    pub(super) connections: usize,
    /// Accepted from peers that are neither a trunk nor a party of a call, in all. A browser is no stranger once it has
    /// registered or has a call.
    pub(super) strangers: usize,
    /// The same from one source: one address, or one /64 of IPv6.
    pub(super) from_one_source: usize,
    /// For opening one, for a TLS handshake, and for one write.
    pub(super) within: Duration,
    /// For a browser to register or to call, from the opening of its WebSocket: then that is closed.
    pub(super) known_within: Duration,
    /// For a message to arrive, from its first byte to its last.
    pub(super) message_within: Duration,
    /// An accepted connection that nothing uses is closed when it has brought no message for so long.
    pub(super) idle: Duration,
    /// How often keep-alives go over connections that we opened: after 80 to 100 % of it (RFC 5626 section 4.4.1).
    pub(super) keep_alive: Duration,
    /// How long the answer to one may take, from a peer that ever gave one.
    pub(super) pong_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 4096,
            strangers: 2048,
            from_one_source: 64,
            within: Duration::from_secs(4),
            known_within: Duration::from_secs(60),
            message_within: Duration::from_secs(20),
            idle: Duration::from_secs(120),
            keep_alive: Duration::from_secs(30),
            pong_within: Duration::from_secs(10),
        }
    }
}

impl Limits {
    fn pace(&self) -> Pace {
        Pace { write_within: self.within, message_within: self.message_within, keep_alive: None }
    }
}

/// One bound listener.
pub(super) struct StreamListener {
    pub(super) local: SocketAddr,
    pub(super) listener: TcpListener,
    /// What the next handshake shows; `None`: TCP without TLS.
    pub(super) tls: Option<watch::Receiver<TlsServer>>,
}

impl StreamListener {
    pub(super) fn transport(&self) -> Transport {
        if self.tls.is_some() { Transport::Tls } else { Transport::Tcp }
    }
}

/// A connection that the driver may write to.
pub(super) struct Connection {
    pub(super) flow: Flow,
    outbox: mpsc::Sender<Vec<u8>>,
    /// We opened it.
    opened: bool,
}

impl Connection {
    /// One that the peer has opened.
    pub(super) fn accepted(flow: Flow, outbox: mpsc::Sender<Vec<u8>>) -> Connection {
        Connection { flow, outbox, opened: false }
    }
}

/// What the driver knows of one.
struct Known {
    connection: Connection,
    admission: Admission,
    /// A browser's: it has registered over it, or called.
    proven: bool,
    since: Instant,
    /// When it last brought a message, or began.
    heard: Instant,
    /// We opened it by TLS and did not ask who the peer is.
    unverified: bool,
}

impl Known {
    fn new(now: Instant, connection: Connection, admission: Admission, unverified: bool) -> Known {
        Known { connection, admission, proven: false, since: now, heard: now, unverified }
    }

    fn is_strangers(&self) -> bool {
        self.admission == Admission::Stranger && !self.proven
    }

    fn is_unproven_browsers(&self) -> bool {
        self.connection.flow.transport.is_websocket() && !self.proven
    }
}

/// How a connection by TLS to one address is made safe.
#[derive(Clone)]
struct TlsPeer {
    trunk: String,
    client: TlsClient,
    server_name: String,
}

/// The driver's side: which connection reaches whom.
pub(super) struct Connections {
    tasks: Tasks,
    limits: Limits,
    by_id: HashMap<u64, Known>,
    /// Where a connection leads: the address it was opened to, or the one by which an accepted one said it is reached
    /// (RFC 5923).
    by_peer: HashMap<(Transport, SocketAddr), u64>,
    /// The trunks' own settings, by name, and what is taken for everybody else.
    clients: HashMap<String, TlsClient>,
    default_client: Option<TlsClient>,
    /// Whose address by TLS it is: of one trunk, or of several that would verify it alike.
    tls_peers: HashMap<SocketAddr, Vec<TlsPeer>>,
    /// The targets of each trunk: connections to them are kept.
    targets: HashMap<String, Vec<(Transport, SocketAddr)>>,
    rng: StdRng,
}

impl Connections {
    pub(super) fn new(
        tasks: Tasks,
        limits: Limits,
        clients: HashMap<String, TlsClient>,
        default_client: Option<TlsClient>,
        seed: [u8; 32],
    ) -> Connections {
        Connections {
            tasks,
            limits,
            by_id: HashMap::new(),
            by_peer: HashMap::new(),
            clients,
            default_client,
            tls_peers: HashMap::new(),
            targets: HashMap::new(),
            rng: StdRng::from_seed(seed),
        }
    }

    /// How trunks are verified from the next connection on, at the addresses that they have. Connections that stand stay,
    /// but for those that were opened without verification where there is one now; those to the addresses of trunks that
    /// are gone are closed when nothing uses them.
    pub(super) fn reload(&mut self, clients: HashMap<String, TlsClient>, is_trunk: impl Fn(&str) -> bool) {
        self.clients = clients;
        self.targets.retain(|trunk, _| is_trunk(trunk));
        self.tls_peers.values_mut().for_each(|peers| peers.retain(|peer| is_trunk(&peer.trunk)));
        self.tls_peers.retain(|_, peers| !peers.is_empty());
        // All of them before the first is looked up again: it would differ from another's old one.
        for peer in self.tls_peers.values_mut().flatten() {
            if let Some(client) = self.clients.get(&peer.trunk).or(self.default_client.as_ref()) {
                peer.client = client.clone();
            }
        }
        let is_verified = |remote| {
            self.tls_peers.get(&remote).and_then(|peers| peers.first()).is_some_and(|peer| peer.client.verifies())
        };
        let known = self.by_id.values().filter(|known| known.unverified && is_verified(known.connection.flow.remote));
        let over: Vec<Flow> = known.map(|known| known.connection.flow).collect();
        for flow in over {
            tracing::info!(remote = %flow.remote, "a TLS connection is closed: its peer was not verified, and is from now on");
            self.closed(flow); // its outbox ends, and with it its task
        }
    }

    /// A peer has connected; `false`: it is not to be let in, and is not kept. `uses` tells which connections are in use, if
    /// that is asked.
    pub(super) fn accepted<U: Fn(Flow) -> bool>(
        &mut self,
        now: Instant,
        connection: Connection,
        admission: Admission,
        uses: impl FnOnce() -> U,
    ) -> bool {
        let source = source_of(connection.flow.remote.ip());
        match admission {
            Admission::Refused => {
                tracing::debug!(remote = %connection.flow.remote, "SIP connection of an unknown address closed");
                return false;
            }
            Admission::Stranger => {
                let limits = self.limits;
                let is_full = |(all, same)| all >= limits.strangers || same >= limits.from_one_source;
                if is_full(self.strangers(source)) {
                    self.recognise(uses());
                }
                let (all, same) = self.strangers(source);
                if is_full((all, same)) {
                    tracing::warn!(remote = %connection.flow.remote, all, same, "too many SIP connections: closed");
                    return false;
                }
            }
            Admission::Peer => {}
        }
        self.by_id.insert(connection.flow.id, Known::new(now, connection, admission, false));
        true
    }

    /// The connections of strangers: all, and those of one source.
    fn strangers(&self, source: IpAddr) -> (usize, usize) {
        let (mut all, mut same) = (0, 0);
        for known in self.by_id.values().filter(|known| known.is_strangers()) {
            all += 1;
            same += usize::from(source_of(known.connection.flow.remote.ip()) == source);
        }
        (all, same)
    }

    /// Browsers that have registered meanwhile, or called, are strangers no more.
    fn recognise(&mut self, is_used: impl Fn(Flow) -> bool) {
        for known in self.by_id.values_mut().filter(|known| known.is_unproven_browsers()) {
            known.proven = is_used(known.connection.flow);
        }
    }

    /// An accepted connection has said where its peer is reached: requests to there take it (RFC 5923 section 8).
    pub(super) fn alias(&mut self, flow: Flow, peer: SocketAddr) {
        let known = self.by_id.get(&flow.id).filter(|known| known.admission == Admission::Peer);
        if known.is_some() && !self.by_peer.contains_key(&(flow.transport, peer)) {
            tracing::debug!(remote = %flow.remote, %peer, "the connection is reused for requests to its peer");
            self.by_peer.insert((flow.transport, peer), flow.id);
        }
    }

    /// A message came over a connection.
    pub(super) fn heard(&mut self, now: Instant, flow: Flow) {
        if let Some(known) = self.by_id.get_mut(&flow.id) {
            known.heard = now;
        }
    }

    pub(super) fn closed(&mut self, flow: Flow) {
        self.by_id.remove(&flow.id);
        self.by_peer.retain(|_, id| *id != flow.id);
    }

    /// Closes the connections that nothing uses any more, and those of browsers that nothing ever has; those to a trunk's
    /// target stay.
    pub(super) fn sweep(&mut self, now: Instant, is_used: impl Fn(Flow) -> bool) {
        self.recognise(&is_used);
        let in_vain = |known: &Known| {
            known.is_unproven_browsers() && now.saturating_duration_since(known.since) >= self.limits.known_within
        };
        let idle = |known: &Known| now.saturating_duration_since(known.heard) >= self.limits.idle || in_vain(known);
        let to_trunk = |known: &Known| {
            let peer = (known.connection.flow.transport, known.connection.flow.remote);
            known.connection.opened && self.targets.values().any(|targets| targets.contains(&peer))
        };
        let over = |known: &Known| {
            let flow = known.connection.flow;
            (idle(known) && !is_used(flow) && !to_trunk(known)).then_some(flow)
        };
        let over: Vec<Flow> = self.by_id.values().filter_map(over).collect();
        for flow in over {
            tracing::debug!(remote = %flow.remote, "an unused SIP connection is closed");
            self.closed(flow); // its outbox ends, and with it its task
        }
    }

    /// A trunk's servers are known. Gives those that cannot be had: another trunk speaks to the same address by TLS and
    /// would verify it otherwise, and one connection cannot be two.
    pub(super) fn resolved<'a>(&mut self, trunk: &str, targets: impl Iterator<Item = &'a Target>) -> Vec<SocketAddr> {
        let targets: Vec<&Target> = targets.collect();
        self.tls_peers.values_mut().for_each(|peers| peers.retain(|peer| peer.trunk != trunk));
        self.tls_peers.retain(|_, peers| !peers.is_empty());
        self.targets.insert(trunk.to_owned(), targets.iter().map(|t| (t.transport, t.remote)).collect());
        let client = self.clients.get(trunk).or(self.default_client.as_ref());
        let mut conflicts = Vec::new();
        for target in targets.into_iter().filter(|target| target.transport == Transport::Tls) {
            let Some(client) = client else {
                tracing::error!(trunk, remote = %target.remote, "no certificates to verify the peer by; see tls_ca");
                conflicts.push(target.remote);
                continue;
            };
            let server_name = target.server_name.clone().unwrap_or_else(|| target.remote.ip().to_string());
            let peer = TlsPeer { trunk: trunk.to_owned(), client: client.clone(), server_name };
            let differs = |other: &&TlsPeer| !other.client.is_as(&peer.client) || other.server_name != peer.server_name;
            let peers = self.tls_peers.entry(target.remote).or_default();
            match peers.iter().find(differs) {
                Some(other) => {
                    tracing::error!(
                        trunk, other = other.trunk, remote = %target.remote,
                        "two trunks reach one address by TLS with different names or keys: this one is left out"
                    );
                    conflicts.push(target.remote);
                }
                None => peers.push(peer),
            }
        }
        conflicts
    }

    /// A trunk that was reached there before may be spoken to there, although its name is not looked up yet; the name is
    /// that of its certificate.
    pub(super) fn expect(&mut self, trunk: &str, remote: SocketAddr, name: Option<&str>) {
        let client = self.clients.get(trunk).or(self.default_client.as_ref());
        if let (Some(client), false) = (client, self.tls_peers.contains_key(&remote)) {
            let server_name = name.map_or_else(|| remote.ip().to_string(), str::to_owned);
            let peer = TlsPeer { trunk: trunk.to_owned(), client: client.clone(), server_name };
            self.tls_peers.insert(remote, vec![peer]);
        }
    }

    /// Sends on the flow's own connection, another one to the same peer, or a new one (RFC 3261 section 18.2.2).
    ///
    /// `false`: it cannot be sent.
    pub(super) fn send(&mut self, now: Instant, flow: Flow, bytes: Vec<u8>) -> bool {
        let known = self.by_id.contains_key(&flow.id).then_some(flow.id);
        let id = match known.or_else(|| self.by_peer.get(&(flow.transport, flow.remote)).copied()) {
            Some(id) => id,
            None => match self.open(now, flow) {
                Some(id) => id,
                None => return false,
            },
        };
        self.by_id.get(&id).is_some_and(|known| known.connection.outbox.try_send(bytes).is_ok())
    }

    fn open(&mut self, now: Instant, wanted: Flow) -> Option<u64> {
        if self.by_id.values().filter(|known| known.connection.opened).count() >= self.limits.connections {
            tracing::error!(remote = %wanted.remote, "too many SIP connections are open");
            return None;
        }
        let tls = match wanted.transport {
            // Nobody but the browser opens these.
            Transport::Ws | Transport::Wss => return None,
            Transport::Tls => Some(self.tls_peer(wanted.remote)?),
            _ => None,
        };
        let unverified = tls.as_ref().is_some_and(|(client, _)| !client.verifies());
        let (outbox, queue) = mpsc::channel(OUTBOX);
        let flow = Flow { id: next_id(), ..wanted };
        let connection = Connection { flow, outbox, opened: true };
        self.by_peer.insert((flow.transport, flow.remote), flow.id);
        self.by_id.insert(flow.id, Known::new(now, connection, Admission::Peer, unverified));
        // RFC 5626 section 4.4.1: drawn for each connection, so that those of one moment do not stay in step.
        let keep_alive = self.limits.keep_alive.mul_f64(self.rng.random_range(0.8..=1.0));
        let task = open::Opening { wanted, flow, queue, tls, limits: self.limits, keep_alive };
        self.tasks.tracker.spawn(task.run(self.tasks.clone()));
        Some(flow.id)
    }

    /// How to verify the server at `remote`: as the trunk wants it whose target it is, or whose target has that address;
    /// anybody else by the system's roots and the address itself.
    fn tls_peer(&self, remote: SocketAddr) -> Option<(TlsClient, String)> {
        // Of several trunks on one host the one that verifies: the wish of another not to is not for this address.
        let same_host = || {
            let there = self.tls_peers.iter().filter(|(known, _)| known.ip() == remote.ip());
            there.flat_map(|(_, peers)| peers).max_by_key(|peer| peer.client.verifies())
        };
        let peer = self.tls_peers.get(&remote).and_then(|peers| peers.first()).or_else(same_host);
        let known = peer.map(|peer| (peer.client.clone(), peer.server_name.clone()));
        known.or_else(|| Some((self.default_client.clone()?, remote.ip().to_string())))
    }
}

/// What counts as one source: an address, or the /64 of an IPv6 one, which is one subscriber's.
fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// The places of accepted connections, of all listeners together.
pub(super) fn places(limits: &Limits) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(limits.connections))
}
