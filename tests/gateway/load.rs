//! What an operator does, and what is done to him, while twenty calls are talking: every one of them is listened to at both
//! ends from the first moment to the last. Each party has a tone of its own, so that no call's sound can pass for another's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::broken::BROKEN;
use crate::peer::sound::{Heard, Recording};
use crate::peer::{Browser, Codecs, Phone, Sound};
use crate::reload::{Folder, PLAN, get, until};
use crate::sipp::{Setup, Sipp};
use crate::support::{Gateway, output};

/// Calls at once.
const CALLS: u16 = 20;
/// A gateway that stands still while it begins a call, because it is not optimised, would refuse the ninth.
const TAKES_ALL: [&str; 2] = ["[media]\n", "[media]\nbusy_at = 0\n"];
/// Tones that differ by this are told apart in one frame of 20 ms.
const STEP: f64 = 50.0;
/// What a party may miss on end of the other: beyond it there is a gap. (A gateway that is not optimised stands still for
/// some hundred milliseconds while it begins a call.)
const LONGEST_GAP_MS: usize = if cfg!(debug_assertions) { 600 } else { 120 };

/// A thread that wants to run every 10 ms and sees how long the machine did not let it: a busy machine, on which everything
/// stands still for a moment, is no fault of the gateway's.
struct Witness {
    worst_ms: Arc<AtomicUsize>,
    _ends: Sender<()>,
}

impl Witness {
    fn start() -> Witness {
        let (ends, end) = channel::<()>();
        let worst_ms = Arc::new(AtomicUsize::new(0));
        let worst = worst_ms.clone();
        let watch = move || {
            let mut last = Instant::now();
            while end.recv_timeout(Duration::from_millis(10)) == Err(RecvTimeoutError::Timeout) {
                worst.fetch_max(last.elapsed().as_millis() as usize - 10, Ordering::Relaxed);
                last = Instant::now();
            }
        };
        std::thread::Builder::new().spawn(watch).unwrap();
        Witness { worst_ms, _ends: ends }
    }

    /// What a party may miss on such a machine: three things in a row may have stood still, who speaks, who carries, who hears.
    fn longest_gap_ms(&self) -> usize {
        LONGEST_GAP_MS + 3 * self.worst_ms.load(Ordering::Relaxed)
    }
}

/// One call: a browser, the phone's sound, and what each says.
struct Talk {
    browser: Browser,
    phone: Phone,
    call: String,
    up: f64,
    down: f64,
    /// How much each had heard when it was looked at last.
    heard: (usize, usize),
    at: Instant,
}

impl Talk {
    /// Whether both have heard each other without a gap since the last look, or what was wrong.
    fn look(&mut self, witness: &Witness) -> Result<(), String> {
        let longest = witness.longest_gap_ms();
        let (before, elapsed) = (self.heard, self.at.elapsed().as_millis() as usize);
        for (who, heard, before, tone) in [
            ("the phone", &self.phone.heard, before.0, self.up),
            ("the browser", &self.browser.heard, before.1, self.down),
        ] {
            let (all, gap) = heard.read(|heard| (heard.ms(), heard.longest_gap(tone, heard.ms() - before)));
            if gap > longest || all - before + longest < elapsed {
                return Err(format!("{who} of {tone} Hz heard {} ms of {elapsed}, a gap of {gap} ms", all - before));
            }
        }
        self.remember();
        Ok(())
    }

    fn remember(&mut self) {
        let ms = |heard: &Heard| heard.read(Recording::ms);
        self.heard = (ms(&self.phone.heard), ms(&self.browser.heard));
        self.at = Instant::now();
    }

    async fn hang_up(&mut self) {
        self.browser.hangup(&self.call).await;
        self.browser.ended("us").await;
    }

    async fn leave(self) {
        self.browser.close().await;
        self.phone.stop().await;
    }
}

/// The phones of a trunk: one SIPp, and the sound of each of its calls.
struct Phones {
    setup: Setup,
    sound: Vec<Phone>,
}

impl Phones {
    async fn new(calls: u16) -> Phones {
        let mut sound = Vec::new();
        for _ in 0..calls {
            sound.push(Phone::start("127.0.0.1").await);
        }
        let ports: Vec<u16> = sound.iter().map(|phone| phone.address.port()).collect();
        let setup = Setup::new("soak-phone").word("MEDIA_IP", "127.0.0.1").word("MEDIA_PORT", "[field0]");
        Phones { setup: setup.in_turn(ports).calls(u32::from(calls)), sound }
    }

    fn address(&self) -> SocketAddr {
        self.setup.address()
    }

    /// They are called, one after another and by the users from `first` on, and talk: half of the browsers by Opus, half by G.711.
    async fn talk(self, gateway: &Gateway, first: u16) -> (Sipp, Vec<Talk>) {
        let http = SocketAddr::from(([127, 0, 0, 1], gateway.port()));
        let sipp = self.setup.phone(http).await;
        let mut talks = Vec::new();
        for (n, phone) in (first..).zip(self.sound) {
            let mut browser = Browser::open(http, &format!("user{n}")).await;
            let call = browser.call("600", if n % 2 == 0 { Codecs::All } else { Codecs::Pcmu }).await;
            browser.expect("answered").await;
            let up = 400.0 + STEP * f64::from(n);
            let down = up + STEP * f64::from(CALLS);
            browser.say(Sound::Tone(up)).await;
            phone.say(Sound::Tone(down)).await;
            talks.push(Talk { browser, phone, call, up, down, heard: (0, 0), at: Instant::now() });
        }
        for talk in &mut talks {
            talk.phone.heard.tone("the phone", talk.up).await;
            talk.browser.heard.tone("the browser", talk.down).await;
            talk.remember();
        }
        (sipp, talks)
    }
}

/// None of them was cut and none had a gap.
fn all_hear(what: &str, talks: &mut [Talk], witness: &Witness, gateway: &Gateway) {
    let wrong: Vec<String> = talks.iter_mut().filter_map(|talk| talk.look(witness).err()).collect();
    let metrics = get(gateway.port(), "/metrics").1;
    let late: Vec<&str> = metrics.lines().filter(|line| line.starts_with("ringback_worker_lateness")).collect();
    assert!(wrong.is_empty(), "{what}, {} ms allowed: {wrong:#?}\n{late:#?}", witness.longest_gap_ms());
}

fn status(gateway: &Gateway) -> Value {
    serde_json::from_str(&get(gateway.port(), "/status").1).unwrap()
}

/// Reloads that are refused, each for another mistake, and reloads that are taken, among them some that touch the trunk
/// and the plan of the calls that stand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_calls_hear_nothing_of_reloads() {
    let (phones, witness) = (Phones::new(CALLS).await, Witness::start());
    let folder = Folder::new(phones.address(), "", 25_000).with(TAKES_ALL[0], TAKES_ALL[1]);
    // SIPp's scenario knows no OPTIONS.
    let folder = folder.with("[trunk.testphone]", "[trunk.testphone]\noptions = 0");
    let gateway = Gateway::configured(&folder.file());
    let (sipp, mut talks) = phones.talk(&gateway, 0).await;
    for wrong in BROKEN {
        wrong.is_refused(&folder);
    }
    all_hear("while reloads were refused", &mut talks, &witness, &gateway);
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
    talks[0].phone.heard.tone_anew("the phone", talks[0].up).await;
    all_hear("while reloads were taken", &mut talks, &witness, &gateway);
    assert_eq!(status(&gateway)["established"], CALLS);
    for talk in &mut talks {
        talk.hang_up().await;
    }
    sipp.finish().await;
    for talk in talks {
        talk.leave().await;
    }
}

/// Two media threads: browsers reach both by one port, whichever of them reads what they send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_two_media_threads_come_by_one_port() {
    let (phones, witness) = (Phones::new(12).await, Witness::start());
    let port = crate::peer::gateway::free_port();
    let media = format!("[media]\nworkers = 2\nbrowser = \"127.0.0.1:{port}\" # ");
    let folder = Folder::new(phones.address(), "", 25_300).with("[media]\nbrowser = ", &media);
    let folder = folder.with("[trunk.testphone]", "[trunk.testphone]\noptions = 0");
    let gateway = Gateway::configured(&folder.file());
    // Another gateway does not come to share it.
    for workers in [1, 2] {
        let other = Folder::new(phones.address(), "", 25_300);
        let media = format!("[media]\nworkers = {workers}\nbrowser = \"127.0.0.1:{port}\" # ");
        let other = other.with("[media]\nbrowser = ", &media);
        let (code, _, err) = output(&["--config", other.file().to_str().unwrap(), "run", "--listen", "127.0.0.1:0"]);
        let named = err.contains(&format!("127.0.0.1:{port}")) && err.contains("[media] browser");
        assert!(code == Some(1) && named, "{code:?}: {err}");
    }
    let (sipp, mut talks) = phones.talk(&gateway, 0).await;
    talks[0].phone.heard.tone_anew("the phone", talks[0].up).await;
    all_hear("on two threads", &mut talks, &witness, &gateway);
    let metrics = get(gateway.port(), "/metrics").1;
    for worker in 0..2 {
        assert!(metrics.contains(&format!("ringback_worker_calls{{worker=\"{worker}\"}} 6")), "{metrics}");
    }
    for talk in &mut talks {
        talk.hang_up().await;
    }
    sipp.finish().await;
    for talk in talks {
        talk.leave().await;
    }
}

/// A drain lets every call talk to its end, and takes none more; the gateway ends with the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_calls_hear_nothing_of_a_drain() {
    let (phones, witness) = (Phones::new(CALLS).await, Witness::start());
    let folder = Folder::new(phones.address(), "", 25_100).with(TAKES_ALL[0], TAKES_ALL[1]);
    let folder = folder.with("[trunk.testphone]", "[trunk.testphone]\noptions = 0");
    let mut gateway = Gateway::configured(&folder.file());
    let (sipp, mut talks) = phones.talk(&gateway, 0).await;
    let mut late = Browser::open(SocketAddr::from(([127, 0, 0, 1], gateway.port())), "late").await;
    let (code, _, err) = output(&["--config", folder.file().to_str().unwrap(), "drain", "--grace", "3600"]);
    assert_eq!(code, Some(0), "{err}");
    for talk in &mut talks {
        talk.browser.expect("draining").await;
    }
    late.call("600", Codecs::All).await;
    assert_eq!(late.ended("gateway").await["cause"], "draining");
    talks[0].phone.heard.tone_anew("the phone", talks[0].up).await;
    all_hear("while it drained", &mut talks, &witness, &gateway);
    let (last, others) = talks.split_last_mut().unwrap();
    for talk in others {
        talk.hang_up().await;
    }
    last.phone.heard.tone_anew("the last phone", last.up).await;
    last.look(&witness).unwrap();
    last.hang_up().await;
    assert_eq!(gateway.wait().code(), Some(0));
    sipp.finish().await;
    late.close().await;
    for talk in talks {
        talk.leave().await;
    }
}

/// A gateway that is killed, and the next one: SIPp, which knows of nothing, gets the BYE of each call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_calls_left_behind_by_a_kill_are_ended_at_their_phones() {
    let (phones, witness) = (Phones::new(CALLS).await, Witness::start());
    let folder = Folder::new(phones.address(), "", 25_200).with(TAKES_ALL[0], TAKES_ALL[1]);
    let port = crate::peer::gateway::free_port();
    let folder =
        folder.with("[trunk.testphone]", "[journal]\nfile = \"calls.journal\"\n[trunk.testphone]\noptions = 0");
    // The next one has to be where the first one was.
    let folder = folder.with("udp = [\"127.0.0.1:0\"]", &format!("udp = [\"127.0.0.1:{port}\"]"));
    let mut gateway = Gateway::configured(&folder.file());
    let (sipp, mut talks) = phones.talk(&gateway, 0).await;
    all_hear("before", &mut talks, &witness, &gateway);
    let journal = folder.dir.path().join("calls.journal");
    until("each call's note", || std::fs::read_to_string(&journal).unwrap().lines().count() >= usize::from(CALLS));
    gateway.signal(nix::sys::signal::Signal::SIGKILL);
    gateway.wait();
    let begun = Instant::now();
    let mut next = Gateway::configured(&folder.file());
    sipp.finish().await;
    println!("{CALLS} calls of a killed gateway ended after {} ms", begun.elapsed().as_millis());
    // Each BYE's answer is noted as well: nothing is left for one more start.
    next.terminate();
    assert_eq!(next.wait().code(), Some(0));
    assert_eq!(std::fs::read_to_string(&journal).unwrap(), "");
    for talk in talks {
        talk.leave().await;
    }
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
    let folder =
        Folder::new(first.address(), "", 25_300).with(TAKES_ALL[0], TAKES_ALL[1]).with("[trunk.testphone]", &sections);
    folder.write("plans/plan.toml", TWO_TIERS);
    let gateway = Gateway::configured(&folder.file());
    let (sipp, mut standing) = first.talk(&gateway, 0).await;
    drop(sipp);
    let (sipp, mut talks) = second.talk(&gateway, CALLS / 2).await;
    all_hear("while the first trunk died", &mut standing, &witness, &gateway);
    all_hear("by the second trunk", &mut talks, &witness, &gateway);
    assert_eq!(status(&gateway)["established"], CALLS);
    for talk in standing.iter_mut().chain(&mut talks) {
        talk.hang_up().await;
    }
    sipp.finish().await;
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
