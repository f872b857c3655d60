//! Browser to phone: the plain course of things.

use ringback::sdp::{Hears, MediaCommand, Tone};
use ringback::signal::{ClientKind, ErrorCode, Party, ServerMessage};
use ringback::sip::Transport;
use ringback::switch::NumberFormat;

use crate::support::world::{GATEWAY, ONE};
use crate::support::{Habits, World, call, ended};

#[test]
fn a_browser_calls_a_phone_and_hangs_up() {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "020 7946 0000"));
    world.until(alice, "c1", "answered");
    world.run(2000);
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.page(alice).story("c1"), ["answer", "ringing", "answered", "ended"]);
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Us, "normal", None));
    let cdr = world.cdr().clone();
    assert_eq!((cdr.dialled.as_str(), cdr.sent.as_deref()), ("020 7946 0000", Some("+442079460000")));
    assert_eq!((cdr.cause.as_str(), cdr.q850, cdr.rule.as_deref()), ("normal", 16, Some("world")));
    assert_eq!((cdr.trunks[0].trunk.as_str(), cdr.trunks[0].result.as_str()), ("one", "answered"));
    assert!(cdr.start < cdr.ringing.unwrap() && cdr.ringing < cdr.answer && cdr.answer.unwrap() + 2000 <= cdr.end);
    assert_eq!((cdr.codecs.a.as_deref(), cdr.codecs.b.as_deref()), (Some("opus"), Some("PCMU")));
    assert_eq!(world.one().request_uris, ["sip:+442079460000@192.0.2.9"]);
    assert!(world.one().froms[0].contains("sip:alice@192.0.2.1"), "{:?}", world.one().froms);
    assert_eq!(world.one().sessions.values().next().unwrap().ends, ["ended Remote"]);
    assert_eq!((world.sent(GATEWAY, "INVITE"), world.sent(GATEWAY, "BYE")), (1, 1));
}

#[test]
fn the_browser_is_answered_before_the_phone_is_even_asked() {
    let mut world = World::where_one(Habits::default());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answer");
    assert_eq!(world.sent(ONE, "SIP/2.0"), 0);
    let MediaCommand::Start(plan) = &world.commands()[0] else { panic!("{:?}", world.commands()) };
    assert_eq!((plan.a.as_ref().unwrap().hears, &plan.b), (Hears::Peer, &None));
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Us, "cancelled", Some(487)));
}

#[test]
fn the_phone_hangs_up() {
    let mut world = World::where_one(Habits { bye_after: Some(1500), ..Habits::answering() });
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "ended");
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Them, "normal", None));
    world.finish();
}

#[test]
fn refusals_are_told_from_the_one_table() {
    for (status, cause) in [
        (486, "busy"),
        (404, "unknown-number"),
        (603, "declined"),
        (480, "unavailable"),
        (488, "no-common-media"),
        (503, "congestion"),
        (600, "busy"),
        (484, "invalid-number"),
    ] {
        let mut world = World::where_one(Habits::refusing(status));
        let alice = world.browser(1, "alice");
        world.say(alice, &call("c1", "600"));
        world.until(alice, "c1", "ended");
        assert_eq!(world.page(alice).ended("c1"), ended(Party::Them, cause, Some(status)));
        world.finish();
        assert_eq!(world.cdr().trunks[0].result, status.to_string());
        assert_eq!(world.page(alice).story("c1"), ["answer", "ended"]);
    }
}

#[test]
fn the_plan_refuses_before_anything_is_lent() {
    let mut world = World::new();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "09098790000"));
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Gateway, "not-allowed", Some(403)));
    assert!(world.media.is_empty());
    world.finish();
    assert_eq!(
        (world.cdr().rule.as_deref(), world.cdr().text.as_str()),
        (Some("premium"), "Premium numbers are barred")
    );
}

#[test]
fn ringback_sounds_until_the_answer_and_early_media_is_kept() {
    let early = Habits { ring_after: Some(50), early_after: Some(100), answer_after: Some(400), ..Habits::default() };
    let mut world = World::where_one(early);
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.page(alice).story("c1"), ["answer", "ringing", "early", "answered", "ended"]);
    let plans: Vec<_> = world.commands().iter().filter_map(plan_of).collect();
    // rings without sound: our tone; then the trunk's sound beside it (the media path prefers what arrives)
    assert_eq!(plans[1], (Hears::PeerOr(Tone::Us), None));
    assert_eq!(plans[2], (Hears::PeerOr(Tone::Us), Some(Hears::Nothing)));
    assert_eq!(plans.last().unwrap(), &(Hears::Peer, Some(Hears::Peer)));
    assert_eq!(world.commands().last(), Some(&MediaCommand::Stop));
}

/// What the browser hears, and the trunk.
fn plan_of(command: &MediaCommand) -> Option<(Hears, Option<Hears>)> {
    match command {
        MediaCommand::Start(plan) | MediaCommand::Update(plan) => {
            Some((plan.a.as_ref().unwrap().hears, plan.b.as_ref().map(|leg| leg.hears)))
        }
        _ => None,
    }
}

#[test]
fn early_media_without_ringing_makes_no_tone() {
    let mut world = World::where_one(Habits { early_after: Some(100), answer_after: Some(300), ..Habits::default() });
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    assert_eq!(world.page(alice).story("c1"), ["answer", "early", "answered"]);
    assert!(world.commands().iter().filter_map(plan_of).all(|(hears, _)| hears == Hears::Peer));
    world.tell(alice, "hangup", "c1");
    world.finish();
}

#[test]
fn a_phone_that_rings_for_ever_is_given_up() {
    let mut world = World::where_one(Habits::ringing());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "ended");
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Gateway, "no-answer", Some(480)));
    assert!(world.elapsed_ms() >= 120_000);
    world.finish();
    assert_eq!(world.one().sessions.values().next().unwrap().ends, ["cancelled"]);
}

#[test]
fn the_longest_duration_ends_a_call() {
    let mut config = crate::support::world::config(3);
    config.limits.longest_call = std::time::Duration::from_secs(60);
    let mut world = World::with(config);
    world.one().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "ended");
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Gateway, "max-duration", None));
    world.finish();
    let cdr = world.cdr();
    assert_eq!(cdr.end - cdr.answer.unwrap(), 60_000);
}

#[test]
fn a_call_in_use_keeps_its_name_and_others_have_their_own() {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.say(alice, &call("c1", "601"));
    world.say(alice, &call("c2", "602"));
    let codes: Vec<ErrorCode> = world.page(alice).heard.iter().filter_map(code_of).collect();
    assert_eq!(codes, [ErrorCode::DuplicateCall]);
    world.until(alice, "c2", "answered");
    world.tell(alice, "hangup", "c1");
    world.tell(alice, "hangup", "c2");
    world.finish();
    assert_eq!(world.cdrs.len(), 2);
}

#[test]
fn numbers_are_written_as_each_trunk_wants_them() {
    let national = || NumberFormat::National { prefix: "0".into(), country: "44".into() };
    for (format, domain, transport, uri) in [
        (NumberFormat::E164, None, Transport::Udp, "sip:+442079460000@192.0.2.9"),
        (NumberFormat::Plain, Some("carrier.example"), Transport::Udp, "sip:442079460000@carrier.example"),
        (national(), None, Transport::Tcp, "sip:02079460000@192.0.2.9;transport=tcp"),
    ] {
        let mut config = crate::support::world::config(6);
        let trunk = &mut config.trunks[0];
        (trunk.number_format, trunk.domain) = (format, domain.map(|domain: &str| domain.parse().unwrap()));
        trunk.targets[0].transport = transport;
        let mut world = World::with(config);
        let alice = world.browser(1, "alice");
        world.say(alice, &call("c1", "020 7946 0000"));
        world.run(10);
        let (_, invite) = world.wire.iter().find(|(_, text)| text.starts_with("INVITE")).unwrap();
        assert!(invite.starts_with(&format!("INVITE {uri} SIP/2.0\r\n")), "{invite}");
        let host = domain.unwrap_or("192.0.2.1");
        assert!(invite.contains(&format!("sip:alice@{host}>;tag=")), "{invite}");
    }
}

#[test]
fn a_caller_who_shows_nothing_is_anonymous() {
    let mut world = World::where_one(Habits::refusing(486));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "+445001"));
    world.finish();
    let from = &world.one().froms[0];
    assert!(from.contains("<sip:anonymous@anonymous.invalid>") && !from.contains("alice"), "{from}");
}

/// The code of an `error`.
pub fn code_of(message: &ServerMessage) -> Option<ErrorCode> {
    match message {
        ServerMessage::Error { code, .. } => Some(*code),
        _ => None,
    }
}

/// Each error says which kind of message it answers, and names the call that was meant.
#[test]
fn a_refused_message_is_named() {
    let mut world = World::where_one(Habits::ringing());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "+445001"));
    world.say(alice, r#"{"type":"hold","call":"c1","on":true}"#);
    world.say(alice, r#"{"type":"digits","call":"c1","digits":"12x"}"#);
    world.run(1_000);
    for frame in [
        r#"{"type":"call","call":"c9","to":"600","sdp":"v=0\r\n"}"#,
        r#"{"type":"restart","call":"c1","sdp":"v=0\r\n"}"#,
        r#"{"type":"transfer","call":"c1","with":"c8"}"#,
        r#"{"type":"hangup","call":"c9"}"#,
        r#"{"type":"feedback","id":"0123456789abcdef","score":5}"#,
        r#"{"type":"hello","user":"alice"}"#,
        r#"{"type":"park","call":"c1"}"#,
        r#"not JSON"#,
    ] {
        world.say(alice, frame);
    }
    world.run(10);
    let refused = |message: &ServerMessage| match message {
        ServerMessage::Error { re, call, .. } => Some((re.map(ClientKind::as_str), call.clone())),
        _ => None,
    };
    let named = |re, call: Option<&str>| (Some(re), call.map(str::to_owned));
    assert_eq!(
        world.page(alice).heard.iter().filter_map(refused).collect::<Vec<_>>(),
        [
            named("hold", Some("c1")),
            named("digits", Some("c1")),
            named("call", Some("c9")),
            named("restart", Some("c1")),
            named("transfer", Some("c1")),
            named("hangup", Some("c9")),
            named("feedback", None),
            named("hello", None),
            (None, Some("c1".to_owned())),
            (None, None),
        ]
    );
}
