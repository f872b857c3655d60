//! Phone to browser.

use ringback::signal::{Party, ServerMessage};

use crate::support::world::{GATEWAY, ONE};
use crate::support::{World, ended};

const ALICE: &str = "+442079460100";
const BOTH: &str = "+442079460200";

#[test]
fn a_phone_calls_a_browser() {
    let mut world = World::new();
    let alice = world.browser(1, "alice");
    let session = world.trunk_calls(ALICE, true);
    world.run(100);
    let name = world.page(alice).incoming().expect("it rings");
    let Some(ServerMessage::Incoming { from, name: display, to, .. }) = world.page(alice).heard.last().cloned() else {
        panic!("{:?}", world.page(alice).heard)
    };
    assert_eq!((from.as_str(), display.as_deref(), to.as_str()), ("+447700900123", Some("Carol \"C\""), ALICE));
    assert_eq!(world.one().sessions[&session].provisionals, [180]);
    world.run(3000);
    world.accept(alice);
    world.run(2000);
    assert!(world.one().sessions[&session].answered);
    assert_eq!(world.page(alice).story(&name), ["incoming", "answered"]);
    world.with_peer(ONE, |peer, now| peer.ua.hangup(now, session, None));
    world.finish();
    assert_eq!(world.page(alice).ended(&name), ended(Party::Them, "normal", None));
    let cdr = world.cdr();
    assert_eq!(
        (cdr.user.as_str(), cdr.number.as_deref(), cdr.from.as_deref()),
        ("alice", Some(ALICE), Some("+447700900123"))
    );
    assert!(cdr.answer.is_some() && cdr.ringing.is_some());
}

#[test]
fn a_caller_without_an_offer_gets_ours_and_answers_in_the_ack() {
    let mut world = World::new();
    let alice = world.browser(1, "alice");
    world.page(alice).accept_after = Some(500);
    let at = crate::support::world::address(ONE);
    // A true user agent as caller answers no offers in ACKs: a caller by hand does.
    world.script(crate::support::raw::Raw::new(at, crate::inbound::late_answerer()));
    let invite = crate::support::raw::invite(ALICE, None);
    world.input_raw(at, invite);
    world.run(2000);
    let name = world.page(alice).incoming().unwrap();
    assert_eq!(world.page(alice).story(&name), ["incoming", "answered"]);
    let ringback::sdp::MediaCommand::Update(plan) = world.commands().last().unwrap() else {
        panic!("{:?}", world.commands())
    };
    assert_eq!(crate::support::world::rtp(plan, ringback::sdp::Side::A).remote_rtp.unwrap().port(), 7000);
    world.tell(alice, "hangup", &name);
    world.finish();
    assert_eq!(world.cdr().cause, "normal");
}

/// Answers our 200's offer in the ACK, and our BYE with 200.
pub fn late_answerer() -> impl FnMut(&ringback::sip::Message) -> Vec<ringback::sip::Message> {
    use ringback::sip::{Message, Method};
    |message| match message {
        Message::Response(response) if response.status == 200 => {
            vec![crate::support::raw::ack(response, Some(7000))]
        }
        Message::Request(request) if request.method == Method::Bye => {
            vec![Message::Response(request.response(200, "OK"))]
        }
        _ => Vec::new(),
    }
}

#[test]
fn every_browser_rings_and_the_first_takes_the_call() {
    let mut world = World::new();
    let (one, two, bob) = (world.browser(1, "alice"), world.browser(2, "alice"), world.browser(3, "bob"));
    let session = world.trunk_calls(BOTH, true);
    world.run(1000);
    world.accept(two);
    world.accept(bob); // too late by nothing
    world.run(1000);
    let name = world.page(two).incoming().unwrap();
    assert_eq!(world.page(two).story(&name), ["incoming", "answered"]);
    assert_eq!(world.page(one).ended(&name), ended(Party::Gateway, "answered-elsewhere", Some(200)));
    assert_eq!(world.page(bob).story(&name), ["incoming", "ended", "error"]);
    world.tell(two, "hangup", &name);
    world.finish();
    assert_eq!(world.one().sessions[&session].ends, ["ended Remote"]);
    assert_eq!(world.cdr().user, "alice");
    // To the PRACK of the 180, and to the INVITE.
    assert_eq!(world.sent(GATEWAY, "SIP/2.0 200"), 2);
}

#[test]
fn nobody_there_is_480_and_unknown_numbers_are_404_or_as_the_plan_says() {
    let mut world = World::new();
    let session = world.trunk_calls(ALICE, true);
    world.finish();
    assert_eq!(world.one().sessions[&session].ends, ["failed 480"]);
    assert_eq!(world.cdr().cause, "unavailable");

    let mut world = World::new();
    let alice = world.browser(1, "alice");
    world.trunk_calls("+449999", true);
    world.finish();
    assert_eq!(world.page(alice).incoming(), None);
    assert!(world.sent(GATEWAY, "SIP/2.0 4") == 1, "{}", world.story());
}

#[test]
fn refused_by_all_is_the_strongest_of_their_words() {
    for (first, second, told, cause) in [
        (486, 603, 603, "declined"),
        (486, 480, 486, "busy"),
        (603, 486, 603, "declined"),
        (480, 480, 480, "unavailable"),
    ] {
        let mut world = World::new();
        let (alice, bob) = (world.browser(1, "alice"), world.browser(2, "bob"));
        world.page(alice).reject_after = Some((100, first));
        world.page(bob).reject_after = Some((200, second));
        let session = world.trunk_calls(BOTH, true);
        world.finish();
        assert_eq!(world.one().sessions[&session].ends, [format!("failed {told}")]);
        assert_eq!(world.cdr().cause, cause);
        let name = world.page(alice).incoming().unwrap();
        assert_eq!(world.page(alice).story(&name), ["incoming", "ended"]);
        assert_eq!(world.page(bob).story(&name), ["incoming", "ended"]);
    }
}

#[test]
fn the_caller_gives_up() {
    let mut world = World::new();
    let (alice, bob) = (world.browser(1, "alice"), world.browser(2, "bob"));
    let session = world.trunk_calls(BOTH, true);
    world.run(2000);
    world.with_peer(ONE, |peer, now| peer.ua.hangup(now, session, None));
    world.finish();
    let name = world.page(alice).incoming().unwrap();
    for page in [alice, bob] {
        assert_eq!(world.page(page).ended(&name), ended(Party::Them, "cancelled", Some(487)));
    }
    assert_eq!(world.cdr().cause, "cancelled");
}

#[test]
fn nobody_answers_in_time() {
    let mut world = World::new();
    let alice = world.browser(1, "alice");
    let session = world.trunk_calls(ALICE, true);
    world.finish();
    let name = world.page(alice).incoming().unwrap();
    assert_eq!(world.page(alice).ended(&name), ended(Party::Gateway, "no-answer", Some(480)));
    assert_eq!(world.one().sessions[&session].ends, ["failed 480"]);
    let cdr = world.cdr();
    assert_eq!(cdr.end - cdr.ringing.unwrap(), 20_000);
}

#[test]
fn browsers_that_vanish_while_they_ring() {
    let mut world = World::new();
    let (alice, bob) = (world.browser(1, "alice"), world.browser(2, "bob"));
    let session = world.trunk_calls(BOTH, true);
    world.run(500);
    world.close(alice);
    world.run(500);
    assert!(world.one().sessions[&session].ends.is_empty());
    world.close(bob);
    world.finish();
    assert_eq!(world.one().sessions[&session].ends, ["failed 480"]);
    assert_eq!(world.cdr().cause, "browser-gone");
}

#[test]
fn a_body_that_is_no_description_is_415_and_a_foreign_one_488() {
    for (content, status) in [("text/plain", "415"), ("application/sdp", "4")] {
        let mut world = World::new();
        let alice = world.browser(1, "alice");
        let at = crate::support::world::address(ONE);
        world.script(crate::support::raw::Raw::new(at, crate::support::raw::polite()));
        let invite = crate::support::raw::invite(ALICE, Some((content, "v=0\r\nhello\r\n")));
        world.input_raw(at, invite);
        world.finish();
        assert_eq!(world.page(alice).incoming(), None);
        assert_eq!(world.sent(GATEWAY, &format!("SIP/2.0 {status}")), 1, "{}", world.story());
    }
}
