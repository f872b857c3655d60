//! The tokio shell: it binds everything, starts the driver of the [`Switch`](crate::switch::Switch), the media workers,
//! HTTP with its WebSockets and the SIP transports, and takes them down again in order.
//!
//! Every task is owned: tasks run in one [`TaskTracker`], are told to stop by one token and are waited for. Every queue
//! has a bound, stated where it is made.

mod api;
mod canary;
mod cdr;
pub mod control;
mod dashboard;
mod dns;
pub mod doctor;
mod driver;
mod error;
mod events;
mod files;
mod hooks;
mod http;
mod journal;
mod lately;
mod left;
mod life;
mod listeners;
mod metrics;
mod notify;
mod otlp;
mod pool;
mod post;
mod proxies;
mod reload;
mod sip;
mod sip_stream;
mod sip_udp;
mod start;
mod store;
#[cfg(test)]
mod tests;
mod this_machine;
mod trace;
mod whip;
mod ws;
mod ws_sip;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::switch::{Input, SocketId};

pub use api::openapi::document as openapi;
pub use error::GatewayError;
pub use reload::{Outcome, Source};
pub use start::{Gateway, Ready};

/// What browsers may have waiting for the driver; past it their sockets are not read.
const EVENT_QUEUE: usize = 1024;
/// SIP that may wait for the driver, in a queue of its own so that no browser can hold it up; past it UDP is dropped (SIP
/// retransmits) and streams wait.
const SIP_QUEUE: usize = 4096;
/// Scrapes that may wait for the driver, in a queue of their own: a flood that fills the others is to be seen.
const SCRAPE_QUEUE: usize = 8;

/// What the transports tell the driver.
enum Event {
    /// An input of the switch as it is.
    Switch(Input),
    /// A WebSocket opened, or a session of WHIP, which is not called (`rings`); `outbox` takes what is to be sent on it.
    SocketOpened { socket: SocketId, peer: std::net::SocketAddr, rings: bool, outbox: mpsc::Sender<ws::Frame> },
    /// Somebody on this machine asks how everything stands.
    Status { answer: oneshot::Sender<crate::switch::Status> },
    /// The operator asks who is here.
    Users { answer: oneshot::Sender<Vec<crate::switch::UserView>> },
    /// Somebody collects numbers.
    Metrics { answer: oneshot::Sender<metrics::Snapshot> },
    /// Somebody controls calls from outside.
    Command { command: crate::switch::Command, answer: oneshot::Sender<crate::switch::Reply> },
    /// Somebody on this machine asks what was said.
    Trace { question: trace::Question, answer: oneshot::Sender<trace::Answer> },
    /// The operator asks about calls that were lately.
    Lately { question: lately::Question, answer: oneshot::Sender<lately::Answer> },
    /// Work by this configuration from now on; the answer says what became of it.
    Reload(reload::Offer),
    /// Take no new calls, and end with the last one; without a grace time as configured.
    Drain { grace: Option<std::time::Duration> },
    /// A peer has opened a SIP connection. It is served if the answer is yes.
    SipAccepted { connection: sip_stream::Connection, reply: oneshot::Sender<bool> },
    /// The peer of an accepted connection is reached at this address, and by this connection (RFC 5923).
    SipAlias { flow: crate::sip::Flow, peer: std::net::SocketAddr },
    /// The SIP connection of `flow` ended, or could not be opened; the switch is told so by `input`.
    SipClosed { flow: crate::sip::Flow, input: Input },
}

/// What every task of the shell holds: where to tell, when to stop, who waits for it.
#[derive(Clone)]
struct Tasks {
    events: mpsc::Sender<Event>,
    sip: mpsc::Sender<Event>,
    scrapes: mpsc::Sender<Event>,
    /// SIP datagrams that found the driver's queue full.
    sip_lost: Arc<AtomicU64>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    fn new() -> (Tasks, Queues) {
        let (events, browsers) = mpsc::channel(EVENT_QUEUE);
        let (sip, trunks) = mpsc::channel(SIP_QUEUE);
        let (scrapes, watchers) = mpsc::channel(SCRAPE_QUEUE);
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let tasks = Tasks { events, sip, scrapes, sip_lost: Arc::default(), stop, tracker };
        (tasks, Queues { browsers, trunks, watchers })
    }
}

/// Something came in the way of taking a connection, most likely want of descriptors: the others get a moment to end.
async fn accept_failed(what: &str, error: &std::io::Error) {
    tracing::warn!(%error, "{what} accept");
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
}

/// What the operator asks for by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Stop: at the first ask calls get their grace time to end by themselves, at the second they are hung up.
    Stop,
    /// Read the configuration anew.
    Reload,
}

/// The driver's ends of the queues.
struct Queues {
    browsers: mpsc::Receiver<Event>,
    trunks: mpsc::Receiver<Event>,
    watchers: mpsc::Receiver<Event>,
}
