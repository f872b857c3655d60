#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! A worker on loopback sockets, with a stand-in for the bridge that forwards bytes and can fail. Every wait is a
//! blocking receive with a limit.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::step::Step;
use super::*;
use crate::codec::Codec;
use crate::media::{Port, Transmit};
use crate::net::{PortPool, bind_udp, test_ports};
use crate::sdp::{AcceptedCodec, Hears, LegMedia, LegPlan, MediaStats, RtpMedia, Side};
use crate::webrtc::test_browser;

const LIMIT: Duration = Duration::from_secs(10);

/// Forwards between the last known browser and the trunk. A seed's first byte says how it misbehaves.
struct Fake {
    trunk: SocketAddr,
    fault: u8,
    known: Vec<SocketAddr>,
    out: VecDeque<(Port, SocketAddr, Vec<u8>)>,
    reports: VecDeque<MediaReport>,
    tick: Option<Instant>,
    stats: MediaStats,
}

const SLOT: RtpSlot = RtpSlot(0);
const NO_FAULT: u8 = 0;
const FAILS_TO_OPEN: u8 = 1;
const PANICS_AT_OPENING: u8 = 2;
const TICKS: u8 = 3;
const TICKS_THEN_PANICS: u8 = 4;

fn remote(plan: &MediaPlan) -> Option<SocketAddr> {
    plan.b.as_ref()?.media.rtp()?.remote_rtp
}

impl Fake {
    fn new(now: Instant, plan: MediaPlan, seed: [u8; 32]) -> Option<Self> {
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
        let browser_bind = bind.parse().unwrap();
        let config = WorkerConfig { browser_bind, max_calls: 4, local_only, name: "media-test".into() };
        let (tell, reports) = channel();
        let tell: Reports = Box::new(move |call, report| drop(tell.send((call, report))));
        let worker = WorkerHandle::spawn_with(config, tell, Fake::new).unwrap();
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

fn peer(bind: &str) -> UdpSocket {
    let socket = UdpSocket::bind(bind).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buf = [0; 2000];
    let (len, from) = socket.recv_from(&mut buf).unwrap();
    (buf[..len].to_vec(), from)
}

fn plan(ufrag: &str, trunk: SocketAddr) -> MediaPlan {
    let pcmu = AcceptedCodec { payload_type: 0, codec: Codec::Pcmu };
    let leg = |media| Some(LegPlan { media, hears: Hears::Peer });
    let browser = LegMedia::Browser(test_browser::media_named(ufrag));
    MediaPlan { a: leg(browser), b: leg(LegMedia::Rtp(RtpMedia::new(trunk, pcmu, 1))) }
}

/// A STUN Binding request to the call `ufrag` that ends with `tail`, as far as routing looks.
fn check(ufrag: &str, tail: &str) -> Vec<u8> {
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

fn media(tail: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80; 12];
    out.extend(tail);
    out
}

/// Makes the browser's address known and hears the answer.
fn say_hello(browser: &UdpSocket, to: SocketAddr, ufrag: &str) {
    browser.send_to(&check(ufrag, "good"), to).unwrap();
    assert_eq!(receive(browser).0, b"checked");
}

#[test]
fn each_browser_reaches_its_own_trunk_and_back() {
    let mut bench = Bench::new("127.0.0.1:0", 10);
    let to = bench.worker.browser_address();
    let calls: Vec<_> = (0..3u64)
        .map(|n| {
            let name = format!("call{n}");
            let (port, trunk) = bench.open(n, &name, NO_FAULT);
            let browser = peer("127.0.0.1:0");
            say_hello(&browser, to, &name);
            (n, port, trunk, browser)
        })
        .collect();
    assert_eq!(bench.worker.calls(), 3);
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
    let config = WorkerConfig {
        browser_bind: "127.0.0.1:0".parse().unwrap(),
        max_calls: 4,
        local_only: false,
        name: "media-test".into(),
    };
    let tell: Reports = Box::new(move |call, report| drop(tell.send((call, report))));
    let worker = WorkerHandle::spawn_with(config, tell, move |now, plan, seed| {
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
    let config = WorkerConfig { browser_bind: address, max_calls: 1, local_only: false, name: "media-test".into() };
    let error = WorkerHandle::spawn_with(config, Box::new(|_, _| {}), Fake::new).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
