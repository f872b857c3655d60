//! A browser without media: it says what the protocol wants said, at once, and no ICE check ever comes from it.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::sdp::{browser_answer, browser_offer};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a page does with a call that comes in.
#[derive(Debug, Clone, Copy)]
pub enum Habit {
    Accepts,
    Rejects,
    LetsItRing,
}

/// One session.
pub struct Page {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Page {
    pub async fn open(http: SocketAddr, user: &str) -> Page {
        let mut request = format!("ws://{http}/phone").into_client_request().expect("a WebSocket address");
        let headers = request.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", "ringback.v1".parse().expect("a header"));
        headers.insert("Origin", format!("http://{http}").parse().expect("a header"));
        let (socket, _) = tokio_tungstenite::connect_async(request).await.expect("a WebSocket");
        let mut page = Page { socket };
        page.say(json!({ "type": "hello", "user": user })).await;
        page.until("welcome").await;
        page
    }

    async fn say(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.expect("an open WebSocket");
    }

    /// The next message; nothing once the gateway has closed.
    async fn next(&mut self) -> Option<Value> {
        loop {
            match self.socket.next().await?.ok()? {
                Message::Text(text) => return Some(serde_json::from_str(text.as_str()).expect("JSON")),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    async fn until(&mut self, kind: &str) -> Value {
        let found = timeout(PATIENCE, async {
            while let Some(message) = self.next().await {
                if message["type"] == kind {
                    return message;
                }
                assert!(message["type"] != "ended" && message["type"] != "error", "{kind} expected: {message}");
            }
            panic!("closed before {kind}");
        });
        found.await.unwrap_or_else(|_| panic!("{kind} did not come"))
    }

    /// Answers calls as is its habit until it is aborted.
    pub fn serve(mut self, habit: Habit) -> JoinHandle<()> {
        tokio::spawn(async move {
            while let Some(message) = self.next().await {
                if message["type"] != "incoming" {
                    continue;
                }
                let call = &message["call"];
                match habit {
                    Habit::Accepts => {
                        let sdp = browser_answer(message["sdp"].as_str().expect("an offer"));
                        self.say(json!({ "type": "accept", "call": call, "sdp": sdp })).await;
                    }
                    Habit::Rejects => self.say(json!({ "type": "reject", "call": call, "code": 486 })).await,
                    Habit::LetsItRing => {}
                }
            }
        })
    }

    /// Calls, is answered and hangs up, so many times.
    pub async fn calls(mut self, to: &str, times: u32) {
        // A session may say twenty things a second.
        let mut pace = interval(Duration::from_millis(300));
        for _ in 0..times {
            pace.tick().await;
            self.say(json!({ "type": "call", "call": "c", "to": to, "sdp": browser_offer() })).await;
            self.until("answered").await;
            self.say(json!({ "type": "hangup", "call": "c" })).await;
            let ended = self.until("ended").await;
            assert_eq!(ended["cause"], "normal", "{ended}");
        }
    }
}
