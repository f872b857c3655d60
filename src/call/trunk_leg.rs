//! The trunk's leg: a SIP session on one side, the state machine's words on the other.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::digits::{self, DTMF_RELAY};
use super::leg::{Happened, Leg, Progress, Role};
use super::trunk_sdp::{SDP, TrunkDescription};
use super::{CallId, Cause, Context, DtmfMethod, Effect, Lease, Origin, Special, Trunk, TrunkTried};
use crate::sdp::{Direction, MediaCommand, RtpMedia, RtpSlot};
use crate::sip::{Body, EndedBy, Failure, Invite, NameAddr, SessionId, Target, UaEvent};

/// Early dialogs whose descriptions are remembered; a trunk that forks further is heard with the last ones.
const EARLY_DIALOGS: usize = 8;
/// Silence between two digits in SIP INFO.
const DIGIT_GAP: Duration = Duration::from_millis(100);
/// Digits that may wait.
const DIGITS_WAITING: usize = 128;
/// The pair of ports that a trunk's leg uses.
pub(super) const SLOT: RtpSlot = RtpSlot(0);

/// Where and as whom a trunk is called.
#[derive(Clone, Debug)]
pub struct Route {
    /// The trunks to try, in order.
    pub trunks: VecDeque<Arc<Trunk>>,
    /// The normalised number.
    pub number: String,
    /// The caller's number or name.
    pub from: String,
}

/// The trunk's leg of a call.
#[derive(Debug)]
pub struct TrunkLeg {
    role: Role,
    call: CallId,
    trunk: Option<Arc<Trunk>>,
    /// The host of a trunk that calls.
    peer: Option<IpAddr>,
    route: Option<Route>,
    /// The addresses that the route leads to, and what each is told of our ports.
    peers: Vec<SocketAddr>,
    rtp: Vec<Option<SocketAddr>>,
    session: Option<SessionId>,
    description: Option<TrunkDescription>,
    /// The caller's offer; `None` where it wants one from us.
    offered: Option<Vec<u8>>,
    /// What our 200 will carry.
    body: Option<String>,
    /// Our 200 carried an offer: its answer comes in the ACK.
    awaiting_answer: bool,
    /// By To-tag: the descriptions of early dialogs.
    early: VecDeque<(String, RtpMedia)>,
    media: Option<RtpMedia>,
    /// A provisional response beyond 100 came from the present trunk.
    heard: bool,
    told_ringing: bool,
    /// Until when the present trunk must have said anything.
    silent_until: Option<Instant>,
    hold: Hold,
    held_by_them: bool,
    digits: VecDeque<(char, u16)>,
    next_digit: Option<Instant>,
    tried: Vec<TrunkTried>,
    sent: Option<String>,
}

/// Our own hold of the trunk: as agreed, as asked, and as last wanted by the browser.
#[derive(Clone, Copy, Debug, Default)]
struct Hold {
    on: bool,
    asked: Option<bool>,
    wanted: bool,
}

impl TrunkLeg {
    /// The leg of a trunk that is called.
    pub(super) fn callee(call: CallId) -> TrunkLeg {
        TrunkLeg::new(Role::Callee, call)
    }

    /// The leg of a trunk that calls, with its offer if it made one.
    pub(super) fn caller(
        call: CallId,
        trunk: Arc<Trunk>,
        session: SessionId,
        peer: IpAddr,
        offered: Option<Vec<u8>>,
    ) -> TrunkLeg {
        let new = TrunkLeg::new(Role::Caller, call);
        TrunkLeg { trunk: Some(trunk), session: Some(session), peer: Some(peer), offered, ..new }
    }

    fn new(role: Role, call: CallId) -> TrunkLeg {
        TrunkLeg {
            role,
            call,
            trunk: None,
            peer: None,
            route: None,
            peers: Vec::new(),
            rtp: Vec::new(),
            session: None,
            description: None,
            offered: None,
            body: None,
            awaiting_answer: false,
            early: VecDeque::new(),
            media: None,
            heard: false,
            told_ringing: false,
            silent_until: None,
            hold: Hold::default(),
            held_by_them: false,
            digits: VecDeque::new(),
            next_digit: None,
            tried: Vec::new(),
            sent: None,
        }
    }

    /// Where to call.
    pub(super) fn set_route(&mut self, route: Route) {
        self.route = Some(route);
    }

    /// The addresses that the route leads to.
    pub(super) fn set_peers(&mut self, peers: Vec<SocketAddr>) {
        self.peers = peers;
    }

    /// What a peer is told of our ports; one that was not known at the time of the lease is told what the first of its family
    /// is.
    fn rtp_towards(&self, peer: SocketAddr) -> Option<SocketAddr> {
        let known = self.peers.iter().position(|known| *known == peer);
        known.and_then(|index| self.rtp.get(index).copied()).unwrap_or_else(|| {
            self.rtp.iter().copied().flatten().find(|rtp| rtp.is_ipv4() == peer.ip().to_canonical().is_ipv4())
        })
    }

    /// The trunk's media as agreed so far.
    pub(super) fn media(&self) -> Option<&RtpMedia> {
        self.media.as_ref()
    }

    /// The trunks tried, for the record.
    pub(super) fn take_tried(&mut self) -> Vec<TrunkTried> {
        std::mem::take(&mut self.tried)
    }

    /// The number as the last trunk was sent it.
    pub(super) fn sent(&self) -> Option<&str> {
        self.sent.as_deref()
    }

    /// When [`TrunkLeg::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.silent_until, self.next_digit].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, cx: &mut Context) -> Happened {
        if self.next_digit.is_some_and(|due| due <= cx.now.instant) {
            self.next_digit = None;
            self.send_next_digit(cx);
        }
        if self.silent_until.is_some_and(|due| due <= cx.now.instant) {
            self.silent_until = None;
            if let Some(session) = self.session.take() {
                cx.ua.hangup(cx.now.instant, session, None);
            }
            self.result("408");
            return self.next_trunk(cx, Cause::from_status(Origin::Network, 408));
        }
        Happened::Nothing
    }

    /// Takes an event of the user agent.
    pub(super) fn handle(&mut self, cx: &mut Context, event: UaEvent) -> Happened {
        if self.session != session_of(&event) {
            return Happened::Nothing; // of a trunk given up before
        }
        match event {
            UaEvent::Trying { .. } => {
                self.silent_until = None;
                Happened::Nothing
            }
            UaEvent::Provisional { status, to_tag, body, .. } => self.provisional(status, to_tag, body),
            UaEvent::Answered { to_tag, body, .. } => self.answered(&to_tag, body),
            UaEvent::Failed { status, reason, why, headers, .. } => {
                self.session = None;
                self.result(status.to_string());
                let cause = match why {
                    Failure::Timeout => Cause::from_status(Origin::Network, 408),
                    Failure::Transport => Cause::special(Origin::Network, Special::TrunkUnreachable),
                    _ => Cause::from_refusal(status, &reason, headers.get("Reason")),
                };
                let elsewhere = match why {
                    Failure::Timeout | Failure::Transport => true,
                    Failure::Rejected => status == 408 || (500..600).contains(&status),
                    _ => false,
                };
                if elsewhere && !self.heard { self.next_trunk(cx, cause) } else { Happened::Over(cause) }
            }
            UaEvent::Cancelled { reason, .. } => {
                self.session = None;
                Happened::Over(cancelled(reason.as_deref()))
            }
            UaEvent::Acked { body, .. } => self.acked(body),
            UaEvent::Reoffered { body, .. } => self.reoffered(cx, body),
            UaEvent::ReofferAnswered { result, .. } => self.reoffer_answered(cx, result),
            UaEvent::Info { body: Some(body), .. } => match digits::read_info(&body.content_type, &body.bytes) {
                Some((digit, ms)) => {
                    if cx.settings.digits_to_browser {
                        cx.media(MediaCommand::Digits { to: self.role.side().other(), digits: digit.to_string(), ms });
                    }
                    Happened::Digit(self.role.side(), digit, ms)
                }
                None => Happened::Nothing,
            },
            UaEvent::Ended { by, reason, .. } => {
                self.session = None;
                Happened::Over(match by {
                    EndedBy::Remote => Cause::from_hangup(reason.as_deref()),
                    EndedBy::Transport => Cause::special(Origin::Network, Special::TrunkUnreachable),
                    _ => Cause::from_status(Origin::Network, 408),
                })
            }
            UaEvent::Closed { .. } => {
                // A session closes after one of the events above; this one closed without a word.
                self.session = None;
                Happened::Over(Cause::special(Origin::Network, Special::TrunkUnreachable))
            }
            _ => Happened::Nothing,
        }
    }

    fn provisional(&mut self, status: u16, to_tag: String, body: Option<Body>) -> Happened {
        self.silent_until = None;
        self.heard = true;
        let mut progress = Progress { ringing: status == 180, early_media: false };
        if let Some(media) = self.read_description(body.as_ref()) {
            self.early.retain(|(tag, _)| *tag != to_tag);
            self.early.push_back((to_tag, media.clone()));
            if self.early.len() > EARLY_DIALOGS {
                self.early.pop_front();
            }
            self.media = Some(media);
            progress.early_media = true;
        }
        Happened::Progress(progress)
    }

    fn answered(&mut self, to_tag: &str, body: Option<Body>) -> Happened {
        self.silent_until = None;
        // The 200's description is final; a 200 without one confirms that of its own early dialog.
        let media = match &body {
            Some(_) => self.read_description(body.as_ref()),
            None => self.early.iter().find(|(tag, _)| tag == to_tag).map(|(_, media)| media.clone()),
        };
        self.early.clear();
        match media {
            Some(media) => {
                self.result("answered");
                self.media = Some(media);
                Happened::Answered
            }
            None => {
                self.result("488");
                Happened::Over(Cause::special(Origin::Trunk, Special::BadTrunkMedia))
            }
        }
    }

    fn read_description(&self, body: Option<&Body>) -> Option<RtpMedia> {
        let body = body.filter(|body| is_sdp(body))?;
        self.description.as_ref()?.read_answer(&body.bytes).ok()
    }

    fn acked(&mut self, body: Option<Body>) -> Happened {
        if !std::mem::take(&mut self.awaiting_answer) {
            return Happened::Nothing;
        }
        match self.read_description(body.as_ref()) {
            Some(media) => self.take_media(media),
            // RFC 3261 section 14.2: a re-offer that came to nothing leaves the session as it was.
            None if self.media.is_some() => Happened::Nothing,
            None => Happened::Over(Cause::special(Origin::Trunk, Special::BadTrunkMedia)),
        }
    }

    /// Takes newly agreed media; says whether the trunk holds us now, or no longer.
    fn take_media(&mut self, media: RtpMedia) -> Happened {
        let held = !media.direction.sends() || media.remote_rtp.is_none();
        self.media = Some(media);
        if held == self.held_by_them {
            return Happened::Nothing;
        }
        self.held_by_them = held;
        Happened::Held(self.role.side(), held)
    }

    fn reoffered(&mut self, cx: &mut Context, body: Option<Body>) -> Happened {
        let (Some(session), Some(description)) = (self.session, self.description.as_mut()) else {
            return Happened::Nothing;
        };
        let (answer, happened) = match body {
            None => {
                self.awaiting_answer = true;
                (Ok(sdp_body(description.offer())), Happened::Nothing)
            }
            Some(body) if !is_sdp(&body) => (Err(415), Happened::Nothing),
            Some(body) => match description.answer(&body.bytes) {
                Ok((text, media)) => (Ok(sdp_body(text)), self.take_media(media)),
                Err(error) => (Err(error.status()), Happened::Nothing),
            },
        };
        // Refused where the session has ended meanwhile: its own event follows.
        let _ = cx.ua.answer_reoffer(cx.now.instant, session, answer);
        happened
    }

    fn reoffer_answered(&mut self, cx: &mut Context, result: Result<Option<Body>, u16>) -> Happened {
        let Some(asked) = self.hold.asked.take() else { return Happened::Nothing };
        let media = result.ok().and_then(|body| self.read_description(body.as_ref()));
        let agreed = media.is_some();
        if let Some(media) = media {
            self.media = Some(media);
            self.hold.on = asked;
        } else {
            // The session stays as it was (RFC 3261 section 14.1), and so does what we want of it.
            self.hold.wanted = self.hold.on;
            self.direct(self.hold.on);
        }
        if agreed && self.hold.wanted != self.hold.on {
            self.ask_hold(cx);
        }
        Happened::HoldAnswered(asked, agreed)
    }

    fn direct(&mut self, hold: bool) {
        if let Some(description) = self.description.as_mut() {
            description.set_direction(if hold { Direction::SendOnly } else { Direction::SendRecv });
        }
    }

    fn ask_hold(&mut self, cx: &mut Context) {
        let wanted = self.hold.wanted;
        self.direct(wanted);
        let (Some(session), Some(description)) = (self.session, self.description.as_mut()) else { return };
        let body = sdp_body(description.offer());
        match cx.ua.reoffer(cx.now.instant, session, body) {
            Ok(_) => self.hold.asked = Some(wanted),
            Err(_) => {
                self.hold.wanted = self.hold.on;
                self.direct(self.hold.on);
            }
        }
    }

    /// Digits of the browser's `digits`: in RTP, or in SIP INFO where the trunk wants them so.
    pub(super) fn send_digits(&mut self, cx: &mut Context, digits: &str, ms: u16) {
        if !self.digits_by_info() {
            cx.media(MediaCommand::Digits { to: self.role.side(), digits: digits.to_owned(), ms });
            return;
        }
        for digit in digits.chars().filter(|digit| digits::is_digit(*digit)) {
            if self.digits.len() < DIGITS_WAITING {
                self.digits.push_back((digit, ms));
            }
        }
        if self.next_digit.is_none() {
            self.send_next_digit(cx);
        }
    }

    fn digits_by_info(&self) -> bool {
        let wanted = self.trunk.as_ref().is_some_and(|trunk| trunk.dtmf == DtmfMethod::Info);
        wanted || self.media.as_ref().is_some_and(|media| media.telephone_event.is_none())
    }

    fn send_next_digit(&mut self, cx: &mut Context) {
        let (Some(session), Some((digit, ms))) = (self.session, self.digits.pop_front()) else { return };
        let body = Body { content_type: DTMF_RELAY.to_owned(), bytes: digits::write_info(digit, ms) };
        let _ = cx.ua.info(cx.now.instant, session, body); // refused only where the session has ended
        self.next_digit = Some(cx.now.instant + Duration::from_millis(u64::from(ms)) + DIGIT_GAP);
    }

    fn result(&mut self, result: impl Into<String>) {
        if let Some(tried) = self.tried.last_mut() {
            tried.result = result.into();
        }
    }

    fn next_trunk(&mut self, cx: &mut Context, cause: Cause) -> Happened {
        match self.invite(cx, cause) {
            Ok(()) => Happened::Nothing,
            Err(cause) => Happened::Over(cause),
        }
    }

    /// Calls the next trunk of the route that can be called at all; `cause` is what the call ends with if none can.
    fn invite(&mut self, cx: &mut Context, mut cause: Cause) -> Result<(), Cause> {
        loop {
            let next = self.route.as_mut().and_then(|route| route.trunks.pop_front());
            let Some(trunk) = next else { return Err(cause) };
            self.tried.push(TrunkTried { trunk: trunk.name.clone(), result: "abandoned".into() });
            let target = match cx.trunks.admit(cx.now.instant, &trunk.name) {
                Ok(()) => cx.trunks.targets(cx.now.instant, cx.rng, &trunk.name).into_iter().next(),
                Err(refused) => {
                    self.result(refused.word());
                    None
                }
            };
            let Some(target) = target else { continue };
            self.heard = false;
            self.early.clear();
            self.media = None;
            self.trunk = Some(trunk.clone());
            let Some(rtp) = self.rtp_towards(target.remote) else {
                self.result("488");
                cause = no_media_address();
                continue;
            };
            let mut description = TrunkDescription::new(cx, SLOT, rtp, &trunk, target.remote.ip());
            let offer = description.offer();
            self.description = Some(description);
            let Some(invite) = self.request(cx, &trunk, &target, offer) else {
                self.result("484");
                return Err(Cause::special(Origin::Gateway, Special::InvalidNumber));
            };
            match cx.ua.invite(cx.now.instant, invite) {
                Ok(session) => {
                    cx.effects.push(Effect::Own(session));
                    cx.trunks.began(session, &trunk.name);
                    self.session = Some(session);
                    let more = self.route.as_ref().is_some_and(|route| !route.trunks.is_empty());
                    self.silent_until = more.then(|| cx.now.instant + cx.settings.trunk_silence);
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(call = %self.call, trunk = trunk.name, %error, "INVITE");
                    self.result("503");
                    cause = Cause::special(Origin::Gateway, Special::NoResources);
                }
            }
        }
    }

    /// The INVITE; `None` where the number or the caller cannot stand in a URI.
    fn request(&mut self, cx: &Context, trunk: &Trunk, target: &Target, offer: String) -> Option<Invite> {
        let route = self.route.as_ref()?;
        let number = trunk.number_format.present(&route.number);
        let (host, port) = trunk.host_at(target);
        let to = trunk.uri(&number, host, port)?;
        let mut request_uri = to.clone();
        if target.transport.is_reliable() {
            request_uri.params.set("transport", Some(target.transport.uri_name()));
        }
        let own_host = trunk.own_host(target, cx.settings.host_of(target.local));
        let told = trunk.tell(&route.from, own_host)?;
        self.sent = Some(number);
        Some(Invite {
            flow: target.flow(),
            request_uri,
            from: told.from,
            to: NameAddr::new(to),
            contact_user: Some(self.call.to_string()),
            headers: told.headers.into_iter().chain(trunk.headers.iter().cloned()).collect(),
            body: Some(sdp_body(offer)),
            credentials: trunk.credentials.clone(),
            options: trunk.options.clone(),
        })
    }
}

/// The cause of a call that its caller gave up; RFC 3326 lets him say why.
fn cancelled(reason: Option<&str>) -> Cause {
    let said = reason.map(super::cause::ReasonHeader::read).unwrap_or_default();
    if said.sip == Some(200) {
        return Cause { origin: Origin::Trunk, ..Cause::special(Origin::Trunk, Special::AnsweredElsewhere) };
    }
    Cause::special(Origin::Trunk, Special::Cancelled)
}

/// The cause of a call to a trunk whose address family our media does not have.
fn no_media_address() -> Cause {
    Cause::special(Origin::Gateway, Special::NoResources).in_words("There is no media address of the trunk's family")
}

fn is_sdp(body: &Body) -> bool {
    body.content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(SDP)
}

fn sdp_body(text: String) -> Body {
    Body { content_type: SDP.to_owned(), bytes: text.into_bytes() }
}

/// The session an event is about.
pub(crate) fn session_of(event: &UaEvent) -> Option<SessionId> {
    match event {
        UaEvent::Incoming { session, .. }
        | UaEvent::Trying { session }
        | UaEvent::Provisional { session, .. }
        | UaEvent::Answered { session, .. }
        | UaEvent::Failed { session, .. }
        | UaEvent::Acked { session, .. }
        | UaEvent::Cancelled { session, .. }
        | UaEvent::Pracked { session, .. }
        | UaEvent::Refreshed { session, .. }
        | UaEvent::Reoffered { session, .. }
        | UaEvent::ReofferAnswered { session, .. }
        | UaEvent::Info { session, .. }
        | UaEvent::Ended { session, .. }
        | UaEvent::ReferAnswered { session, .. }
        | UaEvent::ReferProgress { session, .. }
        | UaEvent::Referred { session, .. }
        | UaEvent::Closed { session } => Some(*session),
        UaEvent::Answer { .. } | UaEvent::Request { .. } => None,
        #[allow(unreachable_patterns)] // the enum is non-exhaustive
        _ => None,
    }
}

impl Leg for TrunkLeg {
    fn prepare(&mut self, cx: &mut Context, lease: &Lease) -> Result<(), Cause> {
        self.rtp.clone_from(&lease.rtp);
        let (Role::Caller, Some((trunk, peer))) = (self.role, self.trunk.clone().zip(self.peer)) else { return Ok(()) };
        let rtp = lease.rtp.first().copied().flatten().ok_or_else(no_media_address)?;
        let mut description = TrunkDescription::new(cx, SLOT, rtp, &trunk, peer);
        match self.offered.take() {
            Some(offer) => {
                let (text, media) = description.answer(&offer).map_err(|error| {
                    Cause::from_status(Origin::Gateway, error.status()).in_words(&error.to_string())
                })?;
                self.body = Some(text);
                self.media = Some(media);
            }
            None => {
                self.body = Some(description.offer());
                self.awaiting_answer = true;
            }
        }
        self.description = Some(description);
        Ok(())
    }

    fn offer(&mut self, cx: &mut Context) -> Result<Progress, Cause> {
        self.invite(cx, Cause::special(Origin::Gateway, Special::TrunkUnreachable)).map(|()| Progress::default())
    }

    fn progress(&mut self, cx: &mut Context, progress: Progress) {
        if let Some(session) = self.session.filter(|_| progress.ringing && !self.told_ringing) {
            self.told_ringing = true;
            let _ = cx.ua.ring(cx.now.instant, session, 180, None); // refused only where the session has ended
        }
    }

    fn connect(&mut self, cx: &mut Context) -> Result<(), Cause> {
        if self.role == Role::Callee {
            return Ok(());
        }
        let fault = || Cause::special(Origin::Gateway, Special::GatewayFault);
        let (session, body) = self.session.zip(self.body.take()).ok_or_else(fault)?;
        cx.ua.accept(cx.now.instant, session, sdp_body(body)).map_err(|_| fault())
    }

    fn hold(&mut self, cx: &mut Context, on: bool) {
        self.hold.wanted = on;
        // One re-INVITE at a time; the last wish is followed when the present one is answered.
        if self.hold.asked.is_none() {
            self.ask_hold(cx);
        }
    }

    fn digit(&mut self, cx: &mut Context, digit: char, ms: u16) {
        // In RTP the media path relays digits by itself.
        if self.digits_by_info() {
            self.send_digits(cx, digit.encode_utf8(&mut [0; 4]), digits::clamp_ms(Some(u32::from(ms))));
        }
    }

    fn end(&mut self, cx: &mut Context, cause: &Cause) {
        self.silent_until = None;
        self.next_digit = None;
        self.digits.clear();
        if let Some(session) = self.session.take() {
            let now = cx.now.instant;
            let header = cause.reason_header();
            match (self.role, self.refusal_status(cause)) {
                (Role::Caller, Some(status)) => {
                    let headers = [("Reason".to_owned(), header.clone())];
                    if cx.ua.reject(now, session, status, crate::sip::default_reason(status), &headers).is_err() {
                        cx.ua.hangup(now, session, Some(&header)); // answered already
                    }
                }
                _ => cx.ua.hangup(now, session, Some(&header)),
            }
        }
    }
}

impl TrunkLeg {
    /// The status an unanswered caller is refused with; `None` once our 200 is out.
    fn refusal_status(&self, cause: &Cause) -> Option<u16> {
        let answered = self.role == Role::Caller && self.description.is_some() && self.body.is_none();
        (!answered).then(|| cause.sip.filter(|status| (300..700).contains(status)).unwrap_or(480))
    }
}
