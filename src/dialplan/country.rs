//! How numbers are dialled in a country: what `country = "GB"` in `[numbering]` stands for.
//!
//! Country codes are those of ITU-T E.164's list, prefixes those of ITU-T's list of dialling procedures; emergency numbers
//! those that the countries' regulators name.

/// One country's ways.
#[derive(Debug)]
pub(super) struct Country {
    /// ISO 3166-1 alpha-2.
    pub iso: &'static str,
    /// The country code.
    pub code: &'static str,
    /// What stands before a national number; `""`: nothing.
    pub national: &'static str,
    /// What stands before an international number.
    pub international: &'static str,
    /// The form of a subscriber's number that needs no prefix.
    pub subscriber: Option<&'static str>,
    /// The emergency numbers.
    pub emergency: &'static [&'static str],
}

const fn country(
    iso: &'static str,
    code: &'static str,
    national: &'static str,
    international: &'static str,
    emergency: &'static [&'static str],
) -> Country {
    Country { iso, code, national, international, subscriber: None, emergency }
}

const fn north_america(iso: &'static str) -> Country {
    Country { subscriber: Some("NXXNXXXXXX"), ..country(iso, "1", "1", "011", &["911"]) }
}

/// The countries known by name.
pub(super) const COUNTRIES: &[Country] = &[
    country("AT", "43", "0", "00", &["112", "122", "133", "144"]),
    country("AU", "61", "0", "0011", &["000", "112", "106"]),
    country("BE", "32", "0", "00", &["112", "100", "101"]),
    north_america("CA"),
    country("CH", "41", "0", "00", &["112", "117", "118", "144"]),
    country("CZ", "420", "", "00", &["112", "150", "155", "158"]),
    country("DE", "49", "0", "00", &["112", "110"]),
    country("DK", "45", "", "00", &["112"]),
    country("ES", "34", "", "00", &["112"]),
    country("FI", "358", "0", "00", &["112"]),
    country("FR", "33", "0", "00", &["112", "15", "17", "18", "114"]),
    country("GB", "44", "0", "00", &["999", "112"]),
    country("IE", "353", "0", "00", &["112", "999"]),
    country("IN", "91", "0", "00", &["112", "100", "101", "102", "108"]),
    country("IT", "39", "", "00", &["112", "113", "115", "118"]),
    country("JP", "81", "0", "010", &["110", "118", "119"]),
    country("LU", "352", "", "00", &["112", "113"]),
    country("NL", "31", "0", "00", &["112"]),
    country("NO", "47", "", "00", &["112", "110", "113"]),
    country("NZ", "64", "0", "00", &["111"]),
    country("PL", "48", "", "00", &["112", "997", "998", "999"]),
    country("PT", "351", "", "00", &["112"]),
    country("SE", "46", "0", "00", &["112"]),
    country("SK", "421", "0", "00", &["112", "150", "155", "158"]),
    north_america("US"),
    country("ZA", "27", "0", "00", &["112", "10111", "10177"]),
];

/// The country of an ISO 3166-1 alpha-2 code.
pub(super) fn of(iso: &str) -> Option<&'static Country> {
    COUNTRIES.iter().find(|country| country.iso == iso)
}

/// The country codes whose numbers begin with a 0 of their own: Italy and the Vatican, San Marino, Côte d'Ivoire, Gabon,
/// Congo.
const OWN_ZERO: &[&str] = &["39", "378", "379", "225", "241", "242"];

/// Whether an international number has a country's national prefix after the country code, where no number has it. Only
/// a prefix that begins with 0 tells: the 8 of Russia is the first digit of area codes too. In North America no area
/// code begins with 0 or 1.
pub(super) fn has_prefix_inside(digits: &str, code: &str, prefix: &str) -> bool {
    let Some(rest) = digits.strip_prefix(code) else { return false };
    match code {
        "1" => rest.starts_with(['0', '1']),
        _ => prefix.starts_with('0') && rest.starts_with(prefix) && !OWN_ZERO.contains(&code),
    }
}

/// The country code and the national prefix that a number has inside, of the countries known by name.
pub(super) fn prefix_inside(digits: &str) -> Option<(&'static str, &'static str)> {
    let found = COUNTRIES.iter().find(|country| has_prefix_inside(digits, country.code, country.national));
    found.map(|country| match (country.code, digits.as_bytes().get(1)) {
        ("1", Some(b'0')) => ("1", "0"),
        _ => (country.code, country.national),
    })
}
