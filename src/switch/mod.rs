//! The signalling plane as one deterministic value: browsers' sessions, trunks, calls, timers.
//!
//! Everything that happens goes in by [`Switch::handle`] and [`Switch::handle_timeout`], with the time; everything to be
//! done comes out by [`Switch::poll_output`]. **Drain rule**: after each of the two, poll until it is dry, then ask
//! [`Switch::poll_timeout`] when to come back. One switch has one SIP user agent.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod absent;
mod asking;
mod browsers;
mod calls;
mod canary;
mod config;
mod directory;
mod io;
mod left;
mod limits;
mod memory;
mod operator;
mod phones;
mod probes;
mod reload;
mod sessions;
mod status;
mod survival;
mod timers;
mod trace;
mod trunks;
mod users;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

pub use crate::call::trunks::{TargetState, Trouble, TrunkFailure, TrunkState};
pub use crate::call::{
    Asserted, CallId, CallView, Cdr, Direction, DtmfMethod, End, FromUser, Identity, Lease, LeaseRefusal, NOTICES,
    Network, NetworkError, Notice, Now, NumberFormat, Phase, Redirects, Refer, ReferIn, Register, SocketId, Trunk,
    TrunkLimits, TrunkTried,
};
pub use canary::Canary;
pub use config::{Auth, EMERGENCY_ROOM, PROBE_ROOM, SwitchConfig, SwitchLimits};
pub use io::{Input, Left, Output};
pub use operator::{Command, Denial, Digits, Hold, Originate, Reply, Transfer, Why};
pub use phones::{PhoneRights, PhonesConfig};
pub use reload::{Reload, Room};
pub use status::{CdrStatus, RegistrarStatus, RegistrationStatus, SoundStatus, Status, StoreStatus, TrunkStatus};
pub use users::{Door, PhoneView, SessionView, UserView};

use crate::call::limits::Ledger;
pub use crate::call::limits::{AccountUse, ClassQuota, LimitTrips, LimitUse, LimitsStatus, Quota, Quotas, Row};
use crate::call::{Call, Cause, Effect, Event, Origin, Probe, Settings, Special, Trunks};
use crate::signal::{IceServer, ServerMessage, Turn};
use crate::sip::{Flow, SessionId, UaConfig, UaOutput, UserAgent};
use phones::Phones;
use sessions::Sessions;
use timers::{Owner, Timers};
use trunks::keeper::Keepers;

/// The signalling plane.
pub struct Switch {
    settings: Settings,
    trunks: Trunks,
    /// What may be called out, and has been.
    ledger: Ledger,
    keepers: Keepers,
    phones: Phones,
    auth: Auth,
    turn: Option<Turn>,
    limits: SwitchLimits,
    hello_timeout: std::time::Duration,
    ua: UserAgent,
    rng: StdRng,
    sessions: Sessions,
    calls: BTreeMap<CallId, Call>,
    /// Those who try the way to us.
    probes: BTreeMap<CallId, Probe>,
    /// The users whose calls to emergency numbers stand.
    emergencies: BTreeMap<CallId, String>,
    /// Whose the user agent's sessions are, until each has closed.
    owners: BTreeMap<SessionId, CallId>,
    timers: Timers,
    effects: Vec<Effect>,
    output: VecDeque<Output>,
    draining: bool,
    /// What [`Input::Busy`] said last, and how many calls were refused for it.
    busy: bool,
    calls_refused_busy: u64,
    idle_told: bool,
    dropped_sip: u64,
    left: left::LeftBehind,
}

/// Who opens a connection to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A trunk, or a party of a call.
    Peer,
    /// Someone who may register.
    Stranger,
    /// Nobody whom we know.
    Refused,
}

/// How much there is of everything, for health checks and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwitchStats {
    /// Sessions of browsers, those that wait for their return among them.
    pub sockets: usize,
    /// Those that wait.
    pub waiting: usize,
    /// Users with a session.
    pub users: usize,
    /// Calls, those that ring and those that release among them.
    pub calls: usize,
    /// Calls in which the parties talk.
    pub established: usize,
    /// Browsers that try the way to us; none of the calls.
    pub probes: usize,
    /// The user agent's sessions.
    pub sip_sessions: usize,
    /// The user agent's transactions.
    pub sip_transactions: usize,
    /// Deadlines of sockets and calls.
    pub timers: usize,
    /// SIP messages dropped since they came from no trunk's address.
    pub dropped_sip: u64,
    /// Calls refused since the media threads had as much to do as they could.
    pub refused_busy: u64,
}

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Switch").field("stats", &self.stats()).field("draining", &self.draining).finish_non_exhaustive()
    }
}

impl Switch {
    /// A switch without sockets and calls.
    pub fn new(config: SwitchConfig) -> Switch {
        let mut rng = StdRng::from_seed(config.seed);
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let limits = config.limits;
        let phone = config.phones.as_ref().map_or_else(|| Trunk::new("phone"), |phones| phones.phone.clone());
        let settings = Settings {
            plan: config.plan,
            phones: Arc::new(phone),
            advertise: config.ua.advertise.clone(),
            fingerprint: config.fingerprint,
            policy: config.policy,
            ringback: limits.ringback,
            digits_to_browser: limits.digits_to_browser,
            plain_numbers: limits.plain_numbers,
            ring_for: limits.ring_for,
            longest_call: limits.longest_call,
            trunk_silence: limits.trunk_silence,
            lease_within: limits.lease_within,
            stats_within: limits.stats_within,
            resume_within: limits.resume_within,
        };
        let trunks = Trunks::new(config.trunks);
        let mut registrar_seed = [0; 32];
        rng.fill_bytes(&mut registrar_seed);
        let ua = UaConfig { registrar: true, ..config.ua };
        let mut ua = UserAgent::new(ua, seed);
        ua.note_dialogs();
        Switch {
            settings,
            keepers: Keepers::new(trunks.iter()),
            trunks,
            ledger: Ledger::new(config.quotas),
            auth: config.auth,
            turn: config.turn,
            limits,
            hello_timeout: config.hello_timeout,
            phones: Phones::new(config.phones, registrar_seed),
            ua,
            rng,
            sessions: Sessions::default(),
            calls: BTreeMap::new(),
            probes: BTreeMap::new(),
            emergencies: BTreeMap::new(),
            owners: BTreeMap::new(),
            timers: Timers::default(),
            effects: Vec::new(),
            output: VecDeque::new(),
            draining: false,
            busy: false,
            calls_refused_busy: 0,
            idle_told: false,
            dropped_sip: 0,
            left: left::LeftBehind::default(),
        }
    }

    /// Takes one thing that happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::SocketOpened { socket, peer, rings } => self.socket_opened(now, socket, peer, rings),
            Input::SocketText { socket, text } => self.socket_text(now, socket, &text),
            Input::SocketClosed { socket, clean } => self.socket_closed(now, socket, clean),
            Input::Sip { flow, bytes } => self.sip(now, flow, &bytes),
            Input::SipClosed { flow } | Input::SipFailed { flow } if flow.transport.is_websocket() => {
                self.ua.handle_websocket_closed(now.instant, flow);
                self.connection_lost(now, flow);
            }
            Input::SipClosed { flow } => {
                self.ua.handle_connection_closed(flow);
                self.connection_lost(now, flow);
            }
            Input::SipFailed { flow } => {
                self.ua.handle_transport_failure(now.instant, flow);
                self.connection_lost(now, flow);
            }
            Input::Leased { call, slot, lease } => self.leased(now, call, slot, lease),
            Input::LeaseFailed { call, slot, reason } => self.call_event(now, call, Event::LeaseRefused(slot, reason)),
            Input::Answered { call, answer } => self.call_event(now, call, Event::Answered(answer)),
            Input::Media { call, report } => self.call_event(now, call, Event::Media(report)),
            Input::Resolved { trunk, result, ttl } => self.resolved(now, &trunk, result, ttl),
            Input::Start => {
                self.start(now);
                self.renew_ice_servers(now);
            }
            Input::LeftBehind { number, left } => self.end_left(now, number, &left),
            Input::Command { number, command } => self.command(now, number, command),
            Input::Reload(new) => self.reload(now, *new),
            Input::Busy(busy) => self.busy = busy,
            Input::Drain => self.drain(now),
            Input::HangupAll => self.hangup_all(now),
        }
        self.settle(now);
    }

    /// Does what is due; early calls are harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.ua.handle_timeout(now.instant);
        self.settle(now);
        while let Some(owner) = self.timers.due(now.instant) {
            match owner {
                Owner::Socket(socket) => self.socket_overdue(now, socket),
                Owner::Call(call) => self.call_event(now, call, Event::Tick),
                Owner::Trunk(at) => self.keep(now, at),
                Owner::Limits => self.limits_due(now),
                Owner::Turn => self.tell_ice_servers(now),
            }
        }
        self.settle(now);
    }

    /// When [`Switch::handle_timeout`] is next to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.ua.poll_timeout(), self.timers.next()].into_iter().flatten().min()
    }

    /// What is to be done next; poll until dry.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    /// Whether new calls are refused by [`Input::Busy`].
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether any trunk takes calls now, or there is none.
    pub fn has_usable_trunk(&self) -> bool {
        self.trunks.any_usable()
    }

    /// Whether a connection from `source` is to be taken.
    pub fn admits(&self, now: Instant, source: IpAddr) -> Admission {
        let in_calls = self.trunks.know(source) || self.ua.knows(source) || self.left.knows(source);
        match () {
            () if in_calls || self.phones.knows(source, now) => Admission::Peer,
            () if self.phones.takes_strangers() => Admission::Stranger,
            () => Admission::Refused,
        }
    }

    /// Tells of connections whether a dialog or a registered phone uses them: such must not be closed for idleness.
    pub fn uses(&self, now: Instant) -> impl Fn(Flow) -> bool {
        // A dialog's flow with the id 0 stands for any connection to its address.
        let dialogs: BTreeSet<Flow> = self.ua.flows().collect();
        move |flow| {
            self.phones.has_phone_at(flow, now) || dialogs.contains(&flow) || dialogs.contains(&Flow { id: 0, ..flow })
        }
    }

    /// How much there is of everything.
    pub fn stats(&self) -> SwitchStats {
        SwitchStats {
            sockets: self.sessions.len(),
            waiting: self.sessions.waiting(),
            users: self.sessions.users(),
            calls: self.calls.len(),
            established: self.calls.values().filter(|call| call.is_established()).count(),
            probes: self.probes.len(),
            sip_sessions: self.ua.session_count(),
            sip_transactions: self.ua.transaction_count(),
            timers: self.timers.len(),
            dropped_sip: self.dropped_sip,
            refused_busy: self.calls_refused_busy,
        }
    }

    /// The limits that hold now.
    pub fn limits(&self) -> &SwitchLimits {
        &self.limits
    }

    /// The STUN and TURN servers that a session of `user` is told of.
    fn ice_servers(&self, user: &str, now: Now) -> Vec<IceServer> {
        self.turn.as_ref().map(|turn| turn.ice_servers(user, now.unix_ms / 1000)).unwrap_or_default()
    }

    /// Everybody who is there is told of the servers anew; who comes back is told by his `welcome`.
    fn tell_ice_servers(&mut self, now: Now) {
        for socket in self.sessions.greeted() {
            let session = self.sessions.get(socket).and_then(|entry| entry.session.as_ref());
            let Some(user) = session.map(|session| session.user.clone()) else { continue };
            let ice_servers = self.ice_servers(&user, now);
            self.tell(socket, &ServerMessage::IceServers { ice_servers });
        }
        self.renew_ice_servers(now);
    }

    fn renew_ice_servers(&mut self, now: Now) {
        let renew = self.turn.as_ref().and_then(|turn| now.instant.checked_add(turn.renew_after()));
        self.timers.set(Owner::Turn, renew);
    }

    fn drain(&mut self, now: Now) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        self.ua.drain(true);
        self.stop_keeping(now);
        for socket in self.sessions.greeted() {
            self.tell(socket, &ServerMessage::Draining {});
        }
    }

    /// Whether no call and no probe is left.
    fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.probes.is_empty() && self.ua.session_count() == 0
    }

    fn hangup_all(&mut self, now: Now) {
        let cause = Cause::special(Origin::Gateway, Special::Shutdown);
        let all: Vec<CallId> = self.calls.keys().chain(self.probes.keys()).copied().collect();
        for call in all {
            self.call_event(now, call, Event::End(cause.clone()));
        }
    }

    /// Carries the user agent's events to the calls until nothing moves any more.
    fn settle(&mut self, now: Now) {
        while let Some(output) = self.ua.poll_output() {
            match output {
                UaOutput::Transmit { flow, bytes } => self.output.push_back(Output::Sip { flow, bytes }),
                UaOutput::Event(event) => self.ua_event(now, event),
            }
        }
        self.note_dialogs();
        self.ask_suspects(now);
        self.let_go();
        if self.draining && self.is_idle() && self.keepers.are_over() && !std::mem::replace(&mut self.idle_told, true) {
            self.let_bindings_go();
            self.output.push_back(Output::Idle);
        }
    }
}
