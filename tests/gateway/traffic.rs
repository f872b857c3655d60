//! What befalls a gateway while calls are talking: disks, databases, limits and certificates. Every call is listened to at
//! both ends throughout, and what the operator is told is asked for as he would ask.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::cdr::{Server, lines, place, refused, rows, wait, wait_written};
use crate::full_disk::hook;
use crate::peer::gateway::free_port;
use crate::peer::{Browser, Codecs};
use crate::reload::{Folder, any_certificate, connect, get, until};
use crate::sipp::Setup;
use crate::support::{Browser as Bare, Gateway, PATIENCE, fill};
use crate::talk::{Line, Phones, Witness, all_hear, all_leave, door, pages};

/// Calls that talk all the time.
const CALLS: u16 = 4;
/// Party numbers of those that come and go.
const PASSING: u16 = 10;

/// A call that comes while something is wrong is heard as well as those that stand.
async fn passes(line: &mut Line, page: Browser, n: u16) {
    let mut talk = line.talk(page, n).await;
    talk.hang_up().await;
    talk.leave().await;
}

fn is_ready(gateway: &Gateway, warnings: &[&str]) -> bool {
    let (status, body) = get(gateway.port(), "/readyz");
    let told: Value = serde_json::from_str(&body).unwrap();
    let none = Vec::new();
    let told = told["warnings"].as_array().unwrap_or(&none);
    status == 200 && told.iter().map(|warning| warning.as_str().unwrap()).eq(warnings.iter().copied())
}

fn counts(gateway: &Gateway, series: &str) -> bool {
    get(gateway.port(), "/metrics").1.lines().any(|line| line == series)
}

/// First the disk is full, on which everything is that the gateway writes, then the database is gone; then somebody calls too
/// much. No call hears anything of it, and every record and event is there in the end, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_hear_nothing_of_a_full_disk_a_lost_database_and_limits_that_trip() {
    let (mut server, port) = (Server::new(), free_port());
    server.start();
    let (phones, witness) = (Phones::new(CALLS + 2).await, Witness::start());
    let sections = format!(
        "[cdr]\nfile = \"small/cdr.jsonl\"\nsqlite = \"small/cdr.sqlite\"\n{}waiting = \"waiting\"\n\
         [journal]\nfile = \"small/calls.journal\"\n[store]\npath = \"small/store.db\"\n[events]\nspool = \"small/events\"\n\
         [[webhook]]\nurl = \"http://127.0.0.1:{port}/\"\nevents = [\"call.ended\", \"limit.*\"]\n\
         secret = \"0123456789abcdef0123456789abcdef\"\n[limits.user]\ncalls = 1\nminutes_per_day = 600\n\
         [trunk.testphone]\noptions = 0",
        server.keys()
    );
    let folder = Folder::new(phones.address(), "", 28_000).with("[trunk.testphone]", &sections);
    let gateway = Gateway::on_a_small_disk(&folder.file(), &folder.dir.path().join("small"));
    let seen = |name: &str| gateway.sees(&folder.dir.path().join("small").join(name));
    // Before the first call: else a file's last page has room for the notes of some.
    fill(&seen("filler"));
    let mut line = phones.answer(&gateway).await;
    let mut talks = line.talks(pages(&gateway, 0..CALLS).await, 0).await;
    let mut calls = usize::from(CALLS);
    let mut bare = Bare::of(&gateway, "bare");

    passes(&mut line, pages(&gateway, PASSING..PASSING + 1).await.remove(0), PASSING).await;
    calls += 1;
    let file = folder.file();
    let fails = |kind: &str| !place(&file, kind)["failing_since"].is_null();
    while !(fails("file") && fails("sqlite")) {
        refused(&mut bare, &format!("disk{calls}"));
        calls += 1;
        assert!(calls < 1000, "the disk is not full");
    }
    until("all warnings", || is_ready(&gateway, &["cdr_failing", "store_failing", "journal_failing"]));
    until("the journal's trouble", || gateway.has_logged("the journal cannot be written"));
    all_hear("while the disk was full", &mut talks, &witness);
    fs::remove_file(seen("filler")).unwrap();
    until("no warning", || is_ready(&gateway, &[]));
    until("the journal", || gateway.has_logged("the journal is written again"));
    all_hear("as there was room again", &mut talks, &witness);

    server.stop();
    passes(&mut line, pages(&gateway, PASSING + 1..PASSING + 2).await.remove(0), PASSING + 1).await;
    (0..3).for_each(|call| refused(&mut bare, &format!("base{call}")));
    calls += 4;
    let waits = |place: &Value| !place["failing_since"].is_null() && place["waiting"] == 4;
    wait(&file, "postgres", "failing", waits);
    until("the warning", || is_ready(&gateway, &["cdr_failing"]));
    all_hear("while the database was gone", &mut talks, &witness);
    server.start();
    wait_written(&file, "postgres");
    all_hear("as it was back", &mut talks, &witness);

    // What was told meanwhile to nobody is told now, and then of the limit.
    let events = hook(port);
    let mut again = Browser::open(door(&gateway), "user0").await;
    again.call("600", Codecs::All).await;
    let ended = again.ended("gateway").await;
    assert_eq!((&ended["cause"], &ended["sip"]), (&"limit-reached".into(), &503.into()), "{ended}");
    again.close().await;
    calls += 1;
    let (mut over, mut alarm) = (BTreeSet::new(), Value::Null);
    while alarm.is_null() || over.len() < calls - usize::from(CALLS) {
        let event = events.recv_timeout(PATIENCE).expect("an event");
        match event["event"].as_str().unwrap() {
            "limit.tripped" => alarm = event,
            _ => assert!(over.insert(event["call"].as_str().unwrap().to_owned()), "twice: {event}"),
        }
    }
    assert_eq!((&alarm["scope"], &alarm["name"], &alarm["limit"]), (&"user".into(), &"user0".into(), &"calls".into()));
    assert!(counts(&gateway, "ringback_limits_tripped_total{scope=\"user\",limit=\"calls\"} 1"));
    all_hear("while a limit tripped", &mut talks, &witness);

    all_leave(line, talks).await;
    ["file", "sqlite", "postgres"].iter().for_each(|kind| wait_written(&file, kind));
    let written = lines(&seen("cdr.jsonl"));
    assert_eq!((written.len(), server.records()), (calls, written.clone()));
    for name in ["cdr.sqlite", "cdr.sqlite-wal"] {
        fs::copy(seen(name), folder.dir.path().join(name)).unwrap();
    }
    assert_eq!(rows(&folder.dir.path().join("cdr.sqlite")), written);
    assert!(["file", "sqlite", "postgres"].iter().all(|kind| place(&file, kind)["lost"] == 0));
}

/// A page by TLS, whatever certificate is shown.
async fn secure_page(gateway: &Gateway, n: u16) -> Browser {
    let stream = TcpStream::connect(door(gateway)).await.unwrap();
    let connector = TlsConnector::from(any_certificate());
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let origin = format!("https://localhost:{}", gateway.port());
    Browser::over(Box::new(stream), &origin, json!({ "user": format!("user{n}") })).await
}

/// One certificate for pages and for SIP. Whoever is connected stays so, whatever is shown to those who come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_hear_nothing_of_certificates_that_are_rotated() {
    let setup = Setup::new("soak-phone").tls();
    let trunk = format!("[trunk.testphone]\noptions = 0\ntransport = \"tls\"\n{}", setup.tls_keys().1);
    let (phones, witness) = (Phones::of(setup, CALLS + 1).await, Witness::start());
    let (keys, sip) = ("tls_certificate = \"cert.pem\"\ntls_key = \"key.pem\"", free_port());
    let folder = Folder::new(phones.address(), &format!("tls = [\"127.0.0.1:{sip}\"]\n{keys}"), 28_100);
    let folder = folder.with("[trunk.testphone]", &trunk).with("[sip]", &format!("{keys}\n[sip]"));
    let put = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        folder.write("key.pem", &made.signing_key.serialize_pem());
        folder.write("cert.pem", &made.cert.pem());
        made.cert.der().to_vec()
    };
    let first = put();
    let gateway = Gateway::configured(&folder.file());
    let doors = [door(&gateway), ([127, 0, 0, 1], sip).into()];
    let shows = |certificate: &[u8]| doors.iter().all(|door| connect(*door).1 == certificate);
    assert!(shows(&first));
    let mut line = phones.answer(&gateway).await;
    let mut secure = Vec::new();
    for n in 0..CALLS {
        secure.push(secure_page(&gateway, n).await);
    }
    let mut talks = line.talks(secure, 0).await;

    // By a reload, and by the files alone.
    let second = put();
    let (code, out, err) = folder.reload();
    assert_eq!((code, out.as_str()), (Some(0), "reloaded\n"), "{err}");
    assert!(shows(&second));
    let third = put();
    until("the third certificate", || shows(&third));
    // One that does not fit its key is refused with its line, and not shown.
    folder.write("key.pem", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let (code, _, err) = folder.reload();
    assert!(code == Some(1) && err.contains("ringback.toml:"), "{err}");
    assert!(shows(&third));
    all_hear("while certificates were rotated", &mut talks, &witness);
    passes(&mut line, secure_page(&gateway, PASSING).await, PASSING).await;
    talks[0].goes_on().await;
    all_hear("under the third", &mut talks, &witness);
    all_leave(line, talks).await;
}
