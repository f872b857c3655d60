//! The same calls through the running gateway: an independent browser on one side, an RTP phone behind a SIP trunk on the
//! other, and a relay with bad weather between each of them and the gateway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::ends::{Paced, Rehearsed, Speaker, Track};
use crate::page::Page;
use crate::peer::gateway::Setup;
use crate::peer::rtp::Packet;
use crate::peer::{Browser, Gateway, PATIENCE};
use crate::relay::{Passed, Relay};
use crate::rows::Row;
use crate::speech::Script;
use crate::trunk::Trunk;
use crate::{Options, recorded};

const PLAN: &str = r#"
[plan]
name = "quality"
default = "deny"

[numbering]
country = "44"
national = "0"
international = ["00", "+"]
short = ["1XX"]

[[out]]
name = "out"
pattern = "1XX"
tiers = [["out"]]
"#;

const OPUS: u8 = 111;
/// A packet of ours or of the gateway's that is later than this was held up by the machine.
const LATE_MS: f64 = 10.0;
/// A call in which more than this share of the packets was held up, or one packet for so long, says nothing about the
/// gateway. (score.py has the same two.)
const SPOILT: f64 = 0.01;
const SPOILT_MS: f64 = 40.0;
/// Such a call is made again so often, and alone.
const AGAIN: usize = 1;

/// Makes all calls that were asked for, some at a time, and those that the machine spoilt once more.
pub fn run(options: &Options) -> Vec<Value> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let trunk = Trunk::start().await;
        let lines = format!(
            "[trunk.out]\naddress = \"{}\"\nnumber_format = \"as-dialled\"\noptions = 0\n\
             [limits]\ncalls_per_socket = 1000\n",
            trunk.address
        );
        let setup = Setup { rtp_ports: 200, log: "ringback=info,warn", ..Setup::new(&lines, PLAN) };
        let studio = Studio { gateway: Gateway::start(setup).await, trunk };
        let (alone, together): (Vec<Row>, Vec<Row>) = options.rows().into_iter().partition(|row| row.alone);
        let mut done = studio.rows(options, together, options.calls).await;
        done.extend(studio.rows(options, alone, 1).await);
        for _ in 0..AGAIN {
            let again: Vec<Row> = options.rows().into_iter().filter(|row| is_spoilt(&done, row)).collect();
            if again.is_empty() {
                break;
            }
            eprintln!("the machine was busy: {} rows again", again.len());
            done.retain(|entry| !again.iter().any(|row| is_of(entry, row)));
            done.extend(studio.rows(options, again, options.calls.div_ceil(2)).await);
        }
        studio.gateway.stop().await;
        studio.trunk.stop().await;
        let order = options.rows();
        done.sort_by_key(|entry| order.iter().position(|row| is_of(entry, row)));
        done
    })
}

fn is_of(entry: &Value, row: &Row) -> bool {
    let name = entry["row"].as_str().unwrap_or_default();
    name.split_once('-').is_some_and(|(_, rest)| rest == row.name)
}

fn is_spoilt(done: &[Value], row: &Row) -> bool {
    let over = |entry: &Value, name: &str, limit: f64| entry[name].as_f64().is_none_or(|value| value > limit);
    let spoilt = |entry: &Value| over(entry, "held_up", SPOILT) || over(entry, "held_up_ms", SPOILT_MS);
    done.iter().any(|entry| is_of(entry, row) && spoilt(entry))
}

struct Studio {
    gateway: Gateway,
    trunk: Trunk,
}

/// What is known of a call when it is over.
struct Call {
    at_phone: Track,
    at_browser: Track,
    browser_path: Passed,
    phone_path: Passed,
    browser_late: Vec<f64>,
    phone_late: Vec<f64>,
}

impl Studio {
    async fn rows(&self, options: &Options, rows: Vec<Row>, at_once: usize) -> Vec<Value> {
        let gate = Arc::new(Semaphore::new(at_once));
        let (mut calls, mut ready, mut rehearsed) = (JoinSet::new(), Vec::new(), Rehearsed::new());
        for (index, row) in rows.into_iter().enumerate() {
            let script = Script::read(&options.speech, options.clips, row.rounds);
            let number = format!("1{index:02}");
            let mut phone = PhoneSide::start(&row, &script, options.seed).await;
            let line = self.trunk.line(&number, phone.relay.far);
            let browser = Browser::open(self.gateway.http, &format!("page-{index}")).await;
            let mut speaker = Speaker::browser(&script, &row, OPUS, options.seed + 1);
            speaker.rehearse(&row, &mut rehearsed);
            phone.speaker.rehearse(&row, &mut rehearsed);
            let page = PageSide { browser, number, speaker };
            ready.push((row, script, page, phone, line));
        }
        // Encoding keeps a thread busy; it is over when the first call begins.
        for (row, script, page, phone, line) in ready {
            let (gate, seed) = (gate.clone(), options.seed);
            calls.spawn(async move {
                let _turn = gate.acquire_owned().await.expect("a gate that is never shut");
                let call = one(&row, &script, page, phone, line, seed).await;
                (row, script, call)
            });
        }
        let mut entries = Vec::new();
        while let Some(done) = calls.join_next().await {
            let (row, script, call) = done.expect("a call that goes well");
            entries.extend(call.entries(&row, &script, options));
        }
        entries
    }
}

struct PageSide {
    browser: Browser,
    number: String,
    speaker: Speaker,
}

struct PhoneSide {
    socket: UdpSocket,
    relay: Relay,
    speaker: Speaker,
}

impl PhoneSide {
    async fn start(row: &Row, script: &Script, seed: u64) -> PhoneSide {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free UDP port");
        let relay = Relay::start(row.from_phone, crate::network::Weather::FINE, 8_000, seed + 50).await;
        socket.connect(relay.near).await.expect("an address");
        PhoneSide { socket, relay, speaker: Speaker::phone(script, row, seed + 2) }
    }

    /// Speaks from `begin` on and listens until told to stop.
    async fn talk(&mut self, begin: Instant, faster: f64, mut stop: oneshot::Receiver<()>) -> (Track, Vec<f64>) {
        let (mut paced, mut track) = (Paced::new(begin, faster), Track::default());
        let mut said = self.speaker.packet();
        let mut buffer = [0; 2_048];
        loop {
            let due = said.as_ref().map(|said| paced.due(said));
            let timer = async {
                match due {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = self.socket.recv(&mut buffer) => if let Ok(len) = received
                    && let Some(packet) = Packet::parse(&buffer[..len]).filter(|packet| packet.payload_type == 0)
                {
                    track.add(&packet);
                },
                () = timer => if let (Some(at), Some(packet)) = (due, said.take()) {
                    paced.sent(at);
                    let _ = self.socket.send(&self.speaker.rtp(&packet)).await;
                    said = self.speaker.packet();
                },
                _ = &mut stop => return (track, paced.late_ms),
            }
        }
    }
}

/// One call from beginning to end.
async fn one(
    row: &Row,
    script: &Script,
    mut page: PageSide,
    mut phone: PhoneSide,
    mut line: tokio::sync::mpsc::Receiver<std::net::SocketAddr>,
    seed: u64,
) -> Call {
    let (mut media, offer) = Page::offer().await;
    let relay = Relay::start(row.from_browser, row.to_browser, 48_000, seed + 10).await;
    let browser = &mut page.browser;
    browser.send(json!({ "type": "call", "call": "c", "to": page.number, "sdp": offer })).await;
    let answer = browser.expect("answer").await;
    let answer = answer["sdp"].as_str().expect("a description").to_owned();
    relay.gateway_at(candidate(&answer)).await;
    media.answered(&through(&answer, relay.near));
    let gateway = timeout(PATIENCE, line.recv()).await.ok().flatten().expect("a call at the trunk");
    phone.relay.gateway_at(gateway).await;
    browser.expect("answered").await;
    timeout(PATIENCE, media.connect()).await.expect("ICE and DTLS in time");

    let begin = Instant::now() + Duration::from_millis(200);
    relay.storm(begin).await;
    phone.relay.storm(begin).await;
    let faster = 1.0 + row.drift_ppm / 1e6;
    let ([stop_page, stop_phone], [page_stops, phone_stops]) = {
        let (one, two) = (oneshot::channel(), oneshot::channel());
        ([one.0, two.0], [one.1, two.1])
    };
    // Apart from each other, and a little out of step.
    let phone_begin = begin + Duration::from_micros(7_300);
    let talking = tokio::spawn(media.talk(page.speaker, begin, faster, page_stops));
    let listening = tokio::spawn(async move {
        let heard = phone.talk(phone_begin, faster, phone_stops).await;
        (phone, heard)
    });
    sleep_until((begin + Duration::from_millis(script.ms() as u64 + 500)).into()).await;
    let _ = (stop_page.send(()), stop_phone.send(()));
    let (at_browser, browser_late) = talking.await.expect("a browser that ends well");
    let (phone, (at_phone, phone_late)) = listening.await.expect("a phone that ends well");
    browser.hangup("c").await;
    browser.ended("us").await;
    let (browser_path, phone_path) = (relay.stop().await, phone.relay.stop().await);
    Call { at_phone, at_browser, browser_path, phone_path, browser_late, phone_late }
}

/// The address of the loopback candidate in a description: the last.
fn candidate(sdp: &str) -> std::net::SocketAddr {
    let line = sdp.lines().rfind(|line| line.starts_with("a=candidate:")).expect("a candidate");
    let words: Vec<&str> = line.split(' ').collect();
    format!("{}:{}", words[4], words[5]).parse().expect("an address")
}

/// A description whose candidate is the relay.
fn through(sdp: &str, relay: std::net::SocketAddr) -> String {
    let moved = |line: &str| {
        if !line.starts_with("a=candidate:") {
            return format!("{line}\r\n");
        }
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        (words[4], words[5]) = (relay.ip().to_string(), relay.port().to_string());
        words.join(" ") + "\r\n"
    };
    sdp.lines().map(moved).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

impl Call {
    fn entries(mut self, row: &Row, script: &Script, options: &Options) -> Vec<Value> {
        let ms = script.ms() + 500;
        let (held_up, longest) = self.held_up();
        let up = self.at_phone.play(false, self.phone_path.line.zero(), ms);
        let down = self.at_browser.play(true, self.browser_path.line.zero(), ms);
        let entry = |direction: &str, sound: &[i16], from: &Passed, late: &[f64], to: &Passed, counts: (u64, u64)| {
            let mut entry = recorded(direction, row, script, options, sound);
            // What a packet needs to the gateway in fine weather, our own lateness included.
            entry["path_ms"] = (mean(late) + if row.is_fine() { mean(&from.took_ms) } else { 10.0 }).into();
            (entry["packets"], entry["lost"]) = (counts.0.into(), counts.1.into());
            entry["timestamps_wrong"] = to.line.wrong.into();
            entry["packets_in_10_s"] = json!(to.line.in_ten_seconds());
            (entry["held_up"], entry["held_up_ms"]) = (held_up.into(), longest.into());
            entry
        };
        let (browser, phone) = (&self.browser_path, &self.phone_path);
        let lost_down = if row.is_trunk() { phone.to_gateway } else { browser.from_gateway };
        let down = entry("down", &down, phone, &self.phone_late, browser, lost_down);
        let up = entry("up", &up, browser, &self.browser_late, phone, browser.to_gateway);
        if row.is_trunk() { vec![down] } else { vec![down, up] }
    }

    /// The share of packets that the machine held up, ours on their way out or the gateway's, and for how long at most.
    fn held_up(&self) -> (f64, f64) {
        let lines = [self.browser_path.line.late_ms(), self.phone_path.line.late_ms()];
        let all = lines.iter().chain([&self.browser_late, &self.phone_late]);
        let share = |late: &Vec<f64>| late.iter().filter(|ms| **ms > LATE_MS).count() as f64 / late.len().max(1) as f64;
        let longest = all.clone().flatten().fold(0.0, |longest: f64, ms| longest.max(*ms));
        (all.map(share).fold(0.0, f64::max), longest)
    }
}
