//! Browsers that speak SIP (RFC 7118): they register and call over a WebSocket, their media is a browser's, and everything
//! else is as for any phone.

use std::collections::BTreeMap;

use ringback::sdp::{BrowserMedia, Direction, Hears, MediaCommand, MediaLoss, MediaPlan, Side};
use ringback::signal::TokenVerifier;
use ringback::signal::token::{Claims, sign_hs256};
use ringback::sip::registrar::{RegistrarConfig, Secret};
use ringback::sip::{Credentials, Invite, Method, NameAddr, OutOfDialog, ReferTo, Reliable, SessionId, SessionOptions};
use ringback::switch::{Auth, PhonesConfig, SwitchConfig, Trunk};

use crate::support::world::{GATEWAY, ONE, address, config, rtp};
use crate::support::{Habits, World};

const ALICE: &str = "198.51.100.20:50000";
const BOB: &str = "198.51.100.20:50001";
const SECRET: &[u8] = b"thirty-two bytes of a secret key";
const PASSWORD: &str = "correct horse";
/// Beyond the clock of the world, which begins at 1,800,000,000.
const EXPIRES: u64 = 1_800_000_600;

fn tokens() -> SwitchConfig {
    SwitchConfig { auth: Auth::Token(TokenVerifier::hs256(SECRET)), ..config(71) }
}

fn token(user: &str) -> String {
    sign_hs256(SECRET, &Claims { sub: user.into(), exp: EXPIRES, ..Claims::default() })
}

fn passwords(auth: Auth) -> SwitchConfig {
    let users = BTreeMap::from([("alice".to_owned(), Secret::Password(PASSWORD.into()))]);
    let phones = PhonesConfig {
        registrar: RegistrarConfig::new("phones.example", users),
        rights: BTreeMap::new(),
        phone: Trunk::new("phone"),
        calls_per_user: 8,
    };
    SwitchConfig { phones: Some(phones), auth, ..config(72) }
}

/// A REGISTER as JsSIP makes it; `more`: further header lines.
fn register_text(user: &str, cseq: u32, more: &str) -> Vec<u8> {
    format!(
        "REGISTER sip:gateway.example SIP/2.0\r\nVia: SIP/2.0/WS f81d4fae.invalid;branch=z9hG4bK{user}{cseq}\r\n\
         Max-Forwards: 69\r\nTo: <sip:{user}@gateway.example>\r\nFrom: <sip:{user}@gateway.example>;tag=reg\r\n\
         Call-ID: reg-{user}\r\nCSeq: {cseq} REGISTER\r\n\
         Contact: <sip:u8d7f@f81d4fae.invalid;transport=ws>;+sip.ice;reg-id=1;\
         +sip.instance=\"<urn:uuid:{user}>\";expires=600\r\n\
         Expires: 600\r\nAllow: INVITE,ACK,CANCEL,BYE,UPDATE,MESSAGE,OPTIONS,REFER,INFO,NOTIFY\r\n\
         Supported: path,gruu,outbound\r\n{more}Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// Sends it; gives the response's status line and header lines.
fn register(world: &mut World, at: &str, user: &str, cseq: u32, more: &str) -> String {
    let before = world.wire.len();
    let text = register_text(user, cseq, more);
    let message = ringback::sip::Message::parse(&text).unwrap();
    world.input_raw(address(at), message);
    world.run(50);
    world.wire[before..].iter().find(|(from, _)| *from == address(GATEWAY)).map(|(_, text)| text.clone()).unwrap()
}

/// The browser's user agent registers by itself, with a password where it is asked for one.
fn register_peer(world: &mut World, at: &str, user: &str) {
    let aor: NameAddr = format!("<sip:{user}@gateway.example>").parse().unwrap();
    world.with_peer(at, |peer, now| {
        let wish = OutOfDialog {
            flow: peer.flow(address(GATEWAY)),
            method: Method::Register,
            request_uri: "sip:gateway.example".parse().unwrap(),
            from: aor.clone(),
            to: aor,
            call_id: None,
            cseq: None,
            contact: Some(format!("<sip:{user}@f81d4fae.invalid;transport=ws;ob>").parse().unwrap()),
            headers: vec![("Expires".into(), "600".into())],
            credentials: Some(Credentials { username: user.into(), password: PASSWORD.into(), realm: None }),
            body: None,
        };
        peer.ua.request(now, wish).unwrap();
    });
    world.run(100);
}

/// The browser calls.
fn call(world: &mut World, at: &str, user: &str, to: &str) -> SessionId {
    let (user, to) = (user.to_owned(), to.to_owned());
    let session = world.with_peer(at, |peer, now| {
        let body = Some(peer.offer(Direction::SendRecv));
        let invite = Invite {
            flow: peer.flow(address(GATEWAY)),
            request_uri: format!("sip:{to}@gateway.example").parse().unwrap(),
            from: format!("<sip:{user}@gateway.example>").parse().unwrap(),
            to: format!("<sip:{to}@gateway.example>").parse().unwrap(),
            contact_user: None,
            headers: Vec::new(),
            body,
            credentials: Some(Credentials { username: user, password: PASSWORD.into(), realm: None }),
            // As JsSIP is by itself.
            options: SessionOptions { reliable: Reliable::Off, ..SessionOptions::default() },
        };
        let session = peer.ua.invite(now, invite).unwrap();
        peer.sessions.entry(session).or_default();
        session
    });
    world.run(200);
    session
}

/// Alice has called by her browser, and the phone does as its habits are.
fn called(habits: Habits) -> (World, SessionId) {
    let mut world = World::with(passwords(Auth::Open));
    world.one().habits = habits;
    world.websocket(ALICE, 7);
    register_peer(&mut world, ALICE, "alice");
    let session = call(&mut world, ALICE, "alice", "+442079460999");
    (world, session)
}

/// Alice and the phone talk.
fn talking() -> (World, SessionId) {
    let (mut world, session) = called(Habits::answering());
    world.run(1_000);
    (world, session)
}

fn last_plan(world: &World) -> MediaPlan {
    let plan = |command: &MediaCommand| match command {
        MediaCommand::Start(plan) | MediaCommand::Update(plan) => Some(plan.clone()),
        _ => None,
    };
    world.commands().iter().rev().find_map(plan).expect("a plan")
}

fn browser(plan: &MediaPlan, side: Side) -> BrowserMedia {
    plan.leg(side).and_then(|leg| leg.media.browser()).cloned().expect("a browser's leg")
}

fn seen(world: &World, at: &str, session: SessionId) -> crate::support::peer::Seen {
    world.peers[&address(at)].sessions[&session].clone()
}

/// RFC 8898: who has a session's token needs no password, on REGISTER and on INVITE; who has none is told to bring one.
#[test]
fn a_token_registers() {
    let mut world = World::with(tokens());
    world.websocket(ALICE, 7);
    let refused = register(&mut world, ALICE, "alice", 1, "");
    assert!(refused.starts_with("SIP/2.0 401"), "{refused}");
    assert!(refused.contains("WWW-Authenticate: Bearer realm=\"ringback\"\r\n"), "{refused}");
    assert!(!refused.contains("Digest"), "nobody has a password: {refused}");
    let wrong = register(&mut world, ALICE, "alice", 2, "Authorization: Bearer abc.def.ghi\r\n");
    assert!(wrong.starts_with("SIP/2.0 401") && wrong.contains("error=\"invalid_token\""), "{wrong}");
    let others = format!("Authorization: Bearer {}\r\n", token("bob"));
    assert!(register(&mut world, ALICE, "alice", 3, &others).starts_with("SIP/2.0 403"), "another user's token");
    let own = format!("Authorization: Bearer {}\r\n", token("alice"));
    let good = register(&mut world, ALICE, "alice", 4, &own);
    assert!(good.starts_with("SIP/2.0 200"), "{good}");
    assert!(good.contains("f81d4fae.invalid") && good.contains("expires=600"), "{good}");
    // The token ends in 10 minutes, and with it the registration.
    world.run(601_000);
    let late = register(&mut world, ALICE, "alice", 5, &own);
    assert!(late.starts_with("SIP/2.0 401"), "{late}");
    world.finish();
}

/// Interop: JsSIP and SIP.js read the last challenge of a response only, and know MD5 alone.
#[test]
fn a_password_is_asked_for_by_one_md5_challenge() {
    let mut world = World::with(passwords(Auth::Token(TokenVerifier::hs256(SECRET))));
    world.websocket(ALICE, 7);
    let asked = register(&mut world, ALICE, "alice", 1, "");
    assert_eq!(asked.matches("WWW-Authenticate").count(), 1, "{asked}");
    assert!(asked.contains("Digest realm=\"phones.example\"") && asked.contains("algorithm=MD5"), "{asked}");
    register_peer(&mut world, ALICE, "alice");
    assert_eq!(world.switch.status(world.time()).registrar.unwrap().bindings, 1);
    world.finish();
}

/// A call out: the browser is answered at once (183), hears that it rings without a second answer, and the 200 says the same;
/// the trunk's leg is RTP, and so is nothing of the browser's.
#[test]
fn a_browser_calls_out_by_sip() {
    let (mut world, session) = called(Habits::answering());
    assert_eq!(seen(&world, ALICE, session).provisionals, [183, 180]);
    world.run(1_000);
    assert!(seen(&world, ALICE, session).answered);
    let plan = last_plan(&world);
    let media = browser(&plan, Side::A);
    assert_eq!(media.remote_ice.ufrag, "4ZcD");
    assert!(rtp(&plan, Side::B).remote_rtp.is_some());
    let answers: Vec<&String> =
        world.wire.iter().map(|(_, text)| text).filter(|text| text.contains("a=ice-lite")).collect();
    let body = |text: &str| text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned();
    assert_eq!(answers.len(), 2, "the 183 and the 200");
    assert_eq!(body(answers[0]), body(answers[1]));
    // Digits by INFO reach the trunk, by REFER it is transferred.
    world.with_peer(ALICE, |peer, now| {
        let bytes = b"Signal=5\r\nDuration=100\r\n".to_vec();
        let body = ringback::sip::Body { content_type: "application/dtmf-relay".into(), bytes };
        peer.ua.info(now, session, body).unwrap();
    });
    world.run(100);
    assert!(world.commands().iter().any(|command| matches!(command, MediaCommand::Digits { to: Side::B, .. })));
    world.with_peer(ALICE, |peer, now| peer.ua.hangup(now, session, None));
    world.run(1_000);
    assert_eq!(world.cdr().user, "alice");
    world.finish();
}

/// Hold: the browser's re-INVITE keeps transport and o= id, and is answered inactive; the trunk is held, and hears music.
#[test]
fn a_browser_holds_by_sip_and_is_held() {
    let (mut world, session) = talking();
    let before = browser(&last_plan(&world), Side::A);
    world.with_peer(ALICE, |peer, now| {
        let offer = peer.offer(Direction::SendOnly);
        peer.ua.reoffer(now, session, offer).unwrap();
    });
    world.run(500);
    let plan = last_plan(&world);
    let held = browser(&plan, Side::A);
    assert_eq!((held.direction, plan.leg(Side::B).unwrap().hears), (Direction::Inactive, Hears::Music));
    assert_eq!(BrowserMedia { direction: before.direction, ..held }, before, "the same ICE, DTLS, SSRC and codec");
    world.with_peer(ALICE, |peer, now| {
        let offer = peer.offer(Direction::SendRecv);
        peer.ua.reoffer(now, session, offer).unwrap();
    });
    world.run(500);
    assert_eq!(browser(&last_plan(&world), Side::A), before);
    // And the trunk holds the browser: an offer of ours with the lines of our answer.
    let phone = world.one().only();
    world.with_peer(ONE, |peer, now| {
        let offer = peer.offer(Direction::SendOnly);
        peer.ua.reoffer(now, phone, offer).unwrap();
    });
    world.run(500);
    let offer = seen(&world, ALICE, session).reoffers.pop().expect("the browser is told");
    assert!(offer.contains("a=setup:actpass") && offer.contains("a=sendonly") && offer.contains("a=mid:0"), "{offer}");
    assert_eq!(browser(&last_plan(&world), Side::A).local_ice, before.local_ice);
    world.with_peer(ALICE, |peer, now| peer.ua.hangup(now, session, None));
    world.run(1_000);
    world.finish();
}

/// sipML5 takes our `inactive` for a hold of ours, and says `recvonly` when it takes its call back: it is offered both ways.
#[test]
fn a_browser_that_takes_its_call_back_is_heard_again() {
    let (mut world, session) = talking();
    let before = browser(&last_plan(&world), Side::A);
    for direction in [Direction::SendOnly, Direction::RecvOnly] {
        world.with_peer(ALICE, |peer, now| {
            let offer = peer.offer(direction);
            peer.ua.reoffer(now, session, offer).unwrap();
        });
        world.run(500);
    }
    let offers = seen(&world, ALICE, session).reoffers;
    assert!(offers.len() == 1 && offers[0].contains("a=sendrecv"), "{offers:?}");
    let after = browser(&last_plan(&world), Side::A);
    assert_eq!((after.direction, after.local_ice, after.ssrc), (before.direction, before.local_ice, before.ssrc));
    // One that is muted without a hold is not asked.
    world.with_peer(ALICE, |peer, now| {
        let offer = peer.offer(Direction::RecvOnly);
        peer.ua.reoffer(now, session, offer).unwrap();
    });
    world.run(500);
    assert_eq!(browser(&last_plan(&world), Side::A).direction, Direction::SendOnly);
    assert_eq!(seen(&world, ALICE, session).reoffers.len(), 1);
    world.with_peer(ALICE, |peer, now| peer.ua.hangup(now, session, None));
    world.run(1_000);
    world.finish();
}

/// RFC 8839 section 4.4.3.1.1: other ICE credentials in a re-INVITE are answered by other ones of ours.
#[test]
fn an_ice_restart_by_reinvite_is_answered_with_new_credentials() {
    let (mut world, session) = talking();
    let before = browser(&last_plan(&world), Side::A);
    world.with_peer(ALICE, |peer, now| {
        let mut offer = peer.offer(Direction::SendRecv);
        let text = String::from_utf8(offer.bytes).unwrap().replace("4ZcD", "restart");
        offer.bytes = text.into_bytes();
        peer.ua.reoffer(now, session, offer).unwrap();
    });
    world.run(500);
    let after = browser(&last_plan(&world), Side::A);
    assert_eq!(after.remote_ice.ufrag, "restart");
    assert_ne!(after.local_ice, before.local_ice);
    assert_eq!((before.local_ice.mark(), after.local_ice.mark()), ('M', 'M'), "the lease's");
    assert_eq!((after.ssrc, &after.fingerprints, after.dtls), (before.ssrc, &before.fingerprints, before.dtls));
    world.with_peer(ALICE, |peer, now| peer.ua.hangup(now, session, None));
    world.run(1_000);
    world.finish();
}

/// Ten at once and one more every ten seconds, as by protocol v1; RFC 3261 section 14.1: what is refused changes nothing.
#[test]
fn restarts_by_reinvite_have_the_rate_of_protocol_v1() {
    let mut world = World::with(passwords(Auth::Open));
    world.one().habits = Habits::answering();
    world.websocket(ALICE, 7);
    register_peer(&mut world, ALICE, "alice");
    let session = call(&mut world, ALICE, "alice", "+442079460999");
    world.run(1_000);
    let reoffer = |world: &mut World, ufrag: &str, direction| {
        world.with_peer(ALICE, |peer, now| {
            let offer = String::from_utf8(peer.offer(direction).bytes).unwrap().replace("4ZcD", ufrag);
            peer.ua.reoffer(now, session, crate::support::peer::sdp(offer)).unwrap();
        });
        world.run(500);
        browser(&last_plan(world), Side::A).remote_ice.ufrag
    };
    for n in 0..10 {
        let ufrag = format!("restart{n}");
        assert_eq!(reoffer(&mut world, &ufrag, Direction::SendRecv), ufrag);
    }
    assert_eq!(world.sent(GATEWAY, "SIP/2.0 500"), 0);
    assert_eq!(reoffer(&mut world, "tooOften", Direction::SendRecv), "restart9");
    assert_eq!(world.sent(GATEWAY, "SIP/2.0 500"), 1);
    // A hold is no restart.
    reoffer(&mut world, "restart9", Direction::SendOnly);
    assert_eq!(browser(&last_plan(&world), Side::A).direction, Direction::Inactive);
    world.run(10_000);
    assert_eq!(reoffer(&mut world, "again", Direction::SendRecv), "again");
    assert_eq!(world.sent(GATEWAY, "SIP/2.0 500"), 1);
    assert!(seen(&world, ALICE, session).ends.is_empty());
    world.with_peer(ALICE, |peer, now| peer.ua.hangup(now, session, None));
    world.run(1_000);
    world.finish();
}

/// A call in rings every registration of the user, each with an offer for a browser; one answers, the other is cancelled.
#[test]
fn a_call_rings_all_browsers_of_a_user() {
    let mut world = World::with(passwords(Auth::Open));
    for (at, id) in [(ALICE, 7), (BOB, 8)] {
        world.websocket(at, id);
    }
    register_peer(&mut world, ALICE, "alice");
    let contact = "sip:other@5eb1.invalid;transport=ws";
    world.with_peer(BOB, |peer, now| {
        let aor: NameAddr = "<sip:alice@gateway.example>".parse().unwrap();
        let wish = OutOfDialog {
            flow: peer.flow(address(GATEWAY)),
            method: Method::Register,
            request_uri: "sip:gateway.example".parse().unwrap(),
            from: aor.clone(),
            to: aor,
            call_id: None,
            cseq: None,
            contact: Some(NameAddr::new(contact.parse().unwrap())),
            headers: Vec::new(),
            credentials: Some(Credentials { username: "alice".into(), password: PASSWORD.into(), realm: None }),
            body: None,
        };
        peer.ua.request(now, wish).unwrap();
        peer.habits = Habits::ringing();
    });
    world.run(100);
    world.peers.get_mut(&address(ALICE)).unwrap().habits = Habits::answering();
    let phone = world.trunk_calls("+442079460100", true);
    world.run(1_000);
    assert!(seen(&world, ONE, phone).answered);
    assert_eq!(world.peers[&address(BOB)].request_uris, [contact]);
    let other = world.peers[&address(BOB)].only();
    assert_eq!(seen(&world, BOB, other).ends, ["cancelled"]);
    let plan = last_plan(&world);
    assert_eq!(browser(&plan, Side::B).remote_ice.ufrag, "9uB6");
    world.with_peer(ONE, |peer, now| peer.ua.hangup(now, phone, None));
    world.run(1_000);
    let answered = world.peers[&address(ALICE)].only();
    assert_eq!(seen(&world, ALICE, answered).ends, ["ended Remote"]);
    world.finish();
}

/// REFER by the browser: the trunk's party is connected with the new number, and the browser is told how it went.
#[test]
fn a_browser_transfers_by_refer() {
    let (mut world, session) = talking();
    world.two().habits = Habits::answering();
    world.with_peer(ALICE, |peer, now| {
        let to = ReferTo { uri: "sip:+443025550100@gateway.example".parse().unwrap(), replaces: None };
        peer.ua.refer(now, session, to, None).unwrap();
    });
    world.run(6_000);
    let referred = seen(&world, ALICE, session).referred;
    assert_eq!((referred.first(), referred.last()), (Some(&202), Some(&200)), "{referred:?}");
    assert_eq!(seen(&world, ALICE, session).ends.len(), 1, "the browser has left");
    let plan = last_plan(&world);
    assert!(plan.a.is_some_and(|leg| leg.media.rtp().is_some()) && plan.b.is_some());
    let phone = world.two().only();
    world.with_peer("192.0.2.10:5060", |peer, now| peer.ua.hangup(now, phone, None));
    world.run(1_000);
    world.finish();
}

/// REFER with Replaces, as JsSIP sends it: the far parties of two calls of one browser are joined, and it leaves both.
#[test]
fn a_browser_joins_its_two_calls_by_refer() {
    let (mut world, first) = talking();
    world.two().habits = Habits::answering();
    let second = call(&mut world, ALICE, "alice", "+443025550100");
    world.run(1_000);
    world.with_peer(ALICE, |peer, now| {
        let dialog = peer.ua.dialog(second).unwrap();
        let replaces = ringback::sip::Replaces {
            call_id: dialog.call_id,
            to_tag: dialog.remote_tag,
            from_tag: dialog.local_tag,
            early_only: false,
        };
        let to = ReferTo { uri: "sip:+443025550100@gateway.example".parse().unwrap(), replaces: Some(replaces) };
        peer.ua.refer(now, first, to, None).unwrap();
    });
    world.run(6_000);
    let referred = seen(&world, ALICE, first).referred;
    assert_eq!((referred.first(), referred.last()), (Some(&202), Some(&200)), "{referred:?}");
    for session in [first, second] {
        assert_eq!(seen(&world, ALICE, session).ends.len(), 1, "the browser has left");
    }
    let phone = world.two().only();
    world.with_peer("192.0.2.10:5060", |peer, now| peer.ua.hangup(now, phone, None));
    world.run(1_000);
    let other = world.one().only();
    assert_eq!(world.one().sessions[&other].ends, ["ended Remote"]);
    world.finish();
}

/// A caller whose WebSocket goes before the answer calls no more.
#[test]
fn a_ringing_call_ends_with_its_websocket() {
    let (mut world, _) = called(Habits::ringing());
    world.close_websocket(ALICE);
    world.with_peer(ALICE, |peer, now| peer.ua.handle_transport_failure(now, peer.flow(address(GATEWAY))));
    world.run(2_000);
    let phone = world.one().only();
    assert_eq!(world.one().sessions[&phone].ends, ["cancelled"]);
    assert_eq!(world.cdrs.len(), 1);
    world.run(40_000);
    world.finish();
}

/// An answered call goes on without its WebSocket; by the next REGISTER of the same browser it is reached again.
#[test]
fn an_answered_call_outlives_its_websocket() {
    let (mut world, session) = talking();
    world.close_websocket(ALICE);
    world.run(5_000);
    assert!(world.cdrs.is_empty(), "the call stands");
    world.websocket(ALICE, 9);
    register_peer(&mut world, ALICE, "alice");
    let phone = world.one().only();
    world.with_peer(ONE, |peer, now| peer.ua.hangup(now, phone, None));
    world.run(1_000);
    assert_eq!(seen(&world, ALICE, session).ends, ["ended Remote"]);
    world.finish();
}

/// A browser whose network changes brings its media back by an ICE restart: its call waits a while for that.
#[test]
fn the_media_of_a_browser_that_speaks_sip_may_come_back_for_a_while() {
    for (loss, waits) in [(MediaLoss::ConsentExpired, true), (MediaLoss::BrowserClosed, false)] {
        let (mut world, session) = talking();
        let id = world.call_id();
        world.connected(id, Side::A);
        world.lost(id, Side::A, loss);
        world.run(10_000);
        assert_eq!(seen(&world, ALICE, session).ends.is_empty(), waits, "{loss:?}");
        if waits {
            world.with_peer(ALICE, |peer, now| {
                let offer = String::from_utf8(peer.offer(Direction::SendRecv).bytes).unwrap();
                let offer = crate::support::peer::sdp(offer.replace("a=ice-ufrag:", "a=ice-ufrag:again"));
                peer.ua.reoffer(now, session, offer).unwrap();
            });
            world.run(20_000);
            assert!(seen(&world, ALICE, session).ends.is_empty(), "it came back");
            world.connected(id, Side::A);
            world.lost(id, Side::A, loss);
            world.run(15_100);
            assert_eq!(seen(&world, ALICE, session).ends, ["ended Remote"], "it did not");
        }
        world.run(40_000);
        world.finish();
    }
}

/// Another tab of the same page names the same `+sip.instance`: it takes the registration over, and no call.
#[test]
fn a_second_tab_of_the_same_instance_leaves_the_first_one_its_calls() {
    const TAB: &str = "198.51.100.20:50007";
    for closes in [false, true] {
        let mut world = World::with(passwords(Auth::Open));
        world.one().habits = Habits::answering();
        world.websocket(ALICE, 7);
        assert!(register(&mut world, ALICE, "bob", 1, "").starts_with("SIP/2.0 200"));
        let session = call(&mut world, ALICE, "bob", "+442079460999");
        world.run(1_000);
        world.websocket(TAB, 9);
        assert!(register(&mut world, TAB, "bob", 2, "").starts_with("SIP/2.0 200"));
        if closes {
            // It was no other tab but the same browser on another network, and the loss of the old way is found out now.
            world.close_websocket(ALICE);
        }
        let phone = world.one().only();
        let before = world.wire.len();
        world.with_peer(ONE, |peer, now| peer.ua.hangup(now, phone, None));
        world.run(1_000);
        let bye = |(from, text): &&(std::net::SocketAddr, String)| {
            *from == address(GATEWAY) && text.starts_with("BYE ") && text.contains("/WS ")
        };
        assert!(world.wire[before..].iter().any(|sent| bye(&sent)), "{}", world.story());
        let ends = if closes { vec![] } else { vec!["ended Remote".to_owned()] };
        assert_eq!(seen(&world, ALICE, session).ends, ends);
        if closes {
            world.peers.remove(&address(ALICE)); // it is gone, and hears nothing of the end
        }
        world.run(40_000);
        world.finish();
    }
}

/// One user's browsers come and go as often as they like: another's call is still found by its browser.
#[test]
fn who_loses_a_thousand_websockets_makes_no_other_user_forgotten() {
    let (mut world, session) = talking();
    world.close_websocket(ALICE);
    for n in 0..1_100_u32 {
        world.websocket(BOB, 1_000 + u64::from(n));
        let text = String::from_utf8(register_text("bob", n + 1, "")).unwrap();
        let text = text.replace("uuid:bob", &format!("uuid:bob{n}")).replace("u8d7f", &format!("bob{n}"));
        world.input_raw(address(BOB), ringback::sip::Message::parse(text.as_bytes()).unwrap());
        world.run(20);
        world.close_websocket(BOB);
    }
    world.run(1_000);
    world.websocket(ALICE, 9);
    register_peer(&mut world, ALICE, "alice");
    let phone = world.one().only();
    world.with_peer(ONE, |peer, now| peer.ua.hangup(now, phone, None));
    world.run(1_000);
    assert_eq!(seen(&world, ALICE, session).ends, ["ended Remote"]);
    world.finish();
}

/// With no token and no password nobody calls, and without an open gateway the door lets nobody in.
#[test]
fn a_stranger_does_not_call() {
    let mut world = World::with(tokens());
    world.websocket(ALICE, 7);
    let session = call(&mut world, ALICE, "alice", "+442079460999");
    assert_eq!(seen(&world, ALICE, session).ends, ["failed 401"]);
    assert!(world.one().sessions.is_empty() && world.cdrs.is_empty());
    world.finish();
}

/// What a token allows holds for the calls that come over its connection, whatever else is asked over that: neither a
/// REGISTER without a token nor a refused one widens it.
#[test]
fn a_tokens_rights_outlive_refused_registrations() {
    let mut world = World::with(passwords(Auth::Token(TokenVerifier::hs256(SECRET))));
    world.two().habits = Habits::answering();
    world.websocket(ALICE, 7);
    let scoped =
        Claims { sub: "alice".into(), exp: EXPIRES, destinations: Some(vec!["+442079*".into()]), ..Claims::default() };
    let scoped = format!("Authorization: Bearer {}\r\n", sign_hs256(SECRET, &scoped));
    assert!(register(&mut world, ALICE, "alice", 1, &scoped).starts_with("SIP/2.0 200"));
    assert!(register(&mut world, ALICE, "alice", 2, "").starts_with("SIP/2.0 401"));
    let others = format!("Authorization: Bearer {}\r\n", token("bob"));
    assert!(register(&mut world, ALICE, "alice", 3, &others).starts_with("SIP/2.0 403"));
    world.peers.get_mut(&address(ALICE)).unwrap().habits = Habits::answering();
    let phone = world.trunk_calls("+442079460100", true);
    world.run(1_000);
    let session = world.peers[&address(ALICE)].only();
    world.with_peer(ALICE, |peer, now| {
        let to = ReferTo { uri: "sip:+443025550100@gateway.example".parse().unwrap(), replaces: None };
        peer.ua.refer(now, session, to, None).unwrap();
    });
    world.run(3_000);
    let referred = seen(&world, ALICE, session).referred;
    assert_eq!(referred.last(), Some(&403), "{referred:?}");
    assert!(world.two().sessions.is_empty(), "nobody else is called");
    world.with_peer(ONE, |peer, now| peer.ua.hangup(now, phone, None));
    world.run(1_000);
    world.finish();
}
