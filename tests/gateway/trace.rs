//! What was said about a call, as the operator and a collector see it: `ringback trace`, `[trace]`, `[hep]`, and numbers in the log.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;

use crate::sip_websocket::{open, request, until};
use crate::support::{Browser, Gateway, OFFER, PATIENCE, output, ringback};
use crate::uas::Uas;

/// Of [`OFFER`].
const ICE_PASSWORD: &str = "2/1muCWoOi3uLifh0NuRHlIz";

/// A gateway with a trunk that answers everything.
struct Scene {
    gateway: Gateway,
    uas: Uas,
    dir: TempDir,
}

impl Scene {
    fn new(ports: u16, more: &str) -> Scene {
        let uas = Uas::udp();
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("dialplans")).unwrap();
        fs::write(dir.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
        let config = format!(
            "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
             rtp_ports = \"{ports}-{}\"\n[auth]\nopen = true\n[control]\nsocket = \"control.sock\"\n\
             [trunk.testphone]\naddress = \"{}\"\n{more}",
            ports + 99,
            uas.address
        );
        let file = dir.path().join("ringback.toml");
        fs::write(&file, config).unwrap();
        Scene { gateway: Gateway::configured(&file), uas, dir }
    }

    fn arguments<'a>(&self, rest: &[&'a str]) -> Vec<std::borrow::Cow<'a, str>> {
        let file = self.dir.path().join("ringback.toml").to_str().unwrap().to_owned();
        ["--config".into(), file.into(), "trace".into()].into_iter().chain(rest.iter().map(|it| (*it).into())).collect()
    }

    /// `ringback trace` with these arguments.
    fn trace(&self, rest: &[&str]) -> String {
        let arguments = self.arguments(rest);
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let (code, out, err) = output(&arguments);
        assert_eq!(code, Some(0), "{err}");
        out
    }

    /// The messages of a call, once one of them is labelled so.
    fn messages(&self, id: &str, until: &str) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let answer: Value = serde_json::from_str(&self.trace(&[id, "--json"])).unwrap();
            let messages = answer["messages"].as_array().unwrap().clone();
            if messages.iter().any(|message| label(message) == until) {
                return messages;
            }
            assert!(begun.elapsed() < PATIENCE, "no {until}: {:?}", messages.iter().map(label).collect::<Vec<_>>());
        }
    }

    /// Alice calls 600, and it is answered; the call's id.
    fn answered(&self, alice: &mut Browser) -> String {
        let begun = Instant::now();
        for attempt in 0.. {
            alice.call(&format!("c{attempt}"), "600");
            let mut id = None;
            loop {
                let message = alice.next().expect("the socket stays");
                id = message["id"].as_str().map(str::to_owned).or(id);
                match message["type"].as_str() {
                    Some("answered") => return id.expect("an id in `answer`"),
                    Some("ended") => break, // 503 at once: the trunk's name is still being looked up
                    _ => {}
                }
            }
            assert!(begun.elapsed() < PATIENCE, "no call");
        }
        unreachable!()
    }
}

/// Way, protocol and first words of a message.
fn label(message: &Value) -> String {
    let text = message["text"].as_str().unwrap();
    let way = if message["sent"] == true { ">" } else { "<" };
    let browser = message["by"] == "browser";
    let what = match browser {
        true => serde_json::from_str::<Value>(text).unwrap()["type"].as_str().unwrap().to_owned(),
        false => {
            let first = text.lines().next().unwrap();
            let cseq = text.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap();
            match first.strip_prefix("SIP/2.0 ") {
                Some(status) => format!("{} {}", &status[..3], cseq.split(' ').nth(1).unwrap()),
                None => first.split(' ').next().unwrap().to_owned(),
            }
        }
    };
    format!("{way} {} {what}", message["by"].as_str().unwrap())
}

/// The place of a label.
fn at(labels: &[String], wanted: &str) -> usize {
    labels.iter().position(|label| label == wanted).unwrap_or_else(|| panic!("no {wanted}: {labels:?}"))
}

#[test]
fn a_call_has_its_browser_and_its_trunk_on_one_ladder_without_secrets() {
    let scene = Scene::new(26_500, "");
    let mut alice = Browser::of(&scene.gateway, "alice");
    let id = scene.answered(&mut alice);
    scene.uas.request("ACK");
    let name = alice_calls(&scene, &id);
    alice.send(&serde_json::json!({"type": "hangup", "call": name}));
    assert_eq!(scene.gateway.cdr()["call"], *id, "one id everywhere");
    let messages = scene.messages(&id, "< udp 200 BYE");
    let labels: Vec<String> = messages.iter().map(label).collect();
    let places = [
        "< browser call",
        "> udp INVITE",
        "< udp 200 INVITE",
        "> udp ACK",
        "< browser hangup",
        "> udp BYE",
        "< udp 200 BYE",
    ]
    .map(|wanted| at(&labels, wanted));
    assert!(places.is_sorted() && places[0] == 0, "{labels:?}");
    for wanted in ["> browser answer", "> browser answered", "> browser ended"] {
        at(&labels, wanted);
    }
    let numbers: Vec<u64> = messages.iter().map(|message| message["n"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted());
    assert!(messages.iter().all(|message| message["remote"].is_string()), "everybody has an address");
    let shown = scene.trace(&[&id, "--full"]);
    assert!(
        shown.contains(" INVITE 600, SDP -") && shown.contains("- call 600 -") && shown.contains("- 200 OK (BYE) -"),
        "{shown}"
    );
    assert!(shown.contains("a=ice-pwd:***") && !shown.contains(ICE_PASSWORD), "{shown}");
    let listed = scene.trace(&[]);
    assert!(listed.lines().any(|line| line.starts_with(&id) && line.ends_with("over")), "{listed}");
}

/// The browser's name for a call.
fn alice_calls(scene: &Scene, id: &str) -> String {
    let messages = scene.messages(id, "< browser call");
    let text = messages[0]["text"].as_str().unwrap();
    serde_json::from_str::<Value>(text).unwrap()["call"].as_str().unwrap().to_owned()
}

/// It stands where nothing but a refusal came of a call; the log has no number.
#[test]
fn a_refused_call_is_kept_and_its_number_has_stars_in_the_log() {
    let scene = Scene::new(26_600, "");
    let mut alice = Browser::of(&scene.gateway, "alice");
    alice.call("c", "+442079460123");
    alice.expect("ended");
    let id = scene.gateway.cdr()["call"].as_str().unwrap().to_owned();
    let labels: Vec<String> = scene.messages(&id, "> browser ended").iter().map(label).collect();
    assert_eq!(labels, ["< browser call", "> browser ended"]);
    assert!(scene.trace(&[&id]).contains("- call +442079460123 -"), "the operator's own socket shows it");
    let line = scene.gateway.logged(|line| line.contains("a browser calls"));
    assert!(line.contains("+44********23") && line.contains(&id), "{line}");
}

#[test]
fn numbers_are_plain_in_the_log_where_that_is_wanted_and_the_log_is_json() {
    let scene = Scene::new(26_700, "[log]\nnumbers = \"plain\"\nformat = \"json\"\n");
    let mut alice = Browser::of(&scene.gateway, "alice");
    alice.call("c", "+442079460123");
    alice.expect("ended");
    let line = scene.gateway.logged(|line| line.contains("a browser calls"));
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(line["fields"]["to"], "+442079460123");
    assert_eq!(line["fields"]["call"], scene.gateway.cdr()["call"]);
}

#[test]
fn a_trace_is_followed_until_the_call_is_over() {
    let scene = Scene::new(26_800, "");
    let mut alice = Browser::of(&scene.gateway, "alice");
    let id = scene.answered(&mut alice);
    let name = alice_calls(&scene, &id);
    let arguments = scene.arguments(&[&id, "--follow", "--json"]);
    let mut command = ringback(&arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>());
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    alice.send(&serde_json::json!({"type": "hangup", "call": name}));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let labels: Vec<String> = lines.lines().map(|line| label(&serde_json::from_str(line).unwrap())).collect();
    assert!(at(&labels, "< browser call") < at(&labels, "< udp 200 BYE"), "{labels:?}");
    assert_eq!(labels.iter().filter(|label| *label == "> browser answered").count(), 1, "each once: {labels:?}");
}

/// A browser that speaks SIP: its dialog and the trunk's are one call's.
#[test]
fn sip_of_a_websocket_is_on_the_ladder_as_well() {
    let scene = Scene::new(26_900, "");
    let mut socket = open(&scene.gateway);
    let begun = Instant::now();
    let id = loop {
        let register = request("REGISTER", "alice", 1, "Expires: 600\r\nContent-Length: 0\r\n\r\n");
        socket.send(Message::text(register)).unwrap();
        until(&mut socket, "SIP/2.0 200");
        let rest = format!("Content-Type: application/sdp\r\n\r\n{OFFER}");
        socket.send(Message::text(request("INVITE", "+442079460123", 1, &rest))).unwrap();
        until(&mut socket, "SIP/2.0 4");
        let cdr = scene.gateway.cdr();
        if cdr["sip"] != 503 || begun.elapsed() > PATIENCE {
            break cdr["call"].as_str().unwrap().to_owned();
        }
    };
    let labels: Vec<String> = scene.messages(&id, "< ws INVITE").iter().map(label).collect();
    assert_eq!(at(&labels, "< ws INVITE"), 0, "{labels:?}");
    assert!(labels.iter().any(|label| label.starts_with("> ws 4")), "{labels:?}");
    assert!(!scene.trace(&[&id, "--full"]).contains(ICE_PASSWORD));
}

#[test]
fn no_more_calls_are_kept_than_are_wanted() {
    for (ports, kept) in [(27_000, 2), (27_100, 0)] {
        let scene = Scene::new(ports, &format!("[trace]\ncalls = {kept}\n"));
        let mut alice = Browser::of(&scene.gateway, "alice");
        let ids: Vec<String> = (0..3)
            .map(|n| {
                alice.call(&format!("c{n}"), "+442079460123");
                alice.expect("ended");
                scene.gateway.cdr()["call"].as_str().unwrap().to_owned()
            })
            .collect();
        let listed = scene.trace(&[]);
        let found: Vec<bool> = ids.iter().map(|id| listed.contains(id.as_str())).collect();
        assert_eq!(found, [false, kept == 2, kept == 2], "{listed}");
        let arguments = scene.arguments(&[&ids[0]]);
        let (code, _, err) = output(&arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        assert_eq!(code, Some(1));
        assert!(err.contains("[trace]"), "{err}");
    }
}

/// Opened by a program that knows nothing of us, with the addresses and times of the wire.
#[test]
fn a_capture_is_opened_by_tshark() {
    let scene = Scene::new(27_200, "");
    let mut alice = Browser::of(&scene.gateway, "alice");
    let id = scene.answered(&mut alice);
    let name = alice_calls(&scene, &id);
    alice.send(&serde_json::json!({"type": "hangup", "call": name}));
    let messages = scene.messages(&id, "< udp 200 BYE");
    let file = scene.dir.path().join("call.pcap");
    scene.trace(&[&id, "--pcap", file.to_str().unwrap()]);
    let said: Vec<Vec<String>> = messages.iter().filter_map(of_the_wire).collect();
    assert_eq!(decoded(&file, scene.uas.address.port(), true), said);
}

/// The chunks of a HEP packet, by their types.
fn chunks(packet: &[u8]) -> std::collections::BTreeMap<u16, Vec<u8>> {
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    assert_eq!((&packet[..4], usize::from(word(4))), (&b"HEP3"[..], packet.len()));
    let (mut at, mut found) = (6, std::collections::BTreeMap::new());
    while at < packet.len() {
        assert_eq!(word(at), 0, "a generic chunk");
        let end = at + usize::from(word(at + 4));
        found.insert(word(at + 2), packet[at + 6..end].to_vec());
        at = end;
    }
    found
}

#[test]
fn a_collector_is_sent_the_sip_of_calls() {
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    collector.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = collector.local_addr().unwrap();
    let more = format!("[hep]\naddress = \"{address}\"\npassword = \"hep-s3cret\"\ncapture_id = 77\n");
    let scene = Scene::new(27_300, &more);
    let mut alice = Browser::of(&scene.gateway, "alice");
    let id = scene.answered(&mut alice);
    let mut buffer = [0; 65_536];
    let packet = loop {
        let length = collector.recv(&mut buffer).expect("a packet");
        let found = chunks(&buffer[..length]);
        if found[&0x11] == id.as_bytes() {
            break found;
        }
    };
    let text = String::from_utf8(packet[&0x0f].clone()).unwrap();
    assert!(text.starts_with("INVITE sip:600@"), "{text}");
    assert_eq!(
        (packet[&0x01].as_slice(), packet[&0x02].as_slice(), packet[&0x0b].as_slice()),
        (&[2][..], &[17][..], &[1][..])
    );
    assert_eq!((packet[&0x03].as_slice(), packet[&0x04].as_slice()), (&[127, 0, 0, 1][..], &[127, 0, 0, 1][..]));
    assert_eq!(packet[&0x08], scene.uas.address.port().to_be_bytes());
    assert_eq!((packet[&0x0c].as_slice(), packet[&0x0e].as_slice()), (&77_u32.to_be_bytes()[..], &b"hep-s3cret"[..]));
    let sent =
        scene.messages(&id, "> udp INVITE").into_iter().find(|message| label(message) == "> udp INVITE").unwrap();
    let seconds = u32::try_from(sent["at"].as_u64().unwrap() / 1_000_000).unwrap();
    assert_eq!(packet[&0x09], seconds.to_be_bytes());
}

/// A collector that knows nothing of us (sngrep), which takes only what has its password.
struct Sngrep(Child);

impl Sngrep {
    /// Listens there once this returns.
    fn listen(port: u16, password: &str, dir: &TempDir) -> Sngrep {
        fs::write(dir.path().join("sngreprc"), format!("set eep.listen.pass {password}\n")).unwrap();
        let child = Command::new("sngrep")
            .args(["-f", "sngreprc", "-N", "-q", "-O", "hep.pcap", "-L", &format!("udp:127.0.0.1:{port}")])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("sngrep (Debian package sngrep)");
        let (bound, file) = (format!("0100007F:{port:04X}"), dir.path().join("hep.pcap"));
        let begun = Instant::now();
        // It opens its file after its socket, and until then keeps nothing.
        while !file.exists() || !fs::read_to_string("/proc/net/udp").unwrap().contains(&bound) {
            assert!(begun.elapsed() < PATIENCE, "sngrep does not listen");
            std::thread::yield_now();
        }
        Sngrep(child)
    }
}

impl Drop for Sngrep {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// HEP version 3 of a whole call, decoded by another program: addresses, times and SIP are those of the wire. Its password is
/// asked for: what has another is dropped.
#[test]
fn a_collector_of_others_reads_what_is_sent() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let hep = |password| format!("[hep]\naddress = \"127.0.0.1:{port}\"\npassword = \"{password}\"\ncapture_id = 77\n");
    let scene = Scene::new(27_400, &hep("hep-s3cret"));
    let collector = Sngrep::listen(port, "hep-s3cret", &scene.dir);
    let mut alice = Browser::of(&scene.gateway, "alice");
    let id = scene.answered(&mut alice);
    let name = alice_calls(&scene, &id);
    alice.send(&serde_json::json!({"type": "hangup", "call": name}));
    let said: Vec<Vec<String>> = scene.messages(&id, "< udp 200 BYE").iter().filter_map(of_the_wire).collect();
    let begun = Instant::now();
    let mut read = Vec::new();
    while read.len() < said.len() {
        assert!(begun.elapsed() < PATIENCE, "{read:?} of {said:?}");
        read = decoded(&scene.dir.path().join("hep.pcap"), scene.uas.address.port(), false);
    }
    assert_eq!(read, said);

    drop(collector);
    let other = TempDir::new().unwrap();
    let _collector = Sngrep::listen(port, "another", &other);
    let id = scene.answered(&mut alice);
    scene.messages(&id, "> udp ACK");
    // The pipe is empty: it has looked at everything.
    let waits = format!("0100007F:{port:04X} 00000000:0000 07 00000000:00000000");
    while !fs::read_to_string("/proc/net/udp").unwrap().contains(&waits) {
        assert!(begun.elapsed() < PATIENCE, "sngrep does not read");
    }
    assert_eq!(decoded(&other.path().join("hep.pcap"), scene.uas.address.port(), false), Vec::<Vec<String>>::new());
}

/// A SIP message as [`decoded`] tells it.
fn of_the_wire(message: &Value) -> Option<Vec<String>> {
    let text = message["text"].as_str()?;
    let mut ends = ["local", "remote"].map(|key| message[key].as_str().unwrap_or_default().replace(':', "\t"));
    if message["by"] != "udp" {
        return None;
    }
    if message["sent"] != true {
        ends.reverse();
    }
    let micros = message["at"].as_u64()?;
    let cseq = text.lines().find_map(|line| line.strip_prefix("CSeq: "))?;
    let status = text.strip_prefix("SIP/2.0 ").map_or("", |rest| &rest[..3]);
    let time = format!("{}.{:06}000", micros / 1_000_000, micros % 1_000_000);
    let all = [time.as_str(), &ends[0], &ends[1], cseq, status, ""].join("\t");
    Some(all.split('\t').map(str::to_owned).collect())
}

/// What a capture has, by tshark: time, addresses and ports of both ends, CSeq, status, and whether it is malformed. Where
/// checksums are looked at, packets whose checksum is wrong are left out.
fn decoded(capture: &Path, port: u16, checksums: bool) -> Vec<Vec<String>> {
    let fields = [
        "frame.time_epoch",
        "ip.src",
        "udp.srcport",
        "ip.dst",
        "udp.dstport",
        "sip.CSeq",
        "sip.Status-Code",
        "_ws.malformed",
    ];
    let mut tshark = Command::new("tshark");
    tshark.args(["-d", &format!("udp.port=={port},sip"), "-r"]).arg(capture).args(["-T", "fields"]);
    if checksums {
        tshark.args(["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
        tshark.args(["-Y", "ip.checksum.status == 1 && udp.checksum.status == 1"]);
    }
    let output =
        tshark.args(fields.iter().flat_map(|field| ["-e", field])).output().expect("tshark (Debian package tshark)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}
