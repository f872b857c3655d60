//! Asks the DNS what [`locate`](crate::sip::locate) wants to know.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Event, Tasks};
use crate::sip::locate::{Answer, Answers, Naptr, Question, Srv, Step, locate};
use crate::sip::{Listener, Located, ResolveError, TrunkDns};
use crate::switch::Input;

/// How long all look-ups for one trunk may take together, and one try of one of them.
const WITHIN: Duration = Duration::from_secs(10);
const ONE_TRY: Duration = Duration::from_secs(2);
/// What was found holds at least and at most so long, whatever its records say.
const HOLDS: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(3600);
/// What was not found, and what was found while a part of the answers failed, is asked for again after this.
const AGAIN: Duration = Duration::from_secs(30);
/// That a name has no such record holds at most so long.
const ABSENT: Duration = Duration::from_secs(300);

/// The look-ups under way, at most one for each trunk.
pub(super) struct Dns {
    servers: Arc<[SocketAddr]>,
    listeners: Arc<[Listener]>,
    under_way: HashMap<String, CancellationToken>,
    tasks: Tasks,
}

impl Dns {
    /// Asks `servers`, or those of the system where there are none; targets are those that `listeners` reach.
    pub(super) fn new(servers: &[SocketAddr], listeners: Vec<Listener>, tasks: Tasks) -> Dns {
        Dns { servers: servers.into(), listeners: listeners.into(), under_way: HashMap::new(), tasks }
    }

    /// Asks these from the next look-up on.
    pub(super) fn set_servers(&mut self, servers: &[SocketAddr]) {
        self.servers = servers.into();
    }

    /// Looks a trunk's name up; the answer comes as an event. An address needs nobody to be asked: its answer is given
    /// at once, so that a trunk of that kind is known before the first message is read. A look-up that is still under way
    /// is given up.
    #[must_use]
    pub(super) fn resolve(&mut self, trunk: String, name: TrunkDns) -> Option<Input> {
        if let Step::Done(result) = locate(&name, &self.listeners, &Answers::new()) {
            let ttl = if result.is_ok() { *HOLDS.end() } else { AGAIN };
            return Some(Input::Resolved { trunk, result, ttl });
        }
        let stop = self.tasks.stop.child_token();
        if let Some(before) = self.under_way.insert(trunk.clone(), stop.clone()) {
            before.cancel();
        }
        let (servers, listeners, tasks) = (self.servers.clone(), self.listeners.clone(), self.tasks.clone());
        self.tasks.tracker.spawn(async move {
            let found = tokio::select! {
                () = stop.cancelled() => return,
                found = timeout(WITHIN, find(&servers, &listeners, &name)) => found,
            };
            let (result, ttl) = found.unwrap_or((Err(ResolveError::Unanswered), AGAIN));
            let _ = tasks.sip.send(Event::Switch(Input::Resolved { trunk, result, ttl })).await; // the driver may be gone
        });
        None
    }
}

pub(super) async fn find(
    servers: &[SocketAddr],
    listeners: &[Listener],
    name: &TrunkDns,
) -> (Result<Located, ResolveError>, Duration) {
    let mut answers = Answers::new();
    let mut holds = *HOLDS.end();
    // The system's configuration is read each time: a machine's network changes while the gateway runs.
    let resolver = resolver(servers);
    loop {
        let questions = match locate(name, listeners, &answers) {
            Step::Done(result) => {
                let ttl = if result.is_ok() { holds.clamp(*HOLDS.start(), *HOLDS.end()) } else { AGAIN };
                return (result, ttl);
            }
            Step::Ask(questions) => questions,
        };
        let asked = join_all(questions.iter().map(|question| ask(resolver.as_ref(), question))).await;
        for (question, (answer, ttl)) in questions.into_iter().zip(asked) {
            if answer == Answer::Failed {
                tracing::debug!(?question, "the DNS does not answer");
            }
            holds = holds.min(ttl);
            answers.insert(question, answer);
        }
    }
}

/// `None`: the system has no name servers.
fn resolver(servers: &[SocketAddr]) -> Option<TokioResolver> {
    let mut builder = if servers.is_empty() {
        match TokioResolver::builder_tokio() {
            Ok(builder) => builder,
            Err(error) => {
                tracing::warn!(%error, "the system has no configuration for DNS; see [sip] dns");
                return None;
            }
        }
    } else {
        let at = |server: &SocketAddr| {
            let ways = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            let connections = ways.into_iter().map(|mut way| {
                way.port = server.port();
                way
            });
            NameServerConfig::new(server.ip(), true, connections.collect())
        };
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(at).collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    options(builder.options_mut());
    match builder.build() {
        Ok(resolver) => Some(resolver),
        Err(error) => {
            tracing::warn!(%error, "the DNS cannot be asked");
            None
        }
    }
}

fn options(options: &mut ResolverOpts) {
    options.timeout = ONE_TRY;
    options.attempts = 2;
    options.try_tcp_on_error = true;
    // RFC 7984: both families; which of them are of use, the listeners say.
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
}

/// One answer, and how long it holds.
async fn ask(resolver: Option<&TokioResolver>, question: &Question) -> (Answer, Duration) {
    let Some(resolver) = resolver else { return (Answer::Failed, AGAIN) };
    match question {
        Question::Naptr(name) => {
            let found = resolver.lookup(absolute(name), RecordType::NAPTR).await;
            records(
                found,
                |data| match data {
                    RData::NAPTR(naptr) => Some(Naptr {
                        order: naptr.order,
                        preference: naptr.preference,
                        flags: String::from_utf8_lossy(&naptr.flags).into_owned(),
                        services: String::from_utf8_lossy(&naptr.services).into_owned(),
                        replacement: naptr.replacement.to_ascii(),
                    }),
                    _ => None,
                },
                Answer::Naptr,
            )
        }
        Question::Srv(name) => {
            let found = resolver.lookup(absolute(name), RecordType::SRV).await;
            records(
                found,
                |data| match data {
                    RData::SRV(srv) => Some(Srv {
                        priority: srv.priority,
                        weight: srv.weight,
                        port: srv.port,
                        target: srv.target.to_ascii(),
                    }),
                    _ => None,
                },
                Answer::Srv,
            )
        }
        // As it is written: a name without dots may be one of the hosts file or of the search list.
        Question::Addresses(name) => match resolver.lookup_ip(name.as_str()).await {
            Ok(found) => {
                let holds = found.valid_until().saturating_duration_since(Instant::now());
                (Answer::Addresses(found.iter().collect()), holds)
            }
            Err(error) => unanswered(&error),
        },
    }
}

/// A service's name is never one of the search list.
fn absolute(name: &str) -> String {
    format!("{name}.")
}

fn records<T>(
    found: Result<Lookup, NetError>,
    read: impl Fn(&RData) -> Option<T>,
    answer: impl Fn(Vec<T>) -> Answer,
) -> (Answer, Duration) {
    match found {
        Ok(found) => {
            let holds = found.valid_until().saturating_duration_since(Instant::now());
            let records: Vec<T> = found.answers().iter().filter_map(|record| read(&record.data)).collect();
            if records.is_empty() { (Answer::Nothing, holds) } else { (answer(records), holds) }
        }
        Err(error) => unanswered(&error),
    }
}

/// What is not there is asked for again after a while, a failure soon.
fn unanswered(error: &NetError) -> (Answer, Duration) {
    if error.is_no_records_found() || error.is_nx_domain() {
        return (Answer::Nothing, ABSENT);
    }
    tracing::debug!(%error, "DNS");
    (Answer::Failed, AGAIN)
}
