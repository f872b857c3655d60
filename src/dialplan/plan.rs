//! A loaded dial plan, and how it decides.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::build;
use super::decision::{Caller, Decision, Routed, Step, tier_text};
use super::number::Numbering;
use super::rows;
use super::rules::{CallerIdKeys, DialAction, InAction, InRule, Matcher, OutAction, OutRule, Target};

/// How long users ring unless a rule says otherwise.
pub(super) const RING_FOR: Duration = Duration::from_secs(60);

/// A file of a dial plan, read by whoever may read files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanFile {
    /// The name to say in errors, such as `dialplans/uk-office.toml`.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What is wrong with a plan, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PlanError {
    /// The file's name.
    pub file: String,
    /// The line, from 1; 0 when it is the plan as a whole.
    pub line: usize,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.text),
            line => write!(f, "{}:{line}: {}", self.file, self.text),
        }
    }
}

/// A dial plan whose files were read without an error and whose tests passed.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub(super) numbering: Numbering,
    pub(super) longest_call: Option<Duration>,
    pub(super) default_class: Option<String>,
    /// The rules that each class may use.
    pub(super) classes: BTreeMap<String, Vec<String>>,
    pub(super) caller_id: CallerIdKeys,
    pub(super) out_rules: Vec<OutRule>,
    pub(super) in_rules: Vec<InRule>,
}

impl Plan {
    /// Reads a plan from its files, which together are one plan, and runs its `[[test]]` rows. `trunks` are the names
    /// of the trunks that the configuration has.
    ///
    /// # Errors
    /// All that is wrong, with file and line; a plan with one failing test is not taken.
    pub fn load(files: &[PlanFile], trunks: &[String]) -> Result<Plan, Vec<PlanError>> {
        let (plan, tests) = build::build(files, trunks)?;
        let failures: Vec<PlanError> = tests.iter().filter_map(|row| rows::run(&plan, row)).collect();
        if failures.is_empty() { Ok(plan) } else { Err(failures) }
    }

    /// What happens when `caller` dials `dialled` at `unix_now` (seconds; no rule of this version asks for it).
    pub fn route_out(&self, caller: &Caller, dialled: &str, unix_now: i64) -> Routed {
        let _ = unix_now;
        let mut steps = vec![step(format!("{} dials {dialled:?}", caller.user))];
        let decision = self.decide_out(caller, dialled, &mut steps);
        Routed { decision, steps }
    }

    fn decide_out(&self, caller: &Caller, dialled: &str, steps: &mut Vec<Step>) -> Decision {
        let number = match self.numbering.normalise(dialled) {
            Ok(number) => number,
            Err(why) => return refuse(steps, None, 484, why),
        };
        steps.push(step(format!("{}: {}", number.text, number.taken_for)));
        let rules = self.out_rules.iter().map(|rule| (rule.name.as_str(), rule.matchers.as_slice(), rule));
        let Some((rule, matcher)) = first_match(rules, &number.text, steps) else {
            return refuse(steps, None, 403, format!("No rule of the dial plan allows {}", number.text));
        };
        let dial = match &rule.action {
            OutAction::Reject(reject) => return refuse(steps, Some(&rule.name), reject.code, reject.reason.clone()),
            OutAction::Dial(dial) => dial,
        };
        if let Err(why) = self.class_allows(caller, &rule.name, steps) {
            return refuse(steps, Some(&rule.name), 403, why);
        }
        if !token_allows(caller, &number.text, steps) {
            let why = format!("The session's token does not allow {}", number.text);
            return refuse(steps, Some(&rule.name), 403, why);
        }
        let from = match dial.caller_id.or(&self.caller_id).choose(caller, &self.numbering) {
            Ok((from, why)) => {
                steps.push(step(why));
                from
            }
            Err(why) => return refuse_caller_id(steps, &rule.name, why),
        };
        self.dial(rule, dial, &number.text, matcher, from, steps)
    }

    fn dial(
        &self,
        rule: &OutRule,
        dial: &DialAction,
        number: &str,
        matcher: &Matcher,
        from: Option<String>,
        steps: &mut Vec<Step>,
    ) -> Decision {
        let to = match &dial.to {
            None => number.to_owned(),
            Some(template) => {
                let to = template.fill(number, matcher);
                steps.push(step(format!("the rule sends it to {to}")));
                to
            }
        };
        let longest = if dial.unlimited { None } else { dial.longest.or(self.longest_call) };
        let rule = rule.name.clone();
        match &dial.target {
            Target::Tiers(tiers) => {
                for (index, tier) in tiers.iter().enumerate() {
                    steps.push(step(format!("tier {}: {}", index + 1, tier_text(tier))));
                }
                Decision::Dial { rule, to, from, tiers: tiers.clone(), ring_for: dial.ring_for, longest }
            }
            Target::User(user) => {
                let users = vec![user.fill(number, matcher)];
                let ring_for = dial.ring_for.unwrap_or(RING_FOR);
                steps.push(step(format!("rings {} for {} s", users.join(", "), ring_for.as_secs())));
                Decision::Ring { rule, to, from, users, ring_for, longest }
            }
        }
    }

    /// Whether the caller's class may use a rule; a plan without classes lets everybody.
    fn class_allows(&self, caller: &Caller, rule: &str, steps: &mut Vec<Step>) -> Result<(), String> {
        if self.classes.is_empty() {
            return Ok(());
        }
        let Some(class) = caller.class.as_ref().or(self.default_class.as_ref()) else {
            return Err(format!("{} has no class, and the plan has no default_class", caller.user));
        };
        let Some(allow) = self.classes.get(class) else {
            return Err(format!("The dial plan has no class {class:?}"));
        };
        if allow.iter().any(|allowed| allowed == rule || allowed == "*") {
            steps.push(step(format!("class {class:?} allows it")));
            Ok(())
        } else {
            Err(format!("The class {class:?} does not allow calls by the rule {rule:?}"))
        }
    }

    /// What happens when `trunk` brings a call from `from` to `did` at `unix_now` (seconds; no rule of this version
    /// asks for it).
    pub fn route_in(&self, trunk: &str, did: &str, from: &str, unix_now: i64) -> Routed {
        let _ = unix_now;
        let mut steps = vec![step(format!("{trunk} brings a call from {from:?} to {did:?}"))];
        let decision = self.decide_in(did, &mut steps);
        Routed { decision, steps }
    }

    fn decide_in(&self, did: &str, steps: &mut Vec<Step>) -> Decision {
        let forms = self.numbering.forms_of_did(did);
        for rule in &self.in_rules {
            let found = forms
                .iter()
                .find_map(|form| rule.matchers.iter().find(|m| m.matches(&form.text)).map(|matcher| (form, matcher)));
            let Some((form, matcher)) = found else { continue };
            steps.push(step(format!("{}: {}", form.text, form.taken_for)));
            steps.push(step(format!("rule {:?} matches ({})", rule.name, matcher.describe())));
            return match &rule.action {
                InAction::Reject(reject) => refuse(steps, Some(&rule.name), reject.code, reject.reason.clone()),
                InAction::Ring { users, ring_for } => {
                    let users: Vec<String> = users.iter().map(|user| user.fill(&form.text, matcher)).collect();
                    steps.push(step(format!("rings {} for {} s", users.join(", "), ring_for.as_secs())));
                    let (rule, ring_for, longest) = (rule.name.clone(), *ring_for, self.longest_call);
                    Decision::Ring { rule, to: form.text.clone(), from: None, users, ring_for, longest }
                }
            };
        }
        refuse(steps, None, 404, format!("No rule of the dial plan takes calls to {did:?}"))
    }
}

/// The first rule that matches, and its matcher; the rules before it are told.
fn first_match<'a, R>(
    rules: impl Iterator<Item = (&'a str, &'a [Matcher], &'a R)>,
    number: &str,
    steps: &mut Vec<Step>,
) -> Option<(&'a R, &'a Matcher)> {
    let mut passed: Vec<&str> = Vec::new();
    for (name, matchers, rule) in rules {
        if let Some(matcher) = matchers.iter().find(|matcher| matcher.matches(number)) {
            if !passed.is_empty() {
                steps.push(step(format!("no match: {}", passed.join(", "))));
            }
            steps.push(step(format!("rule {name:?} matches ({})", matcher.describe())));
            return Some((rule, matcher));
        }
        passed.push(name);
    }
    None
}

/// Whether the caller's token lets him call a number.
fn token_allows(caller: &Caller, number: &str, steps: &mut Vec<Step>) -> bool {
    let Some(destinations) = &caller.destinations else { return true };
    let found = destinations.iter().find(|allowed| match allowed.strip_suffix('*') {
        Some(prefix) => number.starts_with(prefix),
        None => *allowed == number,
    });
    if let Some(allowed) = found {
        steps.push(step(format!("the token allows {allowed}")));
    }
    found.is_some()
}

fn step(text: String) -> Step {
    Step(text)
}

fn refuse(steps: &mut Vec<Step>, rule: Option<&str>, code: u16, reason: String) -> Decision {
    steps.push(step(format!("refused: {reason}")));
    Decision::Refuse { rule: rule.map(str::to_owned), code, reason, caller_id: false }
}

fn refuse_caller_id(steps: &mut Vec<Step>, rule: &str, reason: String) -> Decision {
    steps.push(step(format!("refused: {reason}")));
    Decision::Refuse { rule: Some(rule.to_owned()), code: 403, reason, caller_id: true }
}

#[cfg(test)]
mod tests;
