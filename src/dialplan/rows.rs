//! The `[[test]]` rows of a plan: what is asked, what is expected, and how it failed.

use super::decision::{Caller, Decision, tier_text};
use super::plan::{Plan, PlanError};
use super::rules::ANONYMOUS;

/// One row and where it stands.
#[derive(Debug, Clone)]
pub(super) struct TestRow {
    pub file: String,
    pub line: usize,
    pub ask: Ask,
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
    pub target_users: Option<Vec<String>>,
    pub refused: Option<u16>,
    pub reason: Option<String>,
}

/// Runs a row; the error says what was expected, what came, and the steps that led there.
pub(super) fn run(plan: &Plan, row: &TestRow) -> Option<PlanError> {
    let routed = match &row.ask {
        Ask::Out { caller, dial } => plan.route_out(caller, dial, 0),
        Ask::In { trunk, did, from } => plan.route_in(trunk, did, from, 0),
    };
    let wrong = differences(&row.expect, &routed.decision);
    if wrong.is_empty() {
        return None;
    }
    let steps: Vec<String> = routed.steps.iter().map(ToString::to_string).collect();
    let text = format!("test failed: {}; came: {} [{}]", wrong.join(", "), routed.decision, steps.join("; "));
    Some(PlanError { file: row.file.clone(), line: row.line, text })
}

fn differences(expect: &Expect, decision: &Decision) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |key: &str, expected: Option<String>, found: Option<String>| {
        if let Some(expected) = expected.filter(|expected| Some(expected) != found.as_ref()) {
            wrong.push(format!("expected {key} = {expected}"));
        }
    };
    let list = |items: &[String]| format!("{items:?}");
    compare("rule", expect.rule.clone(), decision.rule().map(str::to_owned));
    let (mut to, mut from, mut trunks, mut users, mut refused, mut words) = (None, None, None, None, None, None);
    match decision {
        Decision::Dial { to: number, from: shown, tiers, .. } => {
            to = Some(number.clone());
            from.clone_from(shown);
            trunks = Some(list(&tiers.iter().map(|tier| tier_text(tier)).collect::<Vec<_>>()));
        }
        Decision::Ring { to: number, from: shown, users: rung, .. } => {
            to = Some(number.clone());
            from.clone_from(shown);
            users = Some(list(rung));
        }
        Decision::Refuse { code, reason, .. } => {
            refused = Some(code.to_string());
            words = Some(reason.clone());
        }
    }
    compare("to", expect.to.clone(), to);
    compare("from", expect.from.clone(), from);
    compare("trunks", expect.trunks.as_deref().map(list), trunks);
    compare("target_users", expect.target_users.as_deref().map(list), users);
    compare("refused", expect.refused.map(|code| code.to_string()), refused);
    compare("reason", expect.reason.clone(), words);
    wrong
}

impl Expect {
    /// Whether the row expects anything at all.
    pub fn is_empty(&self) -> bool {
        let texts = [&self.rule, &self.to, &self.from, &self.reason];
        texts.iter().all(|text| text.is_none())
            && self.trunks.is_none()
            && self.target_users.is_none()
            && self.refused.is_none()
    }
}

impl Ask {
    /// The caller of a row that says nothing about him.
    pub fn nobody() -> String {
        ANONYMOUS.to_owned()
    }
}
