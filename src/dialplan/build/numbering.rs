//! `[numbering]`.

use super::{Draft, parsed};
use crate::dialplan::country;
use crate::dialplan::number::Numbering;
use crate::dialplan::reader::{Reader, Section};

const KEYS: [&str; 8] =
    ["country", "national", "international", "area", "subscriber", "extensions", "emergency", "short"];

impl Draft<'_> {
    /// The plan's own numbering, and those of `[numbering.NAME]`.
    pub(super) fn numbering_section(&mut self, reader: &mut Reader<'_>, section: Section<'_>) {
        let own = reader.tables(section);
        let names: Vec<&str> = own.iter().map(|(name, _)| name.value.as_str()).collect();
        let known: Vec<&str> = KEYS.into_iter().chain(names).collect();
        reader.check_keys(section, "[numbering]", &known, &[]);
        self.plan.numbering = numbering(reader, section);
        self.emergency_place = Some(self.place(reader, section.at));
        for (name, section) in own {
            if KEYS.contains(&name.value.as_str()) {
                continue; // told as a value of the wrong kind
            }
            reader.check_keys(section, &format!("[numbering.{}]", name.value), &KEYS, &[]);
            let numbering = numbering(reader, section);
            self.plan.numberings.insert(name.value, numbering);
        }
    }
}

/// A text of digits, of a length within limits.
fn digits(reader: &mut Reader<'_>, section: Section<'_>, key: &str, most: usize) -> Option<String> {
    let text = reader.string(section, key)?;
    if text.value.len() <= most && text.value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.value);
    }
    reader.error(text.at, format!("`{key}` is at most {most} digits"));
    None
}

/// The country: its code in digits, or its two letters, which bring all its ways.
fn country_of(reader: &mut Reader<'_>, section: Section<'_>) -> (Option<String>, Option<&'static country::Country>) {
    let Some(text) = reader.string(section, "country") else { return (None, None) };
    let found = country::of(&text.value);
    if let Some(found) = found {
        return (Some(found.code.to_owned()), Some(found));
    }
    if (1..=3).contains(&text.value.len()) && text.value.bytes().all(|b| b.is_ascii_digit()) {
        return (Some(text.value), None);
    }
    let known: Vec<&str> = country::COUNTRIES.iter().map(|country| country.iso).collect();
    reader.error(text.at, format!("`country` is at most 3 digits, or one of {}", known.join(" ")));
    (None, None)
}

pub(super) fn numbering(reader: &mut Reader<'_>, section: Section<'_>) -> Numbering {
    let (country, usual) = country_of(reader, section);
    let mut international = parsed(reader, section, "international", |text| {
        let digits = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let wrong = || "`international` has prefixes such as \"00\" and \"+\"".to_owned();
        if text == "+" || digits { Ok(text.to_owned()) } else { Err(wrong()) }
    });
    let mut emergency = if reader.is_empty_list(section, "emergency") {
        Vec::new()
    } else {
        parsed(reader, section, "emergency", |text| {
            let digits = (2..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            if digits { Ok(text.to_owned()) } else { Err("`emergency` has numbers such as \"112\"".to_owned()) }
        })
    };
    let mut subscriber = parsed(reader, section, "subscriber", str::parse);
    let mut national = digits(reader, section, "national", 5);
    if let Some(usual) = usual {
        let absent = |key: &str| !Reader::has(section, key);
        if absent("international") {
            international.push(usual.international.to_owned());
        }
        if absent("emergency") {
            emergency.extend(usual.emergency.iter().map(|&number| number.to_owned()));
        }
        if absent("subscriber") {
            subscriber.extend(usual.subscriber.and_then(|pattern| pattern.parse().ok()));
        }
        if absent("national") {
            national = Some(usual.national.to_owned());
        }
    }
    let needs_country = ["national", "area", "subscriber"].into_iter().find(|key| Reader::has(section, key));
    if let (None, Some(key)) = (&country, needs_country) {
        reader.error(section.at, format!("`{key}` needs `country`"));
    }
    Numbering {
        country,
        national,
        international,
        area: digits(reader, section, "area", 6).unwrap_or_default(),
        subscriber,
        extensions: parsed(reader, section, "extensions", str::parse),
        emergency,
        short: parsed(reader, section, "short", str::parse),
    }
}
