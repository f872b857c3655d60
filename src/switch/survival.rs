//! Sessions that outlive their socket: a lost WebSocket ends no call, and `hello` with the session's secret takes it up again
//! on another.

use std::time::{Duration, Instant};

use super::sessions::{Session, Socket};
use super::timers::Owner;
use super::{Now, Output, SocketId, Switch};
use crate::call::{BrowserEvent, CallId, Event};
use crate::signal::{ClientKind, ErrorCode, PresentCall, ServerMessage, VERSION};

/// WebSocket close codes (RFC 6455 section 7.4.1; from 4000 on they are an application's own).
const NORMAL: u16 = 1000;
const POLICY_VIOLATION: u16 = 1008;
const RESUMED_ELSEWHERE: u16 = 4001;

impl Switch {
    /// A socket is gone. `clean`: its browser said that nothing is to be waited for.
    pub(super) fn socket_closed(&mut self, now: Now, wire: SocketId, clean: bool) {
        let Some(socket) = self.sessions.detach(wire) else { return };
        let within = if clean { Duration::ZERO } else { self.limits.resume_within };
        self.session_waits(now, socket, within);
    }

    /// A session has no socket any more, and is to be taken up again within this time.
    fn session_waits(&mut self, now: Now, socket: SocketId, within: Duration) {
        self.drop_probe(now, socket);
        let Some(entry) = self.sessions.get(socket) else { return };
        let worth = !entry.calls.is_empty() || entry.memory.is_of_use(now.instant);
        if entry.session.is_none() || within.is_zero() || !worth {
            return self.session_ends(now, socket);
        }
        let calls: Vec<CallId> = entry.calls.values().copied().collect();
        tracing::info!(socket = socket.0, peer = %entry.peer, calls = calls.len(), "a session has lost its socket");
        self.timers.set(Owner::Socket(socket), now.instant.checked_add(within));
        for call in calls {
            self.call_event(now, call, Event::Browser(socket, BrowserEvent::Away));
        }
    }

    /// A session is over, and its calls are.
    pub(super) fn session_ends(&mut self, now: Now, socket: SocketId) {
        self.timers.set(Owner::Socket(socket), None);
        self.drop_probe(now, socket);
        let Some(gone) = self.sessions.remove(socket) else { return };
        tracing::debug!(socket = socket.0, peer = %gone.peer, "session over");
        for call in gone.calls.into_values() {
            self.call_event(now, call, Event::Browser(socket, BrowserEvent::Gone));
        }
    }

    /// A session's time has come: for its hello, for its return, or its token has run out.
    pub(super) fn socket_overdue(&mut self, now: Now, socket: SocketId) {
        let Some(entry) = self.sessions.get(socket) else { return };
        if entry.wire.is_none() {
            self.session_ends(now, socket);
        } else if entry.session.is_none() {
            self.close(now, socket, None, ErrorCode::Unauthorized, "no hello came in time");
        } else if entry.calls.is_empty() {
            self.close(now, socket, None, ErrorCode::Unauthorized, "the token has run out");
        } else {
            // Its calls may end; new ones are refused. Then the socket goes.
            self.timers.set(Owner::Socket(socket), Some(now.instant + Duration::from_secs(1)));
        }
    }

    /// One error, to a message of the kind `re` if it comes of one; then the end of the session and its socket.
    pub(super) fn close(&mut self, now: Now, socket: SocketId, re: Option<ClientKind>, code: ErrorCode, text: &str) {
        self.tell(socket, &ServerMessage::Error { code, text: text.to_owned(), re, call: None, n: None });
        self.close_wire(socket, POLICY_VIOLATION, text);
        self.session_ends(now, socket);
    }

    fn close_wire(&mut self, socket: SocketId, code: u16, reason: &str) {
        if let Some(wire) = self.sessions.get(socket).and_then(|entry| entry.wire) {
            self.output.push_back(Output::CloseSocket { socket: wire, code, reason: reason.to_owned() });
        }
    }

    /// The browser leaves: for good, or for as long as it says, as a page that may be loaded anew.
    pub(super) fn bye(&mut self, now: Now, socket: SocketId, within_ms: Option<u32>) {
        self.close_wire(socket, NORMAL, "bye");
        if let Some(wire) = self.sessions.get(socket).and_then(|entry| entry.wire) {
            self.sessions.detach(wire);
        }
        let within = Duration::from_millis(within_ms.unwrap_or_default().into());
        self.session_waits(now, socket, within.min(self.limits.resume_within));
    }

    /// The session `socket` goes on over `wire`, which has just said hello.
    pub(super) fn resume(&mut self, now: Now, socket: SocketId, wire: SocketId, session: Session) {
        self.timers.set(Owner::Socket(wire), None);
        self.drop_probe(now, socket);
        if let Some(before) = self.sessions.attach(socket, wire, session) {
            let reason = "resumed elsewhere".to_owned();
            self.output.push_back(Output::CloseSocket { socket: before, code: RESUMED_ELSEWHERE, reason });
        }
        tracing::info!(socket = socket.0, wire = wire.0, "a session is taken up again");
        let ids: Vec<CallId> =
            self.sessions.get(socket).map(|entry| entry.calls.values().copied().collect()).unwrap_or_default();
        let calls = ids.iter().filter_map(|id| self.calls.get(id)?.present(socket, now)).collect();
        self.welcome(now, socket, Some(calls));
        for call in ids {
            self.call_event(now, call, Event::Browser(socket, BrowserEvent::Back));
        }
        let missed = self
            .sessions
            .get_mut(socket)
            .map(|entry| entry.memory.recall(now.instant, |name| entry.calls.contains_key(name)))
            .unwrap_or_default();
        for message in missed {
            self.tell(socket, &message);
        }
    }

    /// The session is open: says so, with the secret that takes it up again.
    pub(super) fn welcome(&mut self, now: Now, socket: SocketId, calls: Option<Vec<PresentCall>>) {
        let within = self.limits.resume_within;
        let session = self.sessions.get(socket).and_then(|entry| entry.session.as_ref());
        let Some((user, expires)) = session.map(|session| (session.user.clone(), session.rights.expires)) else {
            return;
        };
        let ice_servers = self.ice_servers(&user, now);
        let Some(entry) = self.sessions.get_mut(socket) else { return };
        let resume = (!within.is_zero()).then(|| entry.memory.secret(&mut self.rng));
        let grace_ms = resume.is_some().then(|| u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        self.timers.set(Owner::Socket(socket), deadline(now, expires));
        let welcome = ServerMessage::Welcome {
            user,
            session: format!("{:x}", socket.0),
            version: VERSION,
            resume,
            grace_ms,
            expires,
            ice_servers,
            calls,
        };
        self.tell(socket, &welcome);
        if self.draining {
            self.tell(socket, &ServerMessage::Draining {});
        }
    }

    /// A fresh token for a session: what it says holds from now on.
    pub(super) fn renew(&mut self, now: Now, socket: SocketId, token: &str) {
        let admitted = self.admit(now, Some(token), None);
        let Some(session) = self.sessions.get_mut(socket).and_then(|entry| entry.session.as_mut()) else { return };
        let refused = match admitted {
            Ok(fresh) if fresh.user == session.user => {
                let expires = fresh.rights.expires.unwrap_or_default();
                *session = fresh;
                self.timers.set(Owner::Socket(socket), deadline(now, Some(expires)));
                return self.tell(socket, &ServerMessage::Renewed { expires });
            }
            Ok(_) => "the token is another user's".to_owned(),
            Err(text) => text,
        };
        self.error(socket, ClientKind::Renew, ErrorCode::Unauthorized, &refused, None);
    }

    /// Sends a message to a session's browser; what one that is away misses by it is remembered.
    pub(super) fn tell(&mut self, socket: SocketId, message: &ServerMessage) {
        let of = |entry: &Socket| message.call().and_then(|name| entry.calls.get(name)).copied();
        let call = self.sessions.get(socket).and_then(of);
        self.tell_of(call, socket, message);
    }

    /// The same of a message about this call, whose name the session may have forgotten already.
    pub(super) fn tell_of(&mut self, call: Option<CallId>, socket: SocketId, message: &ServerMessage) {
        let Some(entry) = self.sessions.get_mut(socket) else { return };
        match entry.wire {
            Some(wire) => self.output.push_back(Output::Socket { socket: wire, text: message.to_json(), call }),
            None => entry.memory.miss(message),
        }
    }
}

/// When a token runs out, given in Unix seconds.
fn deadline(now: Now, expires: Option<u64>) -> Option<Instant> {
    let left = expires.map(|at| at.saturating_mul(1000).saturating_sub(now.unix_ms));
    left.and_then(|ms| now.instant.checked_add(Duration::from_millis(ms)))
}
