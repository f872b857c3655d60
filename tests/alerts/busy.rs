//! As many calls as are allowed, on a disk that is full and over lines that lose packets.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::prometheus::Prometheus;
use crate::support::{Browser, Gateway, fill};
use crate::uas::Uas;
use crate::{Setup, Site};

#[test]
fn limits_sound_and_a_full_disk() {
    let good = Uas::udp();
    let sections = format!(
        "[limits]\ncalls = 10\nsockets = 2\ncalls_per_socket = 9\n[limits.user]\ncalls = 8\ncalls_per_minute = 1000\n\
         [store]\npath = \"small/limits.db\"\n[journal]\nfile = \"small/calls.journal\"\n[trunk.good]\naddress = \"{}\"\noptions = 0\ncalls = 9\n\
         [trunk.failing]\naddress = \"{0}\"\noptions = 0\n",
        good.address
    );
    let site = Site::open(
        &Setup { ports: "24700-24719", sip: "", media: "workers = 1", sections: &sections },
        |_| {},
        |file| {
            let disk = file.parent().unwrap().join("small");
            let gateway = Gateway::on_a_small_disk(file, &disk);
            fill(&gateway.sees(&disk.join("filler")));
            gateway
        },
    );
    let prometheus = &site.prometheus;
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
    // One more than a user may have; while b2 has its place still, it would be one more than the gateway may have.
    prometheus.until("ringback_calls", 9.0);
    alice.call("a9", "600");
    alice.expect("ended");
    prometheus.fires("RingbackLimitTripped");
    for alert in ["TrunkLimit", "CallsNearLimit", "SessionsNearLimit", "PortsNearLimit", "NoAudio"] {
        prometheus.fires(&format!("Ringback{alert}"));
    }
    // That they have called, and that they talk, cannot be written down.
    prometheus.fires("RingbackStoreFailing");
    prometheus.fires("RingbackJournalFailing");
    let poor = PoorLines::to((0..9).map(|_| audio_port(&good.request("INVITE"))).collect());
    prometheus.fires("RingbackPoorSound");
    drop(poor);
    queries_of_the_dashboard_are_answered(prometheus);

    // A machine that gives the gateway no time, again and again.
    let stand_still = || {
        site.gateway.signal(Signal::SIGSTOP);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(60) {
            std::thread::yield_now();
        }
        site.gateway.signal(Signal::SIGCONT);
    };
    prometheus.fires_while("RingbackWorkerLate", stand_still);
    let mut refused = 2;
    prometheus.fires_while("RingbackBusy", || {
        stand_still();
        refused += 1;
        bob.call(&format!("b{refused}"), "600");
        bob.expect("ended");
    });
    prometheus.do_not_fire(&["Down", "WorkerDown", "Fault", "QueueFull", "TrunkDown", "CdrLost", "CertificateExpires"]);
}

/// Where the gateway wants a call's sound, by its INVITE.
fn audio_port(invite: &str) -> u16 {
    let media = invite.lines().find_map(|line| line.strip_prefix("m=audio ")).unwrap();
    media.split(' ').next().unwrap().parse().unwrap()
}

/// Phones of whose packets two of three are lost on the way to these ports.
struct PoorLines {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PoorLines {
    fn to(ports: Vec<u16>) -> PoorLines {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let thread = std::thread::Builder::new().spawn(move || speak(&ports, &ends)).unwrap();
        PoorLines { over, thread: Some(thread) }
    }
}

impl Drop for PoorLines {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn speak(ports: &[u16], over: &AtomicBool) {
    let sockets: Vec<UdpSocket> = ports.iter().map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let mut packet = [0x55; 12 + 160];
    let begun = Instant::now();
    for number in 0_u16.. {
        while begun.elapsed() < Duration::from_millis(20) * u32::from(number) {
            if over.load(Ordering::Relaxed) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        // The first ones come whole: a phone at another port than it has said is to be known.
        if number > 25 && number % 3 != 0 {
            continue;
        }
        packet[..2].copy_from_slice(&[0x80, 0]);
        packet[2..4].copy_from_slice(&number.to_be_bytes());
        packet[4..8].copy_from_slice(&(u32::from(number) * 160).to_be_bytes());
        packet[8..12].copy_from_slice(b"poor");
        for (socket, port) in sockets.iter().zip(ports) {
            let _ = socket.send_to(&packet, ("127.0.0.1", *port)); // the call may be over
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
    // What needs browsers' media, web hooks or registrations has nothing to show here.
    assert!(with_data >= 25, "{with_data} queries have an answer");
}
