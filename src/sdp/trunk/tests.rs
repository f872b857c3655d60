#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

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
        "v=0\r\no=- 77 3 IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\nt=0 0\r\nm=audio 20000 RTP/AVP 9 8\r\n\
         a=rtpmap:9 G722/8000\r\na=rtpmap:8 PCMA/8000\r\na=ptime:20\r\na=sendonly\r\n"
    );
    assert!(offer(&TrunkLocal { codecs: vec![Codec::Opus], ..local() }).contains("RTP/AVP 0 8 101\r\n"));
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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_us_panic(
        text in prop::sample::select(vec![ASTERISK, SIPP, PHONE]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<u8>()), 0..12),
    ) {
        let mut bytes = text.as_bytes().to_vec();
        for (at, insert, byte) in edits {
            let at = at.index(bytes.len());
            if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
        }
        let _ = read_answer(&local(), &bytes);
        if let Ok((text, media)) = answer(&local(), &bytes) {
            prop_assert!(sdp_types::Session::parse(text.as_bytes()).is_ok(), "{}", text);
            prop_assert!(media.accepted.contains(&media.send));
        }
    }
}
