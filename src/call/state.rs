//! The call's state machine, one for both directions.
//!
//! Each state holds only what it has, and is consumed by what happens next:
//!
//! ```text
//! Screening -> Routing -> Inviting -> Early -> Established -> Releasing -> Over
//!     `-----------`----------`---------`-----------------------^
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::browser_leg::{BrowserEvent, BrowserLeg};
use super::leg::{Happened, Leg, Progress};
use super::screening::{self, InboundParties, InboundRequest, OutboundRequest};
use super::trunk_leg::{SLOT, TrunkLeg};
use super::trunk_sdp::SDP;
use super::{
    CallId, Cause, Cdr, Codecs, Context, Direction, Effect, Lease, LeaseRefusal, LegRecord, MediaRecord, Origin,
    SocketId, Special,
};
use crate::sdp::{
    Hears, LegMedia, LegPlan, LegStats, MediaCommand, MediaLoss, MediaPlan, MediaReport, MediaStats, RtpSlot, Side,
    Tone,
};
use crate::signal::ErrorCode;
use crate::sip::UaEvent;

/// What happens to a call.
#[derive(Debug)]
pub enum Event {
    /// The media resources of a slot came.
    Leased(RtpSlot, Lease),
    /// They did not.
    LeaseRefused(RtpSlot, LeaseRefusal),
    /// A browser of this call says something.
    Browser(SocketId, BrowserEvent),
    /// The user agent reports on a session of this call.
    Trunk(UaEvent),
    /// The media path reports.
    Media(MediaReport),
    /// [`Call::deadline`] has come.
    Tick,
    /// The gateway ends the call.
    End(Cause),
}

/// One call.
#[derive(Debug)]
pub struct Call {
    core: Core,
    state: State,
}

/// What a call has in every state.
#[derive(Debug)]
struct Core {
    id: CallId,
    direction: Direction,
    browser: BrowserLeg,
    trunk: TrunkLeg,
    record: Cdr,
    /// The media path's present plan, once started.
    plan: Option<MediaPlan>,
    leased: bool,
    longest: Duration,
}

#[derive(Debug)]
enum State {
    Screening(Screening),
    Routing(Routing),
    Inviting(Inviting),
    Early(Early),
    Established(Established),
    Releasing(Releasing),
    Over,
}

/// Nothing has been asked of anybody yet.
#[derive(Debug)]
struct Screening;

/// The plan has accepted; media resources are awaited.
#[derive(Debug)]
struct Routing {
    until: Instant,
    ring_for: Duration,
}

/// The called side has been asked and has said nothing yet.
#[derive(Debug)]
struct Inviting {
    until: Instant,
}

/// The called side gets on: it rings or sends early media.
#[derive(Debug)]
struct Early {
    until: Instant,
    ringback: bool,
}

/// Answered.
#[derive(Debug)]
struct Established {
    until: Option<Instant>,
}

/// Both legs have ended; the media path's statistics are awaited.
#[derive(Debug)]
struct Releasing {
    until: Instant,
}

impl Call {
    /// A browser's call: screened, routed, and refused or on its way when this returns.
    pub fn outbound(cx: &mut Context, id: CallId, request: OutboundRequest) -> Call {
        let record = Cdr::begin(id, Direction::Outbound, &request.caller.user, &request.to, cx.now.unix_ms);
        let plan = screening::screen_outbound(cx, &request);
        let OutboundRequest { socket, name, offer, .. } = request;
        let browser = BrowserLeg::caller(id, &name, socket, offer);
        let mut core = Core::new(cx, id, record, browser, TrunkLeg::callee(id));
        tracing::info!(call = %id, user = core.record.user, to = core.record.dialled, "a browser calls");
        let state = State::Screening(Screening);
        let state = match plan {
            Ok(plan) => {
                core.record.number = Some(plan.route.number.clone());
                core.record.from = Some(plan.route.from.clone());
                core.record.rule = Some(plan.rule);
                core.longest = plan.longest;
                let targets = plan.route.trunks.iter().flat_map(|trunk| {
                    cx.trunks.targets(cx.now.instant, cx.rng, &trunk.name).into_iter().map(|target| target.remote)
                });
                let peers: Vec<SocketAddr> = targets.collect();
                core.trunk.set_peers(peers.clone());
                core.trunk.set_route(plan.route);
                match peers.is_empty() {
                    true => core.release(cx, Cause::special(Origin::Gateway, Special::TrunkUnreachable)),
                    false => state.route(cx, peers, plan.ring_for),
                }
            }
            Err((rule, cause)) => {
                core.record.rule = rule;
                core.release(cx, cause)
            }
        };
        Call { core, state }
    }

    /// A trunk's call; `browsers` gives the open browsers of a user.
    pub fn inbound(
        cx: &mut Context,
        id: CallId,
        request: InboundRequest,
        browsers: impl Fn(&str) -> Vec<SocketId>,
    ) -> Call {
        let parties = screening::inbound_parties(&request);
        let plan = screening::screen_inbound(cx, &request, &parties);
        let InboundParties { number, dialled, announcement } = parties;
        let mut record = Cdr::begin(id, Direction::Inbound, "", &dialled, cx.now.unix_ms);
        record.number = Some(number);
        record.from = Some(announcement.from.clone());
        record.trunks.push(super::TrunkTried { trunk: request.trunk.name.clone(), result: "caller".into() });
        tracing::info!(call = %id, trunk = request.trunk.name, to = record.dialled, "a trunk calls");
        let remote = request.flow.remote;
        let (offer, bad_body) = offer_of(&request);
        let trunk = TrunkLeg::caller(id, request.trunk, request.session, remote.ip(), offer);
        let mut core = Core::new(cx, id, record, BrowserLeg::callee(id), trunk);
        let state = State::Screening(Screening);
        let plan = if bad_body { Err((None, Cause::from_status(Origin::Gateway, 415))) } else { plan };
        let state = match plan {
            Ok(plan) => {
                core.record.user = plan.users.join(",");
                core.record.rule = Some(plan.rule);
                core.longest = plan.longest;
                let found = plan.users.iter().flat_map(|user| browsers(user).into_iter().map(|at| (at, user.clone())));
                let mut found: Vec<(SocketId, String)> = found.collect();
                found.sort_unstable();
                found.dedup_by_key(|(socket, _)| *socket);
                if found.is_empty() {
                    core.release(cx, Cause::from_status(Origin::Gateway, 480))
                } else {
                    core.browser.ring(found, announcement);
                    state.route(cx, vec![remote], plan.ring_for)
                }
            }
            Err((rule, cause)) => {
                core.record.rule = rule;
                core.release(cx, cause)
            }
        };
        Call { core, state }
    }

    /// The call's id.
    pub fn id(&self) -> CallId {
        self.core.id
    }

    /// Whether nothing is left of the call.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether the parties talk.
    pub fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// When [`Event::Tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Routing(Routing { until, .. })
            | State::Inviting(Inviting { until })
            | State::Early(Early { until, .. })
            | State::Releasing(Releasing { until }) => Some(*until),
            State::Established(Established { until }) => *until,
            State::Screening(_) | State::Over => None,
        };
        [own, self.core.trunk.deadline()].into_iter().flatten().min()
    }

    /// Takes one event.
    pub fn handle(&mut self, cx: &mut Context, event: Event) {
        let state = std::mem::replace(&mut self.state, State::Over);
        self.state = match state {
            State::Over => State::Over,
            State::Releasing(state) => state.handle(&mut self.core, cx, event),
            state => {
                let state = state.handle(&mut self.core, cx, event);
                self.core.sync_media(cx, &state);
                state
            }
        };
    }
}

/// The offer in an INVITE, and whether its body is something else.
fn offer_of(request: &InboundRequest) -> (Option<Vec<u8>>, bool) {
    let body = &request.request.body;
    let kind = request.request.headers.content_type().unwrap_or_default();
    let is_sdp = kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(SDP);
    match body.is_empty() {
        true => (None, false),
        false => (Some(body.clone()), !is_sdp),
    }
}

impl State {
    /// Screening has passed: asks for media resources, for a call with one of these trunks.
    fn route(self, cx: &mut Context, peers: Vec<SocketAddr>, ring_for: Duration) -> State {
        match self {
            State::Screening(Screening) => {
                cx.effects.push(Effect::Lease { slot: SLOT, peers, browser: true });
                State::Routing(Routing { until: cx.now.instant + cx.settings.lease_within, ring_for })
            }
            state => state,
        }
    }

    /// A call that is neither releasing nor over.
    fn handle(self, core: &mut Core, cx: &mut Context, event: Event) -> State {
        let established = matches!(self, State::Established(_));
        let happened = match event {
            Event::Leased(_, lease) => return self.leased(core, cx, &lease),
            Event::LeaseRefused(_, why) => Happened::Over(lease_refused(why)),
            Event::End(cause) => Happened::Over(cause),
            Event::Tick => match self.expired(core, cx) {
                Some(cause) => Happened::Over(cause),
                None => core.trunk.tick(cx),
            },
            Event::Media(report) => media_happened(report, established),
            Event::Trunk(event) => core.trunk.handle(cx, event),
            Event::Browser(_, BrowserEvent::Digits { digits, ms }) if established => {
                core.trunk.send_digits(cx, &digits, ms);
                Happened::Nothing
            }
            Event::Browser(socket, event) => core.browser.handle(cx, socket, event, established),
        };
        self.happened(core, cx, happened)
    }

    fn happened(self, core: &mut Core, cx: &mut Context, happened: Happened) -> State {
        match (self, happened) {
            (_, Happened::Over(cause)) => core.release(cx, cause),
            (State::Inviting(Inviting { until }), Happened::Progress(progress)) => {
                core.progress(cx, progress);
                match progress == Progress::default() {
                    true => State::Inviting(Inviting { until }),
                    false => State::Early(Early { until, ringback: progress.ringing }),
                }
            }
            (State::Early(Early { until, ringback }), Happened::Progress(progress)) => {
                core.progress(cx, progress);
                State::Early(Early { until, ringback: ringback || progress.ringing })
            }
            (State::Inviting(_) | State::Early(_), Happened::Answered) => core.connect(cx),
            (state @ State::Established(_), Happened::Held(by, on)) => {
                core.leg(by.other()).hold(cx, on);
                state
            }
            (state @ State::Established(_), Happened::HoldAnswered(on, agreed)) => {
                match agreed {
                    true => core.browser.confirm_hold(cx, on),
                    false => core.browser.report(cx, ErrorCode::WrongState, "the trunk did not take the hold"),
                }
                state
            }
            (state, Happened::Digit(from, digit, ms)) => {
                if matches!(state, State::Established(_)) || from == core.browser_side().other() {
                    core.leg(from.other()).digit(cx, digit, ms);
                }
                state
            }
            (state, _) => state,
        }
    }

    /// The media resources are here: the browser that calls is answered, the called side asked.
    fn leased(self, core: &mut Core, cx: &mut Context, lease: &Lease) -> State {
        let State::Routing(Routing { ring_for, .. }) = self else { return self };
        core.leased = true;
        let prepared = core.browser.prepare(cx, lease).and_then(|()| core.trunk.prepare(cx, lease));
        let progress = match prepared {
            Ok(()) => {
                // The browser's transport comes up while the phone rings.
                core.start_media(cx);
                core.callee().offer(cx)
            }
            Err(cause) => Err(cause),
        };
        match progress {
            Ok(progress) => {
                let inviting = State::Inviting(Inviting { until: cx.now.instant + ring_for });
                inviting.happened(core, cx, Happened::Progress(progress))
            }
            Err(cause) => core.release(cx, cause),
        }
    }

    fn expired(&self, core: &Core, cx: &Context) -> Option<Cause> {
        let due = |until: &Instant| *until <= cx.now.instant;
        let gateway = |special| Some(Cause::special(Origin::Gateway, special));
        match self {
            State::Routing(Routing { until, .. }) if due(until) => gateway(Special::NoResources),
            State::Inviting(Inviting { until }) if due(until) && core.direction == Direction::Outbound => {
                Some(Cause::from_status(Origin::Network, 408))
            }
            State::Inviting(Inviting { until }) | State::Early(Early { until, .. }) if due(until) => {
                gateway(Special::NoAnswer)
            }
            State::Established(Established { until: Some(until) }) if due(until) => gateway(Special::MaxDuration),
            _ => None,
        }
    }
}

impl Releasing {
    fn handle(self, core: &mut Core, cx: &mut Context, event: Event) -> State {
        match event {
            Event::Media(MediaReport::Stopped(stats)) => {
                core.record.media = Some(media_record(&stats));
                core.finish(cx)
            }
            Event::Tick if self.until <= cx.now.instant => core.finish(cx),
            _ => State::Releasing(self),
        }
    }
}

impl Core {
    fn new(cx: &Context, id: CallId, record: Cdr, browser: BrowserLeg, trunk: TrunkLeg) -> Core {
        let longest = cx.settings.longest_call;
        Core { id, direction: record.direction, browser, trunk, record, plan: None, leased: false, longest }
    }

    fn browser_side(&self) -> Side {
        match self.direction {
            Direction::Outbound => Side::A,
            Direction::Inbound => Side::B,
        }
    }

    fn leg(&mut self, side: Side) -> &mut dyn Leg {
        if side == self.browser_side() { &mut self.browser } else { &mut self.trunk }
    }

    fn caller(&mut self) -> &mut dyn Leg {
        self.leg(Side::A)
    }

    fn callee(&mut self) -> &mut dyn Leg {
        self.leg(Side::B)
    }

    fn progress(&mut self, cx: &mut Context, progress: Progress) {
        if progress.ringing && self.record.ringing.is_none() {
            self.record.ringing = Some(cx.now.unix_ms);
        }
        self.caller().progress(cx, progress);
    }

    /// The called side answered: tells the caller, then confirms it to the called side.
    fn connect(&mut self, cx: &mut Context) -> State {
        if let Err(cause) = self.caller().connect(cx).and_then(|()| self.callee().connect(cx)) {
            return self.release(cx, cause);
        }
        self.record.answer = Some(cx.now.unix_ms);
        if let Some(user) = self.browser.answered_by() {
            self.record.user = user.to_owned();
        }
        if self.direction == Direction::Inbound {
            self.record.trunk_result("answered");
        }
        let longest = self.browser.longest().map_or(self.longest, |longest| longest.min(self.longest));
        State::Established(Established { until: cx.now.instant.checked_add(longest) })
    }

    /// The media as both legs know it now; the browser hears `tone` while no early sound arrives.
    fn media_plan(&self, state: &State, tone: Option<Tone>) -> MediaPlan {
        let browser = self.browser.media().map(|media| LegPlan {
            media: LegMedia::Browser(media.clone()),
            hears: tone.map_or(Hears::Peer, Hears::PeerOr),
        });
        let established = matches!(state, State::Established(_));
        let trunk = self.trunk.media().map(|media| LegPlan {
            media: LegMedia::Rtp(media.clone()),
            // The browser's sound is nobody's before the answer.
            hears: if established { Hears::Peer } else { Hears::Nothing },
        });
        match self.direction {
            Direction::Outbound => MediaPlan { a: browser, b: trunk },
            Direction::Inbound => MediaPlan { a: trunk, b: browser },
        }
    }

    fn has_browser(&self, plan: &MediaPlan) -> bool {
        plan.leg(self.browser_side()).is_some()
    }

    /// Starts the media path where the browser's side is known already.
    fn start_media(&mut self, cx: &mut Context) {
        let plan = self.media_plan(&State::Screening(Screening), None);
        if self.has_browser(&plan) && self.plan.is_none() {
            cx.media(MediaCommand::Start(plan.clone()));
            self.plan = Some(plan);
        }
    }

    /// Brings the media path up to date with the call.
    fn sync_media(&mut self, cx: &mut Context, state: &State) {
        if matches!(state, State::Releasing(_) | State::Over) {
            return;
        }
        let rings =
            matches!(state, State::Early(Early { ringback: true, .. })) && self.direction == Direction::Outbound;
        let plan = self.media_plan(state, rings.then_some(cx.settings.ringback));
        match &self.plan {
            None if !self.has_browser(&plan) => return,
            None => cx.media(MediaCommand::Start(plan.clone())),
            Some(present) if *present == plan => return,
            Some(_) => cx.media(MediaCommand::Update(plan.clone())),
        }
        self.plan = Some(plan);
    }

    /// Ends both legs for one cause.
    fn release(&mut self, cx: &mut Context, cause: Cause) -> State {
        tracing::info!(call = %self.id, cause = cause.word, by = cause.by(), sip = cause.sip, "the call ends");
        self.record.finish(&cause, cx.now.unix_ms);
        if self.direction == Direction::Inbound && self.record.answer.is_none() {
            self.record.trunk_result(cause.sip.map_or_else(|| "ended".to_owned(), |status| status.to_string()));
        }
        self.browser.end(cx, &cause);
        self.trunk.end(cx, &cause);
        self.record.sent = self.trunk.sent().map(str::to_owned);
        self.record.trunks.append(&mut self.trunk.take_tried());
        let name = |leg: Option<&LegPlan>| leg.map(|leg| leg.media.send().codec.name().to_owned());
        let plan = self.media_plan(&State::Screening(Screening), None);
        self.record.codecs = Codecs { a: name(plan.a.as_ref()), b: name(plan.b.as_ref()) };
        if self.plan.is_none() {
            return self.finish(cx);
        }
        cx.media(MediaCommand::Stop);
        State::Releasing(Releasing { until: cx.now.instant + cx.settings.stats_within })
    }

    /// Writes the record and gives the media resources back.
    fn finish(&mut self, cx: &mut Context) -> State {
        if std::mem::take(&mut self.leased) {
            cx.effects.push(Effect::Release);
        }
        cx.effects.push(Effect::Record(Box::new(self.record.clone())));
        State::Over
    }
}

fn lease_refused(why: LeaseRefusal) -> Cause {
    let cause = Cause::special(Origin::Gateway, Special::NoResources);
    match why {
        LeaseRefusal::NoPort => cause,
        LeaseRefusal::NoWorker => cause.in_words("No media worker has room"),
        LeaseRefusal::AddressFamily => cause.in_words("There is no media address of the trunk's family"),
    }
}

fn media_happened(report: MediaReport, established: bool) -> Happened {
    match report {
        MediaReport::Digit { from, digit, ms } => Happened::Digit(from, digit, ms),
        // The page closed its peer connection: that is hanging up, whichever of the two messages comes first.
        MediaReport::Lost { loss: MediaLoss::BrowserClosed, .. } => {
            let special = if established { Special::Normal } else { Special::Cancelled };
            Happened::Over(Cause::special(Origin::Browser, special))
        }
        MediaReport::Lost { loss, .. } => Happened::Over(media_lost(loss)),
        MediaReport::Failed => Happened::Over(broken("The media path broke")),
        MediaReport::Connected(_) | MediaReport::FirstRtp(_) => Happened::Nothing,
        // A media path that stopped by itself is lost.
        MediaReport::Stopped(_) => Happened::Over(Cause::special(Origin::Gateway, Special::GatewayFault)),
    }
}

fn media_lost(loss: MediaLoss) -> Cause {
    let words = match loss {
        MediaLoss::IceTimeout => "The browser's media never arrived",
        MediaLoss::ConsentExpired => "The browser's media stopped",
        MediaLoss::DtlsFailed => "The browser's encryption could not be set up",
        MediaLoss::FingerprintMismatch => "The browser's certificate is not the one it announced",
        MediaLoss::RtpSilent => "The trunk's media stopped",
        _ => "The media path broke",
    };
    broken(words)
}

fn broken(words: &str) -> Cause {
    Cause::special(Origin::Network, Special::MediaLost).in_words(words)
}

fn media_record(stats: &MediaStats) -> MediaRecord {
    let leg = |leg: &LegStats| LegRecord {
        packets_in: leg.packets_in,
        packets_out: leg.packets_out,
        bytes_in: leg.bytes_in,
        bytes_out: leg.bytes_out,
        lost: leg.lost,
        jitter_ms: leg.jitter_ms,
        concealed_ms: leg.concealed_ms,
        rejected: leg.rejected,
    };
    MediaRecord { a: leg(&stats.a), b: leg(&stats.b) }
}
