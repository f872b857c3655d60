//! 606: answers, beeps twice, hangs up; then the caller is called back and hears the melody.

use super::{Frame, Opening, Script, Step};
use crate::codec::tone::{Note, TonePlayer};

const BEEP: Note = Note::single(880.0, 200);
const BEEPS: &[Note] = &[Note::rest(300), BEEP, Note::rest(160), BEEP, Note::rest(300)];

/// See the module.
#[derive(Debug)]
pub(super) struct CallBack {
    player: TonePlayer<'static>,
}

impl Default for CallBack {
    fn default() -> Self {
        CallBack { player: TonePlayer::once(BEEPS, 6_000) }
    }
}

impl Script for CallBack {
    fn opening(&self) -> Opening {
        Opening::Answer
    }

    fn play(&mut self, frame: &mut Frame) -> Option<Step> {
        self.player.fill(frame);
        self.player.finished().then_some(Step::HangUp)
    }

    fn calls_back(&self) -> bool {
        true
    }
}
