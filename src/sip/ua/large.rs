//! Requests that are too large for a datagram: [RFC 3261 section
//! 18.1.1](https://www.rfc-editor.org/rfc/rfc3261#section-18.1.1). They go over TCP, and over UDP after all where the peer
//! has no TCP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::UserAgent;
use super::core::Core;
use crate::sip::transaction::{ClientFailure, ClientId};
use crate::sip::{Flow, Request, Transport};

/// The length above which TCP is taken where the path's MTU is unknown: 200 below Ethernet's.
const MOST: usize = 1300;
/// How long a peer that refused TCP is not asked again.
const REMEMBERED: Duration = Duration::from_secs(600);
/// How many such peers are remembered.
const PEERS: usize = 256;

/// Who has no TCP, and what went over it for its size alone.
#[derive(Debug, Default)]
pub(super) struct Large {
    udp_only: BTreeSet<SocketAddr>,
    refused: BTreeMap<SocketAddr, Instant>,
    /// The UDP flow that a request would have gone over, until its first response.
    switched: BTreeMap<ClientId, Flow>,
}

impl Large {
    /// The request has an answer, or is over: it came over.
    pub(super) fn came_over(&mut self, id: ClientId) {
        self.switched.remove(&id);
    }

    pub(super) fn switched(&mut self, id: ClientId, from: Flow) {
        self.switched.insert(id, from);
    }

    fn refused(&mut self, now: Instant, peer: SocketAddr) {
        self.refused.retain(|_, until| *until > now);
        if self.refused.len() >= PEERS {
            self.refused.pop_first();
        }
        self.refused.insert(peer, now + REMEMBERED);
    }

    fn takes_tcp(&self, now: Instant, peer: SocketAddr) -> bool {
        !self.udp_only.contains(&peer) && self.refused.get(&peer).is_none_or(|until| *until <= now)
    }
}

impl Core {
    /// The way over TCP for a request that is too large for UDP; `None`: it goes as it was meant to.
    pub(super) fn way_by_tcp(&self, now: Instant, flow: Flow, request: &Request) -> Option<Flow> {
        let fits = flow.transport != Transport::Udp || request.to_bytes().len() <= MOST;
        if fits || !self.large.takes_tcp(now, flow.remote) {
            return None;
        }
        let tcp = self.config.advertise.iter().filter(|a| a.transport == Transport::Tcp);
        let local = tcp.map(|a| a.local).filter(|local| local.is_ipv4() == flow.local.is_ipv4());
        let local = local.min_by_key(|local| local.ip() != flow.local.ip())?;
        Some(Flow { transport: Transport::Tcp, local, id: 0, ..flow })
    }
}

impl UserAgent {
    /// Whether requests to `peer` stay on UDP however large they are.
    pub fn udp_only(&mut self, peer: SocketAddr, on: bool) {
        let large = &mut self.core.large;
        if on {
            large.udp_only.insert(peer);
        } else {
            large.udp_only.remove(&peer);
        }
    }

    /// A request that went over TCP for its size could not be delivered: it goes over UDP. False: it did not.
    pub(super) fn fall_back(&mut self, now: Instant, id: ClientId, why: ClientFailure) -> bool {
        let Some(flow) = self.core.large.switched.remove(&id).filter(|_| why == ClientFailure::Transport) else {
            return false;
        };
        let Some(mut pending) = self.core.pending.remove(&id) else { return false };
        tracing::info!(remote = %flow.remote, "the peer has no TCP for a large request: UDP");
        self.core.large.refused(now, flow.remote);
        pending.flow = flow;
        let session = pending.session;
        let new = self.core.send(now, pending);
        if let Some(session) = session {
            self.step(session, |session, core| session.retried(core, now, id, new));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::sip::{Advertised, Body, Host, Invite, NameAddr, UaConfig, UaOutput, Uri};

    const US: &str = "192.0.2.9:5060";
    const PEER: &str = "192.0.2.1:5060";

    /// Where virtual time begins.
    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    fn agent() -> UserAgent {
        let listener = |transport| Advertised {
            transport,
            local: US.parse().unwrap(),
            host: Host::from("192.0.2.9".parse::<std::net::IpAddr>().unwrap()),
            port: 5060,
        };
        let config = UaConfig {
            advertise: vec![listener(Transport::Udp), listener(Transport::Tcp)],
            user_agent: String::new(),
            timers: crate::sip::Timers::default(),
            max_sessions: 10,
            max_transactions: 100,
            registrar: false,
        };
        UserAgent::new(config, [3; 32])
    }

    /// Calls with an offer of so many bytes; the way the INVITE took, and its Via.
    fn call(agent: &mut UserAgent, now: Instant, bytes: usize) -> (Flow, String) {
        let uri: Uri = "sip:100@192.0.2.1".parse().unwrap();
        let udp = Flow { transport: Transport::Udp, local: US.parse().unwrap(), remote: PEER.parse().unwrap(), id: 0 };
        let invite = Invite {
            flow: udp,
            request_uri: uri.clone(),
            from: NameAddr::new(uri.clone()),
            to: NameAddr::new(uri),
            contact_user: None,
            headers: Vec::new(),
            body: Some(Body { content_type: "application/sdp".into(), bytes: vec![b'x'; bytes] }),
            credentials: None,
            options: Default::default(),
        };
        agent.invite(now, invite).unwrap();
        sent(agent).expect("an INVITE")
    }

    /// The last message sent, and how.
    fn sent(agent: &mut UserAgent) -> Option<(Flow, String)> {
        let mut last = None;
        while let Some(output) = agent.poll_output() {
            if let UaOutput::Transmit { flow, bytes } = output {
                let text = String::from_utf8(bytes).unwrap();
                let via = text.lines().find(|line| line.starts_with("Via: ")).unwrap_or_default().to_owned();
                last = Some((flow, via));
            }
        }
        last
    }

    #[test]
    fn tcp_above_1300_bytes_and_udp_where_there_is_none() {
        let (mut agent, now) = (agent(), start());
        let (flow, via) = call(&mut agent, now, 100);
        assert!(flow.transport == Transport::Udp && via.starts_with("Via: SIP/2.0/UDP 192.0.2.9:5060;"), "{via}");
        let (flow, large) = call(&mut agent, now, 1300);
        assert!(flow.transport == Transport::Tcp && large.starts_with("Via: SIP/2.0/TCP 192.0.2.9:5060;"), "{large}");
        assert_eq!(flow.remote, PEER.parse().unwrap());
        // The peer refuses: the same request goes over UDP, as a transaction of its own.
        agent.handle_transport_failure(now, flow);
        let (flow, again) = sent(&mut agent).unwrap();
        assert!(flow.transport == Transport::Udp && again.starts_with("Via: SIP/2.0/UDP 192.0.2.9:5060;"), "{again}");
        // That is remembered, and not for ever.
        assert_eq!(call(&mut agent, now, 1300).0.transport, Transport::Udp);
        assert_eq!(call(&mut agent, now + REMEMBERED, 1300).0.transport, Transport::Tcp);
    }

    #[test]
    fn a_trunk_may_be_kept_on_udp() {
        let (mut agent, now) = (agent(), start());
        agent.udp_only(PEER.parse().unwrap(), true);
        assert_eq!(call(&mut agent, now, 5000).0.transport, Transport::Udp);
        agent.udp_only(PEER.parse().unwrap(), false);
        assert_eq!(call(&mut agent, now, 5000).0.transport, Transport::Tcp);
    }
}
