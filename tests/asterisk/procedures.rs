//! What PBXs do with calls: hold, transfer, register, refresh, keys.

use std::time::Duration;

use serde_json::{Value, json};

use super::peer::sound::Recording;
use super::peer::{Browser, Codecs, PATIENCE, Sound};
use super::{BROWSER_TONE, MILLIWATT, asterisk, bob, browser, call, hang_up, no_call_is_left};

/// What bob says.
const BOB_TONE: f64 = 1000.0;

/// What Asterisk sends and gets from now on is kept.
async fn listen_in() {
    asterisk("pjsip set history clear").await;
    asterisk("pjsip set history on").await;
}

/// The first lines of the SIP messages since then: `==>` what Asterisk sent, `<==` what it got.
async fn overheard() -> Vec<String> {
    asterisk("pjsip show history").await.lines().map(str::to_owned).collect()
}

async fn overhears(way: &str, what: &str) -> usize {
    overheard().await.iter().filter(|line| line.contains(way) && line.contains(what)).count()
}

/// Waits until Asterisk has seen it so often.
async fn until_overheard(way: &str, what: &str, times: usize, within: Duration) {
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    let seen = async {
        while overhears(way, what).await < times {
            tick.tick().await;
        }
    };
    let well = tokio::time::timeout(within, seen).await.is_ok();
    assert!(well, "no {way} {what} {times} times in {:#?}", overheard().await);
}

/// Bob and alice, with Asterisk between them.
struct Both {
    bob: Browser,
    bobs: String,
    alice: Browser,
    alices: String,
}

impl Both {
    async fn connected() -> Both {
        let (mut alice, mut bob) = (browser().await, bob().await);
        let bobs = bob.call("608", Codecs::All).await;
        let incoming = alice.expect("incoming").await;
        alice.accept(&incoming).await;
        alice.expect("answered").await;
        bob.expect("answered").await;
        let both = Both { bob, bobs, alice, alices: incoming["call"].as_str().expect("a call").to_owned() };
        both.talk().await;
        both
    }

    async fn talk(&self) {
        self.bob.say(Sound::Tone(BOB_TONE)).await;
        self.alice.say(Sound::Tone(BROWSER_TONE)).await;
        self.bob.heard.tone_anew("bob", BROWSER_TONE).await;
        self.alice.heard.tone_anew("alice", BOB_TONE).await;
    }

    async fn end(mut self) {
        self.bob.hangup(&self.bobs).await;
        self.bob.ended("us").await;
        self.alice.ended("them").await;
        self.bob.close().await;
        self.alice.close().await;
        no_call_is_left().await;
    }
}

async fn holds(browser: &mut Browser, call: &str, on: bool) {
    browser.send(json!({ "type": "hold", "call": call, "on": on })).await;
    held(browser, "us", on).await;
}

async fn held(browser: &mut Browser, by: &str, on: bool) {
    let held = browser.expect("held").await;
    assert_eq!((&held["by"], &held["on"]), (&json!(by), &json!(on)), "{held}");
}

/// Alice holds, Asterisk hands the hold on to bob, and both are as before afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_goes_through_asterisk_and_back() {
    let mut both = Both::connected().await;
    holds(&mut both.alice, &both.alices, true).await;
    held(&mut both.bob, "them", true).await;
    let gone = |r: &Recording| r.report(BROWSER_TONE, 1000).share < 0.05;
    assert!(both.bob.heard.until(PATIENCE, gone).await, "bob hears alice, who holds");
    let music = |r: &Recording| r.report(BROWSER_TONE, 1000).level > -70.0;
    assert!(both.bob.heard.until(PATIENCE, music).await, "bob hears nothing at all on hold");
    holds(&mut both.alice, &both.alices, false).await;
    held(&mut both.bob, "them", false).await;
    both.talk().await;
    both.end().await;
}

/// `Transfer()` sends a REFER; the browser's call goes on with the new party.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_refers_us_to_another_number() {
    listen_in().await;
    let mut browser = browser().await;
    let call = call(&mut browser, "612", Codecs::All).await;
    let moved = browser.expect("transferred").await;
    assert!(moved["remote"].as_str().is_some_and(|remote| remote.contains("602")), "{moved}");
    browser.heard.tone("the browser", MILLIWATT).await;
    assert_eq!(overhears("==>", "REFER").await, 1);
    hang_up(browser, &call).await;
    no_call_is_left().await;
}

async fn transfers(alice: &mut Browser, wish: Value) {
    alice.send(wish).await;
    while alice.expect("transfer").await["state"] != "done" {}
    let ended = alice.expect("ended").await;
    assert_eq!(ended["cause"], "transferred", "{ended}");
}

/// Alice transfers bob to the tone: we REFER Asterisk, which sends bob there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_refer_asterisk_to_another_number() {
    let mut both = Both::connected().await;
    listen_in().await;
    transfers(&mut both.alice, json!({ "type": "transfer", "call": both.alices, "to": "602" })).await;
    both.bob.heard.tone("bob", MILLIWATT).await;
    assert_eq!(overhears("<==", "REFER").await, 1);
    both.alice.close().await;
    hang_up(both.bob, &both.bobs).await;
    no_call_is_left().await;
}

/// Alice calls the echo, and connects bob with it: REFER with Replaces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_refer_asterisk_to_another_call() {
    let mut both = Both::connected().await;
    let echo = call(&mut both.alice, "600", Codecs::All).await;
    both.alice.say(Sound::Tone(BROWSER_TONE)).await;
    both.alice.heard.tone("alice", BROWSER_TONE).await;
    listen_in().await;
    transfers(&mut both.alice, json!({ "type": "transfer", "call": both.alices, "with": echo })).await;
    both.bob.heard.tone("bob", BOB_TONE).await;
    assert_eq!(overhears("<==", "REFER").await, 1);
    both.alice.close().await;
    hang_up(both.bob, &both.bobs).await;
    no_call_is_left().await;
}

/// RFC 3262: Asterisk's 183 comes reliably and we send the PRACK; ours go reliably and Asterisk's PRACK comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prack_both_ways() {
    listen_in().await;
    let mut alice = browser().await;
    let early = alice.call("606", Codecs::All).await;
    alice.expect("early").await;
    alice.heard.tone("the browser", MILLIWATT).await;
    assert!(!alice.kinds().iter().any(|kind| kind == "answered"), "the tone came with the answer only");
    until_overheard("<==", "PRACK", 1, PATIENCE).await;
    alice.expect("answered").await;
    alice.heard.tone("the browser", MILLIWATT).await;
    alice.hangup(&early).await;
    alice.ended("us").await;
    asterisk("channel originate PJSIP/201@gateway extension 602@lab").await;
    let incoming = alice.expect("incoming").await;
    until_overheard("==>", "PRACK", 1, PATIENCE).await;
    alice.accept(&incoming).await;
    alice.expect("answered").await;
    alice.heard.tone("the browser", MILLIWATT).await;
    hang_up(alice, incoming["call"].as_str().expect("a call")).await;
    no_call_is_left().await;
}

/// RFC 4028: 90 seconds, so a refresh after 45; we refresh the one call, Asterisk the other, and both last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_refreshed_by_both_sides() {
    let (mut alice, mut bob) = (browser().await, bob().await);
    asterisk("channel originate PJSIP/201@gateway extension 602@lab").await;
    let incoming = alice.expect("incoming").await;
    alice.accept(&incoming).await;
    alice.expect("answered").await;
    let bobs = call(&mut bob, "502", Codecs::All).await;
    bob.heard.tone("bob", MILLIWATT).await;
    listen_in().await;
    until_overheard("<==", "UPDATE sip:", 1, Duration::from_secs(80)).await;
    until_overheard("==>", "UPDATE sip:", 1, Duration::from_secs(80)).await;
    bob.heard.tone_anew("bob", MILLIWATT).await;
    alice.heard.tone_anew("alice", MILLIWATT).await;
    hang_up(alice, incoming["call"].as_str().expect("a call")).await;
    hang_up(bob, &bobs).await;
    no_call_is_left().await;
}

/// Our trunk has registered there (every call that comes in goes where it said), and Asterisk as a phone here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registered_both_ways() {
    let contacts = asterisk("pjsip show contacts").await;
    assert!(contacts.contains("ringback/sip:"), "{contacts}");
    let mut browser = browser().await;
    let call = call(&mut browser, "250", Codecs::All).await;
    browser.heard.tone("the browser", MILLIWATT).await;
    hang_up(browser, &call).await;
    no_call_is_left().await;
}

/// SDES (RFC 4568) with another implementation of SRTP: what the browser says comes back from Asterisk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn srtp_there_and_back() {
    let mut browser = browser().await;
    let call = call(&mut browser, "500", Codecs::All).await;
    browser.say(Sound::Tone(BROWSER_TONE)).await;
    browser.heard.tone("the browser", BROWSER_TONE).await;
    // A hold and its end keep the keys.
    holds(&mut browser, &call, true).await;
    holds(&mut browser, &call, false).await;
    browser.heard.tone_anew("the browser", BROWSER_TONE).await;
    hang_up(browser, &call).await;
    no_call_is_left().await;
}

/// TLS with a verified certificate, and SRTP with the keys under it: sound there and back, before and after a hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_tls_with_srtp_to_asterisk() {
    listen_in().await;
    let mut browser = browser().await;
    let call = call(&mut browser, "400", Codecs::All).await;
    browser.say(Sound::Tone(BROWSER_TONE)).await;
    browser.heard.tone("the browser", BROWSER_TONE).await;
    invited_by_tls("<==").await;
    holds(&mut browser, &call, true).await;
    holds(&mut browser, &call, false).await;
    browser.heard.tone_anew("the browser", BROWSER_TONE).await;
    // Asterisk's BYE finds its way back.
    asterisk("channel request hangup all").await;
    browser.ended("them").await;
    browser.close().await;
    no_call_is_left().await;
}

/// The other way round: Asterisk verifies our certificate, and its trunk is told by address and transport.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_tls_with_srtp_from_asterisk() {
    listen_in().await;
    let mut browser = browser().await;
    asterisk("channel originate PJSIP/201@sealed extension 600@lab").await;
    let incoming = browser.expect("incoming").await;
    browser.accept(&incoming).await;
    browser.expect("answered").await;
    browser.say(Sound::Tone(BROWSER_TONE)).await;
    browser.heard.tone("the browser", BROWSER_TONE).await;
    invited_by_tls("==>").await;
    hang_up(browser, incoming["call"].as_str().expect("a call")).await;
    no_call_is_left().await;
}

/// The INVITE that went this way went by TLS, and wanted SRTP.
async fn invited_by_tls(way: &str) {
    let lines = overheard().await;
    let line = lines.iter().find(|line| line.contains(way) && line.contains("INVITE sip:"));
    let number = line.and_then(|line| line.split_whitespace().next()).expect("an INVITE in the history");
    let message = asterisk(&format!("pjsip show history entry {number}")).await;
    for part in ["SIP/2.0/TLS ", "transport=tls", "RTP/SAVP ", "a=crypto:1 "] {
        assert!(message.to_lowercase().contains(&part.to_lowercase()), "no {part} in {message}");
    }
}
