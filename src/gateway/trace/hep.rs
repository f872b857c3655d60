//! SIP of calls, sent on to a collector: HEP version 3 over UDP ("HEP3 Network Protocol Specification", rev. 36, of the SIPCAPTURE
//! project), as Homer takes it. Secrets are taken out before. What the system does not take at once is lost, and counted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::Message;
use crate::config::{Hep, Secret};
use crate::switch::CallId;

/// The longest packet: what UDP over IPv4 takes.
const LONGEST: usize = 65_507;

/// How often the log is told of what is lost.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Generic chunks (vendor 0x0000) that we write, by their type ids.
mod chunk {
    pub const IP_FAMILY: u16 = 0x0001;
    pub const IP_PROTOCOL: u16 = 0x0002;
    pub const IPV4_SOURCE: u16 = 0x0003;
    pub const IPV4_DESTINATION: u16 = 0x0004;
    pub const IPV6_SOURCE: u16 = 0x0005;
    pub const IPV6_DESTINATION: u16 = 0x0006;
    pub const SOURCE_PORT: u16 = 0x0007;
    pub const DESTINATION_PORT: u16 = 0x0008;
    pub const SECONDS: u16 = 0x0009;
    pub const MICROSECONDS: u16 = 0x000a;
    pub const PROTOCOL: u16 = 0x000b;
    pub const CAPTURE_ID: u16 = 0x000c;
    pub const AUTH_KEY: u16 = 0x000e;
    pub const PAYLOAD: u16 = 0x000f;
    pub const CORRELATION_ID: u16 = 0x0011;
}

/// Protocol type of the payload: SIP.
const SIP: u8 = 1;

/// The way to a collector.
#[derive(Debug)]
pub(super) struct Collector {
    socket: UdpSocket,
    password: Option<Secret>,
    capture_id: u32,
    /// Packets that did not go.
    lost: u64,
    /// When the log was told of that.
    told: Option<Instant>,
}

impl Collector {
    /// `None`, and a line in the log, where there is no way to it: calls go on without.
    pub(super) fn open(hep: &Hep) -> Option<Collector> {
        let socket = connect(hep.address)
            .inspect_err(|error| tracing::error!(address = %hep.address, %error, "[hep] address: SIP is not sent on"))
            .ok()?;
        Some(Collector { socket, password: hep.password.clone(), capture_id: hep.capture_id, lost: 0, told: None })
    }

    /// Sends a message on, if it is SIP.
    pub(super) fn send(&mut self, call: CallId, message: &Message) {
        let Some(packet) = packet(call, message, self.capture_id, self.password.as_ref()) else { return };
        match self.socket.send(&packet) {
            Ok(_) => {}
            // A refusal is told of the packet before, and by every second one: what goes is no sign that it arrives.
            Err(error) => {
                self.lost = self.lost.saturating_add(1);
                if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    tracing::warn!(%error, lost = self.lost, "SIP for the collector of [hep] is lost");
                    self.told = Some(Instant::now());
                }
            }
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(address)?;
    Ok(socket)
}

/// One message as a packet; `None`: it is no SIP, or too long.
fn packet(call: CallId, message: &Message, capture_id: u32, password: Option<&Secret>) -> Option<Vec<u8>> {
    let (local, remote) = (message.local?, message.remote?);
    let (source, destination) = if message.sent { (local, remote) } else { (remote, local) };
    let mut out = b"HEP3\0\0".to_vec();
    let family: u8 = if source.is_ipv4() { 2 } else { 10 }; // AF_INET, AF_INET6
    add(&mut out, chunk::IP_FAMILY, &[family])?;
    add(&mut out, chunk::IP_PROTOCOL, &[if message.by == "udp" { 17 } else { 6 }])?;
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            add(&mut out, chunk::IPV4_SOURCE, &source.octets())?;
            add(&mut out, chunk::IPV4_DESTINATION, &destination.octets())?;
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            add(&mut out, chunk::IPV6_SOURCE, &source.octets())?;
            add(&mut out, chunk::IPV6_DESTINATION, &destination.octets())?;
        }
        _ => return None, // no packet goes from one family to the other
    }
    add(&mut out, chunk::SOURCE_PORT, &source.port().to_be_bytes())?;
    add(&mut out, chunk::DESTINATION_PORT, &destination.port().to_be_bytes())?;
    let seconds = u32::try_from(message.at / 1_000_000).unwrap_or(u32::MAX);
    let microseconds = u32::try_from(message.at % 1_000_000).unwrap_or_default();
    add(&mut out, chunk::SECONDS, &seconds.to_be_bytes())?;
    add(&mut out, chunk::MICROSECONDS, &microseconds.to_be_bytes())?;
    add(&mut out, chunk::PROTOCOL, &[SIP])?;
    add(&mut out, chunk::CAPTURE_ID, &capture_id.to_be_bytes())?;
    if let Some(password) = password {
        add(&mut out, chunk::AUTH_KEY, password.reveal())?;
    }
    add(&mut out, chunk::CORRELATION_ID, call.to_string().as_bytes())?;
    add(&mut out, chunk::PAYLOAD, message.text.as_bytes())?;
    let length = u16::try_from(out.len()).ok().filter(|_| out.len() <= LONGEST)?;
    out.get_mut(4..6)?.copy_from_slice(&length.to_be_bytes());
    Some(out)
}

/// A chunk: vendor, type, length with these six bytes, value.
fn add(out: &mut Vec<u8>, kind: u16, value: &[u8]) -> Option<()> {
    let length = u16::try_from(value.len() + 6).ok()?;
    out.extend([0, 0]);
    out.extend(kind.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend(value);
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn message(sent: bool, by: &'static str, local: &str, remote: &str) -> Message {
        let (local, remote) = (local.parse().ok(), remote.parse().ok());
        Message { n: 1, at: 1_700_000_000_123_456, sent, by, local, remote, text: "BYE".into(), cut: 0 }
    }

    /// Bytes worked out by hand from the specification's table.
    #[test]
    fn a_packet_is_as_the_specification_has_it() {
        let sent = message(true, "udp", "192.0.2.1:5060", "192.0.2.9:5070");
        let password = Secret::of(b"pw");
        let expected = [
            &b"HEP3\x00\x84"[..],
            b"\0\0\0\x01\0\x07\x02",
            b"\0\0\0\x02\0\x07\x11",
            b"\0\0\0\x03\0\x0a\xc0\x00\x02\x01",
            b"\0\0\0\x04\0\x0a\xc0\x00\x02\x09",
            b"\0\0\0\x07\0\x08\x13\xc4",
            b"\0\0\0\x08\0\x08\x13\xce",
            b"\0\0\0\x09\0\x0a\x65\x53\xf1\x00",
            b"\0\0\0\x0a\0\x0a\x00\x01\xe2\x40",
            b"\0\0\0\x0b\0\x07\x01",
            b"\0\0\0\x0c\0\x0a\0\0\x07\xd1",
            b"\0\0\0\x0e\0\x08pw",
            b"\0\0\0\x11\0\x1600000000000000ff",
            b"\0\0\0\x0f\0\x09BYE",
        ];
        assert_eq!(packet(CallId(255), &sent, 2001, Some(&password)).unwrap(), expected.concat());
    }

    #[test]
    fn what_came_comes_from_the_peer_and_a_browsers_message_is_no_sip() {
        let came =
            packet(CallId(1), &message(false, "tcp", "[2001:db8::1]:5060", "[2001:db8::9]:5070"), 1, None).unwrap();
        let source: Ipv6Addr = "2001:db8::9".parse().unwrap();
        let chunk = [&b"\0\0\0\x05\0\x16"[..], &source.octets()].concat();
        assert!(came.windows(chunk.len()).any(|it| it == chunk));
        assert!(came.windows(7).any(|it| it == b"\0\0\0\x02\0\x07\x06"), "TCP");
        assert!(packet(CallId(1), &message(true, "browser", "", "192.0.2.9:5070"), 1, None).is_none());
        assert!(packet(CallId(1), &message(true, "udp", "[::1]:5060", "192.0.2.9:5070"), 1, None).is_none());
    }
}
