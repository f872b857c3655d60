//! How it sounds: real speech through calls over bad networks, recorded as the far end plays it, by RTP timestamp.
//!
//! The program makes sound files and a list of them; `score.py` compares them with what was said. `tests/quality/bench`
//! and `tests/quality/run` call both.
//!
//! ```text
//! cargo test --test quality -- talk-off /usr/share/asterisk/sounds
//! cargo test --test quality -- live  --speech FOLDER --out FOLDER [--rows up-3,down] [--clips 5] [--seed 1] [--calls 12]
//! cargo test --test quality -- bench --speech FOLDER --out FOLDER [--rows up-3,down] [--clips 5] [--seed 1]
//! cargo test --test quality -- rtpengine --at 127.0.0.1:2223 --speech FOLDER ...      as live, through another
//! cargo test --test quality -- asterisk --at 127.0.0.1:5060 --speech FOLDER ...       likewise
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs)]

mod asterisk;
mod bench;
mod description;
mod ends;
mod live;
mod middle;
mod network;
mod ng;
mod page;
#[path = "../peer/mod.rs"]
mod peer;
mod relay;
mod rows;
mod rtpengine;
mod speech;
mod talk_off;
mod trunk;

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use middle::Which;
use rows::Row;
use speech::Script;

/// What was asked for.
pub struct Options {
    speech: PathBuf,
    out: PathBuf,
    /// Only rows whose names begin with one of these; all when empty. `quick` stands for the reduced set.
    rows: Vec<String>,
    clips: usize,
    seed: u64,
    /// Calls at once.
    calls: usize,
    /// Calls through the running gateway, which have no row that is for virtual time alone.
    real: bool,
}

impl Options {
    fn rows(&self) -> Vec<Row> {
        let is_named = |row: &Row, name: &str| if name == "quick" { row.quick } else { row.name.starts_with(name) };
        let fits = |row: &Row| !(self.real && row.unreal);
        let wanted = |row: &Row| self.rows.is_empty() || self.rows.iter().any(|name| is_named(row, name));
        let rows: Vec<Row> = rows::all().into_iter().filter(fits).filter(wanted).collect();
        let names = || rows::all().into_iter().map(|row| row.name).collect::<Vec<_>>().join(" ");
        assert!(!rows.is_empty(), "no row of that name; there are: {}", names());
        rows
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    if command == "talk-off" {
        let sounds = words.next().expect("the folder of the prompts");
        let (seconds, found) = talk_off::listen(sounds.as_ref());
        println!("{found} digits in {} minutes of speech, at 8 and at 16 kHz", seconds / 60);
        std::process::exit(i32::from(found > 0 || seconds < 600));
    }
    let mut options = HashMap::new();
    while let Some(name) = words.next() {
        options.insert(name, words.next().expect("a value for each option"));
    }
    let mut take = |name: &str| options.remove(name);
    let at = take("--at").map(|at| at.parse().expect("an address"));
    let options = Options {
        speech: take("--speech").expect("--speech FOLDER").into(),
        out: take("--out").expect("--out FOLDER").into(),
        rows: take("--rows").map(|rows| rows.split(',').map(str::to_owned).collect()).unwrap_or_default(),
        clips: take("--clips").map_or(15, |clips| clips.parse().expect("a number of clips")),
        seed: take("--seed").map_or(1, |seed| seed.parse().expect("a seed")),
        calls: take("--calls").map_or(12, |calls| calls.parse().expect("a number of calls")),
        real: command != "bench",
    };
    assert!(options.clips > 0 && take("--help").is_none(), "see the head of tests/quality/main.rs");
    std::fs::create_dir_all(&options.out).expect("a folder");
    let list = match command.as_str() {
        "bench" => in_virtual_time(&options),
        "live" => live::run(Which::Ours, &options),
        "rtpengine" => live::run(Which::Rtpengine(at.expect("--at ADDRESS")), &options),
        "asterisk" => live::run(Which::Asterisk(at.expect("--at ADDRESS")), &options),
        other => panic!("no command {other:?}: bench, live, rtpengine, asterisk"),
    };
    let list = serde_json::to_string_pretty(&list).expect("JSON");
    std::fs::write(options.out.join("recordings.json"), list).expect("a list of the recordings");
}

/// Two rows at a time: each is one thread, and no clock is looked at.
fn in_virtual_time(options: &Options) -> Vec<Value> {
    let rows = options.rows();
    let one = |row: &Row| bench::run(row, &Script::read(&options.speech, options.clips, row.rounds), options);
    let one = &one;
    std::thread::scope(|scope| {
        let halves = rows.chunks(rows.len().div_ceil(2));
        let threads: Vec<_> =
            halves.map(|rows| scope.spawn(move || rows.iter().flat_map(one).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a bench that ends well")).collect()
    })
}

/// Writes what was heard in one direction of a row, and yields its entry in the list.
fn recorded(direction: &str, row: &Row, script: &Script, options: &Options, sound: &[i16]) -> Value {
    let name = format!("{direction}-{}", row.name);
    let file = format!("{name}.wav");
    speech::write_wav(&options.out.join(&file), sound);
    // By our clock; the ends' runs faster.
    let faster = 1.0 + row.drift_ppm / 1e6;
    let starts: Vec<i64> = script.starts_ms.iter().map(|&ms| (ms as f64 / faster).round() as i64).collect();
    json!({ "row": name, "file": file, "starts_ms": starts, "clip_ms": script.clip_ms })
}
