//! Trunks: what may send SIP to us, and whose a session is.

mod health;
pub(super) mod keeper;
mod registering;

use super::{Now, Switch};
use crate::call::{Event, InboundRequest, Origination};
use crate::sip::{Flow, Request, SessionId, UaEvent};

impl Switch {
    /// One SIP message. From an address that is neither a trunk's nor one to which we send the requests of a dialog, nor
    /// one of a registered phone, it is dropped in silence, before parsing; a REGISTER is not where there is a registrar.
    pub(super) fn sip(&mut self, now: Now, flow: Flow, bytes: &[u8]) {
        let source = flow.remote.ip();
        let phone = || self.phones.welcome(now.instant, flow, bytes);
        if !self.trunks.know(source) && !self.ua.knows(source) && !self.left.knows(source) && !phone() {
            tracing::debug!(remote = %flow.remote, "SIP of a stranger dropped");
            self.dropped_sip = self.dropped_sip.saturating_add(1);
            return;
        }
        self.ua.handle_datagram(now.instant, flow, bytes);
    }

    pub(super) fn ua_event(&mut self, now: Now, event: UaEvent) {
        match event {
            UaEvent::Incoming { session, request, flow, replaces } => {
                self.incoming(now, session, request, flow, replaces);
            }
            UaEvent::Request { id, request, flow } => self.phone_registers(now, id, &request, flow),
            UaEvent::Answer { request, ref result, .. } if self.left_ended(request, result.is_ok()) => {}
            UaEvent::Answer { request, cseq, result } => self.trunk_answered(now, request, cseq, result),
            event => {
                let Some(session) = crate::call::session_of(&event) else { return };
                let owner = match event {
                    UaEvent::Closed { .. } => {
                        self.trunks.closed(session);
                        self.ledger.closed(now, session);
                        self.tell_limits(now, None);
                        self.phones.closed(session);
                        self.owners.remove(&session)
                    }
                    _ => self.owners.get(&session).copied(),
                };
                if let Some(call) = owner {
                    self.call_event(now, call, Event::Trunk(event));
                }
            }
        }
    }

    fn incoming(&mut self, now: Now, session: SessionId, request: Request, flow: Flow, replaces: Option<SessionId>) {
        // A phone may stand beside a trunk's server behind one address: its own port tells it.
        let phone_there = || !self.trunks.have_target_at(flow) && self.phones.has_phone_at(flow, now.instant);
        if flow.transport.is_websocket() || phone_there() {
            return self.phone_calls(now, session, request, flow, replaces);
        }
        let Some(trunk) = self.trunks.of_flow(flow) else {
            if self.phones.knows(flow.remote.ip(), now.instant) {
                return self.phone_calls(now, session, request, flow, replaces);
            }
            // A party of a trunk's call: known for what belongs to that call, but calls come from the trunk.
            let _ = self.ua.reject(now.instant, session, 403, "Forbidden", &[]);
            return;
        };
        if let Err(refused) = self.trunks.admit_inbound(now.instant, &trunk.name) {
            tracing::warn!(trunk = trunk.name, ?refused, "a trunk's call is refused");
            let later = [("Retry-After".to_owned(), refused.retry_after().to_string())];
            let _ = self.ua.reject(now.instant, session, 503, "Trunk limit reached", &later);
            return;
        }
        if let Err(error) = self.ua.configure(now.instant, session, trunk.options.clone()) {
            tracing::info!(trunk = trunk.name, %error, "a trunk's call does not suit the trunk's options");
            return;
        }
        self.trunk_alive(now, &trunk.name);
        self.trunks.began(session, &trunk.name);
        let refused = if replaces.is_some() { self.refused_now(None) } else { self.refused_to_begin(None) };
        let request = InboundRequest { trunk, session, request, flow, rights: None, refused };
        if let Some(old) = replaces {
            return self.replace(now, old, request);
        }
        let id = self.new_call_id();
        self.own(session, id);
        self.begin(now, id, Origination::Trunk(request));
    }

    /// INVITE with Replaces: it belongs to the call of the session that it names. A gateway that takes no calls takes none
    /// of these.
    pub(super) fn replace(&mut self, now: Now, old: SessionId, request: InboundRequest) {
        if let Some(cause) = &request.refused {
            let status = cause.sip.filter(|status| (300..700).contains(status)).unwrap_or(503);
            let headers = [("Reason".to_owned(), cause.reason_header())];
            let reason = crate::sip::default_reason(status);
            let _ = self.ua.reject(now.instant, request.session, status, reason, &headers); // refused only where it has ended
            return;
        }
        match self.owners.get(&old).copied().filter(|id| self.calls.contains_key(id)) {
            Some(id) => {
                self.own(request.session, id);
                self.call_event(now, id, Event::Replace { session: old, request: Box::new(request) });
            }
            None => drop(self.ua.reject(now.instant, request.session, 481, "", &[])),
        }
    }
}
