//! The WebSocket's door: who may open it, and what it refuses.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Browser, Gateway, OFFER, output};

#[test]
fn pages_are_served_with_a_policy_and_health_is_told() {
    let gateway = Gateway::embedded();
    let ask = |path: &str, header: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}Connection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let get = |path: &str| ask(path, "");
    let page = get("/");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("content-security-policy: default-src 'self'"), "{page}");
    let client = get("/ringback.js");
    assert!(
        client.contains("text/javascript") && client.contains("access-control-allow-origin: *"),
        "any page may import it"
    );
    assert!(get("/healthz").ends_with("ok\n"));
    let (head, body) = client.split_once("\r\n\r\n").unwrap();
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    assert!(
        head.contains("vary: accept-encoding") && !head.contains("content-encoding") && body.len() > 30_000,
        "{head}"
    );
    let again = ask("/ringback.js", &format!("If-None-Match: {etag}\r\n"));
    assert!(again.starts_with("HTTP/1.1 304") && again.ends_with("\r\n\r\n"), "{again}");
    for path in ["/nowhere", "/../Cargo.toml", "/%2e%2e/Cargo.toml"] {
        assert!(get(path).starts_with("HTTP/1.1 404"), "{path}");
    }
}

#[test]
fn only_our_own_pages_with_our_protocol_get_a_socket() {
    let gateway = Gateway::embedded();
    let own = format!("http://localhost:{}", gateway.port());
    let open = |origin: Option<&str>, protocol| Browser::try_open(&gateway, origin, protocol).map(|_| ());
    assert_eq!(open(Some(&own), Some("ringback.v1")), Ok(()));
    assert_eq!(open(None, Some("ringback.v1")), Ok(()));
    assert_eq!(open(Some("https://evil.example"), Some("ringback.v1")), Err(403));
    assert_eq!(open(Some(&own), Some("sip")), Err(400));
    assert_eq!(open(Some(&own), None), Err(400));
}

#[test]
fn a_socket_without_a_session_is_closed_after_its_five_seconds() {
    let gateway = Gateway::embedded();
    assert_eq!(Browser::open(&gateway).closed(), Some(1008));
}

#[test]
fn a_frame_over_64_kib_closes_its_own_socket_only() {
    let gateway = Gateway::embedded();
    let mut other = Browser::of(&gateway, "bob");
    let mut browser = Browser::of(&gateway, "alice");
    let padding = "x".repeat(64 * 1024);
    browser.send(&json!({"type": "ping", "n": padding}));
    browser.closed();
    other.send(&json!({"type": "ping", "n": 7}));
    assert_eq!(other.expect("pong")["n"], 7);
}

#[test]
fn malformed_input_gets_one_error_and_ends_no_call() {
    let gateway = Gateway::embedded();
    let mut browser = Browser::of(&gateway, "alice");
    browser.call("c1", "600");
    browser.expect("answered");
    let bad = [
        "",
        "not json",
        "{}",
        "[]",
        "{\"type\":\"dance\"}",
        "{\"type\":\"call\"}",
        "{\"type\":\"call\",\"call\":\"c2\",\"to\":\"600\",\"sdp\":\"v=0\"}",
        "{\"type\":\"call\",\"call\":\"c3\",\"to\":\"600\\r\\nX: y\",\"sdp\":\"v=0\"}",
        "{\"type\":\"hangup\",\"call\":\"nobody\"}",
        "{\"type\":\"digits\",\"call\":\"c1\",\"digits\":\"hello\"}",
        "{\"type\":\"ping\",\"extra\":1}",
    ];
    for (n, text) in bad.iter().enumerate() {
        browser.send_text(text);
        // A refused `call` may end by `ended`, everything else by `error`; then nothing more.
        let answer = browser.next().expect("the socket stays");
        assert!(answer["type"] == "error" || answer["type"] == "ended", "{text}: {answer}");
        browser.send(&json!({"type": "ping", "n": n}));
        assert_eq!(browser.next().expect("the socket stays")["type"], "pong", "{text}");
    }
    browser.send(&json!({"type": "hangup", "call": "c1"}));
    assert_eq!(browser.expect("ended")["call"], "c1");
}

#[test]
fn a_token_opens_a_session_and_a_wrong_one_says_why() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("dialplans")).unwrap();
    fs::write(dir.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
    fs::write(dir.path().join("secret"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let file = dir.path().join("ringback.toml");
    let config = "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
        rtp_ports = \"23000-23099\"\n[auth]\nhs256_secret_file = \"secret\"\n[trunk.testphone]\naddress = \"127.0.0.1:5070\"\n";
    fs::write(&file, config).unwrap();
    let gateway = Gateway::configured(&file);
    let sign = |more: &[&str]| {
        let arguments = [["--config", file.to_str().unwrap(), "token", "alice"].as_slice(), more].concat();
        let (code, out, err) = output(&arguments);
        assert_eq!(code, Some(0), "{err}");
        out.trim().to_owned()
    };

    let mut browser = Browser::open(&gateway);
    browser.send(&json!({"type": "hello", "token": sign(&["--destination", "601"])}));
    assert_eq!(browser.expect("welcome")["user"], "alice");
    browser.send(&json!({"type": "call", "call": "c1", "to": "600", "sdp": OFFER}));
    assert_eq!(browser.expect("ended")["sip"], 403, "600 is not among the token's destinations");

    let good = sign(&[]);
    let forged = format!("{}x", &good[..good.len() - 1]);
    for hello in [
        json!({"type": "hello"}),
        json!({"type": "hello", "user": "alice"}),
        json!({"type": "hello", "token": forged}),
        json!({"type": "hello", "token": sign(&["--expires", "0"])}),
    ] {
        let mut browser = Browser::open(&gateway);
        browser.send(&hello);
        let error = browser.expect("error");
        assert!(error["text"].as_str().is_some_and(|t| t.len() > 5), "{error}");
        browser.closed();
    }
}

/// A name server that is down at the start, or a trunk's own that is gone, is no reason for all others to be without.
#[test]
fn a_trunk_that_is_not_found_is_named_and_stops_nobody() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("dialplans")).unwrap();
    fs::write(dir.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
    let file = dir.path().join("ringback.toml");
    // Port 9 of this machine: nobody answers, and the system says so.
    let config = "[sip]\nudp = [\"127.0.0.1:0\"]\ndns = [\"127.0.0.1:9\"]\n[media]\nbrowser = \"127.0.0.1:0\"\n\
        rtp_address = \"127.0.0.1\"\nrtp_ports = \"23100-23199\"\n[auth]\nopen = true\n[trunk.testphone]\n\
        address = \"carrier.invalid\"\n";
    fs::write(&file, config).unwrap();
    let gateway = Gateway::configured(&file);
    gateway.logged(|line| line.contains("the trunk's name is not found") && line.contains("testphone"));
    let mut browser = Browser::of(&gateway, "alice");
    browser.call("c1", "600");
    assert_eq!(browser.expect("ended")["call"], "c1");
}

#[test]
fn a_flood_closes_its_own_socket_only() {
    let gateway = Gateway::embedded();
    let mut other = Browser::of(&gateway, "bob");
    let mut flood = Browser::of(&gateway, "alice");
    for n in 0..200 {
        if !flood.try_send(&json!({"type": "ping", "n": n})) {
            break;
        }
    }
    let closed = flood.closed();
    // Too many messages; or, as the answers are not read either, too slow.
    assert!(matches!(closed, Some(1008 | 1001) | None), "{closed:?}");
    other.send(&json!({"type": "ping", "n": 7}));
    assert_eq!(other.expect("pong")["n"], 7);
}
