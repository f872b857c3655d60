//! A phone calls a browser.

use std::time::Duration;

use serde_json::json;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::peer::{PATIENCE, Sound};
use super::sipp::{FILE_TONE, Setup};
use super::{BROWSER_TONE, Browser, Phone, gateway, talk};

/// A caller with this scenario, not started yet.
fn caller(scenario: &'static str, to: &str) -> Setup {
    Setup::new(scenario).word("TO", to).word("FROM", "5551234")
}

async fn accepted(arguments: &[&str]) {
    let phone = Phone::start("127.0.0.1").await;
    let setup = caller("caller-hangup", "201").media(&phone).word("PAUSE", 4000).argument(arguments);
    let gateway = gateway(&setup, "").await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    let sipp = setup.caller(gateway.sip);
    let incoming = browser.expect("incoming").await;
    assert!(incoming["from"].as_str().is_some_and(|from| from.ends_with("5551234")), "{incoming}");
    assert_eq!(incoming["to"], "201");
    browser.accept(&incoming).await;
    browser.expect("answered").await;
    talk(&browser, &phone).await;
    browser.ended("them").await;
    sipp.finish().await;
    phone.stop().await;
    browser.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_and_the_caller_hangs_up() {
    accepted(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_over_tcp() {
    accepted(&["-t", "t1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_and_the_browser_hangs_up() {
    let phone = Phone::start("127.0.0.1").await;
    let setup = caller("caller-answer", "201").media(&phone);
    let mut gateway = gateway(&setup, "").await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    let sipp = setup.caller(gateway.sip);
    let incoming = browser.expect("incoming").await;
    browser.accept(&incoming).await;
    browser.expect("answered").await;
    talk(&browser, &phone).await;
    browser.hangup(incoming["call"].as_str().unwrap()).await;
    browser.ended("us").await;
    sipp.finish().await;
    assert!(gateway.record().await.is_object());
    phone.stop().await;
    browser.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callers_own_sound_is_heard() {
    let setup = caller("caller-stream", "201");
    let gateway = gateway(&setup, "").await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    let sipp = setup.caller(gateway.sip);
    let incoming = browser.expect("incoming").await;
    browser.accept(&incoming).await;
    browser.expect("answered").await;
    browser.say(Sound::Tone(BROWSER_TONE)).await;
    browser.heard.tone("the browser", FILE_TONE).await;
    browser.hangup(incoming["call"].as_str().unwrap()).await;
    browser.ended("us").await;
    sipp.finish().await;
    browser.close().await;
    gateway.stop().await;
}

async fn rejected(code: u16) {
    let phone = Phone::start("127.0.0.1").await;
    let setup = caller("caller-refused", "201").media(&phone).word("STATUS", code);
    let gateway = gateway(&setup, "").await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    let sipp = setup.caller(gateway.sip);
    let incoming = browser.expect("incoming").await;
    browser.send(json!({ "type": "reject", "call": incoming["call"], "code": code })).await;
    browser.ended("us").await;
    sipp.finish().await;
    phone.stop().await;
    browser.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn declined() {
    rejected(603).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy() {
    rejected(486).await;
}

async fn refused(to: &str, code: u16) {
    let phone = Phone::start("127.0.0.1").await;
    let setup = caller("caller-refused", to).media(&phone).word("STATUS", code);
    let gateway = gateway(&setup, "").await;
    let browser = Browser::open(gateway.http, "alice").await;
    setup.caller(gateway.sip).finish().await;
    browser.close().await;
    phone.stop().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there() {
    refused("202", 480).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_of_nobody() {
    refused("299", 404).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caller_gives_up() {
    let phone = Phone::start("127.0.0.1").await;
    let setup = caller("caller-cancel", "201").media(&phone).word("PAUSE", 500);
    let gateway = gateway(&setup, "").await;
    let mut browser = Browser::open(gateway.http, "alice").await;
    let sipp = setup.caller(gateway.sip);
    browser.expect("incoming").await;
    browser.ended("them").await;
    sipp.finish().await;
    phone.stop().await;
    browser.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_of_two_browsers_has_the_call() {
    let phone = Phone::start("127.0.0.1").await;
    let setup = caller("caller-answer", "201").media(&phone);
    let gateway = gateway(&setup, "").await;
    let mut first = Browser::open(gateway.http, "alice").await;
    let mut second = Browser::open(gateway.http, "alice").await;
    let sipp = setup.caller(gateway.sip);
    let (incoming, other) = (first.expect("incoming").await, second.expect("incoming").await);
    assert_eq!(incoming["from"], other["from"]);
    first.accept(&incoming).await;
    first.expect("answered").await;
    let elsewhere = second.expect("ended").await;
    assert!(elsewhere["cause"].as_str().is_some_and(|cause| cause.contains("elsewhere")), "{elsewhere}");
    talk(&first, &phone).await;
    first.hangup(incoming["call"].as_str().unwrap()).await;
    first.ended("us").await;
    sipp.finish().await;
    phone.stop().await;
    first.close().await;
    second.close().await;
    gateway.stop().await;
}

/// A request as a scanner sends it.
fn options(from: &UdpSocket, to: std::net::SocketAddr) -> String {
    let from = from.local_addr().unwrap();
    format!(
        "OPTIONS sip:100@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{0};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:100@{from}>;tag={0}\r\nTo: <sip:100@{to}>\r\nCall-ID: {0}@{from}\r\nCSeq: 1 OPTIONS\r\n\
         Contact: <sip:100@{from}>\r\nContent-Length: 0\r\n\r\n",
        from.port()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_trunk_gets_silence() {
    let gateway = gateway(&caller("caller-answer", "201"), "").await;
    let stranger = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let trunk = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let invite = options(&stranger, gateway.sip).replace("OPTIONS", "INVITE");
    for datagram in [options(&stranger, gateway.sip), invite, "nonsense".into(), "\r\n\r\n".into()] {
        stranger.send_to(datagram.as_bytes(), gateway.sip).await.unwrap();
    }
    // The trunk's own address is answered, after all of the above was read: whatever was to be said has been said.
    let mut buffer = [0; 2048];
    trunk.send_to(options(&trunk, gateway.sip).as_bytes(), gateway.sip).await.unwrap();
    let (length, _) = timeout(PATIENCE, trunk.recv_from(&mut buffer)).await.expect("an answer").unwrap();
    assert!(buffer[..length].starts_with(b"SIP/2.0 200"), "{}", String::from_utf8_lossy(&buffer[..length]));
    let silence = timeout(Duration::from_secs(1), stranger.recv_from(&mut buffer)).await;
    assert!(silence.is_err(), "a stranger was answered");
    gateway.stop().await;
}
