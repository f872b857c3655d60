//! How an answered call sounds, and why it does not: what the media path reports, told to browsers and written down.

use super::core::Core;
use super::party::Party;
use super::{Context, LegSound, MediaRecord, NoAudioRecord, Notice, Score};
use crate::sdp::{CallQuality, FlowQuality, LegQuality, MediaLoss, Mos, NoAudio, Side, Verdict};
use crate::signal::{Flow, Grade, ServerMessage, Way, Whose};

/// Verdicts written down for one call; a line that comes and goes has shown what it is by then.
const MOST_VERDICTS: usize = 16;
/// The lower limits of G.109's classes, in R of 90, 80 and 70.
const EXCELLENT: f32 = 4.34;
const GOOD: f32 = 4.03;
const FAIR: f32 = 3.60;

/// What is known of a call's sound.
#[derive(Debug, Default)]
pub(super) struct Audio {
    /// The present verdict on what each side says.
    a: Option<Verdict>,
    b: Option<Verdict>,
    /// What each leg came to so far.
    legs: [LegTally; 2],
    /// The worse direction's score in the last second.
    present: Option<Mos>,
    /// The last second.
    last: Option<CallQuality>,
    /// When each side's first packet came, Unix milliseconds.
    pub(super) first: [Option<u64>; 2],
    /// When each side's media began to be set up, Unix milliseconds.
    pub(super) begun: [Option<u64>; 2],
}

/// Sums over the seconds of a call.
#[derive(Debug, Default)]
struct LegTally {
    sent: Tally,
    heard: Tally,
    delay_ms: Tally,
    rtt_ms: Tally,
    buffer_ms: Tally,
    loudest: Option<i8>,
}

#[derive(Debug, Default)]
struct Tally {
    sum: f64,
    count: u32,
    least: Option<f32>,
}

impl Tally {
    fn add(&mut self, value: f32) {
        self.sum += f64::from(value);
        self.count += 1;
        self.least = Some(self.least.map_or(value, |least| least.min(value)));
    }

    fn mean(&self) -> Option<f32> {
        (self.count > 0).then(|| (self.sum / f64::from(self.count)) as f32)
    }

    fn score(&self) -> Option<Score> {
        let hundredths = |value: f32| (value * 100.0).round() / 100.0;
        Some(Score { mean: hundredths(self.mean()?), worst: hundredths(self.least?) })
    }

    fn whole(&self) -> Option<u16> {
        self.mean().map(|mean| mean.round() as u16)
    }
}

impl LegTally {
    fn add(&mut self, leg: &LegQuality) {
        if let Some(inbound) = leg.inbound {
            self.sent.add(inbound.mos.value());
            if let Some(buffer) = inbound.buffer_ms {
                self.buffer_ms.add(f32::from(buffer));
            }
            self.loudest = Some(self.loudest.map_or(leg.level_db, |loudest| loudest.max(leg.level_db)));
        }
        if let Some(heard) = leg.hears {
            self.heard.add(heard.mos.value());
            self.delay_ms.add(f32::from(heard.delay_ms));
        }
        if let Some(rtt) = leg.rtt_ms {
            self.rtt_ms.add(f32::from(rtt));
        }
    }

    fn record(&self) -> LegSound {
        LegSound {
            mos_sent: self.sent.score(),
            mos_heard: self.heard.score(),
            delay_ms: self.delay_ms.whole(),
            rtt_ms: self.rtt_ms.whole(),
            buffer_ms: self.buffer_ms.whole(),
            level_db: self.loudest,
        }
    }
}

impl Audio {
    fn verdict(&mut self, from: Side) -> &mut Option<Verdict> {
        match from {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    /// Whether a direction has no sound, for a fault of somebody's.
    pub(super) fn is_broken(&self) -> bool {
        [self.a, self.b].into_iter().flatten().any(|verdict| verdict.cause.is_fault())
    }

    /// The score of the worse direction in the last second.
    pub(super) fn present(&self) -> Option<Mos> {
        self.present
    }

    /// How a leg sounded in the last second.
    pub(super) fn last(&self, side: Side) -> Option<&LegQuality> {
        self.last.as_ref().map(|last| last.leg(side))
    }

    /// The present verdict on what a side says.
    pub(super) fn verdict_on(&self, from: Side) -> Option<Verdict> {
        match from {
            Side::A => self.a,
            Side::B => self.b,
        }
    }

    fn grade(&self, quality: &CallQuality) -> Grade {
        let heard = [quality.a.hears, quality.b.hears].into_iter().flatten();
        match heard.map(|heard| heard.mos).min() {
            _ if self.is_broken() => Grade::Lost,
            worst => grade(worst),
        }
    }

    /// What the legs came to, for the call's record.
    pub(super) fn write(&self, media: &mut MediaRecord) {
        let [a, b] = &self.legs;
        (media.a.sound, media.b.sound) = (a.record(), b.record());
    }
}

impl Core {
    /// A side's sound has begun.
    pub(super) fn first_audio(&mut self, cx: &Context, from: Side) {
        let [a, b] = &mut self.audio.first;
        let first = if from == Side::A { a } else { b };
        first.get_or_insert(cx.now.unix_ms);
    }

    /// A second of the call, as it sounded.
    pub(super) fn quality(&mut self, cx: &mut Context, quality: &CallQuality) {
        let [a, b] = &mut self.audio.legs;
        a.add(&quality.a);
        b.add(&quality.b);
        self.audio.last = Some(*quality);
        self.audio.present = [quality.a.hears, quality.b.hears].into_iter().flatten().map(|heard| heard.mos).min();
        let grade = self.audio.grade(quality);
        for side in Side::BOTH {
            if let Some(leg) = self.party(side).and_then(Party::browser) {
                leg.tell(cx, |call| message(call, grade, quality.leg(side), quality.leg(side.other())));
            }
        }
    }

    /// What `from` says does not reach the other side any more, or does again.
    pub(super) fn audio(&mut self, cx: &mut Context, from: Side, verdict: Option<Verdict>) {
        let before = std::mem::replace(self.audio.verdict(from), verdict);
        if before == verdict {
            return;
        }
        self.audio_back(cx, from);
        let Some(Verdict { at, cause }) = verdict else {
            tracing::info!(call = %self.id, from = letter(from), "the sound is back");
            cx.notice(Notice::Audio { call: self.id.to_string(), from: from.into() });
            return self.tell_audio(cx, |side, call| ServerMessage::Audio { call, way: way(side, from) });
        };
        if cause.is_fault() {
            tracing::warn!(call = %self.id, from = letter(from), leg = letter(at), %cause, "no audio");
        } else {
            tracing::info!(call = %self.id, from = letter(from), leg = letter(at), %cause, "no audio");
        }
        self.note(cx, from, at, cause);
        cx.notice(Notice::NoAudio {
            call: self.id.to_string(),
            from: from.into(),
            leg: at.into(),
            cause: cause.as_str().to_owned(),
            fault: cause.is_fault(),
        });
        self.tell_audio(cx, |side, call| {
            let whose = if side == at { Whose::Us } else { Whose::Them };
            let text = words(cause, whose).to_owned();
            ServerMessage::NoAudio { call, way: way(side, from), at: whose, cause: cause.as_str().to_owned(), text }
        });
    }

    /// A browser's leg is given up before or after anybody missed its sound: that is why there was none.
    pub(super) fn audio_lost(&mut self, cx: &mut Context, side: Side, loss: MediaLoss) {
        let cause = match loss {
            MediaLoss::IceTimeout => NoAudio::NoIce,
            MediaLoss::DtlsFailed | MediaLoss::FingerprintMismatch => NoAudio::NoDtls,
            _ => return,
        };
        if *self.audio.verdict(side) != Some(Verdict { at: side, cause }) {
            self.note(cx, side, side, cause);
        }
    }

    fn tell_audio(&self, cx: &mut Context, message: impl Fn(Side, String) -> ServerMessage) {
        for side in Side::BOTH {
            if let Some(leg) = self.party(side).and_then(Party::browser) {
                leg.tell(cx, |call| message(side, call));
            }
        }
    }

    fn note(&mut self, cx: &mut Context, from: Side, at: Side, cause: NoAudio) {
        if self.record.no_audio.len() < MOST_VERDICTS {
            self.record.no_audio.push(NoAudioRecord {
                at: cx.now.unix_ms,
                from: letter(from).to_owned(),
                leg: letter(at).to_owned(),
                cause: cause.as_str().to_owned(),
                ms: None,
            });
        }
    }

    /// The last verdict on what `from` says is over.
    fn audio_back(&mut self, cx: &mut Context, from: Side) {
        let open = |record: &&mut NoAudioRecord| record.from == letter(from) && record.ms.is_none();
        if let Some(record) = self.record.no_audio.iter_mut().rev().find(open) {
            record.ms = Some(cx.now.unix_ms.saturating_sub(record.at));
        }
    }
}

/// The name of a side in logs and records.
fn letter(side: Side) -> &'static str {
    match side {
        Side::A => "a",
        Side::B => "b",
    }
}

/// The direction that `from`'s sound has for the browser of `side`.
fn way(side: Side, from: Side) -> Way {
    if side == from { Way::Up } else { Way::Down }
}

/// The word for a score, the worse one of both directions.
fn grade(worst: Option<Mos>) -> Grade {
    match worst.map(Mos::value) {
        Some(mos) if mos < FAIR => Grade::Poor,
        Some(mos) if mos < GOOD => Grade::Fair,
        Some(mos) if mos < EXCELLENT => Grade::Good,
        // Nobody hears anybody, as in a hold: nothing is wrong with that.
        _ => Grade::Excellent,
    }
}

/// A second of a leg with nobody on the other side: each direction as a listener at its end would have it.
pub(super) fn lone_message(call: String, leg: &LegQuality) -> ServerMessage {
    let flows = [leg.inbound, leg.outbound];
    let grade = grade(flows.iter().flatten().map(|flow| flow.mos).min());
    let delay_ms = flows.iter().flatten().map(|flow| flow.delay_ms).max();
    let (down, up) = (flow(leg.outbound, leg.rtt_ms, None), flow(leg.inbound, leg.rtt_ms, Some(leg.level_db)));
    ServerMessage::Quality { call, grade, delay_ms, down, up, trunk_down: None, trunk_up: None }
}

fn message(call: String, grade: Grade, ours: &LegQuality, theirs: &LegQuality) -> ServerMessage {
    let delays = [ours.hears, theirs.hears].into_iter().flatten().map(|heard| heard.delay_ms);
    ServerMessage::Quality {
        call,
        grade,
        delay_ms: delays.max(),
        down: flow(ours.outbound, ours.rtt_ms, None),
        up: flow(ours.inbound, ours.rtt_ms, Some(ours.level_db)),
        // How loud somebody speaks is for those who hear him: not for whom he has put on hold.
        trunk_down: flow(theirs.inbound, theirs.rtt_ms, ours.hears.map(|_| theirs.level_db)),
        trunk_up: flow(theirs.outbound, theirs.rtt_ms, None),
    }
}

fn flow(flow: Option<FlowQuality>, rtt_ms: Option<u16>, level_db: Option<i8>) -> Option<Flow> {
    let flow = flow?;
    Some(Flow {
        codec: flow.codec.name().to_owned(),
        loss_pct: f32::from(flow.loss_permille) / 10.0,
        jitter_ms: flow.jitter_ms,
        rtt_ms,
        concealed_pct: flow.concealed_pct(),
        buffer_ms: flow.buffer_ms,
        delay_ms: flow.delay_ms,
        mos: flow.mos.value(),
        level_db,
    })
}

/// A verdict in words, for the person at the browser.
fn words(cause: NoAudio, whose: Whose) -> &'static str {
    match (cause, whose) {
        (NoAudio::NoIce, Whose::Us) => "Nothing gets through between this browser and the gateway",
        (NoAudio::NoIce, Whose::Them) => "Nothing gets through between the other browser and the gateway",
        (NoAudio::NoDtls, Whose::Us) => "The encryption with this browser is not set up",
        (NoAudio::NoDtls, Whose::Them) => "The encryption with the other browser is not set up",
        (NoAudio::NoRtp, Whose::Us) => "No sound arrives from this browser",
        (NoAudio::NoRtp, Whose::Them) => "No sound arrives from the other side",
        (NoAudio::WrongPayloadType, Whose::Us) => "This browser sends sound in a coding that was not agreed",
        (NoAudio::WrongPayloadType, Whose::Them) => "The other side sends sound in a coding that was not agreed",
        (NoAudio::Stranger, _) => "Sound arrives from an address that is not the other side's",
        (NoAudio::NotAuthentic, Whose::Us) => "This browser's sound is under another key than was agreed",
        (NoAudio::NotAuthentic, Whose::Them) => "The other side's sound is under another key than was agreed",
        (NoAudio::Silent, Whose::Us) => "The microphone gives nothing but silence",
        (NoAudio::Silent, Whose::Them) => "The other side sends nothing but silence",
        (NoAudio::Held, Whose::Us) => "This browser neither sends nor takes sound",
        (NoAudio::Held, Whose::Them) => "The other side holds the call",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::codec::Codec;
    use crate::sdp::{Heard, Mos};

    #[test]
    fn a_browser_is_told_how_loud_the_other_side_speaks_only_while_it_hears_it() {
        let mos = Mos::new(4.0);
        let inbound = FlowQuality {
            codec: Codec::Opus,
            loss_permille: 0,
            jitter_ms: 0,
            concealed_ms: None,
            buffer_ms: None,
            delay_ms: 50,
            mos,
        };
        let leg = |hears| LegQuality { inbound: Some(inbound), outbound: None, rtt_ms: None, hears, level_db: -20 };
        for (hears, told) in [(Some(Heard { delay_ms: 50, mos }), Some(-20)), (None, None)] {
            let told_of = |ours, theirs| match message("c1".into(), Grade::Good, &ours, &theirs) {
                ServerMessage::Quality { up, trunk_down, .. } => (up.unwrap().level_db, trunk_down.unwrap().level_db),
                other => panic!("{other:?}"),
            };
            assert_eq!(told_of(leg(hears), leg(None)), (Some(-20), told));
        }
    }
}
