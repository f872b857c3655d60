//! SIP over TCP: connections accepted from trunks and opened to them, one task each (RFC 3261 section 18).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Event, Tasks};
use crate::sip::{Flow, Frame, Framer, Transport};
use crate::switch::{Input, Network};

/// The longest message on a stream.
const MAX_MESSAGE: usize = 64 * 1024;
/// Messages that may wait for a slow peer; past it the connection counts as failed.
const OUTBOX: usize = 256;
/// Connections at once, accepted and opened.
const MAX_CONNECTIONS: usize = 1024;
/// How long opening one, or one write, may take.
const WITHIN: Duration = Duration::from_secs(4);

/// Connection ids: never 0, which means "any".
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// A connection that the driver may write to.
pub(super) struct Connection {
    pub(super) flow: Flow,
    outbox: mpsc::Sender<Vec<u8>>,
}

/// The driver's side: which connection reaches whom.
pub(super) struct SipTcp {
    tasks: Tasks,
    by_id: HashMap<u64, Connection>,
    by_remote: HashMap<SocketAddr, u64>,
}

impl SipTcp {
    pub(super) fn new(tasks: Tasks) -> SipTcp {
        SipTcp { tasks, by_id: HashMap::new(), by_remote: HashMap::new() }
    }

    pub(super) fn connected(&mut self, connection: Connection) {
        self.by_remote.insert(connection.flow.remote, connection.flow.id);
        self.by_id.insert(connection.flow.id, connection);
    }

    pub(super) fn closed(&mut self, flow: Flow) {
        self.by_id.remove(&flow.id);
        if self.by_remote.get(&flow.remote) == Some(&flow.id) {
            self.by_remote.remove(&flow.remote);
        }
    }

    /// Sends on the flow's own connection, another one to the same peer, or a new one (RFC 3261 section 18.2.2).
    ///
    /// `false`: it cannot be sent.
    pub(super) fn send(&mut self, flow: Flow, bytes: Vec<u8>) -> bool {
        let known = self.by_id.contains_key(&flow.id).then_some(flow.id);
        let id = match known.or_else(|| self.by_remote.get(&flow.remote).copied()) {
            Some(id) => id,
            None if self.by_id.len() < MAX_CONNECTIONS => self.open(flow),
            None => return false,
        };
        self.by_id.get(&id).is_some_and(|c| c.outbox.try_send(bytes).is_ok())
    }

    fn open(&mut self, wanted: Flow) -> u64 {
        let (outbox, queue) = mpsc::channel(OUTBOX);
        let flow = Flow { id: NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed), ..wanted };
        self.connected(Connection { flow, outbox });
        let tasks = self.tasks.clone();
        self.tasks.tracker.spawn(async move {
            let connected = tokio::select! {
                () = tasks.stop.cancelled() => return,
                connected = timeout(WITHIN, TcpStream::connect(flow.remote)) => connected,
            };
            // Nobody knows a connection that never was: what failed is the flow that was wanted.
            let input = match connected {
                Ok(Ok(stream)) => end_of(flow, pump(stream, flow, queue, &tasks).await),
                Ok(Err(error)) => {
                    tracing::warn!(remote = %flow.remote, %error, "SIP connection refused");
                    Input::SipFailed { flow: wanted }
                }
                Err(_) => {
                    tracing::warn!(remote = %flow.remote, "SIP connection: no answer within {WITHIN:?}");
                    Input::SipFailed { flow: wanted }
                }
            };
            let _ = tasks.sip.send(Event::SipClosed { flow, input }).await; // the driver is gone at shutdown
        });
        flow.id
    }
}

/// Accepts connections of known addresses; any other is closed unread.
pub(super) async fn accept(listener: TcpListener, local: SocketAddr, known: Arc<Vec<Network>>, tasks: Tasks) {
    let permits = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = tasks.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%local, %error, "SIP accept");
                // Out of descriptors: give the others a moment to end.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if !known.iter().any(|network| network.contains(remote.ip())) {
            tracing::debug!(%remote, "SIP connection of an unknown address closed");
            continue;
        }
        let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
        let (outbox, queue) = mpsc::channel(OUTBOX);
        let id = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
        let flow = Flow { transport: Transport::Tcp, local, remote, id };
        let tasks = tasks.clone();
        let tracker = tasks.tracker.clone();
        tracker.spawn(async move {
            if tasks.sip.send(Event::SipConnected(Connection { flow, outbox })).await.is_ok() {
                let input = end_of(flow, pump(stream, flow, queue, &tasks).await);
                let _ = tasks.sip.send(Event::SipClosed { flow, input }).await; // as above
            }
            drop(permit);
        });
    }
}

/// Why a connection ended other than by the peer's close or ours.
struct Broken;

/// What the switch is told when a connection has ended.
fn end_of(flow: Flow, result: Result<(), Broken>) -> Input {
    match result {
        Ok(()) => Input::SipClosed { flow },
        Err(Broken) => Input::SipFailed { flow },
    }
}

/// Both directions of one connection until it ends.
async fn pump(stream: TcpStream, flow: Flow, mut queue: mpsc::Receiver<Vec<u8>>, tasks: &Tasks) -> Result<(), Broken> {
    let _ = stream.set_nodelay(true); // a hint; the connection works without
    let (mut reader, mut writer) = stream.into_split();
    let mut framer = Framer::new(MAX_MESSAGE);
    let mut buffer = vec![0u8; 16 * 1024];
    loop {
        tokio::select! {
            () = tasks.stop.cancelled() => {
                // The last words of the calls that were hung up.
                while let Ok(bytes) = queue.try_recv() {
                    write(&mut writer, &bytes).await?;
                }
                return Ok(());
            }
            bytes = queue.recv() => {
                let Some(bytes) = bytes else { return Ok(()) };
                write(&mut writer, &bytes).await?;
            }
            read = reader.read(&mut buffer) => {
                let len = read.map_err(|_| Broken)?;
                if len == 0 {
                    return Ok(());
                }
                framer.push(buffer.get(..len).unwrap_or_default()).map_err(|_| Broken)?;
                while let Some(frame) = framer.next() {
                    match frame {
                        Frame::Message(bytes) => {
                            let event = Event::Switch(Input::Sip { flow, bytes });
                            tasks.sip.send(event).await.map_err(|_| Broken)?;
                        }
                        // RFC 5626 section 3.5.1: a double CRLF is answered by a single one.
                        Frame::KeepAlive => write(&mut writer, b"\r\n").await?,
                    }
                }
            }
        }
    }
}

async fn write(writer: &mut tokio::net::tcp::OwnedWriteHalf, bytes: &[u8]) -> Result<(), Broken> {
    match timeout(WITHIN, writer.write_all(bytes)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Broken),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn tcp(remote: SocketAddr, id: u64) -> Flow {
        Flow { transport: Transport::Tcp, local: "127.0.0.1:5060".parse().unwrap(), remote, id }
    }

    #[tokio::test]
    async fn a_refused_connection_fails_the_flow_that_was_wanted() {
        let (tasks, mut queues) = Tasks::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wanted = tcp(listener.local_addr().unwrap(), u64::MAX);
        drop(listener);
        let mut connections = SipTcp::new(tasks);
        assert!(connections.send(wanted, b"BYE".to_vec()));
        let Some(Event::SipClosed { flow, input }) = queues.trunks.recv().await else { panic!("the end of it") };
        assert!(matches!(input, Input::SipFailed { flow } if flow == wanted), "{input:?}");
        connections.closed(flow);
        assert!(connections.by_id.is_empty() && connections.by_remote.is_empty());
    }

    #[tokio::test]
    async fn the_switch_is_told_when_a_peer_closes_in_good_order() {
        let (tasks, mut queues) = Tasks::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut connections = SipTcp::new(tasks);
        assert!(connections.send(tcp(listener.local_addr().unwrap(), 0), b"BYE".to_vec()));
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 3]).await.unwrap();
        drop(stream);
        let Some(Event::SipClosed { flow, input }) = queues.trunks.recv().await else { panic!("the end of it") };
        assert!(matches!(input, Input::SipClosed { flow: told } if told == flow && flow.id != 0), "{input:?}");
    }
}
