//! All orders of everything that can happen in one call: who does what when, which packet arrives next, which is lost or
//! comes twice, when the next timer fires. After each of them every party was told of one end, with one cause, and nothing
//! is left: no call, session, transaction, lease or timer (`World::finish`).
//!
//! Each test says how many orders it must have gone through; all of them together take some ten seconds where the machine
//! does nothing else, and come to 65,000 orders; where they are optimised, as in CI, to many more.

use crate::support::model::{Act, Deed, From, explore};
use Deed::{
    BrowserAccepts, BrowserHangsUp, BrowserHolds, BrowserRejects, BrowserResumes, TrunkAnswers, TrunkEarly,
    TrunkHangsUp, TrunkHolds, TrunkRefuses, TrunkResumes, TrunkRings,
};

/// A browser's call on a network that may reorder; acts say what is worse.
const OUT: Act = Act { inbound: false, from: From::Dialled, deeds: &[], losses: 0, copies: 0, ticks: 0 };
const IN: Act = Act { inbound: true, ..OUT };
const OUT_RINGING: Act = Act { from: From::Ringing, ..OUT };
const OUT_EARLY: Act = Act { from: From::Early, ..OUT };
const OUT_TALKING: Act = Act { from: From::Talking, ..OUT };
const IN_RINGING: Act = Act { from: From::Ringing, ..IN };
const IN_TALKING: Act = Act { from: From::Talking, ..IN };

/// Explores an act, and wants so many orders of it at least.
fn covers(orders: u128, act: Act) {
    let tally = explore(act);
    assert!(tally.orders >= orders, "{tally:?}");
}

/// What takes too long without optimisation is tried where the tests run with it, as in CI.
fn covers_when_optimised(orders: u128, act: Act) {
    if !cfg!(debug_assertions) {
        covers(orders, act);
    }
}

#[test]
fn the_caller_gives_up_while_the_phone_answers() {
    covers(800, Act { deeds: &[TrunkRings, BrowserHangsUp], ..OUT });
    covers(200, Act { deeds: &[TrunkAnswers, BrowserHangsUp], losses: 1, ..OUT_RINGING });
    covers_when_optimised(10_000, Act { deeds: &[TrunkRings, TrunkAnswers, BrowserHangsUp], ..OUT });
}

#[test]
fn the_caller_gives_up_while_early_media_comes() {
    covers(800, Act { deeds: &[TrunkEarly, BrowserHangsUp], ..OUT });
    covers_when_optimised(10_000, Act { deeds: &[TrunkEarly, TrunkAnswers, BrowserHangsUp], ..OUT });
}

#[test]
fn an_update_crosses_the_answer_and_the_callers_end() {
    covers(80, Act { deeds: &[TrunkHolds, TrunkAnswers], losses: 1, ..OUT_EARLY });
    covers(500, Act { deeds: &[TrunkHolds, TrunkAnswers, BrowserHangsUp], ..OUT_EARLY });
}

#[test]
fn a_prack_is_lost() {
    covers(50, Act { deeds: &[TrunkEarly], losses: 1, ticks: 1, ..OUT });
    covers(50, Act { deeds: &[BrowserAccepts], losses: 1, ..IN });
    covers_when_optimised(1_000, Act { deeds: &[BrowserAccepts], losses: 1, ticks: 1, ..IN });
}

#[test]
fn the_caller_gives_up_while_the_phone_answers_and_a_packet_is_lost() {
    covers(2_000, Act { deeds: &[TrunkAnswers, BrowserHangsUp], losses: 1, ..OUT });
    covers_when_optimised(100_000, Act { deeds: &[TrunkRings, TrunkAnswers, BrowserHangsUp], losses: 1, ..OUT });
}

#[test]
fn the_caller_gives_up_while_the_phone_answers_and_a_timer_fires() {
    covers_when_optimised(1_000, Act { deeds: &[TrunkAnswers, BrowserHangsUp], ticks: 1, ..OUT_RINGING });
    covers_when_optimised(10_000, Act { deeds: &[TrunkAnswers, BrowserHangsUp], ticks: 1, ..OUT });
}

#[test]
fn the_caller_gives_up_while_the_phone_refuses_and_a_packet_is_lost() {
    covers(250, Act { deeds: &[TrunkRefuses, BrowserHangsUp], losses: 1, ..OUT });
    covers_when_optimised(1_000, Act { deeds: &[TrunkRefuses, BrowserHangsUp], ticks: 1, ..OUT });
}

#[test]
fn the_phone_answers_and_both_hang_up() {
    covers(10_000, Act { deeds: &[TrunkAnswers, TrunkHangsUp, BrowserHangsUp], ..OUT });
}

#[test]
fn a_packet_comes_twice() {
    covers(10, Act { deeds: &[TrunkHolds], copies: 1, ..OUT_TALKING });
    covers_when_optimised(10_000, Act { deeds: &[TrunkAnswers, BrowserHangsUp], copies: 1, ..OUT });
    covers_when_optimised(100, Act { deeds: &[TrunkHolds, BrowserHangsUp], copies: 1, ..OUT_TALKING });
}

#[test]
fn bye_crosses_bye_and_a_packet_is_lost() {
    covers(1_000, Act { deeds: &[TrunkHangsUp, BrowserHangsUp], losses: 1, ticks: 1, ..OUT_TALKING });
}

#[test]
fn both_hold() {
    covers(1_000, Act { deeds: &[BrowserHolds, TrunkHolds], losses: 1, ..OUT_TALKING });
    covers(1_000, Act { deeds: &[BrowserHolds, TrunkHolds], losses: 1, ..IN_TALKING });
}

#[test]
fn both_hold_and_a_timer_fires() {
    covers_when_optimised(1_000, Act { deeds: &[BrowserHolds, TrunkHolds], ticks: 1, ..OUT_TALKING });
}

#[test]
fn the_browser_holds_while_the_phone_hangs_up() {
    covers(500, Act { deeds: &[BrowserHolds, TrunkHangsUp], losses: 1, ..OUT_TALKING });
    covers_when_optimised(1_000, Act { deeds: &[BrowserHolds, BrowserResumes, TrunkHangsUp], ..OUT_TALKING });
}

#[test]
fn the_phone_holds_while_the_browser_hangs_up() {
    covers(500, Act { deeds: &[TrunkHolds, BrowserHangsUp], losses: 1, ..OUT_TALKING });
    covers_when_optimised(1_000, Act { deeds: &[TrunkHolds, TrunkResumes, BrowserHangsUp], ..OUT_TALKING });
}

#[test]
fn both_hold_while_both_hang_up() {
    let act = Act { deeds: &[BrowserHolds, TrunkHolds, TrunkHangsUp, BrowserHangsUp], ..OUT_TALKING };
    covers_when_optimised(10_000, act);
}

#[test]
fn a_hold_crosses_the_ack() {
    covers_when_optimised(8_000, Act { deeds: &[TrunkAnswers, BrowserHolds, TrunkHangsUp], ..OUT });
    covers(1_000, Act { deeds: &[BrowserAccepts, TrunkHolds, BrowserHolds], ..IN_RINGING });
}

#[test]
fn the_browser_accepts_while_the_caller_gives_up() {
    covers(100, Act { deeds: &[BrowserAccepts, TrunkHangsUp], losses: 1, ..IN_RINGING });
    covers_when_optimised(6_000, Act { deeds: &[BrowserAccepts, TrunkHangsUp], ..IN });
    covers_when_optimised(30_000, Act { deeds: &[BrowserAccepts, TrunkHangsUp], losses: 1, ..IN });
}

#[test]
fn the_browser_rejects_while_the_caller_gives_up() {
    covers(50, Act { deeds: &[BrowserRejects, TrunkHangsUp], losses: 1, ..IN_RINGING });
    covers(50, Act { deeds: &[BrowserRejects, TrunkHangsUp], losses: 1, ticks: 1, ..IN_RINGING });
}

#[test]
fn the_browser_accepts_and_both_hang_up() {
    covers(5_000, Act { deeds: &[BrowserAccepts, TrunkHangsUp, BrowserHangsUp], losses: 1, ..IN_RINGING });
}
