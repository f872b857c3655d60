//! Calls that a killed gateway has left behind are ended by the next one, from what was told while they stood.

use ringback::sip::{Credentials, Message, Method};
use ringback::switch::{Input, Left, SwitchConfig};

use crate::support::raw::{self, Raw};
use crate::support::world::{ONE, address, config, target};
use crate::support::{Fate, Habits, World, call};

/// The gateway is killed in the middle of what goes on in `world`; another one stands in its place, for the same peers.
fn killed(world: World, config: SwitchConfig) -> (World, Vec<Left>) {
    let World { peers, now, journal, .. } = world;
    let mut next = World::with(config);
    next.peers = peers;
    next.now = now;
    (next, journal.into_values().collect())
}

fn end(world: &mut World, left: Vec<Left>) {
    world.input(Input::Start);
    for (number, left) in left.into_iter().enumerate() {
        world.input(Input::LeftBehind { number, left: Box::new(left) });
    }
}

#[test]
fn the_peers_of_both_directions_get_a_bye_that_they_take() {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    let inbound = world.trunk_calls("+442079460100", true);
    world.run(100);
    world.accept(alice);
    world.run(200);
    let (mut next, left) = killed(world, config(2));
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|left| left.trunk.as_deref() == Some("one")), "{left:?}");
    end(&mut next, left);
    next.run(100);
    assert_eq!(next.left_ended.len(), 2, "{}", next.story());
    assert_eq!(next.one().ua.session_count(), 0, "{}", next.story());
    assert_eq!(next.one().sessions[&inbound].ends.len(), 1);
    assert!(next.wire.iter().any(|(_, text)| text.starts_with("BYE") && text.contains("Gateway restarted")));
    next.input(Input::Drain);
    next.finish();
}

/// RFC 3261 section 15: a caller may end an early dialog by BYE.
#[test]
fn a_call_that_rings_is_ended_too() {
    let mut world = World::where_one(Habits::ringing());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "ringing");
    let (mut next, left) = killed(world, config(2));
    assert_eq!(left.len(), 1);
    end(&mut next, left);
    next.run(100);
    assert_eq!((next.left_ended.len(), next.one().ua.session_count()), (1, 0), "{}", next.story());
    next.input(Input::Drain);
    next.finish();
}

#[test]
fn calls_that_are_over_leave_nothing() {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    assert_eq!(world.journal.len(), 1);
    world.tell(alice, "hangup", "c1");
    world.run(100);
    assert!(world.journal.is_empty());
    world.input(Input::Drain);
    world.finish();
}

/// A trunk that challenges the BYE gets its answer; one that is silent is given up.
#[test]
fn a_challenge_is_answered_and_silence_given_up() {
    let mut config = config(2);
    config.trunks[0].credentials =
        Some(Credentials { username: "4711".into(), password: "secret".into(), realm: None });
    let world = {
        let mut world = World::where_one(Habits::answering());
        let alice = world.browser(1, "alice");
        world.say(alice, &call("c1", "600"));
        world.until(alice, "c1", "answered");
        world
    };
    let (mut next, left) = killed(world, config.clone());
    next.script(Raw::new(address(ONE), |message| match message {
        Message::Request(request) if request.method == Method::Bye => {
            let known = request.headers.get("Authorization").is_some();
            let mut answer = raw::reply(request, if known { 200 } else { 401 }, "them", None);
            if let (Message::Response(response), false) = (&mut answer, known) {
                response.headers.set("WWW-Authenticate", "Digest realm=\"carrier\", nonce=\"n1\", qop=\"auth\"");
            }
            vec![answer]
        }
        _ => Vec::new(),
    }));
    end(&mut next, left.clone());
    next.run(100);
    let byes = next.raws[&address(ONE)].requests(&Method::Bye);
    let numbers: Vec<u32> = byes.iter().map(|bye| bye.headers.cseq().unwrap().number).collect();
    assert!(numbers.len() == 2 && numbers[0] > left[0].dialog.cseq && numbers[1] == numbers[0] + 1, "{numbers:?}");
    assert_eq!(next.left_ended, [0]);

    let mut silent = World::with(config);
    silent.network = Box::new(|_, _| Fate::Lose);
    end(&mut silent, left);
    silent.run(31_000);
    assert!(silent.left_unreached.is_empty());
    silent.run(2000);
    // It may stand yet: it is not done with.
    assert_eq!((silent.left_unreached, silent.left_ended), (vec![0], vec![]));
}

/// What stands in a file may be damaged, or another's work.
#[test]
fn a_damaged_note_is_no_message() {
    let mut world = World::new();
    let mut one = World::where_one(Habits::answering());
    let alice = one.browser(1, "alice");
    one.say(alice, &call("c1", "600"));
    one.until(alice, "c1", "answered");
    let (_, left) = killed(one, config(2));
    let mut damaged: Vec<Left> = vec![left[0].clone(); 5];
    damaged[0].dialog.call_id = "a\r\nVia: x".into();
    damaged[1].dialog.target = "nonsense".into();
    damaged[2].dialog.remote = "<sip:\r\n>".into();
    damaged[3].dialog.transport = "pigeon".into();
    damaged[4].dialog.cseq = u32::MAX;
    damaged[4].dialog.to = target(ONE).remote;
    end(&mut world, damaged);
    assert_eq!(world.left_ended, [0, 1, 2, 3]);
    assert_eq!(world.sent("192.0.2.1:5060", "BYE"), 1);
    world.run(33_000);
    assert_eq!(world.left_ended, [0, 1, 2, 3, 4]);
}
