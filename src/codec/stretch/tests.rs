#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::codec::tone::{amplitude, rms};

/// Plays `pcm` frame by frame through a stretcher that is asked to change each frame by up to `by(frame)` samples.
fn play(rate: Rate, pcm: &[i16], ease: Ease, by: impl Fn(usize) -> isize) -> (Vec<i16>, Stretcher) {
    let (past, frame) = (rate.samples(HISTORY_MS), rate.frame());
    let mut stretcher = Stretcher::new(rate);
    let mut signal = vec![0; past + 2 * frame + rate.samples(LONGEST_STRETCH_MS)];
    let (mut end, mut out) = (past, Vec::new());
    for (n, packet) in pcm.chunks_exact(frame).enumerate() {
        signal[end..end + frame].copy_from_slice(packet);
        end += frame;
        stretcher.hear(packet);
        end = stretcher.stretch(&mut signal, past, end, by(n), ease);
        while end >= past + frame {
            out.extend_from_slice(&signal[past..past + frame]);
            signal.copy_within(frame..end, 0);
            end -= frame;
        }
    }
    (out, stretcher)
}

fn sine(rate: Rate, hz: f32, len: usize) -> Vec<i16> {
    let step = std::f32::consts::TAU * hz / rate.hz() as f32;
    (0..len).map(|n| (8_000.0 * (step * n as f32).sin()) as i16).collect()
}

/// The largest second difference: a click is a bend that the signal itself has not.
fn sharpest(pcm: &[i16]) -> i32 {
    let bend = |w: &[i16]| (i32::from(w[0]) - 2 * i32::from(w[1]) + i32::from(w[2])).abs();
    pcm.windows(3).map(bend).max().unwrap_or(0)
}

fn noise(len: usize, level: i32) -> Vec<i16> {
    let mut state = 1_u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (((state >> 16) as i32 - 32_768) * level / 32_768) as i16
        })
        .collect()
}

#[test]
fn a_tone_keeps_its_frequency_and_its_level_and_does_not_click() {
    for rate in [Rate::Narrow, Rate::Wide] {
        for hz in [100.0, 201.0, 440.0, 1_013.0, 2_500.0] {
            let pcm = sine(rate, hz, rate.hz() as usize * 4);
            for by in [-120, 120] {
                let (out, stretcher) = play(rate, &pcm, Ease::Soon, |_| by * rate.scale() as isize);
                let changed = stretcher.removed() as i64 - stretcher.added() as i64;
                assert_eq!(
                    pcm.len() as i64 - changed,
                    out.len() as i64 + (pcm.len() as i64 - changed - out.len() as i64)
                );
                assert!(
                    changed.signum() == -(by as i64).signum() && changed.unsigned_abs() as usize > pcm.len() / 20,
                    "{changed}"
                );
                let steady = &out[out.len() / 10..];
                // A frequency that is off by 1 Hz would be 3 half turns off after this time.
                let level = rms(steady) * std::f32::consts::SQRT_2;
                assert!((7_700.0..8_300.0).contains(&level), "{hz} Hz by {by}: {level}");
                let crossings = steady.windows(2).filter(|w| w[0] < 0 && w[1] >= 0).count() as f32;
                let heard = crossings * rate.hz() as f32 / steady.len() as f32;
                assert!((heard / hz - 1.0).abs() < 0.005, "{hz} Hz by {by}: {heard}");
                assert!(
                    sharpest(&out) <= sharpest(&pcm) * 5 / 4 + 60,
                    "{hz} Hz: {} {}",
                    sharpest(&out),
                    sharpest(&pcm)
                );
                assert!(amplitude(&steady[..rate.frame() * 4], rate.hz(), hz) > 7_300.0);
            }
        }
    }
}

/// Harmonics whose pitch glides fast, and noise: nothing repeats itself there.
#[test]
fn unstable_sound_is_left_alone_until_it_matters() {
    let len = 8_000 * 4;
    let mut phase = 0.0_f32;
    let glide: Vec<i16> = (0..len)
        .map(|n| {
            phase += std::f32::consts::TAU * (120.0 + 100.0 * (n as f32 / 400.0).sin()) / 8_000.0;
            (1..12).map(|h| 2_500.0 / h as f32 * (phase * h as f32).sin()).sum::<f32>() as i16
        })
        .collect();
    for (name, pcm) in [("glide", glide), ("noise", noise(len, 8_000))] {
        let seconds = |ease| {
            let (_, stretcher) = play(Rate::Narrow, &pcm, ease, |_| -120);
            stretcher.removed() as f32 / 8_000.0
        };
        let (unheard, now) = (seconds(Ease::Unheard), seconds(Ease::Now));
        assert!(unheard < 0.2, "{name}: {unheard} s of 4");
        assert!(now > 0.2, "{name}: {now} s of 4");
    }
}

#[test]
fn quiet_between_words_gives_way_first() {
    // Half a second of a loud tone that swells, half a second of soft noise.
    let pcm: Vec<i16> = noise(8_000 * 6, 150)
        .into_iter()
        .zip(noise(8_000 * 6, 9_000))
        .enumerate()
        .map(|(n, (soft, loud))| if n / 4_000 % 2 == 0 { loud } else { soft })
        .collect();
    let (out, stretcher) = play(Rate::Narrow, &pcm, Ease::Unheard, |_| -160);
    assert!(stretcher.removed() > 2_000, "{}", stretcher.removed());
    let loud = |pcm: &[i16]| pcm.iter().filter(|s| s.unsigned_abs() > 200).count() as f32;
    assert!((loud(&out) / loud(&pcm) - 1.0).abs() < 0.02);
    // The level of the noise is kept over the joints.
    let soft: Vec<i16> = out.iter().copied().filter(|s| s.unsigned_abs() <= 160).collect();
    assert!((rms(&soft) / (150.0 / 3.0_f32.sqrt()) - 1.0).abs() < 0.1, "{}", rms(&soft));
}

#[test]
fn silence_and_nonsense_are_taken() {
    let (out, stretcher) = play(Rate::Narrow, &[0; 16_000], Ease::Unheard, |_| -160);
    assert!(stretcher.removed() > 1_000 && out.iter().all(|s| *s == 0));
    let square: Vec<i16> = (0..16_000).map(|n| if n / 33 % 2 == 0 { i16::MIN } else { i16::MAX }).collect();
    for by in [-1_000, -20, -1, 0, 1, 20, 1_000, isize::MAX, isize::MIN] {
        for ease in [Ease::Unheard, Ease::Soon, Ease::Now] {
            play(Rate::Wide, &square, ease, |_| by);
        }
    }
    let mut stretcher = Stretcher::new(Rate::Narrow);
    assert_eq!(stretcher.stretch(&mut [], 0, 0, 5, Ease::Now), 0);
    assert_eq!(stretcher.stretch(&mut [1; 10], 3, 10, -5, Ease::Now), 10);
}

#[test]
fn no_more_is_changed_than_asked_for() {
    let pcm = sine(Rate::Narrow, 200.0, 16_000);
    for by in [-60, -21, 21, 60] {
        let (_, stretcher) = play(Rate::Narrow, &pcm, Ease::Now, |frame| if frame == 40 { by } else { 0 });
        let changed = stretcher.added() as isize - stretcher.removed() as isize;
        assert!(if by > 0 { changed <= by + 24 } else { (by..=0).contains(&changed) }, "{by}: {changed}");
    }
}
