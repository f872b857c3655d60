//! The requests.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::{Admitted, Api, openapi};
use crate::gateway::trace::TraceView;
use crate::gateway::{lately, trace};
use crate::switch::{CallId, CallView, Command, Reply, Status};

/// `GET /v1/calls`
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Calls {
    /// The oldest first.
    calls: Vec<CallView>,
}

type Shared = State<Arc<Api>>;
type Body = Result<Bytes, BytesRejection>;

fn fresh<T: Serialize>(status: StatusCode, body: T) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// The id in a path; one that is none names no call.
fn call_id(path: &str) -> Result<CallId, Problem> {
    path.parse().map_err(|_| Problem::unknown_call())
}

fn read<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let body = body.map_err(|_| Problem::too_large())?;
    serde_json::from_slice(&body).map_err(|error| Problem::bad_request(error.to_string()))
}

pub(super) async fn list(State(api): Shared) -> Result<Response, Problem> {
    match api.command(Command::List).await? {
        Reply::Calls(calls) => Ok(fresh(StatusCode::OK, Calls { calls })),
        other => answer(StatusCode::OK, other),
    }
}

pub(super) async fn originate(State(api): Shared, body: Body) -> Result<Response, Problem> {
    match api.command(Command::Originate(read(body)?)).await? {
        Reply::Call(call) => {
            let place = format!("/v1/calls/{}", call.call);
            Ok(([(header::LOCATION, place)], fresh(StatusCode::CREATED, call)).into_response())
        }
        other => answer(StatusCode::CREATED, other),
    }
}

pub(super) async fn inspect(State(api): Shared, Path(call): Path<String>) -> Result<Response, Problem> {
    answer(StatusCode::OK, api.command(Command::Inspect(call_id(&call)?)).await?)
}

pub(super) async fn hangup(State(api): Shared, Path(call): Path<String>) -> Result<Response, Problem> {
    match api.command(Command::Hangup(call_id(&call)?)).await? {
        Reply::Refused(denial) => Err(denial.into()),
        _ => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

pub(super) async fn digits(State(api): Shared, Path(call): Path<String>, body: Body) -> Result<Response, Problem> {
    answer(StatusCode::ACCEPTED, api.command(Command::Digits(call_id(&call)?, read(body)?)).await?)
}

pub(super) async fn hold(State(api): Shared, Path(call): Path<String>, body: Body) -> Result<Response, Problem> {
    answer(StatusCode::ACCEPTED, api.command(Command::Hold(call_id(&call)?, read(body)?)).await?)
}

pub(super) async fn transfer(State(api): Shared, Path(call): Path<String>, body: Body) -> Result<Response, Problem> {
    answer(StatusCode::ACCEPTED, api.command(Command::Transfer(call_id(&call)?, read(body)?)).await?)
}

/// What `?since=N` asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    /// Messages from this number on.
    #[serde(default)]
    since: u64,
}

/// What was said about a call, for those who may see it.
pub(super) async fn trace(
    State(api): Shared,
    Extension(Admitted(token)): Extension<Admitted>,
    Path(call): Path<String>,
    since: Result<Query<Since>, QueryRejection>,
) -> Result<Response, Problem> {
    if !token.trace {
        tracing::warn!(token = token.name, "a token without the scope `trace` is used to see what was said");
        return Err(Problem::forbidden("this token may not see what was said: it lacks the scope `trace`"));
    }
    let Query(Since { since }) = since.map_err(|_| Problem::bad_request("the query takes `since`, a number"))?;
    match api.trace(trace::Question::Call(call_id(&call)?, since)).await? {
        trace::Answer::Call(Some(told)) => Ok(fresh(StatusCode::OK, TraceView::from(&told))),
        _ => Err(Problem::unknown_call()),
    }
}

/// How a call has sounded so far.
pub(super) async fn quality(State(api): Shared, Path(call): Path<String>) -> Result<Response, Problem> {
    match api.lately(lately::Question::Quality(call_id(&call)?)).await? {
        lately::Answer::Quality(Some(history)) => Ok(fresh(StatusCode::OK, history)),
        _ => Err(Problem::unknown_call()),
    }
}

/// The record of a call that is over.
pub(super) async fn record(State(api): Shared, Path(call): Path<String>) -> Result<Response, Problem> {
    match api.lately(lately::Question::Record(call_id(&call)?)).await? {
        lately::Answer::Record(Some(record)) => Ok(fresh(StatusCode::OK, &*record)),
        _ => Err(Problem::unknown_call()),
    }
}

/// What has ended lately, and why.
pub(super) async fn ended(State(api): Shared) -> Result<Response, Problem> {
    match api.lately(lately::Question::Ends).await? {
        lately::Answer::Ends(ends) => Ok(fresh(StatusCode::OK, ends)),
        _ => Err(Problem::busy()),
    }
}

pub(super) async fn status(State(api): Shared) -> Result<Json<Status>, Problem> {
    api.status().await.map(Json)
}

pub(super) async fn limits(State(api): Shared) -> Result<Response, Problem> {
    answer(StatusCode::OK, api.command(Command::Limits).await?)
}

/// Numbers for Prometheus.
pub(super) async fn metrics(State(api): Shared) -> Response {
    api.metrics.respond(&api.tasks).await
}

/// The description of all this is no secret.
pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::document()).into_response()
}

pub(super) async fn nothing() -> Problem {
    Problem::not_found()
}

pub(super) async fn no_such_method() -> Problem {
    Problem::no_such_method()
}

fn answer(status: StatusCode, reply: Reply) -> Result<Response, Problem> {
    match reply {
        Reply::Call(call) => Ok(fresh(status, call)),
        Reply::Calls(calls) => Ok(fresh(status, Calls { calls })),
        Reply::Limits(limits) => Ok(fresh(status, limits)),
        Reply::Gone => Ok(StatusCode::NO_CONTENT.into_response()),
        Reply::Refused(denial) => Err(denial.into()),
    }
}
