//! Dial plans: who may call what, and by which trunk.
//!
//! A plan is a pure function from a caller and what he dialled to a [`Decision`] and the [`Step`]s that led to it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod decision;
pub mod plan;

pub use decision::{Caller, Decision, Routed, Step, TrunkChoice};
pub use plan::{Plan, PlanError, PlanFile};
