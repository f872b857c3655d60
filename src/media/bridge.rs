//! The bridge of one call.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::effort::Effort;
use super::inbound::Taken;
use super::leg::{Leg, Retired, Wire};
use super::party::{Parties, Party};
use super::queue::{SendQueue, Transmit};
use super::survey::Survey;
use super::{LONGEST_FRAME, Port};
use crate::codec::{Codec, CodecError, Rate};
use crate::rtp::event::{EventUpdate, EventUpdates, char_event, event_char};
use crate::rtp::packet::RtpPacket;
use crate::rtp::red::Earlier;
use crate::sdp::{
    BrowserMedia, Direction, Hears, LegMedia, LegPlan, LegStats, MediaLoss, MediaPlan, MediaReport, MediaStats, Pass,
    RtpSlot, Side, TransportName,
};
use crate::webrtc::{
    Identity, PacketKind, Received, Transport, TransportError, TransportEvent, TransportFailure, classify,
    stun_username,
};

/// Reports that wait; more digits than this between two polls are lost, and nothing else comes in numbers.
const REPORTS: usize = 64;
/// The length of a digit that is sent on command, in milliseconds: the browser protocol takes no other.
const SHORTEST_DIGIT: u16 = 40;
const LONGEST_DIGIT: u16 = 1_000;
/// An RTP peer that talked and then is silent for so long, RTCP included, is gone.
const RTP_SILENCE: Duration = Duration::from_secs(60);

/// A sender whose packets are passed on and of whom none came for so long is silent: the listener gets our silence.
const PASSES_ON: Duration = Duration::from_secs(1);
/// The bit rate that we ask browsers for whose Opus may be passed on: a peer that wants less gets it transcoded.
const PASSED_BITRATE: u32 = 32_000;

/// Legs with keys that are remembered after they were replaced.
const RETIRED: usize = 32;

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
    /// More legs with keys than one call can have had.
    #[error("the call has had too many encrypted legs")]
    TooManyLegs,
    /// The plan has a browser, and there is no certificate for it.
    #[error("the plan has a browser's leg but no certificate was given")]
    NoIdentity,
}

/// What the bridges of a gateway share.
#[derive(Clone, Default)]
pub struct Means {
    /// Our certificate, for browsers.
    pub identity: Option<Identity>,
    /// What those on hold hear, 8 kHz PCM, over and over; `None`: a comfort tone.
    pub music: Option<Arc<[i16]>>,
}

/// One call's media. See the [module](super) for what to poll when.
pub struct Bridge {
    means: Means,
    rng: StdRng,
    parties: Parties,
    /// Counters of legs that were replaced, A's and B's.
    past: [LegStats; 2],
    /// Legs with keys that were replaced, and may come back.
    retired: Vec<Retired>,
    queue: SendQueue,
    reports: VecDeque<MediaReport>,
    survey: Survey,
    effort: Effort,
    closed: bool,
    /// For unit tests: plain RTP in place of a browser's transport, from and to these addresses.
    #[cfg(test)]
    plain: Option<[SocketAddr; 2]>,
}

impl Bridge {
    /// A bridge after `plan`. Without an identity among its `means` it can have no browser's leg, now or later. What it draws at random
    /// (sequence numbers, timestamps, the pace of reports) depends on `seed` alone.
    pub fn new(now: Instant, plan: MediaPlan, means: &Means, seed: [u8; 32]) -> Result<Self, BridgeError> {
        let mut bridge = Self::empty(now, means, seed);
        bridge.apply(now, plan)?;
        Ok(bridge)
    }

    fn empty(now: Instant, means: &Means, seed: [u8; 32]) -> Self {
        Self {
            means: means.clone(),
            rng: StdRng::from_seed(seed),
            parties: Parties::default(),
            past: [LegStats::default(); 2],
            retired: Vec::new(),
            queue: SendQueue::new(),
            reports: VecDeque::with_capacity(REPORTS),
            survey: Survey::new(now),
            effort: Effort::default(),
            closed: false,
            #[cfg(test)]
            plain: None,
        }
    }

    /// Follows a new plan. A part of it that cannot be followed leaves that part as it was, and is logged.
    pub fn update(&mut self, now: Instant, plan: MediaPlan) {
        if self.closed {
            return;
        }
        if let Err(error) = self.apply(now, plan) {
            tracing::warn!(%error, "a media plan was not followed in full");
        }
    }

    fn apply(&mut self, now: Instant, plan: MediaPlan) -> Result<(), BridgeError> {
        let a = self.apply_side(now, Side::A, plan.a);
        let b = self.apply_side(now, Side::B, plan.b);
        self.match_codecs();
        self.set_effort(self.effort);
        self.parties.iter_mut().for_each(|party| party.leg.open(now));
        a.and(b)
    }

    /// Spends so much work on the sound from its next packet on: a few settings, no allocation.
    pub fn set_effort(&mut self, effort: Effort) {
        self.effort = effort;
        self.parties.iter_mut().for_each(|party| party.leg.outbound.set_effort(effort));
    }

    fn apply_side(&mut self, now: Instant, side: Side, wanted: Option<LegPlan>) -> Result<(), BridgeError> {
        let Some(LegPlan { media, hears }) = wanted else {
            self.drop_leg(now, side);
            return Ok(());
        };
        let followed = match self.parties.get_mut(side) {
            Some(party) if party.media == media => Ok(()),
            Some(party) if party.media.is_same_leg(&media) => {
                reconfigure(now, party, media, self.means.identity.as_ref())
            }
            _ => self.replace(now, side, media),
        };
        if let Some(party) = self.parties.get_mut(side) {
            party.set_hears(hears, self.means.music.as_ref());
        }
        followed
    }

    /// Gives a side a leg of its own making; the one it had says goodbye.
    fn replace(&mut self, now: Instant, side: Side, media: LegMedia) -> Result<(), BridgeError> {
        let mut leg = match &media {
            LegMedia::Browser(browser) => {
                let wire = self.browser_wire(now, side, browser)?;
                Leg::browser(now, &mut self.rng, browser, wire)?
            }
            LegMedia::Rtp(rtp) => {
                let before = self.retired.iter().position(|retired| retired.ssrc == rtp.ssrc);
                let before = before.map(|index| self.retired.swap_remove(index));
                if rtp.srtp.is_some() && before.is_none() && self.retired.len() >= RETIRED {
                    return Err(BridgeError::TooManyLegs);
                }
                Leg::rtp(now, &mut self.rng, rtp, before)?
            }
        };
        if let Some(before) = self.parties.leg(side) {
            leg.follows(before);
        }
        self.drop_leg(now, side);
        *self.parties.slot(side) = Some(Party::new(leg, media));
        let Self { survey, reports, .. } = self;
        survey.restart(|report| push(reports, report));
        Ok(())
    }

    #[cfg_attr(not(test), allow(unused_variables))]
    fn browser_wire(&self, now: Instant, side: Side, media: &BrowserMedia) -> Result<Wire, BridgeError> {
        #[cfg(test)]
        if let Some([a, b]) = self.plain {
            return Ok(Wire::Plain(if side == Side::A { a } else { b }, true));
        }
        let identity = self.means.identity.as_ref().ok_or(BridgeError::NoIdentity)?;
        Ok(Wire::Browser(Box::new(Transport::new(identity, media, now)?)))
    }

    fn drop_leg(&mut self, now: Instant, side: Side) {
        if let Some(mut party) = self.parties.slot(side).take() {
            // Who leaves with a key held down lets it go, or the other side would hear it for ever.
            if let Some(update) = party.leg.inbound.end_digit() {
                self.digit(now, side, update);
            }
            let (counted, retired) = party.leg.drop_out(now, &mut self.rng, &mut self.queue);
            self.retired.extend(retired);
            let [a, b] = &mut self.past;
            let past = if side == Side::A { a } else { b };
            *past = past.and(counted);
        }
    }

    /// What follows from the codecs of both legs: where both speak mu-law its bytes go through unchanged (A-law's do so
    /// always), and a direction is wideband where what it receives and what it sends can carry that.
    fn match_codecs(&mut self) {
        for side in Side::BOTH {
            let (Some(party), Some(other)) = self.parties.pair(side) else { continue };
            let sends = other.leg.outbound.codec();
            party.leg.inbound.set_transparent(sends == Codec::Pcmu);
            let receives_wideband = party.media.send().codec.is_wideband() || party.leg.inbound.hears_wideband();
            let rate = if receives_wideband && sends.is_wideband() { Rate::Wide } else { Rate::Narrow };
            let set = party.leg.inbound.set_rate(rate).and_then(|()| other.leg.outbound.set_rate(rate));
            if let Err(error) = set {
                tracing::warn!(%error, "a direction did not get its rate");
            }
        }
    }

    /// Queues digits to be sent to one side as telephone events or tones; `ms` is the length of each and is held within 40 to
    /// 1000 ms. A side whose plan has neither hears nothing: its digits go in signalling. The digits are the other party's; an
    /// RTP peer sent them in SIP INFO, and what it has sent as telephone-event as well is not sent again (see [`Presses`]).
    ///
    /// [`Presses`]: crate::sdp::Presses
    pub fn send_digits(&mut self, now: Instant, to: Side, digits: &str, ms: u16) {
        let ms = ms.clamp(SHORTEST_DIGIT, LONGEST_DIGIT);
        let (Some(target), mut source) = self.parties.pair(to) else { return };
        let Some(sender) = target.leg.outbound.events() else { return };
        for event in digits.chars().filter_map(char_event) {
            if let (Some(source), Some(digit)) = (source.as_mut(), event_char(event))
                && let Some(media) = source.media.rtp()
                && !source.leg.presses.takes_info(now, digit, media.telephone_event.is_some())
            {
                continue;
            }
            if !sender.queue(event, ms) {
                tracing::warn!("more digits than can wait: the rest is dropped");
                return;
            }
        }
    }

    /// Takes a datagram that came in by one of the call's sockets. It is decrypted in place.
    pub fn handle_datagram(&mut self, now: Instant, port: Port, source: SocketAddr, packet: &mut [u8]) {
        if self.closed {
            return;
        }
        match port {
            Port::Browser => self.browser_datagram(now, source, packet),
            Port::Rtp(slot) => self.rtp_datagram(now, slot, source, packet),
            Port::Rtcp(slot) => self.rtcp_datagram(now, slot, source, packet),
        }
    }

    fn browser_datagram(&mut self, now: Instant, source: SocketAddr, packet: &mut [u8]) {
        let Some(side) = self.browser_of(source, packet) else { return };
        let Some(leg) = self.parties.leg(side) else { return };
        let received = match &mut leg.wire {
            Wire::Browser(transport) => transport.handle_datagram(now, source, packet),
            #[cfg(test)]
            Wire::Plain(..) if is_rtcp(packet) => Received::Rtcp(packet.len()),
            #[cfg(test)]
            Wire::Plain(..) => Received::Rtp(packet.len()),
            Wire::Rtp { .. } => Received::Nothing,
        };
        match received {
            Received::Rtp(len) => {
                if let Some(Ok(packet)) = packet.get(..len).map(RtpPacket::parse) {
                    self.rtp(now, side, packet);
                }
            }
            Received::Rtcp(len) => leg.rtcp(now, packet.get(..len).unwrap_or_default()),
            Received::Nothing => {
                leg.open(now);
                self.transport_events(side);
            }
        }
    }

    /// The side whose browser sent this: where both are browsers a check names its own, and all else comes from an address
    /// whose check has passed.
    fn browser_of(&self, source: SocketAddr, packet: &[u8]) -> Option<Side> {
        let is_browser = |side: &Side| self.parties.get(*side).is_some_and(|party| party.media.browser().is_some());
        let mut browsers = Side::BOTH.into_iter().filter(is_browser);
        let (first, second) = (browsers.next()?, browsers.next());
        if second.is_none() {
            return Some(first);
        }
        let ufrag = if classify(packet) == PacketKind::Stun { stun_username(packet) } else { None };
        let by_wire = |knows: &dyn Fn(&Wire) -> bool| {
            Side::BOTH.into_iter().find(|side| self.parties.get(*side).is_some_and(|party| knows(&party.leg.wire)))
        };
        let named = by_wire(&|wire| match wire {
            Wire::Browser(transport) => ufrag == Some(transport.local_ufrag()),
            _ => false,
        });
        named.or_else(|| {
            by_wire(&|wire| match wire {
                Wire::Browser(transport) => transport.knows(source),
                #[cfg(test)]
                Wire::Plain(address, _) => *address == source,
                Wire::Rtp { .. } => false,
            })
        })
    }

    /// The side whose leg has these ports.
    fn side_of(&self, slot: RtpSlot) -> Option<Side> {
        let has = |side: &Side| {
            let media = self.parties.get(*side).and_then(|party| party.media.rtp());
            media.is_some_and(|media| media.slot == slot)
        };
        Side::BOTH.into_iter().find(has)
    }

    fn rtp_datagram(&mut self, now: Instant, slot: RtpSlot, source: SocketAddr, datagram: &mut [u8]) {
        if is_rtcp(datagram) {
            // A peer that muxes unasked: harmless.
            return self.rtcp_datagram(now, slot, source, datagram);
        }
        let Some(side) = self.side_of(slot) else { return };
        let Some(leg) = self.parties.leg(side) else { return };
        let Wire::Rtp { latch, crypto, .. } = &mut leg.wire else { return };
        let refused = &mut leg.inbound.refused;
        if !latch.plausible(source) {
            refused.strangers += 1;
            return;
        }
        let Some(len) = crypto.open_rtp(now, datagram) else {
            refused.unauthentic += 1;
            return;
        };
        let Some(Ok(packet)) = datagram.get(..len).map(RtpPacket::parse) else {
            refused.others += 1;
            return;
        };
        let header = &packet.header;
        if !leg.inbound.knows(now, header.payload_type) {
            leg.inbound.refused.unknown += 1;
        } else if !latch.accepts(source, header.ssrc, header.sequence) {
            leg.inbound.refused.strangers += 1;
        } else {
            self.rtp(now, side, packet);
        }
    }

    fn rtcp_datagram(&mut self, now: Instant, slot: RtpSlot, source: SocketAddr, datagram: &mut [u8]) {
        let Some(leg) = self.side_of(slot).and_then(|side| self.parties.leg(side)) else { return };
        let Wire::Rtp { latch, crypto, .. } = &mut leg.wire else { return };
        if !latch.accepts_rtcp(source) {
            leg.inbound.refused.others += 1;
            return;
        }
        match crypto.open_rtcp(now, datagram).and_then(|len| datagram.get(..len)) {
            Some(compound) => leg.rtcp(now, compound),
            None => leg.inbound.refused.others += 1,
        }
    }

    fn rtp(&mut self, now: Instant, from: Side, packet: RtpPacket<'_>) {
        let Some(leg) = self.parties.leg(from) else { return };
        leg.alive = now;
        let Some((packet, earlier)) = leg.inbound.unwrap(now, packet) else { return };
        if !leg.direction.receives() {
            // Held: what the peer sends all the same is not heard. It is no loss either.
            leg.inbound.count(now, &packet);
            return;
        }
        if self.pass_on(now, from, &packet, earlier) {
            return self.heard(from);
        }
        let (Some(Party { leg, .. }), other) = self.parties.pair(from) else { return };
        match leg.inbound.packet(now, packet) {
            Taken::Refused => return,
            Taken::Audio { new_stream, first_wideband } => {
                leg.inbound.repair(now, earlier);
                if let Some(other) = other {
                    other.leg.relay.rest();
                    if let Some(due) = leg.inbound.due(now).filter(|_| new_stream) {
                        other.leg.align(due);
                    }
                }
                if first_wideband {
                    self.match_codecs();
                }
            }
            Taken::Event(updates) => {
                for update in updates {
                    if matches!(update, EventUpdate::Started { .. }) {
                        self.event_began(from);
                    }
                    self.digit(now, from, update);
                }
            }
        }
        self.heard(from);
    }

    /// Reports a side's first packet.
    fn heard(&mut self, from: Side) {
        if let Some(leg) = self.parties.leg(from)
            && !std::mem::replace(&mut leg.heard_once, true)
        {
            self.report(MediaReport::FirstRtp(from));
        }
    }

    /// Passes a packet on where it goes as it is, and before it those `earlier` ones that it holds and that
    /// did not come themselves; `false`: it is to be decoded.
    fn pass_on(&mut self, now: Instant, from: Side, packet: &RtpPacket<'_>, earlier: Earlier<'_>) -> bool {
        let (Some(source), Some(target)) = self.parties.pair(from) else { return false };
        let Some(passed) = passes_on(source, target) else { return false };
        let Leg { inbound, gauge, .. } = &mut source.leg;
        let sounded = gauge.meter.sounded();
        let listen = |pcm: &[i16]| gauge.meter.frame(pcm);
        let Some(passed) = inbound.pass_on(now, packet, passed, sounded, listen) else { return false };
        if inbound.digit_sounds(now) || target.leg.outbound.sends_digits() {
            target.leg.relay.swallow(now, &packet.header);
        } else {
            for before in earlier {
                if target.leg.relay.misses(&before.header)
                    && let Some(duration) = inbound.repair_passed(now, &before)
                {
                    target.leg.pass_on(now, &before, duration, &mut self.queue);
                }
            }
            target.leg.pass_on(now, packet, passed.duration, &mut self.queue);
        }
        if passed.first_wideband {
            self.match_codecs();
        }
        true
    }

    /// An RTP peer sends its digits as telephone-events.
    fn event_began(&mut self, from: Side) {
        if let Some(party) = self.parties.get_mut(from).filter(|party| party.media.rtp().is_some()) {
            party.leg.presses.event_began();
            self.report(MediaReport::EventBegan(from));
        }
    }

    /// Passes a digit on while it is held, unless its INFO came first, and reports it when it ends.
    fn digit(&mut self, now: Instant, from: Side, update: EventUpdate) {
        if let EventUpdate::Started { event } = update
            && let Some((leg, digit)) = self.parties.leg(from).zip(event_char(event))
            && leg.presses.is_second(now, digit)
        {
            return;
        }
        let other = self.parties.get_mut(from.other());
        let open = other.as_ref().is_some_and(|other| other.hears().peer());
        let sender = other.and_then(|other| other.leg.outbound.events());
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

    fn transport_events(&mut self, side: Side) {
        while let Some(Leg { wire: Wire::Browser(transport), .. }) = self.parties.leg(side)
            && let Some(event) = transport.poll_event()
        {
            let transport = TransportName::Ice(transport.local_ufrag().to_owned());
            let report = match event {
                TransportEvent::Connected => MediaReport::Connected { side, transport },
                TransportEvent::Failed(failure) => {
                    let loss = match failure {
                        TransportFailure::IceTimeout => MediaLoss::IceTimeout,
                        TransportFailure::ConsentExpired => MediaLoss::ConsentExpired,
                        TransportFailure::FingerprintMismatch => MediaLoss::FingerprintMismatch,
                        TransportFailure::Closed => MediaLoss::BrowserClosed,
                        TransportFailure::DtlsFailed => MediaLoss::DtlsFailed,
                    };
                    MediaReport::Lost { side, transport, loss }
                }
            };
            self.report(report);
        }
    }

    fn report(&mut self, report: MediaReport) {
        push(&mut self.reports, report);
    }

    /// Lets time pass: frames, reports, timers.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        for side in Side::BOTH {
            if let Some(Leg { wire: Wire::Browser(transport), .. }) = self.parties.leg(side) {
                transport.handle_timeout(now);
            }
            self.transport_events(side);
        }
        self.parties.iter_mut().for_each(|party| party.leg.open(now));
        for side in Side::BOTH {
            let onward = self.loss_onward(now, side);
            if let Some(update) = self.parties.leg(side).and_then(|leg| leg.inbound.handle_timeout(now)) {
                self.digit(now, side, update);
            }
            if let Some(leg) = self.parties.leg(side) {
                leg.catch_up(now);
            }
            while self.parties.leg(side).is_some_and(|leg| now >= leg.next_frame) {
                self.frame(now, side);
            }
            let Self { parties, rng, queue, .. } = self;
            if let Some(leg) = parties.leg(side)
                && now >= leg.next_report()
            {
                leg.report(now, rng, false, onward, queue);
            }
        }
        Side::BOTH.into_iter().for_each(|side| self.watch(now, side));
        let Self { parties, reports, survey, .. } = self;
        survey.handle_timeout(now, parties, |report| push(reports, report));
    }

    /// The loss that the other side reports of what of this one is passed on to it.
    fn loss_onward(&mut self, now: Instant, side: Side) -> Option<u8> {
        let (Some(source), Some(target)) = self.parties.pair(side) else { return None };
        let passed = passes_on(source, target).is_some() && target.leg.relay.is_live(now, PASSES_ON);
        target.leg.gauge.loss_reported(now).filter(|_| passed)
    }

    /// Sends one frame to a side: the other side's sound, or what stands for it.
    fn frame(&mut self, now: Instant, to: Side) {
        let (Some(target), source) = self.parties.pair(to) else { return };
        let hears = target.hears();
        if hears == Hears::Nothing && source.is_none() {
            // A caller whose call rings: sound before the answer, even silent, would stop his ringing tone.
            return target.leg.pass();
        }
        let passed = source.as_ref().is_some_and(|source| passes_on(source, target).is_some())
            && target.leg.relay.is_live(now, PASSES_ON);
        let keys = source.as_ref().is_some_and(|source| source.leg.inbound.digit_sounds(now))
            || target.leg.outbound.sends_digits();
        if passed && !keys {
            return target.leg.pass();
        }
        if hears == Hears::Peer
            && target.leg.waits_for_sound(now)
            && source.as_ref().is_some_and(|source| {
                source.leg.inbound.is_starting() && !(target.leg.is_open() && source.leg.live(now))
            })
        {
            // What is said meanwhile stays, and the last of it is the first that is heard.
            return target.leg.pass();
        }
        let rate = target.leg.outbound.rate();
        let mut longest = [0; LONGEST_FRAME];
        let pcm = longest.get_mut(..rate.frame()).unwrap_or_default();
        let (mut live, mut away) = (false, false);
        let mut digits = EventUpdates::new();
        if source.is_none() && hears == Hears::Comfort {
            target.leg.play_to_nobody(now);
        }
        if let Some(Party { leg: source, .. }) = source {
            away = source.is_away(now);
            live = source.live(now) && !away;
            if source.outbound.sends_digits() {
                source.inbound.expect_echo(now);
            }
            // Pulled whether it is heard or not: what was said before stays behind.
            if source.inbound.rate() == rate && !passed {
                source.inbound.pull(now, pcm);
                source.gauge.meter.frame(pcm);
                digits = source.inbound.take_tone_digits();
            }
            if !source.direction.receives() || !hears.peer() {
                pcm.fill(0);
            }
        }
        if !(live && hears.peer())
            && let Some(filler) = target.filler(away)
        {
            filler.fill(pcm, rate);
        }
        // A tone that was recognised is sent on as what it is from this frame on.
        digits.into_iter().for_each(|update| self.digit(now, to.other(), update));
        if let Some(leg) = self.parties.leg(to) {
            leg.send(pcm, &mut self.queue);
        }
    }

    /// Notices an RTP peer that is gone. One that holds us, or is held, sends nothing, and need not send RTCP either: its
    /// silence says nothing then.
    fn watch(&mut self, now: Instant, side: Side) {
        let (Some(party), Some(other)) = self.parties.pair(side) else { return };
        let leg = &party.leg;
        let talking = party.hears() != Hears::Nothing && other.hears() != Hears::Nothing;
        let expected = talking && leg.direction == Direction::SendRecv && leg.heard_once && party.media.rtp().is_some();
        if expected && !party.lost && now.saturating_duration_since(leg.alive) >= RTP_SILENCE {
            party.lost = true;
            let transport = party.media.transport();
            self.report(MediaReport::Lost { side, transport, loss: MediaLoss::RtpSilent });
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `None` once the bridge is closed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let of_party = |Party { leg, .. }: &Party| {
            let transport = match &leg.wire {
                Wire::Browser(transport) => transport.poll_timeout(),
                _ => None,
            };
            [Some(leg.next_frame), Some(leg.next_report()), leg.inbound.poll_timeout(), transport]
                .into_iter()
                .flatten()
                .min()
        };
        let legs = self.parties.iter().filter_map(of_party).min()?;
        Some(legs.min(self.survey.poll_timeout()))
    }

    /// The next datagram to send, copied into `buf` of 1500 bytes or more.
    pub fn poll_transmit(&mut self, buf: &mut [u8]) -> Option<Transmit> {
        if let Some(transmit) = self.queue.pop(buf) {
            return Some(transmit);
        }
        self.parties.iter_mut().find_map(|party| match &mut party.leg.wire {
            Wire::Browser(transport) => {
                let (len, to) = transport.poll_transmit(buf)?;
                Some(Transmit { port: Port::Browser, to, len })
            }
            _ => None,
        })
    }

    /// The next thing to report.
    pub fn poll_report(&mut self) -> Option<MediaReport> {
        let report = self.reports.pop_front();
        if self.reports.is_empty() {
            // The ring begins anew: what lies further on in it is never touched.
            self.reports.clear();
        }
        report
    }

    /// Ends the call's media: RTCP BYE to both sides, DTLS close_notify to browsers. Poll the datagrams once more, then
    /// take [`stats`](Self::stats); nothing else happens afterwards.
    pub fn close(&mut self, now: Instant) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let Self { parties, rng, queue, .. } = self;
        for party in parties.iter_mut() {
            party.leg.leave(now, rng, queue);
        }
    }

    /// Whether datagrams from `source` on the browsers' socket are this call's.
    pub fn knows_browser(&self, source: SocketAddr) -> bool {
        self.parties.iter().any(|party| match &party.leg.wire {
            Wire::Browser(transport) => transport.knows(source),
            _ => false,
        })
    }

    /// The call's counters.
    pub fn stats(&self) -> MediaStats {
        let [a, b] = self.past;
        let now = |side| self.parties.get(side).map(|party| party.leg.stats()).unwrap_or_default();
        MediaStats { a: a.and(now(Side::A)), b: b.and(now(Side::B)) }
    }

    /// For unit tests: milliseconds of sound that wait to be played of what this side says.
    #[cfg(test)]
    pub(super) fn playout_ms(&mut self, side: Side) -> u32 {
        self.parties.leg(side).map_or(0, |leg| leg.inbound.buffered_ms())
    }

    /// For unit tests: the way to a side's plain stand-in of a browser comes up, or is not there yet.
    #[cfg(test)]
    pub(super) fn set_up(&mut self, now: Instant, side: Side, is_up: bool) {
        if let Some(leg) = self.parties.leg(side) {
            leg.set_up(now, is_up);
        }
    }

    /// For unit tests: plain RTP in place of each side's browser transport, from and to the addresses of A and B.
    #[cfg(test)]
    pub(super) fn plain(now: Instant, plan: MediaPlan, browsers: [SocketAddr; 2]) -> Self {
        let mut bridge = Self::empty(now, &Means::default(), [7; 32]);
        bridge.plain = Some(browsers);
        bridge.apply(now, plan).expect("a plan of known codecs");
        bridge
    }
}

/// What of the source's goes to the target as it is: a codec, and for G.711 the length of its packets, in milliseconds. The target
/// speaks it, as much of it as may come, and hears the source; and we need not hear it, for tones, nor put any in. G.711 goes so
/// only where the plan of one of them puts cost before quality ([`Pass`]).
fn passes_on(source: &Party, target: &Party) -> Option<(Codec, Option<u32>)> {
    let outbound = &target.leg.outbound;
    let cost = |party: &Party| party.media.rtp().is_some_and(|media| media.pass == Pass::Cost);
    let passed = match outbound.codec() {
        Codec::Opus => {
            let enough = target.media.opus_bitrate().is_none_or(|most| most >= PASSED_BITRATE);
            enough.then_some((Codec::Opus, None))?
        }
        law @ (Codec::Pcmu | Codec::Pcma) if cost(source) || cost(target) => (law, Some(outbound.packet_ms())),
        _ => return None,
    };
    let open = target.hears().peer()
        && target.leg.direction.sends()
        && source.leg.direction.receives()
        && !source.leg.inbound.listens_for_tones()
        && !outbound.sends_tones();
    open.then_some(passed)
}

/// Queues a report, while there is room.
fn push(reports: &mut VecDeque<MediaReport>, report: MediaReport) {
    if reports.len() < REPORTS {
        reports.push_back(report);
    }
}

/// Gives a leg its new parameters.
fn reconfigure(
    now: Instant,
    party: &mut Party,
    media: LegMedia,
    identity: Option<&Identity>,
) -> Result<(), BridgeError> {
    match (&media, &party.media) {
        (LegMedia::Browser(browser), LegMedia::Browser(before)) => {
            if let Wire::Browser(transport) = &mut party.leg.wire {
                if browser.fingerprints != before.fingerprints || transport.is_over() {
                    // Another certificate is another DTLS association (RFC 8842 section 4). One that is over is none.
                    let identity = identity.ok_or(BridgeError::NoIdentity)?;
                    **transport = Transport::new(identity, browser, now)?;
                } else if browser.local_ice != before.local_ice {
                    transport.restart_ice(now, browser.local_ice.clone(), browser.remote_ice.clone());
                }
            }
            party.leg.configure_browser(now, browser)?;
        }
        (LegMedia::Rtp(rtp), _) => party.leg.configure_rtp(now, rtp)?,
        (LegMedia::Browser(_), LegMedia::Rtp(_)) => {}
    }
    party.media = media;
    Ok(())
}

/// Whether a datagram on an RTP port is RTCP (RFC 5761 section 4).
fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, 192..=223, ..] if first >> 6 == 2)
}
