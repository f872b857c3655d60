//! A browser calls a phone.

use std::time::{Duration, Instant};

use md5::Digest;

use super::peer::{Codecs, PATIENCE, Sound};
use super::sipp::{FILE_TONE, Setup};
use super::{BROWSER_TONE, Browser, Phone, gateway, talk};

/// Dials, is answered, talks, hangs up: the phone ends as its scenario says.
async fn answered(scenario: &'static str, trunk: &str, arguments: &[&str], codecs: Codecs) {
    let phone = Phone::start("127.0.0.1").await;
    let setup = Setup::new(scenario).media(&phone).argument(arguments);
    let mut gateway = gateway(&setup, trunk).await;
    let sipp = setup.phone().await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    let call = browser.call("101", codecs).await;
    browser.expect("answer").await;
    browser.expect("ringing").await;
    browser.expect("answered").await;
    talk(&browser, &phone).await;
    browser.hangup(&call).await;
    let ended = browser.ended("us").await;
    assert_eq!(ended["call"], call.as_str());
    sipp.finish().await;
    let record = gateway.record().await;
    assert!(record.is_object(), "{record}");
    phone.stop().await;
    browser.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opus_to_pcmu() {
    answered("phone-answer", "", &[], Codecs::All).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pcmu_to_pcmu() {
    answered("phone-answer", "", &[], Codecs::Pcmu).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tcp() {
    answered("phone-answer", "transport = \"tcp\"", &["-t", "t1"], Codecs::All).await;
}

const CREDENTIALS: &str = "user = \"ringback\"\npassword = \"correct horse\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unauthorized_is_answered_with_the_password() {
    answered("phone-401", CREDENTIALS, &[], Codecs::All).await;
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
    let phone = Phone::start("127.0.0.1").await;
    let setup = Setup::new("phone-407").media(&phone);
    let address = setup.address();
    let gateway = gateway(&setup, CREDENTIALS).await;
    let sipp = setup.phone().await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    let call = browser.call("101", Codecs::All).await;
    browser.expect("answered").await;
    talk(&browser, &phone).await;
    // The proof, computed once more (RFC 7616, 3.4.1).
    let proof = sipp.header("Proxy-Authorization").expect("a proof of the password");
    let part = |name| parameter(&proof, name);
    let uri = part("uri");
    assert!(uri.starts_with("sip:101@") && uri.contains(&address.to_string()), "{uri}");
    let secret = md5("ringback:lab:correct horse");
    let request = md5(&format!("INVITE:{uri}"));
    let all = [&secret, part("nonce"), part("nc"), part("cnonce"), part("qop"), &request].join(":");
    assert_eq!(part("response"), md5(&all), "{proof}");
    browser.hangup(&call).await;
    browser.ended("us").await;
    sipp.finish().await;
    phone.stop().await;
    browser.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_refused_once_and_for_all() {
    let phone = Phone::start("127.0.0.1").await;
    let setup = Setup::new("phone-401").media(&phone);
    let gateway = gateway(&setup, "user = \"ringback\"\npassword = \"wrong horse\"").await;
    let sipp = setup.phone().await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    browser.call("101", Codecs::All).await;
    let ended = browser.ended("them").await;
    assert_eq!(ended["sip"], 403, "{ended}");
    drop(sipp);
    phone.stop().await;
    browser.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_phones_own_echo_comes_back() {
    let setup = Setup::new("phone-echo").argument(&["-rtp_echo"]);
    let gateway = gateway(&setup, "").await;
    let sipp = setup.phone().await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    let call = browser.call("101", Codecs::All).await;
    browser.expect("answered").await;
    browser.say(Sound::Tone(BROWSER_TONE)).await;
    browser.heard.tone("the browser", BROWSER_TONE).await;
    browser.hangup(&call).await;
    browser.ended("us").await;
    sipp.finish().await;
    browser.close().await;
    gateway.stop().await;
}

async fn refused(status: &str, code: u16) {
    let setup = Setup::new("phone-refuse").word("STATUS", status);
    let mut gateway = gateway(&setup, "").await;
    let sipp = setup.phone().await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    browser.call("101", Codecs::All).await;
    browser.expect("ringing").await;
    let ended = browser.ended("them").await;
    assert_eq!(ended["sip"], code, "{ended}");
    assert!(!browser.kinds().iter().any(|kind| kind == "answered"));
    sipp.finish().await;
    assert!(gateway.record().await.is_object());
    browser.close().await;
    gateway.stop().await;
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
    let setup = Setup::new("phone-ring");
    let gateway = gateway(&setup, "").await;
    let sipp = setup.phone().await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    let call = browser.call("101", Codecs::All).await;
    browser.expect("ringing").await;
    // The phone sends no sound: the gateway's own ringback is what the caller hears.
    let rings = |r: &super::peer::sound::Recording| r.ms() > 500 && (-45.0..-6.0).contains(&r.report(440.0, 300).level);
    assert!(browser.heard.until(PATIENCE, rings).await, "no ringback is heard");
    browser.hangup(&call).await;
    browser.ended("us").await;
    sipp.finish().await;
    browser.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_media_is_heard_before_the_answer() {
    let setup = Setup::new("phone-early").word("PAUSE", 4000);
    let gateway = gateway(&setup, "").await;
    let sipp = setup.phone().await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    let call = browser.call("101", Codecs::All).await;
    browser.expect("early").await;
    browser.heard.tone("the browser", FILE_TONE).await;
    assert!(!browser.kinds().iter().any(|kind| kind == "answered"), "{:?}", browser.kinds());
    browser.expect("answered").await;
    browser.heard.tone("the browser", FILE_TONE).await;
    browser.hangup(&call).await;
    browser.ended("us").await;
    sipp.finish().await;
    browser.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_phone_hangs_up() {
    let phone = Phone::start("127.0.0.1").await;
    let setup = Setup::new("phone-hangup").media(&phone).word("PAUSE", 3000);
    let gateway = gateway(&setup, "").await;
    let sipp = setup.phone().await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    browser.call("101", Codecs::All).await;
    browser.expect("answered").await;
    talk(&browser, &phone).await;
    browser.ended("them").await;
    sipp.finish().await;
    phone.stop().await;
    browser.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digits_as_telephone_events_both_ways() {
    for codecs in [Codecs::All, Codecs::Pcmu] {
        let phone = Phone::start("127.0.0.1").await;
        let setup = Setup::new("phone-answer").media(&phone);
        let gateway = gateway(&setup, "").await;
        let sipp = setup.phone().await;
        let mut browser = Browser::open(gateway.http, "alice").await;
        let call = browser.call("101", codecs).await;
        browser.expect("answered").await;
        talk(&browser, &phone).await;
        // In the browser's stream, then by the protocol; the same digit twice is two digits.
        browser.press("1559").await;
        phone.heard.digits("the phone", "1559").await;
        browser.digits(&call, "*0#0").await;
        phone.heard.digits("the phone", "1559*0#0").await;
        phone.press("77A").await;
        for digit in ["7", "7", "A"] {
            assert_eq!(browser.expect("digit").await["digit"], digit);
        }
        // The conversation goes on after them.
        talk(&browser, &phone).await;
        browser.hangup(&call).await;
        browser.ended("us").await;
        sipp.finish().await;
        phone.stop().await;
        browser.close().await;
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digits_by_sip_info_from_the_phone() {
    let phone = Phone::start("127.0.0.1").await;
    let setup = Setup::new("phone-info-out").media(&phone);
    let gateway = gateway(&setup, "").await;
    let sipp = setup.phone().await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    let call = browser.call("101", Codecs::All).await;
    browser.expect("answered").await;
    for digit in ["5", "#", "5"] {
        assert_eq!(browser.expect("digit").await["digit"], digit);
    }
    talk(&browser, &phone).await;
    browser.hangup(&call).await;
    browser.ended("us").await;
    sipp.finish().await;
    phone.stop().await;
    browser.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digits_by_sip_info_to_the_phone() {
    let phone = Phone::start("127.0.0.1").await;
    let setup = Setup::new("phone-info-in").media(&phone);
    let gateway = gateway(&setup, "dtmf = \"info\"").await;
    let sipp = setup.phone().await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    let call = browser.call("101", Codecs::All).await;
    browser.expect("answered").await;
    talk(&browser, &phone).await;
    // By the protocol, and as the browser's own telephone-events: this trunk gets both as INFO.
    browser.digits(&call, "19").await;
    sipp.until("Signal=9").await;
    browser.press("*").await;
    sipp.until("Signal=*").await;
    talk(&browser, &phone).await;
    browser.hangup(&call).await;
    browser.ended("us").await;
    sipp.finish().await;
    phone.stop().await;
    browser.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_tab_hangs_up() {
    let phone = Phone::start("127.0.0.1").await;
    let setup = Setup::new("phone-answer").media(&phone);
    let gateway = gateway(&setup, "").await;
    let sipp = setup.phone().await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    browser.call("101", Codecs::All).await;
    browser.expect("answered").await;
    talk(&browser, &phone).await;
    browser.close().await;
    let closed = Instant::now();
    sipp.until("\nBYE ").await;
    let after = closed.elapsed();
    assert!(after < Duration::from_secs(1), "the BYE came {after:?} after the tab was closed");
    sipp.finish().await;
    phone.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_gateway_ends_its_calls() {
    let phone = Phone::start("127.0.0.1").await;
    let setup = Setup::new("phone-answer").media(&phone);
    let gateway = gateway(&setup, "").await;
    let sipp = setup.phone().await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    browser.call("101", Codecs::All).await;
    browser.expect("answered").await;
    talk(&browser, &phone).await;
    // `stop` sends SIGTERM and wants a clean end of the program; the call is to end as cleanly.
    let (_, ended) = tokio::join!(gateway.stop(), browser.ended("gateway"));
    assert!(ended["cause"].is_string(), "{ended}");
    sipp.finish().await;
    phone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_no_rule_allows() {
    let setup = Setup::new("phone-answer");
    let gateway = gateway(&setup, "").await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    browser.call("999", Codecs::All).await;
    let ended = browser.ended("gateway").await;
    assert_eq!(ended["sip"], 403, "{ended}");
    browser.close().await;
    gateway.stop().await;
}
