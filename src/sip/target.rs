//! Where a peer is reached: what [RFC 3263](https://www.rfc-editor.org/rfc/rfc3263) makes of its name.

use std::fmt;
use std::net::SocketAddr;

use thiserror::Error;

use super::{Flow, Transport};

/// One address at which a peer is reached, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Over what.
    pub transport: Transport,
    /// The listener to send from.
    pub local: SocketAddr,
    /// The peer.
    pub remote: SocketAddr,
    /// For TLS: the name that its certificate must have, which is the one looked up (RFC 5922 section 4).
    pub server_name: Option<String>,
}

impl Target {
    /// The flow our own requests start on.
    pub fn flow(&self) -> Flow {
        Flow { transport: self.transport, local: self.local, remote: self.remote, id: 0 }
    }
}

/// A trunk's name as it is to be looked up ([RFC 3263 section 4](https://www.rfc-editor.org/rfc/rfc3263#section-4)).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrunkDns {
    /// The host name.
    pub host: String,
    /// With a port there is no NAPTR and no SRV look-up.
    pub port: Option<u16>,
    /// With a transport there is no NAPTR look-up.
    pub transport: Option<Transport>,
}

impl fmt::Display for TrunkDns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host)?,
            Some(port) => write!(f, "{}:{port}", self.host)?,
            None => f.write_str(&self.host)?,
        }
        match self.transport {
            Some(transport) => write!(f, " over {transport}"),
            None => f.write_str(" over what the DNS says, else udp"),
        }
    }
}

/// Why a name gave no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The name does not exist or has no usable record.
    #[error("the name has no address")]
    NotFound,
    /// There are addresses, but no listener of ours has their transport and address family.
    #[error("no listener has the transport and address family of what the name gives")]
    NoListener,
    /// The name servers did not answer, or not in time.
    #[error("the name servers did not answer")]
    Unanswered,
}
