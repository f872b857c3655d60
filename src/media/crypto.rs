//! The protection of an RTP leg whose keys came in its description (SDES,
//! [RFC 4568](https://www.rfc-editor.org/rfc/rfc4568)).
//!
//! A context lives as long as the leg: a description that says a key again, be it after others, finds the rollover counter
//! and the replay window where they were. So no part of a key stream is ever used twice.

use std::time::{Duration, Instant};

use crate::rtp::srtp::{Profile, SrtpContext, SrtpError};
use crate::sdp::{SrtpKey, SrtpPlan, SrtpSuite};

/// Keys of one direction that are remembered. A peer that changes its key in each description is refused beyond this: a key
/// of ours that was forgotten could not be used again.
const KEYS: usize = 8;
/// How long packets under the peer's former key are taken: they are still on their way.
const GRACE: Duration = Duration::from_secs(2);

/// One key and its context.
struct Keyed {
    suite: SrtpSuite,
    key: SrtpKey,
    /// Bytes of the identifier in each packet; of no account where it is ours.
    mki: usize,
    /// Its last moment, once another took its place.
    until: Option<Instant>,
    context: SrtpContext,
    /// The same with the rollover counters of the key before, until the peer's first packet shows which it is: RFC 3711
    /// section 3.3.1 keeps them when the key changes, and many peers begin anew.
    carried: Option<SrtpContext>,
}

/// Both directions of a leg. Without keys everything passes as it is.
#[derive(Default)]
pub(super) struct Crypto {
    /// Whether the leg's media is protected now.
    on: bool,
    /// Keys came that cannot be used: the leg has no media any more.
    failed: bool,
    /// The present key of each direction comes last.
    ours: Vec<Keyed>,
    theirs: Vec<Keyed>,
}

impl Crypto {
    /// Takes what was negotiated. Where keys cannot be used there is no media: never plain in their place.
    pub fn configure(&mut self, now: Instant, plan: Option<&SrtpPlan>) {
        self.on = plan.is_some();
        let Some(plan) = plan else { return };
        let ours = choose(&mut self.ours, now, plan.suite, (&plan.our_key, 0), false);
        let theirs = choose(&mut self.theirs, now, plan.suite, (&plan.their_key, plan.their_mki), true);
        if let Err(error) = ours.and(theirs) {
            tracing::warn!(%error, "a leg's keys cannot be used: it has no media");
            self.failed = true;
        }
    }

    /// Whether a key of ours was ever in use here.
    pub fn has_keys(&self) -> bool {
        !self.ours.is_empty()
    }

    /// Protects the RTP packet in the first `len` bytes; the new length.
    pub fn protect_rtp(&mut self, buf: &mut [u8], len: usize) -> Option<usize> {
        if !self.on {
            return Some(len);
        }
        self.present()?.protect_rtp(buf, len).ok()
    }

    /// Protects the RTCP packet in the first `len` bytes; the new length.
    pub fn protect_rtcp(&mut self, buf: &mut [u8], len: usize) -> Option<usize> {
        if !self.on {
            return Some(len);
        }
        self.present()?.protect_rtcp(buf, len).ok()
    }

    /// The context of our present key.
    fn present(&mut self) -> Option<&mut SrtpContext> {
        self.ours.last_mut().filter(|_| !self.failed).map(|keyed| &mut keyed.context)
    }

    /// Opens an RTP packet in place; the plain length, `None` for one that is not authentic.
    pub fn open_rtp(&mut self, now: Instant, packet: &mut [u8]) -> Option<usize> {
        self.open(now, packet, true, SrtpContext::unprotect_rtp)
    }

    /// Opens an RTCP packet in place; the plain length, `None` for one that is not authentic.
    pub fn open_rtcp(&mut self, now: Instant, packet: &mut [u8]) -> Option<usize> {
        self.open(now, packet, false, SrtpContext::unprotect_rtcp)
    }

    fn open(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        is_rtp: bool,
        with: impl Fn(&mut SrtpContext, &mut [u8]) -> Result<usize, SrtpError>,
    ) -> Option<usize> {
        if !self.on {
            return Some(packet.len());
        }
        if self.failed {
            return None;
        }
        let mut valid = self.theirs.iter_mut().rev().filter(|keyed| keyed.until.is_none_or(|until| now < until));
        valid.find_map(|keyed| keyed.open(packet, is_rtp, &with))
    }
}

impl Keyed {
    /// Opens a packet under this key, or leaves it as it is.
    fn open(
        &mut self,
        packet: &mut [u8],
        is_rtp: bool,
        with: &impl Fn(&mut SrtpContext, &mut [u8]) -> Result<usize, SrtpError>,
    ) -> Option<usize> {
        let plain = packet.len().checked_sub(self.mki)?;
        let tail = plain.checked_sub(self.suite.tag_len(is_rtp))?;
        // The identifier stands before the tag (RFC 3711 section 3.1); where the cipher has the tag in it, at the end
        // (RFC 7714 section 17): it is moved out of the way.
        packet.get_mut(tail..)?.rotate_left(self.mki);
        let opened = self.open_plain(packet.get_mut(..plain)?, is_rtp, with);
        if opened.is_none() {
            packet.get_mut(tail..)?.rotate_right(self.mki);
        }
        opened
    }

    fn open_plain(
        &mut self,
        packet: &mut [u8],
        is_rtp: bool,
        with: &impl Fn(&mut SrtpContext, &mut [u8]) -> Result<usize, SrtpError>,
    ) -> Option<usize> {
        match with(&mut self.context, packet) {
            Ok(len) => {
                // RTCP tells its index itself, and nothing of the counters.
                self.carried.take_if(|_| is_rtp);
                return Some(len);
            }
            // Perhaps it is one of the key before: nothing was changed.
            Err(SrtpError::NotAuthentic) => {}
            Err(_) => return None,
        }
        let mut carried = self.carried.take()?;
        match with(&mut carried, packet) {
            Ok(len) => {
                self.context = carried;
                Some(len)
            }
            Err(_) => {
                self.carried = Some(carried);
                None
            }
        }
    }
}

/// Makes a key the present one, with the context that it had if it was there before. Of the peer's keys the oldest may be
/// forgotten; ours may not.
fn choose(
    keys: &mut Vec<Keyed>,
    now: Instant,
    suite: SrtpSuite,
    (key, mki): (&SrtpKey, u8),
    forget: bool,
) -> Result<(), SrtpError> {
    let known = keys.iter().position(|keyed| keyed.suite == suite && keyed.key == *key);
    let chosen = match known {
        Some(index) => keys.remove(index),
        None => {
            let mut carried = context(suite, key)?;
            let counts = forget && keys.last().is_some_and(|before| carried.carry_on(&before.context));
            let carried = counts.then_some(carried);
            Keyed { suite, key: key.clone(), mki: 0, until: None, context: context(suite, key)?, carried }
        }
    };
    if keys.len() >= KEYS {
        if !forget {
            return Err(SrtpError::KeyExhausted);
        }
        keys.remove(0);
    }
    for old in keys.iter_mut() {
        old.until = old.until.or(Some(now + GRACE));
    }
    keys.push(Keyed { mki: usize::from(mki), until: None, ..chosen });
    Ok(())
}

fn context(suite: SrtpSuite, key: &SrtpKey) -> Result<SrtpContext, SrtpError> {
    let profile = match suite {
        SrtpSuite::AesCm128HmacSha1_80 => Profile::Aes128CmSha1_80,
        SrtpSuite::AesCm128HmacSha1_32 => Profile::Aes128CmSha1_32,
        SrtpSuite::AeadAes128Gcm => Profile::AeadAes128Gcm,
        SrtpSuite::AeadAes256Gcm => Profile::AeadAes256Gcm,
    };
    let (key, salt) = key.0.split_at_checked(suite.key_len()).ok_or(SrtpError::KeyLength)?;
    SrtpContext::new(profile, key, salt)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
    use super::*;

    fn key(suite: SrtpSuite, byte: u8) -> SrtpKey {
        SrtpKey(vec![byte; suite.key_and_salt_len()])
    }

    fn plan(suite: SrtpSuite, ours: u8, theirs: u8) -> SrtpPlan {
        SrtpPlan { suite, our_key: key(suite, ours), their_key: key(suite, theirs), their_mki: 0 }
    }

    /// Two ends of one leg.
    fn ends(suite: SrtpSuite) -> (Instant, Crypto, Crypto) {
        let (now, mut one, mut other) = (Instant::now(), Crypto::default(), Crypto::default());
        one.configure(now, Some(&plan(suite, 1, 2)));
        other.configure(now, Some(&plan(suite, 2, 1)));
        (now, one, other)
    }

    fn rtp(sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 7];
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet.extend([0x55; 160]);
        packet
    }

    /// A packet of `one`, as it is on the wire.
    fn sent(one: &mut Crypto, sequence: u16) -> Vec<u8> {
        let plain = rtp(sequence);
        let mut buf = [0; 640];
        buf[..plain.len()].copy_from_slice(&plain);
        let len = one.protect_rtp(&mut buf, plain.len()).unwrap();
        buf[..len].to_vec()
    }

    fn opens(other: &mut Crypto, now: Instant, mut packet: Vec<u8>, sequence: u16) -> bool {
        match other.open_rtp(now, &mut packet) {
            Some(len) => {
                assert_eq!(packet[..len], rtp(sequence));
                true
            }
            None => false,
        }
    }

    #[test]
    fn each_suite_there_and_back_rtp_and_rtcp() {
        for suite in SrtpSuite::ALL {
            let (now, mut one, mut other) = ends(suite);
            let wire = sent(&mut one, 5);
            assert!(wire.len() > rtp(5).len() && wire[12..172] != rtp(5)[12..]);
            assert!(opens(&mut other, now, wire.clone(), 5), "{suite:?}");
            assert!(!opens(&mut other, now, wire, 5), "replayed");
            let mut forged = sent(&mut one, 6);
            forged[20] ^= 1;
            assert!(!opens(&mut other, now, forged, 6));
            assert!(!opens(&mut other, now, rtp(7), 7), "plain where protection is due");
            let mut report = [0_u8; 64];
            report[..8].copy_from_slice(&[0x80, 201, 0, 1, 0, 0, 0, 7]);
            let len = one.protect_rtcp(&mut report, 8).unwrap();
            assert_eq!(other.open_rtcp(now, &mut report[..len]), Some(8));
            assert_eq!(report[..8], [0x80, 201, 0, 1, 0, 0, 0, 7]);
        }
    }

    #[test]
    fn packets_with_a_master_key_identifier_are_opened_rfc3711_3_1() {
        for suite in SrtpSuite::ALL {
            let (now, mut one, mut other) = ends(suite);
            other.configure(now, Some(&SrtpPlan { their_mki: 4, ..plan(suite, 2, 1) }));
            let identified = |mut wire: Vec<u8>, is_rtp| {
                let at = wire.len() - suite.tag_len(is_rtp);
                wire.splice(at..at, [0, 0, 0, 1]);
                wire
            };
            let plain = sent(&mut one, 5);
            assert!(!opens(&mut other, now, plain.clone(), 5), "{suite:?}: without it the tag is elsewhere");
            assert!(opens(&mut other, now, identified(plain, true), 5), "{suite:?}");
            let mut report = [0_u8; 64];
            report[..8].copy_from_slice(&[0x80, 201, 0, 1, 0, 0, 0, 7]);
            let len = one.protect_rtcp(&mut report, 8).unwrap();
            let mut report = identified(report[..len].to_vec(), false);
            assert_eq!(other.open_rtcp(now, &mut report), Some(8), "{suite:?}");
            // A description later without one, and packets of before: both are opened, and what is short is no panic.
            other.configure(now, Some(&plan(suite, 2, 1)));
            assert!(opens(&mut other, now, sent(&mut one, 6), 6), "{suite:?}");
            assert_eq!(other.open_rtp(now, &mut [0x80, 0, 0]), None);
        }
    }

    /// RFC 4568 section 7.1.4: a description that says the key again resets nothing, over a wrap of the sequence numbers.
    #[test]
    fn the_rollover_counter_is_kept_for_a_key_that_stays() {
        for suite in SrtpSuite::ALL {
            let (now, mut one, mut other) = ends(suite);
            for sequence in [65_534, 65_535, 0, 1] {
                let wire = sent(&mut one, sequence);
                assert!(opens(&mut other, now, wire, sequence));
            }
            one.configure(now, Some(&plan(suite, 1, 2)));
            other.configure(now, Some(&plan(suite, 2, 1)));
            let wire = sent(&mut one, 2);
            assert!(opens(&mut other, now, wire, 2), "{suite:?}");
            // One that began anew would have a counter of 0 and not be understood.
            let mut fresh = Crypto::default();
            fresh.configure(now, Some(&plan(suite, 2, 1)));
            let wire = sent(&mut one, 3);
            assert!(!opens(&mut fresh, now, wire, 3), "{suite:?}");
        }
    }

    /// A new key is used at once; packets under the old one are taken for a while, and then no more.
    #[test]
    fn a_new_key_counts_at_once_and_the_old_one_for_a_grace_time() {
        let suite = SrtpSuite::AesCm128HmacSha1_80;
        let (now, mut one, mut other) = ends(suite);
        let (early, late, too_late) = (sent(&mut one, 1), sent(&mut one, 2), sent(&mut one, 3));
        assert!(opens(&mut other, now, early, 1));
        other.configure(now, Some(&plan(suite, 2, 9)));
        one.configure(now, Some(&plan(suite, 9, 2)));
        let wire = sent(&mut one, 4);
        assert!(opens(&mut other, now, wire, 4));
        assert!(opens(&mut other, now + Duration::from_secs(1), late, 2));
        assert!(!opens(&mut other, now + Duration::from_secs(3), too_late, 3));
        // Ours is untouched by the change of theirs.
        let wire = sent(&mut other, 8);
        assert!(opens(&mut one, now, wire, 8));
    }

    /// RFC 3711 section 3.3.1: a new key does not set the rollover counter back. Peers do either.
    #[test]
    fn a_new_key_keeps_the_rollover_counter_or_begins_anew() {
        for suite in SrtpSuite::ALL {
            let (now, mut one, mut other) = ends(suite);
            for sequence in [65_534, 65_535, 0, 1] {
                let wire = sent(&mut one, sequence);
                assert!(opens(&mut other, now, wire, sequence));
            }
            // The first of these stands for what the peer counted before, and is not sent.
            one.configure(now, Some(&plan(suite, 9, 2)));
            let _ = sent(&mut one, 65_535);
            other.configure(now, Some(&plan(suite, 2, 9)));
            let mut report = [0_u8; 64];
            report[..8].copy_from_slice(&[0x80, 201, 0, 1, 0, 0, 0, 7]);
            let len = one.protect_rtcp(&mut report, 8).unwrap();
            assert_eq!(other.open_rtcp(now, &mut report[..len]), Some(8));
            for sequence in [2, 3] {
                let wire = sent(&mut one, sequence);
                assert!(opens(&mut other, now, wire.clone(), sequence), "kept: {suite:?}");
                assert!(!opens(&mut other, now, wire, sequence), "replayed");
            }
            one.configure(now, Some(&plan(suite, 8, 2)));
            other.configure(now, Some(&plan(suite, 2, 8)));
            for sequence in [4, 5] {
                let wire = sent(&mut one, sequence);
                assert!(opens(&mut other, now, wire, sequence), "anew: {suite:?}");
            }
        }
    }

    /// A suite that comes back finds its counter where it was: a key stream is never used twice.
    #[test]
    fn a_key_that_comes_back_goes_on_where_it_was() {
        let (now, mut one, mut other) = ends(SrtpSuite::AesCm128HmacSha1_80);
        for sequence in [65_535, 0] {
            let wire = sent(&mut one, sequence);
            assert!(opens(&mut other, now, wire, sequence));
        }
        one.configure(now, Some(&plan(SrtpSuite::AeadAes128Gcm, 1, 2)));
        let _ = sent(&mut one, 1);
        one.configure(now, None);
        assert_eq!(sent(&mut one, 1), rtp(1), "plain by a new description");
        one.configure(now, Some(&plan(SrtpSuite::AesCm128HmacSha1_80, 1, 2)));
        let wire = sent(&mut one, 2);
        assert!(opens(&mut other, now, wire, 2), "with the counter of before");
    }

    #[test]
    fn keys_that_cannot_be_used_mean_no_media_and_never_plain_media() {
        let (now, mut one, _) = ends(SrtpSuite::AeadAes128Gcm);
        let short = SrtpKey(vec![1; 3]);
        one.configure(now, Some(&SrtpPlan { our_key: short, ..plan(SrtpSuite::AeadAes128Gcm, 1, 2) }));
        let mut buf = [0; 640];
        buf[..172].copy_from_slice(&rtp(1));
        assert_eq!(one.protect_rtp(&mut buf, 172), None);
        assert_eq!(one.open_rtp(now, &mut rtp(1)), None);
        one.configure(now, Some(&plan(SrtpSuite::AeadAes128Gcm, 1, 2)));
        assert_eq!(one.protect_rtp(&mut buf, 172), None, "nor later");
        // As many keys of ours as nobody has: no media, rather than one of them again with its counter lost.
        let mut one = Crypto::default();
        for byte in 0..=KEYS as u8 {
            one.configure(now, Some(&plan(SrtpSuite::AeadAes128Gcm, byte, 2)));
        }
        assert_eq!(one.protect_rtp(&mut buf, 172), None);
        // The peer's may be forgotten.
        let mut one = Crypto::default();
        for byte in 0..100 {
            one.configure(now, Some(&plan(SrtpSuite::AeadAes128Gcm, 1, byte)));
        }
        assert!(one.protect_rtp(&mut buf, 172).is_some());
    }
}
