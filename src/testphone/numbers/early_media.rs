//! 605: the melody before the answer, and on after it without a break.

use super::{Frame, Opening, Prompt, Script, Step};

/// How many frames are played before the answer: 3 s.
const EARLY_FRAMES: u32 = 150;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct EarlyMedia {
    prompt: Prompt,
    frames: u32,
}

impl Script for EarlyMedia {
    fn opening(&self) -> Opening {
        Opening::Early
    }

    fn play(&mut self, frame: &mut Frame) -> Option<Step> {
        self.prompt.play(frame);
        self.frames = self.frames.saturating_add(1);
        (self.frames == EARLY_FRAMES).then_some(Step::Answer)
    }
}
