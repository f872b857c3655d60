//! Transfer: by a browser and by a SIP peer, blind and attended, asked of the trunk or done by ourselves, and every race.

use ringback::call::{CallId, SocketId};
use ringback::dialplan::{Plan, PlanFile};
use ringback::sdp::{Direction, Hears, Side, Tone};
use ringback::signal::{Holder, Party, ServerMessage, TransferState};
use ringback::sip::{Invite, ReferTo, Replaces, SessionId, SessionOptions};
use ringback::switch::{Command, Input, Refer, ReferIn, Reply, Transfer};
use serde_json::json;

use crate::people::{hears, plan_of};
use crate::support::world::{GATEWAY, ONE, PLAN, TWO, address, config};
use crate::support::{Habits, World, call, ended};

/// A number that goes by trunk two.
const OTHER: &str = "+443020000";

/// Alice talks to trunk one's 600; trunk two answers.
fn talking(refer: Refer) -> (World, SocketId) {
    let mut config = config(7);
    for trunk in &mut config.trunks {
        trunk.refer = refer;
    }
    let mut world = World::with(config);
    world.one().habits = Habits::answering();
    world.two().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    world.run(500);
    (world, alice)
}

fn transfer(world: &mut World, socket: SocketId, name: &str, to: &str) {
    world.say(socket, &json!({"type": "transfer", "call": name, "to": to}).to_string());
}

fn attended(world: &mut World, socket: SocketId, name: &str, with: &str) {
    world.say(socket, &json!({"type": "transfer", "call": name, "with": with}).to_string());
}

/// How a page's transfers got on.
fn states(world: &mut World, socket: SocketId) -> Vec<(TransferState, Option<u16>)> {
    let told = world.page(socket).heard.iter().filter_map(|message| match message {
        ServerMessage::Transfer { state, sip, .. } => Some((*state, *sip)),
        _ => None,
    });
    told.collect()
}

/// Who a page was told is there now.
fn remotes(world: &mut World, socket: SocketId) -> Vec<String> {
    let told = world.page(socket).heard.iter().filter_map(|message| match message {
        ServerMessage::Transferred { remote, .. } => Some(remote.clone()),
        _ => None,
    });
    told.collect()
}

/// The RTP ports, ours by slot and theirs, of a side.
fn slot(world: &World, call: CallId, side: Side) -> u8 {
    plan_of(world, call).leg(side).and_then(|leg| leg.media.rtp()).expect("an RTP leg").slot.0
}

fn hang_up_one(world: &mut World) {
    world.with_peer(ONE, |peer, now| {
        for session in peer.sessions.keys().copied().collect::<Vec<_>>() {
            peer.ua.hangup(now, session, None);
        }
    });
}

use TransferState::{Asked, Done, Failed, Ringing};

#[test]
fn blind_by_ourselves_the_far_party_hears_music_then_ringing_then_the_new_party() {
    let (mut world, alice) = talking(Refer::Never);
    let id = world.call_id();
    let before = plan_of(&world, id).leg(Side::B).cloned().unwrap();
    transfer(&mut world, alice, "c1", OTHER);
    assert_eq!((hears(&world, id, Side::A), hears(&world, id, Side::B)), (Hears::Nothing, Hears::Music));
    world.run(100);
    assert_eq!(hears(&world, id, Side::B), Hears::Tone(Tone::Us), "it rings");
    world.until(alice, "c1", "ended");
    assert_eq!(states(&mut world, alice), [(Asked, None), (Ringing, None), (Done, None)]);
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Us, "transferred", None));
    world.run(500);
    let after = plan_of(&world, id);
    assert_eq!(after.leg(Side::B).unwrap().media, before.media, "the leg that stays is not touched");
    assert_eq!(after.leg(Side::A).unwrap().media.rtp().unwrap().remote_rtp, Some(address("192.0.2.10:40000")));
    assert_ne!(slot(&world, id, Side::A), slot(&world, id, Side::B));
    assert_eq!((after.leg(Side::A).unwrap().hears, after.leg(Side::B).unwrap().hears), (Hears::Peer, Hears::Peer));
    let one = world.one().only();
    assert_eq!(world.one().sessions[&one].reoffers.len(), 0, "nothing is renegotiated with the party that stays");
    hang_up_one(&mut world);
    world.finish();
    let cdr = world.cdr();
    assert_eq!((cdr.cause.as_str(), cdr.transfers.len()), ("normal", 1));
    let transfer = &cdr.transfers[0];
    assert_eq!(
        (transfer.by.as_str(), transfer.to.as_str(), transfer.how.as_str(), transfer.result.as_str()),
        ("a", OTHER, "call", "done")
    );
    let tried: Vec<&str> = cdr.trunks.iter().map(|tried| tried.trunk.as_str()).collect();
    assert_eq!(tried, ["two", "one"], "who was called, in the order in which they left");
}

#[test]
fn a_transfer_that_fails_leaves_the_call_as_it_was() {
    for status in [486u16, 404, 603, 503] {
        let (mut world, alice) = talking(Refer::Never);
        let id = world.call_id();
        let before = plan_of(&world, id).clone();
        world.two().habits = Habits::refusing(status);
        transfer(&mut world, alice, "c1", OTHER);
        world.run(2000);
        assert_eq!(states(&mut world, alice), [(Asked, None), (Failed, Some(status))]);
        assert_eq!(plan_of(&world, id), &before);
        world.tell(alice, "hangup", "c1");
        world.finish();
        assert_eq!(world.page(alice).ended("c1"), ended(Party::Us, "normal", None));
        assert_eq!(world.cdr().transfers[0].result, status.to_string());
    }
}

#[test]
fn the_dial_plan_and_the_rights_of_the_session_hold_for_transfers() {
    let (mut world, alice) = talking(Refer::Ask);
    transfer(&mut world, alice, "c1", "09098790000");
    assert_eq!(states(&mut world, alice), [(Failed, Some(403))]);
    transfer(&mut world, alice, "c1", "carol");
    assert_eq!(states(&mut world, alice)[1..], [(Asked, None), (Failed, Some(480))], "nobody is there");
    world.say(alice, &json!({"type": "transfer", "call": "c1", "with": "c9"}).to_string());
    assert_eq!(world.page(alice).errors(), 1);
    attended(&mut world, alice, "c1", "c1");
    assert_eq!(states(&mut world, alice).last(), Some(&(Failed, Some(481))), "a call is not transferred to itself");
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.sent(GATEWAY, "REFER"), 0);
}

/// A class that may not transfer: neither its own page does, nor anybody on its behalf, by number or to another call.
#[test]
fn users_of_a_class_that_may_not_transfer_do_not_whoever_asks() {
    let mut config = config(7);
    let text = PLAN.replace("default = \"deny\"", "default = \"deny\"\ndefault_class = \"visitor\"");
    let text = format!("{text}\n[class.visitor]\nallow = '*'\ntransfer = false\n");
    let files = [PlanFile { name: "sim.toml".into(), text }];
    config.plan = Plan::load(&files, &["one".into(), "two".into()]).unwrap().into();
    let mut world = World::with(config);
    world.one().habits = Habits::answering();
    world.two().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    for (name, number) in [("c1", "600"), ("c2", OTHER)] {
        world.say(alice, &call(name, number));
        world.until(alice, name, "answered");
    }
    world.run(500);
    transfer(&mut world, alice, "c1", OTHER);
    attended(&mut world, alice, "c1", "c2");
    assert_eq!(states(&mut world, alice), [(Failed, Some(403)), (Failed, Some(403))]);
    let said = world.page(alice).heard.iter().any(|message| {
        matches!(message, ServerMessage::Transfer { text: Some(text), .. } if text == "You may not transfer calls")
    });
    assert!(said, "{}", world.story());
    let session = world.one().only();
    refer(&mut world, ONE, session, to("sip:+443020000@192.0.2.1"));
    world.run(1000);
    assert_eq!(world.one().sessions[&session].referred, [403]);
    let Reply::Calls(calls) = world.command(Command::List) else { panic!() };
    for (to, with) in [(Some(OTHER.to_owned()), None), (None, Some(calls[1].call.clone()))] {
        match world.command(Command::Transfer(calls[0].call.parse().unwrap(), Transfer { to, with, by: None })) {
            Reply::Refused(denial) => assert_eq!(denial.cause.as_deref(), Some("transfer-not-allowed")),
            other => panic!("{other:?}"),
        }
    }
    assert!(remotes(&mut world, alice).is_empty());
    world.close(alice);
    world.finish();
}

/// The plan's limit for the new party's number holds from when it answers.
#[test]
fn a_transferred_call_lasts_no_longer_than_the_plan_allows_its_new_party() {
    let mut config = config(7);
    let text = PLAN.replace("prefix = [\"+44302\"]", "prefix = [\"+44302\"]\nlongest_call = '20s'");
    let files = [PlanFile { name: "sim.toml".into(), text }];
    config.plan = Plan::load(&files, &["one".into(), "two".into()]).unwrap().into();
    for trunk in &mut config.trunks {
        trunk.refer = Refer::Never;
    }
    let mut world = World::with(config);
    world.one().habits = Habits::answering();
    world.two().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    transfer(&mut world, alice, "c1", OTHER);
    world.run(15_000);
    assert_eq!(states(&mut world, alice).last(), Some(&(Done, None)));
    assert!(world.cdrs.is_empty(), "the two still talk");
    world.run(10_000);
    assert_eq!(world.cdrs.last().map(|cdr| cdr.cause.to_string()).as_deref(), Some("max-duration"));
    world.finish();
}

#[test]
fn a_call_that_is_not_answered_cannot_be_transferred() {
    let mut world = World::where_one(Habits::ringing());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "ringing");
    transfer(&mut world, alice, "c1", OTHER);
    assert_eq!((world.page(alice).errors(), states(&mut world, alice).len()), (1, 0));
    world.tell(alice, "hangup", "c1");
    world.finish();
}

#[test]
fn the_trunk_is_asked_to_transfer_and_tells_how_it_gets_on() {
    let (mut world, alice) = talking(Refer::Ask);
    world.one().habits.refers = Some(vec![(100, 180), (600, 200)]);
    transfer(&mut world, alice, "c1", "601");
    world.run(300);
    assert_eq!(states(&mut world, alice), [(Asked, None), (Ringing, None)]);
    assert_eq!(hears(&world, world.call_id(), Side::B), Hears::Music, "the trunk plays its own ringing to its party");
    world.finish();
    assert_eq!(states(&mut world, alice), [(Asked, None), (Ringing, None), (Done, None)]);
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Us, "transferred", None));
    let one = world.one().only();
    assert_eq!(world.one().sessions[&one].refers, ["sip:601@192.0.2.9"]);
    assert_eq!((world.sent(GATEWAY, "BYE"), world.sent(GATEWAY, "INVITE")), (1, 1), "we hang up, and call nobody");
    let cdr = world.cdr();
    assert_eq!((cdr.cause.as_str(), cdr.transfers[0].how.as_str()), ("transferred", "refer"));
}

#[test]
fn a_trunk_that_hangs_up_after_202_has_taken_its_party_over() {
    let (mut world, alice) = talking(Refer::Ask);
    world.one().habits.refers = Some(Vec::new());
    transfer(&mut world, alice, "c1", "601");
    world.run(200);
    hang_up_one(&mut world);
    world.finish();
    assert_eq!(states(&mut world, alice), [(Asked, None), (Done, None)]);
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Us, "transferred", None));
}

/// The refusals of a REFER, and silence: then the gateway transfers by itself.
#[test]
fn where_the_trunk_refuses_refer_we_transfer_ourselves() {
    for refused in [403u16, 405, 501, 603, 500] {
        let (mut world, alice) = talking(Refer::Ask);
        world.one().habits.refuse_refers = Some(refused);
        transfer(&mut world, alice, "c1", "601");
        world.until(alice, "c1", "ended");
        assert_eq!(states(&mut world, alice), [(Asked, None), (Ringing, None), (Done, None)], "{refused}");
        world.run(500);
        assert_eq!((world.sent(GATEWAY, "REFER"), world.sent(GATEWAY, "INVITE sip:601@")), (1, 1));
        hang_up_one(&mut world);
        world.finish();
        assert_eq!(world.cdr().transfers[0].how, "call");
    }
}

#[test]
fn a_target_that_refuses_is_no_reason_to_call_it_again() {
    let (mut world, alice) = talking(Refer::Ask);
    world.one().habits.refers = Some(vec![(300, 486)]);
    transfer(&mut world, alice, "c1", "601");
    world.run(1000);
    assert_eq!(states(&mut world, alice), [(Asked, None), (Failed, Some(486))]);
    assert_eq!(world.sent(GATEWAY, "INVITE"), 1);
    assert_eq!(hears(&world, world.call_id(), Side::B), Hears::Peer, "the call is as it was");
    world.tell(alice, "hangup", "c1");
    world.finish();
}

#[test]
fn a_number_of_another_trunk_is_never_referred_to() {
    let (mut world, alice) = talking(Refer::Ask);
    world.one().habits.refers = Some(vec![(100, 200)]);
    transfer(&mut world, alice, "c1", OTHER);
    world.until(alice, "c1", "ended");
    assert_eq!(world.sent(GATEWAY, "REFER"), 0);
    hang_up_one(&mut world);
    world.finish();
}

#[test]
fn a_browser_is_transferred_by_a_browser_and_told_who_is_there() {
    let mut world = World::new();
    world.two().habits = Habits::answering();
    let (alice, bob, carol) = (world.browser(1, "alice"), world.browser(2, "bob"), world.browser(3, "carol"));
    world.page(bob).accept_after = Some(100);
    world.page(carol).accept_after = Some(400);
    world.say(alice, &call("c1", "bob"));
    world.until(alice, "c1", "answered");
    let id = world.call_id();
    // bob, who was called, transfers alice to carol
    let name = world.page(bob).incoming().unwrap();
    transfer(&mut world, bob, &name, "carol");
    world.run(100);
    assert_eq!(hears(&world, id, Side::A), Hears::Tone(Tone::Us));
    world.until(bob, &name, "ended");
    assert_eq!(world.page(bob).ended(&name), ended(Party::Us, "transferred", None));
    assert_eq!(remotes(&mut world, alice), ["carol"]);
    world.run(100);
    // and alice transfers carol to a trunk
    let third = world.page(carol).incoming().unwrap();
    transfer(&mut world, alice, "c1", OTHER);
    world.until(alice, "c1", "ended");
    assert_eq!(remotes(&mut world, carol), [OTHER]);
    world.tell(carol, "hangup", &third);
    world.finish();
    assert_eq!(world.page(carol).ended(&third), ended(Party::Us, "normal", None));
    let cdr = world.cdr();
    let by: Vec<&str> = cdr.transfers.iter().map(|transfer| transfer.by.as_str()).collect();
    assert_eq!((by, cdr.cause.as_str()), (vec!["b", "a"], "normal"));
}

/// The transferor may leave at any time, by hanging up or by closing; the transfer goes on without him.
#[test]
fn hangup_crosses_the_transfer() {
    for refer in [Refer::Never, Refer::Ask] {
        for ms in (0..700).step_by(23) {
            for close in [false, true] {
                let (mut world, alice) = talking(refer);
                world.one().habits.refers = Some(vec![(100, 180), (400, 200)]);
                transfer(&mut world, alice, "c1", if refer == Refer::Ask { "601" } else { OTHER });
                world.run(ms);
                if close {
                    world.close(alice);
                } else if world.page(alice).ended("c1").is_none() {
                    world.tell(alice, "hangup", "c1");
                    let (by, cause, _) = world.page(alice).ended("c1").unwrap();
                    assert_eq!((by, cause.as_str()), (Party::Us, "transferred"), "{ms}");
                }
                world.run(2000);
                let call = world.switch.stats().established;
                assert_eq!(call, usize::from(refer == Refer::Never), "the others talk: {ms} {refer:?}");
                hang_up_one(&mut world);
                world.finish();
                assert_eq!((world.cdrs.len(), world.cdr().transfers[0].result.as_str()), (1, "done"), "{ms} {refer:?}");
            }
        }
    }
}

/// Whoever has left is not called back: the target refuses, and the far party is hung up with its cause.
#[test]
fn the_transferor_has_left_and_the_target_refuses() {
    let (mut world, alice) = talking(Refer::Never);
    world.two().habits = Habits { refuse_after: Some((500, 486)), ..Habits::default() };
    transfer(&mut world, alice, "c1", OTHER);
    world.run(100);
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Us, "transferred", None));
    assert_eq!((world.cdr().cause.as_str(), world.cdr().sip), ("busy", Some(486)));
    assert_eq!(world.sent(GATEWAY, "BYE"), 1);
}

/// The far party's BYE at every moment of a transfer.
#[test]
fn bye_crosses_the_transfer() {
    for refer in [Refer::Never, Refer::Ask] {
        for ms in (0..700).step_by(23) {
            let (mut world, alice) = talking(refer);
            world.one().habits.refers = Some(vec![(100, 180), (400, 200)]);
            transfer(&mut world, alice, "c1", if refer == Refer::Ask { "601" } else { OTHER });
            world.run(ms);
            hang_up_one(&mut world);
            world.finish();
            assert_eq!(world.cdrs.len(), 1, "{ms} {refer:?}");
            assert_eq!(world.page(alice).story("c1").iter().filter(|kind| *kind == "ended").count(), 1);
        }
    }
}

#[test]
fn transfers_survive_a_bad_network() {
    for seed in 0..40 {
        let (mut world, alice) = talking(if seed % 2 == 0 { Refer::Ask } else { Refer::Never });
        world.one().habits.refers = Some(vec![(100, 180), (400, 200)]);
        world.bad_network(seed, 15);
        transfer(&mut world, alice, "c1", if seed % 4 < 2 { "601" } else { OTHER });
        world.until(alice, "c1", "ended");
        world.run(5_000);
        hang_up_one(&mut world);
        world.with_peer(TWO, |peer, now| {
            for session in peer.sessions.keys().copied().collect::<Vec<_>>() {
                peer.ua.hangup(now, session, None);
            }
        });
        world.finish();
        assert_eq!(world.cdrs.len(), 1);
    }
}

// ---- attended -------------------------------------------------------------------------------------------------------

/// Alice talks to trunk one (c1) and to trunk two (c2).
fn between(refer: Refer) -> (World, SocketId) {
    let (mut world, alice) = talking(refer);
    world.say(alice, &call("c2", OTHER));
    world.until(alice, "c2", "answered");
    world.run(200);
    (world, alice)
}

fn id_of(world: &World, at: usize) -> CallId {
    *world.media.keys().nth(at).unwrap()
}

#[test]
fn two_calls_are_joined_and_the_browser_leaves_both() {
    let (mut world, alice) = between(Refer::Ask);
    attended(&mut world, alice, "c1", "c2");
    world.until(alice, "c2", "ended");
    world.run(200);
    assert_eq!(states(&mut world, alice), [(Asked, None), (Done, None)]);
    for name in ["c1", "c2"] {
        assert_eq!(world.page(alice).ended(name), ended(Party::Us, "transferred", None));
    }
    assert_eq!(world.switch.stats().calls, 1);
    let id = [0, 1].map(|at| id_of(&world, at)).into_iter().find(|id| world.media[id].stopped == 0).unwrap();
    let plan = plan_of(&world, id);
    let remote = |side| plan.leg(side).unwrap().media.rtp().unwrap().remote_rtp.unwrap().ip().to_string();
    assert_eq!((remote(Side::A), remote(Side::B)), ("192.0.2.10".to_owned(), "192.0.2.9".to_owned()));
    assert_eq!((hears(&world, id, Side::A), hears(&world, id, Side::B)), (Hears::Peer, Hears::Peer));
    // two was told of ports of the call that it moved into, one was told nothing
    let two = world.two().only();
    assert_eq!(world.two().sessions[&two].reoffers.len(), 1);
    let one = world.one().only();
    assert_eq!(world.one().sessions[&one].reoffers.len(), 0);
    assert_eq!(world.sent(GATEWAY, "BYE"), 0);
    hang_up_one(&mut world);
    world.finish();
    assert_eq!(world.two().sessions[&two].ends, ["ended Remote"]);
    let causes: Vec<&str> = world.cdrs.iter().map(|cdr| cdr.cause.as_str()).collect();
    assert_eq!(causes, ["transferred", "normal"]);
    assert_eq!(world.cdrs[1].transfers[0].how, "join");
}

#[test]
fn a_far_party_that_will_not_move_leaves_both_calls_as_they_were() {
    let (mut world, alice) = between(Refer::Ask);
    world.two().habits.refuse_reoffers = Some(488);
    attended(&mut world, alice, "c1", "c2");
    world.run(1000);
    assert_eq!(states(&mut world, alice), [(Asked, None), (Failed, Some(488))]);
    for at in [0, 1] {
        let id = id_of(&world, at);
        assert_eq!((hears(&world, id, Side::A), hears(&world, id, Side::B)), (Hears::Peer, Hears::Peer));
    }
    world.two().habits.refuse_reoffers = None;
    attended(&mut world, alice, "c1", "c2");
    world.until(alice, "c2", "ended");
    hang_up_one(&mut world);
    world.finish();
}

fn hold(world: &mut World, socket: SocketId, name: &str, on: bool) {
    world.say(socket, &json!({"type": "hold", "call": name, "on": on}).to_string());
}

/// What a page was told of its own holds.
fn own_holds(world: &mut World, socket: SocketId, name: &str) -> Vec<bool> {
    let told = world.page(socket).heard.iter().filter_map(|message| match message {
        ServerMessage::Held { call, by: Holder::Us, on } if call == name => Some(*on),
        _ => None,
    });
    told.collect()
}

/// The far party's re-INVITE to other ports is under way, at whatever moment: each wish of its holder has its answer.
#[test]
fn a_hold_during_a_move_is_answered_also_where_it_was_undone_before_the_moves_end() {
    for ms in 0..60 {
        for wishes in [&[true, false][..], &[true]] {
            let (mut world, alice) = between(Refer::Ask);
            world.latency_ms = 20;
            world.two().habits.refuse_reoffers = Some(488);
            attended(&mut world, alice, "c1", "c2");
            world.run(ms);
            world.two().habits.refuse_reoffers = None;
            for on in wishes {
                hold(&mut world, alice, "c2", *on);
            }
            world.run(3000);
            let last = wishes.last().copied();
            match world.page(alice).ended("c2") {
                None => assert_eq!(own_holds(&mut world, alice, "c2").last().copied(), last, "{ms}\n{}", world.story()),
                // It went with the transfer: nobody is left to hold it.
                Some(_) => assert_eq!(last_direction(&world, TWO), "sendrecv", "{ms}\n{}", world.story()),
            }
            for name in ["c1", "c2"] {
                if world.page(alice).ended(name).is_none() {
                    world.tell(alice, "hangup", name);
                }
            }
            hang_up_one(&mut world);
            world.finish();
        }
    }
}

/// The direction of the last description that a trunk was sent.
fn last_direction(world: &World, to: &str) -> String {
    let peer = &world.peers[&address(to)];
    let text = peer.sessions.values().last().and_then(|seen| seen.reoffers.last()).expect("a re-offer");
    let line = text.lines().find(|line| ["a=sendrecv", "a=sendonly", "a=inactive"].contains(line));
    line.map_or("sendrecv", |line| &line[2..]).to_owned()
}

/// Who waits on hold while another is asked is no longer on hold when the two are connected, whichever call is transferred.
#[test]
fn a_held_far_party_is_taken_back_when_it_is_joined_to_the_other() {
    for held in ["c1", "c2"] {
        let (mut world, alice) = between(Refer::Ask);
        hold(&mut world, alice, held, true);
        world.run(500);
        attended(&mut world, alice, "c1", "c2");
        world.until(alice, "c2", "ended");
        world.run(1000);
        let id = [0, 1].map(|at| id_of(&world, at)).into_iter().find(|id| world.media[id].stopped == 0).unwrap();
        let plan = plan_of(&world, id);
        for side in [Side::A, Side::B] {
            let leg = plan.leg(side).unwrap();
            assert_eq!((leg.media.direction(), leg.hears), (Direction::SendRecv, Hears::Peer), "{held} {side:?}");
        }
        hang_up_one(&mut world);
        world.finish();
    }
}

#[test]
fn calls_of_one_trunk_are_joined_by_the_trunk() {
    let (mut world, alice) = talking(Refer::Ask);
    world.say(alice, &call("c2", "601"));
    world.until(alice, "c2", "answered");
    world.one().habits.refers = Some(vec![(200, 200)]);
    attended(&mut world, alice, "c1", "c2");
    world.finish();
    assert_eq!(states(&mut world, alice), [(Asked, None), (Done, None)]);
    let refers: Vec<String> = world.one().sessions.values().flat_map(|seen| seen.refers.clone()).collect();
    assert_eq!(refers.len(), 1);
    assert!(refers[0].contains("to-tag=") && refers[0].contains("from-tag="), "{refers:?}");
    assert_eq!(world.cdrs.iter().filter(|cdr| cdr.cause == "transferred").count(), 2);
    // where the trunk refuses, the calls are joined here
    let (mut world, alice) = talking(Refer::Ask);
    world.say(alice, &call("c2", "601"));
    world.until(alice, "c2", "answered");
    attended(&mut world, alice, "c1", "c2");
    world.until(alice, "c2", "ended");
    assert_eq!(world.sent(GATEWAY, "REFER"), 1);
    world.run(200);
    assert_eq!(world.switch.stats().established, 1);
    hang_up_one(&mut world);
    world.finish();
}

#[test]
fn a_browser_as_far_party_stays_where_it_is_and_the_trunk_moves() {
    let (mut world, alice) = talking(Refer::Ask);
    let bob = world.browser(2, "bob");
    world.page(bob).accept_after = Some(100);
    world.say(alice, &call("c2", "bob"));
    world.until(alice, "c2", "answered");
    let name = world.page(bob).incoming().unwrap();
    attended(&mut world, alice, "c1", "c2");
    world.until(alice, "c1", "ended");
    world.run(100);
    assert_eq!(states(&mut world, alice), [(Asked, None), (Done, None)]);
    assert_eq!(remotes(&mut world, bob), ["600"]);
    assert_eq!((world.switch.stats().established, world.page(bob).ended(&name)), (1, None));
    world.tell(bob, "hangup", &name);
    world.finish();
    assert_eq!(world.page(bob).ended(&name), ended(Party::Us, "normal", None));
    assert_eq!(world.page(alice).ended("c2"), ended(Party::Us, "transferred", None));
}

#[test]
fn two_browsers_as_far_parties_are_not_joined() {
    let mut world = World::new();
    let (alice, bob, carol) = (world.browser(1, "alice"), world.browser(2, "bob"), world.browser(3, "carol"));
    for other in [bob, carol] {
        world.page(other).accept_after = Some(100);
    }
    world.say(alice, &call("c1", "bob"));
    world.until(alice, "c1", "answered");
    world.say(alice, &call("c2", "carol"));
    world.until(alice, "c2", "answered");
    attended(&mut world, alice, "c1", "c2");
    assert_eq!(states(&mut world, alice), [(Asked, None), (Failed, Some(488))]);
    world.close(alice);
    world.finish();
}

/// Each of the four ends of two calls goes at every moment of their joining.
#[test]
fn an_end_crosses_the_joining() {
    for latency in [5, 40] {
        for ms in (0..4 * latency + 4).step_by(if latency == 5 { 1 } else { 7 }) {
            for who in ["one", "two", "c1", "c2", "gone"] {
                let (mut world, alice) = between(Refer::Ask);
                world.latency_ms = latency;
                attended(&mut world, alice, "c1", "c2");
                world.run(ms);
                match who {
                    "one" => hang_up_one(&mut world),
                    "two" => world.with_peer(TWO, |peer, now| {
                        let session = peer.only();
                        peer.ua.hangup(now, session, None);
                    }),
                    "gone" => world.close(alice),
                    name => {
                        if world.page(alice).ended(name).is_none() {
                            world.tell(alice, "hangup", name);
                        }
                    }
                }
                world.run(5000);
                if world.open(alice) {
                    for name in ["c1", "c2"] {
                        if world.page(alice).ended(name).is_none() {
                            world.tell(alice, "hangup", name);
                        }
                    }
                }
                hang_up_one(&mut world);
                world.finish();
                assert_eq!(world.cdrs.len(), 2, "{who} {ms}");
            }
        }
    }
}

#[test]
fn joining_survives_a_bad_network() {
    for seed in 0..40 {
        let (mut world, alice) = between(Refer::Never);
        world.bad_network(seed, 15);
        attended(&mut world, alice, "c1", "c2");
        world.run(60_000);
        if world.open(alice) {
            world.close(alice);
        }
        hang_up_one(&mut world);
        world.finish();
        assert_eq!(world.cdrs.len(), 2);
    }
}

// ---- by the trunk ---------------------------------------------------------------------------------------------------

fn refer(world: &mut World, at: &str, session: SessionId, to: ReferTo) {
    world.with_peer(at, |peer, now| peer.ua.refer(now, session, to, None).unwrap());
}

fn to(uri: &str) -> ReferTo {
    ReferTo { uri: uri.parse().unwrap(), replaces: None }
}

#[test]
fn a_trunks_refer_is_followed_by_the_dial_plan_and_told_of() {
    let (mut world, alice) = talking(Refer::Ask);
    let id = world.call_id();
    let session = world.one().only();
    refer(&mut world, ONE, session, to("sip:+443020000@192.0.2.1"));
    world.run(100);
    assert_eq!((hears(&world, id, Side::A), hears(&world, id, Side::B)), (Hears::Tone(Tone::Us), Hears::Nothing));
    world.run(1000);
    assert_eq!(world.one().sessions[&session].referred, [202, 100, 180, 200]);
    assert_eq!(remotes(&mut world, alice), [OTHER]);
    assert_eq!(hears(&world, id, Side::A), Hears::Peer);
    // the referrer hangs up by itself; one that does not is hung up
    world.run(5000);
    assert_eq!(world.one().sessions[&session].ends, ["ended Remote"]);
    world.tell(alice, "hangup", "c1");
    world.finish();
    let two = world.two().only();
    assert_eq!(world.two().sessions[&two].ends, ["ended Remote"]);
    assert_eq!((world.cdr().transfers[0].by.as_str(), world.cdr().transfers[0].result.as_str()), ("b", "done"));
}

#[test]
fn a_trunks_refer_is_refused_where_policy_or_plan_say_so() {
    let mut config = config(7);
    config.trunks[0].refer_in = ReferIn::Off;
    let mut world = World::with(config);
    world.one().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    world.run(100);
    let session = world.one().only();
    refer(&mut world, ONE, session, to("sip:601@192.0.2.1"));
    world.run(1000);
    assert_eq!(world.one().sessions[&session].referred, [603]);
    world.close(alice);
    world.finish();

    let (mut world, alice) = talking(Refer::Ask);
    let session = world.one().only();
    refer(&mut world, ONE, session, to("sip:+449098790000@192.0.2.1"));
    world.run(1000);
    assert_eq!(world.one().sessions[&session].referred, [403], "premium numbers are barred for alice, so for her call");
    assert_eq!(hears(&world, world.call_id(), Side::A), Hears::Peer);
    world.close(alice);
    world.finish();
}

#[test]
fn a_refer_whose_target_refuses_is_told_so_and_the_call_goes_on() {
    let (mut world, alice) = talking(Refer::Ask);
    world.two().habits = Habits::refusing(486);
    let session = world.one().only();
    refer(&mut world, ONE, session, to("sip:+443020000@192.0.2.1"));
    world.run(1000);
    assert_eq!(world.one().sessions[&session].referred, [202, 100, 486]);
    assert_eq!(hears(&world, world.call_id(), Side::A), Hears::Peer);
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Us, "normal", None));
}

/// A phone that sends REFER and hangs up at once, at every moment; and a browser that hangs up meanwhile.
#[test]
fn refer_crosses_the_hangup_of_either_side() {
    for ms in (0..700).step_by(19) {
        for by_browser in [false, true] {
            let (mut world, alice) = talking(Refer::Ask);
            let session = world.one().only();
            refer(&mut world, ONE, session, to("sip:+443020000@192.0.2.1"));
            world.run(ms);
            if by_browser {
                world.tell(alice, "hangup", "c1");
            } else {
                world.with_peer(ONE, |peer, now| peer.ua.hangup(now, session, None));
                world.run(3000);
                // one that hung up before we knew of its wish has ended the call
                if world.page(alice).ended("c1").is_none() {
                    assert_eq!(remotes(&mut world, alice), [OTHER], "{ms}");
                    world.tell(alice, "hangup", "c1");
                }
            }
            world.finish();
            assert_eq!(world.cdrs.len(), 1, "{ms}");
            assert_eq!(world.page(alice).story("c1").iter().filter(|kind| *kind == "ended").count(), 1);
        }
    }
}

/// A call of trunk one to a number, with options.
fn invite(world: &mut World, number: &str, options: SessionOptions) -> SessionId {
    world.with_peer(ONE, |peer, now| {
        let invite = Invite {
            flow: peer.flow(address(GATEWAY)),
            request_uri: format!("sip:{number}@192.0.2.1").parse().unwrap(),
            from: "<sip:+447700900555@192.0.2.9>".parse().unwrap(),
            to: format!("<sip:{number}@192.0.2.1>").parse().unwrap(),
            contact_user: None,
            headers: Vec::new(),
            body: Some(peer.offer(Direction::SendRecv)),
            credentials: None,
            options,
        };
        let session = peer.ua.invite(now, invite).unwrap();
        peer.sessions.entry(session).or_default();
        session
    })
}

/// What an INVITE says to take the place of a session of trunk one's.
fn replaces(world: &mut World, session: SessionId) -> Replaces {
    let dialog = world.one().ua.dialog(session).unwrap();
    // named as the gateway sees it
    Replaces { call_id: dialog.call_id, to_tag: dialog.remote_tag, from_tag: dialog.local_tag, early_only: false }
}

#[test]
fn an_attended_refer_that_names_a_call_of_ours_joins_the_two() {
    let mut world = World::new();
    let (alice, bob) = (world.browser(1, "alice"), world.browser(2, "bob"));
    world.page(alice).accept_after = Some(100);
    let first = world.trunk_calls("+442079460100", true);
    world.run(500);
    let name = world.page(alice).incoming().unwrap();
    // the same phone calls trunk-wards again: a call of bob's by trunk one, answered there
    world.one().habits = Habits::answering();
    world.say(bob, &call("c2", "600"));
    world.until(bob, "c2", "answered");
    world.run(100);
    let second = *world.one().sessions.keys().find(|session| **session != first).unwrap();
    let named = replaces(&mut world, second);
    refer(&mut world, ONE, first, ReferTo { replaces: Some(named), ..to("sip:600@192.0.2.1") });
    world.run(1000);
    assert_eq!(world.one().sessions[&first].referred, [202, 100, 488], "both far parties are browsers");
    world.tell(alice, "hangup", &name);
    world.tell(bob, "hangup", "c2");
    world.finish();
}

#[test]
fn an_attended_refer_joins_a_browser_with_the_far_trunk() {
    // A phone behind trunk one talks to alice, and to trunk two through a call of the same gateway is not possible for a
    // trunk; so the phone's second call is the one in which alice's trunk leg waits.
    let (mut world, alice) = talking(Refer::Ask);
    let session = world.one().only();
    let bob = world.browser(2, "bob");
    world.page(bob).accept_after = Some(50);
    let second = invite(&mut world, "+442079460200", SessionOptions::default());
    world.run(500);
    let named = replaces(&mut world, second);
    refer(&mut world, ONE, session, ReferTo { replaces: Some(named), ..to("sip:+442079460200@192.0.2.1") });
    world.run(1000);
    assert_eq!(world.one().sessions[&session].referred.first(), Some(&202));
    world.close(alice);
    world.close(bob);
    world.finish();
}

#[test]
fn a_refer_to_somebody_elses_call_becomes_an_invite_with_replaces() {
    let (mut world, alice) = talking(Refer::Ask);
    let session = world.one().only();
    let foreign = Replaces { call_id: "far@pbx".into(), to_tag: "a1".into(), from_tag: "b2".into(), early_only: false };
    refer(&mut world, ONE, session, ReferTo { replaces: Some(foreign), ..to("sip:+443020000@192.0.2.1") });
    world.run(300);
    let invites: Vec<&str> = world
        .wire
        .iter()
        .filter(|(from, text)| *from == address(GATEWAY) && text.starts_with("INVITE sip:+443020000"))
        .flat_map(|(_, text)| text.lines().filter(|line| line.starts_with("Replaces:")))
        .collect();
    assert_eq!(invites, ["Replaces: far@pbx;to-tag=a1;from-tag=b2"]);
    world.run(3000);
    world.close(alice);
    world.finish();
}

#[test]
fn an_invite_with_replaces_takes_the_place_and_the_sound_goes_on() {
    let (mut world, alice) = talking(Refer::Ask);
    let id = world.call_id();
    let before = plan_of(&world, id).leg(Side::A).cloned().unwrap();
    let old = world.one().only();
    let named = replaces(&mut world, old);
    // However much there is to do: it is no call more.
    world.input(Input::Busy(true));
    let new = invite(&mut world, "600", SessionOptions { replaces: Some(named), ..SessionOptions::default() });
    world.run(500);
    assert!(world.one().sessions[&new].answered);
    assert_eq!(world.switch.stats().refused_busy, 0);
    assert_eq!(remotes(&mut world, alice), ["+447700900555"]);
    let plan = plan_of(&world, id);
    assert_eq!(plan.leg(Side::A).unwrap(), &before);
    assert_eq!(plan.leg(Side::B).unwrap().hears, Hears::Peer);
    world.run(5000);
    assert_eq!(world.one().sessions[&old].ends, ["ended Remote"]);
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.one().sessions[&new].ends, ["ended Remote"]);
    assert_eq!(world.cdr().transfers[0].how, "replaces");
}

#[test]
fn an_invite_with_replaces_of_another_trunk_is_refused() {
    let (mut world, alice) = talking(Refer::Ask);
    let old = world.one().only();
    let named = replaces(&mut world, old);
    world.with_peer(TWO, |peer, now| {
        let invite = Invite {
            flow: peer.flow(address(GATEWAY)),
            request_uri: "sip:600@192.0.2.1".parse().unwrap(),
            from: "<sip:1@192.0.2.10>".parse().unwrap(),
            to: "<sip:600@192.0.2.1>".parse().unwrap(),
            contact_user: None,
            headers: Vec::new(),
            body: Some(peer.offer(Direction::SendRecv)),
            credentials: None,
            options: SessionOptions { replaces: Some(named), ..SessionOptions::default() },
        };
        let session = peer.ua.invite(now, invite).unwrap();
        peer.sessions.entry(session).or_default();
    });
    world.run(500);
    let two = world.two().only();
    assert_eq!(world.two().sessions[&two].ends, ["failed 403"]);
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Us, "normal", None));
}
