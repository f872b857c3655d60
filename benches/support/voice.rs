//! Something to say, for the benchmarks.

/// Something like a voice, the 20 ms of this number: harmonics whose level swells.
pub fn voice(frame: usize) -> [i16; 160] {
    std::array::from_fn(|n| {
        let t = (frame * 160 + n) as f32 / 8_000.0;
        let swell = 0.6 + 0.4 * (t * 9.0).sin();
        let sum: f32 = (1..15).map(|h| 3_000.0 / h as f32 * (std::f32::consts::TAU * 130.0 * h as f32 * t).sin()).sum();
        (sum * swell) as i16
    })
}
