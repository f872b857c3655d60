//! Sound at 8 kHz, or at 16: made, recorded by RTP timestamp, and measured.

use std::f64::consts::TAU;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Samples a second, unless a test is about wideband.
pub const RATE: usize = 8000;
/// Samples a second of wideband.
pub const WIDE: usize = 16_000;
/// Samples in 20 ms.
pub const FRAME: usize = 160;

/// What an end of the call says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sound {
    Silence,
    /// A sine of so many hertz, at -10 dB of full scale.
    Tone(f64),
    /// The two tones of a key.
    Key(char),
}

/// The two frequencies of a key (ITU-T Q.23).
fn key_tones(key: char) -> [f64; 2] {
    let place = "123A456B789C*0#D".find(key).expect("a key");
    [[697.0, 770.0, 852.0, 941.0][place / 4], [1209.0, 1336.0, 1477.0, 1633.0][place % 4]]
}

/// Makes a [`Sound`] frame by frame, without a jump between frames.
#[derive(Debug, Default)]
pub struct Voice {
    phase: f64,
    second: f64,
}

impl Voice {
    /// 20 ms; as many samples as the caller wants, of which the rate follows.
    pub fn frame<const N: usize>(&mut self, sound: Sound) -> [i16; N] {
        let step = |hertz: f64| TAU * hertz / (N * 50) as f64;
        match sound {
            Sound::Silence => [0; N],
            Sound::Tone(hertz) => std::array::from_fn(|_| {
                self.phase = (self.phase + step(hertz)) % TAU;
                (self.phase.sin() * 10_000.0) as i16
            }),
            Sound::Key(key) => {
                let [low, high] = key_tones(key).map(step);
                std::array::from_fn(|_| {
                    (self.phase, self.second) = ((self.phase + low) % TAU, (self.second + high) % TAU);
                    ((self.phase.sin() + self.second.sin()) * 6_000.0) as i16
                })
            }
        }
    }
}

/// How much of the power of `samples` lies at `hertz`: 1 for that tone alone, near 0 without it (Goertzel).
pub fn share(samples: &[i16], hertz: f64) -> f64 {
    share_at(samples, RATE, hertz)
}

/// The same at another rate.
pub fn share_at(samples: &[i16], rate: usize, hertz: f64) -> f64 {
    let energy: f64 = samples.iter().map(|&sample| f64::from(sample).powi(2)).sum();
    if samples.is_empty() || energy < 1.0 {
        return 0.0;
    }
    let coefficient = 2.0 * (TAU * hertz / rate as f64).cos();
    let (mut one, mut two) = (0.0, 0.0);
    for &sample in samples {
        (one, two) = (f64::from(sample) + coefficient * one - two, one);
    }
    let power = one * one + two * two - coefficient * one * two;
    (2.0 * power / (samples.len() as f64 * energy)).min(1.0)
}

/// The level of `samples` in dB of full scale.
pub fn level(samples: &[i16]) -> f64 {
    let mean = samples.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / samples.len().max(1) as f64;
    10.0 * (mean.max(1e-9) / 32768.0_f64.powi(2)).log10()
}

/// What was heard in a stretch of time of one tone.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Frames of 20 ms that were that tone and loud enough.
    pub good: usize,
    /// Frames looked at.
    pub frames: usize,
    /// The level of the whole stretch.
    pub level: f64,
    /// The tone's share in the power of the whole stretch.
    pub share: f64,
}

impl Report {
    /// The tone, at a level between a whisper and clipping, with at most one frame in ten missing or spoilt: a machine
    /// that is busy loses some, a fault of ours loses half or all.
    fn is_clear(&self) -> bool {
        self.frames > 0 && self.good * 10 >= self.frames * 9 && (-25.0..=-5.0).contains(&self.level) && self.share > 0.8
    }
}

/// A recording: each packet at the place that its RTP timestamp gives it, silence where none came.
#[derive(Debug)]
pub struct Recording {
    rate: usize,
    samples: Vec<i16>,
    /// The stream's identity, and the last timestamp in samples since the recording's start.
    stream: Option<(u32, u32, i64)>,
    /// Packets with audio.
    pub packets: usize,
    /// Digits by telephone-event, in order.
    pub digits: String,
    last_event: Option<(u32, u8)>,
}

impl Default for Recording {
    fn default() -> Recording {
        Recording::new(RATE)
    }
}

impl Recording {
    fn new(rate: usize) -> Recording {
        Recording { rate, samples: Vec::new(), stream: None, packets: 0, digits: String::new(), last_event: None }
    }

    /// Puts one decoded packet at its place. `clock` is the RTP clock's rate.
    pub fn put(&mut self, ssrc: u32, timestamp: u32, clock: u32, pcm: &[i16]) {
        self.packets += 1;
        let place = match self.stream {
            Some((known, last, at)) if known == ssrc => {
                at + i64::from(timestamp.wrapping_sub(last) as i32) * self.rate as i64 / i64::from(clock)
            }
            _ => self.samples.len() as i64,
        };
        self.stream = Some((ssrc, timestamp, place));
        // A jump of a minute or backwards past the start is no place in this recording.
        let Some(place) = usize::try_from(place).ok().filter(|place| *place < self.samples.len() + 60 * self.rate)
        else {
            self.stream = None;
            return;
        };
        if self.samples.len() < place + pcm.len() {
            self.samples.resize(place + pcm.len(), 0);
        }
        self.samples[place..place + pcm.len()].copy_from_slice(pcm);
    }

    /// Takes one telephone-event packet (RFC 4733, 2.3): one event has one timestamp, however many packets.
    pub fn event(&mut self, timestamp: u32, payload: &[u8]) {
        let Some(&code) = payload.first() else { return };
        if self.last_event == Some((timestamp, code)) {
            return;
        }
        self.last_event = Some((timestamp, code));
        self.digits.extend("0123456789*#ABCD".chars().nth(usize::from(code)));
    }

    /// All of it.
    pub fn samples(&self) -> &[i16] {
        &self.samples
    }

    /// The last so many milliseconds, or less when there are not so many.
    fn last(&self, ms: usize) -> &[i16] {
        &self.samples[self.samples.len().saturating_sub(ms * self.rate / 1000)..]
    }

    /// Measures `hertz` in the last so many milliseconds.
    pub fn report(&self, hertz: f64, ms: usize) -> Report {
        let (samples, frame) = (self.last(ms), self.rate / 50);
        let good = samples.chunks_exact(frame).filter(|frame| self.is_tone(frame, hertz)).count();
        Report {
            good,
            frames: samples.len() / frame,
            level: level(samples),
            share: share_at(samples, self.rate, hertz),
        }
    }

    fn is_tone(&self, frame: &[i16], hertz: f64) -> bool {
        share_at(frame, self.rate, hertz) > 0.7 && level(frame) > -30.0
    }

    /// For how many milliseconds on end, at the longest, `hertz` was not heard in the last `ms`.
    pub fn longest_gap(&self, hertz: f64, ms: usize) -> usize {
        let frames = self.last(ms).chunks_exact(self.rate / 50);
        let (longest, _) = frames.fold((0, 0), |(longest, gap), frame| {
            let gap = if self.is_tone(frame, hertz) { 0 } else { gap + 20 };
            (longest.max(gap), gap)
        });
        longest
    }

    /// The level of the loudest tenth of a second.
    pub fn loudest(&self) -> f64 {
        self.samples.chunks(self.rate / 10).map(level).fold(f64::NEG_INFINITY, f64::max)
    }

    /// Milliseconds recorded.
    pub fn ms(&self) -> usize {
        self.samples.len() * 1000 / self.rate
    }
}

/// A recording that grows while a test waits for something to be heard in it.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<(Mutex<Recording>, Notify)>);

impl Heard {
    /// A recording at 16 kHz.
    pub fn wide() -> Heard {
        Heard(Arc::new((Mutex::new(Recording::new(WIDE)), Notify::new())))
    }

    fn lock(&self) -> MutexGuard<'_, Recording> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the recording and wakes who waits for it.
    pub fn add(&self, change: impl FnOnce(&mut Recording)) {
        change(&mut self.lock());
        self.0.1.notify_waiters();
    }

    /// Reads something from the recording.
    pub fn read<T>(&self, read: impl FnOnce(&Recording) -> T) -> T {
        read(&self.lock())
    }

    /// Waits until `condition` holds.
    pub async fn until(&self, within: Duration, mut condition: impl FnMut(&Recording) -> bool) -> bool {
        let end = Instant::now() + within;
        loop {
            let changed = self.0.1.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition(&self.lock()) {
                return true;
            }
            if timeout_at(end, changed).await.is_err() {
                return condition(&self.lock());
            }
        }
    }

    /// Waits until the last second was `hertz`, clear and without gaps, and says how it was.
    #[track_caller]
    pub fn tone(&self, who: &str, hertz: f64) -> impl Future<Output = Report> {
        let place = std::panic::Location::caller();
        let who = who.to_owned();
        let heard = self.clone();
        async move {
            let clear = |r: &Recording| r.ms() >= 1000 && r.report(hertz, 1000).is_clear();
            let well = heard.until(super::PATIENCE, clear).await;
            let (report, packets, ms) = heard.read(|r| (r.report(hertz, 1000), r.packets, r.ms()));
            assert!(
                well,
                "{who} ({place}) should hear {hertz} Hz; {packets} packets, {ms} ms, last second: {report:?}"
            );
            report
        }
    }

    /// The same of a second that is yet to come: what was heard before does not count.
    #[track_caller]
    pub fn tone_anew(&self, who: &str, hertz: f64) -> impl Future<Output = Report> {
        let place = std::panic::Location::caller();
        let heard = self.clone();
        let tone = self.tone(who, hertz);
        async move {
            let before = heard.read(Recording::ms);
            let more = heard.until(super::PATIENCE, |r| r.ms() >= before + 1200).await;
            assert!(more, "{place}: no more sound comes");
            tone.await
        }
    }

    /// Waits for these keys as tones in the sound.
    pub async fn keys(&self, who: &str, expected: &str) {
        let well = self.until(super::PATIENCE, |r| keys(r.samples()).len() >= expected.len()).await;
        let got = self.read(|r| keys(r.samples()));
        assert!(well && got == expected, "{who} should hear the keys {expected}, heard {got:?}");
    }

    /// Waits for these telephone-event digits.
    pub async fn digits(&self, who: &str, expected: &str) {
        let well = self.until(super::PATIENCE, |r| r.digits.len() >= expected.len()).await;
        let got = self.read(|r| r.digits.clone());
        assert!(well && got == expected, "{who} should get the digits {expected}, got {got:?}");
    }
}

/// The keys that sound for 40 ms and more, each once for as long as it goes on.
pub fn keys(samples: &[i16]) -> String {
    let key = |frame: &[i16]| {
        "0123456789*#ABCD".chars().find(|key| {
            let [low, high] = key_tones(*key).map(|hertz| share(frame, hertz));
            low > 0.25 && high > 0.25 && low + high > 0.75 && level(frame) > -40.0
        })
    };
    let frames: Vec<_> = samples.chunks_exact(FRAME).map(key).collect();
    let mut found = String::new();
    let mut current = None;
    for pair in frames.windows(2) {
        match (pair[0], pair[1], current) {
            (Some(a), Some(b), last) if a == b && last != Some(a) => {
                found.push(a);
                current = Some(a);
            }
            (None, None, _) => current = None,
            _ => {}
        }
    }
    found
}

mod proof {
    use super::{FRAME, Heard, RATE, Recording, Sound, Voice, keys, level, share};

    #[test]
    fn keys_are_told_from_one_another_and_from_a_tone() {
        let mut voice = Voice::default();
        let mut samples = second(440.0);
        for key in "55#1".chars() {
            (0..5).for_each(|_| samples.extend(voice.frame::<FRAME>(Sound::Key(key))));
            (0..4).for_each(|_| samples.extend(voice.frame::<FRAME>(Sound::Silence)));
        }
        assert_eq!(keys(&samples), "55#1");
    }

    fn second(hertz: f64) -> Vec<i16> {
        let mut voice = Voice::default();
        (0..50).flat_map(|_| voice.frame::<FRAME>(Sound::Tone(hertz))).collect()
    }

    #[test]
    fn a_tone_is_told_from_another_and_from_noise() {
        let tone = second(1000.0);
        assert!(share(&tone, 1000.0) > 0.99 && share(&tone, 440.0) < 0.01 && share(&[0; FRAME], 440.0) == 0.0);
        assert!((-14.0..-12.0).contains(&level(&tone)), "{}", level(&tone));
        let mut state = 1_u32;
        let noise: Vec<i16> = (0..RATE)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) as i16 / 4
            })
            .collect();
        assert!(share(&noise, 1000.0) < 0.05);
    }

    #[test]
    fn a_gap_is_seen_and_order_does_not_matter() {
        let (heard, tone) = (Heard::default(), second(1000.0));
        let mut frames: Vec<_> = tone.chunks(FRAME).enumerate().collect();
        frames.swap(3, 4);
        let start = u32::MAX - 500; // the timestamp wraps
        heard.add(|r| frames.iter().for_each(|(i, pcm)| r.put(7, start.wrapping_add(*i as u32 * 960), 48_000, pcm)));
        assert!(heard.read(|r| r.ms() == 1000 && r.report(1000.0, 1000).is_clear()));

        let mut gappy = Recording::default();
        let kept = frames.iter().filter(|(i, _)| i % 4 != 1);
        kept.for_each(|(i, pcm)| gappy.put(7, *i as u32 * 160, 8000, pcm));
        let report = gappy.report(1000.0, 1000);
        assert_eq!((gappy.longest_gap(1000.0, 1000), gappy.longest_gap(440.0, 400)), (20, 400));
        assert!(!report.is_clear() && report.good < 40, "{report:?}");
        assert!(!gappy.report(440.0, 1000).is_clear());
    }

    #[test]
    fn one_event_is_one_digit() {
        let mut recording = Recording::default();
        for (timestamp, code) in [(10, 1), (10, 1), (20, 1), (30, 11), (30, 11)] {
            recording.event(timestamp, &[code, 0x8a, 3, 32]);
        }
        assert_eq!(recording.digits, "11#");
    }
}
