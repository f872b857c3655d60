//! Screening: what is checked of a call before anything is asked of anybody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;

use super::browser_leg::Announcement;
use super::trunk_leg::Route;
use super::{Cause, Context, Origin, SocketId, Special, Trunk};
use crate::dialplan::{Caller, Decision, TrunkChoice};
use crate::sdp::BrowserOffer;
use crate::signal::{valid_destination, valid_user};
use crate::sip::{Flow, Request, SessionId};

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
    /// Who calls, and what the token allows; `caller_id` is the token's.
    pub caller: Caller,
    /// Whether the caller id asked for is taken for his own (a gateway without tokens); else the plan must grant it.
    pub any_caller_id: bool,
    /// The token's limit.
    pub longest: Option<Duration>,
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
    /// Refused before the dial plan is asked, for this cause.
    pub refused: Option<Cause>,
}

/// An outbound call that may go on.
#[derive(Debug)]
pub(super) struct OutboundPlan {
    pub rule: String,
    pub route: Route,
    pub ring_for: Duration,
    pub longest: Duration,
}

/// An inbound call that may go on.
#[derive(Debug)]
pub(super) struct InboundPlan {
    pub rule: String,
    pub users: Vec<String>,
    pub ring_for: Duration,
    pub longest: Duration,
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

/// Screens and routes a browser's call. The rule's name comes with a refusal too.
pub(super) fn screen_outbound(
    cx: &mut Context,
    request: &OutboundRequest,
) -> Result<OutboundPlan, (Option<String>, Cause)> {
    let refuse = |special| Err((None, Cause::special(Origin::Gateway, special)));
    if let Some(cause) = &request.refused {
        return Err((None, cause.clone()));
    }
    if !valid_destination(&request.to) {
        return refuse(Special::InvalidNumber);
    }
    let mut caller = request.caller.clone();
    match &request.from {
        Some(from) if !valid_user(from) => return refuse(Special::CallerIdNotAllowed),
        Some(from) if request.any_caller_id => caller.caller_id = Some(from.clone()),
        from => caller.asked.clone_from(from),
    }
    let routed = cx.settings.plan.route_out(&caller, &request.to, unix_seconds(cx));
    match routed.decision {
        Decision::Dial { rule, to, from, tiers, ring_for, longest } => {
            let from = from.unwrap_or_else(|| caller.user.clone());
            if !valid_user(&to) || !valid_user(&from) {
                return Err((Some(rule), Cause::special(Origin::Gateway, Special::InvalidNumber)));
            }
            let trunks = in_order(cx, tiers);
            if trunks.is_empty() {
                return Err((Some(rule), Cause::special(Origin::Gateway, Special::TrunkUnreachable)));
            }
            let limits = [longest, request.longest, Some(cx.settings.longest_call)];
            Ok(OutboundPlan {
                rule,
                route: Route { trunks, number: to, from },
                ring_for: ring_for.unwrap_or(cx.settings.ring_for),
                longest: limits.into_iter().flatten().min().unwrap_or(cx.settings.longest_call),
            })
        }
        Decision::Refuse { rule, code, reason, caller_id } => {
            let cause = match caller_id {
                true => Cause::special(Origin::Gateway, Special::CallerIdNotAllowed),
                false => Cause::from_status(Origin::Gateway, code),
            };
            Err((rule, cause.in_words(&reason)))
        }
        // From browser to browser no bridge leads yet.
        Decision::Ring { rule, .. } => Err((Some(rule), Cause::from_status(Origin::Gateway, 501))),
    }
}

/// Who calls from a trunk and whom: the Request-URI's user part is the number called.
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
) -> Result<InboundPlan, (Option<String>, Cause)> {
    if let Some(cause) = &request.refused {
        return Err((None, cause.clone()));
    }
    if parties.dialled.is_empty() {
        return Err((None, Cause::from_status(Origin::Gateway, 404)));
    }
    let caller = &parties.announcement.from;
    let routed = cx.settings.plan.route_in(&request.trunk.name, &parties.number, caller, unix_seconds(cx));
    match routed.decision {
        Decision::Ring { rule, users, ring_for, longest } => {
            let most = cx.settings.longest_call;
            Ok(InboundPlan { rule, users, ring_for, longest: longest.map_or(most, |longest| longest.min(most)) })
        }
        Decision::Refuse { rule, code, reason, .. } => {
            Err((rule, Cause::from_status(Origin::Gateway, code).in_words(&reason)))
        }
        // From trunk to trunk no bridge leads yet.
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
