//! Browsers' WebSockets: frames in, frames out, nothing of the protocol itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::http::App;
use super::{Event, Tasks};
use crate::switch::{Input, SocketId};

/// The subprotocol of the browser protocol v1.
pub(super) const SUBPROTOCOL: &str = "ringback.v1";
/// The longest frame taken (docs/browser-protocol.md, "Limits").
const MAX_FRAME: usize = 64 * 1024;
/// Frames that may wait for a slow browser; past it the socket is closed.
pub(super) const OUTBOX: usize = 64;
/// How often a quiet socket is pinged.
pub(super) const PING_EVERY: Duration = Duration::from_secs(10);
/// A socket from which nothing came for so long is gone.
pub(super) const SILENT_FOR: Duration = Duration::from_secs(30);
/// How long one send may take.
pub(super) const SEND_WITHIN: Duration = Duration::from_secs(10);

/// The close code of a browser that is done (RFC 6455 section 7.4.1).
const DONE: u16 = 1000;

/// What one socket may send: a burst, and so much a second after it. A call takes about ten messages and 10 KiB.
pub(super) const BURST: Budget = Budget { messages: 100.0, bytes: 256.0 * 1024.0 };
const PER_SECOND: Budget = Budget { messages: 20.0, bytes: 64.0 * 1024.0 };

/// How much a socket may still send: a token bucket of messages and one of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    messages: f64,
    bytes: f64,
}

impl Budget {
    /// Takes a message of `len` bytes, `elapsed` after the one before; `false`: too many.
    pub(super) fn take(&mut self, len: usize, elapsed: Duration) -> bool {
        let gained = |rate: f64| rate * elapsed.as_secs_f64();
        self.messages = (self.messages + gained(PER_SECOND.messages)).min(BURST.messages) - 1.0;
        self.bytes = (self.bytes + gained(PER_SECOND.bytes)).min(BURST.bytes) - len as f64;
        self.messages >= 0.0 && self.bytes >= 0.0
    }
}

/// What the driver wants sent.
#[derive(Debug)]
pub(super) enum Frame {
    Text(String),
    Close { code: u16, reason: String },
}

/// `GET /phone`
pub(super) async fn upgrade(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    ws: WebSocketUpgrade,
) -> Response {
    let peer = app.source(peer, &headers);
    let checked = app.door.borrow().origins.check(&headers);
    if let Err(refusal) = checked {
        tracing::warn!(%peer, origin = ?headers.get(header::ORIGIN), "WebSocket refused: {refusal}");
        return (StatusCode::FORBIDDEN, refusal.to_string()).into_response();
    }
    let Ok(permit) = app.sockets.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many sockets").into_response();
    };
    // Without it each socket would hold 128 KiB.
    let ws = ws.read_buffer_size(4_096);
    let ws = ws.protocols([SUBPROTOCOL]).max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME);
    if ws.selected_protocol().is_none() {
        return (StatusCode::BAD_REQUEST, "the subprotocol is ringback.v1").into_response();
    }
    let tasks = app.tasks.clone();
    let socket_id = app.next_socket();
    let token = tasks.tracker.token(); // the shutdown waits for this socket too
    ws.on_upgrade(move |socket| async move {
        serve(socket, socket_id, peer, tasks, permit).await;
        drop(token);
    })
}

/// One socket, from its opening to its end.
async fn serve(socket: WebSocket, id: SocketId, peer: SocketAddr, tasks: Tasks, _permit: OwnedSemaphorePermit) {
    let (outbox, frames) = mpsc::channel(OUTBOX);
    if tasks.events.send(Event::SocketOpened { socket: id, peer, rings: true, outbox }).await.is_err() {
        return;
    }
    let mut link = Link { socket, id, tasks, frames, budget: BURST, heard: Instant::now(), clean: false };
    link.pump().await;
    let closed = Input::SocketClosed { socket: id, clean: link.clean };
    // The receiver is gone only when the gateway is.
    let _ = link.tasks.events.send(Event::Switch(closed)).await;
}

struct Link {
    socket: WebSocket,
    id: SocketId,
    tasks: Tasks,
    frames: mpsc::Receiver<Frame>,
    budget: Budget,
    heard: Instant,
    /// The browser has closed it as one that is done.
    clean: bool,
}

impl Link {
    async fn pump(&mut self) {
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let go_on = tokio::select! {
                frame = self.frames.recv() => self.send(frame).await,
                message = self.socket.recv() => {
                    let elapsed = self.heard.elapsed();
                    self.heard = Instant::now();
                    self.receive(message, elapsed).await
                }
                _ = ping.tick() => {
                    self.heard.elapsed() < SILENT_FOR && self.transmit(Message::Ping(Bytes::new())).await
                }
            };
            if !go_on {
                return;
            }
        }
    }

    /// `false`: this socket is over.
    async fn send(&mut self, frame: Option<Frame>) -> bool {
        match frame {
            Some(Frame::Text(text)) => self.transmit(Message::Text(text.into())).await,
            Some(Frame::Close { code, reason }) => self.close(code, reason).await,
            // The driver let go of this socket: it is too slow, or the gateway ends.
            None => self.close(1001, "going away".into()).await,
        }
    }

    async fn receive(&mut self, message: Option<Result<Message, axum::Error>>, elapsed: Duration) -> bool {
        let len = if let Some(Ok(message)) = &message { payload(message) } else { 0 };
        if !self.budget.take(len, elapsed) {
            tracing::warn!(socket = self.id.0, "a browser sends too much: its socket is closed");
            return self.close(1008, "too many messages".into()).await;
        }
        match message {
            Some(Ok(Message::Text(text))) => {
                let input = Input::SocketText { socket: self.id, text: text.as_str().to_owned() };
                self.tasks.events.send(Event::Switch(input)).await.is_ok()
            }
            Some(Ok(Message::Binary(_))) => self.close(1003, "text frames only".into()).await,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => true,
            Some(Ok(Message::Close(frame))) => {
                self.clean = frame.is_some_and(|frame| frame.code == DONE);
                false
            }
            None => false,
            Some(Err(error)) => {
                tracing::debug!(socket = self.id.0, %error, "WebSocket ended");
                // 1009 where the frame was too long, which is the error seen in practice.
                self.close(1009, "message too big or malformed".into()).await
            }
        }
    }

    async fn transmit(&mut self, message: Message) -> bool {
        matches!(timeout(SEND_WITHIN, self.socket.send(message)).await, Ok(Ok(())))
    }

    async fn close(&mut self, code: u16, reason: String) -> bool {
        self.transmit(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
        false
    }
}

pub(super) fn payload(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_may_send_a_burst_and_then_so_much_a_second() {
        let mut budget = BURST;
        let burst = (0..).take_while(|_| budget.take(10, Duration::ZERO)).count();
        assert_eq!(burst, 100);
        let mut budget = BURST;
        assert!((0..1000).all(|_| budget.take(1000, Duration::from_millis(60))), "a steady 17 a second is fine");
        let mut budget = BURST;
        assert_eq!((0..).take_while(|_| budget.take(64 * 1024, Duration::ZERO)).count(), 4);
    }
}
