//! The browser protocol v1 and its session tokens.
//!
//! Messages are JSON objects, one per WebSocket text frame, told apart by their field `type`
//! (`docs/browser-protocol.md` tells each flow, `docs/browser-protocol.schema.json` is generated from the types here).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod message;
pub mod present;
pub mod quality;
mod redact;
pub mod rules;
pub mod schema;
pub mod token;
pub mod turn;
pub mod values;

pub use message::{ClientKind, ClientMessage, ErrorCode, Holder, MessageError, Party, ServerMessage, TransferState};
pub use present::{CallState, Course, IceServer, PresentCall, Verified};
pub use quality::{Flow, Grade, Way, Whose};
pub use redact::Veiled;
pub use schema::json_schema;
pub use token::{Claims, TokenError, TokenVerifier, sign_hs256};
pub use turn::Turn;
pub use values::{
    valid_call_id, valid_destination, valid_digits, valid_display_name, valid_header_value, valid_number,
    valid_param_name, valid_param_value, valid_user,
};

/// The name of the WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "ringback.v1";

/// The version that `welcome` names.
pub const VERSION: u32 = 1;

/// The longest frame that is read, in bytes.
pub const MAX_FRAME: usize = 64 * 1024;
