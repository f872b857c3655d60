//! The addresses of this machine, for candidates and advertised addresses.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// The addresses of the interfaces that are up, IPv4 first, each once; loopback only when there is nothing else.
///
/// IPv6 link-local addresses are left out: they mean nothing without a zone, which neither SDP nor ICE can say.
pub fn interface_addresses() -> Vec<IpAddr> {
    let all: Vec<IpAddr> = getifaddrs()
        .into_iter()
        .flatten()
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|interface| {
            let storage = interface.address?;
            let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        })
        .collect();
    usable(all)
}

/// The choice among all addresses.
fn usable(mut all: Vec<IpAddr>) -> Vec<IpAddr> {
    all.retain(|ip| match ip {
        IpAddr::V4(ip) => !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_unicast_link_local(),
    });
    if all.iter().any(|ip| !ip.is_loopback()) {
        all.retain(|ip| !ip.is_loopback());
    }
    all.sort_by_key(|ip| ip.is_ipv6());
    let mut seen = HashSet::new();
    all.retain(|ip| seen.insert(*ip));
    all
}

/// This machine's addresses, to tell its own datagrams from others'. Read again when an unknown address turns up, but
/// not more often than once a second: interfaces come and go.
#[derive(Debug)]
pub struct OwnAddresses {
    known: HashSet<IpAddr>,
    read_at: Instant,
}

impl OwnAddresses {
    /// The addresses as they are now.
    pub fn new(now: Instant) -> Self {
        Self { known: interface_addresses().into_iter().collect(), read_at: now }
    }

    /// Whether `ip` is this machine's: loopback, or an interface's. The system itself drops what comes from outside
    /// under such a source address.
    pub fn contains(&mut self, ip: IpAddr, now: Instant) -> bool {
        if ip.is_loopback() || self.known.contains(&ip) {
            return true;
        }
        if now.saturating_duration_since(self.read_at) < Duration::from_secs(1) {
            return false;
        }
        *self = Self::new(now);
        self.known.contains(&ip)
    }
}

/// The address from which this machine would send to `to`; `None` when there is no route. Nothing is sent.
pub fn source_address(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn loopback_counts_only_alone_and_link_local_never() {
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let table: [(&[&str], &[&str]); 4] = [
            (&["127.0.0.1", "::1"], &["127.0.0.1", "::1"]),
            (&["::1", "fe80::1", "2001:db8::1", "127.0.0.1", "192.0.2.1"], &["192.0.2.1", "2001:db8::1"]),
            (&["192.0.2.1", "192.0.2.1", "198.51.100.1"], &["192.0.2.1", "198.51.100.1"]),
            (&["fe80::1", "0.0.0.0"], &[]),
        ];
        for (all, expected) in table {
            assert_eq!(usable(ips(all)), ips(expected));
        }
    }

    #[test]
    fn own_addresses_are_told_from_others() {
        let now = Instant::now();
        let mut own = OwnAddresses::new(now);
        for ip in interface_addresses().into_iter().chain(["127.0.0.9".parse().unwrap(), "::1".parse().unwrap()]) {
            assert!(own.contains(ip, now), "{ip}");
        }
        for later in [Duration::ZERO, Duration::from_secs(2)] {
            assert!(!own.contains("203.0.113.7".parse().unwrap(), now + later));
        }
    }

    #[test]
    fn this_machine_has_an_address_and_reaches_itself() {
        assert!(!interface_addresses().is_empty());
        assert_eq!(source_address("127.0.0.1:9".parse().unwrap()), Some("127.0.0.1".parse().unwrap()));
    }
}
