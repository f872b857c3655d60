//! Both directions of one connection, until it ends: whatever the peer does, nothing here waits for it without a limit.

use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{Event, MAX_MESSAGE};
use crate::gateway::Tasks;
use crate::sip::{Flow, Frame, FrameError, Framer, Message, Transport};
use crate::switch::Input;

/// How long the goodbye may take.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);
/// In how many of its first messages a connection may say that it is to be reused.
const ALIAS_WITHIN: u8 = 4;

/// How fast a connection must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) write_within: Duration,
    pub(super) message_within: Duration,
    pub(super) keep_alive: Option<KeepAlive>,
}

/// Keep-alives of ours ([RFC 5626 section 4.4.1](https://www.rfc-editor.org/rfc/rfc5626#section-4.4.1)).
#[derive(Debug, Clone, Copy)]
pub(super) struct KeepAlive {
    /// Already drawn from 80 to 100 % of the interval.
    pub(super) every: Duration,
    pub(super) pong_within: Duration,
}

/// Why a connection ended other than by the peer's close or ours.
#[derive(Debug, Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("what it sends is no SIP: {0}")]
    Frame(#[from] FrameError),
    #[error("it does not read")]
    Unread,
    #[error("a message did not arrive whole in time")]
    Slow,
    #[error("it no longer answers keep-alives")]
    Silent,
    #[error("the gateway is going down")]
    Over,
}

/// The two ends of a connection and all that is known of its state.
pub(super) struct Pump<S> {
    flow: Flow,
    pace: Pace,
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    framer: Framer,
    /// What is being written, and until when that must be done.
    out: Vec<u8>,
    unflushed: bool,
    write_by: Option<Instant>,
    /// Until when the message that has begun must be whole.
    message_by: Option<Instant>,
    ping_at: Option<Instant>,
    pong_by: Option<Instant>,
    /// A ping has gone out and nothing has come since.
    waits_for_pong: bool,
    /// The peer has answered a ping before.
    pongs: bool,
    /// In how many messages more its Via is looked at for `alias`.
    alias_looks: u8,
}

/// What the select of [`Pump::run`] came back with.
enum Turn {
    Stop,
    Queued(Option<Vec<u8>>),
    Read(std::io::Result<usize>),
    Wrote(std::io::Result<usize>),
    Deadline,
}

impl<S: AsyncRead + AsyncWrite> Pump<S> {
    /// `may_alias`: the peer connected to us and has the right to say that requests to it take this connection.
    pub(super) fn new(stream: S, flow: Flow, pace: Pace, may_alias: bool) -> Pump<S> {
        let (reader, writer) = tokio::io::split(stream);
        Pump {
            flow,
            pace,
            reader,
            writer,
            framer: Framer::new(MAX_MESSAGE),
            out: Vec::new(),
            unflushed: false,
            write_by: None,
            message_by: None,
            ping_at: pace.keep_alive.map(|keep_alive| Instant::now() + keep_alive.every),
            pong_by: None,
            waits_for_pong: false,
            pongs: false,
            alias_looks: if may_alias { ALIAS_WITHIN } else { 0 },
        }
    }

    /// Until the peer closes, the driver lets go of it, or something breaks.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Vec<u8>>, tasks: &Tasks) -> Result<(), Broken> {
        let mut buffer = vec![0u8; 16 * 1024];
        loop {
            let deadline = [self.write_by, self.message_by, self.ping_at, self.pong_by].into_iter().flatten().min();
            let turn = tokio::select! {
                () = tasks.stop.cancelled() => Turn::Stop,
                wrote = push(&mut self.writer, &self.out), if self.is_writing() => Turn::Wrote(wrote),
                bytes = queue.recv(), if !self.is_writing() => Turn::Queued(bytes),
                read = self.reader.read(&mut buffer) => Turn::Read(read),
                () = sleep_until(deadline) => Turn::Deadline,
            };
            match turn {
                Turn::Stop | Turn::Queued(None) => return self.say_goodbye(queue).await,
                Turn::Queued(Some(bytes)) => self.write(bytes),
                Turn::Wrote(wrote) => self.wrote(wrote?),
                Turn::Read(read) => match read {
                    Ok(0) => return Ok(()),
                    // TLS without its goodbye: between two messages nothing is lost.
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof && self.framer.is_between() => {
                        return Ok(());
                    }
                    read => self.take(buffer.get(..read?).unwrap_or_default(), tasks).await?,
                },
                Turn::Deadline => self.overdue(Instant::now())?,
            }
        }
    }

    fn is_writing(&self) -> bool {
        !self.out.is_empty() || self.unflushed
    }

    fn wrote(&mut self, len: usize) {
        if self.out.is_empty() {
            (self.unflushed, self.write_by) = (false, None);
        } else {
            self.out.drain(..len.min(self.out.len()));
            self.unflushed = true;
        }
    }

    fn write(&mut self, bytes: Vec<u8>) {
        if self.out.is_empty() {
            self.out = bytes;
        } else {
            self.out.extend_from_slice(&bytes);
        }
        self.write_by.get_or_insert_with(|| Instant::now() + self.pace.write_within);
    }

    /// Bytes from the peer.
    async fn take(&mut self, bytes: &[u8], tasks: &Tasks) -> Result<(), Broken> {
        self.pong_by = None;
        self.framer.push(bytes)?;
        let mut whole = false;
        while let Some(frame) = self.framer.next() {
            whole = true;
            match frame {
                Frame::Message(bytes) => {
                    if let Some(peer) = self.alias(&bytes) {
                        let event = Event::SipAlias { flow: self.flow, peer };
                        tasks.sip.send(event).await.map_err(|_| Broken::Over)?;
                    }
                    let event = Event::Switch(Input::Sip { flow: self.flow, bytes });
                    tasks.sip.send(event).await.map_err(|_| Broken::Over)?;
                }
                // RFC 5626 section 3.5.1: a double CRLF is answered by a single one. A peer that asks again before it has
                // read the last answer gets no more of them.
                Frame::KeepAlive if self.out.len() < MAX_MESSAGE => self.write(b"\r\n".to_vec()),
                Frame::KeepAlive => {}
            }
        }
        if self.waits_for_pong && self.framer.take_pong() {
            self.pongs = true;
        }
        self.waits_for_pong = false;
        if self.framer.is_between() {
            self.message_by = None;
        } else if whole || self.message_by.is_none() {
            self.message_by = Some(Instant::now() + self.pace.message_within);
        }
        Ok(())
    }

    /// The address by which the peer says it is reached over this connection
    /// ([RFC 5923 section 8](https://www.rfc-editor.org/rfc/rfc5923#section-8)): the port of its Via at the address that it
    /// comes from.
    fn alias(&mut self, bytes: &[u8]) -> Option<SocketAddr> {
        self.alias_looks = self.alias_looks.checked_sub(1)?;
        let Ok(Message::Request(request)) = Message::parse(bytes) else { return None };
        let via = request.headers.top_via().ok()?;
        via.params.get("alias")?;
        self.alias_looks = 0;
        let port = via.port.unwrap_or(self.flow.transport.default_port());
        Some(SocketAddr::new(self.flow.remote.ip(), port))
    }

    /// A deadline has come.
    fn overdue(&mut self, now: Instant) -> Result<(), Broken> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.write_by) {
            return Err(Broken::Unread);
        }
        if is_due(self.message_by) {
            return Err(Broken::Slow);
        }
        if is_due(self.pong_by) {
            return Err(Broken::Silent);
        }
        if let Some(keep_alive) = self.pace.keep_alive.filter(|_| is_due(self.ping_at)) {
            self.ping_at = Some(now + keep_alive.every);
            if self.out.is_empty() {
                self.write(b"\r\n\r\n".to_vec());
                self.waits_for_pong = true;
                self.pong_by = self.pong_by.or(self.pongs.then_some(now + keep_alive.pong_within));
            }
        }
        Ok(())
    }

    /// The last words of the calls that were hung up, then the end of the connection, within a limit.
    async fn say_goodbye(mut self, mut queue: mpsc::Receiver<Vec<u8>>) -> Result<(), Broken> {
        queue.close();
        while let Ok(bytes) = queue.try_recv() {
            self.out.extend_from_slice(&bytes);
        }
        let rest = async {
            self.writer.write_all(&self.out).await?;
            self.writer.shutdown().await
        };
        // A peer that does not listen any more does not hear it.
        match timeout(GOODBYE_WITHIN, rest).await {
            Ok(Ok(())) | Ok(Err(_)) | Err(_) => Ok(()),
        }
    }
}

/// One step of writing: a part of `out`, or when it is all written, what TLS still holds. Gives what was written.
async fn push<S: AsyncWrite>(writer: &mut WriteHalf<S>, out: &[u8]) -> std::io::Result<usize> {
    if out.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(out).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        len => Ok(len),
    }
}

/// What the switch is told when a connection has ended.
pub(super) fn end_of(flow: Flow, result: Result<(), Broken>) -> Input {
    match result {
        Ok(()) | Err(Broken::Over) => Input::SipClosed { flow },
        Err(Broken::Io(error)) => {
            tracing::debug!(remote = %flow.remote, transport = %flow.transport, %error, "SIP connection lost");
            Input::SipFailed { flow }
        }
        Err(why) => {
            tracing::warn!(remote = %flow.remote, transport = %flow.transport, %why, "SIP connection closed");
            Input::SipFailed { flow }
        }
    }
}

/// A hint; a connection works without.
pub(super) fn no_delay(stream: &tokio::net::TcpStream, transport: Transport) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%transport, %error, "no delay");
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
