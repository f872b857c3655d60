//! The session timer: [RFC 4028](https://www.rfc-editor.org/rfc/rfc4028). What the two sides agree on in every INVITE,
//! re-INVITE, UPDATE and its 2xx, the refreshes that follow from it, and the end where none comes.

use std::str::FromStr;
use std::time::{Duration, Instant};

use super::capabilities::{self, TIMER};
use super::core::{Core, Purpose, body_of, in_dialog, put_body};
use super::established::Established;
use super::invite::ended_by;
use super::reinvite::{Offer, glare_delay};
use super::session::{Common, State};
use super::types::{EndedBy, Refresher, SessionTimer, UaEvent};
use super::{cancel, forks};
use crate::sip::transaction::{ClientFailure, ClientId, earlier};
use crate::sip::{Headers, Method, Request, Response};

/// Min-SE where nobody says otherwise (section 5), in seconds.
const MIN_SE: u32 = 90;
/// The shortest interval of a peer's 2xx that we believe, in seconds: in a shorter one a refresh could not be repeated for
/// its 64*T1 (RFC 3261 section 17.1.1.2).
const SHORTEST: u32 = 32;
/// The longest time before the expiry at which the session is ended (section 10).
const MARGIN: Duration = Duration::from_secs(32);
/// A refresh that had to wait for another exchange is tried again so much later, at most.
const BUSY: Duration = Duration::from_secs(1);
/// A refresh is not tried again when less than this is left.
const TOO_LATE: Duration = Duration::from_millis(500);

/// A transaction's role that refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Uac,
    Uas,
}

/// The value of Session-Expires (section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SessionExpires {
    interval: u32,
    refresher: Option<Role>,
}

impl FromStr for SessionExpires {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(';').map(str::trim);
        let interval = parts.next().and_then(crate::sip::headers::decimal).ok_or(())?;
        let named = |part: &str| -> Option<String> {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("refresher").then(|| value.trim().to_ascii_lowercase())
        };
        let refresher = match parts.find_map(named).as_deref() {
            Some("uac") => Some(Role::Uac),
            Some("uas") => Some(Role::Uas),
            _ => None,
        };
        Ok(SessionExpires { interval, refresher })
    }
}

impl SessionExpires {
    /// `None` also for one that cannot be read.
    fn of(headers: &Headers) -> Option<Self> {
        headers.get("Session-Expires")?.parse().ok()
    }

    fn write(self, headers: &mut Headers) {
        let refresher = match self.refresher {
            Some(Role::Uac) => ";refresher=uac",
            Some(Role::Uas) => ";refresher=uas",
            None => "",
        };
        headers.push("Session-Expires", format!("{}{refresher}", self.interval));
    }
}

/// The timer of one session.
#[derive(Debug)]
pub(super) struct Timer {
    wish: Option<SessionTimer>,
    /// The largest Min-SE that was heard of in this session; 0: none.
    heard: u32,
    running: Option<Running>,
    /// Our refresh under way.
    refresh: Option<Refresh>,
    /// The peer has refused UPDATE although his Allow has it.
    no_update: bool,
}

/// A session that expires.
#[derive(Clone, Copy, Debug)]
struct Running {
    interval: u32,
    /// We refresh it.
    ours: bool,
    /// When our next refresh is due.
    refresh: Option<Instant>,
    /// When the session ends.
    end: Instant,
}

/// A refresh without an offer of our user's.
#[derive(Debug)]
struct Refresh {
    transaction: ClientId,
    method: Method,
    /// For a re-INVITE that had a provisional response: when it is given up.
    until: Option<Instant>,
}

impl Timer {
    pub(super) fn new(wish: Option<SessionTimer>) -> Self {
        Timer { wish, heard: 0, running: None, refresh: None, no_update: false }
    }

    /// True if this session may say `Supported: timer`.
    pub(super) fn is_on(&self) -> bool {
        self.wish.is_some() || self.running.is_some()
    }

    /// The shortest interval that we take.
    fn floor(&self) -> u32 {
        self.wish.map_or(MIN_SE, |wish| wish.min_se.max(1))
    }

    /// A 422 of the peer's, or a Min-SE in his request, has told of this limit.
    pub(super) fn note_min_se(&mut self, headers: &Headers) {
        if let Ok(Some(min_se)) = headers.min_se() {
            self.heard = self.heard.max(min_se);
        }
    }

    /// Writes into a session refresh request what we ask for (sections 7.1 and 7.4).
    pub(super) fn ask(&self, headers: &mut Headers) {
        let (interval, refresher) = match (&self.running, self.wish) {
            (Some(running), _) => (running.interval, Some(if running.ours { Role::Uac } else { Role::Uas })),
            (None, Some(wish)) => (
                wish.expires.max(wish.min_se),
                wish.refresher.map(|wish| if wish == Refresher::Us { Role::Uac } else { Role::Uas }),
            ),
            (None, None) => return,
        };
        let min_se = self.floor().max(self.heard);
        SessionExpires { interval: interval.max(min_se), refresher }.write(headers);
        if min_se != MIN_SE {
            headers.push("Min-SE", min_se.to_string());
        }
    }

    /// The Min-SE of our 422, where the interval that the peer asks for is shorter than we take. A caller who does not
    /// know the extension could make nothing of it: somebody between us has asked.
    pub(super) fn too_short(&self, request: &Headers) -> Option<u32> {
        let asked = SessionExpires::of(request)?;
        (asked.interval < self.floor() && capabilities::takes_part(request, TIMER)).then(|| self.floor())
    }

    /// Decides on a session refresh request of the peer's, and writes the decision into our 2xx (section 9).
    pub(super) fn grant(&mut self, now: Instant, request: &Headers, response: &mut Headers) {
        self.note_min_se(request);
        let asked = SessionExpires::of(request);
        let knows = capabilities::takes_part(request, TIMER) || asked.is_some_and(|it| it.refresher == Some(Role::Uac));
        let Some(agreed) = self.decide(asked, knows) else {
            self.running = None;
            return;
        };
        agreed.write(response);
        if knows {
            response.push("Require", TIMER);
        }
        self.run(now, agreed.interval, agreed.refresher == Some(Role::Uas));
    }

    /// Table 2 of section 9. `knows`: the peer takes part himself.
    fn decide(&self, asked: Option<SessionExpires>, knows: bool) -> Option<SessionExpires> {
        let interval = match (asked, &self.running, self.wish) {
            (Some(asked), _, _) if asked.interval < self.floor() => return None,
            (Some(asked), _, Some(wish)) => wish.expires.max(self.floor()).max(self.heard).min(asked.interval),
            (Some(asked), _, None) => asked.interval,
            (None, Some(running), _) => running.interval.max(self.floor()).max(self.heard),
            (None, None, Some(wish)) => wish.expires.max(self.floor()).max(self.heard),
            (None, None, None) => return None,
        };
        let ours = self.running.map(|running| running.ours);
        let refresher = match asked.and_then(|asked| asked.refresher) {
            // What does not know the extension does not refresh: we do, where we want it at all.
            _ if !knows => (self.wish.is_some() || ours == Some(true)).then_some(Role::Uas)?,
            Some(role) => role,
            None if ours == Some(true) => Role::Uas,
            None if ours == Some(false) => Role::Uac,
            None if self.wish.is_some_and(|wish| wish.refresher == Some(Refresher::Us)) => Role::Uas,
            None => Role::Uac,
        };
        Some(SessionExpires { interval, refresher: Some(refresher) })
    }

    /// Reads the 2xx to a session refresh request of ours (section 7.2): without Session-Expires the session never ends.
    /// A peer who does not say who refreshes leaves it to us. An interval below our Min-SE, which he should not have chosen,
    /// is when he will give the session up all the same: it holds, and what we ask for next is ours again.
    pub(super) fn granted(&mut self, now: Instant, response: &Headers) {
        if !self.is_on() {
            return;
        }
        match SessionExpires::of(response) {
            Some(agreed) => self.run(now, agreed.interval.max(SHORTEST), agreed.refresher != Some(Role::Uas)),
            None => self.running = None,
        }
    }

    fn run(&mut self, now: Instant, interval: u32, ours: bool) {
        let whole = Duration::from_secs(interval.into());
        self.running = Some(Running {
            interval,
            ours,
            refresh: ours.then(|| now + whole / 2),
            end: now + whole - MARGIN.min(whole / 3),
        });
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let until = self.refresh.as_ref().and_then(|refresh| refresh.until);
        let running = self.running.and_then(|running| earlier(running.refresh, Some(running.end)));
        earlier(until, running)
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.running.is_some_and(|running| running.end <= now)
    }

    /// True if our refresh is due; it is then as good as begun.
    fn take_due(&mut self, now: Instant) -> bool {
        self.running.as_mut().is_some_and(|running| running.refresh.take_if(|at| *at <= now).is_some())
    }

    /// Sets the next refresh, as long as it can still be of use.
    fn again(&mut self, now: Instant, wait: Duration) {
        if let Some(running) = self.running.as_mut().filter(|running| running.ours) {
            let at = now + wait;
            running.refresh = (at + TOO_LATE <= running.end).then_some(at);
        }
    }

    /// A refresh has failed: the next try is half way to the end.
    fn again_later(&mut self, now: Instant) {
        let left = self.running.map(|running| running.end.saturating_duration_since(now)).unwrap_or_default();
        self.again(now, left / 2);
    }

    pub(super) fn is_refreshing(&self, id: ClientId) -> bool {
        self.refresh.as_ref().is_some_and(|refresh| refresh.transaction == id)
    }

    /// A re-INVITE of ours is under way that no offer of our user's has caused.
    pub(super) fn is_reinviting(&self) -> bool {
        self.refresh.as_ref().is_some_and(|refresh| refresh.method == Method::Invite)
    }

    pub(super) fn retried(&mut self, old: ClientId, new: ClientId) {
        if let Some(refresh) = self.refresh.as_mut().filter(|refresh| refresh.transaction == old) {
            refresh.transaction = new;
            refresh.until = None;
        }
    }

    /// A provisional response to our refresh: the final one has 64*T1 from the first.
    pub(super) fn provisional(&mut self, core: &Core, now: Instant, id: ClientId) {
        if let Some(refresh) = self.refresh.as_mut().filter(|refresh| refresh.transaction == id) {
            refresh.until.get_or_insert(now + core.config.timers.give_up());
        }
    }

    /// The session ends, and our refresh with it.
    pub(super) fn forsake(&mut self, core: &mut Core, now: Instant) {
        if let Some(refresh) = self.refresh.take().filter(|refresh| refresh.method == Method::Invite) {
            core.forsake(now, refresh.transaction);
        }
        self.running = None;
    }
}

/// Asks again, after a 422, for an interval that the peer takes (section 7.3). False: the 422 tells nothing new.
pub(super) fn lengthen(request: &mut Headers, refusal: &Headers) -> bool {
    let (Ok(Some(min_se)), Some(asked)) = (refusal.min_se(), SessionExpires::of(request)) else { return false };
    if min_se <= asked.interval {
        return false;
    }
    request.remove("Session-Expires");
    SessionExpires { interval: min_se, ..asked }.write(request);
    request.set("Min-SE", min_se.to_string());
    true
}

/// Refuses a session refresh request that asks for too short an interval (section 9).
pub(super) fn refuse(core: &mut Core, now: Instant, server: super::ServerId, request: &Request, min_se: u32) {
    let mut response = core.response(request, 422);
    response.headers.push("Min-SE", min_se.to_string());
    core.layer.respond(now, server, response);
}

impl Established {
    /// Sends a refresh that is due. While something else is under way it waits for a moment: an offer of our own
    /// refreshes, too.
    pub(super) fn refresh_timeout(&mut self, common: &Common, core: &mut Core, now: Instant) {
        if self.timer.refresh.as_ref().is_some_and(|refresh| refresh.until.is_some_and(|until| until <= now)) {
            self.refresh_given_up(common, core, now);
        }
        if !self.timer.take_due(now) {
            return;
        }
        let by_update = self.dialog.allows(&Method::Update) && !self.timer.no_update;
        let quiet = self.unacked.is_empty() && self.peer.is_none();
        let is_free =
            self.timer.refresh.is_none() && !matches!(self.offer, Offer::Sent { .. }) && self.hangup.is_none();
        match self.local.clone() {
            _ if is_free && by_update => self.send_refresh(common, core, now, Method::Update, None),
            Some(body) if is_free && quiet => self.send_refresh(common, core, now, Method::Invite, Some(body)),
            _ => self.timer.again(now, BUSY),
        }
    }

    fn send_refresh(
        &mut self,
        common: &Common,
        core: &mut Core,
        now: Instant,
        method: Method,
        body: Option<super::Body>,
    ) {
        let purpose = if method == Method::Invite { Purpose::Reinvite } else { Purpose::Update };
        let mut request = self.dialog.request(method.clone());
        request.headers.push("Contact", common.contact.to_string());
        capabilities::declare_in_session(&mut request.headers, false, true);
        self.timer.ask(&mut request.headers);
        core.sign(&mut request.headers, "User-Agent");
        put_body(&mut request, body);
        let flow = common.next_flow(&self.dialog);
        let mut pending = in_dialog(purpose, Some(common.id), flow, request, common.credentials.clone());
        pending.dialog = Some(self.dialog.clone());
        let transaction = core.send(now, pending);
        self.timer.refresh = Some(Refresh { transaction, method, until: None });
    }

    /// No final response came: the re-INVITE is taken back, and the session goes on until it expires.
    fn refresh_given_up(&mut self, common: &Common, core: &mut Core, now: Instant) {
        if let Some(refresh) = self.timer.refresh.take() {
            cancel::take_back(common, core, now, refresh.transaction, None);
            core.forsake(now, refresh.transaction);
            self.timer.again_later(now);
        }
    }

    /// A final response to our refresh.
    pub(super) fn refresh_answered(
        mut self: Box<Self>,
        common: &Common,
        core: &mut Core,
        now: Instant,
        response: Response,
    ) -> State {
        let Some(refresh) = self.timer.refresh.take() else { return State::Established(self) };
        match response.status {
            200..300 => {
                self.dialog.refresh_target(&response.headers);
                if refresh.method == Method::Invite {
                    forks::acknowledge(core, common.next_flow(&self.dialog), refresh.transaction, &self.dialog);
                    let body = body_of(&response.headers, &response.body);
                    core.event(UaEvent::Refreshed { session: common.id, body });
                }
                self.timer.granted(now, &response.headers);
            }
            // Section 12.2.1.2 of RFC 3261: the peer has no such dialog any more.
            408 | 481 => return self.end(common, core, now, EndedBy::Remote),
            491 => {
                let wait = glare_delay(core, self.is_caller);
                self.timer.again(now, wait);
            }
            405 | 501 if refresh.method == Method::Update => {
                self.timer.no_update = true;
                self.timer.again(now, Duration::ZERO);
            }
            _ => self.timer.again_later(now),
        }
        self.offer_waited(common, core, now);
        State::Established(self)
    }

    /// Our refresh was never answered.
    pub(super) fn refresh_failed(
        mut self: Box<Self>,
        common: &Common,
        core: &mut Core,
        now: Instant,
        why: ClientFailure,
    ) -> State {
        self.timer.refresh = None;
        self.end(common, core, now, ended_by(why))
    }
}
