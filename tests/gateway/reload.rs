//! A new configuration while calls go on: taken whole, or refused whole with file and line.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};

use crate::broken::BROKEN;
use crate::support::{Browser, Gateway, OFFER, PATIENCE, output};
use crate::uas::Uas;

pub const PLAN: &str = include_str!("../../dialplans/demo.toml");
/// A folder with a configuration that is right.
pub struct Folder {
    pub dir: TempDir,
    pub config: String,
}

impl Folder {
    pub fn new(trunk: SocketAddr, sip: &str, ports: u16) -> Folder {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("plans")).unwrap();
        let config = format!(
            r#"[http]
listen = "127.0.0.1:8080"
[sip]
udp = ["127.0.0.1:0"]
{sip}
[media]
busy_at = 0 # a machine on which tests share a processor is late
browser = "127.0.0.1:0"
rtp_address = "127.0.0.1"
rtp_ports = "{ports}-{}"
[auth]
open = true
[dialplan]
dir = "plans"
[log]
level = "info"
[limits]
calls = 100
[control]
socket = "control.sock"
[trunk.testphone]
address = "{trunk}"
"#,
            ports + 99
        );
        let folder = Folder { dir, config };
        folder.restore();
        folder
    }

    /// The same but for this.
    pub fn with(mut self, old: &str, new: &str) -> Folder {
        assert!(self.config.contains(old), "{old}");
        self.config = self.config.replacen(old, new, 1);
        self.restore();
        self
    }

    pub fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("ringback.toml")
    }

    pub fn write(&self, name: &str, text: &str) {
        self.write_bytes(name, text.as_bytes());
    }

    pub fn write_bytes(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    pub fn restore(&self) {
        self.write("ringback.toml", &self.config);
        self.write("plans/plan.toml", PLAN);
    }

    /// `ringback reload`, as an operator gives it.
    pub fn reload(&self) -> (Option<i32>, String, String) {
        output(&["--config", self.file().to_str().unwrap(), "reload"])
    }
}

/// An HTTP status and body.
pub fn get(port: u16, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split_whitespace().nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < PATIENCE, "{what} does not come");
    }
}

#[test]
fn broken_configurations_are_refused_with_their_line_while_a_call_goes_on() {
    let uas = Uas::udp();
    let folder = Folder::new(uas.address, "", 23_200);
    let gateway = Gateway::configured(&folder.file());
    let mut browser = Browser::of(&gateway, "alice");
    browser.call("c1", "600");
    browser.expect("answered");
    uas.request("ACK");
    let status = || serde_json::from_str::<Value>(&get(gateway.port(), "/status").1).unwrap();
    let mut before = status();
    for wrong in BROKEN {
        wrong.is_refused(&folder);
    }
    println!("{} broken configurations, each refused with its place", BROKEN.len());
    // By signal as well: the log tells of it.
    folder.write("ringback.toml", &folder.config.replace("calls = 100", "calls = 0"));
    gateway.signal(nix::sys::signal::Signal::SIGHUP);
    gateway.logged(|line| line.contains("NOT reloaded") && line.contains("ringback.toml:"));
    folder.restore();
    // Nothing of it was taken, and the call has heard nothing.
    let mut after = status();
    for status in [&mut before, &mut after] {
        status["dropped_sip"].take();
        status["trunks"][0]["targets"].take(); // its OPTIONS may be answered meanwhile
    }
    assert_eq!(before, after);
    assert_eq!(uas.heard(), Vec::<String>::new());
    let (code, out, _) = folder.reload();
    assert_eq!((code, out.as_str()), (Some(0), "reloaded\n"));
    browser.send(&json!({"type": "hangup", "call": "c1"}));
    assert_eq!(browser.expect("ended")["by"], "us");
    uas.request("BYE");
    assert_eq!(gateway.cdr()["call"].as_str().map(str::is_empty), Some(false));
}

#[test]
fn a_reload_takes_the_new_and_cuts_no_call() {
    let (first, second) = (Uas::udp(), Uas::udp());
    let folder = Folder::new(first.address, "", 23_300);
    let gateway = Gateway::configured(&folder.file());
    let mut alice = Browser::of(&gateway, "alice");
    alice.call("c1", "600");
    alice.expect("answered");
    let port = gateway.port();
    until("ready", || get(port, "/readyz") == (200, r#"{"ready":true,"reasons":[]}"#.into()));

    // Other trunks, another plan, tokens instead of none, fewer calls and ports, more in the log; and what takes a restart.
    let plan = PLAN.replace("\"testphone\"", "\"other\"");
    folder.write("plans/plan.toml", &plan);
    folder.write("secret", "0123456789abcdef0123456789abcdef\n");
    let config = folder.config.replace("[trunk.testphone]", "[trunk.other]");
    let config = config.replace(&first.address.to_string(), &second.address.to_string());
    let config = config.replace("open = true", "hs256_secret_file = \"secret\"");
    let config = config.replace("level = \"info\"", "level = \"ringback=debug\"");
    let config = config.replace("calls = 100", "calls = 2").replace("23300-", "23302-");
    let config = config.replace("[media]", "[media]\nworkers = 3");
    folder.write("ringback.toml", &config);
    let (code, out, err) = folder.reload();
    assert_eq!((code, out.as_str()), (Some(0), "taken at the next start only: [media] workers\nreloaded\n"), "{err}");
    gateway.logged(|line| line.contains("next start only") && line.contains("workers"));

    // Who is in stays in; who comes needs a token now.
    let mut stranger = Browser::open(&gateway);
    stranger.send(&json!({"type": "hello", "user": "bob"}));
    stranger.expect("error");
    let (_, token, err) = output(&["--config", folder.file().to_str().unwrap(), "token", "bob"]);
    let mut bob = Browser::open(&gateway);
    bob.send(&json!({"type": "hello", "token": token.trim()}));
    assert_eq!(bob.expect("welcome")["user"], "bob", "{err}");
    // New calls go to the new trunk, and there are two at once.
    bob.call("c2", "600");
    bob.expect("answered");
    second.request("INVITE");
    bob.call("c3", "600");
    assert_eq!(bob.expect("ended")["sip"], 503);
    gateway.logged(|line| line.contains("DEBUG"));
    assert_eq!(first.heard().iter().filter(|method| *method == "BYE").count(), 0);
    // The first call is as it was, with a trunk that is not of the configuration any more.
    alice.send(&json!({"type": "hangup", "call": "c1"}));
    assert_eq!(alice.expect("ended")["call"], "c1");
    first.request("BYE");
}

/// What is no address, no file of the gateway's own and no thread is taken, for the calls that begin then.
#[test]
fn what_is_not_bound_is_taken_at_once() {
    let (uas, hooks) = (Uas::udp(), TcpListener::bind("127.0.0.1:0").unwrap());
    let hook = format!(
        "[[webhook]]\nurl = \"http://{}/\"\nsecret = \"0123456789abcdef0123456789abcdef\"\nevents = [\"call.*\"]\n[limits]",
        hooks.local_addr().unwrap()
    );
    let folder = Folder::new(uas.address, "", 26_100).with("calls = 100", "calls = 1").with("[limits]", &hook);
    let gateway = Gateway::configured(&folder.file());
    // With redundancy, as Chromium offers it.
    let offer = OFFER.replace("red/48000/2\r\n", "red/48000/2\r\na=fmtp:63 111/111\r\n");
    let call = |name: &str| json!({"type": "call", "call": name, "to": "600", "sdp": offer});
    let mut alice = Browser::of(&gateway, "alice");
    alice.send(&call("c1"));
    assert!(alice.expect("answer")["sdp"].as_str().unwrap().contains("red/48000"));
    alice.expect("answered");
    let first = uas.request("INVITE");
    let mut bob = Browser::of(&gateway, "bob");
    bob.call("c1", "600");
    assert_eq!(bob.expect("ended")["cause"], "too-many-calls");
    let new = [
        ("calls = 1\n", "calls = 2\n"),
        ("26100-26199", "26150-26153"),
        ("[media]", "advertise = \"192.0.2.1\"\n[media]\nredundancy = false"),
        (
            "level = \"info\"",
            "format = \"json\"\n[events]\nspool = \"events\"\n[cdr]\nfile = \"-\"\nwaiting = \"late\"",
        ),
    ];
    let config = new.iter().fold(folder.config.clone(), |config, (old, new)| {
        assert!(config.contains(old), "{old}");
        config.replacen(old, new, 1)
    });
    folder.write("ringback.toml", &config);
    let (code, out, err) = folder.reload();
    assert_eq!((code, out.as_str()), (Some(0), "reloaded\n"), "{err}");
    // The log's next line is an object; what waits for a receiver that answers nobody is in the new folder.
    let line = gateway.logged(|line| line.contains("the configuration is reloaded"));
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["level"], "INFO", "{line}");
    let events = folder.dir.path().join("events");
    let waiting = || {
        let folders = fs::read_dir(&events).into_iter().flatten().flatten();
        folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap()).flatten().filter(|file| {
            fs::read_to_string(file.path())
                .is_ok_and(|text| text.contains("\"call.answered\"") && text.contains("alice"))
        })
    };
    until("the event's file", || waiting().count() == 1);
    // The next call, beside the one that stands: its address, ports and codecs are the new ones.
    bob.send(&call("c2"));
    assert!(!bob.expect("answer")["sdp"].as_str().unwrap().contains("red/48000"));
    bob.expect("answered");
    let second = uas.request("INVITE");
    let port = |invite: &str| {
        let line = invite.lines().find_map(|line| line.strip_prefix("m=audio ")).unwrap().to_owned();
        line.split(' ').next().unwrap().parse::<u16>().unwrap()
    };
    assert!((26_100..26_150).contains(&port(&first)) && (26_150..26_154).contains(&port(&second)), "{second}");
    assert!(
        first.contains("Via: SIP/2.0/UDP 127.0.0.1:") && second.contains("Via: SIP/2.0/UDP 192.0.2.1:"),
        "{second}"
    );
    let contact = |invite: &str| invite.lines().find(|line| line.starts_with("Contact:")).unwrap().to_owned();
    assert!(contact(&second).contains("192.0.2.1"), "{second}");
    bob.call("c3", "600");
    assert_eq!(bob.expect("ended")["cause"], "too-many-calls");
    // Back: text again, and the call of before all that ends as it would have.
    folder.restore();
    assert_eq!(folder.reload().0, Some(0));
    gateway.logged(|line| line.contains("the configuration is reloaded") && !line.starts_with('{'));
    assert_eq!(uas.heard(), Vec::<String>::new());
    alice.send(&json!({"type": "hangup", "call": "c1"}));
    assert_eq!(alice.expect("ended")["by"], "us");
    uas.request("BYE");
}

/// Addresses, files and threads are those of the start: a reload that names others is taken for the rest of it, and says so.
#[test]
fn what_is_bound_stays_bound_and_the_answer_says_so() {
    let uas = Uas::udp();
    let folder = Folder::new(uas.address, "", 26_000);
    let gateway = Gateway::configured(&folder.file());
    let token = "name = \"n\"\nsha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"";
    let config = [
        ("udp = [\"127.0.0.1:0\"]", "udp = [\"127.0.0.2:0\"]\ntcp = [\"127.0.0.2:0\"]"),
        ("browser = \"127.0.0.1:0\"", "browser = \"127.0.0.2:0\"\nworkers = 7"),
        ("rtp_address = \"127.0.0.1\"", "rtp_address = \"127.0.0.2\""),
        ("socket = \"control.sock\"", "socket = \"other.sock\"\n[journal]\nfile = \"j\"\n[store]\npath = \"s\""),
        ("[log]", &format!("[api]\nlisten = \"127.0.0.2:0\"\n[[api.token]]\n{token}\n[log]")),
    ];
    let config = config.iter().fold(folder.config.clone(), |config, (old, new)| {
        assert!(config.contains(old), "{old}");
        config.replacen(old, new, 1)
    });
    folder.write("ringback.toml", &config);
    // Where the gateway still is; the file names another place.
    let socket = folder.dir.path().join("control.sock");
    let socket = socket.to_str().unwrap();
    let (code, out, err) = output(&["--config", folder.file().to_str().unwrap(), "reload", "--socket", socket]);
    assert_eq!(code, Some(0), "{err}");
    for key in [
        "[sip] udp",
        "[sip] tcp",
        "[media] browser",
        "[media] rtp_address",
        "[media] workers",
        "[control] socket",
        "[journal] file",
        "[store] path",
        "[api] listen",
    ] {
        assert!(out.starts_with("taken at the next start only: ") && out.contains(key), "{key}: {out}");
    }
    let mut browser = Browser::of(&gateway, "alice");
    browser.call("c1", "600");
    browser.expect("answered");
    assert!(uas.request("INVITE").contains("Via: SIP/2.0/UDP 127.0.0.1:"));
    assert!(["other.sock", "j", "s"].iter().all(|name| !folder.dir.path().join(name).exists()));
}

#[test]
fn a_drain_is_seen_refuses_calls_and_ends_with_the_last() {
    let uas = Uas::udp();
    let folder = Folder::new(uas.address, "", 23_400);
    let mut gateway = Gateway::configured(&folder.file());
    let mut alice = Browser::of(&gateway, "alice");
    let mut bob = Browser::of(&gateway, "bob");
    alice.call("c1", "600");
    alice.expect("answered");
    let file = folder.file();
    let operate = |arguments: &[&str]| output(&[&["--config", file.to_str().unwrap()], arguments].concat());
    let (code, out, err) = operate(&["drain", "--grace", "3600"]);
    assert_eq!(code, Some(0), "{out}{err}");
    bob.expect("draining");
    bob.call("c2", "600");
    let ended = bob.expect("ended");
    assert_eq!((&ended["sip"], &ended["cause"]), (&503.into(), &"draining".into()), "{ended}");
    assert_eq!(get(gateway.port(), "/readyz"), (503, r#"{"ready":false,"reasons":["draining"]}"#.into()));
    assert_eq!(get(gateway.port(), "/healthz"), (200, "ok\n".into()));
    let (_, status, _) = operate(&["status"]);
    assert_eq!(serde_json::from_str::<Value>(&status).unwrap()["draining"], true);
    gateway.logged(|line| line.contains("draining") && line.contains("calls=1"));
    let (code, _, err) = folder.reload();
    assert!(code == Some(1) && err.contains("draining"), "{err}");
    alice.send(&json!({"type": "hangup", "call": "c1"}));
    alice.expect("ended");
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!folder.dir.path().join("control.sock").exists());
}

#[test]
fn a_gateway_without_a_usable_trunk_is_not_ready() {
    let folder = Folder::new("127.0.0.1:9".parse().unwrap(), "", 23_500);
    let config = folder.config.replace("127.0.0.1:9", "carrier.invalid");
    folder.write("ringback.toml", &config.replace("[media]", "dns = [\"127.0.0.1:9\"]\n[media]"));
    let gateway = Gateway::configured(&folder.file());
    let none = (503, r#"{"ready":false,"reasons":["no_trunk"]}"#.to_owned());
    until("the reason", || get(gateway.port(), "/readyz") == none);
    // A reload brings one.
    let uas = Uas::udp();
    folder.write("ringback.toml", &config.replace("carrier.invalid", &uas.address.to_string()));
    let (code, _, err) = folder.reload();
    assert_eq!(code, Some(0), "{err}");
    until("ready", || get(gateway.port(), "/readyz").0 == 200);
}

/// What systemd hears by `Type=notify-reload` with a watchdog.
#[test]
fn the_service_manager_is_told() {
    let uas = Uas::udp();
    let folder = Folder::new(uas.address, "", 23_600);
    let path = folder.dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let file = folder.file();
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "900000")];
    let mut gateway = Gateway::managed(&file, &environment);
    let hear = |wanted: &str| {
        let mut buffer = [0; 1024];
        loop {
            let len = manager.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if text.starts_with(wanted) {
                return text;
            }
        }
    };
    hear("STATUS=0 calls");
    hear("READY=1");
    let begun = Instant::now();
    for _ in 0..3 {
        hear("WATCHDOG=1");
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    gateway.signal(nix::sys::signal::Signal::SIGHUP);
    let reloading = hear("RELOADING=1");
    let (_, monotonic) = reloading.split_once("\nMONOTONIC_USEC=").unwrap();
    assert!(monotonic.parse::<u64>().unwrap() > 0);
    hear("READY=1");
    let mut alice = Browser::of(&gateway, "alice");
    alice.call("c1", "600");
    alice.expect("answered");
    hear("STATUS=1 calls, 1 established");
    let (code, ..) = output(&["--config", file.to_str().unwrap(), "drain", "--grace", "600"]);
    assert_eq!(code, Some(0));
    hear("STOPPING=1");
    hear("EXTEND_TIMEOUT_USEC=");
    hear("STATUS=draining: 1 calls left");
    drop(alice);
    assert_eq!(gateway.wait().code(), Some(0));
}

/// Takes any certificate, so that the test can look at it.
#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519, SignatureScheme::RSA_PSS_SHA256]
    }
}

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// For TLS by which any certificate is taken.
pub fn any_certificate() -> Arc<ClientConfig> {
    let builder =
        ClientConfig::builder_with_provider(Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().dangerous();
    builder.with_custom_certificate_verifier(Arc::new(Any)).with_no_client_auth().into()
}

/// A connection by TLS, and the certificate that it was shown.
pub fn connect(to: SocketAddr) -> (Tls, Vec<u8>) {
    let connection = ClientConnection::new(any_certificate(), "gateway.example".try_into().unwrap()).unwrap();
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = StreamOwned::new(connection, stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock).unwrap();
    }
    let shown = tls.conn.peer_certificates().unwrap()[0].to_vec();
    (tls, shown)
}

/// OPTIONS over a connection is answered.
fn is_served(tls: &mut Tls, number: u32) {
    let options = format!(
        "OPTIONS sip:gateway.example SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bKx{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@b.example>;tag=1\r\nTo: <sip:gateway.example>\r\nCall-ID: c{number}\r\n\
         CSeq: {number} OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    tls.write_all(options.as_bytes()).unwrap();
    tls.flush().unwrap();
    let mut buffer = [0; 4096];
    let len = tls.read(&mut buffer).unwrap();
    assert!(buffer[..len].starts_with(b"SIP/2.0 200"), "{}", String::from_utf8_lossy(&buffer[..len]));
}

#[test]
fn a_certificate_is_rotated_under_standing_connections() {
    let uas = Uas::udp();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sip = format!("tls = [\"127.0.0.1:{port}\"]\ntls_certificate = \"cert.pem\"\ntls_key = \"key.pem\"");
    let folder = Folder::new(uas.address, &sip, 23_700);
    let make = || {
        let made = rcgen::generate_simple_self_signed(vec!["gateway.example".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem(), made.cert.der().to_vec())
    };
    let put = |(certificate, key, der): (String, String, Vec<u8>)| {
        folder.write("key.pem", &key);
        folder.write("cert.pem", &certificate);
        der
    };
    let first = put(make());
    let gateway = Gateway::configured(&folder.file());
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let (mut standing, shown) = connect(to);
    assert_eq!(shown, first);
    is_served(&mut standing, 1);

    // By a reload.
    let second = put(make());
    assert_eq!(folder.reload().0, Some(0));
    assert_eq!(connect(to).1, second);
    is_served(&mut standing, 2);

    // A broken file keeps the old one, and it is said where it stands.
    folder.write("cert.pem", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n");
    let (code, _, err) = folder.reload();
    assert!(code == Some(1) && err.contains("ringback.toml:") && err.contains("cert.pem"), "{err}");
    gateway.logged(|line| line.contains("the old one is shown on"));
    assert_eq!(connect(to).1, second);

    // By the file alone.
    let third = put(make());
    gateway.logged(|line| line.contains("the certificate was renewed"));
    assert_eq!(connect(to).1, third);
    is_served(&mut standing, 3);
}

/// Calls stand and others come and go while the trunk moves to and fro at each reload.
#[test]
fn no_call_is_cut_by_many_reloads() {
    let trunks = [Uas::udp(), Uas::udp()];
    let folder = Folder::new(trunks[0].address, "", 24_100);
    let gateway = Gateway::configured(&folder.file());
    let mut standing: Vec<Browser> = (0..12).map(|n| Browser::of(&gateway, &format!("user{n}"))).collect();
    let mut passing = Browser::of(&gateway, "passing");
    for browser in &mut standing {
        browser.call("c", "600");
        browser.expect("answered");
    }
    for round in 0..20 {
        let at = trunks[(round + 1) % 2].address.to_string();
        folder.write("ringback.toml", &folder.config.replace(&trunks[0].address.to_string(), &at));
        assert_eq!(folder.reload().0, Some(0));
        let name = format!("p{round}");
        passing.call(&name, "600");
        passing.expect("answered");
        trunks[(round + 1) % 2].request("INVITE");
        passing.send(&json!({"type": "hangup", "call": name}));
        assert_eq!(passing.expect("ended")["by"], "us");
    }
    let status: Value = serde_json::from_str(&get(gateway.port(), "/status").1).unwrap();
    assert_eq!(status["established"], 12, "{status}");
    for browser in &mut standing {
        browser.send(&json!({"type": "ping", "n": 1}));
        loop {
            let message = browser.next().expect("the socket stays");
            assert_ne!(message["type"], "ended", "{message}");
            if message["type"] == "pong" {
                break;
            }
        }
        browser.send(&json!({"type": "hangup", "call": "c"}));
        assert_eq!(browser.expect("ended")["by"], "us");
    }
    println!("20 reloads, 12 calls that stood, 20 that passed: none cut");
}
