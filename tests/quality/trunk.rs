//! The SIP of a trunk that answers every call at once, with the media address that was agreed on for its number.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::description::{description, where_audio_is};

type Lines = Arc<Mutex<HashMap<String, (SocketAddr, mpsc::Sender<SocketAddr>)>>>;

pub struct Trunk {
    pub address: SocketAddr,
    lines: Lines,
    task: JoinHandle<()>,
}

impl Trunk {
    pub async fn start() -> Trunk {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free UDP port");
        let (address, lines) = (socket.local_addr().expect("an address"), Lines::default());
        let task = tokio::spawn(serve(socket, lines.clone()));
        Trunk { address, lines, task }
    }

    /// Calls to `number` have their media at `media`; where the gateway's is comes back.
    pub fn line(&self, number: &str, media: SocketAddr) -> mpsc::Receiver<SocketAddr> {
        let (tell, told) = mpsc::channel(4);
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).insert(number.to_owned(), (media, tell));
        told
    }

    pub async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn serve(socket: UdpSocket, lines: Lines) {
    let own = socket.local_addr().expect("an address");
    let mut buffer = [0; 8_192];
    loop {
        // An error is a port unreachable of an earlier response.
        let Ok((len, source)) = socket.recv_from(&mut buffer).await else { continue };
        let request = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let mut words = request.split_whitespace();
        let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let sdp = if method == "INVITE" {
            let number = uri.trim_start_matches("sip:").split(['@', ';']).next().unwrap_or_default();
            let line = lines.lock().unwrap_or_else(PoisonError::into_inner).get(number).cloned();
            let (media, tell) = line.unwrap_or_else(|| panic!("nobody has the number {number}"));
            let _ = tell.try_send(described(&request));
            Some(description(media))
        } else {
            None
        };
        if method != "ACK" && !method.starts_with("SIP/") {
            let _ = socket.send_to(answer(&request, own, sdp).as_bytes(), source).await;
        }
    }
}

/// 200 to a request (RFC 3261 section 8.2.6.2).
fn answer(request: &str, own: SocketAddr, sdp: Option<String>) -> String {
    let mut response = "SIP/2.0 200 OK\r\n".to_owned();
    for line in request.lines().skip(1).take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "via" | "v" | "from" | "f" | "call-id" | "i" | "cseq" => response += &format!("{line}\r\n"),
            "to" | "t" if line.contains("tag=") => response += &format!("{line}\r\n"),
            "to" | "t" => response += &format!("{line};tag=quality\r\n"),
            _ => {}
        }
    }
    response += &format!("Contact: <sip:{own}>\r\n");
    let sdp = sdp.unwrap_or_default();
    if !sdp.is_empty() {
        response += "Content-Type: application/sdp\r\n";
    }
    response + &format!("Content-Length: {}\r\n\r\n{sdp}", sdp.len())
}

/// Where a description's audio is.
pub fn described(message: &str) -> SocketAddr {
    where_audio_is(message).expect("an address and a port")
}
