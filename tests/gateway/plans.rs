//! Dial plans on the running program: what `check` and `route` say of them, and a web hook that is really asked.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{Browser, Gateway, PATIENCE, output, refuse_datagram};

/// A folder with a configuration of these trunks, each at its address, and the plans of the repository that are named.
fn folder(trunks: &[(&str, &str)], plans: &[&str]) -> (TempDir, String) {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("dialplans")).unwrap();
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("dialplans");
    for plan in plans {
        fs::copy(ours.join(plan), dir.path().join("dialplans").join(plan)).unwrap();
    }
    let mut config =
        "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nbrowser = \"127.0.0.1:0\"\n[auth]\nopen = true\n".to_owned();
    for (name, address) in trunks {
        config += &format!("[trunk.{name}]\naddress = \"{address}\"\n");
    }
    let file = dir.path().join("ringback.toml");
    fs::write(&file, config).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (dir, file)
}

/// The worked examples load with their tables, and `route` says at any time what they do.
#[test]
fn the_worked_examples_are_explained() {
    let all = ["carrier-west", "carrier-east", "carrier-spare", "pbx"].map(|name| (name, "127.0.0.1:5070"));
    let (_dir, file) = folder(&all, &["us-callcentre.toml", "canada.csv", "rates.csv"]);
    let (code, out, err) = output(&["--config", &file, "check"]);
    assert_eq!(code, Some(0), "{err}");
    for told in ["9 [[out]] rules, 3 [[in]] rules, 1 schedules, ", "canada.csv: 55 prefixes", "rates.csv: 8 prefixes"] {
        assert!(out.contains(told), "{told}: {out}");
    }
    let route = |arguments: &[&str]| {
        let all: Vec<&str> = ["--config", &file, "route"].into_iter().chain(arguments.iter().copied()).collect();
        let (code, out, err) = output(&all);
        (code, out + &err)
    };
    let (code, out) = route(&["sup1", "011 33 1 70 18 99 00", "--class", "supervisor", "--at", "2026-11-20 10:00"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("schedule \"floor\" is open at Fri 2026-11-20 10:00 America/Los_Angeles"), "{out}");
    assert!(out.contains("tier 1: carrier-west at 0.01 (rates.csv)"), "{out}");
    let (code, out) = route(&["sup1", "011 33 1 70 18 99 00", "--class", "supervisor", "--at", "2026-11-22 10:00"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("rule \"world\" does not hold now: schedule \"floor\" is closed"), "{out}");
    let (_, out) = route(&["+14085550123", "+14155550101", "--trunk", "carrier-west", "--at", "2026-11-20 10:00"]);
    assert!(out.contains("rings agent1, agent2, agent3 in turn for 15 s each"), "{out}");
    assert!(out.contains("nobody takes it: ring supervisor1, supervisor2 for 20 s"), "{out}");
    let (_, out) = route(&["agent1", "911", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["decision"]["emergency"], true);
    let (code, out) = route(&["sup1", "+44", "--at", "noon"]);
    assert_eq!((code, out.contains("--at: \"noon\" is no time")), (Some(1), true), "{out}");
}

/// Each worked example has its limits against fraud beside it: taken by `check` together with the plan, whose classes they
/// name, and not with another.
#[test]
fn the_worked_examples_have_limits() {
    let trunks = ["carrier-a", "carrier-b", "carrier-west", "carrier-east", "carrier-spare", "pbx", "testphone"];
    let trunks = trunks.map(|name| (name, "127.0.0.1:5070"));
    let (_demo, other) = folder(&trunks, &["demo.toml"]);
    for plan in ["uk-office", "us-callcentre", "click-to-call"] {
        let (_dir, file) = folder(&trunks, &[&format!("{plan}.toml"), "canada.csv", "rates.csv"]);
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("dialplans/limits").join(plan).with_extension("toml");
        let limits = fs::read_to_string(ours).unwrap();
        let with = |file: &str| {
            let before = fs::read_to_string(file).unwrap();
            fs::write(file, format!("{before}{limits}")).unwrap();
            let said = output(&["--config", file, "check"]);
            fs::write(file, before).unwrap();
            said
        };
        let (code, _, err) = with(&file);
        assert_eq!(code, Some(0), "{plan}: {err}");
        let (code, _, err) = with(&other);
        assert_eq!((code, err.contains("the classes of the dial plan")), (Some(1), true), "{plan}: {err}");
    }
}

#[test]
fn a_mistake_in_a_table_is_told_with_its_line() {
    let all = ["carrier-west", "carrier-east", "carrier-spare", "pbx"].map(|name| (name, "127.0.0.1:5070"));
    let (dir, file) = folder(&all, &["us-callcentre.toml", "canada.csv", "rates.csv"]);
    fs::write(dir.path().join("dialplans/rates.csv"), "prefix,trunk,price\n+44,carrier-north,1\n").unwrap();
    let (code, _, err) = output(&["--config", &file, "check"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("dialplans/rates.csv:2: there is no trunk `carrier-north`"), "{err}");
    fs::remove_file(dir.path().join("dialplans/rates.csv")).unwrap();
    let (_, _, err) = output(&["--config", &file, "check"]);
    assert!(err.contains("us-callcentre.toml:") && err.contains("\"rates.csv\" cannot be read"), "{err}");
}

/// Answers one POST over HTTP; gives the request.
fn answer_one(hook: &TcpListener, answer: &str) -> String {
    let (mut stream, _) = hook.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut request, mut buffer) = (String::new(), [0; 2048]);
    while !request.ends_with("}}") {
        let many = stream.read(&mut buffer).unwrap();
        assert_ne!(many, 0, "{request}");
        request += &String::from_utf8_lossy(&buffer[..many]);
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", answer.len());
    stream.write_all((head + answer).as_bytes()).unwrap();
    request
}

/// A real HTTP server says where the call goes; one that says nothing costs the call no more than its time.
#[test]
fn a_web_hook_is_asked_over_http() {
    let hook = TcpListener::bind("127.0.0.1:0").unwrap();
    let trunk = UdpSocket::bind("127.0.0.1:0").unwrap();
    trunk.set_read_timeout(Some(PATIENCE)).unwrap();
    let (dir, file) = folder(&[("pbx", &trunk.local_addr().unwrap().to_string())], &[]);
    let plan = format!(
        "[[out]]\nname = 'asked'\nnumber = '600'\ntiers = [['pbx']]\n\
         ask = {{ url = 'http://{}/route?x=1', within = '5s', reject = {{ code = 480 }} }}\n\
         [[out]]\nname = 'silent'\nnumber = '601'\ntiers = [['pbx']]\n\
         ask = {{ url = 'http://{}/silent', within = '400ms', reject = {{ code = 480 }} }}\n",
        hook.local_addr().unwrap(),
        hook.local_addr().unwrap(),
    );
    fs::write(dir.path().join("dialplans/plan.toml"), plan).unwrap();
    let gateway = Gateway::configured(Path::new(&file));
    let mut browser = Browser::of(&gateway, "alice");

    browser.call("c1", "600");
    let request = answer_one(&hook, r#"{"action": "dial", "to": "777"}"#);
    assert!(request.starts_with("POST /route?x=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\"caller\":\"alice\"") && request.contains("\"number\":\"600\""), "{request}");
    assert!(refuse_datagram(&trunk).starts_with("INVITE sip:777@"));
    assert_eq!(browser.expect("ended")["sip"], 486);

    browser.call("c2", "600");
    answer_one(&hook, r#"{"action": "refuse", "code": 603, "reason": "Not today"}"#);
    assert_eq!(browser.expect("ended")["sip"], 603);

    let begun = Instant::now();
    browser.call("c3", "601");
    assert_eq!(browser.expect("ended")["sip"], 480, "nobody answers: it fails closed");
    assert!(begun.elapsed() >= Duration::from_millis(400) && begun.elapsed() < PATIENCE);
}
