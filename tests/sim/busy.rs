//! The media threads have as much to do as they can.

use ringback::signal::Party;
use ringback::switch::Input;

use crate::plans::with_emergency;
use crate::support::{Habits, World, call, ended};

const UK: &str = "+442079460000";

#[test]
fn a_busy_gateway_refuses_the_next_call_keeps_those_that_are_and_takes_an_emergency_call() {
    let mut world = World::with(with_emergency());
    world.one().habits = Habits { answer_after: Some(100), ..Habits::default() };
    let alice = world.browser(1, "alice");
    let last = |world: &mut World, name: &str| world.page(alice).story(name).last().cloned().unwrap_or_default();
    world.say(alice, &call("c1", UK));
    world.run(1_000);
    world.input(Input::Busy(true));
    world.say(alice, &call("c2", UK));
    assert_eq!(world.page(alice).ended("c2"), ended(Party::Gateway, "too-many-calls", Some(503)));
    assert_eq!(world.page(alice).retry_after("c2"), Some(5));
    let session = world.trunk_calls("+442079460100", true);
    world.say(alice, &call("c3", "112"));
    world.run(1_000);
    assert_eq!(world.one().sessions[&session].ends, ["failed 503"]);
    assert_eq!(world.one().sessions[&session].retry_after, Some(5));
    assert_eq!((last(&mut world, "c1").as_str(), last(&mut world, "c3").as_str()), ("answered", "answered"));
    assert_eq!(world.switch.stats().refused_busy, 2);
    world.input(Input::Busy(false));
    world.say(alice, &call("c4", UK));
    world.run(1_000);
    assert_eq!((last(&mut world, "c4").as_str(), world.switch.stats().refused_busy), ("answered", 2));
    world.input(Input::HangupAll);
    world.finish();
}
