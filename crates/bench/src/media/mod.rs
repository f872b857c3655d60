//! The media of all ends: one thread with a poll loop, so that its own part in what is measured stays small.

mod leg;
mod page;
mod phone;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
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

enum Order {
    Add(Box<Leg>),
    Listen(Window),
    Tell(oneshot::Sender<Vec<Heard>>),
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

    /// Has all ends keep what they hear in a window; what they kept before is forgotten.
    ///
    /// # Errors
    /// See [`add_page`](Self::add_page).
    pub fn listen(&self, window: Window) -> anyhow::Result<()> {
        self.order(Order::Listen(window))
    }

    /// What all ends have heard, in the order in which they were added.
    ///
    /// # Errors
    /// See [`add_page`](Self::add_page).
    pub async fn heard(&self) -> anyhow::Result<Vec<Heard>> {
        let (tell, told) = oneshot::channel();
        self.order(Order::Tell(tell))?;
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
    /// The ends, each with the time at which it is woken: an entry of `due` with another time was overtaken.
    legs: Vec<(Leg, Instant)>,
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
                Ok(Order::Listen(window)) => self.legs.iter_mut().for_each(|(leg, _)| leg.ear().listen(window)),
                // Whoever asked may have given up.
                Ok(Order::Tell(to)) => drop(to.send(self.legs.iter_mut().map(|(leg, _)| leg.ear().tell()).collect())),
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => return false,
            }
        }
    }

    fn add(&mut self, mut leg: Leg) {
        let (place, now) = (self.legs.len(), Instant::now());
        let registered = self.poll.registry().register(leg.socket(), Token(place + 1), Interest::READABLE);
        if registered.is_err() {
            let _ = self.tell.try_send(Happened::Failed(leg.call()));
        }
        self.legs.push((leg, now));
        self.due.push(Reverse((now, place)));
    }

    fn readable(&mut self, place: usize) {
        let Some((leg, armed)) = self.legs.get_mut(place) else { return };
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
            let Some((leg, armed)) = self.legs.get_mut(place).filter(|(_, armed)| *armed == at) else { continue };
            if leg.wake() <= now {
                leg.due(now, &self.tell);
            }
            // Never again in the same turn: an end that is always due would leave the others none.
            *armed = leg.wake().max(now + Duration::from_micros(100));
            self.due.push(Reverse((*armed, place)));
        }
    }
}
