//! What a dial plan is asked and what it answers.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::hook::{Hook, Question};

/// Who calls: a browser's user, with what his token says of him.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// The user's name.
    pub user: String,
    /// The class whose `allow` list holds for him; `None`: the plan's default class.
    pub class: Option<String>,
    /// His own number; the plan's `allowed` list, if there is one, judges it.
    pub caller_id: Option<String>,
    /// What he asks to be shown instead: `anonymous`, or a number that only an `allowed` list can grant.
    pub asked: Option<String>,
    /// What his token lets him call: normalised numbers, or prefixes that end in `*`; `None`: all that the plan allows.
    pub destinations: Option<Vec<String>>,
}

/// A decision and how it came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Routed {
    /// What shall happen.
    pub decision: Decision,
    /// Why, in order.
    pub steps: Vec<Step>,
    /// Whether a schedule was asked: at another time the decision may be another.
    pub timed: bool,
}

/// One step of an explanation, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step(pub String);

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What shall happen with a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum Decision {
    /// Call a number by trunks.
    Dial {
        /// The name of the rule.
        rule: String,
        /// The number, normalised (`+442079460999`), or as dialled where the plan leaves it alone (`112`, `600`).
        to: String,
        /// The caller id to show, `anonymous` among them; `None`: the plan names none, and the user's name is shown.
        from: Option<String>,
        /// Tiers in order; within a tier the weights share the calls.
        tiers: Vec<Vec<TrunkChoice>>,
        /// How long to let it ring; `None`: the gateway's own limit. In JSON: seconds.
        #[serde(serialize_with = "seconds")]
        ring_for: Option<Duration>,
        /// The longest that the call may last; `None`: no limit by the plan. In JSON: seconds.
        #[serde(serialize_with = "seconds")]
        longest: Option<Duration>,
        /// When the next trunk is tried.
        failover: Failover,
        /// A call to an emergency number: no limit holds for it.
        emergency: bool,
    },
    /// Ring users: their browsers and phones.
    Ring {
        /// The name of the rule.
        rule: String,
        /// The number called, normalised.
        to: String,
        /// Of a call that a user makes: the caller id to show; `None`: the plan names none, and the user's name is
        /// shown. Of a trunk's call always `None`: its caller is shown as the trunk named him.
        from: Option<String>,
        /// Who rings, one turn after the other.
        turns: Vec<Turn>,
        /// The longest that the call may last; `None`: no limit by the plan. In JSON: seconds.
        #[serde(serialize_with = "seconds")]
        longest: Option<Duration>,
        /// What happens when nobody has taken the call; `None`: it ends.
        then: Option<Box<Decision>>,
    },
    /// Ask a web hook.
    Ask {
        /// The name of the rule.
        rule: String,
        /// Who is asked.
        hook: Hook,
        /// What it is told.
        question: Question,
        /// What happens if the hook lets the rule go on.
        plain: Box<Decision>,
        /// What happens if there is no answer.
        otherwise: Box<Decision>,
    },
    /// Refuse.
    Refuse {
        /// The name of the rule, if it was one that refused.
        rule: Option<String>,
        /// The SIP status.
        code: u16,
        /// The reason, in words for the caller.
        reason: String,
        /// Whether it is the caller id that is refused.
        #[serde(skip)]
        caller_id: bool,
    },
}

/// A length of time in JSON: whole seconds, or null.
fn seconds<S: Serializer>(time: &(impl Copy + Into<Option<Duration>>), serializer: S) -> Result<S::Ok, S::Error> {
    (*time).into().map(|time| time.as_secs()).serialize(serializer)
}

/// A trunk in a tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrunkChoice {
    /// Its name in the configuration.
    pub trunk: String,
    /// Its share of the tier's calls; at least 1.
    pub weight: u32,
}

/// Users who ring at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// The users: all browsers and phones of all of them.
    pub users: Vec<String>,
    /// How long. In JSON: seconds.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub ring_for: Duration,
}

/// When the next trunk of a call is tried. It never is once the called phone has rung.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failover {
    /// On what; any of these is enough.
    pub on: Vec<FailoverOn>,
    /// How long a trunk may say nothing at all; `None`: the gateway's own limit. In JSON: seconds.
    #[serde(serialize_with = "seconds")]
    pub after: Option<Duration>,
}

/// What leads to the next trunk. In JSON as the plan writes it: `timeout`, `5xx`, `430`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailoverOn {
    /// The trunk does not answer.
    Timeout,
    /// The trunk cannot be reached.
    Unreachable,
    /// A status of this hundred: `5` for `5xx`.
    Class(u16),
    /// This status.
    Status(u16),
}

impl Default for Failover {
    /// A trunk that does not answer, cannot be reached, or says that the fault is its own.
    fn default() -> Failover {
        let on = vec![FailoverOn::Timeout, FailoverOn::Unreachable, FailoverOn::Status(408), FailoverOn::Class(5)];
        Failover { on, after: None }
    }
}

impl Failover {
    /// Whether a refusal with this status leads to the next trunk.
    pub fn takes(&self, status: u16) -> bool {
        self.on.iter().any(|on| match on {
            FailoverOn::Class(class) => status / 100 == *class,
            FailoverOn::Status(own) => status == *own,
            FailoverOn::Timeout | FailoverOn::Unreachable => false,
        })
    }
}

impl Serialize for FailoverOn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for FailoverOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailoverOn::Timeout => f.write_str("timeout"),
            FailoverOn::Unreachable => f.write_str("unreachable"),
            FailoverOn::Class(class) => write!(f, "{class}xx"),
            FailoverOn::Status(status) => write!(f, "{status}"),
        }
    }
}

impl std::str::FromStr for FailoverOn {
    type Err = String;

    fn from_str(text: &str) -> Result<FailoverOn, String> {
        let status = text.parse::<u16>().ok().filter(|status| (400..700).contains(status));
        match text {
            "timeout" => Ok(FailoverOn::Timeout),
            "unreachable" => Ok(FailoverOn::Unreachable),
            "4xx" => Ok(FailoverOn::Class(4)),
            "5xx" => Ok(FailoverOn::Class(5)),
            "6xx" => Ok(FailoverOn::Class(6)),
            _ => status.map(FailoverOn::Status).ok_or_else(|| {
                format!("{text:?} is none of \"timeout\", \"unreachable\", \"4xx\", \"5xx\", \"6xx\" and a status such as \"430\"")
            }),
        }
    }
}

impl Decision {
    /// The rule that decided, if one did.
    pub fn rule(&self) -> Option<&str> {
        match self {
            Decision::Dial { rule, .. } | Decision::Ring { rule, .. } | Decision::Ask { rule, .. } => Some(rule),
            Decision::Refuse { rule, .. } => rule.as_deref(),
        }
    }
}

/// The trunks of a tier as `[[test]]` rows write them: `carrier-west|carrier-east`.
pub(super) fn tier_text(tier: &[TrunkChoice]) -> String {
    tier.iter().map(|choice| choice.trunk.as_str()).collect::<Vec<_>>().join("|")
}

/// The same with weights: `carrier-west:70|carrier-east:30`.
pub(super) fn weighted_text(tier: &[TrunkChoice]) -> String {
    tier.iter().map(|choice| format!("{}:{}", choice.trunk, choice.weight)).collect::<Vec<_>>().join("|")
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::Dial { rule, to, from, tiers, .. } => {
                let trunks: Vec<String> = tiers.iter().map(|tier| tier_text(tier)).collect();
                write!(f, "dial {to} by {}", trunks.join(", then "))?;
                if let Some(from) = from {
                    write!(f, ", shown as {from}")?;
                }
                write!(f, " (rule \"{rule}\")")
            }
            Decision::Ring { rule, turns, then, .. } => {
                let turn = |turn: &Turn| format!("{} for {} s", turn.users.join(", "), turn.ring_for.as_secs());
                let turns: Vec<String> = turns.iter().map(turn).collect();
                write!(f, "ring {} (rule \"{rule}\")", turns.join(", then "))?;
                then.as_ref().map_or(Ok(()), |then| write!(f, "; nobody takes it: {then}"))
            }
            Decision::Ask { rule, hook, plain, otherwise, .. } => {
                let within = hook.within.as_millis();
                write!(f, "ask {} within {within} ms (rule \"{rule}\"); it may say: {plain}; ", hook.url)?;
                write!(f, "no answer: {otherwise}")
            }
            Decision::Refuse { rule, code, reason, .. } => {
                write!(f, "refuse with {code}: {reason}")?;
                rule.as_ref().map_or(Ok(()), |rule| write!(f, " (rule \"{rule}\")"))
            }
        }
    }
}
