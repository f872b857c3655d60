//! The sending half of a leg: frames of 20 ms in, packets on a time line of its own out.
//!
//! The time line is exact: each frame advances it by 20 ms whether or not something is sent, so a timestamp is always the
//! time it stands for. Sequence numbers count packets sent.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{FRAME, FRAME_MS};
use crate::codec::opus::OpusSettings;
use crate::codec::{Codec, CodecError, Encoder, Rate, SAMPLE_RATE};
use crate::rtp::event::{EventSender, EventStep};
use crate::rtp::packet::RtpHeader;
use crate::sdp::{AcceptedCodec, TelephoneEvent};

/// Samples of the longest packet that we send: 60 ms.
const LONGEST: usize = 480;
/// Bytes of the largest payload: 60 ms of G.711.
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
    /// Samples of a packet.
    packet: usize,
    pending: [i16; LONGEST + FRAME],
    pending_len: usize,
    event: Option<(u8, EventSender)>,
    marker: bool,
    /// Whether the peer can use redundancy, and the loss it reports in percent, smoothed.
    fec: bool,
    loss: f32,
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
            encoder: Encoder::new(send.codec, Rate::Narrow, OpusSettings::default())?,
            packet: FRAME,
            pending: [0; LONGEST + FRAME],
            pending_len: 0,
            event: None,
            marker: true,
            fec: false,
            loss: 0.0,
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

    /// Takes what was negotiated. Sequence and timestamp go on.
    pub fn configure(
        &mut self,
        ssrc: u32,
        send: AcceptedCodec,
        event: Option<TelephoneEvent>,
        ptime: u8,
        fec: bool,
    ) -> Result<(), CodecError> {
        if send.codec != self.send.codec {
            self.encoder = Encoder::new(send.codec, Rate::Narrow, OpusSettings::default())?;
            self.restart();
        }
        self.ssrc = ssrc;
        self.send = send;
        self.fec = fec && send.codec == Codec::Opus;
        let packet = packet_samples(send.codec, ptime);
        if packet != self.packet {
            self.packet = packet;
            self.restart();
        }
        let kept = self.event.take();
        self.event = event.map(|event| match kept {
            Some((_, sender)) if sender.clock_rate() == event.clock_rate => (event.payload_type, sender),
            _ => (event.payload_type, EventSender::new(event.clock_rate)),
        });
        Ok(())
    }

    /// The sender of digits, where they were negotiated.
    pub fn events(&mut self) -> Option<&mut EventSender> {
        self.event.as_mut().map(|(_, sender)| sender)
    }

    /// Drops the digits that sound or wait.
    pub fn forget_events(&mut self) {
        if let Some((_, sender)) = &mut self.event {
            *sender = EventSender::new(sender.clock_rate());
        }
    }

    /// What was gathered is dropped; the next packet begins a talk spurt.
    pub fn restart(&mut self) {
        self.pending_len = 0;
        self.marker = true;
    }

    /// Sends one frame: hands each packet that is complete to `sink`, which says whether it went out.
    pub fn frame(&mut self, pcm: &[i16; FRAME], mut sink: impl FnMut(Packet<'_>) -> bool) {
        let clock_rate = self.send.codec.clock_rate();
        if let Some((payload_type, sender)) = &mut self.event
            && let EventStep::Packet(event) = sender.step(self.timestamp, sender.clock_rate() * FRAME_MS / 1_000)
        {
            let payload_type = *payload_type;
            self.pending_len = 0;
            self.emit(payload_type, event.timestamp, event.marker, &event.payload, &mut sink);
            // The sound after a digit begins a spurt.
            self.marker = true;
            self.advance(FRAME);
            return;
        }
        let gathered = self.pending_len;
        if let Some(room) = self.pending.get_mut(gathered..gathered + FRAME) {
            room.copy_from_slice(pcm);
            self.pending_len += FRAME;
        }
        let scale = clock_rate / SAMPLE_RATE;
        let mut start = self.timestamp.wrapping_sub(gathered as u32 * scale);
        let mut done = 0;
        while self.pending_len - done >= self.packet {
            let mut payload = [0; LARGEST];
            let samples = self.pending.get(done..done + self.packet).unwrap_or_default();
            if let Ok(len) = self.encoder.encode(samples, &mut payload) {
                let marker = std::mem::take(&mut self.marker);
                self.emit(self.send.payload_type, start, marker, payload.get(..len).unwrap_or_default(), &mut sink);
            }
            done += self.packet;
            start = start.wrapping_add(self.packet as u32 * scale);
        }
        self.pending.copy_within(done..self.pending_len, 0);
        self.pending_len -= done;
        self.advance(FRAME);
    }

    /// Lets one frame of time pass without sending.
    pub fn skip_frame(&mut self) {
        self.skip_samples(FRAME);
    }

    /// Lets time pass without sending: what follows begins a talk spurt.
    pub fn skip_samples(&mut self, samples: usize) {
        self.restart();
        self.advance(samples);
    }

    fn advance(&mut self, samples: usize) {
        let scale = self.send.codec.clock_rate() / SAMPLE_RATE;
        self.timestamp = self.timestamp.wrapping_add((samples as u32).wrapping_mul(scale));
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
        } else {
            // It did not go out (no keys yet, say): the first that does begins the spurt.
            self.marker |= marker;
        }
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

    /// Takes the loss that the peer reports, in 256ths: redundancy follows it.
    pub fn peer_loss(&mut self, fraction: u8) {
        let percent = f32::from(fraction) * 100.0 / 256.0;
        // Up at once, down slowly.
        self.loss = if percent > self.loss { percent } else { self.loss * 0.8 + percent * 0.2 };
        let expected = (self.fec && self.loss >= 1.0).then_some((self.loss.ceil() as u8).min(30));
        // The encoder goes on as it was when it does not take the setting.
        let _ = self.encoder.set_fec(expected);
    }
}

/// Samples of a packet of `ptime` milliseconds that `codec` can make and we want to send: 10 to 60 ms.
fn packet_samples(codec: Codec, ptime: u8) -> usize {
    match (codec, ptime) {
        (_, 10) | (_, 20) | (_, 40) | (_, 60) => usize::from(ptime) * 8,
        (Codec::Pcmu | Codec::Pcma, 30 | 50) => usize::from(ptime) * 8,
        _ => FRAME,
    }
}
