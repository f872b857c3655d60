//! What the ends say: speech with a mark each second, encoded before the first call.

use std::path::Path;

use anyhow::{Context, ensure};
use opus::{Application, Bandwidth, Bitrate, Channels, Encoder};

use crate::rtp::to_ulaw;

/// Samples of a 20 ms frame at 8 kHz.
pub const FRAME: usize = 160;
/// Samples in a second of what is said.
pub const RATE: usize = 8_000;
/// From mark to mark.
const MARK_EVERY: usize = RATE;
/// The length of a mark, 30 ms, and the quiet around it.
pub const MARK: usize = 240;
const QUIET: usize = 360;
/// Speech is repeated after so many seconds at most.
const LONGEST_S: usize = 60;
const SHORTEST_S: usize = 10;

/// How the speech is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Narrowband Opus at 24 kbit/s, what a browser sends that was asked for it.
    Opus,
    /// Full-band Opus at 32 kbit/s, what a browser sends that was asked for nothing.
    FullBand,
    /// G.711 mu-law.
    Pcmu,
}

impl Coding {
    /// Whether it is Opus.
    pub fn is_opus(self) -> bool {
        self != Coding::Pcmu
    }

    /// By how much the timestamp grows with each packet.
    pub fn step(self) -> u32 {
        if self.is_opus() { 960 } else { 160 }
    }
}

/// Packets of 20 ms, to be sent over and over.
#[derive(Debug)]
pub struct Prepared {
    /// How they are encoded.
    pub coding: Coding,
    /// Their payloads.
    pub payloads: Vec<Vec<u8>>,
    /// Where a mark begins in a packet, in milliseconds from its first sample.
    pub marks: Vec<Option<f64>>,
}

/// The mark: a chirp from 600 to 2600 Hz whose level swells and falls, so that it is found again within a sample.
pub fn mark() -> [f32; MARK] {
    std::array::from_fn(|n| {
        let t = n as f32 / RATE as f32;
        let length = MARK as f32 / RATE as f32;
        let phase = std::f32::consts::TAU * (600.0 * t + 1_000.0 * t * t / length);
        (std::f32::consts::PI * n as f32 / MARK as f32).sin().powi(2) * phase.sin()
    })
}

/// Speech for all: read from a WAV file, or made up.
///
/// # Errors
/// When there is no such file, or it is not 16-bit PCM of one channel at 8 kHz, 10 seconds long.
pub fn speech(file: Option<&Path>) -> anyhow::Result<Vec<i16>> {
    let mut samples = match file {
        Some(path) => read(path).with_context(|| path.display().to_string())?,
        None => made_up(20),
    };
    samples.truncate(samples.len() / MARK_EVERY * MARK_EVERY);
    Ok(samples)
}

fn read(path: &Path) -> anyhow::Result<Vec<i16>> {
    let mut reader = hound::WavReader::open(path)?;
    let spec = reader.spec();
    let fits = (spec.channels, spec.sample_rate, spec.bits_per_sample) == (1, RATE as u32, 16);
    ensure!(fits, "one channel of 16-bit PCM at 8 kHz is wanted");
    let samples: Vec<i16> = reader.samples::<i16>().take(LONGEST_S * RATE).collect::<Result<_, _>>()?;
    ensure!(samples.len() >= SHORTEST_S * RATE, "{SHORTEST_S} seconds of speech are wanted");
    Ok(samples)
}

/// Something with the habits of speech: syllables of harmonics and of noise, words, and pauses for a third of the time.
fn made_up(seconds: usize) -> Vec<i16> {
    const SYLLABLE: usize = RATE / 5;
    let mut noise = 1_u32;
    let mut random = move || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut phase = 0.0_f32;
    let samples = (0..seconds * RATE).map(|n| {
        let (syllable, at) = (n / SYLLABLE, (n % SYLLABLE) as f32 / SYLLABLE as f32);
        let pitch = 110.0 + 14.0 * (syllable * 5 % 6) as f32 - 25.0 * at;
        phase = (phase + pitch / RATE as f32).fract();
        // Nine syllables, and a pause of five.
        if syllable % 14 >= 9 {
            return 0;
        }
        let sound = if at < 0.25 && syllable % 3 != 0 {
            1_200.0 * random()
        } else {
            let formant = 500.0 + 400.0 * (syllable * 7 % 5) as f32;
            let harmonics = (1..24).map(|h| h as f32).filter(|h| h * pitch < 3_400.0);
            let loud = |h: f32| (-((h * pitch - formant) / 350.0).powi(2)).exp() + 0.15 / h;
            3_000.0 * harmonics.map(|h| loud(h) * (std::f32::consts::TAU * h * phase).sin()).sum::<f32>()
        };
        (sound * (std::f32::consts::PI * at).sin().sqrt() + 12.0 * random()) as i16
    });
    samples.collect()
}

/// Puts a mark amid quiet into the middle of each second.
pub fn with_marks(mut samples: Vec<i16>) -> Vec<i16> {
    let mark = mark();
    for second in samples.chunks_exact_mut(MARK_EVERY) {
        let begin = MARK_EVERY / 2;
        if let Some(around) = second.get_mut(begin - QUIET..begin + MARK + QUIET) {
            around.fill(0);
        }
        for (sample, level) in second.iter_mut().skip(begin).zip(mark) {
            *sample = (12_000.0 * level) as i16;
        }
    }
    samples
}

/// Encodes `samples`, of whole seconds; `marked`: there is a mark in each.
///
/// # Errors
/// What libopus says.
pub fn prepare(samples: &[i16], coding: Coding, marked: bool) -> anyhow::Result<Prepared> {
    let frames = samples.chunks_exact(FRAME);
    let starts = frames.clone().enumerate().map(|(n, _)| {
        let into = (MARK_EVERY / 2 + MARK_EVERY - n * FRAME % MARK_EVERY) % MARK_EVERY;
        (marked && into < FRAME).then(|| into as f64 * 1_000.0 / RATE as f64)
    });
    let marks = starts.collect();
    let payloads = match coding {
        Coding::Pcmu => frames.map(|frame| frame.iter().map(|&sample| to_ulaw(sample)).collect()).collect(),
        Coding::Opus => {
            let mut encoder = Encoder::new(RATE as u32, Channels::Mono, Application::Voip)?;
            encoder.set_bitrate(Bitrate::Bits(24_000))?;
            encoder.set_inband_fec(true)?;
            frames.map(|frame| encoder.encode_vec(frame, 1_000)).collect::<Result<_, _>>()?
        }
        Coding::FullBand => {
            let mut encoder = Encoder::new(48_000, Channels::Mono, Application::Voip)?;
            encoder.set_bitrate(Bitrate::Bits(32_000))?;
            encoder.set_bandwidth(Bandwidth::Fullband)?;
            encoder.set_inband_fec(true)?;
            frames.map(|frame| encoder.encode_vec(&sixfold(frame), 1_000)).collect::<Result<_, _>>()?
        }
    };
    Ok(Prepared { coding, payloads, marks })
}

/// From 8 to 48 kHz, by straight lines: what they add above 4 kHz is what gives a full-band encoder work.
fn sixfold(frame: &[i16]) -> Vec<i16> {
    let next = frame.iter().skip(1).chain(frame.last());
    let between = |(&a, &b): (&i16, &i16)| {
        let (a, b) = (i32::from(a), i32::from(b));
        (0..6).map(move |n| (a + (b - a) * n / 6) as i16)
    };
    frame.iter().zip(next).flat_map(between).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_one_mark_and_its_packet_is_known() {
        let samples = with_marks(speech(None).unwrap());
        for coding in [Coding::Pcmu, Coding::Opus, Coding::FullBand] {
            let prepared = prepare(&samples, coding, true).unwrap();
            assert_eq!(prepared.payloads.len(), samples.len() / FRAME);
            assert!(prepared.payloads.iter().all(|payload| !payload.is_empty()));
            let marked: Vec<usize> = (0..prepared.marks.len()).filter(|&n| prepared.marks[n].is_some()).collect();
            assert_eq!(marked, (0..samples.len() / RATE).map(|second| second * 50 + 25).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_not_such_speech_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wide.wav");
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        (0..200_000).for_each(|_| writer.write_sample(1_i16).unwrap());
        writer.finalize().unwrap();
        assert!(speech(Some(&path)).unwrap_err().to_string().contains("wide.wav"));
    }
}
