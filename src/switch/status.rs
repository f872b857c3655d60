//! How everything stands, for people and monitors: `GET /status`. No secrets, no numbers of callers.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Now, Switch};
use crate::call::Call;
use crate::call::limits::LimitsStatus;
use crate::call::trunks::TrunkState;
use crate::sdp::Mos;
use crate::sip::register::RegisterState;
use crate::sip::registrar::RegistrarCounters;

/// How everything stands.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Status {
    /// New calls are refused.
    pub draining: bool,
    /// Browsers' sockets.
    pub sockets: usize,
    /// Calls, those that ring and those that release among them.
    pub calls: usize,
    /// Calls in which the parties talk.
    pub established: usize,
    /// How the calls sound at present.
    pub sound: SoundStatus,
    /// SIP messages of strangers dropped since the start.
    pub dropped_sip: u64,
    /// In the order of the configuration.
    pub trunks: Vec<TrunkStatus>,
    /// Where there is a registrar.
    pub registrar: Option<RegistrarStatus>,
    /// The limits against fraud of the gateway, its classes and its trunks.
    pub limits: LimitsStatus,
    /// The places that call records go to.
    pub cdr: Vec<CdrStatus>,
    /// The database of what the limits have counted, where there is one.
    pub store: Option<StoreStatus>,
    /// The journal of calls that stand, where there is one.
    pub journal: Option<StoreStatus>,
}

/// How `[store]` stands, or `[journal]`. The shell says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StoreStatus {
    /// Since when it cannot be written, Unix milliseconds; absent while it can.
    pub failing_since: Option<u64>,
    /// Why it cannot.
    pub error: Option<String>,
}

/// How a place stands that call records go to. The shell says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CdrStatus {
    /// What it is: `file`, `sqlite` or `postgres`.
    pub sink: String,
    /// Records that wait to be written.
    pub waiting: usize,
    /// Records that may wait.
    pub room: usize,
    /// When the call of the oldest that waits ended, Unix milliseconds.
    pub waiting_since: Option<u64>,
    /// Records written since the start.
    pub written: u64,
    /// Records that found no room or were refused since the start: they stand in the log.
    pub lost: u64,
    /// Since when it takes none, Unix milliseconds; absent while it does.
    pub failing_since: Option<u64>,
    /// Why it takes none.
    pub error: Option<String>,
}

/// How the calls sound, by the worse direction of each in its last second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct SoundStatus {
    /// Calls of which it is known.
    pub measured: usize,
    /// The mean of their scores (ITU-T G.107).
    pub mos_mean: Option<f32>,
    /// The worst of them.
    pub mos_worst: Option<f32>,
    /// Calls in which a direction has no sound, for a fault of somebody's.
    pub without_audio: usize,
}

impl SoundStatus {
    fn of<'a>(calls: impl Iterator<Item = &'a Call>) -> SoundStatus {
        let (mut status, mut sum) = (SoundStatus::default(), 0.0);
        for call in calls.filter(|call| call.is_established()) {
            status.without_audio += usize::from(call.is_without_audio());
            let Some(mos) = call.mos().map(Mos::value) else { continue };
            status.measured += 1;
            sum += f64::from(mos);
            status.mos_worst = Some(status.mos_worst.map_or(mos, |worst| worst.min(mos)));
        }
        let mean = |sum: f64| ((sum / status.measured as f64 * 100.0).round() / 100.0) as f32;
        status.mos_mean = (status.measured > 0).then(|| mean(sum));
        status
    }
}

/// How a trunk stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TrunkStatus {
    /// Calls, health and targets.
    #[serde(flatten)]
    pub state: TrunkState,
    /// Our registration with it, where there is one.
    pub registration: Option<RegistrationStatus>,
}

/// How a registration of ours stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum RegistrationStatus {
    /// None: before the start and after the end.
    Off,
    /// The first request is under way.
    Trying,
    /// Calls come here.
    Registered {
        /// Unless it is refreshed, which it will be.
        ends_in_seconds: u64,
    },
    /// The registrar has refused.
    Refused {
        /// With this status.
        status: u16,
        /// It is asked again then.
        again_in_seconds: u64,
    },
    /// The registrar does not answer.
    Unreachable {
        /// It is tried again then.
        again_in_seconds: u64,
    },
}

/// What the registrar of phones has and has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RegistrarStatus {
    /// Users with a phone.
    pub users: usize,
    /// Phones.
    pub bindings: usize,
    /// Challenges given.
    pub challenged: u64,
    /// Requests with the right password.
    pub authenticated: u64,
    /// Requests with a wrong one.
    pub failed: u64,
    /// Requests refused unseen, for guessing.
    pub slowed: u64,
    /// Addresses and users that are refused for it now.
    pub throttled: usize,
}

impl From<RegistrarCounters> for RegistrarStatus {
    fn from(counters: RegistrarCounters) -> RegistrarStatus {
        let RegistrarCounters { users, bindings, throttled, challenged, authenticated, failed, slowed } = counters;
        RegistrarStatus { users, bindings, challenged, authenticated, failed, slowed, throttled }
    }
}

impl Switch {
    /// How everything stands.
    pub fn status(&self, now: Now) -> Status {
        let stats = self.stats();
        let until = |at: std::time::Instant| at.saturating_duration_since(now.instant).as_secs();
        let registration = |at| {
            let wanted = self.keepers.trunk(at).is_some_and(|trunk| trunk.register.is_some());
            let state = self.keepers.registering(at).map_or(RegisterState::Off, |registering| registering.state());
            wanted.then_some(match state {
                RegisterState::Off => RegistrationStatus::Off,
                RegisterState::Trying => RegistrationStatus::Trying,
                RegisterState::Registered { until: end } => {
                    RegistrationStatus::Registered { ends_in_seconds: until(end) }
                }
                RegisterState::Refused { status, retry_at } => {
                    RegistrationStatus::Refused { status, again_in_seconds: until(retry_at) }
                }
                RegisterState::Unreachable { retry_at } => {
                    RegistrationStatus::Unreachable { again_in_seconds: until(retry_at) }
                }
            })
        };
        let trunks = self.trunks.states(now.instant);
        Status {
            draining: self.draining,
            sockets: stats.sockets,
            calls: stats.calls,
            established: stats.established,
            sound: SoundStatus::of(self.calls.values()),
            dropped_sip: stats.dropped_sip,
            trunks: trunks.map(|(at, state)| TrunkStatus { state, registration: registration(at) }).collect(),
            registrar: self.phones.is_shown(now.instant).then(|| self.phones.counters(now.instant).into()),
            limits: self.ledger.status(now),
            cdr: Vec::new(),
            store: None,
            journal: None,
        }
    }
}
