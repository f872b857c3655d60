//! `ringback-bench`: see the library.

use std::process::ExitCode;

use clap::Parser;
use ringback_bench::{Options, run};

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(report) => {
            match options.json {
                true => println!("{:#}", report.json()),
                false => print!("{}", report.text()),
            }
            if report.well() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("ringback-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
