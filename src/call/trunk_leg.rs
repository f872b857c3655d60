//! The leg of a SIP peer, a trunk or a phone: a SIP session on one side, the call's words on the other.

mod attempts;
mod pay;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::description::Description;
use super::digits::{self, DTMF_RELAY};
use super::leg::{Happened, Leg, Progress, Role, Way};
use super::presence::Presence;
use super::route::{Hop, Route};
use super::slots::Loan;
use super::transfer::News;
use super::trunk_sdp::{SDP, Seat};
use super::{CallId, Cause, Context, DtmfMethod, Origin, Rights, Special, Trunk, TrunkTried};
use crate::sdp::{Band, LegMedia, MediaCommand, Presses, RtpSlot, Side};
use crate::sip::{Body, EndedBy, Flow, ReferId, Replaces, SessionId, Target, UaEvent};

/// Early dialogs whose descriptions are remembered; a trunk that forks further is heard with the last ones.
const EARLY_DIALOGS: usize = 8;
/// Silence between two digits in SIP INFO.
const DIGIT_GAP: Duration = Duration::from_millis(100);
/// Digits that may wait.
const DIGITS_WAITING: usize = 128;

/// A SIP peer's leg of a call.
#[derive(Debug)]
pub struct TrunkLeg {
    role: Role,
    call: CallId,
    side: Side,
    /// The peer that is called at present, or that called.
    trunk: Option<Arc<Trunk>>,
    /// Where the peer's signalling comes from.
    remote: Option<SocketAddr>,
    /// Its media is a browser's: it came over a WebSocket, or is called over one (RFC 7118).
    browser: bool,
    /// What the other side can carry at best.
    band: Band,
    /// Which target of the trunk is called at present.
    target: Option<Target>,
    /// The user whose phone it is.
    rights: Option<Rights>,
    route: Option<Route>,
    loan: Option<Loan>,
    pub(super) session: Option<SessionId>,
    pub(super) description: Option<Description>,
    /// The caller's offer; `None` where it wants one from us.
    offered: Option<Vec<u8>>,
    /// What our 200 will carry, and an 18x with early media.
    body: Option<String>,
    /// Our 200 is out, or the peer's has come.
    answered: bool,
    /// Our 200 carried an offer: its answer comes in the ACK.
    pub(super) awaiting_answer: bool,
    /// By To-tag: the descriptions of early dialogs.
    early: VecDeque<(String, LegMedia)>,
    /// The early dialogs whose description came reliably: it is final (RFC 3262 section 5).
    settled: Vec<String>,
    pub(super) media: Option<LegMedia>,
    /// A provisional response beyond 100 came from the present trunk.
    heard: bool,
    told: Progress,
    /// Until when the present trunk must have said anything.
    silent_until: Option<Instant>,
    pub(super) hold: Hold,
    /// What our pending re-INVITE is for.
    pub(super) asked: Option<Asked>,
    pub(super) held_by_them: bool,
    /// Of a browser that speaks SIP: whether its media is there.
    pub(super) presence: Presence,
    /// Our ports before a move that is under way.
    pub(super) before: Option<Seat>,
    /// Which of its digits are new.
    presses: Presses,
    digits: VecDeque<(char, u16)>,
    next_digit: Option<Instant>,
    /// The places that 3xx have named and that are tried.
    places: Vec<String>,
    /// The peer's REFER that is being followed.
    pub(super) refer: Option<ReferId>,
    tried: Vec<TrunkTried>,
    sent: Option<String>,
    /// The longest call with who is called at present, where a redirection has led to him.
    longest: Option<Duration>,
}

/// Whose a leg is: who may speak for it. All phones share one trunk: it is the user that tells them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The trunk's name.
    pub trunk: String,
    /// The user of a phone.
    pub user: Option<String>,
}

/// Our own hold of the peer: as agreed, and as last wanted by the other party.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    pub on: bool,
    pub wanted: bool,
}

/// What a re-INVITE of ours asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Hold or its end.
    Hold(bool),
    /// Another address of our media.
    Move,
    /// Sound both ways again, after a hold of the peer's.
    Back,
}

impl TrunkLeg {
    /// The leg of a peer that is called, over the hops of a route.
    pub(super) fn callee(call: CallId, route: Route) -> TrunkLeg {
        let flow = route.hops.front().and_then(|hop| hop.flow);
        let browser = flow.is_some_and(|flow| flow.transport.is_websocket());
        TrunkLeg { route: Some(route), browser, ..TrunkLeg::new(Role::Callee, call, Side::B) }
    }

    /// The leg of a user's phone that is called.
    pub(super) fn phone(call: CallId, route: Route, rights: Rights) -> TrunkLeg {
        TrunkLeg { rights: Some(rights), ..TrunkLeg::callee(call, route) }
    }

    /// The leg of a peer that calls, with its offer if it made one; `rights`: of the user whose phone it is.
    pub(super) fn caller(
        call: CallId,
        trunk: Arc<Trunk>,
        flow: Flow,
        session: SessionId,
        offered: Option<Vec<u8>>,
        rights: Option<Rights>,
    ) -> TrunkLeg {
        let new = TrunkLeg::new(Role::Caller, call, Side::A);
        let (remote, browser) = (Some(flow.remote), flow.transport.is_websocket());
        TrunkLeg { trunk: Some(trunk), remote, browser, session: Some(session), offered, rights, ..new }
    }

    fn new(role: Role, call: CallId, side: Side) -> TrunkLeg {
        TrunkLeg {
            role,
            call,
            side,
            trunk: None,
            remote: None,
            browser: false,
            band: Band::default(),
            target: None,
            rights: None,
            route: None,
            loan: None,
            session: None,
            description: None,
            offered: None,
            body: None,
            answered: false,
            awaiting_answer: false,
            early: VecDeque::new(),
            settled: Vec::new(),
            media: None,
            heard: false,
            told: Progress::default(),
            silent_until: None,
            hold: Hold::default(),
            asked: None,
            held_by_them: false,
            presence: Presence::default(),
            before: None,
            presses: Presses::default(),
            digits: VecDeque::new(),
            next_digit: None,
            places: Vec::new(),
            refer: None,
            tried: Vec::new(),
            sent: None,
            longest: None,
        }
    }

    /// The side of the call it stands on; a callee's is B until it takes another's place.
    pub(super) fn set_side(&mut self, side: Side) {
        self.side = side;
    }

    /// It is called in the place of another call, or at somebody's word.
    pub(super) fn refer_route(&mut self, replaces: Option<&Replaces>, referred_by: Option<&str>) {
        if let Some(route) = &mut self.route {
            route.replaces = replaces.cloned();
            route.referred_by = referred_by.map(str::to_owned);
        }
    }

    /// What the user may whose phone it is.
    pub(super) fn rights(&self) -> Option<&Rights> {
        self.rights.as_ref()
    }

    /// Whose it is: a trunk's, or of the phones a user's.
    pub(super) fn owner(&self) -> Option<Owner> {
        let user = self.rights.as_ref().map(|rights| rights.caller.user.clone());
        self.trunk.as_ref().map(|trunk| Owner { trunk: trunk.name.clone(), user })
    }

    /// Its session, while it has one.
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Whether its media is a browser's.
    pub(super) fn is_browser(&self) -> bool {
        self.browser
    }

    /// Where it is, or may be: the addresses that want to be told a `c=` of their own; none for a browser.
    pub(super) fn peers(&self) -> Vec<SocketAddr> {
        match (&self.route, self.remote) {
            _ if self.browser => Vec::new(),
            (_, Some(remote)) => vec![remote],
            (Some(route), None) => route.hops.iter().filter_map(Hop::remote).collect(),
            (None, None) => Vec::new(),
        }
    }

    /// Where the peer's signalling comes from, where its media may move to other ports of ours: a browser's does not.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.remote.filter(|_| !self.browser)
    }

    /// The trunks tried, for the record.
    pub(super) fn take_tried(&mut self) -> Vec<TrunkTried> {
        std::mem::take(&mut self.tried)
    }

    /// The same, while it goes on.
    pub(super) fn tried(&self) -> &[TrunkTried] {
        &self.tried
    }

    /// The number as the last trunk was sent it.
    pub(super) fn sent(&self) -> Option<&str> {
        self.sent.as_deref()
    }

    /// The longest call with the peer, where a redirection has led to him.
    pub(super) fn longest(&self) -> Option<Duration> {
        self.longest
    }

    /// The peer that is called at present, or that called.
    pub(super) fn trunk(&self) -> Option<&Arc<Trunk>> {
        self.trunk.as_ref()
    }

    /// The slot of our ports that it has been told of; a browser is told of none.
    pub(super) fn slot(&self) -> Option<RtpSlot> {
        self.loan.as_ref().map(|loan| loan.slot).filter(|_| !self.browser)
    }

    /// The ports it was called or answered with.
    pub(super) fn own_loan(&self) -> Option<Loan> {
        self.loan.clone()
    }

    /// Whose it is known as: the number or name by which it was called, or that it called from.
    pub(super) fn label(&self) -> Option<&str> {
        self.route.as_ref().map(|route| route.number.as_str())
    }

    /// It goes over to another call.
    pub(super) fn adopt(&mut self, call: CallId, loan: Loan) {
        self.call = call;
        self.loan = Some(loan);
    }

    /// Takes an event of the user agent.
    pub(super) fn handle(&mut self, cx: &mut Context, event: UaEvent) -> Happened {
        match event {
            UaEvent::Trying { .. } => {
                self.silent_until = None;
                Happened::Nothing
            }
            UaEvent::Provisional { status, to_tag, body, reliable, .. } => {
                self.provisional(status, to_tag, body, reliable)
            }
            UaEvent::Answered { session, to_tag, body, .. } => {
                cx.ledger.answered(cx.now, session);
                self.answered(cx, &to_tag, body)
            }
            UaEvent::Failed { status, reason, why, headers, .. } => self.failed(cx, status, &reason, why, &headers),
            UaEvent::Cancelled { reason, .. } => {
                self.session = None;
                Happened::Over(cancelled(reason.as_deref()))
            }
            UaEvent::Acked { body, .. } | UaEvent::Pracked { body, .. } => self.acked(body),
            UaEvent::Reoffered { body, .. } => self.reoffered(cx, body),
            UaEvent::Refreshed { body, .. } => self.refreshed(body),
            UaEvent::ReferAnswered { result, .. } => Happened::ReferAnswered(result),
            UaEvent::ReferProgress { status, last, .. } => Happened::ReferProgress(status, last),
            UaEvent::Referred { refer, to, referred_by, .. } => self.referred(cx, refer, to, referred_by),
            UaEvent::ReofferAnswered { result, .. } => self.reoffer_answered(cx, result),
            UaEvent::Info { body: Some(body), .. } => match digits::read_info(&body.content_type, &body.bytes) {
                Some((digit, ms)) => Happened::Digits(digit.to_string(), ms, Way::Signalling),
                None => Happened::Nothing,
            },
            UaEvent::Ended { session, by, reason } => {
                self.session = None;
                cx.ledger.closed(cx.now, session);
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

    fn provisional(&mut self, status: u16, to_tag: String, body: Option<Body>, reliable: bool) -> Happened {
        self.silent_until = None;
        self.heard = true;
        let mut progress = Progress { ringing: status == 180, early_media: false };
        let settled = self.settled.contains(&to_tag);
        if let Some(media) = self.read_description(body.as_ref()).filter(|_| !settled) {
            if reliable && self.settled.len() < EARLY_DIALOGS {
                self.settled.push(to_tag.clone());
            }
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

    /// An early session that was settled has been changed: the 2xx, which says nothing of it, confirms the change.
    pub(super) fn renew_early(&mut self, media: &LegMedia) {
        for (_, early) in self.early.iter_mut().filter(|(tag, _)| self.settled.contains(tag)) {
            *early = media.clone();
        }
    }

    fn answered(&mut self, cx: &Context, to_tag: &str, body: Option<Body>) -> Happened {
        self.silent_until = None;
        // The 200's description is final, unless its own early dialog has a reliable one, which was: the 200 may only
        // repeat that (RFC 3262 section 5). A 200 without one confirms that of its own early dialog.
        let early = self.early.iter().find(|(tag, _)| tag == to_tag).map(|(_, media)| media.clone());
        let media = match &body {
            Some(_) if !self.settled.iter().any(|tag| tag == to_tag) => self.read_description(body.as_ref()),
            _ => early,
        };
        self.early.clear();
        self.settled.clear();
        self.answered = true;
        match media {
            Some(media) => {
                self.result(cx, "answered");
                self.settle(&media);
                self.media = Some(media);
                Happened::Answered
            }
            None => {
                let cause = Cause::special(Origin::Trunk, Special::BadTrunkMedia);
                self.tried_in_vain(cx, 488, &cause);
                Happened::Over(cause)
            }
        }
    }

    pub(super) fn read_description(&self, body: Option<&Body>) -> Option<LegMedia> {
        let body = body.filter(|body| is_sdp(body))?;
        self.description.as_ref()?.read_answer(&body.bytes).ok()
    }

    /// What later offers of ours keep to.
    pub(super) fn settle(&mut self, media: &LegMedia) {
        if let Some(description) = self.description.as_mut() {
            description.settle(media);
        }
    }

    /// Digits in RTP or as tones, or in SIP INFO where the peer wants them so.
    fn send_digits(&mut self, cx: &mut Context, digits: &str, ms: u16) {
        if !self.digits_by_info() {
            cx.media(MediaCommand::Digits { to: self.side, digits: digits.to_owned(), ms });
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

    /// Its digits come as telephone-events (see [`Presses`]).
    pub(super) fn event_began(&mut self) {
        self.presses.event_began();
    }

    /// Whether a digit of this peer's is a new one; one that comes in RTP is told when it ends, after `ms`.
    pub(super) fn is_new(&mut self, now: Instant, digit: char, ms: u16, way: Way) -> bool {
        let negotiated = self.media.as_ref().is_some_and(|media| media.telephone_event().is_some());
        let began = || now.checked_sub(Duration::from_millis(u64::from(ms))).unwrap_or(now);
        match way {
            Way::Signalling => self.presses.takes_info(now, digit, negotiated),
            Way::Media => !self.presses.is_second(began(), digit),
        }
    }

    fn digits_by_info(&self) -> bool {
        let wanted = self.trunk.as_ref().is_some_and(|trunk| trunk.dtmf == DtmfMethod::Info);
        let in_media = |media: &LegMedia| {
            media.telephone_event().is_some() || media.rtp().is_some_and(|media| media.inband.is_some())
        };
        wanted || self.media.as_ref().is_some_and(|media| !in_media(media))
    }

    fn send_next_digit(&mut self, cx: &mut Context) {
        let (Some(session), Some((digit, ms))) = (self.session, self.digits.pop_front()) else { return };
        let body = Body { content_type: DTMF_RELAY.to_owned(), bytes: digits::write_info(digit, ms) };
        let _ = cx.ua.info(cx.now.instant, session, body); // refused only where the session has ended
        self.next_digit = Some(cx.now.instant + Duration::from_millis(u64::from(ms)) + DIGIT_GAP);
    }

    /// A browser that calls has our answer at once, so that ICE and DTLS are done while the called side rings.
    fn answer_early(&mut self, cx: &mut Context) {
        let (Some(session), Some(body)) = (self.session, self.body.clone().filter(|_| !self.awaiting_answer)) else {
            return;
        };
        let _ = cx.ua.ring(cx.now.instant, session, 183, Some(sdp_body(body))); // refused only where it has ended
    }
}

/// Ends a session, with the value of a Reason header. Whoever is told of the end may call again at once: our limits do not wait
/// for the peer's word on it.
fn hang_up(cx: &mut Context, session: SessionId, reason: Option<&str>) {
    cx.ua.hangup(cx.now.instant, session, reason);
    cx.ledger.closed(cx.now, session);
}

/// The cause of a call that its caller gave up; RFC 3326 lets him say why.
fn cancelled(reason: Option<&str>) -> Cause {
    let said = reason.map(super::cause::ReasonHeader::read).unwrap_or_default();
    if said.sip == Some(200) {
        return Cause { origin: Origin::Trunk, ..Cause::special(Origin::Trunk, Special::AnsweredElsewhere) };
    }
    Cause::special(Origin::Trunk, Special::Cancelled)
}

pub(super) fn is_sdp(body: &Body) -> bool {
    body.content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(SDP)
}

pub(super) fn sdp_body(text: String) -> Body {
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
        | UaEvent::ReferAnswered { session, .. }
        | UaEvent::ReferProgress { session, .. }
        | UaEvent::Referred { session, .. }
        | UaEvent::Ended { session, .. }
        | UaEvent::Closed { session } => Some(*session),
        UaEvent::Answer { .. } | UaEvent::Request { .. } => None,
    }
}

impl Leg for TrunkLeg {
    fn band(&self) -> Band {
        if let Some(media) = &self.media {
            return Band::of([media.send().codec]);
        }
        if self.browser {
            return Band::Full;
        }
        let hops = self.route.iter().flat_map(|route| &route.hops).map(|hop| &hop.trunk);
        Band::of(hops.chain(&self.trunk).flat_map(|trunk| trunk.codecs.iter().copied()))
    }

    fn prepare(&mut self, cx: &mut Context, loan: &Loan, band: Band) -> Result<(), Cause> {
        self.loan = Some(loan.clone());
        self.band = band;
        let (Role::Caller, Some(trunk), Some(remote)) = (self.role, self.trunk.clone(), self.remote) else {
            return Ok(());
        };
        let mut description = self.describe(cx, loan, &trunk, remote)?;
        match self.offered.take() {
            Some(offer) => {
                let (text, media) = description.answer(cx, &offer).map_err(|error| {
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
        if self.browser {
            self.answer_early(cx);
        }
        Ok(())
    }

    fn offer(&mut self, cx: &mut Context) -> Result<Progress, Cause> {
        self.invite(cx, Cause::special(Origin::Gateway, Special::TrunkUnreachable)).map(|()| Progress::default())
    }

    fn progress(&mut self, cx: &mut Context, progress: Progress) {
        let Some(session) = self.session.filter(|_| !self.answered) else { return };
        // An offer of ours may stand only in a reliable response; an INVITE without one is answered by the 200.
        let early = progress.early_media && !self.awaiting_answer;
        let (status, body) = match early && !self.told.early_media {
            // A browser has had it, and takes no answer twice.
            true => (183, self.body.clone().filter(|_| !self.browser).map(sdp_body)),
            false if progress.ringing && !self.told.ringing => (180, None),
            false => return,
        };
        self.told.early_media |= early;
        self.told.ringing |= progress.ringing;
        let _ = cx.ua.ring(cx.now.instant, session, status, body); // refused only where the session has ended
    }

    fn connect(&mut self, cx: &mut Context) -> Result<(), Cause> {
        if self.role == Role::Callee {
            return Ok(());
        }
        let fault = || Cause::special(Origin::Gateway, Special::GatewayFault);
        let (session, body) = self.session.zip(self.body.take()).ok_or_else(fault)?;
        self.answered = true;
        cx.ua.accept(cx.now.instant, session, sdp_body(body)).map_err(|_| fault())
    }

    fn hold(&mut self, cx: &mut Context, on: bool) -> Option<bool> {
        self.want_hold(cx, on)
    }

    fn hold_answered(&mut self, _cx: &mut Context, _on: bool, _agreed: bool) {
        // The answer to its own re-INVITE was given at once.
    }

    fn digits(&mut self, cx: &mut Context, digits: &str, ms: u16, way: Way) {
        match way {
            // In RTP the media path carries them on by itself.
            Way::Media if !self.digits_by_info() => {}
            Way::Media => self.send_digits(cx, digits, digits::clamp_ms(Some(u32::from(ms)))),
            Way::Signalling => self.send_digits(cx, digits, ms),
        }
    }

    fn transfer(&mut self, cx: &mut Context, news: &News) {
        self.tell_referrer(cx, news);
    }

    fn transferred(&mut self, _cx: &mut Context, _remote: &str) {
        // Our media stays where it is: there is nothing to be renegotiated.
    }

    fn tick(&mut self, cx: &mut Context) -> Happened {
        if let over @ Happened::Over(_) = self.presence.tick(cx) {
            return over;
        }
        if self.next_digit.is_some_and(|due| due <= cx.now.instant) {
            self.next_digit = None;
            self.send_next_digit(cx);
        }
        if self.silent_until.is_some_and(|due| due <= cx.now.instant) {
            self.silent_until = None;
            if let Some(session) = self.session.take() {
                hang_up(cx, session, None);
            }
            self.target_failed(cx, None);
            let cause = Cause::from_status(Origin::Network, 408);
            self.tried_in_vain(cx, 408, &cause);
            return self.next_trunk(cx, cause);
        }
        Happened::Nothing
    }

    fn deadline(&self) -> Option<Instant> {
        [self.silent_until, self.next_digit, self.presence.deadline()].into_iter().flatten().min()
    }

    fn media(&self) -> Option<LegMedia> {
        self.media.clone()
    }

    fn end(&mut self, cx: &mut Context, cause: &Cause, _mine: bool) {
        self.silent_until = None;
        self.next_digit = None;
        self.digits.clear();
        let Some(session) = self.session.take() else { return };
        let (now, header) = (cx.now.instant, cause.reason_header());
        if self.role == Role::Caller && !self.answered {
            let status = cause.sip.filter(|status| (300..700).contains(status)).unwrap_or(480);
            let later = cause.retry_after.map(|seconds| ("Retry-After".to_owned(), seconds.to_string()));
            let headers: Vec<_> = [("Reason".to_owned(), header.clone())].into_iter().chain(later).collect();
            if cx.ua.reject(now, session, status, crate::sip::default_reason(status), &headers).is_ok() {
                return;
            }
        }
        hang_up(cx, session, Some(&header));
    }
}
