//! What all sessions share: the transaction layer, the requests under way, identities, and the way to a peer.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::auth::Answered;
use super::capabilities;
use super::large::Large;
use super::out_of_dialog::RequestId;
use super::types::{Body, SessionId, UaConfig, UaError, UaEvent, UaOutput};
use crate::sip::schedule::Schedule;
use crate::sip::transaction::{ClientId, MAGIC_COOKIE, ServerId, Transactions, earlier};
use crate::sip::{
    Credentials, Dialog, Flow, Headers, Host, Method, NameAddr, Params, Request, Response, Transport, Uri,
    default_reason,
};

/// How many ended dialogs are remembered, to say 603 of them and not 481 (RFC 3891 section 3).
const MAX_ENDED: usize = 256;

/// What a request of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Invite,
    Cancel,
    Bye,
    Reinvite,
    Update,
    Prack,
    Info,
    Refer,
    Notify,
    /// Outside of any dialog.
    Outside(RequestId),
}

/// The ACK of one 2xx, repeated when the 2xx is.
#[derive(Debug)]
pub(super) struct SentAck {
    pub(super) to_tag: String,
    pub(super) flow: Flow,
    pub(super) bytes: Vec<u8>,
}

/// A request of ours, for as long as its transaction lives.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) purpose: Purpose,
    /// `None`: nobody waits for the answer (the BYE of a further fork).
    pub(super) session: Option<SessionId>,
    pub(super) request: Request,
    pub(super) flow: Flow,
    pub(super) branch: String,
    pub(super) credentials: Option<Credentials>,
    pub(super) answered: Answered,
    /// How often it was sent again with something else left out or changed (420, 422).
    pub(super) amended: u8,
    /// The dialog of a re-INVITE; an INVITE that begins a dialog has none.
    pub(super) dialog: Option<Dialog>,
    pub(super) acks: Vec<SentAck>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: UaConfig,
    pub(super) rng: StdRng,
    pub(super) layer: Transactions,
    pub(super) out: VecDeque<UaOutput>,
    pub(super) pending: BTreeMap<ClientId, Pending>,
    pub(super) large: Large,
    /// The dialogs that ended last, oldest first: Call-ID, our tag, the peer's.
    pub(super) ended: VecDeque<(String, String, String)>,
    /// Re-INVITEs that their session has left behind: their transaction has no timer of its own once a provisional
    /// response has come, so it gets one here.
    forsaken: Schedule<ClientId>,
}

impl Core {
    pub(super) fn new(config: UaConfig, seed: [u8; 32]) -> Self {
        Core {
            rng: StdRng::from_seed(seed),
            layer: Transactions::new(config.timers, config.max_transactions),
            out: VecDeque::new(),
            pending: BTreeMap::new(),
            large: Large::default(),
            ended: VecDeque::new(),
            forsaken: Schedule::new(),
            config,
        }
    }

    pub(super) fn event(&mut self, event: UaEvent) {
        self.out.push_back(UaOutput::Event(event));
    }

    /// This dialog has ended.
    pub(super) fn remember(&mut self, dialog: &Dialog) {
        if self.ended.len() >= MAX_ENDED {
            self.ended.pop_front();
        }
        let tags = (dialog.local_tag().to_owned(), dialog.remote_tag().to_owned());
        self.ended.push_back((dialog.call_id().to_owned(), tags.0, tags.1));
    }

    /// A tag, or the random part of a branch: 64 bits.
    pub(super) fn token(&mut self) -> String {
        format!("{:016x}", self.rng.next_u64())
    }

    /// Sends a request over a new transaction, with a fresh branch.
    pub(super) fn send(&mut self, now: Instant, mut pending: Pending) -> ClientId {
        pending.branch = format!("{MAGIC_COOKIE}{}", self.token());
        let via = self.via(pending.flow, &pending.branch);
        pending.request.headers.remove("Via");
        pending.request.headers.push_front("Via", via);
        let Some(tcp) = self.way_by_tcp(now, pending.flow, &pending.request) else { return self.start(now, pending) };
        let udp = std::mem::replace(&mut pending.flow, tcp);
        let via = self.via(tcp, &pending.branch);
        pending.request.headers.set("Via", via);
        let id = self.start(now, pending);
        self.large.switched(id, udp);
        id
    }

    /// Sends a request that has its Via already.
    pub(super) fn start(&mut self, now: Instant, pending: Pending) -> ClientId {
        let id = self.layer.request(now, pending.flow, &pending.branch, pending.request.clone());
        self.pending.insert(id, pending);
        id
    }

    /// Sends an ACK for a 2xx and gives what is to be sent again when the 2xx is repeated.
    pub(super) fn send_ack(&mut self, to_tag: &str, flow: Flow, mut ack: Request) -> SentAck {
        let branch = format!("{MAGIC_COOKIE}{}", self.token());
        let via = self.via(flow, &branch);
        ack.headers.push_front("Via", via);
        self.sign(&mut ack.headers, "User-Agent");
        let bytes = ack.to_bytes();
        self.layer.send(flow, bytes.clone());
        SentAck { to_tag: to_tag.to_owned(), flow, bytes }
    }

    /// The session of this INVITE ends: a final response is waited for no longer than 64*T1, to acknowledge it.
    pub(super) fn forsake(&mut self, now: Instant, id: ClientId) {
        if self.pending.contains_key(&id) {
            self.forsaken.set(id, Some(now + self.config.timers.give_up()));
        }
    }

    /// A final response has come after all: the transaction ends by itself.
    pub(super) fn unforsake(&mut self, id: ClientId) {
        self.forsaken.set(id, None);
    }

    /// A transaction is over.
    pub(super) fn forget(&mut self, id: ClientId) {
        self.forsaken.set(id, None);
        self.large.came_over(id);
        self.pending.remove(&id);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.layer.handle_timeout(now);
        while let Some(id) = self.forsaken.pop_due(now) {
            self.layer.abandon(id);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.layer.poll_timeout(), self.forsaken.next())
    }

    /// Answers with a bare status.
    pub(super) fn refuse(&mut self, now: Instant, server: ServerId, request: &Request, status: u16) {
        let response = self.response(request, status);
        self.layer.respond(now, server, response);
    }

    /// A response with its To-tag and our name: section 8.2.6.2.
    pub(super) fn response(&mut self, request: &Request, status: u16) -> Response {
        let tag = self.token();
        self.tagged_response(request, status, default_reason(status), &tag)
    }

    /// A response of a dialog or of one to be.
    pub(super) fn tagged_response(&self, request: &Request, status: u16, reason: &str, tag: &str) -> Response {
        let mut response = request.response(status, reason);
        if status > 100
            && let Ok(to) = response.headers.to()
            && to.tag().is_none()
        {
            response.headers.set("To", to.with_tag(tag).to_string());
        }
        self.sign(&mut response.headers, "Server");
        response
    }

    /// Adds the product name.
    pub(super) fn sign(&self, headers: &mut Headers, name: &str) {
        if !self.config.user_agent.is_empty() {
            headers.push(name, self.config.user_agent.clone());
        }
    }

    /// Our Contact as seen over `flow`.
    pub(super) fn contact(&self, flow: Flow, user: Option<&str>) -> Result<NameAddr, UaError> {
        let (host, port) = self.advertised(flow);
        let mut uri = Uri::sip(user, host, Some(port)).map_err(|_| UaError::Header { name: "Contact".to_owned() })?;
        if flow.transport != Transport::Udp {
            uri.params.set("transport", Some(flow.transport.uri_name()));
        }
        Ok(NameAddr { display: None, uri, params: Params::default() })
    }

    fn advertised(&self, flow: Flow) -> (Host, u16) {
        let same = |a: &&super::types::Advertised| a.transport == flow.transport;
        let exact = self.config.advertise.iter().filter(same).find(|a| a.local == flow.local);
        // A connection that we opened leaves from a port of its own: peers reach us at the listener of that address.
        let near = || self.config.advertise.iter().filter(same).find(|a| a.local.ip() == flow.local.ip());
        match exact.or_else(near) {
            Some(found) => (found.host.clone(), found.port),
            None => (Host::from(flow.local.ip()), flow.local.port()),
        }
    }

    fn via(&self, flow: Flow, branch: &str) -> String {
        let (host, port) = self.advertised(flow);
        // RFC 5923 section 8: what the peer has for us may take the connection that we open.
        let alias = if flow.id == 0 && flow.transport.is_reliable() { ";alias" } else { "" };
        format!("SIP/2.0/{} {host}:{port};branch={branch};rport{alias}", flow.transport.via_name())
    }
}

/// Where a request inside a dialog goes: over the dialog's own connection, or for datagrams to the address in the next
/// hop's URI. A name (RFC 7118 has only names) means the flow, as no name is looked up here.
pub(super) fn next_flow(flow: Flow, next_hop: &Uri) -> Flow {
    match next_address(flow, next_hop) {
        Some(remote) if flow.transport == Transport::Udp => Flow { remote, ..flow },
        _ => flow,
    }
}

/// The same once the dialog's connection is gone: a new one to the next hop. The peer's end of the old one was often a
/// port that nobody listens on, so beside a name it is only its address that is of use.
pub(super) fn next_flow_anew(flow: Flow, next_hop: &Uri) -> Flow {
    let port = next_hop.port.unwrap_or(flow.transport.default_port());
    let remote = next_address(flow, next_hop).unwrap_or(SocketAddr::new(flow.remote.ip(), port));
    Flow { id: 0, remote, ..flow }
}

/// The address in a next hop's URI, if it has one of our address family.
fn next_address(flow: Flow, next_hop: &Uri) -> Option<SocketAddr> {
    let ip = address_of(next_hop)?;
    let port = next_hop.port.unwrap_or(flow.transport.default_port());
    (ip.is_ipv4() == flow.local.is_ipv4()).then_some(SocketAddr::new(ip, port))
}

/// The address that a URI has for a host; none for a name.
pub(super) fn address_of(uri: &Uri) -> Option<IpAddr> {
    match &uri.host {
        Host::V4(ip) => Some(IpAddr::V4(*ip)),
        Host::V6(ip) => Some(IpAddr::V6(*ip).to_canonical()),
        Host::Name(_) => None,
    }
}

/// The body of a message, if it has one.
pub(super) fn body_of(headers: &Headers, bytes: &[u8]) -> Option<Body> {
    if bytes.is_empty() {
        return None;
    }
    let content_type = headers.content_type().unwrap_or("application/octet-stream").to_owned();
    Some(Body { content_type, bytes: bytes.to_vec() })
}

/// Puts a body into a request.
pub(super) fn put_body(request: &mut Request, body: Option<Body>) {
    if let Some(body) = body {
        request.headers.push("Content-Type", body.content_type);
        request.body = body.bytes;
    }
}

/// Makes a response one that sets up or refreshes a dialog: Contact, Allow, body; `timer`: the session may have one.
pub(super) fn furnish(response: &mut Response, contact: &NameAddr, timer: bool, body: Option<Body>) {
    response.headers.push("Contact", contact.to_string());
    capabilities::declare_in_session(&mut response.headers, false, timer);
    if let Some(body) = body {
        response.headers.push("Content-Type", body.content_type);
        response.body = body.bytes;
    }
}

/// The Reason header of a message (RFC 3326).
pub(super) fn reason_of(headers: &Headers) -> Option<String> {
    headers.get("Reason").map(str::to_owned)
}

/// True for text that may stand in a header field.
pub(super) fn is_clean(text: &str) -> bool {
    !text.contains(['\r', '\n', '\0'])
}

/// A request inside a dialog, ready for [`Core::send`].
pub(super) fn in_dialog(
    purpose: Purpose,
    session: Option<SessionId>,
    flow: Flow,
    request: Request,
    credentials: Option<Credentials>,
) -> Pending {
    debug_assert!(request.method != Method::Ack);
    Pending {
        purpose,
        session,
        request,
        flow,
        branch: String::new(),
        credentials,
        answered: Answered::default(),
        amended: 0,
        dialog: None,
        acks: Vec::new(),
    }
}
