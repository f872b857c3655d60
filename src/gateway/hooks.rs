//! Asks the web hooks of dial plans: one POST each, bounded in time, size and number.

use std::io;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Event, Tasks};
use crate::dialplan::MOST_ANSWER;
use crate::net::tls::{TlsClient, TlsError, Trust};
use crate::switch::{CallId, Input};

/// Questions under way at once; past it a question counts as unanswered.
const AT_ONCE: usize = 256;

/// Why there is no answer.
#[derive(Debug, Error)]
enum HookError {
    #[error("the URL has no host")]
    Url,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
    #[error("it answers with status {0}")]
    Status(StatusCode),
    #[error("its answer is longer than {MOST_ANSWER} bytes, or breaks off")]
    TooLong,
    #[error("its answer is no text")]
    NoText,
    #[error("there are too many questions at once")]
    TooMany,
}

/// The questions under way.
pub(super) struct Hooks {
    places: Arc<Semaphore>,
    tls: Arc<OnceLock<TlsClient>>,
    tasks: Tasks,
}

impl Hooks {
    pub(super) fn new(tasks: Tasks) -> Hooks {
        Hooks { places: Arc::new(Semaphore::new(AT_ONCE)), tls: Arc::default(), tasks }
    }

    /// Asks; the answer comes as an event. Nothing comes after the time that the call waits: it has gone on by then.
    pub(super) fn ask(&self, call: CallId, url: String, body: String, within: std::time::Duration) {
        let place = self.places.clone().try_acquire_owned();
        let (tls, tasks, stop) = (self.tls.clone(), self.tasks.clone(), self.tasks.stop.clone());
        self.tasks.tracker.spawn(async move {
            let asked = async {
                let _place = place.map_err(|_| HookError::TooMany)?;
                post(&url, body, &tls).await
            };
            let answer = tokio::select! {
                () = stop.cancelled() => return,
                answer = timeout(within, asked) => answer,
            };
            let answer = match answer {
                Ok(Ok(answer)) => Some(answer),
                Ok(Err(error)) => {
                    tracing::warn!(%call, server = server(&url), %error, "a web hook does not answer");
                    None
                }
                Err(_) => return, // the call knows the time too
            };
            let _ = tasks.events.send(Event::Switch(Input::Answered { call, answer })).await; // the driver may be gone
        });
    }
}

/// Scheme and host of a URL, for the log: what comes after may be a secret.
fn server(url: &str) -> String {
    let url: Option<Uri> = url.parse().ok();
    let known = url.as_ref().and_then(|url| Some((url.scheme_str()?, url.host()?)));
    known.map_or_else(|| "unknown".to_owned(), |(scheme, host)| format!("{scheme}://{host}"))
}

async fn post(url: &str, body: String, tls: &OnceLock<TlsClient>) -> Result<String, HookError> {
    let url: Uri = url.parse().map_err(|_| HookError::Url)?;
    let host = url.host().ok_or(HookError::Url)?.to_owned();
    let secure = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((address, port)).await?;
    let request = request(&url, &host, body)?;
    if !secure {
        return exchange(stream, request).await;
    }
    let client = match tls.get() {
        Some(client) => client.clone(),
        None => {
            let made = TlsClient::new(Trust::System, None, None)?;
            tls.get_or_init(|| made).clone()
        }
    };
    let name = client.server_name(address)?;
    exchange(TlsConnector::from(client.config()).connect(name, stream).await?, request).await
}

fn request(url: &Uri, host: &str, body: String) -> Result<Request<Body>, HookError> {
    let authority = url.authority().map_or(host, |authority| authority.as_str());
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("ringback/", env!("CARGO_PKG_VERSION")))
        .body(Body::from(body))?;
    Ok(request)
}

/// One request and its answer over a connection of its own.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
) -> Result<String, HookError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let asked = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(HookError::Status(response.status()));
        }
        let body = Body::new(response.into_body());
        let bytes = axum::body::to_bytes(body, MOST_ANSWER).await.map_err(|_| HookError::TooLong)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| HookError::NoText)
    };
    tokio::pin!(asked, connection);
    // The connection moves only while it is polled; once it has ended, what it brought is still to be read.
    tokio::select! {
        answer = &mut asked => answer,
        _ = &mut connection => asked.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path and a query may hold a secret: the log has scheme and host.
    #[test]
    fn the_log_names_a_hooks_server_and_no_more() {
        for (url, named) in [
            ("https://pbx.example/route?key=s3cret", "https://pbx.example"),
            ("http://127.0.0.1:9000/s3cret", "http://127.0.0.1"),
            ("http://user:s3cret@pbx.example/", "http://pbx.example"),
            ("https://[2001:db8::1]:8443/s3cret", "https://[2001:db8::1]"),
            ("s3cret", "unknown"),
        ] {
            assert_eq!(server(url), named);
        }
    }
}
