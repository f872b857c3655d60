//! What is known of the trunks at a moment: targets, health, registration, calls and rate. The calls ask here whether and
//! where a trunk may be called; the switch writes down what it finds out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use schemars::JsonSchema;
use serde::Serialize;

use super::Trunk;
use crate::sip::{Flow, Located, SessionId, Target};

/// How long a target that did not answer stands behind the others ([RFC 3263 section
/// 4.3](https://www.rfc-editor.org/rfc/rfc3263#section-4.3)).
const QUARANTINE: Duration = Duration::from_secs(60);
/// The longest Retry-After of a target's 503 that is believed.
const LONGEST_QUARANTINE: Duration = Duration::from_secs(300);
/// The shortest.
const SHORTEST_QUARANTINE: Duration = Duration::from_secs(1);

/// Which trunk. A number is never used again, so that what is still under way for a trunk that is gone finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrunkId(u64);

/// What a new configuration means for a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stands as before, or differs in what the next call asks for anew.
    Stays(TrunkId),
    /// It is new.
    Comes(TrunkId),
    /// It is not there any more, or is reached otherwise: calls of its that stand go on.
    Leaves(TrunkId),
}

/// Why a trunk takes no call now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// There is no trunk of that name.
    Unknown,
    /// Its name has not been found yet.
    Unresolved,
    /// It does not answer.
    Down,
    /// It has refused our registration, or is not reached by it.
    Unregistered,
    /// It has as many calls as it takes.
    TooManyCalls,
    /// It has been given as many calls this second as it takes.
    TooManyPerSecond,
}

impl Refused {
    /// The word for call records.
    pub fn word(self) -> &'static str {
        match self {
            Refused::Unknown => "unknown",
            Refused::Unresolved => "unresolved",
            Refused::Down => "down",
            Refused::Unregistered => "unregistered",
            Refused::TooManyCalls | Refused::TooManyPerSecond => "limit",
        }
    }

    /// Seconds after which it is worth another try: the `Retry-After` of a 503.
    pub fn retry_after(self) -> u32 {
        match self {
            Refused::TooManyPerSecond => 1,
            _ => 5,
        }
    }
}

/// How a trunk stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TrunkState {
    /// Its name in the configuration.
    pub name: String,
    /// Whether it answers OPTIONS, as far as it is asked.
    pub up: bool,
    /// Calls now, both directions together.
    pub calls: u32,
    /// Calls refused for its limits since the start.
    pub refused: u64,
    /// For how many seconds it has been up, or down; absent where that has not changed since it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_seconds: Option<u64>,
    /// What went wrong with it last; absent where nothing has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<TrunkFailure>,
    /// Its addresses; none while its name is not found.
    pub targets: Vec<TargetState>,
}

/// Something that went wrong with a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TrunkFailure {
    /// What.
    pub what: Trouble,
    /// The SIP status that said so; absent where nobody answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip: Option<u16>,
    /// How long ago.
    pub seconds_ago: u64,
}

/// What can go wrong with a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// Its name is not found.
    Name,
    /// A target does not answer OPTIONS, or says that nobody is there.
    Options,
    /// A call found nobody at a target.
    Call,
    /// It does not take our registration.
    Registration,
}

/// How a target of a trunk stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TargetState {
    /// Address and port.
    pub address: SocketAddr,
    /// `udp`, `tcp`, `tls`.
    pub transport: &'static str,
    /// Whether it answers OPTIONS, as far as it is asked.
    pub up: bool,
    /// Whether a call found nobody there in the last minute, or was told to come later.
    pub failed: bool,
    /// How long its last answer to OPTIONS took, milliseconds; absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u32>,
}

/// The trunks as they stand.
#[derive(Debug, Default)]
pub struct Trunks {
    /// In the order of the configuration, then those that leave.
    entries: Vec<Entry>,
    sessions: BTreeMap<SessionId, TrunkId>,
    suspects: Vec<TrunkId>,
    last: u64,
}

#[derive(Debug)]
struct Entry {
    id: TrunkId,
    trunk: Arc<Trunk>,
    /// Not of the configuration any more: no call begins here, and it is forgotten when the last one has ended.
    leaving: bool,
    located: Located,
    /// Until when a target stands behind the others.
    quarantine: BTreeMap<Target, Instant>,
    /// Those that do not answer OPTIONS.
    down: BTreeSet<Target>,
    up: bool,
    /// When it came up or went down last.
    changed: Option<Instant>,
    /// What went wrong last, with the status that said so.
    trouble: Option<(Instant, Trouble, Option<u16>)>,
    /// How long the targets' last answers to OPTIONS took.
    rtts: BTreeMap<Target, Duration>,
    /// `None`: it is not known yet, or not wanted.
    registered: Option<bool>,
    calls: u32,
    refused: u64,
    /// When the rate's bucket is empty of debts (the generic cell rate algorithm): one call adds one interval.
    debt: Option<Instant>,
}

impl Trunks {
    /// All of them held for up and registered until the contrary is known.
    pub fn new(trunks: Vec<Trunk>) -> Trunks {
        let mut all = Trunks::default();
        all.reload(trunks);
        all
    }

    /// These are the trunks from now on. One that is reached and registered with as before keeps what is known of it. Of
    /// the changes those of trunks that leave come first.
    pub fn reload(&mut self, trunks: Vec<Trunk>) -> Vec<Change> {
        let mut before: Vec<Entry> = std::mem::take(&mut self.entries);
        let mut changes = Vec::new();
        for trunk in trunks {
            let alike =
                |entry: &Entry| !entry.leaving && entry.trunk.name == trunk.name && entry.trunk.is_where(&trunk);
            let entry = match before.iter().position(alike) {
                Some(at) => {
                    let mut entry = before.remove(at);
                    changes.push(Change::Stays(entry.id));
                    entry.trunk = Arc::new(trunk);
                    entry
                }
                None => {
                    self.last += 1;
                    changes.push(Change::Comes(TrunkId(self.last)));
                    Entry::new(TrunkId(self.last), trunk)
                }
            };
            self.entries.push(entry);
        }
        let leaves = before.iter().filter(|entry| !entry.leaving).map(|entry| Change::Leaves(entry.id));
        let changes = leaves.chain(changes).collect();
        self.entries.extend(before.into_iter().map(|entry| Entry { leaving: true, ..entry }));
        changes
    }

    /// Forgets a trunk that is not of the configuration any more and has no calls; `false`: it has some.
    pub fn forget(&mut self, id: TrunkId) -> bool {
        self.entries.retain(|entry| entry.id != id || !entry.leaving || entry.calls > 0);
        self.at(id).is_none()
    }

    /// The trunk of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Trunk>> {
        self.named(name).map(|entry| &entry.trunk)
    }

    /// In the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = (TrunkId, &Arc<Trunk>)> {
        self.present().map(|entry| (entry.id, &entry.trunk))
    }

    /// Whether calls may go to any trunk, or there is none at all.
    pub fn any_usable(&self) -> bool {
        let usable = |entry: &Entry| !entry.located.is_empty() && entry.up && entry.registered != Some(false);
        self.present().any(usable) || self.present().next().is_none()
    }

    /// Whether a call may be begun through a trunk now. A yes counts as one call of this second; the call itself counts
    /// from [`Trunks::began`].
    ///
    /// # Errors
    /// [`Refused`]: try the next one.
    pub fn admit(&mut self, now: Instant, name: &str) -> Result<(), Refused> {
        let calls = self.calls_of(name);
        let entry = self.entry(name).ok_or(Refused::Unknown)?;
        if entry.located.is_empty() {
            return Err(Refused::Unresolved);
        }
        if entry.registered == Some(false) {
            return Err(Refused::Unregistered);
        }
        if !entry.up {
            return Err(Refused::Down);
        }
        entry.take(now, calls)
    }

    /// Whether a trunk's own call may be taken: its limits alone.
    ///
    /// # Errors
    /// [`Refused`]: 503 with [`Refused::retry_after`].
    pub fn admit_inbound(&mut self, now: Instant, name: &str) -> Result<(), Refused> {
        let calls = self.calls_of(name);
        self.entry(name).ok_or(Refused::Unknown)?.take(now, calls)
    }

    /// A session with a trunk has begun: it counts until [`Trunks::closed`].
    pub fn began(&mut self, session: SessionId, name: &str) {
        let Some(id) = self.named(name).map(|entry| entry.id) else { return };
        if self.sessions.insert(session, id).is_none()
            && let Some(entry) = self.at_mut(id)
        {
            entry.calls = entry.calls.saturating_add(1);
        }
    }

    /// The trunk of a session that has begun and not closed.
    pub fn of_session(&self, session: SessionId) -> Option<&Arc<Trunk>> {
        self.at(*self.sessions.get(&session)?).map(|entry| &entry.trunk)
    }

    /// A session has closed.
    pub fn closed(&mut self, session: SessionId) {
        let id = self.sessions.remove(&session);
        if let Some(entry) = id.and_then(|id| self.at_mut(id)) {
            entry.calls = entry.calls.saturating_sub(1);
        }
    }

    /// What the DNS gave for a trunk's name: it holds from the next call on.
    pub fn located(&mut self, name: &str, located: Located) {
        if let Some(entry) = self.entry(name) {
            let stays = |target: &Target| located.targets().any(|known| known == target);
            entry.quarantine.retain(|target, _| stays(target));
            entry.rtts.retain(|target, _| stays(target));
            entry.located = located;
        }
    }

    /// All targets of a trunk.
    pub fn all_targets(&self, id: TrunkId) -> impl Iterator<Item = &Target> {
        self.at(id).into_iter().flat_map(|entry| entry.located.targets())
    }

    /// What was found out about a trunk, and about its targets; `true` where it is up, or down, and was not before.
    pub fn set_health(&mut self, now: Instant, id: TrunkId, up: bool, is_up: impl Fn(&Target) -> bool) -> bool {
        let Some(entry) = self.at_mut(id) else { return false };
        let trunk = &entry.trunk.name;
        let down: BTreeSet<Target> = entry.located.targets().filter(|target| !is_up(target)).cloned().collect();
        for target in entry.down.difference(&down) {
            tracing::info!(trunk, remote = %target.remote, "the trunk's target answers again");
            entry.quarantine.remove(target);
        }
        for target in down.difference(&entry.down) {
            tracing::warn!(trunk, remote = %target.remote, "the trunk's target does not answer OPTIONS");
            entry.trouble = Some((now, Trouble::Options, None));
        }
        entry.down = down;
        match (std::mem::replace(&mut entry.up, up), up) {
            (true, false) => tracing::warn!(trunk, "the trunk is down: it is skipped until it answers"),
            (false, true) => tracing::info!(trunk, "the trunk is up"),
            _ => return false,
        }
        entry.changed = Some(now);
        true
    }

    /// Something went wrong with a trunk; `sip`: the status that said so.
    pub fn note_trouble(&mut self, now: Instant, id: TrunkId, what: Trouble, sip: Option<u16>) {
        if let Some(entry) = self.at_mut(id) {
            entry.trouble = Some((now, what, sip));
        }
    }

    /// A target has answered OPTIONS after this time.
    pub fn note_rtt(&mut self, id: TrunkId, target: &Target, rtt: Duration) {
        if let Some(entry) = self.at_mut(id)
            && entry.located.targets().any(|known| known == target)
        {
            entry.rtts.insert(target.clone(), rtt);
        }
    }

    /// The best target that neither failed lately nor is down.
    pub fn fresh_target(&self, now: Instant, rng: &mut StdRng, name: &str) -> Option<Target> {
        let entry = self.named(name)?;
        let fresh = |target: &Target| {
            !entry.down.contains(target) && entry.quarantine.get(target).is_none_or(|until| *until <= now)
        };
        entry.located.order(rng).into_iter().find(fresh)
    }

    /// Whether a trunk has us registered, where that is wanted; gives what was known before.
    pub fn set_registered(&mut self, id: TrunkId, registered: bool) -> Option<bool> {
        let entry = self.at_mut(id)?;
        entry.registered.replace(registered)
    }

    /// How the trunks stand, in the order of the configuration.
    pub fn states(&self, now: Instant) -> impl Iterator<Item = (TrunkId, TrunkState)> {
        self.present().map(move |entry| (entry.id, entry.state(now, self.calls_of(&entry.trunk.name))))
    }

    /// The trunks at which calls found nobody since the last time.
    pub fn take_suspects(&mut self) -> Vec<TrunkId> {
        std::mem::take(&mut self.suspects)
    }

    /// Where to call, in the order to try: by priority, within one drawn by weight, and those that failed lately last.
    pub fn targets(&self, now: Instant, rng: &mut StdRng, name: &str) -> Vec<Target> {
        let Some(entry) = self.named(name) else { return Vec::new() };
        let mut targets = entry.located.order(rng);
        let failed = |target: &Target| entry.quarantine.get(target).filter(|until| **until > now).copied();
        targets.sort_by_key(|target| (entry.down.contains(target), failed(target)));
        targets
    }

    /// A target did not answer in time, could not be reached, or said 503: it stands behind the others for a minute, or for
    /// as long as its Retry-After says (1 s to 5 min; RFC 3261 section 21.5.4).
    pub fn failed(&mut self, now: Instant, name: &str, target: &Target, retry_after: Option<Duration>) {
        let until = now + retry_after.map_or(QUARANTINE, |it| it.clamp(SHORTEST_QUARANTINE, LONGEST_QUARANTINE));
        let Some(entry) = self.entry(name) else { return };
        let id = entry.id;
        if entry.located.targets().any(|known| known == target) {
            entry.quarantine.insert(target.clone(), until);
            entry.trouble = Some((now, Trouble::Call, None));
            tracing::info!(trunk = name, remote = %target.remote, "the trunk's target does not answer");
        }
        if !self.suspects.contains(&id) {
            self.suspects.push(id);
        }
    }

    /// The trunk to which what comes over a flow belongs: by address and port of a target, then by address and transport
    /// (a connection comes from a port of its own), then by address, then by the networks it may send from.
    pub fn of_flow(&self, flow: Flow) -> Option<Arc<Trunk>> {
        let exact = |target: &Target| target.remote == flow.remote && target.transport == flow.transport;
        let source = flow.remote.ip();
        let alike = |target: &Target| {
            target.remote.ip().to_canonical() == source.to_canonical() && target.transport == flow.transport
        };
        let found = self.present().find(|entry| entry.located.targets().any(exact));
        let found = found.or_else(|| self.present().find(|entry| entry.located.targets().any(alike)));
        found.or_else(|| self.present().find(|entry| entry.sends_from(source))).map(|entry| entry.trunk.clone())
    }

    /// Whether this is the very address and port of a trunk's target.
    pub fn have_target_at(&self, flow: Flow) -> bool {
        let exact = |target: &Target| target.remote == flow.remote && target.transport == flow.transport;
        self.present().any(|entry| entry.located.targets().any(exact))
    }

    /// Whether any trunk may send from `source`; one that leaves may, for the calls that it still has.
    pub fn know(&self, source: IpAddr) -> bool {
        self.entries.iter().any(|entry| entry.sends_from(source))
    }

    /// Those of the configuration.
    fn present(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.leaving)
    }

    fn named(&self, name: &str) -> Option<&Entry> {
        self.present().find(|entry| entry.trunk.name == name)
    }

    fn entry(&mut self, name: &str) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| !entry.leaving && entry.trunk.name == name)
    }

    fn at(&self, id: TrunkId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    fn at_mut(&mut self, id: TrunkId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    /// Its calls, and those of what had its name before.
    fn calls_of(&self, name: &str) -> u32 {
        self.entries.iter().filter(|entry| entry.trunk.name == name).map(|entry| entry.calls).sum()
    }
}

impl Entry {
    fn new(id: TrunkId, trunk: Trunk) -> Entry {
        Entry {
            id,
            located: Located::fixed(trunk.targets.iter().cloned()),
            trunk: Arc::new(trunk),
            leaving: false,
            quarantine: BTreeMap::new(),
            down: BTreeSet::new(),
            up: true,
            changed: None,
            trouble: None,
            rtts: BTreeMap::new(),
            registered: None,
            calls: 0,
            refused: 0,
            debt: None,
        }
    }

    fn state(&self, now: Instant, calls: u32) -> TrunkState {
        let state = |target: &Target| TargetState {
            address: target.remote,
            transport: target.transport.uri_name(),
            up: !self.down.contains(target),
            failed: self.quarantine.get(target).is_some_and(|until| *until > now),
            rtt_ms: self.rtts.get(target).map(|rtt| u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX)),
        };
        let ago = |at: Instant| now.saturating_duration_since(at).as_secs();
        TrunkState {
            name: self.trunk.name.clone(),
            up: self.up,
            calls,
            refused: self.refused,
            for_seconds: self.changed.map(ago),
            last_failure: self.trouble.map(|(at, what, sip)| TrunkFailure { what, sip, seconds_ago: ago(at) }),
            targets: self.located.targets().map(state).collect(),
        }
    }

    /// A listener on `[::]` shows IPv4 peers with mapped addresses.
    fn sends_from(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.located.targets().any(|target| target.remote.ip().to_canonical() == source)
            || self.trunk.sources.iter().any(|network| network.contains(source))
    }

    fn take(&mut self, now: Instant, calls: u32) -> Result<(), Refused> {
        let taken = self.within_limits(now, calls);
        self.refused = self.refused.saturating_add(u64::from(taken.is_err()));
        taken
    }

    fn within_limits(&mut self, now: Instant, calls: u32) -> Result<(), Refused> {
        if self.trunk.limits.calls.is_some_and(|most| calls >= most) {
            return Err(Refused::TooManyCalls);
        }
        if let Some(rate) = self.trunk.limits.calls_per_second.filter(|rate| *rate > 0) {
            let interval = Duration::from_secs(1) / rate;
            let debt = self.debt.map_or(now, |debt| debt.max(now));
            if debt + interval > now + Duration::from_secs(1) {
                return Err(Refused::TooManyPerSecond);
            }
            self.debt = Some(debt + interval);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::sip::Transport;

    fn trunk(name: &str, transport: Transport, remote: &str) -> Trunk {
        let local = "192.0.2.1:5060".parse().unwrap();
        let mut trunk = Trunk::new(name);
        trunk.targets = vec![Target { transport, local, remote: remote.parse().unwrap(), server_name: None }];
        trunk
    }

    /// One PBX, several trunks: a connection of its own comes from any port, and belongs to the trunk of its transport.
    #[test]
    fn trunks_at_one_address_are_told_by_port_then_by_transport() {
        let trunks = Trunks::new(vec![
            trunk("plain", Transport::Udp, "192.0.2.9:5060"),
            trunk("sealed", Transport::Tls, "192.0.2.9:5061"),
            trunk("other-port", Transport::Tls, "192.0.2.9:5071"),
        ]);
        let of = |transport, remote: &str| {
            let local = "192.0.2.1:5060".parse().unwrap();
            let flow = Flow { transport, local, remote: remote.parse().unwrap(), id: 1 };
            trunks.of_flow(flow).map(|trunk| trunk.name.clone())
        };
        assert_eq!(of(Transport::Tls, "192.0.2.9:5071").as_deref(), Some("other-port"));
        assert_eq!(of(Transport::Tls, "192.0.2.9:40001").as_deref(), Some("sealed"));
        assert_eq!(of(Transport::Tls, "[::ffff:192.0.2.9]:40001").as_deref(), Some("sealed"));
        assert_eq!(of(Transport::Udp, "192.0.2.9:5062").as_deref(), Some("plain"));
        assert_eq!(of(Transport::Tcp, "192.0.2.9:40001").as_deref(), Some("plain"));
        assert_eq!(of(Transport::Tls, "192.0.2.8:5061"), None);
    }
}
