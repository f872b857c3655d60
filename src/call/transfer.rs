//! Transfer: a party of an answered call is replaced by somebody else, and the other one stays.
//!
//! Who transfers (`by`) may be a browser or a SIP peer (REFER), and may leave at any time: the transfer goes on without
//! him. There are three ways to the new party, tried in this order:
//!
//! 1. the other party's trunk is asked to call it (REFER), and the call ends when it has;
//! 2. the gateway calls it, as a hunt like any other, and it takes the transferor's place when it answers;
//! 3. of an attended transfer: the far party of the other call moves here (see `join`).
//!
//! What fails leaves the call as it was; or ends it, where the transferor has left.

use std::time::{Duration, Instant};

use super::core::Core;
use super::established::{Established, Next};
use super::hunt::{Hunt, Hunted};
use super::join::{Far, Mail};
use super::limits::Payer;
use super::notice::Notice;
use super::party::{Party, Said};
use super::screening::{self, Destination, InboundRequest, Rights, Screened, Wish};
use super::trunk_leg::TrunkLeg;
use super::{CallId, Cause, Context, Effect, Origin, Refer, SocketId, Special, TransferRecord, begin};
use crate::sdp::{Hears, RtpSlot, Side};
use crate::sip::{Method, ReferId, ReferTo, Replaces};

/// How long a trunk may take to tell how a REFER ended, after it has accepted it.
const REFER_WITHIN: Duration = Duration::from_secs(180);
/// How long two calls may take to become one: a re-INVITE, with every repetition.
pub(super) const JOIN_WITHIN: Duration = Duration::from_secs(60);

/// What a party wants that transfers.
#[derive(Clone, Debug)]
pub struct TransferWish {
    /// With whom the other party shall speak.
    pub to: TransferTo,
    /// What the transferor may; `None`: what the call's user may.
    pub rights: Option<Rights>,
    /// The REFER it came in.
    pub refer: Option<ReferId>,
    /// Who refers, in his own words (RFC 3892).
    pub referred_by: Option<String>,
}

/// With whom.
#[derive(Clone, Debug)]
pub enum TransferTo {
    /// Whoever answers at a number: a blind transfer.
    Number(String),
    /// The other party of another call of the same browser: an attended transfer.
    Call(CallId, SocketId),
    /// The other party of another call, at an operator's word: it is the user's side of that call that leaves.
    Joined(CallId),
    /// The other party of a dialog, which may be of ours or of somebody else's, where the number leads to.
    Dialog {
        /// The dialog, as its other party sees it.
        replaces: Replaces,
        /// The number in Refer-To.
        number: String,
    },
}

/// What a transferor is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It is under way.
    Asked,
    /// The new party rings.
    Rings,
    /// It is done.
    Done,
    /// It came to nothing.
    Failed(Cause),
    /// Another one is under way in this call.
    NotNow,
}

/// A transfer under way.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Who leaves.
    pub by: Side,
    /// Whether he is told: of two calls that become one, only that is told which he named.
    pub told: bool,
    /// For the record and the other party: the number or name of the new party.
    pub to: String,
    pub stage: Stage,
    pub until: Instant,
    /// The longest time with the new party, from when it is there.
    pub longest: Option<Duration>,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Stage {
    /// The switch looks for the other call.
    Pairing(Box<TransferWish>),
    /// The other party's trunk has been asked; what is done where it refuses.
    Referred { accepted: bool, then: Then },
    /// Media resources for the new party are awaited.
    Leasing { slot: RtpSlot, hunt: Hunt, ring_for: Duration },
    /// The new party is called.
    Calling { slot: RtpSlot, hunt: Hunt, rings: bool },
    /// The far party of that call moves here, to these ports.
    Receiving { slot: RtpSlot, from: CallId, theirs: Option<Side> },
    /// Our far party moves to that call; `back`: that call takes nobody any more.
    Giving { to: CallId, back: bool },
    /// A party has called with the wish to take the place (INVITE with Replaces); its media resources are awaited.
    Replacing { slot: RtpSlot, party: Box<Party> },
}

/// What is done where a trunk refuses a REFER.
#[derive(Debug)]
pub(super) enum Then {
    Call(Box<Screened>),
    Join(Box<Far>),
}

impl Transfer {
    pub(super) fn new(cx: &Context, by: Side, told: bool, to: &str, stage: Stage, within: Duration) -> Box<Transfer> {
        Box::new(Transfer { by, told, to: to.to_owned(), stage, until: cx.now.instant + within, longest: None })
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [Some(self.until), self.hunt().and_then(Hunt::deadline)].into_iter().flatten().min()
    }

    /// Those who are called.
    pub(super) fn hunt(&self) -> Option<&Hunt> {
        match &self.stage {
            Stage::Calling { hunt, .. } | Stage::Leasing { hunt, .. } => Some(hunt),
            _ => None,
        }
    }

    /// What the party hears that stays.
    pub(super) fn heard(&self, cx: &Context) -> Hears {
        match &self.stage {
            Stage::Calling { rings: true, .. } => Hears::Tone(cx.settings.ringback),
            _ => Hears::Music,
        }
    }
}

impl Established {
    /// A party wants to be replaced.
    pub(super) fn wish(&mut self, core: &mut Core, cx: &mut Context, by: Side, wish: TransferWish) -> Next {
        if self.transfer.is_some() {
            refuse(core, cx, by, &wish, News::NotNow);
            return Next::Stay;
        }
        if let Err(cause) = may(core, cx, &wish) {
            refuse(core, cx, by, &wish, News::Failed(cause));
            return Next::Stay;
        }
        let number = match &wish.to {
            TransferTo::Number(number) => number.clone(),
            TransferTo::Call(..) | TransferTo::Joined(_) | TransferTo::Dialog { .. } => {
                accept(core, cx, by, &wish);
                cx.effects.push(Effect::Pair(wish.to.clone()));
                let stage = Stage::Pairing(Box::new(wish));
                self.transfer = Some(Transfer::new(cx, by, true, "", stage, JOIN_WITHIN));
                return Next::Stay;
            }
        };
        match screen(core, cx, &wish, &number) {
            Ok(screened) => {
                accept(core, cx, by, &wish);
                let by_refer = wish.refer.is_none();
                self.begin_transfer(core, cx, by, screened, by_refer, &wish)
            }
            Err(cause) => {
                refuse(core, cx, by, &wish, News::Failed(cause));
                Next::Stay
            }
        }
    }

    /// A dialog that is none of ours shall be replaced: its party is called, where the number leads to.
    pub(super) fn wish_foreign(&mut self, core: &mut Core, cx: &mut Context, by: Side, wish: &TransferWish) -> Next {
        let TransferTo::Dialog { number, .. } = &wish.to else {
            return self.transfer_failed(core, cx, Cause::from_status(Origin::Gateway, 481));
        };
        match screen(core, cx, wish, number) {
            Ok(screened) => self.begin_transfer(core, cx, by, screened, false, wish),
            Err(cause) => self.transfer_failed(core, cx, cause),
        }
    }

    /// The target may be called: by REFER where that is possible, else by ourselves.
    fn begin_transfer(
        &mut self,
        core: &mut Core,
        cx: &mut Context,
        by: Side,
        screened: Screened,
        by_refer: bool,
        wish: &TransferWish,
    ) -> Next {
        let to = match &screened.to {
            Destination::Trunks(_) => screened.number.clone(),
            Destination::Users(users) => users.join(","),
        };
        tracing::info!(call = %core.id, by = ?by, to = %cx.settings.shown(&to), rule = screened.rule, "a transfer is asked for");
        if by_refer && refer_to_number(core, cx, by.other(), &screened) {
            let stage = Stage::Referred { accepted: false, then: Then::Call(Box::new(screened)) };
            self.transfer = Some(Transfer::new(cx, by, true, &to, stage, REFER_WITHIN));
            return Next::Stay;
        }
        let longest = Some(screened.longest);
        match call(core, cx, screened, wish) {
            Ok(stage) => {
                let within = cx.settings.lease_within;
                let transfer = Transfer::new(cx, by, true, &to, stage, within);
                self.transfer = Some(Box::new(Transfer { longest, ..*transfer }));
                Next::Stay
            }
            Err(cause) => {
                let stage = Stage::Pairing(Box::new(wish.clone()));
                self.transfer = Some(Transfer::new(cx, by, true, &to, stage, JOIN_WITHIN));
                self.transfer_failed(core, cx, cause)
            }
        }
    }

    /// The other party's answer to our REFER.
    pub(super) fn refer_answered(&mut self, core: &mut Core, cx: &mut Context, result: Result<(), u16>) -> Next {
        let Some(transfer) = &mut self.transfer else { return Next::Stay };
        let Stage::Referred { accepted, .. } = &mut transfer.stage else { return Next::Stay };
        if result.is_ok() {
            *accepted = true;
            return Next::Stay;
        }
        tracing::info!(call = %core.id, ?result, "the trunk does not transfer: we do");
        let by = transfer.by;
        let fallen = std::mem::replace(&mut transfer.stage, Stage::Giving { to: core.id, back: false });
        let Stage::Referred { then, .. } = fallen else { return Next::Stay };
        let screened = match then {
            Then::Join(far) => return self.join(core, cx, by, *far),
            Then::Call(screened) => *screened,
        };
        let wish = TransferWish { to: TransferTo::Number(String::new()), rights: None, refer: None, referred_by: None };
        transfer.longest = Some(screened.longest);
        match call(core, cx, screened, &wish) {
            Ok(stage) => {
                transfer.stage = stage;
                transfer.until = cx.now.instant + cx.settings.lease_within;
                Next::Stay
            }
            Err(cause) => self.transfer_failed(core, cx, cause),
        }
    }

    /// How the other party gets on with our REFER.
    pub(super) fn refer_progress(&mut self, core: &mut Core, cx: &mut Context, status: u16, last: bool) -> Next {
        let Some(transfer) = self.transfer.as_ref().filter(|it| matches!(it.stage, Stage::Referred { .. })) else {
            return Next::Stay;
        };
        let (by, told) = (transfer.by, transfer.told);
        match status {
            // Some say nothing more than that it is under way, and mean that it is theirs now.
            200..300 => self.referred_away(core, cx),
            100..200 if last => self.referred_away(core, cx),
            101..200 => {
                tell(core, cx, by, told, &News::Rings);
                Next::Stay
            }
            300.. => self.transfer_failed(core, cx, Cause::from_status(Origin::Trunk, status)),
            _ => Next::Stay,
        }
    }

    /// The trunk has connected its party with the new one: this call is over for us, and that which it took the place of.
    pub(super) fn referred_away(&mut self, core: &mut Core, cx: &mut Context) -> Next {
        let Some(transfer) = self.transfer.take() else { return Next::Stay };
        tell(core, cx, transfer.by, transfer.told, &News::Done);
        if let Stage::Referred { then: Then::Join(far), .. } = &transfer.stage {
            cx.effects.push(Effect::Forward { to: far.call, what: Mail::Transferred { by: far.by } });
        }
        note(core, cx, &transfer, "refer", "done");
        Next::End(Cause::special(Origin::Browser, Special::Transferred), Some(transfer.by))
    }

    /// Somebody says something who is no party: the new one, or a candidate for it.
    pub(super) fn newcomer_said(&mut self, core: &mut Core, cx: &mut Context, said: Said) -> Next {
        let Some(transfer) = &mut self.transfer else { return Next::Stay };
        match &mut transfer.stage {
            Stage::Leasing { hunt, .. } | Stage::Calling { hunt, .. } if hunt.speaks(&said) => {
                let hunted = hunt.handle(cx, said);
                self.transfer_hunted(core, cx, hunted)
            }
            Stage::Replacing { party, .. } if party.speaks(&said) => match party.handle(cx, said, false) {
                super::leg::Happened::Over(cause) => self.transfer_failed(core, cx, cause),
                _ => Next::Stay,
            },
            _ => Next::Stay,
        }
    }

    /// What came of the candidates.
    pub(super) fn transfer_hunted(&mut self, core: &mut Core, cx: &mut Context, hunted: Hunted) -> Next {
        let Some(transfer) = &mut self.transfer else { return Next::Stay };
        let (by, told) = (transfer.by, transfer.told);
        match (hunted, &mut transfer.stage) {
            (Hunted::Progress(progress), Stage::Calling { rings, .. }) => {
                if progress.ringing && !std::mem::replace(rings, true) {
                    tell(core, cx, by, told, &News::Rings);
                }
                Next::Stay
            }
            (Hunted::Answered(party), Stage::Calling { hunt, .. }) => {
                core.remember_tried(hunt.take_tried(), hunt.sent());
                self.transfer_done(core, cx, *party)
            }
            (Hunted::Over(cause), _) => self.transfer_failed(core, cx, cause),
            _ => Next::Stay,
        }
    }

    /// A caller takes the place of a party: its media resources first.
    pub(super) fn replaced(&mut self, core: &mut Core, cx: &mut Context, by: Side, request: InboundRequest) -> Next {
        let (offer, body) = begin::offer_of(&request.request);
        let (number, _) = request.trunk.caller(&request.request.headers);
        let to = number.unwrap_or_else(|| "anonymous".to_owned());
        let leg = TrunkLeg::caller(core.id, request.trunk, request.flow, request.session, offer, request.rights);
        let (peers, browser) = (leg.peers(), leg.is_browser());
        let mut party = Box::new(Party::Sip(Box::new(leg)));
        let none = || Cause::special(Origin::Gateway, Special::NoResources);
        match body.and_then(|()| core.slots.ask(cx, peers, browser).ok_or_else(none)) {
            Ok(slot) => {
                let within = cx.settings.lease_within;
                self.transfer = Some(Transfer::new(cx, by, false, &to, Stage::Replacing { slot, party }, within));
            }
            Err(cause) => party.leg_mut().end(cx, &cause, false),
        }
        Next::Stay
    }

    /// Media resources may have come.
    pub(super) fn transfer_leased(&mut self, core: &mut Core, cx: &mut Context) -> Next {
        let Some(transfer) = &mut self.transfer else { return Next::Stay };
        let (Stage::Leasing { slot, .. } | Stage::Replacing { slot, .. } | Stage::Receiving { slot, .. }) =
            &transfer.stage
        else {
            return Next::Stay;
        };
        let Some(loan) = core.slots.loan(*slot).cloned() else { return Next::Stay };
        let band = core.band(transfer.by.other());
        let waiting = std::mem::replace(&mut transfer.stage, Stage::Giving { to: core.id, back: false });
        match waiting {
            Stage::Leasing { slot, mut hunt, ring_for } => {
                let offered = hunt.offer(cx, &loan, band);
                transfer.stage = Stage::Calling { slot, hunt, rings: false };
                transfer.until = cx.now.instant + ring_for;
                match offered {
                    Ok(progress) => self.transfer_hunted(core, cx, Hunted::Progress(progress)),
                    Err(cause) => self.transfer_failed(core, cx, cause),
                }
            }
            Stage::Replacing { slot, mut party } => {
                let taken = party.leg_mut().prepare(cx, &loan, band);
                match taken {
                    Ok(()) => self.transfer_done(core, cx, *party),
                    Err(cause) => {
                        transfer.stage = Stage::Replacing { slot, party };
                        self.transfer_failed(core, cx, cause)
                    }
                }
            }
            Stage::Receiving { slot, from, theirs } => {
                transfer.stage = Stage::Receiving { slot, from, theirs };
                let what = Mail::Give { to: core.id, by: theirs, loan };
                cx.effects.push(Effect::Forward { to: from, what });
                Next::Stay
            }
            stage => {
                transfer.stage = stage;
                Next::Stay
            }
        }
    }

    /// Its time has come, or that of a candidate.
    pub(super) fn transfer_tick(&mut self, core: &mut Core, cx: &mut Context) -> Next {
        let Some(transfer) = &mut self.transfer else { return Next::Stay };
        if transfer.until <= cx.now.instant {
            let special = match &transfer.stage {
                Stage::Calling { .. } => Special::NoAnswer,
                Stage::Leasing { .. } | Stage::Replacing { .. } => Special::NoResources,
                _ => return self.transfer_failed(core, cx, Cause::from_status(Origin::Network, 408)),
            };
            return self.transfer_failed(core, cx, Cause::special(Origin::Gateway, special));
        }
        let Stage::Calling { hunt, .. } = &mut transfer.stage else { return Next::Stay };
        let hunted = hunt.tick(cx);
        self.transfer_hunted(core, cx, hunted)
    }

    /// The new party is there: it takes the transferor's place.
    pub(super) fn transfer_done(&mut self, core: &mut Core, cx: &mut Context, party: Party) -> Next {
        let Some(transfer) = self.transfer.take() else { return Next::Stay };
        let by = transfer.by;
        let redirected = party.sip().and_then(TrunkLeg::longest);
        let longest = [transfer.longest, redirected].into_iter().flatten().min();
        match transfer.longest {
            // An emergency call: nothing of what the call was before cuts it off.
            Some(Duration::MAX) => self.until = None,
            _ => self.shorten(longest.and_then(|longest| cx.now.instant.checked_add(longest))),
        }
        tell(core, cx, by, transfer.told, &News::Done);
        let how = match &transfer.stage {
            Stage::Receiving { .. } => "join",
            Stage::Giving { .. } | Stage::Replacing { .. } => "replaces",
            _ => "call",
        };
        note(core, cx, &transfer, how, "done");
        tracing::info!(call = %core.id, by = ?by, to = %cx.settings.shown(&transfer.to), how, "transferred");
        core.replace(cx, by, party, &transfer.to)
    }

    /// The call ends no later than this: a transfer may make it shorter, and never longer.
    pub(super) fn shorten(&mut self, until: Option<Instant>) {
        self.until = [self.until, until].into_iter().flatten().min();
    }

    /// It came to nothing: the call is as it was, or ends where the transferor has left.
    pub(super) fn transfer_failed(&mut self, core: &mut Core, cx: &mut Context, cause: Cause) -> Next {
        let Some(mut transfer) = self.transfer.take() else { return Next::Stay };
        tracing::info!(call = %core.id, cause = cause.word, sip = cause.sip, "the transfer comes to nothing");
        give_up(core, cx, &mut transfer, &cause);
        let result = cause.sip.map_or_else(|| cause.word.to_owned(), |status| status.to_string());
        let how = match &transfer.stage {
            Stage::Referred { .. } => "refer",
            Stage::Receiving { .. } | Stage::Giving { .. } | Stage::Pairing(_) => "join",
            Stage::Replacing { .. } => "replaces",
            Stage::Leasing { .. } | Stage::Calling { .. } => "call",
        };
        note(core, cx, &transfer, how, &result);
        if core.party(transfer.by).is_none() {
            return Next::End(cause, None);
        }
        tell(core, cx, transfer.by, transfer.told, &News::Failed(cause));
        Next::Stay
    }
}

/// Ends what a transfer has begun.
pub(super) fn give_up(core: &mut Core, cx: &mut Context, transfer: &mut Transfer, cause: &Cause) {
    match &mut transfer.stage {
        Stage::Leasing { slot, hunt, .. } | Stage::Calling { slot, hunt, .. } => {
            hunt.end(cx, cause);
            core.remember_tried(hunt.take_tried(), hunt.sent());
            core.done_with(Some(*slot));
        }
        Stage::Receiving { slot, from, .. } => {
            core.done_with(Some(*slot));
            cx.effects.push(Effect::Forward { to: *from, what: Mail::Keep { to: core.id } });
        }
        Stage::Giving { to, back: false } if *to != core.id => {
            let status = cause.sip.unwrap_or(487);
            cx.effects.push(Effect::Forward { to: *to, what: Mail::NotGiven { from: core.id, status } });
        }
        Stage::Replacing { slot, party } => {
            party.leg_mut().end(cx, cause, false);
            core.done_with(Some(*slot));
        }
        Stage::Pairing(_) | Stage::Referred { .. } | Stage::Giving { .. } => {}
    }
}

/// Screens a wish that is carried out now: it uses a token that is good for one call.
fn screen(core: &Core, cx: &mut Context, wish: &TransferWish, number: &str) -> Result<Screened, Cause> {
    let screened = by_plan(core, cx, wish, number)?;
    screening::admitted(cx, screened).map_err(|(_, cause)| cause)
}

/// Judges a wish by the dial plan and the limits, and uses up nothing.
pub(super) fn judge(core: &Core, cx: &mut Context, wish: &TransferWish) -> Result<(), Cause> {
    may(core, cx, wish)?;
    let TransferTo::Number(number) = &wish.to else { return Ok(()) };
    let screened = by_plan(core, cx, wish, number)?;
    screening::within_limits(cx, screened).map(drop).map_err(|(_, cause)| cause)
}

/// Whether those on whose behalf it is may transfer at all.
fn may(core: &Core, cx: &Context, wish: &TransferWish) -> Result<(), Cause> {
    let Some(Rights { caller, .. }) = rights(core, wish) else { return Ok(()) };
    let plan = &cx.settings.plan;
    let emergency = matches!(&wish.to, TransferTo::Number(number) if plan.is_emergency(caller, number));
    match emergency || plan.may_transfer(caller) {
        true => Ok(()),
        false => Err(Cause::special(Origin::Gateway, Special::TransferNotAllowed)),
    }
}

/// The rights of the transferor, or of the call's user.
fn rights<'a>(core: &'a Core, wish: &'a TransferWish) -> Option<&'a Rights> {
    wish.rights.as_ref().or(core.rights.as_ref())
}

/// What the dial plan says of a number.
fn by_plan(core: &Core, cx: &mut Context, wish: &TransferWish, number: &str) -> Result<Screened, Cause> {
    let Some(rights) = rights(core, wish) else {
        return Err(Cause::from_status(Origin::Gateway, 403).in_words("No user's rights stand behind this transfer"));
    };
    screening::screen_wish(cx, &Wish { rights, to: number, from: None }).map_err(|(_, cause)| cause)
}

/// Tells the transferor that it is under way.
fn accept(core: &mut Core, cx: &mut Context, by: Side, wish: &TransferWish) {
    let Some(party) = core.party_mut(by) else { return };
    if let (Some(refer), Some(leg)) = (wish.refer, party.sip_mut()) {
        leg.take_refer(cx, refer, Ok(()));
    }
    party.leg_mut().transfer(cx, &News::Asked);
}

/// Tells him that it will not be.
fn refuse(core: &mut Core, cx: &mut Context, by: Side, wish: &TransferWish, news: News) {
    let Some(party) = core.party_mut(by) else { return };
    if let (Some(refer), Some(leg)) = (wish.refer, party.sip_mut()) {
        let status = match &news {
            News::Failed(cause) => cause.sip.filter(|status| (300..700).contains(status)).unwrap_or(480),
            _ => 491,
        };
        leg.take_refer(cx, refer, Err(status));
        return;
    }
    party.leg_mut().transfer(cx, &news);
}

/// Tells the transferor, while he is there.
pub(super) fn tell(core: &mut Core, cx: &mut Context, by: Side, told: bool, news: &News) {
    if let Some(party) = core.party_mut(by).filter(|_| told) {
        party.leg_mut().transfer(cx, news);
    }
}

fn note(core: &mut Core, cx: &mut Context, transfer: &Transfer, how: &str, result: &str) {
    let (call, by, to) = (core.id.to_string(), transfer.by.into(), transfer.to.clone());
    cx.notice(match result {
        "done" => Notice::Transferred { call, by, to, how: how.to_owned() },
        result => Notice::TransferFailed { call, by, to, result: result.to_owned() },
    });
    core.record.transfers.push(TransferRecord {
        at: cx.now.unix_ms,
        by: if transfer.by == Side::A { "a" } else { "b" }.to_owned(),
        to: transfer.to.clone(),
        how: how.to_owned(),
        result: result.to_owned(),
    });
}

/// Whether a party's trunk may be asked to transfer it.
pub(super) fn can_refer(core: &Core, cx: &Context, side: Side) -> bool {
    let Some(leg) = core.party(side).and_then(Party::sip) else { return false };
    let asks = leg.trunk().is_some_and(|trunk| trunk.refer == Refer::Ask) && leg.rights().is_none();
    let allows = leg.session().and_then(|session| cx.ua.dialog(session)).is_some_and(|dialog| {
        // A peer that says nothing of what it takes may take it.
        dialog.peer_allows.is_empty() || dialog.peer_allows.contains(&Method::Refer)
    });
    // What is measured does not leave us.
    let measured = leg.session().is_some_and(|session| cx.ledger.is_counted(session));
    asks && allows && !measured
}

/// Asks a party's trunk to call a number, where the dial plan would call it by the same trunk.
fn refer_to_number(core: &Core, cx: &mut Context, side: Side, screened: &Screened) -> bool {
    let Some(leg) = core.party(side).and_then(Party::sip).filter(|_| can_refer(core, cx, side)) else { return false };
    let (Some(trunk), Some(remote)) = (leg.trunk(), leg.remote()) else { return false };
    let same = match &screened.to {
        Destination::Trunks(trunks) => trunks.front().is_some_and(|first| first.name == trunk.name),
        Destination::Users(_) => false,
    };
    let payer = Payer::of(&cx.settings.plan, screened.rights.as_ref());
    if !same || (!screened.emergency && cx.ledger.measures(&payer, &trunk.name)) {
        return false;
    }
    let number = trunk.number_format.present(&screened.number);
    let host = trunk.domain.clone().unwrap_or_else(|| super::context::ip_host(remote.ip()));
    let Some(uri) = trunk.uri(&number, host, None) else { return false };
    refer(cx, leg, ReferTo { uri, replaces: None })
}

/// Sends a REFER; `false` where it cannot be sent.
pub(super) fn refer(cx: &mut Context, leg: &TrunkLeg, to: ReferTo) -> bool {
    let Some(session) = leg.session() else { return false };
    let by = cx.ua.dialog(session).map(|dialog| format!("<{}>", dialog.local_uri));
    cx.ua.refer(cx.now.instant, session, to, by.as_deref()).is_ok()
}

/// Calls the new party: its media resources first.
fn call(core: &mut Core, cx: &mut Context, screened: Screened, wish: &TransferWish) -> Result<Stage, Cause> {
    let ring_for = screened.ring_for;
    let mut hunt = begin::hunt_for(cx, core, screened)?;
    let replaces = match &wish.to {
        TransferTo::Dialog { replaces, .. } => Some(replaces.clone()),
        TransferTo::Number(_) | TransferTo::Call(..) | TransferTo::Joined(_) => None,
    };
    hunt.refer(replaces.as_ref(), wish.referred_by.as_deref());
    let slot = core.slots.ask(cx, hunt.peers(), hunt.has_browsers());
    let slot = slot.ok_or_else(|| Cause::special(Origin::Gateway, Special::NoResources))?;
    Ok(Stage::Leasing { slot, hunt, ring_for })
}
