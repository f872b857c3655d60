//! Trunks that speak G.722 or Opus: what lies above the telephone's band arrives.

use ringback::codec::Codec;

use super::peer::{Browser, Codecs, PATIENCE, Phone, Sound};
use super::{Plot, Scene, Setup};

/// Tones that no telephone's band holds.
const BROWSER_HIGH: f64 = 5500.0;
const PHONE_HIGH: f64 = 6200.0;

/// A call to a phone that takes this codec from our offer.
async fn call(codec: Codec, codecs: &str, first: u8, number: u8, name: &str) -> (Scene, String) {
    let setup = Setup::new("phone-wide").word("FIRST", first).word("NUMBER", number).word("CODEC", name);
    let mut scene = Plot::of(setup).trunk(codecs).start().await;
    scene.phone.speak(codec).await;
    let call = scene.dial().await;
    (scene, call)
}

/// Both say what a telephone cannot carry, and hear it.
async fn talk(browser: &Browser, phone: &Phone) {
    browser.say(Sound::Tone(BROWSER_HIGH)).await;
    phone.say(Sound::Tone(PHONE_HIGH)).await;
    println!("at the phone {:?}", phone.wide.tone("the phone", BROWSER_HIGH).await);
    println!("at the browser {:?}", browser.wide.tone("the browser", PHONE_HIGH).await);
}

/// What the browser was answered.
fn answer_of(scene: &Scene) -> String {
    let answer = scene.browser.history.iter().find(|message| message["type"] == "answer").expect("an answer");
    answer["sdp"].as_str().expect("a description").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g722_both_ways() {
    let (mut scene, call) = call(Codec::G722, "codecs = [\"G722\", \"PCMU\"]", 9, 9, "G722/8000").await;
    talk(&scene.browser, &scene.phone).await;
    assert!(answer_of(&scene).contains("maxplaybackrate=16000"));
    scene.hang_up(&call).await;
    scene.finish().await;
}

/// Opus goes through as it is; digits and hold come in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opus_passed_on_both_ways() {
    let codecs = "codecs = [\"opus\", \"PCMU\"]";
    let (mut scene, call) = call(Codec::Opus, codecs, 111, super::peer::OPUS, "opus/48000/2").await;
    talk(&scene.browser, &scene.phone).await;
    assert!(!answer_of(&scene).contains("maxplaybackrate"));
    scene.browser.press("42").await;
    let pressed = |r: &super::peer::sound::Recording| r.digits == "42";
    assert!(scene.phone.heard.until(PATIENCE, pressed).await, "no digits are heard");
    talk(&scene.browser, &scene.phone).await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

/// Two browsers: Opus goes through as it is, whatever band they send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browser_to_browser() {
    const OTHER_HIGH: f64 = 7100.0;
    let rule = "[[out]]\nname = \"bob\"\nnumber = \"103\"\nuser = \"bob\"";
    let scene = Plot::of(Setup::new("phone-answer")).rules(rule).start().await;
    let mut bob = Browser::open(scene.gateway.http, "bob").await;
    let mut alice = Browser::open(scene.gateway.http, "alice").await;
    let call = alice.call("103", Codecs::All).await;
    let incoming = bob.expect("incoming").await;
    bob.accept_by(&incoming, Codecs::Opus).await;
    alice.expect("answered").await;
    alice.say(Sound::Tone(BROWSER_HIGH)).await;
    bob.say(Sound::Tone(OTHER_HIGH)).await;
    println!("at bob {:?}", bob.wide.tone("bob", BROWSER_HIGH).await);
    println!("at alice {:?}", alice.wide.tone("alice", OTHER_HIGH).await);
    alice.hangup(&call).await;
    alice.ended("us").await;
    bob.ended("them").await;
    alice.close().await;
    bob.close().await;
    scene.strike().await;
}
