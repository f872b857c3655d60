//! "Why is there no audio": what each party says is followed on its way through the call, and where it ends is told within
//! three seconds.
//!
//! One [`Watch`] stands over each direction. It looks at what is known of both legs a few times a second. Sound that arrives,
//! is sound and can be sent on is well; otherwise, once it has not been well for [`PATIENCE`], the first thing on the way
//! that explains it is the verdict. Nothing is said of a call that rings or is on hold, nor of a party that spoke before and
//! sends silence now. One that spoke before and sends nothing now is silent, as long as anything else tells that it is there.

use std::time::{Duration, Instant};

use crate::sdp::{NoAudio, Side, Verdict};

/// How often a direction is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a direction is given, from the answer or from its last sign of health. With [`LOOK_EVERY`] a verdict is there
/// within 3 s.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// Fewer refused packets than these in that time are no stream.
const STREAM: u64 = 10;

/// How far the connection to a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Media can flow.
    Up,
    /// A browser none of whose connectivity checks has passed.
    NoIce,
    /// A browser with which there are no keys yet.
    NoDtls,
}

/// What came from a peer; each number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Came {
    /// Packets taken.
    pub taken: u64,
    /// Packets from addresses that are not the peer's.
    pub strangers: u64,
    /// SRTP that is not authentic.
    pub unauthentic: u64,
    /// Payload types that were not negotiated, and payloads that are none.
    pub unknown: u64,
}

/// What is known of a leg at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub link: Link,
    /// Whether its description lets us send, and receive.
    pub sends: bool,
    pub receives: bool,
    pub came: Came,
    /// The peer's last packet announced that it says nothing for a while: comfort noise, discontinuous transmission.
    pub paused: bool,
    /// Whether anything but digital silence was ever heard of it.
    pub sounded: bool,
    /// Whether there was a sign of life lately, RTCP included.
    pub alive: bool,
}

/// What stands over the direction from one party to the other.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    from: Side,
    /// Since when the direction is not well, and what had come until then; `None` while nobody expects sound.
    unwell: Option<(Instant, Came)>,
    verdict: Option<Verdict>,
}

impl Watch {
    /// A watch over what `from` says.
    pub fn new(from: Side) -> Self {
        Self { from, unwell: None, verdict: None }
    }

    /// Who speaks.
    pub fn from(&self) -> Side {
        self.from
    }

    /// Nobody expects sound: the call rings, or is on hold. Whether a verdict is taken back.
    pub fn rest(&mut self) -> bool {
        self.unwell = None;
        self.change(None).is_some()
    }

    /// The parties talk: looks at the speaker's leg and the listener's. `Some`: the verdict has changed.
    pub fn look(&mut self, now: Instant, speaker: &Facts, listener: &Facts) -> Option<Option<Verdict>> {
        let (since, before) = *self.unwell.get_or_insert((now, speaker.came));
        let new = speaker.came.since(&before);
        let flows = new.taken > 0 || speaker.paused;
        let well = self.blocked(speaker, listener).is_none() && speaker.sounded;
        if well && flows {
            self.unwell = Some((now, speaker.came));
            return self.change(None);
        }
        if now.saturating_duration_since(since) < PATIENCE {
            return None;
        }
        let verdict = self.blocked(speaker, listener).or_else(|| Some(self.here(missing(speaker, &new)?)));
        self.change(verdict)
    }

    /// What stops the sound whatever comes.
    fn blocked(&self, speaker: &Facts, listener: &Facts) -> Option<Verdict> {
        let there = |cause| Verdict { at: self.from.other(), cause };
        match (speaker.link, listener.link) {
            (Link::NoIce, _) => Some(self.here(NoAudio::NoIce)),
            (Link::NoDtls, _) => Some(self.here(NoAudio::NoDtls)),
            _ if !speaker.receives => Some(self.here(NoAudio::Held)),
            (_, Link::NoIce) => Some(there(NoAudio::NoIce)),
            (_, Link::NoDtls) => Some(there(NoAudio::NoDtls)),
            _ if !listener.sends => Some(there(NoAudio::Held)),
            _ => None,
        }
    }

    fn here(&self, cause: NoAudio) -> Verdict {
        Verdict { at: self.from, cause }
    }

    fn change(&mut self, verdict: Option<Verdict>) -> Option<Option<Verdict>> {
        let changed = self.verdict != verdict;
        self.verdict = verdict;
        changed.then_some(verdict)
    }
}

impl Came {
    fn since(&self, before: &Came) -> Came {
        Came {
            taken: self.taken.saturating_sub(before.taken),
            strangers: self.strangers.saturating_sub(before.strangers),
            unauthentic: self.unauthentic.saturating_sub(before.unauthentic),
            unknown: self.unknown.saturating_sub(before.unknown),
        }
    }
}

/// Why no sound comes of a leg that could carry it: of the packets that were refused, those that are most.
fn missing(speaker: &Facts, new: &Came) -> Option<NoAudio> {
    if new.taken > 0 || speaker.paused {
        return (!speaker.sounded).then_some(NoAudio::Silent);
    }
    let refused = [
        (new.unauthentic, NoAudio::NotAuthentic),
        (new.unknown, NoAudio::WrongPayloadType),
        (new.strangers, NoAudio::Stranger),
    ];
    let most = refused.into_iter().filter(|(count, _)| *count >= STREAM).max_by_key(|(count, _)| *count);
    // Suppression of silence and a local mute may stop a stream without a word.
    let quiet = if speaker.sounded && speaker.alive { NoAudio::Silent } else { NoAudio::NoRtp };
    Some(most.map_or(quiet, |(_, cause)| cause))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
    use super::*;

    const WELL: Facts = Facts {
        link: Link::Up,
        sends: true,
        receives: true,
        came: Came { taken: 0, strangers: 0, unauthentic: 0, unknown: 0 },
        paused: false,
        sounded: true,
        alive: true,
    };
    const UNHEARD: Facts = Facts { sounded: false, alive: false, ..WELL };

    /// Looks for `ms` at a speaker that changes with each look; what was told, and when.
    fn watch(
        watch: &mut Watch,
        start: Instant,
        ms: std::ops::Range<u64>,
        mut at: impl FnMut(u64) -> (Facts, Facts),
    ) -> Vec<(u64, Option<(Side, NoAudio)>)> {
        let looks = (ms.start..ms.end).step_by(LOOK_EVERY.as_millis() as usize);
        let told = looks.filter_map(|ms| {
            let (speaker, listener) = at(ms);
            let change = watch.look(start + Duration::from_millis(ms), &speaker, &listener)?;
            Some((ms, change.map(|verdict| (verdict.at, verdict.cause))))
        });
        told.collect()
    }

    fn came(ms: u64, change: impl FnOnce(&mut Came, u64)) -> Facts {
        let mut facts = WELL;
        change(&mut facts.came, ms / 20);
        facts
    }

    #[test]
    fn each_cause_is_told_within_three_seconds_of_the_answer() {
        type Scene = fn(u64) -> (Facts, Facts);
        let table: [(&str, Side, NoAudio, Scene); 14] = [
            ("no check passes", Side::A, NoAudio::NoIce, |_| (Facts { link: Link::NoIce, ..WELL }, WELL)),
            ("no keys", Side::A, NoAudio::NoDtls, |_| (Facts { link: Link::NoDtls, ..WELL }, WELL)),
            ("nothing comes", Side::A, NoAudio::NoRtp, |_| (UNHEARD, WELL)),
            ("nothing but RTCP ever came", Side::A, NoAudio::NoRtp, |_| (Facts { alive: true, ..UNHEARD }, WELL)),
            ("it spoke, and is gone", Side::A, NoAudio::NoRtp, |_| (Facts { alive: false, ..WELL }, WELL)),
            ("it spoke, and says nothing without announcing it", Side::A, NoAudio::Silent, |_| (WELL, WELL)),
            ("a scan is no stream", Side::A, NoAudio::NoRtp, |ms| {
                (Facts { came: came(ms, |c, n| c.strangers = n.min(3)).came, ..UNHEARD }, WELL)
            }),
            ("another payload type", Side::A, NoAudio::WrongPayloadType, |ms| (came(ms, |c, n| c.unknown = n), WELL)),
            ("another address", Side::A, NoAudio::Stranger, |ms| (came(ms, |c, n| c.strangers = n), WELL)),
            ("another key", Side::A, NoAudio::NotAuthentic, |ms| (came(ms, |c, n| c.unauthentic = n), WELL)),
            ("digital silence", Side::A, NoAudio::Silent, |ms| {
                (Facts { sounded: false, ..came(ms, |c, n| c.taken = n) }, WELL)
            }),
            ("it sends nothing by its description", Side::A, NoAudio::Held, |_| {
                (Facts { receives: false, ..WELL }, WELL)
            }),
            ("the other one wants nothing", Side::B, NoAudio::Held, |ms| {
                (came(ms, |c, n| c.taken = n), Facts { sends: false, ..WELL })
            }),
            ("the other one has no keys", Side::B, NoAudio::NoDtls, |ms| {
                (came(ms, |c, n| c.taken = n), Facts { link: Link::NoDtls, ..WELL })
            }),
        ];
        for (scene, at, cause, facts) in table {
            let told = watch(&mut Watch::new(Side::A), Instant::now(), 0..10_000, facts);
            assert_eq!(told, [(2_500, Some((at, cause)))], "{scene}");
        }
    }

    #[test]
    fn of_several_kinds_of_refused_packets_the_most_are_the_cause() {
        let facts = |ms: u64| {
            let mut facts = came(ms, |c, n| c.strangers = n);
            facts.came.unknown = 2 * facts.came.strangers;
            (facts, WELL)
        };
        let told = watch(&mut Watch::new(Side::B), Instant::now(), 0..3_000, facts);
        assert_eq!(told, [(2_500, Some((Side::B, NoAudio::WrongPayloadType)))]);
    }

    #[test]
    fn nothing_is_told_of_what_is_well() {
        type Scene = fn(u64) -> (Facts, Facts);
        let table: [(&str, Scene); 5] = [
            ("healthy", |ms| (came(ms, |c, n| c.taken = n), WELL)),
            ("a packet each 400 ms, as Opus sends in silence", |ms| (came(ms, |c, n| c.taken = n / 20), WELL)),
            ("silence that was announced", |_| (Facts { paused: true, ..WELL }, WELL)),
            // Its sound came before, or it could not be told from silence.
            ("muted after it spoke", |ms| (came(ms, |c, n| c.taken = n), WELL)),
            ("strangers beside the peer", |ms| {
                let mut facts = came(ms, |c, n| c.taken = n);
                facts.came.strangers = 3 * facts.came.taken;
                (facts, WELL)
            }),
        ];
        for (scene, facts) in table {
            assert_eq!(watch(&mut Watch::new(Side::A), Instant::now(), 0..10_000, facts), [], "{scene}");
        }
    }

    #[test]
    fn what_begins_late_or_stops_is_told_and_taken_back() {
        let start = Instant::now();
        let mut one = Watch::new(Side::A);
        let late = |ms: u64| {
            let facts = came(ms.saturating_sub(4_000), |c, n| c.taken = n);
            (Facts { sounded: ms > 4_000, alive: ms > 4_000, ..facts }, WELL)
        };
        assert_eq!(watch(&mut one, start, 0..8_000, late), [(2_500, Some((Side::A, NoAudio::NoRtp))), (4_250, None)]);
        let stops = |ms: u64| {
            let facts = came(ms.min(9_000) - 4_000, |c, n| c.taken = n);
            (Facts { alive: ms < 15_000, ..facts }, WELL)
        };
        let told = [(11_500, Some((Side::A, NoAudio::Silent))), (15_000, Some((Side::A, NoAudio::NoRtp)))];
        assert_eq!(watch(&mut one, start, 8_000..20_000, stops), told);
        // On hold: the verdict is taken back, and the resumed call has its time again.
        assert_eq!((one.rest(), one.rest()), (true, false));
        assert_eq!(watch(&mut one, start, 20_000..22_500, stops), []);
    }

    #[test]
    fn a_browser_that_gets_on_is_told_so_step_by_step() {
        let steps = |ms: u64| {
            let link = if ms < 3_000 { Link::NoIce } else { Link::NoDtls };
            (Facts { link, ..WELL }, WELL)
        };
        let told = watch(&mut Watch::new(Side::A), Instant::now(), 0..5_000, steps);
        assert_eq!(told, [(2_500, Some((Side::A, NoAudio::NoIce))), (3_000, Some((Side::A, NoAudio::NoDtls)))]);
    }
}
