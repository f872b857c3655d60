//! The sound of a leg: what playout decides, rendered as PCM at the rate of the direction.

use arrayvec::ArrayVec;

use super::fifo::Fifo;
use crate::codec::noise::ComfortNoise;
use crate::codec::resample::Doubler;
use crate::codec::{Codec, CodecError, Decoder, MAX_PACKET_SAMPLES, Rate};
use crate::rtp::playout::{Pace, Step};

/// Sound that stops ends within this time, so that it does not click.
const FADE_MS: usize = 10;

/// What was done to the sound of a stream, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SoundStats {
    /// Invented where nothing came in time, or recovered from redundancy.
    pub concealed_ms: u64,
    /// Left out, to shorten the delay or to follow a faster clock.
    pub accelerated_ms: u64,
    /// Put in, to lengthen the delay or to follow a slower clock.
    pub stretched_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    Digital,
    /// The comfort noise that the sender described.
    Noise,
    /// The decoder's own: Opus in discontinuous transmission.
    Decoder,
}

/// Decoders and what stands between them and the frames that are sent.
#[derive(Debug)]
pub(super) struct Sound {
    rate: Rate,
    decoders: ArrayVec<Decoder, 4>,
    /// The decoder of the last packet played.
    current: usize,
    fifo: Fifo,
    /// For a decoder that has the telephone's rate only.
    doubler: Doubler,
    /// What silence sounds like: as the sender describes it, else as it was between words.
    noise: ComfortNoise,
    /// What silence is made of.
    silence: Silence,
    /// Nothing sounds: there is nothing to fade.
    silent: bool,
    /// The last sound was invented.
    concealing: bool,
    /// Sound that was invented, in units of an eighth of a millisecond.
    concealed: u64,
}

impl Sound {
    /// Sound at the telephone's rate; its noise depends on `seed` alone.
    pub fn new(seed: u32) -> Self {
        Self {
            rate: Rate::Narrow,
            decoders: ArrayVec::new(),
            current: 0,
            fifo: Fifo::new(Rate::Narrow),
            doubler: Doubler::default(),
            noise: ComfortNoise::new(seed),
            silence: Silence::Digital,
            silent: true,
            concealing: false,
            concealed: 0,
        }
    }

    /// The rate of the frames.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// See [`super::inbound::Inbound::set_rate`].
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

    /// See [`Decoder::set_transparent`].
    pub fn set_transparent(&mut self, on: bool) {
        for decoder in &mut self.decoders {
            decoder.set_transparent(on);
        }
    }

    /// Makes sure that there is a decoder for `codec`.
    pub fn add_decoder(&mut self, codec: Codec) -> Result<(), CodecError> {
        if self.decoders.iter().all(|d| d.codec() != codec) {
            let decoder = Decoder::new(codec, decoder_rate(codec, self.rate))?;
            self.decoders.try_push(decoder).map_err(|_| CodecError::Unsupported(codec))?;
        }
        Ok(())
    }

    /// The codec of what was played last; `None` before there is a decoder.
    pub fn codec(&self) -> Option<Codec> {
        self.decoders.get(self.current).map(Decoder::codec)
    }

    /// What was done to the sound so far.
    pub fn stats(&self) -> SoundStats {
        let (accelerated_ms, stretched_ms) = self.fifo.stretched_ms();
        SoundStats { concealed_ms: self.concealed / 8, accelerated_ms, stretched_ms }
    }

    /// Forgets what waits: the stream goes another way from now on.
    pub fn forget(&mut self) {
        self.fifo.clear();
        self.silence = Silence::Digital;
        self.silent = true;
    }

    /// Decodes a packet that is not played, to see how loud it is; the samples in `pcm`.
    pub fn listen<'a>(&mut self, codec: Codec, payload: &[u8], pcm: &'a mut [i16; MAX_PACKET_SAMPLES]) -> &'a [i16] {
        let Some(index) = self.decoders.iter().position(|d| d.codec() == codec) else { return &[] };
        self.current = index;
        let len = self.decoders.get_mut(index).and_then(|decoder| decoder.decode(payload, pcm).ok());
        pcm.get(..len.unwrap_or_default()).unwrap_or_default()
    }

    /// Samples that are ready to be played.
    pub fn ready(&self) -> usize {
        self.fifo.len()
    }

    /// The time that they sound, in microseconds.
    pub fn ready_us(&self) -> u32 {
        self.fifo.ready_us()
    }

    /// Takes a frame of what is ready.
    pub fn pop(&mut self, frame: &mut [i16]) {
        self.fifo.pop(frame);
    }

    /// Renders one step of playout. `codec` names the codec of a payload type, or none for comfort noise; `missed` is whether
    /// sound that is not there is missed by anybody.
    pub fn render(&mut self, step: Step<'_>, clock_rate: u32, codec: impl Fn(u8) -> Option<Codec>, missed: bool) {
        match step {
            Step::Packet { payload_type, payload, duration, pace } => match codec(payload_type) {
                Some(codec) => self.packet(codec, payload, ticks(duration, clock_rate), pace),
                None => {
                    self.noise.set_payload(payload);
                    self.silence = Silence::Noise;
                    self.hush(ticks(duration, clock_rate));
                }
            },
            Step::Recover { next, duration, .. } => {
                self.invent(ticks(duration, clock_rate), missed, |decoder, pcm| decoder.recover(next, pcm));
            }
            Step::Conceal { duration } => self.invent(ticks(duration, clock_rate), missed, Decoder::conceal),
            Step::Silence { duration } => match self.silence {
                Silence::Decoder => self.invent(ticks(duration, clock_rate), false, Decoder::rest),
                _ => self.hush(ticks(duration, clock_rate)),
            },
        }
    }

    fn packet(&mut self, codec: Codec, payload: &[u8], ticks: usize, pace: Pace) {
        let Some(index) = self.decoders.iter().position(|d| d.codec() == codec) else { return self.hush(ticks) };
        self.current = index;
        self.silence = if codec.is_dtx(payload) { Silence::Decoder } else { Silence::Digital };
        let Some(decoder) = self.decoders.get_mut(index) else { return self.hush(ticks) };
        let rate = decoder.rate();
        let mut pcm = [0; MAX_PACKET_SAMPLES];
        match decoder.decode(payload, &mut pcm) {
            Ok(len) => {
                self.push(&mut pcm, len, rate);
                self.noise.learn(part(&mut pcm, len));
            }
            // A payload that is none is as good as lost.
            Err(_) => return self.invent(ticks, true, Decoder::conceal),
        }
        // What was invented is no measure of what is alike.
        if self.fifo.len() >= self.rate.frame() && !std::mem::take(&mut self.concealing) {
            self.fifo.stretch(pace);
        }
    }

    /// Lets the decoder make up sound.
    fn invent(&mut self, ticks: usize, missed: bool, make: impl FnOnce(&mut Decoder, &mut [i16])) {
        let Some(decoder) = self.decoders.get_mut(self.current) else { return self.hush(ticks) };
        let rate = decoder.rate();
        let mut pcm = [0; MAX_PACKET_SAMPLES];
        let missing = part(&mut pcm, ticks * rate.samples(1) / TICKS_PER_MS);
        make(decoder, missing);
        let len = missing.len();
        if missed {
            self.concealed += eighths(len, rate);
        }
        self.push(&mut pcm, len, rate);
        self.concealing = true;
    }

    /// The noise that the sender described, or the background that was heard of it. Sound that stops here fades into that.
    fn hush(&mut self, ticks: usize) {
        let mut pcm = [0; MAX_PACKET_SAMPLES];
        let len = ticks * self.rate.samples(1) / TICKS_PER_MS;
        if self.silence != Silence::Noise && !std::mem::replace(&mut self.silent, true) {
            self.fade(&mut pcm);
        }
        for sample in part(&mut pcm, len) {
            *sample = sample.saturating_add(self.noise.next_sample() as i16);
        }
        self.fifo.push(part(&mut pcm, len));
        self.concealing = true;
    }

    /// Fills the first milliseconds of `out` with what the decoder would go on with, fading.
    fn fade(&mut self, out: &mut [i16; MAX_PACKET_SAMPLES]) {
        let Some(decoder) = self.decoders.get_mut(self.current) else { return };
        let rate = decoder.rate();
        let len = rate.samples(FADE_MS);
        decoder.conceal(part(out, len));
        decoder.break_off();
        let len = widen(&mut self.doubler, out, len, rate, self.rate);
        for (n, sample) in part(out, len).iter_mut().enumerate() {
            *sample = (i32::from(*sample) * (len - n) as i32 / len as i32) as i16;
        }
    }

    /// Appends the first `len` samples of `pcm`, which are of `rate`.
    fn push(&mut self, pcm: &mut [i16; MAX_PACKET_SAMPLES], len: usize, rate: Rate) {
        let len = widen(&mut self.doubler, pcm, len, rate, self.rate);
        self.fifo.push(part(pcm, len));
        self.silent = false;
    }
}

/// Durations of sound are counted in halves of a millisecond.
const TICKS_PER_MS: usize = 2;

/// Clock units as halves of a millisecond, rounded up to the 2.5 ms that every codec can fill, and never nothing.
fn ticks(duration: u32, clock_rate: u32) -> usize {
    let ticks = u64::from(duration) * 2 * 1_000 / u64::from(clock_rate.max(1));
    (ticks as usize).div_ceil(5).clamp(1, 48) * 5
}

/// Samples of `rate` as eighths of a millisecond.
fn eighths(samples: usize, rate: Rate) -> u64 {
    samples as u64 * 8_000 / u64::from(rate.hz())
}

/// The rate of a codec's decoder in a direction of `rate`.
fn decoder_rate(codec: Codec, rate: Rate) -> Rate {
    if codec.is_wideband() { rate } else { Rate::Narrow }
}

/// The first `len` samples of `pcm`, which are of the rate `from`, become such of the rate `to`: doubled in place where that
/// is [`Rate::Wide`] and they are not. Returns their number.
fn widen(doubler: &mut Doubler, pcm: &mut [i16; MAX_PACKET_SAMPLES], len: usize, from: Rate, to: Rate) -> usize {
    if (from, to) != (Rate::Narrow, Rate::Wide) {
        return len;
    }
    let mut narrow = [0; MAX_PACKET_SAMPLES / 2];
    let narrow = part(&mut narrow, len);
    narrow.iter_mut().zip(pcm.iter()).for_each(|(to, from)| *to = *from);
    doubler.process(narrow, pcm)
}

fn part(pcm: &mut [i16], len: usize) -> &mut [i16] {
    let len = len.min(pcm.len());
    &mut pcm[..len]
}
