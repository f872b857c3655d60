//! Where users are at present, as calls ask for it.

use super::phones::Phones;
use super::sessions::Sessions;
use super::{Now, SocketId};
use crate::call::{Directory, Phone, Rights};
use crate::sip::Flow;

/// The directory at one moment.
pub(super) struct Present<'a> {
    pub sessions: &'a Sessions,
    pub phones: &'a Phones,
    pub now: Now,
    /// Calls of one socket, those that ring there among them.
    pub most_calls: usize,
}

impl Directory for Present<'_> {
    fn browsers(&self, user: &str) -> Vec<SocketId> {
        self.sessions.ringable(user, self.now.unix_ms, self.most_calls)
    }

    fn phones(&self, user: &str) -> Vec<Phone> {
        self.phones.of_user(user, self.now.instant)
    }

    fn phone_rights(&self, user: &str, phone: Flow) -> Rights {
        self.phones.rights_at(user, phone)
    }
}
