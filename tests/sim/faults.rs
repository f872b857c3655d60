//! Trunks that are silent, dead or unreachable; resources that are used up; media that breaks.

use std::time::Duration;

use ringback::call::CallId;
use ringback::dialplan::{Plan, PlanFile};
use ringback::sdp::{MediaLoss, MediaReport, Side, TransportName};
use ringback::signal::Party;
use ringback::sip::{Flow, Message, Method, Transport};
use ringback::switch::Input;

use crate::support::raw::{self, Raw, reply};
use crate::support::world::{GATEWAY, ONE, PLAN, TWO, address, config};
use crate::support::{Fate, Habits, World, call, ended};

const TIERS: &str = "+443001";

fn tried(world: &World) -> Vec<(String, String)> {
    world.cdr().trunks.iter().map(|tried| (tried.trunk.clone(), tried.result.clone())).collect()
}

/// Why each failed, in a word and in its own.
fn why(world: &World) -> Vec<Option<(String, String)>> {
    world.cdr().trunks.iter().map(|tried| tried.cause.clone().zip(tried.text.clone())).collect()
}

fn pair(trunk: &str, result: &str) -> (String, String) {
    (trunk.into(), result.into())
}

#[test]
fn a_silent_trunk_is_left_for_the_next_within_two_seconds() {
    let mut world = World::new();
    world.script(Raw::new(address(ONE), |_| Vec::new()));
    world.two().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", TIERS));
    world.until(alice, "c1", "answered");
    assert!(world.elapsed_ms() < 2500, "{}", world.elapsed_ms());
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(tried(&world), [pair("one", "408"), pair("two", "answered")]);
}

#[test]
fn a_trunk_that_says_100_is_given_time() {
    let mut world = World::where_one(Habits { ring_after: Some(6000), answer_after: Some(7000), ..Habits::default() });
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", TIERS));
    world.until(alice, "c1", "answered");
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(tried(&world), [pair("one", "answered")]);
    assert!(world.two().sessions.is_empty());
}

#[test]
fn all_trunks_silent_is_a_timeout() {
    let mut world = World::new();
    world.script(Raw::new(address(ONE), |_| Vec::new()));
    world.script(Raw::new(address(TWO), |_| Vec::new()));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", TIERS));
    world.finish();
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Network, "timeout", Some(408)));
    assert_eq!(tried(&world), [pair("one", "408"), pair("two", "408")]);
}

#[test]
fn failures_move_on_and_verdicts_do_not() {
    for (status, moves) in [
        (500, true),
        (503, true),
        (408, true),
        (502, true),
        (404, false),
        (486, false),
        (603, false),
        (403, false),
        (488, false),
    ] {
        let mut world = World::where_one(Habits::refusing(status));
        world.two().habits = Habits::answering();
        let alice = world.browser(1, "alice");
        world.say(alice, &call("c1", TIERS));
        if moves {
            world.until(alice, "c1", "answered");
            assert!(world.elapsed_ms() < 500);
            world.tell(alice, "hangup", "c1");
        }
        world.finish();
        assert_eq!(world.two().sessions.len(), usize::from(moves), "{status}");
        assert_eq!(world.cdr().trunks[0].result, status.to_string());
    }
}

#[test]
fn a_trunk_that_rang_and_then_fails_has_had_its_chance() {
    let mut world =
        World::where_one(Habits { ring_after: Some(50), refuse_after: Some((300, 503)), ..Habits::default() });
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", TIERS));
    world.finish();
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Them, "congestion", Some(503)));
    assert!(world.two().sessions.is_empty());
}

#[test]
fn a_trunk_out_of_reach_is_left_at_once() {
    let mut world = World::new();
    world.script(Raw::new(address(ONE), |_| Vec::new()));
    world.two().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", TIERS));
    world.run(3);
    let flow = Flow { transport: Transport::Udp, local: address(GATEWAY), remote: address(ONE), id: 0 };
    world.input(Input::SipFailed { flow });
    world.until(alice, "c1", "answered");
    assert!(world.elapsed_ms() < 1000);
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(tried(&world), [pair("one", "503"), pair("two", "answered")]);
    // Nobody said 503: that nobody is there is told apart from a trunk that has no room.
    assert_eq!(why(&world), [Some(("trunk-unreachable".into(), "The trunk cannot be reached".into())), None]);
}

#[test]
fn why_a_trunk_failed_stands_in_the_record_in_its_own_words() {
    let mut world = World::where_one(Habits { refuse_after: Some((10, 503)), ..Habits::default() });
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", TIERS));
    world.finish();
    assert_eq!(tried(&world)[0], pair("one", "503"));
    assert_eq!(why(&world)[0], Some(("congestion".into(), "Service Unavailable".into())));
}

#[test]
fn a_silent_trunk_that_wakes_up_late_gets_no_second_call() {
    // Its 200 comes after we have moved on: acknowledged and hung up.
    let mut world = World::where_one(Habits { answer_after: Some(1), ..Habits::default() });
    world.network = Box::new(|_, bytes| {
        let from_one = bytes.starts_with(b"SIP/2.0 ") && String::from_utf8_lossy(bytes).contains("192.0.2.9");
        if from_one { Fate::Late(3000) } else { Fate::Arrive }
    });
    world.two().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", TIERS));
    world.until(alice, "c1", "answered");
    world.run(8000);
    assert!(world.one().sessions.values().all(|seen| seen.ends.len() == 1), "{:?}", world.one().sessions);
    world.network = Box::new(|_, _| Fate::Arrive);
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert_eq!(world.cdrs.len(), 1);
}

#[test]
fn a_trunk_that_dies_in_a_call_is_found_out_at_the_end_and_the_call_still_ends_once() {
    let mut world = World::where_one(Habits::answering());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    world.run(1000);
    world.script(Raw::new(address(ONE), |_| Vec::new()));
    // the media path notices first
    let call = world.call_id();
    world.lost(call, Side::B, MediaLoss::RtpSilent);
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Network, "media-lost", Some(500)));
    world.finish();
    assert!(world.sent(GATEWAY, "BYE") > 3, "the BYE is repeated to the dead");
}

#[test]
fn every_loss_of_media_ends_the_call_with_its_words() {
    for (loss, by, cause) in [
        (Some(MediaLoss::IceTimeout), Party::Network, "media-lost"),
        (Some(MediaLoss::ConsentExpired), Party::Network, "media-lost"),
        (Some(MediaLoss::DtlsFailed), Party::Network, "media-lost"),
        (Some(MediaLoss::FingerprintMismatch), Party::Network, "media-lost"),
        (None, Party::Network, "media-lost"),
        (Some(MediaLoss::BrowserClosed), Party::Us, "normal"),
    ] {
        let mut world = World::where_one(Habits::answering());
        let alice = world.browser(1, "alice");
        world.say(alice, &call("c1", "600"));
        world.until(alice, "c1", "answered");
        let call = world.call_id();
        for _ in 0..2 {
            match loss {
                Some(loss) => world.lost(call, Side::A, loss),
                None => world.input(Input::Media { call, report: MediaReport::Failed }),
            }
        }
        // A page that closed its connection may be loading anew.
        world.run(2_000);
        assert_eq!(world.page(alice).ended("c1").map(|end| (end.0, end.1)), Some((by, cause.to_owned())));
        world.finish();
        assert_eq!(world.one().sessions.values().next().unwrap().ends, ["ended Remote"]);
    }
}

#[test]
fn no_media_resources_is_503_both_ways() {
    let mut world = World::new();
    world.lease_after = None;
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    let session = world.trunk_calls("+442079460100", true);
    world.finish();
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Gateway, "no-resources", Some(503)));
    assert_eq!(world.page(alice).retry_after("c1"), Some(5));
    assert_eq!(world.page(alice).incoming(), None);
    assert_eq!(world.one().sessions[&session].ends, ["failed 503"]);
    assert_eq!(world.one().sessions[&session].retry_after, Some(5));
    assert_eq!(world.cdrs.len(), 2);
}

#[test]
fn a_lease_that_comes_too_late_goes_back() {
    for ms in [0, 30, 5000, 6000] {
        let mut world = World::new();
        world.lease_after = Some(ms);
        let alice = world.browser(1, "alice");
        world.say(alice, &call("c1", "600"));
        world.close(alice);
        world.finish();
        assert_eq!(world.cdr().cause, "browser-gone");
    }
    let mut world = World::new();
    world.lease_after = Some(8000);
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.finish();
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Gateway, "no-resources", Some(503)));
}

#[test]
fn a_media_path_that_never_reports_its_end_keeps_nothing() {
    let mut world = World::where_one(Habits { bye_after: Some(100), ..Habits::answering() });
    world.stop_after = None;
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.finish();
    assert!(world.cdr().media.is_none());
}

#[test]
fn strangers_get_silence() {
    let mut world = World::new();
    let bytes = b"OPTIONS sip:192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.5;branch=z9hG4bKx\r\n\r\n".to_vec();
    let flow = Flow { transport: Transport::Udp, local: address(GATEWAY), remote: address("203.0.113.5:5060"), id: 0 };
    for _ in 0..100 {
        world.input(Input::Sip { flow, bytes: bytes.clone() });
    }
    world.run(Duration::from_secs(60).as_millis() as u64);
    assert_eq!((world.switch.stats().dropped_sip, world.packets), (100, 0));
}

/// The trunk's Contact is another host than the trunk: ours go there, so his BYE may come from there, while the call lasts.
#[test]
fn the_contact_of_a_call_is_heard_for_as_long_as_the_call_lasts() {
    const CONTACT: &str = "203.0.113.9:5060";
    let mut world = World::new();
    let to_invite = |message: &Message| match message {
        Message::Request(request) if request.method == Method::Invite => {
            let Message::Response(mut ok) = raw::reply(request, 200, "b", Some(40_000)) else { unreachable!() };
            ok.headers.set("Contact", format!("<sip:raw@{CONTACT}>"));
            vec![Message::Response(ok)]
        }
        _ => Vec::new(),
    };
    world.script(Raw::new(address(ONE), to_invite));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    let invite = world.raws[&address(ONE)].requests(&Method::Invite)[0].clone();
    let Message::Request(bye) = raw::in_dialog(&invite, Method::Bye, "b", 1) else { unreachable!() };
    let flow = |remote| Flow { transport: Transport::Udp, local: address(GATEWAY), remote: address(remote), id: 0 };
    world.input(Input::Sip { flow: flow("203.0.113.8:5060"), bytes: bye.to_bytes() });
    assert_eq!((world.page(alice).ended("c1"), world.switch.stats().dropped_sip), (None, 1));
    world.input(Input::Sip { flow: flow(CONTACT), bytes: bye.to_bytes() });
    assert_eq!(world.page(alice).ended("c1").map(|end| end.0), Some(Party::Them));
    world.finish();
    world.input(Input::Sip { flow: flow(CONTACT), bytes: bye.to_bytes() });
    assert_eq!(world.switch.stats().dropped_sip, 2);
}

/// A listener on `[::]` shows IPv4 peers so.
#[test]
fn a_trunk_is_known_by_its_mapped_address() {
    let mut world = World::new();
    let flow =
        Flow { transport: Transport::Udp, local: address(GATEWAY), remote: address("[::ffff:192.0.2.9]:5060"), id: 0 };
    world.input(Input::Sip { flow, bytes: b"OPTIONS".to_vec() });
    assert_eq!(world.switch.stats().dropped_sip, 0);
}

#[test]
fn reports_of_calls_that_are_not_change_nothing() {
    let mut world = World::new();
    let (side, transport) = (Side::A, TransportName::Rtp(1));
    for report in [
        MediaReport::Connected { side, transport: transport.clone() },
        MediaReport::Lost { side, transport, loss: MediaLoss::IceTimeout },
    ] {
        world.input(Input::Media { call: CallId(5), report });
    }
    world.finish();
    assert!(world.cdrs.is_empty());
}

/// Each trunk of a route is told the address of our media that it can reach: the lease names them all.
#[test]
fn the_lease_is_for_every_trunk_of_the_route() {
    let mut world = World::where_one(Habits::refusing(503));
    world.two().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", TIERS));
    world.until(alice, "c1", "answered");
    let mut peers = world.media[&world.call_id()].peers.clone();
    peers[0].sort_unstable();
    assert_eq!(peers, [[address(ONE), address(TWO)]]);
    world.tell(alice, "hangup", "c1");
    world.finish();
}

/// A trunk that answers every INVITE for 600 with a 302 to these Contacts, takes one for 601, and refuses 602.
fn redirecting(contacts: &'static [&'static str]) -> impl FnMut(&Message) -> Vec<Message> {
    move |message| match message {
        Message::Request(invite) if invite.method == Method::Invite => match invite.uri.user.as_deref() {
            Some("601" | "+445001234") => vec![reply(invite, 200, "a", Some(5000))],
            Some("602") => vec![reply(invite, 503, "b", None)],
            _ => {
                let Message::Response(mut moved) = reply(invite, 302, "r", None) else { unreachable!() };
                moved.headers.remove("Contact");
                for contact in contacts {
                    moved.headers.push("Contact", *contact);
                }
                vec![Message::Response(moved)]
            }
        },
        Message::Request(request) if request.method != Method::Ack => {
            vec![Message::Response(request.response(200, "OK"))]
        }
        _ => Vec::new(),
    }
}

/// The users that were called after the first INVITE, in order.
fn redirected(world: &World) -> Vec<String> {
    let invites = world.raws[&address(ONE)].requests(&Method::Invite);
    invites.iter().skip(1).filter_map(|invite| invite.uri.user.clone()).collect()
}

/// Where a 3xx leads to, by `q`, within the trunk, five places at most and none twice (RFC 3261 section 8.1.3.4).
#[test]
fn a_redirection_is_followed_within_its_trunk_and_never_in_a_circle() {
    let table: [(&[&str], bool, &str, &[&str]); 6] = [
        (&["<sip:601@192.0.2.9>"], true, "", &["601"]),
        (&["<sip:601@192.0.2.9>;q=0.1", "<sip:602@192.0.2.9>;q=0.9"], true, "", &["602", "601"]),
        (&["<sip:601@203.0.113.7>"], false, "refused-by-network", &[]),
        (&["<sip:601@evil.example>"], false, "refused-by-network", &[]),
        (&["<tel:+15550100>"], false, "refused-by-network", &[]),
        (&["<sip:603@192.0.2.9>"], false, "refused-by-network", &["603"]),
    ];
    for (contacts, answered, cause, places) in table {
        let mut world = World::new();
        world.script(Raw::new(address(ONE), redirecting(contacts)));
        let alice = world.browser(1, "alice");
        world.say(alice, &call("c1", "600"));
        world.run(3000);
        assert_eq!(redirected(&world), places, "{contacts:?}");
        assert_eq!(world.page(alice).story("c1").contains(&"answered".to_owned()), answered, "{contacts:?}");
        if answered {
            world.tell(alice, "hangup", "c1");
        } else {
            assert_eq!(world.page(alice).ended("c1").unwrap().1, cause, "{contacts:?}");
        }
        world.finish();
    }
    let mut config = config(3);
    config.trunks[0].redirects = ringback::switch::Redirects::Off;
    let mut world = World::with(config);
    world.script(Raw::new(address(ONE), redirecting(&["<sip:601@192.0.2.9>"])));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.finish();
    assert_eq!(world.page(alice).ended("c1").unwrap().2, Some(302));
}

/// A 3xx to another number is a call to that number: the dial plan must allow it to the caller, by the same trunk, and the
/// record says where it led.
#[test]
fn a_redirection_to_a_number_that_the_plan_bars_is_a_refusal() {
    let table: [(&[&str], &[&str], &[&str]); 6] = [
        (&["<sip:+449098790000@192.0.2.9>"], &[], &["+449098790000"]),
        (&["<sip:%2B449098790000@192.0.2.9;user=phone>"], &[], &["+449098790000"]),
        (&["<sip:09098790000@192.0.2.9>"], &[], &["09098790000"]),
        (&["<sip:+443020000@192.0.2.9>"], &[], &["+443020000"]), // by the other trunk
        (&["<sip:alice@192.0.2.9>", "<sip:192.0.2.9>"], &[], &["alice", ""]),
        (&["<sip:+449098790000@192.0.2.9>;q=0.9", "<sip:601@192.0.2.9>;q=0.1"], &["601"], &["+449098790000", "601"]),
    ];
    for (contacts, places, named) in table {
        let mut world = World::new();
        world.script(Raw::new(address(ONE), redirecting(contacts)));
        let alice = world.browser(1, "alice");
        world.say(alice, &call("c1", "600"));
        world.run(3000);
        assert_eq!(redirected(&world), places, "{contacts:?}");
        if places.is_empty() {
            assert_eq!(world.page(alice).ended("c1").unwrap().2, Some(302), "{contacts:?}");
        } else {
            world.tell(alice, "hangup", "c1");
        }
        world.finish();
        let first = &world.cdr().trunks[0];
        assert_eq!(
            (first.result.as_str(), &first.redirected[..]),
            ("302", &named.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{contacts:?}"
        );
    }
}

/// What needs no new judgement: the number called, elsewhere in the trunk.
#[test]
fn a_redirection_of_the_same_number_within_the_trunk_is_followed_unasked() {
    let mut world = World::new();
    world.script(Raw::new(address(ONE), redirecting(&["<sip:600@192.0.2.9;edge=2>"])));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.run(3000);
    assert_eq!(world.raws[&address(ONE)].requests(&Method::Invite).len(), 2);
    world.finish();
    let trunks = &world.cdr().trunks;
    assert_eq!((trunks.len(), trunks[0].redirected.len()), (2, 0));
}

/// Who may not call a number is not led there either, and the call lasts no longer than the plan allows to the new number.
#[test]
fn a_redirection_is_bound_by_the_new_numbers_longest_call() {
    let text = PLAN.replace("prefix = [\"+44500\"]", "prefix = [\"+44500\"]\nlongest_call = '20s'");
    let files = [PlanFile { name: "sim.toml".into(), text }];
    let mut config = config(3);
    config.plan = Plan::load(&files, &["one".into(), "two".into()]).unwrap().into();
    let mut world = World::with(config);
    world.script(Raw::new(address(ONE), redirecting(&["<sip:+445001234@192.0.2.9>"])));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answered");
    world.run(21_000);
    assert_eq!(world.page(alice).ended("c1").unwrap().1, "max-duration");
    world.finish();
}
