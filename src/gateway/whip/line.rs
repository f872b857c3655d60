//! A session of the browser protocol inside of the gateway: what a WebSocket is to a page, a line is to a call of WHIP.

use std::net::SocketAddr;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::problem::Problem;
use crate::gateway::ws::{Frame, OUTBOX};
use crate::gateway::{Event, Tasks};
use crate::signal::{ClientMessage, ServerMessage};
use crate::switch::{Input, SocketId};

/// An open session. Whoever opened it closes it.
pub(super) struct Line {
    socket: SocketId,
    tasks: Tasks,
    frames: mpsc::Receiver<Frame>,
    /// Its place among the sockets.
    _place: OwnedSemaphorePermit,
}

impl Line {
    /// # Errors
    /// 503 while the gateway ends.
    pub(super) async fn open(
        socket: SocketId,
        peer: SocketAddr,
        tasks: Tasks,
        place: OwnedSemaphorePermit,
    ) -> Result<Line, Problem> {
        let (outbox, frames) = mpsc::channel(OUTBOX);
        let opened = Event::SocketOpened { socket, peer, rings: false, outbox };
        let told = tasks.events.send(opened).await;
        told.map_err(|_| Problem::busy("the gateway stops"))?;
        Ok(Line { socket, tasks, frames, _place: place })
    }

    /// Says something to the gateway; when that is gone nothing is lost by it.
    pub(super) async fn say(&self, message: &ClientMessage) {
        let input = Input::SocketText { socket: self.socket, text: message.to_json() };
        let _ = self.tasks.events.send(Event::Switch(input)).await;
    }

    /// The next word of the gateway; `None`: it has let go of the session.
    pub(super) async fn hear(&mut self) -> Option<ServerMessage> {
        loop {
            match self.frames.recv().await? {
                // All that it says is of its own making, and can be read.
                Frame::Text(text) => match serde_json::from_str(&text) {
                    Ok(message) => return Some(message),
                    Err(error) => tracing::error!(%error, "a message of our own cannot be read"),
                },
                Frame::Close { .. } => return None,
            }
        }
    }

    /// The end of the session, and of its call.
    pub(super) async fn close(self) {
        let _ = self.tasks.events.send(Event::Switch(Input::SocketClosed { socket: self.socket, clean: true })).await;
    }
}
