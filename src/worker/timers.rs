//! The calls' deadlines in a heap.
//!
//! Most deadlines move later with every packet. So an entry is only ever added for a call whose deadline moves earlier
//! than what is armed; an entry that comes up too early is armed again for later, and one that was overtaken is dropped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// When one call wants to be called, and what of it is in the heap.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Deadline {
    wanted: Option<Instant>,
    armed: Option<Instant>,
}

impl Deadline {
    /// When the call wants to be called.
    pub fn wanted(&self) -> Option<Instant> {
        self.wanted
    }
}

/// The heap of all calls of a worker, by their slots.
#[derive(Debug)]
pub(super) struct Timers(BinaryHeap<Reverse<(Instant, usize)>>);

impl Timers {
    /// Room for so many entries without allocation.
    pub fn with_capacity(entries: usize) -> Self {
        Self(BinaryHeap::with_capacity(entries))
    }

    /// Grows to room for so many entries.
    pub fn reserve(&mut self, entries: usize) {
        self.0.reserve(entries.saturating_sub(self.0.len()));
    }

    /// When the first entry comes up.
    pub fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Sets a call's deadline.
    pub fn set(&mut self, slot: usize, deadline: &mut Deadline, wanted: Option<Instant>) {
        deadline.wanted = wanted;
        let Some(wanted) = wanted else { return };
        if deadline.armed.is_none_or(|armed| wanted < armed) {
            deadline.armed = Some(wanted);
            self.0.push(Reverse((wanted, slot)));
        }
    }

    /// Takes the next entry that has come up.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, usize)> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop().map(|Reverse(entry)| entry)
    }

    /// Says whether a call is due by an entry just [popped](Self::pop), and arms it again when it is too early.
    pub fn is_due(&mut self, (at, slot): (Instant, usize), deadline: &mut Deadline, now: Instant) -> bool {
        if deadline.armed != Some(at) {
            return false;
        }
        deadline.armed = None;
        match deadline.wanted {
            Some(wanted) if wanted <= now => true,
            wanted => {
                self.set(slot, deadline, wanted);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_that_moves_later_costs_no_entry_and_comes_up_once() {
        let base = Instant::now();
        let ms = |ms| base + Duration::from_millis(ms);
        let (mut timers, mut deadline) = (Timers::with_capacity(4), Deadline::default());
        timers.set(3, &mut deadline, Some(ms(20)));
        for later in 21..1000 {
            timers.set(3, &mut deadline, Some(ms(later)));
        }
        assert_eq!(timers.0.len(), 1);
        assert_eq!(timers.pop(ms(19)), None);
        let entry = timers.pop(ms(20)).unwrap_or((base, 0));
        assert!(!timers.is_due(entry, &mut deadline, ms(20)), "too early");
        assert_eq!(timers.next(), Some(ms(999)));
        let entry = timers.pop(ms(1000)).unwrap_or((base, 0));
        assert!(timers.is_due(entry, &mut deadline, ms(1000)));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_deadline_that_moves_earlier_comes_up_earlier_and_only_then() {
        let base = Instant::now();
        let ms = |ms| base + Duration::from_millis(ms);
        let (mut timers, mut deadline) = (Timers::with_capacity(4), Deadline::default());
        timers.set(3, &mut deadline, Some(ms(50)));
        timers.set(3, &mut deadline, Some(ms(10)));
        let mut due = Vec::new();
        while let Some(entry) = timers.pop(ms(60)) {
            if timers.is_due(entry, &mut deadline, ms(60)) {
                due.push(entry);
                timers.set(3, &mut deadline, None);
            }
        }
        assert_eq!(due, [(ms(10), 3)]);
    }
}
