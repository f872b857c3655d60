//! `ringback doctor`: is everything around the gateway as its configuration needs it? Each thing that is looked at becomes
//! a [`Finding`] that says what was seen and, where that is not good, what to change.
//!
//! Beside a running gateway it asks that one by its control socket for what only the gateway knows; without one it binds
//! the addresses itself for a moment and asks the trunks in its name. It registers nowhere and calls nobody.

mod addresses;
mod certificates;
mod clock;
mod options;
mod ports;
mod stores;
mod system;
mod trunks;
mod turn;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::SystemTime;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::control;
use crate::config::{Config, Unlimited};

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It could not be tested from here; the text says how else.
    Untested,
    /// It works, or may work, but not as well or as long as it should.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: a key of the configuration, a trunk, a resource.
    pub subject: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What was seen.
    pub text: String,
    /// What to change, where something should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn new(subject: impl Into<String>, verdict: Verdict, text: impl Into<String>) -> Finding {
        Finding { subject: subject.into(), verdict, text: text.into(), remedy: None }
    }

    pub(super) fn ok(subject: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding::new(subject, Verdict::Ok, text)
    }

    pub(super) fn untested(subject: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding::new(subject, Verdict::Untested, text)
    }

    pub(super) fn warn(subject: impl Into<String>, text: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { remedy: Some(remedy.into()), ..Finding::new(subject, Verdict::Warn, text) }
    }

    pub(super) fn fail(subject: impl Into<String>, text: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { remedy: Some(remedy.into()), ..Finding::new(subject, Verdict::Fail, text) }
    }
}

/// All that was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The worst of them.
    pub verdict: Verdict,
    /// In the order in which they were looked at.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn of(findings: Vec<Finding>) -> Report {
        let verdict = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
        Report { verdict, findings }
    }

    /// Where the configuration is of no use, nothing else can be looked at.
    pub fn of_broken(error: String) -> Report {
        let remedy = "mend it there; `ringback check` says whether it is good";
        Report::of(vec![Finding::fail("configuration", error, remedy)])
    }
}

/// A gateway that runs, as it answers by its control socket.
#[derive(Debug)]
pub struct Running {
    /// What it has bound.
    listening: Value,
    /// How its trunks stand.
    trunks: Value,
    /// How everything stands.
    status: Value,
    /// Its process, where it can be seen from here.
    pid: Option<i32>,
}

impl Running {
    /// Asks the gateway behind this socket; `None`: there is none, or it is not ours to ask.
    pub fn at(socket: &Path) -> Option<Running> {
        let listening = control::ask(socket, "listening").ok()?;
        let trunks = control::ask(socket, "trunks").ok()?;
        let status = control::ask(socket, "status").ok()?;
        let stream = UnixStream::connect(socket).ok()?;
        let pid = getsockopt(&stream, PeerCredentials).ok().map(|peer| peer.pid()).filter(|pid| *pid > 0);
        Some(Running { listening, trunks, status, pid })
    }

    /// How it says that a trunk stands.
    fn trunk(&self, name: &str) -> Option<&Value> {
        self.trunks["trunks"].as_array()?.iter().find(|trunk| trunk["name"] == name)
    }
}

/// Looks at everything; takes some seconds, and longer where nobody answers.
pub async fn examine(name: &str, config: &Config, running: Option<&Running>) -> Report {
    let mut findings = vec![Finding::ok("configuration", format!("{name} is good; every dial plan test passed"))];
    findings.extend(config.unlimited().into_iter().map(|Unlimited { section, why }| {
        Finding::warn(section, format!("is not set: {why}"), "docs/configuration.md, \"Limits against fraud\"")
    }));
    findings.push(match running {
        Some(Running { pid: Some(pid), .. }) => Finding::ok("gateway", format!("runs as process {pid}")),
        Some(_) => Finding::ok("gateway", "runs"),
        None => Finding::untested("gateway", "does not run, or has no [control] socket that answers: asked without it"),
    });
    findings.extend(ports::examine(config, running));
    let (turn, seen) = turn::examine(config).await;
    findings.extend(addresses::examine(config, seen).await);
    findings.extend(certificates::examine(config, SystemTime::now()));
    let (trunks, dates) = trunks::examine(config, running).await;
    findings.push(clock::examine(&dates));
    findings.extend(trunks);
    findings.extend(turn);
    findings.extend(stores::examine(config, running).await);
    findings.extend(system::examine(config, running));
    Report::of(findings)
}
