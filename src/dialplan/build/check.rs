//! What can be judged only when all files of a plan are read: names that nothing has, and rules that nothing reaches.

use super::{Draft, Named, Place};
use crate::dialplan::plan::PlanError;
use crate::dialplan::rules::{InRule, Matcher, OutAction, OutRule, Target, When};

/// A rule as the search for unreachable ones sees it.
struct Reach<'a> {
    name: &'a str,
    matchers: &'a [Matcher],
    when: &'a When,
    /// Of which trunks, and from which numbers; empty: all.
    trunks: &'a [String],
    from: &'a [Matcher],
    /// It is asked before all others, wherever it stands.
    first: bool,
    place: &'a Place,
}

impl Reach<'_> {
    /// Whether rules before it leave it nothing: each of its numbers, by each of its trunks and from each of its callers, is
    /// taken by some of them at all the times at which it holds.
    fn is_covered_by(&self, earlier: &[Reach]) -> bool {
        let each = |matcher: &Matcher| {
            or_all(self.trunks).all(|trunk| or_all(self.from).all(|from| self.is_taken(matcher, trunk, from, earlier)))
        };
        !self.first && !self.matchers.is_empty() && self.matchers.iter().all(each)
    }

    /// `None`: all trunks, all callers.
    fn is_taken(&self, number: &Matcher, trunk: Option<&String>, from: Option<&Matcher>, earlier: &[Reach]) -> bool {
        let takes = earlier.iter().filter(|rule| {
            rule.matchers.iter().any(|own| own.covers(number))
                && (rule.trunks.is_empty() || trunk.is_some_and(|trunk| rule.trunks.contains(trunk)))
                && (rule.from.is_empty() || from.is_some_and(|from| rule.from.iter().any(|own| own.covers(from))))
        });
        self.when.is_within(takes.map(|rule| rule.when))
    }
}

/// Each of them; where there are none, which means all, nothing once.
fn or_all<T>(some: &[T]) -> impl Iterator<Item = Option<&T>> {
    some.iter().map(Some).chain(some.is_empty().then_some(None))
}

impl Draft<'_> {
    pub(super) fn check_whole(&self, errors: &mut Vec<PlanError>) {
        let emergency = self.emergency_numbers();
        let out = self.plan.out_rules.iter().zip(&self.out_places).map(|(rule, place)| {
            let OutRule { name, matchers, when, .. } = rule;
            let first = emergency.iter().any(|number| rule.names(number));
            Reach { name, matchers, when, trunks: &[], from: &[], first, place }
        });
        let inward = self.plan.in_rules.iter().zip(&self.in_places).map(|(rule, place)| {
            let InRule { name, matchers, when, trunks, from, .. } = rule;
            Reach { name, matchers, when, trunks, from, first: false, place }
        });
        check_rules(out, errors);
        check_rules(inward, errors);
        self.check_names(errors);
        self.check_numbers(errors);
        if errors.is_empty() {
            self.check_emergency(errors);
            self.check_overflows(errors);
        }
    }

    /// Those of all countries of the plan, each once.
    fn emergency_numbers(&self) -> Vec<&String> {
        let numberings = std::iter::once(&self.plan.numbering).chain(self.plan.numberings.values());
        let mut numbers: Vec<&String> = numberings.flat_map(|numbering| &numbering.emergency).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    fn check_names(&self, errors: &mut Vec<PlanError>) {
        let plan = &self.plan;
        for (kind, name, place) in &self.named {
            let wrong = match kind {
                Named::Rule(_) if plan.out_rules.iter().any(|rule| rule.name == *name) => continue,
                Named::Rule(key) => format!("`{key}` names `{name}`, and no [[out]] rule has that name"),
                Named::DefaultClass | Named::Class if plan.classes.contains_key(name) => continue,
                Named::DefaultClass => format!("`default_class` names `{name}`, and there is no [class.{name}]"),
                Named::Class => format!("there is no [class.{name}]"),
                Named::Schedule if plan.schedules.contains_key(name) => continue,
                Named::Schedule => format!("there is no [[schedule]] with the name `{name}`"),
                Named::Group if plan.groups.contains_key(name) => continue,
                Named::Group => format!("there is no [group.{name}]"),
                Named::Pool if plan.pools.contains_key(name) => continue,
                Named::Pool => format!("there is no [caller_id.pool.{name}]"),
                Named::Numbering if plan.numberings.contains_key(name) => continue,
                Named::Numbering => format!("there is no [numbering.{name}]"),
            };
            errors.push(place.error(wrong));
        }
    }

    /// Numbers of [[out]] rules that no dialled text can become.
    fn check_numbers(&self, errors: &mut Vec<PlanError>) {
        for (rule, place) in self.plan.out_rules.iter().zip(&self.out_places) {
            for matcher in &rule.matchers {
                let Matcher::Number(own) = matcher else { continue };
                let becomes_itself = |found: &Result<crate::dialplan::number::Number, String>| {
                    found.as_ref().is_ok_and(|number| number.text == *own)
                };
                if self.plan.numberings.values().any(|numbering| becomes_itself(&numbering.normalise(own))) {
                    continue;
                }
                match self.plan.numbering.normalise(own) {
                    Ok(number) if number.text == *own => {}
                    Ok(number) => errors.push(place.error(format!(
                        "rule `{}` waits for {own}, which becomes {} before the rules are asked; write that",
                        rule.name, number.text
                    ))),
                    Err(why) => errors.push(place.error(format!("rule `{}` can never match {own}: {why}", rule.name))),
                }
            }
        }
    }

    /// Each emergency number has a rule of its own, which calls it by trunks, at all times and without asking anybody.
    fn check_emergency(&self, errors: &mut Vec<PlanError>) {
        let plan = &self.plan;
        for number in self.emergency_numbers() {
            let own = plan.out_rules.iter().zip(&self.out_places).find(|(rule, _)| rule.names(number));
            let Some((rule, place)) = own else {
                let place = self.emergency_place.as_ref();
                let text = format!(
                    "nobody is called for the emergency number {number}: write a rule with `number = \"{number}\"` and \
                     `tiers`, or leave it out of `emergency`"
                );
                errors.extend(place.map(|place| place.error(text)));
                continue;
            };
            let by_trunk = matches!(&rule.action, OutAction::Dial(dial)
                if matches!(dial.target, Target::Tiers(_)) && dial.ask.is_none());
            if !by_trunk || !rule.when.any.is_empty() {
                errors.push(place.error(format!(
                    "rule `{}` is for the emergency number {number}: it has `tiers`, and neither `when` nor `ask`",
                    rule.name
                )));
            }
        }
    }

    /// A number of `then` must be one that the plan calls by trunks alone, whatever the time.
    fn check_overflows(&self, errors: &mut Vec<PlanError>) {
        for (number, class, place) in &self.overflows {
            if let Some(reason) = self.plan.overflow_refused("then", number, class.as_ref()) {
                errors.push(place.error(format!("`then` goes to {number}, which the plan refuses: {reason}")));
            }
        }
    }
}

/// Names that stand twice, and rules that no number can reach.
fn check_rules<'a>(rules: impl Iterator<Item = Reach<'a>>, errors: &mut Vec<PlanError>) {
    let mut earlier: Vec<Reach> = Vec::new();
    for rule in rules {
        let name = rule.name;
        if earlier.iter().any(|other| other.name == name) {
            errors.push(rule.place.error(format!("two rules have the name `{name}`")));
        }
        if rule.is_covered_by(&earlier) {
            errors.push(rule.place.error(format!("rule `{name}` can never match: the rules above it take all of it")));
        }
        earlier.push(rule);
    }
}
