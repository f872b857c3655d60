//! How a call sounds, as a browser is told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How good a call is at present, both directions taken together: the classes of users' satisfaction of ITU-T G.109 by the
/// worse direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// A score of 4.34 or more.
    Excellent,
    /// 4.03 or more.
    Good,
    /// 3.60 or more.
    Fair,
    /// Less than that.
    Poor,
    /// One direction has no sound, for a fault that `no-audio` names.
    Lost,
}

/// A direction of a call, seen from the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// What the browser hears.
    Down,
    /// What it says.
    Up,
}

/// One of the two legs of a call, seen from the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    /// Between this browser and the gateway.
    Us,
    /// Between the gateway and the other side.
    Them,
}

/// One direction of one leg, over about the last second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// The codec's name in SDP.
    pub codec: String,
    /// Packets lost on the way, in percent.
    pub loss_pct: f32,
    /// Interarrival jitter in milliseconds (RFC 3550 section 6.4.1).
    pub jitter_ms: u16,
    /// The round trip on this leg by RTCP, in milliseconds; absent until it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u16>,
    /// Sound that the gateway had to invent, in percent of the time; of what it receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concealed_pct: Option<f32>,
    /// Sound that waits in the gateway's jitter buffer, in milliseconds; of what it receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer_ms: Option<u16>,
    /// The one-way delay of this direction of the leg, estimated, in milliseconds.
    pub delay_ms: u16,
    /// What a listener would think of this direction of the leg alone: 1 to 5, by the E-model (ITU-T G.107).
    pub mos: f32,
    /// How loud it was, in dB below full scale: 0 loudest, -100 silence; of what the gateway receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level_db: Option<i8>,
}
