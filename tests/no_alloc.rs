//! The packet path allocates nothing: a thousand steps of a whole bridge, both directions, with ICE, DTLS-SRTP, jitter
//! buffers, Opus and G.711, under a counting allocator.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

#[path = "support/call.rs"]
mod call;

use call::Call;
use ringback::codec::Codec;

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

#[test]
fn the_counter_counts() {
    assert_eq!(allocation_counter::measure(|| drop(std::hint::black_box(vec![1_u8; 10]))).count_total, 1);
}
