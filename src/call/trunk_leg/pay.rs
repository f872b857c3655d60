//! What a call by a trunk is held to: the trunk's own room and health, and the limits against fraud. An emergency call is
//! held to neither, as far as anything can be done.

use std::time::Duration;

use super::TrunkLeg;
use crate::call::limits::Payer;
use crate::call::route::Hop;
use crate::call::{Cause, Context, Refused};
use crate::sip::SessionId;

/// Whose limit against fraud leaves no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// That of the user, his token or class, or of the gateway.
    Payer,
    /// The trunk's.
    Trunk,
}

impl TrunkLeg {
    /// Whether an emergency number is called.
    pub(in crate::call) fn is_emergency(&self) -> bool {
        self.route.as_ref().is_some_and(|route| route.emergency)
    }

    /// Whether a hop is a further target of the trunk that was called last.
    fn is_again(&self, hop: &Hop) -> bool {
        self.target.is_some() && self.trunk.as_ref().is_some_and(|trunk| trunk.name == hop.trunk.name)
    }

    /// Whether the trunk of a hop may be called: asked once for all of its targets.
    pub(super) fn admit(&mut self, cx: &mut Context, hop: &Hop) -> Result<(), Refused> {
        if self.is_again(hop) || hop.uri.is_some() {
            return Ok(());
        }
        let (emergency, last) = self.route.as_ref().map_or((false, false), |route| {
            (route.emergency, route.hops.iter().all(|next| next.trunk.name == hop.trunk.name))
        });
        match cx.trunks.admit(cx.now.instant, &hop.trunk.name) {
            Err(Refused::TooManyCalls | Refused::TooManyPerSecond) if emergency => Ok(()),
            // Better a trunk that may be down than nobody.
            Err(Refused::Down | Refused::Unregistered) if emergency && last => Ok(()),
            admitted => admitted,
        }
    }

    /// Whether the limits against fraud hold: not for a phone of ours, and not for a call to an emergency number.
    fn is_paid(&self) -> bool {
        self.rights.is_none() && self.route.is_some() && !self.is_emergency()
    }

    /// Counts the call on its account, once, and on that of the trunk by which it goes now.
    ///
    /// # Errors
    /// Whose limit leaves no room: past a trunk's the next one may be tried.
    pub(super) fn pay(&mut self, cx: &mut Context, hop: &Hop) -> Result<(), (Whose, Cause)> {
        if !self.is_paid() {
            return Ok(());
        }
        let again = self.is_again(hop);
        let Some(route) = self.route.as_mut() else { return Ok(()) };
        let number = hop.number.as_ref().unwrap_or(&route.number);
        let counted = std::mem::replace(&mut route.counted, true);
        if !counted || hop.number.is_some() {
            let payer = Payer::of(&cx.settings.plan, route.rights.as_ref());
            let taken = cx.ledger.take(cx.now, &payer, number, counted);
            taken.map_err(|tripped| (Whose::Payer, tripped.cause(cx.now)))?;
        }
        if again && hop.number.is_none() {
            return Ok(());
        }
        let taken = cx.ledger.take_trunk(cx.now, &hop.trunk.name, number, again);
        taken.map_err(|tripped| (Whose::Trunk, tripped.cause(cx.now)))
    }

    /// The session goes out: its time counts on the accounts that have paid.
    pub(super) fn runs_up(&self, cx: &mut Context, session: SessionId, trunk: &str) {
        if let Some(route) = self.route.as_ref().filter(|_| self.is_paid()) {
            cx.ledger.began(session, &Payer::of(&cx.settings.plan, route.rights.as_ref()), trunk);
        }
    }

    /// The longest call by this hop, where that is less than the call's own.
    pub(super) fn longest_by(&self, cx: &Context, hop: &Hop) -> Option<Duration> {
        let trunks = cx.ledger.longest_by(&hop.trunk.name).filter(|_| self.is_paid());
        [hop.longest, trunks].into_iter().flatten().min()
    }

    /// The further targets of a trunk that takes no call are not tried.
    pub(super) fn skip(&mut self, trunk: &str) {
        let Some(route) = &mut self.route else { return };
        while route.hops.front().is_some_and(|hop| hop.trunk.name == trunk) {
            route.hops.pop_front();
        }
    }
}
