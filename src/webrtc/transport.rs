//! One browser's transport: connectivity checks, handshake, protected media, as one state machine.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use super::dtls::{self, Association, DtlsFailure, DtlsOutput, Identity, Keys};
use super::ice::{CONSENT, IceLite};
use super::packet::{PacketKind, classify};
use super::stun::Response;
use crate::rtp::srtp::{SrtpContext, SrtpError};
use crate::sdp::{BrowserMedia, IceCredentials};

/// STUN responses that wait for [`Transport::poll_transmit`]; drained after every datagram, so one is the rule.
const MAX_REPLIES: usize = 8;

/// What a datagram turned out to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// A plain RTP packet: the first so many bytes of the buffer, authenticated and decrypted in place.
    Rtp(usize),
    /// A plain RTCP packet, likewise.
    Rtcp(usize),
    /// Nothing for the media: it was the transport's own business, or it was refused and counted.
    Nothing,
}

/// What became of the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportEvent {
    /// ICE and DTLS are up: media may flow. Comes again when the browser is back after [`TransportFailure::ConsentExpired`].
    Connected,
    /// The transport is down, and why. But for [`TransportFailure::ConsentExpired`] it is over: this comes once, last, and
    /// nothing is sent or taken afterwards.
    Failed(TransportFailure),
}

/// Why a transport is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportFailure {
    /// No connectivity check passed within 30 s.
    #[error("no connectivity check arrived")]
    IceTimeout,
    /// Checks stopped for 30 s ([RFC 7675, section 5.1](https://www.rfc-editor.org/rfc/rfc7675#section-5.1)). Nothing is
    /// sent until one passes again, as after an ICE restart; the DTLS association and the keys stay.
    #[error("the browser stopped its connectivity checks")]
    ConsentExpired,
    /// The handshake failed or did not end within 30 s.
    #[error("the DTLS handshake failed")]
    DtlsFailed,
    /// The browser's certificate is not the one in its description
    /// ([RFC 5763, section 5](https://www.rfc-editor.org/rfc/rfc5763#section-5)).
    #[error("the browser's certificate does not match its fingerprint")]
    FingerprintMismatch,
    /// The browser closed its peer connection (an authenticated close_notify).
    #[error("the browser closed the connection")]
    Closed,
}

/// Why a call of ours could not be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// There are no keys or no address yet, or no more: send no media.
    #[error("the transport is not connected")]
    NotReady,
    /// The description has no fingerprint by SHA-256, SHA-384 or SHA-512.
    #[error("no usable certificate fingerprint")]
    NoFingerprint,
    /// The packet cannot be protected.
    #[error("the packet cannot be protected: {0}")]
    Protect(#[from] SrtpError),
}

/// Counters of datagrams that came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransportStats {
    /// STUN messages refused or ignored.
    pub stun_refused: u64,
    /// DTLS datagrams from an address without a passed check, or that ended an association.
    pub dtls_refused: u64,
    /// SRTP and SRTCP before the keys, from unknown addresses, replayed or not authentic.
    pub srtp_refused: u64,
    /// Datagrams of no protocol of ours.
    pub other: u64,
}

impl TransportStats {
    /// Everything refused that is not a connectivity check: what a leg's counters call rejected.
    pub fn rejected(&self) -> u64 {
        self.dtls_refused + self.srtp_refused + self.other
    }
}

/// How long the parts of the set-up took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransportTimes {
    /// From the making of the transport to the first check that passed.
    pub ice: Option<Duration>,
    /// From there to the end of the handshake.
    pub dtls: Option<Duration>,
}

enum State {
    Connecting,
    Connected,
    /// The browser's checks have stopped; after an ICE restart they have so long to begin again.
    Lapsed {
        until: Option<Instant>,
    },
    Failed,
}

/// One browser's transport. See the [module](super) for the drain rule.
pub struct Transport {
    ice: IceLite,
    dtls: Option<Association>,
    /// Whether the association may have output.
    dtls_is_dirty: bool,
    /// Where the last DTLS datagram came from, and where the answer goes.
    dtls_peer: Option<SocketAddr>,
    keys: Option<Box<Keys>>,
    state: State,
    created: Instant,
    /// The time of the last step.
    now: Instant,
    times: TransportTimes,
    replies: VecDeque<(Response, SocketAddr)>,
    events: ArrayVec<TransportEvent, 2>,
    stats: TransportStats,
}

impl Transport {
    /// A transport for a browser whose description is known. It waits for the browser's first check.
    pub fn new(identity: &Identity, media: &BrowserMedia, now: Instant) -> Result<Self, TransportError> {
        if !dtls::usable(&media.fingerprints) {
            return Err(TransportError::NoFingerprint);
        }
        Ok(Self {
            ice: IceLite::new(&media.local_ice),
            dtls: Some(Association::new(identity, media.dtls, &media.fingerprints, now)),
            dtls_is_dirty: true,
            dtls_peer: None,
            keys: None,
            state: State::Connecting,
            created: now,
            now,
            times: TransportTimes::default(),
            replies: VecDeque::with_capacity(MAX_REPLIES),
            events: ArrayVec::new(),
            stats: TransportStats::default(),
        })
    }

    /// Takes one datagram of this browser. Media is authenticated and decrypted in place.
    pub fn handle_datagram(&mut self, now: Instant, source: SocketAddr, packet: &mut [u8]) -> Received {
        self.now = now;
        if matches!(self.state, State::Failed) {
            return Received::Nothing;
        }
        match classify(packet) {
            PacketKind::Stun => self.handle_stun(now, source, packet),
            PacketKind::Dtls => self.handle_dtls(now, source, packet),
            PacketKind::Rtp => {
                return self.open(source, packet, SrtpContext::unprotect_rtp).map_or(Received::Nothing, Received::Rtp);
            }
            PacketKind::Rtcp => {
                return self
                    .open(source, packet, SrtpContext::unprotect_rtcp)
                    .map_or(Received::Nothing, Received::Rtcp);
            }
            PacketKind::Other => self.stats.other += 1,
        }
        Received::Nothing
    }

    fn handle_stun(&mut self, now: Instant, source: SocketAddr, packet: &[u8]) {
        let checked = self.ice.handle(now, source, packet);
        if !checked.valid {
            self.stats.stun_refused += 1;
        } else if self.times.ice.is_none() {
            self.times.ice = Some(now.saturating_duration_since(self.created));
        }
        if checked.valid && matches!(self.state, State::Lapsed { .. }) {
            self.state = State::Connected;
            self.tell(TransportEvent::Connected);
        }
        // An active association waits for the first address that it may write to.
        self.dtls_is_dirty |= checked.valid && self.keys.is_none();
        if let Some(response) = checked.response
            && self.replies.len() < MAX_REPLIES
        {
            self.replies.push_back((response, source));
        }
    }

    fn handle_dtls(&mut self, now: Instant, source: SocketAddr, packet: &[u8]) {
        // Nomination is not waited for: a browser may start its handshake on any pair that works.
        if !self.ice.knows(source) {
            self.stats.dtls_refused += 1;
            return;
        }
        let Some(association) = &mut self.dtls else {
            self.stats.dtls_refused += 1;
            return;
        };
        self.dtls_peer = Some(source);
        self.dtls_is_dirty = true;
        if let Err(failure) = association.handle(now, packet) {
            self.stats.dtls_refused += 1;
            self.dtls_failed(failure);
        }
    }

    /// Authenticates and decrypts media; yields the plain length.
    fn open(
        &mut self,
        source: SocketAddr,
        packet: &mut [u8],
        unprotect: fn(&mut SrtpContext, &mut [u8]) -> Result<usize, SrtpError>,
    ) -> Option<usize> {
        let opened = match &mut self.keys {
            Some(keys) if self.ice.knows(source) => unprotect(&mut keys.inbound, packet).ok(),
            // Early media is not kept: nobody has shown yet that it is the browser's.
            _ => None,
        };
        match opened {
            Some(_) => self.ice.heard(source),
            None => self.stats.srtp_refused += 1,
        }
        opened
    }

    /// An association without which media can go on (its keys are exported) is merely dropped.
    fn dtls_failed(&mut self, failure: DtlsFailure) {
        self.dtls = None;
        match failure {
            DtlsFailure::Closed => self.fail(TransportFailure::Closed),
            DtlsFailure::Fingerprint => self.fail(TransportFailure::FingerprintMismatch),
            DtlsFailure::Handshake if self.keys.is_none() => self.fail(TransportFailure::DtlsFailed),
            DtlsFailure::Handshake => {}
        }
    }

    fn fail(&mut self, failure: TransportFailure) {
        if matches!(self.state, State::Failed) {
            return;
        }
        self.state = State::Failed;
        self.keys = None;
        self.dtls = None;
        self.tell(TransportEvent::Failed(failure));
    }

    /// One event; they are polled after each step, in which there is one at most beside a last one.
    fn tell(&mut self, event: TransportEvent) {
        let _ = self.events.try_push(event);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if matches!(self.state, State::Failed) {
            return;
        }
        if let Some(association) = &mut self.dtls
            && association.deadline().is_some_and(|deadline| now >= deadline)
        {
            self.dtls_is_dirty = true;
            if let Err(failure) = association.handle_timeout(now) {
                self.dtls_failed(failure);
            }
        }
        if self.life_ends().is_none_or(|end| now < end) {
            return;
        }
        match (&self.state, self.ice.last_check()) {
            (State::Connected, _) => {
                self.state = State::Lapsed { until: None };
                self.ice.lapse();
                self.dtls_peer = None;
                self.tell(TransportEvent::Failed(TransportFailure::ConsentExpired));
            }
            (State::Lapsed { .. }, _) => {
                self.state = State::Lapsed { until: None };
                self.tell(TransportEvent::Failed(TransportFailure::ConsentExpired));
            }
            (_, None) => self.fail(TransportFailure::IceTimeout),
            (_, Some(at)) if now >= at + CONSENT => self.fail(TransportFailure::ConsentExpired),
            (_, Some(_)) => self.fail(TransportFailure::DtlsFailed),
        }
    }

    /// When the transport ends for want of checks, or of a handshake.
    fn life_ends(&self) -> Option<Instant> {
        let consent = self.ice.last_check().unwrap_or(self.created) + CONSENT;
        match self.state {
            State::Connecting => Some(consent.min(self.created + dtls::HANDSHAKE)),
            State::Connected => Some(consent),
            State::Lapsed { until } => until,
            State::Failed => None,
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `None` once the transport is over. At once where an event waits:
    /// taking what there is to send may have brought it about.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.events.is_empty() {
            return Some(self.now);
        }
        if matches!(self.state, State::Failed) {
            return None;
        }
        let dtls = self.dtls.as_ref().and_then(Association::deadline);
        [dtls, self.life_ends()].into_iter().flatten().min()
    }

    /// The next STUN or DTLS datagram to send: its length in `buf` (of 1500 bytes or more) and its destination.
    pub fn poll_transmit(&mut self, buf: &mut [u8]) -> Option<(usize, SocketAddr)> {
        while let Some((response, to)) = self.replies.pop_front() {
            if let Some(room) = buf.get_mut(..response.len()) {
                room.copy_from_slice(&response);
                return Some((response.len(), to));
            }
        }
        while self.dtls_is_dirty {
            let to = self.dtls_peer.or(self.ice.selected()).or(self.ice.any());
            let (Some(association), Some(to)) = (&mut self.dtls, to) else {
                self.dtls_is_dirty = false;
                break;
            };
            match association.poll(buf) {
                DtlsOutput::Packet(len) => return Some((len, to)),
                DtlsOutput::Idle => self.dtls_is_dirty = false,
                DtlsOutput::Failed(failure) => self.dtls_failed(failure),
                DtlsOutput::Connected(keys) => {
                    self.keys = Some(keys);
                    self.state = State::Connected;
                    let checked = self.created + self.times.ice.unwrap_or_default();
                    self.times.dtls.get_or_insert(self.now.saturating_duration_since(checked));
                    self.tell(TransportEvent::Connected);
                }
            }
        }
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<TransportEvent> {
        self.events.pop_at(0)
    }

    /// Encrypts the plain RTP packet in the first `len` bytes of `buf`, in place, and says where it goes.
    /// The buffer needs 16 bytes of room after the packet. [`TransportError::NotReady`] before the handshake is
    /// complete: nothing is sent in the clear, ever.
    pub fn protect_rtp(&mut self, buf: &mut [u8], len: usize) -> Result<(usize, SocketAddr), TransportError> {
        self.seal(buf, len, SrtpContext::protect_rtp)
    }

    /// The same for a (compound) RTCP packet; it needs 20 bytes of room.
    pub fn protect_rtcp(&mut self, buf: &mut [u8], len: usize) -> Result<(usize, SocketAddr), TransportError> {
        self.seal(buf, len, SrtpContext::protect_rtcp)
    }

    fn seal(
        &mut self,
        buf: &mut [u8],
        len: usize,
        protect: fn(&mut SrtpContext, &mut [u8], usize) -> Result<usize, SrtpError>,
    ) -> Result<(usize, SocketAddr), TransportError> {
        let to = self.ice.selected().or(self.dtls_peer).ok_or(TransportError::NotReady)?;
        let keys = self.keys.as_mut().ok_or(TransportError::NotReady)?;
        Ok((protect(&mut keys.outbound, buf, len)?, to))
    }

    /// Takes the new credentials of an ICE restart; DTLS and keys stay
    /// ([RFC 8445, section 9](https://www.rfc-editor.org/rfc/rfc8445#section-9)). The same ones again are no restart. Where
    /// consent had expired, checks have the same time again to begin, and the failure to do so is told once more.
    ///
    /// `_remote` is taken for the shape of the procedure: a lite agent sends no checks and so never uses it.
    pub fn restart_ice(&mut self, now: Instant, local: IceCredentials, _remote: IceCredentials) {
        if let State::Lapsed { until } = &mut self.state
            && local.ufrag != self.ice.ufrag()
        {
            *until = Some(now + CONSENT);
        }
        self.ice.restart(&local);
    }

    /// Our current ufrag, by which the browser's checks find this transport.
    pub fn local_ufrag(&self) -> &str {
        self.ice.ufrag()
    }

    /// Whether a check from this address has passed: its other datagrams are this transport's.
    pub fn knows(&self, address: SocketAddr) -> bool {
        self.ice.knows(address)
    }

    /// Whether a connectivity check of the browser has passed.
    pub fn was_checked(&self) -> bool {
        self.ice.last_check().is_some()
    }

    /// Whether one has, no longer ago than this.
    pub fn was_checked_within(&self, now: Instant, time: Duration) -> bool {
        self.ice.last_check().is_some_and(|at| now.saturating_duration_since(at) < time)
    }

    /// Whether it is over for good.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Failed)
    }

    /// Whether media can flow.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected)
    }

    /// Says goodbye: the browser sees its peer connection closed at once. Poll once more for the datagram.
    pub fn close(&mut self) {
        if let Some(association) = &mut self.dtls {
            association.close();
            self.dtls_is_dirty = true;
        }
    }

    /// What was refused so far.
    pub fn stats(&self) -> TransportStats {
        self.stats
    }

    /// How long the set-up took, as far as it is.
    pub fn times(&self) -> TransportTimes {
        self.times
    }
}
