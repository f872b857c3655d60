//! A gateway that is killed, and the next one in its place: it listens at once, and ends the calls left behind.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGKILL;
use tempfile::TempDir;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::support::{Browser, Gateway, PATIENCE};
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
    while fs::read_to_string(&journal).unwrap().is_empty() {
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
    // It is answered: nothing stands any more, and a clean end leaves an empty file.
    while !fs::read_to_string(&journal).unwrap().contains("\"over\":true") {
        assert!(begun.elapsed() < PATIENCE, "the answer to the BYE is not noted");
        std::thread::yield_now();
    }
    next.terminate();
    assert_eq!(next.wait().code(), Some(0));
    assert_eq!(fs::read_to_string(&journal).unwrap(), "");
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
