//! Browser to browser: rules of [[out]] that ring a user.

use ringback::sdp::{Hears, MediaCommand, MediaPlan, Side};
use ringback::signal::{Holder, Party, ServerMessage};
use serde_json::json;

use crate::support::{World, call, ended};
use ringback::call::{CallId, SocketId};

/// The last plan of a call.
pub fn plan_of(world: &World, call: CallId) -> &MediaPlan {
    let plan = world.media[&call].commands.iter().rev().find_map(|command| match command {
        MediaCommand::Start(plan) | MediaCommand::Update(plan) => Some(plan),
        _ => None,
    });
    plan.expect("a plan")
}

/// What a side of a call hears.
pub fn hears(world: &World, call: CallId, side: Side) -> Hears {
    plan_of(world, call).leg(side).expect("a leg").hears
}

/// The name of the last call of a page that came in.
fn incoming(world: &mut World, socket: SocketId) -> String {
    world.page(socket).incoming().expect("it rings")
}

#[test]
fn a_browser_calls_a_user_and_all_his_browsers_ring() {
    let mut world = World::new();
    let alice = world.browser(1, "alice");
    let (desk, mobile) = (world.browser(2, "bob"), world.browser(3, "bob"));
    world.say(alice, &call("c1", "bob"));
    world.until(alice, "c1", "ringing");
    let name = incoming(&mut world, desk);
    assert_eq!(incoming(&mut world, mobile), name);
    let Some(ServerMessage::Incoming { from, to, .. }) = world.page(desk).heard.last().cloned() else { panic!() };
    assert_eq!((from.as_str(), to.as_str()), ("alice", "bob"));
    assert_eq!(hears(&world, world.call_id(), Side::A), Hears::PeerOr(ringback::sdp::Tone::Us));
    world.accept(mobile);
    world.run(100);
    assert_eq!(world.page(alice).story("c1"), ["answer", "ringing", "answered"]);
    assert_eq!(world.page(desk).ended(&name), ended(Party::Gateway, "answered-elsewhere", Some(200)));
    let plan = plan_of(&world, world.call_id());
    assert!(plan.leg(Side::A).unwrap().media.browser().is_some());
    assert!(plan.leg(Side::B).unwrap().media.browser().is_some());
    assert_eq!((plan.leg(Side::A).unwrap().hears, plan.leg(Side::B).unwrap().hears), (Hears::Peer, Hears::Peer));
    world.tell(mobile, "hangup", &name);
    world.finish();
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Them, "normal", None));
    assert_eq!(world.page(mobile).ended(&name), ended(Party::Us, "normal", None));
    let cdr = world.cdr();
    assert_eq!((cdr.user.as_str(), cdr.number.as_deref(), cdr.trunks.len()), ("alice", Some("bob"), 0));
    assert_eq!(world.wire.len(), 0, "no SIP is spoken between two browsers");
}

#[test]
fn nobody_there_is_480_and_a_refusal_of_the_last_is_the_calls() {
    let mut world = World::new();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "bob"));
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Gateway, "unavailable", Some(480)));
    let bob = world.browser(2, "bob");
    world.page(bob).reject_after = Some((200, 486));
    world.say(alice, &call("c2", "bob"));
    world.finish();
    assert_eq!(world.page(alice).ended("c2"), ended(Party::Them, "busy", Some(486)));
    let name = incoming(&mut world, bob);
    assert_eq!(world.page(bob).ended(&name), ended(Party::Us, "busy", Some(486)));
    assert_eq!(world.cdrs.len(), 2);
}

#[test]
fn two_browsers_hold_each_other() {
    let mut world = World::new();
    let (alice, bob) = (world.browser(1, "alice"), world.browser(2, "bob"));
    world.page(bob).accept_after = Some(100);
    world.say(alice, &call("c1", "bob"));
    world.until(alice, "c1", "answered");
    let name = incoming(&mut world, bob);
    let id = world.call_id();
    let hold = |world: &mut World, socket, call: &str, on| {
        world.say(socket, &json!({"type": "hold", "call": call, "on": on}).to_string());
    };
    hold(&mut world, alice, "c1", true);
    assert_eq!((hears(&world, id, Side::A), hears(&world, id, Side::B)), (Hears::Nothing, Hears::Music));
    hold(&mut world, bob, &name, true);
    assert_eq!((hears(&world, id, Side::A), hears(&world, id, Side::B)), (Hears::Music, Hears::Music));
    hold(&mut world, alice, "c1", false);
    assert_eq!((hears(&world, id, Side::A), hears(&world, id, Side::B)), (Hears::Music, Hears::Nothing));
    hold(&mut world, bob, &name, false);
    assert_eq!((hears(&world, id, Side::A), hears(&world, id, Side::B)), (Hears::Peer, Hears::Peer));
    let held: Vec<(Holder, bool)> = world
        .page(alice)
        .heard
        .iter()
        .filter_map(|message| match message {
            ServerMessage::Held { by, on, .. } => Some((*by, *on)),
            _ => None,
        })
        .collect();
    use Holder::{Them, Us};
    assert_eq!(held, [(Us, true), (Them, true), (Us, false), (Them, false)]);
    world.say(alice, &json!({"type": "digits", "call": "c1", "digits": "1#"}).to_string());
    let digits = world.page(bob).heard.iter().filter(|message| matches!(message, ServerMessage::Digit { .. })).count();
    assert_eq!(digits, 2);
    world.close(alice);
    world.finish();
    assert_eq!(world.page(bob).ended(&name), ended(Party::Network, "browser-gone", Some(480)));
}

#[test]
fn both_answer_at_once_and_one_has_the_call() {
    let mut world = World::new();
    let alice = world.browser(1, "alice");
    let (desk, mobile) = (world.browser(2, "bob"), world.browser(3, "bob"));
    world.say(alice, &call("c1", "bob"));
    world.until(alice, "c1", "ringing");
    world.accept(desk);
    world.accept(mobile); // crosses the end that it is told
    world.run(100);
    assert_eq!(world.page(mobile).errors(), 1);
    assert_eq!(
        {
            let name = incoming(&mut world, desk);
            world.page(desk).story(&name)
        }
        .last()
        .map(String::as_str),
        Some("answered")
    );
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.cdr().cause, "normal");
}
