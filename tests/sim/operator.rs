//! Call control from outside: calls that are asked for, inspected, changed and ended, and what those are told who watch.

use ringback::call::SocketId;
use ringback::sdp::{
    CallQuality, Direction, Hears, LegQuality, MediaReport, NoAudio, Side, TrunkLocal, Verdict, trunk,
};
use ringback::signal::{Party, ServerMessage};
use ringback::sip::{Message, Method};
use ringback::switch::{
    CallId, CallView, Command, Digits, End, Hold, Input, Notice, Originate, Phase, Reply, Transfer, Why,
};

use crate::people::{hears, plan_of};
use crate::phones::{PHONE, a_phone_that_answers};
use crate::support::world::address;
use crate::support::{Habits, World, call, ended, raw};

fn wish(user: &str, to: &str) -> Command {
    Command::Originate(Originate { user: user.into(), to: to.into(), from: None, name: None, ring_for: None })
}

fn view(reply: Reply) -> CallView {
    match reply {
        Reply::Call(view) => *view,
        other => panic!("{other:?}"),
    }
}

fn refused(reply: Reply) -> (Why, Option<u16>) {
    match reply {
        Reply::Refused(denial) => (denial.why, denial.sip),
        other => panic!("{other:?}"),
    }
}

fn id(view: &CallView) -> CallId {
    view.call.parse().unwrap()
}

fn inspect(world: &mut World, call: CallId) -> CallView {
    view(world.command(Command::Inspect(call)))
}

/// The name of the last call of a page that came in.
fn incoming(world: &mut World, socket: SocketId) -> String {
    world.page(socket).incoming().expect("it rings")
}

#[test]
fn a_call_that_is_asked_for_rings_the_users_browsers_and_then_the_number() {
    let mut world = World::where_one(Habits::answering());
    let (desk, mobile) = (world.browser(1, "alice"), world.browser(2, "alice"));
    let begun = view(world.command(wish("alice", "020 7946 0999")));
    assert_eq!((begun.state, begun.user.as_str(), begun.a.is_none()), (Phase::Fetching, "alice", true));
    world.run(20);
    let name = incoming(&mut world, desk);
    let Some(ServerMessage::Incoming { from, to, .. }) = world.page(mobile).heard.last().cloned() else { panic!() };
    assert_eq!((from.as_str(), to.as_str()), ("+442079460999", "alice"), "the devices show whom they will speak with");
    assert_eq!(world.wire.len(), 0, "nobody else is called before the user is there");
    world.accept(mobile);
    world.run(40);
    assert_eq!(world.page(mobile).story(&name), ["incoming", "answered"]);
    assert_eq!(world.page(desk).ended(&name), ended(Party::Gateway, "answered-elsewhere", Some(200)));
    world.run(60);
    assert_eq!(inspect(&mut world, id(&begun)).state, Phase::Ringing);
    assert_eq!(
        hears(&world, id(&begun), Side::A),
        Hears::PeerOr(ringback::sdp::Tone::Us),
        "the waiting user hears it ring"
    );
    world.run(400);
    let now = inspect(&mut world, id(&begun));
    assert_eq!((now.state, now.number.as_deref()), (Phase::Answered, Some("+442079460999")));
    assert_eq!(now.b.unwrap().trunk.as_deref(), Some("one"));
    assert_eq!(world.page(mobile).story(&name), ["incoming", "answered"], "he is told nothing twice");
    assert_eq!(hears(&world, id(&begun), Side::A), Hears::Peer);
    world.command(Command::Hangup(id(&begun)));
    world.finish();
    assert_eq!(world.page(mobile).ended(&name), ended(Party::Gateway, "normal", None));
    let cdr = world.cdr();
    assert_eq!((cdr.user.as_str(), cdr.dialled.as_str(), cdr.sip), ("alice", "020 7946 0999", None));
    assert_eq!(world.noticed(Some(&begun.call)), ["call.started", "call.ringing", "call.answered", "call.ended"]);
    assert_eq!(refused(world.command(Command::Inspect(id(&begun)))), (Why::UnknownCall, None));
}

#[test]
fn what_the_plan_refuses_is_refused_before_anybody_is_rung() {
    let mut world = World::new();
    let alice = world.browser(1, "alice");
    assert_eq!(refused(world.command(wish("alice", "0909 879 0000"))), (Why::CallRefused, Some(403)));
    assert!(world.page(alice).incoming().is_none());
    assert_eq!(refused(world.command(wish("bob", "600"))), (Why::CallRefused, Some(480)), "he is not there");
    assert_eq!(refused(world.command(wish("alice", "6\r\n00"))), (Why::BadRequest, None));
    assert_eq!(refused(world.command(wish("", "600"))), (Why::BadRequest, None));
    world.input(Input::Drain);
    assert_eq!(refused(world.command(wish("alice", "600"))), (Why::CallRefused, Some(503)));
    world.finish();
    assert_eq!(world.cdrs.len(), 3, "refused calls have a record too");
}

#[test]
fn a_user_who_declines_or_does_not_answer_ends_the_call_before_it_is_one() {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.page(alice).reject_after = Some((50, 603));
    view(world.command(wish("alice", "600")));
    world.run(200);
    assert_eq!(world.cdrs[0].cause, "declined");
    world.page(alice).reject_after = None;
    let quiet = Originate { user: "alice".into(), to: "600".into(), from: None, name: None, ring_for: Some(5) };
    let second = view(world.command(Command::Originate(quiet)));
    world.run(5_500);
    assert_eq!((world.cdrs[1].call.as_str(), world.cdrs[1].cause.as_str()), (second.call.as_str(), "no-answer"));
    assert_eq!(world.wire.len(), 0);
    world.finish();
}

#[test]
fn a_number_that_is_busy_ends_the_call_of_the_user_who_waits() {
    let mut world = World::where_one(Habits::refusing(486));
    let alice = world.browser(1, "alice");
    world.page(alice).accept_after = Some(50);
    view(world.command(wish("alice", "600")));
    world.finish();
    let name = incoming(&mut world, alice);
    assert_eq!(world.page(alice).ended(&name), ended(Party::Them, "busy", Some(486)));
}

/// The user hangs up, his socket goes, an operator ends it: at every moment, and nothing is left.
#[test]
fn it_can_end_at_every_moment() {
    for at in (0..600).step_by(7) {
        for how in 0..3 {
            let mut world = World::where_one(Habits::answering());
            let alice = world.browser(1, "alice");
            world.page(alice).accept_after = Some(100);
            let begun = view(world.command(wish("alice", "600")));
            world.run(at);
            match how {
                0 => world.close(alice),
                1 => drop(world.command(Command::Hangup(id(&begun)))),
                _ => {
                    if let Some(name) = world.page(alice).incoming() {
                        world.tell(alice, "hangup", &name);
                    } else {
                        world.input(Input::HangupAll);
                    }
                }
            }
            world.finish();
            assert_eq!(world.noticed(Some(&begun.call)).last(), Some(&"call.ended"));
        }
    }
}

#[test]
fn a_call_to_another_user_rings_both_in_turn() {
    let mut world = World::new();
    let (alice, bob) = (world.browser(1, "alice"), world.browser(2, "bob"));
    world.page(alice).accept_after = Some(50);
    world.page(bob).accept_after = Some(300);
    let begun = view(world.command(wish("alice", "bob")));
    world.run(1000);
    assert_eq!(inspect(&mut world, id(&begun)).state, Phase::Answered);
    let plan = plan_of(&world, id(&begun));
    assert!(Side::BOTH.iter().all(|side| plan.leg(*side).unwrap().media.browser().is_some()));
    world.command(Command::Hangup(id(&begun)));
    world.finish();
}

#[test]
fn a_users_phone_is_fetched_as_well_and_hears_the_ringing_from_us() {
    let mut world = a_phone_that_answers();
    world.one().habits = Habits { answer_after: Some(2000), ..Habits::answering() };
    let begun = view(world.command(wish("alice", "600")));
    world.run(1000);
    assert!(world.wire.iter().any(|(_, text)| text.starts_with("INVITE sip:alice@198.51.100.7")), "{}", world.story());
    assert_eq!(inspect(&mut world, id(&begun)).state, Phase::Ringing);
    assert_eq!(hears(&world, id(&begun), Side::A), Hears::PeerOr(ringback::sdp::Tone::Us));
    world.run(2000);
    let now = inspect(&mut world, id(&begun));
    assert_eq!(now.state, Phase::Answered);
    assert_eq!(now.a.unwrap().user.as_deref(), Some("alice"));
    world.command(Command::Hangup(id(&begun)));
    world.run_out();
    assert_eq!(
        world.wire.iter().filter(|(_, text)| text.starts_with("BYE")).count(),
        2,
        "one for the phone, one for the trunk"
    );
}

#[test]
fn digits_hold_and_hang_up_from_outside_are_a_partys_own() {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    let ringing = world.command(Command::List);
    let Reply::Calls(calls) = ringing else { panic!() };
    let one = id(&calls[0]);
    let digits = |digits: &str| Command::Digits(one, Digits { digits: digits.into(), ms: None, to: None });
    assert_eq!(refused(world.command(digits("1"))), (Why::WrongState, None));
    world.until(alice, "c1", "answered");
    view(world.command(digits("12#")));
    assert!(world.commands().iter().any(|command| format!("{command:?}").contains("12#")));
    assert_eq!(refused(world.command(digits("12x"))), (Why::BadRequest, None));
    view(world.command(Command::Hold(one, Hold { on: true, by: None })));
    world.run(100);
    assert!(world.page(alice).story("c1").contains(&"held".to_owned()), "the client of who holds is told");
    assert_eq!(hears(&world, one, Side::B), Hears::Music);
    assert!(inspect(&mut world, one).a.unwrap().holds);
    view(world.command(Command::Hold(one, Hold { on: false, by: Some(End::A) })));
    world.run(100);
    assert_eq!(hears(&world, one, Side::B), Hears::Peer);
    world.command(Command::Hangup(one));
    world.finish();
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Gateway, "normal", None));
    assert_eq!(world.cdr().text, "The call was ended by an operator");
    let names = world.noticed(None);
    assert_eq!(names.iter().filter(|name| **name == "call.held").count(), 2, "{names:?}");
    assert_eq!(refused(world.command(digits("1"))), (Why::UnknownCall, None));
}

#[test]
fn a_hold_for_a_phone_that_the_other_side_refuses_is_none() {
    for status in [None, Some(488)] {
        let mut world = a_phone_that_answers();
        world.one().habits = Habits { refuse_reoffers: status, ..Habits::answering() };
        let begun = view(world.command(wish("alice", "600")));
        world.run(3000);
        assert_eq!(inspect(&mut world, id(&begun)).state, Phase::Answered);
        view(world.command(Command::Hold(id(&begun), Hold { on: true, by: None })));
        world.run(1000);
        assert_eq!(inspect(&mut world, id(&begun)).a.unwrap().holds, status.is_none(), "{status:?}");
        assert_eq!(world.noticed(None).contains(&"call.held"), status.is_none());
        world.command(Command::Hangup(id(&begun)));
        world.run_out();
    }
}

/// He presses hold on his phone while the number rings: whoever answers is held.
#[test]
fn the_hold_of_a_phone_that_was_fetched_stands_when_the_number_answers() {
    for resumed in [false, true] {
        let mut world = a_phone_that_answers();
        world.one().habits = Habits { answer_after: Some(3000), ..Habits::answering() };
        let begun = view(world.command(wish("alice", "600")));
        world.run(1000);
        assert_eq!(inspect(&mut world, id(&begun)).state, Phase::Ringing);
        phone_reoffers(&mut world, 1, Direction::SendOnly);
        if resumed {
            phone_reoffers(&mut world, 2, Direction::SendRecv);
        }
        world.run(4000);
        let now = inspect(&mut world, id(&begun));
        assert_eq!((now.state, now.a.unwrap().holds), (Phase::Answered, !resumed));
        let heard = if resumed { Hears::Peer } else { Hears::PeerOrMusic };
        assert_eq!(hears(&world, id(&begun), Side::B), heard);
        let trunk = world.one().only();
        let asked: Vec<bool> =
            world.one().sessions[&trunk].reoffers.iter().map(|offer| offer.contains("a=sendonly")).collect();
        assert_eq!(asked, vec![true; usize::from(!resumed)], "the trunk is asked to be held, if it is");
        world.command(Command::Hangup(id(&begun)));
        world.run_out();
    }
}

/// The phone of [`a_phone_that_answers`] sends a re-INVITE of its own.
fn phone_reoffers(world: &mut World, cseq: u32, direction: Direction) {
    let invite = world.raws[&address(PHONE)].requests(&Method::Invite)[0].clone();
    let Message::Request(mut request) = raw::in_dialog(&invite, Method::Invite, "phone", cseq) else { unreachable!() };
    request.headers.push("Contact", "<sip:raw@192.0.2.9:5060>");
    request.headers.push("Content-Type", "application/sdp");
    let local = TrunkLocal { direction, version: u64::from(cseq) + 1, ..raw::local(40_000) };
    request.body = trunk::offer(&local).into_bytes();
    world.input_raw(address(PHONE), Message::Request(request));
    world.run(100);
}

#[test]
fn a_transfer_from_outside_goes_by_the_plan_and_the_rights_of_the_calls_user() {
    let mut world = World::where_one(Habits::answering());
    world.two().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    let Reply::Calls(calls) = world.command(Command::List) else { panic!() };
    let one = id(&calls[0]);
    let to = |to: &str| Command::Transfer(one, Transfer { to: Some(to.into()), with: None, by: None });
    assert_eq!(refused(world.command(to("0909 879 0000"))), (Why::CallRefused, Some(403)));
    assert_eq!(
        refused(world.command(Command::Transfer(one, Transfer { to: None, with: None, by: None }))).0,
        Why::BadRequest
    );
    assert!(view(world.command(to("+443021"))).transferring);
    assert_eq!(refused(world.command(to("+443021"))), (Why::WrongState, None));
    world.run(2000);
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Us, "transferred", None));
    let names = world.noticed(Some(&calls[0].call));
    assert!(names.contains(&"call.transferred"), "{names:?}");
    world.command(Command::Hangup(one));
    world.finish();
}

#[test]
fn two_calls_are_joined_from_outside() {
    let mut world = World::where_one(Habits::answering());
    world.two().habits = Habits::answering();
    let (alice, bob) = (world.browser(1, "alice"), world.browser(2, "bob"));
    world.say(alice, &call("c1", "600"));
    world.say(bob, &call("c2", "+443021"));
    world.until(alice, "c1", "answered");
    world.until(bob, "c2", "answered");
    let Reply::Calls(calls) = world.command(Command::List) else { panic!() };
    let (one, two) = (id(&calls[0]), id(&calls[1]));
    let itself = Some(calls[0].call.clone());
    let joined = world.command(Command::Transfer(one, Transfer { to: None, with: itself, by: None }));
    assert_eq!(refused(joined), (Why::BadRequest, None));
    let with = Some(calls[1].call.clone());
    view(world.command(Command::Transfer(one, Transfer { to: None, with, by: None })));
    world.run(2000);
    assert!(world.page(alice).ended("c1").is_some() && world.page(bob).ended("c2").is_some());
    let left: Vec<_> = [one, two]
        .into_iter()
        .filter(|call| matches!(world.command(Command::Inspect(*call)), Reply::Call(_)))
        .collect();
    assert_eq!(left.len(), 1, "one call is left, with the two far parties");
    world.command(Command::Hangup(left[0]));
    world.finish();
}

#[test]
fn quality_and_verdict_are_shown_and_told() {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    let one = world.call_id();
    let leg = LegQuality { inbound: None, outbound: None, rtt_ms: Some(21), hears: None, level_db: -30 };
    world.input(Input::Media { call: one, report: MediaReport::Quality(CallQuality { a: leg, b: leg }) });
    let verdict = Verdict { at: Side::B, cause: NoAudio::NoRtp };
    world.input(Input::Media { call: one, report: MediaReport::Audio { from: Side::B, verdict: Some(verdict) } });
    let now = inspect(&mut world, one);
    let far = now.b.unwrap();
    assert_eq!((far.quality.unwrap().rtt_ms, far.no_audio.unwrap().cause.as_str()), (Some(21), "no-rtp"));
    world.input(Input::Media { call: one, report: MediaReport::Audio { from: Side::B, verdict: None } });
    let told = world.notices.iter().any(|notice| {
        matches!(notice, Notice::NoAudio { from: End::B, leg: End::B, cause, fault: true, .. } if cause == "no-rtp")
    });
    assert!(told && world.noticed(None).contains(&"call.audio"));
    world.command(Command::Hangup(one));
    world.finish();
    let Some(Notice::Ended { cdr, .. }) = world.notices.last() else { panic!() };
    assert_eq!(cdr.as_ref(), world.cdr());
}

/// Everything that can be asked for of a call, at every moment of its life: nothing is left, whatever comes of it.
#[test]
fn commands_at_every_moment_leave_nothing_behind() {
    for at in (0..700).step_by(13) {
        for which in 0..4 {
            let mut world = World::where_one(Habits::answering());
            world.two().habits = Habits::answering();
            let alice = world.browser(1, "alice");
            world.page(alice).accept_after = Some(60);
            let begun = id(&view(world.command(wish("alice", "600"))));
            world.run(at);
            world.command(match which {
                0 => Command::Digits(begun, Digits { digits: "5".into(), ms: None, to: Some(End::A) }),
                1 => Command::Hold(begun, Hold { on: true, by: Some(End::B) }),
                2 => Command::Transfer(begun, Transfer { to: Some("+443021".into()), with: None, by: Some(End::A) }),
                _ => Command::Transfer(begun, Transfer { to: Some("bob".into()), with: None, by: Some(End::B) }),
            });
            world.run(1500);
            world.command(Command::Hangup(begun));
            world.finish();
        }
    }
}
