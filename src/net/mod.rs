//! Sockets, RTP ports, interface addresses, TLS.

mod interfaces;
mod ports;
mod sockets;
pub mod tls;

#[cfg(test)]
pub(crate) use ports::test_ports;

pub use interfaces::{OwnAddresses, interface_addresses, source_address};
pub use ports::{PortError, PortPool, RtpPair};
pub use sockets::{
    BIG_BUFFER, bind_udp, bind_udp_one_family, bind_udp_shared, canonical, for_socket, listen_tcp_one_family,
};
