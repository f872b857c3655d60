//! One press that comes by two ways: as telephone-event ([RFC 4733](https://www.rfc-editor.org/rfc/rfc4733)) and in SIP INFO.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A telephone-event or a tone is the same press as an INFO no further before it than this.
const TOGETHER: Duration = Duration::from_secs(2);
/// The most INFOs that are remembered.
const MOST: usize = 64;

/// Which of a SIP peer's digits are new: there are phones that send each press in RTP and in SIP INFO.
///
/// The rule, for a peer from the first of its packets to the end of its part in the call:
///
/// - Once a telephone-event of it has begun, its digits are those in RTP, and its INFOs say nothing new, for as long as
///   telephone-event is negotiated with it. So it does not matter how long a key is held, nor when its INFO comes.
/// - Until then an INFO is a digit at once. A telephone-event, or a tone where tones are listened for, of the same digit that
///   begins within 2 s after it is the same press, and not sent on; each INFO stands for one. A tone by itself decides
///   nothing: it may have been speech.
///
/// The call keeps this for what it tells in words and in INFO, the media path for what it sends in RTP: either may hear of a
/// press first.
#[derive(Debug, Default)]
pub struct Presses {
    events: bool,
    /// The digits of INFOs that were taken, and that have not come by the other way.
    infos: VecDeque<(char, Instant)>,
}

impl Presses {
    /// A telephone-event has begun.
    pub fn event_began(&mut self) {
        self.events = true;
    }

    /// Whether the digit of an INFO is a new one; `negotiated`: the peer may send telephone-events.
    pub fn takes_info(&mut self, now: Instant, digit: char, negotiated: bool) -> bool {
        if self.events && negotiated {
            return false;
        }
        self.forget(now);
        if self.infos.len() >= MOST {
            self.infos.pop_front();
        }
        self.infos.push_back((digit, now));
        true
    }

    /// Whether a digit that began in the sound at `began` is a press of which an INFO has been taken.
    pub fn is_second(&mut self, began: Instant, digit: char) -> bool {
        self.forget(began);
        let same = self.infos.iter().position(|(told, _)| *told == digit);
        same.and_then(|index| self.infos.remove(index)).is_some()
    }

    fn forget(&mut self, now: Instant) {
        self.infos.retain(|(_, at)| now < *at + TOGETHER);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use super::*;

    /// What a peer does.
    enum Does {
        Info(char),
        Event(char),
        Tone(char),
    }
    use Does::{Event, Info, Tone};

    fn new_digits(what: &[(u64, Does)], negotiated: bool) -> String {
        let start = Instant::now();
        let mut presses = Presses::default();
        let new = what.iter().filter_map(|(ms, does)| {
            let now = start + Duration::from_millis(*ms);
            if matches!(does, Event(_)) {
                presses.event_began();
            }
            match does {
                Info(digit) => presses.takes_info(now, *digit, negotiated).then_some(*digit),
                Event(digit) | Tone(digit) => (!presses.is_second(now, *digit)).then_some(*digit),
            }
        });
        new.collect()
    }

    #[test]
    fn a_press_that_comes_by_both_ways_is_one() {
        for (what, negotiated, expected) in [
            (vec![(0, Info('5')), (20, Event('5')), (300, Info('5')), (320, Event('5'))], true, "55"),
            (vec![(0, Event('5')), (20, Info('5')), (300, Event('5')), (320, Info('5'))], true, "55"),
            // All the INFOs of a number that is dialled by one key come first.
            (vec![(0, Info('1')), (1, Info('1')), (2, Info('2')), (20, Event('1')), (220, Event('1'))], true, "112"),
            // The INFO of a long key comes when it is let go.
            (vec![(0, Event('7')), (6_000, Info('7'))], true, "7"),
            (vec![(0, Info('7')), (100, Info('7')), (5_000, Info('7'))], true, "777"),
            (vec![(0, Event('7')), (100, Event('7'))], true, "77"),
            // Later than 2 s after the INFO it is another press.
            (vec![(0, Info('7')), (2_000, Event('7'))], true, "77"),
            // A re-INVITE has taken telephone-event away.
            (vec![(0, Event('7')), (100, Info('7'))], false, "77"),
            // Speech that sounds like a 5 does not take the real one away.
            (vec![(0, Tone('5')), (1_000, Info('5'))], false, "55"),
            (vec![(0, Info('5')), (60, Tone('5'))], false, "5"),
        ] {
            assert_eq!(new_digits(&what, negotiated), expected);
        }
        let many: Vec<_> = (0..200).map(|n| (n, Info('1'))).collect();
        assert_eq!(new_digits(&many, true).len(), 200, "an INFO without end is no memory without end");
    }
}
