//! What the state machine asks of either party of a call, and what it hears from them.
//!
//! A browser and a trunk differ in protocol only. Whoever calls is the [`Role::Caller`], whoever is called the
//! [`Role::Callee`]; the state machine speaks of roles and never of directions.

use super::{Cause, Context, Lease};
use crate::sdp::Side;

/// A party's part in the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who called.
    Caller,
    /// Who is called.
    Callee,
}

impl Role {
    /// Its side of the call's media.
    pub fn side(self) -> Side {
        match self {
            Role::Caller => Side::A,
            Role::Callee => Side::B,
        }
    }
}

/// How a called side gets on before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// It rings (180).
    pub ringing: bool,
    /// It sends sound already (a description in an 18x).
    pub early_media: bool,
}

/// What a party did, in words that hold for both kinds of party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Nothing that concerns the call's state.
    Nothing,
    /// The called side gets on.
    Progress(Progress),
    /// The called side answered.
    Answered,
    /// A side put the call on hold (`true`) or took it back.
    Held(Side, bool),
    /// The trunk answered the browser's hold (`true`) or its end: what was asked, and whether it agreed.
    HoldAnswered(bool, bool),
    /// A side pressed a key.
    Digit(Side, char, u16),
    /// The call is to end, for this reason.
    Over(Cause),
}

/// One leg of a call.
pub trait Leg {
    /// The media resources have come: makes the leg's own session description.
    ///
    /// # Errors
    /// The cause the call ends with when this party's media cannot be used.
    fn prepare(&mut self, cx: &mut Context, lease: &Lease) -> Result<(), Cause>;

    /// Asks the called side to take the call.
    ///
    /// # Errors
    /// The cause the call ends with when nobody can be asked.
    fn offer(&mut self, cx: &mut Context) -> Result<Progress, Cause>;

    /// Tells the caller how the called side gets on; what he knows already is not told again.
    fn progress(&mut self, cx: &mut Context, progress: Progress);

    /// Tells the caller that the call is answered.
    ///
    /// # Errors
    /// The cause the call ends with when the caller cannot be told.
    fn connect(&mut self, cx: &mut Context) -> Result<(), Cause>;

    /// Puts this party on hold or takes it back, at the other's wish.
    fn hold(&mut self, cx: &mut Context, on: bool);

    /// Tells this party that the other pressed a key.
    fn digit(&mut self, cx: &mut Context, digit: char, ms: u16);

    /// Ends the leg, whatever its state, once.
    fn end(&mut self, cx: &mut Context, cause: &Cause);
}
