//! What a user agent is told and what it tells.

use std::net::SocketAddr;

use super::out_of_dialog::{RequestId, ServerRequestId};
use super::refer_to::ReferTo;
use super::replaces::Replaces;
use crate::sip::transaction::{ClientFailure, Timers};
use crate::sip::{Credentials, Dialog, Flow, Headers, Host, Method, NameAddr, Request, Response, Transport, Uri};

/// How a user agent is set up.
#[derive(Clone, Debug)]
pub struct UaConfig {
    /// The product name in User-Agent and Server; empty: neither is sent.
    pub user_agent: String,
    /// T1, T2 and T4.
    pub timers: Timers,
    /// How many sessions may exist; beyond it INVITEs are refused with 503.
    pub max_sessions: usize,
    /// How many transactions may exist; beyond it requests are refused with 503 and no call is begun.
    pub max_transactions: usize,
    /// Our user answers REGISTER ([`UaEvent::Request`]); otherwise 405 does.
    pub registrar: bool,
    /// What Via and Contact say for each of our addresses. An address not listed is written as it is.
    pub advertise: Vec<Advertised>,
}

/// The name by which peers reach one of our addresses.
#[derive(Clone, Debug)]
pub struct Advertised {
    /// The transport of the listener.
    pub transport: Transport,
    /// The address the listener is bound to.
    pub local: SocketAddr,
    /// The host to write.
    pub host: Host,
    /// The port to write.
    pub port: u16,
}

/// One call leg of a user agent, from its first INVITE to [`UaEvent::Closed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A peer's REFER in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReferId(pub u32);

/// What a session's dialog is, for those who must name it or speak of its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialogInfo {
    /// Its Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// The peer's tag.
    pub remote_tag: String,
    /// The peer's Contact: who a REFER sends somebody to.
    pub remote_target: Uri,
    /// Who we are in it.
    pub local_uri: Uri,
    /// Who the peer is in it.
    pub remote_uri: Uri,
    /// What the peer's last Allow says; empty where he said nothing.
    pub peer_allows: Vec<Method>,
}

impl DialogInfo {
    pub(super) fn of(dialog: &Dialog) -> DialogInfo {
        DialogInfo {
            call_id: dialog.call_id().to_owned(),
            local_tag: dialog.local_tag().to_owned(),
            remote_tag: dialog.remote_tag().to_owned(),
            remote_target: dialog.remote_target().clone(),
            local_uri: dialog.local().uri.clone(),
            remote_uri: dialog.remote().uri.clone(),
            peer_allows: dialog.peer_allows().to_vec(),
        }
    }
}

/// A message body; opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The value of Content-Type.
    pub content_type: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A call to be made.
#[derive(Clone, Debug)]
pub struct Invite {
    /// Over which way.
    pub flow: Flow,
    /// The Request-URI.
    pub request_uri: Uri,
    /// From; a tag is added.
    pub from: NameAddr,
    /// To, without a tag.
    pub to: NameAddr,
    /// The user part of our Contact.
    pub contact_user: Option<String>,
    /// Further header fields. CR, LF and NUL are refused, as are those that the user agent writes itself.
    pub headers: Vec<(String, String)>,
    /// The offer.
    pub body: Option<Body>,
    /// With what 401 and 407 are answered.
    pub credentials: Option<Credentials>,
    /// Extensions that the peer may or must take part in.
    pub options: SessionOptions,
}

/// Whether provisional responses are sent reliably ([RFC 3262](https://www.rfc-editor.org/rfc/rfc3262)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reliable {
    /// Never: `100rel` is not declared.
    Off,
    /// Where the peer can do it too.
    #[default]
    Supported,
    /// Always: a peer that cannot is refused with 421, and our INVITE says `Require: 100rel`.
    Required,
}

/// Who is to refresh a session ([RFC 4028](https://www.rfc-editor.org/rfc/rfc4028)), seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// This user agent.
    Us,
    /// The peer.
    Them,
}

/// The session timer that we ask for ([RFC 4028](https://www.rfc-editor.org/rfc/rfc4028)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimer {
    /// Session-Expires: the interval in seconds that we wish for.
    pub expires: u32,
    /// Min-SE: the shortest interval in seconds that we take. The standard asks for 90 or more.
    pub min_se: u32,
    /// Who shall refresh; `None` leaves it to the answering side.
    pub refresher: Option<Refresher>,
}

/// The extensions of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// Reliable provisional responses.
    pub reliable: Reliable,
    /// Our session timer; `None`: we ask for none, and only take part where the peer refreshes.
    pub timer: Option<SessionTimer>,
    /// The dialog that our INVITE replaces.
    pub replaces: Option<Replaces>,
    /// The value of our Referred-By ([RFC 3892](https://www.rfc-editor.org/rfc/rfc3892)).
    pub referred_by: Option<String>,
}

/// Why an INVITE of ours did not become a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The peer refused.
    Rejected,
    /// Nothing came back in time (reported as 408).
    Timeout,
    /// The transport failed (reported as 503).
    Transport,
    /// We hung up before an answer (reported as 487, whatever the race gave).
    Cancelled,
    /// The peer wants credentials that we lack or does not accept ours.
    Auth,
}

/// Who or what ended an established call, other than our own hangup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The peer's BYE, or its word that it knows no such dialog.
    Remote,
    /// Our 2xx was never acknowledged.
    NoAck,
    /// A request inside the dialog was never answered.
    Timeout,
    /// The transport failed under a request inside the dialog.
    Transport,
    /// Nobody refreshed the session in time ([RFC 4028](https://www.rfc-editor.org/rfc/rfc4028) section 10).
    SessionTimer,
}

/// Something to send, or something to know.
// Made and taken apart at once: boxing would cost more than moving.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum UaOutput {
    /// Send these bytes.
    Transmit {
        /// Over which way.
        flow: Flow,
        /// One whole message.
        bytes: Vec<u8>,
    },
    /// Something has happened.
    Event(UaEvent),
}

/// What happened to a session (or, of `Answer` and `Request`, outside of any). Each session has at most one of Failed, Cancelled and Ended, and last of all Closed;
/// one that ends by our own hangup (after the answer) or reject has only Closed.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum UaEvent {
    /// A new INVITE; 100 has been sent.
    Incoming {
        /// Its new session.
        session: SessionId,
        /// The INVITE.
        request: Request,
        /// The way it came.
        flow: Flow,
        /// The session of ours that it shall replace (RFC 3891). All that section 3 refuses has been refused; whether
        /// this peer may replace that session is our user's to judge, and to end the one once the other is accepted.
        replaces: Option<SessionId>,
    },
    /// The first 100 to our INVITE: somebody is there, and nothing more is known.
    Trying {
        /// Which.
        session: SessionId,
    },
    /// A 101-199 to our INVITE. Each To-tag is an early dialog of its own.
    Provisional {
        /// Which.
        session: SessionId,
        /// 101-199.
        status: u16,
        /// The reason phrase.
        reason: String,
        /// Which early dialog; empty where the peer gave no tag.
        to_tag: String,
        /// Its body.
        body: Option<Body>,
        /// It came reliably, and its PRACK has been sent: an answer in it is final for this early dialog.
        reliable: bool,
    },
    /// The PRACK for a reliable 18x of ours that carried our offer has come with the answer.
    Pracked {
        /// Which.
        session: SessionId,
        /// The answer.
        body: Option<Body>,
    },
    /// Our INVITE got a 2xx; the ACK has been sent. 2xx of other forks are acknowledged and ended inside.
    Answered {
        /// Which.
        session: SessionId,
        /// Which of the early dialogs.
        to_tag: String,
        /// The answer; `None` where a reliable response has brought it before (what the 2xx repeats is left out).
        body: Option<Body>,
    },
    /// Our INVITE did not become a call.
    Failed {
        /// Which.
        session: SessionId,
        /// The final status, or the one that stands for what happened.
        status: u16,
        /// The reason phrase.
        reason: String,
        /// What happened.
        why: Failure,
        /// The header fields of the final response; empty when there was none.
        headers: Headers,
    },
    /// The ACK to our 2xx arrived: once for the call, and once for each re-INVITE that came without an offer.
    Acked {
        /// Which.
        session: SessionId,
        /// The answer, where our 2xx carried the offer.
        body: Option<Body>,
    },
    /// The caller gave up before our answer; 487 has been sent.
    Cancelled {
        /// Which.
        session: SessionId,
        /// The Reason header of the CANCEL or BYE.
        reason: Option<String>,
    },
    /// The peer's re-INVITE or UPDATE: reply with `answer_reoffer`.
    Reoffered {
        /// Which.
        session: SessionId,
        /// His offer; `None`: he wants ours in the 2xx.
        body: Option<Body>,
    },
    /// The end of our `reoffer`. After an error the session is as it was.
    ReofferAnswered {
        /// Which.
        session: SessionId,
        /// The answer, or the status of the refusal.
        result: Result<Option<Body>, u16>,
    },
    /// A re-INVITE of the session timer's, with the last description of ours, has been answered. It is a change only
    /// where the answer differs from the last one.
    Refreshed {
        /// Which.
        session: SessionId,
        /// The answer.
        body: Option<Body>,
    },
    /// An INFO; 200 has been sent.
    Info {
        /// Which.
        session: SessionId,
        /// Its body.
        body: Option<Body>,
    },
    /// The established call ended by other than our hangup.
    Ended {
        /// Which.
        session: SessionId,
        /// Who or what.
        by: EndedBy,
        /// The Reason header of the BYE.
        reason: Option<String>,
    },
    /// The first answer to our `refer`: the peer will try (`Ok`: 2xx), or the status of the refusal.
    ReferAnswered {
        /// Which.
        session: SessionId,
        /// 408: nothing came; 503: the transport failed.
        result: Result<(), u16>,
    },
    /// How far the peer is with what our `refer` asked for. May come before [`UaEvent::ReferAnswered`].
    ReferProgress {
        /// Which.
        session: SessionId,
        /// The status of the peer's own INVITE as he reports it. With `last` and below 200: he tells no more, and how it
        /// ended is unknown; 408 with an empty reason: he never told. 603 and 480 also stand for a subscription that he
        /// has refused (`rejected`) or given up (`probation`, `deactivated`, `giveup`) before there was a result.
        status: u16,
        /// Its reason phrase.
        reason: String,
        /// No more will come.
        last: bool,
    },
    /// The peer's REFER: reply with `answer_refer`, then tell the progress with `notify_refer`.
    Referred {
        /// Which.
        session: SessionId,
        /// Which of its REFERs.
        refer: ReferId,
        /// Whom we shall call.
        to: ReferTo,
        /// Who says so (RFC 3892), as written: a URI, perhaps with a display name and parameters.
        referred_by: Option<String>,
    },
    /// The end of our `request`.
    Answer {
        /// Which.
        request: RequestId,
        /// The sequence number last used: more than was asked for after a challenge.
        cseq: u32,
        /// The final response, or why there is none.
        result: Result<Response, ClientFailure>,
    },
    /// A peer's request outside of dialogs that is our user's to answer, with `respond`: REGISTER.
    Request {
        /// Which.
        id: ServerRequestId,
        /// The request.
        request: Request,
        /// The way it came.
        flow: Flow,
    },
    /// Nothing of the session is left.
    Closed {
        /// Which.
        session: SessionId,
    },
}

/// A request of the user that cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UaError {
    /// No such session, or it has ended.
    #[error("no such session")]
    NoSession,
    /// The session is not in a state for this.
    #[error("not possible in the session's state")]
    State,
    /// An offer is under way already.
    #[error("an offer is pending")]
    Pending,
    /// The method is not for this kind of request.
    #[error("a method that makes or needs a dialog")]
    Method,
    /// A limit of the configuration is reached, or the user agent drains.
    #[error("too many sessions or transactions")]
    Full,
    /// The status does not suit the call.
    #[error("status {0} is not possible here")]
    Status(u16),
    /// The header field has control characters, a bad name, or is not the user's to write.
    #[error("header field {name:?} is not allowed")]
    Header {
        /// Its name.
        name: String,
    },
    /// What the user wants and what the peer's INVITE says exclude each other: it has been refused with this status.
    #[error("the INVITE has been refused with {0}")]
    Refused(u16),
}
