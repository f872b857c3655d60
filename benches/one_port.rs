//! Three ways to bring the datagrams of many browsers to the two threads that have their calls, by what each costs a datagram:
//! a port for each thread, one port and handing over what the other should have read, one port and a connected socket for each
//! browser. `docs/decisions/0021-one-port.md` has the figures. Run with `cargo bench --bench one_port`.
//!
//! What is counted is processor time: that of the threads that receive, and that of the sender in its system calls, for on
//! loopback the system finds the receiving socket there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::time::{ClockId, clock_gettime};
use ringback::net::{bind_udp, bind_udp_shared};
use socket2::{Domain, Protocol, Socket, Type};

const WORKERS: usize = 2;
/// Datagrams in one measurement, and measurements of each way, in turns.
const DATAGRAMS: usize = 60_000;
const ROUNDS: usize = 5;
/// A frame of Opus in SRTP.
const LENGTH: usize = 120;
const LONGEST: usize = 1_500;
const SLOTS: usize = 1_024;
const WAKER: Token = Token(usize::MAX);

#[derive(Clone, Copy, PartialEq)]
enum Way {
    PortEach,
    HandOver,
    Connected,
}

type Handed = (SocketAddr, usize, [u8; LONGEST]);

/// What a thread that receives has.
struct Worker {
    own: usize,
    poll: Poll,
    sockets: Vec<UdpSocket>,
    owners: HashMap<SocketAddr, usize>,
    inbox: Receiver<Handed>,
    others: Vec<(SyncSender<Handed>, Arc<Waker>)>,
    arrived: Arc<AtomicU64>,
    expected: Arc<AtomicU64>,
    sender: Thread,
    over: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self) -> Duration {
        let (mut events, mut buf) = (Events::with_capacity(1_024), [0; 2_048]);
        let begun = thread_time();
        while !self.over.load(Ordering::Acquire) {
            self.poll.poll(&mut events, None).unwrap();
            let mut waits = [false; WORKERS];
            while let Ok((_, len, bytes)) = self.inbox.try_recv() {
                self.arrive(&bytes[..len]);
            }
            for event in events.iter().filter(|event| event.token() != WAKER) {
                while let Ok((len, source)) = self.sockets[event.token().0].recv_from(&mut buf) {
                    match self.owners.get(&source) {
                        Some(owner) if *owner != self.own => {
                            let mut bytes = [0; LONGEST];
                            bytes[..len].copy_from_slice(&buf[..len]);
                            self.others[*owner].0.try_send((source, len, bytes)).unwrap();
                            waits[*owner] = true;
                        }
                        _ => self.arrive(&buf[..len]),
                    }
                }
            }
            for (_, (_, waker)) in waits.iter().zip(&self.others).filter(|(waits, _)| **waits) {
                waker.wake().unwrap();
            }
        }
        thread_time() - begun
    }

    fn arrive(&mut self, packet: &[u8]) {
        assert_eq!(std::hint::black_box(packet).len(), LENGTH);
        let arrived = self.arrived.fetch_add(1, Ordering::AcqRel) + 1;
        if arrived == self.expected.load(Ordering::Acquire) {
            self.sender.unpark();
        }
    }
}

fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// The sockets of each worker; `to` is where flow `n` sends.
fn sockets(way: Way, flows: &[SocketAddr]) -> (Vec<Vec<StdSocket>>, Vec<SocketAddr>) {
    if way == Way::PortEach {
        let sockets: Vec<_> = (0..WORKERS).map(|_| bind_udp(any(), Some(4 << 20)).unwrap()).collect();
        let to = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect::<Vec<_>>();
        return (sockets.into_iter().map(|socket| vec![socket]).collect(), to);
    }
    let shared = bind_udp_shared(any(), WORKERS, Some(4 << 20)).unwrap();
    let address = shared[0].local_addr().unwrap();
    let mut sockets: Vec<Vec<StdSocket>> = shared.into_iter().map(|socket| vec![socket]).collect();
    if way == Way::Connected {
        for (n, flow) in flows.iter().enumerate() {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.bind(&address.into()).unwrap();
            socket.connect(&(*flow).into()).unwrap();
            sockets[n % WORKERS].push(socket.into());
        }
    }
    (sockets, vec![address; WORKERS])
}

/// Processor time a datagram, in nanoseconds: of those who receive, and of the sender.
fn measure(way: Way, flows: usize) -> [f64; 2] {
    let senders: Vec<StdSocket> = (0..flows).map(|_| StdSocket::bind(any()).unwrap()).collect();
    let addresses: Vec<SocketAddr> = senders.iter().map(|socket| socket.local_addr().unwrap()).collect();
    let (sockets, to) = sockets(way, &addresses);
    let owners: HashMap<SocketAddr, usize> = addresses.iter().enumerate().map(|(n, at)| (*at, n % WORKERS)).collect();
    let [arrived, expected] = [0, 0].map(|n| Arc::new(AtomicU64::new(n)));
    let over = Arc::new(AtomicBool::new(false));
    let polls: Vec<Poll> = (0..WORKERS).map(|_| Poll::new().unwrap()).collect();
    let (inboxes, others): (Vec<_>, Vec<_>) = polls
        .iter()
        .map(|poll| {
            let (outbox, inbox) = sync_channel(SLOTS);
            (inbox, (outbox, Arc::new(Waker::new(poll.registry(), WAKER).unwrap())))
        })
        .unzip();
    let workers: Vec<JoinHandle<Duration>> = sockets
        .into_iter()
        .zip(polls)
        .zip(inboxes)
        .enumerate()
        .map(|(own, ((sockets, poll), inbox))| {
            let mut sockets: Vec<UdpSocket> = sockets.into_iter().map(UdpSocket::from_std).collect();
            for (n, socket) in sockets.iter_mut().enumerate() {
                poll.registry().register(socket, Token(n), Interest::READABLE).unwrap();
            }
            let (owners, others, sender) = (owners.clone(), others.clone(), thread::current());
            let (arrived, expected, over) = (arrived.clone(), expected.clone(), over.clone());
            let worker = Worker { own, poll, sockets, owners, inbox, others, arrived, expected, sender, over };
            thread::spawn(move || worker.run())
        })
        .collect();
    // What comes in a millisecond of so many calls of 50 packets a second is read in one turn.
    let (batch, mut sent, mut sending) = (flows / 20, 0, Duration::ZERO);
    while sent < DATAGRAMS {
        expected.store((sent + batch) as u64, Ordering::Release);
        let begun = thread_time();
        for n in sent..sent + batch {
            let flow = n % flows;
            senders[flow].send_to(&[0x80; LENGTH], to[flow % WORKERS]).unwrap();
        }
        sending += thread_time() - begun;
        sent += batch;
        while arrived.load(Ordering::Acquire) < sent as u64 {
            thread::park_timeout(Duration::from_millis(100));
        }
    }
    over.store(true, Ordering::Release);
    others.iter().for_each(|(_, waker)| waker.wake().unwrap());
    let receiving: Duration = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    [receiving, sending].map(|time| time.as_nanos() as f64 / sent as f64)
}

fn main() {
    println!("nanoseconds of processor time a datagram, medians of {ROUNDS}: who receives + who sends = together");
    for flows in [100, 200, 400] {
        let ways = [
            (Way::PortEach, "a port each"),
            (Way::HandOver, "one port, handed over"),
            (Way::Connected, "one port, connected"),
        ];
        let mut figures = vec![Vec::new(); ways.len()];
        for _ in 0..ROUNDS {
            for ((way, _), figures) in ways.iter().zip(&mut figures) {
                figures.push(measure(*way, flows));
            }
        }
        for ((_, name), mut figures) in ways.into_iter().zip(figures) {
            figures.sort_by(|a, b| (a[0] + a[1]).total_cmp(&(b[0] + b[1])));
            let [receiving, sending] = figures[ROUNDS / 2];
            println!("{flows:4} flows, {name:22} {receiving:6.0} + {sending:6.0} = {:6.0}", receiving + sending);
        }
    }
}
