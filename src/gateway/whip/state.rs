//! How a call of WHIP stands, for its client and for those who look at it.

use serde::Serialize;

use crate::signal::{Party, ServerMessage};

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Course {
    /// It calls, and nothing is known of the phone yet.
    Calling,
    /// The phone rings.
    Ringing,
    /// The network plays sound before the answer.
    Early,
    /// The parties talk.
    Answered,
    /// It is over.
    Ended,
}

impl Course {
    /// The word for it, as in the JSON.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Course::Calling => "calling",
            Course::Ringing => "ringing",
            Course::Early => "early",
            Course::Answered => "answered",
            Course::Ended => "ended",
        }
    }
}

/// Why a call ended, as the browser protocol tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Ended {
    pub(super) by: Party,
    pub(super) cause: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sip: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) q850: Option<u8>,
    /// Seconds: a header field of its own.
    #[serde(skip)]
    pub(super) retry_after: Option<u32>,
    pub(super) text: String,
}

impl Ended {
    /// The gateway has let go of the session without a word: it stops.
    pub(super) fn by_shutdown() -> Ended {
        let text = "The gateway stops".to_owned();
        Ended { by: Party::Gateway, cause: "shutdown".into(), sip: Some(503), q850: Some(41), retry_after: None, text }
    }
}

/// How a call stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct CallState {
    /// The gateway's id of the call, the same in its log and call records.
    pub(super) id: String,
    pub(super) state: Course,
    /// Whether the other side has put this one on hold.
    pub(super) held: bool,
    #[serde(skip)]
    pub(super) ended: Option<Ended>,
}

impl CallState {
    pub(super) fn new(id: String) -> CallState {
        CallState { id, state: Course::Calling, held: false, ended: None }
    }

    /// Takes what the gateway says; `false`: nothing of this changes by it.
    pub(super) fn take(&mut self, message: &ServerMessage) -> bool {
        let before = self.clone();
        match message {
            ServerMessage::Ringing { .. } => self.state = Course::Ringing,
            ServerMessage::Early { .. } => self.state = Course::Early,
            ServerMessage::Answered { .. } => self.state = Course::Answered,
            ServerMessage::Held { by: crate::signal::Holder::Them, on, .. } => self.held = *on,
            ServerMessage::Ended { by, cause, sip, q850, retry_after, text, .. } => {
                let (cause, text) = (cause.clone(), text.clone());
                self.end(Ended { by: *by, cause, sip: *sip, q850: *q850, retry_after: *retry_after, text });
            }
            _ => return false,
        }
        *self != before
    }

    pub(super) fn end(&mut self, ended: Ended) {
        self.state = Course::Ended;
        self.ended = Some(ended);
    }
}
