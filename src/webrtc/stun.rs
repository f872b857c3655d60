//! The part of STUN that an ICE-lite agent needs: reading Binding requests and writing their responses
//! ([RFC 8489](https://www.rfc-editor.org/rfc/rfc8489)).
//!
//! Reading borrows the datagram and never allocates; a datagram that is not wholly well-formed is refused as one.

use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayVec;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// Bytes 4 to 7 of every message (RFC 8489 section 5).
pub(super) const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const HEADER: usize = 20;
/// FINGERPRINT is the CRC-32 of the message XORed with "STUN" (RFC 8489 section 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554E;

/// Room for the longest response written here.
pub(super) const MAX_RESPONSE: usize = 128;
/// The datagram of one response.
pub(super) type Response = ArrayVec<u8, MAX_RESPONSE>;
/// The 96 bits that tie a response to its request.
pub type TransactionId = [u8; 12];

/// Message types: method Binding (0x001) with the class bits of RFC 8489 section 5.
pub(super) mod kind {
    pub const BINDING_REQUEST: u16 = 0x0001;
    pub const BINDING_SUCCESS: u16 = 0x0101;
    pub const BINDING_ERROR: u16 = 0x0111;
}

/// Attribute types (RFC 8489 section 14, RFC 8445 section 16.1).
pub(super) mod attribute {
    pub const MAPPED_ADDRESS: u16 = 0x0001;
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    pub const LIFETIME: u16 = 0x000D;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const PRIORITY: u16 = 0x0024;
    pub const USE_CANDIDATE: u16 = 0x0025;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const ICE_CONTROLLED: u16 = 0x8029;
    /// Below this value an attribute must be understood (RFC 8489 section 14).
    pub const COMPREHENSION_OPTIONAL: u16 = 0x8000;
}

/// Why a datagram is not a STUN message that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum StunError {
    /// Header, lengths or attributes do not add up.
    #[error("malformed STUN message")]
    Malformed,
    /// The FINGERPRINT is not that of the message.
    #[error("the STUN fingerprint does not match")]
    Fingerprint,
}

/// True when `packet` starts as a STUN header does.
pub(super) fn has_cookie(packet: &[u8]) -> bool {
    packet.len() >= HEADER && packet.get(4..8) == Some(&MAGIC_COOKIE)
}

/// A parsed message, borrowing the datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    bytes: &'a [u8],
    kind: u16,
    transaction: TransactionId,
    /// Where the attribute MESSAGE-INTEGRITY starts.
    integrity_at: Option<usize>,
    has_fingerprint: bool,
}

impl<'a> Message<'a> {
    /// Reads one whole datagram. Checks the FINGERPRINT where there is one; MESSAGE-INTEGRITY is
    /// [`verify`](Self::verify)'s business, for it needs the password.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, StunError> {
        let header = bytes.get(..HEADER).ok_or(StunError::Malformed)?;
        let kind = be16(header, 0).ok_or(StunError::Malformed)?;
        let length = usize::from(be16(header, 2).ok_or(StunError::Malformed)?);
        if kind & 0xC000 != 0 || !has_cookie(bytes) || length % 4 != 0 || bytes.len() != HEADER + length {
            return Err(StunError::Malformed);
        }
        let transaction = header.get(8..).and_then(|id| id.try_into().ok()).ok_or(StunError::Malformed)?;
        let mut message = Self { bytes, kind, transaction, integrity_at: None, has_fingerprint: false };
        message.scan()?;
        Ok(message)
    }

    /// Walks over the attributes once: they must tile the message exactly, FINGERPRINT must be last.
    fn scan(&mut self) -> Result<(), StunError> {
        let mut at = HEADER;
        while at < self.bytes.len() {
            let (kind, value) = attribute_at(self.bytes, at).ok_or(StunError::Malformed)?;
            match kind {
                attribute::MESSAGE_INTEGRITY if self.integrity_at.is_none() => self.integrity_at = Some(at),
                attribute::FINGERPRINT => {
                    let last = at + 8 == self.bytes.len();
                    let told = <[u8; 4]>::try_from(value).map_err(|_| StunError::Malformed)?;
                    let covered = self.bytes.get(..at).filter(|_| last).ok_or(StunError::Malformed)?;
                    if u32::from_be_bytes(told) != crc32(covered) ^ FINGERPRINT_XOR {
                        return Err(StunError::Fingerprint);
                    }
                    self.has_fingerprint = true;
                }
                _ => {}
            }
            at += 4 + value.len().next_multiple_of(4);
        }
        Ok(())
    }

    /// The message type: one of [`kind`], or another that is not ours to answer.
    pub fn kind(&self) -> u16 {
        self.kind
    }

    /// The transaction that a response repeats.
    pub fn transaction(&self) -> TransactionId {
        self.transaction
    }

    /// Whether there was a (right) FINGERPRINT.
    pub fn has_fingerprint(&self) -> bool {
        self.has_fingerprint
    }

    /// Whether there is a MESSAGE-INTEGRITY (HMAC-SHA1, the one ICE uses).
    pub fn has_integrity(&self) -> bool {
        self.integrity_at.is_some()
    }

    /// The attributes that count: those before and including MESSAGE-INTEGRITY. What follows it is not authenticated
    /// and must be ignored but for FINGERPRINT (RFC 8489 section 14.5).
    fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let bytes = self.bytes;
        let end = self.integrity_at.unwrap_or(bytes.len());
        let mut at = HEADER;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let (kind, value) = attribute_at(bytes, at)?;
            at += 4 + value.len().next_multiple_of(4);
            Some((kind, value))
        })
    }

    /// The value of the first attribute of a type.
    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.attributes().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// USERNAME, when it is there and UTF-8.
    pub fn username(&self) -> Option<&'a str> {
        std::str::from_utf8(self.get(attribute::USERNAME)?).ok()
    }

    /// The attributes that had to be understood and are not, at most eight of them (RFC 8489 section 6.3.1).
    pub fn unknown_required(&self) -> ArrayVec<u16, 8> {
        const KNOWN: [u16; 7] = [
            attribute::MAPPED_ADDRESS,
            attribute::USERNAME,
            attribute::MESSAGE_INTEGRITY,
            attribute::MESSAGE_INTEGRITY_SHA256,
            attribute::XOR_MAPPED_ADDRESS,
            attribute::PRIORITY,
            attribute::USE_CANDIDATE,
        ];
        self.attributes()
            .map(|(kind, _)| kind)
            .filter(|kind| *kind < attribute::COMPREHENSION_OPTIONAL && !KNOWN.contains(kind))
            .take(8)
            .collect()
    }

    /// Whether MESSAGE-INTEGRITY is there and right for `key`. Compares in constant time.
    pub fn verify(&self, key: &IntegrityKey) -> bool {
        let Some(at) = self.integrity_at else { return false };
        let (Some((_, told)), Some(covered)) = (attribute_at(self.bytes, at), self.bytes.get(..at)) else {
            return false;
        };
        told.len() == 20 && key.mac(covered).verify_slice(told).is_ok()
    }
}

/// A short-term credential's key, prepared once for all messages (RFC 8489 section 9.1.1: the password's bytes).
#[derive(Clone)]
pub(super) struct IntegrityKey(Hmac<Sha1>);

impl IntegrityKey {
    /// The key of a password (`ice-pwd`).
    pub fn new(password: &str) -> Self {
        Self::of(password.as_bytes())
    }

    /// These bytes as the key: for long-term credentials their hash (RFC 8489 section 9.2.2).
    pub fn of(key: &[u8]) -> Self {
        let mac = Hmac::<Sha1>::new_from_slice(key);
        // HMAC takes keys of every length; an empty key is the only thing left to say if it ever did not.
        Self(mac.unwrap_or_else(|_| Hmac::new(&Default::default())))
    }

    /// The MAC over a message up to (not including) its MESSAGE-INTEGRITY, with the header's length counted as if that
    /// attribute were the last (RFC 8489 section 14.5).
    pub fn mac(&self, covered: &[u8]) -> Hmac<Sha1> {
        let mut mac = self.0.clone();
        let length = (covered.len().saturating_sub(HEADER) + 24) as u16;
        mac.update(covered.get(..2).unwrap_or_default());
        mac.update(&length.to_be_bytes());
        mac.update(covered.get(4..).unwrap_or_default());
        mac
    }
}

/// A Binding success response: XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY, FINGERPRINT.
pub(super) fn success(transaction: TransactionId, mapped: SocketAddr, key: &IntegrityKey) -> Response {
    let mut out = header(kind::BINDING_SUCCESS, transaction);
    let mut value = ArrayVec::<u8, 20>::new();
    let port = mapped.port() ^ u16::from_be_bytes([MAGIC_COOKIE[0], MAGIC_COOKIE[1]]);
    let mask = MAGIC_COOKIE.iter().chain(&transaction);
    match mapped.ip() {
        IpAddr::V4(ip) => {
            value.extend([0, 1].into_iter().chain(port.to_be_bytes()));
            value.extend(ip.octets().iter().zip(mask).map(|(a, b)| a ^ b));
        }
        IpAddr::V6(ip) => {
            value.extend([0, 2].into_iter().chain(port.to_be_bytes()));
            value.extend(ip.octets().iter().zip(mask).map(|(a, b)| a ^ b));
        }
    }
    push(&mut out, attribute::XOR_MAPPED_ADDRESS, &value);
    seal(out, Some(key))
}

/// A Binding error response. `key` is given once the request has been authenticated (RFC 8489 section 9.1.4).
pub(super) fn error(transaction: TransactionId, code: u16, unknown: &[u16], key: Option<&IntegrityKey>) -> Response {
    let mut out = header(kind::BINDING_ERROR, transaction);
    let mut value = ArrayVec::<u8, 40>::new();
    value.extend([0, 0, (code / 100) as u8, (code % 100) as u8]);
    value.extend(reason(code).bytes().take(36));
    push(&mut out, attribute::ERROR_CODE, &value);
    if !unknown.is_empty() {
        let list: ArrayVec<u8, 16> = unknown.iter().take(8).flat_map(|kind| kind.to_be_bytes()).collect();
        push(&mut out, attribute::UNKNOWN_ATTRIBUTES, &list);
    }
    seal(out, key)
}

fn reason(code: u16) -> &'static str {
    match code {
        400 => "Bad Request",
        401 => "Unauthenticated",
        420 => "Unknown Attribute",
        487 => "Role Conflict",
        _ => "Error",
    }
}

fn header(kind: u16, transaction: TransactionId) -> Response {
    let mut out = Response::new();
    out.extend(kind.to_be_bytes().into_iter().chain([0, 0]).chain(MAGIC_COOKIE).chain(transaction));
    out
}

fn push(out: &mut Response, kind: u16, value: &[u8]) {
    let padding = value.len().next_multiple_of(4) - value.len();
    out.extend(kind.to_be_bytes().into_iter().chain((value.len() as u16).to_be_bytes()));
    out.extend(value.iter().copied().chain(std::iter::repeat_n(0, padding)));
    set_length(out, 0);
}

/// Writes the header's length as what is there and `more` bytes.
fn set_length(out: &mut Response, more: usize) {
    let length = ((out.len() - HEADER + more) as u16).to_be_bytes();
    if let Some(field) = out.get_mut(2..4) {
        field.copy_from_slice(&length);
    }
}

/// Adds MESSAGE-INTEGRITY (with a key) and FINGERPRINT.
fn seal(mut out: Response, key: Option<&IntegrityKey>) -> Response {
    if let Some(key) = key {
        let mac = key.mac(&out).finalize().into_bytes();
        push(&mut out, attribute::MESSAGE_INTEGRITY, &mac);
    }
    set_length(&mut out, 8);
    let fingerprint = crc32(&out) ^ FINGERPRINT_XOR;
    push(&mut out, attribute::FINGERPRINT, &fingerprint.to_be_bytes());
    out
}

/// The attribute at an offset: its type and its value without padding. `None` where it does not fit.
fn attribute_at(bytes: &[u8], at: usize) -> Option<(u16, &[u8])> {
    let kind = be16(bytes, at)?;
    let length = usize::from(be16(bytes, at + 2)?);
    let padded = bytes.get(at + 4..at + 4 + length.next_multiple_of(4))?;
    Some((kind, padded.get(..length)?))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// CRC-32 of ISO 3309, as used by FINGERPRINT.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc_table();
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let index = (crc as u8 ^ byte) as usize;
        TABLE.get(index).copied().unwrap_or_default() ^ (crc >> 8)
    })
}

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xEDB8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A request as a browser's agent sends it, for the tests of the agent.
    pub fn request(username: &str, password: &str, extra: &[(u16, Vec<u8>)]) -> Vec<u8> {
        unsealed(username, extra, Some(&IntegrityKey::new(password)), true)
    }

    /// The same with MESSAGE-INTEGRITY and FINGERPRINT as wished.
    pub fn unsealed(
        username: &str,
        extra: &[(u16, Vec<u8>)],
        key: Option<&IntegrityKey>,
        fingerprint: bool,
    ) -> Vec<u8> {
        let mut out = Vec::from([0, 1, 0, 0]);
        out.extend(MAGIC_COOKIE.iter().chain(&[7; 12]));
        let put = |out: &mut Vec<u8>, kind: u16, value: &[u8]| {
            out.extend(kind.to_be_bytes().into_iter().chain((value.len() as u16).to_be_bytes()));
            out.extend_from_slice(value);
            out.resize(out.len().next_multiple_of(4), 0);
            let length = (out.len() - HEADER) as u16;
            out[2..4].copy_from_slice(&length.to_be_bytes());
        };
        if !username.is_empty() {
            put(&mut out, attribute::USERNAME, username.as_bytes());
        }
        for (kind, value) in extra {
            put(&mut out, *kind, value);
        }
        if let Some(key) = key {
            let mac = key.mac(&out).finalize().into_bytes();
            put(&mut out, attribute::MESSAGE_INTEGRITY, &mac);
        }
        if fingerprint {
            let length = (out.len() - HEADER + 8) as u16;
            out[2..4].copy_from_slice(&length.to_be_bytes());
            let crc = crc32(&out) ^ FINGERPRINT_XOR;
            put(&mut out, attribute::FINGERPRINT, &crc.to_be_bytes());
        }
        out
    }

    fn vector(name: &str) -> Option<Vec<u8>> {
        let folder = std::env::var("RINGBACK_TESTDATA").unwrap_or_else(|_| "../shared/testdata".into());
        let read = std::fs::read(format!("{folder}/stun/{name}")).ok();
        assert!(
            read.is_some() || std::env::var_os("RINGBACK_REQUIRE_TESTDATA").is_none(),
            "{folder}/stun/{name} is missing: set RINGBACK_TESTDATA"
        );
        read
    }

    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
    const TRANSACTION: TransactionId = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    #[test]
    fn rfc5769_short_term_request() {
        let Some(bytes) = vector("rfc5769-reqstc-0.bin") else { return };
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.kind(), kind::BINDING_REQUEST);
        assert_eq!(message.transaction(), TRANSACTION);
        assert_eq!(message.username(), Some("evtj:h6vY"));
        assert_eq!(message.get(attribute::PRIORITY), Some(&[0x6e, 0x00, 0x01, 0xff][..]));
        assert!(message.has_fingerprint() && message.verify(&IntegrityKey::new(PASSWORD)));
        assert!(!message.verify(&IntegrityKey::new("another")));
        assert!(message.unknown_required().is_empty());
    }

    #[test]
    fn rfc5769_responses_are_what_we_would_have_written() {
        for (name, address, reference) in [
            ("rfc5769-respv4-0.bin", "192.0.2.1:32853", 12),
            ("rfc5769-respv6-0.bin", "[2001:db8:1234:5678:11:2233:4455:6677]:32853", 24),
        ] {
            let Some(bytes) = vector(name) else { return };
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(message.kind(), kind::BINDING_SUCCESS);
            assert!(message.verify(&IntegrityKey::new(PASSWORD)), "{name}");
            let ours = success(TRANSACTION, address.parse().unwrap(), &IntegrityKey::new(PASSWORD));
            let ours = Message::parse(&ours).unwrap();
            let mapped = message.get(attribute::XOR_MAPPED_ADDRESS).unwrap();
            assert_eq!(ours.get(attribute::XOR_MAPPED_ADDRESS), Some(mapped), "{name}");
            assert_eq!(mapped.len() + 4, reference);
        }
    }

    #[test]
    fn rfc5769_long_term_request_parses_but_is_not_for_our_password() {
        let Some(bytes) = vector("rfc5769-reqltc-0.bin") else { return };
        let message = Message::parse(&bytes).unwrap();
        assert!(message.has_integrity() && !message.has_fingerprint());
        assert!(!message.verify(&IntegrityKey::new("TheMatrIX")));
        assert_eq!(message.unknown_required().as_slice(), [0x0015, 0x0014], "NONCE and REALM");
    }

    #[test]
    fn an_independent_codec_reads_our_responses() {
        use stun_types::attribute::{ErrorCode, XorMappedAddress};
        use stun_types::message::{Message as Theirs, MessageClass, ShortTermCredentials};
        let credentials = ShortTermCredentials::new(PASSWORD.into()).into();
        for address in ["192.0.2.1:1", "[2001:db8::1]:65535"] {
            let address: SocketAddr = address.parse().unwrap();
            let bytes = success([3; 12], address, &IntegrityKey::new(PASSWORD));
            let theirs = Theirs::from_bytes(&bytes).unwrap();
            theirs.validate_integrity(&credentials).unwrap();
            let mapped = theirs.attribute::<XorMappedAddress>().unwrap();
            assert_eq!(mapped.addr(theirs.transaction_id()), address);
        }
        for code in [400, 401, 420, 487] {
            let bytes = error([3; 12], code, &[0x15, 0x14], Some(&IntegrityKey::new(PASSWORD)));
            let theirs = Theirs::from_bytes(&bytes).unwrap();
            theirs.validate_integrity(&credentials).unwrap();
            assert_eq!(theirs.class(), MessageClass::Error);
            assert_eq!(theirs.attribute::<ErrorCode>().unwrap().code(), code);
        }
    }

    #[test]
    fn a_message_with_any_byte_changed_is_not_authentic() {
        let key = IntegrityKey::new("password");
        let good = request("ours:theirs", "password", &[(attribute::PRIORITY, vec![1, 2, 3, 4])]);
        assert!(Message::parse(&good).unwrap().verify(&key));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let taken = Message::parse(&bad).is_ok_and(|message| message.has_fingerprint() && message.verify(&key));
            assert!(!taken, "byte {at}");
        }
        for cut in 0..good.len() {
            assert!(Message::parse(&good[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn attributes_after_the_integrity_do_not_count() {
        let mut bytes = unsealed("ours:theirs", &[], Some(&IntegrityKey::new("password")), false);
        bytes.extend([0, 0x25, 0, 0]);
        let length = (bytes.len() - HEADER) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let message = Message::parse(&bytes).unwrap();
        assert!(message.verify(&IntegrityKey::new("password")));
        assert_eq!(message.get(attribute::USE_CANDIDATE), None);
    }

    proptest::proptest! {
        #[test]
        fn noise_never_panics(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), cookie: bool) {
            if cookie && bytes.len() >= HEADER {
                bytes[4..8].copy_from_slice(&MAGIC_COOKIE);
                let length = ((bytes.len() - HEADER) as u16).to_be_bytes();
                bytes[..4].copy_from_slice(&[0, 1, length[0], length[1]]);
            }
            if let Ok(message) = Message::parse(&bytes) {
                let _ = (message.username(), message.unknown_required());
                let _ = message.verify(&IntegrityKey::new("x"));
            }
        }
    }
}
