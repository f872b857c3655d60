//! Whole calls between two user agents.

use super::net::{A, B, Faults, Net, body, call};
use crate::sip::ua::*;

/// The callee rings at once and answers after 200 ms.
fn answering(net: &mut Net, side: usize, event: &UaEvent) {
    match event {
        UaEvent::Incoming { session, .. } => {
            let session = *session;
            net.after(0, move |net| net.user(side, |ua, now| ua.ring(now, session, 180, None).unwrap()));
            net.after(200, move |net| {
                // The caller may have gone meanwhile.
                net.user(side, |ua, now| ua.accept(now, session, body("answer")).unwrap_or(()));
            });
        }
        UaEvent::Reoffered { session, .. } => {
            let session = *session;
            net.after(50, move |net| {
                net.user(side, |ua, now| ua.answer_reoffer(now, session, Ok(body("answer 2"))).unwrap_or(()));
            });
        }
        _ => {}
    }
}

/// The callee rings and never answers.
fn ringing(net: &mut Net, side: usize, event: &UaEvent) {
    if let UaEvent::Incoming { session, .. } = event {
        let session = *session;
        net.after(0, move |net| net.user(side, |ua, now| ua.ring(now, session, 180, None).unwrap_or(())));
    }
}

fn busy(net: &mut Net, side: usize, event: &UaEvent) {
    if let UaEvent::Incoming { session, .. } = event {
        let session = *session;
        net.after(0, move |net| net.user(side, |ua, now| ua.reject(now, session, 486, "", &[]).unwrap()));
    }
}

pub(super) fn session_of_b(net: &Net) -> Option<SessionId> {
    net.events[B].iter().find_map(|event| match event {
        UaEvent::Incoming { session, .. } => Some(*session),
        _ => None,
    })
}

/// Runs a scenario without faults, then once for each message with just that one lost.
pub(super) fn with_each_message_lost(
    react: fn(&mut Net, usize, &UaEvent),
    script: fn(&mut Net),
    expected_a: &[&str],
    expected_b: &[&str],
) {
    let run = |drop_one: Option<usize>| {
        let mut net = Net::new(7, Faults { drop_one, ..Faults::default() }, react);
        script(&mut net);
        net.settle();
        net.check();
        // What is only news, not state, may be missing or late.
        let state = |side: usize| -> Vec<&str> {
            net.words(side).into_iter().filter(|w| !matches!(*w, "trying" | "provisional")).collect()
        };
        assert_eq!(state(A), expected_a, "lost {drop_one:?}:\n{}", net.log.join("\n"));
        assert_eq!(state(B), expected_b, "lost {drop_one:?}:\n{}", net.log.join("\n"));
        net.log.len()
    };
    let messages = run(None);
    assert!(messages >= 4);
    for lost in 0..messages {
        run(Some(lost));
    }
}

#[test]
fn a_call_ended_by_the_caller() {
    with_each_message_lost(
        answering,
        |net| {
            let id = net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
            net.after(40_000, move |net| net.user(A, |ua, now| ua.hangup(now, id, None)));
        },
        &["answered", "closed"],
        &["incoming", "acked", "ended", "closed"],
    );
}

#[test]
fn a_call_ended_by_the_callee() {
    with_each_message_lost(
        answering,
        |net| {
            net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
            net.after(10_000, |net| {
                let id = session_of_b(net).unwrap();
                net.user(B, |ua, now| ua.hangup(now, id, Some("Q.850;cause=16")));
            });
        },
        &["answered", "ended", "closed"],
        &["incoming", "acked", "closed"],
    );
}

#[test]
fn a_call_refused() {
    with_each_message_lost(
        busy,
        |net| {
            net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
        },
        &["failed", "closed"],
        &["incoming", "closed"],
    );
}

#[test]
fn a_call_cancelled() {
    with_each_message_lost(
        ringing,
        |net| {
            let id = net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
            net.after(5_000, move |net| net.user(A, |ua, now| ua.hangup(now, id, Some("SIP;cause=487"))));
        },
        &["failed", "closed"],
        &["incoming", "cancelled", "closed"],
    );
}

#[test]
fn a_call_with_reoffers_and_digits_both_ways() {
    with_each_message_lost(
        answering,
        |net| {
            let a = net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
            net.after(10_000, move |net| net.user(A, |ua, now| ua.reoffer(now, a, body("hold")).unwrap()));
            net.after(20_000, |net| {
                let b = session_of_b(net).unwrap();
                net.user(B, |ua, now| ua.reoffer(now, b, body("hold")).unwrap());
            });
            net.after(30_000, move |net| net.user(A, |ua, now| ua.info(now, a, body("1")).unwrap()));
            net.after(40_000, |net| {
                let b = session_of_b(net).unwrap();
                net.user(B, |ua, now| ua.info(now, b, body("2")).unwrap());
            });
            net.after(50_000, move |net| net.user(A, |ua, now| ua.hangup(now, a, None)));
        },
        &["answered", "reoffer-answered", "reoffered", "info", "closed"],
        &["incoming", "acked", "reoffered", "reoffer-answered", "info", "ended", "closed"],
    );
}

#[test]
fn nobody_there_ends_after_64_t1() {
    let mut net = Net::new(1, Faults { loss: 100, ..Faults::default() }, answering);
    let start = net.now;
    net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
    net.settle();
    net.check();
    let [UaEvent::Failed { status: 408, why: Failure::Timeout, .. }, UaEvent::Closed { .. }] = net.events[A].as_slice()
    else {
        panic!("{:?}", net.events[A])
    };
    assert_eq!(net.sent(A, "INVITE"), 7);
    assert_eq!((net.now - start).as_secs(), 32);
}

#[test]
fn a_lost_ack_is_sent_again_for_each_repeated_200() {
    // INVITE, 100, 180, PRACK, 200, 200, ACK: the seventh message is lost.
    let mut net = Net::new(1, Faults { drop_one: Some(6), ..Faults::default() }, answering);
    let id = net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
    net.after(5_000, move |net| net.user(A, |ua, now| ua.hangup(now, id, None)));
    net.settle();
    net.check();
    assert_eq!(net.sent(A, "ACK"), 2, "{}", net.log.join("\n"));
    assert_eq!(net.words(B), ["incoming", "acked", "ended", "closed"]);
}

#[test]
fn a_200_never_acknowledged_ends_with_bye() {
    let mut net = Net::new(1, Faults::default(), |net, side, event| {
        answering(net, side, event);
        // From the answer on, nothing of the caller's arrives any more.
        if side == A && matches!(event, UaEvent::Provisional { .. }) {
            net.faults.loss = 100;
        }
    });
    net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
    net.settle();
    let ended = net.events[B].iter().find_map(|event| match event {
        UaEvent::Ended { by, .. } => Some(*by),
        _ => None,
    });
    assert_eq!(ended, Some(EndedBy::NoAck), "{}", net.log.join("\n"));
    // T1, 2*T1, 4*T1, T2 ...: 10 repetitions in 32 s after the first (section 13.3.1.4).
    assert_eq!(net.sent(B, "SIP/2.0 200"), 11, "{}", net.log.join("\n"));
    assert!(net.sent(B, "BYE") > 0);
    assert_eq!(net.ua[B].session_count(), 0);
    assert_eq!(net.ua[B].transaction_count(), 0);
}

#[test]
fn cancel_crossing_the_200_is_acknowledged_and_ended() {
    // The way takes 10 ms and the callee answers after 200: a hangup between 201 and 219 ms crosses the 200.
    for ms in [201, 205, 210, 215, 219] {
        let mut net = Net::new(1, Faults::default(), answering);
        let id = net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
        net.after(ms, move |net| net.user(A, |ua, now| ua.hangup(now, id, None)));
        net.settle();
        net.check();
        let failed = net.events[A]
            .iter()
            .any(|event| matches!(event, UaEvent::Failed { status: 487, why: Failure::Cancelled, .. }));
        assert!(failed, "{ms} ms: {:?}", net.words(A));
        assert_eq!((net.sent(A, "CANCEL"), net.sent(A, "ACK"), net.sent(A, "BYE")), (1, 1, 1));
        assert_eq!(net.words(B), ["incoming", "acked", "ended", "closed"], "{ms} ms");
    }
}

#[test]
fn a_hangup_before_any_response_cancels_after_the_first_provisional() {
    let mut net = Net::new(1, Faults::default(), ringing);
    let id = net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
    net.user(A, |ua, now| ua.hangup(now, id, None));
    assert_eq!(net.sent(A, "CANCEL"), 0);
    net.settle();
    net.check();
    assert_eq!(net.sent(A, "CANCEL"), 1);
    assert_eq!(net.words(A), ["failed", "closed"]);
    assert_eq!(net.words(B), ["incoming", "cancelled", "closed"]);
}

#[test]
fn bye_crossing_bye_gets_200_both_ways() {
    let mut net = Net::new(1, Faults::default(), answering);
    let a = net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
    net.after(1_000, move |net| {
        let b = session_of_b(net).unwrap();
        net.user(A, |ua, now| ua.hangup(now, a, None));
        net.user(B, |ua, now| ua.hangup(now, b, None));
    });
    net.settle();
    net.check();
    assert_eq!((net.sent(A, "BYE"), net.sent(B, "BYE")), (1, 1));
    let log = net.log.join("\n");
    assert!(!log.contains("481"), "{log}");
    assert_eq!(net.words(A), ["trying", "provisional", "answered", "closed"]);
    assert_eq!(net.words(B), ["incoming", "acked", "closed"]);
}

#[test]
fn the_callee_that_hangs_up_before_the_ack_waits_for_it() {
    let mut net = Net::new(1, Faults { drop_one: Some(4), ..Faults::default() }, |net, side, event| {
        if let UaEvent::Incoming { session, .. } = event {
            let session = *session;
            net.after(0, move |net| {
                net.user(side, |ua, now| {
                    let options = SessionOptions { reliable: Reliable::Off, ..SessionOptions::default() };
                    ua.configure(now, session, options).unwrap();
                    ua.ring(now, session, 183, Some(body("early"))).unwrap();
                    ua.accept(now, session, body("answer")).unwrap();
                    ua.hangup(now, session, None);
                });
            });
        }
    });
    net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
    net.settle();
    net.check();
    let log = net.log.join("\n");
    let ack = log.find("A ACK").unwrap();
    assert!(log.find("B BYE").unwrap() > ack, "{log}");
    assert_eq!(net.words(B), ["incoming", "closed"]);
}

#[test]
fn glare_is_refused_with_491_and_both_offers_get_through() {
    let mut net = Net::new(3, Faults::default(), answering);
    let a = net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
    net.after(1_000, move |net| {
        let b = session_of_b(net).unwrap();
        net.user(A, |ua, now| ua.reoffer(now, a, body("from a")).unwrap());
        net.user(B, |ua, now| ua.reoffer(now, b, body("from b")).unwrap());
    });
    net.after(20_000, move |net| net.user(A, |ua, now| ua.hangup(now, a, None)));
    net.settle();
    net.check();
    assert_eq!((net.sent(A, "SIP/2.0 491"), net.sent(B, "SIP/2.0 491")), (1, 1), "{}", net.log.join("\n"));
    for side in [A, B] {
        let words = net.words(side);
        assert!(words.contains(&"reoffered") && words.contains(&"reoffer-answered"), "{words:?}");
    }
    // The caller owns the Call-ID and waits longer (section 14.1): both INVITEs after the two of the glare.
    let retry = |who: &str| -> u64 {
        let again = net.log.iter().filter(|line| line.contains(who)).nth_back(0).unwrap();
        again.trim_start().split(' ').next().unwrap().parse().unwrap()
    };
    assert!((3_100..5_100).contains(&retry("A INVITE")), "{}", net.log.join("\n"));
    assert!((1_000..3_100).contains(&retry("B INVITE")), "{}", net.log.join("\n"));
}

#[test]
fn a_refused_reoffer_leaves_the_call_as_it_was() {
    let mut net = Net::new(3, Faults::default(), |net, side, event| match event {
        UaEvent::Reoffered { session, .. } => {
            let session = *session;
            net.after(0, move |net| net.user(side, |ua, now| ua.answer_reoffer(now, session, Err(488)).unwrap()));
        }
        event => answering(net, side, event),
    });
    let a = net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
    net.after(1_000, move |net| net.user(A, |ua, now| ua.reoffer(now, a, body("x")).unwrap()));
    net.after(2_000, move |net| net.user(A, |ua, now| ua.info(now, a, body("5")).unwrap()));
    net.after(3_000, move |net| net.user(A, |ua, now| ua.hangup(now, a, None)));
    net.settle();
    net.check();
    assert!(net.events[A].iter().any(|e| matches!(e, UaEvent::ReofferAnswered { result: Err(488), .. })));
    assert_eq!(net.words(B), ["incoming", "acked", "reoffered", "info", "ended", "closed"]);
}

#[test]
fn a_drained_user_agent_refuses_new_calls_and_keeps_those_it_has() {
    let mut net = Net::new(3, Faults::default(), answering);
    let a = net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
    net.after(1_000, |net| {
        net.ua[B].drain(true);
        net.user(A, |ua, now| ua.invite(now, call(A)).unwrap());
    });
    net.after(2_000, move |net| net.user(A, |ua, now| ua.reoffer(now, a, body("x")).unwrap()));
    net.after(3_000, move |net| net.user(A, |ua, now| ua.hangup(now, a, None)));
    net.settle();
    net.check();
    let refused = net.events[A].iter().find_map(|event| match event {
        UaEvent::Failed { status: 503, headers, .. } => headers.get("Retry-After").map(str::to_owned),
        _ => None,
    });
    assert!(refused.is_some());
    assert!(net.words(A).contains(&"reoffer-answered"));
}

/// Extensions as the number draws them.
fn some_options(draw: u64) -> SessionOptions {
    let reliable = [Reliable::Supported, Reliable::Off, Reliable::Required, Reliable::Supported][(draw % 4) as usize];
    let refresher = [None, Some(Refresher::Us), Some(Refresher::Them)][(draw / 4 % 3) as usize];
    let timer = SessionTimer { expires: 90 + (draw / 12 % 2) as u32 * 30, min_se: 90, refresher };
    SessionOptions { reliable, timer: (draw % 5 > 1).then_some(timer), ..SessionOptions::default() }
}

/// Both users do random things at random times over a network that does its worst.
fn random_call(seed: u64) -> Net {
    fn act(net: &mut Net, side: usize, event: &UaEvent) {
        let (session, word) = super::net::word(event);
        let acts = match word {
            "incoming" => 5,
            "answered" | "acked" | "pracked" | "reoffered" | "reoffer-answered" => 3,
            "provisional" => 1,
            _ => 0,
        };
        if word == "incoming" {
            let options = some_options(net.random(1_000));
            net.after(0, move |net| net.user(side, |ua, now| ua.configure(now, session, options).unwrap_or(())));
        }
        for _ in 0..acts {
            let (delay, choice) = (net.random(3_000), net.random(12));
            net.after(delay, move |net| {
                net.user(side, |ua, now| {
                    let _ = match choice {
                        0 => ua.ring(now, session, 180, None),
                        1 => ua.ring(now, session, 183, Some(body("early"))),
                        2..=4 => ua.accept(now, session, body("answer")),
                        5 => ua.reject(now, session, 486, "", &[]),
                        6 => ua.reoffer(now, session, body("again")),
                        7 | 8 => ua.answer_reoffer(now, session, Ok(body("answer"))),
                        9 => ua.answer_reoffer(now, session, Err(488)),
                        10 => ua.info(now, session, body("1")),
                        _ => {
                            ua.hangup(now, session, None);
                            Ok(())
                        }
                    };
                });
            });
        }
        if word == "incoming" || word == "answered" {
            // It ends one day, in any case.
            let delay = 5_000 + net.random(200_000);
            net.after(delay, move |net| net.user(side, |ua, now| ua.hangup(now, session, None)));
        }
    }
    let faults = Faults {
        loss: u32::try_from(seed % 4).unwrap() * 12,
        repeat: u32::try_from(seed % 3).unwrap() * 20,
        jitter: (seed % 5) * 300,
        drop_one: None,
    };
    let mut net = Net::new(seed, faults, act);
    let options = some_options(net.random(1_000));
    let offer = (net.random(8) > 0).then(|| body("offer"));
    let invite = Invite { options, body: offer, ..call(A) };
    let id = net.user(A, |ua, now| ua.invite(now, invite).unwrap());
    let delay = net.random(200_000);
    net.after(delay, move |net| net.user(A, |ua, now| ua.hangup(now, id, None)));
    net.settle();
    net
}

#[test]
fn whatever_happens_each_session_ends_once_and_leaves_nothing() {
    for seed in 0..1_000 {
        random_call(seed).check();
    }
}

#[test]
fn the_same_seed_gives_the_same_messages() {
    for seed in [5, 23] {
        assert_eq!(random_call(seed).log, random_call(seed).log);
    }
}
