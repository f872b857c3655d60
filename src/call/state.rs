//! The call's state machine, one for all kinds of parties on either side.
//!
//! Each state holds only what it has, and is consumed by what happens next:
//!
//! ```text
//! Fetching -> Asking -> Routing -> Inviting -> Early -> Established -> Releasing -> Over
//!    |          |         ^  |          |        |                        ^
//!    `----------`---------|--`----------`--------`------------------------|
//!                         `-------------`--------` nobody took the call, and others are called (`turns`)
//! ```

use std::time::{Duration, Instant};

use super::begin::begin;
use super::browser_leg::BrowserEvent;
use super::core::{Core, Sound};
use super::established::{Established, Next};
use super::fetch::Fetching;
use super::hunt::{Hunt, Hunted};
use super::join::{Far, Mail, Transferor};
use super::leg::{Happened, Progress, Way};
use super::party::{Party, Said};
use super::screening::{Behalf, InboundRequest, Origination};
use super::trunk_leg::TrunkLeg;
use super::{CallId, Cause, Context, Direction, Lease, LeaseRefusal, Origin, SocketId, Special};
use crate::dialplan::Decision;
use crate::sdp::{Hears, LegMedia, MediaLoss, MediaReport, Mos, RtpSlot, Side};
use crate::sip::{SessionId, UaEvent};

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
    /// What a web hook says; `None`: nothing in time.
    Answered(Option<String>),
    /// [`Call::deadline`] has come.
    Tick,
    /// The gateway ends the call.
    End(Cause),
    /// The other call of an attended transfer; `None`: there is none of ours.
    Paired(Option<Far>),
    /// Another call tells something.
    Mail(Mail),
    /// Somebody has called with the wish to take the place of the party of `session` (INVITE with Replaces).
    Replace {
        /// The session to be replaced.
        session: SessionId,
        /// The INVITE.
        request: Box<InboundRequest>,
    },
}

/// One call.
#[derive(Debug)]
pub struct Call {
    pub(super) core: Core,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    /// The user's own devices ring, for a call that was asked for.
    Fetching(Box<Fetching>),
    /// A web hook has been asked what shall happen.
    Asking(Box<Asking>),
    /// The plan has accepted; media resources are awaited.
    Routing(Routing),
    /// The called side has been asked and has said nothing yet.
    Inviting(Inviting),
    /// The called side gets on: it rings or sends early media.
    Early(Early),
    /// Answered.
    Established(Established),
    /// Both legs have ended; the media path's statistics are awaited.
    Releasing(Releasing),
    /// Nothing is left.
    Over,
}

#[derive(Debug)]
pub(super) struct Asking {
    pub until: Instant,
    /// The question, and what may come of it.
    pub decision: Decision,
    pub behalf: Behalf,
}

#[derive(Debug)]
pub(super) struct Routing {
    pub until: Instant,
    pub ring_for: Duration,
    pub hunt: Hunt,
    /// The slot of the caller, or with a browser's candidates.
    pub a: RtpSlot,
    /// The slot of those called; the same where only one side has RTP ports.
    pub b: RtpSlot,
    /// Others have been called before these: whether the caller hears our ringing tone.
    pub ringback: Option<bool>,
}

#[derive(Debug)]
pub(super) struct Inviting {
    pub until: Instant,
    pub hunt: Hunt,
    /// As in [`Routing`].
    pub slots: (RtpSlot, RtpSlot),
}

#[derive(Debug)]
pub(super) struct Early {
    pub until: Instant,
    pub hunt: Hunt,
    pub ringback: bool,
    /// As in [`Routing`].
    pub slots: (RtpSlot, RtpSlot),
}

#[derive(Debug)]
pub(super) struct Releasing {
    until: Instant,
}

impl Call {
    /// A call that begins: screened, routed, and refused or on its way when this returns.
    pub fn begin(cx: &mut Context, id: CallId, origination: Origination) -> Call {
        let (core, state) = begin(cx, id, origination);
        Call { core, state }
    }

    /// Its record so far.
    pub(crate) fn record(&self) -> &super::Cdr {
        &self.core.record
    }

    /// The same with all that is known at this moment: its last word, should the gateway be lost.
    pub(crate) fn standing(&self) -> super::Cdr {
        let hunt = match &self.state {
            State::Routing(Routing { hunt, .. })
            | State::Inviting(Inviting { hunt, .. })
            | State::Early(Early { hunt, .. }) => Some(hunt),
            State::Established(Established { transfer: Some(transfer), .. }) => transfer.hunt(),
            _ => None,
        };
        self.core.standing(hunt)
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

    /// Whether one of the parties is at an emergency number.
    pub fn is_emergency(&self) -> bool {
        Side::BOTH.into_iter().filter_map(|side| self.core.party(side)?.sip()).any(TrunkLeg::is_emergency)
    }

    /// The score of the worse direction in the last second, where it is known.
    pub fn mos(&self) -> Option<Mos> {
        self.core.audio.present()
    }

    /// Whether a direction has no sound, for a fault of somebody's.
    pub fn is_without_audio(&self) -> bool {
        self.core.audio.is_broken()
    }

    /// When [`Event::Tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let (own, hunt) = match &self.state {
            State::Routing(Routing { until, .. }) | State::Releasing(Releasing { until }) => (Some(*until), None),
            State::Asking(asking) => (Some(asking.until), None),
            State::Fetching(fetching) => (Some(fetching.until), fetching.hunt.deadline()),
            State::Inviting(Inviting { until, hunt, .. }) | State::Early(Early { until, hunt, .. }) => {
                (Some(*until), hunt.deadline())
            }
            State::Established(state) => (state.deadline(), None),
            State::Over => return None,
        };
        [own, hunt, self.core.deadline()].into_iter().flatten().min()
    }

    /// The far party of an answered call, for a transfer that joins it with another call's.
    pub fn far(&self, transferor: Transferor) -> Option<Far> {
        match &self.state {
            State::Established(Established { transfer: None, .. }) => self.core.far(transferor),
            _ => None,
        }
    }

    /// Takes one event.
    pub fn handle(&mut self, cx: &mut Context, event: Event) {
        let state = std::mem::replace(&mut self.state, State::Over);
        self.state = match state {
            State::Over => State::Over,
            State::Releasing(state) => state.handle(&mut self.core, cx, event),
            state => state.handle(&mut self.core, cx, event),
        };
        self.sync(cx);
    }

    /// Brings media path and ports up to date with the state.
    pub(super) fn sync(&mut self, cx: &mut Context) {
        if let Some(sound) = self.state.sound(&self.core, cx) {
            self.core.sync_media(cx, sound);
        }
        self.core.settle_slots(cx);
    }
}

impl State {
    /// A call that is neither releasing nor over.
    fn handle(self, core: &mut Core, cx: &mut Context, event: Event) -> State {
        match event {
            Event::Leased(slot, lease) => {
                core.slots.lent(cx, slot, lease);
                self.leased(core, cx)
            }
            Event::LeaseRefused(slot, why) if core.slots.refused(slot) => match self {
                State::Established(mut state) => {
                    let next = state.transfer_failed(core, cx, lease_refused(why));
                    state.next(core, cx, next)
                }
                state => state.release(core, cx, lease_refused(why), None),
            },
            Event::LeaseRefused(..) => self,
            Event::Paired(far) => self.established(core, cx, |state, core, cx| state.paired(core, cx, far)),
            Event::Mail(mail) => self.mail(core, cx, mail),
            Event::Replace { session, request } => self.replace(core, cx, session, *request),
            Event::End(cause) => self.release(core, cx, cause, None),
            Event::Answered(answer) => self.hook_answered(core, cx, answer.as_deref()),
            Event::Tick => self.tick(core, cx),
            Event::Media(report) => self.media(core, cx, report),
            Event::Trunk(event) => self.said(core, cx, Said::Sip(event)),
            Event::Browser(socket, event) => self.said(core, cx, Said::Browser(socket, event)),
        }
    }

    /// What only an answered call can do.
    fn established(
        self,
        core: &mut Core,
        cx: &mut Context,
        act: impl FnOnce(&mut Established, &mut Core, &mut Context) -> Next,
    ) -> State {
        match self {
            State::Established(mut state) => {
                let next = act(&mut state, core, cx);
                state.next(core, cx, next)
            }
            state => state,
        }
    }

    /// Another call tells something; one that is not answered has nothing to give and takes nobody.
    fn mail(self, core: &mut Core, cx: &mut Context, mail: Mail) -> State {
        match self {
            State::Established(_) => self.established(core, cx, |state, core, cx| state.mail(core, cx, mail)),
            state => {
                mail.refuse(cx, core.id);
                state
            }
        }
    }

    /// Somebody says something: a party, or one of those who are called.
    fn said(mut self, core: &mut Core, cx: &mut Context, said: Said) -> State {
        if let State::Established(_) = self {
            return self.established(core, cx, |state, core, cx| state.said(core, cx, said));
        }
        if let Some(side) = core.speaker(&said) {
            let happened = core.party_mut(side).map(|party| party.handle(cx, said, false));
            return self.happened(core, cx, side, happened.unwrap_or(Happened::Nothing));
        }
        let hunted = match self.hunt_mut() {
            Some(hunt) if hunt.speaks(&said) => hunt.handle(cx, said),
            _ => Hunted::Nothing,
        };
        self.hunted(core, cx, hunted)
    }

    /// INVITE with Replaces (RFC 3891): the caller takes the place of a party, if it is of the same trunk; a phone, if it
    /// is of the same user.
    fn replace(self, core: &mut Core, cx: &mut Context, session: SessionId, request: InboundRequest) -> State {
        let new = request.session;
        let side = [Side::A, Side::B]
            .into_iter()
            .find(|side| core.party(*side).and_then(Party::sip).is_some_and(|leg| leg.session() == Some(session)));
        let same = side.and_then(|side| core.party(side)).and_then(Party::sip).and_then(TrunkLeg::owner);
        let status = match (&self, side) {
            // Which calls others have is nobody's business.
            _ if same != Some(request.owner()) => {
                if request.rights.is_some() {
                    481
                } else {
                    403
                }
            }
            (State::Established(Established { transfer: None, .. }), Some(side)) => {
                return self.established(core, cx, |state, core, cx| state.replaced(core, cx, side, request));
            }
            (State::Established(_), _) => 491,
            _ => 486,
        };
        let _ = cx.ua.reject(cx.now.instant, new, status, "", &[]); // refused only where it has ended
        self
    }

    pub(super) fn hunt_mut(&mut self) -> Option<&mut Hunt> {
        match self {
            State::Fetching(fetching) => Some(&mut fetching.hunt),
            State::Routing(Routing { hunt, .. })
            | State::Inviting(Inviting { hunt, .. })
            | State::Early(Early { hunt, .. }) => Some(hunt),
            State::Asking(_) | State::Established(_) | State::Releasing(_) | State::Over => None,
        }
    }

    /// What a party did.
    fn happened(self, core: &mut Core, cx: &mut Context, side: Side, happened: Happened) -> State {
        match (self, happened) {
            (State::Established(mut state), happened) => {
                let next = state.happened(core, cx, side, happened);
                state.next(core, cx, next)
            }
            (state, Happened::Over(cause)) => state.release(core, cx, cause, Some(side)),
            (state, Happened::Held(on)) => {
                core.holds_ahead(side, on);
                state
            }
            (state, _) => state,
        }
    }

    /// What came of the candidates.
    fn hunted(self, core: &mut Core, cx: &mut Context, hunted: Hunted) -> State {
        match (self, hunted) {
            (State::Fetching(fetching), hunted) => fetching.hunted(core, cx, hunted),
            (state, Hunted::Over(cause)) => state.nobody_took(core, cx, cause, Some(Side::B)),
            (State::Inviting(Inviting { until, hunt, slots }), Hunted::Progress(progress)) => {
                core.progress(cx, progress);
                match progress == Progress::default() {
                    true => State::Inviting(Inviting { until, hunt, slots }),
                    false => State::Early(Early { until, hunt, ringback: progress.ringing, slots }),
                }
            }
            (State::Early(Early { until, hunt, ringback, slots }), Hunted::Progress(progress)) => {
                core.progress(cx, progress);
                State::Early(Early { until, hunt, ringback: ringback || progress.ringing, slots })
            }
            (State::Inviting(Inviting { hunt, .. }) | State::Early(Early { hunt, .. }), Hunted::Answered(party)) => {
                connect(core, cx, hunt, *party)
            }
            (state, _) => state,
        }
    }

    /// Media resources have come. Once those of both sides are here, a browser that calls is answered, so that its
    /// transport comes up while the phone rings, and those who are called are asked.
    fn leased(self, core: &mut Core, cx: &mut Context) -> State {
        if let State::Established(_) = self {
            return self.established(core, cx, Established::transfer_leased);
        }
        if let State::Fetching(fetching) = self {
            return fetching.leased(core, cx);
        }
        let State::Routing(Routing { until, ring_for, mut hunt, a, b, ringback }) = self else { return self };
        let (Some(own), Some(others)) = (core.slots.loan(a).cloned(), core.slots.loan(b).cloned()) else {
            return State::Routing(Routing { until, ring_for, hunt, a, b, ringback });
        };
        let band = hunt.band();
        let prepared = match std::mem::replace(&mut core.prepared, true) {
            true => Ok(()),
            false => core.party_mut(Side::A).map_or(Ok(()), |caller| caller.leg_mut().prepare(cx, &own, band)),
        };
        if prepared.is_ok() && ringback.is_none() {
            core.sync_media(cx, Sound { a: Hears::Peer, b: Hears::Nothing, early: None });
        }
        let offered = prepared.map_err(|cause| (cause, Side::A));
        let offered =
            offered.and_then(|()| hunt.offer(cx, &others, core.band(Side::A)).map_err(|cause| (cause, Side::B)));
        let until = cx.now.instant + ring_for;
        let slots = (a, b);
        let called = match ringback {
            Some(ringback) => State::Early(Early { until, hunt, ringback, slots }),
            None => State::Inviting(Inviting { until, hunt, slots }),
        };
        match offered {
            Ok(progress) => called.hunted(core, cx, Hunted::Progress(progress)),
            Err((cause, Side::A)) => called.release(core, cx, cause, Some(Side::A)),
            Err((cause, Side::B)) => called.nobody_took(core, cx, cause, Some(Side::B)),
        }
    }

    fn tick(mut self, core: &mut Core, cx: &mut Context) -> State {
        if matches!(&self, State::Asking(asking) if asking.until <= cx.now.instant) {
            return self.hook_answered(core, cx, None);
        }
        if let Some(cause) = self.expired(core, cx) {
            return self.nobody_took(core, cx, cause, None);
        }
        if let State::Established(_) = self {
            return self.established(core, cx, Established::tick);
        }
        for side in [Side::A, Side::B] {
            let due = |party: &&mut Party| party.leg().deadline().is_some_and(|due| due <= cx.now.instant);
            if let Some(party) = core.party_mut(side).filter(due) {
                let happened = party.leg_mut().tick(cx);
                self = self.happened(core, cx, side, happened);
            }
        }
        let hunted = self.hunt_mut().map_or(Hunted::Nothing, |hunt| hunt.tick(cx));
        self.hunted(core, cx, hunted)
    }

    fn expired(&self, core: &Core, cx: &Context) -> Option<Cause> {
        let due = |until: &Instant| *until <= cx.now.instant;
        let gateway = |special| Some(Cause::special(Origin::Gateway, special));
        match self {
            State::Fetching(fetching) if due(&fetching.until) => gateway(Special::NoAnswer),
            State::Routing(Routing { until, .. }) if due(until) => gateway(Special::NoResources),
            State::Inviting(Inviting { until, .. }) if due(until) && core.direction == Direction::Outbound => {
                Some(Cause::from_status(Origin::Network, 408))
            }
            State::Inviting(Inviting { until, .. }) | State::Early(Early { until, .. }) if due(until) => {
                gateway(Special::NoAnswer)
            }
            State::Established(Established { until: Some(until), .. }) if due(until) => gateway(Special::MaxDuration),
            _ => None,
        }
    }

    fn media(self, core: &mut Core, cx: &mut Context, report: MediaReport) -> State {
        let established = matches!(self, State::Established(_));
        match report {
            MediaReport::Digit { from, digit, ms } if established || from == Side::B => {
                core.digits(cx, from, digit.encode_utf8(&mut [0; 4]), ms, Way::Media);
                self
            }
            MediaReport::EventBegan(side) => {
                if let Some(peer) = core.party_mut(side).and_then(Party::sip_mut) {
                    peer.event_began();
                }
                self
            }
            // Of a transport that another has taken the place of meanwhile.
            MediaReport::Connected { side, ref transport } | MediaReport::Lost { side, ref transport, .. }
                if !core.is_at(side, transport) =>
            {
                self
            }
            MediaReport::Connected { side, .. } => {
                if let Some(party) = core.party_mut(side) {
                    party.connected();
                }
                self
            }
            MediaReport::FirstRtp(side) => {
                core.first_audio(cx, side);
                self
            }
            MediaReport::Digit { .. } => self,
            MediaReport::Quality(quality) if established => {
                core.quality(cx, &quality);
                self
            }
            MediaReport::Audio { from, verdict } if established => {
                core.audio(cx, from, verdict);
                self
            }
            MediaReport::Quality(_) | MediaReport::Audio { .. } => self,
            MediaReport::Lost { side, loss, .. } => {
                let cause = media_lost(loss, established);
                let lost = core.party_mut(side).map_or(Happened::Nothing, |party| party.lose(cx, loss, cause));
                if let Happened::Over(_) = lost {
                    core.audio_lost(cx, side, loss);
                }
                self.happened(core, cx, side, lost)
            }
            MediaReport::Failed => self.release(core, cx, broken("The media path broke"), None),
            // A media path that stopped by itself is lost.
            MediaReport::Stopped(_) => {
                self.release(core, cx, Cause::special(Origin::Gateway, Special::GatewayFault), None)
            }
        }
    }

    /// Ends the call for one cause; `by`: whose doing it is, of the parties.
    pub(super) fn release(mut self, core: &mut Core, cx: &mut Context, cause: Cause, by: Option<Side>) -> State {
        if let State::Established(state) = &mut self {
            state.end(core, cx, &cause);
        }
        if let Some(hunt) = self.hunt_mut() {
            hunt.end(cx, &cause);
            core.remember_tried(hunt.take_tried(), hunt.sent());
        }
        if core.end(cx, &cause, by) {
            return State::Releasing(Releasing { until: cx.now.instant + cx.settings.stats_within });
        }
        core.finish(cx);
        State::Over
    }

    /// What is heard in this state; `None` where the media path has ended, or was not begun.
    fn sound(&self, core: &Core, cx: &Context) -> Option<Sound> {
        let early = |ringback: bool, early: Option<LegMedia>| {
            // A SIP caller's own phone or network rings for him (180); a browser hears our tone.
            let browser = core.party(Side::A).is_some_and(|party| party.browser().is_some());
            let a = if ringback && (browser || core.fetched.is_some()) {
                Hears::PeerOr(cx.settings.ringback)
            } else {
                Hears::Peer
            };
            // The caller's sound is nobody's before the answer.
            Sound { a, b: Hears::Nothing, early }
        };
        match self {
            State::Routing(Routing { ringback: Some(ringback), .. }) => Some(early(*ringback, None)),
            State::Asking(_) if core.fetched.is_some() => Some(early(false, None)),
            State::Fetching(_) | State::Asking(_) | State::Routing(_) | State::Releasing(_) | State::Over => None,
            State::Inviting(Inviting { hunt, .. }) => Some(early(false, hunt.media())),
            State::Early(Early { hunt, ringback, .. }) => Some(early(*ringback, hunt.media())),
            State::Established(state) => {
                let hears = |side| match &state.transfer {
                    Some(transfer) if transfer.by == side => Hears::Nothing,
                    Some(transfer) => transfer.heard(cx),
                    None => core.hears(side),
                };
                Some(Sound { a: hears(Side::A), b: hears(Side::B), early: None })
            }
        }
    }
}

/// A candidate has answered.
fn connect(core: &mut Core, cx: &mut Context, mut hunt: Hunt, party: Party) -> State {
    core.remember_tried(hunt.take_tried(), hunt.sent());
    let connected = core.connect(cx, party);
    let until = cx.now.instant.checked_add(core.longest);
    let state = State::Established(Established { until, transfer: None });
    match connected {
        Ok(()) => {
            core.hold_as_before(cx, Side::A);
            state
        }
        Err(cause) => state.release(core, cx, cause, None),
    }
}

impl Established {
    pub(super) fn next(self, core: &mut Core, cx: &mut Context, next: Next) -> State {
        match next {
            Next::Stay => State::Established(self),
            Next::End(cause, by) => State::Established(self).release(core, cx, cause, by),
        }
    }
}

impl Releasing {
    fn handle(self, core: &mut Core, cx: &mut Context, event: Event) -> State {
        match event {
            Event::Media(MediaReport::Stopped(stats)) => core.stopped(&stats),
            Event::Tick if self.until <= cx.now.instant => {}
            Event::Leased(slot, lease) => {
                core.slots.lent(cx, slot, lease);
                return State::Releasing(self);
            }
            Event::Mail(mail) => {
                mail.refuse(cx, core.id);
                return State::Releasing(self);
            }
            Event::Replace { request, .. } => {
                let _ = cx.ua.reject(cx.now.instant, request.session, 603, "", &[]);
                return State::Releasing(self);
            }
            _ => return State::Releasing(self),
        }
        core.finish(cx);
        State::Over
    }
}

pub(super) fn lease_refused(why: LeaseRefusal) -> Cause {
    let cause = Cause::special(Origin::Gateway, Special::NoResources);
    match why {
        LeaseRefusal::NoPort => cause,
        LeaseRefusal::NoWorker => cause.in_words("No media worker has room"),
        LeaseRefusal::AddressFamily => cause.in_words("There is no media address of the trunk's family"),
    }
}

pub(super) fn media_lost(loss: MediaLoss, established: bool) -> Cause {
    let words = match loss {
        // The page closed its peer connection: that is hanging up, whichever of the two messages comes first.
        MediaLoss::BrowserClosed => {
            let special = if established { Special::Normal } else { Special::Cancelled };
            return Cause::special(Origin::Browser, special);
        }
        MediaLoss::IceTimeout => "The browser's media never arrived",
        MediaLoss::ConsentExpired => "The browser's media stopped",
        MediaLoss::DtlsFailed => "The browser's encryption could not be set up",
        MediaLoss::FingerprintMismatch => "The browser's certificate is not the one it announced",
        MediaLoss::RtpSilent => "The trunk's media stopped",
    };
    broken(words)
}

pub(super) fn broken(words: &str) -> Cause {
    Cause::special(Origin::Network, Special::MediaLost).in_words(words)
}
