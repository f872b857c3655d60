//! What a run has found, for a person and for a program.

use serde_json::{Value, json};

use crate::figures::{Figures, Void};
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
    pub ended: Option<String>,
    /// Calls that came and went for a long time.
    pub soak: Option<Soak>,
}

/// The most calls of which none suffered, where the end was found.
pub fn most_calls(rows: &[Figures], ended: Option<&str>) -> Option<usize> {
    let found = ended.is_some() || rows.iter().any(Figures::too_much);
    let good = rows.iter().take_while(|row| !row.too_much() && row.void != Some(Void::DriverLate));
    good.last().filter(|_| found).map(|row| row.calls)
}

impl Report {
    /// See [`most_calls`].
    pub fn most_calls(&self) -> Option<usize> {
        most_calls(&self.rows, self.ended.as_deref())
    }

    /// Whether nothing has failed.
    pub fn well(&self) -> bool {
        self.soak.as_ref().is_none_or(Soak::well)
    }

    /// For a person.
    pub fn text(&self) -> String {
        let coding = match self.coding {
            Coding::Opus => "Opus narrowband <-> PCMU",
            Coding::FullBand => "Opus full band <-> PCMU",
            Coding::Pcmu => "PCMU <-> PCMU",
        };
        let rows: String = self.rows.iter().map(Figures::text).collect();
        let ended = self.ended.as_ref().map_or_else(String::new, |why| format!("no more calls: {why}\n"));
        let most = self.most_calls().map_or_else(String::new, |calls| format!("no call suffers up to {calls}\n"));
        let soak = self.soak.as_ref().map_or_else(String::new, Soak::text);
        format!("{}, {coding}, on {}\n{rows}{ended}{most}{soak}", self.what, self.machine)
    }

    /// For a program.
    pub fn json(&self) -> Value {
        json!({
            "what": self.what,
            "coding": match self.coding { Coding::Opus => "opus", Coding::FullBand => "opus-full-band", Coding::Pcmu => "pcmu" },
            "machine": self.machine,
            "rows": self.rows,
            "most_calls": self.most_calls(),
            "ended": self.ended,
            "soak": self.soak.as_ref().map(Soak::json),
        })
    }
}
