//! `/sip`: SIP over WebSocket (RFC 7118) on the wire of the running program.

use std::io::{copy, sink};
use std::net::TcpStream;

use tokio_tungstenite::tungstenite::{Message, WebSocket};

use crate::support::{Browser, Gateway, OFFER};

pub fn open(gateway: &Gateway) -> WebSocket<TcpStream> {
    let origin = format!("http://localhost:{}", gateway.port());
    let opened = Browser::try_open_at(gateway, "/sip", Some(&origin), Some("sip"));
    let (socket, response) = opened.expect("the socket opens");
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "sip", "RFC 7118 section 4.1");
    socket
}

/// The next message.
fn heard(socket: &mut WebSocket<TcpStream>) -> String {
    loop {
        match socket.read().expect("an open socket") {
            Message::Text(text) => return text.to_string(),
            Message::Binary(bytes) => return String::from_utf8_lossy(&bytes).into_owned(),
            _ => {}
        }
    }
}

/// The next message that begins so.
pub fn until(socket: &mut WebSocket<TcpStream>, beginning: &str) -> String {
    loop {
        let text = heard(socket);
        if text.starts_with(beginning) {
            return text;
        }
    }
}

pub fn request(method: &str, to: &str, cseq: u32, rest: &str) -> String {
    format!(
        "{method} sip:{to}@localhost SIP/2.0\r\nVia: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bKws{cseq}{method}\r\n\
         Max-Forwards: 69\r\nFrom: <sip:alice@localhost>;tag=a\r\nTo: <sip:{to}@localhost>\r\nCall-ID: {method}@df7jal23ls0d\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:u8d7f@df7jal23ls0d.invalid;transport=ws>\r\n{rest}"
    )
}

/// RFC 7118 sections 4.1 and 5, RFC 6455 section 10.2: the subprotocol is asked for and confirmed, other pages stay outside.
#[test]
fn the_door_asks_for_the_subprotocol_and_the_origin() {
    let gateway = Gateway::embedded();
    let own = format!("http://localhost:{}", gateway.port());
    let refused = |origin: &str, protocol| Browser::try_open_at(&gateway, "/sip", Some(origin), protocol).err();
    assert_eq!(refused(&own, None), Some(400));
    assert_eq!(refused(&own, Some("ringback.v1")), Some(400));
    assert_eq!(refused("https://elsewhere.example", Some("sip")), Some(403));
    drop(open(&gateway));
}

/// RFC 7118 section 6 and RFC 5626 section 3.5.1: keep-alives; section 5: a message is a frame, of text or of bytes. REGISTER, and a
/// call that is answered at once with a browser's SDP, over connections whose names nobody can look up.
#[test]
fn a_browser_registers_and_calls_over_a_websocket() {
    let gateway = Gateway::embedded();
    let mut socket = open(&gateway);
    socket.send(Message::text("\r\n\r\n")).unwrap();
    assert_eq!(heard(&mut socket), "\r\n");
    let register = request("REGISTER", "alice", 1, "Expires: 600\r\nContent-Length: 0\r\n\r\n");
    socket.send(Message::binary(register.into_bytes())).unwrap();
    let registered = heard(&mut socket);
    assert!(registered.starts_with("SIP/2.0 200"), "{registered}");
    assert!(registered.contains("df7jal23ls0d.invalid"), "{registered}");
    // No Content-Length: the frame says where a message ends (RFC 7118 section 5).
    let invite = request("INVITE", "600", 1, &format!("Content-Type: application/sdp\r\n\r\n{OFFER}"));
    socket.send(Message::text(invite)).unwrap();
    let early = until(&mut socket, "SIP/2.0 183");
    assert!(early.contains("a=ice-lite") && early.contains("a=fingerprint:sha-256"), "{early}");
    assert!(early.contains("Via: SIP/2.0/WS df7jal23ls0d.invalid;"), "{early}");
    let ok = until(&mut socket, "SIP/2.0 200");
    assert!(ok.contains("a=ice-lite") && ok.contains(";transport=ws>"), "{ok}");
    let tag = ok.lines().find(|line| line.starts_with("To:")).and_then(|line| line.split(";tag=").nth(1)).unwrap();
    let own = |method: &str, cseq: u32| {
        let text = request(method, "600", cseq, "Content-Length: 0\r\n\r\n");
        let to = "To: <sip:600@localhost>";
        text.replace(to, &format!("{to};tag={tag}")).replace(&format!("{method}@df7"), "INVITE@df7")
    };
    socket.send(Message::text(own("ACK", 1))).unwrap();
    socket.send(Message::text(own("BYE", 2))).unwrap();
    until(&mut socket, "SIP/2.0 200");
    assert_eq!(gateway.cdr()["user"], "alice");
}

/// RFC 7118 section 6, RFC 6455 section 5.5.2: both ends ping. A connection from which nothing comes, not even pongs, is closed;
/// one that answers stays.
#[test]
fn a_socket_is_kept_by_pings_and_a_silent_one_is_closed() {
    let gateway = Gateway::embedded();
    let mut socket = open(&gateway);
    // Read past the WebSocket's back, it answers no ping.
    let mut silent = open(&gateway).get_ref().try_clone().unwrap();
    let until = |socket: &mut WebSocket<TcpStream>, wanted: &dyn Fn(&Message) -> bool| {
        while !wanted(&socket.read().expect("an open socket")) {}
    };
    socket.send(Message::Ping("are you there".into())).unwrap();
    until(&mut socket, &|message| *message == Message::Pong("are you there".into()));
    let closed = std::thread::spawn(move || copy(&mut silent, &mut sink()).expect("it ends within the patience"));
    while !closed.is_finished() {
        until(&mut socket, &|message| matches!(message, Message::Ping(_)));
    }
    assert!(closed.join().unwrap() > 0, "it was pinged before it was closed");
    socket.send(Message::text("\r\n\r\n")).unwrap();
    assert_eq!(heard(&mut socket), "\r\n");
}
