//! UDP sockets with the options that media needs.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// The receive buffer of a socket that serves many browsers: a burst of 200 packets overflows the system's default.
pub const BIG_BUFFER: usize = 4 << 20;

/// Binds a non-blocking UDP socket. `buffer` is asked for in both directions, best effort: the system may give less,
/// and that is no error. An IPv6 socket on the unspecified address takes IPv4 too, as mapped addresses
/// (see [`canonical`] and [`for_socket`]).
pub fn bind_udp(address: SocketAddr, buffer: Option<usize>) -> io::Result<UdpSocket> {
    let socket = udp_socket(address, buffer)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn udp_socket(address: SocketAddr, buffer: Option<usize>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    if let Some(buffer) = buffer {
        let _ = socket.set_recv_buffer_size(buffer);
        let _ = socket.set_send_buffer_size(buffer);
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The same so many times over: the system gives each datagram to one of them, chosen by the addresses of both ends. The first
/// is bound like any other, so an address that somebody has is refused; the others join it (SO_REUSEPORT). A program that
/// binds the port likewise can join only if it is the same user's.
///
/// # Errors
/// What the system says.
pub fn bind_udp_shared(address: SocketAddr, count: usize, buffer: Option<usize>) -> io::Result<Vec<UdpSocket>> {
    let first = bind_udp(address, buffer)?;
    socket2::SockRef::from(&first).set_reuse_port(true)?;
    let address = SocketAddr::new(address.ip(), first.local_addr()?.port());
    let further = (1..count).map(|_| {
        let socket = udp_socket(address, buffer)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    });
    std::iter::once(Ok(first)).chain(further).collect()
}

/// A UDP socket for SIP: non-blocking, and of one address family. `[::]` does not take IPv4 too, so `0.0.0.0` and `[::]`
/// stand beside each other, and a trunk's IPv4 address is seen as one.
///
/// # Errors
/// What the system says.
pub fn bind_udp_one_family(address: SocketAddr) -> io::Result<UdpSocket> {
    bind_one_family(address, Type::DGRAM).map(UdpSocket::from)
}

/// A TCP listener for SIP, non-blocking, of one address family as [`bind_udp_one_family`].
///
/// # Errors
/// What the system says.
pub fn listen_tcp_one_family(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind_one_family(address, Type::STREAM)?;
    socket.listen(128)?;
    Ok(socket.into())
}

fn bind_one_family(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?; // connections of a previous run may still be closing
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The address of a peer as it really is: an IPv4 one that came in through an IPv6 socket is IPv4 again.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The address as a socket of the family `socket_is_v6` wants it: IPv4 mapped into IPv6 where needed.
pub fn for_socket(address: SocketAddr, socket_is_v6: bool) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if socket_is_v6 => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_unspecified_ipv6_socket_serves_both_families() {
        let socket = bind_udp("[::]:0".parse().unwrap(), Some(BIG_BUFFER)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer_address = peer.local_addr().unwrap();
        peer.send_to(b"there", ("127.0.0.1", port)).unwrap();
        socket.set_nonblocking(false).unwrap();
        let (_, from) = socket.recv_from(&mut [0; 16]).unwrap();
        assert!(from.is_ipv6());
        assert_eq!(canonical(from), peer_address);
        assert_eq!(for_socket(peer_address, true), from);
        assert_eq!(for_socket(peer_address, false), peer_address);
        socket.send_to(b"back", from).unwrap();
        assert_eq!(peer.recv_from(&mut [0; 16]).unwrap().0, 4);
    }

    #[test]
    fn a_shared_port_is_spread_over_its_sockets_and_nobody_elses() {
        for bind in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
            let sockets = bind_udp_shared(bind.parse().unwrap(), 3, None).unwrap();
            let address = sockets[0].local_addr().unwrap();
            assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
            // Another gateway of the same user, with one thread or with several.
            assert_eq!(bind_udp(address, None).unwrap_err().kind(), io::ErrorKind::AddrInUse, "{bind}");
            assert_eq!(bind_udp_shared(address, 3, None).unwrap_err().kind(), io::ErrorKind::AddrInUse, "{bind}");
        }
        let alone = bind_udp("127.0.0.1:0".parse().unwrap(), None).unwrap();
        assert!(bind_udp_shared(alone.local_addr().unwrap(), 2, None).is_err());

        let sockets = bind_udp_shared("127.0.0.1:0".parse().unwrap(), 2, None).unwrap();
        let to = sockets[0].local_addr().unwrap();
        let peers: Vec<_> = (0..64).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        peers.iter().for_each(|peer| drop(peer.send_to(b"hello", to)));
        let read = |socket: &UdpSocket| std::iter::from_fn(|| socket.recv_from(&mut [0; 16]).ok()).count();
        let counts: Vec<usize> = sockets.iter().map(read).collect();
        assert!(counts.iter().sum::<usize>() == 64 && counts.iter().all(|count| *count > 0), "{counts:?}");
    }
}
