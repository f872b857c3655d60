//! What goes into a switch and what comes out of it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Command, Reload, Reply};
use crate::call::{CallId, Cdr, Lease, LeaseRefusal, Notice, SocketId};
use crate::sdp::{MediaCommand, MediaReport, RtpSlot};
use crate::sip::{Flow, LeftDialog, Located, ResolveError, SessionId, TrunkDns};

/// A dialog with the trunk that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The trunk's name, whose credentials answer a challenge; none where it is a phone's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<String>,
    /// The dialog.
    #[serde(flatten)]
    pub dialog: LeftDialog,
}

/// What happens to the switch.
#[derive(Clone, Debug)]
pub enum Input {
    /// A browser's WebSocket is open.
    SocketOpened {
        /// Its number; numbers are never reused.
        socket: SocketId,
        /// The browser's address, for logs.
        peer: SocketAddr,
        /// Whether its session can be called: one that WHIP opened for a single call of its own cannot.
        rings: bool,
    },
    /// A text frame came.
    SocketText {
        /// From which socket.
        socket: SocketId,
        /// The frame.
        text: String,
    },
    /// A socket is closed. The calls of its session end, or stand until it is taken up again on another
    /// ([`SwitchLimits::resume_within`](super::SwitchLimits::resume_within)).
    SocketClosed {
        /// Which.
        socket: SocketId,
        /// Whether its browser closed it as one that is done (1000, RFC 6455 section 7.4.1): nothing is waited for.
        clean: bool,
    },
    /// One whole SIP message came: a datagram, or one framed from a stream.
    Sip {
        /// The way it came.
        flow: Flow,
        /// The message.
        bytes: Vec<u8>,
    },
    /// The peer has closed a connection in good order.
    SipClosed {
        /// Which.
        flow: Flow,
    },
    /// A flow is broken, or cannot be opened.
    SipFailed {
        /// Which.
        flow: Flow,
    },
    /// The answer to [`Output::Lease`]: the media resources are there.
    Leased {
        /// For which call.
        call: CallId,
        /// Which of its pairs of RTP ports.
        slot: RtpSlot,
        /// What is lent.
        lease: Lease,
    },
    /// The answer to [`Output::Lease`]: there are none.
    LeaseFailed {
        /// For which call.
        call: CallId,
        /// Which of its pairs of RTP ports.
        slot: RtpSlot,
        /// Why.
        reason: LeaseRefusal,
    },
    /// The answer to [`Output::Ask`].
    Answered {
        /// For which call.
        call: CallId,
        /// What the web hook said; `None`: nothing.
        answer: Option<String>,
    },
    /// A report of a call's media path.
    Media {
        /// Of which call.
        call: CallId,
        /// What.
        report: MediaReport,
    },
    /// The answer to [`Output::Resolve`].
    Resolved {
        /// For which trunk.
        trunk: String,
        /// Its servers, or why there are none. A last good answer stays of use when the DNS is down.
        result: Result<Located, ResolveError>,
        /// How long this holds: ask again then. Never less than five seconds nor more than an hour.
        ttl: Duration,
    },
    /// The shell is ready, and said so once: look-ups, probes and registrations of trunks begin.
    Start,
    /// Work by this configuration from now on. What stands goes on as it was begun.
    Reload(Box<Reload>),
    /// A dialog that a gateway before this one has left behind: it is ended, and [`Output::LeftEnded`] says when that is
    /// done.
    LeftBehind {
        /// Its number, of the shell's own choice.
        number: usize,
        /// What was noted of it.
        left: Box<Left>,
    },
    /// Call control from outside; answered at once by [`Output::Reply`].
    Command {
        /// Its number, of the shell's own choice.
        number: u64,
        /// What is asked for.
        command: Command,
    },
    /// All media threads have as much to do as they can, or not any more: until then take no new calls but to emergency
    /// numbers.
    Busy(bool),
    /// Take no new calls; [`Output::Idle`] says when the last one has ended.
    Drain,
    /// End every call.
    HangupAll,
}

/// What the switch wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a text frame.
    Socket {
        /// To which socket.
        socket: SocketId,
        /// The frame.
        text: String,
        /// The call that it is about.
        call: Option<CallId>,
    },
    /// A SIP dialog, or what may become one, is of this call from now on.
    Owned {
        /// The call.
        call: CallId,
        /// The Call-ID of the dialog (RFC 3261 section 8.1.1.4).
        dialog: String,
    },
    /// Close a socket; the switch has forgotten it already.
    CloseSocket {
        /// Which.
        socket: SocketId,
        /// The WebSocket close code (RFC 6455 section 7.4).
        code: u16,
        /// The reason, at most 123 bytes.
        reason: String,
    },
    /// Send one SIP message.
    Sip {
        /// Which way.
        flow: Flow,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Lend media resources; answered by [`Input::Leased`] or [`Input::LeaseFailed`]. All of a call's come from one worker.
    Lease {
        /// For which call.
        call: CallId,
        /// Which of its pairs of RTP ports.
        slot: RtpSlot,
        /// Who may be told of these ports, by the addresses of their signalling: what each is told depends on the network it
        /// is in. None: no ports are needed.
        peers: Vec<SocketAddr>,
        /// Whether a browser is to be told candidates.
        browser: bool,
    },
    /// Ask a web hook: POST this text to the URL; answered by [`Input::Answered`]. A call asks once, and waits no longer than
    /// it says here.
    Ask {
        /// For which call.
        call: CallId,
        /// Whom.
        url: String,
        /// The question, JSON.
        body: String,
        /// How long an answer is waited for.
        within: Duration,
    },
    /// For a call's media path.
    Media {
        /// Of which call.
        call: CallId,
        /// What.
        command: MediaCommand,
    },
    /// Take one pair of RTP ports back; no plan of the call has it any more.
    ReleaseSlot {
        /// Of which call.
        call: CallId,
        /// Which.
        slot: RtpSlot,
    },
    /// Take all media resources of a call back: once for a call that was lent any.
    Release {
        /// Of which call.
        call: CallId,
    },
    /// Find the servers of a trunk; answered by [`Input::Resolved`]. Asking again takes the place of what was asked before.
    Resolve {
        /// For which trunk.
        trunk: String,
        /// Its name.
        name: TrunkDns,
    },
    /// Hold the NAT's binding of this flow open by keep-alives (RFC 5626 section 4.4), or do so no longer. The flow is that
    /// of a registration over UDP; connections that we open are kept alive without being asked for.
    KeepAlive {
        /// Which way.
        flow: Flow,
        /// From now on, or no longer.
        on: bool,
    },
    /// A dialog stands, or is otherwise than before; or (`None`) it is over.
    Dialog {
        /// Whose.
        session: SessionId,
        /// What the next start would need to end it.
        left: Option<Box<Left>>,
    },
    /// An [`Input::LeftBehind`] is done with.
    LeftEnded {
        /// Which.
        number: usize,
        /// Its peer has answered, or what was noted is no dialog; otherwise it was not reached, and may be asked again.
        over: bool,
    },
    /// The answer to an [`Input::Command`].
    Reply {
        /// The command's number.
        number: u64,
        /// What it came to.
        reply: Box<Reply>,
    },
    /// Something for those who watch: in the order in which it happened.
    Event(Box<Notice>),
    /// The record of a call that is over, once for every call.
    Cdr(Box<Cdr>),
    /// The record of a call that stands, each time there is more in it: for a journal, so that a gateway that is lost does not
    /// take it along. [`Output::Cdr`] is the end of that.
    Standing(Box<Cdr>),
    /// Draining, and nothing is left: once.
    Idle,
}
