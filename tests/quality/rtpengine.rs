//! rtpengine between page and phone, by the orders that a SIP proxy would give it (its NG protocol: a cookie and a JSON
//! object in a datagram). It terminates ICE and DTLS, and turns Opus into PCMU and back.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use crate::middle::Agreed;
use crate::peer::PATIENCE;
use crate::trunk::{described, description};

pub struct Rtpengine {
    address: SocketAddr,
}

/// One call.
pub struct Line {
    orders: Orders,
    call: String,
    media: SocketAddr,
}

struct Orders {
    socket: UdpSocket,
    given: u32,
}

impl Rtpengine {
    /// The one that listens there, when it does.
    pub async fn at(address: SocketAddr) -> Rtpengine {
        assert_eq!(Orders::to(address).await.give(json!({ "command": "ping" })).await["result"], "pong");
        Rtpengine { address }
    }

    pub async fn line(&self, index: usize, media: SocketAddr) -> Line {
        Line { orders: Orders::to(self.address).await, call: format!("quality-{index}-{}", media.port()), media }
    }
}

impl Line {
    pub async fn place(&mut self, offer: &str) -> Agreed {
        let to_phone = self
            .orders
            .give(json!({
                "command": "offer", "call-id": self.call, "from-tag": "page", "sdp": offer,
                "transport-protocol": "RTP/AVP", "ICE": "remove", "rtcp-mux": ["demux"], "bundle": ["accept"],
                "codec": { "mask": ["opus"], "transcode": ["PCMU"] },
            }))
            .await;
        let phone = described(sdp(&to_phone));
        let to_page = self
            .orders
            .give(json!({
                "command": "answer", "call-id": self.call, "from-tag": "page", "to-tag": "phone",
                "sdp": description(self.media), "ICE": "force",
            }))
            .await;
        Agreed { answer: sdp(&to_page).to_owned(), phone }
    }

    pub async fn hang_up(mut self) {
        self.orders
            .give(json!({ "command": "delete", "call-id": self.call, "from-tag": "page", "delete-delay": 0 }))
            .await;
    }
}

fn sdp(answer: &Value) -> &str {
    answer["sdp"].as_str().unwrap_or_else(|| panic!("no description: {answer}"))
}

impl Orders {
    async fn to(address: SocketAddr) -> Orders {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free UDP port");
        socket.connect(address).await.expect("an address");
        Orders { socket, given: 0 }
    }

    /// Gives an order, again and again until it is answered: it may still be starting.
    async fn give(&mut self, order: Value) -> Value {
        self.given += 1;
        let port = self.socket.local_addr().expect("an address").port();
        let cookie = format!("{}-{port}-{} ", std::process::id(), self.given);
        let datagram = format!("{cookie}{order}");
        let (end, mut buffer) = (Instant::now() + PATIENCE, vec![0; 65_536]);
        while Instant::now() < end {
            // An error is a port unreachable of an earlier order.
            let _ = self.socket.send(datagram.as_bytes()).await;
            let answered = timeout(Duration::from_millis(500), async {
                loop {
                    if let Ok(len) = self.socket.recv(&mut buffer).await
                        && let Some(answer) = buffer[..len].strip_prefix(cookie.as_bytes())
                    {
                        return serde_json::from_slice::<Value>(answer).expect("JSON");
                    }
                    tokio::task::yield_now().await;
                }
            });
            if let Ok(answer) = answered.await {
                assert_ne!(answer["result"], "error", "{order}: {answer}");
                return answer;
            }
        }
        panic!("rtpengine does not answer");
    }
}
