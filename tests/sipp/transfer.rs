//! Transfer and hold, by the sound at the ends.

use serde_json::json;

use super::peer::sound::Recording;
use super::peer::{PATIENCE, Sound};
use super::scene::{PHONE_TONE, SECOND_TONE, Scene};
use super::{BROWSER_TONE, Plot, Setup};

/// The browser asks for a transfer, and is told of its end.
async fn transferred(scene: &mut Scene, call: &str, wish: serde_json::Value) {
    let mut message = json!({ "type": "transfer", "call": call });
    message.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
    scene.browser.send(message).await;
    let asked = scene.browser.expect("transfer").await;
    assert_eq!(asked["state"], "asked", "{asked}");
    let ended = scene.browser.expect("ended").await;
    assert_eq!((&ended["by"], &ended["cause"]), (&json!("us"), &json!("transferred")), "{ended}");
}

/// Our comfort tone: one of its notes, and nobody's voice.
fn is_music(r: &Recording) -> bool {
    let music = r.report(392.0, 400).share.max(r.report(523.25, 400).share);
    let voices = [BROWSER_TONE, PHONE_TONE, SECOND_TONE].map(|tone| r.report(tone, 400).share);
    music > 0.5 && voices.iter().all(|share| *share < 0.05)
}

/// Blind, where the trunk is not asked: we call the new party, and the sound runs between the two phones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_transfers_a_phone_to_another() {
    let plot = Plot::of(Setup::new("phone-hangup").word("PAUSE", 14_000)).second(Setup::new("phone-answer"));
    let mut scene = plot.trunk("refer = \"never\"").start().await;
    let call = scene.dial().await;
    scene.talk().await;
    transferred(&mut scene, &call, json!({ "to": "301" })).await;
    scene.phones_talk().await;
    scene.finish().await;
}

/// Attended: the browser speaks with both, joins them and leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_joins_two_phones() {
    let plot = Plot::of(Setup::new("phone-hangup").word("PAUSE", 20_000)).second(Setup::new("phone-moves"));
    let mut scene = plot.start().await;
    let first = scene.dial().await;
    scene.talk().await;
    let second = scene.dial_with("301", super::peer::Codecs::All).await;
    scene.talk_to_second().await;
    transferred(&mut scene, &first, json!({ "with": second })).await;
    scene.phones_talk().await;
    scene.sipp_ends().await;
    scene.finish().await;
}

/// A phone sends REFER: the browser goes on with the new party, and is told who it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_refers_the_browser_to_another() {
    let setup = Setup::new("phone-refers").word("PAUSE", 5000).word("TARGET", "301");
    let mut scene = Plot::of(setup).second(Setup::new("phone-rings")).start().await;
    let call = scene.dial().await;
    scene.talk().await;
    let transferred = scene.browser.expect("transferred").await;
    assert_eq!((&transferred["call"], &transferred["remote"]), (&json!(call), &json!("301")), "{transferred}");
    scene.talk_to_second().await;
    scene.sipp_ends().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

/// RFC 3264 section 8.4, by us: the phone hears music, then the browser again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_browser_holds_the_phone_which_hears_music() {
    let mut scene = Plot::of(Setup::new("phone-held")).start().await;
    let call = scene.dial().await;
    scene.talk().await;
    scene.hold(&call, true).await;
    assert!(scene.phone.heard.until(PATIENCE, is_music).await, "the phone hears no music");
    scene.hold(&call, false).await;
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

/// And by the phone: its `sendonly` is answered `recvonly`, and the browser hears the phone's own music or ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_phone_holds_the_browser_which_hears_music() {
    let mut scene = Plot::of(Setup::new("phone-holds").word("PAUSE", 6000)).start().await;
    let call = scene.dial().await;
    scene.talk().await;
    let held = scene.browser.expect("held").await;
    assert_eq!((&held["by"], &held["on"]), (&json!("them"), &json!(true)), "{held}");
    scene.phone_hears_no_browser().await;
    // Whatever the phone plays now is its music on hold.
    scene.phone.say(Sound::Tone(SECOND_TONE)).await;
    scene.browser.heard.tone("the browser", SECOND_TONE).await;
    let back = scene.browser.expect("held").await;
    assert_eq!((&back["by"], &back["on"]), (&json!("them"), &json!(false)), "{back}");
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}
