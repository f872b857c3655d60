//! Trunks that are up, down and full: OPTIONS, limits, names.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ringback::sip::{Located, Message, Method, ResolveError, TrunkDns};
use ringback::switch::{Input, SwitchConfig, Trouble, TrunkLimits};

use crate::support::raw::{self, Raw};
use crate::support::world::{ONE, TWO, address, config, target};
use crate::support::{Fate, Habits, World, call};

/// By trunk one, then by trunk two.
const TIERS: &str = "+443001";
const EVERY: Duration = Duration::from_secs(30);

fn probing() -> SwitchConfig {
    let mut config = config(21);
    for trunk in &mut config.trunks {
        trunk.options_every = Some(EVERY);
    }
    config
}

/// A trunk that answers OPTIONS with a status, or not at all with 0, and no calls.
fn answering_options(at: &str, status: &Rc<Cell<u16>>) -> Raw {
    let status = status.clone();
    Raw::new(address(at), move |message| match message {
        Message::Request(request) if request.method == Method::Options && status.get() > 0 => {
            vec![raw::reply(request, status.get(), "probe", None)]
        }
        _ => Vec::new(),
    })
}

fn tried(world: &World) -> Vec<(String, String)> {
    world.cdr().trunks.iter().map(|tried| (tried.trunk.clone(), tried.result.clone())).collect()
}

fn pair(trunk: &str, result: &str) -> (String, String) {
    (trunk.into(), result.into())
}

/// How many trunks do not answer.
fn down(world: &World) -> usize {
    world.switch.status(world.time()).trunks.iter().filter(|trunk| !trunk.state.up).count()
}

/// A call by the tiers is answered after so many milliseconds, and hung up.
fn calls_by_tiers(world: &mut World) -> u64 {
    let alice = world.browser(1, "alice");
    let began = world.elapsed_ms();
    world.say(alice, &call("c1", TIERS));
    world.until(alice, "c1", "answered");
    let took = world.elapsed_ms() - began;
    world.tell(alice, "hangup", "c1");
    world.input(Input::Drain);
    world.finish();
    took
}

/// OPTIONS health: down after two misses, skipped at once by the next call.
#[test]
fn a_trunk_that_misses_two_options_is_skipped_at_once() {
    let mut world = World::with(probing());
    world.script(answering_options(ONE, &Rc::new(Cell::new(0))));
    world.two().habits = Habits { answer_after: Some(10), ..Habits::default() };
    world.input(Input::Start);
    world.run(15_000);
    let took = calls_by_tiers(&mut world);
    assert!(took < 50, "{took} ms");
    assert_eq!(tried(&world), [pair("one", "down"), pair("two", "answered")]);
    assert_eq!(world.raws[&address(ONE)].requests(&Method::Invite).len(), 0);
}

#[test]
fn any_answer_but_timeouts_and_overload_is_a_sign_of_life() {
    for (status, up) in [(200, true), (404, true), (405, true), (500, true), (503, false), (408, false)] {
        let mut world = World::with(probing());
        world.script(answering_options(ONE, &Rc::new(Cell::new(status))));
        world.two().habits = Habits { answer_after: Some(10), ..Habits::default() };
        world.input(Input::Start);
        world.run(15_000);
        calls_by_tiers(&mut world);
        let asked = !world.raws[&address(ONE)].requests(&Method::Invite).is_empty();
        assert_eq!(asked, up, "{status}");
    }
}

#[test]
fn a_dead_trunk_is_asked_on_and_is_up_after_one_answer() {
    let mut world = World::with(probing());
    let status = Rc::new(Cell::new(0));
    world.script(answering_options(ONE, &status));
    world.two().habits = Habits { answer_after: Some(10), ..Habits::default() };
    world.input(Input::Start);
    world.run(15_000);
    status.set(200);
    world.run(40_000);
    calls_by_tiers(&mut world);
    assert_eq!(tried(&world), [pair("one", "408"), pair("two", "answered")], "it is asked again");
}

/// Since when a trunk is up or down, what went wrong with it last, and how fast it answers.
#[test]
fn what_is_found_out_about_a_trunk_is_told() {
    let mut world = World::with(probing());
    let status = Rc::new(Cell::new(200));
    world.script(answering_options(ONE, &status));
    world.input(Input::Start);
    world.run(15_000);
    let told = |world: &World| world.switch.status(world.time()).trunks.remove(0).state;
    let good = told(&world);
    assert!(good.up && good.for_seconds.is_none() && good.last_failure.is_none(), "{good:?}");
    assert!(good.targets[0].rtt_ms.is_some_and(|ms| (1..1_000).contains(&ms)), "{good:?}");
    status.set(503);
    world.run(100_000);
    let bad = told(&world);
    let failure = bad.last_failure.unwrap();
    assert_eq!((bad.up, failure.what, failure.sip), (false, Trouble::Options, Some(503)));
    assert!(bad.for_seconds.is_some_and(|seconds| (30..100).contains(&seconds)), "{bad:?}");
    status.set(200);
    world.run(40_000);
    let again = told(&world);
    assert!(again.up && again.for_seconds.is_some_and(|seconds| seconds < 40), "{again:?}");
    assert_eq!(again.last_failure.unwrap().sip, Some(503), "it is remembered");
    world.input(Input::Drain);
    world.finish();
}

/// A lost packet is no miss: the request is repeated.
#[test]
fn losses_do_not_make_a_trunk_look_dead() {
    let mut world = World::with(probing());
    world.bad_network(3, 20);
    world.input(Input::Start);
    for _ in 0..20 {
        world.run(30_000);
        assert_eq!(down(&world), 0, "{}", world.story());
    }
    world.input(Input::Drain);
    world.finish();
}

#[test]
fn a_trunk_that_calls_is_there() {
    let mut world = World::with(probing());
    world.network = Box::new(|_, bytes| if bytes.starts_with(b"OPTIONS") { Fate::Lose } else { Fate::Arrive });
    world.input(Input::Start);
    world.run(15_000);
    assert_eq!(down(&world), 2);
    world.trunk_calls("+442079460100", true);
    world.run(100);
    assert_eq!(down(&world), 1);
    world.input(Input::Drain);
    world.finish();
}

#[test]
fn probes_end_with_the_drain() {
    let mut world = World::with(probing());
    world.input(Input::Start);
    world.run(100_000);
    assert!(world.sent("192.0.2.1:5060", "OPTIONS sip:192.0.2.9 SIP/2.0") >= 3, "{}", world.story());
    world.input(Input::Drain);
    world.finish();
    assert_eq!(world.idle, 1);
}

fn limited(limits: TrunkLimits) -> World {
    let mut config = config(22);
    config.trunks[0].limits = limits;
    let mut world = World::with(config);
    world.one().habits = Habits::answering();
    world.two().habits = Habits::answering();
    world
}

/// Outbound beyond the limit goes to the next tier at once, and the place is free again when a call has ended.
#[test]
fn a_full_trunk_is_skipped_until_a_call_ends() {
    let mut world = limited(TrunkLimits { calls: Some(1), calls_per_second: None });
    let alice = world.browser(1, "alice");
    for (name, trunk) in [("c1", "one"), ("c2", "two")] {
        world.say(alice, &call(name, TIERS));
        world.until(alice, name, "answered");
        let answered = if trunk == "one" { world.one().sessions.len() } else { world.two().sessions.len() };
        assert_eq!(answered, 1, "{name} by {trunk}");
    }
    world.tell(alice, "hangup", "c1");
    world.run(40_000);
    world.say(alice, &call("c3", TIERS));
    world.until(alice, "c3", "answered");
    assert_eq!(world.one().sessions.len(), 2);
    world.tell(alice, "hangup", "c2");
    world.tell(alice, "hangup", "c3");
    world.finish();
    assert_eq!(world.cdrs[1].trunks[0].result, "limit");
}

#[test]
fn calls_per_second_are_a_bucket_of_as_many() {
    let mut world = limited(TrunkLimits { calls: None, calls_per_second: Some(2) });
    let alice = world.browser(1, "alice");
    for name in ["c1", "c2", "c3"] {
        world.say(alice, &call(name, TIERS));
    }
    world.run(1_000);
    assert_eq!((world.one().sessions.len(), world.two().sessions.len()), (2, 1));
    world.say(alice, &call("c4", TIERS));
    world.run(1_000);
    assert_eq!(world.one().sessions.len(), 3);
    for name in ["c1", "c2", "c3", "c4"] {
        world.tell(alice, "hangup", name);
    }
    world.finish();
}

/// Inbound beyond the limit: 503 with Retry-After, and nobody rings.
#[test]
fn a_full_trunks_own_call_gets_503_and_retry_after() {
    let mut world = limited(TrunkLimits { calls: Some(1), calls_per_second: None });
    let alice = world.browser(1, "alice");
    world.trunk_calls("+442079460100", true);
    world.run(100);
    let second = world.trunk_calls("+442079460100", true);
    world.run(100);
    assert_eq!(world.one().sessions[&second].ends, ["failed 503"]);
    let (_, refusal) = world.wire.iter().find(|(_, text)| text.starts_with("SIP/2.0 503")).unwrap();
    assert!(refusal.contains("\r\nRetry-After: 5\r\n"), "{refusal}");
    let rung = world.page(alice).heard.iter().filter(|message| crate::support::browser::kind(message) == "incoming");
    assert_eq!(rung.count(), 1);
    world.finish();
}

fn named() -> SwitchConfig {
    let mut config = config(23);
    config.trunks[0].targets.clear();
    config.trunks[0].dns = Some(TrunkDns { host: "sip.carrier.example".into(), port: None, transport: None });
    config
}

/// RFC 3263: a name is looked up at the start, again when its time is over, and a last good answer outlives the DNS.
#[test]
fn a_name_is_looked_up_and_its_last_good_answer_is_kept() {
    let mut world = World::with(named());
    world.one().habits = Habits::answering();
    world.two().habits = Habits { answer_after: Some(10), ..Habits::default() };
    world.dns.insert("one".into(), Err(ResolveError::Unanswered));
    world.input(Input::Start);
    let alice = world.browser(1, "alice");
    world.run(100);
    world.say(alice, &call("c1", TIERS));
    world.until(alice, "c1", "answered");
    world.dns.insert("one".into(), Ok(Located::fixed([target(ONE)])));
    world.run(61_000);
    world.dns.insert("one".into(), Err(ResolveError::NotFound));
    world.run(120_000);
    world.say(alice, &call("c2", TIERS));
    world.until(alice, "c2", "answered");
    assert_eq!((world.one().sessions.len(), world.two().sessions.len()), (1, 1));
    world.tell(alice, "hangup", "c1");
    world.tell(alice, "hangup", "c2");
    world.input(Input::Drain);
    world.finish();
    assert_eq!(world.cdrs[0].trunks[0].result, "unresolved");
}

/// What comes from an address that the DNS gave is the trunk's.
#[test]
fn a_name_gives_the_addresses_that_calls_come_from() {
    let mut world = World::with(named());
    world.dns.insert("one".into(), Ok(Located::fixed([target(ONE), target(TWO)])));
    world.trunk_calls("+442079460100", true);
    world.run(10);
    assert_eq!(world.switch.stats().dropped_sip, 1);
    world.input(Input::Start);
    world.run(100);
    world.trunk_calls("+442079460100", true);
    world.run(100);
    assert_eq!(world.cdrs.len() + world.switch.stats().calls, 1);
    world.input(Input::Drain);
    world.run_out();
}

/// RFC 3263 section 4.3: a target that does not answer is left for the next of the same trunk, stands behind it for a
/// while, and is tried first again after that.
#[test]
fn a_dead_target_is_left_for_the_next_and_tried_again_later() {
    let mut config = config(24);
    config.trunks[0].targets = vec![target(ONE), target(TWO)];
    config.trunks.truncate(1);
    let mut world = World::with(config);
    world.script(Raw::new(address(ONE), |_| Vec::new()));
    world.two().habits = Habits { answer_after: Some(10), ..Habits::default() };
    let alice = world.browser(1, "alice");
    let asked = |world: &World| world.raws[&address(ONE)].requests(&Method::Invite).len();
    let calls = |world: &mut World, name: &str| {
        let began = world.elapsed_ms();
        world.say(alice, &call(name, "+442079460999"));
        world.until(alice, name, "answered");
        world.tell(alice, "hangup", name);
        world.elapsed_ms() - began
    };
    let took = calls(&mut world, "c1");
    assert!((1900..2500).contains(&took), "{took} ms: silence for two seconds");
    let before = asked(&world);
    assert!(before > 0);
    let took = calls(&mut world, "c2");
    assert!(took < 100 && asked(&world) == before, "{took} ms: the dead one is not asked");
    world.run(61_000);
    calls(&mut world, "c3");
    assert!(asked(&world) > before, "a minute later it is");
    world.finish();
    assert_eq!(world.cdrs[1].trunks.len(), 1, "{:?}", world.cdrs[1].trunks);
}

/// A target that says 503 is left at once.
#[test]
fn a_target_that_says_503_is_left_within_fifty_milliseconds() {
    let mut config = config(25);
    config.trunks[0].targets = vec![target(ONE), target(TWO)];
    config.trunks.truncate(1);
    let mut world = World::with(config);
    world.one().habits = Habits { refuse_after: Some((1, 503)), ..Habits::default() };
    world.two().habits = Habits { answer_after: Some(1), ..Habits::default() };
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "+442079460999"));
    world.until(alice, "c1", "answered");
    assert!(world.elapsed_ms() < 50, "{}", world.elapsed_ms());
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.two().sessions.len(), 1);
}

/// RFC 3261 section 21.5.4: how long a target stands back is its own to say, within bounds.
#[test]
fn a_targets_retry_after_says_how_long_it_stands_back() {
    for (retry_after, stands_back) in [("5", 5), ("120", 120), ("100000", 300), ("0", 1), ("soon", 60)] {
        let mut config = config(25);
        config.trunks[0].targets = vec![target(ONE), target(TWO)];
        config.trunks.truncate(1);
        let mut world = World::with(config);
        let refusing = move |message: &Message| match message {
            Message::Request(invite) if invite.method == Method::Invite => {
                let mut refusal = invite.response(503, "Busy");
                refusal.headers.push("Retry-After", retry_after);
                vec![Message::Response(refusal)]
            }
            _ => Vec::new(),
        };
        world.script(Raw::new(address(ONE), refusing));
        world.two().habits = Habits { answer_after: Some(1), ..Habits::default() };
        let alice = world.browser(1, "alice");
        let calls = |world: &mut World, name: &str| {
            world.say(alice, &call(name, "+442079460999"));
            world.until(alice, name, "answered");
            world.tell(alice, "hangup", name);
            world.raws[&address(ONE)].requests(&Method::Invite).len()
        };
        assert_eq!(calls(&mut world, "c1"), 1, "{retry_after}");
        world.run(stands_back * 1000 - 500);
        assert_eq!(calls(&mut world, "c2"), 1, "{retry_after}: not yet");
        world.run(1000);
        assert_eq!(calls(&mut world, "c3"), 2, "{retry_after}: again");
        world.finish();
    }
}

/// A draining gateway: OPTIONS of a trunk get 503, strangers still get silence.
#[test]
fn options_answered_and_503_when_draining_and_unknown_sources_get_silence() {
    let mut world = World::new();
    let options = |from: &str, number: u32| {
        let text = format!(
            "OPTIONS sip:192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKo{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:probe@x>;tag=1\r\nTo: <sip:192.0.2.1>\r\nCall-ID: o{number}@x\r\nCSeq: 1 OPTIONS\r\n\r\n"
        );
        Message::parse(text.as_bytes()).unwrap()
    };
    let stranger = "203.0.113.9:5060";
    world.script(Raw::new(address(ONE), raw::polite()));
    world.script(Raw::new(address(stranger), raw::polite()));
    let status = |world: &World, at: &str| match world.raws[&address(at)].heard.last() {
        Some(Message::Response(response)) => Some(response.status),
        _ => None,
    };
    world.input_raw(address(ONE), options(ONE, 1));
    world.input_raw(address(stranger), options(stranger, 1));
    world.run(20);
    assert_eq!((status(&world, ONE), status(&world, stranger)), (Some(200), None));
    world.input(Input::Drain);
    world.input_raw(address(ONE), options(ONE, 2));
    world.input_raw(address(stranger), options(stranger, 2));
    world.run(20);
    assert_eq!((status(&world, ONE), status(&world, stranger)), (Some(503), None));
    world.finish();
}
