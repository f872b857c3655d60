//! What is done for trunks beside their calls: their names are looked up, they are asked whether they are there, and we
//! are registered with them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::health::{Health, says_alive};
use super::registering::Registering;
use crate::call::Trunk;
use crate::sip::register::RegisterEvent;
use crate::sip::transaction::ClientFailure;
use crate::sip::{Located, Method, NameAddr, OutOfDialog, RequestId, ResolveError, Response, Target, Uri};
use crate::switch::timers::Owner;
use crate::switch::{Now, Output, Switch};

/// The user part of the From of our OPTIONS.
const PROBER: &str = "ringback";

/// The trunks' keepers, in the order of the configuration.
#[derive(Debug, Default)]
pub(in crate::switch) struct Keepers {
    keepers: Vec<Keeper>,
    /// What was asked by requests under way.
    asked: BTreeMap<RequestId, (usize, Asked)>,
}

/// What a request was for.
#[derive(Debug)]
pub(super) enum Asked {
    Health(Target),
    Registration,
}

/// What is done for one trunk.
#[derive(Debug)]
struct Keeper {
    trunk: Arc<Trunk>,
    /// When its name is to be looked up again.
    look_up: Option<Instant>,
    health: Option<Health>,
    registering: Option<Registering>,
}

impl Keepers {
    /// One for each trunk; nothing is done before [`Switch::start`].
    pub fn new<'a>(trunks: impl Iterator<Item = &'a Arc<Trunk>>) -> Keepers {
        let keeper = |trunk: &Arc<Trunk>| Keeper {
            trunk: trunk.clone(),
            look_up: None,
            health: trunk.options_every.map(Health::new),
            registering: None,
        };
        Keepers { keepers: trunks.map(keeper).collect(), asked: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.keepers.len()
    }

    pub fn trunk(&self, at: usize) -> Option<Arc<Trunk>> {
        self.keepers.get(at).map(|keeper| keeper.trunk.clone())
    }

    pub fn registering(&self, at: usize) -> Option<&Registering> {
        self.keepers.get(at)?.registering.as_ref()
    }

    pub(super) fn registering_mut(&mut self, at: usize) -> Option<&mut Registering> {
        self.keepers.get_mut(at)?.registering.as_mut()
    }

    pub(super) fn set_registering(&mut self, at: usize, registering: Option<Registering>) {
        if let Some(keeper) = self.keepers.get_mut(at) {
            keeper.registering = registering;
        }
    }

    pub(super) fn ask(&mut self, request: RequestId, at: usize, asked: Asked) {
        self.asked.insert(request, (at, asked));
    }

    /// Whether every registration is taken back, or given up.
    pub fn are_over(&self) -> bool {
        self.keepers.iter().all(|keeper| keeper.registering.as_ref().is_none_or(Registering::is_over))
    }
}

impl Keeper {
    fn deadline(&self) -> Option<Instant> {
        let health = self.health.as_ref().and_then(Health::deadline);
        let registering = self.registering.as_ref().and_then(Registering::deadline);
        [self.look_up, health, registering].into_iter().flatten().min()
    }
}

impl Switch {
    /// The shell is ready: look-ups, probes and registrations begin.
    pub(in crate::switch) fn start(&mut self, now: Now) {
        for at in 0..self.keepers.keepers.len() {
            let Some(keeper) = self.keepers.keepers.get_mut(at) else { continue };
            if keeper.trunk.dns.is_some() {
                keeper.look_up = Some(now.instant);
            }
            self.new_targets(now, at);
            self.keep(now, at);
        }
    }

    /// Nothing more is begun for any trunk, and registrations are taken back.
    pub(in crate::switch) fn stop_keeping(&mut self, now: Now) {
        for at in 0..self.keepers.keepers.len() {
            if let Some(keeper) = self.keepers.keepers.get_mut(at) {
                (keeper.look_up, keeper.health) = (None, None);
            }
            self.deregister(now, at);
            self.set_deadline(at);
        }
    }

    /// Does what is due for a trunk.
    pub(in crate::switch) fn keep(&mut self, now: Now, at: usize) {
        let Some(keeper) = self.keepers.keepers.get_mut(at) else { return };
        if keeper.look_up.is_some_and(|due| due <= now.instant) {
            keeper.look_up = None;
            if let Some(name) = keeper.trunk.dns.clone() {
                self.output.push_back(Output::Resolve { trunk: keeper.trunk.name.clone(), name });
            }
        }
        let ask = keeper.health.as_mut().map(|health| health.due(now.instant, &mut self.rng)).unwrap_or_default();
        let trunk = keeper.trunk.clone();
        for target in ask {
            self.probe(now, at, &trunk, target);
        }
        self.note_health(at);
        self.registration_due(now, at);
        self.set_deadline(at);
    }

    /// A trunk's name has been looked up.
    pub(in crate::switch) fn resolved(
        &mut self,
        now: Now,
        trunk: &str,
        result: Result<Located, ResolveError>,
        ttl: Duration,
    ) {
        let Some(at) = self.keepers.keepers.iter().position(|keeper| keeper.trunk.name == trunk) else { return };
        match result {
            Ok(located) => {
                tracing::debug!(trunk, targets = located.targets().count(), ?ttl, "found");
                self.trunks.located(trunk, located);
                self.new_targets(now, at);
            }
            // A last good answer stays of use.
            Err(error) => tracing::warn!(trunk, %error, "the trunk's name is not found"),
        }
        if let Some(keeper) = self.keepers.keepers.get_mut(at).filter(|_| !self.draining) {
            keeper.look_up = Some(now.instant + ttl);
        }
        self.keep(now, at);
    }

    /// A request of ours outside of any dialog has ended.
    pub(in crate::switch) fn trunk_answered(
        &mut self,
        now: Now,
        request: RequestId,
        cseq: u32,
        result: Result<Response, ClientFailure>,
    ) {
        let Some((at, asked)) = self.keepers.asked.remove(&request) else { return };
        match asked {
            Asked::Health(target) => {
                let alive = result.is_ok_and(|response| says_alive(response.status));
                let health = self.keepers.keepers.get_mut(at).and_then(|keeper| keeper.health.as_mut());
                if let Some(health) = health {
                    health.answered(now.instant, &mut self.rng, &target, alive);
                }
                self.note_health(at);
            }
            Asked::Registration => self.registration(now, at, RegisterEvent::Answer { cseq, result }),
        }
        self.set_deadline(at);
    }

    /// A trunk has shown that it is there.
    pub(in crate::switch) fn trunk_alive(&mut self, name: &str) {
        let Some(at) = self.keepers.keepers.iter().position(|keeper| keeper.trunk.name == name) else { return };
        if let Some(health) = self.keepers.keepers.get_mut(at).and_then(|keeper| keeper.health.as_mut()) {
            health.alive();
        }
        self.note_health(at);
    }

    /// Calls found nobody at these trunks: they are asked at once.
    pub(in crate::switch) fn ask_suspects(&mut self, now: Now) {
        for at in self.trunks.take_suspects() {
            if let Some(health) = self.keepers.keepers.get_mut(at).and_then(|keeper| keeper.health.as_mut()) {
                health.suspect(now.instant);
            }
            self.set_deadline(at);
        }
    }

    fn new_targets(&mut self, now: Now, at: usize) {
        let Some(keeper) = self.keepers.keepers.get_mut(at) else { return };
        if let Some(health) = &mut keeper.health {
            health.set_targets(now.instant, &mut self.rng, self.trunks.all_targets(at));
        }
        for target in self.trunks.all_targets(at) {
            self.ua.udp_only(target.remote, keeper.trunk.udp_only);
        }
        self.register_at(now, at);
    }

    fn note_health(&mut self, at: usize) {
        let Some(health) = self.keepers.keepers.get(at).and_then(|keeper| keeper.health.as_ref()) else { return };
        self.trunks.set_health(at, health.is_up(), |target| health.is_target_up(target));
    }

    pub(super) fn set_deadline(&mut self, at: usize) {
        let deadline = self.keepers.keepers.get(at).and_then(Keeper::deadline);
        self.timers.set(Owner::Trunk(at), deadline);
    }

    fn probe(&mut self, now: Now, at: usize, trunk: &Trunk, target: Target) {
        let Some(options) = self.options_request(trunk, &target) else { return };
        match self.ua.request(now.instant, options) {
            Ok(request) => {
                self.keepers.ask(request, at, Asked::Health(target));
            }
            // Nothing was learnt of the trunk: too much goes on here.
            Err(error) => tracing::warn!(trunk = trunk.name, %error, "OPTIONS not sent"),
        }
    }

    fn options_request(&self, trunk: &Trunk, target: &Target) -> Option<OutOfDialog> {
        let flow = target.flow();
        let contact = self.ua.contact_for(flow, None).ok()?;
        let (host, port) = trunk.host_at(target);
        let mut request_uri = Uri::sip(None, host, port).ok()?;
        let to = NameAddr::new(request_uri.clone());
        if target.transport.is_reliable() {
            request_uri.params.set("transport", Some(target.transport.uri_name()));
        }
        let own_host = trunk.own_host(target, contact.uri.host.clone());
        Some(OutOfDialog {
            flow,
            method: Method::Options,
            request_uri,
            from: NameAddr::new(Uri::sip(Some(PROBER), own_host, None).ok()?),
            to,
            call_id: None,
            cseq: None,
            contact: Some(contact),
            headers: Vec::new(),
            credentials: None,
            body: None,
        })
    }
}
