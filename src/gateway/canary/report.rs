//! What a test of a trunk has found, and what to change.

use serde_json::{Value, json};

use crate::gateway::doctor::{Finding, Report};
use crate::switch::Cdr;
use crate::testphone::Measured;

/// Ringing later than this is slow, seconds.
const SLOW_RINGING: f64 = 6.0;
/// Sound from there between these is as it should be, dB below full scale.
const FAINT_DB: f32 = -42.0;
const LOUD_DB: f32 = -2.0;
/// What comes back may be so much louder or softer than it was sent, dB.
const SAME_LEVEL_DB: f32 = 6.0;
/// A longer way there and back disturbs a conversation, milliseconds (ITU-T G.114 has 150 one way, and buffers are in it).
const LONG_WAY_MS: f32 = 400.0;
/// More loss than this is heard.
const LOSS: f64 = 0.01;
/// More jitter than this costs delay, milliseconds.
const JITTER_MS: u32 = 30;

/// What a test has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The call was not begun, for this reason.
    pub(super) refused: Option<String>,
    /// Its record.
    pub(super) record: Option<Box<Cdr>>,
    /// What our own phone has measured.
    pub(super) measured: Measured,
    /// The digits that were pressed.
    pub(super) pressed: &'static str,
    /// The far end hung up before all of the sound was measured.
    pub(super) hung_up_early: bool,
}

/// The answer for programs; people are shown the findings.
pub(super) fn write(trunk: &str, number: &str, seen: &Seen) -> Value {
    let Report { verdict, findings } = Report::of(findings(seen));
    let record = seen.record.as_deref();
    let after = |at: Option<u64>| Some(at?.saturating_sub(record?.start));
    let Measured { level_db, tone_hz, bursts, delays_ms, .. } = &seen.measured;
    json!({
        "trunk": trunk,
        "number": number,
        "verdict": verdict,
        "findings": findings,
        "call": record.map(|cdr| &cdr.call),
        "ringing_ms": after(record.and_then(|cdr| cdr.ringing)),
        "answer_ms": after(record.and_then(|cdr| cdr.answer)),
        "codec": record.and_then(|cdr| cdr.codecs.b.as_ref()),
        "level_db": level_db.map(tenths),
        "tone_hz": tone_hz,
        "echo": {
            "sent": bursts,
            "returned": delays_ms.len(),
            "delay_ms": seen.measured.delay_ms().map(tenths),
            "ratio_db": seen.measured.ratio_db().map(tenths),
        },
        "digits": {
            "sent": seen.pressed,
            "received": seen.measured.digits(),
            "as": if seen.measured.events.is_empty() { "tones" } else { "events" },
        },
        "cdr": record,
    })
}

/// To one decimal place, as a number that prints as such.
fn tenths(value: f32) -> f64 {
    (f64::from(value) * 10.0).round() / 10.0
}

fn findings(seen: &Seen) -> Vec<Finding> {
    if let Some(refused) = &seen.refused {
        return vec![Finding::fail("call", refused, "choose another number, or change what refuses it")];
    }
    let Some(record) = seen.record.as_deref() else {
        let remedy = "look at the gateway's log, and at `ringback trunks`";
        return vec![Finding::fail("call", "the call has no end and no record within the time", remedy)];
    };
    if record.answer.is_none() {
        return vec![not_answered(record)];
    }
    let mut findings = vec![answered(record)];
    let codec = record.codecs.b.as_deref().unwrap_or("none");
    findings.push(Finding::ok("codec", format!("{codec} was agreed on")));
    let sound = sound(record, &seen.measured);
    let heard = sound.is_none();
    findings.push(sound.unwrap_or_else(|| level(&seen.measured)));
    if seen.hung_up_early {
        let text = "the far end hung up before the sound was measured";
        findings.push(Finding::warn("end", text, "call a number that stays, such as an echo service"));
    }
    if heard {
        findings.push(echo(&seen.measured));
        findings.push(digits(seen.pressed, seen.measured.digits(), !seen.measured.events.is_empty()));
    }
    findings.extend(network(record));
    findings
}

fn not_answered(record: &Cdr) -> Finding {
    let status = record.sip.map(|sip| format!(" ({sip})")).unwrap_or_default();
    let text = format!("not answered: {}{status}", record.text);
    let remedy = match record.sip {
        Some(401 | 407) => "mend user and password of the trunk",
        Some(403) => "ask the carrier what it forbids: the number, the caller's number (--from), or our address",
        Some(404 | 484 | 604) => "is the number right? see `number_format` of the trunk",
        Some(486 | 600 | 603 | 480) => "somebody there does not take the call: choose a number that does",
        Some(488 | 606) => "compare `codecs` and `srtp` of the trunk with what the carrier wants",
        _ if record.cause == "limit-reached" => "a limit of the gateway or of the trunk: `ringback limits`",
        _ => "see `ringback trunks` and `ringback doctor`, and `ringback trace` of this call",
    };
    Finding::fail("call", text, remedy)
}

fn answered(record: &Cdr) -> Finding {
    let after = |at: u64| at.saturating_sub(record.start) as f64 / 1000.0;
    let answer = record.answer.map_or(0.0, after);
    let rang = record.ringing.map(after);
    let text = match rang {
        Some(rang) => format!("rang after {rang:.1} s, answered after {answer:.1} s"),
        None => format!("answered after {answer:.1} s"),
    };
    match rang.unwrap_or(answer) > SLOW_RINGING {
        true => {
            Finding::warn("call", text, "ask the carrier why it takes so long: users give up while nothing is heard")
        }
        false => Finding::ok("call", text),
    }
}

/// Why nothing is heard, if so.
fn sound(record: &Cdr, measured: &Measured) -> Option<Finding> {
    let subject = "sound from there";
    if measured.is_heard() {
        return None;
    }
    let cause = record.no_audio.iter().find(|missing| missing.from == "b").map(|missing| missing.cause.as_str());
    let came = record.media.as_ref().is_some_and(|media| media.b.packets_in > 0);
    let (text, remedy) = match cause {
        Some("stranger") => {
            ("sound comes from an address that was not named", "add it to `media_sources` of the trunk")
        }
        Some("wrong-payload-type") => ("sound comes in a format that was not agreed on", "see `codecs` of the trunk"),
        Some("not-authentic") => ("what comes is encrypted by another key", "see `srtp` of the trunk"),
        Some("held") => ("the far end has put us on hold", "choose a number that does not"),
        _ if came => ("all is silent", "choose a number that says something; else ask the carrier"),
        _ => (
            "answered, but no sound came",
            "look at the firewall before `[media] rtp_ports` and at `[media] rtp_advertise`: can the trunk reach that address?",
        ),
    };
    Some(Finding::fail(subject, text, remedy))
}

fn level(measured: &Measured) -> Finding {
    let level = measured.level_db.unwrap_or(FAINT_DB);
    let tone = measured.tone_hz.map(|hz| format!(", a steady tone of about {hz} Hz")).unwrap_or_default();
    let text = format!("{:.0} dB below full scale at the loudest{tone}", -level);
    match level {
        level if level < FAINT_DB => Finding::warn("sound from there", text, "it is faint: ask the carrier"),
        level if level > LOUD_DB => Finding::warn("sound from there", text, "it is clipped: ask the carrier"),
        _ => Finding::ok("sound from there", text),
    }
}

fn echo(measured: &Measured) -> Finding {
    let (Some(delay), Some(ratio)) = (measured.delay_ms(), measured.ratio_db()) else {
        let text = "nothing came back of what was sent: whether they hear us a number can show that echoes";
        return Finding::untested("echo", text);
    };
    let returned = measured.delays_ms.len();
    let text = format!(
        "{returned} of {} tones came back, {ratio:+.1} dB, {delay:.0} ms later (there and back, our buffers among it)",
        measured.bursts
    );
    match () {
        () if ratio.abs() > SAME_LEVEL_DB => {
            Finding::warn("echo", text, "the level is changed on the way: ask the carrier, or try another codec")
        }
        () if delay > LONG_WAY_MS => {
            Finding::warn("echo", text, "the way is long: a trunk that is nearer would serve better")
        }
        () => Finding::ok("echo", text),
    }
}

/// Some services take `#` for the end of what is pressed.
fn digits(pressed: &str, received: &str, events: bool) -> Finding {
    let way = if events { "as events" } else { "as tones" };
    match received {
        _ if pressed.is_empty() => Finding::untested("digits", "none were sent: the call was over"),
        "" => Finding::untested(
            "digits",
            format!("{pressed} were sent and none came back: a number can show that returns them"),
        ),
        _ if received == pressed || received == pressed.trim_end_matches('#') => {
            Finding::ok("digits", format!("{pressed} were sent, and {received} came back {way}"))
        }
        _ => Finding::fail(
            "digits",
            format!("{pressed} were sent, and {received} came back {way}"),
            "try another `dtmf` of the trunk: rfc4733, info, inband",
        ),
    }
}

fn network(record: &Cdr) -> Option<Finding> {
    let leg = &record.media.as_ref()?.b;
    if leg.packets_in == 0 {
        return None;
    }
    let loss = leg.lost as f64 / leg.packets_in.saturating_add(leg.lost) as f64;
    let rtt = leg.sound.rtt_ms.map(|ms| format!(", round trip {ms} ms by RTCP")).unwrap_or_default();
    let mos = leg.sound.mos_sent.map(|score| format!(", score {:.1}", score.mean)).unwrap_or_default();
    let text = format!("{:.1} % of packets lost, jitter {} ms{rtt}{mos}", loss * 100.0, leg.jitter_ms);
    Some(match loss > LOSS || leg.jitter_ms > JITTER_MS {
        true => Finding::warn("network", text, "look at the way to the trunk: our uplink, the carrier's network"),
        false => Finding::ok("network", text),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::gateway::doctor::Verdict;

    fn seen(record: &Value, measured: Measured, pressed: &'static str) -> Seen {
        let mut cdr = json!({
            "call": "00c5f0a1b2d3e4f5", "direction": "outbound", "user": "(trunk test)", "dialled": "600", "number": "600",
            "sent": null, "from": null, "rule": "(trunk test)", "trunks": [], "start": 1_000, "ringing": 1_400,
            "answer": 2_200, "end": 9_000, "cause": "normal", "by": "gateway", "sip": null, "q850": 16, "text": "Bye",
            "codecs": {"a": "PCMU", "b": "PCMA"}, "media": null,
        });
        cdr.as_object_mut().unwrap().extend(record.as_object().unwrap().clone());
        Seen { record: Some(serde_json::from_value(cdr).unwrap()), measured, pressed, ..Seen::default() }
    }

    fn echoed() -> Measured {
        Measured {
            samples: 40_000,
            level_db: Some(-18.0),
            bursts: 3,
            delays_ms: vec![120.0, 118.0, 140.0],
            ratios_db: vec![-0.5, 0.1, -0.4],
            events: "0123456789*#".into(),
            ..Measured::default()
        }
    }

    fn verdicts(seen: &Seen) -> Vec<(String, Verdict)> {
        findings(seen).into_iter().map(|finding| (finding.subject, finding.verdict)).collect()
    }

    #[test]
    fn an_echo_with_all_digits_is_good_in_every_respect() {
        let seen = seen(&json!({}), echoed(), "0123456789*#");
        assert!(verdicts(&seen).iter().all(|(_, verdict)| *verdict == Verdict::Ok), "{:?}", findings(&seen));
        let answer = write("carrier", "600", &seen);
        assert_eq!(
            (&answer["verdict"], &answer["ringing_ms"], &answer["answer_ms"]),
            (&json!("ok"), &json!(400), &json!(1200))
        );
        assert_eq!((&answer["echo"]["delay_ms"], &answer["echo"]["ratio_db"]), (&json!(120.0), &json!(-0.4)));
        assert_eq!((&answer["digits"]["as"], &answer["codec"]), (&json!("events"), &json!("PCMA")));
    }

    #[test]
    fn what_is_wrong_says_what_to_change() {
        let table: [(Value, Measured, &str, Verdict, &str); 8] = [
            (json!({"answer": null, "sip": 403}), Measured::default(), "call", Verdict::Fail, "--from"),
            (json!({"answer": 9_000, "ringing": 8_000}), echoed(), "call", Verdict::Warn, "so long"),
            (json!({}), Measured::default(), "sound from there", Verdict::Fail, "rtp_ports"),
            (
                json!({"no_audio": [{"at": 1, "from": "b", "leg": "b", "cause": "stranger"}]}),
                Measured::default(),
                "sound from there",
                Verdict::Fail,
                "media_sources",
            ),
            (json!({}), Measured { level_db: Some(-50.0), ..echoed() }, "sound from there", Verdict::Warn, "faint"),
            (json!({}), Measured { ratios_db: vec![-12.0], ..echoed() }, "echo", Verdict::Warn, "level"),
            (json!({}), Measured { delays_ms: vec![500.0], ..echoed() }, "echo", Verdict::Warn, "long"),
            (json!({}), Measured { events: "013456789*#".into(), ..echoed() }, "digits", Verdict::Fail, "dtmf"),
        ];
        for (record, measured, subject, verdict, remedy) in table {
            let seen = seen(&record, measured, "0123456789*#");
            let found = findings(&seen).into_iter().find(|finding| finding.subject == subject).unwrap();
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.remedy.as_ref().is_some_and(|text| text.contains(remedy)), "{found:?}");
        }
    }

    #[test]
    fn what_a_number_does_not_show_is_untested_and_no_failure() {
        let tone =
            Measured { samples: 8_000, level_db: Some(-13.0), tone_hz: Some(1_004), bursts: 6, ..Measured::default() };
        let seen = seen(&json!({}), tone, "0123456789*#");
        let found = verdicts(&seen);
        assert!(
            found.contains(&("echo".into(), Verdict::Untested))
                && found.contains(&("digits".into(), Verdict::Untested))
        );
        assert!(found.iter().all(|(_, verdict)| *verdict <= Verdict::Untested), "{found:?}");
        // A reader that takes # for the end.
        assert_eq!(digits("12#", "12", false).verdict, Verdict::Ok);
    }
}
