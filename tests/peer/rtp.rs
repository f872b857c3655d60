//! As much of RTP (RFC 3550), telephone-event (RFC 4733) and G.711 as the ends of a test call need.

/// One RTP packet, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub payload_type: u8,
    pub marker: bool,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    pub fn parse(bytes: &'a [u8]) -> Option<Packet<'a>> {
        let head = bytes.get(..12)?;
        if head[0] >> 6 != 2 {
            return None;
        }
        let mut at = 12 + 4 * usize::from(head[0] & 15);
        if head[0] & 0x10 != 0 {
            let words = bytes.get(at + 2..at + 4)?;
            at += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
        }
        let padding = if head[0] & 0x20 != 0 { usize::from(*bytes.last()?) } else { 0 };
        Some(Packet {
            payload_type: head[1] & 127,
            marker: head[1] & 128 != 0,
            sequence: u16::from_be_bytes([head[2], head[3]]),
            timestamp: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            ssrc: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
            payload: bytes.get(at..bytes.len().checked_sub(padding)?)?,
        })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x80, self.payload_type | if self.marker { 128 } else { 0 }];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(self.payload);
        bytes
    }
}

/// The packets of one digit, one every 20 ms, the last one sent three times (RFC 4733, 2.5.1).
pub fn event(digit: char, ms: u32, clock: u32) -> Vec<[u8; 4]> {
    let code = "0123456789*#ABCD".find(digit).map_or(0, |code| code as u8);
    let packet = |ms: u32, end: bool| {
        let [high, low] = ((ms * clock / 1000) as u16).to_be_bytes();
        [code, if end { 0x8a } else { 0x0a }, high, low]
    };
    let mut packets: Vec<[u8; 4]> = (1..ms / 20).map(|i| packet(i * 20, false)).collect();
    packets.extend([packet(ms, true); 3]);
    packets
}

/// G.711 mu-law, by the formula of the recommendation.
pub fn to_ulaw(sample: i16) -> u8 {
    let magnitude = (i32::from(sample).abs() + 132).min(32_767);
    let exponent = (magnitude >> 7).ilog2() as i32;
    let mantissa = (magnitude >> (exponent + 3)) & 15;
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | (exponent << 4) as u8 | mantissa as u8)
}

pub fn from_ulaw(code: u8) -> i16 {
    let code = !code;
    let magnitude = ((i32::from(code & 15) << 3) + 132) << ((code >> 4) & 7);
    (if code & 0x80 != 0 { 132 - magnitude } else { magnitude - 132 }) as i16
}

/// G.711 A-law.
pub fn from_alaw(code: u8) -> i16 {
    let code = code ^ 0x55;
    let (exponent, mantissa) = (i32::from((code >> 4) & 7), i32::from(code & 15));
    let magnitude = if exponent == 0 { (mantissa << 4) + 8 } else { ((mantissa << 4) + 264) << (exponent - 1) };
    (if code & 0x80 != 0 { magnitude } else { -magnitude }) as i16
}

mod proof {
    use super::{Packet, event, from_alaw, from_ulaw, to_ulaw};

    #[test]
    fn ulaw_and_alaw_are_those_of_the_tables() {
        // G.711, tables 2a/2b: the ends, the middle and a code of each kind.
        for (code, sample) in [(0x00, -32124), (0x80, 32124), (0xff, 0), (0x7f, 0), (0xf0, 120), (0x9d, 9340)] {
            assert_eq!(from_ulaw(code), sample, "{code:#x}");
        }
        assert!((0..=255).all(|code| code == 0x7f || to_ulaw(from_ulaw(code)) == code));
        for (code, sample) in [(0xd5, 8), (0x55, -8), (0xaa, 32256), (0x2a, -32256)] {
            assert_eq!(from_alaw(code), sample, "{code:#x}");
        }
    }

    #[test]
    fn packets() {
        let packet = Packet { payload_type: 101, marker: true, sequence: 1, timestamp: 2, ssrc: 3, payload: &[4, 5] };
        assert_eq!(Packet::parse(&packet.to_bytes()), Some(packet));
        assert_eq!(Packet::parse(&[0x80; 11]), None);
        let digit = event('#', 100, 8000);
        assert_eq!(digit.len(), 7);
        assert_eq!((digit[0], digit[6]), ([11, 0x0a, 0, 160], [11, 0x8a, 3, 32]));
    }
}
