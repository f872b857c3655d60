//! The table of calls: events in, effects out.

use std::collections::BTreeMap;

use rand::Rng as _;

use super::directory::Present;
use super::timers::Owner;
use super::{CallId, EMERGENCY_ROOM, Now, Output, SocketId, Switch};
use crate::call::{
    Call, Context, Effect, Event, Lease, Mail, Notice, Origination, Probe, TransferTo, Transferor, notice,
};
use crate::sdp::RtpSlot;
use crate::signal::ServerMessage;
use crate::sip::SessionId;

/// Calls of one user to emergency numbers at once.
const EMERGENCIES_PER_USER: usize = 2;

impl Switch {
    /// An id no call has.
    pub(super) fn new_call_id(&mut self) -> CallId {
        loop {
            let id = CallId(self.rng.next_u64());
            if !self.calls.contains_key(&id) && !self.probes.contains_key(&id) {
                return id;
            }
        }
    }

    /// Whether one more call may be; those to emergency numbers have a room of their own.
    pub(super) fn has_room(&self) -> bool {
        self.calls.len().saturating_sub(self.emergencies.len()) < self.limits.calls
    }

    /// Whether a user may have one more call to an emergency number.
    pub(super) fn has_emergency_room(&self, user: &str) -> bool {
        let own = self.emergencies.values().filter(|own| *own == user).count();
        own < EMERGENCIES_PER_USER && self.emergencies.len() < EMERGENCY_ROOM
    }

    /// A session is this call's from now on.
    pub(super) fn own(&mut self, session: SessionId, call: CallId) {
        self.owners.insert(session, call);
        if let Some(dialog) = self.ua.call_id_of(session) {
            self.output.push_back(Output::Owned { call, dialog: dialog.to_owned() });
        }
    }

    /// Begins a call and does what it wants at once.
    pub(super) fn begin(&mut self, now: Now, id: CallId, origination: Origination) {
        let call = self.with_context(now, |cx, _| Call::begin(cx, id, origination));
        self.effects.insert(0, Effect::Notice(Box::new(notice::started(id, call.record()))));
        self.calls.insert(id, call);
        self.carry_out(now, id);
    }

    /// Lets something of the calls act.
    pub(super) fn with_context<T>(
        &mut self,
        now: Now,
        act: impl FnOnce(&mut Context, &mut BTreeMap<CallId, Call>) -> T,
    ) -> T {
        let most_calls = self.limits.calls_per_socket;
        let directory = Present { sessions: &self.sessions, phones: &self.phones, now, most_calls };
        let mut cx = Context {
            now,
            ua: &mut self.ua,
            rng: &mut self.rng,
            trunks: &mut self.trunks,
            ledger: &mut self.ledger,
            directory: &directory,
            settings: &self.settings,
            effects: &mut self.effects,
        };
        act(&mut cx, &mut self.calls)
    }

    /// An event for a call; calls that are over take none.
    pub(super) fn call_event(&mut self, now: Now, id: CallId, event: Event) {
        if let Some(probe) = self.probes.remove(&id) {
            return self.probe_event(now, id, probe, event);
        }
        self.with_context(now, |cx, calls| {
            if let Some(call) = calls.get_mut(&id) {
                call.handle(cx, event);
            }
        });
        self.carry_out(now, id);
    }

    /// Media resources: for a call that has gone meanwhile they go back at once.
    pub(super) fn leased(&mut self, now: Now, call: CallId, slot: RtpSlot, lease: Lease) {
        if self.calls.contains_key(&call) || self.probes.contains_key(&call) {
            self.call_event(now, call, Event::Leased(slot, lease));
        } else {
            self.output.push_back(Output::Release { call });
        }
    }

    /// The other call of an attended transfer: a browser's, or the one with a dialog of ours.
    fn paired(&mut self, now: Now, id: CallId, wanted: &TransferTo) {
        let found = match wanted {
            TransferTo::Number(_) => None,
            TransferTo::Joined(call) => self.calls.get(call).map(|it| (*call, Transferor::Side(it.users_side()))),
            TransferTo::Call(call, socket) => Some((*call, Transferor::Browser(*socket))),
            TransferTo::Dialog { replaces, .. } => self
                .ua
                .replaceable(replaces)
                .and_then(|session| Some((self.owners.get(&session).copied()?, Transferor::Sip(session)))),
        };
        let far = found.and_then(|(call, transferor)| self.calls.get(&call)?.far(transferor));
        self.call_event(now, id, Event::Paired(far));
    }

    /// One call tells another something; a leg that changes calls takes its session with it.
    fn forward(&mut self, now: Now, to: CallId, mail: Mail) {
        if let Mail::Given { leg, .. } = &mail
            && let Some(session) = leg.session()
        {
            self.own(session, to);
        }
        if self.calls.contains_key(&to) {
            return self.call_event(now, to, Event::Mail(mail));
        }
        self.with_context(now, |cx, _| mail.refuse(cx, to));
        self.carry_out(now, to);
    }

    pub(super) fn carry_out(&mut self, now: Now, id: CallId) {
        let effects = std::mem::take(&mut self.effects);
        self.note_record(id, &effects);
        for effect in effects {
            match effect {
                Effect::Tell { socket, message } => {
                    self.follow_name(now, id, socket, &message);
                    let call = Some(id).filter(|id| self.calls.contains_key(id));
                    self.tell_of(call, socket, &message);
                }
                Effect::Lease { slot, peers, browser } => {
                    self.output.push_back(Output::Lease { call: id, slot, peers, browser });
                }
                Effect::Ask { hook, question } => {
                    let body = serde_json::json!({ "call": id.to_string(), "question": question }).to_string();
                    self.output.push_back(Output::Ask { call: id, url: hook.url, body, within: hook.within });
                }
                Effect::ReleaseSlot(slot) => self.output.push_back(Output::ReleaseSlot { call: id, slot }),
                Effect::Media(command) => self.output.push_back(Output::Media { call: id, command }),
                Effect::Release => self.output.push_back(Output::Release { call: id }),
                Effect::Own(session) => self.own(session, id),
                Effect::Pair(wanted) => self.paired(now, id, &wanted),
                Effect::Forward { to, what } => self.forward(now, to, what),
                Effect::Notice(notice) => self.output.push_back(Output::Event(notice)),
                Effect::Record(record) => {
                    self.notice(Notice::Ended { call: id.to_string(), cdr: record.clone() });
                    self.output.push_back(Output::Cdr(record));
                }
            }
        }
        self.tell_limits(now, Some(id));
        let deadline = self.calls.get(&id).filter(|call| !call.is_over()).and_then(Call::deadline);
        let deadline = deadline.or_else(|| self.probes.get(&id).and_then(Probe::deadline));
        self.timers.set(Owner::Call(id), deadline);
        if self.calls.get(&id).is_some_and(Call::is_over) {
            self.calls.remove(&id);
            self.emergencies.remove(&id);
        }
    }

    /// Tells the record of a call that stands, where its effects say that there is more in it: a trunk is tried, somebody rings.
    fn note_record(&mut self, id: CallId, effects: &[Effect]) {
        let is_more = effects.iter().any(|effect| match effect {
            Effect::Own(_) => true,
            Effect::Notice(notice) => notice.is_recorded(),
            _ => false,
        });
        // Once it has ended, its own record comes.
        let stands = |call: &&Call| is_more && call.record().cause.is_empty() && !call.is_over();
        if let Some(call) = self.calls.get(&id).filter(stands) {
            self.output.push_back(Output::Standing(Box::new(call.standing())));
        }
    }

    /// A session knows a call by a name from `incoming` or its own `call` until `ended`.
    fn follow_name(&mut self, now: Now, id: CallId, socket: SocketId, message: &ServerMessage) {
        let Some(entry) = self.sessions.get_mut(socket) else { return };
        if entry.probe.as_ref().is_some_and(|(_, probe)| *probe == id) {
            // Nothing of it is told again: it never outlives its socket.
            entry.probe = entry.probe.take_if(|_| !matches!(message, ServerMessage::Ended { .. }));
            return;
        }
        match message {
            ServerMessage::Incoming { call, .. } => {
                entry.calls.insert(call.clone(), id);
            }
            ServerMessage::Ended { call, .. } => {
                entry.calls.remove(call);
                entry.memory.ended(now.instant, id, message.clone());
            }
            _ => {}
        }
    }
}
