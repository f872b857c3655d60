//! Random orders of everything that can happen; what must hold holds.

use proptest::prelude::*;
use ringback::sdp::{Direction, MediaLoss, MediaReport, Side};
use ringback::switch::Input;
use serde_json::json;

use crate::support::world::{ONE, TWO};
use crate::support::{Habits, World, call};

#[derive(Clone, Debug)]
enum Deed {
    Wait(u64),
    Call(u8, &'static str),
    Hangup(u8),
    Accept(u8),
    Reject(u8, u16),
    Hold(u8, bool),
    Digits(u8),
    Nonsense(u8),
    Close(u8),
    Open(u8),
    TrunkCalls(bool),
    TrunkHangsUp,
    TrunkHolds,
    MediaLost,
    Digit,
    Transfer(u8, &'static str),
    Join(u8),
    TrunkRefers(&'static str),
}

fn deed() -> impl Strategy<Value = Deed> {
    let who = 0..3u8;
    prop_oneof![
        4 => (0..900u64).prop_map(Deed::Wait),
        3 => (who.clone(), prop::sample::select(vec!["600", "+443001", "+443020", "09098", "0207946000", "bob", "alice"])).prop_map(|(who, to)| Deed::Call(who, to)),
        2 => who.clone().prop_map(Deed::Hangup),
        3 => who.clone().prop_map(Deed::Accept),
        1 => (who.clone(), prop::sample::select(vec![486u16, 603, 480])).prop_map(|(who, code)| Deed::Reject(who, code)),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, on)| Deed::Hold(who, on)),
        1 => who.clone().prop_map(Deed::Digits),
        1 => who.clone().prop_map(Deed::Nonsense),
        1 => who.clone().prop_map(Deed::Close),
        1 => who.clone().prop_map(Deed::Open),
        3 => any::<bool>().prop_map(Deed::TrunkCalls),
        2 => Just(Deed::TrunkHangsUp),
        1 => Just(Deed::TrunkHolds),
        1 => Just(Deed::MediaLost),
        1 => Just(Deed::Digit),
        2 => (who.clone(), prop::sample::select(vec!["601", "+443001", "+443020", "bob", "alice", "09098"])).prop_map(|(who, to)| Deed::Transfer(who, to)),
        2 => who.clone().prop_map(Deed::Join),
        1 => prop::sample::select(vec!["601", "+443020", "bob"]).prop_map(Deed::TrunkRefers),
    ]
}

fn habits() -> impl Strategy<Value = Habits> {
    let ms = || prop::option::of(0..1500u64);
    let refers =
        prop::option::of(prop::collection::vec((0..900u64, prop::sample::select(vec![180u16, 200, 486])), 0..3));
    let refuse = prop::option::weighted(0.3, (0..1500u64, prop::sample::select(vec![486u16, 404, 503, 603])));
    (ms(), ms(), ms(), refuse, prop::option::weighted(0.3, 0..2000u64), refers).prop_map(
        |(ring_after, early_after, answer_after, refuse_after, bye_after, refers)| Habits {
            ring_after,
            early_after,
            answer_after,
            refuse_after,
            bye_after,
            refuse_reoffers: None,
            refers,
            refuse_refers: None,
        },
    )
}

/// Does one deed; `sockets` are the three browsers' present sockets.
fn act(world: &mut World, sockets: &mut [u64; 3], next: &mut u64, calls: &mut u32, deed: &Deed) {
    let users = ["alice", "alice", "bob"];
    let socket = |sockets: &[u64; 3], who: u8| ringback::call::SocketId(sockets[usize::from(who)]);
    match deed {
        Deed::Wait(ms) => world.run(*ms),
        Deed::Call(who, to) => {
            *calls += 1;
            world.say(socket(sockets, *who), &call(&format!("c{calls}"), to));
        }
        Deed::Hangup(who) => {
            let socket = socket(sockets, *who);
            let name = world.page(socket).heard.iter().rev().find_map(|message| message.call().map(str::to_owned));
            if let Some(name) = name {
                world.tell(socket, "hangup", &name);
            }
        }
        Deed::Accept(who) => {
            let socket = socket(sockets, *who);
            if world.page(socket).incoming().is_some() {
                world.accept(socket);
            }
        }
        Deed::Reject(who, code) => {
            let socket = socket(sockets, *who);
            if let Some(name) = world.page(socket).incoming() {
                world.say(socket, &json!({"type": "reject", "call": name, "code": code}).to_string());
            }
        }
        Deed::Hold(who, on) => {
            let name = format!("c{calls}");
            world.say(socket(sockets, *who), &json!({"type": "hold", "call": name, "on": on}).to_string());
        }
        Deed::Digits(who) => {
            let name = format!("c{calls}");
            world.say(socket(sockets, *who), &json!({"type": "digits", "call": name, "digits": "1"}).to_string());
        }
        Deed::Nonsense(who) => world.say(socket(sockets, *who), "{\"type\":\"call\",\"call\":\"c1\"}"),
        Deed::Close(who) => world.close(socket(sockets, *who)),
        Deed::Open(who) => {
            let old = socket(sockets, *who);
            if !world.open(old) {
                *next += 1;
                sockets[usize::from(*who)] = *next;
                world.browser(*next, users[usize::from(*who)]);
            }
        }
        Deed::TrunkCalls(with_offer) => {
            world.trunk_calls(if *with_offer { "+442079460200" } else { "+442079460100" }, true);
        }
        Deed::TrunkHangsUp => world.with_peer(ONE, |peer, now| {
            if let Some(session) = peer.sessions.keys().last().copied() {
                peer.ua.hangup(now, session, None);
            }
        }),
        Deed::TrunkHolds => world.with_peer(ONE, |peer, now| {
            let offer = peer.offer(Direction::SendOnly);
            if let Some(session) = peer.sessions.keys().last().copied() {
                let _ = peer.ua.reoffer(now, session, offer);
            }
        }),
        Deed::Transfer(who, to) => {
            let socket = socket(sockets, *who);
            let name = world.page(socket).heard.iter().rev().find_map(|message| message.call().map(str::to_owned));
            let name = name.unwrap_or_else(|| "c1".to_owned());
            world.say(socket, &json!({"type": "transfer", "call": name, "to": to}).to_string());
        }
        Deed::Join(who) => {
            let (one, other) = (format!("c{calls}"), format!("c{}", calls.saturating_sub(1)));
            let frame = json!({"type": "transfer", "call": one, "with": other});
            world.say(socket(sockets, *who), &frame.to_string());
        }
        Deed::TrunkRefers(to) => world.with_peer(ONE, |peer, now| {
            let to = ringback::sip::ReferTo { uri: format!("sip:{to}@192.0.2.1").parse().unwrap(), replaces: None };
            if let Some(session) = peer.sessions.keys().last().copied() {
                let _ = peer.ua.refer(now, session, to, None);
            }
        }),
        Deed::MediaLost | Deed::Digit => {
            let digit = MediaReport::Digit { from: Side::B, digit: '1', ms: 100 };
            match (world.media.keys().last().copied(), deed) {
                (Some(call), Deed::Digit) => world.input(Input::Media { call, report: digit }),
                (Some(call), _) => world.lost(call, Side::A, MediaLoss::ConsentExpired),
                (None, _) => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_call_ends_once_and_nothing_is_left(
        deeds in prop::collection::vec(deed(), 1..40),
        one in habits(),
        two in habits(),
        loss in prop::sample::select(vec![0u32, 0, 5, 25]),
        seed in any::<u64>(),
    ) {
        let mut world = World::where_one(one);
        world.two().habits = two;
        world.bad_network(seed, loss);
        let mut sockets = [1, 2, 3];
        for (socket, user) in [(1, "alice"), (2, "alice"), (3, "bob")] {
            world.browser(socket, user);
        }
        let (mut next, mut calls) = (3, 0);
        for deed in &deeds {
            act(&mut world, &mut sockets, &mut next, &mut calls, deed);
        }
        // The calls that would last go with their browsers.
        for socket in sockets {
            let socket = ringback::call::SocketId(socket);
            if world.open(socket) {
                world.close(socket);
            }
        }
        // Those that were transferred go on without them: until the trunks hang up.
        for _ in 0..2 {
            world.run(130_000);
            for trunk in [ONE, TWO] {
                world.with_peer(trunk, |peer, now| {
                    for session in peer.sessions.keys().copied().collect::<Vec<_>>() {
                        peer.ua.hangup(now, session, None);
                    }
                });
            }
        }
        world.finish();
    }
}

/// The header fields of an INVITE of ours, in order; what a browser says adds none.
const INTENDED: &str =
    "allow call-id contact content-length content-type cseq from max-forwards supported to user-agent via";

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_browser_says_never_adds_a_header(
        to in prop_oneof![any::<String>(), "[0-9+*# ()\\r\\n;<>@,:\"a-z]{1,20}", "6[0-9]{2}(\\r\\n)?"],
        from in prop::option::of(prop_oneof![any::<String>(), "[0-9+*#a-z:@~<>\\r\\n\"]{1,16}"]),
        user in prop_oneof![any::<String>(), "[a-z:@~.+*#-]{1,12}"],
    ) {
        let mut world = World::where_one(Habits::refusing(486));
        let socket = ringback::call::SocketId(1);
        world.page(socket);
        world.input(Input::SocketOpened { socket, peer: crate::support::world::address("198.51.100.1:1"), rings: true });
        world.say(socket, &json!({"type": "hello", "user": user}).to_string());
        let sdp = crate::support::sdp::browser_offer();
        world.say(socket, &json!({"type": "call", "call": "c1", "to": to, "from": from, "sdp": sdp}).to_string());
        world.run(5000);
        for (_, text) in world.wire.iter().filter(|(_, text)| text.starts_with("INVITE")) {
            let ringback::sip::Message::Request(invite) = ringback::sip::Message::parse(text.as_bytes()).unwrap() else {
                panic!("{text}")
            };
            let mut names: Vec<String> = invite.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
            names.sort_unstable();
            prop_assert_eq!(names.join(" "), INTENDED);
            prop_assert!(invite.headers.from().is_ok() && invite.headers.to().is_ok() && invite.headers.contacts().is_ok());
        }
    }
}
