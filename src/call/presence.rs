//! Whether a browser is there: its socket and its media may be lost, and come back.

use std::time::{Duration, Instant};

use super::leg::Happened;
use super::{Cause, Context};
use crate::sdp::MediaLoss;

/// A browser whose media is lost may take so long to bring a new connection, if its socket stands or once it is back: in that
/// time a socket that is lost too is noticed.
const MEDIA_GONE: Duration = Duration::from_secs(15);
/// A page that has closed its connection has hung up, unless its socket closes too or it opens another.
const CLOSED: Duration = Duration::from_secs(2);

/// A browser may bring so many new connections at once, and one more after each of these times: each costs a handshake.
const RESTARTS: u32 = 10;
const RESTART_EVERY: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// It has no socket.
    away: bool,
    /// Its media was up since the last new connection.
    connected: bool,
    lost: Option<Lost>,
    /// When the last of the new connections is paid for.
    paid: Option<Instant>,
}

/// The media of a browser that may come back.
#[derive(Debug)]
struct Lost {
    cause: Cause,
    /// Until when it is waited for; while the browser is away its session's time counts.
    until: Option<Instant>,
}

impl Presence {
    /// The socket is lost.
    pub(super) fn away(&mut self) {
        self.away = true;
        if let Some(lost) = &mut self.lost {
            lost.until = None;
        }
    }

    /// The browser has a socket again.
    pub(super) fn back(&mut self, cx: &Context) {
        self.away = false;
        if let Some(lost) = &mut self.lost {
            lost.until = Some(cx.now.instant + MEDIA_GONE);
        }
    }

    /// It wants to restart; `false`: it has done so too often.
    pub(super) fn may_restart(&mut self, now: Instant) -> bool {
        let paid = self.paid.map_or(now, |paid| paid.max(now)) + RESTART_EVERY;
        let may = paid.saturating_duration_since(now) <= RESTART_EVERY * RESTARTS;
        if may {
            self.paid = Some(paid);
        }
        may
    }

    /// A wholly new connection is made.
    pub(super) fn begins(&mut self) {
        self.connected = false;
    }

    /// The browser has offered again, and was answered.
    pub(super) fn restarted(&mut self) {
        self.lost = None;
    }

    /// The media is up.
    pub(super) fn connected(&mut self) {
        self.connected = true;
        self.lost = None;
    }

    /// The media is lost, which would end the call for this cause: at once, or when the browser does not bring it back. One
    /// that never was up is not waited for, nor a browser that shows another certificate than it announced.
    pub(super) fn lose(&mut self, cx: &Context, loss: MediaLoss, cause: Cause) -> Happened {
        let patience = match loss {
            MediaLoss::FingerprintMismatch => Duration::ZERO,
            MediaLoss::BrowserClosed => CLOSED,
            _ if self.connected || self.away => MEDIA_GONE,
            _ => Duration::ZERO,
        };
        let patience = patience.min(cx.settings.resume_within);
        if patience.is_zero() {
            return Happened::Over(cause);
        }
        let until = (!self.away).then(|| cx.now.instant + patience);
        self.lost = Some(Lost { cause, until });
        Happened::Nothing
    }

    /// Whether it was waited for in vain.
    pub(super) fn tick(&mut self, cx: &Context) -> Happened {
        let due = |lost: &mut Lost| lost.until.is_some_and(|until| until <= cx.now.instant);
        self.lost.take_if(due).map_or(Happened::Nothing, |lost| Happened::Over(lost.cause))
    }

    /// When [`Presence::tick`] is wanted.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.lost.as_ref()?.until
    }
}
