//! SIP: messages, transactions, dialogs and the user agent, without sockets or clocks.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod authority;
mod dialog;
pub mod digest;
mod flow;
mod framing;
mod headers;
pub mod locate;
mod mask;
mod message;
pub mod register;
pub mod registrar;
mod schedule;
mod target;
mod throttle;
pub mod transaction;
pub mod ua;
mod uri;

pub use dialog::{Dialog, OutOfOrder};
pub use digest::{Challenge, Credentials, DigestError};
pub use flow::{Flow, Transport};
pub use framing::{Frame, FrameError, Framer};
pub use headers::{CSeq, HeaderError, Headers, NameAddr, Via};
pub use locate::{Listener, Located};
pub use mask::Shown;
pub use message::{Message, Method, ParseError, ParseErrorKind, Request, Response, default_reason};
pub use target::{ResolveError, Target, TrunkDns};
pub use transaction::Timers;
pub use ua::{
    Advertised, Body, DialogInfo, DialogNote, EndedBy, Failure, Invite, LeftDialog, OutOfDialog, ReferId, ReferTo,
    Refresher, Reliable, Replaces, RequestId, ServerRequestId, SessionId, SessionOptions, SessionTimer, UaConfig,
    UaError, UaEvent, UaOutput, UserAgent,
};
pub use uri::{Host, Params, Scheme, Uri, UriError};
