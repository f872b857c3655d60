//! Whose RTP a trunk's socket believes.
//!
//! The address in the peer's description is sent to first and believed at once. A peer behind a NAT shows itself from another
//! address: that one is taken after a few packets in a row of a negotiated payload type and one source, only from the host of
//! the description, the one that the peer's signalling comes from or a network that is configured for the peer's media, and
//! only for as long as the described address itself stays silent. After that every other source is refused and counted, until a new plan
//! comes: a NAT may have forgotten its mapping while the call was held, so then the probation is open once more for as long
//! as the source that was believed stays silent.

use std::net::SocketAddr;

use arrayvec::ArrayVec;

use crate::sdp::Network;

/// Packets in a row that another source must show, on the described host (another port), or on another host of the peer's.
const SAME_HOST: u32 = 3;
const PEER_HOST: u32 = 5;
/// Hosts on probation at a time.
const CANDIDATES: usize = 4;

/// The state of one RTP leg's latching.
#[derive(Debug, Clone, Default)]
pub(super) struct Latch {
    described: Option<SocketAddr>,
    /// Where the peer's RTP may come from besides the described host.
    sources: Vec<Network>,
    locked: Option<SocketAddr>,
    /// Another source may take the place of `locked`, which was not heard since the last plan.
    relatch: bool,
    /// One for each host that may show itself, so that packets from one do not disturb the other's.
    candidates: ArrayVec<Candidate, CANDIDATES>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    source: SocketAddr,
    ssrc: u32,
    sequence: u16,
    seen: u32,
}

impl Latch {
    /// Sets the address of the peer's description, and where else its RTP may come from. A new address opens the latch anew;
    /// with the same one the source that is believed stays the destination, and may be replaced until it is heard again.
    pub fn describe(&mut self, address: Option<SocketAddr>, sources: &[Network]) {
        if self.described != address {
            *self = Self { described: address, ..Self::default() };
        }
        if self.sources != sources {
            self.candidates.clear();
            self.sources = sources.to_vec();
        }
        self.relatch = true;
    }

    /// Where our RTP goes.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.described.map(|described| self.locked.unwrap_or(described))
    }

    /// Whether a packet from `source` can be the peer's at all: only then is it worth to be decrypted.
    pub fn plausible(&self, source: SocketAddr) -> bool {
        let Some(described) = self.described else { return false };
        let is_known = self.sources.iter().any(|network| network.contains(source.ip()));
        source.ip() == described.ip() || self.locked == Some(source) || is_known
    }

    /// Whether a packet of a negotiated payload type from `source` is the peer's.
    pub fn accepts(&mut self, source: SocketAddr, ssrc: u32, sequence: u16) -> bool {
        let Some(described) = self.described else { return false };
        if source == described || self.locked == Some(source) {
            self.lock(source);
            return true;
        }
        if self.locked.is_some() && !self.relatch {
            return false;
        }
        let enough = match source.ip() {
            host if host == described.ip() => SAME_HOST,
            host if self.sources.iter().any(|network| network.contains(host)) => PEER_HOST,
            _ => return false,
        };
        let on_probation = self.shown(source, ssrc, sequence) < enough;
        if !on_probation {
            self.lock(source);
        }
        !on_probation
    }

    /// Packets in a row that a source on probation showed, with this one.
    fn shown(&mut self, source: SocketAddr, ssrc: u32, sequence: u16) -> u32 {
        let first = Candidate { source, ssrc, sequence, seen: 1 };
        let Some(candidate) = self.candidates.iter_mut().find(|last| last.source.ip() == source.ip()) else {
            if self.candidates.is_full()
                && let Some(least) = (0..CANDIDATES).min_by_key(|n| self.candidates.get(*n).map(|last| last.seen))
            {
                self.candidates.remove(least);
            }
            self.candidates.push(first);
            return first.seen;
        };
        let goes_on =
            candidate.source == source && candidate.ssrc == ssrc && sequence == candidate.sequence.wrapping_add(1);
        *candidate = if goes_on { Candidate { seen: candidate.seen + 1, ..first } } else { first };
        candidate.seen
    }

    fn lock(&mut self, source: SocketAddr) {
        self.locked = Some(source);
        self.relatch = false;
        self.candidates.clear();
    }

    /// Whether RTCP from `source` can be the peer's: it comes from the host that RTP goes to.
    pub fn accepts_rtcp(&self, source: SocketAddr) -> bool {
        self.destination().is_some_and(|destination| destination.ip() == source.ip())
    }

    /// Where RTCP goes, given the described address for it: behind a NAT it is the port after the one that RTP came from.
    pub fn rtcp_destination(&self, described_rtcp: Option<SocketAddr>) -> Option<SocketAddr> {
        match self.locked {
            Some(locked) if Some(locked) != self.described => {
                locked.port().checked_add(1).map(|port| SocketAddr::new(locked.ip(), port))
            }
            _ => self.described.and(described_rtcp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.2";

    fn networks(text: &str) -> Vec<Network> {
        text.split_ascii_whitespace().filter_map(|network| network.parse().ok()).collect()
    }

    fn address(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], port))
    }

    #[test]
    fn the_described_address_is_believed_at_once_and_nobody_else_then() {
        let mut latch = Latch::default();
        assert!(!latch.accepts(address(1, 4_000), 1, 1));
        assert_eq!(latch.destination(), None);
        latch.describe(Some(address(1, 4_000)), &networks(PEER));
        assert_eq!(latch.destination(), Some(address(1, 4_000)));
        assert!(latch.accepts(address(1, 4_000), 1, 1));
        for n in 0..100 {
            assert!(!latch.accepts(address(2, 4_000), 9, n));
        }
        assert_eq!(latch.destination(), Some(address(1, 4_000)));
        assert!(latch.accepts_rtcp(address(1, 9)) && !latch.accepts_rtcp(address(2, 9)));
        assert_eq!(latch.rtcp_destination(Some(address(1, 4_001))), Some(address(1, 4_001)));
    }

    #[test]
    fn a_peer_behind_a_nat_is_learnt_on_probation() {
        let mut latch = Latch::default();
        latch.describe(Some(address(1, 4_000)), &networks(PEER));
        for n in 0..4 {
            assert!(!latch.accepts(address(2, 5_000), 7, 65_534_u16.wrapping_add(n)));
        }
        assert!(latch.accepts(address(2, 5_000), 7, 2));
        assert_eq!(latch.destination(), Some(address(2, 5_000)));
        assert_eq!(latch.rtcp_destination(Some(address(1, 4_001))), Some(address(2, 5_001)));
        assert!(!latch.accepts(address(3, 5_000), 7, 3));
        // The described address speaks after all: it wins.
        assert!(latch.accepts(address(1, 4_000), 8, 1));
        assert!(!latch.accepts(address(2, 5_000), 7, 4));
    }

    #[test]
    fn probation_needs_one_source_in_a_row() {
        let mut latch = Latch::default();
        latch.describe(Some(address(1, 4_000)), &networks(PEER));
        for n in 0..50_u16 {
            assert!(!latch.accepts(address(2, 5_000), u32::from(n), n), "a new SSRC each time");
            assert!(!latch.accepts(address(1, 5_000), 1, n * 7), "numbers that jump");
        }
        assert!(!latch.accepts(address(1, 4_002), 1, 1));
        assert!(!latch.accepts(address(1, 4_002), 1, 2));
        assert!(latch.accepts(address(1, 4_002), 1, 3), "the same host needs less");
    }

    /// Nothing is forwarded from a stranger and nothing sent to it, however long the described address is silent.
    #[test]
    fn a_stranger_never_takes_the_leg_and_disturbs_no_probation() {
        let stranger = address(9, 4_000);
        for peer in ["", PEER] {
            let mut latch = Latch::default();
            latch.describe(Some(address(1, 4_000)), &networks(peer));
            for n in 0..1_000 {
                assert!(!latch.accepts(stranger, 7, n) && !latch.accepts_rtcp(stranger));
                assert_eq!(latch.destination(), Some(address(1, 4_000)));
            }
        }
        let mut latch = Latch::default();
        latch.describe(Some(address(1, 4_000)), &networks(PEER));
        for n in 0..4 {
            assert!(!latch.accepts(address(2, 5_000), 7, n));
            assert!(!latch.accepts(stranger, 7, n));
            assert!(!latch.accepts(address(1, 4_002 + n % 2), 7, n), "a stray on the other host");
        }
        assert!(latch.accepts(address(2, 5_000), 7, 4));
        latch.describe(Some(address(1, 4_000)), &networks(PEER));
        assert!((0..1_000).all(|n| !latch.accepts(stranger, 7, n)), "nor after a new plan");
    }

    #[test]
    fn a_nat_whose_mapping_changed_in_a_hold_is_learnt_anew() {
        let (described, before, after) = (address(1, 4_000), address(2, 5_000), address(2, 6_000));
        let mut latch = Latch::default();
        latch.describe(Some(described), &networks(PEER));
        assert!((0..5).any(|n| latch.accepts(before, 7, n)));
        for n in 0..50 {
            assert!(!latch.accepts(after, 7, n), "not without a new plan");
        }
        latch.describe(Some(described), &networks(PEER));
        assert_eq!(latch.destination(), Some(before), "until the new way shows itself");
        assert!((0..5).map(|n| latch.accepts(after, 7, n)).eq([false, false, false, false, true]));
        assert_eq!(latch.destination(), Some(after));
        // Where the way is the old one it is taken at once, and the latch is shut again.
        latch.describe(Some(described), &networks(PEER));
        assert!(!latch.accepts(before, 7, 1));
        assert!(latch.accepts(after, 7, 6));
        for n in 2..50 {
            assert!(!latch.accepts(before, 7, n));
        }
    }

    #[test]
    fn a_new_description_opens_it_anew() {
        let mut latch = Latch::default();
        latch.describe(Some(address(1, 4_000)), &networks(PEER));
        assert!(latch.accepts(address(1, 4_000), 1, 1));
        latch.describe(None, &networks(PEER));
        assert_eq!(latch.destination(), None);
        assert!(!latch.accepts(address(1, 4_000), 1, 1));
        latch.describe(Some(address(2, 4_000)), &networks(PEER));
        assert!(latch.accepts(address(2, 4_000), 1, 1));
        assert!(!latch.accepts(address(1, 4_000), 1, 1));
    }

    /// A carrier whose media servers are many: any of them may speak, and those on probation do not disturb each other.
    #[test]
    fn a_media_server_of_a_configured_network_is_learnt_on_probation() {
        let mut latch = Latch::default();
        latch.describe(Some(address(1, 4_000)), &networks("10.0.0.128/25 192.0.2.1"));
        for n in 0..4 {
            assert!((2..128).all(|host| !latch.accepts(address(host, 5_000), 7, n)), "outside of the network");
            assert!(!latch.accepts(address(200, 5_000), 7, n));
            assert!(!latch.accepts(address(201, 5_000), 8, n));
        }
        assert!(latch.accepts(address(200, 5_000), 7, 4));
        assert_eq!(latch.destination(), Some(address(200, 5_000)));
        let mut latch = Latch::default();
        latch.describe(Some(address(1, 4_000)), &networks("10.0.0.128/25"));
        for host in 128..255 {
            assert!(!latch.accepts(address(host, 5_000), 7, 1));
        }
        assert_eq!(latch.candidates.len(), CANDIDATES);
    }
}
