//! The way of records to one place: a bounded queue and a thread of its own, so that neither a slow disk nor a dead database
//! holds up a call or another place.
//!
//! Records are written in order. What fails is tried again, ever more seldom, and waits at the head of the queue meanwhile;
//! a record that finds the queue full stands in the log, as does one that the place will never take.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::left::Left;
use super::row::Record;
use crate::switch::CdrStatus;

/// Records written at once.
const BATCH: usize = 256;
/// After how long what failed is tried again, then after twice as long, up to the longest.
const AGAIN: Duration = Duration::from_millis(250);
const SELDOM: Duration = Duration::from_secs(15);
/// How often what is too old is looked for.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// How long the last records may take at the end: a pipe that nobody reads must not hold the gateway.
const FINISH_WITHIN: Duration = Duration::from_secs(10);
/// How often what fails is tried at the end.
const LAST_TRIES: u32 = 3;

/// Where records go.
pub(super) trait Sink: Send {
    /// Writes some of them, from the first on, and says how many. Where it fails, none is written.
    fn write(&mut self, records: &[Arc<Record>]) -> Result<usize, Failure>;

    /// Removes records of calls that began before then, Unix milliseconds.
    fn forget(&mut self, _before_ms: u64) -> Result<(), Failure> {
        Ok(())
    }
}

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It may be written later.
    Later(String),
    /// One of these is such as will never be taken.
    Never(String),
}

/// How much may wait, and how long records stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) queue: usize,
    pub(super) keep: Option<Duration>,
}

/// See the module. [`Lane::finish`] ends it.
pub(super) struct Lane {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    done: oneshot::Receiver<()>,
    /// Its end is the lane's: the file of what waits is nobody's then.
    stands: SyncSender<()>,
}

/// A lane's end, for the next one of its kind: both have the same file.
pub(super) struct Turn(Receiver<()>);

impl Turn {
    /// A turn that comes at once, and the end that has to be dropped for the other.
    fn taken() -> (SyncSender<()>, Turn) {
        let (stands, turn) = sync_channel(0);
        (stands, Turn(turn))
    }

    /// Whether it has come.
    pub(super) fn has_come(&self) -> bool {
        self.0.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected)
    }

    /// Until it has come; only a lane that ends is waited for, which takes seconds at most.
    fn wait(&self) {
        let _ = self.0.recv(); // nothing is ever sent
    }
}

struct Shared {
    name: &'static str,
    state: Mutex<State>,
    wake: Condvar,
    /// Taken away at the end, so that a try that comes back late does not write over what was left. Never locked together with
    /// the state, nor by the driver.
    left: Mutex<Option<Left>>,
}

struct State {
    waiting: VecDeque<Arc<Record>>,
    bounds: Bounds,
    /// Takes the place of the sink.
    replacement: Option<Box<dyn Sink>>,
    /// Takes the place of the file of what waits.
    moves_to: Option<Left>,
    ending: bool,
    /// What failed is tried again then.
    again: Option<Instant>,
    failures: u32,
    /// What failed last, and since when it fails, Unix milliseconds.
    failing: Option<(u64, String)>,
    warned: bool,
    written: u64,
    lost: u64,
}

/// What the thread is to do.
enum Work {
    Take(Box<dyn Sink>),
    Write(Vec<Arc<Record>>),
    Forget(Duration),
    End,
}

impl Lane {
    /// Starts the thread, which takes up what an earlier run has left, after a lane of its kind that still ends. Gives the turn
    /// of the next one.
    pub(super) fn start(
        name: &'static str,
        sink: Box<dyn Sink>,
        bounds: Bounds,
        left: Left,
        before: Option<Turn>,
    ) -> io::Result<(Lane, Turn)> {
        let shared = Arc::new(Shared::new(name, bounds, left));
        let (over, done) = oneshot::channel();
        let (stands, turn) = Turn::taken();
        let own = shared.clone();
        let thread = std::thread::Builder::new().name(format!("cdr-{name}")).spawn(move || {
            if let Some(before) = before {
                before.wait();
            }
            own.take_up();
            run(&own, sink);
            let _ = over.send(()); // nobody waits any more: the time was up
        })?;
        Ok((Lane { shared, thread, done, stands }, turn))
    }

    /// A record waits from now on; the caller never does.
    pub(super) fn put(&self, record: Arc<Record>) {
        let mut state = self.shared.lock();
        let (queue, name) = (state.bounds.queue, self.shared.name);
        // What an earlier run has left had its place in the queue once.
        if state.waiting.len() >= queue && !record.again {
            state.lost += 1;
            drop(state);
            tracing::error!(
                sink = name,
                cdr = %record.json,
                "the CDR queue is full: the record stands in this log only"
            );
            record.done();
            return;
        }
        state.waiting.push_back(record);
        let (waiting, warned) = (state.waiting.len(), std::mem::replace(&mut state.warned, true));
        state.warned = waiting >= queue / 2;
        if state.warned && !warned {
            tracing::error!(sink = name, waiting, room = queue, "CDRs wait: the queue is half full");
        }
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Goes on with another place of the same kind, or the same place opened anew. What waits is written there, at once.
    /// What waits is kept in `left`.
    pub(super) fn replace(&self, sink: Box<dyn Sink>, bounds: Bounds, left: Left) {
        let mut state = self.shared.lock();
        let unused = state.replacement.replace(sink);
        state.bounds = bounds;
        state.moves_to = Some(left);
        state.again = None;
        drop(state);
        drop(unused);
        self.shared.wake.notify_one();
    }

    /// The kind of place.
    pub(super) fn name(&self) -> &'static str {
        self.shared.name
    }

    /// How it stands.
    pub(super) fn status(&self) -> CdrStatus {
        let state = self.shared.lock();
        let (failing_since, error) = state.failing.clone().unzip();
        let ended = || self.thread.is_finished().then(|| "its writer has ended by a fault of its own".to_owned());
        let error = error.or_else(ended);
        CdrStatus {
            sink: self.shared.name.to_owned(),
            waiting: state.waiting.len(),
            room: state.bounds.queue,
            waiting_since: state.waiting.front().map(|record| record.cdr.end),
            written: state.written,
            lost: state.lost,
            failing_since,
            error,
        }
    }

    /// Writes what waits and ends the thread. What could not be written is left to the next start, else to the log.
    pub(super) async fn finish(self) {
        {
            let mut state = self.shared.lock();
            state.ending = true;
            state.failures = 0;
            state.again = None;
        }
        let shared = self.shared;
        shared.wake.notify_one();
        let name = shared.name;
        if tokio::time::timeout(FINISH_WITHIN, self.done).await.is_err() {
            tracing::error!(sink = name, "the last CDRs could not be written within {FINISH_WITHIN:?}");
        } else if self.thread.join().is_err() {
            tracing::error!(sink = name, "the CDR writer panicked");
        }
        let stands = self.stands;
        let leave = move || {
            shared.leave();
            drop(stands);
        };
        if tokio::task::spawn_blocking(leave).await.is_err() {
            tracing::error!(sink = name, "CDRs that waited are lost");
        }
    }
}

impl Shared {
    fn new(name: &'static str, bounds: Bounds, left: Left) -> Shared {
        let state = State {
            waiting: VecDeque::new(),
            bounds,
            replacement: None,
            moves_to: None,
            ending: false,
            again: None,
            failures: 0,
            failing: None,
            warned: false,
            written: 0,
            lost: 0,
        };
        Shared { name, state: Mutex::new(state), wake: Condvar::new(), left: Mutex::new(Some(left)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> MutexGuard<'_, Option<Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an earlier run has left goes before what has come since.
    fn take_up(&self) {
        let earlier = self.left().as_mut().map(Left::load).unwrap_or_default();
        self.put_first(earlier);
    }

    fn put_first(&self, earlier: Vec<Arc<Record>>) {
        let mut state = self.lock();
        for record in earlier.into_iter().rev() {
            state.waiting.push_front(record);
        }
    }

    /// What waits is kept in another file from now on, where a reload has said so. What stands there already is taken up.
    fn move_left(&self) {
        let Some(mut new) = self.lock().moves_to.take() else { return };
        self.take_up(); // where the old one was not read yet
        if self.left().as_mut().is_none_or(|left| left.goes_by(&new)) {
            return;
        }
        self.put_first(new.load());
        let records: Vec<_> = self.lock().waiting.iter().cloned().collect();
        if let Some(left) = self.left().as_mut() {
            // Where the new place takes nothing the old one has it still; it is tried again with the next failure.
            if records.is_empty() || left.has_nothing() || new.save(&records) {
                left.clear();
            }
            *left = new;
        }
    }

    /// Waits for something to do. At most `most` records are given.
    fn next(&self, most: usize, forget: Instant) -> Work {
        let mut state = self.lock();
        loop {
            if let Some(sink) = state.replacement.take() {
                return Work::Take(sink);
            }
            let given_up = state.failures >= LAST_TRIES || state.waiting.is_empty();
            if state.ending && given_up {
                return Work::End;
            }
            let now = Instant::now();
            let due = state.again.is_none_or(|again| again <= now);
            if due && !state.waiting.is_empty() {
                return Work::Write(state.waiting.iter().take(most).cloned().collect());
            }
            let keep = state.bounds.keep.filter(|_| state.failing.is_none());
            if let Some(keep) = keep.filter(|_| forget <= now) {
                return Work::Forget(keep);
            }
            let again = state.again.filter(|_| !state.waiting.is_empty());
            let until = again.into_iter().chain(keep.map(|_| forget)).min();
            state = match until {
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let wait = until.saturating_duration_since(now);
                    self.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// The end: what waits is kept in the file, or stands in the log.
    fn leave(&self) {
        self.move_left();
        self.take_up(); // where the time was up before the thread has
        let left = self.left().take();
        let records: Vec<_> = std::mem::take(&mut self.lock().waiting).into();
        if records.is_empty() {
            return;
        }
        if left.is_some_and(|mut left| left.save(&records)) {
            tracing::warn!(
                sink = self.name,
                records = records.len(),
                "CDRs that could not be written wait for the next start"
            );
            records.iter().for_each(|record| record.done());
            return;
        }
        for record in records {
            record.done();
            tracing::error!(sink = self.name, cdr = %record.json, "a CDR was not written: it stands in this log only");
        }
    }

    fn written(&self, count: usize) {
        let mut state = self.lock();
        let done = count.min(state.waiting.len());
        let done: Vec<_> = state.waiting.drain(..done).collect();
        state.written += count as u64;
        state.failures = 0;
        state.again = None;
        state.warned = state.waiting.len() >= state.bounds.queue / 2;
        let (failed, waiting) = (state.failing.take().is_some(), state.waiting.len());
        drop(state);
        done.iter().for_each(|record| record.done());
        if let Some(left) = self.left().as_mut().filter(|_| waiting == 0) {
            left.clear();
        }
        if failed {
            tracing::info!(sink = self.name, waiting, "CDRs are written again");
        }
    }

    /// Tries again later.
    fn failed(&self, error: String) {
        let mut state = self.lock();
        let wait = AGAIN.saturating_mul(1 << state.failures.min(16)).min(SELDOM);
        state.failures = state.failures.saturating_add(1);
        state.again = Some(Instant::now() + wait);
        let (waiting, room) = (state.waiting.len(), state.bounds.queue);
        let since = state.failing.take().map(|(since, _)| since);
        let now = crate::gateway::driver::now().unix_ms;
        state.failing = Some((since.unwrap_or(now), error.clone()));
        let tries = state.failures;
        let records: Vec<_> = state.waiting.iter().cloned().collect();
        drop(state);
        // A kill would cost them. That there is no such file, or no room for it, is said at the end.
        if let Some(left) = self.left().as_mut() {
            left.save(&records);
        }
        // At first, and then with every longest wait.
        if since.is_none() || wait == SELDOM {
            tracing::error!(sink = self.name, %error, waiting, room, tries, "CDRs cannot be written: they wait in memory");
        }
    }

    /// The first one will never be taken: it is not what the others wait for.
    fn refused(&self, error: &str) {
        let mut state = self.lock();
        let first = state.waiting.pop_front();
        state.lost += 1;
        drop(state);
        if let Some(record) = first {
            record.done();
            tracing::error!(sink = self.name, error, cdr = %record.json, "a CDR is refused: it stands in this log only");
        }
    }
}

/// The thread.
fn run(shared: &Shared, mut sink: Box<dyn Sink>) {
    let mut forget = Instant::now();
    // So many from the first on are written one by one: one of them will never be taken, and it is to be found.
    let mut singly = 0_usize;
    loop {
        match shared.next(if singly > 0 { 1 } else { BATCH }, forget) {
            Work::End => return,
            Work::Take(new) => {
                sink = new;
                shared.move_left();
            }
            Work::Forget(keep) => {
                forget = Instant::now() + FORGET_EVERY;
                let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
                let before = crate::gateway::driver::now().unix_ms.saturating_sub(keep);
                if let Err(Failure::Later(error) | Failure::Never(error)) = sink.forget(before) {
                    tracing::warn!(sink = shared.name, %error, "old CDRs are not removed");
                }
            }
            Work::Write(records) => match sink.write(&records) {
                Ok(count) => {
                    singly = singly.saturating_sub(count);
                    shared.written(count);
                }
                Err(Failure::Later(error)) => shared.failed(error),
                Err(Failure::Never(_)) if records.len() > 1 => singly = records.len(),
                Err(Failure::Never(error)) => {
                    singly = singly.saturating_sub(1);
                    shared.refused(&error);
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::call::{CallId, Cdr, Direction};

    /// The time is up while a try hangs: what waits is left to the next start, and the try's end changes nothing there.
    #[test]
    fn a_try_that_comes_back_late_does_not_write_over_what_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.jsonl");
        let cdr = Cdr::begin(CallId(1), Direction::Outbound, "alice", "600", 1_000);
        let json = serde_json::to_string(&cdr).unwrap();
        let shared = Shared::new("test", Bounds { queue: 9, keep: None }, Left::of(Some(folder.path()), "test"));
        shared.take_up();
        shared.lock().waiting.push_back(Arc::new(Record::new(cdr, json)));
        shared.failed("it is away".into());
        shared.leave();
        let kept = || std::fs::read_to_string(&path).unwrap().lines().count();
        assert_eq!(kept(), 1);
        shared.failed("it is away".into());
        assert_eq!(kept(), 1);
        shared.written(1);
        assert_eq!(kept(), 1);
    }
    /// A reload names another folder: what waits stands there, and no more in the old one; what stood there is taken up.
    #[test]
    fn what_waits_moves_to_another_folder() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let record = |number| {
            let cdr = Cdr::begin(CallId(number), Direction::Outbound, "alice", "600", 1_000);
            let json = serde_json::to_string(&cdr).unwrap();
            Arc::new(Record::new(cdr, json))
        };
        let left = |folder: &std::path::Path| Left::of(Some(folder), "test");
        assert!(left(new.path()).save(&[record(1)]), "of an earlier run");
        let shared = Shared::new("test", Bounds { queue: 9, keep: None }, left(old.path()));
        shared.take_up();
        shared.lock().waiting.push_back(record(2));
        shared.failed("it is away".into());
        let calls = |folder: &std::path::Path| -> Vec<String> {
            let text = std::fs::read_to_string(folder.join("test.jsonl")).unwrap_or_default();
            let call = |line: &str| serde_json::from_str::<Cdr>(line).unwrap().call;
            text.lines().map(call).collect()
        };
        let [first, second] = [CallId(1), CallId(2)].map(|call| call.to_string());
        assert_eq!(calls(old.path()).as_slice(), std::slice::from_ref(&second));
        let link = new.path().join("link");
        std::os::unix::fs::symlink(old.path(), &link).unwrap();
        for same in [old.path(), &link, &link.join("."), old.path()] {
            shared.lock().moves_to = Some(left(same));
            shared.move_left();
            let there = (calls(old.path()), shared.lock().waiting.len());
            assert_eq!(there, (vec![second.clone()], 1), "the same as before: {}", same.display());
        }
        shared.lock().moves_to = Some(left(new.path()));
        shared.move_left();
        assert_eq!((calls(old.path()), calls(new.path())), (vec![], vec![first.clone(), second.clone()]));
        // A folder that cannot be made leaves the old file, and memory.
        let file = old.path().join("file");
        std::fs::write(&file, "").unwrap();
        shared.lock().moves_to = Some(left(&file));
        shared.move_left();
        assert_eq!((calls(new.path()), shared.lock().waiting.len()), (vec![first, second], 2));
    }
}
