//! The rule for what an operator alone may see: who asks is on this machine.

use std::net::SocketAddr;

use axum::Extension;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::http::is_loopback_host;

/// A request of somebody on this machine. A handler that has this among its arguments is not reached by anyone else: they
/// get 404, as if there were nothing here.
#[derive(Debug, Clone, Copy)]
pub(super) struct OnThisMachine;

impl<S: Send + Sync> FromRequestParts<S> for OnThisMachine {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<OnThisMachine, Response> {
        let peer = Extension::<ConnectInfo<SocketAddr>>::from_request_parts(parts, state).await;
        match peer {
            Ok(Extension(ConnectInfo(peer))) if is_on_this_machine(peer, &parts.headers) => Ok(OnThisMachine),
            _ => Err((StatusCode::NOT_FOUND, "not found\n").into_response()),
        }
    }
}

/// A loopback peer that asks for a loopback name. What a proxy on this machine sends on comes from a loopback address too,
/// but as a rule says whom it is for, or names the host that was asked for. (One that does neither: docs/security.md.)
pub(super) fn is_on_this_machine(peer: SocketAddr, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let sent_on = ["forwarded", "x-forwarded-for", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name));
    peer.ip().to_canonical().is_loopback() && is_loopback_host(&host.to_ascii_lowercase()) && !sent_on
}
