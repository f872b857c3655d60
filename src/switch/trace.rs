//! What a trace of signalling asks: whose a browser's message is.

use std::net::SocketAddr;

use super::{CallId, SocketId, Switch};

impl Switch {
    /// The call that the session of an open socket has under this name.
    pub fn call_named(&self, wire: SocketId, name: &str) -> Option<CallId> {
        self.sessions.get(self.sessions.of_wire(wire)?)?.calls.get(name).copied()
    }

    /// The address of an open socket's browser.
    pub fn peer_of(&self, wire: SocketId) -> Option<SocketAddr> {
        self.sessions.get(self.sessions.of_wire(wire)?).map(|entry| entry.peer)
    }
}
