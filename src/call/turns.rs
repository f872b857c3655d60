//! Who is called after those who have not taken a call: rings in turn, overflow, and what a web hook says.

use std::time::Duration;

use super::begin::{go_on, hunt_for};
use super::core::Core;
use super::hunt::Hunt;
use super::screening::{self, Next};
use super::state::{Asking, Early, Inviting, Routing, State};
use super::{Cause, Context, Origin, Special};
use crate::sdp::Side;

impl State {
    /// Those who were called have not taken the call, for `cause`: the next ones are called. When there is nobody else the
    /// call ends; `by`: whose doing that is, of the parties.
    pub(super) fn nobody_took(mut self, core: &mut Core, cx: &mut Context, cause: Cause, by: Option<Side>) -> State {
        let (slots, ringback) = match &self {
            State::Inviting(Inviting { slots, .. }) => (*slots, false),
            State::Early(Early { slots, ringback, .. }) => (*slots, *ringback),
            _ => return self.release(core, cx, cause, by),
        };
        if core.then.is_none() {
            return self.release(core, cx, cause, by);
        }
        if let Some(hunt) = self.hunt_mut() {
            hunt.end(cx, &cause);
            core.remember_tried(hunt.take_tried(), hunt.sent());
        }
        match next_hunt(core, cx, cause) {
            Err(cause) => self.release(core, cx, cause, None),
            Ok((hunt, ring_for)) => {
                let (a, before) = slots;
                let Some(b) = core.slots.ask(cx, hunt.peers(), hunt.has_browsers()) else {
                    let none = Cause::special(Origin::Gateway, Special::NoResources);
                    return State::Over.release(core, cx, none, None);
                };
                // The old ports go back once the media path knows.
                core.done_with(Some(before).filter(|before| *before != a));
                let until = cx.now.instant + cx.settings.lease_within;
                State::Routing(Routing { until, ring_for, hunt, a, b, ringback: Some(ringback) })
            }
        }
    }

    /// Nobody is there who could be asked, and nothing has been lent yet.
    pub(super) fn nobody_there(self, core: &mut Core, cx: &mut Context, cause: Cause) -> State {
        match next_hunt(core, cx, cause) {
            Err(cause) => self.release(core, cx, cause, None),
            Ok((hunt, ring_for)) => {
                let until = cx.now.instant + cx.settings.lease_within;
                match super::begin::ask(cx, core, hunt) {
                    Ok((a, b, hunt)) => State::Routing(Routing { until, ring_for, hunt, a, b, ringback: core.waits() }),
                    Err(cause) => State::Over.release(core, cx, cause, None),
                }
            }
        }
    }

    /// What a web hook says, or that it says nothing in time.
    pub(super) fn hook_answered(self, core: &mut Core, cx: &mut Context, answer: Option<&str>) -> State {
        let State::Asking(asking) = self else { return self };
        let Asking { decision, behalf, .. } = *asking;
        let (decision, wrong) = cx.settings.plan.answered(decision, answer);
        match (answer, wrong) {
            (None, _) => {
                tracing::warn!(call = %core.id, rule = core.record.rule, "the web hook does not answer in time")
            }
            (_, Some(why)) => {
                tracing::warn!(call = %core.id, rule = core.record.rule, why, "the web hook's answer is none")
            }
            (Some(_), None) => {}
        }
        let screened = screening::screened(cx, decision, &behalf);
        go_on(cx, core, screened)
    }
}

/// The next of those who are to be called and are there.
///
/// # Errors
/// The cause of a call that nobody is left for.
fn next_hunt(core: &mut Core, cx: &mut Context, mut cause: Cause) -> Result<(Hunt, Duration), Cause> {
    while let Some(next) = core.then.take() {
        match *next {
            Next::Refuse(refusal) => return Err(refusal),
            Next::Call(mut screened) => {
                tracing::info!(call = %core.id, rule = screened.rule, "nobody has taken the call: the next are called");
                core.then = screened.then.take();
                core.longest = screened.longest;
                let ring_for = screened.ring_for;
                match hunt_for(cx, core, screened) {
                    Ok(hunt) => return Ok((hunt, ring_for)),
                    Err(nobody) => cause = nobody,
                }
            }
        }
    }
    Err(cause)
}
