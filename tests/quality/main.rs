//! How it sounds: real speech through calls over bad networks, recorded as the far end plays it, by RTP timestamp.
//!
//! The program makes sound files and a list of them; `score.py` compares them with what was said. `tests/quality/bench`
//! and `tests/quality/run` call both.
//!
//! ```text
//! cargo test --test quality -- bench --speech FOLDER --out FOLDER [--rows up-3,down] [--clips 5] [--seed 1]
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs)]

mod bench;
mod ends;
mod network;
mod rows;
#[allow(dead_code, unused_imports)] // the suites of real peers use the rest
#[path = "../peer/rtp.rs"]
mod rtp;
mod speech;

use std::collections::HashMap;
use std::path::PathBuf;

use rows::Row;

/// What was asked for.
struct Options {
    speech: PathBuf,
    out: PathBuf,
    /// Only rows whose names begin with one of these; all when empty.
    rows: Vec<String>,
    clips: usize,
    seed: u64,
}

fn main() {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let mut options = HashMap::new();
    while let Some(name) = words.next() {
        options.insert(name, words.next().expect("a value for each option"));
    }
    let mut take = |name: &str| options.remove(name);
    let options = Options {
        speech: take("--speech").expect("--speech FOLDER").into(),
        out: take("--out").expect("--out FOLDER").into(),
        rows: take("--rows").map(|rows| rows.split(',').map(str::to_owned).collect()).unwrap_or_default(),
        clips: take("--clips").map_or(15, |clips| clips.parse().expect("a number of clips")),
        seed: take("--seed").map_or(1, |seed| seed.parse().expect("a seed")),
    };
    std::fs::create_dir_all(&options.out).expect("a folder");
    match command.as_str() {
        "bench" => run_bench(&options),
        other => panic!("no command {other:?}: bench"),
    }
}

fn run_bench(options: &Options) {
    let script = speech::Script::read(&options.speech, options.clips);
    let wanted = |row: &&Row| options.rows.is_empty() || options.rows.iter().any(|name| row.name.starts_with(name));
    let rows = rows::all();
    let rows: Vec<&Row> = rows.iter().filter(wanted).collect();
    assert!(!rows.is_empty(), "no row of that name; there are: {}", names().join(" "));
    // Two at a time: each is one thread, and no clock is looked at.
    let list: Vec<serde_json::Value> = std::thread::scope(|scope| {
        let halves = rows.chunks(rows.len().div_ceil(2));
        let threads: Vec<_> = halves
            .map(|rows| {
                scope.spawn(|| rows.iter().flat_map(|row| bench::run(row, &script, options)).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a bench that ends well")).collect()
    });
    let list = serde_json::to_string_pretty(&list).expect("JSON");
    std::fs::write(options.out.join("recordings.json"), list).expect("a list of the recordings");
}

fn names() -> Vec<String> {
    rows::all().into_iter().map(|row| row.name).collect()
}
