//! A loaded dial plan.

use std::fmt;

use super::decision::{Caller, Decision, Routed};

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
    /// The line, from 1; 0 when it is the file as a whole.
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
#[derive(Debug, Clone)]
pub struct Plan {}

impl Plan {
    /// Reads a plan from its files in order and runs its `[[test]]` rows. `trunks` are the names that it may use.
    ///
    /// # Errors
    /// All that is wrong, with file and line; a plan with one failing test is not taken.
    pub fn load(files: &[PlanFile], trunks: &[String]) -> Result<Plan, Vec<PlanError>> {
        let _ = (files, trunks);
        Ok(Plan {})
    }

    /// What happens when `caller` dials `dialled` at `unix_now` (seconds).
    pub fn route_out(&self, caller: &Caller, dialled: &str, unix_now: i64) -> Routed {
        let _ = (caller, dialled, unix_now);
        nothing()
    }

    /// What happens when `trunk` brings a call from `from` to `did` at `unix_now` (seconds).
    pub fn route_in(&self, trunk: &str, did: &str, from: &str, unix_now: i64) -> Routed {
        let _ = (trunk, did, from, unix_now);
        nothing()
    }
}

/// The rules follow; until then every call is refused.
fn nothing() -> Routed {
    let decision = Decision::Refuse { rule: None, code: 403, reason: "no rule".to_owned() };
    Routed { decision, steps: Vec::new() }
}
