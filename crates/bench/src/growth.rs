//! Whether what is sampled over time grows.

use serde::Serialize;

/// The share of the samples, from the begin, that is not judged: caches fill, and what is kept of ended calls for a while.
pub const WARM_UP: f64 = 0.25;
/// A third of fewer samples is judged by chance.
const LEAST: usize = 3;

/// What may be more at the end than at the begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    /// As a share of what it was.
    pub share: f64,
    /// And besides, in the unit of the values.
    pub slack: f64,
}

/// Memory: 5 % and 4 MiB, for the allocator's fragments and for what is kept of ended calls up to a limit.
pub const MEMORY_MIB: Margin = Margin { share: 0.05, slack: 4.0 };
/// Lateness, of which only bounds of a histogram are known: twice, and a quarter of a frame.
pub const LATENESS_MS: Margin = Margin { share: 1.0, slack: 5.0 };

/// The begin and the end of what was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Growth {
    /// The median of the first third after the warm-up.
    pub first: f64,
    /// That of the last third.
    pub last: f64,
    /// What the last may be at most.
    pub most: f64,
}

impl Growth {
    /// Of `values` in the order of time; those that are no measurement are `None`. `None` when too few of a third are left.
    pub fn of(values: &[Option<f64>], margin: Margin) -> Option<Growth> {
        let after = values.get((values.len() as f64 * WARM_UP).ceil() as usize..)?;
        let third = after.len() / 3;
        let first = median(after.get(..third)?)?;
        let last = median(after.get(after.len() - third..)?)?;
        Some(Growth { first, last, most: first * (1.0 + margin.share) + margin.slack })
    }

    /// Whether it grows.
    pub fn grows(&self) -> bool {
        self.last > self.most
    }
}

fn median(values: &[Option<f64>]) -> Option<f64> {
    let mut values: Vec<f64> = values.iter().copied().flatten().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().filter(|_| values.len() >= LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARGIN: Margin = Margin { share: 0.1, slack: 2.0 };

    fn of(values: impl Iterator<Item = f64>) -> Growth {
        Growth::of(&values.map(Some).collect::<Vec<_>>(), MARGIN).expect("a verdict")
    }

    #[test]
    fn what_fills_in_the_warm_up_does_not_grow() {
        let filled = of((0..40).map(|n| if n < 10 { n as f64 * 5.0 } else { 50.0 }));
        assert_eq!((filled.first, filled.last, filled.grows()), (50.0, 50.0, false));
    }

    #[test]
    fn what_is_more_and_more_grows() {
        assert!(!of((0..40).map(|n| 50.0 + n as f64 * 0.3)).grows(), "6 more, where 7 may be");
        assert!(of((0..40).map(|n| 50.0 + n as f64 * 0.5)).grows(), "10 more");
    }

    #[test]
    fn one_peak_is_no_growth() {
        assert!(!of((0..40).map(|n| if n == 38 { 900.0 } else { 50.0 })).grows());
    }

    #[test]
    fn of_too_little_nothing_is_said() {
        assert_eq!(Growth::of(&[Some(1.0); 11], MARGIN), None, "thirds of two");
        assert!(Growth::of(&[Some(1.0); 12], MARGIN).is_some());
        let mut values = [Some(1.0); 40];
        values[30..38].fill(None);
        assert_eq!(Growth::of(&values, MARGIN), None, "two are left of the last third");
        assert_eq!(Growth::of(&[], MARGIN), None);
    }
}
