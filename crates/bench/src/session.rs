//! The browser's signalling: protocol version 1 over a WebSocket, one session a call as of one page
//! (docs/browser-protocol.md).

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The name of a session's one call.
const CALL: &str = "c";

/// The gateway has refused a call, or ended it.
#[derive(Debug)]
pub struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the gateway says {}", self.0)
    }
}

impl std::error::Error for Refused {}

/// A session that has no call yet, or one that is being set up.
pub struct Session {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Session {
    /// Opens a session at a gateway, such as `ws://127.0.0.1:8080`, with a token or by a name.
    ///
    /// # Errors
    /// When the gateway cannot be reached, or refuses.
    pub async fn open(gateway: &str, user: &str, token: Option<&str>) -> anyhow::Result<Session> {
        let host = gateway.strip_prefix("ws://").context("a gateway's address begins with ws://")?;
        let mut request = format!("{gateway}/phone").into_client_request()?;
        let headers = request.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", "ringback.v1".parse()?);
        headers.insert("Origin", format!("http://{host}").parse()?);
        // Without Nagle's algorithm, as browsers do: an offer would wait 40 ms for the acknowledgement of what was said before.
        let connecting = connect_async_with_config(request, None, true);
        let connected = timeout(PATIENCE, connecting).await.context("the gateway does not answer")?;
        let (socket, _) = connected.with_context(|| format!("the WebSocket of {gateway}"))?;
        let mut session = Session { socket };
        let hello = match token {
            Some(token) => json!({ "type": "hello", "token": token }),
            None => json!({ "type": "hello", "user": user }),
        };
        session.say(&hello).await?;
        session.until("welcome").await?;
        Ok(session)
    }

    /// Calls, and gives the answer's description, which comes before anybody has answered.
    ///
    /// # Errors
    /// When the call is refused or the gateway is gone.
    pub async fn call(&mut self, number: &str, offer: &str) -> anyhow::Result<String> {
        self.say(&json!({ "type": "call", "call": CALL, "to": number, "sdp": offer })).await?;
        let answer = self.until("answer").await?;
        Ok(answer["sdp"].as_str().context("an answer without a description")?.to_owned())
    }

    /// Waits until the called side has answered: the call stands.
    ///
    /// # Errors
    /// When it ends, or the gateway is gone.
    pub async fn answered(mut self) -> anyhow::Result<Standing> {
        self.until("answered").await?;
        let (hang_up, asked) = oneshot::channel();
        Ok(Standing { hang_up, task: tokio::spawn(self.stand(asked)) })
    }

    async fn say(&mut self, message: &Value) -> anyhow::Result<()> {
        self.socket.send(Message::text(message.to_string())).await.context("the gateway's WebSocket")
    }

    async fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            let message = self.socket.next().await.context("the gateway has closed the WebSocket")??;
            if let Message::Text(text) = message {
                return Ok(serde_json::from_str(text.as_str())?);
            }
        }
    }

    async fn until(&mut self, kind: &str) -> anyhow::Result<Value> {
        let found = timeout(PATIENCE, async {
            loop {
                let message = self.next().await?;
                if message["type"] == kind {
                    return Ok(message);
                }
                if message["type"] == "ended" || message["type"] == "error" {
                    return Err(Refused(message.to_string()).into());
                }
            }
        });
        found.await.with_context(|| format!("`{kind}` does not come"))?
    }

    /// Lets the messages pass until the end is asked for.
    async fn stand(mut self, mut asked: oneshot::Receiver<()>) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                _ = &mut asked => break,
                message = self.next() => {
                    let message = message?;
                    if message["type"] == "ended" {
                        bail!("a call has ended by itself: {message}");
                    }
                }
            }
        }
        self.say(&json!({ "type": "hangup", "call": CALL })).await?;
        let ended = timeout(PATIENCE, async {
            while self.next().await?["type"] != "ended" {}
            Ok(())
        });
        ended.await.context("`ended` does not come")?
    }
}

/// A session with a call that stands.
#[derive(Debug)]
pub struct Standing {
    hang_up: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Standing {
    /// Hangs up, and waits for the end.
    ///
    /// # Errors
    /// When the call had ended before, and why.
    pub async fn hang_up(self) -> anyhow::Result<()> {
        // A call that has ended hears nothing; its task tells why.
        let _ = self.hang_up.send(());
        self.task.await.context("a session's task")?
    }
}
