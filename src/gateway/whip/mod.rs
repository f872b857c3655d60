//! WHIP ([RFC 9725](https://www.rfc-editor.org/rfc/rfc9725)) for phones: `POST /whip/call?to=NUMBER` with an offer is a call.
//!
//! There is no second way to call: each call is a session of the browser protocol inside of the gateway ([`line`]), for which
//! a task translates ([`session`]). Docs: `docs/whip.md`.

mod line;
mod problem;
mod registry;
mod session;
mod state;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, patch, post};
use axum::{Extension, Router};
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::http::App;
use crate::sdp::{BrowserOffer, IceFragment};
use crate::signal::rules::MAX_SDP;
use crate::signal::{ClientMessage, IceServer};
use line::Line;
use problem::Problem;
use session::{Created, Dial, IfMatch, Patch, Patched};
use state::{CallState, Course};

pub(super) use registry::Registry;

/// What the door of calls takes.
const SDP: &str = "application/sdp";
/// What a call's session takes (RFC 8840).
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Where calls have their addresses.
const SESSIONS: &str = "/whip/session/";
/// Who calls where the gateway takes sessions without a token and nobody says.
const NOBODY: &str = "whip";

/// How long a body may take.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How long the answer may take: the dial plan may ask a web hook, which has limits of its own.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long the gateway may take for a PATCH or a hang-up.
const DONE_WITHIN: Duration = Duration::from_secs(5);
/// How long a question for the next state may wait.
const CHANGE_WITHIN: Duration = Duration::from_secs(25);

/// What pages of other origins may read of our responses, and send.
const EXPOSED: HeaderValue = HeaderValue::from_static("Location, Link, ETag, Accept-Post, Accept-Patch, Retry-After");
const TAKEN: HeaderValue = HeaderValue::from_static("Authorization, Content-Type, If-Match");

/// The routes of WHIP.
pub(super) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/whip/call", post(call).options(options))
        .route("/whip/session/{id}", patch(change).delete(hang_up).options(session_options))
        .route("/whip/session/{id}/state", get(tell).options(state_options))
        .layer(middleware::from_fn_with_state(app.clone(), origin))
}

/// The law of origins, and what pages of other origins need to know (CORS): all requests but those of pages pass.
async fn origin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let origin = headers.get(header::ORIGIN).cloned();
    let checked = app.door.borrow().origins.check(headers);
    let mut response = match checked {
        Err(refusal) => Problem::new(StatusCode::FORBIDDEN, refusal.to_string()).into_response(),
        Ok(()) => {
            let preflight =
                request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
            let mut response = next.run(request).await;
            if let Some(origin) = origin {
                let headers = response.headers_mut();
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
                if preflight {
                    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, TAKEN);
                    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
                }
            }
            response
        }
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a call is asked for by.
#[derive(Deserialize)]
struct Asked {
    to: Option<String>,
    from: Option<String>,
    /// Who calls, where the gateway takes sessions without a token.
    user: Option<String>,
}

impl Asked {
    fn hello(&self, token: Option<String>) -> ClientMessage {
        let user = token.is_none().then(|| self.user.clone().unwrap_or_else(|| NOBODY.into()));
        ClientMessage::Hello { token, user, resume: None }
    }
}

/// `POST /whip/call?to=NUMBER` (RFC 9725 section 4.2).
async fn call(
    State(app): State<Arc<App>>,
    Extension(ConnectInfo(peer)): Extension<ConnectInfo<SocketAddr>>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    has_type(&headers, SDP)?;
    let hello = asked.hello(bearer(&headers)?);
    let to = asked.to.as_deref().map(number).filter(|to| !to.is_empty()).ok_or_else(|| bad("to=NUMBER is missing"))?;
    let from = asked.from.as_deref().map(number);
    let offer = text(body).await?;
    acceptable(&offer)?;
    let id = random_hex::<16>()?;
    let line = line(&app, peer, &headers).await?;
    let (reply, replied) = oneshot::channel();
    let dial = Dial { hello, to, from, offer };
    // A task of its own: a client that goes away in the middle leaves nothing behind.
    app.tasks.tracker.spawn(session::run(line, dial, reply));
    let created = match timeout(ANSWER_WITHIN, replied).await {
        Ok(Ok(created)) => created?,
        _ => return Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "the call could not be taken up in time")),
    };
    let Created { answer, etag, ice_servers, handle } = created;
    let mut over = handle.state.clone();
    app.whip.add(Instant::now(), id.clone(), handle);
    let (registry, ended) = (app.clone(), id.clone());
    app.tasks.tracker.spawn(async move {
        let _ = over.wait_for(|state| state.state == Course::Ended).await; // or its task is gone: over as well
        registry.whip.over(Instant::now(), ended);
    });
    let mut headers = HeaderMap::new();
    put(&mut headers, header::CONTENT_TYPE, SDP);
    put(&mut headers, header::LOCATION, &format!("{SESSIONS}{id}"));
    put(&mut headers, header::ETAG, &etag);
    put(&mut headers, HeaderName::from_static("accept-patch"), FRAGMENT);
    link_servers(&mut headers, &ice_servers);
    put(&mut headers, header::LINK, &format!("<{SESSIONS}{id}/state>; rel=\"urn:ringback:call-state\""));
    Ok((StatusCode::CREATED, headers, answer).into_response())
}

/// `OPTIONS /whip/call`: what is taken; with a token also the TURN servers, for clients that must know them before they make
/// their offer (RFC 9725 section 4.6).
async fn options(
    State(app): State<Arc<App>>,
    Extension(ConnectInfo(peer)): Extension<ConnectInfo<SocketAddr>>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut answer = methods("POST, OPTIONS");
    put(&mut answer, HeaderName::from_static("accept-post"), SDP);
    if let Some(token) = bearer(&headers)? {
        let (hello, line) = (asked.hello(Some(token)), line(&app, peer, &headers).await?);
        let told = app.tasks.tracker.spawn(async move { session::ice_servers(line, &hello).await });
        match timeout(DONE_WITHIN, told).await {
            Ok(Ok(servers)) => link_servers(&mut answer, &servers?),
            _ => return Err(Problem::busy("no answer in time")),
        }
    }
    Ok((StatusCode::OK, answer).into_response())
}

/// `OPTIONS` of a session.
async fn session_options() -> Response {
    let mut headers = methods("PATCH, DELETE, OPTIONS");
    put(&mut headers, HeaderName::from_static("accept-patch"), FRAGMENT);
    (StatusCode::OK, headers).into_response()
}

/// `OPTIONS` of a session's state.
async fn state_options() -> Response {
    (StatusCode::OK, methods("GET, OPTIONS")).into_response()
}

/// What may be done with a resource, for everybody and for pages of other origins.
fn methods(methods: &'static str) -> HeaderMap {
    let methods = HeaderValue::from_static(methods);
    HeaderMap::from_iter([(header::ALLOW, methods.clone()), (header::ACCESS_CONTROL_ALLOW_METHODS, methods)])
}

/// `PATCH` of a session: candidates, or an ICE restart (RFC 9725 section 4.3).
async fn change(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let handle = app.whip.get(Instant::now(), &id)?;
    has_type(&headers, FRAGMENT)?;
    let wanted = if_match(&headers)?;
    let body = text(body).await?;
    let fragment = IceFragment::read(&body).map_err(|error| bad(&error.to_string()))?;
    let (reply, replied) = oneshot::channel();
    if handle.wishes.try_send(Patch { fragment, len: body.len(), wanted, reply }).is_err() {
        app.whip.get(Instant::now(), &id)?; // it may have ended just now
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many PATCHes at once"));
    }
    match timeout(DONE_WITHIN, replied).await {
        Ok(Ok(patched)) => match patched? {
            Patched::Trickled => Ok(StatusCode::NO_CONTENT.into_response()),
            Patched::Restarted { etag, fragment } => {
                let mut headers = HeaderMap::new();
                put(&mut headers, header::CONTENT_TYPE, FRAGMENT);
                put(&mut headers, header::ETAG, &etag);
                Ok((StatusCode::OK, headers, fragment).into_response())
            }
        },
        _ => Err(Problem::busy("no answer in time")),
    }
}

/// `DELETE` of a session: the call is hung up. If-Match says nothing here (RFC 9725 section 4.3).
async fn hang_up(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let mut handle = app.whip.get(Instant::now(), &id)?;
    handle.hangup.cancel();
    let over = handle.state.wait_for(|state| state.state == Course::Ended);
    let _ = timeout(DONE_WITHIN, over).await; // it ends in any case
    Ok(StatusCode::OK.into_response())
}

/// What is asked of a call's state.
#[derive(Deserialize)]
struct Question {
    /// Wait for another state than this.
    after: Option<String>,
}

/// `GET` of a session's state, which RFC 9725 knows nothing of: the session itself keeps GET for its later versions.
async fn tell(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(question): Query<Question>,
) -> Result<Json<CallState>, Problem> {
    let mut handle = app.whip.get(Instant::now(), &id)?;
    if let Some(after) = question.after {
        let changed = handle.state.wait_for(|state| state.state.as_str() != after);
        tokio::select! {
            _ = timeout(CHANGE_WITHIN, changed) => {}
            () = app.tasks.stop.cancelled() => {}
        }
    }
    let state = app.whip.get(Instant::now(), &id)?.state.borrow().clone();
    Ok(Json(state))
}

/// A line for one call; it takes a place among the sockets.
async fn line(app: &Arc<App>, peer: SocketAddr, headers: &HeaderMap) -> Result<Line, Problem> {
    let place = app.sockets.clone().try_acquire_owned().map_err(|_| Problem::busy("too many sockets"))?;
    Line::open(app.next_socket(), app.source(peer, headers), app.tasks.clone(), place).await
}

fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

/// Whether the body is what it has to be (RFC 9725: 415).
fn has_type(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    let found = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = found.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the body has to be {wanted}")))
}

/// The token (RFC 6750 section 2.1); none where there is no Authorization.
fn bearer(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    match token {
        Some(token) if !token.is_empty() => Ok(Some(token)),
        _ => Err(Problem::new(StatusCode::UNAUTHORIZED, "Authorization: Bearer TOKEN is what is taken")),
    }
}

/// A number from a query, where `+` means a space unless it is escaped: before a number it means what it says.
fn number(text: &str) -> String {
    match text.strip_prefix(' ') {
        Some(rest) => format!("+{rest}"),
        None => text.to_owned(),
    }
}

async fn text(body: Body) -> Result<String, Problem> {
    let read = timeout(BODY_WITHIN, axum::body::to_bytes(body, MAX_SDP)).await;
    let bytes = match read {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => {
            let detail = format!("the body breaks off, or has more than {MAX_SDP} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        Err(_) => return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body does not come")),
    };
    String::from_utf8(bytes.into()).map_err(|_| bad("the body is no text"))
}

/// An offer that can be answered whole: 400 for what is none, 406 for more than the one medium of a phone call (RFC 9725
/// sections 4.4.2 and 4.4.3), 422 for one that cannot be used.
fn acceptable(offer: &str) -> Result<(), Problem> {
    let read = BrowserOffer::read(offer).map_err(|error| {
        let status = if error.status() == 400 { StatusCode::BAD_REQUEST } else { StatusCode::UNPROCESSABLE_ENTITY };
        Problem::new(status, error.to_string())
    })?;
    if read.media_lines() > 1 {
        return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "a phone call has one medium: one audio line"));
    }
    Ok(())
}

/// If-Match (RFC 9110 section 13.1.1); 428 without (RFC 6585 section 3).
fn if_match(headers: &HeaderMap) -> Result<IfMatch, Problem> {
    let values = headers.get_all(header::IF_MATCH).iter().map(|value| value.to_str().unwrap_or_default());
    let tags: Vec<String> = values.flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).collect();
    match tags.as_slice() {
        [] => Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, "If-Match is missing")),
        [any] if any == "*" || any == "\"*\"" => Ok(IfMatch::Any),
        _ => Ok(IfMatch::Tags(tags)),
    }
}

/// One Link for each server (RFC 9725 section 4.6).
fn link_servers(headers: &mut HeaderMap, servers: &[IceServer]) {
    for server in servers {
        let credentials = match (&server.username, &server.credential) {
            (Some(username), Some(credential)) => {
                format!("; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\"")
            }
            _ => String::new(),
        };
        for url in &server.urls {
            put(headers, header::LINK, &format!("<{url}>; rel=\"ice-server\"{credentials}"));
        }
    }
}

/// Adds a field of our own making.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => {
            headers.append(name, value);
        }
        Err(error) => tracing::error!(%name, %error, "a header field of our own cannot be written"),
    }
}

/// Random bytes in hex, which nobody guesses.
fn random_hex<const N: usize>() -> Result<String, Problem> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(|_| Problem::busy("the system gives no randomness"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn if_match_is_a_star_or_tags() {
        let read = |value: &str| if_match(&headers(header::IF_MATCH, value)).map_err(|problem| problem.status.as_u16());
        assert_eq!(read("*"), Ok(IfMatch::Any));
        // As RFC 9725's own example writes it.
        assert_eq!(read("\"*\""), Ok(IfMatch::Any));
        assert_eq!(read("\"a\""), Ok(IfMatch::Tags(vec!["\"a\"".into()])));
        assert_eq!(read("\"a\", \"b\""), Ok(IfMatch::Tags(vec!["\"a\"".into(), "\"b\"".into()])));
        assert_eq!(if_match(&HeaderMap::new()).map_err(|problem| problem.status.as_u16()), Err(428));
    }

    #[test]
    fn a_plus_before_a_number_is_a_plus() {
        for (query, meant) in [
            ("to=+442079460958", "+442079460958"),
            ("to=%2B442079460958", "+442079460958"),
            ("to=%2B44+20+7946+0958", "+44 20 7946 0958"),
            ("to=600", "600"),
        ] {
            let uri = format!("http://localhost/whip/call?{query}").parse().unwrap();
            let Query(asked) = Query::<Asked>::try_from_uri(&uri).unwrap();
            assert_eq!(asked.to.as_deref().map(number).as_deref(), Some(meant), "{query}");
        }
    }

    #[test]
    fn only_a_bearer_token_is_one() {
        let read = |value: &str| bearer(&headers(header::AUTHORIZATION, value)).map_err(|p| p.status.as_u16());
        assert_eq!(read("Bearer abc"), Ok(Some("abc".into())));
        assert_eq!(read("bearer  abc"), Ok(Some("abc".into())));
        for wrong in ["Bearer", "Bearer ", "Basic YTpi", "abc"] {
            assert_eq!(read(wrong), Err(401), "{wrong}");
        }
        assert_eq!(bearer(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn each_server_has_a_link_of_its_own() {
        let (urls, name) = (["turn:a.example", "turns:a.example"].map(str::to_owned), "9:alice".to_owned());
        let turn = IceServer { urls: urls.to_vec(), username: Some(name), credential: Some("c=".into()) };
        let stun = IceServer { urls: vec!["stun:a.example".into()], username: None, credential: None };
        let mut headers = HeaderMap::new();
        link_servers(&mut headers, &[stun, turn]);
        let links: Vec<&str> = headers.get_all(header::LINK).iter().map(|value| value.to_str().unwrap()).collect();
        let credentials = "username=\"9:alice\"; credential=\"c=\"; credential-type=\"password\"";
        assert_eq!(
            links,
            [
                "<stun:a.example>; rel=\"ice-server\"".to_owned(),
                format!("<turn:a.example>; rel=\"ice-server\"; {credentials}"),
                format!("<turns:a.example>; rel=\"ice-server\"; {credentials}"),
            ]
        );
    }
}
