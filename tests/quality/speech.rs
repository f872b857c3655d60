//! What is said in a call: clips of real speech, one after another.

use std::path::Path;
use std::sync::Arc;

/// Each call begins with this much speech that is not judged, so that buffers and redundancy have found their level.
const WARM_UP_MS: usize = 4_000;
/// The silence after each clip, and at the end.
pub const PAUSE_MS: usize = 500;

/// The same sound at the rates that the ends of a call speak with.
pub struct Script {
    pub narrow: Arc<[i16]>,
    pub full: Arc<[i16]>,
    /// Where each clip begins.
    pub starts_ms: Vec<usize>,
    pub clip_ms: usize,
}

impl Script {
    /// The first `clips` clips of a folder made by `speech.py`.
    ///
    /// They are said `rounds` times over, and only the last time counts.
    pub fn read(folder: &Path, clips: usize, rounds: usize) -> Script {
        let clips_at = |rate: usize| -> Vec<Vec<i16>> {
            (0..clips).map(|clip| raw(&folder.join(format!("clip-{clip:02}.{rate}.raw")))).collect()
        };
        let (narrow, full) = (clips_at(8_000), clips_at(48_000));
        let clip_ms = narrow[0].len() / 8;
        let first = (rounds - 1) * clips;
        let starts_ms = (first..first + clips).map(|clip| WARM_UP_MS + clip * (clip_ms + PAUSE_MS)).collect();
        let [narrow, full] = [joined(&narrow, 8, rounds), joined(&full, 48, rounds)].map(Into::into);
        Script { narrow, full, starts_ms, clip_ms }
    }

    pub fn ms(&self) -> usize {
        self.narrow.len() / 8
    }
}

fn joined(clips: &[Vec<i16>], per_ms: usize, rounds: usize) -> Vec<i16> {
    let last = clips.last().expect("a clip");
    let mut samples = last[last.len() - WARM_UP_MS * per_ms..].to_vec();
    for clip in (0..rounds).flat_map(|_| clips) {
        samples.extend(clip);
        samples.resize(samples.len() + PAUSE_MS * per_ms, 0);
    }
    samples
}

fn raw(path: &Path) -> Vec<i16> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// Writes 8 kHz PCM as a WAV file.
pub fn write_wav(path: &Path, samples: &[i16]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec).expect("a WAV file");
    samples.iter().for_each(|&sample| file.write_sample(sample).expect("room on the disk"));
    file.finalize().expect("a WAV file");
}
