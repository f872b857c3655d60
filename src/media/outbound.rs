//! The sending half of a leg: frames of 20 ms in, packets on a time line of its own out.
//!
//! The time line is exact: each frame advances it by 20 ms whether or not something is sent, so a timestamp is always the
//! time it stands for. Sequence numbers count packets sent.

use std::time::Instant;

use rand::RngExt;
use rand::rngs::StdRng;

use super::digits::{DigitSender, DigitStep};
use super::effort::Effort;
use super::redundancy::Redundancy;
use super::relay::{Line, Place};
use super::{FRAME_MS, LONGEST_FRAME};
use crate::codec::opus::OpusSettings;
use crate::codec::{Codec, CodecError, Encoder, Rate};
use crate::rtp::event::EventSender;
use crate::rtp::packet::{RtpHeader, RtpPacket};
use crate::sdp::{AcceptedCodec, InBand, TelephoneEvent};

/// Samples of the longest packet that we send: 60 ms.
const LONGEST: usize = 3 * LONGEST_FRAME;
/// Bytes of the largest payload: 60 ms of G.711 or G.722.
const LARGEST: usize = 480;

/// The sending half.
#[derive(Debug)]
pub(super) struct Outbound {
    ssrc: u32,
    sequence: u16,
    /// Timestamp of the sample that the next frame begins with.
    timestamp: u32,
    send: AcceptedCodec,
    encoder: Encoder,
    rate: Rate,
    /// Milliseconds of a packet.
    packet_ms: u32,
    /// Samples that wait for their packet to be full.
    pending: [i16; LONGEST + LONGEST_FRAME],
    pending_len: usize,
    digits: Option<DigitSender>,
    /// The end of what was sent, on our time line.
    end: Option<u32>,
    /// Packets of our own were sent: in this step, and since the last that was passed on.
    emitted: bool,
    interrupted: bool,
    marker: bool,
    /// Whether the peer can use redundancy, and how much it needs.
    fec: bool,
    redundancy: Redundancy,
    effort: Effort,
    /// The most bits per second of Opus that the peer takes.
    most: Option<u32>,
    /// Packets sent, and their payload bytes.
    pub packets: u64,
    pub bytes: u64,
}

/// A packet to be sent.
pub(super) struct Packet<'a> {
    pub header: RtpHeader,
    pub payload: &'a [u8],
}

impl Outbound {
    pub fn new(rng: &mut StdRng, ssrc: u32, send: AcceptedCodec) -> Result<Self, CodecError> {
        Ok(Self {
            ssrc,
            // Below 2^15: a receiver of SRTP that misses the first packets still guesses the rollover counter (RFC 3711
            // section 3.3.1).
            sequence: rng.random::<u16>() >> 1,
            timestamp: rng.random(),
            send,
            encoder: encoder(send.codec, Rate::Narrow)?,
            rate: Rate::Narrow,
            packet_ms: FRAME_MS,
            pending: [0; LONGEST + LONGEST_FRAME],
            pending_len: 0,
            digits: None,
            end: None,
            emitted: false,
            interrupted: false,
            marker: true,
            fec: false,
            redundancy: Redundancy::new(),
            effort: Effort::default(),
            most: None,
            packets: 0,
            bytes: 0,
        })
    }

    /// The number of the next packet.
    pub fn sequence(&self) -> u16 {
        self.sequence
    }

    /// Goes on after the packets of a leg that this one continues.
    pub fn resume(&mut self, sequence: u16) {
        self.sequence = sequence;
    }

    /// Takes what was negotiated; `fec` and `most` (bits per second) are for Opus. Sequence and timestamp go on.
    pub fn configure(
        &mut self,
        ssrc: u32,
        send: AcceptedCodec,
        ptime: u8,
        fec: bool,
        most: Option<u32>,
    ) -> Result<(), CodecError> {
        if send.codec != self.send.codec {
            let rate = if send.codec.is_wideband() { self.rate } else { Rate::Narrow };
            self.encoder = encoder(send.codec, rate)?;
            self.rate = rate;
            self.restart();
        }
        self.ssrc = ssrc;
        self.send = send;
        self.fec = fec && send.codec == Codec::Opus;
        self.most = most;
        let packet_ms = packet_ms(send.codec, ptime);
        if packet_ms != self.packet_ms {
            self.packet_ms = packet_ms;
            self.restart();
        }
        self.apply_settings();
        Ok(())
    }

    /// How digits are sent: as telephone events, else as tones where those are wanted, else not at all.
    pub fn configure_digits(&mut self, event: Option<TelephoneEvent>, inband: Option<InBand>) {
        self.digits = DigitSender::of(event, inband, self.digits.take());
    }

    /// The rate of the frames that are taken.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes frames at another rate from now on.
    ///
    /// # Errors
    /// The codec cannot take that rate; the old one stays.
    pub fn set_rate(&mut self, rate: Rate) -> Result<(), CodecError> {
        if rate != self.rate {
            self.encoder = encoder(self.send.codec, rate)?;
            self.rate = rate;
            self.apply_settings();
            self.restart();
        }
        Ok(())
    }

    /// The sender of digits, where they go in RTP, as events or as tones.
    pub fn events(&mut self) -> Option<&mut EventSender> {
        self.digits.as_mut().map(DigitSender::events)
    }

    /// Whether digits are tones in the sound: it has to be encoded here then.
    pub fn sends_tones(&self) -> bool {
        self.digits.as_ref().is_some_and(DigitSender::sends_tones)
    }

    /// Drops the digits that sound or wait.
    pub fn forget_events(&mut self) {
        if let Some(digits) = &mut self.digits {
            digits.forget();
        }
    }

    /// What was gathered is dropped; the next packet begins a talk spurt.
    pub fn restart(&mut self) {
        self.pending_len = 0;
        self.marker = true;
    }

    /// Sends one frame of [`rate`](Self::rate): hands each packet that is complete to `sink`, which says whether it went out.
    pub fn frame(&mut self, pcm: &mut [i16], mut sink: impl FnMut(Packet<'_>) -> bool) {
        if let Some(end) = self.end.filter(|end| end.wrapping_sub(self.timestamp) as i32 > 0) {
            // What was passed on ends in the middle of this frame's time.
            self.timestamp = end;
        }
        let rate = self.rate;
        let step = self.digits.as_mut().map(|digits| digits.step(self.timestamp, rate, pcm));
        if let Some(DigitStep::Packet { payload_type, event }) = step {
            self.pending_len = 0;
            self.emit(payload_type, event.timestamp, event.marker, &event.payload, &mut sink);
            // The sound after a digit begins a spurt.
            self.marker = true;
            self.advance(FRAME_MS);
            return;
        }
        let gathered = self.pending_len;
        if let Some(room) = self.pending.get_mut(gathered..gathered + pcm.len()) {
            room.copy_from_slice(pcm);
            self.pending_len += pcm.len();
        }
        let packet = (self.packet_ms * self.rate.hz() / 1_000) as usize;
        let mut start = self.timestamp.wrapping_sub(self.units(gathered as u32 * 1_000 / self.rate.hz()));
        let mut done = 0;
        while self.pending_len - done >= packet {
            let mut payload = [0; LARGEST];
            let samples = self.pending.get(done..done + packet).unwrap_or_default();
            if let Ok(len) = self.encoder.encode(samples, &mut payload) {
                let marker = std::mem::take(&mut self.marker);
                self.emit(self.send.payload_type, start, marker, payload.get(..len).unwrap_or_default(), &mut sink);
            }
            done += packet;
            start = start.wrapping_add(self.units(self.packet_ms));
        }
        self.pending.copy_within(done..self.pending_len, 0);
        self.pending_len -= done;
        self.advance(FRAME_MS);
    }

    /// Lets one frame of time pass without sending.
    pub fn skip_frame(&mut self) {
        self.skip_ms(FRAME_MS);
    }

    /// Lets time pass without sending: what follows begins a talk spurt.
    pub fn skip_ms(&mut self, ms: u32) {
        self.restart();
        self.advance(ms);
    }

    fn advance(&mut self, ms: u32) {
        self.timestamp = self.timestamp.wrapping_add(self.units(ms));
        if std::mem::take(&mut self.emitted) {
            self.end = Some(self.timestamp);
            self.interrupted = true;
        }
    }

    /// Our time line as it is `ahead` microseconds before the next frame (after it, where that is negative).
    pub fn line(&self, ahead: i64) -> Line {
        let per_ms = self.send.codec.clock_rate() / 1_000;
        let units = ahead * i64::from(per_ms) / 1_000;
        Line {
            per_ms: per_ms as i32,
            now: self.timestamp.wrapping_sub(units as u32),
            end: self.end,
            next: self.sequence,
            interrupted: self.interrupted,
        }
    }

    /// Sends another party's packet of `duration` clock units in its place; `sink` says whether it went out.
    pub fn pass_on(
        &mut self,
        place: Place,
        packet: &RtpPacket<'_>,
        duration: u32,
        sink: impl FnOnce(Packet<'_>) -> bool,
    ) {
        let header = RtpHeader {
            marker: packet.header.marker || place.first,
            payload_type: self.send.payload_type,
            sequence: place.sequence,
            timestamp: place.timestamp,
            ssrc: self.ssrc,
        };
        if !sink(Packet { header, payload: packet.payload }) {
            return;
        }
        self.packets += 1;
        self.bytes += packet.payload.len() as u64;
        if let Some(shift) = place.newest {
            self.sequence = place.sequence.wrapping_add(1);
            self.timestamp = self.timestamp.wrapping_add(shift as u32);
            let end = place.timestamp.wrapping_add(duration);
            let before = self.end.filter(|before| before.wrapping_sub(end) as i32 > 0);
            self.end = before.or(Some(end));
            self.interrupted = false;
        }
    }

    /// Whether digits are sent or wait.
    pub fn sends_digits(&self) -> bool {
        self.digits.as_ref().is_some_and(DigitSender::busy)
    }

    /// Milliseconds in units of the RTP clock, wrapping as timestamps do.
    fn units(&self, ms: u32) -> u32 {
        ms.wrapping_mul(self.send.codec.clock_rate() / 1_000)
    }

    fn emit(
        &mut self,
        payload_type: u8,
        timestamp: u32,
        marker: bool,
        payload: &[u8],
        sink: &mut impl FnMut(Packet<'_>) -> bool,
    ) {
        let header = RtpHeader { marker, payload_type, sequence: self.sequence, timestamp, ssrc: self.ssrc };
        if sink(Packet { header, payload }) {
            self.sequence = self.sequence.wrapping_add(1);
            self.packets += 1;
            self.bytes += payload.len() as u64;
            self.emitted = true;
        } else {
            // It did not go out (no keys yet, say): the first that does begins the spurt.
            self.marker |= marker;
        }
    }

    /// The length of a packet, in milliseconds.
    pub fn packet_ms(&self) -> u32 {
        self.packet_ms
    }

    /// What we send.
    pub fn codec(&self) -> Codec {
        self.send.codec
    }

    /// Our SSRC.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The timestamp of the next frame, and the clock it counts in.
    pub fn clock(&self) -> (u32, u32) {
        (self.timestamp, self.send.codec.clock_rate())
    }

    /// Takes the loss that the peer reports, in 256ths: redundancy follows it, of sound and of digits.
    pub fn peer_loss(&mut self, now: Instant, fraction: u8) {
        self.redundancy.reported(now, fraction);
        self.apply_settings();
    }

    /// Takes so much work for what is encoded from now on.
    pub fn set_effort(&mut self, effort: Effort) {
        if self.effort != effort {
            self.effort = effort;
            self.apply_settings();
        }
    }

    fn apply_settings(&mut self) {
        // The encoder goes on as it was when it does not take a setting.
        let _ = self.encoder.set_most(self.most);
        let fec = self.fec && self.effort < Effort::Least;
        let _ = self.encoder.set_fec(self.redundancy.expected().filter(|_| fec));
        let usual = OpusSettings::of(self.rate).complexity;
        let _ = self.encoder.set_complexity(if self.effort > Effort::Full { 0 } else { usual });
        if let Some(digits) = &mut self.digits {
            digits.events().set_lossy(self.redundancy.lossy());
        }
    }
}

fn encoder(codec: Codec, rate: Rate) -> Result<Encoder, CodecError> {
    Encoder::new(codec, rate, OpusSettings::of(rate))
}

/// The length of a packet that `codec` can make and we want to send, in milliseconds: 10 to 60.
fn packet_ms(codec: Codec, ptime: u8) -> u32 {
    match (codec, ptime) {
        (_, 10 | 20 | 40 | 60) => u32::from(ptime),
        (Codec::Pcmu | Codec::Pcma | Codec::G722, 30 | 50) => u32::from(ptime),
        _ => FRAME_MS,
    }
}
