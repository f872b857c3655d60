//! The plain types that calls and the switch share.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Identity, Network, NumberFormat};
use crate::sdp::{Codec, InBand, Pass, SrtpPolicy};
use crate::sip::{Credentials, Host, SessionOptions, Target, TrunkDns};

/// The time, as given to every entry of the core: a monotonic instant for timers and the date for records and tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For timers.
    pub instant: Instant,
    /// Milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
}

/// A call's id, random; in text (logs, records, `answer.id`) 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for CallId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<CallId, Self::Err> {
        // Sign and other lengths are not how an id is written: what they stand for is the number of no call.
        let written =
            text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        u64::from_str_radix(if written { text } else { "" }, 16).map(CallId)
    }
}

/// A browser's WebSocket, numbered by the shell and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// Who called whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// A browser called a number.
    Outbound,
    /// A trunk called a user.
    Inbound,
}

/// Media resources for one slot of a call, lent by the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Where a browser sends its media: the candidates of our description. Empty where none were asked for.
    pub candidates: Vec<SocketAddr>,
    /// What the ufrags begin with that browsers are told: whose calls they are, where several threads share a port.
    pub ufrag_mark: char,
    /// The address that each peer is told to send RTP to, in the order they were asked for; RTCP is one port above. It is one
    /// pair of ports by several names. `None`: our media has no address of that peer's family.
    pub rtp: Vec<Option<SocketAddr>>,
}

/// Why the shell lent no media resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseRefusal {
    /// Every RTP port is in use or in quarantine.
    NoPort,
    /// No media worker has room.
    NoWorker,
    /// There is no address of any peer's family.
    AddressFamily,
}

/// How digits travel on a trunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DtmfMethod {
    /// In RTP ([RFC 4733](https://www.rfc-editor.org/rfc/rfc4733)); in SIP INFO where the trunk did not negotiate it.
    #[default]
    Rfc4733,
    /// In SIP INFO (`application/dtmf-relay`).
    Info,
    /// As tones in the sound.
    InBand,
    /// In RTP; as tones in the sound where the trunk did not negotiate it.
    Auto,
}

/// A SIP peer through which numbers are reached and from which calls come: what the configuration says of it. What is
/// known of it at a moment is in [`Trunks`](super::Trunks).
#[derive(Clone, Debug)]
pub struct Trunk {
    /// The name by which dial plans know it.
    pub name: String,
    /// Where it is reached, as far as that is known from the configuration: empty where `dns` is to be asked.
    pub targets: Vec<Target>,
    /// The name under which it is to be looked up.
    pub dns: Option<TrunkDns>,
    /// The host of the URIs we send it; the address where there is none.
    pub domain: Option<Host>,
    /// Our own host in From and in what asserts an identity; where there is none, `domain`.
    pub from_domain: Option<Host>,
    /// For 401 and 407.
    pub credentials: Option<Credentials>,
    /// Codecs to offer, most wanted first.
    pub codecs: Vec<Codec>,
    /// Milliseconds of audio in our packets: 10 to 60.
    pub ptime: u8,
    /// Whether its G.711 is passed on as it comes.
    pub pass: Pass,
    /// Whether its media is encrypted, by keys in the description (SDES).
    pub srtp: SrtpPolicy,
    /// How numbers are written.
    pub number_format: NumberFormat,
    /// How digits travel.
    pub dtmf: DtmfMethod,
    /// Whether digits that come as tones are kept out of the sound whole, which delays it (see [`InBand`]).
    pub dtmf_suppress: bool,
    /// How it is told who calls, and what it is believed.
    pub identity: Identity,
    /// Further networks its requests come from.
    pub sources: Vec<Network>,
    /// Further networks its media comes from.
    pub media_sources: Vec<Network>,
    /// Whether it is told the parameters of calls, and says its own (`X-Param-NAME`).
    pub params: bool,
    /// Header fields for our INVITEs to it.
    pub headers: Vec<(String, String)>,
    /// Reliable provisional responses and the session timer; `replaces` and `referred_by` are a call's own.
    pub options: SessionOptions,
    /// Never over TCP, however long a request (RFC 3261 section 18.1.1 would switch above 1,300 bytes).
    pub udp_only: bool,
    /// How calls of its are transferred.
    pub refer: Refer,
    /// What becomes of its own REFERs.
    pub refer_in: ReferIn,
    /// Whether its 3xx are followed.
    pub redirects: Redirects,
    /// How much it takes.
    pub limits: TrunkLimits,
    /// How often it is asked whether it is there; `None`: never.
    pub options_every: Option<Duration>,
    /// How we make ourselves known to it, where it wants a registration.
    pub register: Option<Register>,
}

/// How a call with a trunk is transferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refer {
    /// The trunk is asked to (RFC 3515); if it refuses, we call the new party ourselves.
    #[default]
    Ask,
    /// We call the new party ourselves and stay in between.
    Never,
}

/// What becomes of a trunk's REFER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReferIn {
    /// Refused with 603.
    Off,
    /// Followed: the new party is called as the dial plan says, with the rights of the user whose call it is.
    #[default]
    Follow,
}

/// What becomes of a trunk's 3xx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirects {
    /// A refusal like any other.
    Off,
    /// Followed where a Contact names a party of the same trunk.
    #[default]
    Trunk,
}

/// How much a trunk takes; `None`: no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrunkLimits {
    /// Calls at once, both directions together.
    pub calls: Option<u32>,
    /// New calls a second, both directions together; bursts of as many are taken.
    pub calls_per_second: Option<u32>,
}

/// A registration ([RFC 3261 section 10](https://www.rfc-editor.org/rfc/rfc3261#section-10)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Whose address is registered: the user part of the address of record.
    pub user: String,
    /// The user part of our Contact, to which the trunk then sends calls.
    pub contact_user: String,
    /// For how many seconds; the registrar may grant others.
    pub expires: u32,
}

impl Trunk {
    /// Whether telephone-event is offered and taken.
    pub(super) fn telephone_event(&self) -> bool {
        matches!(self.dtmf, DtmfMethod::Rfc4733 | DtmfMethod::Auto)
    }

    /// Digits as tones, where they do not go in RTP.
    pub(super) fn inband(&self) -> Option<InBand> {
        let inband = matches!(self.dtmf, DtmfMethod::InBand | DtmfMethod::Auto);
        inband.then_some(InBand { suppress: self.dtmf_suppress })
    }

    /// Whether the other one is reached, and registered with, in the same way.
    pub fn is_where(&self, other: &Trunk) -> bool {
        let account = |trunk: &Trunk| {
            let register = trunk.register.clone()?;
            Some((register, trunk.credentials.clone(), trunk.domain.clone()))
        };
        self.dns == other.dns && self.targets == other.targets && account(self) == account(other)
    }

    /// Whether a registration of this one takes the place of the other's: the same Contact of the same user, there.
    pub fn registers_as(&self, other: &Trunk) -> bool {
        let binding = |trunk: &Trunk| trunk.register.as_ref().map(|it| (it.user.clone(), it.contact_user.clone()));
        let place = |trunk: &Trunk| (trunk.dns.clone(), trunk.targets.clone(), trunk.domain.clone());
        binding(self).is_some() && binding(self) == binding(other) && place(self) == place(other)
    }

    /// A trunk of which nothing is known but its name: no address, and everything else as it is without configuration.
    pub fn new(name: &str) -> Trunk {
        Trunk {
            name: name.to_owned(),
            targets: Vec::new(),
            dns: None,
            domain: None,
            from_domain: None,
            credentials: None,
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            ptime: 20,
            pass: Pass::default(),
            srtp: SrtpPolicy::default(),
            number_format: NumberFormat::E164,
            dtmf: DtmfMethod::Rfc4733,
            dtmf_suppress: false,
            identity: Identity::default(),
            sources: Vec::new(),
            media_sources: Vec::new(),
            params: false,
            headers: Vec::new(),
            options: SessionOptions::default(),
            udp_only: false,
            refer: Refer::default(),
            refer_in: ReferIn::default(),
            redirects: Redirects::default(),
            limits: TrunkLimits::default(),
            options_every: None,
            register: None,
        }
    }
}
