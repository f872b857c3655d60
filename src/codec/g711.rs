//! G.711, both laws, sample by sample equal to the ITU-T reference
//! ([G.711](https://www.itu.int/rec/T-REC-G.711), Software Tool Library).
//!
//! Decoding is a table of 256 values; encoding is arithmetic, because a table of 65,536 bytes would push the call's
//! working set out of the first-level cache to save nothing.

use super::conceal::Concealer;
use super::{Codec, CodecError, Rate};

/// A decoder of one stream at 8 kHz, with what fills its gaps.
#[derive(Debug)]
pub struct G711Decoder {
    law: Law,
    concealer: Box<Concealer>,
    transparent: bool,
}

impl G711Decoder {
    /// A decoder of a stream in `law`.
    pub fn new(law: Law) -> Self {
        Self { law, concealer: Box::new(Concealer::new(Rate::Narrow)), transparent: false }
    }

    /// The law of the stream.
    pub fn law(&self) -> Law {
        self.law
    }

    /// See [`Decoder::set_transparent`](super::Decoder::set_transparent).
    pub fn set_transparent(&mut self, on: bool) {
        self.transparent = on;
    }

    /// Decodes one packet; returns the number of samples written to `out`.
    ///
    /// # Errors
    /// [`CodecError::BufferSize`] when `out` does not hold the packet's sound.
    pub fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        let out = out.get_mut(..payload.len()).ok_or(CodecError::BufferSize)?;
        self.law.decode(payload, out);
        if self.transparent && self.law == Law::Mu {
            for (code, sample) in payload.iter().zip(out.iter_mut()) {
                if *code == 0x7f {
                    *sample = -1;
                }
            }
        }
        self.concealer.good(out);
        Ok(payload.len())
    }

    /// Fills all of `out`, lost right before `next`, so that it leads there.
    pub fn lead_to(&mut self, next: &[u8], out: &mut [i16]) {
        let mut pcm = [0; 160];
        let len = self.law.decode(next, &mut pcm);
        self.concealer.lead_to(pcm.get(..len).unwrap_or_default(), out);
    }

    /// See [`Decoder::break_off`](super::Decoder::break_off).
    pub fn break_off(&mut self) {
        self.concealer.break_off();
    }

    /// Fills all of `out` where nothing arrived.
    pub fn conceal(&mut self, out: &mut [i16]) {
        self.concealer.conceal(out);
    }
}

/// One of the two companding laws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Law {
    /// Mu-law, North America and Japan: `PCMU`.
    Mu,
    /// A-law, the rest of the world: `PCMA`.
    A,
}

impl Law {
    /// The codec that is this law.
    pub fn codec(self) -> Codec {
        match self {
            Law::Mu => Codec::Pcmu,
            Law::A => Codec::Pcma,
        }
    }

    /// Encodes one 16-bit sample.
    pub fn encode_sample(self, sample: i16) -> u8 {
        match self {
            Law::Mu => encode_mu(sample),
            Law::A => encode_a(sample),
        }
    }

    /// Decodes one byte to a 16-bit sample.
    pub fn decode_sample(self, code: u8) -> i16 {
        // The index is a `u8` and the table has 256 entries: this cannot be out of range.
        self.table()[usize::from(code)]
    }

    /// Encodes `pcm` into `out` and returns how many bytes were written: the shorter of both lengths.
    pub fn encode(self, pcm: &[i16], out: &mut [u8]) -> usize {
        let pairs = pcm.iter().zip(out.iter_mut());
        match self {
            Law::Mu => pairs.for_each(|(sample, code)| *code = encode_mu(*sample)),
            Law::A => pairs.for_each(|(sample, code)| *code = encode_a(*sample)),
        }
        pcm.len().min(out.len())
    }

    /// Decodes `codes` into `out` and returns how many samples were written: the shorter of both lengths.
    pub fn decode(self, codes: &[u8], out: &mut [i16]) -> usize {
        let table = self.table();
        for (code, sample) in codes.iter().zip(out.iter_mut()) {
            *sample = table[usize::from(*code)];
        }
        codes.len().min(out.len())
    }

    /// The byte that means silence.
    pub fn silence(self) -> u8 {
        self.encode_sample(0)
    }

    fn table(self) -> &'static [i16; 256] {
        match self {
            Law::Mu => &MU_TABLE,
            Law::A => &A_TABLE,
        }
    }
}

static MU_TABLE: [i16; 256] = mu_table();
static A_TABLE: [i16; 256] = a_table();

/// The reference takes the ones' complement of a negative sample, not its negation, and truncates to 14 bits:
/// that is where look-alike encoders differ.
fn encode_mu(sample: i16) -> u8 {
    const BIAS: u16 = 33;
    const CLIP: u16 = 0x1fff;
    let magnitude = if sample < 0 { !sample } else { sample } as u16;
    let biased = ((magnitude >> 2) + BIAS).min(CLIP);
    // The segment is the position of the highest bit; the bias guarantees at least bit 5.
    let segment = 10 - biased.leading_zeros();
    let mantissa = (biased >> (segment + 1)) & 0x0f;
    let code = ((7 - segment) << 4) as u8 | (0x0f - mantissa as u8);
    if sample < 0 { code } else { code | 0x80 }
}

fn encode_a(sample: i16) -> u8 {
    let magnitude = (if sample < 0 { !sample } else { sample } as u16) >> 4;
    let code = if magnitude < 32 {
        magnitude
    } else {
        let shift = 11 - magnitude.leading_zeros();
        ((shift + 1) << 4) as u16 | ((magnitude >> shift) & 0x0f)
    } as u8;
    let sign = if sample < 0 { 0 } else { 0x80 };
    // Every other bit is inverted on the line.
    (code | sign) ^ 0x55
}

const fn mu_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let inverted = !code & 0xff;
        let segment = (inverted >> 4) & 7;
        let mantissa = inverted & 0x0f;
        let magnitude = ((((mantissa << 1) + 33) << segment) - 33) << 2;
        table[code as usize] = if code < 0x80 { -magnitude } else { magnitude } as i16;
        code += 1;
    }
    table
}

const fn a_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let plain = (code ^ 0x55) & 0x7f;
        let segment = plain >> 4;
        let mantissa = plain & 0x0f;
        let magnitude = match segment {
            0 => (mantissa << 4) + 8,
            _ => ((mantissa << 4) + 0x108) << (segment - 1),
        };
        table[code as usize] = if code < 0x80 { -magnitude } else { magnitude } as i16;
        code += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::path::PathBuf;

    /// 16-bit little-endian words of one reference file, or `None` where the test data is not at hand and not required.
    fn reference(name: &str) -> Option<Vec<i16>> {
        let root =
            std::env::var_os("RINGBACK_TESTDATA").map_or_else(|| PathBuf::from("../shared/testdata"), PathBuf::from);
        match std::fs::read(root.join("g711").join(name)) {
            Ok(bytes) => Some(bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()),
            Err(error) if std::env::var("RINGBACK_REQUIRE_TESTDATA").as_deref() == Ok("1") => {
                panic!("test data {name} is required: {error}")
            }
            Err(error) => {
                eprintln!("not compared with the ITU reference: {name}: {error}");
                None
            }
        }
    }

    fn sweep(law: Law, codes: &str, decoded: &str) {
        let (Some(source), Some(codes), Some(decoded)) = (reference("sweep.src"), reference(codes), reference(decoded))
        else {
            return;
        };
        assert_eq!(source.len(), 65_536);
        for ((sample, code), back) in source.iter().zip(&codes).zip(&decoded) {
            assert_eq!(i16::from(law.encode_sample(*sample)), *code, "encoding {sample}");
            assert_eq!(law.decode_sample(*code as u8), *back, "decoding {code}");
        }
    }

    #[test]
    fn mu_law_equals_the_itu_reference() {
        sweep(Law::Mu, "sweep-r.u", "sweep-r.u-u");
    }

    #[test]
    fn a_law_equals_the_itu_reference() {
        sweep(Law::A, "sweep-r.a", "sweep-r.a-a");
    }

    #[test]
    fn known_codes() {
        assert_eq!(Law::Mu.silence(), 0xff);
        assert_eq!(Law::A.silence(), 0xd5);
        assert_eq!(Law::Mu.encode_sample(i16::MIN), 0x00);
        assert_eq!(Law::Mu.encode_sample(i16::MAX), 0x80);
        assert_eq!(Law::A.encode_sample(i16::MIN), 0x2a);
        assert_eq!(Law::A.encode_sample(i16::MAX), 0xaa);
        assert_eq!(Law::Mu.decode_sample(0x80), 32_124);
        assert_eq!(Law::A.decode_sample(0xaa), 32_256);
    }

    #[test]
    fn coding_twice_changes_nothing() {
        for law in [Law::Mu, Law::A] {
            for code in 0..=255 {
                let again = law.encode_sample(law.decode_sample(code));
                // Mu-law has two zeros and a decoder that keeps no sign for them.
                assert!(again == code || (law == Law::Mu && code == 0x7f && again == 0xff), "{law:?} {code:#x}");
            }
        }
    }

    #[test]
    fn slices_stop_at_the_shorter() {
        let mut codes = [0; 3];
        assert_eq!(Law::Mu.encode(&[0; 5], &mut codes), 3);
        let mut pcm = [7; 2];
        assert_eq!(Law::A.decode(&codes, &mut pcm), 2);
    }
}
