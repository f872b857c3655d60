//! The layer's matching, and the ACK of a refusal. The machines' own tables are in `tests/conformance/rfc3261_17.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn context(reliable: bool) -> Context {
    Context { timers: Timers::default(), reliable }
}

fn request(method: &str) -> Request {
    let text = format!(
        "{method} sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc\r\nRoute: <sip:192.0.2.9;lr>\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@192.0.2.1>;tag=a\r\nTo: <sip:bob@192.0.2.2>\r\nCall-ID: c1\r\n\
         CSeq: 7 {method}\r\nContact: <sip:alice@192.0.2.1>\r\nContent-Length: 0\r\n\r\n"
    );
    match Message::parse(text.as_bytes()).unwrap() {
        Message::Request(request) => request,
        Message::Response(_) => panic!("a request"),
    }
}

fn response(method: &str, status: u16) -> Response {
    let mut response = request(method).response(status, "Text");
    if status > 100 {
        response.headers.set("To", "<sip:bob@192.0.2.2>;tag=b");
    }
    response
}

/// A fixed origin of virtual time.
trait Origin {
    fn now_for_tests() -> Instant;
}

impl Origin for Instant {
    #[allow(clippy::disallowed_methods)]
    fn now_for_tests() -> Instant {
        Instant::now()
    }
}

#[test]
fn the_ack_of_a_refusal_is_as_section_17_1_1_3_says() {
    let now = Instant::now_for_tests();
    let mut out = Vec::new();
    let machine = InviteClient::start(now, &context(false), request("INVITE"), &mut out);
    out.clear();
    machine.handle(now, &context(false), ClientEvent::Response(response("INVITE", 486)), &mut out);
    let Some(ClientAction::Send(bytes)) = out.first() else { panic!("an ACK") };
    let Message::Request(ack) = Message::parse(bytes).unwrap() else { panic!("a request") };
    let invite = request("INVITE");
    assert_eq!(ack.method, Method::Ack);
    assert_eq!(ack.uri.to_string(), invite.uri.to_string());
    assert_eq!(ack.headers.vias().unwrap().len(), 1);
    assert_eq!(ack.headers.top_via().unwrap().branch(), Some("z9hG4bKabc"));
    assert_eq!(ack.headers.get("To"), Some("<sip:bob@192.0.2.2>;tag=b"));
    assert_eq!(ack.headers.get("From"), invite.headers.get("From"));
    assert_eq!(ack.headers.get("Call-ID"), Some("c1"));
    assert_eq!(ack.headers.get("CSeq"), Some("7 ACK"));
    assert_eq!(ack.headers.get("Route"), Some("<sip:192.0.2.9;lr>"));
}

fn flow(remote: &str) -> Flow {
    Flow { transport: Transport::Udp, local: "192.0.2.2:5060".parse().unwrap(), remote: remote.parse().unwrap(), id: 0 }
}

fn received(layer: &mut Transactions, text: &str, from: &str) -> Vec<TransactionOutput> {
    layer.receive(Instant::now_for_tests(), flow(from), Message::parse(text.as_bytes()).unwrap());
    std::iter::from_fn(|| layer.poll_output()).collect()
}

fn text(method: &str, via: &str, extra: &str) -> String {
    format!(
        "{method} sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP {via}\r\nFrom: <sip:alice@192.0.2.1>;tag=a\r\n\
         To: <sip:bob@192.0.2.2>\r\nCall-ID: c1\r\nCSeq: 7 {method}\r\n{extra}Content-Length: 0\r\n\r\n"
    )
}

fn new_request(outputs: &[TransactionOutput]) -> (ServerId, Request, Flow, Option<ServerId>) {
    match outputs {
        [TransactionOutput::Request { id, request, flow, cancels }] => (*id, request.clone(), *flow, *cancels),
        other => panic!("one new request, not {other:?}"),
    }
}

fn layer() -> Transactions {
    Transactions::new(Timers::default(), 100)
}

#[test]
fn answers_go_to_rport_or_to_the_port_in_the_via() {
    for (via, from, to, written) in [
        ("192.0.2.1:5070;branch=z9hG4bK1", "192.0.2.1:9999", "192.0.2.1:5070", "192.0.2.1:5070;branch=z9hG4bK1"),
        ("192.0.2.1;branch=z9hG4bK1", "192.0.2.1:9999", "192.0.2.1:5060", "192.0.2.1;branch=z9hG4bK1"),
        (
            "10.0.0.1:5070;branch=z9hG4bK1",
            "192.0.2.1:9999",
            "192.0.2.1:5070",
            "10.0.0.1:5070;branch=z9hG4bK1;received=192.0.2.1",
        ),
        (
            "10.0.0.1:5070;rport;branch=z9hG4bK1",
            "192.0.2.1:9999",
            "192.0.2.1:9999",
            "10.0.0.1:5070;rport=9999;branch=z9hG4bK1;received=192.0.2.1",
        ),
    ] {
        let (_, request, flow, _) = new_request(&received(&mut layer(), &text("OPTIONS", via, ""), from));
        assert_eq!(flow.remote, to.parse().unwrap(), "{via}");
        assert_eq!(request.headers.get("Via"), Some(format!("SIP/2.0/UDP {written}").as_str()));
    }
}

#[test]
fn retransmissions_are_absorbed_and_the_cancel_finds_its_invite() {
    for via in ["192.0.2.1;branch=z9hG4bK1", "192.0.2.1;rport;branch=old-style", "192.0.2.1"] {
        let mut layer = layer();
        let invite = text("INVITE", via, "");
        let (id, ..) = new_request(&received(&mut layer, &invite, "192.0.2.1:5060"));
        assert!(received(&mut layer, &invite, "192.0.2.1:5060").is_empty(), "{via}");
        let (_, _, _, cancels) = new_request(&received(&mut layer, &text("CANCEL", via, ""), "192.0.2.1:5060"));
        assert_eq!(cancels, Some(id), "{via}");
        assert_eq!(layer.len(), 2);
    }
}

#[test]
fn a_request_that_came_twice_over_different_ways_is_a_merged_one() {
    let mut layer = layer();
    new_request(&received(&mut layer, &text("INVITE", "192.0.2.1;branch=z9hG4bK1", ""), "192.0.2.1:5060"));
    let out = received(&mut layer, &text("INVITE", "192.0.2.1;branch=z9hG4bK2", ""), "192.0.2.1:5060");
    let [TransactionOutput::Transmit { bytes, .. }] = out.as_slice() else { panic!("an answer: {out:?}") };
    assert!(bytes.starts_with(b"SIP/2.0 482 "), "482 Loop Detected");
    assert_eq!(layer.len(), 1);
}

#[test]
fn a_full_layer_refuses_with_503_and_keeps_nothing() {
    let mut layer = Transactions::new(Timers::default(), 0);
    let out = received(&mut layer, &text("OPTIONS", "192.0.2.1;branch=z9hG4bK1", ""), "192.0.2.1:5060");
    let [TransactionOutput::Transmit { bytes, .. }] = out.as_slice() else { panic!("an answer: {out:?}") };
    let text = String::from_utf8_lossy(bytes);
    assert!(text.starts_with("SIP/2.0 503 ") && text.contains("Retry-After:"), "{text}");
    assert!(layer.is_empty());
}

/// Strangers are heard with REGISTER alone: a flood of them, with To-tags or without, takes no room from calls.
#[test]
fn a_flood_of_registers_leaves_room_for_calls() {
    let now = Instant::now_for_tests();
    let mut layer = Transactions::new(Timers::default(), 8);
    for n in 0..40 {
        let mut flood = request("REGISTER");
        flood.headers.set("Via", format!("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{n}"));
        flood.headers.set("Call-ID", format!("flood{n}"));
        if n % 2 == 1 {
            flood.headers.set("To", "<sip:bob@192.0.2.2>;tag=x");
        }
        layer.receive(now, flow("203.0.113.9:5060"), Message::Request(flood));
        while layer.poll_output().is_some() {}
    }
    assert_eq!(layer.len(), 4);
    assert!(!layer.is_full());
    layer.receive(now, flow("192.0.2.9:5060"), Message::Request(request("INVITE")));
    assert!(matches!(layer.poll_output(), Some(TransactionOutput::Request { .. })));
}

#[test]
fn a_method_that_contradicts_the_cseq_is_refused() {
    let mut layer = layer();
    let mut bad = request("OPTIONS");
    bad.headers.set("CSeq", "7 INVITE");
    layer.receive(Instant::now_for_tests(), flow("192.0.2.1:5060"), Message::Request(bad));
    let out = layer.poll_output();
    let Some(TransactionOutput::Transmit { bytes, .. }) = out else { panic!("an answer: {out:?}") };
    assert!(bytes.starts_with(b"SIP/2.0 400 "));
    assert!(layer.is_empty());
}

#[test]
fn responses_that_match_nothing_are_dropped() {
    let mut layer = layer();
    let now = Instant::now_for_tests();
    let id = layer.request(now, flow("192.0.2.9:5060"), "z9hG4bKabc", request("OPTIONS"));
    while layer.poll_output().is_some() {}
    let deliver = |layer: &mut Transactions, response: Response| {
        layer.receive(now, flow("192.0.2.9:5060"), Message::Response(response));
        layer.poll_output()
    };
    let mut other_branch = response("OPTIONS", 200);
    other_branch.headers.set("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKother");
    assert!(deliver(&mut layer, other_branch).is_none());
    let mut other_method = response("OPTIONS", 200);
    other_method.headers.set("CSeq", "7 INVITE");
    assert!(deliver(&mut layer, other_method).is_none());
    let mut two_vias = response("OPTIONS", 200);
    two_vias.headers.push("Via", "SIP/2.0/UDP 192.0.2.7");
    assert!(deliver(&mut layer, two_vias).is_none());
    let found = deliver(&mut layer, response("OPTIONS", 200));
    assert!(matches!(found, Some(TransactionOutput::Response { id: got, .. }) if got == id));
}

#[test]
fn a_broken_connection_fails_only_what_used_it() {
    let now = Instant::now_for_tests();
    let mut layer = layer();
    let a = Flow { transport: Transport::Tcp, id: 1, ..flow("192.0.2.9:5060") };
    let b = Flow { id: 2, ..a };
    let hit = layer.request(now, a, "z9hG4bK1", request("OPTIONS"));
    layer.request(now, b, "z9hG4bK2", request("OPTIONS"));
    while layer.poll_output().is_some() {}
    layer.transport_failed(now, a);
    let out: Vec<_> = std::iter::from_fn(|| layer.poll_output()).collect();
    assert!(
        matches!(out.as_slice(), [
            TransactionOutput::ClientFailed { id, why: ClientFailure::Transport },
            TransactionOutput::ClientGone { .. }
        ] if *id == hit),
        "{out:?}"
    );
    assert_eq!(layer.len(), 1);
}
