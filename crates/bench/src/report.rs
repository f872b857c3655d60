//! What a run has found, for a person and for a program.

use serde_json::{Value, json};

use crate::figures::Figures;
use crate::soak::Soak;
use crate::sound::Coding;

/// What a run has found.
#[derive(Debug)]
pub struct Report {
    /// What was measured: `ringback` or `rtpengine`.
    pub what: &'static str,
    /// How the browsers spoke.
    pub coding: Coding,
    /// The machine.
    pub machine: String,
    /// One for each number of calls.
    pub rows: Vec<Figures>,
    /// What ended the search for the most calls, when it was not that calls suffered.
    pub ended: Option<End>,
    /// Calls that came and went for a long time.
    pub soak: Option<Soak>,
    /// What has failed beside what was measured, such as a call that had ended by itself.
    pub faults: Vec<String>,
}

/// What ended a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// In words.
    pub why: String,
    /// The gateway takes no more calls, or the machine's driver cannot make more: what was looked for is found.
    pub is_found: bool,
}

/// The most calls of which none suffered, where the end was found. What is void says nothing of it.
pub fn most_calls(rows: &[Figures], ended: Option<&End>) -> Option<usize> {
    let found = ended.is_some_and(|end| end.is_found) || rows.iter().any(Figures::too_much);
    let good = rows.iter().take_while(|row| !row.too_much()).filter(|row| row.void.is_none());
    good.last().filter(|_| found).map(|row| row.calls)
}

impl Report {
    /// See [`most_calls`].
    pub fn most_calls(&self) -> Option<usize> {
        most_calls(&self.rows, self.ended.as_ref())
    }

    /// Whether nothing has failed.
    pub fn well(&self) -> bool {
        self.faults.is_empty() && self.soak.as_ref().is_none_or(Soak::well)
    }

    /// For a person.
    pub fn text(&self) -> String {
        let coding = match self.coding {
            Coding::Opus => "Opus narrowband <-> PCMU",
            Coding::FullBand => "Opus full band <-> PCMU",
            Coding::Pcmu => "PCMU <-> PCMU",
        };
        let rows: String = self.rows.iter().map(Figures::text).collect();
        let ended = self.ended.as_ref().map_or_else(String::new, |end| format!("no more calls: {}\n", end.why));
        let most = self.most_calls().map_or_else(String::new, |calls| format!("no call suffers up to {calls}\n"));
        let soak = self.soak.as_ref().map_or_else(String::new, Soak::text);
        let faults: String = self.faults.iter().map(|why| format!("FAILED {why}\n")).collect();
        format!("{}, {coding}, on {}\n{rows}{ended}{most}{soak}{faults}", self.what, self.machine)
    }

    /// For a program.
    pub fn json(&self) -> Value {
        json!({
            "what": self.what,
            "coding": match self.coding { Coding::Opus => "opus", Coding::FullBand => "opus-full-band", Coding::Pcmu => "pcmu" },
            "machine": self.machine,
            "rows": self.rows,
            "most_calls": self.most_calls(),
            "ended": self.ended.as_ref().map(|end| &end.why),
            "soak": self.soak.as_ref().map(Soak::json),
            "faults": self.faults,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Void, tests::row};

    #[test]
    fn the_most_calls_are_those_of_the_last_valid_row_before_the_end() {
        let late = |calls| Figures { lateness_p99_ms: Some(50.0), ..row(calls) };
        let void = |calls, why| Figures { void: Some(why), ..row(calls) };
        let end = |is_found| End { why: "why".to_owned(), is_found };
        let rows = [row(50), row(75), void(100, Void::MachineTaken)];
        assert_eq!(most_calls(&rows, None), None, "no end was seen");
        assert_eq!(most_calls(&rows, Some(&end(false))), None, "ended by something else");
        assert_eq!(most_calls(&rows, Some(&end(true))), Some(75), "a void row is no good one");
        assert_eq!(most_calls(&[row(50), late(75), row(100)], None), Some(50), "what comes after the end has no part");
        assert_eq!(most_calls(&[row(50), void(75, Void::DriverLate)], Some(&end(true))), Some(50));
        assert_eq!(most_calls(&[void(50, Void::MachineTaken), late(75)], None), None, "no good row");
    }
}
