//! Whether the trunks' names are found, and whether they answer: as the running gateway knows it, else asked here.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::timeout;

use super::clock::{Told, unix_of};
use super::options::{self, Answered, Sockets};
use super::{Finding, Running};
use crate::config::{Config, Sip, TrunkConfig};
use crate::gateway::dns;
use crate::gateway::listeners::Listeners;
use crate::sip::{Listener, Located, ResolveError, Target};

/// How long all look-ups of one name may take.
const FOUND_WITHIN: Duration = Duration::from_secs(10);
/// Targets of one trunk that are asked.
const MOST_TARGETS: usize = 4;

/// The findings, and what the trunks say that the time is.
pub(super) async fn examine(config: &Config, running: Option<&Running>) -> (Vec<Finding>, Vec<Told>) {
    let mut reach = reach(&config.sip);
    reach.retain(|listener| config.media.serves(listener.local.ip()));
    let sockets = Sockets::default();
    let each = config.trunks.iter().map(|trunk| one(config, (&reach, &sockets), trunk, running));
    let (findings, dates): (Vec<Vec<Finding>>, Vec<Vec<Told>>) = join_all(each).await.into_iter().unzip();
    (findings.concat(), dates.concat())
}

/// What requests can be sent from: the listeners as the gateway binds them. They are not kept bound; where one is taken,
/// any port of its address stands for it.
fn reach(sip: &Sip) -> Vec<Listener> {
    let any_port = |at: &SocketAddr| SocketAddr::new(at.ip(), 0);
    let elsewhere = || Sip {
        udp: sip.udp.iter().map(any_port).collect(),
        tcp: sip.tcp.iter().map(any_port).collect(),
        tls: sip.tls.iter().map(any_port).collect(),
        ..sip.clone()
    };
    let bound = Listeners::bind(sip).or_else(|_| Listeners::bind(&elsewhere()));
    bound.map(|listeners| listeners.reach()).unwrap_or_default()
}

async fn one(
    config: &Config,
    (reach, sockets): (&[Listener], &Sockets),
    trunk: &TrunkConfig,
    running: Option<&Running>,
) -> (Vec<Finding>, Vec<Told>) {
    let name = &trunk.trunk.name;
    let mut findings = Vec::new();
    let Some(wanted) = &trunk.trunk.dns else { return (findings, Vec::new()) };
    let found = timeout(FOUND_WITHIN, dns::find(&config.sip.dns, reach, wanted)).await;
    let located = found.map_or(Err(ResolveError::Unanswered), |(located, _)| located);
    findings.push(name_of(name, &wanted.to_string(), &located));
    if let Some(running) = running {
        findings.extend(known(trunk, running.trunk(name)));
        return (findings, Vec::new());
    }
    let targets: Vec<Target> = located.iter().flat_map(Located::targets).take(MOST_TARGETS).cloned().collect();
    let asked = targets.iter().map(|target| asked(sockets, trunk, target));
    let (answers, dates): (Vec<Finding>, Vec<Option<Told>>) = join_all(asked).await.into_iter().unzip();
    findings.extend(answers);
    if trunk.trunk.register.is_some() {
        let text = "whether it takes our registration only the running gateway can show: `ringback trunks`";
        findings.push(Finding::untested(format!("trunk {name} register"), text));
    }
    (findings, dates.into_iter().flatten().collect())
}

fn name_of(name: &str, wanted: &str, located: &Result<Located, ResolveError>) -> Finding {
    let subject = format!("trunk {name} address {wanted}");
    match located {
        Ok(located) => {
            let targets = located.targets().take(MOST_TARGETS);
            let targets: Vec<String> = targets.map(|one| format!("{} {}", one.transport, one.remote)).collect();
            Finding::ok(subject, format!("leads to {}", targets.join(", ")))
        }
        Err(error) => {
            let remedy = match error {
                ResolveError::NotFound => "is `address` right? `dig` with its name shows what the DNS says",
                ResolveError::NoListener => {
                    "give [sip] a listener of that transport and family, or say another `transport`"
                }
                _ => "do the name servers work? [sip] dns names others than the system's",
            };
            Finding::fail(subject, error.to_string(), remedy)
        }
    }
}

/// How the running gateway says that it stands.
fn known(config: &TrunkConfig, trunk: Option<&Value>) -> Vec<Finding> {
    let name = &config.trunk.name;
    let subject = format!("trunk {name}");
    let Some(trunk) = trunk else {
        return vec![Finding::warn(subject, "the running gateway does not have it", "`ringback reload` takes it")];
    };
    let targets = trunk["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rtt = targets.iter().filter_map(|target| target["rtt_ms"].as_u64()).min();
    let last = trunk["last_failure"]["sip"].as_u64().map(|status| format!(", says {status}")).unwrap_or_default();
    let answers = match (trunk["up"] == true, rtt) {
        (false, _) => {
            let remedy =
                "is it up, does the firewall let SIP through, and does it know our address? See `ringback trunks`";
            Finding::fail(subject, format!("is down: does not answer OPTIONS{last}; calls pass it over"), remedy)
        }
        (true, Some(ms)) => Finding::ok(subject, format!("answers OPTIONS in {ms} ms")),
        (true, None) if config.trunk.options_every.is_none() => {
            Finding::untested(subject, "is not asked (`options = 0`): whether it is up only calls show")
        }
        (true, None) => Finding::untested(subject, "has not answered OPTIONS yet: ask again in a moment"),
    };
    let mut findings = vec![answers];
    findings.extend(registration(name, &trunk["registration"]));
    findings
}

fn registration(name: &str, registration: &Value) -> Option<Finding> {
    let subject = format!("trunk {name} register");
    Some(match registration["state"].as_str()? {
        "registered" => Finding::ok(subject, "registered"),
        "refused" => {
            let remedy = "are `user`, `password`, `realm` and `domain` as the trunk's operator gave them?";
            Finding::fail(subject, format!("refused with {}", registration["status"]), remedy)
        }
        "unreachable" => {
            let remedy = "is `address` its registrar, and does the firewall let SIP through?";
            Finding::fail(subject, "the registrar does not answer", remedy)
        }
        _ => Finding::untested(subject, "under way: ask again in a moment"),
    })
}

/// Asks one target, and looks at what its clock says.
async fn asked(sockets: &Sockets, trunk: &TrunkConfig, target: &Target) -> (Finding, Option<Told>) {
    let name = &trunk.trunk.name;
    let subject = format!("trunk {name} at {} {}", target.transport, target.remote);
    match options::ask(sockets, &trunk.trunk, trunk.tls.as_ref(), target).await {
        Ok(Answered { response, took }) => {
            let status = response.status;
            let theirs = response.headers.get("Date").and_then(unix_of);
            let told = theirs.map(|theirs| Told { by: name.clone(), theirs, ours: SystemTime::now() });
            let text = format!("answers OPTIONS with {status} in {} ms", took.as_millis());
            let finding = match status {
                408 | 503 | 504 => Finding::fail(subject, format!("{text}: it takes no calls now"), "ask its operator"),
                403 => Finding::warn(subject, text, "does the trunk know this address as ours?"),
                _ => Finding::ok(subject, text),
            };
            (finding, told)
        }
        Err(error) if trunk.trunk.options_every.is_none() => {
            (Finding::untested(subject, format!("{error}; it is not asked in operation (`options = 0`)")), None)
        }
        Err(error) => (Finding::fail(subject, error.to_string(), error.hint()), None),
    }
}
