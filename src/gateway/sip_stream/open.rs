//! Connections that we open to peers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Limits;
use super::pump::{KeepAlive, Pace, Pump, end_of, no_delay};
use crate::gateway::{Event, Tasks};
use crate::net::tls::TlsClient;
use crate::sip::Flow;
use crate::switch::Input;

/// A connection that is to be.
pub(super) struct Opening {
    /// The flow that was asked for: what fails with the attempt.
    pub(super) wanted: Flow,
    /// The connection's own.
    pub(super) flow: Flow,
    pub(super) queue: mpsc::Receiver<Vec<u8>>,
    /// For TLS: how, and the name that was looked up.
    pub(super) tls: Option<(TlsClient, String)>,
    pub(super) limits: Limits,
    /// The time between two keep-alives.
    pub(super) keep_alive: Duration,
}

impl Opening {
    /// Opens it, serves it to its end and tells the driver.
    pub(super) async fn run(self, tasks: Tasks) {
        let Opening { wanted, flow, queue, tls, limits, keep_alive } = self;
        let keep_alive = KeepAlive { every: keep_alive, pong_within: limits.pong_within };
        let pace = Pace { keep_alive: Some(keep_alive), ..limits.pace() };
        let made = tokio::select! {
            () = tasks.stop.cancelled() => return,
            made = timeout(limits.within, made(flow, tls)) => made,
        };
        let input = match made {
            Ok(Ok(Stream::Plain(stream))) => {
                end_of(flow, Pump::new(stream, flow, pace, false).run(queue, &tasks).await)
            }
            Ok(Ok(Stream::Secured(stream))) => {
                end_of(flow, Pump::new(stream, flow, pace, false).run(queue, &tasks).await)
            }
            // Nobody knows a connection that never was: what failed is the flow that was wanted.
            Ok(Err(())) => Input::SipFailed { flow: wanted },
            Err(_) => {
                let (remote, transport) = (flow.remote, flow.transport);
                tracing::warn!(%remote, %transport, "SIP connection: no answer within {:?}", limits.within);
                Input::SipFailed { flow: wanted }
            }
        };
        let _ = tasks.sip.send(Event::SipClosed { flow, input }).await; // the driver is gone at shutdown
    }
}

enum Stream {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
}

/// What went wrong is in the log.
async fn made(flow: Flow, tls: Option<(TlsClient, String)>) -> Result<Stream, ()> {
    let Flow { remote, transport, .. } = flow;
    let stream = connect(flow.local, remote).await.map_err(|error| {
        tracing::warn!(%remote, %transport, %error, "SIP connection refused");
    })?;
    no_delay(&stream, transport);
    let Some((client, looked_up)) = tls else { return Ok(Stream::Plain(stream)) };
    let name = client.server_name(&looked_up).map_err(|error| {
        tracing::error!(%remote, %error, "TLS: see tls_name");
    })?;
    let connector = TlsConnector::from(client.config());
    match connector.connect(name.clone(), stream).await {
        Ok(stream) => {
            let version = stream.get_ref().1.protocol_version();
            tracing::info!(%remote, name = %name.to_str(), ?version, verified = client.verifies(), "TLS connection open");
            Ok(Stream::Secured(Box::new(stream)))
        }
        Err(error) => {
            refused(remote, &name.to_str(), &error);
            Err(())
        }
    }
}

/// From the listener's address, where it has one: a trunk knows us by it.
pub(in crate::gateway) async fn connect(local: SocketAddr, remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if !local.ip().is_unspecified() && local.is_ipv4() == remote.is_ipv4() {
        socket.bind(SocketAddr::new(local.ip(), 0))?;
    }
    socket.connect(remote).await
}

/// What is wrong with a peer's certificate, and which key of the configuration it concerns.
pub(in crate::gateway) fn tls_hint(error: &io::Error) -> &'static str {
    use tokio_rustls::rustls::{CertificateError, Error};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(why)) => match why {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name; see `domain`, `tls_name`"
            }
            CertificateError::UnknownIssuer => "nobody we trust has signed its certificate; see `tls_ca`",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
            _ => "its certificate is not good",
        },
        Some(Error::AlertReceived(_)) => "the peer has refused us; does it want a certificate (`tls_certificate`)?",
        _ => "the handshake failed",
    }
}

fn refused(remote: SocketAddr, name: &str, error: &io::Error) {
    let hint = tls_hint(error);
    tracing::error!(%remote, name, %error, "TLS: the connection is not made: {hint}");
}
