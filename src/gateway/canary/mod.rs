//! `ringback trunk test`: the gateway calls a number by a trunk and measures what it hears and what comes back.
//!
//! The caller is a phone of the gateway's own (see [`crate::testphone`]) on an address of this machine, for this call alone:
//! what is measured has gone the way of any call, media threads and jitter buffers among it. One test at a time.

mod report;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::events::{Happened, Stream, Subscription};
use super::{Tasks, api};
use crate::switch::{Canary as Wish, Cdr, Command, Digits, End, Reply, Why};
use crate::testphone::{Canary, Config, Stage, TestPhone};
use report::Seen;

/// What is pressed, in this order: the last one ends the call at some echo services.
const DIGITS: &str = "0123456789*#";
/// How long each digit lasts, and with its pause, milliseconds.
const DIGIT_MS: u16 = 100;
const DIGIT_AND_PAUSE: Duration = Duration::from_millis(200);
/// From the wish to the answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(35);
/// The measurement of the sound.
const SOUNDED_WITHIN: Duration = Duration::from_secs(25);
/// That of digits.
const DIGITS_WITHIN: Duration = Duration::from_secs(15);
/// From our hanging up to the call's record.
const ENDED_WITHIN: Duration = Duration::from_secs(8);

/// What the tests need.
#[derive(Clone)]
pub(super) struct Canaries {
    tasks: Tasks,
    events: Stream,
    udp: Vec<SocketAddr>,
    media: IpAddr,
    place: Arc<Semaphore>,
}

impl Canaries {
    /// `udp`: our SIP listeners; `media`: the address of our RTP, which may be unspecified.
    pub(super) fn new(tasks: Tasks, events: Stream, udp: Vec<SocketAddr>, media: IpAddr) -> Canaries {
        Canaries { tasks, events, udp, media, place: Arc::new(Semaphore::new(1)) }
    }

    /// Tests a trunk; `None`: the gateway ends. The test goes on to its end, whether anybody waits for it or not.
    pub(super) async fn test(&self, trunk: &str, to: &str, from: Option<&str>) -> Option<Value> {
        let Ok(place) = self.place.clone().try_acquire_owned() else {
            return Some(json!({"error": "another trunk is being tested"}));
        };
        let Some(seat) = self.seat() else {
            return Some(json!({"error": "there is no SIP listener over UDP that our own phone could be called from"}));
        };
        let (tell, told) = oneshot::channel();
        let test = Test {
            canaries: self.clone(),
            seat,
            trunk: trunk.to_owned(),
            to: to.to_owned(),
            from: from.map(str::to_owned),
        };
        self.tasks.tracker.spawn(async move {
            let found = test.run().await;
            drop(place);
            let _ = tell.send(found); // nobody may wait for it any more
        });
        told.await.ok()?
    }

    /// Where our own phone is to be, and what of ours it is called from.
    fn seat(&self) -> Option<Seat> {
        let both = self.media.is_unspecified() && self.media.is_ipv6();
        let local = *self.udp.iter().find(|local| both || local.is_ipv4() == self.media.is_ipv4())?;
        let loopback: IpAddr = if local.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let media = Some(self.media).filter(|media| !media.is_unspecified());
        let phone = match local.ip() {
            ip if ip.is_unspecified() => media.unwrap_or(loopback),
            ip => ip,
        };
        Some(Seat { local, phone, media: media.unwrap_or(phone) })
    }
}

/// Addresses of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seat {
    /// Our SIP listener.
    local: SocketAddr,
    /// Our own phone's.
    phone: IpAddr,
    /// Our media's, whatever the phone is told: it may be told an address that only the outside can reach.
    media: IpAddr,
}

/// One test.
struct Test {
    canaries: Canaries,
    seat: Seat,
    trunk: String,
    to: String,
    from: Option<String>,
}

impl Test {
    async fn run(self) -> Option<Value> {
        let Seat { local, phone, media } = self.seat;
        let canary = Canary::new(media);
        let gateway = SocketAddr::new(if local.ip().is_unspecified() { phone } else { local.ip() }, local.port());
        let config = Config { sip_bind: SocketAddr::new(phone, 0), gateway, canary: Some(canary.clone()) };
        let phone = match TestPhone::start(config).await {
            Ok(phone) => phone,
            Err(error) => return Some(json!({"error": format!("our own phone cannot be started: {error}")})),
        };
        let seen = tokio::select! {
            () = self.canaries.tasks.stop.cancelled() => None,
            seen = self.call(&canary, phone.sip_address()) => seen,
        };
        phone.stop().await;
        let found = seen?;
        Some(found.map_or_else(|error| json!({"error": error}), |seen| report::write(&self.trunk, &self.to, &seen)))
    }

    /// The call and its measurement; `None`: the gateway ends; `Err`: it was no question.
    async fn call(&self, canary: &Canary, phone: SocketAddr) -> Option<Result<Seen, String>> {
        let tasks = &self.canaries.tasks;
        let subscription = self.canaries.events.subscribe(None);
        let (trunk, to, from) = (self.trunk.clone(), self.to.clone(), self.from.clone());
        let wish = Wish { trunk, to, from, local: self.seat.local, phone };
        let view = match api::ask(tasks, Command::Canary(wish)).await? {
            Reply::Call(view) => view,
            Reply::Refused(denial) if denial.why == Why::BadRequest => return Some(Err(denial.text)),
            Reply::Refused(denial) => return Some(Ok(Seen { refused: Some(denial.text), ..Seen::default() })),
            _ => return Some(Err("the gateway has not understood".to_owned())),
        };
        let id = view.call.parse().ok()?;
        let mut watch = Watch { subscription, call: view.call, answered: false, record: None };
        let mut seen = Seen::default();
        let _ = timeout(ANSWERED_WITHIN, watch.answered()).await;
        if watch.is_up() {
            canary.answered(now());
            let _ = timeout(SOUNDED_WITHIN, watch.unless_ended(canary.until(Stage::Sounded))).await;
            seen.hung_up_early = watch.record.is_some();
        }
        if watch.is_up() && canary.measured().is_heard() {
            let digits = Digits { digits: DIGITS.to_owned(), ms: Some(DIGIT_MS), to: Some(End::B) };
            if let Reply::Call(_) = api::ask(tasks, Command::Digits(id, digits)).await? {
                seen.pressed = DIGITS;
                canary.digits_until(now() + DIGIT_AND_PAUSE * DIGITS.len() as u32);
                let _ = timeout(DIGITS_WITHIN, watch.unless_ended(canary.until(Stage::Done))).await;
            }
        }
        if watch.record.is_none() {
            api::ask(tasks, Command::Hangup(id)).await?;
            let _ = timeout(ENDED_WITHIN, watch.ended()).await;
        }
        Some(Ok(Seen { measured: canary.measured(), record: watch.record, ..seen }))
    }
}

/// What becomes of the call, by its events.
struct Watch {
    subscription: Subscription,
    call: String,
    answered: bool,
    record: Option<Box<Cdr>>,
}

impl Watch {
    fn is_up(&self) -> bool {
        self.answered && self.record.is_none()
    }

    async fn answered(&mut self) {
        while !self.answered && self.record.is_none() {
            self.next().await;
        }
    }

    async fn ended(&mut self) {
        while self.record.is_none() {
            self.next().await;
        }
    }

    /// Waits for something, or the end of the call.
    async fn unless_ended(&mut self, something: impl Future<Output = ()>) {
        tokio::select! {
            () = self.ended() => {}
            () = something => {}
        }
    }

    async fn next(&mut self) {
        let happened = match self.subscription.missed.pop_front() {
            Some(happened) => happened,
            None => match self.subscription.live.recv().await {
                Ok(happened) => happened,
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => return std::future::pending().await, // the gateway ends, and the test with it
            },
        };
        self.take(&happened);
    }

    fn take(&mut self, happened: &Happened) {
        match happened.name {
            _ if happened.subject != self.call => {}
            "call.answered" => self.answered = true,
            "call.ended" => {
                let mut told: Value = serde_json::from_str(&happened.json).unwrap_or_default();
                self.record = serde_json::from_value(told["cdr"].take()).ok();
            }
            _ => {}
        }
    }
}

fn now() -> Instant {
    super::driver::now().instant
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn seat(udp: &[&str], media: &str) -> Option<(String, String, String)> {
        let (tasks, _queues) = Tasks::new();
        let events = super::super::events::Events::new(0, &[], None, tasks.clone());
        let udp = udp.iter().map(|address| address.parse().unwrap()).collect();
        let seat = Canaries::new(tasks, events.stream(), udp, media.parse().unwrap()).seat()?;
        Some((seat.local.to_string(), seat.phone.to_string(), seat.media.to_string()))
    }

    #[tokio::test]
    async fn our_own_phone_is_where_signalling_and_media_of_ours_reach_it_on_this_machine() {
        let found = |local: &str, phone: &str, media: &str| Some((local.into(), phone.into(), media.into()));
        assert_eq!(seat(&["0.0.0.0:5060"], "0.0.0.0"), found("0.0.0.0:5060", "127.0.0.1", "127.0.0.1"));
        assert_eq!(seat(&["192.0.2.5:5060"], "0.0.0.0"), found("192.0.2.5:5060", "192.0.2.5", "192.0.2.5"));
        assert_eq!(seat(&["0.0.0.0:5060"], "192.0.2.6"), found("0.0.0.0:5060", "192.0.2.6", "192.0.2.6"));
        assert_eq!(seat(&["192.0.2.5:5060"], "192.0.2.6"), found("192.0.2.5:5060", "192.0.2.5", "192.0.2.6"));
        assert_eq!(
            seat(&["[::1]:5060", "127.0.0.1:5060"], "0.0.0.0"),
            found("127.0.0.1:5060", "127.0.0.1", "127.0.0.1")
        );
        assert_eq!(seat(&["[::]:5060"], "::"), found("[::]:5060", "::1", "::1"));
        assert_eq!((seat(&[], "0.0.0.0"), seat(&["[::1]:5060"], "127.0.0.1")), (None, None));
    }
}
