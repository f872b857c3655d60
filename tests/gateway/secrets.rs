//! Canaries: secrets planted in the configuration, in the API's token and in session descriptions stand in no line of the log at its most
//! talkative, in no call's record and in no metric.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Browser, Gateway, OFFER, PATIENCE, reply};

const TRUNK: &str = "canary-of-the-trunk";
const PHONE: &str = "canary-of-the-phone";
const TOKEN: &str = "canary-of-the-api-0123456789abcdef";
const HOOK: &str = "canary-of-the-hook-0123456789abcdef";
const TURN: &str = "canary-of-turn-0123456789abcdef";
/// A browser's password for ICE, as in the offer.
const ICE: &str = "2/1muCWoOi3uLifh0NuRHlIz";

/// The value of an attribute.
fn attribute<'a>(sdp: &'a str, name: &str) -> &'a str {
    sdp.lines().find_map(|line| line.strip_prefix(name)).expect(name).trim()
}

/// A trunk that challenges the first INVITE, answers the second with keys of its own, and gives our keys.
fn answer_with_keys(socket: &UdpSocket) -> String {
    let mut buffer = [0; 65_536];
    let ours = socket.local_addr().unwrap();
    loop {
        let (len, from) = socket.recv_from(&mut buffer).expect("a request");
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let challenge = "WWW-Authenticate: Digest realm=\"t\", nonce=\"n\", algorithm=MD5\r\nContent-Length: 0\r\n\r\n";
        if text.starts_with("INVITE") && !text.contains("Authorization:") {
            socket.send_to(reply(&text, "401 Unauthorized", challenge).as_bytes(), from).unwrap();
        } else if text.starts_with("INVITE") {
            let key = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
            let tag = attribute(&text, "a=crypto:").split(' ').next().unwrap().to_owned();
            let sdp = format!(
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 19998 RTP/SAVP 0\r\n\
                 a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{key}\r\n"
            );
            let rest = format!(
                "Contact: <sip:uas@{ours}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
                sdp.len()
            );
            socket.send_to(reply(&text, "200 OK", &rest).as_bytes(), from).unwrap();
            return attribute(&text, "a=crypto:").split("inline:").nth(1).unwrap().to_owned();
        }
    }
}

fn get(port: u16, path: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn planted_secrets_are_in_no_log_record_or_metric() {
    let trunk = UdpSocket::bind("127.0.0.1:0").unwrap();
    trunk.set_read_timeout(Some(PATIENCE)).unwrap();
    let api = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("dialplans")).unwrap();
    fs::write(dir.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
    fs::write(dir.path().join("token"), TOKEN).unwrap();
    let config = format!(
        "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
         rtp_ports = \"23600-23699\"\n[auth]\nopen = true\n[turn]\nurls = [\"turn:127.0.0.1:9\"]\nsecret = \"{TURN}\"\n\
         [trunk.testphone]\naddress = \"{}\"\noptions = 0\nuser = \"us\"\npassword = \"{TRUNK}\"\nsrtp = \"required\"\n\
         [registrar]\nrealm = \"lab\"\n[registrar.users.desk]\npassword = \"{PHONE}\"\n\
         [[webhook]]\nurl = \"http://127.0.0.1:9/canary-of-the-path\"\nsecret = \"{HOOK}\"\n\
         [api]\nlisten = \"127.0.0.1:{api}\"\n[[api.token]]\nname = \"reader\"\ntoken_file = \"token\"\n",
        trunk.local_addr().unwrap()
    );
    let file = dir.path().join("ringback.toml");
    fs::write(&file, config).unwrap();
    let mut gateway = Gateway::managed(&file, &[("RUST_LOG", "ringback=trace")]);
    let mut alice = Browser::open(&gateway);
    alice.send(&json!({"type": "hello", "user": "alice"}));
    let welcome = alice.expect("welcome").to_string();
    alice.send(&json!({"type": "call", "call": "c1", "to": "600", "sdp": OFFER}));
    let answer = alice.expect("answer")["sdp"].as_str().unwrap().to_owned();
    let key = answer_with_keys(&trunk);
    alice.expect("answered");
    let wrong = get(api, "/v1/calls", "canary-of-a-guess");
    assert!(wrong.contains(" 401 "), "{wrong}");
    let shown = [get(api, "/v1/calls", TOKEN), get(api, "/v1/status", TOKEN), get(api, "/metrics", TOKEN)].concat();
    alice.send(&json!({"type": "hangup", "call": "c1"}));
    alice.expect("ended");
    let cdr = gateway.cdr().to_string();
    gateway.terminate();
    let log = gateway.whole_log();
    gateway.wait();
    assert!(log.contains("DEBUG") || log.contains("TRACE"), "the log says little:\n{log}");
    let ours = attribute(&answer, "a=ice-pwd:");
    let secrets = [
        TRUNK,
        PHONE,
        TOKEN,
        HOOK,
        TURN,
        ICE,
        ours,
        key.as_str(),
        "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
        "canary",
    ];
    for secret in secrets {
        for (place, text) in [("log", &log), ("record", &cdr), ("answers", &shown)] {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} is in the {place}");
        }
    }
    assert!(!welcome.contains(TURN), "{welcome}");
}
