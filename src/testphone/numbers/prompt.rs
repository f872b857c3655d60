//! 601: the melody, over and over.

use super::{Frame, Opening, Script, Step};
use crate::testphone::melody::melody;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::testphone) struct Prompt {
    position: usize,
}

impl Script for Prompt {
    fn opening(&self) -> Opening {
        Opening::Answer
    }

    fn play(&mut self, frame: &mut Frame) -> Option<Step> {
        let round = melody();
        for (sample, note) in frame.iter_mut().zip(round.iter().cycle().skip(self.position)) {
            *sample = *note;
        }
        self.position = (self.position + frame.len()) % round.len().max(1);
        None
    }
}
