//! re-INVITE and UPDATE inside an established session: [RFC 3261 section 14](https://www.rfc-editor.org/rfc/rfc3261#section-14),
//! [RFC 3311](https://www.rfc-editor.org/rfc/rfc3311).

use std::time::{Duration, Instant};

use rand::RngExt;

use super::answer::{Answer, answer_invite};
use super::core::{Core, Purpose, body_of, furnish, in_dialog, put_body};
use super::established::Established;
use super::invite::ended_by;
use super::session::{Common, State};
use super::types::{Body, EndedBy, UaError, UaEvent};
use super::{cancel, capabilities, forks, session_timer, update};
use crate::sip::transaction::{ClientFailure, ClientId, ServerId};
use crate::sip::{Method, Request, Response, default_reason};

/// How often an offer is sent before a glare that never ends counts as refusal.
const MAX_TRIES: u8 = 5;
/// How many of our 2xx to re-INVITEs may wait for their ACK at once.
const MAX_UNACKED: usize = 2;

/// The longest Retry-After of a 500 that an offer waits for: RFC 3261 section 14.2 has no longer one.
const MAX_RETRY_AFTER: u64 = 10;

/// Our own re-INVITE, or UPDATE with an offer.
#[derive(Debug)]
pub(super) enum Offer {
    /// None.
    None,
    /// It waits: for the ACK of our 2xx (`None`), or for its time after a glare.
    Waiting { body: Body, tries: u8, at: Option<Instant> },
    /// It is under way. From its first provisional response on (`until`) no timer of its transaction's ends it.
    Sent { transaction: ClientId, body: Body, tries: u8, until: Option<Instant> },
}

/// The peer's offer, or his wish for ours.
#[derive(Debug)]
pub(super) struct PeerOffer {
    pub(super) server: ServerId,
    pub(super) request: Request,
}

impl Offer {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Offer::Waiting { at, .. } => *at,
            Offer::Sent { until, .. } => *until,
            Offer::None => None,
        }
    }

    pub(super) fn retried(&mut self, old: ClientId, new: ClientId) {
        if let Offer::Sent { transaction, until, .. } = self
            && *transaction == old
        {
            *transaction = new;
            *until = None;
        }
    }

    pub(super) fn is_for(&self, id: ClientId) -> bool {
        matches!(self, Offer::Sent { transaction, .. } if *transaction == id)
    }
}

impl Established {
    /// Sends our offer, or keeps it until the ACK of our own 2xx has come.
    pub(super) fn offer(&mut self, common: &Common, core: &mut Core, now: Instant, body: Body) -> Result<(), UaError> {
        if !matches!(self.offer, Offer::None) || self.peer.is_some() {
            return Err(UaError::Pending);
        }
        if self.unacked.is_empty() && !self.timer.is_reinviting() {
            self.send_offer(common, core, now, body, 1);
        } else {
            self.offer = Offer::Waiting { body, tries: 1, at: None };
        }
        Ok(())
    }

    fn send_offer(&mut self, common: &Common, core: &mut Core, now: Instant, body: Body, tries: u8) {
        let mut request = self.dialog.request(Method::Invite);
        request.headers.push("Contact", common.contact.to_string());
        capabilities::declare_in_session(&mut request.headers, false, self.timer.is_on());
        self.timer.ask(&mut request.headers);
        core.sign(&mut request.headers, "User-Agent");
        put_body(&mut request, Some(body.clone()));
        let flow = common.next_flow(&self.dialog);
        let mut pending = in_dialog(Purpose::Reinvite, Some(common.id), flow, request, common.credentials.clone());
        pending.dialog = Some(self.dialog.clone());
        let transaction = core.send(now, pending);
        self.offer = Offer::Sent { transaction, body, tries, until: None };
    }

    /// A provisional response to a re-INVITE of ours: the final one has 64*T1 from the first.
    pub(super) fn offer_provisional(&mut self, core: &Core, now: Instant, id: ClientId) {
        if let Offer::Sent { transaction, until: until @ None, .. } = &mut self.offer
            && *transaction == id
        {
            *until = Some(now + core.config.timers.give_up());
        }
    }

    /// Nothing final came: our offer is taken back, and the session is as it was.
    fn offer_given_up(&mut self, common: &Common, core: &mut Core, now: Instant) {
        if let Offer::Sent { transaction, .. } = std::mem::replace(&mut self.offer, Offer::None) {
            cancel::take_back(common, core, now, transaction, None);
            core.forsake(now, transaction);
            core.event(UaEvent::ReofferAnswered { session: common.id, result: Err(408) });
        }
    }

    /// The ACK, or the end of another exchange, that our offer waited for has come.
    pub(super) fn offer_waited(&mut self, common: &Common, core: &mut Core, now: Instant) {
        if self.may_offer() && matches!(self.offer, Offer::Waiting { at: None, .. }) {
            self.resume_offer(common, core, now);
        }
    }

    /// The time after a glare is over, or that for an answer. An offer of the peer's that came meanwhile goes first.
    pub(super) fn offer_timeout(&mut self, common: &Common, core: &mut Core, now: Instant) {
        if matches!(self.offer, Offer::Sent { until: Some(until), .. } if until <= now) {
            return self.offer_given_up(common, core, now);
        }
        let Offer::Waiting { at: at @ Some(_), .. } = &mut self.offer else { return };
        if at.is_some_and(|at| at > now) {
            return;
        }
        *at = None;
        self.offer_waited(common, core, now);
    }

    /// True while nothing is under way that a re-INVITE of ours would cross.
    fn may_offer(&self) -> bool {
        self.unacked.is_empty() && self.peer.is_none() && !self.timer.is_reinviting()
    }

    fn resume_offer(&mut self, common: &Common, core: &mut Core, now: Instant) {
        if let Offer::Waiting { body, tries, .. } = std::mem::replace(&mut self.offer, Offer::None) {
            self.send_offer(common, core, now, body, tries);
        }
    }

    /// A final response to a re-INVITE of ours, or to the UPDATE of an early dialog that is none any more.
    pub(super) fn offer_answered(
        mut self: Box<Self>,
        common: &Common,
        core: &mut Core,
        now: Instant,
        id: ClientId,
        purpose: Purpose,
        response: Response,
    ) -> State {
        let Offer::Sent { body, tries, .. } = std::mem::replace(&mut self.offer, Offer::None) else {
            return State::Established(self);
        };
        if let Some(at) = again_at(core, now, &response, tries, self.is_caller) {
            self.offer = Offer::Waiting { body, tries: tries + 1, at: Some(at) };
            return State::Established(self);
        }
        let result = match response.status {
            200..300 => {
                self.dialog.refresh_target(&response.headers);
                if purpose == Purpose::Reinvite {
                    forks::acknowledge(core, common.next_flow(&self.dialog), id, &self.dialog);
                    self.timer.granted(now, &response.headers);
                }
                self.local = Some(body);
                Ok(body_of(&response.headers, &response.body))
            }
            status => Err(status),
        };
        let lost = matches!(result, Err(408 | 481));
        core.event(UaEvent::ReofferAnswered { session: common.id, result });
        if lost {
            // Section 12.2.1.2: the peer has no such dialog any more.
            return self.end(common, core, now, EndedBy::Remote);
        }
        State::Established(self)
    }

    /// A re-INVITE of ours was never answered: section 12.2.1.2 ends the dialog.
    pub(super) fn offer_failed(
        mut self: Box<Self>,
        common: &Common,
        core: &mut Core,
        now: Instant,
        why: ClientFailure,
    ) -> State {
        self.offer = Offer::None;
        let status = why.status();
        core.event(UaEvent::ReofferAnswered { session: common.id, result: Err(status) });
        self.end(common, core, now, ended_by(why))
    }

    /// The peer's re-INVITE or UPDATE.
    pub(super) fn peer_offers(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        server: ServerId,
        request: Request,
    ) {
        if self.hangup.is_some() {
            return core.refuse(now, server, &request, 487);
        }
        if let Some(min_se) = self.timer.too_short(&request.headers) {
            return session_timer::refuse(core, now, server, &request, min_se);
        }
        let refreshes = request.method == Method::Update && request.body.is_empty();
        // RFC 3311 section 5.2: an UPDATE before the answer to an earlier one, whatever is in it.
        let repeated = self.peer.as_ref().is_some_and(|peer| peer.request.method == Method::Update);
        if refreshes && !repeated {
            return self.refreshed(common, core, now, server, &request);
        }
        if self.peer.is_some() {
            return refuse_overlap(core, now, server, &request);
        }
        // Section 14.2: an offer of ours is under way. An ACK that is to bring an answer is one, too.
        let unanswered = self.unacked.iter().any(|unacked| unacked.offerless);
        if matches!(self.offer, Offer::Sent { .. }) || self.timer.is_reinviting() || unanswered {
            return core.refuse(now, server, &request, 491);
        }
        if self.unacked.len() >= MAX_UNACKED {
            return refuse_overlap(core, now, server, &request);
        }
        if request.method == Method::Invite {
            let trying = core.tagged_response(&request, 100, default_reason(100), &common.local_tag);
            core.layer.respond(now, server, trying);
        }
        core.event(UaEvent::Reoffered { session: common.id, body: body_of(&request.headers, &request.body) });
        self.peer = Some(PeerOffer { server, request });
    }

    /// Our user's reply to the peer's offer.
    pub(super) fn answer_peer(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        answer: Result<Body, u16>,
    ) -> Result<(), UaError> {
        update::check_refusal(&answer)?;
        let peer = self.peer.take().ok_or(UaError::State)?;
        let agreed = if peer.request.method == Method::Invite {
            self.answer_reinvite(common, core, now, peer, answer)
        } else {
            let timer = &mut self.timer;
            update::reply(common, core, now, &mut self.dialog, peer, answer, |request, response| {
                timer.grant(now, &request.headers, &mut response.headers);
            })
        };
        if agreed.is_some() {
            self.local = agreed;
        }
        self.offer_waited(common, core, now);
        Ok(())
    }

    fn answer_reinvite(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        peer: PeerOffer,
        answer: Result<Body, u16>,
    ) -> Option<Body> {
        let PeerOffer { server, request } = peer;
        match answer {
            Ok(body) => {
                self.dialog.refresh_target(&request.headers);
                let offerless = request.body.is_empty();
                let answer = Answer { body: Some(body.clone()), offerless, initial: false };
                self.unacked.push(answer_invite(common, core, now, server, &request, answer, &mut self.timer));
                Some(body)
            }
            Err(status) => {
                core.refuse(now, server, &request, status);
                None
            }
        }
    }

    /// Answers an UPDATE that only refreshes.
    fn refreshed(&mut self, common: &Common, core: &mut Core, now: Instant, server: ServerId, request: &Request) {
        self.dialog.refresh_target(&request.headers);
        let mut response = core.tagged_response(request, 200, default_reason(200), &common.local_tag);
        furnish(&mut response, &common.contact, self.timer.is_on(), None);
        self.timer.grant(now, &request.headers, &mut response.headers);
        core.layer.respond(now, server, response);
    }

    /// The peer took his re-INVITE back.
    pub(super) fn peer_offer_cancelled(&mut self, core: &mut Core, now: Instant, server: ServerId) {
        if self.peer.as_ref().is_some_and(|peer| peer.server == server) {
            self.refuse_peer_offer(core, now);
        }
    }

    /// The session ends, and our offer with it.
    pub(super) fn forsake_offer(&mut self, core: &mut Core, now: Instant) {
        if let Offer::Sent { transaction, .. } = std::mem::replace(&mut self.offer, Offer::None) {
            core.forsake(now, transaction);
        }
        self.timer.forsake(core, now);
    }

    /// Answers what the peer still waits for with 487.
    pub(super) fn refuse_peer_offer(&mut self, core: &mut Core, now: Instant) {
        if let Some(PeerOffer { server, request }) = self.peer.take() {
            core.refuse(now, server, &request, 487);
        }
    }
}

/// Refuses an offer while an earlier one of the peer's has no answer: 500 with a random Retry-After of 0 to 10 s.
pub(super) fn refuse_overlap(core: &mut Core, now: Instant, server: ServerId, request: &Request) {
    let mut response = core.response(request, 500);
    let seconds: u8 = core.rng.random_range(0..=10);
    response.headers.push("Retry-After", seconds.to_string());
    core.layer.respond(now, server, response);
}

/// When an offer that was refused for a while is to be sent again: after a glare (491), or when the peer says so because
/// he had not answered an earlier one (500 with Retry-After). `None`: the refusal stands.
pub(super) fn again_at(
    core: &mut Core,
    now: Instant,
    response: &Response,
    tries: u8,
    is_caller: bool,
) -> Option<Instant> {
    let retry_after = || response.headers.get("Retry-After").and_then(|text| text.trim().parse().ok());
    match response.status {
        _ if tries >= MAX_TRIES => None,
        491 => Some(now + glare_delay(core, is_caller)),
        500 => retry_after()
            .filter(|seconds| *seconds <= MAX_RETRY_AFTER)
            .map(|seconds| now + Duration::from_secs(seconds)),
        _ => None,
    }
}

/// Section 14.1: 2.1 to 4 s for the owner of the Call-ID, 0 to 2 s for the other, in steps of 10 ms.
pub(super) fn glare_delay(core: &mut Core, is_caller: bool) -> Duration {
    let steps: u64 = if is_caller { core.rng.random_range(210..=400) } else { core.rng.random_range(0..=200) };
    Duration::from_millis(steps * 10)
}
