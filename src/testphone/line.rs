//! The media of one call: RTP in and out in steps of 20 ms, digits, RTCP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::numbers::{FRAME, Script, Step};
use crate::codec::{Codec, MAX_PACKET_SAMPLES, SAMPLE_RATE, g711::Law};
use crate::rtp::event::{EventReceiver, EventUpdate, event_char};
use crate::rtp::packet::{HEADER_LEN, RtpHeader, RtpPacket};
use crate::rtp::receive::ReceiveStats;
use crate::rtp::rtcp::{self, Compound, RtcpItem, SenderInfo};
use crate::sdp::RtpMedia;

/// A packet every 20 ms.
const PACKET: Duration = Duration::from_millis(20);
/// When we come later than this, the packets missed are left out rather than sent in a burst.
const LATEST: Duration = Duration::from_millis(200);
/// A report every five seconds (RFC 3550 section 6.2).
const REPORT: Duration = Duration::from_secs(5);
/// Our name in RTCP.
const CNAME: &str = "testphone@ringback.invalid";

/// A datagram to be sent.
pub(super) type Datagram = (SocketAddr, Vec<u8>);

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    media: RtpMedia,
    started: Instant,
    /// When the next packet is due: a grid that does not drift, however late each packet is sent.
    next: Instant,
    next_report: Instant,
    sequence: u16,
    timestamp: u32,
    marker: bool,
    packets: u32,
    octets: u32,
    /// The last packet taken: SSRC and sequence number.
    last: Option<(u32, u16)>,
    events: EventReceiver,
    stats: ReceiveStats,
}

impl Line {
    /// Starts now. `sequence` and `timestamp` should be random (RFC 3550 section 5.1).
    pub(super) fn new(now: Instant, media: RtpMedia, sequence: u16, timestamp: u32) -> Self {
        Line {
            media,
            started: now,
            next: now,
            next_report: now + REPORT,
            sequence,
            timestamp,
            marker: true,
            packets: 0,
            octets: 0,
            last: None,
            events: EventReceiver::default(),
            stats: ReceiveStats::default(),
        }
    }

    /// Takes a newly negotiated description; the streams go on.
    pub(super) fn renegotiate(&mut self, media: RtpMedia) {
        self.media = RtpMedia { ssrc: self.media.ssrc, ..media };
    }

    /// When [`Line::step`] is due next.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.next.min(self.next_report)
    }

    /// Takes an RTP packet: audio and digits go to the script. Only the negotiated source is heard.
    pub(super) fn handle_rtp(&mut self, now: Instant, from: SocketAddr, datagram: &[u8], script: &mut dyn Script) {
        if self.media.remote_rtp != Some(from) || !self.media.direction.receives() {
            return;
        }
        let Ok(RtpPacket { header, payload }) = RtpPacket::parse(datagram) else { return };
        let event = self.media.telephone_event.filter(|event| event.payload_type == header.payload_type);
        let audio = self.media.accepted.iter().find(|accepted| accepted.payload_type == header.payload_type);
        let clock = match (event, audio) {
            (Some(event), _) => event.clock_rate,
            (None, Some(audio)) => audio.codec.clock_rate(),
            (None, None) => return,
        };
        script.at(now);
        self.stats.packet(now, header.ssrc, header.sequence, header.timestamp, clock);
        if event.is_some() {
            // A digit counts when its key goes down, and once, whatever becomes of the rest of its packets.
            for update in self.events.handle(now, header.timestamp, payload, clock) {
                if let EventUpdate::Started { event } = update
                    && let Some(digit) = event_char(event)
                {
                    script.digit(digit);
                }
            }
        }
        // On one machine packets keep their order; one that does not is a repetition.
        let newer = |(ssrc, last): (u32, u16)| ssrc != header.ssrc || (header.sequence.wrapping_sub(last) as i16) > 0;
        if !self.last.is_none_or(newer) {
            return;
        }
        self.last = Some((header.ssrc, header.sequence));
        if let Some(law) = audio.filter(|_| event.is_none()).and_then(|audio| law(audio.codec)) {
            let mut pcm = [0; MAX_PACKET_SAMPLES];
            let len = law.decode(payload, &mut pcm);
            script.hear(pcm.get(..len).unwrap_or_default());
        }
    }

    /// Takes an RTCP packet.
    pub(super) fn handle_rtcp(&mut self, now: Instant, datagram: &[u8]) {
        let stats = &mut self.stats;
        let read = rtcp::read(datagram, |item| {
            if let RtcpItem::Sender { info, .. } = item {
                stats.sender_report(now, info.ntp);
            }
        });
        if let Err(error) = read {
            tracing::debug!(%error, "unreadable RTCP at the test phone");
        }
    }

    /// Plays the next 20 ms if they are due: an RTP packet, and what the script wants after it.
    pub(super) fn step(&mut self, now: Instant, script: &mut dyn Script) -> Option<(Option<Datagram>, Option<Step>)> {
        if now < self.next {
            return None;
        }
        self.skip_missed(now);
        let (timestamp, sequence) = (self.timestamp, self.sequence);
        self.next += PACKET;
        self.timestamp = self.timestamp.wrapping_add(FRAME as u32);
        let to = self.media.remote_rtp.filter(|_| self.media.direction.sends());
        let (Some(to), Some(law)) = (to, law(self.media.send.codec)) else {
            // On hold: the script waits, the clock does not.
            self.marker = true;
            return Some((None, None));
        };
        let mut frame = [0; FRAME];
        script.at(now);
        let wanted = script.play(&mut frame);
        let header = RtpHeader {
            marker: std::mem::take(&mut self.marker),
            payload_type: self.media.send.payload_type,
            sequence,
            timestamp,
            ssrc: self.media.ssrc,
        };
        let mut bytes = vec![0; HEADER_LEN + FRAME];
        // The buffer has the room for both.
        if header.write(&mut bytes).is_ok() {
            law.encode(&frame, bytes.get_mut(HEADER_LEN..).unwrap_or_default());
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(FRAME as u32);
        Some((Some((to, bytes)), wanted))
    }

    fn skip_missed(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.next);
        if late < LATEST {
            return;
        }
        let missed = u32::try_from(late.as_millis() / PACKET.as_millis()).unwrap_or(u32::MAX);
        self.next += PACKET * missed;
        self.timestamp = self.timestamp.wrapping_add(missed.wrapping_mul(FRAME as u32));
        self.marker = true;
    }

    /// The RTCP report if it is due.
    pub(super) fn report(&mut self, now: Instant) -> Option<Datagram> {
        if now < self.next_report {
            return None;
        }
        self.next_report = now + REPORT;
        self.compound(now, false)
    }

    /// The last RTCP packet: a report with BYE.
    pub(super) fn goodbye(&mut self, now: Instant) -> Option<Datagram> {
        self.compound(now, true)
    }

    fn compound(&mut self, now: Instant, bye: bool) -> Option<Datagram> {
        let to = self.media.remote_rtcp?;
        // The time since the start serves as NTP time: we have no wall clock (RFC 3550 section 4).
        let since = now.saturating_duration_since(self.started);
        let ntp = (since.as_micros() << 32) / 1_000_000;
        let ahead = self.next.saturating_duration_since(now).as_micros() * u128::from(SAMPLE_RATE) / 1_000_000;
        let sender = SenderInfo {
            ntp: ntp as u64,
            rtp_timestamp: self.timestamp.wrapping_sub(ahead as u32),
            packets: self.packets,
            octets: self.octets,
        };
        let compound = Compound {
            ssrc: self.media.ssrc,
            sender: (self.packets > 0).then_some(sender),
            report: self.stats.report(now),
            cname: CNAME,
            bye,
        };
        let mut bytes = vec![0; 256];
        let len = compound.write(&mut bytes).ok()?;
        bytes.truncate(len);
        Some((to, bytes))
    }
}

/// The law of a codec that this phone speaks.
fn law(codec: Codec) -> Option<Law> {
    match codec {
        Codec::Pcmu => Some(Law::Mu),
        Codec::Pcma => Some(Law::A),
        Codec::Opus | Codec::G722 => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::sdp::{AcceptedCodec, Direction, TelephoneEvent};
    use crate::testphone::numbers::script;

    fn media(direction: Direction) -> RtpMedia {
        let send = AcceptedCodec { payload_type: 0, codec: Codec::Pcmu };
        RtpMedia {
            telephone_event: Some(TelephoneEvent { payload_type: 101, clock_rate: 8_000 }),
            direction,
            ..RtpMedia::new(SocketAddr::from(([127, 0, 0, 1], 4000)), send, 77)
        }
    }

    fn header(datagram: &Datagram) -> RtpHeader {
        RtpPacket::parse(&datagram.1).unwrap().header
    }

    #[test]
    fn lateness_is_not_added_up_and_a_long_pause_is_left_out() {
        let start = Instant::now();
        let mut prompt = script("601").unwrap();
        let mut line = Line::new(start, media(Direction::SendRecv), 65_535, u32::MAX - 100);
        for n in 0..50_u32 {
            // Each packet is asked for a few milliseconds late.
            let at = start + PACKET * n + Duration::from_millis(u64::from(n % 7));
            let (packet, wanted) = line.step(at, prompt.as_mut()).unwrap();
            let header = header(&packet.unwrap());
            assert_eq!(header.sequence, 65_535_u16.wrapping_add(n as u16));
            assert_eq!(header.timestamp, (u32::MAX - 100).wrapping_add(160 * n));
            assert_eq!((header.marker, header.ssrc, wanted), (n == 0, 77, None));
            assert!(line.step(at, prompt.as_mut()).is_none());
            assert_eq!(line.next, start + PACKET * (n + 1));
        }
        let (packet, _) = line.step(start + Duration::from_secs(3), prompt.as_mut()).unwrap();
        let header = header(&packet.unwrap());
        assert!(header.marker);
        assert_eq!(header.timestamp, (u32::MAX - 100).wrapping_add(8 * 3_000));
        assert_eq!(line.next, start + Duration::from_secs(3) + PACKET);
    }

    #[test]
    fn held_means_silent() {
        let now = Instant::now();
        let mut prompt = script("601").unwrap();
        let mut line = Line::new(now, media(Direction::RecvOnly), 1, 1);
        assert_eq!(line.step(now, prompt.as_mut()), Some((None, None)));
        line.renegotiate(RtpMedia { ssrc: 5, ..media(Direction::SendRecv) });
        let (packet, _) = line.step(now + PACKET, prompt.as_mut()).unwrap();
        let header = header(&packet.unwrap());
        assert_eq!((header.ssrc, header.marker, header.sequence, header.timestamp), (77, true, 1, 161));
    }

    #[test]
    fn other_sources_types_and_repetitions_are_not_heard() {
        let now = Instant::now();
        let (right, wrong) = (SocketAddr::from(([127, 0, 0, 1], 4000)), SocketAddr::from(([127, 0, 0, 1], 4002)));
        let mut echo = script("600").unwrap();
        let mut line = Line::new(now, media(Direction::SendRecv), 1, 1);
        let packet = |payload_type, sequence| {
            let mut bytes = vec![0; HEADER_LEN + FRAME];
            let header = RtpHeader { payload_type, sequence, ..RtpHeader::default() };
            header.write(&mut bytes).unwrap();
            Law::Mu.encode(&[1_000; FRAME], &mut bytes[HEADER_LEN..]);
            bytes
        };
        let mut hear = |line: &mut Line, from, bytes: &[u8]| line.handle_rtp(now, from, bytes, echo.as_mut());
        hear(&mut line, right, &packet(0, 7));
        for _ in 0..3 {
            hear(&mut line, wrong, &packet(0, 8));
            hear(&mut line, right, &packet(8, 8));
            hear(&mut line, right, &packet(0, 7));
            hear(&mut line, right, b"nonsense");
        }
        let (quiet, _) = line.step(now, echo.as_mut()).unwrap();
        assert!(quiet.unwrap().1[HEADER_LEN..].iter().all(|b| *b == Law::Mu.silence()), "one packet is not enough");
        line.handle_rtp(now, right, &packet(0, 8), echo.as_mut());
        let (loud, _) = line.step(now + PACKET, echo.as_mut()).unwrap();
        assert!(loud.unwrap().1[HEADER_LEN..].iter().all(|b| *b != Law::Mu.silence()));
    }

    #[test]
    fn reports_are_sent_and_end_with_bye() {
        let start = Instant::now();
        let mut prompt = script("601").unwrap();
        let mut line = Line::new(start, media(Direction::SendRecv), 1, 1);
        line.step(start, prompt.as_mut());
        line.handle_rtcp(start, b"nonsense");
        assert_eq!(line.report(start), None);
        let (to, bytes) = line.report(start + REPORT).unwrap();
        assert_eq!(to.port(), 4001);
        let mut items = Vec::new();
        rtcp::read(&bytes, |item| items.push(item)).unwrap();
        let RtcpItem::Sender { ssrc: 77, info } = items[0] else { panic!("{items:?}") };
        assert_eq!((info.ntp, info.packets, info.octets), (5 << 32, 1, 160));
        let (_, bytes) = line.goodbye(start + REPORT).unwrap();
        rtcp::read(&bytes, |item| items.push(item)).unwrap();
        assert_eq!(items.last(), Some(&RtcpItem::Bye { ssrc: 77 }));
    }
}
