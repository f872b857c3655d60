//! A SIP peer that answers everything, for tests that look at what the gateway sends it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::{PATIENCE, reply};

/// A running peer.
pub struct Uas {
    pub address: SocketAddr,
    heard: Receiver<String>,
}

impl Uas {
    /// Over UDP.
    pub fn udp() -> Uas {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let address = socket.local_addr().expect("bound");
        let (tell, heard) = channel();
        std::thread::Builder::new()
            .spawn(move || {
                let mut buffer = [0; 65_536];
                loop {
                    match socket.recv_from(&mut buffer) {
                        Ok((len, from)) => {
                            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
                            if let Some(answer) = answers(&text, address, "") {
                                let _ = socket.send_to(answer.as_bytes(), from); // the gateway may be gone
                            }
                            if tell.send(text).is_err() {
                                return;
                            }
                        }
                        Err(_) if tell.send(String::new()).is_err() => return, // the test is over
                        Err(_) => {}
                    }
                }
            })
            .expect("a thread");
        Uas { address, heard }
    }

    /// Over TCP, or TLS with these keys; connections are served one at a time each in a thread of its own.
    pub fn stream(tls: Option<Arc<ServerConfig>>) -> Uas {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("bound");
        let (tell, heard) = channel();
        std::thread::Builder::new()
            .spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let (tell, tls) = (tell.clone(), tls.clone());
                    let serve = move || match tls {
                        None => converse(stream, address, ";transport=tcp", &tell),
                        Some(config) => {
                            let connection = ServerConnection::new(config).expect("a connection");
                            converse(StreamOwned::new(connection, stream), address, ";transport=tls", &tell);
                        }
                    };
                    std::thread::Builder::new().spawn(serve).expect("a thread");
                }
            })
            .expect("a thread");
        Uas { address, heard }
    }

    /// The next request of that method.
    pub fn request(&self, method: &str) -> String {
        let begun = std::time::Instant::now();
        let mut seen = Vec::new();
        while begun.elapsed() < PATIENCE {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(text) if text.starts_with(method) => return text,
                Ok(text) => seen.extend(text.lines().next().map(str::to_owned)),
                Err(_) => break,
            }
        }
        panic!("no {method}; seen: {seen:?}");
    }

    /// Which requests came since the last look, but OPTIONS and ACK.
    pub fn heard(&self) -> Vec<String> {
        let method = |text: String| text.split_whitespace().next().map(str::to_owned);
        self.heard.try_iter().filter_map(method).filter(|m| !matches!(m.as_str(), "OPTIONS" | "ACK")).collect()
    }
}

fn converse(mut stream: impl Read + Write, address: SocketAddr, transport: &str, tell: &Sender<String>) {
    let (mut text, mut buffer) = (String::new(), [0; 16_384]);
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        text.push_str(&String::from_utf8_lossy(&buffer[..len]));
        while let Some(message) = take_message(&mut text) {
            if let Some(answer) = answers(&message, address, transport)
                && stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_err()
            {
                return;
            }
            if tell.send(message).is_err() {
                return;
            }
        }
    }
}

/// One whole message off the front; keep-alives before it are passed over.
fn take_message(text: &mut String) -> Option<String> {
    let begin = text.len() - text.trim_start_matches("\r\n").len();
    text.drain(..begin);
    let head = text.find("\r\n\r\n")? + 4;
    let length = text[..head].lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let end = head + length.and_then(|length| length.trim().parse::<usize>().ok()).unwrap_or(0);
    (text.len() >= end).then(|| text.drain(..end).collect())
}

fn answers(request: &str, address: SocketAddr, transport: &str) -> Option<String> {
    let contact = format!("Contact: <sip:uas@{address}{transport}>\r\n");
    match request.split_whitespace().next()? {
        "INVITE" => {
            let sdp =
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 19998 RTP/AVP 0\r\n";
            let rest = format!("{contact}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len());
            Some(reply(request, "200 OK", &rest))
        }
        "ACK" | "SIP/2.0" => None,
        _ => Some(reply(request, "200 OK", "Content-Length: 0\r\n\r\n")),
    }
}
