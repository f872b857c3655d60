//! What dial plans do to calls: rings in turn, overflow, failover, pools, web hooks, emergency numbers.

use std::time::Duration;

use ringback::call::{Cdr, NumberFormat};
use ringback::dialplan::{Plan, PlanFile};
use ringback::signal::Party;
use ringback::sip::Method;
use ringback::switch::{Input, SwitchConfig, TrunkLimits};

use crate::support::raw::Raw;
use crate::support::world::{ONE, PLAN, TWO, address, config, target};
use crate::support::{Habits, World, call, ended};

const GROUP: &str = "+442079460300";

/// The usual plan, with these rules before its own.
fn planned(rules: &str) -> SwitchConfig {
    let at = PLAN.find("[[out]]").unwrap();
    let (head, tail) = PLAN.split_at(at);
    let files = [PlanFile { name: "sim.toml".into(), text: format!("{head}{rules}\n{tail}") }];
    let plan = Plan::load(&files, &["one".into(), "two".into()])
        .unwrap_or_else(|errors| panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")));
    SwitchConfig { plan: plan.into(), ..config(1) }
}

const IN_TURN: &str = r#"
[group.sales]
users = ["alice", "bob", "carol"]
[[in]]
name = "sales"
did  = "+442079460300"
ring = { group = "sales", how = "in-turn", for = "10s" }
then = { number = "+44302555" }
"#;

fn in_turn() -> World {
    World::with(planned(IN_TURN))
}

/// Each rings for his time, and the next one after him; who is not there is left out.
#[test]
fn a_group_rings_in_turn() {
    let mut world = in_turn();
    let (alice, carol) = (world.browser(1, "alice"), world.browser(2, "carol"));
    let session = world.trunk_calls(GROUP, true);
    world.run(9_000);
    let first = world.page(alice).incoming().expect("alice rings");
    assert_eq!(world.page(carol).incoming(), None, "not before her turn");
    world.run(2_000);
    assert_eq!(world.page(alice).ended(&first), ended(Party::Gateway, "no-answer", Some(480)));
    let name = world.page(carol).incoming().expect("carol rings, for bob is not there");
    world.accept(carol);
    world.run(1_000);
    assert!(world.one().sessions[&session].answered);
    assert_eq!(world.page(carol).story(&name), ["incoming", "answered"]);
    world.tell(carol, "hangup", &name);
    world.finish();
    let cdr = world.cdr();
    assert_eq!((cdr.cause.as_str(), cdr.user.as_str(), cdr.rule.as_deref()), ("normal", "carol", Some("sales")));
}

/// A tier's trunks are drawn by their weights: of 1,000 calls 700 go first to the trunk with 70 of 100, give or take four
/// standard deviations (58), which a draw that knows no weights misses by far. The other one is next, never the same again.
#[test]
fn the_trunks_of_a_tier_are_drawn_by_weight() {
    const CALLS: usize = 1_000;
    let rule = "[[out]]\nname = \"shared\"\nprefix = [\"+44304\"]\ntiers = [[{ trunk = \"one\", weight = 70 }, \
                { trunk = \"two\", weight = 30 }]]\n";
    let mut world = World::with(planned(rule));
    world.one().habits = Habits::refusing(503);
    world.two().habits = Habits::refusing(503);
    let alice = world.browser(1, "alice");
    for n in 0..CALLS {
        let name = format!("c{n}");
        world.say(alice, &call(&name, "+443041"));
        world.until(alice, &name, "ended");
    }
    world.finish();
    let order = |cdr: &Cdr| cdr.trunks.iter().map(|tried| tried.trunk.clone()).collect::<Vec<_>>();
    let orders: Vec<Vec<String>> = world.cdrs.iter().map(order).collect();
    let first = |name: &str| orders.iter().filter(|order| order.first().is_some_and(|first| first == name)).count();
    assert_eq!((orders.len(), first("one") + first("two")), (CALLS, CALLS));
    assert!(orders.iter().all(|order| order.len() == 2 && order[0] != order[1]), "{orders:?}");
    assert!((642..=758).contains(&first("one")), "{} of {CALLS}", first("one"));
}

/// A refusal does not wait for the time to be over.
#[test]
fn a_decline_passes_the_call_on_at_once() {
    let mut world = in_turn();
    let (alice, bob) = (world.browser(1, "alice"), world.browser(2, "bob"));
    world.page(alice).reject_after = Some((500, 486));
    world.trunk_calls(GROUP, true);
    world.run(1_500);
    let name = world.page(bob).incoming().expect("bob rings");
    world.accept(bob);
    world.run(500);
    world.tell(bob, "hangup", &name);
    world.finish();
    assert_eq!(world.cdr().cause, "normal");
}

/// Nobody takes it: a number is called by the other trunk, and talks with the caller.
#[test]
fn what_nobody_takes_overflows_to_a_number() {
    let mut world = in_turn();
    let alice = world.browser(1, "alice");
    world.two().habits = Habits { answer_after: Some(500), ..Habits::default() };
    let session = world.trunk_calls(GROUP, true);
    world.run(10_500);
    let name = world.page(alice).incoming().unwrap();
    assert_eq!(world.page(alice).ended(&name), ended(Party::Gateway, "no-answer", Some(480)));
    world.run(2_000);
    assert!(world.one().sessions[&session].answered, "{}", world.story());
    assert_eq!(world.two().sessions.len(), 1);
    world.with_peer(ONE, |peer, now| peer.ua.hangup(now, session, None));
    world.finish();
    let cdr = world.cdr();
    let trunks: Vec<(&str, &str)> = cdr.trunks.iter().map(|t| (t.trunk.as_str(), t.result.as_str())).collect();
    assert_eq!(trunks, [("one", "answered"), ("two", "answered")]);
    assert_eq!(cdr.cause, "normal");
}

/// With nobody there at all the overflow comes at once.
#[test]
fn an_empty_group_overflows_at_once() {
    let mut world = in_turn();
    world.two().habits = Habits { answer_after: Some(500), ..Habits::default() };
    let session = world.trunk_calls(GROUP, true);
    world.run(2_000);
    assert!(world.one().sessions[&session].answered, "{}", world.story());
    world.with_peer(ONE, |peer, now| peer.ua.hangup(now, session, None));
    world.finish();
}

/// The caller gives up while the second one rings: everything ends, and nobody else is called.
#[test]
fn a_caller_who_gives_up_ends_the_turns() {
    let mut world = in_turn();
    let (alice, bob, carol) = (world.browser(1, "alice"), world.browser(2, "bob"), world.browser(3, "carol"));
    let session = world.trunk_calls(GROUP, true);
    world.run(12_000);
    world.with_peer(ONE, |peer, now| peer.ua.hangup(now, session, None));
    world.finish();
    let name = world.page(bob).incoming().unwrap();
    assert_eq!(world.page(bob).ended(&name), ended(Party::Them, "cancelled", Some(487)));
    assert!(world.page(alice).incoming().is_some() && world.page(carol).incoming().is_none());
    assert_eq!(world.two().sessions.len(), 0);
}

/// A browser that calls hears its ringing tone on while the next one is called, and the last word is the plan's.
#[test]
fn overflow_of_a_browsers_call_and_its_last_word() {
    let rules = r#"
[[out]]
name = "desk"
number = "600"
user = "bob"
ring_for = "5s"
then = [{ users = ["carol"], for = "5s" }, { reject = { code = 480, reason = "Nobody is in" } }]
"#;
    let mut world = World::with(planned(rules));
    let (alice, bob, carol) = (world.browser(1, "alice"), world.browser(2, "bob"), world.browser(3, "carol"));
    world.say(alice, &call("c1", "600"));
    world.run(4_900);
    assert!(world.page(bob).incoming().is_some() && world.page(carol).incoming().is_none());
    world.run(1_000);
    assert!(world.page(carol).incoming().is_some());
    world.finish();
    assert_eq!(world.page(alice).story("c1"), ["answer", "ringing", "ended"]);
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Gateway, "unavailable", Some(480)));
}

const HOOK: &str = r#"
[[out]]
name = "asked"
prefix = "+44555"
tiers = [["one"]]
ask = { url = "http://127.0.0.1:9/route", within = "300ms", OTHERWISE }
"#;

fn asking(otherwise: &str) -> (World, ringback::call::SocketId) {
    let mut world = World::with(planned(&HOOK.replace("OTHERWISE", otherwise)));
    world.one().habits = Habits { answer_after: Some(500), ..Habits::default() };
    world.two().habits = Habits { answer_after: Some(500), ..Habits::default() };
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "+445551234"));
    assert_eq!(world.asked.len(), 1);
    (world, alice)
}

#[test]
fn a_web_hook_decides() {
    for (answer, rule_says, trunk) in [
        (r#"{"action": "go-on"}"#, None, ONE),
        (r#"{"action": "dial", "trunks": [["two"]], "to": "+44777"}"#, None, TWO),
        (r#"{"action": "refuse", "code": 486, "reason": "Not now"}"#, Some(486), ONE),
        // What is no answer is none: the rule's own alternative holds.
        (r#"{"action": "dial", "trunks": [["three"]]}"#, Some(503), ONE),
        ("<html>", Some(503), ONE),
    ] {
        let (mut world, alice) = asking("otherwise = \"refuse\"");
        let (id, url, body) = world.asked[0].clone();
        assert_eq!(url, "http://127.0.0.1:9/route");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let question = &body["question"];
        assert_eq!((&question["caller"], &question["number"]), (&"alice".into(), &"+445551234".into()));
        world.run(100);
        world.input(Input::Answered { call: id, answer: Some(answer.to_owned()) });
        world.run(1_500);
        match rule_says {
            Some(status) => {
                world.finish();
                let told = world.page(alice).ended("c1");
                assert!(format!("{told:?}").contains(&status.to_string()), "{answer}: {told:?}");
            }
            None => {
                assert_eq!(world.page(alice).story("c1").last().map(String::as_str), Some("answered"), "{answer}");
                let at = crate::support::world::address(trunk);
                assert_eq!(world.peers[&at].sessions.len(), 1, "{answer}");
                world.tell(alice, "hangup", "c1");
                world.finish();
            }
        }
    }
}

/// No answer in time: it fails closed, or goes on where the plan says so; what comes later changes nothing.
#[test]
fn a_silent_web_hook_holds_no_call_up() {
    let (mut world, alice) = asking("otherwise = \"refuse\", reject = { code = 480, reason = \"Later\" }");
    world.run(290);
    assert!(world.page(alice).story("c1").is_empty());
    world.run(20);
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Gateway, "unavailable", Some(480)));
    let id = world.asked[0].0;
    world.input(Input::Answered { call: id, answer: Some(r#"{"action": "go-on"}"#.to_owned()) });
    world.finish();

    let (mut world, alice) = asking("otherwise = \"go-on\"");
    world.run(2_000);
    assert_eq!(world.page(alice).story("c1").last().map(String::as_str), Some("answered"));
    let id = world.asked[0].0;
    world.input(Input::Answered { call: id, answer: Some(r#"{"action": "refuse"}"#.to_owned()) });
    world.run(100);
    assert_eq!(world.page(alice).story("c1").last().map(String::as_str), Some("answered"));
    world.tell(alice, "hangup", "c1");
    world.finish();
}

/// Hanging up while the hook is asked ends the call.
#[test]
fn a_caller_may_give_up_while_a_web_hook_is_asked() {
    let (mut world, alice) = asking("otherwise = \"go-on\"");
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.one().sessions.len(), 0);
    assert_eq!(world.cdrs.len(), 1);
}

/// A rule says on which refusals the next trunk is tried.
#[test]
fn failover_is_as_the_rule_says() {
    let rules = |on: &str| {
        format!(
            "[[out]]\nname = 'f'\nprefix = '+44666'\ntiers = [['one'], ['two']]\nfailover = {{ on = {on}, after = '2s' }}\n"
        )
    };
    for (on, status, tried) in [("['486']", 486, 2), ("['5xx']", 486, 1), ("['4xx']", 503, 1), ("['5xx']", 503, 2)] {
        let mut world = World::with(planned(&rules(on)));
        world.one().habits = Habits::refusing(status);
        world.two().habits = Habits::refusing(404);
        let alice = world.browser(1, "alice");
        world.say(alice, &call("c1", "+446661234"));
        world.finish();
        assert_eq!(world.cdr().trunks.len(), tried, "{on} {status}");
    }
    // A trunk that says nothing at all.
    let mut world = World::with(planned(&rules("['timeout']")));
    world.peers.remove(&crate::support::world::address(ONE));
    world.two().habits = Habits { answer_after: Some(100), ..Habits::default() };
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "+446661234"));
    world.run(1_900);
    assert_eq!(world.two().sessions.len(), 0);
    world.run(1_000);
    assert_eq!(world.page(alice).story("c1").last().map(String::as_str), Some("answered"));
    world.tell(alice, "hangup", "c1");
    world.finish();
}

/// The usual plan with an emergency number, which both trunks take as it is.
pub fn with_emergency() -> SwitchConfig {
    let rules = "[[out]]\nname = 'emergency'\nnumber = '112'\ntiers = [['one'], ['two']]\n";
    let head = PLAN.replace("short = [\"6XX\"]", "short = [\"6XX\"]\nemergency = \"112\"\n");
    let files = [PlanFile { name: "sim.toml".into(), text: format!("{head}\n{rules}") }];
    let plan = Plan::load(&files, &["one".into(), "two".into()]).unwrap();
    let mut config = SwitchConfig { plan: plan.into(), ..config(1) };
    for trunk in &mut config.trunks {
        trunk.number_format = NumberFormat::AsDialled;
    }
    config
}

/// A user has two emergency calls at once and the gateway sixteen: one hostile token is no unlimited channel, and no other
/// call's place is taken.
#[test]
fn emergency_calls_have_a_room_of_their_own_and_no_more() {
    let mut config = with_emergency();
    config.limits.calls = 1;
    let mut world = World::with(config);
    world.one().habits = Habits { answer_after: Some(100), ..Habits::default() };
    let pages: Vec<_> = (1..=9).map(|n| world.browser(n, &format!("user{n}"))).collect();
    for page in &pages {
        for name in ["c1", "c2", "c3"] {
            world.say(*page, &call(name, "112"));
        }
    }
    world.run(1_000);
    let talks = |world: &mut World, page: usize, name: &str| {
        world.page(pages[page]).story(name).last().map(String::as_str) == Some("answered")
    };
    for page in 0..9 {
        for (name, room) in [("c1", page < 8), ("c2", page < 8), ("c3", false)] {
            assert_eq!(talks(&mut world, page, name), room, "{page} {name}");
        }
    }
    world.say(pages[8], &call("c4", "+442079460000"));
    world.run(1_000);
    assert!(talks(&mut world, 8, "c4"), "the ordinary place is free");
    world.tell(pages[0], "hangup", "c1");
    world.run(2_000);
    world.say(pages[8], &call("c5", "112"));
    world.run(1_000);
    assert!(talks(&mut world, 8, "c5"), "a place that is free again");
    world.input(Input::HangupAll);
    world.finish();
}

/// Better a trunk that may be down than nobody, however many targets it has.
#[test]
fn an_emergency_call_goes_by_a_last_trunk_of_two_targets_that_seems_down() {
    let mut config = with_emergency();
    config.trunks.truncate(1);
    config.trunks[0].targets = vec![target(ONE), target(TWO)];
    config.trunks[0].options_every = Some(Duration::from_secs(30));
    let mut world = World::with(config);
    for at in [ONE, TWO] {
        world.script(Raw::new(address(at), |_| Vec::new()));
    }
    world.input(Input::Start);
    world.run(15_000);
    assert!(!world.switch.status(world.time()).trunks[0].state.up);
    let invites = |world: &World| -> usize {
        [ONE, TWO].iter().map(|at| world.raws[&address(at)].requests(&Method::Invite).len()).sum()
    };
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "+442079460000"));
    world.run(1_000);
    assert_eq!(invites(&world), 0);
    world.say(alice, &call("c2", "112"));
    world.run(1_000);
    assert!(invites(&world) > 0, "{}", world.story());
    world.input(Input::Drain);
    world.finish();
}

/// Neither the gateway's limit nor a session's nor a trunk's stands in an emergency call's way, and every trunk is tried.
#[test]
fn an_emergency_call_has_no_limit() {
    let mut config = with_emergency();
    config.limits.calls = 1;
    config.limits.calls_per_socket = 1;
    for trunk in &mut config.trunks {
        trunk.limits = TrunkLimits { calls: Some(1), ..trunk.limits };
    }
    config.limits.longest_call = Duration::from_secs(60);
    let mut world = World::with(config);
    world.one().habits = Habits { answer_after: Some(100), ..Habits::default() };
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "+442079460000"));
    world.run(1_000);
    assert_eq!(world.page(alice).story("c1").last().map(String::as_str), Some("answered"));
    world.say(alice, &call("c2", "+442079460001"));
    world.run(1_000);
    assert_ne!(world.page(alice).story("c2").last().map(String::as_str), Some("answered"));
    // The first trunk refuses it: the second takes it.
    world.one().habits = Habits::refusing(486);
    world.two().habits = Habits { answer_after: Some(100), ..Habits::default() };
    world.say(alice, &call("c3", "112"));
    world.run(1_000);
    assert_eq!(
        world.page(alice).story("c3").last().map(String::as_str),
        Some("answered"),
        "{:?}",
        world.page(alice).heard
    );
    world.run(120_000);
    assert_eq!(world.page(alice).story("c3").last().map(String::as_str), Some("answered"), "no longest call");
    world.tell(alice, "hangup", "c3");
    world.finish();
}
