//! G.711 that goes on as it comes, where a trunk's plan puts cost before quality.

use super::*;

/// A browser and a trunk that both speak mu-law, as cheap as may be.
fn cheap_plan() -> MediaPlan {
    let mut plan = plan(Codec::Pcmu, Codec::Pcmu);
    trunk_of(&mut plan).pass = Pass::Cost;
    plan
}

/// A loud tone, after the two octets that say which packet it is.
fn filling(at: usize) -> u8 {
    if at.is_multiple_of(2) { 0x41 } else { 0xc1 }
}

/// The nth packet of a speaker, which says which it is.
fn payload(n: usize, len: usize) -> Vec<u8> {
    let mut payload: Vec<u8> = (0..len).map(filling).collect();
    payload[..2].copy_from_slice(&(n as u16).to_be_bytes());
    payload
}

/// Which it is, if it was passed on.
fn which(packet: &Sent) -> Option<usize> {
    let [high, low, ..] = packet.payload[..] else { return None };
    (packet.payload == payload(usize::from(u16::from_be_bytes([high, low])), 160))
        .then(|| usize::from(u16::from_be_bytes([high, low])))
}

/// Both sides' packets of `range` come, one every 20 ms, the trunk's 7 ms after the browser's.
fn talk(lab: &mut Lab, range: std::ops::Range<usize>, mut lost: impl FnMut(usize) -> bool) {
    let begin = (lab.now - lab.start).as_millis() as u64;
    let first = range.start;
    for n in range.clone() {
        let at = begin + (n - first) as u64 * 20;
        let (number, time) = (65_500_u16.wrapping_add(n as u16), (u32::MAX - 8_000).wrapping_add(n as u32 * 160));
        lab.run_to(at);
        if !lost(n) {
            lab.browser_says(0, number, time, &payload(n, 160));
        }
        lab.run_to(at + 7);
        if !lost(n) {
            lab.trunk_says(0, number, time, &payload(n, 160));
        }
    }
    lab.run_to(begin + range.len() as u64 * 20);
}

fn passed(sent: &[Sent]) -> Vec<usize> {
    sent.iter().filter_map(which).collect()
}

#[test]
fn g711_of_one_law_goes_on_at_once_and_as_it_is() {
    let mut lab = Lab::new(cheap_plan());
    talk(&mut lab, 0..200, |_| false);
    for (sent, after) in [(&lab.to_trunk, 0), (&lab.to_browser, 7)] {
        let own: Vec<Sent> = sent.iter().filter(|packet| which(packet).is_some()).cloned().collect();
        assert_eq!(passed(&own), (0..200).collect::<Vec<_>>());
        assert!(own.iter().enumerate().all(|(n, packet)| packet.at == Duration::from_millis(n as u64 * 20 + after)));
        assert_exact_time_line(&own, 8);
        assert!(own[0].header.marker && own[1..].iter().all(|packet| !packet.header.marker));
        assert!(sent.len() <= own.len() + 2, "and nothing else: {}", sent.len());
    }
    let stats = lab.bridge.stats();
    assert_eq!((stats.a.packets_in, stats.b.packets_in, stats.a.concealed_ms, stats.b.concealed_ms), (200, 200, 0, 0));
}

#[test]
fn without_that_it_is_played_out() {
    let mut plan = cheap_plan();
    trunk_of(&mut plan).pass = Pass::Quality;
    let mut lab = Lab::new(plan);
    talk(&mut lab, 0..200, |n| n % 10 == 7);
    assert_exact_time_line(&lab.to_trunk, 8);
    assert!(lab.bridge.stats().a.concealed_ms > 300, "{}", lab.bridge.stats().a.concealed_ms);
}

#[test]
fn what_is_lost_before_us_is_a_gap_behind_us_and_is_told_of() {
    let mut lab = Lab::new(cheap_plan());
    talk(&mut lab, 0..300, |n| n % 10 == 7);
    let own: Vec<Sent> = lab.to_trunk.iter().filter(|packet| which(packet).is_some()).cloned().collect();
    assert_eq!(own.len(), 270);
    assert_gaps_stand(&own, which, 8);
    let stats = lab.bridge.stats().a;
    assert_eq!((stats.lost, stats.concealed_ms), (30, 0));
    // What is measured second by second knows of the loss and of how loud the speaker is.
    let quality = lab.qualities.last().unwrap();
    let flow = quality.a.inbound.unwrap();
    assert!((50..150).contains(&flow.loss_permille), "{flow:?}");
    assert!(quality.a.level_db > -40, "{}", quality.a.level_db);
}

#[test]
fn packets_of_another_length_and_another_law_are_converted() {
    // The trunk sends 30 ms, the browser is sent 20.
    let mut lab = Lab::new(cheap_plan());
    for n in 0..100_usize {
        lab.run_to(n as u64 * 30);
        let sound = companded(Law::Mu, &sine(1_000.0, n * 240, 240));
        lab.trunk_says(0, n as u16, n as u32 * 240, &sound);
    }
    assert!(lab.to_browser.len() > 130 && lab.to_browser.iter().all(|packet| packet.payload.len() == 160));
    let heard = lab.browser_pcm_of(Codec::Pcmu);
    assert!(amplitude(&heard[8_000..16_000], 8_000, 1_000.0) > 6_500.0);

    // The browser speaks A-law, the trunk is sent mu-law.
    let mut plan = plan(Codec::Pcma, Codec::Pcmu);
    trunk_of(&mut plan).pass = Pass::Cost;
    let mut lab = Lab::new(plan);
    for n in 0..100_usize {
        lab.run_to(n as u64 * 20);
        lab.browser_says(8, n as u16, n as u32 * 160, &companded(Law::A, &sine(440.0, n * 160, 160)));
    }
    assert!(amplitude(&lab.trunk_pcm()[8_000..15_000], 8_000, 440.0) > 6_500.0);
}

#[test]
fn a_direction_that_is_searched_for_tones_is_played_out() {
    let mut plan = cheap_plan();
    let media = trunk_of(&mut plan);
    (media.telephone_event, media.inband) = (None, Some(InBand::default()));
    let mut lab = Lab::new(plan);
    talk(&mut lab, 0..100, |_| false);
    let told = lab.to_browser[5..].iter().filter(|packet| which(packet).is_some());
    let within: Vec<u128> = told.map(|packet| packet.at.as_millis() % 20).collect();
    // What is passed on leaves as it comes, 7 ms into the frame.
    assert!(!within.is_empty() && !within.contains(&7), "{within:?}");
}

#[test]
fn hold_and_resume_without_anything_stale() {
    let mut lab = Lab::new(cheap_plan());
    talk(&mut lab, 0..50, |_| false);
    lab.update(|plan| plan.b.as_mut().unwrap().hears = Hears::Music);
    let held = lab.to_trunk.len();
    talk(&mut lab, 50..250, |_| false);
    assert!(lab.to_trunk[held..].iter().all(|packet| which(packet).is_none()));
    assert!(rms(&hear(&lab.to_trunk[held..], Codec::Pcmu)[..16_000]) > 20.0);
    lab.update(|plan| plan.b.as_mut().unwrap().hears = Hears::Peer);
    let resumed = lab.to_trunk.len();
    talk(&mut lab, 250..350, |_| false);
    let after = passed(&lab.to_trunk[resumed..]);
    assert!(after.len() >= 97 && after.iter().all(|n| *n >= 250), "{after:?}");
    assert_time_line(&lab.to_trunk, 8, 40);
    assert_eq!(passed(&lab.to_browser), (0..350).collect::<Vec<_>>(), "the other direction goes on");
}

#[test]
fn a_digit_goes_its_own_way_and_no_sound_goes_beside_it() {
    let mut lab = Lab::new(cheap_plan());
    talk(&mut lab, 0..20, |_| false);
    for n in 20..26_u16 {
        let mut event = vec![5, if n == 25 { 0x8a } else { 0x0a }, 0, 0];
        event[2..].copy_from_slice(&((n - 19) * 160).to_be_bytes());
        let start = (u32::MAX - 8_000).wrapping_add(20 * 160);
        lab.browser_says(110, 65_500_u16.wrapping_add(n), start, &event);
        let at = (lab.now - lab.start).as_millis() as u64;
        lab.run_to(at + 20);
    }
    talk(&mut lab, 26..60, |_| false);
    assert_eq!(lab.digits(), [(Side::A, '5', 120)]);
    let events: Vec<usize> =
        lab.to_trunk.iter().enumerate().filter(|(_, p)| p.header.payload_type == 101).map(|(at, _)| at).collect();
    assert!(events.len() >= 6);
    let between = &lab.to_trunk[events[0]..=events[events.len() - 1]];
    assert!(between.iter().all(|packet| which(packet).is_none()), "no sound beside the digit");
    assert!(passed(&lab.to_trunk).contains(&59));
}

#[test]
fn a_speaker_that_stops_is_followed_by_silence_and_comes_back() {
    let mut lab = Lab::new(cheap_plan());
    talk(&mut lab, 0..50, |_| false);
    let before = lab.to_trunk.len();
    lab.run_to(1_000 + 3_000);
    let silence = lab.to_trunk.len() - before;
    assert!((95..=105).contains(&silence), "after a second of nothing: {silence}");
    talk(&mut lab, 200..250, |_| false);
    assert!(passed(&lab.to_trunk[before..]).len() >= 48);
    assert_time_line(&lab.to_trunk, 8, 40);
}
