//! Our registrations with trunks: the machine of `sip::register` with a target to talk to.

use std::time::{Duration, Instant};

use rand::Rng as _;

use super::health::says_alive;
use super::keeper::Asked;
use crate::call::trunks::{Trouble, TrunkId};
use crate::call::{Notice, Trunk};
use crate::sip::register::{RegisterConfig, RegisterEvent, RegisterOutput, RegisterState, Registration};
use crate::sip::transaction::ClientFailure;
use crate::sip::{Flow, NameAddr, Target, Transport, Uri};
use crate::switch::{Now, Output, Switch};

/// How long the taking back of a registration may hold up the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// A registration and where it is kept.
#[derive(Debug)]
pub(in crate::switch) struct Registering {
    machine: Registration,
    target: Target,
    /// When its end is waited for no longer.
    give_up: Option<Instant>,
    /// It is.
    given_up: bool,
}

impl Registering {
    /// When [`Switch::registration_due`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let machine = if self.given_up { None } else { self.machine.poll_timeout() };
        [machine, self.give_up].into_iter().flatten().min()
    }

    /// How it stands.
    pub fn state(&self) -> RegisterState {
        self.machine.state()
    }

    /// Whether nothing is to be waited for.
    pub fn is_over(&self) -> bool {
        self.given_up || self.machine.state() == RegisterState::Off
    }
}

impl Switch {
    /// A trunk's targets are known, or are others now: registers at the first, or moves there if the present one is gone.
    pub(super) fn register_at(&mut self, now: Now, at: TrunkId) {
        let Some(trunk) = self.keepers.trunk(at).filter(|trunk| trunk.register.is_some()) else {
            return;
        };
        if self.draining || self.keepers.is_leaving(at) {
            return;
        }
        match self.keepers.registering(at) {
            Some(present) => {
                let gone = !self.trunks.all_targets(at).any(|target| *target == present.target);
                if gone {
                    self.move_registration(now, at, &trunk);
                }
            }
            None => {
                let target = self.trunks.targets(now.instant, &mut self.rng, &trunk.name).into_iter().next();
                let Some(target) = target else { return };
                let mut seed = [0; 32];
                self.rng.fill_bytes(&mut seed);
                let Some(config) = self.register_config(&trunk, &target) else { return };
                let machine = Registration::new(config, seed);
                self.keepers.set_registering(at, Some(Registering { machine, target, give_up: None, given_up: false }));
                self.registration(now, at, RegisterEvent::Start);
            }
        }
    }

    fn register_config(&self, trunk: &Trunk, target: &Target) -> Option<RegisterConfig> {
        let register = trunk.register.as_ref()?;
        let (host, port) = trunk.host_at(target);
        let registrar = Uri::sip(None, host.clone(), port).ok()?;
        let aor = NameAddr::new(Uri::sip(Some(&register.user), host, None).ok()?);
        let contact = self.ua.contact_for(target.flow(), Some(&register.contact_user)).ok()?;
        Some(RegisterConfig {
            expires: register.expires,
            credentials: trunk.credentials.clone(),
            ..RegisterConfig::new(target.flow(), registrar, aor, contact)
        })
    }

    /// To the best target that has not failed lately, if there is one other than the present.
    fn move_registration(&mut self, now: Now, at: TrunkId, trunk: &Trunk) {
        let Some(register) = trunk.register.as_ref().filter(|_| !self.keepers.is_leaving(at)) else { return };
        let fresh = self.trunks.fresh_target(now.instant, &mut self.rng, &trunk.name);
        let Some(present) = self.keepers.registering(at) else { return };
        let Some(target) = fresh.filter(|fresh| *fresh != present.target) else { return };
        let Ok(contact) = self.ua.contact_for(target.flow(), Some(&register.contact_user)) else { return };
        self.keep_alive(&present.target.flow(), false);
        let flow = target.flow();
        if let Some(present) = self.keepers.registering_mut(at) {
            present.target = target;
        }
        self.registration(now, at, RegisterEvent::Moved { flow, contact });
    }

    /// Our own addresses may be called otherwise by now: what is registered under another name registers again. The registrar
    /// forgets the old one by itself.
    pub(in crate::switch) fn renew_contacts(&mut self, now: Now) {
        for at in self.keepers.ids() {
            let Some(trunk) = self.keepers.trunk(at).filter(|_| !self.keepers.is_leaving(at)) else { continue };
            let (Some(register), Some(present)) = (trunk.register.as_ref(), self.keepers.registering(at)) else {
                continue;
            };
            let flow = present.target.flow();
            let Ok(contact) = self.ua.contact_for(flow, Some(&register.contact_user)) else { continue };
            if present.machine.contact().uri != contact.uri {
                self.registration(now, at, RegisterEvent::Moved { flow, contact });
                self.set_deadline(at);
            }
        }
    }

    /// Something happens to a trunk's registration.
    pub(super) fn registration(&mut self, now: Now, at: TrunkId, event: RegisterEvent) {
        if let Some(registering) = self.keepers.registering_mut(at) {
            registering.machine.handle(now.instant, event);
        }
        self.registration_output(now, at);
    }

    /// Does what is due for a trunk's registration.
    pub(super) fn registration_due(&mut self, now: Now, at: TrunkId) {
        let Some(registering) = self.keepers.registering_mut(at) else { return };
        if registering.give_up.is_some_and(|give_up| give_up <= now.instant) {
            registering.give_up = None;
            if !registering.is_over() {
                tracing::warn!(remote = %registering.target.remote, "a registration was not taken back in time");
                registering.given_up = true;
                let flow = registering.target.flow();
                if !self.draining || self.is_idle() {
                    self.keep_alive(&flow, false);
                }
            }
            return;
        }
        registering.machine.handle_timeout(now.instant);
        self.registration_output(now, at);
    }

    fn registration_output(&mut self, now: Now, at: TrunkId) {
        while let Some(output) = self.keepers.registering_mut(at).and_then(|present| present.machine.poll_output()) {
            match output {
                RegisterOutput::Send(request) => match self.ua.request(now.instant, request) {
                    Ok(request) => self.keepers.ask(request, at, Asked::Registration),
                    Err(error) => {
                        tracing::warn!(%error, "REGISTER not sent");
                        let result = Err(ClientFailure::Transport);
                        if let Some(present) = self.keepers.registering_mut(at) {
                            present.machine.handle(now.instant, RegisterEvent::Answer { cseq: 0, result });
                        }
                    }
                },
                RegisterOutput::State(state) => self.registration_state(now, at, state),
            }
        }
    }

    fn registration_state(&mut self, now: Now, at: TrunkId, state: RegisterState) {
        let Some(trunk) = self.keepers.trunk(at) else { return };
        let Some(target) = self.keepers.registering(at).map(|present| present.target.clone()) else { return };
        let (name, remote) = (trunk.name.as_str(), target.remote);
        match state {
            RegisterState::Registered { until } => {
                let seconds = until.saturating_duration_since(now.instant).as_secs();
                match self.trunks.set_registered(at, true) {
                    Some(true) => tracing::debug!(trunk = name, %remote, seconds, "the registration is refreshed"),
                    _ => {
                        tracing::info!(trunk = name, %remote, seconds, "registered");
                        self.notice(Notice::Registration { trunk: name.to_owned(), registered: true, sip: None });
                    }
                }
                self.keep_alive(&target.flow(), true);
                self.trunk_alive(now, name);
            }
            RegisterState::Refused { status, retry_at } => {
                let seconds = retry_at.saturating_duration_since(now.instant).as_secs();
                tracing::warn!(trunk = name, %remote, status, again_in_seconds = seconds, "the registration is refused");
                self.not_registered(at, name, Some(status));
                self.keep_alive(&target.flow(), false);
                if !says_alive(status) {
                    self.trunks.failed(now.instant, name, &target, None);
                    self.move_registration(now, at, &trunk);
                }
                self.trunks.note_trouble(now.instant, at, Trouble::Registration, Some(status));
            }
            RegisterState::Unreachable { retry_at } => {
                let seconds = retry_at.saturating_duration_since(now.instant).as_secs();
                tracing::warn!(trunk = name, %remote, again_in_seconds = seconds, "the registrar does not answer");
                self.not_registered(at, name, None);
                self.trunks.failed(now.instant, name, &target, None);
                self.keep_alive(&target.flow(), false);
                self.move_registration(now, at, &trunk);
                self.trunks.note_trouble(now.instant, at, Trouble::Registration, None);
            }
            RegisterState::Off => {
                tracing::info!(trunk = name, "no longer registered");
                // The calls that a drain waits for are ended through the same binding.
                if !self.draining || self.is_idle() {
                    self.keep_alive(&target.flow(), false);
                }
            }
            RegisterState::Trying => tracing::debug!(trunk = name, %remote, "registering"),
        }
    }

    fn not_registered(&mut self, at: TrunkId, trunk: &str, sip: Option<u16>) {
        if self.trunks.set_registered(at, false) != Some(false) {
            self.notice(Notice::Registration { trunk: trunk.to_owned(), registered: false, sip });
        }
    }

    /// Connections keep themselves alive; a NAT's binding for datagrams is kept by us.
    fn keep_alive(&mut self, flow: &Flow, on: bool) {
        if flow.transport == Transport::Udp {
            self.output.push_back(Output::KeepAlive { flow: *flow, on });
        }
    }

    /// A connection is gone: what is registered over it registers again, and phones are no longer reached by it.
    pub(in crate::switch) fn connection_lost(&mut self, now: Now, flow: Flow) {
        if flow.transport == Transport::Udp {
            return;
        }
        if let Some(here) = self.phones.connection_closed(now.instant, flow) {
            self.ua.move_sessions(flow, here);
        }
        for at in self.keepers.ids() {
            let over = |present: &Registering| {
                present.target.remote == flow.remote && present.target.transport == flow.transport
            };
            if self.keepers.registering(at).is_some_and(over) {
                self.registration(now, at, RegisterEvent::FlowLost);
                self.set_deadline(at);
            }
        }
    }

    /// Takes a trunk's registration back.
    pub(super) fn deregister(&mut self, now: Now, at: TrunkId) {
        if let Some(registering) = self.keepers.registering_mut(at) {
            registering.give_up = Some(now.instant + GOODBYE);
        }
        self.registration(now, at, RegisterEvent::Stop);
    }

    /// The last call has ended: nothing comes through a NAT's binding any more.
    pub(in crate::switch) fn let_bindings_go(&mut self) {
        for at in self.keepers.ids() {
            if let Some(flow) = self.keepers.registering(at).map(|present| present.target.flow()) {
                self.keep_alive(&flow, false);
            }
        }
    }

    /// Forgets a registration in whose place another one comes.
    pub(super) fn drop_registration(&mut self, at: TrunkId) {
        if let Some(present) = self.keepers.registering(at) {
            let flow = present.target.flow();
            self.keep_alive(&flow, false);
        }
        self.keepers.set_registering(at, None);
    }
}
