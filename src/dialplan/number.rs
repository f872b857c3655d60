//! Numbers: from what was dialled to E.164, and the patterns that numbers are matched with.

use super::country;

/// The fewest and the most digits of an international number, country code included (ITU-T E.164 allows 15).
const E164_DIGITS: std::ops::RangeInclusive<usize> = 5..=15;
/// The longest dialled text that stays as it is.
const MAX_DIALLED: usize = 32;

/// How a dialled text becomes a number: the `[numbering]` section.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbering {
    /// The country code, such as `44`; without one national numbers stay as dialled.
    pub country: Option<String>,
    /// The prefix of national numbers, such as `0`; it may be empty (Spain, Italy keeps it in the number).
    pub national: Option<String>,
    /// The prefixes of international numbers, `+` always among them.
    pub international: Vec<String>,
    /// Put before subscriber numbers.
    pub area: String,
    /// The forms of subscriber numbers that need no prefix.
    pub subscriber: Vec<Pattern>,
    /// Inside numbers.
    pub extensions: Vec<Pattern>,
    /// Emergency numbers.
    pub emergency: Vec<String>,
    /// Short numbers of the network.
    pub short: Vec<Pattern>,
}

/// What a dialled text means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Number {
    /// The number for matching and for the trunk.
    pub text: String,
    /// What it was taken for, in words.
    pub taken_for: String,
}

impl Number {
    fn new(text: impl Into<String>, taken_for: impl Into<String>) -> Self {
        Number { text: text.into(), taken_for: taken_for.into() }
    }
}

impl Numbering {
    /// What a dialled text means, or in words why it means nothing.
    pub fn normalise(&self, dialled: &str) -> Result<Number, String> {
        let dialled = dialled.trim();
        if is_name(dialled) {
            return Ok(Number::new(dialled, "a name"));
        }
        let digits = without_separators(dialled);
        if !is_number(&digits) || digits.len() > MAX_DIALLED {
            return Err(format!("{dialled:?} is neither a number nor a name"));
        }
        self.untouched(&digits).map_or_else(|| self.to_e164(&digits), Ok)
    }

    /// Whether a number, as it is after normalisation, is an emergency number.
    pub fn is_emergency(&self, number: &str) -> bool {
        self.emergency.iter().any(|own| own == number)
    }

    /// The numbers that stay as they are: emergency, inside and short ones.
    fn untouched(&self, digits: &str) -> Option<Number> {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(digits));
        let taken_for = if self.is_emergency(digits) {
            "an emergency number"
        } else if any(&self.extensions) {
            "an inside number"
        } else if any(&self.short) {
            "a short number"
        } else {
            return None;
        };
        Some(Number::new(digits, taken_for))
    }

    fn to_e164(&self, digits: &str) -> Result<Number, String> {
        if let Some(prefix) = self.international_prefix(digits) {
            let rest = digits.strip_prefix(prefix).unwrap_or_default();
            return self.e164(rest, &format!("an international number (prefix {prefix})"));
        }
        let Some(country) = &self.country else {
            return Ok(Number::new(digits, "digits, which stay as dialled"));
        };
        if self.subscriber.iter().any(|pattern| pattern.matches(digits)) {
            return self.e164(&format!("{country}{}{digits}", self.area), "a subscriber's number");
        }
        match self.national.as_deref().and_then(|prefix| Some((prefix, digits.strip_prefix(prefix)?))) {
            Some((prefix, rest)) => {
                self.e164(&format!("{country}{rest}"), &format!("a national number (prefix {prefix:?})"))
            }
            None if !self.area.is_empty() => {
                self.e164(&format!("{country}{}{digits}", self.area), "a subscriber's number of the area")
            }
            None => Ok(Number::new(digits, "digits without a known prefix, which stay as dialled")),
        }
    }

    /// `+` and the digits, if they may be an E.164 number.
    fn e164(&self, digits: &str, taken_for: &str) -> Result<Number, String> {
        let plausible = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        if !plausible || !E164_DIGITS.contains(&digits.len()) {
            return Err(format!("+{digits} cannot be a telephone number: 5 to 15 digits, the first not 0"));
        }
        let own = self.country.as_deref().zip(self.national.as_deref());
        let own = own.filter(|(code, prefix)| country::has_prefix_inside(digits, code, prefix));
        let Some((code, prefix)) = country::prefix_inside(digits).or(own) else {
            return Ok(Number::new(format!("+{digits}"), taken_for));
        };
        Err(format!("+{digits} cannot be a telephone number: no {prefix} comes after +{code}"))
    }

    /// The longest international prefix that the digits begin with; `+` always is one.
    fn international_prefix(&self, digits: &str) -> Option<&str> {
        let known = self.international.iter().map(String::as_str).chain(["+"]);
        known.filter(|prefix| digits.starts_with(prefix)).max_by_key(|prefix| prefix.len())
    }

    /// The forms under which a called number of a trunk may stand in a plan, best first.
    pub fn forms_of_did(&self, did: &str) -> Vec<Number> {
        let mut forms: Vec<Number> = self.normalise(did).ok().into_iter().collect();
        let digits = without_separators(did.trim());
        if digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0') {
            forms.push(Number::new(format!("+{digits}"), "an international number without its +"));
        }
        forms.push(Number::new(did, "the text as it came"));
        let mut seen: Vec<String> = Vec::new();
        forms.retain(|form| {
            let new = !seen.contains(&form.text);
            seen.push(form.text.clone());
            new
        });
        forms
    }
}

/// Leaves out what people write between digits, and the `(0)` of `+44 (0)20 ...`.
fn without_separators(dialled: &str) -> String {
    let dialled = if dialled.starts_with('+') { dialled.replacen("(0)", "", 1) } else { dialled.to_owned() };
    dialled.chars().filter(|c| !matches!(c, ' ' | '\u{a0}' | '-' | '.' | '(' | ')' | '/')).collect()
}

/// A `+` at most, and then digits, `*` and `#`.
pub(super) fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'*' | b'#'))
}

/// A name, such as `hotline`: it begins with a letter.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'@' | b'+'))
}

/// A pattern for whole numbers: `X` any digit, `Z` 1 to 9, `N` 2 to 9, a `.` at the end one or more digits; the rest
/// (`+`, digits, `*`, `#`) stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    open: bool,
}

impl std::str::FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (slots, open) = text.strip_suffix('.').map_or((text, false), |slots| (slots, true));
        let rest = slots.strip_prefix('+').unwrap_or(slots);
        let known = |b: u8| b.is_ascii_digit() || matches!(b, b'X' | b'Z' | b'N' | b'*' | b'#');
        if text.is_empty() || text.len() > MAX_DIALLED || !rest.bytes().all(known) {
            return Err(format!(
                "{text:?} is no pattern: + digits * # X (any digit) Z (1-9) N (2-9), and . at the end for one or more digits"
            ));
        }
        Ok(Pattern { text: slots.to_owned(), open })
    }
}

impl Pattern {
    /// Whether the pattern is the whole of a number.
    pub fn matches(&self, number: &str) -> bool {
        let (slots, number) = (self.text.as_bytes(), number.as_bytes());
        let Some((head, tail)) = number.split_at_checked(slots.len()) else { return false };
        let fits = head.iter().zip(slots).all(|(&digit, &slot)| match slot {
            b'X' => digit.is_ascii_digit(),
            b'Z' => matches!(digit, b'1'..=b'9'),
            b'N' => matches!(digit, b'2'..=b'9'),
            slot => digit == slot,
        });
        let tail_fits =
            if self.open { !tail.is_empty() && tail.iter().all(u8::is_ascii_digit) } else { tail.is_empty() };
        fits && tail_fits
    }

    /// What every number of the pattern begins with.
    pub fn stem(&self) -> &str {
        self.text.split(['X', 'Z', 'N']).next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn uk() -> Numbering {
        Numbering {
            country: Some("44".into()),
            national: Some("0".into()),
            international: strings(&["00", "+"]),
            extensions: patterns(&["3XX"]),
            emergency: strings(&["999", "112"]),
            short: patterns(&["101", "118XXX"]),
            ..Numbering::default()
        }
    }

    fn us() -> Numbering {
        Numbering {
            country: Some("1".into()),
            national: Some("1".into()),
            international: strings(&["011"]),
            subscriber: patterns(&["NXXNXXXXXX"]),
            emergency: strings(&["911"]),
            short: patterns(&["988"]),
            ..Numbering::default()
        }
    }

    #[test]
    fn dialled_texts_become_numbers() {
        // A national prefix is refused where it does not belong, and stays where it is part of the number.
        let spain = Numbering { country: Some("34".into()), national: Some(String::new()), ..Numbering::default() };
        let area = Numbering { area: "20".into(), ..uk() };
        let none = Numbering::default();
        let of = |country: &str, national: &str| Numbering {
            country: Some(country.into()),
            national: Some(national.into()),
            ..Numbering::default()
        };
        let (italy, russia, hungary) = (of("39", ""), of("7", "8"), of("36", "06"));
        let table: &[(&Numbering, &str, Option<&str>)] = &[
            (&uk(), "020 7946 0999", Some("+442079460999")),
            (&uk(), " 020-7946.0999 ", Some("+442079460999")),
            (&uk(), "0033 1 70 18 99 00", Some("+33170189900")),
            (&uk(), "+33 1 70 18 99 00", Some("+33170189900")),
            (&uk(), "+44 (0)20 7946 0999", Some("+442079460999")),
            // The national prefix within an international number would hide what follows from every rule.
            (&uk(), "+4409098790000", None),
            (&uk(), "+44 09098790000", None),
            (&uk(), "+44088216123456", None),
            (&uk(), "004409098790000", None),
            (&uk(), "+44 (0)(0)9098790000", None),
            (&uk(), "+44 (0)09098790000", None),
            (&uk(), "+49 030 901820", None),
            (&uk(), "+353 01 6711000", None),
            (&uk(), "+1 1 900 234 5678", None),
            (&uk(), "+1 0 900 234 5678", None),
            (&uk(), "+39 06 698 82111", Some("+390669882111")),
            (&uk(), "+378 0549 882222", Some("+3780549882222")),
            (&uk(), "+225 07 07 12 34 56", Some("+2250707123456")),
            (&uk(), "+242 06 612 3456", Some("+242066123456")),
            (&uk(), "+7 812 123 45 67", Some("+78121234567")),
            (&italy, "06 698 82111", Some("+390669882111")),
            (&italy, "+39 06 698 82111", Some("+390669882111")),
            (&russia, "8 812 123 45 67", Some("+78121234567")),
            (&russia, "+7 812 123 45 67", Some("+78121234567")),
            (&hungary, "06 1 234 5678", Some("+3612345678")),
            (&hungary, "+36 06 1 234 5678", None),
            (&us(), "1 1 900 234 5678", None),
            (&us(), "011 1 1 900 234 5678", None),
            (&us(), "+1 1 900 234 5678", None),
            (&us(), "+1 0 900 234 5678", None),
            (&us(), "+44 0909 879 0000", None),
            (&uk(), "(020)\u{a0}7946/0999", Some("+442079460999")),
            (&uk(), "09098790000", Some("+449098790000")),
            (&uk(), "112", Some("112")),
            (&uk(), "312", Some("312")),
            (&uk(), "3123", Some("3123")),
            (&uk(), "118118", Some("118118")),
            (&uk(), "*21#", Some("*21#")),
            (&uk(), "0", None),
            (&uk(), "00", None),
            (&uk(), "+", None),
            (&uk(), "", None),
            (&uk(), "+0123456", None),
            (&uk(), "+44*21", None),
            (&uk(), "+12345678901234567", None),
            (&uk(), "123456789012345678901234567890123", None),
            (&uk(), "hotline", Some("hotline")),
            (&uk(), "hot line", None),
            (&uk(), "415-CALL-NOW;rm", None),
            (&uk(), "sip:x@y<>", None),
            (&uk(), "١٢٣", None),
            (&us(), "(415) 555-2671", Some("+14155552671")),
            (&us(), "1 900 234 5678", Some("+19002345678")),
            (&us(), "011 44 20 7946 0999", Some("+442079460999")),
            (&us(), "911", Some("911")),
            (&us(), "988", Some("988")),
            (&us(), "5552671", Some("5552671")),
            (&spain, "912 345 678", Some("+34912345678")),
            (&area, "79460999", Some("+442079460999")),
            (&none, "02079460999", Some("02079460999")),
            (&none, "+442079460999", Some("+442079460999")),
            (&none, "600", Some("600")),
        ];
        for (numbering, dialled, expected) in table {
            let found = numbering.normalise(dialled).map(|number| number.text);
            assert_eq!(found.as_deref().ok(), *expected, "{dialled}: {found:?}");
            if let Some(number) = expected {
                let again = numbering.normalise(number).map(|number| number.text);
                assert_eq!(again.as_deref(), Ok(*number), "{dialled}: once more");
            }
        }
    }

    #[test]
    fn patterns_match_whole_numbers() {
        for (pattern, yes, no) in [
            ("3XX", ["300", "399"], ["30", "3000"]),
            ("+1NXXNXXXXXX", ["+14155552671", "+12002000000"], ["+11155552671", "14155552671"]),
            ("Z.", ["12", "9000"], ["1", "01"]),
            ("+44.", ["+441", "+442079460999"], ["+44", "+44*"]),
            ("*2X", ["*20", "*29"], ["*2", "#20"]),
        ] {
            let compiled: Pattern = pattern.parse().unwrap();
            assert!(yes.iter().all(|n| compiled.matches(n)), "{pattern}");
            assert!(!no.iter().any(|n| compiled.matches(n)), "{pattern}");
        }
        for bad in ["", "3xx", "3X X", ".X", "X+", "[12]", "é", "+.+"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
        assert!(!"3XX".parse::<Pattern>().unwrap().matches("é3"));
    }

    #[test]
    fn a_did_is_known_in_each_of_its_forms() {
        let forms = |did| uk().forms_of_did(did).into_iter().map(|n| n.text).collect::<Vec<_>>();
        assert_eq!(forms("+442079460100"), ["+442079460100"]);
        assert_eq!(forms("442079460100"), ["442079460100", "+442079460100"]);
        assert_eq!(forms("02079460100"), ["+442079460100", "02079460100"]);
        assert_eq!(forms("alice"), ["alice"]);
        assert_eq!(forms("a b"), ["a b"]);
    }
}
