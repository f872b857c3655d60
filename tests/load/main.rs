//! The load driver against the gateway's own program: a few calls, for a few seconds. What it measures must be plausible;
//! nothing is asserted about speed, for the machine may be busy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs)]

use std::path::Path;
use std::process::Command;

use clap::Parser;
use ringback_bench::recordings::{read, write};
use ringback_bench::sound::speech;
use ringback_bench::{Figures, Options, Report, Way, run};

/// What the driver finds, told `words`.
fn driven(words: &[&str]) -> Report {
    let program = ["ringback-bench", "--program", env!("CARGO_BIN_EXE_ringback"), "--tries", "1"];
    let options = Options::parse_from(program.iter().chain(words));
    run(&options).unwrap_or_else(|error| panic!("{words:?}: {error:#}"))
}

fn sounds(way: &Way, row: &Figures, what: &str) {
    // What is still on its way at the window's end is heard, too.
    let packets = |seconds: f64| row.calls as f64 * seconds * 50.0;
    assert_eq!(way.silent_calls, 0, "{what}: {row:#?}");
    assert!(
        (packets(row.seconds * 0.9)..packets(row.seconds + 1.0)).contains(&(way.packets as f64)),
        "{what}: {row:#?}"
    );
    // One mark a second was said, and most of them were heard: a busy machine may tear one.
    assert!(way.marks_said as f64 >= row.calls as f64 * (row.seconds - 1.0), "{what}: {row:#?}");
    assert!(way.marks_heard * 4 >= way.marks_said * 3, "{what}: {row:#?}");
    let delay = way.delay_ms.expect("a delay");
    assert!(0.0 < delay.p50 && delay.p50 <= delay.p95 && delay.p95 <= delay.p99, "{what}: {row:#?}");
}

fn plausible(row: &Figures) {
    sounds(&row.up, row, "up");
    sounds(&row.down, row, "down");
    assert!(row.cpu_ms_per_call_second.is_some_and(|ms| ms > 0.0), "{row:#?}");
    assert!(row.driver_cpu_ms_per_call_second > 0.0, "{row:#?}");
    assert!(row.mib.is_some_and(|mib| mib > 1.0), "{row:#?}");
    assert!(row.lateness_p99_ms.is_some(), "the workers' timers are counted: {row:#?}");
    assert!(row.effort.is_some(), "the workers tell how much work they spare themselves: {row:#?}");
    let set_up = row.set_up;
    let (answer, sound) = (set_up.answer_ms.expect("an answer"), set_up.first_sound_ms.expect("sound"));
    assert!(0.0 < answer.p50 && answer.p50 < sound.p99, "{row:#?}");
}

#[test]
fn four_calls_are_heard_at_both_ends_and_then_six() {
    let report = driven(&["--calls", "4,6", "--seconds", "4", "--settle", "2"]);
    assert_eq!(report.rows.iter().map(|row| row.calls).collect::<Vec<_>>(), [4, 6]);
    report.rows.iter().for_each(plausible);
    let json = report.json();
    assert_eq!((&json["what"], &json["coding"]), (&"ringback".into(), &"opus".into()));
    assert_eq!(json["rows"][1]["calls"], 6);
    assert!(report.text().contains("6 calls, 4 s: "), "{}", report.text());
}

#[test]
fn calls_whose_browsers_speak_pcmu_are_relayed() {
    let report = driven(&["--relay", "--calls", "2", "--seconds", "3", "--settle", "2"]);
    report.rows.iter().for_each(plausible);
    assert_eq!(report.json()["coding"], "pcmu");
}

#[test]
fn calls_of_full_band_browsers_are_heard() {
    let report = driven(&["--full-band", "--calls", "2", "--seconds", "3", "--settle", "2"]);
    report.rows.iter().for_each(plausible);
}

/// How like `said` is what was `heard`, at the delay at which it is most: 1 is the same.
fn likeness(said: &[i16], heard: &[i16]) -> f32 {
    let dot = |a: &[i16], b: &[i16]| a.iter().zip(b).map(|(&a, &b)| f32::from(a) * f32::from(b)).sum::<f32>();
    let at = |lag: usize| {
        let place = heard.get(lag..(lag + said.len()).min(heard.len())).unwrap_or_default();
        let energy = dot(place, place) * dot(&said[..place.len()], &said[..place.len()]);
        dot(place, said) / energy.max(1.0).sqrt()
    };
    (0..3_200).map(at).fold(0.0, f32::max)
}

#[test]
fn what_recorded_calls_heard_is_what_was_said_there() {
    let folder = tempfile::tempdir().unwrap();
    let (clips, kept) = (folder.path().join("clips.wav"), folder.path().join("kept"));
    let said = speech(None).unwrap();
    write(&clips, &said).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let words = ["--relay", "--calls", "6,2", "--seconds", "9", "--settle", "2", "--speech"];
    let report = driven(&[&words[..], &[&path(&clips), "--recordings", &path(&kept)]].concat());
    assert_eq!(report.rows.iter().map(|row| row.calls).collect::<Vec<_>>(), [6, 2], "four are ended between");
    assert!(report.rows.iter().all(|row| row.up.silent_calls + row.down.silent_calls == 0), "{:#?}", report.rows);
    let entries = std::fs::read_to_string(kept.join("recordings.json")).unwrap();
    let entries: Vec<serde_json::Value> = serde_json::from_str(&entries).unwrap();
    let rows: Vec<&str> = entries.iter().map(|entry| entry["row"].as_str().unwrap()).collect();
    assert_eq!(rows, ["6-up", "6-down", "6-up", "6-down", "2-up", "2-down"], "calls 1 and 6, then call 1");
    for entry in &entries {
        let first = entry["clips"][0].as_u64().unwrap() as usize * 64_000;
        let heard = read(&kept.join(entry["file"].as_str().unwrap())).unwrap();
        // A machine that stands still tears a hole; another second is whole.
        let whole = (0..7).map(|second| second * 8_000).any(|from| {
            likeness(&said[first + from..first + from + 8_000], heard.get(from..).unwrap_or_default()) > 0.9
        });
        assert!(whole, "{entry:#}");
    }
}

#[test]
fn a_search_ends_where_the_gateway_refuses_calls() {
    let report = driven(&["--calls", "6", "--until-late", "2", "--busy-at", "1", "--seconds", "3", "--settle", "3"]);
    let end = report.ended.as_ref().expect("what ended the search");
    assert!(end.is_found && end.why.contains("too-many-calls"), "{}", report.text());
    assert!(report.rows.iter().all(|row| row.up.silent_calls + row.down.silent_calls == 0), "{}", report.text());
    assert_eq!(report.faults, [""; 0], "those that stand are not ended for it");
}

#[test]
fn calls_come_and_go_for_two_minutes_and_nothing_grows() {
    let report = driven(&["--soak", "2", "--calls", "6", "--lasting", "8-20", "--every", "3"]);
    let soak = report.soak.as_ref().expect("a soak");
    assert!(report.rows.is_empty() && report.most_calls().is_none(), "nobody asked for the most");
    assert!(report.well(), "{}", report.text());
    assert!(!soak.memory().expect("a verdict").grows());
    assert_eq!(soak.lost_calls, 0, "{:?}", soak.lost);
    assert!(soak.begun > 20, "{} calls of 14 s in two minutes, six at once", soak.begun);
    assert!(soak.samples.len() >= 20 && soak.lost_pct() < 5.0, "{}", report.text());
    let heard = |way: &dyn Fn(usize) -> bool| (0..soak.samples.len()).filter(|&n| way(n)).count();
    assert!(heard(&|n| soak.samples[n].delay_up_ms.is_some()) > 10, "{:#?}", soak.samples);
    assert!(heard(&|n| soak.samples[n].delay_down_ms.is_some()) > 10, "{:#?}", soak.samples);
    assert_eq!((&report.json()["soak"]["well"], &report.json()["soak"]["calls"]), (&true.into(), &6.into()));
}

#[test]
fn the_rules_of_the_tables_hold() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/load");
    let words = ["-m", "unittest", "discover", "-p", "test_*.py", "-s"];
    let told =
        Command::new("python3").args(words).arg(tests).env("PYTHONDONTWRITEBYTECODE", "1").output().expect("python3");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}

#[test]
fn a_program_that_is_none_is_named() {
    let options = Options::parse_from(["ringback-bench", "--program", "/nowhere/ringback"]);
    let error = run(&options).unwrap_err().to_string();
    assert!(error.contains("/nowhere/ringback"), "{error}");
}
