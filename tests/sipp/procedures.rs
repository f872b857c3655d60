//! What phones and trunks do in and around a call that decent ones do seldom: offers asked for, glare, forks, loops,
//! overload.

use serde_json::json;

use super::{Plot, Setup};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_asks_for_our_offer() {
    let mut scene = Plot::of(Setup::new("phone-asks-for-offer").word("PAUSE", 1500)).start().await;
    let call = scene.dial().await;
    scene.talk().await;
    scene.sipp().until("CSeq: 900 ACK").await;
    scene.talk().await;
    // The browser has not noticed.
    assert_eq!(scene.browser.kinds().iter().filter(|kind| *kind == "held").count(), 0);
    scene.hang_up(&call).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_asks_for_our_offer() {
    let mut scene = Plot::of(Setup::calling("caller-asks-for-offer", "201").word("PAUSE", 1500)).start().await;
    let call = scene.answer().await;
    scene.talk().await;
    scene.sipp().until("CSeq: 2 ACK").await;
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_without_an_offer_gets_ours() {
    let mut scene = Plot::of(Setup::calling("caller-without-offer", "201")).start().await;
    let call = scene.answer().await;
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

/// RFC 3261 section 14.1: after 491 the owner of the Call-ID tries again after 2.1 to 4 seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn glare() {
    let mut scene = Plot::of(Setup::new("phone-glare")).start().await;
    let call = scene.dial().await;
    scene.talk().await;
    scene.hold(&call, true).await;
    scene.phone_hears_no_browser().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

/// RFC 3261 section 14.1: a re-INVITE that fails leaves the session as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_hold_changes_nothing() {
    let mut scene = Plot::of(Setup::new("phone-refuses-hold")).start().await;
    let call = scene.dial().await;
    scene.talk().await;
    scene.browser.send(json!({ "type": "hold", "call": call, "on": true })).await;
    let error = scene.browser.expect("error").await;
    assert_eq!(error["call"], call.as_str(), "{error}");
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

/// RFC 3261 section 13.2.2.4: every 2xx is acknowledged, and all but the first are ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_early_dialogs_and_several_answers() {
    let mut scene = Plot::of(Setup::new("phone-forks")).start().await;
    let call = scene.dial().await;
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_went_in_circles() {
    let mut scene = Plot::of(Setup::calling("caller-loops", "201")).start().await;
    scene.cue();
    scene.sipp_ends().await;
    scene.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merged_request() {
    let mut scene = Plot::of(Setup::calling("caller-merged", "201")).start().await;
    scene.ring().await;
    scene.browser.ended("them").await;
    assert_eq!(scene.browser.kinds().iter().filter(|kind| *kind == "incoming").count(), 1);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_too_many_is_told_to_come_later() {
    let mut scene = Plot::of(Setup::calling("caller-answer", "201")).trunk("calls = 1").start().await;
    let call = scene.answer().await;
    let second = Setup::calling("caller-overloads", "201").media(&scene.phone);
    second.caller(scene.gateway.sip).finish().await;
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

/// RFC 3326: a phone on which it stopped ringing is told why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answered_elsewhere_before_us() {
    let mut scene = Plot::of(Setup::calling("caller-cancels-with-reason", "201")).start().await;
    scene.ring().await;
    let ended = scene.browser.expect("ended").await;
    assert_eq!(ended["cause"], "answered-elsewhere", "{ended}");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_inside_a_call() {
    let mut scene = Plot::of(Setup::new("phone-asks-options")).start().await;
    let call = scene.dial().await;
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}
