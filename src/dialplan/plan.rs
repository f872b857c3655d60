//! A loaded dial plan.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::build;
use super::caller_id::{CallerIdKeys, Pool};
use super::number::Numbering;
use super::rows;
use super::rules::{Class, InRule, OutRule};
use super::schedule::{self, Schedule};
use super::table::PrefixTable;

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
    /// The numberings that classes have by name.
    pub(super) numberings: BTreeMap<String, Numbering>,
    pub(super) zone: Option<TimeZone>,
    pub(super) schedules: BTreeMap<String, Schedule>,
    pub(super) longest_call: Option<Duration>,
    pub(super) default_class: Option<String>,
    pub(super) classes: BTreeMap<String, Class>,
    pub(super) caller_id: CallerIdKeys,
    pub(super) pools: BTreeMap<String, Pool>,
    pub(super) groups: BTreeMap<String, Vec<String>>,
    pub(super) out_rules: Vec<OutRule>,
    pub(super) in_rules: Vec<InRule>,
    /// The trunks of the configuration.
    pub(super) trunks: Vec<String>,
    summary: Summary,
}

/// How much there is in a plan, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rules for calls of users and of trunks.
    pub rules: (usize, usize),
    /// Schedules.
    pub schedules: usize,
    /// Prefix tables: name, prefixes, bytes of memory.
    pub tables: Vec<(String, usize, usize)>,
    /// `[[test]]` rows, all of which passed.
    pub tests: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((out, inward), schedules, tests) = (self.rules, self.schedules, self.tests);
        write!(
            f,
            "dial plan: {out} [[out]] rules, {inward} [[in]] rules, {schedules} schedules, {tests} tests passed"
        )?;
        for (name, prefixes, bytes) in &self.tables {
            write!(f, "\n  {name}: {prefixes} prefixes, {} KiB", bytes.div_ceil(1024))?;
        }
        Ok(())
    }
}

impl Plan {
    /// Reads a plan from its files, which together are one plan, and runs its `[[test]]` rows. `trunks` are the names
    /// of the trunks that the configuration has. A plan that names tables needs [`Plan::load_with`].
    ///
    /// # Errors
    /// All that is wrong, with file and line; a plan with one failing test is not taken.
    pub fn load(files: &[PlanFile], trunks: &[String]) -> Result<Plan, Vec<PlanError>> {
        Plan::load_with(files, trunks, &mut |_, _| Err(io::ErrorKind::NotFound.into()))
    }

    /// Reads a plan as [`Plan::load`] does. `read` gives the text of a table: it is told the file that names the table,
    /// and the name.
    ///
    /// # Errors
    /// All that is wrong, with file and line; a plan with one failing test is not taken.
    pub fn load_with(
        files: &[PlanFile],
        trunks: &[String],
        read: &mut dyn FnMut(&str, &str) -> io::Result<String>,
    ) -> Result<Plan, Vec<PlanError>> {
        let (mut plan, tests, tables) = build::build(files, trunks, read)?;
        let failures: Vec<PlanError> = tests.iter().filter_map(|row| rows::run(&plan, row)).collect();
        let table = |table: &PrefixTable| (table.name.clone(), table.len(), table.memory());
        plan.summary = Summary {
            rules: (plan.out_rules.len(), plan.in_rules.len()),
            schedules: plan.schedules.len(),
            tables: tables.iter().map(|found| table(found)).collect(),
            tests: tests.len(),
        };
        if failures.is_empty() { Ok(plan) } else { Err(failures) }
    }

    /// How much there is in it.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The clocks by which moments are told: the plan's `zone`, else that of its schedules if they have one, else UTC.
    pub(super) fn clocks(&self) -> TimeZone {
        let mut zones = self.schedules.values().map(|schedule| &schedule.zone);
        let only = zones.next().filter(|first| zones.all(|zone| zone == *first));
        self.zone.as_ref().or(only).cloned().unwrap_or(TimeZone::UTC)
    }

    /// A moment as people write it, by the plan's clocks: `2026-11-20 10:00`, or `2026-11-20T10:00:00Z`. Seconds since
    /// 1970.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub fn moment(&self, text: &str) -> Result<i64, String> {
        schedule::moment(text, &self.clocks())
    }
}

#[cfg(test)]
mod tests;
