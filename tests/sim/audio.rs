//! How a call sounds and why it does not: what the media path reports reaches browsers, the call's record and the status.

use ringback::call::SocketId;
use ringback::sdp::{
    CallQuality, Codec, FlowQuality, Heard, LegQuality, MediaLoss, MediaReport, Mos, NoAudio, Side, Verdict,
};
use ringback::signal::{Grade, ServerMessage};
use ringback::switch::{CallId, Input};

use crate::support::{Habits, World, call};

fn calling(habits: Habits) -> (World, SocketId, CallId) {
    let mut world = World::new();
    world.one().habits = habits;
    let alice = world.browser(1, "alice");
    world.say(alice, &call("c1", "600"));
    world.until(alice, "c1", "answer");
    let id = *world.media.keys().next().unwrap();
    (world, alice, id)
}

fn talking() -> (World, SocketId, CallId) {
    let (mut world, alice, id) = calling(Habits::answering());
    world.until(alice, "c1", "answered");
    world.run(500);
    (world, alice, id)
}

fn report(world: &mut World, call: CallId, report: MediaReport) {
    world.input(Input::Media { call, report });
    world.run(10);
}

fn flow(codec: Codec, mos: f32) -> FlowQuality {
    let (mos, loss_permille, concealed_ms) = (Mos::new(mos), 25, Some(30));
    FlowQuality { codec, loss_permille, jitter_ms: 4, concealed_ms, buffer_ms: Some(40), delay_ms: 60, mos }
}

/// A second of which the browser hears this and the trunk hears that.
fn second(browser_hears: f32, trunk_hears: f32) -> MediaReport {
    let leg = |codec, mos, hears| LegQuality {
        inbound: Some(flow(codec, mos)),
        outbound: None,
        rtt_ms: Some(20),
        hears: Some(Heard { delay_ms: 110, mos: Mos::new(hears) }),
        level_db: -20,
    };
    MediaReport::Quality(CallQuality {
        a: leg(Codec::Opus, trunk_hears, browser_hears),
        b: leg(Codec::Pcmu, browser_hears, trunk_hears),
    })
}

fn missing(from: Side, at: Side, cause: NoAudio) -> MediaReport {
    MediaReport::Audio { from, verdict: Some(Verdict { at, cause }) }
}

/// What the browser was told of sound, in short.
fn told(world: &mut World, alice: SocketId) -> Vec<String> {
    let told = world.page(alice).heard.iter().filter_map(|message| match message {
        ServerMessage::NoAudio { way, at, cause, text, .. } => {
            assert!(!text.is_empty());
            Some(format!("{way:?} {at:?} {cause}"))
        }
        ServerMessage::Audio { way, .. } => Some(format!("{way:?}")),
        ServerMessage::Quality { grade, .. } => Some(format!("{grade:?}")),
        _ => None,
    });
    told.collect()
}

#[test]
fn the_browser_is_told_each_second_how_all_four_directions_sound() {
    let (mut world, alice, id) = talking();
    report(&mut world, id, second(4.3, 4.35));
    let Some(ServerMessage::Quality { grade, delay_ms, down, up, trunk_down, trunk_up, .. }) =
        world.page(alice).heard.last().cloned()
    else {
        panic!()
    };
    assert_eq!((grade, delay_ms, down, trunk_up), (Grade::Good, Some(110), None, None));
    let (up, trunk_down) = (up.unwrap(), trunk_down.unwrap());
    assert_eq!((up.codec.as_str(), trunk_down.codec.as_str()), ("opus", "PCMU"));
    assert_eq!((up.loss_pct, up.concealed_pct, up.rtt_ms, up.level_db), (2.5, Some(3.0), Some(20), Some(-20)));
    assert_eq!((up.buffer_ms, trunk_down.buffer_ms), (Some(40), Some(40)));
    assert_eq!((up.mos, trunk_down.mos), (4.35, 4.3));
    for (worse, grade) in [(4.34, "Excellent"), (4.33, "Good"), (4.0, "Fair"), (3.5, "Poor"), (1.0, "Poor")] {
        report(&mut world, id, second(4.4, worse));
        assert_eq!(told(&mut world, alice).last().unwrap(), grade, "{worse}");
    }
    world.tell(alice, "hangup", "c1");
    world.finish();
}

#[test]
fn a_verdict_reaches_the_browser_and_the_record_and_is_taken_back() {
    let (mut world, alice, id) = talking();
    report(&mut world, id, missing(Side::B, Side::B, NoAudio::NoRtp));
    report(&mut world, id, missing(Side::B, Side::B, NoAudio::NoRtp));
    report(&mut world, id, second(4.4, 4.4));
    world.run(1_000);
    report(&mut world, id, missing(Side::B, Side::B, NoAudio::Stranger));
    world.run(2_000);
    report(&mut world, id, MediaReport::Audio { from: Side::B, verdict: None });
    report(&mut world, id, missing(Side::A, Side::A, NoAudio::Silent));
    report(&mut world, id, second(4.4, 4.4));
    let expected =
        ["Down Them no-rtp", "Lost", "Down Them stranger", "Down", "Up Us silent", "Excellent"].map(str::to_owned);
    assert_eq!(told(&mut world, alice), expected);
    world.tell(alice, "hangup", "c1");
    world.finish();
    let cdr = world.cdr();
    let rows: Vec<_> = cdr.no_audio.iter().map(|n| (n.from.as_str(), n.leg.as_str(), n.cause.as_str())).collect();
    assert_eq!(rows, [("b", "b", "no-rtp"), ("b", "b", "stranger"), ("a", "a", "silent")]);
    let lengths: Vec<_> = cdr.no_audio.iter().map(|n| n.ms).collect();
    assert!((1_000..1_100).contains(&lengths[0].unwrap()) && (2_000..2_100).contains(&lengths[1].unwrap()));
    assert_eq!(lengths[2], None, "until the end");
}

#[test]
fn the_record_has_the_mean_and_the_worst_second() {
    let (mut world, alice, id) = talking();
    for mos in [4.4, 4.0, 3.0] {
        report(&mut world, id, second(mos, 4.2));
    }
    world.tell(alice, "hangup", "c1");
    world.finish();
    let media = world.cdr().media.clone().unwrap();
    let (browser, trunk) = (media.a.sound, media.b.sound);
    let score = |score: Option<ringback::call::Score>| score.map(|score| (score.mean, score.worst));
    assert_eq!((score(browser.mos_heard), score(trunk.mos_heard)), (Some((3.8, 3.0)), Some((4.2, 4.2))));
    assert_eq!((score(browser.mos_sent), score(trunk.mos_sent)), (Some((4.2, 4.2)), Some((3.8, 3.0))));
    assert_eq!((browser.delay_ms, browser.rtt_ms, browser.level_db), (Some(110), Some(20), Some(-20)));
    assert_eq!((browser.buffer_ms, trunk.buffer_ms), (Some(40), Some(40)));
}

#[test]
fn nothing_is_told_before_the_answer() {
    let (mut world, alice, id) = calling(Habits::ringing());
    report(&mut world, id, second(2.0, 2.0));
    report(&mut world, id, missing(Side::A, Side::A, NoAudio::NoIce));
    assert_eq!(told(&mut world, alice), Vec::<String>::new());
    world.tell(alice, "hangup", "c1");
    world.finish();
    assert!(world.cdr().no_audio.is_empty());
}

/// DTLS that fails ends the call at once: the record says why there was no sound all the same.
#[test]
fn media_that_is_given_up_says_why_in_the_record() {
    for (loss, cause) in [
        (MediaLoss::IceTimeout, "no-ice"),
        (MediaLoss::DtlsFailed, "no-dtls"),
        (MediaLoss::FingerprintMismatch, "no-dtls"),
    ] {
        let (mut world, _, id) = talking();
        world.lost(id, Side::A, loss);
        world.finish();
        let cdr = world.cdr();
        assert_eq!(cdr.cause, "media-lost");
        let causes: Vec<_> = cdr.no_audio.iter().map(|n| n.cause.as_str()).collect();
        assert_eq!(causes, [cause]);
    }
}

/// Two browsers: each is told from its own end.
#[test]
fn both_browsers_of_a_call_are_told_each_its_way() {
    let mut world = World::new();
    let (alice, bob) = (world.browser(1, "alice"), world.browser(2, "bob"));
    world.page(bob).accept_after = Some(100);
    world.say(alice, &call("c1", "bob"));
    world.until(alice, "c1", "answered");
    let id = world.call_id();
    report(&mut world, id, missing(Side::B, Side::B, NoAudio::NoIce));
    report(&mut world, id, missing(Side::A, Side::B, NoAudio::NoIce));
    assert_eq!(told(&mut world, alice), ["Down Them no-ice", "Up Them no-ice"]);
    assert_eq!(told(&mut world, bob), ["Up Us no-ice", "Down Us no-ice"]);
    world.tell(alice, "hangup", "c1");
    world.finish();
}

#[test]
fn the_status_tells_how_the_calls_sound() {
    let (mut world, alice, id) = talking();
    let sound = world.switch.status(world.time()).sound;
    assert_eq!((sound.measured, sound.mos_mean, sound.mos_worst, sound.without_audio), (0, None, None, 0));
    report(&mut world, id, second(4.2, 3.7));
    report(&mut world, id, missing(Side::B, Side::B, NoAudio::NoRtp));
    let sound = world.switch.status(world.time()).sound;
    assert_eq!((sound.measured, sound.mos_mean, sound.mos_worst), (1, Some(3.7), Some(3.7)));
    assert_eq!(sound.without_audio, 1);
    world.tell(alice, "hangup", "c1");
    world.finish();
}
