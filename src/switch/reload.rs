//! A new configuration while calls stand: what is begun after it goes by it, what stands goes on as it was begun.

use std::sync::Arc;

use rand::Rng as _;

use super::{Auth, EMERGENCY_ROOM, Now, PhonesConfig, Switch, SwitchLimits, Trunk};
use crate::call::limits::Quotas;
use crate::dialplan::Plan;
use crate::signal::Turn;
use crate::sip::Advertised;

/// What of a switch can be changed while it runs.
#[derive(Clone, Debug)]
pub struct Reload {
    /// The trunks. One of a known name that is reached and registered with as before keeps its health and its registration;
    /// any other is a new one, and that of its name leaves: no call begins there, its registration is taken back, its calls
    /// go on and count for the limits of the new one.
    pub trunks: Vec<Trunk>,
    /// The registrar; a phone of a user whose password is the same stays registered.
    pub phones: Option<PhonesConfig>,
    /// The dial plan.
    pub plan: Arc<Plan>,
    /// How browsers are let in from now on; sessions that are open stay.
    pub auth: Auth,
    /// The TURN servers that sessions are told of from now on.
    pub turn: Option<Turn>,
    /// How much there may be of everything. What there is already stays, where it is more.
    pub limits: SwitchLimits,
    /// How much may be called out by trunks from the next call on; what was used stays used.
    pub quotas: Quotas,
    /// What Via and Contact say for each of our addresses. Registrations are renewed under the new ones.
    pub advertise: Vec<Advertised>,
    /// Whether calls that begin from now on send browsers redundancy and take it from them (RFC 2198).
    pub redundancy: bool,
    /// How many sessions and transactions the user agent may have ([`UaConfig`](crate::sip::UaConfig)).
    pub room: Room,
}

/// Room of a user agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Sessions at once.
    pub sessions: usize,
    /// Transactions at once.
    pub transactions: usize,
}

impl Room {
    /// Enough for so many calls, and those to emergency numbers.
    pub fn for_calls(calls: usize) -> Room {
        let sessions = calls.saturating_add(EMERGENCY_ROOM).saturating_mul(2);
        Room { sessions, transactions: calls.saturating_mul(16).max(1024) }
    }
}

impl Switch {
    /// Takes a new configuration; a switch that drains does not.
    pub(super) fn reload(&mut self, now: Now, new: Reload) {
        if self.draining {
            return;
        }
        let Reload { trunks, phones, plan, auth, turn, limits, quotas, advertise, redundancy, room } = new;
        self.ua.set_room(room.sessions, room.transactions);
        self.ua.set_advertise(advertise.clone());
        self.settings.advertise = advertise;
        self.settings.policy.red = redundancy;
        self.ledger.reload(quotas);
        self.settings.plan = plan;
        self.settings.ringback = limits.ringback;
        self.settings.digits_to_browser = limits.digits_to_browser;
        self.settings.plain_numbers = limits.plain_numbers;
        self.settings.ring_for = limits.ring_for;
        self.settings.longest_call = limits.longest_call;
        self.settings.trunk_silence = limits.trunk_silence;
        self.settings.lease_within = limits.lease_within;
        self.settings.stats_within = limits.stats_within;
        self.settings.resume_within = limits.resume_within;
        self.limits = limits;
        self.auth = auth;
        if std::mem::replace(&mut self.turn, turn) != self.turn {
            self.tell_ice_servers(now);
        }
        self.reload_phones(phones);
        let changes = self.trunks.reload(trunks);
        self.keep_others(now, changes);
        self.renew_contacts(now);
    }

    fn reload_phones(&mut self, phones: Option<PhonesConfig>) {
        let phone = phones.as_ref().map_or_else(|| Trunk::new("phone"), |phones| phones.phone.clone());
        self.settings.phones = Arc::new(phone);
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        self.phones.reload(phones, seed);
    }
}
