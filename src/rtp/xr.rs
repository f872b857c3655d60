//! RTCP extended reports ([RFC 3611](https://www.rfc-editor.org/rfc/rfc3611)): the VoIP metrics block (section 4.7), for
//! peers whose description asks for it.

use super::rtcp::RtcpError;

/// The packet type of extended reports (RFC 3611 section 2) and the type of this block (section 4.7).
const EXTENDED_REPORT: u8 = 207;
const VOIP_METRICS: u8 = 7;
/// Packets received in a row that end a burst: the value that section 4.7.2 recommends.
const GMIN: u32 = 16;
/// What is not measured (sections 4.7.4 to 4.7.6).
const UNAVAILABLE: u8 = 127;
/// The receiver's concealment is enhanced (11), its buffer adaptive (11), its rate of adjustment not told (section 4.7.6).
const ADAPTIVE_AND_ENHANCED: u8 = 0b1111_0000;

/// Tells bursts of loss from single losses, packet by packet (RFC 3611 appendix A.2; the names are its own).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bursts {
    received: u32,
    lost: u32,
    c11: u64,
    c13: u64,
    c14: u64,
    c22: u64,
    c23: u64,
    c33: u64,
}

/// What bursts came to: densities in 256ths, durations in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BurstMetrics {
    /// The share of packets lost in bursts.
    pub burst_density: u8,
    /// The share of packets lost between them.
    pub gap_density: u8,
    /// The mean length of a burst.
    pub burst_ms: u16,
    /// The mean length of the time between.
    pub gap_ms: u16,
}

impl Bursts {
    /// Counts a packet that came.
    pub fn received(&mut self) {
        self.received = self.received.saturating_add(1);
    }

    /// Counts one that did not.
    pub fn lost(&mut self) {
        if self.received >= GMIN {
            if self.lost == 1 {
                self.c14 += 1;
            } else {
                self.c13 += 1;
            }
            self.lost = 1;
            self.c11 += u64::from(self.received);
        } else {
            self.lost = self.lost.saturating_add(1);
            if self.received == 0 {
                self.c33 += 1;
            } else {
                self.c23 += 1;
                self.c22 += u64::from(self.received - 1);
            }
        }
        self.received = 0;
    }

    /// The metrics of a stream whose packets are so long.
    pub fn metrics(&self, packet_ms: u32) -> BurstMetrics {
        let [c11, c13, c14, c22, c23, c33] =
            [self.c11 + u64::from(self.received), self.c13, self.c14, self.c22, self.c23, self.c33].map(|n| n as f64);
        let (c31, c32) = (c13, c23);
        let whole = c11 + c14 + c13 + c22 + c23 + c31 + c32 + c33;
        let ms = f64::from(packet_ms);
        let share = |part: f64, all: f64| if all > 0.0 { part / all } else { 0.0 };
        let p32 = share(c32, c31 + c32 + c33);
        let p23 = if c22 + c23 < 1.0 { 1.0 } else { 1.0 - share(c22, c22 + c23) };
        let gap = (c11 + c14 + c13) * ms / c13.max(1.0);
        let bursts = self.c13 > 0;
        BurstMetrics {
            burst_density: if bursts { byte(256.0 * share(p23, p23 + p32)) } else { 0 },
            gap_density: byte(256.0 * share(c14, c11 + c14)),
            burst_ms: if bursts { word(whole * ms / c13 - gap) } else { 0 },
            gap_ms: word(if bursts { gap } else { whole * ms }),
        }
    }
}

fn byte(value: f64) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

fn word(value: f64) -> u16 {
    value.round().clamp(0.0, 65_535.0) as u16
}

/// The VoIP metrics of one source, since its beginning (RFC 3611 section 4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VoipMetrics {
    /// Whose packets they are about.
    pub ssrc: u32,
    /// Packets lost, in 256ths.
    pub loss_rate: u8,
    /// Packets that came too late to be played, in 256ths.
    pub discard_rate: u8,
    /// Bursts and gaps.
    pub bursts: BurstMetrics,
    /// The round trip to the peer, in milliseconds; 0 while it is not known.
    pub round_trip_ms: u16,
    /// Our own delay: packet, buffer and decoder, in milliseconds.
    pub end_system_ms: u16,
    /// Loudness of the peer's speech in dBm0, as dB below full scale.
    pub signal_level: i8,
    /// The E-model's rating of what we receive: 0 to 100.
    pub r_factor: u8,
    /// Scores of listening and of conversation, in tenths: 10 to 50.
    pub mos_lq: u8,
    /// See `mos_lq`.
    pub mos_cq: u8,
    /// The jitter buffer's present delay, the one that it would have at most, and the bound of that, in milliseconds.
    pub jitter_buffer_ms: [u16; 3],
}

impl VoipMetrics {
    /// Bytes of the packet.
    pub const LEN: usize = 44;

    /// Writes a whole extended report by `from` with this block; returns its length.
    pub fn write(&self, from: u32, buf: &mut [u8]) -> Result<usize, RtcpError> {
        let out = buf.first_chunk_mut::<{ Self::LEN }>().ok_or(RtcpError::BufferSize)?;
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            for byte in bytes {
                if let Some(room) = out.get_mut(at) {
                    *room = *byte;
                }
                at += 1;
            }
        };
        put(&[0x80, EXTENDED_REPORT, 0, (Self::LEN / 4 - 1) as u8]);
        put(&from.to_be_bytes());
        put(&[VOIP_METRICS, 0, 0, 8]);
        put(&self.ssrc.to_be_bytes());
        put(&[self.loss_rate, self.discard_rate, self.bursts.burst_density, self.bursts.gap_density]);
        put(&self.bursts.burst_ms.to_be_bytes());
        put(&self.bursts.gap_ms.to_be_bytes());
        put(&self.round_trip_ms.to_be_bytes());
        put(&self.end_system_ms.to_be_bytes());
        // Noise level, residual echo and the external rating are not measured.
        put(&[self.signal_level as u8, UNAVAILABLE, UNAVAILABLE, GMIN as u8]);
        put(&[self.r_factor, UNAVAILABLE, self.mos_lq, self.mos_cq]);
        put(&[ADAPTIVE_AND_ENHANCED, 0]);
        self.jitter_buffer_ms.iter().for_each(|ms| put(&ms.to_be_bytes()));
        Ok(Self::LEN)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// A stream from a picture: `.` came, `x` did not.
    fn stream(picture: &str) -> BurstMetrics {
        let mut bursts = Bursts::default();
        for packet in picture.chars() {
            if packet == '.' {
                bursts.received();
            } else {
                bursts.lost();
            }
        }
        bursts.metrics(20)
    }

    #[test]
    fn single_losses_are_no_burst() {
        let calm = ".".repeat(99);
        let metrics = stream(&format!("{calm}x{calm}x{calm}x{calm}"));
        // The first loss opens what could be a burst (appendix A.2 counts it as one), the others are alone.
        assert!((1..=4).contains(&metrics.gap_density), "{metrics:?}");
        assert!(metrics.gap_ms > 4_000, "{metrics:?}");
        assert_eq!(stream(&calm), BurstMetrics { gap_ms: 1_980, ..BurstMetrics::default() });
    }

    #[test]
    fn losses_close_together_are_bursts_with_their_density_and_length() {
        let calm = ".".repeat(100);
        // Five of nine packets lost: 180 ms with a density of five ninths.
        let metrics = stream(&format!("{calm}x.x.x.x.x{calm}x.x.x.x.x{calm}x.x.x.x.x{calm}"));
        assert!((100..=260).contains(&metrics.burst_ms), "{metrics:?}");
        assert!((120..=160).contains(&metrics.burst_density), "{metrics:?}");
        assert!((2_000..=3_000).contains(&metrics.gap_ms) && metrics.gap_density == 0, "{metrics:?}");
    }

    #[test]
    fn the_block_is_laid_out_as_section_4_7_has_it() {
        let metrics = VoipMetrics {
            ssrc: 0x0102_0304,
            loss_rate: 5,
            discard_rate: 6,
            bursts: BurstMetrics { burst_density: 7, gap_density: 8, burst_ms: 0x090a, gap_ms: 0x0b0c },
            round_trip_ms: 0x0d0e,
            end_system_ms: 0x0f10,
            signal_level: -20,
            r_factor: 93,
            mos_lq: 44,
            mos_cq: 43,
            jitter_buffer_ms: [40, 200, 600],
        };
        let mut buf = [0; VoipMetrics::LEN];
        assert_eq!(metrics.write(0xaabb_ccdd, &mut buf), Ok(44));
        let expected = [
            0x80, 207, 0, 10, 0xaa, 0xbb, 0xcc, 0xdd, 7, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
            16, 236, 127, 127, 16, 93, 127, 44, 43, 0xf0, 0, 0, 40, 0, 200, 2, 88,
        ];
        assert_eq!(buf, expected);
        assert_eq!(metrics.write(1, &mut [0; 43]), Err(RtcpError::BufferSize));
        // Who does not know the type passes it over.
        assert_eq!(super::super::rtcp::read(&buf, |item| panic!("{item:?}")), Ok(()));
    }
}
