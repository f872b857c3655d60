//! What is measured of one leg, second by second.

use std::time::{Duration, Instant};

use super::inbound::Inbound;
use super::level::Meter;
use super::outbound::Outbound;
use super::quality::Impairment;
use crate::rtp::rtcp::ReportBlock;
use crate::rtp::xr::VoipMetrics;
use crate::sdp::{FlowQuality, Heard, LegQuality};

/// A packet's own length: it is not whole before.
const PACKET_MS: f32 = 20.0;
/// What a receiver that does not tell is taken to hold back.
const USUAL_BUFFER_MS: f32 = 40.0;
/// More is never held: the bound of the playout's buffer.
const LONGEST_BUFFER_MS: u32 = 600;
/// A peer's report says nothing any more after this.
const REPORT_HOLDS: Duration = Duration::from_secs(15);
/// No round trip is longer: what says so is not about our reports.
const LONGEST_ROUND_TRIP: u32 = 10 << 16;

/// The counters of a leg at the last measurement, and what its peer reports.
#[derive(Debug)]
pub(super) struct Gauge {
    /// How loud the peer is.
    pub meter: Meter,
    /// How loud he was in the second before.
    level_db: i8,
    at: Instant,
    packets: u64,
    expected: u64,
    lost: u64,
    gaps: u64,
    concealed_ms: u64,
    peer: Option<(Instant, ReportBlock)>,
    /// The last round trip, in 65,536ths of a second.
    round_trip: Option<u32>,
}

/// What one measurement of a leg yields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    pub inbound: Option<(FlowQuality, Impairment)>,
    /// What it takes away from what we send.
    onward: Impairment,
    outbound: Option<FlowQuality>,
    rtt_ms: Option<u16>,
    level_db: i8,
}

impl Measured {
    /// As it is reported; `speaker` is the other leg, if its party is heard.
    pub fn report(&self, speaker: Option<&Measured>) -> LegQuality {
        let spoken = speaker.and_then(|speaker| speaker.inbound).map(|(_, impairment)| impairment.and(self.onward));
        let hears = spoken.map(|way| Heard { delay_ms: whole(way.delay_ms), mos: way.mos() });
        LegQuality {
            inbound: self.inbound.map(|(flow, _)| flow),
            outbound: self.outbound,
            rtt_ms: self.rtt_ms,
            hears,
            level_db: self.level_db,
        }
    }
}

impl Gauge {
    pub fn new(now: Instant) -> Self {
        Self {
            meter: Meter::default(),
            level_db: -100,
            at: now,
            packets: 0,
            expected: 0,
            lost: 0,
            gaps: 0,
            concealed_ms: 0,
            peer: None,
            round_trip: None,
        }
    }

    /// Takes the peer's report on what we send; `ntp` is our time in the middle 32 bits of NTP's
    /// (RFC 3550 section 6.4.1: the round trip is `A - LSR - DLSR`).
    pub fn peer_report(&mut self, now: Instant, ntp: u32, block: ReportBlock) {
        let round_trip = ntp.wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_last_sr);
        if block.last_sr != 0 && round_trip < LONGEST_ROUND_TRIP {
            self.round_trip = Some(round_trip);
        }
        self.peer = Some((now, block));
    }

    /// The loss in 256ths that the peer reports of what we send, as long as its report holds.
    pub fn loss_reported(&self, now: Instant) -> Option<u8> {
        let (at, block) = self.peer?;
        (now.saturating_duration_since(at) <= REPORT_HOLDS).then_some(block.fraction_lost)
    }

    fn rtt_ms(&self) -> Option<f32> {
        self.round_trip.map(|units| units as f32 * 1_000.0 / 65_536.0)
    }

    /// What RFC 3611 tells of the peer's stream, since its beginning; `None` before it has begun.
    pub fn voip_metrics(&self, now: Instant, inbound: &Inbound) -> Option<VoipMetrics> {
        let stats = &inbound.stats;
        let (ssrc, codec) = (stats.ssrc()?, inbound.codec()?);
        let (expected, lost, gaps) = (stats.expected().max(1) as f32, stats.lost() as f32, stats.gaps().max(1) as f32);
        let loss = (lost / expected).min(1.0);
        let missed = (inbound.concealed_ms() as f32 / (expected * PACKET_MS)).clamp(loss, 1.0);
        let buffer = inbound.delay_ms();
        let round_trip = self.rtt_ms().unwrap_or(0.0);
        let burst_ratio = lost / gaps * (1.0 - loss);
        let heard = Impairment::new(codec, missed, burst_ratio, 0.0);
        let talked = Impairment { delay_ms: round_trip / 2.0 + PACKET_MS + buffer as f32, ..heard };
        let tenths = |impairment: Impairment| (impairment.mos().value() * 10.0).round() as u8;
        let share = |share: f32| (share * 256.0).min(255.0) as u8;
        Some(VoipMetrics {
            ssrc,
            loss_rate: share(loss),
            discard_rate: share(missed - loss),
            bursts: stats.bursts().metrics(PACKET_MS as u32),
            round_trip_ms: whole(round_trip),
            end_system_ms: whole(PACKET_MS + buffer as f32),
            signal_level: self.level_db,
            r_factor: talked.rating().round() as u8,
            mos_lq: tenths(heard),
            mos_cq: tenths(talked),
            jitter_buffer_ms: [buffer, inbound.target_ms(now).max(buffer), LONGEST_BUFFER_MS]
                .map(|ms| whole(ms as f32)),
        })
    }

    /// Measures the time since the last measurement.
    pub fn measure(&mut self, now: Instant, inbound: &Inbound, outbound: &Outbound) -> Measured {
        self.level_db = self.meter.take_db();
        let one_way = self.rtt_ms().unwrap_or(0.0) / 2.0;
        let onward = self.outbound(now, outbound, one_way);
        Measured {
            inbound: self.inbound(now, inbound, one_way),
            onward: onward.map_or_else(
                || Impairment::new(outbound.codec(), 0.0, 1.0, one_way + PACKET_MS + USUAL_BUFFER_MS),
                |(_, impairment)| impairment,
            ),
            outbound: onward.map(|(flow, _)| flow),
            rtt_ms: self.rtt_ms().map(whole),
            level_db: self.level_db,
        }
    }

    fn inbound(&mut self, now: Instant, inbound: &Inbound, one_way: f32) -> Option<(FlowQuality, Impairment)> {
        let stats = &inbound.stats;
        let elapsed = now.saturating_duration_since(std::mem::replace(&mut self.at, now)).as_millis().max(1) as f32;
        let came = grown(&mut self.packets, inbound.packets);
        let expected = grown(&mut self.expected, stats.expected());
        let lost = grown(&mut self.lost, stats.lost()).min(expected);
        let gaps = grown(&mut self.gaps, stats.gaps());
        let concealed = grown(&mut self.concealed_ms, inbound.concealed_ms()) as f32;
        if came == 0 && !inbound.is_paused(now) {
            return None;
        }
        let codec = inbound.codec()?;
        let share = lost as f32 / expected.max(1) as f32;
        // Chance alone makes runs of 1 / (1 - share) packets.
        let burst_ratio = if gaps > 0 { lost as f32 / gaps as f32 * (1.0 - share) } else { 1.0 };
        let delay = one_way + PACKET_MS + inbound.delay_ms() as f32;
        let impairment = Impairment::new(codec, concealed / elapsed, burst_ratio, delay);
        let flow = FlowQuality {
            codec,
            loss_permille: whole(share * 1_000.0),
            jitter_ms: stats.jitter_ms().min(u32::from(u16::MAX)) as u16,
            concealed_ms: Some(whole(concealed * 1_000.0 / elapsed)),
            buffer_ms: Some(whole(inbound.buffered_ms() as f32)),
            delay_ms: whole(impairment.delay_ms),
            mos: impairment.mos(),
        };
        Some((flow, impairment))
    }

    fn outbound(&self, now: Instant, outbound: &Outbound, one_way: f32) -> Option<(FlowQuality, Impairment)> {
        let (at, block) = self.peer?;
        if now.saturating_duration_since(at) > REPORT_HOLDS {
            return None;
        }
        let codec = outbound.codec();
        let share = f32::from(block.fraction_lost) / 256.0;
        let impairment = Impairment::new(codec, share, 1.0, one_way + PACKET_MS + USUAL_BUFFER_MS);
        let flow = FlowQuality {
            codec,
            loss_permille: whole(share * 1_000.0),
            jitter_ms: whole(block.jitter as f32 * 1_000.0 / codec.clock_rate() as f32),
            concealed_ms: None,
            buffer_ms: None,
            delay_ms: whole(impairment.delay_ms),
            mos: impairment.mos(),
        };
        Some((flow, impairment))
    }
}

/// How much a counter has grown since the last time; one that shrank (a late packet is no loss any more) has not.
fn grown(before: &mut u64, now: u64) -> u64 {
    now.saturating_sub(std::mem::replace(before, now))
}

fn whole(value: f32) -> u16 {
    value.round().clamp(0.0, f32::from(u16::MAX)) as u16
}
