//! The load driver against the gateway's own program: a few calls, for a few seconds. What it measures must be plausible;
//! nothing is asserted about speed, for the machine may be busy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs)]

use clap::Parser;
use ringback_bench::{Figures, Options, Report, Way, run};

/// What the driver finds, told `words`.
fn driven(words: &[&str]) -> Report {
    let program = ["ringback-bench", "--program", env!("CARGO_BIN_EXE_ringback")];
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

#[test]
fn a_program_that_is_none_is_named() {
    let options = Options::parse_from(["ringback-bench", "--program", "/nowhere/ringback"]);
    let error = run(&options).unwrap_err().to_string();
    assert!(error.contains("/nowhere/ringback"), "{error}");
}
