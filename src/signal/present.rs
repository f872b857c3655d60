//! What `welcome` and `incoming` say beside plain texts.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A call of a session that was taken up again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PresentCall {
    /// The client's id of the call, or the gateway's where that called.
    pub call: String,
    /// The gateway's id of the call, the same in its logs and call records.
    pub id: String,
    /// Who called whom.
    pub direction: Course,
    /// Who is on the other side: a number, a name, or `anonymous`.
    pub remote: String,
    /// The caller's name, if he sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How far the call is.
    pub state: CallState,
    /// Whether this browser holds the other side.
    pub held_by_us: bool,
    /// Whether the other side holds this browser.
    pub held_by_them: bool,
    /// For how long, in milliseconds: since the answer, or while there was none since its beginning.
    pub since_ms: u64,
}

/// Who called whom, seen from the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Course {
    /// This browser was called.
    In,
    /// It calls.
    Out,
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CallState {
    /// It calls, and nothing is known of the phone yet.
    Calling,
    /// The phone rings.
    Ringing,
    /// The network plays sound before the phone is answered.
    Early,
    /// The parties talk.
    Answered,
    /// It rings here: its `incoming` follows again.
    Incoming,
}

/// How far a caller's number is vouched for: the levels of attestation of STIR
/// ([RFC 8588](https://www.rfc-editor.org/rfc/rfc8588#section-4) section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Verified {
    /// Who called is known, and may use the number.
    A,
    /// Who called is known.
    B,
    /// Only where the call came from is known.
    C,
}

impl Verified {
    /// The level's letter.
    pub fn as_str(self) -> &'static str {
        match self {
            Verified::A => "A",
            Verified::B => "B",
            Verified::C => "C",
        }
    }
}

/// A STUN or TURN server, as `RTCPeerConnection` takes it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IceServer {
    /// Its addresses, such as `turn:turn.example:3478?transport=udp`.
    pub urls: Vec<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl fmt::Debug for IceServer {
    /// The credential never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer").field("urls", &self.urls).finish_non_exhaustive()
    }
}
