//! What a dial plan is asked and what it answers.

use std::fmt;
use std::time::Duration;

/// Who calls: a browser's user, with what his token says of him.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// The user's name.
    pub user: String,
    /// The class whose `allow` list holds for him; `None`: the plan's default class.
    pub class: Option<String>,
    /// His own number, or the one that he asks to be shown.
    pub caller_id: Option<String>,
    /// What his token lets him call: normalised numbers, or prefixes that end in `*`; `None`: all that the plan allows.
    pub destinations: Option<Vec<String>>,
}

/// A decision and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// What shall happen.
    pub decision: Decision,
    /// Why, in order.
    pub steps: Vec<Step>,
}

/// One step of an explanation, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step(pub String);

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What shall happen with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Call a number by trunks.
    Dial {
        /// The name of the rule.
        rule: String,
        /// The number, normalised (`+442079460999`), or as dialled where the plan leaves it alone (`112`, `600`).
        to: String,
        /// The caller id to show; `None`: anonymous.
        from: Option<String>,
        /// Tiers in order; within a tier the weights share the calls.
        tiers: Vec<Vec<TrunkChoice>>,
        /// How long to let it ring; `None`: the gateway's own limit.
        ring_for: Option<Duration>,
        /// The longest that the call may last; `None`: no limit by the plan.
        longest: Option<Duration>,
    },
    /// Ring browsers: all of all these users at once.
    Ring {
        /// The name of the rule.
        rule: String,
        /// The users.
        users: Vec<String>,
        /// How long.
        ring_for: Duration,
    },
    /// Refuse.
    Refuse {
        /// The name of the rule, if it was one that refused.
        rule: Option<String>,
        /// The SIP status.
        code: u16,
        /// The reason, in words for the caller.
        reason: String,
    },
}

/// A trunk in a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkChoice {
    /// Its name in the configuration.
    pub trunk: String,
    /// Its share of the tier's calls; at least 1.
    pub weight: u32,
}
