//! 603: always busy.

use super::{Opening, Script};

/// See the module.
#[derive(Debug)]
pub(super) struct Busy;

impl Script for Busy {
    fn opening(&self) -> Opening {
        Opening::Refuse(486)
    }
}
