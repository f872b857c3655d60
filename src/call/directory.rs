//! Where users are to be found at present.

use super::{Rights, SocketId};
use crate::sip::{Flow, Uri};

/// A SIP phone that is registered as a user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phone {
    /// Its Contact: the Request-URI of what is sent to it.
    pub contact: Uri,
    /// The way its registration came.
    pub flow: Flow,
}

/// Who is there.
pub trait Directory {
    /// The browsers of a user that may be rung.
    fn browsers(&self, user: &str) -> Vec<SocketId>;
    /// The phones of a user.
    fn phones(&self, user: &str) -> Vec<Phone>;
    /// What a user may by his phones; `phone`: by that one.
    fn phone_rights(&self, user: &str, phone: Flow) -> Rights;
}
