//! A browser calls a phone.

use std::time::{Duration, Instant};

use md5::Digest;

use super::peer::sound::keys;
use super::peer::{Codecs, PATIENCE, Sound};
use super::sipp::FILE_TONE;
use super::{BROWSER_TONE, Plot, Setup};

/// Dials, is answered, talks, hangs up: the phone ends as its scenario says.
async fn answered(scenario: &'static str, trunk: &str, codecs: Codecs) {
    let mut scene = Plot::of(Setup::new(scenario)).trunk(trunk).start().await;
    let call = scene.browser.call("101", codecs).await;
    for step in ["answer", "ringing", "answered"] {
        scene.browser.expect(step).await;
    }
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opus_to_pcmu() {
    answered("phone-answer", "", Codecs::All).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pcmu_to_pcmu() {
    answered("phone-answer", "", Codecs::Pcmu).await;
}

const CREDENTIALS: &str = "user = \"ringback\"\npassword = \"correct horse\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unauthorized_is_answered_with_the_password() {
    answered("phone-401", CREDENTIALS, Codecs::All).await;
}

/// What `Digest` in a header says of `name`.
fn parameter<'a>(header: &'a str, name: &str) -> &'a str {
    let found = header.trim_start_matches("Digest ").split(',').find_map(|part| {
        let (key, value) = part.trim().split_once('=')?;
        (key == name).then(|| value.trim_matches('"'))
    });
    found.unwrap_or_else(|| panic!("no {name} in {header}"))
}

fn md5(text: &str) -> String {
    md5::Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_authentication_too() {
    let setup = Setup::new("phone-407");
    let address = setup.address();
    let mut scene = Plot::of(setup).trunk(CREDENTIALS).start().await;
    let call = scene.dial().await;
    scene.talk().await;
    // The proof, computed once more (RFC 7616, 3.4.1).
    let proof = scene.sipp().header("Proxy-Authorization").expect("a proof of the password");
    let part = |name| parameter(&proof, name);
    let uri = part("uri");
    assert!(uri.starts_with("sip:101@") && uri.contains(&address.to_string()), "{uri}");
    let secret = md5("ringback:lab:correct horse");
    let request = md5(&format!("INVITE:{uri}"));
    let all = [&secret, part("nonce"), part("nc"), part("cnonce"), part("qop"), &request].join(":");
    assert_eq!(part("response"), md5(&all), "{proof}");
    scene.hang_up(&call).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_refused_once_and_for_all() {
    let wrong = "user = \"ringback\"\npassword = \"wrong horse\"";
    let mut scene = Plot::of(Setup::new("phone-401")).trunk(wrong).start().await;
    scene.browser.call("101", Codecs::All).await;
    let ended = scene.browser.ended("them").await;
    assert_eq!(ended["sip"], 403, "{ended}");
    scene.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_phones_own_echo_comes_back() {
    let mut scene = Plot::of(Setup::new("phone-echo").argument(&["-rtp_echo"])).start().await;
    let call = scene.dial().await;
    scene.browser.say(Sound::Tone(BROWSER_TONE)).await;
    scene.browser.heard.tone("the browser", BROWSER_TONE).await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

async fn refused(status: &str, code: u16) {
    let mut scene = Plot::of(Setup::new("phone-refuse").word("STATUS", status)).start().await;
    scene.browser.call("101", Codecs::All).await;
    scene.browser.expect("ringing").await;
    let ended = scene.browser.ended("them").await;
    assert_eq!(ended["sip"], code, "{ended}");
    assert!(!scene.browser.kinds().iter().any(|kind| kind == "answered"), "{:?}", scene.browser.kinds());
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy() {
    refused("486 Busy Here", 486).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn declined() {
    refused("603 Decline", 603).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_rings_in_the_ear_until_the_caller_gives_up() {
    let mut scene = Plot::of(Setup::new("phone-ring")).start().await;
    let call = scene.browser.call("101", Codecs::All).await;
    scene.browser.expect("ringing").await;
    // The phone sends no sound: the gateway's own ringback is what the caller hears.
    let rings = |r: &super::peer::sound::Recording| r.ms() > 500 && (-45.0..-6.0).contains(&r.report(440.0, 300).level);
    assert!(scene.browser.heard.until(PATIENCE, rings).await, "no ringback is heard");
    scene.hang_up(&call).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_media_is_heard_before_the_answer() {
    let mut scene = Plot::of(Setup::new("phone-early").word("PAUSE", 4000)).start().await;
    let call = scene.browser.call("101", Codecs::All).await;
    scene.browser.expect("early").await;
    scene.browser.heard.tone("the browser", FILE_TONE).await;
    assert!(!scene.browser.kinds().iter().any(|kind| kind == "answered"), "{:?}", scene.browser.kinds());
    scene.browser.expect("answered").await;
    scene.browser.heard.tone("the browser", FILE_TONE).await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_phone_hangs_up() {
    let mut scene = Plot::of(Setup::new("phone-hangup").word("PAUSE", 3000)).start().await;
    scene.dial().await;
    scene.talk().await;
    scene.browser.ended("them").await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digits_as_telephone_events_both_ways() {
    for codecs in [Codecs::All, Codecs::Pcmu] {
        let mut scene = Plot::of(Setup::new("phone-answer")).start().await;
        let call = scene.dial_with("101", codecs).await;
        scene.talk().await;
        // In the browser's stream, then by the protocol; the same digit twice is two digits.
        scene.browser.press("1559").await;
        scene.phone.heard.digits("the phone", "1559").await;
        scene.browser.digits(&call, "*0#0").await;
        scene.phone.heard.digits("the phone", "1559*0#0").await;
        scene.phone.press("77A").await;
        for digit in ["7", "7", "A"] {
            assert_eq!(scene.browser.expect("digit").await["digit"], digit);
        }
        // The conversation goes on after them.
        scene.talk().await;
        scene.hang_up(&call).await;
        scene.finish().await;
    }
}

/// A network between the trunk and its phone that loses packets: no digit is lost, none comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digits_as_telephone_events_over_a_network_that_loses_a_tenth() {
    for percent in [5, 10] {
        let mut scene = Plot::of(Setup::new("phone-answer")).start().await;
        let call = scene.dial().await;
        scene.talk().await;
        scene.phone.lose(percent).await;
        scene.browser.press("159").await;
        scene.phone.heard.digits("the phone", "159").await;
        scene.browser.digits(&call, "7730*#").await;
        scene.phone.heard.digits("the phone", "1597730*#").await;
        scene.phone.press("6688*0").await;
        for digit in ["6", "6", "8", "8", "*", "0"] {
            assert_eq!(scene.browser.expect("digit").await["digit"], digit);
        }
        scene.browser.heard.digits("the browser", "6688*0").await;
        scene.phone.lose(0).await;
        scene.talk().await;
        scene.hang_up(&call).await;
        scene.finish().await;
    }
}

/// A trunk without telephone-event: its digits are tones, the browser's are events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digits_as_tones_both_ways() {
    for dtmf in ["dtmf = \"inband\"", "dtmf = \"auto\"", "dtmf = \"auto\"\ndtmf_suppress = true"] {
        let mut scene = Plot::of(Setup::new("phone-inband")).trunk(dtmf).start().await;
        let call = scene.dial().await;
        scene.talk().await;
        scene.browser.press("1559").await;
        scene.phone.heard.keys("the phone", "1559").await;
        scene.browser.digits(&call, "*0#").await;
        scene.phone.heard.keys("the phone", "1559*0#").await;
        // What comes back within 300 ms of our own digits would be taken for their echo.
        scene.talk().await;
        scene.phone.key("2277D").await;
        for digit in ["2", "2", "7", "7", "D"] {
            assert_eq!(scene.browser.expect("digit").await["digit"], digit);
        }
        scene.browser.heard.digits("the browser", "2277D").await;
        // Beside the event no tone is heard for as long as it takes to be one.
        let leaked = scene.browser.heard.read(|recording| keys(recording.samples()));
        assert!(leaked.is_empty(), "{dtmf}: the browser hears {leaked:?}");
        scene.talk().await;
        scene.hang_up(&call).await;
        scene.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digits_by_sip_info_from_the_phone() {
    let mut scene = Plot::of(Setup::new("phone-info-out")).start().await;
    let call = scene.dial().await;
    for digit in ["5", "#", "5"] {
        assert_eq!(scene.browser.expect("digit").await["digit"], digit);
    }
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digits_by_sip_info_to_the_phone() {
    let mut scene = Plot::of(Setup::new("phone-info-in")).trunk("dtmf = \"info\"").start().await;
    let call = scene.dial().await;
    scene.talk().await;
    // By the protocol, and as the browser's own telephone-events: this trunk gets both as INFO.
    scene.browser.digits(&call, "19").await;
    scene.sipp().until("Signal=9").await;
    scene.browser.press("*").await;
    scene.sipp().until("Signal=*").await;
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_tab_hangs_up() {
    let mut scene = Plot::of(Setup::new("phone-answer")).start().await;
    scene.dial().await;
    scene.talk().await;
    scene.close_tab().await;
    let closed = Instant::now();
    scene.sipp().until("\nBYE ").await;
    let after = closed.elapsed();
    assert!(after < Duration::from_secs(1), "the BYE came {after:?} after the tab was closed");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_gateway_ends_its_calls() {
    let mut scene = Plot::of(Setup::new("phone-answer")).start().await;
    scene.dial().await;
    scene.talk().await;
    // SIGTERM: the program ends cleanly, and the call as cleanly.
    scene.gateway.terminate();
    let ended = scene.browser.ended("gateway").await;
    assert!(ended["cause"].is_string(), "{ended}");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_no_rule_allows() {
    let mut scene = Plot::of(Setup::new("phone-answer")).start().await;
    scene.browser.call("999", Codecs::All).await;
    let ended = scene.browser.ended("gateway").await;
    assert_eq!(ended["sip"], 403, "{ended}");
    scene.strike().await;
}
