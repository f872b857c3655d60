//! A run: calls are begun, left to settle, measured and, where more are wanted, joined by others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::Options;
use crate::figures::{Began, Figures, Quantiles, SetUp, Way};
use crate::heard::{Heard, LONGEST};
use crate::media::{Happened, Media, Mouth, Offering, Phone, PhoneSockets, Window};
use crate::middle::{Line, Middle};
use crate::process::{dropped_datagrams, machine, memory, processor_time};
use crate::sound::{Coding, Prepared, prepare, speech};

/// How long a browser may take to connect.
const PATIENCE: Duration = Duration::from_secs(30);
/// `--until-late` ends with so many calls in any case.
const MOST_CALLS: usize = 5_000;

/// What a run has found.
#[derive(Debug)]
pub struct Report {
    /// What was measured: `ringback` or `rtpengine`.
    pub what: &'static str,
    /// How the browsers spoke.
    pub coding: Coding,
    /// The machine.
    pub machine: String,
    /// One for each number of calls.
    pub rows: Vec<Figures>,
}

impl Report {
    /// The most calls of which none suffered, where that was looked for or found.
    pub fn most_calls(&self) -> Option<usize> {
        let good = self.rows.iter().take_while(|row| !row.too_much()).last();
        good.filter(|_| self.rows.iter().any(Figures::too_much)).map(|row| row.calls)
    }

    /// For a person.
    pub fn text(&self) -> String {
        let coding = match self.coding {
            Coding::Opus => "Opus narrowband <-> PCMU",
            Coding::FullBand => "Opus full band <-> PCMU",
            Coding::Pcmu => "PCMU <-> PCMU",
        };
        let rows: String = self.rows.iter().map(Figures::text).collect();
        let most = self.most_calls().map_or_else(String::new, |calls| format!("no call suffers up to {calls}\n"));
        format!("{}, {coding}, on {}\n{rows}{most}", self.what, self.machine)
    }

    /// For a program.
    pub fn json(&self) -> Value {
        json!({
            "what": self.what,
            "coding": match self.coding { Coding::Opus => "opus", Coding::FullBand => "opus-full-band", Coding::Pcmu => "pcmu" },
            "machine": self.machine,
            "rows": self.rows,
            "most_calls": self.most_calls(),
        })
    }
}

/// Does what `options` say, with threads of its own.
///
/// # Errors
/// When a gateway cannot be had, or a call does not come about; and why.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> anyhow::Result<Report> {
    ensure!(options.calls.is_sorted() && !options.calls.contains(&0), "--calls wants rising numbers above 0");
    ensure!((0.01..=1_000.0).contains(&options.ramp), "--ramp wants calls per second, 0.01 to 1000");
    ensure!(options.until_late != Some(0), "--until-late wants how many calls more each time");
    let (coding, most) = (coding(options), most(options));
    let (middle, media) = (Middle::start(options, most).await?, Media::start()?);
    let run = Run::new(options, coding, middle, media)?;
    let (rows, middle, media) = run.all().await;
    media.stop()?;
    let what = middle.name();
    let stopped = middle.stop().await;
    let rows = rows?;
    stopped?;
    Ok(Report { what, coding, machine: machine(), rows })
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
    let asked = options.calls.last().copied().unwrap_or(1);
    if options.until_late.is_some() { MOST_CALLS } else { asked }
}

struct Run<'a> {
    options: &'a Options,
    middle: Middle,
    media: Media,
    pages: Arc<Prepared>,
    phones: Arc<Prepared>,
    /// The calls that stand.
    lines: Vec<Line>,
    began: Vec<Began>,
    pid: Option<u32>,
    /// Its memory with the first call, which brings what all calls share: code, pools, caches.
    with_one: Option<u64>,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options, coding: Coding, middle: Middle, media: Media) -> anyhow::Result<Run<'a>> {
        let said = speech(options.speech.as_deref())?;
        let (pages, phones) = (prepare(&said, coding)?.into(), prepare(&said, Coding::Pcmu)?.into());
        let pid = options.pid.or_else(|| middle.pid());
        Ok(Run { options, middle, media, pages, phones, lines: Vec::new(), began: Vec::new(), pid, with_one: None })
    }

    /// All rows; the calls are ended, however it went.
    async fn all(mut self) -> (anyhow::Result<Vec<Figures>>, Middle, Media) {
        let mut rows = self.rows().await;
        for line in std::mem::take(&mut self.lines) {
            let ended = self.middle.hang_up(line).await;
            if let (Err(error), Ok(_)) = (ended, &rows) {
                rows = Err(error);
            }
        }
        (rows, self.middle, self.media)
    }

    async fn rows(&mut self) -> anyhow::Result<Vec<Figures>> {
        let mut rows = Vec::new();
        for &calls in &self.options.calls {
            rows.push(self.row(calls).await?);
        }
        if let Some(step) = self.options.until_late {
            while !rows.last().is_some_and(Figures::too_much) && self.lines.len() + step <= MOST_CALLS {
                rows.push(self.row(self.lines.len() + step).await?);
            }
        }
        Ok(rows)
    }

    async fn row(&mut self, calls: usize) -> anyhow::Result<Figures> {
        let first = self.lines.len();
        let mut pace = interval(Duration::from_secs_f64(1.0 / self.options.ramp));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.lines.len() < calls {
            pace.tick().await;
            let call = self.lines.len();
            self.begin(call).await.with_context(|| format!("call {}", call + 1))?;
            if call == 0 && calls > 1 {
                self.connected().await?;
                sleep(Duration::from_secs(self.options.settle)).await;
                self.with_one = self.pid.map(memory).transpose()?;
            }
            while let Ok(happened) = self.media.happened.try_recv() {
                self.happened(happened)?;
            }
        }
        self.connected().await?;
        self.window(first).await
    }

    /// Begins one call.
    async fn begin(&mut self, call: usize) -> anyhow::Result<()> {
        let Run { options, middle, media, pages, phones, .. } = self;
        let (offering, offer) = Offering::new(options.address, pages.coding)?;
        let sockets = PhoneSockets::bind(options.address)?;
        let (page_address, phone_address, placed) = (offering.address, sockets.address, Instant::now());
        let answered = |sdp: &str| media.add_page(offering.answered(call, sdp, Mouth::new(Arc::clone(pages), call))?);
        let agreed = middle.place(call, (&offer, page_address), phone_address, answered).await?;
        media.add_phone(Phone::new(call, sockets, agreed.phone, Mouth::new(Arc::clone(phones), call + 3)))?;
        let (answer_after, answered_after) = (agreed.answer_after, agreed.answered_after);
        self.lines.push(agreed.line);
        self.began.push(Began { placed, answer_after, answered_after, connected: None, first_sound: None });
        Ok(())
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

    fn happened(&mut self, happened: Happened) -> anyhow::Result<()> {
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

    /// Measures the calls that stand; `first` is the first of those that are new.
    async fn window(&mut self, first: usize) -> anyhow::Result<Figures> {
        let own = std::process::id();
        let used = |pid: Option<u32>| pid.map(processor_time).transpose();
        let begin = Instant::now() + Duration::from_secs(self.options.settle);
        let time = Duration::from_secs(self.options.seconds);
        self.media.listen(Window { begin, end: begin + time })?;
        sleep_until(begin.into()).await;
        let (late, dropped) = (self.middle.lateness().await, dropped_datagrams());
        let (theirs, ours, measured) = (used(self.pid)?, processor_time(own)?, Instant::now());
        sleep_until((begin + time).into()).await;
        let (theirs_then, ours_then, took) = (used(self.pid)?, processor_time(own)?, measured.elapsed());
        let (late_then, dropped_then) = (self.middle.lateness().await, dropped_datagrams());
        let memory = self.pid.map(memory).transpose()?;
        // What was said last is still on its way.
        sleep_until((begin + time + LONGEST).into()).await;
        let heard = self.media.heard().await?;
        let calls = self.lines.len();
        let each = |time: Duration| time.as_secs_f64() * 1_000.0 / took.as_secs_f64() / calls as f64;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (up, down, driver_late_ms) = ways(heard, time).await?;
        let lateness = late_then.zip(late).and_then(|(then, before)| then.p99_ms(&before));
        Ok(Figures {
            calls,
            seconds: time.as_secs_f64(),
            cpu_ms_per_call_second: theirs_then.zip(theirs).map(|(then, before)| each(then.saturating_sub(before))),
            driver_cpu_ms_per_call_second: each(ours_then.saturating_sub(ours)),
            mib_per_call: memory.zip(self.with_one).map(|(now, one)| mib(now.saturating_sub(one)) / (calls - 1) as f64),
            mib: memory.map(mib),
            up,
            down,
            lateness_p99_ms: lateness.map(|ms| ms.min(1_000.0)),
            driver_late_ms,
            dropped_datagrams: dropped_then.saturating_sub(dropped),
            set_up: SetUp::of(self.began.get(first..).filter(|new| !new.is_empty()).unwrap_or(&self.began)),
        })
    }
}

/// Both directions, and the driver's own lateness. The ends are in order: a page, its phone, and so on.
async fn ways(heard: Vec<Heard>, time: Duration) -> anyhow::Result<(Way, Way, Option<Quantiles>)> {
    let judged = tokio::task::spawn_blocking(move || {
        let pairs = || heard.chunks_exact(2).filter_map(|pair| Some((pair.first()?, pair.last()?)));
        let up = Way::of(pairs(), time);
        let down = Way::of(pairs().map(|(page, phone)| (phone, page)), time);
        let late = heard.iter().flat_map(|heard| heard.late_ms.iter().copied()).collect();
        (up, down, Quantiles::of(late))
    });
    judged.await.context("the judgement of what was heard")
}
