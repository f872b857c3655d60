//! A phone calls a browser.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::peer::{PATIENCE, Sound};
use super::sipp::FILE_TONE;
use super::{BROWSER_TONE, Browser, Plot, Setup};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_and_the_caller_hangs_up() {
    let mut scene = Plot::of(Setup::calling("caller-hangup", "201").word("PAUSE", 4000)).start().await;
    let incoming = scene.ring().await;
    assert!(incoming["from"].as_str().is_some_and(|from| from.ends_with("5551234")), "{incoming}");
    assert_eq!(incoming["to"], "201");
    scene.accept(&incoming).await;
    scene.talk().await;
    scene.browser.ended("them").await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_and_the_browser_hangs_up() {
    let mut scene = Plot::of(Setup::calling("caller-answer", "201")).start().await;
    let call = scene.answer().await;
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callers_own_sound_is_heard() {
    let mut scene = Plot::of(Setup::calling("caller-stream", "201")).start().await;
    let call = scene.answer().await;
    scene.browser.say(Sound::Tone(BROWSER_TONE)).await;
    scene.browser.heard.tone("the browser", FILE_TONE).await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

async fn rejected(code: u16) {
    let mut scene = Plot::of(Setup::calling("caller-refused", "201").word("STATUS", code)).start().await;
    let incoming = scene.ring().await;
    scene.browser.send(json!({ "type": "reject", "call": incoming["call"], "code": code })).await;
    scene.browser.ended("us").await;
    scene.finish().await;
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
    let mut scene = Plot::of(Setup::calling("caller-refused", to).word("STATUS", code)).start().await;
    scene.cue();
    scene.finish().await;
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
    let mut scene = Plot::of(Setup::calling("caller-cancel", "201").word("PAUSE", 500)).start().await;
    scene.ring().await;
    scene.browser.ended("them").await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_of_two_browsers_has_the_call() {
    let mut scene = Plot::of(Setup::calling("caller-answer", "201")).start().await;
    let mut second = Browser::open(scene.gateway.http, "alice").await;
    let incoming = scene.ring().await;
    let other = second.expect("incoming").await;
    assert_eq!(incoming["from"], other["from"]);
    let call = scene.accept(&incoming).await;
    let elsewhere = second.expect("ended").await;
    assert!(elsewhere["cause"].as_str().is_some_and(|cause| cause.contains("elsewhere")), "{elsewhere}");
    scene.talk().await;
    scene.hang_up(&call).await;
    second.close().await;
    scene.finish().await;
}

/// A request as a scanner sends it.
fn options(from: &UdpSocket, to: SocketAddr) -> String {
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
    let scene = Plot::of(Setup::calling("caller-answer", "201")).start().await;
    let gateway = scene.gateway.sip;
    let stranger = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let trunk = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let invite = options(&stranger, gateway).replace("OPTIONS", "INVITE");
    for datagram in [options(&stranger, gateway), invite, "nonsense".into(), "\r\n\r\n".into()] {
        stranger.send_to(datagram.as_bytes(), gateway).await.unwrap();
    }
    // The trunk's own address is answered, after all of the above was read: whatever was to be said has been said.
    let mut buffer = [0; 2048];
    trunk.send_to(options(&trunk, gateway).as_bytes(), gateway).await.unwrap();
    let (length, _) = timeout(PATIENCE, trunk.recv_from(&mut buffer)).await.expect("an answer").unwrap();
    assert!(buffer[..length].starts_with(b"SIP/2.0 200"), "{}", String::from_utf8_lossy(&buffer[..length]));
    let silence = timeout(Duration::from_secs(1), stranger.recv_from(&mut buffer)).await;
    assert!(silence.is_err(), "a stranger was answered");
    scene.strike().await;
}
