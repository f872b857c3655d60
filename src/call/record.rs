//! The call record (CDR): one JSON line for each call.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::LegKind;
use super::{CallId, Cause, Direction, Origin, Params, Special};

/// What is written down of a call, once, when it is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cdr {
    /// The call's id, as in `answer.id`, logs and metrics: 16 hexadecimal digits.
    pub call: String,
    /// Who called whom.
    pub direction: Direction,
    /// The browser's user; of an incoming call the one who answered, or those rung, comma-separated.
    pub user: String,
    /// What the caller dialled: the browser's `to`, or the user part of the Request-URI.
    pub dialled: String,
    /// The number as the dial plan normalised it.
    pub number: Option<String>,
    /// The number as the trunk was sent it.
    pub sent: Option<String>,
    /// The caller's number as shown to the called side.
    pub from: Option<String>,
    /// What the page or the trunk has said of the call.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub params: Params,
    /// The dial plan's rule that decided.
    pub rule: Option<String>,
    /// The trunks tried, in order.
    pub trunks: Vec<TrunkTried>,
    /// When the call came in, Unix milliseconds.
    pub start: u64,
    /// When the called side first rang.
    pub ringing: Option<u64>,
    /// When it was answered.
    pub answer: Option<u64>,
    /// When it ended.
    pub end: u64,
    /// Why: the browser's word.
    pub cause: String,
    /// Who ended it.
    pub by: Origin,
    /// Why: SIP status; absent after a normal hang-up.
    pub sip: Option<u16>,
    /// Why: Q.850 value.
    pub q850: u8,
    /// Why: for people.
    pub text: String,
    /// What became of transfers of the call, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transfers: Vec<TransferRecord>,
    /// When one party's sound did not reach the other, and why, in order; the first 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_audio: Vec<NoAudioRecord>,
    /// What kinds of parties there were at the end.
    #[serde(default)]
    pub parties: Parties,
    /// Codecs in use at the end.
    pub codecs: Codecs,
    /// What the media path counted; absent where it never ran or did not report in time.
    pub media: Option<MediaRecord>,
}

/// One transfer of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransferRecord {
    /// When it was over, Unix milliseconds.
    pub at: u64,
    /// The side that transferred: `a` called, `b` was called.
    pub by: String,
    /// The number or name of the new party.
    pub to: String,
    /// How: `refer` (the trunk did it), `call` (we called the new party), `join` (two calls became one), `replaces` (the
    /// new party called us, or moved into another call).
    pub how: String,
    /// What came of it: `done`, or the SIP status that stands for the failure.
    pub result: String,
}

/// A time without sound in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoAudioRecord {
    /// When it was recognised, Unix milliseconds.
    pub at: u64,
    /// The side whose sound was missing: `a` called, `b` was called.
    pub from: String,
    /// The side on whose leg it ended.
    pub leg: String,
    /// Why: `no-ice`, `no-dtls`, `no-rtp`, `wrong-payload-type`, `stranger`, `not-authentic`, `silent` or `held`.
    pub cause: String,
    /// How long it lasted from then, milliseconds; absent where it lasted until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
}

/// One trunk tried for a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrunkTried {
    /// The trunk's name.
    pub trunk: String,
    /// What came of it: `answered`, `abandoned`, or the SIP status of its refusal (also `408` for silence and `503`
    /// for an unreachable one).
    pub result: String,
    /// Why it failed, in one of the words of the call's own `cause`: an unreachable one is `trunk-unreachable`, one that has no
    /// room `congestion`. Absent where it did not fail, or was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The same for people: what it said itself (its Reason, or the phrase beside its status), or a sentence of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// When it was tried, Unix milliseconds.
    #[serde(default)]
    pub at: u64,
    /// How long it took until its result, milliseconds; absent where it had given none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// The numbers that its 3xx named, normalised, where they are others than the one called: whether the dial plan
    /// allowed them or not. Those that it allowed were called by the same trunk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirected: Vec<String>,
}

/// Codec names of both sides, as in SDP's registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Codecs {
    /// Towards who called.
    pub a: Option<String>,
    /// Towards who was called.
    pub b: Option<String>,
}

/// What kinds of parties a call had; absent where there was none (yet).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parties {
    /// Who called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a: Option<LegKind>,
    /// Who was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b: Option<LegKind>,
}

/// Statistics of both sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MediaRecord {
    /// Who called.
    pub a: LegRecord,
    /// Who was called.
    pub b: LegRecord,
}

/// Statistics of one side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LegRecord {
    /// Packets received.
    pub packets_in: u64,
    /// Packets sent.
    pub packets_out: u64,
    /// Payload bytes received.
    pub bytes_in: u64,
    /// Payload bytes sent.
    pub bytes_out: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that did not come, or not in time, and were heard all the same, from the redundancy in later ones (RFC 2198).
    #[serde(default)]
    pub repaired: u64,
    /// Interarrival jitter, milliseconds (RFC 3550 section 6.4.1).
    pub jitter_ms: u32,
    /// Sound made up for lost packets, milliseconds.
    pub concealed_ms: u64,
    /// Sound left out to shorten the delay, milliseconds.
    #[serde(default)]
    pub accelerated_ms: u64,
    /// Sound added to lengthen it, milliseconds.
    #[serde(default)]
    pub stretched_ms: u64,
    /// Packets refused: from a stranger, or not authentic.
    pub rejected: u64,
    /// When its media began to be set up, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<u64>,
    /// A browser's connectivity checks: from its description to the first that passed, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice_ms: Option<u32>,
    /// Its DTLS handshake: from there to its end, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtls_ms: Option<u32>,
    /// From the answer to the side's first packet of sound, milliseconds; 0 where sound came before (early media).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_audio_ms: Option<u32>,
    /// How the side sounded, and what it heard.
    #[serde(flatten)]
    pub sound: LegSound,
}

/// How one side of an answered call sounded; absent where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LegSound {
    /// What it sent us: the E-model's score (ITU-T G.107) second by second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mos_sent: Option<Score>,
    /// What it heard of the other side, both legs taken together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mos_heard: Option<Score>,
    /// The mean one-way delay of what it heard, estimated, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u16>,
    /// The mean round trip to it by RTCP, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u16>,
    /// The mean of what waited of its sound in our jitter buffer, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer_ms: Option<u16>,
    /// Its loudest second, RMS in dB below full scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level_db: Option<i8>,
}

/// A score over a call.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Score {
    /// The mean of all seconds.
    pub mean: f32,
    /// The worst second.
    pub worst: f32,
}

impl TrunkTried {
    /// A trunk that is tried now, of which nothing has come yet.
    pub(crate) fn begin(trunk: &str, unix_ms: u64) -> TrunkTried {
        let (trunk, result) = (trunk.to_owned(), "abandoned".to_owned());
        TrunkTried { trunk, result, cause: None, text: None, at: unix_ms, ms: None, redirected: Vec::new() }
    }

    /// Writes down what came of it.
    pub(crate) fn finish(&mut self, result: impl Into<String>, unix_ms: u64) {
        self.result = result.into();
        self.ms = Some(unix_ms.saturating_sub(self.at));
    }

    /// Writes down that it failed, and why.
    pub(crate) fn fail(&mut self, result: impl Into<String>, cause: &Cause, unix_ms: u64) {
        self.finish(result, unix_ms);
        self.cause = Some(cause.word.to_owned());
        self.text = Some(cause.reason.clone()).filter(|text| !text.is_empty());
    }
}

impl Cdr {
    /// A record of a call that begins now; it is a normal end of nothing yet.
    pub(crate) fn begin(call: CallId, direction: Direction, user: &str, dialled: &str, unix_ms: u64) -> Cdr {
        Cdr {
            call: call.to_string(),
            direction,
            user: user.to_owned(),
            dialled: dialled.to_owned(),
            number: None,
            sent: None,
            from: None,
            params: Params::new(),
            rule: None,
            trunks: Vec::new(),
            start: unix_ms,
            ringing: None,
            answer: None,
            end: unix_ms,
            cause: String::new(),
            by: Origin::Gateway,
            sip: None,
            q850: 16,
            text: String::new(),
            transfers: Vec::new(),
            no_audio: Vec::new(),
            parties: Parties::default(),
            codecs: Codecs::default(),
            media: None,
        }
    }

    /// Writes down the end.
    pub(crate) fn finish(&mut self, cause: &Cause, unix_ms: u64) {
        self.end = unix_ms;
        self.cause = cause.word.to_owned();
        self.by = cause.origin;
        self.sip = cause.sip;
        self.q850 = cause.q850;
        self.text = cause.reason.clone();
    }

    /// Writes down that the gateway was lost while the call stood, which was known to live at `unix_ms` last.
    pub fn lose(&mut self, unix_ms: u64) {
        let tried = self.trunks.iter().map(|tried| tried.at.saturating_add(tried.ms.unwrap_or(0)));
        let known = [self.ringing, self.answer].into_iter().flatten().chain(tried).fold(self.start, u64::max);
        self.finish(&Cause::special(Origin::Gateway, Special::GatewayLost), unix_ms.max(known));
        if self.direction == Direction::Inbound && self.answer.is_none() {
            self.trunk_result("ended", self.end);
        }
    }

    /// Whether its end is written down.
    pub fn is_over(&self) -> bool {
        !self.cause.is_empty()
    }

    /// Writes down what came of the trunk tried last.
    pub(crate) fn trunk_result(&mut self, result: impl Into<String>, unix_ms: u64) {
        if let Some(tried) = self.trunks.last_mut() {
            tried.finish(result, unix_ms);
        }
    }
}
