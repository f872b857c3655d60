//! The numbers of the test phone: one behaviour, one file.

mod busy;
mod call_back;
mod digit_reader;
mod early_media;
mod echo;
mod no_answer;
mod prompt;

use std::time::Instant;

pub(super) use prompt::Prompt;

/// Samples in a packet: 20 ms.
pub(super) const FRAME: usize = 160;

/// The audio of one packet, 8 kHz.
pub(super) type Frame = [i16; FRAME];

/// How a number meets a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// Refuses it with this status.
    Refuse(u16),
    /// Rings, without media.
    Ring,
    /// Rings, with media.
    Early,
    /// Answers.
    Answer,
}

/// What a number wants to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Answer the call, which rang with media until now.
    Answer,
    /// End the call.
    HangUp,
}

/// What a number does with one call. Its clock is the stream it plays: 20 ms a frame.
pub(super) trait Script: Send + std::fmt::Debug {
    /// How it meets the call.
    fn opening(&self) -> Opening;

    /// What time it is: told before anything is heard, pressed or played.
    fn at(&mut self, _now: Instant) {}

    /// Takes the caller's audio.
    fn hear(&mut self, _pcm: &[i16]) {}

    /// Takes one digit that the caller pressed.
    fn digit(&mut self, _digit: char) {}

    /// Fills the next 20 ms for the caller, and may want something to happen after them.
    fn play(&mut self, frame: &mut Frame) -> Option<Step> {
        frame.fill(0);
        None
    }

    /// Whether the caller is called back once this call, having been answered, is over.
    fn calls_back(&self) -> bool {
        false
    }
}

/// What `number` does; `None`: there is no such number.
pub(super) fn script(number: &str) -> Option<Box<dyn Script>> {
    Some(match number {
        "600" => Box::new(echo::Echo::default()),
        "601" => Box::new(Prompt::default()),
        "602" => Box::new(digit_reader::DigitReader::default()),
        "603" => Box::new(busy::Busy),
        "604" => Box::new(no_answer::NoAnswer),
        "605" => Box::new(early_media::EarlyMedia::default()),
        "606" => Box::new(call_back::CallBack::default()),
        _ => return None,
    })
}
