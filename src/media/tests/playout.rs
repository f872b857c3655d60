//! What playout does to sound over a whole bridge: drift, jitter, stalls, and any input at all.

use super::*;

/// Something like speech: syllables of harmonics whose pitch glides, with pauses of soft noise between them.
fn speech(len: usize) -> Vec<i16> {
    let (mut phase, mut state) = (0.0_f32, 7_u32);
    (0..len)
        .map(|n| {
            let t = n as f32 / 8_000.0;
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = ((state >> 16) as f32 - 32_768.0) / 32_768.0;
            let pitch = 120.0 + 30.0 * (t * 1.7).sin() + 12.0 * (t * 9.1).sin();
            phase = (phase + pitch / 8_000.0).fract();
            let syllable = (t * 3.7).sin().max(0.0) * (0.6 + 0.4 * (t * 0.9).sin());
            let spoken = if (t * 0.31).fract() < 0.7 { syllable } else { 0.0 };
            let colour = 1.0 + 0.6 * (t * 2.3).sin();
            let voiced: f32 =
                (1..9).map(|h| (std::f32::consts::TAU * phase * h as f32).sin() / (h as f32).powf(colour)).sum();
            (voiced * spoken * 5_000.0 + noise * 60.0) as i16
        })
        .collect()
}

/// The trunk says `pcm` in packets of 20 ms; packet `n` is sent when it is whole, by a clock that is off by `ppm`, and takes
/// `way(n)` milliseconds, or is lost. Returns what the browser's side, which has PCMU too, is sent.
fn trunk_speaks(lab: &mut Lab, pcm: &[i16], ppm: i64, mut way: impl FnMut(u64) -> Option<u64>) -> Vec<i16> {
    let mut arrivals: Vec<(u64, u64)> = (0..pcm.len() as u64 / 160)
        .filter_map(|n| way(n).map(|way| ((n * 20_000).saturating_add_signed(n as i64 * ppm / 50) / 1_000 + way, n)))
        .collect();
    arrivals.sort_unstable();
    for (at, n) in arrivals {
        lab.run_to(at);
        let start = n as usize * 160;
        let payload = companded(Law::Mu, &pcm[start..start + 160]);
        lab.trunk_says(0, 60_000_u16.wrapping_add(n as u16), 4_294_000_000_u32.wrapping_add(n as u32 * 160), &payload);
    }
    lab.run_to(pcm.len() as u64 / 8 + 500);
    hear(&lab.to_browser, Codec::Pcmu)
}

/// How alike `heard[at..]` is to what was said around there, and how much later it is (in samples), looked for near `late`.
fn likeness(said: &[i16], heard: &[i16], at: usize, late: i64, around: i64) -> Option<(f32, i64)> {
    let heard = heard.get(at..at + 1_200)?;
    let energy = |pcm: &[i16]| pcm.iter().step_by(2).map(|s| f32::from(*s) * f32::from(*s)).sum::<f32>();
    let both =
        |said: &[i16]| -> f32 { said.iter().zip(heard).step_by(2).map(|(a, b)| f32::from(*a) * f32::from(*b)).sum() };
    let own = energy(heard);
    let candidates = (late - around..=late + around).filter_map(|late| {
        let start = usize::try_from(at as i64 - late).ok()?;
        let said = said.get(start..start + 1_200)?;
        Some((both(said) / (own * energy(said)).sqrt().max(1.0), late))
    });
    candidates.max_by(|a, b| a.0.total_cmp(&b.0))
}

/// Ten minutes of clocks that are off by 200 millionths: nothing is lost, nothing invented, what is said is heard, and the
/// delay stays where it is.
#[test]
fn ten_minutes_of_drift_are_not_heard() {
    const SECONDS: usize = 600;
    let said = speech(SECONDS * 8_000);
    for ppm in [-200, 200] {
        let mut lab = Lab::new(plan(Codec::Pcmu, Codec::Pcmu));
        let heard = trunk_speaks(&mut lab, &said, ppm, |_| Some(0));
        assert_exact_time_line(&lab.to_browser, 8);
        let stats = lab.bridge.stats().b;
        assert!(stats.concealed_ms <= 300, "{ppm} ppm: {} ms, of them the end", stats.concealed_ms);
        let (mut alike, mut unlike, mut late) = (0, 0, 160);
        for at in (8_000..heard.len().saturating_sub(16_000)).step_by(6_400) {
            // What the sender's clock is ahead or behind is no delay.
            let drift = -(at as i64) * ppm / 1_000_000;
            if rms(&heard[at..at + 1_200]) < 500.0 {
                continue;
            }
            let (like, found) = likeness(&said, &heard, at, late - drift, 200).unwrap();
            late = found + drift;
            // (Samples that were skipped to fall in step at the start are not among those heard.)
            assert!((-160..=60 * 8).contains(&late), "{ppm} ppm at {at}: {late} samples late");
            if like > 0.9 { alike += 1 } else { unlike += 1 }
        }
        assert!(alike > 200 && unlike * 50 < alike, "{ppm} ppm: {alike} alike, {unlike} not");
    }
}

#[test]
fn jitter_costs_delay_and_no_sound() {
    let said = speech(30 * 8_000);
    let mut lab = Lab::new(plan(Codec::Pcmu, Codec::Pcmu));
    let heard = trunk_speaks(&mut lab, &said, 0, |n| Some(n * 7_919 % 31));
    assert_exact_time_line(&lab.to_browser, 8);
    assert!(lab.bridge.stats().b.concealed_ms <= 360, "{:?}", lab.bridge.stats().b);
    let (like, late) = likeness(&said, &heard, 161_000, 300, 400).unwrap();
    assert!(like > 0.9 && late < 80 * 8, "{like} at {late}");
}

/// The network stands still for 150 ms once: what was said then is heard, later, and the delay is taken back.
#[test]
fn a_stall_is_caught_up_with() {
    let said = speech(20 * 8_000);
    let mut lab = Lab::new(plan(Codec::Pcmu, Codec::Pcmu));
    let stall = |n: u64| Some(if (350..358).contains(&n) { 7_165 - n * 20 } else { 5 });
    let heard = trunk_speaks(&mut lab, &said, 0, stall);
    let (_, right_after) = likeness(&said, &heard, 58_000, 1_000, 800).unwrap();
    let (like, later) = likeness(&said, &heard, 137_600, 300, 300).unwrap();
    assert!(right_after > 100 * 8, "{right_after}");
    assert!(like > 0.9 && later < 60 * 8, "{like} at {later}");
    assert!(lab.bridge.stats().b.concealed_ms < 520, "{:?}", lab.bridge.stats().b);
}

/// Without loss or jitter playout adds a few milliseconds; the bars are 25 ms for half of the time and 45 ms for 99 %.
#[test]
fn the_delay_without_loss_is_within_the_bars() {
    let said = speech(40 * 8_000);
    let mut lab = Lab::new(plan(Codec::Pcmu, Codec::Pcmu));
    let heard = trunk_speaks(&mut lab, &said, 0, |n| Some(n % 2));
    let mut lates: Vec<i64> = (8_000..300_000)
        .step_by(4_000)
        .filter(|at| rms(&heard[*at..at + 1_200]) > 500.0)
        .map(|at| likeness(&said, &heard, at, 200, 300).unwrap().1)
        .collect();
    lates.sort_unstable();
    let (half, most) = (lates[lates.len() / 2], lates[lates.len() * 99 / 100]);
    assert!(half <= 25 * 8 && most <= 45 * 8, "{half} and {most} samples");
}

/// A source that stops without a word leads into the background that was heard between its words, not into a dead line; one
/// that had none leads into silence.
#[test]
fn a_source_that_stops_leaves_its_background() {
    for (background, heard_after) in [(60, 20.0..70.0), (0, 0.0..0.5)] {
        let mut lab = Lab::new(plan(Codec::Pcmu, Codec::Pcmu));
        let mut random = 1_u32;
        for n in 0..150_usize {
            lab.run_to(n as u64 * 20);
            let mut pcm = if n % 50 < 30 { vec![0; 160] } else { sine(300.0, n * 160, 160) };
            for sample in &mut pcm {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *sample += ((random >> 16) as i32 % (2 * background + 1) - background) as i16;
            }
            lab.trunk_says(0, n as u16, n as u32 * 160, &companded(Law::Mu, &pcm));
        }
        lab.run_to(6_000);
        let heard = lab.browser_pcm_of(Codec::Pcmu);
        let after = rms(&heard[heard.len() - 16_000..]);
        assert!(heard_after.contains(&after), "{background}: {after}");
        assert_eq!(lab.bridge.stats().b.concealed_ms / 300, 0, "what is not there any more is not missed");
    }
}

/// A source that stops in the middle of a word, and one that begins: neither clicks.
#[test]
fn a_new_source_in_the_middle_of_sound_does_not_click() {
    let mut lab = Lab::new(plan(Codec::Pcmu, Codec::Pcmu));
    for n in 0..100_u32 {
        lab.run_to(u64::from(n) * 20);
        let (ssrc, sequence) = if n < 50 { (TRUNK_SSRC, n) } else { (9, n * 3) };
        let payload = companded(Law::Mu, &sine(200.0, n as usize * 160, 160));
        let timestamp = if n < 50 { n * 160 } else { 900_000 + n * 160 };
        let header = RtpHeader { marker: false, payload_type: 0, sequence: sequence as u16, timestamp, ssrc };
        lab.rtp(TRUNK_RTP, trunk_address(), header, &payload);
        if n == 49 {
            // A re-INVITE lets another source in.
            lab.update(|plan| trunk_of(plan).remote_rtp = Some(address(2, 4_002)));
            lab.update(|plan| trunk_of(plan).remote_rtp = Some(trunk_address()));
        }
    }
    let heard = lab.browser_pcm_of(Codec::Pcmu);
    let steepest = heard.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap();
    // The tone itself rises by 1,257 a sample at most.
    assert!(steepest < 5_000, "{steepest}");
    assert!(rms(&heard[12_000..15_000]) > 4_000.0);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    /// Any order, any timestamps, any sizes, any times: fifty packets a second on an exact time line, and bounds on what is
    /// kept.
    #[test]
    fn no_stream_makes_it_run_away(
        packets in proptest::collection::vec(
            (0_u64..90, -6_i32..40, proptest::prelude::any::<u32>(), 0_u8..8, 1_usize..970), 20..160),
    ) {
        let mut lab = Lab::new(plan(Codec::Pcmu, Codec::Pcmu));
        let (mut ms, mut sequence, mut timestamp) = (0, 65_000_u16, 4_294_960_000_u32);
        for (pause, step, any, kind, len) in packets {
            // Most go on as a stream does; some jump, in time or number, or in both.
            ms += if pause < 60 { 20 } else { pause };
            sequence = sequence.wrapping_add(if step > 0 { 1 } else { step as u16 });
            timestamp = if kind == 0 { any } else { timestamp.wrapping_add(160) };
            lab.run_to(ms);
            // (No events: theirs is the time of their start.)
            let payload_type = [0, 8, 13, 0, 0, 0, 0, 0][usize::from(kind)];
            lab.trunk_says(payload_type, sequence, timestamp, &vec![any as u8; if kind < 6 { 160 } else { len }]);
            let waits = lab.bridge.playout_ms(Side::B);
            proptest::prop_assert!(waits <= 800, "{waits} ms wait");
        }
        lab.run_to(ms + 3_000);
        assert_exact_time_line(&lab.to_browser, 8);
        let span = (lab.to_browser.last().unwrap().at - lab.to_browser[0].at).as_millis() as usize;
        // In step with a new stream at most once in ten seconds.
        proptest::prop_assert!(lab.to_browser.len() + 2 + span / 10_000 >= span / 20);
        proptest::prop_assert!(lab.bridge.playout_ms(Side::B) <= 40, "nothing is left over");
    }
}
