//! The `[[test]]` rows of a plan: what is asked, what is expected, and how it failed.

use super::decision::{Caller, Decision, Routed, tier_text, weighted_text};
use super::plan::{Plan, PlanError};
use super::rules::ANONYMOUS;

/// One row and where it stands.
#[derive(Debug, Clone)]
pub(super) struct TestRow {
    pub file: String,
    pub line: usize,
    pub ask: Ask,
    /// When the call is made.
    pub at: Option<String>,
    /// What the rule's web hook says; `None`: nothing in time.
    pub answer: Option<String>,
    pub expect: Expect,
}

/// The call of a row.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Out { caller: Caller, dial: String },
    In { trunk: String, did: String, from: String },
}

/// What a row expects; an absent key may be anything.
#[derive(Debug, Clone, Default)]
pub(super) struct Expect {
    pub rule: Option<String>,
    pub to: Option<String>,
    pub from: Option<String>,
    pub trunks: Option<Vec<String>>,
    pub failover: Option<Vec<String>>,
    pub target_users: Option<Vec<String>>,
    /// Who rings in turn; those of one turn are joined by a bar.
    pub turns: Option<Vec<String>>,
    /// A length of time, or `none`.
    pub longest_call: Option<String>,
    pub emergency: Option<bool>,
    /// The web hook that is asked.
    pub ask: Option<String>,
    pub refused: Option<u16>,
    pub reason: Option<String>,
    /// What happens when nobody takes the call.
    pub then: Option<Box<Expect>>,
}

/// Runs a row; the error says what was expected, what came, and the steps that led there.
pub(super) fn run(plan: &Plan, row: &TestRow) -> Option<PlanError> {
    let error = |text: String| Some(PlanError { file: row.file.clone(), line: row.line, text });
    let at = match row.at.as_deref().map(|at| plan.moment(at)).transpose() {
        Ok(at) => at,
        Err(why) => return error(why),
    };
    let Routed { decision, steps, timed } = match &row.ask {
        Ask::Out { caller, dial } => plan.route_out(caller, dial, at.unwrap_or(0)),
        Ask::In { trunk, did, from } => plan.route_in(trunk, did, from, at.unwrap_or(0)),
    };
    if timed && at.is_none() {
        return error("this test asks a schedule: say `at = \"2026-11-20 10:00\"`".to_owned());
    }
    let mut wrong = Vec::new();
    if let Some(expected) = &row.expect.ask {
        let url = match &decision {
            Decision::Ask { hook, .. } => Some(&hook.url),
            _ => None,
        };
        if url != Some(expected) {
            wrong.push(format!("expected ask = {expected}"));
        }
    }
    let (decision, misunderstood) = plan.answered(decision, row.answer.as_deref());
    if let Some(why) = misunderstood {
        wrong.push(format!("the answer is none: {why}"));
    }
    differences("", &row.expect, &decision, &mut wrong);
    if wrong.is_empty() {
        return None;
    }
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    error(format!("test failed: {}; came: {decision} [{}]", wrong.join(", "), steps.join("; ")))
}

/// What a decision has, in the words of `expect`.
#[derive(Default)]
struct Found {
    to: Option<String>,
    from: Option<String>,
    trunks: Option<Vec<String>>,
    weighted: Option<Vec<String>>,
    failover: Option<Vec<String>>,
    users: Option<Vec<String>>,
    turns: Option<Vec<String>>,
    longest: Option<String>,
    emergency: bool,
    refused: Option<u16>,
    reason: Option<String>,
}

fn found(decision: &Decision) -> Found {
    let length = |longest: &Option<std::time::Duration>| {
        Some(longest.map_or_else(|| "none".to_owned(), |longest| format!("{}s", longest.as_secs())))
    };
    match decision {
        Decision::Dial { to, from, tiers, longest, failover, emergency, .. } => Found {
            to: Some(to.clone()),
            from: from.clone(),
            trunks: Some(tiers.iter().map(|tier| tier_text(tier)).collect()),
            weighted: Some(tiers.iter().map(|tier| weighted_text(tier)).collect()),
            failover: Some(failover.on.iter().map(ToString::to_string).collect()),
            longest: length(longest),
            emergency: *emergency,
            ..Found::default()
        },
        Decision::Ring { to, from, turns, longest, .. } => Found {
            to: Some(to.clone()),
            from: from.clone(),
            users: Some(turns.iter().flat_map(|turn| turn.users.clone()).collect()),
            turns: Some(turns.iter().map(|turn| turn.users.join("|")).collect()),
            longest: length(longest),
            ..Found::default()
        },
        Decision::Refuse { code, reason, .. } => {
            Found { refused: Some(*code), reason: Some(reason.clone()), ..Found::default() }
        }
        Decision::Ask { .. } => Found::default(),
    }
}

fn differences(path: &str, expect: &Expect, decision: &Decision, wrong: &mut Vec<String>) {
    let found = found(decision);
    let mut compare = |key: &str, expected: Option<String>, found: Option<String>| {
        if let Some(expected) = expected.filter(|expected| Some(expected) != found.as_ref()) {
            wrong.push(format!("expected {path}{key} = {expected}"));
        }
    };
    let list = |items: &Vec<String>| format!("{items:?}");
    let trunks = found.trunks.map(|trunks| as_written(trunks, found.weighted, expect.trunks.as_deref()));
    compare("rule", expect.rule.clone(), decision.rule().map(str::to_owned));
    compare("to", expect.to.clone(), found.to);
    compare("from", expect.from.clone(), found.from);
    compare("trunks", expect.trunks.as_ref().map(list), trunks.as_ref().map(list));
    compare("failover", expect.failover.as_ref().map(list), found.failover.as_ref().map(list));
    compare("target_users", expect.target_users.as_ref().map(list), found.users.as_ref().map(list));
    compare("turns", expect.turns.as_ref().map(list), found.turns.as_ref().map(list));
    compare("longest_call", expect.longest_call.clone(), found.longest);
    compare("emergency", expect.emergency.map(|on| on.to_string()), Some(found.emergency.to_string()));
    compare("refused", expect.refused.map(|code| code.to_string()), found.refused.map(|code| code.to_string()));
    compare("reason", expect.reason.clone(), found.reason);
    let Some(then) = &expect.then else { return };
    match decision {
        Decision::Ring { then: Some(next), .. } => differences(&format!("{path}then."), then, next, wrong),
        _ => wrong.push(format!("expected {path}then")),
    }
}

/// The tiers as a row writes them: with weights where the row has any.
fn as_written(plain: Vec<String>, weighted: Option<Vec<String>>, expected: Option<&[String]>) -> Vec<String> {
    let weighted = weighted.unwrap_or_default();
    let has_weights = |at: usize| expected.and_then(|tiers| tiers.get(at)).is_some_and(|tier| tier.contains(':'));
    let tier = |(at, plain): (usize, String)| match weighted.get(at) {
        Some(weighted) if has_weights(at) => weighted.clone(),
        _ => plain,
    };
    plain.into_iter().enumerate().map(tier).collect()
}

impl Ask {
    /// The caller of a row that says nothing about him.
    pub fn nobody() -> String {
        ANONYMOUS.to_owned()
    }
}
