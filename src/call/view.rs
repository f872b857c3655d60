//! A call as an operator sees it while it lasts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::core::Core;
use super::notice::End;
use super::party::Party;
use super::state::{Call, State};
use super::trunk_leg::TrunkLeg;
use super::{Direction, NoAudioRecord, TransferRecord};
use crate::sdp::{FlowQuality, LegQuality, Side, Verdict};

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The user's own devices ring, for a call that was asked for.
    Fetching,
    /// A web hook is asked what shall happen.
    Asking,
    /// Media resources are awaited.
    Routing,
    /// The called side has been asked.
    Calling,
    /// It rings, or sends sound already.
    Ringing,
    /// The parties talk.
    Answered,
    /// It is over; the last statistics are awaited.
    Ending,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CallView {
    /// Its id: 16 hexadecimal digits, the same in logs and records.
    pub call: String,
    /// How far it is.
    pub state: Phase,
    /// Who called whom.
    pub direction: Direction,
    /// The user whose call it is; of an incoming call those rung, comma-separated, then the one who answered.
    pub user: String,
    /// What was dialled.
    pub dialled: String,
    /// The number as the dial plan normalised it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// The caller's number as shown to the called side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The dial plan's rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// When it began, Unix milliseconds.
    pub start: u64,
    /// When the called side first rang.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ringing: Option<u64>,
    /// When it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<u64>,
    /// Who called, while he is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a: Option<LegView>,
    /// Who was called, once he has answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<LegView>,
    /// Whether a transfer is under way.
    pub transferring: bool,
    /// What became of transfers so far.
    pub transfers: Vec<TransferRecord>,
    /// When one party's sound did not reach the other, and why.
    pub no_audio: Vec<NoAudioRecord>,
}

/// What kind of a party it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LegKind {
    /// A browser.
    Browser,
    /// A user's phone.
    Phone,
    /// A trunk.
    Trunk,
}

/// One leg of a call.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LegView {
    /// What kind of a party it is.
    pub kind: LegKind,
    /// Its user, if it is a user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The trunk's name, if it is a trunk's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trunk: Option<String>,
    /// Its number or name.
    pub label: String,
    /// The codec in which it is sent sound, as in SDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// Whether it holds the other.
    pub holds: bool,
    /// How the leg sounded in its last second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualityView>,
    /// Why its sound does not reach the other side, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_audio: Option<VerdictView>,
}

/// How a leg sounded in its last second.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct QualityView {
    /// What it sends us; absent while nothing comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inbound: Option<FlowView>,
    /// What we send it, by its own reports; absent while there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound: Option<FlowView>,
    /// The round trip by RTCP, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u16>,
    /// What its party hears of the other, both legs taken together: 1 to 5 (ITU-T G.107).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mos_heard: Option<f32>,
    /// The one-way delay of that, estimated, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u16>,
    /// How loud its party is, dB below full scale.
    pub level_db: i8,
}

/// One direction of a leg.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FlowView {
    /// The codec's name in SDP.
    pub codec: String,
    /// Packets lost on the way, percent.
    pub loss_pct: f32,
    /// Interarrival jitter, milliseconds (RFC 3550 section 6.4.1).
    pub jitter_ms: u16,
    /// Sound that the receiver had to invent, percent of the time; absent where it does not report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concealed_pct: Option<f32>,
    /// Sound that waits in the receiver's buffer, milliseconds; absent where it does not report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer_ms: Option<u16>,
    /// The one-way delay, estimated, milliseconds.
    pub delay_ms: u16,
    /// What a listener would think of this direction alone: 1 to 5 (ITU-T G.107).
    pub mos: f32,
}

/// Why a party's sound does not reach the other side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VerdictView {
    /// The cause's name, such as `no-rtp`.
    pub cause: String,
    /// The leg on which the sound ends.
    pub leg: End,
    /// Whether something is broken.
    pub fault: bool,
}

impl From<FlowQuality> for FlowView {
    fn from(flow: FlowQuality) -> FlowView {
        FlowView {
            codec: flow.codec.name().to_owned(),
            loss_pct: f32::from(flow.loss_permille) / 10.0,
            jitter_ms: flow.jitter_ms,
            concealed_pct: flow.concealed_pct(),
            buffer_ms: flow.buffer_ms,
            delay_ms: flow.delay_ms,
            mos: flow.mos.value(),
        }
    }
}

impl From<&LegQuality> for QualityView {
    fn from(leg: &LegQuality) -> QualityView {
        QualityView {
            inbound: leg.inbound.map(FlowView::from),
            outbound: leg.outbound.map(FlowView::from),
            rtt_ms: leg.rtt_ms,
            mos_heard: leg.hears.map(|heard| heard.mos.value()),
            delay_ms: leg.hears.map(|heard| heard.delay_ms),
            level_db: leg.level_db,
        }
    }
}

impl From<Verdict> for VerdictView {
    fn from(Verdict { at, cause }: Verdict) -> VerdictView {
        VerdictView { cause: cause.as_str().to_owned(), leg: at.into(), fault: cause.is_fault() }
    }
}

impl Call {
    /// The call as it stands; `None` when nothing is left of it.
    pub fn view(&self) -> Option<CallView> {
        let (state, transferring) = match &self.state {
            State::Fetching(_) => (Phase::Fetching, false),
            State::Asking(_) => (Phase::Asking, false),
            State::Routing(_) => (Phase::Routing, false),
            State::Inviting(_) => (Phase::Calling, false),
            State::Early(_) => (Phase::Ringing, false),
            State::Established(established) => (Phase::Answered, established.transfer.is_some()),
            State::Releasing(_) => (Phase::Ending, false),
            State::Over => return None,
        };
        let record = &self.core.record;
        Some(CallView {
            call: record.call.clone(),
            state,
            direction: record.direction,
            user: record.user.clone(),
            dialled: record.dialled.clone(),
            number: record.number.clone(),
            from: record.from.clone(),
            rule: record.rule.clone(),
            start: record.start,
            ringing: record.ringing,
            answer: record.answer,
            a: self.core.leg_view(Side::A),
            b: self.core.leg_view(Side::B),
            transferring,
            transfers: record.transfers.clone(),
            no_audio: record.no_audio.clone(),
        })
    }
}

impl LegKind {
    /// Its name in labels and records.
    pub fn as_str(self) -> &'static str {
        match self {
            LegKind::Browser => "browser",
            LegKind::Phone => "phone",
            LegKind::Trunk => "trunk",
        }
    }
}

impl Party {
    /// What kind of a party it is.
    pub(super) fn kind(&self) -> LegKind {
        match self {
            Party::Browser(_) => LegKind::Browser,
            Party::Sip(leg) if leg.rights().is_some() => LegKind::Phone,
            Party::Sip(_) => LegKind::Trunk,
        }
    }
}

impl Core {
    fn leg_view(&self, side: Side) -> Option<LegView> {
        let party = self.party(side)?;
        let kind = party.kind();
        let trunk = match party {
            Party::Sip(leg) if kind == LegKind::Trunk => leg.trunk(),
            _ => None,
        };
        Some(LegView {
            kind,
            user: self.user_of(side),
            trunk: trunk.map(|trunk| trunk.name.clone()),
            label: self.label(side),
            codec: party.leg().media().map(|media| media.send().codec.name().to_owned()),
            holds: self.holds(side),
            quality: self.audio.last(side).map(QualityView::from),
            no_audio: self.audio.verdict_on(side).map(VerdictView::from),
        })
    }

    /// The user a party belongs to.
    pub(super) fn user_of(&self, side: Side) -> Option<String> {
        match self.party(side)? {
            Party::Browser(leg) => Some(leg.user().to_owned()),
            Party::Sip(leg) => TrunkLeg::rights(leg).map(|rights| rights.caller.user.clone()),
        }
    }
}
