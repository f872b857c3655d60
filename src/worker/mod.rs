//! Media threads.
//!
//! A worker is one OS thread with a poll loop. It owns one UDP socket for browsers, two sockets for each
//! RTP leg, a heap of timers and the calls' [`Bridge`]s. A call lives on one worker for life: its packets keep
//! their order, nothing is shared, and the way of a packet takes no lock and allocates nothing.
//!
//! The other threads speak to it by a bounded channel ([`WorkerHandle`]) and hear from it by a callback. A panic in a
//! call's bridge ends that call and is counted.
//!
//! All workers' sockets for browsers share one port: what one reads for another's call it hands over.

mod affinity;
mod effort;
mod engine;
mod handover;
mod lateness;
mod routes;
mod seat;
mod step;
mod timers;

#[cfg(test)]
mod call_tests;
#[cfg(test)]
mod shared_port_tests;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use mio::Waker;

use crate::media::{Bridge, Effort, Means};
use crate::net::RtpPair;
use crate::sdp::{MediaCommand, MediaPlan, MediaReport, RtpSlot};
use engine::{Command, Engine};
pub use lateness::Lateness;
pub use seat::Seat;
use step::Step;

/// How a worker is set up.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Calls that it takes at a time; all tables are sized for it at start.
    pub max_calls: usize,
    /// Whether datagrams from other machines are dropped, and counted as unroutable. So a socket on the unspecified
    /// address serves this machine's browsers alone: Firefox does not use a candidate on a loopback address.
    pub local_only: bool,
    /// The processor that the thread is kept to; `None`: the system chooses, and may choose anew.
    pub cpu: Option<usize>,
    /// The thread's name.
    pub name: String,
}

/// Why a worker could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The browsers' socket could not be bound.
    #[error("cannot bind the browsers' media port {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The thread cannot run on the processor that it is to be kept to.
    #[error("cannot keep a media thread to processor {cpu}: {source}; see [media] cpus")]
    Cpu {
        /// The processor's number.
        cpu: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no poll or no thread.
    #[error("cannot start a media thread: {0}")]
    Start(#[source] io::Error),
}

/// The worker takes no more: its calls or its queue of commands are full, or it has ended. Nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the media worker is busy")]
pub struct WorkerBusy;

/// Pairs of RTP ports of one call, by their slots.
pub type Pairs = Vec<(RtpSlot, RtpPair)>;

/// Where a worker's reports go: the call's number and the report. Called on the worker's thread: it must not block.
pub type Reports = Box<dyn Fn(u64, MediaReport) + Send>;

/// A worker's counters since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerCounters {
    /// Datagrams on the browsers' port that belong to no call.
    pub unroutable: u64,
    /// Those that it read for another worker's call and handed over.
    pub handed_over: u64,
    /// Those that were dropped because the other had no room for them.
    pub not_handed_over: u64,
    /// Datagrams that the system did not take for sending.
    pub unsent: u64,
    /// Calls ended by a panic of their bridge.
    pub panics: u64,
}

/// What the thread and its handle share.
#[derive(Debug, Default)]
struct Shared {
    /// Calls open, or about to be: counted by the handle, so that the limit holds at once.
    calls: AtomicUsize,
    /// Commands in the channel, but for Stop.
    waiting: AtomicUsize,
    stopping: AtomicBool,
    unroutable: AtomicU64,
    handed_over: AtomicU64,
    not_handed_over: AtomicU64,
    unsent: AtomicU64,
    panics: AtomicU64,
    late: lateness::Counts,
    /// What the thread makes of it ([`effort::Standing`]).
    effort: AtomicU8,
    busy: AtomicBool,
    /// See [`WorkerHandle::set_busy_at`].
    busy_at: AtomicU8,
}

/// A running worker. It ends by [`stop`](Self::stop) alone: dropping the handle leaves it running.
#[must_use = "a worker ends by stop() alone"]
#[derive(Debug)]
pub struct WorkerHandle {
    browser_address: SocketAddr,
    ufrag_mark: char,
    max_calls: usize,
    commands: SyncSender<Command>,
    waker: Arc<Waker>,
    shared: Arc<Shared>,
    means: Arc<Shelf>,
    /// `None` where the caller takes the turns himself.
    thread: Option<JoinHandle<()>>,
}

/// The turns of a worker that has no thread of its own: a test or a benchmark takes them where it can watch what they do.
#[must_use = "nothing happens but in turns"]
pub struct Turns {
    engine: Engine<Bridge>,
    events: mio::Events,
}

impl Turns {
    /// Takes a turn: waits until there is something to do, and does it.
    pub fn turn(&mut self) {
        self.engine.turn(&mut self.events);
    }

    /// Ends all calls.
    pub fn end(self) {
        self.engine.end();
    }
}

/// What calls are opened with: read once a call, written at a reload.
#[derive(Default)]
#[allow(clippy::disallowed_types)] // nothing on the way of a packet takes it
struct Shelf(std::sync::RwLock<Means>);

impl Shelf {
    fn get(&self) -> Means {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shelf")
    }
}

/// A media thread's stack: a call's bridge is built on it and moved, several times over where nothing is optimised.
const STACK: usize = 8 * 1024 * 1024;

/// Commands that may wait, but for Stop, which has room of its own: a call whose Stop was refused would keep its sockets.
/// That is the opening and a few updates of every call, and digits: a full channel means that the thread hangs.
fn commands_at_most(max_calls: usize) -> usize {
    max_calls * 3 + 64
}

/// Makes calls' bridges with what is on the shelf.
fn bridges(shelf: Arc<Shelf>) -> impl Fn(Instant, MediaPlan, [u8; 32]) -> Option<Bridge> + Send + 'static {
    move |now, plan, seed| Bridge::new(now, plan, &shelf.get(), seed).ok()
}

/// A channel with room for what [`commands_at_most`] allows, for every call's Stop, and for the word that another channel
/// takes its place.
fn channel_for(max_calls: usize) -> (SyncSender<Command>, Receiver<Command>) {
    sync_channel(commands_at_most(max_calls) + max_calls + 1)
}

impl WorkerHandle {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`WorkerError`]: what the system did not give.
    pub fn spawn(seat: Seat, config: WorkerConfig, means: Means, reports: Reports) -> Result<Self, WorkerError> {
        let means = Arc::new(Shelf(means.into()));
        let worker = Self::spawn_with(seat, config, reports, bridges(means.clone()))?;
        Ok(Self { means, ..worker })
    }

    /// The same without a thread: the caller takes the [`Turns`].
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn by_hand(
        seat: Seat,
        config: WorkerConfig,
        means: Means,
        reports: Reports,
    ) -> Result<(Self, Turns), WorkerError> {
        let means = Arc::new(Shelf(means.into()));
        let (worker, engine) = Self::build(seat, &config, reports, bridges(means.clone()))?;
        Ok((Self { means, ..worker }, Turns { engine, events: engine::events() }))
    }

    /// The same with any kind of call: the tests' have faults.
    fn spawn_with<B: Step>(
        seat: Seat,
        config: WorkerConfig,
        reports: Reports,
        make: impl Fn(Instant, MediaPlan, [u8; 32]) -> Option<B> + Send + 'static,
    ) -> Result<Self, WorkerError> {
        let (worker, engine) = Self::build(seat, &config, reports, make)?;
        let cpu = config.cpu;
        let (tell, kept) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(config.name)
            .stack_size(STACK)
            .spawn(move || {
                let kept = cpu.map_or(Ok(()), affinity::keep_to);
                let may_run = kept.is_ok();
                // Whoever starts the thread waits for it.
                if tell.send(kept).is_ok() && may_run {
                    engine.run();
                }
            })
            .map_err(WorkerError::Start)?;
        match kept.recv().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())) {
            Ok(()) => Ok(Self { thread: Some(thread), ..worker }),
            Err(source) => {
                let _ = thread.join(); // it has ended, and says nothing more
                Err(WorkerError::Cpu { cpu: cpu.unwrap_or_default(), source })
            }
        }
    }

    fn build<B: Step>(
        seat: Seat,
        config: &WorkerConfig,
        reports: Reports,
        make: impl Fn(Instant, MediaPlan, [u8; 32]) -> Option<B> + Send + 'static,
    ) -> Result<(Self, Engine<B>), WorkerError> {
        let WorkerConfig { max_calls, local_only, .. } = *config;
        let Seat { socket, address: browser_address, poll, waker, mark: ufrag_mark, handover } = seat;
        let (commands, queue) = channel_for(max_calls);
        let shared = Arc::new(Shared::default());
        let shared_by_thread = shared.clone();
        let setup = engine::Setup { max_calls, local_only, clock: Box::new(Instant::now), handover };
        let engine = Engine::new(poll, socket, queue, Box::new(make), reports, shared_by_thread, setup)
            .map_err(WorkerError::Start)?;
        let means = Arc::default();
        let worker = Self { browser_address, ufrag_mark, max_calls, commands, waker, shared, means, thread: None };
        Ok((worker, engine))
    }

    /// Where the browsers' socket is bound.
    pub fn browser_address(&self) -> SocketAddr {
        self.browser_address
    }

    /// What the ufrags of its calls' browsers have to begin with, so that workers that share a port know whose they are.
    pub fn ufrag_mark(&self) -> char {
        self.ufrag_mark
    }

    /// What calls that are opened from now on play to those on hold.
    pub fn set_music(&self, music: Option<Arc<[i16]>>) {
        self.means.0.write().unwrap_or_else(PoisonError::into_inner).music = music;
    }

    /// The worker takes so many calls from now on, if those are more than before: the thread gets larger tables, and another
    /// channel in the place of the old one, whose last word this is.
    ///
    /// # Errors
    /// [`WorkerBusy`]: everything is as before.
    pub fn make_room(&mut self, max_calls: usize) -> Result<(), WorkerBusy> {
        if max_calls <= self.max_calls {
            return Ok(());
        }
        let (commands, queue) = channel_for(max_calls);
        self.commands.try_send(Command::Grow { queue, max_calls }).map_err(|_| WorkerBusy)?;
        self.commands = commands;
        self.max_calls = max_calls;
        self.wake();
        Ok(())
    }

    /// Opens a call. Its sockets are the worker's until [`MediaCommand::Stop`], whose [`MediaReport::Stopped`] says
    /// that they are closed. When it is refused the pairs are closed at once.
    pub fn open(&self, call: u64, pairs: Pairs, plan: MediaPlan, seed: [u8; 32]) -> Result<(), WorkerBusy> {
        let room = |calls| (calls < self.max_calls).then_some(calls + 1);
        self.shared.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).map_err(|_| WorkerBusy)?;
        let opened = self.send(Command::Open { call, pairs, plan: Box::new(plan), seed });
        if opened.is_err() {
            self.shared.calls.fetch_sub(1, Ordering::Relaxed);
        }
        opened
    }

    /// Tells the worker something about an open call. A command about a call that is not open is ignored, but for
    /// [`MediaCommand::Stop`], which is answered by empty counters. The Stop of an open call is refused by a thread that
    /// has ended alone.
    pub fn command(&self, call: u64, command: MediaCommand) -> Result<(), WorkerBusy> {
        self.send(Command::Media { call, command: Box::new(command) })
    }

    /// Gives an open call one more pair of ports; one that is in the slot already is closed.
    pub fn add_pair(&self, call: u64, slot: RtpSlot, pair: RtpPair) -> Result<(), WorkerBusy> {
        self.send(Command::AddPair { call, slot, pair })
    }

    /// Closes one pair of an open call.
    pub fn remove_pair(&self, call: u64, slot: RtpSlot) -> Result<(), WorkerBusy> {
        self.send(Command::RemovePair { call, slot })
    }

    fn send(&self, command: Command) -> Result<(), WorkerBusy> {
        let waits = !command.is_stop();
        if waits {
            let most = commands_at_most(self.max_calls);
            let room = |waiting| (waiting < most).then_some(waiting + 1);
            self.shared.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).map_err(|_| WorkerBusy)?;
        }
        match self.commands.try_send(command) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                if waits {
                    self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                }
                return Err(WorkerBusy);
            }
        }
        self.wake();
        Ok(())
    }

    /// Where the waker fails a command still waits in the channel for the next turn of the loop.
    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::warn!(%error, "cannot wake a media worker");
        }
    }

    /// Whether the thread runs: a panic outside of a call's bridge ends it.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_none_or(|thread| !thread.is_finished())
    }

    /// Calls open now.
    pub fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::Relaxed)
    }

    /// The counters.
    pub fn counters(&self) -> WorkerCounters {
        WorkerCounters {
            unroutable: self.shared.unroutable.load(Ordering::Relaxed),
            handed_over: self.shared.handed_over.load(Ordering::Relaxed),
            not_handed_over: self.shared.not_handed_over.load(Ordering::Relaxed),
            unsent: self.shared.unsent.load(Ordering::Relaxed),
            panics: self.shared.panics.load(Ordering::Relaxed),
        }
    }

    /// How late the timers of its calls were served.
    pub fn lateness(&self) -> Lateness {
        self.shared.late.read()
    }

    /// How much work it spends on its calls' sound.
    pub fn effort(&self) -> Effort {
        match self.shared.effort.load(Ordering::Relaxed) {
            0 => Effort::Full,
            1 => Effort::Less,
            _ => Effort::Least,
        }
    }

    /// Whether it should be given no new calls: those that it has would suffer. It takes them all the same.
    pub fn is_busy(&self) -> bool {
        self.shared.busy.load(Ordering::Relaxed)
    }

    /// For unit tests: a standing that nothing has led to.
    #[cfg(test)]
    pub(crate) fn seem(&self, effort: Effort, busy: bool) {
        self.shared.effort.store(effort as u8, Ordering::Relaxed);
        self.shared.busy.store(busy, Ordering::Relaxed);
    }

    /// The share of a processor's time, in percent, above which it is [busy](Self::is_busy); 0: it never is, nor when it is
    /// late. It is 0 at the start.
    pub fn set_busy_at(&self, percent: u8) {
        self.shared.busy_at.store(percent, Ordering::Relaxed);
    }

    /// Commands that wait.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Ends all calls, each with its [`MediaReport::Stopped`], and the thread; waits for it.
    pub fn stop(self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.wake();
        if self.thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a media worker ended by a panic");
        }
    }
}
