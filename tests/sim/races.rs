//! Messages that cross.

use ringback::sdp::{MediaCommand, Side};
use ringback::signal::Party;
use ringback::sip::{Message, Method};
use serde_json::json;

use crate::support::raw::{Raw, in_dialog, polite, reply};
use crate::support::world::rtp;
use crate::support::world::{GATEWAY, ONE, address};
use crate::support::{Fate, Habits, World, call, ended};

#[test]
fn cancel_crosses_the_200() {
    // The 200 is on its way when the browser gives up; the CANCEL finds an answered call: ACK, BYE.
    for latency in [5, 40, 150] {
        for cross in 0..=2 * latency + 2 {
            let mut world =
                World::where_one(Habits { ring_after: Some(20), answer_after: Some(500), ..Habits::default() });
            world.latency_ms = latency;
            let alice = world.browser(1, "alice");
            world.say(alice, &call("c1", "600"));
            let hangup = json!({"type": "hangup", "call": "c1"}).to_string();
            world.say_after(500 + cross, alice, hangup);
            world.finish();
            assert_eq!(world.page(alice).ended("c1").unwrap().0, Party::Us, "{cross}");
            let seen = world.one().sessions.values().next().unwrap().clone();
            assert!(
                seen.ends == ["cancelled"] || seen.ends == ["ended Remote"],
                "{:?} {cross}\n{}",
                seen.ends,
                world.story()
            );
        }
    }
}

#[test]
fn cancel_crosses_the_accept() {
    for latency in [5, 60] {
        for cross in 0..=2 * latency + 2 {
            let mut world = World::new();
            world.latency_ms = latency;
            let alice = world.browser(1, "alice");
            let session = world.trunk_calls("+442079460100", true);
            world.run(400);
            let name = world.page(alice).incoming().unwrap();
            world.with_peer(ONE, |peer, now| peer.ua.hangup(now, session, None));
            world.run(cross);
            world.accept(alice);
            world.finish();
            assert_eq!(world.page(alice).story(&name).iter().filter(|kind| *kind == "ended").count(), 1);
            assert_eq!(world.cdrs.len(), 1);
        }
    }
}

#[test]
fn bye_crosses_bye() {
    for ms in 0..12 {
        let mut world = World::where_one(Habits::answering());
        let alice = world.browser(1, "alice");
        world.say(alice, &call("c1", "600"));
        world.until(alice, "c1", "answered");
        world.run(500);
        let session = world.one().only();
        world.with_peer(ONE, |peer, now| peer.ua.hangup(now, session, None));
        world.run(ms);
        world.tell(alice, "hangup", "c1");
        world.finish();
        assert_eq!(world.cdrs.len(), 1);
        assert_eq!(world.page(alice).story("c1").iter().filter(|kind| *kind == "ended").count(), 1);
    }
}

/// Rings as two phones, both answer.
fn fork(winner: &'static str, loser: &'static str) -> impl FnMut(&Message) -> Vec<Message> {
    move |message| match message {
        Message::Request(invite) if invite.method == Method::Invite => vec![
            reply(invite, 180, loser, None),
            reply(invite, 183, winner, Some(5000)),
            reply(invite, 183, loser, Some(6000)),
            reply(invite, 200, winner, Some(5000)),
            reply(invite, 200, loser, Some(6000)),
        ],
        Message::Request(request) if request.method != Method::Ack => {
            vec![Message::Response(request.response(200, "OK"))]
        }
        _ => Vec::new(),
    }
}

#[test]
fn two_phones_ring_and_both_answer() {
    let mut world = World::new();
    world.script(Raw::new(address(ONE), fork("first", "second")));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    world.run(1000);
    assert_eq!(world.page(alice).story("c1"), ["answer", "ringing", "early", "answered"]);
    // heard last early: the second; the 200 of the first wins
    let ports: Vec<u16> = world
        .commands()
        .iter()
        .filter_map(|command| match command {
            MediaCommand::Update(plan) => plan.b.as_ref().map(|_| rtp(plan, Side::B).remote_rtp.unwrap().port()),
            _ => None,
        })
        .collect();
    assert_eq!(ports, [5000, 6000, 5000]);
    let raw = &world.raws[&address(ONE)];
    let byes = raw.requests(&Method::Bye);
    assert_eq!(byes.len(), 1, "the second phone is hung up");
    assert!(byes[0].headers.get("To").unwrap().contains("tag=second"));
    let acked: Vec<bool> = ["first", "second"]
        .iter()
        .map(|tag| raw.requests(&Method::Ack).iter().any(|ack| ack.headers.get("To").unwrap().contains(*tag)))
        .collect();
    assert_eq!(acked, [true, true], "{}", world.story());
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.cdr().cause, "normal");
    assert_eq!(world.raws[&address(ONE)].requests(&Method::Bye).len(), 2);
}

#[test]
fn a_200_without_a_description_confirms_its_own_early_dialog() {
    let mut world = World::new();
    world.script(Raw::new(address(ONE), |message| match message {
        Message::Request(invite) if invite.method == Method::Invite => vec![
            reply(invite, 183, "a", Some(5000)),
            reply(invite, 183, "b", Some(6000)),
            reply(invite, 200, "a", None),
        ],
        Message::Request(request) if request.method != Method::Ack => {
            vec![Message::Response(request.response(200, "OK"))]
        }
        _ => Vec::new(),
    }));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    let MediaCommand::Update(plan) = world.commands().last().unwrap() else { panic!() };
    assert_eq!(rtp(plan, Side::B).remote_rtp.unwrap().port(), 5000);
    world.tell(alice, "hangup", "c1");
    world.finish();
}

#[test]
fn a_200_without_any_description_is_hung_up() {
    let mut world = World::new();
    world.script(Raw::new(address(ONE), |message| match message {
        Message::Request(invite) if invite.method == Method::Invite => vec![reply(invite, 200, "a", None)],
        Message::Request(request) if request.method != Method::Ack => {
            vec![Message::Response(request.response(200, "OK"))]
        }
        _ => Vec::new(),
    }));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.finish();
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Them, "no-common-media", Some(488)));
    assert_eq!((world.sent(GATEWAY, "ACK"), world.sent(GATEWAY, "BYE")), (1, 1));
}

#[test]
fn the_phone_answers_and_hangs_up_in_one_breath() {
    let mut world = World::new();
    world.script(Raw::new(address(ONE), |message| match message {
        Message::Request(invite) if invite.method == Method::Invite => {
            vec![reply(invite, 200, "a", Some(5000)), in_dialog(invite, Method::Bye, "a", 1)]
        }
        _ => polite()(message),
    }));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.finish();
    assert_eq!(world.page(alice).story("c1"), ["answer", "answered", "ended"]);
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Them, "normal", None));
}

#[test]
fn late_messages_of_a_call_that_is_over_change_nothing() {
    let mut world = World::where_one(Habits { bye_after: Some(300), ..Habits::answering() });
    world.network = Box::new(|at, _| if at % 3 == 0 { Fate::Twice } else { Fate::Arrive });
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "ended");
    for kind in ["hangup", "hangup"] {
        world.tell(alice, kind, "c1");
    }
    assert_eq!(world.page(alice).errors(), 2, "one error for each");
    world.finish();
    assert_eq!(world.cdrs.len(), 1);
}
