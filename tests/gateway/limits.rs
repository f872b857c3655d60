//! Limits against fraud on a running gateway: what is refused, who is told, and that a kill forgets nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGKILL;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Browser, Gateway, PATIENCE, output};
use crate::uas::Uas;

const PLAN: &str = "[plan]\nname = \"out\"\ndefault = \"deny\"\ndefault_class = \"visitor\"\n[numbering]\ncountry = \"44\"\n[class.visitor]\nallow = [\"world\"]\n\
    [[out]]\nname = \"world\"\nprefix = \"+\"\ntiers = [[\"carrier\"]]\n";

/// A folder with a configuration of one trunk that answers everything.
fn folder(uas: &Uas, ports: u16, sections: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("dialplans")).unwrap();
    fs::write(dir.path().join("dialplans/plan.toml"), PLAN).unwrap();
    fs::write(dir.path().join("secret"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let config = format!(
        "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
         rtp_ports = \"{ports}-{}\"\n[auth]\nhs256_secret_file = \"secret\"\n[store]\npath = \"store.db\"\n\
         [trunk.carrier]\naddress = \"{}\"\noptions = 0\n{sections}",
        ports + 99,
        uas.address
    );
    let file = dir.path().join("ringback.toml");
    fs::write(&file, config).unwrap();
    (dir, file)
}

fn token(file: &Path, more: &[&str]) -> String {
    let (code, out, err) = output(&[["--config", file.to_str().unwrap(), "token", "alice"].as_slice(), more].concat());
    assert_eq!(code, Some(0), "{err}");
    out.trim().to_owned()
}

fn hello(gateway: &Gateway, token: &str) -> Browser {
    let mut browser = Browser::open(gateway);
    browser.send(&json!({"type": "hello", "token": token}));
    browser.expect("welcome");
    browser
}

/// How a call ends that is hung up as soon as it is answered: cause and status.
fn end_of(browser: &mut Browser, name: &str, to: &str) -> (Value, Value) {
    browser.call(name, to);
    loop {
        let message = browser.next().expect("the socket stays");
        match message["type"].as_str() {
            Some("answered") => browser.send(&json!({"type": "hangup", "call": name})),
            Some("ended") => return (message["cause"].clone(), message["sip"].clone()),
            _ => {}
        }
    }
}

/// Waits until all of this stands in the store, as the file system has it.
fn until_stored(dir: &TempDir, wanted: &[&str]) {
    let begun = Instant::now();
    let found = || {
        let files = ["store.db", "store.db-wal"].map(|name| fs::read(dir.path().join(name)).unwrap_or_default());
        wanted.iter().all(|text| files.iter().any(|file| file.windows(text.len()).any(|at| at == text.as_bytes())))
    };
    while !found() {
        assert!(begun.elapsed() < PATIENCE, "{wanted:?} is not stored");
        std::thread::yield_now();
    }
}

#[test]
fn countries_and_one_time_tokens_are_remembered_over_a_kill() {
    let uas = Uas::udp();
    let (dir, file) = folder(&uas, 24_200, "[limits.user]\nnew_countries_per_day = 1\n");
    let (plain, once) = (token(&file, &[]), token(&file, &["--once", "--destination", "+442079460000"]));
    let mut gateway = Gateway::configured(&file);
    let mut alice = hello(&gateway, &once);
    assert_eq!(end_of(&mut alice, "c1", "+442079460000"), (json!("normal"), Value::Null));
    assert_eq!(end_of(&mut alice, "c2", "+442079460000"), (json!("token-used"), json!(403)));
    let mut again = hello(&gateway, &plain);
    assert_eq!(end_of(&mut again, "c1", "+33123456789"), (json!("limit-reached"), json!(403)));
    let line = gateway.logged(|line| line.contains("a limit trips"));
    assert!(line.contains("new_countries_per_day") && line.contains("alice"), "{line}");
    until_stored(&dir, &["used:", "user:alice", "\"44\":{"]);
    // One gateway has the store.
    let (code, _, err) = output(&["--config", file.to_str().unwrap(), "run", "--listen", "127.0.0.1:0"]);
    assert!(code == Some(1) && err.contains("store.db") && err.contains("[store] path"), "{code:?} {err}");
    gateway.signal(SIGKILL);
    gateway.wait();

    let gateway = Gateway::configured(&file);
    let mut alice = hello(&gateway, &once);
    assert_eq!(end_of(&mut alice, "c1", "+442079460000"), (json!("token-used"), json!(403)));
    let mut again = hello(&gateway, &plain);
    assert_eq!(end_of(&mut again, "c1", "+33123456789"), (json!("limit-reached"), json!(403)));
    assert_eq!(end_of(&mut again, "c2", "+441632960000"), (json!("normal"), Value::Null));
    let cdrs: Vec<Value> = (0..3).map(|_| gateway.cdr()["cause"].clone()).collect();
    assert_eq!(cdrs, ["token-used", "limit-reached", "normal"]);
}

/// The whole gateway, a class, what calls from one address, and a token: each has had its call, and the alarm is told.
#[test]
fn a_second_call_goes_over_the_limit_of_each_account() {
    let uas = Uas::udp();
    for (n, (scope, section)) in [
        ("gateway", "[limits.gateway]\n"),
        ("class", "[limits.class.visitor]\n"),
        ("address", "[limits.class.visitor.address]\n"),
        ("token", "[limits.token]\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let section = format!("{section}calls = 1\n[control]\nsocket = \"control.sock\"\n");
        let (_dir, file) = folder(&uas, 28_200 + 100 * u16::try_from(n).unwrap(), &section);
        let token = token(&file, &["--class", "visitor"]);
        let gateway = Gateway::configured(&file);
        let (mut first, mut second) = (hello(&gateway, &token), hello(&gateway, &token));
        first.call("c1", "+442079460000");
        first.expect("answered");
        assert_eq!(end_of(&mut second, "c1", "+442079460001"), (json!("limit-reached"), json!(503)), "{scope}");
        let (code, out, err) = output(&["--config", file.to_str().unwrap(), "limits", "--json"]);
        assert_eq!(code, Some(0), "{err}");
        let told: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(told["tripped"], json!([{"scope": scope, "limit": "calls", "times": 1}]), "{told}");
        first.send(&json!({"type": "hangup", "call": "c1"}));
        first.expect("ended");
        assert_eq!(end_of(&mut second, "c2", "+442079460001"), (json!("normal"), Value::Null), "{scope}");
    }
}

/// The longest call: of a token, of its class' users, and of everybody.
#[test]
fn a_call_ends_that_has_lasted_as_long_as_it_may() {
    let uas = Uas::udp();
    for (n, (section, more)) in [
        ("", &["--max-duration", "1"][..]),
        ("[limits.class.visitor.user]\nlongest_call = 1\n", &["--class", "visitor"]),
        ("[limits.gateway]\nlongest_call = 1\n", &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let (_dir, file) = folder(&uas, 28_600 + 100 * u16::try_from(n).unwrap(), section);
        let gateway = Gateway::configured(&file);
        let mut alice = hello(&gateway, &token(&file, more));
        alice.call("c1", "+442079460000");
        alice.expect("answered");
        assert_eq!(alice.expect("ended")["cause"], "max-duration", "{section}{more:?}");
    }
}

/// The minutes of a day are those of all a user's calls together: twelve at once have used one up in five seconds. All of them
/// end then, no other is taken, and the next start knows.
#[test]
fn calls_end_when_the_minutes_of_the_day_are_used_up_and_a_kill_forgets_none() {
    let uas = Uas::udp();
    let (dir, file) = folder(&uas, 28_900, "[limits.user]\nminutes_per_day = 1\n");
    let alice = token(&file, &[]);
    let mut gateway = Gateway::configured(&file);
    let mut pages: Vec<Browser> = (0..3).map(|_| hello(&gateway, &alice)).collect();
    let names = ["c1", "c2", "c3", "c4"];
    let begun = Instant::now();
    for page in &mut pages {
        for name in names {
            page.call(name, "+442079460000");
        }
    }
    for page in &mut pages {
        for _ in names {
            let ended = page.expect("ended");
            assert_eq!((&ended["cause"], &ended["by"]), (&json!("limit-reached"), &json!("gateway")), "{ended}");
        }
    }
    assert!(begun.elapsed() >= Duration::from_secs(5), "sooner than the minute was talked");
    let line = gateway.logged(|line| line.contains("a limit trips"));
    assert!(line.contains("minutes_per_day") && line.contains("alice"), "{line}");
    for _ in 0..12 {
        let cdr = gateway.cdr();
        assert!(cdr["cause"] == "limit-reached" && cdr["answer"].is_u64(), "{cdr}");
    }
    assert_eq!(end_of(&mut pages[0], "c5", "+442079460000"), (json!("limit-reached"), json!(403)));
    until_stored(&dir, &["user:alice", "\"used_ms\":6"]);
    gateway.signal(SIGKILL);
    gateway.wait();
    let gateway = Gateway::configured(&file);
    assert_eq!(end_of(&mut hello(&gateway, &alice), "c1", "+442079460000"), (json!("limit-reached"), json!(403)));
}

#[test]
fn limits_of_a_class_or_trunk_that_is_none_are_refused_with_their_line() {
    let uas = Uas::udp();
    for (section, why) in [
        ("[limits.class.sales]\ncalls = 1\n", "sales"),
        ("[limits.trunk.elsewhere]\ncalls = 1\n", "elsewhere"),
        ("[limits.user]\ncalls_per_minute = 0\n", "1 to 10000"),
        ("[limits.user]\ncall = 1\n", "unknown field"),
    ] {
        let (_dir, file) = folder(&uas, 24_300, section);
        let (code, _, err) = output(&["--config", file.to_str().unwrap(), "check"]);
        assert!(code == Some(1) && err.contains(why) && err.contains("ringback.toml:"), "{section}: {code:?} {err}");
    }
}
