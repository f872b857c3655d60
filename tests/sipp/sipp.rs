//! SIPp as the other side of a call.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{interval, timeout};

use super::peer::gateway::free_port;
use super::peer::rtp::to_ulaw;
use super::peer::sound::{FRAME, Sound, Voice};
use super::peer::{PATIENCE, Phone};

/// The tone of `tone.ulaw`, which SIPp plays where a scenario makes its own sound.
pub const FILE_TONE: f64 = 750.0;

/// A SIPp that is about to start: its scenario, address and the words put into the scenario.
pub struct Setup {
    scenario: &'static str,
    pub port: u16,
    words: Vec<(&'static str, String)>,
    arguments: Vec<String>,
}

/// One run of one scenario, for one call.
pub struct Sipp {
    child: Child,
    folder: TempDir,
    scenario: &'static str,
}

impl Setup {
    pub fn new(scenario: &'static str) -> Setup {
        Setup { scenario, port: free_port(), words: Vec::new(), arguments: Vec::new() }
    }

    /// Where a trunk finds it.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Replaces `@NAME@` in the scenario.
    pub fn word(mut self, name: &'static str, value: impl ToString) -> Setup {
        self.words.push((name, value.to_string()));
        self
    }

    /// Puts the phone's RTP address into the scenario's SDP.
    pub fn media(self, phone: &Phone) -> Setup {
        self.word("MEDIA_IP", phone.address.ip()).word("MEDIA_PORT", phone.address.port())
    }

    pub fn argument(mut self, arguments: &[&str]) -> Setup {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Starts a phone, and returns when it listens.
    pub async fn phone(self) -> Sipp {
        let (port, tcp) = (self.port, self.arguments.iter().any(|argument| argument == "t1"));
        let sipp = self.start(None);
        let listens = timeout(PATIENCE, async {
            let mut tick = interval(Duration::from_millis(20));
            loop {
                tick.tick().await;
                let taken = if tcp {
                    TcpListener::bind(("127.0.0.1", port)).is_err()
                } else {
                    UdpSocket::bind(("127.0.0.1", port)).is_err()
                };
                if taken {
                    return;
                }
            }
        });
        if listens.await.is_err() {
            panic!("SIPp does not listen: {}", sipp.story());
        }
        sipp
    }

    /// Starts a caller of the gateway.
    pub fn caller(self, gateway: SocketAddr) -> Sipp {
        self.start(Some(gateway))
    }

    fn start(self, gateway: Option<SocketAddr>) -> Sipp {
        let folder = tempfile::tempdir().expect("a folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/sipp/scenarios/{}.xml", self.scenario));
        let mut scenario = std::fs::read_to_string(&source).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
        for (name, value) in &self.words {
            scenario = scenario.replace(&format!("@{name}@"), value);
        }
        std::fs::write(folder.path().join("scenario.xml"), scenario).expect("a file");
        let mut voice = Voice::default();
        let tone: Vec<u8> = (0..100).flat_map(|_| voice.frame::<FRAME>(Sound::Tone(FILE_TONE))).map(to_ulaw).collect();
        std::fs::write(folder.path().join("tone.ulaw"), tone).expect("a file");
        let media = free_port();
        let mut command = Command::new("sipp");
        command.args(gateway.map(|gateway| gateway.to_string()));
        command.args(["-sf", "scenario.xml", "-m", "1", "-nostdin", "-i", "127.0.0.1", "-mi", "127.0.0.1"]);
        command.args(["-p", &self.port.to_string(), "-mp", &media.to_string()]);
        command.args(["-trace_err", "-error_file", "errors", "-trace_msg", "-message_file", "messages"]);
        command.args(["-timeout", "60", "-timeout_error"]);
        command.args(&self.arguments).current_dir(folder.path()).kill_on_drop(true);
        let output = std::fs::File::create(folder.path().join("screen")).expect("a file");
        let child = command.stdin(Stdio::null()).stdout(output.try_clone().expect("a file")).stderr(output).spawn();
        Sipp { child: child.expect("sipp (Debian package sip-tester)"), folder, scenario: self.scenario }
    }
}

impl Sipp {
    /// Waits for the scenario's end, which must be as written.
    pub async fn finish(mut self) {
        let status = timeout(3 * PATIENCE, self.child.wait()).await;
        let Ok(Ok(status)) = status else { panic!("SIPp did not end: {}", self.story()) };
        assert!(status.success(), "SIPp ended with {status}: {}", self.story());
    }

    /// Waits until a message with this text went either way.
    pub async fn until(&self, text: &str) {
        let seen = timeout(PATIENCE, async {
            let mut tick = interval(Duration::from_millis(20));
            while !self.file("messages").contains(text) {
                tick.tick().await;
            }
        });
        if seen.await.is_err() {
            panic!("no {text:?} in the messages: {}", self.story());
        }
    }

    fn file(&self, name: &str) -> String {
        std::fs::read(self.folder.path().join(name)).map_or(String::new(), |b| String::from_utf8_lossy(&b).into_owned())
    }

    /// The value of a header in the messages so far.
    pub fn header(&self, name: &str) -> Option<String> {
        let messages = self.file("messages");
        messages
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(|value| value.trim().to_owned()))
    }

    /// What SIPp has to say, for a test that fails.
    fn story(&self) -> String {
        format!("{}\n{}\n{}", self.scenario, self.file("errors"), self.file("messages"))
    }
}
