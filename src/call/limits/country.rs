//! Which country a number is in, as far as a bill tells countries apart: the country codes of ITU-T E.164, and the islands
//! that share +1 with North America and not its prices.

/// The country codes of two digits; 1 and 7 have one, all others three.
const TWO_DIGITS: &[&str] = &[
    "20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46", "47", "48", "49", "51",
    "52", "53", "54", "55", "56", "57", "58", "60", "61", "62", "63", "64", "65", "66", "81", "82", "84", "86", "90",
    "91", "92", "93", "94", "95", "98",
];

/// The area codes of +1 that are neither the United States' states nor Canada's provinces, and those for calls at a price.
const APART: &[&str] = &[
    "242", "246", "264", "268", "284", "340", "345", "441", "473", "649", "658", "664", "670", "671", "684", "721",
    "758", "767", "784", "787", "809", "829", "849", "868", "869", "876", "900", "939",
];

/// The country of an international number (`+4420...`): its code, with the area code of an island in +1. `None`: a short or
/// national number, a name.
pub(super) fn of(number: &str) -> Option<&str> {
    let digits = number.strip_prefix('+')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let area = digits.get(1..4).filter(|area| digits.starts_with('1') && APART.contains(area));
    let length = match (digits.as_bytes().first(), digits.get(..2)) {
        _ if area.is_some() => 4,
        (Some(b'1' | b'7'), _) => 1,
        (_, Some(two)) if TWO_DIGITS.contains(&two) => 2,
        _ => 3,
    };
    digits.get(..length.min(digits.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries_are_told_by_their_codes() {
        for (number, country) in [
            ("+442079460000", Some("44")),
            ("+12025550100", Some("1")),
            ("+18765550100", Some("1876")),
            ("+79261234567", Some("7")),
            ("+35312345678", Some("353")),
            ("+3531", Some("353")),
            ("+88213123456", Some("882")),
            ("+21", Some("21")),
            ("+1", Some("1")),
            ("+", None),
            ("112", None),
            ("02079460000", None),
            ("alice", None),
            ("+44a", None),
            ("+\u{661}44", None),
        ] {
            assert_eq!(of(number), country, "{number}");
        }
    }
}
