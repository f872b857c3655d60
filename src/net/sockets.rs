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
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    if let Some(buffer) = buffer {
        let _ = socket.set_recv_buffer_size(buffer);
        let _ = socket.set_send_buffer_size(buffer);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
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
}
