//! The same calls over each transport: a browser calls a phone, a phone calls a browser.

use super::{Plot, Setup};

/// Out by `phone-answer` and in by `caller-hangup`, changed in the same way.
async fn both_ways(change: impl Fn(Setup) -> Setup) {
    let mut out = Plot::of(change(Setup::new("phone-answer"))).start().await;
    let call = out.dial().await;
    out.talk().await;
    out.hang_up(&call).await;
    out.finish().await;
    let caller = Setup::calling("caller-hangup", "201").word("PAUSE", 4000);
    let mut inwards = Plot::of(change(caller)).start().await;
    inwards.answer().await;
    inwards.talk().await;
    inwards.browser.ended("them").await;
    inwards.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_udp() {
    both_ways(|sipp| sipp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tcp() {
    both_ways(Setup::tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_ipv6() {
    both_ways(Setup::ipv6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tcp_on_ipv6() {
    both_ways(|sipp| sipp.tcp().ipv6()).await;
}

/// The gateway verifies the phone's certificate, and the caller the gateway's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls() {
    both_ways(Setup::tls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_on_ipv6() {
    both_ways(|sipp| sipp.ipv6().tls()).await;
}

/// RFC 3261 section 18.1.1: an INVITE too large for a datagram finds no TCP at this phone, and goes as one all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_invite_to_a_phone_without_tcp() {
    let long = format!("headers = {{ \"X-Long\" = \"{}\" }}", "long ".repeat(240).trim_end());
    let mut scene = Plot::of(Setup::new("phone-answer")).trunk(&long).start().await;
    let call = scene.dial().await;
    scene.talk().await;
    scene.hang_up(&call).await;
    assert!(scene.gateway.log().contains("the peer has no TCP for a large request"));
    scene.finish().await;
}

/// Two trunks, each with a phone of its own: one rings after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_phones_of_two_trunks() {
    let plot = Plot::of(Setup::new("phone-answer")).second(Setup::new("phone-answer"));
    let mut scene = plot.start().await;
    let call = scene.dial().await;
    scene.talk().await;
    scene.hang_up(&call).await;
    let call = scene.dial_with("301", super::peer::Codecs::All).await;
    scene.talk_to_second().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}
