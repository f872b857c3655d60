//! What can be judged only when all files of a plan are read: names that nothing has, and rules that nothing reaches.

use super::{Draft, Named, Place};
use crate::dialplan::plan::PlanError;
use crate::dialplan::rules::{Matcher, OutAction, Target, all_covered};

/// A rule as the search for unreachable ones sees it.
struct Reach<'a> {
    name: &'a str,
    matchers: &'a [Matcher],
    /// Whether it takes all that matches, at all times.
    always: bool,
    place: &'a Place,
}

impl Draft<'_> {
    pub(super) fn check_whole(&self, errors: &mut Vec<PlanError>) {
        let out = self.plan.out_rules.iter().zip(&self.out_places).map(|(rule, place)| {
            let always = rule.when.any.is_empty();
            Reach { name: &rule.name, matchers: &rule.matchers, always, place }
        });
        let inward = self.plan.in_rules.iter().zip(&self.in_places).map(|(rule, place)| {
            let always = rule.when.any.is_empty() && rule.trunks.is_empty() && rule.from.is_empty();
            Reach { name: &rule.name, matchers: &rule.matchers, always, place }
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
        let numberings = std::iter::once(&plan.numbering).chain(plan.numberings.values());
        let mut numbers: Vec<&String> = numberings.flat_map(|numbering| &numbering.emergency).collect();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
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
    let (mut names, mut earlier): (Vec<&str>, Vec<&Matcher>) = (Vec::new(), Vec::new());
    for rule in rules {
        let name = rule.name;
        if names.contains(&name) {
            errors.push(rule.place.error(format!("two rules have the name `{name}`")));
        }
        if all_covered(&earlier, rule.matchers) {
            errors.push(rule.place.error(format!("rule `{name}` can never match: the rules above it take all of it")));
        }
        names.push(name);
        if rule.always {
            earlier.extend(rule.matchers.iter());
        }
    }
}
