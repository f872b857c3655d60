#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::super::present::{CallState, Course};
use super::super::rules::{MAX_CANDIDATE, MAX_SDP, MAX_TOKEN};
use super::*;

fn refused(frame: &str) -> MessageError {
    ClientMessage::parse(frame).expect_err(frame)
}

#[test]
fn each_client_message_reads_what_it_writes() {
    let call = || "c1".to_owned();
    let sdp = || "v=0\r\n".to_owned();
    let messages = [
        (
            ClientMessage::Hello { token: Some("a.b.c".into()), user: None, resume: None },
            r#"{"type":"hello","token":"a.b.c"}"#,
        ),
        (
            ClientMessage::Hello { token: None, user: Some("alice".into()), resume: Some("5f".into()) },
            r#"{"type":"hello","user":"alice","resume":"5f"}"#,
        ),
        (ClientMessage::Renew { token: "a.b.c".into() }, r#"{"type":"renew","token":"a.b.c"}"#),
        (ClientMessage::Bye { within_ms: None }, r#"{"type":"bye"}"#),
        (ClientMessage::Bye { within_ms: Some(6000) }, r#"{"type":"bye","within_ms":6000}"#),
        (
            ClientMessage::Call { call: call(), to: "600".into(), sdp: sdp(), from: None, params: BTreeMap::new() },
            r#"{"type":"call","call":"c1","to":"600","sdp":"v=0\r\n"}"#,
        ),
        (
            ClientMessage::Call {
                call: call(),
                to: "600".into(),
                sdp: sdp(),
                from: None,
                params: BTreeMap::from([("crm".to_owned(), "7 é".to_owned())]),
            },
            r#"{"type":"call","call":"c1","to":"600","sdp":"v=0\r\n","params":{"crm":"7 é"}}"#,
        ),
        (ClientMessage::Check { to: "600".into(), from: None, n: Some(3) }, r#"{"type":"check","to":"600","n":3}"#),
        (ClientMessage::Probe { call: call(), sdp: sdp() }, r#"{"type":"probe","call":"c1","sdp":"v=0\r\n"}"#),
        (ClientMessage::Restart { call: call(), sdp: sdp() }, r#"{"type":"restart","call":"c1","sdp":"v=0\r\n"}"#),
        (
            ClientMessage::Feedback { id: "00c5".into(), score: 2, issue: Some("one-way".into()) },
            r#"{"type":"feedback","id":"00c5","score":2,"issue":"one-way"}"#,
        ),
        (ClientMessage::Accept { call: call(), sdp: sdp() }, r#"{"type":"accept","call":"c1","sdp":"v=0\r\n"}"#),
        (ClientMessage::Reject { call: call(), code: Some(603) }, r#"{"type":"reject","call":"c1","code":603}"#),
        (
            ClientMessage::Candidate { call: call(), candidate: String::new(), mid: Some("0".into()) },
            r#"{"type":"candidate","call":"c1","candidate":"","mid":"0"}"#,
        ),
        (
            ClientMessage::Digits { call: call(), digits: "12#".into(), ms: None },
            r#"{"type":"digits","call":"c1","digits":"12#"}"#,
        ),
        (ClientMessage::Hold { call: call(), on: true }, r#"{"type":"hold","call":"c1","on":true}"#),
        (
            ClientMessage::Transfer { call: call(), to: Some("603".into()), with: None },
            r#"{"type":"transfer","call":"c1","to":"603"}"#,
        ),
        (
            ClientMessage::Transfer { call: call(), to: None, with: Some("c2".into()) },
            r#"{"type":"transfer","call":"c1","with":"c2"}"#,
        ),
        (ClientMessage::Hangup { call: call() }, r#"{"type":"hangup","call":"c1"}"#),
        (ClientMessage::Ping { n: Some(7) }, r#"{"type":"ping","n":7}"#),
    ];
    for (message, json) in messages {
        assert_eq!(message.to_json(), json);
        assert_eq!(ClientMessage::parse(json).unwrap(), message);
    }
}

#[test]
fn what_is_malformed_gets_one_error_that_names_the_call_when_it_can() {
    let table = [
        ("", ErrorCode::BadMessage, None),
        ("{", ErrorCode::BadMessage, None),
        ("[]", ErrorCode::BadMessage, None),
        ("7", ErrorCode::BadMessage, None),
        ("{}", ErrorCode::BadMessage, None),
        (r#"{"call":"c1"}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":7,"call":"c1"}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"park","call":"c1"}"#, ErrorCode::UnknownType, Some("c1")),
        (r#"{"type":"transfer","call":"c1"}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"transfer","call":"c1","to":"6","with":"c2"}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"transfer","call":"c1","to":"6\r\nx"}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"Hangup","call":"c1"}"#, ErrorCode::UnknownType, Some("c1")),
        (r#"{"type":"hangup"}"#, ErrorCode::BadMessage, None),
        (r#"{"type":"hangup","call":7}"#, ErrorCode::BadMessage, None),
        (r#"{"type":"hangup","call":"c 1"}"#, ErrorCode::BadMessage, None),
        (r#"{"type":"hangup","call":"c1","why":"x"}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"hangup","call":"c1","call":"c2"}"#, ErrorCode::BadMessage, Some("c2")),
        (r#"{"type":"hold","call":"c1","on":"yes"}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"reject","call":"c1","code":200}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"reject","call":"c1","code":-1}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"digits","call":"c1","digits":"12x"}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"digits","call":"c1","digits":"1","ms":39}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"digits","call":"c1","digits":"1","ms":1001}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"call","call":"c1","to":"1\r\nVia: x","sdp":"v=0"}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"call","call":"c1","to":"1\u0000","sdp":"v=0"}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"call","call":"c1","to":"1","sdp":""}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"call","call":"c1","to":"1","sdp":"v=0","from":"a<b>"}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"hello","user":"a b"}"#, ErrorCode::BadMessage, None),
        (r#"{"type":"hello","user":"a","resume":"a b"}"#, ErrorCode::BadMessage, None),
        (r#"{"type":"bye","call":"c1"}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"check","to":"1\n"}"#, ErrorCode::BadMessage, None),
        (r#"{"type":"restart","call":"c1","sdp":""}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"probe","call":"c1"}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"feedback","id":"5","score":0}"#, ErrorCode::BadMessage, None),
        (r#"{"type":"feedback","id":"5","score":6}"#, ErrorCode::BadMessage, None),
        (r#"{"type":"feedback","id":"5","score":5,"issue":"A b"}"#, ErrorCode::BadMessage, None),
        (r#"{"type":"call","call":"c1","to":"1","sdp":"v","params":{"A":"1"}}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"call","call":"c1","to":"1","sdp":"v","params":{"a":"\r"}}"#, ErrorCode::BadMessage, Some("c1")),
        (r#"{"type":"hello"} {"type":"hello"}"#, ErrorCode::BadMessage, None),
    ];
    for (frame, code, call) in table {
        let error = refused(frame);
        assert_eq!((error.code, error.call.as_deref()), (code, call), "{frame}: {error}");
        assert!(!error.text.is_empty() && error.text.chars().count() <= 200);
    }
}

#[test]
fn lengths_are_limited() {
    let long = |n: usize| "x".repeat(n);
    assert_eq!(refused(&long(MAX_FRAME + 1)).code, ErrorCode::TooLong);
    assert!(ClientMessage::parse(&format!(r#"{{"type":"hello","token":"{}"}}"#, long(MAX_TOKEN))).is_ok());
    for frame in [
        format!(r#"{{"type":"hello","token":"{}"}}"#, long(MAX_TOKEN + 1)),
        format!(r#"{{"type":"accept","call":"c1","sdp":"{}"}}"#, long(MAX_SDP + 1)),
        format!(r#"{{"type":"hangup","call":"{}"}}"#, long(65)),
        format!(r#"{{"type":"candidate","call":"c1","candidate":"{}"}}"#, long(MAX_CANDIDATE + 1)),
        format!(r#"{{"type":"{}"}}"#, long(5000)),
    ] {
        assert!(refused(&frame).text.len() <= 250, "{frame}");
    }
    assert!(refused(&"[".repeat(MAX_FRAME)).call.is_none(), "deep nesting ends in an error, not in the stack's end");
}

#[test]
fn server_messages_are_as_the_protocol_says() {
    let table = [
        (
            ServerMessage::Welcome {
                user: "alice".into(),
                session: "s1".into(),
                version: 1,
                resume: None,
                grace_ms: None,
                expires: None,
                ice_servers: Vec::new(),
                calls: None,
            },
            r#"{"type":"welcome","user":"alice","session":"s1","version":1}"#,
        ),
        (
            ServerMessage::Welcome {
                user: "alice".into(),
                session: "s1".into(),
                version: 1,
                resume: Some("5f".into()),
                grace_ms: Some(30_000),
                expires: Some(1_800_000_000),
                ice_servers: vec![IceServer {
                    urls: vec!["turn:t.example:3478".into()],
                    username: Some("1800000000:alice".into()),
                    credential: Some("aGVsbG8=".into()),
                }],
                calls: Some(vec![PresentCall {
                    call: "c1".into(),
                    id: "00c5".into(),
                    direction: Course::Out,
                    remote: "600".into(),
                    name: None,
                    state: CallState::Answered,
                    held_by_us: false,
                    held_by_them: true,
                    since_ms: 1200,
                }]),
            },
            concat!(
                r#"{"type":"welcome","user":"alice","session":"s1","version":1,"resume":"5f","grace_ms":30000,"#,
                r#""expires":1800000000,"ice_servers":[{"urls":["turn:t.example:3478"],"#,
                r#""username":"1800000000:alice","credential":"aGVsbG8="}],"#,
                r#""calls":[{"call":"c1","id":"00c5","direction":"out","remote":"600","state":"answered","#,
                r#""held_by_us":false,"held_by_them":true,"since_ms":1200}]}"#
            ),
        ),
        (
            ServerMessage::Held { call: "c1".into(), by: Holder::Them, on: true },
            r#"{"type":"held","call":"c1","by":"them","on":true}"#,
        ),
        (
            ServerMessage::Ended {
                call: "c1".into(),
                by: Party::Gateway,
                cause: "not-allowed".into(),
                sip: Some(403),
                q850: None,
                retry_after: None,
                text: "Premium numbers are barred".into(),
            },
            r#"{"type":"ended","call":"c1","by":"gateway","cause":"not-allowed","sip":403,"text":"Premium numbers are barred"}"#,
        ),
        (
            ServerMessage::Error {
                code: ErrorCode::UnknownCall,
                text: "no such call".into(),
                re: Some(ClientKind::Hold),
                call: Some("c9".into()),
                n: None,
            },
            r#"{"type":"error","code":"unknown-call","text":"no such call","re":"hold","call":"c9"}"#,
        ),
        (ServerMessage::Digit { call: "c1".into(), digit: '#' }, r##"{"type":"digit","call":"c1","digit":"#"}"##),
        (ServerMessage::IceServers { ice_servers: Vec::new() }, r#"{"type":"ice-servers","ice_servers":[]}"#),
        (ServerMessage::Draining {}, r#"{"type":"draining"}"#),
    ];
    for (message, json) in table {
        assert_eq!(message.to_json(), json);
        assert_eq!(serde_json::from_str::<ServerMessage>(json).unwrap(), message);
    }
}

const GUIDE: &str = include_str!("../../../docs/browser-protocol.md");

/// The lines of the guide's blocks of a kind.
fn blocks(kind: &str) -> Vec<&'static str> {
    let fence = format!("```{kind}\n");
    GUIDE
        .split(fence.as_str())
        .skip(1)
        .flat_map(|block| block.split("```").next().unwrap_or_default().lines())
        .collect::<Vec<&'static str>>()
}

/// Every message of the guide's transcripts is one of ours, in our own words, and every kind of message is shown.
#[test]
fn the_guides_transcripts_are_true() {
    let lines = blocks("transcript");
    let mut shown = std::collections::BTreeSet::new();
    for line in &lines {
        let (who, json) = line.split_once(' ').expect(line);
        let again = match who {
            "→" => ClientMessage::parse(json).unwrap_or_else(|error| panic!("{json}: {error}")).to_json(),
            "←" => {
                serde_json::from_str::<ServerMessage>(json).unwrap_or_else(|error| panic!("{json}: {error}")).to_json()
            }
            _ => panic!("{line}"),
        };
        assert_eq!(again, *json);
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        shown.insert(format!("{who} {}", value["type"].as_str().unwrap()));
    }
    let all: std::collections::BTreeSet<String> = ClientKind::ALL
        .iter()
        .map(|kind| format!("→ {}", kind.as_str()))
        .chain(
            [
                "welcome",
                "renewed",
                "checked",
                "answer",
                "ringing",
                "early",
                "answered",
                "incoming",
                "held",
                "digit",
                "transfer",
                "transferred",
                "quality",
                "no-audio",
                "audio",
                "ended",
                "error",
                "pong",
                "draining",
                "ice-servers",
            ]
            .map(|kind| format!("← {kind}")),
        )
        .collect();
    assert_eq!(shown, all);
}

#[test]
fn the_guides_refusals_are_true() {
    let lines = blocks("refused");
    assert!(lines.len() >= 5);
    for line in lines {
        let (code, frame) = line.split_once(' ').unwrap();
        assert_eq!(refused(frame.trim()).code.as_str(), code, "{frame}");
    }
    for code in [
        ErrorCode::BadMessage,
        ErrorCode::UnknownType,
        ErrorCode::TooLong,
        ErrorCode::BadOrder,
        ErrorCode::Unauthorized,
        ErrorCode::Forbidden,
        ErrorCode::UnknownCall,
        ErrorCode::DuplicateCall,
        ErrorCode::WrongState,
        ErrorCode::BadSdp,
        ErrorCode::TooManyCalls,
        ErrorCode::TooOften,
    ] {
        assert!(GUIDE.contains(&format!("\n| `{code}` |")), "{code}");
        assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
    }
}

#[test]
fn a_digit_lasts_from_40_to_1000_milliseconds() {
    for ms in [40, 1000] {
        let frame = format!(r#"{{"type":"digits","call":"c1","digits":"1","ms":{ms}}}"#);
        let expected = ClientMessage::Digits { call: "c1".into(), digits: "1".into(), ms: Some(ms) };
        assert_eq!(ClientMessage::parse(&frame).ok(), Some(expected));
    }
}
