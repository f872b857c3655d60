//! Which values may come in from a browser and go out into SIP.
//!
//! A value that breaks its rule is refused, never escaped into place: CR, LF and NUL can then not end a header line
//! early wherever the value is written.

/// The longest call id, in characters.
pub const MAX_CALL_ID: usize = 64;
/// The longest user name, in characters.
pub const MAX_USER: usize = 64;
/// The longest dialled text, in characters.
pub const MAX_DESTINATION: usize = 128;
/// The longest number, in digits.
pub const MAX_NUMBER: usize = 32;
/// The longest display name, in characters.
pub const MAX_DISPLAY_NAME: usize = 128;
/// The most digits in one `digits` message.
pub const MAX_DIGITS: usize = 64;
/// The longest value for a SIP header, in bytes.
pub const MAX_HEADER_VALUE: usize = 512;
/// The most parameters of one call.
pub const MAX_PARAMS: usize = 8;
/// The longest name of a parameter, in characters.
pub const MAX_PARAM_NAME: usize = 32;
/// The longest value of a parameter, in characters.
pub const MAX_PARAM_VALUE: usize = 256;

/// A call's id as the client chose it: `[A-Za-z0-9_-]{1,64}`.
pub fn valid_call_id(text: &str) -> bool {
    (1..=MAX_CALL_ID).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// The name of a user, or a caller id: `[A-Za-z0-9._+:@*#~-]{1,64}`.
pub fn valid_user(text: &str) -> bool {
    (1..=MAX_USER).contains(&text.len())
        && text.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b':' | b'@' | b'*' | b'#' | b'~' | b'-')
        })
}

/// A number as it may stand in a SIP user part: an optional `+`, then up to 32 digits, `*` or `#`.
pub fn valid_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    (1..=MAX_NUMBER).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'*' | b'#'))
}

/// What may be dialled, before the dial plan normalises it: up to 128 characters, none of them a control character.
pub fn valid_destination(text: &str) -> bool {
    printable(text) && (1..=MAX_DESTINATION).contains(&text.chars().count())
}

/// A name to show beside a number: up to 128 characters, none of them a control character.
pub fn valid_display_name(text: &str) -> bool {
    printable(text) && text.chars().count() <= MAX_DISPLAY_NAME
}

/// Digits to play: `0-9 * # A-D`, 1 to 64 of them.
pub fn valid_digits(text: &str) -> bool {
    (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'*' | b'#' | b'A'..=b'D'))
}

/// A value that may be written into a SIP header as it is: up to 512 bytes, no control character.
pub fn valid_header_value(text: &str) -> bool {
    printable(text) && text.len() <= MAX_HEADER_VALUE
}

/// The name of a call's parameter, `X-Param-NAME` in SIP: `[a-z0-9-]{1,32}`.
pub fn valid_param_name(text: &str) -> bool {
    (1..=MAX_PARAM_NAME).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The value of a call's parameter: up to 256 characters, none of them a control character.
pub fn valid_param_value(text: &str) -> bool {
    printable(text) && text.chars().count() <= MAX_PARAM_VALUE
}

/// Neither C0, DEL nor C1 controls, nor Unicode's own line ends.
fn printable(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_ends_a_line_passes_any_rule() {
        let rules: [fn(&str) -> bool; 9] = [
            valid_call_id,
            valid_user,
            valid_number,
            valid_destination,
            valid_display_name,
            valid_digits,
            valid_header_value,
            valid_param_name,
            valid_param_value,
        ];
        for bad in ["1\r\nVia: x", "1\n", "1\r", "1\0", "\u{7f}", "\u{85}", "\u{2028}"] {
            for (index, rule) in rules.iter().enumerate() {
                assert!(!rule(bad), "rule {index} took {bad:?}");
            }
        }
    }

    #[test]
    fn each_rule_takes_what_it_names() {
        assert!(
            valid_call_id("c-1_Z") && !valid_call_id("") && !valid_call_id("a b") && !valid_call_id(&"x".repeat(65))
        );
        assert!(valid_user("ext:312") && valid_user("did:+442079460142") && valid_user("mia@office.example"));
        assert!(!valid_user("") && !valid_user("<mia>") && !valid_user("mía") && !valid_user("a b"));
        assert!(valid_number("+442079460999") && valid_number("*21#") && valid_number("600"));
        assert!(!valid_number("+") && !valid_number("1 2") && !valid_number("++1") && !valid_number(&"1".repeat(33)));
        assert!(valid_destination("(415) 555-2671") && valid_destination("hotline") && !valid_destination(""));
        assert!(valid_destination(&"é".repeat(128)) && !valid_destination(&"é".repeat(129)));
        assert!(valid_display_name("") && valid_display_name("Zoë \"Z\" O'Neil"));
        assert!(valid_digits("0123456789*#ABCD") && !valid_digits("") && !valid_digits("a") && !valid_digits("1w2"));
        assert!(valid_param_name("crm-id") && !valid_param_name("") && !valid_param_name("Crm"));
        assert!(!valid_param_name(&"x".repeat(33)) && !valid_param_name("a_b"));
        assert!(valid_param_value("") && valid_param_value(&"é".repeat(256)) && !valid_param_value(&"é".repeat(257)));
        assert!(valid_header_value("text/plain; q=1") && !valid_header_value(&"x".repeat(513)));
    }
}
