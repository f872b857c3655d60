//! What the steps of a call take, in time; docs name the figures to beat. Run with `cargo bench --bench media`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

#[path = "../tests/support/call.rs"]
mod call;
#[path = "support/steps.rs"]
mod steps;
#[path = "support/voice.rs"]
mod voice;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ringback::codec::Rate;
use ringback::codec::conceal::Concealer;
use ringback::codec::noise::ComfortNoise;
use steps::STEPS;
use voice::voice;

/// The steps whose instructions are counted, too (`tests/counts/run`).
fn steps(c: &mut Criterion) {
    for (name, make) in STEPS {
        let mut step = None;
        c.bench_function(name, |b| {
            let step = step.get_or_insert_with(make);
            b.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    step.before();
                    let begun = Instant::now();
                    step.work();
                    spent += begun.elapsed();
                }
                spent
            });
        });
    }
}

/// What a lost frame costs, and what remembering the good ones does.
fn concealment(c: &mut Criterion) {
    let mut back = [0; 160];
    let frame = voice::<160>(3);
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

criterion_group!(benches, steps, concealment);
criterion_main!(benches);
