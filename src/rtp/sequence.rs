//! Counters that wrap, made counters that do not.

/// Extends 16-bit sequence numbers to 64 bits: each is taken as the one nearest to the last.
#[derive(Debug, Clone, Copy, Default)]
pub struct SequenceExtender {
    last: Option<i64>,
}

impl SequenceExtender {
    /// The extended number. The first one stands for itself plus 65,536, so that a reordered predecessor stays positive.
    pub fn extend(&mut self, sequence: u16) -> i64 {
        let extended = self.near(sequence);
        self.last = Some(self.last.map_or(extended, |last| last.max(extended)));
        extended
    }

    /// The same without being the last for those that follow.
    pub fn near(&self, sequence: u16) -> i64 {
        match self.last {
            None => i64::from(sequence) + 0x1_0000,
            Some(last) => last + i64::from(sequence.wrapping_sub(last as u16) as i16),
        }
    }
}

/// Extends 32-bit timestamps to 64 bits in the same way.
#[derive(Debug, Clone, Copy, Default)]
pub struct TimestampExtender {
    last: Option<i64>,
}

impl TimestampExtender {
    /// The extended timestamp. Those that follow are still measured from the last one that was [followed](Self::follow).
    pub fn extend(&self, timestamp: u32) -> i64 {
        match self.last {
            None => i64::from(timestamp) + 0x1_0000_0000,
            Some(last) => last.saturating_add(i64::from(timestamp.wrapping_sub(last as u32) as i32)),
        }
    }

    /// Those that follow are measured from this extended timestamp.
    pub fn follow(&mut self, extended: i64) {
        self.last = Some(extended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_run_on_over_the_wrap_and_back_for_reordering() {
        let mut extender = SequenceExtender::default();
        let first = extender.extend(65_533);
        let offsets: Vec<i64> =
            [65_534, 65_535, 1, 0, 65_532, 2].into_iter().map(|s| extender.extend(s) - first).collect();
        assert_eq!(offsets, [1, 2, 4, 3, -1, 5]);
        let mut from_zero = SequenceExtender::default();
        assert!(from_zero.extend(0) > from_zero.extend(65_535));
    }

    #[test]
    fn timestamps_run_on_over_the_wrap() {
        let mut extender = TimestampExtender::default();
        let first = extender.extend(u32::MAX - 100);
        extender.follow(first);
        assert_eq!(extender.extend(59) - first, 160);
        extender.follow(first + 160);
        assert_eq!(extender.extend(u32::MAX - 100) - first, 0);
    }
}
