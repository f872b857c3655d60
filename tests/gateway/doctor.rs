//! `ringback doctor`: what it finds where all is well, and what it says to change where something is broken in truth.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Gateway, PATIENCE, output};
use crate::uas::Uas;

/// A configuration on disk.
struct House {
    dir: TempDir,
    file: PathBuf,
}

impl House {
    fn new(sections: &str) -> House {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("dialplans")).unwrap();
        fs::write(dir.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
        let file = dir.path().join("ringback.toml");
        fs::write(&file, sections).unwrap();
        House { dir, file }
    }

    fn doctor(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let (code, out, err) = output(&[&["--config", self.file.to_str().unwrap(), "doctor"], arguments].concat());
        assert_eq!(err, "", "{out}");
        (code, out)
    }

    fn report(&self) -> (Option<i32>, Vec<Value>) {
        let (code, out) = self.doctor(&["--json"]);
        let report: Value = serde_json::from_str(&out).unwrap();
        (code, report["findings"].as_array().unwrap().clone())
    }
}

/// The finding about this.
fn about<'a>(findings: &'a [Value], subject: &str) -> &'a Value {
    let is_it = |finding: &&Value| finding["subject"].as_str().unwrap().starts_with(subject);
    findings.iter().find(is_it).unwrap_or_else(|| panic!("nothing about {subject}: {findings:#?}"))
}

fn is(finding: &Value, verdict: &str, text: &str) {
    assert_eq!(finding["verdict"], verdict, "{finding}");
    assert!(finding["text"].as_str().unwrap().contains(text), "{finding}");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn sections(sip: u16, ports: u16, trunks: &str) -> String {
    format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[sip]\nudp = [\"127.0.0.1:{sip}\"]\ntcp = [\"127.0.0.1:{sip}\"]\n[media]\n\
         browser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\nrtp_ports = \"{ports}-{}\"\n[auth]\nopen = true\n[control]\n\
         socket = \"control.sock\"\n{trunks}",
        ports + 99
    )
}

/// While the gateway does not run the doctor asks the trunks itself, over each transport; what is dead is told with a remedy.
#[test]
fn without_a_gateway_ports_and_trunks_are_tried() {
    let (udp, tcp, silent) = (Uas::udp(), Uas::stream(None), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (closed, sip) = (free_port(), free_port());
    let trunks = format!(
        "[trunk.testphone]\naddress = \"{}\"\n[trunk.stream]\naddress = \"{}\"\ntransport = \"tcp\"\n\
         [trunk.silent]\naddress = \"{}\"\n[trunk.closed]\naddress = \"127.0.0.1:{closed}\"\ntransport = \"tcp\"\n\
         [trunk.quiet]\naddress = \"{}\"\noptions = 0\n[trunk.lost]\naddress = \"nowhere.invalid\"\n\
         [cdr]\nfile = \"missing/calls.jsonl\"\n",
        udp.address,
        tcp.address,
        silent.local_addr().unwrap(),
        silent.local_addr().unwrap(),
    );
    let house = House::new(&sections(sip, 25_000, &trunks));
    let taken = UdpSocket::bind(("127.0.0.1", sip)).unwrap();
    let (code, found) = house.report();
    assert_eq!(code, Some(1));
    is(about(&found, "configuration"), "ok", "is good");
    is(about(&found, "gateway"), "untested", "does not run");
    let port = about(&found, "[sip] udp");
    is(port, "fail", "another program has it");
    assert!(port["remedy"].as_str().unwrap().contains(&format!("sport = :{sip}")), "{port}");
    is(about(&found, "[sip] tcp"), "ok", "free");
    is(about(&found, "[media] rtp_ports"), "ok", "50 legs");
    is(about(&found, "trunk testphone at udp"), "ok", "answers OPTIONS with 200");
    is(about(&found, "trunk stream at tcp"), "ok", "answers OPTIONS with 200");
    is(about(&found, "trunk silent at udp"), "fail", "no answer");
    is(about(&found, "trunk quiet at udp"), "untested", "options = 0");
    let closed = about(&found, "trunk closed at tcp");
    is(closed, "fail", "refused");
    assert!(closed["remedy"].as_str().unwrap().contains("nobody listens there"), "{closed}");
    assert_eq!(about(&found, "trunk lost address")["verdict"], "fail");
    is(about(&found, "[cdr] file"), "fail", "does not exist");
    drop(taken);
    // The question came from the port by which the trunk knows the gateway, once that is free.
    fs::create_dir(house.dir.path().join("missing")).unwrap();
    let (_, out) = house.doctor(&[]);
    let asked = udp.request("OPTIONS");
    let again = udp.request("OPTIONS");
    assert!(!asked.contains(&format!("127.0.0.1:{sip};")) && again.contains(&format!("127.0.0.1:{sip};")), "{again}");
    assert!(out.contains("OK    trunk testphone at udp") && out.contains("FAIL  trunk silent at udp"), "{out}");
    assert!(out.contains("      -> ") && out.lines().last().unwrap().contains("3 FAIL"), "{out}");
}

/// Beside a running gateway nothing is bound and no trunk is asked: the gateway knows.
#[test]
fn a_running_gateway_is_asked() {
    let (udp, silent, sip) = (Uas::udp(), UdpSocket::bind("127.0.0.1:0").unwrap(), free_port());
    let trunks = format!(
        "[trunk.testphone]\naddress = \"{}\"\n[trunk.silent]\naddress = \"{}\"\n",
        udp.address,
        silent.local_addr().unwrap()
    );
    let house = House::new(&sections(sip, 25_100, &trunks));
    let _gateway = Gateway::configured(&house.file);
    let begun = Instant::now();
    let found = loop {
        let (_, found) = house.report();
        assert!(begun.elapsed() < PATIENCE, "{found:#?}");
        let down = found.iter().any(|one| one["subject"] == "trunk silent" && one["verdict"] == "fail");
        let up = found.iter().any(|one| one["subject"] == "trunk testphone" && one["verdict"] == "ok");
        if down && up {
            break found;
        }
    };
    is(about(&found, "gateway"), "ok", "runs as process");
    for key in ["[http] listen", "[sip] udp", "[sip] tcp", "[media] browser"] {
        is(about(&found, key), "ok", "bound by the running gateway");
    }
    let texts: Vec<&str> = found.iter().filter_map(|one| one["text"].as_str()).collect();
    assert!(texts.iter().any(|text| text.contains("the limit of the running gateway")), "{texts:?}");
}

#[test]
fn a_broken_configuration_is_the_first_finding() {
    let house = House::new("[http]\nlissten = \"x\"\n");
    let (code, found) = house.report();
    assert_eq!((code, found.len()), (Some(1), 1));
    is(&found[0], "fail", "ringback.toml:2:1");
}

/// coturn as it comes from Debian; killed in the end.
struct Coturn(Child);

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Coturn {
    fn start(port: u16, folder: &std::path::Path) -> Coturn {
        let file = |name: &str| folder.join(name).display().to_string();
        let mut child = Command::new("turnserver")
            .args(["-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--min-port=42200", "--max-port=42219"])
            .args(["--use-auth-secret", "--static-auth-secret=the secret of both", "--realm=turn.example"])
            .args(["--no-cli", "--no-tls", "--no-dtls", "--verbose", "--log-file=stdout"])
            .args([format!("--listening-port={port}"), format!("--pidfile={}", file("pid"))])
            .arg(format!("--userdb={}", file("db")))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("coturn is installed");
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut lines = out.lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("TCP listener opened on")), "coturn does not start");
        // What it says later is read, so that it never waits for us.
        std::thread::Builder::new().spawn(move || lines.for_each(drop)).unwrap();
        Coturn(child)
    }
}

/// A TURN server is asked for an allocation with the credentials that browsers get; with another secret it is told.
#[test]
fn a_turn_server_is_tried_with_the_credentials_of_browsers() {
    let (udp, port) = (Uas::udp(), free_port());
    let house = |secret: &str| {
        let turn = format!(
            "[turn]\nurls = [\"turn:127.0.0.1:{port}?transport=udp\", \"turn:127.0.0.1:{port}?transport=tcp\", \
             \"stun:127.0.0.1:{port}\"]\nsecret = \"{secret}\"\n[trunk.testphone]\naddress = \"{}\"\n",
            udp.address
        );
        House::new(&sections(0, 25_200, &turn))
    };
    let good = house("the secret of both");
    let turn = Coturn::start(port, good.dir.path());
    let (_, found) = good.report();
    for way in ["udp", "tcp"] {
        is(about(&found, &format!("[turn] turn:127.0.0.1:{port}?transport={way}")), "ok", "relays at 127.0.0.1:422");
    }
    is(about(&found, "[turn] stun:"), "ok", "sees us at 127.0.0.1");
    let (code, found) = house("another secret, as long").report();
    let refused = about(&found, "[turn] turn:");
    assert_eq!(code, Some(1));
    is(refused, "fail", "refuses with 401");
    assert!(refused["remedy"].as_str().unwrap().contains("static-auth-secret"), "{refused}");
    drop(turn);
    let (_, found) = good.report();
    is(about(&found, &format!("[turn] turn:127.0.0.1:{port}?transport=udp")), "fail", "");
}
