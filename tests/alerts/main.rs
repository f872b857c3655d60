//! A real Prometheus scrapes a running gateway by `packaging/prometheus`: every query of the dashboard is one, and each fault
//! that can be made here fires its alert. The rules are the shipped ones, but for the time that a condition has to last.
//! `tests/alerts/run` runs it: it needs a `prometheus` in RINGBACK_PROMETHEUS.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../gateway/support.rs"]
#[allow(dead_code)] // other tests use the rest
mod support;
#[path = "../gateway/uas.rs"]
#[allow(dead_code)]
mod uas;

mod prometheus;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use prometheus::Prometheus;
use support::{Browser, Gateway, reply};
use uas::Uas;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PLAN: &str = "[plan]\nname = \"alerts\"\ndefault = \"deny\"\n[numbering]\nshort = \"60X\"\n\
    [[out]]\nname = \"good\"\nnumber = [\"600\"]\ntiers = [[\"good\"]]\n\
    [[out]]\nname = \"failing\"\nnumber = [\"601\"]\ntiers = [[\"failing\"]]\n";

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

/// A web hook's server that answers every delivery with that status.
fn hook(status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut text, mut buffer) = (String::new(), [0; 65_536]);
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                text.push_str(&String::from_utf8_lossy(&buffer[..len]));
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0_usize) {
                    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    break;
                }
            }
        }
    };
    std::thread::Builder::new().spawn(serve).unwrap();
    address
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A gateway in trouble, and the Prometheus that watches it.
struct Site {
    _dir: TempDir,
    file: PathBuf,
    sip: u16,
    gateway: Gateway,
    prometheus: Prometheus,
    _good: Uas,
}

impl Site {
    fn open() -> Site {
        let (dir, good, sip, api) = (TempDir::new().unwrap(), Uas::udp(), free_port(), free_port());
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        fs::create_dir(dir.path().join("dialplans")).unwrap();
        write("dialplans/plan.toml", PLAN);
        write("token", TOKEN);
        // Nobody listens there: what is to be sent waits.
        let (nobody, refusing) = (format!("127.0.0.2:{}", free_port()), hook("422 No"));
        let (failing, unregistered) = (refuses("503 Out of Order"), refuses("403 Who Are You"));
        let config = format!(
            "[sip]\nudp = [\"127.0.0.1:{sip}\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
             rtp_ports = \"24300-24319\"\n[auth]\nopen = true\n[limits]\ncalls = 10\nsockets = 2\n\
             [trunk.good]\naddress = \"{}\"\noptions = 0\ncalls = 9\n[trunk.failing]\naddress = \"{failing}\"\noptions = 0\n\
             [trunk.gone]\naddress = \"nowhere.invalid\"\n\
             [trunk.stranger]\naddress = \"{unregistered}\"\nuser = \"us\"\npassword = \"secret-of-us\"\nregister = true\noptions = 0\n\
             [registrar]\nrealm = \"lab\"\n[registrar.users.desk]\npassword = \"secret-of-the-desk\"\n\
             [[webhook]]\nurl = \"http://{nobody}/\"\nsecret = \"{TOKEN}\"\n\
             [[webhook]]\nurl = \"http://{refusing}/\"\nsecret = \"{TOKEN}\"\n\
             [api]\nlisten = \"127.0.0.1:{api}\"\n[[api.token]]\nname = \"prometheus\"\ntoken_file = \"token\"\n",
            good.address
        );
        write("ringback.toml", &config);
        let file = dir.path().join("ringback.toml");
        let gateway = Gateway::configured(&file);
        let prometheus = Prometheus::start(api, &dir.path().join("token"));
        prometheus.until("up{job=\"ringback\"}", 1.0);
        Site { _dir: dir, file, sip, gateway, prometheus, _good: good }
    }
}

#[test]
fn each_fault_fires_its_alert() {
    let mut site = Site::open();
    let prometheus = &site.prometheus;
    assert_eq!(prometheus.firing().get("RingbackDown"), None);
    prometheus.fires("RingbackTrunkDown");
    prometheus.fires("RingbackTrunkUnregistered");

    // Nine calls, whose browsers have no media, and a tenth that the trunk's limit refuses.
    let (mut alice, mut bob) = (Browser::of(&site.gateway, "alice"), Browser::of(&site.gateway, "bob"));
    for call in 1..=8 {
        alice.call(&format!("a{call}"), "600");
        alice.expect("answered");
    }
    bob.call("b1", "600");
    bob.expect("answered");
    bob.call("b2", "600");
    bob.expect("ended");
    for alert in ["TrunkLimit", "CallsNearLimit", "SessionsNearLimit", "PortsNearLimit"] {
        prometheus.fires(&format!("Ringback{alert}"));
    }
    prometheus.fires("RingbackNoAudio");
    queries_of_the_dashboard_are_answered(prometheus);

    // A machine that gives the gateway no time, again and again.
    prometheus.fires_while("RingbackWorkerLate", || {
        site.gateway.signal(Signal::SIGSTOP);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(60) {
            std::thread::yield_now();
        }
        site.gateway.signal(Signal::SIGCONT);
    });

    // Their ports are free again, and nothing else ends.
    (1..=8).for_each(|call| alice.send(&json!({"type": "hangup", "call": format!("a{call}")})));
    bob.send(&json!({"type": "hangup", "call": "b1"}));
    prometheus.until("sum(ringback_calls_ended_total)", 10.0);
    let mut failed = 0_u32;
    let mut fail = || {
        failed += 1;
        bob.call(&format!("f{failed}"), "601");
        bob.expect("ended");
        // Not faster than it is counted: a page that calls without a pause loses its socket.
        prometheus.until("sum(ringback_calls_ended_total)", f64::from(10 + failed));
    };
    for alert in ["TrunkFailing", "WebhookLost", "WebhookWaiting"] {
        prometheus.fires_while(&format!("Ringback{alert}"), &mut fail);
    }
    let phone = UdpSocket::bind("127.0.0.1:0").unwrap();
    prometheus.fires_while("RingbackGuessing", || guess(&phone, site.sip, prometheus.begun));

    let open = fs::read_dir(format!("/proc/{}/fd", site.gateway.pid())).unwrap().count();
    let limit = format!("--nofile={}", open + open / 8);
    let pid = site.gateway.pid().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    prometheus.fires("RingbackDescriptorsNearLimit");

    site.gateway.signal(Signal::SIGKILL);
    site.gateway.wait();
    prometheus.fires("RingbackDown");
    prometheus.fires_while("RingbackRestarted", || {
        site.gateway = Gateway::configured(&site.file);
        prometheus.until("up{job=\"ringback\"}", 1.0);
        prometheus.until("ringback_calls", 0.0);
        site.gateway.signal(Signal::SIGKILL);
        site.gateway.wait();
    });
    // What nobody has made does not fire. (Sound, queues and faults of ours: by promtool alone.)
    let firing = prometheus.firing();
    for alert in ["RingbackWorkerDown", "RingbackFault", "RingbackQueueFull", "RingbackPoorSound"] {
        assert_eq!(firing.get(alert), None, "{alert}");
    }
}

/// A phone that does not know its password.
fn guess(phone: &UdpSocket, port: u16, begun: Instant) {
    phone.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let ours = phone.local_addr().unwrap();
    let mut authorization = String::new();
    for sequence in 1..=20 {
        let register = format!(
            "REGISTER sip:127.0.0.1:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {ours};branch=z9hG4bK{:x}{sequence}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:desk@lab>;tag=g\r\nTo: <sip:desk@lab>\r\nCall-ID: guess@{ours}\r\n\
             CSeq: {sequence} REGISTER\r\nContact: <sip:desk@{ours}>\r\n{authorization}Content-Length: 0\r\n\r\n",
            begun.elapsed().as_nanos()
        );
        phone.send_to(register.as_bytes(), ("127.0.0.1", port)).unwrap();
        let mut buffer = [0; 4096];
        let Ok(len) = phone.recv(&mut buffer) else { continue };
        let answer = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let nonce = answer.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next());
        if let Some(nonce) = nonce {
            authorization = format!(
                "Authorization: Digest username=\"desk\", realm=\"lab\", nonce=\"{nonce}\", uri=\"sip:127.0.0.1:{port}\", \
                 response=\"00000000000000000000000000000000\", algorithm=MD5\r\n"
            );
        }
    }
}

/// Each panel's query, as Grafana would send it.
fn queries_of_the_dashboard_are_answered(prometheus: &Prometheus) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus/grafana-dashboard.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut with_data = 0;
    for target in targets {
        let query = target["expr"].as_str().unwrap().replace("$instance", ".*").replace("$__rate_interval", "1m");
        let answer = prometheus.query(&query);
        with_data += usize::from(!answer.as_array().unwrap().is_empty());
    }
    // What needs media, or a web hook that takes something, has nothing to show here.
    assert!(with_data >= 25, "{with_data} queries have an answer");
}
