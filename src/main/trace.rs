//! `ringback trace`: what was said about a call, as a ladder, as JSON, or as a capture.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

#[path = "trace/ladder.rs"]
mod ladder;
#[path = "trace/pcap.rs"]
mod pcap;

/// How often a call that goes on is asked about.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How many looks without anything new end it once the call is over: the last answers and acknowledgements come late.
const LAST_LOOKS: u32 = 8;

/// How it is wanted.
pub struct How {
    pub json: bool,
    pub full: bool,
    pub follow: bool,
    pub pcap: Option<PathBuf>,
}

/// Shows it; `ask` asks the gateway.
pub fn run(id: Option<&str>, how: &How, ask: impl Fn(&str) -> Value) -> anyhow::Result<()> {
    let Some(id) = id else {
        return crate::shown(&ask("trace"), how.json, ladder::list);
    };
    if how.follow {
        return follow(id, how, ask);
    }
    let answer = ask(&format!("trace {id}"));
    if let Some(file) = how.pcap.as_ref().filter(|_| !is_wrong(&answer)) {
        return captured(&answer, file);
    }
    crate::shown(&answer, how.json, |answer| ladder::whole(answer, how.full))
}

/// Whether an answer says what is wrong, and nothing else.
fn is_wrong(answer: &Value) -> bool {
    answer["error"].is_string()
}

fn captured(answer: &Value, file: &Path) -> anyhow::Result<()> {
    let (bytes, packets) = pcap::capture(answer);
    std::fs::write(file, bytes).with_context(|| format!("{}: cannot be written", file.display()))?;
    println!("{}: {packets} SIP messages", file.display());
    Ok(())
}

/// Shows each message as it comes, until the call is over.
fn follow(id: &str, how: &How, ask: impl Fn(&str) -> Value) -> anyhow::Result<()> {
    let mut drawn = ladder::Ladder::default();
    let (mut since, mut quiet) = (0, 0);
    loop {
        let answer = ask(&format!("trace {id} {since}"));
        if is_wrong(&answer) {
            return crate::shown(&answer, how.json, |_| String::new());
        }
        let messages = answer["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut out = std::io::stdout().lock();
        for message in messages {
            since = message["n"].as_u64().map_or(since, |n| n + 1);
            match how.json {
                true => writeln!(out, "{message}")?,
                false => write!(out, "{}", drawn.line(message, how.full))?,
            }
        }
        out.flush()?;
        quiet = if messages.is_empty() && answer["over"] == true { quiet + 1 } else { 0 };
        if quiet >= LAST_LOOKS {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
