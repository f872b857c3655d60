//! The phone's end of a canary call: it plays bursts of a tone, hears what comes back, and says what it has measured.
//!
//! [`Canary`] is what the caller holds: it says when the far end has answered and when digits are sent, and is told when each
//! part is over. Delays are taken between what is sent and what comes, sample by sample, so what they include is the way to
//! the far end and back and the gateway's own buffers, as a user would have it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::numbers::{FRAME, Frame, Opening, Script, Step};
use crate::codec::SAMPLE_RATE;
use crate::codec::tone::{amplitude, detect_dtmf, rms};

/// The tone of the bursts: none that a network plays by itself.
const HZ: f32 = 1_870.0;
/// Its peak: 15 dB below full scale.
const PEAK: f32 = 5_800.0;
/// A burst each second, of 240 ms: what comes back later than that is not told from the next.
const PERIOD: u32 = 50;
const BURST: u32 = 12;
/// A block of what is heard: 5 ms.
const BLOCK: usize = 40;
/// A tone stands after so many blocks, and has ended after so many without: a packet that was lost is no end.
const STANDS: usize = 4;
const GONE: usize = 8;
/// A tone weaker than this is none: 50 dB below what was sent.
const FAINTEST: f32 = PEAK / 316.0;
/// Nothing louder than this is silence: 60 dB below full scale.
const SILENCE: f32 = 33.0;
/// Returns that are enough.
const ENOUGH: usize = 3;
/// What is listened to before the first burst.
const LISTEN: Duration = Duration::from_secs(1);
/// How long an echo is waited for: a service may explain itself first.
const ECHO_WITHIN: Duration = Duration::from_secs(18);
/// The same of a line on which nothing is heard, or a steady tone.
const SOUND_WITHIN: Duration = Duration::from_secs(6);
/// What has been silent for so long says nothing more.
const SILENT_FOR: Duration = Duration::from_secs(3);
/// After the last digit that came back, or after the last that was sent.
const DIGITS_QUIET: Duration = Duration::from_secs(4);
/// Blocks that are looked at for the steadiness of a tone: 200 ms.
const STEADY: usize = 40;
/// Digits that are kept.
const MOST_DIGITS: usize = 64;

/// How far a measurement is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// The far end has not answered.
    #[default]
    Waiting,
    /// Bursts are played.
    Sounding,
    /// Enough is known of the sound: digits may be sent.
    Sounded,
    /// Digits are sent, and waited for.
    Digits,
    /// All is known.
    Done,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Samples heard since the far end has answered.
    pub samples: u64,
    /// The loudest 20 ms, dB below full scale; absent where nothing came.
    pub level_db: Option<f32>,
    /// The frequency of a steady tone that was heard and is not ours, Hz.
    pub tone_hz: Option<u32>,
    /// Bursts that were played.
    pub bursts: u32,
    /// Of those that came back: how much later, milliseconds.
    pub delays_ms: Vec<f32>,
    /// And how much louder than they were sent, dB.
    pub ratios_db: Vec<f32>,
    /// Digits that came back as events (RFC 4733 or SIP INFO).
    pub events: String,
    /// Digits that came back as tones.
    pub tones: String,
}

impl Measured {
    /// Whether anything but silence was heard.
    pub fn is_heard(&self) -> bool {
        self.level_db.is_some_and(|level| level > db(SILENCE))
    }

    /// The digits that came back: events, or else tones.
    pub fn digits(&self) -> &str {
        if self.events.is_empty() { &self.tones } else { &self.events }
    }

    /// The median round trip, milliseconds.
    pub fn delay_ms(&self) -> Option<f32> {
        median(&self.delays_ms)
    }

    /// The median of how much louder what came back was, dB.
    pub fn ratio_db(&self) -> Option<f32> {
        median(&self.ratios_db)
    }
}

/// dB below full scale.
fn db(level: f32) -> f32 {
    20.0 * (level.max(0.1) / 32_768.0).log10()
}

fn median(values: &[f32]) -> Option<f32> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// A measurement; clones are the same one.
#[derive(Clone, Debug)]
pub struct Canary {
    /// Where the gateway's media is, whatever its descriptions say.
    pub(super) media: IpAddr,
    probe: Arc<Mutex<Probe>>,
    stage: watch::Receiver<Stage>,
}

impl Canary {
    /// A measurement on this machine: `media` is where the gateway's media is, whatever its descriptions say. They may name
    /// an address that only the outside can reach.
    pub fn new(media: IpAddr) -> Canary {
        let (tell, stage) = watch::channel(Stage::default());
        Canary { media, probe: Arc::new(Mutex::new(Probe::new(tell))), stage }
    }

    /// The far end has answered.
    pub fn answered(&self, now: Instant) {
        self.with(|probe| probe.begin(now));
    }

    /// Digits will have been sent by then.
    pub fn digits_until(&self, until: Instant) {
        self.with(|probe| probe.expect_digits(until));
    }

    /// Comes back when the measurement is that far, or further.
    pub async fn until(&self, wanted: Stage) {
        let at = |stage: &Stage| *stage as u8 >= wanted as u8;
        let _ = self.stage.clone().wait_for(at).await; // it fails only where the measurement is gone
    }

    /// What is known so far.
    pub fn measured(&self) -> Measured {
        self.with(|probe| probe.measured.clone())
    }

    /// What a call of the phone does for it.
    pub(super) fn script(&self) -> Box<dyn Script> {
        Box::new(Measuring { canary: self.clone(), now: None })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Probe) -> T) -> T {
        act(&mut self.probe.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The script of the phone's call.
#[derive(Debug)]
struct Measuring {
    canary: Canary,
    now: Option<Instant>,
}

impl Measuring {
    fn with(&self, act: impl FnOnce(&mut Probe, Instant)) {
        if let Some(now) = self.now {
            self.canary.with(|probe| act(probe, now));
        }
    }
}

impl Script for Measuring {
    fn opening(&self) -> Opening {
        Opening::Answer
    }

    fn at(&mut self, now: Instant) {
        self.now = Some(now);
    }

    fn hear(&mut self, pcm: &[i16]) {
        self.with(|probe, now| probe.hear(now, pcm));
    }

    fn digit(&mut self, digit: char) {
        self.with(|probe, now| probe.digit(now, digit));
    }

    fn play(&mut self, frame: &mut Frame) -> Option<Step> {
        frame.fill(0);
        self.with(|probe, now| probe.play(now, frame));
        None
    }
}

/// The measurement itself.
#[derive(Debug)]
struct Probe {
    stage: watch::Sender<Stage>,
    measured: Measured,
    /// When the far end answered.
    begun: Option<Instant>,
    /// When anything was heard last.
    heard: Option<Instant>,
    /// Frames since the first burst.
    frame: u32,
    /// When the last burst was sent, and whether it has come back.
    sent: Option<(Instant, bool)>,
    ear: Ear,
    digits: DigitEar,
    /// When digits are waited for no more.
    until: Option<Instant>,
}

impl Probe {
    fn new(stage: watch::Sender<Stage>) -> Probe {
        Probe {
            stage,
            measured: Measured::default(),
            begun: None,
            heard: None,
            frame: 0,
            sent: None,
            ear: Ear::default(),
            digits: DigitEar::default(),
            until: None,
        }
    }

    fn is_at(&self, stage: Stage) -> bool {
        *self.stage.borrow() == stage
    }

    fn begin(&mut self, now: Instant) {
        if self.is_at(Stage::Waiting) {
            self.begun = Some(now);
            self.stage.send_replace(Stage::Sounding);
        }
    }

    fn expect_digits(&mut self, until: Instant) {
        if self.is_at(Stage::Sounded) {
            self.until = Some(until + DIGITS_QUIET);
            self.stage.send_replace(Stage::Digits);
        }
    }

    fn digit(&mut self, now: Instant, digit: char) {
        if self.is_at(Stage::Digits) && self.measured.events.len() < MOST_DIGITS {
            self.measured.events.push(digit);
            self.wait_on(now);
        }
    }

    /// A digit has come: another may.
    fn wait_on(&mut self, now: Instant) {
        self.until = self.until.map(|until| until.max(now + DIGITS_QUIET));
    }

    fn hear(&mut self, now: Instant, pcm: &[i16]) {
        if self.begun.is_none() {
            return;
        }
        self.measured.samples = self.measured.samples.saturating_add(pcm.len() as u64);
        let level = db(rms(pcm));
        if level > db(SILENCE) {
            self.heard = Some(now);
        }
        self.measured.level_db = Some(self.measured.level_db.map_or(level, |loudest| loudest.max(level)));
        if self.is_at(Stage::Digits) {
            let heard = self.digits.hear(pcm).filter(|_| self.measured.tones.len() < MOST_DIGITS);
            if let Some(digit) = heard {
                self.measured.tones.push(digit);
                self.wait_on(now);
            }
            return;
        }
        for (at, block) in pcm.chunks_exact(BLOCK).enumerate() {
            let time = now + samples(at * BLOCK);
            if let Some(tone) = self.ear.hear(time, block) {
                self.returned(tone);
            }
        }
        self.measured.tone_hz = self.measured.tone_hz.or_else(|| self.ear.steady_hz());
    }

    /// A tone of ours was heard: the burst that was sent last has come back, if it is about as long.
    fn returned(&mut self, tone: Tone) {
        let Some((sent, false)) = self.sent else { return };
        let whole = Duration::from_millis(u64::from(BURST) * 20);
        let alike = tone.lasted > whole / 2 && tone.lasted < whole * 2;
        let Some(delay) = tone.began.checked_duration_since(sent).filter(|_| alike) else { return };
        self.sent = Some((sent, true));
        self.measured.delays_ms.push(delay.as_secs_f32() * 1000.0);
        self.measured.ratios_db.push(20.0 * (tone.peak / PEAK).log10());
    }

    fn play(&mut self, now: Instant, frame: &mut Frame) {
        let Some(begun) = self.begun else { return };
        if self.until.is_some_and(|until| now >= until) && self.is_at(Stage::Digits) {
            self.stage.send_replace(Stage::Done);
        }
        if !self.is_at(Stage::Sounding) || now < begun + LISTEN {
            return;
        }
        let at = self.frame % PERIOD;
        if at == 0 && self.is_known(now, begun) {
            self.stage.send_replace(Stage::Sounded);
            return;
        }
        if at == 0 {
            self.sent = Some((now, false));
            self.measured.bursts = self.measured.bursts.saturating_add(1);
        }
        if at < BURST {
            let from = at as usize * FRAME;
            for (sample, n) in frame.iter_mut().zip(from..) {
                // A burst is short: the phase is exact enough in 32 bits.
                let phase = (HZ * n as f32 / SAMPLE_RATE as f32).fract() * std::f32::consts::TAU;
                *sample = (phase.sin() * PEAK) as i16;
            }
        }
        self.frame = self.frame.saturating_add(1);
    }

    /// Whether nothing more is to be learnt by further bursts.
    fn is_known(&self, now: Instant, begun: Instant) -> bool {
        let since = now.saturating_duration_since(begun);
        let silent = self.heard.is_none_or(|heard| now >= heard + SILENT_FOR);
        self.measured.delays_ms.len() >= ENOUGH
            || since >= ECHO_WITHIN
            || (since >= SOUND_WITHIN && (silent || self.measured.tone_hz.is_some()))
    }
}

fn samples(count: usize) -> Duration {
    Duration::from_micros(count as u64 * 1_000_000 / u64::from(SAMPLE_RATE))
}

/// Our tone, as it was heard.
#[derive(Clone, Copy, Debug)]
struct Tone {
    began: Instant,
    lasted: Duration,
    /// Its peak amplitude.
    peak: f32,
}

/// Finds our tone in what is heard, and any other that is steady.
#[derive(Debug, Default)]
struct Ear {
    /// The tone that sounds, and the amplitudes of its blocks.
    since: Option<Instant>,
    blocks: Vec<f32>,
    /// Blocks without it since.
    without: usize,
    /// Zero crossings of the last loud blocks of another sound, and its levels.
    steady: Vec<(u32, f32)>,
    last: i16,
}

impl Ear {
    /// Takes 5 ms; gives a tone of ours that has ended.
    fn hear(&mut self, now: Instant, block: &[i16]) -> Option<Tone> {
        let (level, ours) = (rms(block), amplitude(block, SAMPLE_RATE, HZ));
        let clear = ours > FAINTEST && ours * ours / 2.0 > 0.6 * level * level;
        self.watch_steady(block, level, clear);
        if clear {
            self.since.get_or_insert(now);
            self.without = 0;
            // Longer than twice a burst it is none of ours, and not kept.
            if self.blocks.len() < 4 * BURST as usize * FRAME / BLOCK {
                self.blocks.push(ours);
            }
            return None;
        }
        let began = self.since?;
        self.without += 1;
        let enough = self.blocks.len() >= STANDS;
        if enough && self.without < GONE {
            return None;
        }
        let blocks = std::mem::take(&mut self.blocks);
        self.since = None;
        self.without = 0;
        let ended = now.checked_sub(samples(GONE.saturating_sub(1) * BLOCK)).unwrap_or(now);
        let lasted = ended.saturating_duration_since(began);
        enough.then(|| Tone { began, lasted, peak: median(&blocks).unwrap_or(0.0) })
    }

    /// Remembers how often what is heard crosses zero, where it is loud and not ours.
    fn watch_steady(&mut self, block: &[i16], level: f32, ours: bool) {
        if ours || level < 10.0 * SILENCE {
            self.steady.clear();
            self.last = block.last().copied().unwrap_or(0);
            return;
        }
        let mut crossings = 0;
        for sample in block {
            crossings += u32::from((*sample >= 0) != (self.last >= 0));
            self.last = *sample;
        }
        if self.steady.len() >= STEADY {
            self.steady.remove(0);
        }
        self.steady.push((crossings, level));
    }

    /// The frequency of a tone that has sounded for 200 ms without a change of height or level.
    fn steady_hz(&self) -> Option<u32> {
        if self.steady.len() < STEADY {
            return None;
        }
        let (crossings, levels): (Vec<u32>, Vec<f32>) = self.steady.iter().copied().unzip();
        let (low, high) = (crossings.iter().min()?, crossings.iter().max()?);
        let softest = levels.iter().copied().fold(f32::MAX, f32::min);
        let loudest = levels.iter().copied().fold(0.0, f32::max);
        let total: u32 = crossings.iter().sum();
        let hz = total * SAMPLE_RATE / (2 * (STEADY * BLOCK) as u32);
        (high - low <= 2 && loudest < softest * 1.4).then_some(hz)
    }
}

/// Finds DTMF digits in packets of what is heard.
#[derive(Debug, Default)]
struct DigitEar {
    last: Option<char>,
    times: u32,
}

impl DigitEar {
    /// Takes 20 ms; gives a digit when it has sounded twice in a row.
    fn hear(&mut self, pcm: &[i16]) -> Option<char> {
        let digit = detect_dtmf(pcm);
        self.times = if digit == self.last { self.times.saturating_add(1) } else { 1 };
        self.last = digit;
        digit.filter(|_| self.times == 2)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::VecDeque;

    use super::*;
    use crate::codec::g711::Law;
    use crate::codec::tone::{Note, TonePlayer, dtmf};

    const PACKET: Duration = Duration::from_millis(20);

    /// Both ends of a call in virtual time: what the far end makes of each frame comes back some packets later.
    fn measure(seconds: u32, delay: usize, mut far: impl FnMut(u32, &Frame) -> Option<Frame>) -> (Canary, Instant) {
        let canary = Canary::new(IpAddr::from([127, 0, 0, 1]));
        let mut script = canary.script();
        let mut now = Instant::now();
        canary.answered(now);
        let mut on_the_way: VecDeque<Option<Frame>> = vec![None; delay].into();
        for n in 0..seconds * 50 {
            let mut frame = [0; FRAME];
            script.at(now);
            script.play(&mut frame);
            on_the_way.push_back(far(n, &frame));
            if let Some(Some(back)) = on_the_way.pop_front() {
                // As G.711 has it.
                script.hear(&back.map(|sample| Law::A.decode_sample(Law::A.encode_sample(sample))));
            }
            now += PACKET;
        }
        (canary, now)
    }

    #[test]
    fn an_echo_is_measured_to_the_sample_and_its_level_to_a_decibel() {
        let quieter = |_, frame: &Frame| Some(frame.map(|sample| sample / 2));
        let (canary, _) = measure(6, 7, quieter);
        let measured = canary.measured();
        assert_eq!(measured.delays_ms.len(), ENOUGH);
        let (delay, ratio) = (measured.delay_ms().unwrap(), measured.ratio_db().unwrap());
        assert!((delay - 140.0).abs() < 5.1, "{delay} ms");
        assert!((ratio + 6.0).abs() < 1.0, "{ratio} dB");
        assert_eq!((measured.bursts, measured.tone_hz), (3, None));
        assert!(canary.with(|probe| probe.is_at(Stage::Sounded)));
    }

    /// A service that speaks before it echoes: noise, then the echo.
    #[test]
    fn an_echo_after_a_greeting_is_found() {
        let mut random = 1_u32;
        let mut noise = move || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 19) as i16 - 4096
        };
        let greets = move |n, frame: &Frame| Some(if n < 350 { std::array::from_fn(|_| noise()) } else { *frame });
        let (canary, _) = measure(15, 3, greets);
        let measured = canary.measured();
        assert_eq!(measured.delays_ms.len(), ENOUGH, "{measured:?}");
        assert!((measured.delay_ms().unwrap() - 60.0).abs() < 5.1, "{measured:?}");
    }

    #[test]
    fn a_dead_line_is_given_up_soon_and_one_that_never_echoes_in_time() {
        let (canary, _) = measure(8, 0, |_, _| None);
        assert_eq!((canary.measured().level_db, canary.measured().samples), (None, 0));
        assert!(canary.with(|probe| probe.is_at(Stage::Sounded)));
        let (canary, _) = measure(8, 0, |_, _| Some([0; FRAME]));
        assert!(canary.measured().level_db.unwrap() < -60.0);
        assert!(canary.with(|probe| probe.is_at(Stage::Sounded)));
    }

    #[test]
    fn a_milliwatt_service_is_a_tone_and_no_echo() {
        let notes = [Note::single(1_004.0, 60_000)];
        let mut player = TonePlayer::once(&notes, 8_000);
        let (canary, _) = measure(9, 2, |_, _| {
            let mut frame = [0; FRAME];
            player.fill(&mut frame);
            Some(frame)
        });
        let measured = canary.measured();
        assert!(measured.tone_hz.is_some_and(|hz| hz.abs_diff(1_004) < 15), "{measured:?}");
        assert!(measured.delays_ms.is_empty() && canary.with(|probe| probe.is_at(Stage::Sounded)), "{measured:?}");
    }

    #[test]
    fn digits_come_back_as_events_or_as_tones_and_are_waited_for() {
        let (canary, mut now) = measure(6, 2, |_, frame| Some(*frame));
        let mut script = canary.script();
        canary.digits_until(now);
        let notes: Vec<Note> = "159#".chars().flat_map(|digit| [dtmf(digit, 100).unwrap(), Note::rest(80)]).collect();
        let mut player = TonePlayer::once(&notes, 6_000);
        for n in 0..400 {
            let mut frame = [0; FRAME];
            player.fill(&mut frame);
            script.at(now);
            script.hear(&frame);
            script.play(&mut frame);
            // Four seconds after the last of them was recognised.
            assert_eq!(canary.with(|probe| probe.is_at(Stage::Done)), n >= 28 + 200, "{n}");
            now += PACKET;
        }
        assert_eq!(canary.measured().digits(), "159#");
        let (canary, now) = measure(6, 2, |_, frame| Some(*frame));
        let mut script = canary.script();
        script.at(now);
        script.digit('7'); // before any was sent
        canary.digits_until(now);
        "12".chars().for_each(|digit| script.digit(digit));
        assert_eq!(canary.measured().digits(), "12");
    }
}
