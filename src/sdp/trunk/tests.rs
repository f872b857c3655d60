#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::sdp::{SrtpKeys, SrtpPolicy, SrtpSuite};

fn local() -> TrunkLocal {
    TrunkLocal { session_id: 77, version: 3, ..TrunkLocal::new("192.0.2.1:20000".parse().unwrap(), 99) }
}

/// What Asterisk 22 answers.
const ASTERISK: &str = "v=0\r\no=- 77 5 IN IP4 198.51.100.7\r\ns=Asterisk\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n\
    m=audio 17090 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-16\r\na=ptime:20\r\na=maxptime:140\r\na=sendrecv\r\n";

/// What SIPp's built-in scenarios say.
const SIPP: &str = "v=0\r\no=user1 53655765 2353687637 IN IP4 198.51.100.8\r\ns=-\r\nc=IN IP4 198.51.100.8\r\nt=0 0\r\n\
    m=audio 6000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

/// A phone that offers encrypted audio first, fax behind, comfort noise and a payload number of its own.
const PHONE: &str = "v=0\r\no=root 1821 1821 IN IP4 198.51.100.9\r\ns=call\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\n\
    m=audio 5062 RTP/SAVP 8 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:xxx\r\n\
    m=audio 5064 RTP/AVP 18 9 8 0 13 96\r\na=rtpmap:18 G729/8000\r\na=rtpmap:96 telephone-event/8000\r\na=ptime:30\r\n\
    m=image 5066 udptl t38\r\n";

#[test]
fn our_offer_is_clean() {
    assert_eq!(
        offer(&local()),
        "v=0\r\no=- 77 3 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0 8 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n\
         a=ptime:20\r\na=sendrecv\r\n"
    );
    let six = TrunkLocal {
        rtp: "[2001:db8::1]:20000".parse().unwrap(),
        codecs: vec![Codec::Opus, Codec::G722, Codec::Pcma],
        telephone_event: false,
        direction: Direction::SendOnly,
        ..local()
    };
    assert_eq!(
        offer(&six),
        "v=0\r\no=- 77 3 IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\nt=0 0\r\nm=audio 20000 RTP/AVP 111 9 8\r\n\
         a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
         a=rtpmap:9 G722/8000\r\na=rtpmap:8 PCMA/8000\r\na=ptime:20\r\na=sendonly\r\n"
    );
    // Digits at the clock of each codec (RFC 4733 section 2.1); G.722's is 8000 (RFC 3551 section 4.5.2).
    let wide = |codecs: &[Codec]| offer(&TrunkLocal { codecs: codecs.to_vec(), ..local() });
    let opus = wide(&[Codec::Opus, Codec::Pcmu]);
    assert!(opus.contains("RTP/AVP 111 0 101 110\r\n"), "{opus}");
    assert!(
        opus.contains("a=rtpmap:101 telephone-event/8000\r\n")
            && opus.contains("a=rtpmap:110 telephone-event/48000\r\n")
    );
    assert!(wide(&[Codec::G722, Codec::Pcmu]).contains("RTP/AVP 9 0 101\r\n"));
    assert!(wide(&[]).contains("RTP/AVP 0 8 101\r\n"), "both laws where nothing is configured");
}

/// Asterisk 22 with `allow=opus,g722,ulaw`.
const WIDE: &str = "v=0\r\no=- 77 5 IN IP4 198.51.100.7\r\ns=Asterisk\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n\
    m=audio 17090 RTP/AVP 0 107 9 101 102\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:107 opus/48000/2\r\n\
    a=fmtp:107 useinbandfec=1;maxaveragebitrate=24000\r\na=rtpmap:9 G722/8000\r\na=rtpmap:101 telephone-event/48000\r\n\
    a=rtpmap:102 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n";

fn with_codecs(codecs: &[Codec]) -> TrunkLocal {
    TrunkLocal { codecs: codecs.to_vec(), ..local() }
}

/// RFC 3264 section 6.1: the peer's order; where our first codec is wideband those in common go first, in our order.
#[test]
fn the_order_of_an_answer() {
    use Codec::{G722, Opus, Pcma, Pcmu};
    for (ours, answered) in [
        (&[Pcmu, Pcma][..], "0 102"),
        (&[Opus, G722, Pcmu], "107 9 0 101 102"),
        (&[G722, Pcmu, Opus], "9 107 0 102 101"),
        (&[Pcmu, G722], "0 9 102"),
        (&[Opus], "107 101 102"),
        (&[G722, Pcma], "9 102"),
    ] {
        let (text, media) = answer(&with_codecs(ours), WIDE.as_bytes()).unwrap();
        assert!(text.contains(&format!("RTP/AVP {answered}\r\n")), "{ours:?}: {text}");
        assert_eq!(text.contains("a=fmtp:107 minptime=10;useinbandfec=1\r\n"), ours.contains(&Opus), "{text}");
        let clock = if media.send.codec == Opus { 48_000 } else { 8_000 };
        assert_eq!(media.telephone_event.map(|event| event.clock_rate), Some(clock), "{ours:?}");
        assert_eq!((media.opus_fec, media.opus_bitrate), (true, Some(24_000)));
    }
}

#[test]
fn an_answer_with_opus_under_a_number_of_its_own() {
    let local = with_codecs(&[Codec::Opus, Codec::Pcmu]);
    let media = read_answer(&local, WIDE.replace("AVP 0 107 9 101 102", "AVP 107 101").as_bytes()).unwrap();
    assert_eq!(media.send, AcceptedCodec { payload_type: 107, codec: Codec::Opus });
    // What the peer sends may have the number of our offer (RFC 3264 section 6.1).
    let numbers: Vec<u8> = media.accepted.iter().map(|a| a.payload_type).collect();
    assert_eq!(numbers, [107, 111, 0]);
    let event = |payload_type| TelephoneEvent { payload_type, clock_rate: 48_000 };
    assert_eq!((media.telephone_event, media.accepted_events), (Some(event(101)), vec![event(110)]));
}

/// RFC 3264 section 8.3.2: in a session a number keeps its meaning.
#[test]
fn later_offers_keep_the_numbers_of_the_offer_that_was_answered() {
    let mut local = with_codecs(&[Codec::Opus, Codec::Pcmu]);
    let (_, media) = answer(&local, WIDE.as_bytes()).unwrap();
    local.settle_answered(&media);
    let again = offer(&local);
    assert!(again.contains("RTP/AVP 107 0 102 101\r\n") && again.contains("a=rtpmap:107 opus/48000/2\r\n"), "{again}");
    assert!(
        again.contains("a=rtpmap:102 telephone-event/8000\r\na=fmtp:102 0-16\r\na=rtpmap:101 telephone-event/48000")
    );
    // One that means something else there gives way: here 101 is Opus, and no digits were agreed.
    let mut local = with_codecs(&[Codec::Opus, Codec::Pcmu]);
    let offered = WIDE.replace("101 telephone-event/48000", "103 X/1").replace("102 telephone-event/8000", "104 X/1");
    let (_, media) = answer(&local, offered.replace("107", "101").as_bytes()).unwrap();
    local.settle_answered(&media);
    assert!(offer(&local).contains("RTP/AVP 101 0 96 110\r\n"), "{}", offer(&local));
}

#[test]
fn answers_are_read() {
    let media = read_answer(&local(), ASTERISK.as_bytes()).unwrap();
    assert_eq!(media.remote_rtp, Some("198.51.100.7:17090".parse().unwrap()));
    assert_eq!(media.remote_rtcp, Some("198.51.100.7:17091".parse().unwrap()));
    assert_eq!(media.send, AcceptedCodec { payload_type: 0, codec: Codec::Pcmu });
    assert_eq!(media.telephone_event, Some(TelephoneEvent { payload_type: 101, clock_rate: 8_000 }));
    assert_eq!((media.direction, media.ptime, media.ssrc, media.comfort_noise), (Direction::SendRecv, 20, 99, None));

    let media = read_answer(&local(), SIPP.as_bytes()).unwrap();
    assert_eq!(media.telephone_event, None, "digits go by SIP INFO then");
    let accepted: Vec<u8> = media.accepted.iter().map(|a| a.payload_type).collect();
    assert_eq!(accepted, [0, 8], "what we offered is taken although not answered");

    let swapped = ASTERISK.replace("RTP/AVP 0 8 101", "RTP/AVP 8 0 101");
    assert_eq!(read_answer(&local(), swapped.as_bytes()).unwrap().send.codec, Codec::Pcma);
}

/// Digits as tones are for peers that do not negotiate telephone-event.
#[test]
fn tones_take_the_place_of_events_that_are_not_agreed_upon() {
    let inband = Some(InBand { suppress: true });
    let auto = TrunkLocal { telephone_event: true, inband, ..local() };
    assert!(offer(&auto).contains("telephone-event"));
    assert_eq!(read_answer(&auto, ASTERISK.as_bytes()).unwrap().inband, None);
    assert_eq!(read_answer(&auto, SIPP.as_bytes()).unwrap().inband, inband);
    let tones = TrunkLocal { telephone_event: false, inband, ..local() };
    assert!(!offer(&tones).contains("telephone-event"));
    let media = read_answer(&tones, ASTERISK.as_bytes()).unwrap();
    assert_eq!((media.telephone_event, media.inband), (None, inband));
    assert_eq!(read_answer(&local(), SIPP.as_bytes()).unwrap().inband, None);
}

/// RFC 3264 section 6.1: each side sends with the other's numbers.
#[test]
fn digits_under_the_number_of_our_offer_are_taken_where_the_answer_has_another() {
    let event = |payload_type| TelephoneEvent { payload_type, clock_rate: 8_000 };
    let media = read_answer(&local(), ASTERISK.replace("101", "96").as_bytes()).unwrap();
    assert_eq!((media.telephone_event, media.accepted_events), (Some(event(96)), vec![event(101)]));
    let media = read_answer(&local(), ASTERISK.as_bytes()).unwrap();
    assert_eq!((media.telephone_event, media.accepted_events), (Some(event(101)), vec![]));
    // Digits that were not agreed upon go by SIP INFO, if at all.
    assert_eq!(read_answer(&local(), SIPP.as_bytes()).unwrap().accepted_events, []);
}

/// RFC 3611 section 5.1: what the peer wants to be told, at the line or the session, in its answer or its offer.
#[test]
fn voip_metrics_are_wanted_by_who_says_so() {
    for (formats, wanted) in
        [("voip-metrics", true), ("rcvr-rtt=all:10 voip-metrics", true), ("stat-summary=loss,jitt", false), ("", false)]
    {
        let line = format!("{ASTERISK}a=rtcp-xr:{formats}\r\n");
        let session = ASTERISK.replace("t=0 0\r\n", &format!("t=0 0\r\na=rtcp-xr:{formats}\r\n"));
        for text in [line, session] {
            assert_eq!(read_answer(&local(), text.as_bytes()).unwrap().voip_metrics, wanted, "{text}");
            assert_eq!(answer(&local(), text.as_bytes()).unwrap().1.voip_metrics, wanted, "{text}");
        }
    }
    assert!(!read_answer(&local(), ASTERISK.as_bytes()).unwrap().voip_metrics);
    assert!(!offer(&local()).contains("rtcp-xr"), "our offer stays clean");
}

#[test]
fn a_bad_answer_says_why() {
    let table = [
        (ASTERISK.replace("m=audio 17090", "m=audio 0"), SdpError::Refused, 488),
        (ASTERISK.replace("m=audio", "m=image"), SdpError::NoAudio, 488),
        (ASTERISK.replace("RTP/AVP", "RTP/SAVP"), SdpError::Transport, 488),
        (ASTERISK.replace("0 8 101", "3 18").replace("a=rtpmap", "a=x"), SdpError::NoCodec, 488),
        (ASTERISK.replace("c=IN IP4 198.51.100.7", "c=IN IP4 pbx.example"), SdpError::Address, 488),
        (ASTERISK.replace("c=", "y="), SdpError::Address, 488),
        (ASTERISK.replace("c=IN IP4 198.51.100.7", "c=IN IP6 2001:db8::7"), SdpError::AddressFamily, 488),
    ];
    for (answer, error, status) in table {
        assert_eq!(error.status(), status);
        assert_eq!(read_answer(&local(), answer.as_bytes()), Err(error), "{answer}");
    }
    assert_eq!(read_answer(&local(), b"").unwrap_err().status(), 400);
}

#[test]
fn an_offer_is_answered_line_by_line() {
    let with_g722 = TrunkLocal { codecs: vec![Codec::Pcmu, Codec::Pcma, Codec::G722], ..local() };
    let (text, media) = answer(&with_g722, PHONE.as_bytes()).unwrap();
    assert_eq!(
        text,
        "v=0\r\no=- 77 3 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 0 RTP/SAVP 8\r\n\
         m=audio 20000 RTP/AVP 9 8 0 13 96\r\na=rtpmap:9 G722/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:13 CN/8000\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-16\r\na=ptime:30\r\na=sendrecv\r\n\
         m=image 0 udptl t38\r\n"
    );
    assert_eq!(media.send, AcceptedCodec { payload_type: 9, codec: Codec::G722 });
    assert_eq!((media.comfort_noise, media.ptime), (Some(13), 30));
    assert_eq!(media.remote_rtp, Some("198.51.100.9:5064".parse().unwrap()));
    assert_eq!(media.telephone_event, Some(TelephoneEvent { payload_type: 96, clock_rate: 8_000 }));
    let only_secure = SIPP.replace("RTP/AVP", "RTP/SAVP");
    assert_eq!(answer(&local(), only_secure.as_bytes()).map(|_| ()), Err(SdpError::Transport));
}

#[test]
fn hold_and_resume() {
    // (attribute and address of the offer, our answer's direction, whether there is a place to send to)
    let table = [
        ("a=sendrecv", "198.51.100.8", Direction::SendRecv, true),
        ("a=sendonly", "198.51.100.8", Direction::RecvOnly, true),
        ("a=recvonly", "198.51.100.8", Direction::SendOnly, true),
        ("a=inactive", "198.51.100.8", Direction::Inactive, true),
        ("a=sendrecv", "0.0.0.0", Direction::RecvOnly, false),
        ("a=sendonly", "0.0.0.0", Direction::RecvOnly, false),
        ("a=inactive", "0.0.0.0", Direction::Inactive, false),
        ("a=x", "198.51.100.8", Direction::SendRecv, true),
    ];
    for (attribute, ip, direction, sends_somewhere) in table {
        let offer = format!("{}{attribute}\r\n", SIPP.replace("c=IN IP4 198.51.100.8", &format!("c=IN IP4 {ip}")));
        let (text, media) = answer(&local(), offer.as_bytes()).unwrap();
        assert!(text.ends_with(&format!("a={direction}\r\n")), "{offer} -> {text}");
        assert_eq!((media.direction, media.remote_rtp.is_some()), (direction, sends_somewhere), "{offer}");
    }
    // While we hold ourselves, an offer of both ways does not end it.
    let holding = TrunkLocal { direction: Direction::SendOnly, ..local() };
    assert_eq!(answer(&holding, SIPP.as_bytes()).unwrap().1.direction, Direction::SendOnly);
}

/// Carriers take the first codec they know: ours stand in the trunk's order, an answer of ours in its offer's (RFC 3264
/// section 6.1), and what the peer named first is what we send.
#[test]
fn codecs_stand_in_the_trunks_order_and_in_an_answer_in_the_offers() {
    let orders = [vec![Codec::Pcmu, Codec::Pcma], vec![Codec::Pcma, Codec::Pcmu], vec![Codec::Pcma]];
    for (codecs, line) in orders.into_iter().zip(["0 8 101", "8 0 101", "8 101"]) {
        let local = TrunkLocal { codecs, ..local() };
        assert!(offer(&local).contains(&format!("m=audio 20000 RTP/AVP {line}\r\n")), "{}", offer(&local));
    }
    for (offered, answered, sent) in
        [("8 0", "8 0", Codec::Pcma), ("0 8", "0 8", Codec::Pcmu), ("18 8 3 0", "8 0", Codec::Pcma)]
    {
        let text = SIPP.replace("RTP/AVP 0\r\na=rtpmap:0 PCMU/8000", &format!("RTP/AVP {offered}"));
        let (text, media) = answer(&local(), text.as_bytes()).unwrap();
        assert!(text.contains(&format!("m=audio 20000 RTP/AVP {answered}\r\n")), "{text}");
        assert_eq!(media.send.codec, sent);
    }
}

/// What a trunk is configured to is offered; what a peer wants is followed and said in our answer; both within 10 to 60 ms.
#[test]
fn ptime_of_each_trunk_is_offered_and_the_peers_wish_answered_10_to_60_ms() {
    for ptime in [10, 20, 30, 40, 50, 60] {
        let own = TrunkLocal { ptime, ..local() };
        assert!(offer(&own).contains(&format!("a=ptime:{ptime}\r\n")));
        // A peer that says nothing gets what the trunk is configured to, whoever offers.
        assert_eq!(read_answer(&own, SIPP.as_bytes()).unwrap().ptime, ptime);
        let (text, media) = answer(&own, SIPP.as_bytes()).unwrap();
        assert!(text.contains(&format!("a=ptime:{ptime}\r\n")) && media.ptime == ptime);
        let wish = format!("{SIPP}a=ptime:{ptime}\r\n");
        let (text, media) = answer(&local(), wish.as_bytes()).unwrap();
        assert!(text.contains(&format!("a=ptime:{ptime}\r\n")) && media.ptime == ptime);
        assert_eq!(read_answer(&local(), wish.as_bytes()).unwrap().ptime, ptime);
    }
    for (lines, ptime) in [("a=ptime:120", 60), ("a=ptime:5", 20), ("a=maxptime:10", 10)] {
        assert_eq!(read_answer(&local(), format!("{SIPP}{lines}\r\n").as_bytes()).unwrap().ptime, ptime, "{lines}");
    }
}

/// `c=` of the line before that of the session; RTCP by `a=rtcp` (RFC 3605), else one port above; 0.0.0.0 holds and the next
/// description restores the destination.
#[test]
fn where_media_goes_by_c_and_rtcp_lines_and_after_a_hold_by_0_0_0_0() {
    let at_line = SIPP.replace("m=audio 6000 RTP/AVP 0\r\n", "m=audio 6000 RTP/AVP 0\r\nc=IN IP4 198.51.100.99\r\n");
    let rtcp = format!("{SIPP}a=rtcp:7001\r\n");
    let rtcp_elsewhere = format!("{SIPP}a=rtcp:7001 IN IP4 198.51.100.77\r\n");
    let hold = SIPP.replace("c=IN IP4 198.51.100.8", "c=IN IP4 0.0.0.0");
    let table = [
        (SIPP, Some(("198.51.100.8:6000", "198.51.100.8:6001"))),
        (&at_line, Some(("198.51.100.99:6000", "198.51.100.99:6001"))),
        (&rtcp, Some(("198.51.100.8:6000", "198.51.100.8:7001"))),
        (&rtcp_elsewhere, Some(("198.51.100.8:6000", "198.51.100.77:7001"))),
        (&hold, None),
        (SIPP, Some(("198.51.100.8:6000", "198.51.100.8:6001"))),
    ];
    for (text, expected) in table {
        let media = answer(&local(), text.as_bytes()).unwrap().1;
        let to = media.remote_rtp.zip(media.remote_rtcp).map(|(rtp, rtcp)| (rtp.to_string(), rtcp.to_string()));
        assert_eq!(to, expected.map(|(rtp, rtcp)| (rtp.to_owned(), rtcp.to_owned())), "{text}");
    }
}

/// A peer that offers keys, and answers with some.
const SECURE: &str = "v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n\
    m=audio 17090 RTP/SAVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
    a=crypto:3 AES_CM_128_HMAC_SHA1_32 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^31\r\n\
    a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^31\r\na=sendrecv\r\n";

fn with_srtp(policy: SrtpPolicy) -> TrunkLocal {
    let keys = SrtpKeys::new(std::array::from_fn(|n| n as u8));
    TrunkLocal { srtp: SrtpLocal { policy, keys, agreed: None }, ..local() }
}

/// RFC 4568 section 5.1.2, and RFC 8643 for keys under RTP/AVP.
#[test]
fn one_crypto_line_is_answered_with_its_tag_and_suite_and_our_own_key() {
    for (proto, policy) in [
        ("RTP/SAVP", SrtpPolicy::Required),
        ("RTP/SAVP", SrtpPolicy::Optional),
        ("RTP/AVP", SrtpPolicy::Optional),
        ("RTP/AVP", SrtpPolicy::Required),
        ("RTP/SAVPF", SrtpPolicy::Required),
    ] {
        let (text, media) = answer(&with_srtp(policy), SECURE.replace("RTP/SAVP", proto).as_bytes()).unwrap();
        assert!(text.contains(&format!("m=audio 20000 {proto} 0 101\r\n")), "{text}");
        assert_eq!(text.matches("a=crypto:").count(), 1, "{text}");
        assert!(
            text.contains("a=crypto:3 AES_CM_128_HMAC_SHA1_32 inline:ZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+AgYKD\r\n")
        );
        let srtp = media.srtp.unwrap();
        assert_eq!((srtp.suite, media.savp), (SrtpSuite::AesCm128HmacSha1_32, proto != "RTP/AVP"));
        assert!(srtp.our_key != srtp.their_key && srtp.their_key.0.starts_with(b"YS___sem"));
    }
    // Off: what is plain stays plain, what must be encrypted is refused.
    let plain = SECURE.replace("RTP/SAVP", "RTP/AVP");
    let (text, media) = answer(&local(), plain.as_bytes()).unwrap();
    assert!(!text.contains("crypto") && media.srtp.is_none());
    assert_eq!(answer(&local(), SECURE.as_bytes()).map(|_| ()), Err(SdpError::Transport));
    assert_eq!(answer(&with_srtp(SrtpPolicy::Required), SIPP.as_bytes()).map(|_| ()), Err(SdpError::Crypto));
    let without = SECURE.replace("a=crypto", "a=x");
    assert_eq!(answer(&with_srtp(SrtpPolicy::Optional), without.as_bytes()).map(|_| ()), Err(SdpError::Crypto));
    assert_eq!(SdpError::Crypto.status(), 488);
}

#[test]
fn an_offer_of_both_kinds_is_taken_encrypted_where_we_may() {
    let both = format!("{SECURE}m=audio 17092 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n");
    let plain_first = SIPP.to_owned() + &SECURE[SECURE.find("m=").unwrap()..];
    for (policy, offer, ports) in [
        (SrtpPolicy::Optional, &both, ["20000", "0"]),
        (SrtpPolicy::Required, &both, ["20000", "0"]),
        (SrtpPolicy::Off, &both, ["0", "20000"]),
        (SrtpPolicy::Optional, &plain_first, ["0", "20000"]),
        (SrtpPolicy::Off, &plain_first, ["20000", "0"]),
    ] {
        let (text, media) = answer(&with_srtp(policy), offer.as_bytes()).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("m=")).collect();
        let answered: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(answered, ports, "{policy:?} {offer}");
        assert_eq!(media.srtp.is_some(), policy != SrtpPolicy::Off);
    }
}

#[test]
fn our_offers_by_policy_and_what_the_answers_mean() {
    let optional = offer(&with_srtp(SrtpPolicy::Optional));
    assert!(optional.contains("m=audio 20000 RTP/AVP 0 8 101\r\n") && optional.matches("a=crypto:").count() == 4);
    let required = offer(&with_srtp(SrtpPolicy::Required));
    assert!(required.contains("m=audio 20000 RTP/SAVP 0 8 101\r\n") && required.matches("a=crypto:").count() == 4);
    let chosen = SECURE.replace("a=crypto:3", "a=y");
    // (policy, answer, what we get)
    let suite = Some(SrtpSuite::AesCm128HmacSha1_80);
    for (policy, answer, expected) in [
        (SrtpPolicy::Required, chosen.clone(), Ok(suite)),
        (SrtpPolicy::Optional, chosen.replace("RTP/SAVP", "RTP/AVP"), Ok(suite)),
        (SrtpPolicy::Optional, ASTERISK.to_owned(), Ok(None)),
        (SrtpPolicy::Required, ASTERISK.to_owned(), Err(SdpError::Crypto)),
        (SrtpPolicy::Required, chosen.replace("a=crypto", "a=x"), Err(SdpError::Crypto)),
        (SrtpPolicy::Off, chosen, Err(SdpError::Transport)),
    ] {
        let read = read_answer(&with_srtp(policy), answer.as_bytes());
        assert_eq!(read.map(|media| media.srtp.map(|srtp| srtp.suite)), expected, "{policy:?} {answer}");
    }
    // A later offer says what was agreed, with the same key: the contexts go on.
    let mut local = with_srtp(SrtpPolicy::Optional);
    let (_, media) = answer(&local, SECURE.as_bytes()).unwrap();
    local.settle(&media);
    let again = offer(&local);
    assert!(again.contains("RTP/SAVP 0 8 101\r\n"), "{again}");
    assert!(again.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:ZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+AgYKD\r\n"));
    assert_eq!(again.matches("a=crypto:").count(), 1);
    // Plain stays plain.
    let mut local = with_srtp(SrtpPolicy::Optional);
    local.settle(&read_answer(&local, ASTERISK.as_bytes()).unwrap());
    assert!(!offer(&local).contains("crypto"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_us_panic(
        text in prop::sample::select(vec![ASTERISK, SIPP, PHONE, SECURE]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<u8>()), 0..12),
    ) {
        let mut bytes = text.as_bytes().to_vec();
        for (at, insert, byte) in edits {
            let at = at.index(bytes.len());
            if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
        }
        for policy in [SrtpPolicy::Off, SrtpPolicy::Optional, SrtpPolicy::Required] {
            let local = with_srtp(policy);
            let _ = read_answer(&local, &bytes);
            if let Ok((text, media)) = answer(&local, &bytes) {
                prop_assert!(sdp_types::Session::parse(text.as_bytes()).is_ok(), "{}", text);
                prop_assert!(media.accepted.contains(&media.send));
                prop_assert_eq!(media.srtp.is_some(), text.contains("a=crypto:"));
                prop_assert!(policy != SrtpPolicy::Required || media.srtp.is_some());
            }
        }
    }
}
