//! Browsers' sockets and sessions, and which user's they are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::memory::{Allowance, Memory};
use super::users::{Door, SessionView};
use crate::call::limits::TokenId;
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
    /// What it may by a call that it makes or takes from this address.
    pub fn call_rights(&self, from: Option<IpAddr>) -> call::Rights {
        let Rights { class, caller_id, destinations, longest, any_caller_id, token, .. } = self.rights.clone();
        let caller = Caller { user: self.user.clone(), class, caller_id, asked: None, destinations };
        call::Rights { caller, any_caller_id, longest, token, address: from }
    }

    /// Whether its token has run out.
    pub fn is_expired(&self, unix_ms: u64) -> bool {
        self.rights.expires.is_some_and(|at| at.saturating_mul(1000) <= unix_ms)
    }
}

impl Socket {
    /// What its calls may do, once it has said hello.
    pub fn rights(&self) -> Option<call::Rights> {
        Some(self.session.as_ref()?.call_rights(Some(self.peer.ip())))
    }

    /// The call, or the probe, that its browser has given this name.
    pub fn named(&self, name: &str) -> Option<CallId> {
        let probe = self.probe.as_ref().filter(|(own, _)| own == name).map(|(_, id)| *id);
        self.calls.get(name).copied().or(probe)
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
    /// The token, as the limits know it.
    pub token: Option<TokenId>,
}

/// A session: a browser's, over the sockets that it has one after the other. It is named by the first of them.
#[derive(Debug)]
pub(super) struct Socket {
    pub peer: SocketAddr,
    /// Whether its session can be called.
    pub rings: bool,
    /// The socket that it has at present; `None` while it waits to be taken up again.
    pub wire: Option<SocketId>,
    /// `None` until hello.
    pub session: Option<Session>,
    /// The calls of this session by the browser's name for them.
    pub calls: BTreeMap<String, CallId>,
    /// The probe of the way to us, and the browser's name for it.
    pub probe: Option<(String, CallId)>,
    /// What it is told when it comes back, and what takes it up again.
    pub memory: Memory,
    /// How often it may ask what would become of a number, or say what a call was like.
    pub checks: Allowance,
}

/// All sessions, those that have not said hello yet among them.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sockets: BTreeMap<SocketId, Socket>,
    users: BTreeMap<String, BTreeSet<SocketId>>,
    /// Whose the open sockets are.
    wires: BTreeMap<SocketId, SocketId>,
}

impl Sessions {
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether one more socket may open, of so many. Sessions that wait have none, so that they can be taken up again when
    /// the house is full; there are at most as many of them as there may be sockets.
    pub fn has_room(&self, most: usize) -> bool {
        self.wires.len() < most && self.sockets.len() < most.saturating_mul(2)
    }

    /// Those that wait to be taken up again.
    pub fn waiting(&self) -> usize {
        self.sockets.values().filter(|entry| entry.wire.is_none()).count()
    }

    pub fn open(&mut self, socket: SocketId, peer: SocketAddr, rings: bool) {
        let fresh = Socket {
            peer,
            rings,
            wire: Some(socket),
            session: None,
            calls: BTreeMap::new(),
            probe: None,
            memory: Memory::default(),
            checks: Allowance::default(),
        };
        self.sockets.insert(socket, fresh);
        self.wires.insert(socket, socket);
    }

    /// The session that an open socket belongs to.
    pub fn of_wire(&self, wire: SocketId) -> Option<SocketId> {
        self.wires.get(&wire).copied()
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

    /// A socket is gone: its session has none any more, and comes back.
    pub fn detach(&mut self, wire: SocketId) -> Option<SocketId> {
        let socket = self.wires.remove(&wire)?;
        if let Some(entry) = self.sockets.get_mut(&socket) {
            entry.wire = None;
        }
        Some(socket)
    }

    /// The session of a user that this secret takes up again.
    pub fn resumable(&mut self, user: &str, secret: &str) -> Option<SocketId> {
        let sockets = self.users.get(user)?;
        sockets
            .iter()
            .copied()
            .find(|socket| self.sockets.get_mut(socket).is_some_and(|entry| entry.memory.take(secret)))
    }

    /// Gives the session `socket` the socket `wire`, which had said nothing yet, and what its user may from now on; the
    /// socket that it had until now comes back.
    pub fn attach(&mut self, socket: SocketId, wire: SocketId, session: Session) -> Option<SocketId> {
        let peer = self.remove(wire)?.peer;
        let entry = self.sockets.get_mut(&socket)?;
        let before = entry.wire.replace(wire);
        (entry.peer, entry.session) = (peer, Some(session));
        if let Some(before) = before {
            self.wires.remove(&before);
        }
        self.wires.insert(wire, socket);
        before
    }

    /// Forgets a session; what it was comes back.
    pub fn remove(&mut self, socket: SocketId) -> Option<Socket> {
        let gone = self.sockets.remove(&socket)?;
        if let Some(wire) = gone.wire {
            self.wires.remove(&wire);
        }
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

    /// The browsers of a user that may be rung: there, the token good, and with room for one more call.
    pub fn ringable(&self, user: &str, unix_ms: u64, most_calls: usize) -> Vec<SocketId> {
        let rings = |socket: &SocketId| {
            self.sockets.get(socket).is_some_and(|entry| {
                let valid = entry.session.as_ref().is_some_and(|session| !session.is_expired(unix_ms));
                valid && entry.rings && entry.wire.is_some() && entry.calls.len() < most_calls
            })
        };
        self.of(user).filter(rings).collect()
    }

    /// The sessions of a user.
    pub fn of(&self, user: &str) -> impl Iterator<Item = SocketId> + '_ {
        self.users.get(user).into_iter().flatten().copied()
    }

    /// A session of a user that waits without a call, for one more to have its place.
    pub fn idle_of(&self, user: &str) -> Option<SocketId> {
        self.of(user)
            .find(|socket| self.sockets.get(socket).is_some_and(|entry| entry.wire.is_none() && entry.calls.is_empty()))
    }

    /// All that have said hello.
    pub fn greeted(&self) -> Vec<SocketId> {
        self.sockets.iter().filter(|(_, socket)| socket.session.is_some()).map(|(id, _)| *id).collect()
    }

    /// The sessions that have said hello, each with its user's name.
    pub fn views(&self) -> impl Iterator<Item = (&str, SessionView)> {
        self.sockets.values().filter_map(|entry| {
            let session = entry.session.as_ref()?;
            let view = SessionView {
                door: if entry.rings { Door::Browser } else { Door::Whip },
                peer: entry.peer,
                connected: entry.wire.is_some(),
                calls: entry.calls.len(),
                expires: session.rights.expires,
            };
            Some((session.user.as_str(), view))
        })
    }

    pub fn users(&self) -> usize {
        self.users.len()
    }
}
