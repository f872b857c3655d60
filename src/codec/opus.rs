//! Opus ([RFC 6716](https://www.rfc-editor.org/rfc/rfc6716)) straight from and to the rate of a bridge.
//!
//! The decoder of libopus renders any Opus stream, full band and stereo included, at 8 or 16 kHz mono: there is no resampler
//! on this path. The encoder takes 8 kHz and writes narrowband, or takes 16 kHz and writes wideband.

use super::deep::Speaker;
use super::{CodecError, Rate};
use arrayvec::ArrayVec;
use opus::{Application, Bandwidth, Bitrate, Channels};

/// The configurations below this one are SILK at 8 or 12 kHz (RFC 6716 section 3.1).
const FIRST_WIDEBAND: u8 = 8;
/// The longest time one Opus packet may cover, in milliseconds (RFC 6716 section 3.4).
pub const MAX_PACKET_MS: u32 = 120;

/// From this complexity on the decoder conceals by deep PLC wherever the stream's speech is sampled at 16 kHz
/// (docs/decisions/0009-deep-concealment.md).
const COMPLEXITY: u8 = 5;
/// The least that a peer can want, in bits per second (RFC 7587 section 6.1).
const LEAST_BITRATE: u32 = 6_000;
/// The first milliseconds of a loss that SILK conceals itself, and how long it takes to go over to deep PLC.
const SILK_MS: usize = 20;
const CROSSING_MS: usize = 5;
/// Samples that are all alike are silence up to this value: the least that A-law has.
const FAINTEST: u16 = 8;
/// Packets of silence that are encoded before the last of them stands for those that follow: the sound before them has died away
/// by then, in the encoder as in any decoder (docs/decisions/0012-no-silence-suppression.md).
const SETTLED: u8 = 10;
/// The longest packet of silence that is kept.
const LONGEST_SILENCE: usize = 64;

/// A mono decoder of any Opus stream.
///
/// Where the stream is wideband, libopus conceals by deep PLC itself. Where its speech is sampled at 8 or 12 kHz it cannot:
/// what is lost longer than one packet is spoken by `deep` then.
#[derive(Debug)]
pub struct OpusDecoder {
    inner: opus_plc::Decoder,
    rate: Rate,
    speaker: Box<Speaker>,
    /// The last packet's speech was sampled below 16 kHz.
    narrow: bool,
    /// Samples concealed in a row.
    lost: usize,
}

impl OpusDecoder {
    /// A decoder that renders at `rate`.
    ///
    /// # Errors
    /// [`CodecError::Library`] without memory.
    pub fn new(rate: Rate) -> Result<Self, CodecError> {
        let inner = opus_plc::Decoder::new(rate.hz(), COMPLEXITY)?;
        let speaker = Box::new(Speaker::new(rate));
        Ok(Self { inner, rate, speaker, narrow: false, lost: 0 })
    }

    /// Decodes one packet; returns the number of samples written to `out`.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] for a packet that is none, [`CodecError::BufferSize`] when `out` is too short for it.
    pub fn decode(&mut self, packet: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        // To libopus an empty packet means "lost", and it would fill the whole of `out`.
        let toc = *packet.first().ok_or(CodecError::Malformed)?;
        let len = self.inner.decode(packet, out, false)?;
        self.arrived(toc, out.get_mut(..len).unwrap_or_default());
        Ok(len)
    }

    /// Fills all of `out` with the audio lost right before `next`, from the redundancy inside `next`; what that does not
    /// cover is concealed. The length must be a multiple of 2.5 ms.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and [`CodecError::BufferSize`] for another length.
    pub fn decode_fec(&mut self, next: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        let Some(toc) = next.first().filter(|_| has_redundancy(next)) else { return self.conceal(out) };
        let len = self.inner.decode(next, out, true)?;
        self.arrived(*toc, out);
        Ok(len)
    }

    /// Fills all of `out` by continuing what was heard. The length must be a multiple of 2.5 ms.
    ///
    /// # Errors
    /// [`CodecError::BufferSize`] for another length.
    pub fn conceal(&mut self, out: &mut [i16]) -> Result<usize, CodecError> {
        let len = self.rest(out)?;
        let (before, silk) = (self.lost, self.rate.samples(SILK_MS));
        self.lost += len;
        if !self.narrow {
            return Ok(len);
        }
        if self.lost > silk {
            self.speak(out, before, silk);
        }
        self.speaker.remember(out);
        Ok(len)
    }

    /// Fills all of `out` while the sender is silent on purpose. The length must be a multiple of 2.5 ms.
    ///
    /// # Errors
    /// [`CodecError::BufferSize`] for another length.
    pub fn rest(&mut self, out: &mut [i16]) -> Result<usize, CodecError> {
        Ok(self.inner.decode(&[], out, false)?)
    }

    /// See [`Decoder::break_off`](super::Decoder::break_off).
    pub fn break_off(&mut self) {
        self.speaker.stop();
        self.lost = 0;
    }

    /// The rate at which this decoder renders.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes sound that was sent, after a loss or not.
    fn arrived(&mut self, toc: u8, pcm: &mut [i16]) {
        self.narrow = toc >> 3 < FIRST_WIDEBAND;
        if self.speaker.speaking() {
            let mut tail = [0; 160];
            let len = self.rate.samples(CROSSING_MS).min(pcm.len());
            let tail = tail.get_mut(..len).unwrap_or_default();
            self.speaker.speak(tail);
            cross(tail, pcm, |n| n + 1, len);
            if let Some(start) = pcm.get_mut(..len) {
                start.copy_from_slice(tail);
            }
            self.speaker.stop();
        }
        self.lost = 0;
        if self.narrow {
            self.speaker.hear(pcm);
        }
    }

    /// Goes over, after `silk` samples of a loss, from what SILK made up to what deep PLC says. `out` begins `before` samples
    /// into the loss.
    fn speak(&mut self, out: &mut [i16], before: usize, silk: usize) {
        if !self.speaker.speaking() {
            self.speaker.start(before);
        }
        let crossing = self.rate.samples(CROSSING_MS);
        let mut said = [0; 160];
        for (n, piece) in out.chunks_mut(160).enumerate() {
            let at = before + n * 160;
            let said = said.get_mut(..piece.len()).unwrap_or_default();
            self.speaker.speak(said);
            cross(piece, said, |n| (at + n + 1).saturating_sub(silk), crossing);
        }
    }
}

/// Goes over from what stands in `pcm` to `new` within `length` samples; `gone` says how far it has gone at a sample of `pcm`.
fn cross(pcm: &mut [i16], new: &[i16], gone: impl Fn(usize) -> usize, length: usize) {
    for (n, (sample, new)) in pcm.iter_mut().zip(new).enumerate() {
        let part = (gone(n) as f32 / (length + 1) as f32).min(1.0);
        *sample = (f32::from(*sample) * (1.0 - part) + f32::from(*new) * part) as i16;
    }
}

/// How long `packet` sounds, in samples of `clock_rate` Hz, read from its table-of-contents byte (RFC 6716 section 3.1).
pub fn packet_duration(packet: &[u8], clock_rate: u32) -> Result<u32, CodecError> {
    let toc = *packet.first().ok_or(CodecError::Malformed)?;
    let frames: u32 = match toc & 0x03 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1).ok_or(CodecError::Malformed)? & 0x3f),
    };
    let config = toc >> 3;
    // Eighths of a millisecond, so that 2.5 ms is a whole number.
    let frame = match config {
        0..=11 => [80, 160, 320, 480][usize::from(config & 3)],
        12..=15 => [80, 160][usize::from(config & 1)],
        _ => [20, 40, 80, 160][usize::from(config & 3)],
    };
    let eighths: u32 = frames * frame;
    if eighths == 0 || eighths > MAX_PACKET_MS * 8 {
        return Err(CodecError::Malformed);
    }
    Ok(eighths * (clock_rate / 1000) / 8)
}

/// Whether `packet` holds no speech: an encoder in discontinuous transmission (DTX) sends only the table of contents.
pub fn is_dtx(packet: &[u8]) -> bool {
    packet.len() <= 2
}

/// Whether `packet` holds redundancy (LBRR) for the packet before: the flag stands behind the voice activity flags of SILK's
/// first channel, and of its second for stereo (RFC 6716 section 4.2.4).
pub fn has_redundancy(packet: &[u8]) -> bool {
    let Some(toc) = packet.first() else { return false };
    let config = toc >> 3;
    if config >= 16 {
        // CELT alone has none.
        return false;
    }
    // SILK's frames of 20 ms within the first Opus frame.
    let frames = match config {
        0..=11 => [1, 1, 2, 3][usize::from(config & 3)],
        _ => 1,
    };
    let stereo = toc & 0x04 != 0;
    let Some(first) = first_frame(packet).and_then(|start| packet.get(start)) else { return false };
    (first >> (7 - frames)) & 1 != 0 || (stereo && (first >> (6 - 2 * frames)) & 1 != 0)
}

/// Where the first frame of `packet` begins (RFC 6716 section 3.2); `None` where it is empty or the packet malformed.
fn first_frame(packet: &[u8]) -> Option<usize> {
    // One or two bytes of length: how many, and the length (RFC 6716 section 3.2.1).
    let length = |at: usize| -> Option<(usize, usize)> {
        match usize::from(*packet.get(at)?) {
            low @ 252.. => Some((2, usize::from(*packet.get(at + 1)?) * 4 + low)),
            short => Some((1, short)),
        }
    };
    match packet.first()? & 0x03 {
        0 | 1 => Some(1),
        2 => {
            let (bytes, len) = length(1)?;
            (len > 0).then_some(1 + bytes)
        }
        _ => {
            let count = *packet.get(1)?;
            let mut at = 2;
            if count & 0x40 != 0 {
                while packet.get(at)? == &255 {
                    at += 1;
                }
                at += 1;
            }
            if count & 0x80 == 0 {
                return Some(at);
            }
            let (first_bytes, first_len) = length(at)?;
            at += first_bytes;
            for _ in 2..(count & 0x3f) {
                at += length(at)?.0;
            }
            (first_len > 0).then_some(at)
        }
    }
}

/// How the encoder works. The defaults are the measured optimum for a telephone's audio: 24 kbit/s at complexity 1 sounds
/// like complexity 9 for less than half of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpusSettings {
    /// Bits per second.
    pub bitrate: i32,
    /// 0 (cheapest) to 10.
    pub complexity: i32,
    /// Expected loss in percent when forward error correction is wanted.
    pub fec: Option<u8>,
    /// The most bits per second that the peer takes, redundancy included
    /// ([RFC 7587](https://www.rfc-editor.org/rfc/rfc7587#section-6.1) `maxaveragebitrate`).
    pub most: Option<u32>,
}

impl Default for OpusSettings {
    fn default() -> Self {
        Self { bitrate: 24_000, complexity: 1, fec: None, most: None }
    }
}

impl OpusSettings {
    /// What suits sound at `rate`: wideband takes a third more for the same grade.
    pub fn of(rate: Rate) -> Self {
        match rate {
            Rate::Narrow => Self::default(),
            Rate::Wide => Self { bitrate: 32_000, ..Self::default() },
        }
    }
}

/// A mono encoder, narrowband from 8 kHz or wideband from 16.
pub struct OpusEncoder {
    inner: opus::Encoder,
    rate: Rate,
    settings: OpusSettings,
    silence: Silence,
}

/// Silence that goes on, and the packet that stands for more of it.
#[derive(Default)]
struct Silence {
    /// The value of all its samples, and how many a packet has; `None` in the midst of sound.
    like: Option<(i16, usize)>,
    packets: u8,
    packet: ArrayVec<u8, LONGEST_SILENCE>,
}

impl Silence {
    /// Takes the sound of the next packet; yields the packet that stands for it, where there is one.
    fn again(&mut self, pcm: &[i16]) -> Option<&[u8]> {
        let level = pcm.first().copied().filter(|first| first.unsigned_abs() <= FAINTEST);
        let like = level.filter(|level| pcm.iter().all(|sample| sample == level)).map(|level| (level, pcm.len()));
        if like != self.like {
            *self = Self { like, ..Self::default() };
        }
        (!self.packet.is_empty()).then_some(&self.packet)
    }

    /// Takes the packet that the sound of before was encoded to.
    fn encoded(&mut self, packet: &[u8]) {
        if self.like.is_none() || self.packets == SETTLED {
            return;
        }
        self.packets += 1;
        if self.packets == SETTLED {
            // One that is too long is not kept, and silence is encoded as all else is.
            self.packet = packet.try_into().unwrap_or_default();
        }
    }
}

impl OpusEncoder {
    /// An encoder of mono audio at `rate`.
    pub fn new(rate: Rate, settings: OpusSettings) -> Result<Self, CodecError> {
        let mut inner = opus::Encoder::new(rate.hz(), Channels::Mono, Application::Voip)?;
        inner.set_bandwidth(match rate {
            Rate::Narrow => Bandwidth::Narrowband,
            Rate::Wide => Bandwidth::Wideband,
        })?;
        let mut encoder = Self { inner, rate, settings, silence: Silence::default() };
        encoder.apply()?;
        Ok(encoder)
    }

    /// Encodes one frame of 2.5 to 60 ms into `out`; returns the number of bytes. Silence that lasts is encoded once: packets of
    /// it do not differ.
    pub fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        if let Some(again) = self.silence.again(pcm) {
            out.get_mut(..again.len()).ok_or(CodecError::BufferSize)?.copy_from_slice(again);
            return Ok(again.len());
        }
        let len = self.inner.encode(pcm, out)?;
        self.silence.encoded(out.get(..len).unwrap_or_default());
        Ok(len)
    }

    /// The rate of the sound it takes.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Turns redundancy on with the loss to expect in percent, or off.
    pub fn set_fec(&mut self, expected_loss: Option<u8>) -> Result<(), CodecError> {
        if self.settings.fec == expected_loss {
            return Ok(());
        }
        self.settings.fec = expected_loss;
        self.apply()
    }

    /// Keeps within the bits per second that the peer takes, redundancy included.
    pub fn set_most(&mut self, most: Option<u32>) -> Result<(), CodecError> {
        if self.settings.most == most {
            return Ok(());
        }
        self.settings.most = most;
        self.apply()
    }

    /// Sets how much work is spent, 0 (cheapest) to 10.
    pub fn set_complexity(&mut self, complexity: i32) -> Result<(), CodecError> {
        if self.settings.complexity == complexity {
            return Ok(());
        }
        self.settings.complexity = complexity;
        self.apply()
    }

    /// The settings in force.
    pub fn settings(&self) -> OpusSettings {
        self.settings
    }

    fn apply(&mut self) -> Result<(), CodecError> {
        // Redundancy takes its bits from the sound: with a third more neither suffers (docs/decisions/0011).
        let bitrate = if self.settings.fec.is_some() { self.settings.bitrate / 3 * 4 } else { self.settings.bitrate };
        let most =
            self.settings.most.map_or(i32::MAX, |most| i32::try_from(most.max(LEAST_BITRATE)).unwrap_or(i32::MAX));
        self.inner.set_bitrate(Bitrate::Bits(bitrate.min(most)))?;
        self.inner.set_complexity(self.settings.complexity)?;
        self.inner.set_inband_fec(self.settings.fec.is_some())?;
        self.inner.set_packet_loss_perc(i32::from(self.settings.fec.unwrap_or(0).min(100)))?;
        Ok(())
    }
}

impl std::fmt::Debug for OpusEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpusEncoder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::codec::tone::{amplitude, rms};

    fn sine(hz: f32, rate: f32, level: f32, start: usize, len: usize) -> Vec<i16> {
        (start..start + len).map(|n| (level * (std::f32::consts::TAU * hz * n as f32 / rate).sin()) as i16).collect()
    }

    #[test]
    fn a_tone_survives_both_ways() {
        let mut encoder = OpusEncoder::new(Rate::Narrow, OpusSettings::default()).unwrap();
        let mut decoder = OpusDecoder::new(Rate::Narrow).unwrap();
        let (mut packet, mut pcm, mut heard) = ([0; 400], [0; 960], Vec::new());
        for frame in 0..50 {
            let n = encoder.encode(&sine(440.0, 8_000.0, 8_000.0, frame * 160, 160), &mut packet).unwrap();
            assert_eq!(packet_duration(&packet[..n], 48_000), Ok(960));
            let got = decoder.decode(&packet[..n], &mut pcm).unwrap();
            assert_eq!(got, 160);
            heard.extend_from_slice(&pcm[..got]);
        }
        let tail = &heard[4_000..];
        let level = amplitude(tail, 8_000, 440.0);
        assert!((6_000.0..10_000.0).contains(&level), "{level}");
        assert!(amplitude(tail, 8_000, 1_000.0) < 400.0);
    }

    #[test]
    fn a_full_band_stereo_stream_comes_out_at_8_khz() {
        let mut encoder = opus::Encoder::new(48_000, Channels::Stereo, Application::Audio).unwrap();
        let mut decoder = OpusDecoder::new(Rate::Narrow).unwrap();
        let (mut packet, mut pcm, mut heard) = ([0; 1_500], [0; 960], Vec::new());
        for frame in 0..25 {
            let mono = sine(1_000.0, 48_000.0, 8_000.0, frame * 960, 960);
            let stereo: Vec<i16> = mono.iter().flat_map(|s| [*s, *s]).collect();
            let n = encoder.encode(&stereo, &mut packet).unwrap();
            let got = decoder.decode(&packet[..n], &mut pcm).unwrap();
            assert_eq!(got, 160);
            heard.extend_from_slice(&pcm[..got]);
        }
        let level = amplitude(&heard[1_600..], 8_000, 1_000.0);
        assert!((7_000.0..9_000.0).contains(&level), "{level}");
    }

    #[test]
    fn fec_brings_back_what_concealment_can_only_guess() {
        let settings = OpusSettings { fec: Some(20), ..OpusSettings::default() };
        let mut encoder = OpusEncoder::new(Rate::Narrow, settings).unwrap();
        // A tone that starts inside the lost packet: only redundancy can know of it.
        let mut packets = Vec::new();
        for frame in 0..20 {
            let pcm = if frame < 10 { vec![0; 160] } else { sine(300.0, 8_000.0, 9_000.0, frame * 160, 160) };
            let mut packet = vec![0; 400];
            let n = encoder.encode(&pcm, &mut packet).unwrap();
            packet.truncate(n);
            packets.push(packet);
        }
        let lost = 10;
        let (mut with, mut without) =
            (OpusDecoder::new(Rate::Narrow).unwrap(), OpusDecoder::new(Rate::Narrow).unwrap());
        let mut pcm = [0; 960];
        for packet in &packets[..lost] {
            with.decode(packet, &mut pcm).unwrap();
            without.decode(packet, &mut pcm).unwrap();
        }
        let (mut recovered, mut guessed) = ([0; 160], [0; 160]);
        assert_eq!(with.decode_fec(&packets[lost + 1], &mut recovered), Ok(160));
        assert_eq!(without.conceal(&mut guessed), Ok(160));
        assert!(rms(&recovered) > 2_000.0 && rms(&guessed) < 200.0, "{} {}", rms(&recovered), rms(&guessed));
    }

    fn packet_of(encode: &mut dyn FnMut(&[i16], &mut [u8]) -> usize, pcm: &[i16]) -> Vec<u8> {
        let mut packet = vec![0; 400];
        let len = encode(pcm, &mut packet);
        packet.truncate(len);
        packet
    }

    #[test]
    fn silence_that_lasts_is_encoded_once_and_stays_silent() {
        for (rate, level) in [(Rate::Narrow, 0), (Rate::Narrow, 8), (Rate::Narrow, -8), (Rate::Wide, 0)] {
            for (fec, ms) in [(None, 20), (Some(10), 20), (Some(15), 60)] {
                let mut encoder = OpusEncoder::new(rate, OpusSettings { fec, ..OpusSettings::of(rate) }).unwrap();
                let mut decoder = OpusDecoder::new(rate).unwrap();
                let mut encode = |pcm: &[i16], out: &mut [u8]| encoder.encode(pcm, out).unwrap();
                let (len, mut pcm) = (rate.samples(ms), [0; 1_920]);
                for n in 0..10 {
                    let packet = packet_of(&mut encode, &sine(440.0, rate.hz() as f32, 8_000.0, n * len, len));
                    assert_eq!(decoder.decode(&packet, &mut pcm), Ok(len));
                }
                let packets: Vec<_> = (0..50).map(|_| packet_of(&mut encode, &vec![level; len])).collect();
                let (first, later) = packets.split_at(usize::from(SETTLED) - 1);
                assert!(first.windows(2).any(|pair| pair[0] != pair[1]), "{rate:?}, {level}");
                assert!(later.iter().all(|packet| packet == &later[0] && !is_dtx(packet) && !has_redundancy(packet)));
                for (n, packet) in packets.iter().enumerate() {
                    assert_eq!(decoder.decode(packet, &mut pcm), Ok(len));
                    assert!(n < 5 || rms(&pcm[..len]) < 3.0, "{rate:?}, {level}: {} at {n}", rms(&pcm[..len]));
                }
                // The least of sound is encoded, and silence of another level or length is another silence.
                let faint: Vec<i16> = (0..len as i16).map(|n| n % 2 * 8).collect();
                assert_ne!(packet_of(&mut encode, &faint), packet_of(&mut encode, &faint));
                assert_ne!(packet_of(&mut encode, &vec![level; len]), later[0]);
                let other = rate.samples(if ms == 20 { 10 } else { 20 });
                assert_ne!(packet_of(&mut encode, &vec![level; other]).first(), later[0].first());
            }
        }
        let mut encoder = OpusEncoder::new(Rate::Narrow, OpusSettings::default()).unwrap();
        (0..20).for_each(|_| assert!(encoder.encode(&[0; 160], &mut [0; 400]).is_ok()));
        assert_eq!(encoder.encode(&[0; 160], &mut [0; 1]), Err(CodecError::BufferSize));
    }

    #[test]
    fn sound_after_a_long_silence_is_as_if_that_had_been_encoded() {
        let mut frames: Vec<Vec<i16>> = (0..10).map(|n| sine(440.0, 8_000.0, 8_000.0, n * 160, 160)).collect();
        frames.extend((0..150).map(|_| vec![0; 160]));
        frames.extend((160..190).map(|n| sine(300.0, 8_000.0, 8_000.0, n * 160, 160)));
        let new = || OpusEncoder::new(Rate::Narrow, OpusSettings { fec: Some(10), ..OpusSettings::default() }).unwrap();
        let (mut ours, mut plain) = (new(), new());
        let heard = |encode: &mut dyn FnMut(&[i16], &mut [u8]) -> usize| {
            let (mut decoder, mut pcm, mut heard) = (OpusDecoder::new(Rate::Narrow).unwrap(), [0; 160], Vec::new());
            for frame in &frames {
                decoder.decode(&packet_of(encode, frame), &mut pcm).unwrap();
                heard.extend_from_slice(&pcm);
            }
            heard.split_off(158 * 160)
        };
        let with = heard(&mut |pcm, out| ours.encode(pcm, out).unwrap());
        let without = heard(&mut |pcm, out| plain.inner.encode(pcm, out).unwrap());
        for (n, (with, without)) in with.chunks(80).zip(without.chunks(80)).enumerate() {
            let (with, without) = (rms(with), rms(without));
            assert!((with - without).abs() <= 3.0 + 0.1 * without, "{with} for {without}, 10 ms after 10 ms: {n}");
        }
        let steepest = |pcm: &[i16]| pcm.windows(2).map(|pair| pair[0].abs_diff(pair[1])).max().unwrap();
        assert!(steepest(&with) <= steepest(&without) / 10 * 11, "{} for {}", steepest(&with), steepest(&without));
    }

    #[test]
    fn durations_follow_the_table_of_contents() {
        let ms = |packet: &[u8]| packet_duration(packet, 48_000).map(|n| n / 48);
        assert_eq!(ms(&[0 << 3]), Ok(10));
        assert_eq!(ms(&[3 << 3]), Ok(60));
        assert_eq!(ms(&[13 << 3]), Ok(20));
        assert_eq!(packet_duration(&[16 << 3], 48_000), Ok(120));
        assert_eq!(packet_duration(&[16 << 3], 8_000), Ok(20));
        assert_eq!(ms(&[(1 << 3) | 1]), Ok(40));
        assert_eq!(ms(&[(1 << 3) | 3, 3]), Ok(60));
        for malformed in [&[][..], &[3], &[(1 << 3) | 3, 0], &[(3 << 3) | 3, 48]] {
            assert_eq!(packet_duration(malformed, 48_000), Err(CodecError::Malformed));
        }
    }

    #[test]
    fn redundancy_is_seen_in_the_packet() {
        let pcm = |frame: usize, len: usize| sine(300.0, 8_000.0, 9_000.0, frame * len, len);
        for ms in [20, 40, 60] {
            for fec in [None, Some(20)] {
                let settings = OpusSettings { fec, ..OpusSettings::default() };
                let mut encoder = OpusEncoder::new(Rate::Narrow, settings).unwrap();
                let mut packet = [0; 700];
                let with = (0..20).filter(|frame| {
                    let len = encoder.encode(&pcm(*frame, ms * 8), &mut packet).unwrap();
                    has_redundancy(&packet[..len])
                });
                let count = with.count();
                assert!(if fec.is_some() { count >= 8 } else { count == 0 }, "{ms} ms, {fec:?}: {count}");
            }
        }
        // Stereo: the second channel's flag follows the first one's. CELT has none; neither has what is cut short.
        assert!(has_redundancy(&[(9 << 3) | 4, 0b0001_0000]) && !has_redundancy(&[9 << 3, 0b0001_0000]));
        assert!(has_redundancy(&[(9 << 3) | 2, 1, 0b0100_0000, 0]) && !has_redundancy(&[(9 << 3) | 2, 0, 0x40]));
        assert!(has_redundancy(&[(9 << 3) | 3, 0b1100_0010, 2, 1, 0b0100_0000, 0, 0, 0]));
        assert!(!has_redundancy(&[31 << 3, 0xff]) && !has_redundancy(&[9 << 3]) && !has_redundancy(&[]));
    }

    #[test]
    fn rubbish_is_an_error_or_noise_but_never_a_panic() {
        let mut decoder = OpusDecoder::new(Rate::Narrow).unwrap();
        let mut pcm = [0; 960];
        assert_eq!(decoder.decode(&[], &mut pcm), Err(CodecError::Malformed));
        let mut state = 1_u32;
        for len in 1..400 {
            let bytes: Vec<u8> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            let _ = decoder.decode(&bytes, &mut pcm);
            let _ = decoder.decode_fec(&bytes, &mut pcm[..160]);
            let _ = packet_duration(&bytes, 48_000);
            let _ = has_redundancy(&bytes);
        }
    }
}
