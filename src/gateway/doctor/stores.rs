//! The places that call records go to, and `[store]`: as the running gateway knows them, else opened or asked here. Nothing
//! is written, and no table made.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::{Finding, Running};
use crate::config::Config;
use crate::gateway::cdr;

pub(super) async fn examine(config: &Config, running: Option<&Running>) -> Vec<Finding> {
    match running {
        Some(running) => known(&running.status),
        None => asked(config).await,
    }
}

/// As the running gateway says.
fn known(status: &Value) -> Vec<Finding> {
    let mut findings: Vec<Finding> = status["cdr"].as_array().into_iter().flatten().map(place).collect();
    for (name, subject, loss) in [
        ("store", "[store] path", "what limits count stands in memory alone"),
        ("journal", "[journal] file", "calls that a crash would leave behind have neither end nor record"),
    ] {
        let Some(store) = status.get(name).filter(|store| !store.is_null()) else { continue };
        findings.push(match store["error"].as_str() {
            None => Finding::ok(subject, "is written"),
            Some(error) => {
                let text = format!("cannot be written, {loss}: {error}");
                Finding::fail(subject, text, "make room on its disk; it is tried again by itself")
            }
        });
    }
    findings
}

fn place(place: &Value) -> Finding {
    let subject = format!("[cdr] {}", place["sink"].as_str().unwrap_or("?"));
    let number = |name: &str| place[name].as_u64().unwrap_or(0);
    let (waiting, room, written, lost) = (number("waiting"), number("room"), number("written"), number("lost"));
    let remedy = "make room, or start the database; what waits is written by itself";
    match place["error"].as_str() {
        Some(error) => {
            let text = format!("takes no records, {waiting} of at most {room} wait: {error}");
            Finding::fail(subject, text, remedy)
        }
        None if lost > 0 => {
            let text = format!("{written} records written, {lost} stand in the log alone since the start");
            Finding::warn(subject, text, "`grep cdr=` in the log; [cdr] queue up if outages last longer than it holds")
        }
        None => Finding::ok(subject, format!("{written} records written since the start, {waiting} wait")),
    }
}

/// As it is seen from here.
async fn asked(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(path) = &config.cdr.sqlite {
        findings.extend(opened("[cdr] sqlite", path, "cdr"));
    }
    if let Some(postgres) = &config.cdr.postgres {
        findings.push(match cdr::ask_postgres(postgres).await {
            Ok(()) => Finding::ok("[cdr] postgres", "takes our user and answers"),
            Err(error) => {
                let remedy = "start it, or mend its URL, password or certificate; records wait until then";
                Finding::fail("[cdr] postgres", error, remedy)
            }
        });
    }
    if let Some(path) = &config.store {
        findings.extend(opened("[store] path", path, "limits"));
    }
    findings
}

/// A database that is there has our table; one that is not is made by the gateway.
fn opened(key: &str, path: &Path, table: &str) -> Option<Finding> {
    if !path.exists() {
        return None;
    }
    let subject = format!("{key} {}", path.display());
    let count: Result<i64, _> = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|database| database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)));
    Some(match count {
        Ok(rows) => Finding::ok(subject, format!("{rows} rows")),
        Err(error) => {
            Finding::warn(subject, format!("cannot be read: {error}"), "is it another program's file, or damaged?")
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn what_a_running_gateway_says_of_its_stores_is_judged() {
        let place = |waiting: u64, lost: u64, error: Option<&str>| {
            json!({"sink": "sqlite", "waiting": waiting, "room": 100,
            "written": 5, "lost": lost, "failing_since": error.map(|_| 1), "error": error})
        };
        let verdicts = |status: Value| known(&status).iter().map(|found| found.verdict).collect::<Vec<_>>();
        let store = |error: Option<&str>| json!({"failing_since": error.map(|_| 1), "error": error});
        assert_eq!(verdicts(json!({"cdr": [place(0, 0, None)], "store": null})), [Verdict::Ok]);
        let bad = json!({"cdr": [place(3, 0, Some("full")), place(0, 2, None)], "store": store(Some("full"))});
        assert_eq!(verdicts(bad), [Verdict::Fail, Verdict::Warn, Verdict::Fail]);
        assert_eq!(verdicts(json!({"cdr": [], "store": store(None)})), [Verdict::Ok]);
        assert_eq!(verdicts(json!({"cdr": [], "store": null, "journal": store(Some("full"))})), [Verdict::Fail]);
        assert!(known(&json!({"error": "busy"})).is_empty());
    }

    #[test]
    fn a_database_that_is_none_is_told_and_one_that_is_to_be_made_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cdr.sqlite");
        assert_eq!(opened("[cdr] sqlite", &path, "cdr"), None);
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE cdr (call TEXT)").unwrap();
        assert_eq!(opened("[cdr] sqlite", &path, "cdr").unwrap().verdict, Verdict::Ok);
        assert_eq!(opened("[store] path", &path, "limits").unwrap().verdict, Verdict::Warn);
        std::fs::write(&path, "no database at all, and long enough to be looked at: ".repeat(30)).unwrap();
        assert_eq!(opened("[cdr] sqlite", &path, "cdr").unwrap().verdict, Verdict::Warn);
    }
}
