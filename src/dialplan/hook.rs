//! Web hooks: a rule asks a server of its own what shall happen. What is asked and what an answer means are decided here;
//! the asking is the shell's.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::decision::{Decision, TrunkChoice, Turn};
use super::number::{is_name, is_number};
use super::plan::RING_FOR;

/// The longest answer that is read, bytes.
pub const MOST_ANSWER: usize = 16 * 1024;

/// Who is asked, for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// `http://` or `https://`.
    pub url: String,
    /// An answer that takes longer is none. In JSON: milliseconds.
    #[serde(serialize_with = "milliseconds")]
    pub within: Duration,
}

fn milliseconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    time.as_millis().serialize(serializer)
}

/// What a hook is told of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    /// The rule that asks.
    pub rule: String,
    /// `out`: a user's call; `in`: a trunk's.
    pub direction: &'static str,
    /// The user who calls; of a trunk's call the trunk.
    pub caller: String,
    /// The number called, normalised.
    pub number: String,
    /// The caller id: of a user's call what would be shown, of a trunk's what it says.
    pub from: Option<String>,
}

/// What a hook may answer.
#[derive(Debug, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
enum Answer {
    /// As the rule says.
    GoOn {},
    /// Refuse.
    Refuse {
        #[serde(default = "forbidden")]
        code: u16,
        reason: Option<String>,
    },
    /// Call by trunks; what is left out is as the rule says.
    Dial { to: Option<String>, from: Option<String>, trunks: Option<Vec<Vec<String>>> },
    /// Ring users.
    Ring {
        users: Vec<String>,
        #[serde(rename = "for")]
        seconds: Option<u64>,
    },
}

fn forbidden() -> u16 {
    403
}

/// What an answer makes of the decision of the rule that asked.
///
/// # Errors
/// Why it is no answer, in words.
pub(super) fn answered(text: &str, rule: &str, plain: &Decision, trunks: &[String]) -> Result<Decision, String> {
    if text.len() > MOST_ANSWER {
        return Err(format!("it has more than {MOST_ANSWER} bytes"));
    }
    match serde_json::from_str(text).map_err(|error| error.to_string())? {
        Answer::GoOn {} => Ok(plain.clone()),
        Answer::Refuse { code, reason } => {
            let reason = reason.unwrap_or_else(|| "Refused".to_owned());
            if !(400..700).contains(&code) || reason.chars().count() > 120 || reason.chars().any(char::is_control) {
                return Err("a refusal has a code from 400 to 699 and a reason of at most 120 characters".to_owned());
            }
            Ok(Decision::Refuse { rule: Some(rule.to_owned()), code, reason, caller_id: false })
        }
        Answer::Dial { to, from, trunks: wanted } => dial(plain, to, from, wanted, trunks),
        Answer::Ring { users, seconds } => ring(plain, rule, users, seconds),
    }
}

fn dial(
    plain: &Decision,
    to: Option<String>,
    from: Option<String>,
    wanted: Option<Vec<Vec<String>>>,
    known: &[String],
) -> Result<Decision, String> {
    let Decision::Dial { .. } = plain else { return Err("the rule calls no trunk".to_owned()) };
    let valid = |text: &String| is_number(text) || is_name(text);
    if let Some(wrong) = to.iter().chain(&from).find(|text| !valid(text)) {
        return Err(format!("{wrong:?} is neither a number nor a name"));
    }
    let wanted = wanted.unwrap_or_default();
    if let Some(wrong) = wanted.iter().flatten().find(|trunk| !known.contains(trunk)) {
        return Err(format!("there is no trunk {wrong:?}"));
    }
    let own: Vec<Vec<TrunkChoice>> = wanted
        .into_iter()
        .filter(|tier| !tier.is_empty())
        .map(|tier| tier.into_iter().map(|trunk| TrunkChoice { trunk, weight: 1 }).collect())
        .collect();
    let mut decision = plain.clone();
    if let Decision::Dial { to: called, from: shown, tiers, .. } = &mut decision {
        *called = to.unwrap_or_else(|| called.clone());
        *shown = from.or_else(|| shown.clone());
        if !own.is_empty() {
            *tiers = own;
        }
    }
    Ok(decision)
}

fn ring(plain: &Decision, rule: &str, users: Vec<String>, seconds: Option<u64>) -> Result<Decision, String> {
    let ring_for = seconds.map_or(RING_FOR, Duration::from_secs);
    if users.is_empty() || users.len() > 64 || !users.iter().all(|user| is_name(user) || is_number(user)) {
        return Err("`users` are 1 to 64 names".to_owned());
    }
    if ring_for.is_zero() || ring_for > Duration::from_secs(3600) {
        return Err("`for` is 1 to 3600 seconds".to_owned());
    }
    let (to, from, longest) = match plain {
        Decision::Dial { to, from, longest, .. } | Decision::Ring { to, from, longest, .. } => {
            (to.clone(), from.clone(), *longest)
        }
        Decision::Refuse { .. } | Decision::Ask { .. } => return Err("the rule calls nobody".to_owned()),
    };
    Ok(Decision::Ring { rule: rule.to_owned(), to, from, turns: vec![Turn { users, ring_for }], longest, then: None })
}
