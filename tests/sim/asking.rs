//! What a page asks and says beside its calls: a number checked, parameters, feedback, a fresh token; and who vouches for a
//! caller.

use std::collections::BTreeMap;

use ringback::call::{Identity, Notice};
use ringback::signal::{Claims, ErrorCode, ServerMessage, TokenVerifier, Verified, sign_hs256};
use ringback::switch::{Auth, Input};
use serde_json::{Value, json};

use crate::basic::code_of;
use crate::support::sdp::browser_offer;
use crate::support::world::{GATEWAY, address, config};
use crate::support::{Habits, World, call};

const ALICE: &str = "+442079460100";
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const EPOCH: u64 = 1_800_000_000;

fn last(world: &mut World, socket: ringback::call::SocketId) -> Value {
    serde_json::from_str(&world.page(socket).heard.last().unwrap().to_json()).unwrap()
}

#[test]
fn a_number_is_checked_without_a_call() {
    let mut world = World::new();
    let alice = world.browser(1, "alice");
    for (to, expected) in [
        ("600", json!({"allowed": true, "number": "600", "kind": "number", "text": "600: a short number"})),
        ("bob", json!({"allowed": true, "number": "bob", "kind": "users", "text": "bob: a name"})),
        (
            "0909 879 0000",
            json!({"allowed": false, "number": "+449098790000", "cause": "not-allowed", "text": "Premium numbers are barred"}),
        ),
    ] {
        world.say(alice, &json!({"type": "check", "to": to, "n": 7}).to_string());
        let mut expected = expected;
        expected["type"] = json!("checked");
        expected["to"] = json!(to);
        expected["n"] = json!(7);
        assert_eq!(last(&mut world, alice), expected);
    }
    world.say(alice, r#"{"type":"check","to":"0207-call-me"}"#);
    let refused = last(&mut world, alice);
    assert_eq!((&refused["allowed"], refused.get("number"), refused.get("n")), (&json!(false), None, None));
    assert!(
        world.cdrs.is_empty() && world.media.is_empty() && world.asked.is_empty() && world.sent(GATEWAY, "INVITE") == 0
    );
    // What is more than a burst of twenty is refused, and answered again a moment later.
    for n in 0..30 {
        world.say(alice, &json!({"type": "check", "to": "600", "n": n}).to_string());
    }
    let codes: Vec<ErrorCode> = world.page(alice).heard.iter().filter_map(code_of).collect();
    assert_eq!(codes, vec![ErrorCode::TooOften; 14]);
    assert_eq!(last(&mut world, alice)["n"], json!(29));
    world.run(100);
    world.say(alice, r#"{"type":"check","to":"600"}"#);
    assert_eq!(last(&mut world, alice)["type"], json!("checked"));
    world.close(alice);
    world.finish();
}

#[test]
fn parameters_go_to_trunks_that_want_them_and_into_the_record() {
    for wanted in [true, false] {
        let mut config = config(1);
        config.trunks[0].params = wanted;
        let mut world = World::with(config);
        world.one().habits = Habits::answering();
        let alice = world.browser(1, "alice");
        let params = json!({"customer-id": "4711 é", "page": "invoice; 12"});
        world.say(
            alice,
            &json!({"type": "call", "call": "c1", "to": "600", "sdp": browser_offer(), "params": params}).to_string(),
        );
        world.until(alice, "c1", "answered");
        let invite = world.wire.iter().find(|(_, text)| text.starts_with("INVITE")).unwrap().1.clone();
        assert_eq!(
            invite.contains("\r\nX-Param-Customer-Id: 4711 é\r\nX-Param-Page: invoice; 12\r\n"),
            wanted,
            "{invite}"
        );
        world.tell(alice, "hangup", "c1");
        world.finish();
        assert_eq!(world.cdr().params.get("page").map(String::as_str), Some("invoice; 12"));
    }
}

#[test]
fn what_a_trunk_says_of_its_call_and_vouches_for_is_told_where_it_is_believed() {
    let asserted = "<sip:+447700900123;verstat=TN-Validation-Passed-A@one.example;user=phone>";
    for believed in [true, false] {
        let mut config = config(1);
        config.trunks[0].params = believed;
        config.trunks[0].identity = Identity { trust: believed, ..Identity::default() };
        let mut world = World::with(config);
        let alice = world.browser(1, "alice");
        world.trunk_calls_with(ALICE, true, &[("P-Asserted-Identity", asserted), ("X-Param-Queue", "sales")]);
        world.run(100);
        let Some(ServerMessage::Incoming { call, from, params, verified, .. }) =
            world.page(alice).heard.last().cloned()
        else {
            panic!()
        };
        assert_eq!(from, "+447700900123");
        let (queue, level) = (BTreeMap::from([("queue".to_owned(), "sales".to_owned())]), Verified::A);
        let expected = if believed { (queue, Some(level)) } else { (BTreeMap::new(), None) };
        assert_eq!((params, verified), expected);
        world.tell(alice, "reject", &call);
        world.finish();
    }
}

#[test]
fn feedback_is_for_calls_of_the_session_that_stand_or_were() {
    let mut world = World::where_one(Habits::answering());
    let (alice, bob) = (world.browser(1, "alice"), world.browser(2, "bob"));
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    let id = world.call_id().to_string();
    let feedback = json!({"type": "feedback", "id": id, "score": 2, "issue": "echo"}).to_string();
    world.say(alice, &feedback);
    world.tell(alice, "hangup", "c1");
    world.run(1_000);
    world.say(alice, &feedback);
    world.say(alice, &feedback);
    world.say(bob, &feedback);
    world.say(alice, r#"{"type":"feedback","id":"0000000000000000","score":5}"#);
    world.say(alice, r#"{"type":"feedback","id":"c1","score":5}"#);
    let said = Notice::Feedback { call: id, user: "alice".into(), score: 2, issue: Some("echo".into()) };
    assert_eq!(world.notices.iter().filter(|notice| **notice == said).count(), 2);
    assert_eq!((world.page(alice).errors(), world.page(bob).errors()), (3, 1), "the third is too much");
    world.finish();
}

#[test]
fn a_fresh_token_of_the_same_user_takes_the_place_of_the_old_one() {
    let mut config = config(9);
    config.auth = Auth::Token(TokenVerifier::hs256(SECRET));
    let mut world = World::with(config);
    let token = |sub: &str, exp| sign_hs256(SECRET, &Claims { sub: sub.into(), exp, ..Claims::default() });
    let alice = ringback::call::SocketId(1);
    world.page(alice);
    world.input(Input::SocketOpened { socket: alice, peer: address("198.51.100.1:4000"), rings: true });
    world.say(alice, &json!({"type": "hello", "token": token("alice", EPOCH + 60)}).to_string());
    assert_eq!(last(&mut world, alice)["expires"], json!(EPOCH + 60));
    for refused in [token("bob", EPOCH + 600), token("alice", EPOCH), "no token".to_owned()] {
        world.say(alice, &json!({"type": "renew", "token": refused}).to_string());
        assert_eq!(last(&mut world, alice)["code"], json!("unauthorized"));
    }
    world.run(30_000);
    world.say(alice, &json!({"type": "renew", "token": token("alice", EPOCH + 600)}).to_string());
    assert_eq!(last(&mut world, alice), json!({"type": "renewed", "expires": EPOCH + 600}));
    world.run(560_000);
    assert!(world.open(alice), "the old end is none");
    world.run(20_000);
    assert_eq!(world.page(alice).closed, Some(1008));
    world.finish();
}
