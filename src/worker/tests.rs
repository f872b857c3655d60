#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! A worker on loopback sockets, with a stand-in for the bridge that forwards bytes and can fail. Every wait is a
//! blocking receive with a limit.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::time::{Duration, Instant};

use mio::Poll;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::engine::{GATHER, MANY_CALLS, events};
use super::step::Step;
use super::*;
use crate::codec::Codec;
use crate::media::{Port, Transmit};
use crate::net::{PortPool, bind_udp, test_ports};
use crate::sdp::{AcceptedCodec, Hears, LegMedia, LegPlan, MediaStats, RtpMedia, Side};
use crate::webrtc::test_browser;

pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// Forwards between the last known browser and the trunk. A seed's first byte says how it misbehaves.
pub(super) struct Fake {
    trunk: SocketAddr,
    fault: u8,
    known: Vec<SocketAddr>,
    out: VecDeque<(Port, SocketAddr, Vec<u8>)>,
    reports: VecDeque<MediaReport>,
    tick: Option<Instant>,
    stats: MediaStats,
    effort: Effort,
    /// Time, where it is virtual: how long after its start it is.
    time: Option<Arc<AtomicU64>>,
}

pub(super) const SLOT: RtpSlot = RtpSlot(0);
pub(super) const NO_FAULT: u8 = 0;
const FAILS_TO_OPEN: u8 = 1;
const PANICS_AT_OPENING: u8 = 2;
const TICKS: u8 = 3;
const TICKS_THEN_PANICS: u8 = 4;
const TICKS_SLOWLY: u8 = 5;

/// What a step of a call that [`TICKS_SLOWLY`] takes, in virtual time, while it makes its full effort.
const SLOW: Duration = Duration::from_millis(3);

fn remote(plan: &MediaPlan) -> Option<SocketAddr> {
    plan.b.as_ref()?.media.rtp()?.remote_rtp
}

impl Fake {
    pub(super) fn new(now: Instant, plan: MediaPlan, seed: [u8; 32]) -> Option<Self> {
        let fault = seed[0];
        assert!(fault != PANICS_AT_OPENING, "a fault on purpose");
        Some(Self {
            trunk: remote(&plan)?,
            fault,
            known: Vec::new(),
            out: VecDeque::new(),
            reports: VecDeque::new(),
            tick: (fault >= TICKS).then_some(now + Duration::from_millis(5)),
            stats: MediaStats::default(),
            effort: Effort::default(),
            time: None,
        })
        .filter(|_| fault != FAILS_TO_OPEN)
    }
}

impl Step for Fake {
    fn update(&mut self, _: Instant, plan: MediaPlan) {
        self.trunk = remote(&plan).unwrap();
        self.reports.push_back(MediaReport::FirstRtp(Side::A));
    }

    fn send_digits(&mut self, _: Instant, _: Side, digits: &str, _: u16) {
        self.out.push_back((Port::Rtp(SLOT), self.trunk, digits.as_bytes().to_vec()));
    }

    fn set_effort(&mut self, effort: Effort) {
        self.effort = effort;
    }

    fn handle_datagram(&mut self, _: Instant, port: Port, source: SocketAddr, packet: &mut [u8]) {
        assert!(!packet.ends_with(b"panic"), "a fault on purpose");
        match port {
            Port::Browser if packet[0] < 2 => {
                if packet.ends_with(b"good") {
                    self.known.push(source);
                }
                self.out.push_back((Port::Browser, source, b"checked".to_vec()));
            }
            Port::Browser => {
                self.stats.a.packets_in += 1;
                self.out.push_back((Port::Rtp(SLOT), self.trunk, packet.to_vec()));
            }
            Port::Rtp(_) => {
                let to = *self.known.last().unwrap();
                self.out.push_back((Port::Browser, to, packet.to_vec()));
            }
            Port::Rtcp(slot) => self.out.push_back((Port::Rtcp(slot), source, packet.to_vec())),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.stats.b.packets_out += 1;
        let slow = self.fault == TICKS_SLOWLY && self.effort == Effort::Full;
        if let Some(time) = self.time.as_ref().filter(|_| slow) {
            time.fetch_add(SLOW.as_micros() as u64, Ordering::Relaxed);
        }
        assert!(self.fault != TICKS_THEN_PANICS || self.stats.b.packets_out < 3, "a fault on purpose");
        self.out.push_back((Port::Rtp(SLOT), self.trunk, b"tick".to_vec()));
        self.tick = Some(now + Duration::from_millis(5));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.tick
    }

    fn poll_transmit(&mut self, buf: &mut [u8]) -> Option<Transmit> {
        let (port, to, bytes) = self.out.pop_front()?;
        buf[..bytes.len()].copy_from_slice(&bytes);
        Some(Transmit { port, to, len: bytes.len() })
    }

    fn poll_report(&mut self) -> Option<MediaReport> {
        self.reports.pop_front()
    }

    fn stats(&self) -> MediaStats {
        self.stats
    }

    fn knows_browser(&self, source: SocketAddr) -> bool {
        self.known.contains(&source)
    }

    fn close(&mut self, _: Instant) {
        self.out.push_back((Port::Rtp(SLOT), self.trunk, b"bye".to_vec()));
    }
}

/// A worker, its reports, and the ports of its calls.
struct Bench {
    worker: WorkerHandle,
    reports: Receiver<(u64, MediaReport)>,
    pool: PortPool,
}

impl Bench {
    fn new(bind: &str, pairs: u16) -> Self {
        Self::with(bind, pairs, false)
    }

    fn with(bind: &str, pairs: u16, local_only: bool) -> Self {
        Self::of(4, bind, pairs, local_only)
    }

    fn of(max_calls: usize, bind: &str, pairs: u16, local_only: bool) -> Self {
        let seat = Seat::alone(bind.parse().unwrap()).unwrap();
        let config = WorkerConfig { max_calls, local_only, cpu: None, name: "media-test".into() };
        let (tell, reports) = channel();
        let tell: Reports = Box::new(move |call, report| drop(tell.send((call, report))));
        let worker = WorkerHandle::spawn_with(seat, config, tell, Fake::new).unwrap();
        let pool = PortPool::new("127.0.0.1".parse().unwrap(), test_ports(pairs), Duration::ZERO);
        Self { worker, reports, pool }
    }

    /// Opens a call whose browser checks as `name`; yields its RTP port and the trunk's socket.
    fn open(&mut self, call: u64, name: &str, fault: u8) -> (u16, UdpSocket) {
        let trunk = peer("127.0.0.1:0");
        let pair = self.pool.lease(Instant::now()).unwrap();
        let port = pair.port;
        self.worker.open(call, vec![(SLOT, pair)], plan(name, trunk.local_addr().unwrap()), [fault; 32]).unwrap();
        (port, trunk)
    }

    fn report(&self) -> (u64, MediaReport) {
        self.reports.recv_timeout(LIMIT).unwrap()
    }
}

pub(super) fn seat() -> Seat {
    Seat::alone("127.0.0.1:0".parse().unwrap()).unwrap()
}

pub(super) fn peer(bind: &str) -> UdpSocket {
    let socket = UdpSocket::bind(bind).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

pub(super) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buf = [0; 2000];
    let (len, from) = socket.recv_from(&mut buf).unwrap();
    (buf[..len].to_vec(), from)
}

pub(super) fn plan(ufrag: &str, trunk: SocketAddr) -> MediaPlan {
    let pcmu = AcceptedCodec { payload_type: 0, codec: Codec::Pcmu };
    let leg = |media| Some(LegPlan { media, hears: Hears::Peer });
    let browser = LegMedia::Browser(test_browser::media_named(ufrag));
    MediaPlan { a: leg(browser), b: leg(LegMedia::Rtp(RtpMedia::new(trunk, pcmu, 1))) }
}

/// A STUN Binding request to the call `ufrag` that ends with `tail`, as far as routing looks.
pub(super) fn check(ufrag: &str, tail: &str) -> Vec<u8> {
    let name = format!("{ufrag}:x");
    let mut out = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    out.extend([5; 12]);
    for (kind, value) in [(6u16, name.as_bytes()), (0xC001, tail.as_bytes())] {
        out.extend(kind.to_be_bytes().into_iter().chain((value.len() as u16).to_be_bytes()));
        out.extend(value);
        if kind == 6 {
            out.resize(out.len().next_multiple_of(4), 0);
        }
    }
    assert_eq!(out.len() % 4, 0, "the tail fills its words");
    let length = (out.len() - 20) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
    out
}

pub(super) fn media(tail: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80; 12];
    out.extend(tail);
    out
}

/// Makes the browser's address known and hears the answer.
pub(super) fn say_hello(browser: &UdpSocket, to: SocketAddr, ufrag: &str) {
    browser.send_to(&check(ufrag, "good"), to).unwrap();
    assert_eq!(receive(browser).0, b"checked");
}

#[test]
fn each_browser_reaches_its_own_trunk_and_back() {
    few_or_many_calls(3);
}

/// So many that what comes is gathered between the turns.
#[test]
fn each_of_many_browsers_reaches_its_own_trunk_and_back() {
    few_or_many_calls(MANY_CALLS + 2);
}

fn few_or_many_calls(calls: usize) {
    let mut bench = Bench::of(calls, "127.0.0.1:0", 20, false);
    let to = bench.worker.browser_address();
    let calls: Vec<_> = (0..calls as u64)
        .map(|n| {
            let name = format!("call{n}");
            let (port, trunk) = bench.open(n, &name, NO_FAULT);
            let browser = peer("127.0.0.1:0");
            say_hello(&browser, to, &name);
            (n, port, trunk, browser)
        })
        .collect();
    assert_eq!(bench.worker.calls(), calls.len());
    for (n, port, trunk, browser) in &calls {
        browser.send_to(&media(&[*n as u8]), to).unwrap();
        let (heard, from) = receive(trunk);
        assert_eq!((heard, from.port()), (media(&[*n as u8]), *port));
        trunk.send_to(&media(&[7, *n as u8]), from).unwrap();
        assert_eq!(receive(browser), (media(&[7, *n as u8]), to));
        trunk.send_to(b"report", ("127.0.0.1", port + 1)).unwrap();
        assert_eq!(receive(trunk), (b"report".to_vec(), SocketAddr::from(([127, 0, 0, 1], port + 1))));
        bench.worker.command(*n, MediaCommand::Digits { to: Side::B, digits: "12".into(), ms: 100 }).unwrap();
        assert_eq!(receive(trunk).0, b"12");
    }
    bench.worker.stop();
}

#[test]
fn strangers_and_unchecked_addresses_reach_no_call() {
    let mut bench = Bench::new("127.0.0.1:0", 5);
    let to = bench.worker.browser_address();
    let (_, trunk) = bench.open(1, "call", NO_FAULT);
    let (stranger, browser) = (peer("127.0.0.1:0"), peer("127.0.0.1:0"));
    stranger.send_to(&media(b"early"), to).unwrap();
    stranger.send_to(&check("other", "good"), to).unwrap();
    stranger.send_to(&check("call", "bad!"), to).unwrap(); // answered by the call, but its address is not taken
    assert_eq!(receive(&stranger).0, b"checked");
    stranger.send_to(&media(b"still"), to).unwrap();
    say_hello(&browser, to, "call");
    browser.send_to(&media(b"heard"), to).unwrap();
    assert_eq!(receive(&trunk).0, media(b"heard"));
    assert_eq!(bench.worker.counters(), WorkerCounters { unroutable: 3, ..Default::default() });
    bench.worker.stop();
}

#[test]
fn a_stopped_call_gives_its_ports_back_before_it_says_so() {
    let mut bench = Bench::new("127.0.0.1:0", 1);
    let to = bench.worker.browser_address();
    for round in 0..20 {
        let (port, trunk) = bench.open(round, "call", NO_FAULT);
        let browser = peer("127.0.0.1:0");
        say_hello(&browser, to, "call");
        browser.send_to(&media(b"hello"), to).unwrap();
        assert_eq!(receive(&trunk).0, media(b"hello"));
        bench.worker.command(round, MediaCommand::Stop).unwrap();
        assert_eq!(receive(&trunk).0, b"bye");
        let (call, report) = bench.report();
        let MediaReport::Stopped(stats) = report else { panic!("{report:?}") };
        assert_eq!((call, stats.a.packets_in), (round, 1));
        assert_eq!(bench.worker.calls(), 0);
        // The one pair of the pool can be bound at once.
        bench.pool.release(Instant::now(), port);
    }
    bench.worker.command(99, MediaCommand::Stop).unwrap();
    assert_eq!(bench.report(), (99, MediaReport::Stopped(MediaStats::default())));
    bench.worker.stop();
}

#[test]
fn a_panic_ends_its_own_call_only() {
    let mut bench = Bench::new("127.0.0.1:0", 10);
    let to = bench.worker.browser_address();
    let (bad_port, _) = bench.open(1, "bad1", NO_FAULT);
    let (_, trunk) = bench.open(2, "good", NO_FAULT);
    let (bad, good) = (peer("127.0.0.1:0"), peer("127.0.0.1:0"));
    say_hello(&bad, to, "bad1");
    say_hello(&good, to, "good");
    bad.send_to(&media(b"panic"), to).unwrap();
    assert_eq!(bench.report(), (1, MediaReport::Failed));
    assert!(bind_udp(SocketAddr::from(([127, 0, 0, 1], bad_port)), None).is_ok(), "its sockets are closed");
    bench.worker.command(1, MediaCommand::Update(plan("bad1", to))).unwrap();
    bench.worker.command(1, MediaCommand::Stop).unwrap();
    assert!(matches!(bench.report(), (1, MediaReport::Stopped(_))));

    for (call, fault) in [(3, FAILS_TO_OPEN), (4, PANICS_AT_OPENING), (5, TICKS_THEN_PANICS)] {
        bench.open(call, "more", fault);
        assert_eq!(bench.report(), (call, MediaReport::Failed));
        bench.worker.command(call, MediaCommand::Stop).unwrap();
        assert!(matches!(bench.report(), (stopped, MediaReport::Stopped(_)) if stopped == call));
    }
    good.send_to(&media(b"alive"), to).unwrap();
    assert_eq!(receive(&trunk).0, media(b"alive"));
    assert_eq!((bench.worker.counters().panics, bench.worker.calls()), (4, 1));
    bench.worker.stop();
}

#[test]
fn timers_come_up_while_nothing_is_received() {
    let mut bench = Bench::new("127.0.0.1:0", 2);
    let (_, first) = bench.open(1, "one1", TICKS);
    let (_, second) = bench.open(2, "two2", TICKS);
    for _ in 0..20 {
        assert_eq!(receive(&first).0, b"tick");
        assert_eq!(receive(&second).0, b"tick");
    }
    bench.worker.stop();
}

#[test]
fn a_burst_is_taken_whole_and_in_order() {
    let mut bench = Bench::new("127.0.0.1:0", 1);
    let to = bench.worker.browser_address();
    let (_, trunk) = bench.open(1, "call", NO_FAULT);
    let browser = peer("127.0.0.1:0");
    say_hello(&browser, to, "call");
    for n in 0..250u8 {
        browser.send_to(&media(&[n]), to).unwrap();
    }
    for n in 0..250u8 {
        assert_eq!(receive(&trunk).0, media(&[n]));
    }
    bench.worker.stop();
}

#[test]
fn one_port_serves_ipv4_and_ipv6() {
    let mut bench = Bench::new("[::]:0", 2);
    let port = bench.worker.browser_address().port();
    for (call, name, bind, to) in [(1, "four", "127.0.0.1:0", "127.0.0.1"), (2, "six6", "[::1]:0", "::1")] {
        let (_, trunk) = bench.open(call, name, NO_FAULT);
        let browser = peer(bind);
        let to = SocketAddr::new(to.parse().unwrap(), port);
        say_hello(&browser, to, name);
        browser.send_to(&media(name.as_bytes()), to).unwrap();
        let (heard, from) = receive(&trunk);
        assert_eq!(heard, media(name.as_bytes()));
        trunk.send_to(&media(b"back"), from).unwrap();
        assert_eq!(receive(&browser), (media(b"back"), to));
    }
    bench.worker.stop();
}

#[test]
fn a_local_worker_serves_each_address_of_this_machine() {
    let mut bench = Bench::with("0.0.0.0:0", 4, true);
    let port = bench.worker.browser_address().port();
    let own = crate::net::interface_addresses().into_iter().find(|ip| ip.is_ipv4());
    let addresses = [Some("127.0.0.1".parse().unwrap()), own];
    for (call, ip) in addresses.into_iter().flatten().enumerate() {
        let name = format!("call{call}");
        let (_, trunk) = bench.open(call as u64, &name, NO_FAULT);
        let browser = peer(&SocketAddr::new(ip, 0).to_string());
        say_hello(&browser, SocketAddr::new(ip, port), &name);
        browser.send_to(&media(b"hello"), SocketAddr::new(ip, port)).unwrap();
        assert_eq!(receive(&trunk).0, media(b"hello"));
    }
    assert_eq!(bench.worker.counters().unroutable, 0);
    bench.worker.stop();
}

#[test]
fn more_calls_than_agreed_are_refused_and_stop_ends_those_that_are() {
    let mut bench = Bench::new("127.0.0.1:0", 10);
    let ports: Vec<u16> = (0..4).map(|call| bench.open(call, &format!("cal{call}"), NO_FAULT).0).collect();
    let pair = bench.pool.lease(Instant::now()).unwrap();
    assert_eq!(bench.worker.open(9, vec![(SLOT, pair)], MediaPlan::default(), [0; 32]), Err(WorkerBusy));
    assert_eq!(bench.worker.calls(), 4);
    bench.worker.command(2, MediaCommand::Update(plan("new2", bench.worker.browser_address()))).unwrap();
    assert_eq!(bench.report(), (2, MediaReport::FirstRtp(Side::A)));
    bench.worker.stop();
    let mut ended: Vec<u64> = bench.reports.iter().map(|(call, _)| call).collect();
    ended.sort_unstable();
    assert_eq!(ended, [0, 1, 2, 3]);
    for port in ports {
        assert!(bind_udp(SocketAddr::from(([127, 0, 0, 1], port)), None).is_ok());
    }
}

/// A thread that hangs refuses commands, but it has room for the Stop of each call: no call keeps its sockets.
#[test]
fn a_full_channel_has_room_for_the_stop_of_each_call() {
    let ((go_on, gate), (entered, hangs)) = (channel::<()>(), channel());
    let (tell, reports) = channel();
    let config = WorkerConfig { max_calls: 4, local_only: false, cpu: None, name: "media-test".into() };
    let tell: Reports = Box::new(move |call, report| drop(tell.send((call, report))));
    let worker = WorkerHandle::spawn_with(seat(), config, tell, move |now, plan, seed| {
        let _ = entered.send(());
        gate.recv().unwrap_or_default();
        Fake::new(now, plan, seed)
    })
    .unwrap();
    let mut pool = PortPool::new("127.0.0.1".parse().unwrap(), test_ports(8), Duration::ZERO);
    for call in 0..4 {
        let pair = pool.lease(Instant::now()).unwrap();
        worker
            .open(call, vec![(SLOT, pair)], plan(&format!("cal{call}"), worker.browser_address()), [NO_FAULT; 32])
            .unwrap();
    }
    hangs.recv_timeout(LIMIT).unwrap();
    let digits = || MediaCommand::Digits { to: Side::B, digits: "1".into(), ms: 100 };
    let taken = (0..1_000).take_while(|_| worker.command(0, digits()).is_ok()).count();
    assert_eq!(taken, 73);
    for call in 0..4 {
        assert_eq!(worker.command(call, MediaCommand::Stop), Ok(()));
    }
    assert_eq!(worker.command(0, digits()), Err(WorkerBusy));
    drop(go_on);
    for call in 0..4 {
        let (id, report) = reports.recv_timeout(LIMIT).unwrap();
        assert!(id == call && matches!(report, MediaReport::Stopped(_)), "{report:?}");
    }
    assert_eq!(worker.command(0, digits()), Ok(()));
    worker.stop();
}

#[test]
fn a_browser_port_in_use_is_said_with_its_address() {
    let taken = peer("127.0.0.1:0");
    let address = taken.local_addr().unwrap();
    for workers in [1, 2] {
        let error = Seat::shared(address, workers).unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}

/// A worker in virtual time, whose turns the test takes: the thread's other half, without the thread.
struct ByHand {
    engine: Engine<Fake>,
    browsers: SocketAddr,
    commands: SyncSender<Command>,
    shared: Arc<Shared>,
    time: Arc<AtomicU64>,
    /// How often the time was asked for.
    asked: Arc<AtomicUsize>,
    opened: u64,
}

impl ByHand {
    fn new() -> Self {
        let (time, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let (of_clock, of_calls) = (time.clone(), time.clone());
        let asked = Arc::new(AtomicUsize::new(0));
        let asking = asked.clone();
        let clock = move || {
            asking.fetch_add(1, Ordering::Relaxed);
            start + Duration::from_micros(of_clock.load(Ordering::Relaxed))
        };
        let make =
            move |now, plan, seed| Fake::new(now, plan, seed).map(|fake| Fake { time: Some(of_calls.clone()), ..fake });
        let (commands, queue) = sync_channel(16);
        let shared = Arc::new(Shared::default());
        let socket = bind_udp("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let browsers = socket.local_addr().unwrap();
        let engine = Engine::new(
            Poll::new().unwrap(),
            socket,
            queue,
            Box::new(make),
            Box::new(|_, _| {}),
            shared.clone(),
            engine::Setup { max_calls: 16, local_only: false, clock: Box::new(clock), handover: None },
        );
        Self { engine: engine.unwrap(), browsers, commands, shared, time, asked, opened: 0 }
    }

    /// Opens so many calls more in the next turn.
    fn open(&mut self, calls: usize, fault: u8) {
        for _ in 0..calls {
            let call = self.opened;
            self.opened += 1;
            self.shared.waiting.fetch_add(1, Ordering::Relaxed);
            let plan = Box::new(plan(&format!("cal{call}"), "127.0.0.1:9".parse().unwrap()));
            self.commands.send(Command::Open { call, pairs: Vec::new(), plan, seed: [fault; 32] }).unwrap();
        }
    }

    fn pass(&self, time: Duration) {
        self.time.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }
}

#[test]
fn a_call_served_last_in_its_turn_is_late_by_all_of_the_turn() {
    let mut worker = ByHand::new();
    worker.open(3, TICKS_SLOWLY);
    worker.engine.work();
    assert_eq!(worker.shared.late.read().count(), 0, "nothing was due");
    // All are due after 5 ms and are served after 6: the last of them is done 9 ms later.
    worker.pass(Duration::from_millis(6));
    worker.engine.work();
    let late = worker.shared.late.read();
    assert_eq!((late.count(), late.counts[3], late.sum), (3, 3, Duration::from_millis(3 * (1 + 9))));
}

#[test]
fn a_turn_asks_for_the_time_once_when_it_begins_and_once_when_it_is_over_whatever_it_does() {
    let mut worker = ByHand::new();
    worker.open(3, TICKS_SLOWLY);
    worker.engine.work();
    worker.pass(Duration::from_millis(6));
    let stranger = peer("127.0.0.1:0");
    for _ in 0..40 {
        stranger.send_to(&media(b"who?"), worker.browsers).unwrap();
    }
    let before = worker.asked.load(Ordering::Relaxed);
    assert!(worker.engine.turn(&mut events()));
    assert_eq!(worker.asked.load(Ordering::Relaxed) - before, 2);
    assert_eq!((worker.shared.unroutable.load(Ordering::Relaxed), worker.shared.late.read().count()), (40, 3));
}

#[test]
fn what_comes_for_many_calls_is_gathered_and_what_comes_for_few_is_not() {
    let mut worker = ByHand::new();
    worker.open(MANY_CALLS - 1, NO_FAULT);
    worker.engine.work();
    assert_eq!(worker.engine.rest(), Duration::ZERO);
    worker.open(1, NO_FAULT);
    worker.engine.work();
    assert_eq!(worker.engine.rest(), GATHER);
    // What a turn takes is of that time: one that was long is followed by the next at once.
    let mut worker = ByHand::new();
    worker.open(MANY_CALLS, TICKS_SLOWLY);
    worker.engine.work();
    worker.pass(Duration::from_millis(6));
    worker.engine.work();
    assert_eq!(worker.engine.rest(), Duration::ZERO);
}

/// All calls are told, those that come later too; and when there are none left it takes some again.
#[test]
fn a_worker_that_is_late_makes_its_calls_cheaper_and_takes_no_more_until_it_is_calm() {
    let mut worker = ByHand::new();
    worker.shared.busy_at.store(85, Ordering::Relaxed);
    let pass = |worker: &mut ByHand, until: Duration| {
        while Duration::from_micros(worker.time.load(Ordering::Relaxed)) < until {
            worker.pass(Duration::from_millis(5));
            worker.engine.work();
        }
        let effort = worker.shared.effort.load(Ordering::Relaxed);
        (effort, worker.shared.busy.load(Ordering::Relaxed))
    };
    worker.open(8, TICKS_SLOWLY);
    // A turn takes 24 ms.
    assert_eq!(pass(&mut worker, Duration::from_millis(1_900)), (Effort::Full as u8, false));
    assert_eq!(pass(&mut worker, Duration::from_millis(2_200)), (Effort::Less as u8, true));
    // They are quick now, one that is opened among them.
    worker.open(1, TICKS_SLOWLY);
    worker.engine.work();
    let counts = worker.shared.late.read().counts;
    assert_eq!(pass(&mut worker, Duration::from_secs(6)), (Effort::Less as u8, true));
    assert_eq!(pass(&mut worker, Duration::from_secs(9)), (Effort::Less as u8, false));
    assert_eq!(worker.shared.late.read().counts[4..], counts[4..], "nobody was late");
    for call in 0..9 {
        let command = Command::Media { call, command: Box::new(MediaCommand::Stop) };
        worker.commands.send(command).unwrap();
    }
    assert_eq!(pass(&mut worker, Duration::from_secs(14)), (Effort::Full as u8, false));
}

#[test]
fn a_thread_runs_on_the_processor_that_it_is_kept_to() {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpus = || (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap());
    let last = cpus().next_back().unwrap();
    for cpu in [Some(last), None] {
        let (tell, told) = sync_channel(1);
        let make = move |now, plan, seed| {
            let _ = tell.send(sched_getaffinity(Pid::from_raw(0)).unwrap());
            Fake::new(now, plan, seed)
        };
        let config = WorkerConfig { max_calls: 1, local_only: false, cpu, name: "media-test".into() };
        let worker = WorkerHandle::spawn_with(seat(), config, Box::new(|_, _| {}), make).unwrap();
        worker.open(1, Vec::new(), plan("call", worker.browser_address()), [NO_FAULT; 32]).unwrap();
        let runs_on = told.recv_timeout(LIMIT).unwrap();
        let expected: Vec<usize> = cpu.map_or_else(|| cpus().collect(), |cpu| vec![cpu]);
        assert_eq!((0..CpuSet::count()).filter(|cpu| runs_on.is_set(*cpu).unwrap()).collect::<Vec<_>>(), expected);
        worker.stop();
    }
}

#[test]
fn a_processor_that_there_is_not_is_said_with_its_number() {
    for cpu in [CpuSet::count() - 1, CpuSet::count()] {
        let config = WorkerConfig { max_calls: 1, local_only: false, cpu: Some(cpu), name: "media-test".into() };
        let error = WorkerHandle::spawn_with(seat(), config, Box::new(|_, _| {}), Fake::new).unwrap_err();
        assert!(error.to_string().contains(&format!("processor {cpu}:")), "{error}");
    }
}

/// By a reload: the calls that stand go on, the order of commands is kept, and there is room for more.
#[test]
fn a_worker_takes_more_calls_than_it_was_made_for() {
    let mut bench = Bench::new("127.0.0.1:0", 8);
    let mut trunks: Vec<_> = (0..4).map(|call| bench.open(call, &format!("old{call}"), NO_FAULT)).collect();
    let pair = bench.pool.lease(Instant::now()).unwrap();
    let to = bench.worker.browser_address();
    assert_eq!(bench.worker.open(4, vec![(SLOT, pair)], plan("more", to), [NO_FAULT; 32]), Err(WorkerBusy));
    bench.worker.make_room(6).unwrap();
    bench.worker.make_room(2).unwrap();
    trunks.extend((4..6).map(|call| bench.open(call, &format!("new{call}"), NO_FAULT)));
    let pair = bench.pool.lease(Instant::now()).unwrap();
    assert_eq!(bench.worker.open(6, vec![(SLOT, pair)], plan("much", to), [NO_FAULT; 32]), Err(WorkerBusy));
    for call in 0..6 {
        assert_eq!(bench.worker.command(call, MediaCommand::Stop), Ok(()));
        let (id, report) = bench.report();
        assert!(id == call && matches!(report, MediaReport::Stopped(_)), "{report:?}");
    }
    assert_eq!((bench.worker.calls(), bench.worker.waiting()), (0, 0));
    bench.worker.stop();
}
