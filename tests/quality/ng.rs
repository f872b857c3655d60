//! rtpengine's orders, as a SIP proxy gives them: its NG protocol, a cookie and a JSON object in a datagram.
//!
//! Shared with the load driver, `crates/bench`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

/// How long an order is given again and again: the program may still be starting.
const PATIENCE: Duration = Duration::from_secs(20);

/// Gives orders to one rtpengine.
#[derive(Debug)]
pub struct Orders {
    socket: UdpSocket,
    given: u32,
}

impl Orders {
    /// To the one that takes them there.
    ///
    /// # Errors
    /// Without a free port.
    pub async fn to(address: SocketAddr) -> anyhow::Result<Orders> {
        let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 8], 0).into() };
        let socket = UdpSocket::bind(any).await.context("a UDP port")?;
        socket.connect(address).await?;
        Ok(Orders { socket, given: 0 })
    }

    /// Finds out whether it is there.
    ///
    /// # Errors
    /// When it is not; so with all orders, and when it refuses them.
    pub async fn ping(&mut self) -> anyhow::Result<()> {
        self.give(json!({ "command": "ping" })).await.map(|_| ())
    }

    /// A page offers: gives what the phone is to be offered. Opus becomes PCMU and back.
    ///
    /// # Errors
    /// See [`ping`](Self::ping).
    pub async fn offer(&mut self, call: &str, sdp: &str) -> anyhow::Result<String> {
        let order = json!({
            "command": "offer", "call-id": call, "from-tag": "page", "sdp": sdp,
            "transport-protocol": "RTP/AVP", "ICE": "remove", "rtcp-mux": ["demux"], "bundle": ["accept"],
            "codec": { "mask": ["opus"], "transcode": ["PCMU"] },
        });
        description(self.give(order).await?)
    }

    /// The phone answers: gives the page's answer.
    ///
    /// # Errors
    /// See [`ping`](Self::ping).
    pub async fn answer(&mut self, call: &str, sdp: &str) -> anyhow::Result<String> {
        let order = json!({
            "command": "answer", "call-id": call, "from-tag": "page", "to-tag": "phone", "sdp": sdp, "ICE": "force",
        });
        description(self.give(order).await?)
    }

    /// The call is over.
    ///
    /// # Errors
    /// See [`ping`](Self::ping).
    pub async fn delete(&mut self, call: &str) -> anyhow::Result<()> {
        let order = json!({ "command": "delete", "call-id": call, "from-tag": "page", "delete-delay": 0 });
        self.give(order).await.map(|_| ())
    }

    async fn give(&mut self, order: Value) -> anyhow::Result<Value> {
        self.given += 1;
        let port = self.socket.local_addr()?.port();
        let cookie = format!("{}-{port}-{} ", std::process::id(), self.given);
        let datagram = format!("{cookie}{order}");
        let (end, mut buffer) = (Instant::now() + PATIENCE, vec![0; 65_536]);
        while Instant::now() < end {
            // An error is a port unreachable of an earlier order.
            let _ = self.socket.send(datagram.as_bytes()).await;
            let answered = timeout(Duration::from_millis(500), async {
                loop {
                    if let Ok(len) = self.socket.recv(&mut buffer).await
                        && let Some(answer) = buffer.get(..len).and_then(|came| came.strip_prefix(cookie.as_bytes()))
                    {
                        return serde_json::from_slice::<Value>(answer);
                    }
                    tokio::task::yield_now().await;
                }
            });
            if let Ok(answer) = answered.await {
                let answer = answer.context("rtpengine's answer")?;
                return if answer["result"] == "error" {
                    bail!("rtpengine refuses {order}: {answer}")
                } else {
                    Ok(answer)
                };
            }
        }
        bail!("rtpengine does not answer")
    }
}

fn description(answer: Value) -> anyhow::Result<String> {
    answer["sdp"].as_str().map(str::to_owned).with_context(|| format!("rtpengine gives no description: {answer}"))
}
