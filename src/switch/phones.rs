//! Users' SIP phones: they register here, are called beside their users' browsers, and call as their users.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Now, Switch, Trunk};
use crate::call::{InboundRequest, Origination, Phone, PhoneRequest, Rights};
use crate::dialplan::Caller;
use crate::sip::registrar::{Registrar, RegistrarConfig, RegistrarCounters};
use crate::sip::{Flow, Request, Response, ServerRequestId, SessionId};

/// The registrar and its users.
#[derive(Clone, Debug)]
pub struct PhonesConfig {
    /// Realm, passwords and limits.
    pub registrar: RegistrarConfig,
    /// What the dial plan is told of a user whose phone calls.
    pub rights: BTreeMap<String, PhoneRights>,
    /// How phones are spoken to: codecs and the like.
    pub phone: Trunk,
    /// Calls of one user's phones at once, those that they make; more get 503.
    pub calls_per_user: usize,
}

/// What a session token says of a browser's user, for the user of a phone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PhoneRights {
    /// The class whose `allow` list holds for him.
    pub class: Option<String>,
    /// His own number.
    pub caller_id: Option<String>,
    /// What he may call: normalised numbers, or prefixes that end in `*`; `None`: all that the plan allows.
    pub destinations: Option<Vec<String>>,
    /// The longest call that he may have.
    pub longest: Option<Duration>,
}

/// The phones as they stand.
#[derive(Debug)]
pub(super) struct Phones {
    registrar: Registrar,
    rights: BTreeMap<String, PhoneRights>,
    calls_per_user: usize,
    /// Whose the calls are that phones have made.
    calls: BTreeMap<SessionId, String>,
}

impl Phones {
    pub fn new(config: PhonesConfig, seed: [u8; 32]) -> Phones {
        let PhonesConfig { registrar, rights, calls_per_user, phone: _ } = config;
        Phones { registrar: Registrar::new(registrar, seed), rights, calls_per_user, calls: BTreeMap::new() }
    }

    /// The registrar and its users are these from now on.
    pub fn reload(&mut self, config: PhonesConfig, seed: [u8; 32]) {
        let PhonesConfig { registrar, rights, calls_per_user, phone: _ } = config;
        self.registrar.reload(registrar, seed);
        (self.rights, self.calls_per_user) = (rights, calls_per_user);
    }

    /// Whether a message of a stranger may be read: a REGISTER, or anything from where a phone is registered.
    pub fn welcome(&self, now: Instant, source: IpAddr, bytes: &[u8]) -> bool {
        bytes.starts_with(b"REGISTER ") || self.registrar.knows(source, now)
    }

    /// Where a user's phones are, the best first.
    pub fn of_user(&self, user: &str, now: Instant) -> Vec<Phone> {
        let bindings = self.registrar.bindings(user, now).into_iter();
        bindings.map(|binding| Phone { contact: binding.contact, flow: binding.flow }).collect()
    }

    /// Whether a phone is registered over this very way.
    pub fn has_phone_at(&self, flow: Flow, now: Instant) -> bool {
        self.registrar.has_phone_at(flow, now)
    }

    /// Whether a phone is registered from this address.
    pub fn knows(&self, source: IpAddr, now: Instant) -> bool {
        self.registrar.knows(source, now)
    }

    /// What the registrar has done and has.
    pub fn counters(&self, now: Instant) -> RegistrarCounters {
        self.registrar.counters(now)
    }

    /// A connection is gone.
    pub fn connection_closed(&mut self, flow: Flow) {
        self.registrar.connection_closed(flow);
    }

    /// Tells whose phone calls, and what he may; `Err`: the refusal to send. An emergency call is not held to the calls
    /// that a user may have.
    pub fn admit(
        &mut self,
        now: Instant,
        session: SessionId,
        request: &Request,
        flow: Flow,
        is_emergency: impl FnOnce(&Caller) -> bool,
    ) -> Result<(Rights, bool), Box<Response>> {
        let user = self.registrar.authenticate(now, request, flow)?;
        let rights = self.rights_of(&user);
        let emergency = is_emergency(&rights.caller);
        let calls = self.calls.values().filter(|owner| **owner == user).count();
        if calls >= self.calls_per_user && !emergency {
            tracing::warn!(user, calls, "a phone's call is refused: its user has as many as he may");
            let mut response = request.response(503, "Too many calls");
            response.headers.push("Retry-After", "5");
            return Err(Box::new(response));
        }
        self.calls.insert(session, user);
        Ok((rights, emergency))
    }

    /// What a user may by his phones, whether he calls or is called and transfers.
    pub fn rights_of(&self, user: &str) -> Rights {
        let PhoneRights { class, caller_id, destinations, longest } =
            self.rights.get(user).cloned().unwrap_or_default();
        let caller = Caller { user: user.to_owned(), class, caller_id, asked: None, destinations };
        Rights { caller, any_caller_id: false, longest }
    }

    /// A session has closed.
    pub fn closed(&mut self, session: SessionId) {
        self.calls.remove(&session);
    }
}

impl Switch {
    /// An INVITE of a phone: with its user's password it is his call.
    pub(super) fn phone_calls(
        &mut self,
        now: Now,
        session: SessionId,
        request: Request,
        flow: Flow,
        replaces: Option<SessionId>,
    ) {
        let Some(phones) = &mut self.phones else { return };
        let dialled = crate::call::screening::number_of(&request.uri);
        let plan = &self.settings.plan;
        let is_emergency = |caller: &Caller| replaces.is_none() && plan.is_emergency(caller, &dialled);
        let (rights, emergency) = match phones.admit(now.instant, session, &request, flow, is_emergency) {
            Ok(admitted) => admitted,
            Err(response) => {
                let told = ["Proxy-Authenticate", "Retry-After"];
                let told = told.iter().flat_map(|name| response.headers.get_all(name).map(move |value| (name, value)));
                let told: Vec<_> = told.map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect();
                let _ = self.ua.reject(now.instant, session, response.status, &response.reason, &told);
                return;
            }
        };
        let user = rights.caller.user.clone();
        let refused = self.refused_now(emergency.then_some(user.as_str()));
        let trunk = self.settings.phones.clone();
        if let Err(error) = self.ua.configure(now.instant, session, trunk.options.clone()) {
            tracing::info!(%error, "a phone's call does not suit the phones' options");
            return;
        }
        if let Some(old) = replaces {
            let rights = Some(rights);
            return self.replace(now, old, InboundRequest { trunk, session, request, flow, rights, refused });
        }
        let id = self.new_call_id();
        self.owners.insert(session, id);
        self.note_emergency(id, emergency && refused.is_none(), user);
        self.begin(now, id, Origination::Phone(PhoneRequest { trunk, session, request, flow, rights, refused }));
    }

    /// A REGISTER.
    pub(super) fn phone_registers(&mut self, now: Now, id: ServerRequestId, request: &Request, flow: Flow) {
        let response = match &mut self.phones {
            Some(phones) => phones.registrar.handle(now.instant, request, flow),
            None => request.response(405, ""),
        };
        tracing::debug!(remote = %flow.remote, status = response.status, "REGISTER");
        self.ua.respond(now.instant, id, response);
    }
}
