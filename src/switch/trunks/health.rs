//! Whether a trunk is there: an OPTIONS to each of its targets now and then ([RFC 3261 section
//! 11](https://www.rfc-editor.org/rfc/rfc3261#section-11)).
//!
//! A target is down after two misses one after the other, and up after one answer; a trunk is down when all of its
//! targets are. What is down is asked on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::sip::Target;

/// How long an answer may take: the request is sent four times meanwhile (RFC 3261 section 17.1.2.2). Later ones are
/// answers all the same.
const PATIENCE: Duration = Duration::from_secs(4);
/// How soon it is asked again after a first miss.
const AGAIN: Duration = Duration::from_secs(2);
/// Within what time the first question goes out, so that not all trunks are asked at once.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// Misses one after the other that make a target count as down.
const MISSES: u8 = 2;

/// The health of one trunk.
#[derive(Debug)]
pub struct Health {
    every: Duration,
    probes: BTreeMap<Target, Probe>,
}

#[derive(Debug)]
struct Probe {
    /// When to ask.
    next: Instant,
    /// When a question under way counts as a miss.
    overdue: Option<Instant>,
    misses: u8,
}

impl Probe {
    fn is_up(&self) -> bool {
        self.misses < MISSES
    }
}

impl Health {
    /// A trunk of which nothing is known, to be asked `every` so often.
    pub fn new(every: Duration) -> Health {
        Health { every, probes: BTreeMap::new() }
    }

    /// These are its targets from now on.
    pub fn set_targets<'a>(&mut self, now: Instant, rng: &mut StdRng, targets: impl Iterator<Item = &'a Target>) {
        let mut old = std::mem::take(&mut self.probes);
        for target in targets {
            let probe = old.remove(target).unwrap_or_else(|| {
                let next = now + FIRST_WITHIN.mul_f64(rng.random_range(0.0..1.0));
                Probe { next, overdue: None, misses: 0 }
            });
            self.probes.insert(target.clone(), probe);
        }
    }

    /// Whether calls may go to the trunk: any target is up, or nothing is known.
    pub fn is_up(&self) -> bool {
        self.probes.is_empty() || self.probes.values().any(Probe::is_up)
    }

    /// Whether calls may go to this target.
    pub fn is_target_up(&self, target: &Target) -> bool {
        self.probes.get(target).is_none_or(Probe::is_up)
    }

    /// When [`Health::due`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.probes.values().flat_map(|probe| [Some(probe.next), probe.overdue]).flatten().min()
    }

    /// Notes misses, and gives the targets to be asked now.
    pub fn due(&mut self, now: Instant, rng: &mut StdRng) -> Vec<Target> {
        let mut ask = Vec::new();
        for (target, probe) in &mut self.probes {
            if probe.overdue.is_some_and(|at| at <= now) {
                miss(probe, now, self.every, rng);
            }
            if probe.next <= now {
                probe.overdue = Some(now + PATIENCE);
                probe.next = now + jittered(self.every, rng).max(PATIENCE + AGAIN);
                ask.push(target.clone());
            }
        }
        ask
    }

    /// A target answered: as somebody who is there, or with a status that says that nobody is. A transport that failed is
    /// such an answer too. Gives how long an answer took that came in time.
    pub fn answered(&mut self, now: Instant, rng: &mut StdRng, target: &Target, alive: bool) -> Option<Duration> {
        let probe = self.probes.get_mut(target)?;
        if alive {
            probe.misses = 0;
            let left = probe.overdue.take()?.saturating_duration_since(now);
            return Some(PATIENCE.saturating_sub(left));
        }
        if probe.overdue.is_some() {
            // An end that comes after its patience was counted is not counted again.
            miss(probe, now, self.every, rng);
        }
        None
    }

    /// The trunk has shown that it is there by something else than an answer.
    pub fn alive(&mut self) {
        for probe in self.probes.values_mut() {
            probe.misses = 0;
        }
    }

    /// A call found nobody there: the question is put at once, unless one is under way.
    pub fn suspect(&mut self, now: Instant) {
        for probe in self.probes.values_mut().filter(|probe| probe.overdue.is_none() && probe.is_up()) {
            probe.next = now;
        }
    }
}

fn miss(probe: &mut Probe, now: Instant, every: Duration, rng: &mut StdRng) {
    probe.misses = probe.misses.saturating_add(1).min(MISSES);
    probe.overdue = None;
    probe.next = now + if probe.is_up() { AGAIN } else { jittered(every, rng) };
}

/// Nine to eleven tenths of a time.
fn jittered(time: Duration, rng: &mut StdRng) -> Duration {
    time.mul_f64(rng.random_range(0.9..1.1))
}

/// Whether a final response says that somebody is there who takes calls: all do but timeouts and overload.
pub fn says_alive(status: u16) -> bool {
    !matches!(status, 408 | 503 | 504)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::SeedableRng as _;

    use super::*;
    use crate::sip::Transport;

    fn target(last: u8) -> Target {
        let remote = ([192, 0, 2, last], 5060).into();
        let local = ([192, 0, 2, 1], 5060).into();
        Target { transport: Transport::Udp, local, remote, server_name: None }
    }

    #[allow(clippy::disallowed_methods)] // any instant will do
    fn setup(targets: &[Target]) -> (Health, StdRng, Instant) {
        let (mut health, mut rng, now) =
            (Health::new(Duration::from_secs(30)), StdRng::seed_from_u64(1), Instant::now());
        health.set_targets(now, &mut rng, targets.iter());
        (health, rng, now)
    }

    /// Asks when it is due; gives who was asked.
    fn step(health: &mut Health, rng: &mut StdRng, now: &mut Instant) -> Vec<Target> {
        *now = health.deadline().unwrap();
        health.due(*now, rng)
    }

    #[test]
    fn a_trunk_is_down_after_two_misses_and_up_after_one_answer() {
        let only = [target(9)];
        let (mut health, mut rng, mut now) = setup(&only);
        assert!(health.is_up());
        let start = now;
        assert_eq!(step(&mut health, &mut rng, &mut now), only);
        assert!(now - start <= FIRST_WITHIN);
        assert_eq!(step(&mut health, &mut rng, &mut now), [], "a first miss");
        assert!(health.is_up());
        assert_eq!(step(&mut health, &mut rng, &mut now), only, "asked again soon");
        step(&mut health, &mut rng, &mut now);
        assert!(!health.is_up() && now - start < Duration::from_secs(12));
        let down = now;
        assert_eq!(step(&mut health, &mut rng, &mut now), only, "asked on while it is down");
        let pause = now - down;
        let took = Duration::from_millis(70);
        assert!((Duration::from_secs(27)..Duration::from_secs(33)).contains(&pause), "{pause:?}");
        assert_eq!(health.answered(now + took, &mut rng, &only[0], true), Some(took));
        assert!(health.is_up());
    }

    #[test]
    fn misses_count_one_after_the_other_and_a_late_answer_is_one() {
        let only = [target(9)];
        let (mut health, mut rng, mut now) = setup(&only);
        for _ in 0..5 {
            step(&mut health, &mut rng, &mut now); // asked
            step(&mut health, &mut rng, &mut now); // missed
            health.answered(now, &mut rng, &only[0], true); // late
            assert!(health.is_up());
        }
        // The end of a transaction long after its miss is not a second one.
        step(&mut health, &mut rng, &mut now);
        step(&mut health, &mut rng, &mut now);
        health.answered(now, &mut rng, &only[0], false);
        assert!(health.is_up());
    }

    #[test]
    fn a_transport_that_fails_is_a_miss_at_once() {
        let only = [target(9)];
        let (mut health, mut rng, mut now) = setup(&only);
        for up in [true, false] {
            assert_eq!(step(&mut health, &mut rng, &mut now), only);
            health.answered(now, &mut rng, &only[0], false);
            assert_eq!(health.is_up(), up);
        }
    }

    #[test]
    fn a_trunk_with_two_targets_is_up_while_one_is() {
        let both = [target(9), target(10)];
        let (mut health, mut rng, now) = setup(&both);
        let mut clock = now;
        while health.is_target_up(&both[0]) {
            for asked in step(&mut health, &mut rng, &mut clock) {
                if asked == both[1] {
                    health.answered(clock, &mut rng, &asked, true);
                }
            }
            assert!(clock - now < Duration::from_secs(60));
        }
        assert!(health.is_up() && health.is_target_up(&both[1]));
        health.set_targets(clock, &mut rng, [both[0].clone()].iter());
        assert!(!health.is_up(), "the only target left is the dead one");
    }

    #[test]
    fn a_call_that_found_nobody_puts_the_question_at_once() {
        let only = [target(9)];
        let (mut health, mut rng, mut now) = setup(&only);
        step(&mut health, &mut rng, &mut now);
        health.answered(now, &mut rng, &only[0], true);
        now += Duration::from_secs(3);
        assert!(health.due(now, &mut rng).is_empty());
        health.suspect(now);
        assert_eq!(health.due(now, &mut rng), only);
        health.suspect(now);
        assert!(health.due(now, &mut rng).is_empty(), "one question at a time");
    }

    #[test]
    fn statuses_that_say_somebody_is_there() {
        for status in [200, 401, 403, 404, 405, 481, 486, 500, 501, 603] {
            assert!(says_alive(status), "{status}");
        }
        for status in [408, 503, 504] {
            assert!(!says_alive(status), "{status}");
        }
    }
}
