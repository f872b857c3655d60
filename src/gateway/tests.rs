#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::http::{OriginRefusal, Origins, lives};
use super::this_machine::is_on_this_machine;

fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: &str| headers.insert(name, HeaderValue::from_str(value).unwrap());
    set(header::HOST, host);
    if let Some(origin) = origin {
        set(header::ORIGIN, origin);
    }
    headers
}

#[test]
fn only_the_gateways_own_pages_open_a_socket_unless_others_are_named() {
    let own = Origins { allowed: None, loopback_only: false };
    let named = Origins { allowed: Some(vec!["https://shop.example".into()]), loopback_only: false };
    let refused = Err(OriginRefusal::NotAllowed);
    let table = [
        (&own, "gw.example", Some("https://gw.example"), Ok(())),
        (&own, "gw.example:8080", Some("http://gw.example:8080"), Ok(())),
        (&own, "gw.example", Some("HTTPS://GW.example"), Ok(())),
        (&own, "gw.example", Some("https://evil.example"), refused),
        (&own, "gw.example", Some("https://gw.example.evil.example"), refused),
        (&own, "gw.example", Some("null"), refused),
        (&own, "gw.example", None, Ok(())), // no browser: its token decides
        (&named, "gw.example", Some("https://shop.example"), Ok(())),
        (&named, "gw.example", Some("https://gw.example"), refused),
    ];
    for (origins, host, origin, expected) in table {
        assert_eq!(origins.check(&headers(host, origin)), expected, "{host} {origin:?}");
    }
}

/// A page on the internet whose name resolves to 127.0.0.1 would pass the comparison with Host.
#[test]
fn without_tokens_a_rebound_name_is_refused() {
    let open = Origins { allowed: None, loopback_only: true };
    let table = [
        ("localhost:8080", Ok(())),
        ("127.0.0.1:8080", Ok(())),
        ("[::1]:8080", Ok(())),
        ("localhost", Ok(())),
        ("evil.example:8080", Err(OriginRefusal::NotLoopback)),
        ("localhost.evil.example:8080", Err(OriginRefusal::NotLoopback)),
        ("192.0.2.1:8080", Err(OriginRefusal::NotLoopback)),
    ];
    for (host, expected) in table {
        let origin = format!("http://{host}");
        assert_eq!(open.check(&headers(host, Some(&origin))), expected, "{host}");
    }
}

/// How everything stands is told to this machine alone, and not to whom a proxy on it serves.
#[test]
fn the_status_is_for_loopback_peers_alone() {
    for (peer, host, sent_on, expected) in [
        ("127.0.0.1:4000", "localhost:8080", None, true),
        ("[::1]:4000", "[::1]:8080", None, true),
        ("[::ffff:127.0.0.1]:4000", "127.0.0.1:8080", None, true),
        ("192.0.2.7:4000", "localhost:8080", None, false),
        ("127.0.0.1:4000", "phone.example", None, false),
        ("127.0.0.1:4000", "", None, false),
        ("127.0.0.1:4000", "localhost:8080", Some("x-forwarded-for"), false),
        ("127.0.0.1:4000", "localhost:8080", Some("forwarded"), false),
    ] {
        let mut headers = headers(host, None);
        if let Some(name) = sent_on {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("192.0.2.7"));
        }
        assert_eq!(is_on_this_machine(peer.parse().unwrap(), &headers), expected, "{peer} {host} {sent_on:?}");
    }
}

/// A driver that has not turned for longer than five seconds is told to who would restart it.
#[test]
fn a_beat_that_is_old_is_a_gateway_that_stalls() {
    let beat = Instant::now();
    for (age, expected) in [(0, 200), (5_000, 200), (5_001, 503)] {
        assert_eq!(lives(beat, beat + Duration::from_millis(age)).status().as_u16(), expected, "{age} ms");
    }
    // Read before, and turned since.
    assert_eq!(lives(beat + Duration::from_secs(1), beat).status().as_u16(), 200);
}
