//! Probes: a browser tries the way to the gateway, and nobody is called.

use std::time::Duration;

use ringback::call::SocketId;
use ringback::codec::Codec;
use ringback::sdp::{CallQuality, FlowQuality, Hears, LegQuality, MediaCommand, MediaLoss, MediaReport, Mos, Side};
use ringback::signal::{ErrorCode, Grade, Party, ServerMessage};
use ringback::switch::{Command, Input, LeaseRefusal, PROBE_ROOM, Reply, SwitchConfig, SwitchLimits};
use serde_json::json;

use crate::basic::code_of;
use crate::support::sdp::{browser_offer, restarted_offer};
use crate::support::world::{GATEWAY, address, config};
use crate::support::{Habits, World, call, ended};

fn probe(name: &str) -> String {
    json!({"type": "probe", "call": name, "sdp": browser_offer()}).to_string()
}

/// Alice's probe p1, answered.
fn begun() -> (World, SocketId) {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.probes = 1;
    world.say(alice, &probe("p1"));
    world.until(alice, "p1", "answer");
    (world, alice)
}

/// The same with its media up.
fn up() -> (World, SocketId) {
    let (mut world, alice) = begun();
    let id = world.call_id();
    world.connected(id, Side::A);
    world.until(alice, "p1", "answered");
    (world, alice)
}

fn report(world: &mut World, report: MediaReport) {
    let call = world.call_id();
    world.input(Input::Media { call, report });
}

/// A second of the browser's leg alone.
fn second(mos: f32) -> MediaReport {
    let flow = |delay_ms, mos| {
        let (codec, mos) = (Codec::Opus, Mos::new(mos));
        Some(FlowQuality { codec, loss_permille: 12, jitter_ms: 3, concealed_ms: None, buffer_ms: None, delay_ms, mos })
    };
    let a = LegQuality { inbound: flow(40, 4.4), outbound: flow(70, mos), rtt_ms: Some(9), ..LegQuality::NONE };
    MediaReport::Quality(CallQuality { a, b: LegQuality::NONE })
}

fn errors(world: &mut World, socket: SocketId) -> Vec<ErrorCode> {
    world.page(socket).heard.iter().filter_map(code_of).collect()
}

/// Nothing of a probe is anywhere but in the browser.
fn nobody_knows(world: &World) {
    assert_eq!((world.wire.len(), world.cdrs.len(), world.noticed(None).len()), (0, 0, 0));
}

#[test]
fn a_probe_is_answered_heard_measured_and_over_after_ten_seconds() {
    let (mut world, alice) = begun();
    assert_eq!(world.page(alice).story("p1"), ["answer"]);
    report(&mut world, second(4.4));
    assert_eq!(world.page(alice).story("p1"), ["answer"], "no sound yet, no word of it");
    let id = world.call_id();
    world.connected(id, Side::A);
    for mos in [4.4, 4.1, 3.9, 2.0] {
        world.run(1000);
        report(&mut world, second(mos));
    }
    let [MediaCommand::Start(plan)] = world.commands() else { panic!("{:?}", world.commands()) };
    assert!(plan.a.as_ref().is_some_and(|leg| leg.hears == Hears::Comfort) && plan.b.is_none());
    let grades: Vec<Grade> = world.page(alice).heard.iter().filter_map(grade_of).collect();
    assert_eq!(grades, [Grade::Excellent, Grade::Good, Grade::Fair, Grade::Poor]);
    let last = world.page(alice).heard.iter().rev().find(|message| grade_of(message).is_some()).cloned();
    let Some(ServerMessage::Quality { delay_ms, down, up, trunk_down, trunk_up, .. }) = last else { panic!() };
    assert_eq!((delay_ms, trunk_down, trunk_up), (Some(70), None, None));
    assert_eq!((down.unwrap().mos, up.unwrap().loss_pct), (2.0, 1.2));
    world.run(5_990);
    assert_eq!(world.page(alice).ended("p1"), None);
    world.run(10);
    assert_eq!(world.page(alice).ended("p1"), ended(Party::Gateway, "normal", None));
    assert!(world.elapsed_ms() <= 10_010);
    world.finish();
    nobody_knows(&world);
}

fn grade_of(message: &ServerMessage) -> Option<Grade> {
    match message {
        ServerMessage::Quality { grade, .. } => Some(*grade),
        _ => None,
    }
}

#[test]
fn a_probe_is_no_call() {
    let (mut world, alice) = up();
    let stats = world.switch.stats();
    assert_eq!((stats.calls, stats.established, stats.probes), (0, 0, 1));
    let Reply::Calls(calls) = world.command(Command::List) else { panic!() };
    assert!(calls.is_empty());
    let id = world.call_id();
    assert!(matches!(world.command(Command::Inspect(id)), Reply::Refused(_)));
    assert!(matches!(world.command(Command::Hangup(id)), Reply::Refused(_)));
    for message in [
        json!({"type": "hold", "call": "p1", "on": true}),
        json!({"type": "digits", "call": "p1", "digits": "1"}),
        json!({"type": "transfer", "call": "p1", "to": "600"}),
        json!({"type": "accept", "call": "p1", "sdp": browser_offer()}),
        json!({"type": "reject", "call": "p1"}),
    ] {
        world.say(alice, &message.to_string());
    }
    assert_eq!(errors(&mut world, alice), [ErrorCode::WrongState; 5]);
    world.say(alice, &json!({"type": "candidate", "call": "p1", "candidate": "", "mid": "0"}).to_string());
    world.say(alice, &json!({"type": "restart", "call": "p1", "sdp": restarted_offer()}).to_string());
    assert_eq!(world.page(alice).story("p1").last().unwrap(), "answer");
    assert!(matches!(world.commands().last(), Some(MediaCommand::Update(_))));
    world.say(alice, &json!({"type": "feedback", "id": id.to_string(), "score": 5}).to_string());
    world.tell(alice, "hangup", "p1");
    world.say(alice, &json!({"type": "feedback", "id": id.to_string(), "score": 5}).to_string());
    assert_eq!(world.page(alice).ended("p1"), ended(Party::Us, "normal", None));
    world.finish();
    nobody_knows(&world);
}

#[test]
fn it_ends_with_the_hangup_the_bye_the_socket_and_the_media_at_every_step() {
    type End = fn(&mut World, SocketId);
    let ends: [(End, Option<&str>); 8] = [
        (|world, alice| world.tell(alice, "hangup", "p1"), Some("normal")),
        (|world, alice| world.say(alice, r#"{"type":"bye"}"#), None),
        (|world, alice| world.say(alice, r#"{"type":"bye","within_ms":6000}"#), None),
        (|world, alice| world.lose(alice), None),
        (|world, alice| world.close(alice), None),
        (|world, _| world.input(Input::HangupAll), Some("shutdown")),
        (|world, _| report(world, MediaReport::Failed), Some("media-lost")),
        (
            |world, _| {
                let id = world.call_id();
                match world.transport(id, Side::A) {
                    Some(_) => world.lost(id, Side::A, MediaLoss::IceTimeout),
                    // Before there is one nothing of it can be lost.
                    None => report(world, MediaReport::Failed),
                }
            },
            Some("media-lost"),
        ),
    ];
    for (end, cause) in ends {
        for step in 0..3 {
            let (mut world, alice) = match step {
                0 => {
                    let mut world = World::new();
                    let alice = world.browser(1, "alice");
                    world.probes = 1;
                    world.say(alice, &probe("p1"));
                    (world, alice)
                }
                1 => begun(),
                _ => up(),
            };
            end(&mut world, alice);
            let told = world.page(alice).ended("p1").map(|(_, cause, _)| cause);
            assert_eq!(told.as_deref(), cause, "step {step}");
            world.run(20);
            let stats = world.switch.stats();
            let sockets = usize::from(cause.is_some());
            assert_eq!((stats.probes, stats.sockets, stats.waiting), (0, sockets, 0), "step {step}");
            world.finish();
            nobody_knows(&world);
        }
    }
}

#[test]
fn a_session_that_goes_on_elsewhere_goes_on_without_its_probe() {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    world.say(alice, &probe("p1"));
    world.until(alice, "p1", "answer");
    world.probes = 1;
    let secret = world.page(alice).heard.iter().find_map(|message| match message {
        ServerMessage::Welcome { resume, .. } => resume.clone(),
        _ => None,
    });
    let again = SocketId(2);
    world.page(again);
    world.input(Input::SocketOpened { socket: again, peer: address("198.51.100.7:4000"), rings: true });
    world.say(again, &json!({"type": "hello", "user": "alice", "resume": secret.unwrap()}).to_string());
    let told = world.page(again).heard.iter().find_map(|message| match message {
        ServerMessage::Welcome { calls: Some(calls), .. } => Some(calls.len()),
        _ => None,
    });
    assert_eq!((told, world.page(again).story("p1").len()), (Some(1), 0), "the call, and no probe");
    world.run(20);
    assert_eq!((world.switch.stats().probes, world.switch.stats().calls), (0, 1));
    world.tell(again, "hangup", "c1");
    world.finish();
    assert_eq!(world.cdrs.len(), 1);
}

#[test]
fn media_that_never_comes_up_or_is_not_there_says_so() {
    let (mut world, alice) = begun();
    world.run(10_000);
    assert_eq!(world.page(alice).ended("p1"), ended(Party::Network, "media-lost", Some(500)));
    world.finish();
    let (mut world, alice) = up();
    world.stop_after = None;
    let id = world.call_id();
    world.lost(id, Side::A, MediaLoss::BrowserClosed);
    assert_eq!(world.page(alice).ended("p1"), ended(Party::Us, "normal", None));
    world.finish();
    let mut world = World::new();
    let alice = world.browser(1, "alice");
    world.lease_after = None;
    world.say(alice, &probe("p1"));
    world.run(10);
    assert_eq!(world.page(alice).ended("p1"), ended(Party::Gateway, "no-resources", Some(503)));
    // A lease that comes too late goes back.
    world.lease_after = Some(6_000);
    world.say(alice, &probe("p2"));
    world.run(5_000);
    assert_eq!(world.page(alice).ended("p2"), ended(Party::Gateway, "no-resources", Some(503)));
    world.probes = 1;
    world.finish();
    nobody_knows(&world);
}

#[test]
fn a_session_has_one_at_a_time_under_a_name_of_its_own() {
    let (mut world, alice) = up();
    world.say(alice, &probe("p1"));
    world.say(alice, &probe("p2"));
    world.say(alice, &call("p1", "600"));
    world.say(alice, r#"{"type":"probe","call":"p3","sdp":"nonsense"}"#);
    assert_eq!(
        errors(&mut world, alice),
        [ErrorCode::DuplicateCall, ErrorCode::TooManyCalls, ErrorCode::DuplicateCall, ErrorCode::TooManyCalls]
    );
    world.tell(alice, "hangup", "p1");
    world.say(alice, r#"{"type":"probe","call":"p3","sdp":"nonsense"}"#);
    assert_eq!(errors(&mut world, alice).last(), Some(&ErrorCode::BadSdp));
    world.say(alice, &probe("p1"));
    world.run(100);
    world.tell(alice, "hangup", "p1");
    world.probes = 2;
    world.finish();
    nobody_knows(&world);
}

#[test]
fn probes_take_no_room_of_calls_and_are_not_many() {
    let limits = SwitchLimits { calls: 2, calls_per_socket: 1, ..SwitchLimits::default() };
    let mut world = World::with(SwitchConfig { limits, ..config(1) });
    world.one().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &probe("p1"));
    for user in 2..=PROBE_ROOM + 1 {
        let socket = world.browser(user as u64, &format!("user{user}"));
        world.say(socket, &probe("p"));
    }
    let last = SocketId(PROBE_ROOM as u64 + 1);
    assert_eq!(errors(&mut world, last), [ErrorCode::TooOften]);
    assert_eq!(world.switch.stats().probes, PROBE_ROOM);
    // Calls go on, each with all its room.
    world.say(alice, &call("c1", "600"));
    world.say(last, &call("c2", "600"));
    world.until(alice, "c1", "answered");
    world.until(last, "c2", "answered");
    world.probes = PROBE_ROOM;
    // Where no call may be there is nothing to try.
    let late = world.browser(100, "late");
    world.say(late, &probe("p"));
    assert_eq!(errors(&mut world, late), [ErrorCode::TooOften]);
    world.run(11_000);
    world.say(late, &probe("q"));
    assert_eq!(world.page(late).ended("q"), ended(Party::Gateway, "too-many-calls", Some(503)));
    world.tell(alice, "hangup", "c1");
    world.tell(last, "hangup", "c2");
    world.finish();
    assert_eq!((world.cdrs.len(), world.sent(GATEWAY, "INVITE")), (2, 2));
}

#[test]
fn a_drain_refuses_probes_and_is_idle_when_the_last_one_is_over() {
    let (mut world, alice) = up();
    world.input(Input::Drain);
    assert_eq!(world.idle, 0);
    let bob = world.browser(2, "bob");
    world.say(bob, &probe("p"));
    assert_eq!(world.page(bob).ended("p"), ended(Party::Gateway, "draining", Some(503)));
    world.run(10_000);
    assert_eq!(world.page(alice).ended("p1"), ended(Party::Gateway, "normal", None));
    world.finish();
    assert_eq!(world.idle, 1);
    nobody_knows(&world);
}

#[test]
fn a_media_path_that_never_reports_its_end_holds_nothing_for_long() {
    let (mut world, alice) = up();
    world.stop_after = None;
    world.tell(alice, "hangup", "p1");
    assert_eq!(world.switch.stats().probes, 1);
    world.run(Duration::from_secs(1).as_millis() as u64);
    assert_eq!(world.switch.stats().probes, 0);
    let call = world.call_id();
    let reason = LeaseRefusal::NoPort;
    world.input(Input::LeaseFailed { call, slot: ringback::sdp::RtpSlot(0), reason });
    world.finish();
}
