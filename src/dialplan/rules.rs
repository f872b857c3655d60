//! The rules of a plan: what they match and what they do.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;

use super::decision::{Caller, TrunkChoice};
use super::number::{Numbering, Pattern};

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
    fn covers(&self, other: &Matcher) -> bool {
        match (self, other) {
            (Matcher::Any, _) => true,
            (own, Matcher::Number(number)) => own.matches(number),
            (Matcher::Prefix(own), Matcher::Prefix(prefix)) => prefix.starts_with(own),
            (Matcher::Prefix(own), Matcher::Pattern(pattern, _)) => pattern.stem().starts_with(own),
            (Matcher::Pattern(own, _), Matcher::Pattern(pattern, _)) => own == pattern,
            (Matcher::Regex(_, own), Matcher::Regex(_, other)) => own == other,
            _ => false,
        }
    }

    /// The matcher as the plan wrote it.
    pub fn describe(&self) -> String {
        match self {
            Matcher::Any => "any".to_owned(),
            Matcher::Number(number) => format!("number {number}"),
            Matcher::Prefix(prefix) => format!("prefix {prefix}"),
            Matcher::Pattern(_, text) => format!("pattern {text}"),
            Matcher::Regex(_, text) => format!("regex {text}"),
        }
    }
}

/// Whether earlier matchers leave nothing to the later ones.
pub(super) fn all_covered(earlier: &[&Matcher], later: &[Matcher]) -> bool {
    !later.is_empty() && later.iter().all(|matcher| earlier.iter().any(|own| own.covers(matcher)))
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

/// A rule for calls of browsers.
#[derive(Debug, Clone)]
pub(super) struct OutRule {
    pub name: String,
    pub matchers: Vec<Matcher>,
    pub action: OutAction,
}

/// What such a rule does.
#[derive(Debug, Clone)]
pub(super) enum OutAction {
    Dial(DialAction),
    Reject(Reject),
}

/// A call by trunks, or of a user of ours.
#[derive(Debug, Clone)]
pub(super) struct DialAction {
    pub to: Option<Template>,
    pub target: Target,
    pub ring_for: Option<Duration>,
    pub longest: Option<Duration>,
    /// `limits = "none"`: the plan's limits do not hold.
    pub unlimited: bool,
    pub caller_id: CallerIdKeys,
}

/// Whom such a call reaches.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Trunks, tier after tier.
    Tiers(Vec<Vec<TrunkChoice>>),
    /// The browsers and phones of a user, all at once.
    User(Template),
}

/// A rule for calls of trunks.
#[derive(Debug, Clone)]
pub(super) struct InRule {
    pub name: String,
    pub matchers: Vec<Matcher>,
    pub action: InAction,
}

/// What such a rule does.
#[derive(Debug, Clone)]
pub(super) enum InAction {
    Ring { users: Vec<Template>, ring_for: Duration },
    Reject(Reject),
}

/// `[caller_id]`, or a rule's own `caller_id`, whose keys go before the plan's.
#[derive(Debug, Clone, Default)]
pub(super) struct CallerIdKeys {
    pub present: Option<Present>,
    pub fallback: Option<String>,
    pub allowed: Option<Vec<Matcher>>,
}

/// What is shown as the caller.
#[derive(Debug, Clone)]
pub(super) enum Present {
    User,
    Anonymous,
    Number(String),
}

impl CallerIdKeys {
    /// The keys, with those of `general` where a key is missing.
    pub fn or(&self, general: &CallerIdKeys) -> CallerIdKeys {
        CallerIdKeys {
            present: self.present.clone().or_else(|| general.present.clone()),
            fallback: self.fallback.clone().or_else(|| general.fallback.clone()),
            allowed: self.allowed.clone().or_else(|| general.allowed.clone()),
        }
    }

    /// What is shown for a caller, and why; or why the call is refused.
    pub fn choose(&self, caller: &Caller, numbering: &Numbering) -> Result<(Option<String>, String), String> {
        match self.present.as_ref().unwrap_or(&Present::User) {
            Present::Anonymous => Ok((Some(ANONYMOUS.to_owned()), "the plan shows no number".to_owned())),
            Present::Number(number) => Ok((Some(number.clone()), format!("the plan shows {number}"))),
            Present::User => self.choose_own(caller, numbering),
        }
    }

    fn choose_own(&self, caller: &Caller, numbering: &Numbering) -> Result<(Option<String>, String), String> {
        let Some(wanted) = caller.asked.as_deref().or(caller.caller_id.as_deref()) else {
            return Ok(match &self.fallback {
                Some(number) => (Some(number.clone()), format!("{} has no number: {number} is shown", caller.user)),
                None => (None, format!("{} has no number: his name is shown", caller.user)),
            });
        };
        if wanted == ANONYMOUS {
            return Ok((Some(ANONYMOUS.to_owned()), format!("{} wants no number shown", caller.user)));
        }
        let number =
            numbering.normalise(wanted).map_err(|_| format!("{wanted:?} is no number that could be shown"))?.text;
        let own = caller.caller_id.as_deref().and_then(|own| numbering.normalise(own).ok());
        let is_own = own.is_some_and(|own| own.text == number);
        match &self.allowed {
            None if !is_own => Err(format!("{number} is not the number of {}", caller.user)),
            Some(allowed) if !allowed.iter().any(|matcher| matcher.matches(&number)) => {
                Err(format!("{number} may not be shown as the caller"))
            }
            _ if is_own => Ok((Some(number.clone()), format!("{number}, the number of {}, is shown", caller.user))),
            _ => Ok((Some(number.clone()), format!("{number}, which {} asks for, is shown", caller.user))),
        }
    }
}
