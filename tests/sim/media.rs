//! Hold, digits, re-offers: what changes in a call while it lasts.

use ringback::sdp::{Direction, Hears, MediaCommand, MediaReport, Side};
use ringback::signal::{ErrorCode, Holder, ServerMessage};
use ringback::sip::{Body, Message, Method, Request};
use ringback::switch::{DtmfMethod, Input};
use serde_json::json;

use crate::basic::code_of;
use crate::support::raw::{Raw, in_dialog, local, reply};
use crate::support::world::rtp;
use crate::support::world::{GATEWAY, ONE, address, config};
use crate::support::{Habits, World, call};
use ringback::call::SocketId;

fn talking() -> (World, SocketId) {
    talking_over(DtmfMethod::Rfc4733)
}

fn talking_over(dtmf: DtmfMethod) -> (World, SocketId) {
    let mut config = config(5);
    config.trunks[0].dtmf = dtmf;
    let mut world = World::with(config);
    world.one().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    world.run(500);
    (world, alice)
}

fn hang_up(mut world: World, alice: SocketId) -> World {
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.cdr().cause, "normal");
    world
}

fn direction(world: &World) -> Direction {
    let plan = world.commands().iter().rev().find_map(|command| match command {
        MediaCommand::Start(plan) | MediaCommand::Update(plan) => Some(plan),
        _ => None,
    });
    plan.unwrap().b.as_ref().unwrap().media.direction()
}

fn holds(world: &mut World, alice: SocketId) -> Vec<(Holder, bool)> {
    let held = world.page(alice).heard.iter().filter_map(|message| match message {
        ServerMessage::Held { by, on, .. } => Some((*by, *on)),
        _ => None,
    });
    held.collect()
}

fn hold(world: &mut World, alice: SocketId, on: bool) {
    world.say(alice, &json!({"type": "hold", "call": "c1", "on": on}).to_string());
}

#[test]
fn the_browser_holds_and_resumes() {
    let (mut world, alice) = talking();
    hold(&mut world, alice, true);
    world.run(500);
    assert_eq!(direction(&world), Direction::SendOnly);
    hold(&mut world, alice, false);
    world.run(500);
    assert_eq!(direction(&world), Direction::SendRecv);
    assert_eq!(holds(&mut world, alice), [(Holder::Us, true), (Holder::Us, false)]);
    let offers = world.one().sessions.values().next().unwrap().reoffers.clone();
    assert!(offers[0].contains("a=sendonly") && offers[1].contains("a=sendrecv"), "{offers:?}");
    let version =
        |text: &str| text.lines().find(|line| line.starts_with("o=")).unwrap().split(' ').nth(2).unwrap().to_owned();
    assert_eq!((version(&offers[0]), version(&offers[1])), ("2".into(), "3".into()));
    hang_up(world, alice);
}

#[test]
fn quick_changes_of_mind_end_in_the_last_wish() {
    let (mut world, alice) = talking();
    for on in [true, false, true] {
        hold(&mut world, alice, on);
    }
    world.run(3000);
    assert_eq!(direction(&world), Direction::SendOnly);
    assert_eq!(holds(&mut world, alice).last(), Some(&(Holder::Us, true)));
    hang_up(world, alice);
}

#[test]
fn the_trunk_holds_and_resumes() {
    let (mut world, alice) = talking();
    let session = world.one().only();
    for (theirs, ours, held) in [
        (Direction::SendOnly, Direction::RecvOnly, true),
        (Direction::Inactive, Direction::Inactive, true),
        (Direction::SendRecv, Direction::SendRecv, false),
    ] {
        world.with_peer(ONE, |peer, now| {
            let offer = peer.offer(theirs);
            peer.ua.reoffer(now, session, offer).unwrap();
        });
        world.run(500);
        assert_eq!(direction(&world), ours);
        assert_eq!(holds(&mut world, alice).last(), Some(&(Holder::Them, held)));
    }
    assert_eq!(holds(&mut world, alice).len(), 2, "told once each");
    hang_up(world, alice);
}

#[test]
fn both_hold_and_hold_crosses_hold() {
    for ms in 0..8 {
        let (mut world, alice) = talking();
        let session = world.one().only();
        hold(&mut world, alice, true);
        world.run(ms);
        world.with_peer(ONE, |peer, now| {
            let offer = peer.offer(Direction::SendOnly);
            let _ = peer.ua.reoffer(now, session, offer);
        });
        world.run(10_000);
        let all = holds(&mut world, alice);
        assert!(all.contains(&(Holder::Us, true)), "{ms}: {all:?}\n{}", world.story());
        hang_up(world, alice);
    }
}

/// The direction in the last description that the gateway sent in a message which begins so.
fn last_direction(world: &World, beginning: &str) -> String {
    let sent = world.wire.iter().rev().filter(|(from, text)| *from == address(GATEWAY) && text.starts_with(beginning));
    let named = sent.flat_map(|(_, text)| text.lines()).find_map(|line| {
        let direction = line.strip_prefix("a=")?;
        Direction::from_attribute(direction).map(|_| direction.to_owned())
    });
    named.expect("a description")
}

/// RFC 3264 section 6.1, held by us and not: `sendonly` is answered `recvonly`, never `sendrecv`.
#[test]
fn every_direction_is_answered_as_rfc_3264_says_also_while_we_hold() {
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    let table = [
        (false, SendRecv, "sendrecv"),
        (false, SendOnly, "recvonly"),
        (false, RecvOnly, "sendonly"),
        (false, Inactive, "inactive"),
        (true, SendRecv, "sendonly"),
        (true, SendOnly, "inactive"),
        (true, RecvOnly, "sendonly"),
        (true, Inactive, "inactive"),
    ];
    for (held, offered, answered) in table {
        let (mut world, alice) = talking();
        if held {
            hold(&mut world, alice, true);
            world.run(100);
            assert_eq!(last_direction(&world, "INVITE"), "sendonly");
        }
        let session = world.one().only();
        world.with_peer(ONE, |peer, now| {
            let offer = peer.offer(offered);
            peer.ua.reoffer(now, session, offer).unwrap();
        });
        world.run(100);
        assert_eq!(last_direction(&world, "SIP/2.0 200"), answered, "{held} {offered}");
        let hears = crate::people::hears(&world, world.call_id(), Side::A);
        // A peer that wants to hear nothing holds: what it plays itself is heard, or our tone.
        let wants_nothing = !offered.receives();
        let expected = match (wants_nothing, held) {
            (true, _) => Hears::PeerOrMusic,
            (false, true) => Hears::Nothing,
            (false, false) => Hears::Peer,
        };
        assert_eq!(hears, expected, "{held} {offered}");
        hang_up(world, alice);
    }
}

/// Held by the trunk, the browser holds too: `inactive`; and takes it back: `sendrecv`, which the trunk answers as it likes.
#[test]
fn a_hold_of_one_who_is_held_is_inactive() {
    let (mut world, alice) = talking();
    let session = world.one().only();
    world.with_peer(ONE, |peer, now| {
        let offer = peer.offer(Direction::SendOnly);
        peer.ua.reoffer(now, session, offer).unwrap();
    });
    world.run(100);
    hold(&mut world, alice, true);
    world.run(100);
    assert_eq!(last_direction(&world, "INVITE"), "inactive");
    hold(&mut world, alice, false);
    world.run(100);
    assert_eq!(last_direction(&world, "INVITE"), "sendrecv");
    hang_up(world, alice);
}

#[test]
fn digits_go_in_rtp_or_in_info_as_the_trunk_wants() {
    let digits = json!({"type": "digits", "call": "c1", "digits": "12#", "ms": 100}).to_string();
    let (mut world, alice) = talking();
    world.say(alice, &digits);
    let expected = MediaCommand::Digits { to: Side::B, digits: "12#".into(), ms: 100 };
    assert_eq!(world.commands().last(), Some(&expected));
    hang_up(world, alice);

    let (mut world, alice) = talking_over(DtmfMethod::Info);
    world.say(alice, &digits);
    world.run(100);
    assert_eq!(world.one().sessions.values().next().unwrap().infos.len(), 1, "one after the other");
    world.run(900);
    let infos = world.one().sessions.values().next().unwrap().infos.clone();
    assert_eq!(infos, ["1", "2", "#"].map(|digit| format!("Signal={digit}\r\nDuration=100\r\n")));
    // pressed in the browser's own media
    let call = world.call_id();
    world.input(Input::Media { call, report: MediaReport::Digit { from: Side::A, digit: '9', ms: 2000 } });
    world.run(500);
    assert_eq!(world.one().sessions.values().next().unwrap().infos[3], "Signal=9\r\nDuration=250\r\n");
    hang_up(world, alice);
}

#[test]
fn digits_of_the_trunk_reach_the_browser() {
    let (mut world, alice) = talking();
    let session = world.one().only();
    world.with_peer(ONE, |peer, now| {
        let body =
            Body { content_type: "application/dtmf-relay".into(), bytes: b"Signal=5\r\nDuration=160\r\n".to_vec() };
        peer.ua.info(now, session, body).unwrap();
    });
    world.run(100);
    let expected = MediaCommand::Digits { to: Side::A, digits: "5".into(), ms: 160 };
    assert_eq!(world.commands().last(), Some(&expected));
    let call = world.call_id();
    world.input(Input::Media { call, report: MediaReport::Digit { from: Side::B, digit: '7', ms: 100 } });
    let heard: Vec<char> = world
        .page(alice)
        .heard
        .iter()
        .filter_map(|message| match message {
            ServerMessage::Digit { digit, .. } => Some(*digit),
            _ => None,
        })
        .collect();
    assert_eq!(heard, ['5', '7']);
    hang_up(world, alice);
}

/// What the trunk does to press a key.
#[derive(Clone, Copy, Debug)]
enum Key {
    /// It sends an INFO.
    Info(char),
    /// A telephone-event of it begins.
    Began,
    /// It ends, after so many milliseconds.
    Ended(char, u16),
}

fn press_keys(world: &mut World, keys: &[Key]) {
    let (session, call) = (world.one().only(), world.call_id());
    for key in keys {
        match key {
            Key::Began => world.input(Input::Media { call, report: MediaReport::EventBegan(Side::B) }),
            Key::Ended(digit, ms) => {
                let report = MediaReport::Digit { from: Side::B, digit: *digit, ms: *ms };
                world.input(Input::Media { call, report });
            }
            Key::Info(digit) => world.with_peer(ONE, |peer, now| {
                let bytes = format!("Signal={digit}\r\nDuration=160\r\n").into_bytes();
                peer.ua.info(now, session, Body { content_type: "application/dtmf-relay".into(), bytes }).unwrap();
            }),
        }
        world.run(200);
    }
}

/// There are phones that send each press in RTP and in INFO: it is one digit, in whatever order they come.
#[test]
fn a_digit_that_the_trunk_sends_in_rtp_and_in_info_is_one() {
    use Key::{Began, Ended, Info};
    for (keys, told, played) in [
        (vec![Began, Ended('5', 100), Info('5'), Began, Info('5'), Ended('5', 100)], "55", 0),
        // The media path knows of an INFO that comes first, and does not send its event on.
        (vec![Info('5'), Began, Ended('5', 100), Info('5'), Began, Ended('5', 100)], "55", 1),
        (vec![Began, Info('8'), Ended('8', 5_000)], "8", 0),
        (vec![Info('8'), Began, Ended('8', 3_000)], "8", 1),
        (vec![Info('5'), Info('5'), Info('8')], "558", 3),
        (vec![Began, Ended('5', 100), Began, Ended('5', 100)], "55", 0),
        // A tone, which may have been speech, and then a key.
        (vec![Ended('5', 60), Info('5')], "55", 1),
    ] {
        let (mut world, alice) = talking();
        press_keys(&mut world, &keys);
        let digit = |message: &ServerMessage| match message {
            ServerMessage::Digit { digit, .. } => Some(*digit),
            _ => None,
        };
        assert_eq!(world.page(alice).heard.iter().filter_map(digit).collect::<String>(), told, "{keys:?}");
        let digits = |command: &&MediaCommand| matches!(command, MediaCommand::Digits { .. });
        assert_eq!(world.commands().iter().filter(digits).count(), played, "{keys:?}");
        hang_up(world, alice);
    }
}

#[test]
fn a_hold_that_the_trunk_refuses_leaves_the_call_as_it_was() {
    let (mut world, alice) = talking();
    world.one().habits.refuse_reoffers = Some(488);
    hold(&mut world, alice, true);
    world.run(1000);
    let codes: Vec<ErrorCode> = world.page(alice).heard.iter().filter_map(code_of).collect();
    assert_eq!((codes, holds(&mut world, alice).len()), (vec![ErrorCode::WrongState], 0));
    assert_eq!(direction(&world), Direction::SendRecv);
    hang_up(world, alice);
}

/// Answers with port 5000; when acknowledged sends a re-INVITE without a description, and answers our offer in the ACK.
fn wants_an_offer() -> impl FnMut(&Message) -> Vec<Message> {
    let mut first: Option<Request> = None;
    move |message| match message {
        Message::Request(request) => match (&request.method, &first) {
            (Method::Invite, _) => {
                first = Some(request.clone());
                vec![reply(request, 200, "a", Some(5000))]
            }
            (Method::Ack, Some(invite)) => {
                let mut again = in_dialog(invite, Method::Invite, "a", 1);
                if let Message::Request(again) = &mut again {
                    again.headers.push("Contact", "<sip:raw@192.0.2.9:5060>");
                }
                vec![again]
            }
            _ => vec![Message::Response(request.response(200, "OK"))],
        },
        Message::Response(response) if response.status == 200 && !response.body.is_empty() => {
            let offer = String::from_utf8(response.body.clone()).unwrap();
            assert!(
                offer.contains("m=audio") && offer.contains("PCMU") && offer.contains("PCMA"),
                "a full offer: {offer}"
            );
            let mut ack = in_dialog(first.as_ref().unwrap(), Method::Ack, "a", 1);
            if let Message::Request(ack) = &mut ack {
                ack.headers.push("Content-Type", "application/sdp");
                ack.body = ringback::sdp::trunk::answer(&local(7000), &response.body).unwrap().0.into_bytes();
            }
            vec![ack]
        }
        Message::Response(_) => Vec::new(),
    }
}

#[test]
fn a_re_invite_without_a_description_gets_our_offer_and_the_browser_is_not_touched() {
    let mut world = World::new();
    world.script(Raw::new(address(ONE), wants_an_offer()));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.run(2000);
    let MediaCommand::Update(plan) = world.commands().last().unwrap() else { panic!("{:?}", world.commands()) };
    assert_eq!(rtp(plan, Side::B).remote_rtp.unwrap().port(), 7000, "{}", world.story());
    assert_eq!(world.page(alice).story("c1"), ["answer", "answered"]);
    hang_up(world, alice);
}

#[test]
fn a_re_invite_that_is_never_answered_goes_with_its_call() {
    let mut invites = 0;
    let script = move |message: &Message| match message {
        Message::Request(request) if request.method == Method::Invite => {
            invites += 1;
            let status = if invites == 1 { 200 } else { 100 };
            vec![reply(request, status, "a", (status == 200).then_some(5000))]
        }
        Message::Request(request) if request.method != Method::Ack => {
            vec![Message::Response(request.response(200, "OK"))]
        }
        _ => Vec::new(),
    };
    let mut world = World::new();
    world.script(Raw::new(address(ONE), script));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    hold(&mut world, alice, true);
    world.run(40_000);
    assert_eq!(holds(&mut world, alice), []);
    hang_up(world, alice);
}

/// The browser is answered before its trunk says what it takes: by what the trunk is configured for (decision 0008).
#[test]
fn what_is_asked_of_the_browsers_opus_follows_the_trunks_codecs() {
    use ringback::codec::Codec::{G722, Opus, Pcma, Pcmu};
    for (codecs, asked) in [
        (vec![Pcmu, Pcma], ";maxplaybackrate=8000;sprop-maxcapturerate=8000;maxaveragebitrate=24000\r\n"),
        (vec![G722, Pcmu], ";maxplaybackrate=16000;sprop-maxcapturerate=16000;maxaveragebitrate=32000\r\n"),
        (vec![Opus, G722, Pcmu], ";useinbandfec=1;maxaveragebitrate=32000\r\n"),
    ] {
        let mut config = config(5);
        config.trunks[0].codecs = codecs;
        let mut world = World::with(config);
        world.one().habits = Habits::answering();
        let alice = world.browser(1, "alice");
        world.say(alice, &call("c1", "600"));
        world.run(500);
        let answer = world.page(alice).heard.iter().find_map(|message| match message {
            ServerMessage::Answer { sdp, .. } => Some(sdp.clone()),
            _ => None,
        });
        assert!(answer.as_ref().unwrap().contains(asked), "{answer:?}");
    }
}
