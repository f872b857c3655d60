//! Peers that are gone, refuse or attack: trunks, registrars, web hooks, a database, guessers and a flood.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::strace::Fault;
use crate::support::{Browser, Gateway, http_request};
use crate::{Setup, Site, TOKEN, free_port, refuses};

#[test]
fn trunks_web_hooks_records_and_strangers() {
    // Nobody listens there: what is to be sent waits.
    let (nobody, refusing) = (format!("127.0.0.2:{}", free_port()), hook("422 No"));
    let (failing, unregistered) = (refuses("503 Out of Order"), refuses("403 Who Are You"));
    let sections = format!(
        "[trunk.good]\naddress = \"nowhere.invalid\"\n[trunk.failing]\naddress = \"{failing}\"\noptions = 0\n\
         [trunk.stranger]\naddress = \"{unregistered}\"\nuser = \"us\"\npassword = \"secret-of-us\"\nregister = true\noptions = 0\n\
         [registrar]\nrealm = \"lab\"\n[registrar.users.desk]\npassword = \"secret-of-the-desk\"\n\
         [[webhook]]\nurl = \"http://{nobody}/\"\nsecret = \"{TOKEN}\"\n\
         [[webhook]]\nurl = \"http://{refusing}/\"\nsecret = \"{TOKEN}\"\n\
         [cdr]\nfile = \"-\"\nqueue = 100\npostgres = \"postgres://ringback@127.0.0.1:{}/cdr\"\n",
        free_port()
    );
    let sip = "tls = [\"127.0.0.1:0\"]\ntls_certificate = \"cert.pem\"\ntls_key = \"key.pem\"";
    let setup = Setup { ports: "26000-26799", sip, media: "", sections: &sections };
    let site = Site::open(&setup, soon_over, Gateway::configured);
    let prometheus = &site.prometheus;
    for alert in ["TrunkDown", "TrunkUnregistered", "CertificateExpires"] {
        prometheus.fires(&format!("Ringback{alert}"));
    }
    let mut bob = Browser::of(&site.gateway, "bob");
    let mut failed = 0_u32;
    let mut fail = || {
        failed += 1;
        bob.call(&format!("f{failed}"), "601");
        bob.expect("ended");
    };
    for alert in ["TrunkFailing", "WebhookLost", "WebhookWaiting"] {
        prometheus.fires_while(&format!("Ringback{alert}"), &mut fail);
    }
    // There is no such database: the records of all these calls wait, until there is no more room for them.
    prometheus.fires("RingbackCdrWaiting");
    prometheus.fires_while("RingbackCdrLost", &mut fail);
    what_is_lost_stands_in_the_log(&site);

    // Who guesses is slowed by his address: the flood comes from another one.
    let phone = UdpSocket::bind("127.0.0.3:0").unwrap();
    let mut authorization = String::new();
    prometheus.fires_while("RingbackGuessing", || guess(&phone, site.sip, prometheus.begun, &mut authorization));

    // The driver's part of a machine that has too much to do: each answer takes 1 ms. Then a flood comes.
    let slow = Fault::at(&site.gateway.pid().to_string(), "sendto:delay_exit=1000");
    prometheus.fires_while("RingbackQueueFull", || flood(site.sip));
    drop(slow);
    prometheus.do_not_fire(&["Down", "WorkerDown", "Fault", "NoAudio", "PoorSound", "StoreFailing", "LimitTripped"]);
}

/// A record that found no room stands in the log whole, and who balances load is told.
fn what_is_lost_stands_in_the_log(site: &Site) {
    let line = site.gateway.logged(|line| line.contains("the CDR queue is full"));
    let json = line.split_once("cdr=").unwrap().1;
    let record: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!((&record["dialled"], &record["user"], &record["sip"]), (&"601".into(), &"bob".into(), &503.into()));
    assert_eq!(record["trunks"][0]["trunk"], "failing", "{record}");
    site.answers("/readyz", 200, r#"{"ready":true,"reasons":[],"warnings":["cdr_failing","cdr_full"]}"#);
}

/// A web hook's server that answers every delivery with that status.
fn hook(status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            if http_request(&mut stream).is_some() {
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        }
    };
    std::thread::Builder::new().spawn(serve).unwrap();
    address
}

/// A certificate that is good for a few days more, and its key.
fn soon_over(folder: &Path) {
    let secret = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["sip.example".to_owned()]).unwrap();
    let days = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400 + 3;
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(days * 86_400);
    fs::write(folder.join("cert.pem"), params.self_signed(&secret).unwrap().pem()).unwrap();
    fs::write(folder.join("key.pem"), secret.serialize_pem()).unwrap();
}

fn register(user: &str, ours: SocketAddr, port: u16, unique: u128, sequence: u32, authorization: &str) -> String {
    format!(
        "REGISTER sip:127.0.0.1:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {ours};branch=z9hG4bK{unique:x}{sequence}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@lab>;tag=g\r\nTo: <sip:{user}@lab>\r\nCall-ID: guess@{ours}\r\n\
         CSeq: {sequence} REGISTER\r\nContact: <sip:desk@{ours}>\r\n{authorization}Content-Length: 0\r\n\r\n"
    )
}

/// A phone that does not know its password, and goes on where it is not answered any more.
fn guess(phone: &UdpSocket, port: u16, begun: Instant, authorization: &mut String) {
    phone.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let ours = phone.local_addr().unwrap();
    for sequence in 1..=20 {
        let text = register("desk", ours, port, begun.elapsed().as_nanos(), sequence, authorization);
        phone.send_to(text.as_bytes(), ("127.0.0.1", port)).unwrap();
        let mut buffer = [0; 4096];
        let Ok(len) = phone.recv(&mut buffer) else { continue };
        let answer = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let nonce = answer.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next());
        if let Some(nonce) = nonce {
            *authorization = format!(
                "Authorization: Digest username=\"desk\", realm=\"lab\", nonce=\"{nonce}\", uri=\"sip:127.0.0.1:{port}\", \
                 response=\"00000000000000000000000000000000\", algorithm=MD5\r\n"
            );
        }
    }
}

/// More requests than may wait for the driver, as fast as they are taken.
fn flood(port: u16) {
    let phone = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ours = phone.local_addr().unwrap();
    let unique = Instant::now();
    for sequence in 1..=6_000 {
        let text =
            register("nobody", ours, port, u128::from(sequence) << 64 | unique.elapsed().as_nanos(), sequence, "");
        let _ = phone.send_to(text.as_bytes(), ("127.0.0.1", port)); // what the system drops is part of a flood
    }
}
