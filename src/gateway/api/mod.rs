//! Call control over HTTP: `/v1` on a listener of its own, for holders of a token.
//!
//! [`routes`] are the requests, [`stream`] is the event stream, [`openapi`] says all of it in OpenAPI 3.1.

pub mod openapi;
mod problem;
mod routes;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};

use super::events::Stream;
use super::metrics::Metrics;
use super::{Event, Tasks, http};
use crate::config::ApiToken;
use crate::switch::{Command, Reply, Status};
use problem::Problem;

/// Connections at once, event streams among them.
const CONNECTIONS: usize = 256;
/// Event streams at once.
const STREAMS: usize = 64;
/// The longest body of a request, bytes.
const LONGEST_BODY: usize = 16 * 1024;
/// How long a request may take, from its head to its answer.
const WITHIN: Duration = Duration::from_secs(10);

/// What the handlers share.
pub(super) struct Api {
    tasks: Tasks,
    tokens: watch::Receiver<Vec<ApiToken>>,
    events: Stream,
    streams: Arc<Semaphore>,
    metrics: Metrics,
}

impl Api {
    pub(super) fn new(tasks: Tasks, tokens: watch::Receiver<Vec<ApiToken>>, events: Stream, metrics: Metrics) -> Api {
        Api { tasks, tokens, events, streams: Arc::new(Semaphore::new(STREAMS)), metrics }
    }

    /// What a command comes to; `Err`: the gateway ends, or is too busy to say.
    async fn command(&self, command: Command) -> Result<Reply, Problem> {
        ask(&self.tasks, command).await.ok_or_else(Problem::busy)
    }

    async fn status(&self) -> Result<Status, Problem> {
        let (answer, answered) = oneshot::channel();
        self.tasks.sip.send(Event::Status { answer }).await.map_err(|_| Problem::busy())?;
        answered.await.map_err(|_| Problem::busy())
    }
}

/// Asks the driver; `None`: the gateway ends. Its queue is not the browsers': none of them can hold an operator up.
pub(super) async fn ask(tasks: &Tasks, command: Command) -> Option<Reply> {
    let (answer, answered) = oneshot::channel();
    tasks.sip.send(Event::Command { command, answer }).await.ok()?;
    answered.await.ok()
}

/// Serves until the stop token fires.
pub(super) async fn serve(listener: TcpListener, api: Api) {
    let tasks = api.tasks.clone();
    let api = Arc::new(api);
    let router = Router::new()
        .route("/v1/calls", get(routes::list).post(routes::originate))
        .route("/v1/calls/{call}", get(routes::inspect).delete(routes::hangup))
        .route("/v1/calls/{call}/digits", post(routes::digits))
        .route("/v1/calls/{call}/hold", post(routes::hold))
        .route("/v1/calls/{call}/transfer", post(routes::transfer))
        .route("/v1/status", get(routes::status))
        .route("/v1/events", get(stream::events))
        .route("/metrics", get(routes::metrics))
        .route_layer(middleware::from_fn_with_state(api.clone(), admitted))
        .route("/v1/openapi.json", get(routes::document))
        .fallback(routes::nothing)
        .method_not_allowed_fallback(routes::no_such_method)
        .layer(middleware::from_fn(in_time))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(api);
    http::serve_router(listener, router, CONNECTIONS, tasks).await;
}

/// The token that a request came with.
#[derive(Clone)]
struct Admitted(ApiToken);

/// Holders of a token only; what changes anything wants one that may control.
async fn admitted(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let found = {
        let tokens = api.tokens.borrow();
        let shown = bearer(request.headers());
        shown.and_then(|shown| tokens.iter().find(|token| token.is(shown)).cloned())
    };
    match found {
        None => Problem::unauthorized().into_response(),
        Some(ApiToken { name, control: false, .. }) if !reads => {
            tracing::warn!(token = name, "a token that may only read is used to control calls");
            Problem::forbidden().into_response()
        }
        Some(token) => {
            if !reads {
                tracing::info!(token = token.name, method = %request.method(), path = request.uri().path(), "call control");
            }
            request.extensions_mut().insert(Admitted(token));
            next.run(request).await
        }
    }
}

/// `Authorization: Bearer TOKEN` (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// A request that takes too long to arrive, or to be answered, has been one. (The body of a stream takes its time.)
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::busy().into_response(),
    }
}
