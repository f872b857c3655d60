//! HTTP: the softphone page, the WebSocket's door, the health check, and the operator's page for this machine.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::api::{self, Api};
use super::life::Life;
use super::metrics::Metrics;
use super::proxies::Proxies;
use super::this_machine::OnThisMachine;
use super::{Tasks, accept_failed, files, whip, ws, ws_sip};
use crate::net::tls::TlsServer;
use crate::switch::SocketId;

/// What the handlers share.
pub(super) struct App {
    pub(super) tasks: Tasks,
    pub(super) door: watch::Receiver<Door>,
    pub(super) sockets: Arc<Semaphore>,
    /// The calls of WHIP.
    pub(super) whip: whip::Registry,
    next_socket: AtomicU64,
    life: watch::Receiver<Life>,
    metrics: Metrics,
}

/// Who is let in and what is shown: a reload may change it.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) origins: Origins,
    /// Who is believed when it says for whom it comes.
    pub(super) proxies: Proxies,
    /// Serve the softphone page.
    pub(super) softphone: bool,
    /// Let browsers in that speak SIP.
    pub(super) sip: bool,
    pub(super) about: About,
}

/// `GET /softphone.json`: what the page should know of its gateway.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct About {
    /// The built-in test phone answers its demo numbers.
    pub(super) testphone: bool,
    /// Sessions open without a token.
    pub(super) open: bool,
}

impl App {
    pub(super) fn new(
        tasks: Tasks,
        door: watch::Receiver<Door>,
        sockets: Arc<Semaphore>,
        life: watch::Receiver<Life>,
        metrics: Metrics,
    ) -> App {
        App { tasks, door, sockets, whip: whip::Registry::default(), next_socket: AtomicU64::new(1), life, metrics }
    }

    /// Who has sent a request that came from `peer`, which may be a proxy.
    pub(super) fn source(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        self.door.borrow().proxies.source(peer, headers)
    }

    pub(super) fn next_socket(&self) -> SocketId {
        SocketId(self.next_socket.fetch_add(1, Ordering::Relaxed))
    }
}

/// Our own end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Local {
    /// Our address.
    pub(super) address: SocketAddr,
    /// It is TLS.
    pub(super) secure: bool,
}

/// Which pages may open a WebSocket (RFC 6455 section 10.2).
#[derive(Debug)]
pub(super) struct Origins {
    /// `None`: pages of this gateway itself.
    pub(super) allowed: Option<Vec<String>>,
    /// Without tokens the Host must be a loopback name too: a page elsewhere whose name is rebound to 127.0.0.1 is not
    /// let in.
    pub(super) loopback_only: bool,
}

/// Why a WebSocket was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OriginRefusal {
    NotAllowed,
    NotLoopback,
}

impl fmt::Display for OriginRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OriginRefusal::NotAllowed => "this origin is not allowed; see [http] origins",
            OriginRefusal::NotLoopback => "without tokens the gateway is reached as localhost only",
        })
    }
}

impl Origins {
    /// A request without `Origin` is no browser's page and passes; its token decides.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), OriginRefusal> {
        let text = |name| headers.get(name).map(|v: &HeaderValue| v.to_str().unwrap_or("").to_ascii_lowercase());
        let host = text(header::HOST).unwrap_or_default();
        if self.loopback_only && !is_loopback_host(&host) {
            return Err(OriginRefusal::NotLoopback);
        }
        let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
        let allowed = match &self.allowed {
            Some(list) => list.contains(&origin),
            None => !host.is_empty() && (origin == format!("http://{host}") || origin == format!("https://{host}")),
        };
        if allowed { Ok(()) } else { Err(OriginRefusal::NotAllowed) }
    }
}

/// `localhost`, 127.0.0.0/8 or `[::1]`, with or without a port.
pub(super) fn is_loopback_host(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let ip = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || ip.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Connections beside WebSockets: page loads and health checks.
const PAGE_CONNECTIONS: usize = 256;
/// How long a request's head may take, and how long a connection may wait for the next one.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// How long a TLS handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(4);

/// A driver that has not turned for so long is stuck: it does so once a second at least.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// How long the answer to `/status` may take.
const STATUS_WITHIN: Duration = Duration::from_secs(2);

/// Accepts until the stop token fires; each connection is a task of the tracker, with a bound on their number and on the
/// time a request takes to arrive.
///
/// With `tls` they are https and wss, and nothing else.
pub(super) async fn serve(listener: TcpListener, tls: Option<watch::Receiver<TlsServer>>, app: App, calls: Arc<Api>) {
    let tasks = app.tasks.clone();
    let dashboard = api::on_this_machine(calls, app.door.clone());
    let connections = Arc::new(Semaphore::new(app.sockets.available_permits().saturating_add(PAGE_CONNECTIONS)));
    let app = Arc::new(app);
    let router = Router::new()
        .route("/phone", get(ws::upgrade))
        .route("/sip", get(ws_sip::upgrade))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/softphone.json", get(about))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .merge(whip::routes(&app))
        .merge(dashboard)
        .fallback(get(page))
        .with_state(app);
    serve_connections(listener, tls, router, connections, tasks).await;
}

/// Another door, with connections of its own.
pub(super) async fn serve_router(listener: TcpListener, router: Router, connections: usize, tasks: Tasks) {
    serve_connections(listener, None, router, Arc::new(Semaphore::new(connections)), tasks).await;
}

async fn serve_connections(
    listener: TcpListener,
    tls: Option<watch::Receiver<TlsServer>>,
    router: Router,
    connections: Arc<Semaphore>,
    tasks: Tasks,
) {
    loop {
        let accepted = tokio::select! {
            () = tasks.stop.cancelled() => return,
            accepted = accept(&listener, &connections) => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                let local = Local { address: stream.local_addr().unwrap_or(peer), secure: tls.is_some() };
                let router = router.clone().layer(Extension(ConnectInfo(peer))).layer(Extension(local));
                let tls = tls.as_ref().map(|tls| TlsAcceptor::from(tls.borrow().config()));
                tasks.tracker.spawn(accepted_connection(stream, tls, router, tasks.stop.clone(), permit));
            }
            Err(error) => accept_failed("HTTP", &error).await,
        }
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = connections.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

/// One connection from its handshake, if it has one, to its end.
async fn accepted_connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
    permit: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true); // a hint; the connection works without
    let Some(tls) = tls else { return connection(stream, router, stop, permit).await };
    let handshake = tokio::select! {
        () = stop.cancelled() => return,
        handshake = tokio::time::timeout(HANDSHAKE_WITHIN, tls.accept(stream)) => handshake,
    };
    match handshake {
        Ok(Ok(stream)) => connection(stream, router, stop, permit).await,
        Ok(Err(error)) => tracing::debug!(%error, "HTTPS handshake"),
        Err(_) => tracing::debug!("no HTTPS handshake within {HANDSHAKE_WITHIN:?}"),
    }
}

/// One connection to its end; asked to stop, it finishes the request it is at.
async fn connection<Stream>(stream: Stream, router: Router, stop: CancellationToken, permit: OwnedSemaphorePermit)
where
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(HEAD_WITHIN, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP connection");
    }
    drop(permit);
}

async fn about(State(app): State<Arc<App>>) -> Json<About> {
    let about = app.door.borrow().about;
    Json(about)
}

/// Whether the gateway lives: its driver has turned lately. What restarts it should ask this.
async fn healthz(State(app): State<Arc<App>>) -> Response {
    lives(app.life.borrow().beat, Instant::now())
}

pub(super) fn lives(beat: Instant, now: Instant) -> Response {
    let stalled = now.saturating_duration_since(beat) > STALLED_AFTER;
    let headers = [(header::CACHE_CONTROL, "no-store")];
    if stalled {
        return (StatusCode::SERVICE_UNAVAILABLE, headers, "stalled\n").into_response();
    }
    (headers, "ok\n").into_response()
}

/// Whether new calls should be sent here. What balances load should ask this.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    let readiness = app.life.borrow().readiness.clone();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(readiness)).into_response()
}

/// How everything stands, for this machine alone.
async fn status(_: OnThisMachine, State(app): State<Arc<App>>) -> Response {
    let (answer, answered) = oneshot::channel();
    let asked = app.tasks.events.try_send(super::Event::Status { answer }).is_ok();
    match (asked, tokio::time::timeout(STATUS_WITHIN, answered).await) {
        (true, Ok(Ok(status))) => ([(header::CACHE_CONTROL, "no-store")], Json(status)).into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "busy\n").into_response(),
    }
}

/// Numbers for Prometheus, for this machine alone; `[api]` has them for holders of a token.
async fn metrics(_: OnThisMachine, State(app): State<Arc<App>>) -> Response {
    app.metrics.respond(&app.tasks).await
}

/// The softphone's files; `/` is its page.
async fn page(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Response {
    let name = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        name => name,
    };
    let shown = app.door.borrow().softphone;
    let file = shown.then(|| files::answer(name, &headers)).flatten();
    file.unwrap_or_else(|| (StatusCode::NOT_FOUND, "not found\n").into_response())
}
