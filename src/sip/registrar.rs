//! The registrar of SIP phones: [RFC 3261 section 10.3](https://www.rfc-editor.org/rfc/rfc3261#section-10.3), with
//! digest authentication ([RFC 7616](https://www.rfc-editor.org/rfc/rfc7616), RFC 8760), which calls from phones take too.
//! Sans-IO; the phones' names are their addresses of record.
//!
//! A phone is reached over the flow of its last REGISTER, wherever its Contact points (RFC 5626's lesson; a browser's has a
//! name that nobody can look up, [RFC 7118 section 5.2.3](https://www.rfc-editor.org/rfc/rfc7118#section-5.2.3)). Guessing is
//! slowed by source and by user; a phone that is registered is not locked out by others' guesses.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

pub use super::digest::Algorithm;
pub use super::throttle::ThrottleLimits;

use super::authority::{Authority, Kind, Verdict};
use super::headers::decimal;
use super::register::same_binding;
use super::throttle::Throttle;
use super::transaction::earlier;
use super::{CSeq, Flow, Host, NameAddr, Request, Response, Shown, Transport, Uri, default_reason};

/// Contacts that one REGISTER may name.
const MAX_CONTACTS: usize = 16;

/// What a user's password is known by. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The password itself.
    Password(String),
    /// H(user:realm:password) in lower-case hex, with one hash or both: the password cannot be read from it, but who has
    /// it can log in.
    Ha1 {
        /// With MD5.
        md5: Option<String>,
        /// With SHA-256.
        sha256: Option<String>,
    },
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    fn ha1(&self, algorithm: Algorithm, user: &str, realm: &str) -> Option<String> {
        match (self, algorithm) {
            (Secret::Password(password), _) => Some(algorithm.ha1(user, realm, password)),
            (Secret::Ha1 { md5, .. }, Algorithm::Md5) => md5.clone(),
            (Secret::Ha1 { sha256, .. }, Algorithm::Sha256) => sha256.clone(),
        }
    }

    fn has(&self, algorithm: Algorithm) -> bool {
        self.ha1(algorithm, "", "").is_some()
    }
}

/// How a registrar is set up.
#[derive(Clone, Debug)]
pub struct RegistrarConfig {
    /// The realm of its challenges: no `"` and no line breaks in it.
    pub realm: String,
    /// The users by their names.
    pub users: BTreeMap<String, Secret>,
    /// Hashes to challenge with. One that some user's [`Secret`] does not have is left out for all: what a challenge looks
    /// like must not depend on the user.
    pub algorithms: Vec<Algorithm>,
    /// Bindings of one user. The one refreshed longest ago gives way to a new one.
    pub max_bindings: usize,
    /// Seconds below which a registration is refused with 423. Section 10.3 forbids that for an hour and more.
    pub min_expires: u32,
    /// Seconds to which a longer one is cut.
    pub max_expires: u32,
    /// Seconds where the phone asks for none.
    pub default_expires: u32,
    /// When guessing from one address is slowed.
    pub per_source: ThrottleLimits,
    /// When guessing one user's password is slowed.
    pub per_user: ThrottleLimits,
}

impl RegistrarConfig {
    /// MD5 and SHA-256, 5 bindings, 60 to 3,600 s, 3,600 s where none is asked for; throttles by default.
    pub fn new(realm: &str, users: BTreeMap<String, Secret>) -> RegistrarConfig {
        RegistrarConfig {
            realm: realm.to_owned(),
            users,
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            max_bindings: 5,
            min_expires: 60,
            max_expires: 3_600,
            default_expires: 3_600,
            per_source: ThrottleLimits { free: 20, ..ThrottleLimits::default() },
            per_user: ThrottleLimits::default(),
        }
    }
}

impl RegistrarConfig {
    /// Those that every user's secret has.
    fn common_algorithms(&self) -> Vec<Algorithm> {
        let all_have = |algorithm: &Algorithm| self.users.values().all(|secret| secret.has(*algorithm));
        self.algorithms.iter().copied().filter(all_have).collect()
    }
}

/// Where a user can be reached.
#[derive(Clone, Debug)]
pub struct Binding {
    /// His Contact: the Request-URI of calls to him.
    pub contact: Uri,
    /// The way to him.
    pub flow: Flow,
    /// When it ends unless it is refreshed.
    pub until: Instant,
    /// His preference in thousandths; more is better.
    pub q: u16,
    call_id: String,
    cseq: u32,
    /// RFC 5626's `+sip.instance` and `reg-id`: a phone that comes back elsewhere replaces itself.
    instance: Option<(String, String)>,
    refreshed: Instant,
    /// Whoever registered it was known by other means than a password of ours.
    vouched: bool,
}

impl Binding {
    /// Whether whoever registered it was known by other means than a password: by a token.
    pub fn is_by_token(&self) -> bool {
        self.vouched
    }
}

/// Who registers, where that is known by other means than a password: by a token, say.
#[derive(Clone, Copy, Debug)]
pub struct Vouched<'a> {
    /// The user.
    pub user: &'a str,
    /// No registration lasts longer than so many seconds.
    pub most: Option<u32>,
}

/// What a registrar has done and has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegistrarCounters {
    /// Users with a binding now.
    pub users: usize,
    /// Bindings now.
    pub bindings: usize,
    /// Addresses and users that are refused now for guessing.
    pub throttled: usize,
    /// Challenges given.
    pub challenged: u64,
    /// Requests with the right password.
    pub authenticated: u64,
    /// Requests with a wrong one, or of no user.
    pub failed: u64,
    /// Requests refused for guessing, unseen.
    pub slowed: u64,
}

/// A registrar. Responses of its functions have no To-tag yet: [`super::UserAgent::respond`] adds it.
#[derive(Debug)]
pub struct Registrar {
    config: RegistrarConfig,
    authority: Authority,
    bindings: BTreeMap<String, Vec<Binding>>,
    /// When the first of the bindings ends, or earlier.
    next_expiry: Option<Instant>,
    /// Where phones are registered from, and until when at the latest.
    known: BTreeMap<IpAddr, Instant>,
    sources: Throttle<IpAddr>,
    guessed: Throttle<String>,
    counters: RegistrarCounters,
}

/// When and how a REGISTER came.
#[derive(Clone, Copy, Debug)]
struct Registering {
    now: Instant,
    flow: Flow,
    /// See [`Vouched::most`].
    most: Option<u32>,
    vouched: bool,
}

/// One Contact of a REGISTER.
struct Wish {
    contact: NameAddr,
    seconds: u32,
    q: u16,
}

impl Registrar {
    /// A registrar without bindings. `seed` must be secret and used once.
    pub fn new(config: RegistrarConfig, seed: [u8; 32]) -> Registrar {
        Registrar {
            authority: Authority::new(&config.realm, config.common_algorithms(), seed),
            bindings: BTreeMap::new(),
            next_expiry: None,
            known: BTreeMap::new(),
            sources: Throttle::new(config.per_source),
            guessed: Throttle::new(config.per_user),
            counters: RegistrarCounters::default(),
            config,
        }
    }

    /// Works by this configuration from now on. Bindings stay, but for those of users who are gone or have another secret.
    /// What is known of guessing stays as well.
    pub fn reload(&mut self, config: RegistrarConfig, seed: [u8; 32]) {
        let algorithms = config.common_algorithms();
        if self.config.realm != config.realm || self.config.common_algorithms() != algorithms {
            self.authority = Authority::new(&config.realm, algorithms, seed);
        }
        let before = std::mem::replace(&mut self.config, config);
        let same = |user: &String| {
            let secret = self.config.users.get(user);
            secret.is_some() && secret == before.users.get(user)
        };
        self.bindings.retain(|user, bindings| {
            // The newest stay.
            bindings.sort_by_key(|binding| std::cmp::Reverse(binding.refreshed));
            bindings.truncate(self.config.max_bindings);
            bindings.retain(|binding| binding.vouched || same(user));
            !bindings.is_empty()
        });
        self.known.clear();
        for binding in self.bindings.values().flatten() {
            know(&mut self.known, binding);
        }
    }

    /// Answers a REGISTER that came over `flow`.
    pub fn handle(&mut self, now: Instant, request: &Request, flow: Flow) -> Response {
        self.expire(now);
        match self.check(now, request, flow, Kind::Server) {
            Ok(user) => self.register(now, Vouched { user: &user, most: None }, false, request, flow),
            Err(response) => *response,
        }
    }

    /// Answers a REGISTER of somebody who needs no password.
    pub fn handle_vouched(&mut self, now: Instant, by: Vouched<'_>, request: &Request, flow: Flow) -> Response {
        self.expire(now);
        self.counters.authenticated += 1;
        self.register(now, by, true, request, flow)
    }

    fn register(
        &mut self,
        now: Instant,
        Vouched { user, most }: Vouched<'_>,
        vouched: bool,
        request: &Request,
        flow: Flow,
    ) -> Response {
        // RFC 3327: we keep no Path, and without it calls would not find back.
        if request.headers.get("Path").is_some() {
            let mut response = refusal(request, 420);
            response.headers.push("Unsupported", "path");
            return response;
        }
        // Section 10.3, step 4: a user registers himself alone.
        let aor = request.headers.to().ok().and_then(|to| to.uri.decoded_user());
        if aor.as_deref() != Some(user) {
            return refusal(request, 403);
        }
        let registering = Registering { now, flow, most, vouched };
        match self.update(user, request, registering) {
            Ok(()) => self.listing(now, user, request),
            Err(423) => {
                let mut response = refusal(request, 423);
                response.headers.push("Min-Expires", self.config.min_expires.to_string());
                response
            }
            Err(status) => refusal(request, status),
        }
    }

    /// Tells who sends a request other than REGISTER, by the credentials of a proxy (407). `Err`: the refusal to send.
    pub fn authenticate(&mut self, now: Instant, request: &Request, flow: Flow) -> Result<String, Box<Response>> {
        self.expire(now);
        self.check(now, request, flow, Kind::Proxy)
    }

    /// Where a user can be reached, the best first. Empty for who is not registered or is no user.
    pub fn bindings(&self, user: &str, now: Instant) -> Vec<Binding> {
        let all = self.bindings.get(user).into_iter().flatten();
        let mut live: Vec<Binding> = all.filter(|binding| binding.until > now).cloned().collect();
        live.sort_by_key(|binding| (std::cmp::Reverse(binding.q), std::cmp::Reverse(binding.refreshed)));
        live
    }

    /// All bindings that have not ended, each with its user's name.
    pub fn all(&self, now: Instant) -> impl Iterator<Item = (&str, &Binding)> {
        let all = self.bindings.iter();
        let all = all.flat_map(|(user, bindings)| bindings.iter().map(move |binding| (user.as_str(), binding)));
        all.filter(move |(_, binding)| binding.until > now)
    }

    /// True where nobody has a password: a challenge would be in vain.
    pub fn is_without_users(&self) -> bool {
        self.config.users.is_empty()
    }

    /// True for the name of a user, registered or not.
    pub fn is_user(&self, user: &str) -> bool {
        self.config.users.contains_key(user)
    }

    /// True if a phone has registered from this address, and that time is not over: it is no stranger's.
    pub fn knows(&self, source: IpAddr, now: Instant) -> bool {
        self.known.get(&source.to_canonical()).is_some_and(|until| *until > now)
    }

    /// True if a phone is registered over this very way: same transport, address and port.
    pub fn has_phone_at(&self, flow: Flow, now: Instant) -> bool {
        let same = |binding: &Binding| {
            binding.until > now && binding.flow.remote == flow.remote && binding.flow.transport == flow.transport
        };
        let known = flow.transport.is_websocket() || self.knows(flow.remote.ip(), now);
        known && self.bindings.values().flatten().any(same)
    }

    /// The connection of `flow` is gone. A phone that gave its address is called there over a new one; one that is
    /// reachable over this connection alone (TLS, WebSocket, a name) is no longer registered.
    ///
    /// Gives those, each with its user's name: such a phone may come back by another connection.
    pub fn connection_closed(&mut self, flow: Flow) -> Vec<(String, Binding)> {
        let mut gone = Vec::new();
        if flow.id == 0 {
            return gone;
        }
        for (user, bindings) in &mut self.bindings {
            bindings.retain_mut(|binding| {
                if binding.flow.id != flow.id {
                    return true;
                }
                let address = contact_address(&binding.contact, binding.flow.transport);
                let Some(remote) = address.filter(|_| flow.transport == Transport::Tcp) else {
                    gone.push((user.clone(), binding.clone()));
                    return false;
                };
                binding.flow = Flow { id: 0, remote, ..binding.flow };
                true
            });
        }
        self.bindings.retain(|_, bindings| !bindings.is_empty());
        gone
    }

    /// What it has done and has.
    pub fn counters(&self, now: Instant) -> RegistrarCounters {
        let live = |bindings: &&Vec<Binding>| bindings.iter().any(|binding| binding.until > now);
        RegistrarCounters {
            users: self.bindings.values().filter(live).count(),
            bindings: self.bindings.values().flatten().filter(|binding| binding.until > now).count(),
            throttled: self.sources.refused(now) + self.guessed.refused(now),
            ..self.counters
        }
    }

    /// Who it is, or how to refuse.
    fn check(&mut self, now: Instant, request: &Request, flow: Flow, kind: Kind) -> Result<String, Box<Response>> {
        let answer = self.authority.answer(kind, request);
        let source = source_of(flow);
        let claimed = answer.as_ref().map(|answer| answer.username.clone()).unwrap_or_default();
        if let Some(left) = self.slowed(now, source, &claimed, flow) {
            self.counters.slowed += 1;
            let mut response = refusal(request, 503);
            response.headers.push("Retry-After", left.as_secs().max(1).to_string());
            return Err(Box::new(response));
        }
        let Some(answer) = answer else { return Err(self.challenge(now, request, flow, kind, false)) };
        let secret = self.config.users.get(&claimed);
        let realm = &self.config.realm;
        let verdict = self.authority.judge(now, request, &answer, |algorithm| secret?.ha1(algorithm, &claimed, realm));
        match verdict {
            Verdict::Right => {
                self.counters.authenticated += 1;
                self.guessed.succeeded(&claimed);
                Ok(claimed)
            }
            Verdict::Stale => Err(self.challenge(now, request, flow, kind, true)),
            Verdict::Malformed => Err(Box::new(refusal(request, 400))),
            Verdict::Wrong => {
                self.counters.failed += 1;
                let source_slowed = source.is_some_and(|source| self.sources.failed(now, source));
                let user_slowed = self.guessed.failed(now, claimed.clone());
                if source_slowed || user_slowed {
                    tracing::warn!(source = %flow.remote.ip(), user = ?Shown::masked(&claimed), "wrong SIP password, slowed down");
                }
                Err(self.challenge(now, request, flow, kind, false))
            }
        }
    }

    /// How long a request is refused unseen. Its user's own phone, registered over this very way, is not.
    fn slowed(&self, now: Instant, source: Option<IpAddr>, user: &str, flow: Flow) -> Option<Duration> {
        let own = || self.bindings.get(user).into_iter().flatten().filter(|binding| binding.until > now);
        // A request without credentials asks for its challenge, whoever's phone it is.
        if own().any(|binding| is_over(binding, flow)) || user.is_empty() && self.has_phone_at(flow, now) {
            return None;
        }
        // Behind one address there may be many: there the user is not locked out, but the address is slowed.
        let near = source.is_some() && own().any(|binding| is_at(binding, flow.remote.ip()));
        let by_user = self.guessed.refused_for(now, &user.to_owned()).filter(|_| !near);
        source.and_then(|source| self.sources.refused_for(now, &source)).max(by_user)
    }

    fn challenge(&mut self, now: Instant, request: &Request, flow: Flow, kind: Kind, stale: bool) -> Box<Response> {
        self.counters.challenged += 1;
        let mut response = refusal(request, kind.status());
        self.authority.challenge(now, kind, stale, flow.transport.is_websocket(), &mut response.headers);
        Box::new(response)
    }

    /// Section 10.3, steps 6 and 7: all of the changes, or none.
    fn update(&mut self, user: &str, request: &Request, by: Registering) -> Result<(), u16> {
        let cseq = request.headers.cseq().map_err(|_| 400u16)?;
        let call_id = request.headers.call_id().map_err(|_| 400u16)?.to_owned();
        let old = self.bindings.get(user).cloned().unwrap_or_default();
        let new = match self.wishes(request)? {
            None => remove_all(old, &call_id, &cseq)?,
            Some(wishes) => apply(old, wishes, by, (&call_id, &cseq), self.config.max_bindings)?,
        };
        if new.is_empty() {
            self.bindings.remove(user);
        } else {
            for binding in &new {
                know(&mut self.known, binding);
                self.next_expiry = earlier(self.next_expiry, Some(binding.until));
            }
            self.bindings.insert(user.to_owned(), new);
        }
        Ok(())
    }

    /// The Contacts of a REGISTER, with the expiry that each gets; `None` for `*`.
    fn wishes(&self, request: &Request) -> Result<Option<Vec<Wish>>, u16> {
        let lines: Vec<&str> = request.headers.get_all("Contact").map(str::trim).collect();
        // A malformed expiry counts as none (section 10.3, step 7).
        let expires = request.headers.expires().ok().flatten();
        if lines.contains(&"*") {
            return if lines.len() == 1 && expires == Some(0) { Ok(None) } else { Err(400) };
        }
        let contacts = request.headers.contacts().map_err(|_| 400u16)?;
        if contacts.len() > MAX_CONTACTS || contacts.iter().any(|contact| !contact.uri.is_sip()) {
            return Err(400);
        }
        let wish = |contact: NameAddr| {
            let own = contact.params.value("expires").map(|text| decimal(text).unwrap_or(self.config.default_expires));
            let seconds = own.or(expires).unwrap_or(self.config.default_expires);
            if seconds > 0 && seconds < self.config.min_expires.min(3_600) {
                return Err(423);
            }
            let q = contact.params.value("q").map_or(Some(1_000), thousandths).ok_or(400u16)?;
            Ok(Wish { contact, seconds: seconds.min(self.config.max_expires), q })
        };
        contacts.into_iter().map(wish).collect::<Result<Vec<_>, u16>>().map(Some)
    }

    /// 200 with all bindings (section 10.3, step 8).
    fn listing(&self, now: Instant, user: &str, request: &Request) -> Response {
        let mut response = refusal(request, 200);
        for binding in self.bindings(user, now) {
            let seconds = binding.until.saturating_duration_since(now).as_secs_f64().round();
            let mut contact = NameAddr::new(binding.contact);
            contact.params.set("expires", Some(&format!("{seconds}")));
            if binding.q < 1_000 {
                contact.params.set("q", Some(&format!("0.{:03}", binding.q)));
            }
            response.headers.push("Contact", contact.to_string());
        }
        response
    }

    fn expire(&mut self, now: Instant) {
        if self.next_expiry.is_none_or(|at| at > now) {
            return;
        }
        self.bindings.retain(|_, bindings| {
            bindings.retain(|binding| binding.until > now);
            !bindings.is_empty()
        });
        self.known.retain(|_, until| *until > now);
        self.next_expiry = self.bindings.values().flatten().map(|binding| binding.until).min();
    }
}

/// Notes that a phone is registered from an address. A browser's is no news of anybody else there: it is known by its
/// connection, and many may stand behind one proxy.
fn know(known: &mut BTreeMap<IpAddr, Instant>, binding: &Binding) {
    if !binding.flow.transport.is_websocket() {
        let until = known.entry(binding.flow.remote.ip().to_canonical()).or_insert(binding.until);
        *until = binding.until.max(*until);
    }
}

/// `Contact: *`.
fn remove_all(mut bindings: Vec<Binding>, call_id: &str, cseq: &CSeq) -> Result<Vec<Binding>, u16> {
    bindings.iter().try_for_each(|binding| binding.check_order(call_id, cseq))?;
    bindings.clear();
    Ok(bindings)
}

/// Adds, refreshes and removes.
fn apply(
    mut bindings: Vec<Binding>,
    wishes: Vec<Wish>,
    Registering { now, flow, most: longest, vouched }: Registering,
    (call_id, cseq): (&str, &CSeq),
    most: usize,
) -> Result<Vec<Binding>, u16> {
    for Wish { contact, seconds, q } in wishes {
        let instance = instance_of(&contact);
        let is_same =
            |it: &Binding| same_binding(&it.contact, &contact.uri) || instance.is_some() && it.instance == instance;
        if let Some(at) = bindings.iter().position(is_same) {
            bindings.get(at).map_or(Ok(()), |binding| binding.check_order(call_id, cseq))?;
            bindings.remove(at);
        }
        if seconds == 0 {
            continue;
        }
        let oldest = |bindings: &[Binding]| {
            bindings.iter().enumerate().min_by_key(|(_, binding)| binding.refreshed).map(|(at, _)| at)
        };
        while bindings.len() >= most.max(1)
            && let Some(at) = oldest(&bindings)
        {
            bindings.remove(at);
        }
        let seconds = longest.map_or(seconds, |longest| seconds.min(longest));
        bindings.push(Binding {
            contact: contact.uri,
            flow,
            until: now + Duration::from_secs(u64::from(seconds)),
            q,
            call_id: call_id.to_owned(),
            cseq: cseq.number,
            instance,
            refreshed: now,
            vouched,
        });
    }
    Ok(bindings)
}

impl Binding {
    /// Whether it is the same phone: by its `+sip.instance` (RFC 5626), or by its Contact.
    pub fn is_phone_of(&self, other: &Binding) -> bool {
        same_binding(&self.contact, &other.contact) || self.instance.is_some() && self.instance == other.instance
    }

    /// Section 10.3, step 7: within one Call-ID numbers must rise, or the request is out of order.
    fn check_order(&self, call_id: &str, cseq: &CSeq) -> Result<(), u16> {
        if self.call_id == call_id && cseq.number <= self.cseq { Err(500) } else { Ok(()) }
    }
}

fn instance_of(contact: &NameAddr) -> Option<(String, String)> {
    let instance = contact.params.value("+sip.instance")?.to_owned();
    Some((instance, contact.params.value("reg-id").unwrap_or_default().to_owned()))
}

/// `q` from 0 to 1 with up to three decimals (section 25.1).
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let part: u16 = format!("{decimals:0<3}").parse().ok().filter(|_| digits)?;
    match (whole, part) {
        ("0", part) => Some(part),
        ("1", 0) => Some(1_000),
        _ => None,
    }
}

fn contact_address(contact: &Uri, transport: Transport) -> Option<SocketAddr> {
    let ip = match contact.host {
        Host::V4(ip) => IpAddr::V4(ip),
        Host::V6(ip) => IpAddr::V6(ip),
        Host::Name(_) => return None,
    };
    Some(SocketAddr::new(ip, contact.port.unwrap_or(transport.default_port())))
}

/// Registered from the same address and port, where another one behind the same NAT cannot be.
fn is_over(binding: &Binding, flow: Flow) -> bool {
    binding.flow.transport == flow.transport && binding.flow.remote == flow.remote
}

fn is_at(binding: &Binding, source: IpAddr) -> bool {
    binding.flow.remote.ip().to_canonical() == source.to_canonical()
}

/// Guesses are counted by address; of IPv6 by network, as anybody has 2^64 addresses there. `None`: a proxy on this machine,
/// behind which all browsers may be; there they are counted by user alone.
fn source_of(flow: Flow) -> Option<IpAddr> {
    match flow.remote.ip().to_canonical() {
        ip if ip.is_loopback() && flow.transport.is_websocket() => None,
        IpAddr::V6(ip) => Some(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)))),
        v4 => Some(v4),
    }
}

fn refusal(request: &Request, status: u16) -> Response {
    request.response(status, default_reason(status))
}
