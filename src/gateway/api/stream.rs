//! Events as they happen: server-sent events (the `text/event-stream` of the HTML standard).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use super::{Admitted, Api};
use crate::config::{ApiToken, wants};
use crate::gateway::events::{Happened, Subscription};

/// A comment is sent where nothing else is, so that what lies between does not take the stream for dead.
const EVERY: Duration = Duration::from_secs(15);

/// What a stream is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Names, or beginnings followed by `*`, comma-separated.
    #[serde(default)]
    events: String,
    /// One call.
    call: Option<String>,
}

/// A stream under way.
struct Streaming {
    subscription: Subscription,
    names: Vec<String>,
    call: Option<String>,
    /// Whose it is, and who may read.
    token: ApiToken,
    tokens: watch::Receiver<Vec<ApiToken>>,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

/// `GET /v1/events`
pub(super) async fn events(
    State(api): State<Arc<Api>>,
    Extension(Admitted(token)): Extension<Admitted>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let Ok(Query(Wanted { events, call })) = wanted else {
        return Problem::bad_request("the query takes `events` and `call`").into_response();
    };
    let Ok(place) = api.streams.clone().try_acquire_owned() else { return Problem::busy().into_response() };
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let names = events.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let subscription = api.events.subscribe(after);
    let (tokens, stop) = (api.tokens.clone(), api.tasks.stop.clone());
    let streaming = Streaming { subscription, names, call, token, tokens, stop, _place: place };
    let events = unfold(streaming, |mut streaming| async move {
        let event = streaming.next().await?;
        Some((Ok::<_, Infallible>(event), streaming))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(EVERY)).into_response()
}

/// Comes back when a token is none any more.
async fn revoked(tokens: &mut watch::Receiver<Vec<ApiToken>>, token: &ApiToken) {
    let _ = tokens.wait_for(|tokens| !tokens.contains(token)).await; // or when the gateway ends
}

impl Streaming {
    /// The next event that is wanted; `None`: the gateway ends, its token is taken back, or the stream is too far behind and
    /// has to come back.
    async fn next(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.subscription.gap) {
            return Some(Event::default().event("gap").data("{\"event\":\"gap\"}"));
        }
        loop {
            let happened = match self.subscription.missed.pop_front() {
                Some(happened) => happened,
                None => tokio::select! {
                    () = self.stop.cancelled() => return None,
                    () = revoked(&mut self.tokens, &self.token) => {
                        tracing::info!(token = self.token.name, "an event stream ends with its token");
                        return None;
                    }
                    happened = self.subscription.live.recv() => happened.ok()?,
                },
            };
            if self.wants(&happened) {
                return Some(Event::default().id(&happened.id).event(happened.name).data(&happened.json));
            }
        }
    }

    fn wants(&self, happened: &Happened) -> bool {
        wants(&self.names, happened.name) && self.call.as_ref().is_none_or(|call| *call == happened.subject)
    }
}
