//! Deep PLC for any decoder: libopus's network and vocoder speak on from what was heard last
//! (docs/decisions/0009-deep-concealment.md).
//!
//! While packets come, nothing is done but to remember the last quarter of a second. When one is lost, the network hears
//! 150 ms of that at 16 kHz and speaks on; what it says is brought to the direction's rate. A loss that lasts fades into the
//! noise that was behind the speech.

use super::Rate;
use super::noise::ComfortNoise;
use super::resample::{Doubler, Halver};
use opus_plc::{DeepPlc, MEMORY, STEP};

/// Milliseconds of a step of the network.
const STEP_MS: usize = 10;
/// How much later than the history's end it may have to begin, in milliseconds.
const LATEST_MS: usize = 60;
/// When, in milliseconds, speech begins to fade, and when it has faded: from then on there is only noise.
const FADE_MS: (usize, usize) = (100, 200);
/// The same for the noise behind it, which comes up.
const NOISE_MS: (usize, usize) = (40, 140);
/// The lags in milliseconds, times eight, at which speech may repeat itself: 200 to 66 Hz.
const PITCH: std::ops::RangeInclusive<usize> = 40..=120;

/// What speaks on in one stream's stead.
pub(super) struct Speaker {
    rate: Rate,
    /// 86 KiB, and most streams lose nothing: made with the first loss, and kept. `None` also where libopus is another release.
    plc: Option<DeepPlc>,
    /// What was heard last, newest last.
    history: Box<[i16]>,
    noise: ComfortNoise,
    halver: Halver,
    /// What the network said last; the `ahead_len` last samples of it were not asked for yet.
    ahead: [i16; STEP],
    ahead_len: usize,
    /// Samples spoken since it began; `None` while others speak.
    spoken: Option<usize>,
}

impl Speaker {
    /// A speaker at `rate`.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            plc: None,
            history: vec![0; rate.samples((MEMORY + 1) * STEP_MS + LATEST_MS)].into_boxed_slice(),
            noise: ComfortNoise::new(1),
            halver: Halver::default(),
            ahead: [0; STEP],
            ahead_len: 0,
            spoken: None,
        }
    }

    /// Takes sound that arrived.
    pub fn hear(&mut self, pcm: &[i16]) {
        self.noise.learn(pcm);
        self.remember(pcm);
    }

    /// Takes sound that was made up.
    pub fn remember(&mut self, pcm: &[i16]) {
        let kept = self.history.len();
        let pcm = pcm.get(pcm.len().saturating_sub(kept)..).unwrap_or_default();
        self.history.copy_within(pcm.len().., 0);
        if let Some(newest) = self.history.get_mut(kept - pcm.len()..) {
            newest.copy_from_slice(pcm);
        }
    }

    /// Whether it speaks.
    pub fn speaking(&self) -> bool {
        self.spoken.is_some()
    }

    /// Begins to speak where the history ended `late` samples ago: others have spoken since (60 ms are minded at most).
    pub fn start(&mut self, late: usize) {
        let late = late.min(self.rate.samples(LATEST_MS));
        let end = self.history.len() - late;
        let start = end - self.rate.samples(MEMORY * STEP_MS);
        match &mut self.plc {
            Some(plc) => plc.reset(),
            none => *none = DeepPlc::new(),
        }
        self.ahead_len = 0;
        match self.rate {
            Rate::Wide => {
                for pcm in self.history.get(start..end).unwrap_or_default().chunks_exact(STEP) {
                    if let (Some(plc), Some(pcm)) = (&mut self.plc, pcm.first_chunk()) {
                        plc.hear(pcm);
                    }
                }
            }
            Rate::Narrow => self.listen_doubled(start, end),
        }
        self.spoken = Some(0);
        let mut said = [0; STEP];
        let mut left = late;
        while left > 0 {
            let len = left.min(STEP);
            self.speak(said.get_mut(..len).unwrap_or_default());
            left -= len;
        }
    }

    /// Ends what is being said.
    pub fn stop(&mut self) {
        self.spoken = None;
    }

    /// Fills `out` with what follows; begins where the history ends when it does not speak yet.
    pub fn speak(&mut self, out: &mut [i16]) {
        if self.spoken.is_none() {
            self.start(0);
        }
        let spoken = self.spoken.unwrap_or_default();
        let faded = self.rate.samples(FADE_MS.1);
        for (n, sample) in out.iter_mut().enumerate() {
            let at = spoken + n;
            let mut value = 0.0;
            if at < faded {
                value = f32::from(self.next_sample()) * (1.0 - ramp(at, self.rate, FADE_MS));
            }
            let noise = ramp(at, self.rate, NOISE_MS);
            if noise > 0.0 {
                value += self.noise.next_sample() * noise;
            }
            *sample = value as i16;
        }
        self.spoken = Some(spoken + out.len());
    }

    fn next_sample(&mut self) -> i16 {
        if self.ahead_len == 0 {
            self.step();
        }
        let at = self.rate.samples(STEP_MS) - self.ahead_len;
        self.ahead_len -= 1;
        self.ahead.get(at).copied().unwrap_or_default()
    }

    /// Lets the network say one step, and brings it to the direction's rate.
    fn step(&mut self) {
        let mut wide = [0; STEP];
        if let Some(plc) = &mut self.plc {
            plc.conceal(&mut wide);
        }
        self.ahead_len = match self.rate {
            Rate::Wide => {
                self.ahead = wide;
                STEP
            }
            Rate::Narrow => self.halver.process(&wide, &mut self.ahead),
        };
    }

    /// Lets the network hear the history from `start` to `end` at twice the rate. The filter wants to know what comes after
    /// the end: it is told what came a pitch period before.
    fn listen_doubled(&mut self, start: usize, end: usize) {
        const LATE: usize = Doubler::LATE / 2;
        let (mut doubler, mut wide, mut narrow) = (Doubler::default(), [0; STEP], [0; STEP / 2]);
        let pitch = pitch(self.history.get(..end).unwrap_or_default());
        let lead = self.history.get(start - 2 * LATE..start + LATE).unwrap_or_default();
        doubler.process(lead, &mut wide);
        for from in (start + LATE..end + LATE).step_by(STEP / 2) {
            for (at, sample) in (from..).zip(&mut narrow) {
                let at = if at < end { at } else { at - pitch };
                *sample = self.history.get(at).copied().unwrap_or_default();
            }
            doubler.process(&narrow, &mut wide);
            if let Some(plc) = &mut self.plc {
                plc.hear(&wide);
            }
        }
        // The way back begins with the end of what was heard, which comes out again first.
        self.halver = Halver::default();
        self.halver.process(&wide, &mut narrow);
        self.step();
        self.ahead_len = self.ahead_len.saturating_sub(Halver::LATE);
    }
}

/// 0 before the first of two times in milliseconds, 1 after the second, a line between.
fn ramp(sample: usize, rate: Rate, (from, to): (usize, usize)) -> f32 {
    let (from, to) = (rate.samples(from), rate.samples(to));
    (sample.saturating_sub(from) as f32 / (to - from) as f32).min(1.0)
}

/// The lag at which the last 20 ms of 8 kHz sound look most like what came before them.
fn pitch(history: &[i16]) -> usize {
    const WINDOW: usize = 160;
    let score = |lag: usize| {
        let recent = history.len().checked_sub(WINDOW)?;
        let past = history.get(recent.checked_sub(lag)?..history.len() - lag)?;
        let (mut cross, mut energy) = (0_i64, 1_i64);
        for (now, then) in history.get(recent..)?.iter().zip(past) {
            cross += i64::from(*now) * i64::from(*then);
            energy += i64::from(*then) * i64::from(*then);
        }
        Some(cross.max(0) as f32 * (cross as f32 / energy as f32))
    };
    let scores = PITCH.filter_map(|lag| Some((lag, score(lag)?)));
    scores.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(*PITCH.start(), |(lag, _)| lag)
}

impl std::fmt::Debug for Speaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Speaker").field("rate", &self.rate).field("spoken", &self.spoken).finish_non_exhaustive()
    }
}
