//! The dead man's journal: the dialogs and call records that stand, in a file, so that the next start can end what a killed
//! gateway has left behind, and write it down.
//!
//! Append-only, one JSON object a line: `{"id":..,"at":..,"dialog":{..}}` for a dialog that stands (again, when its peer has
//! moved), `{"id":..,"at":..,"cdr":{..}}` for the record of a call, which has no `cause` while the call stands,
//! `{"id":..,"over":true}` for a dialog that is over, and a record that stands in every place. While anything stands a line
//! `{"id":"alive","at":..}` a second says that the gateway lives. When what is over outweighs what stands, the file is written
//! anew beside itself and renamed. A thread of its own writes, and forces it to the disk once a second.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{GatewayError, driver};
use crate::call::Cdr;
use crate::sip::SessionId;
use crate::switch::{Left, StoreStatus};

/// Lines that may wait for the disk. What is lost beyond it costs a BYE or a record at the next start, or sends one in vain.
const QUEUE: usize = 10_000;
/// The file is written anew when it has so much that is over, and four times of what stands.
const SLACK: usize = 256 * 1024;
/// More than this of a file is not read: no journal of ours is so long.
const LONGEST: u64 = 256 * 1024 * 1024;
/// How long the last lines may take to be written at the end.
const FINISH_WITHIN: Duration = Duration::from_secs(5);
/// How often it is said that the gateway lives, and a file that could not be written is tried again.
const BEAT: Duration = Duration::from_secs(1);
/// The id of the lines that say so.
const ALIVE: &str = "alive";

/// How every line begins, also an only one that a crash has cut.
const BEGINNING: &[u8] = b"{\"id\":";

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
    /// Records that did not reach every place, each with its end; of calls that stood that is the gateway's.
    pub(super) records: Vec<(Receipt, Cdr)>,
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
    /// with each note, and every second.
    pub(super) fn open(path: &Path, now: u64, longest: Duration) -> Result<(Journal, Standing), GatewayError> {
        let failed = |source| GatewayError::Journal { path: path.to_owned(), source };
        let file = open(path).map_err(failed)?;
        let read = match read(&file, now / 1000, longest) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(failed(error)),
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the journal cannot be read: calls left behind are not ended");
                Kept::default()
            }
        };
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
        let Kept { dialogs, records, lines, alive } = read;
        let status = Arc::<Mutex<StoreStatus>>::default();
        let path = path.to_owned();
        let mut book = Book { path, file, lines, alive, written: 0, live: 0, broken: false, status: status.clone() };
        if let Err(error) = book.write_anew() {
            book.unwritten(&error);
        }
        let (queue, notes) = sync_channel(QUEUE);
        let queue = Arc::new(queue);
        let records = records.into_iter();
        let records = records.map(|(id, cdr)| (Receipt { id, journal: Arc::downgrade(&queue) }, cdr)).collect();
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
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
            } else if std::mem::replace(&mut self.broken, false) {
                self.show(StoreStatus::default());
                tracing::info!("the journal is written again");
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

    /// Says so once; the next note tries again, or the next second.
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
                self.live -= before.map_or(0, |line| line.len() + 1);
                text
            }
            None => {
                // A line of which nothing stands need not be taken back.
                let Some(before) = self.lines.remove(&id) else { return Ok(()) };
                self.live -= before.len() + 1;
                let over = Line { id, over: true, ..Line::default() };
                serde_json::to_string(&over).map_err(io::Error::other)? + "\n"
            }
        };
        self.append(&text)
    }

    /// Adds lines for what stands.
    fn append(&mut self, text: &str) -> io::Result<()> {
        self.written += text.len();
        if self.broken || self.written > SLACK + self.live * 5 {
            return self.write_anew();
        }
        self.file.write_all(text.as_bytes())
    }

    /// Writes what stands to a new file and puts it in the place of the old one.
    fn write_anew(&mut self) -> io::Result<()> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new"); // after the whole name: another file may have the name with another ending
        let beside = PathBuf::from(beside);
        let _ = std::fs::remove_file(&beside); // of an attempt that was cut short
        let mut file = open(&beside)?;
        let mut text: String = self.lines.values().flat_map(|line| [line.as_str(), "\n"]).collect();
        if !text.is_empty() {
            text.push_str(&self.alive_line());
        }
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        std::fs::rename(&beside, &self.path)?;
        (self.file, self.written, self.live) = (file, text.len(), text.len());
        Ok(())
    }
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

/// What stands in a file.
#[derive(Default)]
struct Kept {
    dialogs: Vec<Found>,
    /// By their ids; each has its end.
    records: Vec<(String, Cdr)>,
    /// What it comes to in the file.
    lines: BTreeMap<String, String>,
    /// When its gateway is known to have lived last, Unix seconds.
    alive: u64,
}

/// Reads it. A line that cannot be read, such as the last of a full disk, is passed over.
///
/// # Errors
/// `InvalidData`: the file is somebody else's, and would be emptied.
fn read(mut file: &File, now: u64, longest: Duration) -> io::Result<Kept> {
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(LONGEST).read_to_end(&mut bytes)?;
    if !is_ours(&bytes) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is no journal of ours, and is left alone: name another file",
        ));
    }
    let (mut dialogs, mut records, mut alive) = (BTreeMap::new(), BTreeMap::new(), 0);
    for text in String::from_utf8_lossy(&bytes).lines() {
        let Ok(line) = serde_json::from_str::<Line>(text) else { continue };
        alive = alive.max(line.at.unwrap_or(0));
        match line {
            Line { id, over: true, .. } => {
                dialogs.remove(&id);
                records.remove(&id);
            }
            Line { id, at: Some(at), dialog: Some(left), .. } => drop(dialogs.insert(id, (at, left, text.to_owned()))),
            Line { id, cdr: Some(cdr), .. } => drop(records.insert(id, *cdr)),
            _ => {}
        }
    }
    let mut kept = Kept { alive, ..Kept::default() };
    let mut stale = 0;
    for (id, (at, left, text)) in dialogs {
        match longest.checked_sub(Duration::from_secs(now.saturating_sub(at))) {
            Some(holds) => {
                kept.lines.insert(id.clone(), text);
                kept.dialogs.push(Found { id, holds, left });
            }
            None => stale += 1,
        }
    }
    if stale > 0 {
        tracing::info!(stale, "dialogs of the journal are older than any call can be: dropped");
    }
    for (id, mut cdr) in records {
        // Its end is in the file from now on: another start, should this one be cut short, finds it as it is.
        if !cdr.is_over() {
            cdr.lose(alive.saturating_mul(1000));
        }
        let line = Line { id: id.clone(), cdr: Some(Box::new(cdr.clone())), ..Line::default() };
        kept.lines.insert(id.clone(), serde_json::to_string(&line).map_err(io::Error::other)?);
        kept.records.push((id, cdr));
    }
    Ok(kept)
}

/// Whether a journal was written there, whatever became of it: a machine that lost its power may leave zeros, or a line that
/// is cut anywhere, and another version's lines may tell of a dialog in other words.
fn is_ours(bytes: &[u8]) -> bool {
    let written: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
    let text = written.trim_ascii();
    let line = |line: &[u8]| {
        let has = |words: &[u8]| line.windows(words.len()).any(|part| part == words);
        line.starts_with(BEGINNING) && (has(b"\"dialog\":") || has(b"\"cdr\":") || has(b"\"over\":true"))
    };
    let cut = BEGINNING.starts_with(text) || text.starts_with(BEGINNING) && !text.contains(&b'\n');
    cut || text.split(|byte| *byte == b'\n').any(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::call::{CallId, Cause, Direction, Origin, Special};
    use crate::sip::LeftDialog;

    const LONGEST_CALL: Duration = Duration::from_secs(43_200);
    const NOW: u64 = 1_800_000_000_000;

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

    fn call(number: u64) -> Cdr {
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
            let records: Vec<Cdr> = found.records.iter().map(|(_, record)| record.clone()).collect();
            let [lost, whole] = records.as_slice() else { panic!("{records:?}") };
            assert_eq!((lost.is_lost(), lost.cause.as_str(), lost.q850), (true, "gateway-lost", 41));
            assert!(lost.end >= NOW + 5_000, "the last note is a sign of life: {}", lost.end);
            assert_eq!((lost.answer, lost.user.as_str()), (answered.answer, "alice"));
            assert_eq!(*whole, over);
            assert_eq!(*before.get_or_insert(records.clone()), records);
            journal.finish().await;
        }
        let (journal, found) = Journal::open(&path, NOW, LONGEST_CALL).unwrap();
        found.records.iter().for_each(|(receipt, _)| receipt.sign());
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
            assert_eq!(found.records[0].1.end, end);
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

    #[test]
    fn the_file_has_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let file = open(&path).unwrap();
        let (path_of_it, lines, status) = (path.clone(), BTreeMap::new(), Arc::default());
        let mut book = Book { path: path_of_it, file, lines, alive: 0, written: 0, live: 0, broken: false, status };
        let line = |id: &str| {
            let line = Line { id: id.into(), at: Some(NOW / 1000), dialog: Some(left(id)), ..Line::default() };
            serde_json::to_string(&line).unwrap()
        };
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
        let again = read(&File::open(&path).unwrap(), NOW / 1000, LONGEST_CALL).unwrap();
        assert_eq!(again.dialogs.len(), 10);
    }
}
