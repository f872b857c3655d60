//! A canary call: an operator tries a trunk. A phone of the gateway's own takes the caller's seat, and the number is called
//! by that trunk alone, as a call of nobody's: the limits of the trunk and of the gateway hold, those of users do not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::directory::Phone;
use super::fetch::{self, Then};
use super::hunt::Hunt;
use super::party::Party;
use super::route::{Hop, Route};
use super::screening::{self, Destination, Rights, Screened};
use super::state::State;
use super::trunk_leg::TrunkLeg;
use super::{CallId, Cause, Cdr, Context, Direction, Trunk};
use crate::dialplan::{Caller, Failover};

/// What stands in records in place of user and rule: no user can have this name.
pub const CANARY: &str = "(trunk test)";
/// No canary call is longer: one that was forgotten ends by itself.
const LONGEST: Duration = Duration::from_secs(120);
/// How long our own phone may take to answer.
const SEATED_WITHIN: Duration = Duration::from_secs(5);

/// The wish for a canary call.
#[derive(Debug)]
pub struct CanaryRequest {
    /// The trunk that is tried.
    pub trunk: Arc<Trunk>,
    /// What the operator wrote.
    pub dialled: String,
    /// The same, normalised: the dial plan has nothing against it.
    pub number: String,
    /// The caller's number as the far end is told it, or `anonymous`.
    pub from: String,
    /// Our own phone.
    pub phone: Phone,
    /// How long the far end may ring.
    pub ring_for: Duration,
    /// Refused before anybody is asked, for this cause.
    pub refused: Option<Cause>,
}

/// Begins it: our own phone takes its seat first.
pub(super) fn begin(cx: &mut Context, id: CallId, request: CanaryRequest) -> (Core, State) {
    let CanaryRequest { trunk, dialled, number, from, phone, ring_for, refused } = request;
    let mut record = Cdr::begin(id, Direction::Outbound, CANARY, &dialled, cx.now.unix_ms);
    record.rule = Some(CANARY.to_owned());
    record.number = Some(number.clone());
    tracing::info!(call = %id, trunk = trunk.name, to = %cx.settings.shown(&number), "an operator tests a trunk");
    let mut core = Core::unseated(cx, id, record);
    let screened = Screened {
        rule: CANARY.to_owned(),
        number,
        from,
        to: Destination::Trunks(VecDeque::from([trunk])),
        ring_for,
        longest: LONGEST,
        rights: None,
        failover: Failover::default(),
        emergency: false,
        then: None,
    };
    let within = match refused {
        Some(cause) => Err(cause),
        None => screening::within_limits(cx, screened).map_err(|(_, cause)| cause),
    };
    let state = match within {
        Ok(screened) => {
            let hunt = Hunt::new(vec![seat(id, phone)]);
            fetch::fetch(cx, &mut core, hunt, SEATED_WITHIN, Then::Go(screened))
        }
        Err(cause) => State::Over.release(&mut core, cx, cause, None),
    };
    (core, state)
}

/// Our own phone, spoken to as any trunk is of which nothing is known. It has the rights of one who may call nobody: what
/// the far end wants of it, such as a transfer, is refused.
fn seat(id: CallId, phone: Phone) -> Party {
    let hop = Hop::of_phone(Arc::new(Trunk::new(CANARY)), phone);
    let caller = Caller { user: CANARY.to_owned(), destinations: Some(Vec::new()), ..Caller::default() };
    let rights = Rights { caller, longest: Some(LONGEST), ..Rights::default() };
    let route = Route::new([hop], "canary".to_owned(), "anonymous".to_owned());
    Party::Sip(Box::new(TrunkLeg::phone(id, route, rights)))
}
