//! What an operator asks the running gateway by the command line: how the trunks stand, who is here, and the same for
//! programs, as JSON.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Browser, Gateway, PATIENCE, output};
use crate::uas::Uas;

/// A gateway with two trunks: one answers everything, nobody is at the other's address.
struct House {
    _dir: TempDir,
    file: PathBuf,
    gateway: Gateway,
    trunk: Uas,
    _silent: UdpSocket,
}

impl House {
    fn open(ports: u16) -> House {
        let (dir, trunk) = (TempDir::new().unwrap(), Uas::udp());
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        fs::create_dir(dir.path().join("dialplans")).unwrap();
        fs::write(dir.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
        let config = format!(
            "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
             rtp_ports = \"{ports}-{}\"\n[auth]\nopen = true\n[control]\nsocket = \"control.sock\"\n\
             [trunk.testphone]\naddress = \"{}\"\n[trunk.void]\naddress = \"{}\"\n",
            ports + 99,
            trunk.address,
            silent.local_addr().unwrap(),
        );
        let file = dir.path().join("ringback.toml");
        fs::write(&file, config).unwrap();
        let gateway = Gateway::configured(&file);
        House { _dir: dir, file, gateway, trunk, _silent: silent }
    }

    fn ask(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        ask(&self.file, arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (code, out, err) = self.ask(&[arguments, &["--json"]].concat());
        assert_eq!(code, Some(0), "{err}");
        serde_json::from_str(&out).unwrap()
    }

    /// Asks until the answer is as wanted.
    fn until(&self, arguments: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.json(arguments);
            if wanted(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "{answer}");
        }
    }
}

fn ask(file: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    output(&[&["--config", file.to_str().unwrap()], arguments].concat())
}

/// `ringback trunks`: who answers, how fast, since when not, and what went wrong.
#[test]
fn trunks_are_told_up_and_down() {
    let house = House::open(24_600);
    house.trunk.request("OPTIONS");
    let answer = house.until(&["trunks"], |answer| {
        answer["trunks"][0]["targets"][0]["rtt_ms"].is_u64() && answer["trunks"][1]["up"] == false
    });
    let (good, gone) = (&answer["trunks"][0], &answer["trunks"][1]);
    assert_eq!((&good["name"], &good["up"], &good["calls"]), (&"testphone".into(), &true.into(), &0.into()));
    assert_eq!(gone["last_failure"]["what"], "options", "{gone}");
    assert!(gone["for_seconds"].is_u64(), "{gone}");
    let (code, out, _) = house.ask(&["trunks"]);
    assert_eq!(code, Some(0));
    let line = |name: &str| out.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("testphone").contains(" up ") && line("testphone").contains(" ms"), "{out}");
    assert!(line("void").contains(" down ") && line("void").contains("no answer to OPTIONS"), "{out}");
}

/// `ringback users`: by which door, from where, with how many calls.
#[test]
fn users_are_told_with_their_doors_and_calls() {
    let house = House::open(24_700);
    assert_eq!(house.json(&["users"])["users"], Value::Array(Vec::new()));
    let _bob = Browser::of(&house.gateway, "bob");
    let mut alice = Browser::of(&house.gateway, "alice");
    alice.call("c1", "600");
    alice.expect("answer");
    let answer = house.until(&["users"], |answer| answer["users"][0]["calls"] == 1);
    let alices = &answer["users"][0];
    assert_eq!(alices["user"], "alice");
    assert_eq!(alices["sessions"][0]["door"], "browser");
    assert_eq!((&alices["sessions"][0]["connected"], &alices["sessions"][0]["calls"]), (&true.into(), &1.into()));
    assert!(alices["sessions"][0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{alices}");
    assert_eq!((&answer["users"][1]["user"], &answer["users"][1]["calls"]), (&"bob".into(), &0.into()));
    assert_eq!(house.json(&["users", "bob"])["users"].as_array().unwrap().len(), 1);
    let (_, out, _) = house.ask(&["users"]);
    assert!(out.lines().any(|line| line.starts_with("alice  browser  127.0.0.1:")), "{out}");
}

/// What has gone well and what has not is also told to programs; the exit code is the same.
#[test]
fn commands_answer_in_json() {
    let house = House::open(24_800);
    let checked = house.json(&["check"]);
    assert_eq!((&checked["good"], &checked["trunks"][0]["name"]), (&true.into(), &"testphone".into()));
    assert_eq!(house.json(&["reload"])["reloaded"], true);
    let good = fs::read_to_string(&house.file).unwrap();
    fs::write(&house.file, good.replace("open = true", "open = 7")).unwrap();
    for command in ["check", "reload"] {
        let (code, out, err) = house.ask(&[command, "--json"]);
        let answer: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(code, Some(1), "{command}");
        assert!(answer["error"].as_str().unwrap().contains("ringback.toml:"), "{command}: {answer}");
        assert!(err.contains("ringback.toml:"), "{command}: {err}");
    }
    let (code, out, err) = house.ask(&["call", "nonsense", "--json"]);
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()["error"].is_string()), (Some(1), true));
    assert!(err.contains("16 hexadecimal"), "{err}");
    // The trace of a call that is none is no empty capture, and is not waited for.
    let capture = house.file.with_extension("pcap");
    for how in [&["--follow"][..], &["--follow", "--json"], &["--pcap", capture.to_str().unwrap()]] {
        let (code, _, err) = house.ask(&[&["trace", "0123456789abcdef"], how].concat());
        assert!(code == Some(1) && err.starts_with("ringback: "), "{how:?} {err}");
    }
    assert!(!capture.exists());
    assert_eq!(house.json(&["drain"])["draining"], true);
}

#[test]
fn programs_are_told_that_no_gateway_answers() {
    let dir = TempDir::new().unwrap();
    let (nowhere, broken) = (dir.path().join("nowhere.sock"), dir.path().join("broken.toml"));
    let socket = ["--socket", nowhere.to_str().unwrap()];
    let commands: [&[&str]; 11] = [
        &["reload"],
        &["drain"],
        &["trunks"],
        &["users"],
        &["limits"],
        &["calls"],
        &["dashboard"],
        &["call", "0123456789abcdef"],
        &["hangup", "0123456789abcdef"],
        &["trace", "0123456789abcdef"],
        &["trunk", "test", "carrier", "600"],
    ];
    for command in commands {
        let (code, out, err) = output(&[command, &["--json"], &socket].concat());
        let answer: Value =
            serde_json::from_str(&out).unwrap_or_else(|error| panic!("{command:?} {error} {out} {err}"));
        assert_eq!(code, Some(1), "{command:?}");
        assert!(answer["error"].as_str().unwrap().starts_with("no gateway answers at "), "{command:?} {answer}");
        assert!(err.contains("no gateway answers at "), "{command:?} {err}");
        let (code, out, _) = output(&[command, &socket].concat());
        assert_eq!((code, out.as_str()), (Some(1), ""), "{command:?}");
    }
    fs::write(&broken, "[http\n").unwrap();
    for command in [&["token", "alice", "--json"][..], &["route", "alice", "600", "--json"]] {
        let (code, out, _) = ask(&broken, command);
        let answer: Value = serde_json::from_str(&out).unwrap();
        assert!(code == Some(1) && answer["error"].as_str().unwrap().contains("broken.toml:1"), "{answer}");
    }
}

/// A token for programs: whose it is, and until when.
#[test]
fn a_token_is_told_in_json() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("dialplans")).unwrap();
    fs::write(dir.path().join("dialplans/plan.toml"), "[[out]]\nname = 'all'\nnumber = '*'\nuser = 'bob'\n").unwrap();
    let file = dir.path().join("ringback.toml");
    fs::write(&file, format!("[auth]\nhs256_secret = \"{}\"\n", "s".repeat(32))).unwrap();
    let (code, out, err) = ask(&file, &["token", "alice", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&answer["user"], answer["token"].as_str().unwrap().split('.').count()), (&"alice".into(), 3));
    assert!(answer["expires"].is_u64(), "{answer}");
}
