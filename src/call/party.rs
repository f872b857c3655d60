//! A party of a call: a browser, or a SIP peer. What depends on the kind stands here and in the legs, nowhere else.

use super::browser_leg::{BrowserEvent, BrowserLeg};
use super::leg::{Happened, Leg};
use super::trunk_leg::{TrunkLeg, session_of};
use super::{Cause, Context, Rights, SocketId};
use crate::sdp::{MediaLoss, Side};
use crate::sip::UaEvent;

/// One party.
#[derive(Debug)]
pub(super) enum Party {
    /// A browser, by its socket.
    Browser(Box<BrowserLeg>),
    /// A trunk or a phone, by its SIP session.
    Sip(Box<TrunkLeg>),
}

/// What somebody says who may be a party of the call.
#[derive(Debug)]
pub(super) enum Said {
    /// A browser.
    Browser(SocketId, BrowserEvent),
    /// The user agent, about one of its sessions.
    Sip(UaEvent),
}

impl Party {
    pub(super) fn leg(&self) -> &dyn Leg {
        match self {
            Party::Browser(leg) => leg.as_ref(),
            Party::Sip(leg) => leg.as_ref(),
        }
    }

    pub(super) fn leg_mut(&mut self) -> &mut dyn Leg {
        match self {
            Party::Browser(leg) => leg.as_mut(),
            Party::Sip(leg) => leg.as_mut(),
        }
    }

    /// The browser's leg, if it is one.
    pub(super) fn browser(&self) -> Option<&BrowserLeg> {
        match self {
            Party::Browser(leg) => Some(leg),
            Party::Sip(_) => None,
        }
    }

    /// Whether its media is a browser's, whatever it speaks.
    pub(super) fn is_browser(&self) -> bool {
        match self {
            Party::Browser(_) => true,
            Party::Sip(leg) => leg.is_browser(),
        }
    }

    /// The SIP peer's leg, if it is one.
    pub(super) fn sip(&self) -> Option<&TrunkLeg> {
        match self {
            Party::Browser(_) => None,
            Party::Sip(leg) => Some(leg),
        }
    }

    /// The same, to be changed.
    pub(super) fn sip_mut(&mut self) -> Option<&mut TrunkLeg> {
        match self {
            Party::Browser(_) => None,
            Party::Sip(leg) => Some(leg),
        }
    }

    /// The media of a browser's transport is up.
    pub(super) fn connected(&mut self) {
        match self {
            Party::Browser(leg) => leg.presence.connected(),
            Party::Sip(leg) => leg.presence.connected(),
        }
    }

    /// Its media is lost, which would end the call for this cause: a browser may bring it back, by an ICE restart. One that speaks
    /// SIP and has closed its connection has no other.
    pub(super) fn lose(&mut self, cx: &Context, loss: MediaLoss, cause: Cause) -> Happened {
        match self {
            Party::Browser(leg) => leg.presence.lose(cx, loss, cause),
            Party::Sip(leg) if leg.is_browser() && loss != MediaLoss::BrowserClosed => {
                leg.presence.lose(cx, loss, cause)
            }
            Party::Sip(_) => Happened::Over(cause),
        }
    }

    /// What its user may, if it is a user's.
    pub(super) fn rights(&self) -> Option<&Rights> {
        match self {
            Party::Browser(leg) => Some(leg.rights()),
            Party::Sip(leg) => leg.rights(),
        }
    }

    /// The side of the call it stands on from now on.
    pub(super) fn set_side(&mut self, side: Side) {
        match self {
            Party::Browser(leg) => leg.set_side(side),
            Party::Sip(leg) => leg.set_side(side),
        }
    }

    /// Whether it is this party that speaks.
    pub(super) fn speaks(&self, said: &Said) -> bool {
        match (self, said) {
            (Party::Browser(leg), Said::Browser(socket, _)) => leg.socket() == *socket,
            (Party::Sip(leg), Said::Sip(event)) => leg.session().is_some() && leg.session() == session_of(event),
            _ => false,
        }
    }

    /// Takes what it says; `established` says whether the call is answered.
    pub(super) fn handle(&mut self, cx: &mut Context, said: Said, established: bool) -> Happened {
        match (self, said) {
            (Party::Browser(leg), Said::Browser(_, event)) => leg.handle(cx, event, established),
            (Party::Sip(leg), Said::Sip(event)) => leg.handle(cx, event),
            _ => Happened::Nothing,
        }
    }
}
