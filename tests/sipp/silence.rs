//! "Why is there no audio": calls that are broken in truth, each of which is told to the browser and written down. And one
//! that is well.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::peer::browser::Fault as BrowserFault;
use super::peer::phone::Fault as PhoneFault;
use super::peer::{Codecs, Machine, PATIENCE, Sound};
use super::scene::{PHONE_TONE, Scene};
use super::{BROWSER_TONE, Plot, Setup, http};

/// The first verdict that the browser is told: way, leg and cause.
pub async fn is_told(scene: &mut Scene, expected: (&str, &str, &str)) {
    let told = scene.browser.expect("no-audio").await;
    assert_eq!((told["way"].as_str(), told["at"].as_str(), told["cause"].as_str()), some(expected), "{told}");
    assert!(told["text"].as_str().is_some_and(|text| text.len() > 10), "{told}");
}

/// The first one on what that party says in the call's record: from, leg and cause, within three seconds of the answer by the
/// gateway's clock; and the log has the same.
pub async fn is_recorded(scene: &mut Scene, expected: (&str, &str, &str)) {
    let record = scene.gateway.record().await;
    let (from, leg, cause) = expected;
    let verdicts = record["no_audio"].as_array().unwrap();
    let first = verdicts.iter().find(|verdict| verdict["from"] == from).unwrap_or_else(|| panic!("{record}"));
    assert_eq!((first["from"].as_str(), first["leg"].as_str(), first["cause"].as_str()), some(expected), "{record}");
    let after = first["at"].as_u64().unwrap() - record["answer"].as_u64().unwrap();
    assert!(after <= 3_000, "{after} ms after the answer");
    let words = [
        "no audio".to_owned(),
        format!("call={}", record["call"].as_str().unwrap()),
        format!("from=\"{from}\""),
        format!("leg=\"{leg}\""),
        format!("cause={cause}"),
    ];
    let log = scene.gateway.log();
    assert!(log.lines().any(|line| words.iter().all(|word| line.contains(word))), "{words:?} is not logged");
}

fn some<'a>((a, b, c): (&'a str, &'a str, &'a str)) -> (Option<&'a str>, Option<&'a str>, Option<&'a str>) {
    (Some(a), Some(b), Some(c))
}

/// The phone's sound is broken in this way; the browser's is well.
async fn phone_fails(fault: Option<PhoneFault>, sound: Sound, cause: &str) {
    let mut scene = Plot::of(Setup::new("phone-answer")).start().await;
    if let Some(fault) = fault {
        scene.phone.fails(fault).await;
    }
    scene.phone.say(sound).await;
    let call = scene.dial().await;
    scene.browser.say(Sound::Tone(BROWSER_TONE)).await;
    is_told(&mut scene, ("down", "them", cause)).await;
    scene.hang_up(&call).await;
    is_recorded(&mut scene, ("b", "b", cause)).await;
    scene.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_behind_a_firewall_sends_no_rtp() {
    phone_fails(Some(PhoneFault::Blocked), Sound::Tone(PHONE_TONE), "no-rtp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_sends_another_payload_type() {
    let fault = Some(PhoneFault::WrongType);
    phone_fails(fault, Sound::Tone(PHONE_TONE), "wrong-payload-type").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_whose_sound_comes_from_a_stranger() {
    phone_fails(Some(PhoneFault::Elsewhere), Sound::Tone(PHONE_TONE), "stranger").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_says_digital_silence() {
    phone_fails(None, Sound::Silence, "silent").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_answers_and_holds_at_once() {
    let mut scene = Plot::of(Setup::new("phone-direction").word("DIRECTION", "inactive")).start().await;
    let call = scene.dial().await;
    scene.browser.say(Sound::Tone(BROWSER_TONE)).await;
    // It takes nothing, and it sends nothing.
    is_told(&mut scene, ("up", "them", "held")).await;
    is_told(&mut scene, ("down", "them", "held")).await;
    scene.hang_up(&call).await;
    is_recorded(&mut scene, ("a", "b", "held")).await;
    scene.strike().await;
}

/// The browser's transport is broken in this way, or it says this; the phone's sound is well.
async fn browser_fails(fault: Option<BrowserFault>, sound: Sound, cause: &str) {
    let mut scene = Plot::of(Setup::new("phone-answer")).start().await;
    if let Some(fault) = fault {
        scene.browser.fails(fault).await;
    }
    scene.browser.say(sound).await;
    scene.phone.say(Sound::Tone(PHONE_TONE)).await;
    let call = scene.dial().await;
    loop {
        let told = scene.browser.expect("no-audio").await;
        if told["way"] == "up" {
            assert_eq!((told["at"].as_str(), told["cause"].as_str()), (Some("us"), Some(cause)), "{told}");
            break;
        }
    }
    scene.hang_up(&call).await;
    is_recorded(&mut scene, ("a", "a", cause)).await;
    scene.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_whose_udp_is_blocked() {
    browser_fails(Some(BrowserFault::Blocked), Sound::Tone(BROWSER_TONE), "no-ice").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_whose_dtls_is_lost() {
    browser_fails(Some(BrowserFault::NoDtls), Sound::Tone(BROWSER_TONE), "no-dtls").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_whose_sound_is_lost() {
    browser_fails(Some(BrowserFault::NoRtp), Sound::Tone(BROWSER_TONE), "no-rtp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_whose_microphone_gives_nothing_but_silence() {
    browser_fails(None, Sound::Silence, "silent").await;
}

/// DTLS that fails ends the call; its record says why nobody heard anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_with_another_certificate_than_announced() {
    let mut scene = Plot::of(Setup::new("phone-ring")).start().await;
    scene.browser.fails(BrowserFault::WrongFingerprint).await;
    scene.browser.call("101", Codecs::All).await;
    scene.browser.ended("network").await;
    let record = scene.gateway.record().await;
    assert_eq!((&record["cause"], &record["no_audio"][0]["cause"]), (&"media-lost".into(), &"no-dtls".into()));
    scene.strike().await;
}

/// How much sound waited in a second in which sound came: some, and no more than playout holds.
fn is_depth(depth: &Value) -> bool {
    depth.as_u64().is_some_and(|ms| (1..=600).contains(&ms))
}

/// What is not well in a second, as the browser was told of it. The seconds in which a call begins may be anything.
fn ails(quality: &Value) -> Option<&'static str> {
    let way = |way: &str, codec: &str| {
        let mos = quality[way]["mos"].as_f64().unwrap_or_default();
        quality[way]["codec"] == codec && mos > 4.0 && is_depth(&quality[way]["buffer_ms"])
    };
    [
        (quality["grade"] == "excellent" || quality["grade"] == "good", "the grade"),
        // The browser's own reports come a little later than its sound.
        (quality["down"].is_object(), "what it hears"),
        (way("up", "opus"), "what it says"),
        (quality["up"]["level_db"].as_i64().is_some_and(|level| level > -30), "how loud it is"),
        (way("trunk_down", "PCMU"), "what the phone says"),
    ]
    .iter()
    .find_map(|(is_well, what)| (!is_well).then_some(*what))
}

/// Asks once a second, when the browser is told of another one, until it is well: at last when the machine has let all of this run
/// for as long as it is given. One that never does is told of, and nothing is said against the call.
async fn comes(scene: &mut Scene, what: (&str, Duration), mut ails: impl AsyncFnMut(&Scene, &Value) -> Option<String>) {
    let ((what, calm), begun, machine) = (what, Instant::now(), Machine::watch());
    loop {
        let quality = scene.browser.expect("quality").await;
        let Some(ailment) = ails(&*scene, &quality).await else { return };
        assert!(machine.calm_for() < calm, "{what} is not well: {ailment}; {quality}");
        if begun.elapsed() > 3 * calm {
            // Past the test runner, which keeps to itself what a test says that has not failed.
            let told = format!("NOT JUDGED, the machine stands still again and again: {what}: {ailment}; {quality}\n");
            std::io::stderr().write_all(told.as_bytes()).unwrap();
            return;
        }
    }
}

/// A call that is well has no verdict and good scores, in its messages and its record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_well_is_told_so() {
    let mut scene = Plot::of(Setup::new("phone-answer")).start().await;
    let call = scene.dial().await;
    scene.talk().await;
    comes(&mut scene, ("the page", PATIENCE), async |_, quality| ails(quality).map(str::to_owned)).await;
    comes(&mut scene, ("what an operator asks for", PATIENCE), async |scene, _| {
        let calls = http::get(scene.gateway.http, "/v1/calls").await;
        let call = &calls["calls"][0];
        let depth = |side: &str| is_depth(&call[side]["quality"]["inbound"]["buffer_ms"]);
        (!depth("a") || !depth("b")).then(|| calls.to_string())
    })
    .await;
    // A beginning on a busy machine is outweighed by what comes.
    let id = http::get(scene.gateway.http, "/v1/calls").await["calls"][0]["call"].as_str().unwrap().to_owned();
    let path = format!("/v1/calls/{id}/quality");
    comes(&mut scene, ("the call as a whole", 2 * PATIENCE), async |scene, _| {
        let history = http::get(scene.gateway.http, &path).await;
        (mean_heard(&history) <= 4.0).then(|| history.to_string())
    })
    .await;
    scene.hang_up(&call).await;
    assert!(!scene.browser.kinds().iter().any(|kind| kind == "no-audio"), "{:?}", scene.browser.kinds());
    let record = scene.gateway.record().await;
    assert!(record.get("no_audio").is_none() && record["call"] == id, "{record}");
    let history = http::get(scene.gateway.http, &path).await;
    let mean = record["media"]["a"]["mos_heard"]["mean"].as_f64().unwrap();
    assert!((mean - mean_heard(&history)).abs() < 0.02, "{mean} of {history}");
    for side in ["a", "b"] {
        assert!(is_depth(&record["media"][side]["buffer_ms"]), "{side}: {record}");
        let inbound: Vec<&Value> =
            history["samples"].as_array().unwrap().iter().map(|sample| &sample[side]["inbound"]).collect();
        let measured = inbound.iter().filter(|way| is_depth(&way["buffer_ms"])).count();
        assert!(measured > 0 && inbound.iter().all(|way| way.is_null() || way["buffer_ms"].is_u64()), "{history}");
    }
    scene.strike().await;
}

/// What the browser heard of the phone, as the mean of a call's seconds.
fn mean_heard(history: &Value) -> f64 {
    let samples = history["samples"].as_array().unwrap();
    let heard: Vec<f64> = samples.iter().filter_map(|sample| sample["a"]["mos_heard"].as_f64()).collect();
    heard.iter().sum::<f64>() / heard.len().max(1) as f64
}
