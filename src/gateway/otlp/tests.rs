#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, clippy::disallowed_types)]

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::call::CallId;
use crate::config::Secret;

const PACE: Pace = Pace {
    gather: Duration::ZERO,
    within: Duration::from_secs(10),
    pauses: [Duration::from_millis(1); 4],
    last: Duration::from_millis(500),
};

/// A call with a second trunk, both of whose parties were heard, and with numbers wherever there may be some.
fn cdr() -> Cdr {
    let leg = |begun: u64| {
        json!({"packets_in": 10, "packets_out": 11, "bytes_in": 1, "bytes_out": 2, "lost": 3, "jitter_ms": 4,
            "concealed_ms": 60, "rejected": 7, "begun": begun, "ice_ms": 20, "dtls_ms": 30, "first_audio_ms": 40,
            "mos_sent": {"mean": 4.25, "worst": 3.1}, "delay_ms": 80})
    };
    let json = json!({"call": "00c5f0a1b2d3e4f5", "direction": "outbound", "user": "alice +15550100", "dialled": "+15550101",
        "number": "+15550101", "sent": "15550101", "from": "+15550100", "rule": "world", "params": {"order": "+15550102"},
        "trunks": [{"trunk": "a", "result": "503", "at": 1_010, "ms": 90},
            {"trunk": "b", "result": "answered", "at": 1_100, "ms": 1_900, "redirected": ["+15550101"]}],
        "start": 1_000, "ringing": 2_000, "answer": 3_000, "end": 9_000, "cause": "normal", "by": "trunk", "sip": null,
        "q850": 16, "text": "bye to +15550101",
        "transfers": [{"at": 5_000, "by": "a", "to": "+15550101", "how": "refer", "result": "done"}],
        "no_audio": [{"at": 4_000, "from": "b", "leg": "b", "cause": "no-rtp", "ms": 500}],
        "parties": {"a": "browser", "b": "trunk"}, "codecs": {"a": "opus", "b": "PCMA"},
        "media": {"a": leg(1_005), "b": {"packets_in": 1, "packets_out": 1, "bytes_in": 1, "bytes_out": 1, "lost": 0,
            "jitter_ms": 0, "concealed_ms": 0, "rejected": 0, "begun": 1_100, "first_audio_ms": 0}}});
    serde_json::from_value(json).unwrap()
}

fn config(address: &str, numbers: bool) -> config::Otlp {
    let headers = vec![("x-api-key".to_owned(), Secret::of(b"canary"))];
    config::Otlp { url: format!("http://{address}/v1/traces"), headers, service: "gw1".into(), numbers }
}

/// What is sent, as the protocol's own types read it.
fn read(body: &str) -> ExportTraceServiceRequest {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn spans(request: &ExportTraceServiceRequest) -> &[Span] {
    &request.resource_spans[0].scope_spans[0].spans
}

fn said<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Any> {
    attributes.iter().find(|it| it.key == key).and_then(|it| match &it.value {
        Some(AnyValue { value: Some(value) }) => Some(value),
        _ => None,
    })
}

#[test]
fn a_call_is_one_trace_whose_id_is_the_calls() {
    let request = read(&request(&config("h", false), &[cdr()]).to_string());
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(said(&resource.attributes, "service.name"), Some(&Any::StringValue("gw1".into())));
    let spans = spans(&request);
    let ms = |nanos: u64| nanos / 1_000_000;
    let shown: Vec<_> = spans
        .iter()
        .map(|span| (span.name.as_str(), ms(span.start_time_unix_nano), ms(span.end_time_unix_nano)))
        .collect();
    assert_eq!(
        shown,
        [
            ("outbound call", 1_000, 9_000),
            ("set-up", 1_000, 3_000),
            ("offer", 1_000, 1_005),
            ("route", 1_000, 1_010),
            ("trunk a", 1_010, 1_100),
            ("trunk b", 1_100, 3_000),
            ("ringing", 2_000, 3_000),
            ("ICE a", 1_005, 1_025),
            ("DTLS a", 1_025, 1_055),
            ("first audio a", 3_000, 3_040),
            ("first audio b", 3_000, 3_000),
            ("talk", 3_000, 9_000),
        ]
    );
    let id = 0x00c5_f0a1_b2d3_e4f5_u64.to_be_bytes();
    let trace = [id, id].concat();
    assert!(spans.iter().all(|span| span.trace_id == trace));
    let (root, up) = (&spans[0], &spans[1]);
    assert_eq!((root.span_id.as_slice(), root.parent_span_id.is_empty(), root.kind), (&id[..], true, 2));
    let distinct: std::collections::BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(distinct.len(), spans.len());
    for span in &spans[2..7] {
        assert_eq!(span.parent_span_id, up.span_id, "{}", span.name);
    }
    assert_eq!(said(&root.attributes, "ringback.call"), Some(&Any::StringValue("00c5f0a1b2d3e4f5".into())));
    assert_eq!(said(&root.attributes, "ringback.a.lost"), Some(&Any::IntValue(3)));
    assert_eq!(said(&root.attributes, "ringback.a.mos_sent"), Some(&Any::DoubleValue(4.25)));
    assert_eq!((spans[4].status.as_ref().unwrap().code, spans[5].status.is_none(), spans[5].kind), (2, true, 3));
    let talk = spans.last().unwrap();
    let events: Vec<_> = talk.events.iter().map(|event| (event.name.as_str(), ms(event.time_unix_nano))).collect();
    assert_eq!(events, [("no audio", 4_000), ("transfer", 5_000)]);
}

#[test]
fn numbers_and_users_are_told_only_where_the_configuration_says_so_and_what_pages_say_never() {
    let sent = |numbers| request(&config("h", numbers), &[cdr()]).to_string();
    assert!(!sent(false).contains("555010") && !sent(false).contains("alice"), "{}", sent(false));
    let plain = read(&sent(true));
    let root = &spans(&plain)[0];
    assert_eq!(said(&root.attributes, "ringback.number"), Some(&Any::StringValue("+15550101".into())));
    assert_eq!(said(&root.attributes, "enduser.id"), Some(&Any::StringValue("alice +15550100".into())));
    assert!(!sent(true).contains("15550102") && !sent(true).contains("canary"));
}

/// Whatever a record says, its trace is one that a receiver can read.
#[test]
fn records_that_lack_or_contradict_are_traces_too() {
    let mut odd = cdr();
    (odd.end, odd.answer, odd.ringing) = (0, Some(u64::MAX), Some(u64::MAX));
    odd.trunks[0].ms = Some(u64::MAX);
    odd.media.as_mut().unwrap().a.sound.mos_sent.as_mut().unwrap().mean = f32::NAN;
    let mut bare = Cdr::begin(CallId(u64::MAX), crate::call::Direction::Inbound, "", "", 7);
    bare.by = crate::call::Origin::Network;
    let nameless = Cdr { call: "0000000000000000".into(), ..cdr() };
    let request = read(&request(&config("h", true), &[odd, bare, nameless]).to_string());
    for span in spans(&request) {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert!(span.span_id.iter().any(|byte| *byte != 0), "{span:?}");
    }
    let roots: Vec<_> = spans(&request).iter().filter(|span| span.parent_span_id.is_empty()).collect();
    assert_eq!(roots.len(), 2);
    assert_eq!(roots[1].status.as_ref().unwrap().code, 2);
}

/// Reads one request and answers it; gives head and body.
async fn answer(listener: &TcpListener, answer: &str) -> (String, String) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut text = String::new();
    loop {
        let mut buffer = vec![0; 65_536];
        let len = stream.read(&mut buffer).await.unwrap();
        assert!(len > 0, "it breaks off: {text}");
        text += std::str::from_utf8(&buffer[..len]).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.unwrap().parse::<usize>().unwrap() {
            stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
            return (head.to_owned(), body.to_owned());
        }
    }
}

const OK: &str = "200 OK\r\nContent-Length: 2\r\n\r\n{}";

async fn until(otlp: &Otlp, is: impl Fn(OtlpUse) -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !is(otlp.usage().unwrap()) {
            sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{:?}", otlp.usage()));
}

#[tokio::test]
async fn what_is_not_taken_is_tried_again_and_in_the_end_given_up_and_counted() {
    let (tasks, _queues) = Tasks::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let otlp = Otlp::start(Some(config(&address, false)), &tasks, PACE);
    otlp.ended(&cdr());
    let busy = "503 No\r\nContent-Length: 0\r\n\r\n";
    let (head, first) = answer(&listener, busy).await;
    assert!(head.starts_with("POST /v1/traces HTTP/1.1") && head.contains("x-api-key: canary"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let (_, second) = answer(&listener, OK).await;
    assert_eq!(first, second);
    until(&otlp, |it| it.sent == 1 && it.dropped == 0).await;
    otlp.ended(&cdr());
    for _ in 0..5 {
        answer(&listener, busy).await;
    }
    until(&otlp, |it| it.dropped == 1).await;
    // What can never be taken is not tried again.
    otlp.ended(&cdr());
    answer(&listener, "400 No\r\nContent-Length: 0\r\n\r\n").await;
    until(&otlp, |it| it.dropped == 2 && it.sent == 1).await;
    otlp.reload(None);
    otlp.ended(&cdr());
    assert!(otlp.usage().is_none());
    tasks.stop.cancel();
    tasks.tracker.close();
    tasks.tracker.wait().await;
}

#[tokio::test]
async fn the_queue_has_a_bound_and_what_waits_at_the_end_gets_one_attempt() {
    let (tasks, _queues) = Tasks::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let otlp = Otlp::start(Some(config(&address, false)), &tasks, PACE);
    // The task has not run yet: nothing is taken out.
    (0..QUEUE + 3).for_each(|_| otlp.ended(&cdr()));
    let usage = otlp.usage().unwrap();
    assert_eq!((usage.waiting, usage.dropped), (QUEUE, 3));
    tasks.stop.cancel();
    tasks.tracker.close();
    let (_, body) = answer(&listener, OK).await;
    assert_eq!(spans(&read(&body)).len(), QUEUE * 12);
    tasks.tracker.wait().await;
    assert_eq!((otlp.usage().unwrap().sent, otlp.usage().unwrap().waiting), (QUEUE as u64, 0));
}

/// Nobody answers: the end is not held up by it.
#[tokio::test]
async fn a_receiver_that_hangs_does_not_hold_up_the_end() {
    let (tasks, _queues) = Tasks::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pace = Pace { within: Duration::from_secs(600), last: Duration::from_millis(20), ..PACE };
    let otlp = Otlp::start(Some(config(&listener.local_addr().unwrap().to_string(), false)), &tasks, pace);
    otlp.ended(&cdr());
    let (_hangs, _) = listener.accept().await.unwrap();
    tasks.stop.cancel();
    tasks.tracker.close();
    let ended = tokio::time::timeout(Duration::from_secs(60), tasks.tracker.wait()).await;
    assert!(ended.is_ok() && otlp.usage().unwrap().dropped == 1);
}
