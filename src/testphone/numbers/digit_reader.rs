//! 602: a short prompt; then digits are read, and after `#` or a pause played back as their tones.

use std::collections::VecDeque;
use std::sync::LazyLock;

use super::{Frame, Opening, Script, Step};
use crate::codec::tone::{Note, TonePlayer, dtmf};

const PROMPT: &[Note] = &[Note::rest(200), Note::single(660.0, 140), Note::rest(60), Note::single(880.0, 240)];
/// The keys, in the order of [`KEY_NOTES`].
const KEYS: &str = "0123456789*#ABCD";
/// How long each digit is played, and the silence after it, in milliseconds.
const TONE_MS: u32 = 160;
const GAP_MS: u32 = 80;
/// A pause this long (in frames: 1.5 s) ends the entry.
const PAUSE_FRAMES: u32 = 75;
/// More digits than this are not kept.
const MOST: usize = 64;

static KEY_NOTES: LazyLock<Vec<[Note; 2]>> = LazyLock::new(|| {
    let notes = |key| [dtmf(key, TONE_MS).unwrap_or(Note::rest(TONE_MS)), Note::rest(GAP_MS)];
    KEYS.chars().map(notes).collect()
});

/// See the module.
#[derive(Debug)]
pub(super) struct DigitReader {
    /// The prompt, or one digit.
    player: TonePlayer<'static>,
    /// What is still to be played back.
    to_play: VecDeque<char>,
    /// What was pressed since the last playback.
    entry: Vec<char>,
    /// Frames since the last digit.
    idle: u32,
}

impl Default for DigitReader {
    fn default() -> Self {
        DigitReader { player: TonePlayer::once(PROMPT, 6_000), to_play: VecDeque::new(), entry: Vec::new(), idle: 0 }
    }
}

impl DigitReader {
    /// Begins the playback. `#` ends the entry and is no part of it, unless it is all there is.
    fn finish_entry(&mut self) {
        let room = MOST.saturating_sub(self.to_play.len());
        self.to_play.extend(self.entry.drain(..).take(room));
    }
}

impl Script for DigitReader {
    fn opening(&self) -> Opening {
        Opening::Answer
    }

    fn digit(&mut self, digit: char) {
        self.idle = 0;
        if self.entry.len() < MOST && (digit != '#' || self.entry.is_empty()) {
            self.entry.push(digit.to_ascii_uppercase());
        }
        if digit == '#' {
            self.finish_entry();
        }
    }

    fn play(&mut self, frame: &mut Frame) -> Option<Step> {
        if !self.entry.is_empty() {
            self.idle += 1;
            if self.idle >= PAUSE_FRAMES {
                self.finish_entry();
            }
        }
        if self.player.finished()
            && let Some(digit) = self.to_play.pop_front()
            && let Some(notes) = KEYS.find(digit).and_then(|index| KEY_NOTES.get(index))
        {
            self.player = TonePlayer::once(notes, 5_000);
        }
        self.player.fill(frame);
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::codec::tone::detect_dtmf;
    use crate::testphone::numbers::FRAME;

    /// Plays `frames` and lists the tones: digit, first frame, number of frames.
    fn tones(reader: &mut DigitReader, frames: usize) -> Vec<(char, usize, usize)> {
        let mut tones: Vec<(char, usize, usize)> = Vec::new();
        let mut last = None;
        for n in 0..frames {
            let mut frame = [0; FRAME];
            assert_eq!(reader.play(&mut frame), None);
            let digit = detect_dtmf(&frame);
            match (digit, last == digit) {
                (Some(_), true) => tones.last_mut().unwrap().2 += 1,
                (Some(digit), false) => tones.push((digit, n, 1)),
                (None, _) => {}
            }
            last = digit;
        }
        tones
    }

    #[test]
    fn digits_come_back_after_a_hash_with_their_length_and_gap() {
        let mut reader = DigitReader::default();
        assert_eq!(tones(&mut reader, 40), [], "the prompt is no digit");
        for digit in "1155*#".chars() {
            reader.digit(digit);
        }
        let expected: Vec<_> = "1155*".chars().enumerate().map(|(n, digit)| (digit, n * 12, 8)).collect();
        assert_eq!(tones(&mut reader, 100), expected);
    }

    #[test]
    fn digits_come_back_after_a_pause_and_again() {
        let mut reader = DigitReader::default();
        tones(&mut reader, 40);
        for _ in 0..2 {
            reader.digit('4');
            assert_eq!(tones(&mut reader, 50), []);
            reader.digit('d');
            assert_eq!(tones(&mut reader, 74), []);
            assert_eq!(tones(&mut reader, 30), [('4', 0, 8), ('D', 12, 8)]);
        }
        reader.digit('#');
        assert_eq!(tones(&mut reader, 30), [('#', 0, 8)], "alone it is a digit like any other");
    }

    #[test]
    fn digits_pressed_too_early_or_too_many_are_no_trouble() {
        let mut reader = DigitReader::default();
        for _ in 0..1_000 {
            reader.digit('9');
        }
        reader.digit('#');
        for _ in 0..1_000 {
            reader.digit('9');
            reader.digit('#');
        }
        assert_eq!(tones(&mut reader, 2_000).len(), MOST);
    }
}
