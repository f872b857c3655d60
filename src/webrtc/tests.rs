#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
//! Whole connections in virtual time against an independent implementation of the browser's side.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use str0m::config::DtlsVersion;

use super::stun::{attribute, tests::request};
use super::test_browser::{BROWSER_SSRC, Network, OPUS, our_credentials};
use super::*;
use crate::sdp::{DtlsRole, IceCredentials};

const V4: (&str, &str) = ("192.0.2.20:40000", "198.51.100.1:3478");
const V6: (&str, &str) = ("[2001:db8::20]:40000", "[2001:db8::1]:3478");
const SECOND: Duration = Duration::from_secs(1);

/// One identity for all tests, as one is for all calls.
fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::generate().unwrap())
}

fn network(role: DtlsRole, version: DtlsVersion) -> Network {
    Network::new(identity(), V4, role, version, |_| {})
}

fn connected(role: DtlsRole, version: DtlsVersion) -> Network {
    let mut net = network(role, version);
    connect(&mut net, 5 * SECOND);
    net
}

fn connect(net: &mut Network, limit: Duration) {
    assert!(net.run(limit, |net| net.transport.is_connected() && net.browser.rtc.is_connected()), "{:?}", net.events);
    assert_eq!(net.events, [TransportEvent::Connected]);
}

/// 50 packets each way, and the same bytes at the other end.
fn talk(net: &mut Network, first: u16) {
    let (ours, theirs) = (net.rtp.len(), net.browser.received.len());
    for n in 0..50 {
        net.browser.send_audio(net.now, &[1, 2, n]);
        net.send_audio(first + u16::from(n), &[3, 4, n]);
        net.run(SECOND / 50, |_| false);
    }
    net.run(SECOND / 10, |_| false);
    assert_eq!(net.rtp.len() - ours, 50);
    for (n, packet) in net.rtp[ours..].iter().enumerate() {
        assert_eq!((packet[1] & 0x7F, &packet[packet.len() - 3..]), (OPUS, &[1, 2, n as u8][..]));
        assert_eq!(packet[8..12], BROWSER_SSRC.to_be_bytes());
    }
    assert_eq!(net.browser.received.len() - theirs, 50);
    for (n, packet) in net.browser.received[theirs..].iter().enumerate() {
        assert_eq!(packet.payload[..], [3, 4, n as u8]);
    }
}

#[test]
fn media_flows_both_ways_in_each_role_and_version_over_ipv4_and_ipv6() {
    for addresses in [V4, V6] {
        for role in [DtlsRole::Passive, DtlsRole::Active] {
            for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13, DtlsVersion::Auto] {
                let mut net = Network::new(identity(), addresses, role, version, |_| {});
                let begun = net.now;
                connect(&mut net, 5 * SECOND);
                assert!(net.now - begun < SECOND, "{role:?} {version:?}: {:?}", net.now - begun);
                talk(&mut net, 1000);
                assert!(net.run(10 * SECOND, |net| net.rtcp > 0), "no RTCP from the browser");
                assert_eq!(net.transport.stats(), TransportStats::default(), "{role:?} {version:?}");
            }
        }
    }
}

#[test]
fn a_sequence_number_that_rolls_over_in_mid_call_is_followed() {
    let mut net = connected(DtlsRole::Passive, DtlsVersion::Auto);
    for (n, sequence) in (65_500u16..=65_535).chain(0..50).enumerate() {
        net.send_audio(sequence, &[n as u8]);
        net.run(SECOND / 50, |_| false);
    }
    net.run(SECOND / 10, |_| false);
    assert_eq!(net.browser.received.len(), 86);
}

#[test]
fn nothing_is_sent_in_the_clear_or_taken_before_the_handshake() {
    let mut net = network(DtlsRole::Passive, DtlsVersion::Auto);
    let mut buf = [0x80; 100];
    assert_eq!(net.transport.protect_rtp(&mut buf, 50), Err(TransportError::NotReady));
    assert_eq!(net.transport.protect_rtcp(&mut buf, 50), Err(TransportError::NotReady));
    assert!(net.run(SECOND, |net| net.transport.knows(V4.0.parse().unwrap())));
    net.deliver(V4.0.parse().unwrap(), vec![0x80; 100]);
    assert!(net.rtp.is_empty());
    assert_eq!(net.transport.protect_rtp(&mut buf, 50), Err(TransportError::NotReady));
    assert_eq!(net.transport.stats().srtp_refused, 1);
}

#[test]
fn a_wrong_fingerprint_fails_in_each_role_and_version() {
    for role in [DtlsRole::Passive, DtlsRole::Active] {
        for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
            let mut net = Network::new(identity(), V4, role, version, |media| media.fingerprints[0].digest[31] ^= 1);
            assert!(net.run(40 * SECOND, |net| !net.events.is_empty()));
            assert_eq!(net.events, [TransportEvent::Failed(TransportFailure::FingerprintMismatch)], "{role:?}");
            assert_eq!(net.transport.protect_rtp(&mut [0x80; 100], 50), Err(TransportError::NotReady));
            assert_eq!(net.transport.poll_timeout(), None);
        }
    }
}

#[test]
fn a_description_without_a_usable_fingerprint_is_refused() {
    let mut net = network(DtlsRole::Passive, DtlsVersion::Auto);
    let mut media = net.browser.media(&our_credentials(), DtlsRole::Passive);
    media.fingerprints[0].algorithm = "sha-1".into();
    assert!(matches!(Transport::new(identity(), &media, net.now), Err(TransportError::NoFingerprint)));
}

#[test]
fn handshakes_survive_a_tenth_of_loss() {
    for seed in 0..12u8 {
        let role = if seed % 2 == 0 { DtlsRole::Passive } else { DtlsRole::Active };
        let version = if seed % 3 == 0 { DtlsVersion::Dtls12 } else { DtlsVersion::Auto };
        let mut net = network(role, version);
        let mut random = StdRng::from_seed([seed; 32]);
        net.lose = Box::new(move |_, _| random.random_bool(0.1));
        connect(&mut net, 25 * SECOND);
        net.lose = Box::new(|_, _| false);
        talk(&mut net, 1000);
    }
}

#[test]
fn each_single_lost_datagram_of_a_set_up_is_made_good() {
    for lost in 1..20 {
        let mut net = network(DtlsRole::Passive, DtlsVersion::Dtls13);
        net.lose = Box::new(move |count, _| count == lost);
        connect(&mut net, 5 * SECOND);
    }
}

#[test]
fn a_browser_that_never_checks_times_out() {
    let mut net = network(DtlsRole::Passive, DtlsVersion::Auto);
    net.lose = Box::new(|_, _| true);
    let begun = net.now;
    assert!(net.run(60 * SECOND, |net| !net.events.is_empty()));
    assert_eq!(net.events, [TransportEvent::Failed(TransportFailure::IceTimeout)]);
    assert_eq!(net.now - begun, 30 * SECOND);
}

#[test]
fn a_browser_that_checks_and_never_shakes_hands_fails() {
    let mut net = network(DtlsRole::Passive, DtlsVersion::Auto);
    let begun = net.now;
    while net.events.is_empty() && net.now - begun < 60 * SECOND {
        net.deliver(V4.0.parse().unwrap(), request("Ring:t", &our_credentials().pwd, &[]));
        let mut buf = [0; 1500];
        while net.transport.poll_transmit(&mut buf).is_some() {}
        net.now += SECOND;
        net.transport.handle_timeout(net.now);
        net.events.extend(net.transport.poll_event());
    }
    assert_eq!(net.events, [TransportEvent::Failed(TransportFailure::DtlsFailed)]);
    assert_eq!(net.now - begun, 30 * SECOND);
}

#[test]
fn consent_expires_half_a_minute_after_the_last_check() {
    let mut net = connected(DtlsRole::Passive, DtlsVersion::Auto);
    assert!(!net.run(120 * SECOND, |net| net.events.len() > 1), "{:?}: checks keep it alive", net.events);
    net.lose = Box::new(|_, to_us| to_us);
    let gone = net.now;
    assert!(net.run(60 * SECOND, |net| net.events.len() > 1));
    assert_eq!(net.events[1], TransportEvent::Failed(TransportFailure::ConsentExpired));
    let waited = net.now - gone;
    assert!(waited > 20 * SECOND && waited <= 30 * SECOND + SECOND / 100, "{waited:?}");
    assert_eq!(net.transport.protect_rtp(&mut [0x80; 100], 50), Err(TransportError::NotReady));
    assert!(!net.transport.is_connected() && !net.transport.is_over());
    // RFC 7675 section 5.1: nothing is sent until it checks again, here after an ICE restart; DTLS and keys are as they were.
    let next = IceCredentials::new("Next", "the-next-password-22-ch");
    net.transport.restart_ice(net.now, next.clone(), next.clone());
    net.run(SECOND, |_| false);
    assert_eq!(net.transport.protect_rtp(&mut [0x80; 100], 50), Err(TransportError::NotReady));
    let address = V4.0.parse().unwrap();
    net.deliver(address, request("Next:t", &next.pwd, &[(0x0025, Vec::new())]));
    net.collect();
    assert_eq!(net.events.last(), Some(&TransportEvent::Connected));
    assert_eq!(net.transport.protect_rtp(&mut [0x80; 100], 50).map(|(_, to)| to), Ok(address));
}

#[test]
fn an_ice_restart_after_which_no_check_comes_is_told_as_lost_again() {
    let mut net = connected(DtlsRole::Passive, DtlsVersion::Auto);
    net.lose = Box::new(|_, to_us| to_us);
    assert!(net.run(60 * SECOND, |net| net.events.len() > 1));
    let next = IceCredentials::new("Next", "the-next-password-22-ch");
    net.transport.restart_ice(net.now, next.clone(), next);
    let begun = net.now;
    assert!(net.run(60 * SECOND, |net| net.events.len() > 2));
    assert_eq!(net.events[2], TransportEvent::Failed(TransportFailure::ConsentExpired));
    assert!(net.now - begun >= 30 * SECOND);
    assert!(!net.run(120 * SECOND, |net| net.events.len() > 3), "once");
}

#[test]
fn a_browser_that_moves_behind_its_nat_is_followed() {
    let mut net = connected(DtlsRole::Passive, DtlsVersion::Auto);
    talk(&mut net, 1000);
    net.translate = Box::new(|_| "203.0.113.9:50123".parse().unwrap());
    // Nothing reaches it until its next check (or it is heard) from there.
    assert!(net.run(20 * SECOND, |net| net.transport.knows("203.0.113.9:50123".parse().unwrap())));
    net.run(SECOND, |_| false);
    talk(&mut net, 2000);
}

#[test]
fn an_ice_restart_keeps_the_keys() {
    let mut net = connected(DtlsRole::Passive, DtlsVersion::Auto);
    talk(&mut net, 1000);
    let next = IceCredentials::new("Next", "the-next-password-22-ch");
    net.transport.restart_ice(net.now, next.clone(), net.browser.media(&next, DtlsRole::Passive).remote_ice);
    assert_eq!(net.transport.local_ufrag(), "Next");
    talk(&mut net, 2000);
    let source = "203.0.113.9:50123".parse().unwrap();
    net.deliver(source, request("Next:theirs", &next.pwd, &[(attribute::USE_CANDIDATE, vec![])]));
    let mut buf = [0x80; 100];
    assert_eq!(net.transport.protect_rtp(&mut buf, 50).unwrap().1, source);
}

#[test]
fn a_closed_page_is_known_at_once_and_we_say_goodbye_too() {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        let mut net = connected(DtlsRole::Passive, version);
        net.browser.close();
        assert!(net.run(SECOND, |net| net.events.len() > 1), "{version:?}");
        assert_eq!(net.events[1], TransportEvent::Failed(TransportFailure::Closed));

        let mut net = connected(DtlsRole::Passive, version);
        net.transport.close();
        assert!(net.run(SECOND, |net| net.browser.closed), "{version:?}");
    }
}

#[test]
fn strangers_change_nothing_before_or_during_a_connection() {
    let mut net = network(DtlsRole::Passive, DtlsVersion::Dtls13);
    let stranger = "203.0.113.66:6666".parse().unwrap();
    let mut random = StdRng::from_seed([7; 32]);
    // A ClientHello of somebody else, caught on its way.
    let mut other = network(DtlsRole::Passive, DtlsVersion::Dtls13);
    let hello = caught_client_hello(&mut other);
    for round in 0..60 {
        for first in [0u8, 1, 20, 22, 25, 63, 64, 128, 130, 191, 255] {
            let mut noise: Vec<u8> = (0..random.random_range(0..300)).map(|_| random.random()).collect();
            if let Some(byte) = noise.first_mut() {
                *byte = first;
            }
            net.deliver(stranger, noise);
        }
        net.deliver(stranger, hello.clone());
        net.deliver(stranger, request("Ring:x", "guessed", &[(attribute::USE_CANDIDATE, vec![])]));
        net.run(SECOND / 100, |_| false);
        if round == 40 {
            assert_eq!(net.events, [TransportEvent::Connected]);
        }
    }
    assert!(!net.transport.knows(stranger));
    talk(&mut net, 1000);
    let stats = net.transport.stats();
    assert!(stats.dtls_refused >= 60 && stats.stun_refused >= 60 && stats.srtp_refused >= 60, "{stats:?}");
}

fn caught_client_hello(net: &mut Network) -> Vec<u8> {
    for _ in 0..1000 {
        net.now += Duration::from_millis(10);
        net.browser.handle_timeout(net.now);
        while let Some((from, _, bytes)) = net.browser.poll_transmit() {
            if classify(&bytes) == PacketKind::Dtls {
                return bytes;
            }
            net.deliver(from, bytes);
            let mut buf = [0; 1500];
            while let Some((len, to)) = net.transport.poll_transmit(&mut buf) {
                net.browser.receive(net.now, &(net.gateway, to, buf[..len].to_vec()));
            }
        }
    }
    panic!("the browser never said hello");
}

#[test]
fn noise_from_the_browsers_own_address_ends_nothing() {
    for role in [DtlsRole::Passive, DtlsRole::Active] {
        let mut net = network(role, DtlsVersion::Auto);
        let source = V4.0.parse().unwrap();
        let mut random = StdRng::from_seed([9; 32]);
        for _ in 0..200 {
            for first in [0u8, 20, 23, 25, 40, 63, 128, 200] {
                let mut noise: Vec<u8> = (0..random.random_range(1..200)).map(|_| random.random()).collect();
                noise[0] = first;
                net.deliver(source, noise);
                net.collect();
            }
            net.run(SECOND / 200, |_| false);
        }
        connect(&mut net, 5 * SECOND);
        talk(&mut net, 1000);
    }
}

#[test]
fn forged_media_from_the_browsers_own_address_is_refused() {
    let mut net = connected(DtlsRole::Passive, DtlsVersion::Auto);
    talk(&mut net, 1000);
    let before = net.rtp.len();
    for n in 0..100u16 {
        let mut forged = vec![0x80, OPUS, 0, 0, 0, 0, 0, 0];
        forged[2..4].copy_from_slice(&(n * 600).to_be_bytes());
        forged.extend(BROWSER_SSRC.to_be_bytes());
        forged.extend([0x55; 60]);
        net.deliver(V4.0.parse().unwrap(), forged);
    }
    assert_eq!(net.rtp.len(), before);
    assert_eq!(net.transport.stats().srtp_refused, 100);
    talk(&mut net, 2000);
}

#[test]
fn packets_are_told_apart_by_rfc7983() {
    let stun = request("ours:theirs", "x", &[]);
    let table: [(&[u8], PacketKind); 13] = [
        (&[], PacketKind::Other),
        (&[0; 40], PacketKind::Other),
        (&stun, PacketKind::Stun),
        (&[16; 40], PacketKind::Other),
        (&[20; 13], PacketKind::Dtls),
        (&[63; 40], PacketKind::Dtls),
        (&[20; 12], PacketKind::Other),
        (&[64; 40], PacketKind::Other),
        (&[0x80, 111, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], PacketKind::Rtp),
        (&[0x90, 239, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], PacketKind::Rtp),
        (&[0x80, 200, 0, 1, 0, 0, 0, 0], PacketKind::Rtcp),
        (&[0x81, 207, 0, 1, 0, 0, 0, 0], PacketKind::Rtcp),
        (&[192; 40], PacketKind::Other),
    ];
    for (bytes, kind) in table {
        assert_eq!(classify(bytes), kind, "{bytes:02x?}");
    }
    assert_eq!(stun_username(&stun), Some("ours"));
    assert_eq!(stun_username(&request("ours", "x", &[])), None);
    assert_eq!(stun_username(&[0; 40]), None);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn no_datagram_panics(
        datagrams in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..100), 1..20),
        known: bool,
    ) {
        let mut net = network(DtlsRole::Passive, DtlsVersion::Auto);
        let source = V4.0.parse().unwrap();
        if known {
            net.deliver(source, request("Ring:t", &our_credentials().pwd, &[]));
        }
        let mut buf = [0; 1500];
        for mut datagram in datagrams {
            let _ = (classify(&datagram), stun_username(&datagram).map(str::len));
            net.transport.handle_datagram(Instant::now(), source, &mut datagram);
            while net.transport.poll_transmit(&mut buf).is_some() {}
        }
    }
}
