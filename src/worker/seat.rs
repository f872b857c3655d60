//! What a worker is given before it runs: its socket for browsers, and its place among those who share the port.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use mio::{Poll, Waker};

use super::handover::{self, Handover};
use super::{WorkerError, engine};
use crate::net;

/// A worker's end of the browsers' port.
#[derive(Debug)]
pub struct Seat {
    pub(super) socket: UdpSocket,
    pub(super) address: SocketAddr,
    pub(super) poll: Poll,
    pub(super) waker: Arc<Waker>,
    pub(super) mark: char,
    /// `None`: nobody shares the port.
    pub(super) handover: Option<Handover>,
}

impl Seat {
    /// Binds the browsers' port for one worker; port 0 lets the system choose. `[::]` serves IPv4 too.
    ///
    /// # Errors
    /// [`WorkerError::Bind`] where the address cannot be had, [`WorkerError::Start`] where the system gives no poll.
    pub fn alone(browsers: SocketAddr) -> Result<Seat, WorkerError> {
        Seat::new(browsers, net::bind_udp(browsers, Some(net::BIG_BUFFER)))
    }

    /// Binds it for so many workers, 64 at most; each has its end of it.
    ///
    /// # Errors
    /// As [`alone`](Self::alone).
    pub fn shared(browsers: SocketAddr, workers: usize) -> Result<Vec<Seat>, WorkerError> {
        if workers <= 1 {
            return Ok(vec![Seat::alone(browsers)?]);
        }
        let sockets = net::bind_udp_shared(browsers, workers.min(handover::MOST), Some(net::BIG_BUFFER))
            .map_err(|source| WorkerError::Bind { address: browsers, source })?;
        let seats: Result<Vec<Seat>, WorkerError> =
            sockets.into_iter().map(|socket| Seat::new(browsers, Ok(socket))).collect();
        let mut seats = seats?;
        let places = Handover::all(seats.iter().map(|seat| seat.waker.clone()));
        for ((index, seat), place) in seats.iter_mut().enumerate().zip(places) {
            (seat.mark, seat.handover) = (handover::mark(index), Some(place));
        }
        Ok(seats)
    }

    fn new(browsers: SocketAddr, socket: std::io::Result<UdpSocket>) -> Result<Seat, WorkerError> {
        let bound = socket.and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (address, socket) = bound.map_err(|source| WorkerError::Bind { address: browsers, source })?;
        let poll = Poll::new().map_err(WorkerError::Start)?;
        let waker = Arc::new(Waker::new(poll.registry(), engine::WAKER).map_err(WorkerError::Start)?);
        Ok(Seat { socket, address, poll, waker, mark: handover::mark(0), handover: None })
    }
}
