//! Our session description towards a SIP peer through the life of a call: over RTP ports of a call's own for trunks and phones,
//! over a browser's transport (ICE-lite, DTLS-SRTP) where the peer is a browser that speaks SIP
//! ([RFC 7118](https://www.rfc-editor.org/rfc/rfc7118)). Nothing else in a call knows the difference.

use std::net::SocketAddr;

use super::browser_leg::{new_ice, new_local};
use super::slots::Loan;
use super::trunk_sdp::{Seat, TrunkDescription};
use super::{Cause, Context, Trunk};
use crate::sdp::{
    Band, BrowserLocal, BrowserMedia, BrowserOffer, CodecPolicy, Direction, LegMedia, OwnDescription, SdpError, browser,
};

/// Our side of a SIP peer's media.
#[derive(Debug)]
pub(super) enum Description {
    /// RTP ports, to a trunk or a phone.
    Rtp(Box<TrunkDescription>),
    /// A browser's transport.
    Browser(Box<BrowserDescription>),
}

impl Description {
    /// A description over the RTP ports lent, for a peer whose signalling is at `peer`.
    ///
    /// # Errors
    /// The cause of a leg whose peer cannot be told any port.
    pub fn rtp(cx: &mut Context, loan: &Loan, trunk: &Trunk, peer: SocketAddr) -> Result<Description, Cause> {
        let rtp = loan.rtp_for(peer)?;
        Ok(Description::Rtp(Box::new(TrunkDescription::new(cx, loan.slot, rtp, trunk, peer.ip()))))
    }

    /// A description of a transport to a browser; `band`: what the other side can carry at best.
    pub fn browser(cx: &mut Context, loan: &Loan, band: Band) -> Description {
        Description::Browser(Box::new(BrowserDescription::new(cx, loan, band)))
    }

    /// What we want to do from now on.
    pub fn set_direction(&mut self, direction: Direction) {
        match self {
            Description::Rtp(own) => own.set_direction(direction),
            Description::Browser(own) => own.direction = direction,
        }
    }

    /// Other ports of ours from the next offer on; what was before comes back. `None`: a browser's transport stays where it is.
    pub fn move_to(&mut self, cx: &mut Context, loan: &Loan, rtp: SocketAddr) -> Option<Seat> {
        match self {
            Description::Rtp(own) => Some(own.move_to(cx, loan.slot, rtp)),
            Description::Browser(_) => None,
        }
    }

    /// Back to where we were before a move that came to nothing.
    pub fn stay(&mut self, before: Seat) {
        if let Description::Rtp(own) = self {
            own.stay(before);
        }
    }

    /// An offer.
    pub fn offer(&mut self) -> String {
        match self {
            Description::Rtp(own) => own.offer(),
            Description::Browser(own) => own.offer(),
        }
    }

    /// The answer to the peer's offer, and the media agreed.
    ///
    /// # Errors
    /// [`SdpError`] when the offer cannot be taken.
    pub fn answer(&mut self, cx: &mut Context, offer: &[u8]) -> Result<(String, LegMedia), SdpError> {
        match self {
            Description::Rtp(own) => own.answer(offer).map(|(text, media)| (text, LegMedia::Rtp(media))),
            Description::Browser(own) => own.answer(cx, offer).map(|(text, media)| (text, LegMedia::Browser(media))),
        }
    }

    /// The media agreed by the peer's answer to our last offer.
    ///
    /// # Errors
    /// [`SdpError`] when it is no answer to it.
    pub fn read_answer(&self, answer: &[u8]) -> Result<LegMedia, SdpError> {
        match self {
            Description::Rtp(own) => own.read_answer(answer).map(LegMedia::Rtp),
            Description::Browser(own) => own.read_answer(answer).map(LegMedia::Browser),
        }
    }

    /// Whether the peer's offer asks for a new connection: a browser's with ICE credentials other than before.
    pub fn restarts(&self, offer: &[u8]) -> bool {
        match self {
            Description::Rtp(_) => false,
            Description::Browser(own) => own.read(offer).is_ok_and(|offer| own.restarts(&offer)),
        }
    }

    /// Keeps to this media in later offers: it is what the session has come to.
    pub fn settle(&mut self, media: &LegMedia) {
        match (self, media) {
            (Description::Rtp(own), LegMedia::Rtp(media)) => own.settle(media),
            (Description::Browser(own), LegMedia::Browser(media)) => own.agreed = Some(media.clone()),
            _ => {}
        }
    }
}

/// Our end of a browser's transport: it is answered with one codec, and stands as it is through re-offers of either side,
/// until the browser asks for an ICE restart.
#[derive(Debug)]
pub(super) struct BrowserDescription {
    local: BrowserLocal,
    policy: CodecPolicy,
    own: OwnDescription,
    direction: Direction,
    /// What the session has come to.
    agreed: Option<BrowserMedia>,
}

impl BrowserDescription {
    fn new(cx: &mut Context, loan: &Loan, band: Band) -> BrowserDescription {
        let local = new_local(cx, &loan.candidates, loan.ufrag_mark);
        let own = OwnDescription::new(local.session_id);
        let policy = CodecPolicy { band, ..cx.settings.policy.clone() };
        BrowserDescription { local, policy, own, direction: Direction::SendRecv, agreed: None }
    }

    fn offer(&mut self) -> String {
        let BrowserDescription { local, policy, own, direction, .. } = self;
        let sent = own.sent().map(str::to_owned);
        own.revise(|session_id, version| match &sent {
            Some(sent) => browser::offer_again(sent, version, *direction),
            None => {
                (local.session_id, local.version) = (session_id, version);
                browser::offer(local, policy)
            }
        })
    }

    fn restarts(&self, offer: &BrowserOffer) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| agreed.remote_ice != *offer.ice())
    }

    fn answer(&mut self, cx: &mut Context, offer: &[u8]) -> Result<(String, BrowserMedia), SdpError> {
        let mut offer = self.read(offer)?;
        if let Some(agreed) = &self.agreed {
            offer.keep_role(agreed.dtls);
        }
        // RFC 8839 section 4.4.3.1.1: new credentials are answered by new ones.
        let mut local = self.local.clone();
        if self.restarts(&offer) {
            local.ice = new_ice(cx, local.ice.mark());
        }
        let (policy, direction) = (&self.policy, self.wanted(&offer));
        let (_, media) = offer.answer_wanting(&local, policy, direction)?;
        let text = self.own.revise(|session_id, version| {
            (local.session_id, local.version) = (session_id, version);
            offer.answer_wanting(&local, policy, direction).map(|(text, _)| text).unwrap_or_default()
        });
        self.local = local;
        self.agreed = Some(media.clone());
        Ok((text, media))
    }

    /// A hold is answered `inactive` (RFC 3264 section 6.1 leaves us that): nobody listens to who holds him, and sipML5 writes
    /// `sendonly` where its browser has offered `recvonly`, which would not take a `recvonly` for an answer.
    fn wanted(&self, offer: &BrowserOffer) -> Direction {
        let has_listened = self.agreed.as_ref().is_some_and(|agreed| agreed.direction != Direction::RecvOnly);
        let holds = has_listened && offer.direction() == Direction::SendOnly;
        if holds { Direction::Inactive } else { self.direction }
    }

    /// The browser's offer, the first one or a later one.
    fn read(&self, offer: &[u8]) -> Result<BrowserOffer, SdpError> {
        let text = &String::from_utf8_lossy(offer);
        match &self.agreed {
            Some(agreed) => BrowserOffer::read_again(text, agreed),
            None => BrowserOffer::read(text),
        }
    }

    fn read_answer(&self, answer: &[u8]) -> Result<BrowserMedia, SdpError> {
        let text = &String::from_utf8_lossy(answer);
        match &self.agreed {
            Some(agreed) => browser::read_answer_again(agreed, self.direction, &self.policy, text),
            None => browser::read_answer(&self.local, &self.policy, text),
        }
    }
}
