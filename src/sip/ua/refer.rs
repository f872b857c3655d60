//! REFER inside an established session, both ways, and the subscription that it makes:
//! [RFC 3515](https://www.rfc-editor.org/rfc/rfc3515), [RFC 6665](https://www.rfc-editor.org/rfc/rfc6665); RFC 4488 and
//! RFC 7614 (no subscription) as the side that is asked.
//!
//! A subscription lives no longer than its session here: who hangs up hears no more.

use std::time::{Duration, Instant};

use super::capabilities;
use super::core::{Core, Purpose, furnish, in_dialog};
use super::established::Established;
use super::refer_to::{self, ReferTo};
use super::session::{Common, State};
use super::types::{EndedBy, ReferId, UaError, UaEvent};
use crate::sip::transaction::{ClientFailure, ClientId, ServerId, earlier};
use crate::sip::{Method, Params, Request, Response, default_reason};

/// REFERs of each side that may be under way at once in one session.
const MAX_REFERS: usize = 4;
/// The subscription that a REFER makes, where we say how long it is and where the peer does not.
const SUBSCRIPTION: Duration = Duration::from_secs(180);
/// The longest subscription of the peer's word that we wait for.
const MAX_SUBSCRIPTION: Duration = Duration::from_secs(900);

/// The REFERs of a session.
#[derive(Debug, Default)]
pub(super) struct Refers {
    sent: Vec<SentRefer>,
    received: Vec<ReceivedRefer>,
}

/// A REFER of ours, until its subscription ends.
#[derive(Debug)]
struct SentRefer {
    /// What the peer's NOTIFYs call it by.
    cseq: u32,
    /// `None` once it has had its answer.
    transaction: Option<ClientId>,
    /// The peer has said that he tells no more.
    over: bool,
    /// When nothing more is waited for.
    until: Option<Instant>,
}

/// A REFER of the peer's, until we have told the end.
#[derive(Debug)]
struct ReceivedRefer {
    id: ReferId,
    /// The request, until our user has answered it.
    request: Option<(ServerId, Request)>,
    /// The peer wants no NOTIFYs (RFC 4488, RFC 7614).
    silent: bool,
    /// What was told last.
    told: u16,
    /// Our NOTIFY that has no answer yet, and what is to be told after it.
    under_way: Option<ClientId>,
    waiting: Option<(u16, bool)>,
    /// The last word has been sent.
    over: bool,
    until: Option<Instant>,
}

/// Why a NOTIFY is the last (RFC 6665 section 4.2.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    No,
    NoResource,
    Timeout,
}

impl Refers {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let sent = self.sent.iter().filter_map(|refer| refer.until).min();
        earlier(sent, self.received.iter().filter_map(|refer| refer.until).min())
    }

    /// A challenged REFER goes out again with this number.
    pub(super) fn renumbered(&mut self, id: ClientId, number: u32) {
        if let Some(refer) = self.sent.iter_mut().find(|refer| refer.transaction == Some(id)) {
            refer.cseq = number;
        }
    }

    /// A challenged REFER or NOTIFY has gone out again.
    pub(super) fn retried(&mut self, old: ClientId, new: ClientId) {
        let sent = self.sent.iter_mut().map(|refer| &mut refer.transaction);
        let told = self.received.iter_mut().map(|refer| &mut refer.under_way);
        for id in sent.chain(told).filter(|id| **id == Some(old)) {
            *id = Some(new);
        }
    }
}

impl Established {
    /// Sends a REFER.
    pub(super) fn refer(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        to: &ReferTo,
        referred_by: Option<&str>,
    ) -> Result<(), UaError> {
        if self.refers.sent.len() >= MAX_REFERS {
            return Err(UaError::Full);
        }
        let value = to.value()?;
        referred_by.map_or(Ok(()), refer_to::check_referred_by)?;
        let mut request = self.dialog.request(Method::Refer);
        let headers = &mut request.headers;
        headers.push("Contact", common.contact.to_string());
        headers.push("Refer-To", value);
        if let Some(by) = referred_by {
            headers.push("Referred-By", by);
        }
        capabilities::declare_in_session(headers, false, false);
        core.sign(headers, "User-Agent");
        let cseq = self.dialog.local_cseq();
        let flow = common.next_flow(&self.dialog);
        let pending = in_dialog(Purpose::Refer, Some(common.id), flow, request, common.credentials.clone());
        let transaction = core.send(now, pending);
        self.refers.sent.push(SentRefer { cseq, transaction: Some(transaction), over: false, until: None });
        Ok(())
    }

    /// A final response to a REFER of ours.
    pub(super) fn refer_answered(
        mut self: Box<Self>,
        common: &Common,
        core: &mut Core,
        now: Instant,
        id: ClientId,
        response: &Response,
    ) -> State {
        let Some(at) = self.refers.sent.iter().position(|refer| refer.transaction == Some(id)) else {
            return State::Established(self);
        };
        let accepted = (200..300).contains(&response.status);
        let result = if accepted { Ok(()) } else { Err(response.status) };
        core.event(UaEvent::ReferAnswered { session: common.id, result });
        if !accepted {
            self.refers.sent.remove(at);
            // Section 12.2.1.2 of RFC 3261: the peer has no such dialog any more.
            return match response.status {
                481 => self.end(common, core, now, EndedBy::Remote),
                _ => State::Established(self),
            };
        }
        let no_subscription = response.headers.get("Refer-Sub").is_some_and(is_false);
        if let Some(refer) = self.refers.sent.get_mut(at) {
            refer.transaction = None;
            refer.until = refer.until.or(Some(now + core.config.timers.give_up()));
            if refer.over || no_subscription {
                let told = refer.over;
                self.refers.sent.remove(at);
                if !told {
                    progress(common, core, 100, default_reason(100).to_owned(), true);
                }
            }
        }
        State::Established(self)
    }

    /// A REFER of ours was never answered.
    pub(super) fn refer_failed(&mut self, common: &Common, core: &mut Core, id: ClientId, why: ClientFailure) {
        let before = self.refers.sent.len();
        self.refers.sent.retain(|refer| refer.transaction != Some(id));
        if self.refers.sent.len() < before {
            let status = why.status();
            core.event(UaEvent::ReferAnswered { session: common.id, result: Err(status) });
        }
    }

    /// The peer's NOTIFY: 489 for what is not about a REFER, 481 where there was none (RFC 6665 section 4.1.3).
    pub(super) fn notified(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        server: ServerId,
        request: &Request,
    ) {
        let Some(id) = event_id(request) else { return core.refuse(now, server, request, 489) };
        let refers = &mut self.refers.sent;
        // Section 2.4.6: the first REFER of a dialog may be told of without a number.
        let found = match id {
            Some(id) => refers.iter().position(|refer| refer.cseq == id),
            None => (!refers.is_empty()).then_some(0),
        };
        let Some(at) = found else { return core.refuse(now, server, request, 481) };
        let Some(refer) = refers.get_mut(at).filter(|refer| !refer.over) else {
            return core.refuse(now, server, request, 481);
        };
        let (active, expires) = subscription_state(request);
        let told = read_sipfrag(request).unwrap_or((100, default_reason(100).to_owned()));
        let (status, reason) = match ended_without_result(request).filter(|_| told.0 < 200) {
            Some(status) => (status, default_reason(status).to_owned()),
            None => told,
        };
        refer.over = !active;
        refer.until = Some(now + expires);
        if refer.over && refer.transaction.is_none() {
            refers.remove(at);
        }
        let mut response = core.response(request, 200);
        response.headers.push("Contact", common.contact.to_string());
        core.layer.respond(now, server, response);
        progress(common, core, status, reason, !active);
    }

    /// The peer's REFER: what cannot be done is refused here, the rest is our user's to judge.
    pub(super) fn referred(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        server: ServerId,
        request: Request,
    ) {
        if self.hangup.is_some() {
            return core.refuse(now, server, &request, 481);
        }
        let to = match ReferTo::of(&request.headers) {
            Ok(to) => to,
            Err(status) => return core.refuse(now, server, &request, status),
        };
        let cseq = request.headers.cseq().map(|cseq| cseq.number);
        let (Ok(number), true) = (cseq, self.refers.received.len() < MAX_REFERS) else {
            return core.refuse(now, server, &request, 491);
        };
        self.dialog.refresh_target(&request.headers);
        let id = ReferId(number);
        let referred_by = refer_to::referred_by(&request.headers);
        let no_subscription = request.headers.get("Refer-Sub").is_some_and(is_false);
        let silent = no_subscription || capabilities::requires(&request, "nosub");
        core.event(UaEvent::Referred { session: common.id, refer: id, to, referred_by });
        self.refers.received.push(ReceivedRefer {
            id,
            request: Some((server, request)),
            silent,
            told: 100,
            under_way: None,
            waiting: None,
            over: false,
            until: None,
        });
    }

    /// Our user's answer: 202 and a first NOTIFY at once (section 2.4.4), or a refusal.
    pub(super) fn answer_refer(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        id: ReferId,
        answer: Result<(), u16>,
    ) -> Result<(), UaError> {
        let at = self.refers.received.iter().position(|refer| refer.id == id).ok_or(UaError::State)?;
        if let Err(status) = answer
            && !(300..700).contains(&status)
        {
            return Err(UaError::Status(status));
        }
        let refer = self.refers.received.get_mut(at).ok_or(UaError::State)?;
        let (server, request) = refer.request.take().ok_or(UaError::State)?;
        match answer {
            Err(status) => {
                self.refers.received.remove(at);
                core.refuse(now, server, &request, status);
            }
            Ok(()) => {
                let silent = refer.silent;
                refer.until = Some(now + SUBSCRIPTION);
                let mut response = core.tagged_response(&request, 202, default_reason(202), &common.local_tag);
                furnish(&mut response, &common.contact, false, None);
                if silent {
                    response.headers.push("Refer-Sub", "false");
                }
                core.layer.respond(now, server, response);
                if !silent {
                    self.send_notify(common, core, now, at, 100, End::No);
                }
            }
        }
        Ok(())
    }

    /// Tells the peer how far we are. One NOTIFY is under way at a time: what is told meanwhile follows it, and only the
    /// newest of that.
    pub(super) fn notify_refer(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        id: ReferId,
        status: u16,
        last: bool,
    ) -> Result<(), UaError> {
        if !(100..700).contains(&status) {
            return Err(UaError::Status(status));
        }
        let refers = &mut self.refers.received;
        let at = refers.iter().position(|refer| refer.id == id).ok_or(UaError::State)?;
        let refer = refers.get_mut(at).filter(|it| !it.over && it.request.is_none()).ok_or(UaError::State)?;
        if refer.waiting.is_some_and(|(_, last)| last) {
            return Err(UaError::State);
        }
        if refer.silent {
            if last {
                refers.remove(at);
            }
        } else if refer.under_way.is_some() {
            refer.waiting = Some((status, last));
        } else {
            self.send_notify(common, core, now, at, status, if last { End::NoResource } else { End::No });
        }
        Ok(())
    }

    fn send_notify(&mut self, common: &Common, core: &mut Core, now: Instant, at: usize, status: u16, end: End) {
        let Some(refer) = self.refers.received.get_mut(at) else { return };
        let state = match end {
            End::No => {
                let left = refer.until.unwrap_or(now).saturating_duration_since(now);
                format!("active;expires={}", left.as_secs())
            }
            End::NoResource => "terminated;reason=noresource".to_owned(),
            End::Timeout => "terminated;reason=timeout".to_owned(),
        };
        refer.told = status;
        refer.over = end != End::No;
        let mut request = self.dialog.request(Method::Notify);
        let headers = &mut request.headers;
        headers.push("Contact", common.contact.to_string());
        headers.push("Event", format!("refer;id={}", refer.id.0));
        headers.push("Subscription-State", state);
        core.sign(headers, "User-Agent");
        headers.push("Content-Type", "message/sipfrag;version=2.0");
        request.body = format!("SIP/2.0 {status} {}\r\n", default_reason(status)).into_bytes();
        let flow = common.next_flow(&self.dialog);
        let pending = in_dialog(Purpose::Notify, Some(common.id), flow, request, common.credentials.clone());
        refer.under_way = Some(core.send(now, pending));
        if refer.over {
            refer.until = None;
        }
    }

    /// The final response to a NOTIFY of ours, or 408 for none: a peer that refuses it has given the subscription up
    /// (RFC 6665 section 4.2.2).
    pub(super) fn notify_answered(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        id: ClientId,
        status: u16,
    ) {
        let refers = &mut self.refers.received;
        let Some(at) = refers.iter().position(|refer| refer.under_way == Some(id)) else { return };
        let Some(refer) = refers.get_mut(at) else { return };
        refer.under_way = None;
        if status >= 300 {
            refer.silent = true;
            refer.waiting = refer.waiting.filter(|(_, last)| *last);
        }
        match refer.waiting.take() {
            _ if refer.over => drop(refers.remove(at)),
            Some(_) if refer.silent => drop(refers.remove(at)),
            Some((status, last)) => {
                self.send_notify(common, core, now, at, status, if last { End::NoResource } else { End::No });
            }
            None => {}
        }
    }

    /// Subscriptions whose time is over: the peer's word is no longer waited for, ours is the last.
    pub(super) fn refers_timeout(&mut self, common: &Common, core: &mut Core, now: Instant) {
        let is_due = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        let silent = self.refers.sent.extract_if(.., |refer| is_due(refer.until) && refer.transaction.is_none());
        for refer in silent {
            if !refer.over {
                progress(common, core, 408, String::new(), true);
            }
        }
        while let Some(at) = self.refers.received.iter().position(|refer| is_due(refer.until)) {
            let Some(refer) = self.refers.received.get_mut(at) else { return };
            refer.until = None;
            if refer.silent {
                self.refers.received.remove(at);
            } else if refer.under_way.is_some() {
                // What waits (or nothing) is told with the end.
                refer.waiting = Some((refer.waiting.map_or(refer.told, |(status, _)| status), true));
            } else {
                let told = refer.told;
                self.send_notify(common, core, now, at, told, End::Timeout);
            }
        }
    }

    /// Answers the REFERs that the peer still waits for with 481: the session ends.
    pub(super) fn refuse_refers(&mut self, core: &mut Core, now: Instant) {
        for refer in self.refers.received.drain(..) {
            if let Some((server, request)) = refer.request {
                core.refuse(now, server, &request, 481);
            }
        }
    }
}

fn progress(common: &Common, core: &mut Core, status: u16, reason: String, last: bool) {
    core.event(UaEvent::ReferProgress { session: common.id, status, reason, last });
}

/// Refer-Sub (RFC 4488).
fn is_false(value: &str) -> bool {
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("false")
}

/// The id of `Event: refer;id=4`; `None` for another event.
fn event_id(request: &Request) -> Option<Option<u32>> {
    let value = request.headers.get("Event")?;
    let (package, params) = value.split_once(';').unwrap_or((value, ""));
    if !package.trim().eq_ignore_ascii_case("refer") {
        return None;
    }
    match Params::parse(params).ok()?.value("id") {
        Some(id) => id.parse().ok().map(Some),
        None => Some(None),
    }
}

/// Whether more will come, and for how long at most. A NOTIFY without Subscription-State is of a time before it was asked
/// for: more will come until a final status has.
fn subscription_state(request: &Request) -> (bool, Duration) {
    let Some(value) = request.headers.get("Subscription-State") else {
        return (read_sipfrag(request).is_some_and(|(status, _)| status < 200), SUBSCRIPTION);
    };
    let (state, params) = value.split_once(';').unwrap_or((value, ""));
    let params = Params::parse(params).unwrap_or_default();
    let expires = params.value("expires").and_then(|text| text.parse().ok()).map(Duration::from_secs);
    (!state.trim().eq_ignore_ascii_case("terminated"), expires.unwrap_or(SUBSCRIPTION).min(MAX_SUBSCRIPTION))
}

/// The status that stands for the end of a subscription which was refused or given up before there was a result (RFC 6665
/// section 4.1.3). `noresource`, `timeout` and what is unknown leave open how the REFER ended: `None`.
fn ended_without_result(request: &Request) -> Option<u16> {
    let (state, params) = request.headers.get("Subscription-State")?.split_once(';')?;
    let params = Params::parse(params).ok().filter(|_| state.trim().eq_ignore_ascii_case("terminated"))?;
    match params.value("reason")?.to_ascii_lowercase().as_str() {
        "rejected" => Some(603),
        "deactivated" | "probation" | "giveup" => Some(480),
        _ => None,
    }
}

/// The status line of a `message/sipfrag` (RFC 3420).
fn read_sipfrag(request: &Request) -> Option<(u16, String)> {
    let kind = request.headers.content_type()?.split(';').next()?.trim().to_ascii_lowercase();
    if kind != "message/sipfrag" {
        return None;
    }
    let text = std::str::from_utf8(&request.body).ok()?;
    let mut parts = text.lines().next()?.trim().splitn(3, ' ');
    if !parts.next()?.eq_ignore_ascii_case("SIP/2.0") {
        return None;
    }
    let status = parts.next()?.parse().ok().filter(|status| (100..700).contains(status))?;
    Some((status, parts.next().unwrap_or_default().trim().to_owned()))
}
