//! What is told of calls and trunks to whoever watches: web hooks, event streams. One line of JSON each.

use schemars::JsonSchema;
use serde::Serialize;

use super::{CallId, Cdr, Direction};
use crate::sdp::Side;

/// One of the two sides of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// Who called; of a call that was asked for, the user who was rung first.
    A,
    /// Who was called.
    B,
}

impl From<Side> for End {
    fn from(side: Side) -> End {
        match side {
            Side::A => End::A,
            Side::B => End::B,
        }
    }
}

impl From<End> for Side {
    fn from(end: End) -> Side {
        match end {
            End::A => Side::A,
            End::B => Side::B,
        }
    }
}

/// Something that happened. `call` is the call's id: 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "event")]
#[non_exhaustive]
pub enum Notice {
    /// A call has begun.
    #[serde(rename = "call.started")]
    Started {
        /// Which.
        call: String,
        /// Who called whom.
        direction: Direction,
        /// The user who calls; empty for a trunk's call.
        user: String,
        /// What was dialled.
        dialled: String,
        /// The caller's number, where it is known already.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<String>,
    },
    /// The called side rings.
    #[serde(rename = "call.ringing")]
    Ringing {
        /// Which call.
        call: String,
    },
    /// The called side has answered: the parties talk.
    #[serde(rename = "call.answered")]
    Answered {
        /// Which call.
        call: String,
        /// The user whose call it is; of an incoming call the one who answered.
        user: String,
    },
    /// A party has put the other on hold, or has taken it back.
    #[serde(rename = "call.held")]
    Held {
        /// Which call.
        call: String,
        /// Who did it.
        by: End,
        /// `true` while on hold.
        on: bool,
    },
    /// A party was replaced by somebody else.
    #[serde(rename = "call.transferred")]
    Transferred {
        /// Which call.
        call: String,
        /// The side that transferred.
        by: End,
        /// The number or name of the new party.
        to: String,
        /// How: as in the call's record.
        how: String,
    },
    /// A transfer came to nothing; the call is as it was.
    #[serde(rename = "call.transfer-failed")]
    TransferFailed {
        /// Which call.
        call: String,
        /// The side that wanted it.
        by: End,
        /// The number or name of the party that was wanted.
        to: String,
        /// The SIP status that stands for the reason, or its word.
        result: String,
    },
    /// One party's sound does not reach the other.
    #[serde(rename = "call.no-audio")]
    NoAudio {
        /// Which call.
        call: String,
        /// Whose sound is missing.
        from: End,
        /// On whose leg it ends.
        leg: End,
        /// The cause's name, such as `no-rtp`.
        cause: String,
        /// Whether something is broken; silence and hold may be just what the parties want.
        fault: bool,
    },
    /// The sound is back.
    #[serde(rename = "call.audio")]
    Audio {
        /// Which call.
        call: String,
        /// Whose sound was missing.
        from: End,
    },
    /// A user has said what a call was like.
    #[serde(rename = "call.feedback")]
    Feedback {
        /// Which call; it may be over.
        call: String,
        /// Who says so.
        user: String,
        /// From 1 (bad) to 5 (excellent).
        score: u8,
        /// What was wrong, in the user's words.
        #[serde(skip_serializing_if = "Option::is_none")]
        issue: Option<String>,
    },
    /// A call is over.
    #[serde(rename = "call.ended")]
    Ended {
        /// Which.
        call: String,
        /// Its record.
        cdr: Box<Cdr>,
    },
    /// A trunk answers again.
    #[serde(rename = "trunk.up")]
    TrunkUp {
        /// Its name.
        trunk: String,
    },
    /// A trunk does not answer: no call goes there.
    #[serde(rename = "trunk.down")]
    TrunkDown {
        /// Its name.
        trunk: String,
    },
    /// Our registration with a trunk stands, or does not.
    #[serde(rename = "trunk.registration")]
    Registration {
        /// The trunk's name.
        trunk: String,
        /// Whether it stands.
        registered: bool,
        /// The status of a refusal; absent where nobody answers.
        #[serde(skip_serializing_if = "Option::is_none")]
        sip: Option<u16>,
    },
    /// A limit against fraud has refused a call, or ended some. Told of once a minute for one limit of one account.
    #[serde(rename = "limit.tripped")]
    LimitTripped {
        /// Whose limit: `user`, `token`, `address`, `class`, `trunk` or `gateway`.
        scope: String,
        /// The name of the user, class or trunk; of a token its `jti`, or else its digest. Empty for the gateway.
        name: String,
        /// Which limit, by its key in the configuration: `calls`, `calls_per_minute`, `minutes_per_day`,
        /// `new_countries_per_day`; or `accounts`, where more users and tokens call than can be kept count of.
        limit: String,
        /// How much is allowed.
        most: u32,
        /// When there is room again, Unix milliseconds; absent where another call has to end.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
        /// The call that is refused, or the first of those that end.
        #[serde(skip_serializing_if = "Option::is_none")]
        call: Option<String>,
    },
}

/// Every notice's name, in the order in which they are documented.
pub const NOTICES: [&str; 14] = [
    "call.started",
    "call.ringing",
    "call.answered",
    "call.held",
    "call.transferred",
    "call.transfer-failed",
    "call.no-audio",
    "call.audio",
    "call.feedback",
    "call.ended",
    "trunk.up",
    "trunk.down",
    "trunk.registration",
    "limit.tripped",
];

impl Notice {
    /// Its name, as in `event`.
    pub fn name(&self) -> &'static str {
        match self {
            Notice::Started { .. } => "call.started",
            Notice::Ringing { .. } => "call.ringing",
            Notice::Answered { .. } => "call.answered",
            Notice::Held { .. } => "call.held",
            Notice::Transferred { .. } => "call.transferred",
            Notice::TransferFailed { .. } => "call.transfer-failed",
            Notice::NoAudio { .. } => "call.no-audio",
            Notice::Audio { .. } => "call.audio",
            Notice::Feedback { .. } => "call.feedback",
            Notice::Ended { .. } => "call.ended",
            Notice::TrunkUp { .. } => "trunk.up",
            Notice::TrunkDown { .. } => "trunk.down",
            Notice::Registration { .. } => "trunk.registration",
            Notice::LimitTripped { .. } => "limit.tripped",
        }
    }

    /// Whether it tells of something that the record of a call that stands has as well.
    pub(crate) fn is_recorded(&self) -> bool {
        matches!(
            self,
            Notice::Started { .. }
                | Notice::Ringing { .. }
                | Notice::Answered { .. }
                | Notice::Transferred { .. }
                | Notice::TransferFailed { .. }
                | Notice::NoAudio { .. }
                | Notice::Audio { .. }
        )
    }

    /// What it is about: the call's id, the trunk's name, or that of whose limit it is. Notices of one subject keep their order.
    pub fn subject(&self) -> &str {
        match self {
            Notice::Started { call, .. }
            | Notice::Ringing { call }
            | Notice::Answered { call, .. }
            | Notice::Held { call, .. }
            | Notice::Transferred { call, .. }
            | Notice::TransferFailed { call, .. }
            | Notice::NoAudio { call, .. }
            | Notice::Audio { call, .. }
            | Notice::Feedback { call, .. }
            | Notice::Ended { call, .. } => call,
            Notice::LimitTripped { name, .. } => name,
            Notice::TrunkUp { trunk } | Notice::TrunkDown { trunk } | Notice::Registration { trunk, .. } => trunk,
        }
    }
}

/// The beginning of a call, from its record.
pub(crate) fn started(id: CallId, record: &Cdr) -> Notice {
    let Cdr { direction, user, dialled, from, .. } = record;
    let (user, dialled, from) = (user.clone(), dialled.clone(), from.clone());
    Notice::Started { call: id.to_string(), direction: *direction, user, dialled, from }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_notice_is_called_what_it_says() {
        let schema = serde_json::to_value(schemars::schema_for!(Notice)).unwrap();
        let variants = schema["oneOf"].as_array().unwrap();
        let names: Vec<&str> =
            variants.iter().map(|one| one["properties"]["event"]["const"].as_str().unwrap()).collect();
        assert_eq!(names, NOTICES);
        let up = Notice::TrunkUp { trunk: "carrier".into() };
        assert_eq!(serde_json::to_value(&up).unwrap()["event"], up.name());
        assert_eq!(up.subject(), "carrier");
    }
}
