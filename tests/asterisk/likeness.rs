//! Is this recording in what was heard? By normalised cross-correlation of the waveforms: 1 is the same, whatever the
//! loudness, and speech of another text stays low.

/// Where `clip` is found best in `heard`, and how alike the two are there.
pub fn find(heard: &[i16], clip: &[i16]) -> (f64, usize) {
    let clip: Vec<f64> = clip.iter().map(|&sample| f64::from(sample)).collect();
    let heard: Vec<f64> = heard.iter().map(|&sample| f64::from(sample)).collect();
    let power = |samples: &[f64]| samples.iter().map(|sample| sample * sample).sum::<f64>();
    let own = power(&clip);
    if clip.is_empty() || heard.len() < clip.len() || own == 0.0 {
        return (0.0, 0);
    }
    let mut there = power(&heard[..clip.len()]);
    let mut best = (0.0, 0);
    for place in 0..=heard.len() - clip.len() {
        // Silence is like nothing.
        if there > own / 1000.0 {
            let product: f64 = heard[place..].iter().zip(&clip).map(|(a, b)| a * b).sum();
            let like = product / (there * own).sqrt();
            if like > best.0 {
                best = (like, place);
            }
        }
        if let Some(next) = heard.get(place + clip.len()) {
            there += next * next - heard[place] * heard[place];
        }
    }
    best
}

/// The middle one of the likenesses of `said`'s half-seconds, each found where it is best: a clock or a jitter buffer
/// may move them against each other.
pub fn half_seconds(heard: &[i16], said: &[i16]) -> f64 {
    let mut likes: Vec<f64> = said.chunks_exact(4000).map(|clip| find(heard, clip).0).collect();
    likes.sort_by(f64::total_cmp);
    likes.get(likes.len() / 2).copied().unwrap_or(0.0)
}

/// How alike `clip` and what was heard at `place` are, piece by piece: a tenth of a second each, found within 30 ms of its
/// place, weighed by its loudness. A packet that the playout left out or stretched moves what follows, and no more.
pub fn in_pieces(heard: &[i16], place: usize, clip: &[i16]) -> f64 {
    const PIECE: usize = 800;
    const ROOM: usize = 240;
    let (mut sum, mut weight) = (0.0, 0.0);
    for (at, piece) in clip.chunks(PIECE).enumerate() {
        let start = (place + at * PIECE).saturating_sub(ROOM);
        let end = (place + at * PIECE + piece.len() + ROOM).min(heard.len());
        let loud: f64 = piece.iter().map(|&sample| f64::from(sample).powi(2)).sum();
        sum += loud * find(heard.get(start..end).unwrap_or(&[]), piece).0;
        weight += loud;
    }
    if weight > 0.0 { sum / weight } else { 0.0 }
}

#[test]
fn a_clip_with_a_gap_is_the_same_in_pieces() {
    let mut state = 9_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) as i32 - 32_768) as i16 / 4
    };
    let clip: Vec<i16> = (0..3200).map(|_| noise()).collect();
    let other: Vec<i16> = (0..3200).map(|_| noise()).collect();
    // 20 ms are missing in the middle.
    let heard: Vec<i16> = [&[0; 500][..], &clip[..1500], &clip[1660..], &[0; 500]].concat();
    assert!(find(&heard, &clip).0 < 0.8);
    let (like, unlike) = (in_pieces(&heard, 500, &clip), in_pieces(&heard, 500, &other));
    assert!(like > 0.9 && unlike < 0.4, "{like} and {unlike}");
}

#[test]
fn a_clip_is_found_in_noise_and_another_is_not() {
    let mut state = 7_u32;
    let mut noise = |scale: i32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (((state >> 16) as i32 - 32_768) / scale) as i16
    };
    let clip: Vec<i16> = (0..800).map(|_| noise(4)).collect();
    let other: Vec<i16> = (0..800).map(|_| noise(4)).collect();
    let heard: Vec<i16> = (0..4000)
        .map(|at| {
            let said = if (1200..2000).contains(&at) { clip[at - 1200] / 2 } else { 0 };
            said + noise(64)
        })
        .collect();
    let (like, place) = find(&heard, &clip);
    assert!(like > 0.95 && place == 1200, "{like} at {place}");
    assert!(find(&heard, &other).0 < 0.3);
}
