//! RFC 3515 (REFER) with RFC 3892 (Referred-By), RFC 4488 and RFC 7614 (no subscription), RFC 6665 (NOTIFY).

use std::time::Duration;

use ringback::sip::{Credentials, Method, ReferId, ReferTo, Replaces, Request, Response, SessionId, UaError, UaEvent};

use crate::bench::{Bench, name};

/// With a Replaces of 12345@192.0.2.1;to-tag=1;from-tag=2 inside.
const REPLACES: &str = "<sip:carol@example.com?Replaces=12345%40192.0.2.1%3Bto-tag%3D1%3Bfrom-tag%3D2>";
const TARGET: (&str, &str) = ("Refer-To", "<sip:carol@example.com>");

fn refer(bench: &mut Bench, headers: &[(&str, &str)]) -> (Request, Option<Response>) {
    let mut request = bench.inside(Method::Refer);
    headers.iter().for_each(|(name, value)| request.headers.push(*name, *value));
    let response = bench.ask(&request);
    (request, response)
}

fn referred(bench: &mut Bench) -> Option<(ReferId, ReferTo, Option<String>)> {
    bench.news().into_iter().find_map(|event| match event {
        UaEvent::Referred { refer, to, referred_by, .. } => Some((refer, to, referred_by)),
        _ => None,
    })
}

/// A REFER of the peer's that our user has accepted.
fn accepted(bench: &mut Bench, id: SessionId, headers: &[(&str, &str)]) -> ReferId {
    refer(bench, headers);
    let (refer, _, _) = referred(bench).expect("a REFER");
    bench.user(|ua, now| ua.answer_refer(now, id, refer, Ok(()))).unwrap();
    refer
}

/// The last NOTIFY: its state, its event, and the first line of its body.
fn notified(bench: &Bench) -> (String, String, String) {
    let notify = bench.last(Method::Notify);
    let get = |name| notify.headers.get(name).unwrap_or_default().to_owned();
    assert_eq!(get("Content-Type"), "message/sipfrag;version=2.0");
    (get("Subscription-State"), get("Event"), String::from_utf8(notify.body.clone()).unwrap().trim_end().to_owned())
}

/// Section 2.4.2 and 2.1: what a REFER must say, and what an RFC 3892 Referred-By adds.
#[test]
fn a_refer_is_refused_or_told_by_what_it_says() {
    type Row = (&'static str, &'static [(&'static str, &'static str)], Result<&'static str, u16>);
    let table: &[Row] = &[
        ("one", &[TARGET], Ok("sip:carol@example.com")),
        ("compact", &[("r", "sip:carol@example.com")], Ok("sip:carol@example.com")),
        ("sips", &[("Refer-To", "\"Carol\" <sips:c@h;x=y>;z")], Ok("sips:c@h;x=y")),
        ("tel", &[("Refer-To", "<tel:+15551234>")], Ok("tel:+15551234")),
        ("method INVITE", &[("Refer-To", "<sip:c@h;method=INVITE>")], Ok("sip:c@h")),
        ("with Replaces", &[("Refer-To", REPLACES)], Ok("sip:carol@example.com")),
        ("other fields are passed over", &[("Refer-To", "<sip:c@h?Subject=x&Route=%3Csip:evil%3E>")], Ok("sip:c@h")),
        ("none", &[], Err(400)),
        ("two lines", &[TARGET, ("Refer-To", "<sip:dave@example.com>")], Err(400)),
        ("two in a line", &[("Refer-To", "<sip:a@h>, <sip:b@h>")], Err(400)),
        ("no URI", &[("Refer-To", "carol")], Err(400)),
        ("broken escape", &[("Refer-To", "<sip:c@h?Replaces=%4>")], Err(400)),
        ("a line break", &[("Refer-To", "<sip:c@h?Replaces=1%0d%0aX:%3Bto-tag%3D1%3Bfrom-tag%3D2>")], Err(400)),
        ("Replaces that is none", &[("Refer-To", "<sip:c@h?Replaces=1%3Bto-tag%3D1>")], Err(400)),
        (
            "two Replaces",
            &[("Refer-To", "<sip:c@h?Replaces=1%3Bto-tag%3D1%3Bfrom-tag%3D2&replaces=1%3Bto-tag%3D1%3Bfrom-tag%3D2>")],
            Err(400),
        ),
        ("another scheme", &[("Refer-To", "<mailto:carol@example.com>")], Err(416)),
        ("another method", &[("Refer-To", "<sip:c@h;method=BYE>")], Err(403)),
        ("explicitsub of RFC 7614", &[TARGET, ("Require", "explicitsub")], Err(420)),
    ];
    for (what, headers, expected) in table {
        let mut bench = Bench::new();
        let id = bench.established();
        let (_, response) = refer(&mut bench, headers);
        let told = referred(&mut bench);
        match expected {
            Err(status) => assert_eq!((response.unwrap().status, told), (*status, None), "{what}"),
            Ok(uri) => {
                let (_, to, _) = told.expect(what);
                assert_eq!((to.uri.to_string().as_str(), response), (*uri, None), "{what}");
                let expected = Replaces {
                    call_id: "12345@192.0.2.1".into(),
                    to_tag: "1".into(),
                    from_tag: "2".into(),
                    early_only: false,
                };
                assert_eq!(to.replaces, (*what == "with Replaces").then_some(expected));
            }
        }
        // Section 15 of RFC 3261: with the session all of it ends.
        bench.user(|ua, now| ua.hangup(now, id, None));
        bench.reply(Method::Bye, 200, &[]);
        bench.check_empty();
    }
    // RFC 3892 section 2.1.
    let table = [
        ("<sip:b@h>", Some("<sip:b@h>")),
        ("\"B\" <sip:b@h>;cid=\"x@y\"", Some("\"B\" <sip:b@h>;cid=\"x@y\"")),
        ("b", None),
    ];
    for (value, expected) in table {
        let mut bench = Bench::new();
        bench.established();
        refer(&mut bench, &[TARGET, ("Referred-By", value)]);
        assert_eq!(referred(&mut bench).unwrap().2.as_deref(), expected, "{value}");
    }
}

/// Section 2.4.4 to 2.4.7.
#[test]
fn an_accepted_refer_is_told_of_until_its_end() {
    let mut bench = Bench::new();
    let id = bench.established();
    let (request, _) = refer(&mut bench, &[TARGET]);
    let (refer, _, _) = referred(&mut bench).unwrap();
    bench.user(|ua, now| ua.answer_refer(now, id, refer, Ok(()))).unwrap();
    let accepted = bench.responses.last().unwrap().clone();
    assert_eq!(accepted.status, 202);
    assert!(accepted.headers.contacts().is_ok_and(|contacts| contacts.len() == 1));
    let event = format!("refer;id={}", request.headers.cseq().unwrap().number);
    let told = |state: &str, line: &str| (state.to_owned(), event.clone(), line.to_owned());
    assert_eq!(notified(&bench), told("active;expires=180", "SIP/2.0 100 Trying"));
    let (over, notify) = bench.requests.last().unwrap().clone();
    assert_eq!(
        (over, notify.uri.to_string().as_str()),
        (crate::answers::flow(ringback::sip::Transport::Udp), "sip:b@198.51.100.2:5060")
    );
    // One at a time: what comes meanwhile is told after it, and only the newest.
    for status in [180, 183] {
        bench.user(|ua, now| ua.notify_refer(now, id, refer, status, false)).unwrap();
    }
    assert_eq!(bench.count(Method::Notify), 1);
    bench.reply(Method::Notify, 200, &[]);
    assert_eq!(notified(&bench), told("active;expires=180", "SIP/2.0 183 Session Progress"));
    bench.reply(Method::Notify, 200, &[]);
    bench.user(|ua, now| ua.notify_refer(now, id, refer, 200, true)).unwrap();
    assert_eq!(notified(&bench), told("terminated;reason=noresource", "SIP/2.0 200 OK"));
    bench.reply(Method::Notify, 200, &[]);
    assert_eq!(bench.count(Method::Notify), 3);
    let after = bench.user(|ua, now| ua.notify_refer(now, id, refer, 200, true));
    assert_eq!(after, Err(UaError::State));
}

#[test]
fn a_refer_is_refused_by_our_user() {
    for status in [403, 603] {
        let mut bench = Bench::new();
        let id = bench.established();
        refer(&mut bench, &[TARGET]);
        let (refer, _, _) = referred(&mut bench).unwrap();
        assert_eq!(bench.user(|ua, now| ua.answer_refer(now, id, refer, Err(200))), Err(UaError::Status(200)));
        bench.user(|ua, now| ua.answer_refer(now, id, refer, Err(status))).unwrap();
        assert_eq!(bench.responses.last().unwrap().status, status);
        assert_eq!(bench.user(|ua, now| ua.answer_refer(now, id, refer, Ok(()))), Err(UaError::State));
        assert_eq!(bench.count(Method::Notify), 0);
    }
}

/// RFC 4488 section 4, RFC 7614 section 4: no subscription, no NOTIFY.
#[test]
fn a_refer_without_subscription_is_not_told_of() {
    for header in [("Refer-Sub", "false"), ("Refer-Sub", "FALSE ;x"), ("Require", "nosub")] {
        let mut bench = Bench::new();
        let id = bench.established();
        let refer = accepted(&mut bench, id, &[TARGET, header]);
        let response = bench.responses.last().unwrap();
        assert_eq!((response.status, response.headers.get("Refer-Sub")), (202, Some("false")));
        for (status, last) in [(180, false), (200, true)] {
            bench.user(|ua, now| ua.notify_refer(now, id, refer, status, last)).unwrap();
        }
        assert_eq!(bench.count(Method::Notify), 0);
        assert_eq!(bench.user(|ua, now| ua.notify_refer(now, id, refer, 200, true)), Err(UaError::State));
    }
}

/// Section 2.4.6: each is known by its number.
#[test]
fn several_refers_are_told_apart_and_bounded() {
    let mut bench = Bench::new();
    let id = bench.established();
    let refers: Vec<ReferId> = (0..4).map(|_| accepted(&mut bench, id, &[TARGET])).collect();
    assert_eq!(refer(&mut bench, &[TARGET]).1.unwrap().status, 491);
    let events: Vec<_> =
        bench.requests.iter().filter_map(|(_, it)| it.headers.get("Event").map(str::to_owned)).collect();
    assert_eq!(events, refers.iter().map(|refer| format!("refer;id={}", refer.0)).collect::<Vec<_>>());
}

/// RFC 6665 section 4.2.2: the subscription's time is over; the peer wants no more.
#[test]
fn a_subscription_ends_by_time_and_by_the_peers_word() {
    let mut bench = Bench::new();
    let id = bench.established();
    let refer = accepted(&mut bench, id, &[TARGET]);
    bench.reply(Method::Notify, 200, &[]);
    bench.pass(Duration::from_secs(100));
    bench.user(|ua, now| ua.notify_refer(now, id, refer, 180, false)).unwrap();
    assert_eq!(notified(&bench).0, "active;expires=80");
    bench.reply(Method::Notify, 200, &[]);
    bench.pass(Duration::from_secs(80));
    let (state, _, line) = notified(&bench);
    assert_eq!((state.as_str(), line.as_str()), ("terminated;reason=timeout", "SIP/2.0 180 Ringing"));
    assert_eq!(bench.user(|ua, now| ua.notify_refer(now, id, refer, 200, true)), Err(UaError::State));
    for status in [481, 489, 603] {
        let mut bench = Bench::new();
        let id = bench.established();
        let refer = accepted(&mut bench, id, &[TARGET]);
        bench.reply(Method::Notify, status, &[]);
        bench.user(|ua, now| ua.notify_refer(now, id, refer, 200, true)).unwrap();
        assert_eq!((bench.count(Method::Notify), bench.ua.session_count()), (1, 1), "{status}");
    }
}

/// Sections 2.4.1 and 2.4.2: outside of a call nobody is referred, and no NOTIFY is awaited.
#[test]
fn outside_of_a_dialog_there_is_neither_refer_nor_notify() {
    let mut bench = Bench::new();
    let mut request = bench.outside(Method::Refer);
    request.headers.push("Refer-To", "<sip:c@h>");
    assert_eq!(bench.ask(&request).unwrap().status, 403);
    let mut request = bench.outside(Method::Notify);
    request.headers.push("Event", "refer");
    assert_eq!(bench.ask(&request).unwrap().status, 481);
    bench.check_empty();
}

fn to(uri: &str) -> ReferTo {
    ReferTo { uri: uri.parse().unwrap(), replaces: None }
}

fn notify(bench: &mut Bench, event: &str, state: Option<&str>, body: &str) -> u16 {
    let mut request = bench.inside(Method::Notify);
    request.headers.push("Event", event);
    state.into_iter().for_each(|state| request.headers.push("Subscription-State", state));
    if !body.is_empty() {
        request.headers.push("Content-Type", "message/sipfrag;version=2.0");
    }
    request.body = body.as_bytes().to_vec();
    bench.ask(&request).unwrap().status
}

/// What our user hears, in short.
fn words(bench: &mut Bench) -> Vec<String> {
    let word = |event| match event {
        UaEvent::ReferAnswered { result: Ok(()), .. } => "accepted".to_owned(),
        UaEvent::ReferAnswered { result: Err(status), .. } => format!("refused {status}"),
        UaEvent::ReferProgress { status, last, .. } => format!("{status}{}", if last { " last" } else { "" }),
        UaEvent::Ended { .. } => "ended".to_owned(),
        UaEvent::Closed { .. } => "closed".to_owned(),
        other => format!("{other:?}"),
    };
    bench.news().into_iter().map(word).collect()
}

#[test]
fn our_refer_says_whom_to_call_and_for_whom() {
    let mut bench = Bench::new();
    let id = bench.established();
    let replaces = Replaces { call_id: "a b".into(), to_tag: "1".into(), from_tag: "2".into(), early_only: false };
    let mut target = ReferTo { replaces: Some(replaces), ..to("sip:carol@example.com;x=y") };
    assert!(matches!(bench.user(|ua, now| ua.refer(now, id, target.clone(), None)), Err(UaError::Header { .. })));
    target.replaces.as_mut().unwrap().call_id = "a%;b@h".replace(';', "");
    bench.user(|ua, now| ua.refer(now, id, target.clone(), Some("<sip:us@h>"))).unwrap();
    let sent = bench.last(Method::Refer);
    let expected = "<sip:carol@example.com;x=y?Replaces=a%25b%40h%3Bto-tag%3D1%3Bfrom-tag%3D2>";
    assert_eq!(sent.headers.get("Refer-To"), Some(expected));
    assert_eq!(sent.headers.get("Referred-By"), Some("<sip:us@h>"));
    assert!(sent.headers.get("Contact").is_some());
    // What would not be read as it is meant is not sent.
    let mut evil = to("sip:c@h");
    evil.uri.user = Some("c\r\nX: 1".into());
    let mut inner = to("sip:c@h");
    inner.uri.user = Some("c>;x=\"<".into());
    for (to, by) in [
        (evil, None),
        (inner, None),
        (to("mailto:c@h"), None),
        (to("sip:c@h?X=1"), None),
        (to("sip:c@h"), Some("x\r\ny")),
        (to("sip:c@h"), Some("nobody")),
    ] {
        assert!(matches!(bench.user(|ua, now| ua.refer(now, id, to, by)), Err(UaError::Header { .. })));
    }
    assert_eq!(bench.count(Method::Refer), 1);
}

/// Section 2.4.5 and RFC 6665 section 4.1.3: what our user learns of each NOTIFY.
#[test]
fn what_the_peer_tells_is_told() {
    let table: &[(Option<&str>, &str, &str)] = &[
        (Some("active;expires=60"), "SIP/2.0 100 Trying\r\n", "100"),
        (Some("pending"), "SIP/2.0 180 Ringing", "180"),
        (Some("Active ; expires=60"), "SIP/2.0 200 OK\r\nContact: <sip:c@h>\r\n", "200"),
        (Some("terminated;reason=noresource"), "SIP/2.0 200 OK", "200 last"),
        (Some("terminated;reason=noresource"), "SIP/2.0 486 Busy Here", "486 last"),
        (Some("TERMINATED"), "SIP/2.0 603", "603 last"),
        (Some("terminated;reason=timeout"), "", "100 last"),
        (Some("terminated"), "nonsense", "100 last"),
        (Some("active"), "SIP/2.0 999 Nonsense", "100"),
        // RFC 6665 section 4.1.3: refused or given up is no success, whatever the sipfrag says of the way there.
        (Some("terminated;reason=rejected"), "SIP/2.0 100 Trying", "603 last"),
        (Some("terminated; Reason=Rejected"), "", "603 last"),
        (Some("terminated;reason=probation;retry-after=9"), "SIP/2.0 180 Ringing", "480 last"),
        (Some("terminated;reason=deactivated"), "SIP/2.0 100 Trying", "480 last"),
        (Some("terminated;reason=giveup"), "SIP/2.0 100 Trying", "480 last"),
        (Some("terminated;reason=rejected"), "SIP/2.0 200 OK", "200 last"),
        (Some("terminated;reason=noresource"), "SIP/2.0 100 Trying", "100 last"),
        (Some("terminated;reason=invariant"), "SIP/2.0 100 Trying", "100 last"),
        (Some("active;reason=rejected"), "SIP/2.0 100 Trying", "100"),
        // Of a time before RFC 3265's header was asked for.
        (None, "SIP/2.0 180 Ringing", "180"),
        (None, "SIP/2.0 503 Service Unavailable", "503 last"),
    ];
    for (state, body, expected) in table {
        let mut bench = Bench::new();
        let id = bench.established();
        bench.user(|ua, now| ua.refer(now, id, to("sip:c@h"), None)).unwrap();
        bench.reply(Method::Refer, 202, &[]);
        let event = format!("refer;id={}", bench.last(Method::Refer).headers.cseq().unwrap().number);
        assert_eq!(notify(&mut bench, &event, *state, body), 200, "{state:?} {body}");
        assert_eq!(words(&mut bench), ["accepted", expected], "{state:?} {body}");
        // What ends is over: section 2.4.7.
        let again = notify(&mut bench, "refer", *state, body);
        assert_eq!(again, if expected.contains("last") { 481 } else { 200 }, "{state:?} {body}");
    }
}

#[test]
fn notifies_come_early_late_wrongly_or_never() {
    // Before the 202, and all of them.
    let mut bench = Bench::new();
    let id = bench.established();
    bench.user(|ua, now| ua.refer(now, id, to("sip:c@h"), None)).unwrap();
    assert_eq!(notify(&mut bench, "refer", Some("active"), "SIP/2.0 100 Trying"), 200);
    assert_eq!(notify(&mut bench, "refer", Some("terminated"), "SIP/2.0 200 OK"), 200);
    bench.reply(Method::Refer, 202, &[]);
    assert_eq!(words(&mut bench), ["100", "200 last", "accepted"]);
    bench.pass(Duration::from_secs(100));
    assert!(words(&mut bench).is_empty());
    // Without a REFER, of another event, of another number.
    assert_eq!(notify(&mut bench, "refer", Some("active"), "SIP/2.0 200 OK"), 481);
    assert_eq!(notify(&mut bench, "presence", Some("active"), ""), 489);
    bench.user(|ua, now| ua.refer(now, id, to("sip:c@h"), None)).unwrap();
    assert_eq!(notify(&mut bench, "refer;id=77777", Some("active"), "SIP/2.0 200 OK"), 481);
    // Never.
    bench.reply(Method::Refer, 202, &[]);
    bench.pass(Duration::from_secs(31));
    assert_eq!(words(&mut bench), ["accepted"]);
    bench.pass(Duration::from_secs(2));
    assert_eq!(words(&mut bench), ["408 last"]);
    // No more, once the time that he named is over.
    bench.user(|ua, now| ua.refer(now, id, to("sip:c@h"), None)).unwrap();
    bench.reply(Method::Refer, 202, &[]);
    assert_eq!(notify(&mut bench, "refer", Some("active;expires=50"), "SIP/2.0 180 Ringing"), 200);
    bench.pass(Duration::from_secs(49));
    assert_eq!(words(&mut bench), ["accepted", "180"]);
    bench.pass(Duration::from_secs(2));
    assert_eq!(words(&mut bench), ["408 last"]);
    // The peer takes no subscription (RFC 4488).
    bench.user(|ua, now| ua.refer(now, id, to("sip:c@h"), None)).unwrap();
    bench.reply(Method::Refer, 200, &[("Refer-Sub", "false")]);
    assert_eq!(words(&mut bench), ["accepted", "100 last"]);
}

#[test]
fn our_refer_is_refused_unanswered_or_challenged() {
    let table = [
        (403, vec!["refused 403"]),
        (603, vec!["refused 603"]),
        (405, vec!["refused 405"]),
        (481, vec!["refused 481", "ended"]),
    ];
    for (status, expected) in table {
        let mut bench = Bench::new();
        let id = bench.established();
        bench.user(|ua, now| ua.refer(now, id, to("sip:c@h"), None)).unwrap();
        bench.reply(Method::Refer, status, &[]);
        assert_eq!(words(&mut bench), expected);
    }
    let mut bench = Bench::new();
    let id = bench.established();
    bench.user(|ua, now| ua.refer(now, id, to("sip:c@h"), None)).unwrap();
    bench.pass(Duration::from_secs(33));
    assert_eq!((words(&mut bench), bench.ua.session_count()), (vec!["refused 408".to_owned()], 1));
    // The NOTIFYs call it by the number of the REFER that was accepted.
    let credentials = Credentials { username: "us".into(), password: "pw".into(), realm: None };
    let mut bench = Bench::new();
    let id = bench.established_with(Some(credentials));
    bench.user(|ua, now| ua.refer(now, id, to("sip:c@h"), None)).unwrap();
    let first = bench.last(Method::Refer).headers.cseq().unwrap().number;
    bench.reply(Method::Refer, 401, &[("WWW-Authenticate", "Digest realm=\"x\", nonce=\"n\"")]);
    let second = bench.last(Method::Refer);
    assert_eq!(second.headers.cseq().unwrap().number, first + 1);
    assert!(second.headers.get("Authorization").is_some());
    bench.reply(Method::Refer, 202, &[]);
    assert_eq!(notify(&mut bench, &format!("refer;id={}", first + 1), Some("terminated"), "SIP/2.0 200 OK"), 200);
    assert_eq!(words(&mut bench), ["accepted", "200 last"]);
}

/// RFC 3261 section 12.1.1 says whom to name: what the dialog is.
#[test]
fn a_dialog_can_be_named() {
    let mut bench = Bench::new();
    assert_eq!(bench.ua.dialog(SessionId(1)), None);
    let id = bench.established();
    let info = bench.ua.dialog(id).unwrap();
    let invite = bench.last(Method::Invite);
    assert_eq!(info.call_id, invite.headers.call_id().unwrap());
    assert_eq!(Some(info.local_tag.as_str()), invite.headers.from().unwrap().tag());
    assert_eq!((info.remote_tag.as_str(), info.remote_target.to_string().as_str()), ("b", "sip:b@198.51.100.2:5060"));
    assert_eq!(
        (info.local_uri, info.remote_uri),
        (name("<sip:us@198.51.100.1>").uri, name("<sip:b@198.51.100.2>").uri)
    );
    assert!(info.peer_allows.is_empty());
    let mut options = bench.inside(Method::Update);
    options.headers.push("Allow", "INVITE, REFER");
    bench.ask(&options);
    assert_eq!(bench.ua.dialog(id).unwrap().peer_allows, [Method::Invite, Method::Refer]);
}
