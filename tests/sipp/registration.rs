//! REGISTER in both roles, and what registering is for: calls with sound.

use super::peer::Codecs;
use super::scene::Scene;
use super::{Plot, Setup};

/// MD5 of `desk:lab:correct-horse`: SIPp knows no other hash, and a registrar that has only MD5 asks for only MD5.
const REGISTRAR: &str =
    "[registrar]\nrealm = \"lab\"\n[registrar.users.desk]\nha1 = \"ce2484e0e7403d48e2ff953f91458826\"\n";

/// A 401, a 423, a short grant that is refreshed before it ends, and goodbye at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_wants_it_has_us_registered() {
    let plot = Plot::of(Setup::new("registrar").word("GRANTED", 6));
    let keys = "register = true\nuser = \"ringback\"\npassword = \"correct-horse\"\nexpires = 60";
    let mut scene = plot.trunk(keys).start().await;
    scene.sipp().until("expires=600").await;
    scene.gateway.terminate();
    scene.sipp_ends().await;
    scene.strike().await;
}

/// Not a trunk's address: what comes from one is the trunk's.
const DESK_IP: [u8; 4] = [127, 0, 0, 3];

/// A scene in which `desk` has registered, at this port.
async fn registered(rules: &str, port: u16) -> Scene {
    let scene = Plot::of(Setup::new("phone-answer")).config(REGISTRAR).rules(rules).start().await;
    let desk = Setup::new("register").at(DESK_IP).port(port).word("USER", "desk").word("PASSWORD", "correct-horse");
    desk.caller(scene.gateway.sip).finish().await;
    scene
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_phone_is_called() {
    let desk = Setup::new("phone-answer").at(DESK_IP);
    let mut scene = registered("[[out]]\nname = \"desk\"\nnumber = \"250\"\nuser = \"desk\"\n", desk.port).await;
    let desk = desk.media(&scene.phone).phone(scene.gateway.sip).await;
    let call = scene.dial_with("250", Codecs::All).await;
    scene.talk().await;
    scene.hang_up(&call).await;
    desk.finish().await;
    scene.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_phone_calls() {
    let desk = Setup::calling("caller-407", "201").at(DESK_IP).word("FROM", "desk");
    let mut scene = registered("[[out]]\nname = \"alice\"\nnumber = \"201\"\nuser = \"alice\"\n", desk.port).await;
    // SIPp leaves the number out of the proof's `uri`, which must be the Request-URI (RFC 7616 section 3.4.6).
    let uri = format!("201@{}", scene.gateway.sip);
    let desk = desk.media(&scene.phone).argument(&["-auth_uri", &uri]).caller(scene.gateway.sip);
    let incoming = scene.browser.expect("incoming").await;
    let call = scene.accept(&incoming).await;
    scene.talk().await;
    scene.hang_up(&call).await;
    desk.finish().await;
    scene.strike().await;
}
