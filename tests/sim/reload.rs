//! A new configuration while calls stand.

use std::collections::BTreeMap;
use std::time::Duration;

use ringback::sdp::{MediaCommand, Side};
use ringback::signal::{IceServer, Party, ServerMessage, Turn};
use ringback::switch::{Input, Reload, Room, SocketId, SwitchConfig, SwitchLimits, TrunkLimits};
use serde_json::json;

use crate::support::sdp::browser_answer;
use crate::support::world::{ONE, TWO, address, config, target};
use crate::support::{Habits, World, call, ended};

/// What a reload with this configuration is.
pub fn reload(config: SwitchConfig) -> Input {
    let SwitchConfig { trunks, phones, plan, auth, turn, limits, quotas, ua, policy, .. } = config;
    let (advertise, redundancy, room) = (ua.advertise, policy.red, Room::for_calls(limits.calls));
    let new = Reload { trunks, phones, plan, auth, turn, limits, quotas, advertise, redundancy, room };
    Input::Reload(Box::new(new))
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

/// What a browser was told of our end of its last call.
fn told(world: &mut World, socket: SocketId) -> String {
    let told = |message: &ServerMessage| match message {
        ServerMessage::Answer { sdp, .. } | ServerMessage::Incoming { sdp, .. } => Some(sdp.clone()),
        _ => None,
    };
    world.page(socket).heard.iter().rev().find_map(told).unwrap()
}

/// RFC 2198: what was offered is what an answer is read by, also where a reload has come in between.
#[test]
fn redundancy_is_of_the_next_call_on() {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.trunk_calls("+442079460100", true);
    world.run(500);
    let offer = told(&mut world, alice);
    let red = offer.lines().find(|line| line.ends_with(" 111/111")).unwrap().to_owned();
    let mut new = config(1);
    new.policy.red = false;
    world.input(reload(new));
    let (call_name, sdp) = (world.page(alice).incoming().unwrap(), format!("{}{red}\r\n", browser_answer(&offer)));
    world.say(alice, &json!({"type": "accept", "call": call_name, "sdp": sdp}).to_string());
    world.run(500);
    let agreed = world.commands().iter().rev().find_map(|command| match command {
        MediaCommand::Start(plan) | MediaCommand::Update(plan) => {
            Side::BOTH.into_iter().find_map(|side| plan.leg(side)?.media.browser())
        }
        _ => None,
    });
    assert!(agreed.is_some_and(|browser| browser.red.is_some()), "{agreed:?}");
    world.tell(alice, "hangup", &call_name);
    world.run(500);
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    assert!(!told(&mut world, alice).contains("red/48000"));
    world.tell(alice, "hangup", "c1");
    world.input(Input::Drain);
    world.finish();
}

/// More calls than there was room for at the start.
#[test]
fn limits_are_raised() {
    let small = || {
        let mut small = config(1);
        small.limits.calls = 1;
        (small.ua.max_sessions, small.ua.max_transactions) = (1, 8);
        small
    };
    let mut world = World::with(small());
    world.one().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    let mut more = small();
    more.limits.calls = 3;
    world.input(reload(more));
    for name in ["c2", "c3"] {
        world.say(alice, &call(name, "600"));
        world.until(alice, name, "answered");
    }
    world.say(alice, &call("c4", "600"));
    world.run(50);
    assert_eq!(world.page(alice).ended("c4"), ended(Party::Gateway, "too-many-calls", Some(503)));
    for name in ["c1", "c2", "c3"] {
        world.tell(alice, "hangup", name);
    }
    world.input(Input::Drain);
    world.finish();
}

/// Each list of servers that a page was told of, in order.
fn servers(world: &mut World, socket: SocketId) -> Vec<Vec<IceServer>> {
    let told = world.page(socket).heard.iter().filter_map(|message| match message {
        ServerMessage::Welcome { ice_servers, .. } | ServerMessage::IceServers { ice_servers } => {
            Some(ice_servers.clone())
        }
        _ => None,
    });
    told.collect()
}

/// The Unix second at which the credentials end.
fn end_of(servers: &[IceServer]) -> u64 {
    servers[0].username.as_deref().unwrap().split_once(':').unwrap().0.parse().unwrap()
}

#[test]
fn turn_servers_are_told_anew_before_their_credentials_run_out_and_when_they_are_others() {
    let with = |url: &str| {
        let turn = Turn::new(vec![url.to_owned()], b"0123456789abcdef".to_vec(), Duration::from_secs(600));
        SwitchConfig { turn: Some(turn), ..config(1) }
    };
    let mut world = World::with(with("turn:one.example"));
    world.input(Input::Start);
    world.run(100_000);
    let alice = world.browser(1, "alice");
    world.run(199_000);
    assert_eq!(servers(&mut world, alice).len(), 1, "nothing new yet");
    world.run(2_000);
    let told = servers(&mut world, alice);
    assert_eq!((told.len(), end_of(&told[1]) - end_of(&told[0])), (2, 200));
    world.run(300_000);
    assert_eq!(servers(&mut world, alice).len(), 3, "and so on");
    world.input(reload(with("turn:one.example")));
    assert_eq!(servers(&mut world, alice).len(), 3, "the same again is no news");
    world.input(reload(with("turn:two.example")));
    assert_eq!(servers(&mut world, alice)[3][0].urls, ["turn:two.example"]);
    world.input(reload(config(1)));
    assert_eq!(servers(&mut world, alice)[4], []);
    world.run(1_000_000);
    assert_eq!(servers(&mut world, alice).len(), 5, "there is nothing to renew");
    world.input(Input::Drain);
    world.finish();
}
