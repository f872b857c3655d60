#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_types)]
//! Two workers that share a port: each browser's socket is tried until the worker that is wanted reads it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::handover::SLOTS;
use super::tests::{Fake, LIMIT, NO_FAULT, SLOT, check, media, peer, plan, receive, say_hello};
use super::*;
use crate::net::{PortPool, test_ports};

struct Crew {
    workers: Vec<WorkerHandle>,
    reports: Receiver<(u64, MediaReport)>,
    pool: PortPool,
    /// Where browsers of this machine send.
    to: SocketAddr,
    opened: u64,
}

impl Crew {
    fn new(bind: &str) -> Self {
        Self::with(bind, |_| {})
    }

    /// `opening` is called by a worker's thread that opens a call.
    fn with(bind: &str, opening: impl Fn(usize) + Clone + Send + 'static) -> Self {
        let (tell, reports) = channel();
        let spawn = |(index, seat): (usize, Seat)| {
            let config = WorkerConfig { max_calls: 8, local_only: false, cpu: None, name: format!("media-{index}") };
            let (tell, opening) = (tell.clone(), opening.clone());
            let tell: Reports = Box::new(move |call, report| drop(tell.send((call, report))));
            WorkerHandle::spawn_with(seat, config, tell, move |now, plan, seed| {
                opening(index);
                Fake::new(now, plan, seed)
            })
        };
        let seats = Seat::shared(bind.parse().unwrap(), 2).unwrap();
        let workers: Vec<_> = seats.into_iter().enumerate().map(|seat| spawn(seat).unwrap()).collect();
        let mut to = workers[0].browser_address();
        assert_eq!(workers[1].browser_address(), to);
        if to.ip().is_unspecified() {
            to.set_ip("127.0.0.1".parse().unwrap());
        }
        let pool = PortPool::new("127.0.0.1".parse().unwrap(), test_ports(20), Duration::ZERO);
        Self { workers, reports, pool, to, opened: 0 }
    }

    /// Opens a call on a worker; yields its number, its ufrag and the trunk's socket.
    fn open(&mut self, worker: usize) -> (u64, String, UdpSocket) {
        let trunk = peer("127.0.0.1:0");
        let pair = self.pool.lease(Instant::now()).unwrap();
        self.opened += 1;
        let call = self.opened;
        let ufrag = format!("{}call{call}", self.workers[worker].ufrag_mark());
        let plan = plan(&ufrag, trunk.local_addr().unwrap());
        self.workers[worker].open(call, vec![(SLOT, pair)], plan, [NO_FAULT; 32]).unwrap();
        (call, ufrag, trunk)
    }

    fn counted(&self, value: fn(&WorkerCounters) -> u64) -> [u64; 2] {
        [0, 1].map(|worker: usize| value(&self.workers[worker].counters()))
    }

    /// Waits until the workers have counted so much together.
    fn until(&self, value: fn(&WorkerCounters) -> u64, expected: u64) -> [u64; 2] {
        let end = Instant::now() + LIMIT;
        loop {
            let counted = self.counted(value);
            if counted.iter().sum::<u64>() >= expected {
                return counted;
            }
            assert!(Instant::now() < end, "{counted:?}, not {expected}");
            std::thread::yield_now();
        }
    }

    /// A browser's socket whose datagrams this worker reads: it shows by what it counts.
    fn browser_at(&self, reader: usize) -> UdpSocket {
        let bind = SocketAddr::new(self.to.ip(), 0).to_string();
        for _ in 0..64 {
            let socket = peer(&bind);
            let before = self.counted(|counters| counters.unroutable);
            socket.send_to(&media(b"who?"), self.to).unwrap();
            let after = self.until(|counters| counters.unroutable, before.iter().sum::<u64>() + 1);
            if after[reader] > before[reader] {
                return socket;
            }
        }
        panic!("the system gives worker {reader} nothing");
    }

    fn stop(self) {
        self.workers.into_iter().for_each(WorkerHandle::stop);
    }
}

/// Both hear each other, three times.
fn talk(browser: &UdpSocket, trunk: &UdpSocket, to: SocketAddr) {
    for n in 0..3 {
        browser.send_to(&media(&[n]), to).unwrap();
        let (heard, from) = receive(trunk);
        assert_eq!(heard, media(&[n]));
        trunk.send_to(&media(&[7, n]), from).unwrap();
        assert_eq!(receive(browser), (media(&[7, n]), to));
    }
}

#[test]
fn a_browser_reaches_its_call_whoever_reads_what_it_sends() {
    for bind in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
        let mut crew = Crew::new(bind);
        for (owner, reader) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (_, ufrag, trunk) = crew.open(owner);
            let browser = crew.browser_at(reader);
            let before = crew.counted(|counters| counters.handed_over);
            say_hello(&browser, crew.to, &ufrag);
            talk(&browser, &trunk, crew.to);
            let mut expected = before;
            expected[reader] += if owner == reader { 0 } else { 4 };
            assert_eq!(crew.counted(|counters| counters.handed_over), expected, "{bind}: {owner}, {reader}");
        }
        assert_eq!(crew.counted(|counters| counters.not_handed_over), [0, 0]);
        crew.stop();
    }
}

/// A NAT gives it another port, it comes by another network, it restarts ICE: each time another worker may read it.
#[test]
fn a_browser_moves_and_restarts() {
    let mut crew = Crew::new("127.0.0.1:0");
    let (call, ufrag, trunk) = crew.open(0);
    let (first, second, third) = (crew.browser_at(1), crew.browser_at(0), crew.browser_at(1));
    for browser in [&first, &second, &third, &first] {
        say_hello(browser, crew.to, &ufrag);
        talk(browser, &trunk, crew.to);
    }
    let restarted = format!("{}restarted", crew.workers[0].ufrag_mark());
    let plan = plan(&restarted, trunk.local_addr().unwrap());
    crew.workers[0].command(call, MediaCommand::Update(plan)).unwrap();
    for browser in [&second, &third] {
        say_hello(browser, crew.to, &restarted);
        talk(browser, &trunk, crew.to);
    }
    crew.stop();
}

#[test]
fn an_address_belongs_to_the_call_whose_check_has_passed_last() {
    let mut crew = Crew::new("127.0.0.1:0");
    let calls = [0, 1, 0].map(|owner| crew.open(owner));
    for reader in [0, 1] {
        let browser = crew.browser_at(reader);
        for (_, ufrag, trunk) in calls.iter().chain(&calls) {
            say_hello(&browser, crew.to, ufrag);
            talk(&browser, trunk, crew.to);
        }
    }
    crew.stop();
}

#[test]
fn strangers_reach_no_call_by_another_worker_either() {
    let mut crew = Crew::new("127.0.0.1:0");
    let (_, ufrag, trunk) = crew.open(0);
    let (stranger, browser) = (crew.browser_at(1), crew.browser_at(1));
    let before = crew.counted(|counters| counters.unroutable);
    let mark = crew.workers[0].ufrag_mark();
    // Named so, but there is no such call; marks that nobody has.
    for name in [format!("{mark}nobody"), "/nobody".to_owned(), "?nobody".to_owned()] {
        stranger.send_to(&check(&name, "good"), crew.to).unwrap();
    }
    let after = crew.until(|counters| counters.unroutable, before[0] + before[1] + 3);
    assert_eq!(after, [before[0] + 1, before[1] + 2]);
    // Answered by the call, but its address is not taken.
    stranger.send_to(&check(&ufrag, "bad!"), crew.to).unwrap();
    assert_eq!(receive(&stranger).0, b"checked");
    stranger.send_to(&media(b"still"), crew.to).unwrap();
    let after = crew.until(|counters| counters.unroutable, after[0] + after[1] + 1);
    assert_eq!(after, [before[0] + 1, before[1] + 3]);
    say_hello(&browser, crew.to, &ufrag);
    talk(&browser, &trunk, crew.to);
    crew.stop();
}

#[test]
fn a_call_that_has_ended_leaves_no_way_to_it() {
    let mut crew = Crew::new("127.0.0.1:0");
    let (call, ufrag, trunk) = crew.open(1);
    let browser = crew.browser_at(0);
    say_hello(&browser, crew.to, &ufrag);
    talk(&browser, &trunk, crew.to);
    crew.workers[1].command(call, MediaCommand::Stop).unwrap();
    let (stopped, report) = crew.reports.recv_timeout(LIMIT).unwrap();
    assert!(stopped == call && matches!(report, MediaReport::Stopped(_)), "{report:?}");
    let before = crew.counted(|counters| counters.unroutable);
    let handed = crew.counted(|counters| counters.handed_over);
    browser.send_to(&media(b"late"), crew.to).unwrap();
    let after = crew.until(|counters| counters.unroutable, before[0] + before[1] + 1);
    assert_eq!((after, crew.counted(|counters| counters.handed_over)), ([before[0] + 1, before[1]], handed));
    crew.stop();
}

/// A thread that hangs: what is for its calls is dropped and counted when there is no room, and the other's calls go on.
#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let ((go_on, gate), (entered, hangs)) = (channel::<()>(), channel());
    let gate = Arc::new(std::sync::Mutex::new(gate));
    let mut crew = Crew::with("127.0.0.1:0", move |worker| {
        if worker == 1 {
            let _ = entered.send(());
            gate.lock().unwrap().recv().unwrap_or_default();
        }
    });
    let (sender, browser) = (crew.browser_at(0), crew.browser_at(0));
    let (_, ufrag, trunk) = crew.open(1);
    hangs.recv_timeout(LIMIT).unwrap();
    for sent in 1..=SLOTS as u64 + 50 {
        sender.send_to(&check(&ufrag, "bad!"), crew.to).unwrap();
        if sent % 16 == 0 || sent > SLOTS as u64 {
            crew.until(|counters| counters.handed_over + counters.not_handed_over, sent);
        }
    }
    assert_eq!(crew.counted(|counters| counters.handed_over), [SLOTS as u64, 0]);
    assert_eq!(crew.counted(|counters| counters.not_handed_over), [50, 0]);
    let (_, others, its_trunk) = crew.open(0);
    say_hello(&browser, crew.to, &others);
    talk(&browser, &its_trunk, crew.to);
    drop(go_on);
    // There is room again once one was answered.
    assert_eq!(receive(&sender).0, b"checked");
    say_hello(&browser, crew.to, &ufrag);
    talk(&browser, &trunk, crew.to);
    crew.stop();
}
