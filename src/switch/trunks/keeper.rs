//! What is done for trunks beside their calls: their names are looked up, they are asked whether they are there, and we
//! are registered with them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::health::{Health, says_alive};
use super::registering::Registering;
use crate::call::trunks::{Change, Trouble, TrunkId};
use crate::call::{Notice, Trunk};
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
    asked: BTreeMap<RequestId, (TrunkId, Asked)>,
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
    id: TrunkId,
    trunk: Arc<Trunk>,
    /// Only its registration is still to be taken back.
    leaving: bool,
    /// When its name is to be looked up again.
    look_up: Option<Instant>,
    health: Option<Health>,
    registering: Option<Registering>,
}

impl Keepers {
    /// One for each trunk; nothing is done before [`Switch::start`].
    pub fn new<'a>(trunks: impl Iterator<Item = (TrunkId, &'a Arc<Trunk>)>) -> Keepers {
        Keepers { keepers: trunks.map(|(id, trunk)| Keeper::new(id, trunk.clone())).collect(), asked: BTreeMap::new() }
    }

    pub(super) fn ids(&self) -> Vec<TrunkId> {
        self.keepers.iter().map(|keeper| keeper.id).collect()
    }

    fn get(&self, at: TrunkId) -> Option<&Keeper> {
        self.keepers.iter().find(|keeper| keeper.id == at)
    }

    fn get_mut(&mut self, at: TrunkId) -> Option<&mut Keeper> {
        self.keepers.iter_mut().find(|keeper| keeper.id == at)
    }

    /// The present trunk of a name.
    fn named(&self, name: &str) -> Option<TrunkId> {
        self.keepers.iter().find(|keeper| !keeper.leaving && keeper.trunk.name == name).map(|keeper| keeper.id)
    }

    pub fn trunk(&self, at: TrunkId) -> Option<Arc<Trunk>> {
        self.get(at).map(|keeper| keeper.trunk.clone())
    }

    /// Whether it is not of the configuration any more.
    pub(super) fn is_leaving(&self, at: TrunkId) -> bool {
        self.get(at).is_none_or(|keeper| keeper.leaving)
    }

    pub fn registering(&self, at: TrunkId) -> Option<&Registering> {
        self.get(at)?.registering.as_ref()
    }

    pub(super) fn registering_mut(&mut self, at: TrunkId) -> Option<&mut Registering> {
        self.get_mut(at)?.registering.as_mut()
    }

    pub(super) fn set_registering(&mut self, at: TrunkId, registering: Option<Registering>) {
        if let Some(keeper) = self.get_mut(at) {
            keeper.registering = registering;
        }
    }

    pub(super) fn ask(&mut self, request: RequestId, at: TrunkId, asked: Asked) {
        self.asked.insert(request, (at, asked));
    }

    /// Whether every registration is taken back, or given up.
    pub fn are_over(&self) -> bool {
        self.keepers.iter().all(|keeper| keeper.registering.as_ref().is_none_or(Registering::is_over))
    }
}

impl Keeper {
    fn new(id: TrunkId, trunk: Arc<Trunk>) -> Keeper {
        let health = trunk.options_every.map(Health::new);
        Keeper { id, trunk, leaving: false, look_up: None, health, registering: None }
    }

    fn deadline(&self) -> Option<Instant> {
        let health = self.health.as_ref().and_then(Health::deadline);
        let registering = self.registering.as_ref().and_then(Registering::deadline);
        [self.look_up, health, registering].into_iter().flatten().min()
    }
}

impl Switch {
    /// The shell is ready: look-ups, probes and registrations begin.
    pub(in crate::switch) fn start(&mut self, now: Now) {
        for at in self.keepers.ids() {
            self.start_keeping(now, at);
        }
    }

    fn start_keeping(&mut self, now: Now, at: TrunkId) {
        let Some(keeper) = self.keepers.get_mut(at) else { return };
        if keeper.trunk.dns.is_some() {
            keeper.look_up = Some(now.instant);
        }
        self.new_targets(now, at);
        self.keep(now, at);
    }

    /// The trunks are others now: [`Trunks::reload`](crate::call::Trunks::reload) has said which. All names are looked up
    /// again.
    pub(in crate::switch) fn keep_others(&mut self, now: Now, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Stays(at) => self.keep_as(now, at),
                Change::Comes(at) => {
                    if let Some((_, trunk)) = self.trunks.iter().find(|(id, _)| *id == at) {
                        tracing::info!(trunk = trunk.name, "the trunk is new, or is reached otherwise");
                        self.keepers.keepers.push(Keeper::new(at, trunk.clone()));
                    }
                    self.start_keeping(now, at);
                }
                Change::Leaves(at) => self.leave(now, at),
            }
        }
    }

    /// The trunk stays, and this is what is known of it from now on.
    fn keep_as(&mut self, now: Now, at: TrunkId) {
        let known = self.trunks.iter().find(|(id, _)| *id == at).map(|(_, trunk)| trunk.clone());
        let (Some(trunk), Some(keeper)) = (known, self.keepers.get_mut(at)) else { return };
        let before = std::mem::replace(&mut keeper.trunk, trunk.clone());
        if before.options_every != trunk.options_every {
            keeper.health = trunk.options_every.map(Health::new);
            self.trunks.set_health(now.instant, at, true, |_| true);
        }
        self.start_keeping(now, at);
    }

    /// The trunk is not of the configuration any more. A registration is taken back, unless another takes its place.
    fn leave(&mut self, now: Now, at: TrunkId) {
        let Some(keeper) = self.keepers.get_mut(at) else { return };
        keeper.leaving = true;
        (keeper.look_up, keeper.health) = (None, None);
        let trunk = keeper.trunk.clone();
        tracing::info!(trunk = trunk.name, "the trunk is gone, or is reached otherwise: its calls go on");
        if self.trunks.iter().any(|(_, other)| other.registers_as(&trunk)) {
            self.drop_registration(at);
        } else {
            self.deregister(now, at);
        }
        self.set_deadline(at);
    }

    /// Forgets the trunks that have left and of which nothing is left.
    pub(in crate::switch) fn let_go(&mut self) {
        let over = |keeper: &&Keeper| keeper.leaving && keeper.registering.as_ref().is_none_or(Registering::is_over);
        let over: Vec<TrunkId> = self.keepers.keepers.iter().filter(over).map(|keeper| keeper.id).collect();
        for at in over.into_iter().filter(|at| self.trunks.forget(*at)) {
            self.keepers.keepers.retain(|keeper| keeper.id != at);
            self.timers.set(Owner::Trunk(at), None);
        }
    }

    /// Nothing more is begun for any trunk, and registrations are taken back: new calls shall go elsewhere. The NATs' bindings
    /// are held on for the calls that stand.
    pub(in crate::switch) fn stop_keeping(&mut self, now: Now) {
        for at in self.keepers.ids() {
            if let Some(keeper) = self.keepers.get_mut(at) {
                (keeper.look_up, keeper.health) = (None, None);
            }
            self.deregister(now, at);
            self.set_deadline(at);
        }
    }

    /// Does what is due for a trunk.
    pub(in crate::switch) fn keep(&mut self, now: Now, at: TrunkId) {
        let Some(keeper) = self.keepers.get_mut(at) else { return };
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
        self.note_health(now, at);
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
        let Some(at) = self.keepers.named(trunk) else { return };
        match result {
            Ok(located) => {
                tracing::debug!(trunk, targets = located.targets().count(), ?ttl, "found");
                self.trunks.located(trunk, located);
                self.new_targets(now, at);
            }
            // A last good answer stays of use.
            Err(error) => {
                tracing::warn!(trunk, %error, "the trunk's name is not found");
                self.trunks.note_trouble(now.instant, at, Trouble::Name, None);
            }
        }
        if let Some(keeper) = self.keepers.get_mut(at).filter(|_| !self.draining) {
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
                let status = result.ok().map(|response| response.status);
                let alive = status.is_some_and(says_alive);
                let health = self.keepers.get_mut(at).and_then(|keeper| keeper.health.as_mut());
                let rtt = health.and_then(|health| health.answered(now.instant, &mut self.rng, &target, alive));
                if let Some(rtt) = rtt {
                    self.trunks.note_rtt(at, &target, rtt);
                }
                self.note_health(now, at);
                if !alive {
                    self.trunks.note_trouble(now.instant, at, Trouble::Options, status);
                }
            }
            Asked::Registration => self.registration(now, at, RegisterEvent::Answer { cseq, result }),
        }
        self.set_deadline(at);
    }

    /// A trunk has shown that it is there.
    pub(in crate::switch) fn trunk_alive(&mut self, now: Now, name: &str) {
        let Some(at) = self.keepers.named(name) else { return };
        if let Some(health) = self.keepers.get_mut(at).and_then(|keeper| keeper.health.as_mut()) {
            health.alive();
        }
        self.note_health(now, at);
    }

    /// Calls found nobody at these trunks: they are asked at once.
    pub(in crate::switch) fn ask_suspects(&mut self, now: Now) {
        for at in self.trunks.take_suspects() {
            if let Some(health) = self.keepers.get_mut(at).and_then(|keeper| keeper.health.as_mut()) {
                health.suspect(now.instant);
            }
            self.set_deadline(at);
        }
    }

    fn new_targets(&mut self, now: Now, at: TrunkId) {
        let Some(keeper) = self.keepers.get_mut(at) else { return };
        if let Some(health) = &mut keeper.health {
            health.set_targets(now.instant, &mut self.rng, self.trunks.all_targets(at));
        }
        for target in self.trunks.all_targets(at) {
            self.ua.udp_only(target.remote, keeper.trunk.udp_only);
        }
        self.register_at(now, at);
    }

    fn note_health(&mut self, now: Now, at: TrunkId) {
        let Some(health) = self.keepers.get(at).and_then(|keeper| keeper.health.as_ref()) else { return };
        let up = health.is_up();
        if !self.trunks.set_health(now.instant, at, up, |target| health.is_target_up(target)) {
            return;
        }
        if let Some(trunk) = self.keepers.trunk(at).map(|trunk| trunk.name.clone()) {
            self.notice(if up { Notice::TrunkUp { trunk } } else { Notice::TrunkDown { trunk } });
        }
    }

    pub(super) fn set_deadline(&mut self, at: TrunkId) {
        let deadline = self.keepers.get(at).and_then(Keeper::deadline);
        self.timers.set(Owner::Trunk(at), deadline);
    }

    fn probe(&mut self, now: Now, at: TrunkId, trunk: &Trunk, target: Target) {
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
