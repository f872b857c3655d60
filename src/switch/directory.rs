//! Where users are at present, as calls ask for it.

use super::SocketId;
use super::sessions::Sessions;
use crate::call::{Directory, Phone};

/// The directory at one moment.
pub(super) struct Present<'a> {
    pub sessions: &'a Sessions,
    /// The time, for tokens.
    pub unix_ms: u64,
    /// Calls of one socket, those that ring there among them.
    pub most_calls: usize,
}

impl Directory for Present<'_> {
    fn browsers(&self, user: &str) -> Vec<SocketId> {
        self.sessions.ringable(user, self.unix_ms, self.most_calls)
    }

    fn phones(&self, _user: &str) -> Vec<Phone> {
        Vec::new()
    }
}
