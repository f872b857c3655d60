//! The plain types that calls and the switch share.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::NumberFormat;
use crate::sdp::Codec;
use crate::sip::{Credentials, Flow, Transport};

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

/// A browser's WebSocket, numbered by the shell and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// Who called whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// A browser called a number.
    Outbound,
    /// A trunk called a user.
    Inbound,
}

/// The media resources of one call, lent by the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Where the browser sends its media: the candidates of our description.
    pub candidates: Vec<SocketAddr>,
    /// The address the trunk is told to send RTP to; RTCP is one port above.
    pub trunk_rtp: SocketAddr,
}

/// Why the shell lent no media resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseRefusal {
    /// Every RTP port is in use or in quarantine.
    NoPort,
    /// No media worker has room.
    NoWorker,
    /// There is no address of the trunk's family.
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
}

/// A SIP peer through which numbers are reached and from which calls come.
#[derive(Clone, Debug)]
pub struct Trunk {
    /// The name by which dial plans know it.
    pub name: String,
    /// Where requests go.
    pub remote: SocketAddr,
    /// Over what.
    pub transport: Transport,
    /// The listener to send from.
    pub local: SocketAddr,
    /// The host of the URIs we send it; the address where there is none.
    pub domain: Option<String>,
    /// For 401 and 407.
    pub credentials: Option<Credentials>,
    /// Codecs to offer, most wanted first.
    pub codecs: Vec<Codec>,
    /// How numbers are written.
    pub number_format: NumberFormat,
    /// How digits travel.
    pub dtmf: DtmfMethod,
    /// Further addresses its requests come from.
    pub allowed_sources: Vec<IpAddr>,
}

impl Trunk {
    /// The flow our own requests start on.
    pub fn flow(&self) -> Flow {
        Flow { transport: self.transport, local: self.local, remote: self.remote, id: 0 }
    }

    /// Whether this trunk may send from `source`. A listener on `[::]` shows IPv4 peers with mapped addresses.
    pub fn sends_from(&self, source: IpAddr) -> bool {
        let is_source = |ip: IpAddr| ip.to_canonical() == source.to_canonical();
        is_source(self.remote.ip()) || self.allowed_sources.iter().copied().any(is_source)
    }
}
