//! The receiving half of a leg: packets in, frames of 20 ms of PCM out, at the rate of their direction.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use super::{FRAME_MS, LONGEST_FRAME};
use crate::codec::noise::ComfortNoise;
use crate::codec::resample::Doubler;
use crate::codec::tone::rms;
use crate::codec::{Codec, CodecError, Decoder, MAX_PACKET_SAMPLES, Rate};
use crate::rtp::event::{EventReceiver, EventUpdate, EventUpdates};
use crate::rtp::jitter::Kind;
use crate::rtp::packet::RtpPacket;
use crate::rtp::playout::{Arrival, Incoming, Playout, Step};
use crate::rtp::receive::ReceiveStats;
use crate::sdp::{AcceptedCodec, TelephoneEvent};

/// Payload types in use at once.
const TYPES: usize = 8;
/// How long a payload type stays accepted after a new description left it out: packets of before are still on their way.
const GRACE: Duration = Duration::from_secs(2);
/// Sound is held back this long after a digit: its tail still waits in the buffer.
const TONE_TAIL: Duration = Duration::from_millis(60);
/// A frame below this level may be left out unheard.
const QUIET: f32 = 60.0;
/// So many frames are offered as surplus before one is left out although it is not quiet.
const PATIENCE: u32 = 25;
/// Samples over which a cut is blended.
const BLEND: usize = 40;

#[derive(Debug, Clone, Copy)]
struct PayloadType {
    number: u8,
    meaning: Meaning,
    until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Audio(Codec),
    Event { clock_rate: u32 },
    Noise,
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
    rate: Rate,
    decoders: ArrayVec<Decoder, 4>,
    /// The decoder of the last packet played.
    current: usize,
    playout: Playout,
    fifo: Fifo,
    /// For a decoder that has the telephone's rate only.
    doubler: Doubler,
    /// A codec that carries wideband was received.
    heard_wideband: bool,
    events: EventReceiver,
    /// The source of the last event.
    event_ssrc: Option<u32>,
    blocked_until: Option<Instant>,
    noise: ComfortNoise,
    /// What silence is made of.
    silence: Silence,
    patience: u32,
    heard: Option<Instant>,
    /// The last packet announced that its sender says nothing for a while.
    paused: bool,
    /// RTCP's view of the stream.
    pub stats: ReceiveStats,
    /// Packets taken.
    pub packets: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Sound that was invented, in units of an eighth of a millisecond.
    concealed: u64,
    /// Packets refused.
    pub refused: Refused,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    Digital,
    /// The comfort noise that the sender described.
    Noise,
    /// The decoder's own: Opus in discontinuous transmission.
    Decoder,
}

impl Inbound {
    pub fn new(seed: u32) -> Self {
        Self {
            types: ArrayVec::new(),
            rate: Rate::Narrow,
            decoders: ArrayVec::new(),
            current: 0,
            playout: Playout::new(FRAME_MS),
            fifo: Fifo::new(),
            doubler: Doubler::default(),
            heard_wideband: false,
            events: EventReceiver::default(),
            event_ssrc: None,
            blocked_until: None,
            noise: ComfortNoise::new(seed),
            silence: Silence::Digital,
            patience: 0,
            heard: None,
            paused: false,
            stats: ReceiveStats::default(),
            packets: 0,
            bytes: 0,
            concealed: 0,
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
    ) -> Result<(), CodecError> {
        let mut types = ArrayVec::<PayloadType, TYPES>::new();
        let audio = accepted.iter().map(|a| (a.payload_type, Meaning::Audio(a.codec)));
        let events = events.map(|e| (e.payload_type, Meaning::Event { clock_rate: e.clock_rate }));
        // The static number of comfort noise is understood unasked (RFC 3551 section 6).
        let noise = Some((noise.unwrap_or(13), Meaning::Noise));
        for (number, meaning) in audio.chain(events).chain(noise) {
            if let Meaning::Audio(codec) = meaning {
                self.add_decoder(codec)?;
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
        for decoder in &mut self.decoders {
            decoder.set_transparent(on);
        }
    }

    /// The rate of the frames that [`pull`](Self::pull) fills.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Frames are of another rate from now on; sound that is decoded already goes over.
    ///
    /// # Errors
    /// A decoder cannot be made; the old rate stays.
    pub fn set_rate(&mut self, rate: Rate) -> Result<(), CodecError> {
        if rate == self.rate {
            return Ok(());
        }
        let mut decoders = ArrayVec::new();
        for old in &self.decoders {
            decoders.push(Decoder::new(old.codec(), decoder_rate(old.codec(), rate))?);
        }
        self.decoders = decoders;
        self.fifo.convert(rate);
        self.rate = rate;
        Ok(())
    }

    /// Whether the sound that plays is of a codec that carries wideband.
    pub fn hears_wideband(&self) -> bool {
        self.heard_wideband
    }

    /// Sound that was invented, in milliseconds.
    pub fn concealed_ms(&self) -> u64 {
        self.concealed / 8
    }

    fn add_decoder(&mut self, codec: Codec) -> Result<(), CodecError> {
        if self.decoders.iter().all(|d| d.codec() != codec) {
            let decoder = Decoder::new(codec, decoder_rate(codec, self.rate))?;
            self.decoders.try_push(decoder).map_err(|_| CodecError::Unsupported(codec))?;
        }
        Ok(())
    }

    fn meaning(&self, now: Instant, number: u8) -> Option<Meaning> {
        let found = self.types.iter().find(|t| t.number == number)?;
        found.until.is_none_or(|until| now < until).then_some(found.meaning)
    }

    /// Whether a payload type was negotiated.
    pub fn knows(&self, now: Instant, number: u8) -> bool {
        self.meaning(now, number).is_some()
    }

    /// Takes a packet whose source is believed.
    pub fn packet(&mut self, now: Instant, packet: RtpPacket<'_>) -> Taken {
        let header = packet.header;
        let mut paused = false;
        let taken = match self.meaning(now, header.payload_type) {
            None => Taken::Refused,
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
                    let fec = codec == Codec::Opus;
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
        self.count(now, &packet);
        self.packets += 1;
        self.bytes += packet.payload.len() as u64;
        self.heard = Some(now);
        self.paused = paused;
        taken
    }

    /// Counts a packet for our reports, whether it is heard or not. One of an unknown payload type is none of the stream.
    pub fn count(&mut self, now: Instant, packet: &RtpPacket<'_>) {
        let header = packet.header;
        let (ssrc, sequence, timestamp) = (header.ssrc, header.sequence, header.timestamp);
        let clock_rate = self.playout.clock_rate();
        match self.meaning(now, header.payload_type) {
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
        self.events.reset()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.events.poll_timeout()
    }

    /// When the first frame of the stream that just began is due.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.playout.due(now)
    }

    /// Whether the peer has announced that it says nothing for a while.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The codec of what is played; `None` before the first description.
    pub fn codec(&self) -> Option<Codec> {
        self.decoders.get(self.current).map(Decoder::codec)
    }

    /// Milliseconds of sound that wait.
    pub fn buffered_ms(&self) -> u32 {
        self.playout.buffered_ms() + self.fifo.len() as u32 * 1_000 / self.rate.hz()
    }

    /// When a packet came last.
    pub fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// The next 20 ms of sound: a frame of [`rate`](Self::rate). While a digit sounds the sound is silent: the digit goes its own way.
    pub fn pull(&mut self, now: Instant, frame: &mut [i16]) {
        // Every step yields sound or takes a packet out of a buffer of bounded size: this ends.
        while self.fifo.len() < frame.len().min(LONGEST_FRAME) {
            self.step(now);
        }
        self.fifo.pop(frame);
        if self.events.active() || self.blocked_until.is_some_and(|until| now < until) {
            frame.fill(0);
        }
    }

    /// Digital silence, or the noise that the sender described.
    fn hush(&mut self, duration: u32) {
        let mut pcm = [0; MAX_PACKET_SAMPLES];
        let pcm = part(&mut pcm, samples(duration, self.playout.clock_rate(), self.rate));
        if self.silence == Silence::Noise {
            self.noise.fill(pcm);
        }
        self.fifo.push(pcm);
    }

    fn step(&mut self, now: Instant) {
        let clock_rate = self.playout.clock_rate();
        let mut pcm = [0; MAX_PACKET_SAMPLES];
        let mut left_out = false;
        match self.playout.next(now) {
            Step::Packet { payload_type, payload, duration, surplus } => {
                let meaning = self.types.iter().find(|t| t.number == payload_type).map(|t| t.meaning);
                let Some(Meaning::Audio(codec)) = meaning else {
                    self.noise.set_payload(payload);
                    self.silence = Silence::Noise;
                    let pcm = part(&mut pcm, samples(duration, clock_rate, self.rate));
                    self.noise.fill(pcm);
                    self.fifo.push(pcm);
                    return;
                };
                self.silence = if codec.is_dtx(payload) { Silence::Decoder } else { Silence::Digital };
                let Some(index) = self.decoders.iter().position(|d| d.codec() == codec) else { return };
                self.current = index;
                let Some(decoder) = self.decoders.get_mut(index) else { return };
                let rate = decoder.rate();
                let len = decoder.decode(payload, &mut pcm).unwrap_or_else(|_| {
                    // A payload that is none is as good as lost.
                    let missing = part(&mut pcm, samples(duration, clock_rate, rate));
                    self.concealed += eighths(missing.len(), rate);
                    decoder.conceal(missing);
                    missing.len()
                });
                let pcm = widened(&mut self.doubler, &mut pcm, len, rate, self.rate);
                left_out = surplus && (self.patience >= PATIENCE || rms(pcm) < QUIET);
                self.patience = if surplus && !left_out { self.patience + 1 } else { 0 };
                if left_out {
                    self.fifo.blend_from(pcm);
                } else {
                    self.fifo.push(pcm);
                }
            }
            Step::Recover { next, duration, .. } => {
                let Some(decoder) = self.decoders.get_mut(self.current) else { return self.hush(duration) };
                let rate = decoder.rate();
                let missing = part(&mut pcm, samples(duration, clock_rate, rate));
                decoder.recover(next, missing);
                self.concealed += eighths(missing.len(), rate);
                let len = missing.len();
                self.fifo.push(widened(&mut self.doubler, &mut pcm, len, rate, self.rate));
            }
            Step::Conceal { duration } => {
                let Some(decoder) = self.decoders.get_mut(self.current) else { return self.hush(duration) };
                let rate = decoder.rate();
                let missing = part(&mut pcm, samples(duration, clock_rate, rate));
                decoder.conceal(missing);
                // While a digit is pressed there is no sound to miss.
                if !self.events.active() {
                    self.concealed += eighths(missing.len(), rate);
                }
                let len = missing.len();
                self.fifo.push(widened(&mut self.doubler, &mut pcm, len, rate, self.rate));
            }
            Step::Silence { duration } => match (self.silence, self.decoders.get_mut(self.current)) {
                (Silence::Decoder, Some(decoder)) => {
                    let rate = decoder.rate();
                    let quiet = part(&mut pcm, samples(duration, clock_rate, rate));
                    decoder.conceal(quiet);
                    let len = quiet.len();
                    self.fifo.push(widened(&mut self.doubler, &mut pcm, len, rate, self.rate));
                }
                _ => self.hush(duration),
            },
        }
        if left_out {
            self.playout.dropped();
        }
    }
}

/// Clock units as samples of `rate`, rounded up to the 2.5 ms that every codec can fill, and never nothing.
fn samples(duration: u32, clock_rate: u32, rate: Rate) -> usize {
    let step = rate.hz() as usize / 400;
    let samples = u64::from(duration) * u64::from(rate.hz()) / u64::from(clock_rate.max(1));
    (samples as usize).div_ceil(step).clamp(1, MAX_PACKET_SAMPLES / 2 / (Rate::Narrow.hz() as usize / 400)) * step
}

/// Samples of `rate` as eighths of a millisecond.
fn eighths(samples: usize, rate: Rate) -> u64 {
    samples as u64 * 8_000 / u64::from(rate.hz())
}

/// The rate of a codec's decoder in a direction of `rate`.
fn decoder_rate(codec: Codec, rate: Rate) -> Rate {
    if codec.is_wideband() { rate } else { Rate::Narrow }
}

/// The first `len` samples of `pcm`, which are of the rate `from`, at the rate `to`: doubled in place where that is
/// [`Rate::Wide`] and they are not.
fn widened<'a>(
    doubler: &mut Doubler,
    pcm: &'a mut [i16; MAX_PACKET_SAMPLES],
    len: usize,
    from: Rate,
    to: Rate,
) -> &'a mut [i16] {
    if (from, to) != (Rate::Narrow, Rate::Wide) {
        return part(pcm, len);
    }
    let mut narrow = [0; MAX_PACKET_SAMPLES / 2];
    let narrow = part(&mut narrow, len);
    narrow.iter_mut().zip(pcm.iter()).for_each(|(to, from)| *to = *from);
    let doubled = doubler.process(narrow, pcm);
    part(pcm, doubled)
}

fn part(pcm: &mut [i16], len: usize) -> &mut [i16] {
    let len = len.min(pcm.len());
    &mut pcm[..len]
}

/// Samples between the decoder, which yields packets, and the frames asked for.
#[derive(Debug)]
struct Fifo {
    samples: Box<[i16; Fifo::SIZE]>,
    len: usize,
    /// The start of what was cut out, to be blended into what follows.
    cut: Option<[i16; BLEND]>,
}

impl Fifo {
    const SIZE: usize = LONGEST_FRAME + MAX_PACKET_SAMPLES;

    fn new() -> Self {
        Self { samples: Box::new([0; Self::SIZE]), len: 0, cut: None }
    }

    fn len(&self) -> usize {
        self.len
    }

    /// Appends; the caller pushes at most one packet onto less than one frame, so there is room.
    fn push(&mut self, pcm: &mut [i16]) {
        if let Some(cut) = self.cut.take() {
            for (n, (new, old)) in pcm.iter_mut().zip(cut).enumerate() {
                let weight = n as i32 + 1;
                *new = ((i32::from(*new) * weight + i32::from(old) * (BLEND as i32 - weight)) / BLEND as i32) as i16;
            }
        }
        let end = (self.len + pcm.len()).min(Self::SIZE);
        if let Some(room) = self.samples.get_mut(self.len..end) {
            for (to, from) in room.iter_mut().zip(pcm.iter()) {
                *to = *from;
            }
        }
        self.len = end;
    }

    /// `pcm` is left out; what is pushed next starts as it does and glides into its own.
    fn blend_from(&mut self, pcm: &[i16]) {
        self.cut = pcm.first_chunk::<BLEND>().copied();
    }

    fn pop(&mut self, frame: &mut [i16]) {
        let len = frame.len().min(self.len);
        for (to, from) in frame.iter_mut().zip(self.samples.iter().take(len)) {
            *to = *from;
        }
        self.samples.copy_within(len..self.len, 0);
        self.len -= len;
    }

    /// What waits goes over to `rate` from the other one. It is less than a frame: good enough without a filter.
    fn convert(&mut self, rate: Rate) {
        let old = *self.samples;
        let old = old.get(..self.len).unwrap_or_default();
        let mut len = 0;
        let mut push = |sample: i16| {
            if let Some(room) = self.samples.get_mut(len) {
                *room = sample;
                len += 1;
            }
        };
        match rate {
            Rate::Wide => old.iter().for_each(|sample| [*sample; 2].into_iter().for_each(&mut push)),
            Rate::Narrow => old.chunks_exact(2).filter_map(|pair| pair.first()).copied().for_each(push),
        }
        self.len = len;
        self.cut = None;
    }
}
