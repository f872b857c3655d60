//! Call detail records: one JSON object a line, to a file or standard output, written by a thread of its own so that a
//! slow disk holds up no call.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::GatewayError;
use crate::call::Cdr;
use crate::config::CdrSink;

/// Records that may wait for the disk; past it they are logged as errors, with their text, rather than lost unseen.
const QUEUE: usize = 10_000;

/// How long the last records may take to be written at the end: a pipe that nobody reads must not hold the gateway.
const FINISH_WITHIN: Duration = Duration::from_secs(10);

/// The writer; [`CdrWriter::finish`] flushes and joins.
pub(super) struct CdrWriter {
    queue: SyncSender<String>,
    thread: JoinHandle<()>,
    done: oneshot::Receiver<()>,
}

impl CdrWriter {
    /// Opens what records go to: a disk may take its time. A file is opened anew even where another writer has one of the same
    /// name: it may have been moved away.
    pub(super) fn start(sink: &CdrSink) -> Result<CdrWriter, GatewayError> {
        let out: Box<dyn Write + Send> = match sink {
            CdrSink::Stdout => Box::new(io::stdout()),
            CdrSink::File(path) => {
                Box::new(open(path).map_err(|source| GatewayError::Cdr { path: path.clone(), source })?)
            }
        };
        let (queue, records) = sync_channel(QUEUE);
        let (written, done) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("cdr".into())
            .spawn(move || {
                write_all(out, &records);
                let _ = written.send(()); // nobody waits any more: the time was up
            })
            .map_err(|source| GatewayError::Cdr { path: "(thread)".into(), source })?;
        Ok(CdrWriter { queue, thread, done })
    }

    pub(super) fn write(&self, cdr: &Cdr) {
        let line = match serde_json::to_string(cdr) {
            Ok(line) => line,
            Err(error) => {
                tracing::error!(%error, "a CDR cannot be written as JSON");
                return;
            }
        };
        match self.queue.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(line) | TrySendError::Disconnected(line)) => {
                tracing::error!(cdr = line, "the CDR queue is full: the record stands in this log only");
            }
        }
    }

    /// Writes what waits and ends the thread.
    pub(super) async fn finish(self) {
        drop(self.queue);
        if tokio::time::timeout(FINISH_WITHIN, self.done).await.is_err() {
            tracing::error!("the last CDRs could not be written within {FINISH_WITHIN:?}: nobody reads them");
        } else if self.thread.join().is_err() {
            tracing::error!("the CDR writer panicked");
        }
    }
}

fn open(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_all(mut out: Box<dyn Write + Send>, records: &Receiver<String>) {
    for line in records {
        if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
            tracing::error!(%error, cdr = line, "a CDR could not be written: it stands in this log only");
        }
    }
}
