//! Digits as telephone events.

use super::*;
use crate::codec::Rate;
use crate::codec::dtmf::{DtmfDetector, DtmfUpdate};
use crate::media::digits::{DigitSender, DigitStep};
use crate::sdp::InBand;

/// What the network swallows: a share of the packets in percent, one by one or in bursts of two on average.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Random(u32),
    Bursts(u32),
}

const NO_LOSS: Loss = Loss::Random(0);
const LOSSES: [Loss; 5] = [NO_LOSS, Loss::Random(5), Loss::Random(10), Loss::Bursts(5), Loss::Bursts(10)];

struct Net {
    loss: Loss,
    state: u32,
    bad: bool,
}

impl Net {
    fn new(loss: Loss, seed: u32) -> Self {
        Self { loss, state: seed.wrapping_mul(2_654_435_761) | 1, bad: false }
    }

    fn swallows(&mut self) -> bool {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        let drawn = f64::from(self.state >> 8) / f64::from(1 << 24);
        match self.loss {
            Loss::Random(percent) => drawn < f64::from(percent) / 100.0,
            Loss::Bursts(percent) => {
                // Gilbert's model: a burst goes on with one half.
                let share = f64::from(percent) / 100.0;
                self.bad = drawn < if self.bad { 0.5 } else { 0.5 * share / (1.0 - share) };
                self.bad
            }
        }
    }
}

/// How digits are dialled into a bridge.
#[derive(Debug, Clone, Copy)]
struct Dial {
    from: Side,
    /// The browser's codec.
    codec: Codec,
    /// Whether the trunk, in both directions, has tones in place of events.
    tones: bool,
    /// Whether those that come are held back to be kept out whole.
    suppress: bool,
    /// Whether the trunk speaks Opus as the browser does: their sound is passed on undecoded.
    passed_on: bool,
    ms: u16,
    loss: Loss,
    seed: u32,
}

impl Dial {
    fn new(from: Side, codec: Codec) -> Self {
        Self { from, codec, tones: false, suppress: false, passed_on: false, ms: 100, loss: NO_LOSS, seed: 1 }
    }

    fn event(self, side: Side) -> Option<TelephoneEvent> {
        match side {
            Side::A => Some(TelephoneEvent { payload_type: 110, clock_rate: self.codec.clock_rate() }),
            Side::B => {
                let clock_rate = if self.passed_on { 48_000 } else { 8_000 };
                (!self.tones).then_some(TelephoneEvent { payload_type: 101, clock_rate })
            }
        }
    }

    fn inband(self, side: Side) -> Option<InBand> {
        (self.tones && side == Side::B).then_some(InBand { suppress: self.suppress })
    }

    /// Presses the keys one after the other. What it returns: the bridge afterwards, and the digits of which at least one
    /// packet arrived there.
    fn run(self, digits: &str) -> (Lab, String) {
        let mut plan = plan(self.codec, Codec::Pcmu);
        (trunk_of(&mut plan).telephone_event, trunk_of(&mut plan).inband) = (self.event(Side::B), self.inband(Side::B));
        if self.passed_on {
            trunk_of(&mut plan).send = accepted(96, Codec::Opus);
            trunk_of(&mut plan).accepted = vec![accepted(96, Codec::Opus), accepted(0, Codec::Pcmu)];
        }
        let mut lab = Lab::new(plan);
        converse(&mut lab, 25, |_| false);
        // As we send ourselves; a key of 40 ms is one where that is wanted.
        let mut sender = DigitSender::of(self.event(self.from), self.inband(self.from), None).unwrap();
        for digit in digits.chars() {
            assert!(sender.events().queue(char_event(digit).unwrap(), self.ms));
        }
        let mut net = Net::new(self.loss, self.seed);
        let base = (lab.now - lab.start).as_millis() as u64;
        // 25 packets were sent before, with these first numbers.
        let (clock, first, origin) = match self.from {
            Side::A => (self.codec.clock_rate(), 65_525_u16, (u32::MAX - 48_000).wrapping_add(24_000)),
            Side::B if self.passed_on => (48_000, 65_425, (u32::MAX - 8_000).wrapping_add(4_000)),
            Side::B => (8_000, 65_425, (u32::MAX - 8_000).wrapping_add(4_000)),
        };
        let (mut tongue, mut n) = (Tongue::new(440.0), 0_u32);
        // Which of the digits, counted by their marked first packets; the segments of a long one have several timestamps.
        let (mut pressed, mut arrived) = (0, Vec::new());
        while sender.events().busy() || n < 20 {
            lab.run_to(base + u64::from(n) * 20);
            let (timestamp, sequence) = (origin.wrapping_add(n * clock / 50), first.wrapping_add(n as u16));
            let mut pcm = sine(if self.from == Side::A { 440.0 } else { 1_000.0 }, n as usize * 160, 160);
            let lost = net.swallows();
            let (payload_type, timestamp, payload) = match sender.step(timestamp, Rate::Narrow, &mut pcm) {
                DigitStep::Packet { payload_type, event } => {
                    pressed += usize::from(event.marker);
                    if !lost && arrived.last() != Some(&(pressed - 1)) {
                        arrived.push(pressed - 1);
                    }
                    (payload_type, event.timestamp, event.payload.to_vec())
                }
                _ if self.from == Side::A && self.codec == Codec::Opus => (111, timestamp, tongue.packet(n as usize)),
                _ if self.passed_on => (96, timestamp, tongue.packet(n as usize)),
                _ => (0, timestamp, companded(Law::Mu, &pcm)),
            };
            if !lost {
                match self.from {
                    Side::A => lab.browser_says(payload_type, sequence, timestamp, &payload),
                    Side::B => lab.trunk_says(payload_type, sequence, timestamp, &payload),
                }
            }
            n += 1;
        }
        lab.run_to(base + u64::from(n) * 20 + 1_000);
        (lab, arrived.iter().filter_map(|n| digits.chars().nth(*n)).collect())
    }

    /// What the other side of the bridge was sent, and the lengths of it.
    fn heard(self, lab: &Lab) -> Vec<(char, u16)> {
        match self.from.other() {
            Side::A => event_digits(lab, &lab.to_browser, 110, self.codec.clock_rate()),
            Side::B if self.tones => tone_digits(&lab.trunk_pcm()),
            Side::B => event_digits(lab, &lab.to_trunk, 101, if self.passed_on { 48_000 } else { 8_000 }),
        }
    }
}

fn event_digits(lab: &Lab, sent: &[Sent], number: u8, clock: u32) -> Vec<(char, u16)> {
    let mut receiver = EventReceiver::default();
    let events = sent.iter().filter(|p| p.header.payload_type == number);
    let updates = events.flat_map(|p| receiver.handle(lab.start + p.at, p.header.timestamp, &p.payload, clock));
    updates
        .filter_map(|update| match update {
            EventUpdate::Ended { event, ms } => Some((event_char(event)?, ms)),
            EventUpdate::Started { .. } => None,
        })
        .collect()
}

fn tone_digits(pcm: &[i16]) -> Vec<(char, u16)> {
    let mut found = Vec::new();
    DtmfDetector::new(8_000).handle(pcm, |update| {
        if let DtmfUpdate::Ended { digit, ms } = update {
            found.push((digit, ms));
        }
    });
    found
}

fn text(digits: &[(char, u16)]) -> String {
    digits.iter().map(|(digit, _)| *digit).collect()
}

fn receive_digits(lab: &Lab, sent: &[Sent], number: u8, clock: u32) -> String {
    text(&event_digits(lab, sent, number, clock))
}

const DIALLED: &str = "0123456789*#ABCD5500";

/// Every path of events through a bridge, at both clocks: of what arrives at all nothing is lost, and nothing comes twice.
#[test]
fn a_digit_of_which_one_packet_arrives_is_sent_on_once_at_any_loss() {
    let mut gone = 0;
    for loss in LOSSES {
        let paths = [(Side::A, Codec::Opus), (Side::A, Codec::Pcmu), (Side::B, Codec::Opus)].map(|path| (path, false));
        let passed_on = [Side::A, Side::B].map(|from| ((from, Codec::Opus), true));
        for ((from, codec), passed_on) in paths.into_iter().chain(passed_on) {
            for (ms, seeds) in [(40, 4), (100, 4), (2_000, 1)] {
                for seed in 0..seeds {
                    let dial = Dial { ms, loss, passed_on, seed: seed * 31 + 7, ..Dial::new(from, codec) };
                    let (lab, arrived) = dial.run(DIALLED);
                    let heard = dial.heard(&lab);
                    assert_eq!(text(&heard), arrived, "{dial:?}");
                    let reported: String = lab.digits().iter().map(|(_, digit, _)| *digit).collect();
                    assert_eq!(reported, arrived, "{dial:?}");
                    assert!(lab.digits().iter().all(|(side, ..)| *side == from));
                    if matches!(loss, Loss::Random(0)) {
                        assert!(lab.digits().iter().all(|(.., reported)| *reported == ms), "{:?}", lab.digits());
                    }
                    if ms > 40 || matches!(loss, Loss::Random(_)) {
                        gone += DIALLED.len() - arrived.len();
                    }
                }
            }
        }
    }
    assert_eq!(gone, 0, "digits of seven packets and more, all of them lost");
}

/// A trunk without telephone-event: what the browser presses is a tone there, and the tone of its party an event here.
#[test]
fn tones_and_events_stand_for_one_another() {
    for ms in [40, 100, 2_000] {
        for (from, codec) in
            [(Side::A, Codec::Opus), (Side::A, Codec::Pcmu), (Side::B, Codec::Opus), (Side::B, Codec::Pcmu)]
        {
            let dial = Dial { ms, tones: true, ..Dial::new(from, codec) };
            let (lab, _) = dial.run(DIALLED);
            let heard = dial.heard(&lab);
            assert_eq!(text(&heard), DIALLED, "{dial:?}");
            let least = ms.max(80);
            let around = |length: u16, slack: u16| (least - 10..=least + slack).contains(&length);
            // An event that is sent on live begins when the tone is recognised, and may be that much shorter.
            assert!(heard.iter().all(|(_, length)| around(*length, 30) || from == Side::B), "{heard:?}");
            let reported: String = lab.digits().iter().map(|(_, digit, _)| *digit).collect();
            assert_eq!(reported, DIALLED);
            assert!(
                lab.digits().iter().all(|(side, _, length)| *side == from && (from == Side::A || around(*length, 10)))
            );
        }
    }
}

/// What tones lose where the trunk's own packets are lost: nothing in their place can be known.
#[test]
fn tones_survive_the_loss_of_single_packets() {
    for (loss, least) in [
        (NO_LOSS, 200),
        (Loss::Random(5), 198),
        (Loss::Random(10), 198),
        (Loss::Bursts(5), 195),
        (Loss::Bursts(10), 188),
    ] {
        let (mut right, mut doubled) = (0, 0);
        for seed in 0..10 {
            let suppress = seed % 2 == 0;
            let dial = Dial { loss, seed: seed + 50, tones: true, suppress, ..Dial::new(Side::B, Codec::Opus) };
            let (lab, _) = dial.run(DIALLED);
            let heard = text(&dial.heard(&lab));
            let mut rest = DIALLED.chars();
            right += heard.chars().filter(|digit| rest.any(|dialled| dialled == *digit)).count();
            doubled += heard.len().saturating_sub(DIALLED.len());
            // A tone that was not recognised is sound as any other; beside an event there is none.
            let leaked = tone_digits(&lab.browser_pcm());
            assert!(leaked.len() + heard.len() <= DIALLED.len(), "{leaked:?} beside {heard} at {loss:?}, seed {seed}");
        }
        assert!(right >= least && doubled == 0, "{right} of 200 tones at {loss:?}, {doubled} too many");
    }
}

#[test]
fn digits_on_command_are_queued_with_gaps_and_sound_goes_on_between_them() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    converse(&mut lab, 25, |_| false);
    lab.bridge.send_digits(lab.now, Side::B, "11x#", 100);
    lab.bridge.send_digits(lab.now, Side::A, "7", 100);
    lab.to_trunk.clear();
    lab.to_browser.clear();
    lab.run_to(2_000);
    assert_eq!(receive_digits(&lab, &lab.to_trunk, 101, 8_000), "11#");
    assert_eq!(receive_digits(&lab, &lab.to_browser, 110, 48_000), "7");
    let kinds: Vec<bool> = lab.to_trunk.iter().map(|p| p.header.payload_type == 101).collect();
    let gaps = kinds.windows(2).filter(|w| w[0] && !w[1]).count();
    assert_eq!(gaps, 3, "sound between and after the digits");
    let first_sound =
        lab.to_trunk.windows(2).find(|w| w[0].header.payload_type == 101 && w[1].header.payload_type == 0);
    assert!(first_sound.unwrap()[1].header.marker);
}

/// What the browser hears of an RTP peer that presses 5 at `events` (when, for how long) and sends INFOs of it at `infos`.
fn pressed_both_ways(events: &[(u64, u16)], infos: &[u64]) -> String {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let mut sender = EventSender::new(8_000);
    for n in 0..200_u32 {
        let at = u64::from(n) * 20;
        lab.run_to(at);
        for (_, ms) in events.iter().filter(|(pressed, _)| *pressed == at) {
            sender.queue(5, *ms);
        }
        match sender.step(n * 160, 160) {
            EventStep::Packet(packet) => lab.trunk_says(101, n as u16, packet.timestamp, &packet.payload),
            EventStep::Audio => lab.trunk_says(0, n as u16, n * 160, &companded(Law::Mu, &[0; 160])),
        }
        if infos.contains(&at) {
            lab.bridge.send_digits(lab.now, Side::A, "5", 160);
        }
    }
    lab.run_to(6_000);
    let began = lab.reports.iter().filter(|report| **report == MediaReport::EventBegan(Side::B)).count();
    assert_eq!(began, events.len());
    receive_digits(&lab, &lab.to_browser, 110, 48_000)
}

#[test]
fn a_press_in_rtp_and_in_info_is_one_digit_on_the_other_leg() {
    for (order, events, infos, expected) in [
        ("RTP first", vec![(200, 100)], vec![220], "5"),
        ("INFO first", vec![(240, 100)], vec![200], "5"),
        ("INFO at the end of a long key", vec![(200, 3_000)], vec![3_200], "5"),
        ("INFO before a long key", vec![(240, 3_000)], vec![200], "5"),
        ("the same digit twice, RTP first", vec![(200, 100), (600, 100)], vec![220, 620], "55"),
        ("the same digit twice, INFO first", vec![(240, 100), (640, 100)], vec![200, 600], "55"),
        ("INFO only", vec![], vec![200, 600], "55"),
        ("RTP only", vec![(200, 100), (600, 100)], vec![], "55"),
    ] {
        assert_eq!(pressed_both_ways(&events, &infos), expected, "{order}");
    }
}

#[test]
fn digits_under_either_number_of_telephone_event_are_passed_on() {
    let mut whole = plan(Codec::Opus, Codec::Pcmu);
    let event = |payload_type| TelephoneEvent { payload_type, clock_rate: 8_000 };
    let trunk = trunk_of(&mut whole);
    (trunk.telephone_event, trunk.accepted_events) = (Some(event(96)), vec![event(101)]);
    let mut lab = Lab::new(whole);
    for (n, payload_type) in [96, 101].into_iter().enumerate() {
        let timestamp = 1_600 * n as u32;
        lab.run_to(n as u64 * 200);
        lab.trunk_says(payload_type, n as u16, timestamp, &[n as u8, 0x8a, 3, 0x20]);
    }
    assert_eq!(lab.digits(), [(Side::B, '0', 100), (Side::B, '1', 100)]);
}

/// Music on hold gives way to the person: another SSRC, with timestamps before the others.
#[test]
fn digits_of_a_new_source_are_not_lost() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    for (n, timestamp) in [900_000, 500, 500].into_iter().enumerate() {
        lab.run_to(n as u64 * 200);
        let header = RtpHeader { payload_type: 101, sequence: 7, timestamp, ssrc: n as u32, marker: true };
        lab.rtp(TRUNK_RTP, trunk_address(), header, &[4, 0x0a, 3, 0x20]);
        lab.rtp(TRUNK_RTP, trunk_address(), RtpHeader { sequence: 8, ..header }, &[4, 0x8a, 3, 0x20]);
    }
    assert_eq!(lab.digits(), [(Side::B, '4', 100); 3]);
}

#[test]
fn the_tone_under_a_digit_is_not_heard() {
    // A trunk that sends the tone in band beside the event.
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let note = [crate::codec::tone::dtmf('5', 200).unwrap()];
    let mut tone = crate::codec::tone::TonePlayer::once(&note, 8_000);
    let mut sender = EventSender::new(8_000);
    sender.queue(5, 200);
    let mut sequence = 0;
    for n in 0..40_u32 {
        lab.run_to(u64::from(n) * 20);
        let mut pcm = [0; 160];
        if n >= 10 {
            tone.fill(&mut pcm);
            if let EventStep::Packet(packet) = sender.step(n * 160, 160) {
                lab.trunk_says(101, sequence, packet.timestamp, &packet.payload);
                sequence += 1;
            }
        }
        lab.trunk_says(0, sequence, n * 160, &companded(Law::Mu, &pcm));
        sequence += 1;
    }
    lab.run_to(1_200);
    let pcm = lab.browser_pcm();
    assert!(pcm.chunks(160).all(|frame| detect_dtmf(frame).is_none()));
    assert!(rms(&pcm) < 100.0, "{}", rms(&pcm));
    assert_eq!(lab.digits(), [(Side::B, '5', 200)]);
}

#[test]
fn digits_that_waited_when_a_hold_began_are_not_sent_after_it() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    lab.bridge.send_digits(lab.now, Side::B, "123456", 100);
    lab.run_to(50);
    lab.update(|plan| trunk_of(plan).direction = Direction::RecvOnly);
    lab.run_to(1_000);
    lab.to_trunk.clear();
    lab.update(|plan| trunk_of(plan).direction = Direction::SendRecv);
    lab.run_to(2_000);
    assert!(lab.to_trunk.len() > 40 && lab.to_trunk.iter().all(|p| p.header.payload_type == 0));
}

/// An analogue gateway sends back what it hears, 12 dB below: the digits that we send are none of its.
#[test]
fn the_echo_of_our_own_tones_is_no_digit() {
    for suppress in [false, true] {
        let mut plan = plan(Codec::Opus, Codec::Pcmu);
        (trunk_of(&mut plan).telephone_event, trunk_of(&mut plan).inband) = (None, Some(InBand { suppress }));
        let mut lab = Lab::new(plan);
        let note = [crate::codec::tone::dtmf('7', 100).unwrap()];
        let mut own = crate::codec::tone::TonePlayer::once(&note, 8_000);
        for n in 0..120_u16 {
            lab.run_to(u64::from(n) * 20);
            if n == 10 {
                lab.bridge.send_digits(lab.now, Side::B, "159", 100);
            }
            let mut pcm = vec![0; 160];
            if n >= 90 {
                own.fill(&mut pcm);
            }
            // It takes 120 ms there and back.
            if let Some(sent) = lab.to_trunk.len().checked_sub(7).map(|at| lab.to_trunk[at].clone()) {
                for (sample, byte) in pcm.iter_mut().zip(&sent.payload) {
                    *sample += Law::Mu.decode_sample(*byte) / 4;
                }
            }
            lab.trunk_says(0, n, u32::from(n) * 160, &companded(Law::Mu, &pcm));
        }
        lab.run_to(3_000);
        assert!(text(&tone_digits(&lab.trunk_pcm())).starts_with("159"));
        assert!(matches!(lab.digits()[..], [(Side::B, '7', 80..=120)]), "{:?}", lab.digits());
    }
}
