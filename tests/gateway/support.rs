//! A running gateway and a bare browser (signalling only) for the tests of this folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, client};

/// How long to wait for anything: far beyond what a slow machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A Chromium-like offer; its transport never comes alive, which signalling does not need.
pub const OFFER: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:4ZcD\r\na=ice-pwd:2/1muCWoOi3uLifh0NuRHlIz\r\na=ice-options:trickle\r\n\
    a=fingerprint:sha-256 75:74:5A:A6:A4:E5:52:F4:A7:67:4C:01:C7:EE:91:3F:21:3D:A2:E3:53:7B:6F:30:86:F2:30:AA:65:FB:04:24\r\n\
    a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
    a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\na=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\n";

/// `ringback` with these arguments, in that folder.
pub fn ringback(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
    command.args(arguments).env_remove("RUST_LOG").env_remove("RINGBACK_CONFIG").stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = ringback(arguments).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A running gateway; what it prints is read line by line.
pub struct Gateway {
    child: Child,
    port: u16,
    /// CDRs.
    pub stdout: Receiver<String>,
    log: Receiver<String>,
    /// All of it, whoever has waited for which line.
    whole: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// The embedded default on a free port.
    pub fn embedded() -> Gateway {
        Gateway::start(&["run", "--listen", "127.0.0.1:0"])
    }

    /// With a configuration file, on a free port.
    pub fn configured(file: &Path) -> Gateway {
        let file = file.to_str().expect("a path in UTF-8");
        Gateway::start(&["--config", file, "run", "--listen", "127.0.0.1:0"])
    }

    /// The same with the variables of a service manager.
    pub fn managed(file: &Path, variables: &[(&str, &str)]) -> Gateway {
        let mut command = ringback(&["--config", file.to_str().expect("UTF-8"), "run", "--listen", "127.0.0.1:0"]);
        command.envs(variables.iter().copied());
        Gateway::spawn(command)
    }

    /// With a configuration file; `disk` is a folder on a small disk (1 MiB) of its own, which only the gateway sees.
    pub fn on_a_small_disk(file: &Path, disk: &Path) -> Gateway {
        fs::create_dir(disk).expect("a folder");
        let program = ringback(&[]).get_program().to_owned();
        let mut command = Command::new("unshare");
        command
            .args(if is_root() { &["--mount"][..] } else { &["--map-root-user", "--mount"] })
            .args(["sh", "-c", "mount -t tmpfs -o size=1m none \"$0\" && exec \"$@\""])
            .arg(disk)
            .arg(program)
            .arg("--config")
            .arg(file)
            .args(["run", "--listen", "127.0.0.1:0"])
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        Gateway::spawn(command)
    }

    /// The same file as a gateway on a disk of its own sees it.
    pub fn sees(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.pid(), path.display()))
    }

    fn start(arguments: &[&str]) -> Gateway {
        Gateway::spawn(ringback(arguments))
    }

    /// Any command that becomes one.
    pub fn spawn(mut command: Command) -> Gateway {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let whole = Arc::default();
        let stdout = lines(child.stdout.take().expect("piped"), Arc::default());
        let log = lines(child.stderr.take().expect("piped"), Arc::clone(&whole));
        let ready = wait_line(&log, |l| l.starts_with("Ringback is ready"));
        let port = ready.trim_end_matches('/').rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port");
        Gateway { child, port, stdout, log, whole }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, as an init system does.
    pub fn terminate(&self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("it runs");
    }

    pub fn wait(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end");
            // The log's end, or a line of it, is what there is to wait for.
            let _ = self.log.recv_timeout(Duration::from_millis(20));
        }
    }

    /// The log of one that has been told to end, from its first line to its last.
    pub fn whole_log(&self) -> String {
        while self.log.recv().is_ok() {}
        self.whole.lock().expect("no panic").join("\n")
    }

    /// Whether that was logged, whoever has waited for which line.
    pub fn has_logged(&self, text: &str) -> bool {
        self.whole.lock().expect("no panic").iter().any(|line| line.contains(text))
    }

    /// Waits for a line of the log.
    pub fn logged(&self, wanted: impl Fn(&str) -> bool) -> String {
        wait_line(&self.log, wanted)
    }

    /// The next CDR.
    pub fn cdr(&self) -> Value {
        let line = wait_line(&self.stdout, |_| true);
        serde_json::from_str(&line).expect("a CDR is JSON")
    }
}

/// Ends it where a test failed half-way.
impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stream: impl Read + Send + 'static, whole: Arc<Mutex<Vec<String>>>) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                whole.lock().expect("no panic").push(line.clone());
                if sender.send(line).is_err() {
                    return;
                }
            }
        })
        .expect("a thread");
    receiver
}

fn wait_line(lines: &Receiver<String>, wanted: impl Fn(&str) -> bool) -> String {
    let mut seen = Vec::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) if wanted(&line) => return line,
            Ok(line) => seen.push(line),
            Err(error) => panic!("{error}; it printed:\n{}", seen.join("\n")),
        }
    }
}

/// The WebSocket of a browser.
pub struct Browser {
    socket: WebSocket<TcpStream>,
}

impl Browser {
    /// Opens a socket as a page of the gateway itself.
    pub fn open(gateway: &Gateway) -> Browser {
        let origin = format!("http://localhost:{}", gateway.port());
        let (socket, _) = Browser::try_open(gateway, Some(&origin), Some("ringback.v1")).expect("the socket opens");
        Browser { socket }
    }

    /// Opens a socket, or tells how it was refused.
    pub fn try_open(
        gateway: &Gateway,
        origin: Option<&str>,
        protocol: Option<&str>,
    ) -> Result<(WebSocket<TcpStream>, Response), u16> {
        Browser::try_open_at(gateway, "/phone", origin, protocol)
    }

    /// The same at another door.
    pub fn try_open_at(
        gateway: &Gateway,
        path: &str,
        origin: Option<&str>,
        protocol: Option<&str>,
    ) -> Result<(WebSocket<TcpStream>, Response), u16> {
        let url = format!("ws://localhost:{}{path}", gateway.port());
        let mut request = url.into_client_request().expect("a request");
        let mut set = |name: &'static str, value: Option<&str>| {
            if let Some(value) = value {
                request.headers_mut().insert(name, value.parse().expect("a header"));
            }
        };
        set("Origin", origin);
        set("Sec-WebSocket-Protocol", protocol);
        let stream = TcpStream::connect(("127.0.0.1", gateway.port())).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client(request, stream).map_err(|error| match error {
            tokio_tungstenite::tungstenite::HandshakeError::Failure(Error::Http(response)) => {
                response.status().as_u16()
            }
            other => panic!("{other}"),
        })
    }

    /// A socket that is open.
    pub fn from(socket: WebSocket<TcpStream>) -> Browser {
        Browser { socket }
    }

    /// Opens a socket and a session of `user`.
    pub fn of(gateway: &Gateway, user: &str) -> Browser {
        let mut browser = Browser::open(gateway);
        browser.send(&json!({"type": "hello", "user": user}));
        browser.expect("welcome");
        browser
    }

    pub fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string());
    }

    /// `false`: the socket is gone.
    pub fn try_send(&mut self, message: &Value) -> bool {
        self.socket.send(Message::text(message.to_string())).is_ok()
    }

    pub fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).expect("the socket is open");
    }

    pub fn call(&mut self, id: &str, to: &str) {
        self.send(&json!({"type": "call", "call": id, "to": to, "sdp": OFFER}));
    }

    /// The next message, or the close code. The gateway's pings are not what is waited for, however many there are; a socket
    /// that is open and says nothing fails the test.
    pub fn next(&mut self) -> Result<Value, Option<u16>> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(frame)) => return Err(frame.map(|f| f.code.into())),
                Ok(_) => {}
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_) | Error::Io(_)) => {
                    return Err(None);
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the socket is open, and nothing comes");
    }

    /// The next message of that type; others before it are passed over.
    pub fn expect(&mut self, kind: &str) -> Value {
        let (begun, mut seen) = (Instant::now(), Vec::new());
        loop {
            match self.next() {
                Ok(message) if message["type"] == kind => return message,
                Ok(message) => seen.push(message.to_string()),
                Err(code) => panic!("closed ({code:?}) while waiting for {kind}; seen: {seen:?}"),
            }
            assert!(begun.elapsed() < 2 * PATIENCE, "no {kind}; seen: {seen:?}");
        }
    }

    /// Reads until the socket is closed; the close code.
    pub fn closed(&mut self) -> Option<u16> {
        let begun = Instant::now();
        loop {
            if let Err(code) = self.next() {
                return code;
            }
            assert!(begun.elapsed() < 2 * PATIENCE, "the socket stays open");
        }
    }
}

/// What stands in a journal of that kind, `dialog` or `cdr`, the newest line of each.
pub fn journalled(journal: &Path, kind: &str) -> Vec<Value> {
    let mut standing = BTreeMap::new();
    for line in fs::read_to_string(journal).unwrap_or_default().lines() {
        // The last one may be in the middle of being written.
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let id = line["id"].as_str().expect("an id").to_owned();
        match line.get(kind) {
            Some(noted) => drop(standing.insert(id, noted.clone())),
            None if line["over"] == true => drop(standing.remove(&id)),
            None => {}
        }
    }
    standing.into_values().collect()
}

/// Our answer to a request: its own header fields, a To-tag, and what comes behind CSeq, the empty line included.
pub fn reply(request: &str, status: &str, rest: &str) -> String {
    let head = request.split("\r\n\r\n").next().unwrap_or_default();
    let mut text = format!("SIP/2.0 {status}\r\n");
    for line in head.lines() {
        if ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name)) {
            let tag = if line.starts_with("To:") && !line.contains(";tag=") { ";tag=peer" } else { "" };
            text.push_str(&format!("{line}{tag}\r\n"));
        }
    }
    text + rest
}

/// 486 to an INVITE.
pub fn busy(invite: &str) -> String {
    reply(invite, "486 Busy Here", "Content-Length: 0\r\n\r\n")
}

/// Reads one INVITE from a socket and refuses it with 486; gives the INVITE.
pub fn refuse_datagram(socket: &UdpSocket) -> String {
    let mut buffer = [0; 4096];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).expect("an INVITE");
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        if text.starts_with("INVITE") {
            socket.send_to(busy(&text).as_bytes(), from).unwrap();
            return text;
        }
    }
}

/// A browser calls 600, which the phone of the trunk refuses with 486.
pub fn call_is_refused(gateway: &Gateway) {
    let mut browser = Browser::of(gateway, "alice");
    let begun = Instant::now();
    let mut attempt = 0;
    loop {
        browser.call(&format!("c{attempt}"), "600");
        let sip = browser.expect("ended")["sip"].clone();
        // 503 at once: the trunk's name is still being looked up.
        if sip != 503 || begun.elapsed() > PATIENCE {
            assert_eq!(sip, 486);
            return;
        }
        attempt += 1;
    }
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").expect("a process").uid() == 0
}

/// Takes all the room that there is.
pub fn fill(path: &Path) {
    let mut file = fs::File::create(path).expect("a file");
    let mut block = 65_536;
    while block > 0 {
        match file.write(&vec![0; block]) {
            Ok(0) => block /= 2,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => block /= 2,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The next connection, which must come.
pub fn connection(listener: &TcpListener) -> TcpStream {
    let (listener, (tell, told)) = (listener.try_clone().expect("a listener"), channel());
    std::thread::spawn(move || tell.send(listener.accept()));
    let (stream, _) = told.recv_timeout(PATIENCE).expect("somebody connects").expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// One whole HTTP request: its head and its body. `None`: it breaks off.
pub fn http_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let (mut text, mut buffer) = (String::new(), [0; 65_536]);
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        text.push_str(&String::from_utf8_lossy(&buffer[..len]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0_usize) {
            return Some((head.to_owned(), body.to_owned()));
        }
    }
    None
}
