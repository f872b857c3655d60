//! Disks that are full: calls go on, limits hold, the log says what is at stake, and as soon as there is room again
//! everything stands where it ought to. (What becomes of call records is told in `cdr`.)

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

use nix::sys::signal::Signal::SIGKILL;
use serde_json::{Value, json};

use crate::reload::{Folder, until};
use crate::support::{Browser, Gateway, PATIENCE, fill, http_request, journalled};
use crate::uas::Uas;

/// A gateway with its files in `small/` on a disk that is full, and one call that stands.
struct Stage {
    uas: Uas,
    folder: Folder,
    gateway: Gateway,
    alice: Browser,
}

impl Stage {
    /// `sections` name files in `small/`.
    fn with(sections: &str, plan: &str, ports: u16) -> Stage {
        let uas = Uas::udp();
        let folder = Folder::new(uas.address, "", ports)
            .with("udp = [\"127.0.0.1:0\"]", &format!("udp = [\"127.0.0.1:{}\"]", crate::peer::gateway::free_port()))
            .with("[trunk.testphone]", &format!("{sections}\n[trunk.testphone]\noptions = 0"));
        folder.write("plans/plan.toml", plan);
        let gateway = Gateway::on_a_small_disk(&folder.file(), &folder.dir.path().join("small"));
        fill(&gateway.sees(&folder.dir.path().join("small/filler")));
        let alice = Browser::of(&gateway, "alice");
        Stage { uas, folder, gateway, alice }
    }

    /// A file of `small/`, as the gateway sees it.
    fn sees(&self, name: &str) -> PathBuf {
        self.gateway.sees(&self.folder.dir.path().join("small").join(name))
    }

    fn is_answered(&mut self, call: &str, to: &str) {
        self.alice.call(call, to);
        self.alice.expect("answered");
    }

    fn hang_up(&mut self, call: &str) {
        self.alice.send(&json!({ "type": "hangup", "call": call }));
        self.alice.expect("ended");
    }

    fn room_again(&self) {
        fs::remove_file(self.sees("filler")).unwrap();
    }

    /// Killed; the next gateway has what of these files there was, on a disk with room.
    fn killed_and_started(mut self, files: &[&str]) -> (Uas, Folder, Gateway) {
        let kept = files.iter().map(|name| (name, fs::read(self.sees(name)).unwrap())).collect::<Vec<_>>();
        self.gateway.signal(SIGKILL);
        self.gateway.wait();
        for (name, bytes) in kept {
            self.folder.write_bytes(&format!("small/{name}"), &bytes);
        }
        let gateway = Gateway::configured(&self.folder.file());
        (self.uas, self.folder, gateway)
    }
}

#[test]
fn the_journal_of_a_full_disk_is_written_as_soon_as_there_is_room() {
    let mut stage = Stage::with("[journal]\nfile = \"small/calls.journal\"", crate::reload::PLAN, 25_400);
    stage.is_answered("c1", "600");
    stage.gateway.logged(|line| line.contains("the journal cannot be written"));
    stage.is_answered("c2", "600");
    let calls: Vec<String> = ["first", "second"].iter().map(|_| call_id(&stage.uas.request("INVITE"))).collect();
    stage.room_again();
    // Nothing happens that would have to be noted: it comes by itself.
    stage.gateway.logged(|line| line.contains("the journal is written again"));
    let journal = stage.sees("calls.journal");
    until("both dialogs", || journalled(&journal, "dialog").len() == 2);
    let (uas, _folder, _gateway) = stage.killed_and_started(&["calls.journal"]);
    let mut ended: Vec<String> = ["one", "other"].iter().map(|_| call_id(&uas.request("BYE"))).collect();
    ended.sort_unstable();
    let mut calls = calls;
    calls.sort_unstable();
    assert_eq!(ended, calls);
}

fn call_id(request: &str) -> String {
    request.lines().find_map(|line| line.strip_prefix("Call-ID: ")).expect("a Call-ID").to_owned()
}

const ABROAD: &str = "[plan]\nname = \"out\"\ndefault = \"deny\"\n[numbering]\ncountry = \"44\"\n\
    [[out]]\nname = \"world\"\nprefix = \"+\"\ntiers = [[\"testphone\"]]\n";

#[test]
fn limits_hold_on_a_full_disk_and_are_remembered_as_soon_as_there_is_room() {
    let sections = "[store]\npath = \"small/store.db\"\n[limits.user]\nnew_countries_per_day = 1";
    let mut stage = Stage::with(sections, ABROAD, 25_500);
    stage.is_answered("c1", "+33123456789");
    stage.hang_up("c1");
    stage.gateway.logged(|line| line.contains("it stands in memory alone"));
    stage.alice.call("c2", "+442079460000");
    assert_eq!(stage.alice.expect("ended")["cause"], "limit-reached");
    stage.room_again();
    let written = |name: &str| fs::read(stage.sees(name)).unwrap_or_default();
    let stands = |text: &[u8]| ["store.db", "store.db-wal"].iter().any(|name| has(&written(name), text));
    until("what was counted", || stands(b"user:alice") && stands(b"\"33\":{"));
    let (_uas, _folder, gateway) = stage.killed_and_started(&["store.db", "store.db-wal"]);
    let mut alice = Browser::of(&gateway, "alice");
    alice.call("c1", "+442079460000");
    assert_eq!(alice.expect("ended")["cause"], "limit-reached");
    alice.call("c2", "+33123456789");
    alice.expect("answered");
}

fn has(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|at| at == text)
}

#[test]
fn events_of_a_full_disk_wait_in_memory_and_reach_their_web_hook_in_order() {
    // Nobody takes connections there yet.
    let port = crate::peer::gateway::free_port();
    let sections = format!(
        "[events]\nspool = \"small/events\"\n[[webhook]]\nurl = \"http://127.0.0.1:{port}/\"\n\
         events = [\"call.*\"]\nsecret = \"0123456789abcdef0123456789abcdef\""
    );
    let mut stage = Stage::with(&sections, crate::reload::PLAN, 25_600);
    for call in ["c1", "c2", "c3"] {
        stage.is_answered(call, "600");
        stage.hang_up(call);
    }
    stage.gateway.logged(|line| line.contains("events for a web hook are not written: they wait in memory"));
    stage.room_again();
    stage.is_answered("c4", "600");
    stage.gateway.logged(|line| line.contains("events for a web hook are written again"));
    stage.hang_up("c4");
    let mut begun = Vec::new();
    let mut ended = Vec::new();
    let events = hook(port);
    while ended.len() < 4 {
        let event = events.recv_timeout(PATIENCE).expect("an event");
        let call = event["call"].as_str().unwrap().to_owned();
        match event["event"].as_str().unwrap() {
            "call.started" => begun.push(call),
            "call.ended" => {
                assert!(begun.contains(&call), "{call} ends before it begins: {begun:?}");
                ended.push(call);
            }
            _ => {}
        }
    }
    begun.sort_unstable();
    ended.sort_unstable();
    assert_eq!(begun, ended);
    until("the last file's end", || {
        let folder = fs::read_dir(stage.sees("events")).unwrap().next().unwrap().unwrap().path();
        fs::read_dir(folder).unwrap().count() == 0
    });
}

/// Takes every event that is sent there.
pub fn hook(port: u16) -> Receiver<Value> {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (tell, events) = channel();
    let serve = move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let Some((_, body)) = http_request(&mut stream) else { continue };
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"); // or it comes again
            if tell.send(serde_json::from_str(&body).unwrap()).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().spawn(serve).unwrap();
    events
}
