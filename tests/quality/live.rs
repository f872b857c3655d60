//! The same calls through the running gateway, or through another (middle.rs): an independent browser on one side, an RTP
//! phone behind a SIP trunk on the other, and a relay with bad weather between each of them and the gateway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::description::through;
use crate::ends::{Paced, Rehearsed, Speaker, TimeLine, Track};
use crate::middle::{Line, Middle, Which};
use crate::page::Page;
use crate::peer::PATIENCE;
use crate::peer::rtp::Packet;
use crate::relay::{Passed, Relay};
use crate::rows::Row;
use crate::speech::{PAUSE_MS, Script};
use crate::{Options, recorded};

const OPUS: u8 = 111;
/// What a phone holds back that plays its packets one after another.
const QUEUE_MS: f64 = 60.0;
/// A packet of ours or of the gateway's that is later than this was held up by the machine.
const LATE_MS: f64 = 10.0;
/// A call in which more than this share of the packets was held up, or one packet for so long, says nothing about the
/// gateway. (score.py has the same two.)
const SPOILT: f64 = 0.01;
const SPOILT_MS: f64 = 40.0;
/// A quarter of the calls may stay spoilt (score.py); where more are after their second time, so many of them at most are
/// made alone, one after the other.
const SPOILT_OF: usize = 4;
const ALONE: usize = 4;

/// Makes all calls that were asked for, some at a time, and those that the machine spoilt once more; where it spoilt too many
/// of these as well, some of them alone.
pub fn run(which: Which, options: &Options) -> Vec<Value> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let studio = Studio { middle: Middle::start(which).await };
        let (alone, mut together): (Vec<Row>, Vec<Row>) = options.rows().into_iter().partition(|row| row.alone);
        // The longest begin first: nobody waits for them alone in the end.
        together.sort_by_key(|row| std::cmp::Reverse(row.rounds));
        let mut done = studio.rows(options, together, options.calls).await;
        done.extend(studio.rows(options, alone, 1).await);
        let spoilt = |done: &[Value]| options.rows().into_iter().filter(|row| is_spoilt(done, row)).collect::<Vec<_>>();
        let again = spoilt(&done);
        studio.again(options, &mut done, again, options.calls.div_ceil(2)).await;
        // A reduced set shows little of a machine that is busy, however long it is tried.
        let alone = if options.rows.is_empty() { ALONE } else { 1 };
        for _ in 0..alone {
            // The shortest; of others' nothing is judged.
            let mut left = spoilt(&done);
            let is_enough = left.len() * SPOILT_OF <= options.rows().len();
            if is_enough || !studio.middle.is_ours() {
                break;
            }
            left.sort_by_key(|row| row.rounds);
            left.truncate(1);
            studio.again(options, &mut done, left, 1).await;
        }
        studio.middle.stop().await;
        let order = options.rows();
        done.sort_by_key(|entry| order.iter().position(|row| is_of(entry, row)));
        done
    })
}

fn is_of(entry: &Value, row: &Row) -> bool {
    let name = entry["row"].as_str().unwrap_or_default();
    let name = name.trim_start_matches("queued-").trim_start_matches("anew-");
    name.split_once('-').is_some_and(|(_, rest)| rest == row.name)
}

fn is_spoilt(done: &[Value], row: &Row) -> bool {
    let over = |entry: &Value, name: &str, limit: f64| entry[name].as_f64().is_none_or(|value| value > limit);
    let spoilt = |entry: &Value| over(entry, "held_up", SPOILT) || over(entry, "held_up_ms", SPOILT_MS);
    done.iter().any(|entry| is_of(entry, row) && spoilt(entry))
}

struct Studio {
    middle: Middle,
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
    /// Makes these calls in the place of what was made of them before.
    async fn again(&self, options: &Options, done: &mut Vec<Value>, rows: Vec<Row>, at_once: usize) {
        if rows.is_empty() {
            return;
        }
        eprintln!("the machine was busy: {} rows again", rows.len());
        done.retain(|entry| !rows.iter().any(|row| is_of(entry, row)));
        done.extend(self.rows(options, rows, at_once).await);
    }

    async fn rows(&self, options: &Options, rows: Vec<Row>, at_once: usize) -> Vec<Value> {
        let gate = Arc::new(Semaphore::new(at_once));
        let (mut calls, mut ready, mut rehearsed) = (JoinSet::new(), Vec::new(), Rehearsed::new());
        for (index, row) in rows.into_iter().enumerate() {
            let script = Script::read(&options.speech, options.clips, row.rounds);
            let mut phone = PhoneSide::start(&row, &script, options.seed).await;
            let line = self.middle.line(index, phone.relay.far).await;
            let mut speaker = Speaker::browser(&script, &row, OPUS, options.seed + 1);
            speaker.rehearse(&row, &mut rehearsed);
            phone.speaker.rehearse(&row, &mut rehearsed);
            ready.push((row, script, speaker, phone, line));
        }
        // Encoding keeps a thread busy; it is over when the first call begins.
        for (row, script, speaker, phone, line) in ready {
            let seed = options.seed;
            let turn = gate.clone().acquire_owned().await.expect("a gate that is never shut");
            calls.spawn(async move {
                let _turn = turn;
                let call = one(&row, &script, speaker, phone, line, seed).await;
                (row, script, call)
            });
        }
        let mut entries = Vec::new();
        while let Some(done) = calls.join_next().await {
            let (row, script, call) = done.expect("a call that goes well");
            entries.extend(call.entries(&row, &script, options, self.middle.is_ours()));
        }
        entries
    }
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
async fn one(row: &Row, script: &Script, speaker: Speaker, mut phone: PhoneSide, mut line: Line, seed: u64) -> Call {
    let (mut media, offer) = Page::offer(row.red).await;
    let relay = Relay::start(row.from_browser, row.to_browser, 48_000, seed + 10).await;
    let agreed = line.place(offer, relay.far).await;
    relay.gateway_at(candidate(&agreed.answer)).await;
    media.answered(&through(&agreed.answer, relay.near));
    phone.relay.gateway_at(agreed.phone).await;
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
    let talking = tokio::spawn(media.talk(speaker, begin, faster, page_stops));
    let listening = tokio::spawn(async move {
        let heard = phone.talk(phone_begin, faster, phone_stops).await;
        (phone, heard)
    });
    sleep_until((begin + Duration::from_millis(script.ms() as u64 + 500)).into()).await;
    let _ = (stop_page.send(()), stop_phone.send(()));
    let (at_browser, browser_late) = talking.await.expect("a browser that ends well");
    let (phone, (at_phone, phone_late)) = listening.await.expect("a phone that ends well");
    line.hang_up().await;
    let (browser_path, phone_path) = (relay.stop().await, phone.relay.stop().await);
    Call { at_phone, at_browser, browser_path, phone_path, browser_late, phone_late }
}

/// The address of the loopback candidate in a description: the last.
fn candidate(sdp: &str) -> std::net::SocketAddr {
    let line = sdp.lines().rfind(|line| line.starts_with("a=candidate:")).expect("a candidate");
    let words: Vec<&str> = line.split(' ').collect();
    format!("{}:{}", words[4], words[5]).parse().expect("an address")
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// What an end plays by RTP timestamp that finds its place anew in the pause before each clip.
fn anew(track: &mut Track, line: &TimeLine, opus: bool, script: &Script) -> Vec<i16> {
    let ms = script.ms() + 500;
    let mut sound = vec![0; ms * 8];
    for &start in &script.starts_ms {
        let played = track.play(opus, line.zero_before(start as f64), ms);
        // The pause after it belongs to a clip that is late.
        let place = start * 8..((start + script.clip_ms + PAUSE_MS) * 8).min(sound.len());
        sound[place.clone()].copy_from_slice(&played[place]);
    }
    sound
}

impl Call {
    fn entries(mut self, row: &Row, script: &Script, options: &Options, ours: bool) -> Vec<Value> {
        let (held_up, longest) = self.held_up(ours);
        let stood = self.held_up(false).1;
        let ms = script.ms() + 500;
        let up = self.at_phone.play(false, self.phone_path.line.zero(), ms);
        let down = self.at_browser.play(true, self.browser_path.line.zero(), ms);
        let mut heard = vec![("down", down), ("up", up)];
        if !ours {
            // Other ways to play it, of which the best counts.
            let (to_phone, to_browser) = (&self.phone_path.line, &self.browser_path.line);
            heard.push(("queued-up", self.at_phone.queued(to_phone, QUEUE_MS, ms)));
            heard.push(("anew-up", anew(&mut self.at_phone, to_phone, false, script)));
            heard.push(("anew-down", anew(&mut self.at_browser, to_browser, true, script)));
        }
        let entry = |direction: &str, sound: &[i16], from: &Passed, late: &[f64], to: &Passed, counts: (u64, u64)| {
            let mut entry = recorded(direction, row, script, options, sound);
            // What a packet needs to the gateway in fine weather, our own lateness included.
            entry["path_ms"] = (mean(late) + if row.is_fine() { mean(&from.took_ms) } else { 10.0 }).into();
            (entry["packets"], entry["lost"]) = (counts.0.into(), counts.1.into());
            entry["timestamps_wrong"] = to.line.wrong.into();
            entry["packets_in_10_s"] = json!(to.line.in_ten_seconds());
            (entry["held_up"], entry["held_up_ms"]) = (held_up.into(), longest.into());
            entry["stood_ms"] = stood.into();
            entry
        };
        let (browser, phone) = (&self.browser_path, &self.phone_path);
        let lost_down = if row.is_trunk() { phone.to_gateway } else { browser.from_gateway };
        let entries =
            heard.iter().filter(|(name, _)| !(row.is_trunk() && name.ends_with("up"))).map(|(name, sound)| {
                let mut entry = if name.ends_with("up") {
                    entry(name, sound, browser, &self.browser_late, phone, browser.to_gateway)
                } else {
                    entry(name, sound, phone, &self.phone_late, browser, lost_down)
                };
                if name.starts_with("queued") {
                    entry["path_ms"] = (entry["path_ms"].as_f64().unwrap_or_default() + QUEUE_MS).into();
                }
                entry
            });
        entries.collect()
    }

    /// The share of packets that the machine held up, the ends' on their way out or a gateway's of `ours`, which keeps
    /// its beat by itself, and for how long at most.
    fn held_up(&self, ours: bool) -> (f64, f64) {
        let mut all = vec![self.browser_late.clone(), self.phone_late.clone()];
        if ours {
            all.extend([self.browser_path.line.late_ms(), self.phone_path.line.late_ms()]);
        }
        let share = |late: &Vec<f64>| late.iter().filter(|ms| **ms > LATE_MS).count() as f64 / late.len().max(1) as f64;
        let longest = all.iter().flatten().fold(0.0, |longest: f64, ms| longest.max(*ms));
        (all.iter().map(share).fold(0.0, f64::max), longest)
    }
}
