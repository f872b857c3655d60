//! Sound from one end to the other: levels, gaps, delays, time lines.

use super::*;

#[test]
fn a_tone_is_heard_at_both_ends() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 100, |_| false);
    for (pcm, hz, other) in [(lab.trunk_pcm(), 440.0, 1_000.0), (lab.browser_pcm(), 1_000.0, 440.0)] {
        let steady = &pcm[4_000..14_000];
        let level = amplitude(steady, 8_000, hz);
        assert!((6_500.0..9_500.0).contains(&level), "{hz} Hz at {level}");
        assert!(amplitude(steady, 8_000, other) < 200.0);
    }
    assert_exact_time_line(&lab.to_trunk, 8);
    assert_exact_time_line(&lab.to_browser, 48);
    assert!(
        lab.to_trunk.iter().all(|p| p.header.ssrc == 0x2222 && p.header.payload_type == 0 && p.payload.len() == 160)
    );
    assert!(lab.to_browser.iter().all(|p| p.header.ssrc == 0x1111 && p.header.payload_type == 111));
    assert!(lab.to_trunk[0].header.marker && lab.to_browser[0].header.marker);
    assert_eq!(lab.reports, [MediaReport::FirstRtp(Side::A), MediaReport::FirstRtp(Side::B)]);
    let stats = lab.bridge.stats();
    assert_eq!((stats.a.packets_in, stats.b.packets_in), (100, 100));
    assert_eq!((stats.a.lost, stats.a.concealed_ms, stats.b.concealed_ms), (0, 0, 0));
    assert_eq!(stats.b.packets_out, lab.to_trunk.len() as u64);
}

#[test]
fn the_delay_without_loss_is_short() {
    // A click in the middle of silence, G.711 both ways so that no codec adds its own delay.
    for browser in [Codec::Pcmu, Codec::Pcma] {
        let mut lab = Lab::new(plan(browser, Codec::Pcmu));
        for n in 0..50 {
            lab.run_to(n * 20 + 3);
            let law = if browser == Codec::Pcmu { Law::Mu } else { Law::A };
            let pcm = if n == 30 { [9_000; 160] } else { [0; 160] };
            let number = browser.static_payload_type().unwrap();
            lab.browser_says(number, n as u16, n as u32 * 160, &companded(law, &pcm));
        }
        lab.run_to(1_100);
        let click = lab.to_trunk.iter().find(|p| rms(&hear(std::slice::from_ref(p), Codec::Pcmu)) > 5_000.0).unwrap();
        let delay = click.at.as_millis() as u64 - 603;
        // 4 ms for what an unknown network may need, and 2 ms to spare.
        assert!(delay <= 6, "{delay} ms");
    }
}

/// A telephone speaks at `from`, and every 20 ms after it, up to `to` (milliseconds).
fn telephone_speaks(lab: &mut Lab, from: u64, to: u64) {
    for (n, at) in (from..to).step_by(20).enumerate() {
        lab.run_to(at);
        lab.trunk_says(0, n as u16, n as u32 * 160, &companded(Law::Mu, &sine(1_000.0, n * 160, 160)));
    }
    lab.run_to(to);
}

fn sent_at(sent: &[Sent]) -> Vec<u128> {
    sent.iter().map(|packet| packet.at.as_millis()).collect()
}

#[test]
fn the_first_sound_goes_to_a_browser_when_it_is_there_and_no_silence_before_it() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    telephone_speaks(&mut lab, 53, 150);
    assert_eq!(sent_at(&lab.to_browser), [59, 79, 99, 119, 139]);
    assert_exact_time_line(&lab.to_browser, 48);
    assert_eq!(lab.to_trunk[0].at, Duration::ZERO, "a telephone behind NAT waits for our first packet");
}

/// It used to be up to 20 ms more or less, by when in a frame's time it was asked for, and to grow for as long as nothing was said.
#[test]
fn the_delay_that_is_told_is_that_of_the_sound_that_was_played() {
    for from in 53..73 {
        let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
        telephone_speaks(&mut lab, from, 2_500);
        let told = |lab: &Lab| lab.qualities.last().unwrap().b.inbound.map(|flow| flow.delay_ms);
        // A packet, and what it waits for one that may be late.
        assert_eq!(told(&lab), Some(26), "{from}");
        // One that tells of silence (RFC 3389), and then none.
        let spoken = (2_500 - from).div_ceil(20);
        lab.run_to(from + spoken * 20);
        lab.trunk_says(13, spoken as u16, spoken as u32 * 160, &[60]);
        lab.run_to(4_100);
        assert_eq!(told(&lab), Some(26), "{from}");
    }
}

#[test]
fn what_was_said_just_before_a_browsers_way_is_up_is_its_first_sound() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    lab.bridge.set_up(lab.start, Side::A, false);
    telephone_speaks(&mut lab, 3, 72);
    assert!(lab.to_browser.is_empty());
    lab.bridge.set_up(lab.now, Side::A, true);
    lab.run_to(150);
    // At once, and then in step with the telephone again.
    assert_eq!(sent_at(&lab.to_browser), [72, 89, 109, 129, 149]);
    let heard = &lab.browser_pcm()[80..160];
    assert!(amplitude(heard, 8_000, 1_000.0) > 4_000.0);
    // Only the last of what was said meanwhile: the delay is as short as without waiting.
    assert!(lab.bridge.playout_ms(Side::B) <= 20);
}

#[test]
fn a_browser_that_nobody_speaks_to_is_sent_silence_after_a_moment() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    lab.run_to(200);
    assert_eq!(sent_at(&lab.to_browser), [100, 120, 140, 160, 180, 200]);
}

#[test]
fn five_percent_loss_leaves_fifty_packets_a_second_and_an_exact_time_line() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let mut state = 99_u32;
    converse(&mut lab, 1_500, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % 100 < 5
    });
    for (sent, clock) in [(&lab.to_trunk, 8), (&lab.to_browser, 48)] {
        assert_exact_time_line(sent, clock);
        for from in [1, 10, 19] {
            let span = Duration::from_secs(from)..Duration::from_secs(from + 10);
            let count = sent.iter().filter(|p| span.contains(&p.at)).count();
            assert!((499..=501).contains(&count), "{count}");
        }
    }
    let stats = lab.bridge.stats();
    assert!((50..110).contains(&stats.a.lost), "{stats:?}");
    assert!(stats.a.concealed_ms >= stats.a.lost * 20);
    // The tone stays whole: redundancy and concealment fill it.
    let pcm = lab.trunk_pcm();
    // (After a loss SILK needs a few frames to find a pure tone's level again: that is no hole.)
    let holes = pcm[8_000..].chunks_exact(160).filter(|c| rms(c) < 400.0).count();
    assert!(holes < 8, "{holes} frames fell out");
}

#[test]
fn mu_law_on_both_sides_passes_through_bit_by_bit() {
    let mut lab = Lab::new(plan(Codec::Pcmu, Codec::Pcmu));
    let payload: Vec<u8> = (0..160_u32).map(|n| (n * 37 + 11) as u8).chain([0x7f, 0xff]).take(160).collect();
    let mut with_zero = payload.clone();
    with_zero[3] = 0x7f;
    for n in 0..20 {
        lab.run_to(u64::from(n) * 20);
        lab.trunk_says(0, n, u32::from(n) * 160, &with_zero);
    }
    lab.run_to(500);
    // (The first may be left out: it came before frames were in step with it.)
    assert!(lab.to_browser.iter().filter(|p| p.payload == with_zero).count() >= 19);
}

#[test]
fn packets_of_all_lengths_come_out_as_twenty_milliseconds() {
    for law in [Law::Mu, Law::A] {
        let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
        let (number, mut samples, mut sequence) = (if law == Law::Mu { 0 } else { 8 }, 0_usize, 0_u16);
        for ms in [10, 20, 30, 40, 60, 60, 40, 30, 20, 10].into_iter().cycle().take(120) {
            let len = ms * 8;
            // A packet leaves its sender when it is full.
            lab.run_to((samples + len) as u64 / 8);
            lab.trunk_says(number, sequence, 1_000 + samples as u32, &companded(law, &sine(1_000.0, samples, len)));
            samples += len;
            sequence += 1;
        }
        lab.run_to(samples as u64 / 8);
        assert_exact_time_line(&lab.to_browser, 48);
        let pcm = lab.browser_pcm();
        let level = amplitude(&pcm[8_000..24_000], 8_000, 1_000.0);
        assert!((6_500.0..9_500.0).contains(&level), "{level}");
        let concealed = lab.bridge.stats().b.concealed_ms;
        assert!(concealed <= 120, "{concealed} ms while the delay was being learnt");
    }
}

#[test]
fn comfort_noise_is_heard_as_noise_and_is_no_loss() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 50, |_| false);
    let sequence = 65_400_u16.wrapping_add(50);
    lab.trunk_says(13, sequence, (u32::MAX - 8_000).wrapping_add(50 * 160), &[40]);
    lab.to_browser.clear();
    lab.run_to(3_000);
    let level = rms(&lab.browser_pcm()[4_000..]);
    assert!((100.0..500.0).contains(&level), "{level}");
    assert_eq!(lab.bridge.stats().b.concealed_ms, 0);
    // The voice comes back where its time stands.
    lab.to_browser.clear();
    for n in 150..200_u32 {
        lab.run_to(u64::from(n) * 20);
        let timestamp = (u32::MAX - 8_000).wrapping_add(n * 160);
        let payload = companded(Law::Mu, &sine(1_000.0, n as usize * 160, 160));
        lab.trunk_says(0, sequence.wrapping_add((n - 149) as u16), timestamp, &payload);
    }
    assert!(amplitude(&lab.browser_pcm()[1_600..6_400], 8_000, 1_000.0) > 6_500.0);
    assert_eq!(lab.bridge.stats().b.concealed_ms, 0);
}

#[test]
fn a_trunks_silence_is_sent_to_a_browser_and_not_encoded_anew() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let silent = 50..150;
    for n in 0..200 {
        lab.run_to(n as u64 * 20 + 3);
        let pcm = if silent.contains(&n) { vec![0; 160] } else { sine(1_000.0, n * 160, 160) };
        lab.trunk_says(0, n as u16, n as u32 * 160, &companded(Law::Mu, &pcm));
    }
    assert_exact_time_line(&lab.to_browser, 48);
    assert!(lab.to_browser.len() >= 199 && lab.to_browser.iter().skip(1).all(|packet| !packet.header.marker));
    let of = |from: u64, to: u64| {
        let time = Duration::from_millis(from)..Duration::from_millis(to);
        lab.to_browser.iter().filter(|packet| time.contains(&packet.at)).collect::<Vec<_>>()
    };
    let silence = of(1_300, 2_980);
    assert_eq!(silence.len(), 84);
    assert!(silence.windows(2).all(|pair| pair[0].payload == pair[1].payload));
    assert!(of(200, 980).windows(2).all(|pair| pair[0].payload != pair[1].payload));
    let pcm = lab.browser_pcm();
    assert!(rms(&pcm[1_300 * 8..2_900 * 8]) < 2.0);
    for sounds in [200 * 8..900 * 8, 3_100 * 8..3_900 * 8] {
        let level = amplitude(&pcm[sounds], 8_000, 1_000.0);
        assert!((6_500.0..9_500.0).contains(&level), "{level}");
    }
}
