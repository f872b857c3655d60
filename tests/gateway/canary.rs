//! `ringback trunk test` on a running gateway: against the test phone's echo and its digit reader, an echo that loses a
//! digit, a line on which nothing is heard, and numbers that are not called.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use ringback::testphone::{Config, TestPhone};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::support::{Gateway, output, reply};
use crate::uas::Uas;

const PLAN: &str = "[plan]\nname = \"canary\"\ndefault = \"deny\"\n[numbering]\ncountry = \"44\"\nemergency = [\"999\"]\n\
    short = \"60X\"\n[[out]]\nname = \"emergency\"\nnumber = [\"999\"]\ntiers = [[\"carrier\"]]\n\
    [[out]]\nname = \"premium\"\nprefix = \"+449\"\nreject = { code = 403, reason = \"Premium\" }\n";

/// A gateway with one trunk.
struct House {
    dir: TempDir,
    gateway: Gateway,
}

impl House {
    fn open(ports: u16, sip: u16, trunk: SocketAddr, more: &str) -> House {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("dialplans")).unwrap();
        fs::write(dir.path().join("dialplans/plan.toml"), PLAN).unwrap();
        let config = format!(
            "[sip]\nudp = [\"127.0.0.1:{sip}\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
             rtp_ports = \"{ports}-{}\"\n[auth]\nopen = true\n[control]\nsocket = \"control.sock\"\n\
             [trunk.carrier]\naddress = \"{trunk}\"\noptions = 0\nnumber_format = \"as-dialled\"\n{more}",
            ports + 99
        );
        let file = dir.path().join("ringback.toml");
        fs::write(&file, config).unwrap();
        let gateway = Gateway::configured(&file);
        House { dir, gateway }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    /// Exit code and answer.
    fn test(&self, number: &str, json: bool) -> (Option<i32>, String) {
        let socket = self.socket();
        let mut arguments = vec!["trunk", "test", "carrier", number, "--socket", socket.to_str().unwrap()];
        arguments.extend(json.then_some("--json"));
        let (code, out, err) = output(&arguments);
        (code, if out.is_empty() { err } else { out })
    }

    fn tested(&self, number: &str) -> (Option<i32>, Value) {
        let (code, text) = self.test(number, true);
        (code, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }
}

/// A port that is free at this moment.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A gateway whose trunk is a test phone: echo and digit reader.
fn at_the_test_phone(ports: u16) -> (Runtime, TestPhone, House) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let sip = free_port();
    let gateway = SocketAddr::from(([127, 0, 0, 1], sip));
    let config = Config { sip_bind: "127.0.0.1:0".parse().unwrap(), gateway, canary: None };
    let phone = runtime.block_on(TestPhone::start(config)).unwrap();
    let house = House::open(ports, sip, phone.sip_address(), "");
    (runtime, phone, house)
}

fn verdict<'a>(answer: &'a Value, subject: &str) -> &'a Value {
    let findings = answer["findings"].as_array().unwrap();
    &findings.iter().find(|finding| finding["subject"] == subject).unwrap_or(&Value::Null)["verdict"]
}

#[test]
fn an_echo_is_measured_by_a_call_that_is_nobodys() {
    let (runtime, phone, house) = at_the_test_phone(26_000);
    let (code, answer) = house.tested("600");
    assert_eq!(code, Some(0), "{answer}");
    for subject in ["call", "codec", "sound from there", "echo"] {
        assert_eq!(verdict(&answer, subject), "ok", "{subject}: {answer}");
    }
    assert_eq!(verdict(&answer, "digits"), "untested", "the phone's echo returns none: {answer}");
    let (delay, ratio) = (&answer["echo"]["delay_ms"], &answer["echo"]["ratio_db"]);
    assert!(delay.as_f64().is_some_and(|ms| (40.0..400.0).contains(&ms)), "{answer}");
    assert!(ratio.as_f64().is_some_and(|db| db.abs() < 3.0), "{answer}");
    assert_eq!(answer["codec"], "PCMU");
    let cdr = house.gateway.cdr();
    assert_eq!((&cdr["user"], &cdr["rule"]), (&json!("(trunk test)"), &json!("(trunk test)")));
    let tried = cdr["trunks"].as_array().unwrap();
    assert!(tried.len() == 1 && tried[0]["trunk"] == "carrier" && tried[0]["result"] == "answered", "{tried:?}");
    assert_eq!((&cdr["call"], &cdr["cause"]), (&answer["call"], &json!("normal")));
    runtime.block_on(phone.stop());
}

#[test]
fn digits_that_are_read_back_are_found_in_their_order() {
    let (runtime, phone, house) = at_the_test_phone(26_100);
    let (code, text) = house.test("602", false);
    assert!(
        code == Some(0) && text.contains("OK    digits: 0123456789*# were sent, and 0123456789* came back as tones"),
        "{text}"
    );
    runtime.block_on(phone.stop());
}

/// A SIP peer that returns each RTP packet, but those of one digit.
fn echo_that_loses(event: u8) -> SocketAddr {
    let (sip, rtp) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (address, media) = (sip.local_addr().unwrap(), rtp.local_addr().unwrap());
    let serve = move || {
        let mut buffer = [0; 65_536];
        while let Ok((len, from)) = sip.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            let rest = if text.starts_with("INVITE") {
                let sdp = format!(
                    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP 8 101\r\n\
                     a=rtpmap:101 telephone-event/8000\r\n",
                    media.port()
                );
                let length = sdp.len();
                format!(
                    "Contact: <sip:uas@{address}>\r\nContent-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{sdp}"
                )
            } else {
                "Content-Length: 0\r\n\r\n".to_owned()
            };
            if !text.starts_with("ACK") && !text.starts_with("SIP/2.0") {
                let _ = sip.send_to(reply(&text, "200 OK", &rest).as_bytes(), from); // the gateway may be gone
            }
        }
    };
    std::thread::Builder::new().spawn(serve).unwrap();
    let echo = move || {
        rtp.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let mut packet = [0; 2048];
        while let Ok((len, from)) = rtp.recv_from(&mut packet) {
            let lost = packet[1] & 0x7f == 101 && packet[12] == event;
            packet[8..12].copy_from_slice(b"echo"); // a stream of its own
            if !lost {
                let _ = rtp.send_to(&packet[..len], from);
            }
        }
    };
    std::thread::Builder::new().spawn(echo).unwrap();
    address
}

#[test]
fn a_digit_that_is_lost_is_a_failure_that_says_what_to_change() {
    let house = House::open(26_200, free_port(), echo_that_loses(5), "");
    let (code, answer) = house.tested("+442079460000");
    assert_eq!((code, verdict(&answer, "digits")), (Some(1), &json!("fail")), "{answer}");
    assert_eq!(answer["digits"], json!({"sent": "0123456789*#", "received": "012346789*#", "as": "events"}));
    assert_eq!((verdict(&answer, "echo"), &answer["codec"]), (&json!("ok"), &json!("PCMA")), "{answer}");
}

#[test]
fn a_line_without_sound_is_a_failure_and_some_numbers_are_not_called() {
    let uas = Uas::udp();
    let house = House::open(26_300, free_port(), uas.address, "[limits.trunk.carrier]\ncalls_per_minute = 1\n");
    let (code, text) = house.test("+442079460000", false);
    assert!(code == Some(1) && text.contains("FAIL  sound from there: answered, but no sound came"), "{text}");
    assert!(text.contains("-> look at the firewall before `[media] rtp_ports`"), "{text}");
    assert!(uas.request("INVITE").starts_with("INVITE sip:+442079460000@"), "as the plan means it");
    uas.request("BYE");
    for (number, why) in [
        ("999", "emergency"),
        ("+449012345678", "premium"),
        ("+442079460000", "ringback limits"), // the trunk's second in a minute
    ] {
        let (code, text) = house.test(number, false);
        assert!(code == Some(1) && text.contains(why), "{number}: {text}");
    }
    assert_eq!(uas.heard(), Vec::<String>::new());
    let socket = house.socket();
    let (code, _, err) = output(&["trunk", "test", "elsewhere", "600", "--socket", socket.to_str().unwrap()]);
    assert!(code == Some(1) && err.contains("no trunk of that name"), "{err}");
}
