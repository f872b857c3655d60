//! Whether the STUN and TURN servers that browsers are told of answer, and take the credentials that browsers get.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use rand::Rng as _;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Finding;
use crate::config::Config;
use crate::net::tls::{TlsClient, TlsError, Trust};
use crate::signal::IceServer;
use crate::webrtc::stun_client::{Answer, Ask, HEADER, LongTerm, read, request};

/// How long one server may take, from its name to its answer.
const WITHIN: Duration = Duration::from_secs(6);
/// When a datagram is sent again (RFC 8489 section 6.2.1).
const AGAIN: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_millis(1500), Duration::from_millis(1500)];
/// In whose name the allocation is made.
const USER: &str = "doctor";
/// The longest answer that is read.
const LONGEST: usize = 2048;

/// Why a server is of no use.
#[derive(Debug, Error)]
enum TurnError {
    #[error("the name is not found")]
    Name,
    #[error("no answer")]
    Silent,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("what it answers is no STUN")]
    Nonsense,
    #[error("it refuses with {0}")]
    Refused(u16),
}

/// A server's URL, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Server<'a> {
    host: &'a str,
    port: u16,
    relays: bool,
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Udp,
    Tcp,
    Tls,
}

/// What a server that works has told.
#[derive(Debug)]
struct Works {
    seen: Option<SocketAddr>,
    relayed: Option<SocketAddr>,
    /// It wanted no credentials.
    open: bool,
    took: Duration,
}

/// The findings, and the addresses that the servers have seen us at.
pub(super) async fn examine(config: &Config) -> (Vec<Finding>, Vec<IpAddr>) {
    let Some(turn) = &config.turn else { return (Vec::new(), Vec::new()) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let servers = turn.ice_servers(USER, now);
    let each = servers.iter().flat_map(|server| server.urls.iter().map(move |url| one(url, server)));
    let (findings, seen): (Vec<Finding>, Vec<Option<IpAddr>>) = join_all(each).await.into_iter().unzip();
    (findings, seen.into_iter().flatten().collect())
}

async fn one(url: &str, credentials: &IceServer) -> (Finding, Option<IpAddr>) {
    let subject = format!("[turn] {url}");
    let Some(server) = Server::of(url) else { return (Finding::untested(subject, "not understood"), None) };
    let tried = timeout(WITHIN, server.try_out(credentials)).await.unwrap_or(Err(TurnError::Silent));
    match tried {
        Ok(Works { open: true, .. }) => {
            let remedy = "let it demand credentials (coturn: `use-auth-secret`): strangers relay at your cost";
            (Finding::warn(subject, "relays without asking who we are", remedy), None)
        }
        Ok(Works { seen, relayed, took, .. }) => {
            let relayed = relayed.map(|at| format!(", relays at {at}")).unwrap_or_default();
            let seen_at = seen.map(|at| format!(", sees us at {}", at.ip())).unwrap_or_default();
            let text = format!("answers in {} ms{relayed}{seen_at}", took.as_millis());
            (Finding::ok(subject, text), seen.map(|at| at.ip()))
        }
        Err(error) => {
            let remedy = server.remedy(&error);
            (Finding::fail(subject, error.to_string(), remedy), None)
        }
    }
}

impl<'a> Server<'a> {
    /// [RFC 7064](https://www.rfc-editor.org/rfc/rfc7064), [RFC 7065](https://www.rfc-editor.org/rfc/rfc7065).
    fn of(url: &'a str) -> Option<Server<'a>> {
        let (scheme, rest) = url.split_once(':')?;
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (relays, secure) = match scheme {
            "stun" => (false, false),
            "stuns" => (false, true),
            "turn" => (true, false),
            "turns" => (true, true),
            _ => return None,
        };
        let way = match (secure, query) {
            (true, _) => Way::Tls,
            (false, "transport=tcp") => Way::Tcp,
            (false, _) => Way::Udp,
        };
        let usual = if secure { 5349 } else { 3478 };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map(|(host, port)| (host, port.strip_prefix(':')))?,
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        Some(Server { host, port: port.map_or(Some(usual), |port| port.parse().ok())?, relays, way })
    }

    async fn try_out(&self, credentials: &IceServer) -> Result<Works, TurnError> {
        let found = lookup_host((self.host, self.port)).await.map_err(|_| TurnError::Name)?;
        let address = found.into_iter().next().ok_or(TurnError::Name)?;
        let mut line = self.open(address).await?;
        let begun = Instant::now();
        if !self.relays {
            let Answer { error, mapped, .. } = line.ask(Ask::Binding, None).await?;
            return match error {
                Some(status) => Err(TurnError::Refused(status)),
                None => Ok(Works { seen: mapped, relayed: None, open: false, took: begun.elapsed() }),
            };
        }
        let challenge = line.ask(Ask::Allocate, None).await?;
        let took = begun.elapsed();
        let (realm, nonce) = match challenge {
            Answer { error: None, mapped, relayed, .. } => {
                return Ok(Works { seen: mapped, relayed, open: true, took });
            }
            Answer { error: Some(401), realm: Some(realm), nonce: Some(nonce), .. } => (realm, nonce),
            Answer { error: Some(status), .. } => return Err(TurnError::Refused(status)),
        };
        let [username, password] =
            [&credentials.username, &credentials.credential].map(|text| text.clone().unwrap_or_default());
        let known = LongTerm { username, password, realm, nonce };
        let Answer { error, mapped, relayed, .. } = line.ask(Ask::Allocate, Some(&known)).await?;
        if let Some(status) = error {
            return Err(TurnError::Refused(status));
        }
        let _ = line.ask(Ask::Release, Some(&known)).await; // else it ends by itself within ten minutes
        Ok(Works { seen: mapped, relayed, open: false, took })
    }

    async fn open(&self, address: SocketAddr) -> Result<Line, TurnError> {
        if self.way == Way::Udp {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(address).await?;
            return Ok(Line::Datagrams(socket));
        }
        let stream = TcpStream::connect(address).await?;
        if self.way == Way::Tcp {
            return Ok(Line::Stream(Box::new(stream)));
        }
        let client = TlsClient::new(Trust::System, None, None)?;
        let name = client.server_name(self.host)?;
        Ok(Line::Stream(Box::new(TlsConnector::from(client.config()).connect(name, stream).await?)))
    }

    fn remedy(&self, error: &TurnError) -> String {
        let Server { host, port, .. } = self;
        match error {
            TurnError::Name => format!("is {host} the right name, and in the DNS?"),
            TurnError::Silent => format!("is it up, and does every firewall let {:?} port {port} through?", self.way),
            TurnError::Refused(401) => {
                "its static-auth-secret must be the `secret` of [turn], and both clocks right".to_owned()
            }
            TurnError::Refused(486 | 508) => "it is full: raise its quotas, or its range of ports".to_owned(),
            TurnError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                format!("browsers verify its certificate too: it must be good for {host}, with its whole chain")
            }
            _ => format!("does a TURN server listen at {host}:{port}?"),
        }
    }
}

/// A way of bytes in both directions.
trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Bytes for S {}

/// The way to a server.
enum Line {
    Datagrams(UdpSocket),
    Stream(Box<dyn Bytes>),
}

impl Line {
    async fn ask(&mut self, ask: Ask, credentials: Option<&LongTerm>) -> Result<Answer, TurnError> {
        let mut transaction = [0; 12];
        rand::rng().fill_bytes(&mut transaction);
        let request = request(ask, transaction, credentials);
        let mut buffer = [0; LONGEST];
        match self {
            Line::Datagrams(socket) => {
                for patience in AGAIN {
                    socket.send(&request).await?;
                    let heard = timeout(patience, async {
                        loop {
                            let len = socket.recv(&mut buffer).await?;
                            let answer = read(buffer.get(..len).unwrap_or_default(), ask, transaction);
                            if let Some(answer) = answer {
                                return Ok::<Answer, io::Error>(answer);
                            }
                        }
                    });
                    if let Ok(answer) = heard.await {
                        return Ok(answer?);
                    }
                }
                Err(TurnError::Silent)
            }
            Line::Stream(stream) => {
                stream.write_all(&request).await?;
                stream.flush().await?;
                let (head, body) = buffer.split_at_mut(HEADER);
                stream.read_exact(head).await?;
                let length =
                    head.get(2..4).map_or(0, |two| two.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)));
                stream.read_exact(body.get_mut(..length).ok_or(TurnError::Nonsense)?).await?;
                let whole = buffer.get(..HEADER + length).unwrap_or_default();
                read(whole, ask, transaction).ok_or(TurnError::Nonsense)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let table = [
            ("stun:stun.example", Some(("stun.example", 3478, false, Way::Udp))),
            ("turn:[2001:db8::1]:3479?transport=tcp", Some(("2001:db8::1", 3479, true, Way::Tcp))),
            ("turns:turn.example:443?transport=tcp", Some(("turn.example", 443, true, Way::Tls))),
            ("turns:turn.example", Some(("turn.example", 5349, true, Way::Tls))),
            ("http:turn.example", None),
        ];
        for (url, expected) in table {
            let expected = expected.map(|(host, port, relays, way)| Server { host, port, relays, way });
            assert_eq!(Server::of(url), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_with_a_remedy() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = IceServer { urls: Vec::new(), username: Some("1:x".into()), credential: Some("y".into()) };
        let (finding, seen) = one(&format!("turn:{closed}?transport=tcp"), &server).await;
        assert_eq!((finding.verdict, seen), (super::super::Verdict::Fail, None));
        assert!(finding.remedy.unwrap().contains(&closed.to_string()));
    }
}
