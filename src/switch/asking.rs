//! What a browser asks and says beside its calls: what would become of a number, and what a call was like.

use super::{Now, SocketId, Switch};
use crate::call::{CallId, Notice, Wish, foresee};
use crate::signal::{ClientKind, ErrorCode, ServerMessage};

impl Switch {
    /// What would become of a number.
    pub(super) fn check(&mut self, now: Now, socket: SocketId, to: String, from: Option<&str>, n: Option<u64>) {
        let Some(entry) = self.sessions.get_mut(socket) else { return };
        let Some(session) = &entry.session else { return };
        let refusal = if session.is_expired(now.unix_ms) {
            Some((ErrorCode::Unauthorized, "the token has run out"))
        } else if !entry.checks.take(now.instant) {
            Some((ErrorCode::TooOften, "numbers are asked about too often"))
        } else {
            None
        };
        if let Some((code, text)) = refusal {
            let re = Some(ClientKind::Check);
            return self.tell(socket, &ServerMessage::Error { code, text: text.to_owned(), re, call: None, n });
        }
        let rights = session.call_rights(Some(entry.peer.ip()));
        let foreseen = self.with_context(now, |cx, _| foresee(cx, &Wish { rights: &rights, to: &to, from }));
        let checked = ServerMessage::Checked {
            n,
            to,
            allowed: foreseen.refusal.is_none(),
            number: foreseen.number,
            kind: foreseen.kind.map(str::to_owned),
            cause: foreseen.refusal.map(|cause| cause.word.to_owned()),
            text: foreseen.text,
        };
        self.tell(socket, &checked);
    }

    /// What a user thinks of a call of this session, which may be over.
    pub(super) fn feedback(&mut self, now: Now, socket: SocketId, id: String, score: u8, issue: Option<String>) {
        let Some(entry) = self.sessions.get_mut(socket) else { return };
        let Some(user) = entry.session.as_ref().map(|session| session.user.clone()) else { return };
        if !entry.checks.take(now.instant) {
            return self.error(socket, ClientKind::Feedback, ErrorCode::TooOften, "feedback comes too often", None);
        }
        let known = id
            .parse()
            .ok()
            .filter(|call: &CallId| entry.memory.knows(*call) || entry.calls.values().any(|present| present == call));
        let Some(call) = known else {
            return self.error(
                socket,
                ClientKind::Feedback,
                ErrorCode::UnknownCall,
                "this session had no such call lately",
                None,
            );
        };
        if !entry.memory.takes_feedback(call) {
            return self.error(
                socket,
                ClientKind::Feedback,
                ErrorCode::TooOften,
                "this call has its feedback already",
                None,
            );
        }
        tracing::info!(call = id, user = %self.settings.shown(&user), score, issue, "feedback");
        self.notice(Notice::Feedback { call: id, user, score, issue });
    }
}
