//! The RTP ports that a call has on loan: one pair for each SIP leg, a further one while a leg is replaced.

use std::net::SocketAddr;

use super::{Cause, Context, Effect, Lease, Origin, Special};
use crate::sdp::RtpSlot;

/// Media resources that were lent for one leg, or for all candidates for one.
#[derive(Clone, Debug)]
pub struct Loan {
    /// Which of the call's pairs of ports.
    pub slot: RtpSlot,
    /// Where a browser sends its media.
    pub candidates: Vec<SocketAddr>,
    /// What the ufrags begin with that browsers are told.
    pub ufrag_mark: char,
    /// By the address of a peer's signalling: what this peer is told of our ports.
    told: Vec<(SocketAddr, Option<SocketAddr>)>,
}

impl Loan {
    /// The address that `peer` is told to send RTP to.
    ///
    /// # Errors
    /// The cause of a leg whose peer cannot be told any: our media has no address of its family.
    pub fn rtp_for(&self, peer: SocketAddr) -> Result<SocketAddr, Cause> {
        let told = self.told.iter().find(|(known, _)| *known == peer).or_else(|| self.told.first());
        told.and_then(|(_, rtp)| *rtp).ok_or_else(|| {
            let cause = Cause::special(Origin::Gateway, Special::NoResources);
            cause.in_words("There is no media address of the trunk's family")
        })
    }
}

/// A call's slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: [Slot; RtpSlot::LIMIT as usize],
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Free,
    /// The shell has been asked, for these peers.
    Asked(Vec<SocketAddr>),
    /// It has been asked, and what it lends will go back at once.
    Unwanted,
    Lent(Loan),
}

impl Slots {
    /// Asks for the media resources of one leg (or of candidates for one): a `c=` for each of `peers`, and candidates
    /// if a browser takes part. `None`: the call has too many on loan.
    pub(super) fn ask(&mut self, cx: &mut Context, peers: Vec<SocketAddr>, browser: bool) -> Option<RtpSlot> {
        let at = self.slots.iter().position(|slot| matches!(slot, Slot::Free))?;
        let slot = RtpSlot(u8::try_from(at).ok()?);
        *self.slots.get_mut(at)? = Slot::Asked(peers.clone());
        cx.effects.push(Effect::Lease { slot, peers, browser });
        Some(slot)
    }

    /// What was asked for has come; what nobody waits for goes back.
    pub(super) fn lent(&mut self, cx: &mut Context, at: RtpSlot, lease: Lease) {
        let Some(slot) = self.slots.get_mut(usize::from(at.0)) else { return };
        *slot = match std::mem::take(slot) {
            Slot::Asked(peers) => {
                let rtp = lease.rtp.into_iter().chain(std::iter::repeat(None));
                let told = peers.into_iter().zip(rtp).collect();
                Slot::Lent(Loan { slot: at, candidates: lease.candidates, ufrag_mark: lease.ufrag_mark, told })
            }
            Slot::Unwanted => {
                cx.effects.push(Effect::ReleaseSlot(at));
                Slot::Free
            }
            slot => slot,
        };
    }

    /// What was asked for will not come; `true` where it was waited for.
    pub(super) fn refused(&mut self, at: RtpSlot) -> bool {
        let Some(slot) = self.slots.get_mut(usize::from(at.0)) else { return false };
        matches!(std::mem::take(slot), Slot::Asked(_))
    }

    /// The loan of a slot, once it has come.
    pub(super) fn loan(&self, at: RtpSlot) -> Option<&Loan> {
        match self.slots.get(usize::from(at.0)) {
            Some(Slot::Lent(loan)) => Some(loan),
            _ => None,
        }
    }

    /// Gives a slot back before the call's end.
    pub(super) fn give_back(&mut self, cx: &mut Context, at: RtpSlot) {
        let Some(slot) = self.slots.get_mut(usize::from(at.0)) else { return };
        *slot = match std::mem::take(slot) {
            Slot::Asked(_) | Slot::Unwanted => Slot::Unwanted,
            Slot::Lent(_) => {
                cx.effects.push(Effect::ReleaseSlot(at));
                Slot::Free
            }
            Slot::Free => Slot::Free,
        };
    }

    /// Gives everything back at the call's end.
    pub(super) fn end(&mut self, cx: &mut Context) {
        let lent = self.slots.iter().any(|slot| matches!(slot, Slot::Lent(_)));
        *self = Slots::default();
        if lent {
            cx.effects.push(Effect::Release);
        }
    }
}
