//! What both kinds of ends have: a mouth that speaks at its pace, and an ear that keeps what came.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use tokio::sync::mpsc;

use super::Happened;
use super::page::Page;
use super::phone::Phone;
use crate::heard::{Heard, LONGEST};
use crate::sound::Prepared;

/// From packet to packet.
const FRAME: Duration = Duration::from_millis(20);
/// A clip is said so long after the window's begin.
pub(super) const CLIP_AFTER: Duration = Duration::from_millis(500);

/// An end of a call.
pub(super) enum Leg {
    Page(Page),
    Phone(Phone),
}

impl Leg {
    pub(super) fn call(&self) -> usize {
        match self {
            Leg::Page(page) => page.call,
            Leg::Phone(phone) => phone.call,
        }
    }

    pub(super) fn socket(&mut self) -> &mut UdpSocket {
        match self {
            Leg::Page(page) => &mut page.socket,
            Leg::Phone(phone) => &mut phone.socket,
        }
    }

    pub(super) fn ear(&mut self) -> &mut Ear {
        match self {
            Leg::Page(page) => &mut page.ear,
            Leg::Phone(phone) => &mut phone.ear,
        }
    }

    /// Keeps what it hears in a window, and says its clip there, where it has one.
    pub(super) fn listen(&mut self, window: Window) {
        let mouth = match self {
            Leg::Page(page) => &mut page.mouth,
            Leg::Phone(phone) => &mut phone.mouth,
        };
        mouth.aim(window.begin + CLIP_AFTER);
        self.ear().listen(window);
    }

    /// When it wants to be woken.
    pub(super) fn wake(&self) -> Instant {
        match self {
            Leg::Page(page) => page.wake(),
            Leg::Phone(phone) => phone.mouth.due(),
        }
    }

    /// Reads all that came.
    pub(super) fn read(&mut self, tell: &mpsc::Sender<Happened>) {
        match self {
            Leg::Page(page) => page.read(tell),
            Leg::Phone(phone) => phone.read(),
        }
    }

    /// Does what is due.
    pub(super) fn due(&mut self, now: Instant, tell: &mpsc::Sender<Happened>) {
        match self {
            Leg::Page(page) => page.due(now, tell),
            Leg::Phone(phone) => phone.speak(now),
        }
    }
}

/// Says prepared packets, one every 20 ms, over and over.
#[derive(Debug)]
pub struct Mouth {
    prepared: Arc<Prepared>,
    frame: usize,
    /// How many packets were said.
    pub(super) said: u32,
    due: Instant,
    /// How long after its begin it speaks first.
    phase: Duration,
    /// The first packet of the clip that is said in a window.
    clip: Option<usize>,
}

impl Mouth {
    /// The one of call number `call`: neither what the calls say nor their beat is the same.
    pub fn new(prepared: Arc<Prepared>, call: usize) -> Mouth {
        let phase = Duration::from_micros(call as u64 * 7_300 % 20_000);
        Mouth { prepared, frame: call * 37, said: 0, due: Instant::now() + phase, phase, clip: None }
    }

    /// It says what begins with packet `first` in each window, half a second after its begin.
    pub fn with_clip(self, first: usize) -> Mouth {
        Mouth { clip: Some(first), ..self }
    }

    /// Goes on at another place, so that the clip begins at `at`.
    fn aim(&mut self, at: Instant) {
        let Some(first) = self.clip else { return };
        let (packets, all) = (
            at.saturating_duration_since(self.due).as_micros().div_ceil(FRAME.as_micros()),
            self.prepared.payloads.len().max(1),
        );
        self.frame = first + all - packets as usize % all;
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether what is said is Opus.
    pub(super) fn is_opus(&self) -> bool {
        self.prepared.coding.is_opus()
    }

    /// Time has passed in which nothing could be said.
    pub(super) fn begin(&mut self, now: Instant) {
        self.due = now + self.phase;
    }

    /// The next packet, where it is due: its place in the stream and its payload; `ear` notes when it went out.
    pub(super) fn say(&mut self, now: Instant, ear: &mut Ear) -> Option<(u32, &[u8])> {
        if now < self.due {
            return None;
        }
        let place = self.frame % self.prepared.payloads.len().max(1);
        let mark = self.prepared.marks.get(place).copied().flatten();
        ear.said(now, now - self.due, mark);
        if self.clip == Some(place) {
            ear.clip_begins(now);
        }
        let n = self.said;
        self.frame += 1;
        self.said += 1;
        self.due += FRAME;
        Some((n, self.prepared.payloads.get(place)?))
    }

    /// The timestamp of packet `n`.
    pub(super) fn timestamp(&self, n: u32) -> u32 {
        n.wrapping_mul(self.prepared.coding.step()).wrapping_add(0xfff0_0000)
    }
}

/// The time that is measured.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Its begin.
    pub begin: Instant,
    /// Its end.
    pub end: Instant,
}

/// Keeps what comes within a window, and a little longer: for the marks that were said at its end.
#[derive(Debug, Default)]
pub(super) struct Ear {
    window: Option<Window>,
    heard: Heard,
}

impl Ear {
    pub(super) fn new(opus: bool) -> Ear {
        Ear { window: None, heard: Heard { opus, ..Heard::default() } }
    }

    /// Makes room for the whole window: nothing grows while it is measured.
    pub(super) fn listen(&mut self, window: Window) {
        let packets = (window.end - window.begin + LONGEST).as_millis() as usize / 20 + 50;
        let opus = self.heard.opus;
        self.heard = Heard {
            arrivals: Vec::with_capacity(packets),
            bytes: Vec::with_capacity(packets * if opus { 100 } else { 160 }),
            late_ms: Vec::with_capacity(packets),
            marks_said: Vec::with_capacity(packets / 50 + 1),
            opus,
            clip_said: None,
            life: self.heard.life,
        };
        self.window = Some(window);
    }

    pub(super) fn tell(&mut self) -> Heard {
        self.window = None;
        let Heard { opus, life, .. } = self.heard;
        std::mem::replace(&mut self.heard, Heard { opus, life, ..Heard::default() })
    }

    fn clip_begins(&mut self, now: Instant) {
        if self.window.is_some_and(|window| window.begin <= now) {
            self.heard.clip_said.get_or_insert(now);
        }
    }

    fn said(&mut self, now: Instant, late: Duration, mark: Option<f64>) {
        let Some(window) = self.window.filter(|window| window.begin <= now && now < window.end) else { return };
        self.heard.late_ms.push(late.as_secs_f64() * 1_000.0);
        // A mark near the begin may have been said to somebody who did not listen yet.
        if let Some(ms) = mark.filter(|_| now >= window.begin + FRAME) {
            self.heard.marks_said.push(now - Duration::from_secs_f64((20.0 - ms).max(0.0) / 1_000.0));
        }
    }

    pub(super) fn hear(&mut self, now: Instant, (sequence, timestamp): (u16, u32), payload: &[u8]) {
        self.heard.life.add(sequence);
        if self.window.is_some_and(|window| window.begin <= now && now < window.end + LONGEST) {
            self.heard.add(now, (sequence, timestamp), payload);
        }
    }
}
