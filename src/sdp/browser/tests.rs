#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

const FINGERPRINT: &str =
    "sha-256 6B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08";

/// What Chromium 156 offers for one microphone, right after `setLocalDescription`.
fn chromium() -> String {
    format!(
        "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=extmap-allow-mixed\r\n\
         a=msid-semantic: WMS 7f3a\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 0.0.0.0\r\n\
         a=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=ice-options:trickle\r\n\
         a=fingerprint:{FINGERPRINT}\r\na=setup:actpass\r\na=mid:0\r\n\
         a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
         a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n\
         a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
         a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=sendrecv\r\na=msid:7f3a 5c1d\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
         a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
         a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\na=rtpmap:110 telephone-event/48000\r\n\
         a=rtpmap:126 telephone-event/8000\r\na=ssrc:3570614608 cname:4TOk42mSjXCkVIa6\r\n\
         a=ssrc:3570614608 msid:7f3a 5c1d\r\n"
    )
}

/// What Firefox 153 offers.
fn firefox() -> String {
    format!(
        "v=0\r\no=mozilla...THIS_IS_SDPARTA-99.0 7890219438719274102 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:{FINGERPRINT}\r\n\
         a=group:BUNDLE 0\r\na=ice-options:trickle\r\na=msid-semantic:WMS *\r\nm=audio 9 UDP/TLS/RTP/SAVPF 109 9 0 8 101\r\n\
         c=IN IP4 0.0.0.0\r\na=sendrecv\r\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
         a=extmap:2/recvonly urn:ietf:params:rtp-hdrext:csrc-audio-level\r\na=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
         a=fmtp:109 maxplaybackrate=48000;stereo=1;useinbandfec=1\r\na=fmtp:101 0-15\r\na=ice-pwd:5a18cc6d2a4f9ff8f1bb7c3a5c8e9d20\r\n\
         a=ice-ufrag:d6b9c0a1\r\na=mid:0\r\na=msid:{{7f6a}} {{c2d1}}\r\na=rtcp-mux\r\na=rtpmap:109 opus/48000/2\r\n\
         a=rtpmap:9 G722/8000/1\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
         a=setup:actpass\r\na=ssrc:2655508255 cname:{{735484ea}}\r\n"
    )
}

/// A JsSIP-like offer: Chromium's with gathered candidates, an mDNS one among them, and video behind.
fn with_video() -> String {
    let mut text =
        chromium().replace("a=group:BUNDLE 0", "a=group:BUNDLE 0 1").replace("m=audio 9 ", "m=audio 50123 ").replace(
            "a=ice-ufrag",
            "a=candidate:1 1 udp 2122260223 1d2e3f.local 50123 typ host generation 0 network-id 1\r\n\
             a=candidate:2 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active\r\na=ice-ufrag",
        );
    text.push_str(
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\n",
    );
    text
}

fn local() -> BrowserLocal {
    BrowserLocal {
        ice: IceCredentials::new("ourufrag", "our-password-of-24-chars"),
        fingerprint: FINGERPRINT.parse().unwrap(),
        candidates: vec!["192.0.2.1:3478".parse().unwrap(), "[2001:db8::1]:3478".parse().unwrap()],
        ssrc: 4_000_000_001,
        cname: "c7".into(),
        session_id: 77,
        version: 1,
    }
}

fn policy(browser: &[Codec]) -> CodecPolicy {
    CodecPolicy { browser: browser.to_vec(), ..CodecPolicy::default() }
}

fn answered(offer: &str, policy: &CodecPolicy) -> (String, BrowserMedia) {
    BrowserOffer::read(offer).expect(offer).answer(&local(), policy).unwrap()
}

#[test]
fn chromium_gets_opus_under_its_own_numbers() {
    let (text, media) = answered(&chromium(), &CodecPolicy::default());
    let expected = format!(
        "v=0\r\no=- 77 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=group:BUNDLE 0\r\na=msid-semantic: WMS *\r\n\
         m=audio 3478 UDP/TLS/RTP/SAVPF 63 111 110\r\nc=IN IP4 192.0.2.1\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n\
         a=ice-ufrag:ourufrag\r\na=ice-pwd:our-password-of-24-chars\r\n\
         a=candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host\r\n\
         a=candidate:2 1 udp 2130706175 2001:db8::1 3478 typ host\r\na=end-of-candidates\r\n\
         a=fingerprint:{FINGERPRINT}\r\na=setup:passive\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n\
         a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1;maxplaybackrate=8000;sprop-maxcapturerate=8000;maxaveragebitrate=24000\r\n\
         a=rtpmap:110 telephone-event/48000\r\na=fmtp:110 0-16\r\na=ptime:20\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
         a=msid:ringback audio\r\na=ssrc:4000000001 cname:c7\r\n"
    );
    assert_eq!(text, expected);
    let opus = AcceptedCodec { payload_type: 111, codec: Codec::Opus };
    assert_eq!((media.send, media.accepted.as_slice()), (opus, [opus].as_slice()));
    assert_eq!(media.telephone_event, Some(TelephoneEvent { payload_type: 110, clock_rate: 48_000 }));
    assert_eq!(media.remote_ice.ufrag, "EsAw");
    assert_eq!(media.fingerprints.first().map(ToString::to_string).as_deref(), Some(FINGERPRINT));
    assert_eq!((media.dtls, media.direction, media.opus_fec), (DtlsRole::Passive, Direction::SendRecv, true));
    assert_eq!((media.mid_extension, media.ptime), (Some((4, "0".into())), 20));
}

/// RFC 3264 section 8: the same lines in the same order, refused ones too; RFC 8829 section 5.2.2: `actpass` again.
#[test]
fn a_later_offer_keeps_what_was_agreed() {
    let held = with_video().replacen("a=sendrecv", "a=sendonly", 1);
    let (sent, before) = answered(&held, &CodecPolicy::default());
    assert!(sent.contains("a=recvonly") && !sent.contains("a=msid:"), "{sent}");
    let offer = offer_again(&sent, 2, Direction::SendRecv);
    assert!(offer.contains("o=- 77 2 IN IP4 192.0.2.1\r\n") && offer.contains("a=setup:actpass\r\n"), "{offer}");
    assert!(offer.contains("a=sendrecv\r\na=msid:ringback audio\r\n"), "{offer}");
    assert_eq!(offer.matches("a=inactive").count(), 2, "the refused lines stay as they are: {offer}");
    let lines = |text: &str, of: &str| text.lines().filter(|line| line.starts_with(of)).collect::<Vec<_>>().join(" ");
    for of in ["m=", "a=mid:", "a=ice-", "a=candidate", "a=rtpmap", "a=fmtp", "a=ssrc", "a=extmap", "a=fingerprint"] {
        assert_eq!(lines(&offer, of), lines(&sent, of));
    }
    // Whatever role its answer names, the association that stands keeps its own.
    let answer = with_video().replacen("a=sendrecv", "a=recvonly", 1).replace("actpass", "passive");
    let after = read_answer_again(&before, Direction::SendRecv, &CodecPolicy::default(), &answer).unwrap();
    assert_eq!((after.dtls, after.direction), (before.dtls, Direction::SendOnly));
    assert_eq!((after.local_ice, after.ssrc, after.send), (before.local_ice.clone(), before.ssrc, before.send));
    let gone = answer.replace("m=audio 50123", "m=audio 0");
    let refused = read_answer_again(&before, Direction::SendRecv, &CodecPolicy::default(), &gone);
    assert!(matches!(refused, Err(SdpError::Refused | SdpError::Transport)), "{refused:?}");
}

/// A track that is added again has a line of its own (RFC 8829 section 5.2.2): the one that it had stays open, as the bundle's
/// transport is its, and is silent.
#[test]
fn a_track_that_was_added_again_is_heard_in_its_new_line_rfc8829_5_2_2() {
    let line = chromium().split_off(chromium().find("m=audio").unwrap());
    let line = line.replace("a=mid:0", "a=mid:1").replace("3570614608", "1122334455");
    let offer = format!("{}{line}", chromium().replace("a=group:BUNDLE 0", "a=group:BUNDLE 0 1"));
    // Of two tracks from the begin the first is the call's.
    let (text, before) = answered(&offer, &CodecPolicy::default());
    assert!(text.contains("\r\nm=audio 0 "), "{text}");
    assert_eq!(before.mid_extension, Some((4, "0".to_owned())));
    let again = |offer: &str, before| {
        BrowserOffer::read_again(offer, before).expect(offer).answer(&local(), &CodecPolicy::default()).unwrap()
    };
    let (text, media) = again(&offer, &before);
    assert!(text.contains("a=group:BUNDLE 0 1\r\n"), "{text}");
    let lines: Vec<&str> = text.split("\r\nm=audio ").collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[1].starts_with("3478 UDP/TLS/RTP/SAVPF 111\r\n") && lines[2].starts_with("3478 "), "{text}");
    assert!(lines[1].contains("a=mid:0\r\na=inactive\r\n") && !lines[1].contains("a=ssrc:"), "{text}");
    // Chromium offers the next line the extensions of the first, and would not take another that lacks them.
    assert!(lines[1].contains("a=extmap:4 ") && lines[2].contains("a=extmap:4 "), "{text}");
    assert!(lines[2].contains("a=mid:1\r\na=sendrecv\r\n") && lines[2].contains("a=ssrc:"), "{text}");
    assert_eq!((media.direction, media.mid_extension.clone()), (Direction::SendRecv, Some((4, "1".to_owned()))));
    // A hold of the other side's changes the line of the sound alone.
    let held = offer_again(&text, 9, Direction::SendOnly);
    assert!(held.contains("a=mid:0\r\na=inactive\r\n") && held.contains("a=mid:1\r\na=sendonly\r\n"), "{held}");
    let answer = offer.replace("a=setup:actpass", "a=setup:active").replacen("a=sendrecv", "a=inactive", 1);
    let answer = answer.replace("a=sendrecv", "a=recvonly");
    let after = read_answer_again(&media, Direction::SendOnly, &CodecPolicy::default(), &answer).unwrap();
    assert_eq!((after.direction, after.mid_extension), (Direction::SendOnly, media.mid_extension.clone()));
    // Of two lines without a source it is the one that it was.
    let nameless = offer.lines().filter(|line| !line.starts_with("a=ssrc:") && !line.starts_with("a=msid:"));
    let nameless = nameless.fold(String::new(), |text, line| text + line + "\r\n");
    assert_eq!(again(&nameless, &media).1.mid_extension, Some((4, "1".to_owned())));
    let answer = nameless.replace("a=setup:actpass", "a=setup:active").replacen("a=sendrecv", "a=inactive", 1);
    let answer = answer.replace("a=sendrecv", "a=recvonly");
    let after = read_answer_again(&media, Direction::SendOnly, &CodecPolicy::default(), &answer).unwrap();
    assert_eq!((after.direction, after.mid_extension), (Direction::SendOnly, Some((4, "1".to_owned()))));
    let (text, media) = answered(&nameless, &CodecPolicy::default());
    assert!(text.contains("a=group:BUNDLE 0\r\n") && text.contains("\r\nm=audio 0 "), "{text}");
    assert_eq!(media.mid_extension, Some((4, "0".to_owned())));
}

#[test]
fn firefox_has_its_fingerprint_at_the_session_and_events_at_8000_only() {
    let (text, media) = answered(&firefox(), &CodecPolicy::default());
    assert!(text.contains("m=audio 3478 UDP/TLS/RTP/SAVPF 109 101\r\n"), "{text}");
    assert_eq!(media.telephone_event, Some(TelephoneEvent { payload_type: 101, clock_rate: 8_000 }));
    assert_eq!(media.remote_ice.ufrag, "d6b9c0a1");
    assert_eq!(media.fingerprints.len(), 1);
    assert!(media.opus_fec);
}

/// Chromium sends redundancy where the answer has it before Opus (docs/decisions/0018); who does not offer it is not asked.
#[test]
fn redundancy_goes_before_opus_where_it_is_offered_rfc2198_5() {
    let (text, media) = answered(&chromium(), &CodecPolicy::default());
    assert!(text.contains("m=audio 3478 UDP/TLS/RTP/SAVPF 63 111 110\r\n"), "{text}");
    assert!(text.contains("a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:111 opus/48000/2\r\n"), "{text}");
    assert_eq!((media.red, media.send.payload_type), (Some(63), 111), "we send plain Opus");
    let (text, media) = answered(&firefox(), &CodecPolicy::default());
    assert!(media.red.is_none() && !text.contains("red/"), "{text}");
    let off = CodecPolicy { red: false, ..CodecPolicy::default() };
    for (offer, policy) in [
        (chromium(), off),
        (chromium(), policy(&[Codec::Pcmu])),
        // Of another codec, of nothing that it names, at another clock.
        (chromium().replace("63 111/111", "63 0/0"), CodecPolicy::default()),
        (chromium().replace("63 111/111", "63 111/63"), CodecPolicy::default()),
        (chromium().replace("a=fmtp:63 111/111\r\n", ""), CodecPolicy::default()),
        (chromium().replace("red/48000", "red/8000"), CodecPolicy::default()),
    ] {
        let (text, media) = answered(&offer, &policy);
        assert!(media.red.is_none() && !text.contains("red/") && !text.contains(" 63 "), "{text}");
    }
}

/// The same in an offer of ours; a browser that leaves it out of its answer has none.
#[test]
fn redundancy_is_offered_and_taken_back() {
    let policy = CodecPolicy::default();
    let offer = offer(&local(), &policy);
    assert!(offer.contains(" UDP/TLS/RTP/SAVPF 63 111 0 8 9 110 126\r\n"), "{offer}");
    let answer = chromium().replace("a=setup:actpass", "a=setup:active");
    let media = read_answer(&local(), &policy, &answer).unwrap();
    assert_eq!(media.red, Some(63));
    let without = answer.replace(" 63 ", " ");
    assert_eq!(read_answer(&local(), &policy, &without).unwrap().red, None);
    let again = |answer: &str| read_answer_again(&media, Direction::SendRecv, &policy, answer).unwrap().red;
    assert_eq!((again(&answer), again(&without)), (Some(63), None));
}

/// What a browser offers of NACK and transport-wide feedback is declined by silence (docs/decisions/0010).
#[test]
fn feedback_that_steers_nothing_here_is_declined() {
    let offer = chromium().replace("transport-cc\r\n", "transport-cc\r\na=rtcp-fb:111 nack\r\n");
    let (text, media) = answered(&offer, &CodecPolicy::default());
    for declined in ["rtcp-fb", "transport-wide-cc", "a=rtcp-rsize"] {
        assert!(!text.contains(declined), "{declined} in {text}");
    }
    assert!(media.accepted.iter().all(|accepted| accepted.payload_type != 63), "it is no codec");
}

/// A page may ask for G.722 alone, in its offer or in its answer to ours; beside others it is the last.
#[test]
fn g722_is_for_those_who_ask_for_it_alone() {
    let policy = CodecPolicy::default();
    let g722 = AcceptedCodec { payload_type: 9, codec: Codec::G722 };
    let asked = chromium().replace("111 63 9 0 8 13 110 126", "9 126");
    let (text, media) = answered(&asked, &policy);
    assert!(text.contains("SAVPF 9 126\r\n") && text.contains("a=rtpmap:9 G722/8000\r\n"), "{text}");
    assert_eq!((media.send, media.accepted.as_slice()), (g722, [g722].as_slice()));
    let media = read_answer(&local(), &policy, &asked.replace("a=setup:actpass", "a=setup:active")).unwrap();
    assert_eq!((media.send.codec, media.telephone_event.map(|event| event.clock_rate)), (Codec::G722, Some(8_000)));
    let beside = chromium().replace("111 63 9 0 8 13 110 126", "9 0 126");
    assert_eq!(answered(&beside, &policy).1.send.codec, Codec::Pcmu);
}

#[test]
fn the_policy_chooses_the_codec() {
    for (codecs, number, event) in [
        (vec![Codec::Pcmu, Codec::Opus], 0, Some(126)),
        (vec![Codec::Pcma], 8, Some(126)),
        (vec![Codec::G722, Codec::Opus], 9, Some(126)),
        (vec![Codec::Opus], 111, Some(110)),
    ] {
        let (text, media) = answered(&chromium(), &policy(&codecs));
        assert_eq!((media.send.payload_type, media.telephone_event.map(|e| e.payload_type)), (number, event), "{text}");
    }
    let (text, media) = answered(&chromium(), &CodecPolicy { telephone_event: false, ..CodecPolicy::default() });
    assert!(media.telephone_event.is_none() && !text.contains("telephone-event"));
    let none = BrowserOffer::read(&chromium()).unwrap().answer(&local(), &policy(&[]));
    assert_eq!(none.map(|_| ()), Err(SdpError::NoCodec));
}

#[test]
fn further_lines_are_refused_in_their_places() {
    let (text, _) = answered(&with_video(), &CodecPolicy::default());
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("m=")).collect();
    assert_eq!(
        lines,
        [
            "m=audio 3478 UDP/TLS/RTP/SAVPF 63 111 110",
            "m=video 0 UDP/TLS/RTP/SAVPF 96",
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel"
        ]
    );
    assert!(text.contains("a=group:BUNDLE 0\r\n") && text.contains("a=mid:1\r\n") && text.contains("a=mid:2\r\n"));
}

#[test]
fn a_bundle_only_audio_line_takes_its_transport_from_the_first_line() {
    let offer = format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE v a\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n\
         a=mid:v\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=fingerprint:{FINGERPRINT}\r\na=setup:actpass\r\n\
         a=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\nm=audio 0 UDP/TLS/RTP/SAVPF 0\r\na=bundle-only\r\na=mid:a\r\n"
    );
    let (text, media) = answered(&offer, &CodecPolicy::default());
    assert_eq!(media.remote_ice.ufrag, "EsAw");
    assert!(text.contains("a=group:BUNDLE a\r\n"), "{text}");
}

#[test]
fn dtls_roles_follow_the_offer() {
    for (setup, answer, role) in [
        ("actpass", "passive", DtlsRole::Passive),
        ("active", "passive", DtlsRole::Passive),
        ("passive", "active", DtlsRole::Active),
    ] {
        let (text, media) =
            answered(&chromium().replace("a=setup:actpass", &format!("a=setup:{setup}")), &CodecPolicy::default());
        assert!(text.contains(&format!("a=setup:{answer}\r\n")), "{text}");
        assert_eq!(media.dtls, role);
    }
}

#[test]
fn directions_follow_the_offer() {
    for (offered, ours) in [
        ("sendrecv", Direction::SendRecv),
        ("sendonly", Direction::RecvOnly),
        ("recvonly", Direction::SendOnly),
        ("inactive", Direction::Inactive),
    ] {
        let (text, media) =
            answered(&chromium().replace("a=sendrecv", &format!("a={offered}")), &CodecPolicy::default());
        assert!(text.contains(&format!("a={ours}\r\n")), "{text}");
        assert_eq!(media.direction, ours);
        assert_eq!(text.contains("a=msid:"), ours.sends());
    }
}

#[test]
fn an_unusable_offer_says_why() {
    let c = chromium();
    let table = [
        (c.replace("m=audio", "m=video"), SdpError::NoAudio),
        (c.replace("m=audio 9 ", "m=audio 0 "), SdpError::NoAudio),
        (c.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), SdpError::Transport),
        (c.replace("a=ice-ufrag", "a=x"), SdpError::Ice),
        (c.replace("a=ice-ufrag:EsAw", "a=ice-ufrag:Es"), SdpError::Ice),
        (c.replace("a=ice-ufrag:EsAw", &format!("a=ice-ufrag:{}", "x".repeat(257))), SdpError::Ice),
        (c.replace("a=ice-pwd:", "a=ice-pwd: "), SdpError::Ice),
        (c.replace("a=fingerprint", "a=x"), SdpError::Fingerprint),
        (c.replace("sha-256 6B", "sha-256 6"), SdpError::Fingerprint),
        (c.replace(FINGERPRINT, "md5 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF"), SdpError::Fingerprint),
        (c.replace("a=rtcp-mux", "a=x"), SdpError::RtcpMux),
        (c.replace("a=setup:actpass", "a=setup:holdconn"), SdpError::Setup),
        (c.replace("a=group", "a=ice-lite\r\na=group"), SdpError::BothLite),
    ];
    for (offer, error) in table {
        let found = BrowserOffer::read(&offer).map(|_| ()).expect_err(&offer);
        assert_eq!(found, error, "{offer}");
        assert_eq!(found.status(), 488);
    }
    assert_eq!(BrowserOffer::read("nonsense").map(|_| ()).unwrap_err().status(), 400);
}

#[test]
fn long_credentials_and_several_fingerprints_are_taken() {
    let long = "x".repeat(256);
    let second = format!("a=fingerprint:{FINGERPRINT}\r\na=fingerprint:sha-1 {}\r\n", vec!["00"; 20].join(":"));
    let offer = chromium()
        .replace("a=ice-ufrag:EsAw", &format!("a=ice-ufrag:{long}"))
        .replace(&format!("a=fingerprint:{FINGERPRINT}\r\n"), &second);
    let (_, media) = answered(&offer, &CodecPolicy::default());
    assert_eq!(media.remote_ice.ufrag, long);
    assert_eq!(media.fingerprints.len(), 1, "sha-1 alone or beside another is not enough");
}

#[test]
fn what_is_asked_of_opus_follows_what_the_other_side_carries() {
    for (band, expected) in [
        (Band::Narrow, ";maxplaybackrate=8000;sprop-maxcapturerate=8000;maxaveragebitrate=24000"),
        (Band::Wide, ";maxplaybackrate=16000;sprop-maxcapturerate=16000;maxaveragebitrate=32000"),
        (Band::Full, ";maxaveragebitrate=32000"),
    ] {
        let policy = CodecPolicy { band, ..CodecPolicy::default() };
        let line = format!("a=fmtp:111 minptime=10;useinbandfec=1{expected}\r\n");
        assert!(answered(&chromium(), &policy).0.contains(&line), "{band:?}");
        assert!(offer(&local(), &policy).contains(&line), "{band:?}");
    }
    assert_eq!(Band::of([Codec::Pcma, Codec::G722, Codec::Pcmu]), Band::Wide);
    assert_eq!(Band::of([Codec::Pcmu, Codec::Opus]), Band::Full);
    assert_eq!(Band::of([]), Band::Narrow);
}

#[test]
fn our_offer_and_chromiums_answer() {
    let policy = CodecPolicy::default();
    let text = offer(&local(), &policy);
    assert!(text.contains("m=audio 3478 UDP/TLS/RTP/SAVPF 63 111 0 8 9 110 126\r\n"), "{text}");
    assert!(
        text.contains("a=setup:actpass\r\n") && text.contains("a=ice-lite\r\n") && text.contains("a=end-of-candidates")
    );
    let answer = chromium()
        .replace("a=setup:actpass", "a=setup:active")
        .replace("111 63 9 0 8 13 110 126", "63 111 0 8 110 126")
        .replace("a=extmap:4 ", "a=extmap:1 ");
    let media = read_answer(&local(), &policy, &answer).unwrap();
    assert_eq!((media.dtls, media.send.codec), (DtlsRole::Passive, Codec::Opus));
    assert_eq!(media.accepted.iter().map(|a| a.payload_type).collect::<Vec<_>>(), [111, 0, 8]);
    assert_eq!(media.telephone_event, Some(TelephoneEvent { payload_type: 126, clock_rate: 8_000 }));
    let only_wide = answer.replace("110 126", "110");
    let media = read_answer(&local(), &policy, &only_wide).unwrap();
    assert_eq!(media.telephone_event, Some(TelephoneEvent { payload_type: 110, clock_rate: 48_000 }));
}

#[test]
fn a_bad_answer_says_why() {
    let answer = chromium().replace("a=setup:actpass", "a=setup:active");
    let table = [
        (answer.replace("m=audio 9 ", "m=audio 0 "), SdpError::Refused),
        (answer.replace("a=setup:active", "a=setup:actpass"), SdpError::Setup),
        (format!("{answer}m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"), SdpError::NotAnAnswer),
        (answer.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), SdpError::Transport),
        (answer.replace("opus/48000", "opus/44100").replace("PCM", "XXX").replace("G722", "XXX"), SdpError::NoCodec),
    ];
    for (text, error) in table {
        assert_eq!(read_answer(&local(), &CodecPolicy::default(), &text), Err(error), "{text}");
    }
}

/// Our own offer and our own answer are read by our own reader, except that both sides are ICE-lite.
#[test]
fn what_we_write_is_a_description() {
    let text = offer(&local(), &CodecPolicy::default());
    assert_eq!(BrowserOffer::read(&text).map(|_| ()), Err(SdpError::BothLite));
    assert!(BrowserOffer::read(&text.replace("a=ice-lite\r\n", "")).is_ok());
    sdp_types::Session::parse(text.as_bytes()).unwrap();
    sdp_types::Session::parse(answered(&with_video(), &CodecPolicy::default()).0.as_bytes()).unwrap();
}

/// A text with some bytes, words or lines of it changed.
fn mutated(texts: Vec<String>) -> impl Strategy<Value = String> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..6_u8, any::<u8>(), "[ -~]{0,12}"), 0..8);
    (prop::sample::select(texts), edits).prop_map(|(text, edits)| {
        let mut bytes = text.into_bytes();
        for (at, kind, byte, word) in edits {
            let at = if bytes.is_empty() { 0 } else { at.index(bytes.len()) };
            match kind {
                0 if !bytes.is_empty() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if !bytes.is_empty() => drop(bytes.remove(at)),
                3 => bytes.truncate(at),
                4 => drop(bytes.splice(at..at, word.into_bytes())),
                _ => {
                    let copy: Vec<u8> = bytes.iter().skip(at).take(200).copied().collect();
                    bytes.splice(at..at, copy);
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn no_offer_makes_us_panic_or_write_what_is_no_description(text in mutated(vec![chromium(), firefox(), with_video()])) {
        if let Ok(offer) = BrowserOffer::read(&text)
            && let Ok((answer, media)) = offer.answer(&local(), &CodecPolicy::default())
        {
            let read = sdp_types::Session::parse(answer.as_bytes()).expect(&answer);
            prop_assert_eq!(read.medias.len(), offer.session.medias.len());
            prop_assert!(media.accepted.contains(&media.send));
        }
        let _ = read_answer(&local(), &CodecPolicy::default(), &text);
    }
}
