//! A real Prometheus scrapes a running gateway by `packaging/prometheus`: every query of the dashboard is one, and each alert
//! fires once by a fault that is made from outside. The rules are the shipped ones, but for the time that a condition has
//! to last. `tests/alerts/run` runs it: it needs a `prometheus` in RINGBACK_PROMETHEUS, and strace.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../gateway/support.rs"]
#[allow(dead_code)] // other tests use the rest
mod support;
#[path = "../gateway/uas.rs"]
#[allow(dead_code)]
mod uas;

mod broken;
mod busy;
mod peers;
mod prometheus;
mod strace;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Instant;

use tempfile::TempDir;

use prometheus::Prometheus;
use support::{Gateway, PATIENCE, reply};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PLAN: &str = "[plan]\nname = \"alerts\"\ndefault = \"deny\"\n[numbering]\nshort = \"60X\"\n\
    [[out]]\nname = \"good\"\nnumber = [\"600\"]\ntiers = [[\"good\"]]\n\
    [[out]]\nname = \"failing\"\nnumber = [\"601\"]\ntiers = [[\"failing\"]]\n";

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A SIP peer that refuses every request with that status.
fn refuses(status: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let serve = move || {
        let mut buffer = [0; 65_536];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if !text.starts_with("ACK") && !text.starts_with("SIP/2.0") {
                let _ = socket.send_to(reply(&text, status, "Content-Length: 0\r\n\r\n").as_bytes(), from);
            }
        }
    };
    std::thread::Builder::new().spawn(serve).unwrap();
    address
}

/// What a scene says about its gateway; there are trunks `good` and `failing` in the plan.
struct Setup<'a> {
    /// Its RTP ports.
    ports: &'a str,
    /// More keys of `[sip]` and `[media]`, and all other sections.
    sip: &'a str,
    media: &'a str,
    sections: &'a str,
}

/// A gateway in trouble, and the Prometheus that watches it.
struct Site {
    dir: TempDir,
    sip: u16,
    gateway: Gateway,
    prometheus: Prometheus,
}

impl Site {
    /// `files` makes what the configuration names, `start` the gateway.
    fn open(setup: &Setup<'_>, files: impl FnOnce(&Path), start: impl FnOnce(&Path) -> Gateway) -> Site {
        let (dir, sip, api) = (TempDir::new().unwrap(), free_port(), free_port());
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        fs::create_dir(dir.path().join("dialplans")).unwrap();
        write("dialplans/plan.toml", PLAN);
        write("token", TOKEN);
        files(dir.path());
        let Setup { ports, sip: more, media, sections } = setup;
        let config = format!(
            "[sip]\nudp = [\"127.0.0.1:{sip}\"]\n{more}\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
             rtp_ports = \"{ports}\"\n{media}\n[auth]\nopen = true\n{sections}\n\
             [api]\nlisten = \"127.0.0.1:{api}\"\n[[api.token]]\nname = \"prometheus\"\ntoken_file = \"token\"\n"
        );
        write("ringback.toml", &config);
        let gateway = start(&dir.path().join("ringback.toml"));
        let prometheus = Prometheus::start(api, &dir.path().join("token"));
        prometheus.until("up{job=\"ringback\"}", 1.0);
        Site { dir, sip, gateway, prometheus }
    }

    /// Asks the gateway at its door for browsers: status and body; `None` while it gives no answer.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.gateway.port())).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Asks until it answers so.
    fn answers(&self, path: &str, status: u16, body: &str) {
        let begun = Instant::now();
        loop {
            let found = self.get(path);
            if found.as_ref().is_some_and(|(found, text)| *found == status && text == body) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{path}: {found:?}, not {status} {body}");
            std::thread::park_timeout(prometheus::LOOK_EVERY);
        }
    }
}
