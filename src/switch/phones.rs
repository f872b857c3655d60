//! Users' SIP phones: they register here, are called beside their users' browsers, and call as their users. Among them are
//! browsers that speak SIP over a WebSocket ([RFC 7118](https://www.rfc-editor.org/rfc/rfc7118)): who brings the token of a
//! session ([RFC 8898](https://www.rfc-editor.org/rfc/rfc8898)) needs no password.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::absent::Absent;
use super::sessions::Session;
use super::{Auth, Now, Switch, Trunk};
use crate::call::{InboundRequest, Origination, Phone, PhoneRequest, Rights, Settings};
use crate::dialplan::Caller;
use crate::sip::registrar::{Binding, Registrar, RegistrarConfig, RegistrarCounters, Vouched};
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

impl PhonesConfig {
    /// Where no registrar is configured: browsers alone, by their tokens.
    fn for_browsers() -> PhonesConfig {
        PhonesConfig {
            registrar: RegistrarConfig::new("ringback", BTreeMap::new()),
            rights: BTreeMap::new(),
            phone: Trunk::new("phone"),
            calls_per_user: 8,
        }
    }
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
    /// What browsers may that have registered by a token, by connection and user. It holds as long as the connection does,
    /// whatever else is asked over that; a password alone takes its place.
    granted: BTreeMap<(Flow, String), Rights>,
    /// Whether phones may register from anywhere, and not browsers alone.
    strangers: bool,
    /// Browsers that have lost their WebSockets.
    absent: Absent,
}

impl Phones {
    /// `None`: browsers alone, by their tokens.
    pub fn new(config: Option<PhonesConfig>, seed: [u8; 32]) -> Phones {
        let strangers = config.is_some();
        let PhonesConfig { registrar, rights, calls_per_user, phone: _ } =
            config.unwrap_or_else(PhonesConfig::for_browsers);
        let registrar = Registrar::new(registrar, seed);
        let (calls, granted, absent) = (BTreeMap::new(), BTreeMap::new(), Absent::default());
        Phones { registrar, rights, calls_per_user, calls, granted, strangers, absent }
    }

    /// The registrar and its users are these from now on.
    pub fn reload(&mut self, config: Option<PhonesConfig>, seed: [u8; 32]) {
        self.strangers = config.is_some();
        let PhonesConfig { registrar, rights, calls_per_user, phone: _ } =
            config.unwrap_or_else(PhonesConfig::for_browsers);
        self.registrar.reload(registrar, seed);
        (self.rights, self.calls_per_user) = (rights, calls_per_user);
    }

    /// Whether phones may register from anywhere.
    pub fn takes_strangers(&self) -> bool {
        self.strangers
    }

    /// Whether a message of a stranger may be read: a REGISTER, anything from where a phone is registered, or what comes by
    /// the browsers' door.
    pub fn welcome(&self, now: Instant, flow: Flow, bytes: &[u8]) -> bool {
        let registers = self.strangers && bytes.starts_with(b"REGISTER ");
        flow.transport.is_websocket() || registers || self.registrar.knows(flow.remote.ip(), now)
    }

    /// Where a user's phones are, the best first.
    pub fn of_user(&self, user: &str, now: Instant) -> Vec<Phone> {
        let bindings = self.registrar.bindings(user, now).into_iter();
        bindings.map(|binding| Phone { contact: binding.contact, flow: binding.flow }).collect()
    }

    /// Every phone that is registered, with its user's name.
    pub fn all(&self, now: Instant) -> impl Iterator<Item = (&str, &Binding)> {
        self.registrar.all(now)
    }

    /// Whether a phone is registered over this very way.
    pub fn has_phone_at(&self, flow: Flow, now: Instant) -> bool {
        self.registrar.has_phone_at(flow, now)
    }

    /// Whether a phone is registered from this address.
    pub fn knows(&self, source: IpAddr, now: Instant) -> bool {
        self.registrar.knows(source, now)
    }

    /// Whether there is anything to tell of it: it is configured, or browsers have come to it.
    pub fn is_shown(&self, now: Instant) -> bool {
        self.strangers || self.counters(now).bindings > 0
    }

    /// What the registrar has done and has.
    pub fn counters(&self, now: Instant) -> RegistrarCounters {
        self.registrar.counters(now)
    }

    /// A connection is gone; gives the one by which the same browser is here, if it is a WebSocket's and there is one.
    pub fn connection_closed(&mut self, now: Instant, flow: Flow) -> Option<Flow> {
        self.granted.retain(|(of, _), _| *of != flow);
        let gone = self.registrar.connection_closed(flow);
        if !flow.transport.is_websocket() {
            return None;
        }
        let mut here = None;
        for (user, binding) in self.absent.closed(flow).into_iter().chain(gone) {
            let mut present = self.registrar.bindings(&user, now).into_iter();
            match present.find(|new| new.flow.transport.is_websocket() && new.is_phone_of(&binding)) {
                Some(new) => here = Some(new.flow),
                None => self.absent.lost(now, user, binding),
            }
        }
        here
    }

    /// Tells whose phone calls, and what he may; `Err`: the refusal to send. An emergency call is not held to the calls
    /// that a user may have.
    pub fn admit(
        &mut self,
        now: Instant,
        session: SessionId,
        request: &Request,
        (flow, vouched): (Flow, Option<&Session>),
        (settings, dialled): (&Settings, Option<&str>),
    ) -> Result<(Rights, bool), Box<Response>> {
        let rights = match vouched {
            Some(session) => session.call_rights(None),
            None => {
                let user = self.registrar.authenticate(now, request, flow)?;
                self.rights_of(&user)
            }
        };
        let rights = Rights { address: Some(flow.remote.ip()), ..rights };
        let user = rights.caller.user.clone();
        let emergency = dialled.is_some_and(|dialled| settings.plan.is_emergency(&rights.caller, dialled));
        let calls = self.calls.values().filter(|owner| **owner == user).count();
        if calls >= self.calls_per_user && !emergency {
            tracing::warn!(user = %settings.shown(&user), calls, "a phone's call is refused: its user has as many as he may");
            let mut response = request.response(503, "Too many calls");
            response.headers.push("Retry-After", "5");
            return Err(Box::new(response));
        }
        self.calls.insert(session, user);
        Ok((rights, emergency))
    }

    /// What a user may by one of his phones.
    pub fn rights_at(&self, user: &str, phone: Flow) -> Rights {
        let granted = self.granted.get(&(phone, user.to_owned()));
        granted.cloned().unwrap_or_else(|| self.rights_of(user))
    }

    /// What a user may by the best of his phones.
    pub fn rights_at_best(&self, user: &str, now: Instant) -> Rights {
        let best = self.of_user(user, now).into_iter().next();
        best.map_or_else(|| self.rights_of(user), |phone| self.rights_at(user, phone.flow))
    }

    /// Answers a REGISTER; gives the WebSockets in the place of which this one has come. One that still stands is another
    /// tab's, or is not known to be lost yet: it keeps its calls until it is.
    fn register(&mut self, now: Now, request: &Request, flow: Flow, vouched: Option<Session>) -> (Response, Vec<Flow>) {
        let aor = request.headers.to().ok().and_then(|to| to.uri.decoded_user()).unwrap_or_default();
        let before = self.registrar.bindings(&aor, now.instant);
        let response = match vouched {
            Some(session) => self.register_vouched(now, request, flow, &session),
            None => {
                let response = self.registrar.handle(now.instant, request, flow);
                if response.status == 200 {
                    self.granted.remove(&(flow, aor.clone()));
                }
                response
            }
        };
        if !flow.transport.is_websocket() || response.status != 200 {
            return (response, Vec::new());
        }
        let present = self.registrar.bindings(&aor, now.instant);
        let is_here = |old: &Binding| present.iter().any(|new| new.flow == flow && new.is_phone_of(old));
        let others = before.into_iter().filter(|old| old.flow != flow && old.flow.transport.is_websocket());
        for old in others.filter(|old| is_here(old)) {
            self.absent.overtaken(&aor, old);
        }
        let from = self.absent.back(now.instant, &aor, is_here);
        (response, from)
    }

    fn register_vouched(&mut self, now: Now, request: &Request, flow: Flow, session: &Session) -> Response {
        let left = session.rights.expires.map(|at| at.saturating_sub(now.unix_ms / 1000));
        let most = left.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
        let by = Vouched { user: &session.user, most };
        let response = self.registrar.handle_vouched(now.instant, by, request, flow);
        let is_here = |binding: &Binding| binding.flow == flow;
        if response.status == 200 && self.registrar.bindings(&session.user, now.instant).iter().any(is_here) {
            self.granted.insert((flow, session.user.clone()), session.call_rights(None));
        }
        response
    }

    /// What a user may by his phones, whether he calls or is called and transfers.
    pub fn rights_of(&self, user: &str) -> Rights {
        let PhoneRights { class, caller_id, destinations, longest } =
            self.rights.get(user).cloned().unwrap_or_default();
        let caller = Caller { user: user.to_owned(), class, caller_id, asked: None, destinations };
        Rights { caller, longest, ..Rights::default() }
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
        let vouched = match self.vouched(now, &request, flow) {
            Ok(vouched) => vouched,
            Err(why) => {
                let challenge = [("WWW-Authenticate".to_owned(), why.challenge().to_owned())];
                tracing::warn!(remote = %flow.remote, "a browser's call is refused: {why:?}");
                let _ = self.ua.reject(now.instant, session, 401, "", &challenge); // refused only where it has ended
                return;
            }
        };
        let dialled = crate::call::screening::number_of(&request.uri);
        let rules = (&self.settings, replaces.is_none().then_some(dialled.as_str()));
        let (rights, emergency) =
            match self.phones.admit(now.instant, session, &request, (flow, vouched.as_ref()), rules) {
                Ok(admitted) => admitted,
                Err(response) => {
                    let told = ["Proxy-Authenticate", "Retry-After"];
                    let told =
                        told.iter().flat_map(|name| response.headers.get_all(name).map(move |value| (name, value)));
                    let told: Vec<_> = told.map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect();
                    let _ = self.ua.reject(now.instant, session, response.status, &response.reason, &told);
                    return;
                }
            };
        let user = rights.caller.user.clone();
        let emergency_of = emergency.then_some(user.as_str());
        let refused = match replaces {
            Some(_) => self.refused_now(emergency_of),
            None => self.refused_to_begin(emergency_of),
        };
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
        self.own(session, id);
        self.note_emergency(id, emergency && refused.is_none(), user);
        self.begin(now, id, Origination::Phone(PhoneRequest { trunk, session, request, flow, rights, refused }));
    }

    /// A REGISTER.
    pub(super) fn phone_registers(&mut self, now: Now, id: ServerRequestId, request: &Request, flow: Flow) {
        let websocket = flow.transport.is_websocket();
        let vouched = self.vouched(now, request, flow);
        let (response, came_from) = match vouched {
            Ok(vouched) if websocket || self.phones.takes_strangers() => {
                self.phones.register(now, request, flow, vouched)
            }
            Ok(_) => (request.response(405, ""), Vec::new()),
            Err(why) => {
                tracing::warn!(remote = %flow.remote, "a browser's registration is refused: {why:?}");
                let mut response = request.response(401, "");
                response.headers.push("WWW-Authenticate", why.challenge());
                (response, Vec::new())
            }
        };
        for from in came_from {
            tracing::debug!(remote = %flow.remote, before = %from.remote, "a browser has come back by another WebSocket");
            self.ua.move_sessions(from, flow);
        }
        tracing::debug!(remote = %flow.remote, status = response.status, "REGISTER");
        self.ua.respond(now.instant, id, response);
    }

    /// Whose request it is that came by the browsers' door with a session's token, or where no token is needed; `None`: a
    /// password is to be asked for.
    ///
    /// # Errors
    /// Why it needs a (better) token.
    fn vouched(&self, now: Now, request: &Request, flow: Flow) -> Result<Option<Session>, NoToken> {
        if !flow.transport.is_websocket() {
            return Ok(None);
        }
        match (&self.auth, bearer_of(request)) {
            (Auth::Token(_), Some(token)) => self.admit(now, Some(token), None).map(Some).map_err(NoToken::Refused),
            (Auth::Open, _) => {
                let user = request.headers.from().ok().and_then(|from| from.uri.decoded_user());
                match user.filter(|user| !self.phones.registrar.is_user(user)) {
                    Some(user) => self.admit(now, None, Some(user)).map(Some).map_err(NoToken::Refused),
                    None => Ok(None),
                }
            }
            (Auth::Token(_), None) if self.phones.registrar.is_without_users() => Err(NoToken::Missing),
            (Auth::Token(_), None) => Ok(None),
        }
    }
}

/// Why a browser without a password is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NoToken {
    /// It brought none.
    Missing,
    /// It is not taken, for this reason.
    Refused(String),
}

impl NoToken {
    /// The challenge ([RFC 8898 section 2.1](https://www.rfc-editor.org/rfc/rfc8898#section-2.1), RFC 6750 section 3). It stands
    /// alone: JsSIP and SIP.js read but one challenge of a response, and Digest alone.
    fn challenge(&self) -> &'static str {
        match self {
            NoToken::Missing => r#"Bearer realm="ringback""#,
            NoToken::Refused(_) => r#"Bearer realm="ringback", error="invalid_token""#,
        }
    }
}

/// The token that a request brings (RFC 8898 section 3.1).
fn bearer_of(request: &Request) -> Option<&str> {
    let all = request.headers.get_all("Authorization").chain(request.headers.get_all("Proxy-Authorization"));
    all.filter_map(|value| value.trim().split_once(' '))
        .find(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
}
