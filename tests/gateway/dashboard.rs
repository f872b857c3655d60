//! The operator's page and what lies behind it on the running program: who gets it, at which door, and what it is told.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Browser, Gateway, PATIENCE, output};
use crate::uas::Uas;

const DESK: &str = "desk-0123456789abcdef0123456789ab";
const CRM: &str = "crm-0123456789abcdef0123456789abc";
const PLAN: &str = "[plan]\nname = \"out\"\ndefault = \"deny\"\n[numbering]\ncountry = \"44\"\n\
    [[out]]\nname = \"world\"\nprefix = \"+44\"\ntiers = [[\"carrier\"]]\n";

struct Scene {
    dir: TempDir,
    file: PathBuf,
    gateway: Gateway,
    api: u16,
    _uas: Uas,
}

impl Scene {
    fn new(ports: u16, auth: &str) -> Scene {
        let (dir, uas) = (TempDir::new().unwrap(), Uas::udp());
        let api = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::create_dir(dir.path().join("dialplans")).unwrap();
        fs::write(dir.path().join("dialplans/plan.toml"), PLAN).unwrap();
        fs::write(dir.path().join("desk"), DESK).unwrap();
        fs::write(dir.path().join("crm"), CRM).unwrap();
        let config = format!(
            "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
             rtp_ports = \"{ports}-{}\"\n[auth]\n{auth}\n[control]\nsocket = \"control.sock\"\n\
             [trunk.carrier]\naddress = \"{}\"\noptions = 0\n[api]\nlisten = \"127.0.0.1:{api}\"\n\
             [[api.token]]\nname = \"desk\"\ntoken_file = \"desk\"\nscopes = [\"read\", \"trace\"]\n\
             [[api.token]]\nname = \"crm\"\ntoken_file = \"crm\"\nscopes = [\"read\", \"control\"]\n",
            ports + 99,
            uas.address
        );
        let file = dir.path().join("ringback.toml");
        fs::write(&file, config).unwrap();
        Scene { gateway: Gateway::configured(&file), dir, file, api, _uas: uas }
    }

    fn ringback(&self, arguments: &[&str]) -> String {
        let (code, out, err) = output(&[["--config", self.file.to_str().unwrap()].as_slice(), arguments].concat());
        assert_eq!(code, Some(0), "{err}");
        out.trim().to_owned()
    }

    /// At the page's door, as somebody on this machine.
    fn here(&self, method: &str, path: &str, token: Option<&str>) -> (u16, Value) {
        let (status, _, text) = ask(self.gateway.port(), method, path, token, "Host: localhost\r\n");
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    /// At call control's.
    fn there(&self, path: &str, token: Option<&str>) -> (u16, Value) {
        let (status, _, text) = ask(self.api, "GET", path, token, "Host: gateway.example\r\n");
        (status, serde_json::from_str(&text).unwrap_or_default())
    }
}

/// One request: status, header fields in lower case, and text.
fn ask(port: u16, method: &str, path: &str, token: Option<&str>, fields: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "{method} {path} HTTP/1.1\r\n{fields}{token}Connection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
}

/// A call that is answered; its id.
fn answered(browser: &mut Browser, name: &str) -> String {
    browser.call(name, "+442079460958");
    let id = browser.expect("answer")["id"].as_str().expect("an id").to_owned();
    browser.expect("answered");
    id
}

/// Waits until something is there.
fn until(what: &str, found: impl Fn() -> Option<Value>) -> Value {
    let begun = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// Where sessions need no token, this machine needs none for the page; nobody else sees that there is one.
#[test]
fn an_open_gateway_shows_its_page_to_this_machine_alone() {
    let scene = Scene::new(29_100, "open = true");
    let port = scene.gateway.port();
    let fields = |more: &str| format!("Host: localhost\r\n{more}");
    for (fields, page, data) in [
        (fields(""), 200, 200),
        ("Host: gateway.example\r\n".to_owned(), 404, 404),
        (fields("X-Forwarded-For: 192.0.2.7\r\n"), 404, 404),
        (fields("Via: 1.1 proxy\r\n"), 404, 404),
        // The page of somebody else in this machine's browser: the browser would not let it read the answer either.
        (fields("Origin: https://evil.example\r\n"), 200, 401),
    ] {
        let status = |path: &str| ask(port, "GET", path, None, &fields).0;
        for path in ["/dashboard/", "/dashboard/dashboard.js", "/dashboard/dashboard.css", "/dashboard/palette.css"] {
            assert_eq!(status(path), page, "{path} {fields}");
        }
        for path in ["/v1/status", "/v1/calls", "/v1/ended"] {
            assert_eq!(status(path), data, "{path} {fields}");
        }
    }
    let (status, _) = scene.here("POST", "/v1/calls", None);
    assert_eq!(status, 405, "calls are asked for at call control's door alone");
    let foreign = fields("Origin: https://evil.example\r\n");
    assert_eq!(ask(port, "DELETE", "/v1/calls/0000000000000000", None, &foreign).0, 401, "nobody else hangs up");
    let (status, head, _) = ask(port, "GET", "/dashboard", None, &fields(""));
    assert!(status == 308 && head.contains("location: /dashboard/"), "{head}");
    let (_, head, page) = ask(port, "GET", "/dashboard/", None, &fields(""));
    assert!(head.contains("frame-ancestors 'none'") && !head.contains("unsafe-inline"), "{head}");
    assert!(!page.contains("style=") && !page.contains("<script>"), "nothing that the policy forbids");
    // What a token may not is not had without one by showing it.
    assert_eq!(scene.here("GET", "/v1/calls", Some("wrong-0123456789abcdef0123456789ab")).0, 401);
    // The softphone's own files have none of it.
    assert_eq!(ask(port, "GET", "/dashboard/../dashboard/index.html", None, "Host: gateway.example\r\n").0, 404);
    // Nor does a token of this machine's page open call control's door.
    assert_eq!(scene.there("/v1/calls", None).0, 401);
}

/// Where sessions need a token, the page needs a token or a key; a key comes from the control socket.
#[test]
fn a_key_from_the_control_socket_opens_the_page_on_this_machine() {
    let scene = Scene::new(29_300, "hs256_secret = \"0123456789abcdef0123456789abcdef\"");
    assert_eq!(scene.here("GET", "/v1/status", None).0, 401);
    let url = scene.ringback(&["dashboard"]);
    let (place, key) = url.split_once("/dashboard/#key=").expect("an address with a key");
    assert_eq!(place, format!("http://127.0.0.1:{}", scene.gateway.port()));
    assert_eq!(scene.here("GET", "/v1/status", Some(key)).0, 200);
    assert_eq!(scene.here("GET", "/v1/status", Some(DESK)).0, 200, "a token does as well");
    assert_eq!(scene.there("/v1/status", Some(key)).0, 401, "a key is for this machine");
    let (status, ..) = ask(scene.gateway.port(), "GET", "/v1/status", Some(key), "Host: gateway.example\r\n");
    assert_eq!(status, 404, "and for nobody who comes from elsewhere");

    let token = scene.ringback(&["token", "alice"]);
    let mut alice = Browser::open(&scene.gateway);
    alice.send(&json!({"type": "hello", "token": token}));
    alice.expect("welcome");
    let call = answered(&mut alice, "c1");
    let (status, trace) = scene.here("GET", &format!("/v1/calls/{call}/trace"), Some(key));
    assert!(status == 200 && trace.to_string().contains("INVITE sip:+442079460958@"), "{trace}");
    assert!(!trace.to_string().contains(&token), "the token is not shown");
    assert_eq!(scene.here("DELETE", &format!("/v1/calls/{call}"), Some(DESK)).0, 403, "this one may only read");
    assert_eq!(scene.here("DELETE", &format!("/v1/calls/{call}"), Some(key)).0, 204);
    assert_eq!(alice.expect("ended")["by"], "gateway");
    let line = scene.gateway.logged(|line| line.contains("call control"));
    assert!(line.contains("dashboard") && !line.contains(key), "{line}");
    drop(scene.dir);
}

/// What is behind the page: the trace for those who may see it, how a call sounded, its record, and why calls end.
#[test]
fn what_was_said_is_told_to_those_who_may_see_it_and_ends_are_counted_by_cause() {
    let scene = Scene::new(29_500, "open = true");
    let page = ask(scene.api, "GET", "/dashboard/", None, "Host: gateway.example\r\n");
    assert_eq!(page.0, 200, "the files are no secret: {}", page.1);
    let mut alice = Browser::of(&scene.gateway, "alice");
    let call = answered(&mut alice, "c1");
    let of = |what: &str| format!("/v1/calls/{call}/{what}");

    let (status, problem) = scene.there(&of("trace"), Some(CRM));
    assert_eq!((status, &problem["code"]), (403, &json!("forbidden")), "{problem}");
    assert_eq!(scene.there(&of("trace"), None).0, 401);
    let (_, trace) = scene.there(&of("trace"), Some(DESK));
    let shown: Value = serde_json::from_str(&scene.ringback(&["trace", &call, "--json"])).unwrap();
    assert_eq!(trace["messages"][0], shown["messages"][0], "as `ringback trace` has it");
    let last = trace["messages"].as_array().unwrap().last().unwrap()["n"].as_u64().unwrap();
    let since = scene.there(&format!("{}?since={}", of("trace"), last + 1), Some(DESK)).1;
    assert!(since["messages"].as_array().unwrap().iter().all(|message| message["n"].as_u64().unwrap() > last));
    assert_eq!(scene.there(&format!("{}?since=x", of("trace")), Some(DESK)).0, 400);

    let (status, quality) = scene.there(&of("quality"), Some(CRM));
    assert_eq!((status, &quality["step"]), (200, &json!(1)), "{quality}");
    assert_eq!(scene.there(&of("record"), Some(CRM)).0, 404, "it is not over");
    alice.send(&json!({"type": "hangup", "call": "c1"}));
    alice.expect("ended");
    let record =
        until("a record", || Some(scene.there(&of("record"), Some(CRM))).filter(|it| it.0 == 200).map(|it| it.1));
    assert_eq!((&record["call"], &record["cause"]), (&json!(call), &json!("normal")));
    assert_eq!(scene.gateway.cdr(), record, "the same that goes to [cdr]");

    // A number that the plan does not allow: a failed call, under its cause.
    alice.call("c2", "+33123456789");
    let refused = alice.expect("ended")["cause"].as_str().unwrap().to_owned();
    let ended = until("the refused call", || {
        let (_, ended) = scene.there("/v1/ended", Some(DESK));
        (ended["calls"] == 2).then_some(ended)
    });
    assert_eq!(ended["answered"], 1, "{ended}");
    let causes = ended["causes"].as_array().unwrap();
    let row = |word: &str| causes.iter().find(|row| row["cause"] == word).unwrap_or_else(|| panic!("{word}: {ended}"));
    assert_eq!((&row("normal")["calls"], &row("normal")["failed"]), (&json!(1), &json!(false)));
    assert_eq!((&row(&refused)["calls"], &row(&refused)["failed"]), (&json!(1), &json!(true)));
    assert_eq!(ended["ended"][0]["dialled"], "+33123456789", "the latest first: {ended}");
    assert_eq!(ended["ended"][1]["trunk"], "carrier");

    for path in ["/v1/calls/0000000000000000/trace", "/v1/calls/0000000000000000/quality", "/v1/calls/x/record"] {
        assert_eq!(scene.there(path, Some(DESK)).0, 404, "{path}");
    }
    let committed: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap();
    for (name, value) in [("Trace", &trace), ("QualityHistory", &quality), ("Cdr", &record), ("Ends", &ended)] {
        let schema = json!({"$ref": format!("#/components/schemas/{name}"), "components": committed["components"]});
        let wrong: Vec<String> =
            jsonschema::validator_for(&schema).unwrap().iter_errors(value).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?} in {value}");
    }
}
