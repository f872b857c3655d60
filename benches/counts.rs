//! What the steps of a call cost in instructions, counted by valgrind's callgrind: unlike time, that holds still on a busy
//! machine. `tests/counts/run` compares them with `benches/counts.txt`; `tests/counts/run --write` writes that file anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

#[path = "../tests/support/call.rs"]
mod call;
#[path = "support/voice.rs"]
mod voice;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use call::Call;
use ringback::codec::opus::{OpusDecoder, OpusEncoder, OpusSettings};
use ringback::codec::{Codec, Decoder, Encoder, Rate};
use ringback::rtp::jitter::Kind;
use ringback::rtp::packet::{RtpHeader, RtpPacket};
use ringback::rtp::playout::{Incoming, Playout};
use ringback::rtp::srtp::{Profile, SrtpContext};
use ringback::sip::transaction::{TransactionOutput, Transactions};
use ringback::sip::{Flow, Message, Timers, Transport};
use voice::voice;

/// A count may grow by so much, in hundredths, before the guard speaks.
const MARGIN: u64 = 5;
/// How often each step is done; the count is that of one.
const TIMES: u64 = 200;

/// The steps by name.
const STEPS: [(&str, fn()); 12] = [
    ("opus-decode", || opus_decode(None)),
    ("opus-decode-with-redundancy", || opus_decode(Some(10))),
    ("opus-encode", || opus_encode(None)),
    ("opus-encode-with-redundancy", || opus_encode(Some(10))),
    ("g711-decode-encode", g711),
    ("srtp-gcm-both-ways", || srtp(Profile::AeadAes128Gcm)),
    ("srtp-sha1-both-ways", || srtp(Profile::Aes128CmSha1_80)),
    ("playout-insert-fetch", playout),
    ("bridge-step-transcoded", || bridge(Codec::Opus)),
    ("bridge-step-relayed", || bridge(Codec::Pcmu)),
    ("sip-parse-invite", sip_parse),
    ("sip-transaction", sip_transaction),
];

/// What is counted: callgrind collects from here to its return, by this function's name.
#[inline(never)]
fn measured(step: &mut dyn FnMut()) {
    step();
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--step", name] => match STEPS.iter().find(|step| step.0 == name) {
            Some(step) => {
                step.1();
                ExitCode::SUCCESS
            }
            None => ExitCode::FAILURE,
        },
        ["--baseline", path] => guard(path),
        ["--write", path] => write(path),
        _ => {
            eprintln!("usage: counts --baseline FILE | --write FILE (tests/counts/run knows the file)");
            ExitCode::FAILURE
        }
    }
}

/// One step's instructions.
fn count(name: &str) -> u64 {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=counts::measured")
        .arg(std::env::current_exe().expect("our own path"))
        .args(["--step", name])
        .output()
        .expect("valgrind");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{name}: {said}");
    let collected = said.lines().find_map(|line| line.split("Collected :").nth(1)).expect("callgrind's sum");
    let sum: u64 = collected.trim().parse().expect("a number");
    assert!(sum > TIMES, "{name}: nothing was counted");
    sum / TIMES
}

/// What a count depends on beside our code.
fn tools() -> String {
    let first = |program: &str| {
        let said = Command::new(program).arg("--version").output().map(|run| run.stdout).unwrap_or_default();
        String::from_utf8_lossy(&said).lines().next().unwrap_or("none").trim().to_owned()
    };
    format!("{}, {}, {}, {}", first("rustc"), first("cc"), first("valgrind"), std::env::consts::ARCH)
}

fn write(path: &str) -> ExitCode {
    let mut text = format!("# Instructions a step, written by tests/counts/run --write.\n# {}\n", tools());
    for (name, _) in STEPS {
        writeln!(text, "{name} {}", count(name)).expect("a string has room");
    }
    print!("{text}");
    std::fs::write(path, text).expect("the baseline is written");
    ExitCode::SUCCESS
}

fn guard(path: &str) -> ExitCode {
    let text = std::fs::read_to_string(path).expect("the baseline");
    let same_tools = text.lines().any(|line| line.strip_prefix("# ") == Some(&tools()));
    let baseline: BTreeMap<&str, u64> =
        text.lines().filter_map(|line| line.split_once(' ')).filter_map(|(k, v)| Some((k, v.parse().ok()?))).collect();
    let (mut passed, mut failed) = (0, 0);
    for (name, _) in STEPS {
        let (now, before) = (count(name), baseline.get(name).copied().unwrap_or(0));
        let verdict = if !same_tools {
            "not judged"
        } else if now > before + before * MARGIN / 100 {
            failed += 1;
            "TOO MANY"
        } else if now + now * MARGIN / 100 < before {
            "fewer (--write keeps the gain)"
        } else {
            "as before"
        };
        passed += u32::from(verdict != "TOO MANY");
        println!("{name:<30} {now:>9} instructions, {before:>9} in the baseline: {verdict}");
    }
    if !same_tools {
        println!("The baseline is of other tools than these ({}): counts are shown, and not judged.", tools());
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn encoder(fec: Option<u8>) -> OpusEncoder {
    OpusEncoder::new(Rate::Narrow, OpusSettings { fec, ..OpusSettings::default() }).expect("an encoder")
}

fn opus_encode(fec: Option<u8>) {
    let mut encoder = encoder(fec);
    let frames: Vec<[i16; 160]> = (0..TIMES as usize).map(voice).collect();
    let mut packet = [0; 400];
    measured(&mut || {
        for frame in &frames {
            black_box(encoder.encode(black_box(frame), &mut packet).expect("a packet"));
        }
    });
}

fn opus_decode(fec: Option<u8>) {
    let mut encoder = encoder(fec);
    let mut packet = [0; 400];
    let packets: Vec<Vec<u8>> = (0..TIMES as usize)
        .map(|n| {
            let len = encoder.encode(&voice(n), &mut packet).expect("a packet");
            packet[..len].to_vec()
        })
        .collect();
    let mut decoder = OpusDecoder::new(Rate::Narrow).expect("a decoder");
    let mut pcm = [0; 960];
    measured(&mut || {
        for packet in &packets {
            black_box(decoder.decode(black_box(packet), &mut pcm).expect("sound"));
        }
    });
}

fn g711() {
    let mut encoder = Encoder::new(Codec::Pcmu, Rate::Narrow, OpusSettings::default()).expect("an encoder");
    let mut decoder = Decoder::new(Codec::Pcmu, Rate::Narrow).expect("a decoder");
    let frame = voice(7);
    let (mut codes, mut pcm) = ([0; 160], [0; 960]);
    measured(&mut || {
        for _ in 0..TIMES {
            let len = encoder.encode(black_box(&frame), &mut codes).expect("a packet");
            black_box(decoder.decode(&codes[..len], &mut pcm).expect("sound"));
        }
    });
}

fn srtp(profile: Profile) {
    let key = vec![7; profile.key_len()];
    let salt = vec![9; profile.salt_len()];
    let context = || SrtpContext::new(profile, &key, &salt).expect("a context");
    let (mut ours, mut theirs) = (context(), context());
    let mut packet = [0; 300];
    measured(&mut || {
        for n in 0..TIMES as u16 {
            let header = RtpHeader { sequence: n, timestamp: u32::from(n) * 160, ssrc: 9, ..RtpHeader::default() };
            header.write(&mut packet).expect("room");
            let len = ours.protect_rtp(&mut packet, 172).expect("room");
            black_box(theirs.unprotect_rtp(&mut packet[..len]).expect("authentic"));
        }
    });
}

fn playout() {
    let start = Instant::now();
    let mut playout = Playout::new(20);
    let payload = [0; 160];
    measured(&mut || {
        for n in 0..TIMES as u32 {
            let now = start + Duration::from_millis(u64::from(n) * 20);
            let header = RtpHeader { sequence: n as u16, timestamp: n * 160, ..RtpHeader::default() };
            let packet = RtpPacket { header, payload: &payload };
            playout.insert(now, &Incoming { packet, clock_rate: 8_000, duration: 160, kind: Kind::Audio, fec: false });
            black_box(playout.next(now, 0));
        }
    });
}

fn bridge(codec: Codec) {
    /// The delay of the first seconds, which differs from run to run, has been played away by then.
    const SETTLED: u64 = 1_000;
    let mut call = Call::connected(codec);
    for n in 0..SETTLED + TIMES {
        call.prepare();
        if n < SETTLED {
            call.work();
        } else {
            measured(&mut || call.work());
        }
        call.around();
        call.forget();
    }
}

const INVITE: &str = "INVITE sip:+442079460999@192.0.2.9;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKBRANCH;rport\r\nMax-Forwards: 70\r\n\
    From: \"Alice\" <sip:+442079460142@192.0.2.1>;tag=a73kszlfl\r\nTo: <sip:+442079460999@192.0.2.9;user=phone>\r\n\
    Call-ID: 3848276298220188511@192.0.2.1\r\nCSeq: 1 INVITE\r\nContact: <sip:gw@192.0.2.1:5060>\r\n\
    Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY\r\nSupported: 100rel, timer, replaces\r\n\
    Session-Expires: 1800;refresher=uac\r\nMin-SE: 90\r\nP-Asserted-Identity: <sip:+442079460142@192.0.2.1>\r\n\
    Content-Type: application/sdp\r\nContent-Length: 4\r\n\r\nv=0\n";

fn sip_parse() {
    measured(&mut || {
        for _ in 0..TIMES {
            black_box(Message::parse(black_box(INVITE.as_bytes())).expect("a message"));
        }
    });
}

/// An INVITE comes, is answered with 100, 180 and 486, and acknowledged.
fn sip_transaction() {
    let address = |host: u8| SocketAddr::from(([192, 0, 2, host], 5_060));
    let flow = Flow { transport: Transport::Udp, local: address(9), remote: address(1), id: 0 };
    let mut now = Instant::now();
    let parsed = |text: &str| Message::parse(text.as_bytes()).expect("a message");
    let invites: Vec<Message> = (0..TIMES).map(|n| parsed(&INVITE.replace("BRANCH", &format!("b{n}")))).collect();
    let acks: Vec<Message> = (0..TIMES)
        .map(|n| {
            parsed(&INVITE.replace("BRANCH", &format!("b{n}")).replace("INVITE", "ACK").replace(
                "To: <sip:+442079460999@192.0.2.9;user=phone>",
                "To: <sip:+442079460999@192.0.2.9;user=phone>;tag=b",
            ))
        })
        .collect();
    let mut transactions = Transactions::new(Timers::default(), 1_000);
    measured(&mut || {
        for (invite, ack) in invites.iter().zip(&acks) {
            transactions.receive(now, flow, invite.clone());
            while let Some(output) = transactions.poll_output() {
                if let TransactionOutput::Request { id, request, .. } = output {
                    for (status, reason) in [(100, "Trying"), (180, "Ringing"), (486, "Busy Here")] {
                        transactions.respond(now, id, request.response(status, reason));
                    }
                }
            }
            transactions.receive(now, flow, ack.clone());
            while transactions.poll_output().is_some() {}
            now += Duration::from_secs(10);
            transactions.handle_timeout(now);
            while transactions.poll_output().is_some() {}
        }
    });
    assert!(transactions.is_empty(), "every transaction has ended");
}
