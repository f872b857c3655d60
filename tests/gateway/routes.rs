//! What `ringback route` says is what happens: every `[[test]]` row of the shipped example plans is asked of it and then
//! really called, with all schedules open and with all of them closed. What arrives at the trunks, rings at users or is told
//! to the caller has to be what was said, and every rule of a plan has to have its turn.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ringback::signal::{Claims, sign_hs256};
use serde_json::{Value, json};
use tempfile::TempDir;
use toml::Table;

use crate::peer::gateway::free_port;
use crate::support::{Browser, Gateway, PATIENCE, output, reply};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Who calls in where a row names nobody.
const SOMEBODY: &str = "+33170189900";

/// The peer of a trunk, at an address of its own: it is too busy for any call, so that the next one is tried.
struct Trunk {
    socket: UdpSocket,
    /// Final answers to its own requests, each with its Call-ID.
    answers: Receiver<(String, u16)>,
}

impl Trunk {
    fn start(name: &str, last: u8, tell: std::sync::mpsc::Sender<(String, String)>) -> Trunk {
        let socket = UdpSocket::bind((format!("127.0.0.{last}"), 0)).unwrap();
        let (serving, name) = (socket.try_clone().unwrap(), name.to_owned());
        let (answered, answers) = channel();
        let serve = move || {
            let mut buffer = [0; 65_536];
            while let Ok((len, from)) = serving.recv_from(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
                let status = text.strip_prefix("SIP/2.0 ").and_then(|rest| rest[..3].parse::<u16>().ok());
                let goes_on = match (text.split_whitespace().next(), status) {
                    (_, Some(100..200)) | (Some("ACK"), _) => true,
                    (_, Some(status)) => answered.send((call_id(&text), status)).is_ok(),
                    (Some("INVITE"), _) => {
                        let told = tell.send((name.clone(), text.clone()));
                        let busy = reply(&text, "503 Service Unavailable", "Content-Length: 0\r\n\r\n");
                        told.is_ok() && serving.send_to(busy.as_bytes(), from).is_ok()
                    }
                    _ => serving.send_to(reply(&text, "200 OK", "Content-Length: 0\r\n\r\n").as_bytes(), from).is_ok(),
                };
                if !goes_on {
                    return; // the test is over
                }
            }
        };
        std::thread::Builder::new().spawn(serve).unwrap();
        Trunk { socket, answers }
    }

    /// Calls that number; the final answer's status.
    fn calls(&self, gateway: SocketAddr, number: &str, from: &str, n: usize) -> u16 {
        self.invites(gateway, number, from, n);
        self.answer(n)
    }

    /// The next final answer to a request of that call; those of others come again until they are acknowledged.
    fn answer(&self, n: usize) -> u16 {
        let id = format!("route{n}@{}", self.socket.local_addr().unwrap());
        loop {
            let (call, status) = self.answers.recv_timeout(PATIENCE).expect("a final answer");
            if call == id {
                return status;
            }
        }
    }

    fn invites(&self, gateway: SocketAddr, number: &str, from: &str, n: usize) {
        let own = self.socket.local_addr().unwrap();
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio 19998 RTP/AVP 0\r\n",
            own.ip()
        );
        let invite = format!(
            "INVITE sip:{number}@{gateway} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKroute{n}\r\nMax-Forwards: 70\r\n\
             From: <sip:{from}@{own}>;tag=route{n}\r\nTo: <sip:{number}@{gateway}>\r\nCall-ID: route{n}@{own}\r\n\
             CSeq: 1 INVITE\r\nContact: <sip:{own}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        self.socket.send_to(invite.as_bytes(), gateway).unwrap();
    }

    /// Gives up its call.
    fn cancels(&self, gateway: SocketAddr, number: &str, from: &str, n: usize) {
        let own = self.socket.local_addr().unwrap();
        let cancel = format!(
            "CANCEL sip:{number}@{gateway} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKroute{n}\r\nMax-Forwards: 70\r\n\
             From: <sip:{from}@{own}>;tag=route{n}\r\nTo: <sip:{number}@{gateway}>\r\nCall-ID: route{n}@{own}\r\n\
             CSeq: 1 CANCEL\r\nContent-Length: 0\r\n\r\n"
        );
        self.socket.send_to(cancel.as_bytes(), gateway).unwrap();
        let mut answers = [0, 0].map(|_| self.answer(n));
        answers.sort_unstable();
        assert_eq!(answers, [200, 487], "of CANCEL and INVITE");
    }
}

fn call_id(message: &str) -> String {
    message.lines().find_map(|line| line.strip_prefix("Call-ID: ")).unwrap_or_default().trim().to_owned()
}

/// A web hook that answers what it is told to, and else that it cannot.
fn hook(answer: Arc<Mutex<Option<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut text, mut buffer) = (String::new(), [0; 4096]);
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                text.push_str(&String::from_utf8_lossy(&buffer[..len]));
                if text.ends_with("}}") {
                    break;
                }
            }
            let answer = answer.lock().unwrap().clone();
            let (status, body) = answer.map_or(("500 No", String::new()), |answer| ("200 OK", answer));
            let head = "Content-Type: application/json\r\nConnection: close\r\nContent-Length:";
            let _ = write!(stream, "HTTP/1.1 {status}\r\n{head} {}\r\n\r\n{body}", body.len()); // it may be too late
        }
    };
    std::thread::Builder::new().spawn(serve).unwrap();
    address
}

/// A gateway with one of the plans.
struct Site {
    _dir: TempDir,
    file: String,
    plan: Table,
    gateway: Gateway,
    sip: SocketAddr,
    trunks: Vec<(&'static str, Trunk)>,
    /// INVITEs, each with the name of the trunk that it came to.
    invites: Receiver<(String, String)>,
    answer: Arc<Mutex<Option<String>>>,
    calls: usize,
    /// Rules that had their turn, and how many calls were dialled, rang, and were refused.
    seen: BTreeSet<String>,
    counts: [usize; 3],
}

impl Site {
    /// `open`: what stands for the opening times of all schedules.
    fn open(plan: &str, tables: &[&str], trunks: &[&'static str], open: &str) -> Site {
        let dir = TempDir::new().unwrap();
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("dialplans");
        let plans = dir.path().join("dialplans");
        fs::create_dir(&plans).unwrap();
        for table in tables {
            fs::copy(ours.join(table), plans.join(table)).unwrap();
        }
        let text = fs::read_to_string(ours.join(plan)).unwrap();
        let table: Table = text.parse().unwrap();
        let answer = Arc::default();
        let rules = text.split("[[test]]").next().unwrap(); // the rows are of certain times
        let rules = rules.replace("127.0.0.1:9000", &hook(Arc::clone(&answer)).to_string());
        // Who calls the reception may be of it himself, and lets it ring.
        let rules = ["15s", "20s", "25s"].iter().fold(rules, |rules, time| rules.replace(time, "1s"));
        let rules: Vec<&str> = rules
            .lines()
            .filter_map(|line| match line.split_whitespace().next() {
                Some("open") => Some(open),
                Some("closed" | "special") => None,
                _ => Some(line),
            })
            .collect();
        fs::write(plans.join(plan), rules.join("\n")).unwrap();
        let (tell, invites) = channel();
        let sip = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut config = format!(
            "[sip]\nudp = [\"{sip}\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
             rtp_ports = \"25800-25899\"\n[auth]\nhs256_secret = \"{SECRET}\"\n\
             [calls]\nresume_within = 0\n"
        );
        let mut peers = Vec::new();
        for (&name, last) in trunks.iter().zip(11..) {
            let peer = Trunk::start(name, last, tell.clone());
            config += &format!("[trunk.{name}]\naddress = \"{}\"\noptions = 0\n", peer.socket.local_addr().unwrap());
            peers.push((name, peer));
        }
        let file = dir.path().join("ringback.toml");
        fs::write(&file, config).unwrap();
        let gateway = Gateway::configured(&file);
        let file = file.to_str().unwrap().to_owned();
        let (seen, counts) = (BTreeSet::new(), [0; 3]);
        Site { _dir: dir, file, plan: table, gateway, sip, trunks: peers, invites, answer, calls: 0, seen, counts }
    }

    fn rows(&self) -> Vec<Table> {
        self.plan["test"].as_array().unwrap().iter().map(|row| row.as_table().unwrap().clone()).collect()
    }

    /// What `ringback route --json` decides.
    fn route(&self, arguments: &[&str]) -> Value {
        let (_, out, err) = output(&[&["--config", &self.file, "route", "--json"], arguments].concat());
        let routed: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{arguments:?}: {out}{err}"));
        routed["decision"].clone()
    }

    /// A row is asked and called.
    fn try_row(&mut self, row: &Table) {
        let text = |name: &str| row.get(name).and_then(toml::Value::as_str);
        match (text("call_in"), text("did")) {
            (Some(trunk), Some(did)) => self.try_in(trunk, did, text("from").unwrap_or(SOMEBODY)),
            _ => self.try_out(row),
        }
        let left: Vec<_> = self.invites.try_iter().collect();
        assert!(left.is_empty(), "{row:?}: more than was said: {left:?}");
    }

    fn try_out(&mut self, row: &Table) {
        let text = |name: &str| row.get(name).and_then(toml::Value::as_str);
        let list = |name: &str| {
            let list = row.get(name)?.as_array()?.iter();
            Some(list.map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<String>>())
        };
        let (user, dial) = (text("user").unwrap(), text("dial").unwrap());
        let destinations = list("destinations").unwrap_or_default();
        let mut arguments = vec![user, dial];
        for (option, value) in [("--class", "class"), ("--caller-id", "caller_id"), ("--answer", "answer")] {
            arguments.extend(text(value).into_iter().flat_map(|value| [option, value]));
        }
        arguments.extend(destinations.iter().flat_map(|number| ["--destination", number]));
        let mut said = self.route(&arguments);
        self.see(&said);
        if said["decision"] == "ask" {
            said = said["otherwise"].take(); // nobody answers it
        }
        *self.answer.lock().unwrap() = text("answer").map(str::to_owned);
        let exp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 600;
        let claims = Claims {
            sub: user.to_owned(),
            class: text("class").map(str::to_owned),
            caller_id: text("caller_id").map(str::to_owned),
            destinations: list("destinations"),
            exp,
            ..Claims::default()
        };
        let mut browser = self.session(&claims);
        if said["decision"] == "ring" {
            let called = said["turns"][0]["users"][0].as_str().unwrap();
            let mut there = self.session(&Claims { sub: called.to_owned(), exp, ..Claims::default() });
            browser.call("there", dial);
            there.expect("incoming");
            browser.send(&json!({ "type": "hangup", "call": "there" }));
            browser.expect("ended");
        }
        browser.call("c", dial);
        let ended = browser.expect("ended")["sip"].as_u64().and_then(|sip| u16::try_from(sip).ok());
        self.is_as_said(dial, &said, user, ended);
    }

    fn session(&self, claims: &Claims) -> Browser {
        let mut browser = Browser::open(&self.gateway);
        browser.send(&json!({ "type": "hello", "token": sign_hs256(SECRET.as_bytes(), claims) }));
        browser.expect("welcome");
        browser
    }

    fn try_in(&mut self, trunk: &str, did: &str, from: &str) {
        let said = self.route(&[from, did, "--trunk", trunk]);
        self.see(&said);
        self.calls += 2;
        let n = self.calls;
        let peer = |site: &Site| site.trunks.iter().position(|(name, _)| *name == trunk).unwrap();
        let at = peer(self);
        if said["decision"] == "ring" {
            let called = said["turns"][0]["users"][0].as_str().unwrap();
            let exp = u64::from(u32::MAX);
            let mut there = self.session(&Claims { sub: called.to_owned(), exp, ..Claims::default() });
            self.trunks[at].1.invites(self.sip, did, from, n);
            there.expect("incoming");
            self.trunks[at].1.cancels(self.sip, did, from, n);
            there.expect("ended");
        }
        let ended = self.trunks[at].1.calls(self.sip, did, from, n + 1);
        self.is_as_said(did, &said, from, Some(ended));
    }

    fn see(&mut self, said: &Value) {
        self.seen.extend(said["rule"].as_str().map(str::to_owned));
        for next in ["plain", "otherwise", "then"] {
            self.seen.extend(said[next]["rule"].as_str().map(str::to_owned));
        }
    }

    /// What came of a call, whose caller was told that status at its end.
    fn is_as_said(&mut self, dialled: &str, said: &Value, caller: &str, ended: Option<u16>) {
        let mut now = said;
        while now["decision"] == "ring" && !now["then"].is_null() {
            now = &now["then"]; // nobody is there
        }
        match now["decision"].as_str().unwrap() {
            "dial" => {
                self.counts[0] += 1;
                // Who is shown no number of his own keeps his name.
                let from = now["from"].as_str().unwrap_or(caller);
                for tier in now["tiers"].as_array().unwrap() {
                    let mut trunks: BTreeSet<&str> =
                        tier.as_array().unwrap().iter().map(|choice| choice["trunk"].as_str().unwrap()).collect();
                    while !trunks.is_empty() {
                        let (trunk, invite) = self.invites.recv_timeout(Duration::from_secs(5)).unwrap_or_else(|_| {
                            panic!("{dialled}: {trunks:?} were said to be called, and were not ({ended:?}): {now}")
                        });
                        assert!(trunks.remove(trunk.as_str()), "{dialled}: {trunk} was not said: {now}");
                        let user = invite.strip_prefix("INVITE sip:").and_then(|rest| rest.split('@').next()).unwrap();
                        assert_eq!(user, now["to"].as_str().unwrap(), "{dialled} at {trunk}");
                        let line = invite.lines().find(|line| line.starts_with("From:")).unwrap();
                        assert!(line.contains(&format!("sip:{from}@")), "{dialled} at {trunk}: {line}, not {from}");
                    }
                }
                assert!(ended.is_some(), "{dialled}");
            }
            "refuse" => {
                self.counts[2] += 1;
                assert_eq!(ended.map(u64::from), now["code"].as_u64(), "{dialled}: {now}");
            }
            "ring" => {
                self.counts[1] += 1;
                assert_eq!(ended, Some(480), "{dialled}: nobody was there: {now}");
            }
            other => panic!("{dialled}: {other}"),
        }
    }
}

/// All rows of a plan, at a time when everything is open and at one when nothing is.
fn is_what_happens(plan: &str, tables: &[&str], trunks: &[&'static str]) {
    let mut seen = BTreeSet::new();
    let mut all = BTreeSet::new();
    for open in ["open = [\"daily 00:00-24:00\"]", "open = []"] {
        let mut site = Site::open(plan, tables, trunks, open);
        for row in site.rows() {
            site.try_row(&row);
        }
        let [dialled, rang, refused] = site.counts;
        println!("{plan}, {open}: {dialled} dialled, {rang} for nobody, {refused} refused, each as it was said");
        assert!(refused > 0);
        for direction in ["out", "in"] {
            let rules = site.plan[direction].as_array().unwrap().iter();
            all.extend(rules.map(|rule| rule["name"].as_str().unwrap().to_owned()));
        }
        seen.append(&mut site.seen);
    }
    assert_eq!(all.difference(&seen).collect::<Vec<_>>(), Vec::<&String>::new(), "rules that no row is about");
}

#[test]
fn calls_of_the_british_office_go_as_route_says() {
    is_what_happens("uk-office.toml", &[], &["carrier-a", "carrier-b"]);
}

#[test]
fn calls_of_the_american_call_centre_go_as_route_says() {
    let trunks = ["carrier-west", "carrier-east", "carrier-spare", "pbx"];
    is_what_happens("us-callcentre.toml", &["canada.csv", "rates.csv"], &trunks);
}

#[test]
fn calls_of_the_shops_button_go_as_route_says() {
    is_what_happens("click-to-call.toml", &[], &["pbx", "carrier-a"]);
}
