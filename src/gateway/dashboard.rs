//! The operator's page, `/dashboard/`: calls, trunks, why calls fail, and one call's ladder and sound.
//!
//! Its files are served at two doors, and its numbers come from `/v1` of the same door. On `[api] listen` that wants a token
//! of `[[api.token]]`. On the page's own listener both are there for this machine alone, and `/v1` wants a token or a
//! [key](Keys) as well; but for a gateway that is open to this machine in any case (`[auth] open`).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use rand::TryRng as _;
use rand::rngs::SysRng;

use super::{Ready, files};
use crate::config::ApiToken;

/// How long a key opens the page.
const GOOD_FOR: Duration = Duration::from_secs(12 * 3600);
/// Keys at once: with one more the oldest is good no longer.
const MOST_KEYS: usize = 16;

/// The page's files, which hold no secret. Each door says for whom they are.
pub(super) fn pages<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/dashboard", get(|| async { Redirect::permanent("/dashboard/") }))
        .route("/dashboard/", get(|headers: HeaderMap| async move { file("index.html", &headers) }))
        .route(
            "/dashboard/{name}",
            get(|Path(name): Path<String>, headers: HeaderMap| async move { file(&name, &headers) }),
        )
}

fn file(name: &str, headers: &HeaderMap) -> Response {
    files::of_dashboard(name, headers).unwrap_or_else(|| (StatusCode::NOT_FOUND, "not found\n").into_response())
}

/// Keys to the page on this machine, given to whoever may open the control socket: what lies behind is what that shows as
/// well. They are good for twelve hours, and for this gateway's life.
#[derive(Clone, Default)]
pub(super) struct Keys(Arc<Mutex<VecDeque<(ApiToken, Instant)>>>);

impl Keys {
    /// A new one; `None` without randomness.
    pub(super) fn issue(&self, now: Instant) -> Option<String> {
        let mut random = [0; 24];
        SysRng.try_fill_bytes(&mut random).ok()?;
        let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= MOST_KEYS {
            keys.pop_front();
        }
        keys.push_back((ApiToken::operator("dashboard", &key), now + GOOD_FOR));
        Some(key)
    }

    /// The token that a key stands for, where it is one.
    pub(super) fn find(&self, now: Instant, shown: &str) -> Option<ApiToken> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|(_, until)| now < *until);
        keys.iter().find(|(key, _)| key.is(shown)).map(|(key, _)| key.clone())
    }
}

/// Where the page is opened with a key on this machine; `None` where the page's listener is not reached by a loopback
/// address.
pub(super) fn url(ready: &Ready, key: &str) -> Option<String> {
    let ip = ready.http.ip();
    let host = match ip {
        ip if ip.is_unspecified() => "localhost".to_owned(),
        ip if !ip.is_loopback() => return None,
        ip => SocketAddr::new(ip, 0).to_string().trim_end_matches(":0").to_owned(),
    };
    let scheme = if ready.https { "https" } else { "http" };
    Some(format!("{scheme}://{host}:{}/dashboard/#key={key}", ready.http.port()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_good_for_a_while_and_no_more_than_some() {
        let (keys, now) = (Keys::default(), Instant::now());
        let first = keys.issue(now).unwrap();
        assert_eq!(first.len(), 48);
        let found = keys.find(now, &first).unwrap();
        assert!(found.control && found.trace && !format!("{found:?}").contains(&first));
        assert!(keys.find(now, "").is_none() && keys.find(now, &first.to_uppercase()).is_none());
        let last: Vec<String> = (0..MOST_KEYS).map(|_| keys.issue(now + Duration::from_secs(1)).unwrap()).collect();
        assert!(keys.find(now, &first).is_none(), "the oldest gives way");
        assert!(last.iter().all(|key| keys.find(now + GOOD_FOR, key).is_some()));
        assert!(last.iter().all(|key| keys.find(now + GOOD_FOR + Duration::from_secs(1), key).is_none()));
    }

    #[test]
    fn the_page_is_where_this_machine_reaches_it() {
        for (http, https, expected) in [
            ("127.0.0.1:8080", false, Some("http://127.0.0.1:8080/dashboard/#key=k")),
            ("0.0.0.0:8443", true, Some("https://localhost:8443/dashboard/#key=k")),
            ("[::]:80", false, Some("http://localhost:80/dashboard/#key=k")),
            ("[::1]:80", false, Some("http://[::1]:80/dashboard/#key=k")),
            ("192.0.2.1:80", false, None),
        ] {
            let none = Vec::new;
            let (sip_udp, sip_tcp, sip_tls) = (none(), none(), none());
            let (http, media) = (http.parse().unwrap(), none());
            let ready = Ready { http, https, api: None, media, sip_udp, sip_tcp, sip_tls, test_phone: None };
            assert_eq!(url(&ready, "k").as_deref(), expected);
        }
    }
}
