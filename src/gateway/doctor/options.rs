//! One OPTIONS to a trunk, asked in the gateway's place while that does not run ([RFC 3261 section
//! 11](https://www.rfc-editor.org/rfc/rfc3261#section-11)).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::gateway::sip_stream::{connect, tls_hint};
use crate::net;
use crate::net::tls::{TlsClient, TlsError, Trust};
use crate::sip::{Frame, Framer, Host, Message, Method, NameAddr, Request, Response, Target, Transport, Uri};
use crate::switch::Trunk;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(4);
/// When a datagram is sent again: RFC 3261 section 17.1.2.2.
const AGAIN: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_millis(500)];
/// The longest answer.
const LONGEST: usize = 65_536;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum NoAnswer {
    /// Nothing came.
    #[error("no answer to OPTIONS within {} s", WITHIN.as_secs())]
    Silent,
    /// The way cannot be opened, or breaks.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No secure connection.
    #[error("no TLS connection: {0}")]
    Handshake(io::Error),
    /// TLS cannot be tried.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The trunk's name or address does not fit into a request.
    #[error("no request can be made for it")]
    Request,
}

impl NoAnswer {
    /// What to look at.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            NoAnswer::Handshake(error) => tls_hint(error),
            NoAnswer::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "nobody listens there: are `address` (its port) and `transport` right?"
            }
            _ => {
                "are `address` and `transport` right, does the firewall let SIP out and back, and does the peer know our \
                 address? `options = 0` where it never answers OPTIONS"
            }
        }
    }
}

/// An answer, and how long it took.
pub(super) struct Answered {
    pub(super) response: Response,
    pub(super) took: Duration,
}

/// The sockets from which datagrams go out: one for each listener, on its port where that is free, as trunks know us by it.
/// Who waits for an answer takes in those of the others too.
#[derive(Default)]
pub(super) struct Sockets {
    open: Mutex<HashMap<SocketAddr, Arc<Shared>>>,
}

struct Shared {
    socket: UdpSocket,
    waiting: Mutex<HashMap<String, oneshot::Sender<Response>>>,
}

impl Sockets {
    fn of(&self, local: SocketAddr) -> io::Result<Arc<Shared>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = open.get(&local) {
            return Ok(shared.clone());
        }
        let any_port = SocketAddr::new(local.ip(), 0);
        let socket = net::bind_udp_one_family(local).or_else(|_| net::bind_udp_one_family(any_port))?;
        let shared = Arc::new(Shared { socket: UdpSocket::from_std(socket)?, waiting: Mutex::default() });
        open.insert(local, shared.clone());
        Ok(shared)
    }
}

impl Shared {
    fn expect(&self, tag: &str) -> oneshot::Receiver<Response> {
        let (tell, told) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(tag.to_owned(), tell);
        told
    }

    /// Gives an answer to whoever waits for it.
    fn pass_on(&self, bytes: &[u8]) {
        let Some((tag, response)) = answer(bytes) else { return };
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&tag);
        if let Some(tell) = waiting {
            let _ = tell.send(response); // whoever waited has given up
        }
    }
}

/// Asks one target of a trunk.
pub(super) async fn ask(
    sockets: &Sockets,
    trunk: &Trunk,
    tls: Option<&TlsClient>,
    target: &Target,
) -> Result<Answered, NoAnswer> {
    let tag = format!("{:016x}", rand::random::<u64>());
    let tried = async {
        match target.transport {
            Transport::Udp => datagram(&*sockets.of(target.local)?, trunk, target, &tag).await,
            _ => stream(trunk, tls, target, &tag).await,
        }
    };
    timeout(WITHIN, tried).await.unwrap_or(Err(NoAnswer::Silent))
}

async fn datagram(shared: &Shared, trunk: &Trunk, target: &Target, tag: &str) -> Result<Answered, NoAnswer> {
    let request = request(trunk, target, shared.socket.local_addr()?, tag).ok_or(NoAnswer::Request)?;
    let mut told = shared.expect(tag);
    let begun = Instant::now();
    let mut buffer = vec![0; LONGEST];
    for patience in AGAIN {
        shared.socket.send_to(&request, target.remote).await?;
        let heard = timeout(patience, async {
            loop {
                tokio::select! {
                    response = &mut told => return response.map_err(io::Error::other),
                    received = shared.socket.recv_from(&mut buffer) => {
                        let (len, _) = received?;
                        shared.pass_on(buffer.get(..len).unwrap_or_default());
                    }
                }
            }
        });
        if let Ok(response) = heard.await {
            return Ok(Answered { response: response?, took: begun.elapsed() });
        }
    }
    Err(NoAnswer::Silent)
}

async fn stream(trunk: &Trunk, tls: Option<&TlsClient>, target: &Target, tag: &str) -> Result<Answered, NoAnswer> {
    let plain = connect(target.local, target.remote).await?;
    let request = request(trunk, target, plain.local_addr()?, tag).ok_or(NoAnswer::Request)?;
    if target.transport != Transport::Tls {
        return exchange(plain, &request, tag).await;
    }
    let client = match tls {
        Some(client) => client.clone(),
        None => TlsClient::new(Trust::System, None, None)?,
    };
    let host = trunk.dns.as_ref().map(|dns| dns.host.clone()).unwrap_or_else(|| target.remote.ip().to_string());
    let name = client.server_name(target.server_name.as_deref().unwrap_or(&host))?;
    let secured = TlsConnector::from(client.config()).connect(name, plain).await.map_err(NoAnswer::Handshake)?;
    exchange(secured, &request, tag).await
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
    tag: &str,
) -> Result<Answered, NoAnswer> {
    let begun = Instant::now();
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut framer = Framer::new(LONGEST);
    let mut buffer = [0; 4096];
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        framer.push(buffer.get(..len).unwrap_or_default()).map_err(io::Error::other)?;
        while let Some(frame) = framer.next() {
            if let Frame::Message(bytes) = frame
                && let Some((of, response)) = answer(&bytes)
                && of == tag
            {
                return Ok(Answered { response, took: begun.elapsed() });
            }
        }
    }
}

/// Our question as a trunk is asked it by the gateway.
fn request(trunk: &Trunk, target: &Target, local: SocketAddr, tag: &str) -> Option<Vec<u8>> {
    let ours = match local.ip() {
        ip if ip.is_unspecified() => net::source_address(target.remote)?,
        ip => ip,
    };
    let (host, port) = trunk.host_at(target);
    let to = Uri::sip(None, host, port).ok()?;
    let mut uri = to.clone();
    if target.transport.is_reliable() {
        uri.params.set("transport", Some(target.transport.uri_name()));
    }
    let from = Uri::sip(Some("ringback"), trunk.own_host(target, Host::from(ours)), None).ok()?;
    let contact = Uri::sip(None, Host::from(ours), Some(local.port())).ok()?;
    let mut request = Request::new(Method::Options, uri);
    let via = target.transport.via_name();
    let at = authority(ours, local.port());
    let fields = [
        ("Via", format!("SIP/2.0/{via} {at};branch=z9hG4bK{tag};rport")),
        ("Max-Forwards", "70".to_owned()),
        ("From", NameAddr::new(from).with_tag(tag).to_string()),
        ("To", NameAddr::new(to).to_string()),
        ("Call-ID", tag.to_owned()),
        ("CSeq", "1 OPTIONS".to_owned()),
        ("Contact", NameAddr::new(contact).to_string()),
        ("User-Agent", concat!("Ringback/", env!("CARGO_PKG_VERSION")).to_owned()),
        ("Accept", "application/sdp".to_owned()),
    ];
    for (name, value) in fields {
        request.headers.push(name, value);
    }
    Some(request.to_bytes())
}

fn authority(ip: IpAddr, port: u16) -> String {
    SocketAddr::new(ip, port).to_string()
}

/// A final response, and to which question.
fn answer(bytes: &[u8]) -> Option<(String, Response)> {
    match Message::parse(bytes).ok()? {
        Message::Response(response) if response.status >= 200 => {
            Some((response.headers.call_id().ok()?.to_owned(), response))
        }
        _ => None,
    }
}
