//! The packet path allocates nothing: a thousand steps of a whole bridge, both directions, with ICE, DTLS-SRTP, jitter
//! buffers, Opus and G.711, whatever the effort, under a counting allocator; and a second of a worker's whole turns, with the system's sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "support/call.rs"]
mod call;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use call::Call;
use ringback::codec::opus::OpusSettings;
use ringback::codec::{Codec, Decoder, Encoder, MAX_PACKET_SAMPLES, Rate};
use ringback::media::{Bridge, Effort, Means, Port};
use ringback::net::RtpPair;
use ringback::rtp::packet::RtpHeader;
use ringback::rtp::srtp::{Profile, SrtpContext};
use ringback::sdp::{
    AcceptedCodec, Hears, IceCredentials, LegMedia, LegPlan, MediaPlan, MediaReport, Pass, RtpMedia, RtpSlot, Side,
    SrtpKey, SrtpPlan, SrtpSuite,
};
use ringback::webrtc::Identity;
use ringback::worker::{Reports, Seat, WorkerConfig, WorkerHandle};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpWrite, Ssrc};
use str0m::{Event, Input, Output};

fn no_allocation(codec: Codec, pass: Pass) {
    let mut call = Call::connected_as(codec, pass);
    // Warm-up: buffers find their size.
    for _ in 0..100 {
        call.prepare();
        call.work();
    }
    call.around();
    call.forget();
    let mut allocations = 0;
    for step in 0..1_000 {
        call.prepare();
        let effort = [Effort::Full, Effort::Less, Effort::Least][step / 50 % 3];
        let counted = allocation_counter::measure(|| {
            call.bridge.set_effort(effort);
            call.work();
        });
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
    no_allocation(Codec::Opus, Pass::Quality);
}

#[test]
fn a_relayed_call_allocates_nothing_per_packet() {
    no_allocation(Codec::Pcmu, Pass::Quality);
    no_allocation(Codec::Pcmu, Pass::Cost);
}

#[test]
fn a_workers_turn_allocates_nothing_per_packet() {
    no_allocation_in_a_turn(1);
}

/// What the browser sends is read by another worker, and handed over.
#[test]
fn a_turn_that_hands_over_and_the_turn_of_who_takes_it_allocate_nothing_per_packet() {
    no_allocation_in_a_turn(2);
}

/// Workers' turns, from the poll to the sockets: an independent browser and a phone on loopback, each saying 50 packets a second.
/// The browser's and the phone's own doings are between the turns, and not counted. The last worker reads what the browser
/// sends, the first one has the call.
fn no_allocation_in_a_turn(workers: usize) {
    const PACKETS: usize = 60;
    let bind = || {
        UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.set_nonblocking(true).map(|()| socket)).expect("a port")
    };
    let (phone, rtp, rtcp) = (bind(), bind(), bind());
    let address = |socket: &UdpSocket| socket.local_addr().expect("an address");
    let (at_phone, at_rtp) = (address(&phone), address(&rtp));
    let identity = Identity::generate().expect("a certificate");
    let ours = identity.fingerprint();
    let up = Arc::new(AtomicBool::new(false));
    let tell = up.clone();
    let reports: Reports = Box::new(move |_, report| {
        tell.fetch_or(matches!(report, MediaReport::Connected { side: Side::A, .. }), Ordering::Relaxed);
    });
    let mut seats = Seat::shared("127.0.0.1:0".parse().expect("an address"), workers).expect("a port").into_iter();
    let config = WorkerConfig { max_calls: 4, local_only: false, cpu: None, name: "by hand".into() };
    let means = Means { identity: Some(identity), music: None };
    let seat = seats.next().expect("a seat");
    let (worker, mut turns) = WorkerHandle::by_hand(seat, config.clone(), means.clone(), reports).expect("a worker");
    let mut reader = seats
        .next()
        .map(|seat| WorkerHandle::by_hand(seat, config, means, Box::new(|_, _| {})).expect("another worker"));
    let local = IceCredentials { ufrag: format!("{}ing", worker.ufrag_mark()), pwd: "ring-back-password-22ch".into() };
    let gateway = worker.browser_address();
    // A command about no call: a turn that has nothing to read does not wait.
    let wakes = |worker: &WorkerHandle| worker.remove_pair(0, RtpSlot(0)).expect("room");
    let browser = loop {
        let browser = bind();
        let Some((reader, turns)) = &mut reader else { break browser };
        browser.send_to(b"who reads this?", gateway).expect("sent");
        wakes(reader);
        turns.turn();
        if reader.counters().unroutable > 0 {
            break browser;
        }
    };
    let at_browser = address(&browser);
    let mut rtc = call::browser_side(Instant::now(), at_browser, gateway, &local, &ours);
    let plan = MediaPlan {
        a: Some(call::leg(LegMedia::Browser(call::browser_media(&mut rtc, local, Codec::Pcmu)))),
        b: Some(call::leg(LegMedia::Rtp(call::trunk_media(at_phone)))),
    };
    let pair = RtpPair { port: at_rtp.port(), rtp, rtcp };
    worker.open(1, vec![(RtpSlot(0), pair)], plan, [1; 32]).expect("room");

    let (end, mut next, mut said) = (Instant::now() + Duration::from_secs(20), Instant::now(), 0_u16);
    let (mut heard, mut allocations, mut counted) = ([0; 2], Vec::new(), 0);
    let mut buf = [0; 2_000];
    // At first the counters and the decoders make their room; a stream's first loss makes the network that speaks for what is lost.
    let mut warm = false;
    while counted < PACKETS && Instant::now() < end {
        let now = Instant::now();
        while let Ok((len, from)) = browser.recv_from(&mut buf) {
            if let Ok(receive) = Receive::new(Protocol::Udp, from, at_browser, &buf[..len]) {
                rtc.handle_input(Input::Receive(now, receive)).expect("a datagram of ours");
            }
        }
        if now >= next {
            next += Duration::from_millis(20);
            let header =
                RtpHeader { sequence: said, timestamp: u32::from(said) * 160, ssrc: 7, ..RtpHeader::default() };
            let mut packet = [0x55; 172];
            header.write(&mut packet).expect("room");
            let lost = !warm && said % 16 == 5;
            if !lost {
                phone.send_to(&packet, at_rtp).expect("sent");
            }
            if up.load(Ordering::Relaxed) && !lost {
                let (number, time) = (u64::from(said).into(), u32::from(said) * 160);
                let write = RtpWrite::new(0.into(), number, time, now, &[0x55; 160][..]);
                rtc.direct_api().stream_tx(&Ssrc::from(call::BROWSER_SSRC)).expect("a stream").write_rtp(write);
            }
            said += 1;
        }
        rtc.handle_input(Input::Timeout(now)).expect("time");
        loop {
            match rtc.poll_output().expect("output") {
                Output::Timeout(_) => break,
                Output::Transmit(sent) => drop(browser.send_to(&sent.contents, sent.destination)),
                Output::Event(Event::RtpPacket(_)) => heard[0] += 1,
                Output::Event(_) => {}
            }
        }
        while phone.recv_from(&mut buf).is_ok() {
            heard[1] += 1;
        }
        warm = heard[0] >= 50 && heard[1] >= 50;
        if let Some((reader, _)) = &reader {
            wakes(reader);
        }
        let turn = allocation_counter::measure(|| {
            if let Some((_, turns)) = &mut reader {
                turns.turn();
            }
            turns.turn();
        });
        if warm {
            allocations.extend((turn.count_total > 0).then_some((said, turn.count_total)));
            counted = heard[0].min(heard[1]) - 50;
        }
    }
    assert!(counted >= PACKETS, "{heard:?} of {said}");
    // Not one a packet. In real time something rare may fall into it when the machine is busy; in virtual time, above, nothing may.
    let all: u64 = allocations.iter().map(|(_, count)| count).sum();
    assert!(all < 3, "{all}, in the turns after packets {allocations:?}; {heard:?} of {said}");
    turns.end();
    worker.stop();
    if let Some((reader, turns)) = reader {
        assert!(reader.counters().handed_over >= PACKETS as u64, "{:?}", reader.counters());
        turns.end();
        reader.stop();
    }
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
            allocations += taken(&mut bridge, &mut buf, |slot, packet| {
                ears[slot].unprotect_rtp(packet).expect("an authentic packet");
                sent[slot] += 1;
            });
        }
        while bridge.poll_report().is_some() {}
    }
    assert_eq!(allocations, 0);
    assert!(sent.iter().all(|sent| (995..=1_005).contains(sent)), "{sent:?}");
    let stats = bridge.stats();
    assert_eq!((stats.a.packets_in, stats.b.packets_in, stats.a.rejected, stats.b.rejected), (1_000, 1_000, 0, 0));
}

/// Takes what a bridge sends, and tells of its RTP by which slot it goes; gives the allocations of the bridge.
fn taken(bridge: &mut Bridge, buf: &mut [u8], mut heard: impl FnMut(usize, &mut [u8])) -> u64 {
    let mut allocations = 0;
    loop {
        let mut polled = None;
        allocations += allocation_counter::measure(|| polled = bridge.poll_transmit(buf)).count_total;
        let Some(transmit) = polled else { return allocations };
        if let Port::Rtp(RtpSlot(slot)) = transmit.port {
            heard(usize::from(slot), &mut buf[..transmit.len]);
        }
    }
}

/// Two RTP legs in wideband, or one of them: G.722 is transcoded, Opus on both sides goes on as it is.
#[test]
fn a_call_in_wideband_allocates_nothing_per_packet() {
    for codecs in
        [[Codec::G722, Codec::Pcmu], [Codec::G722, Codec::G722], [Codec::G722, Codec::Opus], [Codec::Opus, Codec::Opus]]
    {
        no_allocation_between(codecs);
    }
}

fn no_allocation_between(codecs: [Codec; 2]) {
    let start = Instant::now();
    let address = |slot: usize| SocketAddr::from(([192, 0, 2, slot as u8], 4_000));
    let rate = |codec: Codec| if codec.is_wideband() { Rate::Wide } else { Rate::Narrow };
    let number = |codec: Codec| codec.static_payload_type().unwrap_or(111);
    let leg = |slot: usize| {
        let send = AcceptedCodec { payload_type: number(codecs[slot]), codec: codecs[slot] };
        let media = RtpMedia { slot: RtpSlot(slot as u8), ..RtpMedia::new(address(slot), send, slot as u32 + 1) };
        Some(LegPlan { media: LegMedia::Rtp(media), hears: Hears::Peer })
    };
    let plan = MediaPlan { a: leg(0), b: leg(1) };
    let mut bridge = Bridge::new(start, plan, &Means::default(), [1; 32]).expect("a bridge");
    let mut mouths = codecs.map(|codec| {
        let rate = rate(codec);
        Encoder::new(codec, rate, OpusSettings::of(rate)).expect("an encoder")
    });
    let mut ears = codecs.map(|codec| Decoder::new(codec, rate(codec)).expect("a decoder"));
    let (mut allocations, mut sent, mut loudest) = (0, [0; 2], [0; 2]);
    let mut buf = [0; 1_500];
    for n in 0..1_000_u16 {
        let now = start + Duration::from_millis(u64::from(n) * 20);
        for slot in 0..2 {
            let (codec, frame) = (codecs[slot], rate(codecs[slot]).frame());
            let tone = |i| ((usize::from(n) * frame + i) as f32 * 0.3).sin() * 8_000.0;
            let pcm: Vec<i16> = (0..frame).map(|i| tone(i) as i16).collect();
            let mut packet = [0; 500];
            let len = mouths[slot].encode(&pcm, &mut packet[12..]).expect("room");
            let (payload_type, timestamp) = (number(codec), u32::from(n) * codec.clock_rate() / 50);
            let header = RtpHeader { payload_type, sequence: n, timestamp, ssrc: 9, ..RtpHeader::default() };
            header.write(&mut packet).expect("room");
            let mut work = || {
                let packet = &mut packet[..12 + len];
                bridge.handle_datagram(now, Port::Rtp(RtpSlot(slot as u8)), address(slot), packet);
                while bridge.poll_timeout().is_some_and(|at| at <= now) {
                    bridge.handle_timeout(now);
                }
            };
            if n < 100 {
                work(); // buffers find their size
            } else {
                allocations += allocation_counter::measure(work).count_total;
            }
            allocations += taken(&mut bridge, &mut buf, |slot, packet| {
                let mut pcm = [0; MAX_PACKET_SAMPLES];
                let len = ears[slot].decode(&packet[12..], &mut pcm).expect("sound");
                loudest[slot] = pcm[..len].iter().map(|sample| sample.unsigned_abs()).max().unwrap_or_default();
                sent[slot] += 1;
            });
        }
        while bridge.poll_report().is_some() {}
    }
    assert_eq!(allocations, 0, "{codecs:?}");
    assert!(sent.iter().all(|sent| (990..=1_005).contains(sent)), "{codecs:?}: {sent:?}");
    assert!(loudest.iter().all(|peak| (6_000..10_000).contains(peak)), "{codecs:?}: {loudest:?}");
    let stats = bridge.stats();
    assert_eq!((stats.a.packets_in, stats.b.packets_in, stats.a.rejected, stats.b.rejected), (1_000, 1_000, 0, 0));
}

/// Packets of Opus that hold the one before, too, of which each seventh is lost and heard from the next.
#[test]
fn redundancy_that_repairs_allocates_nothing_per_packet() {
    const RED: u8 = 63;
    let start = Instant::now();
    let address = |slot: u8| SocketAddr::from(([192, 0, 2, slot], 4_000));
    let leg = |slot: u8, payload_type, codec, red| {
        let send = AcceptedCodec { payload_type, codec };
        let new = RtpMedia::new(address(slot), send, u32::from(slot) + 1);
        let media = LegMedia::Rtp(RtpMedia { slot: RtpSlot(slot), red, ..new });
        Some(LegPlan { media, hears: Hears::Peer })
    };
    let plan = MediaPlan { a: leg(0, 111, Codec::Opus, Some(RED)), b: leg(1, 0, Codec::Pcmu, None) };
    let mut bridge = Bridge::new(start, plan, &Means::default(), [1; 32]).expect("a bridge");
    let mut encoder = Encoder::new(Codec::Opus, Rate::Narrow, OpusSettings::default()).expect("Opus");
    let (mut before, mut allocations, mut buf) = (Vec::new(), 0, [0; 1_500]);
    for n in 0..1_000_u16 {
        let now = start + Duration::from_millis(u64::from(n) * 20);
        let mut own = [0; 400];
        let pcm: [i16; 160] = std::array::from_fn(|i| ((usize::from(n) * 160 + i) as f32 * 0.3).sin() as i16 * 8_000);
        let len = encoder.encode(&pcm, &mut own).expect("room");
        let header = RtpHeader {
            payload_type: RED,
            sequence: n,
            timestamp: u32::from(n) * 960,
            ssrc: 9,
            ..RtpHeader::default()
        };
        let head = (1 << 31 | 111 << 24 | 960 << 10 | before.len() as u32).to_be_bytes();
        let mut packet = [&[0; 12][..], &head, &[111], &before, &own[..len]].concat();
        header.write(&mut packet).expect("room");
        before = own[..len].to_vec();
        let mut work = || {
            if n % 7 != 3 {
                bridge.handle_datagram(now, Port::Rtp(RtpSlot(0)), address(0), &mut packet);
            }
            while bridge.poll_timeout().is_some_and(|at| at <= now) {
                bridge.handle_timeout(now);
            }
            while bridge.poll_transmit(&mut buf).is_some() {}
        };
        if n < 100 {
            // The first losses are concealed, which is made ready by the first.
            work();
        } else {
            allocations += allocation_counter::measure(work).count_total;
        }
        while bridge.poll_report().is_some() {}
    }
    assert_eq!(allocations, 0);
    let stats = bridge.stats().a;
    assert!(stats.repaired >= 140 && stats.rejected == 0, "{stats:?}");
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
