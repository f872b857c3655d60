//! Whom the bridge believes, and RTCP.

use super::*;
use crate::sdp::TransportName;

#[test]
fn a_stranger_is_neither_heard_nor_sent_to() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let stranger = address(9, 9_999);
    for n in 0..200_u16 {
        lab.run_to(u64::from(n) * 20);
        lab.trunk_says(0, n, u32::from(n) * 160, &companded(Law::Mu, &[0; 160]));
        let header = RtpHeader { payload_type: 0, sequence: n, timestamp: u32::from(n) * 160, ssrc: 1, marker: false };
        lab.rtp(TRUNK_RTP, stranger, header, &companded(Law::Mu, &[9_000; 160]));
    }
    assert!(lab.to_trunk.iter().all(|p| p.to == trunk_address()));
    assert!(lab.rtcp.iter().all(|(_, _, to, _)| *to != stranger));
    assert!(rms(&lab.browser_pcm()) < 30.0);
    assert_eq!(lab.bridge.stats().b.rejected, 200);
    // A known source with an unknown payload type is refused too, and is no sign of life for the latch.
    lab.trunk_says(77, 1, 1, &[1; 160]);
    assert_eq!(lab.bridge.stats().b.rejected, 201);
}

#[test]
fn a_stranger_gets_nothing_while_the_described_address_is_silent() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let stranger = address(9, 9_999);
    for n in 0..200_u16 {
        lab.run_to(u64::from(n) * 20);
        let header = RtpHeader { sequence: n, timestamp: u32::from(n) * 160, ssrc: 1, ..RtpHeader::default() };
        lab.rtp(TRUNK_RTP, stranger, header, &companded(Law::Mu, &[9_000; 160]));
    }
    assert!(lab.to_trunk.iter().all(|p| p.to == trunk_address()));
    assert!(lab.rtcp.iter().all(|(_, _, to, _)| *to != stranger));
    assert!(lab.browser_pcm().iter().all(|sample| sample.abs() < 100));
    assert!(lab.reports.is_empty());
    assert_eq!(lab.bridge.stats().b.rejected, 200);
}

#[test]
fn a_trunk_behind_a_nat_is_followed_and_a_reinvite_moves_it() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let behind = address(3, 30_000);
    for n in 0..20_u16 {
        lab.run_to(u64::from(n) * 20);
        let header = RtpHeader { payload_type: 0, sequence: n, timestamp: u32::from(n) * 160, ssrc: 1, marker: false };
        lab.rtp(TRUNK_RTP, behind, header, &companded(Law::Mu, &[0; 160]));
    }
    assert_eq!(lab.to_trunk[0].to, trunk_address());
    assert_eq!(lab.to_trunk.last().unwrap().to, behind);
    assert!(lab.reports.contains(&MediaReport::FirstRtp(Side::B)));
    let moved = address(4, 6_000);
    lab.update(|plan| trunk_of(plan).remote_rtp = Some(moved));
    lab.run_to(500);
    assert_eq!(lab.to_trunk.last().unwrap().to, moved);
}

/// RFC 8843 section 15: a browser's line is found by the mid, at the start and where the sound moves to another line.
#[test]
fn the_first_packets_with_a_mid_carry_it() {
    let with_mid = |plan: &mut MediaPlan, mid: &str| match &mut plan.a.as_mut().unwrap().media {
        LegMedia::Browser(media) => media.mid_extension = Some((4, mid.to_owned())),
        LegMedia::Rtp(_) => panic!("the browser is a trunk"),
    };
    let mut first = plan(Codec::Opus, Codec::Pcmu);
    with_mid(&mut first, "0");
    let mut lab = Lab::new(first);
    let carried = |lab: &Lab| lab.to_browser.iter().filter(|packet| packet.extended).count();
    lab.run_to(10_000);
    assert_eq!(carried(&lab), 250);
    lab.update(|_| {});
    lab.run_to(11_000);
    assert_eq!(carried(&lab), 250, "the same mid is known");
    lab.update(|plan| with_mid(plan, "1"));
    lab.run_to(20_000);
    assert_eq!(carried(&lab), 500);
}

/// The phone's NAT gives it another port after a hold: it is heard, and sent to, there.
#[test]
fn a_nat_mapping_that_changed_in_a_hold_is_followed() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let say = |lab: &mut Lab, from: u64, source: SocketAddr| {
        for n in from..from + 20 {
            lab.run_to(n * 20);
            let header =
                RtpHeader { sequence: n as u16, timestamp: n as u32 * 160, ssrc: TRUNK_SSRC, ..RtpHeader::default() };
            lab.rtp(TRUNK_RTP, source, header, &companded(Law::Mu, &sine(1_000.0, n as usize * 160, 160)));
        }
    };
    let (before, after) = (address(3, 30_000), address(3, 30_123));
    say(&mut lab, 0, before);
    assert_eq!(lab.to_trunk.last().unwrap().to, before);
    lab.update(|plan| trunk_of(plan).direction = Direction::RecvOnly);
    lab.run_to(10_000);
    lab.update(|plan| trunk_of(plan).direction = Direction::SendRecv);
    lab.to_browser.clear();
    say(&mut lab, 500, after);
    assert_eq!(lab.to_trunk.last().unwrap().to, after);
    assert!(rms(&lab.browser_pcm()) > 2_000.0);
}

#[test]
fn reports_go_both_ways_and_a_bye_ends_them() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    let start = lab.now;
    converse(&mut lab, 50, |n| n % 10 == 5);
    let mut sr = [0; 200];
    let sender = Some(SenderInfo { ntp: 0x1_0002_0003_0004, ..SenderInfo::default() });
    let block = ReportBlock { ssrc: 0x1111, fraction_lost: 25, ..ReportBlock::default() };
    let compound = Compound { ssrc: BROWSER_SSRC, sender, report: Some(block), cname: "browser", bye: false };
    let len = compound.write(&mut sr).unwrap();
    let now = lab.now;
    lab.bridge.handle_datagram(now, Port::Browser, browser_address(), &mut sr[..len]);
    lab.run_to(30_000);
    for (port, ssrc, peer, to, count) in [
        (Port::Browser, 0x1111, BROWSER_SSRC, browser_address(), 15..45),
        (TRUNK_RTCP, 0x2222, TRUNK_SSRC, address(2, 4_001), 4..14),
    ] {
        let sent: Vec<_> = lab.rtcp.iter().filter(|(_, p, ..)| *p == port).collect();
        assert!(count.contains(&sent.len()), "{port:?}: {}", sent.len());
        assert_eq!(sent[0].0, Duration::from_millis(500), "the first one soon");
        assert!(sent.iter().all(|(_, _, dest, _)| *dest == to));
        let mut items = Vec::new();
        for (.., bytes) in sent {
            rtcp::read(bytes, |item| items.push(item)).unwrap();
        }
        assert!(
            items.iter().any(|i| matches!(i, RtcpItem::Sender { ssrc: s, info } if *s == ssrc && info.packets > 0))
        );
        let lost = items.iter().filter_map(|i| match i {
            RtcpItem::Report { from, block } if *from == ssrc && block.ssrc == peer => Some(block.cumulative_lost),
            _ => None,
        });
        assert_eq!(lost.max(), Some(5));
    }
    let echoed = lab.rtcp.iter().any(|(.., bytes)| {
        let mut found = false;
        rtcp::read(bytes, |item| {
            found |= matches!(item, RtcpItem::Report { block, .. } if block.last_sr == 0x0002_0003)
        })
        .unwrap();
        found
    });
    assert!(echoed, "the browser's sender report is answered with its time");
    // The RTP time of a sender report is that of its NTP time.
    check_sender_clock(&lab, start);
    lab.rtcp.clear();
    lab.bridge.close(lab.now);
    lab.drain();
    assert_eq!(lab.rtcp.len(), 2);
    for (.., bytes) in &lab.rtcp {
        let mut bye = false;
        rtcp::read(bytes, |item| bye |= matches!(item, RtcpItem::Bye { .. })).unwrap();
        assert!(bye);
    }
    assert_eq!(lab.bridge.poll_timeout(), None);
    let sent = lab.to_trunk.len();
    lab.trunk_says(0, 1, 1, &[0xff; 160]);
    lab.bridge.handle_timeout(lab.now + Duration::from_secs(1));
    lab.drain();
    assert_eq!(lab.to_trunk.len(), sent);
}

fn check_sender_clock(lab: &Lab, _start: Instant) {
    let mut infos = Vec::new();
    for (_, port, _, bytes) in &lab.rtcp {
        if *port == TRUNK_RTCP {
            let _ = rtcp::read(bytes, |item| {
                if let RtcpItem::Sender { info, .. } = item {
                    infos.push(info);
                }
            });
        }
    }
    for pair in infos.windows(2) {
        let seconds = (pair[1].ntp - pair[0].ntp) as f64 / 4_294_967_296.0;
        let units = f64::from(pair[1].rtp_timestamp.wrapping_sub(pair[0].rtp_timestamp));
        assert!((units - seconds * 8_000.0).abs() <= 2.0, "{units} units in {seconds} s");
    }
    assert!(infos.len() >= 3);
}

#[test]
fn a_dead_trunk_is_noticed_unless_it_is_held() {
    let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
    lab.run_to(120_000);
    assert!(lab.reports.is_empty(), "one that never sent is another matter");
    converse(&mut lab, 10, |_| false);
    lab.run_to(240_000);
    let transport = TransportName::Rtp(trunk_of(&mut plan(Codec::Opus, Codec::Pcmu)).ssrc);
    let lost = MediaReport::Lost { side: Side::B, transport, loss: MediaLoss::RtpSilent };
    assert_eq!(lab.reports.iter().filter(|r| **r == lost).count(), 1);
    // We hold (SendOnly), the phone holds (RecvOnly), or both.
    for direction in [Direction::SendOnly, Direction::RecvOnly, Direction::Inactive] {
        let mut held = Lab::new(plan(Codec::Opus, Codec::Pcmu));
        converse(&mut held, 10, |_| false);
        held.update(|plan| trunk_of(plan).direction = direction);
        held.run_to(200_000);
        assert!(!held.reports.contains(&lost), "{direction:?}");
        // Taken back from hold it is watched again, from then on.
        held.update(|plan| trunk_of(plan).direction = Direction::SendRecv);
        held.run_to(259_000);
        assert!(!held.reports.contains(&lost), "{direction:?}");
        held.run_to(262_000);
        assert!(held.reports.contains(&lost), "{direction:?}");
    }
}

/// RTCP and comfort noise count as life: a phone that says nothing is not gone.
#[test]
fn rtcp_and_comfort_noise_count_as_life() {
    for by_rtcp in [true, false] {
        let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
        converse(&mut lab, 10, |_| false);
        for n in 0..20_u32 {
            lab.run_to(200 + u64::from(n) * 10_000);
            if by_rtcp {
                let compound = Compound { ssrc: TRUNK_SSRC, sender: None, report: None, cname: "phone", bye: false };
                let mut report = [0; 200];
                let len = compound.write(&mut report).unwrap();
                lab.bridge.handle_datagram(lab.now, TRUNK_RTCP, address(2, 4_001), &mut report[..len]);
            } else {
                lab.trunk_says(13, 65_410_u16.wrapping_add(n as u16), n * 80_000, &[40]);
            }
        }
        let lost = |report: &MediaReport| matches!(report, MediaReport::Lost { .. });
        assert!(!lab.reports.iter().any(lost), "by RTCP {by_rtcp}");
        lab.run_to(270_000);
        assert!(lab.reports.iter().any(lost), "and then nothing for a minute");
    }
}

/// A browser's header extensions (mid, audio level) stay here: what goes to a trunk is the bare header of RFC 3550.
#[test]
fn header_extensions_never_reach_the_trunk() {
    let mut lab = Lab::new(plan(Codec::Pcmu, Codec::Pcmu));
    let mut seen = 0;
    for n in 0..50_u16 {
        lab.now = lab.start + Duration::from_millis(u64::from(n) * 20);
        lab.bridge.handle_timeout(lab.now);
        // One-byte extensions (RFC 8285): an audio level and a mid.
        let mut bytes = vec![0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0xbe, 0xde, 0, 1, 0x10, 0x85, 0x20, b'0'];
        bytes[2..4].copy_from_slice(&n.to_be_bytes());
        bytes[4..8].copy_from_slice(&(u32::from(n) * 160).to_be_bytes());
        bytes.extend([0x2a; 160]);
        lab.bridge.handle_datagram(lab.now, Port::Browser, browser_address(), &mut bytes);
        let mut buf = [0; 1_500];
        while let Some(transmit) = lab.bridge.poll_transmit(&mut buf) {
            if transmit.port == TRUNK_RTP {
                assert_eq!((buf[0], transmit.len), (0x80, 172));
                seen += usize::from(buf[12..172] == [0x2a; 160]);
            }
        }
    }
    assert!(seen > 40, "and the sound behind them does: {seen}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]
    #[test]
    fn any_datagrams_at_any_time(
        datagrams in proptest::collection::vec(
            (0_u64..60, 0_u8..3, 0_u8..2, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..90)), 0..120),
    ) {
        let mut lab = Lab::new(plan(Codec::Opus, Codec::Pcmu));
        let mut ms = 0;
        for (pause, port, kind, mut bytes) in datagrams {
            ms += pause;
            lab.run_to(ms);
            if let (1, [first, second, ..]) = (kind, &mut bytes[..]) {
                // Make it look like RTP of a type that was negotiated.
                *first = 0x80;
                *second = [0, 8, 13, 101, 110, 111][usize::from(*second) % 6];
            }
            let (port, source) = match port {
                0 => (Port::Browser, browser_address()),
                1 => (TRUNK_RTP, trunk_address()),
                _ => (TRUNK_RTCP, trunk_address()),
            };
            lab.bridge.handle_datagram(lab.now, port, source, &mut bytes);
            lab.drain();
        }
        lab.run_to(ms + 500);
        assert_eq!(lab.bridge.stats().a.packets_out as usize, lab.to_browser.len());
    }
}
