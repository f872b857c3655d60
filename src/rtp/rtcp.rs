//! RTCP ([RFC 3550 section 6](https://www.rfc-editor.org/rfc/rfc3550#section-6)): sender and receiver reports, CNAME, BYE.
//! Compound packets are written into a caller's buffer and read by a visitor; neither allocates.

/// Packet types of RFC 3550 section 12.1.
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;

/// One report block (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// Whose packets are reported on.
    pub ssrc: u32,
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost since the start: 24 bits, signed.
    pub cumulative_lost: i32,
    /// Highest sequence number, with the count of its wraps above.
    pub highest_sequence: u32,
    /// Interarrival jitter in clock units.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time; 0 = none yet.
    pub last_sr: u32,
    /// Time since then, in 65,536ths of a second.
    pub delay_since_last_sr: u32,
}

/// The sender's part of a sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderInfo {
    /// NTP time of this report, 32.32 fixed point.
    pub ntp: u64,
    /// The same moment in the stream's clock.
    pub rtp_timestamp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

/// What one compound packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtcpItem {
    /// A sender report's first half.
    Sender {
        /// Who sends it.
        ssrc: u32,
        /// Its clocks and counters.
        info: SenderInfo,
    },
    /// One block of a sender or receiver report.
    Report {
        /// Who reports.
        from: u32,
        /// What it saw.
        block: ReportBlock,
    },
    /// A source leaves.
    Bye {
        /// Which.
        ssrc: u32,
    },
}

/// Why bytes are no compound RTCP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtcpError {
    /// Cut short, or a packet inside is longer than the rest.
    #[error("the packet is cut short")]
    Truncated,
    /// Not version 2.
    #[error("not RTCP version 2")]
    Version,
    /// Our own fault: the buffer to write into is too small.
    #[error("the buffer is too small")]
    BufferSize,
}

/// Reads a compound packet and hands each item that we understand to `visit`. Unknown packet types are passed over; on an
/// error the items before it have been handed over.
pub fn read(mut compound: &[u8], mut visit: impl FnMut(RtcpItem)) -> Result<(), RtcpError> {
    if compound.is_empty() {
        return Err(RtcpError::Truncated);
    }
    while !compound.is_empty() {
        let [first, kind, high, low] = *compound.first_chunk::<4>().ok_or(RtcpError::Truncated)?;
        if first >> 6 != 2 {
            return Err(RtcpError::Version);
        }
        let len = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let (packet, rest) = compound.split_at_checked(len).ok_or(RtcpError::Truncated)?;
        read_one(kind, first & 0x1f, packet.get(4..).unwrap_or_default(), &mut visit)?;
        compound = rest;
    }
    Ok(())
}

fn read_one(kind: u8, count: u8, body: &[u8], visit: &mut impl FnMut(RtcpItem)) -> Result<(), RtcpError> {
    let mut reader = Reader(body);
    match kind {
        SENDER_REPORT => {
            let ssrc = reader.word()?;
            let ntp = (u64::from(reader.word()?) << 32) | u64::from(reader.word()?);
            let info =
                SenderInfo { ntp, rtp_timestamp: reader.word()?, packets: reader.word()?, octets: reader.word()? };
            visit(RtcpItem::Sender { ssrc, info });
            read_blocks(ssrc, count, &mut reader, visit)
        }
        RECEIVER_REPORT => {
            let ssrc = reader.word()?;
            read_blocks(ssrc, count, &mut reader, visit)
        }
        GOODBYE => {
            for _ in 0..count {
                visit(RtcpItem::Bye { ssrc: reader.word()? });
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn read_blocks(
    from: u32,
    count: u8,
    reader: &mut Reader<'_>,
    visit: &mut impl FnMut(RtcpItem),
) -> Result<(), RtcpError> {
    for _ in 0..count {
        let ssrc = reader.word()?;
        let loss = reader.word()?;
        let block = ReportBlock {
            ssrc,
            fraction_lost: (loss >> 24) as u8,
            // The shift up and down again carries the sign of the 24 bits.
            cumulative_lost: ((loss << 8) as i32) >> 8,
            highest_sequence: reader.word()?,
            jitter: reader.word()?,
            last_sr: reader.word()?,
            delay_since_last_sr: reader.word()?,
        };
        visit(RtcpItem::Report { from, block });
    }
    Ok(())
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn word(&mut self) -> Result<u32, RtcpError> {
        let (word, rest) = self.0.split_first_chunk::<4>().ok_or(RtcpError::Truncated)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*word))
    }
}

/// One compound packet to be written: a sender report when `sender` is given, else a receiver report; then the CNAME; then a
/// BYE if wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compound<'a> {
    /// Our SSRC.
    pub ssrc: u32,
    /// What we sent, if we did since the last report.
    pub sender: Option<SenderInfo>,
    /// What we received, if we did.
    pub report: Option<ReportBlock>,
    /// Our CNAME, at most 255 bytes.
    pub cname: &'a str,
    /// Whether we leave.
    pub bye: bool,
}

impl Compound<'_> {
    /// Writes the packet; returns its length.
    pub fn write(&self, buf: &mut [u8]) -> Result<usize, RtcpError> {
        let mut writer = Writer { buf, at: 0 };
        let blocks = u8::from(self.report.is_some());
        let words = u16::from(blocks) * 6 + if self.sender.is_some() { 6 } else { 1 };
        writer.header(blocks, if self.sender.is_some() { SENDER_REPORT } else { RECEIVER_REPORT }, words)?;
        writer.word(self.ssrc)?;
        if let Some(info) = &self.sender {
            writer.word((info.ntp >> 32) as u32)?;
            writer.word(info.ntp as u32)?;
            writer.word(info.rtp_timestamp)?;
            writer.word(info.packets)?;
            writer.word(info.octets)?;
        }
        if let Some(block) = &self.report {
            writer.block(block)?;
        }
        writer.description(self.ssrc, self.cname)?;
        if self.bye {
            writer.header(1, GOODBYE, 1)?;
            writer.word(self.ssrc)?;
        }
        Ok(writer.at)
    }
}

struct Writer<'a> {
    buf: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), RtcpError> {
        let end = self.at + bytes.len();
        self.buf.get_mut(self.at..end).ok_or(RtcpError::BufferSize)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }

    fn word(&mut self, word: u32) -> Result<(), RtcpError> {
        self.bytes(&word.to_be_bytes())
    }

    /// `words` is the length after these four bytes, in 32-bit words.
    fn header(&mut self, count: u8, kind: u8, words: u16) -> Result<(), RtcpError> {
        let [high, low] = words.to_be_bytes();
        self.bytes(&[0x80 | count, kind, high, low])
    }

    fn block(&mut self, block: &ReportBlock) -> Result<(), RtcpError> {
        let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        self.word(block.ssrc)?;
        self.word((u32::from(block.fraction_lost) << 24) | lost)?;
        self.word(block.highest_sequence)?;
        self.word(block.jitter)?;
        self.word(block.last_sr)?;
        self.word(block.delay_since_last_sr)
    }

    /// One SDES chunk with one CNAME item, ended by at least one zero byte and filled to a word (RFC 3550 section 6.5).
    fn description(&mut self, ssrc: u32, cname: &str) -> Result<(), RtcpError> {
        let name = cname.as_bytes();
        let name = name.get(..name.len().min(255)).unwrap_or_default();
        let words = (2 + name.len() + 1).div_ceil(4);
        self.header(1, SOURCE_DESCRIPTION, 1 + words as u16)?;
        self.word(ssrc)?;
        self.bytes(&[1, name.len() as u8])?;
        self.bytes(name)?;
        self.bytes(&[0; 4][..words * 4 - 2 - name.len()])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const INFO: SenderInfo = SenderInfo { ntp: 0x0102_0304_0506_0708, rtp_timestamp: 9, packets: 10, octets: 11 };
    const BLOCK: ReportBlock = ReportBlock {
        ssrc: 77,
        fraction_lost: 12,
        cumulative_lost: -3,
        highest_sequence: 0x1_0002,
        jitter: 13,
        last_sr: 14,
        delay_since_last_sr: 15,
    };

    fn items(bytes: &[u8]) -> Vec<RtcpItem> {
        let mut items = Vec::new();
        read(bytes, |item| items.push(item)).unwrap();
        items
    }

    #[test]
    fn what_is_written_is_read_by_us_and_by_an_independent_parser() {
        let mut buf = [0; 200];
        for cname in ["", "a", "ab", "abc", "abcd", "ringback@x"] {
            for bye in [false, true] {
                let compound = Compound { ssrc: 5, sender: Some(INFO), report: Some(BLOCK), cname, bye };
                let len = compound.write(&mut buf).unwrap();
                let mut expected =
                    vec![RtcpItem::Sender { ssrc: 5, info: INFO }, RtcpItem::Report { from: 5, block: BLOCK }];
                if bye {
                    expected.push(RtcpItem::Bye { ssrc: 5 });
                }
                assert_eq!(items(&buf[..len]), expected);
                check_with_rtcp_types(&buf[..len], cname, bye);
            }
        }
    }

    fn check_with_rtcp_types(bytes: &[u8], cname: &str, bye: bool) {
        use rtcp_types::{Compound, Packet};
        let packets: Vec<_> = Compound::parse(bytes).unwrap().map(|p| p.unwrap()).collect();
        assert_eq!(packets.len(), if bye { 3 } else { 2 });
        let Packet::Sr(sr) = &packets[0] else { panic!("{packets:?}") };
        assert_eq!((sr.ssrc(), sr.ntp_timestamp(), sr.octet_count()), (5, INFO.ntp, 11));
        let block = sr.report_blocks().next().unwrap();
        assert_eq!((block.ssrc(), block.fraction_lost(), block.cumulative_lost()), (77, 12, 0xff_fffd));
        let Packet::Sdes(sdes) = &packets[1] else { panic!("{packets:?}") };
        let chunk = sdes.chunks().next().unwrap();
        assert_eq!(chunk.items().next().unwrap().value(), cname.as_bytes());
        if bye {
            let Packet::Bye(bye) = &packets[2] else { panic!("{packets:?}") };
            assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [5]);
        }
    }

    #[test]
    fn a_receiver_report_may_be_empty() {
        let mut buf = [0; 64];
        let len = Compound { ssrc: 5, sender: None, report: None, cname: "x", bye: false }.write(&mut buf).unwrap();
        assert_eq!(items(&buf[..len]), []);
        assert_eq!(buf[1], RECEIVER_REPORT);
        assert!(rtcp_types::Compound::parse(&buf[..len]).unwrap().all(|p| p.is_ok()));
    }

    /// Several blocks, feedback first (reduced size, RFC 5506), unknown types between, padding at the end: all is read.
    #[test]
    fn what_others_write_is_read() {
        let mut several = vec![0x82, 201, 0, 13, 0, 0, 0, 9];
        for ssrc in [5_u32, 77] {
            several.extend(ssrc.to_be_bytes());
            several.extend([25, 0, 0, 3, 0, 1, 0, 2, 0, 0, 0, 13, 0, 0, 0, 14, 0, 0, 0, 15]);
        }
        let blocks = items(&several);
        let about = |item: &RtcpItem| match item {
            RtcpItem::Report { from: 9, block } => Some((block.ssrc, block.fraction_lost, block.last_sr)),
            _ => None,
        };
        assert_eq!(blocks.iter().filter_map(about).collect::<Vec<_>>(), [(5, 25, 14), (77, 25, 14)]);
        // A transport-cc message (RTPFB, 15) alone, then with an extended report and a padded BYE behind it.
        let feedback = [0x8f, 205, 0, 2, 0, 0, 0, 9, 0, 0, 0, 5];
        assert_eq!(items(&feedback), []);
        let bye = [0xa1, 203, 0, 2, 0, 0, 0, 9, 0, 0, 0, 4];
        let whole = [&feedback[..], &[0x80, 207, 0, 1, 0, 0, 0, 9], &bye].concat();
        assert_eq!(items(&whole), [RtcpItem::Bye { ssrc: 9 }]);
    }

    #[test]
    fn small_buffers_and_malformed_packets_are_errors() {
        let compound = Compound { ssrc: 5, sender: Some(INFO), report: Some(BLOCK), cname: "abc", bye: true };
        let mut buf = [0; 200];
        let len = compound.write(&mut buf).unwrap();
        for short in 0..len {
            assert_eq!(compound.write(&mut vec![0; short]), Err(RtcpError::BufferSize));
            // Cut between two packets of the compound a shorter compound remains; elsewhere it is an error.
            let _ = read(&buf[..short], |_| {});
        }
        assert_eq!(read(&[], |_| {}), Err(RtcpError::Truncated));
        assert_eq!(read(&[0x40, 200, 0, 0], |_| {}), Err(RtcpError::Version));
        assert_eq!(read(&[0x81, 201, 0, 1, 0, 0, 0, 1], |_| {}), Err(RtcpError::Truncated));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = read(&bytes, |_| {});
        }
    }
}
