//! A call that was asked for: the user's own browsers and phones ring first, and when one of them has answered, the number
//! is called as if he had dialled it there, with the rights of the session or phone that answered.

use std::time::{Duration, Instant};

use super::begin::{decided_on, go_on, hunt_for};
use super::core::{Core, Fetched};
use super::hunt::{Hunt, Hunted};
use super::party::Party;
use super::screening::{self, Destination, Rights, Screened, Wish};
use super::state::State;
use super::trunk_leg::TrunkLeg;
use super::{CallId, Cause, Cdr, Context, Direction, Origin, Special};
use crate::dialplan::{Decision, Failover};
use crate::sdp::{Band, RtpSlot, Side};
use crate::signal::valid_user;

/// The rule that stands in records while the number's own is not known.
const RULE: &str = "(asked for)";

/// The wish for a call on a user's behalf.
#[derive(Debug)]
pub struct FetchRequest {
    /// What the user may, as far as it is known before a device of his has answered.
    pub rights: Rights,
    /// What is to be dialled.
    pub to: String,
    /// The caller id asked for.
    pub from: Option<String>,
    /// What the user's devices show beside the number.
    pub name: Option<String>,
    /// How long they ring.
    pub ring_for: Option<Duration>,
    /// Refused before the dial plan is asked, for this cause.
    pub refused: Option<Cause>,
}

/// The user's own devices ring.
#[derive(Debug)]
pub(super) struct Fetching {
    pub until: Instant,
    pub hunt: Hunt,
    ring_for: Duration,
    slot: RtpSlot,
    then: Then,
}

/// What is called once somebody is there.
#[derive(Debug)]
pub(super) enum Then {
    /// This, as he would have dialled it.
    Dial { to: String, from: Option<String> },
    /// This, which is decided already.
    Go(Screened),
}

/// Begins it. What the plan refuses is refused before anybody is rung.
pub(super) fn begin(cx: &mut Context, id: CallId, request: FetchRequest) -> (Core, State) {
    let FetchRequest { rights, to, from, name, ring_for, refused } = request;
    let user = rights.caller.user.clone();
    let record = Cdr::begin(id, Direction::Outbound, &user, &to, cx.now.unix_ms);
    tracing::info!(call = %id, user = %cx.settings.shown(&user), to = %cx.settings.shown(&to), "a call is asked for");
    let mut core = Core::unseated(cx, id, record);
    core.caller_name = name;
    core.rights = Some(rights.clone());
    let decided = match refused {
        Some(cause) => Err((None, cause)),
        None => screening::decide_wish(cx, &Wish { rights: &rights, to: &to, from: from.as_deref() }),
    };
    let decided = decided.and_then(|(decision, behalf)| match decision {
        Decision::Refuse { .. } | Decision::Dial { .. } => {
            let screened = screening::screened(cx, decision, &behalf)?;
            screening::within_limits(cx, screened).map(|screened| screened.number)
        }
        Decision::Ring { to, .. } => Ok(to),
        Decision::Ask { .. } => Ok(to.clone()),
    });
    let state = match decided {
        Ok(number) => ring(cx, &mut core, &user, &number, ring_for, Then::Dial { to, from }),
        Err((rule, cause)) => {
            core.record.rule = rule;
            State::Over.release(&mut core, cx, cause, None)
        }
    };
    (core, state)
}

/// Rings the user's devices: each is shown the number that will be called.
fn ring(cx: &mut Context, core: &mut Core, user: &str, number: &str, ring_for: Option<Duration>, then: Then) -> State {
    let shown = if valid_user(number) { number } else { "anonymous" };
    let ring_for = ring_for.unwrap_or(cx.settings.ring_for);
    let own = Screened {
        rule: RULE.to_owned(),
        number: user.to_owned(),
        from: shown.to_owned(),
        to: Destination::Users(vec![user.to_owned()]),
        ring_for,
        longest: cx.settings.longest_call,
        rights: None,
        failover: Failover::default(),
        emergency: false,
        then: None,
    };
    match hunt_for(cx, core, own) {
        Ok(hunt) => fetch(cx, core, hunt, ring_for, then),
        Err(cause) => State::Over.release(core, cx, cause, None),
    }
}

/// Rings those who are to take the caller's seat: their media resources first.
pub(super) fn fetch(cx: &mut Context, core: &mut Core, hunt: Hunt, ring_for: Duration, then: Then) -> State {
    match core.slots.ask(cx, hunt.peers(), hunt.has_browsers()) {
        Some(slot) => {
            let until = cx.now.instant + cx.settings.lease_within;
            State::Fetching(Box::new(Fetching { until, hunt, ring_for, slot, then }))
        }
        None => State::Over.release(core, cx, Cause::special(Origin::Gateway, Special::NoResources), None),
    }
}

impl Fetching {
    /// The media resources are here: the devices ring. What they can send is not limited by a number not called yet.
    pub(super) fn leased(mut self: Box<Self>, core: &mut Core, cx: &mut Context) -> State {
        let Some(loan) = core.slots.loan(self.slot).cloned() else { return State::Fetching(self) };
        self.until = cx.now.instant + self.ring_for;
        match self.hunt.offer(cx, &loan, Band::Full) {
            Ok(_) => State::Fetching(self),
            Err(cause) => State::Fetching(self).release(core, cx, cause, Some(Side::A)),
        }
    }

    /// What came of the devices.
    pub(super) fn hunted(self: Box<Self>, core: &mut Core, cx: &mut Context, hunted: Hunted) -> State {
        match hunted {
            Hunted::Answered(party) => self.fetched(core, cx, *party),
            Hunted::Over(cause) => State::Fetching(self).release(core, cx, cause, Some(Side::A)),
            Hunted::Nothing | Hunted::Progress(_) => State::Fetching(self),
        }
    }

    /// The user is there: he calls.
    fn fetched(self: Box<Self>, core: &mut Core, cx: &mut Context, mut party: Party) -> State {
        let Fetching { mut hunt, slot, then, .. } = *self;
        match &then {
            Then::Dial { .. } => core.remember_tried(hunt.take_tried(), None),
            // Our own phone is no trunk that was tried.
            Then::Go(_) => drop(party.sip_mut().map(TrunkLeg::take_tried)),
        }
        if let Some(rights) = party.rights() {
            core.rights = Some(rights.clone());
        }
        core.seat(Side::A, party);
        core.fetched = Some(Fetched { slot });
        core.prepared = true;
        let connected = core.party_mut(Side::A).map_or(Ok(()), |party| party.leg_mut().connect(cx));
        if let Err(cause) = connected {
            return State::Over.release(core, cx, cause, None);
        }
        tracing::info!(call = %core.id, "the user has answered: the number is called");
        let (to, from) = match then {
            Then::Dial { to, from } => (to, from),
            Then::Go(screened) => return go_on(cx, core, Ok(screened)),
        };
        let rights = core.rights.clone().unwrap_or_default();
        let decided = screening::decide_wish(cx, &Wish { rights: &rights, to: &to, from: from.as_deref() });
        decided_on(cx, core, decided)
    }
}
