//! Dial plans: who may call what, and by which trunk.
//!
//! A plan is a pure function from a caller, what he dialled and the time to a [`Decision`] and the [`Step`]s that led to it.
//! `docs/dial-plans.md` tells every key.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod build;
mod caller_id;
mod country;
mod decide;
pub mod decision;
pub mod hook;
mod number;
pub mod plan;
mod reader;
mod rows;
mod rules;
mod schedule;
mod table;
mod trial;

pub use decision::{Caller, Decision, Failover, FailoverOn, Routed, Step, TrunkChoice, Turn};
pub use hook::{Hook, MOST_ANSWER, Question};
pub use plan::{Plan, PlanError, PlanFile, Summary};
