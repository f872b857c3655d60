//! The receiving half of a leg: packets in, frames of 20 ms of PCM out, at the rate of their direction.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use super::digits::{Listen, ToneReceiver};
use super::sound::{Sound, SoundStats};
use super::{FRAME_MS, LONGEST_FRAME};
use crate::codec::{Codec, CodecError, MAX_PACKET_SAMPLES, Rate};
use crate::rtp::event::{EventReceiver, EventUpdate, EventUpdates};
use crate::rtp::jitter::Kind;
use crate::rtp::packet::RtpPacket;
use crate::rtp::playout::{Arrival, Incoming, Playout, Step};
use crate::rtp::receive::ReceiveStats;
use crate::rtp::red::{self, Earlier};
use crate::sdp::{AcceptedCodec, InBand, TelephoneEvent};

/// Payload types in use at once.
const TYPES: usize = 16;
/// How long a payload type stays accepted after a new description left it out: packets of before are still on their way.
const GRACE: Duration = Duration::from_secs(2);
/// Sound is held back this long after a digit: its tail still waits in the buffer.
const TONE_TAIL: Duration = Duration::from_millis(60);
/// Tones of ours may come back for so long after we sent them: the way there and back, the gateway's line and our buffer.
const ECHO: Duration = Duration::from_millis(300);
/// Of so many packets that are passed on two are decoded, to know how loud the peer is.
const LISTEN_EVERY: u32 = 25;
/// The same until it is known that he is not silent.
const LISTEN_FIRST_EVERY: u32 = 5;
/// A pause that was announced is believed for so long after the last packet or RTCP.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
struct PayloadType {
    number: u8,
    meaning: Meaning,
    until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Audio(Codec),
    Event {
        clock_rate: u32,
    },
    Noise,
    /// Packets of sound that hold those before once more.
    Redundant,
}

/// What a packet was.
#[derive(Debug)]
pub(super) enum Taken {
    /// Sound: whether a stream begins with it, and whether it is the first of a codec that carries wideband.
    Audio { new_stream: bool, first_wideband: bool },
    /// News of digits.
    Event(EventUpdates),
    /// Not ours: an unknown payload type or a payload that is none.
    Refused,
}

/// The receiving half.
#[derive(Debug)]
pub(super) struct Inbound {
    types: ArrayVec<PayloadType, TYPES>,
    playout: Playout,
    sound: Sound,
    /// How long after the fastest packet's arrival the last packet is played, in microseconds.
    delay_us: i64,
    /// A codec that carries wideband was received.
    heard_wideband: bool,
    /// The stream is passed on: nothing of it is in the playout. And how many packets of it were.
    passing: bool,
    passed: u32,
    events: EventReceiver,
    /// The source of the last event.
    event_ssrc: Option<u32>,
    blocked_until: Option<Instant>,
    /// Digits as tones, where those are looked for, and what was found.
    inband: Option<InBand>,
    tones: Option<ToneReceiver>,
    tone_digits: EventUpdates,
    /// Tones that come before this are our own.
    echo_until: Option<Instant>,
    heard: Option<Instant>,
    /// The last packet announced that its sender says nothing for a while; the last sign of its life.
    paused: Option<Instant>,
    /// RTCP's view of the stream.
    pub stats: ReceiveStats,
    /// Packets taken.
    pub packets: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Packets that did not come and were passed on from a later one's redundancy.
    repaired: u64,
    /// Packets refused.
    pub refused: Refused,
}

/// A packet that goes on as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed {
    /// How long it sounds, in clock units.
    pub duration: u32,
    /// Whether it is the first of a codec that carries wideband.
    pub first_wideband: bool,
}

/// Packets refused, by why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Refused {
    /// From addresses that are not the peer's.
    pub strangers: u64,
    /// Not authentic by the keys agreed.
    pub unauthentic: u64,
    /// Of a payload type that was not negotiated, or with a payload that is none.
    pub unknown: u64,
    /// No RTP at all, or RTCP that is not the peer's.
    pub others: u64,
}

impl Refused {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.strangers + self.unauthentic + self.unknown + self.others
    }
}

impl Inbound {
    pub fn new(seed: u32) -> Self {
        Self {
            types: ArrayVec::new(),
            playout: Playout::new(FRAME_MS),
            sound: Sound::new(seed),
            delay_us: 0,
            heard_wideband: false,
            passing: false,
            passed: 0,
            events: EventReceiver::default(),
            event_ssrc: None,
            blocked_until: None,
            inband: None,
            tones: None,
            tone_digits: EventUpdates::new(),
            echo_until: None,
            heard: None,
            paused: None,
            stats: ReceiveStats::default(),
            packets: 0,
            bytes: 0,
            repaired: 0,
            refused: Refused::default(),
        }
    }

    /// Takes what was negotiated; a payload type that is no longer named lives on for a grace time.
    pub fn configure(
        &mut self,
        now: Instant,
        accepted: &[AcceptedCodec],
        events: impl Iterator<Item = TelephoneEvent>,
        noise: Option<u8>,
        red: Option<u8>,
    ) -> Result<(), CodecError> {
        let mut types = ArrayVec::<PayloadType, TYPES>::new();
        let audio = accepted.iter().map(|a| (a.payload_type, Meaning::Audio(a.codec)));
        let events = events.map(|e| (e.payload_type, Meaning::Event { clock_rate: e.clock_rate }));
        // The static number of comfort noise is understood unasked (RFC 3551 section 6).
        let noise = Some((noise.unwrap_or(13), Meaning::Noise));
        let red = red.map(|number| (number, Meaning::Redundant));
        for (number, meaning) in audio.chain(events).chain(noise).chain(red) {
            if let Meaning::Audio(codec) = meaning {
                self.sound.add_decoder(codec)?;
            }
            if types.iter().all(|t| t.number != number) {
                let _ = types.try_push(PayloadType { number, meaning, until: None });
            }
        }
        for mut old in std::mem::take(&mut self.types) {
            if types.iter().all(|t| t.number != old.number) {
                old.until = old.until.or(Some(now + GRACE));
                let _ = types.try_push(old);
            }
        }
        self.types = types;
        self.heard_wideband &= accepted.iter().any(|a| a.codec.is_wideband());
        Ok(())
    }

    /// What goes out on the other leg is mu-law, too (see [`Decoder::set_transparent`]).
    pub fn set_transparent(&mut self, on: bool) {
        self.sound.set_transparent(on);
    }

    /// The rate of the frames that [`pull`](Self::pull) fills.
    pub fn rate(&self) -> Rate {
        self.sound.rate()
    }

    /// Frames are of another rate from now on; sound that is decoded already goes over.
    ///
    /// # Errors
    /// A decoder cannot be made; the old rate stays.
    pub fn set_rate(&mut self, rate: Rate) -> Result<(), CodecError> {
        self.sound.set_rate(rate)?;
        self.listen_for_tones(self.inband);
        Ok(())
    }

    /// Whether the sound that plays is of a codec that carries wideband.
    pub fn hears_wideband(&self) -> bool {
        self.heard_wideband
    }

    /// What was done to the sound so far.
    pub fn sound(&self) -> SoundStats {
        self.sound.stats()
    }

    /// Sound that was invented, in milliseconds.
    pub fn concealed_ms(&self) -> u64 {
        self.sound.stats().concealed_ms
    }

    /// Sound that waits to be played, in milliseconds: packets, and what is decoded of them.
    pub fn buffered_ms(&self) -> u32 {
        self.playout.buffered_ms().saturating_add(self.sound.ready_us() / 1_000)
    }

    /// The delay that the network asks for, in milliseconds.
    pub fn target_ms(&self, now: Instant) -> u32 {
        (self.playout.target_us(now).max(0) / 1_000) as u32
    }

    /// The delay that playout adds to that of the fastest packet, in milliseconds, as it was of the last packet played; of what is
    /// passed on, none.
    pub fn delay_ms(&self) -> u32 {
        (self.delay_us.clamp(0, 10_000_000) / 1_000) as u32
    }

    fn meaning(&self, now: Instant, number: u8) -> Option<Meaning> {
        let found = self.types.iter().find(|t| t.number == number)?;
        found.until.is_none_or(|until| now < until).then_some(found.meaning)
    }

    /// Whether a payload type was negotiated.
    pub fn knows(&self, now: Instant, number: u8) -> bool {
        self.meaning(now, number).is_some()
    }

    /// Whether a digit of the peer's sounds, or its tail: its sound is not heard then.
    pub fn digit_sounds(&self, now: Instant) -> bool {
        self.events.active() || self.blocked_until.is_some_and(|until| now < until)
    }

    /// The packet that a packet of redundancy would be without, and those of before that it holds; any other as it is. `None`,
    /// and counted as refused, where it is malformed.
    pub fn unwrap<'a>(&mut self, now: Instant, packet: RtpPacket<'a>) -> Option<(RtpPacket<'a>, Earlier<'a>)> {
        if self.meaning(now, packet.header.payload_type) != Some(Meaning::Redundant) {
            return Some((packet, Earlier::default()));
        }
        let unwrapped = red::unwrap(&packet).ok();
        self.refused.unknown += u64::from(unwrapped.is_none());
        unwrapped
    }

    /// Takes what the packet that was taken just now holds of those before.
    pub fn repair(&mut self, now: Instant, earlier: Earlier<'_>) {
        for packet in earlier {
            if let Some(Meaning::Audio(codec)) = self.meaning(now, packet.header.payload_type)
                && let Ok(duration) = codec.duration(packet.payload)
            {
                let kind = if codec.is_dtx(packet.payload) { Kind::Quiet } else { Kind::Audio };
                let fec = codec.has_redundancy(packet.payload);
                self.playout.repair(&Incoming { packet, clock_rate: codec.clock_rate(), duration, kind, fec });
            }
        }
    }

    /// How long a packet of Opus sounds that did not come itself and is passed on from a later one's redundancy.
    pub fn repair_passed(&mut self, now: Instant, packet: &RtpPacket<'_>) -> Option<u32> {
        let Some(Meaning::Audio(Codec::Opus)) = self.meaning(now, packet.header.payload_type) else { return None };
        let duration = Codec::Opus.duration(packet.payload).ok()?;
        self.repaired += 1;
        Some(duration)
    }

    /// Packets that did not come and were played, or passed on, from a later one's redundancy.
    pub fn repaired(&self) -> u64 {
        self.repaired + self.playout.repaired()
    }

    /// Takes a packet whose source is believed and whose payload is passed on: one of `codec` that sounds so many milliseconds, where
    /// that is asked for; `None` for any other, which is for [`packet`](Self::packet). Now and then `meter` is shown what it sounds like, more often until
    /// it has `sounded`.
    pub fn pass_on(
        &mut self,
        now: Instant,
        packet: &RtpPacket<'_>,
        (codec, ms): (Codec, Option<u32>),
        sounded: bool,
        meter: impl FnOnce(&[i16]),
    ) -> Option<Passed> {
        self.meaning(now, packet.header.payload_type).filter(|meaning| *meaning == Meaning::Audio(codec))?;
        let duration = codec.duration(packet.payload).ok()?;
        if ms.is_some_and(|ms| duration != ms * codec.clock_rate() / 1_000) {
            return None;
        }
        if !std::mem::replace(&mut self.passing, true) {
            self.playout.reset();
            self.sound.forget();
        }
        self.delay_us = 0;
        self.passed = self.passed.wrapping_add(1);
        let turn = self.passed % if sounded { LISTEN_EVERY } else { LISTEN_FIRST_EVERY };
        if turn < 2 {
            // The first of two only makes the decoder ready.
            let mut pcm = [0; MAX_PACKET_SAMPLES];
            let pcm = self.sound.listen(codec, packet.payload, &mut pcm);
            if turn == 1 {
                meter(pcm);
            }
        }
        self.took(now, packet, codec.is_dtx(packet.payload));
        let first_wideband = codec.is_wideband() && !std::mem::replace(&mut self.heard_wideband, true);
        Some(Passed { duration, first_wideband })
    }

    fn took(&mut self, now: Instant, packet: &RtpPacket<'_>, paused: bool) {
        self.count(now, packet);
        self.packets += 1;
        self.bytes += packet.payload.len() as u64;
        self.heard = Some(now);
        self.paused = paused.then_some(now);
    }

    /// Takes a packet whose source is believed.
    pub fn packet(&mut self, now: Instant, packet: RtpPacket<'_>) -> Taken {
        let header = packet.header;
        let mut paused = false;
        let taken = match self.meaning(now, header.payload_type) {
            // Redundancy in redundancy is none.
            None | Some(Meaning::Redundant) => Taken::Refused,
            Some(Meaning::Event { clock_rate }) => {
                // It takes a sequence number: without it the playout would see a loss.
                let incoming = Incoming { packet, clock_rate, duration: 0, kind: Kind::Event, fec: false };
                self.playout.insert(now, &incoming);
                let mut updates = EventUpdates::new();
                if self.event_ssrc.replace(header.ssrc) != Some(header.ssrc) {
                    // Another source has timestamps of its own.
                    updates.extend(self.events.reset());
                }
                updates.extend(self.events.handle(now, header.timestamp, packet.payload, clock_rate));
                self.block(now, &updates);
                Taken::Event(updates)
            }
            Some(Meaning::Audio(codec)) => match codec.duration(packet.payload) {
                Err(_) => Taken::Refused,
                Ok(duration) => {
                    let kind = if codec.is_dtx(packet.payload) { Kind::Quiet } else { Kind::Audio };
                    let fec = codec.has_redundancy(packet.payload);
                    paused = kind == Kind::Quiet;
                    let wide = codec.is_wideband();
                    let new_stream =
                        self.insert(now, &Incoming { packet, clock_rate: codec.clock_rate(), duration, kind, fec });
                    let first_wideband = wide && !self.heard_wideband;
                    self.heard_wideband |= wide;
                    Taken::Audio { new_stream, first_wideband }
                }
            },
            Some(Meaning::Noise) => {
                let clock_rate = self.playout.clock_rate();
                let duration = FRAME_MS * clock_rate / 1_000;
                paused = true;
                let incoming = Incoming { packet, clock_rate, duration, kind: Kind::Quiet, fec: false };
                Taken::Audio { new_stream: self.insert(now, &incoming), first_wideband: false }
            }
        };
        if matches!(taken, Taken::Refused) {
            self.refused.unknown += 1;
            return taken;
        }
        self.passing &= matches!(taken, Taken::Event(_));
        self.took(now, &packet, paused);
        taken
    }

    /// Counts a packet for our reports, whether it is heard or not. One of an unknown payload type is none of the stream.
    pub fn count(&mut self, now: Instant, packet: &RtpPacket<'_>) {
        let header = packet.header;
        let (ssrc, sequence, timestamp) = (header.ssrc, header.sequence, header.timestamp);
        let meaning = self.meaning(now, header.payload_type);
        let clock_rate = match meaning {
            Some(Meaning::Audio(codec)) => codec.clock_rate(),
            _ => self.playout.clock_rate(),
        };
        match meaning {
            Some(Meaning::Event { .. }) => self.stats.untimed_packet(now, ssrc, sequence, timestamp, clock_rate),
            Some(_) => self.stats.packet(now, ssrc, sequence, timestamp, clock_rate),
            None => {}
        }
    }

    /// Whether a stream begins with it.
    fn insert(&mut self, now: Instant, incoming: &Incoming<'_>) -> bool {
        let new_stream = self.playout.insert(now, incoming) == Arrival::NewStream;
        if new_stream {
            self.events.new_time_line();
        }
        new_stream
    }

    fn block(&mut self, now: Instant, updates: &[EventUpdate]) {
        if updates.iter().any(|update| matches!(update, EventUpdate::Ended { .. })) {
            self.blocked_until = Some(now + TONE_TAIL);
        }
    }

    /// Ends a digit whose end was lost.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<EventUpdate> {
        let update = self.events.handle_timeout(now)?;
        self.block(now, &[update]);
        Some(update)
    }

    /// Ends the digit that is held: nobody is there any more to say when.
    pub fn end_digit(&mut self) -> Option<EventUpdate> {
        self.events.reset().or_else(|| self.tones.as_mut().and_then(ToneReceiver::reset))
    }

    /// Looks for digits as tones in the sound from now on, or no longer.
    pub fn listen_for_tones(&mut self, inband: Option<InBand>) {
        self.inband = inband;
        let rate = self.rate();
        let suits = |tones: &ToneReceiver| inband.is_some_and(|inband| tones.suits(inband, rate));
        if self.tones.as_ref().is_some_and(suits) {
            return;
        }
        if let Some(mut before) = self.tones.take() {
            self.tone_digits.extend(before.reset().filter(|_| !self.tone_digits.is_full()));
        }
        self.tones = inband.map(|inband| ToneReceiver::new(inband, rate));
    }

    /// Digits are sent to this peer, who may send them back: an analogue line's echo.
    pub fn expect_echo(&mut self, now: Instant) {
        self.echo_until = Some(now + ECHO);
    }

    /// Whether tones are looked for: the sound has to be decoded here then.
    pub fn listens_for_tones(&self) -> bool {
        self.tones.is_some()
    }

    /// The news of digits that the last frame brought.
    pub fn take_tone_digits(&mut self) -> EventUpdates {
        std::mem::take(&mut self.tone_digits)
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.events.poll_timeout()
    }

    /// When the first frame of the stream that just began is due.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.playout.due(now)
    }

    /// Whether nothing of this stream was asked for yet that could be played.
    pub fn is_starting(&self) -> bool {
        self.playout.is_starting()
    }

    /// Whether the peer has announced that it says nothing for a while.
    pub fn is_paused(&self, now: Instant) -> bool {
        self.paused.is_some_and(|at| now.saturating_duration_since(at) < PAUSE)
    }

    /// RTCP came: a pause that was announced goes on.
    pub fn still_there(&mut self, now: Instant) {
        if let Some(at) = &mut self.paused {
            *at = now;
        }
    }

    /// The codec of what is played; `None` before the first description.
    pub fn codec(&self) -> Option<Codec> {
        self.sound.codec()
    }

    /// When a packet came last.
    pub fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// The next 20 ms of sound: a frame of [`rate`](Self::rate). While a digit sounds the sound is silent: the digit goes its own way.
    pub fn pull(&mut self, now: Instant, frame: &mut [i16]) {
        let concealed = self.sound.stats().concealed_ms;
        // Every step yields sound or takes a packet out of a buffer of bounded size: this ends.
        while self.sound.ready() < frame.len().min(LONGEST_FRAME) {
            self.step(now);
        }
        self.sound.pop(frame);
        if let Some(tones) = &mut self.tones {
            let listen = if self.echo_until.is_some_and(|until| now < until) {
                Listen::Echo
            } else if self.sound.stats().concealed_ms > concealed {
                Listen::Invented
            } else {
                Listen::Sound
            };
            tones.frame(frame, listen, &mut self.tone_digits);
        }
        if self.digit_sounds(now) {
            frame.fill(0);
        }
    }

    fn step(&mut self, now: Instant) {
        let Self { playout, sound, types, events, delay_us, .. } = self;
        let (clock_rate, ready_us) = (playout.clock_rate(), sound.ready_us());
        let step = playout.next(now, ready_us);
        let played = match step {
            Step::Packet { duration, .. } => Some(i64::from(duration) * 1_000_000 / i64::from(clock_rate)),
            _ => None,
        };
        let codec = |number| match types.iter().find(|t| t.number == number)?.meaning {
            Meaning::Audio(codec) => Some(codec),
            _ => None,
        };
        // While a digit is pressed there is no sound to miss.
        sound.render(step, clock_rate, codec, !events.active());
        if let Some(length_us) = played {
            *delay_us = playout.delay_us(now, ready_us).saturating_add(length_us);
        }
    }
}

#[cfg(test)]
mod tests;
