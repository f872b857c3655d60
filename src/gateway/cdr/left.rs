//! Records that a place does not take are also kept in a file, so that the gateway's end does not cost them: the next one
//! takes them up. Where there is no journal a kill costs what came since the last try.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::row::Record;
use crate::call::Cdr;

/// The file of one place; there is none while nothing waits.
pub(super) struct Left {
    file: Option<PathBuf>,
    /// What an earlier gateway has left is taken up.
    loaded: bool,
    /// How many records stand in it, as far as is known.
    saved: usize,
    /// It has been said that nothing can be kept.
    said: bool,
}

impl Left {
    /// The file of the place of that name in a folder; `None`: nothing is kept.
    pub(super) fn of(folder: Option<&Path>, name: &str) -> Left {
        Left { file: folder.map(|folder| folder.join(format!("{name}.jsonl"))), loaded: false, saved: 0, said: false }
    }

    /// Goes by another name of the same file, or of none; `false`: it is another file.
    pub(super) fn goes_by(&mut self, other: &Left) -> bool {
        let same = self.file.as_deref().map(true_name) == other.file.as_deref().map(true_name);
        if same {
            self.file.clone_from(&other.file);
        }
        same
    }

    /// Whether nothing stands in it, as far as is known.
    pub(super) fn has_nothing(&self) -> bool {
        self.saved == 0
    }

    /// What an earlier gateway, or an earlier thread of this place, has left; once.
    pub(super) fn load(&mut self) -> Vec<Arc<Record>> {
        if std::mem::replace(&mut self.loaded, true) {
            return Vec::new();
        }
        let Some(path) = &self.file else { return Vec::new() };
        match load(path) {
            Ok(records) => {
                self.saved = records.len();
                if self.saved > 0 {
                    tracing::info!(file = %path.display(), records = self.saved, "CDRs of an earlier run wait");
                }
                records
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "CDRs of an earlier run cannot be read");
                Vec::new()
            }
        }
    }

    /// Writes down what waits, in the place of what stood there; `false`: it is kept nowhere.
    pub(super) fn save(&mut self, records: &[Arc<Record>]) -> bool {
        let Some(path) = &self.file else { return false };
        match save(path, records) {
            Ok(()) => {
                self.saved = records.len();
                self.said = false;
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.said, true) {
                    tracing::error!(file = %path.display(), %error, "CDRs that wait stand in memory alone");
                }
                false
            }
        }
    }

    /// Nothing waits any more.
    pub(super) fn clear(&mut self) {
        if self.saved == 0 {
            return;
        }
        self.saved = 0;
        let removed = self.file.as_deref().map_or(Ok(()), std::fs::remove_file);
        if let Err(error) = removed {
            tracing::warn!(%error, "the file of CDRs that waited stays: they are written again");
        }
    }
}

/// A record that was taken up from the journal as well stands twice in it.
fn load(path: &Path) -> io::Result<Vec<Arc<Record>>> {
    let (mut records, mut known) = (Vec::new(), HashSet::new());
    for line in BufReader::new(File::open(path)?).lines() {
        let json = line?;
        match serde_json::from_str::<Cdr>(&json) {
            Ok(cdr) if !known.insert((cdr.call.clone(), cdr.start)) => {}
            Ok(cdr) => records.push(Arc::new(Record::new(cdr, json).again())),
            Err(error) => tracing::error!(%error, cdr = json, "this is no CDR that waits: it stands in this log only"),
        }
    }
    Ok(records)
}

/// Whole or not at all.
fn save(path: &Path, records: &[Arc<Record>]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let draft = path.with_extension("draft");
    write(&draft, records).and_then(|()| std::fs::rename(&draft, path)).inspect_err(|_| {
        let _ = std::fs::remove_file(&draft); // its room may be what is wanted elsewhere
    })
}

fn write(path: &Path, records: &[Arc<Record>]) -> io::Result<()> {
    let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    let mut out = BufWriter::new(file);
    for record in records {
        writeln!(out, "{}", record.json)?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// A file's name without links in its folder's; the file itself need not be there.
fn true_name(path: &Path) -> PathBuf {
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}
