//! The rules of a plan: what they match and what they do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

use super::caller_id::CallerIdKeys;
use super::decision::{Failover, TrunkChoice};
use super::hook::Hook;
use super::number::Pattern;
use super::table::{PrefixTable, Price};

/// What is shown for a caller who wants no number shown.
pub(super) const ANONYMOUS: &str = "anonymous";

/// One way in which a rule matches a number.
#[derive(Debug, Clone)]
pub(super) enum Matcher {
    /// `did = "any"`.
    Any,
    /// The number itself, or a name.
    Number(String),
    /// What the number begins with.
    Prefix(String),
    /// A pattern for the whole number; its text.
    Pattern(Pattern, String),
    /// An expression for the whole number; its text.
    Regex(Regex, String),
    /// What begins with a prefix of a table.
    Table(Arc<PrefixTable>),
}

impl Matcher {
    /// Whether the number matches.
    pub fn matches(&self, number: &str) -> bool {
        match self {
            Matcher::Any => true,
            Matcher::Number(own) => own == number,
            Matcher::Prefix(prefix) => number.starts_with(prefix),
            Matcher::Pattern(pattern, _) => pattern.matches(number),
            Matcher::Regex(regex, _) => regex.is_match(number),
            Matcher::Table(table) => table.longest(number).is_some(),
        }
    }

    /// What the groups of an expression found, by number and by name.
    fn groups(&self, number: &str) -> BTreeMap<String, String> {
        let mut groups = BTreeMap::new();
        if let Matcher::Regex(regex, _) = self
            && let Some(captures) = regex.captures(number)
        {
            for (index, name) in regex.capture_names().enumerate() {
                let found = captures.get(index).map_or("", |found| found.as_str()).to_owned();
                if let Some(name) = name {
                    groups.insert(name.to_owned(), found.clone());
                }
                groups.insert(index.to_string(), found);
            }
        }
        groups
    }

    /// Whether this certainly matches all that `other` matches.
    pub fn covers(&self, other: &Matcher) -> bool {
        match (self, other) {
            (Matcher::Any, _) => true,
            (own, Matcher::Number(number)) => own.matches(number),
            (Matcher::Prefix(own), Matcher::Prefix(prefix)) => prefix.starts_with(own),
            (Matcher::Prefix(own), Matcher::Pattern(pattern, _)) => pattern.stem().starts_with(own),
            (Matcher::Pattern(own, _), Matcher::Pattern(pattern, _)) => own == pattern,
            (Matcher::Regex(_, own), Matcher::Regex(_, other)) => own == other,
            (Matcher::Prefix(own), Matcher::Table(table)) => table.all_begin_with(own),
            (Matcher::Table(table), Matcher::Prefix(prefix)) => table.longest(prefix).is_some(),
            (Matcher::Table(table), Matcher::Pattern(pattern, _)) => table.longest(pattern.stem()).is_some(),
            (Matcher::Table(own), Matcher::Table(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }

    /// How the matcher takes a number: as the plan wrote it, of a table the prefix.
    pub fn describe(&self, number: &str) -> String {
        match self {
            Matcher::Any => "any".to_owned(),
            Matcher::Number(number) => format!("number {number}"),
            Matcher::Prefix(prefix) => format!("prefix {prefix}"),
            Matcher::Pattern(_, text) => format!("pattern {text}"),
            Matcher::Regex(_, text) => format!("regex {text}"),
            Matcher::Table(table) => match table.longest(number) {
                Some((prefix, Some(name))) => format!("prefix {prefix} {name} of {}", table.name),
                Some((prefix, None)) => format!("prefix {prefix} of {}", table.name),
                None => format!("the prefixes of {}", table.name),
            },
        }
    }
}

/// A text with places for the number: `{number}`, `{digits}` (the number without `+`), and the groups of a regex.
#[derive(Debug, Clone)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Place(String),
}

impl std::str::FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+:@*#~-".contains(&b);
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (place, after) = after.split_once('}').ok_or_else(|| format!("{text:?}: a {{ without its }}"))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Place(place.to_owned()));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let fits = parts.iter().all(|part| match part {
            Part::Text(text) => text.bytes().all(plain),
            Part::Place(_) => true,
        });
        if text.is_empty() || text.len() > 128 || !fits {
            return Err(format!(
                "{text:?} may have letters, digits and . _ + : @ * # ~ - and places such as {{number}}"
            ));
        }
        Ok(Template { parts })
    }
}

impl Template {
    /// A place that neither the number nor any of the matchers' groups fill.
    pub fn unknown_place(&self, matchers: &[Matcher]) -> Option<&str> {
        let has = |matcher: &Matcher, name: &str| match matcher {
            Matcher::Regex(regex, _) => {
                regex.capture_names().enumerate().any(|(index, group)| group == Some(name) || index.to_string() == name)
            }
            _ => false,
        };
        self.parts.iter().find_map(|part| match part {
            Part::Place(name) if matches!(name.as_str(), "number" | "digits") => None,
            Part::Place(name) if matchers.iter().all(|matcher| has(matcher, name)) => None,
            Part::Place(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The text for a number that `matcher` matched.
    pub fn fill(&self, number: &str, matcher: &Matcher) -> String {
        let groups = matcher.groups(number);
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Place(name) => match name.as_str() {
                    "number" => number,
                    "digits" => number.strip_prefix('+').unwrap_or(number),
                    name => groups.get(name).map_or("", String::as_str),
                },
            })
            .collect()
    }
}

/// A refusal in a plan.
#[derive(Debug, Clone)]
pub(super) struct Reject {
    pub code: u16,
    pub reason: String,
}

/// When a rule holds: while any of these is so; without any, always.
#[derive(Debug, Clone, Default)]
pub(super) struct When {
    /// Schedules, and whether they must be closed (`"not office"`).
    pub any: Vec<(String, bool)>,
}

impl When {
    /// Whether one of these holds whenever this one does. Schedules are taken for independent of one another.
    pub fn is_within<'a>(&self, others: impl Iterator<Item = &'a When>) -> bool {
        let mut taken: Vec<(&str, bool)> = Vec::new();
        for other in others {
            if other.any.is_empty() {
                return true;
            }
            taken.extend(other.any.iter().map(|(name, closed)| (name.as_str(), *closed)));
        }
        let always = taken.iter().any(|(name, closed)| taken.contains(&(name, !closed)));
        let each = || self.any.iter().all(|(name, closed)| taken.contains(&(name, *closed)));
        always || (!self.any.is_empty() && each())
    }
}

/// A rule for calls of browsers.
#[derive(Debug, Clone)]
pub(super) struct OutRule {
    pub name: String,
    pub matchers: Vec<Matcher>,
    pub when: When,
    pub action: OutAction,
}

impl OutRule {
    /// Whether the rule names the number itself.
    pub fn names(&self, number: &str) -> bool {
        self.matchers.iter().any(|matcher| matches!(matcher, Matcher::Number(own) if own == number))
    }
}

/// What such a rule does.
#[derive(Debug, Clone)]
pub(super) enum OutAction {
    Dial(DialAction),
    Reject(Reject),
}

/// A call by trunks, or of users of ours.
#[derive(Debug, Clone)]
pub(super) struct DialAction {
    pub to: Option<Template>,
    pub target: Target,
    pub ring_for: Option<Duration>,
    pub longest: Option<Duration>,
    /// `limits = "none"`: the plan's limits do not hold.
    pub unlimited: bool,
    pub caller_id: CallerIdKeys,
    pub failover: Failover,
    pub ask: Option<Ask>,
}

/// A rule asks a web hook.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub hook: Hook,
    /// What holds when there is no answer: as the rule says, or a refusal.
    pub otherwise: Otherwise,
}

/// What holds when a web hook does not answer.
#[derive(Debug, Clone)]
pub(super) enum Otherwise {
    GoOn,
    Refuse(Reject),
}

/// Whom such a call reaches.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Trunks, tier after tier.
    Tiers(Vec<Vec<TrunkChoice>>),
    /// The trunks of a table, the cheapest first.
    LeastCost { table: Arc<PrefixTable>, at_most: Option<Price> },
    /// Users.
    Ring(RingAction),
}

/// Users that ring, and what comes after them.
#[derive(Debug, Clone)]
pub(super) struct RingAction {
    pub first: Ring,
    pub then: Vec<Then>,
}

/// Users that ring.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    pub who: Who,
    /// One after the other, instead of all at once.
    pub in_turn: bool,
    /// How long they ring: all together, or each.
    pub ring_for: Duration,
}

/// Which users ring.
#[derive(Debug, Clone)]
pub(super) enum Who {
    Users(Vec<Template>),
    Group(String),
}

/// What comes after users who have not taken a call.
#[derive(Debug, Clone)]
pub(super) enum Then {
    Ring(Ring),
    /// A number, by the rules of `[[out]]` that the class may use.
    Number {
        number: String,
        class: Option<String>,
    },
    Reject(Reject),
}

/// A rule for calls of trunks.
#[derive(Debug, Clone)]
pub(super) struct InRule {
    pub name: String,
    pub matchers: Vec<Matcher>,
    pub when: When,
    /// Of which trunks; empty: of all.
    pub trunks: Vec<String>,
    /// From which numbers; empty: from all.
    pub from: Vec<Matcher>,
    pub action: InAction,
    pub ask: Option<Ask>,
}

/// What such a rule does.
#[derive(Debug, Clone)]
pub(super) enum InAction {
    Ring(RingAction),
    Reject(Reject),
}

/// `[class.NAME]`.
#[derive(Debug, Clone, Default)]
pub(super) struct Class {
    /// The rules that it may use; `*`: all.
    pub allow: Vec<String>,
    /// The rules that it may not.
    pub deny: Vec<String>,
    /// The name of its numbering.
    pub numbering: Option<String>,
    pub longest: Option<Duration>,
    pub caller_id: CallerIdKeys,
    /// Whether its users may connect somebody with somebody else.
    pub transfer: bool,
}
