//! The network loses, repeats or delays each single SIP message of a call, in both directions.

use crate::support::world::ONE;
use crate::support::{Fate, Habits, World, call};

/// A call out: rings, is answered, is hung up by one side. Gives the number of packets sent.
fn call_out(browser_hangs_up: bool, network: impl Fn(u64) -> Fate + 'static) -> u64 {
    let bye_after = (!browser_hangs_up).then_some(800);
    let mut world = World::where_one(Habits { bye_after, ..Habits::answering() });
    world.network = Box::new(move |at, _| network(at));
    let alice = world.browser(1, "alice");
    world.page(alice).hangup_after = browser_hangs_up.then_some(800);
    world.say(alice, &call("c1", "600"));
    world.finish();
    let story = world.page(alice).story("c1");
    assert!(
        story.starts_with(&["answer".to_owned()]) && story.ends_with(&["answered".into(), "ended".into()]),
        "{story:?}"
    );
    assert_eq!(world.cdr().cause, "normal");
    assert_eq!(world.one().sessions.len(), 1, "one INVITE is one call");
    world.packets
}

/// The same from the trunk to the browser.
fn call_in(browser_hangs_up: bool, network: impl Fn(u64) -> Fate + 'static) -> u64 {
    let mut world = World::new();
    world.one().habits.bye_after = (!browser_hangs_up).then_some(800);
    world.network = Box::new(move |at, _| network(at));
    let alice = world.browser(1, "alice");
    world.page(alice).accept_after = Some(400);
    world.page(alice).hangup_after = browser_hangs_up.then_some(800);
    world.trunk_calls("+442079460100", true);
    world.finish();
    let name = world.page(alice).incoming().expect("it rang");
    assert_eq!(world.page(alice).story(&name), ["incoming", "answered", "ended"]);
    assert_eq!((world.cdr().cause.as_str(), world.cdrs.len()), ("normal", 1));
    world.packets
}

#[test]
fn each_message_lost_once() {
    for browser_hangs_up in [true, false] {
        let packets = call_out(browser_hangs_up, |_| Fate::Arrive);
        assert!((7..=12).contains(&packets), "{packets}");
        for lost in 0..packets {
            call_out(browser_hangs_up, move |at| if at == lost { Fate::Lose } else { Fate::Arrive });
        }
        let packets = call_in(browser_hangs_up, |_| Fate::Arrive);
        for lost in 0..packets {
            call_in(browser_hangs_up, move |at| if at == lost { Fate::Lose } else { Fate::Arrive });
        }
    }
}

#[test]
fn each_message_twice() {
    for browser_hangs_up in [true, false] {
        for doubled in 0..12 {
            call_out(browser_hangs_up, move |at| if at == doubled { Fate::Twice } else { Fate::Arrive });
            call_in(browser_hangs_up, move |at| if at == doubled { Fate::Twice } else { Fate::Arrive });
        }
    }
}

#[test]
fn each_message_late_by_so_much_that_others_overtake_it() {
    for browser_hangs_up in [true, false] {
        for late in 0..12 {
            for ms in [20, 200, 900] {
                call_out(browser_hangs_up, move |at| if at == late { Fate::Late(ms) } else { Fate::Arrive });
                call_in(browser_hangs_up, move |at| if at == late { Fate::Late(ms) } else { Fate::Arrive });
            }
        }
    }
}

#[test]
fn each_pair_of_messages_lost() {
    for first in 0..12 {
        for second in first + 1..12 {
            let network = move |at| if at == first || at == second { Fate::Lose } else { Fate::Arrive };
            call_out(true, network);
            call_in(false, network);
        }
    }
}

#[test]
fn a_network_that_loses_a_fifth_of_everything() {
    for seed in 0..60 {
        let mut world = World::where_one(Habits { bye_after: Some(700), ..Habits::answering() });
        world.bad_network(seed, 20);
        let alice = world.browser(1, "alice");
        world.page(alice).accept_after = Some(300);
        world.page(alice).hangup_after = (seed % 2 == 0).then_some(500);
        world.say(alice, &call("c1", "600"));
        world.trunk_calls("+442079460100", true);
        world.finish();
        assert!(world.cdrs.len() <= 2 && !world.cdrs.is_empty());
    }
}

#[test]
fn a_lost_ack_ends_the_call_after_64_t1() {
    // Every ACK of the caller is lost: RFC 3261 13.3.1.4 has us send BYE after 32 s.
    let mut world = World::new();
    world.network = Box::new(|_, bytes| if bytes.starts_with(b"ACK") { Fate::Lose } else { Fate::Arrive });
    let alice = world.browser(1, "alice");
    world.page(alice).accept_after = Some(100);
    let session = world.trunk_calls("+442079460100", true);
    world.finish();
    assert_eq!(world.one().sessions[&session].ends, ["ended Remote"]);
    assert_eq!((world.cdr().cause.as_str(), world.cdr().sip), ("timeout", Some(408)));
    assert!(world.sent(ONE, "ACK") > 5, "each repeated 200 is acknowledged again");
}
