//! What a few calls sounded like, for PESQ: the sound as files, and what was said in them, as tests/quality/score.py reads it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use crate::heard::Heard;
use crate::media::Both;
use crate::sound::{FRAME, RATE};

/// Those of the calls whose number is a multiple of this, up to so many.
const EVERY: usize = 5;
const CALLS: usize = 4;
/// The length of a clip.
const CLIP_S: usize = 8;
/// A receiver may hold sound back for so long: what comes later than the clip's end is kept, too.
const LATE_MS: usize = 400;

/// The place in which call number `call` stands among those that are recorded.
pub fn place(call: usize) -> Option<usize> {
    (call.is_multiple_of(EVERY) && call / EVERY < CALLS).then_some(call / EVERY)
}

/// The clips that speech of `packets` packets has: both ends of a recorded call say different ones.
#[derive(Debug, Clone, Copy)]
pub struct Clips(usize);

impl Clips {
    /// How many whole ones there are.
    pub fn of(packets: usize) -> Clips {
        Clips((packets / Clips::packets()).max(1))
    }

    const fn packets() -> usize {
        CLIP_S * RATE / FRAME
    }

    /// That of the browser and that of the phone, in the recorded call at `place`.
    pub fn said(self, place: usize) -> (usize, usize) {
        (place % self.0, (place + CALLS - 1) % self.0)
    }

    /// The packet with which a clip begins.
    pub fn first_packet(clip: usize) -> usize {
        clip * Clips::packets()
    }
}

/// Keeps the sound of those calls of `heard` that are recorded, as rows `N-up` and `N-down`, and tells what the files are.
///
/// # Errors
/// When a file cannot be written.
pub fn keep(folder: &Path, calls: usize, clips: Clips, heard: &[Both]) -> anyhow::Result<Vec<Value>> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut entries = Vec::new();
    for both in heard {
        let Some(place) = place(both.call) else { continue };
        let (of_page, of_phone) = clips.said(place);
        let ways = [("up", of_page, &both.page, &both.phone), ("down", of_phone, &both.phone, &both.page)];
        for (way, clip, speaks, hears) in ways {
            let Some(since) = speaks.clip_said else { continue };
            let file = PathBuf::from(format!("{calls}-{way}-{place}.wav"));
            let played = hears.played(since, CLIP_S * RATE + LATE_MS * RATE / 1_000);
            write(&folder.join(&file), &played)?;
            entries.push(entry(&format!("{calls}-{way}"), &file, clip, hears));
        }
    }
    Ok(entries)
}

fn entry(row: &str, file: &Path, clip: usize, hears: &Heard) -> Value {
    let (came, lost) = hears.packets();
    json!({
        "row": row, "file": file, "clips": [clip], "starts_ms": [0], "clip_ms": CLIP_S * 1_000, "path_ms": 0,
        "packets": came + lost, "lost": lost,
    })
}

/// Reads such a file.
///
/// # Errors
/// When there is none.
pub fn read(path: &Path) -> anyhow::Result<Vec<i16>> {
    let mut file = hound::WavReader::open(path).with_context(|| path.display().to_string())?;
    Ok(file.samples::<i16>().collect::<Result<_, _>>()?)
}

/// Writes sound of 8 kHz as a WAV file.
///
/// # Errors
/// What the system says.
pub fn write(path: &Path, sound: &[i16]) -> anyhow::Result<()> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE as u32,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec).with_context(|| path.display().to_string())?;
    sound.iter().try_for_each(|&sample| file.write_sample(sample))?;
    Ok(file.finalize()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_of_twenty_calls_are_recorded_and_both_ends_say_different_clips() {
        let recorded: Vec<usize> = (0..100).filter(|&call| place(call).is_some()).collect();
        assert_eq!(recorded, [0, 5, 10, 15]);
        let clips = Clips::of(2_999);
        for (page, phone) in (0..CALLS).map(|place| clips.said(place)) {
            assert!(page != phone && page.max(phone) < 7);
        }
        assert_eq!((Clips::of(700).said(3), Clips::first_packet(2)), ((0, 0), 800));
    }
}
