//! Call control from outside on the running program: the examples of docs/rest.md, the event stream, web hooks, tokens,
//! and the command line.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Browser, Gateway, PATIENCE, connection, http_request, output};
use crate::uas::Uas;

const GUIDE: &str = include_str!("../../docs/rest.md");
const CONTROL: &str = "0123456789abcdef0123456789abcdef";
const READ: &str = "fedcba9876543210fedcba9876543210";
const HOOK: &str = "a secret of 32 bytes for web hooks";

/// A gateway with call control, whose trunk answers everything.
struct Desk {
    dir: TempDir,
    file: PathBuf,
    gateway: Gateway,
    api: u16,
    _uas: Uas,
}

/// A port that is free at this moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Desk {
    fn open(ports: u16, more: &str) -> Desk {
        Desk::with(ports, |api| {
            format!(
                "[api]\nlisten = \"127.0.0.1:{api}\"\n\
                 [[api.token]]\nname = \"crm\"\ntoken_file = \"control-token\"\nscopes = [\"read\", \"control\"]\n\
                 [[api.token]]\nname = \"wallboard\"\ntoken_file = \"read-token\"\nscopes = [\"read\"]\n{more}"
            )
        })
    }

    /// `more`: what is configured, for call control at a port.
    fn with(ports: u16, more: impl FnOnce(u16) -> String) -> Desk {
        let (dir, uas, api) = (TempDir::new().unwrap(), Uas::udp(), free_port());
        fs::create_dir(dir.path().join("dialplans")).unwrap();
        fs::write(dir.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
        fs::write(dir.path().join("control-token"), CONTROL).unwrap();
        fs::write(dir.path().join("read-token"), READ).unwrap();
        fs::write(dir.path().join("crm-token"), CONTROL).unwrap();
        fs::write(dir.path().join("crm-hook-secret"), HOOK).unwrap();
        let config = format!(
            "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
             rtp_ports = \"{ports}-{}\"\n[auth]\nopen = true\n[control]\nsocket = \"control.sock\"\n\
             [trunk.testphone]\naddress = \"{}\"\noptions = 0\n{}",
            ports + 99,
            uas.address,
            more(api)
        );
        let file = dir.path().join("ringback.toml");
        fs::write(&file, config).unwrap();
        let gateway = Gateway::configured(&file);
        Desk { dir, file, gateway, api, _uas: uas }
    }

    /// One request; status, header fields in lower case, and JSON.
    fn ask(&self, method: &str, path: &str, token: Option<&str>, body: Option<&str>) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.api)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let body = body.unwrap_or_default();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn control(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let (status, _, json) = self.ask(method, path, Some(CONTROL), body.map(|body| body.to_string()).as_deref());
        (status, json)
    }

    /// Waits until a call is as wanted.
    fn until(&self, call: &str, state: &str) -> Value {
        let begun = Instant::now();
        loop {
            let (_, view) = self.control("GET", &format!("/v1/calls/{call}"), None);
            if view["state"] == state {
                return view;
            }
            assert!(begun.elapsed() < PATIENCE, "{call} is never {state}: {view}");
            std::thread::yield_now();
        }
    }

    fn events(&self, query: &str, after: Option<&str>) -> Events {
        let mut stream = TcpStream::connect(("127.0.0.1", self.api)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let after = after.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        write!(
            stream,
            "GET /v1/events{query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {READ}\r\n{after}\r\n"
        )
        .unwrap();
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        Events { lines }
    }
}

/// The limits against fraud as an operator sees them: by HTTP, on the command line, in `/status` and in the metrics.
#[test]
fn how_much_of_each_limit_is_used_is_seen_and_what_has_tripped() {
    let desk = Desk::open(25_800, "[limits.user]\ncalls = 1\n[limits.trunk.testphone]\nminutes_per_day = 600\n");
    let mut alice = Browser::of(&desk.gateway, "alice");
    alice.call("c1", "600");
    alice.expect("answered");
    alice.call("c2", "600");
    assert_eq!(alice.expect("ended")["cause"], "limit-reached");
    let (status, _, limits) = desk.ask("GET", "/v1/limits", Some(READ), None);
    // As the guide shows it.
    let shown: Value = serde_json::from_str(blocks("json").next().unwrap()).unwrap();
    assert_eq!((status, &limits), (200, &shown));
    let trunk = json!({"scope": "trunk", "name": "testphone", "limits": [{"limit": "minutes_per_day", "used": 0, "most": 600}]});
    let tripped = json!([{"scope": "user", "limit": "calls", "times": 1}]);
    // No user's name is in what monitors collect.
    let (_, _, status) = desk.ask("GET", "/v1/status", Some(READ), None);
    assert_eq!(status["limits"], json!({"accounts": [trunk], "tripped": tripped}));
    let socket = desk.dir.path().join("control.sock");
    let (code, table, err) = output(&["limits", "--socket", socket.to_str().unwrap()]);
    assert!(code == Some(0) && table.contains("alice") && table.contains("TRIPPED"), "{table}{err}");
    let (_, text, _) = output(&["limits", "--json", "--socket", socket.to_str().unwrap()]);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), limits);
    assert_eq!(desk.ask("GET", "/v1/limits", None, None).0, 401);
}

/// An open event stream.
struct Events {
    lines: BufReader<TcpStream>,
}

impl Events {
    /// The next event: its name, its id and what it says. Chunks are of whole lines, so their lengths are lines to pass over.
    fn next(&mut self) -> (String, String, Value) {
        let (mut name, mut id) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the stream has ended");
            match line.trim_end().split_once(": ") {
                Some(("event", said)) => name = said.to_owned(),
                Some(("id", said)) => id = said.to_owned(),
                Some(("data", said)) => return (name, id, serde_json::from_str(said).unwrap()),
                _ => {}
            }
        }
    }
}

/// A browser's answer to our offer; its transport never comes alive.
fn answer_to(offer: &str) -> String {
    let audio = offer.lines().find(|line| line.starts_with("m=audio")).expect("an audio line");
    let numbers: Vec<&str> = audio.split_ascii_whitespace().skip(3).collect();
    let kept = |line: &&str| ["a=rtpmap", "a=mid"].iter().any(|kind| line.starts_with(kind));
    let maps: String = offer.lines().filter(kept).map(|line| format!("{line}\r\n")).collect();
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF {}\r\n\
         c=IN IP4 0.0.0.0\r\na=ice-ufrag:9uB6\r\na=ice-pwd:YH75Fviy6338Vbrhrlp8Yh\r\na=fingerprint:sha-256 \
         75:74:5A:A6:A4:E5:52:F4:A7:67:4C:01:C7:EE:91:3F:21:3D:A2:E3:53:7B:6F:30:86:F2:30:FF:A6:22:D2:04\r\n\
         a=setup:active\r\na=sendrecv\r\na=rtcp-mux\r\n{maps}",
        numbers.join(" ")
    )
}

fn accept(browser: &mut Browser) -> Value {
    let incoming = browser.expect("incoming");
    let sdp = answer_to(incoming["sdp"].as_str().unwrap());
    browser.send(&json!({"type": "accept", "call": incoming["call"], "sdp": sdp}));
    browser.expect("answered");
    incoming
}

/// Whether `whole` has everything that `part` says.
fn has(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|found| has(found, value)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| has(whole, part))
        }
        (whole, part) => whole == part,
    }
}

fn blocks(kind: &str) -> impl Iterator<Item = &'static str> {
    let fence = format!("```{kind}\n");
    let found: Vec<&str> = GUIDE.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect();
    found.into_iter()
}

/// One exchange of the guide.
struct Exchange {
    method: String,
    path: String,
    body: Option<String>,
    status: u16,
    parts: Vec<Value>,
}

fn exchanges(block: &str) -> Vec<Exchange> {
    let mut found: Vec<Exchange> = Vec::new();
    for line in block.lines() {
        if let Some(said) = line.strip_prefix("> ") {
            match said.split_once(" /") {
                Some((method, path)) if !said.starts_with('{') => found.push(Exchange {
                    method: method.to_owned(),
                    path: format!("/{path}"),
                    body: None,
                    status: 0,
                    parts: Vec::new(),
                }),
                _ => found.last_mut().expect("a request").body = Some(said.to_owned()),
            }
        } else if let Some(said) = line.strip_prefix("< ") {
            let last = found.last_mut().expect("a request");
            match said.parse() {
                Ok(status) => last.status = status,
                Err(_) => last.parts.push(serde_json::from_str(said).expect("JSON")),
            }
        }
    }
    found
}

/// Every example of the guide, in order, and the events that it says they make.
#[test]
fn the_guides_examples_are_as_it_says() {
    let desk = Desk::open(23_200, "");
    let mut alice = Browser::of(&desk.gateway, "alice");
    let mut stream = desk.events("?events=call.*", None);
    let mut call = String::new();
    let mut count = 0;
    for exchange in blocks("rest").flat_map(exchanges) {
        let path = exchange.path.replace("CALL", &call);
        let ask = || desk.ask(&exchange.method, &path, Some(CONTROL), exchange.body.as_deref());
        let (begun, (mut status, mut head, mut json)) = (Instant::now(), ask());
        // A call that is ended may wait for its last statistics still.
        while json["state"] == "ending" && exchange.status == 404 && begun.elapsed() < PATIENCE {
            (status, head, json) = ask();
        }
        let what = format!("{} {path}: {json}", exchange.method);
        assert_eq!(status, exchange.status, "{what}");
        for part in &exchange.parts {
            assert!(has(&json, part), "{what}\nlacks {part}");
        }
        if status == 201 {
            call = json["call"].as_str().unwrap().to_owned();
            assert!(head.contains(&format!("location: /v1/calls/{call}")), "{head}");
            let incoming = accept(&mut alice);
            assert_eq!((&incoming["from"], &incoming["name"]), (&json!("600"), &json!("Call back: order 4711")));
            desk.until(&call, "answered");
        }
        count += 1;
    }
    assert!(count >= 12, "{count} examples were found");
    let mut wanted: VecDeque<Value> =
        blocks("sse").flat_map(str::lines).map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut seen = Vec::new();
    let mut last = String::new();
    while let Some(next) = wanted.front() {
        let (name, id, event) = stream.next();
        assert_eq!(event["event"], name.as_str());
        assert_eq!(event["id"], id.as_str());
        seen.push(event.to_string());
        if event["call"] == call.as_str() && !["call.audio", "call.no-audio"].contains(&name.as_str()) {
            assert!(has(&event, next), "{event}\nis not {next}");
            wanted.pop_front();
            last = id;
        }
    }
    // A stream that comes back misses nothing, and one of another gateway is told so.
    let first = serde_json::from_str::<Value>(&seen[0]).unwrap()["id"].as_str().unwrap().to_owned();
    let mut back = desk.events(&format!("?call={call}&events=call.held,call.ended"), Some(&first));
    assert_eq!([back.next().0, back.next().0, back.next().0], ["call.held", "call.held", "call.ended"]);
    assert_eq!(desk.events("", Some("1-1")).next().0, "gap");
    assert!(!last.is_empty());
}

#[test]
fn nothing_is_told_without_a_token_and_a_reader_changes_nothing() {
    let desk = Desk::open(23_300, "");
    for path in ["/v1/calls", "/v1/calls/0000000000000000", "/v1/status", "/v1/events"] {
        for token in [None, Some(""), Some("x"), Some(&CONTROL[1..])] {
            let (status, head, problem) = desk.ask("GET", path, token, None);
            assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")), "{path}");
            assert!(head.contains("www-authenticate: bearer") && head.contains("application/problem+json"), "{head}");
        }
    }
    assert_eq!(desk.ask("POST", "/v1/calls", None, Some("{}")).0, 401);
    let (status, _, problem) = desk.ask("POST", "/v1/calls", Some(READ), Some("{\"user\":\"alice\",\"to\":\"600\"}"));
    assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
    assert_eq!(desk.ask("DELETE", "/v1/calls/0000000000000000", Some(READ), None).0, 403);
    assert_eq!(desk.ask("GET", "/v1/calls", Some(READ), None).0, 200);
    let (status, _, how) = desk.ask("GET", "/v1/status", Some(READ), None);
    assert_eq!((status, &how["trunks"][0]["name"]), (200, &json!("testphone")));
    // Nor for those who come from elsewhere on the page's door, with or without a token (this machine: dashboard.rs).
    let mut public = TcpStream::connect(("127.0.0.1", desk.gateway.port())).unwrap();
    write!(
        public,
        "GET /v1/calls HTTP/1.1\r\nHost: gateway.example\r\nAuthorization: Bearer {CONTROL}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    public.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 404"), "{text}");
    // What is wrong in form.
    let long = "x".repeat(20_000);
    for (method, path, body, expected) in [
        ("POST", "/v1/calls", Some("not json"), 400),
        ("POST", "/v1/calls", Some(long.as_str()), 413),
        ("PUT", "/v1/calls", None, 405),
        ("GET", "/v1/nothing", None, 404),
        ("GET", "/v1/calls/xyz", None, 404),
        ("GET", "/v1/events?colour=red", None, 400),
        ("POST", "/v1/calls/0000000000000000/hold", Some("{\"on\":1}"), 400),
    ] {
        let (status, head, _) = desk.ask(method, path, Some(CONTROL), body);
        assert_eq!(status, expected, "{method} {path}");
        assert!(head.contains("application/problem+json"), "{method} {path}: {head}");
    }
    // Other tokens are taken by a reload.
    fs::write(desk.dir.path().join("read-token"), "another0another0another0another0").unwrap();
    let (code, _, err) = output(&["--config", desk.file.to_str().unwrap(), "reload"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(desk.ask("GET", "/v1/calls", Some(READ), None).0, 401);
    assert_eq!(desk.ask("GET", "/v1/calls", Some("another0another0another0another0"), None).0, 200);
}

/// Who reads along is held to his token for as long as he reads.
#[test]
fn an_event_stream_ends_when_its_token_is_taken_back() {
    let desk = Desk::open(24_300, "");
    let mut stream = desk.events("", None);
    fs::write(desk.dir.path().join("read-token"), "another0another0another0another0").unwrap();
    let (code, _, err) = output(&["--config", desk.file.to_str().unwrap(), "reload"]);
    assert_eq!(code, Some(0), "{err}");
    let mut rest = String::new();
    stream.lines.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("data:"), "{rest}");
}

#[test]
fn the_served_description_is_the_committed_one() {
    let desk = Desk::open(23_400, "");
    let (status, _, served) = desk.ask("GET", "/v1/openapi.json", None, None);
    let committed: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap();
    assert_eq!((status, &served), (200, &committed));
    let (_, printed, _) = output(&["openapi"]);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), committed);
    // The answers are as it says.
    let mut alice = Browser::of(&desk.gateway, "alice");
    let (_, made) = desk.control("POST", "/v1/calls", Some(json!({"user": "alice", "to": "600"})));
    accept(&mut alice);
    let view = desk.until(made["call"].as_str().unwrap(), "answered");
    let check = |name: &str, value: &Value| {
        let schema = json!({"$ref": format!("#/components/schemas/{name}"), "components": committed["components"]});
        let validator = jsonschema::validator_for(&schema).unwrap();
        let wrong: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?} in {value}");
    };
    check("CallView", &view);
    check("Calls", &desk.control("GET", "/v1/calls", None).1);
    check("Status", &desk.control("GET", "/v1/status", None).1);
    check("Problem", &desk.control("GET", "/v1/calls/x", None).1);
    desk.control("DELETE", &format!("/v1/calls/{}", view["call"].as_str().unwrap()), None);
    let mut stream = desk.events("", Some("0-0"));
    stream.next();
    loop {
        let (name, _, event) = stream.next();
        check("Event", &event);
        if name == "call.ended" {
            break;
        }
    }
}

/// Reads one POST from a listener and answers it; gives its header fields and its body.
fn delivery(listener: &TcpListener, status: &str) -> (String, String) {
    let mut stream = connection(listener);
    let (head, body) = http_request(&mut stream).expect("a whole request");
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
    (head, body)
}

/// What a delivery tells.
fn told((_, body): &(String, String)) -> Value {
    serde_json::from_str(body).unwrap()
}

/// What the guide's receiver, in Python, says to a delivery.
fn genuine(secret: &str, (head, body): &(String, String)) -> bool {
    let header = head.lines().find_map(|line| line.strip_prefix("ringback-signature: ")).expect("a signature");
    let receiver: String = blocks("python").collect();
    let asked = "import sys\nprint(genuine(sys.argv[1].encode(), sys.argv[2], sys.argv[3].encode()))";
    let script = format!("{receiver}\n{asked}");
    let said = Command::new("python3").args(["-c", &script, secret, header, body]).output().expect("Python");
    match String::from_utf8_lossy(&said.stdout).trim() {
        "True" => true,
        "False" => false,
        _ => panic!("{}", String::from_utf8_lossy(&said.stderr)),
    }
}

/// The guide's TOML, but for the addresses, and its receiver: what is configured so tells of a call, and can be trusted.
#[test]
fn the_guides_configuration_and_receiver_work_together() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = format!("http://{}/ringback", listener.local_addr().unwrap());
    let desk = Desk::with(24_900, |api| {
        let toml: String = blocks("toml").collect();
        assert!(toml.contains("127.0.0.1:8081") && toml.contains("https://crm.example/ringback"), "{toml}");
        toml.replace("127.0.0.1:8081", &format!("127.0.0.1:{api}")).replace("https://crm.example/ringback", &hook)
    });
    assert_eq!(desk.control("GET", "/v1/calls", None).0, 200);
    let mut bob = Browser::of(&desk.gateway, "bob");
    bob.call("c1", "600");
    bob.expect("answered");
    bob.send(&json!({"type": "hangup", "call": "c1"}));
    bob.expect("ended");
    let mut ended = delivery(&listener, "204 Taken");
    while told(&ended)["event"] != "call.ended" {
        assert!(genuine(HOOK, &ended), "{ended:?}");
        ended = delivery(&listener, "204 Taken");
    }
    assert!(genuine(HOOK, &ended), "{ended:?}");
    assert!(!genuine(CONTROL, &ended), "another secret");
    let (head, body) = ended;
    assert!(!genuine(HOOK, &(head.clone(), body.replace("bob", "eve"))), "another body");
    let seconds = head.split("t=").nth(1).unwrap().split(',').next().unwrap();
    assert!(!genuine(HOOK, &(head.replace(seconds, "1795253413"), body)), "another time");
    assert!(desk.dir.path().join("events").is_dir(), "the spool");
}

/// A receiver that is down, a gateway that is killed: what happened is told all the same, in order, after the next start.
#[test]
fn a_web_hook_gets_its_events_after_a_kill_and_a_restart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let more = format!(
        "[events]\nspool = \"events\"\n[[webhook]]\nurl = \"http://{address}/hook\"\nsecret = \"{CONTROL}\"\n\
         events = [\"call.started\", \"call.ended\"]\n"
    );
    let desk = Desk::open(23_500, &more);
    let mut bob = Browser::of(&desk.gateway, "bob");
    bob.call("c1", "600");
    bob.expect("answered");
    let first = delivery(&listener, "503 Not now");
    let started = told(&first);
    assert_eq!((&started["event"], &started["user"]), (&json!("call.started"), &json!("bob")));
    assert!(first.0.contains("ringback-event: call.started") && genuine(CONTROL, &first), "{first:?}");
    bob.send(&json!({"type": "hangup", "call": "c1"}));
    bob.expect("ended");
    let spool = desk.dir.path().join("events");
    let waiting = || {
        let folders = fs::read_dir(&spool).into_iter().flatten().flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap()).flatten();
        files.filter(|file| file.path().extension().is_some_and(|kind| kind == "json")).count()
    };
    let begun = Instant::now();
    while waiting() < 2 {
        assert!(begun.elapsed() < PATIENCE, "the end of the call is not noted");
        std::thread::yield_now();
    }
    let Desk { dir, file, gateway, .. } = desk;
    gateway.signal(nix::sys::signal::Signal::SIGKILL);
    drop(gateway);
    let _again = Gateway::configured(&file);
    let first = told(&delivery(&listener, "204 Taken"));
    let second = told(&delivery(&listener, "200 Taken"));
    assert_eq!((&first["id"], &second["event"]), (&started["id"], &json!("call.ended")));
    assert_eq!(second["cdr"]["cause"], "normal");
    drop(dir);
}

#[test]
fn the_command_line_sees_and_ends_calls() {
    let desk = Desk::open(23_600, "");
    let mut bob = Browser::of(&desk.gateway, "bob");
    bob.call("c1", "600");
    bob.expect("answered");
    let run = |arguments: &[&str]| {
        let all = [["--config", desk.file.to_str().unwrap()].as_slice(), arguments].concat();
        let (code, out, err) = output(&all);
        (code, out + &err)
    };
    let (code, out) = run(&["calls"]);
    assert_eq!(code, Some(0), "{out}");
    let line = out.lines().nth(1).expect("a call");
    assert!(line.contains("answered  bob   600"), "{out}");
    let id = line.split_whitespace().next().unwrap();
    let (_, out) = run(&["call", id]);
    assert!(out.contains("b          trunk testphone, 600, PCMU"), "{out}");
    let (_, json) = run(&["call", id, "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["user"], "bob");
    let (_, json) = run(&["calls", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["calls"][0]["call"], id);
    assert_eq!(run(&["hangup", id]), (Some(0), "the call is ended\n".to_owned()));
    assert_eq!(bob.expect("ended")["by"], "gateway");
    bob.call("c2", "600");
    let id = bob.expect("answer")["id"].clone();
    bob.expect("answered");
    let (code, json) = run(&["hangup", id.as_str().unwrap(), "--json"]);
    assert_eq!((code, &serde_json::from_str::<Value>(&json).unwrap()["call"]), (Some(0), &id), "{json}");
    assert_eq!(bob.expect("ended")["by"], "gateway");
    let (code, out) = run(&["hangup", "0000000000000000"]);
    assert_eq!((code, out.contains("there is no such call")), (Some(1), true), "{out}");
    let (code, out) = run(&["call", "x"]);
    assert_eq!((code, out.contains("16 hexadecimal digits")), (Some(1), true), "{out}");
}
