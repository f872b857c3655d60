//! Messages as a capture that tshark, Wireshark and sngrep open: a UDP datagram for each SIP message, whatever carried it, with
//! its true addresses and time. <https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/>

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

/// LINKTYPE_RAW: a packet begins with its IP header.
const RAW_IP: u32 = 101;
/// More than any packet has.
const SNAPLEN: u32 = 262_144;
const UDP: u8 = 17;

/// The file, and how many packets it has.
pub fn capture(answer: &Value) -> (Vec<u8>, usize) {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend(2_u16.to_le_bytes());
    file.extend(4_u16.to_le_bytes());
    file.extend([0; 8]); // UTC
    file.extend(SNAPLEN.to_le_bytes());
    file.extend(RAW_IP.to_le_bytes());
    let messages = answer["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut packets = 0;
    for (at, packet) in messages.iter().filter_map(packet) {
        let word = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        file.extend(u32::try_from(at / 1_000_000).unwrap_or(u32::MAX).to_le_bytes());
        file.extend(u32::try_from(at % 1_000_000).unwrap_or_default().to_le_bytes());
        file.extend(word(packet.len()));
        file.extend(word(packet.len()));
        file.extend(packet);
        packets += 1;
    }
    (file, packets)
}

fn packet(message: &Value) -> Option<(u64, Vec<u8>)> {
    if message["by"] == "browser" {
        return None;
    }
    let address = |key: &str| message[key].as_str()?.parse::<SocketAddr>().ok();
    let (local, remote) = (address("local")?, address("remote")?);
    let (source, destination) = if message["sent"] == true { (local, remote) } else { (remote, local) };
    let text = message["text"].as_str()?.as_bytes();
    let length = u16::try_from(text.len() + 8).ok().filter(|length| *length < 65_500)?;
    let mut udp = Vec::with_capacity(text.len() + 8);
    udp.extend(source.port().to_be_bytes());
    udp.extend(destination.port().to_be_bytes());
    udp.extend(length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(text);
    let pseudo: Vec<u8> = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => [source.octets(), destination.octets()].concat(),
        (IpAddr::V6(source), IpAddr::V6(destination)) => [source.octets(), destination.octets()].concat(),
        _ => return None,
    };
    // RFC 768 and RFC 8200 section 8.1: the addresses, protocol and length are summed as well; 0 would mean none.
    let sum = match checksum(&[&pseudo, &[0, UDP], &length.to_be_bytes(), &udp]) {
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut packet = if source.is_ipv4() { ipv4(length) } else { ipv6(length) };
    packet.extend(&pseudo);
    if source.is_ipv4() {
        let sum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend(udp);
    Some((message["at"].as_u64()?, packet))
}

/// RFC 791 section 3.1, up to the addresses.
fn ipv4(payload: u16) -> Vec<u8> {
    let total = (payload + 20).to_be_bytes();
    vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, UDP, 0, 0]
}

/// RFC 8200 section 3, up to the addresses.
fn ipv6(payload: u16) -> Vec<u8> {
    let length = payload.to_be_bytes();
    vec![0x60, 0, 0, 0, length[0], length[1], UDP, 64]
}

/// RFC 1071; each part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = parts.iter().flat_map(|part| part.chunks(2)).map(word).fold(0, u32::wrapping_add);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_datagram_has_its_addresses_time_and_checksums() {
        let message = json!({ "at": 1_700_000_000_123_456u64, "sent": true, "by": "tcp", "local": "192.0.2.1:5060",
                              "remote": "192.0.2.9:5070", "text": "BYE" });
        let browser = json!({ "at": 1, "sent": true, "by": "browser", "remote": "192.0.2.9:5070", "text": "{}" });
        let (file, packets) = capture(&json!({ "messages": [browser, message] }));
        assert_eq!((packets, file.len()), (1, 24 + 16 + 20 + 8 + 3));
        assert_eq!(file[24..32], [&1_700_000_000_u32.to_le_bytes()[..], &123_456_u32.to_le_bytes()].concat());
        let ip = &file[40..];
        // A sum over what has its checksum in it comes to nothing (RFC 1071 section 1).
        assert_eq!(checksum(&[&ip[..20]]), 0);
        assert_eq!(checksum(&[&ip[12..20], &[0, UDP, 0, 11], &ip[20..]]), 0);
        assert_eq!(&ip[20..24], &[0x13, 0xc4, 0x13, 0xce]);
    }
}
