//! How a plan decides.

use super::caller_id::Shown;
use super::decision::{Caller, Decision, Failover, FailoverOn, Routed, Step, TrunkChoice, Turn, weighted_text};
use super::hook::{self, Question};
use super::number::{Number, Numbering};
use super::plan::{Plan, RING_FOR};
use super::rules::{
    ANONYMOUS, Ask, Class, DialAction, InAction, InRule, Matcher, Otherwise, OutAction, OutRule, Reject, Ring,
    RingAction, Target, Then, When, Who,
};
use super::schedule;
use super::table::{PrefixTable, Price, price_text};

/// The way to a decision.
struct Walk {
    /// Seconds since 1970.
    at: i64,
    steps: Vec<Step>,
    /// Whether a schedule was asked.
    timed: bool,
    /// Whether only trunks may be called: nobody took the call, and a number shall.
    by_trunks: bool,
}

impl Walk {
    fn new(at: i64, begins: String) -> Walk {
        Walk { at, steps: vec![Step(begins)], timed: false, by_trunks: false }
    }

    fn step(&mut self, text: String) {
        self.steps.push(Step(text));
    }

    fn refuse(&mut self, rule: Option<&str>, code: u16, reason: String) -> Decision {
        self.step(format!("refused: {reason}"));
        Decision::Refuse { rule: rule.map(str::to_owned), code, reason, caller_id: false }
    }

    fn reject(&mut self, rule: &str, reject: &Reject) -> Decision {
        self.refuse(Some(rule), reject.code, reject.reason.clone())
    }

    fn done(self, decision: Decision) -> Routed {
        Routed { decision, steps: self.steps, timed: self.timed }
    }
}

/// A rule that matched, and what it matched with.
struct Matched<'a, R> {
    rule: &'a R,
    matcher: &'a Matcher,
    number: &'a str,
}

impl Plan {
    /// Whether there is a class of this name.
    pub fn has_class(&self, name: &str) -> bool {
        self.classes.contains_key(name)
    }

    /// The name of the class that holds for a caller: his own, or the plan's default.
    pub fn class_name<'a>(&'a self, caller: &'a Caller) -> Option<&'a str> {
        caller.class.as_deref().or(self.default_class.as_deref())
    }

    /// What happens when `caller` dials `dialled` at `unix_now` (seconds since 1970).
    pub fn route_out(&self, caller: &Caller, dialled: &str, unix_now: i64) -> Routed {
        let mut walk = Walk::new(unix_now, format!("{} dials {dialled:?}", caller.user));
        let decision = self.decide_out(caller, dialled, &mut walk);
        walk.done(decision)
    }

    /// What happens when `trunk` brings a call from `from` to `did` at `unix_now` (seconds since 1970).
    pub fn route_in(&self, trunk: &str, did: &str, from: &str, unix_now: i64) -> Routed {
        let mut walk = Walk::new(unix_now, format!("{trunk} brings a call from {from:?} to {did:?}"));
        let decision = self.decide_in(trunk, did, from, &mut walk);
        walk.done(decision)
    }

    /// Whether a call is one to an emergency number that the plan has a rule for: no limit holds for it.
    pub fn is_emergency(&self, caller: &Caller, dialled: &str) -> bool {
        let numbering = self.numbering_of(self.class_of(caller));
        numbering.normalise(dialled).is_ok_and(|number| self.emergency_rule(numbering, &number).is_some())
    }

    /// Whether `caller` may connect a party of a call with somebody else, or is one of a class that may not.
    pub fn may_transfer(&self, caller: &Caller) -> bool {
        self.class_of(caller).is_none_or(|class| class.transfer)
    }

    /// What happens after a web hook was asked: `answer` is what it said, `None` that it said nothing in time. Any other
    /// decision stays as it is. Beside it stands what was wrong with an answer, in words.
    pub fn answered(&self, asked: Decision, answer: Option<&str>) -> (Decision, Option<String>) {
        let Decision::Ask { rule, plain, otherwise, .. } = asked else { return (asked, None) };
        let Some(answer) = answer else { return (*otherwise, None) };
        match hook::answered(answer, &rule, &plain, &self.trunks) {
            Ok(decision) => (decision, None),
            Err(why) => (*otherwise, Some(why)),
        }
    }

    /// The number that `caller` means by what he dials, normalised, and what it was taken for, in words.
    pub fn number_of(&self, caller: &Caller, dialled: &str) -> Option<(String, String)> {
        let number = self.numbering_of(self.class_of(caller)).normalise(dialled).ok()?;
        Some((number.text, number.taken_for))
    }

    fn class_of(&self, caller: &Caller) -> Option<&Class> {
        self.classes.get(self.class_name(caller)?)
    }

    fn numbering_of(&self, class: Option<&Class>) -> &Numbering {
        let own = class.and_then(|class| self.numberings.get(class.numbering.as_ref()?));
        own.unwrap_or(&self.numbering)
    }

    /// The rule for an emergency number: it goes before all others, wherever it stands.
    fn emergency_rule(&self, numbering: &Numbering, number: &Number) -> Option<(&OutRule, &DialAction)> {
        if !numbering.is_emergency(&number.text) {
            return None;
        }
        self.out_rules.iter().filter(|rule| rule.names(&number.text)).find_map(|rule| match &rule.action {
            OutAction::Dial(dial) => Some((rule, dial)),
            OutAction::Reject(_) => None,
        })
    }

    fn decide_out(&self, caller: &Caller, dialled: &str, walk: &mut Walk) -> Decision {
        let class = self.class_of(caller);
        let numbering = self.numbering_of(class);
        let number = match numbering.normalise(dialled) {
            Ok(number) => number,
            Err(why) => return walk.refuse(None, 484, why),
        };
        walk.step(format!("{}: {}", number.text, number.taken_for));
        if let Some((rule, dial)) = self.emergency_rule(numbering, &number) {
            return self.emergency(caller, class, (rule, dial), &number.text, walk);
        }
        let Some(matched) = self.first_out(&number.text, walk) else {
            return walk.refuse(None, 403, format!("No rule of the dial plan allows {}", number.text));
        };
        self.by_rule(caller, class, numbering, &matched, walk)
    }

    /// What a rule that matched decides.
    fn by_rule(
        &self,
        caller: &Caller,
        class: Option<&Class>,
        numbering: &Numbering,
        matched: &Matched<'_, OutRule>,
        walk: &mut Walk,
    ) -> Decision {
        let (rule, number) = (matched.rule, matched.number);
        let dial = match &rule.action {
            OutAction::Reject(reject) => return walk.reject(&rule.name, reject),
            OutAction::Dial(dial) => dial,
        };
        if walk.by_trunks && (dial.ask.is_some() || matches!(dial.target, Target::Ring(_))) {
            return walk.refuse(Some(&rule.name), 403, not_by_trunks(number));
        }
        if let Err(why) = self.class_allows(caller, &rule.name, walk) {
            return walk.refuse(Some(&rule.name), 403, why);
        }
        if !token_allows(caller, number, walk) {
            let why = format!("The session's token does not allow {number}");
            return walk.refuse(Some(&rule.name), 403, why);
        }
        let keys = dial.caller_id.or(&class.cloned().unwrap_or_default().caller_id.or(&self.caller_id));
        let from = match keys.choose(&Shown { caller, called: number, numbering, pools: &self.pools }) {
            Ok((from, why)) => {
                walk.step(why);
                from
            }
            Err(reason) => {
                walk.step(format!("refused: {reason}"));
                return Decision::Refuse { rule: Some(rule.name.clone()), code: 403, reason, caller_id: true };
            }
        };
        let plain = self.dial(matched, class, dial, from.clone(), walk);
        let question = Question {
            rule: rule.name.clone(),
            direction: "out",
            caller: caller.user.clone(),
            number: number.to_owned(),
            from,
        };
        asked(dial.ask.as_ref(), plain, question, walk)
    }

    /// The first rule that matches now; the rules before it are told.
    fn first_out<'a>(&'a self, number: &'a str, walk: &mut Walk) -> Option<Matched<'a, OutRule>> {
        let mut passed: Vec<&str> = Vec::new();
        let told = |passed: &mut Vec<&str>, walk: &mut Walk| {
            if !passed.is_empty() {
                walk.step(format!("no match: {}", passed.join(", ")));
                passed.clear();
            }
        };
        for rule in &self.out_rules {
            let Some(matcher) = rule.matchers.iter().find(|matcher| matcher.matches(number)) else {
                passed.push(&rule.name);
                continue;
            };
            told(&mut passed, walk);
            if !self.is_now(&rule.when, &rule.name, walk) {
                continue;
            }
            walk.step(format!("rule {:?} matches ({})", rule.name, matcher.describe(number)));
            return Some(Matched { rule, matcher, number });
        }
        None
    }

    /// Whether a rule holds at this moment.
    fn is_now(&self, when: &When, rule: &str, walk: &mut Walk) -> bool {
        if when.any.is_empty() {
            return true;
        }
        walk.timed = true;
        let holds = |(name, closed): &&(String, bool)| {
            self.schedules.get(name).is_some_and(|schedule| schedule.is_open(walk.at) != *closed)
        };
        let at = schedule::told(walk.at, &self.clocks());
        match when.any.iter().find(holds) {
            Some((name, closed)) => {
                let state = if *closed { "closed" } else { "open" };
                walk.step(format!("schedule {name:?} is {state} at {at}"));
                true
            }
            None => {
                let names: Vec<String> = when
                    .any
                    .iter()
                    .map(|(name, closed)| {
                        let state = if *closed { "open" } else { "closed" };
                        format!("{name:?} is {state}")
                    })
                    .collect();
                walk.step(format!("rule {rule:?} does not hold now: schedule {} at {at}", names.join(", ")));
                false
            }
        }
    }

    /// A call to an emergency number: neither class nor token nor limits stand in its way, and no refusal ends it while
    /// there is another trunk.
    fn emergency(
        &self,
        caller: &Caller,
        class: Option<&Class>,
        (rule, dial): (&OutRule, &DialAction),
        number: &str,
        walk: &mut Walk,
    ) -> Decision {
        walk.step(format!("rule {:?} goes first: no class, token or limit stands in its way", rule.name));
        let keys = dial.caller_id.or(&class.cloned().unwrap_or_default().caller_id.or(&self.caller_id));
        let numbering = self.numbering_of(class);
        let (from, why) = keys
            .choose(&Shown { caller, called: number, numbering, pools: &self.pools })
            .unwrap_or_else(|_| keys.without_number(caller));
        walk.step(why);
        let Some(matcher) = rule.matchers.iter().find(|matcher| matcher.matches(number)) else {
            return walk.refuse(Some(&rule.name), 403, format!("No rule of the dial plan allows {number}"));
        };
        let mut decision = self.dial(&Matched { rule, matcher, number }, class, dial, from, walk);
        if let Decision::Dial { longest, failover, emergency, .. } = &mut decision {
            *longest = None;
            *emergency = true;
            for on in Failover::default().on.into_iter().chain([FailoverOn::Class(4), FailoverOn::Class(6)]) {
                if !failover.on.contains(&on) {
                    failover.on.push(on);
                }
            }
        }
        decision
    }

    fn dial(
        &self,
        matched: &Matched<'_, OutRule>,
        class: Option<&Class>,
        dial: &DialAction,
        from: Option<String>,
        walk: &mut Walk,
    ) -> Decision {
        let to = match &dial.to {
            None => matched.number.to_owned(),
            Some(template) => {
                let to = template.fill(matched.number, matched.matcher);
                walk.step(format!("the rule sends it to {to}"));
                to
            }
        };
        let general = class.and_then(|class| class.longest).or(self.longest_call);
        let longest = if dial.unlimited { None } else { dial.longest.or(general) };
        let rule = matched.rule.name.clone();
        let tiers = match &dial.target {
            Target::Tiers(tiers) => {
                for (index, tier) in tiers.iter().enumerate() {
                    walk.step(format!("tier {}: {}", index + 1, shares(tier)));
                }
                tiers.clone()
            }
            Target::LeastCost { table, at_most } => match least_cost(table, *at_most, matched.number, walk) {
                tiers if tiers.is_empty() => {
                    return walk.refuse(
                        Some(&rule),
                        404,
                        format!("No trunk of {} goes to {}", table.name, matched.number),
                    );
                }
                tiers => tiers,
            },
            // Users who ring have a `then` of their own, which might lead back to here.
            Target::Ring(_) if walk.by_trunks => {
                return walk.refuse(Some(&rule), 403, not_by_trunks(matched.number));
            }
            Target::Ring(ring) => {
                let filled = Filled { rule: &rule, to: matched.number, matcher: matched.matcher, from, longest };
                return self.rings(&filled, &ring.first, &ring.then, walk);
            }
        };
        let (ring_for, failover) = (dial.ring_for, dial.failover.clone());
        Decision::Dial { rule, to, from, tiers, ring_for, longest, failover, emergency: false }
    }

    /// Whether the caller's class may use a rule; a plan without classes lets everybody.
    fn class_allows(&self, caller: &Caller, rule: &str, walk: &mut Walk) -> Result<(), String> {
        if self.classes.is_empty() {
            return Ok(());
        }
        let Some(name) = caller.class.as_ref().or(self.default_class.as_ref()) else {
            return Err(format!("{} has no class, and the plan has no default_class", caller.user));
        };
        let Some(class) = self.classes.get(name) else {
            return Err(format!("The dial plan has no class {name:?}"));
        };
        let listed = |list: &[String]| list.iter().any(|own| own == rule || own == "*");
        if listed(&class.allow) && !listed(&class.deny) {
            walk.step(format!("class {name:?} allows it"));
            Ok(())
        } else {
            Err(format!("The class {name:?} does not allow calls by the rule {rule:?}"))
        }
    }

    fn decide_in(&self, trunk: &str, did: &str, from: &str, walk: &mut Walk) -> Decision {
        let forms = self.numbering.forms_of_did(did);
        let callers = self.numbering.forms_of_did(from);
        for rule in &self.in_rules {
            let Some((form, matcher)) = in_match(rule, trunk, &forms, &callers) else { continue };
            if !self.is_now(&rule.when, &rule.name, walk) {
                continue;
            }
            walk.step(format!("{}: {}", form.text, form.taken_for));
            walk.step(format!("rule {:?} matches ({})", rule.name, matcher.describe(&form.text)));
            let RingAction { first, then } = match &rule.action {
                InAction::Reject(reject) => return walk.reject(&rule.name, reject),
                InAction::Ring(ring) => ring,
            };
            let longest = self.longest_call;
            let filled = Filled { rule: &rule.name, to: &form.text, matcher, from: None, longest };
            let plain = self.rings(&filled, first, then, walk);
            let question = Question {
                rule: rule.name.clone(),
                direction: "in",
                caller: trunk.to_owned(),
                number: form.text.clone(),
                from: Some(from.to_owned()),
            };
            return asked(rule.ask.as_ref(), plain, question, walk);
        }
        walk.refuse(None, 404, format!("No rule of the dial plan takes calls to {did:?}"))
    }

    /// Users that ring, and what comes after them.
    fn rings(&self, filled: &Filled<'_>, first: &Ring, then: &[Then], walk: &mut Walk) -> Decision {
        let users: Vec<String> = match &first.who {
            Who::Users(users) => users.iter().map(|user| user.fill(filled.to, filled.matcher)).collect(),
            Who::Group(group) => self.groups.get(group).cloned().unwrap_or_default(),
        };
        let ring_for = first.ring_for;
        let (how, each) = if first.in_turn { (" in turn", " each") } else { ("", "") };
        walk.step(format!("rings {}{how} for {} s{each}", users.join(", "), ring_for.as_secs()));
        let turns = match first.in_turn {
            true => users.into_iter().map(|user| Turn { users: vec![user], ring_for }).collect(),
            false => vec![Turn { users, ring_for }],
        };
        let then = then.split_first().map(|(next, rest)| {
            walk.step("nobody takes it:".to_owned());
            Box::new(match next {
                Then::Ring(ring) => self.rings(filled, ring, rest, walk),
                Then::Reject(reject) => walk.reject(filled.rule, reject),
                Then::Number { number, class } => self.overflow(filled.rule, number, class.as_ref(), walk),
            })
        });
        let Filled { rule, to, from, longest, .. } = filled;
        Decision::Ring {
            rule: (*rule).to_owned(),
            to: (*to).to_owned(),
            from: from.clone(),
            turns,
            longest: *longest,
            then,
        }
    }

    /// Why a number that shall take calls that nobody took is refused: at all times, or because a rule that may take it
    /// at some time does not call it by trunks alone. `None`: it may be called.
    pub(super) fn overflow_refused(&self, rule: &str, number: &str, class: Option<&String>) -> Option<String> {
        let caller = overflow_caller(rule, class);
        let class = self.class_of(&caller);
        let numbering = self.numbering_of(class);
        let number = match numbering.normalise(number) {
            Ok(number) => number,
            Err(why) => return Some(why),
        };
        let mut walk = Walk::new(0, format!("rule {rule:?} calls {}", number.text));
        walk.by_trunks = true;
        if self.emergency_rule(numbering, &number).is_some() {
            let decision = self.decide_out(&caller, &number.text, &mut walk);
            return if let Decision::Refuse { reason, .. } = decision { Some(reason) } else { None };
        }
        let (mut first, mut called) = (None, false);
        for rule in &self.out_rules {
            let found = rule.matchers.iter().find(|matcher| matcher.matches(&number.text));
            let Some(matcher) = found else { continue };
            let matched = Matched { rule, matcher, number: &number.text };
            match self.by_rule(&caller, class, numbering, &matched, &mut walk) {
                Decision::Refuse { reason, .. } if reason == not_by_trunks(&number.text) => return Some(reason),
                Decision::Refuse { reason, .. } => first = first.or(Some(reason)),
                _ => called = true,
            }
            if rule.when.any.is_empty() {
                break;
            }
        }
        let none = || format!("No rule of the dial plan allows {}", number.text);
        if called { None } else { Some(first.unwrap_or_else(none)) }
    }

    /// A number that takes a call that nobody took: by the rules of `[[out]]`, as any call of its class, and by trunks
    /// alone.
    fn overflow(&self, rule: &str, number: &str, class: Option<&String>, walk: &mut Walk) -> Decision {
        walk.by_trunks = true;
        match self.decide_out(&overflow_caller(rule, class), number, walk) {
            Decision::Dial { rule, to, from, tiers, ring_for, longest, failover, .. } => {
                // The rule's name is no caller id.
                let from = from.or_else(|| Some(ANONYMOUS.to_owned()));
                let ring_for = ring_for.or(Some(RING_FOR));
                Decision::Dial { rule, to, from, tiers, ring_for, longest, failover, emergency: false }
            }
            refused @ Decision::Refuse { .. } => refused,
            Decision::Ring { rule, .. } | Decision::Ask { rule, .. } => {
                walk.refuse(Some(&rule), 403, not_by_trunks(number))
            }
        }
    }
}

/// Whoever calls where nobody took a call: the rule.
fn overflow_caller(rule: &str, class: Option<&String>) -> Caller {
    Caller { user: rule.to_owned(), class: class.cloned(), ..Caller::default() }
}

fn not_by_trunks(number: &str) -> String {
    format!("{number} is not called by trunks alone")
}

/// What users are rung for.
struct Filled<'a> {
    rule: &'a str,
    to: &'a str,
    matcher: &'a Matcher,
    from: Option<String>,
    longest: Option<std::time::Duration>,
}

/// The form of the number called that a rule takes, of a trunk and from a caller that it takes.
fn in_match<'a>(
    rule: &'a InRule,
    trunk: &str,
    forms: &'a [Number],
    callers: &[Number],
) -> Option<(&'a Number, &'a Matcher)> {
    let by_trunk = rule.trunks.is_empty() || rule.trunks.iter().any(|own| own == trunk);
    let from = |matcher: &Matcher| callers.iter().any(|caller| matcher.matches(&caller.text));
    if !by_trunk || !rule.from.is_empty() && !rule.from.iter().any(from) {
        return None;
    }
    forms.iter().find_map(|form| rule.matchers.iter().find(|m| m.matches(&form.text)).map(|matcher| (form, matcher)))
}

/// The decision of a rule that asks a web hook before it decides; a call that is refused anyhow is not asked about.
fn asked(ask: Option<&Ask>, plain: Decision, question: Question, walk: &mut Walk) -> Decision {
    let Some(ask) = ask.filter(|_| !matches!(plain, Decision::Refuse { .. })) else { return plain };
    let rule = question.rule.clone();
    let hook = ask.hook.clone();
    walk.step(format!("asks {} within {} ms", hook.url, hook.within.as_millis()));
    let otherwise = match &ask.otherwise {
        Otherwise::GoOn => plain.clone(),
        Otherwise::Refuse(Reject { code, reason }) => {
            Decision::Refuse { rule: Some(rule.clone()), code: *code, reason: reason.clone(), caller_id: false }
        }
    };
    Decision::Ask { rule, hook, question, plain: Box::new(plain), otherwise: Box::new(otherwise) }
}

/// The trunks of a tier, with their shares where they differ.
fn shares(tier: &[TrunkChoice]) -> String {
    match tier.iter().all(|choice| choice.weight == 1) {
        true => super::decision::tier_text(tier),
        false => weighted_text(tier),
    }
}

/// The trunks of a table that go to a number, cheapest first; those of one price share the calls.
fn least_cost(table: &PrefixTable, at_most: Option<Price>, number: &str, walk: &mut Walk) -> Vec<Vec<TrunkChoice>> {
    let mut tiers: Vec<(Price, Vec<TrunkChoice>)> = Vec::new();
    for rate in table.rates(number) {
        let Some(trunk) = table.trunks.get(usize::from(rate.trunk)).cloned() else { continue };
        if at_most.is_some_and(|most| rate.price > most) {
            walk.step(format!("{trunk} is too dear at {}", price_text(rate.price)));
            continue;
        }
        let choice = TrunkChoice { trunk, weight: 1 };
        match tiers.last_mut().filter(|(price, _)| *price == rate.price) {
            Some((_, tier)) => tier.push(choice),
            None => tiers.push((rate.price, vec![choice])),
        }
    }
    for (index, (price, tier)) in tiers.iter().enumerate() {
        walk.step(format!("tier {}: {} at {} ({})", index + 1, shares(tier), price_text(*price), table.name));
    }
    tiers.into_iter().map(|(_, tier)| tier).collect()
}

/// Whether the caller's token lets him call a number.
fn token_allows(caller: &Caller, number: &str, walk: &mut Walk) -> bool {
    let Some(destinations) = &caller.destinations else { return true };
    let found = destinations.iter().find(|allowed| match allowed.strip_suffix('*') {
        Some(prefix) => number.starts_with(prefix),
        None => *allowed == number,
    });
    if let Some(allowed) = found {
        walk.step(format!("the token allows {allowed}"));
    }
    found.is_some()
}
