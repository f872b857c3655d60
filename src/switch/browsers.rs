//! Browsers: sockets that open, say hello, call, and close.

use std::net::SocketAddr;
use std::time::Duration;

use super::sessions::{Rights, Session, Socket};
use super::timers::Owner;
use super::{Auth, Now, Output, SocketId, Switch};
use crate::call::limits::TokenId;
use crate::call::{
    BrowserEvent, CallId, Cause, Event, Origin, Origination, OutboundRequest, Params, Special, TransferTo,
};
use crate::sdp::BrowserOffer;
use crate::signal::{ClientKind, ClientMessage, ErrorCode, MessageError, ServerMessage, Veiled, valid_user};

/// A WebSocket close code, registered with IANA.
const TRY_AGAIN_LATER: u16 = 1013;
/// What a digit lasts when the browser does not say, milliseconds.
const DIGIT_MS: u16 = 100;
/// A reject without a code: busy here.
const BUSY: u16 = 486;

/// A `call` message.
struct Dialled {
    name: String,
    to: String,
    sdp: String,
    from: Option<String>,
    params: Params,
}

impl Switch {
    pub(super) fn socket_opened(&mut self, now: Now, socket: SocketId, peer: SocketAddr, rings: bool) {
        if self.sessions.get(socket).is_some() {
            return;
        }
        if !self.sessions.has_room(self.limits.sockets) {
            self.output.push_back(Output::CloseSocket {
                socket,
                code: TRY_AGAIN_LATER,
                reason: "too many connections".to_owned(),
            });
            return;
        }
        let deadline = now.instant + self.hello_timeout;
        self.sessions.open(socket, peer, rings);
        self.timers.set(Owner::Socket(socket), Some(deadline));
    }

    /// Answers a message of the kind `re`, about `call`, with the one error that it gets.
    pub(super) fn error(
        &mut self,
        socket: SocketId,
        re: ClientKind,
        code: ErrorCode,
        text: &str,
        call: Option<String>,
    ) {
        self.tell(socket, &ServerMessage::Error { code, text: text.to_owned(), re: Some(re), call, n: None });
    }

    pub(super) fn socket_text(&mut self, now: Now, wire: SocketId, text: &str) {
        let Some(socket) = self.sessions.of_wire(wire) else { return };
        let Some(entry) = self.sessions.get(socket) else { return };
        let greeted = entry.session.is_some();
        let message = match ClientMessage::parse(text) {
            Ok(message) => message,
            Err(error) => {
                let message = MessageError::into_message(error);
                return self.tell(socket, &message);
            }
        };
        match (message, greeted) {
            (ClientMessage::Hello { token, user, resume }, false) => {
                self.hello(now, socket, token.as_deref(), user, resume.as_deref());
            }
            (ClientMessage::Hello { .. }, true) => {
                self.error(socket, ClientKind::Hello, ErrorCode::BadOrder, "the session is open already", None);
            }
            (ClientMessage::Ping { n }, _) => self.tell(socket, &ServerMessage::Pong { n }),
            (message, false) => {
                let call = message.call().map(str::to_owned);
                self.error(socket, message.kind(), ErrorCode::BadOrder, "say hello first", call);
            }
            (ClientMessage::Call { call, to, sdp, from, params }, true) => {
                self.dial(now, socket, Dialled { name: call, to, sdp, from, params });
            }
            (ClientMessage::Renew { token }, true) => self.renew(now, socket, &token),
            (ClientMessage::Bye { within_ms }, true) => self.bye(now, socket, within_ms),
            (ClientMessage::Probe { call, sdp }, true) => self.try_way(now, socket, call, &sdp),
            (ClientMessage::Check { to, from, n }, true) => self.check(now, socket, to, from.as_deref(), n),
            (ClientMessage::Feedback { id, score, issue }, true) => self.feedback(now, socket, id, score, issue),
            (message, true) => self.about_call(now, socket, message),
        }
    }

    fn hello(&mut self, now: Now, socket: SocketId, token: Option<&str>, user: Option<String>, resume: Option<&str>) {
        let session = match self.admit(now, token, user) {
            Ok(session) => session,
            Err(text) => return self.close(now, socket, Some(ClientKind::Hello), ErrorCode::Unauthorized, &text),
        };
        if let Some(before) = resume.and_then(|secret| self.sessions.resumable(&session.user, secret)) {
            return self.resume(now, before, socket, session);
        }
        if self.sessions.of(&session.user).count() >= self.limits.sockets_per_user {
            match self.sessions.idle_of(&session.user) {
                Some(idle) => self.session_ends(now, idle),
                None => {
                    let text = "this user has too many sessions";
                    return self.close(now, socket, Some(ClientKind::Hello), ErrorCode::Forbidden, text);
                }
            }
        }
        self.sessions.greet(socket, session);
        self.welcome(now, socket, None);
    }

    /// Who a browser is, or why it may not in.
    pub(super) fn admit(&self, now: Now, token: Option<&str>, user: Option<String>) -> Result<Session, String> {
        match (&self.auth, token) {
            (Auth::Open, None) => match user {
                Some(user) if valid_user(&user) => {
                    let rights = Rights { any_caller_id: true, ..Rights::default() };
                    Ok(Session { user, rights })
                }
                _ => Err("hello needs a user".to_owned()),
            },
            (Auth::Open, Some(_)) => Err("this gateway takes no tokens; say hello with a user".to_owned()),
            (Auth::Token(_), None) => Err("hello needs a token".to_owned()),
            (Auth::Token(verifier), Some(token)) => {
                let claims = verifier.verify(token, now.unix_ms / 1000).map_err(|error| error.to_string())?;
                if !valid_user(&claims.sub) {
                    return Err("the token's user has characters that no user may have".to_owned());
                }
                let id = claims.id(token);
                let rights = Rights {
                    token: Some(TokenId { id, once: claims.once, expires: claims.exp }),
                    class: claims.class,
                    caller_id: claims.caller_id,
                    destinations: claims.destinations,
                    longest: claims.max_duration.map(|seconds| Duration::from_secs(u64::from(seconds))),
                    any_caller_id: false,
                    expires: Some(claims.exp),
                };
                Ok(Session { user: claims.sub, rights })
            }
        }
    }

    fn dial(&mut self, now: Now, socket: SocketId, dialled: Dialled) {
        let Dialled { name, to, sdp, from, params } = dialled;
        let Some(entry) = self.sessions.get(socket) else { return };
        let Some(session) = entry.session.clone() else { return };
        let rights = session.call_rights(Some(entry.peer.ip()));
        let emergency = self.settings.plan.is_emergency(&rights.caller, &to);
        let refusal = if entry.named(&name).is_some() {
            Some((ErrorCode::DuplicateCall, "a call of this name exists"))
        } else if entry.calls.len() >= self.limits.calls_per_socket && !emergency {
            Some((ErrorCode::TooManyCalls, "this session has as many calls as it may have"))
        } else if session.is_expired(now.unix_ms) {
            Some((ErrorCode::Unauthorized, "the token has run out"))
        } else {
            None
        };
        if let Some((code, text)) = refusal {
            return self.error(socket, ClientKind::Call, code, text, Some(name));
        }
        let offer = match BrowserOffer::read(&sdp) {
            Ok(offer) => offer,
            Err(error) => {
                return self.error(socket, ClientKind::Call, ErrorCode::BadSdp, &error.to_string(), Some(name));
            }
        };
        let user = session.user;
        let refused = self.refused_to_begin(emergency.then_some(user.as_str()));
        let request = OutboundRequest { socket, name: name.clone(), to, offer, from, params, rights, refused };
        let id = self.new_call_id();
        if let Some(entry) = self.sessions.get_mut(socket) {
            entry.calls.insert(name, id);
        }
        self.note_emergency(id, emergency && request.refused.is_none(), user);
        self.begin(now, id, Origination::Browser(request));
    }

    /// Why no new call may begin at present: as in [`refused_now`](Self::refused_now), or since the media threads have as much to
    /// do as they can, which is counted.
    pub(super) fn refused_to_begin(&mut self, emergency_of: Option<&str>) -> Option<Cause> {
        let refused = self.refused_now(emergency_of);
        if refused.is_some() || emergency_of.is_some() {
            return refused;
        }
        let busy = self.refused_busy();
        self.calls_refused_busy += u64::from(busy.is_some());
        busy
    }

    /// Why no call may be at present, those among them that belong to one that stands. A user's emergency call has a room of its own
    /// while the gateway takes calls at all.
    pub(super) fn refused_now(&self, emergency_of: Option<&str>) -> Option<Cause> {
        if self.draining {
            return Some(Cause::special(Origin::Gateway, Special::Draining));
        }
        let room = emergency_of.map_or_else(|| self.has_room(), |user| self.has_emergency_room(user));
        (!room).then(|| Cause::special(Origin::Gateway, Special::TooManyCalls))
    }

    /// Why nothing may be that needs more of the media threads than they do already.
    pub(super) fn refused_busy(&self) -> Option<Cause> {
        let cause = || Cause::special(Origin::Gateway, Special::TooManyCalls);
        self.busy.then(|| cause().in_words("The gateway has as much to do as it can"))
    }

    /// A call that begins takes its place among those to emergency numbers, if it is one.
    pub(super) fn note_emergency(&mut self, id: CallId, emergency: bool, user: String) {
        if emergency {
            self.emergencies.insert(id, user);
        }
    }

    /// A message about a call that exists.
    fn about_call(&mut self, now: Now, socket: SocketId, message: ClientMessage) {
        let name = message.call().unwrap_or_default().to_owned();
        let re = message.kind();
        let entry = self.sessions.get(socket);
        let Some(id) = entry.and_then(|entry| entry.named(&name)) else {
            return self.error(socket, re, ErrorCode::UnknownCall, "there is no such call, or no longer", Some(name));
        };
        let event = match message {
            ClientMessage::Accept { sdp, .. } => {
                let rights = entry.and_then(Socket::rights).unwrap_or_default();
                BrowserEvent::Accept { sdp: Veiled(sdp), rights: Box::new(rights) }
            }
            ClientMessage::Reject { code, .. } => BrowserEvent::Reject { code: code.unwrap_or(BUSY) },
            ClientMessage::Candidate { .. } => BrowserEvent::Candidate,
            ClientMessage::Digits { digits, ms, .. } => BrowserEvent::Digits { digits, ms: ms.unwrap_or(DIGIT_MS) },
            ClientMessage::Hold { on, .. } => BrowserEvent::Hold { on },
            ClientMessage::Transfer { to, with, .. } => {
                let session = entry.and_then(|entry| entry.session.as_ref());
                if to.is_some() && session.is_none_or(|session| session.is_expired(now.unix_ms)) {
                    return self.error(socket, re, ErrorCode::Unauthorized, "the token has run out", Some(name));
                }
                let rights = entry.and_then(Socket::rights);
                let other = with.as_ref().and_then(|with| entry.and_then(|entry| entry.calls.get(with)).copied());
                let to = match (to, with, other) {
                    (Some(to), ..) => TransferTo::Number(to),
                    (None, _, Some(other)) => TransferTo::Call(other, socket),
                    (None, _, None) => {
                        let text = "there is no such call to transfer to";
                        return self.error(socket, re, ErrorCode::UnknownCall, text, Some(name));
                    }
                };
                BrowserEvent::Transfer { to, rights: Box::new(rights.unwrap_or_default()) }
            }
            ClientMessage::Hangup { .. } => BrowserEvent::Hangup,
            ClientMessage::Restart { sdp, .. } => match BrowserOffer::read(&sdp) {
                Ok(offer) => BrowserEvent::Restart { offer: Box::new(offer) },
                Err(error) => return self.error(socket, re, ErrorCode::BadSdp, &error.to_string(), Some(name)),
            },
            ClientMessage::Hello { .. }
            | ClientMessage::Renew { .. }
            | ClientMessage::Bye { .. }
            | ClientMessage::Call { .. }
            | ClientMessage::Check { .. }
            | ClientMessage::Probe { .. }
            | ClientMessage::Feedback { .. }
            | ClientMessage::Ping { .. } => return,
        };
        self.call_event(now, id, Event::Browser(socket, event));
    }
}
