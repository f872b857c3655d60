//! What a dial plan is asked and what it answers.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

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
    },
    /// Ring users: all browsers and phones of all of them at once.
    Ring {
        /// The name of the rule.
        rule: String,
        /// The number called, normalised.
        to: String,
        /// Of a call that a user makes: the caller id to show; `None`: the plan names none, and the user's name is
        /// shown. Of a trunk's call always `None`: its caller is shown as the trunk named him.
        from: Option<String>,
        /// The users.
        users: Vec<String>,
        /// How long. In JSON: seconds.
        #[serde(serialize_with = "seconds")]
        ring_for: Duration,
        /// The longest that the call may last; `None`: no limit by the plan. In JSON: seconds.
        #[serde(serialize_with = "seconds")]
        longest: Option<Duration>,
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

impl Decision {
    /// The rule that decided, if one did.
    pub fn rule(&self) -> Option<&str> {
        match self {
            Decision::Dial { rule, .. } | Decision::Ring { rule, .. } => Some(rule),
            Decision::Refuse { rule, .. } => rule.as_deref(),
        }
    }
}

/// The trunks of a tier as `[[test]]` rows write them: `carrier-west|carrier-east`.
pub(super) fn tier_text(tier: &[TrunkChoice]) -> String {
    tier.iter().map(|choice| choice.trunk.as_str()).collect::<Vec<_>>().join("|")
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
            Decision::Ring { rule, users, ring_for, .. } => {
                write!(f, "ring {} for {} s (rule \"{rule}\")", users.join(", "), ring_for.as_secs())
            }
            Decision::Refuse { rule, code, reason, .. } => {
                write!(f, "refuse with {code}: {reason}")?;
                rule.as_ref().map_or(Ok(()), |rule| write!(f, " (rule \"{rule}\")"))
            }
        }
    }
}
