//! Calls that come and go for a long time: whether memory or lateness grows, and whether a call is lost.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, interval_at, sleep_until};

use crate::figures::{Quantiles, Void};
use crate::growth::{Growth, LATENESS_MS, MEMORY_MIB};
use crate::media::{Both, Happened, Window};
use crate::process::{Processors, memory, processor_time};
use crate::run::Run;
use crate::scrape::Lateness;

/// Each call is listened to for so long at most, and until so long before its end.
const LISTENED: Duration = Duration::from_secs(5);
const BEFORE_END: Duration = Duration::from_secs(1);
/// What a call has at least before it is listened to.
const CONNECTS: Duration = Duration::from_secs(2);
/// Lost calls that are told one by one.
const TOLD: usize = 20;
/// From so many minutes on a soak has to be judged, and what could not be is a failure.
const TO_SHOW_MINUTES: u64 = 30;

/// What was found.
#[derive(Debug)]
pub struct Soak {
    /// Calls at once.
    pub calls: usize,
    /// How long it took.
    pub minutes: u64,
    /// Calls that were begun.
    pub begun: usize,
    /// Calls that were not set up, ended by themselves or were not heard; and why the first of them.
    pub lost_calls: usize,
    /// See there.
    pub lost: Vec<String>,
    /// From time to time.
    pub samples: Vec<Sample>,
}

/// What there was since the sample before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// When, since the begin.
    pub minute: f64,
    /// Calls at once, on average.
    pub calls: f64,
    /// Of the gateway.
    pub cpu_ms_per_call_second: Option<f64>,
    /// The driver's own.
    pub driver_cpu_ms_per_call_second: f64,
    /// The gateway's memory.
    pub mib: Option<f64>,
    /// Of the workers' timers, by the bounds of the histogram.
    pub lateness_p99_ms: Option<f64>,
    /// Of the driver's packets.
    pub driver_late_p99_ms: Option<f64>,
    /// Of one processor, in percent.
    pub others_pct: f64,
    /// See there.
    pub stolen_pct: f64,
    /// Why its lateness is no measurement.
    pub void: Option<Void>,
    /// Packets that came in the calls that ended.
    pub packets: u64,
    /// And those that did not come, both ways.
    pub lost: u64,
    /// From mouth to ear, in the calls that ended.
    pub delay_up_ms: Option<Quantiles>,
    /// See there.
    pub delay_down_ms: Option<Quantiles>,
}

impl Soak {
    /// Of the gateway's memory, in MiB.
    pub fn memory(&self) -> Option<Growth> {
        Growth::of(&self.samples.iter().map(|sample| sample.mib).collect::<Vec<_>>(), MEMORY_MIB)
    }

    /// Of the workers' lateness, in milliseconds; samples that are void have no part.
    pub fn lateness(&self) -> Option<Growth> {
        let valid = |sample: &Sample| sample.lateness_p99_ms.filter(|_| sample.void.is_none());
        Growth::of(&self.samples.iter().map(valid).collect::<Vec<_>>(), LATENESS_MS)
    }

    /// Whether nothing grows and no call is lost. Of what was measured too little may be valid to judge it: that is well in a short
    /// soak, on whatever machine it runs; one of half an hour is to show it.
    pub fn well(&self) -> bool {
        let flat = |growth: Option<Growth>, known: fn(&Sample) -> Option<f64>| match growth {
            Some(growth) => !growth.grows(),
            None => self.minutes < TO_SHOW_MINUTES || self.samples.iter().all(|sample| known(sample).is_none()),
        };
        let lateness = flat(self.lateness(), |sample| sample.lateness_p99_ms);
        flat(self.memory(), |sample| sample.mib) && lateness && self.lost_calls == 0
    }

    /// The share of packets lost, in percent.
    pub fn lost_pct(&self) -> f64 {
        let (came, lost) =
            self.samples.iter().fold((0, 0), |(came, lost), sample| (came + sample.packets, lost + sample.lost));
        100.0 * lost as f64 / (came + lost).max(1) as f64
    }

    /// For a person.
    pub fn text(&self) -> String {
        let growth = |name: &str, unit: &str, growth: Option<Growth>| match growth {
            Some(found) => {
                let verdict = if found.grows() { "GROWS" } else { "does not grow" };
                format!(
                    "  {name} {verdict}: {:.1} {unit} at first, {:.1} at last, {:.1} at most\n",
                    found.first, found.last, found.most
                )
            }
            None => format!("  {name}: not judged, too few samples are valid\n"),
        };
        let void = self.samples.iter().filter(|sample| sample.void.is_some()).count();
        let lost: String = self.lost.iter().map(|why| format!("  LOST {why}\n")).collect();
        format!(
            "soak: {} minutes, {} calls at once, {} in all, {} lost; {:.4} % of packets lost; {} samples, {void} void\n{}{}{lost}",
            self.minutes,
            self.calls,
            self.begun,
            self.lost_calls,
            self.lost_pct(),
            self.samples.len(),
            growth("memory", "MiB", self.memory()),
            growth("lateness p99", "ms", self.lateness()),
        )
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let growth = |growth: Option<Growth>| growth.map(|found| json!({ "medians": found, "grows": found.grows() }));
        json!({
            "calls": self.calls,
            "minutes": self.minutes,
            "begun": self.begun,
            "lost_calls": self.lost_calls,
            "lost": self.lost,
            "lost_packets_pct": self.lost_pct(),
            "samples": self.samples,
            "memory": growth(self.memory()),
            "lateness": growth(self.lateness()),
            "well": self.well(),
        })
    }
}

/// How long calls last: the same for the same seed.
struct Lasting {
    state: u64,
    range: RangeInclusive<u64>,
}

impl Lasting {
    /// The first calls last less by chance, so that not all end at once.
    fn next(&mut self, is_first: bool) -> Duration {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let least = if is_first { 5.min(*self.range.start()) } else { *self.range.start() };
        let range = self.range.end() - least;
        Duration::from_millis(least * 1_000 + (mixed ^ (mixed >> 31)) % (range * 1_000 + 1))
    }
}

/// When a call that lasts so long is listened to.
fn window(begun: Instant, lasts: Duration) -> Window {
    let end = begun + lasts - BEFORE_END;
    let begin = (end - LISTENED.min(lasts - BEFORE_END)).max(begun + CONNECTS);
    Window { begin, end }
}

/// What the calls that ended since the last sample sounded like.
#[derive(Debug, Default)]
struct Sounded {
    packets: u64,
    lost: u64,
    up: Vec<f64>,
    down: Vec<f64>,
    late_ms: Vec<f64>,
    /// Who was not heard, of which call.
    deaf: Option<String>,
}

fn sounded(both: &Both, time: Duration) -> Sounded {
    let (page, phone) = (&both.page, &both.phone);
    // A machine that stands still for a second is no call that is lost.
    let half = time.as_millis() as u64 / 40;
    let deaf = match (page.packets().0 < half, phone.packets().0 < half) {
        (true, true) => Some("neither end"),
        (true, false) => Some("the browser not"),
        (false, true) => Some("the phone not"),
        (false, false) => None,
    };
    Sounded {
        packets: page.life.came + phone.life.came,
        lost: page.life.lost() + phone.life.lost(),
        up: phone.delays_ms(&page.marks_said).into_iter().flatten().collect(),
        down: page.delays_ms(&phone.marks_said).into_iter().flatten().collect(),
        late_ms: page.late_ms.iter().chain(&phone.late_ms).copied().collect(),
        deaf: deaf.map(|who| format!("call {}: {who} heard half of its packets", both.call + 1)),
    }
}

/// The counters at the last sample.
struct Before {
    at: Instant,
    theirs: Option<Duration>,
    ours: Duration,
    machine: Processors,
    lateness: Option<Lateness>,
}

struct Soaking<'run, 'options> {
    run: &'run mut Run<'options>,
    soak: Soak,
    lasting: Lasting,
    /// The calls that stand, by their end, with their windows' length.
    due: BinaryHeap<Reverse<(Instant, usize, Duration)>>,
    judged: JoinSet<Sounded>,
    sounded: Sounded,
    /// Calls times seconds since the last sample, counted until then.
    call_seconds: (f64, Instant),
}

impl Run<'_> {
    /// `calls` calls at once for so many minutes; each is ended after a while, and another one begun.
    ///
    /// # Errors
    /// When the gateway or the driver's media is gone: a call that is lost is counted.
    pub(crate) async fn soak(&mut self, calls: usize, minutes: u64) -> anyhow::Result<Soak> {
        let soak = Soak { calls, minutes, begun: 0, lost_calls: 0, lost: Vec::new(), samples: Vec::new() };
        let (least, most) = self.options.lasting;
        let lasting = Lasting { state: self.options.seed, range: least..=most };
        let (due, call_seconds) = (BinaryHeap::new(), (0.0, Instant::now()));
        let (judged, sounded) = (JoinSet::new(), Sounded::default());
        Soaking { run: self, soak, lasting, due, judged, sounded, call_seconds }.all().await
    }
}

impl Soaking<'_, '_> {
    async fn all(mut self) -> anyhow::Result<Soak> {
        let begin = Instant::now();
        let end = begin + Duration::from_secs(60 * self.soak.minutes);
        let every = Duration::from_secs(self.run.options.every);
        let (mut tick, mut pace) = (
            interval_at((begin + every).into(), every),
            interval(Duration::from_secs_f64(1.0 / self.run.options.ramp)),
        );
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = self.counters().await?;
        loop {
            let next = self.due.peek().map_or(end, |Reverse((at, ..))| *at);
            tokio::select! {
                () = sleep_until(end.into()) => break,
                () = sleep_until(next.into()) => self.end_one().await?,
                _ = tick.tick() => before = self.sample(begin, before).await?,
                _ = pace.tick(), if self.due.len() < self.soak.calls => self.begin_one().await?,
                happened = self.run.media.happened.recv() => self.happened(happened.context("the driver's media thread has ended")?)?,
                Some(done) = self.judged.join_next() => self.add(done.context("the judgement of what was heard")?),
            }
        }
        Ok(self.soak)
    }

    fn lost(&mut self, why: String) {
        self.soak.lost_calls += 1;
        if self.soak.lost.len() < TOLD {
            self.soak.lost.push(why);
        }
    }

    /// Those that stand were so many until now.
    fn count(&mut self) {
        let (seconds, until) = &mut self.call_seconds;
        *seconds += self.due.len() as f64 * until.elapsed().as_secs_f64();
        *until = Instant::now();
    }

    async fn begin_one(&mut self) -> anyhow::Result<()> {
        let is_first = self.soak.begun < self.soak.calls;
        self.soak.begun += 1;
        let (call, lasts) = (self.run.began.len(), self.lasting.next(is_first));
        if let Err(error) = self.run.begin().await {
            self.lost(format!("call {}: not set up: {error:#}", call + 1));
            return self.run.media.remove(call);
        }
        self.count();
        let (now, window) = (Instant::now(), window(Instant::now(), lasts));
        self.run.media.listen(Some(call), window)?;
        self.due.push(Reverse((now + lasts, call, window.end - window.begin)));
        Ok(())
    }

    async fn end_one(&mut self) -> anyhow::Result<()> {
        self.count();
        let Some(Reverse((_, call, time))) = self.due.pop() else { return Ok(()) };
        for both in self.run.media.heard(Some(call)).await? {
            self.judged.spawn_blocking(move || sounded(&both, time));
        }
        if let Err(error) = self.run.end(call).await {
            self.lost(format!("call {}: ended by itself: {error:#}", call + 1));
        }
        Ok(())
    }

    fn happened(&mut self, happened: Happened) -> anyhow::Result<()> {
        match happened {
            Happened::Failed(call) => self.lost(format!("call {}: the browser has failed", call + 1)),
            other => self.run.happened(other)?,
        }
        Ok(())
    }

    fn add(&mut self, one: Sounded) {
        let all = &mut self.sounded;
        (all.packets, all.lost) = (all.packets + one.packets, all.lost + one.lost);
        all.up.extend(one.up);
        all.down.extend(one.down);
        all.late_ms.extend(one.late_ms);
        if let Some(who) = one.deaf {
            self.lost(who);
        }
    }

    async fn counters(&self) -> anyhow::Result<Before> {
        let lateness = self.run.middle.workers().await.map(|workers| workers.lateness);
        let theirs = self.run.pid.map(processor_time).transpose()?;
        let ours = processor_time(std::process::id())?;
        Ok(Before { at: Instant::now(), theirs, ours, machine: Processors::now(), lateness })
    }

    async fn sample(&mut self, begin: Instant, before: Before) -> anyhow::Result<Before> {
        self.count();
        let (now, heard) = (self.counters().await?, std::mem::take(&mut self.sounded));
        let (call_seconds, took) = (std::mem::take(&mut self.call_seconds.0), now.at - before.at);
        let theirs = now.theirs.zip(before.theirs).map(|(now, before)| now.saturating_sub(before));
        let ours = now.ours.saturating_sub(before.ours);
        let each = |time: Duration| time.as_secs_f64() * 1_000.0 / call_seconds.max(0.001);
        let taken = now.machine.taken_pct(&before.machine, theirs.unwrap_or_default() + ours, took);
        let late = Quantiles::of(heard.late_ms).map(|late| late.p99);
        let lateness = now.lateness.as_ref().zip(before.lateness.as_ref()).and_then(|(now, before)| now.p99_ms(before));
        let sample = Sample {
            minute: begin.elapsed().as_secs_f64() / 60.0,
            calls: call_seconds / took.as_secs_f64(),
            cpu_ms_per_call_second: theirs.map(each),
            driver_cpu_ms_per_call_second: each(ours),
            mib: self.run.pid.map(memory).transpose()?.map(|bytes| bytes as f64 / f64::from(1 << 20)),
            lateness_p99_ms: lateness.map(|ms| ms.min(1_000.0)),
            driver_late_p99_ms: late,
            others_pct: taken.0,
            stolen_pct: taken.1,
            void: Void::of(late, taken),
            packets: heard.packets,
            lost: heard.lost,
            delay_up_ms: Quantiles::of(heard.up),
            delay_down_ms: Quantiles::of(heard.down),
        };
        eprintln!("{}", serde_json::to_string(&sample)?);
        self.soak.samples.push(sample);
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_last_as_long_as_was_asked_and_the_same_again() {
        let lasting = |seed| Lasting { state: seed, range: 20..=60 };
        let some = |seed: u64| -> Vec<Duration> {
            std::iter::repeat_with({
                let mut l = lasting(seed);
                move || l.next(false)
            })
            .take(1_000)
            .collect()
        };
        let (one, again) = (some(1), some(1));
        assert_eq!(one, again);
        assert_ne!(one, some(2));
        let mean = one.iter().sum::<Duration>().as_secs_f64() / 1_000.0;
        assert!(
            one.iter().all(|lasts| (20.0..=60.0).contains(&lasts.as_secs_f64())) && (38.0..42.0).contains(&mean),
            "{mean}"
        );
        let mut first = lasting(1);
        assert!((0..100).map(|_| first.next(true)).any(|lasts| lasts < Duration::from_secs(20)), "the first end apart");
    }

    #[test]
    fn a_call_is_listened_to_at_its_end_and_never_before_it_is_connected() {
        let begun = Instant::now();
        let of = |s| {
            let Window { begin, end } = window(begun, Duration::from_secs(s));
            ((begin - begun).as_secs(), (end - begun).as_secs())
        };
        assert_eq!((of(60), of(20), of(5)), ((54, 59), (14, 19), (2, 4)));
    }

    fn soak(mib: impl Fn(usize) -> f64, lateness: impl Fn(usize) -> (f64, Option<Void>)) -> Soak {
        let sample = |n| Sample {
            minute: n as f64,
            calls: 8.0,
            cpu_ms_per_call_second: None,
            driver_cpu_ms_per_call_second: 0.0,
            mib: Some(mib(n)),
            lateness_p99_ms: Some(lateness(n).0),
            driver_late_p99_ms: None,
            others_pct: 0.0,
            stolen_pct: 0.0,
            void: lateness(n).1,
            packets: 999,
            lost: 1,
            delay_up_ms: None,
            delay_down_ms: None,
        };
        let samples = (0..40).map(sample).collect();
        Soak { calls: 8, minutes: 2, begun: 9, lost_calls: 0, lost: Vec::new(), samples }
    }

    #[test]
    fn it_fails_by_growth_and_by_lost_calls() {
        let well = soak(|_| 30.0, |_| (2.0, None));
        assert!(well.well(), "{}", well.text());
        assert!((well.lost_pct() - 0.1).abs() < 1e-9);
        assert!(!Soak { lost_calls: 1, ..well }.well());
        let grows = soak(|n| 30.0 + n as f64, |_| (2.0, None));
        assert!(!grows.well() && grows.text().contains("memory GROWS"), "{}", grows.text());
        let late = soak(|_| 30.0, |n| (2.0 * n as f64, None));
        assert!(!late.well() && late.text().contains("lateness p99 GROWS"), "{}", late.text());
    }

    #[test]
    fn lateness_of_a_machine_that_was_taken_is_not_judged() {
        let taken = soak(|_| 30.0, |n| (if n > 25 { 500.0 } else { 2.0 }, (n > 25).then_some(Void::MachineTaken)));
        assert!(taken.well() && taken.text().contains("lateness p99: not judged"), "{}", taken.text());
        assert!(!Soak { minutes: TO_SHOW_MINUTES, ..taken }.well(), "half an hour has shown nothing");
    }
}
