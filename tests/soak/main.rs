//! Ten thousand short calls through the running program, each with all that belongs to it (200, ACK and BYE; CANCEL and
//! 487; a refusal), from SIPp and from browsers, some tens at once. Not one may fail, and afterwards the program has
//! what it had before: descriptors, threads, RTP ports, memory. Nothing is asserted about speed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // these tests are sockets, clocks and programs
#![allow(missing_docs)]

mod page;
#[path = "../peer/mod.rs"]
mod peer;
#[allow(dead_code)]
#[path = "../sim/support/sdp.rs"]
mod sdp;
#[allow(dead_code)]
#[path = "../sipp/sipp.rs"]
mod sipp;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use page::{Habit, Page};
use peer::{Gateway, PATIENCE, Phone, gateway};
use sipp::Setup;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

/// 201 is taken at once, 202 refused, 203 rings for ever; 101 goes out.
const PLAN: &str = r#"
[plan]
name = "soak"
default = "deny"

[numbering]
country = "44"
national = "0"
international = ["00", "+"]
short = ["1XX", "2XX"]

[[out]]
name = "out"
pattern = "1XX"
tiers = [["out"]]

[[in]]
name = "takes"
did = "201"
ring = { users = ["takes"], for = "30s" }

[[in]]
name = "refuses"
did = "202"
ring = { users = ["refuses"], for = "30s" }

[[in]]
name = "rings"
did = "203"
ring = { users = ["rings"], for = "30s" }
"#;

/// How many calls of each sort.
struct Load {
    accepted: u32,
    refused: u32,
    cancelled: u32,
    out: u32,
}

impl Load {
    fn total(&self) -> usize {
        (self.accepted + self.refused + self.cancelled + self.out) as usize
    }

    /// All of them, beside each other; each must go as its scenario says.
    async fn run(&self, gateway: &Gateway, phone: &Phone) {
        let caller = |scenario, to, calls, rate| {
            Setup::calling(scenario, to).media(phone).load(calls, rate, 60).caller(gateway.sip)
        };
        let callers = [
            caller("soak-caller", "201", self.accepted, 40),
            caller("soak-refused", "202", self.refused, 8),
            caller("soak-cancel", "203", self.cancelled, 8),
        ];
        let mut browsers = JoinSet::new();
        for at in 0..4 {
            let page = Page::open(gateway.http, &format!("caller{at}")).await;
            browsers.spawn(page.calls("101", self.out / 4));
        }
        for sipp in callers {
            sipp.finish().await;
        }
        while let Some(done) = browsers.join_next().await {
            done.expect("a browser whose calls all go well");
        }
    }
}

/// What the program has at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    threads: usize,
    memory_kb: usize,
}

impl Holdings {
    fn of(gateway: &Gateway) -> Holdings {
        let process = format!("/proc/{}", gateway.pid().expect("a running gateway"));
        let count = |what: &str| std::fs::read_dir(format!("{process}/{what}")).expect("a process").count();
        let status = std::fs::read_to_string(format!("{process}/status")).expect("a process");
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        let memory_kb = memory.trim().trim_end_matches(" kB").parse().expect("a number");
        Holdings { descriptors: count("fd"), threads: count("task"), memory_kb }
    }
}

/// Waits until every call has its record: the last of them was over before.
async fn recorded(gateway: &Gateway, calls: usize) {
    let all = timeout(3 * PATIENCE, async {
        let mut tick = interval(Duration::from_millis(100));
        while gateway.records() < calls {
            tick.tick().await;
        }
    });
    let well = all.await.is_ok();
    assert!(well && gateway.records() == calls, "{} records of {calls} calls", gateway.records());
}

/// Memory that may be more at the end than after the warm-up, which had every kind of call and as many at once: for the
/// allocator's fragments. It is less than a kilobyte for each of the calls between.
const MARGIN_KB: usize = 8 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_leave_nothing_behind() {
    let phone = Phone::start("127.0.0.1").await;
    let warm_up = Load { accepted: 1000, refused: 200, cancelled: 200, out: 600 };
    let load = Load { accepted: 6000, refused: 1000, cancelled: 1000, out: 2000 };
    let callee = Setup::new("soak-phone").media(&phone).load(warm_up.out + load.out, 10, 1000);
    let trunks = format!(
        "[trunk.out]\naddress = \"{}\"\nnumber_format = \"as-dialled\"\n[limits]\ncalls_per_socket = 1000\n",
        callee.address()
    );
    // Many fewer ports than calls: one kept by each call would soon be one too many.
    let setup = gateway::Setup { rtp_ports: 2000, log: "warn", ..gateway::Setup::new(&trunks, PLAN) };
    let gateway = Gateway::start(setup).await;
    let callee = callee.phone(gateway.sip).await;
    let mut pages = Vec::new();
    for (user, habit) in [("takes", Habit::Accepts), ("refuses", Habit::Rejects), ("rings", Habit::LetsItRing)] {
        pages.push(Page::open(gateway.http, user).await.serve(habit));
    }

    warm_up.run(&gateway, &phone).await;
    recorded(&gateway, warm_up.total()).await;
    let before = settled(&gateway, None).await;
    load.run(&gateway, &phone).await;
    recorded(&gateway, warm_up.total() + load.total()).await;
    let after = settled(&gateway, Some(before)).await;
    println!("{} calls: before {before:?}, after {after:?}", load.total());

    assert!(after.memory_kb <= before.memory_kb + MARGIN_KB, "memory: before {before:?}, after {after:?}");
    let taken = gateway.rtp_ports.clone().filter(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, *port)).is_err());
    assert_eq!(taken.collect::<Vec<u16>>(), Vec::<u16>::new(), "RTP ports that are still open");
    callee.finish().await;
    for page in pages {
        page.abort();
    }
    phone.stop().await;
    gateway.stop().await;
}

/// Descriptors and threads when they change no more; where they were known before, when they are the same again.
async fn settled(gateway: &Gateway, before: Option<Holdings>) -> Holdings {
    let mut last = Holdings::of(gateway);
    let same = timeout(3 * PATIENCE, async {
        let mut tick = interval(Duration::from_secs(1));
        let mut calm = 0;
        loop {
            tick.tick().await;
            let now = Holdings::of(gateway);
            let wanted = before.unwrap_or(last);
            calm = if (now.descriptors, now.threads) == (wanted.descriptors, wanted.threads) { calm + 1 } else { 0 };
            last = now;
            if calm == 3 {
                return;
            }
        }
    });
    assert!(same.await.is_ok(), "before {before:?}, now {last:?}");
    last
}
