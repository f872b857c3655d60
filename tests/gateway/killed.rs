//! A gateway that is killed, and the next one in its place: it listens at once, ends the calls left behind, and writes their
//! records.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGKILL;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::reload::{get, until};
use crate::support::{Browser, Gateway, PATIENCE, journalled};
use crate::uas::Uas;

/// How soon the trunk legs left behind are ended.
const BYE_WITHIN: Duration = Duration::from_secs(5);
/// How soon it listens again.
const LISTENS_WITHIN: Duration = Duration::from_secs(1);

fn folder(trunk: &str, ports: u16) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("dialplans")).unwrap();
    fs::write(dir.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
    let sip = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "[sip]\nudp = [\"{sip}\"]\ntcp = [\"{sip}\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
         rtp_ports = \"{ports}-{}\"\n[auth]\nopen = true\n[journal]\nfile = \"calls.journal\"\n[control]\n\
         socket = \"control.sock\"\n[trunk.testphone]\n{trunk}\n",
        ports + 99
    );
    fs::write(dir.path().join("ringback.toml"), config).unwrap();
    dir
}

fn is_answered(browser: &mut Browser, name: &str) -> bool {
    browser.call(name, "600");
    loop {
        match browser.next().expect("the socket stays")["type"].as_str() {
            Some("answered") => return true,
            Some("ended") => return false,
            _ => {}
        }
    }
}

/// A call stands, the gateway is killed and started again: the peer hears one BYE of that very dialog.
fn is_ended_after_a_kill(dir: &TempDir, uas: &Uas) {
    let file = dir.path().join("ringback.toml");
    let mut gateway = Gateway::configured(&file);
    let mut alice = Browser::of(&gateway, "alice");
    let mut attempt = 0;
    // 503 at once: the trunk's name is still being looked up.
    while !is_answered(&mut alice, &format!("c{attempt}")) {
        attempt += 1;
        assert!(attempt < 100, "no call");
    }
    let invite = uas.request("INVITE");
    uas.request("ACK");
    // What the kernel has of the journal outlives the process; the line is there once the writer's thread has run.
    let journal = dir.path().join("calls.journal");
    let answered = Instant::now();
    let is_answered = |record: &Value| record["answer"].is_u64();
    while journalled(&journal, "dialog").is_empty() || !journalled(&journal, "cdr").iter().any(is_answered) {
        assert!(answered.elapsed() < PATIENCE, "the call is not noted");
        std::thread::yield_now();
    }
    gateway.signal(SIGKILL);
    gateway.wait();
    let begun = Instant::now();
    let mut next = Gateway::configured(&file);
    let listens = begun.elapsed();
    TcpStream::connect(("127.0.0.1", next.port())).unwrap();
    let bye = uas.request("BYE");
    let took = begun.elapsed();
    println!("listens after {} ms, BYE after {} ms", listens.as_millis(), took.as_millis());
    assert!(took < BYE_WITHIN, "{took:?}");
    assert!(listens < LISTENS_WITHIN, "{listens:?}");
    let field = |text: &str, name: &str| {
        text.lines().find(|line| line.starts_with(name)).map(str::to_owned).unwrap_or_else(|| panic!("{name}: {text}"))
    };
    assert_eq!(field(&bye, "Call-ID:"), field(&invite, "Call-ID:"));
    assert_eq!(field(&bye, "From:"), field(&invite, "From:"));
    assert!(field(&bye, "To:").contains(";tag=peer"), "{bye}");
    assert!(bye.starts_with(&format!("BYE sip:uas@{}", uas.address)), "{bye}");
    is_written_down(&next);
    // It is answered: nothing stands any more, and a clean end leaves an empty file.
    while ["dialog", "cdr"].iter().any(|kind| !journalled(&journal, kind).is_empty()) {
        assert!(begun.elapsed() < PATIENCE, "the answer to the BYE is not noted");
        std::thread::yield_now();
    }
    next.terminate();
    assert_eq!(next.wait().code(), Some(0));
    assert_eq!(fs::read_to_string(&journal).unwrap(), "");
}

/// The call's record says what became of it, and the counters count it.
fn is_written_down(next: &Gateway) {
    let cdr = next.cdr();
    let expected = json!({ "cause": "gateway-lost", "by": "gateway", "sip": 500, "q850": 41, "user": "alice",
        "dialled": "600", "direction": "outbound", "media": null, "codecs": { "a": "opus", "b": "PCMU" },
        "parties": { "a": "browser", "b": "trunk" } });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&cdr[field], value, "{field}: {cdr}");
    }
    assert_eq!((&cdr["trunks"][0]["trunk"], &cdr["trunks"][0]["result"]), (&"testphone".into(), &"answered".into()));
    let [number, sent, rule] = ["number", "sent", "rule"].map(|field| cdr[field].is_string());
    assert!(number && sent && rule, "{cdr}");
    let [start, answer, end] = ["start", "answer", "end"].map(|field| cdr[field].as_u64().unwrap());
    assert!(start <= answer && answer <= end, "{cdr}");
    let metrics = get(next.port(), "/metrics").1;
    let ended = metrics.lines().find(|line| line.contains("calls_ended_total{") && line.contains("gateway-lost"));
    assert!(ended.is_some_and(|line| line.ends_with(" 1")), "{ended:?}");
}

/// Calls that talk.
const CALLS: usize = 20;

/// The next gateway is killed as well, at once and while it writes, again and again: no record is lost, and none stands twice.
#[test]
fn records_of_killed_calls_are_written_once_however_often_the_next_gateway_is_killed() {
    let uas = Uas::udp();
    let dir = folder(&format!("address = \"{}\"\noptions = 0", uas.address), 24_100);
    let file = dir.path().join("ringback.toml");
    let places = "[cdr]\nfile = \"cdr.jsonl\"\nsqlite = \"cdr.sqlite\"\n[limits]\ncalls_per_socket = 20\n";
    fs::write(&file, fs::read_to_string(&file).unwrap() + places).unwrap();
    let mut gateway = Gateway::configured(&file);
    let mut alice = Browser::of(&gateway, "alice");
    for call in 0..CALLS {
        assert!(is_answered(&mut alice, &format!("c{call}")));
    }
    let journal = dir.path().join("calls.journal");
    let answered = || journalled(&journal, "cdr").iter().filter(|record| record["answer"].is_u64()).count();
    until("each call's record", || answered() == CALLS);
    let lines = || fs::read_to_string(dir.path().join("cdr.jsonl")).unwrap_or_default();
    for moment in 0..4 {
        gateway.signal(SIGKILL);
        gateway.wait();
        gateway = Gateway::configured(&file);
        // In the middle of the records that are written, and of the journal's words on them.
        until("a record", || moment < 2 || !lines().is_empty());
    }
    until("the end of it", || journalled(&journal, "cdr").is_empty());
    let mut calls: Vec<String> = lines()
        .lines()
        .map(|line| {
            let cdr: Value = serde_json::from_str(line).unwrap();
            assert_eq!((&cdr["cause"], cdr["answer"].is_u64()), (&"gateway-lost".into(), true), "{cdr}");
            cdr["call"].as_str().unwrap().to_owned()
        })
        .collect();
    calls.sort_unstable();
    let database = Connection::open(dir.path().join("cdr.sqlite")).unwrap();
    let mut select = database.prepare("SELECT call FROM cdr WHERE cause = 'gateway-lost' ORDER BY call").unwrap();
    let rows: Vec<String> = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!((calls.len(), rows), (CALLS, calls));
}

#[test]
fn a_call_by_udp_left_behind_is_ended() {
    let uas = Uas::udp();
    let dir = folder(&format!("address = \"{}\"", uas.address), 23_800);
    is_ended_after_a_kill(&dir, &uas);
}

#[test]
fn a_call_by_tcp_left_behind_is_ended() {
    let uas = Uas::stream(None);
    let dir = folder(&format!("address = \"{}\"\ntransport = \"tcp\"", uas.address), 23_900);
    is_ended_after_a_kill(&dir, &uas);
}

/// By a name that has to be looked up first, and that the certificate shows.
#[test]
fn a_call_by_tls_left_behind_is_ended() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let uas = Uas::stream(Some(Arc::new(config)));
    let SocketAddr::V4(address) = uas.address else { panic!("IPv4") };
    let trunk =
        format!("address = \"localhost:{}\"\ntransport = \"tls\"\ntls_ca = \"ca.pem\"\noptions = 0", address.port());
    let dir = folder(&trunk, 24_000);
    fs::write(dir.path().join("ca.pem"), made.cert.pem()).unwrap();
    is_ended_after_a_kill(&dir, &uas);
}
