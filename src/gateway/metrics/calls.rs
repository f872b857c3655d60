//! What is counted as it happens: calls from their records, and events by their names.

use std::borrow::Cow;
use std::collections::HashSet;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::call::canary::CANARY;
use crate::call::cause::by_status;
use crate::call::{Cdr, LegKind, LegRecord, TrunkTried};
use crate::sdp::NoAudio;
use crate::switch::{Direction, NOTICES, Notice};

/// Names of trunks that labels are made of; reloads could bring ever more. Those beyond are `other`.
const MOST_TRUNKS: usize = 1000;
/// Upper bounds, seconds.
const RINGING: [f64; 11] = [0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 60.0];
/// The same.
const TALKING: [f64; 9] = [5.0, 15.0, 30.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 14400.0];
/// Parts of the set-up of media: upper bounds, seconds.
const SETUP: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 15.0];
/// The limits of G.109's classes among them.
const MOS: [f64; 8] = [1.5, 2.0, 2.58, 3.1, 3.6, 4.03, 4.34, 4.5];
/// Upper bounds, shares of a call.
const RATIO: [f64; 9] = [0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
/// Upper bounds, seconds.
const JITTER: [f64; 8] = [0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.5];
/// The same.
const BUFFER: [f64; 8] = [0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.4, 0.6];

type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// The counters; the driver's own.
pub(in crate::gateway) struct Calls {
    known: HashSet<String>,
    started: Counters<1>,
    ended: Counters<4>,
    answered: Counters<2>,
    attempts: Counters<2>,
    trunk_tests: Counters<2>,
    ringing: Histograms<2>,
    talking: Histograms<1>,
    ice: Histograms<1>,
    dtls: Histograms<1>,
    first_audio: Histograms<1>,
    mos: Histograms<2>,
    loss: Histograms<1>,
    jitter: Histograms<1>,
    buffer: Histograms<1>,
    concealed: Histograms<1>,
    repaired: Counters<1>,
    no_audio: Counters<2>,
    refused_registrations: Counters<1>,
    feedback: Counters<1>,
    events: Counters<1>,
}

impl Calls {
    /// Makes them, and shows them in `registry`.
    pub(super) fn register(registry: &mut Registry) -> Calls {
        let calls = Calls {
            known: HashSet::new(),
            started: Family::default(),
            ended: Family::default(),
            answered: Family::default(),
            attempts: Family::default(),
            trunk_tests: Family::default(),
            ringing: Family::new_with_constructor(|| Histogram::new(RINGING)),
            talking: Family::new_with_constructor(|| Histogram::new(TALKING)),
            ice: Family::new_with_constructor(|| Histogram::new(SETUP)),
            dtls: Family::new_with_constructor(|| Histogram::new(SETUP)),
            first_audio: Family::new_with_constructor(|| Histogram::new(SETUP)),
            mos: Family::new_with_constructor(|| Histogram::new(MOS)),
            loss: Family::new_with_constructor(|| Histogram::new(RATIO)),
            jitter: Family::new_with_constructor(|| Histogram::new(JITTER)),
            buffer: Family::new_with_constructor(|| Histogram::new(BUFFER)),
            concealed: Family::new_with_constructor(|| Histogram::new(RATIO)),
            repaired: Family::default(),
            no_audio: Family::default(),
            refused_registrations: Family::default(),
            feedback: Family::default(),
            events: Family::default(),
        };
        let r = registry;
        r.register("calls_started", "Calls that began", calls.started.clone());
        r.register(
            "calls_ended",
            "Calls that ended, by the trunk tried last, the cause's word and who ended them",
            calls.ended.clone(),
        );
        r.register("calls_answered", "Calls that ended after an answer", calls.answered.clone());
        r.register("trunk_attempts", "Calls put to a trunk, and what came of it", calls.attempts.clone());
        r.register(
            "trunk_tests",
            "Trunks tested by an operator, in no other number of calls",
            calls.trunk_tests.clone(),
        );
        seconds(r, "call_ringing", "From the beginning of a call to its ringing or answer", &calls.ringing);
        seconds(r, "call_talking", "From the answer to the end", &calls.talking);
        seconds(r, "leg_ice", "From a browser's description to its first connectivity check that passed", &calls.ice);
        seconds(r, "leg_dtls", "From there to the end of the DTLS handshake", &calls.dtls);
        seconds(r, "leg_first_audio", "From the answer to a party's first packet", &calls.first_audio);
        r.register("leg_mos", "Mean score of a leg over a call (ITU-T G.107)", calls.mos.clone());
        r.register("leg_loss_ratio", "Packets of a call that never came", calls.loss.clone());
        seconds(r, "leg_jitter", "Interarrival jitter at a call's end (RFC 3550)", &calls.jitter);
        seconds(r, "leg_buffer", "Sound that waited in the jitter buffer, the mean of a call", &calls.buffer);
        r.register("leg_concealed_ratio", "Sound of a call that had to be made up", calls.concealed.clone());
        r.register(
            "leg_packets_repaired",
            "Packets that never came, or not in time, and were heard from the redundancy in later ones",
            calls.repaired.clone(),
        );
        r.register(
            "no_audio",
            "Times that a party was not heard, by cause; fault: something is broken",
            calls.no_audio.clone(),
        );
        r.register("registrations_refused", "Our registrations that failed", calls.refused_registrations.clone());
        r.register("feedback", "What users have said of calls, 1 to 5", calls.feedback.clone());
        r.register("events", "Events by name, as web hooks are told", calls.events.clone());
        calls.begin();
        calls
    }

    /// What is rare is shown from the start: a counter that begins with its first event has never increased.
    fn begin(&self) {
        for cause in NoAudio::ALL {
            drop(self.no_audio.get_or_create(&verdict(cause.as_str().to_owned(), cause.is_fault())));
        }
        for name in NOTICES {
            drop(self.events.get_or_create(&[("event", name.into())]));
        }
    }

    /// An event.
    pub(in crate::gateway) fn event(&mut self, notice: &Notice) {
        self.events.get_or_create(&[("event", notice.name().into())]).inc();
        match notice {
            Notice::Started { user, .. } if user == CANARY => {}
            Notice::Started { direction, .. } => {
                self.started.get_or_create(&[("direction", word(*direction))]).inc();
            }
            Notice::NoAudio { cause, fault, .. } => {
                self.no_audio.get_or_create(&verdict(cause.clone(), *fault)).inc();
            }
            Notice::Registration { trunk, registered: false, .. } => {
                let trunk = self.trunk(trunk);
                self.refused_registrations.get_or_create(&[("trunk", trunk)]).inc();
            }
            Notice::Feedback { score, .. } => {
                self.feedback.get_or_create(&[("score", score.to_string().into())]).inc();
            }
            _ => {}
        }
    }

    /// A call is over.
    pub(in crate::gateway) fn ended(&mut self, cdr: &Cdr) {
        if cdr.user == CANARY {
            let trunk = cdr.trunks.last().map_or(Cow::Borrowed(""), |tried| self.trunk(&tried.trunk));
            let result = if cdr.answer.is_some() { "answered".into() } else { cdr.cause.clone().into() };
            self.trunk_tests.get_or_create(&[("trunk", trunk), ("result", result)]).inc();
            return;
        }
        let direction = word(cdr.direction);
        let inbound = cdr.direction == Direction::Inbound;
        let last = if inbound { cdr.trunks.first() } else { cdr.trunks.last() };
        let trunk = last.map_or(Cow::Borrowed(""), |tried| self.trunk(&tried.trunk));
        let labels = [
            ("direction", direction.clone()),
            ("trunk", trunk.clone()),
            ("cause", cdr.cause.clone().into()),
            ("by", cdr.by.as_str().into()),
        ];
        self.ended.get_or_create(&labels).inc();
        for tried in cdr.trunks.iter().skip(usize::from(inbound)) {
            let trunk = self.trunk(&tried.trunk);
            self.attempts.get_or_create(&[("trunk", trunk), ("result", result(tried))]).inc();
        }
        let by_trunk = [("direction", direction.clone()), ("trunk", trunk)];
        if let Some(rang) = cdr.ringing.or(cdr.answer) {
            self.ringing.get_or_create(&by_trunk).observe(between(cdr.start, rang));
        }
        let Some(answer) = cdr.answer else { return };
        self.answered.get_or_create(&by_trunk).inc();
        let talked = between(answer, cdr.end);
        self.talking.get_or_create(&[("direction", direction)]).observe(talked);
        if let Some(media) = &cdr.media {
            let legs = [(cdr.parties.a, &media.a), (cdr.parties.b, &media.b)];
            legs.into_iter().for_each(|(kind, leg)| self.leg(kind, leg, talked));
        }
    }

    fn leg(&self, kind: Option<LegKind>, leg: &LegRecord, talked: f64) {
        let Some(kind) = kind else { return };
        let kind = [("kind", Cow::Borrowed(kind.as_str()))];
        let set_up = [(&self.ice, leg.ice_ms), (&self.dtls, leg.dtls_ms), (&self.first_audio, leg.first_audio_ms)];
        for (histogram, ms) in set_up {
            if let Some(ms) = ms {
                histogram.get_or_create(&kind).observe(f64::from(ms) / 1000.0);
            }
        }
        let [(key, name)] = kind.clone();
        for (way, score) in [("sent", leg.sound.mos_sent), ("heard", leg.sound.mos_heard)] {
            if let Some(score) = score {
                self.mos.get_or_create(&[(key, name.clone()), ("way", way.into())]).observe(f64::from(score.mean));
            }
        }
        if leg.packets_in == 0 {
            return;
        }
        let sent = leg.packets_in.saturating_add(leg.lost);
        self.loss.get_or_create(&kind).observe(leg.lost as f64 / sent as f64);
        self.jitter.get_or_create(&kind).observe(f64::from(leg.jitter_ms) / 1000.0);
        if let Some(ms) = leg.sound.buffer_ms {
            self.buffer.get_or_create(&kind).observe(f64::from(ms) / 1000.0);
        }
        self.repaired.get_or_create(&kind).inc_by(leg.repaired);
        if talked > 0.0 {
            let made_up = leg.concealed_ms as f64 / 1000.0 / talked;
            self.concealed.get_or_create(&kind).observe(made_up.min(1.0));
        }
    }

    /// A trunk's name as a label.
    fn trunk(&mut self, name: &str) -> Cow<'static, str> {
        if !self.known.contains(name) {
            if self.known.len() >= MOST_TRUNKS {
                return Cow::Borrowed("other");
            }
            self.known.insert(name.to_owned());
        }
        Cow::Owned(name.to_owned())
    }
}

fn seconds<const N: usize>(registry: &mut Registry, name: &str, help: &str, histograms: &Histograms<N>) {
    registry.register_with_unit(name, help, Unit::Seconds, histograms.clone());
}

fn verdict(cause: String, fault: bool) -> Labels<2> {
    [("cause", cause.into()), ("fault", if fault { "yes" } else { "no" }.into())]
}

fn word(direction: Direction) -> Cow<'static, str> {
    Cow::Borrowed(match direction {
        Direction::Outbound => "outbound",
        Direction::Inbound => "inbound",
    })
}

/// What came of a trunk: why it failed, in one of few words; a status alone becomes its cause's.
fn result(tried: &TrunkTried) -> Cow<'static, str> {
    match (&tried.cause, tried.result.parse::<u16>()) {
        (Some(cause), _) => Cow::Owned(cause.clone()),
        (None, Ok(status)) => Cow::Borrowed(by_status(status).word),
        (None, Err(_)) => Cow::Owned(tried.result.clone()),
    }
}

/// Seconds between two times in Unix milliseconds.
fn between(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1000.0
}
