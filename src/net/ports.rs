//! Leases of RTP ports: an even one for RTP and the next for RTCP
//! ([RFC 3550, section 11](https://www.rfc-editor.org/rfc/rfc3550#section-11)).

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::sockets::bind_udp;

/// Why there is no pair of ports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// All are leased, in quarantine or taken by other programs.
    #[error("no RTP port is free")]
    Exhausted,
    /// The system gives no more sockets: descriptors or memory are used up.
    #[error("the system gives no more sockets: {0}")]
    System(#[source] io::Error),
}

/// One call's sockets towards a trunk, bound and non-blocking. The port goes back to the pool by
/// [`PortPool::release`], after the sockets are closed.
#[derive(Debug)]
pub struct RtpPair {
    /// On the even port.
    pub rtp: UdpSocket,
    /// On the port after it.
    pub rtcp: UdpSocket,
    /// The even port.
    pub port: u16,
}

/// The ports of one local address. A port given back rests for a while, so that no late packet of a call that is over
/// is heard in a new one; then the one that rested longest is taken first.
#[derive(Debug)]
pub struct PortPool {
    ip: IpAddr,
    quarantine: Duration,
    range: RangeInclusive<u16>,
    free: VecDeque<u16>,
    resting: VecDeque<(Instant, u16)>,
    leased: HashSet<u16>,
}

impl PortPool {
    /// A pool of the pairs that lie wholly within `range`.
    pub fn new(ip: IpAddr, range: RangeInclusive<u16>, quarantine: Duration) -> Self {
        let free = range.clone().filter(|port| is_pair(&range, *port)).collect();
        Self { ip, quarantine, range, free, resting: VecDeque::new(), leased: HashSet::new() }
    }

    /// What is leased from now on lies within `range`. What is leased already stays until it is released, and what rests goes
    /// on resting.
    pub fn set_range(&mut self, range: RangeInclusive<u16>) {
        if self.range == range {
            return;
        }
        let resting: HashSet<u16> = self.resting.iter().map(|(_, port)| *port).collect();
        let idle = |port: &u16| !resting.contains(port) && !self.leased.contains(port);
        // Those that were free keep their order: the one that rested longest comes first.
        let mut free: VecDeque<u16> = std::mem::take(&mut self.free);
        free.retain(|port| is_pair(&range, *port));
        let known: HashSet<u16> = free.iter().copied().collect();
        free.extend(range.clone().filter(|port| is_pair(&range, *port) && idle(port) && !known.contains(port)));
        self.free = free;
        self.range = range;
    }

    /// The local address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Binds the next pair that can be had. A port that another program holds is passed over and tried again later.
    pub fn lease(&mut self, now: Instant) -> Result<RtpPair, PortError> {
        let rested = self.rested(now).count();
        let rested = self.resting.drain(..rested).map(|(_, port)| port);
        self.free.extend(rested.filter(|port| is_pair(&self.range, *port)));
        for _ in 0..self.free.len() {
            let Some(port) = self.free.pop_front() else { break };
            match self.bind(port) {
                Ok(pair) => {
                    self.leased.insert(port);
                    return Ok(pair);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => self.free.push_back(port),
                Err(error) => {
                    self.free.push_front(port);
                    return Err(PortError::System(error));
                }
            }
        }
        Err(PortError::Exhausted)
    }

    fn bind(&self, port: u16) -> io::Result<RtpPair> {
        let rtp = bind_udp(SocketAddr::new(self.ip, port), None)?;
        let rtcp = bind_udp(SocketAddr::new(self.ip, port + 1), None)?;
        Ok(RtpPair { rtp, rtcp, port })
    }

    /// Takes a port back into quarantine. One that is not leased is ignored: releasing twice does no harm.
    pub fn release(&mut self, now: Instant, port: u16) {
        if self.leased.remove(&port) {
            self.resting.push_back((now + self.quarantine, port));
        }
    }

    /// Those that have rested for long enough. They rest for the same time each: the first to come is the first to be rested.
    fn rested(&self, now: Instant) -> impl Iterator<Item = u16> {
        self.resting.iter().take_while(move |(until, _)| *until <= now).map(|(_, port)| *port)
    }

    /// Pairs that can be leased now, as far as is known without trying.
    pub fn free(&self, now: Instant) -> usize {
        self.free.len() + self.rested(now).filter(|port| is_pair(&self.range, *port)).count()
    }

    /// Pairs that rest.
    pub fn resting(&self, now: Instant) -> usize {
        self.resting.len() - self.rested(now).count()
    }

    /// Pairs leased now.
    pub fn leased(&self) -> usize {
        self.leased.len()
    }
}

/// Whether the pair that begins with this port lies wholly within a range.
fn is_pair(range: &RangeInclusive<u16>, port: u16) -> bool {
    port.is_multiple_of(2) && port != 0 && range.contains(&port) && range.contains(&(port + 1))
}

/// For tests: so many pairs of ports in a row that nobody uses, below those that the system gives out by itself.
#[cfg(test)]
#[allow(clippy::expect_used)]
pub(crate) fn test_ports(pairs: u16) -> RangeInclusive<u16> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test processes run side by side: each begins somewhere else.
    let begin = std::process::id().wrapping_mul(7919);
    let is_free = |range: &RangeInclusive<u16>| range.clone().all(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok());
    (0..2000)
        .map(|_| {
            let step = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)).wrapping_mul(32) % 20_000;
            let base = 10_000 + step as u16;
            base..=base + pairs * 2 - 1
        })
        .find(is_free)
        .expect("some ports are free")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const REST: Duration = Duration::from_secs(5);
    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn pairs_are_even_and_lie_within_the_range() {
        let table =
            [(40_000..=40_003, 2), (40_001..=40_004, 1), (40_000..=40_000, 0), (65_534..=65_535, 1), (0..=1, 0)];
        for (range, pairs) in table {
            assert_eq!(PortPool::new(LOOPBACK, range.clone(), REST).free(Instant::now()), pairs, "{range:?}");
        }
    }

    #[test]
    fn a_lease_binds_both_and_a_released_port_rests() {
        let now = Instant::now();
        let mut pool = PortPool::new(LOOPBACK, test_ports(2), REST);
        let (first, second) = (pool.lease(now).unwrap(), pool.lease(now).unwrap());
        for pair in [&first, &second] {
            assert_eq!(pair.rtp.local_addr().unwrap().port(), pair.port);
            assert_eq!(pair.rtcp.local_addr().unwrap().port(), pair.port + 1);
        }
        assert!(matches!(pool.lease(now), Err(PortError::Exhausted)));
        let port = first.port;
        drop(first);
        pool.release(now, port);
        pool.release(now, port);
        pool.release(now, 9);
        assert!(matches!(pool.lease(now + REST - Duration::from_millis(1)), Err(PortError::Exhausted)));
        assert_eq!(pool.lease(now + REST).unwrap().port, port);
        assert_eq!((pool.free(now), pool.leased()), (0, 2));
    }

    /// As a reload does it: what is leased stays, and nothing outside of the new range is leased any more.
    #[test]
    fn a_new_range_is_for_the_next_leases() {
        let now = Instant::now();
        let range = test_ports(4);
        let first = *range.start();
        let mut pool = PortPool::new(LOOPBACK, first..=first + 3, REST);
        let (stands, ends) = (pool.lease(now).unwrap(), pool.lease(now).unwrap());
        drop(ends);
        pool.release(now, first + 2);
        pool.set_range(first + 4..=first + 7);
        assert_eq!((pool.free(now), pool.leased(), pool.resting(now)), (2, 1, 1));
        // What has rested is free, though nobody has asked for a pair.
        assert_eq!((pool.free(now + REST), pool.resting(now + REST)), (2, 0));
        let new = pool.lease(now + REST).unwrap();
        assert_eq!((new.port, pool.free(now), pool.resting(now)), (first + 4, 1, 0));
        drop(stands);
        pool.release(now + REST, first);
        // Back: each is there once.
        pool.set_range(first..=first + 7);
        assert_eq!((pool.free(now), pool.leased(), pool.resting(now)), (2, 1, 1));
        drop(new);
        pool.release(now + REST, first + 4);
        let later = now + REST * 3;
        let mut all: Vec<RtpPair> = (0..4).map(|_| pool.lease(later).unwrap()).collect();
        assert!(matches!(pool.lease(later), Err(PortError::Exhausted)));
        all.sort_by_key(|pair| pair.port);
        let ports: Vec<u16> = all.iter().map(|pair| pair.port - first).collect();
        assert_eq!(ports, [0, 2, 4, 6]);
    }

    #[test]
    fn a_port_in_use_elsewhere_is_passed_over() {
        let now = Instant::now();
        let range = test_ports(2);
        let mut pool = PortPool::new(LOOPBACK, range.clone(), REST);
        let taken = UdpSocket::bind(("127.0.0.1", range.start() + 1)).unwrap();
        let pair = pool.lease(now).unwrap();
        assert_eq!(pair.port, range.start() + 2);
        assert!(matches!(pool.lease(now), Err(PortError::Exhausted)));
        drop(taken);
        assert_eq!(pool.lease(now).unwrap().port, *range.start());
    }

    #[test]
    fn an_address_that_is_not_ours_is_the_systems_refusal() {
        let mut pool = PortPool::new("192.0.2.1".parse().unwrap(), 41_220..=41_223, REST);
        assert!(matches!(pool.lease(Instant::now()), Err(PortError::System(_))));
        assert_eq!(pool.free(Instant::now()), 2);
    }
}
