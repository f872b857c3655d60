//! Dial plans: who may call what, and by which trunk.
//!
//! A plan is a pure function from a caller and what he dialled to a [`Decision`] and the [`Step`]s that led to it.
//! `docs/dial-plans.md` tells every key.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod build;
pub mod decision;
mod number;
pub mod plan;
mod reader;
mod rows;
mod rules;

pub use decision::{Caller, Decision, Routed, Step, TrunkChoice};
pub use plan::{Plan, PlanError, PlanFile};
