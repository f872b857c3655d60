//! Screening: what is checked of a call before anything is asked of anybody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;

use super::browser_leg::Announcement;
use super::identity::user_of;
use super::trunk_leg::Owner;
use super::{Cause, Context, Origin, SocketId, Special, Trunk};
use crate::dialplan::{Caller, Decision, TrunkChoice};
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
pub(super) struct Wish<'a> {
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

/// Screens and routes a call that a user of ours wants, be it of a browser, of a phone, or a transfer.
pub(super) fn screen_wish(cx: &mut Context, wish: &Wish<'_>) -> Result<Screened, Refused> {
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
    match routed.decision {
        Decision::Dial { rule, to, from, tiers, ring_for, longest } => {
            let from = from.unwrap_or(caller.user);
            if !valid_user(&to) || !valid_user(&from) {
                return Err((Some(rule), Cause::special(Origin::Gateway, Special::InvalidNumber)));
            }
            let trunks = in_order(cx, tiers);
            if trunks.is_empty() {
                return Err((Some(rule), Cause::special(Origin::Gateway, Special::TrunkUnreachable)));
            }
            let ring_for = ring_for.unwrap_or(cx.settings.ring_for);
            let longest = shortest(cx, [longest, wish.rights.longest]);
            let rights = Some(wish.rights.clone());
            Ok(Screened { rule, number: to, from, to: Destination::Trunks(trunks), ring_for, longest, rights })
        }
        Decision::Ring { rule, to, from, users, ring_for, longest } => {
            let longest = shortest(cx, [longest, wish.rights.longest]);
            let from = from.unwrap_or(caller.user);
            let rights = Some(wish.rights.clone());
            Ok(Screened { rule, number: to, from, to: Destination::Users(users), ring_for, longest, rights })
        }
        Decision::Refuse { rule, code, reason, caller_id } => {
            let cause = match caller_id {
                true => Cause::special(Origin::Gateway, Special::CallerIdNotAllowed),
                false => Cause::from_status(Origin::Gateway, code),
            };
            Err((rule, cause.in_words(&reason)))
        }
    }
}

fn shortest(cx: &Context, limits: [Option<Duration>; 2]) -> Duration {
    limits.into_iter().flatten().chain([cx.settings.longest_call]).min().unwrap_or(cx.settings.longest_call)
}

/// The number in an INVITE's Request-URI; empty where there is none that could be dialled.
pub(super) fn number_of(uri: &Uri) -> String {
    user_of(uri).filter(|user| valid_destination(user)).unwrap_or_default()
}

/// Who calls from a trunk and whom: the Request-URI's user part is the number called, From the caller.
pub(super) fn inbound_parties(request: &InboundRequest) -> InboundParties {
    let format = &request.trunk.number_format;
    let dialled = request.trunk.called(&request.request).filter(|user| valid_destination(user)).unwrap_or_default();
    let (number, name) = request.trunk.caller(&request.request.headers);
    let number_called = format.normalise(&dialled);
    InboundParties {
        announcement: Announcement {
            from: number.unwrap_or_else(|| "anonymous".to_owned()),
            name,
            to: number_called.clone(),
        },
        number: number_called,
        dialled,
    }
}

/// Routes a trunk's call to users.
pub(super) fn screen_inbound(
    cx: &mut Context,
    request: &InboundRequest,
    parties: &InboundParties,
) -> Result<Screened, Refused> {
    if let Some(cause) = &request.refused {
        return Err((None, cause.clone()));
    }
    if parties.dialled.is_empty() {
        return Err((None, Cause::from_status(Origin::Gateway, 404)));
    }
    let from = parties.announcement.from.clone();
    let routed = cx.settings.plan.route_in(&request.trunk.name, &parties.number, &from, unix_seconds(cx));
    match routed.decision {
        Decision::Ring { rule, users, ring_for, longest, .. } => {
            let longest = shortest(cx, [longest, None]);
            Ok(Screened {
                rule,
                number: parties.number.clone(),
                from,
                to: Destination::Users(users),
                ring_for,
                longest,
                rights: None,
            })
        }
        Decision::Refuse { rule, code, reason, .. } => {
            Err((rule, Cause::from_status(Origin::Gateway, code).in_words(&reason)))
        }
        // No rule of `[[in]]` calls a trunk.
        Decision::Dial { rule, .. } => Err((Some(rule), Cause::from_status(Origin::Gateway, 501))),
    }
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
