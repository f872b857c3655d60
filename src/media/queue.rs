//! Datagrams that wait to be sent, in buffers made once.

use super::Port;
use std::net::SocketAddr;

/// Room for one datagram of ours: what is passed on may be as large as the network takes.
const SLOT: usize = 1_500;
/// Datagrams held: a fifth of a second of both directions.
const SLOTS: usize = 24;

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// The socket to use.
    pub port: Port,
    /// The destination.
    pub to: SocketAddr,
    /// The length in the buffer given.
    pub len: usize,
}

#[derive(Debug)]
struct Slot {
    transmit: Transmit,
    bytes: [u8; SLOT],
}

/// A ring of datagrams. It begins anew whenever it was emptied: of 36 KiB only the first few slots are ever touched.
#[derive(Debug)]
pub(super) struct SendQueue {
    /// Those that were needed so far; there is room for all.
    slots: Vec<Slot>,
    first: usize,
    len: usize,
    /// Datagrams that found no room: the caller did not poll.
    pub overflow: u64,
}

impl SendQueue {
    pub fn new() -> Self {
        Self { slots: Vec::with_capacity(SLOTS), first: 0, len: 0, overflow: 0 }
    }

    /// Lets `write` fill the next buffer; what it declines (`None`) is not sent. Whether a datagram was queued.
    pub fn push(&mut self, write: impl FnOnce(&mut [u8]) -> Option<Transmit>) -> bool {
        if self.len == SLOTS {
            self.overflow += 1;
            return false;
        }
        let index = (self.first + self.len) % SLOTS;
        if index == self.slots.len() {
            let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
            self.slots.push(Slot { transmit: Transmit { port: Port::Browser, to: nowhere, len: 0 }, bytes: [0; SLOT] });
        }
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let Some(transmit) = write(&mut slot.bytes) else { return false };
        slot.transmit = transmit;
        self.len += 1;
        true
    }

    /// Copies the oldest datagram into `buf`. One that does not fit is dropped.
    pub fn pop(&mut self, buf: &mut [u8]) -> Option<Transmit> {
        while self.len > 0 {
            let slot = self.slots.get(self.first)?;
            self.len -= 1;
            self.first = if self.len == 0 { 0 } else { (self.first + 1) % SLOTS };
            let bytes = slot.bytes.get(..slot.transmit.len)?;
            if let Some(room) = buf.get_mut(..bytes.len()) {
                room.copy_from_slice(bytes);
                return Some(slot.transmit);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out_within_bounds() {
        let mut queue = SendQueue::new();
        let to = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut buf = [0; 1_500];
        for round in 0..3_u8 {
            for n in 0..30 {
                let queued = queue.push(|bytes| {
                    bytes[0] = n + round;
                    Some(Transmit { port: Port::Rtp(crate::sdp::RtpSlot(0)), to, len: 1 })
                });
                assert_eq!(queued, usize::from(n) < SLOTS);
            }
            for n in 0..SLOTS {
                assert_eq!(queue.pop(&mut buf).map(|t| t.len), Some(1));
                assert_eq!(usize::from(buf[0]), n + usize::from(round));
            }
            assert_eq!(queue.pop(&mut buf), None);
        }
        assert!(!queue.push(|_| None));
        assert_eq!(queue.pop(&mut buf), None);
    }

    #[test]
    fn only_as_many_slots_are_touched_as_datagrams_waited_at_once() {
        let mut queue = SendQueue::new();
        let (to, mut buf) = (SocketAddr::from(([127, 0, 0, 1], 9)), [0; 1_500]);
        for n in 0..1_000_usize {
            for len in [n % 7 + 1, n % 5 + 9] {
                assert!(queue.push(|_| Some(Transmit { port: Port::Browser, to, len })));
            }
            assert_eq!(queue.pop(&mut buf).map(|t| t.len), Some(n % 7 + 1));
            assert_eq!(queue.pop(&mut buf).map(|t| t.len), Some(n % 5 + 9));
            assert_eq!(queue.slots.len(), 2);
        }
        // Never empty for long, the ring goes round, and through all of its slots once.
        assert!(queue.push(|_| Some(Transmit { port: Port::Browser, to, len: 1 })));
        for n in 1..100 {
            assert!(queue.push(|_| Some(Transmit { port: Port::Browser, to, len: n + 1 })));
            assert_eq!(queue.pop(&mut buf).map(|t| t.len), Some(n));
        }
        assert_eq!((queue.slots.len(), queue.slots.capacity()), (SLOTS, SLOTS));
    }
}
