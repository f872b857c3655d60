//! A server of the operator's makes and changes calls by HTTP; what the parties hear is theirs.

use std::net::SocketAddr;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::peer::gateway::free_port;
use super::{Plot, Setup, http};

const TOKEN: &str = "a token of 32 bytes for a server.";

/// A request to call control at this port; gives the answer's JSON.
async fn ask(port: u16, method: &str, path: &str, body: &Value, expected: u16) -> Value {
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    http::ask(at, method, path, &token, &body.to_string(), expected).await
}

/// The user is rung first, then the number; digits, hold and its end, and the hang-up come by HTTP too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_a_server_makes_is_heard_at_both_ends() {
    let port = free_port();
    let sha256: String = Sha256::digest(TOKEN).iter().map(|byte| format!("{byte:02x}")).collect();
    let api = format!(
        "[api]\nlisten = \"127.0.0.1:{port}\"\n[[api.token]]\nname = \"crm\"\nsha256 = \"{sha256}\"\n\
         scopes = [\"read\", \"control\"]\n"
    );
    let mut scene = Plot::of(Setup::new("phone-held")).config(&api).start().await;
    let made = ask(port, "POST", "/v1/calls", &json!({ "user": "alice", "to": "101" }), 201).await;
    let path = format!("/v1/calls/{}", made["call"].as_str().unwrap_or_else(|| panic!("{made}")));
    let incoming = scene.browser.expect("incoming").await;
    scene.accept(&incoming).await;
    scene.talk().await;
    ask(port, "POST", &format!("{path}/digits"), &json!({ "digits": "12#", "to": "b" }), 202).await;
    scene.phone.heard.digits("the phone", "12#").await;
    ask(port, "POST", &format!("{path}/hold"), &json!({ "on": true }), 202).await;
    assert_eq!(scene.browser.expect("held").await["on"], true);
    scene.phone_hears_no_browser().await;
    ask(port, "POST", &format!("{path}/hold"), &json!({ "on": false }), 202).await;
    assert_eq!(scene.browser.expect("held").await["on"], false);
    scene.talk().await;
    ask(port, "DELETE", &path, &Value::Null, 204).await;
    scene.browser.ended("gateway").await;
    scene.finish().await;
}
