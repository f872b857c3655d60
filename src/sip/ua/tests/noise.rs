//! Noise: no text from a network makes the user agent panic or keep something for ever.

use proptest::prelude::*;

use super::net::{body, call};
use super::peer::{Bench, foreign, inside, reply};
use crate::sip::Method;
use crate::sip::ua::{Invite, SessionOptions, SessionTimer, UaEvent};

const METHODS: &[&str] = &["INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "INFO", "UPDATE", "PRACK", "REFER", "X"];

/// Lines that a message may be spoilt with.
const LINES: &[&str] = &[
    "Via: SIP/2.0/UDP [::1]:70000;branch=z9hG4bK",
    "Via: ,",
    "From: <",
    "To: <sip:us@192.0.2.1>;tag=",
    "CSeq: 99999999999 INVITE",
    "Contact: *",
    "Contact: <tel:+1>",
    "Record-Route: <sip:p;lr>, <",
    "Require: a, ,b",
    "Max-Forwards: 256",
    "Content-Length: 99999",
    "Content-Encoding: gzip",
    "Route: <sip:us@192.0.2.1>",
    "Reason: \u{0}",
    "RSeq: 1",
    "Require: 100rel\r\nRSeq: 7",
    "Require: 100rel\r\nRSeq: 4294967295",
    "Supported: 100rel, timer",
    "RAck: 1 1 INVITE",
    "RAck: 99999999999 -1",
    "Session-Expires: 90;refresher=uac",
    "Session-Expires: 4294967295;refresher=uas",
    "Session-Expires: ;",
    "Min-SE: 4294967295",
    "Unsupported: 100rel, timer",
    "Content-Type:",
    "Call-ID:",
    "WWW-Authenticate: Digest",
    "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"\"",
    "Retry-After: -1",
];

fn spoil(text: &str, line: usize, cut: usize) -> String {
    let mut text = text.replacen("\r\n", &format!("\r\n{}\r\n", LINES[line % LINES.len()]), 1);
    if cut.is_multiple_of(3) {
        let mut at = cut.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.truncate(at);
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bench = Bench::new();
        bench.hear(&String::from_utf8_lossy(&bytes));
        bench.ua.handle_datagram(bench.now, super::net::flow(0), &bytes);
        bench.drain();
        bench.check_empty();
    }

    #[test]
    fn spoilt_messages_at_every_moment_of_a_call(
        steps in proptest::collection::vec((0usize..6, 0usize..10, 0usize..40, 0usize..600, 100u16..700), 1..30)
    ) {
        let mut bench = Bench::new();
        let timer = Some(SessionTimer { expires: 90, min_se: 90, refresher: None });
        let options = SessionOptions { timer, ..SessionOptions::default() };
        bench.user(|ua, now| ua.invite(now, Invite { options, ..call(0) }).unwrap());
        for (kind, method, line, cut, status) in steps {
            let ours = bench.requests.last().cloned().unwrap();
            let invite = bench.last(Method::Invite);
            match kind {
                0 => bench.hear(&foreign(METHODS[method], &format!("{line}"), "")),
                1 => bench.hear(&spoil(&foreign(METHODS[method], &format!("{line}"), ""), line, cut)),
                2 => bench.answer(&reply(&ours, status, ["b", "c", ""][line % 3])),
                3 => {
                    let text = String::from_utf8_lossy(&reply(&ours, status, "b").to_bytes()).into_owned();
                    bench.hear(&spoil(&text, line, cut));
                }
                4 => bench.ask(&inside(&invite, METHODS[method].parse().unwrap(), u32::from(status))),
                _ => bench.pass(std::time::Duration::from_millis(u64::from(status) * 10)),
            }
            let sessions: Vec<_> = bench.events.iter().map(|event| super::net::word(event).0).collect();
            let user = sessions.get(line % sessions.len().max(1)).copied();
            if let Some(session) = user {
                bench.user(|ua, now| {
                    let _ = match cut % 8 {
                        0 => ua.ring(now, session, 183, None),
                        1 => ua.accept(now, session, body("x")),
                        2 => ua.reoffer(now, session, body("x")),
                        3 => ua.answer_reoffer(now, session, Ok(body("x"))),
                        _ => Ok(()),
                    };
                });
            }
        }
        // Whatever it was: once both sides have hung up, all is over.
        let mut sessions: Vec<_> = bench.events.iter().map(|event| super::net::word(event).0).collect();
        sessions.push(crate::sip::ua::SessionId(1));
        for session in sessions {
            bench.user(|ua, now| ua.hangup(now, session, None));
        }
        let provisional = reply(&bench.last(Method::Invite), 180, "b");
        bench.answer(&provisional);
        bench.check_empty();
        let closed = bench.events.iter().filter(|event| matches!(event, UaEvent::Closed { .. })).count();
        let incoming = bench.events.iter().filter(|event| matches!(event, UaEvent::Incoming { .. })).count();
        prop_assert_eq!(closed, incoming + 1);
    }
}
