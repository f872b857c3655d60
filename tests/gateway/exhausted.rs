//! Ports and descriptors that run out: the call too many is refused with 503, those that stand are heard as before, and
//! as soon as there is room again there are calls again, without a restart.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::peer::{Browser, Codecs, Phone, Sound};
use crate::reload::Folder;
use crate::sipp::{Setup, Sipp};
use crate::support::Gateway;

/// A party of a call and the tones of both.
struct Talk {
    browser: Browser,
    phone: Phone,
    call: String,
    up: f64,
    down: f64,
}

impl Talk {
    /// The browser has called, and was answered by this phone.
    async fn begin(mut browser: Browser, call: String, phone: Phone, up: f64) -> Talk {
        browser.expect("answered").await;
        let down = up + 700.0;
        browser.say(Sound::Tone(up)).await;
        phone.say(Sound::Tone(down)).await;
        let talk = Talk { browser, phone, call, up, down };
        talk.is_heard().await;
        talk
    }

    async fn is_heard(&self) {
        self.phone.heard.tone_anew("the phone", self.up).await;
        self.browser.heard.tone_anew("the browser", self.down).await;
    }

    async fn hang_up(mut self) {
        self.browser.hangup(&self.call).await;
        self.browser.ended("us").await;
        self.browser.close().await;
        self.phone.stop().await;
    }
}

/// A gateway, and phones that answer one after another.
struct Stage {
    gateway: Gateway,
    http: SocketAddr,
    sipp: Sipp,
    phones: std::vec::IntoIter<Phone>,
}

impl Stage {
    async fn browser(&self, user: &str) -> Browser {
        Browser::open(self.http, user).await
    }

    /// With these RTP ports, for so many calls that are answered.
    async fn open(ports: &str, calls: u16) -> Stage {
        let mut phones = Vec::new();
        for _ in 0..calls {
            phones.push(Phone::start("127.0.0.1").await);
        }
        let told: Vec<u16> = phones.iter().map(|phone| phone.address.port()).collect();
        let setup = Setup::new("soak-phone").word("MEDIA_IP", "127.0.0.1").word("MEDIA_PORT", "[field0]");
        let setup = setup.in_turn(told).calls(u32::from(calls));
        let folder = Folder::new(setup.address(), "", 25_700)
            .with("25700-25799", ports)
            .with("[trunk.testphone]", "[trunk.testphone]\noptions = 0");
        let gateway = Gateway::configured(&folder.file());
        let http = SocketAddr::from(([127, 0, 0, 1], gateway.port()));
        let sipp = setup.phone(http).await;
        Stage { gateway, http, sipp, phones: phones.into_iter() }
    }

    async fn talk(&mut self, mut browser: Browser, up: f64) -> Talk {
        let call = browser.call("600", Codecs::All).await;
        Talk::begin(browser, call, self.phones.next().unwrap(), up).await
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
    let mut stage = Stage::open("25700-25703", 3).await;
    let first = stage.talk(stage.browser("first").await, 400.0).await;
    let second = stage.talk(stage.browser("second").await, 500.0).await;
    let mut late = stage.browser("late").await;
    stage.is_refused(&mut late).await;
    first.is_heard().await;
    second.is_heard().await;
    first.hang_up().await;
    // Its port rests for five seconds, so that nobody hears the late packets of another; the other call is heard meanwhile.
    let over = Instant::now();
    while over.elapsed() < Duration::from_secs(6) {
        second.is_heard().await;
    }
    let third = stage.talk(late, 600.0).await;
    second.is_heard().await;
    second.hang_up().await;
    third.hang_up().await;
    stage.sipp.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_a_descriptor_is_refused_and_the_next_one_is_not() {
    let mut stage = Stage::open("25900-25999", 2).await;
    let first = stage.talk(stage.browser("first").await, 400.0).await;
    let mut late = stage.browser("late").await;
    let before = stage.limit_of();
    stage.limit(stage.free());
    stage.is_refused(&mut late).await;
    first.is_heard().await;
    stage.limit(before);
    let second = stage.talk(late, 600.0).await;
    first.is_heard().await;
    first.hang_up().await;
    second.hang_up().await;
    stage.sipp.finish().await;
}
