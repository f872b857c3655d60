//! Calls through the gateway in its container, to and from Asterisk and SIPp in theirs. `tests/asterisk/run` puts the
//! containers up, tells where they are, and starts these tests; alone they have nothing to call.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // these tests are sockets, clocks and programs
#![allow(missing_docs)]

mod likeness;
#[path = "../peer/mod.rs"]
mod peer;
mod procedures;
mod wideband;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;

use likeness::{find, in_pieces};
use peer::{Browser, Codecs, PATIENCE, Sound};

/// Asterisk's own tone.
const MILLIWATT: f64 = 1004.0;
const BROWSER_TONE: f64 = 620.0;

fn told(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: start tests/asterisk/run"))
}

async fn browser() -> Browser {
    page("RINGBACK_LAB_TOKEN").await
}

/// Another user than `alice`.
async fn bob() -> Browser {
    page("RINGBACK_LAB_BOB").await
}

async fn page(token: &str) -> Browser {
    let http: SocketAddr = told("RINGBACK_LAB_HTTP").parse().expect("an address");
    Browser::connect(http, json!({ "token": told(token).trim() })).await
}

/// Runs a command in Asterisk's container.
async fn exec(command: &[&str]) -> Vec<u8> {
    let container = told("RINGBACK_LAB_ASTERISK");
    let run = Command::new("docker").arg("exec").arg(container.trim()).args(command).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, run).await.expect("an answer in time").expect("docker");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Runs a command of Asterisk's console.
async fn asterisk(command: &str) -> String {
    String::from_utf8_lossy(&exec(&["asterisk", "-rx", command]).await).into_owned()
}

/// One of Asterisk's own sounds, 8 kHz.
async fn sound(name: &str) -> Vec<i16> {
    let bytes = exec(&["cat", &format!("/usr/share/asterisk/sounds/en/{name}.wav")]).await;
    let wav = hound::WavReader::new(std::io::Cursor::new(bytes)).expect("a WAV file");
    assert_eq!(wav.spec().sample_rate, 8000);
    wav.into_samples().map(|sample| sample.expect("a sample")).collect()
}

/// Dials and is answered.
async fn call(browser: &mut Browser, to: &str, codecs: Codecs) -> String {
    let call = browser.call(to, codecs).await;
    browser.expect("answer").await;
    browser.expect("answered").await;
    call
}

async fn hang_up(mut browser: Browser, call: &str) {
    browser.hangup(call).await;
    browser.ended("us").await;
    browser.close().await;
}

/// Asterisk has no call left: the BYE reached it.
async fn no_call_is_left() {
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let quiet = async {
        while !asterisk("core show channels").await.contains("0 active channels") {
            tick.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, quiet).await.expect("Asterisk still has a channel");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_echoes_the_browser() {
    for codecs in [Codecs::All, Codecs::Pcmu] {
        let mut browser = browser().await;
        let call = call(&mut browser, "600", codecs).await;
        browser.say(Sound::Tone(BROWSER_TONE)).await;
        println!("echo: {:?}", browser.heard.tone("the browser", BROWSER_TONE).await);
        hang_up(browser, &call).await;
        no_call_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_speaks_to_the_browser() {
    let mut browser = browser().await;
    let (prompt, other) = (sound("demo-congrats").await, sound("demo-instruct").await);
    let call = call(&mut browser, "601", Codecs::All).await;
    // Four seconds from the prompt's middle: beyond its start by whatever the set-up took.
    let (said, control) = (&prompt[2 * 8000..6 * 8000], &other[2 * 8000..6 * 8000]);
    let long = |r: &peer::sound::Recording| r.ms() > 8000;
    assert!(browser.heard.until(PATIENCE, long).await, "too little was heard");
    let heard = browser.heard.read(|r| r.samples().to_vec());
    let (like, unlike) = (likeness::half_seconds(&heard, said), likeness::half_seconds(&heard, control));
    println!("the prompt's likeness {like:.2}, another prompt's {unlike:.2}");
    assert!(like > 0.8 && unlike < 0.5, "the prompt {like:.2}, another {unlike:.2}");
    hang_up(browser, &call).await;
    no_call_is_left().await;
}

/// Where `clip` was heard first from a place in the recording on, once it was heard to its end.
async fn said(browser: &Browser, from: usize, clip: &[i16]) -> Option<usize> {
    const STEP: usize = 2000;
    let end = tokio::time::Instant::now() + PATIENCE;
    let mut start = from;
    while tokio::time::Instant::now() < end {
        // Step by step: the same digit may come again, and the first one is wanted.
        let until = start + clip.len() + STEP;
        if !browser.heard.until(PATIENCE, |r| r.samples().len() > until).await {
            return None;
        }
        let heard = browser.heard.read(|r| r.samples().to_vec());
        let (like, place) = find(&heard[start..until], clip);
        if like > FOUND && in_pieces(&heard, start + place, clip) > SAID {
            return Some(start + place);
        }
        start += STEP;
    }
    None
}

/// How like its recording a whole digit is where it is to be found at all.
const FOUND: f64 = 0.5;
/// How like its recording a spoken digit is at least, piece by piece, and by how much more than any other digit.
const SAID: f64 = 0.75;
const MORE: f64 = 0.15;

/// Asterisk reads four digits, keeps them in its database and says them.
async fn read_out(wanted: &str, in_the_stream: bool) {
    // What an earlier try left.
    asterisk("database del lab digits").await;
    let mut browser = browser().await;
    let call = call(&mut browser, "603", Codecs::All).await;
    // The beep says that it listens.
    assert!(browser.heard.until(PATIENCE, |heard| heard.loudest() > -35.0).await, "no beep is heard");
    if in_the_stream {
        browser.press(wanted).await;
    } else {
        browser.digits(&call, wanted).await;
    }
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let stored = async {
        while !asterisk("database get lab digits").await.contains(wanted) {
            tick.tick().await;
        }
    };
    let well = tokio::time::timeout(PATIENCE, stored).await.is_ok();
    assert!(well, "Asterisk has not {wanted} but {}", asterisk("database get lab digits").await);
    // And it says them: each digit's own recording is found in what is heard, in that order, and is more like it than the
    // recordings of the nine others.
    let mut clips = Vec::new();
    for digit in '0'..='9' {
        clips.push((digit, sound(&format!("digits/{digit}")).await));
    }
    let mut from = 0;
    for digit in wanted.chars() {
        let clip = &clips.iter().find(|(other, _)| *other == digit).expect("a digit").1;
        let place = said(&browser, from, clip).await.unwrap_or_else(|| panic!("digit {digit} is not heard"));
        let heard = browser.heard.read(|r| r.samples().to_vec());
        let like = in_pieces(&heard, place, clip);
        let window = &heard[place.saturating_sub(800)..(place + clip.len() + 800).min(heard.len())];
        let others = clips.iter().filter(|(other, _)| *other != digit);
        let (unlike, other) = others
            .map(|(other, clip)| (in_pieces(window, find(window, clip).1, clip), *other))
            .fold((0.0, ' '), |best, one| if one.0 > best.0 { one } else { best });
        println!("digit {digit}: likeness {like:.2} at {} ms; next {other}: {unlike:.2}", place / 8);
        assert!(like > SAID && like > unlike + MORE, "digit {digit}: {like:.2}, {other}: {unlike:.2}");
        from = place + clip.len() / 2;
    }
    asterisk("database del lab digits").await;
    hang_up(browser, &call).await;
    no_call_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_reads_back_the_digits_of_the_stream() {
    read_out("2885", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_reads_back_the_digits_of_the_protocol() {
    read_out("4107", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_presses_keys() {
    let mut browser = browser().await;
    let call = call(&mut browser, "604", Codecs::All).await;
    for digit in ["1", "5", "9", "#"] {
        assert_eq!(browser.expect("digit").await["digit"], digit);
    }
    browser.heard.tone("the browser", MILLIWATT).await;
    hang_up(browser, &call).await;
    no_call_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_is_busy() {
    let mut browser = browser().await;
    browser.call("605", Codecs::All).await;
    let ended = browser.ended("them").await;
    assert_eq!(ended["sip"], 486, "{ended}");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_calls_the_browser_and_hears_it() {
    let mut browser = browser().await;
    asterisk("channel originate PJSIP/201@gateway extension 600@lab").await;
    let incoming = browser.expect("incoming").await;
    browser.accept(&incoming).await;
    browser.expect("answered").await;
    browser.say(Sound::Tone(BROWSER_TONE)).await;
    browser.heard.tone("the browser", BROWSER_TONE).await;
    hang_up(browser, incoming["call"].as_str().unwrap()).await;
    no_call_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_calls_the_browser_and_hangs_up() {
    let mut browser = browser().await;
    asterisk("channel originate PJSIP/201@gateway extension 602@lab").await;
    let incoming = browser.expect("incoming").await;
    browser.accept(&incoming).await;
    browser.expect("answered").await;
    browser.heard.tone("the browser", MILLIWATT).await;
    asterisk("channel request hangup all").await;
    browser.ended("them").await;
    browser.close().await;
    no_call_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asterisk_gives_up_ringing() {
    let mut browser = browser().await;
    asterisk("channel originate PJSIP/201@gateway extension 602@lab").await;
    browser.expect("incoming").await;
    asterisk("channel request hangup all").await;
    browser.ended("them").await;
    browser.close().await;
    no_call_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sipp_echoes_the_browser() {
    let mut browser = browser().await;
    let call = call(&mut browser, "700", Codecs::All).await;
    browser.say(Sound::Tone(BROWSER_TONE)).await;
    browser.heard.tone("the browser", BROWSER_TONE).await;
    hang_up(browser, &call).await;
}
