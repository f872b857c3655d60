//! The gateway stops.

use ringback::signal::{Party, ServerMessage};
use ringback::switch::Input;

use crate::support::{Habits, World, call, ended};

#[test]
fn a_drain_refuses_new_calls_and_waits_for_those_that_are() {
    let mut world = World::where_one(Habits { bye_after: Some(5000), ..Habits::answering() });
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    world.input(Input::Drain);
    world.input(Input::Drain);
    let told = world.page(alice).heard.iter().filter(|message| matches!(message, ServerMessage::Draining {})).count();
    assert_eq!((told, world.idle), (1, 0));
    world.say(alice, &call("c2", "600"));
    assert_eq!(world.page(alice).ended("c2"), ended(Party::Gateway, "draining", Some(503)));
    let session = world.trunk_calls("+442079460100", true);
    world.run(1000);
    assert_eq!(world.one().sessions[&session].ends, ["failed 503"]);
    let bob = world.browser(2, "bob");
    assert!(world.page(bob).heard.contains(&ServerMessage::Draining {}));
    world.finish();
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Them, "normal", None));
    assert_eq!(world.idle, 1);
}

#[test]
fn an_empty_gateway_is_idle_at_once() {
    let mut world = World::new();
    world.input(Input::Drain);
    assert_eq!(world.idle, 1);
    world.finish();
    assert_eq!(world.idle, 1);
}

#[test]
fn hangup_all_ends_every_call_with_its_cause() {
    let mut world = World::where_one(Habits::answering());
    let (alice, bob) = (world.browser(1, "alice"), world.browser(2, "bob"));
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    let session = world.trunk_calls("+442079460200", true);
    world.run(100);
    world.say(bob, &call("c2", "600"));
    world.run(60);
    world.input(Input::Drain);
    world.input(Input::HangupAll);
    let name = world.page(bob).incoming().unwrap();
    for (page, name) in [(alice, "c1"), (bob, "c2"), (bob, name.as_str())] {
        assert_eq!(world.page(page).ended(name), ended(Party::Gateway, "shutdown", Some(503)));
    }
    assert_eq!(world.idle, 0);
    world.finish();
    assert_eq!(world.one().sessions[&session].ends, ["failed 503"]);
    assert_eq!((world.idle, world.cdrs.len()), (1, 3));
}
