//! SIP over WebSocket ([RFC 7118](https://www.rfc-editor.org/rfc/rfc7118)): the door for JsSIP, SIP.js and their like. A
//! message is a frame; to the driver each WebSocket is one more connection of SIP.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::http::{App, Local};
use super::sip_stream::{Connection, MAX_MESSAGE, OUTBOX, next_id};
use super::ws::{BURST, Budget, PING_EVERY, SEND_WITHIN, SILENT_FOR, payload};
use super::{Event, Tasks};
use crate::sip::{Flow, Transport};
use crate::switch::Input;

/// The subprotocol (RFC 7118 section 4.1).
pub(super) const SUBPROTOCOL: &str = "sip";

/// `GET /sip`
pub(super) async fn upgrade(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(local): Extension<Local>,
    headers: HeaderMap,
    ws: WebSocketUpgrade,
) -> Response {
    let peer = app.source(peer, &headers);
    let (checked, open) = {
        let door = app.door.borrow();
        (door.origins.check(&headers), door.sip)
    };
    if !open {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    }
    if let Err(refusal) = checked {
        tracing::warn!(%peer, origin = ?headers.get(header::ORIGIN), "SIP over WebSocket refused: {refusal}");
        return (StatusCode::FORBIDDEN, refusal.to_string()).into_response();
    }
    let Ok(permit) = app.sockets.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many sockets").into_response();
    };
    // Without it each socket would hold 128 KiB.
    let ws = ws.read_buffer_size(4_096);
    let ws = ws.protocols([SUBPROTOCOL]).max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    if ws.selected_protocol().is_none() {
        return (StatusCode::BAD_REQUEST, "the subprotocol is sip").into_response();
    }
    let tasks = app.tasks.clone();
    let transport = if local.secure { Transport::Wss } else { Transport::Ws };
    let flow = Flow { transport, local: local.address, remote: peer, id: next_id() };
    let token = tasks.tracker.token(); // the shutdown waits for this socket too
    ws.on_upgrade(move |socket| async move {
        serve(socket, flow, tasks, permit).await;
        drop(token);
    })
}

/// One socket, from its opening to its end.
async fn serve(socket: WebSocket, flow: Flow, tasks: Tasks, _permit: OwnedSemaphorePermit) {
    let (outbox, queue) = mpsc::channel(OUTBOX);
    let (reply, admitted) = oneshot::channel();
    let connection = Connection::accepted(flow, outbox);
    if tasks.sip.send(Event::SipAccepted { connection, reply }).await.is_err() {
        return; // the driver is gone
    }
    let input = match timeout(SEND_WITHIN, admitted).await {
        Ok(Ok(true)) => {
            let mut link = Link { socket, flow, queue, tasks: tasks.clone(), budget: BURST, heard: Instant::now() };
            match link.pump().await {
                true => Input::SipClosed { flow },
                false => Input::SipFailed { flow },
            }
        }
        Ok(_) => return, // refused
        Err(_) => Input::SipClosed { flow },
    };
    let _ = tasks.sip.send(Event::SipClosed { flow, input }).await; // the driver may be gone
}

struct Link {
    socket: WebSocket,
    flow: Flow,
    queue: mpsc::Receiver<Vec<u8>>,
    tasks: Tasks,
    budget: Budget,
    heard: Instant,
}

/// What comes after a turn of [`Link::pump`].
enum Turn {
    GoOn,
    /// In good order.
    Closed,
    Broken,
}

impl Link {
    /// Until the end; `true`: it ended in good order.
    async fn pump(&mut self) -> bool {
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let turn = tokio::select! {
                bytes = self.queue.recv() => self.send(bytes).await,
                message = self.socket.recv() => self.receive(message).await,
                _ = ping.tick() => match self.heard.elapsed() < SILENT_FOR {
                    true => self.transmit(Message::Ping(Bytes::new())).await,
                    false => Turn::Broken,
                },
            };
            match turn {
                Turn::GoOn => {}
                Turn::Closed => return true,
                Turn::Broken => return false,
            }
        }
    }

    async fn send(&mut self, bytes: Option<Vec<u8>>) -> Turn {
        match bytes.map(String::from_utf8) {
            // RFC 7118 section 5: either kind of frame; text is what every library reads.
            Some(Ok(text)) => self.transmit(Message::Text(text.into())).await,
            Some(Err(error)) => self.transmit(Message::Binary(error.into_bytes().into())).await,
            // The driver let go of it: it is too slow or not in use, or the gateway ends.
            None => self.close(1001, "going away").await,
        }
    }

    async fn receive(&mut self, message: Option<Result<Message, axum::Error>>) -> Turn {
        let elapsed = self.heard.elapsed();
        self.heard = Instant::now();
        let len = if let Some(Ok(message)) = &message { payload(message) } else { 0 };
        if !self.budget.take(len, elapsed) {
            tracing::warn!(remote = %self.flow.remote, "a browser sends too much SIP: its socket is closed");
            return self.close(1008, "too many messages").await;
        }
        match message {
            Some(Ok(Message::Text(text))) => self.take(text.as_str().as_bytes().to_vec()).await,
            Some(Ok(Message::Binary(bytes))) => self.take(bytes.to_vec()).await,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Turn::GoOn,
            Some(Ok(Message::Close(_))) | None => Turn::Closed,
            Some(Err(error)) => {
                tracing::debug!(remote = %self.flow.remote, %error, "WebSocket ended");
                let _ = self.close(1009, "message too big or malformed").await;
                Turn::Broken
            }
        }
    }

    /// One message, or a keep-alive: a double CRLF is answered by a single one (RFC 5626 section 3.5.1, RFC 7118 section 6).
    async fn take(&mut self, bytes: Vec<u8>) -> Turn {
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            return match bytes.as_slice() {
                b"\r\n\r\n" => self.transmit(Message::Text("\r\n".into())).await,
                _ => Turn::GoOn,
            };
        }
        match self.tasks.sip.send(Event::Switch(Input::Sip { flow: self.flow, bytes })).await {
            Ok(()) => Turn::GoOn,
            Err(_) => Turn::Closed,
        }
    }

    async fn transmit(&mut self, message: Message) -> Turn {
        match timeout(SEND_WITHIN, self.socket.send(message)).await {
            Ok(Ok(())) => Turn::GoOn,
            Ok(Err(_)) | Err(_) => Turn::Broken,
        }
    }

    async fn close(&mut self, code: u16, reason: &'static str) -> Turn {
        self.transmit(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
        Turn::Closed
    }
}
