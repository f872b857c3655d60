//! 600: plays back what it hears.

use std::collections::VecDeque;

use super::{FRAME, Frame, Opening, Script, Step};

/// Playing begins when this much is there (40 ms): so a packet that comes a little late leaves no gap.
const PRIMED: usize = 2 * FRAME;
/// More than this (200 ms) is never kept: the delay shall not grow.
const MOST: usize = 10 * FRAME;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Echo {
    heard: VecDeque<i16>,
    playing: bool,
}

impl Script for Echo {
    fn opening(&self) -> Opening {
        Opening::Answer
    }

    fn hear(&mut self, pcm: &[i16]) {
        self.heard.extend(pcm);
        if self.heard.len() > MOST {
            let excess = self.heard.len() - PRIMED;
            self.heard.drain(..excess);
        }
    }

    fn play(&mut self, frame: &mut Frame) -> Option<Step> {
        self.playing = self.heard.len() >= if self.playing { 1 } else { PRIMED };
        for sample in frame {
            *sample = if self.playing { self.heard.pop_front().unwrap_or(0) } else { 0 };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_is_forty_milliseconds_and_never_grows() {
        let mut echo = Echo::default();
        let mut frame = [1; FRAME];
        for n in 0..20 {
            echo.hear(&[n; FRAME]);
            echo.play(&mut frame);
            assert_eq!(frame, [(n - 1).max(0); FRAME]);
        }
        // A burst is cut down to the newest.
        for n in 100..150 {
            echo.hear(&[n; FRAME]);
        }
        echo.play(&mut frame);
        assert!(frame[0] >= 140);
        // It runs dry, plays silence, and starts again.
        for _ in 0..20 {
            echo.play(&mut frame);
        }
        assert_eq!(frame, [0; FRAME]);
        echo.hear(&[7; FRAME]);
        echo.play(&mut frame);
        assert_eq!(frame, [0; FRAME], "one packet does not start it");
        echo.hear(&[8; FRAME]);
        echo.play(&mut frame);
        assert_eq!(frame, [7; FRAME]);
    }
}
