//! The end of calls and of the gateway: told to everyone, recorded once.

use std::fs;
use std::net::TcpListener;
use std::time::Instant;

use tempfile::TempDir;

use crate::support::{Browser, Gateway};
use crate::uas::Uas;

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

/// Events that a web hook has not taken by the end are counted in the log: those of the spool wait, the others are lost.
#[test]
fn what_waits_for_a_web_hook_is_counted_and_said() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cases =
        [("[events]\nspool = \"events\"\n", "wait in the spool for the next start"), ("", "were not sent are lost")];
    for (spool, said) in cases {
        let (dir, uas) = (TempDir::new().unwrap(), Uas::udp());
        fs::create_dir(dir.path().join("dialplans")).unwrap();
        fs::write(dir.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
        let config = format!(
            "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
             rtp_ports = \"25800-25899\"\n[auth]\nopen = true\n[trunk.testphone]\naddress = \"{}\"\noptions = 0\n\
             [[webhook]]\nurl = \"http://{nobody}/\"\nsecret = \"0123456789abcdef0123456789abcdef\"\n{spool}",
            uas.address
        );
        let file = dir.path().join("ringback.toml");
        fs::write(&file, config).unwrap();
        let mut gateway = Gateway::configured(&file);
        let mut alice = Browser::of(&gateway, "alice");
        alice.call("c1", "600");
        alice.expect("answered");
        gateway.terminate();
        assert!(gateway.wait().success());
        let log = gateway.whole_log();
        let line = log.lines().find(|line| line.contains(said)).unwrap_or_else(|| panic!("not said: {said}\n{log}"));
        let events = line.split("events=").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse::<u32>().ok());
        assert!(events.is_some_and(|events| events >= 3), "started, answered, ended: {line}");
    }
}
