//! The messages of the calls that were last: bounded in calls, messages a call, and bytes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::config;
use crate::switch::{CallId, SocketId};

/// The most bytes of one message that are kept.
pub(super) const LONGEST: usize = 16 * 1024;
/// What a message costs beside its text, about.
const OVERHEAD: usize = 160;

/// One message that was sent or came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "TraceMessage")]
pub(in crate::gateway) struct Message {
    /// Its number: later ones have higher ones.
    pub n: u64,
    /// When, Unix microseconds.
    pub at: u64,
    /// Whether the gateway sent it.
    pub sent: bool,
    /// How it went: `browser` for the browser protocol; of SIP `udp`, `tcp`, `tls`, `ws`, `wss`.
    pub by: &'static str,
    /// Our address, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub local: Option<SocketAddr>,
    /// The other's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub remote: Option<SocketAddr>,
    /// The message, without its secrets.
    pub text: String,
    /// How many bytes of it are not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants it so
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Message {
    /// Cuts off what is too long.
    pub fn shorten(&mut self) {
        let longest = self.text.len().min(LONGEST);
        let end = (0..=longest).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0);
        self.cut = self.text.len() - end;
        self.text.truncate(end);
    }

    fn cost(&self) -> usize {
        self.text.len() + OVERHEAD
    }
}

/// What a message is found to be of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A SIP dialog's Call-ID.
    Dialog(String),
    /// A browser's name for a call, on its socket.
    Name(SocketId, String),
}

impl Key {
    fn cost(&self) -> usize {
        let (Key::Dialog(text) | Key::Name(_, text)) = self;
        2 * text.len() + OVERHEAD
    }
}

/// One call's, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) struct Told {
    pub call: CallId,
    pub over: bool,
    /// Messages between the first and the last ones that are not kept.
    pub left_out: u64,
    /// The number of the first one after those.
    pub left_out_before: Option<u64>,
    pub messages: Vec<Arc<Message>>,
}

/// One call in a list, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::gateway) struct Entry {
    pub call: String,
    /// When its first message was, Unix microseconds.
    pub begun: u64,
    pub over: bool,
    pub messages: u64,
}

#[derive(Debug)]
struct Kept {
    /// Its place among all, by age.
    age: u64,
    over: bool,
    /// The first messages, which stay.
    head: Vec<Arc<Message>>,
    /// The last ones.
    tail: VecDeque<Arc<Message>>,
    left_out: u64,
    keys: Vec<Key>,
    bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Book {
    limits: config::Trace,
    calls: HashMap<CallId, Kept>,
    /// By age: those that are over go first.
    open: BTreeMap<u64, CallId>,
    over: BTreeMap<u64, CallId>,
    keys: HashMap<Key, CallId>,
    bytes: usize,
    ages: u64,
}

impl Book {
    pub fn new(limits: config::Trace) -> Book {
        let (open, over) = (BTreeMap::new(), BTreeMap::new());
        Book { limits, calls: HashMap::new(), open, over, keys: HashMap::new(), bytes: 0, ages: 0 }
    }

    /// Whether anything is kept at all.
    pub fn is_on(&self) -> bool {
        self.limits.calls > 0
    }

    /// Other limits from now on.
    pub fn set_limits(&mut self, limits: config::Trace) {
        self.limits = limits;
        self.shrink();
    }

    /// The call that a key stands for.
    pub fn find(&self, key: &Key) -> Option<CallId> {
        self.keys.get(key).copied()
    }

    /// What has this key is of that call from now on.
    pub fn learn(&mut self, key: Key, call: CallId) {
        if self.keys.get(&key) == Some(&call) || !self.is_on() {
            return;
        }
        let cost = key.cost();
        let kept = self.of(call);
        if !kept.keys.contains(&key) {
            kept.keys.push(key.clone());
            kept.bytes += cost;
            self.bytes += cost;
        }
        self.keys.insert(key, call);
        self.shrink();
    }

    /// Writes a message down.
    pub fn write(&mut self, call: CallId, message: Message) {
        if !self.is_on() {
            return;
        }
        let half = self.limits.messages / 2;
        let rest = self.limits.messages - half;
        let added = message.cost();
        let kept = self.of(call);
        if kept.head.len() < half {
            kept.head.push(Arc::new(message));
        } else {
            kept.tail.push_back(Arc::new(message));
        }
        let mut freed = 0;
        while kept.tail.len() > rest {
            freed += kept.tail.pop_front().map_or(0, |gone| gone.cost());
            kept.left_out += 1;
        }
        kept.bytes = kept.bytes + added - freed;
        self.bytes = self.bytes + added - freed;
        self.shrink();
    }

    /// A call is over: it is among the first to be forgotten.
    pub fn over(&mut self, call: CallId) {
        if let Some(kept) = self.calls.get_mut(&call) {
            kept.over = true;
            self.open.remove(&kept.age);
            self.over.insert(kept.age, call);
        }
    }

    /// The messages of a call from number `since` on.
    pub fn tell(&self, call: CallId, since: u64) -> Option<Told> {
        let kept = self.calls.get(&call)?;
        let messages = kept.head.iter().chain(&kept.tail).filter(|message| message.n >= since).cloned().collect();
        let left_out_before = kept.tail.front().filter(|_| kept.left_out > 0).map(|first| first.n);
        Some(Told { call, over: kept.over, left_out: kept.left_out, left_out_before, messages })
    }

    /// All calls, the oldest first.
    pub fn list(&self) -> Vec<Entry> {
        let mut all: Vec<(&CallId, &Kept)> = self.calls.iter().collect();
        all.sort_by_key(|(_, kept)| kept.age);
        let entry = |(call, kept): (&CallId, &Kept)| Entry {
            call: call.to_string(),
            begun: kept.head.first().map_or(0, |first| first.at),
            over: kept.over,
            messages: (kept.head.len() + kept.tail.len()) as u64 + kept.left_out,
        };
        all.into_iter().map(entry).collect()
    }

    fn of(&mut self, call: CallId) -> &mut Kept {
        self.calls.entry(call).or_insert_with(|| {
            self.ages += 1;
            self.open.insert(self.ages, call);
            let (head, tail) = (Vec::new(), VecDeque::new());
            Kept { age: self.ages, over: false, head, tail, left_out: 0, keys: Vec::new(), bytes: 0 }
        })
    }

    fn shrink(&mut self) {
        while self.calls.len() > self.limits.calls || self.bytes > self.limits.bytes {
            let Some((_, call)) = self.over.pop_first().or_else(|| self.open.pop_first()) else { return };
            let Some(kept) = self.calls.remove(&call) else { continue };
            self.bytes -= kept.bytes;
            for key in kept.keys {
                // Another call may have it by now.
                if self.keys.get(&key) == Some(&call) {
                    self.keys.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn message(n: u64, length: usize) -> Message {
        let text = "x".repeat(length);
        Message { n, at: n, sent: false, by: "udp", local: None, remote: None, text, cut: 0 }
    }

    fn numbers(book: &Book, call: u64) -> Vec<u64> {
        book.tell(CallId(call), 0).map(|told| told.messages.iter().map(|it| it.n).collect()).unwrap_or_default()
    }

    #[test]
    fn of_a_long_call_its_beginning_and_its_end_stay() {
        let mut book = Book::new(config::Trace { calls: 2, messages: 4, bytes: 1 << 20 });
        for n in 0..10 {
            book.write(CallId(1), message(n, 10));
        }
        assert_eq!(numbers(&book, 1), [0, 1, 8, 9]);
        assert_eq!(book.tell(CallId(1), 9).unwrap().messages.len(), 1);
        let told = book.tell(CallId(1), 0).unwrap();
        assert_eq!((told.left_out, told.left_out_before), (6, Some(8)));
        assert_eq!(book.list()[0].messages, 10);
        assert_eq!(book.bytes, 4 * (10 + OVERHEAD));
    }

    #[test]
    fn the_calls_that_are_over_are_forgotten_first_and_their_keys_with_them() {
        let mut book = Book::new(config::Trace { calls: 2, messages: 10, bytes: 1 << 20 });
        for call in [1, 2] {
            book.write(CallId(call), message(call, 10));
            book.learn(Key::Dialog(format!("dialog {call}")), CallId(call));
        }
        book.over(CallId(2));
        book.write(CallId(3), message(3, 10));
        assert_eq!((numbers(&book, 1).len(), numbers(&book, 2).len(), numbers(&book, 3).len()), (1, 0, 1));
        assert_eq!(book.find(&Key::Dialog("dialog 2".into())), None);
        assert_eq!(book.find(&Key::Dialog("dialog 1".into())), Some(CallId(1)));
        book.write(CallId(4), message(4, 10));
        assert!(numbers(&book, 1).is_empty(), "the oldest, where none is over");
    }

    #[test]
    fn bytes_have_a_bound_and_are_counted_right_to_the_end() {
        let limits = config::Trace { calls: 1000, messages: 50, bytes: 100_000 };
        let mut book = Book::new(limits);
        for n in 0..5_000u64 {
            let call = CallId(n % 37);
            book.write(call, message(n, (n as usize * 7919) % 3_000));
            book.learn(Key::Name(SocketId(n), n.to_string()), call);
            book.learn(Key::Dialog((n % 5).to_string()), call);
            if n % 11 == 0 {
                book.over(call);
            }
            assert!(book.bytes <= limits.bytes);
            assert_eq!(book.bytes, book.calls.values().map(|kept| kept.bytes).sum::<usize>());
        }
        assert_eq!(book.calls.len(), book.open.len() + book.over.len());
        book.set_limits(config::Trace { calls: 0, ..limits });
        assert!(book.calls.is_empty() && book.keys.is_empty() && book.bytes == 0);
        book.write(CallId(1), message(1, 1));
        book.learn(Key::Dialog("x".into()), CallId(1));
        assert!(book.calls.is_empty() && book.keys.is_empty(), "it is off");
    }

    #[test]
    fn a_dialog_that_changes_calls_is_of_the_new_one() {
        let mut book = Book::new(config::Trace::default());
        let key = Key::Dialog("x".into());
        book.learn(key.clone(), CallId(1));
        book.learn(key.clone(), CallId(2));
        book.set_limits(config::Trace { calls: 1, ..config::Trace::default() });
        assert_eq!(book.find(&key), Some(CallId(2)), "what the first call forgets is not its own any more");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let mut long = message(1, LONGEST - 1);
        long.text.push_str("\u{e9}\u{e9}");
        long.shorten();
        assert_eq!((long.text.len(), long.cut), (LONGEST - 1, 4));
    }
}
