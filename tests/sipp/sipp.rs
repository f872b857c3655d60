//! SIPp as the other side of a call.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
use super::tls::{Terminator, Tls};

/// The tone of `tone.ulaw`, which SIPp plays where a scenario makes its own sound.
pub const FILE_TONE: f64 = 750.0;

/// How SIPp speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Udp,
    Tcp,
}

/// A SIPp that is about to start: its scenario, address and the words put into the scenario.
pub struct Setup {
    scenario: &'static str,
    caller: bool,
    over: Over,
    /// What makes TLS of its TCP.
    tls: Option<Tls>,
    pub ip: IpAddr,
    pub port: u16,
    calls: u32,
    /// Within how many seconds all of it must be over.
    within: u64,
    words: Vec<(&'static str, String)>,
    fields: String,
    arguments: Vec<String>,
}

/// One run of one scenario.
pub struct Sipp {
    child: Child,
    _tls: Option<Terminator>,
    folder: TempDir,
    scenario: &'static str,
    within: Duration,
}

impl Setup {
    /// A phone, which waits for a call.
    pub fn new(scenario: &'static str) -> Setup {
        Setup {
            scenario,
            caller: false,
            over: Over::Udp,
            tls: None,
            ip: Ipv4Addr::LOCALHOST.into(),
            port: free_port(),
            calls: 1,
            within: 60,
            words: Vec::new(),
            fields: String::new(),
            arguments: Vec::new(),
        }
    }

    /// Who calls `to`.
    pub fn calling(scenario: &'static str, to: &str) -> Setup {
        let setup = Setup { caller: true, ..Setup::new(scenario) };
        setup.word("TO", to).word("FROM", "5551234")
    }

    pub fn is_caller(&self) -> bool {
        self.caller
    }

    /// Where it listens itself.
    fn own_address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    /// Where a trunk finds it.
    pub fn address(&self) -> SocketAddr {
        self.tls.as_ref().map_or(self.own_address(), |tls| tls.address)
    }

    /// The `transport` of its trunk, where it is not the usual one.
    pub fn trunk_transport(&self) -> Option<&'static str> {
        match (self.over, &self.tls) {
            (Over::Udp, _) => None,
            (Over::Tcp, None) => Some("tcp"),
            (Over::Tcp, Some(_)) => Some("tls"),
        }
    }

    /// What TLS with it wants in the gateway's `[sip]` and in its trunk.
    pub fn tls_keys(&self) -> (String, String) {
        self.tls.as_ref().map(|tls| (tls.sip_keys(), tls.trunk_keys())).unwrap_or_default()
    }

    /// Another address of this machine.
    pub fn at(mut self, ip: impl Into<IpAddr>) -> Setup {
        self.ip = ip.into();
        self
    }

    /// Another port.
    pub fn port(mut self, port: u16) -> Setup {
        self.port = port;
        self
    }

    /// On `::1`, SIP and RTP.
    pub fn ipv6(self) -> Setup {
        self.at(Ipv6Addr::LOCALHOST)
    }

    pub fn tcp(mut self) -> Setup {
        self.over = Over::Tcp;
        self
    }

    /// TCP behind a TLS terminator, at the address it has by now.
    pub fn tls(mut self) -> Setup {
        self.tls = Some(Tls::new(self.ip));
        self.tcp()
    }

    /// Plays the scenario so many times: SIPp counts Call-IDs, and a registration has its own.
    pub fn calls(mut self, calls: u32) -> Setup {
        self.calls = calls;
        self
    }

    /// So many calls, begun at this rate, so many at once; SIPp waits where that is too much for the machine.
    pub fn load(mut self, calls: u32, rate: u32, at_once: u32) -> Setup {
        self.within = 60 + 4 * u64::from(calls / rate);
        // SIPp's own buffers hold some fifty messages: less than comes while a slow machine stands still for a second.
        let buffer = (4 * 1024 * 1024).to_string();
        self.calls(calls).argument(&["-r", &rate.to_string(), "-l", &at_once.to_string(), "-buff_size", &buffer])
    }

    /// `[field0]` in the scenario is one of these numbers after another.
    pub fn in_turn(mut self, numbers: impl IntoIterator<Item = u16>) -> Setup {
        self.fields = numbers.into_iter().map(|number| format!("{number};\n")).collect();
        self.argument(&["-inf", "fields.csv"])
    }

    /// Replaces `@NAME@` in the scenario.
    pub fn word(mut self, name: &'static str, value: impl ToString) -> Setup {
        self.words.retain(|(word, _)| *word != name);
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

    /// Starts a phone of this gateway, and returns when it listens.
    pub async fn phone(self, gateway: SocketAddr) -> Sipp {
        let (address, over) = (self.own_address(), self.over);
        let mut sipp = self.start(gateway);
        let listens = timeout(PATIENCE, async {
            let mut tick = interval(Duration::from_millis(20));
            // A short scenario may be over before it is looked at: how it ended is `finish`'s to say.
            while !is_bound(address, over) && !matches!(sipp.child.try_wait(), Ok(Some(_))) {
                tick.tick().await;
            }
        });
        if listens.await.is_err() {
            panic!("SIPp does not listen: {}", sipp.story());
        }
        sipp
    }

    /// Starts a caller of the gateway.
    pub fn caller(mut self, gateway: SocketAddr) -> Sipp {
        self.caller = true;
        self.start(gateway)
    }

    /// The scenario with its parts (`@NAME@`, a file of `scenarios/parts`) and words put in.
    fn script(&self) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sipp/scenarios");
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut script = read(&folder.join(format!("{}.xml", self.scenario)));
        for part in std::fs::read_dir(folder.join("parts")).expect("a folder of parts") {
            let part = part.expect("a part").path();
            let name = part.file_stem().and_then(|name| name.to_str()).expect("a name");
            script = script.replace(&format!("@{name}@"), read(&part).trim_end());
        }
        for (name, value) in &self.words {
            script = script.replace(&format!("@{name}@"), value);
        }
        if self.tls.is_some() {
            script = script.replace("[transport]", "TLS");
        }
        if self.ip.is_ipv6() {
            script = script.replace("IN IP4 [local_ip]", "IN IP6 [media_ip]").replace("IN IP4", "IN IP6");
        }
        script
    }

    fn start(mut self, gateway: SocketAddr) -> Sipp {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("scenario.xml"), self.script()).expect("a file");
        std::fs::write(folder.path().join("fields.csv"), format!("SEQUENTIAL\n{}", self.fields)).expect("a file");
        let mut voice = Voice::default();
        let tone: Vec<u8> = (0..100).flat_map(|_| voice.frame::<FRAME>(Sound::Tone(FILE_TONE))).map(to_ulaw).collect();
        std::fs::write(folder.path().join("tone.ulaw"), tone).expect("a file");
        let (media, ip) = (free_port(), self.ip.to_string());
        let mut command = Command::new("sipp");
        let server = self.tls.as_ref().map_or(gateway, |tls| tls.address);
        command.args(self.caller.then(|| server.to_string()));
        command.args(["-sf", "scenario.xml", "-m", &self.calls.to_string(), "-nostdin", "-i", &ip, "-mi", &ip]);
        command.args(["-p", &self.port.to_string(), "-mp", &media.to_string()]);
        command.args(["-t", if self.over == Over::Tcp { "t1" } else { "u1" }]);
        command.args(["-trace_err", "-error_file", "errors", "-timeout", &self.within.to_string(), "-timeout_error"]);
        if self.calls < 100 {
            command.args(["-trace_msg", "-message_file", "messages"]);
        }
        command.args(&self.arguments).current_dir(folder.path()).kill_on_drop(true);
        let output = std::fs::File::create(folder.path().join("screen")).expect("a file");
        let child = command.stdin(Stdio::null()).stdout(output.try_clone().expect("a file")).stderr(output).spawn();
        let child = child.expect("sipp (Debian package sip-tester)");
        let phone = self.own_address();
        let terminator = |tls: Tls| if self.caller { tls.behind_caller() } else { tls.before_phone(phone) };
        let tls = self.tls.take().map(terminator);
        Sipp { child, _tls: tls, folder, scenario: self.scenario, within: Duration::from_secs(self.within) }
    }
}

/// Whether somebody has bound the address's port. Binding it to find out would be in SIPp's way.
fn is_bound(address: SocketAddr, over: Over) -> bool {
    let (table, listening) = match over {
        Over::Udp => ("udp", None),
        Over::Tcp => ("tcp", Some("0A")),
    };
    let family = if address.is_ipv6() { "6" } else { "" };
    let sockets = std::fs::read_to_string(format!("/proc/net/{table}{family}")).expect("the table of sockets");
    let port = format!(":{:04X}", address.port());
    sockets.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let (local, state) = (columns.next().unwrap_or_default(), columns.nth(1));
        local.ends_with(&port) && (listening.is_none() || state == listening)
    })
}

impl Sipp {
    /// Waits for the scenario's end, which must be as written.
    pub async fn finish(mut self) {
        let status = timeout(self.within + PATIENCE, self.child.wait()).await;
        let Ok(Ok(status)) = status else { panic!("SIPp did not end: {}", self.story()) };
        assert!(status.success(), "SIPp ended with {status}: {}", self.story());
    }

    /// Waits until a message with this text went either way.
    pub async fn until(&self, text: &str) {
        self.until_within(text, PATIENCE).await;
    }

    /// The same with another patience.
    pub async fn until_within(&self, text: &str, patience: Duration) {
        let seen = timeout(patience, async {
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

    /// The lines of the messages so far that begin so, without that beginning.
    pub fn lines(&self, beginning: &str) -> Vec<String> {
        let messages = self.file("messages");
        messages.lines().filter_map(|line| Some(line.trim().strip_prefix(beginning)?.to_owned())).collect()
    }

    /// What SIPp has to say, for a test that fails.
    fn story(&self) -> String {
        format!("{}\n{}\n{}", self.scenario, self.file("errors"), self.file("messages"))
    }
}

impl Drop for Sipp {
    /// A test that fails shows what its SIPp has heard and said.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SIPp: {}", self.story());
        }
    }
}
