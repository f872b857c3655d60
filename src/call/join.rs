//! Two calls become one (an attended transfer): the far party of one moves into the other, and who stood between them
//! leaves both.
//!
//! The call that keeps lends ports; the call that gives tells its far party of them by a re-INVITE, and hands the leg over
//! when it has agreed. So the far party of the call that gives is a SIP peer; where only one of the two is, the call with the
//! browser keeps.
//!
//! ```text
//! keeper                         giver
//!   | (lease)                      |
//!   |----------- Give ------------>| re-INVITE to its far party
//!   |<---- the leg / NotGiven -----|
//!   |----------- Keep ------------>| (the keeper has ended meanwhile)
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::core::Core;
use super::established::{Established, Next};
use super::leg::Leg as _;
use super::party::Party;
use super::slots::Loan;
use super::transfer::{JOIN_WITHIN, Stage, Then, Transfer, TransferTo, can_refer, refer};
use super::trunk_leg::{Owner, TrunkLeg};
use super::{CallId, Cause, Context, Effect, Origin, SocketId, Special, Trunk};
use crate::sdp::Side;
use crate::sip::{ReferTo, Replaces, SessionId};

/// The far party of another call, as an attended transfer sees it.
#[derive(Clone, Debug)]
pub struct Far {
    /// The call.
    pub call: CallId,
    /// The side of the transferor in it.
    pub by: Side,
    /// Who it is, for people.
    pub label: String,
    /// Its SIP leg, if it has one; else it is a browser.
    pub sip: Option<FarSip>,
    /// Whose the transferor's leg is in that call, where he is a SIP peer.
    pub owner: Option<Owner>,
}

/// The SIP leg of a far party.
#[derive(Clone, Debug)]
pub struct FarSip {
    /// Its session.
    pub session: SessionId,
    /// How it wants to be spoken to.
    pub trunk: Arc<Trunk>,
    /// Where it is.
    pub remote: SocketAddr,
}

/// Who looks at a call from outside: the transferor, as he is known in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transferor {
    /// A browser.
    Browser(SocketId),
    /// A SIP peer.
    Sip(SessionId),
    /// Whoever is on this side.
    Side(Side),
}

/// What one call tells another.
#[derive(Debug)]
pub enum Mail {
    /// Lend ports, and take our far party.
    Receive {
        /// The call that gives.
        from: CallId,
        /// The side of the transferor in the call that keeps.
        by: Side,
        /// Where the far party is.
        remote: SocketAddr,
        /// Who it is, for people.
        label: String,
    },
    /// These ports are for your far party: have it move.
    Give {
        /// The call that keeps.
        to: CallId,
        /// The side of the transferor in the call that gives; `None`: it knows, as it was it that asked.
        by: Option<Side>,
        /// The ports.
        loan: Loan,
    },
    /// Here it is.
    Given {
        /// The call that gave.
        from: CallId,
        /// The far party's leg.
        leg: Box<TrunkLeg>,
        /// When the call that gave would have ended at the latest.
        until: Option<Instant>,
    },
    /// It does not come.
    NotGiven {
        /// The call that does not give.
        from: CallId,
        /// The status that stands for the reason.
        status: u16,
    },
    /// Keep it: we take nobody any more.
    Keep {
        /// The call that does not take.
        to: CallId,
    },
    /// A trunk has connected the two far parties by itself.
    Transferred {
        /// The side of the transferor.
        by: Side,
    },
}

impl Mail {
    /// The answer of a call that can do nothing of it.
    pub(crate) fn refuse(self, cx: &mut Context, id: CallId) {
        match self {
            Mail::Receive { from, .. } => {
                cx.effects.push(Effect::Forward { to: from, what: Mail::NotGiven { from: id, status: 481 } });
            }
            Mail::Give { to, .. } => {
                cx.effects.push(Effect::Forward { to, what: Mail::NotGiven { from: id, status: 481 } });
            }
            // Nobody is left for it to speak with.
            Mail::Given { mut leg, .. } => leg.end(cx, &Cause::special(Origin::Browser, Special::Normal), false),
            Mail::NotGiven { .. } | Mail::Keep { .. } | Mail::Transferred { .. } => {}
        }
    }
}

impl Core {
    /// The far party as seen by a transferor of this call.
    pub(super) fn far(&self, transferor: Transferor) -> Option<Far> {
        let is = |party: &Party| match transferor {
            Transferor::Browser(socket) => party.browser().is_some_and(|leg| leg.socket() == socket),
            Transferor::Sip(session) => party.sip().is_some_and(|leg| leg.session() == Some(session)),
            Transferor::Side(_) => false, // known without a look
        };
        let by = match transferor {
            Transferor::Side(side) => side,
            _ => [Side::A, Side::B].into_iter().find(|side| self.party(*side).is_some_and(is))?,
        };
        let party = self.party(by.other())?;
        let sip = match party.sip().filter(|leg| !leg.is_browser()) {
            Some(leg) => {
                let (session, remote) = leg.session().zip(leg.remote())?;
                Some(FarSip { session, trunk: leg.trunk()?.clone(), remote })
            }
            None => None,
        };
        let owner = self.party(by).and_then(Party::sip).and_then(TrunkLeg::owner);
        Some(Far { call: self.id, by, label: self.label(by.other()), sip, owner })
    }
}

impl Established {
    /// The switch has looked for the other call of an attended transfer.
    pub(super) fn paired(&mut self, core: &mut Core, cx: &mut Context, far: Option<Far>) -> Next {
        let Some(transfer) = &mut self.transfer else { return Next::Stay };
        let Stage::Pairing(wish) = &transfer.stage else { return Next::Stay };
        let (by, wish) = (transfer.by, wish.as_ref().clone());
        let Some(far) = far.filter(|far| far.call != core.id) else {
            return match wish.to {
                TransferTo::Dialog { .. } => self.wish_foreign(core, cx, by, &wish),
                _ => self.transfer_failed(core, cx, Cause::from_status(Origin::Gateway, 481)),
            };
        };
        // A dialog that REFER names must be the transferor's own; a browser's calls are looked up among its own.
        let own = core.party(by).and_then(Party::sip).and_then(TrunkLeg::owner);
        if matches!(wish.to, TransferTo::Dialog { .. }) && (own.is_none() || own != far.owner) {
            tracing::warn!(call = %core.id, "a REFER names a call that is not its sender's");
            return self.transfer_failed(core, cx, Cause::from_status(Origin::Gateway, 481));
        }
        transfer.to.clone_from(&far.label);
        if wish.refer.is_none() && refer_to_dialog(core, cx, by.other(), &far) {
            transfer.stage = Stage::Referred { accepted: false, then: Then::Join(Box::new(far)) };
            transfer.until = cx.now.instant + JOIN_WITHIN;
            return Next::Stay;
        }
        self.join(core, cx, by, far)
    }

    /// The two far parties are to be joined: whichever is a SIP peer moves.
    pub(super) fn join(&mut self, core: &mut Core, cx: &mut Context, by: Side, far: Far) -> Next {
        let own = core.party(by.other()).and_then(Party::sip).and_then(TrunkLeg::remote);
        let Some(transfer) = &mut self.transfer else { return Next::Stay };
        match (far.sip, own) {
            (Some(theirs), _) => match core.slots.ask(cx, vec![theirs.remote], false) {
                Some(slot) => {
                    transfer.stage = Stage::Receiving { slot, from: far.call, theirs: Some(far.by) };
                    transfer.until = cx.now.instant + JOIN_WITHIN;
                    Next::Stay
                }
                None => self.transfer_failed(core, cx, Cause::special(Origin::Gateway, Special::NoResources)),
            },
            (None, Some(remote)) => {
                transfer.stage = Stage::Giving { to: far.call, back: false };
                transfer.until = cx.now.instant + JOIN_WITHIN;
                let what = Mail::Receive { from: core.id, by: far.by, remote, label: core.label(by.other()) };
                cx.effects.push(Effect::Forward { to: far.call, what });
                Next::Stay
            }
            (None, None) => {
                let cause = Cause::from_status(Origin::Gateway, 488);
                self.transfer_failed(core, cx, cause.in_words("Two browsers cannot be connected this way"))
            }
        }
    }

    /// What another call tells this one.
    pub(super) fn mail(&mut self, core: &mut Core, cx: &mut Context, mail: Mail) -> Next {
        match mail {
            Mail::Receive { from, by, remote, label } => self.receive(core, cx, from, by, remote, &label),
            Mail::Give { to, by, loan } => self.give(core, cx, to, by, &loan),
            Mail::Given { from, leg, until } => {
                let next = self.given(core, cx, from, leg);
                self.shorten(until);
                next
            }
            Mail::NotGiven { from, status } => match self.transfer.as_ref().map(|transfer| &transfer.stage) {
                Some(Stage::Receiving { from: waited, .. } | Stage::Giving { to: waited, .. }) if *waited == from => {
                    if let Some(transfer) = &mut self.transfer
                        && let Stage::Receiving { slot, .. } = &transfer.stage
                    {
                        core.done_with(Some(*slot));
                        transfer.stage = Stage::Giving { to: core.id, back: false };
                    }
                    self.transfer_failed(core, cx, Cause::from_status(Origin::Gateway, status))
                }
                _ => Next::Stay,
            },
            Mail::Keep { to } => self.keep(core, cx, to),
            Mail::Transferred { by } => Next::End(Cause::special(Origin::Browser, Special::Transferred), Some(by)),
        }
    }

    /// Another call wants us to take its far party.
    fn receive(
        &mut self,
        core: &mut Core,
        cx: &mut Context,
        from: CallId,
        by: Side,
        remote: SocketAddr,
        label: &str,
    ) -> Next {
        let slot = match &self.transfer {
            Some(_) => None,
            None => core.slots.ask(cx, vec![remote], false),
        };
        match slot {
            Some(slot) => {
                let stage = Stage::Receiving { slot, from, theirs: None };
                self.transfer = Some(Transfer::new(cx, by, false, label, stage, JOIN_WITHIN));
            }
            None => {
                cx.effects.push(Effect::Forward { to: from, what: Mail::NotGiven { from: core.id, status: 491 } });
            }
        }
        Next::Stay
    }

    /// Our far party is to move to another call's ports.
    fn give(&mut self, core: &mut Core, cx: &mut Context, to: CallId, by: Option<Side>, loan: &Loan) -> Next {
        let by = match self.transfer.as_deref() {
            None => by,
            Some(Transfer { by, stage: Stage::Giving { to: waited, back: false }, .. }) if *waited == to => Some(*by),
            Some(_) => None,
        };
        let moving = by.and_then(|by| core.party_mut(by.other())).and_then(Party::sip_mut);
        let asked = moving.map_or(Err(491), |leg| leg.move_to(cx, loan));
        match (asked, by) {
            (Ok(()), Some(by)) => {
                if self.transfer.is_none() {
                    let stage = Stage::Giving { to, back: false };
                    self.transfer = Some(Transfer::new(cx, by, false, "", stage, JOIN_WITHIN));
                }
                Next::Stay
            }
            (asked, _) => {
                let status = asked.err().unwrap_or(491);
                cx.effects.push(Effect::Forward { to, what: Mail::NotGiven { from: core.id, status } });
                match self.transfer.as_deref() {
                    Some(Transfer { stage: Stage::Giving { to: waited, .. }, .. }) if *waited == to => {
                        if let Some(transfer) = &mut self.transfer {
                            transfer.stage = Stage::Giving { to: core.id, back: false };
                        }
                        self.transfer_failed(core, cx, Cause::from_status(Origin::Gateway, status))
                    }
                    _ => Next::Stay,
                }
            }
        }
    }

    /// Our far party has answered the new address.
    pub(super) fn moved(&mut self, core: &mut Core, cx: &mut Context, side: Side, result: Result<(), u16>) -> Next {
        if result.is_err() || self.transfer.is_none() {
            core.catch_up_hold(cx, side);
        }
        let Some(transfer) = &mut self.transfer else { return Next::Stay };
        let Stage::Giving { to, back } = transfer.stage else { return Next::Stay };
        let by = transfer.by;
        match (result, back) {
            (Ok(()), false) => {
                super::transfer::tell(core, cx, by, transfer.told, &super::transfer::News::Done);
                let Some(Party::Sip(leg)) = core.unseat(side) else { return Next::Stay };
                self.transfer = None;
                cx.effects.push(Effect::Forward { to, what: Mail::Given { from: core.id, leg, until: self.until } });
                Next::End(Cause::special(Origin::Browser, Special::Transferred), Some(by))
            }
            (Err(status), false) => {
                let cause = Cause::from_status(Origin::Trunk, status);
                self.transfer_failed(core, cx, cause)
            }
            // The other call takes it no more: back to our own ports.
            (Ok(()), true) => {
                let moved = core.party_mut(side).and_then(Party::sip_mut).map_or(Err(481), |leg| leg.move_back(cx));
                transfer.stage = Stage::Giving { to: core.id, back: true };
                let cause = Cause::from_status(Origin::Gateway, 487);
                match moved {
                    Ok(()) => self.transfer_failed(core, cx, cause),
                    Err(_) => Next::End(cause, None),
                }
            }
            (Err(_), true) => self.transfer_failed(core, cx, Cause::from_status(Origin::Gateway, 487)),
        }
    }

    /// The far party of the other call is here.
    fn given(&mut self, core: &mut Core, cx: &mut Context, from: CallId, mut leg: Box<TrunkLeg>) -> Next {
        let awaited = match self.transfer.as_ref().map(|transfer| &transfer.stage) {
            Some(Stage::Receiving { slot, from: waited, .. }) if *waited == from => core.slots.loan(*slot).cloned(),
            _ => None,
        };
        let Some(loan) = awaited else {
            leg.end(cx, &Cause::special(Origin::Gateway, Special::Normal), false);
            return Next::Stay;
        };
        leg.adopt(core.id, loan);
        self.transfer_done(core, cx, Party::Sip(leg))
    }

    /// The other call takes our far party no more.
    fn keep(&mut self, core: &mut Core, cx: &mut Context, to: CallId) -> Next {
        let Some(transfer) = &mut self.transfer else { return Next::Stay };
        let Stage::Giving { to: waited, back } = &mut transfer.stage else { return Next::Stay };
        if *waited != to {
            return Next::Stay;
        }
        *back = true;
        let moving = core.party(transfer.by.other()).and_then(Party::sip).is_some_and(TrunkLeg::is_moving);
        match moving {
            true => Next::Stay,
            false => self.transfer_failed(core, cx, Cause::from_status(Origin::Gateway, 487)),
        }
    }
}

/// Asks a party's trunk to take the place of a call with another party of the same trunk.
fn refer_to_dialog(core: &Core, cx: &mut Context, side: Side, far: &Far) -> bool {
    let (Some(leg), Some(theirs)) = (core.party(side).and_then(Party::sip), &far.sip) else { return false };
    if !can_refer(core, cx, side) || leg.trunk().is_none_or(|trunk| trunk.name != theirs.trunk.name) {
        return false;
    }
    if cx.ledger.is_counted(theirs.session) {
        return false;
    }
    let Some(dialog) = cx.ua.dialog(theirs.session) else { return false };
    let replaces =
        Replaces { call_id: dialog.call_id, to_tag: dialog.remote_tag, from_tag: dialog.local_tag, early_only: false };
    refer(cx, leg, ReferTo { uri: dialog.remote_target, replaces: Some(replaces) })
}
