//! How good a direction sounds: the E-model of [ITU-T G.107](https://www.itu.int/rec/T-REC-G.107), reduced to what a network
//! changes, `R = 93.2 - Id - Ie,eff`.
//!
//! - 93.2 is R0 - Is with G.107's default values (its Table 2): a call without delay, loss or coding.
//! - `Id`, the delay impairment, follows the curve that G.107 yields for its default echo path (TELR 65 dB) up to 400 ms, in
//!   the two straight lines by which it is usually written: `0.024 T + 0.11 (T - 177.3)` above 177.3 ms.
//! - `Ie,eff = Ie + (95 - Ie) Ppl / (Ppl / BurstR + Bpl)` (G.107 equation 7-29) with `Ie` and `Bpl` of the codec (G.113
//!   Appendix I where it has them). Impairments of two legs in a row are added (G.113 section 6).
//! - The score is G.107's Annex B of R.

use crate::codec::Codec;
use crate::sdp::Mos;

/// R without any impairment of ours: G.107 with all default values.
const BEST: f32 = 93.2;

/// What takes away from the quality of one direction of one leg.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Impairment {
    /// One-way delay in milliseconds.
    pub delay_ms: f32,
    /// `Ie,eff`.
    pub equipment: f32,
}

impl Impairment {
    /// Of sound that is coded by `codec`, of which the share `lost` (0 to 1) has to be concealed, in runs `burst_ratio` times
    /// as long as chance would make them.
    pub fn new(codec: Codec, lost: f32, burst_ratio: f32, delay_ms: f32) -> Self {
        let (ie, bpl) = robustness(codec);
        let percent = lost.clamp(0.0, 1.0) * 100.0;
        let equipment = ie + (95.0 - ie) * percent / (percent / burst_ratio.clamp(1.0, 8.0) + bpl);
        Self { delay_ms, equipment }
    }

    /// Of two legs, one after the other.
    pub fn and(self, next: Impairment) -> Impairment {
        Impairment { delay_ms: self.delay_ms + next.delay_ms, equipment: self.equipment + next.equipment }
    }

    /// The rating that is left: 0 to 93.2.
    pub fn rating(self) -> f32 {
        let late = (self.delay_ms - 177.3).max(0.0);
        (BEST - (0.024 * self.delay_ms + 0.11 * late) - self.equipment).max(0.0)
    }

    /// The score that is left.
    pub fn mos(self) -> Mos {
        mos(self.rating())
    }
}

/// `Ie` and `Bpl` of a codec with its loss concealment.
fn robustness(codec: Codec) -> (f32, f32) {
    match codec {
        // G.113 Appendix I: G.711 with the concealment of its Appendix I, random loss.
        Codec::Pcmu | Codec::Pcma => (0.0, 25.1),
        // At 64 kbit/s it has no impairment on the narrowband scale; its concealment is of the same kind.
        Codec::G722 => (0.0, 25.1),
        // Not in G.113. Fitted to what Opus with FEC and concealment loses by PESQ at 1 to 10 % (docs/decisions).
        Codec::Opus => (0.0, 50.0),
    }
}

/// The score of a rating (G.107 Annex B).
fn mos(r: f32) -> Mos {
    Mos::new(match r {
        r if r <= 0.0 => 1.0,
        r if r >= 100.0 => 4.5,
        r => 1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7.0e-6,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn score(codec: Codec, lost: f32, delay_ms: f32) -> f32 {
        Impairment::new(codec, lost, 1.0, delay_ms).mos().value()
    }

    #[test]
    fn the_scores_of_g_107_annex_b() {
        // Table B.1: the lower limits of the classes of users' satisfaction.
        for (r, expected) in
            [(90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58), (0.0, 1.0), (100.0, 4.5)]
        {
            assert!((mos(r).value() - expected).abs() < 0.011, "R {r}: {} is not {expected}", mos(r));
        }
        assert!((score(Codec::Pcmu, 0.0, 0.0) - 4.41).abs() < 0.011);
    }

    #[test]
    fn delay_and_loss_each_take_their_part() {
        // G.107's curve: 150 ms is hardly noticed, 400 ms is.
        assert!((score(Codec::Pcmu, 0.0, 150.0) - 4.33).abs() < 0.02);
        assert!((score(Codec::Pcmu, 0.0, 400.0) - 3.05).abs() < 0.03);
        // G.711 with concealment at 3 % and 10 % by equation 7-29: Ie,eff of 10.1 and 27.1.
        assert!((score(Codec::Pcmu, 0.03, 0.0) - 4.14).abs() < 0.03);
        assert!((score(Codec::Pcmu, 0.10, 0.0) - 3.41).abs() < 0.03);
        assert!(score(Codec::Opus, 0.10, 0.0) > score(Codec::Pcmu, 0.10, 0.0) + 0.3);
    }

    #[test]
    fn loss_in_bursts_is_worse_and_legs_add_up() {
        let random = Impairment::new(Codec::Pcmu, 0.05, 1.0, 40.0);
        let bursts = Impairment::new(Codec::Pcmu, 0.05, 2.0, 40.0);
        assert!(bursts.mos() < random.mos());
        let both = random.and(random);
        assert!(both.mos() < random.mos());
        assert_eq!((both.delay_ms, both.equipment), (80.0, 2.0 * random.equipment));
        assert_eq!(Impairment::new(Codec::Pcmu, 1.0, 8.0, 5_000.0).mos().value(), 1.0);
    }
}
