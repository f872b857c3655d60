//! Plans that change while the call goes on.

use super::*;

#[test]
fn our_packet_length_follows_the_plan() {
    for ptime in [10, 30, 40, 60] {
        let mut plan = plan(Codec::Opus, Codec::Pcmu);
        trunk_of(&mut plan).ptime = ptime;
        let mut lab = Lab::new(plan);
        converse(&mut lab, 60, |_| false);
        assert!(lab.to_trunk.iter().all(|p| p.payload.len() == usize::from(ptime) * 8));
        let steps = lab.to_trunk[5..]
            .windows(2)
            .all(|w| w[1].header.timestamp.wrapping_sub(w[0].header.timestamp) == u32::from(ptime) * 8);
        assert!(steps, "{ptime}");
        assert!(amplitude(&lab.trunk_pcm()[2_400..7_200], 8_000, 440.0) > 6_500.0);
    }
}

#[test]
fn early_media_is_heard_and_the_browser_is_not() {
    let mut lab = Lab::new(early_plan(Tone::Eu));
    let mut tongue = Tongue::new(440.0);
    for n in 0..50 {
        lab.run_to(n * 20);
        lab.browser_says(111, n as u16, n as u32 * 960, &tongue.packet(n as usize));
    }
    lab.run_to(1_000);
    let ringing = amplitude(&lab.browser_pcm()[1_600..6_400], 8_000, 425.0);
    assert!(ringing > 2_000.0, "the ringing tone: {ringing}");
    assert!(lab.to_trunk.len() >= 45, "silence keeps the way open");
    assert_eq!(rms(&lab.trunk_pcm()), 0.0);
    // Early media from the trunk takes the ringing tone's place at once.
    lab.to_browser.clear();
    for n in 0..50 {
        lab.run_to(1_000 + n * 20);
        lab.trunk_says(0, n as u16, n as u32 * 160, &companded(Law::Mu, &sine(1_000.0, n as usize * 160, 160)));
    }
    let pcm = lab.browser_pcm();
    assert!(amplitude(&pcm[1_600..6_400], 8_000, 1_000.0) > 6_500.0);
    assert!(amplitude(&pcm[1_600..6_400], 8_000, 425.0) < 200.0);
    // The answer: now the trunk hears the browser, without what was said before.
    lab.to_trunk.clear();
    lab.update(|early| *early = plan(Codec::Opus, Codec::Pcmu));
    for n in 100..150 {
        lab.run_to(n * 20);
        lab.browser_says(111, n as u16, n as u32 * 960, &tongue.packet(n as usize));
    }
    assert!(amplitude(&lab.trunk_pcm()[1_600..6_400], 8_000, 440.0) > 6_500.0);
    assert_exact_time_line(&lab.to_trunk, 8);
}

#[test]
fn a_payload_type_that_a_reinvite_leaves_out_lives_on_for_a_moment() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    lab.trunk_says(8, 1, 160, &[0xd5; 160]);
    lab.update(|plan| trunk_of(plan).accepted.retain(|a| a.codec == Codec::Pcmu));
    lab.run_to(1_000);
    lab.trunk_says(8, 2, 8_000, &[0xd5; 160]);
    assert_eq!(lab.bridge.stats().b.packets_in, 2);
    lab.run_to(3_000);
    lab.trunk_says(8, 3, 24_000, &[0xd5; 160]);
    assert_eq!((lab.bridge.stats().b.packets_in, lab.bridge.stats().b.rejected), (2, 1));
}

/// What a packet is, its payload type says, whatever we send ourselves: a peer may change its codec at any time.
#[test]
fn a_peer_that_changes_its_codec_is_heard_on() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    for n in 0..100_u16 {
        lab.run_to(u64::from(n) * 20);
        let (number, law) = if n < 50 { (0, Law::Mu) } else { (8, Law::A) };
        lab.trunk_says(number, n, u32::from(n) * 160, &companded(law, &sine(1_000.0, usize::from(n) * 160, 160)));
    }
    lab.run_to(2_000);
    for part in lab.browser_pcm()[2_400..15_000].chunks_exact(1_600) {
        let level = amplitude(part, 8_000, 1_000.0);
        assert!((6_000.0..9_500.0).contains(&level), "{level}");
    }
    assert_eq!((lab.bridge.stats().b.rejected, lab.bridge.stats().b.concealed_ms), (0, 0));
}

#[test]
fn a_leg_may_come_later_and_a_process_may_stop() {
    let whole = plan(Codec::Opus, Codec::Pcmu);
    let mut lab = Lab::new(MediaPlan { b: None, ..early_plan(Tone::Us) });
    lab.run_to(200);
    assert_eq!(lab.to_browser.len(), 11, "the ringing tone needs no trunk");
    lab.update(|plan| *plan = whole);
    converse(&mut lab, 50, |_| false);
    assert!(amplitude(&lab.trunk_pcm()[3_200..6_400], 8_000, 440.0) > 6_500.0);
    // Ten seconds in which nobody called: no flood afterwards, and the time line has not slipped.
    lab.to_trunk.clear();
    lab.now += Duration::from_secs(10);
    lab.bridge.handle_timeout(lab.now);
    lab.drain();
    assert!(lab.to_trunk.len() <= 6, "{}", lab.to_trunk.len());
}

#[test]
fn a_caller_hears_nothing_from_us_while_the_browser_rings() {
    let mut lab = Lab::new(MediaPlan { a: None, ..early_plan(Tone::Us) });
    for n in 0..50 {
        lab.run_to(n * 20);
        lab.trunk_says(0, n as u16, n as u32 * 160, &[0xff; 160]);
    }
    assert!(lab.to_trunk.is_empty());
    lab.update(|plan| plan.b.as_mut().unwrap().hears = Hears::Peer);
    lab.run_to(1_100);
    assert!(!lab.to_trunk.is_empty());
}

#[test]
fn a_plan_that_cannot_be_followed_is_an_error_and_not_a_panic() {
    let mut g722 = plan(Codec::Opus, Codec::Pcmu);
    trunk_of(&mut g722).accepted.push(accepted(9, Codec::G722));
    let trunk_only = MediaPlan { a: None, ..g722.clone() };
    assert!(Bridge::new(Instant::now(), trunk_only, &Means::default(), [0; 32]).is_ok());
    assert!(Bridge::new(Instant::now(), g722.clone(), &Means::default(), [0; 32]).is_err(), "no identity");
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 10, |_| false);
    lab.update(|plan| *plan = g722);
    lab.run_to(1_000);
    for len in 0..80 {
        let mut rubbish = vec![0x80; len];
        for port in [Port::Browser, TRUNK_RTP, TRUNK_RTCP] {
            lab.bridge.handle_datagram(lab.now, port, trunk_address(), &mut rubbish);
        }
    }
}
