//! The RTP packet ([RFC 3550 section 5.1](https://www.rfc-editor.org/rfc/rfc3550#section-5.1)): a view to read and a header
//! to write. Both allocate nothing.

/// The bytes of a fixed RTP header.
pub const HEADER_LEN: usize = 12;

/// Why bytes are no RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtpError {
    /// Fewer bytes than its own header asks for.
    #[error("the packet is cut short")]
    Truncated,
    /// Not version 2.
    #[error("not RTP version 2")]
    Version,
    /// The padding is longer than the payload, or zero.
    #[error("impossible padding")]
    Padding,
    /// Our own fault: the buffer to write into is too small.
    #[error("the buffer is too small")]
    BufferSize,
}

/// A parsed packet that borrows the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// The fixed header.
    pub header: RtpHeader,
    /// The payload without padding; it may be empty.
    pub payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// Reads a datagram. Contributing sources and header extensions are passed over.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, RtpError> {
        let (fixed, mut rest) = datagram.split_first_chunk::<HEADER_LEN>().ok_or(RtpError::Truncated)?;
        let [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if first >> 6 != 2 {
            return Err(RtpError::Version);
        }
        rest = rest.get(usize::from(first & 0x0f) * 4..).ok_or(RtpError::Truncated)?;
        if first & 0x10 != 0 {
            let ([_, _, high, low], after) = rest.split_first_chunk::<4>().ok_or(RtpError::Truncated)?;
            let words = usize::from(u16::from_be_bytes([*high, *low]));
            rest = after.get(words * 4..).ok_or(RtpError::Truncated)?;
        }
        if first & 0x20 != 0 {
            let padding = usize::from(*rest.last().ok_or(RtpError::Padding)?);
            let kept = rest.len().checked_sub(padding).filter(|_| padding > 0).ok_or(RtpError::Padding)?;
            rest = rest.get(..kept).ok_or(RtpError::Padding)?;
        }
        let header = RtpHeader {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
        };
        Ok(Self { header, payload: rest })
    }
}

/// The fields of a fixed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RtpHeader {
    /// The start of a talk spurt, or of an event.
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    /// Counts packets.
    pub sequence: u16,
    /// Counts units of the payload's clock.
    pub timestamp: u32,
    /// Who sends.
    pub ssrc: u32,
}

impl RtpHeader {
    /// Writes the header alone; the payload follows at the returned length, which is [`HEADER_LEN`].
    pub fn write(&self, buf: &mut [u8]) -> Result<usize, RtpError> {
        let fixed = buf.first_chunk_mut::<HEADER_LEN>().ok_or(RtpError::BufferSize)?;
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        let second = (u8::from(self.marker) << 7) | (self.payload_type & 0x7f);
        *fixed = [0x80, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3];
        Ok(HEADER_LEN)
    }

    /// Writes the header with one header extension element in the one-byte form
    /// ([RFC 8285 section 4.2](https://www.rfc-editor.org/rfc/rfc8285#section-4.2)): `id` 1 to 14, 1 to 16 bytes of `data`.
    /// Returns where the payload goes.
    pub fn write_with_extension(&self, buf: &mut [u8], id: u8, data: &[u8]) -> Result<usize, RtpError> {
        if !(1..=14).contains(&id) || !(1..=16).contains(&data.len()) {
            return self.write(buf);
        }
        let words = (1 + data.len()).div_ceil(4);
        let end = HEADER_LEN + 4 + words * 4;
        let whole = buf.get_mut(..end).ok_or(RtpError::BufferSize)?;
        self.write(whole)?;
        let (fixed, extension) = whole.split_at_mut(HEADER_LEN);
        if let Some(first) = fixed.first_mut() {
            *first |= 0x10;
        }
        extension.fill(0);
        let element = [0xbe, 0xde, 0, words as u8, (id << 4) | (data.len() - 1) as u8];
        for (to, from) in extension.iter_mut().zip(element.iter().chain(data)) {
            *to = *from;
        }
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const HEADER: RtpHeader =
        RtpHeader { marker: true, payload_type: 111, sequence: 0xfffe, timestamp: 0xdead_beef, ssrc: 0x0102_0304 };

    #[test]
    fn what_is_written_is_read_by_us_and_by_an_independent_parser() {
        let mut buf = [0xaa; 64];
        for extension in [None, Some(&b"0"[..]), Some(b"abc"), Some(b"abcd"), Some(b"0123456789abcdef")] {
            let start = match extension {
                None => HEADER.write(&mut buf).unwrap(),
                Some(data) => HEADER.write_with_extension(&mut buf, 4, data).unwrap(),
            };
            buf[start..start + 3].copy_from_slice(b"xyz");
            let packet = RtpPacket::parse(&buf[..start + 3]).unwrap();
            assert_eq!(packet.header, HEADER);
            assert_eq!(packet.payload, b"xyz");
            let other = rtp_types::RtpPacket::parse(&buf[..start + 3]).unwrap();
            assert_eq!(other.payload(), b"xyz");
            assert_eq!((other.sequence_number(), other.timestamp(), other.ssrc()), (0xfffe, 0xdead_beef, 0x0102_0304));
            assert!(other.marker_bit());
            assert_eq!(other.extension().is_some(), extension.is_some());
        }
        assert_eq!(HEADER.write(&mut [0; 11]), Err(RtpError::BufferSize));
        assert_eq!(HEADER.write_with_extension(&mut [0; 19], 4, b"0"), Err(RtpError::BufferSize));
    }

    #[test]
    fn csrcs_extensions_and_padding_are_passed_over() {
        let mut bytes = vec![0xb2, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&[0xbe, 0xde, 0, 1, 9, 9, 9, 9]);
        bytes.extend_from_slice(b"voice\0\0\x03");
        assert_eq!(RtpPacket::parse(&bytes).unwrap().payload, b"voice");
    }

    #[test]
    fn malformed_packets_are_refused() {
        let table: [(&[u8], RtpError); 7] = [
            (&[], RtpError::Truncated),
            (&[0x80; 11], RtpError::Truncated),
            (&[0x40, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3], RtpError::Version),
            (&[0x81, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3], RtpError::Truncated),
            (&[0x90, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xbe, 0xde, 0xff, 0xff], RtpError::Truncated),
            (&[0xa0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 9], RtpError::Padding),
            (&[0xa0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0], RtpError::Padding),
        ];
        for (bytes, error) in table {
            assert_eq!(RtpPacket::parse(bytes), Err(error), "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100)) {
            let _ = RtpPacket::parse(&bytes);
        }
    }
}
