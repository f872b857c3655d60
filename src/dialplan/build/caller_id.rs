//! `[caller_id]` and its pools.

use super::{Draft, Named, did_matcher, parsed};
use crate::dialplan::caller_id::{CallerIdKeys, Pool, Present};
use crate::dialplan::number::is_number;
use crate::dialplan::reader::{Reader, Section, Text};
use crate::dialplan::rules::ANONYMOUS;

/// The keys of a class's or a rule's own `caller_id`.
pub(super) const CALLER_ID_KEYS: [&str; 3] = ["present", "fallback", "allowed"];

pub(super) fn caller_id(draft: &mut Draft<'_>, reader: &mut Reader<'_>, section: Section<'_>) -> CallerIdKeys {
    let present = reader.string(section, "present").and_then(|text| match text.value.as_str() {
        "user" => Some(Present::User),
        ANONYMOUS => Some(Present::Anonymous),
        number if is_number(number) => Some(Present::Number(number.to_owned())),
        pool => match pool.strip_prefix("pool:") {
            Some(name) => {
                draft.name(reader, Named::Pool, &Text { value: name.to_owned(), at: text.at });
                Some(Present::Pool(name.to_owned()))
            }
            None => {
                let takes = "`present` is \"user\", \"anonymous\", \"pool:NAME\" or a number such as \"+442079460100\"";
                reader.error(text.at, takes);
                None
            }
        },
    });
    let fallback = reader.string(section, "fallback").and_then(|text| {
        if is_number(&text.value) || text.value == ANONYMOUS {
            return Some(text.value);
        }
        reader.error(text.at, "`fallback` is a number such as \"+442079460100\", or \"anonymous\"");
        None
    });
    let allowed = Reader::has(section, "allowed").then(|| parsed(reader, section, "allowed", did_matcher));
    CallerIdKeys { present, fallback, allowed }
}

/// `[caller_id.pool.NAME]`.
pub(super) fn pool(reader: &mut Reader<'_>, name: &Text, section: Section<'_>) -> Pool {
    reader.check_keys(section, &format!("[caller_id.pool.{}]", name.value), &["numbers", "match", "same_for"], &[]);
    let numbers = parsed(reader, section, "numbers", |text| match is_number(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no number such as +14155550101")),
    });
    if !Reader::has(section, "numbers") {
        reader.error(section.at, format!("the pool `{}` needs `numbers`", name.value));
    }
    let word = |reader: &mut Reader<'_>, key: &str, known: &[&str]| {
        let text = reader.string(section, key)?;
        if known.contains(&text.value.as_str()) {
            return Some(text.value);
        }
        reader.error(text.at, format!("`{key}` is one of {}", known.join(", ")));
        None
    };
    let same_area = word(reader, "match", &["any", "area"]).is_some_and(|word| word == "area");
    let by_user = word(reader, "same_for", &["destination", "user"]).is_some_and(|word| word == "user");
    Pool { numbers, same_area, by_user }
}
