//! As much of RTP ([RFC 3550](https://www.rfc-editor.org/rfc/rfc3550) section 5.1) and G.711 as the ends need.

/// The length of a header without extensions.
pub const HEADER: usize = 12;

/// One packet, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its number.
    pub sequence: u16,
    /// The time of its first sample, by the stream's clock.
    pub timestamp: u32,
    /// Its sound.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet; `None` for what is none. Padding and contributing sources are what these streams do not have.
    pub fn parse(bytes: &'a [u8]) -> Option<Packet<'a>> {
        let (head, rest) = bytes.split_first_chunk::<HEADER>()?;
        let &[first, second, s0, s1, t0, t1, t2, t3, ..] = head;
        if first & 0b1110_1111 != 0x80 || (192..=223).contains(&second) {
            return None;
        }
        let payload = match first & 0x10 {
            0 => rest,
            _ => {
                let (&[_, _, high, low], rest) = rest.split_first_chunk::<4>()?;
                rest.get(4 * usize::from(u16::from_be_bytes([high, low]))..)?
            }
        };
        let sequence = u16::from_be_bytes([s0, s1]);
        Some(Packet { sequence, timestamp: u32::from_be_bytes([t0, t1, t2, t3]), payload })
    }

    /// Writes the packet behind what `out` holds.
    pub fn write(&self, payload_type: u8, ssrc: u32, out: &mut Vec<u8>) {
        out.extend([0x80, payload_type]);
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.timestamp.to_be_bytes());
        out.extend(ssrc.to_be_bytes());
        out.extend(self.payload);
    }
}

/// G.711 mu-law, by the formula of the recommendation.
pub fn to_ulaw(sample: i16) -> u8 {
    let magnitude = (i32::from(sample).abs() + 132).min(32_767);
    let exponent = (magnitude >> 7).ilog2();
    let mantissa = (magnitude >> (exponent + 3)) & 15;
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | (exponent << 4) as u8 | mantissa as u8)
}

/// The sample that a code of G.711 mu-law stands for.
pub fn from_ulaw(code: u8) -> i16 {
    let code = !code;
    let magnitude = ((i32::from(code & 15) << 3) + 132) << ((code >> 4) & 7);
    (if code & 0x80 != 0 { 132 - magnitude } else { magnitude - 132 }) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_as_it_was_written() {
        let packet = Packet { sequence: 65_535, timestamp: 0xffff_fff0, payload: &[1, 2, 3] };
        let mut bytes = Vec::new();
        packet.write(0, 9, &mut bytes);
        assert_eq!(Packet::parse(&bytes), Some(packet));
        assert_eq!(Packet::parse(&bytes[..11]), None);
        bytes[1] = 200;
        assert_eq!(Packet::parse(&bytes), None, "RTCP is not RTP");
    }

    #[test]
    fn a_header_extension_is_left_out() {
        let mut bytes = vec![0x90, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xbe, 0xde, 0, 1, 9, 9, 9, 9];
        bytes.extend([7, 8]);
        assert_eq!(Packet::parse(&bytes).map(|packet| packet.payload), Some(&[7, 8][..]));
        bytes[15] = 200;
        assert_eq!(Packet::parse(&bytes), None, "an extension longer than the packet");
    }

    #[test]
    fn ulaw_is_that_of_the_tables() {
        for (code, sample) in [(0x00, -32_124), (0x80, 32_124), (0xff, 0), (0xf0, 120), (0x9d, 9_340)] {
            assert_eq!(from_ulaw(code), sample, "{code:#x}");
        }
        assert!((0..=255).all(|code| code == 0x7f || to_ulaw(from_ulaw(code)) == code));
    }
}
