//! How much redundancy a stream of ours needs, by what its receiver reports (docs/decisions/0011-redundancy-by-reports.md).

use std::time::{Duration, Instant};

/// What is presumed until the first report, in percent: it comes after seconds, and losses may come before.
const PRESUMED: f32 = 2.0;
/// Redundancy begins at this loss, and ends below that one.
const BEGIN: f32 = 1.0;
const END: f32 = 0.5;
/// Reported loss is forgotten by half in this time.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// The expected losses that the encoder is told, and the loss from which it is told the second. Below 10 % libopus makes no
/// redundancy at 24 kbit/s; above 15 % the sound itself suffers more than redundancy mends.
const USUAL: u8 = 10;
const HIGH: u8 = 15;

/// The loss of one stream: up at once, down slowly.
#[derive(Debug)]
pub(super) struct Redundancy {
    loss: f32,
    reported: Option<Instant>,
    on: bool,
}

impl Redundancy {
    pub fn new() -> Self {
        Self { loss: PRESUMED, reported: None, on: true }
    }

    /// The receiver reports this loss, in 256ths.
    pub fn reported(&mut self, now: Instant, fraction: u8) {
        let percent = f32::from(fraction) * 100.0 / 256.0;
        let since = self.reported.replace(now).map(|before| now.saturating_duration_since(before));
        let kept = since.map_or(1.0, |since| 0.5_f32.powf(since.as_secs_f32() / HALF_LIFE.as_secs_f32()));
        self.loss = (self.loss * kept).max(percent);
        self.on = self.loss >= if self.on { END } else { BEGIN };
    }

    /// The loss that the encoder shall expect in percent; `None`: no redundancy.
    pub fn expected(&self) -> Option<u8> {
        self.on.then_some(if self.loss >= f32::from(USUAL) { HIGH } else { USUAL })
    }

    /// Whether the receiver has told of loss lately.
    pub fn lossy(&self) -> bool {
        self.on && self.reported.is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
    use super::*;

    const fn of(percent: u32) -> u8 {
        (percent * 256 / 100) as u8 + 1
    }

    #[test]
    fn redundancy_is_there_from_the_start_and_goes_when_nothing_is_lost_for_a_while() {
        let (start, mut redundancy) = (Instant::now(), Redundancy::new());
        assert_eq!((redundancy.expected(), redundancy.lossy()), (Some(USUAL), false));
        let off = (1..60).find(|second| {
            redundancy.reported(start + Duration::from_secs(*second), 0);
            redundancy.expected().is_none()
        });
        assert!(off.is_some_and(|second| (15..30).contains(&second)), "{off:?}");
    }

    #[test]
    fn it_comes_back_at_once_and_stays_for_long_whatever_the_pace_of_reports() {
        for every in [1, 5] {
            let (start, mut redundancy) = (Instant::now(), Redundancy::new());
            let mut report = |second: u64, percent| {
                redundancy.reported(start + Duration::from_secs(second), if percent == 0 { 0 } else { of(percent) });
                redundancy.expected()
            };
            for second in (0..100).step_by(every) {
                report(second, 0);
            }
            assert_eq!(report(100, 0), None);
            assert_eq!(report(100 + every as u64, 10), Some(HIGH));
            let gone = (101 + every as u64..300).step_by(every).find(|second| report(*second, 0).is_none()).unwrap();
            assert!((130..160).contains(&gone), "{gone}");
        }
    }

    #[test]
    fn a_loss_about_the_threshold_does_not_make_it_come_and_go() {
        let (start, mut redundancy) = (Instant::now(), Redundancy::new());
        let mut changes = 0;
        let mut before = redundancy.expected();
        for second in 0..600_u64 {
            // One packet of fifty every ten seconds or so: 0.2 % on average.
            let fraction = if second % 11 == 0 { of(2) } else { 0 };
            redundancy.reported(start + Duration::from_secs(second), fraction);
            changes += u32::from(redundancy.expected() != before);
            before = redundancy.expected();
        }
        assert_eq!(changes, 0);
    }
}
