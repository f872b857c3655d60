//! How much work the sound of a call is worth.

/// Each step costs less and is heard more (docs/performance.md, "When it is too much").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Effort {
    /// As it sounds best for its cost.
    #[default]
    Full,
    /// Our Opus is encoded at complexity 0.
    Less,
    /// And it has no redundancy (in-band FEC), whatever loss its receiver reports.
    Least,
}

impl Effort {
    /// One step towards less.
    #[must_use]
    pub fn less(self) -> Self {
        match self {
            Effort::Full => Effort::Less,
            Effort::Less | Effort::Least => Effort::Least,
        }
    }

    /// One step back.
    #[must_use]
    pub fn more(self) -> Self {
        match self {
            Effort::Least => Effort::Less,
            Effort::Less | Effort::Full => Effort::Full,
        }
    }
}
