//! `GET /metrics` on the running program.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Browser, Gateway, PATIENCE};
use crate::transports::certificate;
use crate::uas::Uas;

const TOKEN: &str = "metrics-canary-0123456789abcdef01";

/// `GET /metrics`; status, head and text.
fn scrape(port: u16, more: &str) -> (u16, String, String) {
    get(port, "/metrics", more)
}

fn get(port: u16, path: &str, more: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
}

/// The value of a series, as it is written.
fn value<'a>(text: &'a str, series: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

/// Scrapes until a series has that value.
fn until(port: u16, series: &str, wanted: &str) -> String {
    until_all(port, &[(series, wanted)])
}

/// Scrapes until each of these series has its value in one scrape: what belongs together is not counted at one moment.
fn until_all(port: u16, series: &[(&str, &str)]) -> String {
    until_none(port, |text| {
        series.iter().find(|(name, wanted)| value(text, name) != Some(*wanted)).map(|(name, _)| *name)
    })
}

/// Scrapes until nothing is missing.
fn until_none<'a>(port: u16, missing: impl Fn(&str) -> Option<&'a str>) -> String {
    let begun = Instant::now();
    loop {
        let (status, _, text) = scrape(port, "");
        assert_eq!(status, 200);
        let Some(series) = missing(&text) else { return text };
        assert!(begun.elapsed() < PATIENCE, "{series} is not what is waited for:\n{text}");
        std::thread::yield_now();
    }
}

fn configured(uas: &Uas, ports: u16, more: &str) -> (TempDir, Gateway) {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("dialplans")).unwrap();
    fs::write(dir.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
    fs::write(dir.path().join("token"), TOKEN).unwrap();
    let config = format!(
        "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
         rtp_ports = \"{ports}-{}\"\n[auth]\nopen = true\n[trunk.testphone]\naddress = \"{}\"\noptions = 0\n{more}",
        ports + 99,
        uas.address
    );
    let file = dir.path().join("ringback.toml");
    fs::write(&file, config).unwrap();
    let gateway = Gateway::configured(&file);
    (dir, gateway)
}

#[test]
fn a_call_is_counted_with_its_trunk_and_cause_and_no_number_user_or_id_is_told() {
    let uas = Uas::udp();
    let api = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let more = format!(
        "[api]\nlisten = \"127.0.0.1:{api}\"\n[[api.token]]\nname = \"prometheus\"\ntoken_file = \"token\"\n\
         scopes = [\"read\"]\n[registrar]\nrealm = \"lab\"\n[registrar.users.desk]\npassword = \"canary-of-the-desk\"\n"
    );
    let (_dir, gateway) = configured(&uas, 23_500, &more);
    let port = gateway.port();
    let (status, head, fresh) = scrape(port, "");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(fresh.ends_with("# EOF\n"), "{fresh}");

    let mut alice = Browser::of(&gateway, "alice-canary");
    alice.call("c1", "600");
    let id = alice.expect("answer")["id"].as_str().unwrap_or_default().to_owned();
    alice.expect("answered");
    let standing = [
        ("ringback_calls_established", "1.0"),
        ("ringback_calls", "1.0"),
        ("ringback_calls_started_total{direction=\"outbound\"}", "1"),
        ("ringback_trunk_calls{trunk=\"testphone\"}", "1.0"),
        ("ringback_trunk_up{trunk=\"testphone\"}", "1.0"),
        ("ringback_rtp_ports{state=\"leased\"}", "1.0"),
        ("ringback_rtp_ports{state=\"free\"}", "49.0"),
        ("ringback_worker_running{worker=\"0\"}", "1.0"),
        ("ringback_worker_panics_total{worker=\"0\"}", "0"),
        ("ringback_queue_waiting{queue=\"browsers\"}", "0.0"),
        ("ringback_users", "1.0"),
    ];
    until_all(port, &standing);
    // A call's first timer may be due only after it is established.
    let late = "ringback_worker_lateness_seconds_count{worker=\"0\"}";
    until_none(port, |text| value(text, late).is_none_or(|count| count == "0").then_some(late));
    alice.send(&json!({"type": "hangup", "call": "c1"}));
    alice.expect("ended");
    // The call is counted first and cleared away then.
    let over = [
        ("ringback_calls_ended_total{direction=\"outbound\",trunk=\"testphone\",cause=\"normal\",by=\"browser\"}", "1"),
        ("ringback_calls_answered_total{direction=\"outbound\",trunk=\"testphone\"}", "1"),
        ("ringback_trunk_attempts_total{trunk=\"testphone\",result=\"answered\"}", "1"),
        ("ringback_call_ringing_seconds_count{direction=\"outbound\",trunk=\"testphone\"}", "1"),
        ("ringback_call_talking_seconds_count{direction=\"outbound\"}", "1"),
        ("ringback_events_total{event=\"call.ended\"}", "1"),
        ("ringback_calls", "0.0"),
    ];
    let text = until_all(port, &over);
    let cdr = gateway.cdr();
    for secret in [TOKEN, "canary", "alice", "600", cdr["call"].as_str().unwrap(), id.as_str(), "127.0.0.1"] {
        let shown = text.lines().filter(|line| !line.starts_with('#')).find(|line| {
            let labels =
                line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
            !secret.is_empty() && labels.contains(secret) && !labels.starts_with("le=\"") && !labels.contains(",le=\"")
        });
        assert_eq!(shown, None, "{secret} is told");
    }
    // The same for holders of a token, and for nobody else.
    assert_eq!(scrape(api, "").0, 401);
    let (status, _, theirs) = scrape(api, &format!("Authorization: Bearer {TOKEN}\r\n"));
    assert_eq!(status, 200);
    assert_eq!(names(&theirs), names(&text));
    for proxied in ["X-Forwarded-For: 203.0.113.9\r\n", "Forwarded: for=203.0.113.9\r\n", "Via: 1.1 proxy\r\n"] {
        assert_eq!(scrape(port, proxied).0, 404, "{proxied}");
    }
}

/// What becomes of records and certificates is seen before it hurts: in numbers, and by what balances load.
#[test]
fn records_that_wait_and_certificates_that_run_out_are_seen() {
    let uas = Uas::udp();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (folder, (pem, key, _)) = (TempDir::new().unwrap(), certificate("sip.example"));
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("cert.pem"), pem).unwrap();
    fs::write(path("key.pem"), key).unwrap();
    let more = format!(
        "[cdr]\nfile = \"-\"\npostgres = \"postgres://ringback@127.0.0.1:{nobody}/none\"\n[store]\npath = \"{0}\"\n\
         [trunk.shows]\naddress = \"127.0.0.1:9\"\ntransport = \"tls\"\noptions = 0\ntls_ca = \"{1}\"\n\
         tls_certificate = \"{1}\"\ntls_key = \"{2}\"\n",
        path("store.db"),
        path("cert.pem"),
        path("key.pem")
    );
    let (_dir, gateway) = configured(&uas, 25_600, &more);
    let port = gateway.port();
    until_ready(port, r#"{"ready":true,"reasons":[]}"#);
    let mut alice = Browser::of(&gateway, "alice");
    alice.call("c1", "600");
    alice.expect("answered");
    alice.send(&json!({"type": "hangup", "call": "c1"}));
    alice.expect("ended");
    let text = until_all(
        port,
        &[
            ("ringback_cdr_waiting{place=\"postgres\"}", "1.0"),
            ("ringback_cdr_limit{place=\"postgres\"}", "10000.0"),
            ("ringback_cdr_lost_total{place=\"postgres\"}", "0"),
            ("ringback_store_failing", "0.0"),
        ],
    );
    let expires = value(&text, "ringback_certificate_expires_timestamp_seconds{of=\"shows\"}").expect("a certificate");
    assert!(expires.parse::<f64>().unwrap() > 1.8e9, "{expires}");
    until(port, "ringback_cdr_waiting{place=\"file\"}", "0.0");
    // Calls can be made: it is ready all the same.
    until_ready(port, r#"{"ready":true,"reasons":[],"warnings":["cdr_failing"]}"#);
}

/// Asks until whoever balances load is told so.
fn until_ready(port: u16, wanted: &str) {
    let begun = Instant::now();
    loop {
        let (status, _, body) = get(port, "/readyz", "");
        if (status, body.as_str()) == (200, wanted) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{status} {body}");
        std::thread::yield_now();
    }
}

/// The names of the metrics, by their TYPE lines.
fn names(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}
