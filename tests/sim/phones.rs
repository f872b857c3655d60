//! Phones that register here: who may, who gets silence, and how guessing is slowed.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ringback::sip::digest;
use ringback::sip::registrar::{RegistrarConfig, Secret};
use ringback::sip::{Credentials, Flow, Headers, Message, Method, Request, Response};
use ringback::switch::{Door, Input, PhoneRights, PhonesConfig, Quota, Quotas, SwitchConfig, Trunk};

use crate::plans::with_emergency;
use crate::reload::reload;
use crate::support::browser::kind;
use crate::support::raw::{self, Raw};
use crate::support::world::{GATEWAY, address, config};
use crate::support::{Habits, World};

/// An address of no trunk.
pub const PHONE: &str = "198.51.100.7:5062";
const PASSWORD: &str = "correct horse";

/// A registrar with alice and bob.
pub fn with_phones() -> SwitchConfig {
    let users = ["alice", "bob"].map(|user| (user.to_owned(), Secret::Password(PASSWORD.into())));
    let phones = PhonesConfig {
        registrar: RegistrarConfig::new("phones.example", BTreeMap::from(users)),
        rights: BTreeMap::from([("alice".to_owned(), PhoneRights::default())]),
        phone: Trunk::new("phone"),
        calls_per_user: 1,
    };
    SwitchConfig { phones: Some(phones), ..config(41) }
}

/// A request of a phone, with a branch of its own.
fn request(method: Method, user: &str, cseq: u32, headers: &[(&str, String)]) -> Request {
    let mut request = Request::new(method.clone(), "sip:phones.example".parse().unwrap());
    let mut fields = Headers::new();
    let branch = format!("z9hG4bK{user}{cseq}{method}{}", headers.len());
    fields.push("Via", format!("SIP/2.0/UDP 198.51.100.7:5062;branch={branch}"));
    fields.push("Max-Forwards", "70");
    fields.push("From", format!("<sip:{user}@phones.example>;tag=phone"));
    fields.push("To", format!("<sip:{user}@phones.example>"));
    fields.push("Call-ID", format!("{user}@198.51.100.7"));
    fields.push("CSeq", format!("{cseq} {method}"));
    fields.push("Contact", format!("<sip:{user}@198.51.100.7:5062>"));
    for (name, value) in headers {
        fields.push(*name, value.clone());
    }
    request.headers = fields;
    request
}

/// Sends it from an address; gives the response, if one comes.
fn send(world: &mut World, from: SocketAddr, request: Request) -> Option<Response> {
    let before = world.raws[&from].heard.len();
    world.input_raw(from, Message::Request(request));
    world.run(50);
    world.raws[&from].heard[before..].iter().find_map(|message| match message {
        Message::Response(response) if response.status >= 200 => Some(response.clone()),
        _ => None,
    })
}

/// Answers the challenge of a response.
fn credentials(response: &Response, method: &Method, user: &str, password: &str) -> String {
    let proxy = response.headers.challenges("Proxy-Authenticate");
    let challenge = response.headers.challenges("WWW-Authenticate").into_iter().chain(proxy).next().unwrap();
    let credentials = Credentials { username: user.into(), password: password.into(), realm: None };
    digest::answer(&challenge, &credentials, method, "sip:phones.example", b"", "cnonce", 1).unwrap()
}

fn register(world: &mut World, from: &str, user: &str, password: &str, cseq: u32) -> Option<Response> {
    let from = address(from);
    let challenge = send(world, from, request(Method::Register, user, cseq, &[]))?;
    if challenge.status != 401 {
        return Some(challenge);
    }
    let answer = credentials(&challenge, &Method::Register, user, password);
    send(world, from, request(Method::Register, user, cseq + 1, &[("Authorization", answer)]))
}

fn world(config: SwitchConfig) -> World {
    let mut world = World::with(config);
    for at in [PHONE, "198.51.100.8:5062"] {
        world.script(Raw::new(address(at), raw::polite()));
    }
    world
}

#[test]
fn a_phone_registers_with_its_password_and_is_forgotten_when_its_time_is_over() {
    let mut world = world(with_phones());
    let response = register(&mut world, PHONE, "alice", PASSWORD, 1).unwrap();
    assert_eq!(response.status, 200);
    let registrar = |world: &World| world.switch.status(world.time()).registrar.unwrap();
    assert_eq!((registrar(&world).users, registrar(&world).bindings, registrar(&world).authenticated), (1, 1, 1));
    world.browser(1, "bob");
    let users = world.switch.users(world.time());
    assert_eq!(users.iter().map(|user| user.user.as_str()).collect::<Vec<_>>(), ["alice", "bob"]);
    let phone = &users[0].phones[0];
    assert_eq!((phone.door, phone.address, phone.transport), (Door::Sip, address(PHONE), "udp"));
    assert!(!phone.by_token && (3_500..=3_600).contains(&phone.ends_in_seconds), "{phone:?}");
    assert_eq!((users[1].sessions[0].door, users[1].sessions[0].connected), (Door::Browser, true));
    world.run(3_601_000);
    assert_eq!(registrar(&world).bindings, 0);
    assert!(world.switch.users(world.time()).iter().all(|user| user.phones.is_empty()));
    world.finish();
}

/// Unknown sources get silence, with a registrar too: it hears REGISTER alone, and without one not even that.
#[test]
fn strangers_get_silence_for_all_but_register() {
    let mut world = world(with_phones());
    let from = address(PHONE);
    for method in [Method::Invite, Method::Options, Method::Subscribe] {
        assert!(send(&mut world, from, request(method.clone(), "alice", 1, &[])).is_none(), "{method}");
    }
    assert_eq!(world.switch.stats().dropped_sip, 3);
    assert_eq!(send(&mut world, from, request(Method::Register, "alice", 2, &[])).unwrap().status, 401);
    world.finish();

    let mut closed = self::world(config(42));
    assert!(send(&mut closed, from, request(Method::Register, "alice", 1, &[])).is_none());
    assert_eq!(closed.switch.stats().dropped_sip, 1);
}

/// Brute force is slowed, counted, and locks out nobody else.
#[test]
fn guessing_is_slowed_and_counted() {
    let mut world = world(with_phones());
    assert_eq!(register(&mut world, PHONE, "alice", PASSWORD, 1).unwrap().status, 200);
    let stranger = "198.51.100.8:5062";
    let mut slowed = None;
    for guess in 0..200u32 {
        let response = register(&mut world, stranger, "alice", &format!("guess{guess}"), 10 + guess * 2).unwrap();
        if response.status == 503 {
            slowed = Some((guess, response));
            break;
        }
        assert_eq!(response.status, 401);
    }
    let (guesses, response) = slowed.expect("guessing is never slowed");
    assert!(guesses <= 20, "{guesses}");
    assert!(response.headers.get("Retry-After").is_some());
    let registrar = world.switch.status(world.time()).registrar.unwrap();
    assert!(registrar.failed >= u64::from(guesses) && registrar.slowed >= 1, "{registrar:?}");
    assert_eq!(registrar.throttled, 1, "{registrar:?}");
    // Nor does the right password help the guesser now; alice's own phone is let in.
    assert_eq!(register(&mut world, stranger, "alice", PASSWORD, 900).unwrap().status, 503);
    assert_eq!(register(&mut world, PHONE, "alice", PASSWORD, 950).unwrap().status, 200);
    world.finish();
}

/// A phone behind a connection that closes is no longer called there.
#[test]
fn a_closed_connection_takes_its_phone_along() {
    let mut world = world(with_phones());
    let flow =
        Flow { transport: ringback::sip::Transport::Tls, local: address(GATEWAY), remote: address(PHONE), id: 7 };
    let over = |world: &mut World, request: Request| {
        let before = world.wire.len();
        world.input(Input::Sip { flow, bytes: request.to_bytes() });
        let (_, text) = world.wire[before..].iter().find(|(_, text)| text.starts_with("SIP/2.0")).unwrap().clone();
        let Ok(Message::Response(response)) = Message::parse(text.as_bytes()) else { panic!("{text}") };
        response
    };
    let challenge = over(&mut world, request(Method::Register, "bob", 1, &[]));
    let answer = credentials(&challenge, &Method::Register, "bob", PASSWORD);
    assert_eq!(over(&mut world, request(Method::Register, "bob", 2, &[("Authorization", answer)])).status, 200);
    assert_eq!(world.switch.status(world.time()).registrar.unwrap().bindings, 1);
    world.input(Input::SipClosed { flow });
    assert_eq!(world.switch.status(world.time()).registrar.unwrap().bindings, 0);
    world.finish();
}

/// An INVITE of alice's phone with an offer.
fn invite(user: &str, to: &str, cseq: u32, headers: &[(&str, String)]) -> Request {
    let mut request = request(Method::Invite, user, cseq, headers);
    request.uri = format!("sip:{to}@phones.example").parse().unwrap();
    request.headers.set("To", format!("<sip:{to}@phones.example>"));
    request.headers.set("Call-ID", format!("call{cseq}@198.51.100.7"));
    request.headers.set("Content-Type", "application/sdp");
    request.body = ringback::sdp::trunk::offer(&raw::local(40_000)).into_bytes();
    request
}

/// Calls with the user's password; gives the last response.
fn call_out(world: &mut World, user: &str, to: &str, password: &str, cseq: u32) -> Option<Response> {
    let from = address(PHONE);
    let challenge = send(world, from, invite(user, to, cseq, &[]))?;
    if challenge.status != 407 {
        return Some(challenge);
    }
    let proxy = challenge.headers.challenges("Proxy-Authenticate").remove(0);
    let credentials = Credentials { username: user.into(), password: password.into(), realm: None };
    let uri = format!("sip:{to}@phones.example");
    let answer = digest::answer(&proxy, &credentials, &Method::Invite, &uri, b"", "cnonce", 1).unwrap();
    send(world, from, invite(user, to, cseq + 1, &[("Proxy-Authorization", answer)]))
}

/// A phone's INVITE is challenged with 407 and goes by the dial plan as its user's.
#[test]
fn a_phone_calls_as_its_user() {
    let mut world = world(with_phones());
    world.one().habits = Habits { answer_after: Some(10), bye_after: Some(1000), ..Habits::default() };
    register(&mut world, PHONE, "alice", PASSWORD, 1).unwrap();
    let answered = call_out(&mut world, "alice", "+442079460999", PASSWORD, 10).unwrap();
    assert_eq!(answered.status, 200);
    world.input_raw(address(PHONE), raw::ack(&answered, None));
    world.finish();
    let cdr = world.cdr();
    assert_eq!((cdr.user.as_str(), cdr.number.as_deref()), ("alice", Some("+442079460999")));
    assert_eq!((cdr.trunks[0].trunk.as_str(), cdr.trunks[0].result.as_str()), ("one", "answered"));
    // RFC 7332: it came with 70, so that a loop through us ends.
    let ours = |(from, text): &&(SocketAddr, String)| *from == address(GATEWAY) && text.starts_with("INVITE ");
    let invite = world.wire.iter().find(ours).map(|(_, text)| text.clone()).unwrap_or_default();
    let hops = invite.lines().find_map(|line| line.strip_prefix("Max-Forwards: ")).map(str::to_owned);
    assert_eq!(hops.as_deref(), Some("69"), "{invite}");
}

/// Early media of the trunk reaches a SIP caller in a 183 with our description, which the 200 repeats.
#[test]
fn a_phone_hears_the_early_media_of_the_trunk() {
    let mut world = world(with_phones());
    world.one().habits =
        Habits { early_after: Some(10), answer_after: Some(300), bye_after: Some(1000), ..Habits::default() };
    register(&mut world, PHONE, "alice", PASSWORD, 1).unwrap();
    assert!(call_out(&mut world, "alice", "+442079460999", PASSWORD, 10).is_none(), "it is not answered yet");
    world.run(500);
    let responses: Vec<Response> = world.raws[&address(PHONE)]
        .heard
        .iter()
        .filter_map(|message| match message {
            Message::Response(response) if !response.body.is_empty() => Some(response.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(responses.first().map(|response| response.status), Some(183));
    let answered = responses.iter().find(|response| response.status == 200).expect("a 200").clone();
    assert_eq!(answered.body, responses[0].body);
    let id = world.call_id();
    let plan = crate::people::plan_of(&world, id);
    use ringback::sdp::Side;
    let slots = [Side::A, Side::B].map(|side| plan.leg(side).unwrap().media.rtp().unwrap().slot);
    assert_ne!(slots[0], slots[1], "each SIP leg has ports of its own");
    world.input_raw(address(PHONE), raw::ack(&answered, None));
    world.finish();
}

#[test]
fn a_phone_without_the_password_calls_nobody_and_the_plan_binds_the_others() {
    let mut world = world(with_phones());
    register(&mut world, PHONE, "alice", PASSWORD, 1).unwrap();
    assert_eq!(call_out(&mut world, "alice", "+442079460999", "wrong", 10).unwrap().status, 407);
    assert_eq!(call_out(&mut world, "alice", "+449001", PASSWORD, 20).unwrap().status, 403);
    world.finish();
    assert_eq!(world.cdrs.len(), 1, "a call refused for its password leaves no record");
    assert!(world.one().sessions.is_empty());
}

/// A world in which alice has a phone that answers at once.
pub fn a_phone_that_answers() -> World {
    let mut world = world(with_phones());
    register(&mut world, PHONE, "alice", PASSWORD, 1).unwrap();
    world.script(Raw::new(address(PHONE), |message| match message {
        Message::Request(request) if request.method == Method::Invite => {
            vec![raw::reply(request, 180, "phone", None), raw::reply(request, 200, "phone", Some(40_000))]
        }
        Message::Request(request) if request.method != Method::Ack => vec![raw::reply(request, 200, "phone", None)],
        _ => Vec::new(),
    }));
    world
}

/// The user's phones ring beside his browsers; the first to answer has the call.
#[test]
fn a_call_for_a_user_rings_his_phone_too() {
    let mut world = world(with_phones());
    register(&mut world, PHONE, "alice", PASSWORD, 1).unwrap();
    let answering = |message: &Message| match message {
        Message::Request(request) if request.method == Method::Invite => {
            vec![raw::reply(request, 180, "phone", None), raw::reply(request, 200, "phone", Some(40_000))]
        }
        Message::Request(request) if request.method != Method::Ack => vec![raw::reply(request, 200, "phone", None)],
        _ => Vec::new(),
    };
    world.script(Raw::new(address(PHONE), answering));
    let alice = world.browser(1, "alice");
    let session = world.trunk_calls("+442079460100", true);
    world.run(1000);
    assert!(world.one().sessions[&session].answered, "{}", world.story());
    let uri = world.raws[&address(PHONE)].requests(&Method::Invite)[0].uri.to_string();
    assert_eq!(uri, "sip:alice@198.51.100.7:5062");
    assert_eq!(world.page(alice).heard.iter().filter(|message| kind(message) == "ended").count(), 1);
    world.with_peer(crate::support::world::ONE, |peer, now| peer.ua.hangup(now, session, None));
    world.finish();
}

/// Who is called and refers is bound by what he may himself: his caller's and the plan's wider rights are not his.
#[test]
fn a_phone_that_is_called_refers_with_its_own_users_rights() {
    for (destinations, status) in [(Some(vec!["+3*".to_owned()]), 403), (None, 202)] {
        let mut config = with_phones();
        let phones = config.phones.as_mut().unwrap();
        phones.rights.insert("alice".to_owned(), PhoneRights { destinations, ..PhoneRights::default() });
        let mut world = world(config);
        register(&mut world, PHONE, "alice", PASSWORD, 1).unwrap();
        let answering = |message: &Message| match message {
            Message::Request(request) if request.method == Method::Invite => {
                vec![raw::reply(request, 200, "phone", Some(40_000))]
            }
            Message::Request(request) if request.method != Method::Ack => vec![raw::reply(request, 200, "phone", None)],
            _ => Vec::new(),
        };
        world.script(Raw::new(address(PHONE), answering));
        let session = world.trunk_calls("+442079460100", true);
        world.run(1000);
        let ours = world.raws[&address(PHONE)].requests(&Method::Invite)[0].clone();
        let mut refer = request(Method::Refer, "alice", 500, &[("Refer-To", "<sip:+442079460999@x>".to_owned())]);
        refer.headers.set("Call-ID", ours.headers.get("Call-ID").unwrap().to_owned());
        refer.headers.set("From", format!("{};tag=phone", ours.headers.get("To").unwrap()));
        refer.headers.set("To", ours.headers.get("From").unwrap().to_owned());
        assert_eq!(send(&mut world, address(PHONE), refer).unwrap().status, status, "{}", world.story());
        world.run(500);
        world.with_peer(crate::support::world::ONE, |peer, now| peer.ua.hangup(now, session, None));
        world.input(Input::HangupAll);
        world.finish();
    }
}

#[test]
fn a_user_has_so_many_calls_of_his_phones_and_no_more() {
    let mut world = world(with_phones());
    world.one().habits = Habits { ring_after: Some(10), refuse_after: Some((4000, 486)), ..Habits::default() };
    register(&mut world, PHONE, "alice", PASSWORD, 1).unwrap();
    assert!(call_out(&mut world, "alice", "+442079460999", PASSWORD, 10).is_none(), "it rings");
    let second = call_out(&mut world, "alice", "+442079460999", PASSWORD, 20).unwrap();
    assert_eq!((second.status, second.headers.get("Retry-After")), (503, Some("5")));
    world.finish();
}

/// A limit against fraud says to a phone when it may try again.
#[test]
fn a_phone_past_a_limit_is_told_when_to_try_again() {
    let user = Quota { calls_per_minute: Some(1), ..Quota::default() };
    let mut world = world(SwitchConfig { quotas: Quotas { user, ..Quotas::default() }, ..with_phones() });
    world.one().habits = Habits { refuse_after: Some((10, 486)), ..Habits::default() };
    register(&mut world, PHONE, "alice", PASSWORD, 1).unwrap();
    let first = call_out(&mut world, "alice", "+442079460999", PASSWORD, 10).unwrap();
    assert_eq!(first.status, 486);
    world.run(1_000);
    let second = call_out(&mut world, "alice", "+442079460999", PASSWORD, 20).unwrap();
    assert_eq!((second.status, second.headers.get("Retry-After")), (503, Some("59")));
    assert!(second.headers.get("Reason").unwrap().contains("Too many calls a minute"));
    world.run(60_000);
    assert_eq!(call_out(&mut world, "alice", "+442079460999", PASSWORD, 30).unwrap().status, 486);
    world.finish();
}

/// As many calls as he may have, and yet the emergency number.
#[test]
fn a_phones_emergency_call_is_not_held_to_its_users_calls() {
    let mut config = SwitchConfig { plan: with_emergency().plan, ..with_phones() };
    for trunk in &mut config.trunks {
        trunk.number_format = ringback::call::NumberFormat::AsDialled;
    }
    let mut world = world(config);
    world.one().habits = Habits { answer_after: Some(10), ..Habits::default() };
    register(&mut world, PHONE, "alice", PASSWORD, 1).unwrap();
    let mut cseq = 0;
    for (to, status) in [("+442079460999", 200), ("+442079460999", 503), ("112", 200), ("112", 200), ("112", 503)] {
        cseq += 10;
        let last = call_out(&mut world, "alice", to, PASSWORD, cseq).unwrap();
        assert_eq!(last.status, status, "{to}: {}", world.story());
        if status == 200 {
            world.input_raw(address(PHONE), raw::ack(&last, None));
        }
    }
    world.input(Input::HangupAll);
    world.finish();
}

/// The dialog that a phone has with us, for Replaces: named as we see it.
fn own_dialog(invite: &Request, ok: &Response) -> String {
    let tag = |field: Option<&str>| field.unwrap().split_once(";tag=").unwrap().1.to_owned();
    let call_id = invite.headers.get("Call-ID").unwrap();
    format!("{call_id};to-tag={};from-tag={}", tag(ok.headers.get("To")), tag(ok.headers.get("From")))
}

/// An INVITE of a user's phone with credentials and further header fields.
fn invite_with(world: &mut World, user: &str, cseq: u32, fields: &[(&str, String)]) -> Response {
    let from = address(PHONE);
    let to = "+442079460999";
    let challenge = send(world, from, invite(user, to, cseq, fields)).unwrap();
    let Some(proxy) = challenge.headers.challenges("Proxy-Authenticate").into_iter().next() else { return challenge };
    let credentials = Credentials { username: user.into(), password: PASSWORD.into(), realm: None };
    let uri = format!("sip:{to}@phones.example");
    let answer = digest::answer(&proxy, &credentials, &Method::Invite, &uri, b"", "cnonce", 1).unwrap();
    let mut fields = fields.to_vec();
    fields.push(("Proxy-Authorization", answer));
    send(world, from, invite(user, to, cseq + 1, &fields)).unwrap()
}

/// Alice's phone talks by trunk one; gives what Replaces would say of her call.
fn alice_talks(config: SwitchConfig) -> (World, String) {
    let mut world = world(config);
    world.one().habits = Habits { answer_after: Some(10), ..Habits::default() };
    register(&mut world, PHONE, "alice", PASSWORD, 1).unwrap();
    register(&mut world, PHONE, "bob", PASSWORD, 1).unwrap();
    let answered = call_out(&mut world, "alice", "+442079460999", PASSWORD, 10).unwrap();
    assert_eq!(answered.status, 200);
    world.input_raw(address(PHONE), raw::ack(&answered, None));
    world.run(100);
    let named = own_dialog(&invite("alice", "+442079460999", 11, &[]), &answered);
    (world, named)
}

/// INVITE with Replaces: all phones share one trunk, and yet a call is its own user's alone.
#[test]
fn a_phones_invite_with_replaces_takes_no_other_users_place() {
    for (user, status) in [("bob", 481), ("alice", 200)] {
        let mut config = with_phones();
        config.phones.as_mut().unwrap().calls_per_user = 2;
        let (mut world, named) = alice_talks(config);
        let response = invite_with(&mut world, user, 30, &[("Replaces", named)]);
        assert_eq!(response.status, status, "{user}: {}", world.story());
        if status == 200 {
            world.input_raw(address(PHONE), raw::ack(&response, None));
            world.run(100);
        }
        assert_eq!(world.switch.stats().calls, 1);
        world.input(Input::HangupAll);
        world.finish();
        assert_eq!(world.cdr().transfers.len(), usize::from(status == 200));
    }
}

/// REFER with Replaces to a call of another user's: it would be his party that is taken.
#[test]
fn a_phones_refer_with_replaces_takes_no_other_users_party() {
    for (user, done) in [("bob", false), ("alice", true)] {
        let mut config = with_phones();
        config.phones.as_mut().unwrap().calls_per_user = 2;
        let (mut world, named) = alice_talks(config);
        let second = invite_with(&mut world, user, 30, &[]);
        assert_eq!(second.status, 200, "{}", world.story());
        world.input_raw(address(PHONE), raw::ack(&second, None));
        world.run(100);
        let escaped = named.replace('@', "%40").replace(';', "%3B").replace('=', "%3D");
        let target = format!("<sip:+442079460999@phones.example?Replaces={escaped}>");
        let mut refer = request(Method::Refer, user, 40, &[("Refer-To", target)]);
        for field in ["Call-ID", "From", "To"] {
            refer.headers.set(field, second.headers.get(field).unwrap().to_owned());
        }
        assert_eq!(send(&mut world, address(PHONE), refer).unwrap().status, 202, "{}", world.story());
        world.run(5000);
        let notified: Vec<String> = world.raws[&address(PHONE)]
            .requests(&Method::Notify)
            .iter()
            .map(|notify| String::from_utf8_lossy(&notify.body).trim().to_owned())
            .collect();
        let joined = notified.last().is_some_and(|told| told.contains("200 OK"));
        assert_eq!(joined, done, "{user}: {notified:?} {}", world.story());
        world.input(Input::HangupAll);
        world.finish();
        let results: Vec<&str> =
            world.cdrs.iter().flat_map(|cdr| &cdr.transfers).map(|transfer| transfer.result.as_str()).collect();
        assert_eq!(results.contains(&"481"), !done, "{results:?}");
    }
}

/// A gateway that drains or is full takes no INVITE with Replaces either.
#[test]
fn an_invite_with_replaces_is_refused_while_draining_or_full() {
    for full in [false, true] {
        let mut config = with_phones();
        config.phones.as_mut().unwrap().calls_per_user = 2;
        config.limits.calls = if full { 1 } else { 10 };
        let (mut world, named) = alice_talks(config);
        if !full {
            world.input(Input::Drain);
        }
        let response = invite_with(&mut world, "alice", 30, &[("Replaces", named)]);
        assert_eq!(response.status, 503, "{}", world.story());
        world.input(Input::HangupAll);
        world.finish();
        assert!(world.cdr().transfers.is_empty());
    }
}

/// A user who is gone, or has another password, has no phone any more; all others keep theirs.
#[test]
fn a_reload_keeps_the_phones_of_users_who_stay() {
    let mut world = world(with_phones());
    assert_eq!(register(&mut world, PHONE, "alice", PASSWORD, 1).unwrap().status, 200);
    assert_eq!(register(&mut world, "198.51.100.8:5062", "bob", PASSWORD, 1).unwrap().status, 200);
    let bindings = |world: &World| world.switch.status(world.time()).registrar.map(|registrar| registrar.bindings);
    assert_eq!(bindings(&world), Some(2));
    let mut new = with_phones();
    let users = &mut new.phones.as_mut().unwrap().registrar.users;
    users.insert("bob".into(), Secret::Password("another password".into()));
    users.insert("carol".into(), Secret::Password(PASSWORD.into()));
    world.input(reload(new));
    assert_eq!(bindings(&world), Some(1), "bob's password is another");
    assert_eq!(register(&mut world, "198.51.100.8:5062", "bob", PASSWORD, 11).unwrap().status, 401);
    assert_eq!(register(&mut world, "198.51.100.8:5062", "carol", PASSWORD, 21).unwrap().status, 200);
    world.input(reload(config(41)));
    assert_eq!(bindings(&world), None, "no registrar any more");
    assert!(send(&mut world, address(PHONE), request(Method::Register, "alice", 31, &[])).is_none());
    world.input(reload(with_phones()));
    assert_eq!(register(&mut world, PHONE, "alice", PASSWORD, 41).unwrap().status, 200);
    world.finish();
}
