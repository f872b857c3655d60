#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::lane::{Bounds, Failure, Lane, Sink};
use super::left::Left;
use super::lines::Lines;
use super::row::{Record, columns, shape};
use super::sqlite::Sqlite;
use super::{Prepared, Records};
use crate::call::{CallId, Cdr, Direction};
use crate::config::CdrLines;
use crate::gateway::journal::Journal;

const BOUNDS: Bounds = Bounds { queue: 100, keep: None };

fn record(number: u64) -> Arc<Record> {
    let cdr = Cdr::begin(CallId(number), Direction::Outbound, "alice", "600", 1_000 + number);
    let json = serde_json::to_string(&cdr).unwrap();
    Arc::new(Record::new(cdr, json))
}

/// A record with something in every place.
fn whole() -> Record {
    let leg = |mos: f64| {
        json!({"packets_in": 10, "packets_out": 11, "bytes_in": 1, "bytes_out": 2, "lost": 3, "jitter_ms": 4,
            "concealed_ms": 60, "accelerated_ms": 5, "stretched_ms": 6, "rejected": 7,
            "mos_sent": {"mean": mos, "worst": 3.1}, "mos_heard": {"mean": 4.2, "worst": 1.5},
            "delay_ms": 80, "rtt_ms": 30, "level_db": -18})
    };
    let json = json!({"call": "00000000000000aa", "direction": "inbound", "user": "alice,bob", "dialled": "600",
        "number": "+4960", "sent": "0049 60", "from": "+44207", "rule": "in\u{0}side", "params": {"order\u{0}": "1\u{0}"},
        "trunks": [{"trunk": "a", "result": "503"}, {"trunk": "b", "result": "answered"}],
        "start": 1_700_000_000_123_u64, "ringing": 1_700_000_001_000_u64, "answer": 1_700_000_002_000_u64,
        "end": 1_700_000_062_500_u64, "cause": "normal", "by": "trunk", "sip": 200, "q850": 16, "text": "'; DROP TABLE cdr",
        "transfers": [{"at": 1, "by": "a", "to": "+1", "how": "refer", "result": "done"}],
        "no_audio": [{"at": 1, "from": "b", "leg": "b", "cause": "no-rtp"}],
        "codecs": {"a": "opus", "b": "PCMA"}, "media": {"a": leg(4.3), "b": leg(3.9)}});
    let cdr: Cdr = serde_json::from_value(json).unwrap();
    let json = serde_json::to_string(&cdr).unwrap();
    Record::new(cdr, json)
}

/// Fails as it is told, and remembers what it took.
#[derive(Clone, Default)]
struct Place(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    taken: Vec<String>,
    failing: bool,
    tried: usize,
    /// Never taken.
    poison: Option<String>,
}

impl Sink for Place {
    fn write(&mut self, records: &[Arc<Record>]) -> Result<usize, Failure> {
        let mut told = self.0.lock().unwrap();
        told.tried += 1;
        if told.failing {
            return Err(Failure::Later("full".into()));
        }
        if records.iter().any(|record| Some(&record.cdr.call) == told.poison.as_ref()) {
            return Err(Failure::Never("poison".into()));
        }
        told.taken.extend(records.iter().map(|record| record.cdr.call.clone()));
        Ok(records.len())
    }
}

impl Place {
    fn told<T>(&self, change: impl FnOnce(&mut Told) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn taken(&self) -> Vec<String> {
        self.told(|told| told.taken.clone())
    }
}

fn names(numbers: impl Iterator<Item = u64>) -> Vec<String> {
    numbers.map(|number| CallId(number).to_string()).collect()
}

fn start(place: &Place, bounds: Bounds, left: Left) -> Lane {
    Lane::start("test", Box::new(place.clone()), bounds, left, None).unwrap().0
}

async fn until(what: &str, there: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !there() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} does not come"));
}

#[tokio::test]
async fn what_fails_waits_in_order_and_is_written_when_the_place_takes_it_again() {
    let place = Place::default();
    place.told(|told| told.failing = true);
    let lane = start(&place, BOUNDS, Left::of(None, "test"));
    (0..10).for_each(|number| lane.put(record(number)));
    until("a second try", || place.told(|told| told.tried > 1)).await;
    let status = lane.status();
    assert_eq!((status.waiting, status.written, status.lost, status.error.as_deref()), (10, 0, 0, Some("full")));
    assert!(status.failing_since.is_some());
    place.told(|told| told.failing = false);
    until("the tenth", || lane.status().written == 10).await;
    assert_eq!(lane.status().failing_since, None);
    lane.put(record(10));
    lane.finish().await;
    assert_eq!(place.taken(), names(0..11));
}

#[tokio::test]
async fn a_full_queue_loses_the_newest_alone_and_counts_them() {
    let place = Place::default();
    place.told(|told| told.failing = true);
    let lane = start(&place, Bounds { queue: 5, keep: None }, Left::of(None, "test"));
    (0..8).for_each(|number| lane.put(record(number)));
    assert_eq!((lane.status().waiting, lane.status().lost), (5, 3));
    place.told(|told| told.failing = false);
    lane.finish().await;
    assert_eq!(place.taken(), names(0..5));
}

#[tokio::test]
async fn one_that_is_never_taken_does_not_hold_the_others() {
    let place = Place::default();
    place.told(|told| (told.failing, told.poison) = (true, Some(CallId(3).to_string())));
    let lane = start(&place, BOUNDS, Left::of(None, "test"));
    (0..8).for_each(|number| lane.put(record(number)));
    place.told(|told| told.failing = false);
    until("all of them", || lane.status().waiting == 0).await;
    assert_eq!((lane.status().written, lane.status().lost), (7, 1));
    lane.finish().await;
    assert_eq!(place.taken(), names((0..3).chain(4..8)));
}

#[tokio::test]
async fn what_waits_goes_to_the_place_that_a_reload_names() {
    let (dead, alive) = (Place::default(), Place::default());
    dead.told(|told| told.failing = true);
    let lane = start(&dead, BOUNDS, Left::of(None, "test"));
    (0..3).for_each(|number| lane.put(record(number)));
    lane.replace(Box::new(alive.clone()), BOUNDS, Left::of(None, "test"));
    lane.finish().await;
    assert_eq!((dead.taken(), alive.taken()), (Vec::new(), names(0..3)));
}

#[tokio::test]
async fn what_a_dead_place_never_took_is_written_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let left = || Left::of(Some(folder.path()), "test");
    let file = folder.path().join("test.jsonl");
    let place = Place::default();
    place.told(|told| told.failing = true);
    let lane = start(&place, BOUNDS, left());
    (0..5).for_each(|number| lane.put(record(number)));
    until("the file", || file.exists()).await; // a kill would cost none of those
    lane.finish().await;
    place.told(|told| told.failing = false);
    let lane = start(&place, BOUNDS, left());
    lane.put(record(5));
    lane.finish().await;
    assert_eq!(place.taken(), names(0..6));
    assert!(!file.exists(), "nothing waits");
}

/// Taken away and put back by two quick reloads: the second one waits for what the first has to leave, and nothing is lost.
#[tokio::test]
async fn a_place_that_is_put_back_takes_up_what_its_former_self_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let left = || Left::of(Some(folder.path()), "test");
    let place = Place::default();
    place.told(|told| told.failing = true);
    let (first, turn) = Lane::start("test", Box::new(place.clone()), BOUNDS, left(), None).unwrap();
    (0..3).for_each(|number| first.put(record(number)));
    until("a try", || place.told(|told| told.tried > 0)).await;
    let alive = Place::default();
    let (second, _next) = Lane::start("test", Box::new(alive.clone()), BOUNDS, left(), Some(turn)).unwrap();
    second.put(record(3));
    assert_eq!(second.status().written, 0, "the first has the file still");
    first.finish().await;
    until("all of them", || second.status().written == 4).await;
    second.finish().await;
    assert_eq!((place.taken(), alive.taken()), (Vec::new(), names(0..4)));
    assert!(!folder.path().join("test.jsonl").exists());
}

#[test]
fn lines_are_whole_and_one_that_a_crash_has_cut_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cdr.jsonl");
    std::fs::write(&path, "{\"call\":\"ab").unwrap();
    let mut lines = Lines::open(&CdrLines::File(path.clone())).unwrap();
    assert_eq!(lines.write(&[record(1), record(2)]), Ok(2));
    drop(Lines::open(&CdrLines::File(path.clone())).unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, format!("{{\"call\":\"ab\n{}\n{}\n", record(1).json, record(2).json));
}

/// As after a kill between the writing of a record and the journal's word on it.
#[test]
fn a_record_of_an_earlier_run_is_written_where_it_is_missing_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cdr.jsonl");
    let to = CdrLines::File(path.clone());
    assert_eq!(Lines::open(&to).unwrap().write(&[record(1), record(2)]), Ok(2));
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"call\":\"0000").unwrap();
    let again = |number| Arc::new(Arc::into_inner(record(number)).unwrap().again());
    assert_eq!(Lines::open(&to).unwrap().write(&[again(2), again(3), record(4), again(3)]), Ok(4));
    let text = std::fs::read_to_string(&path).unwrap();
    let calls: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let calls: Vec<&str> = calls.iter().map(|call| call["call"].as_str().unwrap()).collect();
    assert_eq!(calls, names(1..5));
}

/// The journal has a record until the last place is done with it.
#[tokio::test]
async fn a_record_is_struck_from_the_journal_when_every_place_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (mut journal, _) = Journal::open(&path, 1_000, Duration::from_secs(60)).unwrap();
    let (dead, alive) = (Place::default(), Place::default());
    dead.told(|told| told.failing = true);
    let sinks: Vec<(&str, Box<dyn Sink>)> = vec![("dead", Box::new(dead.clone())), ("alive", Box::new(alive.clone()))];
    let records = Records::start(Prepared { sinks, bounds: BOUNDS, waiting: None }).unwrap();
    let json = record(1).json.clone();
    let receipt = journal.record(1_000, &record(1).cdr.call, &json);
    records.write(record(1).cdr.clone(), json, Some(receipt));
    until("a try", || alive.taken().len() == 1 && dead.told(|told| told.tried > 0)).await;
    let noted = || std::fs::read_to_string(&path).unwrap();
    until("the note", || noted().contains("\"cdr\"")).await;
    assert!(!noted().contains("\"over\""), "one place has it, and the other has not");
    dead.told(|told| told.failing = false);
    until("the other's", || noted().contains("\"over\"")).await;
    records.finish().await;
    journal.finish().await;
    assert_eq!((dead.taken(), alive.taken(), noted()), (names(1..2), names(1..2), String::new()));
}

/// Every column of a row says what the JSON says.
#[test]
fn a_row_of_sqlite_is_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cdr.sqlite");
    let mut sqlite = Sqlite::open(&path).unwrap();
    let whole = Arc::new(whole());
    assert_eq!(sqlite.write(&[whole.clone(), record(7)]), Ok(2));
    assert_eq!(
        sqlite.write(std::slice::from_ref(&whole)),
        Ok(1),
        "the same once more, as after an answer that was lost"
    );
    let connection = Connection::open(&path).unwrap();
    assert_eq!(connection.query_row("SELECT count(*) FROM cdr", [], |row| row.get(0)), Ok(2));
    let select =
        "SELECT trunk, trunks, rule, duration_ms, talk_ms, a_mos_sent, b_level_db, started, record, direction, no_audio
        FROM cdr WHERE call = '00000000000000aa'";
    connection
        .query_row(select, [], |row| {
            let text = |at: usize| row.get::<_, String>(at).unwrap();
            assert_eq!((text(0), text(1), text(2)), ("a".into(), "a=503,b=answered".into(), "in\u{fffd}side".into()));
            assert_eq!((row.get(3), row.get(4)), (Ok(62_377), Ok(60_500)));
            assert_eq!((row.get(5), row.get(6)), (Ok(4.3), Ok(-18)));
            assert_eq!(text(7), "2023-11-14T22:13:20.123Z");
            let record: Value = serde_json::from_str(&text(8)).unwrap();
            assert_eq!((&record["by"], &record["params"]), (&json!("trunk"), &json!({"order\u{fffd}": "1\u{fffd}"})));
            assert_eq!((text(9), text(10)), ("inbound".into(), "b:no-rtp".into()));
            Ok(())
        })
        .unwrap();
    sqlite.forget(2_000).unwrap();
    assert_eq!(connection.query_row("SELECT count(*) FROM cdr", [], |row| row.get(0)), Ok(1), "what is old is gone");
}

/// What the guide shows is understood by the database.
#[test]
fn the_queries_of_the_guide_work() {
    let guide = include_str!("../../../docs/operations.md");
    let queries = guide.split("```sql").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cdr.sqlite");
    drop(Sqlite::open(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    let queries: Vec<&str> = queries.split(';').map(str::trim).filter(|query| !query.is_empty()).collect();
    assert_eq!(queries.len(), 2);
    for query in queries {
        let mut statement = connection.prepare(query).unwrap();
        assert!(statement.query([]).unwrap().next().unwrap().is_none(), "{query}");
    }
}

#[test]
fn a_table_of_an_earlier_version_gets_the_columns_it_does_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cdr.sqlite");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE cdr (call TEXT NOT NULL, started_ms INTEGER NOT NULL, PRIMARY KEY (call, started_ms))",
    )
    .unwrap();
    let mut sqlite = Sqlite::open(&path).unwrap();
    assert_eq!(sqlite.write(&[record(1)]), Ok(1));
    let user: String = old.query_row("SELECT user_name FROM cdr", [], |row| row.get(0)).unwrap();
    assert_eq!(user, "alice");
}

#[test]
fn every_row_has_the_same_columns_and_no_column_is_there_twice() {
    let of = |row: Vec<super::row::Column>| row.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let (shape, whole) = (of(shape()), of(columns(&whole())));
    assert_eq!(shape, whole);
    let distinct: std::collections::BTreeSet<_> = shape.iter().collect();
    assert_eq!(distinct.len(), shape.len());
}
