//! The messages of the browser protocol v1.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod kind;

pub use kind::ClientKind;

use super::MAX_FRAME;
use super::present::{IceServer, PresentCall, Verified};
use super::quality::{Flow, Grade, Way, Whose};
use super::rules::broken_rule;
use super::values;

/// What a browser sends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClientMessage {
    /// The first message of a session. `call` may follow at once, without waiting for `welcome`.
    Hello {
        /// The signed session token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(max = 8192))]
        token: Option<String>,
        /// The name of the user where the gateway takes sessions without a token; without meaning beside one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(regex(pattern = r"^[A-Za-z0-9._+:@*#~-]{1,64}$"))]
        user: Option<String>,
        /// The secret of an earlier `welcome`: the session goes on, if it still waits; otherwise a new one opens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
        resume: Option<String>,
    },
    /// A fresh token for the session, of the same user.
    Renew {
        /// The signed session token.
        #[schemars(length(max = 8192))]
        token: String,
    },
    /// The browser leaves: the session and its calls end at once, or wait for as long as it says.
    Bye {
        /// For a page that may be loaded anew: how long the session waits to be taken up again, in milliseconds, but no
        /// longer than `grace_ms`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within_ms: Option<u32>,
    },
    /// Call a number.
    Call {
        /// The call's id, of the client's choice and unique in its session.
        #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
        call: String,
        /// What was dialled; the dial plan makes a destination of it.
        #[schemars(length(min = 1, max = 128), extend("pattern" = NO_CONTROLS))]
        to: String,
        /// The browser's offer; candidates need not be in it.
        #[schemars(length(min = 1, max = 32768))]
        sdp: String,
        /// The caller id that the user asks for; the dial plan says whether it may be shown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(regex(pattern = r"^[A-Za-z0-9._+:@*#~-]{1,64}$"))]
        from: Option<String>,
        /// What the page wants the called side to know: to trunks that take it, and in the call's record.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        #[schemars(extend("maxProperties" = 8, "propertyNames" = { "pattern": "^[a-z0-9-]{1,32}$" }, "additionalProperties" = { "type": "string", "maxLength": 256, "pattern": NO_CONTROLS }))]
        params: BTreeMap<String, String>,
    },
    /// What would become of a number, without calling it.
    Check {
        /// What would be dialled.
        #[schemars(length(min = 1, max = 128), extend("pattern" = NO_CONTROLS))]
        to: String,
        /// The caller id that would be asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(regex(pattern = r"^[A-Za-z0-9._+:@*#~-]{1,64}$"))]
        from: Option<String>,
        /// Comes back in the `checked`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n: Option<u64>,
    },
    /// A call with nobody on the other side, to try the way to the gateway.
    Probe {
        /// The call's id, of the client's choice and unique in its session.
        #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
        call: String,
        /// The browser's offer; candidates need not be in it.
        #[schemars(length(min = 1, max = 32768))]
        sdp: String,
    },
    /// A new offer for a call that stands: an ICE restart, or another connection altogether.
    Restart {
        /// The call's id.
        #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
        call: String,
        /// The browser's offer.
        #[schemars(length(min = 1, max = 32768))]
        sdp: String,
    },
    /// What its user thinks of a call, which may just have ended.
    Feedback {
        /// The gateway's id of the call, from `answer` or `incoming`.
        #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
        id: String,
        /// From 1, the worst, to 5.
        #[schemars(range(min = 1, max = 5))]
        score: u8,
        /// What was wrong, such as `one-way`, `choppy`, `delay`, `echo`, `noise` or `dropped`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(regex(pattern = r"^[a-z0-9-]{1,32}$"))]
        issue: Option<String>,
    },
    /// Take an incoming call.
    Accept {
        /// The call's id, from `incoming`.
        #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
        call: String,
        /// The browser's answer to the description in `incoming`.
        #[schemars(length(min = 1, max = 32768))]
        sdp: String,
    },
    /// Refuse an incoming call.
    Reject {
        /// The call's id, from `incoming`.
        #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
        call: String,
        /// 486 busy (the default), 603 declined, 480 unavailable.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(extend("enum" = [486, 603, 480, null]))]
        code: Option<u16>,
    },
    /// A trickled ICE candidate: taken, and not needed, since the gateway is ICE-lite.
    Candidate {
        /// The call's id.
        #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
        call: String,
        /// The value of `RTCIceCandidate.candidate`; empty at the end of candidates.
        #[schemars(length(max = 1024), extend("pattern" = NO_CONTROLS))]
        candidate: String,
        /// The media id that it belongs to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(max = 64), extend("pattern" = NO_CONTROLS))]
        mid: Option<String>,
    },
    /// Play digits to the other side.
    Digits {
        /// The call's id.
        #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
        call: String,
        /// `0-9 * # A-D`, in order.
        #[schemars(regex(pattern = r"^[0-9*#A-D]{1,64}$"))]
        digits: String,
        /// The length of each in milliseconds; 100 unless told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 40, max = 1000))]
        ms: Option<u16>,
    },
    /// Put the other side on hold, or take it back.
    Hold {
        /// The call's id.
        #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
        call: String,
        /// `true` to hold.
        on: bool,
    },
    /// Connect the other side of an answered call with somebody else, and leave it: with a number (`to`), or with the
    /// other side of another answered call of this session (`with`). Exactly one of the two.
    #[schemars(extend("oneOf" = [
        { "required": ["to"], "properties": { "to": { "type": "string" } } },
        { "required": ["with"], "properties": { "with": { "type": "string" } } },
    ]))]
    Transfer {
        /// The call's id.
        #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
        call: String,
        /// Whom to call; the dial plan makes a destination of it, with the rights of this session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1, max = 128), extend("pattern" = NO_CONTROLS))]
        to: Option<String>,
        /// The id of the other call.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
        with: Option<String>,
    },
    /// End a call, whatever its state.
    Hangup {
        /// The call's id.
        #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
        call: String,
    },
    /// Ask for a `pong`.
    Ping {
        /// Comes back in the `pong`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n: Option<u64>,
    },
}

/// No control characters; the schema's form of the rule in [`values`].
const NO_CONTROLS: &str = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$";

/// What the gateway sends.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ServerMessage {
    /// The session is open.
    Welcome {
        /// Who the session is.
        user: String,
        /// The session's id, for logs and support.
        session: String,
        /// The version of the protocol: 1.
        version: u32,
        /// With which a later `hello` takes this session up again; for one use. Absent where sessions end with their socket.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<String>,
        /// How long the session waits for that, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grace_ms: Option<u64>,
        /// When the token runs out, in Unix seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires: Option<u64>,
        /// For `RTCPeerConnection`, where the gateway cannot be reached without; absent where it can.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ice_servers: Vec<IceServer>,
        /// Of a session that was taken up again, and of no other: its calls.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        calls: Option<Vec<PresentCall>>,
    },
    /// The answer to `renew`.
    Renewed {
        /// When the new token runs out, in Unix seconds.
        expires: u64,
    },
    /// The answer to `check`.
    Checked {
        /// From the `check`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n: Option<u64>,
        /// What would be dialled.
        to: String,
        /// Whether it would be called.
        allowed: bool,
        /// The number that it means, as it would be called.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<String>,
        /// What kind of number that is, such as `mobile`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// Why it would not be called: the cause's name, as in `ended`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
        /// The same in words, for a person.
        text: String,
    },
    /// The dial plan took the call: our final description.
    Answer {
        /// The client's id of the call.
        call: String,
        /// The gateway's id of the call, the same in its logs and call records.
        id: String,
        /// Our answer; it does not change when the phone answers.
        sdp: String,
    },
    /// The phone rings.
    Ringing {
        /// The call's id.
        call: String,
    },
    /// The network plays sound before the phone is answered.
    Early {
        /// The call's id.
        call: String,
    },
    /// The phone was answered (an outgoing call), or this browser has the call (an incoming one).
    Answered {
        /// The call's id.
        call: String,
    },
    /// A call comes in.
    Incoming {
        /// The call's id, chosen by the gateway.
        call: String,
        /// The gateway's id of the call, the same in its logs and call records.
        id: String,
        /// The caller's number, or `anonymous`.
        from: String,
        /// The caller's name, if he sent one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The number that was called.
        to: String,
        /// Our offer.
        sdp: String,
        /// What the trunk says about the call, where it is let say anything.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        params: BTreeMap<String, String>,
        /// How far the caller's number is vouched for, by trunks whose word on it is taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verified: Option<Verified>,
    },
    /// One side put the call on hold, or took it back.
    Held {
        /// The call's id.
        call: String,
        /// Who did it.
        by: Holder,
        /// `true` while on hold.
        on: bool,
    },
    /// The other side pressed a key.
    Digit {
        /// The call's id.
        call: String,
        /// One of `0-9 * # A-D`.
        digit: char,
    },
    /// How a transfer by this browser gets on.
    Transfer {
        /// The call's id.
        call: String,
        /// How far it is.
        state: TransferState,
        /// Of one that failed: the SIP status that stands for the reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sip: Option<u16>,
        /// Of one that failed: the reason, for a person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// The other side has connected this browser with somebody else; the call goes on.
    Transferred {
        /// The call's id.
        call: String,
        /// Who is there now: a number, a name, or `anonymous`.
        remote: String,
    },
    /// How an answered call sounds: once a second. A direction is absent while nothing is known of it: nothing comes, or its
    /// receiver has not reported yet.
    Quality {
        /// The call's id.
        call: String,
        /// Both directions taken together.
        grade: Grade,
        /// From mouth to ear, the longer of both directions, estimated, in milliseconds; absent while nobody hears anybody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delay_ms: Option<u16>,
        /// From the gateway to this browser, by the browser's own reports.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        down: Option<Flow>,
        /// From this browser to the gateway.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        up: Option<Flow>,
        /// From the other side to the gateway.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trunk_down: Option<Flow>,
        /// From the gateway to the other side, by its own reports, if it sends any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trunk_up: Option<Flow>,
    },
    /// One direction of an answered call has no sound, and why. It holds until `audio`, or until another takes its place.
    NoAudio {
        /// The call's id.
        call: String,
        /// Which direction.
        way: Way,
        /// On which leg the sound ends.
        at: Whose,
        /// The cause's name, such as `no-rtp`.
        cause: String,
        /// The cause in words, for a person.
        text: String,
    },
    /// The sound is back, or nobody expects it any more (a hold).
    Audio {
        /// The call's id.
        call: String,
        /// Which direction.
        way: Way,
    },
    /// The call is over; nothing follows for it.
    Ended {
        /// The call's id.
        call: String,
        /// Who ended it.
        by: Party,
        /// The cause's name in the gateway's table, such as `busy`.
        cause: String,
        /// The SIP status that stands for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sip: Option<u16>,
        /// The Q.850 cause that stands for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        q850: Option<u8>,
        /// After how many seconds it is worth another try, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u32>,
        /// The cause in words, for a person.
        text: String,
    },
    /// A message was refused. No call ends by it, except that a refused `call` never begins.
    Error {
        /// What was wrong, for a program.
        code: ErrorCode,
        /// What was wrong, for a person.
        text: String,
        /// What the refused message was, when that could be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        re: Option<ClientKind>,
        /// The call that the refused message named, when it could be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<String>,
        /// From a refused `check`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n: Option<u64>,
    },
    /// The answer to `ping`.
    Pong {
        /// From the `ping`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n: Option<u64>,
    },
    /// The servers of `welcome` anew, in time before their credentials run out or as they are others now: for the next call,
    /// and the next ICE restart of a standing one.
    IceServers {
        /// All of them; none: the gateway is reached without.
        ice_servers: Vec<IceServer>,
    },
    /// The gateway is about to stop: it takes no new calls and lets the present ones end.
    Draining {},
}

/// Who ended a call, seen from the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Party {
    /// This browser.
    Us,
    /// The other side.
    Them,
    /// The gateway: refused, out of time, shut down.
    Gateway,
    /// What is between: a trunk out of reach, media lost.
    Network,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TransferState {
    /// It is under way; the other side hears music.
    Asked,
    /// The new party rings.
    Ringing,
    /// The two are connected: `ended` follows.
    Done,
    /// It came to nothing: the call is as it was.
    Failed,
}

/// Who put a call on hold, seen from the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Holder {
    /// This browser.
    Us,
    /// The other side.
    Them,
}

/// What was wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// Not JSON, a field missing, unknown or of the wrong kind, or a value against its rule.
    BadMessage,
    /// The field `type` names no message of this version.
    UnknownType,
    /// The frame is longer than 64 KiB.
    TooLong,
    /// Something other than `hello` came first, or a second `hello`.
    BadOrder,
    /// The token is missing, expired or not genuine; the session ends.
    Unauthorized,
    /// The session may not do this.
    Forbidden,
    /// No call of this id in the session.
    UnknownCall,
    /// A call of this id exists already.
    DuplicateCall,
    /// The call is in a state in which this cannot be done.
    WrongState,
    /// The session description cannot be used.
    BadSdp,
    /// The session has as many calls as it may have.
    TooManyCalls,
    /// This was asked too often; later it is answered again.
    TooOften,
}

impl ErrorCode {
    /// The code as it stands in the message.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BadMessage => "bad-message",
            ErrorCode::UnknownType => "unknown-type",
            ErrorCode::TooLong => "too-long",
            ErrorCode::BadOrder => "bad-order",
            ErrorCode::Unauthorized => "unauthorized",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::UnknownCall => "unknown-call",
            ErrorCode::DuplicateCall => "duplicate-call",
            ErrorCode::WrongState => "wrong-state",
            ErrorCode::BadSdp => "bad-sdp",
            ErrorCode::TooManyCalls => "too-many-calls",
            ErrorCode::TooOften => "too-often",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a frame is no message; [`MessageError::into_message`] is what its sender gets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {text}")]
pub struct MessageError {
    /// For a program.
    pub code: ErrorCode,
    /// For a person, at most 200 characters.
    pub text: String,
    /// What the frame was, when that could be read.
    pub re: Option<ClientKind>,
    /// The call that the frame named, when that could be read.
    pub call: Option<String>,
}

impl MessageError {
    /// The one `error` message that answers the frame.
    pub fn into_message(self) -> ServerMessage {
        ServerMessage::Error { code: self.code, text: self.text, re: self.re, call: self.call, n: None }
    }
}

impl ClientMessage {
    /// Reads one text frame, strictly: unknown types and fields are errors, and each value obeys its rule.
    ///
    /// # Errors
    /// [`MessageError`], which names the call when the frame was JSON and had a valid `call`.
    pub fn parse(frame: &str) -> Result<ClientMessage, MessageError> {
        if frame.len() > MAX_FRAME {
            let text = format!("a frame may have {MAX_FRAME} bytes, this one has {}", frame.len());
            return Err(MessageError { code: ErrorCode::TooLong, text, re: None, call: None });
        }
        let message: ClientMessage = serde_json::from_str(frame).map_err(|error| explain(frame, &error))?;
        match broken_rule(&message) {
            None => Ok(message),
            Some(text) => {
                let call = message.call().filter(|call| values::valid_call_id(call)).map(str::to_owned);
                let re = Some(message.kind());
                Err(MessageError { code: ErrorCode::BadMessage, text: text.to_owned(), re, call })
            }
        }
    }

    /// The call that the message is about.
    pub fn call(&self) -> Option<&str> {
        match self {
            ClientMessage::Call { call, .. }
            | ClientMessage::Probe { call, .. }
            | ClientMessage::Restart { call, .. }
            | ClientMessage::Accept { call, .. }
            | ClientMessage::Reject { call, .. }
            | ClientMessage::Candidate { call, .. }
            | ClientMessage::Digits { call, .. }
            | ClientMessage::Hold { call, .. }
            | ClientMessage::Transfer { call, .. }
            | ClientMessage::Hangup { call } => Some(call),
            ClientMessage::Hello { .. }
            | ClientMessage::Renew { .. }
            | ClientMessage::Bye { .. }
            | ClientMessage::Check { .. }
            | ClientMessage::Feedback { .. }
            | ClientMessage::Ping { .. } => None,
        }
    }

    /// The message as a text frame.
    pub fn to_json(&self) -> String {
        // Strings, numbers and booleans under fixed names: serde_json has nothing to refuse.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Says what is wrong with a frame that serde refused, and for which call.
fn explain(frame: &str, error: &serde_json::Error) -> MessageError {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(frame) else {
        let text = shorten(&format!("not JSON: {error}"));
        return MessageError { code: ErrorCode::BadMessage, text, re: None, call: None };
    };
    let call = value
        .get("call")
        .and_then(serde_json::Value::as_str)
        .filter(|call| values::valid_call_id(call))
        .map(str::to_owned);
    let name = value.get("type").and_then(serde_json::Value::as_str);
    let re = name.and_then(ClientKind::named);
    let (code, text) = match (name, re) {
        (None, _) if !value.is_object() => (ErrorCode::BadMessage, "a message is a JSON object".to_owned()),
        (None, _) => (ErrorCode::BadMessage, "type: a message says what it is".to_owned()),
        (Some(name), None) => {
            let known = ClientKind::ALL.map(ClientKind::as_str).join(", ");
            (ErrorCode::UnknownType, shorten(&format!("type: {name:?} is none of {known}")))
        }
        (Some(name), Some(_)) => (ErrorCode::BadMessage, shorten(&format!("{name}: {error}"))),
    };
    MessageError { code, text, re, call }
}

/// At most 200 characters: what we say about a frame is never as long as the frame.
fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

impl ServerMessage {
    /// The message as a text frame.
    pub fn to_json(&self) -> String {
        // Strings, numbers and booleans under fixed names: serde_json has nothing to refuse.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The call that the message is about.
    pub fn call(&self) -> Option<&str> {
        match self {
            ServerMessage::Answer { call, .. }
            | ServerMessage::Ringing { call }
            | ServerMessage::Early { call }
            | ServerMessage::Answered { call }
            | ServerMessage::Incoming { call, .. }
            | ServerMessage::Held { call, .. }
            | ServerMessage::Digit { call, .. }
            | ServerMessage::Transfer { call, .. }
            | ServerMessage::Transferred { call, .. }
            | ServerMessage::Quality { call, .. }
            | ServerMessage::NoAudio { call, .. }
            | ServerMessage::Audio { call, .. }
            | ServerMessage::Ended { call, .. } => Some(call),
            ServerMessage::Error { call, .. } => call.as_deref(),
            ServerMessage::Welcome { .. }
            | ServerMessage::Renewed { .. }
            | ServerMessage::Checked { .. }
            | ServerMessage::Pong { .. }
            | ServerMessage::IceServers { .. }
            | ServerMessage::Draining {} => None,
        }
    }
}

#[cfg(test)]
mod tests;
