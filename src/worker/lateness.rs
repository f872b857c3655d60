//! How late a worker serves the timers of its calls: the sound of a call that is served late comes late. A timer is served
//! when the turn that serves it is over. Counted by the worker alone, read by others: no lock, and nothing is lost by reading.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The counts at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lateness {
    /// How many timers were at most so late as the bound of the same place says, and later than the one before; the last
    /// place has those beyond all bounds.
    pub counts: [u64; Lateness::BOUNDS.len() + 1],
    /// All of it together.
    pub sum: Duration,
}

impl Lateness {
    /// The upper bounds.
    pub const BOUNDS: [Duration; 9] = [
        Duration::from_millis(1),
        Duration::from_millis(2),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(20),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(200),
        Duration::from_millis(500),
    ];

    /// How many timers were served.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    counts: [AtomicU64; Lateness::BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Counts {
    /// One timer was so late.
    pub(super) fn add(&self, late: Duration) {
        let place = Lateness::BOUNDS.iter().position(|bound| late <= *bound).unwrap_or(Lateness::BOUNDS.len());
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// The counts now.
    pub(super) fn read(&self) -> Lateness {
        let sum = Duration::from_micros(self.micros.load(Ordering::Relaxed));
        let mut read = Lateness { sum, ..Lateness::default() };
        for (count, counted) in read.counts.iter_mut().zip(&self.counts) {
            *count = counted.load(Ordering::Relaxed);
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_timer_is_in_one_place_bounds_belong_to_theirs() {
        let counts = Counts::default();
        for ms in [0, 1, 2, 3, 20, 500, 501, 60_000] {
            counts.add(Duration::from_millis(ms));
        }
        let read = counts.read();
        assert_eq!(read.counts, [2, 1, 1, 0, 1, 0, 0, 0, 1, 2]);
        assert_eq!((read.count(), read.sum), (8, Duration::from_millis(61_027)));
    }
}
