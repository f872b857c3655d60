//! Who rings: `user`, `ring` and `then`.

use super::{Draft, Named, checked_template, or_error, reject, template};
use crate::dialplan::number::{is_name, is_number};
use crate::dialplan::plan::RING_FOR;
use crate::dialplan::reader::{Reader, Section};
use crate::dialplan::rules::{Matcher, Ring, RingAction, Then, Who};

/// How many further turns a rule may have.
const MOST_THEN: usize = 8;

/// `user = "..."` or `ring = {...}`, and `then`.
pub(super) fn ring_action(
    draft: &mut Draft<'_>,
    reader: &mut Reader<'_>,
    section: Section<'_>,
    matchers: &[Matcher],
) -> Option<RingAction> {
    let first = match template(reader, section, "user", matchers) {
        Some(user) => Ring { who: Who::Users(vec![user]), in_turn: false, ring_for: RING_FOR },
        None => {
            let keys = reader.section(section, "ring")?;
            reader.check_keys(keys, "`ring`", &["users", "group", "how", "for"], &[]);
            ring(draft, reader, keys, matchers, "`ring`")?
        }
    };
    let mut then = Vec::new();
    let stages = reader.section_or_list(section, "then");
    for (at, keys) in stages.iter().enumerate() {
        let stage = then_stage(draft, reader, *keys, matchers);
        let ends = matches!(stage, Some(Then::Number { .. } | Then::Reject(_)));
        if ends && at + 1 < stages.len() {
            reader.error(keys.at, "what comes after this `then` is never reached");
        }
        then.extend(stage);
    }
    if then.len() > MOST_THEN {
        reader.error(section.at, format!("`then` has at most {MOST_THEN} parts"));
    }
    Some(RingAction { first, then })
}

/// `users` or `group`, `how` and `for`.
fn ring(
    draft: &mut Draft<'_>,
    reader: &mut Reader<'_>,
    keys: Section<'_>,
    matchers: &[Matcher],
    what: &str,
) -> Option<Ring> {
    let in_turn = match reader.string(keys, "how") {
        None => false,
        Some(how) => match how.value.as_str() {
            "all" => false,
            "in-turn" => true,
            _ => {
                reader.error(how.at, "`how` is \"all\" (at once) or \"in-turn\" (one after the other)");
                return None;
            }
        },
    };
    let ring_for = reader.duration(keys, "for").unwrap_or(RING_FOR);
    let who = match (Reader::has(keys, "users"), reader.string(keys, "group")) {
        (true, None) => {
            let texts = reader.strings(keys, "users");
            Who::Users(texts.iter().filter_map(|text| checked_template(reader, text, matchers)).collect())
        }
        (false, Some(group)) => {
            draft.name(reader, Named::Group, &group);
            Who::Group(group.value)
        }
        _ => {
            reader.error(keys.at, format!("{what} needs `users` or a `group`"));
            return None;
        }
    };
    Some(Ring { who, in_turn, ring_for })
}

/// One part of `then`: more users, a number, or a refusal.
fn then_stage(draft: &mut Draft<'_>, reader: &mut Reader<'_>, keys: Section<'_>, matchers: &[Matcher]) -> Option<Then> {
    reader.check_keys(keys, "`then`", &["users", "group", "how", "for", "number", "class", "reject"], &["sip"]);
    let kinds = ["users", "group", "number", "reject"];
    if kinds.iter().filter(|kind| Reader::has(keys, kind)).count() != 1 {
        reader.error(keys.at, "`then` has exactly one of `users`, `group`, `number` and `reject`");
        return None;
    }
    if let Some(reject) = reject(reader, keys) {
        return Some(Then::Reject(reject));
    }
    let Some(number) = reader.string(keys, "number") else {
        return ring(draft, reader, keys, matchers, "`then`").map(Then::Ring);
    };
    let valid = is_number(&number.value) || is_name(&number.value);
    or_error(reader, &number, valid.then_some(()).ok_or_else(|| format!("{:?} is no number", number.value)))?;
    let class = reader.string(keys, "class");
    if let Some(class) = &class {
        draft.name(reader, Named::Class, class);
    }
    let class = class.map(|class| class.value);
    let place = draft.place(reader, number.at);
    draft.overflows.push((number.value.clone(), class.clone(), place));
    Some(Then::Number { number: number.value, class })
}
