//! Call control over HTTP: `/v1` on a listener of its own, for holders of a token; for the operator's page also on the
//! page's listener, for this machine.
//!
//! [`routes`] are the requests, [`stream`] is the event stream, [`openapi`] says all of it in OpenAPI 3.1.

pub mod openapi;
mod problem;
mod routes;
mod stream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};

use super::dashboard::{self, Keys};
use super::events::Stream;
use super::http::{Door, Origins};
use super::metrics::Metrics;
use super::this_machine::OnThisMachine;
use super::{Event, Tasks, http, lately, trace};
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
    keys: Keys,
}

impl Api {
    pub(super) fn new(
        tasks: Tasks,
        tokens: watch::Receiver<Vec<ApiToken>>,
        events: Stream,
        metrics: Metrics,
        keys: Keys,
    ) -> Api {
        Api { tasks, tokens, events, streams: Arc::new(Semaphore::new(STREAMS)), metrics, keys }
    }

    /// The token of `[[api.token]]` that is shown.
    fn token(&self, shown: &str) -> Option<ApiToken> {
        self.tokens.borrow().iter().find(|token| token.is(shown)).cloned()
    }

    /// What a command comes to; `Err`: the gateway ends, or is too busy to say.
    async fn command(&self, command: Command) -> Result<Reply, Problem> {
        ask(&self.tasks, command).await.ok_or_else(Problem::busy)
    }

    async fn status(&self) -> Result<Status, Problem> {
        self.ask(|answer| Event::Status { answer }).await
    }

    /// About calls that were lately.
    async fn lately(&self, question: lately::Question) -> Result<lately::Answer, Problem> {
        self.ask(|answer| Event::Lately { question, answer }).await
    }

    /// What was said about a call.
    async fn trace(&self, question: trace::Question) -> Result<trace::Answer, Problem> {
        self.ask(|answer| Event::Trace { question, answer }).await
    }

    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Result<T, Problem> {
        let (answer, answered) = oneshot::channel();
        self.tasks.sip.send(event(answer)).await.map_err(|_| Problem::busy())?;
        answered.await.map_err(|_| Problem::busy())
    }
}

/// Asks the driver; `None`: the gateway ends. Its queue is not the browsers': none of them can hold an operator up.
pub(super) async fn ask(tasks: &Tasks, command: Command) -> Option<Reply> {
    let (answer, answered) = oneshot::channel();
    tasks.sip.send(Event::Command { command, answer }).await.ok()?;
    answered.await.ok()
}

/// What both doors have: what the operator's page needs, and no more.
fn seen() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/calls", get(routes::list))
        .route("/v1/calls/{call}", get(routes::inspect).delete(routes::hangup))
        .route("/v1/calls/{call}/trace", get(routes::trace))
        .route("/v1/calls/{call}/quality", get(routes::quality))
        .route("/v1/calls/{call}/record", get(routes::record))
        .route("/v1/ended", get(routes::ended))
        .route("/v1/status", get(routes::status))
        .route("/v1/limits", get(routes::limits))
}

/// Serves until the stop token fires.
pub(super) async fn serve(listener: TcpListener, api: Arc<Api>) {
    let tasks = api.tasks.clone();
    let router = seen()
        .route("/v1/calls", post(routes::originate))
        .route("/v1/calls/{call}/digits", post(routes::digits))
        .route("/v1/calls/{call}/hold", post(routes::hold))
        .route("/v1/calls/{call}/transfer", post(routes::transfer))
        .route("/v1/events", get(stream::events))
        .route("/metrics", get(routes::metrics))
        .route_layer(middleware::from_fn_with_state(api.clone(), with_token))
        .merge(dashboard::pages())
        .route("/v1/openapi.json", get(routes::document))
        .fallback(routes::nothing)
        .method_not_allowed_fallback(routes::no_such_method)
        .layer(middleware::from_fn(in_time))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(api);
    http::serve_router(listener, router, CONNECTIONS, tasks).await;
}

/// The operator's page and what it shows, for the listener of the softphone's page: on this machine alone.
pub(super) fn on_this_machine<S>(api: Arc<Api>, door: watch::Receiver<Door>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    seen()
        .route_layer(middleware::from_fn_with_state((api.clone(), door), with_key))
        .merge(dashboard::pages())
        .route_layer(middleware::from_fn(here))
        .layer(middleware::from_fn(in_time))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(api)
}

/// Requests of this gateway's own pages on this machine, and of what is no page.
const OWN_PAGES: Origins = Origins { allowed: None, loopback_only: true };

/// The token that a request came with.
#[derive(Clone)]
struct Admitted(ApiToken);

/// Nobody from elsewhere.
async fn here(_: OnThisMachine, request: Request, next: Next) -> Response {
    next.run(request).await
}

/// Holders of a token only.
async fn with_token(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let found = bearer(request.headers()).and_then(|shown| api.token(shown));
    admitted(found, request, next).await
}

/// Holders of a token, or of a key; but for a gateway that anybody here may call by. Pages of others are told by the
/// browser's `Origin`.
async fn with_key(
    State((api, door)): State<(Arc<Api>, watch::Receiver<Door>)>,
    request: Request,
    next: Next,
) -> Response {
    let shown = bearer(request.headers());
    let open = door.borrow().about.open && OWN_PAGES.check(request.headers()).is_ok();
    let found = match shown {
        Some(shown) => api.token(shown).or_else(|| api.keys.find(Instant::now(), shown)),
        None => open.then(|| ApiToken::operator("this machine", "")),
    };
    admitted(found, request, next).await
}

/// What changes anything wants a token that may control.
async fn admitted(found: Option<ApiToken>, mut request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match found {
        None => Problem::unauthorized().into_response(),
        Some(ApiToken { name, control: false, .. }) if !reads => {
            tracing::warn!(token = name, "a token that may only read is used to control calls");
            Problem::forbidden("this token may only read").into_response()
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
