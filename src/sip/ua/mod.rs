//! The user agent: calls, from the SIP messages that make them. Sans-IO and deterministic.
//!
//! One procedure, one file: `invite` (caller), `answer` (callee), `forks`, `prack`, `update`, `cancel`, `bye`, `reinvite`,
//! `session_timer`, `info`, `options`, `refer` (with `refer_to`), `replaces`, `auth`, `left`; `out_of_dialog` has what belongs to
//! no call; `inspect` holds what every request must pass, `capabilities` what Allow and Supported say.
//!
//! **Drain rule**: after every call that takes `now`, poll [`UserAgent::poll_output`] until it gives `None`, then ask
//! [`UserAgent::poll_timeout`] for the time of the next [`UserAgent::handle_timeout`].

mod answer;
mod auth;
mod bye;
mod cancel;
mod capabilities;
mod core;
mod established;
mod forks;
mod info;
mod inspect;
mod invite;
mod large;
mod left;
mod options;
mod out_of_dialog;
mod prack;
mod refer;
mod refer_to;
mod reinvite;
mod replaces;
mod session;
mod session_timer;
#[cfg(test)]
mod tests;
mod types;
mod update;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

pub use invite::check_headers;
pub use left::{DialogNote, LeftDialog};
pub use out_of_dialog::{OutOfDialog, RequestId, ServerRequestId};
pub use refer_to::ReferTo;
pub use replaces::Replaces;
pub use types::{
    Advertised, Body, DialogInfo, EndedBy, Failure, Invite, ReferId, Refresher, Reliable, SessionId, SessionOptions,
    SessionTimer, UaConfig, UaError, UaEvent, UaOutput,
};

use self::core::{Core, Purpose};
use self::session::{Session, State};
use super::schedule::Schedule;
use super::transaction::{ClientFailure, ClientId, ServerId, TransactionOutput, earlier};
use super::{Credentials, Flow, Message, Method, NameAddr, Request, Response};

/// How often a request is sent again with something left out or changed.
const MAX_AMENDED: u8 = 3;

/// The calls of one SIP element.
#[derive(Debug)]
pub struct UserAgent {
    core: Core,
    sessions: BTreeMap<SessionId, Session>,
    /// Call-ID and our tag.
    by_dialog: BTreeMap<(String, String), SessionId>,
    /// The INVITE that made a session of the callee's side.
    by_server: BTreeMap<ServerId, SessionId>,
    /// Where the dialogs of which session send their requests.
    next_hops: BTreeSet<(IpAddr, SessionId)>,
    schedule: Schedule<SessionId>,
    next_session: u64,
    next_request: u64,
    draining: bool,
    /// What of dialogs is to be told; `None`: nobody asks.
    notes: Option<VecDeque<DialogNote>>,
}

impl UserAgent {
    /// A user agent without calls. Tags, branches and Call-IDs come from `seed`, which must be secret and used once.
    pub fn new(config: UaConfig, seed: [u8; 32]) -> Self {
        UserAgent {
            core: Core::new(config, seed),
            sessions: BTreeMap::new(),
            by_dialog: BTreeMap::new(),
            by_server: BTreeMap::new(),
            next_hops: BTreeSet::new(),
            schedule: Schedule::new(),
            next_session: 0,
            next_request: 0,
            draining: false,
            notes: None,
        }
    }

    /// Takes one whole message: a datagram, or one message framed out of a stream. What cannot be read is answered
    /// where the standard asks for it and there is enough of it, and otherwise dropped.
    pub fn handle_datagram(&mut self, now: Instant, flow: Flow, bytes: &[u8]) {
        match Message::parse(bytes) {
            Ok(message) => self.core.layer.receive(now, flow, message),
            Err(error) => {
                tracing::debug!(%error, remote = %flow.remote, "unreadable SIP message");
                if let (Some(status), Some(request)) = (error.status(), error.request) {
                    self.core.layer.refuse(flow, *request, status);
                }
            }
        }
        self.run(now);
    }

    /// The peer has closed the connection of `flow` in good order. Calls go on, and what is to be said in them goes over
    /// a new connection; requests under way wait for their answers, which may come over another one (RFC 3261 section
    /// 18.2.2).
    pub fn handle_connection_closed(&mut self, flow: Flow) {
        for session in self.sessions.values_mut() {
            session.flow_lost(flow);
        }
        self.core.layer.connection_closed(flow);
    }

    /// The WebSocket of `flow` is gone, which nobody but the browser can open again: what was under way over it has failed,
    /// and who called over it and has no answer yet calls no more. Answered calls go on, as the browser may come back by
    /// another ([`UserAgent::move_sessions`]).
    pub fn handle_websocket_closed(&mut self, now: Instant, flow: Flow) {
        let ringing = |session: &Session| match &session.state {
            session::State::Ringing(state) if session.common.flow == flow => Some((session.common.id, state.server)),
            _ => None,
        };
        let callers: Vec<_> = self.sessions.values().filter_map(ringing).collect();
        for (id, server) in callers {
            self.step(id, |session, core| session.response_failed(core, now, server));
        }
        self.handle_transport_failure(now, flow);
    }

    /// A browser has come back by another WebSocket: its sessions are reached by that.
    pub fn move_sessions(&mut self, from: Flow, to: Flow) {
        for session in self.sessions.values_mut() {
            session.moved(from, to);
        }
    }

    /// What was sent over `flow` did not arrive, or its connection is broken (`flow.id` tells which).
    pub fn handle_transport_failure(&mut self, now: Instant, flow: Flow) {
        for session in self.sessions.values_mut() {
            session.flow_lost(flow);
        }
        self.core.layer.transport_failed(now, flow);
        self.run(now);
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.core.handle_timeout(now);
        self.run(now);
        while let Some(id) = self.schedule.pop_due(now) {
            self.step(id, |session, core| session.timeout(core, now));
            self.run(now);
        }
    }

    /// When [`UserAgent::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.core.poll_timeout(), self.schedule.next())
    }

    /// What to send and what happened, in order.
    pub fn poll_output(&mut self) -> Option<UaOutput> {
        self.core.out.pop_front()
    }

    /// True while a dialog lives whose requests we send to this address: its peer's Contact or first Route. What comes
    /// from there is no stranger's, and costs one look into an index to tell.
    pub fn knows(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.next_hops.range((source, SessionId(0))..).next().is_some_and(|(ip, _)| *ip == source)
    }

    /// The ways over which the dialogs of sessions go: connections that are in use.
    pub fn flows(&self) -> impl Iterator<Item = Flow> {
        self.sessions.values().map(|session| session.common.flow)
    }

    /// How many sessions live.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// How many transactions live. Some outlive their session, to absorb retransmissions.
    pub fn transaction_count(&self) -> usize {
        self.core.layer.len()
    }

    /// While on, new INVITE and OPTIONS are answered with 503; calls that exist go on.
    pub fn drain(&mut self, on: bool) {
        self.draining = on;
    }

    /// How many sessions and transactions may exist from now on ([`UaConfig::max_sessions`],
    /// [`UaConfig::max_transactions`]); those that do are not touched.
    pub fn set_room(&mut self, max_sessions: usize, max_transactions: usize) {
        self.core.config.max_sessions = max_sessions;
        self.core.layer.set_limit(max_transactions);
    }

    /// What Via and Contact say from now on, inside of dialogs that stand as well: our address is another for their peers
    /// too ([RFC 3261, section 12.2](https://www.rfc-editor.org/rfc/rfc3261#section-12.2)).
    pub fn set_advertise(&mut self, advertise: Vec<Advertised>) {
        self.core.config.advertise = advertise;
        for Session { common, .. } in self.sessions.values_mut() {
            if let Ok(contact) = self.core.contact(common.flow, common.contact.uri.user.as_deref()) {
                common.contact = contact;
            }
        }
    }

    /// Makes a call.
    pub fn invite(&mut self, now: Instant, invite: Invite) -> Result<SessionId, UaError> {
        if self.is_full() {
            return Err(UaError::Full);
        }
        let id = self.take_id();
        let session = invite::start(&mut self.core, now, id, invite)?;
        self.insert(session);
        self.run(now);
        Ok(id)
    }

    /// Sets the extensions of an incoming call: right after [`UaEvent::Incoming`], before it is answered in any way.
    /// Without it the default holds.
    ///
    /// [`UaError::Refused`]: the INVITE does not suit `options` and has been refused; [`UaEvent::Closed`] follows.
    pub fn configure(&mut self, now: Instant, id: SessionId, options: SessionOptions) -> Result<(), UaError> {
        self.ask(now, id, |session, core| session.configure(core, now, options))
    }

    /// Answers an incoming call with 101-199: reliably where the peer takes part and the options allow it (RFC 3262).
    /// A body in a reliable one is final: the 200 goes without.
    pub fn ring(&mut self, now: Instant, id: SessionId, status: u16, body: Option<Body>) -> Result<(), UaError> {
        self.ask(now, id, |session, core| session.ring(core, now, status, body))
    }

    /// Answers an incoming call with 200, at once or, after a reliable response with a body, when its PRACK has come.
    pub fn accept(&mut self, now: Instant, id: SessionId, body: Body) -> Result<(), UaError> {
        self.ask(now, id, |session, core| session.accept(core, now, body))
    }

    /// Refuses an incoming call with 300-699. An empty `reason` takes the phrase of the standard.
    pub fn reject(
        &mut self,
        now: Instant,
        id: SessionId,
        status: u16,
        reason: &str,
        headers: &[(String, String)],
    ) -> Result<(), UaError> {
        if !(300..700).contains(&status) {
            return Err(UaError::Status(status));
        }
        if !self::core::is_clean(reason) {
            return Err(UaError::Header { name: "reason phrase".to_owned() });
        }
        invite::check_headers(headers)?;
        self.ask(now, id, |session, core| session.reject(core, now, status, reason, headers))
    }

    /// Ends a session in whatever state: CANCEL, BYE or a refusal (480), with `reason` as Reason header (RFC 3326).
    /// A session that does not exist or is ending already is left as it is.
    pub fn hangup(&mut self, now: Instant, id: SessionId, reason: Option<&str>) {
        let reason = reason.filter(|reason| self::core::is_clean(reason));
        self.step(id, |session, core| session.hangup(core, now, reason));
        self.run(now);
    }

    /// Sends an INFO in an established session.
    pub fn info(&mut self, now: Instant, id: SessionId, body: Body) -> Result<(), UaError> {
        self.ask(now, id, |session, core| {
            let (common, state) = session.established()?;
            state.info(common, core, now, body)
        })
    }

    /// Sends our offer: in a re-INVITE in an established session, in an UPDATE before (RFC 3311), where the first offer
    /// has had its answer reliably and the peer allows UPDATE ([`UaError::State`] otherwise). Glare is retried inside;
    /// the end is [`UaEvent::ReofferAnswered`].
    pub fn reoffer(&mut self, now: Instant, id: SessionId, body: Body) -> Result<(), UaError> {
        self.ask(now, id, |session, core| session.reoffer(core, now, body))
    }

    /// Replies to [`UaEvent::Reoffered`] with an answer (or the offer that was wished for), or refuses with a status.
    /// [`UaError::State`]: the peer has taken it back.
    pub fn answer_reoffer(&mut self, now: Instant, id: SessionId, answer: Result<Body, u16>) -> Result<(), UaError> {
        self.ask(now, id, |session, core| session.answer_reoffer(core, now, answer))
    }

    /// Sends a REFER in an established session: its peer shall call `to`. Told of by [`UaEvent::ReferAnswered`] and
    /// [`UaEvent::ReferProgress`].
    pub fn refer(
        &mut self,
        now: Instant,
        id: SessionId,
        to: ReferTo,
        referred_by: Option<&str>,
    ) -> Result<(), UaError> {
        self.ask(now, id, |session, core| {
            let (common, state) = session.established()?;
            state.refer(common, core, now, &to, referred_by)
        })
    }

    /// Answers [`UaEvent::Referred`]: 202 and a NOTIFY of 100, or a refusal with 300-699.
    pub fn answer_refer(
        &mut self,
        now: Instant,
        id: SessionId,
        refer: ReferId,
        answer: Result<(), u16>,
    ) -> Result<(), UaError> {
        self.ask(now, id, |session, core| {
            let (common, state) = session.established()?;
            state.answer_refer(common, core, now, refer, answer)
        })
    }

    /// Tells the peer how far the call that he asked for is; with `last` no more will be told.
    pub fn notify_refer(
        &mut self,
        now: Instant,
        id: SessionId,
        refer: ReferId,
        status: u16,
        last: bool,
    ) -> Result<(), UaError> {
        self.ask(now, id, |session, core| {
            let (common, state) = session.established()?;
            state.notify_refer(common, core, now, refer, status, last)
        })
    }

    /// The dialog of a session; `None` while there is none. Of several early dialogs it is the one heard of last.
    pub fn dialog(&self, id: SessionId) -> Option<DialogInfo> {
        self.sessions.get(&id)?.dialog().map(DialogInfo::of)
    }

    /// From now on [`UserAgent::poll_note`] tells of dialogs; poll it until it is dry.
    pub fn note_dialogs(&mut self) {
        self.notes.get_or_insert_default();
    }

    /// A dialog that stands, or has ended.
    pub fn poll_note(&mut self) -> Option<DialogNote> {
        self.notes.as_mut()?.pop_front()
    }

    /// Ends a dialog that a user agent before this one has left behind, by BYE with this Reason. Challenges are answered
    /// inside; the end is [`UaEvent::Answer`].
    ///
    /// # Errors
    /// What was noted is no dialog, or there is no room for a transaction.
    pub fn end_left(
        &mut self,
        now: Instant,
        left: &LeftDialog,
        reason: &str,
        credentials: Option<Credentials>,
    ) -> Result<RequestId, UaError> {
        if self.core.layer.is_full() {
            return Err(UaError::Full);
        }
        self.next_request += 1;
        let id = RequestId(self.next_request);
        left::end(&mut self.core, now, id, left, reason, credentials)?;
        self.run(now);
        Ok(id)
    }

    /// Sends a request outside of any dialog. Challenges are answered inside; the end is [`UaEvent::Answer`].
    pub fn request(&mut self, now: Instant, wish: OutOfDialog) -> Result<RequestId, UaError> {
        if self.core.layer.is_full() {
            return Err(UaError::Full);
        }
        self.next_request += 1;
        let id = RequestId(self.next_request);
        out_of_dialog::send(&mut self.core, now, id, wish)?;
        self.run(now);
        Ok(id)
    }

    /// Answers [`UaEvent::Request`]. A To-tag and our name are added where they are missing.
    pub fn respond(&mut self, now: Instant, id: ServerRequestId, response: Response) {
        out_of_dialog::respond(&mut self.core, now, id, response);
        self.run(now);
    }

    /// Our Contact as seen over `flow`.
    ///
    /// # Errors
    /// [`UaError::Header`] for an empty user or one with CR, LF or NUL.
    pub fn contact_for(&self, flow: Flow, user: Option<&str>) -> Result<NameAddr, UaError> {
        self.core.contact(flow, user)
    }

    /// The Call-ID of a session's dialogs (RFC 3261 section 8.1.1.4).
    pub fn call_id_of(&self, session: SessionId) -> Option<&str> {
        self.sessions.get(&session).map(|session| session.common.call_id.as_str())
    }

    fn is_full(&self) -> bool {
        self.sessions.len() >= self.core.config.max_sessions || self.core.layer.is_full()
    }

    fn take_id(&mut self) -> SessionId {
        self.next_session += 1;
        SessionId(self.next_session)
    }

    fn insert(&mut self, session: Session) {
        let common = &session.common;
        self.by_dialog.insert((common.call_id.clone(), common.local_tag.clone()), common.id);
        if let Some(server) = common.invite {
            self.by_server.insert(server, common.id);
        }
        self.schedule.set(common.id, session.deadline());
        self.next_hops.extend(session.next_hops().into_iter().map(|ip| (ip, common.id)));
        self.sessions.insert(common.id, session);
    }

    /// A step that our user asks for.
    fn ask(
        &mut self,
        now: Instant,
        id: SessionId,
        what: impl FnOnce(&mut Session, &mut Core) -> Result<(), UaError>,
    ) -> Result<(), UaError> {
        let result = self.step(id, what).unwrap_or(Err(UaError::NoSession));
        self.run(now);
        result
    }

    /// One step of a session: its deadline follows it, and when it has ended, it goes.
    fn step<T>(&mut self, id: SessionId, what: impl FnOnce(&mut Session, &mut Core) -> T) -> Option<T> {
        let session = self.sessions.get_mut(&id)?;
        let before = session.next_hops();
        let result = what(session, &mut self.core);
        self.schedule.set(id, session.deadline());
        if let Some(notes) = &mut self.notes {
            notes.extend(left::note(session));
        }
        let after = session.next_hops();
        if before != after {
            for ip in before {
                self.next_hops.remove(&(ip, id));
            }
            self.next_hops.extend(after.into_iter().map(|ip| (ip, id)));
        }
        if session.is_closed() {
            if let Some(session) = self.sessions.remove(&id) {
                self.by_dialog.remove(&(session.common.call_id, session.common.local_tag));
                if let Some(server) = session.common.invite {
                    self.by_server.remove(&server);
                }
            }
            self.core.event(UaEvent::Closed { session: id });
        }
        Some(result)
    }

    /// Handles what the transaction layer gives until it is dry.
    fn run(&mut self, now: Instant) {
        while let Some(output) = self.core.layer.poll_output() {
            match output {
                TransactionOutput::Transmit { flow, bytes } => {
                    self.core.out.push_back(UaOutput::Transmit { flow, bytes });
                }
                TransactionOutput::Request { id, request, flow, cancels } => {
                    self.on_request(now, id, request, flow, cancels);
                }
                TransactionOutput::Ack { request } => {
                    if let Some(id) = self.session_of(&request) {
                        self.step(id, |session, core| session.ack(core, now, &request));
                    }
                }
                TransactionOutput::Response { id, response, source } => self.on_response(now, id, response, source),
                TransactionOutput::ClientFailed { id, why } => self.on_failure(now, id, why),
                TransactionOutput::ServerFailed { id } => {
                    if let Some(session) = self.by_server.get(&id).copied() {
                        self.step(session, |session, core| session.response_failed(core, now, id));
                    }
                }
                TransactionOutput::ClientGone { id } => self.core.forget(id),
            }
        }
    }

    fn on_request(&mut self, now: Instant, server: ServerId, request: Request, flow: Flow, cancels: Option<ServerId>) {
        if !inspect::pass(&mut self.core, now, server, &request) {
            return;
        }
        if request.method == Method::Cancel {
            return self.on_cancel(now, server, &request, cancels);
        }
        let in_dialog = request.headers.to().is_ok_and(|to| to.tag().is_some());
        if in_dialog {
            match self.session_of(&request) {
                Some(id) => {
                    self.step(id, |session, core| session.request(core, now, server, request, flow));
                }
                None => self.core.refuse(now, server, &request, 481),
            }
            return;
        }
        match request.method {
            Method::Invite => self.on_invite(now, server, request, flow),
            Method::Register => {
                self.core.event(UaEvent::Request { id: out_of_dialog::server_id(server), request, flow });
            }
            // RFC 3515 section 2.4.2 leaves it to us: nobody here is referred anywhere outside of a call.
            Method::Refer => self.core.refuse(now, server, &request, 403),
            Method::Options if self.draining => inspect::unavailable(&mut self.core, now, server, &request),
            Method::Options => options::answer(&mut self.core, now, server, &request),
            _ => self.core.refuse(now, server, &request, 481),
        }
    }

    fn on_invite(&mut self, now: Instant, server: ServerId, request: Request, flow: Flow) {
        if self.draining || self.sessions.len() >= self.core.config.max_sessions {
            return inspect::unavailable(&mut self.core, now, server, &request);
        }
        if !inspect::has_hops_left(&mut self.core, now, server, &request) {
            return;
        }
        let replaces = match self.replaced_by(&request) {
            Ok(replaces) => replaces,
            Err(status) => return self.core.refuse(now, server, &request, status),
        };
        let id = self.take_id();
        if let Some(session) = answer::start(&mut self.core, now, id, server, &request, flow) {
            self.insert(session);
            self.core.event(UaEvent::Incoming { session: id, request, flow, replaces });
        }
    }

    /// Section 9.2: 200 to the CANCEL while its INVITE's transaction lives, be it answered or not; otherwise 481.
    fn on_cancel(&mut self, now: Instant, server: ServerId, cancel: &Request, cancels: Option<ServerId>) {
        let Some(invite) = cancels else { return self.core.refuse(now, server, cancel, 481) };
        let id = self.by_server.get(&invite).copied().or_else(|| self.session_of(cancel));
        let Some(session) = id.and_then(|id| self.sessions.get(&id)) else {
            return self.core.refuse(now, server, cancel, 200);
        };
        let (id, tag) = (session.common.id, session.common.local_tag.clone());
        let ok = self.core.tagged_response(cancel, 200, super::default_reason(200), &tag);
        self.core.layer.respond(now, server, ok);
        self.step(id, |session, core| session.cancelled(core, now, invite, cancel));
    }

    fn on_response(&mut self, now: Instant, id: ClientId, response: Response, source: IpAddr) {
        let Some(pending) = self.core.pending.get(&id) else { return };
        let (purpose, session) = (pending.purpose, pending.session);
        self.core.large.came_over(id);
        if response.status >= 200 {
            self.core.unforsake(id);
        }
        let to_invite = matches!(purpose, Purpose::Invite | Purpose::Reinvite);
        let accepted = to_invite && (200..300).contains(&response.status);
        if accepted && forks::repeat(&mut self.core, id, &response) {
            return;
        }
        if matches!(response.status, 401 | 407 | 420 | 422) && self.retry(now, id, &response, source) {
            return;
        }
        if accepted && !self.awaits(session, id) {
            return forks::refuse(&mut self.core, now, id, &response);
        }
        if let Purpose::Outside(request) = purpose {
            return out_of_dialog::answered(&mut self.core, id, request, response);
        }
        if let Some(session) = session {
            self.step(session, |session, core| session.response(core, now, id, purpose, response));
        }
    }

    fn on_failure(&mut self, now: Instant, id: ClientId, why: ClientFailure) {
        if self.fall_back(now, id, why) {
            return;
        }
        let Some(pending) = self.core.pending.get(&id) else { return };
        let purpose = pending.purpose;
        if let Purpose::Outside(request) = purpose {
            return out_of_dialog::failed(&mut self.core, id, request, why);
        }
        if let Some(session) = pending.session {
            self.step(session, |session, core| session.request_failed(core, now, id, purpose, why));
        }
    }

    /// True if the session still waits for the answer to this INVITE.
    fn awaits(&self, session: Option<SessionId>, id: ClientId) -> bool {
        match session.and_then(|session| self.sessions.get(&session)).map(|session| &session.state) {
            Some(State::Inviting(state)) => state.transaction == id,
            Some(State::Established(state)) => state.offer.is_for(id) || state.timer.is_refreshing(id),
            _ => false,
        }
    }

    /// Sends a refused request again as the refusal wants it: with credentials (401, 407), without an extension (420) or
    /// with a longer session (422). False: the refusal stands.
    fn retry(&mut self, now: Instant, id: ClientId, response: &Response, source: IpAddr) -> bool {
        let Some(pending) = self.core.pending.get(&id) else { return false };
        let session = pending.session.and_then(|id| self.sessions.get_mut(&id));
        let peer = session.as_ref().map_or(pending.flow.remote.ip(), |session| session.common.peer);
        let mut request = pending.request.clone();
        let (mut answered, mut amended) = (pending.answered.clone(), pending.amended);
        let changed = match (response.status, &pending.credentials) {
            _ if pending.purpose == Purpose::Cancel => false,
            (401 | 407, Some(credentials)) if auth::is_ours(pending.flow, peer, source, credentials) => {
                auth::authorize(&mut request, response, credentials, &mut answered, &mut self.core.rng)
            }
            (420 | 422, _) if amended < MAX_AMENDED => {
                (answered, amended) = (auth::Answered::default(), amended + 1);
                match response.status {
                    420 => capabilities::retreat(&mut request.headers, &response.headers),
                    _ => session_timer::lengthen(&mut request.headers, &response.headers),
                }
            }
            _ => false,
        };
        let Ok(sent) = request.headers.cseq() else { return false };
        let number = match (pending.purpose, session) {
            _ if !changed => None,
            (Purpose::Outside(_), _) => Some(sent.number.saturating_add(1)),
            (_, Some(session)) => session.retry(id, &request, sent.number),
            (_, None) => None,
        };
        let Some(number) = number else { return false };
        request.headers.set("CSeq", format!("{number} {}", request.method));
        let again = self::core::Pending {
            answered,
            amended,
            dialog: pending.dialog.clone(),
            ..self::core::in_dialog(
                pending.purpose,
                pending.session,
                pending.flow,
                request,
                pending.credentials.clone(),
            )
        };
        let session = pending.session;
        let new = self.core.send(now, again);
        if let Some(session) = session.and_then(|id| self.sessions.get_mut(&id)) {
            session.retried(&mut self.core, now, id, new);
            if response.status == 422 {
                session.note_min_se(&response.headers);
            }
        }
        true
    }

    fn session_of(&self, request: &Request) -> Option<SessionId> {
        let call_id = request.headers.call_id().ok()?.to_owned();
        let to = request.headers.to().ok()?;
        let from = request.headers.from().ok()?;
        let id = *self.by_dialog.get(&(call_id, to.tag()?.to_owned()))?;
        let session = self.sessions.get(&id)?;
        session.has_peer(from.tag().unwrap_or_default()).then_some(id)
    }
}
