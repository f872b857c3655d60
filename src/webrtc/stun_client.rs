//! The asking side of STUN and TURN, for whoever wants to know whether a server works: Binding
//! ([RFC 8489](https://www.rfc-editor.org/rfc/rfc8489)), Allocate and the giving back of an allocation
//! ([RFC 8656](https://www.rfc-editor.org/rfc/rfc8656)), with long-term credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::Mac as _;
use md5::{Digest as _, Md5};

use super::stun::{IntegrityKey, Message, TransactionId, attribute};

/// Bytes of a message before its attributes; bytes 2 and 3 of them are the length of what follows.
pub const HEADER: usize = 20;

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Where the server sees us.
    Binding,
    /// A relayed address (RFC 8656 section 7.1).
    Allocate,
    /// The end of the allocation: a Refresh with a lifetime of nothing (RFC 8656 section 8.1).
    Release,
}

impl Ask {
    /// The type of the request; success is this and 0x0100, an error this and 0x0110.
    fn kind(self) -> u16 {
        match self {
            Ask::Binding => 0x0001,
            Ask::Allocate => 0x0003,
            Ask::Release => 0x0004,
        }
    }
}

/// Long-term credentials (RFC 8489 section 9.2), with what the server's challenge has said.
#[derive(Clone)]
pub struct LongTerm {
    /// The user's name.
    pub username: String,
    /// The password.
    pub password: String,
    /// As in the challenge.
    pub realm: String,
    /// As in the challenge.
    pub nonce: Vec<u8>,
}

impl std::fmt::Debug for LongTerm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LongTerm").field("username", &self.username).field("realm", &self.realm).finish_non_exhaustive()
    }
}

impl LongTerm {
    fn key(&self) -> IntegrityKey {
        let LongTerm { username, password, realm, .. } = self;
        IntegrityKey::of(&Md5::digest(format!("{username}:{realm}:{password}")))
    }
}

/// A request.
pub fn request(ask: Ask, transaction: TransactionId, credentials: Option<&LongTerm>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend(ask.kind().to_be_bytes().into_iter().chain([0, 0]).chain(super::stun::MAGIC_COOKIE).chain(transaction));
    match ask {
        Ask::Binding => {}
        Ask::Allocate => push(&mut out, attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]), // UDP
        Ask::Release => push(&mut out, attribute::LIFETIME, &[0; 4]),
    }
    if let Some(credentials) = credentials {
        push(&mut out, attribute::USERNAME, credentials.username.as_bytes());
        push(&mut out, attribute::REALM, credentials.realm.as_bytes());
        push(&mut out, attribute::NONCE, &credentials.nonce);
        let mac = credentials.key().mac(&out).finalize().into_bytes();
        push(&mut out, attribute::MESSAGE_INTEGRITY, &mac);
    }
    out
}

fn push(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend(kind.to_be_bytes());
    out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    let length = u16::try_from(out.len().saturating_sub(HEADER)).unwrap_or(u16::MAX).to_be_bytes();
    if let Some(field) = out.get_mut(2..4) {
        field.copy_from_slice(&length);
    }
}

/// What a server has answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The error's number, where it is one.
    pub error: Option<u16>,
    /// Where the server sees us.
    pub mapped: Option<SocketAddr>,
    /// What it relays for us.
    pub relayed: Option<SocketAddr>,
    /// Of a challenge.
    pub realm: Option<String>,
    /// Of a challenge.
    pub nonce: Option<Vec<u8>>,
}

/// Reads the answer to a request; `None` where it is none.
pub fn read(bytes: &[u8], ask: Ask, transaction: TransactionId) -> Option<Answer> {
    let message = Message::parse(bytes).ok().filter(|message| message.transaction() == transaction)?;
    let address = |kind| message.get(kind).and_then(|value| address(value, transaction));
    let text = |kind| message.get(kind).map(|value| String::from_utf8_lossy(value).into_owned());
    let answer = Answer {
        error: None,
        mapped: address(attribute::XOR_MAPPED_ADDRESS),
        relayed: address(attribute::XOR_RELAYED_ADDRESS),
        realm: text(attribute::REALM),
        nonce: message.get(attribute::NONCE).map(<[u8]>::to_vec),
    };
    match message.kind() {
        kind if kind == ask.kind() | 0x0100 => Some(answer),
        kind if kind == ask.kind() | 0x0110 => {
            // Two reserved bytes, the hundreds, the rest (RFC 8489 section 14.8).
            let [_, _, hundreds, rest] = *message.get(attribute::ERROR_CODE)?.first_chunk::<4>()?;
            Some(Answer { error: Some(u16::from(hundreds & 7) * 100 + u16::from(rest)), ..answer })
        }
        _ => None,
    }
}

/// XOR-MAPPED-ADDRESS and its like (RFC 8489 section 14.2).
fn address(value: &[u8], transaction: TransactionId) -> Option<SocketAddr> {
    let ([_, family, port @ ..], ip) = value.split_first_chunk::<4>()?;
    let cookie = super::stun::MAGIC_COOKIE;
    let port = u16::from_be_bytes(*port) ^ u16::from_be_bytes([cookie[0], cookie[1]]);
    let plain: Vec<u8> = ip.iter().zip(cookie.iter().chain(&transaction)).map(|(byte, mask)| byte ^ mask).collect();
    let ip = match (family, ip.len()) {
        (1, 4) => IpAddr::from(Ipv4Addr::from(*plain.first_chunk::<4>()?)),
        (2, 16) => IpAddr::from(Ipv6Addr::from(*plain.first_chunk::<16>()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::webrtc::stun;

    const TRANSACTION: TransactionId = [9; 12];

    #[test]
    fn where_a_server_sees_us_is_read() {
        for address in ["192.0.2.1:32853", "[2001:db8::5]:1"] {
            let address = address.parse().unwrap();
            let answer = stun::success(TRANSACTION, address, &IntegrityKey::new("x"));
            assert_eq!(read(&answer, Ask::Binding, TRANSACTION).unwrap().mapped, Some(address));
            assert_eq!(read(&answer, Ask::Binding, [8; 12]), None, "the answer to another request");
            assert_eq!(read(&answer, Ask::Allocate, TRANSACTION), None, "of another kind");
            for len in 0..answer.len() {
                assert_eq!(read(&answer[..len], Ask::Binding, TRANSACTION), None, "cut off after {len} bytes");
            }
        }
        let error = stun::error(TRANSACTION, 401, &[], None);
        assert_eq!(read(&error, Ask::Binding, TRANSACTION).unwrap().error, Some(401));
    }

    /// RFC 8489 section 9.2.2: the key is MD5(user:realm:password), here that of RFC 5769 section 2.4 before SASLprep.
    #[test]
    fn a_request_with_credentials_is_sealed_by_their_key() {
        let credentials = LongTerm {
            username: "user".into(),
            password: "pass".into(),
            realm: "realm".into(),
            nonce: b"nonce".to_vec(),
        };
        let request = request(Ask::Allocate, TRANSACTION, Some(&credentials));
        let message = Message::parse(&request).unwrap();
        assert_eq!(message.kind(), 0x0003);
        assert_eq!(message.get(attribute::REQUESTED_TRANSPORT), Some(&[17, 0, 0, 0][..]));
        assert_eq!(message.username(), Some("user"));
        // RFC 8489 section 9.2.2 gives this key: 0x8493fbc53ba582fb4c044c456bdc40eb.
        let key = 0x8493_fbc5_3ba5_82fb_4c04_4c45_6bdc_40eb_u128.to_be_bytes();
        assert!(message.verify(&IntegrityKey::of(&key)) && !message.verify(&IntegrityKey::new("pass")));
        assert!(!format!("{credentials:?}").contains("pass"));
    }
}
