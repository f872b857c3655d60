//! Connections that peers open. A stranger's is closed unread and before any TLS; who is one, the driver says.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::pump::{Broken, Pump, end_of, no_delay};
use super::{Connection, Limits, OUTBOX, StreamListener, next_id};
use crate::gateway::{Event, Tasks, accept_failed};
use crate::net::tls::TlsServer;
use crate::sip::Flow;

/// Accepts until the stop token fires. At the limit a connection is closed at once, so that the peer learns of it.
pub(in crate::gateway) async fn accept(
    listening: StreamListener,
    places: Arc<Semaphore>,
    limits: Limits,
    tasks: Tasks,
) {
    let (local, transport) = (listening.local, listening.transport());
    loop {
        let accepted = tokio::select! {
            () = tasks.stop.cancelled() => return,
            accepted = listening.listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed(&format!("SIP {local}"), &error).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(%remote, "too many SIP connections: closed");
            continue;
        };
        let flow = Flow { transport, local, remote, id: next_id() };
        let tls = listening.tls.as_ref().map(|tls| tls.borrow().clone());
        let (tracker, tasks) = (tasks.tracker.clone(), tasks.clone());
        tracker.spawn(async move {
            serve(stream, flow, tls, limits, tasks).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, flow: Flow, tls: Option<TlsServer>, limits: Limits, tasks: Tasks) {
    no_delay(&stream, flow.transport);
    let (outbox, queue) = mpsc::channel(OUTBOX);
    let (reply, admitted) = oneshot::channel();
    let connection = Connection::accepted(flow, outbox);
    if tasks.sip.send(Event::SipAccepted { connection, reply }).await.is_err() {
        return; // the driver is gone
    }
    match timeout(limits.within, admitted).await {
        Ok(Ok(true)) => {}
        Ok(_) => return, // refused
        Err(_) => {
            // The driver is far behind: it hears of the end in case it takes it all the same.
            let _ = tasks.sip.send(Event::SipClosed { flow, input: end_of(flow, Ok(())) }).await;
            return;
        }
    }
    let result = match tls {
        None => Pump::new(stream, flow, limits.pace(), true).run(queue, &tasks).await,
        Some(tls) => secured(stream, flow, &tls, queue, limits, &tasks).await,
    };
    let _ = tasks.sip.send(Event::SipClosed { flow, input: end_of(flow, result) }).await; // the driver may be gone
}

async fn secured(
    stream: TcpStream,
    flow: Flow,
    tls: &TlsServer,
    queue: mpsc::Receiver<Vec<u8>>,
    limits: Limits,
    tasks: &Tasks,
) -> Result<(), Broken> {
    let handshake = tokio::select! {
        () = tasks.stop.cancelled() => return Ok(()),
        handshake = timeout(limits.within, TlsAcceptor::from(tls.config()).accept(stream)) => handshake,
    };
    match handshake {
        Ok(Ok(stream)) => {
            // RFC 5923 section 9: only a peer that has shown who it is may have requests to it sent here.
            Pump::new(stream, flow, limits.pace(), tls.authenticates()).run(queue, tasks).await
        }
        Ok(Err(error)) => {
            tracing::warn!(remote = %flow.remote, %error, "TLS: a connection to us was not made");
            Err(Broken::Io(error))
        }
        Err(_) => {
            tracing::warn!(remote = %flow.remote, "TLS: no handshake within {:?}", limits.within);
            Err(Broken::Slow)
        }
    }
}
