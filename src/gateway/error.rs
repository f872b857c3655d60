//! Why the gateway cannot run, each with what to do about it.

use std::net::SocketAddr;

use thiserror::Error;

/// Why the gateway cannot run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// An address could not be bound.
    #[error("cannot listen on {address} for {what}: {source}{}", hint(.source, .key))]
    Bind {
        /// what for, in words
        what: &'static str,
        /// where
        address: SocketAddr,
        /// the key that changes it
        key: &'static str,
        /// what the system said
        source: std::io::Error,
    },
    /// A trunk's host name could not be resolved.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// A media worker could not start.
    #[error("cannot start a media worker on {address}: {source}; see [media] browser")]
    Worker {
        /// the UDP address for browsers
        address: SocketAddr,
        /// why
        source: crate::worker::WorkerError,
    },
    /// The certificate for DTLS could not be made.
    #[error("cannot make the DTLS certificate: {0}")]
    Identity(#[from] crate::webrtc::IdentityError),
    /// A place for CDRs could not be opened.
    #[error("cannot write CDRs to {}: {source}; see [cdr]", path.display())]
    Cdr {
        /// the file
        path: std::path::PathBuf,
        /// what the system or the database said
        source: std::io::Error,
    },
    /// The control socket cannot be had.
    #[error("cannot listen on {}: {source}; choose another by [control] socket", path.display())]
    Control {
        /// where
        path: std::path::PathBuf,
        /// what the system said; in use: another gateway answers there
        source: std::io::Error,
    },
    /// The journal cannot be had.
    #[error("cannot write the journal {}: {source}; choose another place by [journal] file", path.display())]
    Journal {
        /// where
        path: std::path::PathBuf,
        /// what the system said; busy: another gateway has it
        source: std::io::Error,
    },
    /// The store cannot be had.
    #[error("cannot use the store {}: {reason}; choose another place by [store] path", path.display())]
    Store {
        /// where
        path: std::path::PathBuf,
        /// what the system or SQLite said; locked: another gateway has it
        reason: String,
    },
    /// The built-in test phone could not start.
    #[error("cannot start the test phone: {0}")]
    TestPhone(#[source] std::io::Error),
    /// A bound address could not be read back.
    #[error("cannot read the address of a listener: {0}")]
    Address(#[source] std::io::Error),
    /// Without tokens, and reachable from other machines.
    #[error(
        "without tokens the gateway listens on a loopback address only, and {0} is none: anyone who reaches it could call; \
         see [auth] in docs/configuration.md"
    )]
    OpenToTheWorld(SocketAddr),
    /// The network could not be asked for this machine's own addresses.
    #[error("cannot find an address of this machine to give to {0}; say which by `advertise`")]
    NoAddress(&'static str),
}

fn hint(source: &std::io::Error, key: &str) -> String {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("; another program (or another ringback) has this port: end it, or choose another by {key}")
        }
        std::io::ErrorKind::AddrNotAvailable => format!("; this machine has no such address: correct {key}"),
        std::io::ErrorKind::PermissionDenied => format!("; ports below 1024 need a privilege: choose another by {key}"),
        _ => format!("; see {key}"),
    }
}
