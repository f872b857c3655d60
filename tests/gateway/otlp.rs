//! Calls as traces: what a receiver of OTLP gets of the running program, read by the protocol's own types.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Browser, Gateway, connection, http_request, output};
use crate::uas::Uas;

const KEY: &str = "canary-of-the-receiver";

/// Somebody who takes traces.
struct Receiver(TcpListener);

impl Receiver {
    fn new() -> Receiver {
        Receiver(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// One request, answered so: its head and its spans.
    fn take(&self, status: &str) -> (String, Vec<Span>) {
        let mut stream = connection(&self.0);
        let (head, body) = http_request(&mut stream).expect("a whole request");
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}").unwrap();
        let request: ExportTraceServiceRequest = serde_json::from_str(&body).unwrap();
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        (head, scopes.flat_map(|scope| scope.spans).collect())
    }
}

fn write_config(dir: &TempDir, uas: &Uas, otlp: &str) -> String {
    let config = format!(
        "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
         rtp_ports = \"25700-25799\"\n[auth]\nopen = true\n[control]\nsocket = \"control.sock\"\n\
         [trunk.testphone]\naddress = \"{}\"\noptions = 0\n{otlp}",
        uas.address
    );
    let file = dir.path().join("ringback.toml");
    fs::write(&file, config).unwrap();
    file.to_str().unwrap().to_owned()
}

/// A call that is answered and hung up; its record.
fn call(gateway: &Gateway, alice: &mut Browser, name: &str) -> Value {
    alice.call(name, "600");
    alice.expect("answered");
    alice.send(&json!({"type": "hangup", "call": name}));
    alice.expect("ended");
    gateway.cdr()
}

fn find<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {names:?}"))
}

#[test]
fn each_call_is_sent_as_a_trace_by_its_own_id_and_no_number_or_key_is_told() {
    let (dir, uas, first, second) = (TempDir::new().unwrap(), Uas::udp(), Receiver::new(), Receiver::new());
    fs::create_dir(dir.path().join("dialplans")).unwrap();
    fs::write(dir.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
    let otlp = format!("[otlp]\nendpoint = \"http://{}\"\nheaders = {{ x-api-key = \"{KEY}\" }}\n", first.address());
    let file = write_config(&dir, &uas, &otlp);
    let mut gateway = Gateway::managed(file.as_ref(), &[("RUST_LOG", "ringback=trace")]);
    let mut alice = Browser::of(&gateway, "alice");
    let cdr = call(&gateway, &mut alice, "c1");
    // It is busy at first.
    let (head, _) = first.take("503 Service Unavailable");
    assert!(head.starts_with("POST /v1/traces HTTP/1.1") && head.contains(&format!("x-api-key: {KEY}")), "{head}");
    let (_, spans) = first.take("200 OK");
    let id = cdr["call"].as_str().unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let root = find(&spans, "outbound call");
    assert_eq!((hex(&root.trace_id), hex(&root.span_id)), (id.repeat(2), id.to_owned()));
    let ms = |nanos: u64| json!(nanos / 1_000_000);
    assert_eq!((&cdr["start"], &cdr["end"]), (&ms(root.start_time_unix_nano), &ms(root.end_time_unix_nano)));
    let attempt = find(&spans, "trunk testphone");
    assert_eq!(cdr["trunks"][0]["at"], ms(attempt.start_time_unix_nano));
    assert_eq!(cdr["trunks"][0]["ms"], ms(attempt.end_time_unix_nano - attempt.start_time_unix_nano));
    assert_eq!(cdr["answer"], ms(find(&spans, "talk").start_time_unix_nano));
    for name in ["set-up", "offer", "route"] {
        find(&spans, name);
    }
    let told = format!("{spans:?}");
    assert!(!told.contains("alice") && !told.contains("600\""), "{told}");

    // Another receiver, which may be told who called whom.
    let otlp = format!("[otlp]\nendpoint = \"http://{}\"\nnumbers = \"plain\"\n", second.address());
    write_config(&dir, &uas, &otlp);
    let (code, _, error) = output(&["--config", &file, "reload"]);
    assert_eq!(code, Some(0), "{error}");
    call(&gateway, &mut alice, "c2");
    let (head, spans) = second.take("200 OK");
    assert!(!head.contains(KEY));
    assert!(format!("{:?}", find(&spans, "outbound call")).contains("alice"));

    // The last one goes although the gateway ends.
    let cdr = call(&gateway, &mut alice, "c3");
    gateway.terminate();
    let (_, spans) = second.take("200 OK");
    assert!(spans.iter().any(|span| hex(&span.span_id) == cdr["call"].as_str().unwrap()));
    assert!(gateway.wait().success());
    let log = gateway.whole_log();
    assert_eq!(log.lines().find(|line| line.contains(KEY)), None);
}
