//! UPDATE: [RFC 3311](https://www.rfc-editor.org/rfc/rfc3311). The early dialog, where it alone changes a session; in an
//! established one it takes the way of a re-INVITE (`reinvite`).

use std::time::Instant;

use super::capabilities;
use super::core::{Core, Purpose, body_of, furnish, in_dialog, put_body};
use super::reinvite::{Offer, PeerOffer, again_at, refuse_overlap};
use super::session::Common;
use super::types::{Body, UaError, UaEvent};
use crate::sip::transaction::{ClientFailure, ServerId};
use crate::sip::{Dialog, Method, Request, Response, default_reason};

/// How far the first offer and answer of an INVITE have come. Only what is sent reliably counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreed {
    /// Nobody has offered anything.
    Nothing,
    /// Our offer waits for its answer.
    Ours,
    /// The peer's offer waits for our answer.
    Theirs,
    /// There is an answer, and it is final: from here only UPDATE and PRACK change anything.
    Both,
}

/// An early dialog, of either side.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) dialog: Dialog,
    is_caller: bool,
    pub(super) agreed: Agreed,
    /// Our UPDATE.
    pub(super) offer: Offer,
    /// The peer's UPDATE, or PRACK with an offer, that our user has not answered.
    pub(super) peer: Option<PeerOffer>,
    /// The description of ours that holds, once one does.
    pub(super) local: Option<Body>,
    /// The RSeq of the last reliable response that was taken.
    pub(super) rseq: Option<u32>,
}

impl Early {
    pub(super) fn new(dialog: Dialog, is_caller: bool, agreed: Agreed) -> Self {
        Early { dialog, is_caller, agreed, offer: Offer::None, peer: None, local: None, rseq: None }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.offer.deadline()
    }

    /// The time after a glare is over. An offer of the peer's that came meanwhile goes first.
    pub(super) fn timeout(&mut self, common: &Common, core: &mut Core, now: Instant) {
        if let Offer::Waiting { at, .. } = &mut self.offer
            && at.take_if(|at| *at <= now).is_some()
        {
            self.resume_offer(common, core, now);
        }
    }

    /// Sends the offer that has waited for long enough, unless the peer's has no answer yet.
    fn resume_offer(&mut self, common: &Common, core: &mut Core, now: Instant) {
        let may = self.agreed == Agreed::Both && self.peer.is_none() && self.dialog.allows(&Method::Update);
        if !may || !matches!(self.offer, Offer::Waiting { at: None, .. }) {
            return;
        }
        if let Offer::Waiting { body, tries, .. } = std::mem::replace(&mut self.offer, Offer::None) {
            self.send_update(common, core, now, body, tries);
        }
    }

    /// Sends our offer: section 5.1, once the first offer has its answer and no other is open.
    pub(super) fn offer(&mut self, common: &Common, core: &mut Core, now: Instant, body: Body) -> Result<(), UaError> {
        if self.agreed != Agreed::Both || !self.dialog.allows(&Method::Update) {
            return Err(UaError::State);
        }
        if !matches!(self.offer, Offer::None) || self.peer.is_some() {
            return Err(UaError::Pending);
        }
        self.send_update(common, core, now, body, 1);
        Ok(())
    }

    fn send_update(&mut self, common: &Common, core: &mut Core, now: Instant, body: Body, tries: u8) {
        let mut request = self.dialog.request(Method::Update);
        request.headers.push("Contact", common.contact.to_string());
        capabilities::declare_in_session(&mut request.headers, false, false);
        core.sign(&mut request.headers, "User-Agent");
        put_body(&mut request, Some(body.clone()));
        let flow = common.next_flow(&self.dialog);
        let pending = in_dialog(Purpose::Update, Some(common.id), flow, request, common.credentials.clone());
        let transaction = core.send(now, pending);
        self.offer = Offer::Sent { transaction, body, tries, until: None };
    }

    /// A final response to our UPDATE. A refusal leaves the session as it was (section 5.3); what becomes of the INVITE
    /// is its own matter.
    pub(super) fn update_answered(&mut self, common: &Common, core: &mut Core, now: Instant, response: &Response) {
        let Offer::Sent { body, tries, .. } = std::mem::replace(&mut self.offer, Offer::None) else { return };
        if let Some(at) = again_at(core, now, response, tries, self.is_caller) {
            self.offer = Offer::Waiting { body, tries: tries + 1, at: Some(at) };
            return;
        }
        let result = if (200..300).contains(&response.status) {
            self.dialog.refresh_target(&response.headers);
            self.local = Some(body);
            Ok(body_of(&response.headers, &response.body))
        } else {
            Err(response.status)
        };
        core.event(UaEvent::ReofferAnswered { session: common.id, result });
    }

    /// Our UPDATE was never answered.
    pub(super) fn update_failed(&mut self, common: &Common, core: &mut Core, why: ClientFailure) {
        self.offer = Offer::None;
        let status = why.status();
        core.event(UaEvent::ReofferAnswered { session: common.id, result: Err(status) });
    }

    /// The peer's UPDATE: section 5.2.
    pub(super) fn peer_update(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        server: ServerId,
        request: Request,
    ) {
        if self.peer.is_some() {
            return refuse_overlap(core, now, server, &request);
        }
        if request.body.is_empty() {
            self.dialog.refresh_target(&request.headers);
            let mut response = core.tagged_response(&request, 200, default_reason(200), &common.local_tag);
            furnish(&mut response, &common.contact, false, None);
            return core.layer.respond(now, server, response);
        }
        match self.agreed {
            Agreed::Theirs => refuse_overlap(core, now, server, &request),
            Agreed::Ours | Agreed::Nothing => core.refuse(now, server, &request, 491),
            Agreed::Both => self.peer_offers(common, core, now, server, request),
        }
    }

    /// The peer's offer in an UPDATE or PRACK, after the first one has its answer.
    pub(super) fn peer_offers(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        server: ServerId,
        request: Request,
    ) {
        if self.peer.is_some() {
            return refuse_overlap(core, now, server, &request);
        }
        if matches!(self.offer, Offer::Sent { .. }) {
            return core.refuse(now, server, &request, 491);
        }
        core.event(UaEvent::Reoffered { session: common.id, body: body_of(&request.headers, &request.body) });
        self.peer = Some(PeerOffer { server, request });
    }

    /// Our user's reply to it.
    pub(super) fn answer_peer(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        answer: Result<Body, u16>,
    ) -> Result<(), UaError> {
        check_refusal(&answer)?;
        let peer = self.peer.take().ok_or(UaError::State)?;
        if let Some(body) = reply(common, core, now, &mut self.dialog, peer, answer, |_, _| {}) {
            self.local = Some(body);
        }
        self.resume_offer(common, core, now);
        Ok(())
    }

    /// The dialog is no more: what the peer waits for is refused.
    pub(super) fn close(self, core: &mut Core, now: Instant) {
        if let Some(peer) = self.peer {
            core.refuse(now, peer.server, &peer.request, 487);
        }
    }
}

/// An offer can be refused with 300-699 only.
pub(super) fn check_refusal(answer: &Result<Body, u16>) -> Result<(), UaError> {
    match answer {
        Err(status) if !(300..700).contains(status) => Err(UaError::Status(*status)),
        _ => Ok(()),
    }
}

/// Answers an offer that came in an UPDATE or PRACK, and gives our description where it now holds. A PRACK refreshes no
/// target (RFC 3262 section 4).
pub(super) fn reply(
    common: &Common,
    core: &mut Core,
    now: Instant,
    dialog: &mut Dialog,
    peer: PeerOffer,
    answer: Result<Body, u16>,
    complete: impl FnOnce(&Request, &mut Response),
) -> Option<Body> {
    let PeerOffer { server, request } = peer;
    let body = match answer {
        Ok(body) => body,
        Err(status) => {
            core.refuse(now, server, &request, status);
            return None;
        }
    };
    let mut response = core.tagged_response(&request, 200, default_reason(200), &common.local_tag);
    if request.method == Method::Update {
        dialog.refresh_target(&request.headers);
        furnish(&mut response, &common.contact, false, Some(body.clone()));
        complete(&request, &mut response);
    } else {
        response.headers.push("Content-Type", body.content_type.clone());
        response.body = body.bytes.clone();
    }
    core.layer.respond(now, server, response);
    Some(body)
}
