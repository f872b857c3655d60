//! What a call is given to act with, and what it wants done.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;

use super::join::Mail;
use super::limits::Ledger;
use super::transfer::TransferTo;
use super::{CallId, Cdr, Directory, Notice, Now, SocketId, Trunk, Trunks};
use crate::dialplan::{Hook, Plan, Question};
use crate::sdp::{CodecPolicy, Fingerprint, MediaCommand, RtpSlot, Tone};
use crate::signal::ServerMessage;
use crate::sip::{Advertised, Host, SessionId, Shown, UserAgent};

/// What is the same for all calls.
#[derive(Clone)]
pub struct Settings {
    /// The dial plan.
    pub plan: Arc<Plan>,
    /// How the phones want to be spoken to that are registered here.
    pub phones: Arc<Trunk>,
    /// What our own addresses are called towards trunks.
    pub advertise: Vec<Advertised>,
    /// Our certificate's fingerprint, for the browser's SDP.
    pub fingerprint: Fingerprint,
    /// Codecs for browsers.
    pub policy: CodecPolicy,
    /// The ringing tone a browser hears while the trunk sends none.
    pub ringback: Tone,
    /// Whether digits that come in SIP INFO are also played to the browser's ear.
    pub digits_to_browser: bool,
    /// Whether the log has numbers as they are.
    pub plain_numbers: bool,
    /// How long a called side may ring when the plan does not say.
    pub ring_for: Duration,
    /// How long a call may last when neither plan nor token says less.
    pub longest_call: Duration,
    /// How long a trunk may leave an INVITE without any response before the next trunk is tried.
    pub trunk_silence: Duration,
    /// How long the shell may take to lend media resources.
    pub lease_within: Duration,
    /// How long the media path may take to report its statistics.
    pub stats_within: Duration,
    /// How long a browser that was lost may take to come back; zero: it may not.
    pub resume_within: Duration,
}

impl Settings {
    /// A number, or a user's name, which may be one, as the log may have it.
    pub(crate) const fn shown<'a>(&self, text: &'a str) -> Shown<'a> {
        Shown::new(text, self.plain_numbers)
    }

    /// The host by which trunks know our address `local`.
    pub(super) fn host_of(&self, local: SocketAddr) -> Host {
        match self.advertise.iter().find(|known| known.local == local) {
            Some(known) => known.host.clone(),
            None => ip_host(local.ip()),
        }
    }
}

/// An address as the host of a URI.
pub(super) fn ip_host(ip: IpAddr) -> Host {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Host::V4(ip),
        IpAddr::V6(ip) => Host::V6(ip),
    }
}

/// What a call is given with every event.
pub struct Context<'a> {
    /// The time.
    pub now: Now,
    /// The one SIP user agent.
    pub ua: &'a mut UserAgent,
    /// Randomness, seeded at construction.
    pub rng: &'a mut StdRng,
    /// The trunks as they stand.
    pub trunks: &'a mut Trunks,
    /// What may be called out, and has been.
    pub ledger: &'a mut Ledger,
    /// Where users are at present.
    pub directory: &'a dyn Directory,
    /// What is the same for all calls.
    pub settings: &'a Settings,
    /// Takes what the call wants done, in order.
    pub effects: &'a mut Vec<Effect>,
}

/// What a call wants done outside itself.
#[derive(Debug)]
pub enum Effect {
    /// Tell a browser something.
    Tell {
        /// Which.
        socket: SocketId,
        /// What.
        message: ServerMessage,
    },
    /// Lend media resources.
    Lease {
        /// Which of the call's pairs of RTP ports.
        slot: RtpSlot,
        /// The peers that may be told of them, by the addresses of their signalling. None: no ports are needed.
        peers: Vec<SocketAddr>,
        /// Whether a browser is to be told candidates.
        browser: bool,
    },
    /// Take one pair of RTP ports back.
    ReleaseSlot(RtpSlot),
    /// Ask a web hook; answered by [`Event::Answered`](super::Event::Answered). Once for a call.
    Ask {
        /// Whom, and for how long.
        hook: Hook,
        /// What it is told.
        question: Question,
    },
    /// For the call's media path.
    Media(MediaCommand),
    /// Take all media resources back.
    Release,
    /// The user agent's events for this session are this call's.
    Own(SessionId),
    /// Look for the other call of an attended transfer; answered by [`Event::Paired`](super::Event::Paired).
    Pair(TransferTo),
    /// Tell another call something.
    Forward {
        /// Which.
        to: CallId,
        /// What.
        what: Mail,
    },
    /// The record of the call, once.
    Record(Box<Cdr>),
    /// Tell those who watch.
    Notice(Box<Notice>),
}

impl Context<'_> {
    /// Tells a browser something.
    pub(super) fn tell(&mut self, socket: SocketId, message: ServerMessage) {
        self.effects.push(Effect::Tell { socket, message });
    }

    /// Tells those who watch.
    pub(super) fn notice(&mut self, notice: Notice) {
        self.effects.push(Effect::Notice(Box::new(notice)));
    }

    /// Commands the media path.
    pub(super) fn media(&mut self, command: MediaCommand) {
        self.effects.push(Effect::Media(command));
    }
}
