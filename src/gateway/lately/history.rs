//! How one call has sounded, from its beginning to now, in a bounded number of samples.
//!
//! The media path tells of each second. The first two minutes are kept second by second; then each two neighbours become
//! one, and a sample stands for twice the time: for any call there are at most [`MOST`] samples. Of the seconds that it stands
//! for a sample has the worst of each value, so that nothing bad is averaged away.

use std::num::NonZeroU16;

use schemars::JsonSchema;
use serde::Serialize;

use crate::sdp::{CallQuality, FlowQuality, LegQuality, Mos};
use crate::switch::CallId;

/// The most samples of a call.
pub(super) const MOST: usize = 120;

/// One direction of a leg, small: there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    loss_permille: u16,
    jitter_ms: u16,
    /// Hundredths.
    mos: NonZeroU16,
    concealed_ms: Option<u16>,
    /// One more than the milliseconds.
    buffer: Option<NonZeroU16>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Leg {
    inbound: Option<Way>,
    outbound: Option<Way>,
    /// Hundredths.
    heard: Option<NonZeroU16>,
    delay_ms: Option<u16>,
    rtt_ms: Option<u16>,
    level_db: i8,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Milliseconds since the first.
    at: u32,
    a: Leg,
    b: Leg,
}

/// See the module.
#[derive(Debug)]
pub(super) struct History {
    /// When the first sample was, Unix milliseconds.
    start: u64,
    /// Seconds that a sample stands for.
    step: u32,
    /// Seconds that the last one stands for so far.
    filled: u32,
    samples: Vec<Sample>,
}

impl Default for History {
    fn default() -> Self {
        History { start: 0, step: 1, filled: 0, samples: Vec::new() }
    }
}

/// `GET /v1/calls/ID/quality`: how a call has sounded so far.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "QualityHistory")]
pub(in crate::gateway) struct QualityHistory {
    /// The call's id.
    call: String,
    /// Seconds that a sample stands for: 1, and twice as many each time that there are 120 of them.
    step: u32,
    /// The oldest first.
    samples: Vec<SampleView>,
}

/// How a call sounded for `step` seconds: the worst of each.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "QualitySample")]
struct SampleView {
    /// When, Unix milliseconds.
    at: u64,
    /// Who called.
    a: LegSample,
    /// Who was called.
    b: LegSample,
}

/// One leg then; absent is what was not known.
#[derive(Debug, Serialize, JsonSchema)]
struct LegSample {
    /// What it sent us.
    #[serde(skip_serializing_if = "Option::is_none")]
    inbound: Option<WaySample>,
    /// What we sent it, by its own reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    outbound: Option<WaySample>,
    /// What its party heard of the other: 1 to 5 (ITU-T G.107).
    #[serde(skip_serializing_if = "Option::is_none")]
    mos_heard: Option<f32>,
    /// The one-way delay of that, estimated, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u16>,
    /// The round trip by RTCP, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<u16>,
    /// How loud its party was, dB below full scale; the loudest second.
    level_db: i8,
}

/// One direction of a leg.
#[derive(Debug, Serialize, JsonSchema)]
struct WaySample {
    /// Packets lost on the way, percent.
    loss_pct: f32,
    /// Interarrival jitter, milliseconds.
    jitter_ms: u16,
    /// Sound that the receiver had to invent, percent of the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    concealed_pct: Option<f32>,
    /// Sound that waited in the receiver's buffer, milliseconds; the most that did.
    #[serde(skip_serializing_if = "Option::is_none")]
    buffer_ms: Option<u16>,
    /// What a listener would think of this direction alone: 1 to 5.
    mos: f32,
}

impl History {
    /// Takes a second.
    pub(super) fn add(&mut self, unix_ms: u64, quality: &CallQuality) {
        if self.samples.is_empty() {
            self.start = unix_ms;
        }
        let at = u32::try_from(unix_ms.saturating_sub(self.start)).unwrap_or(u32::MAX);
        let second = Sample { at, a: Leg::from(&quality.a), b: Leg::from(&quality.b) };
        if self.filled < self.step
            && let Some(last) = self.samples.last_mut()
        {
            *last = last.and(&second);
            self.filled += 1;
            return;
        }
        if self.samples.len() >= MOST {
            self.halve();
        }
        self.samples.push(second);
        self.filled = 1;
    }

    /// Each two neighbours become one.
    fn halve(&mut self) {
        let pairs = self.samples.chunks(2).filter_map(|pair| pair.iter().copied().reduce(|one, next| one.and(&next)));
        self.samples = pairs.collect();
        self.step = self.step.saturating_mul(2);
    }

    pub(super) fn told(&self, call: CallId) -> QualityHistory {
        let view = |sample: &Sample| SampleView {
            at: self.start.saturating_add(u64::from(sample.at)),
            a: LegSample::from(&sample.a),
            b: LegSample::from(&sample.b),
        };
        QualityHistory { call: call.to_string(), step: self.step, samples: self.samples.iter().map(view).collect() }
    }
}

#[cfg(test)]
impl QualityHistory {
    /// How many samples there are.
    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }
}

impl Sample {
    /// The worst of both.
    fn and(&self, next: &Sample) -> Sample {
        Sample { at: self.at, a: self.a.and(&next.a), b: self.b.and(&next.b) }
    }
}

/// The worse of two values, one of which may be unknown.
fn worse<T: Copy>(one: Option<T>, other: Option<T>, worse: impl Fn(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(worse(one, other)),
        (one, other) => one.or(other),
    }
}

impl Leg {
    fn and(&self, next: &Leg) -> Leg {
        Leg {
            inbound: worse(self.inbound, next.inbound, Way::and),
            outbound: worse(self.outbound, next.outbound, Way::and),
            heard: worse(self.heard, next.heard, Ord::min),
            delay_ms: self.delay_ms.max(next.delay_ms),
            rtt_ms: self.rtt_ms.max(next.rtt_ms),
            level_db: self.level_db.max(next.level_db),
        }
    }
}

impl Way {
    fn and(self, next: Way) -> Way {
        Way {
            loss_permille: self.loss_permille.max(next.loss_permille),
            jitter_ms: self.jitter_ms.max(next.jitter_ms),
            mos: self.mos.min(next.mos),
            concealed_ms: self.concealed_ms.max(next.concealed_ms),
            buffer: self.buffer.max(next.buffer),
        }
    }
}

fn hundredths(mos: Mos) -> NonZeroU16 {
    // A score is 1.00 at least.
    NonZeroU16::new((mos.value() * 100.0).round() as u16).unwrap_or(NonZeroU16::MIN)
}

fn score(hundredths: NonZeroU16) -> f32 {
    f32::from(hundredths.get()) / 100.0
}

impl From<FlowQuality> for Way {
    fn from(flow: FlowQuality) -> Way {
        let FlowQuality { loss_permille, jitter_ms, concealed_ms, buffer_ms, mos, .. } = flow;
        let buffer = buffer_ms.map(|ms| NonZeroU16::MIN.saturating_add(ms));
        Way { loss_permille, jitter_ms, mos: hundredths(mos), concealed_ms, buffer }
    }
}

impl From<&LegQuality> for Leg {
    fn from(leg: &LegQuality) -> Leg {
        Leg {
            inbound: leg.inbound.map(Way::from),
            outbound: leg.outbound.map(Way::from),
            heard: leg.hears.map(|heard| hundredths(heard.mos)),
            delay_ms: leg.hears.map(|heard| heard.delay_ms),
            rtt_ms: leg.rtt_ms,
            level_db: leg.level_db,
        }
    }
}

impl From<Way> for WaySample {
    fn from(way: Way) -> WaySample {
        WaySample {
            loss_pct: f32::from(way.loss_permille) / 10.0,
            jitter_ms: way.jitter_ms,
            // Of one second's 1000 milliseconds.
            concealed_pct: way.concealed_ms.map(|ms| f32::from(ms.min(1_000)) / 10.0),
            buffer_ms: way.buffer.map(|more| more.get() - 1),
            mos: score(way.mos),
        }
    }
}

impl From<&Leg> for LegSample {
    fn from(leg: &Leg) -> LegSample {
        LegSample {
            inbound: leg.inbound.map(WaySample::from),
            outbound: leg.outbound.map(WaySample::from),
            mos_heard: leg.heard.map(score),
            delay_ms: leg.delay_ms,
            rtt_ms: leg.rtt_ms,
            level_db: leg.level_db,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::codec::Codec;
    use crate::sdp::Heard;

    fn second(loss_permille: u16, mos: f32) -> CallQuality {
        let mos = Mos::new(mos);
        let flow = FlowQuality {
            codec: Codec::Opus,
            loss_permille,
            jitter_ms: 3,
            concealed_ms: Some(20),
            buffer_ms: Some(loss_permille),
            delay_ms: 40,
            mos,
        };
        let heard = Some(Heard { delay_ms: 80, mos });
        let a = LegQuality { inbound: Some(flow), outbound: None, rtt_ms: Some(9), hears: heard, level_db: -20 };
        CallQuality { a, b: LegQuality::NONE }
    }

    fn history(seconds: u64, at: impl Fn(u64) -> CallQuality) -> History {
        let mut history = History::default();
        for n in 0..seconds {
            history.add(1_000_000 + n * 1000, &at(n));
        }
        history
    }

    #[test]
    fn the_first_two_minutes_are_kept_second_by_second() {
        let told = history(120, |n| second(n as u16, 4.0)).told(CallId(1));
        assert_eq!((told.step, told.len()), (1, 120));
        let last = told.samples.last().unwrap();
        assert_eq!((last.at, last.a.inbound.as_ref().unwrap().loss_pct), (1_119_000, 11.9));
        let value = serde_json::to_value(&told.samples[0]).unwrap();
        let a = serde_json::json!({"inbound": {"loss_pct": 0.0, "jitter_ms": 3, "concealed_pct": 2.0, "buffer_ms": 0,
                                               "mos": 4.0},
                                   "mos_heard": 4.0, "delay_ms": 80, "rtt_ms": 9, "level_db": -20});
        assert_eq!(value, serde_json::json!({"at": 1_000_000, "a": a, "b": {"level_db": -100}}));
    }

    #[test]
    fn of_a_long_call_there_are_no_more_samples_and_its_worst_second_stays() {
        for seconds in [121, 239, 240, 241, 3_600, 43_200] {
            let bad = seconds / 3;
            let told = history(seconds, |n| if n == bad { second(500, 1.5) } else { second(0, 4.4) }).told(CallId(1));
            assert!(told.len() <= MOST && told.len() >= MOST / 2, "{seconds} s: {} samples", told.len());
            assert!(u64::from(told.step) * (told.len() as u64) >= seconds, "{seconds} s: steps of {}", told.step);
            let at: Vec<u64> = told.samples.iter().map(|sample| sample.at).collect();
            let step = u64::from(told.step) * 1000;
            assert!(at.windows(2).all(|pair| pair[1] - pair[0] == step), "{seconds} s: evenly spaced");
            let worst: Vec<&SampleView> =
                told.samples.iter().filter(|it| it.a.mos_heard.is_some_and(|mos| mos < 2.0)).collect();
            assert_eq!(worst.len(), 1, "{seconds} s");
            let when = 1_000_000 + bad * 1000;
            assert!((worst[0].at..worst[0].at + step).contains(&when), "{seconds} s: at the right time");
            let inbound = worst[0].a.inbound.as_ref().unwrap();
            assert_eq!((inbound.loss_pct, inbound.buffer_ms), (50.0, Some(500)));
        }
    }

    /// What the module's bound on memory says.
    #[test]
    fn a_sample_is_small() {
        assert!(MOST * size_of::<Sample>() <= 9 * 1024, "{} bytes", size_of::<Sample>());
    }
}
