//! Canaries: secrets and numbers planted wherever there are any. The secrets stand in no line of the log at its most talkative, in no
//! call's record, trace, event, metric or answer; the numbers in no line of the log, whether somebody dials them or is called so.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;

use crate::sip_websocket::{open, request, until};
use crate::support::{Browser, Gateway, OFFER, PATIENCE, http_request, output, reply};
use crate::whip;

const TRUNK: &str = "canary-of-the-trunk";
const PHONE: &str = "canary-of-the-phone";
const TOKEN: &str = "canary-of-the-api-0123456789abcdef";
const HOOK: &str = "canary-of-the-hook-0123456789abcdef";
const TURN: &str = "canary-of-turn-0123456789abcdef";
const SESSIONS: &str = "canary-of-the-sessions-0123456789abcdef";
const COLLECTOR: &str = "canary-of-hep";
const SPANS: &str = "canary-of-otlp";
const SPANS_FILE: &str = "canary-of-the-file-for-otlp";
const DATABASE: &str = "canary-of-the-database";
/// What the trunk wants in each INVITE.
const TENANT: &str = "canary-of-the-tenant";
/// A browser's password for ICE, as in the offer.
const ICE: &str = "2/1muCWoOi3uLifh0NuRHlIz";
/// The trunk's own key.
const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
/// The key with which it offers a call.
const OFFERED_KEY: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
/// All of them, and what most begin with.
const PLANTED: [&str; 15] = [
    TRUNK,
    PHONE,
    TOKEN,
    HOOK,
    TURN,
    SESSIONS,
    COLLECTOR,
    SPANS,
    SPANS_FILE,
    DATABASE,
    TENANT,
    ICE,
    KEY,
    OFFERED_KEY,
    "canary",
];

/// Who calls, whose name is a number; whom he calls; who calls him; and whose password is guessed at.
const USER: &str = "did:+442079460142";
const DIALLED: &str = "+447700900123";
const CALLER: &str = "+447700900456";
const GUESSED: &str = "+442079460188";

/// What is gathered while the test runs.
type Heap = Arc<Mutex<String>>;

fn heap(heap: &Heap) -> String {
    heap.lock().unwrap().clone()
}

/// The value of an attribute.
fn attribute<'a>(sdp: &'a str, name: &str) -> &'a str {
    sdp.lines().find_map(|line| line.strip_prefix(name)).expect(name).trim()
}

/// A trunk that challenges each first INVITE, answers each second one with a key of its own, and gathers our keys.
fn answer_with_keys(socket: &UdpSocket, keys: &Heap) {
    let mut buffer = [0; 65_536];
    let ours = socket.local_addr().unwrap();
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let empty = "Content-Length: 0\r\n\r\n";
        let answer = match text.split(' ').next().unwrap_or_default() {
            "INVITE" if !text.contains("Authorization:") => {
                let challenge = format!("WWW-Authenticate: Digest realm=\"t\", nonce=\"n\", algorithm=MD5\r\n{empty}");
                reply(&text, "401 Unauthorized", &challenge)
            }
            "INVITE" => {
                let crypto = attribute(&text, "a=crypto:");
                keys.lock().unwrap().push_str(&format!("{}\n", crypto.split("inline:").nth(1).unwrap()));
                let tag = crypto.split(' ').next().unwrap();
                let sdp = format!(
                    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 19998 RTP/SAVP 0\r\n\
                     a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n"
                );
                let rest = format!(
                    "Contact: <sip:uas@{ours}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
                    sdp.len()
                );
                reply(&text, "200 OK", &rest)
            }
            "ACK" => continue,
            first if first.starts_with("SIP/") => continue,
            _ => reply(&text, "200 OK", empty),
        };
        socket.send_to(answer.as_bytes(), from).unwrap();
    }
}

/// A server that takes all that is posted to it, and gathers the bodies.
fn takes_posts() -> (SocketAddr, Heap) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, bodies) = (listener.local_addr().unwrap(), Heap::default());
    let gathered = Arc::clone(&bodies);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let Some((_, body)) = http_request(&mut stream) else { continue };
            gathered.lock().unwrap().push_str(&format!("{body}\n"));
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"); // it may be gone
        }
    });
    (address, bodies)
}

/// A collector of HEP.
fn takes_packets() -> (SocketAddr, Heap) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, packets) = (socket.local_addr().unwrap(), Heap::default());
    let gathered = Arc::clone(&packets);
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(len) = socket.recv(&mut buffer) {
            gathered.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..len]));
        }
    });
    (address, packets)
}

/// Waits until what is gathered has that in it.
fn gathered(from: &Heap, wanted: &str) -> String {
    let begun = Instant::now();
    loop {
        let text = heap(from);
        if text.contains(wanted) {
            return text;
        }
        assert!(begun.elapsed() < PATIENCE, "no {wanted} in: {text}");
        std::thread::yield_now();
    }
}

fn get(port: u16, path: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// A gateway full of secrets, and all places where one could come out.
struct Scene {
    dir: TempDir,
    gateway: Gateway,
    trunk: UdpSocket,
    sip: u16,
    api: u16,
    /// Of the certificate, in PEM.
    private_key: String,
    /// The gateway's keys for the trunk's calls.
    keys: Heap,
    events: Heap,
    spans: Heap,
    packets: Heap,
}

impl Scene {
    fn new() -> Scene {
        let trunk = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sip = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let api = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let ((hook, events), (otlp, spans), (hep, packets)) = (takes_posts(), takes_posts(), takes_packets());
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("dialplans")).unwrap();
        fs::write(
            dir.path().join("dialplans/plan.toml"),
            "[plan]\nname = \"numbers\"\n[numbering]\ncountry = \"GB\"\nemergency = []\n[[out]]\nname = \"mobiles\"\nprefix = \"+447\"\n\
             tiers = [[\"carrier\"]]\n[[in]]\nname = \"direct\"\ndid = \"any\"\nuser = \"did:{number}\"\n",
        )
        .unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let private_key = made.signing_key.serialize_pem();
        let spans_file = format!("x-second-key: {SPANS_FILE}\n");
        for (name, secret) in [
            ("token", TOKEN),
            ("database", DATABASE),
            ("sessions", SESSIONS),
            ("headers", &spans_file),
            ("cert.pem", &made.cert.pem()),
            ("key.pem", &private_key),
        ] {
            fs::write(dir.path().join(name), secret).unwrap();
        }
        let config = format!(
            "[sip]\nudp = [\"127.0.0.1:{sip}\"]\ntls = [\"127.0.0.1:0\"]\ntls_certificate = \"cert.pem\"\ntls_key = \"key.pem\"\n\
             [media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
             rtp_ports = \"23600-23699\"\n[auth]\nhs256_secret_file = \"sessions\"\n[control]\nsocket = \"control.sock\"\n\
             [turn]\nurls = [\"turn:127.0.0.1:9\"]\nsecret = \"{TURN}\"\n\
             [trunk.carrier]\naddress = \"{}\"\noptions = 0\nuser = \"us\"\npassword = \"{TRUNK}\"\nsrtp = \"required\"\n\
             headers = {{ \"X-Tenant-Token\" = \"{TENANT}\" }}\n\
             [registrar]\nrealm = \"lab\"\n[registrar.users.desk]\npassword = \"{PHONE}\"\n[limits.user]\ncalls = 1\n\
             [cdr]\nfile = \"-\"\npostgres = \"postgres://ringback@127.0.0.1:9/calls\"\npostgres_password_file = \"database\"\n\
             waiting = \"waiting\"\n\
             [[webhook]]\nurl = \"http://{hook}/canary-of-the-path\"\nsecret = \"{HOOK}\"\n\
             [hep]\naddress = \"{hep}\"\npassword = \"{COLLECTOR}\"\ncapture_id = 77\n\
             [otlp]\nendpoint = \"http://{otlp}\"\nheaders = {{ x-api-key = \"{SPANS}\" }}\nheaders_file = \"headers\"\n\
             [api]\nlisten = \"127.0.0.1:{api}\"\n\
             [[api.token]]\nname = \"reader\"\ntoken_file = \"token\"\nscopes = [\"read\", \"trace\"]\n",
            trunk.local_addr().unwrap()
        );
        let file = dir.path().join("ringback.toml");
        fs::write(&file, config).unwrap();
        let (keys, socket) = (Heap::default(), trunk.try_clone().unwrap());
        let ours = Arc::clone(&keys);
        std::thread::spawn(move || answer_with_keys(&socket, &ours));
        let gateway = Gateway::managed(&file, &[("RUST_LOG", "trace")]);
        Scene { dir, gateway, trunk, sip, api, private_key, keys, events, spans, packets }
    }

    /// What a command of the program says of it.
    fn command(&self, arguments: &[&str]) -> String {
        let file = self.dir.path().join("ringback.toml");
        let (code, out, err) = output(&[["--config", file.to_str().unwrap()].as_slice(), arguments].concat());
        assert_eq!(code, Some(0), "{err}");
        out + &err
    }

    /// A browser of [`USER`] with this token.
    fn browser(&self, token: &str) -> Browser {
        let mut browser = Browser::open(&self.gateway);
        browser.send(&json!({"type": "hello", "token": token}));
        let welcome = browser.expect("welcome").to_string();
        assert!(!welcome.contains(TURN), "{welcome}");
        browser
    }

    /// A call by WHIP with this token, and its end: what the browser is told, which has a password for ICE in it.
    fn calls_by_whip(&self, token: &str) -> String {
        let path = format!("/whip/call?to={}", DIALLED.replace('+', "%2B"));
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/sdp")];
        let made = whip::request(&self.gateway, "POST", &path, &headers, OFFER);
        assert_eq!(made.status, 201, "{}", made.body);
        let ended = whip::request(&self.gateway, "DELETE", made.header("location"), &headers[..1], "");
        assert_eq!(ended.status, 200, "{}", ended.body);
        made.body
    }

    /// A configuration whose secrets are of no type that a secret can have, nor where one can be, is refused by the gateway and
    /// by `check`: what they say of it.
    fn refuses_broken_secrets(&self) -> String {
        let file = self.dir.path().join("ringback.toml");
        let whole = fs::read_to_string(&file).unwrap();
        let mut said = String::new();
        for (right, wrong) in [
            (format!("password = \"{TRUNK}\""), format!("password = [\"{TRUNK}\"]")),
            (format!("secret = \"{HOOK}\""), format!("secret = {{ is = \"{HOOK}\" }}")),
            (format!("secret = \"{TURN}\""), format!("secret = \"{TURN}")),
            (format!("password = \"{COLLECTOR}\""), format!("pasword = \"{COLLECTOR}\"")),
        ] {
            assert!(whole.contains(&right), "{right}");
            fs::write(&file, whole.replace(&right, &wrong)).unwrap();
            for command in ["reload", "check"] {
                let (code, out, err) = output(&["--config", file.to_str().unwrap(), command]);
                assert!(code != Some(0) && err.contains("ringback.toml:"), "{wrong}: {code:?} {out}{err}");
                said += &(out + &err);
            }
        }
        fs::write(&file, whole).unwrap();
        said
    }

    /// The trunk brings a call for the user.
    fn called(&self, browser: &mut Browser) {
        let (ours, dialled) = (self.trunk.local_addr().unwrap(), USER.trim_start_matches("did:"));
        let offer = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 19996 RTP/SAVP 0\r\n\
             a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{OFFERED_KEY}\r\n"
        );
        let invite = format!(
            "INVITE sip:{dialled}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {ours};branch=z9hG4bKin\r\nMax-Forwards: 69\r\n\
             From: \"A\" <sip:{CALLER}@carrier.example>;tag=a\r\nTo: <sip:{dialled}@127.0.0.1>\r\nCall-ID: in\r\n\
             CSeq: 1 INVITE\r\nContact: <sip:a@{ours}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{offer}",
            offer.len()
        );
        self.trunk.send_to(invite.as_bytes(), ("127.0.0.1", self.sip)).unwrap();
        let call = browser.expect("incoming")["call"].clone();
        browser.send(&json!({"type": "reject", "call": call}));
        browser.expect("ended");
    }

    /// A stranger guesses at the password of a phone that is called by its number, until he is told to wait.
    fn guessed_at(&self) {
        let phone = UdpSocket::bind("127.0.0.1:0").unwrap();
        phone.set_read_timeout(Some(PATIENCE)).unwrap();
        let (ours, mut nonce, mut buffer) = (phone.local_addr().unwrap(), "n".to_owned(), [0; 65_536]);
        for attempt in 0..100 {
            let text = format!(
                "REGISTER sip:lab SIP/2.0\r\nVia: SIP/2.0/UDP {ours};branch=z9hG4bKr{attempt}\r\nMax-Forwards: 69\r\n\
                 From: <sip:{GUESSED}@lab>;tag=r\r\nTo: <sip:{GUESSED}@lab>\r\nCall-ID: r\r\nCSeq: {attempt} REGISTER\r\n\
                 Contact: <sip:x@{ours}>\r\nAuthorization: Digest username=\"{GUESSED}\", realm=\"lab\", nonce=\"{nonce}\", \
                 uri=\"sip:lab\", response=\"0123456789abcdef0123456789abcdef\", algorithm=MD5, qop=auth, nc=00000001, \
                 cnonce=\"c\"\r\nContent-Length: 0\r\n\r\n"
            );
            phone.send_to(text.as_bytes(), ("127.0.0.1", self.sip)).unwrap();
            let (len, _) = phone.recv_from(&mut buffer).unwrap();
            let answer = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if answer.starts_with("SIP/2.0 503") {
                return;
            }
            let asked = answer.lines().find(|line| line.contains("MD5")).unwrap_or_else(|| panic!("{answer}"));
            nonce = asked.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        }
        panic!("guessing is not slowed down");
    }

    /// All that `ringback trace` and the API tell of a call.
    fn traces(&self, id: &str) -> String {
        let file = self.dir.path().join("call.pcap");
        let wanted = [vec![], vec!["--full"], vec!["--json"], vec!["--pcap", file.to_str().unwrap()]];
        let told =
            wanted.iter().map(|more| self.command(&[["trace", id].as_slice(), more].concat())).collect::<String>();
        told + &String::from_utf8_lossy(&fs::read(&file).unwrap())
            + &get(self.api, &format!("/v1/calls/{id}/trace"), TOKEN)
    }
}

/// A call by SIP over the WebSocket with the session's token (RFC 8898), which the limit refuses.
fn call_by_sip(gateway: &Gateway, token: &str) {
    let mut socket = open(gateway);
    let rest = format!("Authorization: Bearer {token}\r\nContent-Type: application/sdp\r\n\r\n{OFFER}");
    socket.send(Message::text(request("INVITE", DIALLED, 1, &rest))).unwrap();
    until(&mut socket, "SIP/2.0 503");
}

#[test]
fn planted_secrets_come_out_nowhere_and_planted_numbers_are_not_in_the_log() {
    let mut scene = Scene::new();
    let token = scene.command(&["token", USER]).trim().to_owned();
    let mut alice = scene.browser(&token);
    alice.send(&json!({"type": "probe", "call": "p1", "sdp": OFFER}));
    alice.expect("answer");
    alice.send(&json!({"type": "hangup", "call": "p1"}));
    alice.expect("ended");
    alice.send(&json!({"type": "check", "to": DIALLED, "n": 1}));
    assert_eq!(alice.expect("checked")["allowed"], true);
    alice.send(&json!({"type": "call", "call": "c1", "to": DIALLED, "sdp": OFFER}));
    let answer = alice.expect("answer");
    let (id, answer) = (answer["id"].as_str().unwrap(), answer["sdp"].as_str().unwrap());
    alice.expect("answered");
    // A second one is too many, of a browser as of SIP.
    alice.call("c2", DIALLED);
    assert_eq!(alice.expect("ended")["cause"], "limit-reached");
    call_by_sip(&scene.gateway, &token);
    scene.called(&mut alice);
    scene.guessed_at();
    let wrong = get(scene.api, "/v1/calls", "canary-of-a-guess");
    assert!(wrong.contains(" 401 "), "{wrong}");
    let paths = ["/v1/calls", "/v1/status", "/v1/limits", "/metrics"];
    let shown: String = paths.iter().map(|path| get(scene.api, path, TOKEN)).collect();
    let mut told = ["calls", "trunks", "users", "limits"].map(|what| scene.command(&[what, "--json"])).concat();
    let page = scene.command(&["dashboard"]);
    let page_key = page.trim().split("#key=").nth(1).expect("an address with a key");
    let by_page = get(scene.gateway.port(), "/v1/status", page_key);
    assert!(by_page.contains(" 200 "), "{by_page}");
    let shown = by_page + &shown;
    told += &scene.refuses_broken_secrets();
    alice.send(&json!({"type": "feedback", "id": id, "score": 5}));
    alice.send(&json!({"type": "hangup", "call": "c1"}));
    alice.expect("ended");
    let bearer = scene.command(&["token", "page"]).trim().to_owned();
    let whip = scene.calls_by_whip(&bearer);
    let cdrs = [(); 5].map(|()| scene.gateway.cdr());
    let traces: String = cdrs.iter().map(|cdr| scene.traces(cdr["call"].as_str().unwrap())).collect();
    for what in ["a=crypto:", "a=ice-pwd:", "X-Tenant-Token: *"] {
        assert!(traces.contains(what), "{what} is not in the traces: {traces}");
    }
    let cdrs: String = cdrs.iter().map(|cdr| cdr.to_string() + "\n").collect();
    assert!(cdrs.contains(DIALLED) && cdrs.contains(CALLER), "{cdrs}");
    let events = gathered(&scene.events, "limit.tripped") + &gathered(&scene.events, "\"call.ended\"");
    let packets = gathered(&scene.packets, "BYE sip:");
    assert!(packets.contains("a=crypto:") && packets.contains("Authorization:"), "{packets}");
    let spans = gathered(&scene.spans, &id.repeat(2));
    scene.gateway.terminate();
    let log = scene.gateway.whole_log();
    scene.gateway.wait();
    let calls = ["a browser calls", "a browser tries", "a phone calls", "a trunk calls"];
    for said in calls.into_iter().chain(["a limit trips", "feedback", "wrong SIP password"]) {
        assert!(log.contains(said), "{said} is not in the log:\n{log}");
    }

    let keys = heap(&scene.keys);
    let [signature, other] = [&token, &bearer].map(|token| token.rsplit('.').next().unwrap());
    let of_ice = [answer, &whip].map(|sdp| attribute(sdp, "a=ice-pwd:"));
    let ours = of_ice.into_iter().chain([signature, &token, other, &bearer, page_key]);
    let private = scene.private_key.lines().filter(|line| !line.starts_with('-'));
    let metrics = get_metrics(&shown);
    let places = [
        ("log", &log),
        ("records", &cdrs),
        ("answers", &shown),
        ("commands", &told),
        ("traces", &traces),
        ("events", &events),
        ("spans", &spans),
        ("packets", &packets.replace(COLLECTOR, "")),
    ];
    for secret in PLANTED.into_iter().chain(ours).chain(private).chain(keys.lines()) {
        for (place, text) in places {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} is in the {place}");
        }
    }
    for number in [USER, DIALLED, CALLER, GUESSED] {
        let digits = number.trim_start_matches("did:").trim_start_matches("+44");
        for (place, text) in [("log", log.as_str()), ("spans", &spans), ("metrics", metrics)] {
            let line = text.lines().find(|line| line.contains(digits));
            assert_eq!(line, None, "{number} is in the {place}");
        }
    }
    assert!(log.contains("did:+44********42"), "users have stars");
    assert_eq!(left_behind(scene.dir.path()), None, "the database's password is in a file of the gateway's own");
}

/// The metrics among the answers.
fn get_metrics(shown: &str) -> &str {
    shown.find("# HELP").and_then(|at| shown.get(at..)).expect("metrics")
}

/// A line of what waits for the database with its password in it.
fn left_behind(dir: &Path) -> Option<String> {
    let files = fs::read_dir(dir.join("waiting")).expect("records wait for the database").flatten();
    let texts = files.map(|file| String::from_utf8_lossy(&fs::read(file.path()).unwrap()).into_owned());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).find(|line| line.contains(DATABASE))
}
