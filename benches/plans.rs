//! Dial plans with 500,000 prefixes: how long it takes to read them, what they weigh, and how long a call waits for them.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a bench reads clocks

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringback::dialplan::{Caller, Plan, PlanFile};

const PREFIXES: u64 = 500_000;

/// Prefixes of four to nine digits, spread over the world, each with a price of each of two trunks.
fn rates() -> String {
    let mut text = "prefix,trunk,price\n".to_owned();
    for n in 0..PREFIXES {
        // An odd factor modulo a power of ten visits every number once.
        let number = n * 7_919_111 % 1_000_000;
        let prefix = format!("{}{number:06}", 1 + n % 9);
        writeln!(text, "+{prefix},one,0.{:04}\n+{prefix},two,0.{:04}", n % 1_000, n % 777).unwrap();
    }
    text
}

fn plan(rates: &str) -> Plan {
    let text = "[[out]]\nname = 'world'\nprefix = '+'\nleast_cost = 'rates.csv'\n";
    let files = [PlanFile { name: "plan.toml".into(), text: text.into() }];
    Plan::load_with(&files, &["one".into(), "two".into()], &mut |_, _| Ok(rates.to_owned())).unwrap()
}

fn tables(c: &mut Criterion) {
    let rates = rates();
    let loaded = plan(&rates);
    println!("{}", loaded.summary());
    let caller = Caller { user: "alice".into(), ..Caller::default() };
    let mut group = c.benchmark_group("plans");
    group.sample_size(10);
    group.bench_function("read 500,000 prefixes", |b| b.iter(|| plan(black_box(&rates))));
    let mut n = 0_u64;
    group.bench_function("route a call by least cost", |b| {
        b.iter(|| {
            n = n.wrapping_add(7_919_111);
            loaded.route_out(&caller, &format!("+{}{:09}", 1 + n % 9, n % 1_000_000_000), 0)
        });
    });
    group.finish();
}

criterion_group!(benches, tables);
criterion_main!(benches);
