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
#[allow(dead_code)]
#[path = "../sipp/tls.rs"]
mod tls;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use page::{Habit, Page};
use peer::{Gateway, PATIENCE, Phone, gateway};
use sipp::Setup;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

/// 210 to 229 are taken at once, each by a browser; 230 to 239 refused; 240 to 249 ring for ever; 250 to 259 are a phone's;
/// 101 goes out by a trunk.
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
name = "browsers"
did = ["21X", "22X", "23X", "24X"]
user = "page-{digits}"

[[in]]
name = "phone"
did = "25X"
user = "desk"
"#;

/// How many calls of each sort.
struct Load {
    /// SIP to browser: taken, refused, given up.
    taken: u32,
    refused: u32,
    cancelled: u32,
    /// SIP to SIP: a trunk's call to a registered phone.
    to_phone: u32,
    /// Browser to SIP.
    out: u32,
}

impl Load {
    fn total(&self) -> usize {
        (self.taken + self.refused + self.cancelled + self.to_phone + self.out) as usize
    }

    /// All of them, beside each other; each must go as its scenario says. The trunk's and the registered phone have that port.
    async fn run(&self, gateway: &Gateway, phone: &Phone, port: u16) {
        let callee = Setup::new("soak-phone").media(phone).port(port).load(self.out + self.to_phone, 40, 1000);
        let callee = callee.phone(gateway.sip).await;
        let caller = |scenario, numbers, calls, rate| {
            let setup = Setup::calling(scenario, "[field0]").in_turn(numbers).media(phone);
            setup.load(calls, rate, 60).caller(gateway.sip)
        };
        let callers = [
            caller("soak-caller", 210..230, self.taken, 40),
            caller("soak-refused", 230..240, self.refused, 10),
            caller("soak-cancel", 240..250, self.cancelled, 10),
            caller("soak-caller", 250..260, self.to_phone, 30),
        ];
        let mut browsers = JoinSet::new();
        for at in 0..CALLERS {
            let page = Page::open(gateway.http, &format!("caller{at}")).await;
            browsers.spawn(page.calls("101", self.out / CALLERS));
        }
        for sipp in callers {
            sipp.finish().await;
        }
        while let Some(done) = browsers.join_next().await {
            done.expect("a browser whose calls all go well");
        }
        callee.finish().await;
    }
}

/// MD5 of `desk:soak:correct-horse`: SIPp knows no other hash, and a registrar that has only MD5 asks for only MD5.
const HA1: &str = "25271f45656efbbf36766ecfa595b94c";

/// Browsers that call.
const CALLERS: u32 = 4;

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
    let warm_up = Load { taken: 800, refused: 200, cancelled: 200, to_phone: 600, out: 200 };
    let load = Load { taken: 4000, refused: 1000, cancelled: 1000, to_phone: 3000, out: 1000 };
    let callee = Setup::new("soak-phone");
    let (port, address) = (callee.port, callee.address());
    let registers = Setup::new("register").port(port).word("USER", "desk").word("PASSWORD", "correct-horse");
    let trunks = format!(
        "[trunk.out]\naddress = \"{address}\"\nnumber_format = \"as-dialled\"\noptions = 0\n[limits]\ncalls_per_socket = 1000\n\
         [registrar]\nrealm = \"soak\"\ncalls_per_user = 1000\n[registrar.users.desk]\nha1 = \"{HA1}\"\n"
    );
    // Many fewer ports than calls: one kept by each call would soon be one too many.
    let setup = gateway::Setup { rtp_ports: 3000, log: "warn", ..gateway::Setup::new(&trunks, PLAN) };
    let gateway = Gateway::start(setup).await;
    registers.caller(gateway.sip).finish().await;
    let mut pages = Vec::new();
    for number in 210..250 {
        let habit = match number {
            ..230 => Habit::Accepts,
            230..240 => Habit::Rejects,
            _ => Habit::LetsItRing,
        };
        pages.push(Page::open(gateway.http, &format!("page-{number}")).await.serve(habit));
    }

    warm_up.run(&gateway, &phone, port).await;
    let mut calls = warm_up.total();
    recorded(&gateway, calls).await;
    let mut before = settled(&gateway, None).await;
    // On a machine that stands still there are more calls at once than in the warm-up, and more memory for them: what a call leaves
    // behind is left behind by as many calls again, too.
    for last in [false, true] {
        load.run(&gateway, &phone, port).await;
        calls += load.total();
        recorded(&gateway, calls).await;
        let after = settled(&gateway, Some(before)).await;
        println!("{} calls: before {before:?}, after {after:?}", load.total());
        if after.memory_kb <= before.memory_kb + MARGIN_KB {
            break;
        }
        assert!(!last, "memory grows: before {before:?}, after {after:?}");
        before = after;
    }

    let taken = gateway.rtp_ports.clone().filter(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, *port)).is_err());
    assert_eq!(taken.collect::<Vec<u16>>(), Vec::<u16>::new(), "RTP ports that are still open");
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
