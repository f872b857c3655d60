//! How a call begins: screened, routed, and refused or on its way.

use super::browser_leg::{Announcement, BrowserLeg};
use super::core::Core;
use super::hunt::Hunt;
use super::party::Party;
use super::route::{Hop, Route};
use super::screening::{
    self, Behalf, Destination, InboundRequest, Origination, OutboundRequest, PhoneRequest, Refused, Screened, Wish,
};
use super::state::{Asking, Routing, State};
use super::trunk_leg::TrunkLeg;
use super::trunk_sdp::SDP;
use super::{CallId, Cause, Cdr, Context, Direction, Effect, Origin, Special, TrunkTried, canary, fetch};
use crate::dialplan::Decision;
use crate::sdp::Side;
use crate::sip::Request;

/// Begins a call of any origin.
pub(super) fn begin(cx: &mut Context, id: CallId, origination: Origination) -> (Core, State) {
    match origination {
        Origination::Browser(request) => of_browser(cx, id, request),
        Origination::Phone(request) => of_phone(cx, id, request),
        Origination::Trunk(request) => of_trunk(cx, id, request),
        Origination::Fetch(request) => fetch::begin(cx, id, request),
        Origination::Canary(request) => canary::begin(cx, id, request),
    }
}

fn of_browser(cx: &mut Context, id: CallId, request: OutboundRequest) -> (Core, State) {
    let OutboundRequest { socket, name, to, offer, from, params, rights, refused } = request;
    let mut record = Cdr::begin(id, Direction::Outbound, &rights.caller.user, &to, cx.now.unix_ms);
    record.params = params;
    tracing::info!(call = %id, user = %cx.settings.shown(&record.user), to = %cx.settings.shown(&record.dialled), "a browser calls");
    let decided = match refused {
        Some(cause) => Err((None, cause)),
        None => screening::decide_wish(cx, &Wish { rights: &rights, to: &to, from: from.as_deref() }),
    };
    let caller = Party::Browser(Box::new(BrowserLeg::caller(id, &name, socket, rights.clone(), offer)));
    let mut core = Core::new(cx, id, record, caller);
    core.rights = Some(rights);
    let state = decided_on(cx, &mut core, decided);
    (core, state)
}

fn of_phone(cx: &mut Context, id: CallId, request: PhoneRequest) -> (Core, State) {
    let PhoneRequest { trunk, flow, session, request, rights, refused } = request;
    let to = screening::number_of(&request.uri);
    let record = Cdr::begin(id, Direction::Outbound, &rights.caller.user, &to, cx.now.unix_ms);
    tracing::info!(call = %id, user = %cx.settings.shown(&record.user), to = %cx.settings.shown(&record.dialled), "a phone calls");
    let (offer, body) = offer_of(&request);
    let forwards = request.forwards_left();
    let decided = match refused.map_or(body, Err) {
        Err(cause) => Err((None, cause)),
        Ok(()) => screening::decide_wish(cx, &Wish { rights: &rights, to: &to, from: None }),
    };
    let leg = TrunkLeg::caller(id, trunk, flow, session, offer, Some(rights.clone()));
    let mut core = Core::new(cx, id, record, Party::Sip(Box::new(leg)));
    core.rights = Some(rights);
    core.forwards = forwards;
    let state = decided_on(cx, &mut core, decided);
    (core, state)
}

fn of_trunk(cx: &mut Context, id: CallId, request: InboundRequest) -> (Core, State) {
    let parties = screening::inbound_parties(&request);
    let decided = screening::decide_inbound(cx, &request, &parties);
    let mut record = Cdr::begin(id, Direction::Inbound, "", &parties.dialled, cx.now.unix_ms);
    let tried = TrunkTried::begin(&request.trunk.name, cx.now.unix_ms);
    record.trunks.push(TrunkTried { result: "caller".into(), ..tried });
    record.number = Some(parties.number);
    record.from = Some(parties.announcement.from.clone());
    record.params.clone_from(&parties.announcement.params);
    let to = &record.dialled;
    tracing::info!(call = %id, trunk = request.trunk.name, to = %cx.settings.shown(to), "a trunk calls");
    let (offer, body) = offer_of(&request.request);
    let forwards = request.request.forwards_left();
    let decided = body.map_err(|cause| (None, cause)).and(decided);
    let leg = TrunkLeg::caller(id, request.trunk, request.flow, request.session, offer, None);
    let mut core = Core::new(cx, id, record, Party::Sip(Box::new(leg)));
    core.forwards = forwards;
    core.caller_name = parties.announcement.name;
    core.verified = parties.announcement.verified;
    let state = decided_on(cx, &mut core, decided);
    (core, state)
}

/// The offer in an INVITE; a body that is something else is refused.
pub(super) fn offer_of(request: &Request) -> (Option<Vec<u8>>, Result<(), Cause>) {
    let kind = request.headers.content_type().unwrap_or_default();
    let is_sdp = kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(SDP);
    match request.body.is_empty() {
        true => (None, Ok(())),
        false if is_sdp => (Some(request.body.clone()), Ok(())),
        false => (None, Err(Cause::from_status(Origin::Gateway, 415))),
    }
}

/// The plan has decided: the call goes on, is refused, or waits for what a web hook says.
pub(super) fn decided_on(cx: &mut Context, core: &mut Core, decided: Result<(Decision, Behalf), Refused>) -> State {
    match decided {
        Ok((Decision::Ask { rule, hook, question, plain, otherwise }, behalf)) => {
            core.record.rule = Some(rule.clone());
            let until = cx.now.instant + hook.within;
            cx.effects.push(Effect::Ask { hook: hook.clone(), question: question.clone() });
            let decision = Decision::Ask { rule, hook, question, plain, otherwise };
            State::Asking(Box::new(Asking { until, decision, behalf }))
        }
        Ok((decision, behalf)) => {
            let screened = screening::screened(cx, decision, &behalf);
            go_on(cx, core, screened)
        }
        Err(refused) => go_on(cx, core, Err(refused)),
    }
}

/// Asks for media resources, or refuses.
pub(super) fn go_on(cx: &mut Context, core: &mut Core, screened: Result<Screened, Refused>) -> State {
    let mut screened = match screened.and_then(|screened| screening::admitted(cx, screened)) {
        Ok(screened) => screened,
        Err((rule, cause)) => {
            core.record.rule = rule;
            return State::Over.release(core, cx, cause, None);
        }
    };
    if let (Destination::Users(users), Direction::Inbound) = (&screened.to, core.direction) {
        core.record.user = users.join(",");
    }
    core.record.number = Some(screened.number.clone());
    core.record.from = Some(screened.from.clone());
    core.record.rule = Some(screened.rule.clone());
    core.longest = screened.longest;
    core.then = screened.then.take();
    let ring_for = screened.ring_for;
    match hunt_for(cx, core, screened).and_then(|hunt| ask(cx, core, hunt)) {
        Ok((a, b, hunt)) => {
            let until = cx.now.instant + cx.settings.lease_within;
            State::Routing(Routing { until, ring_for, hunt, a, b, ringback: core.waits() })
        }
        Err(cause) => State::Over.nobody_there(core, cx, cause),
    }
}

/// Asks for the media resources of both sides: RTP ports for each that is not a browser.
pub(super) fn ask(
    cx: &mut Context,
    core: &mut Core,
    hunt: Hunt,
) -> Result<(crate::sdp::RtpSlot, crate::sdp::RtpSlot, Hunt), Cause> {
    let none = || Cause::special(Origin::Gateway, Special::NoResources);
    let own = core.party(Side::A).and_then(Party::sip).map(TrunkLeg::peers).unwrap_or_default();
    let (theirs, browsers) = (hunt.peers(), hunt.has_browsers());
    if let Some(fetched) = core.fetched {
        let slot = core.slots.ask(cx, theirs, browsers).ok_or_else(none)?;
        return Ok((fetched.slot, slot, hunt));
    }
    if own.is_empty() {
        let slot = core.slots.ask(cx, theirs, true).ok_or_else(none)?;
        return Ok((slot, slot, hunt));
    }
    if theirs.is_empty() {
        let slot = core.slots.ask(cx, own, browsers).ok_or_else(none)?;
        return Ok((slot, slot, hunt));
    }
    let a = core.slots.ask(cx, own, false).ok_or_else(none)?;
    let b = core.slots.ask(cx, theirs, browsers).ok_or_else(none)?;
    Ok((a, b, hunt))
}

/// All who are to be called at once: of a number the trunks, one after the other, as one candidate; of users every phone
/// and every browser but those that are in the call already.
///
/// # Errors
/// The cause of a call that nobody can take.
pub(super) fn hunt_for(cx: &mut Context, core: &mut Core, screened: Screened) -> Result<Hunt, Cause> {
    let Screened { number, from, to, rights, failover, emergency, .. } = screened;
    let (id, forwards) = (core.id, core.forwards);
    let known_as = core.next_name();
    let users = match to {
        Destination::Trunks(trunks) => {
            let hops: Vec<Hop> = trunks.iter().flat_map(|trunk| Hop::of_trunk(cx, trunk)).collect();
            let params = core.record.params.clone();
            let route = Route { forwards, rights, failover, emergency, params, ..Route::new(hops, number, from) };
            return Ok(Hunt::new(vec![Party::Sip(Box::new(TrunkLeg::callee(id, route)))]));
        }
        Destination::Users(users) => users,
    };
    let announcement = Announcement {
        from: from.clone(),
        name: core.caller_name.clone(),
        to: number.clone(),
        params: core.record.params.clone(),
        verified: core.verified,
    };
    let mut browsers: Vec<_> = users
        .iter()
        .flat_map(|user| cx.directory.browsers(user).into_iter().map(move |socket| (socket, user)))
        .collect();
    browsers.sort_unstable();
    browsers.dedup_by_key(|(socket, _)| *socket);
    browsers.retain(|(socket, _)| !core.has_browser(*socket));
    let mut candidates: Vec<Party> = browsers
        .into_iter()
        .map(|(socket, user)| {
            Party::Browser(Box::new(BrowserLeg::callee(id, &known_as, socket, user, announcement.clone())))
        })
        .collect();
    for user in &users {
        for phone in cx.directory.phones(user) {
            let rights = cx.directory.phone_rights(user, phone.flow);
            let hop = Hop::of_phone(cx.settings.phones.clone(), phone);
            let route = Route { forwards, ..Route::new([hop], number.clone(), from.clone()) };
            candidates.push(Party::Sip(Box::new(TrunkLeg::phone(id, route, rights))));
        }
    }
    match candidates.is_empty() {
        true => Err(Cause::from_status(Origin::Gateway, 480)),
        false => Ok(Hunt::new(candidates)),
    }
}
