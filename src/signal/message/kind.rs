//! The kinds of messages that a browser sends, by the names that they have on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ClientMessage;

/// What a client's message is: its field `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientKind {
    /// [`ClientMessage::Hello`]
    Hello,
    /// [`ClientMessage::Renew`]
    Renew,
    /// [`ClientMessage::Bye`]
    Bye,
    /// [`ClientMessage::Call`]
    Call,
    /// [`ClientMessage::Check`]
    Check,
    /// [`ClientMessage::Probe`]
    Probe,
    /// [`ClientMessage::Restart`]
    Restart,
    /// [`ClientMessage::Feedback`]
    Feedback,
    /// [`ClientMessage::Accept`]
    Accept,
    /// [`ClientMessage::Reject`]
    Reject,
    /// [`ClientMessage::Candidate`]
    Candidate,
    /// [`ClientMessage::Digits`]
    Digits,
    /// [`ClientMessage::Hold`]
    Hold,
    /// [`ClientMessage::Transfer`]
    Transfer,
    /// [`ClientMessage::Hangup`]
    Hangup,
    /// [`ClientMessage::Ping`]
    Ping,
}

impl ClientKind {
    /// Every kind there is.
    pub const ALL: [ClientKind; 16] = [
        ClientKind::Hello,
        ClientKind::Renew,
        ClientKind::Bye,
        ClientKind::Call,
        ClientKind::Check,
        ClientKind::Probe,
        ClientKind::Restart,
        ClientKind::Feedback,
        ClientKind::Accept,
        ClientKind::Reject,
        ClientKind::Candidate,
        ClientKind::Digits,
        ClientKind::Hold,
        ClientKind::Transfer,
        ClientKind::Hangup,
        ClientKind::Ping,
    ];

    /// The kind of this name.
    pub fn named(name: &str) -> Option<ClientKind> {
        ClientKind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The name, as it stands in `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            ClientKind::Hello => "hello",
            ClientKind::Renew => "renew",
            ClientKind::Bye => "bye",
            ClientKind::Call => "call",
            ClientKind::Check => "check",
            ClientKind::Probe => "probe",
            ClientKind::Restart => "restart",
            ClientKind::Feedback => "feedback",
            ClientKind::Accept => "accept",
            ClientKind::Reject => "reject",
            ClientKind::Candidate => "candidate",
            ClientKind::Digits => "digits",
            ClientKind::Hold => "hold",
            ClientKind::Transfer => "transfer",
            ClientKind::Hangup => "hangup",
            ClientKind::Ping => "ping",
        }
    }
}

impl ClientMessage {
    /// What the message is.
    pub fn kind(&self) -> ClientKind {
        match self {
            ClientMessage::Hello { .. } => ClientKind::Hello,
            ClientMessage::Renew { .. } => ClientKind::Renew,
            ClientMessage::Bye { .. } => ClientKind::Bye,
            ClientMessage::Call { .. } => ClientKind::Call,
            ClientMessage::Check { .. } => ClientKind::Check,
            ClientMessage::Probe { .. } => ClientKind::Probe,
            ClientMessage::Restart { .. } => ClientKind::Restart,
            ClientMessage::Feedback { .. } => ClientKind::Feedback,
            ClientMessage::Accept { .. } => ClientKind::Accept,
            ClientMessage::Reject { .. } => ClientKind::Reject,
            ClientMessage::Candidate { .. } => ClientKind::Candidate,
            ClientMessage::Digits { .. } => ClientKind::Digits,
            ClientMessage::Hold { .. } => ClientKind::Hold,
            ClientMessage::Transfer { .. } => ClientKind::Transfer,
            ClientMessage::Hangup { .. } => ClientKind::Hangup,
            ClientMessage::Ping { .. } => ClientKind::Ping,
        }
    }
}
