//! SIP: messages, transactions, dialogs and the user agent, without sockets or clocks.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod digest;
mod framing;
mod headers;
mod message;
mod uri;

pub use digest::{Challenge, Credentials, DigestError};
pub use framing::{Frame, FrameError, Framer};
pub use headers::{CSeq, HeaderError, Headers, NameAddr, Via};
pub use message::{Message, Method, ParseError, ParseErrorKind, Request, Response, default_reason};
pub use uri::{Host, Params, Scheme, Uri, UriError};
