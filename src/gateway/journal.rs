//! The dead man's journal: the dialogs that stand, in a file, so that the next start can end those that a killed gateway
//! has left behind.
//!
//! Append-only, one JSON object a line: `{"id":..,"at":..,"dialog":{..}}` for a dialog that stands (again, when its peer has
//! moved), `{"id":..,"over":true}` for one that is over. When what is over outweighs what stands, the file is written anew
//! beside itself and renamed. It is written by a thread of its own and never synced: it shall outlive the process, not the
//! machine's power, with which the calls' media ends too.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::GatewayError;
use crate::sip::SessionId;
use crate::switch::Left;

/// Lines that may wait for the disk. What is lost beyond it costs a BYE at the next start, or sends one in vain.
const QUEUE: usize = 10_000;
/// The file is written anew when it has so much that is over, and four times of what stands.
const SLACK: usize = 256 * 1024;
/// More than this of a file is not read: no journal of ours is so long.
const LONGEST: u64 = 256 * 1024 * 1024;
/// How long the last lines may take to be written at the end.
const FINISH_WITHIN: Duration = Duration::from_secs(5);
/// How often a file that could not be written is tried again where no note comes.
const AGAIN: Duration = Duration::from_secs(1);

/// How every line begins, also an only one that a crash has cut.
const BEGINNING: &[u8] = b"{\"id\":";

/// One line.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    id: String,
    /// Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dialog: Option<Left>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    over: bool,
}

/// A dialog that an earlier gateway noted and did not end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) id: String,
    /// How long it may stand yet, by the longest call.
    pub(super) holds: Duration,
    pub(super) left: Left,
}

/// The writer's handle.
pub(super) struct Journal {
    /// Tells the dialogs of this run from those of earlier ones.
    run: u64,
    queue: SyncSender<Note>,
    thread: JoinHandle<()>,
    done: oneshot::Receiver<()>,
    lost: u64,
}

/// For the thread: a line by its id, or that it is over.
type Note = (String, Option<String>);

impl Journal {
    /// Takes the file, alone, and gives what stands in it. `now` in Unix milliseconds; what is older than `longest`, the
    /// longest call, cannot stand any more. A disk that is full does not stop the start: it is tried again
    /// with each note, and every second.
    pub(super) fn open(path: &Path, now: u64, longest: Duration) -> Result<(Journal, Vec<Found>), GatewayError> {
        let failed = |source| GatewayError::Journal { path: path.to_owned(), source };
        let file = open(path).map_err(failed)?;
        let standing = match read(&file, now / 1000, longest) {
            Ok(standing) => standing,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(failed(error)),
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the journal cannot be read: calls left behind are not ended");
                BTreeMap::new()
            }
        };
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
        let found = standing.values().map(|(found, _)| found.clone()).collect();
        let lines = standing.into_iter().map(|(id, (_, line))| (id, line)).collect();
        let mut book = Book { path: path.to_owned(), file, lines, written: 0, live: 0, broken: false };
        if let Err(error) = book.write_anew() {
            book.unwritten(&error);
        }
        let (queue, notes) = sync_channel(QUEUE);
        let (written, done) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                book.keep(&notes);
                let _ = written.send(()); // nobody waits any more: the time was up
            })
            .map_err(failed)?;
        Ok((Journal { run: now, queue, thread, done, lost: 0 }, found))
    }

    /// A dialog of this run stands, or is over.
    pub(super) fn note(&mut self, now: u64, session: SessionId, left: Option<Left>) {
        let id = format!("{:x}-{:x}", self.run, session.0);
        match left {
            None => self.send((id, None)),
            Some(left) => {
                let line = Line { id: id.clone(), at: Some(now / 1000), dialog: Some(left), over: false };
                match serde_json::to_string(&line) {
                    Ok(line) => self.send((id, Some(line))),
                    Err(error) => tracing::error!(%error, "a dialog cannot be noted"),
                }
            }
        }
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
    /// Bytes in the file, and those of what stands.
    written: usize,
    live: usize,
    /// The last write has failed, perhaps in the middle of a line.
    broken: bool,
}

impl Book {
    fn keep(&mut self, notes: &Receiver<Note>) {
        loop {
            let written = match self.next(notes) {
                Ok(note) => self.take(note),
                // Nothing new: what stands is written as soon as the disk takes it.
                Err(RecvTimeoutError::Timeout) => self.write_anew(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(error) = written {
                self.unwritten(&error);
            } else if std::mem::replace(&mut self.broken, false) {
                tracing::info!("the journal is written again");
            }
        }
        if let Err(error) = self.write_anew() {
            tracing::warn!(%error, "the journal is not tidied");
        }
    }

    /// The next note; while the file is behind it is waited for no longer than until the next try.
    fn next(&self, notes: &Receiver<Note>) -> Result<Note, RecvTimeoutError> {
        match self.broken {
            true => notes.recv_timeout(AGAIN),
            false => notes.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Says so once; the next note tries again, or the next second.
    fn unwritten(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.broken, true) {
            tracing::error!(%error, path = %self.path.display(), "the journal cannot be written: calls left behind by a \
                crash would not be ended");
        }
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
                let over = Line { id, at: None, dialog: None, over: true };
                serde_json::to_string(&over).map_err(io::Error::other)? + "\n"
            }
        };
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
        let text: String = self.lines.values().flat_map(|line| [line.as_str(), "\n"]).collect();
        file.write_all(text.as_bytes())?;
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

/// What stands in a file, with its lines. A line that cannot be read, such as the last of a full disk, is passed over.
///
/// # Errors
/// `InvalidData`: the file is somebody else's, and would be emptied.
fn read(mut file: &File, now: u64, longest: Duration) -> io::Result<BTreeMap<String, (Found, String)>> {
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(LONGEST).read_to_end(&mut bytes)?;
    let mut standing = BTreeMap::new();
    if !is_ours(&bytes) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is no journal of ours, and is left alone: name another file",
        ));
    }
    let mut stale = 0;
    for text in String::from_utf8_lossy(&bytes).lines() {
        let Ok(line) = serde_json::from_str::<Line>(text) else { continue };
        match line {
            Line { id, over: true, .. } => {
                standing.remove(&id);
            }
            Line { id, at: Some(at), dialog: Some(left), .. } => {
                let age = Duration::from_secs(now.saturating_sub(at));
                if age > longest {
                    stale += 1;
                    standing.remove(&id);
                } else {
                    standing
                        .insert(id.clone(), (Found { id, holds: longest.saturating_sub(age), left }, text.to_owned()));
                }
            }
            _ => {}
        }
    }
    if stale > 0 {
        tracing::info!(stale, "dialogs of the journal are older than any call can be: dropped");
    }
    Ok(standing)
}

/// Whether a journal was written there, whatever became of it: a machine that lost its power may leave zeros, or a line that
/// is cut anywhere, and another version's lines may tell of a dialog in other words.
fn is_ours(bytes: &[u8]) -> bool {
    let written: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
    let text = written.trim_ascii();
    let line = |line: &[u8]| {
        let has = |words: &[u8]| line.windows(words.len()).any(|part| part == words);
        line.starts_with(BEGINNING) && (has(b"\"dialog\":") || has(b"\"over\":true"))
    };
    let cut = BEGINNING.starts_with(text) || text.starts_with(BEGINNING) && !text.contains(&b'\n');
    cut || text.split(|byte| *byte == b'\n').any(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
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

    fn calls(found: &[Found]) -> Vec<&str> {
        found.iter().map(|found| found.left.dialog.call_id.as_str()).collect()
    }

    #[tokio::test]
    async fn what_stands_is_found_again_and_what_is_old_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, found) = Journal::open(&path, NOW, LONGEST_CALL).unwrap();
        assert!(found.is_empty());
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
        assert_eq!(found[0].left, left("a"));
        // Another run's first session is another.
        journal.note(NOW + 60_000, SessionId(1), Some(left("d")));
        journal.over(found[1].id.clone());
        journal.finish().await;
        let later = NOW + LONGEST_CALL.as_secs() * 1000 + 30_000;
        let (journal, found) = Journal::open(&path, later, LONGEST_CALL).unwrap();
        assert_eq!(calls(&found), ["d"]);
        journal.finish().await;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
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
        ] {
            std::fs::write(&path, ours).unwrap();
            let (journal, found) = Journal::open(&path, NOW, LONGEST_CALL).unwrap();
            assert!(found.is_empty(), "{ours}");
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
        std::fs::remove_dir(&in_the_way).unwrap();
        journal.note(NOW + 1, SessionId(1), Some(left("b")));
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
        let mut book = Book { path: path.clone(), file, lines: BTreeMap::new(), written: 0, live: 0, broken: false };
        let line = |id: &str| {
            let line = Line { id: id.into(), at: Some(NOW / 1000), dialog: Some(left(id)), over: false };
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
        assert_eq!(again.len(), 10);
    }
}
