//! The call: a browser's leg and a trunk's leg (a back-to-back user agent), one state machine for both directions.
//!
//! - [`state`]: `Screening, Routing, Inviting, Early, Established, Releasing`, each consumed by what happens next.
//! - [`leg`]: what the state machine asks of either party; [`browser_leg`] and [`trunk_leg`] answer in their protocols.
//! - [`cause`]: why a call ended, one table; [`record`]: the line written down about it.
//!
//! A call knows no socket and no clock: [`Context`] brings the time, the SIP user agent and the dial plan, and takes
//! what the call wants done ([`Effect`]).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod browser_leg;
pub mod cause;
pub mod context;
pub mod digits;
pub mod identity;
pub mod leg;
pub mod number;
pub mod record;
pub mod screening;
pub mod state;
pub mod trunk_leg;
pub mod trunk_sdp;
pub mod trunks;
pub mod types;

pub use crate::sdp::{Network, NetworkError};
pub use browser_leg::BrowserEvent;
pub use cause::{Cause, Origin, Special};
pub use context::{Context, Effect, Settings};
pub use identity::{Asserted, FromUser, Identity};
pub use number::NumberFormat;
pub use record::{Cdr, Codecs, LegRecord, MediaRecord, TrunkTried};
pub use screening::{InboundRequest, OutboundRequest};
pub use state::{Call, Event};
pub(crate) use trunk_leg::session_of;
pub use trunks::{Refused, Trunks};
pub use types::{
    CallId, Direction, DtmfMethod, Lease, LeaseRefusal, Now, Redirects, Refer, ReferIn, Register, SocketId, Trunk,
    TrunkLimits,
};
