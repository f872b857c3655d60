//! One call of the test phone: where it stands, what it has said, and its media.

use std::net::SocketAddr;
use std::time::Instant;

use super::line::Line;
use super::numbers::Script;
use crate::sdp::{OwnDescription, RtpMedia, SdpError, TrunkLocal, trunk};
use crate::sip::{Body, SessionId};

/// The content type of a session description.
pub(super) const SDP: &str = "application/sdp";

/// Where a call stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// An incoming call that rings, without media.
    Ringing,
    /// An incoming call waits for its ports, to answer this offer; `None`: it had none, and ours goes into the 200.
    Opening {
        /// The description in the INVITE.
        offer: Option<Vec<u8>>,
    },
    /// A call back waits for its ports.
    Calling {
        /// The user to be called.
        user: String,
    },
    /// Our offer is out, and its answer is not in.
    Offered,
    /// Media flows.
    Talking,
    /// It has ended, or is ending: what is left is the user agent's to do.
    Over,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) script: Box<dyn Script>,
    /// `None` before the INVITE of a call back is sent.
    pub(super) session: Option<SessionId>,
    pub(super) stage: Stage,
    /// Who calls, by the user part of From.
    pub(super) caller: Option<String>,
    /// Whether a 200 was sent or has come.
    pub(super) answered: bool,
    /// When the call is ended, whatever its state.
    pub(super) ends_at: Instant,
    /// Our RTP address, once there is one.
    pub(super) local: Option<SocketAddr>,
    pub(super) line: Option<Line>,
    pub(super) ssrc: u32,
    pub(super) own: OwnDescription,
}

impl Call {
    /// Our offer.
    pub(super) fn offer(&mut self, rtp: SocketAddr) -> Body {
        let local = self.description(rtp);
        body(self.own.revise(|session_id, version| trunk::offer(&TrunkLocal { session_id, version, ..local.clone() })))
    }

    /// Our answer to `offer`, and what follows from both.
    pub(super) fn answer(&mut self, rtp: SocketAddr, offer: &[u8]) -> Result<(Body, RtpMedia), SdpError> {
        let local = self.description(rtp);
        let (_, media) = trunk::answer(&local, offer)?;
        let text = self.own.revise(|session_id, version| {
            let local = TrunkLocal { session_id, version, ..local.clone() };
            trunk::answer(&local, offer).map(|(text, _)| text).unwrap_or_default()
        });
        Ok((body(text), media))
    }

    /// What follows from the answer to our offer.
    pub(super) fn read_answer(&self, rtp: SocketAddr, answer: &[u8]) -> Result<RtpMedia, SdpError> {
        trunk::read_answer(&self.description(rtp), answer)
    }

    /// The description that was sent last.
    pub(super) fn said(&self) -> Body {
        body(self.own.sent().unwrap_or_default().to_owned())
    }

    fn description(&self, rtp: SocketAddr) -> TrunkLocal {
        TrunkLocal { session_id: self.own.session_id(), version: self.own.version(), ..TrunkLocal::new(rtp, self.ssrc) }
    }
}

fn body(text: String) -> Body {
    Body { content_type: SDP.to_owned(), bytes: text.into_bytes() }
}
