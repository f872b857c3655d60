//! Browsers' sockets and sessions, and which user's they are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::call::{self, CallId, SocketId};
use crate::dialplan::Caller;

/// A session that said hello.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// Whose.
    pub user: String,
    /// What the token says; defaults without one.
    pub rights: Rights,
}

impl Session {
    /// What it may, as a call asks.
    pub fn call_rights(&self) -> call::Rights {
        let Rights { class, caller_id, destinations, longest, any_caller_id, .. } = self.rights.clone();
        let caller = Caller { user: self.user.clone(), class, caller_id, asked: None, destinations };
        call::Rights { caller, any_caller_id, longest }
    }

    /// Whether its token has run out.
    pub fn is_expired(&self, unix_ms: u64) -> bool {
        self.rights.expires.is_some_and(|at| at.saturating_mul(1000) <= unix_ms)
    }
}

/// What a session may do.
#[derive(Clone, Debug, Default)]
pub(super) struct Rights {
    pub class: Option<String>,
    pub caller_id: Option<String>,
    pub destinations: Option<Vec<String>>,
    pub longest: Option<Duration>,
    /// Whether any caller id asked for is taken for the user's own.
    pub any_caller_id: bool,
    /// When the token runs out, Unix seconds.
    pub expires: Option<u64>,
}

/// One socket.
#[derive(Debug)]
pub(super) struct Socket {
    pub peer: SocketAddr,
    /// Whether its session can be called.
    pub rings: bool,
    /// `None` until hello.
    pub session: Option<Session>,
    /// The calls of this socket by the browser's name for them.
    pub calls: BTreeMap<String, CallId>,
}

/// All sockets.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sockets: BTreeMap<SocketId, Socket>,
    users: BTreeMap<String, BTreeSet<SocketId>>,
}

impl Sessions {
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    pub fn open(&mut self, socket: SocketId, peer: SocketAddr, rings: bool) {
        let fresh = Socket { peer, rings, session: None, calls: BTreeMap::new() };
        self.sockets.insert(socket, fresh);
    }

    pub fn get(&self, socket: SocketId) -> Option<&Socket> {
        self.sockets.get(&socket)
    }

    pub fn get_mut(&mut self, socket: SocketId) -> Option<&mut Socket> {
        self.sockets.get_mut(&socket)
    }

    /// Opens the session of a socket.
    pub fn greet(&mut self, socket: SocketId, session: Session) {
        if let Some(entry) = self.sockets.get_mut(&socket) {
            self.users.entry(session.user.clone()).or_default().insert(socket);
            entry.session = Some(session);
        }
    }

    /// Forgets a socket; what it was comes back.
    pub fn remove(&mut self, socket: SocketId) -> Option<Socket> {
        let gone = self.sockets.remove(&socket)?;
        if let Some(user) = gone.session.as_ref().map(|session| &session.user)
            && let Some(sockets) = self.users.get_mut(user)
        {
            sockets.remove(&socket);
            if sockets.is_empty() {
                self.users.remove(user);
            }
        }
        Some(gone)
    }

    /// The browsers of a user that may be rung: the token is good and there is room for one more call.
    pub fn ringable(&self, user: &str, unix_ms: u64, most_calls: usize) -> Vec<SocketId> {
        let rings = |socket: &SocketId| {
            self.sockets.get(socket).is_some_and(|entry| {
                let valid = entry.session.as_ref().is_some_and(|session| !session.is_expired(unix_ms));
                valid && entry.rings && entry.calls.len() < most_calls
            })
        };
        self.of(user).filter(rings).collect()
    }

    /// The open sessions of a user.
    pub fn of(&self, user: &str) -> impl Iterator<Item = SocketId> + '_ {
        self.users.get(user).into_iter().flatten().copied()
    }

    /// All sockets with a session.
    pub fn greeted(&self) -> Vec<SocketId> {
        self.sockets.iter().filter(|(_, socket)| socket.session.is_some()).map(|(id, _)| *id).collect()
    }

    pub fn users(&self) -> usize {
        self.users.len()
    }
}
