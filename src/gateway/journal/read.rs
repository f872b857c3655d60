//! What an earlier gateway's journal comes to, line by line.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Found, Line, beside};
use crate::call::Cdr;
use crate::switch::Left;

/// More than this is read as several lines: none of ours is so long.
const LONGEST_LINE: u64 = 1024 * 1024;
/// How every line begins, also an only one that a crash has cut.
const BEGINNING: &[u8] = b"{\"id\":";

/// What stands in a file.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) dialogs: Vec<Found>,
    /// By their ids; each has its end, and whether its call stood.
    pub(super) records: Vec<(String, (Cdr, bool))>,
    /// What it comes to in the file.
    pub(super) lines: BTreeMap<String, String>,
    /// Lines of records in words that this version does not know.
    pub(super) unread: Vec<String>,
    /// When its gateway is known to have lived last, Unix seconds.
    pub(super) alive: u64,
}

/// Reads it. What the disk does not give is not written over: it is kept aside, and the journal begins anew.
///
/// # Errors
/// `InvalidData` as [`read`]; others where it cannot be kept aside.
pub(super) fn taken_up(path: &Path, file: impl Read, now: u64, longest: Duration) -> io::Result<Kept> {
    match read(file, now, longest) {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => {
            let aside = beside(path, &format!("{now}.unread"));
            std::fs::rename(path, &aside)?;
            tracing::error!(%error, path = %aside.display(), "the journal cannot be read and is kept aside: calls left \
                behind are not ended, and their records not written");
            Ok(Kept::default())
        }
        read => read,
    }
}

/// Reads it. A line that cannot be read, such as the last of a full disk, is passed over, but that of a record in other words.
///
/// # Errors
/// `InvalidData`: the file is somebody else's, and would be emptied.
pub(super) fn read(file: impl Read, now: u64, longest: Duration) -> io::Result<Kept> {
    let (mut file, mut line) = (BufReader::new(file), Vec::new());
    let (mut lines, mut looks) = (Lines::default(), Looks::default());
    while Read::by_ref(&mut file).take(LONGEST_LINE).read_until(b'\n', &mut line)? > 0 {
        line.retain(|byte| *byte != 0); // a machine that lost its power may leave zeros
        let text = line.trim_ascii();
        if !text.is_empty() {
            looks.at(text);
            lines.take(&String::from_utf8_lossy(text));
        }
        line.clear();
    }
    if !looks.ours() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is no journal of ours, and is left alone: name another file",
        ));
    }
    lines.stand(now, longest)
}

/// What the lines read so far come to, by their ids.
#[derive(Default)]
struct Lines {
    dialogs: BTreeMap<String, (u64, Left, String)>,
    records: BTreeMap<String, Cdr>,
    unread: BTreeMap<String, String>,
    alive: u64,
}

/// What tells a record in other words: it is over as any other is.
#[derive(Deserialize)]
struct OtherWords {
    id: String,
    #[serde(rename = "cdr")]
    _cdr: IgnoredAny,
}

impl Lines {
    fn take(&mut self, text: &str) {
        let Ok(line) = serde_json::from_str::<Line>(text) else {
            if let Ok(OtherWords { id, .. }) = serde_json::from_str(text) {
                self.unread.insert(id, text.to_owned());
            }
            return;
        };
        self.alive = self.alive.max(line.at.unwrap_or(0));
        match line {
            Line { id, over: true, .. } => {
                self.dialogs.remove(&id);
                self.records.remove(&id);
                self.unread.remove(&id);
            }
            Line { id, at: Some(at), dialog: Some(left), .. } => {
                self.dialogs.insert(id, (at, left, text.to_owned()));
            }
            Line { id, cdr: Some(cdr), .. } => {
                self.unread.remove(&id);
                self.records.insert(id, *cdr);
            }
            _ => {}
        }
    }

    fn stand(self, now: u64, longest: Duration) -> io::Result<Kept> {
        let Lines { dialogs, records, unread, alive } = self;
        let mut kept = Kept { alive, unread: unread.into_values().collect(), ..Kept::default() };
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
            let stood = !cdr.is_over();
            if stood {
                cdr.lose(alive.saturating_mul(1000));
            }
            let line = Line { id: id.clone(), cdr: Some(Box::new(cdr.clone())), ..Line::default() };
            kept.lines.insert(id.clone(), serde_json::to_string(&line).map_err(io::Error::other)?);
            kept.records.push((id, (cdr, stood)));
        }
        Ok(kept)
    }
}

/// Whether a journal was written there, whatever became of it: a line may be cut anywhere, and another version's lines may
/// tell of a dialog in other words.
#[derive(Default)]
struct Looks {
    lines: usize,
    /// One is of a journal.
    one_is: bool,
    /// The last may be the beginning of one.
    may_be: bool,
}

impl Looks {
    fn at(&mut self, line: &[u8]) {
        let has = |words: &[u8]| line.windows(words.len()).any(|part| part == words);
        let begins = line.starts_with(BEGINNING);
        self.lines += 1;
        self.one_is |= begins && (has(b"\"dialog\":") || has(b"\"cdr\":") || has(b"\"over\":true"));
        self.may_be = begins || BEGINNING.starts_with(line);
    }

    fn ours(&self) -> bool {
        self.one_is || self.lines == 0 || self.lines == 1 && self.may_be
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::gateway::journal::tests::{LONGEST_CALL, NOW, call, line};

    /// A disk that gives the beginning alone.
    struct Dying<'a>(&'a [u8]);

    impl Read for Dying<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() { Err(io::Error::other("input/output error")) } else { self.0.read(bytes) }
        }
    }

    #[test]
    fn a_journal_that_the_disk_does_not_give_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.journal");
        let text = line("a") + "\n";
        std::fs::write(&path, &text).unwrap();
        let kept = taken_up(&path, Dying(text.as_bytes()), NOW / 1000, LONGEST_CALL).unwrap();
        assert!(kept.lines.is_empty() && !path.exists());
        let aside = folder.path().join(format!("calls.journal.{}.unread", NOW / 1000));
        assert_eq!(std::fs::read_to_string(aside).unwrap(), text);
    }

    #[test]
    fn a_line_that_is_too_long_costs_no_other() {
        let junk = "x".repeat(3 * usize::try_from(LONGEST_LINE).unwrap() + 1);
        let text = [line("a"), junk, line("b")].join("\n");
        let kept = read(text.as_bytes(), NOW / 1000, LONGEST_CALL).unwrap();
        assert_eq!(kept.lines.into_values().collect::<Vec<_>>(), [line("a"), line("b")]);
    }

    /// Such as those of a later version: they are gone with the file, and have to be in the log. What is over is written.
    #[test]
    fn records_in_other_words_are_told_unless_they_are_over() {
        let other = |id: &str| format!("{{\"id\":\"{id}\",\"at\":1,\"cdr\":{{\"in\":\"other words\"}}}}");
        let known = serde_json::to_string(&Line { id: "1-d".into(), cdr: Some(Box::new(call(1))), ..Line::default() });
        let over = "{\"id\":\"1-b\",\"over\":true}".to_owned();
        let cut = "{\"id\":\"1-e\",\"cdr\":{\"call".to_owned();
        let lines = [other("1-a"), other("1-b"), other("1-c"), over, other("1-d"), known.unwrap(), cut];
        let kept = read(lines.join("\n").as_bytes(), NOW / 1000, LONGEST_CALL).unwrap();
        assert_eq!(kept.unread, [other("1-a"), other("1-c")]);
        assert_eq!(kept.records.len(), 1);
    }
}
