//! What an operator does to a call that stands: the same as a party of it does, through the same procedures.

use super::core::Core;
use super::established::{Established, Next};
use super::leg::Way;
use super::notice::End;
use super::state::{Call, Event, State};
use super::transfer::{TransferTo, TransferWish, judge};
use super::{CallId, Cause, Context, Direction};
use crate::sdp::Side;

/// What is to be done. Where no side is named it is the user's: he holds and transfers, and his digits go to the other one.
#[derive(Clone, Debug)]
pub enum Act {
    /// Play digits to a side.
    Digits {
        /// `0-9 * # A-D`.
        digits: String,
        /// How long each lasts.
        ms: u16,
        /// To whom.
        to: Option<End>,
    },
    /// A side puts the other on hold, or takes it back.
    Hold {
        /// Which.
        on: bool,
        /// Who does it.
        by: Option<End>,
    },
    /// A side connects the other with a number, by the dial plan and the rights of the user whose call it is.
    Transfer {
        /// The number.
        to: String,
        /// Who transfers.
        by: Option<End>,
    },
    /// A side connects the other with the other side of another call.
    Join {
        /// Which.
        with: CallId,
        /// Who transfers, in this call.
        by: Option<End>,
    },
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The call is in no state for it, in words.
    State(&'static str),
    /// It is not allowed, or comes to nothing for this cause.
    Cause(Cause),
}

impl Call {
    /// Does it, or says why not. What takes time (a hold, a transfer) is begun; notices tell what became of it.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn act(&mut self, cx: &mut Context, act: Act) -> Result<(), Refusal> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let (state, done) = match (state, act) {
            (state @ (State::Over | State::Releasing(_)), _) => (state, Err(Refusal::State("the call is over"))),
            (State::Established(mut state), act) => match state.act(&mut self.core, cx, act) {
                Ok(next) => (state.next(&mut self.core, cx, next), Ok(())),
                Err(refusal) => (State::Established(state), Err(refusal)),
            },
            (state, _) => (state, Err(Refusal::State("the call is not answered"))),
        };
        self.state = state;
        self.sync(cx);
        done
    }

    /// Ends it, whatever its state.
    ///
    /// # Errors
    /// [`Refusal::State`]: it is over.
    pub fn hang_up(&mut self, cx: &mut Context, cause: Cause) -> Result<(), Refusal> {
        if matches!(self.state, State::Over | State::Releasing(_)) {
            return Err(Refusal::State("the call is over"));
        }
        self.handle(cx, Event::End(cause));
        Ok(())
    }

    /// The user's own side: who called, or of an incoming call who answered.
    pub fn users_side(&self) -> Side {
        users_side(&self.core)
    }
}

fn users_side(core: &Core) -> Side {
    let [first, second] = match core.direction {
        Direction::Outbound => [Side::A, Side::B],
        Direction::Inbound => [Side::B, Side::A],
    };
    if core.user_of(first).is_none() && core.user_of(second).is_some() { second } else { first }
}

impl Established {
    fn act(&mut self, core: &mut Core, cx: &mut Context, act: Act) -> Result<Next, Refusal> {
        let user = users_side(core);
        let side = |end: Option<End>| end.map_or(user, Side::from);
        match act {
            Act::Digits { digits, ms, to } => {
                let to = to.map_or(user.other(), Side::from);
                let party = core.party_mut(to).ok_or(Refusal::State("nobody is on this side now"))?;
                party.leg_mut().digits(cx, &digits, ms, Way::Signalling);
                Ok(Next::Stay)
            }
            Act::Hold { on, by } => {
                let by = side(by);
                let both = Side::BOTH.into_iter().all(|side| core.party(side).is_some());
                if !both || self.transfer.is_some() {
                    return Err(Refusal::State("a transfer is under way"));
                }
                // A SIP party's own hold is a fact; this one is not before the other has agreed.
                core.ask_hold(cx, by, on);
                Ok(Next::Stay)
            }
            Act::Transfer { to, by } => self.transfer_as(core, cx, side(by), TransferTo::Number(to)),
            Act::Join { with, by } => self.transfer_as(core, cx, side(by), TransferTo::Joined(with)),
        }
    }

    fn transfer_as(&mut self, core: &mut Core, cx: &mut Context, by: Side, to: TransferTo) -> Result<Next, Refusal> {
        let wish = TransferWish { to, rights: None, refer: None, referred_by: None };
        // Before it is begun, for the answer's sake: a token is used by the transfer itself.
        judge(core, cx, &wish).map_err(Refusal::Cause)?;
        if self.transfer.is_some() {
            return Err(Refusal::State("a transfer of this call is under way"));
        }
        Ok(self.wish(core, cx, by, wish))
    }
}
