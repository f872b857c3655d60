//! What a call has in every state: its parties by side, its record, its media.

use std::time::{Duration, Instant};

use super::audio::Audio;
use super::established::Next;
use super::hunt::Hunt;
use super::leg::{Happened, Progress, Way};
use super::notice::Notice;
use super::party::{Party, Said};
use super::screening::Next as Then;
use super::slots::Slots;
use super::trunk_leg::TrunkLeg;
use super::{
    CallId, Cause, Cdr, Codecs, Context, Direction, Effect, LegRecord, LegSound, MediaRecord, Origin, Parties, Rights,
    SocketId, Special, TrunkTried,
};
use crate::sdp::{
    Band, Hears, LegMedia, LegPlan, LegStats, MediaCommand, MediaPlan, MediaStats, RtpSlot, Side, TransportName,
};
use crate::signal::Verified;

/// How long a SIP peer that has been replaced may take to hang up by itself.
const LEAVE_WITHIN: Duration = Duration::from_secs(4);

/// See the module.
#[derive(Debug)]
pub(super) struct Core {
    pub id: CallId,
    pub direction: Direction,
    a: Option<Party>,
    b: Option<Party>,
    holds: Holds,
    /// What the user may whose call it is: he who called, or else he who answered.
    pub rights: Option<Rights>,
    pub record: Cdr,
    pub audio: Audio,
    pub slots: Slots,
    /// The media path's present plan, once started.
    plan: Option<MediaPlan>,
    /// Parties that have been replaced and may hang up by themselves: a referrer reads his last NOTIFY first.
    leavers: Vec<(Party, Instant)>,
    /// How often somebody has been called.
    hunts: u32,
    /// Slots to be given back once the media path has heard that they are not needed.
    unneeded: Vec<RtpSlot>,
    /// What parties that are gone had tried.
    tried: Vec<TrunkTried>,
    pub longest: Duration,
    /// The caller's name, where he gave one.
    pub caller_name: Option<String>,
    /// How far a trunk that is believed vouches for the caller's number.
    pub verified: Option<Verified>,
    /// Who is called when nobody takes the call.
    pub then: Option<Box<Then>>,
    /// The caller's leg has its description.
    pub prepared: bool,
    /// The caller was rung first, and has answered: he waits for who is called.
    pub fetched: Option<Fetched>,
    /// The Max-Forwards of INVITEs that this call makes: one less than it came with.
    pub forwards: u8,
}

/// A caller who was rung first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetched {
    /// The slot that his devices were rung with.
    pub slot: RtpSlot,
}

/// Which party holds the other.
#[derive(Clone, Copy, Debug, Default)]
struct Holds {
    a: bool,
    b: bool,
}

impl Holds {
    fn by(self, side: Side) -> bool {
        match side {
            Side::A => self.a,
            Side::B => self.b,
        }
    }

    fn set(&mut self, side: Side, on: bool) {
        match side {
            Side::A => self.a = on,
            Side::B => self.b = on,
        }
    }
}

/// What the parties hear in a state, and what is heard of those who are not parties yet.
#[derive(Debug)]
pub(super) struct Sound {
    pub a: Hears,
    pub b: Hears,
    /// The early media of the side that is called.
    pub early: Option<LegMedia>,
}

impl Core {
    pub(super) fn new(cx: &Context, id: CallId, record: Cdr, caller: Party) -> Core {
        Core { a: Some(caller), ..Core::unseated(cx, id, record) }
    }

    /// A call whose caller is not there yet.
    pub(super) fn unseated(cx: &Context, id: CallId, record: Cdr) -> Core {
        Core {
            id,
            direction: record.direction,
            a: None,
            b: None,
            holds: Holds::default(),
            rights: None,
            forwards: 70,
            record,
            audio: Audio::default(),
            slots: Slots::default(),
            plan: None,
            leavers: Vec::new(),
            hunts: 0,
            unneeded: Vec::new(),
            tried: Vec::new(),
            longest: cx.settings.longest_call,
            caller_name: None,
            verified: None,
            then: None,
            prepared: false,
            fetched: None,
        }
    }

    /// The party of a side, while there is one.
    pub(super) fn party(&self, side: Side) -> Option<&Party> {
        match side {
            Side::A => self.a.as_ref(),
            Side::B => self.b.as_ref(),
        }
    }

    /// Whether the caller hears our ringing tone already, where he waits and does not hear his own device's.
    pub(super) fn waits(&self) -> Option<bool> {
        self.fetched.map(|_| false)
    }

    /// What the party of a side can carry at best.
    pub(super) fn band(&self, side: Side) -> Band {
        self.party(side).map(|party| party.leg().band()).unwrap_or_default()
    }

    /// The same, to be told something.
    pub(super) fn party_mut(&mut self, side: Side) -> Option<&mut Party> {
        self.place(side).as_mut()
    }

    fn place(&mut self, side: Side) -> &mut Option<Party> {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    /// A party takes a side; who had it comes back.
    pub(super) fn seat(&mut self, side: Side, mut party: Party) -> Option<Party> {
        party.set_side(side);
        self.place(side).replace(party)
    }

    /// The name by which browsers shall know this call that are rung next: each hunt has one of its own, as a browser may
    /// be rung again that has declined before.
    pub(super) fn next_name(&mut self) -> String {
        self.hunts = self.hunts.saturating_add(1);
        match self.hunts {
            1 => self.id.to_string(),
            nth => format!("{}-{nth}", self.id),
        }
    }

    /// Whether a browser is a party.
    pub(super) fn has_browser(&self, socket: SocketId) -> bool {
        let parties = [&self.a, &self.b].into_iter().flatten();
        parties.filter_map(Party::browser).any(|leg| leg.socket() == socket)
    }

    /// Takes a party off its side.
    pub(super) fn unseat(&mut self, side: Side) -> Option<Party> {
        self.place(side).take()
    }

    /// A transferor has left: the transfer goes on without him.
    pub(super) fn leave(&mut self, cx: &mut Context, side: Side) {
        let Some(mut party) = self.unseat(side) else { return };
        party.leg_mut().end(cx, &Cause::special(Origin::Browser, Special::Transferred), true);
        self.done_with(party.sip().and_then(TrunkLeg::slot));
        self.remember(Some(party));
    }

    /// `party` takes the place of a side's party, to the other one's news that it is `to` now.
    pub(super) fn replace(&mut self, cx: &mut Context, side: Side, party: Party, to: &str) -> Next {
        let (holds, held) = (self.holds.by(side.other()), self.holds.by(side));
        self.holds.set(side, false);
        if let Some(mut old) = self.seat(side, party) {
            let slot = old.sip().and_then(TrunkLeg::slot);
            if slot != self.party(side).and_then(Party::sip).and_then(TrunkLeg::slot) {
                self.done_with(slot);
            }
            if old.sip().is_some() {
                self.leavers.push((old, cx.now.instant + LEAVE_WITHIN));
            } else {
                old.leg_mut().end(cx, &Cause::special(Origin::Browser, Special::Transferred), true);
            }
        }
        if let Some(new) = self.party_mut(side) {
            if let Err(cause) = new.leg_mut().connect(cx) {
                return Next::End(cause, None);
            }
            // One that was held in another call is taken back, unless this call's party holds it too.
            if new.sip().map_or(holds, |leg| !leg.hold_is(holds)) {
                new.leg_mut().hold(cx, holds);
            }
        }
        if let Some(other) = self.party_mut(side.other()) {
            if held {
                other.leg_mut().hold(cx, false);
            }
            other.leg_mut().transferred(cx, to);
        }
        Next::Stay
    }

    /// A slot is needed no more, as soon as the media path knows.
    pub(super) fn done_with(&mut self, slot: Option<RtpSlot>) {
        self.unneeded.extend(slot);
    }

    /// Gives back what is not needed any more.
    pub(super) fn settle_slots(&mut self, cx: &mut Context) {
        for slot in std::mem::take(&mut self.unneeded) {
            self.slots.give_back(cx, slot);
        }
    }

    /// Somebody speaks who is no party: one who was has hung up, or else what was said comes back.
    pub(super) fn leaver_said(&mut self, cx: &mut Context, said: Said) -> Option<Said> {
        let Some(at) = self.leavers.iter().position(|(party, _)| party.speaks(&said)) else { return Some(said) };
        let happened = self.leavers.get_mut(at).map(|(party, _)| party.handle(cx, said, true));
        if let Some(Happened::Over(_)) = happened {
            let (party, _) = self.leavers.remove(at);
            self.remember(Some(party));
        }
        None
    }

    /// Those who have not hung up by themselves are.
    pub(super) fn leavers_tick(&mut self, cx: &mut Context) {
        let now = cx.now.instant;
        let due: Vec<(Party, Instant)> = self.leavers.extract_if(.., |(_, until)| *until <= now).collect();
        for (mut party, _) in due {
            party.leg_mut().end(cx, &Cause::special(Origin::Browser, Special::Transferred), false);
            self.remember(Some(party));
        }
    }

    /// When one of them is to be hung up, or something is due for a party.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let legs = [&self.a, &self.b].into_iter().flatten().filter_map(|party| party.leg().deadline());
        legs.chain(self.leavers.iter().map(|(_, until)| *until)).min()
    }

    /// Whether this is the transport that the party of a side has now.
    pub(super) fn is_at(&self, side: Side, transport: &TransportName) -> bool {
        let media = self.party(side).and_then(|party| party.leg().media());
        media.is_some_and(|media| media.transport() == *transport)
    }

    /// Who a party is, for people.
    pub(super) fn label(&self, side: Side) -> String {
        let party = self.party(side);
        let known = party.and_then(|party| match party {
            Party::Browser(leg) => Some(leg.user()),
            Party::Sip(leg) => leg.label(),
        });
        let shown = known.or(self.record.from.as_deref().filter(|_| side == Side::A));
        shown.unwrap_or("anonymous").to_owned()
    }

    /// The side whose party speaks.
    pub(super) fn speaker(&self, said: &Said) -> Option<Side> {
        [Side::A, Side::B].into_iter().find(|side| self.party(*side).is_some_and(|party| party.speaks(said)))
    }

    /// Tells the caller how the called side gets on.
    pub(super) fn progress(&mut self, cx: &mut Context, progress: Progress) {
        if progress.ringing && self.record.ringing.is_none() {
            self.record.ringing = Some(cx.now.unix_ms);
            cx.notice(Notice::Ringing { call: self.id.to_string() });
        }
        // One who was rung first has answered, and hears how the other side gets on.
        if let Some(caller) = self.a.as_mut().filter(|_| self.fetched.is_none()) {
            caller.leg_mut().progress(cx, progress);
        }
    }

    /// The called side answered: tells the caller, then confirms it to the called side.
    pub(super) fn connect(&mut self, cx: &mut Context, callee: Party) -> Result<(), Cause> {
        self.seat(Side::B, callee);
        let connected = self.fetched.map(|_| Side::A);
        for side in [Side::A, Side::B].into_iter().filter(|side| Some(*side) != connected) {
            if let Some(party) = self.party_mut(side) {
                party.leg_mut().connect(cx)?;
            }
        }
        self.record.answer = Some(cx.now.unix_ms);
        let redirected = self.b.as_ref().and_then(Party::sip).and_then(TrunkLeg::longest);
        self.longest = redirected.map_or(self.longest, |longest| longest.min(self.longest));
        if let Some(rights) = self.b.as_ref().and_then(Party::rights) {
            self.longest = rights.longest.map_or(self.longest, |longest| longest.min(self.longest));
            if self.direction == Direction::Inbound {
                self.record.user = rights.caller.user.clone();
            }
            if self.rights.is_none() {
                self.rights = Some(rights.clone());
            }
        }
        if self.direction == Direction::Inbound {
            self.record.trunk_result("answered", cx.now.unix_ms);
        }
        cx.notice(Notice::Answered { call: self.id.to_string(), user: self.record.user.clone() });
        Ok(())
    }

    /// A party holds the other, or takes it back. A SIP peer's hold is a fact; a browser's is one when the other party
    /// has taken it.
    pub(super) fn held(&mut self, cx: &mut Context, by: Side, on: bool) {
        self.holds_ahead(by, on);
        self.ask_hold(cx, by, on);
    }

    /// Asks the other party to take a hold of `by`'s; it is one when that party agrees.
    pub(super) fn ask_hold(&mut self, cx: &mut Context, by: Side, on: bool) {
        let answer = self.party_mut(by.other()).map_or(Some(true), |other| other.leg_mut().hold(cx, on));
        if let Some(agreed) = answer {
            self.hold_answered(cx, by, on, agreed);
        }
    }

    /// Asks the party of `side`, which stays, to take the hold that the other wished while it was about to move.
    pub(super) fn catch_up_hold(&mut self, cx: &mut Context, side: Side) {
        if let Some(agreed) = self.party_mut(side).and_then(Party::sip_mut).and_then(|leg| leg.catch_up_hold(cx)) {
            self.hold_answered(cx, side.other(), true, agreed);
        }
    }

    /// The other party has answered a hold of `by`'s.
    pub(super) fn hold_answered(&mut self, cx: &mut Context, by: Side, on: bool, agreed: bool) {
        if agreed {
            self.holds.set(by, on);
            cx.notice(Notice::Held { call: self.id.to_string(), by: by.into(), on });
        }
        if let Some(holder) = self.party_mut(by) {
            holder.leg_mut().hold_answered(cx, on, agreed);
        }
    }

    /// A SIP party holds whoever will be on the other side: one who was rung first may, while the other rings.
    pub(super) fn holds_ahead(&mut self, by: Side, on: bool) {
        if self.party(by).is_some_and(|party| party.sip().is_some()) {
            self.holds.set(by, on);
        }
    }

    /// A party that held before the other was there holds it now.
    pub(super) fn hold_as_before(&mut self, cx: &mut Context, by: Side) {
        if self.holds(by) {
            self.ask_hold(cx, by, true);
        }
    }

    /// Whether the party of a side holds the other.
    pub(super) fn holds(&self, by: Side) -> bool {
        self.holds.by(by)
    }

    /// A party pressed keys: the other is told.
    pub(super) fn digits(&mut self, cx: &mut Context, from: Side, digits: &str, ms: u16, way: Way) {
        let mut digits = digits.to_owned();
        if let Some(peer) = self.party_mut(from).and_then(Party::sip_mut) {
            digits.retain(|digit| peer.is_new(cx.now.instant, digit, ms, way));
        }
        if let Some(other) = self.party_mut(from.other()).filter(|_| !digits.is_empty()) {
            other.leg_mut().digits(cx, &digits, ms, way);
        }
    }

    /// What a party of an answered call hears.
    pub(super) fn hears(&self, side: Side) -> Hears {
        let other = self.party(side.other());
        match (self.holds.by(side.other()), self.holds.by(side)) {
            // A SIP peer that holds may have music of its own; a browser's microphone is not to be heard.
            (true, _) if other.is_some_and(|other| !other.is_browser()) => Hears::PeerOrMusic,
            (true, _) => Hears::Music,
            (false, true) => Hears::Nothing,
            (false, false) => Hears::Peer,
        }
    }

    fn media_plan(&self, sound: Sound) -> MediaPlan {
        let leg = |party: &Option<Party>, hears| {
            party.as_ref().and_then(|party| party.leg().media()).map(|media| LegPlan { media, hears })
        };
        let early = sound.early.map(|media| LegPlan { media, hears: sound.b });
        MediaPlan { a: leg(&self.a, sound.a), b: leg(&self.b, sound.b).or(early) }
    }

    /// Brings the media path up to date with the call. It starts with the first browser's leg, or with two legs.
    pub(super) fn sync_media(&mut self, cx: &mut Context, sound: Sound) {
        let plan = self.media_plan(sound);
        let browser = [&plan.a, &plan.b].into_iter().flatten().any(|leg| leg.media.browser().is_some());
        match &self.plan {
            None if !browser && self.fetched.is_none() && (plan.a.is_none() || plan.b.is_none()) => return,
            None => cx.media(MediaCommand::Start(plan.clone())),
            Some(present) if *present == plan => return,
            Some(_) => cx.media(MediaCommand::Update(plan.clone())),
        }
        for (begun, leg) in self.audio.begun.iter_mut().zip([&plan.a, &plan.b]) {
            *begun = begun.or(leg.as_ref().map(|_| cx.now.unix_ms));
        }
        self.plan = Some(plan);
    }

    /// A party has left before the call's end: what it tried is kept for the record.
    pub(super) fn remember(&mut self, party: Option<Party>) {
        if let Some(Party::Sip(mut leg)) = party {
            self.remember_tried(leg.take_tried(), leg.sent());
        }
    }

    /// What was tried by somebody who is no party (any more).
    pub(super) fn remember_tried(&mut self, tried: Vec<TrunkTried>, sent: Option<&str>) {
        self.tried.extend(tried);
        if self.record.sent.is_none() {
            self.record.sent = sent.map(str::to_owned);
        }
    }

    /// The kinds of the parties that there are, and the codecs towards them.
    fn composition(&self) -> (Parties, Codecs) {
        let kind = |side| self.party(side).map(Party::kind);
        let codec = |side| Some(self.party(side)?.leg().media()?.send().codec.name().to_owned());
        (Parties { a: kind(Side::A), b: kind(Side::B) }, Codecs { a: codec(Side::A), b: codec(Side::B) })
    }

    /// The record so far, with what the parties and those who are called would add to it.
    pub(super) fn standing(&self, hunt: Option<&Hunt>) -> Cdr {
        let mut record = self.record.clone();
        (record.parties, record.codecs) = self.composition();
        let parties = self.leavers.iter().map(|(party, _)| party).chain([&self.a, &self.b].into_iter().flatten());
        let legs: Vec<&TrunkLeg> = parties.filter_map(Party::sip).collect();
        let tried = self.tried.iter().chain(hunt.into_iter().flat_map(Hunt::tried));
        record.trunks.extend(tried.chain(legs.iter().flat_map(|leg| leg.tried())).cloned());
        let sent = || hunt.and_then(Hunt::sent_now).or_else(|| legs.iter().find_map(|leg| leg.sent()));
        record.sent = record.sent.or_else(|| sent().map(str::to_owned));
        record
    }

    /// Ends both parties for one cause; `true`: the media path is to report before the end.
    pub(super) fn end(&mut self, cx: &mut Context, cause: &Cause, by: Option<Side>) -> bool {
        tracing::info!(call = %self.id, cause = cause.word, by = cause.by(), sip = cause.sip, "the call ends");
        self.record.finish(cause, cx.now.unix_ms);
        if self.direction == Direction::Inbound && self.record.answer.is_none() {
            let result = cause.sip.map_or_else(|| "ended".to_owned(), |status| status.to_string());
            self.record.trunk_result(result, cx.now.unix_ms);
        }
        (self.record.parties, self.record.codecs) = self.composition();
        let ended = [Side::A, Side::B].map(|side| {
            let mut party = self.place(side).take();
            if let Some(party) = &mut party {
                party.leg_mut().end(cx, cause, by == Some(side));
            }
            party
        });
        // Who leaves was there before those who came in his place.
        for (mut party, _) in std::mem::take(&mut self.leavers) {
            party.leg_mut().end(cx, &Cause::special(Origin::Browser, Special::Transferred), false);
            self.remember(Some(party));
        }
        ended.into_iter().for_each(|party| self.remember(party));
        self.record.trunks.append(&mut self.tried);
        if self.plan.is_some() {
            cx.media(MediaCommand::Stop);
        }
        self.plan.is_some()
    }

    /// The last of the media path.
    pub(super) fn stopped(&mut self, stats: &MediaStats) {
        let mut media = MediaRecord { a: leg_record(&stats.a), b: leg_record(&stats.b) };
        self.audio.write(&mut media);
        [media.a.begun, media.b.begun] = self.audio.begun;
        if let Some(answer) = self.record.answer {
            let after = |heard: Option<u64>| Some(u32::try_from(heard?.saturating_sub(answer)).unwrap_or(u32::MAX));
            let [a, b] = self.audio.first;
            (media.a.first_audio_ms, media.b.first_audio_ms) = (after(a), after(b));
        }
        self.record.media = Some(media);
    }

    /// Writes the record and gives the media resources back.
    pub(super) fn finish(&mut self, cx: &mut Context) {
        self.slots.end(cx);
        cx.effects.push(Effect::Record(Box::new(self.record.clone())));
    }
}

fn leg_record(leg: &LegStats) -> LegRecord {
    LegRecord {
        packets_in: leg.packets_in,
        packets_out: leg.packets_out,
        bytes_in: leg.bytes_in,
        bytes_out: leg.bytes_out,
        lost: leg.lost,
        repaired: leg.repaired,
        jitter_ms: leg.jitter_ms,
        concealed_ms: leg.concealed_ms,
        accelerated_ms: leg.accelerated_ms,
        stretched_ms: leg.stretched_ms,
        rejected: leg.rejected,
        ice_ms: leg.ice_ms,
        dtls_ms: leg.dtls_ms,
        first_audio_ms: None,
        begun: None,
        sound: LegSound::default(),
    }
}
