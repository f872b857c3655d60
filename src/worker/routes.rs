//! Which call a datagram on the browsers' port is for: by maps, never by a scan.

use std::collections::HashMap;
use std::net::SocketAddr;

use arrayvec::ArrayVec;

use crate::webrtc::{self, PacketKind};

/// Addresses of a call's browsers that are routed: two browsers, and as many of each as its transport remembers.
pub(super) const MAX_ADDRESSES: usize = 16;
/// For each of two browsers the current ufrag and the one before it: checks of both are in flight during an ICE restart.
const MAX_UFRAGS: usize = 4;

/// The maps of one worker.
#[derive(Debug)]
pub(super) struct Routes {
    by_ufrag: HashMap<String, usize>,
    by_address: HashMap<SocketAddr, usize>,
}

/// What leads to one call.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// In the order of their coming.
    ufrags: ArrayVec<String, MAX_UFRAGS>,
    addresses: ArrayVec<SocketAddr, MAX_ADDRESSES>,
}

impl Routes {
    /// Maps for so many calls.
    pub fn with_capacity(calls: usize) -> Self {
        Self { by_ufrag: HashMap::with_capacity(calls * 2), by_address: HashMap::with_capacity(calls * 4) }
    }

    /// Grows to maps for so many calls.
    pub fn reserve(&mut self, calls: usize) {
        self.by_ufrag.reserve((calls * 2).saturating_sub(self.by_ufrag.len()));
        self.by_address.reserve((calls * 4).saturating_sub(self.by_address.len()));
    }

    /// The slot that a datagram is for. A connectivity check names its call; all else comes from an address whose
    /// check has passed.
    pub fn find(&self, source: SocketAddr, packet: &[u8]) -> Option<usize> {
        if webrtc::classify(packet) == PacketKind::Stun
            && let Some(slot) = webrtc::stun_username(packet).and_then(|ufrag| self.by_ufrag.get(ufrag))
        {
            return Some(*slot);
        }
        self.by_address.get(&source).copied()
    }

    /// Whether this address leads to this slot.
    pub fn leads_to(&self, source: SocketAddr, slot: usize) -> bool {
        self.by_address.get(&source) == Some(&slot)
    }

    /// Adds the ufrags of a call's present plan, two at most; the oldest that is not among them gives way.
    pub fn add_ufrags(&mut self, slot: usize, ways: &mut Ways, current: &[&str]) {
        for ufrag in current {
            if ways.ufrags.iter().any(|known| known == ufrag) {
                continue;
            }
            if ways.ufrags.is_full() {
                let index = ways.ufrags.iter().position(|known| !current.contains(&known.as_str())).unwrap_or(0);
                let oldest = ways.ufrags.remove(index);
                remove_if(&mut self.by_ufrag, &oldest, slot);
            }
            ways.ufrags.push((*ufrag).to_owned());
            self.by_ufrag.insert((*ufrag).to_owned(), slot);
        }
    }

    /// Adds an address that has shown itself to be a call's browser; `knows` tells which of the older ones still are. Yields the
    /// one that gave way to it.
    pub fn add_address(
        &mut self,
        slot: usize,
        ways: &mut Ways,
        address: SocketAddr,
        knows: impl Fn(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        ways.addresses.retain(|known| *known != address);
        let index = ways.addresses.iter().position(|known| !knows(*known)).unwrap_or(0);
        let old = if ways.addresses.is_full() { ways.addresses.pop_at(index) } else { None };
        ways.addresses.push(address);
        self.by_address.insert(address, slot);
        old.filter(|old| remove_if(&mut self.by_address, old, slot))
    }

    /// An address leads to a call of another worker by now.
    pub fn remove_address(&mut self, address: SocketAddr) {
        self.by_address.remove(&address);
    }

    /// Removes all that leads to a call, but for what leads to another by now; `gone` is told the addresses.
    pub fn remove(&mut self, slot: usize, ways: &mut Ways, mut gone: impl FnMut(SocketAddr)) {
        for ufrag in ways.ufrags.drain(..) {
            remove_if(&mut self.by_ufrag, &ufrag, slot);
        }
        for address in ways.addresses.drain(..) {
            if remove_if(&mut self.by_address, &address, slot) {
                gone(address);
            }
        }
    }

    /// Entries in both maps.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_ufrag.len() + self.by_address.len()
    }
}

fn remove_if<K, Q>(map: &mut HashMap<K, usize>, key: &Q, slot: usize) -> bool
where
    K: std::borrow::Borrow<Q> + Eq + std::hash::Hash,
    Q: Eq + std::hash::Hash + ?Sized,
{
    map.get(key) == Some(&slot) && map.remove(key).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTP: [u8; 12] = [0x80; 12];

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn what_led_to_a_call_is_gone_with_it_but_not_what_another_took_over() {
        let mut routes = Routes::with_capacity(4);
        let (mut first, mut second) = (Ways::default(), Ways::default());
        routes.add_ufrags(1, &mut first, &["aaaa"]);
        routes.add_ufrags(2, &mut second, &["bbbb"]);
        routes.add_address(1, &mut first, address(1), |_| true);
        routes.add_address(1, &mut first, address(2), |_| true);
        routes.add_address(2, &mut second, address(2), |_| true);
        assert_eq!(routes.find(address(1), &RTP), Some(1));
        assert_eq!(routes.find(address(2), &RTP), Some(2));
        assert_eq!(routes.find(address(3), &RTP), None);
        let mut gone = Vec::new();
        routes.remove(1, &mut first, |address| gone.push(address));
        assert_eq!(gone, [address(1)]);
        assert_eq!(routes.find(address(1), &RTP), None);
        assert_eq!(routes.find(address(2), &RTP), Some(2));
        routes.remove(2, &mut second, |_| {});
        assert_eq!(routes.len(), 0);
    }

    #[test]
    fn both_maps_are_bounded_per_call() {
        let (mut routes, mut ways) = (Routes::with_capacity(4), Ways::default());
        for n in 0..100 {
            routes.add_ufrags(1, &mut ways, &[&format!("ufrag{n}")]);
            routes.add_address(1, &mut ways, address(n), |known| known == address(0));
        }
        assert_eq!(routes.len(), MAX_UFRAGS + MAX_ADDRESSES);
        assert!(routes.leads_to(address(0), 1), "one that the browser still uses stays");
        assert!(routes.leads_to(address(99), 1));
    }

    #[test]
    fn the_ufrags_of_the_present_plan_stay() {
        let (mut routes, mut ways) = (Routes::with_capacity(4), Ways::default());
        routes.add_ufrags(1, &mut ways, &["stays"]);
        for n in 0..10 {
            routes.add_ufrags(1, &mut ways, &["stays", &format!("ufrag{n}")]);
        }
        assert_eq!(ways.ufrags.iter().map(String::as_str).collect::<Vec<_>>(), ["stays", "ufrag7", "ufrag8", "ufrag9"]);
    }
}
