//! Our registrations with trunks: refreshed, refused, lost and found again.

use std::cell::RefCell;
use std::rc::Rc;

use ringback::sip::{Advertised, Credentials, Located, Message, Method, Request, Transport};
use ringback::switch::{Input, Register, RegistrationStatus, SwitchConfig};

use crate::reload::reload;
use crate::support::raw::{self, Raw};
use crate::support::world::{GATEWAY, ONE, TWO, address, config, target};
use crate::support::{Habits, World, call};

/// By trunk one, then by trunk two.
const TIERS: &str = "+443001";

/// Trunk one wants a registration.
fn registering() -> SwitchConfig {
    let mut config = config(31);
    let one = &mut config.trunks[0];
    one.credentials = Some(Credentials { username: "4711".into(), password: "secret".into(), realm: None });
    one.register = Some(Register { user: "4711".into(), contact_user: "4711".into(), expires: 600 });
    config
}

/// What a registrar does next.
#[derive(Clone, Debug)]
struct Manner {
    alive: bool,
    /// Challenges what has no credentials.
    challenges: bool,
    /// The shortest registration taken; 423 else.
    shortest: u32,
    granted: u32,
    refuses: Option<u16>,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner { alive: true, challenges: true, shortest: 1, granted: 60, refuses: None }
    }
}

fn registrar(at: &str, manner: &Rc<RefCell<Manner>>) -> Raw {
    let manner = manner.clone();
    Raw::new(address(at), move |message| {
        let manner = manner.borrow();
        match message {
            Message::Request(request) if manner.alive && request.method == Method::Register => {
                vec![answer(request, &manner)]
            }
            Message::Request(request) if manner.alive && request.method == Method::Invite => {
                vec![raw::reply(request, 200, "callee", Some(40_000))]
            }
            Message::Request(request) if manner.alive && request.method == Method::Bye => {
                vec![raw::reply(request, 200, "callee", None)]
            }
            _ => Vec::new(),
        }
    })
}

fn answer(request: &Request, manner: &Manner) -> Message {
    let plain = |status| raw::reply(request, status, "registrar", None);
    let with = |status, name: &str, value: String| match plain(status) {
        Message::Response(mut response) => {
            response.headers.set(name, value);
            Message::Response(response)
        }
        other => other,
    };
    let expires: u32 = request.headers.expires().unwrap().unwrap();
    if let Some(status) = manner.refuses {
        return plain(status);
    }
    if manner.challenges && request.headers.get("Authorization").is_none() {
        return with(401, "WWW-Authenticate", "Digest realm=\"carrier\", nonce=\"n1\", qop=\"auth\"".into());
    }
    if expires > 0 && expires < manner.shortest {
        return with(423, "Min-Expires", manner.shortest.to_string());
    }
    let contact = request.headers.contacts().unwrap().remove(0).uri;
    with(200, "Contact", format!("<{contact}>;expires={}", expires.min(manner.granted)))
}

fn world(manner: &Rc<RefCell<Manner>>) -> World {
    let mut world = World::with(registering());
    world.script(registrar(ONE, manner));
    world.two().habits = Habits { answer_after: Some(10), ..Habits::default() };
    world
}

fn registers(world: &World, at: &str) -> Vec<(Option<u32>, bool)> {
    let requests = world.raws[&address(at)].requests(&Method::Register);
    let entry =
        |request: &&Request| (request.headers.expires().unwrap(), request.headers.get("Authorization").is_some());
    requests.iter().map(entry).collect()
}

/// Where a call by the tiers is answered.
fn tried(world: &mut World, name: &str) -> Vec<String> {
    let alice = world.browser(u64::try_from(world.cdrs.len()).unwrap() + 1, "alice");
    world.say(alice, &call(name, TIERS));
    world.until(alice, name, "answered");
    world.tell(alice, "hangup", name);
    world.run(100);
    world.cdrs.last().unwrap().trunks.iter().map(|tried| format!("{} {}", tried.trunk, tried.result)).collect()
}

/// RFC 3261 section 10.2: digest, the granted time, refreshed before it is over, taken back at the end.
#[test]
fn a_trunk_is_registered_with_for_as_long_as_the_gateway_runs() {
    let manner = Rc::default();
    let mut world = world(&manner);
    world.input(Input::Start);
    world.run(100);
    assert_eq!(registers(&world, ONE), [(Some(600), false), (Some(600), true)]);
    let sent = world.raws[&address(ONE)].requests(&Method::Register)[1].clone();
    assert_eq!(sent.uri.to_string(), "sip:192.0.2.9");
    assert_eq!(sent.headers.contacts().unwrap()[0].uri.to_string(), "sip:4711@192.0.2.1:5060");
    assert_eq!(sent.headers.from().unwrap().uri.to_string(), "sip:4711@192.0.2.9");
    assert_eq!(world.kept_alive.len(), 1, "the NAT's binding is held open");
    let state = &world.switch.status(world.time()).trunks[0];
    assert!(
        matches!(state.registration, Some(RegistrationStatus::Registered { ends_in_seconds: 55..=60 })),
        "{state:?}"
    );
    assert_eq!(world.switch.status(world.time()).trunks[1].registration, None);
    world.run(300_000);
    let refreshed = registers(&world, ONE).len();
    assert!((7..=16).contains(&refreshed), "{refreshed} in five minutes of 60 s each");
    assert_eq!(tried(&mut world, "c1"), ["one answered"]);
    world.input(Input::Drain);
    world.run(100);
    assert_eq!(registers(&world, ONE).last().unwrap().0, Some(0), "taken back");
    assert_eq!((world.idle, world.kept_alive.len()), (1, 0));
    world.finish();
}

/// `[sip] advertise` by a reload: calls come to the new address at once, and what is sent tells it, of calls that stand too.
#[test]
fn another_address_of_ours_is_registered_at_once() {
    let manner = Rc::default();
    let mut world = world(&manner);
    world.input(Input::Start);
    world.run(100);
    let alice = world.browser(9, "alice");
    world.say(alice, &call("c0", TIERS));
    world.until(alice, "c0", "answered");
    let before = registers(&world, ONE).len();
    let elsewhere = || {
        let mut new = registering();
        let host = "sbc.example".parse().unwrap();
        let local = address(GATEWAY);
        new.ua.advertise = vec![Advertised { transport: Transport::Udp, local, host, port: 5070 }];
        new
    };
    world.input(reload(elsewhere()));
    world.run(100);
    let sent = world.raws[&address(ONE)].requests(&Method::Register);
    assert!(sent.len() > before, "it is registered anew");
    let last = *sent.last().unwrap();
    assert_eq!(last.headers.contacts().unwrap()[0].uri.to_string(), "sip:4711@sbc.example:5070");
    assert!(last.headers.get("Via").unwrap().starts_with("SIP/2.0/UDP sbc.example:5070;"));
    let count = sent.len();
    world.input(reload(elsewhere()));
    world.run(100);
    assert_eq!(registers(&world, ONE).len(), count, "the same again is nothing new");
    let contacts = |world: &World| -> Vec<String> {
        let invites = world.raws[&address(ONE)].requests(&Method::Invite);
        invites.into_iter().map(|invite| invite.headers.contacts().unwrap()[0].uri.to_string()).collect()
    };
    let at_first = contacts(&world);
    world.say(alice, r#"{"type":"hold","call":"c0","on":true}"#);
    world.run(100);
    let held = contacts(&world);
    assert!(held.len() > at_first.len() && held.last().unwrap().contains("@sbc.example:5070"), "{held:?}");
    world.tell(alice, "hangup", "c0");
    world.run(100);
    assert_eq!(tried(&mut world, "c1"), ["one answered"]);
    let called = contacts(&world);
    assert!(called.len() > held.len() && called.last().unwrap().contains("@sbc.example:5070"), "{called:?}");
    world.input(Input::Drain);
    world.run(100);
    world.finish();
}

/// A long drain behind a NAT: no new calls come, but the carrier's BYE still does.
#[test]
fn the_nats_binding_is_held_until_the_last_call_of_a_drain_has_ended() {
    let manner = Rc::default();
    let mut world = world(&manner);
    world.input(Input::Start);
    world.run(100);
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", TIERS));
    world.until(alice, "c1", "answered");
    world.input(Input::Drain);
    world.run(100);
    assert_eq!(registers(&world, ONE).last().unwrap().0, Some(0), "taken back at once");
    world.run(60_000);
    assert_eq!((world.idle, world.kept_alive.len()), (0, 1));
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!((world.idle, world.kept_alive.len()), (1, 0));
}

/// RFC 3261 section 10.2.8: 423 is answered with the registrar's Min-Expires.
#[test]
fn a_registration_that_is_too_brief_is_made_longer() {
    let manner = Rc::new(RefCell::new(Manner { shortest: 1800, granted: 1800, ..Manner::default() }));
    let mut world = world(&manner);
    world.input(Input::Start);
    world.run(1000);
    assert!(registers(&world, ONE).iter().any(|(expires, _)| *expires == Some(1800)), "{}", world.story());
    assert_eq!(tried(&mut world, "c1"), ["one answered"]);
    world.input(Input::Drain);
    world.finish();
}

/// The network goes and comes back: the trunk is skipped meanwhile, tried again with growing pauses, and used again.
#[test]
fn a_lost_registration_is_made_anew() {
    let manner: Rc<RefCell<Manner>> = Rc::default();
    let mut world = world(&manner);
    world.input(Input::Start);
    world.run(1000);
    manner.borrow_mut().alive = false;
    world.run(120_000);
    assert_eq!(tried(&mut world, "c1"), ["one unregistered", "two answered"]);
    let before = registers(&world, ONE).len();
    world.run(200_000);
    let retries = registers(&world, ONE).len() - before;
    assert!(retries < 40, "{retries} packets in 200 seconds, eleven a try");
    manner.borrow_mut().alive = true;
    world.run(270_000);
    assert_eq!(tried(&mut world, "c2"), ["one answered"]);
    world.input(Input::Drain);
    world.finish();
}

#[test]
fn a_refused_registration_is_not_hammered_and_its_trunk_skipped() {
    let manner = Rc::new(RefCell::new(Manner { refuses: Some(403), ..Manner::default() }));
    let mut world = world(&manner);
    world.input(Input::Start);
    world.run(60_000);
    let asked = registers(&world, ONE).len();
    assert!(asked <= 3, "{asked} in a minute");
    let state = world.switch.status(world.time()).trunks[0].registration;
    assert!(matches!(state, Some(RegistrationStatus::Refused { status: 403, .. })), "{state:?}");
    assert_eq!(tried(&mut world, "c1"), ["one unregistered", "two answered"]);
    world.input(Input::Drain);
    world.finish();
}

/// RFC 3263 section 4.3: a registrar that does not answer is left for the next of its name.
#[test]
fn a_registration_moves_to_the_next_target() {
    let manner: Rc<RefCell<Manner>> = Rc::default();
    let mut config = registering();
    config.trunks[0].targets = vec![target(TWO), target(ONE)];
    config.trunks.truncate(1);
    let mut world = World::with(config);
    world.script(registrar(ONE, &manner));
    world.script(Raw::new(address(TWO), |_| Vec::new()));
    world.input(Input::Start);
    world.run(33_000);
    assert_eq!(registers(&world, ONE).len(), 2, "{}", world.story());
    assert_eq!(world.kept_alive.iter().map(|flow| flow.remote).collect::<Vec<_>>(), [address(ONE)]);
    world.input(Input::Drain);
    world.finish();
}

#[test]
fn a_registration_follows_its_name() {
    let manner: Rc<RefCell<Manner>> = Rc::default();
    let mut config = registering();
    config.trunks[0].dns =
        Some(ringback::sip::TrunkDns { host: "carrier.example".into(), port: None, transport: None });
    config.trunks[0].targets.clear();
    config.trunks.truncate(1);
    let mut world = World::with(config);
    world.script(registrar(ONE, &manner));
    world.script(registrar(TWO, &manner));
    world.dns.insert("one".into(), Ok(Located::fixed([target(ONE)])));
    world.input(Input::Start);
    world.run(1000);
    assert_eq!((registers(&world, ONE).len(), registers(&world, TWO).len()), (2, 0));
    let uri = world.raws[&address(ONE)].requests(&Method::Register)[0].uri.to_string();
    assert_eq!(uri, "sip:carrier.example");
    world.dns.insert("one".into(), Ok(Located::fixed([target(TWO)])));
    world.run(61_000);
    assert!(registers(&world, TWO).len() >= 2, "{}", world.story());
    world.input(Input::Drain);
    world.finish();
}

/// A registrar that is gone does not hold up the end.
#[test]
fn the_end_waits_two_seconds_for_a_registrar_and_no_longer() {
    let manner: Rc<RefCell<Manner>> = Rc::default();
    let mut world = world(&manner);
    world.input(Input::Start);
    world.run(1000);
    manner.borrow_mut().alive = false;
    world.input(Input::Drain);
    world.run(1900);
    assert_eq!(world.idle, 0);
    world.run(200);
    assert_eq!(world.idle, 1);
    world.finish();
    assert_eq!(world.sent(GATEWAY, "INVITE"), 0);
}

/// A registration that is wanted as before goes on; one that is wanted otherwise is taken back, or another takes its place.
#[test]
fn a_reload_begins_and_ends_registrations() {
    let manner: Rc<RefCell<Manner>> = Rc::default();
    let mut world = world(&manner);
    world.input(Input::Start);
    world.run(100);
    let asked = |world: &World| {
        let requests = world.raws[&address(ONE)].requests(&Method::Register);
        let one = |request: &&Request| {
            let contact = request.headers.contacts().unwrap().remove(0).uri.decoded_user().unwrap();
            (contact, request.headers.expires().unwrap().unwrap())
        };
        requests.iter().skip(2).filter(|it| it.headers.get("Authorization").is_some()).map(one).collect::<Vec<_>>()
    };
    world.input(reload(registering()));
    world.run(100);
    assert_eq!(registers(&world, ONE).len(), 2, "as before");
    // Another time for the same Contact: it takes the place of the old one, which is not taken back.
    let mut longer = registering();
    longer.trunks[0].register.as_mut().unwrap().expires = 900;
    world.input(reload(longer));
    world.run(200);
    assert_eq!(asked(&world), [("4711".to_owned(), 900)]);
    // Another Contact.
    let mut other = registering();
    other.trunks[0].register.as_mut().unwrap().contact_user = "desk".into();
    world.input(reload(other.clone()));
    world.run(200);
    assert_eq!(asked(&world)[1..], [("4711".to_owned(), 0), ("desk".to_owned(), 600)]);
    let state = world.switch.status(world.time()).trunks[0].registration;
    assert!(matches!(state, Some(RegistrationStatus::Registered { .. })), "{state:?}");
    // None any more.
    other.trunks[0].register = None;
    world.input(reload(other));
    world.run(200);
    assert_eq!(asked(&world)[3..], [("desk".to_owned(), 0)]);
    assert_eq!((world.switch.status(world.time()).trunks[0].registration, world.kept_alive.len()), (None, 0));
    world.input(Input::Drain);
    world.finish();
}
