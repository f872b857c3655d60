//! One leg of a bridge: both halves of its RTP, and the wire it runs over. There is one kind of leg; what differs between a
//! browser and an RTP peer is the [`Wire`].

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::crypto::Crypto;
use super::gauge::{Gauge, Measured};
use super::inbound::Inbound;
use super::latch::Latch;
use super::outbound::{Outbound, Packet};
use super::queue::{SendQueue, Transmit};
use super::relay::Relay;
use super::verdict::{Came, Facts, Link};
use super::{FRAME_MS, LONGEST_FRAME, Port};
use crate::codec::CodecError;
use crate::rtp::packet::{RtpError, RtpPacket};
use crate::rtp::rtcp::{Compound, ReportBlock, RtcpItem, SenderInfo};
use crate::sdp::{BrowserMedia, Direction, LegStats, Presses, RtpMedia, RtpSlot};
use crate::webrtc::{Transport, TransportTimes};

/// The length of a frame in time.
pub(super) const FRAME_TIME: Duration = Duration::from_millis(FRAME_MS as u64);
/// The first packets carry our mid, so that a browser that does not know our SSRC yet finds the m-line (RFC 8843 section 15); and
/// the first with another mid: a browser that has not read our answer yet knows our SSRC from the line of before, or from none.
const PACKETS_WITH_MID: u64 = 250;
/// A sound that stopped for longer than this is over: the ringing tone may be heard again.
const LIVE: Duration = Duration::from_secs(3);
/// The first report comes soon, the others at these mean intervals: a browser adapts its redundancy to what we report.
const FIRST_REPORT: Duration = Duration::from_millis(500);
const BROWSER_REPORTS: f64 = 1.0;
const RTP_REPORTS: f64 = 5.0;
/// ICE and DTLS with a browser that is asked for neither patience nor a far TURN server.
const USUAL_SET_UP: Duration = Duration::from_secs(1);
/// So long after its path is up a browser is sent nothing when nothing was said.
const FIRST_SOUND: Duration = Duration::from_millis(100);
/// Frames are brought into step with a new stream at most so often.
const ALIGN_EVERY: Duration = Duration::from_secs(10);
/// A peer of which nothing came for longer, RTCP included (it comes each 6.2 s at least: RFC 3550 section 6.3.1), may be gone.
const ALIVE: Duration = Duration::from_secs(10);
/// A browser checks every five seconds at most (RFC 7675 section 5.1): one that has not for longer is away.
const CHECKED: Duration = Duration::from_secs(8);
/// A process that was stopped for longer does not make up for the sound of that time.
const CATCH_UP: Duration = Duration::from_millis(100);
/// Seconds that we claim NTP time to have counted when the bridge began: no wall clock here, and none is needed
/// (RFC 3550 section 6.4.1).
const NTP_START: u64 = 1 << 31;

/// How a leg's packets reach its peer.
pub(super) enum Wire {
    /// ICE, DTLS and SRTP.
    Browser(Box<Transport>),
    /// RTP, and where RTCP goes by the description.
    Rtp {
        /// The ports of ours.
        slot: RtpSlot,
        /// Whom to believe.
        latch: Latch,
        /// The described address for RTCP.
        rtcp: Option<SocketAddr>,
        /// Keys, where the media is protected.
        crypto: Crypto,
    },
    /// Plain RTP in place of a browser's transport, in unit tests: to where, and whether the way is up.
    #[cfg(test)]
    Plain(SocketAddr, bool),
}

impl Wire {
    fn rtp(&mut self, buf: &mut [u8], len: usize) -> Option<Transmit> {
        match self {
            Wire::Browser(transport) => {
                let (len, to) = transport.protect_rtp(buf, len).ok()?;
                Some(Transmit { port: Port::Browser, to, len })
            }
            Wire::Rtp { slot, latch, crypto, .. } => {
                let to = latch.destination()?;
                Some(Transmit { port: Port::Rtp(*slot), to, len: crypto.protect_rtp(buf, len)? })
            }
            #[cfg(test)]
            Wire::Plain(to, _) => Some(Transmit { port: Port::Browser, to: *to, len }),
        }
    }

    fn rtcp(&mut self, buf: &mut [u8], len: usize) -> Option<Transmit> {
        match self {
            Wire::Browser(transport) => {
                let (len, to) = transport.protect_rtcp(buf, len).ok()?;
                Some(Transmit { port: Port::Browser, to, len })
            }
            Wire::Rtp { slot, latch, rtcp, crypto } => {
                let to = latch.rtcp_destination(*rtcp)?;
                Some(Transmit { port: Port::Rtcp(*slot), to, len: crypto.protect_rtcp(buf, len)? })
            }
            #[cfg(test)]
            Wire::Plain(to, _) => Some(Transmit { port: Port::Browser, to: *to, len }),
        }
    }
}

/// What is left of an RTP leg with keys: should the same leg come back, as with a fork that is heard again, it goes on from
/// here, so that no part of a key stream is used twice.
pub(super) struct Retired {
    pub ssrc: u32,
    sequence: u16,
    crypto: Crypto,
}

/// One leg.
pub(super) struct Leg {
    pub inbound: Inbound,
    pub outbound: Outbound,
    /// The other party's packets, where they are passed on.
    pub relay: Relay,
    pub wire: Wire,
    pub direction: Direction,
    /// When the next frame is sent.
    pub next_frame: Instant,
    /// When they were last brought into step with a stream.
    aligned: Option<Instant>,
    /// When something could first be sent.
    opened: Option<Instant>,
    /// When the frame after the next is due, where that is not a frame's time later.
    second_frame: Option<Instant>,
    next_report: Instant,
    report_interval: f64,
    cname: String,
    mid: Option<(u8, String)>,
    /// It is carried until as many packets have been sent.
    mid_until: u64,
    epoch: Instant,
    /// Packets sent when the last report was.
    reported: u64,
    /// The last sign of life, RTCP included.
    pub alive: Instant,
    /// Whether sound of this peer was heard at all.
    pub heard_once: bool,
    /// Whether it was by a leg before this one, of the same party (by its CNAME).
    pub heard_before: bool,
    /// Which of the digits of an RTP peer are new.
    pub presses: Presses,
    /// What is measured of it.
    pub gauge: Gauge,
    /// Whether the peer wants VoIP metrics in our reports.
    voip_metrics: bool,
}

impl Leg {
    /// A leg over a browser's transport.
    pub fn browser(now: Instant, rng: &mut StdRng, media: &BrowserMedia, wire: Wire) -> Result<Self, CodecError> {
        let outbound = Outbound::new(rng, media.ssrc, media.send)?;
        let mut leg = Self::new(now, rng, outbound, wire, BROWSER_REPORTS);
        leg.configure_browser(now, media)?;
        Ok(leg)
    }

    /// A leg over RTP; `before` is what a leg with the same SSRC has left.
    pub fn rtp(now: Instant, rng: &mut StdRng, media: &RtpMedia, before: Option<Retired>) -> Result<Self, CodecError> {
        let mut outbound = Outbound::new(rng, media.ssrc, media.send)?;
        let crypto = before.map(|before| {
            outbound.resume(before.sequence);
            before.crypto
        });
        let crypto = crypto.unwrap_or_default();
        let wire = Wire::Rtp { slot: media.slot, latch: Latch::default(), rtcp: None, crypto };
        let mut leg = Self::new(now, rng, outbound, wire, RTP_REPORTS);
        // Random, and a new one for each call (RFC 7022 section 4.2).
        leg.cname = format!("{:016x}", rng.random::<u64>());
        leg.configure_rtp(now, media)?;
        Ok(leg)
    }

    fn new(now: Instant, rng: &mut StdRng, outbound: Outbound, wire: Wire, report_interval: f64) -> Self {
        Self {
            inbound: Inbound::new(rng.random()),
            outbound,
            relay: Relay::default(),
            wire,
            direction: Direction::SendRecv,
            next_frame: now,
            aligned: None,
            opened: None,
            second_frame: None,
            next_report: now + FIRST_REPORT,
            report_interval,
            cname: String::new(),
            mid: None,
            mid_until: 0,
            epoch: now,
            reported: 0,
            alive: now,
            heard_once: false,
            heard_before: false,
            presses: Presses::default(),
            gauge: Gauge::new(now),
            voip_metrics: false,
        }
    }

    pub fn configure_browser(&mut self, now: Instant, media: &BrowserMedia) -> Result<(), CodecError> {
        self.inbound.configure(now, &media.accepted, media.telephone_event.into_iter(), None, media.red)?;
        self.outbound.configure(media.ssrc, media.send, media.ptime, media.opus_fec, media.opus_bitrate)?;
        self.outbound.configure_digits(media.telephone_event, None);
        self.set_direction(media.direction);
        self.cname.clone_from(&media.cname);
        if self.mid != media.mid_extension {
            self.mid.clone_from(&media.mid_extension);
            self.mid_until = self.outbound.packets.saturating_add(PACKETS_WITH_MID);
        }
        self.alive = now;
        Ok(())
    }

    pub fn configure_rtp(&mut self, now: Instant, media: &RtpMedia) -> Result<(), CodecError> {
        let events = media.telephone_event.into_iter().chain(media.accepted_events.iter().copied());
        self.inbound.configure(now, &media.accepted, events, media.comfort_noise, media.red)?;
        self.inbound.listen_for_tones(media.inband);
        self.outbound.configure(media.ssrc, media.send, media.ptime, media.opus_fec, media.opus_bitrate)?;
        self.outbound.configure_digits(media.telephone_event, media.inband);
        self.set_direction(media.direction);
        self.alive = now;
        self.voip_metrics = media.voip_metrics;
        if let Wire::Rtp { latch, rtcp, crypto, .. } = &mut self.wire {
            crypto.configure(now, media.srtp.as_ref());
            latch.describe(media.remote_rtp, &media.sources);
            *rtcp = media.remote_rtcp;
        }
        Ok(())
    }

    /// Digits that wait when nothing may be sent any more are not sent later.
    fn set_direction(&mut self, direction: Direction) {
        if self.direction.sends() && !direction.sends() {
            self.outbound.forget_events();
        }
        self.direction = direction;
    }

    /// Whether this leg takes the place of `other` for the same party: a browser that has come back with another connection.
    pub fn follows(&mut self, other: &Leg) {
        self.heard_before = self.cname == other.cname && (other.heard_once || other.heard_before);
    }

    /// Whether it is a browser's that was heard and is not there now: its transport is down, or neither its sound comes nor
    /// its checks.
    pub fn is_away(&self, now: Instant) -> bool {
        let Wire::Browser(transport) = &self.wire else { return false };
        let there = transport.is_connected() && (self.live(now) || transport.was_checked_within(now, CHECKED));
        !there && (self.heard_once || self.heard_before)
    }

    /// Whether sound of this peer arrives.
    pub fn live(&self, now: Instant) -> bool {
        self.direction.receives()
            && self.inbound.heard().is_some_and(|heard| now.saturating_duration_since(heard) < LIVE)
    }

    /// Plays 20 ms of what the peer says to nobody, so that as much is known of it as if somebody heard it.
    pub fn play_to_nobody(&mut self, now: Instant) {
        let mut longest = [0; LONGEST_FRAME];
        let pcm = longest.get_mut(..self.inbound.rate().frame()).unwrap_or_default();
        self.inbound.pull(now, pcm);
        self.gauge.meter.frame(pcm);
        let _ = self.inbound.take_tone_digits(); // there is nobody who takes them
    }

    /// Notices that something can be sent from now on. The first frame is due at once: what was said since the frames were
    /// brought into step with a stream is there, and the next one is in step again.
    pub fn open(&mut self, now: Instant) {
        if self.opened.is_some() || !self.is_open() {
            return;
        }
        self.opened = Some(now);
        let next = std::mem::replace(&mut self.next_frame, now);
        self.second_frame = self.aligned.map(|_| if next > now { next } else { next + FRAME_TIME });
    }

    /// Whether there is somewhere to send to.
    pub fn is_open(&self) -> bool {
        match &self.wire {
            Wire::Browser(transport) => transport.is_connected(),
            Wire::Rtp { latch, .. } => latch.destination().is_some(),
            #[cfg(test)]
            Wire::Plain(_, up) => *up,
        }
    }

    /// For unit tests: the way of the plain stand-in of a browser comes up, or was not there yet.
    #[cfg(test)]
    pub fn set_up(&mut self, now: Instant, is_up: bool) {
        if let Wire::Plain(_, up) = &mut self.wire {
            *up = is_up;
        }
        self.opened = self.opened.filter(|_| is_up);
        self.open(now);
    }

    /// Whether a browser is not sent silence yet, because the other party's first sound may well come in a moment: its own
    /// playout would be busy with the silence first. An RTP peer may wait for a packet of ours to learn where we are.
    /// While a browser's way takes longer than usual, what is said is listened to again, so that it is known of.
    pub fn waits_for_sound(&self, now: Instant) -> bool {
        let (since, time) = self.opened.map_or((self.epoch, USUAL_SET_UP), |opened| (opened, FIRST_SOUND));
        let waits = now.saturating_duration_since(since) < time;
        waits && !matches!(self.wire, Wire::Rtp { .. }) && self.outbound.packets == 0
    }

    /// Sends one frame at the rate of [`Outbound::rate`], or lets its time pass where nothing may be sent.
    pub fn send(&mut self, pcm: &mut [i16], queue: &mut SendQueue) {
        if !self.direction.sends() || !self.is_open() {
            return self.pass();
        }
        self.frame_over();
        let Self { outbound, wire, mid, mid_until, .. } = self;
        let extension = mid.as_ref().filter(|_| outbound.packets < *mid_until);
        outbound.frame(pcm, |packet| {
            queue.push(|buf| {
                let len = write_packet(buf, &packet, extension).ok()?;
                wire.rtp(buf, len)
            })
        });
    }

    /// Passes another party's packet of `duration` clock units on.
    pub fn pass_on(&mut self, now: Instant, packet: &RtpPacket<'_>, duration: u32, queue: &mut SendQueue) {
        let micros = |time: Duration| time.as_micros() as i64;
        let ahead = match self.next_frame.checked_duration_since(now) {
            Some(ahead) => micros(ahead),
            None => -micros(now.saturating_duration_since(self.next_frame)),
        };
        let Self { outbound, relay, wire, mid, mid_until, .. } = self;
        let Some(place) = relay.place(now, &packet.header, outbound.line(ahead)) else { return };
        let extension = mid.as_ref().filter(|_| outbound.packets < *mid_until);
        outbound.pass_on(place, packet, duration, |packet| {
            queue.push(|buf| {
                let len = write_packet(buf, &packet, extension).ok()?;
                wire.rtp(buf, len)
            })
        });
    }

    /// Lets one frame's time pass without sending.
    pub fn pass(&mut self) {
        self.frame_over();
        self.outbound.skip_frame();
    }

    fn frame_over(&mut self) {
        self.next_frame = self.second_frame.take().unwrap_or(self.next_frame + FRAME_TIME);
    }

    /// Makes frames fall due in step with `due`, by letting at most one frame's time pass; the first one that is sent falls
    /// due then. Not again for a while: whatever comes in, fifty packets a second go out.
    pub fn align(&mut self, due: Instant) {
        if self.aligned.is_some_and(|aligned| due.saturating_duration_since(aligned) < ALIGN_EVERY) {
            return;
        }
        self.aligned = Some(due);
        if self.outbound.packets == 0 {
            self.next_frame = due;
            return;
        }
        let frame = FRAME_TIME.as_micros() as u64;
        let wait = match due.checked_duration_since(self.next_frame) {
            Some(ahead) => ahead.as_micros() as u64 % frame,
            None => (frame - self.next_frame.duration_since(due).as_micros() as u64 % frame) % frame,
        };
        let ms = wait.div_ceil(1_000) % u64::from(FRAME_MS);
        if ms > 0 {
            self.outbound.skip_ms(ms as u32);
            self.next_frame += Duration::from_millis(ms);
        }
    }

    /// After a stop of the whole process: the time is let pass, its sound is not sent late.
    pub fn catch_up(&mut self, now: Instant) {
        let behind = now.saturating_duration_since(self.next_frame);
        if behind > CATCH_UP {
            let frames = (behind.as_micros() / FRAME_TIME.as_micros()).min(u128::from(u32::MAX)) as u32;
            self.outbound.skip_ms(frames.wrapping_mul(FRAME_MS));
            self.next_frame += FRAME_TIME * frames;
        }
    }

    /// When the next report is due.
    pub fn next_report(&self) -> Instant {
        self.next_report
    }

    /// Sends a report, with BYE when we leave, and plans the next at a random time (RFC 3550 section 6.3).
    ///
    /// `onward`: the loss that the other party reports of what is passed on to it, in 256ths. Gaps are passed on too, so that is
    /// all the loss on the way, and the sender's redundancy is to cover it.
    pub fn report(&mut self, now: Instant, rng: &mut StdRng, bye: bool, onward: Option<u8>, queue: &mut SendQueue) {
        let seconds = self.report_interval * (0.5 + rng.random::<f64>());
        self.next_report = now + Duration::from_secs_f64(seconds);
        let sent = self.outbound.packets > self.reported;
        if bye && self.outbound.packets == 0 && self.inbound.packets == 0 {
            // Who was never heard of need not leave (RFC 3550 section 6.3.7).
            return;
        }
        self.reported = self.outbound.packets;
        let compound = Compound {
            ssrc: self.outbound.ssrc(),
            sender: sent.then(|| self.sender_info(now)),
            report: self.inbound.stats.report(now).map(|block| ReportBlock {
                fraction_lost: block.fraction_lost.max(onward.unwrap_or_default()),
                ..block
            }),
            cname: &self.cname,
            bye,
        };
        // A BYE is the last of its packet.
        let metrics = if self.voip_metrics && !bye { self.gauge.voip_metrics(now, &self.inbound) } else { None };
        let wire = &mut self.wire;
        queue.push(|buf| {
            let mut len = compound.write(buf).ok()?;
            if let Some(metrics) = metrics {
                len += metrics.write(compound.ssrc, buf.get_mut(len..)?).ok()?;
            }
            wire.rtcp(buf, len)
        });
    }

    /// Says goodbye to the peer: the leg is over.
    pub fn leave(&mut self, now: Instant, rng: &mut StdRng, queue: &mut SendQueue) {
        self.report(now, rng, true, None, queue);
        if let Wire::Browser(transport) = &mut self.wire {
            transport.close();
        }
    }

    /// The same for a leg that is dropped now: what its transport has to say yet is queued.
    pub fn drop_out(mut self, now: Instant, rng: &mut StdRng, queue: &mut SendQueue) -> (LegStats, Option<Retired>) {
        self.leave(now, rng, queue);
        if let Wire::Browser(transport) = &mut self.wire {
            while queue.push(|buf| {
                let (len, to) = transport.poll_transmit(buf)?;
                Some(Transmit { port: Port::Browser, to, len })
            }) {}
        }
        let stats = self.stats();
        let (ssrc, sequence) = (self.outbound.ssrc(), self.outbound.sequence());
        let retired = match self.wire {
            Wire::Rtp { crypto, .. } if crypto.has_keys() => Some(Retired { ssrc, sequence, crypto }),
            _ => None,
        };
        (stats, retired)
    }

    fn sender_info(&self, now: Instant) -> SenderInfo {
        let (timestamp, clock_rate) = self.outbound.clock();
        // The next frame's timestamp belongs to a moment a little ahead of us, as a rule.
        let units = |time: Duration| (time.as_micros() as u64 * u64::from(clock_rate) / 1_000_000) as u32;
        let rtp_timestamp = match self.next_frame.checked_duration_since(now) {
            Some(ahead) => timestamp.wrapping_sub(units(ahead)),
            None => timestamp.wrapping_add(units(now.saturating_duration_since(self.next_frame))),
        };
        SenderInfo {
            ntp: ntp(now.saturating_duration_since(self.epoch)),
            rtp_timestamp,
            packets: self.outbound.packets as u32,
            octets: self.outbound.bytes as u32,
        }
    }

    /// Takes the peer's RTCP.
    pub fn rtcp(&mut self, now: Instant, compound: &[u8]) {
        let Self { inbound, outbound, alive, gauge, epoch, .. } = self;
        let middle = (ntp(now.saturating_duration_since(*epoch)) >> 16) as u32;
        // What is malformed tells nothing; the items before it did.
        let whole = crate::rtp::rtcp::read(compound, |item| {
            *alive = now;
            match item {
                RtcpItem::Sender { info, .. } => inbound.stats.sender_report(now, info.ntp),
                // One in our own name is our own, which the peer sends back.
                RtcpItem::Report { from, block } if block.ssrc == outbound.ssrc() && from != outbound.ssrc() => {
                    outbound.peer_loss(now, block.fraction_lost);
                    gauge.peer_report(now, middle, block);
                }
                RtcpItem::Bye { ssrc } => inbound.stats.bye(ssrc),
                RtcpItem::Report { .. } => {}
            }
        });
        // A report about nothing is a sign of life too.
        if whole.is_ok() {
            *alive = now;
        }
        if *alive == now {
            inbound.still_there(now);
        }
    }

    /// What is known of the leg now.
    pub fn facts(&self, now: Instant) -> Facts {
        let link = match &self.wire {
            Wire::Browser(transport) if transport.is_connected() => Link::Up,
            Wire::Browser(transport) if transport.was_checked() => Link::NoDtls,
            Wire::Browser(_) => Link::NoIce,
            _ => Link::Up,
        };
        let refused = &self.inbound.refused;
        let came = Came {
            taken: self.inbound.packets,
            strangers: refused.strangers,
            unauthentic: refused.unauthentic + self.srtp_refused(),
            unknown: refused.unknown,
        };
        let reachable = match &self.wire {
            Wire::Rtp { latch, .. } => latch.destination().is_some(),
            _ => true,
        };
        Facts {
            link,
            sends: self.direction.sends() && reachable,
            receives: self.direction.receives(),
            came,
            paused: self.inbound.is_paused(now),
            sounded: self.gauge.meter.sounded(),
            alive: now.saturating_duration_since(self.alive) < ALIVE,
        }
    }

    /// What was measured since the last time.
    pub fn measure(&mut self, now: Instant) -> Measured {
        self.gauge.measure(now, &self.inbound, &self.outbound)
    }

    fn srtp_refused(&self) -> u64 {
        match &self.wire {
            Wire::Browser(transport) => transport.stats().srtp_refused,
            _ => 0,
        }
    }

    /// The leg's counters.
    pub fn stats(&self) -> LegStats {
        let (sound, times) = (self.inbound.sound(), self.times());
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        LegStats {
            packets_in: self.inbound.packets,
            bytes_in: self.inbound.bytes,
            packets_out: self.outbound.packets,
            bytes_out: self.outbound.bytes,
            lost: self.inbound.stats.lost(),
            repaired: self.inbound.repaired(),
            jitter_ms: self.inbound.stats.jitter_ms(),
            concealed_ms: sound.concealed_ms,
            accelerated_ms: sound.accelerated_ms,
            stretched_ms: sound.stretched_ms,
            rejected: self.inbound.refused.total() + self.srtp_refused(),
            ice_ms: times.ice.map(millis),
            dtls_ms: times.dtls.map(millis),
        }
    }

    /// How long the set-up of a browser's transport took.
    fn times(&self) -> TransportTimes {
        match &self.wire {
            Wire::Browser(transport) => transport.times(),
            _ => TransportTimes::default(),
        }
    }
}

/// NTP time, 32.32 fixed point, so long after the leg began.
fn ntp(elapsed: Duration) -> u64 {
    let fraction = (u64::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000;
    ((NTP_START + elapsed.as_secs()) << 32) | fraction
}

fn write_packet(buf: &mut [u8], packet: &Packet<'_>, extension: Option<&(u8, String)>) -> Result<usize, RtpError> {
    let start = match extension {
        Some((id, mid)) => packet.header.write_with_extension(buf, *id, mid.as_bytes())?,
        None => packet.header.write(buf)?,
    };
    let end = start + packet.payload.len();
    buf.get_mut(start..end).ok_or(RtpError::BufferSize)?.copy_from_slice(packet.payload);
    Ok(end)
}
