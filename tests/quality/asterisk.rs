//! Asterisk between page and phone: a call by plain SIP with a page's description, as its `webrtc` endpoints take them,
//! which it dials on to the trunk.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use crate::peer::PATIENCE;

pub struct Asterisk {
    pub address: SocketAddr,
    /// The trunk that it dials on to.
    pub phone: SocketAddr,
}

/// One call.
pub struct Line {
    pub number: String,
    socket: UdpSocket,
    asterisk: SocketAddr,
    phone: SocketAddr,
    /// Of the peer, when it has answered.
    to: String,
    target: String,
}

impl Asterisk {
    pub async fn line(&self, index: usize) -> Line {
        let number = format!("1{index:02}");
        let target = format!("sip:{number}@{}", self.address);
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free UDP port");
        let (asterisk, phone) = (self.address, self.phone);
        Line { to: format!("<{target}>"), number, socket, asterisk, phone, target }
    }
}

impl Line {
    /// Calls, and yields the answer's description.
    pub async fn place(&mut self, offer: &str) -> String {
        let answered = self.request("INVITE", 1, offer).await;
        self.to = field(&answered, "To").to_owned();
        let target = field(&answered, "Contact").split(['<', '>']).nth(1).expect("a URI").to_owned();
        self.target = target;
        let ack = self.message("ACK", 1, "");
        self.socket.send_to(ack.as_bytes(), self.asterisk).await.expect("a datagram sent");
        answered.split_once("\r\n\r\n").expect("a body").1.to_owned()
    }

    pub async fn hang_up(self) {
        self.request("BYE", 2, "").await;
    }

    /// Sends a request until a response comes (RFC 3261 section 17.1), and yields the 200.
    async fn request(&self, method: &str, number: u32, body: &str) -> String {
        let request = self.message(method, number, body);
        let (end, mut buffer) = (Instant::now() + PATIENCE, vec![0; 65_536]);
        let (mut heard, mut wait) = (false, Duration::from_millis(500));
        while Instant::now() < end {
            if !heard {
                self.socket.send_to(request.as_bytes(), self.asterisk).await.expect("a datagram sent");
            }
            let Ok(received) = timeout(wait, self.socket.recv(&mut buffer)).await else {
                wait *= 2;
                continue;
            };
            let Ok(len) = received else { continue };
            let response = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if !response.starts_with("SIP/2.0 ") || !field(&response, "CSeq").ends_with(method) {
                continue;
            }
            heard = true;
            match response.split(' ').nth(1) {
                Some("200") => return response,
                Some(code) if code.starts_with('1') => {}
                _ => panic!("{method} {}: {response}", self.target),
            }
        }
        panic!("no answer to {method} {}", self.target);
    }

    fn message(&self, method: &str, number: u32, body: &str) -> String {
        let own = self.socket.local_addr().expect("an address");
        let Line { target, to, phone, .. } = self;
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK-{method}-{port};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:page@{own}>;tag=page\r\nTo: {to}\r\nCall-ID: {port}@quality\r\nCSeq: {number} {method}\r\n\
             Contact: <sip:page@{own}>\r\nX-Phone: {phone}\r\n{kind}Content-Length: {len}\r\n\r\n{body}",
            port = own.port(),
            len = body.len(),
        )
    }
}

/// A header field's value.
fn field<'a>(message: &'a str, name: &str) -> &'a str {
    let value =
        |line: &'a str| line.split_once(':').filter(|(known, _)| known.trim() == name).map(|(_, value)| value.trim());
    message.lines().find_map(value).unwrap_or_default()
}
