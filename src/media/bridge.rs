//! The bridge of one call.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::inbound::Taken;
use super::leg::{Leg, Wire};
use super::queue::{SendQueue, Transmit};
use super::{FRAME, Port};
use crate::codec::tone::{Ringback, TonePlayer};
use crate::codec::{Codec, CodecError};
use crate::rtp::event::{EventUpdate, char_event, event_char};
use crate::rtp::packet::RtpPacket;
use crate::sdp::{BrowserMedia, Direction, MediaLoss, MediaPlan, MediaReport, MediaStats, Side, Tone, TrunkMedia};
use crate::webrtc::{Identity, Received, Transport, TransportError, TransportEvent, TransportFailure};

/// The peak of each of the ringing tone's frequencies: about -19 dBm0 both.
const RINGBACK_LEVEL: i16 = 2_600;
/// Reports that wait; more digits than this between two polls are lost, and nothing else comes in numbers.
const REPORTS: usize = 64;
/// The length of a digit that is sent on command, in milliseconds: the browser protocol takes no other.
const SHORTEST_DIGIT: u16 = 40;
const LONGEST_DIGIT: u16 = 1_000;
/// An established trunk that sent once and then is silent for so long, RTCP included, is gone.
const TRUNK_SILENCE: Duration = Duration::from_secs(60);

/// Why a bridge cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The plan names a codec that is not transcoded: our own side's fault.
    #[error("the plan cannot be followed: {0}")]
    Codec(#[from] CodecError),
    /// The plan has a browser, but its transport cannot be made.
    #[error("the browser's transport cannot be made: {0}")]
    Transport(#[from] TransportError),
    /// The plan has a browser, and there is no certificate for it.
    #[error("the plan has a browser's leg but no certificate was given")]
    NoIdentity,
}

/// One call's media. See the [module](super) for what to poll when.
pub struct Bridge {
    plan: MediaPlan,
    identity: Option<Identity>,
    rng: StdRng,
    browser: Option<Leg>,
    trunk: Option<Leg>,
    ringback: Option<(Tone, TonePlayer<'static>)>,
    queue: SendQueue,
    reports: VecDeque<MediaReport>,
    trunk_lost: bool,
    closed: bool,
}

impl Bridge {
    /// A bridge after `plan`. Without an `identity` it can have no browser's leg, now or later. What it draws at random
    /// (sequence numbers, timestamps, the pace of reports) depends on `seed` alone.
    pub fn new(
        now: Instant,
        plan: MediaPlan,
        identity: Option<&Identity>,
        seed: [u8; 32],
    ) -> Result<Self, BridgeError> {
        let mut bridge = Self {
            plan: MediaPlan::default(),
            identity: identity.cloned(),
            rng: StdRng::from_seed(seed),
            browser: None,
            trunk: None,
            ringback: None,
            queue: SendQueue::new(),
            reports: VecDeque::with_capacity(REPORTS),
            trunk_lost: false,
            closed: false,
        };
        bridge.apply(now, plan)?;
        Ok(bridge)
    }

    /// Follows a new plan. A part of it that cannot be followed leaves that part as it was, and is logged.
    pub fn update(&mut self, now: Instant, plan: MediaPlan) {
        if self.closed || plan == self.plan {
            return;
        }
        if let Err(error) = self.apply(now, plan) {
            tracing::warn!(%error, "a media plan was not followed in full");
        }
    }

    fn apply(&mut self, now: Instant, plan: MediaPlan) -> Result<(), BridgeError> {
        self.plan.established = plan.established;
        self.plan.ringback = plan.ringback;
        self.set_ringback(plan.ringback);
        let browser = self.apply_browser(now, plan.browser);
        let trunk = self.apply_trunk(now, plan.trunk);
        self.set_transparency();
        browser.and(trunk)
    }

    fn apply_browser(&mut self, now: Instant, media: Option<BrowserMedia>) -> Result<(), BridgeError> {
        if media == self.plan.browser {
            return Ok(());
        }
        let Some(media) = media else {
            self.browser = None;
            self.plan.browser = None;
            return Ok(());
        };
        match (&mut self.browser, &self.plan.browser) {
            (Some(leg), Some(before)) => {
                if let Wire::Browser(transport) = &mut leg.wire {
                    if media.fingerprints != before.fingerprints {
                        // Another certificate is another DTLS association (RFC 8842 section 4).
                        let identity = self.identity.as_ref().ok_or(BridgeError::NoIdentity)?;
                        **transport = Transport::new(identity, &media, now)?;
                    } else if media.local_ice != before.local_ice {
                        transport.restart_ice(media.local_ice.clone(), media.remote_ice.clone());
                    }
                }
                leg.configure_browser(now, &media)?;
            }
            _ => {
                let identity = self.identity.as_ref().ok_or(BridgeError::NoIdentity)?;
                let wire = Wire::Browser(Box::new(Transport::new(identity, &media, now)?));
                self.browser = Some(Leg::browser(now, &mut self.rng, &media, wire)?);
            }
        }
        self.plan.browser = Some(media);
        Ok(())
    }

    fn apply_trunk(&mut self, now: Instant, media: Option<TrunkMedia>) -> Result<(), BridgeError> {
        if media == self.plan.trunk {
            return Ok(());
        }
        match (&mut self.trunk, &media) {
            (leg, None) => *leg = None,
            (Some(leg), Some(media)) => leg.configure_trunk(now, media)?,
            (leg @ None, Some(media)) => *leg = Some(Leg::trunk(now, &mut self.rng, media)?),
        }
        self.plan.trunk = media;
        Ok(())
    }

    fn set_ringback(&mut self, tone: Option<Tone>) {
        if self.ringback.as_ref().map(|(playing, _)| *playing) == tone {
            return;
        }
        self.ringback = tone.map(|tone| {
            let ringback = match tone {
                Tone::Us => Ringback::Us,
                Tone::Uk => Ringback::Uk,
                Tone::Eu => Ringback::Eu,
            };
            (tone, TonePlayer::repeated(ringback.cadence(), RINGBACK_LEVEL))
        });
    }

    /// Where both legs speak mu-law its bytes go through unchanged.
    fn set_transparency(&mut self) {
        let sends = |leg: &Option<Leg>| leg.as_ref().map(|leg| leg.outbound.codec());
        let (to_browser, to_trunk) = (sends(&self.browser), sends(&self.trunk));
        if let Some(leg) = &mut self.browser {
            leg.inbound.set_transparent(to_trunk == Some(Codec::Pcmu));
        }
        if let Some(leg) = &mut self.trunk {
            leg.inbound.set_transparent(to_browser == Some(Codec::Pcmu));
        }
    }

    /// Queues digits to be sent to one side as telephone events; `ms` is the length of each and is held within 40 to
    /// 1000 ms. A side without telephone-event hears nothing: the plan says so beforehand.
    pub fn send_digits(&mut self, _now: Instant, to: Side, digits: &str, ms: u16) {
        let ms = ms.clamp(SHORTEST_DIGIT, LONGEST_DIGIT);
        let Some(sender) = self.leg(to).and_then(|leg| leg.outbound.events()) else { return };
        for event in digits.chars().filter_map(char_event) {
            if !sender.queue(event, ms) {
                tracing::warn!("more digits than can wait: the rest is dropped");
                return;
            }
        }
    }

    fn leg(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::Browser => self.browser.as_mut(),
            Side::Trunk => self.trunk.as_mut(),
        }
    }

    /// Takes a datagram that came in by one of the call's sockets. It is decrypted in place.
    pub fn handle_datagram(&mut self, now: Instant, port: Port, source: SocketAddr, packet: &mut [u8]) {
        if self.closed {
            return;
        }
        match port {
            Port::Browser => self.browser_datagram(now, source, packet),
            Port::TrunkRtp => self.trunk_datagram(now, source, packet),
            Port::TrunkRtcp => self.trunk_rtcp(now, source, packet),
        }
    }

    fn browser_datagram(&mut self, now: Instant, _source: SocketAddr, packet: &mut [u8]) {
        let Some(leg) = &mut self.browser else { return };
        let received = match &mut leg.wire {
            Wire::Browser(transport) => transport.handle_datagram(now, _source, packet),
            #[cfg(test)]
            Wire::Plain(_) if is_rtcp(packet) => Received::Rtcp(packet.len()),
            #[cfg(test)]
            Wire::Plain(_) => Received::Rtp(packet.len()),
            Wire::Trunk { .. } => Received::Nothing,
        };
        match received {
            Received::Rtp(len) => {
                if let Some(Ok(packet)) = packet.get(..len).map(RtpPacket::parse) {
                    self.rtp(now, Side::Browser, packet);
                }
            }
            Received::Rtcp(len) => leg.rtcp(now, packet.get(..len).unwrap_or_default()),
            Received::Nothing => self.transport_events(),
        }
    }

    fn trunk_datagram(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        if is_rtcp(datagram) {
            // A peer that muxes unasked: harmless.
            return self.trunk_rtcp(now, source, datagram);
        }
        let Some(leg) = &mut self.trunk else { return };
        let Wire::Trunk { latch, .. } = &mut leg.wire else { return };
        let believed = RtpPacket::parse(datagram).ok().filter(|packet| {
            let header = &packet.header;
            leg.inbound.knows(now, header.payload_type) && latch.accepts(source, header.ssrc, header.sequence)
        });
        match believed {
            Some(packet) => self.rtp(now, Side::Trunk, packet),
            None => leg.inbound.rejected += 1,
        }
    }

    fn trunk_rtcp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        let Some(leg) = &mut self.trunk else { return };
        match &leg.wire {
            Wire::Trunk { latch, .. } if latch.accepts_rtcp(source) => leg.rtcp(now, datagram),
            _ => leg.inbound.rejected += 1,
        }
    }

    fn rtp(&mut self, now: Instant, from: Side, packet: RtpPacket<'_>) {
        let (Some(leg), other) = legs(&mut self.browser, &mut self.trunk, from) else { return };
        leg.alive = now;
        if !leg.direction.receives() {
            // Held: what the peer sends all the same is not heard. It is no loss either.
            leg.inbound.count(now, &packet);
            return;
        }
        match leg.inbound.packet(now, packet) {
            Taken::Refused => return,
            Taken::Audio { new_stream } => {
                if new_stream && let (Some(due), Some(other)) = (leg.inbound.due(now), other) {
                    other.align(due);
                }
            }
            Taken::Event(updates) => {
                for update in updates {
                    self.digit(from, update);
                }
            }
        }
        if let Some(leg) = self.leg(from)
            && !std::mem::replace(&mut leg.heard_once, true)
        {
            self.report(MediaReport::FirstRtp(from));
        }
    }

    /// Passes a digit on while it is held, and reports it when it ends.
    fn digit(&mut self, from: Side, update: EventUpdate) {
        let open = from == Side::Trunk || self.plan.established;
        let (_, other) = legs(&mut self.browser, &mut self.trunk, from);
        let sender = other.and_then(|other| other.outbound.events());
        match update {
            EventUpdate::Started { event } => {
                if let Some(sender) = sender.filter(|_| open) {
                    sender.press(event);
                }
            }
            EventUpdate::Ended { event, ms } => {
                if let Some(sender) = sender {
                    sender.release(event, ms);
                }
                if let Some(digit) = event_char(event).filter(|digit| *digit != '!') {
                    self.report(MediaReport::Digit { from, digit, ms });
                }
            }
        }
    }

    fn transport_events(&mut self) {
        while let Some(Leg { wire: Wire::Browser(transport), .. }) = &mut self.browser
            && let Some(event) = transport.poll_event()
        {
            let report = match event {
                TransportEvent::Connected => MediaReport::Connected,
                TransportEvent::Failed(failure) => MediaReport::Lost(match failure {
                    TransportFailure::IceTimeout => MediaLoss::IceTimeout,
                    TransportFailure::ConsentExpired => MediaLoss::ConsentExpired,
                    TransportFailure::FingerprintMismatch => MediaLoss::FingerprintMismatch,
                    TransportFailure::Closed => MediaLoss::BrowserClosed,
                    TransportFailure::DtlsFailed => MediaLoss::DtlsFailed,
                }),
            };
            self.report(report);
        }
    }

    fn report(&mut self, report: MediaReport) {
        if self.reports.len() < REPORTS {
            self.reports.push_back(report);
        }
    }

    /// Lets time pass: frames, reports, timers.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        if let Some(Leg { wire: Wire::Browser(transport), .. }) = &mut self.browser {
            transport.handle_timeout(now);
        }
        self.transport_events();
        for side in [Side::Browser, Side::Trunk] {
            if let Some(update) = self.leg(side).and_then(|leg| leg.inbound.handle_timeout(now)) {
                self.digit(side, update);
            }
            if let Some(leg) = self.leg(side) {
                leg.catch_up(now);
            }
            while self.leg(side).is_some_and(|leg| now >= leg.next_frame) {
                self.frame(now, side);
            }
            let Self { browser, trunk, rng, queue, .. } = self;
            if let (Some(leg), _) = legs(browser, trunk, side)
                && now >= leg.next_report()
            {
                leg.report(now, rng, false, queue);
            }
        }
        self.watch_trunk(now);
    }

    /// Sends one frame to a side: the other side's sound, or what stands for it.
    fn frame(&mut self, now: Instant, to: Side) {
        let established = self.plan.established;
        let (Some(target), source) = legs(&mut self.browser, &mut self.trunk, to) else { return };
        if to == Side::Trunk && !established && source.is_none() {
            // An incoming call that rings: sound before the answer, even silent, would stop the caller's ringing tone.
            return target.pass();
        }
        let mut pcm = [0; FRAME];
        let mut live = false;
        if let Some(source) = source {
            live = source.live(now);
            source.inbound.pull(now, &mut pcm);
            // What was heard before the answer stays here; silence goes to the trunk, so that its way to us opens.
            if !source.direction.receives() || (to == Side::Trunk && !established) {
                pcm = [0; FRAME];
            }
        }
        if to == Side::Browser
            && !live
            && let Some((_, player)) = &mut self.ringback
        {
            player.fill(&mut pcm);
        }
        target.send(&pcm, &mut self.queue);
    }

    fn watch_trunk(&mut self, now: Instant) {
        let Some(leg) = &self.trunk else { return };
        // A peer that holds us sends nothing, and need not send RTCP either: its silence says nothing then.
        let expected = self.plan.established && leg.direction == Direction::SendRecv && leg.heard_once;
        if expected && !self.trunk_lost && now.saturating_duration_since(leg.alive) >= TRUNK_SILENCE {
            self.trunk_lost = true;
            self.report(MediaReport::Lost(MediaLoss::TrunkSilent));
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `None` once the bridge is closed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let of_leg = |leg: &Leg| {
            let transport = match &leg.wire {
                Wire::Browser(transport) => transport.poll_timeout(),
                _ => None,
            };
            [Some(leg.next_frame), Some(leg.next_report()), leg.inbound.poll_timeout(), transport]
                .into_iter()
                .flatten()
                .min()
        };
        [&self.browser, &self.trunk].into_iter().flatten().filter_map(of_leg).min()
    }

    /// The next datagram to send, copied into `buf` of 1500 bytes or more.
    pub fn poll_transmit(&mut self, buf: &mut [u8]) -> Option<Transmit> {
        if let Some(transmit) = self.queue.pop(buf) {
            return Some(transmit);
        }
        match &mut self.browser {
            Some(Leg { wire: Wire::Browser(transport), .. }) => {
                let (len, to) = transport.poll_transmit(buf)?;
                Some(Transmit { port: Port::Browser, to, len })
            }
            _ => None,
        }
    }

    /// The next thing to report.
    pub fn poll_report(&mut self) -> Option<MediaReport> {
        self.reports.pop_front()
    }

    /// Ends the call's media: RTCP BYE to both sides, DTLS close_notify to the browser. Poll the datagrams once more, then
    /// take [`stats`](Self::stats); nothing else happens afterwards.
    pub fn close(&mut self, now: Instant) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let Self { browser, trunk, rng, queue, .. } = self;
        for leg in [browser.as_mut(), trunk.as_mut()].into_iter().flatten() {
            leg.report(now, rng, true, queue);
            if let Wire::Browser(transport) = &mut leg.wire {
                transport.close();
            }
        }
    }

    /// Whether datagrams from `source` on the browsers' socket are this call's.
    pub fn knows_browser(&self, source: SocketAddr) -> bool {
        match &self.browser {
            Some(Leg { wire: Wire::Browser(transport), .. }) => transport.knows(source),
            _ => false,
        }
    }

    /// The ufrag by which this call's connectivity checks are told from other calls'.
    pub fn local_ufrag(&self) -> Option<&str> {
        match &self.browser {
            Some(Leg { wire: Wire::Browser(transport), .. }) => Some(transport.local_ufrag()),
            _ => None,
        }
    }

    /// The call's counters.
    pub fn stats(&self) -> MediaStats {
        let of_leg = |leg: &Option<Leg>| leg.as_ref().map(Leg::stats).unwrap_or_default();
        MediaStats { browser: of_leg(&self.browser), trunk: of_leg(&self.trunk) }
    }

    /// For unit tests: plain RTP in place of the browser's transport.
    #[cfg(test)]
    pub(super) fn plain(now: Instant, plan: MediaPlan, browser: SocketAddr) -> Self {
        let media = plan.browser.clone();
        let without = MediaPlan { browser: None, ..plan };
        let mut bridge = Self::new(now, without, None, [7; 32]).expect("a plan of known codecs");
        if let Some(media) = media {
            let leg = Leg::browser(now, &mut bridge.rng, &media, Wire::Plain(browser)).expect("known codecs");
            bridge.browser = Some(leg);
            bridge.plan.browser = Some(media);
            bridge.set_transparency();
        }
        bridge
    }
}

/// The leg of a side, and the other one.
fn legs<'a>(
    browser: &'a mut Option<Leg>,
    trunk: &'a mut Option<Leg>,
    side: Side,
) -> (Option<&'a mut Leg>, Option<&'a mut Leg>) {
    match side {
        Side::Browser => (browser.as_mut(), trunk.as_mut()),
        Side::Trunk => (trunk.as_mut(), browser.as_mut()),
    }
}

/// Whether a datagram on an RTP port is RTCP (RFC 5761 section 4).
fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, 192..=223, ..] if first >> 6 == 2)
}
