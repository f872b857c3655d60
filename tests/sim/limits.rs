//! Limits against fraud: what a user, his token, his class, a trunk and the whole gateway may call out.

use std::time::Duration;

use ringback::call::{Cdr, SocketId};
use ringback::dialplan::{Plan, PlanFile};
use ringback::signal::{Claims, Party, ServerMessage, TokenVerifier, sign_hs256};
use ringback::switch::{
    Auth, ClassQuota, Command, Denial, Input, Notice, Originate, Quota, Quotas, Reply, SwitchConfig, Why,
};
use serde_json::json;

use crate::plans::with_emergency;
use crate::support::world::{PLAN, config};
use crate::support::{Habits, World, call, ended};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
/// The worlds' clock begins here, Unix seconds.
const EPOCH: u64 = 1_800_000_000;
const UK: &str = "+442079460000";

fn limited(quotas: Quotas) -> World {
    let mut world = World::with(SwitchConfig { quotas, ..config(1) });
    world.one().habits = Habits::answering();
    world.two().habits = Habits::answering();
    world
}

fn each_user(user: Quota) -> Quotas {
    Quotas { user, ..Quotas::default() }
}

fn tripped(world: &World) -> Vec<(String, String, String)> {
    let told = world.notices.iter().filter_map(|notice| match notice {
        Notice::LimitTripped { scope, name, limit, .. } => Some((scope.clone(), name.clone(), limit.clone())),
        _ => None,
    });
    told.collect()
}

/// The record that was written last.
fn last(world: &World) -> &Cdr {
    world.cdrs.last().expect("a record")
}

fn alarm(scope: &str, name: &str, limit: &str) -> (String, String, String) {
    (scope.into(), name.into(), limit.into())
}

#[test]
fn calls_at_once_refuse_a_browser_before_anything_is_set_up_and_raise_one_alarm() {
    let mut world = limited(each_user(Quota { calls: Some(1), ..Quota::default() }));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", UK));
    world.until(alice, "c1", "answered");
    world.say(alice, &call("c2", UK));
    world.say(alice, &call("c3", UK));
    assert_eq!(world.page(alice).story("c2"), ["ended"]);
    assert_eq!(world.page(alice).ended("c2"), ended(Party::Gateway, "limit-reached", Some(503)));
    assert_eq!(tripped(&world), [alarm("user", "alice", "calls")]);
    let cdr = last(&world);
    assert_eq!((cdr.cause.as_str(), cdr.sip, cdr.rule.as_deref()), ("limit-reached", Some(503), Some("world")));
    assert!(cdr.text.contains("1 for you") && cdr.text.contains("end one first"), "{}", cdr.text);
    // Calls between users cost nothing.
    world.browser(2, "bob");
    world.say(alice, &call("c4", "bob"));
    world.run(100);
    assert!(world.page(SocketId(2)).incoming().is_some());
    world.tell(alice, "hangup", "c4");
    world.tell(alice, "hangup", "c1");
    world.run(1_000);
    world.say(alice, &call("c5", UK));
    world.until(alice, "c5", "answered");
    world.tell(alice, "hangup", "c5");
    world.finish();
}

/// The page that is told of the end may call again at once: the trunk's answer to our BYE is not waited for.
#[test]
fn a_call_that_is_over_leaves_room_before_its_bye_is_answered() {
    let mut world = limited(each_user(Quota { calls: Some(1), ..Quota::default() }));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", UK));
    world.until(alice, "c1", "answered");
    world.tell(alice, "hangup", "c1");
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Us, "normal", None));
    world.say(alice, &call("c2", UK));
    world.until(alice, "c2", "answered");
    world.tell(alice, "hangup", "c2");
    // One that was given up as well.
    world.say(alice, &call("c3", UK));
    world.run(3);
    assert_eq!(world.sent("192.0.2.1:5060", "INVITE"), 3, "it is out, and not answered");
    world.tell(alice, "hangup", "c3");
    world.say(alice, &call("c4", UK));
    world.until(alice, "c4", "answered");
    world.tell(alice, "hangup", "c4");
    world.finish();
}

/// Both calls are asked about before either goes out: the second is refused then.
#[test]
fn two_calls_that_begin_together_are_not_both_taken() {
    let mut world = limited(each_user(Quota { calls: Some(1), ..Quota::default() }));
    world.lease_after = Some(50);
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", UK));
    world.say(alice, &call("c2", UK));
    world.until(alice, "c1", "answered");
    assert_eq!(world.page(alice).ended("c2"), ended(Party::Gateway, "limit-reached", Some(503)));
    assert_eq!(world.sent("192.0.2.1:5060", "INVITE"), 1);
    world.tell(alice, "hangup", "c1");
    world.finish();
}

#[test]
fn calls_a_minute_say_when_to_try_again() {
    let mut world = limited(each_user(Quota { calls_per_minute: Some(2), ..Quota::default() }));
    let alice = world.browser(1, "alice");
    for name in ["c1", "c2", "c3"] {
        world.say(alice, &call(name, UK));
        world.run(10_000);
        world.tell(alice, "hangup", name);
        world.run(1_000);
    }
    assert_eq!(world.page(alice).story("c2").last().map(String::as_str), Some("ended"));
    assert_eq!(world.page(alice).ended("c3"), ended(Party::Gateway, "limit-reached", Some(503)));
    assert!(last(&world).text.contains("try again in 39 s"), "{}", last(&world).text);
    world.run(28_000);
    world.say(alice, &call("c4", UK));
    world.until(alice, "c4", "answered");
    world.tell(alice, "hangup", "c4");
    world.finish();
}

#[test]
fn a_call_ends_when_the_minutes_of_the_day_are_used_up() {
    let mut world = limited(each_user(Quota { minutes_per_day: Some(1), ..Quota::default() }));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", UK));
    world.until(alice, "c1", "answered");
    world.run(61_000);
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Gateway, "limit-reached", None));
    assert_eq!(last(&world).end - last(&world).answer.unwrap(), 60_000);
    assert_eq!(tripped(&world), [alarm("user", "alice", "minutes_per_day")]);
    world.say(alice, &call("c2", UK));
    assert_eq!(world.page(alice).ended("c2"), ended(Party::Gateway, "limit-reached", Some(403)));
    world.finish();
}

#[test]
fn the_longest_call_of_a_user_and_of_a_trunk() {
    let long = |seconds| Quota { longest_call: Some(Duration::from_secs(seconds)), ..Quota::default() };
    let trunks = [("two".to_owned(), long(10))].into();
    let mut world = limited(Quotas { trunks, ..each_user(long(30)) });
    let alice = world.browser(1, "alice");
    for (name, number, seconds) in [("c1", UK, 30), ("c2", "+443021234", 10)] {
        world.say(alice, &call(name, number));
        world.until(alice, name, "ended");
        assert_eq!(world.page(alice).ended(name), ended(Party::Gateway, "max-duration", None));
        world.run(1_000);
        assert_eq!(last(&world).end - last(&world).answer.unwrap(), seconds * 1000);
    }
    world.finish();
}

/// Past the limit of one trunk the next one is tried; with none left the caller is told of the limit.
#[test]
fn a_trunks_limit_leads_to_the_next_trunk() {
    let one = Quota { calls: Some(1), ..Quota::default() };
    let mut world = limited(Quotas { trunks: [("one".into(), one), ("two".into(), one)].into(), ..Quotas::default() });
    let alice = world.browser(1, "alice");
    for name in ["c1", "c2"] {
        world.say(alice, &call(name, "+44300123456"));
        world.until(alice, name, "answered");
    }
    world.say(alice, &call("c3", "+44300123456"));
    world.until(alice, "c3", "ended");
    assert_eq!(world.page(alice).ended("c3"), ended(Party::Gateway, "limit-reached", Some(503)));
    world.run(100);
    let tried: Vec<_> = last(&world).trunks.iter().map(|it| (it.trunk.as_str(), it.result.as_str())).collect();
    assert_eq!(tried, [("one", "limit"), ("two", "limit")]);
    assert_eq!((world.one().sessions.len(), world.two().sessions.len()), (1, 1));
    assert!(tripped(&world).contains(&alarm("trunk", "one", "calls")));
    world.input(Input::HangupAll);
    world.finish();
}

/// A trunk that fails costs the call one try, not two.
#[test]
fn a_call_that_goes_by_the_second_trunk_counts_once() {
    let mut world = limited(each_user(Quota { calls: Some(1), calls_per_minute: Some(1), ..Quota::default() }));
    world.one().habits = Habits::refusing(503);
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "+44300123456"));
    world.until(alice, "c1", "answered");
    assert_eq!(world.two().sessions.len(), 1);
    world.tell(alice, "hangup", "c1");
    world.finish();
}

#[test]
fn emergency_calls_are_never_limited_and_cost_nothing() {
    let quota = Quota { calls: Some(1), calls_per_minute: Some(1), ..Quota::default() };
    let trunks = [("one".to_owned(), quota), ("two".to_owned(), quota)].into();
    let quotas = Quotas { gateway: quota, trunks, ..each_user(quota) };
    let mut world = World::with(SwitchConfig { quotas, ..with_emergency() });
    world.one().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    for (name, number) in [("c1", "112"), ("c2", UK), ("c3", "112")] {
        world.say(alice, &call(name, number));
        world.until(alice, name, "answered");
    }
    assert!(tripped(&world).is_empty());
    world.input(Input::HangupAll);
    world.finish();
}

#[test]
fn what_was_used_outlives_a_restart() {
    let quotas = each_user(Quota { minutes_per_day: Some(1), new_countries_per_day: Some(1), ..Quota::default() });
    let mut world = limited(quotas.clone());
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", UK));
    world.until(alice, "c1", "answered");
    world.run(59_500);
    world.tell(alice, "hangup", "c1");
    world.run(2_000);
    assert!(world.switch.has_limit_changes());
    let now = world.time();
    let rows = world.switch.take_limit_changes(now);
    assert!(!world.switch.has_limit_changes());
    world.finish();
    let mut world = limited(quotas);
    let now = world.time();
    world.switch.restore_limits(now, rows);
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "+33123456789"));
    assert_eq!(world.page(alice).ended("c1"), ended(Party::Gateway, "limit-reached", Some(403)));
    world.say(alice, &call("c2", UK));
    world.until(alice, "c2", "answered");
    world.run(1_000);
    assert_eq!(world.page(alice).ended("c2"), ended(Party::Gateway, "limit-reached", None), "half a second was left");
    world.finish();
}

/// A question is no call: it is answered by the limits, and nobody is alarmed.
#[test]
fn a_check_foresees_a_limit_without_an_alarm() {
    let mut world = limited(each_user(Quota { calls: Some(1), ..Quota::default() }));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", UK));
    world.until(alice, "c1", "answered");
    world.say(alice, &json!({"type": "check", "to": UK}).to_string());
    let checked = world.page(alice).heard.last().cloned();
    assert!(
        matches!(&checked, Some(ServerMessage::Checked { allowed: false, cause: Some(cause), .. }) if cause == "limit-reached"),
        "{checked:?}"
    );
    assert!(tripped(&world).is_empty());
    world.tell(alice, "hangup", "c1");
    world.finish();
}

#[test]
fn an_operators_call_is_held_to_its_users_limits() {
    let mut world = limited(each_user(Quota { calls: Some(1), ..Quota::default() }));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", UK));
    world.until(alice, "c1", "answered");
    let wish = Originate { user: "alice".into(), to: UK.into(), from: None, name: None, ring_for: None };
    let reply = world.command(Command::Originate(wish));
    assert!(
        matches!(&reply, Reply::Refused(Denial { why: Why::CallRefused, cause: Some(cause), .. }) if cause == "limit-reached"),
        "{reply:?}"
    );
    world.tell(alice, "hangup", "c1");
    world.finish();
}

/// What is measured does not leave us: the trunk is not asked to transfer.
#[test]
fn a_transfer_counts_and_is_not_left_to_the_trunk() {
    let quota = Quota { calls: Some(2), minutes_per_day: Some(10), ..Quota::default() };
    let mut world = limited(each_user(quota));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", UK));
    world.until(alice, "c1", "answered");
    world.say(alice, &json!({"type": "transfer", "call": "c1", "to": "+441632960000"}).to_string());
    world.run(2_000);
    assert_eq!(world.sent("192.0.2.1:5060", "REFER"), 0);
    assert_eq!(world.sent("192.0.2.1:5060", "INVITE"), 2);
    world.input(Input::HangupAll);
    world.finish();
    let transfers: Vec<_> = last(&world).transfers.iter().map(|it| (it.how.as_str(), it.result.as_str())).collect();
    assert_eq!(transfers, [("call", "done")]);
}

/// Two measured calls by one trunk are joined here, where their minutes go on to count: no REFER with Replaces.
#[test]
fn an_attended_transfer_of_measured_calls_is_not_left_to_the_trunk() {
    let mut world = limited(each_user(Quota { minutes_per_day: Some(1), ..Quota::default() }));
    let alice = world.browser(1, "alice");
    for (name, number) in [("c1", UK), ("c2", "+441632960000")] {
        world.say(alice, &call(name, number));
        world.until(alice, name, "answered");
    }
    world.say(alice, &json!({"type": "transfer", "call": "c1", "with": "c2"}).to_string());
    world.run(2_000);
    assert_eq!(world.sent("192.0.2.1:5060", "REFER"), 0);
    world.run(60_000);
    assert_eq!(last(&world).cause, "limit-reached");
    world.finish();
}

/// What a call has cost before it was transferred to an emergency number does not cut it off there.
#[test]
fn a_call_that_is_transferred_to_an_emergency_number_is_not_cut_off() {
    let quota = Quota { minutes_per_day: Some(1), longest_call: Some(Duration::from_secs(40)), ..Quota::default() };
    let mut world = World::with(SwitchConfig { quotas: each_user(quota), ..with_emergency() });
    world.one().habits = Habits::answering();
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", UK));
    world.until(alice, "c1", "answered");
    world.say(alice, &json!({"type": "transfer", "call": "c1", "to": "112"}).to_string());
    world.run(180_000);
    assert_eq!(world.switch.stats().calls, 1);
    world.input(Input::HangupAll);
    world.finish();
    assert_eq!(last(&world).transfers[0].result, "done");
}

fn once(destination: &str) -> String {
    let claims = Claims {
        sub: "visitor".into(),
        destinations: Some(vec![destination.into()]),
        jti: Some("click-1".into()),
        once: true,
        exp: EPOCH + 3600,
        ..Claims::default()
    };
    sign_hs256(SECRET, &claims)
}

fn with_tokens() -> World {
    let mut world = World::with(SwitchConfig { auth: Auth::Token(TokenVerifier::hs256(SECRET)), ..config(1) });
    world.one().habits = Habits::answering();
    world
}

fn hello(world: &mut World, socket: u64, token: &str) -> SocketId {
    let socket = SocketId(socket);
    hello_from(world, socket, "198.51.100.1:4000", token)
}

fn hello_from(world: &mut World, socket: SocketId, from: &str, token: &str) -> SocketId {
    world.page(socket);
    let peer = crate::support::world::address(from);
    world.input(Input::SocketOpened { socket, peer, rings: true });
    world.say(socket, &json!({"type": "hello", "token": token}).to_string());
    socket
}

/// Visitors of a page have each a token and no account: those behind one address have one limit.
#[test]
fn visitors_of_one_address_are_limited_together() {
    let text = format!("{PLAN}\n[class.visitor]\nallow = '*'\n");
    let files = [PlanFile { name: "sim.toml".into(), text }];
    let plan = Plan::load(&files, &["one".into(), "two".into()]).unwrap();
    let address = Quota { calls: Some(1), ..Quota::default() };
    let visitors = ClassQuota { address, ..ClassQuota::default() };
    let quotas = Quotas { classes: [("visitor".into(), visitors)].into(), ..Quotas::default() };
    let auth = Auth::Token(TokenVerifier::hs256(SECRET));
    let mut world = World::with(SwitchConfig { auth, quotas, plan: plan.into(), ..config(1) });
    world.one().habits = Habits::answering();
    let token = |sub: &str| {
        let class = Some("visitor".to_owned());
        sign_hs256(SECRET, &Claims { sub: sub.into(), class, exp: EPOCH + 3600, ..Claims::default() })
    };
    let [first, second, third] =
        [("a", "203.0.113.7:4000"), ("b", "203.0.113.7:4001"), ("c", "203.0.113.8:4000")].map(|(user, from)| {
            let socket = SocketId(u64::from(user.as_bytes()[0]));
            hello_from(&mut world, socket, from, &token(user))
        });
    world.say(first, &call("c1", UK));
    world.until(first, "c1", "answered");
    world.say(second, &call("c1", UK));
    assert_eq!(world.page(second).ended("c1"), ended(Party::Gateway, "limit-reached", Some(503)));
    assert!(last(&world).text.contains("1 for your address"), "{}", last(&world).text);
    assert_eq!(tripped(&world), [alarm("address", "visitor 203.0.113.7", "calls")]);
    world.say(third, &call("c1", UK));
    world.until(third, "c1", "answered");
    world.tell(first, "hangup", "c1");
    world.run(1000);
    world.say(second, &call("c2", UK));
    world.until(second, "c2", "answered");
    [first, second, third].into_iter().for_each(|page| world.close(page));
    world.finish();
}

#[test]
fn a_token_for_one_call_is_good_for_one_call_in_every_session_and_after_a_restart() {
    let (mut world, token) = (with_tokens(), once(UK));
    let first = hello(&mut world, 1, &token);
    // What the plan or the token's destinations refuse does not use it.
    world.say(first, &call("c0", "+33123456789"));
    assert_eq!(world.page(first).ended("c0"), ended(Party::Gateway, "not-allowed", Some(403)));
    world.say(first, &call("c1", UK));
    world.until(first, "c1", "answered");
    let second = hello(&mut world, 2, &token);
    for (socket, name) in [(first, "c2"), (second, "c1")] {
        world.say(socket, &call(name, UK));
        assert_eq!(world.page(socket).ended(name), ended(Party::Gateway, "token-used", Some(403)));
    }
    // Nor is it good for a transfer.
    world.say(first, &json!({"type": "transfer", "call": "c1", "to": UK}).to_string());
    world.run(1_000);
    assert_eq!(world.sent("192.0.2.1:5060", "INVITE"), 1);
    world.tell(first, "hangup", "c1");
    world.run(1_000);
    let now = world.time();
    let rows = world.switch.take_limit_changes(now);
    let mut world = with_tokens();
    let now = world.time();
    world.switch.restore_limits(now, rows);
    let third = hello(&mut world, 3, &token);
    world.say(third, &call("c1", UK));
    assert_eq!(world.page(third).ended("c1"), ended(Party::Gateway, "token-used", Some(403)));
}

#[test]
fn a_token_for_one_call_rings_a_user_once_too() {
    let (mut world, token) = (with_tokens(), once("alice"));
    let visitor = hello(&mut world, 1, &token);
    let claims = Claims { sub: "alice".into(), exp: EPOCH + 3600, ..Claims::default() };
    let alice = hello(&mut world, 2, &sign_hs256(SECRET, &claims));
    world.say(visitor, &call("c1", "alice"));
    world.run(100);
    assert!(world.page(alice).incoming().is_some());
    world.tell(visitor, "hangup", "c1");
    world.run(1_000);
    world.say(visitor, &call("c2", "alice"));
    assert_eq!(world.page(visitor).ended("c2"), ended(Party::Gateway, "token-used", Some(403)));
}

#[test]
fn a_token_without_a_name_cannot_be_for_one_call() {
    let mut world = with_tokens();
    let claims = Claims { sub: "visitor".into(), once: true, exp: EPOCH + 3600, ..Claims::default() };
    let socket = hello(&mut world, 1, &sign_hs256(SECRET, &claims));
    assert_eq!(world.page(socket).closed, Some(1008));
}

/// A reload takes other limits; what was used stays used.
#[test]
fn a_reload_changes_limits_and_forgets_nothing() {
    let mut world = limited(each_user(Quota { calls_per_minute: Some(1), ..Quota::default() }));
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", UK));
    world.until(alice, "c1", "answered");
    world.say(alice, &call("c2", UK));
    assert_eq!(world.page(alice).ended("c2"), ended(Party::Gateway, "limit-reached", Some(503)));
    let quotas = each_user(Quota { calls_per_minute: Some(2), ..Quota::default() });
    world.input(crate::reload::reload(SwitchConfig { quotas, ..config(1) }));
    world.say(alice, &call("c3", UK));
    world.until(alice, "c3", "answered");
    world.say(alice, &call("c4", UK));
    assert_eq!(world.page(alice).ended("c4"), ended(Party::Gateway, "limit-reached", Some(503)));
    world.input(Input::HangupAll);
    world.finish();
}

/// A redirection is the same call: it needs no room of its own, and the token for one call is good for it.
#[test]
fn a_redirection_is_no_second_call_but_its_country_counts() {
    use ringback::sip::{Message, Method};

    use crate::support::raw::{Raw, reply};
    use crate::support::world::{ONE, address};
    let quota = Quota { calls: Some(1), calls_per_minute: Some(1), new_countries_per_day: Some(1), ..Quota::default() };
    for (elsewhere, cause) in [("+441632960000", "unavailable"), ("+33123456789", "limit-reached")] {
        let mut world = limited(each_user(quota));
        let place = format!("<sip:{elsewhere}@192.0.2.9>");
        world.script(Raw::new(address(ONE), move |message| match message {
            Message::Request(request) if request.method == Method::Invite => {
                let first = request.uri.to_string().contains("+442079460000");
                let mut answer = reply(request, if first { 302 } else { 480 }, "peer", None);
                if let (Message::Response(response), true) = (&mut answer, first) {
                    response.headers.set("Contact", place.clone());
                }
                vec![answer]
            }
            _ => Vec::new(),
        }));
        let alice = world.browser(1, "alice");
        world.say(alice, &call("c1", UK));
        world.until(alice, "c1", "ended");
        assert_eq!(world.page(alice).ended("c1").map(|(_, cause, _)| cause).as_deref(), Some(cause), "{elsewhere}");
        world.finish();
    }
}
