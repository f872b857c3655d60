//! A trunk is tried: see [`crate::call::canary`].

use std::net::SocketAddr;
use std::time::Duration;

use super::operator::{Denial, Reply, Why, bad};
use super::{Now, Switch};
use crate::call::canary::CanaryRequest;
use crate::call::{Origination, Phone};
use crate::signal::{valid_destination, valid_user};
use crate::sip::{Flow, Host, Transport, Uri};

/// How long the far end may ring.
const RING_FOR: Duration = Duration::from_secs(25);

/// A call that tries a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// The trunk's name.
    pub trunk: String,
    /// The number to call.
    pub to: String,
    /// The caller's number as the far end is told it; the dial plan's own where there is none.
    pub from: Option<String>,
    /// The address of ours, over UDP, that our own phone is called from.
    pub local: SocketAddr,
    /// Where our own phone is.
    pub phone: SocketAddr,
}

impl Switch {
    /// Begins it.
    pub(super) fn canary(&mut self, now: Now, wish: Canary) -> Result<Reply, Denial> {
        let Canary { trunk, to, from, local, phone } = wish;
        let trunk = self.trunks.get(&trunk).cloned().ok_or_else(|| bad("there is no trunk of that name"))?;
        if !valid_destination(&to) || from.as_deref().is_some_and(|from| !valid_user(from)) {
            return Err(bad("this is no number that could be dialled, or called from"));
        }
        let plan = &self.settings.plan;
        let present = |number: &str| trunk.number_format.present(number);
        let number = plan.trial(&to, present).map_err(|why| Denial::new(Why::CallRefused, &why))?;
        if !valid_user(&number) {
            return Err(bad("this is no number that could be dialled"));
        }
        let from = from.unwrap_or_else(|| plan.trial_caller(&number));
        let contact = Uri::sip(Some("canary"), Host::from(phone.ip()), Some(phone.port()));
        let contact = contact.map_err(|_| bad("our own phone has no address"))?;
        let flow = Flow { transport: Transport::Udp, local, remote: phone, id: 0 };
        let refused = self.refused_now(None).or_else(|| self.refused_busy());
        let id = self.new_call_id();
        let phone = Phone { contact, flow };
        let request = CanaryRequest { trunk, dialled: to, number, from, phone, ring_for: RING_FOR, refused };
        self.begin(now, id, Origination::Canary(request));
        self.inspect(id).ok_or_else(|| self.why_refused(id))
    }
}
