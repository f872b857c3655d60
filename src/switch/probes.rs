//! Probes: browsers that try the way to us. They are none of the calls, and have a room of their own.

use super::{Now, PROBE_ROOM, SocketId, Switch};
use crate::call::browser_leg::ended;
use crate::call::{BrowserEvent, CallId, Event, Probe, ProbeRequest};
use crate::sdp::BrowserOffer;
use crate::signal::{ClientKind, ErrorCode};

impl Switch {
    /// A browser wants to try the way; a session has one probe at a time.
    pub(super) fn try_way(&mut self, now: Now, socket: SocketId, name: String, sdp: &str) {
        let Some(entry) = self.sessions.get(socket) else { return };
        let Some(session) = &entry.session else { return };
        let rights = session.call_rights(Some(entry.peer.ip()));
        let refusal = if entry.named(&name).is_some() {
            Some((ErrorCode::DuplicateCall, "a call of this name exists"))
        } else if entry.probe.is_some() {
            Some((ErrorCode::TooManyCalls, "this session has a probe already"))
        } else if session.is_expired(now.unix_ms) {
            Some((ErrorCode::Unauthorized, "the token has run out"))
        } else if self.probes.len() >= PROBE_ROOM {
            Some((ErrorCode::TooOften, "too many try the way at present"))
        } else {
            None
        };
        if let Some((code, text)) = refusal {
            return self.error(socket, ClientKind::Probe, code, text, Some(name));
        }
        if let Some(cause) = self.refused_now(None).or_else(|| self.refused_busy()) {
            return self.tell(socket, &ended(&name, &cause, false));
        }
        let offer = match BrowserOffer::read(sdp) {
            Ok(offer) => offer,
            Err(error) => {
                return self.error(socket, ClientKind::Probe, ErrorCode::BadSdp, &error.to_string(), Some(name));
            }
        };
        let id = self.new_call_id();
        if let Some(entry) = self.sessions.get_mut(socket) {
            entry.probe = Some((name.clone(), id));
        }
        let request = ProbeRequest { socket, name, rights, offer };
        let probe = self.with_context(now, |cx, _| Probe::begin(cx, id, request));
        self.keep_probe(now, id, probe);
    }

    /// An event for a probe that stands.
    pub(super) fn probe_event(&mut self, now: Now, id: CallId, mut probe: Probe, event: Event) {
        self.with_context(now, |cx, _| probe.handle(cx, event));
        self.keep_probe(now, id, probe);
    }

    fn keep_probe(&mut self, now: Now, id: CallId, probe: Probe) {
        if !probe.is_over() {
            self.probes.insert(id, probe);
        }
        self.carry_out(now, id);
    }

    /// A session has lost its socket, or is over: its probe is over at once.
    pub(super) fn drop_probe(&mut self, now: Now, socket: SocketId) {
        if let Some((_, id)) = self.sessions.get_mut(socket).and_then(|entry| entry.probe.take()) {
            self.call_event(now, id, Event::Browser(socket, BrowserEvent::Gone));
        }
    }
}
