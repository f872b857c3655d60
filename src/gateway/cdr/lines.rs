//! Records as JSON lines, to a file or to standard output.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::lane::{Failure, Sink};
use super::row::Record;
use crate::config::CdrLines;

/// So much of a file's end is looked at for records of an earlier run: those of some ten thousand calls.
const LATEST: u64 = 32 * 1024 * 1024;

/// See the module.
pub(super) struct Lines {
    out: File,
    /// A file of our own: half a line can be taken back, and what is there can be looked at.
    own_file: Option<PathBuf>,
    /// Where it cannot: so much of the next line is out.
    written: usize,
}

impl Lines {
    /// Opens the file; a line that was left half-way by a crash is ended.
    pub(super) fn open(to: &CdrLines) -> io::Result<Lines> {
        let (out, own_file) = match to {
            // Without the buffer of the standard library, which would not say how much of it is out.
            CdrLines::Stdout => (File::from(io::stdout().as_fd().try_clone_to_owned()?), None),
            CdrLines::File(path) => open(path)?,
        };
        Ok(Lines { out, own_file, written: 0 })
    }

    /// The whole line or, in a file, none of it.
    fn line(&mut self, line: &str) -> io::Result<()> {
        if self.own_file.is_some() {
            let before = self.out.metadata()?.len();
            return self.out.write_all(line.as_bytes()).inspect_err(|_| {
                let _ = self.out.set_len(before); // what stays there all the same is ended at the next opening
            });
        }
        while let Some(rest) = line.as_bytes().get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.written = 0;
        Ok(())
    }

    /// The calls whose records were written last. Only such as were written just before a kill may come again.
    fn latest(&self) -> io::Result<HashSet<String>> {
        let Some(path) = &self.own_file else { return Ok(HashSet::new()) };
        let Some(mut file) = readable(path)? else { return Ok(HashSet::new()) };
        let from = file.metadata()?.len().saturating_sub(LATEST);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(LATEST).read_to_end(&mut bytes)?;
        let call = |line: &[u8]| serde_json::from_slice::<Call>(line).ok().map(|call| call.call);
        Ok(bytes.split(|byte| *byte == b'\n').filter_map(call).collect())
    }
}

impl Sink for Lines {
    fn write(&mut self, records: &[Arc<Record>]) -> Result<usize, Failure> {
        let mut written = match records.iter().any(|record| record.again) {
            true => self.latest().map_err(|error| Failure::Later(error.to_string()))?,
            false => HashSet::new(),
        };
        for (count, record) in records.iter().enumerate() {
            if record.again && !written.insert(record.cdr.call.clone()) {
                continue;
            }
            if let Err(error) = self.line(&format!("{}\n", record.json)) {
                return if count > 0 { Ok(count) } else { Err(Failure::Later(error.to_string())) };
            }
        }
        if self.own_file.is_some()
            && let Err(error) = self.out.sync_data()
        {
            tracing::warn!(%error, "CDRs are written, and not forced to the disk");
        }
        Ok(records.len())
    }
}

/// What of a line tells whose it is.
#[derive(Deserialize)]
struct Call {
    call: String,
}

fn open(path: &Path) -> io::Result<(File, Option<PathBuf>)> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let own_file = file.metadata()?.is_file();
    if own_file && is_half(path)? {
        file.write_all(b"\n")?;
    }
    Ok((file, own_file.then(|| path.to_owned())))
}

/// Whether the last line has no end.
fn is_half(path: &Path) -> io::Result<bool> {
    let Some(mut file) = readable(path)? else { return Ok(false) };
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// The file, to be read; `None`: it may be appended to alone.
fn readable(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}
