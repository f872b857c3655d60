//! What must hold for any input: nothing panics, what we write is read as it was meant, and no line break gets in.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use ringback::sip::{
    Body, Framer, Headers, Host, Invite, Message, Method, NameAddr, Params, Replaces, Request, SessionOptions,
    Transport, UaError, UaOutput, Uri,
};

use crate::answers::{flow, user_agent};
use crate::data;

const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 198.51.100.2;branch=z9hG4bK776asdhds;rport\r\n\
    Max-Forwards: 70\r\nTo: \"Bob, \\\"B\\\"\" <sip:bob@example.com;x=1>\r\nFrom: Alice <sip:alice@[2001:db8::1]:5070>;tag=1928\r\n\
    Call-ID: a84b4c76e66710@pc33\r\nCSeq: 314159 INVITE\r\nContact: <sip:alice@198.51.100.2>\r\n\
    Record-Route: <sip:p1.example.com;lr>, <sip:p2.example.com;lr>\r\nRequire: a,\r\n b\r\nContent-Type: application/sdp\r\n\
    Content-Length: 4\r\n\r\nbody";

/// Feeds bytes to everything that reads from the network.
fn feed(bytes: &[u8]) {
    if let Ok(message) = Message::parse(bytes) {
        let written = message.to_bytes();
        let again =
            Message::parse(&written).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&written)));
        assert_eq!(again.to_bytes(), written);
    }
    let mut framer = Framer::new(1_000);
    for chunk in bytes.chunks(7) {
        if framer.push(chunk).is_err() {
            break;
        }
        while framer.next().is_some() {}
    }
    let now = Instant::now();
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut ua = user_agent();
        for step in 0..3 {
            ua.handle_datagram(now, flow(transport), bytes);
            while ua.poll_output().is_some() {}
            ua.handle_timeout(now + Duration::from_secs(step * 20));
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let _ = text.parse::<Uri>().map(|uri| assert_eq!(uri.to_string().parse::<Uri>().as_ref(), Ok(&uri)));
    let _ = text.parse::<Host>();
    let _ = text
        .parse::<NameAddr>()
        .map(|address| assert_eq!(address.to_string().parse::<NameAddr>().as_ref(), Ok(&address)));
}

/// One change of a message.
fn mutate(bytes: &mut Vec<u8>, at: usize, kind: u8, byte: u8) {
    let at = at % bytes.len().max(1);
    match kind % 5 {
        0 => bytes[at] = byte,
        1 => bytes.insert(at, byte),
        2 => drop(bytes.remove(at)),
        3 => bytes.truncate(at),
        _ => bytes.extend_from_within(at..),
    }
    if bytes.is_empty() {
        bytes.push(byte);
    }
}

/// Bytes that mean something to a parser more often than others do.
fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), prop::sample::select(b"\r\n \t:;,<>\"\\@=?/[]%0aZ\0".to_vec())]
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9.!%*_+`'~-]{1,20}"
}

/// What may stand in a header field: any text without line breaks and NUL, and without white space at its ends.
fn value() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace(['\r', '\n', '\0'], "").trim().to_owned())
}

fn clean() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace(['\r', '\n', '\0'], ""))
}

/// Text with a line break or NUL in it.
fn dirty() -> impl Strategy<Value = String> {
    (any::<String>(), prop::sample::select(vec!["\r", "\n", "\r\n", "\0", "\r\nX-Evil: 1\r\n"]), any::<String>())
        .prop_map(|(before, bad, after)| format!("{before}{bad}{after}"))
}

fn address(display: Option<String>, user: &str) -> NameAddr {
    let uri = Uri::sip(Some(user), Host::Name("example.com".into()), Some(5070)).unwrap();
    NameAddr { display, uri, params: Params::new() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn random_bytes_never_panic(bytes in vec(any_byte(), 0..400)) {
        feed(&bytes);
    }

    #[test]
    fn changed_messages_never_panic(changes in vec((any::<usize>(), any::<u8>(), any_byte()), 1..12)) {
        let mut bytes = INVITE.as_bytes().to_vec();
        for (at, kind, byte) in changes {
            mutate(&mut bytes, at, kind, byte);
            bytes.truncate(8_000);
        }
        feed(&bytes);
    }

    #[test]
    fn a_request_is_read_exactly_as_it_was_built(
        method in token(),
        user in any::<String>().prop_filter("a user", |u| !u.is_empty() && !u.contains(['\r', '\n', '\0'])),
        display in prop::option::of(clean()),
        tag in token(),
        fields in vec((token().prop_map(|name| format!("X-{name}")), value()), 0..10),
        body in vec(any::<u8>(), 0..200),
    ) {
        let to = address(None, "bob");
        let from = address(display.clone(), &user).with_tag(&tag);
        let mut request = Request::new(method.parse().unwrap(), address(None, &user).uri);
        let headers = &mut request.headers;
        headers.push("Via", "SIP/2.0/UDP example.com;branch=z9hG4bK1");
        headers.push("From", from.to_string());
        headers.push("To", to.to_string());
        headers.push("Call-ID", "1@example.com");
        headers.push("CSeq", format!("7 {method}"));
        for (name, text) in &fields {
            headers.push(name.clone(), text.clone());
        }
        request.body = body;
        let Ok(Message::Request(read)) = Message::parse(&request.to_bytes()) else {
            panic!("{}", String::from_utf8_lossy(&request.to_bytes()));
        };
        prop_assert_eq!(&read.method, &request.method);
        prop_assert_eq!(&read.uri, &request.uri);
        prop_assert_eq!(read.uri.decoded_user(), Some(user));
        prop_assert_eq!(&read.body, &request.body);
        let back = read.headers.from().unwrap();
        prop_assert_eq!((back.display, back.params.value("tag")), (display, Some(tag.as_str())));
        // Exactly the intended fields, and the one that is written for us.
        let length = request.body.len().to_string();
        let intended: Vec<_> = request.headers.iter().chain([("Content-Length", length.as_str())]).collect();
        prop_assert_eq!(read.headers.iter().collect::<Vec<_>>(), intended);
    }

    #[test]
    fn no_line_break_gets_into_a_header(bad in dirty()) {
        let mut headers = Headers::new();
        headers.push("Subject", "x");
        headers.push("Subject", bad.clone());
        headers.push(bad.clone(), "x");
        headers.push_front("Subject", bad.clone());
        headers.set("Subject", bad.clone());
        headers.set(bad.clone(), "x");
        headers.replace_first("Subject", &bad);
        prop_assert_eq!(headers.iter().collect::<Vec<_>>(), [("Subject", "x")]);
        let mut params = Params::new();
        params.set("a", Some(&bad));
        params.set(&bad, None);
        prop_assert!(params.is_empty());
        prop_assert!(Uri::sip(Some(&bad), Host::Name("example.com".into()), None).is_err());
        prop_assert!(Uri::sip(None, Host::Name(bad.clone()), None).is_err());
        prop_assert!(bad.parse::<Method>().is_err());
    }

    #[test]
    fn no_line_break_gets_out_of_a_user_agent(bad in dirty(), place in 0..8) {
        let mut ua = user_agent();
        let mut invite = Invite {
            flow: flow(Transport::Udp),
            request_uri: address(None, "bob").uri,
            from: address(None, "alice"),
            to: address(None, "bob"),
            contact_user: None,
            headers: Vec::new(),
            body: Some(Body { content_type: "application/sdp".into(), bytes: b"v=0\r\n".to_vec() }),
            credentials: None,
            options: SessionOptions::default(),
        };
        match place {
            0 => invite.from.display = Some(bad),
            1 => invite.to.display = Some(bad),
            2 => invite.contact_user = Some(bad),
            3 => invite.headers.push(("X-Name".into(), bad)),
            4 => invite.headers.push((bad, "x".into())),
            5 => invite.request_uri.user = Some(bad),
            6 => invite.from.uri.password = Some(bad),
            _ => invite.request_uri.headers = Some(bad),
        }
        let result = ua.invite(Instant::now(), invite);
        prop_assert!(matches!(result, Err(UaError::Header { .. })), "{:?}", result);
        let sent = matches!(ua.poll_output(), Some(UaOutput::Transmit { .. }));
        prop_assert!(!sent, "an INVITE was sent");
    }
}

/// Text that means something to a parser more often than other text does.
fn tricky() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ -~]{1,12}",
        2 => "[a-z%0-9@:;,<>\"\\\\=?/()\\[\\] \t-]{1,12}",
        1 => any::<String>(),
        1 => dirty(),
    ]
}

/// An address with any text at each of its places.
fn any_address() -> impl Strategy<Value = NameAddr> {
    let option = || prop::option::weighted(0.06, tricky());
    let display = prop::option::of(prop_oneof![6 => clean(), 1 => dirty()]);
    (display, option(), option(), option(), option()).prop_map(|(display, user, password, param, fields)| {
        let mut uri = address(None, "bob").uri;
        uri.user = Some(user.unwrap_or_else(|| "+15551234".into()));
        (uri.password, uri.headers) = (password, fields);
        if let Some(param) = param {
            uri.params.set("user", Some(&param));
            uri.params.set(&param, None);
        }
        NameAddr { display, uri, params: Params::new() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    /// Whatever the caller's name, number, URIs and header fields are: the INVITE is read exactly as it is meant, or not sent.
    #[test]
    fn an_invite_that_is_sent_is_read_exactly_as_it_is_meant(
        request_uri in any_address(),
        from in any_address(),
        to in any_address(),
        contact_user in prop::option::of(prop_oneof![6 => "[a-z0-9+]{1,9}", 1 => tricky()]),
        fields in vec((prop_oneof![12 => token().prop_map(|name| format!("X-{name}")), 1 => tricky()], prop_oneof![12 => value(), 1 => tricky()]), 0..4),
        referred_by in prop::option::weighted(0.2, prop_oneof![Just("<sip:a@h>".to_owned()), tricky()]),
        replaces in prop::option::weighted(0.2, (prop_oneof![token(), tricky()], token(), token(), any::<bool>())),
        body in prop::option::of(vec(any::<u8>(), 1..50)),
    ) {
        let replaces = replaces.map(|(call_id, to_tag, from_tag, early_only)| Replaces { call_id, to_tag, from_tag, early_only });
        let invite = Invite {
            flow: flow(Transport::Udp),
            request_uri: request_uri.uri,
            from,
            to,
            contact_user,
            headers: fields,
            body: body.map(|bytes| Body { content_type: "application/sdp".into(), bytes }),
            credentials: None,
            options: SessionOptions { replaces, referred_by, ..SessionOptions::default() },
        };
        let mut ua = user_agent();
        let result = ua.invite(Instant::now(), invite.clone());
        let Some(UaOutput::Transmit { bytes, .. }) = ua.poll_output() else {
            prop_assert!(matches!(result, Err(UaError::Header { .. })), "{:?}", result);
            return Ok(());
        };
        prop_assert!(result.is_ok());
        let Ok(Message::Request(read)) = Message::parse(&bytes) else { panic!("{}", String::from_utf8_lossy(&bytes)) };
        prop_assert_eq!(&read.method, &Method::Invite);
        prop_assert_eq!(&read.uri, &invite.request_uri);
        let sent_from = read.headers.from().unwrap();
        let tag = sent_from.tag().unwrap_or_default().to_owned();
        prop_assert_eq!(sent_from, invite.from.with_tag(&tag));
        prop_assert_eq!(read.headers.to().unwrap(), invite.to);
        let contact = read.headers.contacts().unwrap().remove(0);
        prop_assert_eq!(contact.uri.decoded_user(), invite.contact_user);
        prop_assert_eq!(&read.body, &invite.body.as_ref().map(|body| body.bytes.clone()).unwrap_or_default());
        // The caller's own fields, all of them and in their order, and beside them just ours.
        let mut ours = vec!["Via", "Max-Forwards", "From", "To", "Call-ID", "CSeq", "Contact", "Allow", "Supported", "User-Agent"];
        if invite.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Max-Forwards")) {
            ours.retain(|name| *name != "Max-Forwards");
        }
        if let Some(replaces) = &invite.options.replaces {
            ours.extend(["Require", "Replaces"]);
            prop_assert_eq!(&read.headers.get("Replaces").unwrap().parse::<Replaces>().unwrap(), replaces);
        }
        if let Some(by) = &invite.options.referred_by {
            ours.push("Referred-By");
            prop_assert_eq!(read.headers.get("Referred-By"), Some(by.as_str()));
        }
        ours.extend(invite.body.as_ref().map(|_| "Content-Type"));
        ours.push("Content-Length");
        let mut expected: Vec<String> = ours.into_iter().map(str::to_owned).collect();
        expected.extend(invite.headers.iter().map(|(name, _)| name.clone()));
        let mut names: Vec<String> = read.headers.iter().map(|(name, _)| name.to_owned()).collect();
        names.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(names, expected);
        for (name, value) in &invite.headers {
            prop_assert!(read.headers.iter().any(|(n, v)| n == name && v == value), "{}: {}", name, value);
        }
    }
}

/// The same changes to each of the RFCs' own messages, which reach further into the parsers.
#[test]
fn changed_torture_messages_never_panic() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for (_, original) in data::cases() {
        for _ in 0..30 {
            let mut bytes = original.clone();
            for _ in 0..1 + random() % 4 {
                mutate(&mut bytes, random() as usize, random() as u8, random() as u8);
                bytes.truncate(8_000);
            }
            feed(&bytes);
        }
    }
}
