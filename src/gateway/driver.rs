//! The driver: one task that owns the [`Switch`], feeds it and carries out what it says.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};

use super::cdr::{self, Prepared, Records};
use super::events::Events;
use super::hooks::Hooks;
use super::journal::{Journal, Unwritten};
use super::lately::Lately;
use super::left::LeftCalls;
use super::life::{Found, Reason, Stores, Teller, Warning};
use super::metrics::{Calls, QueueUse, Snapshot};
use super::otlp::Otlp;
use super::pool::{MediaPool, Report};
use super::sip::Sip;
use super::start::{Settings, tls_clients};
use super::store::Store;
use super::trace::Trace;
use super::ws::Frame;
use super::{Ask, Event, Queues, Tasks};
use crate::call::{Cdr, Now};
use crate::config::Config;
use crate::sdp::MediaReport;
use crate::sip::{Flow, Transport};
use crate::switch::{Admission, CallId, Input, Notice, Output, Reply, SocketId, Status, Switch};

/// Events taken before outputs and timers get their turn.
const BATCH: usize = 128;
/// How long calls may take to end once they are hung up: long enough for a BYE and its retransmissions over a bad link.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);

/// How long all that is left may take to be written at the end, together: beyond what each of its writers allows itself.
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);

/// Stands for a grace time that is beyond all clocks.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the driver holds.
pub(super) struct Driver {
    pub(super) switch: Switch,
    pub(super) queues: Queues,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) pool: MediaPool,
    pub(super) sip: Sip,
    pub(super) sockets: HashMap<SocketId, mpsc::Sender<Frame>>,
    pub(super) cdr: Records,
    /// What is counted of calls and events.
    pub(super) metrics: Calls,
    pub(super) hooks: Hooks,
    pub(super) rng: StdRng,
    pub(super) tasks: Tasks,
    pub(super) settings: Settings,
    pub(super) teller: Teller,
    pub(super) phase: Phase,
    pub(super) journal: Option<Journal>,
    /// Where what the limits count outlives a restart.
    pub(super) store: Option<Store>,
    /// The dialogs that an earlier gateway has left behind.
    pub(super) left: LeftCalls,
    /// The records that it has left, until they are put to be written.
    pub(super) unwritten: Vec<Unwritten>,
    /// Those who watch.
    pub(super) events: Events,
    /// Who controls calls from outside and waits for an answer, by the command's number.
    pub(super) commands: HashMap<u64, oneshot::Sender<Reply>>,
    pub(super) next_command: u64,
    /// What was said about each call.
    pub(super) trace: Trace,
    /// How calls have sounded and ended.
    pub(super) lately: Lately,
    /// Where each call goes as a trace.
    pub(super) otlp: Otlp,
    /// Where the wish for a reload goes.
    pub(super) reloads: mpsc::Sender<super::reload::Request>,
}

/// How far the shutdown is (docs/architecture.md, "Threads"): a state, not a Drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// New calls are refused; the others may end by themselves until then.
    Draining(Instant),
    /// All calls are hung up and have until then to say goodbye.
    Releasing(Instant),
    Over,
}

impl Driver {
    /// Runs until it is asked to stop and the calls are over: at the first ask calls get the grace time to end by
    /// themselves, then they are hung up; a second ask hangs them up at once.
    pub(super) async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        self.input(Input::Start);
        self.carry_out();
        self.tell();
        self.teller.ready();
        self.write_left();
        let (mut sip, mut batch) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        while self.phase != Phase::Over {
            let own = Some(self.sip.poll_timeout().min(self.teller.poll_timeout()));
            let deadlines =
                [self.switch.poll_timeout(), self.phase.deadline(), self.left.poll_timeout(now().instant), own];
            let deadline = deadlines.into_iter().flatten().min();
            tokio::select! {
                Some(ask) = asks.recv() => self.asked(ask),
                _ = self.queues.trunks.recv_many(&mut sip, BATCH) => self.events(&mut sip),
                _ = self.queues.browsers.recv_many(&mut batch, BATCH) => self.events(&mut batch),
                Some(event) = self.queues.watchers.recv() => self.event(event),
                Some((call, report)) = self.reports.recv() => self.reported(call, report),
                () = sleep_until(deadline) => self.timeout(),
            }
            let idle = self.carry_out();
            self.write_down();
            self.advance(idle);
        }
        self.finish().await;
    }

    /// Ends what a gateway before this one has left behind.
    fn end_left(&mut self) {
        while let Some((number, mut left)) = self.left.take() {
            match left.dialog.flow().and_then(|flow| self.settings.way(flow)) {
                Some(flow) => {
                    left.dialog.from = flow.local;
                    if flow.transport == Transport::Tls
                        && let Some(trunk) = &left.trunk
                    {
                        self.sip.connections.expect(trunk, flow.remote, self.settings.tls_name(trunk));
                    }
                    self.input(Input::LeftBehind { number, left: Box::new(left) });
                }
                None => {
                    tracing::warn!(remote = %left.dialog.to, "no listener reaches a call that was left behind");
                    self.left_ended(number, true);
                }
            }
        }
    }

    /// Writes the records that a gateway before this one has left. Of a call that stood its end is news to all who count,
    /// once: a gateway that was killed in between has told those that it found.
    fn write_left(&mut self) {
        let left = std::mem::take(&mut self.unwritten);
        let lost = left.iter().filter(|record| record.stood).count();
        if !left.is_empty() {
            tracing::warn!(
                lost,
                records = left.len(),
                "a gateway was killed here: the records of its calls are written"
            );
        }
        for Unwritten { receipt, cdr, stood } in left {
            if stood {
                self.ended(&cdr);
                self.publish(Notice::Ended { call: cdr.call.clone(), cdr: Box::new(cdr.clone()) });
            }
            self.cdr.write_again(cdr, receipt);
        }
    }

    /// A call is over.
    fn ended(&mut self, record: &Cdr) {
        self.metrics.ended(record);
        self.trace.over(&record.call);
        self.lately.ended(record);
        self.otlp.ended(record);
    }

    fn write(&mut self, record: Cdr) {
        let Some(json) = cdr::json(&record) else { return };
        let journal = self.journal.as_mut();
        let receipt = journal.map(|journal| journal.record(now().unix_ms, &record.call, &json));
        self.cdr.write(record, json, receipt);
    }

    fn publish(&mut self, notice: Notice) {
        self.metrics.event(&notice);
        self.events.publish(now().unix_ms, notice);
    }

    fn left_ended(&mut self, number: usize, over: bool) {
        let forgotten = self.left.ended(now().instant, number, over);
        if let (Some(journal), Some(id)) = (&mut self.journal, forgotten) {
            journal.over(id);
        }
    }

    fn asked(&mut self, ask: Ask) {
        match (ask, self.phase) {
            (Ask::Reload, _) => {
                if self.reloads.try_send(None).is_err() {
                    tracing::warn!("a reload is asked for too often");
                }
            }
            (Ask::Stop, Phase::Serving) => self.drain(None),
            (Ask::Stop, Phase::Draining(_)) => self.phase = Phase::Draining(now().instant),
            (Ask::Stop, Phase::Releasing(_) | Phase::Over) => {}
        }
    }

    /// New calls are refused; the others have so long to end by themselves. A later word on it counts.
    fn drain(&mut self, grace: Option<Duration>) {
        let grace = grace.unwrap_or(self.settings.grace);
        let until = now().instant.checked_add(grace).unwrap_or_else(|| now().instant + LONGEST_GRACE);
        match self.phase {
            Phase::Serving => {
                tracing::info!(grace_seconds = grace.as_secs(), "stopping: new calls are refused");
                self.teller.stopping();
                self.input(Input::Drain);
                self.phase = Phase::Draining(until);
                self.tell();
            }
            Phase::Draining(_) => self.phase = Phase::Draining(until),
            Phase::Releasing(_) | Phase::Over => {}
        }
    }

    /// Tells health checks and the service manager how it stands.
    fn tell(&mut self) {
        let now = now().instant;
        let busy = self.pool.is_busy();
        if busy != self.switch.is_busy() {
            self.input(Input::Busy(busy));
        }
        let mut reasons = Vec::new();
        if self.phase != Phase::Serving {
            reasons.push(Reason::Draining);
        }
        if !self.switch.has_usable_trunk() {
            reasons.push(Reason::NoTrunk);
        }
        if !self.pool.runs() {
            reasons.push(Reason::NoWorker);
        }
        let stats = self.switch.stats();
        let mut warnings = self.stores().warnings();
        if busy {
            warnings.push(Warning::Busy);
        }
        let left = match self.phase {
            Phase::Serving => None,
            phase => Some(phase.deadline().unwrap_or(now).saturating_duration_since(now)),
        };
        self.teller.tell(now, Found { reasons, warnings, calls: stats.calls, established: stats.established, left });
    }

    /// How everything stands, for [`super::metrics`].
    fn snapshot(&self) -> Snapshot {
        let queue =
            |name, queue: &mpsc::Receiver<Event>| QueueUse { name, waiting: queue.len(), room: queue.max_capacity() };
        let reports = QueueUse { name: "media", waiting: self.reports.len(), room: self.reports.max_capacity() };
        let limits = self.switch.limits();
        Snapshot {
            status: self.status(),
            certificates: self.settings.certificates(),
            stats: self.switch.stats(),
            most_calls: limits.calls,
            most_sockets: limits.sockets,
            pool: self.pool.usage(now().instant),
            queues: vec![queue("sip", &self.queues.trunks), queue("browsers", &self.queues.browsers), reports],
            sip_lost: self.tasks.sip_lost.load(Ordering::Relaxed),
            hooks: self.events.hooks(),
            otlp: self.otlp.usage(),
        }
    }

    /// Takes a new configuration; gives what of it is for the next start. What is refused is refused whole.
    fn reload(&mut self, config: Config, cdr: Prepared) -> Result<Vec<&'static str>, String> {
        if self.phase != Phase::Serving {
            return Err("the gateway is draining".into());
        }
        let for_restart = self.settings.bound.needs_restart(&config);
        let advertise = self.settings.check(&config).map_err(|error| error.to_string())?;
        let gone = self.cdr.reload(cdr).map_err(|error| format!("CDRs: {error}"))?;
        self.tasks.tracker.spawn(gone.finish()); // what waits there is written to its end
        self.settings.take(&config);
        self.events.set_spool(config.spool.clone());
        self.events.reload(&config.webhooks);
        self.trace.reload(config.trace, config.hep.as_ref());
        self.lately.reload(config.trace.calls);
        self.otlp.reload(config.otlp.clone());
        self.pool.reload(&config.media, self.settings.media_calls());
        self.sip.dns.set_servers(&config.sip.dns);
        let is_trunk = |name: &str| config.trunks.iter().any(|trunk| trunk.trunk.name == name);
        self.sip.connections.reload(tls_clients(&config), is_trunk);
        self.input(Input::Reload(Box::new(self.settings.switch(config, advertise))));
        Ok(for_restart)
    }

    fn advance(&mut self, idle: bool) {
        self.phase = self.next_phase(self.phase, idle);
    }

    fn next_phase(&mut self, phase: Phase, idle: bool) -> Phase {
        let now = now().instant;
        match phase {
            Phase::Serving => Phase::Serving,
            _ if idle => Phase::Over,
            Phase::Draining(until) if now >= until => {
                self.input(Input::HangupAll);
                if self.carry_out() { Phase::Over } else { Phase::Releasing(now + RELEASE_WITHIN) }
            }
            Phase::Releasing(until) if now >= until => {
                tracing::warn!("some calls did not end in time; their peers have to find out");
                Phase::Over
            }
            phase => phase,
        }
    }

    fn reported(&mut self, call: CallId, report: MediaReport) {
        if let MediaReport::Quality(quality) = &report {
            self.lately.heard(now().unix_ms, call, quality);
        }
        self.input(Input::Media { call, report });
    }

    fn events(&mut self, batch: &mut Vec<Event>) {
        for event in batch.drain(..) {
            self.event(event);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Switch(mut input) => {
                match &mut input {
                    Input::SocketClosed { socket, .. } => {
                        self.sockets.remove(socket);
                    }
                    Input::Sip { flow, .. } if flow.id != 0 => self.sip.connections.heard(now().instant, *flow),
                    Input::Resolved { trunk, result: Ok(located), .. } => {
                        let left_out = self.sip.connections.resolved(trunk, located.targets());
                        located.retain(|t| t.transport != Transport::Tls || !left_out.contains(&t.remote));
                    }
                    _ => {}
                }
                self.input(input);
            }
            Event::SocketOpened { socket, peer, rings, outbox } => {
                self.sockets.insert(socket, outbox);
                self.input(Input::SocketOpened { socket, peer, rings });
            }
            // Gone meanwhile: whoever asked does not wait any more.
            Event::Status { answer } => drop(answer.send(self.status())),
            Event::Users { answer } => drop(answer.send(self.switch.users(now()))),
            Event::Metrics { answer } => drop(answer.send(self.snapshot())),
            Event::Reload(offer) => {
                if let Some((config, cdr, answer)) = offer.wanted() {
                    let _ = answer.send(self.reload(config, cdr)); // whoever asked does not wait any more
                }
            }
            Event::Command { command, answer } => {
                self.next_command += 1;
                self.commands.insert(self.next_command, answer);
                self.input(Input::Command { number: self.next_command, command });
            }
            Event::Trace { question, answer } => drop(answer.send(self.trace.answer(question))),
            Event::Lately { question, answer } => drop(answer.send(self.lately.answer(now().unix_ms, question))),
            Event::Drain { grace } => self.drain(grace),
            Event::SipAccepted { connection, reply } => {
                let flow = connection.flow;
                let admission = match flow.transport.is_websocket() {
                    true => Admission::Stranger,
                    false => self.switch.admits(now().instant, flow.remote.ip()),
                };
                let (now, switch) = (now().instant, &self.switch);
                let taken = self.sip.connections.accepted(now, connection, admission, || switch.uses(now));
                if reply.send(taken).is_err() {
                    self.sip.connections.closed(flow);
                }
            }
            Event::SipAlias { flow, peer } => self.sip.connections.alias(flow, peer),
            Event::SipClosed { flow, input } => {
                self.sip.connections.closed(flow);
                self.input(input);
            }
        }
    }

    /// Something is due: in the switch, or among the connections.
    fn timeout(&mut self) {
        let now = now();
        self.switch.handle_timeout(now);
        self.left.handle_timeout(now.instant);
        self.end_left();
        self.sip.handle_timeout(now.instant, &mut self.rng);
        if self.sip.wants_sweep(now.instant) {
            self.sip.sweep(now.instant, self.switch.uses(now.instant));
        }
        if self.teller.poll_timeout() <= now.instant {
            self.tell();
        }
    }

    /// How everything stands, the shell's part with it.
    fn status(&self) -> Status {
        let Stores { cdr, store, journal } = self.stores();
        Status { cdr, store, journal, ..self.switch.status(now()) }
    }

    fn stores(&self) -> Stores {
        Stores {
            cdr: self.cdr.status(),
            store: self.store.as_ref().map(Store::status),
            journal: self.journal.as_ref().map(Journal::status),
        }
    }

    fn input(&mut self, input: Input) {
        self.trace.hear(&self.switch, &input);
        self.switch.handle(now(), input);
    }

    /// Carries out all that the switch wants; `true` when it said that no call is left.
    fn carry_out(&mut self) -> bool {
        let mut idle = false;
        while let Some(output) = self.switch.poll_output() {
            match output {
                Output::Socket { socket, text, call } => {
                    self.trace.tell(&self.switch, socket, &text, call);
                    self.send(socket, Frame::Text(text));
                }
                Output::Owned { call, dialog } => self.trace.owned(call, dialog),
                Output::CloseSocket { socket, code, reason } => self.send(socket, Frame::Close { code, reason }),
                Output::Sip { flow, bytes } => {
                    self.trace.send(flow, &bytes);
                    self.send_sip(flow, bytes);
                }
                Output::Lease { call, slot, peers, browser } => {
                    let input = match self.pool.lease(now().instant, call, slot, &peers, browser) {
                        Ok(lease) => Input::Leased { call, slot, lease },
                        Err(reason) => Input::LeaseFailed { call, slot, reason },
                    };
                    self.input(input);
                }
                Output::Ask { call, url, body, within } => self.hooks.ask(call, url, body, within),
                Output::Media { call, command } => self.command(call, command),
                Output::ReleaseSlot { call, slot } => self.pool.release_slot(now().instant, call, slot),
                Output::Release { call } => self.pool.release(now().instant, call),
                Output::Resolve { trunk, name } => {
                    if let Some(found) = self.sip.dns.resolve(trunk, name) {
                        self.event(Event::Switch(found));
                    }
                }
                Output::KeepAlive { flow, on } => self.sip.keep_alive(now().instant, &mut self.rng, flow, on),
                Output::Dialog { session, left } => {
                    if let Some(journal) = &mut self.journal {
                        journal.note(now().unix_ms, session, left.map(|left| *left));
                    }
                }
                Output::LeftEnded { number, over } => self.left_ended(number, over),
                Output::Reply { number, reply } => {
                    if let Some(answer) = self.commands.remove(&number) {
                        let _ = answer.send(*reply); // whoever asked does not wait any more
                    }
                }
                Output::Event(notice) => {
                    if let Notice::Started { call, .. } = notice.as_ref() {
                        self.lately.began(call);
                    }
                    self.publish(*notice);
                }
                Output::Standing(record) => {
                    if let (Some(journal), Some(json)) = (&mut self.journal, cdr::json(&record)) {
                        drop(journal.record(now().unix_ms, &record.call, &json));
                    }
                }
                Output::Cdr(record) => {
                    self.ended(&record);
                    self.write(*record);
                }
                Output::Idle => idle = true,
            }
        }
        self.trace.settle(&self.switch);
        idle
    }

    /// What the limits have counted goes to the store, as soon as that has written what it has.
    fn write_down(&mut self) {
        let Some(store) = self.store.as_ref().filter(|store| store.is_ready()) else { return };
        if self.switch.has_limit_changes() {
            store.write(now().unix_ms, self.switch.take_limit_changes(now()));
        }
    }

    fn command(&mut self, call: CallId, command: crate::sdp::MediaCommand) {
        if !self.pool.command(&mut self.rng, call, command) {
            tracing::error!(%call, "the media worker does not take a command: the call ends");
            self.input(Input::Media { call, report: MediaReport::Failed });
        }
    }

    /// A browser that reads too slowly loses its socket, and nobody else anything.
    fn send(&mut self, socket: SocketId, frame: Frame) {
        let Some(outbox) = self.sockets.get(&socket) else { return };
        if outbox.try_send(frame).is_err() {
            tracing::warn!(socket = socket.0, "a browser does not read: its socket is closed");
            self.sockets.remove(&socket);
        }
    }

    fn send_sip(&mut self, flow: Flow, bytes: Vec<u8>) {
        if !self.sip.send(now().instant, flow, bytes) {
            self.input(Input::SipFailed { flow });
        }
    }

    /// Lets the sockets' writers send what is queued, ends every task, then the threads.
    async fn finish(mut self) {
        self.events.finish();
        self.sockets.clear(); // each outbox ends: its task sends what waits and closes
        self.tasks.stop.cancel();
        self.tasks.tracker.close();
        self.queues.browsers.close();
        self.queues.trunks.close();
        self.queues.watchers.close();
        if tokio::time::timeout(RELEASE_WITHIN, self.tasks.tracker.wait()).await.is_err() {
            tracing::warn!("some connections did not close in time");
        }
        self.pool.stop();
        // All together: a disk that hangs costs its time once, and nobody's records wait behind another's. The journal is last,
        // as it has what the others have not written.
        let counted = self.switch.take_limit_changes(now());
        let records = async {
            self.cdr.finish().await;
            if let Some(journal) = self.journal {
                journal.finish().await;
            }
        };
        let store = async {
            if let Some(store) = self.store {
                store.finish(now().unix_ms, counted).await;
            }
        };
        let written = async { tokio::join!(records, store) };
        if tokio::time::timeout(WRITTEN_WITHIN, written).await.is_err() {
            tracing::error!("what waited to be written was not, within {WRITTEN_WITHIN:?}: the gateway ends without");
        }
    }
}

impl Phase {
    fn deadline(self) -> Option<Instant> {
        match self {
            Phase::Draining(until) | Phase::Releasing(until) => Some(until),
            Phase::Serving | Phase::Over => None,
        }
    }
}

/// The two clocks that the core is given.
pub(super) fn now() -> Now {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    Now { instant: Instant::now(), unix_ms: u64::try_from(unix_ms).unwrap_or(u64::MAX) }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
