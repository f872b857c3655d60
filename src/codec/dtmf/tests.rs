#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::codec::g711::Law;
use crate::codec::tone::{Note, TonePlayer};

const DIGITS: &str = "0123456789*#ABCD";

/// A pair of tones as a test signal: frequencies in Hz, levels in dBm0.
#[derive(Clone, Copy)]
struct Pair {
    low: (f32, f32),
    high: (f32, f32),
}

impl Pair {
    fn of(digit: char) -> Self {
        let key = KEYS.iter().position(|key| char::from(*key) == digit).unwrap();
        Self { low: (LOW[key / 4], -10.0), high: (HIGH[key % 4], -10.0) }
    }

    /// Both frequencies off by a share and some Hz.
    fn off(self, share: f32, hz: f32) -> Self {
        let shift = |f: f32| f + f * share + hz * share.signum();
        Self { low: (shift(self.low.0), self.low.1), high: (shift(self.high.0), self.high.1) }
    }

    fn levels(self, low: f32, high: f32) -> Self {
        Self { low: (self.low.0, low), high: (self.high.0, high) }
    }

    /// With an edge as hard as it comes: the worst case for the length.
    fn sound(self, rate: u32, ms: u32) -> Vec<i16> {
        let sine = |(hz, dbm0): (f32, f32), n: u32| {
            amplitude(dbm0) * (TAU * (f64::from(hz) * f64::from(n) / f64::from(rate)).fract() as f32).sin()
        };
        (0..rate * ms / 1_000).map(|n| (sine(self.low, n) + sine(self.high, n)) as i16).collect()
    }
}

fn silence(rate: u32, ms: u32) -> Vec<i16> {
    vec![0; (rate * ms / 1_000) as usize]
}

/// White noise with a root mean square of `level` dBm0.
fn noise(len: usize, dbm0: f32, seed: u32) -> Vec<i16> {
    let (peak, mut state) = (amplitude(dbm0) / 2.0_f32.sqrt() * 3.0_f32.sqrt(), seed | 1);
    let mut sample = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * peak
    };
    (0..len).map(|_| sample() as i16).collect()
}

fn listen(pcm: &[i16], rate: u32) -> Vec<DtmfUpdate> {
    let mut detector = DtmfDetector::new(rate);
    let mut updates = Vec::new();
    for frame in pcm.chunks((rate / 50) as usize) {
        detector.handle(frame, |update| updates.push(update));
    }
    for _ in 0..4 {
        detector.handle(&silence(rate, 20), |update| updates.push(update));
    }
    assert!(!detector.active());
    updates
}

fn digits(pcm: &[i16], rate: u32) -> Vec<(char, u16)> {
    let updates = listen(pcm, rate);
    let starts = updates.iter().filter(|update| matches!(update, DtmfUpdate::Started { .. })).count();
    let ended = updates.iter().filter_map(|update| match update {
        DtmfUpdate::Ended { digit, ms } => Some((*digit, *ms)),
        DtmfUpdate::Started { .. } => None,
    });
    let ended: Vec<_> = ended.collect();
    assert_eq!(starts, ended.len());
    ended
}

fn text(pcm: &[i16], rate: u32) -> String {
    digits(pcm, rate).iter().map(|(digit, _)| *digit).collect()
}

/// `sound` between silence of any length.
fn placed(before: usize, sound: &[i16], rate: u32) -> Vec<i16> {
    [&vec![0; before][..], sound, &silence(rate, 60)].concat()
}

#[test]
fn each_digit_is_recognised_once_at_both_rates_with_its_length() {
    for rate in [8_000, 16_000] {
        for digit in DIGITS.chars() {
            for ms in [40, 65, 100, 2_000] {
                let found = digits(&placed(33, &Pair::of(digit).sound(rate, ms), rate), rate);
                let [(got, length)] = found[..] else { panic!("{digit} {ms} ms at {rate}: {found:?}") };
                assert_eq!(got, digit);
                assert!((i64::from(length) - i64::from(ms)).abs() <= 10, "{digit}: {ms} ms, measured {length}");
            }
        }
    }
}

#[test]
fn forty_milliseconds_are_a_digit_wherever_they_lie_and_twenty_three_never_q24() {
    for rate in [8_000, 16_000] {
        for digit in ['1', 'D', '0', '6'] {
            let (long, short) = (Pair::of(digit).sound(rate, 40), Pair::of(digit).sound(rate, 23));
            for before in (0..rate as usize / 50).step_by(3) {
                assert_eq!(text(&placed(before, &long, rate), rate), digit.to_string(), "{digit} at {before}");
                assert_eq!(text(&placed(before, &short, rate), rate), "", "{digit} at {before}");
            }
        }
    }
}

#[test]
fn forty_milliseconds_of_pause_part_two_digits_and_ten_do_not_q24() {
    let rate = 8_000;
    for before in (0..160).step_by(7) {
        for (pause, expected) in [(40, "55"), (10, "5"), (5, "5")] {
            let tone = Pair::of('5').sound(rate, 50);
            let sound = [&tone[..], &silence(rate, pause), &tone].concat();
            assert_eq!(text(&placed(before, &sound, rate), rate), expected, "{pause} ms at {before}");
        }
    }
}

#[test]
fn two_digits_without_a_gap_are_two() {
    for before in (0..160).step_by(7) {
        let sound = [Pair::of('1').sound(8_000, 60), Pair::of('2').sound(8_000, 60), Pair::of('6').sound(8_000, 60)];
        assert_eq!(text(&placed(before, &sound.concat(), 8_000), 8_000), "126", "at {before}");
    }
}

#[test]
fn levels_and_twist_q24() {
    for (low, high, expected) in [
        (-3.0, -3.0, true),
        (-27.0, -27.0, true),
        (-34.0, -34.0, false),
        (-50.0, -50.0, false),
        // The high tone 4 dB stronger, or 8 dB weaker.
        (-14.0, -10.0, true),
        (-10.0, -18.0, true),
        (-20.0, -11.0, false),
        (-5.0, -18.0, false),
        (-10.0, -99.0, false),
        (-99.0, -10.0, false),
    ] {
        for digit in DIGITS.chars() {
            let found = text(&placed(50, &Pair::of(digit).levels(low, high).sound(8_000, 50), 8_000), 8_000);
            assert_eq!(!found.is_empty(), expected, "{digit} at {low} and {high} dBm0: {found:?}");
        }
    }
}

#[test]
fn frequencies_within_one_and_a_half_percent_are_taken_and_three_and_a_half_off_are_not_q24() {
    for digit in DIGITS.chars() {
        for sign in [1.0, -1.0] {
            let near = Pair::of(digit).off(0.015 * sign, 2.0);
            let far = Pair::of(digit).off(0.035 * sign, 0.0);
            for before in [0, 40, 77] {
                let sound = placed(before, &near.sound(8_000, 45), 8_000);
                assert_eq!(text(&sound, 8_000), digit.to_string(), "{digit}, sign {sign}, at {before}");
                let sound = placed(before, &far.sound(8_000, 100), 8_000);
                assert_eq!(text(&sound, 8_000), "", "{digit}, sign {sign}, at {before}");
            }
        }
    }
}

#[test]
fn noise_fifteen_decibels_below_does_no_harm() {
    for seed in 0..20 {
        let mut sound = Vec::new();
        for digit in DIGITS.chars() {
            sound.extend(Pair::of(digit).sound(8_000, 50));
            sound.extend(silence(8_000, 50));
        }
        let noise = noise(sound.len(), -22.0, seed);
        let sound: Vec<i16> = sound.iter().zip(noise).map(|(a, b)| a.saturating_add(b)).collect();
        assert_eq!(text(&sound, 8_000), DIGITS, "seed {seed}");
    }
}

#[test]
fn what_is_no_pair_is_no_digit() {
    assert_eq!(text(&noise(80_000, -10.0, 3), 8_000), "");
    for notes in [
        [Note::dual(440.0, 480.0, 1_000), Note::dual(350.0, 440.0, 1_000)],
        [Note::dual(480.0, 620.0, 1_000), Note::single(425.0, 1_000)],
        // One group alone, two of a group, and digits with a third tone as loud.
        [Note::dual(697.0, 852.0, 1_000), Note::dual(1_209.0, 1_477.0, 1_000)],
        [Note::single(941.0, 1_000), Note::single(1_336.0, 1_000)],
    ] {
        let mut pcm = vec![0; 16_000];
        TonePlayer::once(&notes, 8_000).fill(&mut pcm);
        assert_eq!(text(&pcm, 8_000), "", "{notes:?}");
    }
    let third = Pair { low: (1_000.0, -9.0), high: (1_000.0, -99.0) }.sound(8_000, 100);
    let pair = Pair::of('8').sound(8_000, 100);
    let three: Vec<i16> = pair.iter().zip(third).map(|(a, b)| a.saturating_add(b)).collect();
    assert_eq!(text(&three, 8_000), "");
}

#[test]
fn our_own_tones_are_recognised_at_their_levels_and_through_both_laws() {
    for rate in [8_000, 16_000] {
        for digit in DIGITS.chars() {
            let mut tone = DtmfTone::new(digit, rate).unwrap();
            let mut pcm = silence(rate, 80);
            let (first, last) = pcm.split_at_mut((rate / 50) as usize);
            tone.fill(first, false);
            tone.fill(last, true);
            let level = |hz: f32| 20.0 * (crate::codec::tone::amplitude(&pcm, rate, hz) / amplitude(0.0)).log10();
            let pair = Pair::of(digit);
            assert!((level(pair.low.0) + 10.0).abs() < 0.5, "{digit}: {}", level(pair.low.0));
            assert!((level(pair.high.0) + 8.0).abs() < 0.5, "{digit}: {}", level(pair.high.0));
            assert!(pcm[0].abs() < 1_500 && pcm.last().unwrap().abs() < 1_500, "its edges are soft");
            for law in [Law::Mu, Law::A] {
                let heard: Vec<i16> = pcm.iter().map(|s| law.decode_sample(law.encode_sample(*s))).collect();
                assert_eq!(text(&placed(11, &heard, rate), rate), digit.to_string());
            }
        }
    }
    assert!(DtmfTone::new('x', 8_000).is_none() && DtmfTone::new('d', 8_000).is_some());
}

#[test]
fn sound_that_was_invented_neither_ends_nor_makes_a_digit() {
    let tone = Pair::of('9').sound(8_000, 120);
    let mut detector = DtmfDetector::new(8_000);
    let mut updates = Vec::new();
    for (n, frame) in tone.chunks(160).enumerate() {
        // Two frames of six are lost, one of them amid the start.
        match n {
            1 | 4 => detector.skip(20),
            _ => detector.handle(frame, |update| updates.push(update)),
        }
    }
    assert_eq!(updates, [DtmfUpdate::Started { digit: '9' }]);
    detector.skip(200);
    assert!(detector.active());
    detector.handle(&silence(8_000, 80), |update| updates.push(update));
    assert!(matches!(updates[..], [_, DtmfUpdate::Ended { digit: '9', ms: 110..=130 }]), "{updates:?}");
}

#[test]
fn a_reset_ends_what_sounds() {
    let mut detector = DtmfDetector::new(8_000);
    detector.handle(&Pair::of('*').sound(8_000, 100), |_| ());
    assert!(matches!(detector.reset(), Some(DtmfUpdate::Ended { digit: '*', ms: 90..=110 })));
    assert_eq!(detector.reset(), None);
}
