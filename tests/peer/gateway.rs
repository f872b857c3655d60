//! The gateway's own program, started with a configuration of the test.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::PATIENCE;

/// The first of four ports that are free for UDP, the first for TCP too, and that no other test of this process was given.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        // Below the range from which the system takes ports by itself; processes start at different places.
        let step = NEXT.fetch_add(4, Ordering::Relaxed);
        let port = 10_000 + (std::process::id() % 16) as u16 * 500 + step % 500;
        let udp = (port..port + 4).all(|port| UdpSocket::bind(("0.0.0.0", port)).is_ok());
        if udp && TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// A running gateway.
pub struct Gateway {
    pub http: SocketAddr,
    pub sip: SocketAddr,
    pub rtp_ports: std::ops::Range<u16>,
    child: Child,
    written: Arc<AtomicUsize>,
    /// Call records, as they are written.
    records: mpsc::Receiver<Value>,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    folder: TempDir,
}

/// What a test says about its gateway.
pub struct Setup<'a> {
    /// Its address towards the trunks.
    pub ip: IpAddr,
    /// Further keys of `[sip]`.
    pub sip: &'a str,
    /// The `[trunk.NAME]` sections, and any others.
    pub trunks: &'a str,
    /// The dial plan.
    pub plan: &'a str,
    /// How many RTP ports it has.
    pub rtp_ports: u16,
    /// What it logs.
    pub log: &'a str,
}

impl<'a> Setup<'a> {
    /// A gateway on 127.0.0.1 for one test.
    pub fn new(trunks: &'a str, plan: &'a str) -> Setup<'a> {
        Setup { ip: Ipv4Addr::LOCALHOST.into(), sip: "", trunks, plan, rtp_ports: 60, log: "ringback=debug,info" }
    }
}

impl Gateway {
    /// Starts the program and waits until it says that it is ready.
    pub async fn start(setup: Setup<'_>) -> Gateway {
        let folder = tempfile::tempdir().expect("a folder");
        let sip = SocketAddr::new(setup.ip, free_port());
        let rtp = free_rtp_ports(setup.rtp_ports);
        write(folder.path(), "dialplans/test.toml", setup.plan);
        let config = format!(
            r#"
[http]
listen = "127.0.0.1:0"
[sip]
udp = ["{sip}"]
tcp = ["{sip}"]
{}
[media]
browser = "127.0.0.1:0"
busy_at = 0 # a machine on which tests share a processor is late
rtp_address = "{ip}"
rtp_ports = "{rtp}-{}"
[auth]
open = true
[dialplan]
dir = "dialplans"
[cdr]
file = "-"
[log]
level = "{log}"
{}
"#,
            setup.sip,
            rtp + setup.rtp_ports - 1,
            setup.trunks,
            ip = setup.ip,
            log = setup.log,
        );
        write(folder.path(), "ringback.toml", &config);
        let child = launch(folder.path());
        let (http, child, written, records, log, readers) = listen(child, &config).await;
        let rtp_ports = rtp..rtp + setup.rtp_ports;
        Gateway { http, sip, rtp_ports, child, written, records, log, readers, folder }
    }

    /// Kills the program without a word and starts it again, with the same configuration; gives how long it took to
    /// listen again.
    pub async fn killed_and_started(&mut self) -> Duration {
        self.child.kill().await.expect("it runs");
        for reader in self.readers.drain(..) {
            reader.await.expect("a log that can be read");
        }
        let begun = Instant::now();
        let child = launch(self.folder.path());
        let (http, child, written, records, log, readers) = listen(child, "killed and started again").await;
        (self.http, self.child, self.written, self.records) = (http, child, written, records);
        (self.log, self.readers) = (log, readers);
        begun.elapsed()
    }

    /// The next call record.
    pub async fn record(&mut self) -> Value {
        timeout(PATIENCE, self.records.recv()).await.ok().flatten().expect("a call record")
    }

    /// How many call records were written so far, read or not.
    pub fn records(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The program's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        if let Some(id) = self.pid() {
            let id = nix::unistd::Pid::from_raw(i32::try_from(id).expect("a process id"));
            // It may have ended by itself after an earlier one.
            let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM);
        }
    }

    /// Sends SIGTERM; the program must end by itself, well, and without a panic in its log.
    pub async fn stop(mut self) {
        self.terminate();
        let ended = timeout(PATIENCE, self.child.wait()).await;
        for reader in self.readers.drain(..) {
            reader.await.expect("a log that can be read");
        }
        let log = self.log();
        let status = ended.unwrap_or_else(|_| panic!("the gateway ignored SIGTERM:\n{log}")).expect("a status");
        assert!(status.success(), "the gateway ended with {status}:\n{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

impl Drop for Gateway {
    /// A test that fails shows what its gateway had to say.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log());
        }
    }
}

fn launch(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ringback"))
        .arg("--config")
        .arg(folder.join("ringback.toml"))
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the gateway's program")
}

type Listening = (SocketAddr, Child, Arc<AtomicUsize>, mpsc::Receiver<Value>, Arc<Mutex<String>>, Vec<JoinHandle<()>>);

/// Waits until it says that it is ready.
async fn listen(mut child: Child, config: &str) -> Listening {
    let log = Arc::new(Mutex::new(String::new()));
    let (lines, mut ready) = mpsc::channel(4096);
    let (written, records) = mpsc::channel(256);
    let stderr = child.stderr.take().expect("stderr");
    let stdout = child.stdout.take().expect("stdout");
    let (kept, count) = (log.clone(), Arc::new(AtomicUsize::new(0)));
    let written_so_far = count.clone();
    let readers = vec![
        tokio::spawn(read(stderr, move |line| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push_str(&format!("{line}\n"));
            // Once it is ready nobody asks for the log's lines any more.
            let _ = lines.try_send(line);
        })),
        tokio::spawn(read(stdout, move |line| {
            if let Ok(record) = serde_json::from_str(&line) {
                count.fetch_add(1, Ordering::Relaxed);
                let _ = written.try_send(record);
            }
        })),
    ];
    let address = timeout(PATIENCE, async {
        while let Some(line) = ready.recv().await {
            if let Some(at) = line.find("Ringback is ready: open http://") {
                return line[at..].rsplit("://").next().map(|rest| rest.trim_end_matches('/').to_owned());
            }
        }
        None
    });
    let address = address.await.ok().flatten();
    let text = || log.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let address = address.unwrap_or_else(|| panic!("the gateway did not become ready:\n{config}\n{}", text()));
    let port = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    (SocketAddr::from(([127, 0, 0, 1], port)), child, written_so_far, records, log, readers)
}

/// So many ports, an even number, that no other test of this process was given.
fn free_rtp_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    20_000 + NEXT.fetch_add(count, Ordering::Relaxed) % 12_000
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

async fn read(stream: impl AsyncRead + Unpin, mut line: impl FnMut(String)) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(text)) = lines.next_line().await {
        line(text);
    }
}
