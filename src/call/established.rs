//! An answered call: the parties talk, hold one another, press keys, and may be replaced (see `transfer`).

use std::time::Instant;

use super::core::Core;
use super::leg::Happened;
use super::party::{Party, Said};
use super::transfer::{Stage, Transfer, give_up};
use super::{Cause, Context, Origin};
use crate::sdp::Side;

/// An answered call, beside its parties.
#[derive(Debug)]
pub(super) struct Established {
    pub until: Option<Instant>,
    pub transfer: Option<Box<Transfer>>,
}

/// What becomes of the call.
#[derive(Debug)]
pub(super) enum Next {
    /// It goes on.
    Stay,
    /// It ends, by this party's doing.
    End(Cause, Option<Side>),
}

impl Established {
    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let transfer = self.transfer.as_ref().and_then(|transfer| transfer.deadline());
        [self.until, transfer].into_iter().flatten().min()
    }

    /// Somebody says something: a party, one who was a party, or one who may become one.
    pub(super) fn said(&mut self, core: &mut Core, cx: &mut Context, said: Said) -> Next {
        if let Some(side) = core.speaker(&said) {
            let happened = core.party_mut(side).map(|party| party.handle(cx, said, true));
            return self.happened(core, cx, side, happened.unwrap_or(Happened::Nothing));
        }
        match core.leaver_said(cx, said) {
            Some(said) => self.newcomer_said(core, cx, said),
            None => Next::Stay,
        }
    }

    /// What a party did.
    pub(super) fn happened(&mut self, core: &mut Core, cx: &mut Context, side: Side, happened: Happened) -> Next {
        match happened {
            Happened::Over(cause) => return self.over(core, cx, side, cause),
            Happened::Held(on) => core.held(cx, side, on),
            Happened::HoldAnswered(on, agreed) => core.hold_answered(cx, side.other(), on, agreed),
            Happened::Digits(digits, ms, way) => core.digits(cx, side, &digits, ms, way),
            Happened::Transfers(wish) => return self.wish(core, cx, side, *wish),
            Happened::ReferAnswered(result) => return self.refer_answered(core, cx, result),
            Happened::ReferProgress(status, last) => return self.refer_progress(core, cx, status, last),
            Happened::Moved(result) => return self.moved(core, cx, side, result),
            Happened::Nothing | Happened::Progress(_) | Happened::Answered => {}
        }
        Next::Stay
    }

    /// A party has ended its leg. A transferor may, at any time: the transfer goes on without him.
    pub(super) fn over(&mut self, core: &mut Core, cx: &mut Context, side: Side, cause: Cause) -> Next {
        match self.transfer.as_deref_mut() {
            Some(transfer) if transfer.by == side => {
                core.leave(cx, side);
                Next::Stay
            }
            // The trunk's party has gone where it was sent, and does not say so.
            Some(Transfer { stage: Stage::Referred { accepted: true, .. }, .. }) if cause.origin == Origin::Trunk => {
                self.referred_away(core, cx)
            }
            _ => Next::End(cause, Some(side)),
        }
    }

    /// What is due.
    pub(super) fn tick(&mut self, core: &mut Core, cx: &mut Context) -> Next {
        for side in [Side::A, Side::B] {
            let due = |party: &&mut Party| party.leg().deadline().is_some_and(|due| due <= cx.now.instant);
            if let Some(party) = core.party_mut(side).filter(due) {
                let happened = party.leg_mut().tick(cx);
                if let end @ Next::End(..) = self.happened(core, cx, side, happened) {
                    return end;
                }
            }
        }
        core.leavers_tick(cx);
        self.transfer_tick(core, cx)
    }

    /// The call ends: what a transfer has begun ends with it.
    pub(super) fn end(&mut self, core: &mut Core, cx: &mut Context, cause: &Cause) {
        if let Some(mut transfer) = self.transfer.take() {
            give_up(core, cx, &mut transfer, cause);
        }
    }
}
