//! Whether this machine lets its programs run. On one that stands still again and again, sound is late by no fault of the
//! gateway's: nothing can be said of it there.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

const TICK: Duration = Duration::from_millis(10);
/// It stood still when two ticks were further apart.
const STOOD: Duration = Duration::from_millis(60);
/// Or when the host took more than this of its processors' time within a second, in hundredths of a second.
const STOLEN: u64 = 3;

/// Looks from its making to its end.
pub struct Machine {
    calm_since: Arc<Mutex<Instant>>,
    _watch: JoinSet<()>,
}

impl Machine {
    pub fn watch() -> Machine {
        let calm_since = Arc::new(Mutex::new(Instant::now()));
        let since = Arc::clone(&calm_since);
        let mut watch = JoinSet::new();
        watch.spawn(async move {
            let mut tick = interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut last, mut looked, mut stolen_before) = (Instant::now(), Instant::now(), stolen());
            loop {
                tick.tick().await;
                let now = Instant::now();
                let mut calm = now - last < STOOD;
                last = now;
                if now - looked >= Duration::from_secs(1) {
                    let stolen = stolen();
                    calm &= stolen - stolen_before <= STOLEN;
                    (looked, stolen_before) = (now, stolen);
                }
                if !calm {
                    *since.lock().expect("no panic") = now;
                }
            }
        });
        Machine { calm_since, _watch: watch }
    }

    /// For how long it has let its programs run.
    pub fn calm_for(&self) -> Duration {
        self.calm_since.lock().expect("no panic").elapsed()
    }
}

/// What the host has taken since this machine began (proc_stat(5), `steal`).
fn stolen() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("the kernel's counters");
    stat.split_whitespace().nth(8).and_then(|ticks| ticks.parse().ok()).expect("a count")
}
