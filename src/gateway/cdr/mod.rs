//! Call detail records: each is written to every place that `[cdr]` names, by a thread of that place.
//!
//! What cannot be written waits, in order and within bounds, until it can be: a full disk or a dead database costs no record
//! while there is room, and past that each stands in the log. Until every place has a record the journal has it.

mod lane;
mod left;
mod lines;
mod postgres;
mod postgres_tls;
mod row;
mod sqlite;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::join_all;

use self::lane::{Bounds, Lane, Sink, Turn};
use self::left::Left;
use self::lines::Lines;
use self::postgres::Postgres;
pub(super) use self::postgres::ask as ask_postgres;
use self::row::Record;
use self::sqlite::Sqlite;
use super::GatewayError;
use super::journal::Receipt;
use crate::call::Cdr;
use crate::config::{CdrConfig, CdrLines};
use crate::switch::CdrStatus;

/// The places of a configuration, open; nothing is written there yet.
pub(super) struct Prepared {
    sinks: Vec<(&'static str, Box<dyn Sink>)>,
    bounds: Bounds,
    waiting: Option<PathBuf>,
}

impl Prepared {
    /// Opens what records go to: a disk may take its time. A file is opened anew even where it is in use: it may have been
    /// moved away. A database on another machine is connected later, by the first record.
    pub(super) fn open(config: &CdrConfig) -> Result<Prepared, GatewayError> {
        let mut sinks: Vec<(&'static str, Box<dyn Sink>)> = Vec::new();
        if let Some(lines) = &config.lines {
            let path = match lines {
                CdrLines::Stdout => "(standard output)".into(),
                CdrLines::File(path) => path.clone(),
            };
            let open = Lines::open(lines).map_err(|source| GatewayError::Cdr { path, source })?;
            sinks.push(("file", Box::new(open)));
        }
        if let Some(path) = &config.sqlite {
            let wrong = |error| GatewayError::Cdr { path: path.clone(), source: std::io::Error::other(error) };
            sinks.push(("sqlite", Box::new(Sqlite::open(path).map_err(wrong)?)));
        }
        if let Some(postgres) = &config.postgres {
            sinks.push(("postgres", Box::new(Postgres::new(postgres.clone()))));
        }
        let bounds = Bounds { queue: config.queue, keep: config.keep };
        Ok(Prepared { sinks, bounds, waiting: config.waiting.clone() })
    }
}

/// The driver's side. [`Records::finish`] writes what waits and joins the threads.
pub(super) struct Records {
    lanes: Vec<Lane>,
    /// When the next lane of a kind may begin: those that are gone may still be writing.
    turns: HashMap<&'static str, Turn>,
}

impl Records {
    /// Starts a thread for each place.
    pub(super) fn start(prepared: Prepared) -> Result<Records, GatewayError> {
        let mut records = Records { lanes: Vec::new(), turns: HashMap::new() };
        records.reload(prepared).map(drop).map_err(|source| GatewayError::Cdr { path: "(thread)".into(), source })?;
        Ok(records)
    }

    /// Takes other places. What waits for one that stays, or for one of its kind, waits for the new one; gives those that
    /// are gone, to be finished.
    pub(super) fn reload(&mut self, prepared: Prepared) -> std::io::Result<Records> {
        let Prepared { sinks, bounds, waiting } = prepared;
        let is_known = |name: &str| self.lanes.iter().any(|lane| lane.name() == name);
        let (known, fresh): (Vec<_>, Vec<_>) = sinks.into_iter().partition(|(name, _)| is_known(name));
        let mut started = Vec::new();
        for (name, sink) in fresh {
            let left = Left::of(waiting.as_deref(), name);
            let before = self.turns.remove(name).filter(|turn| !turn.has_come());
            let (lane, turn) = Lane::start(name, sink, bounds, left, before)?;
            self.turns.insert(name, turn);
            started.push(lane);
        }
        let mut before = std::mem::take(&mut self.lanes);
        for (name, sink) in known {
            if let Some(at) = before.iter().position(|lane| lane.name() == name) {
                let lane = before.swap_remove(at);
                lane.replace(sink, bounds, Left::of(waiting.as_deref(), name));
                self.lanes.push(lane);
            }
        }
        self.lanes.extend(started);
        Ok(Records { lanes: before, turns: HashMap::new() })
    }

    /// Writes a record to every place; `receipt` is signed when none has it to come any more.
    pub(super) fn write(&self, cdr: Cdr, json: String, receipt: Option<Receipt>) {
        self.put(Record::new(cdr, json).signed(self.lanes.len(), receipt));
    }

    /// The same of a record of an earlier run, which some of the places may have already.
    pub(super) fn write_again(&self, cdr: Cdr, receipt: Receipt) {
        if let Some(json) = json(&cdr) {
            self.put(Record::new(cdr, json).again().signed(self.lanes.len(), Some(receipt)));
        }
    }

    fn put(&self, record: Record) {
        let record = Arc::new(record);
        for lane in &self.lanes {
            lane.put(record.clone());
        }
    }

    /// How each place stands.
    pub(super) fn status(&self) -> Vec<CdrStatus> {
        self.lanes.iter().map(Lane::status).collect()
    }

    /// Writes what waits and ends the threads, all at the same time.
    pub(super) async fn finish(self) {
        join_all(self.lanes.into_iter().map(Lane::finish)).await;
    }
}

/// A record as its line.
pub(super) fn json(cdr: &Cdr) -> Option<String> {
    serde_json::to_string(cdr).inspect_err(|error| tracing::error!(%error, "a CDR cannot be written as JSON")).ok()
}
