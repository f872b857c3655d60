//! Browsers: who may in, what is answered to nonsense, hanging up and vanishing at every step.

use std::time::Duration;

use ringback::call::SocketId;
use ringback::dialplan::{Plan, PlanFile};
use ringback::signal::{Claims, ErrorCode, Party, ServerMessage, TokenVerifier, sign_hs256};
use ringback::switch::{Auth, Input};
use serde_json::json;

use crate::basic::code_of;
use crate::support::sdp::browser_offer;
use crate::support::world::{GATEWAY, PLAN, address, config};
use crate::support::{Habits, World, call, ended};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
/// The worlds' clock begins here, Unix seconds.
const EPOCH: u64 = 1_800_000_000;

fn open(world: &mut World, socket: u64) -> SocketId {
    let socket = SocketId(socket);
    world.page(socket);
    world.input(Input::SocketOpened { socket, peer: address("198.51.100.1:4000"), rings: true });
    socket
}

fn codes(world: &mut World, socket: SocketId) -> Vec<ErrorCode> {
    world.page(socket).heard.iter().filter_map(code_of).collect()
}

fn claims() -> Claims {
    Claims { sub: "alice".into(), exp: EPOCH + 3600, ..Claims::default() }
}

fn with_tokens() -> World {
    let mut config = config(9);
    config.auth = Auth::Token(TokenVerifier::hs256(SECRET));
    let mut world = World::with(config);
    world.one().habits = Habits::answering();
    world
}

fn hello(world: &mut World, socket: u64, claims: &Claims) -> SocketId {
    let socket = open(world, socket);
    let token = sign_hs256(SECRET, claims);
    world.say(socket, &json!({"type": "hello", "token": token}).to_string());
    socket
}

#[test]
fn a_socket_without_hello_is_closed_after_five_seconds() {
    let mut world = World::new();
    let socket = open(&mut world, 1);
    world.run(4999);
    assert_eq!(world.page(socket).closed, None);
    world.run(2);
    assert_eq!(world.page(socket).closed, Some(1008));
    assert_eq!(codes(&mut world, socket), [ErrorCode::Unauthorized]);
    world.finish();
}

#[test]
fn a_call_may_follow_hello_at_once_and_may_not_come_before() {
    let mut world = World::where_one(Habits::answering());
    let socket = open(&mut world, 1);
    world.say(socket, &call("c0", "600"));
    assert_eq!(codes(&mut world, socket), [ErrorCode::BadOrder]);
    world.say(socket, &json!({"type": "hello", "user": "alice"}).to_string());
    world.say(socket, &call("c1", "600"));
    world.until(socket, "c1", "answered");
    world.say(socket, &json!({"type": "hello", "user": "bob"}).to_string());
    assert_eq!(codes(&mut world, socket), [ErrorCode::BadOrder, ErrorCode::BadOrder]);
    world.tell(socket, "hangup", "c1");
    world.finish();
    assert_eq!(world.cdr().user, "alice");
}

#[test]
fn tokens_open_sessions_and_bad_ones_close_the_socket() {
    let mut world = with_tokens();
    let good = hello(&mut world, 1, &claims());
    assert!(matches!(&world.page(good).heard[..], [ServerMessage::Welcome { user, .. }] if user == "alice"));
    let late = hello(&mut world, 2, &Claims { exp: EPOCH - 60 * 60, ..claims() });
    let none = open(&mut world, 3);
    world.say(none, &json!({"type": "hello", "user": "alice"}).to_string());
    let forged = open(&mut world, 4);
    let token = sign_hs256(b"another secret of 32 characters!", &claims());
    world.say(forged, &json!({"type": "hello", "token": token}).to_string());
    let odd = hello(&mut world, 5, &Claims { sub: "a\r\nb".into(), ..claims() });
    for socket in [late, none, forged, odd] {
        assert_eq!(codes(&mut world, socket), [ErrorCode::Unauthorized]);
        assert_eq!(world.page(socket).closed, Some(1008), "{socket:?}");
    }
}

#[test]
fn a_token_limits_caller_id_and_duration() {
    let mut world = with_tokens();
    let mine = Claims { caller_id: Some("+442079460101".into()), max_duration: Some(30), ..claims() };
    let alice = hello(&mut world, 1, &mine);
    let from = |name: &str, from: &str| {
        json!({"type": "call", "call": name, "to": "600", "sdp": browser_offer(), "from": from}).to_string()
    };
    world.say(alice, &from("c1", "+442079460999"));
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Gateway, "caller-id-not-allowed", Some(403)));
    world.say(alice, &from("c2", "+442079460101"));
    world.until(alice, "c2", "ended");
    assert_eq!(world.page(alice).ended("c2"), ended(Party::Gateway, "max-duration", None));
    world.run(1000);
    assert_eq!(world.cdrs.last().map(|cdr| cdr.end - cdr.answer.unwrap()), Some(30_000));
    assert!(world.one().froms[0].contains("sip:+442079460101@"), "{:?}", world.one().froms);
}

#[test]
fn anonymous_may_be_asked_for_with_a_token_and_other_numbers_where_the_plan_allows_them() {
    let from = |name: &str, from: &str| {
        json!({"type": "call", "call": name, "to": "600", "sdp": browser_offer(), "from": from}).to_string()
    };
    for (list, taken) in [("", false), ("[caller_id]\nallowed = '+4420794609XX'\n", true)] {
        let mut config = config(9);
        config.auth = Auth::Token(TokenVerifier::hs256(SECRET));
        let files = [PlanFile { name: "sim.toml".into(), text: format!("{PLAN}{list}") }];
        config.plan = Plan::load(&files, &["one".into(), "two".into()]).unwrap().into();
        let mut world = World::with(config);
        world.one().habits = Habits::answering();
        let mine = Claims { caller_id: Some("+442079460101".into()), max_duration: Some(1), ..claims() };
        let alice = hello(&mut world, 1, &mine);
        world.say(alice, &from("c1", "anonymous"));
        world.until(alice, "c1", "ended");
        assert_eq!(world.page(alice).ended("c1"), ended(Party::Gateway, "max-duration", None));
        assert!(world.one().froms[0].contains("anonymous.invalid"), "{:?}", world.one().froms);
        world.say(alice, &from("c2", "+442079460999"));
        world.until(alice, "c2", "ended");
        let (cause, sip) = if taken { ("max-duration", None) } else { ("caller-id-not-allowed", Some(403)) };
        assert_eq!(world.page(alice).ended("c2"), ended(Party::Gateway, cause, sip));
        assert_eq!(world.one().froms.get(1).is_some_and(|from| from.contains("sip:+442079460999@")), taken);
    }
}

#[test]
fn a_call_that_comes_in_lasts_no_longer_than_token_and_plan_allow() {
    // The token of the browser that takes the call counts, not that of another which rings.
    let length = |bobs: u32, plans: &str| {
        let mut config = config(9);
        config.auth = Auth::Token(TokenVerifier::hs256(SECRET));
        let text = format!("{PLAN}[limits]\nlongest_call = '{plans}'\n");
        let files = [PlanFile { name: "sim.toml".into(), text }];
        config.plan = Plan::load(&files, &["one".into(), "two".into()]).unwrap().into();
        let mut world = World::with(config);
        hello(&mut world, 1, &Claims { max_duration: Some(10), ..claims() });
        let bob = hello(&mut world, 2, &Claims { sub: "bob".into(), max_duration: Some(bobs), ..claims() });
        world.trunk_calls("+442079460200", true);
        world.run(1000);
        world.accept(bob);
        let name = world.page(bob).incoming().unwrap();
        world.until(bob, &name, "ended");
        assert_eq!(world.page(bob).ended(&name), ended(Party::Gateway, "max-duration", None));
        world.run(1000);
        world.cdrs.last().map(|cdr| cdr.end - cdr.answer.unwrap())
    };
    assert_eq!(length(30, "1m"), Some(30_000));
    assert_eq!(length(120, "1m"), Some(60_000));
}

#[test]
fn a_token_that_runs_out_refuses_new_calls_and_closes_the_socket_after_the_last() {
    let mut world = with_tokens();
    let alice = hello(&mut world, 1, &Claims { exp: EPOCH + 10, ..claims() });
    world.say(alice, &call("c1", "600"));
    world.run(11_000);
    assert_eq!(world.page(alice).closed, None);
    world.say(alice, &call("c2", "600"));
    assert_eq!(codes(&mut world, alice), [ErrorCode::Unauthorized]);
    world.trunk_calls("+442079460100", true);
    world.run(500);
    assert_eq!(world.page(alice).incoming(), None, "it is not rung either");
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.page(alice).closed, Some(1008));
}

#[test]
fn limits_hold() {
    let mut config = config(2);
    config.limits.sockets = 4;
    config.limits.sockets_per_user = 2;
    config.limits.calls_per_socket = 2;
    config.limits.calls = 3;
    let mut world = World::with(config);
    world.one().habits = Habits::ringing();
    let (a, b) = (world.browser(1, "alice"), world.browser(2, "alice"));
    let third = open(&mut world, 3);
    world.say(third, &json!({"type": "hello", "user": "alice"}).to_string());
    assert_eq!((codes(&mut world, third), world.page(third).closed), (vec![ErrorCode::Forbidden], Some(1008)));
    let (_, _) = (world.browser(4, "bob"), world.browser(5, "bob"));
    let sixth = open(&mut world, 6);
    assert_eq!(world.page(sixth).closed, Some(1013));
    for name in ["1", "2", "3"] {
        world.say(a, &call(name, "600"));
    }
    assert_eq!(codes(&mut world, a), [ErrorCode::TooManyCalls]);
    world.say(b, &call("4", "600"));
    world.say(b, &call("5", "600"));
    assert_eq!(world.page(b).ended("5"), ended(Party::Gateway, "too-many-calls", Some(503)));
    assert_eq!(world.page(b).retry_after("5"), Some(5));
    let session = world.trunk_calls("+442079460100", true);
    world.run(1000);
    assert_eq!(world.one().sessions[&session].ends, ["failed 503"]);
    assert_eq!(world.one().sessions[&session].retry_after, Some(5));
    for (socket, name) in [(a, "1"), (a, "2"), (b, "4")] {
        world.tell(socket, "hangup", name);
    }
    world.finish();
}

/// Frames that are wrong whatever the state; each gets one error.
fn nonsense() -> Vec<String> {
    let mut frames: Vec<String> = [
        "",
        "{",
        "null",
        "[]",
        "42",
        "\"call\"",
        "{}",
        r#"{"type":"fly"}"#,
        r#"{"type":"call"}"#,
        r#"{"type":7}"#,
        r#"{"type":"hangup"}"#,
        r#"{"type":"hangup","call":""}"#,
        r#"{"type":"hangup","call":"c 1"}"#,
        r#"{"type":"hangup","call":"c1","why":"x"}"#,
        r#"{"type":"digits","call":"c1","digits":"x"}"#,
        r#"{"type":"digits","call":"c1","digits":"1","ms":99999}"#,
        r#"{"type":"hold","call":"c1","on":"yes"}"#,
        r#"{"type":"reject","call":"c1","code":200}"#,
        r#"{"type":"hangup","call":"nobody"}"#,
        r#"{"type":"accept","call":"c1","sdp":"v=0"}"#,
        r#"{"type":"reject","call":"c1"}"#,
        r#"{"type":"hello","user":"eve"}"#,
        "\u{0}",
        "\u{202e}",
    ]
    .map(str::to_owned)
    .to_vec();
    frames.push(json!({"type": "call", "call": "bad", "to": "600", "sdp": "v=0\r\nnonsense"}).to_string());
    frames.push(json!({"type": "call", "call": "bad", "to": "6\r\n00", "sdp": browser_offer()}).to_string());
    frames
        .push(json!({"type": "call", "call": "bad", "to": "600", "sdp": browser_offer(), "from": "a\nb"}).to_string());
    frames.push(format!("{{\"type\":\"ping\",\"n\":\"{}\"}}", "x".repeat(70_000)));
    frames
}

#[test]
fn nonsense_gets_one_error_each_at_every_state_and_ends_nothing() {
    for at in [0, 2, 30, 80, 200, 400, 1500] {
        let mut world = World::where_one(Habits::answering());
        let alice = world.browser(1, "alice");
        world.say(alice, &call("c1", "600"));
        world.run(at);
        for frame in nonsense() {
            let before = (world.page(alice).heard.len(), world.page(alice).errors());
            world.say(alice, &frame);
            let after = (world.page(alice).heard.len(), world.page(alice).errors());
            assert_eq!(
                after,
                (before.0 + 1, before.1 + 1),
                "at {at} ms: {frame:.60}: {:?}",
                world.page(alice).heard.last()
            );
        }
        world.until(alice, "c1", "answered");
        world.tell(alice, "hangup", "c1");
        world.finish();
        assert_eq!(world.cdr().cause, "normal");
    }
}

#[test]
fn nonsense_while_it_rings_or_talks_inbound() {
    let mut world = World::new();
    let alice = world.browser(1, "alice");
    world.trunk_calls("+442079460100", true);
    world.run(500);
    let name = world.page(alice).incoming().unwrap();
    let frames = [
        json!({"type": "accept", "call": name, "sdp": "v=0\r\n"}),
        json!({"type": "digits", "call": name, "digits": "1"}),
        json!({"type": "hold", "call": name, "on": true}),
    ];
    for frame in frames {
        let before = world.page(alice).errors();
        world.say(alice, &frame.to_string());
        assert_eq!(world.page(alice).errors(), before + 1, "{frame}");
    }
    world.accept(alice);
    let before = world.page(alice).errors();
    world.accept(alice);
    world.say(alice, &json!({"type": "reject", "call": name}).to_string());
    assert_eq!(world.page(alice).errors(), before + 2);
    world.run(500);
    world.tell(alice, "hangup", &name);
    world.finish();
    assert_eq!(world.cdr().cause, "normal");
}

#[test]
fn ping_is_answered_before_hello_too() {
    let mut world = World::new();
    let socket = open(&mut world, 1);
    world.say(socket, r#"{"type":"ping","n":7}"#);
    assert_eq!(world.page(socket).heard, [ServerMessage::Pong { n: Some(7) }]);
}

#[test]
fn a_browser_hangs_up_or_vanishes_at_every_step_of_a_call_out() {
    let early = || Habits { early_after: Some(150), ..Habits::answering() };
    for vanish in [false, true] {
        for at in (0..420).step_by(3) {
            let mut world = World::where_one(early());
            let alice = world.browser(1, "alice");
            world.say(alice, &call("c1", "600"));
            world.run(at);
            match vanish {
                true => world.close(alice),
                false => world.tell(alice, "hangup", "c1"),
            }
            // within the same handle the call is over but for its statistics
            assert_eq!(world.switch.stats().established, 0);
            world.finish();
            assert_eq!(world.cdrs.len(), 1, "{at}");
            let cause = world.cdr().cause.clone();
            assert!(["browser-gone", "cancelled", "normal"].contains(&cause.as_str()), "{cause}");
            assert_eq!(vanish, cause == "browser-gone");
        }
    }
}

#[test]
fn a_browser_hangs_up_or_vanishes_at_every_step_of_a_call_in() {
    for vanish in [false, true] {
        for at in (0..460).step_by(3) {
            let mut world = World::new();
            let alice = world.browser(1, "alice");
            world.page(alice).accept_after = Some(400);
            world.trunk_calls("+442079460100", true);
            world.run(at);
            match (vanish, world.page(alice).incoming()) {
                (true, _) => world.close(alice),
                (false, Some(name)) => world.tell(alice, "hangup", &name),
                (false, None) => continue,
            }
            world.finish();
            assert_eq!(world.cdrs.len(), 1, "{at}");
        }
    }
}

#[test]
fn a_closed_tab_is_a_bye_at_once() {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    world.run(1000);
    let before = world.elapsed_ms();
    world.close(alice);
    assert_eq!((world.sent(GATEWAY, "BYE"), world.elapsed_ms()), (1, before));
    world.finish();
    let bye = world.wire.iter().find(|(_, text)| text.starts_with("BYE")).unwrap().1.clone();
    assert!(bye.contains("Reason: Q.850;cause=27"), "{bye}");
}

#[test]
fn hello_time_is_the_configurations() {
    let mut config = config(4);
    config.hello_timeout = Duration::from_millis(200);
    let mut world = World::with(config);
    let socket = open(&mut world, 1);
    world.run(201);
    assert_eq!(world.page(socket).closed, Some(1008));
}
