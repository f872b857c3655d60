//! The dead man's journal: the dialogs and call records that stand, in a file, so that the next start can end what a killed
//! gateway has left behind, and write it down.
//!
//! Append-only, one JSON object a line: `{"id":..,"at":..,"dialog":{..}}` for a dialog that stands (again, when its peer has
//! moved), `{"id":..,"at":..,"cdr":{..}}` for the record of a call, which has no `cause` while the call stands,
//! `{"id":..,"over":true}` for a dialog that is over, and a record that stands in every place. While anything stands a line
//! `{"id":"alive","at":..}` a second says that the gateway lives. When what is over outweighs what stands, the file is written
//! anew beside itself and renamed. A thread of its own writes, and forces it to the disk once a second.

mod read;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use self::read::Kept;
use super::{GatewayError, driver};
use crate::call::Cdr;
use crate::sip::SessionId;
use crate::switch::{Left, StoreStatus};

/// Lines that may wait for the disk. What is lost beyond it costs a BYE or a record at the next start, or sends one in vain.
const QUEUE: usize = 10_000;
/// The file is written anew when it has so much that is over, and four times of what stands.
const SLACK: usize = 256 * 1024;
/// How long the last lines may take to be written at the end.
const FINISH_WITHIN: Duration = Duration::from_secs(5);
/// How often it is said that the gateway lives, and a file that could not be written is tried again.
const BEAT: Duration = Duration::from_secs(1);
/// The id of the lines that say so.
const ALIVE: &str = "alive";

/// One line.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Line {
    id: String,
    /// Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dialog: Option<Left>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cdr: Option<Box<Cdr>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    over: bool,
}

/// What an earlier gateway has left.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub(super) dialogs: Vec<Found>,
    /// Records that did not reach every place.
    pub(super) records: Vec<Unwritten>,
}

/// A record that an earlier gateway noted and did not bring to every place.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) receipt: Receipt,
    /// It has its end; of a call that stood that is the gateway's.
    pub(super) cdr: Cdr,
    /// The call stood until now, as far as the journal knows: nobody was told its end.
    pub(super) stood: bool,
}

/// A dialog that an earlier gateway noted and did not end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) id: String,
    /// How long it may stand yet, by the longest call.
    pub(super) holds: Duration,
    pub(super) left: Left,
}

/// Strikes a record from the journal, once it is in no danger any more.
#[derive(Debug)]
pub(super) struct Receipt {
    id: String,
    journal: Weak<SyncSender<Note>>,
}

impl Receipt {
    /// Every place has the record, or will never have it.
    pub(super) fn sign(&self) {
        let struck = self.journal.upgrade().map(|journal| journal.try_send((self.id.clone(), None)));
        if !matches!(struck, Some(Ok(()))) {
            tracing::debug!(id = self.id, "a record stays in the journal: the next start writes it once more");
        }
    }
}

/// The writer's handle.
pub(super) struct Journal {
    /// Tells the dialogs and calls of this run from those of earlier ones.
    run: u64,
    /// Its only owner but for a moment: with it the thread ends.
    queue: Arc<SyncSender<Note>>,
    thread: JoinHandle<()>,
    done: oneshot::Receiver<()>,
    lost: u64,
    status: Arc<Mutex<StoreStatus>>,
}

/// For the thread: a line by its id, or that nothing of that id stands any more.
type Note = (String, Option<String>);

impl Journal {
    /// Takes the file, alone, and gives what stands in it. `now` in Unix milliseconds; what is older than `longest`, the
    /// longest call, cannot stand any more. A disk that is full does not stop the start: it is tried again
    /// every second.
    pub(super) fn open(path: &Path, now: u64, longest: Duration) -> Result<(Journal, Standing), GatewayError> {
        let failed = |source| GatewayError::Journal { path: path.to_owned(), source };
        let file = open(path).map_err(failed)?;
        let Kept { dialogs, records, lines, unread, alive } =
            read::taken_up(path, &file, now / 1000, longest).map_err(failed)?;
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
        for line in unread {
            tracing::error!(cdr = line, "a record of the journal cannot be read: it stands in this log only");
        }
        let status = Arc::<Mutex<StoreStatus>>::default();
        let path = path.to_owned();
        let live = lines.values().map(|line| line.len() + 1).sum();
        let mut book = Book { path, file, lines, alive, written: 0, live, broken: false, status: status.clone() };
        if let Err(error) = book.write_anew() {
            book.unwritten(&error);
        }
        let (queue, notes) = sync_channel(QUEUE);
        let queue = Arc::new(queue);
        let unwritten =
            |(id, (cdr, stood))| Unwritten { receipt: Receipt { id, journal: Arc::downgrade(&queue) }, cdr, stood };
        let records = records.into_iter().map(unwritten).collect();
        let (written, done) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                book.keep(&notes);
                let _ = written.send(()); // nobody waits any more: the time was up
            })
            .map_err(failed)?;
        Ok((Journal { run: now, queue, thread, done, lost: 0, status }, Standing { dialogs, records }))
    }

    /// How it stands.
    pub(super) fn status(&self) -> StoreStatus {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if self.thread.is_finished() {
            status.failing_since.get_or_insert_with(|| driver::now().unix_ms);
            status.error = Some("its writer has ended by a fault of its own".to_owned());
        }
        status.clone()
    }

    /// A dialog of this run stands, or is over.
    pub(super) fn note(&mut self, now: u64, session: SessionId, left: Option<Left>) {
        let id = format!("{:x}-{:x}", self.run, session.0);
        match left {
            None => self.send((id, None)),
            Some(left) => {
                let line = Line { id: id.clone(), at: Some(now / 1000), dialog: Some(left), ..Line::default() };
                match serde_json::to_string(&line) {
                    Ok(line) => self.send((id, Some(line))),
                    Err(error) => tracing::error!(%error, "a dialog cannot be noted"),
                }
            }
        }
    }

    /// The record of a call of this run, as `json` has it too: so far, or with its end. Whoever has written it down signs.
    pub(super) fn record(&mut self, now: u64, call: &str, json: &str) -> Receipt {
        let id = format!("{:x}-{call}", self.run);
        let line = format!("{{\"id\":\"{id}\",\"at\":{},\"cdr\":{json}}}", now / 1000);
        self.send((id.clone(), Some(line)));
        Receipt { id, journal: Arc::downgrade(&self.queue) }
    }

    /// A dialog of an earlier run is done with.
    pub(super) fn over(&mut self, id: String) {
        self.send((id, None));
    }

    fn send(&mut self, note: Note) {
        if self.queue.try_send(note).is_err() {
            self.lost += 1;
            if self.lost.is_power_of_two() {
                tracing::warn!(lost = self.lost, "the journal is behind: notes are lost");
            }
        }
    }

    /// Writes what waits and ends the thread.
    pub(super) async fn finish(self) {
        drop(self.queue);
        if tokio::time::timeout(FINISH_WITHIN, self.done).await.is_err() {
            tracing::error!("the journal could not be written within {FINISH_WITHIN:?}");
        } else if self.thread.join().is_err() {
            tracing::error!("the journal's writer panicked");
        }
    }
}

/// The thread's side.
struct Book {
    path: PathBuf,
    file: File,
    /// What stands.
    lines: BTreeMap<String, String>,
    /// When this gateway, or before its first beat the one before it, was known to live last, Unix seconds.
    alive: u64,
    /// Bytes in the file, and those of what stands.
    written: usize,
    live: usize,
    /// The last write has failed, perhaps in the middle of a line.
    broken: bool,
    /// For others to see.
    status: Arc<Mutex<StoreStatus>>,
}

impl Book {
    fn keep(&mut self, notes: &Receiver<Note>) {
        let mut beat = Instant::now();
        loop {
            let mut written = match self.next(notes, beat) {
                Ok(note) => self.take(note),
                Err(RecvTimeoutError::Timeout) => {
                    beat = Instant::now();
                    Ok(())
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if beat <= Instant::now() {
                written = written.and_then(|()| self.beat());
                beat = Instant::now() + BEAT;
            }
            if let Err(error) = written {
                self.unwritten(&error);
            }
        }
        if let Err(error) = self.write_anew() {
            tracing::warn!(%error, "the journal is not tidied");
        }
    }

    /// The next note; while anything stands, or the file is behind, it is waited for no longer than until the next beat.
    fn next(&self, notes: &Receiver<Note>, beat: Instant) -> Result<Note, RecvTimeoutError> {
        match self.broken || !self.lines.is_empty() {
            true => notes.recv_timeout(beat.saturating_duration_since(Instant::now())),
            false => notes.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Says that the gateway lives; what a disk has not taken is written as soon as it does.
    fn beat(&mut self) -> io::Result<()> {
        self.alive = driver::now().unix_ms / 1000;
        if self.broken {
            return self.write_anew();
        }
        if self.lines.is_empty() {
            return Ok(());
        }
        self.append(&self.alive_line())?;
        self.file.sync_data()
    }

    fn alive_line(&self) -> String {
        format!("{{\"id\":\"{ALIVE}\",\"at\":{}}}\n", self.alive)
    }

    /// Says so once; the next beat tries again, and until then what stands is in memory.
    fn unwritten(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.broken, true) {
            self.show(StoreStatus { failing_since: Some(driver::now().unix_ms), error: Some(error.to_string()) });
            tracing::error!(%error, path = %self.path.display(), "the journal cannot be written: calls left behind by a \
                crash would not be ended");
        }
    }

    fn show(&self, status: StoreStatus) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    fn take(&mut self, (id, line): Note) -> io::Result<()> {
        let text = match line {
            Some(line) => {
                self.live += line.len() + 1;
                let text = format!("{line}\n");
                let before = self.lines.insert(id, line);
                self.live = self.live.saturating_sub(before.map_or(0, |line| line.len() + 1));
                text
            }
            None => {
                // A line of which nothing stands need not be taken back.
                let Some(before) = self.lines.remove(&id) else { return Ok(()) };
                self.live = self.live.saturating_sub(before.len() + 1);
                let over = Line { id, over: true, ..Line::default() };
                serde_json::to_string(&over).map_err(io::Error::other)? + "\n"
            }
        };
        self.append(&text)
    }

    /// Adds lines for what stands. While the file is broken a beat alone writes it: on a full disk each note would write it
    /// anew in vain.
    fn append(&mut self, text: &str) -> io::Result<()> {
        if self.broken {
            return Ok(());
        }
        self.written += text.len();
        if self.written > SLACK + self.live * 5 {
            return self.write_anew();
        }
        self.file.write_all(text.as_bytes())
    }

    /// Writes what stands to a new file and puts it in the place of the old one: it is broken no more.
    fn write_anew(&mut self) -> io::Result<()> {
        let beside = beside(&self.path, "new");
        let _ = std::fs::remove_file(&beside); // of an attempt that was cut short
        let mut text: String = self.lines.values().flat_map(|line| [line.as_str(), "\n"]).collect();
        if !text.is_empty() {
            text.push_str(&self.alive_line());
        }
        self.file = replace(&self.path, &beside, &text).inspect_err(|_| {
            let _ = std::fs::remove_file(&beside); // its room may be what is wanted elsewhere
        })?;
        self.written = text.len();
        if std::mem::replace(&mut self.broken, false) {
            self.show(StoreStatus::default());
            tracing::info!("the journal is written again");
        }
        Ok(())
    }
}

/// Writes `text` to the file `beside` and puts it in the place of another.
fn replace(path: &Path, beside: &Path, text: &str) -> io::Result<File> {
    let mut file = open(beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    std::fs::rename(beside, path)?;
    Ok(file)
}

/// The ending comes after the whole name: another file may have the name with another ending.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(".");
    name.push(ending);
    name.into()
}

/// For appending, for its owner's eyes, and for one process alone.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => io::Error::new(io::ErrorKind::ResourceBusy, "another gateway has it open"),
        std::fs::TryLockError::Error(error) => error,
    })?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::call::{CallId, Cause, Direction, Origin, Special};
    use crate::sip::LeftDialog;

    pub(super) const LONGEST_CALL: Duration = Duration::from_secs(43_200);
    pub(super) const NOW: u64 = 1_800_000_000_000;

    fn left(call: &str) -> Left {
        let dialog = LeftDialog {
            call_id: call.into(),
            local: "<sip:a@192.0.2.1>;tag=1".into(),
            remote: "<sip:b@192.0.2.9>;tag=2".into(),
            target: "sip:b@192.0.2.9".into(),
            routes: Vec::new(),
            cseq: 1,
            transport: "udp".into(),
            from: "192.0.2.1:5060".parse().unwrap(),
            to: "192.0.2.9:5060".parse().unwrap(),
        };
        Left { trunk: Some("one".into()), dialog }
    }

    /// That a dialog of that id stands.
    pub(super) fn line(id: &str) -> String {
        let line = Line { id: id.into(), at: Some(NOW / 1000), dialog: Some(left(id)), ..Line::default() };
        serde_json::to_string(&line).unwrap()
    }

    fn book(path: &Path) -> Book {
        let (path, file, lines, status) = (path.to_owned(), open(path).unwrap(), BTreeMap::new(), Arc::default());
        Book { path, file, lines, alive: 0, written: 0, live: 0, broken: false, status }
    }

    fn calls(found: &Standing) -> Vec<&str> {
        found.dialogs.iter().map(|found| found.left.dialog.call_id.as_str()).collect()
    }

    #[tokio::test]
    async fn what_stands_is_found_again_and_what_is_old_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, found) = Journal::open(&path, NOW, LONGEST_CALL).unwrap();
        assert!(found.dialogs.is_empty());
        assert!(matches!(Journal::open(&path, NOW, LONGEST_CALL), Err(GatewayError::Journal { .. })), "it is taken");
        for (session, call) in [(1, "a"), (2, "b"), (3, "c")] {
            journal.note(NOW, SessionId(session), Some(left(call)));
        }
        journal.note(NOW, SessionId(2), None);
        journal.note(NOW, SessionId(3), Some(left("c, moved")));
        journal.finish().await;
        // The machine was off in the middle of a line.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"id\":\"x\",\"at\":1").unwrap();
        let (mut journal, found) = Journal::open(&path, NOW + 60_000, LONGEST_CALL).unwrap();
        assert_eq!(calls(&found), ["a", "c, moved"]);
        assert_eq!(found.dialogs[0].left, left("a"));
        // Another run's first session is another.
        journal.note(NOW + 60_000, SessionId(1), Some(left("d")));
        journal.over(found.dialogs[1].id.clone());
        journal.finish().await;
        let later = NOW + LONGEST_CALL.as_secs() * 1000 + 30_000;
        let (journal, found) = Journal::open(&path, later, LONGEST_CALL).unwrap();
        assert_eq!(calls(&found), ["d"]);
        journal.finish().await;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    pub(super) fn call(number: u64) -> Cdr {
        Cdr::begin(CallId(number), Direction::Outbound, "alice", "600", NOW)
    }

    fn note(journal: &mut Journal, cdr: &Cdr) -> Receipt {
        journal.record(NOW + 5_000, &cdr.call, &serde_json::to_string(cdr).unwrap())
    }

    /// Whatever start is cut short, the next one finds the same record with the same end; once it is signed none does.
    #[tokio::test]
    async fn a_call_that_stood_has_one_end_however_often_the_gateway_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path, NOW, LONGEST_CALL).unwrap();
        let answered = Cdr { ringing: Some(NOW + 1_000), answer: Some(NOW + 2_000), ..call(1) };
        let mut over = call(2);
        over.finish(&Cause::special(Origin::Browser, Special::Normal), NOW + 3_000);
        drop((note(&mut journal, &call(1)), note(&mut journal, &answered), note(&mut journal, &over)));
        note(&mut journal, &call(3)).sign();
        journal.finish().await;
        let mut before = None;
        // The last one comes after the longest call: a dialog would be dropped, a record is not.
        for later in [10_000, 60_000, 2 * u64::try_from(LONGEST_CALL.as_millis()).unwrap()] {
            let (journal, found) = Journal::open(&path, NOW + later, LONGEST_CALL).unwrap();
            let records: Vec<Cdr> = found.records.iter().map(|record| record.cdr.clone()).collect();
            let [lost, whole] = records.as_slice() else { panic!("{records:?}") };
            let stood: Vec<bool> = found.records.iter().map(|record| record.stood).collect();
            assert_eq!(stood, [before.is_none(), false], "its end is news to the first start alone");
            assert_eq!((lost.cause.as_str(), lost.q850), ("gateway-lost", 41));
            assert!(lost.end >= NOW + 5_000, "the last note is a sign of life: {}", lost.end);
            assert_eq!((lost.answer, lost.user.as_str()), (answered.answer, "alice"));
            assert_eq!(*whole, over);
            assert_eq!(*before.get_or_insert(records.clone()), records);
            journal.finish().await;
        }
        let (journal, found) = Journal::open(&path, NOW, LONGEST_CALL).unwrap();
        found.records.iter().for_each(|record| record.receipt.sign());
        journal.finish().await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }

    /// The end of a call that stood is the last sign of life; it is never before what is known to have happened.
    #[tokio::test]
    async fn the_end_is_when_the_gateway_lived_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let standing = |answer| {
            let record = Cdr { answer, ..call(1) };
            let json = serde_json::to_string(&record).unwrap();
            format!("{{\"id\":\"1-{}\",\"at\":{},\"cdr\":{json}}}\n", record.call, NOW / 1000)
        };
        let alive = |seconds: u64| format!("{{\"id\":\"alive\",\"at\":{}}}\n", NOW / 1000 + seconds);
        for (text, end) in [
            (standing(None) + &alive(1) + &alive(2), NOW + 2_000),
            (standing(Some(NOW + 700)), NOW + 700),
            (standing(Some(NOW + 700)) + &alive(90) + "{\"id\":\"ali", NOW + 90_000),
        ] {
            std::fs::write(&path, text).unwrap();
            let (journal, found) = Journal::open(&path, NOW + 100_000, LONGEST_CALL).unwrap();
            assert_eq!(found.records[0].cdr.end, end);
            journal.finish().await;
        }
    }

    #[tokio::test]
    async fn while_a_call_stands_there_are_signs_of_life_and_afterwards_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path, NOW, LONGEST_CALL).unwrap();
        let signs = || std::fs::read_to_string(&path).unwrap().matches(ALIVE).count();
        let receipt = note(&mut journal, &call(1));
        let begun = Instant::now();
        while signs() < 3 {
            assert!(begun.elapsed() < Duration::from_secs(60), "no sign of life");
            std::thread::yield_now();
        }
        assert!(begun.elapsed() > BEAT, "one a second");
        receipt.sign();
        journal.finish().await;
        assert_eq!(signs(), 0);
    }

    #[tokio::test]
    async fn a_file_that_differs_in_its_ending_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = folder.path().join("calls.new");
        std::fs::write(&foreign, "another's").unwrap();
        let (journal, _) = Journal::open(&folder.path().join("calls.journal"), NOW, LONGEST_CALL).unwrap();
        journal.finish().await;
        assert_eq!(std::fs::read_to_string(&foreign).unwrap(), "another's");
    }

    /// A key mistyped must not cost somebody's file.
    #[tokio::test]
    async fn a_foreign_file_is_left_alone_and_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        for foreign in
            ["name,number\nalice,1\n", "{\"call\":\"00c5\",\"id\":\"x\"}\n", "\u{0}\u{1}", "{\"id\":\"1\"}\n{}\n"]
        {
            std::fs::write(&path, foreign).unwrap();
            let error = Journal::open(&path, NOW, LONGEST_CALL).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("no journal of ours"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), foreign);
        }
    }

    #[tokio::test]
    async fn a_damaged_journal_of_ours_does_not_stop_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        for ours in [
            "",
            "\n",
            "\0\0\0\0",
            "{\"i",
            "{\"id\":\"1-1\",\"at\":17",
            "broken\n{\"id\":\"1-1\",\"over\":true}\n",
            "{\"id\":\"1-1\",\"at\":1,\"dialog\":{\"in\":\"another version's words\"}}\n\0\0",
            "{\"id\":\"1-0000000000000001\",\"at\":1,\"cdr\":{\"in\":\"another version's words\"}}\n\0\0",
        ] {
            std::fs::write(&path, ours).unwrap();
            let (journal, found) = Journal::open(&path, NOW, LONGEST_CALL).unwrap();
            assert!(found.dialogs.is_empty(), "{ours}");
            journal.finish().await;
        }
    }

    /// As on a full disk: what stands is read, the start goes on, and the file is written again as soon as it can be.
    #[tokio::test]
    async fn a_journal_that_cannot_be_written_does_not_stop_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path, NOW, LONGEST_CALL).unwrap();
        journal.note(NOW, SessionId(1), Some(left("a")));
        journal.finish().await;
        let in_the_way = folder.path().join("journal.new");
        std::fs::create_dir(&in_the_way).unwrap();
        let (mut journal, found) = Journal::open(&path, NOW + 1, LONGEST_CALL).unwrap();
        assert_eq!(calls(&found), ["a"]);
        assert!(journal.status().failing_since.is_some());
        std::fs::remove_dir(&in_the_way).unwrap();
        journal.note(NOW + 1, SessionId(1), Some(left("b")));
        let begun = Instant::now();
        while journal.status().failing_since.is_some() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it is not written again");
            std::thread::yield_now();
        }
        journal.finish().await;
        let (journal, found) = Journal::open(&path, NOW + 2, LONGEST_CALL).unwrap();
        assert_eq!(calls(&found), ["a", "b"]);
        journal.finish().await;
    }

    /// What is over while the disk is full is over for the next start, and costs nothing but that.
    #[tokio::test]
    async fn what_stood_can_be_over_before_the_journal_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        std::fs::write(&path, format!("{}\n{}\n", line("a"), line("b"))).unwrap();
        let in_the_way = folder.path().join("journal.new");
        std::fs::create_dir(&in_the_way).unwrap();
        let (mut journal, found) = Journal::open(&path, NOW, LONGEST_CALL).unwrap();
        journal.over(found.dialogs[0].id.clone());
        std::fs::remove_dir(&in_the_way).unwrap();
        let begun = Instant::now();
        while journal.status().failing_since.is_some() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", journal.status());
            std::thread::yield_now();
        }
        journal.finish().await;
        let (journal, found) = Journal::open(&path, NOW, LONGEST_CALL).unwrap();
        assert_eq!(calls(&found), ["b"]);
        journal.finish().await;
    }

    #[test]
    fn what_a_disk_does_not_take_waits_in_memory_for_the_beat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut book = book(&path);
        book.take(("a".into(), Some(line("a")))).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = book.write_anew().unwrap_err();
        book.unwritten(&error);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-written is left");
        std::fs::remove_dir(&path).unwrap();
        for (id, text) in [("b", Some(line("b"))), ("a", None), ("nobody", None)] {
            book.take((id.into(), text)).unwrap();
            assert!(book.broken && book.status.lock().unwrap().failing_since.is_some() && !path.exists(), "{id}");
        }
        book.beat().unwrap();
        assert!(!book.broken && book.status.lock().unwrap().failing_since.is_none());
        let again = read::read(File::open(&path).unwrap(), NOW / 1000, LONGEST_CALL).unwrap();
        assert_eq!(again.lines.into_values().collect::<Vec<_>>(), [line("b")]);
    }

    #[test]
    fn a_writer_that_is_gone_is_seen() {
        let (queue, _notes) = sync_channel(1);
        let (_written, done) = oneshot::channel();
        let (thread, status) = (std::thread::Builder::new().spawn(|| ()).unwrap(), Arc::default());
        let journal = Journal { run: NOW, queue: Arc::new(queue), thread, done, lost: 0, status };
        let begun = Instant::now();
        while journal.status() == StoreStatus::default() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it is not seen");
            std::thread::yield_now();
        }
        let status = journal.status();
        assert!(status.failing_since.is_some() && status.error.is_some(), "{status:?}");
    }

    #[test]
    fn the_file_has_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut book = book(&path);
        let mut longest = 0;
        for n in 0..5_000 {
            let id = format!("{n}");
            book.take((id.clone(), Some(line(&id)))).unwrap();
            if n >= 10 {
                book.take((format!("{}", n - 10), None)).unwrap();
            }
            longest = longest.max(std::fs::metadata(&path).unwrap().len());
        }
        assert!(longest < 300_000, "{longest}");
        let again = read::read(File::open(&path).unwrap(), NOW / 1000, LONGEST_CALL).unwrap();
        assert_eq!(again.dialogs.len(), 10);
    }
}
