//! Asterisk by codecs that carry twice the telephone's band: what lies above 4 kHz arrives, there and back.

use ringback::codec::{Codec, Decoder, Rate};

use super::peer::sound::{Recording, WIDE, level};
use super::peer::{Browser, Codecs, PATIENCE, Sound};
use super::{call, exec, hang_up, likeness, no_call_is_left};

/// A tone that no telephone's band holds.
const HIGH: f64 = 5500.0;
/// Where the telephone's band ends, with room for filters' slopes.
const ABOVE: f64 = 4200.0;
/// Taps of the filter that leaves what is above: it falls off within 300 Hz.
const TAPS: usize = 255;
/// Seconds of the prompt that are looked for, and the first of them.
const SECONDS: std::ops::Range<usize> = 2..6;
/// What is compared is how loud each of so many samples is: a codec may put other noise in the place of a hiss.
const STEP: usize = WIDE / 100;
/// So many steps are one piece, and a piece is looked for within so many of its place.
const PIECE: usize = 100;
const ROOM: usize = 100;
/// How much weaker than in the prompt what is above the band may be, in dB. By G.711 nothing is left.
const WEAKER: f64 = 10.0;

/// What of `samples`, which are at 16 kHz, lies above [`ABOVE`]: a windowed sinc, less a unit impulse.
fn above(samples: &[i16]) -> Vec<i16> {
    let middle = (TAPS / 2) as f64;
    let cut = 2.0 * ABOVE / WIDE as f64;
    let tap = |n: usize| {
        let t = n as f64 - middle;
        let sinc = if t == 0.0 { cut } else { (std::f64::consts::PI * cut * t).sin() / (std::f64::consts::PI * t) };
        let window = 0.5 + 0.5 * (std::f64::consts::PI * t / (middle + 1.0)).cos();
        f64::from(u8::from(t == 0.0)) - sinc * window
    };
    let taps: Vec<f64> = (0..TAPS).map(tap).collect();
    let filtered = |window: &[i16]| window.iter().zip(&taps).map(|(&sample, tap)| f64::from(sample) * tap).sum::<f64>();
    samples.windows(TAPS).map(|window| filtered(window) as i16).collect()
}

/// The prompt that 609 plays, as Asterisk has it.
async fn prompt() -> Vec<i16> {
    let bytes = exec(&["cat", "/usr/share/asterisk/sounds/en_US_f_Allison/wide/demo-congrats.g722"]).await;
    let mut decoder = Decoder::new(Codec::G722, Rate::Wide).expect("a decoder");
    let mut samples = Vec::new();
    for packet in bytes.chunks(160) {
        let mut pcm = [0; 320];
        let length = decoder.decode(packet, &mut pcm).expect("G.722");
        samples.extend_from_slice(&pcm[..length]);
    }
    samples
}

/// How loud `samples` are, step by step, about their mean.
fn loudness(samples: &[i16]) -> Vec<i16> {
    let power = |step: &[i16]| step.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / step.len() as f64;
    let steps: Vec<f64> = samples.chunks_exact(STEP).map(|step| 8.0 * power(step).sqrt()).collect();
    let mean = steps.iter().sum::<f64>() / steps.len().max(1) as f64;
    steps.iter().map(|step| (step - mean) as i16).collect()
}

/// How like the pieces of `said`, which begins at so many seconds, what was heard is: the middle one of their likenesses. (What
/// playout left out or stretched moves what follows.)
fn like(heard: &[i16], seconds: usize, said: &[i16]) -> f64 {
    let (heard, said) = (loudness(heard), loudness(said));
    let place = |at: usize| {
        let at = seconds * WIDE / STEP + at * PIECE;
        &heard[at.saturating_sub(ROOM)..heard.len().min(at + PIECE + ROOM)]
    };
    let mut likes: Vec<f64> =
        said.chunks_exact(PIECE).enumerate().map(|(at, piece)| likeness::find(place(at), piece).0).collect();
    likes.sort_by(f64::total_cmp);
    likes[likes.len() / 2]
}

/// What was heard above the band.
#[derive(Debug)]
struct Heard {
    /// How like the prompt, and how like another part of it.
    like: f64,
    unlike: f64,
    /// How loud, compared with the prompt, in dB.
    level: f64,
}

/// Asterisk sends back what the browser says.
async fn echoes(number: &str) {
    let mut browser = super::browser().await;
    let call = call(&mut browser, number, Codecs::Opus).await;
    browser.say(Sound::Tone(HIGH)).await;
    println!("echo: {:?}", browser.wide.tone("the browser", HIGH).await);
    hang_up(browser, &call).await;
    no_call_is_left().await;
}

/// Asterisk plays its prompt.
async fn heard(number: &str) -> Heard {
    let prompt = prompt().await;
    let mut browser = super::browser().await;
    let call = call(&mut browser, number, Codecs::Opus).await;
    let heard = recorded(&browser, SECONDS.end * 1_000 + 2_000).await;
    // The call is over before the machine is kept busy with sums.
    hang_up(browser, &call).await;
    no_call_is_left().await;
    let part = |seconds: std::ops::Range<usize>| above(&prompt[seconds.start * WIDE..seconds.end * WIDE]);
    let (heard, said) = (above(&heard), part(SECONDS));
    let other = part(SECONDS.end + 4..SECONDS.end + 8);
    let like = |said: &[i16]| like(&heard, SECONDS.start, said);
    let heard = Heard { like: like(&said), unlike: like(&other), level: level(&heard) - level(&said) };
    println!("above {ABOVE} Hz, {number}: {heard:.2?}");
    heard
}

async fn recorded(browser: &Browser, ms: usize) -> Vec<i16> {
    assert!(browser.wide.until(PATIENCE, |r: &Recording| r.ms() > ms).await, "too little was heard");
    browser.wide.read(|r| r.samples().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_echoes_a_high_tone_by_g722() {
    echoes("300").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_echoes_a_high_tone_by_opus() {
    echoes("800").await;
}

async fn speaks_wideband(number: &str) {
    let Heard { like, unlike, level } = heard(number).await;
    assert!(
        like > 0.85 && unlike < like - 0.1 && level > -WEAKER,
        "{like:.2}, another part {unlike:.2}; {level:.1} dB"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_speaks_wideband_by_g722() {
    speaks_wideband("309").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_speaks_wideband_by_opus() {
    speaks_wideband("809").await;
}

/// The same prompt by the telephone's own codec: the measure measures something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_speaks_no_wideband_by_g711() {
    let level = heard("609").await.level;
    assert!(level < -2.0 * WEAKER, "{level:.1} dB");
}
