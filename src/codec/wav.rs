//! WAV files of speech or music: 16-bit PCM, one channel, 8 or 16 kHz.

use super::SAMPLE_RATE;

/// The longest file that is taken: ten minutes at 16 kHz, and its headers.
pub const LARGEST: usize = 10 * 60 * 16_000 * 2 + 4_096;
/// The shortest sound that is worth repeating: 100 ms.
const SHORTEST: usize = SAMPLE_RATE as usize / 10;
const PCM: u16 = 1;
/// WAVE_FORMAT_EXTENSIBLE, whose real format stands in the extension.
const EXTENSIBLE: u16 = 0xFFFE;

/// Why a file cannot be played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WavError {
    /// Longer than [`LARGEST`].
    #[error("it is longer than ten minutes")]
    TooLong,
    /// No RIFF file of type WAVE, or one that ends in the middle.
    #[error("it is no WAV file")]
    NotWav,
    /// Another sample format, rate or number of channels.
    #[error("it is not 16-bit PCM with one channel at 8 or 16 kHz")]
    Format,
    /// No sound in it, or less than 100 ms.
    #[error("there is less than 100 ms of sound in it")]
    Empty,
}

/// Reads a WAV file as 8 kHz PCM.
///
/// # Errors
/// [`WavError`] for anything but a whole file of 16-bit PCM with one channel at 8 or 16 kHz.
pub fn read(file: &[u8]) -> Result<Vec<i16>, WavError> {
    if file.len() > LARGEST {
        return Err(WavError::TooLong);
    }
    let mut rest = match file.split_at_checked(12) {
        Some(([b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E'], rest)) => rest,
        _ => return Err(WavError::NotWav),
    };
    let mut rate = None;
    while let Some((name, size, after)) = chunk_head(rest) {
        let (body, next) = after.split_at_checked(size).ok_or(WavError::NotWav)?;
        match name {
            b"fmt " => rate = Some(format(body)?),
            b"data" => return samples(body, rate.ok_or(WavError::NotWav)?),
            _ => {}
        }
        // Chunks begin at even places.
        rest = next.get(size % 2..).unwrap_or_default();
    }
    Err(WavError::NotWav)
}

fn chunk_head(bytes: &[u8]) -> Option<(&[u8; 4], usize, &[u8])> {
    let (name, rest) = bytes.split_first_chunk::<4>()?;
    let (size, rest) = rest.split_first_chunk::<4>()?;
    Some((name, usize::try_from(u32::from_le_bytes(*size)).ok()?, rest))
}

/// The sample rate of a format that we take.
fn format(body: &[u8]) -> Result<u32, WavError> {
    let word = |at: usize| body.get(at..)?.first_chunk::<2>().map(|bytes| u16::from_le_bytes(*bytes));
    let rate = body.get(4..).and_then(|bytes| bytes.first_chunk::<4>()).map(|bytes| u32::from_le_bytes(*bytes));
    let kind = if word(0) == Some(EXTENSIBLE) { word(24) } else { word(0) };
    match (kind, word(2), rate, word(14)) {
        (Some(PCM), Some(1), Some(rate @ (8_000 | 16_000)), Some(16)) => Ok(rate),
        _ => Err(WavError::Format),
    }
}

fn samples(body: &[u8], rate: u32) -> Result<Vec<i16>, WavError> {
    let pcm: Vec<i16> =
        body.chunks_exact(2).filter_map(|pair| Some(i16::from_le_bytes(*pair.first_chunk()?))).collect();
    let pcm = if rate == SAMPLE_RATE { pcm } else { halved(&pcm) };
    if pcm.len() < SHORTEST { Err(WavError::Empty) } else { Ok(pcm) }
}

/// Half the rate: a half-band low-pass of 15 taps, then every second sample.
fn halved(pcm: &[i16]) -> Vec<i16> {
    /// The odd taps on one side of the middle, which is a half; the even ones are zero. Their sum on both sides is a half.
    const SIDE: [f32; 4] = [0.310_4, -0.084_2, 0.030_1, -0.006_3];
    let at = |index: Option<usize>| index.and_then(|index| pcm.get(index)).copied().map_or(0.0, f32::from);
    let sample = |middle: usize| {
        let sides = SIDE.into_iter().enumerate().map(|(n, tap)| {
            let distance = 2 * n + 1;
            tap * (at(middle.checked_sub(distance)) + at(middle.checked_add(distance)))
        });
        (0.5 * at(Some(middle)) + sides.sum::<f32>()) as i16
    };
    (0..pcm.len()).step_by(2).map(sample).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::codec::tone::amplitude;

    fn wav(kind: u16, channels: u16, rate: u32, bits: u16, pcm: &[i16]) -> Vec<u8> {
        let data: Vec<u8> = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let mut format = Vec::new();
        format.extend(kind.to_le_bytes());
        format.extend(channels.to_le_bytes());
        format.extend(rate.to_le_bytes());
        format.extend((rate * 2).to_le_bytes());
        format.extend(2_u16.to_le_bytes());
        format.extend(bits.to_le_bytes());
        if kind == EXTENSIBLE {
            format.extend([22, 0, 16, 0, 4, 0, 0, 0, 1, 0, 0, 0]);
        }
        let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
        for (name, body) in [(b"LIST", &b"odd"[..]), (b"fmt ", &format), (b"data", &data)] {
            file.extend(name);
            file.extend((body.len() as u32).to_le_bytes());
            file.extend(body);
            file.resize(file.len().next_multiple_of(2), 0);
        }
        file
    }

    fn sine(hz: f32, rate: u32) -> Vec<i16> {
        let wave = |n: u32| (std::f32::consts::TAU * hz * n as f32 / rate as f32).sin();
        (0..rate).map(|n| (8_000.0 * wave(n)) as i16).collect()
    }

    #[test]
    fn both_rates_are_read_and_sound_the_same() {
        let tone = sine(440.0, 8_000);
        assert_eq!(read(&wav(PCM, 1, 8_000, 16, &tone)), Ok(tone));
        for kind in [PCM, EXTENSIBLE] {
            for (hz, least, most) in [(440.0, 7_800.0, 8_200.0), (2_000.0, 7_500.0, 8_500.0)] {
                let pcm = read(&wav(kind, 1, 16_000, 16, &sine(hz, 16_000))).unwrap();
                assert_eq!(pcm.len(), 8_000);
                let level = amplitude(&pcm, 8_000, hz);
                assert!((least..most).contains(&level), "{hz} Hz at {level}");
            }
        }
        // What does not fit into half the rate is not folded into it.
        let pcm = read(&wav(PCM, 1, 16_000, 16, &sine(6_500.0, 16_000))).unwrap();
        assert!(amplitude(&pcm, 8_000, 1_500.0) < 600.0, "{}", amplitude(&pcm, 8_000, 1_500.0));
    }

    #[test]
    fn what_cannot_be_played_says_why() {
        let tone = sine(440.0, 8_000);
        for (file, error) in [
            (wav(PCM, 2, 8_000, 16, &tone), WavError::Format),
            (wav(PCM, 1, 44_100, 16, &tone), WavError::Format),
            (wav(PCM, 1, 8_000, 8, &tone), WavError::Format),
            (wav(7, 1, 8_000, 16, &tone), WavError::Format),
            (wav(PCM, 1, 8_000, 16, &tone[..100]), WavError::Empty),
            (b"RIFF\0\0\0\0WAVE".to_vec(), WavError::NotWav),
            (b"ID3".to_vec(), WavError::NotWav),
            (vec![0; LARGEST + 1], WavError::TooLong),
        ] {
            assert_eq!(read(&file).map(|pcm| pcm.len()), Err(error));
        }
        let whole = wav(PCM, 1, 8_000, 16, &tone);
        for len in 0..whole.len() - 1 {
            assert!(read(&whole[..len]).is_err(), "cut off after {len}");
        }
    }
}
