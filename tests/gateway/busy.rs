//! A machine that gives the gateway too little time: calls too many are refused, and none of those that stand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::reload::{Folder, get, until};
use crate::support::{Browser, Gateway};
use crate::uas::Uas;

const PLAN: &str = "[plan]\nname = \"busy\"\ndefault = \"deny\"\n[numbering]\ncountry = \"44\"\nemergency = [\"999\"]\nshort = \"60X\"\n\
    [[out]]\nname = \"emergency\"\nnumber = [\"999\"]\ntiers = [[\"testphone\"]]\n\
    [[out]]\nname = \"all\"\nnumber = [\"600\"]\ntiers = [[\"testphone\"]]\n";

/// With fewer a late worker is late for another's sake.
const CALLS: usize = 8;

/// The process stands still for 60 ms again and again, as on a machine that others need more.
struct Stutter {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stutter {
    fn of(gateway: &Gateway) -> Stutter {
        let pid = Pid::from_raw(gateway.pid() as i32);
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let turns = move || {
            while !ends.load(Ordering::Relaxed) {
                for (signal, ms) in [(Signal::SIGSTOP, 60), (Signal::SIGCONT, 100)] {
                    kill(pid, signal).unwrap();
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_millis(ms) {
                        std::thread::park_timeout(Duration::from_millis(5));
                    }
                }
            }
        };
        Stutter { over, thread: Some(std::thread::Builder::new().spawn(turns).unwrap()) }
    }
}

/// It goes on.
impl Drop for Stutter {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

fn shows(gateway: &Gateway, line: &str) -> bool {
    get(gateway.port(), "/metrics").1.lines().any(|found| found == line)
}

#[test]
fn a_gateway_that_is_late_refuses_calls_but_to_emergency_numbers_until_it_is_not() {
    let uas = Uas::udp();
    let folder = Folder::new(uas.address, "", 27_500)
        .with("busy_at = 0", "busy_at = 85")
        .with("[limits]", "[limits]\ncalls_per_socket = 20")
        .with("[trunk.testphone]", "[trunk.testphone]\noptions = 0");
    folder.write("plans/plan.toml", PLAN);
    let gateway = Gateway::configured(&folder.file());
    let mut alice = Browser::of(&gateway, "alice");
    for call in 0..CALLS {
        alice.call(&format!("c{call}"), "600");
        alice.expect("answered");
    }
    assert!(shows(&gateway, "ringback_worker_effort{worker=\"0\"} 2.0"), "{}", get(gateway.port(), "/metrics").1);
    let stutter = Stutter::of(&gateway);
    let busy = (200, r#"{"ready":true,"reasons":[],"warnings":["busy"]}"#.to_owned());
    until("the warning", || get(gateway.port(), "/readyz") == busy);
    alice.call("late", "600");
    let ended = alice.expect("ended");
    assert_eq!((&ended["call"], &ended["cause"]), (&"late".into(), &"too-many-calls".into()), "{ended}");
    assert_eq!((&ended["sip"], &ended["retry_after"]), (&503.into(), &Value::from(5)), "{ended}");
    alice.call("help", "999");
    assert_eq!(alice.expect("answered")["call"], "help");
    assert!(shows(&gateway, "ringback_worker_busy{worker=\"0\"} 1.0"));
    assert!(shows(&gateway, "ringback_calls_refused_busy_total 1"));
    assert!(!shows(&gateway, "ringback_worker_effort{worker=\"0\"} 2.0"));
    gateway.logged(|line| line.contains("a media thread's load has changed what it does"));
    drop(stutter);
    // Nobody was cut off; and without calls nothing is late, however busy this machine is.
    let (_, status) = get(gateway.port(), "/status");
    assert_eq!(serde_json::from_str::<Value>(&status).unwrap()["established"], CALLS + 1);
    for call in (0..CALLS).map(|call| format!("c{call}")).chain(["help".to_owned()]) {
        alice.send(&serde_json::json!({"type": "hangup", "call": call}));
        alice.expect("ended");
    }
    let ready = (200, r#"{"ready":true,"reasons":[]}"#.to_owned());
    until("calm", || get(gateway.port(), "/readyz") == ready);
    alice.call("again", "600");
    alice.expect("answered");
}
