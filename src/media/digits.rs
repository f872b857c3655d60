//! Digits of a leg beside its sound: sent as telephone events or as tones, and tones that come recognised as digits.

use super::LONGEST_FRAME;
use crate::codec::Rate;
use crate::codec::dtmf::{DtmfDetector, DtmfTone, DtmfUpdate};
use crate::rtp::event::{EventPacket, EventSender, EventStep, EventUpdate, EventUpdates, char_event, event_char};
use crate::sdp::{InBand, TelephoneEvent};

/// The clock in which the lengths of tones are counted, in Hz, and a frame of it.
const TONE_CLOCK: u32 = 8_000;
const TONE_FRAME: u32 = 160;
/// The shortest tone that we make, in milliseconds: 40 would do for a good receiver (ITU-T Q.24), 65 are asked of a sender
/// (ETSI ES 201 235-2).
const SHORTEST_TONE: u16 = 80;
/// Frames that are held back so that a tone is kept out of the sound whole: it takes 40 ms to recognise one.
const HELD_BACK: usize = 2;

/// Sends digits to a peer, one after the other.
#[derive(Debug)]
pub(super) struct DigitSender {
    sender: EventSender,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Events { payload_type: u8 },
    Tones(ToneMaker),
}

/// What is to be sent in one step.
pub(super) enum DigitStep {
    /// The sound as it is.
    Sound,
    /// The sound, which is a tone now.
    Tone,
    /// This packet in the place of sound.
    Packet { payload_type: u8, event: EventPacket },
}

impl DigitSender {
    /// The sender for what was negotiated: telephone events, else tones where those are wanted. `before` goes on with its digits
    /// where it sends them in the same way.
    pub fn of(event: Option<TelephoneEvent>, inband: Option<InBand>, before: Option<DigitSender>) -> Option<Self> {
        let events = |event: TelephoneEvent| (Way::Events { payload_type: event.payload_type }, event.clock_rate);
        let tones = || (Way::Tones(ToneMaker::default()), TONE_CLOCK);
        let (way, clock_rate) = event.map(events).or_else(|| inband.map(|_| tones()))?;
        let same = |before: &DigitSender| {
            before.sender.clock_rate() == clock_rate && before.sends_tones() == matches!(way, Way::Tones(_))
        };
        Some(match before.filter(same) {
            Some(DigitSender { sender, way: Way::Tones(maker) }) => Self { sender, way: Way::Tones(maker) },
            Some(DigitSender { sender, .. }) => Self { sender, way },
            None => {
                let least = if matches!(way, Way::Tones(_)) { SHORTEST_TONE } else { 0 };
                Self { sender: EventSender::new(clock_rate).at_least(least), way }
            }
        })
    }

    /// The queue of digits.
    pub fn events(&mut self) -> &mut EventSender {
        &mut self.sender
    }

    /// Whether a digit is sent or waits.
    pub fn busy(&self) -> bool {
        self.sender.busy()
    }

    /// Whether the digits are tones.
    pub fn sends_tones(&self) -> bool {
        matches!(self.way, Way::Tones(_))
    }

    /// Drops the digits that sound or wait.
    pub fn forget(&mut self) {
        self.sender.forget();
    }

    /// One step of 20 ms that begins at `timestamp` (of telephone events); a tone is written over `frame`.
    pub fn step(&mut self, timestamp: u32, rate: Rate, frame: &mut [i16]) -> DigitStep {
        match &mut self.way {
            Way::Events { payload_type } => match self.sender.step(timestamp, self.sender.clock_rate() / 50) {
                EventStep::Audio => DigitStep::Sound,
                EventStep::Packet(event) => DigitStep::Packet { payload_type: *payload_type, event },
            },
            Way::Tones(maker) => {
                maker.position = maker.position.wrapping_add(TONE_FRAME);
                match self.sender.step(maker.position, TONE_FRAME) {
                    EventStep::Audio => DigitStep::Sound,
                    EventStep::Packet(event) => {
                        maker.fill(event, rate, frame);
                        DigitStep::Tone
                    }
                }
            }
        }
    }
}

/// Makes the sound of what an [`EventSender`] would send: its packets say how long the tone has sounded.
#[derive(Debug, Default)]
struct ToneMaker {
    position: u32,
    tone: Option<(DtmfTone, Rate)>,
    /// The segment of the event, and how much of it has sounded.
    segment: u32,
    sounded: u32,
}

impl ToneMaker {
    fn fill(&mut self, event: EventPacket, rate: Rate, frame: &mut [i16]) {
        let [number, flags, high, low] = event.payload;
        if event.marker || self.tone.as_ref().is_some_and(|(_, before)| *before != rate) {
            self.tone = event_char(number).and_then(|digit| Some((DtmfTone::new(digit, rate.hz())?, rate)));
        }
        if event.marker || event.timestamp != self.segment {
            (self.segment, self.sounded) = (event.timestamp, 0);
        }
        let elapsed = u32::from(u16::from_be_bytes([high, low]));
        let units = elapsed.saturating_sub(self.sounded);
        self.sounded = elapsed;
        // The repeated ends are the pause after the tone: there is nothing new in them.
        let samples = (units * (rate.hz() / TONE_CLOCK)) as usize;
        let (sound, pause) = frame.split_at_mut(samples.min(frame.len()));
        pause.fill(0);
        match &mut self.tone {
            Some((tone, _)) => tone.fill(sound, flags & 0x80 != 0),
            None => sound.fill(0),
        }
    }
}

/// What a frame that a [`ToneReceiver`] takes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listen {
    /// The peer's sound.
    Sound,
    /// There was none, this stands for it.
    Invented,
    /// It may be the echo of tones of ours: there is no digit in it.
    Echo,
}

/// Recognises tones in a leg's sound and keeps them out of it.
#[derive(Debug)]
pub(super) struct ToneReceiver {
    detector: DtmfDetector,
    /// Where tones are kept out whole: the last frames, the older first.
    held: Option<Box<[[i16; LONGEST_FRAME]; HELD_BACK]>>,
    /// Frames that are silent yet.
    mute: u8,
}

impl ToneReceiver {
    /// A receiver at `rate`.
    pub fn new(inband: InBand, rate: Rate) -> Self {
        Self {
            detector: DtmfDetector::new(rate.hz()),
            held: inband.suppress.then(|| Box::new([[0; LONGEST_FRAME]; HELD_BACK])),
            mute: 0,
        }
    }

    /// Whether this is how `inband` wants it, at `rate`.
    pub fn suits(&self, inband: InBand, rate: Rate) -> bool {
        self.held.is_some() == inband.suppress && self.detector.rate() == rate.hz()
    }

    /// Listens to the next frame, and makes of it what the other party is to hear.
    pub fn frame(&mut self, frame: &mut [i16], listen: Listen, updates: &mut EventUpdates) {
        let before = updates.len();
        let mut likely = false;
        match listen {
            Listen::Sound => self.detector.handle(frame, |update| {
                // A frame has room for no more than one digit's end and the next one's start.
                let _ = event_of(update).map(|update| updates.try_push(update));
            }),
            Listen::Invented => {
                likely = self.held.is_none() && self.is_like_a_tone(frame);
                self.detector.skip(super::FRAME_MS);
            }
            Listen::Echo => {
                let _ = self.reset().map(|update| updates.try_push(update));
            }
        }
        let active = self.detector.active();
        match &mut self.held {
            Some(held) => {
                if active || updates.len() > before {
                    self.mute = HELD_BACK as u8;
                }
                held.iter_mut().rev().fold(&mut *frame, |newer, older| {
                    let len = newer.len().min(older.len());
                    if let (Some(newer), Some(older)) = (newer.get_mut(..len), older.get_mut(..len)) {
                        newer.swap_with_slice(older);
                    }
                    newer
                });
                if self.mute > 0 {
                    self.mute -= 1;
                    frame.fill(0);
                }
            }
            // A look finds a tone from 16 ms on, and there is one at the end of each frame: less than a frame of it is heard.
            None if likely || self.detector.suspects() => frame.fill(0),
            None => {}
        }
    }

    /// Whether what was made up for a lost packet goes on with a tone.
    fn is_like_a_tone(&self, frame: &[i16]) -> bool {
        let mut trial = self.detector.clone();
        trial.handle(frame, |_| {});
        trial.suspects()
    }

    /// Ends the digit that sounds.
    pub fn reset(&mut self) -> Option<EventUpdate> {
        self.detector.reset().and_then(event_of)
    }
}

fn event_of(update: DtmfUpdate) -> Option<EventUpdate> {
    Some(match update {
        DtmfUpdate::Started { digit } => EventUpdate::Started { event: char_event(digit)? },
        DtmfUpdate::Ended { digit, ms } => EventUpdate::Ended { event: char_event(digit)?, ms },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::codec::tone::rms;

    /// A frame whose samples tell which it is, before, under and after the tone of a 7; what came out of a receiver.
    fn heard(suppress: bool, rate: Rate, offset: usize) -> (Vec<i16>, Vec<EventUpdate>) {
        let mut receiver = ToneReceiver::new(InBand { suppress }, rate);
        let per_ms = rate.hz() as usize / 1_000;
        let mut tone = vec![0; 100 * per_ms];
        DtmfTone::new('7', rate.hz()).unwrap().fill(&mut tone, true);
        let mut pcm = vec![900; 100 * per_ms + offset];
        pcm.extend(tone);
        pcm.extend(vec![-900; 300 * per_ms - offset]);
        let (mut out, mut updates) = (Vec::new(), EventUpdates::new());
        let mut all = Vec::new();
        for frame in pcm.chunks_exact(rate.frame()) {
            let mut frame = frame.to_vec();
            receiver.frame(&mut frame, Listen::Sound, &mut updates);
            all.extend(updates.drain(..));
            out.extend(frame);
        }
        (out, all)
    }

    #[test]
    fn a_tone_is_kept_out_whole_where_that_is_wanted_and_the_sound_comes_forty_milliseconds_later() {
        for rate in [Rate::Narrow, Rate::Wide] {
            let per_ms = rate.hz() as usize / 1_000;
            for offset in (0..20 * per_ms).step_by(13) {
                let (out, updates) = heard(true, rate, offset);
                assert!(matches!(
                    updates[..],
                    [EventUpdate::Started { event: 7 }, EventUpdate::Ended { event: 7, ms: 90..=110 }]
                ));
                let tone_at = (140 * per_ms) + offset;
                assert_eq!(digits_in(&out, rate), []);
                let loud = out.iter().filter(|s| s.unsigned_abs() > 1_000).count();
                assert!(loud <= per_ms * 2, "{loud} samples of the tone are heard at {offset}, {rate:?}");
                assert!(out[..40 * per_ms].iter().all(|s| *s == 0));
                assert!(out[40 * per_ms..tone_at - 40 * per_ms].iter().all(|s| *s == 900), "cut too early at {offset}");
                assert!(out[tone_at + 145 * per_ms..].iter().all(|s| *s == -900), "cut too long at {offset}");
            }
        }
    }

    #[test]
    fn without_it_no_sound_waits_and_less_than_a_frame_of_a_tone_is_heard_which_is_no_digit() {
        for rate in [Rate::Narrow, Rate::Wide] {
            let per_ms = rate.hz() as usize / 1_000;
            for offset in (0..20 * per_ms).step_by(7) {
                let (out, updates) = heard(false, rate, offset);
                assert_eq!(updates.len(), 2);
                let tone_at = 100 * per_ms + offset;
                // The frame in which it begins may be cut whole.
                assert!(out[..tone_at - offset % (20 * per_ms)].iter().all(|s| *s == 900));
                assert!(out[..tone_at].iter().all(|s| [900, 0].contains(s)));
                let tone = &out[tone_at + 20 * per_ms..tone_at + 100 * per_ms];
                assert!(rms(tone) < 1.0, "more than a frame leaks at {offset}, {rate:?}");
                assert_eq!(digits_in(&out, rate), []);
                assert!(out[tone_at + 160 * per_ms..].iter().all(|s| *s == -900), "at {offset}");
            }
        }
    }

    /// What a detector like ours makes of a sound.
    fn digits_in(pcm: &[i16], rate: Rate) -> Vec<DtmfUpdate> {
        let (mut detector, mut found) = (DtmfDetector::new(rate.hz()), Vec::new());
        detector.handle(pcm, |update| found.push(update));
        found
    }
}
