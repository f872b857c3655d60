//! The phone in virtual time, number by number; and once with real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod loopback;

use std::time::Duration;

use bench::{Bench, GATEWAY, address, flow, invite, local, offer};

use crate::codec::g711::Law;
use crate::codec::tone::{Note, TonePlayer, amplitude, detect_dtmf, rms};
use crate::rtp::event::{EventSender, EventStep, char_event};
use crate::sdp::{Direction, trunk};
use crate::sip::{Body, EndedBy, Message, UaEvent};
use crate::testphone::{Output, melody};

/// What arrives when `pcm` is sent as A-law.
fn coded(pcm: &[i16]) -> Vec<i16> {
    pcm.iter().map(|sample| Law::A.decode_sample(Law::A.encode_sample(*sample))).collect()
}

/// The digits that sound in `pcm`, in order.
fn digits(pcm: &[i16]) -> String {
    let mut frames: Vec<Option<char>> = pcm.chunks_exact(160).map(detect_dtmf).collect();
    frames.dedup();
    frames.into_iter().flatten().collect()
}

#[test]
fn an_unknown_number_is_not_found() {
    for number in ["607", "6000", "60", "bob", "%36%30%30%30"] {
        let mut bench = Bench::new();
        bench.call(number);
        assert_eq!(bench.failure(), Some(404), "{number}");
        bench.run(40_000);
        bench.assert_over();
    }
}

#[test]
fn n600_plays_back_what_it_hears() {
    let mut bench = Bench::new();
    let session = bench.call("600");
    assert_eq!(bench.media().direction, Direction::SendRecv);
    let notes = [Note::single(700.0, 1_000)];
    let mut said = [0; 8_000];
    TonePlayer::once(&notes, 8_000).fill(&mut said);
    for (n, frame) in said.chunks_exact(160).enumerate() {
        let mut payload = [0; 160];
        Law::A.encode(frame, &mut payload);
        bench.send(8, n as u32 * 160, &payload);
        bench.run(20);
    }
    bench.run(200);
    let echo = bench.audio();
    let start = echo.iter().position(|sample| *sample > 500).unwrap();
    assert!(start <= 2 * 160 + 40, "the delay is {start} samples");
    assert!(amplitude(&echo[start..start + 7_800], 8_000, 700.0) > 7_500.0);
    assert!(rms(&echo[start + 8_000..]) < 20.0);
    bench.caller.hangup(bench.now, session, None);
    bench.run(40_000);
    bench.assert_over();
}

#[test]
fn n601_plays_the_melody_over_and_over_on_an_even_clock() {
    let mut bench = Bench::new();
    let session = bench.call("601");
    let start = bench.now;
    bench.run(20_000);
    assert_eq!(bench.heard.len(), 1_000);
    for (n, pair) in bench.heard.windows(2).enumerate() {
        assert_eq!(pair[0].at, start + Duration::from_millis(20 * n as u64));
        assert_eq!(pair[1].header.sequence, pair[0].header.sequence.wrapping_add(1));
        assert_eq!(pair[1].header.timestamp, pair[0].header.timestamp.wrapping_add(160));
        assert_eq!((pair[1].header.ssrc, pair[1].header.marker), (pair[0].header.ssrc, false));
    }
    assert!(bench.heard[0].header.marker);
    let expected: Vec<i16> = melody().iter().copied().cycle().take(160_000).collect();
    assert_eq!(bench.audio(), coded(&expected));
    assert_eq!(bench.reports, 3, "at 5, 10 and 15 seconds");
    bench.caller.hangup(bench.now, session, None);
    bench.run(40_000);
    assert!(bench.heard.is_empty(), "nothing is played after the end");
    assert_eq!(bench.reports, 4, "and a BYE");
    bench.assert_over();
}

#[test]
fn n602_reads_digits_in_rtp_and_plays_them_back() {
    let mut bench = Bench::new();
    bench.call("602");
    let clock = bench.media().telephone_event.unwrap();
    bench.run(1_000);
    assert!(rms(&bench.audio()) > 500.0, "the prompt");
    let mut sender = EventSender::new(clock.clock_rate);
    "1100#".chars().for_each(|digit| assert!(sender.queue(char_event(digit).unwrap(), 100)));
    for n in 0_u32.. {
        match sender.step(n * 160, 160) {
            EventStep::Packet(packet) => bench.send(clock.payload_type, packet.timestamp, &packet.payload),
            EventStep::Audio if sender.busy() => bench.send(8, n * 160, &[Law::A.silence(); 160]),
            EventStep::Audio => break,
        }
        bench.run(20);
    }
    bench.run(2_000);
    assert_eq!(digits(&bench.audio()), "1100");
}

#[test]
fn n602_reads_digits_in_info_and_plays_them_back_after_a_pause() {
    let mut bench = Bench::new();
    let session = bench.call("602");
    bench.run(1_000);
    bench.audio();
    for (content_type, text) in [("application/dtmf-relay", "Signal=7\r\nDuration=160\r\n"), ("application/dtmf", "*")]
    {
        let body = Body { content_type: content_type.into(), bytes: text.into() };
        bench.caller.info(bench.now, session, body).unwrap();
        bench.run(300);
    }
    bench.run(1_100);
    assert_eq!(digits(&bench.audio()), "");
    bench.run(1_000);
    assert_eq!(digits(&bench.audio()), "7*");
}

#[test]
fn n603_is_busy() {
    let mut bench = Bench::new();
    bench.call("603");
    assert_eq!(bench.failure(), Some(486));
    bench.run(40_000);
    bench.assert_over();
}

#[test]
fn n604_rings_until_the_caller_gives_up() {
    let mut bench = Bench::new();
    let session = bench.call("604");
    assert_eq!(bench.provisionals(), [(180, None)]);
    bench.run(600_000);
    assert_eq!((bench.answer(), bench.failure(), bench.heard.len()), (None, None, 0));
    bench.caller.hangup(bench.now, session, None);
    bench.run(40_000);
    assert_eq!(bench.failure(), Some(487));
    bench.assert_over();
}

#[test]
fn n605_plays_before_it_answers_and_goes_on() {
    let mut bench = Bench::new();
    let session = bench.call("605");
    let early = bench.provisionals();
    assert_eq!(early.len(), 1);
    let (183, Some(_)) = &early[0] else { panic!("{early:?}") };
    bench.run(2_900);
    assert!(!bench.answered());
    bench.run(200);
    assert!(bench.answered() && bench.answer().is_none(), "what was acknowledged is not said again");
    bench.run(3_000);
    let heard = bench.audio();
    assert_eq!(heard.len(), 6_100 * 8);
    assert_eq!(heard, coded(&melody()[..heard.len()]));
    bench.caller.hangup(bench.now, session, None);
    bench.run(40_000);
    bench.assert_over();
}

#[test]
fn n605_may_be_cancelled_while_it_plays() {
    let mut bench = Bench::new();
    let session = bench.call("605");
    bench.run(1_000);
    bench.caller.hangup(bench.now, session, None);
    bench.run(40_000);
    assert_eq!(bench.failure(), Some(487));
    assert_eq!(bench.heard.len(), 50);
    bench.assert_over();
}

/// Calls 606 and waits until it calls back.
fn called_back() -> (Bench, crate::sip::SessionId) {
    let mut bench = Bench::new();
    bench.call("606");
    bench.run(1_400);
    let ended = |event: &UaEvent| matches!(event, UaEvent::Ended { by: EndedBy::Remote, .. });
    assert!(bench.events.iter().any(ended), "{:?}", bench.events);
    let beeps = bench.audio();
    let sounding: Vec<bool> = beeps.chunks_exact(160).map(|frame| rms(frame) > 1_000.0).collect();
    assert_eq!(sounding.windows(2).filter(|pair| pair == &[false, true]).count(), 2, "two beeps");
    assert!(bench.open.is_empty());
    bench.run(600);
    assert_eq!(bench.caller.session_count(), 0, "not at once");
    bench.run(300);
    let incoming = bench.events.iter().find_map(|event| match event {
        UaEvent::Incoming { session, request, .. } => Some((*session, request.clone())),
        _ => None,
    });
    let (session, request) = incoming.expect("a call back");
    assert_eq!(request.uri.to_string(), format!("sip:alice@{GATEWAY}"));
    assert_eq!(request.headers.from().unwrap().uri.user.as_deref(), Some("606"));
    assert!(!request.body.is_empty());
    (bench, session)
}

#[test]
fn n606_calls_back_and_plays_the_melody() {
    let (mut bench, session) = called_back();
    let request = bench.events.iter().find_map(|event| match event {
        UaEvent::Incoming { request, .. } => Some(request.clone()),
        _ => None,
    });
    let (answer, media) = trunk::answer(&local(Direction::SendRecv, 1), &request.unwrap().body).unwrap();
    assert_eq!(media.send.payload_type, 0);
    // The bench listens to A-law: take that alone.
    let answer = answer.replace("RTP/AVP 0 8 101", "RTP/AVP 8 101").replace("a=rtpmap:0 PCMU/8000\r\n", "");
    bench.caller.ring(bench.now, session, 180, None).unwrap();
    bench.run(5_000);
    assert!(bench.heard.is_empty());
    let body = Body { content_type: "application/sdp".into(), bytes: answer.into_bytes() };
    bench.caller.accept(bench.now, session, body).unwrap();
    bench.run(1_000);
    assert_eq!(bench.audio(), coded(&melody()[..8_000]));
    bench.caller.hangup(bench.now, session, None);
    bench.run(60_000);
    bench.assert_over();
}

#[test]
fn n606_takes_no_for_an_answer() {
    let (mut bench, session) = called_back();
    bench.caller.reject(bench.now, session, 603, "", &[]).unwrap();
    bench.run(120_000);
    bench.assert_over();
    let calls = bench.events.iter().filter(|event| matches!(event, UaEvent::Incoming { .. })).count();
    assert_eq!(calls, 1);
}

#[test]
fn n606_gives_up_when_nobody_answers() {
    let (mut bench, session) = called_back();
    bench.caller.ring(bench.now, session, 180, None).unwrap();
    bench.run(61_000);
    assert!(bench.events.iter().any(|event| matches!(event, UaEvent::Cancelled { .. })));
    bench.run(40_000);
    bench.assert_over();
}

#[test]
fn hold_silences_the_phone_and_resume_goes_on() {
    let mut bench = Bench::new();
    let session = bench.call("601");
    bench.run(1_000);
    let before = bench.heard.last().unwrap().header;
    bench.caller.reoffer(bench.now, session, offer(Direction::SendOnly, 2)).unwrap();
    bench.run(1_000);
    let answer = |bench: &Bench| {
        bench.events.iter().rev().find_map(|event| match event {
            UaEvent::ReofferAnswered { result: Ok(Some(body)), .. } => {
                Some(String::from_utf8(body.bytes.clone()).unwrap())
            }
            _ => None,
        })
    };
    assert!(answer(&bench).unwrap().contains("a=recvonly"));
    assert_eq!(bench.heard.len(), 50);
    bench.caller.reoffer(bench.now, session, offer(Direction::SendRecv, 3)).unwrap();
    bench.run(1_000);
    assert!(answer(&bench).unwrap().contains("a=sendrecv"));
    assert_eq!(bench.heard.len(), 100);
    let after = &bench.heard[50].header;
    assert_eq!((after.ssrc, after.sequence), (before.ssrc, before.sequence.wrapping_add(1)));
    assert!(after.marker);
    assert_eq!(after.timestamp, before.timestamp.wrapping_add(51 * 160));
    assert_eq!(bench.audio(), coded(&melody()[..16_000]), "no note is lost");
}

#[test]
fn an_invite_without_an_offer_gets_ours() {
    let mut bench = Bench::new();
    let head = |method: &str, branch: &str, to_tag: &str, body: &str| {
        format!(
            "{method} sip:601@127.0.0.1:5070 SIP/2.0\r\nVia: SIP/2.0/UDP {GATEWAY};branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@127.0.0.1>;tag=f\r\nTo: <sip:601@127.0.0.1>{to_tag}\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:alice@{GATEWAY}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let invite = head("INVITE", "1", "", "").replace("Content-Type: application/sdp\r\n", "");
    bench.phone.handle_sip(bench.now, address(GATEWAY), invite.as_bytes());
    let mut ok = None;
    while let Some(output) = bench.phone.poll_output() {
        match output {
            Output::Open { call } => {
                bench.open.insert(call);
                bench.phone.opened(bench.now, call, Some(address("127.0.0.1:8000")));
            }
            Output::Sip { bytes, .. } => match Message::parse(&bytes).unwrap() {
                Message::Response(response) if response.status == 200 => ok = Some(response),
                _ => {}
            },
            other => panic!("{other:?}"),
        }
    }
    let ok = ok.expect("a 200");
    let (answer, _) = trunk::answer(&local(Direction::SendRecv, 1), &ok.body).unwrap();
    let answer = answer.replace("RTP/AVP 0 8 101", "RTP/AVP 8 101").replace("a=rtpmap:0 PCMU/8000\r\n", "");
    let tag = format!(";tag={}", ok.headers.to().unwrap().tag().unwrap());
    bench.phone.handle_sip(bench.now, address(GATEWAY), head("ACK", "2", &tag, &answer).as_bytes());
    bench.run(1_000);
    assert_eq!(bench.heard.len(), 50);
}

#[test]
fn what_cannot_be_is_refused() {
    let text = Some(Body { content_type: "text/plain".into(), bytes: b"hello".to_vec() });
    let broken = |text: &str| Some(Body { content_type: "application/sdp".into(), bytes: text.into() });
    let video = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 9 RTP/AVP 96\r\n";
    for (body, status) in [(broken("nonsense"), 400), (broken(video), 488), (text, 415)] {
        let mut bench = Bench::new();
        bench.caller.invite(bench.now, invite(flow(), "600", body)).unwrap();
        bench.run(40_000);
        assert_eq!(bench.failure(), Some(status));
        bench.assert_over();
    }
    let mut bench = Bench::new();
    bench.ports = false;
    bench.call("600");
    assert_eq!(bench.failure(), Some(503), "no ports");
}

#[test]
fn calls_are_bounded_and_all_end_when_the_phone_closes() {
    let mut bench = Bench::new();
    for n in 0..64 {
        bench.call(if n % 2 == 0 { "601" } else { "604" });
    }
    assert_eq!((bench.failure(), bench.open.len()), (None, 32));
    bench.call("601");
    assert_eq!(bench.failure(), Some(503));
    bench.phone.close(bench.now);
    bench.exchange();
    bench.assert_over();
    bench.events.clear();
    bench.call("600");
    assert_eq!(bench.failure(), Some(503), "closed");
}

#[test]
fn a_closing_phone_calls_nobody_back() {
    let mut bench = Bench::new();
    bench.call("606");
    bench.run(1_500);
    assert!(!bench.phone.is_idle());
    bench.phone.close(bench.now);
    bench.run(10_000);
    bench.assert_over();
}

#[test]
fn strangers_meet_silence() {
    let mut bench = Bench::new();
    let text = "OPTIONS sip:600@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK1\r\n\
        Max-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:600@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n";
    bench.phone.handle_sip(bench.now, address("127.0.0.1:9"), text.as_bytes());
    assert_eq!(bench.phone.poll_output(), None);
    bench.phone.handle_sip(bench.now, address(GATEWAY), text.as_bytes());
    assert!(matches!(bench.phone.poll_output(), Some(Output::Sip { .. })));
}
