//! A gateway of our own program, started for the time of a measurement, on loopback, with a configuration of its own.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PLAN: &str = r#"
[plan]
name = "bench"
default = "deny"

[numbering]
country = "44"
national = "0"
international = ["00", "+"]
short = ["NUMBER"]

[[out]]
name = "phones"
pattern = "NUMBER"
tiers = [["phones"]]
"#;

const PATIENCE: Duration = Duration::from_secs(30);
/// Lines of its log that are kept, for an error.
const KEPT_LINES: usize = 100;

type Log = Arc<Mutex<VecDeque<String>>>;

/// The running program.
#[derive(Debug)]
pub struct Gateway {
    /// Where its page and its WebSockets are.
    pub http: SocketAddr,
    /// Its process.
    pub pid: u32,
    child: Child,
    log: Log,
    reader: JoinHandle<()>,
    _folder: TempDir,
}

/// What the gateway is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its program; none: the one beside this program.
    pub program: Option<PathBuf>,
    /// Where the phones take calls.
    pub phones: SocketAddr,
    /// The number that is theirs.
    pub number: String,
    /// Calls at once, at most.
    pub calls: usize,
    /// Media workers.
    pub workers: usize,
    /// Percent of a processor above which a worker takes no new calls; 0: it takes all.
    pub busy_at: u8,
}

impl Gateway {
    /// Starts it and waits until it says that it is ready.
    ///
    /// # Errors
    /// When there is no such program, or it does not become ready; its log is told.
    pub async fn start(setup: &Setup) -> anyhow::Result<Gateway> {
        let program = match &setup.program {
            Some(program) => program.clone(),
            None => std::env::current_exe()?.with_file_name("ringback"),
        };
        ensure!(program.is_file(), "there is no program {}: --program says where it is", program.display());
        let folder = tempfile::tempdir()?;
        write(&folder.path().join("dialplans/bench.toml"), &PLAN.replace("NUMBER", &setup.number))?;
        write(&folder.path().join("ringback.toml"), &configuration(setup))?;
        let mut child = Command::new(&program)
            .arg("--config")
            .arg(folder.path().join("ringback.toml"))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let (pid, stderr) = (child.id().context("a process")?, child.stderr.take().context("its log")?);
        let (log, (tell, ready)) = (Log::default(), oneshot::channel());
        let reader = tokio::spawn(read(stderr, Arc::clone(&log), tell));
        match timeout(PATIENCE, ready).await {
            Ok(Ok(http)) => Ok(Gateway { http, pid, child, log, reader, _folder: folder }),
            _ => bail!("the gateway does not become ready:\n{}", told(&log)),
        }
    }

    /// The last that it logged.
    pub fn log(&self) -> String {
        told(&self.log)
    }

    /// Ends it by SIGTERM, as an operator would.
    ///
    /// # Errors
    /// When it does not end, or not well.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid)?), Signal::SIGTERM)?;
        let ended = timeout(PATIENCE, self.child.wait()).await;
        self.reader.abort();
        let status = ended.with_context(|| format!("the gateway ignores SIGTERM:\n{}", told(&self.log)))??;
        ensure!(status.success(), "the gateway ended with {status}:\n{}", told(&self.log));
        Ok(())
    }
}

fn told(log: &Log) -> String {
    log.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|line| format!("{line}\n")).collect()
}

/// Keeps the last lines of the log; the address of the page is told once.
async fn read(stderr: ChildStderr, log: Log, ready: oneshot::Sender<SocketAddr>) {
    let (mut lines, mut ready) = (BufReader::new(stderr).lines(), Some(ready));
    while let Ok(Some(line)) = lines.next_line().await {
        let address = line.split("Ringback is ready: open http://").nth(1);
        let port = address.and_then(|address| address.trim_end_matches('/').rsplit(':').next()?.parse::<u16>().ok());
        if let Some(port) = port
            && let Some(ready) = ready.take()
        {
            // Whoever waited may have given up.
            let _ = ready.send(SocketAddr::from(([127, 0, 0, 1], port)));
        }
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == KEPT_LINES {
            log.pop_front();
        }
        log.push_back(line);
    }
}

fn configuration(setup: &Setup) -> String {
    let Setup { phones, calls, workers, busy_at, .. } = setup;
    // Another measurement beside this one has other ports, most likely; those that are taken are passed over.
    let first = 12_000 + std::process::id() % 8 * 500;
    let last = (first as usize + 2 * calls + 200).min(32_767);
    format!(
        r#"
[http]
listen = "127.0.0.1:0"
[sip]
udp = ["127.0.0.1:0"]
[media]
browser = "127.0.0.1:0"
rtp_address = "127.0.0.1"
rtp_ports = "{first}-{last}"
workers = {workers}
busy_at = {busy_at}
[auth]
open = true
[dialplan]
dir = "dialplans"
[cdr]
file = "calls.jsonl"
[log]
level = "ringback=info,warn"
[limits]
calls = {}
[trunk.phones]
address = "{phones}"
number_format = "as-dialled"
options = 0
# What the relayed rows measure; where Opus becomes G.711 it says nothing.
pass = "cost"
"#,
        calls + 10
    )
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(path.parent().context("a folder")?)?;
    Ok(std::fs::write(path, text)?)
}
