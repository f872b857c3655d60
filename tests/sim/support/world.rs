//! Time, the network, the media path, and the rules that hold after every call.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use ringback::call::{CallId, Cdr, Lease, LeaseRefusal, Now, SocketId};
use ringback::dialplan::{Plan, PlanFile};
use ringback::sdp::{
    CodecPolicy, Fingerprint, MediaCommand, MediaPlan, MediaReport, MediaStats, RtpMedia, RtpSlot, Side,
};
use ringback::signal::ServerMessage;
use ringback::sip::{Flow, Located, ResolveError, SessionId, Target, Timers, Transport, UaConfig};
use ringback::switch::{
    Auth, Command, Input, Left, Notice, Output, Quotas, Reply, Switch, SwitchConfig, SwitchLimits, Trunk,
};
use serde_json::json;

use super::browser::Page;
use super::peer::{Habit, Habits, Peer};
use super::raw::Raw;
use super::sdp::browser_answer;

/// The gateway's SIP address.
pub const GATEWAY: &str = "192.0.2.1:5060";
/// The trunks' addresses; `one` is the first of the plan, `two` the second.
pub const ONE: &str = "192.0.2.9:5060";
pub const TWO: &str = "192.0.2.10:5060";

/// +44300... goes by two tiers, +44302... by trunk two, the names ring their users, +44500... shows no caller, +449... is barred, all else goes by trunk one; of the two
/// numbers that come in one rings alice, the other alice and bob.
pub const PLAN: &str = r#"
[plan]
name = "sim"
default = "deny"
[numbering]
country = "44"
national = "0"
international = ["00", "+"]
short = ["6XX"]
[[out]]
name = "tiers"
prefix = ["+44300"]
tiers = [["one"], ["two"]]
[[out]]
name = "demo"
pattern = "6XX"
tiers = [["one"]]
[[out]]
name = "second"
prefix = ["+44302"]
tiers = [["two"]]
[[out]]
name = "people"
regex = "(alice|bob|carol)"
user = "{1}"
ring_for = "30s"
[[out]]
name = "premium"
prefix = ["+449"]
reject = { code = 403, reason = "Premium numbers are barred" }
[[out]]
name = "secret"
prefix = ["+44500"]
caller_id = { present = "anonymous" }
tiers = [["one"]]
[[out]]
name = "world"
prefix = ["+"]
tiers = [["one"]]
[[in]]
name = "alice"
did = "+442079460100"
ring = { users = ["alice"], how = "all", for = "20s" }
[[in]]
name = "both"
did = "+442079460200"
ring = { users = ["alice", "bob"], how = "all", for = "20s" }
"#;

/// What the network does with one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Arrive,
    Lose,
    Twice,
    /// Arrives so many milliseconds later than others.
    Late(u64),
    /// Stays under way until the test says what becomes of it.
    Hold,
}

/// A packet under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    pub to: SocketAddr,
    pub from: SocketAddr,
    pub bytes: Vec<u8>,
}

enum Thing {
    Packet { to: SocketAddr, from: SocketAddr, bytes: Vec<u8> },
    Habit(SocketAddr, Habit),
    Say(SocketId, String),
    Input(Input),
}

struct Due {
    at: Instant,
    order: u64,
    thing: Thing,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.order == other.order
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// What the media path was told about a call.
#[derive(Debug, Default)]
pub struct MediaPath {
    pub commands: Vec<MediaCommand>,
    /// For whom ports were asked.
    pub peers: Vec<Vec<SocketAddr>>,
    /// Slots that were asked for and not taken back.
    pub leased: BTreeSet<RtpSlot>,
    pub stopped: usize,
}

pub type Network = Box<dyn FnMut(u64, &[u8]) -> Fate>;

pub struct World {
    pub switch: Switch,
    pub now: Instant,
    start: Instant,
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
    /// Packets sent so far.
    pub packets: u64,
    pub network: Network,
    /// Packets whose fate is [`Fate::Hold`], in the order in which they were sent.
    pub held: Vec<Held>,
    /// Every packet as sent, for the story: sender and text.
    pub wire: Vec<(SocketAddr, String)>,
    pub latency_ms: u64,
    pub peers: BTreeMap<SocketAddr, Peer>,
    pub raws: BTreeMap<SocketAddr, Raw>,
    pub pages: BTreeMap<SocketId, Page>,
    pub media: BTreeMap<CallId, MediaPath>,
    pub cdrs: Vec<Cdr>,
    /// What of the calls that stand would be written down, should the gateway be lost.
    pub standing: BTreeMap<String, Cdr>,
    /// Answers to commands, by the number of the command.
    pub replies: BTreeMap<u64, Reply>,
    /// What those are told who watch.
    pub notices: Vec<Notice>,
    pub idle: usize,
    /// How many probes had media: no calls, and not to be written down.
    pub probes: usize,
    /// The dialogs that stand, as they are told.
    pub journal: BTreeMap<SessionId, Left>,
    /// Those left behind that are done with.
    pub left_ended: Vec<usize>,
    /// Those whose BYE was not answered.
    pub left_unreached: Vec<usize>,
    /// The web hooks that were asked: for which call, where, and what.
    pub asked: Vec<(CallId, String, String)>,
    /// What the name servers say of trunks that have a name.
    pub dns: BTreeMap<String, Result<Located, ResolveError>>,
    /// The flows that are to be kept alive.
    pub kept_alive: Vec<Flow>,
    /// `None` refuses every lease.
    pub lease_after: Option<u64>,
    /// How long the media path takes to report its end; `None`: it never does.
    pub stop_after: Option<u64>,
    next_port: u16,
    gone: Vec<SocketId>,
    /// The WebSockets that browsers speak SIP over: where from, and which connection.
    pub websockets: BTreeMap<SocketAddr, u64>,
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// An address behind a trunk.
pub fn target(remote: &str) -> Target {
    Target { transport: Transport::Udp, local: address(GATEWAY), remote: address(remote), server_name: None }
}

fn trunk(name: &str, remote: &str) -> Trunk {
    Trunk { targets: vec![target(remote)], ..Trunk::new(name) }
}

/// The usual configuration.
pub fn config(seed: u8) -> SwitchConfig {
    let files = [PlanFile { name: "sim.toml".into(), text: PLAN.into() }];
    let plan = Plan::load(&files, &["one".into(), "two".into()]).unwrap_or_else(|errors| {
        panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    });
    SwitchConfig {
        trunks: vec![trunk("one", ONE), trunk("two", TWO)],
        phones: None,
        plan: Arc::new(plan),
        fingerprint: Fingerprint { algorithm: "sha-256".into(), digest: vec![7; 32] },
        auth: Auth::Open,
        turn: None,
        ua: UaConfig {
            user_agent: "Ringback".into(),
            timers: Timers::default(),
            max_sessions: 100,
            max_transactions: 1000,
            registrar: false,
            advertise: Vec::new(),
        },
        policy: CodecPolicy::default(),
        limits: SwitchLimits::default(),
        quotas: Quotas::default(),
        hello_timeout: Duration::from_secs(5),
        seed: [seed; 32],
    }
}

impl World {
    /// A gateway with two trunks (true user agents) and nobody in it; the network only delays by 5 ms.
    pub fn new() -> World {
        World::with(config(1))
    }

    pub fn with(config: SwitchConfig) -> World {
        #[allow(clippy::disallowed_methods)] // any instant will do: time is virtual from here
        let now = Instant::now();
        let peers = [ONE, TWO].iter().enumerate().map(|(at, text)| {
            let address = address(text);
            (address, Peer::new(address, 100 + at as u8))
        });
        World {
            switch: Switch::new(config),
            now,
            start: now,
            queue: BinaryHeap::new(),
            order: 0,
            packets: 0,
            network: Box::new(|_, _| Fate::Arrive),
            held: Vec::new(),
            wire: Vec::new(),
            latency_ms: 5,
            peers: peers.collect(),
            raws: BTreeMap::new(),
            pages: BTreeMap::new(),
            media: BTreeMap::new(),
            cdrs: Vec::new(),
            standing: BTreeMap::new(),
            replies: BTreeMap::new(),
            notices: Vec::new(),
            idle: 0,
            probes: 0,
            journal: BTreeMap::new(),
            left_ended: Vec::new(),
            left_unreached: Vec::new(),
            asked: Vec::new(),
            dns: BTreeMap::new(),
            kept_alive: Vec::new(),
            lease_after: Some(1),
            stop_after: Some(3),
            next_port: 20_000,
            gone: Vec::new(),
            websockets: BTreeMap::new(),
        }
    }

    /// A world whose first trunk has habits.
    pub fn where_one(habits: Habits) -> World {
        let mut world = World::new();
        world.one().habits = habits;
        world
    }

    /// A network that loses `lose` percent, repeats and delays as many.
    pub fn bad_network(&mut self, seed: u64, lose: u32) {
        let mut rng = StdRng::seed_from_u64(seed);
        self.network = Box::new(move |_, _| match rng.random_range(0..100u32) {
            n if n < lose => Fate::Lose,
            n if n < lose * 2 => Fate::Twice,
            n if n < lose * 3 => Fate::Late(rng.random_range(1..80)),
            _ => Fate::Arrive,
        });
    }

    pub fn one(&mut self) -> &mut Peer {
        self.peers.get_mut(&address(ONE)).unwrap()
    }

    pub fn two(&mut self) -> &mut Peer {
        self.peers.get_mut(&address(TWO)).unwrap()
    }

    /// Puts a scripted trunk in the place of a true one.
    pub fn script(&mut self, raw: Raw) {
        self.peers.remove(&raw.address);
        self.raws.insert(raw.address, raw);
    }

    pub fn time(&self) -> Now {
        let since = self.now - self.start;
        Now { instant: self.now, unix_ms: 1_800_000_000_000 + since.as_millis() as u64 }
    }

    pub fn elapsed_ms(&self) -> u64 {
        (self.now - self.start).as_millis() as u64
    }

    fn later(&mut self, ms: u64, thing: Thing) {
        self.order += 1;
        self.queue.push(Reverse(Due { at: self.now + Duration::from_millis(ms), order: self.order, thing }));
    }

    /// A browser of a user says hello.
    pub fn browser(&mut self, socket: u64, user: &str) -> SocketId {
        let id = SocketId(socket);
        self.pages.insert(id, Page::default());
        self.input(Input::SocketOpened { socket: id, peer: address("198.51.100.1:4000"), rings: true });
        self.say(id, &json!({"type": "hello", "user": user}).to_string());
        assert!(matches!(self.page(id).heard.last(), Some(ServerMessage::Welcome { .. } | ServerMessage::Draining {})));
        id
    }

    pub fn page(&mut self, socket: SocketId) -> &mut Page {
        self.pages.entry(socket).or_default()
    }

    /// A frame from a browser, now.
    pub fn say(&mut self, socket: SocketId, text: &str) {
        self.input(Input::SocketText { socket, text: text.to_owned() });
    }

    /// A frame from a browser, later.
    pub fn say_after(&mut self, ms: u64, socket: SocketId, text: String) {
        self.later(ms, Thing::Say(socket, text));
    }

    /// `{"type": kind, "call": name}`.
    pub fn tell(&mut self, socket: SocketId, kind: &str, name: &str) {
        self.say(socket, &json!({"type": kind, "call": name}).to_string());
    }

    /// A browser's answer to the last incoming call.
    pub fn accept(&mut self, socket: SocketId) {
        let text = self.accept_text(socket).expect("an incoming call");
        self.say(socket, &text);
    }

    fn accept_text(&self, socket: SocketId) -> Option<String> {
        self.pages[&socket].heard.iter().rev().find_map(|message| match message {
            ServerMessage::Incoming { call, sdp, .. } => {
                Some(json!({"type": "accept", "call": call, "sdp": browser_answer(sdp)}).to_string())
            }
            _ => None,
        })
    }

    pub fn input(&mut self, input: Input) {
        let now = self.time();
        self.switch.handle(now, input);
        self.flush();
    }

    /// Lets a trunk do something and sends what follows.
    pub fn with_peer<T>(&mut self, at: &str, act: impl FnOnce(&mut Peer, Instant) -> T) -> T {
        let (at, now) = (address(at), self.now);
        let result = act(self.peers.get_mut(&at).unwrap(), now);
        self.flush();
        result
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let fate = (self.network)(self.packets, &bytes);
        self.packets += 1;
        self.wire.push((from, String::from_utf8_lossy(&bytes).into_owned()));
        let latency = self.latency_ms;
        let packet = |bytes| Thing::Packet { to, from, bytes };
        match fate {
            Fate::Lose => {}
            Fate::Hold => {
                let held = Held { to, from, bytes };
                // A repetition of what is still under way is the same packet.
                if !self.held.contains(&held) {
                    self.held.push(held);
                }
            }
            Fate::Arrive => self.later(latency, packet(bytes)),
            Fate::Late(ms) => self.later(latency + ms, packet(bytes)),
            Fate::Twice => {
                self.later(latency, packet(bytes.clone()));
                self.later(latency + 7, packet(bytes));
            }
        }
    }

    /// A message of a scripted trunk, of its own accord.
    pub fn input_raw(&mut self, from: SocketAddr, message: ringback::sip::Message) {
        self.send(from, address(GATEWAY), message.to_bytes());
    }

    /// Carries everything out that anybody wants now.
    fn flush(&mut self) {
        loop {
            let mut moved = false;
            while let Some(output) = self.switch.poll_output() {
                moved = true;
                self.carry_out(output);
            }
            let addresses: Vec<SocketAddr> = self.peers.keys().copied().collect();
            for address in addresses {
                let now = self.now;
                let (packets, habits) = self.peers.get_mut(&address).unwrap().drain(now);
                for (ms, habit) in habits {
                    self.later(ms, Thing::Habit(address, habit));
                }
                for (flow, bytes) in packets {
                    moved = true;
                    self.send(address, flow.remote, bytes);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Owned { .. } => {}
            Output::Socket { socket, text, .. } => self.hear(socket, &text),
            Output::CloseSocket { socket, code, .. } => self.page(socket).closed = Some(code),
            Output::Sip { flow, .. }
                if flow.transport == Transport::Ws && self.websockets.get(&flow.remote) != Some(&flow.id) =>
            {
                self.later(0, Thing::Input(Input::SipFailed { flow }));
            }
            Output::Sip { flow, bytes } => self.send(flow.local, flow.remote, bytes),
            Output::Lease { call, slot, peers, browser } => match self.lease_after {
                Some(ms) => {
                    let path = self.media.entry(call).or_default();
                    path.leased.insert(slot);
                    path.peers.push(peers.clone());
                    self.next_port += 2;
                    let rtp = SocketAddr::new(address(GATEWAY).ip(), self.next_port);
                    let candidates = if browser { vec![address("192.0.2.1:3478")] } else { Vec::new() };
                    let lease = Lease { candidates, ufrag_mark: 'M', rtp: vec![Some(rtp); peers.len()] };
                    self.later(ms, Thing::Input(Input::Leased { call, slot, lease }));
                }
                None => self.later(1, Thing::Input(Input::LeaseFailed { call, slot, reason: LeaseRefusal::NoPort })),
            },
            Output::Ask { call, url, body, .. } => self.asked.push((call, url, body)),
            Output::Media { call, command } => {
                let path = self.media.entry(call).or_default();
                if command == MediaCommand::Stop {
                    path.stopped += 1;
                }
                let first = path.commands.is_empty();
                assert_eq!(first, matches!(command, MediaCommand::Start(_)), "Start comes first and once");
                path.commands.push(command.clone());
                if let (MediaCommand::Stop, Some(ms)) = (command, self.stop_after) {
                    let report = MediaReport::Stopped(MediaStats::default());
                    self.later(ms, Thing::Input(Input::Media { call, report }));
                }
            }
            Output::ReleaseSlot { call, slot } => {
                assert!(self.media.entry(call).or_default().leased.remove(&slot), "{call}: {slot:?} is not lent");
            }
            Output::Release { call } => {
                let leased = std::mem::take(&mut self.media.entry(call).or_default().leased);
                assert!(!leased.is_empty(), "{call}: nothing is lent");
            }
            Output::Reply { number, reply } => drop(self.replies.insert(number, *reply)),
            Output::Event(notice) => self.notices.push(*notice),
            Output::Standing(record) => drop(self.standing.insert(record.call.clone(), *record)),
            Output::Cdr(cdr) => {
                self.is_known_before(&cdr);
                self.cdrs.push(*cdr);
            }
            Output::Resolve { trunk, .. } => {
                let result = self.dns.get(&trunk).cloned().unwrap_or(Err(ResolveError::Unanswered));
                let ttl = Duration::from_secs(60);
                self.later(20, Thing::Input(Input::Resolved { trunk, result, ttl }));
            }
            Output::KeepAlive { flow, on } => {
                self.kept_alive.retain(|kept| *kept != flow);
                if on {
                    self.kept_alive.push(flow);
                }
            }
            Output::Dialog { session, left } => match left {
                Some(left) => drop(self.journal.insert(session, *left)),
                None => drop(self.journal.remove(&session)),
            },
            Output::LeftEnded { number, over: true } => self.left_ended.push(number),
            Output::LeftEnded { number, over: false } => self.left_unreached.push(number),
            Output::Idle => self.idle += 1,
        }
    }

    /// Of a call that was answered all that matters was told before its end. (A party that another call has taken over has taken
    /// its trunk along, and what is tried at the very end is tried in vain.)
    fn is_known_before(&mut self, cdr: &Cdr) {
        let standing = self.standing.remove(&cdr.call);
        if cdr.answer.is_none() {
            return;
        }
        let known = |cdr: &Cdr| {
            let numbers = [&cdr.number, &cdr.from, &cdr.rule].map(Clone::clone);
            (cdr.user.clone(), numbers, cdr.start, cdr.ringing, cdr.answer)
        };
        let standing = standing.expect("a record of the call while it stood");
        assert!(standing.cause.is_empty(), "{standing:?}");
        assert_eq!(known(&standing), known(cdr));
        let first = |cdr: &Cdr| cdr.trunks.first().map(|tried| tried.trunk.clone());
        assert!(first(cdr).is_none_or(|trunk| first(&standing) == Some(trunk)), "{standing:?}, {cdr:?}");
    }

    fn hear(&mut self, socket: SocketId, text: &str) {
        let message: ServerMessage = serde_json::from_str(text).expect("a message of the protocol");
        let page = self.pages.get_mut(&socket).expect("a socket that was opened");
        page.heard.push(message.clone());
        let (accept, reject, hangup) = (page.accept_after, page.reject_after, page.hangup_after);
        match message {
            ServerMessage::Incoming { call, .. } => {
                if let Some(ms) = accept {
                    let text = self.accept_text(socket).unwrap();
                    self.say_after(ms, socket, text);
                }
                if let Some((ms, code)) = reject {
                    let text = json!({"type": "reject", "call": call, "code": code}).to_string();
                    self.say_after(ms, socket, text);
                }
            }
            ServerMessage::Answered { call } => {
                if let Some(ms) = hangup {
                    self.say_after(ms, socket, json!({"type": "hangup", "call": call}).to_string());
                }
            }
            _ => {}
        }
    }

    /// The time of the next thing to happen.
    fn next(&self) -> Option<Instant> {
        let queued = self.queue.peek().map(|Reverse(due)| due.at);
        let peers = self.peers.values().filter_map(|peer| peer.ua.poll_timeout());
        [queued, self.switch.poll_timeout()].into_iter().flatten().chain(peers).min()
    }

    /// The time of the next thing to happen, in milliseconds since the start.
    pub fn next_ms(&self) -> Option<u64> {
        self.next().map(|at| (at.max(self.now) - self.start).as_millis() as u64)
    }

    /// Lets the next thing happen; `false` when nothing is left.
    pub fn step(&mut self) -> bool {
        let Some(at) = self.next() else { return false };
        self.now = self.now.max(at);
        let due = self.queue.peek().is_some_and(|Reverse(due)| due.at <= self.now);
        if let Some(Reverse(Due { thing, .. })) = due.then(|| self.queue.pop()).flatten() {
            self.happen(thing);
        } else {
            let (now, instant) = (self.time(), self.now);
            self.switch.handle_timeout(now);
            for peer in self.peers.values_mut() {
                peer.ua.handle_timeout(instant);
            }
        }
        self.flush();
        true
    }

    fn happen(&mut self, thing: Thing) {
        let now = self.now;
        match thing {
            Thing::Say(socket, text) => self.say(socket, &text),
            Thing::Input(input) => self.input(input),
            Thing::Habit(address, habit) => {
                if let Some(peer) = self.peers.get_mut(&address) {
                    peer.act(now, habit);
                }
            }
            Thing::Packet { to, from, bytes } => {
                let websocket = self.websockets.get(&to).or(self.websockets.get(&from)).copied();
                let transport = if websocket.is_some() { Transport::Ws } else { Transport::Udp };
                let flow = Flow { transport, local: to, remote: from, id: websocket.unwrap_or(0) };
                if to == address(GATEWAY) {
                    self.input(Input::Sip { flow, bytes });
                } else if let Some(peer) = self.peers.get_mut(&to) {
                    peer.ua.handle_datagram(now, flow, &bytes);
                } else if let Some(raw) = self.raws.get_mut(&to) {
                    for reply in raw.take(&bytes) {
                        self.send(to, from, reply.to_bytes());
                    }
                }
            }
        }
    }

    /// A held packet arrives.
    pub fn deliver(&mut self, held: Held) {
        let Held { to, from, bytes } = held;
        self.happen(Thing::Packet { to, from, bytes });
        self.flush();
    }

    /// Lets happen what is due at this very moment.
    pub fn settle(&mut self) {
        while self.queue.peek().is_some_and(|Reverse(due)| due.at <= self.now) {
            self.step();
        }
    }

    /// Runs for so many milliseconds.
    pub fn run(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while self.next().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = until;
    }

    /// Runs until nothing is left to happen, at most ten minutes.
    pub fn run_out(&mut self) {
        let until = self.now + Duration::from_secs(600);
        while self.next().is_some_and(|at| at <= until) {
            self.step();
        }
        assert_eq!(self.next().map(|at| at - self.now), None, "something never comes to rest: {:?}", self.switch);
    }

    /// Runs until a browser has heard a kind of message about a call.
    pub fn until(&mut self, socket: SocketId, name: &str, kind: &str) {
        while !self.page(socket).story(name).iter().any(|heard| heard == kind) {
            let story = self.page(socket).story(name);
            assert!(self.elapsed_ms() < 600_000 && self.step(), "{kind} never came: {story:?}\n{}", self.story());
        }
    }

    /// The first lines of what was on the wire.
    pub fn story(&self) -> String {
        let line = |(from, text): &(SocketAddr, String)| format!("{from}  {}\n", text.lines().next().unwrap_or(""));
        self.wire.iter().map(line).collect()
    }

    /// How often a first line with this beginning was sent.
    pub fn sent(&self, from: &str, beginning: &str) -> usize {
        let from = address(from);
        self.wire.iter().filter(|(sender, text)| *sender == from && text.starts_with(beginning)).count()
    }

    /// Runs out, then checks what must hold after any calls whatsoever.
    pub fn finish(&mut self) {
        self.run_out();
        let story = self.story();
        let stats = self.switch.stats();
        assert_eq!(
            (stats.calls + stats.probes, stats.sip_sessions, stats.sip_transactions, stats.timers),
            (0, 0, 0, 0),
            "something is left\n{story}"
        );
        assert!(self.journal.is_empty(), "the journal would have the next start end {:?}\n{story}", self.journal);
        let mut ids: Vec<&str> = self.cdrs.iter().map(|cdr| cdr.call.as_str()).collect();
        let calls = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), calls, "two records of one call");
        for (call, path) in &self.media {
            assert!(path.leased.is_empty(), "{call}: {:?} is not taken back\n{story}", path.leased);
            let started = usize::from(!path.commands.is_empty());
            assert_eq!(path.stopped, started, "{call}: one Stop for one Start\n{story}");
        }
        let unwritten = self.media.keys().filter(|call| !ids.contains(&call.to_string().as_str())).count();
        assert_eq!(unwritten, self.probes, "calls without a record\n{story}");
        for (socket, page) in &self.pages {
            let mut began: BTreeMap<&str, usize> = BTreeMap::new();
            for message in &page.heard {
                match message {
                    ServerMessage::Answer { call, .. } | ServerMessage::Incoming { call, .. } => {
                        began.insert(call, 0);
                    }
                    ServerMessage::Welcome { calls: Some(calls), .. } => {
                        began.extend(calls.iter().map(|present| (present.call.as_str(), 0)));
                    }
                    ServerMessage::Ended { call, .. } => *began.entry(call).or_default() += 1,
                    ServerMessage::Ringing { call }
                    | ServerMessage::Early { call }
                    | ServerMessage::Answered { call }
                    | ServerMessage::Held { call, .. } => {
                        assert_eq!(began.get(call.as_str()), Some(&0), "{call}: word of a call that is not\n{story}");
                    }
                    _ => {}
                }
            }
            for (call, ends) in began {
                let gone = !self.open(*socket);
                assert!(ends == 1 || (gone && ends == 0), "{socket:?} {call} ended {ends} times\n{story}");
            }
        }
        for peer in self.peers.values() {
            assert_eq!((peer.ua.session_count(), peer.ua.transaction_count()), (0, 0), "{}\n{story}", peer.address);
            for (session, seen) in &peer.sessions {
                assert!(seen.ends.len() <= 1 && seen.closed == 1, "{session:?} {seen:?}\n{story}");
            }
        }
    }

    /// Whether a browser's socket is open still.
    pub fn open(&self, socket: SocketId) -> bool {
        !self.gone.contains(&socket) && self.pages[&socket].closed.is_none()
    }

    /// A browser's socket is lost.
    pub fn lose(&mut self, socket: SocketId) {
        self.gone.push(socket);
        self.input(Input::SocketClosed { socket, clean: false });
    }

    /// A browser's socket closes, and nothing is waited for.
    pub fn close(&mut self, socket: SocketId) {
        self.gone.push(socket);
        self.input(Input::SocketClosed { socket, clean: true });
    }

    /// A trunk's call with an offer (or without) to a number.
    pub fn trunk_calls(&mut self, number: &str, with_offer: bool) -> ringback::sip::SessionId {
        self.trunk_calls_with(number, with_offer, &[])
    }

    /// The same with header fields of its own.
    pub fn trunk_calls_with(
        &mut self,
        number: &str,
        with_offer: bool,
        headers: &[(&str, &str)],
    ) -> ringback::sip::SessionId {
        let number = number.to_owned();
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.with_peer(ONE, |peer, now| {
            let body = with_offer.then(|| peer.offer(ringback::sdp::Direction::SendRecv));
            let invite = ringback::sip::Invite {
                flow: peer.flow(address(GATEWAY)),
                request_uri: format!("sip:{number}@192.0.2.1").parse().unwrap(),
                from: "\"Carol \\\"C\\\"\" <sip:+447700900123@192.0.2.9>".parse().unwrap(),
                to: format!("<sip:{number}@192.0.2.1>").parse().unwrap(),
                contact_user: None,
                headers,
                body,
                credentials: None,
                options: ringback::sip::SessionOptions::default(),
            };
            let session = peer.ua.invite(now, invite).unwrap();
            peer.sessions.entry(session).or_default();
            session
        })
    }

    /// A browser that speaks SIP opens a WebSocket.
    pub fn websocket(&mut self, at: &str, id: u64) {
        let at = address(at);
        self.websockets.insert(at, id);
        self.peers.entry(at).or_insert_with(|| Peer::new(at, id as u8)).websocket = Some(id);
    }

    /// Its WebSocket is gone.
    pub fn close_websocket(&mut self, at: &str) {
        let remote = address(at);
        if let Some(id) = self.websockets.remove(&remote) {
            let flow = Flow { transport: Transport::Ws, local: address(GATEWAY), remote, id };
            self.input(Input::SipClosed { flow });
        }
    }

    /// What a command comes to.
    pub fn command(&mut self, command: Command) -> Reply {
        let number = self.replies.len() as u64;
        self.input(Input::Command { number, command });
        self.replies[&number].clone()
    }

    /// The names of the notices so far, of one call or of all.
    pub fn noticed(&self, call: Option<&str>) -> Vec<&'static str> {
        let about = |notice: &&Notice| call.is_none_or(|call| notice.subject() == call);
        self.notices.iter().filter(about).map(Notice::name).collect()
    }

    /// The only record.
    pub fn cdr(&self) -> &Cdr {
        assert_eq!(self.cdrs.len(), 1, "{:?}", self.cdrs);
        &self.cdrs[0]
    }

    /// The media plans of the only call, and its other commands.
    pub fn commands(&self) -> &[MediaCommand] {
        assert_eq!(self.media.len(), 1);
        &self.media.values().next().unwrap().commands
    }

    /// The only call's id.
    pub fn call_id(&self) -> CallId {
        assert_eq!(self.media.len(), 1);
        *self.media.keys().next().unwrap()
    }
}

/// The RTP leg of a side.
pub fn rtp(plan: &MediaPlan, side: Side) -> &RtpMedia {
    plan.leg(side).and_then(|leg| leg.media.rtp()).expect("an RTP leg")
}
