//! SRTP and SRTCP in place ([RFC 3711](https://www.rfc-editor.org/rfc/rfc3711),
//! [RFC 7714](https://www.rfc-editor.org/rfc/rfc7714)).
//!
//! An [`SrtpContext`] is one direction of one session: one master key, any number (within bounds) of sources.
//! Packets are transformed where they lie; nothing is allocated per packet. Nothing about a source is learnt from a
//! packet that is not authentic.

use aes::cipher::{BlockCipherEncrypt, InnerIvInit, StreamCipherCore, StreamCipherCoreWrapper};
use aes::{Aes128, Aes256};
use aes_gcm::{AeadInOut, Aes128Gcm, Aes256Gcm, KeyInit};
use arrayvec::ArrayVec;
use hmac::{Hmac, Mac};
use sha1::Sha1;

/// Sources whose state one direction remembers. A browser's audio has one; the bound is against a peer gone mad.
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

/// Why a packet was not transformed. It and the context are as they were, but for the bytes of a packet refused after
/// its authentication (never for [`SrtpError::NotAuthentic`] or [`SrtpError::Replayed`]).
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
    /// More sources than one peer can have.
    #[error("too many sources")]
    TooManySources,
    /// 2^48 RTP or 2^31 RTCP packets: the key must not be used any more (RFC 3711 section 9.2).
    #[error("the key is used up")]
    KeyExhausted,
}

/// One direction of a session.
pub struct SrtpContext;

impl SrtpContext {
    /// A context from a master key and salt, whose lengths must be the profile's.
    pub fn new(_profile: Profile, _key: &[u8], _salt: &[u8]) -> Result<Self, SrtpError> {
        Err(SrtpError::KeyLength)
    }

    /// Protects the plain RTP packet in the first `len` bytes; yields the protected length.
    pub fn protect_rtp(&mut self, _buf: &mut [u8], _len: usize) -> Result<usize, SrtpError> {
        Err(SrtpError::Malformed)
    }

    /// Opens a protected RTP packet, the whole of the slice; yields the plain length.
    pub fn unprotect_rtp(&mut self, _packet: &mut [u8]) -> Result<usize, SrtpError> {
        Err(SrtpError::Malformed)
    }

    /// Protects the plain (compound) RTCP packet in the first `len` bytes; yields the protected length.
    pub fn protect_rtcp(&mut self, _buf: &mut [u8], _len: usize) -> Result<usize, SrtpError> {
        Err(SrtpError::Malformed)
    }

    /// Opens a protected RTCP packet, the whole of the slice; yields the plain length.
    pub fn unprotect_rtcp(&mut self, _packet: &mut [u8]) -> Result<usize, SrtpError> {
        Err(SrtpError::Malformed)
    }
}
