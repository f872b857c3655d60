//! What was measured, in figures.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::heard::Heard;

/// What half, and all but 5 and 1 of 100, stay below; milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// See there.
    pub p95: f64,
    /// See there.
    pub p99: f64,
}

impl Quantiles {
    /// Those of `values`; `None` where there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Quantiles> {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (share * values.len() as f64).ceil() as usize;
            values.get(place.saturating_sub(1)).map(|value| (value * 1_000.0).round() / 1_000.0)
        };
        Some(Quantiles { p50: at(0.50)?, p95: at(0.95)?, p99: at(0.99)? })
    }
}

/// The sound of all calls in one direction.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Way {
    /// Packets that came.
    pub packets: u64,
    /// Packets that did not come although a later one did.
    pub lost: u64,
    /// Calls in which less than nine tenths of the packets came that the time has.
    pub silent_calls: usize,
    /// Marks that were said.
    pub marks_said: usize,
    /// Marks that were heard within 600 ms.
    pub marks_heard: usize,
    /// From mouth to ear, codec and jitter buffer included.
    pub delay_ms: Option<Quantiles>,
    /// By how much packets that follow each other are not 20 ms apart.
    pub jitter_ms: Option<Quantiles>,
}

impl Way {
    /// What `pairs` of ends, one that speaks and one that hears, say of `time`.
    pub fn of<'a>(pairs: impl Iterator<Item = (&'a Heard, &'a Heard)>, time: Duration) -> Way {
        let mut way = Way::default();
        let (mut delays, mut jitter) = (Vec::new(), Vec::new());
        let whole = time.as_millis() as u64 / 20;
        for (speaks, hears) in pairs {
            let (came, lost) = hears.packets();
            way.packets += came;
            way.lost += lost;
            way.silent_calls += usize::from(came * 10 < whole * 9);
            way.marks_said += speaks.marks_said.len();
            delays.extend(hears.delays_ms(&speaks.marks_said).into_iter().flatten());
            jitter.extend(hears.jitter_ms());
        }
        way.marks_heard = delays.len();
        (way.delay_ms, way.jitter_ms) = (Quantiles::of(delays), Quantiles::of(jitter));
        way
    }

    /// The share of packets lost, in percent.
    pub fn lost_pct(&self) -> f64 {
        100.0 * self.lost as f64 / (self.packets + self.lost).max(1) as f64
    }

    /// Whether sound is missing: one packet of a thousand, one mark of fifty, or a whole call.
    pub fn suffers(&self) -> bool {
        self.lost_pct() > 0.1 || self.marks_heard * 50 < self.marks_said * 49 || self.silent_calls > 0
    }
}

/// How long calls took to come about; milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct SetUp {
    /// From the browser's `call` to the answer's description.
    pub answer_ms: Option<Quantiles>,
    /// To the word that the phone has answered.
    pub answered_ms: Option<Quantiles>,
    /// From the answer's description to the end of ICE and DTLS.
    pub connected_ms: Option<Quantiles>,
    /// From the browser's `call` to the first packet of sound that it hears.
    pub first_sound_ms: Option<Quantiles>,
}

/// When what happened in a call's set-up.
#[derive(Debug, Clone, Copy)]
pub struct Began {
    /// The browser's `call` was sent.
    pub placed: Instant,
    /// After so long it was answered by a description.
    pub answer_after: Duration,
    /// And by a person.
    pub answered_after: Duration,
    /// ICE and DTLS were done.
    pub connected: Option<Instant>,
    /// The browser heard something.
    pub first_sound: Option<Instant>,
}

impl SetUp {
    /// That of `calls`.
    pub fn of(calls: &[Began]) -> SetUp {
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        let all =
            |time: &dyn Fn(&Began) -> Option<Duration>| Quantiles::of(calls.iter().filter_map(time).map(ms).collect());
        SetUp {
            answer_ms: all(&|call| Some(call.answer_after)),
            answered_ms: all(&|call| Some(call.answered_after)),
            connected_ms: all(&|call| Some(call.connected?.saturating_duration_since(call.placed + call.answer_after))),
            first_sound_ms: all(&|call| Some(call.first_sound?.saturating_duration_since(call.placed))),
        }
    }
}

/// The driver's own packets may be so late at p99, in milliseconds: half a frame. A later driver measures itself.
pub const DRIVER_LATE_MS: f64 = 10.0;
/// So much of one processor, in percent, may have been stolen or others' while it was measured.
pub const TAKEN_PCT: f64 = 10.0;

/// Why a measurement is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Void {
    /// The driver itself was late ([`DRIVER_LATE_MS`]).
    DriverLate,
    /// The machine was somebody else's ([`TAKEN_PCT`]).
    MachineTaken,
}

impl Void {
    /// Whether what was measured meanwhile is void: by the p99 of the driver's lateness, by what others had and what was stolen.
    pub fn of(driver_late_ms: Option<f64>, (others_pct, stolen_pct): (f64, f64)) -> Option<Void> {
        // A machine that is taken makes a driver late, too.
        match driver_late_ms {
            _ if others_pct + stolen_pct > TAKEN_PCT => Some(Void::MachineTaken),
            Some(ms) if ms > DRIVER_LATE_MS => Some(Void::DriverLate),
            _ => None,
        }
    }
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Void::DriverLate => "the driver itself was late",
            Void::MachineTaken => "the machine was taken",
        })
    }
}

/// One row: so many calls at once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Calls at once.
    pub calls: usize,
    /// Why it is no measurement.
    pub void: Option<Void>,
    /// How often it was measured, until it was one.
    pub tries: u32,
    /// What other programs had of one processor, in percent.
    pub others_pct: f64,
    /// What the host took of one processor, in percent.
    pub stolen_pct: f64,
    /// For how long they were measured.
    pub seconds: f64,
    /// Processor time of the gateway, in milliseconds for each call and second; 10 are one hundredth of a core.
    pub cpu_ms_per_call_second: Option<f64>,
    /// The driver's own.
    pub driver_cpu_ms_per_call_second: f64,
    /// By how much the gateway's memory has grown for each call after the first, which brings what all share (code, pools).
    pub mib_per_call: Option<f64>,
    /// The gateway's memory.
    pub mib: Option<f64>,
    /// From the browsers to the phones.
    pub up: Way,
    /// From the phones to the browsers.
    pub down: Way,
    /// What 99 of 100 timers of the workers kept, by the bounds of the histogram; 1000 is beyond all of them.
    pub lateness_p99_ms: Option<f64>,
    /// The least effort of its workers, where it tells: 2 is all, less is what it spares itself when it is late.
    pub effort: Option<u32>,
    /// By how much the driver's packets went out later than they were due.
    pub driver_late_ms: Option<Quantiles>,
    /// Datagrams that sockets of this machine had no room for.
    pub dropped_datagrams: u64,
    /// How the calls came about.
    pub set_up: SetUp,
}

/// The effort of a worker that spares itself nothing (`ringback_worker_effort`).
pub const FULL_EFFORT: u32 = 2;
/// A worker's lateness that calls may not exceed, in milliseconds: a frame.
pub const TOO_LATE_MS: f64 = 20.0;

impl Figures {
    /// Whether it was too much: workers late, or sound missing. What is void says nothing of it.
    pub fn too_much(&self) -> bool {
        let late = self.lateness_p99_ms.is_some_and(|ms| ms > TOO_LATE_MS);
        self.void.is_none() && (late || self.up.suffers() || self.down.suffers())
    }

    /// For a person.
    pub fn text(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let three = |value: Option<Quantiles>| {
            value.map_or_else(|| "-".to_owned(), |q| format!("p50 {:.1} p95 {:.1} p99 {:.1} ms", q.p50, q.p95, q.p99))
        };
        let way = |name: &str, way: &Way| {
            format!(
                "  {name} {} packets, lost {:.3} %, silent calls {}, marks {}/{}, delay {}, jitter {}\n",
                way.packets,
                way.lost_pct(),
                way.silent_calls,
                way.marks_heard,
                way.marks_said,
                three(way.delay_ms),
                three(way.jitter_ms),
            )
        };
        let SetUp { answer_ms, answered_ms, connected_ms, first_sound_ms } = self.set_up;
        let void = self.void.map_or_else(String::new, |why| format!("  VOID, in {} tries: {why}\n", self.tries));
        let eased = self.effort.filter(|effort| *effort < FULL_EFFORT);
        let eased = eased.map_or_else(String::new, |effort| format!("  EASED: effort {effort} of {FULL_EFFORT}\n"));
        format!(
            "{} calls, {:.0} s: {} CPU-ms a call-second (driver {:.2}), {} MiB a call (of {})\n{}{}  \
             lateness p99 {} ms (driver {}), datagrams dropped {}, of one processor others {:.1} %, stolen {:.1} %\n  \
             set-up: answer {}, answered {}, ICE and DTLS {}, first sound {}\n{eased}{void}",
            self.calls,
            self.seconds,
            number(self.cpu_ms_per_call_second),
            self.driver_cpu_ms_per_call_second,
            number(self.mib_per_call),
            number(self.mib),
            way("up  ", &self.up),
            way("down", &self.down),
            number(self.lateness_p99_ms),
            three(self.driver_late_ms),
            self.dropped_datagrams,
            self.others_pct,
            self.stolen_pct,
            three(answer_ms),
            three(answered_ms),
            three(connected_ms),
            three(first_sound_ms),
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row that is well.
    pub(crate) fn row(calls: usize) -> Figures {
        let way = Way { packets: 1_000, marks_said: 100, marks_heard: 100, ..Way::default() };
        Figures {
            calls,
            void: None,
            tries: 1,
            others_pct: 0.0,
            stolen_pct: 0.0,
            seconds: 10.0,
            cpu_ms_per_call_second: Some(4.0),
            driver_cpu_ms_per_call_second: 5.0,
            mib_per_call: None,
            mib: None,
            up: way.clone(),
            down: way,
            lateness_p99_ms: Some(2.0),
            effort: Some(FULL_EFFORT),
            driver_late_ms: None,
            dropped_datagrams: 0,
            set_up: SetUp::default(),
        }
    }

    #[test]
    fn quantiles_are_values_that_were_there() {
        let hundred = (1..=100).map(f64::from).collect();
        assert_eq!(Quantiles::of(hundred), Some(Quantiles { p50: 50.0, p95: 95.0, p99: 99.0 }));
        assert_eq!(Quantiles::of(vec![7.0]), Some(Quantiles { p50: 7.0, p95: 7.0, p99: 7.0 }));
        assert_eq!(Quantiles::of(Vec::new()), None);
    }

    #[test]
    fn a_way_suffers_by_losses_marks_and_silence() {
        let good = Way { packets: 1_000, marks_said: 100, marks_heard: 99, ..Way::default() };
        assert!(!good.suffers());
        assert!(Way { lost: 3, ..good.clone() }.suffers());
        assert!(Way { marks_heard: 90, ..good.clone() }.suffers());
        assert!(Way { silent_calls: 1, ..good }.suffers());
    }

    #[test]
    fn a_late_driver_and_a_taken_machine_measure_nothing() {
        assert_eq!(Void::of(Some(10.0), (6.0, 4.0)), None);
        assert_eq!(Void::of(None, (0.0, 0.0)), None);
        assert_eq!(Void::of(Some(10.1), (0.0, 0.0)), Some(Void::DriverLate));
        assert_eq!(Void::of(Some(1.0), (6.0, 4.1)), Some(Void::MachineTaken));
        assert_eq!(Void::of(Some(90.0), (80.0, 0.0)), Some(Void::MachineTaken));
    }

    #[test]
    fn an_end_that_hears_nothing_is_a_silent_call() {
        let (speaks, hears) = (Heard { marks_said: vec![Instant::now()], ..Heard::default() }, Heard::default());
        let way = Way::of([(&speaks, &hears)].into_iter(), Duration::from_secs(5));
        assert_eq!((way.silent_calls, way.marks_said, way.marks_heard), (1, 1, 0));
        assert_eq!(way.delay_ms, None);
    }
}
