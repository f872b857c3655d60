//! Workers that share one port: what one reads for another's call, it hands over.
//!
//! The system spreads what comes by the addresses of both ends, so that a browser's datagrams keep coming to one worker while
//! its address stays, and seldom to the one that has its call. Whose call it is a connectivity check says itself: our ufrags
//! begin with their worker's [`mark`]. The owner tells who handed a check over that it has passed; from then on what comes from
//! that address is the owner's. When the address is the call's no more, all are told.
//!
//! Each worker has one queue, with its slots made at the start: neither end of it waits, locks or allocates. What finds it full
//! is dropped and counted. The owner is woken once for all that a turn has read for it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use mio::Waker;

use crate::webrtc::{PacketKind, classify, stun_username};

/// What may wait for a worker: some 1.5 MiB, and a tenth of a second of what 200 browsers send.
pub(super) const SLOTS: usize = 1_024;
/// What comes through the internet is no longer.
const LONGEST: usize = 1_500;
/// Addresses of one call that are routed at most ([`routes`](super::routes)).
const ADDRESSES: usize = super::routes::MAX_ADDRESSES;
/// A browser that has not checked an address for so long must not be sent anything there (RFC 7675 section 5.1): an address
/// that was not told anew since then gives way where there is no room.
const CONSENT: Duration = Duration::from_secs(30);

/// The characters that ICE allows ([RFC 8839](https://www.rfc-editor.org/rfc/rfc8839#section-5.4) section 5.4).
const MARKS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// No more workers than marks share a port.
pub(super) const MOST: usize = MARKS.len();

/// What the ufrags of this worker's calls begin with.
pub(super) fn mark(worker: usize) -> char {
    char::from(MARKS.get(worker).copied().unwrap_or(b'A'))
}

/// The worker that a ufrag names, which anybody may have written.
fn marked(ufrag: &str) -> Option<usize> {
    let first = *ufrag.as_bytes().first()?;
    MARKS.iter().position(|mark| *mark == first)
}

/// What one worker tells another.
pub(super) enum Handed {
    /// `via` has read this.
    Datagram { via: usize, source: SocketAddr, len: usize, bytes: [u8; LONGEST] },
    /// This address has shown itself to be a browser of one of `owner`'s calls.
    Known { owner: usize, source: SocketAddr },
    /// It is one no more.
    Gone { owner: usize, source: SocketAddr },
}

/// A worker's place among those that share its port.
#[derive(Debug)]
pub(super) struct Handover {
    own: usize,
    inbox: Receiver<Handed>,
    /// All of them, this one too.
    workers: Vec<Neighbour>,
    /// Addresses of browsers whose calls others have, and when that was told.
    elsewhere: HashMap<SocketAddr, (usize, Instant)>,
    room: usize,
    /// The queue was not emptied: nobody will wake us for what is left.
    pub has_more: bool,
}

#[derive(Debug, Clone)]
struct Neighbour {
    outbox: SyncSender<Handed>,
    waker: Arc<Waker>,
    /// Something waits for it of which it was not woken.
    waits: bool,
}

impl Handover {
    /// The places of those with these wakers.
    pub fn all(wakers: impl Iterator<Item = Arc<Waker>>) -> Vec<Handover> {
        let (workers, inboxes): (Vec<_>, Vec<_>) = wakers
            .map(|waker| {
                let (outbox, inbox) = sync_channel(SLOTS);
                (Neighbour { outbox, waker, waits: false }, inbox)
            })
            .unzip();
        let place = |(own, inbox)| Handover {
            own,
            inbox,
            workers: workers.clone(),
            elsewhere: HashMap::new(),
            room: 0,
            has_more: false,
        };
        inboxes.into_iter().enumerate().map(place).collect()
    }

    /// Grows to so many calls on all workers together.
    pub fn make_room(&mut self, calls: usize) {
        self.room = self.room.max(calls * ADDRESSES);
        self.elsewhere.reserve(self.room.saturating_sub(self.elsewhere.len()));
    }

    /// The other worker that has the call of this datagram: a check names it, all else goes by its source.
    pub fn owner(&self, source: SocketAddr, packet: &[u8]) -> Option<usize> {
        let is_check = classify(packet) == PacketKind::Stun;
        let ufrag = if is_check { stun_username(packet) } else { None };
        match ufrag {
            Some(ufrag) => marked(ufrag).filter(|worker| *worker != self.own && *worker < self.workers.len()),
            None => self.at(source),
        }
    }

    fn at(&self, source: SocketAddr) -> Option<usize> {
        self.elsewhere.get(&source).map(|(owner, _)| *owner)
    }

    /// Hands a datagram over; `false`: the other has no room, or has ended.
    pub fn pass(&mut self, to: usize, source: SocketAddr, packet: &[u8]) -> bool {
        let mut bytes = [0; LONGEST];
        let Some(room) = bytes.get_mut(..packet.len()) else { return false };
        room.copy_from_slice(packet);
        self.put(to, Handed::Datagram { via: self.own, source, len: packet.len(), bytes })
    }

    /// Tells who has handed a check over that it has passed.
    pub fn tell_known(&mut self, to: usize, source: SocketAddr) {
        // One that is lost is told again at the next check.
        self.put(to, Handed::Known { owner: self.own, source });
    }

    /// Tells who has handed over that this address leads to none of our calls.
    pub fn tell_unknown(&mut self, to: usize, source: SocketAddr) {
        self.put(to, Handed::Gone { owner: self.own, source });
    }

    /// Tells all that an address does so no more.
    pub fn tell_gone(&mut self, source: SocketAddr) {
        let own = self.own;
        for to in (0..self.workers.len()).filter(|to| *to != own) {
            self.put(to, Handed::Gone { owner: own, source });
        }
    }

    fn put(&mut self, to: usize, handed: Handed) -> bool {
        let Some(neighbour) = self.workers.get_mut(to) else { return false };
        let put = neighbour.outbox.try_send(handed).is_ok();
        neighbour.waits |= put;
        put
    }

    /// Wakes those for whom something waits.
    pub fn wake(&mut self) {
        for neighbour in self.workers.iter_mut().filter(|neighbour| neighbour.waits) {
            neighbour.waits = false;
            if let Err(error) = neighbour.waker.wake() {
                tracing::warn!(%error, "cannot wake a media worker");
            }
        }
    }

    /// The next of what waits for us.
    pub fn next(&mut self) -> Option<Handed> {
        self.inbox.try_recv().ok()
    }

    /// What comes from this address is that worker's.
    pub fn learn(&mut self, now: Instant, source: SocketAddr, owner: usize) {
        if self.elsewhere.len() >= self.room && !self.elsewhere.contains_key(&source) {
            self.elsewhere.retain(|_, (_, told)| now.saturating_duration_since(*told) < CONSENT);
        }
        if self.elsewhere.len() < self.room || self.elsewhere.contains_key(&source) {
            self.elsewhere.insert(source, (owner, now));
        }
    }

    /// It is that worker's no more.
    pub fn forget(&mut self, source: SocketAddr, owner: usize) {
        if self.at(source) == Some(owner) {
            self.elsewhere.remove(&source);
        }
    }

    /// It is ours.
    pub fn is_ours(&mut self, source: SocketAddr) {
        self.elsewhere.remove(&source);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;

    fn pair() -> [Handover; 2] {
        let wakers = [0, 1].map(|n| {
            let poll = mio::Poll::new().unwrap();
            Arc::new(Waker::new(poll.registry(), mio::Token(n)).unwrap())
        });
        let mut places = Handover::all(wakers.into_iter());
        places.iter_mut().for_each(|place| place.make_room(1));
        let (second, first) = (places.pop().unwrap(), places.pop().unwrap());
        [first, second]
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn each_worker_has_a_mark_of_its_own_and_any_text_is_read() {
        for worker in 0..MOST {
            assert_eq!(marked(&format!("{}rest", mark(worker))), Some(worker));
        }
        for text in ["", "=abc", "\u{e9}t\u{e9}", "\0"] {
            assert_eq!(marked(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_longer_than_a_slot_or_finds_none_is_not_taken() {
        let [mut first, mut second] = pair();
        assert!(!first.pass(1, address(1), &[0; LONGEST + 1]));
        assert!(!first.pass(2, address(1), b"nobody"));
        let taken = (0..SLOTS + 10).take_while(|_| first.pass(1, address(1), b"media")).count();
        assert_eq!(taken, SLOTS);
        assert!(matches!(second.next(), Some(Handed::Datagram { via: 0, len: 5, .. })));
        assert!(first.pass(1, address(1), b"again"));
        drop(second);
        assert!(!first.pass(1, address(1), b"ended"));
    }

    #[test]
    fn the_map_is_bounded_and_what_was_not_told_anew_gives_way() {
        let [mut first, _second] = pair();
        let start = Instant::now();
        for port in 0..1_000 {
            first.learn(start, address(port), 1);
        }
        assert_eq!(first.elsewhere.len(), ADDRESSES);
        first.learn(start + CONSENT / 2, address(3), 1);
        first.learn(start + CONSENT, address(2_000), 1);
        assert_eq!([0, 3, 2_000].map(|port| first.at(address(port))), [None, Some(1), Some(1)]);
        first.forget(address(3), 0);
        assert_eq!(first.at(address(3)), Some(1), "said by who does not have it");
        first.forget(address(3), 1);
        first.is_ours(address(2_000));
        assert_eq!(first.elsewhere.len(), 0);
    }
}
