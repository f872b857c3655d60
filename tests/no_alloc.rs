//! The packet path allocates nothing: a thousand steps of a whole bridge, both directions, with ICE, DTLS-SRTP, jitter
//! buffers, Opus and G.711, under a counting allocator.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

#[path = "support/call.rs"]
mod call;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use call::Call;
use ringback::codec::opus::OpusSettings;
use ringback::codec::{Codec, Decoder, Encoder, MAX_PACKET_SAMPLES, Rate};
use ringback::media::{Bridge, Means, Port};
use ringback::rtp::packet::RtpHeader;
use ringback::rtp::srtp::{Profile, SrtpContext};
use ringback::sdp::{
    AcceptedCodec, Hears, LegMedia, LegPlan, MediaPlan, RtpMedia, RtpSlot, SrtpKey, SrtpPlan, SrtpSuite,
};

fn no_allocation(codec: Codec) {
    let mut call = Call::connected(codec);
    // Warm-up: buffers find their size.
    for _ in 0..100 {
        call.prepare();
        call.work();
    }
    call.around();
    call.forget();
    let mut allocations = 0;
    for _ in 0..1_000 {
        call.prepare();
        let counted = allocation_counter::measure(|| call.work());
        allocations += counted.count_total;
    }
    call.around();
    assert_eq!(allocations, 0, "{codec:?}");
    // And it was work: each side heard the other's tone, a packet every 20 ms.
    assert!((995..=1_005).contains(&call.heard_by_trunk.len()), "{}", call.heard_by_trunk.len());
    assert!((995..=1_005).contains(&call.heard_by_browser.len()), "{}", call.heard_by_browser.len());
    let (at_trunk, at_browser) = call.levels();
    assert!((6_500.0..9_500.0).contains(&at_trunk), "{at_trunk}");
    assert!((6_500.0..9_500.0).contains(&at_browser), "{at_browser}");
    let stats = call.bridge.stats();
    assert_eq!((stats.a.lost, stats.b.lost, stats.b.rejected), (0, 0, 0));
}

#[test]
fn a_transcoded_call_allocates_nothing_per_packet() {
    no_allocation(Codec::Opus);
}

#[test]
fn a_relayed_call_allocates_nothing_per_packet() {
    no_allocation(Codec::Pcmu);
}

/// Two RTP legs, each with keys of its own, in packets of 20 ms; for the second half of the time the first is on hold.
#[test]
fn an_encrypted_call_from_trunk_to_trunk_allocates_nothing_per_packet() {
    const SUITE: SrtpSuite = SrtpSuite::AesCm128HmacSha1_80;
    let start = Instant::now();
    let send = AcceptedCodec { payload_type: 0, codec: Codec::Pcmu };
    let key = |byte| SrtpKey(vec![byte; SUITE.key_and_salt_len()]);
    let address = |slot: u8| SocketAddr::from(([192, 0, 2, slot], 4_000));
    let leg = |slot: u8, hears| LegPlan {
        media: LegMedia::Rtp(RtpMedia {
            slot: RtpSlot(slot),
            srtp: Some(SrtpPlan { suite: SUITE, our_key: key(slot + 10), their_key: key(slot + 20), their_mki: 0 }),
            ..RtpMedia::new(address(slot), send, u32::from(slot) + 1)
        }),
        hears,
    };
    let plan = |a| MediaPlan { a: Some(leg(0, a)), b: Some(leg(1, Hears::Peer)) };
    let mut bridge = Bridge::new(start, plan(Hears::Peer), &Means::default(), [1; 32]).expect("a bridge");
    let context = |byte| SrtpContext::new(Profile::Aes128CmSha1_80, &[byte; 16], &[byte; 14]).expect("a context");
    let (mut phones, mut ears) = ([context(20), context(21)], [context(10), context(11)]);
    let (mut allocations, mut sent, mut buf) = (0, [0; 2], [0; 1_500]);
    for n in 0..1_000_u16 {
        let now = start + Duration::from_millis(u64::from(n) * 20);
        if n == 500 {
            bridge.update(now, plan(Hears::Music));
        }
        let packets = [0, 1].map(|side: usize| {
            let header = RtpHeader { sequence: n, timestamp: u32::from(n) * 160, ssrc: 9, ..RtpHeader::default() };
            let mut packet = vec![0x55; 182];
            header.write(&mut packet).expect("room");
            phones[side].protect_rtp(&mut packet, 172).expect("room");
            packet
        });
        for (slot, mut packet) in [0, 1].into_iter().zip(packets) {
            let work = || {
                bridge.handle_datagram(now, Port::Rtp(RtpSlot(slot)), address(slot), &mut packet);
                while bridge.poll_timeout().is_some_and(|at| at <= now) {
                    bridge.handle_timeout(now);
                }
            };
            allocations += allocation_counter::measure(work).count_total;
            loop {
                let mut polled = None;
                let work = || polled = bridge.poll_transmit(&mut buf);
                allocations += allocation_counter::measure(work).count_total;
                let Some(transmit) = polled else { break };
                if let Port::Rtp(RtpSlot(slot)) = transmit.port {
                    let packet = &mut buf[..transmit.len];
                    ears[usize::from(slot)].unprotect_rtp(packet).expect("an authentic packet");
                    sent[usize::from(slot)] += 1;
                }
            }
        }
        while bridge.poll_report().is_some() {}
    }
    assert_eq!(allocations, 0);
    assert!(sent.iter().all(|sent| (995..=1_005).contains(sent)), "{sent:?}");
    let stats = bridge.stats();
    assert_eq!((stats.a.packets_in, stats.b.packets_in, stats.a.rejected, stats.b.rejected), (1_000, 1_000, 0, 0));
}

/// A stream's first loss makes the network that speaks for what is lost; nothing after it allocates, at any codec and rate.
#[test]
fn loss_allocates_once_in_a_stream_at_most() {
    for codec in [Codec::Pcmu, Codec::G722, Codec::Opus] {
        for rate in [Rate::Narrow, Rate::Wide] {
            let (Ok(mut encoder), Ok(mut decoder)) =
                (Encoder::new(codec, rate, OpusSettings::of(rate)), Decoder::new(codec, rate))
            else {
                continue;
            };
            let frame = rate.frame();
            let (mut packet, mut pcm) = ([0; 400], [0; MAX_PACKET_SAMPLES]);
            let mut allocations = [0; 2];
            for n in 0..200_i16 {
                let said: Vec<i16> = (0..frame as i16).map(|t| (t % 80 - 40) * (50 + n)).collect();
                let work = || {
                    let len = encoder.encode(&said, &mut packet).expect("a packet");
                    match n % 10 {
                        3..=5 => decoder.conceal(&mut pcm[..frame]),
                        6 => decoder.recover(&packet[..len], &mut pcm[..frame]),
                        8 => decoder.rest(&mut pcm[..frame]),
                        _ => assert_eq!(decoder.decode(&packet[..len], &mut pcm), Ok(frame)),
                    }
                };
                allocations[usize::from(n >= 10)] += allocation_counter::measure(work).count_total;
            }
            assert!(allocations[0] <= 1 && allocations[1] == 0, "{codec:?} at {rate:?}: {allocations:?}");
        }
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocation_counter::measure(|| drop(std::hint::black_box(vec![1_u8; 10]))).count_total, 1);
}
