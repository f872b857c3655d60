//! A new configuration while calls stand.

use std::collections::BTreeMap;

use ringback::signal::{Party, ServerMessage};
use ringback::switch::{Input, Reload, SwitchConfig, SwitchLimits, TrunkLimits};

use crate::support::world::{ONE, TWO, address, config, target};
use crate::support::{Habits, World, call, ended};

/// What a reload with this configuration is.
pub fn reload(config: SwitchConfig) -> Input {
    let SwitchConfig { trunks, phones, plan, auth, turn, limits, quotas, .. } = config;
    Input::Reload(Box::new(Reload { trunks, phones, plan, auth, turn, limits, quotas }))
}

fn calls(world: &World) -> BTreeMap<String, u32> {
    let status = world.switch.status(world.time());
    status.trunks.into_iter().map(|trunk| (trunk.state.name, trunk.state.calls)).collect()
}

#[test]
fn a_trunk_that_is_reached_otherwise_keeps_its_calls_and_gets_new_ones_there() {
    let mut world = World::where_one(Habits { bye_after: Some(5000), ..Habits::answering() });
    world.two().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    let mut new = config(1);
    new.trunks[0].targets = vec![target(TWO)];
    new.trunks.truncate(1);
    world.input(reload(new));
    assert!(!world.page(alice).heard.iter().any(|message| matches!(message, ServerMessage::Ended { .. })));
    assert_eq!(calls(&world), BTreeMap::from([("one".to_owned(), 1)]), "the old one's call counts for the new one");
    world.say(alice, &call("c2", "600"));
    world.until(alice, "c2", "answered");
    assert_eq!(calls(&world)["one"], 2);
    assert_eq!(world.wire.iter().filter(|(_, text)| text.starts_with("INVITE")).count(), 2);
    world.run(6000);
    // The BYE of the trunk that has left is heard: its address is known for as long as its call stands.
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Them, "normal", None));
    assert_eq!(calls(&world)["one"], 1);
    let before = world.switch.stats().dropped_sip;
    world.trunk_calls("+442079460100", true);
    world.run(100);
    assert!(world.switch.stats().dropped_sip > before, "no call comes from where it was");
    world.tell(alice, "hangup", "c2");
    world.input(Input::Drain);
    world.finish();
}

#[test]
fn the_same_configuration_again_changes_nothing() {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    let (sent, status) = (world.wire.len(), world.switch.status(world.time()));
    world.input(reload(config(1)));
    world.run(1000);
    assert_eq!((world.wire.len(), world.switch.status(world.time())), (sent, status));
    world.tell(alice, "hangup", "c1");
    world.input(Input::Drain);
    world.finish();
}

#[test]
fn limits_hold_from_the_next_call_on() {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    let limits = SwitchLimits { calls: 1, ..SwitchLimits::default() };
    world.input(reload(SwitchConfig { limits, ..config(1) }));
    world.say(alice, &call("c2", "600"));
    world.run(50);
    assert_eq!(world.page(alice).ended("c2"), ended(Party::Gateway, "too-many-calls", Some(503)));
    let mut new = config(1);
    new.trunks[0].limits = TrunkLimits { calls: Some(1), calls_per_second: None };
    world.input(reload(new));
    world.say(alice, &call("c3", "600"));
    world.run(50);
    assert_eq!(world.cdrs.last().unwrap().trunks[0].result, "limit");
    world.tell(alice, "hangup", "c1");
    world.input(Input::Drain);
    world.finish();
}

#[test]
fn a_gateway_that_drains_takes_no_new_configuration() {
    let mut world = World::new();
    world.input(Input::Drain);
    let mut new = config(1);
    new.trunks.truncate(1);
    world.input(reload(new));
    assert_eq!(world.switch.status(world.time()).trunks.len(), 2);
    assert!(world.peers.contains_key(&address(ONE)));
    world.finish();
}
