//! `GET /metrics`: numbers for Prometheus, as OpenMetrics text.
//!
//! [`calls`] counts what happens, as it happens, in the driver; [`snapshot`] is how everything stands when it is asked for;
//! [`process`] is what the system says of the process. Nothing here is on the way of a packet: workers count in atomics of
//! their own, which are read at a scrape. Labels are names of the configuration and words of fixed lists, never a number, a
//! user or a call's id.

mod calls;
mod process;
mod snapshot;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;

use super::{Event, Tasks};
pub(super) use calls::Calls;
pub(super) use snapshot::{HookUse, QueueUse, Snapshot};

/// The first part of every name of ours.
const PREFIX: &str = "ringback";
/// `application/openmetrics-text`, version 1.0.0.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How long the driver may take to say how everything stands.
const WITHIN: Duration = Duration::from_secs(2);

/// What the doors need to answer.
#[derive(Clone)]
pub(super) struct Metrics {
    calls: Arc<Registry>,
    started: u64,
}

impl Metrics {
    /// Of a gateway that started at `unix_ms`; what counts its calls is the driver's.
    pub(super) fn new(unix_ms: u64) -> (Metrics, Calls) {
        let mut registry = Registry::with_prefix(PREFIX);
        let calls = Calls::register(&mut registry);
        (Metrics { calls: Arc::new(registry), started: unix_ms }, calls)
    }

    /// The answer to a scrape; 503 while the driver does not say how it stands.
    pub(super) async fn respond(&self, tasks: &Tasks) -> Response {
        let (answer, answered) = oneshot::channel();
        // Its queue is neither the browsers' nor the trunks': none of them can blind the operator.
        let asked = tasks.scrapes.try_send(Event::Metrics { answer }).is_ok();
        let snapshot = match (asked, tokio::time::timeout(WITHIN, answered).await) {
            (true, Ok(Ok(snapshot))) => snapshot,
            _ => return (StatusCode::SERVICE_UNAVAILABLE, "busy\n").into_response(),
        };
        match self.text(&snapshot) {
            Ok(text) => {
                ([(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], text).into_response()
            }
            Err(error) => {
                tracing::error!(%error, "metrics cannot be written");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    fn text(&self, snapshot: &Snapshot) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.calls)?;
        encode_registry(&mut text, &snapshot.registry())?;
        encode_registry(&mut text, &process::registry(self.started))?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}
