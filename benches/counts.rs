//! What the steps of a call cost in instructions, counted by valgrind's callgrind: unlike time, that holds still on a busy
//! machine. `tests/counts/run` compares them with `benches/counts.txt`; `tests/counts/run --write` writes that file anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

#[path = "../tests/support/call.rs"]
mod call;
#[path = "support/steps.rs"]
mod steps;
#[path = "support/voice.rs"]
mod voice;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, ExitCode};

use steps::STEPS;

/// A count may grow by so much, in hundredths, before the guard speaks.
const MARGIN: u64 = 5;
/// How often each step is done; the count is that of one.
const TIMES: u64 = 200;

/// What is counted: callgrind collects from here to its return, by this function's name.
#[inline(never)]
fn measured(step: &mut dyn FnMut()) {
    step();
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--step", name] => match STEPS.iter().find(|step| step.0 == name) {
            Some((_, make)) => {
                let mut step = make();
                for _ in 0..TIMES {
                    step.before();
                    measured(&mut || step.work());
                }
                ExitCode::SUCCESS
            }
            None => ExitCode::FAILURE,
        },
        ["--baseline", path] => guard(path),
        ["--write", path] => write(path),
        _ => {
            eprintln!("usage: counts --baseline FILE | --write FILE (tests/counts/run knows the file)");
            ExitCode::FAILURE
        }
    }
}

/// One step's instructions.
fn count(name: &str) -> u64 {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=counts::measured")
        .arg(std::env::current_exe().expect("our own path"))
        .args(["--step", name])
        .output()
        .expect("valgrind");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{name}: {said}");
    let collected = said.lines().find_map(|line| line.split("Collected :").nth(1)).expect("callgrind's sum");
    let sum: u64 = collected.trim().parse().expect("a number");
    assert!(sum > TIMES, "{name}: nothing was counted");
    sum / TIMES
}

/// What a count depends on beside our code.
fn tools() -> String {
    let first = |program: &str| {
        let said = Command::new(program).arg("--version").output().map(|run| run.stdout).unwrap_or_default();
        String::from_utf8_lossy(&said).lines().next().unwrap_or("none").trim().to_owned()
    };
    format!("{}, {}, {}, {}", first("rustc"), first("cc"), first("valgrind"), std::env::consts::ARCH)
}

fn write(path: &str) -> ExitCode {
    let mut text = format!("# Instructions a step, written by tests/counts/run --write.\n# {}\n", tools());
    for (name, _) in STEPS {
        writeln!(text, "{name} {}", count(name)).expect("a string has room");
    }
    print!("{text}");
    std::fs::write(path, text).expect("the baseline is written");
    ExitCode::SUCCESS
}

fn guard(path: &str) -> ExitCode {
    let text = std::fs::read_to_string(path).expect("the baseline");
    let same_tools = text.lines().any(|line| line.strip_prefix("# ") == Some(&tools()));
    let baseline: BTreeMap<&str, u64> =
        text.lines().filter_map(|line| line.split_once(' ')).filter_map(|(k, v)| Some((k, v.parse().ok()?))).collect();
    let (mut passed, mut failed) = (0, 0);
    for (name, _) in STEPS {
        let (now, before) = (count(name), baseline.get(name).copied().unwrap_or(0));
        let verdict = if !same_tools {
            "not judged"
        } else if now > before + before * MARGIN / 100 {
            failed += 1;
            "TOO MANY"
        } else if now + now * MARGIN / 100 < before {
            "fewer (--write keeps the gain)"
        } else {
            "as before"
        };
        passed += u32::from(verdict != "TOO MANY");
        println!("{name:<30} {now:>9} instructions, {before:>9} in the baseline: {verdict}");
    }
    if !same_tools {
        println!("The baseline is of other tools than these ({}): counts are shown, and not judged.", tools());
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
