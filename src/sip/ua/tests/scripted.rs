//! What a peer may do that another of our kind does not: forks, challenges, routes, odd requests.

use std::time::Duration;

use super::net::{body, call, config, word};
use super::peer::{Bench, foreign, inside, reply};
use crate::sip::ua::*;
use crate::sip::{Credentials, Method, Transport};

fn words(bench: &Bench) -> Vec<&'static str> {
    bench.events.iter().map(|event| word(event).1).collect()
}

fn with_credentials() -> Invite {
    let credentials =
        Credentials { username: "us".to_owned(), password: "secret".to_owned(), realm: Some("carrier".to_owned()) };
    Invite { credentials: Some(credentials), ..call(0) }
}

#[test]
fn an_invite_says_who_and_where_and_what() {
    let mut bench = Bench::new();
    bench.user(|ua, now| ua.invite(now, Invite { headers: vec![("X-Ours".into(), "1".into())], ..call(0) }).unwrap());
    let invite = bench.last(Method::Invite);
    let via = invite.headers.top_via().unwrap();
    assert_eq!((via.transport.as_str(), via.host.to_string().as_str(), via.port), ("UDP", "192.0.2.1", Some(5060)));
    assert!(via.branch().unwrap().starts_with("z9hG4bK"));
    assert!(via.params.get("rport").is_some());
    assert_eq!(invite.headers.get("Contact"), Some("<sip:us@192.0.2.1:5060>"));
    let methods = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, REFER, NOTIFY, PRACK";
    assert_eq!(invite.headers.get("Allow"), Some(methods));
    assert_eq!(invite.headers.get("Supported"), Some("100rel, replaces, norefersub, nosub"));
    assert_eq!(invite.headers.max_forwards().unwrap(), Some(70));
    assert_eq!(invite.headers.get("X-Ours"), Some("1"));
    assert!(invite.headers.from().unwrap().tag().is_some());
    assert!(invite.headers.to().unwrap().tag().is_none());
}

#[test]
fn header_fields_that_break_or_contradict_the_message_are_refused() {
    let mut bench = Bench::new();
    for (name, value) in
        [("X", "a\r\nEvil: 1"), ("X", "a\0"), ("X y", "a"), ("", "a"), ("Via", "x"), ("cseq", "9 BYE"), ("l", "7")]
    {
        let invite = Invite { headers: vec![(name.into(), value.into())], ..call(0) };
        let refused = bench.user(|ua, now| ua.invite(now, invite));
        assert!(matches!(refused, Err(UaError::Header { .. })), "{name:?}: {value:?}");
    }
    assert!(bench.requests.is_empty() && bench.ua.session_count() == 0);
}

#[test]
fn early_dialogs_are_told_apart_and_the_first_2xx_makes_the_call() {
    let mut bench = Bench::new();
    let id = bench.user(|ua, now| ua.invite(now, call(0)).unwrap());
    let invite = bench.last(Method::Invite);
    bench.answer(&reply(&invite, 100, ""));
    bench.answer(&reply(&invite, 180, "one"));
    bench.answer(&reply(&invite, 183, "two"));
    bench.answer(&reply(&invite, 200, "two"));
    bench.answer(&reply(&invite, 200, "one"));
    bench.answer(&reply(&invite, 200, "two"));
    let tags: Vec<&str> = bench
        .events
        .iter()
        .filter_map(|event| match event {
            UaEvent::Provisional { to_tag, .. } | UaEvent::Answered { to_tag, .. } => Some(to_tag.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(tags, ["one", "two", "two"]);
    // ACK to two, ACK and BYE to one, ACK to two again.
    let sent: Vec<(String, String)> = bench.requests[1..]
        .iter()
        .map(|request| (request.method.to_string(), request.headers.to().unwrap().tag().unwrap().to_owned()))
        .collect();
    let expected = [("ACK", "two"), ("ACK", "one"), ("BYE", "one"), ("ACK", "two")];
    assert_eq!(sent, expected.map(|(method, tag)| (method.to_owned(), tag.to_owned())));
    assert_eq!(bench.requests[1].uri.to_string(), "sip:two@192.0.2.2:5060");
    assert_eq!(bench.requests[1].headers.cseq().unwrap().number, 1);
    bench.answer(&reply(&bench.requests[3].clone(), 200, ""));
    bench.user(|ua, now| ua.hangup(now, id, None));
    bench.answer(&reply(&bench.last(Method::Bye), 200, ""));
    assert_eq!(words(&bench), ["trying", "provisional", "provisional", "answered", "closed"]);
    bench.check_empty();
}

#[test]
fn a_fork_that_answers_after_the_call_is_over_is_ended_too() {
    let mut bench = Bench::new();
    let id = bench.established();
    let invite = bench.last(Method::Invite);
    bench.user(|ua, now| ua.hangup(now, id, None));
    bench.answer(&reply(&bench.last(Method::Bye), 200, ""));
    assert_eq!(words(&bench), ["answered", "closed"]);
    bench.answer(&reply(&invite, 200, "late"));
    let bye = bench.last(Method::Bye);
    assert_eq!(bye.headers.to().unwrap().tag(), Some("late"));
    assert_eq!(bench.last(Method::Ack).headers.to().unwrap().tag(), Some("late"));
    bench.check_empty();
}

fn challenge(bench: &mut Bench, status: u16, extra: &str) {
    let invite = bench.last(Method::Invite);
    let mut response = reply(&invite, status, "c");
    let name = if status == 401 { "WWW-Authenticate" } else { "Proxy-Authenticate" };
    response.headers.push(
        name,
        format!("Digest realm=\"carrier\", nonce=\"n{}\", algorithm=MD5, qop=\"auth\"{extra}", bench.requests.len()),
    );
    bench.answer(&response);
}

#[test]
fn a_challenge_is_answered_with_the_next_cseq() {
    for (status, name) in [(401, "Authorization"), (407, "Proxy-Authorization")] {
        let mut bench = Bench::new();
        bench.user(|ua, now| ua.invite(now, with_credentials()).unwrap());
        let first = bench.last(Method::Invite);
        challenge(&mut bench, status, "");
        let second = bench.last(Method::Invite);
        assert_eq!(second.headers.cseq().unwrap().number, 2);
        for same in ["Call-ID", "From", "To", "Contact"] {
            assert_eq!(first.headers.get(same), second.headers.get(same));
        }
        assert_ne!(first.headers.top_via().unwrap().branch(), second.headers.top_via().unwrap().branch());
        let value = second.headers.get(name).unwrap();
        assert!(value.contains(&format!("uri=\"{}\"", second.uri)), "{value}");
        assert_eq!(second.body, first.body);
        bench.answer(&reply(&second, 200, "b"));
        // Section 22.1: the ACK carries the INVITE's credentials.
        assert_eq!(bench.last(Method::Ack).headers.get(name), Some(value));
        assert_eq!(bench.last(Method::Ack).headers.cseq().unwrap().number, 2);
        assert_eq!(words(&bench), ["answered"]);
    }
}

#[test]
fn a_wrong_password_is_not_tried_twice_but_a_stale_nonce_is() {
    let mut bench = Bench::new();
    bench.user(|ua, now| ua.invite(now, with_credentials()).unwrap());
    challenge(&mut bench, 401, "");
    challenge(&mut bench, 401, "");
    assert_eq!(bench.count(Method::Invite), 2);
    assert!(matches!(bench.events.first(), Some(UaEvent::Failed { status: 401, why: Failure::Auth, .. })));
    bench.check_empty();

    let mut bench = Bench::new();
    bench.user(|ua, now| ua.invite(now, with_credentials()).unwrap());
    challenge(&mut bench, 401, "");
    challenge(&mut bench, 401, ", stale=true");
    assert_eq!(bench.count(Method::Invite), 3);
    assert_eq!(bench.last(Method::Invite).headers.get_all("Authorization").count(), 1);
    challenge(&mut bench, 401, ", stale=true");
    assert_eq!(bench.count(Method::Invite), 3, "at most two tries");
    bench.check_empty();
}

#[test]
fn a_401_after_a_407_keeps_the_proxys_credentials() {
    let mut bench = Bench::new();
    bench.user(|ua, now| ua.invite(now, with_credentials()).unwrap());
    challenge(&mut bench, 407, "");
    challenge(&mut bench, 401, "");
    let third = bench.last(Method::Invite);
    assert_eq!(third.headers.cseq().unwrap().number, 3);
    assert!(third.headers.get("Authorization").is_some() && third.headers.get("Proxy-Authorization").is_some());
}

#[test]
fn credentials_go_to_their_own_realm_only() {
    let mut bench = Bench::new();
    bench.user(|ua, now| ua.invite(now, with_credentials()).unwrap());
    let mut response = reply(&bench.last(Method::Invite), 401, "c");
    response.headers.push("WWW-Authenticate", "Digest realm=\"thief\", nonce=\"n\"");
    bench.answer(&response);
    assert_eq!(bench.count(Method::Invite), 1);
    assert!(matches!(bench.events.first(), Some(UaEvent::Failed { why: Failure::Auth, .. })));
}

#[test]
fn a_challenged_bye_and_info_are_sent_again() {
    let mut bench = Bench::new();
    let id = bench.user(|ua, now| ua.invite(now, with_credentials()).unwrap());
    bench.answer(&reply(&bench.last(Method::Invite), 200, "b"));
    bench.user(|ua, now| ua.info(now, id, body("1")).unwrap());
    for method in [Method::Info, Method::Bye] {
        if method == Method::Bye {
            bench.user(|ua, now| ua.hangup(now, id, None));
        }
        let first = bench.last(method.clone());
        let mut response = reply(&first, 407, "b");
        response.headers.push("Proxy-Authenticate", "Digest realm=\"carrier\", nonce=\"n\"");
        bench.answer(&response);
        let second = bench.last(method);
        assert_eq!(second.headers.cseq().unwrap().number, first.headers.cseq().unwrap().number + 1);
        assert!(second.headers.get("Proxy-Authorization").is_some());
        bench.answer(&reply(&second, 200, "b"));
    }
    assert_eq!(words(&bench), ["answered", "closed"]);
    bench.check_empty();
}

#[test]
fn requests_follow_the_route_set_of_loose_and_strict_routers() {
    for (record, uri, routes) in [
        (
            "<sip:p2@192.0.2.2:5060;lr>, <sip:p1@192.0.2.2:5060;lr>",
            "sip:b@192.0.2.2:5060",
            vec!["<sip:p1@192.0.2.2:5060;lr>", "<sip:p2@192.0.2.2:5060;lr>"],
        ),
        (
            "<sip:p2@192.0.2.2:5060;lr>, <sip:p1@192.0.2.2:5060>",
            "sip:p1@192.0.2.2:5060",
            vec!["<sip:p2@192.0.2.2:5060;lr>", "<sip:b@192.0.2.2:5060>"],
        ),
    ] {
        let mut bench = Bench::new();
        let id = bench.user(|ua, now| ua.invite(now, call(0)).unwrap());
        let mut ok = reply(&bench.last(Method::Invite), 200, "b");
        ok.headers.push("Record-Route", record);
        bench.answer(&ok);
        bench.user(|ua, now| ua.hangup(now, id, None));
        for method in [Method::Ack, Method::Bye] {
            let request = bench.last(method);
            assert_eq!(request.uri.to_string(), uri);
            assert_eq!(request.headers.get_all("Route").collect::<Vec<_>>(), routes);
        }
    }
}

#[test]
fn a_request_in_a_dialog_goes_to_the_first_route_or_the_contact() {
    let mut bench = Bench::new();
    bench.user(|ua, now| ua.invite(now, call(0)).unwrap());
    let mut ok = reply(&bench.last(Method::Invite), 200, "b");
    ok.headers.set("Contact", "<sip:b@198.51.100.7:5099>");
    bench.ua.handle_datagram(bench.now, super::net::flow(0), &ok.to_bytes());
    let Some(UaOutput::Event(UaEvent::Answered { .. })) = bench.ua.poll_output() else { panic!("answered") };
    let Some(UaOutput::Transmit { flow, .. }) = bench.ua.poll_output() else { panic!("the ACK") };
    assert_eq!(flow.remote, "198.51.100.7:5099".parse().unwrap());
}

#[test]
fn an_incoming_call_is_answered_with_100_at_once_then_as_the_user_says() {
    let mut bench = Bench::new();
    bench.hear(&foreign("INVITE", "1", "Record-Route: <sip:p@192.0.2.2;lr>\r\n"));
    assert_eq!(bench.last_status(), 100);
    let Some(UaEvent::Incoming { session, .. }) = bench.events.first() else { panic!("a call") };
    let session = *session;
    bench.user(|ua, now| ua.ring(now, session, 180, None).unwrap());
    let ringing = bench.responses.last().unwrap().clone();
    assert_eq!(ringing.headers.get("Contact"), Some("<sip:us@192.0.2.1:5060>"));
    let tag = ringing.headers.to().unwrap().tag().unwrap().to_owned();
    bench.user(|ua, now| ua.accept(now, session, body("answer")).unwrap());
    let ok = bench.responses.last().unwrap().clone();
    assert_eq!(ok.headers.to().unwrap().tag(), Some(tag.as_str()));
    assert!(ok.headers.get("Contact").is_some() && ok.headers.get("Allow").is_some());
    assert_eq!(ok.headers.get("Record-Route"), Some("<sip:p@192.0.2.2;lr>"));
    assert_eq!(ok.body, b"answer");
}

#[test]
fn a_cancel_gets_200_while_its_invite_is_remembered() {
    for answer in [200, 486] {
        let mut bench = Bench::new();
        bench.hear(&foreign("INVITE", "1", ""));
        let Some(UaEvent::Incoming { session, .. }) = bench.events.first() else { panic!("a call") };
        let session = *session;
        bench.user(|ua, now| match answer {
            200 => ua.accept(now, session, body("answer")).unwrap(),
            status => ua.reject(now, session, status, "", &[]).unwrap(),
        });
        bench.hear(&foreign("CANCEL", "1", ""));
        let last = bench.responses.last().unwrap();
        assert_eq!((last.status, last.headers.cseq().unwrap().method), (200, Method::Cancel));
        assert!(!words(&bench).contains(&"cancelled"), "the answer was first");
        bench.check_empty();
    }
}

#[test]
fn a_long_ringing_is_refreshed_every_minute() {
    let mut bench = Bench::new();
    bench.hear(&foreign("INVITE", "1", ""));
    let Some(UaEvent::Incoming { session, .. }) = bench.events.first() else { panic!("a call") };
    let session = *session;
    bench.user(|ua, now| ua.ring(now, session, 180, None).unwrap());
    bench.pass(Duration::from_secs(125));
    assert_eq!(bench.responses.iter().filter(|response| response.status == 180).count(), 3);
}

#[test]
fn bye_in_an_early_dialog_ends_the_pending_invite_with_487() {
    let mut bench = Bench::new();
    bench.hear(&foreign("INVITE", "1", ""));
    let Some(UaEvent::Incoming { session, .. }) = bench.events.first() else { panic!("a call") };
    let session = *session;
    bench.user(|ua, now| ua.ring(now, session, 180, None).unwrap());
    let tag = bench.responses.last().unwrap().headers.to().unwrap().to_string();
    let bye = foreign("BYE", "2", "Reason: Q.850;cause=16\r\n")
        .replace("To: <sip:us@192.0.2.1>", &format!("To: {tag}"))
        .replace("CSeq: 1", "CSeq: 2");
    bench.hear(&bye);
    let statuses: Vec<u16> = bench.responses.iter().map(|response| response.status).collect();
    assert_eq!(statuses, [100, 180, 200, 487]);
    assert!(matches!(&bench.events[1], UaEvent::Cancelled { reason: Some(reason), .. } if reason == "Q.850;cause=16"));
    assert_eq!(words(&bench), ["incoming", "cancelled", "closed"]);
    bench.check_empty();
}

#[test]
fn requests_are_inspected_as_section_8_2_says() {
    for (text, status, header) in [
        (foreign("REGISTER", "1", ""), 405, Some("Allow")),
        (foreign("PRACK", "1", ""), 481, None),
        (foreign("FROBNICATE", "1", ""), 501, None),
        (foreign("INVITE", "1", "Require: 100rel, x\r\n"), 420, Some("Unsupported")),
        (foreign("OPTIONS", "1", "Require: nothing-known\r\n"), 420, Some("Unsupported")),
        (foreign("OPTIONS", "1", ""), 200, Some("Allow")),
        (foreign("OPTIONS", "1", "").replace("Max-Forwards: 70", "Max-Forwards: 0"), 200, Some("Accept")),
        (foreign("INVITE", "1", "").replace("Max-Forwards: 70", "Max-Forwards: 0"), 483, None),
        (foreign("INVITE", "1", "").replace("sip:us@192.0.2.1 SIP", "foo:us SIP"), 416, None),
        (foreign("INVITE", "1", "").replace("Contact: <sip:peer@192.0.2.2:5060>\r\n", ""), 400, None),
        (foreign("INVITE", "1", "").replace("CSeq: 1 INVITE", "CSeq: 1 BYE"), 400, None),
        (foreign("BYE", "1", "").replace("192.0.2.1>\r\n", "192.0.2.1>;tag=gone\r\n"), 481, None),
        (foreign("BYE", "1", ""), 481, None),
        (foreign("CANCEL", "1", ""), 481, None),
        (foreign("INVITE", "1", "").replace("192.0.2.1>\r\n", "192.0.2.1>;tag=gone\r\n"), 481, None),
    ] {
        let mut bench = Bench::new();
        bench.hear(&text);
        assert_eq!(bench.last_status(), status, "{text}");
        let response = bench.responses.last().unwrap();
        assert!(response.headers.to().unwrap().tag().is_some(), "{text}");
        if let Some(header) = header {
            assert!(response.headers.get(header).is_some(), "{header} to {text}");
        }
        assert!(bench.events.is_empty());
        bench.check_empty();
    }
}

#[test]
fn a_stray_ack_is_met_with_silence() {
    let mut bench = Bench::new();
    bench.hear(&foreign("ACK", "1", "Require: 100rel\r\n"));
    bench.hear(&foreign("ACK", "2", "").replace("192.0.2.1>\r\n", "192.0.2.1>;tag=gone\r\n"));
    assert!(bench.responses.is_empty() && bench.events.is_empty());
    bench.check_empty();
}

#[test]
fn a_full_user_agent_refuses_calls_with_503() {
    let mut bench = Bench::with(UaConfig { max_sessions: 1, ..config() });
    bench.established();
    bench.hear(&foreign("INVITE", "1", ""));
    assert_eq!(bench.last_status(), 503);
    assert!(bench.responses.last().unwrap().headers.get("Retry-After").is_some());
    assert_eq!(bench.user(|ua, now| ua.invite(now, call(0))), Err(UaError::Full));
}

#[test]
fn a_reinvite_without_an_offer_brings_its_answer_in_the_ack() {
    let mut bench = Bench::new();
    let id = bench.established();
    let invite = bench.last(Method::Invite);
    bench.ask(&inside(&invite, Method::Invite, 10));
    assert!(matches!(bench.events.last(), Some(UaEvent::Reoffered { body: None, .. })));
    bench.user(|ua, now| ua.answer_reoffer(now, id, Ok(body("our offer"))).unwrap());
    assert_eq!(bench.responses.last().unwrap().body, b"our offer");
    // Until the answer is there, no other offer may begin.
    bench.ask(&inside(&invite, Method::Update, 11));
    assert_eq!(bench.last_status(), 200, "an empty UPDATE is only a refresh");
    let mut second = inside(&invite, Method::Invite, 12);
    second.body = b"x".to_vec();
    bench.ask(&second);
    assert_eq!(bench.last_status(), 491);
    let mut ack = inside(&invite, Method::Ack, 10);
    ack.headers.push("Content-Type", "application/sdp");
    ack.body = b"their answer".to_vec();
    bench.ask(&ack);
    assert!(
        matches!(bench.events.last(), Some(UaEvent::Acked { body: Some(body), .. }) if body.bytes == b"their answer")
    );
}

#[test]
fn an_update_is_a_reoffer_and_an_overlapping_one_is_refused_with_500() {
    let mut bench = Bench::new();
    let id = bench.established();
    let invite = bench.last(Method::Invite);
    let mut update = inside(&invite, Method::Update, 10);
    update.headers.push("Content-Type", "application/sdp");
    update.body = b"offer".to_vec();
    bench.ask(&update);
    assert!(matches!(bench.events.last(), Some(UaEvent::Reoffered { body: Some(_), .. })));
    bench.ask(&inside(&invite, Method::Invite, 11));
    assert_eq!(bench.last_status(), 500);
    assert!(bench.responses.last().unwrap().headers.get("Retry-After").is_some());
    bench.user(|ua, now| ua.answer_reoffer(now, id, Ok(body("answer"))).unwrap());
    let ok = bench.responses.last().unwrap();
    assert_eq!((ok.status, ok.body.as_slice()), (200, b"answer".as_slice()));
    assert!(ok.headers.get("Contact").is_some());
    assert_eq!(bench.user(|ua, now| ua.answer_reoffer(now, id, Ok(body("again")))), Err(UaError::State));
}

#[test]
fn a_cancelled_reinvite_gets_487_and_the_call_goes_on() {
    let mut bench = Bench::new();
    let id = bench.established();
    let invite = bench.last(Method::Invite);
    let reinvite = inside(&invite, Method::Invite, 10);
    bench.ask(&reinvite);
    let mut cancel = reinvite.clone();
    cancel.method = Method::Cancel;
    cancel.headers.set("CSeq", "10 CANCEL");
    bench.ask(&cancel);
    let statuses: Vec<u16> = bench.responses.iter().map(|response| response.status).collect();
    assert_eq!(statuses, [100, 200, 487]);
    assert_eq!(bench.user(|ua, now| ua.answer_reoffer(now, id, Ok(body("late")))), Err(UaError::State));
    assert_eq!(bench.ua.session_count(), 1);
}

#[test]
fn a_new_contact_in_a_reinvite_is_the_new_target() {
    let mut bench = Bench::new();
    let id = bench.established();
    let invite = bench.last(Method::Invite);
    let mut reinvite = inside(&invite, Method::Invite, 10);
    reinvite.headers.set("Contact", "<sip:moved@192.0.2.2:5060>");
    bench.ask(&reinvite);
    bench.user(|ua, now| ua.answer_reoffer(now, id, Ok(body("answer"))).unwrap());
    bench.user(|ua, now| ua.hangup(now, id, None));
    assert_eq!(bench.last(Method::Bye).uri.to_string(), "sip:moved@192.0.2.2:5060");
}

#[test]
fn a_request_with_an_old_cseq_is_refused_with_500() {
    let mut bench = Bench::new();
    bench.established();
    let invite = bench.last(Method::Invite);
    bench.ask(&inside(&invite, Method::Info, 10));
    assert_eq!(bench.last_status(), 200);
    bench.ask(&inside(&invite, Method::Info, 9));
    assert_eq!(bench.last_status(), 500);
    assert_eq!(words(&bench), ["answered", "info"]);
}

#[test]
fn a_peer_that_forgot_the_dialog_ends_the_call() {
    let mut bench = Bench::new();
    let id = bench.established();
    bench.user(|ua, now| ua.reoffer(now, id, body("x")).unwrap());
    bench.answer(&reply(&bench.last(Method::Invite), 481, "b"));
    bench.answer(&reply(&bench.last(Method::Bye), 481, "b"));
    assert_eq!(words(&bench), ["answered", "reoffer-answered", "ended", "closed"]);
    bench.check_empty();
}

#[test]
fn the_2xx_of_a_reinvite_that_crosses_our_bye_gets_its_ack() {
    let mut bench = Bench::new();
    let id = bench.established();
    bench.user(|ua, now| ua.reoffer(now, id, body("x")).unwrap());
    let reinvite = bench.last(Method::Invite);
    bench.user(|ua, now| ua.hangup(now, id, None));
    bench.answer(&reply(&reinvite, 200, "b"));
    assert_eq!(bench.last(Method::Ack).headers.cseq().unwrap().number, reinvite.headers.cseq().unwrap().number);
    assert_eq!(bench.count(Method::Bye), 1);
    bench.answer(&reply(&bench.last(Method::Bye), 200, "b"));
    bench.answer(&reply(&reinvite, 200, "b"));
    assert_eq!(bench.count(Method::Ack), 3);
    assert_eq!(words(&bench), ["answered", "closed"]);
    bench.check_empty();
}

#[test]
fn a_reinvite_that_only_gets_100_gives_up_after_64_t1_and_the_next_offer_works() {
    let mut bench = Bench::new();
    let id = bench.established();
    bench.user(|ua, now| ua.reoffer(now, id, body("x")).unwrap());
    let stuck = bench.last(Method::Invite);
    bench.answer(&reply(&stuck, 100, ""));
    bench.pass(Duration::from_secs(31));
    bench.answer(&reply(&stuck, 183, "b"));
    assert_eq!(bench.user(|ua, now| ua.reoffer(now, id, body("y"))), Err(UaError::Pending));
    bench.pass(Duration::from_secs(1));
    assert!(matches!(bench.events[1], UaEvent::ReofferAnswered { result: Err(408), .. }), "{:?}", bench.events);
    // Section 9.1: taken back, so that no two are under way.
    let cancel = bench.last(Method::Cancel);
    assert_eq!(cancel.headers.top_via().unwrap().branch(), stuck.headers.top_via().unwrap().branch());
    bench.answer(&reply(&cancel, 200, "b"));
    bench.answer(&reply(&stuck, 487, "b"));
    bench.user(|ua, now| ua.reoffer(now, id, body("y")).unwrap());
    bench.answer(&reply(&bench.last(Method::Invite), 200, "b"));
    assert!(matches!(bench.events[2], UaEvent::ReofferAnswered { result: Ok(Some(_)), .. }));
    bench.pass(Duration::from_secs(120));
    bench.user(|ua, now| ua.hangup(now, id, None));
    bench.answer(&reply(&bench.last(Method::Bye), 200, "b"));
    assert_eq!(words(&bench), ["answered", "reoffer-answered", "reoffer-answered", "closed"]);
    bench.check_empty();
}

#[test]
fn a_cancel_without_any_answer_gives_up_after_64_t1() {
    let mut bench = Bench::new();
    let id = bench.user(|ua, now| ua.invite(now, call(0)).unwrap());
    bench.answer(&reply(&bench.last(Method::Invite), 180, "b"));
    bench.user(|ua, now| ua.hangup(now, id, None));
    bench.pass(Duration::from_secs(33));
    assert_eq!(words(&bench), ["provisional", "failed", "closed"]);
    bench.check_empty();
}

#[test]
fn a_broken_connection_fails_the_call_being_made_and_not_the_one_that_stands() {
    let tcp = |id| crate::sip::Flow { transport: Transport::Tcp, id, ..super::net::flow(0) };
    let mut bench = Bench::new();
    let id = bench.user(|ua, now| ua.invite(now, Invite { flow: tcp(7), ..call(0) }).unwrap());
    assert_eq!(bench.last(Method::Invite).headers.get("Contact"), Some("<sip:us@192.0.2.1:5060;transport=tcp>"));
    bench.answer(&reply(&bench.last(Method::Invite), 200, "b"));
    bench.user(|ua, now| ua.invite(now, Invite { flow: tcp(7), ..call(0) }).unwrap());
    bench.ua.handle_transport_failure(bench.now, tcp(7));
    bench.drain();
    assert_eq!(words(&bench), ["answered", "failed", "closed"]);
    assert!(matches!(bench.events[1], UaEvent::Failed { status: 503, why: Failure::Transport, .. }));
    bench.ua.hangup(bench.now, id, None);
    let Some(UaOutput::Transmit { flow, .. }) = bench.ua.poll_output() else { panic!("the BYE") };
    assert_eq!(flow, tcp(0), "over a new connection");
}

/// What the user agent sends next, and where to.
fn sent(bench: &mut Bench) -> (crate::sip::Flow, String) {
    loop {
        match bench.ua.poll_output() {
            Some(UaOutput::Transmit { flow, bytes }) => return (flow, String::from_utf8(bytes).unwrap()),
            Some(UaOutput::Event(event)) => bench.events.push(event),
            None => panic!("nothing is sent"),
        }
    }
}

/// A caller's idle connection is closed: the call stands, and our BYE goes to his Contact, or to the proxy that wants
/// to see it, but never to the port that he called from.
#[test]
fn a_call_whose_connection_was_closed_goes_on_and_its_bye_goes_to_the_next_hop() {
    for (extra, contact, hop) in [
        ("", "192.0.2.2:5070", "192.0.2.2:5070"),
        ("Record-Route: <sip:192.0.2.7;transport=tcp;lr>\r\n", "192.0.2.2:5070", "192.0.2.7:5060"),
        ("", "pbx.example:5071", "192.0.2.2:5071"),
    ] {
        let remote = "192.0.2.2:41000".parse().unwrap();
        let tcp = crate::sip::Flow { transport: Transport::Tcp, id: 7, remote, ..super::net::flow(0) };
        let mut bench = Bench::new();
        let invite =
            foreign("INVITE", "1", extra).replace("/UDP", "/TCP").replace("@192.0.2.2:5060>", &format!("@{contact}>"));
        bench.ua.handle_datagram(bench.now, tcp, invite.as_bytes());
        assert_eq!(sent(&mut bench).0, tcp);
        bench.drain();
        let Some(UaEvent::Incoming { session, .. }) = bench.events.first() else { panic!("incoming") };
        let session = *session;
        bench.ua.handle_connection_closed(tcp);
        bench.ua.accept(bench.now, session, body("answer")).unwrap();
        let (flow, ok) = sent(&mut bench);
        // Section 18.2.2: to the port in the Via.
        assert_eq!((flow.id, flow.remote), (0, "192.0.2.2:5060".parse().unwrap()), "{ok}");
        let to = ok.lines().find(|line| line.starts_with("To:")).unwrap();
        let ack = invite.replace("INVITE", "ACK").replace("z9hG4bK1", "z9hG4bK2");
        let ack = ack.replace("To: <sip:us@192.0.2.1>", to);
        bench.ua.handle_datagram(bench.now, crate::sip::Flow { id: 8, ..tcp }, ack.as_bytes());
        bench.drain();
        bench.ua.hangup(bench.now, session, None);
        let (flow, bye) = sent(&mut bench);
        assert!(bye.starts_with("BYE "), "{bye}");
        assert_eq!((flow.id, flow.remote, flow.transport), (0, hop.parse().unwrap(), Transport::Tcp));
        // The new connection is refused, too: the call is over all the same.
        bench.ua.handle_transport_failure(bench.now, flow);
        bench.drain();
        assert_eq!(words(&bench), ["incoming", "acked", "closed"]);
        bench.check_empty();
    }
}

#[test]
fn a_connection_closed_in_good_order_fails_nothing_that_is_under_way() {
    let tcp = crate::sip::Flow { transport: Transport::Tcp, id: 7, ..super::net::flow(0) };
    let mut bench = Bench::new();
    let id = bench.user(|ua, now| ua.invite(now, Invite { flow: tcp, ..call(0) }).unwrap());
    bench.ua.handle_connection_closed(tcp);
    bench.answer(&reply(&bench.last(Method::Invite), 200, "b"));
    bench.user(|ua, now| ua.reoffer(now, id, body("x")).unwrap());
    bench.ua.handle_connection_closed(tcp);
    bench.answer(&reply(&bench.last(Method::Invite), 200, "b"));
    assert_eq!(words(&bench), ["answered", "reoffer-answered"]);
}

#[test]
fn the_next_hop_of_a_dialog_is_known_for_as_long_as_the_dialog_lives() {
    let knows = |bench: &Bench, ip: &str| bench.ua.knows(ip.parse().unwrap());
    let mut bench = Bench::new();
    let id = bench.user(|ua, now| ua.invite(now, call(0)).unwrap());
    assert!(!knows(&bench, "192.0.2.2"), "no dialog yet");
    let mut ringing = reply(&bench.last(Method::Invite), 180, "b");
    ringing.headers.set("Contact", "<sip:b@192.0.2.40:5060>");
    bench.answer(&ringing);
    assert!(knows(&bench, "192.0.2.40") && knows(&bench, "::ffff:192.0.2.40"));
    let mut ok = reply(&bench.last(Method::Invite), 200, "b");
    ok.headers.set("Contact", "<sip:b@192.0.2.50:5060>");
    bench.answer(&ok);
    assert!(knows(&bench, "192.0.2.50") && !knows(&bench, "192.0.2.40"), "the target was refreshed");
    assert!(!knows(&bench, "192.0.2.49") && !knows(&bench, "192.0.2.51"));
    bench.user(|ua, now| ua.invite(now, call(0)).unwrap());
    let mut routed = reply(&bench.last(Method::Invite), 200, "c");
    routed.headers.set("Contact", "<sip:c@192.0.2.60>");
    routed.headers.push("Record-Route", "<sip:[2001:db8::7];lr>");
    bench.answer(&routed);
    assert!(knows(&bench, "2001:db8::7") && !knows(&bench, "192.0.2.60"), "the first route alone");
    bench.user(|ua, now| ua.hangup(now, id, None));
    assert!(knows(&bench, "192.0.2.50"), "until the answer to our BYE");
    bench.answer(&reply(&bench.last(Method::Bye), 200, "b"));
    assert!(!knows(&bench, "192.0.2.50"));
}

#[test]
fn a_caller_whose_connection_breaks_while_it_rings_has_vanished() {
    let tcp = crate::sip::Flow { transport: Transport::Tcp, id: 7, ..super::net::flow(0) };
    let mut bench = Bench::new();
    bench.ua.handle_datagram(bench.now, tcp, foreign("INVITE", "1", "").as_bytes());
    bench.drain();
    bench.ua.handle_transport_failure(bench.now, tcp);
    let Some(UaOutput::Event(UaEvent::Cancelled { .. })) = bench.ua.poll_output() else { panic!("cancelled") };
    let Some(UaOutput::Event(UaEvent::Closed { .. })) = bench.ua.poll_output() else { panic!("closed") };
    let Some(UaOutput::Transmit { flow, bytes }) = bench.ua.poll_output() else { panic!("the 487") };
    assert!(bytes.starts_with(b"SIP/2.0 487 "));
    assert_eq!((flow.id, flow.remote), (0, "192.0.2.2:5060".parse().unwrap()), "section 18.2.2");
    assert_eq!(words(&bench), ["incoming"]);
    bench.check_empty();
}

#[test]
fn hangup_and_wishes_to_sessions_that_are_gone_do_nothing() {
    let mut bench = Bench::new();
    bench.user(|ua, now| ua.hangup(now, SessionId(77), None));
    assert_eq!(bench.user(|ua, now| ua.info(now, SessionId(77), body("1"))), Err(UaError::NoSession));
    let id = bench.established();
    assert_eq!(bench.user(|ua, now| ua.accept(now, id, body("x"))), Err(UaError::State));
    bench.user(|ua, now| ua.hangup(now, id, None));
    bench.user(|ua, now| ua.hangup(now, id, None));
    assert_eq!(bench.count(Method::Bye), 1);
}
