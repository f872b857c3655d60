//! The end of calls and of the gateway: told to everyone, recorded once.

use std::time::Instant;

use crate::support::{Browser, Gateway};

#[test]
fn a_closed_tab_ends_its_call_and_leaves_a_record() {
    let gateway = Gateway::embedded();
    let mut browser = Browser::of(&gateway, "alice");
    browser.call("c1", "600");
    let id = browser.expect("answer")["id"].clone();
    browser.expect("answered");
    drop(browser); // the tab is gone: no close frame, just the connection
    let closed = Instant::now();
    let cdr = gateway.cdr();
    println!("closed tab to CDR: {} ms", closed.elapsed().as_millis());
    assert_eq!(cdr["call"], id, "{cdr}");
    assert_eq!(cdr["user"], "alice", "{cdr}");
}

#[test]
fn sigterm_ends_every_call_cleanly() {
    let mut gateway = Gateway::embedded();
    let mut established = Browser::of(&gateway, "alice");
    established.call("c1", "600");
    established.expect("answered");
    let mut ringing = Browser::of(&gateway, "bob");
    ringing.call("c2", "604");
    ringing.expect("ringing");

    gateway.terminate();

    for (browser, call) in [(&mut established, "c1"), (&mut ringing, "c2")] {
        let ended = browser.expect("ended");
        assert_eq!((&ended["call"], &ended["by"]), (&call.into(), &"gateway".into()), "{ended}");
        browser.closed();
    }
    assert_eq!(gateway.wait().code(), Some(0));
    let users: std::collections::BTreeSet<String> = gateway
        .stdout
        .iter()
        .map(|l| serde_json::from_str::<serde_json::Value>(&l).unwrap()["user"].to_string())
        .collect();
    assert_eq!(users.len(), 2, "one record each: {users:?}");
}

#[test]
fn the_demo_numbers_end_as_they_should() {
    let gateway = Gateway::embedded();
    let mut browser = Browser::of(&gateway, "alice");
    browser.call("busy", "603");
    let ended = browser.expect("ended");
    assert_eq!((&ended["sip"], &ended["q850"], &ended["by"]), (&486.into(), &17.into(), &"them".into()), "{ended}");

    browser.call("nobody", "699");
    let ended = browser.expect("ended");
    assert_eq!(ended["call"], "nobody", "{ended}");
    assert!(ended["text"].as_str().is_some_and(|t| !t.is_empty()), "{ended}");

    browser.call("unheard", "604");
    browser.expect("ringing");
    browser.send(&serde_json::json!({"type": "hangup", "call": "unheard"}));
    let ended = browser.expect("ended");
    assert_eq!((&ended["call"], &ended["by"]), (&"unheard".into(), &"us".into()), "{ended}");

    let records: Vec<_> = (0..3).map(|_| gateway.cdr()["call"].clone()).collect();
    assert_eq!(records.len(), 3, "{records:?}");
}

/// A request that never ends must not keep the gateway from ending.
#[test]
fn a_half_open_request_does_not_hold_up_the_end() {
    let mut gateway = Gateway::embedded();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\n").unwrap();
    let mut browser = Browser::of(&gateway, "alice"); // by now the request above has been accepted
    gateway.terminate();
    browser.closed();
    assert_eq!(gateway.wait().code(), Some(0));
}
