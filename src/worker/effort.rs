//! When it is too much: what a worker spares its calls when it runs late, and when it takes no more of them
//! (docs/performance.md, "When it is too much"; docs/decisions/0020-when-it-is-too-much.md).
//!
//! Each second is judged by itself, by how late timers were served and by how much of the second the thread has computed. One
//! second says nothing: two of a kind in a row do, and the way back takes longer.

use std::time::{Duration, Instant};

use crate::media::Effort;

/// A timer that is served later than this is late; later than that it is too late: a frame.
const LATE: Duration = Duration::from_millis(10);
const TOO_LATE: Duration = Duration::from_millis(20);
/// A second is late when more than one timer in so many was.
const SHARE: u32 = 100;
/// How long is judged at once.
const SECOND: Duration = Duration::from_secs(1);
/// So many seconds in a row cost a step of effort, or the calls to come.
const IN_A_ROW: u32 = 2;
/// So many calm seconds in a row, and new calls are taken again.
const CALM: u32 = 5;
/// So many, and a step of effort is taken back. Each time that one did not last, it takes twice as many, up to a limit.
const REST: u32 = 10;
const LONGEST_REST: u32 = 320;
/// With fewer calls on a thread that has time left, what makes it late is not their sound.
const FEW_CALLS: usize = 8;
/// Of a second, in percent: what a thread may compute, where nothing else is said.
pub(super) const BUSY_AT: u8 = 85;

/// How a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standing {
    pub effort: Effort,
    /// It takes no new calls.
    pub busy: bool,
}

/// Judges the seconds of one worker.
#[derive(Debug)]
pub(super) struct Watch {
    /// When this second began, and how long the thread had computed by then.
    since: Instant,
    cpu: Duration,
    /// Timers served in it, and those of them that were late.
    served: u32,
    late: u32,
    too_late: u32,
    /// Seconds in a row.
    late_row: u32,
    busy_row: u32,
    calm_row: u32,
    /// Calm seconds that the next step back takes, and when the last one was taken.
    rest: u32,
    back: Option<Instant>,
    standing: Standing,
}

/// What a second was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Second {
    late: bool,
    busy: bool,
    calm: bool,
}

impl Watch {
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            cpu: Duration::ZERO,
            served: 0,
            late: 0,
            too_late: 0,
            late_row: 0,
            busy_row: 0,
            calm_row: 0,
            rest: REST,
            back: None,
            standing: Standing::default(),
        }
    }

    /// A timer was served so late.
    pub fn served(&mut self, late: Duration) {
        self.served += 1;
        self.late += u32::from(late > LATE);
        self.too_late += u32::from(late > TOO_LATE);
    }

    /// Judges the second, once it is over. `cpu` is what the thread has computed since it began, asked for then alone; above
    /// `busy_at` percent it takes no new calls (0: it takes them, however late it is). Yields how the worker stands, when that
    /// has changed.
    pub fn judge(
        &mut self,
        now: Instant,
        calls: usize,
        busy_at: u8,
        cpu: impl FnOnce() -> Duration,
    ) -> Option<Standing> {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < SECOND {
            return None;
        }
        let cpu = cpu();
        let percent = cpu.saturating_sub(self.cpu).as_micros() * 100 / elapsed.as_micros().max(1);
        let second = self.second(u32::try_from(percent).unwrap_or(u32::MAX), calls, busy_at);
        let before = self.standing;
        self.count(second, u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX));
        self.step(now, busy_at > 0);
        (self.since, self.cpu) = (now, cpu);
        (self.served, self.late, self.too_late) = (0, 0, 0);
        (self.standing != before).then_some(self.standing)
    }

    /// What new calls begin with.
    pub fn effort(&self) -> Effort {
        self.standing.effort
    }

    /// When [`judge`](Self::judge) is wanted even if nothing else happens: the way back needs no calls.
    pub fn wanted(&self) -> Option<Instant> {
        (self.standing != Standing::default()).then(|| self.since + SECOND)
    }

    fn second(&self, percent: u32, calls: usize, busy_at: u8) -> Second {
        let most = u32::from(if busy_at == 0 { BUSY_AT } else { busy_at });
        let by_calls = calls >= FEW_CALLS || percent > u32::from(BUSY_AT);
        let many = |late: u32| by_calls && late.saturating_mul(SHARE) > self.served;
        let late = many(self.late);
        // A sixth less is what a step of effort saves at most: one that is taken back must not be missed at once.
        Second { late, busy: many(self.too_late) || percent > most, calm: !late && percent <= most - most / 6 }
    }

    fn count(&mut self, second: Second, seconds: u32) {
        let row = |row: u32, goes_on: bool, by: u32| if goes_on { row.saturating_add(by) } else { 0 };
        self.late_row = row(self.late_row, second.late, 1);
        self.busy_row = row(self.busy_row, second.busy, 1);
        // What passes without a turn was calm.
        self.calm_row = row(self.calm_row, second.calm, seconds);
    }

    fn step(&mut self, now: Instant, may_refuse: bool) {
        let effort = self.standing.effort;
        if self.late_row >= IN_A_ROW && effort != Effort::Least {
            let lasted = self.back.take().is_none_or(|back| now > back + SECOND * self.rest);
            self.rest = match (lasted, effort) {
                (false, _) => (self.rest * 2).min(LONGEST_REST),
                (true, Effort::Full) => REST,
                (true, _) => self.rest,
            };
            self.standing.effort = effort.less();
            self.late_row = 0;
        }
        if self.busy_row >= IN_A_ROW {
            self.standing.busy = true;
        }
        if self.calm_row >= CALM || !may_refuse {
            self.standing.busy = false;
        }
        if self.calm_row >= self.rest && effort != Effort::Full {
            self.standing.effort = effort.more();
            self.back = Some(now);
            self.calm_row = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
    use proptest::prelude::*;

    use super::*;
    use Effort::{Full, Least, Less};

    /// A worker's seconds, made up.
    struct Made {
        watch: Watch,
        now: Instant,
        cpu: Duration,
        calls: usize,
        busy_at: u8,
    }

    /// Of two hundred timers so many are 11 ms late, and so many 21; the thread computes that share of the second.
    #[derive(Debug, Clone, Copy, Default)]
    struct Load {
        late: u32,
        too_late: u32,
        percent: u32,
    }

    const NONE: Load = Load { late: 0, too_late: 0, percent: 40 };
    const A_LITTLE: Load = Load { late: 2, ..NONE };
    const LATE_BY_10: Load = Load { late: 3, ..NONE };
    const LATE_BY_20: Load = Load { too_late: 3, ..NONE };

    impl Made {
        fn new() -> Self {
            let now = Instant::now();
            Self { watch: Watch::new(now), now, cpu: Duration::ZERO, calls: FEW_CALLS, busy_at: BUSY_AT }
        }

        fn second(&mut self, load: Load) -> Standing {
            for timer in 0..200 {
                self.watch.served(match timer {
                    n if n < load.too_late => TOO_LATE + Duration::from_millis(1),
                    n if n < load.too_late + load.late => LATE + Duration::from_millis(1),
                    _ => LATE,
                });
            }
            self.now += SECOND;
            self.cpu += SECOND * load.percent / 100;
            let cpu = self.cpu;
            self.watch.judge(self.now, self.calls, self.busy_at, || cpu);
            self.watch.standing
        }

        fn seconds(&mut self, number: u32, load: Load) -> Standing {
            (0..number).fold(self.watch.standing, |_, _| self.second(load))
        }

        /// How many seconds of this load it takes until so much work is spent.
        fn until(&mut self, effort: Effort, load: Load) -> u32 {
            (1..1_000).find(|_| self.second(load).effort == effort).unwrap()
        }
    }

    fn standing(effort: Effort, busy: bool) -> Standing {
        Standing { effort, busy }
    }

    #[test]
    fn a_second_is_no_news_and_two_in_a_row_are_a_step() {
        let mut made = Made::new();
        for _ in 0..100 {
            made.second(LATE_BY_10);
            assert_eq!(made.second(A_LITTLE), Standing::default());
        }
        let steps: Vec<Effort> = (0..6).map(|_| made.second(LATE_BY_10).effort).collect();
        assert_eq!(steps, [Full, Less, Less, Least, Least, Least]);
        // A step back for each ten calm seconds, and none for what is neither late nor calm.
        assert_eq!(made.seconds(60, Load { percent: 80, ..NONE }).effort, Least);
        assert_eq!((made.until(Less, NONE), made.until(Full, NONE)), (REST, REST));
    }

    #[test]
    fn calls_are_refused_when_timers_are_late_by_a_frame_or_the_thread_computes_too_much_and_taken_when_it_is_calm() {
        let much = Load { percent: 86, ..NONE };
        for (load, effort) in [(LATE_BY_20, Effort::Less), (much, Effort::Full)] {
            let mut made = Made::new();
            assert_eq!(made.second(load), Standing::default());
            assert_eq!(made.second(load), standing(effort, true));
            assert!(made.seconds(CALM - 1, NONE).busy);
            assert!(!made.second(NONE).busy);
        }
        let mut made = Made::new();
        assert!(!made.seconds(60, LATE_BY_10).busy && !made.seconds(60, Load { percent: 85, ..NONE }).busy);
        made.seconds(2, much);
        assert!(made.seconds(60, Load { percent: 72, ..NONE }).busy, "too little room for the next calls");
    }

    #[test]
    fn the_bound_is_the_operators_and_none_refuses_nothing() {
        let mut made = Made { busy_at: 50, ..Made::new() };
        assert!(made.seconds(2, Load { percent: 51, ..NONE }).busy);
        made.busy_at = 0;
        assert_eq!(made.seconds(2, LATE_BY_20), standing(Effort::Less, false));
        assert!(!made.seconds(60, Load { percent: 100, ..LATE_BY_20 }).busy);
    }

    /// It is another's fault then.
    #[test]
    fn few_calls_on_a_thread_with_time_left_are_not_why_it_is_late() {
        let mut made = Made { calls: FEW_CALLS - 1, ..Made::new() };
        assert_eq!(made.seconds(60, LATE_BY_20), Standing::default());
        assert_eq!(made.seconds(2, Load { percent: 99, ..LATE_BY_20 }), standing(Effort::Less, true));
    }

    #[test]
    fn a_worker_that_lost_all_calls_is_itself_again_although_nothing_happens_any_more() {
        let mut made = Made::new();
        assert_eq!(made.watch.wanted(), None);
        made.seconds(4, LATE_BY_20);
        made.calls = 0;
        let mut turns = 0;
        while let Some(at) = made.watch.wanted() {
            made.now = at;
            let cpu = made.cpu;
            made.watch.judge(at, 0, BUSY_AT, || cpu);
            turns += 1;
        }
        assert_eq!((made.watch.standing, turns), (Standing::default(), 2 * REST));
        // An hour without a turn is calm, too.
        made.calls = FEW_CALLS;
        made.seconds(4, LATE_BY_20);
        made.now += Duration::from_secs(3_600);
        assert!(!made.second(NONE).busy);
    }

    #[test]
    fn the_processor_is_asked_once_a_second() {
        let mut made = Made::new();
        let asked = std::cell::Cell::new(0);
        for ms in 1..=3_500 {
            let now = made.now + Duration::from_millis(ms);
            made.watch.judge(now, 8, BUSY_AT, || {
                asked.set(asked.get() + 1);
                Duration::ZERO
            });
        }
        assert_eq!(asked.get(), 3);
    }

    /// A step back that does not last is tried less and less often; one that lasts makes the next as quick as the first.
    #[test]
    fn a_step_back_that_does_not_last_takes_twice_as_long_the_next_time() {
        let mut made = Made::new();
        made.seconds(2, LATE_BY_10);
        for rest in [REST, 20, 40, 80, 160, LONGEST_REST, LONGEST_REST] {
            assert_eq!(made.until(Effort::Full, NONE), rest);
            assert_eq!(made.until(Effort::Less, LATE_BY_10), IN_A_ROW);
        }
        made.until(Effort::Full, NONE);
        made.seconds(LONGEST_REST, NONE);
        made.until(Effort::Less, LATE_BY_10);
        assert_eq!(made.until(Effort::Full, NONE), REST);
    }

    fn loads() -> impl Strategy<Value = Vec<(Load, u32)>> {
        let load =
            (0..6_u32, 0..6_u32, 0..=100_u32).prop_map(|(late, too_late, percent)| Load { late, too_late, percent });
        let load = prop_oneof![load, Just(NONE), Just(LATE_BY_10), Just(LATE_BY_20)];
        proptest::collection::vec((load, 1..60_u32), 1..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        /// Whatever the load: never more than a step at once, never back without ten calm seconds behind it, and calls are
        /// taken again after five at the soonest.
        #[test]
        fn it_goes_back_slowly_and_step_by_step(loads in loads()) {
            let mut made = Made::new();
            let (mut before, mut changed, mut refused, mut second) = (Standing::default(), 0, 0, 0);
            for (load, times) in loads {
                for _ in 0..times {
                    second += 1;
                    let now = made.second(load);
                    if now.effort != before.effort {
                        prop_assert!(now.effort == before.effort.less() || now.effort == before.effort.more());
                        let least = if now.effort < before.effort { REST } else { IN_A_ROW };
                        prop_assert!(second - changed >= least, "{} s", second - changed);
                        changed = second;
                    }
                    if now.busy != before.busy {
                        prop_assert!(now.busy || second - refused >= CALM);
                        refused = second;
                    }
                    before = now;
                }
            }
        }

        /// A load that stays as it is, whether less effort makes it less late or not, does not make the effort come and go: in
        /// an hour it is tried again a few times, ever more seldom.
        #[test]
        fn a_steady_load_makes_no_oscillation(
            percent in 1..130_u32,
            less in 70..=100_u32,
            least in 50..=70_u32,
            late_above in 20..100_u32,
        ) {
            let mut made = Made::new();
            let (mut before, mut changes, mut lately) = (Effort::Full, 0, 0);
            for second in 0..3_600 {
                let factor = match before { Effort::Full => 100, Effort::Less => less, Effort::Least => least };
                let percent = percent * factor / 100;
                let too_late = if percent > late_above { 100 } else { 0 };
                let effort = made.second(Load { late: 0, too_late, percent: percent.min(100) }).effort;
                if effort != before {
                    changes += 1;
                    lately += u32::from(second >= 600);
                    before = effort;
                }
            }
            prop_assert!(changes <= 36 && lately <= 22, "{changes} changes, {lately} after ten minutes");
        }

        /// Where the thread's own work is what makes it late, and a step saves what it does (a seventh at most), nothing is
        /// tried in vain.
        #[test]
        fn what_its_own_work_makes_late_is_settled_in_ten_seconds(percent in 1..130_u32, less in 93..=98_u32, least in 86..=92_u32) {
            let mut made = Made::new();
            let mut effort = Effort::Full;
            for second in 0..600 {
                let factor = match effort { Effort::Full => 100, Effort::Less => less, Effort::Least => least };
                let percent = percent * factor / 100;
                let too_late = if percent > u32::from(BUSY_AT) { 100 } else { 0 };
                let now = made.second(Load { late: 0, too_late, percent: percent.min(100) }).effort;
                prop_assert!(now == effort || second < 10, "{effort:?} to {now:?} after {second} s at {percent} %");
                effort = now;
            }
        }
    }
}
