//! Hold, by either side.

use super::*;

#[test]
fn hold_is_honoured_and_time_goes_on() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 50, |_| false);
    let before = lab.to_trunk.last().unwrap().clone();
    lab.to_trunk.clear();
    lab.update(|plan| trunk_of(plan).direction = Direction::Inactive);
    lab.to_browser.clear();
    for n in 50..100 {
        lab.run_to(n * 20);
        lab.trunk_says(
            0,
            65_400_u16.wrapping_add(n as u16),
            (u32::MAX - 8_000).wrapping_add(n as u32 * 160),
            &[0x10; 160],
        );
    }
    assert!(lab.to_trunk.is_empty(), "nothing to a held trunk");
    assert!(rms(&lab.browser_pcm()[1_600..]) < 30.0, "nothing heard from it");
    lab.update(|plan| trunk_of(plan).direction = Direction::SendRecv);
    lab.run_to(2_100);
    let after = &lab.to_trunk[0];
    assert!(after.header.marker, "a new spurt");
    assert_eq!(after.header.sequence, before.header.sequence.wrapping_add(1));
    let media = after.header.timestamp.wrapping_sub(before.header.timestamp);
    assert_eq!(u128::from(media), (after.at - before.at).as_millis() * 8);
    // Hold by 0.0.0.0: nowhere to send, and the resume restores it.
    lab.update(|plan| trunk_of(plan).remote_rtp = None);
    lab.to_trunk.clear();
    lab.run_to(2_500);
    assert!(lab.to_trunk.is_empty());
    lab.update(|plan| trunk_of(plan).remote_rtp = Some(trunk_address()));
    lab.run_to(2_600);
    assert!(!lab.to_trunk.is_empty());
}

/// The browser holds: the trunk hears a soft tone and not the browser, whose own transport goes on as it was.
#[test]
fn a_held_trunk_hears_a_comfort_tone_and_not_the_holder() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 50, |_| false);
    lab.update(|plan| {
        trunk_of(plan).direction = Direction::SendOnly;
        plan.b.as_mut().unwrap().hears = Hears::Music;
        plan.a.as_mut().unwrap().hears = Hears::Nothing;
    });
    lab.to_trunk.clear();
    lab.to_browser.clear();
    converse(&mut lab, 100, |_| false);
    let pcm = lab.trunk_pcm();
    assert!(amplitude(&pcm[..4_000], 8_000, 392.0) > 500.0 && rms(&pcm) < 1_000.0);
    assert!(amplitude(&pcm, 8_000, 440.0) < 100.0, "the holder is not heard");
    assert!(lab.to_browser.len() >= 99 && rms(&lab.browser_pcm()[1_600..]) < 30.0);
    assert_exact_time_line(&lab.to_trunk, 8);
    // Taken back: both hear each other at once.
    lab.update(|whole| *whole = plan(Codec::Opus, Codec::Pcmu));
    lab.to_trunk.clear();
    converse(&mut lab, 100, |_| false);
    assert!(amplitude(&lab.trunk_pcm()[4_000..], 8_000, 440.0) > 6_500.0);
}

#[test]
fn those_on_hold_hear_the_music_that_was_configured_over_and_over() {
    let start = Instant::now();
    let music: Vec<i16> = sine(700.0, 0, 4_000);
    let means = Means { identity: None, music: Some(music.into()) };
    let only_trunk = MediaPlan { a: None, b: leg(LegMedia::Rtp(trunk_media(Codec::Pcmu)), Hears::Music) };
    let mut bridge = Bridge::new(start, only_trunk, &means, [1; 32]).unwrap();
    let mut sent = Vec::new();
    let mut buf = [0; 1_500];
    for n in 0..150 {
        let at = Duration::from_millis(n * 20);
        bridge.handle_timeout(start + at);
        while let Some(transmit) = bridge.poll_transmit(&mut buf) {
            if transmit.port == TRUNK_RTP {
                sent.push(Sent::read(at, transmit.to, &buf[..transmit.len]));
            }
        }
    }
    let pcm = hear(&sent, Codec::Pcmu);
    assert!(pcm.len() >= 23_000);
    for part in pcm.chunks_exact(4_000) {
        assert!(amplitude(part, 8_000, 700.0) > 7_000.0, "a round of the music");
    }
}

/// The trunk holds with sendonly: its own music is heard while it plays, ours when it does not. Inactive, and 0.0.0.0
/// without a packet: ours.
#[test]
fn a_trunk_that_holds_is_heard_while_it_plays_and_else_a_comfort_tone() {
    let table = [
        (Direction::RecvOnly, Some(trunk_address()), true, 1_000.0),
        (Direction::RecvOnly, Some(trunk_address()), false, 392.0),
        (Direction::Inactive, Some(trunk_address()), true, 392.0),
        (Direction::RecvOnly, None, false, 392.0),
    ];
    for (direction, remote, plays, hz) in table {
        let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
        converse(&mut lab, 20, |_| false);
        lab.update(|plan| {
            let trunk = trunk_of(plan);
            (trunk.direction, trunk.remote_rtp) = (direction, remote);
            plan.a.as_mut().unwrap().hears = Hears::PeerOrMusic;
            plan.b.as_mut().unwrap().hears = Hears::Nothing;
        });
        lab.to_trunk.clear();
        // Whether it plays at once, or is silent for long.
        if !plays {
            lab.run_to(4_900);
            lab.to_browser.clear();
        }
        for n in 0..250 {
            lab.run_to((lab.now - lab.start).as_millis() as u64 + 20);
            if plays {
                let payload = companded(Law::Mu, &sine(1_000.0, n * 160, 160));
                lab.trunk_says(0, 500 + n as u16, 900_000 + n as u32 * 160, &payload);
            }
        }
        let pcm = lab.browser_pcm();
        let level = pcm.chunks_exact(4_000).map(|part| amplitude(part, 8_000, hz)).fold(0.0, f32::max);
        assert!(level > 300.0, "{direction:?} {remote:?} {plays}: {hz} Hz at {level}");
        assert!(lab.to_trunk.is_empty(), "nothing to it who holds");
    }
}

/// What the phone sends while we hold it is not reported as lost afterwards.
#[test]
fn packets_of_a_held_peer_are_no_loss() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    for n in 0..150_u16 {
        let direction = if (50..100).contains(&n) { Direction::SendOnly } else { Direction::SendRecv };
        lab.run_to(u64::from(n) * 20);
        lab.update(|plan| trunk_of(plan).direction = direction);
        lab.trunk_says(0, n, u32::from(n) * 160, &[0xff; 160]);
    }
    let stats = lab.bridge.stats().b;
    assert_eq!((stats.lost, stats.packets_in), (0, 100));
}
