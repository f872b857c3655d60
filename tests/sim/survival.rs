//! Sessions that outlive their sockets: lost at every step of a call, taken up again, restarted, or never.

use std::time::Duration;

use ringback::call::SocketId;
use ringback::sdp::{BrowserMedia, MediaCommand, MediaLoss, MediaReport, Side};
use ringback::signal::{CallState, Course, ErrorCode, Party, PresentCall, ServerMessage};
use ringback::switch::{Command, Input, Originate, Reply, SwitchConfig, SwitchLimits};
use serde_json::json;

use crate::basic::code_of;
use crate::support::sdp::{another_offer, browser_offer, restarted_offer};
use crate::support::world::{GATEWAY, address, config};
use crate::support::{Habits, World, call, ended};

/// The secret of a page's last welcome.
fn secret(world: &mut World, socket: SocketId) -> String {
    let welcome = |message: &ServerMessage| match message {
        ServerMessage::Welcome { resume, .. } => resume.clone(),
        _ => None,
    };
    world.page(socket).heard.iter().rev().find_map(welcome).expect("a welcome with a secret")
}

/// A user's page says hello with a secret.
fn back(world: &mut World, socket: u64, user: &str, secret: &str) -> SocketId {
    let id = SocketId(socket);
    world.page(id);
    world.input(Input::SocketOpened { socket: id, peer: address("198.51.100.7:4000"), rings: true });
    world.say(id, &json!({"type": "hello", "user": user, "resume": secret}).to_string());
    id
}

/// The calls that a page was told of when it came back.
fn calls(world: &mut World, socket: SocketId) -> Option<Vec<PresentCall>> {
    let welcome = |message: &ServerMessage| match message {
        ServerMessage::Welcome { calls, .. } => Some(calls.clone()),
        _ => None,
    };
    world.page(socket).heard.iter().find_map(welcome).expect("a welcome")
}

/// The next thing happens, if there is one.
fn step(world: &mut World) {
    let _ = world.step();
}

fn restart(name: &str, sdp: &str) -> String {
    json!({"type": "restart", "call": name, "sdp": sdp}).to_string()
}

/// The browser's media in each plan of the only call.
fn browser_plans(world: &World) -> Vec<BrowserMedia> {
    let plan = |command: &MediaCommand| match command {
        MediaCommand::Start(plan) | MediaCommand::Update(plan) => plan.a.clone(),
        _ => None,
    };
    world.commands().iter().filter_map(plan).filter_map(|leg| leg.media.browser().cloned()).collect()
}

fn reload(world: &mut World, limits: SwitchLimits) {
    world.input(crate::reload::reload(SwitchConfig { limits, ..config(1) }));
}

fn answered() -> (World, SocketId) {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    (world, alice)
}

#[test]
fn an_answered_call_outlives_its_socket_and_goes_on_over_another() {
    let (mut world, alice) = answered();
    let secret = secret(&mut world, alice);
    world.lose(alice);
    world.run(29_000);
    let invites = world.sent(GATEWAY, "INVITE");
    let again = back(&mut world, 2, "alice", &secret);
    let told = calls(&mut world, again).expect("the session goes on");
    let [c1] = &told[..] else { panic!("{told:?}") };
    assert_eq!((c1.call.as_str(), c1.direction, c1.state), ("c1", Course::Out, CallState::Answered));
    assert_eq!((c1.id.as_str(), c1.remote.as_str()), (world.call_id().to_string().as_str(), "600"));
    assert!((29_000..30_000).contains(&c1.since_ms) && !c1.held_by_us && !c1.held_by_them, "{c1:?}");
    world.say(again, &restart("c1", &another_offer()));
    assert_eq!(world.page(again).story("c1"), ["answer"]);
    world.run(60_000);
    world.tell(again, "hangup", "c1");
    assert_eq!(world.page(again).ended("c1"), ended(Party::Us, "normal", None));
    assert_eq!(world.sent(GATEWAY, "INVITE"), invites, "the trunk is told nothing");
    world.finish();
    assert_eq!(world.cdr().cause, "normal");
}

#[test]
fn nobody_comes_back_and_the_call_ends_after_the_grace() {
    let (mut world, alice) = answered();
    world.lose(alice);
    world.run(29_900);
    assert_eq!(world.sent(GATEWAY, "BYE"), 0);
    world.run(200);
    assert_eq!(world.sent(GATEWAY, "BYE"), 1);
    world.finish();
    assert_eq!((world.cdr().cause.as_str(), world.switch.stats().sockets), ("browser-gone", 0));
}

#[test]
fn a_clean_end_a_bye_and_no_grace_at_all_end_the_calls_at_once() {
    let ends: [fn(&mut World, SocketId); 3] = [
        |world, alice| world.close(alice),
        |world, alice| world.say(alice, r#"{"type":"bye"}"#),
        |world, alice| {
            let limits = SwitchLimits { resume_within: Duration::ZERO, ..SwitchLimits::default() };
            reload(world, limits);
            world.lose(alice);
        },
    ];
    for end in ends {
        let (mut world, alice) = answered();
        end(&mut world, alice);
        world.run(10);
        assert_eq!((world.sent(GATEWAY, "BYE"), world.switch.stats().sockets), (1, 0));
        world.finish();
        assert_eq!(world.cdr().cause, "browser-gone");
    }
    let mut config = config(3);
    config.limits.resume_within = Duration::ZERO;
    let mut world = World::with(config);
    let alice = world.browser(1, "alice");
    let [ServerMessage::Welcome { resume: None, grace_ms: None, .. }] = &world.page(alice).heard[..] else { panic!() };
}

#[test]
fn a_page_that_leaves_for_a_moment_says_how_long() {
    let (mut world, alice) = answered();
    let secret = secret(&mut world, alice);
    world.say(alice, r#"{"type":"bye","within_ms":6000}"#);
    assert_eq!(world.page(alice).closed, Some(1000));
    world.run(5_900);
    let again = back(&mut world, 2, "alice", &secret);
    assert_eq!(calls(&mut world, again).unwrap().len(), 1);
    world.say(again, r#"{"type":"bye","within_ms":6000}"#);
    world.run(6_100);
    world.finish();
    assert_eq!(world.cdr().cause, "browser-gone");
}

#[test]
fn a_secret_is_its_users_and_opens_a_new_session_for_anybody_else() {
    let (mut world, alice) = answered();
    let secret = secret(&mut world, alice);
    world.lose(alice);
    for (socket, user, tried) in [(2, "bob", secret.as_str()), (3, "alice", "0123"), (4, "alice", "")] {
        let page = if tried.is_empty() { world.browser(socket, user) } else { back(&mut world, socket, user, tried) };
        assert_eq!(calls(&mut world, page), None);
        world.tell(page, "hangup", "c1");
        assert_eq!(world.page(page).heard.iter().filter_map(code_of).next_back(), Some(ErrorCode::UnknownCall));
    }
    let page = back(&mut world, 5, "alice", &secret);
    assert_eq!(calls(&mut world, page).unwrap().len(), 1);
    world.close(page);
    world.finish();
}

#[test]
fn a_session_is_taken_over_from_a_socket_that_is_open_still() {
    let (mut world, alice) = answered();
    let first = secret(&mut world, alice);
    let again = back(&mut world, 2, "alice", &first);
    assert_eq!(world.page(alice).closed, Some(4001));
    assert_eq!(calls(&mut world, again).unwrap().len(), 1);
    // What the old socket says and that it closes is nothing any more.
    world.tell(alice, "hangup", "c1");
    world.close(alice);
    assert_eq!(world.switch.stats().established, 1);
    // The welcome may have been lost: its predecessor is good until the new one is used.
    let third = back(&mut world, 3, "alice", &first);
    let second = secret(&mut world, third);
    let fourth = back(&mut world, 4, "alice", &second);
    assert_eq!((calls(&mut world, fourth).unwrap().len(), world.page(third).closed), (1, Some(4001)));
    let late = back(&mut world, 5, "alice", &first);
    assert_eq!(calls(&mut world, late), None);
    world.tell(fourth, "hangup", "c1");
    world.finish();
    assert_eq!(world.cdr().cause, "normal");
}

/// RFC 8839 section 4.4.1.1.1 and RFC 8842 section 5.5: an ICE restart keeps the association; another connection has its own.
#[test]
fn a_restart_keeps_what_the_connection_has_and_another_connection_begins_anew() {
    let (mut world, alice) = answered();
    let before = browser_plans(&world).pop().unwrap();
    world.say(alice, &restart("c1", &browser_offer()));
    assert_eq!(browser_plans(&world).pop().unwrap(), before, "the same offer again is no restart");
    world.say(alice, &restart("c1", &restarted_offer()));
    let restarted = browser_plans(&world).pop().unwrap();
    assert_eq!(
        restarted,
        BrowserMedia {
            local_ice: restarted.local_ice.clone(),
            remote_ice: restarted.remote_ice.clone(),
            ..before.clone()
        }
    );
    assert!(restarted.local_ice.ufrag != before.local_ice.ufrag && restarted.local_ice.pwd != before.local_ice.pwd);
    assert_eq!(restarted.remote_ice.ufrag, "9kQz");
    world.say(alice, &restart("c1", &another_offer()));
    let other = browser_plans(&world).pop().unwrap();
    assert!(other.ssrc != before.ssrc && other.cname == before.cname);
    assert!(other.fingerprints != before.fingerprints && other.local_ice != restarted.local_ice);
    for ice in [&before.local_ice, &restarted.local_ice, &other.local_ice] {
        assert_eq!(ice.mark(), 'M', "the lease's");
    }
    assert_eq!(
        (other.send, &other.accepted, other.telephone_event),
        (before.send, &before.accepted, before.telephone_event)
    );
    // The same certificate in another peer connection is another connection too.
    world.say(alice, &restart("c1", &another_offer().replace("7711", "7712")));
    assert!(browser_plans(&world).pop().unwrap().ssrc != other.ssrc, "{:?}", world.page(alice).heard.last());
    assert_eq!(world.page(alice).story("c1").iter().filter(|kind| *kind == "answer").count(), 5);
    world.tell(alice, "hangup", "c1");
    world.finish();
}

/// Codecs that we do not have.
fn offer_of_nothing_common() -> String {
    another_offer().replace("opus/48000/2", "speex/16000").replace("PCM", "XXX").replace("G722", "XXX")
}

#[test]
fn a_restart_that_cannot_be_is_one_error_and_changes_nothing() {
    let (mut world, alice) = answered();
    let plans = browser_plans(&world).len();
    world.say(alice, &restart("c1", "v=0\r\n"));
    world.say(alice, &restart("c1", &offer_of_nothing_common()));
    world.say(alice, &restart("c9", &another_offer()));
    let codes: Vec<ErrorCode> = world.page(alice).heard.iter().filter_map(code_of).collect();
    assert_eq!(codes, [ErrorCode::BadSdp, ErrorCode::BadSdp, ErrorCode::UnknownCall]);
    assert_eq!(browser_plans(&world).len(), plans);
    world.tell(alice, "hangup", "c1");
    let mut world = World::new();
    let alice = world.browser(1, "alice");
    world.trunk_calls("+442079460100", true);
    world.run(100);
    let name = world.page(alice).incoming().unwrap();
    world.say(alice, &restart(&name, &another_offer()));
    assert_eq!(world.page(alice).heard.iter().filter_map(code_of).next_back(), Some(ErrorCode::WrongState));
    world.tell(alice, "reject", &name);
    world.finish();
}

#[test]
fn what_rings_here_is_offered_again_and_can_be_taken() {
    let mut world = World::new();
    let alice = world.browser(1, "alice");
    world.trunk_calls("+442079460100", true);
    world.run(100);
    let name = world.page(alice).incoming().unwrap();
    let secret = secret(&mut world, alice);
    world.lose(alice);
    world.run(3_000);
    let again = back(&mut world, 2, "alice", &secret);
    let told = calls(&mut world, again).unwrap();
    assert_eq!(
        (told[0].call.as_str(), told[0].direction, told[0].state),
        (name.as_str(), Course::In, CallState::Incoming)
    );
    let heard = |world: &mut World, socket| {
        world.page(socket).heard.iter().find(|message| matches!(message, ServerMessage::Incoming { .. })).cloned()
    };
    assert_eq!(heard(&mut world, again), heard(&mut world, alice));
    world.accept(again);
    assert_eq!(world.page(again).story(&name), ["incoming", "answered"]);
    world.tell(again, "hangup", &name);
    world.finish();
    assert_eq!(world.cdr().cause, "normal");
}

#[test]
fn nothing_new_rings_in_a_session_that_waits() {
    let (mut world, alice) = answered();
    let secret = secret(&mut world, alice);
    world.lose(alice);
    world.trunk_calls("+442079460100", true);
    world.run(1_000);
    let again = back(&mut world, 2, "alice", &secret);
    assert_eq!(world.page(again).incoming(), None);
    world.tell(again, "hangup", "c1");
    world.finish();
}

#[test]
fn what_happened_meanwhile_is_told_after_the_welcome() {
    let (mut world, alice) = answered();
    let secret = secret(&mut world, alice);
    let call = world.call_id();
    world.lose(alice);
    world.input(Input::Media { call, report: MediaReport::Digit { from: Side::B, digit: '7', ms: 100 } });
    world.with_peer(crate::support::world::ONE, |peer, now| {
        let session = *peer.sessions.keys().next().unwrap();
        peer.ua.hangup(now, session, None);
    });
    world.run(1_000);
    let again = back(&mut world, 2, "alice", &secret);
    assert_eq!(calls(&mut world, again), Some(Vec::new()));
    assert_eq!(world.page(again).story("c1"), ["digit", "ended"]);
    assert_eq!(world.page(again).ended("c1"), ended(Party::Them, "normal", None));
    world.close(again);
    world.finish();
}

#[test]
fn media_that_is_lost_may_come_back_for_a_while() {
    for (loss, patience) in [(MediaLoss::ConsentExpired, 15_000), (MediaLoss::BrowserClosed, 2_000)] {
        let (mut world, alice) = answered();
        let id = world.call_id();
        world.connected(id, Side::A);
        world.lost(id, Side::A, loss);
        world.run(patience - 100);
        world.say(alice, &restart("c1", &restarted_offer()));
        world.run(20_000);
        assert_eq!(world.page(alice).ended("c1"), None, "{loss:?}: it came back");
        world.connected(id, Side::A);
        world.lost(id, Side::A, loss);
        world.run(patience + 100);
        assert!(world.page(alice).ended("c1").is_some(), "{loss:?}: it did not");
        world.finish();
    }
    // While the browser is away its session's time counts; when it is back it has time to restart.
    let (mut world, alice) = answered();
    let id = world.call_id();
    world.connected(id, Side::A);
    world.lost(id, Side::A, MediaLoss::BrowserClosed);
    let secret = secret(&mut world, alice);
    world.lose(alice);
    world.run(29_000);
    let again = back(&mut world, 2, "alice", &secret);
    world.run(14_000);
    assert_eq!(world.page(again).ended("c1"), None);
    world.run(2_000);
    assert_eq!(world.page(again).ended("c1"), ended(Party::Us, "normal", None));
    world.finish();
}

/// The socket is lost after each step of a call out, and the browser is back after some more, or never; the phone answers,
/// refuses, or hangs up by itself. Whatever crosses: one record, nothing left, and each page has one end of its call at most.
#[test]
fn a_call_out_survives_the_loss_of_its_socket_at_every_step() {
    let habits: [fn() -> Habits; 2] = [Habits::answering, || Habits::refusing(486)];
    for (which, habit) in habits.into_iter().enumerate() {
        for steps in 0..40 {
            for away in [0, 3, 12, 10_000] {
                let mut world = World::where_one(habit());
                let alice = world.browser(1, "alice");
                let secret = secret(&mut world, alice);
                world.say(alice, &call("c1", "600"));
                (0..steps).for_each(|_| step(&mut world));
                world.lose(alice);
                if away < 10_000 {
                    (0..away).for_each(|_| step(&mut world));
                    let again = back(&mut world, 2, "alice", &secret);
                    let told = calls(&mut world, again).unwrap_or_default();
                    if let Some(c1) = told.first() {
                        world.say(again, &restart(&c1.call, &another_offer()));
                        world.run(3_000);
                        world.tell(again, "hangup", "c1");
                    }
                    world.run(1_000);
                    let told_end = world.page(again).ended("c1").is_some();
                    assert!(told_end || world.switch.stats().calls == 0, "{which} {steps} {away}: {}", world.story());
                    assert!(told_end || told.is_empty(), "{which} {steps} {away}: no end was told");
                    world.close(again);
                }
                world.finish();
                world.cdr();
            }
        }
    }
}

#[test]
fn a_call_in_survives_the_loss_of_its_socket_at_every_step() {
    for steps in 0..40 {
        for away in [0, 2, 9, 10_000] {
            let mut world = World::new();
            let alice = world.browser(1, "alice");
            world.page(alice).accept_after = Some(20);
            let secret = secret(&mut world, alice);
            world.trunk_calls("+442079460100", true);
            (0..steps).for_each(|_| step(&mut world));
            world.lose(alice);
            if away < 10_000 {
                (0..away).for_each(|_| step(&mut world));
                let again = back(&mut world, 2, "alice", &secret);
                for present in calls(&mut world, again).unwrap_or_default() {
                    match present.state {
                        CallState::Incoming => world.accept(again),
                        _ => world.say(again, &restart(&present.call, &another_offer())),
                    }
                    assert_eq!(world.page(again).errors(), 0, "{steps} {away}");
                    world.run(1_000);
                    world.tell(again, "hangup", &present.call);
                }
                world.run(100);
                world.close(again);
            }
            world.finish();
        }
    }
}

#[test]
fn a_session_that_waits_goes_through_a_reload_and_a_drain() {
    let (mut world, alice) = answered();
    let secret = secret(&mut world, alice);
    world.lose(alice);
    reload(&mut world, SwitchLimits::default());
    world.input(Input::Drain);
    world.run(1_000);
    assert_eq!(world.idle, 0, "its call goes on");
    let again = back(&mut world, 2, "alice", &secret);
    assert_eq!(calls(&mut world, again).unwrap().len(), 1);
    assert!(world.page(again).heard.contains(&ServerMessage::Draining {}));
    world.say(again, &restart("c1", &another_offer()));
    assert_eq!(world.page(again).story("c1"), ["answer"]);
    world.input(Input::HangupAll);
    assert_eq!(world.page(again).ended("c1"), ended(Party::Gateway, "shutdown", Some(503)));
    world.run(1_000);
    assert_eq!(world.idle, 1);
    world.finish();
}

#[test]
fn sessions_that_wait_do_not_keep_their_user_out() {
    let mut config = config(4);
    config.limits.sockets_per_user = 2;
    let mut world = World::with(config);
    world.one().habits = Habits::refusing(486);
    for socket in 1..8 {
        let page = world.browser(socket, "alice");
        world.say(page, &call("c1", "600"));
        world.until(page, "c1", "ended");
        world.lose(page);
    }
    assert!(world.switch.stats().waiting <= 2);
    world.finish();
    assert_eq!(world.switch.stats().sockets, 0);
}

#[test]
fn a_session_is_taken_up_again_in_a_full_house() {
    let mut config = config(1);
    config.limits.sockets = 2;
    let mut world = World::with(config);
    world.one().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    let secret = secret(&mut world, alice);
    world.lose(alice);
    world.browser(2, "bob");
    let again = back(&mut world, 3, "alice", &secret);
    assert_eq!(calls(&mut world, again).unwrap().len(), 1);
    let fourth = SocketId(4);
    world.page(fourth);
    world.input(Input::SocketOpened { socket: fourth, peer: address("198.51.100.7:4000"), rings: true });
    assert_eq!(world.page(fourth).closed, Some(1013), "two sockets are open");
    world.tell(again, "hangup", "c1");
    world.finish();
}

/// The transport of before is reported lost, or up, after the browser's new offer was answered: nothing of the new one.
#[test]
fn reports_of_an_old_transport_that_cross_a_restart_are_not_taken_for_the_new_ones() {
    for offer in [restarted_offer(), another_offer()] {
        let (mut world, alice) = answered();
        let id = world.call_id();
        let old = world.transport(id, Side::A).unwrap();
        world.say(alice, &restart("c1", &offer));
        assert_ne!(world.transport(id, Side::A).unwrap(), old);
        for loss in [MediaLoss::IceTimeout, MediaLoss::FingerprintMismatch, MediaLoss::BrowserClosed] {
            let report = MediaReport::Lost { side: Side::A, transport: old.clone(), loss };
            world.input(Input::Media { call: id, report });
        }
        world.run(20_000);
        assert_eq!(world.page(alice).ended("c1"), None, "the new one has not failed");
        // Nor is the new one up since the old one was: one that never comes up is not waited for.
        world.input(Input::Media { call: id, report: MediaReport::Connected { side: Side::A, transport: old } });
        world.lost(id, Side::A, MediaLoss::IceTimeout);
        assert!(world.page(alice).ended("c1").is_some());
        world.finish();
    }
}

/// Each costs a handshake: ten at once, and one more every ten seconds.
#[test]
fn a_call_is_restarted_only_so_often() {
    let (mut world, alice) = answered();
    let answers = |world: &mut World| {
        let heard = world.page(alice).heard.iter();
        heard.filter(|message| matches!(message, ServerMessage::Answer { .. })).count()
    };
    for _ in 0..30 {
        world.say(alice, &restart("c1", &another_offer()));
    }
    assert_eq!((world.page(alice).errors(), answers(&mut world)), (20, 11));
    let refused = world.page(alice).heard.iter().filter_map(|message| match message {
        ServerMessage::Error { code, call, .. } => Some((*code, call.as_deref())),
        _ => None,
    });
    assert!(refused.clone().count() == 20 && refused.clone().all(|it| it == (ErrorCode::TooOften, Some("c1"))));
    world.run(20_000);
    for _ in 0..5 {
        world.say(alice, &restart("c1", &another_offer()));
    }
    assert_eq!(answers(&mut world), 13);
    assert_eq!(world.page(alice).ended("c1"), None);
    world.tell(alice, "hangup", "c1");
    world.finish();
}

#[test]
fn a_restart_that_is_refused_leaves_the_media_its_time() {
    let (mut world, alice) = answered();
    let id = world.call_id();
    world.connected(id, Side::A);
    world.say(alice, &restart("c1", &offer_of_nothing_common()));
    assert_eq!(world.page(alice).errors(), 1);
    world.lost(id, Side::A, MediaLoss::ConsentExpired);
    world.run(10_000);
    assert_eq!(world.page(alice).ended("c1"), None, "the connection that was up is waited for");
    world.run(6_000);
    assert!(world.page(alice).ended("c1").is_some());
    world.finish();
}

#[test]
fn a_browser_that_was_rung_first_finds_its_call_answered() {
    let mut world = World::where_one(Habits::ringing());
    let alice = world.browser(1, "alice");
    let wish = Originate { user: "alice".into(), to: "600".into(), from: None, name: None, ring_for: None };
    assert!(matches!(world.command(Command::Originate(wish)), Reply::Call(_)));
    world.run(20);
    world.accept(alice);
    world.run(200);
    let secret = secret(&mut world, alice);
    world.lose(alice);
    let again = back(&mut world, 2, "alice", &secret);
    let told = calls(&mut world, again).unwrap();
    assert_eq!(told.iter().map(|call| call.state).collect::<Vec<_>>(), [CallState::Answered]);
    let name = told[0].call.clone();
    world.tell(again, "hangup", &name);
    world.finish();
}
