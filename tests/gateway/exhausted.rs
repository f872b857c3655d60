//! Ports and descriptors that run out: the call too many is refused with 503, those that stand are heard as before, and
//! as soon as there is room again there are calls again, without a restart.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Instant;

use crate::peer::{Browser, Codecs};
use crate::reload::{Folder, get};
use crate::support::{Gateway, PATIENCE};
use crate::talk::{Line, Phones, Talk, door};

/// A gateway, and phones that answer one after another.
struct Stage {
    gateway: Gateway,
    line: Line,
}

impl Stage {
    async fn browser(&self, user: &str) -> Browser {
        Browser::open(door(&self.gateway), user).await
    }

    /// With these RTP ports, for so many calls that are answered.
    async fn open(ports: &str, calls: u16) -> Stage {
        let phones = Phones::new(calls).await;
        let folder = Folder::new(phones.address(), "", 27_800)
            .with("27800-27899", ports)
            .with("[trunk.testphone]", "[trunk.testphone]\noptions = 0");
        let gateway = Gateway::configured(&folder.file());
        let line = phones.answer(&gateway).await;
        Stage { gateway, line }
    }

    async fn talk(&mut self, browser: Browser, n: u16) -> Talk {
        self.line.talk(browser, n).await
    }

    async fn is_refused(&self, browser: &mut Browser) {
        browser.call("600", Codecs::All).await;
        let ended = browser.ended("gateway").await;
        assert_eq!((&ended["sip"], &ended["cause"]), (&503.into(), &"no-resources".into()), "{ended}");
    }

    /// From this number on it gets no descriptor.
    fn limit(&self, descriptors: usize) {
        let (pid, limit) = (self.gateway.pid().to_string(), format!("--nofile={descriptors}:"));
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    }

    /// How many it may have.
    fn limit_of(&self) -> usize {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.gateway.pid())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The lowest descriptor that is free.
    fn free(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.gateway.pid())).unwrap();
        let open: BTreeSet<usize> = open.filter_map(|fd| fd.unwrap().file_name().to_str()?.parse().ok()).collect();
        (0..).find(|fd| !open.contains(fd)).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_a_port_is_refused_and_the_next_one_has_that_of_a_call_that_is_over() {
    let mut stage = Stage::open("27800-27803", 3).await;
    let first = stage.talk(stage.browser("first").await, 0).await;
    let second = stage.talk(stage.browser("second").await, 1).await;
    let mut late = stage.browser("late").await;
    stage.is_refused(&mut late).await;
    first.goes_on().await;
    second.goes_on().await;
    end(first).await;
    // Its port rests for five seconds, so that nobody hears the late packets of another; the other call is heard meanwhile.
    let over = Instant::now();
    while !get(stage.gateway.port(), "/metrics").1.contains("ringback_rtp_ports{state=\"free\"} 1.0") {
        assert!(over.elapsed() < PATIENCE, "the port does not come back");
        second.goes_on().await;
    }
    let third = stage.talk(late, 2).await;
    second.goes_on().await;
    end(second).await;
    end(third).await;
    stage.line.sipp.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_a_descriptor_is_refused_and_the_next_one_is_not() {
    let mut stage = Stage::open("27900-27999", 2).await;
    let first = stage.talk(stage.browser("first").await, 0).await;
    let mut late = stage.browser("late").await;
    let before = stage.limit_of();
    stage.limit(stage.free());
    stage.is_refused(&mut late).await;
    first.goes_on().await;
    stage.limit(before);
    let second = stage.talk(late, 2).await;
    first.goes_on().await;
    end(first).await;
    end(second).await;
    stage.line.sipp.finish().await;
}

async fn end(mut talk: Talk) {
    talk.hang_up().await;
    talk.leave().await;
}
