//! Timers A to M of RFC 3261 (table 4) and RFC 6026, and how their values follow from T1, T2 and T4.

use std::time::{Duration, Instant};

/// The three base values, [RFC 3261 section 17.1.1.1](https://www.rfc-editor.org/rfc/rfc3261#section-17.1.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Estimate of the round trip: 500 ms.
    pub t1: Duration,
    /// Longest interval between retransmissions of non-INVITE requests and INVITE responses: 4 s.
    pub t2: Duration,
    /// How long a message stays in the network: 5 s.
    pub t4: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Timers { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

/// The transaction timers by their names in the RFCs. Timer C belongs to proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// INVITE request retransmission.
    A,
    /// INVITE transaction timeout.
    B,
    /// Wait for repeated responses to an INVITE.
    D,
    /// Non-INVITE request retransmission.
    E,
    /// Non-INVITE transaction timeout.
    F,
    /// INVITE final response retransmission.
    G,
    /// Wait for the ACK.
    H,
    /// Wait for repeated ACKs.
    I,
    /// Wait for repeated non-INVITE requests.
    J,
    /// Wait for repeated non-INVITE responses.
    K,
    /// Wait for repeated INVITEs after a 2xx (RFC 6026).
    L,
    /// Wait for repeated and further 2xx (RFC 6026).
    M,
}

impl Timers {
    /// 64*T1: how long a transaction tries.
    pub fn give_up(&self) -> Duration {
        self.t1.saturating_mul(64)
    }

    /// The first value of a timer. `None`: the timer is not used on this kind of transport; zero: its state is passed through.
    pub fn value(&self, timer: Timer, reliable: bool) -> Option<Duration> {
        match timer {
            Timer::A | Timer::E | Timer::G => (!reliable).then_some(self.t1),
            Timer::B | Timer::F | Timer::H | Timer::L | Timer::M => Some(self.give_up()),
            // RFC 3261 asks for at least 32 s of D, which is 64*T1 with the T1 it names.
            Timer::D | Timer::J => Some(if reliable { Duration::ZERO } else { self.give_up() }),
            Timer::I | Timer::K => Some(if reliable { Duration::ZERO } else { self.t4 }),
        }
    }
}

/// What a machine needs to know of its surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The base values.
    pub timers: Timers,
    /// True for TCP, TLS and WebSocket.
    pub reliable: bool,
}

impl Context {
    /// When a timer started now fires first.
    pub(super) fn deadline(&self, now: Instant, timer: Timer) -> Option<Instant> {
        self.timers.value(timer, self.reliable).map(|value| now + value)
    }

    /// When a timer started now fires, for the timers that every transport has.
    pub(super) fn deadline_or_now(&self, now: Instant, timer: Timer) -> Instant {
        self.deadline(now, timer).unwrap_or(now)
    }

    /// Starts a retransmission timer (A, E, G), where the transport needs one.
    pub(super) fn backoff(&self, now: Instant, timer: Timer) -> Option<Backoff> {
        self.timers.value(timer, self.reliable).map(|interval| Backoff::start(now, interval))
    }
}

/// A retransmission timer: it doubles each time it fires.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    at: Instant,
    interval: Duration,
}

impl Backoff {
    /// Fires first after `interval`.
    pub fn start(now: Instant, interval: Duration) -> Self {
        Backoff { at: now + interval, interval }
    }

    /// When it fires next.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// True once its time has come.
    pub fn is_due(&self, now: Instant) -> bool {
        self.at <= now
    }

    /// Sets it for the next time: doubled, up to `cap`.
    pub fn restart(&mut self, now: Instant, cap: Option<Duration>) {
        let doubled = self.interval.saturating_mul(2);
        self.interval = cap.map_or(doubled, |cap| doubled.min(cap));
        self.at = now + self.interval;
    }
}

/// The earlier of two deadlines, either of which may be off.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
