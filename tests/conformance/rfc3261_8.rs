//! RFC 3261 section 8 where a gateway meets it: merged requests, loops, overload, Retry-After; Reason (RFC 3326).

use ringback::sip::{Method, Request, UaConfig, UaEvent};

use crate::bench::{Bench, call, config};

/// The same request over another way: another branch.
fn by_another_way(request: &Request, number: usize) -> Request {
    let mut other = request.clone();
    other.headers.set("Via", format!("SIP/2.0/UDP 198.51.100.2:5060;branch=z9hG4bKother{number};rport"));
    other
}

/// Section 8.2.2.2: a request that forked on its way and reaches us twice is answered 482 the second time; a
/// retransmission is not.
#[test]
fn a_merged_request_is_refused_with_482() {
    let mut bench = Bench::new();
    let invite = bench.outside(Method::Invite);
    assert_eq!(bench.ask(&invite), None);
    assert_eq!(bench.ask(&invite), None, "a retransmission");
    for number in 0..3 {
        let mut merged = by_another_way(&invite, number);
        merged.uri = "sip:another@198.51.100.1".parse().unwrap();
        assert_eq!(bench.ask(&merged).unwrap().status, 482);
    }
    assert_eq!(bench.news().iter().filter(|event| matches!(event, UaEvent::Incoming { .. })).count(), 1);
    // Another number, Call-ID or tag: another request.
    let others = [("CSeq", "99 INVITE"), ("Call-ID", "another"), ("From", "<sip:peer@h>;tag=another")];
    for (number, (name, value)) in others.into_iter().enumerate() {
        let mut other = by_another_way(&invite, 10 + number);
        other.headers.set(name, value);
        assert_eq!(bench.ask(&other), None, "{name}");
    }
    assert_eq!(bench.ua.session_count(), 4);
}

/// Section 16.3 for who passes calls on (RFC 7332): an INVITE without hops left goes nowhere, and one that goes on has one
/// less.
#[test]
fn a_loop_ends() {
    let table =
        [(Some("0"), Err(483)), (Some("1"), Ok(0)), (Some("70"), Ok(69)), (None, Ok(69)), (Some("255"), Ok(254))];
    for (hops, expected) in table {
        let mut bench = Bench::new();
        let mut invite = bench.outside(Method::Invite);
        invite.headers.remove("Max-Forwards");
        hops.into_iter().for_each(|hops| invite.headers.push("Max-Forwards", hops));
        match (bench.ask(&invite), bench.news().pop()) {
            (Some(response), None) => assert_eq!(Err(response.status), expected),
            (None, Some(UaEvent::Incoming { request, .. })) => assert_eq!(Ok(request.forwards_left()), expected),
            other => panic!("{hops:?}: {other:?}"),
        }
    }
}

/// Sections 21.5.4 and 20.33: who is full says so, and when it is worth another try; what belongs to calls goes on.
#[test]
fn overload_is_said_and_calls_go_on() {
    // Sessions.
    let mut bench = Bench::with(UaConfig { max_sessions: 1, ..config() });
    bench.established();
    let invite = bench.outside(Method::Invite);
    let refused = bench.ask(&invite).unwrap();
    assert_eq!((refused.status, refused.headers.get("Retry-After")), (503, Some("30")));
    // Transactions: nothing is kept of what is refused.
    let mut bench = Bench::with(UaConfig { max_transactions: 4, ..config() });
    bench.established();
    while bench.ua.transaction_count() < 4 {
        let options = bench.outside(Method::Options);
        assert_eq!(bench.ask(&options).unwrap().status, 200);
    }
    for method in [Method::Invite, Method::Options, Method::Register, Method::Refer] {
        let request = bench.outside(method);
        let refused = bench.ask(&request).unwrap();
        assert_eq!((refused.status, refused.headers.get("Retry-After")), (503, Some("5")));
    }
    assert_eq!(bench.ua.transaction_count(), 4);
    let bye = bench.inside(Method::Bye);
    assert_eq!(bench.ask(&bye).unwrap().status, 200);
    // Going down.
    let mut bench = Bench::new();
    bench.established();
    bench.ua.drain(true);
    for method in [Method::Invite, Method::Options] {
        let request = bench.outside(method);
        let refused = bench.ask(&request).unwrap();
        assert_eq!((refused.status, refused.headers.retry_after().is_some()), (503, true));
    }
    let info = bench.inside(Method::Info);
    assert_eq!(bench.ask(&info).unwrap().status, 200);
}

/// Section 20.33: a peer's Retry-After is told with his refusal.
#[test]
fn a_peers_retry_after_is_told() {
    let mut bench = Bench::new();
    bench.user(|ua, now| ua.invite(now, call())).unwrap();
    bench.reply(Method::Invite, 503, &[("Retry-After", "120 (overload)")]);
    let Some(UaEvent::Failed { status: 503, headers, .. }) = bench.news().into_iter().next() else { panic!("refused") };
    assert_eq!(headers.retry_after().map(|time| time.as_secs()), Some(120));
}

/// RFC 3326: why a call is ended, both ways.
#[test]
fn a_reason_is_told_and_heard() {
    let reason = "Q.850;cause=16;text=\"Normal call clearing\"";
    let mut bench = Bench::new();
    let id = bench.established();
    bench.user(|ua, now| ua.hangup(now, id, Some(reason)));
    assert_eq!(bench.last(Method::Bye).headers.get("Reason"), Some(reason));
    let mut bench = Bench::new();
    bench.established();
    let mut bye = bench.inside(Method::Bye);
    bye.headers.push("Reason", reason);
    bench.ask(&bye);
    let told = bench.news().into_iter().find_map(|event| match event {
        UaEvent::Ended { reason, .. } => reason,
        _ => None,
    });
    assert_eq!(told.as_deref(), Some(reason));
}
