//! SRTP and SRTCP in place ([RFC 3711](https://www.rfc-editor.org/rfc/rfc3711),
//! [RFC 7714](https://www.rfc-editor.org/rfc/rfc7714)).
//!
//! An [`SrtpContext`] is one direction of one session: one master key, any number (within bounds) of sources.
//! Packets are transformed where they lie; nothing is allocated per packet. Nothing about a source is learnt from a
//! packet that is not authentic.

use aes::cipher::{BlockCipherEncrypt, InnerIvInit, StreamCipherCore};
use aes::{Aes128, Aes256};
use aes_gcm::{AeadInOut, Aes128Gcm, Aes256Gcm, KeyInit};
use arrayvec::ArrayVec;
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use hmac::{Hmac, Mac};
use sha1::Sha1;

/// Sources whose state one direction remembers. A peer's audio has one at a time.
const MAX_SOURCES: usize = 16;
/// The fixed part of an RTP header.
const RTP_HEADER: usize = 12;
/// The part of an RTCP packet that stays in the clear: the first header and the sender's SSRC.
const RTCP_HEADER: usize = 8;
/// The flag "encrypted" and the 31-bit index that follow every SRTCP packet.
const RTCP_INDEX: usize = 4;
const ENCRYPTED: u32 = 0x8000_0000;
const GCM_TAG: usize = 16;

/// A protection profile ([RFC 5764, section 4.1.2](https://www.rfc-editor.org/rfc/rfc5764#section-4.1.2), RFC 7714
/// section 14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)] // as close to the RFC's names as the language permits
pub enum Profile {
    /// AES in counter mode, 80-bit HMAC-SHA1 tags: what every endpoint has.
    Aes128CmSha1_80,
    /// The same with 32-bit tags on RTP; RTCP keeps 80 bits (RFC 4568 section 6.2.2). Only by SDES.
    Aes128CmSha1_32,
    /// AES-128 in Galois/counter mode.
    AeadAes128Gcm,
    /// AES-256 in Galois/counter mode.
    AeadAes256Gcm,
}

impl Profile {
    /// Length of the master key in bytes.
    pub fn key_len(self) -> usize {
        if self == Profile::AeadAes256Gcm { 32 } else { 16 }
    }

    /// Length of the master salt in bytes.
    pub fn salt_len(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    /// What a protected RTP packet is longer than the plain one, in bytes.
    pub fn rtp_overhead(self) -> usize {
        match self {
            Profile::Aes128CmSha1_80 => 10,
            Profile::Aes128CmSha1_32 => 4,
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => GCM_TAG,
        }
    }

    /// What a protected RTCP packet is longer than the plain one, in bytes.
    pub fn rtcp_overhead(self) -> usize {
        RTCP_INDEX + if self.is_aead() { GCM_TAG } else { 10 }
    }

    fn is_aead(self) -> bool {
        matches!(self, Profile::AeadAes128Gcm | Profile::AeadAes256Gcm)
    }
}

/// Why a packet was not transformed. The context is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SrtpError {
    /// Key or salt are not of the profile's length.
    #[error("the master key or salt is not of the profile's length")]
    KeyLength,
    /// Not an RTP or RTCP packet.
    #[error("not an RTP or RTCP packet")]
    Malformed,
    /// The buffer has no room for the tag.
    #[error("the buffer has no room for the authentication tag")]
    NoRoom,
    /// The tag is wrong.
    #[error("the packet is not authentic")]
    NotAuthentic,
    /// Seen before, or too old to tell.
    #[error("the packet is replayed or too old")]
    Replayed,
    /// More sources of ours than one key protects.
    #[error("too many sources")]
    TooManySources,
    /// 2^48 RTP or 2^31 RTCP packets: the key must not be used any more (RFC 3711 section 9.2).
    #[error("the key is used up")]
    KeyExhausted,
}

/// One direction of a session.
pub struct SrtpContext {
    profile: Profile,
    rtp: Transform,
    rtcp: Transform,
    sources: ArrayVec<Source, MAX_SOURCES>,
    /// Packets that something was learnt from: the clock of [`Source::used`].
    learnt: u64,
}

/// What is remembered of one SSRC.
#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: u32,
    /// 48-bit packet indices, of the packets sent or authenticated.
    rtp: Window,
    /// 31-bit packet indices.
    rtcp: Window,
    /// When the source was last of use.
    used: u64,
}

impl SrtpContext {
    /// A context from a master key and salt, whose lengths must be the profile's.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
            return Err(SrtpError::KeyLength);
        }
        let kdf = Kdf::new(key, salt)?;
        Ok(Self {
            profile,
            rtp: Transform::new(profile, profile.rtp_overhead(), &kdf, [0, 1, 2])?,
            rtcp: Transform::new(profile, 10, &kdf, [3, 4, 5])?,
            sources: ArrayVec::new(),
            learnt: 0,
        })
    }

    /// The profile.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Takes over from a context with another key the rollover counters of its sources, which a new key does not set back
    /// (RFC 3711 section 3.3.1). `false`: they are all 0 yet, and there is nothing to take over.
    pub fn carry_on(&mut self, before: &SrtpContext) -> bool {
        let rtp = |window: Window| Window { next: window.next, seen: 0 };
        let carried = |source: &Source| Source { rtp: rtp(source.rtp), rtcp: Window::default(), ..*source };
        self.sources = before.sources.iter().map(carried).collect();
        self.learnt = before.learnt;
        before.sources.iter().any(|source| source.rtp.next > 1 << 16)
    }

    /// Protects the plain RTP packet in the first `len` bytes of `buf`; yields the protected length.
    ///
    /// Sequence numbers may skip and be out of order by less than 2^15, as on receiving: the rollover counter follows
    /// (RFC 3711 section 3.3.1). Never protect two packets of one number: the key stream would repeat.
    pub fn protect_rtp(&mut self, buf: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let total = len.checked_add(self.profile.rtp_overhead()).ok_or(SrtpError::NoRoom)?;
        let packet = buf.get_mut(..total).ok_or(SrtpError::NoRoom)?;
        let header = RtpHeader::read(packet.get(..len).unwrap_or_default())?;
        let source = self.source(header.ssrc)?;
        let index = source.rtp.index_of(header.sequence)?;
        self.rtp.seal_rtp(packet, &header, index);
        self.learn(source, |source| source.rtp.insert(index));
        Ok(total)
    }

    /// Opens a protected RTP packet, the whole of the slice; yields the plain length.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let len = packet.len().checked_sub(self.profile.rtp_overhead()).ok_or(SrtpError::Malformed)?;
        let header = RtpHeader::read(packet.get(..len).unwrap_or_default())?;
        let source = self.known(header.ssrc);
        let index = source.rtp.index_of(header.sequence)?;
        if !source.rtp.is_new(index) {
            return Err(SrtpError::Replayed);
        }
        self.rtp.open_rtp(packet, &header, index)?;
        self.learn(source, |source| source.rtp.insert(index));
        Ok(len)
    }

    /// Protects the plain (compound) RTCP packet in the first `len` bytes of `buf`; yields the protected length.
    pub fn protect_rtcp(&mut self, buf: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let total = len.checked_add(self.profile.rtcp_overhead()).ok_or(SrtpError::NoRoom)?;
        let packet = buf.get_mut(..total).ok_or(SrtpError::NoRoom)?;
        let ssrc = rtcp_ssrc(packet.get(..len).unwrap_or_default())?;
        let source = self.source(ssrc)?;
        let index = source.rtcp.next();
        if index >= u64::from(ENCRYPTED) {
            return Err(SrtpError::KeyExhausted);
        }
        self.rtcp.seal_rtcp(packet, ssrc, index as u32 | ENCRYPTED)?;
        self.learn(source, |source| source.rtcp.insert(index));
        Ok(total)
    }

    /// Opens a protected RTCP packet, the whole of the slice; yields the plain length.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let len = packet.len().checked_sub(self.profile.rtcp_overhead()).ok_or(SrtpError::Malformed)?;
        let ssrc = rtcp_ssrc(packet.get(..len).unwrap_or_default())?;
        let source = self.known(ssrc);
        let word = self.rtcp.rtcp_index(packet)?;
        let index = u64::from(word & !ENCRYPTED);
        if !source.rtcp.is_new(index) {
            return Err(SrtpError::Replayed);
        }
        self.rtcp.open_rtcp(packet, ssrc, word)?;
        self.learn(source, |source| source.rtcp.insert(index));
        Ok(len)
    }

    /// A copy of what is known of a source of ours. A new one is refused when there are too many: what was forgotten could
    /// protect two packets of one number.
    fn source(&self, ssrc: u32) -> Result<Source, SrtpError> {
        let is_new = self.sources.iter().all(|source| source.ssrc != ssrc);
        if is_new && self.sources.is_full() { Err(SrtpError::TooManySources) } else { Ok(self.known(ssrc)) }
    }

    /// A copy of what is known of a source, or of what is known of a new one: nothing.
    fn known(&self, ssrc: u32) -> Source {
        let known = self.sources.iter().find(|source| source.ssrc == ssrc).copied();
        known.unwrap_or(Source { ssrc, rtp: Window::default(), rtcp: Window::default(), used: 0 })
    }

    /// Puts a source's state back, changed: the only place where the context learns. A peer may change its source as often as
    /// it likes (each announcement of a queue may be another): the one that was silent for longest is forgotten.
    fn learn(&mut self, mut source: Source, change: impl FnOnce(&mut Source)) {
        change(&mut source);
        self.learnt += 1;
        source.used = self.learnt;
        let known = self.sources.iter().position(|known| known.ssrc == source.ssrc);
        let oldest = || (0..MAX_SOURCES).min_by_key(|n| self.sources.get(*n).map(|source| source.used));
        let place = known.or_else(|| self.sources.is_full().then(oldest).flatten());
        match place.and_then(|place| self.sources.get_mut(place)) {
            Some(known) => *known = source,
            None => drop(self.sources.try_push(source)),
        }
    }
}

/// Packet indices of one source: the highest one and which of the 128 up to it have been there
/// (RFC 3711 sections 3.3.1 and 3.3.2; it asks for 64 at least).
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    /// The highest index plus one; 0 before the first packet.
    next: u64,
    /// Bit n: the packet `next - 1 - n` has been there.
    seen: u128,
}

impl Window {
    const SIZE: u64 = 128;

    /// The index after the highest.
    fn next(&self) -> u64 {
        self.next
    }

    /// Estimates the 48-bit index of a sequence number: the one closest to the highest so far (RFC 3711 section 3.3.1).
    fn index_of(&self, sequence: u16) -> Result<u64, SrtpError> {
        let Some(highest) = self.next.checked_sub(1) else { return Ok(u64::from(sequence)) };
        let ahead = sequence.wrapping_sub(highest as u16) as i16;
        // Before the first rollover there is nothing that could have been sent: it is older than the session.
        let index = highest.checked_add_signed(i64::from(ahead)).ok_or(SrtpError::Replayed)?;
        if index < 1 << 48 { Ok(index) } else { Err(SrtpError::KeyExhausted) }
    }

    fn is_new(&self, index: u64) -> bool {
        match self.next.checked_sub(index + 1) {
            None => true,
            Some(age) => age < Self::SIZE && self.seen & (1 << age) == 0,
        }
    }

    fn insert(&mut self, index: u64) {
        match self.next.checked_sub(index + 1) {
            Some(age) if age < Self::SIZE => self.seen |= 1 << age,
            Some(_) => {}
            None => {
                let ahead = index + 1 - self.next;
                self.seen = if ahead < Self::SIZE { self.seen << ahead } else { 0 } | 1;
                self.next = index + 1;
            }
        }
    }
}

/// What of an RTP header concerns its protection.
struct RtpHeader {
    sequence: u16,
    ssrc: u32,
    /// With CSRCs and extension: what stays in the clear.
    len: usize,
}

impl RtpHeader {
    fn read(packet: &[u8]) -> Result<Self, SrtpError> {
        let (fixed, rest) = packet.split_first_chunk::<RTP_HEADER>().ok_or(SrtpError::Malformed)?;
        let [first, _, seq0, seq1, _, _, _, _, ssrc @ ..] = *fixed;
        if first >> 6 != 2 {
            return Err(SrtpError::Malformed);
        }
        let csrcs = usize::from(first & 0x0F) * 4;
        let mut len = RTP_HEADER + csrcs;
        if first & 0x10 != 0 {
            let extension = rest.get(csrcs..).and_then(<[u8]>::first_chunk::<4>).ok_or(SrtpError::Malformed)?;
            len += 4 + 4 * usize::from(u16::from_be_bytes([extension[2], extension[3]]));
        }
        if len > packet.len() {
            return Err(SrtpError::Malformed);
        }
        Ok(Self { sequence: u16::from_be_bytes([seq0, seq1]), ssrc: u32::from_be_bytes(ssrc), len })
    }
}

fn rtcp_ssrc(packet: &[u8]) -> Result<u32, SrtpError> {
    match packet.first_chunk::<RTCP_HEADER>() {
        Some([first, _, _, _, ssrc @ ..]) if first >> 6 == 2 => Ok(u32::from_be_bytes(*ssrc)),
        _ => Err(SrtpError::Malformed),
    }
}

/// Derives session keys from a master key (RFC 3711 section 4.3, key derivation rate 0; RFC 7714 section 11 for the
/// 96-bit salt and RFC 6188 section 2 for AES-256).
struct Kdf {
    cipher: KdfCipher,
    /// A 96-bit salt counts as 112 bits with zeros on the right.
    salt: [u8; 14],
}

enum KdfCipher {
    Aes128(Aes128),
    Aes256(Aes256),
}

impl Kdf {
    fn new(key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        let cipher = match key.len() {
            32 => KdfCipher::Aes256(Aes256::new_from_slice(key).map_err(|_| SrtpError::KeyLength)?),
            _ => KdfCipher::Aes128(Aes128::new_from_slice(key).map_err(|_| SrtpError::KeyLength)?),
        };
        let mut padded = [0; 14];
        padded.get_mut(..salt.len()).ok_or(SrtpError::KeyLength)?.copy_from_slice(salt);
        Ok(Self { cipher, salt: padded })
    }

    /// The first N bytes of the key stream for a label.
    fn derive<const N: usize>(&self, label: u8) -> [u8; N] {
        let mut iv = salted_iv(&self.salt, 0, 0);
        iv[7] ^= label;
        let mut out = [0; N];
        match &self.cipher {
            KdfCipher::Aes128(aes) => apply_counter_mode(aes, iv, &mut out),
            KdfCipher::Aes256(aes) => apply_counter_mode(aes, iv, &mut out),
        }
        out
    }
}

/// `(salt * 2^16) XOR (SSRC * 2^64) XOR (index * 2^16)` (RFC 3711 section 4.1.1).
fn salted_iv(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut wide = [0; 16];
    let (high, _) = wide.split_at_mut(14);
    high.copy_from_slice(salt);
    let iv = u128::from_be_bytes(wide) ^ u128::from(ssrc) << 64 ^ u128::from(index) << 16;
    iv.to_be_bytes()
}

fn apply_counter_mode<C>(cipher: &C, iv: [u8; 16], data: &mut [u8])
where
    C: BlockCipherEncrypt<BlockSize = aes::cipher::consts::U16>,
{
    CtrCore::<&C, Ctr128BE>::inner_iv_init(cipher, &iv.into()).apply_keystream_partial(data.into());
}

/// The keys of RTP or of RTCP, ready for use.
enum Transform {
    /// AES counter mode, then HMAC-SHA1 truncated to `tag` bytes.
    Cm {
        cipher: Aes128,
        mac: Hmac<Sha1>,
        salt: [u8; 14],
        tag: usize,
    },
    Gcm128 {
        cipher: Aes128Gcm,
        salt: [u8; 12],
    },
    Gcm256 {
        cipher: Aes256Gcm,
        salt: [u8; 12],
    },
}

/// The nonce of AEAD: the salt XOR what identifies the packet (RFC 7714 sections 8.1 and 9.1).
fn nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> [u8; 12] {
    let [_, _, i0, i1, i2, i3, i4, i5] = index.to_be_bytes();
    let [s0, s1, s2, s3] = ssrc.to_be_bytes();
    let mut nonce = *salt;
    nonce.iter_mut().zip([0, 0, s0, s1, s2, s3, i0, i1, i2, i3, i4, i5]).for_each(|(byte, mask)| *byte ^= mask);
    nonce
}

impl Transform {
    fn new(profile: Profile, tag: usize, kdf: &Kdf, labels: [u8; 3]) -> Result<Self, SrtpError> {
        let [key, mac, salt] = labels;
        Ok(match profile {
            Profile::Aes128CmSha1_80 | Profile::Aes128CmSha1_32 => Self::Cm {
                cipher: Aes128::new(&kdf.derive::<16>(key).into()),
                mac: Hmac::new_from_slice(&kdf.derive::<20>(mac)).map_err(|_| SrtpError::KeyLength)?,
                salt: kdf.derive(salt),
                tag,
            },
            Profile::AeadAes128Gcm => {
                Self::Gcm128 { cipher: Aes128Gcm::new(&kdf.derive::<16>(key).into()), salt: kdf.derive(salt) }
            }
            Profile::AeadAes256Gcm => {
                Self::Gcm256 { cipher: Aes256Gcm::new(&kdf.derive::<32>(key).into()), salt: kdf.derive(salt) }
            }
        })
    }

    /// Bytes of the authentication tag.
    fn tag(&self) -> usize {
        match self {
            Self::Cm { tag, .. } => *tag,
            Self::Gcm128 { .. } | Self::Gcm256 { .. } => GCM_TAG,
        }
    }

    /// Encrypts and authenticates; `packet` has room for the tag at its end.
    fn seal_rtp(&self, packet: &mut [u8], header: &RtpHeader, index: u64) {
        let (plain, tag) = packet.split_at_mut(packet.len() - self.tag());
        let (clear, payload) = plain.split_at_mut(header.len);
        match self {
            Self::Cm { cipher, mac, salt, .. } => {
                apply_counter_mode(cipher, salted_iv(salt, header.ssrc, index), payload);
                truncated(tag, &rtp_mac(mac, plain, index).finalize().into_bytes());
            }
            Self::Gcm128 { cipher, salt } => seal(cipher, nonce(salt, header.ssrc, index), clear, payload, tag),
            Self::Gcm256 { cipher, salt } => seal(cipher, nonce(salt, header.ssrc, index), clear, payload, tag),
        }
    }

    /// Checks and decrypts.
    fn open_rtp(&self, packet: &mut [u8], header: &RtpHeader, index: u64) -> Result<(), SrtpError> {
        let (sealed, tag) = packet.split_at_mut(packet.len() - self.tag());
        match self {
            Self::Cm { cipher, mac, salt, .. } => {
                rtp_mac(mac, sealed, index).verify_truncated_left(tag).map_err(|_| SrtpError::NotAuthentic)?;
                let payload = sealed.get_mut(header.len..).ok_or(SrtpError::Malformed)?;
                apply_counter_mode(cipher, salted_iv(salt, header.ssrc, index), payload);
                Ok(())
            }
            Self::Gcm128 { cipher, salt } => {
                let (clear, payload) = sealed.split_at_mut(header.len);
                open(cipher, nonce(salt, header.ssrc, index), clear, payload, tag)
            }
            Self::Gcm256 { cipher, salt } => {
                let (clear, payload) = sealed.split_at_mut(header.len);
                open(cipher, nonce(salt, header.ssrc, index), clear, payload, tag)
            }
        }
    }

    /// The flag and index of a protected RTCP packet: before the tag in counter mode, last with AEAD.
    fn rtcp_index(&self, packet: &[u8]) -> Result<u32, SrtpError> {
        let after = match self {
            Self::Cm { tag, .. } => *tag,
            Self::Gcm128 { .. } | Self::Gcm256 { .. } => 0,
        };
        let end = packet.len().checked_sub(after).ok_or(SrtpError::Malformed)?;
        let word = packet.get(..end).and_then(<[u8]>::last_chunk::<RTCP_INDEX>).ok_or(SrtpError::Malformed)?;
        Ok(u32::from_be_bytes(*word))
    }

    /// Encrypts and authenticates; `packet` has room for index and tag at its end.
    fn seal_rtcp(&self, packet: &mut [u8], ssrc: u32, word: u32) -> Result<(), SrtpError> {
        let index = u64::from(word & !ENCRYPTED);
        let (plain, trailer) = packet.split_at_mut(packet.len() - self.tag() - RTCP_INDEX);
        let (clear, payload) = plain.split_at_mut_checked(RTCP_HEADER).ok_or(SrtpError::Malformed)?;
        match self {
            Self::Cm { cipher, mac, salt, .. } => {
                apply_counter_mode(cipher, salted_iv(salt, ssrc, index), payload);
                let (field, tag) = trailer.split_at_mut(RTCP_INDEX);
                field.copy_from_slice(&word.to_be_bytes());
                let mut mac = mac.clone();
                mac.update(plain);
                mac.update(field);
                truncated(tag, &mac.finalize().into_bytes());
            }
            Self::Gcm128 { cipher, salt } => {
                let (tag, field) = trailer.split_at_mut(GCM_TAG);
                field.copy_from_slice(&word.to_be_bytes());
                seal(cipher, nonce(salt, ssrc, index), &rtcp_associated(clear, word), payload, tag);
            }
            Self::Gcm256 { cipher, salt } => {
                let (tag, field) = trailer.split_at_mut(GCM_TAG);
                field.copy_from_slice(&word.to_be_bytes());
                seal(cipher, nonce(salt, ssrc, index), &rtcp_associated(clear, word), payload, tag);
            }
        }
        Ok(())
    }

    /// Checks and, where the flag says so, decrypts.
    fn open_rtcp(&self, packet: &mut [u8], ssrc: u32, word: u32) -> Result<(), SrtpError> {
        let index = u64::from(word & !ENCRYPTED);
        let encrypted = word & ENCRYPTED != 0;
        let len = packet.len() - self.tag() - RTCP_INDEX;
        match self {
            Self::Cm { cipher, mac, salt, tag } => {
                let (signed, tag) = packet.split_at_mut(packet.len() - *tag);
                let mut mac = mac.clone();
                mac.update(signed);
                mac.verify_truncated_left(tag).map_err(|_| SrtpError::NotAuthentic)?;
                if encrypted {
                    let payload = signed.get_mut(RTCP_HEADER..len).ok_or(SrtpError::Malformed)?;
                    apply_counter_mode(cipher, salted_iv(salt, ssrc, index), payload);
                }
                Ok(())
            }
            Self::Gcm128 { cipher, salt } => open_rtcp(cipher, nonce(salt, ssrc, index), packet, len, word),
            Self::Gcm256 { cipher, salt } => open_rtcp(cipher, nonce(salt, ssrc, index), packet, len, word),
        }
    }
}

/// The MAC over a packet and its rollover counter, the high 32 bits of the index (RFC 3711 section 4.2).
fn rtp_mac(mac: &Hmac<Sha1>, packet: &[u8], index: u64) -> Hmac<Sha1> {
    let mut mac = mac.clone();
    mac.update(packet);
    mac.update(&((index >> 16) as u32).to_be_bytes());
    mac
}

/// Writes the first bytes of a full tag, as many as there is room for.
fn truncated(tag: &mut [u8], full: &[u8]) {
    tag.iter_mut().zip(full).for_each(|(to, from)| *to = *from);
}

/// The associated data of an encrypted SRTCP packet: its clear header and the last word (RFC 7714 section 9.2).
fn rtcp_associated(clear: &[u8], word: u32) -> [u8; RTCP_HEADER + RTCP_INDEX] {
    let mut associated = [0; RTCP_HEADER + RTCP_INDEX];
    associated.iter_mut().zip(clear.iter().copied().chain(word.to_be_bytes())).for_each(|(to, from)| *to = from);
    associated
}

trait Gcm: AeadInOut<NonceSize = aes::cipher::consts::U12, TagSize = aes::cipher::consts::U16> {}
impl Gcm for Aes128Gcm {}
impl Gcm for Aes256Gcm {}

fn seal(cipher: &impl Gcm, nonce: [u8; 12], associated: &[u8], data: &mut [u8], tag: &mut [u8]) {
    // It fails for more than 2^36 bytes only.
    if let Ok(full) = cipher.encrypt_inout_detached(&nonce.into(), associated, data.into()) {
        truncated(tag, &full);
    }
}

fn open(cipher: &impl Gcm, nonce: [u8; 12], associated: &[u8], data: &mut [u8], tag: &[u8]) -> Result<(), SrtpError> {
    let tag = <[u8; GCM_TAG]>::try_from(tag).map_err(|_| SrtpError::Malformed)?;
    cipher
        .decrypt_inout_detached(&nonce.into(), associated, data.into(), &tag.into())
        .map_err(|_| SrtpError::NotAuthentic)
}

/// Opens an SRTCP packet by AEAD: `len` plain bytes, the tag, the index. One that is not encrypted is associated data
/// as a whole, index included (RFC 7714 section 9.3).
fn open_rtcp(cipher: &impl Gcm, nonce: [u8; 12], packet: &mut [u8], len: usize, word: u32) -> Result<(), SrtpError> {
    let (plain, trailer) = packet.split_at_mut_checked(len).ok_or(SrtpError::Malformed)?;
    let tag = trailer.first_chunk::<GCM_TAG>().copied().ok_or(SrtpError::Malformed)?;
    if word & ENCRYPTED != 0 {
        let (clear, payload) = plain.split_at_mut_checked(RTCP_HEADER).ok_or(SrtpError::Malformed)?;
        return open(cipher, nonce, &rtcp_associated(clear, word), payload, &tag);
    }
    // The index moves up to the packet's end for the check: what lies behind the plain length is nobody's any more.
    let whole = packet.get_mut(..len + RTCP_INDEX).ok_or(SrtpError::Malformed)?;
    let (_, end) = whole.split_at_mut(len);
    end.copy_from_slice(&word.to_be_bytes());
    open(cipher, nonce, whole, &mut [], &tag)
}

#[cfg(test)]
#[path = "srtp_tests.rs"]
mod tests;
