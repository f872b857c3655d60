//! Less work on the sound, and what it leaves.

use std::ops::Range;

use super::*;
use crate::codec::opus::has_redundancy;
use crate::media::Effort;

/// The phone speaks and pauses by turns (what never ends is noise to Opus, and has no redundancy): what the browser is sent.
fn speak(lab: &mut Lab, packets: Range<usize>) -> Vec<Sent> {
    for n in packets {
        let pcm = if n / 10 % 2 == 0 { vec![0; 160] } else { sine(300.0, n * 160, 160) };
        lab.trunk_says(0, n as u16, n as u32 * 160, &companded(Law::Mu, &pcm));
        lab.run_to((n as u64 + 1) * 20);
    }
    std::mem::take(&mut lab.to_browser)
}

fn redundant(sent: &[Sent]) -> usize {
    sent.iter().filter(|packet| has_redundancy(&packet.payload)).count()
}

#[test]
fn less_is_encoded_otherwise_and_the_least_has_no_redundancy() {
    let [full, less, least] = [Effort::Full, Effort::Less, Effort::Least].map(|effort| {
        let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
        lab.bridge.set_effort(effort);
        let sent = speak(&mut lab, 0..200);
        assert_exact_time_line(&sent, 48);
        assert!(rms(&hear(&sent, Codec::Opus)) > 2_000.0, "{effort:?}");
        sent
    });
    assert!(full.iter().zip(&less).any(|(full, less)| full.payload != less.payload), "of another complexity");
    let counts = [full, less, least].map(|sent| redundant(&sent));
    assert!(counts[0] > 40 && counts[1] > 40 && counts[2] == 0, "{counts:?}");
}

#[test]
fn it_changes_within_a_call_and_holds_for_a_leg_that_comes_later() {
    let mut lab = Lab::new(plan(Codec::Pcmu, Codec::Pcmu));
    lab.bridge.set_effort(Effort::Least);
    lab.update(|plan| plan.a = leg(LegMedia::Browser(browser_media(Codec::Opus)), Hears::Peer));
    let sent = speak(&mut lab, 0..100);
    assert!(redundant(&sent) == 0 && sent.len() > 90, "{} of {}", redundant(&sent), sent.len());
    lab.bridge.set_effort(Effort::Full);
    let sent = speak(&mut lab, 100..200);
    assert!(redundant(&sent) > 20, "{} of {}", redundant(&sent), sent.len());
}
