//! Whether this machine lets its programs run. On one that stands still again and again, sound is late by no fault of the
//! gateway's: nothing can be said of it there.

use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

const TICK: Duration = Duration::from_millis(10);
/// It stood still when two ticks were further apart.
const STOOD: Duration = Duration::from_millis(60);
/// Or when the host took more than this of a processor's time within a second, in hundredths of a second.
const STOLEN: u64 = 3;

/// Looks from its making to its end.
pub struct Machine {
    /// From when, and until when that is known.
    calm: Arc<Mutex<(Instant, Instant)>>,
    _watch: JoinSet<()>,
}

impl Machine {
    pub fn watch() -> Machine {
        let calm = Arc::new(Mutex::new((Instant::now(), Instant::now())));
        let known = Arc::clone(&calm);
        let most = STOLEN * available_parallelism().map_or(1, usize::from) as u64;
        let mut watch = JoinSet::new();
        watch.spawn(async move {
            let mut tick = interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut looked, mut stolen_before) = (Instant::now(), stolen());
            loop {
                tick.tick().await;
                let now = Instant::now();
                let mut known = known.lock().expect("no panic");
                let mut lets_run = now - known.1 < STOOD;
                if now - looked >= Duration::from_secs(1) {
                    let stolen = stolen();
                    lets_run &= stolen.saturating_sub(stolen_before) <= most;
                    (looked, stolen_before) = (now, stolen);
                }
                *known = (if lets_run { known.0 } else { now }, now);
            }
        });
        Machine { calm, _watch: watch }
    }

    /// For how long it has let its programs run.
    pub fn calm_for(&self) -> Duration {
        let (since, until) = *self.calm.lock().expect("no panic");
        until - since
    }
}

/// What the host has taken since this machine began (proc_stat(5), `steal`).
fn stolen() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("the kernel's counters");
    stat.split_whitespace().nth(8).and_then(|ticks| ticks.parse().ok()).expect("a count")
}
