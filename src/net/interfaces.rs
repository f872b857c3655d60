//! The addresses of this machine, for candidates and advertised addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

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
    let mut seen = std::collections::HashSet::new();
    all.retain(|ip| seen.insert(*ip));
    all
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
    fn this_machine_has_an_address_and_reaches_itself() {
        assert!(!interface_addresses().is_empty());
        assert_eq!(source_address("127.0.0.1:9".parse().unwrap()), Some("127.0.0.1".parse().unwrap()));
    }
}
