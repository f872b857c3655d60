//! Trunks that die and come back, and the registrar's door: seen from outside, on the wire and in `GET /status`.

use std::net::SocketAddr;
use std::time::Duration;

use ringback::sip::{Credentials, Message, Method, Response, digest};
use tokio::net::UdpSocket;
use tokio::time::{interval, timeout};

use super::peer::gateway::free_port;
use super::peer::{Codecs, PATIENCE};
use super::{Plot, Setup, http};

/// Waits until a trunk is as it should be.
async fn until_up(at: SocketAddr, trunk: &str, up: bool) {
    let wait = timeout(PATIENCE, async {
        let mut tick = interval(Duration::from_millis(200));
        loop {
            tick.tick().await;
            let status = http::get(at, "/status").await;
            let trunks = status["trunks"].as_array().unwrap();
            if trunks.iter().any(|entry| entry["name"] == trunk && entry["up"] == up) {
                return;
            }
        }
    });
    assert!(wait.await.is_ok(), "{trunk} never became {up}");
}

/// OPTIONS: a trunk where nobody answers is skipped at once, and used again when somebody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_trunk_is_skipped_until_it_answers() {
    let port = free_port();
    let dead = format!("[trunk.dead]\naddress = \"127.0.0.1:{port}\"\noptions = 1\nnumber_format = \"as-dialled\"");
    let rule = "[[out]]\nname = \"tiers\"\nnumber = \"250\"\ntiers = [[\"dead\"], [\"lab\"]]\n";
    let mut scene = Plot::of(Setup::new("phone-answer")).config(&dead).rules(rule).start().await;
    let at = scene.gateway.http;
    until_up(at, "dead", false).await;
    let call = scene.dial_with("250", Codecs::All).await;
    scene.talk().await;
    scene.hang_up(&call).await;
    let record = scene.gateway.record().await;
    assert_eq!(record["trunks"][0]["result"], "down", "{record}");
    assert_eq!(record["trunks"][1]["result"], "answered", "{record}");
    let alive = Setup::new("options").port(port).phone(scene.gateway.sip).await;
    until_up(at, "dead", true).await;
    alive.finish().await;
    scene.sipp_ends().await;
    scene.strike().await;
}

/// A registrar that only knows MD5 of `desk:lab:correct-horse`.
const REGISTRAR: &str =
    "[registrar]\nrealm = \"lab\"\n[registrar.users.desk]\nha1 = \"ce2484e0e7403d48e2ff953f91458826\"\n";

fn request(method: &Method, from: SocketAddr, number: u32, authorization: &str) -> String {
    format!(
        "{method} sip:lab SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKguess{number}{}\r\nMax-Forwards: 70\r\n\
         From: <sip:desk@lab>;tag=guess\r\nTo: <sip:desk@lab>\r\nCall-ID: guess{number}@{from}\r\nCSeq: {} {method}\r\n\
         Contact: <sip:desk@{from}>\r\n{authorization}Content-Length: 0\r\n\r\n",
        authorization.len(),
        1 + usize::from(!authorization.is_empty()),
    )
}

async fn answer(socket: &UdpSocket, within: Duration) -> Option<Response> {
    let mut bytes = [0; 4096];
    let (len, _) = timeout(within, socket.recv_from(&mut bytes)).await.ok()?.unwrap();
    match Message::parse(&bytes[..len]) {
        Ok(Message::Response(response)) => Some(response),
        other => panic!("{other:?}"),
    }
}

/// A stranger hears nothing but the registrar, and who guesses passwords is slowed and counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_get_silence_and_guessers_are_slowed() {
    let scene = Plot::of(Setup::new("phone-answer")).config(REGISTRAR).start().await;
    let stranger = UdpSocket::bind("127.0.0.4:0").await.unwrap();
    let own = stranger.local_addr().unwrap();
    stranger.connect(scene.gateway.sip).await.unwrap();
    for method in [Method::Invite, Method::Options] {
        stranger.send(request(&method, own, 0, "").as_bytes()).await.unwrap();
        assert!(answer(&stranger, Duration::from_millis(300)).await.is_none(), "{method} of a stranger is answered");
    }
    let wrong = Credentials { username: "desk".into(), password: "wrong".into(), realm: None };
    let mut slowed_after = None;
    for guess in 1..60 {
        stranger.send(request(&Method::Register, own, guess, "").as_bytes()).await.unwrap();
        let response = answer(&stranger, PATIENCE).await.unwrap();
        let challenge = response.headers.challenges("WWW-Authenticate").remove(0);
        let value = digest::answer(&challenge, &wrong, &Method::Register, "sip:lab", b"", "c", 1).unwrap();
        let line = format!("Authorization: {value}\r\n");
        stranger.send(request(&Method::Register, own, guess, &line).as_bytes()).await.unwrap();
        let refusal = answer(&stranger, PATIENCE).await.unwrap();
        if refusal.status == 503 {
            assert!(refusal.headers.get("Retry-After").is_some());
            slowed_after = Some(guess);
            break;
        }
        assert_eq!(refusal.status, 401);
    }
    assert!(slowed_after.is_some_and(|guess| guess < 40), "{slowed_after:?}");
    let registrar = &http::get(scene.gateway.http, "/status").await["registrar"];
    assert!(registrar["failed"].as_u64() > Some(3) && registrar["slowed"].as_u64() > Some(0), "{registrar}");
    assert_eq!(registrar["bindings"], 0);
    scene.strike().await;
}
