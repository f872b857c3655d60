//! A call record as a row: wide columns for what one searches by and reckons with, and the whole record beside them.
//!
//! One list serves both databases; docs/operations.md has it in words.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::call::{CallId, Cdr, Direction, LegRecord, Origin, TrunkTried};
use crate::gateway::journal::Receipt;

/// A record that waits to be written.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) cdr: Cdr,
    /// All of it as JSON, one line.
    pub(super) json: String,
    /// Of an earlier run, which may have written it already.
    pub(super) again: bool,
    /// How many places are not done with it yet, and what is signed then.
    places: AtomicUsize,
    receipt: Option<Receipt>,
}

impl Record {
    pub(super) fn new(cdr: Cdr, json: String) -> Record {
        Record { cdr, json, again: false, places: AtomicUsize::new(0), receipt: None }
    }

    /// One of an earlier run.
    pub(super) fn again(self) -> Record {
        Record { again: true, ..self }
    }

    /// So many places are to be done with it before this is signed.
    pub(super) fn signed(self, places: usize, receipt: Option<Receipt>) -> Record {
        Record { places: AtomicUsize::new(places), receipt, ..self }
    }

    /// A place has it, or will never have it.
    pub(super) fn done(&self) {
        if let Some(receipt) = self.receipt.as_ref().filter(|_| self.places.fetch_sub(1, Ordering::AcqRel) == 1) {
            receipt.sign();
        }
    }
}

/// What one column holds. What there is nothing of is null.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Text(Option<String>),
    Integer(Option<i64>),
    Real(Option<f64>),
    Json(String),
}

/// A column's name and what it holds.
pub(super) type Column = (&'static str, Cell);

/// The name of the table.
pub(super) const TABLE: &str = "cdr";
/// The columns that no row is without: together they are the key, so that no call is noted twice.
pub(super) const KEY: [&str; 2] = ["call", "started_ms"];
/// Columns that have an index, besides the key.
pub(super) const INDEXED: [&str; 4] = ["started_ms", "number", "caller", "user_name"];

/// What a NUL becomes: PostgreSQL takes none.
const INSTEAD_OF_NUL: char = '\u{fffd}';

/// All columns of a record, in the order of the table.
pub(super) fn columns(record: &Record) -> Vec<Column> {
    let cdr = &record.cdr;
    // A call comes by its first trunk, and goes by the last one that was tried.
    let trunk = if cdr.direction == Direction::Inbound { cdr.trunks.first() } else { cdr.trunks.last() };
    let mut row = vec![
        ("call", text(&cdr.call)),
        ("started_ms", integer(cdr.start)),
        ("ringing_ms", maybe(cdr.ringing)),
        ("answered_ms", maybe(cdr.answer)),
        ("ended_ms", integer(cdr.end)),
        ("duration_ms", integer(cdr.end.saturating_sub(cdr.start))),
        ("talk_ms", maybe(cdr.answer.map(|answer| cdr.end.saturating_sub(answer)))),
        ("direction", text(direction(cdr.direction))),
        ("user_name", text(&cdr.user)),
        ("caller", words(cdr.from.as_deref())),
        ("dialled", text(&cdr.dialled)),
        ("number", words(cdr.number.as_deref())),
        ("sent", words(cdr.sent.as_deref())),
        ("rule", words(cdr.rule.as_deref())),
        ("trunk", words(trunk.map(|tried| tried.trunk.as_str()))),
        ("trunks", list(cdr.trunks.iter().map(tried))),
        ("cause", text(&cdr.cause)),
        ("ended_by", text(origin(cdr.by))),
        ("sip", maybe(cdr.sip)),
        ("q850", integer(cdr.q850)),
        ("reason", text(&cdr.text)),
        ("codec_a", words(cdr.codecs.a.as_deref())),
        ("codec_b", words(cdr.codecs.b.as_deref())),
        ("transfers", list(cdr.transfers.iter().map(|transfer| format!("{}={}", transfer.to, transfer.result)))),
        ("no_audio", list(cdr.no_audio.iter().map(|verdict| format!("{}:{}", verdict.from, verdict.cause)))),
    ];
    let media = cdr.media.as_ref();
    /// One side's columns, all of one beginning.
    macro_rules! leg {
        ($side:literal, $leg:expr) => {{
            let leg: Option<&LegRecord> = $leg;
            let sound = leg.map(|leg| &leg.sound);
            row.extend([
                (concat!($side, "_packets_in"), maybe(leg.map(|leg| leg.packets_in))),
                (concat!($side, "_packets_out"), maybe(leg.map(|leg| leg.packets_out))),
                (concat!($side, "_lost"), maybe(leg.map(|leg| leg.lost))),
                (concat!($side, "_jitter_ms"), maybe(leg.map(|leg| leg.jitter_ms))),
                (concat!($side, "_concealed_ms"), maybe(leg.map(|leg| leg.concealed_ms))),
                (concat!($side, "_rejected"), maybe(leg.map(|leg| leg.rejected))),
                (concat!($side, "_mos_sent"), real(sound.and_then(|sound| sound.mos_sent).map(|mos| mos.mean))),
                (concat!($side, "_mos_sent_worst"), real(sound.and_then(|sound| sound.mos_sent).map(|mos| mos.worst))),
                (concat!($side, "_mos_heard"), real(sound.and_then(|sound| sound.mos_heard).map(|mos| mos.mean))),
                (
                    concat!($side, "_mos_heard_worst"),
                    real(sound.and_then(|sound| sound.mos_heard).map(|mos| mos.worst)),
                ),
                (concat!($side, "_delay_ms"), maybe(sound.and_then(|sound| sound.delay_ms))),
                (concat!($side, "_rtt_ms"), maybe(sound.and_then(|sound| sound.rtt_ms))),
                (concat!($side, "_level_db"), Cell::Integer(sound.and_then(|sound| sound.level_db).map(i64::from))),
            ]);
        }};
    }
    leg!("a", media.map(|media| &media.a));
    leg!("b", media.map(|media| &media.b));
    row.push(("record", Cell::Json(without_nul(&record.json))));
    row
}

/// The columns by what they hold, of any row.
pub(super) fn shape() -> Vec<Column> {
    let cdr = Cdr::begin(CallId(0), Direction::Outbound, "", "", 0);
    columns(&Record::new(cdr, "{}".to_owned()))
}

fn text(value: &str) -> Cell {
    Cell::Text(Some(value.replace('\0', INSTEAD_OF_NUL.encode_utf8(&mut [0; 4]))))
}

fn words(value: Option<&str>) -> Cell {
    value.map_or(Cell::Text(None), text)
}

/// A trunk, what came of it, and why it failed: `carrier=503 congestion`.
fn tried(TrunkTried { trunk, result, cause, .. }: &TrunkTried) -> String {
    cause.as_ref().map_or_else(|| format!("{trunk}={result}"), |cause| format!("{trunk}={result} {cause}"))
}

/// Several values in one text, by commas; null where there are none.
fn list(values: impl Iterator<Item = String>) -> Cell {
    let all = values.collect::<Vec<_>>().join(",");
    if all.is_empty() { Cell::Text(None) } else { text(&all) }
}

fn integer(value: impl TryInto<i64>) -> Cell {
    Cell::Integer(Some(value.try_into().unwrap_or(i64::MAX)))
}

fn maybe(value: Option<impl TryInto<i64>>) -> Cell {
    value.map_or(Cell::Integer(None), integer)
}

/// A score as the JSON has it: 4.2 is not 4.199999809.
fn real(value: Option<f32>) -> Cell {
    Cell::Real(value.and_then(|value| value.to_string().parse().ok()))
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Browser => "browser",
        Origin::Trunk => "trunk",
        Origin::Gateway => "gateway",
        Origin::Network => "network",
    }
}

/// The same JSON with no NUL in any text of it.
fn without_nul(json: &str) -> String {
    if !json.contains("\\u0000") {
        return json.to_owned();
    }
    match serde_json::from_str::<Value>(json) {
        Ok(mut value) => {
            cleanse(&mut value);
            value.to_string()
        }
        Err(_) => json.to_owned(), // our own JSON always is
    }
}

fn cleanse(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace('\0', INSTEAD_OF_NUL.encode_utf8(&mut [0; 4])),
        Value::Array(values) => values.iter_mut().for_each(cleanse),
        Value::Object(members) => {
            *members = std::mem::take(members)
                .into_iter()
                .map(|(name, mut value)| {
                    cleanse(&mut value);
                    (name.replace('\0', INSTEAD_OF_NUL.encode_utf8(&mut [0; 4])), value)
                })
                .collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
