//! Numbers and names: how a trunk writes its numbers, and which of its names a browser may be shown. What a browser
//! says is held to the rules of `signal`.

/// How a trunk writes numbers. Numbers without a leading `+` (short numbers, names) pass unchanged either way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NumberFormat {
    /// `+442079460000`.
    #[default]
    E164,
    /// `442079460000`: E.164 without the plus.
    Plain,
    /// Numbers of the own country as `02079460000`, all others as E.164.
    National {
        /// What stands before a national number, `"0"` in most of Europe; may be empty.
        prefix: String,
        /// The country code without plus, `"44"`.
        country: String,
    },
    /// As the dial plan gives them.
    AsDialled,
}

impl NumberFormat {
    /// A normalised number as the trunk wants to read it.
    pub fn present(&self, number: &str) -> String {
        let Some(digits) = number.strip_prefix('+') else { return number.to_owned() };
        match self {
            NumberFormat::E164 | NumberFormat::AsDialled => number.to_owned(),
            NumberFormat::Plain => digits.to_owned(),
            NumberFormat::National { prefix, country } => match digits.strip_prefix(country.as_str()) {
                // What stands behind two prefixes would be another number: `00` calls abroad.
                Some(national) if !country.is_empty() && (prefix.is_empty() || !national.starts_with('0')) => {
                    format!("{prefix}{national}")
                }
                _ => number.to_owned(),
            },
        }
    }

    /// A number as the trunk wrote it, back in E.164 where that is certain.
    pub fn normalise(&self, number: &str) -> String {
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            // E.164 numbers have up to 15 digits; what is shorter than 7 is a short number of the trunk's own.
            NumberFormat::Plain if digits && (7..=15).contains(&number.len()) => format!("+{number}"),
            NumberFormat::National { prefix, country } if digits && !prefix.is_empty() && !country.is_empty() => {
                match number.strip_prefix("00").filter(|_| prefix != "00") {
                    Some(international) if international.len() >= 7 => format!("+{international}"),
                    _ => match number.strip_prefix(prefix.as_str()) {
                        Some(national) if national.len() >= 5 => format!("+{country}{national}"),
                        _ => number.to_owned(),
                    },
                }
            }
            _ => number.to_owned(),
        }
    }
}

/// The longest number or name taken from a trunk, characters.
pub const LONGEST_NUMBER: usize = 64;

/// Whether a user part is a number or a name.
fn may_be_user(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST_NUMBER
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+*#-._".contains(&byte))
}

/// A caller's name as the browser may show it: no control or direction-changing characters, at most 80 characters.
pub fn display_name(text: &str) -> Option<String> {
    let hidden = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let name: String = text.chars().filter(|letter| !hidden(*letter)).take(80).collect();
    let name = name.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

/// A caller's number as the browser and the dial plan may see it; `None` for anonymous callers and odd user parts.
pub fn caller_number(user: &str) -> Option<String> {
    (may_be_user(user) && !user.eq_ignore_ascii_case("anonymous")).then(|| user.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn national() -> NumberFormat {
        NumberFormat::National { prefix: "0".into(), country: "44".into() }
    }

    #[test]
    fn numbers_are_written_as_the_trunk_wants_them() {
        for (format, number, written) in [
            (NumberFormat::E164, "+442079460000", "+442079460000"),
            (NumberFormat::Plain, "+442079460000", "442079460000"),
            (national(), "+442079460000", "02079460000"),
            (national(), "+33170189900", "+33170189900"),
            (national(), "+44088216123456", "+44088216123456"),
            (NumberFormat::National { prefix: String::new(), country: "39".into() }, "+390669882111", "0669882111"),
            (NumberFormat::AsDialled, "+442079460000", "+442079460000"),
            (NumberFormat::Plain, "600", "600"),
            (national(), "112", "112"),
        ] {
            assert_eq!(format.present(number), written, "{format:?}");
        }
    }

    #[test]
    fn numbers_are_read_as_the_trunk_writes_them() {
        for (format, written, number) in [
            (NumberFormat::E164, "+442079460000", "+442079460000"),
            (NumberFormat::Plain, "442079460000", "+442079460000"),
            (NumberFormat::Plain, "600", "600"),
            (NumberFormat::Plain, "alice", "alice"),
            (national(), "02079460000", "+442079460000"),
            (national(), "0033170189900", "+33170189900"),
            (national(), "+33170189900", "+33170189900"),
            (national(), "112", "112"),
            (NumberFormat::AsDialled, "02079460000", "02079460000"),
        ] {
            assert_eq!(format.normalise(written), number, "{format:?}");
        }
    }

    #[test]
    fn user_parts_that_are_no_number_or_name_are_not_taken() {
        for bad in ["", "1 2", "1\r\nX: y", "1\0", "a;b", "<a>", "\"", "\u{661}", "a,b", "a%0d", "a@b", &"1".repeat(65)]
        {
            assert!(!may_be_user(bad), "{bad:?}");
        }
        assert!(may_be_user("+44#") && may_be_user("hot-line_1.x*"));
    }

    #[test]
    fn names_are_shown_without_tricks() {
        assert_eq!(display_name("Ann\r\n Other").as_deref(), Some("Ann Other"));
        assert_eq!(display_name("\u{202e}evil\u{200b}").as_deref(), Some("evil"));
        assert_eq!(display_name(" \u{7}"), None);
        assert_eq!(display_name(&"x".repeat(500)).map(|name| name.len()), Some(80));
        assert_eq!(caller_number("anonymous"), None);
        assert_eq!(caller_number("+44"), Some("+44".into()));
    }
}
