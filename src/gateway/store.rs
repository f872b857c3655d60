//! What shall outlive a restart beside calls: what the limits against fraud have counted, in a small SQLite database.
//!
//! A thread of its own writes. While it is busy, or the disk is full, changes gather in the switch, where each account has
//! but its newest state: nothing is lost, and there is never more of it than there are accounts.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::{GatewayError, driver};
use crate::switch::{Row, StoreStatus};

/// How long the thread waits before it tries again to write.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the last changes may take to be written at the end.
const FINISH_WITHIN: Duration = Duration::from_secs(5);
/// How often rows are dropped that count no more, seconds.
const PURGE_EVERY: u64 = 3600;
/// What `PRAGMA user_version` says of the tables below.
const VERSION: i32 = 1;
const TABLES: &str = "CREATE TABLE IF NOT EXISTS limits \
    (key TEXT NOT NULL PRIMARY KEY, state TEXT NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID";

/// What is to be written at one go, at this time (Unix seconds).
type Batch = (u64, Vec<Row>);

/// What the two sides share.
#[derive(Default)]
struct Shared {
    /// The thread has something to write.
    busy: AtomicBool,
    /// It shall not try for ever any more.
    ends: AtomicBool,
    /// How the last try went.
    status: Mutex<StoreStatus>,
}

impl Shared {
    fn failed(&self, error: &rusqlite::Error) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.failing_since.get_or_insert(driver::now().unix_ms);
        status.error = Some(error.to_string());
    }

    fn written(&self) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.failing_since.is_some() {
            tracing::info!("what the limits count is written again");
            *status = StoreStatus::default();
        }
    }
}

/// The writer's handle.
pub(super) struct Store {
    queue: SyncSender<Batch>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    done: oneshot::Receiver<()>,
}

impl Store {
    /// Takes the file, alone, and gives what stands in it. `now` in Unix milliseconds.
    pub(super) fn open(path: &Path, now: u64) -> Result<(Store, Vec<Row>), GatewayError> {
        let failed =
            |source: rusqlite::Error| GatewayError::Store { path: path.to_owned(), reason: source.to_string() };
        // SQLite would make it readable to all; its own further files take its mode.
        let made = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        made.map_err(|source| GatewayError::Store { path: path.to_owned(), reason: source.to_string() })?;
        let database = prepare(path, now / 1000).map_err(failed)?;
        let rows = read(&database).map_err(failed)?;
        let shared = Arc::new(Shared::default());
        // One batch is written at a time; the last one of all may wait behind it.
        let (queue, batches) = sync_channel(2);
        let (written, done) = oneshot::channel();
        let its = shared.clone();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                Writer { database, shared: its, purged: now / 1000 }.write_all(&batches);
                let _ = written.send(()); // nobody waits any more: the time was up
            })
            .map_err(|source| GatewayError::Store { path: path.to_owned(), reason: source.to_string() })?;
        Ok((Store { queue, shared, thread, done }, rows))
    }

    /// Whether a batch would be written at once.
    pub(super) fn is_ready(&self) -> bool {
        !self.shared.busy.load(Ordering::Acquire)
    }

    /// How it stands.
    pub(super) fn status(&self) -> StoreStatus {
        self.shared.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes this, for which it must be ready. `now` in Unix milliseconds.
    pub(super) fn write(&self, now: u64, rows: Vec<Row>) {
        self.shared.busy.store(true, Ordering::Release);
        if self.queue.try_send((now / 1000, rows)).is_err() {
            tracing::error!("the store has no writer any more: what the limits count is lost with the process");
        }
    }

    /// Writes what is left and ends the thread.
    pub(super) async fn finish(self, now: u64, rows: Vec<Row>) {
        self.write(now, rows);
        self.shared.ends.store(true, Ordering::Release);
        self.thread.thread().unpark();
        drop(self.queue);
        if tokio::time::timeout(FINISH_WITHIN, self.done).await.is_err() {
            tracing::error!("the store could not be written within {FINISH_WITHIN:?}");
        } else if self.thread.join().is_err() {
            tracing::error!("the store's writer panicked");
        }
    }
}

/// Opens the database for this process alone, with its table and without what counts no more.
fn prepare(path: &Path, now: u64) -> rusqlite::Result<Connection> {
    let database = Connection::open(path)?;
    database.busy_timeout(AGAIN)?;
    database.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "NORMAL")?;
    database.execute(TABLES, [])?;
    // A disk that is full keeps nobody from starting: where nothing is new, nothing is written here.
    let version: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != i64::from(VERSION) {
        database.pragma_update(None, "user_version", VERSION)?;
    }
    if let Err(error) = purge(&database, now) {
        tracing::warn!(%error, "what the limits count no more cannot be removed from the store yet");
    }
    Ok(database)
}

fn read(database: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut all = database.prepare("SELECT key, state, until FROM limits")?;
    let rows = all.query_map([], |row| {
        let until: i64 = row.get(2)?;
        Ok(Row { key: row.get(0)?, state: row.get(1)?, until: u64::try_from(until).unwrap_or(0) })
    })?;
    rows.collect()
}

fn purge(database: &Connection, now: u64) -> rusqlite::Result<usize> {
    database.execute("DELETE FROM limits WHERE until <= ?1", params![i64::try_from(now).unwrap_or(i64::MAX)])
}

/// The thread's side.
struct Writer {
    database: Connection,
    shared: Arc<Shared>,
    purged: u64,
}

impl Writer {
    fn write_all(&mut self, batches: &Receiver<Batch>) {
        for batch in batches {
            self.write_whole(&batch);
            self.shared.busy.store(false, Ordering::Release);
        }
    }

    /// Until it is written, or the gateway ends.
    fn write_whole(&mut self, batch: &Batch) {
        let mut tries = 0_u32;
        while let Err(error) = self.write(batch) {
            tries = tries.saturating_add(1);
            self.shared.failed(&error);
            if self.shared.ends.load(Ordering::Acquire) {
                tracing::error!(%error, rows = batch.1.len(), "what the limits have counted is not written, and lost");
                return;
            }
            if tries.is_power_of_two() {
                tracing::error!(%error, tries, "what the limits count cannot be written: it stands in memory alone");
            }
            std::thread::park_timeout(AGAIN);
        }
        self.shared.written();
    }

    fn write(&mut self, (now, rows): &Batch) -> rusqlite::Result<()> {
        let change = self.database.transaction()?;
        {
            let mut put = change.prepare("INSERT OR REPLACE INTO limits (key, state, until) VALUES (?1, ?2, ?3)")?;
            for Row { key, state, until } in rows {
                put.execute(params![key, state, i64::try_from(*until).unwrap_or(i64::MAX)])?;
            }
        }
        if *now >= self.purged + PURGE_EVERY {
            purge(&change, *now)?;
            self.purged = *now;
        }
        change.commit()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn row(key: &str, until: u64) -> Row {
        Row { key: key.into(), state: format!("{{\"used_ms\":{until}}}"), until }
    }

    #[tokio::test]
    async fn what_is_written_is_there_at_the_next_start_and_what_counts_no_more_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let (store, rows) = Store::open(&path, NOW * 1000).unwrap();
        assert!(rows.is_empty() && store.is_ready());
        store.write(NOW * 1000, vec![row("user:alice", NOW + 10), row("used:a", NOW + 5)]);
        assert!(Store::open(&path, NOW * 1000).is_err(), "one gateway has it");
        store.finish(NOW * 1000, vec![row("user:alice", NOW + 20)]).await;
        let (store, rows) = Store::open(&path, (NOW + 4) * 1000).unwrap();
        assert_eq!(rows, [row("used:a", NOW + 5), row("user:alice", NOW + 20)]);
        store.finish(NOW * 1000, Vec::new()).await;
        let (store, rows) = Store::open(&path, (NOW + 5) * 1000).unwrap();
        assert_eq!(rows, [row("user:alice", NOW + 20)]);
        store.finish(NOW * 1000, Vec::new()).await;
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_no_database_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        std::fs::write(&path, "this is no database, and long enough to be taken for one: ".repeat(20)).unwrap();
        let error = Store::open(&path, 0).err().unwrap().to_string();
        assert!(error.contains("store.db") && error.contains("not a database"), "{error}");
    }
}
