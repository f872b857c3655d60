//! A call as its browser finds it when it is back.

use super::browser_leg::BrowserLeg;
use super::core::Core;
use super::established::Established;
use super::hunt::Hunt;
use super::party::Party;
use super::state::{Call, Early, Inviting, Routing, State};
use super::{Now, SocketId};
use crate::sdp::Side;
use crate::signal::{CallState, Course, PresentCall};

impl Call {
    /// The call as the browser of this session is to know it; `None` where it knows nothing of it yet.
    pub fn present(&self, socket: SocketId, now: Now) -> Option<PresentCall> {
        let is_its = |leg: &&BrowserLeg| leg.socket() == socket;
        for side in Side::BOTH {
            if let Some(leg) = self.core.party(side).and_then(Party::browser).filter(is_its) {
                let state = match leg.told() {
                    _ if self.is_established() => CallState::Answered,
                    // One who was rung first has answered, and waits for the other side.
                    _ if side == Side::A && self.core.fetched.is_some() => CallState::Answered,
                    told if told.early_media => CallState::Early,
                    told if told.ringing => CallState::Ringing,
                    _ => CallState::Calling,
                };
                return Some(self.core.present(leg, side, state, now));
            }
        }
        let leg = self.state.hunts().find_map(|hunt| hunt.browsers().find(is_its)).filter(|leg| leg.rings())?;
        Some(self.core.present(leg, Side::B, CallState::Incoming, now))
    }
}

impl State {
    /// Those who are called, first or by a transfer.
    fn hunts(&self) -> impl Iterator<Item = &Hunt> {
        let hunt = match self {
            State::Routing(Routing { hunt, .. })
            | State::Inviting(Inviting { hunt, .. })
            | State::Early(Early { hunt, .. }) => Some(hunt),
            State::Fetching(fetching) => Some(&fetching.hunt),
            State::Established(Established { transfer: Some(transfer), .. }) => transfer.hunt(),
            _ => None,
        };
        hunt.into_iter()
    }
}

impl Core {
    fn present(&self, leg: &BrowserLeg, side: Side, state: CallState, now: Now) -> PresentCall {
        let dialled = self.record.number.as_ref().unwrap_or(&self.record.dialled);
        let remote = leg.remote().map_or(dialled, |remote| &remote.who);
        let incoming = state == CallState::Incoming;
        let since = self.record.answer.filter(|_| !incoming).unwrap_or(self.record.start);
        PresentCall {
            call: leg.name().to_owned(),
            id: self.id.to_string(),
            direction: if leg.was_called() { Course::In } else { Course::Out },
            remote: remote.clone(),
            name: leg.remote().and_then(|remote| remote.name.clone()),
            state,
            held_by_us: !incoming && self.holds(side),
            held_by_them: !incoming && self.holds(side.other()),
            since_ms: now.unix_ms.saturating_sub(since),
        }
    }
}
