//! What of the gateway itself or of its machine breaks: media threads, descriptors, the whole process.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::strace::Fault;
use crate::support::{Browser, Gateway};
use crate::uas::Uas;
use crate::{Setup, Site};

#[test]
fn threads_descriptors_and_the_process() {
    let good = Uas::udp();
    let sections = format!(
        "[trunk.good]\naddress = \"{}\"\noptions = 0\n[trunk.failing]\naddress = \"{0}\"\noptions = 0\n",
        good.address
    );
    // Pairs for every call that is lost, as each rests a while.
    let setup = Setup { ports: "24740-24939", sip: "", media: "workers = 2", sections: &sections };
    let mut site = Site::open(&setup, |_| {}, Gateway::configured);
    let prometheus = &site.prometheus;
    assert_eq!(prometheus.firing().get("RingbackDown"), None);
    let mut alice = Browser::of(&site.gateway, "alice");
    stalled(&site);

    // The kernel has no more room for what is to be polled (fs.epoll.max_user_watches): a call's sockets cannot be heard.
    let pid = site.gateway.pid();
    let faults = ["media-0", "media-1"].map(|thread| Fault::on(pid, thread, "epoll_ctl:error=ENOSPC"));
    let mut calls = 0;
    prometheus.fires_while("RingbackFault", || {
        calls += 1;
        alice.call(&format!("f{calls}"), "600");
        alice.expect("ended");
    });
    drop(faults);

    // A media thread whose poll fails ends; new calls go to the other one.
    let fault = Fault::on(pid, "media-0", "epoll_wait:error=EBADF");
    prometheus.fires("RingbackWorkerDown");
    drop(fault);
    alice.call("c1", "600");
    alice.expect("answered");
    site.answers("/readyz", 200, r#"{"ready":true,"reasons":[]}"#);
    let fault = Fault::on(pid, "media-1", "epoll_wait:error=EBADF");
    site.answers("/readyz", 503, r#"{"ready":false,"reasons":["no_worker"]}"#);
    drop(fault);
    assert_eq!(alice.expect("ended")["call"], "c1");
    alice.call("c2", "600");
    assert_eq!(alice.expect("ended")["sip"], 503);

    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = format!("--nofile={}", open + open / 8);
    assert!(Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status().unwrap().success());
    prometheus.fires("RingbackDescriptorsNearLimit");

    site.gateway.signal(Signal::SIGKILL);
    site.gateway.wait();
    prometheus.fires("RingbackDown");
    prometheus.fires_while("RingbackRestarted", || {
        site.gateway = Gateway::configured(&site.dir.path().join("ringback.toml"));
        prometheus.until("up{job=\"ringback\"}", 1.0);
        prometheus.until("ringback_calls", 0.0);
        site.gateway.signal(Signal::SIGKILL);
        site.gateway.wait();
    });
    prometheus.do_not_fire(&["QueueFull", "PoorSound", "CdrLost", "StoreFailing", "TrunkDown", "LimitTripped"]);
}

/// The driver's thread stands still: who asks whether the gateway lives is told, and told when it does again.
fn stalled(site: &Site) {
    site.answers("/healthz", 200, "ok\n");
    let fault = Fault::at(&site.gateway.pid().to_string(), "futex:delay_exit=10000000");
    site.answers("/healthz", 503, "stalled\n");
    drop(fault);
    site.answers("/healthz", 200, "ok\n");
}
