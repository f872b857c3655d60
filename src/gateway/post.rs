//! One HTTP POST to somebody else's server, over a connection of its own: for the web hooks of dial plans and those that
//! are told of events.

use std::io;
use std::sync::OnceLock;

use axum::body::Body;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::net::tls::{TlsClient, TlsError, Trust};

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum PostError {
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
    #[error("its answer is too long, or breaks off")]
    TooLong,
    #[error("its answer is no text")]
    NoText,
}

/// What is sent.
pub(super) struct Post<'a> {
    pub(super) url: &'a str,
    pub(super) body: String,
    /// Beside the usual ones.
    pub(super) headers: &'a [(&'a str, String)],
    /// The most of an answer's text that is read; 0: the status is all that is wanted.
    pub(super) most: usize,
}

/// Scheme and host of a URL, for the log: what comes after may be a secret.
pub(super) fn server(url: &str) -> String {
    let url: Option<Uri> = url.parse().ok();
    let known = url.as_ref().and_then(|url| Some((url.scheme_str()?, url.host()?)));
    known.map_or_else(|| "unknown".to_owned(), |(scheme, host)| format!("{scheme}://{host}"))
}

/// Sends it; gives status and text of the answer. The caller bounds the time.
pub(super) async fn post(post: Post<'_>, tls: &OnceLock<TlsClient>) -> Result<(StatusCode, String), PostError> {
    let url: Uri = post.url.parse().map_err(|_| PostError::Url)?;
    let host = url.host().ok_or(PostError::Url)?.to_owned();
    let secure = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((address, port)).await?;
    let most = post.most;
    let request = request(&url, &host, post)?;
    if !secure {
        return exchange(stream, request, most).await;
    }
    let client = match tls.get() {
        Some(client) => client.clone(),
        None => {
            let made = TlsClient::new(Trust::System, None, None)?;
            tls.get_or_init(|| made).clone()
        }
    };
    let name = client.server_name(address)?;
    exchange(TlsConnector::from(client.config()).connect(name, stream).await?, request, most).await
}

fn request(url: &Uri, host: &str, post: Post<'_>) -> Result<Request<Body>, PostError> {
    let authority = url.authority().map_or(host, |authority| authority.as_str());
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::post(path)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("ringback/", env!("CARGO_PKG_VERSION")));
    for (name, value) in post.headers {
        request = request.header(*name, value);
    }
    Ok(request.body(Body::from(post.body))?)
}

/// One request and its answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
    most: usize,
) -> Result<(StatusCode, String), PostError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let asked = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        if most == 0 {
            return Ok((status, String::new()));
        }
        let body = Body::new(response.into_body());
        let bytes = axum::body::to_bytes(body, most).await.map_err(|_| PostError::TooLong)?;
        Ok((status, String::from_utf8(bytes.to_vec()).map_err(|_| PostError::NoText)?))
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
