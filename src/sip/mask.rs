//! How the log has numbers, and names of users, which may be numbers.

use std::fmt;

/// The fewest digits of a number that is somebody's; shorter ones are extensions and services.
const SHORTEST_WHOLE: usize = 7;

/// A text as a log may have it: of each run of seven digits and more all but the first two and the last two are stars.
/// What people put between digits (RFC 3966 section 5.1.1) does not end a run.
fn masked(text: &str) -> String {
    let mut shown: Vec<char> = text.chars().collect();
    let mut run: Vec<usize> = Vec::new();
    for at in 0..=shown.len() {
        match shown.get(at) {
            Some(digit) if digit.is_ascii_digit() => run.push(at),
            Some('-' | '.' | '(' | ')' | ' ' | '\u{a0}' | '/' | '_' | '~') => {}
            _ => {
                let hidden = if run.len() < SHORTEST_WHOLE { 0 } else { run.len() - 4 };
                for place in run.drain(..).skip(2).take(hidden) {
                    if let Some(digit) = shown.get_mut(place) {
                        *digit = '*';
                    }
                }
            }
        }
    }
    shown.into_iter().collect()
}

/// A number, a user's name or another text with numbers in it, as the log may have it: both `Display` and `Debug` mask
/// it (`+44********00`), unless the operator wants numbers as they are.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    text: &'a str,
    plain: bool,
}

impl<'a> Shown<'a> {
    /// Masked.
    pub const fn masked(text: &'a str) -> Shown<'a> {
        Shown { text, plain: false }
    }

    /// As it is where `plain`, else masked.
    pub const fn new(text: &'a str, plain: bool) -> Shown<'a> {
        Shown { text, plain }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.plain { f.write_str(self.text) } else { f.write_str(&masked(self.text)) }
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.plain { fmt::Debug::fmt(self.text, f) } else { fmt::Debug::fmt(&masked(self.text), f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_the_ends_of_a_number_and_short_ones_whole() {
        for (number, shown) in [
            ("+442079460000", "+44********00"),
            ("02079460000", "02*******00"),
            ("020 7946-0000", "02* ****-**00"),
            ("1234567", "12***67"),
            ("030/123\u{a0}4567", "03*/***\u{a0}**67"),
            ("44_7700_900123", "44_****_****23"),
            ("112", "112"),
            ("600100", "600100"),
            ("alice", "alice"),
            ("sip:+442079460000@192.0.2.1", "sip:+44********00@192.0.2.1"),
            ("", ""),
        ] {
            assert_eq!(masked(number), shown);
        }
    }

    #[test]
    fn a_text_is_masked_however_it_is_written() {
        let user = "did:+442079460142";
        assert_eq!(format!("{0} {0:?}", Shown::masked(user)), "did:+44********42 \"did:+44********42\"");
        assert_eq!(format!("{0} {0:?}", Shown::new(user, true)), format!("{user} {user:?}"));
    }
}
