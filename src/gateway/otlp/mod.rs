//! Calls as traces, sent to whoever takes OTLP over HTTP ("OpenTelemetry Protocol Specification", JSON encoding), each when it
//! is over.
//!
//! The driver never waits: it puts a call's record into a queue with a bound, and a task makes spans of it and sends them,
//! many calls at a time. What is not taken is tried again a few times; what finds no room, or is not taken, is counted and
//! said. Traces are for looking at: the records of calls are kept elsewhere, and with more care.

mod spans;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Tasks;
use super::post::{Post, PostError, post, server};
use crate::call::Cdr;
use crate::config;
use crate::net::tls::TlsClient;

/// Calls that may wait to be sent.
const QUEUE: usize = 2048;
/// Calls that are sent at once.
const BATCH: usize = 128;
/// The most of an answer that is read.
const LONGEST_ANSWER: usize = 64 * 1024;

/// How patient the sender is.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// How long calls gather before they are sent.
    gather: Duration,
    /// How long one attempt may take.
    within: Duration,
    /// The pauses before further attempts.
    pauses: [Duration; 4],
    /// How long the last attempt may take when the gateway ends.
    last: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            gather: Duration::from_secs(1),
            within: Duration::from_secs(10),
            pauses: [1, 2, 5, 10].map(Duration::from_secs),
            last: Duration::from_secs(2),
        }
    }
}

/// What others see of it.
#[derive(Debug, Default)]
struct Seen {
    sent: AtomicU64,
    dropped: AtomicU64,
}

/// How it stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OtlpUse {
    /// Calls that wait.
    pub(super) waiting: usize,
    /// Calls whose traces were taken.
    pub(super) sent: u64,
    /// Calls whose traces found no room, were refused, or were not taken in time.
    pub(super) dropped: u64,
}

/// The driver's side.
pub(super) struct Otlp {
    queue: mpsc::Sender<Cdr>,
    config: watch::Sender<Option<config::Otlp>>,
    seen: Arc<Seen>,
}

impl Otlp {
    /// Starts the sender's task, which ends with the gateway; without a receiver it has nothing to do.
    pub(super) fn new(config: Option<config::Otlp>, tasks: &Tasks) -> Otlp {
        Otlp::start(config, tasks, Pace::default())
    }

    fn start(config: Option<config::Otlp>, tasks: &Tasks, pace: Pace) -> Otlp {
        let (queue, calls) = mpsc::channel(QUEUE);
        let (config, watched) = watch::channel(config);
        let seen = Arc::new(Seen::default());
        let sender =
            Sender { config: watched, calls, stop: tasks.stop.clone(), pace, seen: seen.clone(), tls: OnceLock::new() };
        tasks.tracker.spawn(sender.run());
        Otlp { queue, config, seen }
    }

    /// Another receiver from now on, or none; what waits goes there.
    pub(super) fn reload(&self, config: Option<config::Otlp>) {
        self.config.send_replace(config);
    }

    /// A call is over.
    pub(super) fn ended(&self, cdr: &Cdr) {
        if self.config.borrow().is_some() && self.queue.try_send(cdr.clone()).is_err() {
            self.seen.drop_some(1, "the queue of traces is full");
        }
    }

    /// How it stands; `None`: it is off.
    pub(super) fn usage(&self) -> Option<OtlpUse> {
        self.config.borrow().as_ref()?;
        Some(OtlpUse {
            waiting: self.queue.max_capacity().saturating_sub(self.queue.capacity()),
            sent: self.seen.sent.load(Ordering::Relaxed),
            dropped: self.seen.dropped.load(Ordering::Relaxed),
        })
    }
}

impl Seen {
    /// Counts calls whose traces are lost; the log is told of the first, and ever more seldom.
    fn drop_some(&self, calls: u64, why: &str) {
        let before = self.dropped.fetch_add(calls, Ordering::Relaxed);
        let all = before.saturating_add(calls);
        if calls > 0 && before.checked_ilog2() != all.checked_ilog2() {
            tracing::warn!(dropped = all, why, "traces of calls are lost");
        }
    }
}

/// Why spans were not taken.
enum Failure {
    /// They may be taken later.
    Later(String),
    /// They never will.
    Never(String),
}

/// The task.
struct Sender {
    config: watch::Receiver<Option<config::Otlp>>,
    calls: mpsc::Receiver<Cdr>,
    stop: CancellationToken,
    pace: Pace,
    seen: Arc<Seen>,
    tls: OnceLock<TlsClient>,
}

impl Sender {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let stop = self.stop.clone();
        while let Some(first) = stop.run_until_cancelled(self.calls.recv()).await {
            let Some(first) = first else { return };
            batch.push(first);
            // Calls that end together go together.
            stop.run_until_cancelled(sleep(self.pace.gather)).await;
            while let Some(next) = (batch.len() < BATCH).then(|| self.calls.try_recv().ok()).flatten() {
                batch.push(next);
            }
            self.deliver(&batch, &stop).await;
            batch.clear();
        }
        self.last(batch).await;
    }

    /// Sends some calls until they are taken, or given up.
    async fn deliver(&self, batch: &[Cdr], stop: &CancellationToken) {
        let mut pauses = self.pace.pauses.into_iter();
        loop {
            // Anew each time: a reload may have named another receiver.
            let Some(config) = self.config.borrow().clone() else {
                return self.seen.drop_some(batch.len() as u64, "[otlp] was taken out of the configuration");
            };
            let why = match self.attempt(&config, batch).await {
                Ok(()) => return,
                Err(Failure::Never(why)) => return self.seen.drop_some(batch.len() as u64, &why),
                Err(Failure::Later(why)) => why,
            };
            tracing::debug!(server = server(&config.url), why, "traces are not taken");
            match pauses.next().filter(|_| !stop.is_cancelled()) {
                Some(pause) => drop(stop.run_until_cancelled(sleep(pause)).await),
                None => return self.seen.drop_some(batch.len() as u64, &why),
            }
        }
    }

    /// The gateway ends: what waits gets one attempt.
    async fn last(&mut self, mut batch: Vec<Cdr>) {
        while let Ok(next) = self.calls.try_recv() {
            batch.push(next);
        }
        let Some(config) = self.config.borrow().clone().filter(|_| !batch.is_empty()) else { return };
        let sent = self.attempt(&config, &batch).await;
        if let Err(Failure::Later(why) | Failure::Never(why)) = sent {
            self.seen.drop_some(batch.len() as u64, &why);
            tracing::warn!(server = server(&config.url), calls = batch.len(), why, "the last calls' traces are lost");
        }
    }

    /// The time of an attempt is up; it is short when the gateway ends.
    async fn too_late(&self) {
        let ends = async {
            self.stop.cancelled().await;
            sleep(self.pace.last).await;
        };
        tokio::select! {
            () = sleep(self.pace.within) => {}
            () = ends => {}
        }
    }

    /// One request and what comes of it.
    async fn attempt(&self, config: &config::Otlp, batch: &[Cdr]) -> Result<(), Failure> {
        let headers: Vec<(&str, String)> = config
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.reveal()).into_owned()))
            .collect();
        let body = request(config, batch).to_string();
        let sent = Post { url: &config.url, body, headers: &headers, most: LONGEST_ANSWER };
        let answer = tokio::select! {
            answer = post(sent, &self.tls) => answer,
            () = self.too_late() => return Err(Failure::Later("it does not answer in time".into())),
        };
        let (status, text) = answer.map_err(|error| match error {
            // It may have been taken, and would be told twice.
            PostError::TooLong | PostError::NoText => Failure::Never(error.to_string()),
            _ => Failure::Later(error.to_string()),
        })?;
        if status.is_success() {
            self.seen.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
            warn_of_rejected(config, &text);
            return Ok(());
        }
        let why = format!("it answers with status {status}");
        Err(if may_pass(status) { Failure::Later(why) } else { Failure::Never(why) })
    }
}

/// `ExportTraceServiceRequest`
fn request(config: &config::Otlp, batch: &[Cdr]) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let spans: Vec<Value> = batch.iter().flat_map(|cdr| spans::of(cdr, config.numbers)).collect();
    let about = [spans::text("service.name", Some(&config.service)), spans::text("service.version", Some(version))];
    json!({ "resourceSpans": [{
        "resource": { "attributes": about },
        "scopeSpans": [{ "scope": { "name": "ringback", "version": version }, "spans": spans }],
    }] })
}

/// Statuses after which it is worth another try ("OTLP/HTTP Response", Retryable Response Codes).
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// `partialSuccess` of an answer.
fn warn_of_rejected(config: &config::Otlp, answer: &str) {
    let Ok(answer) = serde_json::from_str::<Value>(answer) else { return };
    let told = &answer["partialSuccess"];
    let rejected = told["rejectedSpans"].as_str().map_or(told["rejectedSpans"].as_u64(), |text| text.parse().ok());
    if let Some(spans @ 1..) = rejected {
        let why: String = told["errorMessage"].as_str().unwrap_or_default().chars().take(200).collect();
        tracing::warn!(server = server(&config.url), spans, why, "some spans are refused");
    }
}
