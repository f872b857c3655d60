//! Digits in SIP INFO: `application/dtmf-relay` and `application/dtmf`, the bodies JsSIP, SIP.js and Asterisk use.

/// The shortest and the longest digit, milliseconds. SIP.js says `Duration=2000`: clamp.
const SHORTEST: u16 = 40;
const LONGEST: u16 = 250;
/// What a digit lasts that says no duration.
pub const DEFAULT_MS: u16 = 160;
/// The most digits taken in one message.
pub const MOST_DIGITS: usize = 64;

/// The media type of the bodies we send.
pub const DTMF_RELAY: &str = "application/dtmf-relay";

/// Whether a character is a digit of RFC 4733's keypad.
pub fn is_digit(digit: char) -> bool {
    matches!(digit, '0'..='9' | '*' | '#' | 'A'..='D')
}

/// A duration within what one digit may last; `None` is the default.
pub fn clamp_ms(ms: Option<u32>) -> u16 {
    let ms = ms.unwrap_or(u32::from(DEFAULT_MS)).clamp(u32::from(SHORTEST), u32::from(LONGEST));
    u16::try_from(ms).unwrap_or(DEFAULT_MS)
}

/// Reads an INFO body: the digit and its clamped duration. `None`: not a digit.
pub fn read_info(content_type: &str, body: &[u8]) -> Option<(char, u16)> {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let text = std::str::from_utf8(body.get(..body.len().min(256))?).ok()?;
    match kind.as_str() {
        "application/dtmf-relay" => {
            let (mut digit, mut ms) = (None, None);
            for line in text.lines() {
                match line.split_once('=').map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim())) {
                    Some((name, value)) if name == "signal" => digit = signal(value),
                    Some((name, value)) if name == "duration" => ms = value.parse::<u32>().ok(),
                    _ => {}
                }
            }
            Some((digit?, clamp_ms(ms)))
        }
        "application/dtmf" => Some((signal(text.trim())?, clamp_ms(None))),
        _ => None,
    }
}

/// One signal: the digit itself, or its RFC 4733 event number 10 to 15.
fn signal(text: &str) -> Option<char> {
    match text {
        "10" => Some('*'),
        "11" => Some('#'),
        "12" => Some('A'),
        "13" => Some('B'),
        "14" => Some('C'),
        "15" => Some('D'),
        _ => {
            let mut letters = text.chars();
            let digit = letters.next().map(|letter| letter.to_ascii_uppercase()).filter(|letter| is_digit(*letter))?;
            letters.next().is_none().then_some(digit)
        }
    }
}

/// The body of an INFO for one digit.
pub fn write_info(digit: char, ms: u16) -> Vec<u8> {
    format!("Signal={digit}\r\nDuration={ms}\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_the_field_are_read() {
        for (kind, body, expected) in [
            ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", Some(('5', 160))),
            ("application/dtmf-relay", "Signal= 5\nDuration= 2000\n", Some(('5', 250))),
            ("Application/DTMF-Relay; charset=utf-8", "signal=*\r\n", Some(('*', 160))),
            ("application/dtmf-relay", "Signal=11\r\nDuration=1", Some(('#', 40))),
            ("application/dtmf-relay", "Signal=a", Some(('A', 160))),
            ("application/dtmf", "7", Some(('7', 160))),
            ("application/dtmf", "10\r\n", Some(('*', 160))),
            ("application/dtmf", "16", None),
            ("application/dtmf", "", None),
            ("application/dtmf-relay", "Duration=100", None),
            ("application/dtmf-relay", "Signal=!", None),
            ("text/plain", "5", None),
        ] {
            assert_eq!(read_info(kind, body.as_bytes()), expected, "{kind} {body:?}");
        }
        assert_eq!(read_info("application/dtmf", &[0xff]), None);
    }

    #[test]
    fn what_we_write_reads_back() {
        for digit in "0123456789*#ABCD".chars() {
            assert_eq!(read_info(DTMF_RELAY, &write_info(digit, 100)), Some((digit, 100)));
        }
    }
}
