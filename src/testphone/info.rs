//! Digits in SIP INFO: `application/dtmf-relay` (`Signal=5`, `Duration=160`) and `application/dtmf` (the bare digit).
//! There is no standard for either; this is what phones send.

use crate::sip::Body;

/// How many digits one INFO may carry.
const MOST: usize = 32;

/// The digits of an INFO's body; empty where it carries none.
pub(super) fn digits(body: &Body) -> Vec<char> {
    let Ok(text) = std::str::from_utf8(&body.bytes) else { return Vec::new() };
    let kind = body.content_type.split(';').next().unwrap_or_default().trim();
    let keys = if kind.eq_ignore_ascii_case("application/dtmf-relay") {
        text.lines().find_map(signal).unwrap_or_default()
    } else if kind.eq_ignore_ascii_case("application/dtmf") {
        // Some write `Signal=` here too.
        text.lines().find_map(signal).unwrap_or(text)
    } else {
        ""
    };
    keys.trim().chars().take(MOST).filter(|c| matches!(c, '0'..='9' | '*' | '#' | 'A'..='D' | 'a'..='d')).collect()
}

fn signal(line: &str) -> Option<&str> {
    let (name, value) = line.split_once('=')?;
    name.trim().eq_ignore_ascii_case("signal").then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_phones_send_is_understood() {
        let table = [
            ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", "5"),
            ("Application/DTMF-Relay; charset=utf-8", "Signal= #\r\nDuration= 250", "#"),
            ("application/dtmf-relay", "Duration=160\nsignal = *\n", "*"),
            ("application/dtmf", "7", "7"),
            ("application/dtmf", "12\r\n", "12"),
            ("application/dtmf", "Signal=d", "d"),
            ("application/dtmf-relay", "Duration=160", ""),
            ("application/dtmf-relay", "Signal=\u{e9}", ""),
            ("text/plain", "5", ""),
            ("", "", ""),
        ];
        for (content_type, text, expected) in table {
            let body = Body { content_type: content_type.into(), bytes: text.into() };
            assert_eq!(digits(&body).into_iter().collect::<String>(), expected, "{content_type}: {text}");
        }
        let broken = Body { content_type: "application/dtmf".into(), bytes: vec![0xff, b'1'] };
        assert!(digits(&broken).is_empty());
    }
}
