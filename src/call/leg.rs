//! What a call asks of one of its parties, and what it hears from them.
//!
//! A browser and a SIP peer (a trunk, a phone) differ in protocol only. Whoever calls is the [`Role::Caller`], whoever
//! is called the [`Role::Callee`]; the call speaks of roles and sides and never of kinds.

use std::time::Instant;

use super::slots::Loan;
use super::transfer::{News, TransferWish};
use super::{Cause, Context};
use crate::sdp::{Band, LegMedia};

/// A party's part in the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who called.
    Caller,
    /// Who is called.
    Callee,
}

/// How a called side gets on before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// It rings (180).
    pub ringing: bool,
    /// It sends sound already (a description in an 18x).
    pub early_media: bool,
}

/// How a digit came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In RTP: the media path has carried it on already where the other leg takes digits so.
    Media,
    /// In signalling: nobody else carries it on.
    Signalling,
}

/// What a party did, in words that hold for every kind of party.
#[derive(Clone, Debug)]
pub enum Happened {
    /// Nothing that concerns the call's state.
    Nothing,
    /// The called party gets on.
    Progress(Progress),
    /// The called party answered.
    Answered,
    /// The party put the call on hold (`true`) or took it back.
    Held(bool),
    /// The party answered the other's hold (`true`) or its end: what was asked, and whether it agreed.
    HoldAnswered(bool, bool),
    /// The party pressed keys.
    Digits(String, u16, Way),
    /// The party wants to be replaced by somebody else.
    Transfers(Box<TransferWish>),
    /// What the party answered to our REFER.
    ReferAnswered(Result<(), u16>),
    /// How the party gets on with our REFER: a status, and whether it is the last word.
    ReferProgress(u16, bool),
    /// The party's answer to the new address of our media.
    Moved(Result<(), u16>),
    /// The party will not go on, for this reason: a candidate that does not take the call, or the end of the call.
    Over(Cause),
}

/// One leg of a call.
pub trait Leg {
    /// The media resources have come: makes the leg's own session description, of a SIP leg over the ports lent. `band` is
    /// what the other side can carry at best.
    ///
    /// # Errors
    /// The cause the call ends with when this party's media cannot be used.
    fn prepare(&mut self, cx: &mut Context, loan: &Loan, band: Band) -> Result<(), Cause>;

    /// What this party can carry at best, as far as that is known.
    fn band(&self) -> Band;

    /// Asks the called party to take the call.
    ///
    /// # Errors
    /// The cause the call ends with when it cannot be asked.
    fn offer(&mut self, cx: &mut Context) -> Result<Progress, Cause>;

    /// Tells the caller how the called side gets on; what he knows already is not told again.
    fn progress(&mut self, cx: &mut Context, progress: Progress);

    /// Tells the party that the call is answered.
    ///
    /// # Errors
    /// The cause the call ends with when it cannot be told.
    fn connect(&mut self, cx: &mut Context) -> Result<(), Cause>;

    /// Puts this party on hold or takes it back, at the other's wish; the answer if there is one at once.
    fn hold(&mut self, cx: &mut Context, on: bool) -> Option<bool>;

    /// Tells this party how the other took its own hold (`agreed`).
    fn hold_answered(&mut self, cx: &mut Context, on: bool, agreed: bool);

    /// Tells this party that the other pressed keys.
    fn digits(&mut self, cx: &mut Context, digits: &str, ms: u16, way: Way);

    /// Tells this party how its transfer gets on.
    fn transfer(&mut self, cx: &mut Context, news: &News);

    /// Tells this party that the other has been replaced by `remote`.
    fn transferred(&mut self, cx: &mut Context, remote: &str);

    /// Does what is due.
    fn tick(&mut self, cx: &mut Context) -> Happened;

    /// When [`Leg::tick`] has something to do.
    fn deadline(&self) -> Option<Instant>;

    /// The media as agreed so far.
    fn media(&self) -> Option<LegMedia>;

    /// Ends the leg, whatever its state, once. `mine`: it is this party itself that ended the call.
    fn end(&mut self, cx: &mut Context, cause: &Cause, mine: bool);
}
