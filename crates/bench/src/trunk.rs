//! The SIP of the phones: a user agent server (RFC 3261) that takes every call at once.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::description::{description, where_audio_is};

/// Where a phone's sound is, and who wants to know where the gateway's is.
type Expected = (SocketAddr, oneshot::Sender<SocketAddr>);

/// A running server.
#[derive(Debug)]
pub struct Trunk {
    /// Where it takes calls.
    pub address: SocketAddr,
    expected: Arc<Mutex<VecDeque<Expected>>>,
    task: JoinHandle<()>,
}

impl Trunk {
    /// Starts it.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(address: SocketAddr) -> anyhow::Result<Trunk> {
        let socket = UdpSocket::bind(address).await.with_context(|| format!("the phones' SIP address {address}"))?;
        let address = socket.local_addr()?;
        let expected = Arc::default();
        let task = tokio::spawn(serve(socket, address, Arc::clone(&expected)));
        Ok(Trunk { address, expected, task })
    }

    /// The next call is taken by the phone whose sound is at `media`; where the gateway's is comes back.
    pub fn expect(&self, media: SocketAddr) -> oneshot::Receiver<SocketAddr> {
        let (tell, told) = oneshot::channel();
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).push_back((media, tell));
        told
    }

    /// Ends it.
    pub async fn stop(self) {
        self.task.abort();
        // That it was aborted is no news.
        let _ = self.task.await;
    }
}

async fn serve(socket: UdpSocket, own: SocketAddr, expected: Arc<Mutex<VecDeque<Expected>>>) {
    let mut buffer = vec![0; 65_536];
    // By Call-ID: the same INVITE may come again.
    let mut taken: HashMap<String, SocketAddr> = HashMap::new();
    loop {
        // An error is a port unreachable of an earlier response.
        let Ok((len, source)) = socket.recv_from(&mut buffer).await else { continue };
        let request = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default()).into_owned();
        let method = request.split(' ').next().unwrap_or_default();
        if method == "ACK" || method.starts_with("SIP/") {
            continue;
        }
        let mut media = None;
        if method == "INVITE" {
            let call = field(&request, "Call-ID").unwrap_or_default().to_owned();
            media = taken.get(&call).copied();
            if media.is_none()
                && let Some(gateway) = where_audio_is(&request)
                && let Some((phone, tell)) = next(&expected)
            {
                // Whoever placed the call may have given up.
                let _ = tell.send(gateway);
                taken.insert(call, phone);
                media = Some(phone);
            }
        }
        if method == "BYE" {
            taken.remove(field(&request, "Call-ID").unwrap_or_default());
        }
        let status = if method == "INVITE" && media.is_none() { "486 Busy Here" } else { "200 OK" };
        let _ = socket.send_to(response(&request, status, own, media).as_bytes(), source).await;
    }
}

/// The next that is expected still: whoever placed a call that was refused has given up.
fn next(expected: &Mutex<VecDeque<Expected>>) -> Option<Expected> {
    let mut expected = expected.lock().unwrap_or_else(PoisonError::into_inner);
    std::iter::from_fn(|| expected.pop_front()).find(|(_, tell)| !tell.is_closed())
}

/// A header field's value.
fn field<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let fields = message.lines().take_while(|line| !line.is_empty());
    let mut fields = fields.filter_map(|line| line.split_once(':'));
    fields.find(|(known, _)| known.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The response to a request (RFC 3261 section 8.2.6.2).
fn response(request: &str, status: &str, own: SocketAddr, media: Option<SocketAddr>) -> String {
    let mut response = format!("SIP/2.0 {status}\r\n");
    for line in request.lines().skip(1).take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "via" | "v" | "from" | "f" | "call-id" | "i" | "cseq" => response += &format!("{line}\r\n"),
            "to" | "t" if line.contains("tag=") => response += &format!("{line}\r\n"),
            "to" | "t" => response += &format!("{line};tag=bench\r\n"),
            _ => {}
        }
    }
    response += &format!("Contact: <sip:{own}>\r\n");
    let sdp = media.map(description).unwrap_or_default();
    if !sdp.is_empty() {
        response += "Content-Type: application/sdp\r\n";
    }
    response + &format!("Content-Length: {}\r\n\r\n{sdp}", sdp.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK1\r\n\
        From: <sip:a@b>;tag=1\r\nTo: <sip:100@127.0.0.1>\r\nCall-ID: one\r\nCSeq: 1 INVITE\r\n\
        Content-Type: application/sdp\r\n\r\nv=0\r\nc=IN IP4 127.0.0.9\r\nm=audio 4000 RTP/AVP 0\r\n";

    async fn asked(socket: &UdpSocket, invite: &str) -> String {
        socket.send(invite.as_bytes()).await.unwrap();
        let mut buffer = [0; 4_096];
        let len = socket.recv(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    #[tokio::test]
    async fn a_call_is_taken_once_however_often_it_is_asked_for() {
        let trunk = Trunk::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(trunk.address).await.unwrap();
        assert!(asked(&socket, INVITE).await.starts_with("SIP/2.0 486 "), "nobody expects a call");
        drop(trunk.expect("127.0.0.1:6000".parse().unwrap()));
        let gateway = trunk.expect("127.0.0.1:7000".parse().unwrap());
        let answer = asked(&socket, INVITE).await;
        assert!(answer.starts_with("SIP/2.0 200 ") && answer.contains("m=audio 7000 "), "{answer}");
        assert_eq!(gateway.await.unwrap(), "127.0.0.9:4000".parse().unwrap());
        assert_eq!(asked(&socket, INVITE).await, answer);
        trunk.stop().await;
    }
}
