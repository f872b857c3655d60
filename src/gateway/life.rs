//! What the world is told of how the gateway lives: health checks, the service manager, and the log while it drains.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use super::notify::Notifier;
use crate::switch::{CdrStatus, StoreStatus};

/// How often all of this is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often the log says how far a drain is.
const PROGRESS: Duration = Duration::from_secs(10);
/// How much longer the service manager is asked to wait for a drain, at each tick.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why no new calls should be sent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    /// It has not begun yet.
    Starting,
    /// It ends with its last call.
    Draining,
    /// There are trunks, and none takes calls.
    NoTrunk,
    /// No media thread runs.
    NoWorker,
}

/// What should be seen to, while calls can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Warning {
    /// A place of call records takes none: they wait.
    CdrFailing,
    /// A queue of call records is full: they stand in the log alone.
    CdrFull,
    /// What the limits count cannot be written: it stands in memory alone.
    StoreFailing,
    /// The media threads have as much to do as they can: new calls are refused, but to emergency numbers.
    Busy,
    /// Calls that stand cannot be noted: a crash would leave them without end and record.
    JournalFailing,
}

/// How what is written down stands.
#[derive(Debug)]
pub(super) struct Stores {
    pub(super) cdr: Vec<CdrStatus>,
    pub(super) store: Option<StoreStatus>,
    pub(super) journal: Option<StoreStatus>,
}

impl Stores {
    /// What should be seen to of it.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let any = |is: fn(&CdrStatus) -> bool| self.cdr.iter().any(is);
        let fails = |store: &Option<StoreStatus>| store.as_ref().is_some_and(|store| store.failing_since.is_some());
        let found = [
            (any(|place| place.failing_since.is_some()), Warning::CdrFailing),
            (any(|place| place.waiting >= place.room), Warning::CdrFull),
            (fails(&self.store), Warning::StoreFailing),
            (fails(&self.journal), Warning::JournalFailing),
        ];
        found.into_iter().filter_map(|(is, warning)| is.then_some(warning)).collect()
    }
}

/// `GET /readyz`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    /// Why it is not.
    pub(super) reasons: Vec<Reason>,
    /// What should be seen to all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<Warning>,
}

/// What health checks are told.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) readiness: Readiness,
    /// When the driver last turned.
    pub(super) beat: Instant,
}

impl Life {
    /// Before the first turn.
    pub(super) fn starting(now: Instant) -> Life {
        let readiness = Readiness { ready: false, reasons: vec![Reason::Starting], warnings: Vec::new() };
        Life { readiness, beat: now }
    }
}

/// What the driver finds at a tick.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) reasons: Vec<Reason>,
    pub(super) warnings: Vec<Warning>,
    pub(super) calls: usize,
    pub(super) established: usize,
    /// While draining: how long calls may still take.
    pub(super) left: Option<Duration>,
}

/// The driver's teller.
pub(super) struct Teller {
    life: watch::Sender<Life>,
    notifier: Arc<Notifier>,
    every: Duration,
    next: Instant,
    said: String,
    progress: Option<Instant>,
}

impl Teller {
    pub(super) fn new(now: Instant, life: watch::Sender<Life>, notifier: Arc<Notifier>) -> Teller {
        // A watchdog is to be fed twice in its time at least (sd_watchdog_enabled(3)).
        let every = notifier.watchdog.map_or(TICK, |watchdog| TICK.min(watchdog / 3));
        Teller { life, notifier, every, next: now, said: String::new(), progress: None }
    }

    /// When [`Teller::tell`] is wanted.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// All is bound and the first turn is done.
    pub(super) fn ready(&self) {
        self.notifier.ready();
    }

    /// No new calls from now on.
    pub(super) fn stopping(&self) {
        self.notifier.stopping();
    }

    /// Tells everybody how it stands.
    pub(super) fn tell(&mut self, now: Instant, found: Found) {
        self.next = now + self.every;
        let Found { reasons, warnings, calls, established, left } = found;
        let works = !reasons.contains(&Reason::NoWorker);
        if let Some(left) = left {
            let seconds = left.as_secs();
            if self.progress.is_none_or(|said| now >= said + PROGRESS) {
                tracing::info!(calls, seconds_left = seconds, "draining");
                self.progress = Some(now);
            }
            self.notifier.tell(&format!("EXTEND_TIMEOUT_USEC={}", (self.every + PATIENCE).as_micros()));
        }
        let status = match left {
            Some(left) => format!("draining: {calls} calls left, {} s of grace", left.as_secs()),
            None => format!("{calls} calls, {established} established{}{}", in_words(&reasons), warned(&warnings)),
        };
        if status != self.said {
            self.notifier.tell(&format!("STATUS={status}"));
            self.said = status;
        }
        // Without any media thread a restart is the cure, and the watchdog brings it.
        if works && self.notifier.watchdog.is_some() {
            self.notifier.tell("WATCHDOG=1");
        }
        let readiness = Readiness { ready: reasons.is_empty(), reasons, warnings };
        self.life.send_replace(Life { readiness, beat: now });
    }
}

fn warned(warnings: &[Warning]) -> String {
    let word = |warning: &Warning| match warning {
        Warning::CdrFailing => "; call records WAIT",
        Warning::CdrFull => "; call records stand in the LOG ALONE",
        Warning::StoreFailing => "; what limits count is NOT WRITTEN",
        Warning::Busy => "; the media threads are BUSY: new calls are refused",
        Warning::JournalFailing => "; calls that stand are NOT NOTED",
    };
    warnings.iter().map(word).collect()
}

fn in_words(reasons: &[Reason]) -> String {
    let word = |reason: &Reason| match reason {
        Reason::Starting => "; starting",
        Reason::Draining => "; draining",
        Reason::NoTrunk => "; NO TRUNK takes calls",
        Reason::NoWorker => "; NO MEDIA THREAD runs",
    };
    reasons.iter().map(word).collect()
}
