//! The poll loop of one worker.
//!
//! A turn has one time, read from the clock once: the commands, all that is to be read and the timers that are due share it.
//! Many calls' packets and timers are gathered for a turn, by letting a millisecond pass between two turns; few calls' are served
//! as they come. No other order of the timers is made: the calls' frames are in step with their senders, and those begin when
//! they please. Datagrams are read and sent one by one: of what a packet costs the system, the entry into it is a small part, and
//! what a wake-up costs is what is saved here.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Registry, Token};
use nix::time::{ClockId, clock_gettime};
use slab::Slab;

use super::effort::{Standing, Watch};
use super::handover::{self, Handed, Handover};
use super::routes::{Routes, Ways};
use super::step::Step;
use super::timers::{Deadline, Timers};
use super::{Pairs, Reports, Shared};
use crate::media::Port;
use crate::net::{OwnAddresses, RtpPair, canonical, for_socket};
use crate::sdp::{MediaCommand, MediaPlan, MediaReport, MediaStats, RtpSlot, Side};
use crate::webrtc::{PacketKind, classify};

/// The token of the command channel's waker.
pub(super) const WAKER: Token = Token(0);
const BROWSERS: Token = Token(1);
/// The first of the calls' tokens: two for each pair of ports that each call may have.
const CALLS: usize = 2;
const PAIRS: usize = RtpSlot::LIMIT as usize;
const TOKENS: usize = PAIRS * 2;

/// Datagrams taken from a socket before the others have their turn.
const BROWSER_BATCH: usize = 64;
const CALL_BATCH: usize = 8;
/// From so many calls on, what comes is gathered: with fewer a turn would find one packet all the same.
pub(super) const MANY_CALLS: usize = 10;
/// The time from one turn to the next then, at least.
pub(super) const GATHER: Duration = Duration::from_millis(1);
/// No datagram of ours or of a sane peer is longer.
const DATAGRAM: usize = 2048;

/// What the other threads tell a worker.
#[derive(Debug)]
pub(super) enum Command {
    Open {
        call: u64,
        pairs: Pairs,
        plan: Box<MediaPlan>,
        seed: [u8; 32],
    },
    AddPair {
        call: u64,
        slot: RtpSlot,
        pair: RtpPair,
    },
    RemovePair {
        call: u64,
        slot: RtpSlot,
    },
    Media {
        call: u64,
        command: Box<MediaCommand>,
    },
    /// So many calls from now on; what comes after this comes by another channel.
    Grow {
        queue: Receiver<Command>,
        max_calls: usize,
    },
}

impl Command {
    /// Whether it ends a call.
    pub(super) fn is_stop(&self) -> bool {
        matches!(self, Command::Media { command, .. } if **command == MediaCommand::Stop)
    }

    /// Whether it counts among those that wait.
    fn is_counted(&self) -> bool {
        !self.is_stop() && !matches!(self, Command::Grow { .. })
    }
}

/// Makes a call's bridge.
pub(super) type Factory<B> = Box<dyn Fn(Instant, MediaPlan, [u8; 32]) -> Option<B> + Send>;

/// What time it is.
pub(super) type Clock = Box<dyn Fn() -> Instant + Send>;

/// One call.
struct Call<B> {
    id: u64,
    /// `None` after a panic: what is left waits for its Stop.
    bridge: Option<B>,
    sockets: Sockets,
    ways: Ways,
    deadline: Deadline,
    /// Counters of a bridge that is no more.
    last_stats: MediaStats,
}

/// A call's pairs of sockets, RTP and RTCP, by their slots.
#[derive(Default)]
struct Sockets([Option<[Socket; 2]>; PAIRS]);

impl Sockets {
    fn get(&self, slot: RtpSlot) -> Option<&[Socket; 2]> {
        self.0.get(usize::from(slot.0))?.as_ref()
    }
}

/// A socket in the poll.
struct Socket {
    udp: UdpSocket,
    is_v6: bool,
    /// Whether it stands in the list of sockets that may have something to read.
    listed: bool,
}

impl Socket {
    fn new(udp: std::net::UdpSocket) -> io::Result<Self> {
        let is_v6 = udp.local_addr()?.is_ipv6();
        Ok(Self { udp: UdpSocket::from_std(udp), is_v6, listed: false })
    }

    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.udp, token, Interest::READABLE)
    }

    /// One datagram; `None` when there is no more for now.
    fn receive(&self, buf: &mut [u8]) -> Option<(usize, SocketAddr)> {
        loop {
            match self.udp.recv_from(buf) {
                Ok((len, source)) => return Some((len, canonical(source))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // An ICMP error of an earlier datagram, or a signal: the next call tells of the next datagram.
                Err(_) => {}
            }
        }
    }

    /// Sends, or counts what the system does not take: media is not worth waiting for.
    fn send(&self, packet: &[u8], to: SocketAddr, shared: &Shared) {
        if self.udp.send_to(packet, for_socket(to, self.is_v6)).is_err() {
            shared.unsent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What a worker takes, and its clock.
pub(super) struct Setup {
    pub max_calls: usize,
    pub local_only: bool,
    pub clock: Clock,
    pub handover: Option<Handover>,
}

/// Everything of one worker.
pub(super) struct Engine<B> {
    poll: Poll,
    commands: Receiver<Command>,
    make: Factory<B>,
    calls: Slab<Call<B>>,
    by_id: HashMap<u64, usize>,
    routes: Routes,
    /// Where the port is shared with other workers.
    handover: Option<Handover>,
    timers: Timers,
    /// When those calls wanted to be called that this turn has served.
    served: Vec<Instant>,
    clock: Clock,
    /// What time it is for all of this turn, and when it was over or what was gathered after it was waited for.
    now: Instant,
    since: Instant,
    watch: Watch,
    /// Sockets that were readable and not yet read dry: the poll tells of an edge only once.
    readable: VecDeque<Token>,
    /// Whose datagrams alone are taken on the browsers' port, where they are limited.
    only_from: Option<OwnAddresses>,
    input: Vec<u8>,
    out: Out,
}

/// Where a call's output goes.
struct Out {
    browsers: Socket,
    buf: Vec<u8>,
    reports: Reports,
    shared: Arc<Shared>,
}

impl Out {
    /// Takes all that a call has to send and say; yields its deadline.
    fn settle<B: Step>(&mut self, id: u64, bridge: &mut B, sockets: &Sockets) -> Option<Instant> {
        while let Some(transmit) = bridge.poll_transmit(&mut self.buf) {
            let Some(packet) = self.buf.get(..transmit.len) else { continue };
            let socket = match transmit.port {
                Port::Browser => Some(&self.browsers),
                Port::Rtp(slot) => sockets.get(slot).map(|[rtp, _]| rtp),
                Port::Rtcp(slot) => sockets.get(slot).map(|[_, rtcp]| rtcp),
            };
            if let Some(socket) = socket {
                socket.send(packet, transmit.to, &self.shared);
            }
        }
        while let Some(report) = bridge.poll_report() {
            (self.reports)(id, report);
        }
        bridge.poll_timeout()
    }
}

impl<B: Step> Engine<B> {
    pub fn new(
        poll: Poll,
        browsers: std::net::UdpSocket,
        commands: Receiver<Command>,
        make: Factory<B>,
        reports: Reports,
        shared: Arc<Shared>,
        setup: Setup,
    ) -> io::Result<Self> {
        let Setup { max_calls, local_only, clock, mut handover } = setup;
        if let Some(handover) = &mut handover {
            handover.make_room(max_calls);
        }
        let mut browsers = Socket::new(browsers)?;
        let now = clock();
        browsers.register(poll.registry(), BROWSERS)?;
        Ok(Self {
            poll,
            commands,
            make,
            calls: Slab::with_capacity(max_calls),
            by_id: HashMap::with_capacity(max_calls * 2),
            routes: Routes::with_capacity(max_calls),
            handover,
            timers: Timers::with_capacity(max_calls * 4),
            served: Vec::with_capacity(timers_at_most(max_calls)),
            readable: VecDeque::with_capacity(max_calls * 4 + 1),
            only_from: local_only.then(|| OwnAddresses::new(now)),
            input: vec![0; DATAGRAM],
            out: Out { browsers, buf: vec![0; DATAGRAM], reports, shared },
            clock,
            now,
            since: now,
            watch: Watch::new(now),
        })
    }

    /// Runs until told to stop; then ends every call.
    pub fn run(mut self) {
        let mut events = events();
        while !self.out.shared.stopping.load(Ordering::Acquire) {
            if !self.turn(&mut events) {
                break;
            }
        }
        self.end();
    }

    /// Ends every call.
    pub fn end(mut self) {
        self.now = (self.clock)();
        while let Some(slot) = self.calls.iter().next().map(|(slot, _)| slot) {
            self.stop(slot);
        }
    }

    /// Waits until there is something to do, and does all of it; `false` where the poll has failed.
    pub fn turn(&mut self, events: &mut Events) -> bool {
        let rest = self.rest();
        if !rest.is_zero() {
            std::thread::sleep(rest);
            self.since = (self.clock)();
        }
        match self.poll.poll(events, self.patience()) {
            Ok(()) => {
                for event in events.iter() {
                    self.list(event.token());
                }
                self.work();
                true
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.since = (self.clock)();
                true
            }
            Err(error) => {
                // Without a poll there is no media: the calls end rather than hang.
                tracing::error!(%error, "a media worker's poll failed");
                false
            }
        }
    }

    /// What there is to do now.
    pub(super) fn work(&mut self) {
        self.now = (self.clock)();
        self.handle_commands();
        self.read_handed();
        self.read_sockets();
        if let Some(handover) = &mut self.handover {
            handover.wake();
        }
        self.handle_timers();
        self.since = (self.clock)();
        // The last of a batch has waited for all of it: each counts until its end.
        for wanted in self.served.drain(..) {
            let late = self.since.saturating_duration_since(wanted);
            self.out.shared.late.add(late);
            self.watch.served(late);
        }
        self.judge();
    }

    /// Once a second: how late it was, and what follows from it for every call.
    fn judge(&mut self) {
        let busy_at = self.out.shared.busy_at.load(Ordering::Relaxed);
        let judged = self.watch.judge(self.since, self.calls.len(), busy_at, computed);
        let Some(Standing { effort, busy }) = judged else { return };
        self.out.shared.effort.store(effort as u8, Ordering::Relaxed);
        self.out.shared.busy.store(busy, Ordering::Relaxed);
        // Seconds lie between two of these.
        tracing::warn!(?effort, busy, calls = self.calls.len(), "a media thread's load has changed what it does");
        for slot in 0..self.calls.capacity() {
            self.step(slot, |bridge| bridge.set_effort(effort));
        }
    }

    /// How long to let gather what comes before the next turn.
    pub(super) fn rest(&self) -> Duration {
        if self.calls.len() < MANY_CALLS || self.has_more() {
            return Duration::ZERO;
        }
        (self.now + GATHER).saturating_duration_since(self.since)
    }

    /// Whether there is something to read of which the poll will not tell.
    fn has_more(&self) -> bool {
        !self.readable.is_empty() || self.handover.as_ref().is_some_and(|handover| handover.has_more)
    }

    /// How long to wait for the next event.
    fn patience(&self) -> Option<Duration> {
        if self.has_more() {
            return Some(Duration::ZERO);
        }
        let next = [self.timers.next(), self.watch.wanted()].into_iter().flatten().min();
        next.map(|at| at.saturating_duration_since(self.since))
    }

    fn socket(&mut self, token: Token) -> Option<&mut Socket> {
        if token == BROWSERS {
            return Some(&mut self.out.browsers);
        }
        let index = token.0.checked_sub(CALLS)?;
        let pair = self.calls.get_mut(index / TOKENS)?.sockets.0.get_mut(index % TOKENS / 2)?;
        pair.as_mut()?.get_mut(index % 2)
    }

    /// Puts a socket on the list of those to read, once.
    fn list(&mut self, token: Token) {
        if let Some(socket) = self.socket(token).filter(|socket| !socket.listed) {
            socket.listed = true;
            self.readable.push_back(token);
        }
    }

    /// Reads each socket on the list for one batch; what is not dry then waits for the next turn.
    fn read_sockets(&mut self) {
        for _ in 0..self.readable.len() {
            let Some(token) = self.readable.pop_front() else { return };
            let dry = if token == BROWSERS { self.read_browsers() } else { self.read_pair(token.0 - CALLS) };
            // A socket whose call ended meanwhile is gone.
            if let Some(socket) = self.socket(token) {
                socket.listed = !dry;
                if !dry {
                    self.readable.push_back(token);
                }
            }
        }
    }

    fn read_browsers(&mut self) -> bool {
        let mut input = std::mem::take(&mut self.input);
        let mut dry = false;
        for _ in 0..BROWSER_BATCH {
            let Some((len, source)) = self.out.browsers.receive(&mut input) else {
                dry = true;
                break;
            };
            self.handle_browser(source, input.get_mut(..len).unwrap_or_default(), None);
        }
        self.input = input;
        dry
    }

    /// A datagram on the browsers' port, read by this worker or, where there is a `via`, by that one.
    fn handle_browser(&mut self, source: SocketAddr, packet: &mut [u8], via: Option<usize>) {
        let now = self.now;
        let welcome = via.is_some() || self.only_from.as_mut().is_none_or(|own| own.contains(source.ip(), now));
        let is_check = classify(packet) == PacketKind::Stun;
        if welcome && via.is_none() && self.pass(source, packet) {
            return;
        }
        let mut slot = self.routes.find(source, packet).filter(|_| welcome);
        if slot.is_none() && welcome && via.is_none() && self.handover.is_some() {
            // What another worker said while this batch was read may be of this address.
            self.read_handed();
            if self.pass(source, packet) {
                return;
            }
        }
        if slot.is_none() && welcome && is_check {
            // The check may be for a call whose opening still waits in the channel: the browser got our answer while
            // this batch was read.
            self.handle_commands();
            slot = self.routes.find(source, packet);
        }
        let Some(slot) = slot else {
            self.out.shared.unroutable.fetch_add(1, Ordering::Relaxed);
            if let (Some(via), Some(handover), false) = (via, &mut self.handover, is_check) {
                handover.tell_unknown(via, source);
            }
            return;
        };
        match via.filter(|_| is_check) {
            Some(via) => self.check(slot, via, source, packet),
            None => self.step(slot, |bridge| bridge.handle_datagram(now, Port::Browser, source, packet)),
        }
        if !self.routes.leads_to(source, slot) {
            self.take_address(slot, source);
        }
    }

    /// A check that another worker has read. That one knows of the address before the answer goes out: what the browser sends
    /// upon it is not lost.
    fn check(&mut self, slot: usize, via: usize, source: SocketAddr, packet: &mut [u8]) {
        let Some(mut handover) = self.handover.take() else { return };
        let now = self.now;
        self.step(slot, |bridge| {
            bridge.handle_datagram(now, Port::Browser, source, packet);
            if bridge.knows_browser(source) {
                handover.tell_known(via, source);
            }
        });
        self.handover = Some(handover);
    }

    /// The address is the call's once its check has passed, which only the bridge can tell.
    fn take_address(&mut self, slot: usize, source: SocketAddr) {
        let Some(Call { bridge: Some(bridge), ways, .. }) = self.calls.get_mut(slot) else { return };
        if !bridge.knows_browser(source) {
            return;
        }
        let old = self.routes.add_address(slot, ways, source, |known| bridge.knows_browser(known));
        if let Some(handover) = &mut self.handover {
            handover.is_ours(source);
            old.into_iter().for_each(|old| handover.tell_gone(old));
        }
    }

    /// Hands over what is for a call of another worker; `false`: it is not.
    fn pass(&mut self, source: SocketAddr, packet: &[u8]) -> bool {
        let Some(handover) = &mut self.handover else { return false };
        let Some(owner) = handover.owner(source, packet) else { return false };
        let shared = &self.out.shared;
        let counter = if handover.pass(owner, source, packet) { &shared.handed_over } else { &shared.not_handed_over };
        counter.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// What other workers have read for this one's calls, and what they say of addresses.
    fn read_handed(&mut self) {
        for _ in 0..handover::SLOTS {
            let Some(handover) = &mut self.handover else { return };
            let handed = handover.next();
            handover.has_more = handed.is_some();
            match handed {
                Some(Handed::Datagram { via, source, len, mut bytes }) => {
                    self.handle_browser(source, bytes.get_mut(..len).unwrap_or_default(), Some(via));
                }
                Some(Handed::Known { owner, source }) => {
                    handover.learn(self.now, source, owner);
                    self.routes.remove_address(source);
                }
                Some(Handed::Gone { owner, source }) => handover.forget(source, owner),
                None => return,
            }
        }
    }

    /// Removes all that leads to a call.
    fn remove_ways(&mut self, slot: usize, ways: &mut Ways) {
        let handover = &mut self.handover;
        self.routes.remove(slot, ways, |address| {
            if let Some(handover) = handover {
                handover.tell_gone(address);
            }
        });
    }

    fn read_pair(&mut self, index: usize) -> bool {
        let (slot, pair, which) = (index / TOKENS, RtpSlot((index % TOKENS / 2) as u8), index % 2);
        let port = if which == 0 { Port::Rtp(pair) } else { Port::Rtcp(pair) };
        let mut input = std::mem::take(&mut self.input);
        let mut dry = false;
        for _ in 0..CALL_BATCH {
            let socket = self.calls.get(slot).and_then(|call| call.sockets.get(pair)?.get(which));
            let Some((len, source)) = socket.and_then(|socket| socket.receive(&mut input)) else {
                dry = true;
                break;
            };
            let now = self.now;
            let packet = input.get_mut(..len).unwrap_or_default();
            self.step(slot, |bridge| bridge.handle_datagram(now, port, source, packet));
        }
        self.input = input;
        dry
    }

    fn handle_timers(&mut self) {
        let now = self.now;
        let mut budget = timers_at_most(self.calls.len());
        while budget > 0
            && let Some(entry) = self.timers.pop(now)
        {
            budget -= 1;
            let Some(call) = self.calls.get_mut(entry.1) else { continue };
            let wanted = call.deadline.wanted();
            if self.timers.is_due(entry, &mut call.deadline, now) {
                self.served.push(wanted.unwrap_or(now));
                self.step(entry.1, |bridge| bridge.handle_timeout(now));
            }
        }
    }

    /// Changes a call's bridge and takes its output. A panic ends the call, and only the call.
    fn step(&mut self, slot: usize, change: impl FnOnce(&mut B)) {
        let Some(call) = self.calls.get_mut(slot) else { return };
        let Some(bridge) = &mut call.bridge else { return };
        let out = &mut self.out;
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            change(bridge);
            out.settle(call.id, bridge, &call.sockets)
        }));
        match stepped {
            Ok(wanted) => self.timers.set(slot, &mut call.deadline, wanted),
            Err(_) => self.panicked(slot),
        }
    }

    /// What is left of a call whose bridge panicked: its counters, until its Stop.
    fn panicked(&mut self, slot: usize) {
        let Some(call) = self.calls.get_mut(slot) else { return };
        let bridge = call.bridge.take();
        // Neither its counters nor its end can be trusted more than the rest of it.
        let stats = catch_unwind(AssertUnwindSafe(move || bridge.map(|bridge| bridge.stats())));
        call.last_stats = stats.ok().flatten().unwrap_or_default();
        call.sockets = Sockets::default();
        let (id, mut ways) = (call.id, std::mem::take(&mut call.ways));
        self.remove_ways(slot, &mut ways);
        self.out.shared.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(call = id, "a call's media failed by a fault of ours and is ended");
        (self.out.reports)(id, MediaReport::Failed);
    }

    fn handle_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            if command.is_counted() {
                self.out.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            match command {
                Command::Open { call, pairs, plan, seed } => self.open(call, pairs, *plan, seed),
                Command::AddPair { call, slot, pair } => self.add_pair(call, slot, pair),
                Command::RemovePair { call, slot } => self.remove_pair(call, slot),
                Command::Media { call, command } => self.command(call, *command),
                Command::Grow { queue, max_calls } => {
                    self.commands = queue;
                    self.make_room(max_calls);
                }
            }
        }
    }

    /// All tables get the size that they would have been made with: no packet waits for one to grow.
    fn make_room(&mut self, max_calls: usize) {
        self.calls.reserve(max_calls.saturating_sub(self.calls.len()));
        self.by_id.reserve((max_calls * 2).saturating_sub(self.by_id.len()));
        self.routes.reserve(max_calls);
        if let Some(handover) = &mut self.handover {
            handover.make_room(max_calls);
        }
        self.timers.reserve(max_calls * 4);
        self.served.reserve(timers_at_most(max_calls).saturating_sub(self.served.len()));
        self.readable.reserve((max_calls * 4 + 1).saturating_sub(self.readable.len()));
    }

    fn command(&mut self, id: u64, command: MediaCommand) {
        let Some(&slot) = self.by_id.get(&id) else {
            if command == MediaCommand::Stop {
                (self.out.reports)(id, MediaReport::Stopped(MediaStats::default()));
            }
            return;
        };
        let now = self.now;
        match command {
            MediaCommand::Start(plan) | MediaCommand::Update(plan) => {
                self.route_ufrags(slot, &plan);
                self.step(slot, |bridge| bridge.update(now, plan));
            }
            MediaCommand::Digits { to, digits, ms } => {
                self.step(slot, |bridge| bridge.send_digits(now, to, &digits, ms));
            }
            MediaCommand::Stop => self.stop(slot),
        }
    }

    fn route_ufrags(&mut self, slot: usize, plan: &MediaPlan) {
        let Some(call) = self.calls.get_mut(slot).filter(|call| call.bridge.is_some()) else { return };
        let browsers = Side::BOTH.into_iter().filter_map(|side| plan.leg(side)?.media.browser());
        let ufrags: Vec<&str> = browsers.map(|browser| browser.local_ice.ufrag.as_str()).collect();
        self.routes.add_ufrags(slot, &mut call.ways, &ufrags);
    }

    fn add_pair(&mut self, id: u64, slot: RtpSlot, pair: RtpPair) {
        // A call that has ended meanwhile: the sockets end with `pair`.
        let Some(&index) = self.by_id.get(&id) else { return };
        let Some(call) = self.calls.get_mut(index).filter(|call| call.bridge.is_some()) else { return };
        let Some(place) = call.sockets.0.get_mut(usize::from(slot.0)) else { return };
        match register(self.poll.registry(), pair, token_of(index, slot)) {
            Ok(sockets) => *place = Some(sockets),
            Err(error) => {
                tracing::error!(call = id, %error, "a call's sockets cannot be polled");
                self.panicked(index);
            }
        }
    }

    fn remove_pair(&mut self, id: u64, slot: RtpSlot) {
        let Some(&index) = self.by_id.get(&id) else { return };
        // What the leg that had it says last still goes out by it.
        self.step(index, |_| {});
        if let Some(place) = self.calls.get_mut(index).and_then(|call| call.sockets.0.get_mut(usize::from(slot.0))) {
            *place = None;
        }
    }

    fn open(&mut self, id: u64, pairs: Pairs, plan: MediaPlan, seed: [u8; 32]) {
        if self.by_id.contains_key(&id) {
            tracing::error!(call = id, "a call was opened twice: the second opening is ignored");
            self.out.shared.calls.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let slot = self.calls.vacant_key();
        let sockets = self.register_all(slot, pairs);
        if let Err(error) = &sockets {
            tracing::error!(call = id, %error, "a call's sockets cannot be polled");
        }
        let now = self.now;
        let bridge = match &sockets {
            Ok(_) => catch_unwind(AssertUnwindSafe(|| (self.make)(now, plan.clone(), seed))).ok().flatten(),
            Err(_) => None,
        };
        let failed = bridge.is_none();
        let (ways, deadline, last_stats) = Default::default();
        self.calls.insert(Call { id, bridge, sockets: sockets.unwrap_or_default(), ways, deadline, last_stats });
        self.by_id.insert(id, slot);
        if failed {
            self.panicked(slot);
            return;
        }
        self.route_ufrags(slot, &plan);
        let effort = self.watch.effort();
        self.step(slot, |bridge| bridge.set_effort(effort));
    }

    fn register_all(&self, call: usize, pairs: Pairs) -> io::Result<Sockets> {
        let mut sockets = Sockets::default();
        for (slot, pair) in pairs {
            if let Some(place) = sockets.0.get_mut(usize::from(slot.0)) {
                *place = Some(register(self.poll.registry(), pair, token_of(call, slot))?);
            }
        }
        Ok(sockets)
    }

    /// Ends a call: goodbye to both sides, its sockets closed, its counters reported.
    fn stop(&mut self, slot: usize) {
        let now = self.now;
        self.step(slot, |bridge| bridge.close(now));
        let Some(mut call) = self.calls.try_remove(slot) else { return };
        self.remove_ways(slot, &mut call.ways);
        self.by_id.remove(&call.id);
        let bridge = call.bridge.take();
        let stats = catch_unwind(AssertUnwindSafe(move || bridge.map(|bridge| bridge.stats())));
        // Closed before the report: whoever hears it may lease the port again.
        drop(call.sockets);
        self.out.shared.calls.fetch_sub(1, Ordering::Relaxed);
        let stats = stats.ok().flatten().unwrap_or(call.last_stats);
        (self.out.reports)(call.id, MediaReport::Stopped(stats));
    }
}

/// What the thread has computed since it began.
fn computed() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// Room for what one poll tells.
pub(super) fn events() -> Events {
    Events::with_capacity(1024)
}

/// The timers of so many calls that are served in one turn: a call that wants to be called at once, again and again, must
/// not keep the others waiting.
fn timers_at_most(calls: usize) -> usize {
    calls * 2 + 16
}

/// The first of the two tokens of a call's pair.
fn token_of(call: usize, slot: RtpSlot) -> usize {
    CALLS + call * TOKENS + usize::from(slot.0) * 2
}

/// Puts a call's sockets into the poll under two tokens in a row.
fn register(registry: &Registry, pair: RtpPair, first: usize) -> io::Result<[Socket; 2]> {
    let (mut rtp, mut rtcp) = (Socket::new(pair.rtp)?, Socket::new(pair.rtcp)?);
    rtp.register(registry, Token(first))?;
    rtcp.register(registry, Token(first + 1))?;
    Ok([rtp, rtcp])
}
