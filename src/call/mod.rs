//! The call: two parties (a back-to-back user agent), each a browser or a SIP peer, one state machine for all of it.
//!
//! - [`state`]: `Screening, Routing, Inviting, Early, Established, Releasing`, each consumed by what happens next.
//! - [`leg`]: what a call asks of a party; [`browser_leg`] and [`trunk_leg`] answer in their protocols.
//! - `hunt`: those who are called at once; the first to answer has the call.
//! - [`cause`]: why a call ended, one table; [`record`]: the line written down about it.
//!
//! A call knows no socket and no clock: [`Context`] brings the time, the SIP user agent and the dial plan, and takes
//! what the call wants done ([`Effect`]).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod audio;
mod begin;
pub mod browser_leg;
pub mod canary;
pub mod cause;
pub mod context;
mod core;
mod description;
pub mod digits;
pub mod directory;
mod established;
mod fetch;
mod hunt;
pub mod identity;
pub mod join;
pub mod leg;
pub mod limits;
pub mod notice;
pub mod number;
pub mod operate;
pub mod params;
mod party;
mod presence;
mod present;
mod probe;
pub mod record;
mod refer_in;
mod reoffer;
pub mod route;
pub mod screening;
pub mod slots;
pub mod state;
pub mod transfer;
pub mod trunk_leg;
pub mod trunk_sdp;
pub mod trunks;
mod turns;
pub mod types;
pub mod view;

pub use crate::sdp::{Network, NetworkError};
pub use browser_leg::BrowserEvent;
pub use cause::{Cause, Origin, Special};
pub use context::{Context, Effect, Settings};
pub use directory::{Directory, Phone};
pub use fetch::FetchRequest;
pub use identity::{Asserted, FromUser, Identity};
pub use join::{Mail, Transferor};
pub use notice::{End, NOTICES, Notice};
pub use number::NumberFormat;
pub use operate::{Act, Refusal};
pub use params::Params;
pub(crate) use probe::{Probe, ProbeRequest};
pub use record::{
    Cdr, Codecs, LegRecord, LegSound, MediaRecord, NoAudioRecord, Parties, Score, TransferRecord, TrunkTried,
};
pub(crate) use screening::foresee;
pub use screening::{Foreseen, InboundRequest, Origination, OutboundRequest, PhoneRequest, Rights, Wish};
pub use state::{Call, Event};
pub use transfer::TransferTo;
pub(crate) use trunk_leg::session_of;
pub use trunks::{Refused, Trunks};
pub use types::{
    CallId, Direction, DtmfMethod, Lease, LeaseRefusal, Now, Redirects, Refer, ReferIn, Register, SocketId, Trunk,
    TrunkLimits,
};
pub use view::{CallView, LegKind, LegView, Phase};
