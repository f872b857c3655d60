//! What the steps of a call's media cost; docs name the figures to beat. Run with `cargo bench --bench media`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

#[path = "../tests/support/call.rs"]
mod call;
#[path = "support/voice.rs"]
mod voice;

use std::hint::black_box;
use std::time::{Duration, Instant};

use call::Call;
use criterion::{Criterion, criterion_group, criterion_main};
use ringback::codec::g711::Law;
use ringback::codec::noise::ComfortNoise;
use ringback::codec::opus::{OpusDecoder, OpusEncoder, OpusSettings};
use ringback::codec::{Codec, Rate, conceal::Concealer};
use ringback::rtp::jitter::Kind;
use ringback::rtp::packet::{RtpHeader, RtpPacket};
use ringback::rtp::playout::{Incoming, Playout, Step};
use voice::voice;

fn codecs(c: &mut Criterion) {
    let pcm = voice(7);
    let mut codes = [0; 160];
    let mut back = [0; 160];
    c.bench_function("g711 mu-law encode and decode 20 ms", |b| {
        b.iter(|| {
            Law::Mu.encode(black_box(&pcm), &mut codes);
            Law::Mu.decode(black_box(&codes), &mut back)
        })
    });
    concealment(c);
    let frames: Vec<[i16; 160]> = (0..50).map(voice).collect();
    for (name, fec) in [("opus encode 20 ms", None), ("opus encode 20 ms with FEC at 10 %", Some(10))] {
        let mut encoder = OpusEncoder::new(Rate::Narrow, OpusSettings { fec, ..OpusSettings::default() }).unwrap();
        let mut packet = [0; 400];
        let mut n = 0;
        c.bench_function(name, |b| {
            b.iter(|| {
                n = (n + 1) % frames.len();
                encoder.encode(black_box(&frames[n]), &mut packet).unwrap()
            })
        });
    }
    let mut encoder = OpusEncoder::new(Rate::Narrow, OpusSettings::default()).unwrap();
    let packets: Vec<Vec<u8>> = frames
        .iter()
        .map(|frame| {
            let mut packet = vec![0; 400];
            let len = encoder.encode(frame, &mut packet).unwrap();
            packet.truncate(len);
            packet
        })
        .collect();
    let mut decoder = OpusDecoder::new(Rate::Narrow).unwrap();
    let mut pcm = [0; 960];
    let mut n = 0;
    c.bench_function("opus decode 20 ms, narrowband", |b| {
        b.iter(|| {
            n = (n + 1) % packets.len();
            decoder.decode(black_box(&packets[n]), &mut pcm).unwrap()
        })
    });
}

/// What a lost frame costs, and what remembering the good ones does.
fn concealment(c: &mut Criterion) {
    let mut back = [0; 160];
    let frame = voice(3);
    let mut concealer = Concealer::new(Rate::Narrow);
    c.bench_function("remember a good frame of 20 ms", |b| b.iter(|| concealer.good(black_box(&mut frame.clone()))));
    c.bench_function("g711 conceal the first 20 ms of a loss, and join", |b| {
        b.iter(|| {
            concealer.conceal(&mut back);
            concealer.good(&mut frame.clone());
        })
    });
    c.bench_function("g711 conceal 20 ms that lead to the next packet, and join", |b| {
        b.iter(|| {
            concealer.lead_to(&frame, &mut back);
            concealer.good(&mut frame.clone());
        })
    });
    c.bench_function("g711 conceal each further 20 ms", |b| {
        b.iter_custom(|steps| {
            let mut spent = Duration::ZERO;
            for _ in 0..steps {
                concealer.good(&mut frame.clone());
                concealer.conceal(&mut back);
                let before = Instant::now();
                concealer.conceal(&mut back);
                spent += before.elapsed();
            }
            spent
        })
    });
    let mut noise = ComfortNoise::new(1);
    noise.set_payload(&[50, 60, 150, 120, 140]);
    c.bench_function("comfort noise with a spectrum, 20 ms", |b| b.iter(|| noise.fill(black_box(&mut back))));
}

fn jitter(c: &mut Criterion) {
    let start = Instant::now();
    let mut playout = Playout::new(20);
    let payload = [0; 160];
    let mut n = 0_u32;
    c.bench_function("playout insert and fetch one packet", |b| {
        b.iter(|| {
            let now = start + Duration::from_millis(u64::from(n) * 20);
            let header = RtpHeader { sequence: n as u16, timestamp: n.wrapping_mul(160), ..RtpHeader::default() };
            let packet = RtpPacket { header, payload: &payload };
            playout.insert(now, &Incoming { packet, clock_rate: 8_000, duration: 160, kind: Kind::Audio, fec: false });
            n += 1;
            matches!(playout.next(now, 0), Step::Packet { .. })
        })
    });
}

/// A whole step of a bridge: one packet in and one out in each direction, SRTP included; divide by 20 ms for the share of a
/// core that a call takes.
fn bridge(c: &mut Criterion) {
    for (name, codec) in
        [("bridge step, Opus to PCMU and back", Codec::Opus), ("bridge step, PCMU relayed", Codec::Pcmu)]
    {
        let mut call = Call::connected(codec);
        c.bench_function(name, |b| {
            b.iter_custom(|steps| {
                let mut spent = Duration::ZERO;
                for _ in 0..steps {
                    call.prepare();
                    let before = Instant::now();
                    call.work();
                    spent += before.elapsed();
                    call.around();
                    call.forget();
                }
                spent
            })
        });
    }
}

criterion_group!(benches, codecs, jitter, bridge);
criterion_main!(benches);
