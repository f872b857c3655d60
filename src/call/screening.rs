//! Screening: what is checked of a call before anything is asked of anybody.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;

use super::browser_leg::Announcement;
use super::canary::CanaryRequest;
use super::identity::user_of;
use super::limits::{Payer, TokenId};
use super::params;
use super::trunk_leg::Owner;
use super::{Cause, Context, FetchRequest, Origin, Params, SocketId, Special, Trunk};
use crate::dialplan::{Caller, Decision, Failover, TrunkChoice, Turn};
use crate::sdp::BrowserOffer;
use crate::signal::{valid_destination, valid_user};
use crate::sip::{Flow, Request, SessionId, Uri};

/// Who a user is to the dial plan, and what he may: from his token or his registration.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    /// The user; `caller_id` is his own.
    pub caller: Caller,
    /// Whether a caller id asked for is taken for his own (a gateway without tokens); else the plan must grant it.
    pub any_caller_id: bool,
    /// The longest call that he may have.
    pub longest: Option<Duration>,
    /// The token that says so, where he brought one.
    pub token: Option<TokenId>,
    /// Where he calls from, as far as it is known.
    pub address: Option<IpAddr>,
}

/// A browser's wish to call.
#[derive(Debug)]
pub struct OutboundRequest {
    /// The browser.
    pub socket: SocketId,
    /// Its name for the call.
    pub name: String,
    /// What was dialled.
    pub to: String,
    /// Its offer, read.
    pub offer: BrowserOffer,
    /// The caller id asked for.
    pub from: Option<String>,
    /// What its page says of the call.
    pub params: Params,
    /// Who calls, and what he may.
    pub rights: Rights,
    /// Refused before the dial plan is asked, for this cause.
    pub refused: Option<Cause>,
}

/// A trunk's INVITE.
#[derive(Debug)]
pub struct InboundRequest {
    /// The trunk.
    pub trunk: Arc<Trunk>,
    /// Its session.
    pub session: SessionId,
    /// Its INVITE.
    pub request: Request,
    /// The way it came.
    pub flow: Flow,
    /// Whose phone it is, of a phone's INVITE with Replaces; a trunk's call has no user.
    pub rights: Option<Rights>,
    /// Refused before the dial plan is asked, for this cause.
    pub refused: Option<Cause>,
}

impl InboundRequest {
    /// Whose it is.
    pub(super) fn owner(&self) -> Owner {
        let user = self.rights.as_ref().map(|rights| rights.caller.user.clone());
        Owner { trunk: self.trunk.name.clone(), user }
    }
}

/// A call of a phone of ours, registered here as a user's.
#[derive(Debug)]
pub struct PhoneRequest {
    /// How phones want to be spoken to.
    pub trunk: Arc<Trunk>,
    /// Its session.
    pub session: SessionId,
    /// Its INVITE.
    pub request: Request,
    /// The way it came.
    pub flow: Flow,
    /// Whose phone it is.
    pub rights: Rights,
    /// Refused before the dial plan is asked, for this cause.
    pub refused: Option<Cause>,
}

/// Where a call comes from.
#[derive(Debug)]
pub enum Origination {
    /// A browser.
    Browser(OutboundRequest),
    /// A phone that is registered here.
    Phone(PhoneRequest),
    /// A trunk.
    Trunk(InboundRequest),
    /// Somebody who may ask for a user's calls.
    Fetch(FetchRequest),
    /// An operator who tests a trunk.
    Canary(CanaryRequest),
}

/// A call that may go on: by which rule, to whom, for how long.
#[derive(Debug)]
pub(super) struct Screened {
    pub rule: String,
    /// The number called, normalised.
    pub number: String,
    /// The caller as the called side sees him.
    pub from: String,
    pub to: Destination,
    pub ring_for: Duration,
    pub longest: Duration,
    /// On whose behalf; `None`: a trunk's call.
    pub rights: Option<Rights>,
    pub failover: Failover,
    /// No limit holds for it.
    pub emergency: bool,
    /// Who is called when nobody takes the call.
    pub then: Option<Box<Next>>,
}

/// What comes when nobody has taken a call.
#[derive(Debug)]
pub(super) enum Next {
    /// Somebody else is called.
    Call(Screened),
    /// It ends.
    Refuse(Cause),
}

/// On whose behalf a decision is carried out.
#[derive(Clone, Debug)]
pub(super) struct Behalf {
    /// What is shown of the caller where the plan does not say.
    pub caller: String,
    /// The number that users are told, where it is not that of the plan.
    pub number: Option<String>,
    /// What he may; `None`: a trunk's call.
    pub rights: Option<Rights>,
}

/// Whom a call is for.
#[derive(Debug)]
pub(super) enum Destination {
    /// A number behind trunks, in the order in which they are tried.
    Trunks(VecDeque<Arc<Trunk>>),
    /// Users: all their browsers and phones at once.
    Users(Vec<String>),
}

/// A refusal: the rule that said so, if one did, and the cause.
pub(super) type Refused = (Option<String>, Cause);

/// What a user wants to call.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Who wants it.
    pub rights: &'a Rights,
    /// What was dialled.
    pub to: &'a str,
    /// The caller id asked for.
    pub from: Option<&'a str>,
}

/// Who calls from a trunk, and whom.
#[derive(Debug)]
pub(super) struct InboundParties {
    /// The number called, normalised.
    pub number: String,
    /// As the trunk wrote it.
    pub dialled: String,
    pub announcement: Announcement,
}

/// What the plan decides of a call that a user of ours wants, and on whose behalf it is.
pub(super) fn decide_wish(cx: &Context, wish: &Wish<'_>) -> Result<(Decision, Behalf), Refused> {
    let refuse = |special| Err((None, Cause::special(Origin::Gateway, special)));
    if !valid_destination(wish.to) {
        return refuse(Special::InvalidNumber);
    }
    let mut caller = wish.rights.caller.clone();
    match wish.from {
        Some(from) if !valid_user(from) => return refuse(Special::CallerIdNotAllowed),
        Some(from) if wish.rights.any_caller_id => caller.caller_id = Some(from.to_owned()),
        from => caller.asked = from.map(str::to_owned),
    }
    let routed = cx.settings.plan.route_out(&caller, wish.to, unix_seconds(cx));
    let token = wish.rights.token.as_ref().filter(|token| token.once && cx.ledger.is_used(&token.id));
    if token.is_some() && !matches!(routed.decision, Decision::Dial { emergency: true, .. }) {
        return Err((routed.decision.rule().map(str::to_owned), Cause::special(Origin::Gateway, Special::TokenUsed)));
    }
    Ok((routed.decision, Behalf { caller: caller.user, number: None, rights: Some(wish.rights.clone()) }))
}

/// Screens and routes a transfer or a redirection, which happens at once: users that the plan rings in turn ring together,
/// nobody else is called when they do not answer, and a number about which a web hook would have to be asked is not called.
pub(super) fn screen_wish(cx: &mut Context, wish: &Wish<'_>) -> Result<Screened, Refused> {
    let (mut decision, behalf) = decide_wish(cx, wish)?;
    if let Decision::Ring { turns, then, .. } = &mut decision {
        let ring_for = turns.iter().map(|turn| turn.ring_for).max().unwrap_or(cx.settings.ring_for);
        let users = std::mem::take(turns).into_iter().flat_map(|turn| turn.users).collect();
        *turns = vec![Turn { users, ring_for }];
        *then = None;
    }
    screened(cx, decision, &behalf)
}

/// Whether a call may be begun as far as the limits against fraud go: asked before anything is done for it, and again when
/// it goes out by a trunk. It is refused here first because a browser can still be told so in place of an answer.
pub(super) fn within_limits(cx: &mut Context, screened: Screened) -> Result<Screened, Refused> {
    if screened.emergency || matches!(screened.to, Destination::Users(_)) {
        return Ok(screened);
    }
    let payer = Payer::of(&cx.settings.plan, screened.rights.as_ref());
    match cx.ledger.check(cx.now, &payer, &screened.number) {
        Ok(()) => Ok(screened),
        Err(tripped) => Err((Some(screened.rule), tripped.cause(cx.now))),
    }
}

/// A call that is begun now: it is within the limits, and uses a token that is good for one call. What the call itself leads
/// to, such as a redirection, needs none.
pub(super) fn admitted(cx: &mut Context, screened: Screened) -> Result<Screened, Refused> {
    let mut screened = within_limits(cx, screened)?;
    let token = screened.rights.as_mut().and_then(|rights| rights.token.as_mut());
    let Some(token) = token.filter(|token| token.once && !screened.emergency) else { return Ok(screened) };
    token.once = false;
    match cx.ledger.use_up(cx.now, &token.id, token.expires) {
        true => Ok(screened),
        false => Err((Some(screened.rule), Cause::special(Origin::Gateway, Special::TokenUsed))),
    }
}

/// What would become of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// The number that it means, normalised; `None`: none.
    pub number: Option<String>,
    /// `emergency`, `number` (by a trunk) or `users` (who ring here).
    pub kind: Option<&'static str>,
    /// Why it would not be called.
    pub refusal: Option<Cause>,
    /// In words, for a person.
    pub text: String,
}

/// What would become of a call that a user of ours makes, as far as the plan says now: a web hook is not asked, and taken to
/// let the call go on.
pub(crate) fn foresee(cx: &mut Context, wish: &Wish<'_>) -> Foreseen {
    let read = cx.settings.plan.number_of(&wish.rights.caller, wish.to);
    let decided = decide_wish(cx, wish).and_then(|(decision, behalf)| match decision {
        Decision::Ask { plain, .. } => screened(cx, *plain, &behalf),
        decision => screened(cx, decision, &behalf),
    });
    let decided = decided.and_then(|screened| within_limits(cx, screened));
    cx.ledger.hush(); // nobody calls yet
    let number = read.as_ref().map(|(number, _)| number.clone());
    match decided {
        Ok(screened) => {
            let kind = match screened.to {
                _ if screened.emergency => "emergency",
                Destination::Trunks(_) => "number",
                Destination::Users(_) => "users",
            };
            let text = match read {
                Some((number, taken_for)) => format!("{number}: {taken_for}"),
                None => screened.number.clone(),
            };
            Foreseen { number: Some(screened.number), kind: Some(kind), refusal: None, text }
        }
        Err((_, cause)) => Foreseen { number, kind: None, text: cause.reason.clone(), refusal: Some(cause) },
    }
}

/// What a decision means for a call.
pub(super) fn screened(cx: &mut Context, decision: Decision, behalf: &Behalf) -> Result<Screened, Refused> {
    let most = behalf.rights.as_ref().and_then(|rights| rights.longest);
    match decision {
        Decision::Dial { rule, to, from, tiers, ring_for, longest, failover, emergency } => {
            let from = from.unwrap_or_else(|| behalf.caller.clone());
            if !valid_user(&to) || !valid_user(&from) {
                return Err((Some(rule), Cause::special(Origin::Gateway, Special::InvalidNumber)));
            }
            let trunks = in_order(cx, tiers);
            if trunks.is_empty() {
                return Err((Some(rule), Cause::special(Origin::Gateway, Special::TrunkUnreachable)));
            }
            let ring_for = ring_for.unwrap_or(cx.settings.ring_for);
            let paid = cx.ledger.longest(&Payer::of(&cx.settings.plan, behalf.rights.as_ref()));
            let longest = if emergency { Duration::MAX } else { shortest(cx, [longest, most, paid]) };
            let to_trunks = Destination::Trunks(trunks);
            let rights = behalf.rights.clone();
            let (number, then) = (to, None);
            Ok(Screened { rule, number, from, to: to_trunks, ring_for, longest, rights, failover, emergency, then })
        }
        Decision::Ring { rule, to, from, turns, longest, then } => {
            let longest = shortest(cx, [longest, most, None]);
            let number = behalf.number.clone().unwrap_or(to);
            let from = from.unwrap_or_else(|| behalf.caller.clone());
            let mut next = then.map(|then| {
                Box::new(match screened(cx, *then, behalf) {
                    Ok(screened) => Next::Call(screened),
                    Err((_, cause)) => Next::Refuse(cause),
                })
            });
            let mut turns = turns.into_iter().rev();
            let turn = |Turn { users, ring_for }, then| Screened {
                rule: rule.clone(),
                number: number.clone(),
                from: from.clone(),
                to: Destination::Users(users),
                ring_for,
                longest,
                rights: behalf.rights.clone(),
                failover: Failover::default(),
                emergency: false,
                then,
            };
            let Some(last) = turns.next() else {
                return Err((Some(rule), Cause::from_status(Origin::Gateway, 480)));
            };
            let mut first = turn(last, next.take());
            for earlier in turns {
                first = turn(earlier, Some(Box::new(Next::Call(first))));
            }
            Ok(first)
        }
        Decision::Refuse { rule, code, reason, caller_id } => {
            let cause = match caller_id {
                true => Cause::special(Origin::Gateway, Special::CallerIdNotAllowed),
                false => Cause::from_status(Origin::Gateway, code),
            };
            Err((rule, cause.in_words(&reason)))
        }
        Decision::Ask { rule, .. } => {
            let cause = Cause::from_status(Origin::Gateway, 403);
            Err((Some(rule), cause.in_words("A call to this number has to be asked for, which a transfer cannot")))
        }
    }
}

fn shortest(cx: &Context, limits: [Option<Duration>; 3]) -> Duration {
    limits.into_iter().flatten().chain([cx.settings.longest_call]).min().unwrap_or(cx.settings.longest_call)
}

/// The number in an INVITE's Request-URI; empty where there is none that could be dialled.
pub(crate) fn number_of(uri: &Uri) -> String {
    user_of(uri).filter(|user| valid_destination(user)).unwrap_or_default()
}

/// Who calls from a trunk and whom: the Request-URI's user part is the number called, From the caller.
pub(super) fn inbound_parties(request: &InboundRequest) -> InboundParties {
    let format = &request.trunk.number_format;
    let dialled = request.trunk.called(&request.request).filter(|user| valid_destination(user)).unwrap_or_default();
    let headers = &request.request.headers;
    let (number, name) = request.trunk.caller(headers);
    let verified = request.trunk.verified(headers).filter(|_| number.is_some());
    let params = if request.trunk.params { params::of_headers(headers) } else { Params::new() };
    let number_called = format.normalise(&dialled);
    InboundParties {
        announcement: Announcement {
            from: number.unwrap_or_else(|| "anonymous".to_owned()),
            name,
            to: number_called.clone(),
            params,
            verified,
        },
        number: number_called,
        dialled,
    }
}

/// What the plan decides of a trunk's call.
pub(super) fn decide_inbound(
    cx: &Context,
    request: &InboundRequest,
    parties: &InboundParties,
) -> Result<(Decision, Behalf), Refused> {
    if let Some(cause) = &request.refused {
        return Err((None, cause.clone()));
    }
    if parties.dialled.is_empty() {
        return Err((None, Cause::from_status(Origin::Gateway, 404)));
    }
    let from = parties.announcement.from.clone();
    let routed = cx.settings.plan.route_in(&request.trunk.name, &parties.number, &from, unix_seconds(cx));
    Ok((routed.decision, Behalf { caller: from, number: Some(parties.number.clone()), rights: None }))
}

fn unix_seconds(cx: &Context) -> i64 {
    i64::try_from(cx.now.unix_ms / 1000).unwrap_or(i64::MAX)
}

/// The trunks of all tiers, one after the other; within a tier drawn by weight, without repetition.
fn in_order(cx: &mut Context, tiers: Vec<Vec<TrunkChoice>>) -> VecDeque<Arc<Trunk>> {
    let mut ordered = VecDeque::new();
    for mut tier in tiers {
        while !tier.is_empty() {
            let total: u64 = tier.iter().map(|choice| u64::from(choice.weight.max(1))).sum();
            let mut drawn = cx.rng.random_range(0..total.max(1));
            let at = tier.iter().position(|choice| {
                let weight = u64::from(choice.weight.max(1));
                let hit = drawn < weight;
                drawn = drawn.saturating_sub(weight);
                hit
            });
            let choice = tier.remove(at.unwrap_or(0));
            ordered.extend(cx.trunks.get(&choice.trunk).cloned());
        }
    }
    ordered
}
