//! Two user agents and a network between them that loses, repeats and reorders, in virtual time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::sip::transaction::Timers;
use crate::sip::ua::*;
use crate::sip::{Flow, NameAddr, Transport};

/// Who.
pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

type Job = Box<dyn FnOnce(&mut Net)>;

/// How bad the network is.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    /// Of 100 messages so many are lost.
    pub(super) loss: u32,
    /// Of 100 messages so many come twice.
    pub(super) repeat: u32,
    /// Up to so many milliseconds are added to the way of each.
    pub(super) jitter: u64,
    /// This one, counted from 0, is lost.
    pub(super) drop_one: Option<usize>,
}

/// See the module.
pub(super) struct Net {
    pub(super) now: Instant,
    start: Instant,
    pub(super) ua: [UserAgent; 2],
    pub(super) events: [Vec<UaEvent>; 2],
    /// One line for each message sent: who, and its first line's beginning.
    pub(super) log: Vec<String>,
    pub(super) faults: Faults,
    jobs: BTreeMap<(Instant, u64), Job>,
    next_job: u64,
    rng: StdRng,
    react: fn(&mut Net, usize, &UaEvent),
}

pub(super) fn address(side: usize) -> std::net::SocketAddr {
    ["192.0.2.1:5060", "192.0.2.2:5060"][side].parse().unwrap()
}

pub(super) fn flow(side: usize) -> Flow {
    Flow { transport: Transport::Udp, local: address(side), remote: address(1 - side), id: 0 }
}

pub(super) fn config() -> UaConfig {
    UaConfig {
        user_agent: "Test".to_owned(),
        timers: Timers::default(),
        max_sessions: 100,
        max_transactions: 1000,
        registrar: false,
        advertise: Vec::new(),
    }
}

pub(super) fn body(text: &str) -> Body {
    Body { content_type: "application/sdp".to_owned(), bytes: text.as_bytes().to_vec() }
}

pub(super) fn call(side: usize) -> Invite {
    let name = |side: usize| -> NameAddr { format!("<sip:{side}@192.0.2.{}>", side + 1).parse().unwrap() };
    Invite {
        flow: flow(side),
        request_uri: name(1 - side).uri,
        from: name(side),
        to: name(1 - side),
        contact_user: Some("us".to_owned()),
        headers: Vec::new(),
        body: Some(body("offer")),
        credentials: None,
        options: SessionOptions::default(),
    }
}

/// The origin of virtual time.
#[allow(clippy::disallowed_methods)]
pub(super) fn origin() -> Instant {
    Instant::now()
}

impl Net {
    /// `react` is called for every event, in order.
    pub(super) fn new(seed: u64, faults: Faults, react: fn(&mut Net, usize, &UaEvent)) -> Net {
        let now = origin();
        let agent = |side: u8| {
            let mut bytes = [side; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            UserAgent::new(config(), bytes)
        };
        Net {
            now,
            start: now,
            ua: [agent(1), agent(2)],
            events: [Vec::new(), Vec::new()],
            log: Vec::new(),
            faults,
            jobs: BTreeMap::new(),
            next_job: 0,
            rng: StdRng::seed_from_u64(seed),
            react,
        }
    }

    /// Does something later.
    pub(super) fn after(&mut self, ms: u64, job: impl FnOnce(&mut Net) + 'static) {
        self.next_job += 1;
        self.jobs.insert((self.now + Duration::from_millis(ms), self.next_job), Box::new(job));
    }

    /// A number below `end` from the network's own seed.
    pub(super) fn random(&mut self, end: u64) -> u64 {
        self.rng.random_range(0..end)
    }

    /// Runs a user's wish and takes what comes of it.
    pub(super) fn user<T>(&mut self, side: usize, wish: impl FnOnce(&mut UserAgent, Instant) -> T) -> T {
        let result = wish(&mut self.ua[side], self.now);
        self.drain(side);
        result
    }

    fn drain(&mut self, side: usize) {
        while let Some(output) = self.ua[side].poll_output() {
            match output {
                UaOutput::Transmit { flow, bytes } => self.send(side, flow, bytes),
                UaOutput::Event(event) => {
                    self.events[side].push(event.clone());
                    (self.react)(self, side, &event);
                }
            }
        }
    }

    fn send(&mut self, side: usize, flow: Flow, bytes: Vec<u8>) {
        assert_eq!(flow.remote, address(1 - side), "there is nobody else");
        let first = String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned();
        let number = self.log.len();
        let ms = (self.now - self.start).as_millis();
        self.log.push(format!("{ms:6} {} {first}", ["A", "B"][side]));
        if self.faults.drop_one == Some(number) || self.random(100) < u64::from(self.faults.loss) {
            return;
        }
        let copies = if self.random(100) < u64::from(self.faults.repeat) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = 10 + if self.faults.jitter == 0 { 0 } else { self.random(self.faults.jitter) };
            let bytes = bytes.clone();
            self.after(delay, move |net| {
                let other = 1 - side;
                net.ua[other].handle_datagram(net.now, flow_of(other), &bytes);
                net.drain(other);
            });
        }
    }

    /// The time of whatever comes next.
    fn next(&self) -> Option<Instant> {
        let job = self.jobs.keys().next().map(|(at, _)| *at);
        [job, self.ua[A].poll_timeout(), self.ua[B].poll_timeout()].into_iter().flatten().min()
    }

    /// Lets time pass until nothing is left to happen.
    pub(super) fn settle(&mut self) {
        self.drain(A);
        self.drain(B);
        for _ in 0..100_000 {
            let Some(at) = self.next() else { return };
            assert!(at - self.start < Duration::from_secs(3600), "it never ends:\n{}", self.log.join("\n"));
            self.now = self.now.max(at);
            while self.jobs.keys().next().is_some_and(|(at, _)| *at <= self.now) {
                let (_, job) = self.jobs.pop_first().unwrap();
                job(self);
            }
            for side in [A, B] {
                if self.ua[side].poll_timeout().is_some_and(|at| at <= self.now) {
                    self.ua[side].handle_timeout(self.now);
                    self.drain(side);
                }
            }
        }
        panic!("busy loop:\n{}", self.log.join("\n"));
    }

    /// Each session had at most one terminal event, then Closed, and nothing is left of anything.
    pub(super) fn check(&self) {
        for side in [A, B] {
            let mut sessions: BTreeMap<SessionId, Vec<&'static str>> = BTreeMap::new();
            for event in &self.events[side] {
                let (session, word) = word(event);
                sessions.entry(session).or_default().push(word);
            }
            for (session, words) in sessions {
                let terminal = words.iter().filter(|w| matches!(**w, "failed" | "ended" | "cancelled")).count();
                let context = || format!("side {side} {session:?} {words:?}\n{}", self.log.join("\n"));
                assert!(terminal <= 1, "{}", context());
                assert_eq!(words.iter().filter(|w| **w == "closed").count(), 1, "{}", context());
                assert_eq!(words.last(), Some(&"closed"), "{}", context());
            }
            let left = (self.ua[side].session_count(), self.ua[side].transaction_count());
            assert_eq!(left, (0, 0), "side {side} {:?}\n{}", self.ua[side], self.log.join("\n"));
            assert_eq!(self.ua[side].poll_timeout(), None);
            assert!(self.ua[side].core.pending.is_empty());
            assert!(self.ua[side].by_dialog.is_empty() && self.ua[side].by_server.is_empty());
        }
    }

    /// The events of one side in short.
    pub(super) fn words(&self, side: usize) -> Vec<&'static str> {
        self.events[side].iter().map(|event| word(event).1).collect()
    }

    /// How many messages that begin so were sent by this side.
    pub(super) fn sent(&self, side: usize, start: &str) -> usize {
        let prefix = format!("{} {start}", ["A", "B"][side]);
        self.log
            .iter()
            .filter(|line| line.trim_start().split_once(' ').is_some_and(|(_, l)| l.starts_with(&prefix)))
            .count()
    }
}

fn flow_of(side: usize) -> Flow {
    flow(side)
}

/// An event in short.
pub(super) fn word(event: &UaEvent) -> (SessionId, &'static str) {
    match event {
        UaEvent::Incoming { session, .. } => (*session, "incoming"),
        UaEvent::Trying { session } => (*session, "trying"),
        UaEvent::Provisional { session, .. } => (*session, "provisional"),
        UaEvent::Answered { session, .. } => (*session, "answered"),
        UaEvent::Failed { session, .. } => (*session, "failed"),
        UaEvent::Acked { session, .. } => (*session, "acked"),
        UaEvent::Cancelled { session, .. } => (*session, "cancelled"),
        UaEvent::Pracked { session, .. } => (*session, "pracked"),
        UaEvent::Reoffered { session, .. } => (*session, "reoffered"),
        UaEvent::ReofferAnswered { session, .. } => (*session, "reoffer-answered"),
        UaEvent::Refreshed { session, .. } => (*session, "refreshed"),
        UaEvent::Info { session, .. } => (*session, "info"),
        UaEvent::Ended { session, .. } => (*session, "ended"),
        UaEvent::ReferAnswered { session, .. } => (*session, "refer-answered"),
        UaEvent::ReferProgress { session, .. } => (*session, "refer-progress"),
        UaEvent::Referred { session, .. } => (*session, "referred"),
        UaEvent::Answer { .. } => (SessionId(0), "answer"),
        UaEvent::Request { .. } => (SessionId(0), "request"),
        UaEvent::Closed { session } => (*session, "closed"),
    }
}
