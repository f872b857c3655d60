//! RFC 3891 (Replaces): the table of section 3, and what we write ourselves.

use ringback::sip::{Invite, Method, Replaces, Request, SessionId, SessionOptions, UaError, UaEvent};

use crate::bench::{Bench, call};

/// How far the dialog is that the INVITE names.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dialog {
    /// We call, the peer rings.
    EarlyOurs,
    /// We called, and have given up.
    EarlyCancelled,
    /// The peer calls.
    EarlyTheirs,
    Confirmed,
    /// Our BYE is under way.
    Ending,
    /// The peer has hung up.
    Ended,
}

/// The session and how its dialog is named by its other side: Call-ID, our tag, the peer's.
fn dialog(bench: &mut Bench, kind: Dialog) -> (SessionId, [String; 3]) {
    let id = match kind {
        Dialog::EarlyTheirs => {
            let mut invite = bench.outside(Method::Invite);
            invite.body = b"v=0".to_vec();
            invite.headers.push("Content-Type", "application/sdp");
            bench.ask(&invite);
            let Some(UaEvent::Incoming { session, .. }) = bench.events.last() else { panic!("a call") };
            let id = *session;
            bench.user(|ua, now| ua.ring(now, id, 180, None)).unwrap();
            id
        }
        Dialog::EarlyOurs | Dialog::EarlyCancelled => {
            let id = bench.user(|ua, now| ua.invite(now, call())).unwrap();
            bench.reply(Method::Invite, 180, &[]);
            id
        }
        Dialog::Confirmed | Dialog::Ending | Dialog::Ended => bench.established(),
    };
    let info = bench.ua.dialog(id).unwrap();
    match kind {
        Dialog::EarlyCancelled | Dialog::Ending => bench.user(|ua, now| ua.hangup(now, id, None)),
        Dialog::Ended => {
            let bye = bench.inside(Method::Bye);
            assert_eq!(bench.ask(&bye).unwrap().status, 200);
        }
        _ => {}
    }
    (id, [info.call_id, info.local_tag, info.remote_tag])
}

fn invite(bench: &mut Bench, fields: &[(&str, &str)]) -> Request {
    let mut invite = bench.outside(Method::Invite);
    fields.iter().for_each(|(name, value)| invite.headers.push(*name, *value));
    invite
}

/// What an INVITE with these fields gets: a call (that replaces a session), or a refusal.
fn asked(bench: &mut Bench, fields: &[(&str, &str)]) -> Result<Option<SessionId>, u16> {
    let request = invite(bench, fields);
    bench.events.clear();
    match (bench.ask(&request), bench.events.first()) {
        (None, Some(UaEvent::Incoming { replaces, .. })) => Ok(*replaces),
        (Some(response), None) => Err(response.status),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_table_of_section_3() {
    let table = [
        (Dialog::EarlyOurs, "", Ok(())),
        (Dialog::EarlyOurs, ";early-only", Ok(())),
        (Dialog::EarlyCancelled, "", Err(603)),
        (Dialog::EarlyTheirs, "", Err(481)),
        (Dialog::EarlyTheirs, ";early-only", Err(481)),
        (Dialog::Confirmed, "", Ok(())),
        (Dialog::Confirmed, ";early-only", Err(486)),
        (Dialog::Confirmed, ";x=y", Ok(())),
        (Dialog::Ending, "", Err(603)),
        (Dialog::Ending, ";early-only", Err(603)),
        (Dialog::Ended, "", Err(603)),
    ];
    for (kind, extra, expected) in table {
        let mut bench = Bench::new();
        let (id, [call_id, ours, theirs]) = dialog(&mut bench, kind);
        let value = format!("{call_id};from-tag={theirs};to-tag={ours}{extra}");
        let expected = expected.map(|()| Some(id));
        assert_eq!(asked(&mut bench, &[("Replaces", &value)]), expected, "{kind:?}{extra}");
        assert_eq!(asked(&mut bench, &[("Replaces", &value), ("Require", "replaces")]), expected, "{kind:?}{extra}");
        // Tags the other way round, of others, or of another call: no match.
        for wrong in [
            format!("{call_id};from-tag={ours};to-tag={theirs}"),
            format!("{call_id};from-tag=x;to-tag={ours}"),
            format!("{call_id};from-tag={theirs};to-tag=x"),
            format!("x{call_id};from-tag={theirs};to-tag={ours}"),
            format!("{call_id};from-tag=0;to-tag={ours}"),
        ] {
            assert_eq!(asked(&mut bench, &[("Replaces", &wrong)]), Err(481), "{kind:?} {wrong}");
        }
        // Several, beside a Join, and what is none.
        let join = [("Replaces", value.as_str()), ("Join", value.as_str())];
        assert_eq!(asked(&mut bench, &join), Err(400));
        assert_eq!(asked(&mut bench, &[("Replaces", &value), ("Replaces", &value)]), Err(400));
        assert_eq!(asked(&mut bench, &[("Replaces", &format!("{value}, {value}"))]), Err(400));
        for broken in
            [call_id.clone(), format!("{call_id};to-tag={ours}"), format!("{value};to-tag=2"), format!(";{value}")]
        {
            assert_eq!(asked(&mut bench, &[("Replaces", &broken)]), Err(400), "{broken}");
        }
    }
}

/// Section 3: Replaces has no meaning in other requests.
#[test]
fn in_other_requests_it_is_an_error() {
    let mut bench = Bench::new();
    bench.established();
    for method in [Method::Options, Method::Update, Method::Info, Method::Refer] {
        let mut request = bench.inside(method.clone());
        request.headers.push("Replaces", "a;to-tag=1;from-tag=2");
        assert_eq!(bench.ask(&request).unwrap().status, 400, "{method}");
    }
    assert_eq!(bench.ua.session_count(), 1);
}

/// Section 3: a tag of 0 is that of a peer of RFC 2543, who has none.
#[test]
fn a_peer_without_a_tag_is_named_by_0() {
    let mut bench = Bench::new();
    let mut request = bench.outside(Method::Invite);
    request.headers.set("From", "<sip:old@198.51.100.2>");
    bench.ask(&request);
    let Some(UaEvent::Incoming { session, .. }) = bench.events.last() else { panic!("a call") };
    let id = *session;
    bench.user(|ua, now| ua.accept(now, id, crate::bench::sdp())).unwrap();
    let info = bench.ua.dialog(id).unwrap();
    let value = format!("{};from-tag=0;to-tag={}", info.call_id, info.local_tag);
    assert_eq!(asked(&mut bench, &[("Replaces", &value)]), Ok(Some(id)));
}

/// Sections 4 and 6.1: what we write, so that who cannot replace does not ring beside.
#[test]
fn our_invite_names_the_dialog_that_it_replaces() {
    let replaces = Replaces {
        call_id: "425928@phone.example.org".into(),
        to_tag: "7743".into(),
        from_tag: "6472".into(),
        early_only: false,
    };
    let options = |replaces: &Replaces| SessionOptions {
        replaces: Some(replaces.clone()),
        referred_by: Some("<sip:bob@example.org>".into()),
        ..SessionOptions::default()
    };
    let mut bench = Bench::new();
    bench.user(|ua, now| ua.invite(now, Invite { options: options(&replaces), ..call() })).unwrap();
    let sent = bench.last(Method::Invite);
    assert_eq!(sent.headers.get("Replaces"), Some("425928@phone.example.org;to-tag=7743;from-tag=6472"));
    assert!(sent.headers.tokens("Require").contains(&"replaces".to_owned()));
    assert!(sent.headers.tokens("Supported").contains(&"replaces".to_owned()));
    assert_eq!(sent.headers.get("Referred-By"), Some("<sip:bob@example.org>"));
    for (call_id, to_tag) in
        [("a\r\nX: 1", "1"), ("a;b", "1"), ("a,b", "1"), ("", "1"), ("a", ""), ("a", "1;early-only"), ("a", "1\n")]
    {
        let evil = Replaces { call_id: call_id.into(), to_tag: to_tag.into(), ..replaces.clone() };
        let refused = bench.user(|ua, now| ua.invite(now, Invite { options: options(&evil), ..call() }));
        assert!(matches!(refused, Err(UaError::Header { .. })), "{call_id:?} {to_tag:?}");
    }
    assert_eq!(
        "425928@h;from-tag=2;early-only;to-tag=1".parse::<Replaces>().unwrap().to_string(),
        "425928@h;to-tag=1;from-tag=2;early-only"
    );
}
