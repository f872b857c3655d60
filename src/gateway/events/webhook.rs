//! A web hook's own task: it notes events in its spool and sends them, each until it is taken.
//!
//! An event is signed as it is sent: `Ringback-Signature: t=SECONDS,v1=HEX`, the HMAC-SHA256 of `SECONDS.BODY`. A status
//! of 2xx takes it; 400, 410, 413 and 422 refuse it for good, and so does any other status in the end that is given again
//! and again, but for those of a receiver that is out of order or busy; everything else is tried again, later and later.
//! What is refused is set aside, so that the events after it go on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::StatusCode;
use serde::Deserialize;
use sha2::Sha256;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Happened;
use super::spool::{LANES, Room, Spool, lane_of};
use crate::config::Webhook;
use crate::gateway::post::{Post, post, server};
use crate::net::tls::TlsClient;

/// How patient a hook is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How long one attempt may take.
    within: Duration,
    /// The pause after a first failure; each further one is twice as long.
    first: Duration,
    /// The longest pause.
    longest: Duration,
    /// Refusals of one event, beside those for good, after which it is set aside.
    refusals: u32,
    /// An event older than this is not tried any more.
    give_up: Duration,
    /// How long what waits is still sent after the end of the gateway has come.
    last: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            within: Duration::from_secs(10),
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            refusals: 12,
            give_up: Duration::from_secs(3 * 24 * 3600),
            last: Duration::from_secs(2),
        }
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Taken,
    Refused,
    TooOld,
}

/// What others see of a hook.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Events in its spool.
    pub(super) waiting: AtomicUsize,
    /// Events that found no room there.
    pub(super) lost: AtomicU64,
    /// Events that were refused, or grew too old.
    pub(super) given_up: AtomicU64,
}

/// Serves a hook until the end of its queue.
pub(super) async fn serve(
    config: watch::Receiver<Webhook>,
    queue: mpsc::Receiver<Arc<Happened>>,
    root: watch::Receiver<Option<PathBuf>>,
    stop: CancellationToken,
    seen: Arc<Seen>,
) {
    serve_at(config, queue, root, stop, Pace::default(), seen).await;
}

async fn serve_at(
    config: watch::Receiver<Webhook>,
    mut queue: mpsc::Receiver<Arc<Happened>>,
    mut root: watch::Receiver<Option<PathBuf>>,
    stop: CancellationToken,
    pace: Pace,
    seen: Arc<Seen>,
) {
    let url = config.borrow().url.clone();
    let mut spool = opened(&mut root, &url).await;
    // What waits there still moves to the spool of now, event by event between everything else.
    let mut before: Option<Spool> = None;
    let tls: Arc<OnceLock<TlsClient>> = Arc::default();
    let mut under_way: FuturesUnordered<BoxFuture<'static, (usize, Outcome)>> = FuturesUnordered::new();
    let mut busy = [false; LANES];
    let (mut open, mut until) = (true, None);
    loop {
        before = match before.take() {
            Some(mut other) => spool.take_over(&mut other).await.then_some(other),
            None => None,
        };
        let moves = |lane: usize| before.as_ref().is_some_and(|before| before.has(lane));
        for (lane, busy) in busy.iter_mut().enumerate().filter(|(lane, busy)| !**busy && !moves(*lane)) {
            if let Some(json) = spool.first(lane).await {
                *busy = true;
                let (config, tls) = (config.clone(), tls.clone());
                under_way.push(Box::pin(async move { (lane, deliver(&config, &json, &tls, pace).await) }));
            }
        }
        let (waits, lost) = before.as_ref().map_or((0, 0), |before| (before.len(), before.lost));
        seen.waiting.store(spool.len() + waits, Ordering::Relaxed);
        seen.lost.store(spool.lost + lost, Ordering::Relaxed);
        if !open && spool.is_empty() && before.is_none() {
            break;
        }
        tokio::select! {
            event = queue.recv(), if open => match event {
                Some(event) => place(&mut spool, before.as_mut(), &event).await,
                None => open = false,
            },
            () = std::future::ready(()), if before.is_some() => {}
            Some((lane, outcome)) = under_way.next() => {
                match outcome {
                    Outcome::Taken => spool.done(lane).await,
                    Outcome::Refused | Outcome::TooOld => {
                        seen.given_up.fetch_add(1, Ordering::Relaxed);
                        spool.set_aside(lane).await;
                        let events = spool.set_aside;
                        tracing::error!(server = server(&url), ?outcome, events, "an event is not sent: it is set aside");
                    }
                }
                if let Some(busy) = busy.get_mut(lane) {
                    *busy = false;
                }
            }
            Ok(()) = root.changed(), if before.is_none() => {
                let there = root.borrow_and_update().clone();
                if !spool.is_below(there.as_deref(), &url).await {
                    // What is under way is given up, and sent again from the other place: a receiver knows a repetition.
                    under_way.clear();
                    busy = [false; LANES];
                    before = Some(std::mem::replace(&mut spool, opened(&mut root, &url).await));
                }
            }
            () = stop.cancelled(), if until.is_none() => until = Some(Instant::now() + pace.last),
            () = at(until) => break,
        }
    }
    // What comes still is noted for the next start; the driver closes the queue.
    while let Some(event) = queue.recv().await {
        place(&mut spool, before.as_mut(), &event).await;
    }
    report(&spool, &url);
    if let Some(before) = before {
        tracing::error!(
            server = server(&url),
            "the spool has not moved as a whole: the rest waits for a start with the old one"
        );
        report(&before, &url);
    }
}

/// An event waits from now on: behind those of its lane that have not moved yet.
async fn place(spool: &mut Spool, before: Option<&mut Spool>, event: &Happened) {
    match before.filter(|before| before.has(lane_of(&event.subject))) {
        Some(before) => before.put(event).await,
        None => spool.put(event).await,
    }
}

/// What the end of the gateway leaves.
fn report(spool: &Spool, url: &str) {
    let kept = spool.len().saturating_sub(spool.in_memory());
    if kept > 0 {
        tracing::warn!(server = server(url), events = kept, "events wait in the spool for the next start");
    }
    if spool.in_memory() > 0 {
        tracing::error!(server = server(url), events = spool.in_memory(), "events that were not sent are lost");
    }
}

/// The spool below the folder that is told now.
async fn opened(root: &mut watch::Receiver<Option<PathBuf>>, url: &str) -> Spool {
    let root = root.borrow_and_update().clone();
    Spool::open(root.as_deref(), url, Room::default()).await
}

async fn at(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// What of an event its sender needs.
#[derive(Deserialize)]
struct Head {
    id: String,
    event: String,
    at: u64,
}

/// Sends one event until it is taken, refused or too old.
async fn deliver(config: &watch::Receiver<Webhook>, json: &str, tls: &OnceLock<TlsClient>, pace: Pace) -> Outcome {
    let Ok(head) = serde_json::from_str::<Head>(json) else { return Outcome::Refused };
    let (mut pause, mut failures, mut refusals) = (pace.first, 0_u32, 0_u32);
    loop {
        let hook = config.borrow().clone();
        let server = server(&hook.url);
        let why = match timeout(pace.within, attempt(&hook, &head, json, tls)).await {
            Ok(Ok(status)) if status.is_success() => {
                if failures > 0 {
                    tracing::info!(server, failures, "the web hook takes events again");
                }
                return Outcome::Taken;
            }
            Ok(Ok(status)) => {
                refusals += u32::from(!is_out_of_order(status));
                if matches!(status.as_u16(), 400 | 410 | 413 | 422) || refusals >= pace.refusals {
                    tracing::warn!(server, event = head.id, %status, "a web hook refuses an event");
                    return Outcome::Refused;
                }
                format!("it answers with status {status}")
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer in time".to_owned(),
        };
        failures += 1;
        if failures == 1 {
            tracing::warn!(server, why, "a web hook does not take an event: it is tried again");
        } else {
            tracing::debug!(server, why, failures, "a web hook does not take an event");
        }
        if unix_ms().saturating_sub(head.at) > u64::try_from(pace.give_up.as_millis()).unwrap_or(u64::MAX) {
            return Outcome::TooOld;
        }
        sleep(pause).await;
        pause = (pause * 2).min(pace.longest);
    }
}

/// Statuses that say nothing of the event: the receiver, or what stands before it, cannot take any at present.
fn is_out_of_order(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 502 | 503 | 504)
}

async fn attempt(
    hook: &Webhook,
    head: &Head,
    json: &str,
    tls: &OnceLock<TlsClient>,
) -> Result<StatusCode, crate::gateway::post::PostError> {
    let headers = [
        ("ringback-signature", signature(hook.secret.reveal(), unix_ms() / 1000, json)),
        ("ringback-event", head.event.clone()),
        ("ringback-delivery", head.id.clone()),
    ];
    let (status, _) = post(Post { url: &hook.url, body: json.to_owned(), headers: &headers, most: 0 }, tls).await?;
    Ok(status)
}

/// `t=SECONDS,v1=HEX`
fn signature(secret: &[u8], seconds: u64, body: &str) -> String {
    // HMAC takes keys of any length (RFC 2104 section 2).
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(format!("{seconds}.{body}").as_bytes());
    let code: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={code}")
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const PACE: Pace = Pace {
        within: Duration::from_secs(5),
        first: Duration::from_millis(5),
        longest: Duration::from_millis(20),
        refusals: 4,
        give_up: Duration::from_secs(3600),
        last: Duration::from_millis(200),
    };

    fn hook(address: std::net::SocketAddr) -> watch::Sender<Webhook> {
        let secret = crate::config::Secret::of(b"0123456789abcdef0123456789abcdef");
        watch::Sender::new(Webhook { url: format!("http://{address}/hook"), secret, events: Vec::new() })
    }

    fn below(folder: Option<PathBuf>) -> watch::Receiver<Option<PathBuf>> {
        watch::Sender::new(folder).subscribe()
    }

    fn event(number: u64, subject: &str) -> Arc<Happened> {
        let id = format!("b-{number}");
        let json = format!(r#"{{"id":"{id}","event":"call.started","at":{},"call":"{subject}"}}"#, unix_ms());
        Arc::new(Happened { number, id, name: "call.started", subject: subject.to_owned(), json })
    }

    /// Reads one request and answers it; gives head and body.
    async fn answer(listener: &TcpListener, status: &str) -> (String, String) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        loop {
            let mut buffer = [0; 4096];
            let len = stream.read(&mut buffer).await.unwrap();
            assert!(len > 0, "the hook has closed its connection before the end of a request: {text}");
            text += std::str::from_utf8(&buffer[..len]).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            if body.len() >= length.unwrap().parse::<usize>().unwrap() {
                stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
                return (head.to_owned(), body.to_owned());
            }
        }
    }

    /// RFC 4231 test case 2 gives HMAC-SHA256("Jefe", "what do ya want for nothing?"); ours is over "SECONDS.BODY".
    #[test]
    fn the_signature_is_that_of_time_and_body() {
        let ours = signature(b"Jefe", 7, "{}");
        assert_eq!(ours, signature(b"Jefe", 7, "{}"));
        assert!(ours.starts_with("t=7,v1=") && ours.len() == "t=7,v1=".len() + 64);
        for other in [signature(b"Jefe", 8, "{}"), signature(b"Jefe", 7, "{ }"), signature(b"Jeff", 7, "{}")] {
            assert_ne!(ours.split_once(",v1=").unwrap().1, other.split_once(",v1=").unwrap().1);
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(b"Jefe").unwrap();
        mac.update(b"what do ya want for nothing?");
        let known = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>(), known);
    }

    /// The numbers in the guide.
    #[test]
    fn the_guides_signature_is_ours() {
        let guide = include_str!("../../../docs/rest.md");
        let example = guide.split("```signature\n").nth(1).unwrap().split("```").next().unwrap();
        let lines: Vec<&str> = example.lines().collect();
        let (secret, body) = (lines[0].strip_prefix("secret ").unwrap(), lines[1].strip_prefix("body ").unwrap());
        let seconds = lines[2].strip_prefix("t=").unwrap().split(',').next().unwrap().parse().unwrap();
        assert_eq!(signature(secret.as_bytes(), seconds, body), lines[2]);
    }

    #[tokio::test]
    async fn a_failure_is_tried_again_and_the_order_of_a_call_is_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = hook(listener.local_addr().unwrap());
        let (events, queue) = mpsc::channel(16);
        let stop = CancellationToken::new();
        for number in 1..=3 {
            events.send(event(number, "one")).await.unwrap();
        }
        let served = serve_at(config.subscribe(), queue, below(None), stop.clone(), PACE, Arc::default());
        let tested = async {
            let mut taken = Vec::new();
            for status in ["500 No", "429 Later", "204 Good", "200 Good", "503 No", "201 Good"] {
                let (head, body) = answer(&listener, status).await;
                let id = serde_json::from_str::<Head>(&body).unwrap().id;
                assert!(
                    head.contains(&format!("ringback-delivery: {id}")) && head.contains("ringback-event: call.started")
                );
                let said = head.lines().find_map(|line| line.strip_prefix("ringback-signature: ")).unwrap().to_owned();
                let seconds = said.strip_prefix("t=").unwrap().split(',').next().unwrap().parse().unwrap();
                assert_eq!(said, signature(b"0123456789abcdef0123456789abcdef", seconds, &body));
                if status.ends_with("Good") {
                    taken.push(id);
                }
            }
            drop(events);
            taken
        };
        let ((), taken) = tokio::join!(served, tested);
        assert_eq!(taken, ["b-1", "b-2", "b-3"]);
    }

    /// A dead receiver has left much; the reload that moves it does not keep another call's event waiting.
    #[tokio::test]
    async fn a_spool_that_moves_holds_up_no_event_of_another_lane() {
        const MANY: u64 = 200;
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = hook(listener.local_addr().unwrap());
        let mut left = Spool::open(Some(old.path()), &config.borrow().url, Room::default()).await;
        let (slow, quick) = ("one", "other");
        assert_ne!(lane_of(slow), lane_of(quick));
        for number in 0..MANY {
            left.put(&event(number, slow)).await;
        }
        let (root, watched) = watch::channel(Some(old.path().to_owned()));
        let (events, queue) = mpsc::channel(16);
        let (stop, seen) = (CancellationToken::new(), Arc::<Seen>::default());
        let served = serve_at(config.subscribe(), queue, watched, stop.clone(), PACE, seen.clone());
        let tested = async {
            let (mut silent, _) = listener.accept().await.unwrap();
            root.send(Some(new.path().to_owned())).unwrap();
            // The one under way is given up by the move, which has begun then; what comes first is the other's.
            silent.read_to_end(&mut Vec::new()).await.unwrap();
            events.send(event(MANY, quick)).await.unwrap();
            let (_, body) = answer(&listener, "204 Good").await;
            assert_eq!(serde_json::from_str::<Head>(&body).unwrap().id, format!("b-{MANY}"));
            let folder = std::fs::read_dir(old.path()).unwrap().next().unwrap().unwrap().path();
            assert!(std::fs::read_dir(folder).unwrap().count() > 0, "it has waited for the whole of the move");
            // An event behind those that move comes after them.
            events.send(event(MANY + 1, slow)).await.unwrap();
            for number in (0..MANY).chain([MANY + 1]) {
                let (_, body) = answer(&listener, "204 Good").await;
                assert_eq!(serde_json::from_str::<Head>(&body).unwrap().id, format!("b-{number}"));
            }
            drop(events);
        };
        tokio::join!(served, tested);
        assert_eq!((seen.lost.load(Ordering::Relaxed), seen.waiting.load(Ordering::Relaxed)), (0, 0));
    }

    #[tokio::test]
    async fn another_name_of_the_spool_gives_up_nothing_that_is_under_way() {
        let root = tempfile::tempdir().unwrap();
        let (folder, link) = (root.path().join("spool"), root.path().join("link"));
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = hook(listener.local_addr().unwrap());
        let (at, watched) = watch::channel(Some(folder));
        let (events, queue) = mpsc::channel(16);
        let (stop, seen) = (CancellationToken::new(), Arc::<Seen>::default());
        let served = serve_at(config.subscribe(), queue, watched, stop.clone(), PACE, seen.clone());
        let tested = async {
            events.send(event(1, "one")).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            at.send(Some(link)).unwrap();
            // Taken by the task after the other name, and sent at once: it is in another lane.
            events.send(event(2, "other")).await.unwrap();
            let (_, body) = answer(&listener, "204 Good").await;
            assert_eq!(serde_json::from_str::<Head>(&body).unwrap().id, "b-2");
            stream.write_all(b"HTTP/1.1 204 Good\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            drop(events);
        };
        tokio::join!(served, tested);
        assert_eq!(seen.lost.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_refusal_for_good_is_not_tried_again_and_other_calls_do_not_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = hook(listener.local_addr().unwrap());
        let (events, queue) = mpsc::channel(16);
        events.send(event(1, "one")).await.unwrap();
        let served = serve_at(config.subscribe(), queue, below(None), CancellationToken::new(), PACE, Arc::default());
        let tested = async {
            answer(&listener, "422 No").await;
            events.send(event(2, "one")).await.unwrap();
            let (_, body) = answer(&listener, "200 Good").await;
            assert!(body.contains("b-2"));
            drop(events);
        };
        tokio::join!(served, tested);
    }

    /// One event that the receiver cannot digest does not hold up those behind it for days; a receiver that is out of order
    /// gets it whenever it is back.
    #[tokio::test]
    async fn an_event_that_is_refused_again_and_again_is_set_aside() {
        let root = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = hook(listener.local_addr().unwrap());
        let (events, queue) = mpsc::channel(16);
        for number in 1..=2 {
            events.send(event(number, "one")).await.unwrap();
        }
        let spool = Some(root.path().to_owned());
        let served =
            serve_at(config.subscribe(), queue, below(spool.clone()), CancellationToken::new(), PACE, Arc::default());
        let tested = async {
            for status in
                ["503 No", "500 No", "503 No", "504 No", "429 No", "502 No", "500 No", "404 No", "503 No", "500 No"]
            {
                assert!(answer(&listener, status).await.1.contains("b-1"), "{status}");
            }
            assert!(answer(&listener, "200 Good").await.1.contains("b-2"));
            drop(events);
        };
        tokio::join!(served, tested);
        let mut spool = Spool::open(spool.as_deref(), &config.borrow().url, Room::default()).await;
        assert!(spool.is_empty(), "what was set aside is not taken up again by itself");
        assert_eq!(spool.set_aside, 1);
        spool.set_aside(0).await;
    }

    /// The receiver is down when the gateway ends; the next gateway sends what waits.
    #[tokio::test]
    async fn what_was_not_sent_is_sent_after_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let config = hook(address);
        let spool = Some(root.path().to_owned());
        let (events, queue) = mpsc::channel(16);
        for number in 1..=3 {
            events.send(event(number, "one")).await.unwrap();
        }
        let stop = CancellationToken::new();
        stop.cancel();
        drop(events);
        serve_at(config.subscribe(), queue, below(spool.clone()), stop, PACE, Arc::default()).await;

        let listener = TcpListener::bind(address).await.unwrap();
        let (events, queue) = mpsc::channel(16);
        let served = serve_at(config.subscribe(), queue, below(spool), CancellationToken::new(), PACE, Arc::default());
        let tested = async {
            for number in 1..=3 {
                let (_, body) = answer(&listener, "200 Good").await;
                assert!(body.contains(&format!("b-{number}")), "{body}");
            }
            drop(events);
        };
        tokio::join!(served, tested);
    }
}
