//! Whose RTP a trunk's socket believes.
//!
//! The address in the peer's description is sent to first and believed at once. A peer behind a NAT shows itself from another
//! address: that one is taken after a few packets in a row of a negotiated payload type and one source, and only for as long
//! as the described address itself stays silent. After that every other source is refused and counted.

use std::net::SocketAddr;

/// Packets in a row that a stranger must show, from the described host (another port), or from elsewhere.
const SAME_HOST: u32 = 3;
const OTHER_HOST: u32 = 5;

/// The state of one trunk leg's latching.
#[derive(Debug, Clone, Default)]
pub(super) struct Latch {
    described: Option<SocketAddr>,
    locked: Option<SocketAddr>,
    candidate: Option<Candidate>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    source: SocketAddr,
    ssrc: u32,
    sequence: u16,
    seen: u32,
}

impl Latch {
    /// Sets the address of the peer's description. A new one opens the latch again; the same one changes nothing.
    pub fn describe(&mut self, address: Option<SocketAddr>) {
        if self.described != address {
            *self = Self { described: address, ..Self::default() };
        }
    }

    /// Where our RTP goes.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.described.map(|described| self.locked.unwrap_or(described))
    }

    /// Whether a packet of a negotiated payload type from `source` is the peer's.
    pub fn accepts(&mut self, source: SocketAddr, ssrc: u32, sequence: u16) -> bool {
        let Some(described) = self.described else { return false };
        if source == described {
            self.locked = Some(source);
            self.candidate = None;
            return true;
        }
        if let Some(locked) = self.locked {
            return locked == source;
        }
        let seen = match self.candidate {
            Some(last) if last.source == source && last.ssrc == ssrc && sequence == last.sequence.wrapping_add(1) => {
                last.seen + 1
            }
            _ => 1,
        };
        self.candidate = Some(Candidate { source, ssrc, sequence, seen });
        let enough = if source.ip() == described.ip() { SAME_HOST } else { OTHER_HOST };
        if seen >= enough {
            self.locked = Some(source);
        }
        self.locked.is_some()
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

    fn address(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], port))
    }

    #[test]
    fn the_described_address_is_believed_at_once_and_nobody_else_then() {
        let mut latch = Latch::default();
        assert!(!latch.accepts(address(1, 4_000), 1, 1));
        assert_eq!(latch.destination(), None);
        latch.describe(Some(address(1, 4_000)));
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
        latch.describe(Some(address(1, 4_000)));
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
        latch.describe(Some(address(1, 4_000)));
        for n in 0..50_u16 {
            assert!(!latch.accepts(address(2, 5_000), u32::from(n), n), "a new SSRC each time");
            assert!(!latch.accepts(address(3, 5_000), 1, n * 7), "numbers that jump");
        }
        assert!(!latch.accepts(address(1, 4_002), 1, 1));
        assert!(!latch.accepts(address(1, 4_002), 1, 2));
        assert!(latch.accepts(address(1, 4_002), 1, 3), "the same host needs less");
    }

    #[test]
    fn a_new_description_opens_it_again_and_the_same_one_does_not() {
        let mut latch = Latch::default();
        latch.describe(Some(address(1, 4_000)));
        assert!(latch.accepts(address(1, 4_000), 1, 1));
        latch.describe(Some(address(1, 4_000)));
        assert!(!latch.accepts(address(2, 4_000), 1, 1));
        latch.describe(None);
        assert_eq!(latch.destination(), None);
        assert!(!latch.accepts(address(1, 4_000), 1, 1));
        latch.describe(Some(address(2, 4_000)));
        assert!(latch.accepts(address(2, 4_000), 1, 1));
        assert!(!latch.accepts(address(1, 4_000), 1, 1));
    }
}
