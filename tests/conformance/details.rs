//! What the RFCs point out in single messages.

use std::net::Ipv6Addr;

use ringback::sip::{Host, Message, Request, Response, Scheme};

use crate::data;

fn request(file: &str) -> Option<Request> {
    match Message::parse(&data::message(file)?) {
        Ok(Message::Request(request)) => Some(request),
        other => panic!("{file}: {other:?}"),
    }
}

fn response(file: &str) -> Option<Response> {
    match Message::parse(&data::message(file)?) {
        Ok(Message::Response(response)) => Some(response),
        other => panic!("{file}: {other:?}"),
    }
}

#[test]
fn wsinv_is_read_through_all_its_white_space() {
    let Some(request) = request("valid/wsinv.dat") else { return };
    let headers = &request.headers;
    assert_eq!(request.uri.params.get("unknownparam"), Some(None));
    assert_eq!(headers.to().unwrap().tag(), Some("1918181833n"));
    let from = headers.from().unwrap();
    assert_eq!((from.display.as_deref(), from.tag()), (Some("J Rosenberg \\\""), Some("98asjd8")));
    assert_eq!(headers.max_forwards(), Ok(Some(68)));
    assert_eq!(headers.cseq().unwrap().number, 9);
    let vias = headers.vias().unwrap();
    let seen: Vec<_> = vias.iter().map(|via| (via.transport.as_str(), via.host.to_string(), via.branch())).collect();
    assert_eq!(
        seen,
        [
            ("UDP", "192.0.2.2".to_owned(), Some("390skdjuw")),
            ("TCP", "spindle.example.com".to_owned(), Some("z9hG4bK9ikj8")),
            ("UDP", "192.168.255.111".to_owned(), Some("z9hG4bK30239")),
        ]
    );
    assert_eq!(headers.get("Subject"), Some(""));
    assert_eq!(headers.get("NewFangledHeader"), Some("newfangled value continued newfangled value"));
    assert_eq!(headers.get("unknownheaderwithunusualvalue"), Some(";;,,;;,;"));
    let contact = &headers.contacts().unwrap()[0];
    assert_eq!(contact.display.as_deref(), Some("Quoted string \"\""));
    assert_eq!((contact.params.value("newparam"), contact.params.value("q")), (Some("newvalue"), Some("0.33")));
    assert_eq!(contact.params.get("secondparam"), Some(None));
    assert_eq!(headers.routes().unwrap()[0].uri.params.get("lr"), Some(None));
    assert_eq!(request.body.len(), 150);
}

#[test]
fn intmeth_keeps_every_character() {
    let Some(request) = request("valid/intmeth.dat") else { return };
    assert_eq!(request.method.as_str(), "!interesting-Method0123456789_*+`.%indeed'~");
    assert_eq!(request.uri.host.to_string(), "example.com");
    assert_eq!(request.uri.user.as_deref(), Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"),);
    assert_eq!(request.uri.password.as_deref(), Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"));
    assert_eq!(request.headers.call_id(), Ok("intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"));
    let to = request.headers.to().unwrap();
    assert_eq!(to.display.as_deref(), Some("BEL:\u{7} NUL:\u{fffd} DEL:\u{7f}"), "a quoted NUL is the one loss");
    let from = request.headers.from().unwrap();
    assert_eq!(from.display.as_deref(), Some("token1~` token2'+_ token3*%!.-"));
    assert_eq!(from.tag(), Some("_token~1'+`*%!-."));
    assert_eq!(from.params.value("fromParam''~+*_!.-%"), Some("\"работающий\""));
    assert_eq!(request.headers.top_via().unwrap().branch(), Some("z9hG4bK-.!%66*_+`'~"));
    assert!(request.headers.get("extensionHeader-!.%*+_`'~").is_some_and(|value| value.ends_with('\u{96fb}')));
}

#[test]
fn escapes_are_resolved_only_where_they_are_escapes() {
    if let Some(request) = request("valid/esc01.dat") {
        assert_eq!(request.uri.decoded_user().as_deref(), Some("sips:user@example.com"));
        assert_eq!(request.uri.host.to_string(), "example.net");
        assert_eq!(request.headers.to().unwrap().uri.decoded_user().as_deref(), Some("user"));
        assert_eq!(request.headers.from().unwrap().uri.decoded_user().as_deref(), Some("I have spaces"));
    }
    if let Some(request) = request("valid/escnull.dat") {
        let users: Vec<_> =
            request.headers.contacts().unwrap().iter().map(|contact| contact.uri.decoded_user()).collect();
        assert_eq!(users, [Some("\0".to_owned()), Some("\0\0".to_owned())]);
        assert_eq!(request.headers.to().unwrap().uri.decoded_user().as_deref(), Some("null-\0-null"));
    }
    if let Some(request) = request("valid/esc02.dat") {
        assert_eq!(request.method.as_str(), "RE%47IST%45R");
        assert_eq!(request.headers.to().unwrap().display.as_deref(), Some("%Z%45"));
        assert_eq!(request.headers.contacts().unwrap().len(), 2, "C%6Fntact is another header field");
    }
}

#[test]
fn semicolons_and_parameters_belong_where_they_stand() {
    if let Some(request) = request("valid/semiuri.dat") {
        assert_eq!(request.uri.decoded_user().as_deref(), Some("user;par=u@example.net"));
        assert!(request.uri.params.is_empty());
        assert_eq!(request.headers.tokens("Accept").len(), 6);
    }
    if let (Some(header), Some(uri)) = (request("invalid/cparam01.dat"), request("invalid/cparam02.dat")) {
        let contact = |request: &Request| request.headers.contacts().unwrap().remove(0);
        assert_eq!(contact(&header).params.get("unknownparam"), Some(None));
        assert_eq!(contact(&uri).uri.params.get("unknownparam"), Some(None));
        assert!(contact(&header).uri.params.is_empty() && contact(&uri).params.is_empty());
    }
    if let Some(request) = request("invalid/regescrt.dat") {
        let contact = request.headers.contacts().unwrap().remove(0);
        assert_eq!(contact.uri.headers.as_deref(), Some("Route=%3Csip:sip.example.com%3E"));
        assert!(request.headers.routes().unwrap().is_empty(), "nothing is taken out of a URI");
    }
}

#[test]
fn long_and_many_values_are_read_to_the_end() {
    if let Some(request) = request("valid/longreq.dat") {
        assert_eq!(request.headers.vias().unwrap().len(), 34);
        assert_eq!(request.headers.from().unwrap().uri.user.map(|user| user.len()), Some(5 * 23));
        assert_eq!(request.body.len(), 150);
    }
    if let Some(request) = request("valid/transports.dat") {
        let transports: Vec<_> = request.headers.vias().unwrap().into_iter().map(|via| via.transport).collect();
        assert_eq!(transports, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
    }
    if let Some(request) = request("valid/dblreq.dat") {
        assert!(request.body.is_empty(), "what follows is not of this message");
    }
    if let Some(request) = request("valid/mpart01.dat") {
        assert_eq!(request.body.len(), 553);
        assert!(request.body.contains(&0));
    }
}

#[test]
fn reasons_are_text_or_nothing() {
    if let Some(response) = response("valid/unreason.dat") {
        assert!(response.reason.starts_with("= 2**3 * 5**2 \u{43d}\u{43e} "));
        assert_eq!(response.body.len(), 154);
    }
    if let Some(response) = response("valid/noreason.dat") {
        assert_eq!((response.status, response.reason.as_str()), (100, ""));
    }
}

#[test]
fn other_schemes_keep_their_text() {
    if let Some(request) = request("invalid/unksm2.dat") {
        assert_eq!(request.headers.to().unwrap().uri.to_string(), "isbn:2983792873");
        assert_eq!(request.headers.from().unwrap().uri.to_string(), "http://www.example.com");
        assert_eq!(request.headers.contacts().unwrap()[0].uri.scheme, Scheme::Other("name".into()));
    }
    if let Some(request) = request("invalid/novelsc.dat") {
        assert_eq!(request.uri.to_string(), "soap.beep://192.0.2.103:3002");
    }
}

#[test]
fn inv2543_has_a_body_without_content_length() {
    let Some(request) = request("invalid/inv2543.dat") else { return };
    assert_eq!(request.headers.top_via().unwrap().branch(), None);
    assert_eq!(request.headers.from().unwrap().tag(), None);
    assert_eq!(request.headers.max_forwards(), Ok(None));
    assert_eq!(request.body.len(), 105);
}

#[test]
fn ipv6_addresses_are_told_from_their_ports() {
    let v6 = |text: &str| Host::V6(text.parse::<Ipv6Addr>().unwrap());
    let uris = [
        ("4.1_ipv6-good.sip", "2001:db8::10", None),
        ("4.3_port-ambiguous.sip", "2001:db8::10:5070", None),
        ("4.4_port-unambiguous.sip", "2001:db8::10", Some(5070)),
        ("4.10_ipv6-correct-abnf-2-colons.sip", "2001:db8::192.0.2.1", None),
        ("4.10_ipv6-bug-abnf-3-colons.sip", "2001:db8::192.0.2.1", None),
    ];
    for (file, host, port) in uris {
        let Some(request) = request(file) else { return };
        assert_eq!((request.uri.host, request.uri.port), (v6(host), port), "{file}");
    }
    for (file, received) in [
        ("4.5_via-received-param-no-delim.sip", "2001:db8::9:255"),
        ("4.5_via-received-param-with-delim.sip", "[2001:db8::9:255]"),
    ] {
        assert_eq!(request(file).unwrap().headers.top_via().unwrap().received(), Some(received));
    }
    let vias = request("4.7_mult-ip-in-header.sip").unwrap().headers.vias().unwrap();
    let hosts: Vec<_> = vias.iter().map(|via| via.host.clone()).collect();
    assert_eq!(hosts, [v6("2001:db8::9:1"), Host::V4([192, 0, 2, 1].into()), v6("2001:db8::9:255")]);
    assert_eq!(vias[0].port, Some(6050));
    let mapped = request("4.9_ipv4-mapped-ipv6.sip").unwrap().headers.top_via().unwrap();
    assert_eq!((mapped.host, mapped.port), (v6("::ffff:192.0.2.10"), Some(19823)));
}
