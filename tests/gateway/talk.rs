//! Calls that talk, listened to at both ends from the first moment to the last. Each party has a tone of its own, so that no
//! call's sound can pass for another's.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::peer::sound::{Heard, Recording};
use crate::peer::{Browser, Codecs, Phone, Sound};
use crate::sipp::{Setup, Sipp};
use crate::support::Gateway;

/// Tones that differ by this are told apart in one frame of 20 ms.
const STEP: f64 = 50.0;
/// The most calls at once.
pub const MOST: u16 = 20;
/// What a party may miss on end of the other: beyond it there is a gap. (A gateway that is not optimised stands still for
/// some hundred milliseconds while it begins a call.)
const LONGEST_GAP_MS: usize = if cfg!(debug_assertions) { 600 } else { 120 };

/// A thread that wants to run every 10 ms and sees how long the machine did not let it: a busy machine, on which everything
/// stands still for a moment, is no fault of the gateway's.
pub struct Witness {
    worst_ms: Arc<AtomicUsize>,
    _ends: Sender<()>,
}

impl Witness {
    pub fn start() -> Witness {
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
pub struct Talk {
    pub browser: Browser,
    phone: Phone,
    call: String,
    up: f64,
    down: f64,
    /// How much each had heard when it was looked at last.
    heard: (usize, usize),
    at: Instant,
}

impl Talk {
    /// Waits until each hears the other, and looks from then on.
    async fn begins(&mut self) {
        self.phone.heard.tone("the phone", self.up).await;
        self.browser.heard.tone("the browser", self.down).await;
        self.remember();
    }

    /// Waits for a second more in which each hears the other.
    pub async fn goes_on(&self) {
        self.phone.heard.tone_anew("the phone", self.up).await;
        self.browser.heard.tone_anew("the browser", self.down).await;
    }

    /// Whether both have heard each other without a gap since the last look, or what was wrong.
    pub fn look(&mut self, witness: &Witness) -> Result<(), String> {
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

    pub async fn hang_up(&mut self) {
        self.browser.hangup(&self.call).await;
        self.browser.ended("us").await;
    }

    pub async fn leave(self) {
        self.browser.close().await;
        self.phone.stop().await;
    }
}

/// The phones of a trunk before they can be called: one SIPp, and the sound of each of its calls.
pub struct Phones {
    setup: Setup,
    sound: Vec<Phone>,
}

impl Phones {
    /// For so many calls, one after another or at once.
    pub async fn new(calls: u16) -> Phones {
        Phones::of(Setup::new("soak-phone"), calls).await
    }

    /// The same by a SIPp that is reached in this way.
    pub async fn of(setup: Setup, calls: u16) -> Phones {
        let mut sound = Vec::new();
        for _ in 0..calls {
            sound.push(Phone::start("127.0.0.1").await);
        }
        let ports: Vec<u16> = sound.iter().map(|phone| phone.address.port()).collect();
        let setup = setup.word("MEDIA_IP", "127.0.0.1").word("MEDIA_PORT", "[field0]");
        Phones { setup: setup.in_turn(ports).calls(u32::from(calls)), sound }
    }

    pub fn address(&self) -> SocketAddr {
        self.setup.address()
    }

    /// From now on they answer, in turn.
    pub async fn answer(self, gateway: &Gateway) -> Line {
        let sipp = self.setup.phone(door(gateway)).await;
        Line { sipp, sound: self.sound.into_iter() }
    }
}

/// Phones that answer.
pub struct Line {
    pub sipp: Sipp,
    sound: std::vec::IntoIter<Phone>,
}

impl Line {
    /// The next phone is called; party number `n` and it begin to speak, half of the browsers by Opus, half by G.711.
    async fn dial(&mut self, mut browser: Browser, n: u16) -> Talk {
        let phone = self.sound.next().unwrap();
        let call = browser.call("600", if n.is_multiple_of(2) { Codecs::All } else { Codecs::Pcmu }).await;
        browser.expect("answered").await;
        let up = 400.0 + STEP * f64::from(n);
        let down = up + STEP * f64::from(MOST);
        browser.say(Sound::Tone(up)).await;
        phone.say(Sound::Tone(down)).await;
        Talk { browser, phone, call, up, down, heard: (0, 0), at: Instant::now() }
    }

    /// The next phone is called by this browser, and they hear each other.
    pub async fn talk(&mut self, browser: Browser, n: u16) -> Talk {
        let mut talk = self.dial(browser, n).await;
        talk.begins().await;
        talk
    }

    /// A call for each of these browsers; all of them hear each other.
    pub async fn talks(&mut self, browsers: Vec<Browser>, first: u16) -> Vec<Talk> {
        let mut talks = Vec::new();
        for (n, browser) in (first..).zip(browsers) {
            talks.push(self.dial(browser, n).await);
        }
        for talk in &mut talks {
            talk.begins().await;
        }
        talks
    }
}

/// Where browsers find a gateway.
pub fn door(gateway: &Gateway) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], gateway.port()))
}

/// A page of each of the users `user0`, `user1`, ...
pub async fn pages(gateway: &Gateway, users: Range<u16>) -> Vec<Browser> {
    let mut pages = Vec::new();
    for n in users {
        pages.push(Browser::open(door(gateway), &format!("user{n}")).await);
    }
    pages
}

/// None of them was cut and none had a gap.
pub fn all_hear(what: &str, talks: &mut [Talk], witness: &Witness) {
    let wrong: Vec<String> = talks.iter_mut().filter_map(|talk| talk.look(witness).err()).collect();
    assert!(wrong.is_empty(), "{what}, {} ms allowed: {wrong:#?}", witness.longest_gap_ms());
}

/// They hang up, one after another, and go.
pub async fn all_leave(line: Line, mut talks: Vec<Talk>) {
    for talk in &mut talks {
        talk.hang_up().await;
    }
    line.sipp.finish().await;
    for talk in talks {
        talk.leave().await;
    }
}
