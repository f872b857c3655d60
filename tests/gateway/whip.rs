//! WHIP (RFC 9725): what each request to its door comes to, on the wire. Sound is for the suites with media.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Browser, Gateway, OFFER, PATIENCE, output};

/// The example of RFC 9725 section 4.3.2, for the ICE session of [`OFFER`].
const TRICKLE: &str = "a=ice-ufrag:4ZcD\r\na=ice-pwd:2/1muCWoOi3uLifh0NuRHlIz\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
    a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag 4ZcD network-id 1\r\n\
    a=end-of-candidates\r\n";

/// A response.
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    /// The values of a header field.
    fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub fn header(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// One request on a connection of its own.
pub fn request(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port())).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n", gateway.port());
    write!(stream, "{head}{headers}Content-Length: {}\r\n\r\n{body}", body.len()).expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a response");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

const SDP: (&str, &str) = ("Content-Type", "application/sdp");
const FRAGMENT: (&str, &str) = ("Content-Type", "application/trickle-ice-sdpfrag");

fn call(gateway: &Gateway, query: &str) -> Answer {
    request(gateway, "POST", &format!("/whip/call?{query}"), &[SDP], OFFER)
}

/// A call that stands: where it is, and its entity-tag.
fn standing(gateway: &Gateway, query: &str) -> (String, String) {
    let made = call(gateway, query);
    assert_eq!(made.status, 201, "{}", made.body);
    (made.header("location").to_owned(), made.header("etag").to_owned())
}

/// RFC 9725 section 4.2: 201, the answer, Location; section 4.3.1: a strong ETag.
#[test]
fn a_post_is_a_call_and_a_delete_hangs_up() {
    let gateway = Gateway::embedded();
    let made = call(&gateway, "to=600&user=alice");
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.header("content-type"), "application/sdp");
    assert!(made.body.starts_with("v=0\r\n") && made.body.contains("a=ice-lite") && made.body.contains("a=candidate:"));
    let (location, etag) = (made.header("location"), made.header("etag"));
    assert!(location.starts_with("/whip/session/") && location.len() == "/whip/session/".len() + 32, "{location}");
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2, "{etag}");
    assert_eq!(made.all("link"), [format!("<{location}/state>; rel=\"urn:ringback:call-state\"")]);

    let state = request(&gateway, "GET", &format!("{location}/state?after=calling"), &[], "").json();
    assert!(state["state"] == "ringing" || state["state"] == "answered", "{state}");
    let state = request(&gateway, "GET", &format!("{location}/state?after=ringing"), &[], "").json();
    assert_eq!(state["state"], "answered");
    let id = state["id"].as_str().unwrap().to_owned();
    // RFC 9725 section 4.3: an If-Match says nothing here.
    assert_eq!(request(&gateway, "DELETE", location, &[("If-Match", "\"past\"")], "").status, 200);
    let cdr = gateway.cdr();
    assert_eq!((&cdr["call"], &cdr["by"]), (&Value::from(id), &Value::from("browser")), "{cdr}");
    for (method, path) in [("DELETE", location.to_owned()), ("GET", format!("{location}/state"))] {
        let gone = request(&gateway, method, &path, &[], "");
        assert_eq!((gone.status, gone.header("content-type")), (410, "application/problem+json"));
        assert_eq!((gone.json()["cause"].as_str(), gone.json()["by"].as_str()), (Some("normal"), Some("us")));
    }
    let other = format!("/whip/session/{}", "0".repeat(32));
    assert_eq!(request(&gateway, "DELETE", &other, &[], "").status, 404);
}

#[test]
fn the_resource_ends_with_the_call() {
    let gateway = Gateway::embedded();
    let made = call(&gateway, "to=603&user=alice");
    // The answer does not wait for the phone, which is busy.
    assert_eq!(made.status, 201, "{}", made.body);
    let location = made.header("location");
    let mut state = request(&gateway, "GET", &format!("{location}/state?after=calling"), &[], "");
    if state.status == 200 {
        state = request(&gateway, "GET", &format!("{location}/state?after=ringing"), &[], "");
    }
    assert_eq!((state.status, state.json()["cause"].as_str()), (410, Some("busy")), "{}", state.body);
    assert_eq!(state.json()["sip"], 486);
    let patched = request(&gateway, "PATCH", location, &[FRAGMENT, ("If-Match", made.header("etag"))], TRICKLE);
    assert_eq!(patched.status, 410);
}

/// RFC 9725 sections 4.2, 4.4 and 4.5; RFC 9457.
#[test]
fn each_refusal_says_what_is_wrong() {
    let gateway = Gateway::embedded();
    let post = |path: &str, kind: &str, body: &str| request(&gateway, "POST", path, &[("Content-Type", kind)], body);
    let sdp = "application/sdp";
    let two =
        format!("{OFFER}m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\n");
    let table = [
        (400, "/whip/call", sdp, OFFER.to_owned()),
        (400, "/whip/call?to=", sdp, OFFER.to_owned()),
        (400, "/whip/call?to=600%0d%0aX:%20y", sdp, OFFER.to_owned()),
        (400, "/whip/call?to=600&user=a%20b", sdp, OFFER.to_owned()),
        (400, "/whip/call?to=600", sdp, "{}".to_owned()),
        (400, "/whip/call?to=600", sdp, String::new()),
        (406, "/whip/call?to=600", sdp, two),
        (406, "/whip/call?to=600", sdp, OFFER.replace("SAVPF 111 63 9 0 8 13 110 126", "SAVPF 13")),
        (413, "/whip/call?to=600", sdp, format!("{OFFER}{}", "a=x\r\n".repeat(8000))),
        (415, "/whip/call?to=600", "application/json", OFFER.to_owned()),
        (415, "/whip/call?to=600", "", OFFER.to_owned()),
        (422, "/whip/call?to=600", sdp, OFFER.replace("a=rtcp-mux\r\n", "")),
        (422, "/whip/call?to=600", sdp, OFFER.replace("a=ice-ufrag:4ZcD\r\n", "")),
        (422, "/whip/call?to=600", sdp, OFFER.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP")),
    ];
    for (status, path, kind, body) in table {
        let answer = post(path, kind, &body);
        assert_eq!(answer.status, status, "{path} {kind}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        let problem = answer.json();
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
    }
    assert_eq!(post("/whip/call?to=600", "text/plain", "").header("accept-post"), sdp);
    let refused = call(&gateway, "to=12345");
    assert_eq!((refused.status, &refused.json()["by"]), (404, &Value::from("gateway")), "{}", refused.body);
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        assert_eq!(request(&gateway, method, "/whip/call?to=600", &[SDP], OFFER).status, 405, "{method}");
    }
    let (location, _) = standing(&gateway, "to=604");
    for method in ["GET", "PUT", "POST"] {
        let answer = request(&gateway, method, &location, &[], "");
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.header("allow").contains("PATCH"), "{}", answer.head);
    }
    request(&gateway, "DELETE", &location, &[], "");
}

/// RFC 9725 section 4.3.2, RFC 6585 section 3.
#[test]
fn candidates_are_taken_for_the_present_ice_session() {
    let gateway = Gateway::embedded();
    let (location, etag) = standing(&gateway, "to=604");
    let patch = |headers: &[(&str, &str)], body: &str| request(&gateway, "PATCH", &location, headers, body);
    let taken = patch(&[FRAGMENT, ("If-Match", &etag)], TRICKLE);
    assert_eq!((taken.status, taken.header("etag"), taken.body.as_str()), (204, "", ""));
    assert_eq!(patch(&[FRAGMENT, ("If-Match", "\"past\"")], TRICKLE).status, 412);
    assert_eq!(patch(&[FRAGMENT], TRICKLE).status, 428);
    assert_eq!(patch(&[FRAGMENT, ("If-Match", &etag)], "{}").status, 400);
    assert_eq!(patch(&[FRAGMENT, ("If-Match", &etag)], "a=ice-ufrag:4ZcD\r\n").status, 400);
    let other = TRICKLE.replace("4ZcD", "ysXw");
    assert_eq!(patch(&[FRAGMENT, ("If-Match", &etag)], &other).status, 422);
    let unsupported = patch(&[SDP, ("If-Match", &etag)], TRICKLE);
    assert_eq!((unsupported.status, unsupported.header("accept-patch")), (415, FRAGMENT.1));
    assert_eq!(request(&gateway, "DELETE", &location, &[], "").status, 200);
}

/// RFC 9725 section 4.3.3.
#[test]
fn an_ice_restart_has_new_credentials_and_a_new_tag() {
    let gateway = Gateway::embedded();
    let made = call(&gateway, "to=604");
    assert_eq!(made.status, 201, "{}", made.body);
    let (location, old) = (made.header("location"), made.header("etag"));
    let patch =
        |wanted: &str, body: &str| request(&gateway, "PATCH", location, &[FRAGMENT, ("If-Match", wanted)], body);
    let new = "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n";
    let restarted = patch("*", new);
    assert_eq!((restarted.status, restarted.header("content-type")), (200, FRAGMENT.1), "{}", restarted.body);
    let tag = restarted.header("etag");
    assert!(!tag.is_empty() && tag != old, "{tag}");
    let line = |text: &str, name: &str| text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
    for name in ["a=ice-ufrag:", "a=ice-pwd:"] {
        let (before, after) = (line(&made.body, name), line(&restarted.body, name));
        assert!(after.is_some() && before != after, "{name} {before:?} {after:?}");
    }
    assert!(
        restarted.body.starts_with("a=ice-lite\r\n") && restarted.body.contains("a=candidate:"),
        "{}",
        restarted.body
    );
    assert_eq!(patch(old, new).status, 412);
    assert_eq!(patch(tag, new).status, 204);
    // The same once more is no restart, and one that changes only half is none.
    assert_eq!(patch("*", new).status, 204);
    assert_eq!(patch("*", &new.replace("ysXw", "4ZcD")).status, 422);
    assert_eq!(request(&gateway, "DELETE", location, &[], "").status, 200);
}

/// A call that is made by WHIP is its session's only one: nobody else's call rings there.
#[test]
fn a_session_of_whip_does_not_ring() {
    let gateway = Gateway::embedded();
    let (location, _) = standing(&gateway, "to=604&user=alice");
    // 606 calls its caller back: alice's sessions, of which this one can be called.
    let mut browser = Browser::of(&gateway, "alice");
    browser.call("c1", "606");
    let incoming = browser.expect("incoming");
    browser.send(&serde_json::json!({"type": "reject", "call": incoming["call"]}));
    assert_eq!(browser.expect("ended")["cause"], "busy", "no other session is waited for");
    request(&gateway, "DELETE", &location, &[], "");
}

struct Configured {
    gateway: Gateway,
    file: PathBuf,
    _folder: TempDir,
}

impl Configured {
    fn start(http: &str, sections: &str) -> Configured {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("dialplans")).unwrap();
        fs::write(folder.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
        fs::write(folder.path().join("secret"), "0123456789abcdef0123456789abcdef\n").unwrap();
        let file = folder.path().join("ringback.toml");
        let config = format!(
            "[http]\n{http}\n[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nbrowser = \"127.0.0.1:0\"\n\
             rtp_address = \"127.0.0.1\"\nrtp_ports = \"24000-24099\"\n[auth]\nhs256_secret_file = \"secret\"\n\
             [trunk.testphone]\naddress = \"127.0.0.1:5070\"\noptions = 0\n{sections}"
        );
        fs::write(&file, config).unwrap();
        Configured { gateway: Gateway::configured(&file), file, _folder: folder }
    }

    fn bearer(&self, more: &[&str]) -> String {
        let arguments = [["--config", self.file.to_str().unwrap(), "token", "alice"].as_slice(), more].concat();
        let (code, out, err) = output(&arguments);
        assert_eq!(code, Some(0), "{err}");
        format!("Bearer {}", out.trim())
    }
}

/// RFC 9725 sections 4.6 and 4.7.
#[test]
fn a_bearer_token_says_who_calls_and_links_name_turn_servers() {
    let turn = "[turn]\nurls = [\"turn:turn.example:3478?transport=udp\", \"turns:turn.example:443?transport=tcp\"]\n\
        secret = \"a secret of coturn's own\"\nttl = 600\n";
    let configured = Configured::start("origins = [\"https://shop.example\"]", turn);
    let gateway = &configured.gateway;
    let post = |authorization: &str| {
        let headers = [SDP, ("Authorization", authorization)];
        request(gateway, "POST", "/whip/call?to=600&user=root", &headers, OFFER)
    };
    for wrong in ["Bearer x.y.z", "Basic YTpi", "Bearer "] {
        let refused = post(wrong);
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, "Bearer"), "{wrong}");
    }
    assert_eq!(call(gateway, "to=600&user=alice").status, 401);
    let refused = post(&configured.bearer(&["--destination", "601"]));
    assert_eq!((refused.status, refused.json()["cause"].as_str()), (403, Some("not-allowed")), "{}", refused.body);
    let bearer = configured.bearer(&[]);
    let made = post(&bearer);
    assert_eq!(made.status, 201, "{}", made.body);
    let links: Vec<&str> = made.all("link").into_iter().filter(|link| link.contains("ice-server")).collect();
    assert!(links.len() == 2 && links[0].starts_with("<turn:turn.example:3478?transport=udp>; rel=\"ice-server\";"));
    assert!(links.iter().all(|link| link.contains(":alice\"; credential=\"")), "{links:?}");
    // For clients that must know them before they make an offer; a preflight gets none.
    let told = request(gateway, "OPTIONS", "/whip/call", &[("Authorization", &bearer)], "");
    assert_eq!((told.status, told.all("link").len()), (200, 2), "{}", told.head);
    let told = request(gateway, "OPTIONS", "/whip/call", &[], "");
    assert_eq!((told.status, told.all("link").len(), told.header("accept-post")), (200, 0, "application/sdp"));
    request(gateway, "DELETE", made.header("location"), &[], "");
    // The same for a page.
    let origin = "https://shop.example";
    let (mut socket, _) =
        Browser::try_open(gateway, Some(origin), Some("ringback.v1")).map(|(s, r)| (Browser::from(s), r)).unwrap();
    socket.send(&serde_json::json!({"type": "hello", "token": bearer.trim_start_matches("Bearer ")}));
    let welcome = socket.expect("welcome");
    assert_eq!(welcome["ice_servers"][0]["urls"].as_array().map(Vec::len), Some(2), "{welcome}");
}

/// Fetch's CORS protocol.
#[test]
fn pages_of_configured_origins_may_call() {
    let configured = Configured::start("origins = [\"https://shop.example\"]", "");
    let gateway = &configured.gateway;
    let asked = ("Access-Control-Request-Method", "POST");
    let preflight = |origin: &str, path: &str| request(gateway, "OPTIONS", path, &[("Origin", origin), asked], "");
    let shop = preflight("https://shop.example", "/whip/call?to=600");
    assert_eq!((shop.status, shop.header("access-control-allow-origin")), (200, "https://shop.example"));
    assert_eq!(shop.header("access-control-allow-methods"), "POST, OPTIONS");
    let headers = shop.header("access-control-allow-headers").to_ascii_lowercase();
    assert!(["authorization", "content-type", "if-match"].iter().all(|name| headers.contains(name)), "{headers}");
    let session = preflight("https://shop.example", "/whip/session/x");
    assert_eq!((session.status, session.header("access-control-allow-methods")), (200, "PATCH, DELETE, OPTIONS"));
    let state = preflight("https://shop.example", "/whip/session/x/state");
    assert_eq!((state.status, state.header("access-control-allow-methods")), (200, "GET, OPTIONS"));
    let evil = preflight("https://evil.example", "/whip/call?to=600");
    assert_eq!((evil.status, evil.header("access-control-allow-origin")), (403, ""));
    let bearer = configured.bearer(&[]);
    let headers = [SDP, ("Origin", "https://shop.example"), ("Authorization", bearer.as_str())];
    let made = request(gateway, "POST", "/whip/call?to=600", &headers, OFFER);
    assert_eq!((made.status, made.header("access-control-allow-origin")), (201, "https://shop.example"));
    let exposed = made.header("access-control-expose-headers");
    assert!(["Location", "Link", "ETag"].iter().all(|name| exposed.contains(name)), "{exposed}");
    assert!(made.header("vary").eq_ignore_ascii_case("origin"));
    request(gateway, "DELETE", made.header("location"), &[], "");
}

#[test]
fn a_full_gateway_says_when_to_come_again() {
    let configured = Configured::start("", "[limits]\nsockets = 1\n");
    let gateway = &configured.gateway;
    let bearer = configured.bearer(&[]);
    let post = || request(gateway, "POST", "/whip/call?to=600", &[SDP, ("Authorization", &bearer)], OFFER);
    let made = post();
    assert_eq!(made.status, 201, "{}", made.body);
    let full = post();
    assert_eq!((full.status, full.header("retry-after")), (503, "5"), "{}", full.body);
    assert_eq!(request(gateway, "DELETE", made.header("location"), &[], "").status, 200);
}

/// A limit against fraud: 429 and when to come again where there will be room soon; a token for one call is good for one.
#[test]
fn a_limit_and_a_used_token_are_said_before_there_is_an_answer() {
    let configured = Configured::start("", "[limits.user]\ncalls_per_minute = 1\n");
    let gateway = &configured.gateway;
    let post = |bearer: &str| request(gateway, "POST", "/whip/call?to=600", &[SDP, ("Authorization", bearer)], OFFER);
    let once = configured.bearer(&["--once"]);
    let made = post(&once);
    assert_eq!(made.status, 201, "{}", made.body);
    let used = post(&once);
    assert_eq!((used.status, used.json()["cause"].as_str()), (403, Some("token-used")), "{}", used.body);
    let limited = post(&configured.bearer(&[]));
    assert_eq!((limited.status, limited.json()["cause"].as_str()), (429, Some("limit-reached")), "{}", limited.body);
    assert!(limited.json()["detail"].as_str().is_some_and(|text| text.contains("try again in")), "{}", limited.body);
    // The limit's own: a minute after the first call, less what has passed.
    let later: u32 = limited.header("retry-after").parse().unwrap();
    assert!((6..=60).contains(&later), "{later}");
    request(gateway, "DELETE", made.header("location"), &[], "");
}
