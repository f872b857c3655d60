//! `ringback bench` as it is typed: the gateway's program starts the driver's, which lies beside it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::process::Command;

/// One JSON document and nothing else.
#[test]
fn it_tells_what_it_found_as_json() {
    let ringback = Path::new(env!("CARGO_BIN_EXE_ringback-bench")).with_file_name("ringback");
    let words = ["bench", "--json", "--calls", "1", "--seconds", "3", "--settle", "2"];
    let told = Command::new(ringback).args(words).output().expect("the workspace's `ringback` is built");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let json: serde_json::Value = serde_json::from_slice(&told.stdout).expect("one JSON document");
    assert_eq!((&json["what"], &json["rows"][0]["calls"]), (&"ringback".into(), &1.into()), "{json:#}");
    assert!(json["rows"][0]["cpu_ms_per_call_second"].as_f64().is_some_and(|ms| ms > 0.0), "{json:#}");
}
