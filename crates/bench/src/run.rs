//! A run: calls are begun, left to settle, measured and, where more are wanted, joined by others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::Options;
use crate::figures::{Began, Figures, Quantiles, SetUp, Void, Way};
use crate::heard::LONGEST;
use crate::media::{Both, Happened, Media, Mouth, Offering, Phone, PhoneSockets, Window};
use crate::middle::{Line, Middle};
use crate::process::{Processors, dropped_datagrams, machine, memory, processor_time};
use crate::recordings::{self, Clips};
use crate::report::{End, Report};
use crate::session::Refused;
use crate::sound::{Coding, Prepared, prepare, speech, with_marks};

/// How long a browser may take to connect.
const PATIENCE: Duration = Duration::from_secs(30);
/// `--until-late` ends with so many calls in any case.
const MOST_CALLS: usize = 5_000;
/// As many calls more each time where `--soak` looks for the most itself, and the share of those that it has.
const STEP: usize = 25;
const SOAK_SHARE: f64 = 0.8;
/// Calls, where nobody says how many.
const CALLS: [usize; 1] = [20];
/// A measurement that is void is made again after so long; after a machine that was taken when it is ours again, as far as it is
/// within the time.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const QUIET_LOOK: Duration = Duration::from_secs(3);
const QUIET_LOOKS: u32 = 20;
/// How long the first call speaks, or what stays after others have ended, until memory and turns are theirs.
const SHORT_SETTLE: Duration = Duration::from_secs(2);
/// The shortest window that has a whole clip.
const CLIP_WINDOW_S: u64 = 9;

/// Does what `options` say, with threads of its own.
///
/// # Errors
/// When a gateway cannot be had, or a call does not come about; and why.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> anyhow::Result<Report> {
    ensure!(!options.calls.contains(&0), "--calls wants numbers above 0");
    let clips_fit = options.recordings.is_none() || options.seconds >= CLIP_WINDOW_S;
    ensure!(clips_fit, "--recordings wants --seconds {CLIP_WINDOW_S} at least");
    ensure!((0.01..=1_000.0).contains(&options.ramp), "--ramp wants calls per second, 0.01 to 1000");
    ensure!(options.until_late != Some(0), "--until-late wants how many calls more each time");
    if options.soak.is_none() || !options.calls.is_empty() {
        return one_run(options).await;
    }
    let search = Options { soak: None, until_late: options.until_late.or(Some(STEP)), ..options.clone() };
    let mut report = one_run(&search).await?;
    let Some(most) = report.most_calls() else {
        report.faults.push("the most calls were not found: --calls says how many".to_owned());
        return Ok(report);
    };
    let calls = ((most as f64 * SOAK_SHARE) as usize).max(1);
    // In a gateway of its own: memory that the search has left would hide what grows.
    let soak = Options { calls: vec![calls], until_late: None, recordings: None, ..options.clone() };
    match one_run(&soak).await {
        Ok(soaked) => {
            report.soak = soaked.soak;
            report.faults.extend(soaked.faults);
        }
        Err(error) => report.faults.push(format!("the soak: {error:#}")),
    }
    Ok(report)
}

/// With one gateway. What was measured is kept, whatever fails then.
async fn one_run(options: &Options) -> anyhow::Result<Report> {
    let (coding, most) = (coding(options), most(options));
    let (middle, media) = (Middle::start(options, most).await?, Media::start()?);
    let run = Run::new(options, coding, middle, media)?;
    let (report, middle, media) = run.all().await;
    media.stop()?;
    let stopped = middle.stop().await;
    let mut report = report?;
    report.faults.extend(stopped.err().map(|error| format!("{error:#}")));
    Ok(report)
}

fn coding(options: &Options) -> Coding {
    match (options.relay, options.full_band) {
        (true, _) => Coding::Pcmu,
        (_, true) => Coding::FullBand,
        _ => Coding::Opus,
    }
}

/// The most calls that there will be.
fn most(options: &Options) -> usize {
    match (options.calls.iter().max(), options.until_late, options.soak) {
        (_, Some(_), _) => MOST_CALLS,
        // The ports of those that ended rest for a while.
        (Some(calls), None, Some(_)) => 2 * calls,
        (asked, None, _) => asked.copied().unwrap_or(CALLS[0]),
    }
}

/// What both kinds of ends say.
struct Said {
    pages: Arc<Prepared>,
    phones: Arc<Prepared>,
}

impl Said {
    fn prepare(samples: &[i16], coding: Coding, marked: bool) -> anyhow::Result<Said> {
        let pages = prepare(samples, coding, marked)?.into();
        Ok(Said { pages, phones: prepare(samples, Coding::Pcmu, marked)?.into() })
    }
}

/// The calls and what they go through.
pub(crate) struct Run<'a> {
    pub(crate) options: &'a Options,
    pub(crate) middle: Middle,
    pub(crate) media: Media,
    coding: Coding,
    marked: Said,
    /// What the calls say that are recorded.
    clips: Option<Said>,
    entries: Vec<Value>,
    /// The calls that stand, by their numbers.
    lines: Vec<(usize, Line)>,
    /// All calls that were begun.
    pub(crate) began: Vec<Began>,
    most: usize,
    pub(crate) pid: Option<u32>,
    /// Its memory with the first call, which brings what all calls share: code, pools, caches.
    with_one: Option<u64>,
    /// What has failed beside what is measured.
    faults: Vec<String>,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options, coding: Coding, middle: Middle, media: Media) -> anyhow::Result<Run<'a>> {
        let said = speech(options.speech.as_deref())?;
        let clips = options.recordings.as_ref().map(|_| Said::prepare(&said, coding, false)).transpose()?;
        let marked = Said::prepare(&with_marks(said), coding, true)?;
        let (lines, began, entries) = (Vec::new(), Vec::new(), Vec::new());
        let pid = options.pid.or_else(|| middle.pid());
        let (most, with_one, faults) = (0, None, Vec::new());
        Ok(Run { options, middle, media, coding, marked, clips, entries, lines, began, most, pid, with_one, faults })
    }

    /// All that was asked for; the calls are ended, however it went.
    async fn all(mut self) -> (anyhow::Result<Report>, Middle, Media) {
        let mut report = self.report().await;
        self.end_all(0).await;
        if let Ok(report) = &mut report {
            report.faults = self.faults;
        }
        (report, self.middle, self.media)
    }

    async fn report(&mut self) -> anyhow::Result<Report> {
        let (what, coding, faults) = (self.middle.name(), self.coding, Vec::new());
        let mut report = Report { what, coding, machine: machine(), rows: Vec::new(), ended: None, soak: None, faults };
        let asked = &self.options.calls;
        if let Some(minutes) = self.options.soak {
            let calls = asked.last().context("a soak wants --calls")?;
            report.soak = Some(self.soak(*calls, minutes).await?);
            return Ok(report);
        }
        for &calls in if asked.is_empty() { &CALLS[..] } else { asked } {
            match self.row(calls).await {
                Ok(row) => report.rows.push(row),
                Err(error) if report.rows.is_empty() => return Err(error),
                Err(error) => {
                    self.faults.push(format!("{calls} calls: {error:#}"));
                    break;
                }
            }
        }
        if let Some(step) = self.options.until_late {
            report.ended = self.until_late(step, &mut report.rows).await;
        }
        if let Some(folder) = &self.options.recordings {
            std::fs::write(folder.join("recordings.json"), serde_json::to_string_pretty(&self.entries)?)?;
        }
        Ok(report)
    }

    /// More calls, until it is too much; tells what else has ended it.
    async fn until_late(&mut self, step: usize, rows: &mut Vec<Figures>) -> Option<End> {
        let end = |why: String, is_found| Some(End { why, is_found });
        while self.lines.len() + step <= MOST_CALLS {
            match rows.as_slice() {
                [.., row] if row.too_much() => return None,
                [.., row] if row.void == Some(Void::DriverLate) => {
                    return end(format!("the driver itself was late at {}", row.calls), true);
                }
                [.., before, row] if before.void.is_some() && row.void.is_some() => {
                    return end(format!("the machine was taken at {} and {}", before.calls, row.calls), false);
                }
                _ => {}
            }
            let calls = self.lines.len() + step;
            match self.row_twice(calls).await {
                Ok(row) => rows.push(row),
                // A gateway may refuse calls before those that stand suffer.
                Err(error) => {
                    let is_refused = error.chain().any(|cause| cause.is::<Refused>());
                    return end(format!("at {} of {calls}: {error:#}", self.lines.len()), is_refused);
                }
            }
        }
        None
    }

    /// A row; where it was too much, it is measured once more: a search does not end with one bad moment of the machine.
    async fn row_twice(&mut self, calls: usize) -> anyhow::Result<Figures> {
        let first = self.began.len();
        let row = self.row(calls).await?;
        if row.too_much() { self.window(first, AGAIN_AFTER).await } else { Ok(row) }
    }

    async fn row(&mut self, calls: usize) -> anyhow::Result<Figures> {
        let (first, fewer) = (self.began.len(), self.lines.len() > calls);
        self.end_all(calls).await;
        let mut pace = interval(Duration::from_secs_f64(1.0 / self.options.ramp));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.lines.len() < calls {
            pace.tick().await;
            let call = self.began.len();
            self.begin().await.with_context(|| format!("call {}", call + 1))?;
            if call == 0 && calls > 1 {
                self.connected().await?;
                sleep(SHORT_SETTLE).await;
                self.with_one = self.pid.map(memory).transpose()?;
            }
            while let Ok(happened) = self.media.happened.try_recv() {
                self.happened(happened)?;
            }
        }
        self.connected().await?;
        self.most = self.most.max(calls);
        // Those that stay have settled before.
        let settle = Duration::from_secs(self.options.settle);
        self.window(first, if fewer { settle.min(SHORT_SETTLE) } else { settle }).await
    }

    /// Begins one call, whose number is that of the calls before.
    pub(crate) async fn begin(&mut self) -> anyhow::Result<()> {
        let call = self.began.len();
        let (page_says, phone_says) = self.mouths(call);
        let Run { options, middle, media, coding, .. } = self;
        let (offering, offer) = Offering::new(options.address, *coding)?;
        let sockets = PhoneSockets::bind(options.address)?;
        let (page_address, phone_address, placed) = (offering.address, sockets.address, Instant::now());
        let answered = |sdp: &str| media.add_page(offering.answered(call, sdp, page_says)?);
        let agreed = middle.place(call, (&offer, page_address), phone_address, answered).await?;
        media.add_phone(Phone::new(call, sockets, agreed.phone, phone_says))?;
        let (answer_after, answered_after) = (agreed.answer_after, agreed.answered_after);
        self.lines.push((call, agreed.line));
        self.began.push(Began { placed, answer_after, answered_after, connected: None, first_sound: None });
        Ok(())
    }

    fn mouths(&self, call: usize) -> (Mouth, Mouth) {
        let mouth = |said: &Arc<Prepared>, call| Mouth::new(Arc::clone(said), call);
        let Some((said, place)) = self.clips.as_ref().zip(recordings::place(call)) else {
            return (mouth(&self.marked.pages, call), mouth(&self.marked.phones, call + 3));
        };
        let (page, phone) = Clips::of(said.pages.payloads.len()).said(place);
        let first = Clips::first_packet;
        (mouth(&said.pages, call).with_clip(first(page)), mouth(&said.phones, call + 3).with_clip(first(phone)))
    }

    /// Ends call number `call`.
    pub(crate) async fn end(&mut self, call: usize) -> anyhow::Result<()> {
        let Some(place) = self.lines.iter().position(|(known, _)| *known == call) else { return Ok(()) };
        let (_, line) = self.lines.swap_remove(place);
        let ended = self.middle.hang_up(line).await;
        self.media.remove(call)?;
        ended
    }

    /// Ends all calls but the first `but`; that one had ended by itself is a fault.
    async fn end_all(&mut self, but: usize) {
        while let Some(&(call, _)) = self.lines.get(but..).and_then(<[_]>::last) {
            if let Err(error) = self.end(call).await {
                self.faults.push(format!("call {}: {error:#}", call + 1));
            }
        }
    }

    /// Waits until all browsers hear something.
    async fn connected(&mut self) -> anyhow::Result<()> {
        let all = timeout(PATIENCE, async {
            while self.began.iter().any(|call| call.first_sound.is_none()) {
                let happened = self.media.happened.recv().await.context("the driver's media thread has ended")?;
                self.happened(happened)?;
            }
            Ok(())
        });
        let done = all.await;
        let deaf = self.began.iter().filter(|call| call.first_sound.is_none()).count();
        done.with_context(|| format!("{deaf} of {} browsers hear nothing", self.began.len()))?
    }

    pub(crate) fn happened(&mut self, happened: Happened) -> anyhow::Result<()> {
        match happened {
            Happened::Connected(call, at) => self.note(call, |began| began.connected = Some(at)),
            Happened::FirstSound(call, at) => self.note(call, |began| began.first_sound = Some(at)),
            Happened::Failed(call) => anyhow::bail!("the browser of call {} has failed", call + 1),
        }
        Ok(())
    }

    fn note(&mut self, call: usize, what: impl FnOnce(&mut Began)) {
        if let Some(began) = self.began.get_mut(call) {
            what(began);
        }
    }

    /// Measures the calls that stand, again where that was void; `first` is the first of those that are new.
    async fn window(&mut self, first: usize, settle: Duration) -> anyhow::Result<Figures> {
        let mut figures = self.measured(first, settle).await?;
        while let Some(why) = figures.void.filter(|_| figures.tries < self.options.tries) {
            eprintln!("{} calls: void, {why}: again", figures.calls);
            if why == Void::MachineTaken {
                self.quiet().await?;
            }
            figures = Figures { tries: figures.tries + 1, ..self.measured(first, AGAIN_AFTER).await? };
        }
        Ok(figures)
    }

    /// Waits until the machine is ours again, for a minute at most: what is measured before would be void again.
    async fn quiet(&self) -> anyhow::Result<()> {
        let used = || {
            Ok::<_, anyhow::Error>(
                self.pid.map_or(Ok(Duration::ZERO), processor_time)? + processor_time(std::process::id())?,
            )
        };
        for _ in 0..QUIET_LOOKS {
            let (known, machine, began) = (used()?, Processors::now(), Instant::now());
            sleep(QUIET_LOOK).await;
            let taken = Processors::now().taken_pct(&machine, used()?.saturating_sub(known), began.elapsed());
            if Void::of(None, taken).is_none() {
                break;
            }
        }
        Ok(())
    }

    async fn measured(&mut self, first: usize, settle: Duration) -> anyhow::Result<Figures> {
        let own = std::process::id();
        let used = |pid: Option<u32>| pid.map(processor_time).transpose();
        let begin = Instant::now() + settle;
        let time = Duration::from_secs(self.options.seconds);
        self.media.listen(None, Window { begin, end: begin + time })?;
        sleep_until(begin.into()).await;
        let (workers, dropped, machine) = (self.middle.workers().await, dropped_datagrams(), Processors::now());
        let (theirs, ours, measured) = (used(self.pid)?, processor_time(own)?, Instant::now());
        sleep_until((begin + time).into()).await;
        let (theirs_then, ours_then, took) = (used(self.pid)?, processor_time(own)?, measured.elapsed());
        let machine_then = Processors::now();
        let (workers_then, dropped_then) = (self.middle.workers().await, dropped_datagrams());
        let memory = self.pid.map(memory).transpose()?;
        // What was said at the end is still on its way.
        sleep(LONGEST).await;
        let heard = self.media.heard(None).await?;
        let calls = self.lines.len();
        self.record(calls, &heard)?;
        let each = |time: Duration| time.as_secs_f64() * 1_000.0 / took.as_secs_f64() / calls as f64;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (up, down, driver_late_ms) = ways(heard, time).await?;
        let workers = workers_then.zip(workers);
        let lateness = workers.as_ref().and_then(|(then, before)| then.lateness.p99_ms(&before.lateness));
        let effort = workers.and_then(|(then, before)| then.effort.min(before.effort));
        let theirs = theirs_then.zip(theirs).map(|(then, before)| then.saturating_sub(before));
        let ours = ours_then.saturating_sub(ours);
        let taken = machine_then.taken_pct(&machine, theirs.unwrap_or_default() + ours, took);
        // Memory of calls that have ended says nothing of those that stay.
        let grown = memory.zip(self.with_one).filter(|_| calls == self.most);
        Ok(Figures {
            calls,
            void: Void::of(driver_late_ms.map(|late| late.p99), taken),
            tries: 1,
            others_pct: taken.0,
            stolen_pct: taken.1,
            seconds: time.as_secs_f64(),
            cpu_ms_per_call_second: theirs.map(each),
            driver_cpu_ms_per_call_second: each(ours),
            mib_per_call: grown.map(|(now, one)| mib(now.saturating_sub(one)) / (calls - 1) as f64),
            mib: memory.map(mib),
            up,
            down,
            lateness_p99_ms: lateness.map(|ms| ms.min(1_000.0)),
            effort,
            driver_late_ms,
            dropped_datagrams: dropped_then.saturating_sub(dropped),
            set_up: SetUp::of(self.began.get(first..).filter(|new| !new.is_empty()).unwrap_or(&self.began)),
        })
    }

    /// Keeps what the recorded calls sounded like, in place of what a void measurement before had of them.
    fn record(&mut self, calls: usize, heard: &[Both]) -> anyhow::Result<()> {
        let (Some(folder), Some(said)) = (&self.options.recordings, &self.clips) else { return Ok(()) };
        let new = recordings::keep(folder, calls, Clips::of(said.pages.payloads.len()), heard)?;
        self.entries.retain(|old| new.iter().all(|entry| entry["file"] != old["file"]));
        self.entries.extend(new);
        Ok(())
    }
}

/// Both directions, and the driver's own lateness.
async fn ways(heard: Vec<Both>, time: Duration) -> anyhow::Result<(Way, Way, Option<Quantiles>)> {
    let judged = tokio::task::spawn_blocking(move || {
        let up = Way::of(heard.iter().map(|both| (&both.page, &both.phone)), time);
        let down = Way::of(heard.iter().map(|both| (&both.phone, &both.page)), time);
        let ends = heard.iter().flat_map(|both| [&both.page, &both.phone]);
        let late = ends.flat_map(|end| end.late_ms.iter().copied()).collect();
        (up, down, Quantiles::of(late))
    });
    judged.await.context("the judgement of what was heard")
}
