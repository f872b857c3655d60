//! What an operator does, and what is done to him, while twenty calls are talking.

use std::time::Instant;

use serde_json::Value;

use crate::broken::BROKEN;
use crate::peer::{Browser, Codecs};
use crate::reload::{Folder, PLAN, get, until};
use crate::support::{Gateway, journalled, output};
use crate::talk::{MOST as CALLS, Phones, Witness, all_hear, all_leave, door, pages};

fn status(gateway: &Gateway) -> Value {
    serde_json::from_str(&get(gateway.port(), "/status").1).unwrap()
}

/// Reloads that are refused, each for another mistake, and reloads that are taken, among them some that touch the trunk
/// and the plan of the calls that stand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_calls_hear_nothing_of_reloads() {
    let (phones, witness) = (Phones::new(CALLS).await, Witness::start());
    let folder = Folder::new(phones.address(), "", 25_000);
    // SIPp's scenario knows no OPTIONS.
    let folder = folder.with("[trunk.testphone]", "[trunk.testphone]\noptions = 0");
    let gateway = Gateway::configured(&folder.file());
    let mut line = phones.answer(&gateway).await;
    let mut talks = line.talks(pages(&gateway, 0..CALLS).await, 0).await;
    for wrong in BROKEN {
        wrong.is_refused(&folder);
    }
    all_hear("while reloads were refused", &mut talks, &witness);
    let elsewhere = folder.config.replace("[trunk.testphone]", "[trunk.testphone]\ncodecs = [\"PCMA\"]");
    for (what, old, new) in [
        ("another codec", "codecs = [\"PCMA\"]", "codecs = [\"opus\"]"),
        ("the trunk is elsewhere", "\naddress = ", "\naddress = \"127.0.0.1:9\" # "),
        ("the trunk is gone", "[trunk.testphone]", "[trunk.other]"),
        ("no call more", "calls = 100", "calls = 1"),
        ("nobody is let in", "open = true", "hs256_secret = \"0123456789abcdef0123456789abcdef\""),
        ("as it was", "", ""),
    ] {
        folder.write("ringback.toml", &elsewhere.replacen(old, new, 1));
        let trunk = if new == "[trunk.other]" { "\"other\"" } else { "\"testphone\"" };
        folder.write("plans/plan.toml", &PLAN.replace("\"testphone\"", trunk));
        let (code, out, err) = folder.reload();
        assert_eq!(code, Some(0), "{what}: {out}{err}");
    }
    // They talk for some more under what stands now.
    talks[0].goes_on().await;
    all_hear("while reloads were taken", &mut talks, &witness);
    assert_eq!(status(&gateway)["established"], CALLS);
    all_leave(line, talks).await;
}

/// Two media threads: browsers reach both by one port, whichever of them reads what they send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_two_media_threads_come_by_one_port() {
    const CALLS: u16 = 12;
    let (phones, witness) = (Phones::new(CALLS).await, Witness::start());
    let port = crate::peer::gateway::free_port();
    let media = format!("workers = 2\nbrowser = \"127.0.0.1:{port}\" # ");
    let folder = Folder::new(phones.address(), "", 27_700).with("browser = ", &media);
    let folder = folder.with("[trunk.testphone]", "[trunk.testphone]\noptions = 0");
    let gateway = Gateway::configured(&folder.file());
    // Another gateway does not come to share it.
    for workers in [1, 2] {
        let media = format!("workers = {workers}\nbrowser = \"127.0.0.1:{port}\" # ");
        let other = Folder::new(phones.address(), "", 27_700).with("browser = ", &media);
        let (code, _, err) = output(&["--config", other.file().to_str().unwrap(), "run", "--listen", "127.0.0.1:0"]);
        let named = err.contains(&format!("127.0.0.1:{port}")) && err.contains("[media] browser");
        assert!(code == Some(1) && named, "{code:?}: {err}");
    }
    let mut line = phones.answer(&gateway).await;
    let mut talks = line.talks(pages(&gateway, 0..CALLS).await, 0).await;
    talks[0].goes_on().await;
    all_hear("on two threads", &mut talks, &witness);
    let metrics = get(gateway.port(), "/metrics").1;
    for worker in 0..2 {
        assert!(metrics.contains(&format!("ringback_worker_calls{{worker=\"{worker}\"}} 6")), "{metrics}");
    }
    all_leave(line, talks).await;
}

/// A drain lets every call talk to its end, and takes none more; the gateway ends with the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_calls_hear_nothing_of_a_drain() {
    let (phones, witness) = (Phones::new(CALLS).await, Witness::start());
    let folder = Folder::new(phones.address(), "", 25_100);
    let folder = folder.with("[trunk.testphone]", "[trunk.testphone]\noptions = 0");
    let mut gateway = Gateway::configured(&folder.file());
    let mut line = phones.answer(&gateway).await;
    let mut talks = line.talks(pages(&gateway, 0..CALLS).await, 0).await;
    let mut late = Browser::open(door(&gateway), "late").await;
    let (code, _, err) = output(&["--config", folder.file().to_str().unwrap(), "drain", "--grace", "3600"]);
    assert_eq!(code, Some(0), "{err}");
    for talk in &mut talks {
        talk.browser.expect("draining").await;
    }
    late.call("600", Codecs::All).await;
    assert_eq!(late.ended("gateway").await["cause"], "draining");
    talks[0].goes_on().await;
    all_hear("while it drained", &mut talks, &witness);
    let (last, others) = talks.split_last_mut().unwrap();
    for talk in others {
        talk.hang_up().await;
    }
    last.goes_on().await;
    last.look(&witness).unwrap();
    last.hang_up().await;
    assert_eq!(gateway.wait().code(), Some(0));
    line.sipp.finish().await;
    late.close().await;
    for talk in talks {
        talk.leave().await;
    }
}

/// A gateway that is killed, and the next one: SIPp, which knows of nothing, gets the BYE of each call, and each has its record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_calls_left_behind_by_a_kill_are_ended_at_their_phones() {
    let (phones, witness) = (Phones::new(CALLS).await, Witness::start());
    let folder = Folder::new(phones.address(), "", 25_200);
    let port = crate::peer::gateway::free_port();
    let folder =
        folder.with("[trunk.testphone]", "[journal]\nfile = \"calls.journal\"\n[trunk.testphone]\noptions = 0");
    let folder = folder.with("[control]", "[cdr]\nfile = \"cdr.jsonl\"\n[control]");
    // The next one has to be where the first one was.
    let folder = folder.with("udp = [\"127.0.0.1:0\"]", &format!("udp = [\"127.0.0.1:{port}\"]"));
    let mut gateway = Gateway::configured(&folder.file());
    let mut line = phones.answer(&gateway).await;
    let mut talks = line.talks(pages(&gateway, 0..CALLS).await, 0).await;
    all_hear("before", &mut talks, &witness);
    let journal = folder.dir.path().join("calls.journal");
    let answered = || journalled(&journal, "cdr").iter().filter(|record| record["answer"].is_u64()).count();
    until("each call's dialog", || journalled(&journal, "dialog").len() == usize::from(CALLS));
    until("each call's record", || answered() == usize::from(CALLS));
    gateway.signal(nix::sys::signal::Signal::SIGKILL);
    gateway.wait();
    let begun = Instant::now();
    let mut next = Gateway::configured(&folder.file());
    line.sipp.finish().await;
    println!("{CALLS} calls of a killed gateway ended after {} ms", begun.elapsed().as_millis());
    // Each BYE's answer is noted as well: nothing is left for one more start.
    next.terminate();
    assert_eq!(next.wait().code(), Some(0));
    assert_eq!(std::fs::read_to_string(&journal).unwrap(), "");
    let records = std::fs::read_to_string(folder.dir.path().join("cdr.jsonl")).unwrap();
    let users: std::collections::BTreeSet<String> = records.lines().map(is_whole).collect();
    assert_eq!((records.lines().count(), users.len()), (usize::from(CALLS), usize::from(CALLS)), "{records}");
    for talk in talks {
        talk.leave().await;
    }
}

/// The record of a call that was answered, and cut by a kill; gives whose it was.
fn is_whole(line: &str) -> String {
    let cdr: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&cdr["cause"], &cdr["dialled"]), (&"gateway-lost".into(), &"600".into()), "{cdr}");
    assert_eq!((&cdr["trunks"][0]["trunk"], &cdr["trunks"][0]["result"]), (&"testphone".into(), &"answered".into()));
    assert!(["number", "sent", "from", "rule"].iter().all(|field| cdr[field].is_string()), "{cdr}");
    let [start, answer, end] = ["start", "answer", "end"].map(|field| cdr[field].as_u64().unwrap());
    assert!(start <= answer && answer <= end, "{cdr}");
    cdr["user"].as_str().unwrap().to_owned()
}

/// A trunk that says nothing is given a second.
const TWO_TIERS: &str = "[plan]\nname = \"two\"\ndefault = \"deny\"\n[numbering]\nshort = \"60X\"\n\
    [[out]]\nname = \"all\"\nnumber = \"600\"\ntiers = [[\"testphone\"], [\"second\"]]\n\
    failover = { on = [\"timeout\", \"unreachable\"], after = \"1s\" }\n";

/// A trunk dies under load: its calls go on, for their sound needs none of its SIP, and new ones go by the next trunk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_dies_under_load_costs_no_call() {
    let (first, second) = (Phones::new(CALLS / 2).await, Phones::new(CALLS / 2).await);
    let witness = Witness::start();
    let sections =
        format!("[trunk.second]\naddress = \"{}\"\noptions = 0\n[trunk.testphone]\noptions = 0", second.address());
    let folder = Folder::new(first.address(), "", 25_300).with("[trunk.testphone]", &sections);
    folder.write("plans/plan.toml", TWO_TIERS);
    let gateway = Gateway::configured(&folder.file());
    let mut line = first.answer(&gateway).await;
    let mut standing = line.talks(pages(&gateway, 0..CALLS / 2).await, 0).await;
    drop(line);
    let mut line = second.answer(&gateway).await;
    let mut talks = line.talks(pages(&gateway, CALLS / 2..CALLS).await, CALLS / 2).await;
    all_hear("while the first trunk died", &mut standing, &witness);
    all_hear("by the second trunk", &mut talks, &witness);
    assert_eq!(status(&gateway)["established"], CALLS);
    for talk in standing.iter_mut().chain(&mut talks) {
        talk.hang_up().await;
    }
    line.sipp.finish().await;
    let ways: Vec<String> = (0..CALLS)
        .map(|_| {
            let cdr = gateway.cdr();
            let tried = cdr["trunks"].as_array().unwrap().iter();
            tried.map(|tried| tried["trunk"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(", ")
        })
        .collect();
    let count = |way: &str| ways.iter().filter(|one| *one == way).count();
    assert_eq!((count("testphone"), count("testphone, second")), (10, 10), "{ways:?}");
    for talk in standing.into_iter().chain(talks) {
        talk.leave().await;
    }
}
