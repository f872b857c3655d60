//! Records as JSON lines, to a file or to standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use super::lane::{Failure, Sink};
use super::row::Record;
use crate::config::CdrLines;

/// See the module.
pub(super) struct Lines {
    out: File,
    /// Whether half a line can be taken back.
    own_file: bool,
    /// Where it cannot: so much of the next line is out.
    written: usize,
}

impl Lines {
    /// Opens the file; a line that was left half-way by a crash is ended.
    pub(super) fn open(to: &CdrLines) -> io::Result<Lines> {
        let (out, own_file) = match to {
            // Without the buffer of the standard library, which would not say how much of it is out.
            CdrLines::Stdout => (File::from(io::stdout().as_fd().try_clone_to_owned()?), false),
            CdrLines::File(path) => open(path)?,
        };
        Ok(Lines { out, own_file, written: 0 })
    }

    /// The whole line or, in a file, none of it.
    fn line(&mut self, line: &str) -> io::Result<()> {
        if self.own_file {
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
}

impl Sink for Lines {
    fn write(&mut self, records: &[Arc<Record>]) -> Result<usize, Failure> {
        for (count, record) in records.iter().enumerate() {
            if let Err(error) = self.line(&format!("{}\n", record.json)) {
                return if count > 0 { Ok(count) } else { Err(Failure::Later(error.to_string())) };
            }
        }
        Ok(records.len())
    }
}

fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let own_file = file.metadata()?.is_file();
    if own_file && is_half(path)? {
        file.write_all(b"\n")?;
    }
    Ok((file, own_file))
}

/// Whether the last line has no end.
fn is_half(path: &Path) -> io::Result<bool> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false), // it may be appended to alone
        Err(error) => return Err(error),
    };
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
