//! Redundancy for sound ([RFC 2198](https://www.rfc-editor.org/rfc/rfc2198)): a packet that holds packets of before once more.
//!
//! The payload begins with a header of four bytes for each of those (a bit that says that more follow, the payload type, how
//! much earlier its timestamp is, its length) and one byte for the packet's own sound, which is the rest. It allocates nothing.

use super::packet::{RtpError, RtpHeader, RtpPacket};

/// Packets of before that are looked at in one: Chromium sends one, as is negotiated, and nobody known to us more than nine.
const MOST: usize = 16;
/// Of those so many are used, the last: whoever sends more shall not have us send a burst of packets for each of his.
const USED: usize = 3;
/// The bytes of a header of a packet of before.
const HEAD: usize = 4;

/// Packets of before that a packet holds, oldest first, with the headers that they had themselves.
///
/// A block does not say which number its packet had: blocks are taken to be of the packets right before, one each, which is what
/// senders do. Whoever uses one has to look whether that can be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Earlier<'a> {
    header: RtpHeader,
    /// What is left of the headers of four bytes, and of what they tell of.
    heads: &'a [u8],
    data: &'a [u8],
}

/// Takes a packet of redundancy apart: the packet that it would be without, and those of before.
///
/// # Errors
/// [`RtpError::Truncated`] where the lengths do not fit the payload, or there are more blocks than anybody sends.
pub fn unwrap<'a>(packet: &RtpPacket<'a>) -> Result<(RtpPacket<'a>, Earlier<'a>), RtpError> {
    let mut rest = packet.payload;
    let (mut blocks, mut bytes) = (0, 0);
    let payload_type = loop {
        match rest {
            [last, after @ ..] if last & 0x80 == 0 => {
                rest = after;
                break last & 0x7f;
            }
            [_, _, high, low, after @ ..] if blocks < MOST => {
                bytes += length(*high, *low);
                blocks += 1;
                rest = after;
            }
            _ => return Err(RtpError::Truncated),
        }
    };
    let heads = packet.payload.get(..blocks * HEAD).ok_or(RtpError::Truncated)?;
    let (data, own) = rest.split_at_checked(bytes).ok_or(RtpError::Truncated)?;
    let header = RtpHeader { payload_type, ..packet.header };
    Ok((RtpPacket { header, payload: own }, Earlier { header, heads, data }))
}

/// The length of a block, ten bits.
fn length(high: u8, low: u8) -> usize {
    usize::from(u16::from_be_bytes([high & 0x03, low]))
}

impl<'a> Iterator for Earlier<'a> {
    type Item = RtpPacket<'a>;

    fn next(&mut self) -> Option<RtpPacket<'a>> {
        loop {
            let left = self.heads.len() / HEAD;
            let behind = u16::try_from(left).ok()?;
            let ([first, second, third, fourth], heads) = self.heads.split_first_chunk::<HEAD>()?;
            let (payload, data) = self.data.split_at_checked(length(*third, *fourth))?;
            (self.heads, self.data) = (heads, data);
            let offset = u32::from(u16::from_be_bytes([*second, *third]) >> 2);
            // An empty block stands for a packet that is not repeated; one of this packet's own time repeats nothing.
            if left <= USED && offset > 0 && !payload.is_empty() {
                let header = RtpHeader {
                    marker: false,
                    payload_type: first & 0x7f,
                    sequence: self.header.sequence.wrapping_sub(behind),
                    timestamp: self.header.timestamp.wrapping_sub(offset),
                    ssrc: self.header.ssrc,
                };
                return Some(RtpPacket { header, payload });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const HEADER: RtpHeader =
        RtpHeader { marker: true, payload_type: 63, sequence: 1, timestamp: 500, ssrc: 0x0102_0304 };

    fn read(payload: &[u8]) -> Result<(RtpPacket<'_>, Vec<RtpPacket<'_>>), RtpError> {
        unwrap(&RtpPacket { header: HEADER, payload }).map(|(packet, earlier)| (packet, earlier.collect()))
    }

    /// RFC 2198 section 3: F, block PT, timestamp offset (14 bits), block length (10 bits).
    fn head(payload_type: u8, offset: u16, length: u16) -> [u8; 4] {
        let word = 1 << 31 | u32::from(payload_type) << 24 | u32::from(offset) << 10 | u32::from(length);
        word.to_be_bytes()
    }

    fn payload(blocks: &[(u16, &[u8])], own: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            blocks.iter().flat_map(|(offset, data)| head(111, *offset, data.len() as u16)).collect();
        bytes.push(111);
        blocks.iter().for_each(|(_, data)| bytes.extend_from_slice(data));
        bytes.extend_from_slice(own);
        bytes
    }

    #[test]
    fn the_packet_and_those_before_it_rfc2198_3() {
        let bytes = payload(&[(1_920, b"older"), (960, b"old")], b"new");
        let (packet, earlier) = read(&bytes).unwrap();
        assert_eq!((packet.header, packet.payload), (RtpHeader { payload_type: 111, ..HEADER }, &b"new"[..]));
        // Over the wrap of both counters.
        let at = |sequence, offset: u32| RtpHeader {
            marker: false,
            payload_type: 111,
            sequence,
            timestamp: 500_u32.wrapping_sub(offset),
            ssrc: HEADER.ssrc,
        };
        let seen: Vec<_> = earlier.iter().map(|packet| (packet.header, packet.payload)).collect();
        assert_eq!(seen, [(at(u16::MAX, 1_920), &b"older"[..]), (at(0, 960), b"old")]);
    }

    #[test]
    fn a_packet_without_any_is_one_byte_longer() {
        let (packet, earlier) = read(b"\x6fnew").unwrap();
        assert_eq!((packet.header.payload_type, packet.payload, earlier.len()), (111, &b"new"[..], 0));
        assert_eq!(read(b"\x6f").unwrap().0.payload, b"");
    }

    #[test]
    fn an_empty_block_keeps_its_place_and_says_nothing() {
        let bytes = payload(&[(1_920, b"older"), (960, b"")], b"new");
        let (_, earlier) = read(&bytes).unwrap();
        assert_eq!(earlier.iter().map(|packet| packet.header.sequence).collect::<Vec<_>>(), [u16::MAX]);
        let bytes = payload(&[(0, b"now")], b"new");
        assert_eq!(read(&bytes).unwrap().1.len(), 0);
    }

    #[test]
    fn malformed_payloads_are_refused() {
        let long = [head(111, 960, 1_023).as_slice(), &[111], &[0; 1_022]].concat();
        let many = [head(111, 960, 0).repeat(MOST + 1), vec![111, 1]].concat();
        let unfinished = head(111, 960, 0);
        for bytes in [&[][..], &[0xef], &[0xef, 0, 0], &unfinished, &long, &many] {
            assert_eq!(read(bytes).map(|_| ()), Err(RtpError::Truncated), "{bytes:?}");
        }
        assert!(read(&[long, vec![0]].concat()).is_ok());
    }

    proptest::proptest! {
        /// Nothing panics, nothing is read twice, and there is no more than was sent.
        #[test]
        fn any_bytes_are_taken_apart(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..1_500)) {
            if let Ok((packet, earlier)) = read(&bytes) {
                let held: usize = earlier.iter().map(|packet| packet.payload.len()).sum();
                assert!(held + packet.payload.len() < bytes.len() && earlier.len() <= USED);
                assert!(earlier.iter().all(|packet| !packet.payload.is_empty()));
            }
        }

        #[test]
        fn what_is_written_is_read(blocks in proptest::collection::vec((1_u16..1 << 14, 1_usize..100), 0..9), own in 0_usize..200) {
            let data = [7; 200];
            let blocks: Vec<(u16, &[u8])> = blocks.iter().map(|(offset, len)| (*offset, &data[..*len])).collect();
            let bytes = payload(&blocks, &data[..own]);
            let (packet, earlier) = read(&bytes).unwrap();
            let used = &blocks[blocks.len().saturating_sub(USED)..];
            assert_eq!((packet.payload.len(), earlier.len()), (own, used.len()));
            for (n, (read, (offset, data))) in earlier.iter().zip(used).enumerate() {
                assert_eq!(read.header.timestamp, 500_u32.wrapping_sub(u32::from(*offset)));
                assert_eq!(read.header.sequence, 1_u16.wrapping_sub((used.len() - n) as u16));
                assert_eq!(read.payload, *data);
            }
        }
    }
}
