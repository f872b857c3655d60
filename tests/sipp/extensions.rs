//! Reliable provisional responses (RFC 3262), UPDATE (RFC 3311) and session timers (RFC 4028).

use std::time::Duration;

use serde_json::json;

use super::peer::{Codecs, Sound};
use super::scene::{BROWSER_TONE, PHONE_TONE, Scene};
use super::{Plot, Setup};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prack_for_the_phones_early_media() {
    for (keys, required) in [("", None), ("reliable = \"required\"", Some("100rel"))] {
        let setup = Setup::new("phone-prack").word("PAUSE", 4000);
        let mut scene = Plot::of(setup).trunk(keys).start().await;
        let call = scene.browser.call("101", Codecs::All).await;
        scene.phone.say(Sound::Tone(PHONE_TONE)).await;
        scene.browser.expect("early").await;
        scene.browser.heard.tone("the browser", PHONE_TONE).await;
        assert!(!scene.browser.kinds().iter().any(|kind| kind == "answered"), "{:?}", scene.browser.kinds());
        scene.browser.expect("answered").await;
        scene.talk().await;
        if let Some(required) = required {
            assert_eq!(scene.sipp().header("Require").as_deref(), Some(required), "the first is the INVITE's");
        }
        scene.hang_up(&call).await;
        scene.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prack_from_the_caller() {
    let mut scene = Plot::of(Setup::calling("caller-prack", "201")).start().await;
    let incoming = scene.ring().await;
    // The 180 is acknowledged, and then once too often; only then is the call answered.
    scene.sipp().until("SIP/2.0 481 ").await;
    let call = scene.accept(&incoming).await;
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn update_from_the_phone_before_and_after_the_answer() {
    let setup = Setup::new("phone-update").word("PAUSE", 3000);
    let mut scene = Plot::of(setup).start().await;
    let call = scene.browser.call("101", Codecs::All).await;
    scene.browser.expect("early").await;
    scene.phone.say(Sound::Tone(PHONE_TONE)).await;
    scene.browser.heard.tone("the browser", PHONE_TONE).await;
    scene.browser.expect("answered").await;
    scene.talk().await;
    for on in [true, false] {
        let held = scene.browser.expect("held").await;
        assert_eq!((&held["by"], &held["on"]), (&json!("them"), &json!(on)), "{held}");
    }
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_the_phone_refreshes() {
    let mut scene = Plot::of(Setup::new("phone-timer")).trunk("session_expires = 120").start().await;
    let call = scene.dial().await;
    scene.sipp().until("CSeq: 3 ACK").await;
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_the_caller_refreshes() {
    let mut scene = Plot::of(Setup::calling("caller-timer", "201")).start().await;
    let call = scene.answer().await;
    scene.sipp().until("CSeq: 3 UPDATE").await;
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

/// The shortest session of the standard has 90 s, and the gateway refreshes it after 45.
async fn refreshed_by_the_gateway(scenario: &'static str, descriptions: usize) {
    let mut scene: Scene = Plot::of(Setup::new(scenario)).trunk("session_expires = 90").start().await;
    scene.dial().await;
    scene.talk().await;
    scene.sipp().until_within("BYE sip:", Duration::from_secs(60)).await;
    scene.browser.ended("them").await;
    let ours = scene.sipp().lines("o=-");
    assert!(
        ours.len() == descriptions && ours.iter().all(|line| *line == ours[0]),
        "a refresh changes nothing: {ours:?}"
    );
    // Until the end each heard the other: their last second says so.
    scene.phone.heard.tone("the phone", BROWSER_TONE).await;
    scene.browser.heard.tone("the browser", PHONE_TONE).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_the_gateway_refreshes_by_update() {
    refreshed_by_the_gateway("phone-timer-update", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_the_gateway_refreshes_by_reinvite() {
    refreshed_by_the_gateway("phone-timer-reinvite", 2).await;
}
