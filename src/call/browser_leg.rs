//! The browser's leg: browser protocol v1 on one side, the state machine's words on the other.

use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt as _;

use super::leg::{Happened, Leg, Progress, Role};
use super::{CallId, Cause, Context, Lease, Origin, SocketId, Special};
use crate::sdp::{BrowserLocal, BrowserMedia, BrowserOffer, IceCredentials, browser};
use crate::signal::{ErrorCode, Holder, Party, ServerMessage};

/// What a browser says about one of its calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrowserEvent {
    /// Takes the call.
    Accept {
        /// Its answer to our offer.
        sdp: String,
        /// The limit of its token.
        longest: Option<Duration>,
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
    /// Ends the call.
    Hangup,
    /// The socket is gone.
    Gone,
}

/// A browser that is rung, with the description it was offered.
#[derive(Debug)]
struct Rung {
    socket: SocketId,
    user: String,
    local: BrowserLocal,
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
}

/// The browser's leg of a call.
#[derive(Debug)]
pub struct BrowserLeg {
    role: Role,
    call: CallId,
    /// The name by which the browser knows the call.
    name: String,
    /// The browser's offer, until the lease comes (the browser calls).
    offer: Option<BrowserOffer>,
    /// Browsers to ring, until the lease comes (the browser is called).
    to_ring: Vec<(SocketId, String)>,
    announcement: Option<Announcement>,
    rung: Vec<Rung>,
    /// The browser that has the call.
    chosen: Option<SocketId>,
    /// The worst refusal so far of those rung.
    refusal: Option<u16>,
    told: Progress,
    media: Option<BrowserMedia>,
    /// The user whose browser answered.
    answered_by: Option<String>,
    /// The longest call that the browser which answered may have.
    longest: Option<Duration>,
}

impl BrowserLeg {
    /// The leg of a browser that calls.
    pub(super) fn caller(call: CallId, name: &str, socket: SocketId, offer: BrowserOffer) -> BrowserLeg {
        BrowserLeg { chosen: Some(socket), offer: Some(offer), ..BrowserLeg::new(Role::Caller, call, name) }
    }

    /// The leg of browsers that are called; [`BrowserLeg::ring`] says which.
    pub(super) fn callee(call: CallId) -> BrowserLeg {
        BrowserLeg::new(Role::Callee, call, &call.to_string())
    }

    fn new(role: Role, call: CallId, name: &str) -> BrowserLeg {
        BrowserLeg {
            role,
            call,
            name: name.to_owned(),
            offer: None,
            to_ring: Vec::new(),
            announcement: None,
            rung: Vec::new(),
            chosen: None,
            refusal: None,
            told: Progress::default(),
            media: None,
            answered_by: None,
            longest: None,
        }
    }

    /// Which browsers to ring, and what to tell them.
    pub(super) fn ring(&mut self, browsers: Vec<(SocketId, String)>, announcement: Announcement) {
        self.to_ring = browsers;
        self.announcement = Some(announcement);
    }

    /// The browser's media, once negotiated.
    pub(super) fn media(&self) -> Option<&BrowserMedia> {
        self.media.as_ref()
    }

    /// The user whose browser took the call.
    pub(super) fn answered_by(&self) -> Option<&str> {
        self.answered_by.as_deref()
    }

    /// The longest call that the browser which took it may have.
    pub(super) fn longest(&self) -> Option<Duration> {
        self.longest
    }

    /// Takes what a browser says; `established` says whether the call is answered.
    pub(super) fn handle(
        &mut self,
        cx: &mut Context,
        socket: SocketId,
        event: BrowserEvent,
        established: bool,
    ) -> Happened {
        match event {
            BrowserEvent::Candidate => Happened::Nothing,
            BrowserEvent::Accept { sdp, longest } => self.accepted(cx, socket, &sdp, longest),
            BrowserEvent::Reject { code } if self.is_rung(socket) => self.refused(cx, socket, code),
            // Hanging up a call that rings is declining it.
            BrowserEvent::Hangup if self.is_rung(socket) => self.refused(cx, socket, 603),
            BrowserEvent::Gone if self.is_rung(socket) => self.gone(socket),
            BrowserEvent::Gone if self.to_ring.iter().any(|(other, _)| *other == socket) => {
                self.to_ring.retain(|(other, _)| *other != socket);
                Happened::Nothing
            }
            BrowserEvent::Hangup => {
                let special = if established { Special::Normal } else { Special::Cancelled };
                Happened::Over(Cause::special(Origin::Browser, special))
            }
            BrowserEvent::Gone => Happened::Over(Cause::special(Origin::Network, Special::BrowserGone)),
            BrowserEvent::Hold { on } if established => Happened::Held(self.role.side(), on),
            BrowserEvent::Reject { .. } | BrowserEvent::Hold { .. } | BrowserEvent::Digits { .. } => {
                self.refuse(cx, socket, ErrorCode::WrongState, "the call is in no state for this");
                Happened::Nothing
            }
        }
    }

    fn is_rung(&self, socket: SocketId) -> bool {
        self.rung.iter().any(|rung| rung.socket == socket)
    }

    /// Answers one message with one error.
    pub(super) fn refuse(&self, cx: &mut Context, socket: SocketId, code: ErrorCode, text: &str) {
        cx.tell(socket, ServerMessage::Error { code, text: text.to_owned(), call: Some(self.name.clone()) });
    }

    /// An error to the browser that has the call, such as a hold the trunk refused.
    pub(super) fn report(&self, cx: &mut Context, code: ErrorCode, text: &str) {
        if let Some(socket) = self.chosen {
            self.refuse(cx, socket, code, text);
        }
    }

    /// Confirms the browser's own hold.
    pub(super) fn confirm_hold(&self, cx: &mut Context, on: bool) {
        self.tell(cx, |call| ServerMessage::Held { call, by: Holder::Us, on });
    }

    fn accepted(&mut self, cx: &mut Context, socket: SocketId, sdp: &str, longest: Option<Duration>) -> Happened {
        let Some(rung) = self.rung.iter().find(|rung| rung.socket == socket) else {
            self.refuse(cx, socket, ErrorCode::WrongState, "this call does not ring here");
            return Happened::Nothing;
        };
        match browser::read_answer(&rung.local, &cx.settings.policy, sdp) {
            Ok(media) => {
                self.media = Some(media);
                self.longest = longest;
                self.answered_by = Some(rung.user.clone());
                self.chosen = Some(socket);
                self.rung.retain(|rung| rung.socket != socket);
                let elsewhere = Cause::special(Origin::Gateway, Special::AnsweredElsewhere);
                for other in std::mem::take(&mut self.rung) {
                    cx.tell(other.socket, ended(&self.name, &elsewhere));
                }
                Happened::Answered
            }
            Err(error) => {
                self.refuse(cx, socket, ErrorCode::BadSdp, &error.to_string());
                Happened::Nothing
            }
        }
    }

    fn refused(&mut self, cx: &mut Context, socket: SocketId, code: u16) -> Happened {
        self.refusal = self.refusal.max(Some(code));
        self.rung.retain(|rung| rung.socket != socket);
        let cause = refusal(code);
        if self.rung.is_empty() {
            // The last one to refuse hears it as the end of the call, in `end`.
            self.chosen = Some(socket);
            let cause = if self.refusal == Some(code) { cause } else { refusal(self.refusal.unwrap_or(code)) };
            return Happened::Over(cause);
        }
        cx.tell(socket, ended(&self.name, &cause));
        Happened::Nothing
    }

    fn gone(&mut self, socket: SocketId) -> Happened {
        self.rung.retain(|rung| rung.socket != socket);
        if !self.rung.is_empty() {
            return Happened::Nothing;
        }
        Happened::Over(match self.refusal {
            Some(code) => refusal(code),
            None => Cause::special(Origin::Network, Special::BrowserGone),
        })
    }

    fn tell(&self, cx: &mut Context, message: impl FnOnce(String) -> ServerMessage) {
        if let Some(socket) = self.chosen {
            cx.tell(socket, message(self.name.clone()));
        }
    }

    fn local(&self, cx: &mut Context, candidates: &[SocketAddr]) -> BrowserLocal {
        BrowserLocal {
            ice: IceCredentials { ufrag: random_text(cx, 8), pwd: random_text(cx, 24) },
            fingerprint: cx.settings.fingerprint.clone(),
            candidates: candidates.to_vec(),
            ssrc: cx.rng.random_range(1..=u32::MAX),
            cname: random_text(cx, 16),
            session_id: cx.rng.random_range(1..=i64::MAX as u64),
            version: 1,
        }
    }
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

/// The one message that ends a call.
pub(crate) fn ended(name: &str, cause: &Cause) -> ServerMessage {
    let by = match cause.origin {
        Origin::Browser => Party::Us,
        Origin::Trunk => Party::Them,
        Origin::Gateway => Party::Gateway,
        Origin::Network => Party::Network,
    };
    ServerMessage::Ended {
        call: name.to_owned(),
        by,
        cause: cause.word.to_owned(),
        sip: cause.sip,
        q850: Some(cause.q850),
        text: cause.reason.clone(),
    }
}

impl Leg for BrowserLeg {
    fn prepare(&mut self, cx: &mut Context, lease: &Lease) -> Result<(), Cause> {
        match self.role {
            Role::Caller => {
                let local = self.local(cx, &lease.candidates);
                let fault = || Cause::special(Origin::Gateway, Special::GatewayFault);
                let offer = self.offer.take().ok_or_else(fault)?;
                let (sdp, media) = offer.answer(&local, &cx.settings.policy).map_err(|error| {
                    Cause::from_status(Origin::Browser, error.status()).in_words(&error.to_string())
                })?;
                self.media = Some(media);
                let id = self.call.to_string();
                self.tell(cx, |call| ServerMessage::Answer { call, id, sdp });
            }
            Role::Callee => {
                for (socket, user) in std::mem::take(&mut self.to_ring) {
                    let local = self.local(cx, &lease.candidates);
                    self.rung.push(Rung { socket, user, local });
                }
            }
        }
        Ok(())
    }

    fn offer(&mut self, cx: &mut Context) -> Result<Progress, Cause> {
        let Some(Announcement { from, name, to }) = self.announcement.clone().filter(|_| !self.rung.is_empty()) else {
            return Err(Cause::from_status(Origin::Gateway, 480));
        };
        for rung in &self.rung {
            let message = ServerMessage::Incoming {
                call: self.name.clone(),
                id: self.call.to_string(),
                from: from.clone(),
                name: name.clone(),
                to: to.clone(),
                sdp: browser::offer(&rung.local, &cx.settings.policy),
            };
            cx.tell(rung.socket, message);
        }
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

    fn hold(&mut self, cx: &mut Context, on: bool) {
        self.tell(cx, |call| ServerMessage::Held { call, by: Holder::Them, on });
    }

    fn digit(&mut self, cx: &mut Context, digit: char, _ms: u16) {
        self.tell(cx, |call| ServerMessage::Digit { call, digit });
    }

    fn end(&mut self, cx: &mut Context, cause: &Cause) {
        for rung in std::mem::take(&mut self.rung) {
            cx.tell(rung.socket, ended(&self.name, cause));
        }
        if let Some(socket) = self.chosen.take() {
            cx.tell(socket, ended(&self.name, cause));
        }
        self.to_ring.clear();
    }
}
