//! A call with nobody on the other side: a browser tries the way to us, with a comfort tone in its ear, before its first real
//! call. No plan is asked, nobody is called, nothing is written down and nobody who watches is told.

use std::time::{Duration, Instant};

use super::audio::lone_message;
use super::browser_leg::{BrowserEvent, BrowserLeg};
use super::leg::{Happened, Leg};
use super::slots::Slots;
use super::state::{broken, lease_refused, media_lost};
use super::{CallId, Cause, Context, Event, Origin, Rights, SocketId, Special};
use crate::sdp::{Band, BrowserOffer, Hears, LegPlan, MediaCommand, MediaPlan, MediaReport, RtpSlot};
use crate::signal::ServerMessage;

/// How long a probe lasts at most.
const LONGEST: Duration = Duration::from_secs(10);

/// What a browser asks for.
#[derive(Debug)]
pub(crate) struct ProbeRequest {
    /// Which browser.
    pub socket: SocketId,
    /// Its name for the probe.
    pub name: String,
    /// What its user may.
    pub rights: Rights,
    /// Its offer.
    pub offer: BrowserOffer,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Probe {
    id: CallId,
    leg: BrowserLeg,
    slots: Slots,
    state: State,
    /// When it ends at the latest.
    until: Instant,
    /// The media path's present plan, once started.
    plan: Option<MediaPlan>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Media resources are awaited, until then.
    Leasing(RtpSlot, Instant),
    /// The browser has its answer, and its transport comes up.
    Connecting,
    /// Sound flows.
    Up,
    /// The media path's end is awaited, until then.
    Releasing(Instant),
    /// Nothing is left.
    Over,
}

impl Probe {
    /// A probe that begins: it waits for media resources, or is over where there are none.
    pub fn begin(cx: &mut Context, id: CallId, request: ProbeRequest) -> Probe {
        let ProbeRequest { socket, name, rights, offer } = request;
        tracing::info!(call = %id, user = %cx.settings.shown(&rights.caller.user), "a browser tries the way");
        let mut slots = Slots::default();
        let slot = slots.ask(cx, Vec::new(), true);
        let now = cx.now.instant;
        let state = slot.map_or(State::Over, |slot| State::Leasing(slot, now + cx.settings.lease_within));
        let leg = BrowserLeg::caller(id, &name, socket, rights, offer);
        Probe { id, leg, slots, state, until: now + LONGEST, plan: None }
    }

    /// Whether nothing is left of it.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// When [`Event::Tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Leasing(_, within) => Some(within.min(self.until)),
            State::Connecting | State::Up => Some(self.until),
            State::Releasing(until) => Some(until),
            State::Over => None,
        }
    }

    /// Takes one event; those of other kinds of calls never come.
    pub fn handle(&mut self, cx: &mut Context, event: Event) {
        match (self.state, event) {
            (State::Over, _) => {}
            (State::Releasing(_), Event::Media(MediaReport::Stopped(_))) => self.finish(cx),
            (State::Releasing(until), Event::Tick) if until <= cx.now.instant => self.finish(cx),
            (State::Releasing(_), _) => {}
            (State::Leasing(slot, _), Event::Leased(at, lease)) => {
                self.slots.lent(cx, at, lease);
                self.leased(cx, slot);
            }
            (_, Event::LeaseRefused(_, why)) => self.end(cx, &lease_refused(why)),
            (_, Event::Browser(_, event)) => self.said(cx, event),
            (_, Event::Media(report)) => self.media(cx, report),
            (_, Event::End(cause)) => self.end(cx, &cause),
            (_, Event::Tick) => self.tick(cx),
            _ => {}
        }
    }

    /// The browser is answered: what it sends is not limited by anybody.
    fn leased(&mut self, cx: &mut Context, slot: RtpSlot) {
        let Some(loan) = self.slots.loan(slot).cloned() else { return };
        match self.leg.prepare(cx, &loan, Band::Full) {
            Ok(()) => {
                self.state = State::Connecting;
                self.sync_media(cx);
            }
            Err(cause) => self.end(cx, &cause),
        }
    }

    fn sync_media(&mut self, cx: &mut Context) {
        let a = self.leg.media().map(|media| LegPlan { media, hears: Hears::Comfort });
        let plan = MediaPlan { a, b: None };
        match &self.plan {
            Some(present) if *present == plan => return,
            Some(_) => cx.media(MediaCommand::Update(plan.clone())),
            None => cx.media(MediaCommand::Start(plan.clone())),
        }
        self.plan = Some(plan);
    }

    fn said(&mut self, cx: &mut Context, event: BrowserEvent) {
        match event {
            BrowserEvent::Hangup => self.end(cx, &Cause::special(Origin::Browser, Special::Normal)),
            // Nobody is there to be told.
            BrowserEvent::Gone => self.stop(cx),
            event => {
                if let Happened::Over(cause) = self.leg.handle(cx, event, false) {
                    return self.end(cx, &cause);
                }
                // A new offer may have been answered.
                if self.plan.is_some() {
                    self.sync_media(cx);
                }
            }
        }
    }

    fn media(&mut self, cx: &mut Context, report: MediaReport) {
        match report {
            // Of a transport that another has taken the place of meanwhile.
            MediaReport::Connected { transport, .. } | MediaReport::Lost { transport, .. }
                if self.leg.media().is_none_or(|media| media.transport() != transport) => {}
            MediaReport::Connected { .. } if self.state == State::Connecting => {
                self.state = State::Up;
                self.leg.tell(cx, |call| ServerMessage::Answered { call });
            }
            MediaReport::Quality(quality) if self.state == State::Up => {
                self.leg.tell(cx, |call| lone_message(call, &quality.a));
            }
            MediaReport::Lost { loss, .. } => self.end(cx, &media_lost(loss, self.state == State::Up)),
            MediaReport::Failed => self.end(cx, &broken("The media path broke")),
            MediaReport::Stopped(_) => self.end(cx, &Cause::special(Origin::Gateway, Special::GatewayFault)),
            _ => {}
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        if self.deadline().is_none_or(|due| due > cx.now.instant) {
            return;
        }
        let cause = match self.state {
            State::Leasing(..) => Cause::special(Origin::Gateway, Special::NoResources),
            State::Connecting => broken("The browser's media never arrived"),
            _ => Cause::special(Origin::Gateway, Special::Normal).in_words("The time of a probe is over"),
        };
        self.end(cx, &cause);
    }

    /// Ends it, and tells the browser why.
    fn end(&mut self, cx: &mut Context, cause: &Cause) {
        tracing::info!(call = %self.id, cause = cause.word, by = cause.by(), "the probe ends");
        self.leg.end(cx, cause, cause.origin == Origin::Browser);
        self.stop(cx);
    }

    fn stop(&mut self, cx: &mut Context) {
        if self.plan.is_none() {
            return self.finish(cx);
        }
        cx.media(MediaCommand::Stop);
        self.state = State::Releasing(cx.now.instant + cx.settings.stats_within);
    }

    /// Gives the media resources back.
    fn finish(&mut self, cx: &mut Context) {
        self.slots.end(cx);
        self.state = State::Over;
    }
}
