//! 604: rings and is never answered.

use super::{Opening, Script};

/// See the module.
#[derive(Debug)]
pub(super) struct NoAnswer;

impl Script for NoAnswer {
    fn opening(&self) -> Opening {
        Opening::Ring
    }
}
