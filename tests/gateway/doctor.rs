//! `ringback doctor`: what it finds where all is well, and what it says to change where something is broken in truth.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Gateway, PATIENCE, output, reply, ringback};
use crate::transports::certificate;
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
    fn start(port: u16, folder: &Path) -> Coturn {
        Coturn::start_with(port, folder, &["--no-tls"])
    }

    /// With more arguments: those for TLS.
    fn start_with(port: u16, folder: &Path, more: &[&str]) -> Coturn {
        let file = |name: &str| folder.join(name).display().to_string();
        let mut child = Command::new("turnserver")
            .args(["-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--min-port=42200", "--max-port=42219"])
            .args(["--use-auth-secret", "--static-auth-secret=the secret of both", "--realm=turn.example"])
            .args(["--no-cli", "--no-dtls", "--verbose", "--log-file=stdout"])
            .args([format!("--listening-port={port}"), format!("--pidfile={}", file("pid"))])
            .arg(format!("--userdb={}", file("db")))
            .args(more)
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

/// OPTIONS over TLS, with the trust that the trunk's section gives; what fails says why.
#[test]
fn trunks_are_asked_over_tls_and_their_certificates_judged() {
    let (pem, _, config) = certificate("pbx.example");
    let peer = Uas::stream(Some(config));
    let trunk = |name: &str, keys: &str| {
        format!("[trunk.{name}]\naddress = \"{}\"\ntransport = \"tls\"\n{keys}\n", peer.address)
    };
    let trunks = [
        trunk("testphone", "tls_ca = \"ca.pem\"\ntls_name = \"pbx.example\""),
        trunk("unknown", "tls_name = \"pbx.example\""),
        trunk("anyone", "tls_verify = false"),
    ];
    let house = House::new(&sections(0, 25_300, &trunks.concat()));
    fs::write(house.dir.path().join("ca.pem"), pem).unwrap();
    let (code, found) = house.report();
    assert_eq!(code, Some(1));
    is(about(&found, "trunk testphone at tls"), "ok", "answers OPTIONS with 200");
    is(about(&found, "trunk anyone at tls"), "ok", "answers OPTIONS with 200");
    let refused = about(&found, "trunk unknown at tls");
    is(refused, "fail", "no TLS connection");
    assert!(refused["remedy"].as_str().unwrap().contains("tls_ca"), "{refused}");
}

/// `turns:` as browsers use it: the certificate must be one that the system trusts.
#[test]
fn a_turn_server_is_tried_over_tls() {
    let (udp, port, secure) = (Uas::udp(), free_port(), free_port());
    let (pem, key, _) = certificate("localhost");
    let url = format!("turns:localhost:{secure}?transport=tcp");
    let turn = format!(
        "[turn]\nurls = [\"{url}\"]\nsecret = \"the secret of both\"\n[trunk.testphone]\naddress = \"{}\"\n",
        udp.address
    );
    let house = House::new(&sections(0, 25_400, &turn));
    let path = |name: &str| house.dir.path().join(name).display().to_string();
    fs::write(path("cert.pem"), pem).unwrap();
    fs::write(path("key.pem"), key).unwrap();
    let more = [
        format!("--tls-listening-port={secure}"),
        format!("--cert={}", path("cert.pem")),
        format!("--pkey={}", path("key.pem")),
    ];
    let _turn = Coturn::start_with(port, house.dir.path(), &more.each_ref().map(String::as_str));
    let ask = |roots: Option<&str>| {
        let mut doctor = ringback(&["--config", house.file.to_str().unwrap(), "doctor", "--json"]);
        doctor.envs(roots.map(|roots| ("SSL_CERT_FILE", path(roots))));
        let report: Value = serde_json::from_slice(&doctor.output().unwrap().stdout).unwrap();
        about(report["findings"].as_array().unwrap(), &format!("[turn] {url}")).clone()
    };
    // Its TLS listener may open a moment after the first one.
    let begun = Instant::now();
    let found = loop {
        let found = ask(Some("cert.pem"));
        if found["verdict"] == "ok" || begun.elapsed() > PATIENCE {
            break found;
        }
    };
    is(&found, "ok", "relays at 127.0.0.1:422");
    let strange = ask(None);
    assert_eq!(strange["verdict"], "fail", "{strange}");
}

/// The places of records and what the limits count: asked, or as the running gateway knows them.
#[test]
fn stores_are_looked_at_with_and_without_a_gateway() {
    let udp = Uas::udp();
    let trunk = format!(
        "[trunk.testphone]\naddress = \"{}\"\n[cdr]\nsqlite = \"cdr.sqlite\"\n\
         postgres = \"postgres://ringback@127.0.0.1:{}/none\"\n[store]\npath = \"store.db\"\n",
        udp.address,
        free_port()
    );
    let house = House::new(&sections(0, 25_500, &trunk));
    let (_, found) = house.report();
    is(about(&found, "[cdr] postgres"), "fail", "");
    assert!(about(&found, "[store] path")["text"].as_str().unwrap().contains("MiB free"));
    let _gateway = Gateway::configured(&house.file);
    let (_, found) = house.report();
    is(about(&found, "[cdr] sqlite"), "ok", "0 records written");
    is(about(&found, "[cdr] postgres"), "ok", "0 records written");
    is(about(&found, "[store] path"), "ok", "is written");
}

/// A trunk whose clock is an hour behind ours.
fn an_hour_behind() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let answers = socket.try_clone().unwrap();
    let mut date = Command::new("date");
    date.args(["-u", "-d", "1 hour ago", "+%a, %d %b %Y %H:%M:%S GMT"]).env("LC_ALL", "C");
    let date = String::from_utf8(date.output().unwrap().stdout).unwrap();
    let rest = format!("Date: {}\r\nContent-Length: 0\r\n\r\n", date.trim());
    let serve = move || {
        let mut buffer = [0; 65_536];
        while let Ok((len, from)) = answers.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            let _ = answers.send_to(reply(&text, "200 OK", &rest).as_bytes(), from); // nobody may wait any more
        }
    };
    std::thread::Builder::new().spawn(serve).unwrap();
    socket
}

/// What only a look from outside shows to be wrong: an address that is another's, a certificate that is over, a clock; and
/// that nothing bounds what a stolen password costs.
#[test]
fn a_foreign_address_an_old_certificate_a_wrong_clock_and_no_limits_are_found() {
    let (trunk, port) = (an_hour_behind(), free_port());
    let secret = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["phone.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let sections = format!(
        "[turn]\nurls = [\"stun:127.0.0.1:{port}\"]\nsecret = \"the secret of both\"\n\
         [trunk.testphone]\naddress = \"{}\"\n",
        trunk.local_addr().unwrap()
    );
    let sections = self::sections(0, 25_800, &sections)
        .replace("[media]\n", "[media]\nadvertise = [\"203.0.113.5\"]\n")
        .replace("[http]\n", "[http]\ntls_certificate = \"cert.pem\"\ntls_key = \"key.pem\"\n");
    let house = House::new(&sections);
    fs::write(house.dir.path().join("cert.pem"), params.self_signed(&secret).unwrap().pem()).unwrap();
    fs::write(house.dir.path().join("key.pem"), secret.serialize_pem()).unwrap();
    let _turn = Coturn::start(port, house.dir.path());
    let (code, found) = house.report();
    assert_eq!(code, Some(1));
    let address = about(&found, "[media] advertise 203.0.113.5");
    is(address, "warn", "a STUN server sees us at 127.0.0.1");
    assert!(address["remedy"].as_str().unwrap().contains("If 127.0.0.1 is the public address"), "{address}");
    is(about(&found, "[http] tls_certificate"), "fail", "has expired");
    let clock = about(&found, "clock");
    is(clock, "fail", "s away from that of trunk testphone");
    let off: u64 = clock["text"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((3_600..3_660).contains(&off), "{clock}");
    for section in ["[limits.user]", "[limits.gateway]", "[store]"] {
        is(about(&found, section), "warn", "is not set");
    }
    // Named by the check too, which is good all the same; and by nobody once they are set.
    let check = |house: &House| output(&["--config", house.file.to_str().unwrap(), "check"]);
    let (code, out, _) = check(&house);
    assert_eq!((code, out.matches("warning: ").count()), (Some(0), 3), "{out}");
    let limits = "[limits.user]\ncalls = 2\n[limits.trunk.testphone]\ncalls = 9\n[store]\npath = \"store.db\"\n";
    fs::write(&house.file, format!("{sections}{limits}")).unwrap();
    let (code, out, _) = check(&house);
    assert_eq!((code, out.matches("warning: ").count()), (Some(0), 0), "{out}");
}
