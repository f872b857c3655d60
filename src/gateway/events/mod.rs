//! What happens, told to those who watch: a bounded memory of the last events for streams that come back, and web hooks.
//!
//! The driver publishes and never waits. An event's id is `BOOT-NUMBER`: the number counts up, and the boot is another at
//! each start.

mod spool;
mod webhook;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Tasks;
use super::metrics::HookUse;
use super::post::server;
use crate::config::{Webhook, wants};
use crate::switch::Notice;
use webhook::Seen;

/// Events that a stream may come back to.
const REMEMBERED: usize = 4096;
/// Events that a stream may be behind; then it is closed, and comes back.
const BEHIND: usize = 1024;
/// Events that may wait for a web hook's task to note them; past it they are counted as lost.
const HOOK_QUEUE: usize = 4096;

/// One event, ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Happened {
    /// Counts up from 1.
    pub(super) number: u64,
    /// `BOOT-NUMBER`.
    pub(super) id: String,
    /// Such as `call.ended`.
    pub(super) name: &'static str,
    /// The call or the trunk that it is about.
    pub(super) subject: String,
    /// The whole of it, JSON.
    pub(super) json: String,
}

/// An event.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Event")]
pub(super) struct Told {
    /// `BOOT-NUMBER`: for Last-Event-ID, and to see repetitions.
    id: String,
    /// When it happened, Unix milliseconds.
    at: u64,
    /// What.
    #[serde(flatten)]
    what: Notice,
}

/// What streams hold on to.
#[derive(Clone)]
pub(super) struct Stream {
    shared: Arc<Shared>,
}

struct Shared {
    boot: String,
    ring: Mutex<Ring>,
}

struct Ring {
    last: u64,
    events: VecDeque<Arc<Happened>>,
    live: broadcast::Sender<Arc<Happened>>,
}

/// What a stream begins with.
pub(super) struct Subscription {
    /// What it has missed, in order.
    pub(super) missed: VecDeque<Arc<Happened>>,
    /// Whether more than that was missed.
    pub(super) gap: bool,
    /// What comes.
    pub(super) live: broadcast::Receiver<Arc<Happened>>,
}

impl Stream {
    /// From now on, or from after the event of this id.
    pub(super) fn subscribe(&self, after: Option<&str>) -> Subscription {
        let ring = self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let live = ring.live.subscribe();
        let Some(after) = after else { return Subscription { missed: VecDeque::new(), gap: false, live } };
        let number = after.split_once('-').filter(|(boot, _)| *boot == self.shared.boot);
        let number = number.and_then(|(_, number)| number.parse::<u64>().ok()).filter(|number| *number <= ring.last);
        let from = number.unwrap_or(0);
        let missed: VecDeque<_> = ring.events.iter().filter(|event| event.number > from).cloned().collect();
        let first = missed.front().map_or(ring.last + 1, |event| event.number);
        Subscription { missed, gap: number.is_none_or(|number| first > number + 1), live }
    }
}

/// The driver's side.
pub(super) struct Events {
    stream: Stream,
    hooks: HashMap<String, Hook>,
    /// Hooks that are configured no more and may still be sending, by their URL.
    leaving: HashMap<String, CancellationToken>,
    spool: watch::Sender<Option<PathBuf>>,
    tasks: Tasks,
}

/// A web hook's task.
struct Hook {
    events: mpsc::Sender<Arc<Happened>>,
    config: watch::Sender<Webhook>,
    stop: CancellationToken,
    /// Its task has ended.
    ended: CancellationToken,
    /// Events that found the queue full.
    lost: u64,
    seen: Arc<webhook::Seen>,
}

impl Events {
    /// `boot` tells this start from every other.
    pub(super) fn new(boot: u64, webhooks: &[Webhook], spool: Option<PathBuf>, tasks: Tasks) -> Events {
        let ring = Ring { last: 0, events: VecDeque::new(), live: broadcast::Sender::new(BEHIND) };
        let stream = Stream { shared: Arc::new(Shared { boot: format!("{boot:x}"), ring: Mutex::new(ring) }) };
        let spool = watch::Sender::new(spool);
        let mut events = Events { stream, hooks: HashMap::new(), leaving: HashMap::new(), spool, tasks };
        events.reload(webhooks);
        events
    }

    /// For those who want to listen.
    pub(super) fn stream(&self) -> Stream {
        self.stream.clone()
    }

    /// What waits for web hooks waits below this folder from now on, also what waits already; `None`: in memory.
    pub(super) fn set_spool(&self, spool: Option<PathBuf>) {
        self.spool.send_if_modified(|present| std::mem::replace(present, spool.clone()) != spool);
    }

    /// These are the web hooks from now on; one of a known URL keeps what waits for it.
    pub(super) fn reload(&mut self, webhooks: &[Webhook]) {
        self.leaving.retain(|_, ended| !ended.is_cancelled());
        let leaving = self.hooks.extract_if(|url, _| !webhooks.iter().any(|new| new.url == *url));
        for (url, hook) in leaving {
            hook.stop.cancel();
            self.leaving.insert(url, hook.ended);
        }
        for new in webhooks {
            match self.hooks.get(&new.url) {
                Some(hook) => drop(hook.config.send_replace(new.clone())),
                None => {
                    let (events, queue) = mpsc::channel(HOOK_QUEUE);
                    let (config, watched) = watch::channel(new.clone());
                    let stop = self.tasks.stop.child_token();
                    let seen = Arc::new(webhook::Seen::default());
                    let hook = webhook::serve(watched, queue, self.spool.subscribe(), stop.clone(), seen.clone());
                    let (ended, before) = (CancellationToken::new(), self.leaving.remove(&new.url));
                    let guard = ended.clone().drop_guard();
                    self.tasks.tracker.spawn(async move {
                        // One that was taken away a moment ago has the spool still.
                        if let Some(before) = before {
                            before.cancelled().await;
                        }
                        hook.await;
                        drop(guard);
                    });
                    self.hooks.insert(new.url.clone(), Hook { events, config, stop, ended, lost: 0, seen });
                }
            }
        }
    }

    /// Tells everybody.
    pub(super) fn publish(&mut self, unix_ms: u64, notice: Notice) {
        let happened = {
            let mut ring = self.stream.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
            ring.last += 1;
            let happened = Arc::new(happened(&self.stream.shared.boot, ring.last, unix_ms, notice));
            if ring.events.len() >= REMEMBERED {
                ring.events.pop_front();
            }
            ring.events.push_back(happened.clone());
            let _ = ring.live.send(happened.clone()); // nobody listens
            happened
        };
        for hook in self.hooks.values_mut() {
            if wants(&hook.config.borrow().events, happened.name) && hook.events.try_send(happened.clone()).is_err() {
                hook.lost += 1;
                if hook.lost.is_power_of_two() {
                    tracing::error!(lost = hook.lost, "events for a web hook are lost: its disk is too slow");
                }
            }
        }
    }

    /// What waits for the web hooks.
    pub(super) fn hooks(&self) -> Vec<HookUse> {
        let usage = |(url, hook): (&String, &Hook)| {
            let queued = hook.events.max_capacity().saturating_sub(hook.events.capacity());
            let Seen { waiting, lost, given_up } = hook.seen.as_ref();
            HookUse {
                server: server(url),
                waiting: queued.saturating_add(waiting.load(Ordering::Relaxed)),
                lost: hook.lost.saturating_add(lost.load(Ordering::Relaxed)),
                given_up: given_up.load(Ordering::Relaxed),
            }
        };
        self.hooks.iter().map(usage).collect()
    }

    /// No more events: the hooks' tasks note what waits, and end.
    pub(super) fn finish(self) {}
}

fn happened(boot: &str, number: u64, at: u64, what: Notice) -> Happened {
    let (name, subject) = (what.name(), what.subject().to_owned());
    let told = Told { id: format!("{boot}-{number}"), at, what };
    let json = serde_json::to_string(&told).unwrap_or_else(|error| {
        tracing::error!(%error, "an event cannot be written as JSON");
        json!({ "id": told.id, "at": at, "event": name }).to_string()
    });
    Happened { number, id: told.id, name, subject, json }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use serde_json::Value;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    fn trunk(n: u64) -> Notice {
        Notice::TrunkUp { trunk: format!("t{n}") }
    }

    fn numbers(subscription: &Subscription) -> Vec<u64> {
        subscription.missed.iter().map(|event| event.number).collect()
    }

    /// Reads a request; its connection, which waits for an answer, and the id of its event.
    async fn delivery(listener: &TcpListener) -> (TcpStream, String) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        while !text.contains("\"trunk\"") {
            let len = stream.read(&mut buffer).await.unwrap();
            text += std::str::from_utf8(&buffer[..len]).unwrap();
        }
        let id = text.lines().find_map(|line| line.strip_prefix("ringback-delivery: ")).unwrap().to_owned();
        (stream, id)
    }

    /// A web hook that is taken away and put back at once has one sender at a time, and its spool one owner.
    #[tokio::test]
    async fn a_hook_that_is_restored_at_once_waits_for_its_former_self() {
        let (root, (tasks, _queues)) = (tempfile::tempdir().unwrap(), Tasks::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let secret = crate::config::Secret::of(b"0123456789abcdef0123456789abcdef");
        let hook = [Webhook { url, secret, events: Vec::new() }];
        let mut events = Events::new(0xabc, &hook, Some(root.path().to_owned()), tasks.clone());
        events.publish(1, trunk(1));
        let (mut first, id) = delivery(&listener).await;
        assert_eq!(id, "abc-1");
        events.reload(&[]);
        events.reload(&hook);
        events.publish(2, trunk(1));
        let gone = async {
            assert_eq!(first.read(&mut [0; 10]).await.unwrap_or(0), 0, "it ends without an answer");
            Instant::now()
        };
        let again = async {
            let mut ids = Vec::new();
            let mut began = None;
            for _ in 0..2 {
                let (mut stream, id) = delivery(&listener).await;
                began.get_or_insert_with(Instant::now);
                stream.write_all(b"HTTP/1.1 200 Good\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                ids.push(id);
            }
            (ids, began.unwrap())
        };
        let (gone, (ids, began)) = tokio::join!(gone, again);
        assert_eq!(ids, ["abc-1", "abc-2"]);
        assert!(gone <= began, "two at once");
        events.finish();
        tasks.tracker.close();
        tasks.tracker.wait().await;
    }

    #[tokio::test]
    async fn a_stream_that_comes_back_gets_what_it_missed_and_is_told_of_a_gap() {
        let (tasks, _queues) = Tasks::new();
        let mut events = Events::new(0xabc, &[], None, tasks);
        let stream = events.stream();
        for n in 1..=5 {
            events.publish(n, trunk(n));
        }
        let back = stream.subscribe(Some("abc-3"));
        assert_eq!((numbers(&back), back.gap), (vec![4, 5], false));
        let none = stream.subscribe(Some("abc-5"));
        assert_eq!((numbers(&none), none.gap), (vec![], false));
        for foreign in ["abd-3", "abc-99", "x", "abc-x"] {
            let back = stream.subscribe(Some(foreign));
            assert_eq!((numbers(&back), back.gap), (vec![1, 2, 3, 4, 5], true), "{foreign}");
        }
        for n in 6..=(REMEMBERED as u64 + 6) {
            events.publish(n, trunk(n));
        }
        let late = stream.subscribe(Some("abc-5"));
        assert_eq!((numbers(&late).first(), late.gap), (Some(&7), true));
        let mut fresh = stream.subscribe(None);
        assert!(fresh.missed.is_empty() && !fresh.gap);
        events.publish(9, trunk(9));
        let event = fresh.live.recv().await.unwrap();
        let json: Value = serde_json::from_str(&event.json).unwrap();
        assert_eq!((&json["event"], &json["trunk"], &json["at"]), (&"trunk.up".into(), &"t9".into(), &9.into()));
        assert_eq!(json["id"], event.id);
    }
}
