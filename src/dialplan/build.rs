//! From the files of a plan to a [`Plan`]: every key is checked, and every mistake is told.

mod caller_id;
mod check;
mod numbering;
mod rings;
mod rows;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use regex::RegexBuilder;

use self::caller_id::{CALLER_ID_KEYS, caller_id, pool};
use self::rings::ring_action;
use super::decision::{Failover, TrunkChoice};
use super::hook::Hook;
use super::number::{Pattern, is_name, is_number};
use super::plan::{Plan, PlanError, PlanFile};
use super::reader::{Item, Reader, Section, Text, read_file};
use super::rows::TestRow;
use super::rules::{
    Ask, Class, DialAction, InAction, InRule, Matcher, Otherwise, OutAction, OutRule, Reject, Target, Template, When,
};
use super::schedule::{self, Schedule};
use super::table::{Kind, PrefixTable, price};

/// The sections that may stand once in a plan.
const SINGLE: [&str; 4] = ["plan", "numbering", "limits", "caller_id"];
const KNOWN: [&str; 10] =
    ["plan", "numbering", "limits", "caller_id", "class", "group", "schedule", "out", "in", "test"];

/// The keys of an [[out]] rule that only a call can honour.
const DIAL_ONLY: [&str; 8] = ["to", "caller_id", "ring_for", "longest_call", "limits", "failover", "ask", "then"];

/// What a web hook may take: the default, and the most.
const ASK_WITHIN: Duration = Duration::from_secs(1);
const MOST_ASK: Duration = Duration::from_secs(5);

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
    /// The tables that rules name, by file and kind.
    tables: Vec<(String, Kind, Arc<PrefixTable>)>,
    /// Which file has each of the single sections.
    singles: BTreeMap<&'static str, String>,
    /// The places of the rules, in their order.
    out_places: Vec<Place>,
    in_places: Vec<Place>,
    /// What names something that may stand in another file, to be checked when all is read.
    named: Vec<(Named, String, Place)>,
    /// Numbers of `then`, and the classes by which they are called.
    overflows: Vec<(String, Option<String>, Place)>,
    /// Where the emergency numbers stand.
    emergency_place: Option<Place>,
}

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// Of a rule, in `allow` or `deny`.
    Rule(&'static str),
    DefaultClass,
    Class,
    Schedule,
    Group,
    Pool,
    Numbering,
}

/// Reads the text of a table: the file that names it, and its name.
type ReadTable<'a> = &'a mut dyn FnMut(&str, &str) -> io::Result<String>;

/// A plan, its test rows and its tables.
type Built = (Plan, Vec<TestRow>, Vec<Arc<PrefixTable>>);

/// Builds a plan.
pub(super) fn build(files: &[PlanFile], trunks: &[String], read: ReadTable<'_>) -> Result<Built, Vec<PlanError>> {
    let mut draft = Draft { trunks, ..Draft::default() };
    draft.plan.trunks = trunks.to_vec();
    let mut errors = Vec::new();
    if files.is_empty() {
        let text = "there is no dial plan file".to_owned();
        errors.push(PlanError { file: "dial plan".to_owned(), line: 0, text });
    }
    for file in files {
        draft.file.clone_from(&file.name);
        let mut reader = Reader::new(&file.name, &file.text);
        read_file(&mut reader, |reader, root| draft.root(reader, root, read));
        errors.append(&mut reader.errors);
    }
    // What is wrong between the parts makes sense only when the parts themselves are right.
    if errors.is_empty() {
        draft.check_whole(&mut errors);
    }
    let tables = draft.tables.into_iter().map(|(_, _, table)| table).collect();
    if errors.is_empty() { Ok((draft.plan, draft.tests, tables)) } else { Err(errors) }
}

impl Draft<'_> {
    fn place(&self, reader: &Reader<'_>, at: usize) -> Place {
        Place { file: self.file.clone(), line: reader.line(at) }
    }

    /// Notes a name that is checked when all files are read.
    fn name(&mut self, reader: &Reader<'_>, kind: Named, text: &Text) {
        let place = self.place(reader, text.at);
        self.named.push((kind, text.value.clone(), place));
    }

    fn root(&mut self, reader: &mut Reader<'_>, root: Section<'_>, read: ReadTable<'_>) {
        reader.check_keys(root, "a dial plan", &KNOWN, &["guard", "anonymous"]);
        for name in SINGLE {
            let Some(section) = reader.section(root, name) else { continue };
            if let Some(other) = self.singles.insert(name, self.file.clone()) {
                reader.error(section.at, format!("[{name}] stands in {other} already; all files are one plan"));
            }
            match name {
                "plan" => self.plan_section(reader, section),
                "numbering" => self.numbering_section(reader, section),
                "limits" => {
                    let later = ["calls_at_once", "calls_per_minute", "minutes_per_day"];
                    reader.check_keys(section, "[limits]", &["longest_call"], &later);
                    self.plan.longest_call = reader.duration(section, "longest_call");
                }
                _ => self.caller_id_section(reader, section),
            }
        }
        for (name, section) in self.tables_of(reader, root, "class") {
            self.class(reader, &name, section);
        }
        for (name, section) in self.tables_of(reader, root, "group") {
            self.group(reader, &name, section);
        }
        for section in reader.sections(root, "schedule") {
            self.schedule(reader, section);
        }
        for section in reader.sections(root, "out") {
            self.out_rule(reader, section, read);
        }
        for section in reader.sections(root, "in") {
            self.in_rule(reader, section);
        }
        for section in reader.sections(root, "test") {
            self.test_row(reader, section);
        }
    }

    /// The tables of `[key.NAME]`.
    fn tables_of<'s>(&self, reader: &mut Reader<'_>, root: Section<'s>, key: &str) -> Vec<(Text, Section<'s>)> {
        reader.section(root, key).map(|tables| reader.named(tables)).unwrap_or_default()
    }

    fn plan_section(&mut self, reader: &mut Reader<'_>, section: Section<'_>) {
        reader.check_keys(section, "[plan]", &["name", "description", "default", "default_class", "zone"], &[]);
        reader.string(section, "name");
        reader.string(section, "description");
        if let Some(default) = reader.string(section, "default").filter(|default| default.value != "deny") {
            reader.error(default.at, "`default` can only be \"deny\": what no rule allows is refused");
        }
        if let Some(class) = reader.string(section, "default_class") {
            self.name(reader, Named::DefaultClass, &class);
            self.plan.default_class = Some(class.value);
        }
        if let Some(zone) = reader.string(section, "zone") {
            self.plan.zone = or_error(reader, &zone, schedule::zone(&zone.value));
        }
    }

    /// `[caller_id]`, and its pools.
    fn caller_id_section(&mut self, reader: &mut Reader<'_>, section: Section<'_>) {
        let known = ["present", "fallback", "allowed", "pool"];
        reader.check_keys(section, "[caller_id]", &known, &["sticky", "headers"]);
        self.plan.caller_id = caller_id(self, reader, section);
        for (name, section) in self.tables_of(reader, section, "pool") {
            let pool = pool(reader, &name, section);
            self.plan.pools.insert(name.value, pool);
        }
    }

    /// `caller_id = {...}` of a class or a rule.
    fn own_caller_id(&mut self, reader: &mut Reader<'_>, section: Section<'_>) -> super::caller_id::CallerIdKeys {
        let Some(keys) = reader.section(section, "caller_id") else { return Default::default() };
        reader.check_keys(keys, "`caller_id`", &CALLER_ID_KEYS, &["sticky", "headers"]);
        caller_id(self, reader, keys)
    }

    fn class(&mut self, reader: &mut Reader<'_>, name: &Text, section: Section<'_>) {
        let known = ["allow", "deny", "numbering", "caller_id", "longest_call", "transfer"];
        let later = ["limits", "dtmf", "hold"];
        reader.check_keys(section, &format!("[class.{}]", name.value), &known, &later);
        let mut rules = |draft: &mut Self, key: &'static str| -> Vec<String> {
            let rules = reader.strings(section, key);
            for rule in rules.iter().filter(|rule| rule.value != "*") {
                draft.name(reader, Named::Rule(key), rule);
            }
            rules.into_iter().map(|rule| rule.value).collect()
        };
        let (allow, deny) = (rules(self, "allow"), rules(self, "deny"));
        let numbering = reader.string(section, "numbering");
        if let Some(numbering) = &numbering {
            self.name(reader, Named::Numbering, numbering);
        }
        let class = Class {
            allow,
            deny,
            numbering: numbering.map(|name| name.value),
            longest: reader.duration(section, "longest_call"),
            caller_id: self.own_caller_id(reader, section),
            transfer: reader.boolean(section, "transfer").unwrap_or(true),
        };
        if self.plan.classes.insert(name.value.clone(), class).is_some() {
            reader.error(name.at, format!("the class `{}` stands in another file already", name.value));
        }
    }

    fn group(&mut self, reader: &mut Reader<'_>, name: &Text, section: Section<'_>) {
        reader.check_keys(section, &format!("[group.{}]", name.value), &["users"], &[]);
        let users = reader.strings(section, "users");
        if users.is_empty() && !Reader::has(section, "users") {
            reader.error(name.at, format!("the group `{}` needs `users`", name.value));
        }
        for user in users.iter().filter(|user| !is_name(&user.value) && !is_number(&user.value)) {
            reader.error(user.at, format!("{:?} is no user's name", user.value));
        }
        let users = users.into_iter().map(|user| user.value).collect();
        if self.plan.groups.insert(name.value.clone(), users).is_some() {
            reader.error(name.at, format!("the group `{}` stands in another file already", name.value));
        }
    }

    fn schedule(&mut self, reader: &mut Reader<'_>, section: Section<'_>) {
        reader.check_keys(section, "[[schedule]]", &["name", "zone", "open", "closed", "special"], &[]);
        let Some(name) = rule_name(reader, section, "[[schedule]]") else { return };
        let zone = reader.string(section, "zone");
        if !Reader::has(section, "zone") || !Reader::has(section, "open") {
            reader.error(section.at, format!("the schedule `{}` needs `zone` and `open`", name.value));
        }
        let zone = zone.and_then(|zone| or_error(reader, &zone, schedule::zone(&zone.value)));
        // Only the special days, if the list is empty.
        let never = reader.is_empty_list(section, "open");
        let open = if never { Vec::new() } else { parsed(reader, section, "open", str::parse) };
        let closed = parsed(reader, section, "closed", str::parse);
        let special = parsed(reader, section, "special", schedule::special);
        let Some(zone) = zone else { return };
        let schedule = Schedule { zone, open, closed, special };
        if self.plan.schedules.insert(name.value.clone(), schedule).is_some() {
            reader.error(name.at, format!("two schedules have the name `{}`", name.value));
        }
    }

    /// `when`: schedules by name, or with a `not ` before it.
    fn when(&mut self, reader: &mut Reader<'_>, section: Section<'_>) -> When {
        let mut when = When::default();
        for text in reader.strings(section, "when") {
            let (name, closed) = match text.value.strip_prefix("not ") {
                Some(name) => (name.trim().to_owned(), true),
                None => (text.value.clone(), false),
            };
            self.name(reader, Named::Schedule, &Text { value: name.clone(), at: text.at });
            when.any.push((name, closed));
        }
        when
    }

    fn out_rule(&mut self, reader: &mut Reader<'_>, section: Section<'_>, read: ReadTable<'_>) {
        let known = [
            "name",
            "number",
            "prefix",
            "pattern",
            "regex",
            "prefix_file",
            "when",
            "tiers",
            "least_cost",
            "user",
            "ring",
            "then",
            "to",
            "reject",
            "caller_id",
            "ring_for",
            "longest_call",
            "limits",
            "failover",
            "ask",
        ];
        reader.check_keys(section, "[[out]]", &known, &["media", "headers", "announce"]);
        let Some(name) = rule_name(reader, section, "[[out]]") else { return };
        let matchers = self.out_matchers(reader, section, read);
        let when = self.when(reader, section);
        let reject = reject(reader, section);
        let target = self.target(reader, section, &matchers, read);
        let actions = ["tiers", "least_cost", "user", "ring", "reject"];
        if actions.into_iter().filter(|key| Reader::has(section, key)).count() != 1 {
            let text = format!(
                "rule `{}` needs exactly one of `tiers`, `least_cost`, `user`, `ring` and `reject`",
                name.value
            );
            return reader.error(section.at, text);
        }
        let action = match (target, reject) {
            (Some(target), None) => {
                let rings = matches!(target, Target::Ring(_));
                let beside = if Reader::has(section, "user") { "user" } else { "ring" };
                for key in ["to", "failover"].into_iter().filter(|key| rings && Reader::has(section, key)) {
                    reader
                        .error(section.at, format!("`{key}` means nothing beside `{beside}` (rule `{}`)", name.value));
                }
                if !rings && Reader::has(section, "then") {
                    let text = format!("`then` means nothing without `user` or `ring` (rule `{}`)", name.value);
                    reader.error(section.at, text);
                }
                OutAction::Dial(self.dial_action(reader, section, target, &matchers))
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
        self.plan.out_rules.push(OutRule { name: name.value, matchers, when, action });
    }

    /// Whom the rule calls.
    fn target(
        &mut self,
        reader: &mut Reader<'_>,
        section: Section<'_>,
        matchers: &[Matcher],
        read: ReadTable<'_>,
    ) -> Option<Target> {
        if Reader::has(section, "tiers") {
            return self.tiers(reader, section).map(Target::Tiers);
        }
        if Reader::has(section, "least_cost") {
            return self.least_cost(reader, section, read);
        }
        let ring = ring_action(self, reader, section, matchers);
        ring.map(|mut ring| {
            if let Some(ring_for) = reader.duration(section, "ring_for") {
                ring.first.ring_for = ring_for;
            }
            Target::Ring(ring)
        })
    }

    /// `least_cost = "rates.csv"`, or `{ file = "rates.csv", at_most = "0.05" }`.
    fn least_cost(&mut self, reader: &mut Reader<'_>, section: Section<'_>, read: ReadTable<'_>) -> Option<Target> {
        if let Some(keys) = reader.section_or_string(section, "least_cost") {
            reader.check_keys(keys, "`least_cost`", &["file", "at_most"], &[]);
            let at_most = reader.string(keys, "at_most").and_then(|text| {
                let wrong = || format!("{:?} is no price such as \"0.05\"", text.value);
                or_error(reader, &text, price(&text.value).ok_or_else(wrong))
            });
            let Some(file) = reader.string(keys, "file") else {
                reader.error(keys.at, "`least_cost` needs a `file`");
                return None;
            };
            return Some(Target::LeastCost { table: self.table(reader, &file, Kind::Rates, read)?, at_most });
        }
        let file = reader.string(section, "least_cost")?;
        Some(Target::LeastCost { table: self.table(reader, &file, Kind::Rates, read)?, at_most: None })
    }

    /// A table that a rule names; one that several rules name is read once.
    fn table(
        &mut self,
        reader: &mut Reader<'_>,
        name: &Text,
        kind: Kind,
        read: ReadTable<'_>,
    ) -> Option<Arc<PrefixTable>> {
        // The files of a plan stand in one folder: one name is one table.
        if let Some((.., table)) = self.tables.iter().find(|(known, of, _)| *known == name.value && *of == kind) {
            return Some(table.clone());
        }
        let text = match read(&self.file, &name.value) {
            Ok(text) => text,
            Err(why) => {
                reader.error(name.at, format!("{:?} cannot be read: {why}", name.value));
                return None;
            }
        };
        match PrefixTable::read(&name.value, &beside(&self.file, &name.value), &text, kind, self.trunks) {
            Ok(table) => {
                let table = Arc::new(table);
                self.tables.push((name.value.clone(), kind, table.clone()));
                Some(table)
            }
            Err(mut errors) => {
                reader.errors.append(&mut errors);
                None
            }
        }
    }

    fn out_matchers(&mut self, reader: &mut Reader<'_>, section: Section<'_>, read: ReadTable<'_>) -> Vec<Matcher> {
        let mut matchers = Vec::new();
        let kinds = ["number", "prefix", "pattern", "regex", "prefix_file"];
        if kinds.iter().filter(|kind| Reader::has(section, kind)).count() != 1 {
            reader.error(
                section.at,
                "a rule has exactly one of `number`, `prefix`, `pattern`, `regex` and `prefix_file`",
            );
            return matchers;
        }
        matchers.extend(parsed(reader, section, "number", number_matcher));
        matchers.extend(parsed(reader, section, "prefix", prefix_matcher));
        matchers.extend(parsed(reader, section, "pattern", pattern_matcher));
        matchers.extend(parsed(reader, section, "regex", regex_matcher));
        for file in reader.strings(section, "prefix_file") {
            matchers.extend(self.table(reader, &file, Kind::Names, read).map(Matcher::Table));
        }
        matchers
    }

    fn dial_action(
        &mut self,
        reader: &mut Reader<'_>,
        section: Section<'_>,
        target: Target,
        matchers: &[Matcher],
    ) -> DialAction {
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
            caller_id: self.own_caller_id(reader, section),
            failover: failover(reader, section),
            ask: ask(reader, section),
        }
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
        let known = ["name", "did", "trunk", "from", "when", "user", "ring", "then", "reject", "ask"];
        reader.check_keys(section, "[[in]]", &known, &["announce"]);
        let Some(name) = rule_name(reader, section, "[[in]]") else { return };
        if !Reader::has(section, "did") {
            reader.error(section.at, format!("rule `{}` needs `did`: a number, a pattern or \"any\"", name.value));
        }
        let matchers = parsed(reader, section, "did", did_matcher);
        let from = parsed(reader, section, "from", did_matcher);
        let when = self.when(reader, section);
        let trunks = reader.strings(section, "trunk");
        for trunk in &trunks {
            self.check_trunk(reader, trunk);
        }
        let trunks = trunks.into_iter().map(|trunk| trunk.value).collect();
        let actions = ["user", "ring", "reject"];
        if actions.iter().filter(|action| Reader::has(section, action)).count() != 1 {
            reader.error(section.at, format!("rule `{}` needs exactly one of `user`, `ring` and `reject`", name.value));
            return;
        }
        let action = match reject(reader, section) {
            Some(reject) => {
                for key in ["then", "ask"].into_iter().filter(|key| Reader::has(section, key)) {
                    reader.error(section.at, format!("`{key}` means nothing beside `reject` (rule `{}`)", name.value));
                }
                InAction::Reject(reject)
            }
            None => match ring_action(self, reader, section, &[Matcher::Any]) {
                Some(action) => InAction::Ring(action),
                None => return,
            },
        };
        let ask = ask(reader, section);
        self.in_places.push(self.place(reader, name.at));
        self.plan.in_rules.push(InRule { name: name.value, matchers, when, trunks, from, action, ask });
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

/// The texts of a key, each parsed; those that cannot be are told.
fn parsed<T>(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    key: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let texts = reader.strings(section, key);
    texts.iter().filter_map(|text| or_error(reader, text, parse(&text.value))).collect()
}

/// The name of a file beside another, for people.
fn beside(file: &str, name: &str) -> String {
    file.rsplit_once('/').map_or_else(|| name.to_owned(), |(folder, _)| format!("{folder}/{name}"))
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

/// `failover = { on = ["timeout", "5xx"], after = "4s" }`.
fn failover(reader: &mut Reader<'_>, section: Section<'_>) -> Failover {
    let mut failover = Failover::default();
    let Some(keys) = reader.section(section, "failover") else { return failover };
    reader.check_keys(keys, "`failover`", &["on", "after"], &[]);
    if Reader::has(keys, "on") {
        failover.on = parsed(reader, keys, "on", str::parse);
    }
    failover.after = reader.duration(keys, "after");
    failover
}

/// `ask = { url = "http://...", within = "300ms", otherwise = "go-on" }`.
fn ask(reader: &mut Reader<'_>, section: Section<'_>) -> Option<Ask> {
    let keys = reader.section(section, "ask")?;
    reader.check_keys(keys, "`ask`", &["url", "within", "otherwise", "reject"], &[]);
    let Some(url) = reader.string(keys, "url") else {
        reader.error(keys.at, "`ask` needs a `url`");
        return None;
    };
    let host = url.value.strip_prefix("http://").or_else(|| url.value.strip_prefix("https://")).unwrap_or_default();
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}@".contains(&b);
    if host.is_empty() || host.starts_with(['/', ':']) || url.value.len() > 1024 || !url.value.bytes().all(plain) {
        reader.error(url.at, format!("{:?} is no URL such as \"https://pbx.example/route\"", url.value));
    }
    let within = reader.short_duration(keys, "within", MOST_ASK).unwrap_or(ASK_WITHIN);
    let alternative = reject(reader, keys);
    let otherwise = reader.string(keys, "otherwise");
    let otherwise = match (otherwise.as_ref().map(|text| text.value.as_str()), alternative) {
        (Some("go-on"), None) => Otherwise::GoOn,
        (Some("refuse") | None, reject) => Otherwise::Refuse(
            reject.unwrap_or_else(|| Reject { code: 503, reason: "The call could not be checked".to_owned() }),
        ),
        _ => {
            let at = otherwise.map_or(keys.at, |text| text.at);
            reader.error(at, "`otherwise` is \"refuse\" (the default, and `reject` says how) or \"go-on\"");
            return None;
        }
    };
    Some(Ask { hook: Hook { url: url.value, within }, otherwise })
}
