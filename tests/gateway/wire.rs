//! What RFC 3261 section 18, RFC 3581 and RFC 5626 say of the ways that messages take, as a peer of the running program
//! sees it on the wire.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::support::{Browser, PATIENCE, busy, call_is_refused, refuse_datagram, reply};
use crate::transports::{gateway, gateway_with};

fn socket(at: &str) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next datagram and its source.
#[track_caller]
fn datagram(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 4096];
    let (len, from) = socket.recv_from(&mut buffer).expect("a datagram");
    (String::from_utf8_lossy(&buffer[..len]).into_owned(), from)
}

/// A request of this method; what else comes is passed over.
fn request(socket: &UdpSocket, method: &str) -> (String, SocketAddr) {
    loop {
        let (text, from) = datagram(socket);
        if text.starts_with(method) {
            return (text, from);
        }
    }
}

/// UDP and TCP at one port of this machine.
fn both() -> (UdpSocket, TcpListener) {
    loop {
        let udp = socket("127.0.0.1:0");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn trunk_with_long_invites(udp: &UdpSocket) -> String {
    let long = "long ".repeat(240);
    format!("address = \"{}\"\nheaders = {{ \"X-Long\" = \"{}\" }}", udp.local_addr().unwrap(), long.trim_end())
}

/// One INVITE with its offer from a stream.
fn invite_from(stream: &mut TcpStream) -> String {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let len = stream.read(&mut buffer).expect("an INVITE");
        assert!(len > 0, "closed");
        read.extend_from_slice(&buffer[..len]);
        let text = String::from_utf8_lossy(&read).into_owned();
        if text.contains("m=audio") {
            return text;
        }
    }
}

/// RFC 3261 section 18.1.1: above 1,300 bytes over TCP. What belongs to the dialog goes where the peer's Contact says.
#[test]
fn a_large_invite_goes_over_tcp_where_the_peer_has_it() {
    let (udp, tcp) = both();
    let (_dir, gateway) = gateway("127.0.0.1", "", &trunk_with_long_invites(&udp), &[]);
    let phone = std::thread::spawn(move || {
        let mut stream = tcp.accept().unwrap().0;
        let invite = invite_from(&mut stream);
        let own = udp.local_addr().unwrap();
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP 0\r\n",
            own.port() // nobody listens to sound here
        );
        let rest = format!(
            "Contact: <sip:phone@{own}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        stream.write_all(reply(&invite, "200 OK", &rest).as_bytes()).unwrap();
        let (ack, _) = request(&udp, "ACK");
        let (bye, from) = request(&udp, "BYE");
        udp.send_to(reply(&bye, "200 OK", "Content-Length: 0\r\n\r\n").as_bytes(), from).unwrap();
        (invite, ack, bye)
    });
    let mut browser = Browser::of(&gateway, "alice");
    browser.call("c1", "600");
    browser.expect("answered");
    browser.send(&serde_json::json!({"type": "hangup", "call": "c1"}));
    browser.expect("ended");
    let (invite, ack, bye) = phone.join().unwrap();
    assert!(invite.len() > 1300 && invite.contains("Via: SIP/2.0/TCP "), "{invite}");
    assert!(ack.contains("Via: SIP/2.0/UDP ") && bye.contains("Via: SIP/2.0/UDP "), "{ack}{bye}");
}

/// A peer without TCP has the same INVITE as a datagram at once: the refused connection is no lost time, nor is it tried
/// again for the next call.
#[test]
fn a_large_invite_goes_over_udp_at_once_where_tcp_is_refused() {
    let udp = socket("127.0.0.1:0");
    let (_dir, gateway) = gateway("127.0.0.1", "", &trunk_with_long_invites(&udp), &[]);
    for call in ["c1", "c2"] {
        let mut browser = Browser::of(&gateway, "alice");
        let begin = Instant::now();
        browser.call(call, "600");
        let (invite, from) = request(&udp, "INVITE");
        let took = begin.elapsed();
        udp.send_to(busy(&invite).as_bytes(), from).unwrap();
        assert!(invite.len() > 1300 && invite.contains("Via: SIP/2.0/UDP "), "{invite}");
        // A connection that nobody refused would be waited for longer.
        assert!(took < Duration::from_secs(4), "{took:?}");
        assert_eq!(browser.expect("ended")["sip"], 486);
        request(&udp, "ACK");
    }
    gateway.logged(|line| line.contains("the peer has no TCP for a large request"));
}

fn options(via: &str, to: SocketAddr) -> String {
    format!(
        "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {via}\r\nMax-Forwards: 70\r\nFrom: <sip:a@example.com>;tag=1\r\n\
         To: <sip:{to}>\r\nCall-ID: {}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
        via.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
    )
}

fn top_via(text: &str) -> String {
    text.lines().find(|line| line.starts_with("Via:")).unwrap_or_default().to_owned()
}

/// Asks from addresses of `ip`, which the gateway at `sip` knows.
fn answers_find_their_way(ip: &str, sip: SocketAddr) {
    let (source, other) = (socket(&format!("{ip}:0")), socket(&format!("{ip}:0")));
    let (source_port, other_port) = (source.local_addr().unwrap().port(), other.local_addr().unwrap().port());
    let received = format!(";received={}", ip.trim_matches(['[', ']']));
    // RFC 3581 section 4: with rport to the source port, whatever the Via says, which a NAT has made wrong.
    for host in ["198.51.100.7:9", "[2001:db8::7]:9", "phone.example"] {
        source.send_to(options(&format!("{host};rport;branch=z9hG4bK{source_port}1"), sip).as_bytes(), sip).unwrap();
        let (answer, from) = datagram(&source);
        let via = top_via(&answer);
        assert!(answer.starts_with("SIP/2.0 200") && from == sip, "{answer}");
        assert!(via.contains(&received) && via.contains(&format!(";rport={source_port}")), "{via}");
    }
    // RFC 3261 section 18.2.2: without it to the port in the Via, at the address that the request came from.
    source
        .send_to(options(&format!("phone.example:{other_port};branch=z9hG4bK{source_port}2"), sip).as_bytes(), sip)
        .unwrap();
    let via = top_via(&datagram(&other).0);
    assert!(via.contains(&received) && !via.contains("rport"), "{via}");
    source.send_to(options(&format!("{ip}:{other_port};branch=z9hG4bK{source_port}3"), sip).as_bytes(), sip).unwrap();
    let via = top_via(&datagram(&other).0);
    assert!(!via.contains("received"), "{via}");
    source.set_nonblocking(true).unwrap();
    assert!(source.recv_from(&mut [0; 64]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
}

#[test]
fn answers_go_to_the_source_port_and_requests_ask_for_it() {
    for host in ["127.0.0.1", "[::1]"] {
        let peer = socket(&format!("{host}:0"));
        let trunk = format!("address = \"{}\"", peer.local_addr().unwrap());
        let (_dir, gateway) = gateway(host, "", &trunk, &[]);
        let phone = std::thread::spawn(move || {
            let invite = refuse_datagram(&peer);
            (invite, datagram(&peer).1)
        });
        call_is_refused(&gateway);
        let (invite, sip) = phone.join().unwrap();
        assert!(top_via(&invite).contains(&format!("UDP {sip};")) && top_via(&invite).contains(";rport"), "{invite}");
        answers_find_their_way(host, sip);
    }
}

/// `0.0.0.0` and `[::]` stand beside each other at one port, and IPv4 peers are never mapped ones.
#[test]
fn answers_go_to_the_source_port_where_both_families_are_bound() {
    let peer = socket("127.0.0.1:0");
    let port = socket("0.0.0.0:0").local_addr().unwrap().port();
    let sip = format!("udp = [\"0.0.0.0:{port}\", \"[::]:{port}\"]");
    let trunk = format!("address = \"{}\"\nsources = [\"::1\"]", peer.local_addr().unwrap());
    let (_dir, gateway) = gateway_with(&sip, "127.0.0.1", &trunk, &[]);
    let phone = std::thread::spawn(move || refuse_datagram(&peer));
    call_is_refused(&gateway);
    phone.join().unwrap();
    for ip in ["127.0.0.1", "[::1]"] {
        answers_find_their_way(ip, format!("{ip}:{port}").parse().unwrap());
    }
}

/// RFC 5626 section 4.4: NATs forget UDP soon, so a registration's flow carries a double CRLF before 30 s are over.
#[test]
fn a_registration_over_udp_is_kept_alive() {
    let registrar = socket("127.0.0.1:0");
    let trunk = format!(
        "address = \"{}\"\nregister = true\nuser = \"lab\"\npassword = \"correct-horse\"",
        registrar.local_addr().unwrap()
    );
    let (_dir, mut gateway) = gateway("127.0.0.1", "", &trunk, &[]);
    let (register, from) = request(&registrar, "REGISTER");
    let contact = register.lines().find(|line| line.starts_with("Contact:")).unwrap().to_owned();
    let ok = |register: &str| reply(register, "200 OK", &format!("{contact}\r\nContent-Length: 0\r\n\r\n"));
    registrar.send_to(ok(&register).as_bytes(), from).unwrap();
    let begin = Instant::now();
    let (text, source) = datagram(&registrar);
    let after = begin.elapsed();
    assert_eq!((text.as_str(), source), ("\r\n\r\n", from));
    assert!((20..35).contains(&after.as_secs()), "{after:?}");
    gateway.terminate();
    let (goodbye, from) = request(&registrar, "REGISTER");
    assert!(goodbye.contains("expires=0") || goodbye.contains("Expires: 0"), "{goodbye}");
    registrar.send_to(ok(&goodbye).as_bytes(), from).unwrap();
    assert!(gateway.wait().success());
}

/// The registrar restarts: its connections break, and the registration is made anew over another one, with the same Call-ID
/// and a higher CSeq (RFC 3261 section 10.2.4).
#[test]
fn a_registration_whose_connection_broke_is_made_anew() {
    let registrar = TcpListener::bind("127.0.0.1:0").unwrap();
    let trunk = format!(
        "address = \"{}\"\ntransport = \"tcp\"\nregister = true\nuser = \"lab\"\npassword = \"correct-horse\"",
        registrar.local_addr().unwrap()
    );
    let (_dir, mut gateway) = gateway("127.0.0.1", "", &trunk, &[]);
    let field = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let mut registered = Vec::new();
    for restart in [false, true] {
        let (mut stream, _) = registrar.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let register = message_from(&mut stream);
        let rest = format!("{}\r\nContent-Length: 0\r\n\r\n", field(&register, "Contact:"));
        stream.write_all(reply(&register, "200 OK", &rest).as_bytes()).unwrap();
        registered.push((field(&register, "Call-ID:"), field(&register, "CSeq:")));
        if restart {
            gateway.terminate();
            let goodbye = message_from(&mut stream);
            stream.write_all(reply(&goodbye, "200 OK", "Content-Length: 0\r\n\r\n").as_bytes()).unwrap();
            registered.push((field(&goodbye, "Call-ID:"), field(&goodbye, "CSeq:")));
            assert!(gateway.wait().success());
        }
    }
    assert!(registered.iter().all(|(call_id, _)| *call_id == registered[0].0), "{registered:?}");
    let cseqs: Vec<&str> = registered.iter().map(|(_, cseq)| cseq.as_str()).collect();
    assert_eq!(cseqs, ["CSeq: 1 REGISTER", "CSeq: 2 REGISTER", "CSeq: 3 REGISTER"]);
}

/// One message without a body from a stream.
fn message_from(stream: &mut TcpStream) -> String {
    let (mut read, mut byte) = (Vec::new(), [0; 1]);
    while !read.ends_with(b"\r\n\r\n") || read.iter().all(u8::is_ascii_whitespace) {
        assert_eq!(stream.read(&mut byte).expect("a message"), 1, "closed");
        read.extend_from_slice(&byte);
    }
    String::from_utf8(read).unwrap()
}
