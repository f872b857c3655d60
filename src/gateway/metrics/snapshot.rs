//! How everything stands at a scrape.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::PREFIX;
use crate::gateway::otlp::OtlpUse;
use crate::gateway::pool::{PoolUse, WorkerUse};
use crate::media::Effort;
use crate::switch::{CdrStatus, LimitUse, RegistrationStatus, Status, SwitchStats};
use crate::worker::{Lateness, WorkerCounters};

/// Whose limits there are.
const SCOPES: [&str; 6] = ["gateway", "class", "address", "user", "token", "trunk"];
/// Which.
const LIMITS: [&str; 5] = ["calls", "calls_per_minute", "minutes_per_day", "new_countries_per_day", "accounts"];

/// What the driver gives at a scrape.
#[derive(Debug)]
pub(in crate::gateway) struct Snapshot {
    /// Calls, trunks, registrations, sound.
    pub(in crate::gateway) status: Status,
    /// Tables' sizes.
    pub(in crate::gateway) stats: SwitchStats,
    /// Calls that are taken at most.
    pub(in crate::gateway) most_calls: usize,
    /// Sockets that are taken at most.
    pub(in crate::gateway) most_sockets: usize,
    /// Media threads and ports.
    pub(in crate::gateway) pool: PoolUse,
    /// Of the driver.
    pub(in crate::gateway) queues: Vec<QueueUse>,
    /// SIP datagrams that found the driver's full.
    pub(in crate::gateway) sip_lost: u64,
    /// Of the web hooks.
    pub(in crate::gateway) hooks: Vec<HookUse>,
    /// What we show to others: whose it is, and when it runs out.
    pub(in crate::gateway) certificates: Vec<(String, SystemTime)>,
    /// Of traces; `None`: nobody is sent them.
    pub(in crate::gateway) otlp: Option<OtlpUse>,
}

/// How full a queue is.
#[derive(Debug)]
pub(in crate::gateway) struct QueueUse {
    pub(in crate::gateway) name: &'static str,
    pub(in crate::gateway) waiting: usize,
    pub(in crate::gateway) room: usize,
}

/// What waits for a web hook.
#[derive(Debug)]
pub(in crate::gateway) struct HookUse {
    /// Scheme and host of its URL: the rest may be a secret.
    pub(in crate::gateway) server: String,
    pub(in crate::gateway) waiting: usize,
    /// Events that found no room.
    pub(in crate::gateway) lost: u64,
    /// Events that it refused, or did not take in time.
    pub(in crate::gateway) given_up: u64,
}

impl Snapshot {
    /// As metrics.
    pub(super) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix(PREFIX);
        let mut show = Show(&mut registry);
        self.gateway(&mut show);
        self.sound(&mut show);
        self.trunks(&mut show);
        self.registrar(&mut show);
        self.limits(&mut show);
        self.workers(&mut show);
        self.queues(&mut show);
        self.records(&mut show, SystemTime::now());
        self.certificates(&mut show);
        registry
    }

    fn gateway(&self, show: &mut Show) {
        let (status, stats) = (&self.status, &self.stats);
        show.0.register("build", "The program", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        show.gauge("draining", "1: new calls are refused", flag(status.draining));
        show.gauge("calls", "Calls, those that ring and those that release among them", count(status.calls));
        show.gauge("calls_limit", "Calls that are taken at most", count(self.most_calls));
        show.counter(
            "calls_refused_busy",
            "Calls refused since the media threads had as much to do as they could",
            stats.refused_busy,
        );
        show.gauge("calls_established", "Calls in which the parties talk", count(status.established));
        show.gauge(
            "sessions",
            "Sessions of browsers, those that wait for their return among them",
            count(stats.sockets),
        );
        show.gauge(
            "sessions_waiting",
            "Sessions whose socket is lost and that wait for its return",
            count(stats.waiting),
        );
        show.gauge("sessions_limit", "Sessions that are taken at most", count(self.most_sockets));
        show.gauge("users", "Users with a session", count(stats.users));
        show.gauge("sip_dialogs", "SIP sessions of the user agent", count(stats.sip_sessions));
        show.gauge("sip_transactions", "SIP transactions of the user agent", count(stats.sip_transactions));
        let dropped = [("stranger", status.dropped_sip), ("queue-full", self.sip_lost)];
        show.counters(
            "sip_dropped",
            "SIP messages dropped: of strangers, and datagrams that found the driver's queue full",
            "reason",
            dropped.into_iter().map(|(reason, messages)| (reason.to_owned(), messages)),
        );
    }

    fn sound(&self, show: &mut Show) {
        let sound = &self.status.sound;
        show.gauge("sound_measured_calls", "Calls of which it is known how they sound", count(sound.measured));
        show.gauge(
            "sound_silent_calls",
            "Calls in which a direction has no sound by a fault",
            count(sound.without_audio),
        );
        let scores = [("mean", sound.mos_mean), ("worst", sound.mos_worst)];
        let known = scores.into_iter().filter_map(|(of, score)| Some((of.to_owned(), f64::from(score?))));
        show.gauges("sound_mos", "Score of the calls now, each by its worse direction (ITU-T G.107)", "of", known);
    }

    fn trunks(&self, show: &mut Show) {
        let trunks = &self.status.trunks;
        let each = |value: fn(&crate::switch::TrunkStatus) -> f64| {
            trunks.iter().map(move |trunk| (trunk.state.name.clone(), value(trunk)))
        };
        show.gauges(
            "trunk_up",
            "1: the trunk has an address and answers",
            "trunk",
            each(|trunk| flag(trunk.state.up && !trunk.state.targets.is_empty())),
        );
        show.gauges("trunk_calls", "Calls now, both directions", "trunk", each(|trunk| f64::from(trunk.state.calls)));
        show.gauges("trunk_targets", "Its addresses", "trunk", each(|trunk| count(trunk.state.targets.len())));
        show.gauges(
            "trunk_targets_up",
            "Its addresses that answer, and where calls have not failed",
            "trunk",
            each(|trunk| count(trunk.state.targets.iter().filter(|target| target.up && !target.failed).count())),
        );
        let quickest = trunks.iter().filter_map(|trunk| {
            let rtt = trunk.state.targets.iter().filter_map(|target| target.rtt_ms).min()?;
            Some((trunk.state.name.clone(), f64::from(rtt) / 1000.0))
        });
        show.gauges("trunk_options_seconds", "Its quickest address' last answer to OPTIONS", "trunk", quickest);
        let refused = trunks.iter().map(|trunk| (trunk.state.name.clone(), trunk.state.refused));
        show.counters("trunk_refused", "Calls refused for its limits", "trunk", refused);
        let registered = trunks.iter().filter_map(|trunk| {
            let stands = matches!(trunk.registration?, RegistrationStatus::Registered { .. });
            Some((trunk.state.name.clone(), flag(stands)))
        });
        show.gauges(
            "trunk_registered",
            "1: our registration with it stands; absent where there is to be none",
            "trunk",
            registered,
        );
    }

    fn registrar(&self, show: &mut Show) {
        let Some(registrar) = &self.status.registrar else { return };
        show.gauge("registrar_users", "Users with a phone", count(registrar.users));
        show.gauge("registrar_phones", "Phones", count(registrar.bindings));
        show.gauge(
            "registrar_throttled",
            "Addresses and users that are refused for guessing",
            count(registrar.throttled),
        );
        let requests = [
            ("challenged", registrar.challenged),
            ("authenticated", registrar.authenticated),
            ("failed", registrar.failed),
            ("slowed", registrar.slowed),
        ];
        let requests = requests.into_iter().map(|(result, count)| (result.to_owned(), count));
        show.counters("registrar_requests", "Requests of phones, by what came of them", "result", requests);
    }

    /// What is not used up yet, and what was refused. Users and tokens are in no label.
    fn limits(&self, show: &mut Show) {
        let limits = &self.status.limits;
        let used = Family::<[(&str, String); 3], Gauge<f64, AtomicU64>>::default();
        let most = Family::<[(&str, String); 3], Gauge<f64, AtomicU64>>::default();
        for account in &limits.accounts {
            for LimitUse { limit, used: now, most: at_most } in &account.limits {
                let labels =
                    [("scope", account.scope.clone()), ("name", account.name.clone()), ("limit", limit.clone())];
                used.get_or_create(&labels).set(f64::from(*now));
                most.get_or_create(&labels).set(f64::from(*at_most));
            }
        }
        show.0.register("limit_used", "How much is used of a limit against fraud", used);
        show.0.register("limit_most", "How much of it is allowed", most);
        let tripped = Family::<[(&str, String); 2], Counter>::default();
        // What has not happened yet is shown too: a counter that begins with its first event has never increased.
        for (scope, limit) in SCOPES.iter().flat_map(|scope| LIMITS.iter().map(move |limit| (scope, limit))) {
            drop(tripped.get_or_create(&[("scope", (*scope).to_owned()), ("limit", (*limit).to_owned())]));
        }
        for trips in &limits.tripped {
            tripped
                .get_or_create(&[("scope", trips.scope.clone()), ("limit", trips.limit.clone())])
                .inc_by(trips.times);
        }
        show.0.register("limits_tripped", "Calls refused or ended by a limit against fraud", tripped);
    }

    fn workers(&self, show: &mut Show) {
        let PoolUse { workers, ports_leased, ports_resting, ports_free, lost_reports } = &self.pool;
        let ports = [("leased", *ports_leased), ("resting", *ports_resting), ("free", *ports_free)];
        let ports = ports.into_iter().map(|(state, pairs)| (state.to_owned(), count(pairs)));
        show.gauges("rtp_ports", "Pairs of RTP ports", "state", ports);
        show.counter("media_reports_lost", "Reports of media threads that found the queue full", *lost_reports);
        let each = |value: fn(&WorkerUse) -> f64| {
            workers.iter().enumerate().map(move |(at, worker)| (at.to_string(), value(worker)))
        };
        show.gauges("worker_running", "1: the media thread runs", "worker", each(|worker| flag(worker.running)));
        show.gauges("worker_calls", "Calls of a media thread", "worker", each(|worker| count(worker.calls)));
        show.gauges("worker_commands", "Commands that wait for it", "worker", each(|worker| count(worker.waiting)));
        let effort = "Work spent on sound: 2 as usual, 1 less, 0 the least";
        let left: fn(&WorkerUse) -> f64 = |worker| f64::from(Effort::Least as u8 - worker.effort as u8);
        show.gauges("worker_effort", effort, "worker", each(left));
        show.gauges("worker_busy", "1: it is given no new calls", "worker", each(|worker| flag(worker.busy)));
        let counted = |value: fn(&WorkerCounters) -> u64| {
            workers.iter().enumerate().map(move |(at, worker)| (at.to_string(), value(&worker.counters)))
        };
        show.counters("worker_unroutable", "Datagrams of no call", "worker", counted(|it| it.unroutable));
        let passed = "Datagrams read for a call of another media thread";
        show.counters("worker_handed_over", passed, "worker", counted(|it| it.handed_over));
        let dropped = "Those that the other had no room for";
        show.counters("worker_not_handed_over", dropped, "worker", counted(|it| it.not_handed_over));
        show.counters("worker_unsent", "Datagrams that the system did not take", "worker", counted(|it| it.unsent));
        show.counters("worker_panics", "Calls ended by a fault of ours", "worker", counted(|it| it.panics));
        let late = Late(workers.iter().map(|worker| worker.lateness).collect());
        show.0.register_with_unit("worker_lateness", "How late timers of calls' media are served", Unit::Seconds, late);
    }

    fn queues(&self, show: &mut Show) {
        let queues = || self.queues.iter();
        let waiting = queues().map(|queue| (queue.name.to_owned(), count(queue.waiting)));
        show.gauges("queue_waiting", "What waits in a queue of the driver", "queue", waiting);
        let room = queues().map(|queue| (queue.name.to_owned(), count(queue.room)));
        show.gauges("queue_limit", "What may wait there", "queue", room);
        let hooks = || self.hooks.iter();
        let waiting = hooks().map(|hook| (hook.server.clone(), count(hook.waiting)));
        show.gauges("webhook_waiting", "Events that wait for a web hook", "server", waiting);
        let lost = hooks().map(|hook| (hook.server.clone(), hook.lost));
        show.counters("webhook_lost", "Events for a web hook that found no room", "server", lost);
        let given_up = hooks().map(|hook| (hook.server.clone(), hook.given_up));
        show.counters("webhook_given_up", "Events that a web hook refused or did not take in time", "server", given_up);
        if let Some(OtlpUse { waiting, sent, dropped }) = self.otlp {
            show.gauge("otlp_waiting", "Calls whose traces wait to be sent", count(waiting));
            let traces = [("sent", sent), ("dropped", dropped)].map(|(result, calls)| (result.to_owned(), calls));
            show.counters("otlp_traces", "Calls whose traces were sent, or lost", "result", traces.into_iter());
        }
    }
}

impl Snapshot {
    /// Call records, and what the limits count.
    fn records(&self, show: &mut Show, now: SystemTime) {
        let each =
            |value: fn(&CdrStatus) -> f64| self.status.cdr.iter().map(move |place| (place.sink.clone(), value(place)));
        show.gauges("cdr_waiting", "Call records that wait for a place", "place", each(|place| count(place.waiting)));
        show.gauges("cdr_limit", "Call records that may wait there", "place", each(|place| count(place.room)));
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let oldest = self.status.cdr.iter().map(|place| {
            let age = place.waiting_since.map_or(0.0, |since| (now - since as f64 / 1000.0).max(0.0));
            (place.sink.clone(), age)
        });
        show.gauges("cdr_oldest_seconds", "For how long the oldest waits", "place", oldest);
        let counted =
            |value: fn(&CdrStatus) -> u64| self.status.cdr.iter().map(move |place| (place.sink.clone(), value(place)));
        show.counters("cdr_written", "Call records written", "place", counted(|place| place.written));
        show.counters(
            "cdr_lost",
            "Call records that found no room, or were refused: they stand in the log",
            "place",
            counted(|place| place.lost),
        );
        if let Some(store) = &self.status.store {
            let failing = flag(store.failing_since.is_some());
            show.gauge("store_failing", "1: what the limits count cannot be written", failing);
        }
        if let Some(journal) = &self.status.journal {
            let failing = flag(journal.failing_since.is_some());
            show.gauge("journal_failing", "1: calls that stand cannot be noted", failing);
        }
    }

    fn certificates(&self, show: &mut Show) {
        let seconds = |at: &SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let expiry = self.certificates.iter().map(|(of, expires)| (of.clone(), seconds(expires)));
        let help = "When a certificate of ours runs out, Unix seconds: that of http, of sip, or of a trunk";
        show.gauges("certificate_expires_timestamp_seconds", help, "of", expiry);
    }
}

/// Puts values into a registry that is read once.
struct Show<'a>(&'a mut Registry);

impl Show<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.0.register(name, help, ConstGauge::new(value));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.0.register(name, help, ConstCounter::new(value));
    }

    /// One of each value of the label; what has the same is added up.
    fn gauges(&mut self, name: &str, help: &str, label: &'static str, rows: impl Iterator<Item = (String, f64)>) {
        let family = Family::<[(&str, String); 1], Gauge<f64, AtomicU64>>::default();
        for (value, number) in rows {
            family.get_or_create(&[(label, value)]).inc_by(number);
        }
        self.0.register(name, help, family);
    }

    /// The same of counters.
    fn counters(&mut self, name: &str, help: &str, label: &'static str, rows: impl Iterator<Item = (String, u64)>) {
        let family = Family::<[(&str, String); 1], Counter>::default();
        for (value, number) in rows {
            family.get_or_create(&[(label, value)]).inc_by(number);
        }
        self.0.register(name, help, family);
    }
}

/// The lateness of each worker, a histogram that is counted elsewhere.
#[derive(Debug)]
struct Late(Vec<Lateness>);

impl EncodeMetric for Late {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        for (worker, late) in self.0.iter().enumerate() {
            let bounds = Lateness::BOUNDS.iter().map(std::time::Duration::as_secs_f64).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(late.counts).collect();
            let labels = [("worker", worker.to_string())];
            let sum = late.sum.as_secs_f64();
            encoder.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, late.count(), &buckets, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn count(number: usize) -> f64 {
    number as f64
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}
