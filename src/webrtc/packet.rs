//! What a datagram on the browsers' port is, by its first bytes ([RFC 7983](https://www.rfc-editor.org/rfc/rfc7983)).

use super::stun;

/// The protocol of one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketKind {
    /// A STUN message: first byte 0 to 3, and the magic cookie.
    Stun,
    /// A DTLS record: first byte 20 to 63.
    Dtls,
    /// RTP or SRTP: first byte 128 to 191.
    Rtp,
    /// RTCP or SRTCP: as RTP, with a second byte of 192 to 223
    /// ([RFC 5761, section 4](https://www.rfc-editor.org/rfc/rfc5761#section-4)).
    Rtcp,
    /// Anything else: ZRTP, TURN channels, noise. Dropped.
    Other,
}

/// Says what `packet` is, without looking past its header.
pub fn classify(packet: &[u8]) -> PacketKind {
    match packet {
        [0..=3, ..] if stun::has_cookie(packet) => PacketKind::Stun,
        [20..=63, ..] if packet.len() >= 13 => PacketKind::Dtls,
        [128..=191, 192..=223, ..] if packet.len() >= 8 => PacketKind::Rtcp,
        [128..=191, ..] if packet.len() >= 12 => PacketKind::Rtp,
        _ => PacketKind::Other,
    }
}

/// Our half of a STUN request's USERNAME (`ours:theirs`), for the map from ufrag to call.
///
/// Nothing is authenticated here: the [`Transport`](super::Transport) does that with the call's password.
pub fn stun_username(packet: &[u8]) -> Option<&str> {
    let username = stun::Message::parse(packet).ok()?.username()?;
    Some(username.split_once(':')?.0)
}
