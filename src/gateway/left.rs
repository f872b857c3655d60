//! The calls that a gateway before this one has left behind: which BYE goes out when.
//!
//! So many at once to one peer that a connection's outbox takes them, the next when one of them is done. What did not arrive
//! is tried again, ever more seldom, until the call cannot stand any more; until then it stays in the journal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::journal::Found;
use crate::switch::Left;

/// BYEs under way to one peer: well below what may wait for a slow connection.
const AT_ONCE: usize = 64;
/// After how long the first one is tried again, then after twice as long, up to the longest.
const AGAIN: Duration = Duration::from_secs(30);
const SELDOM: Duration = Duration::from_secs(3600);

/// See the module. Calls are told by their number.
#[derive(Debug, Default)]
pub(super) struct LeftCalls {
    calls: BTreeMap<usize, LeftCall>,
    lanes: BTreeMap<SocketAddr, Lane>,
    /// May go out now; they count as under way.
    ready: VecDeque<usize>,
    later: BTreeSet<(Instant, usize)>,
}

#[derive(Debug)]
struct LeftCall {
    found: Found,
    /// When it cannot stand any more.
    until: Instant,
    /// How long it waits after the next failure.
    wait: Duration,
}

/// One peer's.
#[derive(Debug, Default)]
struct Lane {
    under_way: usize,
    waiting: VecDeque<usize>,
}

impl LeftCalls {
    /// All of them are due.
    pub(super) fn new(now: Instant, found: Vec<Found>) -> LeftCalls {
        let mut left = LeftCalls::default();
        for (number, found) in found.into_iter().enumerate() {
            let until = now + found.holds;
            left.calls.insert(number, LeftCall { found, until, wait: AGAIN });
            left.enter(number);
        }
        left
    }

    /// One that is to be ended now; [`LeftCalls::ended`] is to say how that went.
    pub(super) fn take(&mut self) -> Option<(usize, Left)> {
        let number = self.ready.pop_front()?;
        Some((number, self.calls.get(&number)?.found.left.clone()))
    }

    /// A call is over, or its peer was not reached. Gives its name in the journal when it is to be forgotten there.
    pub(super) fn ended(&mut self, now: Instant, number: usize, over: bool) -> Option<String> {
        let call = self.calls.get_mut(&number)?;
        let peer = call.found.left.dialog.to;
        let again = now + call.wait;
        let forgotten = over || again >= call.until;
        if !forgotten {
            call.wait = (call.wait * 2).min(SELDOM);
            self.later.insert((again, number));
        } else if !over {
            tracing::warn!(remote = %peer, "a call that was left behind was not ended: its peer was never reached");
        }
        self.leave(peer);
        if forgotten { self.calls.remove(&number).map(|call| call.found.id) } else { None }
    }

    /// When [`LeftCalls::handle_timeout`] and [`LeftCalls::take`] are wanted.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if self.ready.is_empty() { self.later.first().map(|(at, _)| *at) } else { Some(now) }
    }

    /// What is to be tried again is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, number)) = self.later.pop_first() {
                self.enter(number);
            }
        }
    }

    fn enter(&mut self, number: usize) {
        let Some(call) = self.calls.get(&number) else { return };
        let lane = self.lanes.entry(call.found.left.dialog.to).or_default();
        if lane.under_way < AT_ONCE {
            lane.under_way += 1;
            self.ready.push_back(number);
        } else {
            lane.waiting.push_back(number);
        }
    }

    /// One of a peer's is no longer under way: the next one is.
    fn leave(&mut self, peer: SocketAddr) {
        let Some(lane) = self.lanes.get_mut(&peer) else { return };
        match lane.waiting.pop_front() {
            Some(next) => self.ready.push_back(next),
            None => lane.under_way = lane.under_way.saturating_sub(1),
        }
        if lane.under_way == 0 {
            self.lanes.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::sip::LeftDialog;

    const HOLDS: Duration = Duration::from_secs(43_200);

    fn found(number: usize, to: &str) -> Found {
        let dialog = LeftDialog {
            call_id: number.to_string(),
            local: "<sip:a@192.0.2.1>;tag=1".into(),
            remote: "<sip:b@192.0.2.9>;tag=2".into(),
            target: "sip:b@192.0.2.9".into(),
            routes: Vec::new(),
            cseq: 1,
            transport: "tcp".into(),
            from: "192.0.2.1:5060".parse().unwrap(),
            to: to.parse().unwrap(),
        };
        Found { id: format!("id {number}"), holds: HOLDS, left: Left { trunk: None, dialog } }
    }

    fn take_all(left: &mut LeftCalls) -> Vec<usize> {
        std::iter::from_fn(|| left.take()).map(|(number, _)| number).collect()
    }

    /// The 257th would have been one too many for a connection, and would have failed all the others with it.
    #[test]
    fn so_many_are_under_way_to_one_peer_and_another_peer_does_not_wait() {
        let now = Instant::now();
        let mut all: Vec<Found> = (0..1000).map(|number| found(number, "192.0.2.9:5060")).collect();
        all.push(found(1000, "192.0.2.10:5060"));
        let mut left = LeftCalls::new(now, all);
        let mut taken = take_all(&mut left);
        assert_eq!((taken.len(), taken.pop()), (AT_ONCE + 1, Some(1000)));
        assert_eq!(left.poll_timeout(now), None);
        assert_eq!(left.ended(now, 5, true).as_deref(), Some("id 5"));
        assert_eq!(left.ended(now, 5, true), None, "said twice");
        assert_eq!(left.poll_timeout(now), Some(now));
        assert_eq!(take_all(&mut left), [AT_ONCE]);
        let mut done = 1;
        let mut under_way: Vec<usize> = (0..=AT_ONCE).filter(|number| *number != 5).chain([1000]).collect();
        while let Some(number) = under_way.pop() {
            assert!(left.ended(now, number, true).is_some());
            done += 1;
            under_way.extend(take_all(&mut left));
        }
        assert_eq!(done, 1001);
        assert!(left.calls.is_empty() && left.lanes.is_empty() && left.later.is_empty());
    }

    #[test]
    fn what_did_not_arrive_stays_in_the_journal_and_is_tried_again_until_it_is_stale() {
        let start = Instant::now();
        let mut left = LeftCalls::new(start, vec![found(0, "192.0.2.9:5060")]);
        let (mut now, mut waits) = (start, Vec::new());
        let forgotten = loop {
            left.handle_timeout(now);
            assert_eq!(take_all(&mut left), [0]);
            if let Some(id) = left.ended(now, 0, false) {
                break id;
            }
            assert_eq!(take_all(&mut left), [0; 0], "not at once");
            let next = left.poll_timeout(now).unwrap();
            waits.push((next - now).as_secs());
            now = next;
        };
        assert_eq!(forgotten, "id 0");
        assert_eq!(waits[..4], [30, 60, 120, 240]);
        assert!(waits.len() < 24 && waits.iter().all(|wait| *wait <= 3600), "{waits:?}");
        assert!(now - start < HOLDS && now + SELDOM >= start + HOLDS);
        assert!(left.calls.is_empty() && left.lanes.is_empty() && left.poll_timeout(now).is_none());
    }
}
