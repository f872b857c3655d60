//! PRACK, UPDATE and session timers between two user agents, over a network that loses.

use std::time::Duration;

use super::calls::{session_of_b, with_each_message_lost};
use super::net::{A, B, Faults, Net, body, call};
use crate::sip::ua::*;

/// Refreshed by the caller, or by the callee.
fn timer(refresher: Refresher) -> Option<SessionTimer> {
    Some(SessionTimer { expires: 120, min_se: 90, refresher: Some(refresher) })
}

fn required() -> SessionOptions {
    SessionOptions { reliable: Reliable::Required, ..SessionOptions::default() }
}

/// The callee plays something before he answers, and all of it must be acknowledged.
fn announcing(net: &mut Net, side: usize, event: &UaEvent) {
    match event {
        UaEvent::Incoming { session, .. } => {
            let session = *session;
            net.after(0, move |net| {
                net.user(side, |ua, now| {
                    ua.configure(now, session, required()).unwrap();
                    ua.ring(now, session, 180, None).unwrap();
                    ua.ring(now, session, 183, Some(body("early answer"))).unwrap();
                });
            });
            net.after(60_000, move |net| {
                net.user(side, |ua, now| ua.accept(now, session, body("unused")).unwrap_or(()));
            });
        }
        UaEvent::Reoffered { session, .. } => {
            let session = *session;
            net.user(side, |ua, now| ua.answer_reoffer(now, session, Ok(body("answer 2"))).unwrap_or(()));
        }
        _ => {}
    }
}

fn reliably() -> Invite {
    Invite { options: required(), ..call(A) }
}

#[test]
fn rfc_3262_early_media_gets_through_whatever_is_lost() {
    with_each_message_lost(
        announcing,
        |net| {
            let id = net.user(A, |ua, now| ua.invite(now, reliably()).unwrap());
            net.after(100_000, move |net| {
                let heard: Vec<(u16, bool)> = net.events[A]
                    .iter()
                    .filter_map(|event| match event {
                        UaEvent::Provisional { status, body, reliable: true, .. } => Some((*status, body.is_some())),
                        _ => None,
                    })
                    .collect();
                assert_eq!(heard, [(180, false), (183, true)], "each once and in order");
                net.user(A, |ua, now| ua.hangup(now, id, None));
            });
        },
        &["answered", "closed"],
        &["incoming", "acked", "ended", "closed"],
    );
}

#[test]
fn rfc_3262_a_cancel_while_prack_is_pending() {
    for ms in [11, 15, 19, 21, 25, 30, 35, 40, 45, 50] {
        let mut net = Net::new(5, Faults::default(), announcing);
        let id = net.user(A, |ua, now| ua.invite(now, reliably()).unwrap());
        net.after(ms, move |net| net.user(A, |ua, now| ua.hangup(now, id, None)));
        net.settle();
        net.check();
        assert_eq!(net.words(B), ["incoming", "cancelled", "closed"], "{ms} ms");
        assert_eq!(net.words(A).last(), Some(&"closed"));
        assert_eq!(net.sent(B, "SIP/2.0 487"), 1, "{}", net.log.join("\n"));
    }
}

#[test]
fn rfc_3311_an_early_session_changes_both_ways_whatever_is_lost() {
    with_each_message_lost(
        announcing,
        |net| {
            let id = net.user(A, |ua, now| ua.invite(now, reliably()).unwrap());
            net.after(20_000, move |net| net.user(A, |ua, now| ua.reoffer(now, id, body("early offer")).unwrap()));
            net.after(40_000, |net| {
                let b = session_of_b(net).unwrap();
                net.user(B, |ua, now| ua.reoffer(now, b, body("early offer")).unwrap());
            });
            net.after(100_000, move |net| net.user(A, |ua, now| ua.hangup(now, id, None)));
        },
        &["reoffer-answered", "reoffered", "answered", "closed"],
        &["incoming", "reoffered", "reoffer-answered", "acked", "ended", "closed"],
    );
}

#[test]
fn rfc_3311_glare_in_an_early_dialog_is_refused_with_491_and_both_get_through() {
    let mut net = Net::new(3, Faults::default(), announcing);
    let a = net.user(A, |ua, now| ua.invite(now, reliably()).unwrap());
    net.after(20_000, move |net| {
        let b = session_of_b(net).unwrap();
        net.user(A, |ua, now| ua.reoffer(now, a, body("from a")).unwrap());
        net.user(B, |ua, now| ua.reoffer(now, b, body("from b")).unwrap());
    });
    net.after(100_000, move |net| net.user(A, |ua, now| ua.hangup(now, a, None)));
    net.settle();
    net.check();
    assert_eq!((net.sent(A, "SIP/2.0 491"), net.sent(B, "SIP/2.0 491")), (1, 1), "{}", net.log.join("\n"));
    assert_eq!((net.sent(A, "UPDATE"), net.sent(B, "UPDATE")), (2, 2));
    for side in [A, B] {
        let words = net.words(side);
        assert!(words.contains(&"reoffered") && words.contains(&"reoffer-answered"), "{words:?}");
    }
}

/// An offer is under way in the early dialog while the call is answered: it ends in the established one.
#[test]
fn rfc_3311_an_update_that_the_answer_overtakes() {
    for ms in 59_980..60_025 {
        let mut net = Net::new(3, Faults::default(), announcing);
        let a = net.user(A, |ua, now| ua.invite(now, reliably()).unwrap());
        net.after(ms, move |net| {
            let b = session_of_b(net).unwrap();
            let side = if ms % 2 == 0 { (A, a) } else { (B, b) };
            net.user(side.0, |ua, now| ua.reoffer(now, side.1, body("crossing")).unwrap());
        });
        net.after(100_000, move |net| net.user(A, |ua, now| ua.hangup(now, a, None)));
        net.settle();
        net.check();
        let (from, to) = if ms % 2 == 0 { (A, B) } else { (B, A) };
        assert!(net.words(from).contains(&"reoffer-answered"), "{ms}: {}", net.log.join("\n"));
        assert!(net.words(to).contains(&"reoffered"), "{ms}: {}", net.log.join("\n"));
    }
}

/// The callee answers at once and takes the caller's timer.
fn timed(net: &mut Net, side: usize, event: &UaEvent) {
    if let UaEvent::Incoming { session, .. } = event {
        let session = *session;
        net.after(0, move |net| {
            net.user(side, |ua, now| ua.accept(now, session, body("answer")).unwrap());
        });
    }
}

#[test]
fn rfc_4028_either_side_refreshes_whatever_is_lost() {
    for refresher in [Refresher::Us, Refresher::Them] {
        let script: fn(&mut Net) = match refresher {
            Refresher::Us => |net| refreshed_call(net, Refresher::Us),
            Refresher::Them => |net| refreshed_call(net, Refresher::Them),
        };
        with_each_message_lost(timed, script, &["answered", "closed"], &["incoming", "acked", "ended", "closed"]);
    }
}

fn refreshed_call(net: &mut Net, refresher: Refresher) {
    let options = SessionOptions { timer: timer(refresher), ..SessionOptions::default() };
    let id = net.user(A, |ua, now| ua.invite(now, Invite { options, ..call(A) }).unwrap());
    net.after(400_000, move |net| {
        let (ours, theirs) = if refresher == Refresher::Us { (A, B) } else { (B, A) };
        // One each 60 s, and one of them may have been lost and sent again.
        assert!((6..=7).contains(&net.sent(ours, "UPDATE")), "{}", net.log.join("\n"));
        assert_eq!(net.sent(theirs, "UPDATE"), 0);
        net.user(A, |ua, now| ua.hangup(now, id, None));
    });
}

#[test]
fn rfc_4028_a_session_that_nobody_refreshes_ends_on_both_sides() {
    for refresher in [Refresher::Us, Refresher::Them] {
        let mut net = Net::new(1, Faults::default(), timed);
        let options = SessionOptions { timer: timer(refresher), ..SessionOptions::default() };
        let start = net.now;
        net.user(A, |ua, now| ua.invite(now, Invite { options, ..call(A) }).unwrap());
        net.after(30_000, |net| net.faults.loss = 100);
        net.settle();
        for side in [A, B] {
            let ended: Vec<EndedBy> = net.events[side]
                .iter()
                .filter_map(|event| match event {
                    UaEvent::Ended { by, .. } => Some(*by),
                    _ => None,
                })
                .collect();
            assert_eq!(ended, [EndedBy::SessionTimer], "{}", net.log.join("\n"));
            assert!(net.sent(side, "BYE") > 0);
        }
        // 120 s less 32 is 88 s, and the BYE is given up 32 s later.
        assert_eq!((net.now - start).as_secs(), 120);
    }
}

/// Both would change the session at the moment at which it is refreshed.
#[test]
fn rfc_4028_a_refresh_meets_offers_of_both_sides() {
    for ms in (59_950..60_060).step_by(5) {
        let mut net = Net::new(9, Faults::default(), |net, side, event| match event {
            UaEvent::Reoffered { session, .. } => {
                let session = *session;
                net.after(15, move |net| {
                    net.user(side, |ua, now| ua.answer_reoffer(now, session, Ok(body("answer"))).unwrap_or(()));
                });
            }
            event => timed(net, side, event),
        });
        let options = SessionOptions { timer: timer(Refresher::Us), ..SessionOptions::default() };
        let a = net.user(A, |ua, now| ua.invite(now, Invite { options, ..call(A) }).unwrap());
        net.after(ms, move |net| {
            let b = session_of_b(net).unwrap();
            net.user(A, |ua, now| ua.reoffer(now, a, body("from a")).unwrap());
            net.user(B, |ua, now| ua.reoffer(now, b, body("from b")).unwrap_or(()));
        });
        net.after(300_000, move |net| net.user(A, |ua, now| ua.hangup(now, a, None)));
        net.settle();
        net.check();
        assert!(net.words(A).contains(&"reoffer-answered"), "{ms}: {}", net.log.join("\n"));
        assert_eq!(net.words(A).last(), Some(&"closed"));
        assert!(!net.words(A).contains(&"ended"), "{ms}: {}", net.log.join("\n"));
    }
}

/// RFC 3262 section 3: nobody acknowledges the 183.
#[test]
fn rfc_3262_an_unacknowledged_response_ends_the_call_after_64_t1() {
    let mut net = Net::new(1, Faults::default(), |net, side, event| {
        announcing(net, side, event);
        if matches!(event, UaEvent::Incoming { .. }) {
            net.faults.loss = 100;
        }
    });
    net.user(A, |ua, now| ua.invite(now, reliably()).unwrap());
    let start = net.now;
    net.settle();
    assert_eq!(net.words(B), ["incoming", "cancelled", "closed"]);
    // After 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s.
    assert_eq!(net.sent(B, "SIP/2.0 180"), 7, "{}", net.log.join("\n"));
    assert!(net.sent(B, "SIP/2.0 504") > 0);
    assert!(net.now - start >= Duration::from_secs(32));
}
