//! From the files of a plan to a [`Plan`]: every key is checked, and every mistake is told.

use std::collections::BTreeMap;

use regex::RegexBuilder;

use super::decision::{Caller, TrunkChoice};
use super::number::{Numbering, Pattern, is_name, is_number};
use super::plan::{Plan, PlanError, PlanFile, RING_FOR};
use super::reader::{Item, Reader, Section, Text, read_file};
use super::rows::{Ask, Expect, TestRow};
use super::rules::{
    ANONYMOUS, CallerIdKeys, DialAction, InAction, InRule, Matcher, OutAction, OutRule, Present, Reject, Target,
    Template, all_covered,
};

/// The sections that may stand once in a plan.
const SINGLE: [&str; 4] = ["plan", "numbering", "limits", "caller_id"];
const KNOWN: [&str; 8] = ["plan", "numbering", "limits", "caller_id", "class", "out", "in", "test"];

/// The keys of an [[out]] rule that only a call can honour.
const DIAL_ONLY: [&str; 5] = ["to", "caller_id", "ring_for", "longest_call", "limits"];

/// Where something stands.
#[derive(Debug, Clone)]
struct Place {
    file: String,
    line: usize,
}

impl Place {
    fn error(&self, text: String) -> PlanError {
        PlanError { file: self.file.clone(), line: self.line, text }
    }
}

/// A plan while it is read.
#[derive(Default)]
struct Draft<'a> {
    plan: Plan,
    tests: Vec<TestRow>,
    trunks: &'a [String],
    file: String,
    /// Which file has each of the single sections.
    singles: BTreeMap<&'static str, String>,
    /// The places of the rules, in their order.
    out_places: Vec<Place>,
    in_places: Vec<Place>,
    /// What `allow` lists name, to be checked when all rules are known.
    allowed: Vec<(String, Place)>,
    default_class: Option<Place>,
}

/// Builds a plan and its test rows.
pub(super) fn build(files: &[PlanFile], trunks: &[String]) -> Result<(Plan, Vec<TestRow>), Vec<PlanError>> {
    let mut draft = Draft { trunks, ..Draft::default() };
    let mut errors = Vec::new();
    if files.is_empty() {
        let text = "there is no dial plan file".to_owned();
        errors.push(PlanError { file: "dial plan".to_owned(), line: 0, text });
    }
    for file in files {
        draft.file.clone_from(&file.name);
        let mut reader = Reader::new(&file.name, &file.text);
        read_file(&mut reader, |reader, root| draft.root(reader, root));
        errors.append(&mut reader.errors);
    }
    // What is wrong between the parts makes sense only when the parts themselves are right.
    if errors.is_empty() {
        draft.check_whole(&mut errors);
    }
    if errors.is_empty() { Ok((draft.plan, draft.tests)) } else { Err(errors) }
}

impl Draft<'_> {
    fn place(&self, reader: &Reader<'_>, at: usize) -> Place {
        Place { file: self.file.clone(), line: reader.line(at) }
    }

    fn root(&mut self, reader: &mut Reader<'_>, root: Section<'_>) {
        reader.check_keys(root, "a dial plan", &KNOWN, &["schedule", "guard", "anonymous"]);
        for name in SINGLE {
            let Some(section) = reader.section(root, name) else { continue };
            if let Some(other) = self.singles.insert(name, self.file.clone()) {
                reader.error(section.at, format!("[{name}] stands in {other} already; all files are one plan"));
            }
            match name {
                "plan" => self.plan_section(reader, section),
                "numbering" => self.plan.numbering = numbering(reader, section),
                "limits" => {
                    let later = ["calls_at_once", "calls_per_minute", "minutes_per_day"];
                    reader.check_keys(section, "[limits]", &["longest_call"], &later);
                    self.plan.longest_call = reader.duration(section, "longest_call");
                }
                _ => {
                    reader.check_keys(section, "[caller_id]", &CALLER_ID_KEYS, &CALLER_ID_LATER);
                    self.plan.caller_id = caller_id(reader, section);
                }
            }
        }
        if let Some(classes) = reader.section(root, "class") {
            for (name, section) in reader.named(classes) {
                self.class(reader, &name, section);
            }
        }
        for section in reader.sections(root, "out") {
            self.out_rule(reader, section);
        }
        for section in reader.sections(root, "in") {
            self.in_rule(reader, section);
        }
        for section in reader.sections(root, "test") {
            self.test_row(reader, section);
        }
    }

    fn plan_section(&mut self, reader: &mut Reader<'_>, section: Section<'_>) {
        reader.check_keys(section, "[plan]", &["name", "description", "default", "default_class"], &[]);
        reader.string(section, "name");
        reader.string(section, "description");
        if let Some(default) = reader.string(section, "default").filter(|default| default.value != "deny") {
            reader.error(default.at, "`default` can only be \"deny\": what no rule allows is refused");
        }
        if let Some(class) = reader.string(section, "default_class") {
            self.default_class = Some(self.place(reader, class.at));
            self.plan.default_class = Some(class.value);
        }
    }

    fn class(&mut self, reader: &mut Reader<'_>, name: &Text, section: Section<'_>) {
        let later = ["limits", "dtmf", "hold", "transfer"];
        reader.check_keys(section, &format!("[class.{}]", name.value), &["allow"], &later);
        let allow = reader.strings(section, "allow");
        for rule in allow.iter().filter(|rule| rule.value != "*") {
            self.allowed.push((rule.value.clone(), self.place(reader, rule.at)));
        }
        let allow = allow.into_iter().map(|rule| rule.value).collect();
        if self.plan.classes.insert(name.value.clone(), allow).is_some() {
            reader.error(name.at, format!("the class `{}` stands in another file already", name.value));
        }
    }

    fn out_rule(&mut self, reader: &mut Reader<'_>, section: Section<'_>) {
        let known = [
            "name",
            "number",
            "prefix",
            "pattern",
            "regex",
            "tiers",
            "user",
            "to",
            "reject",
            "caller_id",
            "ring_for",
            "longest_call",
            "limits",
        ];
        let later = ["when", "failover", "media", "least_cost", "prefix_file", "headers", "ask", "announce", "ring"];
        reader.check_keys(section, "[[out]]", &known, &later);
        let Some(name) = rule_name(reader, section, "[[out]]") else { return };
        let matchers = self.out_matchers(reader, section);
        let reject = reject(reader, section);
        let tiers = self.tiers(reader, section).map(Target::Tiers);
        let user = template(reader, section, "user", &matchers).map(Target::User);
        let actions = ["tiers", "user", "reject"];
        if actions.into_iter().filter(|key| Reader::has(section, key)).count() != 1 {
            let text = format!("rule `{}` needs exactly one of `tiers`, `user` and `reject`", name.value);
            return reader.error(section.at, text);
        }
        let action = match (tiers.or(user), reject) {
            (Some(target), None) => {
                if Reader::has(section, "user") && Reader::has(section, "to") {
                    reader.error(section.at, format!("`to` means nothing beside `user` (rule `{}`)", name.value));
                }
                OutAction::Dial(dial_action(reader, section, target, &matchers))
            }
            (None, Some(reject)) => {
                for key in DIAL_ONLY.into_iter().filter(|key| Reader::has(section, key)) {
                    reader.error(section.at, format!("`{key}` means nothing beside `reject` (rule `{}`)", name.value));
                }
                OutAction::Reject(reject)
            }
            _ => return,
        };
        self.out_places.push(self.place(reader, name.at));
        self.plan.out_rules.push(OutRule { name: name.value, matchers, action });
    }

    fn out_matchers(&self, reader: &mut Reader<'_>, section: Section<'_>) -> Vec<Matcher> {
        let mut matchers = Vec::new();
        let kinds = ["number", "prefix", "pattern", "regex"];
        if kinds.iter().filter(|kind| Reader::has(section, kind)).count() != 1 {
            reader.error(section.at, "a rule has exactly one of `number`, `prefix`, `pattern` and `regex`");
            return matchers;
        }
        for text in reader.strings(section, "number") {
            matchers.extend(or_error(reader, &text, number_matcher(&text.value)));
        }
        for text in reader.strings(section, "prefix") {
            matchers.extend(or_error(reader, &text, prefix_matcher(&text.value)));
        }
        for text in reader.strings(section, "pattern") {
            matchers.extend(or_error(reader, &text, pattern_matcher(&text.value)));
        }
        for text in reader.strings(section, "regex") {
            matchers.extend(or_error(reader, &text, regex_matcher(&text.value)));
        }
        matchers
    }

    fn tiers(&self, reader: &mut Reader<'_>, section: Section<'_>) -> Option<Vec<Vec<TrunkChoice>>> {
        let lists = reader.lists(section, "tiers")?;
        let mut tiers = Vec::new();
        for list in lists {
            let mut tier = Vec::new();
            for item in list {
                let (trunk, weight) = match item {
                    Item::Text(trunk) => (Some(trunk), Some(1)),
                    Item::Table(table) => {
                        reader.check_keys(table, "a trunk of a tier", &["trunk", "weight"], &[]);
                        let weight = if Reader::has(table, "weight") {
                            reader.integer(table, "weight", 1..=1_000)
                        } else {
                            Some(1)
                        };
                        let trunk = reader.string(table, "trunk");
                        if trunk.is_none() {
                            reader.error(table.at, "a trunk of a tier is a name or { trunk = \"...\", weight = 70 }");
                        }
                        (trunk, weight)
                    }
                };
                if let (Some(trunk), Some(weight)) = (trunk, weight) {
                    self.check_trunk(reader, &trunk);
                    tier.push(TrunkChoice { trunk: trunk.value, weight });
                }
            }
            tiers.push(tier);
        }
        Some(tiers)
    }

    fn check_trunk(&self, reader: &mut Reader<'_>, trunk: &Text) {
        if !self.trunks.contains(&trunk.value) {
            let known = if self.trunks.is_empty() { "none".to_owned() } else { self.trunks.join(", ") };
            let name = &trunk.value;
            reader.error(trunk.at, format!("there is no trunk `{name}`; the configuration has: {known}"));
        }
    }

    fn in_rule(&mut self, reader: &mut Reader<'_>, section: Section<'_>) {
        reader.check_keys(
            section,
            "[[in]]",
            &["name", "did", "user", "ring", "reject"],
            &["when", "then", "ask", "trunk"],
        );
        let Some(name) = rule_name(reader, section, "[[in]]") else { return };
        let dids = reader.strings(section, "did");
        if !Reader::has(section, "did") {
            reader.error(section.at, format!("rule `{}` needs `did`: a number, a pattern or \"any\"", name.value));
        }
        let mut matchers = Vec::new();
        for did in dids {
            let matcher = did_matcher(&did.value);
            matchers.extend(or_error(reader, &did, matcher));
        }
        let actions = ["user", "ring", "reject"];
        if actions.iter().filter(|action| Reader::has(section, action)).count() != 1 {
            reader.error(section.at, format!("rule `{}` needs exactly one of `user`, `ring` and `reject`", name.value));
            return;
        }
        let action = match reject(reader, section) {
            Some(reject) => InAction::Reject(reject),
            None => match ring(reader, section) {
                Some(action) => action,
                None => return,
            },
        };
        self.in_places.push(self.place(reader, name.at));
        self.plan.in_rules.push(InRule { name: name.value, matchers, action });
    }

    fn test_row(&mut self, reader: &mut Reader<'_>, section: Section<'_>) {
        let known = ["user", "dial", "class", "caller_id", "destinations", "call_in", "did", "from", "expect"];
        reader.check_keys(section, "[[test]]", &known, &["at"]);
        let user = reader.string(section, "user");
        let dial = reader.string(section, "dial");
        let trunk = reader.string(section, "call_in");
        let did = reader.string(section, "did");
        let ask = match (user, dial, trunk, did) {
            (Some(user), Some(dial), None, None) => {
                let destinations = Reader::has(section, "destinations")
                    .then(|| reader.strings(section, "destinations").into_iter().map(|text| text.value).collect());
                let caller = Caller {
                    user: user.value,
                    class: reader.string(section, "class").map(|class| class.value),
                    caller_id: reader.string(section, "caller_id").map(|id| id.value),
                    asked: None,
                    destinations,
                };
                Ask::Out { caller, dial: dial.value }
            }
            (None, None, Some(trunk), Some(did)) => {
                self.check_trunk(reader, &trunk);
                let from = reader.string(section, "from").map_or_else(Ask::nobody, |from| from.value);
                Ask::In { trunk: trunk.value, did: did.value, from }
            }
            _ => {
                reader.error(section.at, "a test has `user` and `dial`, or `call_in` (a trunk) and `did`");
                return;
            }
        };
        let expect = reader.section(section, "expect").map(|expect| expectation(reader, expect)).unwrap_or_default();
        if expect.is_empty() {
            reader.error(section.at, "a test needs `expect` with at least one key");
        }
        let Place { file, line } = self.place(reader, section.at);
        self.tests.push(TestRow { file, line, ask, expect });
    }

    /// What can be judged only when all files are read.
    fn check_whole(&self, errors: &mut Vec<PlanError>) {
        let out: Vec<(&str, &[Matcher])> =
            self.plan.out_rules.iter().map(|r| (r.name.as_str(), r.matchers.as_slice())).collect();
        let inward: Vec<(&str, &[Matcher])> =
            self.plan.in_rules.iter().map(|r| (r.name.as_str(), r.matchers.as_slice())).collect();
        check_rules(&out, &self.out_places, errors);
        check_rules(&inward, &self.in_places, errors);
        self.check_numbers(errors);
        for (rule, place) in &self.allowed {
            if !out.iter().any(|(name, _)| name == rule) {
                errors.push(place.error(format!("`allow` names `{rule}`, and no [[out]] rule has that name")));
            }
        }
        if let (Some(class), Some(place)) = (&self.plan.default_class, &self.default_class)
            && !self.plan.classes.contains_key(class)
        {
            errors.push(place.error(format!("`default_class` names `{class}`, and there is no [class.{class}]")));
        }
    }
}

impl Draft<'_> {
    /// Numbers of [[out]] rules that no dialled text can become.
    fn check_numbers(&self, errors: &mut Vec<PlanError>) {
        for (rule, place) in self.plan.out_rules.iter().zip(&self.out_places) {
            for matcher in &rule.matchers {
                let Matcher::Number(own) = matcher else { continue };
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
}

/// Names that stand twice, and rules that no number can reach.
fn check_rules(rules: &[(&str, &[Matcher])], places: &[Place], errors: &mut Vec<PlanError>) {
    let mut earlier: Vec<&Matcher> = Vec::new();
    for (index, ((name, matchers), place)) in rules.iter().zip(places).enumerate() {
        if rules.iter().take(index).any(|(other, _)| other == name) {
            errors.push(place.error(format!("two rules have the name `{name}`")));
        }
        if all_covered(&earlier, matchers) {
            errors.push(place.error(format!("rule `{name}` can never match: the rules above it take all of it")));
        }
        earlier.extend(matchers.iter());
    }
}

/// Notes a mistake at a text, or hands the value on.
fn or_error<T>(reader: &mut Reader<'_>, text: &Text, result: Result<T, String>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(why) => {
            reader.error(text.at, why);
            None
        }
    }
}

fn rule_name(reader: &mut Reader<'_>, section: Section<'_>, what: &str) -> Option<Text> {
    let name = reader.string(section, "name");
    match &name {
        None if !Reader::has(section, "name") => reader.error(section.at, format!("{what} needs a `name`")),
        Some(text) if text.value.is_empty() || text.value.len() > 64 || text.value.chars().any(char::is_control) => {
            reader.error(text.at, "a `name` has 1 to 64 printable characters");
        }
        _ => {}
    }
    name
}

fn number_matcher(text: &str) -> Result<Matcher, String> {
    if is_number(text) || is_name(text) {
        Ok(Matcher::Number(text.to_owned()))
    } else {
        Err(format!("{text:?} is neither a number (as after [numbering], such as +442079460000) nor a name"))
    }
}

fn prefix_matcher(text: &str) -> Result<Matcher, String> {
    if text == "+" || is_number(text) {
        Ok(Matcher::Prefix(text.to_owned()))
    } else {
        Err(format!("{text:?} is no prefix: write digits as after [numbering], such as +44"))
    }
}

fn pattern_matcher(text: &str) -> Result<Matcher, String> {
    text.parse::<Pattern>().map(|pattern| Matcher::Pattern(pattern, text.to_owned()))
}

/// An expression is for the whole number, and bounded in size: it is matched on every call.
fn regex_matcher(text: &str) -> Result<Matcher, String> {
    RegexBuilder::new(&format!("^(?:{text})$"))
        .size_limit(1 << 20)
        .build()
        .map(|regex| Matcher::Regex(regex, text.to_owned()))
        .map_err(|error| {
            let last = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
            format!("{text:?} is no regular expression: {last}")
        })
}

fn did_matcher(text: &str) -> Result<Matcher, String> {
    match text {
        "any" => Ok(Matcher::Any),
        text if is_number(text) || is_name(text) && text.parse::<Pattern>().is_err() => {
            Ok(Matcher::Number(text.to_owned()))
        }
        text => pattern_matcher(text),
    }
}

fn patterns(reader: &mut Reader<'_>, section: Section<'_>, key: &str) -> Vec<Pattern> {
    let texts = reader.strings(section, key);
    texts.iter().filter_map(|text| or_error(reader, text, text.value.parse())).collect()
}

/// A text of digits, of a length within limits.
fn digits(reader: &mut Reader<'_>, section: Section<'_>, key: &str, most: usize) -> Option<String> {
    let text = reader.string(section, key)?;
    if text.value.len() <= most && text.value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.value);
    }
    reader.error(text.at, format!("`{key}` is at most {most} digits"));
    None
}

fn numbering(reader: &mut Reader<'_>, section: Section<'_>) -> Numbering {
    let known = ["country", "national", "international", "area", "subscriber", "extensions", "emergency", "short"];
    reader.check_keys(section, "[numbering]", &known, &[]);
    let country = digits(reader, section, "country", 3).filter(|country| !country.is_empty());
    let mut international = Vec::new();
    for text in reader.strings(section, "international") {
        if text.value == "+" || (1..=5).contains(&text.value.len()) && text.value.bytes().all(|b| b.is_ascii_digit()) {
            international.push(text.value);
        } else {
            reader.error(text.at, "`international` has prefixes such as \"00\" and \"+\"");
        }
    }
    let mut emergency = Vec::new();
    for text in reader.strings(section, "emergency") {
        if text.value.bytes().all(|b| b.is_ascii_digit()) && (2..=6).contains(&text.value.len()) {
            emergency.push(text.value);
        } else {
            reader.error(text.at, "`emergency` has numbers such as \"112\"");
        }
    }
    let needs_country = ["national", "area", "subscriber"].into_iter().find(|key| Reader::has(section, key));
    if let (None, Some(key)) = (&country, needs_country) {
        reader.error(section.at, format!("`{key}` needs `country`"));
    }
    Numbering {
        country,
        national: digits(reader, section, "national", 5),
        international,
        area: digits(reader, section, "area", 6).unwrap_or_default(),
        subscriber: patterns(reader, section, "subscriber"),
        extensions: patterns(reader, section, "extensions"),
        emergency,
        short: patterns(reader, section, "short"),
    }
}

const CALLER_ID_KEYS: [&str; 3] = ["present", "fallback", "allowed"];
const CALLER_ID_LATER: [&str; 3] = ["sticky", "pool", "headers"];

fn caller_id(reader: &mut Reader<'_>, section: Section<'_>) -> CallerIdKeys {
    let present = reader.string(section, "present").and_then(|text| match text.value.as_str() {
        "user" => Some(Present::User),
        ANONYMOUS => Some(Present::Anonymous),
        number if is_number(number) => Some(Present::Number(number.to_owned())),
        _ => {
            reader.error(text.at, "`present` is \"user\", \"anonymous\" or a number such as \"+442079460100\"");
            None
        }
    });
    let fallback = reader.string(section, "fallback").and_then(|text| {
        if is_number(&text.value) || text.value == ANONYMOUS {
            return Some(text.value);
        }
        reader.error(text.at, "`fallback` is a number such as \"+442079460100\", or \"anonymous\"");
        None
    });
    let allowed = Reader::has(section, "allowed").then(|| {
        let texts = reader.strings(section, "allowed");
        texts.iter().filter_map(|text| or_error(reader, text, did_matcher(&text.value))).collect()
    });
    CallerIdKeys { present, fallback, allowed }
}

fn dial_action(reader: &mut Reader<'_>, section: Section<'_>, target: Target, matchers: &[Matcher]) -> DialAction {
    let caller_id = reader.section(section, "caller_id").map(|keys| {
        reader.check_keys(keys, "`caller_id`", &CALLER_ID_KEYS, &CALLER_ID_LATER);
        caller_id(reader, keys)
    });
    let limits = reader.string(section, "limits");
    if let Some(limits) = limits.as_ref().filter(|limits| limits.value != "none") {
        reader.error(limits.at, "`limits` of a rule can only be \"none\": the plan's limits do not hold for it");
    }
    DialAction {
        to: template(reader, section, "to", matchers),
        target,
        ring_for: reader.duration(section, "ring_for"),
        longest: reader.duration(section, "longest_call"),
        unlimited: limits.is_some(),
        caller_id: caller_id.unwrap_or_default(),
    }
}

fn template(reader: &mut Reader<'_>, section: Section<'_>, key: &str, matchers: &[Matcher]) -> Option<Template> {
    let text = reader.string(section, key)?;
    checked_template(reader, &text, matchers)
}

fn checked_template(reader: &mut Reader<'_>, text: &Text, matchers: &[Matcher]) -> Option<Template> {
    let template = or_error(reader, text, text.value.parse::<Template>())?;
    if let Some(place) = template.unknown_place(matchers) {
        reader.error(
            text.at,
            format!("{{{place}}} means nothing here; known are {{number}}, {{digits}} and groups of the rule's regex"),
        );
    }
    Some(template)
}

fn reject(reader: &mut Reader<'_>, section: Section<'_>) -> Option<Reject> {
    let keys = reader.section(section, "reject")?;
    reader.check_keys(keys, "`reject`", &["code", "reason"], &["announce"]);
    let code = reader.integer(keys, "code", 400..=699).and_then(|code| u16::try_from(code).ok());
    if code.is_none() && !Reader::has(keys, "code") {
        reader.error(keys.at, "`reject` needs a `code`, such as reject = { code = 403, reason = \"...\" }");
    }
    let reason = reader.string(keys, "reason").map(|text| {
        if text.value.is_empty() || text.value.chars().count() > 120 || text.value.chars().any(char::is_control) {
            reader.error(text.at, "a `reason` has 1 to 120 printable characters");
        }
        text.value
    });
    Some(Reject { code: code.unwrap_or(403), reason: reason.unwrap_or_else(|| "Refused by the dial plan".to_owned()) })
}

/// `user = "..."` or `ring = { users = [..], how = "all", for = "25s" }`.
fn ring(reader: &mut Reader<'_>, section: Section<'_>) -> Option<InAction> {
    if let Some(user) = template(reader, section, "user", &[Matcher::Any]) {
        return Some(InAction::Ring { users: vec![user], ring_for: RING_FOR });
    }
    let keys = reader.section(section, "ring")?;
    reader.check_keys(keys, "`ring`", &["users", "how", "for"], &["group"]);
    if let Some(how) = reader.string(keys, "how").filter(|how| how.value != "all") {
        reader.error(how.at, format!("`how = \"{}\"` is not supported yet; \"all\" rings all at once", how.value));
    }
    if !Reader::has(keys, "users") {
        reader.error(keys.at, "`ring` needs `users`");
    }
    let texts = reader.strings(keys, "users");
    let users = texts.iter().filter_map(|text| checked_template(reader, text, &[Matcher::Any])).collect();
    let ring_for = reader.duration(keys, "for").unwrap_or(RING_FOR);
    Some(InAction::Ring { users, ring_for })
}

fn expectation(reader: &mut Reader<'_>, section: Section<'_>) -> Expect {
    let known = ["rule", "to", "from", "trunks", "target_user", "target_users", "refused", "reason"];
    reader.check_keys(section, "`expect`", &known, &[]);
    let mut string = |key: &str| reader.string(section, key).map(|text| text.value);
    let (rule, to, from, reason) = (string("rule"), string("to"), string("from"), string("reason"));
    let mut list = |key: &str| {
        Reader::has(section, key).then(|| reader.strings(section, key).into_iter().map(|text| text.value).collect())
    };
    let (trunks, one, several) = (list("trunks"), list("target_user"), list("target_users"));
    let refused = reader.integer(section, "refused", 400..=699).and_then(|code| u16::try_from(code).ok());
    Expect { rule, to, from, trunks, target_users: several.or(one), refused, reason }
}
