//! Our description of the trunk's leg through the life of a call: one `o=` id, the version rises only when the body
//! changes ([RFC 3264](https://www.rfc-editor.org/rfc/rfc3264#section-8) section 8).

use std::net::{IpAddr, SocketAddr};

use rand::RngExt as _;

use super::{Context, Trunk};
use crate::sdp::{
    Direction, Network, OwnDescription, OwnNumbers, RtpMedia, RtpSlot, SdpError, SrtpKeys, SrtpLocal, TrunkLocal, trunk,
};

/// The media type of session descriptions.
pub const SDP: &str = "application/sdp";

/// Our side of the trunk's media.
#[derive(Debug)]
pub struct TrunkDescription {
    local: TrunkLocal,
    own: OwnDescription,
}

/// Where our end of the media is.
#[derive(Debug)]
pub struct Seat {
    slot: RtpSlot,
    rtp: SocketAddr,
    ssrc: u32,
    keys: SrtpKeys,
}

impl TrunkDescription {
    /// A description for a call with `trunk`, whose signalling is at `peer`, over leased ports, which it is told as `rtp`.
    pub fn new(cx: &mut Context, slot: RtpSlot, rtp: SocketAddr, trunk: &Trunk, peer: IpAddr) -> TrunkDescription {
        let own = OwnDescription::new(cx.rng.random_range(1..=i64::MAX as u64));
        let local = TrunkLocal {
            slot,
            rtp,
            // Where a NAT hides the described address, the trunk's RTP comes from the host of its signalling.
            sources: std::iter::once(Network::from(peer)).chain(trunk.media_sources.iter().copied()).collect(),
            session_id: own.session_id(),
            version: own.version(),
            codecs: trunk.codecs.clone(),
            numbers: OwnNumbers::default(),
            ptime: trunk.ptime,
            telephone_event: trunk.telephone_event(),
            inband: trunk.inband(),
            pass: trunk.pass,
            direction: Direction::SendRecv,
            ssrc: cx.rng.random_range(1..=u32::MAX),
            srtp: SrtpLocal { policy: trunk.srtp, keys: SrtpKeys::new(cx.rng.random()), agreed: None },
        };
        TrunkDescription { local, own }
    }

    /// What we want to do from now on.
    pub fn set_direction(&mut self, direction: Direction) {
        self.local.direction = direction;
    }

    /// Other ports of ours from the next offer on, with an SSRC and keys of their own: whoever serves them begins a stream anew,
    /// and a key must never protect two. What was before comes back.
    pub fn move_to(&mut self, cx: &mut Context, slot: RtpSlot, rtp: SocketAddr) -> Seat {
        let seat = Seat { slot, rtp, ssrc: cx.rng.random_range(1..=u32::MAX), keys: SrtpKeys::new(cx.rng.random()) };
        self.sit(seat)
    }

    /// Back to where we were before a move that came to nothing.
    pub fn stay(&mut self, before: Seat) {
        self.sit(before);
    }

    fn sit(&mut self, seat: Seat) -> Seat {
        let local = &mut self.local;
        Seat {
            slot: std::mem::replace(&mut local.slot, seat.slot),
            rtp: std::mem::replace(&mut local.rtp, seat.rtp),
            ssrc: std::mem::replace(&mut local.ssrc, seat.ssrc),
            keys: std::mem::replace(&mut local.srtp.keys, seat.keys),
        }
    }

    /// An offer.
    pub fn offer(&mut self) -> String {
        let local = &mut self.local;
        self.own.revise(|_, version| {
            local.version = version;
            trunk::offer(local)
        })
    }

    /// The answer to the trunk's offer, and the media agreed.
    ///
    /// # Errors
    /// [`SdpError`] when the offer cannot be taken.
    pub fn answer(&mut self, offer: &[u8]) -> Result<(String, RtpMedia), SdpError> {
        let (_, media) = trunk::answer(&self.local, offer)?;
        let local = &mut self.local;
        let text = self.own.revise(|_, version| {
            local.version = version;
            trunk::answer(local, offer).map(|(text, _)| text).unwrap_or_default()
        });
        self.local.settle_answered(&media);
        Ok((text, media))
    }

    /// The media agreed by the trunk's answer to our last offer.
    ///
    /// # Errors
    /// [`SdpError`] when it is no answer to it.
    pub fn read_answer(&self, answer: &[u8]) -> Result<RtpMedia, SdpError> {
        trunk::read_answer(&self.local, answer)
    }

    /// Keeps to this media's transport and suite in later offers: it is what the session has come to.
    pub fn settle(&mut self, media: &RtpMedia) {
        self.local.settle(media);
    }
}
