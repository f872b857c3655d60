//! The thread that gives the phone its sockets and its clock.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::oneshot;

use super::canary::Canary;
use super::phone::{CallId, Output, Phone, PhoneConfig};

/// Where the phone is, and where it calls back.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address for SIP; port 0 takes a free one. RTP is bound to the same IP address.
    pub sip_bind: SocketAddr,
    /// The gateway's SIP address over UDP.
    pub gateway: SocketAddr,
    /// It is one end of this measurement, and nothing else.
    pub canary: Option<Canary>,
}

/// A running test phone. End it with [`TestPhone::stop`].
#[derive(Debug)]
pub struct TestPhone {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    waker: Waker,
    done: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

impl TestPhone {
    /// Binds the SIP address and starts the phone's thread.
    ///
    /// # Errors
    /// The address cannot be bound, or the system gives no thread, poll or randomness.
    pub async fn start(config: Config) -> io::Result<TestPhone> {
        let mut seed = [0; 32];
        SysRng.try_fill_bytes(&mut seed).map_err(io::Error::other)?;
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut sip = UdpSocket::bind(config.sip_bind)?;
        let address = sip.local_addr()?;
        poll.registry().register(&mut sip, SIP, Interest::READABLE)?;
        let phone = Phone::new(PhoneConfig { sip: address, gateway: config.gateway, canary: config.canary }, seed);
        let stop = Arc::new(AtomicBool::new(false));
        let (finished, done) = oneshot::channel();
        let shell = Shell {
            phone,
            poll,
            sip,
            ip: address.ip(),
            pairs: BTreeMap::new(),
            readable: BTreeSet::new(),
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new().name("testphone".to_owned()).spawn(move || {
            shell.run();
            // The receiver is gone only if nobody waits.
            let _ = finished.send(());
        })?;
        Ok(TestPhone { address, stop, waker, done, thread })
    }

    /// The phone's own SIP address.
    pub fn sip_address(&self) -> SocketAddr {
        self.address
    }

    /// Hangs up every call, waits a short while for the answers, and ends the thread.
    pub async fn stop(self) {
        self.stop.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "the test phone cannot be woken");
            return;
        }
        // An error means that the thread panicked: the join tells.
        let _ = self.done.await;
        if self.thread.join().is_err() {
            tracing::error!("the test phone panicked");
        }
    }
}

const WAKER: Token = Token(0);
const SIP: Token = Token(1);
/// Datagrams read from one socket before the others have their turn.
const TURN: usize = 64;
/// How long the answers to our BYEs are waited for.
const GRACE: Duration = Duration::from_secs(1);

/// One call's sockets.
struct Pair {
    rtp: UdpSocket,
    rtcp: UdpSocket,
}

/// Which socket a token means. The two of a call have the numbers 2n and 2n+1.
#[derive(Clone, Copy)]
enum Port {
    Sip,
    Rtp(CallId),
    Rtcp(CallId),
}

impl Port {
    fn of(token: Token) -> Option<Port> {
        match token {
            WAKER => None,
            SIP => Some(Port::Sip),
            Token(n) if n % 2 == 0 => Some(Port::Rtp(CallId(n as u64 / 2))),
            Token(n) => Some(Port::Rtcp(CallId(n as u64 / 2))),
        }
    }

    fn token(self) -> Token {
        match self {
            Port::Sip => SIP,
            // Calls count from 1.
            Port::Rtp(call) => Token(call.0 as usize * 2),
            Port::Rtcp(call) => Token(call.0 as usize * 2 + 1),
        }
    }
}

struct Shell {
    phone: Phone,
    poll: Poll,
    sip: UdpSocket,
    ip: IpAddr,
    pairs: BTreeMap<CallId, Pair>,
    /// Sockets that may hold more datagrams: the poll tells of each only once.
    readable: BTreeSet<Token>,
    stop: Arc<AtomicBool>,
}

impl Shell {
    fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut ends = None;
        loop {
            if let Err(error) = self.poll.poll(&mut events, self.wait(ends))
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the test phone ends");
                return;
            }
            self.readable.extend(events.iter().map(|event| event.token()));
            for token in std::mem::take(&mut self.readable) {
                self.read(token);
            }
            let now = Instant::now();
            if self.phone.poll_timeout().is_some_and(|due| due <= now) {
                self.phone.handle_timeout(now);
            }
            if ends.is_none() && self.stop.load(Ordering::Acquire) {
                self.phone.close(now);
                ends = Some(now + GRACE);
            }
            self.write();
            if ends.is_some_and(|ends| self.phone.is_idle() || ends <= now) {
                return;
            }
        }
    }

    /// How long to sleep.
    fn wait(&self, ends: Option<Instant>) -> Option<Duration> {
        if !self.readable.is_empty() {
            return Some(Duration::ZERO);
        }
        let due = self.phone.poll_timeout().into_iter().chain(ends).min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Reads one socket, for a turn at most.
    fn read(&mut self, token: Token) {
        let Some(port) = Port::of(token) else { return };
        let mut buffer = [0; 65_536];
        for _ in 0..TURN {
            let socket = match port {
                Port::Sip => Some(&self.sip),
                Port::Rtp(call) => self.pairs.get(&call).map(|pair| &pair.rtp),
                Port::Rtcp(call) => self.pairs.get(&call).map(|pair| &pair.rtcp),
            };
            let Some(socket) = socket else { return };
            let (len, from) = match socket.recv_from(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A refused datagram of ours, or a signal: what waits behind it is read in the next turn.
                Err(_) => break,
            };
            let bytes = buffer.get(..len).unwrap_or_default();
            let now = Instant::now();
            match port {
                Port::Sip => self.phone.handle_sip(now, from, bytes),
                Port::Rtp(call) => self.phone.handle_rtp(now, call, from, bytes),
                Port::Rtcp(call) => self.phone.handle_rtcp(now, call, bytes),
            }
            self.write();
        }
        self.readable.insert(token);
    }

    /// Does what the phone wants done.
    fn write(&mut self) {
        while let Some(output) = self.phone.poll_output() {
            match output {
                Output::Sip { to, bytes } => {
                    if let Err(error) = self.sip.send_to(&bytes, to) {
                        tracing::debug!(%error, remote = %to, "the test phone cannot send SIP");
                        self.phone.handle_sip_failure(Instant::now());
                    }
                }
                // Media that cannot be sent is lost, as on any network.
                Output::Rtp { call, to, bytes } => {
                    let _ = self.pairs.get(&call).map(|pair| pair.rtp.send_to(&bytes, to));
                }
                Output::Rtcp { call, to, bytes } => {
                    let _ = self.pairs.get(&call).map(|pair| pair.rtcp.send_to(&bytes, to));
                }
                Output::Open { call } => {
                    let opened = self.open(call);
                    if let Err(error) = &opened {
                        tracing::warn!(%error, "the test phone has no port for a call");
                    }
                    self.phone.opened(Instant::now(), call, opened.ok());
                }
                // The poll forgets a socket that is closed.
                Output::Close { call } => drop(self.pairs.remove(&call)),
            }
        }
    }

    fn open(&mut self, call: CallId) -> io::Result<SocketAddr> {
        let (mut rtp, mut rtcp) = bind_pair(self.ip)?;
        let address = rtp.local_addr()?;
        let registry = self.poll.registry();
        registry.register(&mut rtp, Port::Rtp(call).token(), Interest::READABLE)?;
        registry.register(&mut rtcp, Port::Rtcp(call).token(), Interest::READABLE)?;
        self.pairs.insert(call, Pair { rtp, rtcp });
        Ok(address)
    }
}

/// An even port for RTP and the next for RTCP, wherever two are free.
fn bind_pair(ip: IpAddr) -> io::Result<(UdpSocket, UdpSocket)> {
    const TRIES: usize = 100;
    // Kept until the end, so that the system offers another port each time.
    let mut unsuitable = Vec::new();
    for _ in 0..TRIES {
        let first = bind(ip, 0)?;
        let port = first.local_addr()?.port();
        if let Ok(second) = bind(ip, port ^ 1) {
            let (rtp, rtcp) = if port % 2 == 0 { (first, second) } else { (second, first) };
            return Ok((UdpSocket::from_std(rtp), UdpSocket::from_std(rtcp)));
        }
        unsuitable.push(first);
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn bind(ip: IpAddr, port: u16) -> io::Result<StdUdpSocket> {
    let socket = StdUdpSocket::bind((ip, port))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn pairs_are_even_and_odd_and_many() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let pairs: Vec<_> = (0..64).map(|_| bind_pair(ip).unwrap()).collect();
        for (rtp, rtcp) in &pairs {
            let port = rtp.local_addr().unwrap().port();
            assert_eq!(port % 2, 0);
            assert_eq!(rtcp.local_addr().unwrap().port(), port + 1);
        }
    }

    #[test]
    fn a_token_tells_its_socket() {
        let ports = [Port::Sip, Port::Rtp(CallId(1)), Port::Rtcp(CallId(1)), Port::Rtp(CallId(2))];
        let tokens: BTreeSet<Token> = ports.iter().map(|port| port.token()).collect();
        assert_eq!(tokens.len(), ports.len());
        assert!(!tokens.contains(&WAKER));
        assert!(tokens.iter().all(|token| Port::of(*token).unwrap().token() == *token));
        assert!(Port::of(WAKER).is_none());
    }
}
