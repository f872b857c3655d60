//! How a switch is set up.

use std::sync::Arc;
use std::time::Duration;

use super::PhonesConfig;
use crate::call::Trunk;
use crate::call::limits::Quotas;
use crate::dialplan::Plan;
use crate::sdp::{CodecPolicy, Fingerprint, Tone};
use crate::signal::{TokenVerifier, Turn};
use crate::sip::UaConfig;

/// Calls to emergency numbers at once, for which there is room beyond [`SwitchLimits::calls`]; they take none of that.
pub const EMERGENCY_ROOM: usize = 16;

/// Probes at once, of all sessions, for which there is room beyond [`SwitchLimits::calls`]; they take none of that.
pub const PROBE_ROOM: usize = 32;

/// How browsers are let in.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Without a token: a browser says who it is. For the embedded default only.
    Open,
    /// With a signed token.
    Token(TokenVerifier),
}

/// Everything a switch needs to know.
#[derive(Clone, Debug)]
pub struct SwitchConfig {
    /// The trunks; an incoming request belongs to the first whose address it comes from.
    pub trunks: Vec<Trunk>,
    /// The registrar of users' phones; `None`: there is none, and strangers' REGISTERs get silence.
    pub phones: Option<PhonesConfig>,
    /// The dial plan.
    pub plan: Arc<Plan>,
    /// The fingerprint of our certificate.
    pub fingerprint: Fingerprint,
    /// How browsers are let in.
    pub auth: Auth,
    /// The TURN servers that browsers are told of.
    pub turn: Option<Turn>,
    /// The SIP user agent.
    pub ua: UaConfig,
    /// Codecs for browsers.
    pub policy: CodecPolicy,
    /// How much there may be of everything, and for how long.
    pub limits: SwitchLimits,
    /// How much may be called out by trunks.
    pub quotas: Quotas,
    /// How long a socket may stay without a session.
    pub hello_timeout: Duration,
    /// For ids, tags, ICE passwords: everything random comes from it.
    pub seed: [u8; 32],
}

/// How much there may be of everything, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchLimits {
    /// Calls in all.
    pub calls: usize,
    /// Sockets in all.
    pub sockets: usize,
    /// Open sessions of one user.
    pub sockets_per_user: usize,
    /// Calls of one socket, those that ring there among them.
    pub calls_per_socket: usize,
    /// How long a phone may ring when the dial plan does not say.
    pub ring_for: Duration,
    /// The longest call.
    pub longest_call: Duration,
    /// How long a trunk may leave an INVITE without any response before the next one is tried.
    pub trunk_silence: Duration,
    /// How long the shell may take to lend media resources.
    pub lease_within: Duration,
    /// How long the media path may take to report its statistics at the end.
    pub stats_within: Duration,
    /// How long a session waits for its browser after its socket was lost, and its calls stand; zero: not at all.
    pub resume_within: Duration,
    /// The ringing tone browsers hear while the trunk sends none.
    pub ringback: Tone,
    /// Whether digits from a trunk's SIP INFO are also played to the browser's ear.
    pub digits_to_browser: bool,
    /// Whether the log has numbers as they are, instead of with stars.
    pub plain_numbers: bool,
}

impl Default for SwitchLimits {
    fn default() -> Self {
        SwitchLimits {
            calls: 1000,
            sockets: 10_000,
            sockets_per_user: 16,
            calls_per_socket: 8,
            ring_for: Duration::from_secs(120),
            longest_call: Duration::from_secs(12 * 3600),
            trunk_silence: Duration::from_secs(2),
            lease_within: Duration::from_secs(5),
            stats_within: Duration::from_secs(1),
            resume_within: Duration::from_secs(30),
            ringback: Tone::Us,
            digits_to_browser: true,
            plain_numbers: false,
        }
    }
}
