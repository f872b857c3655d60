//! What a session remembers for the time after its socket: what takes it up again, and what its browser has missed.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use rand::Rng;

use crate::call::CallId;
use crate::signal::ServerMessage;

/// Ends of calls that are told again to a session that is taken up: those before a socket is known to be dead went nowhere.
const MOST_ENDED: usize = 16;
/// How long ago they may have been: longer than it takes to notice that a socket is dead.
const ENDED_WITHIN: Duration = Duration::from_secs(90);
/// Other messages about its calls that a session without a socket keeps; the oldest gives way.
const MOST_MISSED: usize = 64;
/// What a user may say of one call: once while it stands and once after it.
const MOST_FEEDBACK: usize = 2;
/// Of how many words about calls is remembered whose they were.
const MOST_SAID: usize = 64;
/// Questions and feedback at once, and their rate.
const BURST: f64 = 20.0;
const A_SECOND: f64 = 10.0;

/// A secret of 128 random bits that takes a session up again.
#[derive(Clone, Copy)]
struct Secret([u8; 16]);

impl fmt::Debug for Secret {
    /// It never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    fn text(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Compares in a time that says nothing of where the two differ.
    fn is(&self, text: &str) -> bool {
        let own = self.text();
        let differ = own.bytes().zip(text.bytes()).fold(0, |differ, (one, other)| differ | (one ^ other));
        own.len() == text.len() && std::hint::black_box(differ) == 0
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The secret of the last `welcome`.
    given: Option<Secret>,
    /// The one that took the session up last: it holds until the next does, since that `welcome` may not have arrived.
    used: Option<Secret>,
    /// Calls that ended, and what their ends were called.
    ended: VecDeque<(Instant, CallId, ServerMessage)>,
    missed: VecDeque<ServerMessage>,
    /// The calls that its user said something of lately, once for each time.
    feedback: VecDeque<CallId>,
}

impl Memory {
    /// Makes a new secret, for the next `welcome`.
    pub fn secret(&mut self, rng: &mut impl Rng) -> String {
        let mut secret = [0; 16];
        rng.fill_bytes(&mut secret);
        self.given.insert(Secret(secret)).text()
    }

    /// Uses a secret: whether it is this session's.
    pub fn take(&mut self, text: &str) -> bool {
        if self.given.is_some_and(|given| given.is(text)) {
            self.used = self.given.take();
            return true;
        }
        self.used.is_some_and(|used| used.is(text))
    }

    /// A call has ended.
    pub fn ended(&mut self, now: Instant, call: CallId, message: ServerMessage) {
        if self.ended.len() >= MOST_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((now, call, message));
    }

    /// Whether a call was this session's until a moment ago.
    pub fn knows(&self, call: CallId) -> bool {
        self.ended.iter().any(|(_, ended, _)| *ended == call)
    }

    /// Takes note of what its user says of a call; `false`: he has said as much as he may.
    pub fn takes_feedback(&mut self, call: CallId) -> bool {
        if self.feedback.iter().filter(|said| **said == call).count() >= MOST_FEEDBACK {
            return false;
        }
        if self.feedback.len() >= MOST_SAID {
            self.feedback.pop_front();
        }
        self.feedback.push_back(call);
        true
    }

    /// Whether there is an end of a call that its browser may not know of.
    pub fn is_of_use(&self, now: Instant) -> bool {
        self.ended.back().is_some_and(|(at, ..)| now.saturating_duration_since(*at) < ENDED_WITHIN)
    }

    /// There is no socket to tell this: what a later look at the calls does not show is kept.
    pub fn miss(&mut self, message: &ServerMessage) {
        let lasting = matches!(
            message,
            ServerMessage::Digit { .. } | ServerMessage::Transfer { .. } | ServerMessage::Transferred { .. }
        );
        if lasting {
            if self.missed.len() >= MOST_MISSED {
                self.missed.pop_front();
            }
            self.missed.push_back(message.clone());
        }
    }

    /// What the browser is told once it is back, in order. The end of a call whose name another call has now would be taken
    /// for that one's: it is not told again.
    pub fn recall(&mut self, now: Instant, is_present: impl Fn(&str) -> bool) -> Vec<ServerMessage> {
        let recent = self.ended.iter().filter(|(at, _, message)| {
            now.saturating_duration_since(*at) < ENDED_WITHIN && !message.call().is_some_and(&is_present)
        });
        let ended: Vec<ServerMessage> = recent.map(|(.., message)| message.clone()).collect();
        self.missed.drain(..).chain(ended).collect()
    }
}

/// How often something may be asked: a burst, and so many a second after it.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    spent: f64,
    since: Option<Instant>,
}

impl Allowance {
    /// Takes one; `false`: too many.
    pub fn take(&mut self, now: Instant) -> bool {
        let elapsed = self.since.map(|since| now.saturating_duration_since(since)).unwrap_or_default();
        self.since = Some(now);
        self.spent = (self.spent - elapsed.as_secs_f64() * A_SECOND).max(0.0);
        let granted = self.spent + 1.0 <= BURST;
        if granted {
            self.spent += 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn a_secret_holds_until_a_later_one_is_used() {
        let (mut rng, mut memory) = (StdRng::from_seed([7; 32]), Memory::default());
        let first = memory.secret(&mut rng);
        assert_eq!(first.len(), 32);
        assert!(!memory.take("") && !memory.take(&first[1..]) && !memory.take(&format!("{first}0")));
        assert!(!memory.take(&first.replace(|c: char| c.is_ascii_digit(), "f")));
        assert!(memory.take(&first));
        let second = memory.secret(&mut rng);
        assert!(first != second && memory.take(&first), "the welcome with the second one may be lost");
        let third = memory.secret(&mut rng);
        assert!(memory.take(&third) && !memory.take(&first) && !memory.take(&second));
        assert!(!format!("{memory:?}").contains(&third[..8]));
    }

    #[test]
    fn what_is_kept_is_bounded_and_told_in_order() {
        let (now, mut memory) = (Instant::now(), Memory::default());
        let digit = |digit| ServerMessage::Digit { call: "c".into(), digit };
        for n in 0..200 {
            memory.miss(&digit(char::from(b'0' + n % 10)));
            memory.miss(&ServerMessage::Ringing { call: "c".into() });
            memory.ended(now, CallId(n.into()), ServerMessage::Ringing { call: n.to_string() });
        }
        assert!(memory.knows(CallId(199)) && !memory.knows(CallId(0)));
        let told = memory.recall(now, |_| false);
        assert_eq!(told.len(), MOST_MISSED + MOST_ENDED);
        assert_eq!(told[0], digit('6'));
        assert_eq!(told.last().unwrap().call(), Some("199"));
        assert!(memory.recall(now, |name| name == "199").iter().all(|message| message.call() != Some("199")));
        assert!(memory.recall(now + ENDED_WITHIN, |_| false).is_empty() && !memory.is_of_use(now + ENDED_WITHIN));
    }

    #[test]
    fn a_call_takes_feedback_twice_and_what_is_remembered_of_it_is_bounded() {
        let mut memory = Memory::default();
        assert_eq!([(); 4].map(|()| memory.takes_feedback(CallId(7))), [true, true, false, false]);
        assert!((100..300).all(|call| memory.takes_feedback(CallId(call))));
        assert_eq!(memory.feedback.len(), MOST_SAID);
    }

    #[test]
    fn questions_have_a_burst_and_a_rate() {
        let (now, mut allowance) = (Instant::now(), Allowance::default());
        assert_eq!((0..100).filter(|_| allowance.take(now)).count(), 20);
        assert_eq!((0..100).filter(|_| allowance.take(now + Duration::from_secs(1))).count(), 10);
    }
}
