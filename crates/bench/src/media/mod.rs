//! The media of all ends: one thread with a poll loop, so that its own part in what is measured stays small.

mod leg;
mod page;
mod phone;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use mio::{Events, Interest, Poll, Token, Waker};
use tokio::sync::{mpsc, oneshot};

pub use leg::{Mouth, Window};
pub use page::{Offering, Page};
pub use phone::{Phone, PhoneSockets};

use crate::heard::Heard;
use leg::Leg;

const WAKER: Token = Token(0);
/// Orders, and things that happened, that may wait.
const WAITING: usize = 4_096;

/// What happened at an end of the call of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// The browser's ICE and DTLS are done.
    Connected(usize, Instant),
    /// The browser heard something for the first time.
    FirstSound(usize, Instant),
    /// The browser's transport failed: what it is worth is nothing.
    Failed(usize),
}

/// What both ends of a call have heard.
#[derive(Debug)]
pub struct Both {
    /// The call's number.
    pub call: usize,
    /// What the browser heard.
    pub page: Heard,
    /// What the phone heard.
    pub phone: Heard,
}

/// Which calls are meant: one, or all.
type Which = Option<usize>;

enum Order {
    Add(Box<Leg>),
    Listen(Which, Window),
    Tell(Which, oneshot::Sender<Vec<Both>>),
    Remove(usize),
    Stop,
}

/// The running thread.
#[derive(Debug)]
pub struct Media {
    orders: SyncSender<Order>,
    waker: Arc<Waker>,
    thread: JoinHandle<()>,
    /// What happens at the ends.
    pub happened: mpsc::Receiver<Happened>,
}

impl Media {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn start() -> anyhow::Result<Media> {
        let poll = Poll::new().context("a poll")?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).context("a waker")?);
        let (orders, inbox) = sync_channel(WAITING);
        let (tell, happened) = mpsc::channel(WAITING);
        let running = Running { poll, inbox, tell, legs: Vec::new(), due: BinaryHeap::new() };
        let thread = std::thread::Builder::new().name("media".into()).spawn(move || running.run())?;
        Ok(Media { orders, waker, thread, happened })
    }

    fn order(&self, order: Order) -> anyhow::Result<()> {
        self.orders.try_send(order).map_err(|_| anyhow!("the driver's media thread takes no orders"))?;
        Ok(self.waker.wake()?)
    }

    /// Gives it a browser, which connects and speaks.
    ///
    /// # Errors
    /// When the thread has ended or is far behind; so with all orders.
    pub fn add_page(&self, page: Page) -> anyhow::Result<()> {
        self.order(Order::Add(Box::new(Leg::Page(page))))
    }

    /// Gives it a phone, which speaks.
    ///
    /// # Errors
    /// See [`add_page`](Self::add_page).
    pub fn add_phone(&self, phone: Phone) -> anyhow::Result<()> {
        self.order(Order::Add(Box::new(Leg::Phone(phone))))
    }

    /// Has the ends of one call, or of all, keep what they hear in a window; what they kept before is forgotten.
    ///
    /// # Errors
    /// See [`add_page`](Self::add_page).
    pub fn listen(&self, which: Option<usize>, window: Window) -> anyhow::Result<()> {
        self.order(Order::Listen(which, window))
    }

    /// Ends both ends of a call.
    ///
    /// # Errors
    /// See [`add_page`](Self::add_page).
    pub fn remove(&self, call: usize) -> anyhow::Result<()> {
        self.order(Order::Remove(call))
    }

    /// What the ends of one call have heard, or those of all, in the order of their numbers.
    ///
    /// # Errors
    /// See [`add_page`](Self::add_page).
    pub async fn heard(&self, which: Option<usize>) -> anyhow::Result<Vec<Both>> {
        let (tell, told) = oneshot::channel();
        self.order(Order::Tell(which, tell))?;
        told.await.context("the driver's media thread has ended")
    }

    /// Ends the thread and all its ends.
    ///
    /// # Errors
    /// When it had ended by a fault.
    pub fn stop(self) -> anyhow::Result<()> {
        // One that has ended already is found so by the join.
        let _ = self.order(Order::Stop);
        self.thread.join().map_err(|_| anyhow!("the driver's media thread failed"))
    }
}

struct Running {
    poll: Poll,
    inbox: Receiver<Order>,
    tell: mpsc::Sender<Happened>,
    /// The ends, each with the time at which it is woken: an entry of `due` with another time was overtaken. Places of ends that are
    /// gone are taken again.
    legs: Vec<Option<(Leg, Instant)>>,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Running {
    fn run(mut self) {
        let mut events = Events::with_capacity(1_024);
        loop {
            let next = self.due.peek().map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, next) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
                _ => {}
            }
            for event in &events {
                match event.token() {
                    WAKER if self.orders() => return,
                    WAKER => {}
                    Token(n) => self.readable(n - 1),
                }
            }
            self.timers();
        }
    }

    /// Follows the orders; tells whether to stop.
    fn orders(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(Order::Add(leg)) => self.add(*leg),
                Ok(Order::Listen(which, window)) => self.those(which).for_each(|leg| leg.listen(window)),
                // Whoever asked may have given up.
                Ok(Order::Tell(which, to)) => drop(to.send(self.tell(which))),
                Ok(Order::Remove(call)) => self.remove(call),
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => return false,
            }
        }
    }

    fn those(&mut self, which: Which) -> impl Iterator<Item = &mut Leg> {
        let legs = self.legs.iter_mut().flatten().map(|(leg, _)| leg);
        legs.filter(move |leg| which.is_none_or(|call| leg.call() == call))
    }

    fn tell(&mut self, which: Which) -> Vec<Both> {
        let (mut pages, mut phones) = (BTreeMap::new(), BTreeMap::new());
        for leg in self.those(which) {
            let of = if matches!(leg, Leg::Page(_)) { &mut pages } else { &mut phones };
            of.insert(leg.call(), leg.ear().tell());
        }
        let both = pages.into_iter().filter_map(|(call, page)| Some(Both { call, page, phone: phones.remove(&call)? }));
        both.collect()
    }

    fn remove(&mut self, call: usize) {
        for place in &mut self.legs {
            if let Some((mut leg, _)) = place.take_if(|(leg, _)| leg.call() == call) {
                // The system forgets a socket that is closed, which it is here in any case.
                let _ = self.poll.registry().deregister(leg.socket());
            }
        }
    }

    fn add(&mut self, mut leg: Leg) {
        let now = Instant::now();
        let place = self.legs.iter().position(Option::is_none).unwrap_or(self.legs.len());
        let registered = self.poll.registry().register(leg.socket(), Token(place + 1), Interest::READABLE);
        if registered.is_err() {
            let _ = self.tell.try_send(Happened::Failed(leg.call()));
        }
        match self.legs.get_mut(place) {
            Some(free) => *free = Some((leg, now)),
            None => self.legs.push(Some((leg, now))),
        }
        self.due.push(Reverse((now, place)));
    }

    fn readable(&mut self, place: usize) {
        let Some((leg, armed)) = self.legs.get_mut(place).and_then(Option::as_mut) else { return };
        leg.read(&self.tell);
        let wake = leg.wake();
        if wake < *armed {
            *armed = wake;
            self.due.push(Reverse((wake, place)));
        }
    }

    fn timers(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, place))) = self.due.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.due.pop();
            let leg = self.legs.get_mut(place).and_then(Option::as_mut).filter(|(_, armed)| *armed == at);
            let Some((leg, armed)) = leg else { continue };
            if leg.wake() <= now {
                leg.due(now, &self.tell);
            }
            // Never again in the same turn: an end that is always due would leave the others none.
            *armed = leg.wake().max(now + Duration::from_micros(100));
            self.due.push(Reverse((*armed, place)));
        }
    }
}
