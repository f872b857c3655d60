//! A browser's leg: browser protocol v1 on one side, the call's words on the other.

use std::net::SocketAddr;
use std::time::Instant;

use rand::RngExt as _;

use super::leg::{Happened, Leg, Progress, Way};
use super::presence::Presence;
use super::slots::Loan;
use super::transfer::{News, TransferTo, TransferWish};
use super::{CallId, Cause, Context, Origin, Params, Rights, SocketId, Special};
use crate::sdp::{
    Band, BrowserLocal, BrowserMedia, BrowserOffer, CodecPolicy, Connection, IceCredentials, LegMedia, MediaCommand,
    Side, browser,
};
use crate::signal::{ClientKind, ErrorCode, Holder, Party, ServerMessage, TransferState, Veiled, Verified};

/// What a browser says about one of its calls.
#[derive(Clone, Debug)]
pub enum BrowserEvent {
    /// Takes the call.
    Accept {
        /// Its answer to our offer.
        sdp: Veiled,
        /// What its user may.
        rights: Box<Rights>,
    },
    /// Refuses it.
    Reject {
        /// 486, 603 or 480.
        code: u16,
    },
    /// A trickled candidate: an ICE-lite agent needs none.
    Candidate,
    /// Digits for the other side.
    Digits {
        /// `0-9 * # A-D`.
        digits: String,
        /// How long each lasts.
        ms: u16,
    },
    /// Hold the other side, or take it back.
    Hold {
        /// Which.
        on: bool,
    },
    /// Connect the other side with a number, or with that of another call of this browser.
    Transfer {
        /// Whom.
        to: TransferTo,
        /// What its user may.
        rights: Box<Rights>,
    },
    /// A new offer for the call: an ICE restart, or another connection altogether.
    Restart {
        /// The offer, read.
        offer: Box<BrowserOffer>,
    },
    /// Ends the call.
    Hangup,
    /// The socket is lost; the browser may come back.
    Away,
    /// The browser is back, on another socket.
    Back,
    /// The session is over.
    Gone,
}

/// What a browser is told about an incoming call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The caller's number or `anonymous`.
    pub from: String,
    /// The caller's name.
    pub name: Option<String>,
    /// The number called.
    pub to: String,
    /// What is said of the call.
    pub params: Params,
    /// How far the caller's number is vouched for.
    pub verified: Option<Verified>,
}

/// A browser's leg of a call.
#[derive(Debug)]
pub struct BrowserLeg {
    call: CallId,
    side: Side,
    called: bool,
    socket: SocketId,
    user: String,
    /// The name by which the browser knows the call.
    name: String,
    part: Part,
    told: Progress,
    media: Option<BrowserMedia>,
    /// Our own description in force, and which connection of the browser's it is with.
    own: Option<BrowserLocal>,
    connection: Option<Connection>,
    /// What the other side could carry when the leg got its description.
    band: Band,
    /// Whether there may be redundancy, as it was when the leg got its description.
    redundancy: bool,
    /// What its user may.
    rights: Rights,
    /// Who is on the other side, where that is not what was dialled.
    remote: Option<Remote>,
    pub(super) presence: Presence,
}

/// Who is on the other side of a browser's leg.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    pub who: String,
    pub name: Option<String>,
}

/// How far a browser's leg has come.
#[derive(Debug)]
enum Part {
    /// It calls: its offer, until the lease comes.
    Calls(Box<BrowserOffer>),
    /// It is called, and the lease is awaited.
    Called(Announcement),
    /// It rings, and was told this.
    Rings(Box<Ringing>),
    /// It has the call.
    Has,
}

/// What a browser has been told of a call that rings there.
#[derive(Debug)]
struct Ringing {
    announcement: Announcement,
    /// Our description, and its text.
    local: BrowserLocal,
    sdp: Veiled,
}

impl BrowserLeg {
    /// The leg of a browser that calls.
    pub(super) fn caller(
        call: CallId,
        name: &str,
        socket: SocketId,
        rights: Rights,
        offer: BrowserOffer,
    ) -> BrowserLeg {
        let user = rights.caller.user.clone();
        let new = BrowserLeg::new(call, name, socket, &user, Part::Calls(Box::new(offer)));
        BrowserLeg { side: Side::A, called: false, rights, ..new }
    }

    /// The leg of a browser that is called.
    pub(super) fn callee(
        call: CallId,
        name: &str,
        socket: SocketId,
        user: &str,
        announcement: Announcement,
    ) -> BrowserLeg {
        let remote = Remote { who: announcement.from.clone(), name: announcement.name.clone() };
        let new = BrowserLeg::new(call, name, socket, user, Part::Called(announcement));
        BrowserLeg { remote: Some(remote), ..new }
    }

    fn new(call: CallId, name: &str, socket: SocketId, user: &str, part: Part) -> BrowserLeg {
        BrowserLeg {
            call,
            side: Side::B,
            called: true,
            socket,
            user: user.to_owned(),
            name: name.to_owned(),
            part,
            told: Progress::default(),
            media: None,
            own: None,
            connection: None,
            band: Band::default(),
            redundancy: true,
            rights: Rights::default(),
            remote: None,
            presence: Presence::default(),
        }
    }

    /// The side of the call it stands on; a callee's is B until it takes another's place.
    pub(super) fn set_side(&mut self, side: Side) {
        self.side = side;
    }

    /// Its socket.
    pub(super) fn socket(&self) -> SocketId {
        self.socket
    }

    /// Whose it is.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// What its user may.
    pub(super) fn rights(&self) -> &Rights {
        &self.rights
    }

    /// The name by which the browser knows the call.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Who is on the other side, where that is not what was dialled.
    pub(super) fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// What it was told of the called side.
    pub(super) fn told(&self) -> Progress {
        self.told
    }

    /// Whether it was called.
    pub(super) fn was_called(&self) -> bool {
        self.called
    }

    /// Whether the call rings here.
    pub(super) fn rings(&self) -> bool {
        matches!(self.part, Part::Rings(_))
    }

    /// Takes what the browser says; `established` says whether the call is answered.
    pub(super) fn handle(&mut self, cx: &mut Context, event: BrowserEvent, established: bool) -> Happened {
        let rings = matches!(self.part, Part::Called(_) | Part::Rings(_));
        match event {
            BrowserEvent::Candidate => Happened::Nothing,
            BrowserEvent::Accept { sdp, rights } => self.accepted(cx, &sdp.0, *rights),
            BrowserEvent::Reject { code } if rings => Happened::Over(refusal(code)),
            // Hanging up a call that rings is declining it.
            BrowserEvent::Hangup if rings => Happened::Over(refusal(603)),
            BrowserEvent::Hangup => {
                let special = if established { Special::Normal } else { Special::Cancelled };
                Happened::Over(Cause::special(Origin::Browser, special))
            }
            BrowserEvent::Restart { offer } => {
                self.restart(cx, offer);
                Happened::Nothing
            }
            BrowserEvent::Away => {
                self.presence.away();
                Happened::Nothing
            }
            BrowserEvent::Back => {
                self.presence.back(cx);
                self.announce(cx);
                Happened::Nothing
            }
            BrowserEvent::Gone => Happened::Over(Cause::special(Origin::Network, Special::BrowserGone)),
            BrowserEvent::Hold { on } if established => Happened::Held(on),
            BrowserEvent::Digits { digits, ms } if established => Happened::Digits(digits, ms, Way::Signalling),
            BrowserEvent::Transfer { to, rights } if established => Happened::Transfers(Box::new(TransferWish {
                to,
                rights: Some(*rights),
                refer: None,
                referred_by: None,
            })),
            BrowserEvent::Reject { .. } => self.not_now(cx, ClientKind::Reject),
            BrowserEvent::Hold { .. } => self.not_now(cx, ClientKind::Hold),
            BrowserEvent::Digits { .. } => self.not_now(cx, ClientKind::Digits),
            BrowserEvent::Transfer { .. } => self.not_now(cx, ClientKind::Transfer),
        }
    }

    fn not_now(&self, cx: &mut Context, re: ClientKind) -> Happened {
        self.refuse(cx, re, ErrorCode::WrongState, "the call is in no state for this");
        Happened::Nothing
    }

    /// Answers one message, of the kind `re`, with one error.
    fn refuse(&self, cx: &mut Context, re: ClientKind, code: ErrorCode, text: &str) {
        let text = text.to_owned();
        self.tell(cx, |call| ServerMessage::Error { code, text, re: Some(re), call: Some(call), n: None });
    }

    fn accepted(&mut self, cx: &mut Context, sdp: &str, rights: Rights) -> Happened {
        let Part::Rings(ringing) = &self.part else {
            self.refuse(cx, ClientKind::Accept, ErrorCode::WrongState, "this call does not ring here");
            return Happened::Nothing;
        };
        match browser::read_answer(&ringing.local, &self.policy(cx), sdp) {
            Ok(media) => {
                self.media = Some(media);
                self.own = Some(ringing.local.clone());
                self.connection = Connection::read(sdp).ok();
                self.rights = rights;
                self.part = Part::Has;
                Happened::Answered
            }
            Err(error) => {
                self.refuse(cx, ClientKind::Accept, ErrorCode::BadSdp, &error.to_string());
                Happened::Nothing
            }
        }
    }

    /// Offers the browser the call that rings there: at first, and once more when it is back.
    fn announce(&self, cx: &mut Context) {
        let Part::Rings(ringing) = &self.part else { return };
        let Announcement { from, name, to, params, verified } = ringing.announcement.clone();
        let (id, sdp) = (self.call.to_string(), ringing.sdp.0.clone());
        self.tell(cx, |call| ServerMessage::Incoming { call, id, from, name, to, sdp, params, verified });
    }

    /// Answers a new offer for the call. One of the same connection (the same `o=` session and certificate) goes on with its
    /// DTLS association and SRTP keys, after an ICE restart if its ICE credentials are others
    /// ([RFC 8839](https://www.rfc-editor.org/rfc/rfc8839#section-4.4.1.1.1) section 4.4.1.1.1,
    /// [RFC 8842](https://www.rfc-editor.org/rfc/rfc8842#section-5.5) section 5.5); any other is a transport of its own.
    fn restart(&mut self, cx: &mut Context, mut offer: Box<BrowserOffer>) {
        if !self.presence.may_restart(cx.now.instant) {
            return self.refuse(cx, ClientKind::Restart, ErrorCode::TooOften, "this call is restarted too often");
        }
        match (&mut self.part, &self.own, &self.media) {
            // It is answered when the media resources come.
            (Part::Calls(waiting), ..) => *waiting = offer,
            (Part::Has, Some(own), Some(media)) => {
                let (mut local, policy) = (own.clone(), self.policy(cx));
                let same = self.connection.as_ref() == Some(offer.connection());
                if same {
                    if *offer.ice() != media.remote_ice {
                        local.ice = new_ice(cx, local.ice.mark());
                    }
                    local.version = local.version.saturating_add(1);
                    offer.keep_role(media.dtls);
                } else {
                    // Another SSRC: the other transport's packets begin anew. The same CNAME: it is the same party.
                    let cname = local.cname.clone();
                    local = BrowserLocal { cname, ..new_local(cx, &own.candidates, own.ice.mark()) };
                }
                match offer.answer(&local, &policy) {
                    Ok((sdp, media)) => {
                        if !same {
                            self.presence.begins();
                        }
                        self.answer(cx, &offer, local, sdp, media);
                    }
                    Err(error) => self.refuse(cx, ClientKind::Restart, ErrorCode::BadSdp, &error.to_string()),
                }
            }
            _ => self.refuse(cx, ClientKind::Restart, ErrorCode::WrongState, "this call has no media yet"),
        }
    }

    fn answer(
        &mut self,
        cx: &mut Context,
        offer: &BrowserOffer,
        local: BrowserLocal,
        sdp: String,
        media: BrowserMedia,
    ) {
        self.media = Some(media);
        self.own = Some(local);
        self.connection = Some(offer.connection().clone());
        self.presence.restarted();
        let id = self.call.to_string();
        self.tell(cx, |call| ServerMessage::Answer { call, id, sdp });
    }

    fn policy(&self, cx: &Context) -> CodecPolicy {
        CodecPolicy { band: self.band, red: self.redundancy, ..cx.settings.policy.clone() }
    }

    pub(super) fn tell(&self, cx: &mut Context, message: impl FnOnce(String) -> ServerMessage) {
        cx.tell(self.socket, message(self.name.clone()));
    }
}

/// Our end of a new transport to a browser.
pub(super) fn new_local(cx: &mut Context, candidates: &[SocketAddr], ufrag_mark: char) -> BrowserLocal {
    BrowserLocal {
        ice: new_ice(cx, ufrag_mark),
        fingerprint: cx.settings.fingerprint.clone(),
        candidates: candidates.to_vec(),
        ssrc: cx.rng.random_range(1..=u32::MAX),
        cname: random_text(cx, 16),
        session_id: cx.rng.random_range(1..=i64::MAX as u64),
        version: 1,
    }
}

/// ICE credentials that nobody has had before, with the mark of those whom the call's media belong to.
pub(super) fn new_ice(cx: &mut Context, ufrag_mark: char) -> IceCredentials {
    IceCredentials::new(format!("{ufrag_mark}{}", random_text(cx, 8)), random_text(cx, 24))
}

/// The refusal of one who was called.
fn refusal(code: u16) -> Cause {
    match code {
        603 => Cause::special(Origin::Browser, Special::Declined),
        code => Cause::from_status(Origin::Browser, code),
    }
}

/// Characters that ICE allows (RFC 8839 section 5.4: ALPHA, DIGIT, `+`, `/`), six bits each.
fn random_text(cx: &mut Context, length: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..length).filter_map(|_| ALPHABET.get(cx.rng.random_range(0..64usize))).map(|byte| char::from(*byte)).collect()
}

/// The one message that ends a call. `mine`: this browser ended it.
pub(crate) fn ended(name: &str, cause: &Cause, mine: bool) -> ServerMessage {
    let by = match cause.origin {
        Origin::Gateway => Party::Gateway,
        Origin::Network => Party::Network,
        Origin::Browser | Origin::Trunk if mine => Party::Us,
        Origin::Browser | Origin::Trunk => Party::Them,
    };
    ServerMessage::Ended {
        call: name.to_owned(),
        by,
        cause: cause.word.to_owned(),
        sip: cause.sip,
        q850: Some(cause.q850),
        retry_after: cause.retry_after,
        text: cause.reason.clone(),
    }
}

impl Leg for BrowserLeg {
    fn band(&self) -> Band {
        self.media.as_ref().map_or(Band::Full, |media| Band::of([media.send.codec]))
    }

    fn prepare(&mut self, cx: &mut Context, loan: &Loan, band: Band) -> Result<(), Cause> {
        let local = new_local(cx, &loan.candidates, loan.ufrag_mark);
        self.band = band;
        self.redundancy = cx.settings.policy.red;
        let policy = self.policy(cx);
        match std::mem::replace(&mut self.part, Part::Has) {
            Part::Calls(offer) => {
                let (sdp, media) = offer.answer(&local, &policy).map_err(|error| {
                    Cause::from_status(Origin::Browser, error.status()).in_words(&error.to_string())
                })?;
                self.answer(cx, &offer, local, sdp, media);
            }
            Part::Called(announcement) => {
                let sdp = browser::offer(&local, &policy);
                self.part = Part::Rings(Box::new(Ringing { announcement, local, sdp: Veiled(sdp) }));
                self.announce(cx);
            }
            part => self.part = part,
        }
        Ok(())
    }

    fn offer(&mut self, _cx: &mut Context) -> Result<Progress, Cause> {
        Ok(Progress { ringing: true, early_media: false })
    }

    fn progress(&mut self, cx: &mut Context, progress: Progress) {
        if progress.ringing && !self.told.ringing {
            self.told.ringing = true;
            self.tell(cx, |call| ServerMessage::Ringing { call });
        }
        if progress.early_media && !self.told.early_media {
            self.told.early_media = true;
            self.tell(cx, |call| ServerMessage::Early { call });
        }
    }

    fn connect(&mut self, cx: &mut Context) -> Result<(), Cause> {
        self.tell(cx, |call| ServerMessage::Answered { call });
        Ok(())
    }

    fn hold(&mut self, cx: &mut Context, on: bool) -> Option<bool> {
        self.tell(cx, |call| ServerMessage::Held { call, by: Holder::Them, on });
        Some(true)
    }

    fn hold_answered(&mut self, cx: &mut Context, on: bool, agreed: bool) {
        match agreed {
            true => self.tell(cx, |call| ServerMessage::Held { call, by: Holder::Us, on }),
            false => self.refuse(cx, ClientKind::Hold, ErrorCode::WrongState, "the trunk did not take the hold"),
        }
    }

    fn digits(&mut self, cx: &mut Context, digits: &str, ms: u16, way: Way) {
        if way == Way::Signalling && cx.settings.digits_to_browser {
            cx.media(MediaCommand::Digits { to: self.side, digits: digits.to_owned(), ms });
        }
        for digit in digits.chars() {
            self.tell(cx, |call| ServerMessage::Digit { call, digit });
        }
    }

    fn transfer(&mut self, cx: &mut Context, news: &News) {
        let (state, cause) = match news {
            News::Asked => (TransferState::Asked, None),
            News::Rings => (TransferState::Ringing, None),
            News::Done => (TransferState::Done, None),
            News::Failed(cause) => (TransferState::Failed, Some(cause)),
            News::NotNow => {
                let text = "a transfer of this call is under way";
                return self.refuse(cx, ClientKind::Transfer, ErrorCode::WrongState, text);
            }
        };
        let (sip, text) = (cause.and_then(|cause| cause.sip), cause.map(|cause| cause.reason.clone()));
        self.tell(cx, |call| ServerMessage::Transfer { call, state, sip, text });
    }

    fn transferred(&mut self, cx: &mut Context, remote: &str) {
        self.remote = Some(Remote { who: remote.to_owned(), name: None });
        self.tell(cx, |call| ServerMessage::Transferred { call, remote: remote.to_owned() });
    }

    fn tick(&mut self, cx: &mut Context) -> Happened {
        self.presence.tick(cx)
    }

    fn deadline(&self) -> Option<Instant> {
        self.presence.deadline()
    }

    fn media(&self) -> Option<LegMedia> {
        self.media.clone().map(LegMedia::Browser)
    }

    fn end(&mut self, cx: &mut Context, cause: &Cause, mine: bool) {
        // One that waits for the lease has heard nothing of the call yet.
        if !matches!(self.part, Part::Called(_)) {
            cx.tell(self.socket, ended(&self.name, cause, mine));
        }
    }
}
