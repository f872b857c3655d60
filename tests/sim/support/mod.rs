//! The world around the switch.

pub mod browser;
pub mod media;
pub mod model;
pub mod peer;
pub mod raw;
pub mod sdp;
pub mod world;

pub use browser::{call, ended};
pub use peer::Habits;
pub use world::{Fate, World};
