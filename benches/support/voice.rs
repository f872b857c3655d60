//! Something to say, for the benchmarks.

/// Something like a voice, the 20 ms of this number in `N` samples: harmonics, up to a quarter of the rate, whose level swells.
pub fn voice<const N: usize>(frame: usize) -> [i16; N] {
    std::array::from_fn(|n| {
        let t = (frame * N + n) as f32 / (N * 50) as f32;
        let swell = 0.6 + 0.4 * (t * 9.0).sin();
        let loud = |h: usize| 3_000.0 / h as f32 * (std::f32::consts::TAU * 130.0 * h as f32 * t).sin();
        let sum: f32 = (1..N * 15 / 160).map(loud).sum();
        (sum * swell) as i16
    })
}
