//! The transaction layer: [RFC 3261 section 17](https://www.rfc-editor.org/rfc/rfc3261#section-17), corrected by
//! [RFC 6026](https://www.rfc-editor.org/rfc/rfc6026).
//!
//! Four machines, each in its own file, and [`Transactions`], which finds the machine for a message, runs its timers
//! and tells the user above what is new. Retransmissions end here.

mod invite_client;
mod invite_server;
mod matching;
mod non_invite_client;
mod non_invite_server;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

pub use invite_client::InviteClient;
pub use invite_server::InviteServer;
pub use matching::MAGIC_COOKIE;
pub use non_invite_client::NonInviteClient;
pub use non_invite_server::NonInviteServer;
pub(crate) use timers::earlier;
pub use timers::{Backoff, Context, Timer, Timers};

use super::schedule::Schedule;
use super::{Flow, Host, Message, Method, Request, Response, Transport};
use matching::{ClientKey, Head, MergeKey, ServerKey};

/// What happens to a client machine.
#[derive(Debug)]
pub enum ClientEvent {
    /// A response with its branch has come.
    Response(Response),
    /// A timer may have fired.
    Timeout,
    /// What it sent could not be delivered.
    TransportFailure,
}

/// What a client machine wants done.
#[derive(Debug)]
pub enum ClientAction {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Hand this response to the user.
    Deliver(Response),
    /// Timer B or F fired: tell the user.
    TimedOut,
    /// Tell the user that the transport failed.
    TransportFailed,
}

/// What happens to a server machine.
#[derive(Debug)]
pub enum ServerEvent {
    /// The request came again.
    Retransmission,
    /// An ACK with its branch has come.
    Ack(Request),
    /// The user answers.
    Respond(Response),
    /// A timer may have fired.
    Timeout,
    /// What it sent could not be delivered.
    TransportFailure,
}

/// What a server machine wants done.
// Made and taken apart at once: boxing would cost more than moving.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum ServerAction {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Hand this ACK to the user.
    Ack(Request),
    /// Timer H fired: no ACK came for a refusal.
    NoAck,
    /// Tell the user that the transport failed.
    TransportFailed,
}

/// A client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

/// A server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(u64);

/// Why a client transaction ended without a final response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFailure {
    /// Timer B or F: the user takes it for a 408 (section 8.1.3.1).
    Timeout,
    /// The transport failed: the user takes it for a 503.
    Transport,
}

impl ClientFailure {
    /// The status that the user takes it for.
    pub fn status(self) -> u16 {
        match self {
            ClientFailure::Timeout => 408,
            ClientFailure::Transport => 503,
        }
    }
}

/// What the layer has for the world below it and the user above it.
#[derive(Debug)]
pub enum TransactionOutput {
    /// Send these bytes.
    Transmit {
        /// Where to.
        flow: Flow,
        /// A whole message.
        bytes: Vec<u8>,
    },
    /// A new request.
    Request {
        /// Its transaction.
        id: ServerId,
        /// The request, `received` and `rport` filled in.
        request: Request,
        /// Where its answers go.
        flow: Flow,
        /// For a CANCEL: the INVITE it means, whether that has been answered or not.
        cancels: Option<ServerId>,
    },
    /// An ACK that belongs to a 2xx.
    Ack {
        /// The ACK.
        request: Request,
    },
    /// A response to one of our requests.
    Response {
        /// Its transaction.
        id: ClientId,
        /// The response; more than one 2xx may come for an INVITE.
        response: Response,
        /// Where it came from.
        source: IpAddr,
    },
    /// One of our requests ended without a final response.
    ClientFailed {
        /// Its transaction.
        id: ClientId,
        /// Why.
        why: ClientFailure,
    },
    /// A response of ours could not be delivered.
    ServerFailed {
        /// Its transaction.
        id: ServerId,
    },
    /// A client transaction is over: its id means nothing any more.
    ClientGone {
        /// Which.
        id: ClientId,
    },
}

// One per transaction, in place in the map.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
enum ClientMachine {
    Invite(InviteClient),
    Other(NonInviteClient),
}

#[derive(Debug)]
enum ServerMachine {
    Invite(InviteServer),
    Other(NonInviteServer),
}

#[derive(Debug)]
struct Client {
    machine: ClientMachine,
    key: ClientKey,
    flow: Flow,
    context: Context,
}

#[derive(Debug)]
struct Server {
    machine: ServerMachine,
    key: ServerKey,
    merge: Option<MergeKey>,
    flow: Flow,
    /// The port in the Via, where a stream's answers go once its connection is gone.
    reply_port: u16,
    context: Context,
}

impl Server {
    /// Section 18.2.2: what is still to be said goes over a new connection, to the port in the Via.
    fn leave_connection(&mut self) {
        let remote = SocketAddr::new(self.flow.remote.ip(), self.reply_port);
        self.flow = Flow { id: 0, remote, ..self.flow };
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Client(ClientId),
    Server(ServerId),
}

/// All transactions of one user agent. After every call, [`Transactions::poll_output`] until it is dry.
#[derive(Debug)]
pub struct Transactions {
    timers: Timers,
    limit: usize,
    next_id: u64,
    clients: BTreeMap<ClientId, Client>,
    servers: BTreeMap<ServerId, Server>,
    by_branch: BTreeMap<ClientKey, ClientId>,
    by_request: BTreeMap<ServerKey, ServerId>,
    merges: BTreeMap<MergeKey, ServerId>,
    schedule: Schedule<Id>,
    out: VecDeque<TransactionOutput>,
}

impl Transactions {
    /// No transactions yet. At most `limit` are kept; beyond it new requests of peers are refused with 503, those inside
    /// dialogs and CANCEL beyond a quarter more.
    pub fn new(timers: Timers, limit: usize) -> Self {
        Transactions {
            timers,
            limit,
            next_id: 0,
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            by_branch: BTreeMap::new(),
            by_request: BTreeMap::new(),
            merges: BTreeMap::new(),
            schedule: Schedule::new(),
            out: VecDeque::new(),
        }
    }

    /// At most so many are kept from now on; those that live are not touched.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How many transactions live.
    pub fn len(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    /// True when none lives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when no further one should be begun for a new call.
    pub fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<TransactionOutput> {
        self.out.pop_front()
    }

    /// When [`Transactions::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.schedule.next()
    }

    /// Runs every timer that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(id) = self.schedule.pop_due(now) {
            match id {
                Id::Client(id) => self.tell_client(now, id, ClientEvent::Timeout),
                Id::Server(id) => self.step_server(now, id, ServerEvent::Timeout),
            }
        }
    }

    /// A message has come.
    pub fn receive(&mut self, now: Instant, flow: Flow, message: Message) {
        match message {
            Message::Request(request) => self.receive_request(now, flow, request),
            // RFC 6026 section 7.2: a response that matches nothing is dropped.
            Message::Response(response) => {
                if let Some(id) = ClientKey::of_response(&response).and_then(|key| self.by_branch.get(&key).copied()) {
                    self.step_client(now, id, ClientEvent::Response(response), flow.remote.ip());
                }
            }
        }
    }

    /// A transport says that what was sent over `flow` did not or will not arrive.
    pub fn transport_failed(&mut self, now: Instant, flow: Flow) {
        // An id of 0 stands for whichever connection to that address there was.
        let hit = |other: Flow| {
            let same_connection = other.id == flow.id || other.id == 0 || flow.id == 0;
            other.transport == flow.transport && other.remote == flow.remote && same_connection
        };
        let clients: Vec<_> = self.clients.iter().filter(|(_, c)| hit(c.flow)).map(|(id, _)| *id).collect();
        let servers: Vec<_> = self.servers.iter().filter(|(_, s)| hit(s.flow)).map(|(id, _)| *id).collect();
        for id in clients {
            self.tell_client(now, id, ClientEvent::TransportFailure);
        }
        for id in servers {
            if let Some(server) = self.servers.get_mut(&id).filter(|server| server.context.reliable) {
                server.leave_connection();
            }
            self.step_server(now, id, ServerEvent::TransportFailure);
        }
    }

    /// The peer has closed the connection of `flow` in good order: nothing has failed, but answers need a new one.
    pub fn connection_closed(&mut self, flow: Flow) {
        for server in self.servers.values_mut().filter(|server| flow.id != 0 && server.flow.id == flow.id) {
            server.leave_connection();
        }
    }

    /// Sends a request whose top Via carries `branch` over a new client transaction. Never used for ACK.
    ///
    /// The branch is fresh, except that a CANCEL has its INVITE's.
    pub fn request(&mut self, now: Instant, flow: Flow, branch: &str, request: Request) -> ClientId {
        let key = ClientKey::new(branch, &request.method);
        let context = Context { timers: self.timers, reliable: flow.transport.is_reliable() };
        let id = ClientId(self.take_id());
        let mut actions = Vec::new();
        let machine = if request.method == Method::Invite {
            ClientMachine::Invite(InviteClient::start(now, &context, request, &mut actions))
        } else {
            ClientMachine::Other(NonInviteClient::start(now, &context, &request, &mut actions))
        };
        self.by_branch.insert(key.clone(), id);
        self.clients.insert(id, Client { machine, key, flow, context });
        self.after_client(id, flow, actions, flow.remote.ip());
        id
    }

    /// Sends a message outside of any transaction: the ACK of a 2xx.
    pub fn send(&mut self, flow: Flow, bytes: Vec<u8>) {
        self.out.push_back(TransactionOutput::Transmit { flow, bytes });
    }

    /// Answers a request.
    pub fn respond(&mut self, now: Instant, id: ServerId, response: Response) {
        self.step_server(now, id, ServerEvent::Respond(response));
    }

    /// Ends a client transaction at once: an INVITE that was cancelled and never answered (section 9.1).
    pub fn abandon(&mut self, id: ClientId) {
        if let Some(client) = self.clients.remove(&id) {
            self.drop_client(id, &client.key);
        }
    }

    /// The INVITE that a CANCEL means (section 9.2), answered or not.
    fn cancelled_by(&self, request: &Request, head: &Head) -> Option<ServerId> {
        if request.method != Method::Cancel {
            return None;
        }
        self.by_request.get(&ServerKey::of_cancelled(head)).copied()
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn receive_request(&mut self, now: Instant, flow: Flow, mut request: Request) {
        let head = match Head::read(&request) {
            Ok(head) => head,
            Err(_) => return self.refuse(flow, request, 400),
        };
        if head.cseq.method != request.method {
            return self.refuse(flow, request, 400);
        }
        let key = ServerKey::of(&request, &head);
        if let Some(&id) = self.by_request.get(&key) {
            let event = match request.method {
                Method::Ack => ServerEvent::Ack(request),
                _ => ServerEvent::Retransmission,
            };
            return self.step_server(now, id, event);
        }
        if request.method == Method::Ack {
            return self.out.push_back(TransactionOutput::Ack { request });
        }
        let merge = MergeKey::of(&request, &head);
        if merge.as_ref().is_some_and(|merge| self.merges.contains_key(merge)) {
            return self.refuse(flow, request, 482);
        }
        // What belongs to a call that stands, or ends one, has room of its own: refusing a BYE would make overload worse.
        let ongoing = head.to.tag().is_some() || request.method == Method::Cancel;
        let limit = match request.method {
            // Anybody may send one, with a To-tag too: a flood of them must leave room for calls.
            Method::Register => self.limit.div_ceil(2),
            _ if ongoing => self.limit.saturating_add(self.limit / 4 + 1),
            _ => self.limit,
        };
        if self.len() >= limit {
            return self.refuse(flow, request, 503);
        }
        let cancels = self.cancelled_by(&request, &head);
        let flow = mark_source(&mut request, flow).unwrap_or(flow);
        let reply_port = head.via.port.unwrap_or(flow.transport.default_port());
        let id = self.begin_server(key, merge, flow, reply_port, &request.method);
        self.out.push_back(TransactionOutput::Request { id, request, flow, cancels });
    }

    fn begin_server(
        &mut self,
        key: ServerKey,
        merge: Option<MergeKey>,
        flow: Flow,
        reply_port: u16,
        method: &Method,
    ) -> ServerId {
        let id = ServerId(self.take_id());
        let machine = if *method == Method::Invite {
            ServerMachine::Invite(InviteServer::start())
        } else {
            ServerMachine::Other(NonInviteServer::start())
        };
        let context = Context { timers: self.timers, reliable: flow.transport.is_reliable() };
        self.by_request.insert(key.clone(), id);
        if let Some(merge) = &merge {
            self.merges.insert(merge.clone(), id);
        }
        self.servers.insert(id, Server { machine, key, merge, flow, reply_port, context });
        id
    }

    /// Answers without keeping anything (section 8.2.7), where there is enough of a Via to answer to.
    pub fn refuse(&mut self, flow: Flow, mut request: Request, status: u16) {
        if request.method == Method::Ack {
            return;
        }
        let Some(flow) = mark_source(&mut request, flow) else { return };
        let mut response = request.response(status, super::default_reason(status));
        // Section 8.2.7 wants the same To-tag for each retransmission. The peer's own branch is one that no state has to keep.
        if let (Ok(to), Ok(via)) = (response.headers.to(), request.headers.top_via())
            && to.tag().is_none()
        {
            let tag: String = via.branch().unwrap_or("0").chars().filter(char::is_ascii_alphanumeric).collect();
            response.headers.set("To", to.with_tag(&format!("s{tag}")).to_string());
        }
        if status == 503 {
            response.headers.push("Retry-After", "5");
        }
        self.out.push_back(TransactionOutput::Transmit { flow, bytes: response.to_bytes() });
    }

    /// A step that no message of the peer's makes.
    fn tell_client(&mut self, now: Instant, id: ClientId, event: ClientEvent) {
        if let Some(source) = self.clients.get(&id).map(|client| client.flow.remote.ip()) {
            self.step_client(now, id, event, source);
        }
    }

    fn step_client(&mut self, now: Instant, id: ClientId, event: ClientEvent, source: IpAddr) {
        let Some(client) = self.clients.remove(&id) else { return };
        let Client { machine, key, flow, context } = client;
        let mut actions = Vec::new();
        let machine = match machine {
            ClientMachine::Invite(machine) => ClientMachine::Invite(machine.handle(now, &context, event, &mut actions)),
            ClientMachine::Other(machine) => ClientMachine::Other(machine.handle(now, &context, event, &mut actions)),
        };
        self.clients.insert(id, Client { machine, key, flow, context });
        self.after_client(id, flow, actions, source);
    }

    fn after_client(&mut self, id: ClientId, flow: Flow, actions: Vec<ClientAction>, source: IpAddr) {
        for action in actions {
            self.out.push_back(match action {
                ClientAction::Send(bytes) => TransactionOutput::Transmit { flow, bytes },
                ClientAction::Deliver(response) => TransactionOutput::Response { id, response, source },
                ClientAction::TimedOut => TransactionOutput::ClientFailed { id, why: ClientFailure::Timeout },
                ClientAction::TransportFailed => TransactionOutput::ClientFailed { id, why: ClientFailure::Transport },
            });
        }
        let Some(client) = self.clients.get(&id) else { return };
        let (over, timeout) = match &client.machine {
            ClientMachine::Invite(machine) => (machine.is_terminated(), machine.poll_timeout()),
            ClientMachine::Other(machine) => (machine.is_terminated(), machine.poll_timeout()),
        };
        self.schedule.set(Id::Client(id), timeout);
        if over {
            self.abandon(id);
        }
    }

    fn drop_client(&mut self, id: ClientId, key: &ClientKey) {
        self.by_branch.remove(key);
        self.schedule.set(Id::Client(id), None);
        self.out.push_back(TransactionOutput::ClientGone { id });
    }

    fn step_server(&mut self, now: Instant, id: ServerId, event: ServerEvent) {
        let Some(server) = self.servers.remove(&id) else { return };
        let Server { machine, key, merge, flow, reply_port, context } = server;
        let mut actions = Vec::new();
        let machine = match machine {
            ServerMachine::Invite(machine) => ServerMachine::Invite(machine.handle(now, &context, event, &mut actions)),
            ServerMachine::Other(machine) => ServerMachine::Other(machine.handle(now, &context, event, &mut actions)),
        };
        for action in actions {
            match action {
                ServerAction::Send(bytes) => self.out.push_back(TransactionOutput::Transmit { flow, bytes }),
                ServerAction::Ack(request) => self.out.push_back(TransactionOutput::Ack { request }),
                ServerAction::TransportFailed => self.out.push_back(TransactionOutput::ServerFailed { id }),
                // The call was refused and is forgotten: a caller who never acknowledges changes nothing.
                ServerAction::NoAck => {}
            }
        }
        let (over, timeout) = match &machine {
            ServerMachine::Invite(machine) => (machine.is_terminated(), machine.poll_timeout()),
            ServerMachine::Other(machine) => (machine.is_terminated(), machine.poll_timeout()),
        };
        self.schedule.set(Id::Server(id), timeout);
        if over {
            self.by_request.remove(&key);
            if let Some(merge) = &merge {
                self.merges.remove(merge);
            }
        } else {
            self.servers.insert(id, Server { machine, key, merge, flow, reply_port, context });
        }
    }
}

/// Writes into the top Via where the request really came from
/// ([RFC 3261 section 18.2.1](https://www.rfc-editor.org/rfc/rfc3261#section-18.2.1),
/// [RFC 3581 section 4](https://www.rfc-editor.org/rfc/rfc3581#section-4)), and gives the flow that its answers take:
/// for datagrams the source address with `rport`, or the port in the Via; for streams the connection itself.
/// `None` if there is no Via to answer to.
fn mark_source(request: &mut Request, flow: Flow) -> Option<Flow> {
    let mut top = request.headers.top_via().ok()?;
    let source = flow.remote;
    let wants_rport = top.params.get("rport").is_some();
    let same_host = match &top.host {
        Host::V4(ip) => IpAddr::V4(*ip) == source.ip(),
        Host::V6(ip) => IpAddr::V6(*ip) == source.ip(),
        Host::Name(_) => false,
    };
    if !same_host || wants_rport {
        top.params.set("received", Some(&source.ip().to_string()));
    }
    if wants_rport {
        top.params.set("rport", Some(&source.port().to_string()));
    }
    let port = if wants_rport { source.port() } else { top.port.unwrap_or(flow.transport.default_port()) };
    request.headers.replace_first("Via", &top.to_string());
    match flow.transport {
        Transport::Udp => Some(Flow { remote: SocketAddr::new(source.ip(), port), ..flow }),
        _ => Some(flow),
    }
}
