//! What a user agent answers to each message, over UDP and over TCP.

use std::net::SocketAddr;
use std::time::Instant;

use ringback::sip::{Flow, Message, Timers, Transport, UaConfig, UaEvent, UaOutput, UserAgent};

use crate::data;
use crate::table::{Answer, Verdict};

pub fn flow(transport: Transport) -> Flow {
    let local = SocketAddr::from(([198, 51, 100, 1], 5060));
    Flow {
        transport,
        local,
        remote: SocketAddr::from(([198, 51, 100, 2], 5060)),
        id: u64::from(transport != Transport::Udp),
    }
}

pub fn user_agent() -> UserAgent {
    let config = UaConfig {
        user_agent: "Ringback".into(),
        timers: Timers::default(),
        max_sessions: 10,
        max_transactions: 100,
        registrar: false,
        advertise: Vec::new(),
    };
    UserAgent::new(config, [3; 32])
}

/// Everything the user agent says: what it sends, and of what it tells its user.
fn drain(ua: &mut UserAgent) -> (Vec<String>, Vec<UaEvent>) {
    let (mut sent, mut events) = (Vec::new(), Vec::new());
    while let Some(output) = ua.poll_output() {
        match output {
            UaOutput::Transmit { bytes, .. } => sent.push(String::from_utf8_lossy(&bytes).into_owned()),
            UaOutput::Event(event) => events.push(event),
        }
    }
    (sent, events)
}

fn answer(sent: &[String], events: &[UaEvent]) -> Option<Answer> {
    let status = |text: &String| text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
    match (sent, events) {
        ([], []) => Some(Answer::Silence),
        ([one], []) => Some(Answer::Status(status(one)?)),
        ([trying], [UaEvent::Incoming { .. }]) if status(trying) == Some(100) => Some(Answer::Call),
        _ => None,
    }
}

#[test]
fn each_message_gets_its_answer() {
    for transport in [Transport::Udp, Transport::Tcp] {
        for (case, bytes) in data::cases() {
            let mut ua = user_agent();
            ua.handle_datagram(Instant::now(), flow(transport), &bytes);
            let (sent, events) = drain(&mut ua);
            let context = format!("{} ({}) over {transport}: {}", case.file, case.section, case.reason);
            assert_eq!(answer(&sent, &events), Some(case.answer), "{context}\n{sent:?}\n{events:?}");
            for text in &sent {
                // What a bad request brought is copied into its refusal as it is; all else we write must be right.
                if case.verdict == Verdict::Request {
                    let Ok(Message::Response(response)) = Message::parse(text.as_bytes()) else {
                        panic!("{context}: {text}")
                    };
                    let Ok(Message::Request(request)) = Message::parse(&bytes) else { panic!("{context}") };
                    assert_eq!(response.headers.call_id(), request.headers.call_id(), "{context}");
                    assert_eq!(response.headers.cseq(), request.headers.cseq(), "{context}");
                    assert_eq!(response.headers.from(), request.headers.from(), "{context}");
                    let branches = |m: &Message| {
                        m.headers()
                            .vias()
                            .unwrap()
                            .iter()
                            .map(|via| via.branch().map(str::to_owned))
                            .collect::<Vec<_>>()
                    };
                    assert_eq!(
                        branches(&Message::Response(response)),
                        branches(&Message::Request(request)),
                        "{context}"
                    );
                }
                assert!(text.contains("\r\nVia: ") || text.contains("\r\nv: "), "{context}: {text}");
            }
        }
    }
}

/// RFC 4475 section 3.3.5: the extensions are named, and those meant for proxies are not.
#[test]
fn unsupported_extensions_are_named() {
    let Some(bytes) = data::message("invalid/bext01.dat") else { return };
    let mut ua = user_agent();
    ua.handle_datagram(Instant::now(), flow(Transport::Udp), &bytes);
    let (sent, _) = drain(&mut ua);
    let Ok(Message::Response(response)) = Message::parse(sent[0].as_bytes()) else { panic!("{sent:?}") };
    assert_eq!(response.headers.tokens("Unsupported"), ["nothingSupportsThis", "nothingSupportsThisEither"]);
}

/// The same datagram again is a retransmission: it gets the same answer and makes no second call.
#[test]
fn a_repeated_message_is_not_a_second_one() {
    for (case, bytes) in data::cases() {
        let mut ua = user_agent();
        let now = Instant::now();
        ua.handle_datagram(now, flow(Transport::Udp), &bytes);
        let (first, _) = drain(&mut ua);
        ua.handle_datagram(now, flow(Transport::Udp), &bytes);
        let (second, events) = drain(&mut ua);
        assert_eq!(first, second, "{}", case.file);
        assert!(events.is_empty(), "{}: {events:?}", case.file);
        assert_eq!(ua.session_count(), usize::from(case.answer == Answer::Call), "{}", case.file);
    }
}
