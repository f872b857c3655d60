#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::*;
use crate::gateway::Queues;
use crate::net::tls::{Identity, Trust};
use crate::switch::Input;

const PATIENCE: Duration = Duration::from_secs(20);
const REQUEST: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5099;branch=z9hG4bKa;alias\r\n\
    From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";

/// Fast enough for tests, slow enough for a busy machine.
fn quick() -> Limits {
    Limits {
        within: Duration::from_millis(1500),
        message_within: Duration::from_millis(300),
        keep_alive: Duration::from_millis(100),
        pong_within: Duration::from_millis(400),
        from_one_source: 2,
        ..Limits::default()
    }
}

/// The driver's part, without a switch: what is admitted is the test's to say.
struct Side {
    connections: Connections,
    queues: Queues,
    admission: Admission,
    tasks: Tasks,
}

impl Side {
    fn new(limits: Limits) -> Side {
        Side::with(limits, None)
    }

    fn with(limits: Limits, client: Option<TlsClient>) -> Side {
        let (tasks, queues) = Tasks::new();
        let connections = Connections::new(tasks.clone(), limits, HashMap::new(), client, [7; 32]);
        Side { connections, queues, admission: Admission::Peer, tasks }
    }

    /// The next input for a switch; what concerns connections is done.
    async fn input(&mut self) -> Input {
        loop {
            let event = timeout(PATIENCE, self.queues.trunks.recv()).await.expect("an event").expect("a queue");
            match event {
                Event::Switch(input) => return input,
                Event::SipAccepted { connection, reply } => {
                    let taken = self.connections.accepted(Instant::now(), connection, self.admission, || |_| false);
                    let _ = reply.send(taken);
                }
                Event::SipAlias { flow, peer } => self.connections.alias(flow, peer),
                Event::SipClosed { flow, input } => {
                    self.connections.closed(flow);
                    return input;
                }
                Event::SocketOpened { .. }
                | Event::Status { .. }
                | Event::Users { .. }
                | Event::Metrics { .. }
                | Event::Command { .. }
                | Event::Reload(_)
                | Event::Trace { .. }
                | Event::Lately { .. }
                | Event::Drain { .. } => {
                    panic!("no browser and no operator here")
                }
            }
        }
    }

    fn send(&mut self, flow: Flow, bytes: &[u8]) -> bool {
        self.connections.send(Instant::now(), flow, bytes.to_vec())
    }

    /// A listener with its task.
    async fn listen(&self, limits: Limits, tls: Option<TlsServer>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap();
        let tls = tls.map(|tls| tokio::sync::watch::Sender::new(tls).subscribe());
        let listening = StreamListener { local, listener, tls };
        self.tasks.tracker.spawn(accept(listening, places(&limits), limits, self.tasks.clone()));
        local
    }
}

fn flow(transport: Transport, remote: SocketAddr, id: u64) -> Flow {
    Flow { transport, local: "127.0.0.1:5060".parse().unwrap(), remote, id }
}

/// True when the peer has closed: everything before it is passed over.
async fn closes(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 1024];
    let end = async { while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    timeout(PATIENCE, end).await.is_ok()
}

#[tokio::test]
async fn a_refused_connection_fails_the_flow_that_was_wanted() {
    let mut side = Side::new(quick());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let wanted = flow(Transport::Tcp, listener.local_addr().unwrap(), u64::MAX);
    drop(listener);
    assert!(side.send(wanted, b"BYE"));
    let input = side.input().await;
    assert!(matches!(input, Input::SipFailed { flow } if flow == wanted), "{input:?}");
    assert!(side.connections.by_id.is_empty() && side.connections.by_peer.is_empty());
}

#[tokio::test]
async fn the_switch_is_told_when_a_peer_closes_in_good_order() {
    let mut side = Side::new(quick());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert!(side.send(flow(Transport::Tcp, listener.local_addr().unwrap(), 0), b"BYE"));
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.read_exact(&mut [0; 3]).await.unwrap();
    drop(stream);
    let input = side.input().await;
    assert!(matches!(input, Input::SipClosed { flow } if flow.id != 0), "{input:?}");
}

#[tokio::test]
async fn one_connection_serves_all_that_goes_to_one_peer() {
    let mut side = Side::new(quick());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = flow(Transport::Tcp, listener.local_addr().unwrap(), 0);
    assert!(side.send(to, b"one") && side.send(to, b"two"));
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut both = [0; 6];
    stream.read_exact(&mut both).await.unwrap();
    assert_eq!((&both, side.connections.by_id.len()), (b"onetwo", 1));
}

#[tokio::test]
async fn a_stranger_is_closed_unread_and_a_peer_is_heard() {
    let mut side = Side::new(quick());
    let at = side.listen(quick(), None).await;
    side.admission = Admission::Refused;
    let mut stranger = TcpStream::connect(at).await.unwrap();
    stranger.write_all(REQUEST).await.unwrap();
    let (closed, _) = tokio::join!(closes(&mut stranger), async {
        // Nothing of it ever comes: only its wish to connect does.
        let event = timeout(PATIENCE, side.queues.trunks.recv()).await.unwrap().unwrap();
        let Event::SipAccepted { connection, reply } = event else { panic!("something of a stranger's") };
        reply.send(side.connections.accepted(Instant::now(), connection, Admission::Refused, || |_| false)).unwrap();
    });
    assert!(closed && side.connections.by_id.is_empty());
    side.admission = Admission::Peer;
    let mut peer = TcpStream::connect(at).await.unwrap();
    peer.write_all(REQUEST).await.unwrap();
    let input = side.input().await;
    let Input::Sip { flow, bytes } = input else { panic!("{input:?}") };
    assert_eq!(bytes, REQUEST);
    assert!(side.send(flow, b"SIP/2.0 200"));
    let mut answer = [0; 11];
    peer.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"SIP/2.0 200");
}

/// The registrar is on: anybody may connect, but nobody may take all places.
#[tokio::test]
async fn strangers_of_one_source_have_so_many_connections_and_no_more() {
    let mut side = Side::new(quick());
    let at = |ip: &str, id| Connection {
        flow: flow(Transport::Tcp, SocketAddr::new(ip.parse().unwrap(), 1000), id),
        outbox: mpsc::channel(1).0,
        opened: false,
    };
    let table = [
        ("192.0.2.1", Admission::Stranger, true),
        ("192.0.2.1", Admission::Stranger, true),
        ("192.0.2.1", Admission::Stranger, false),
        ("::ffff:192.0.2.1", Admission::Stranger, false),
        ("192.0.2.2", Admission::Stranger, true),
        // One /64 is one subscriber.
        ("2001:db8::1", Admission::Stranger, true),
        ("2001:db8::2", Admission::Stranger, true),
        ("2001:db8::3", Admission::Stranger, false),
        ("2001:db8:0:1::3", Admission::Stranger, true),
        ("192.0.2.1", Admission::Peer, true),
        ("192.0.2.9", Admission::Refused, false),
    ];
    for (id, (ip, admission, expected)) in (1..).zip(table) {
        assert_eq!(
            side.connections.accepted(Instant::now(), at(ip, id), admission, || |_| false),
            expected,
            "{id}: {ip}"
        );
    }
    side.connections.closed(at("192.0.2.1", 1).flow);
    assert!(side.connections.accepted(Instant::now(), at("192.0.2.1", 99), Admission::Stranger, || |_| false));
}

/// A browser's WebSocket over which it neither registers nor calls is closed, and is counted until it does.
#[tokio::test]
async fn websockets_that_never_register_are_few_from_one_source_and_not_kept() {
    let mut side = Side::new(quick());
    let begun = Instant::now();
    let at = |id| Connection {
        flow: flow(Transport::Wss, SocketAddr::new([192, 0, 2, 1].into(), 1000 + id as u16), id),
        outbox: mpsc::channel(1).0,
        opened: false,
    };
    let registered = at(1).flow;
    let uses = || move |flow| flow == registered;
    let opens = |side: &mut Side, id| side.connections.accepted(begun, at(id), Admission::Stranger, uses);
    assert_eq!([1, 2, 3, 4].map(|id| opens(&mut side, id)), [true, true, true, false], "the first one has registered");
    let within = quick().known_within;
    for ms in [0, 30_000, 59_000] {
        // It says something all the time.
        let now = begun + Duration::from_millis(ms);
        side.connections.heard(now, at(2).flow);
        side.connections.sweep(now, uses());
    }
    assert_eq!(side.connections.by_id.len(), 3);
    side.connections.heard(begun + within, at(1).flow);
    side.connections.sweep(begun + within, |_| false);
    assert_eq!(side.connections.by_id.keys().collect::<Vec<_>>(), [&1], "one that was registered is no stranger");
    assert!(opens(&mut side, 5));
}

/// A slow loris: a message that never ends, byte by byte.
#[tokio::test]
async fn a_message_must_arrive_whole_in_time() {
    let mut side = Side::new(quick());
    let at = side.listen(quick(), None).await;
    let mut peer = TcpStream::connect(at).await.unwrap();
    let (mut reader, mut writer) = peer.split();
    let begin = Instant::now();
    let drip = async {
        // CRLFs alone are no message, and no reason to close.
        for byte in
            b"\r\n\r\n\r\nOPTIONS sip:a@b SIP/2.0\r\nSubject: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        {
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut rest = Vec::new();
        let _ = reader.read_to_end(&mut rest).await;
    };
    let (_, input) = tokio::join!(drip, side.input());
    assert!(matches!(input, Input::SipFailed { .. }), "{input:?}");
    assert!(begin.elapsed() >= quick().message_within);
}

#[tokio::test]
async fn a_peer_that_does_not_read_loses_its_connection_and_nobody_waits_for_it() {
    let mut side = Side::new(Limits { within: Duration::from_millis(300), ..quick() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = flow(Transport::Tcp, listener.local_addr().unwrap(), 0);
    // More than any socket buffer holds; the outbox takes it at once or says no.
    let piece = vec![b'x'; 60_000];
    let mut taken = 0;
    for _ in 0..OUTBOX + 2 {
        taken += usize::from(side.send(to, &piece));
    }
    assert!((OUTBOX..OUTBOX + 2).contains(&taken), "{taken}");
    let (_unread, _) = listener.accept().await.unwrap();
    let input = side.input().await;
    assert!(matches!(input, Input::SipFailed { .. }), "{input:?}");
}

/// RFC 5626 section 4.4.1.
#[tokio::test]
async fn keep_alives_go_out_and_a_peer_that_answered_once_must_go_on_answering() {
    let mut side = Side::new(quick());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = flow(Transport::Tcp, listener.local_addr().unwrap(), 0);
    side.send(to, b"first");
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.read_exact(&mut [0; 5]).await.unwrap();
    let mut ping = [0; 4];
    // Long beyond the time for an answer: it never gave one, so it need not.
    let begin = Instant::now();
    while begin.elapsed() < 2 * quick().pong_within {
        timeout(PATIENCE, stream.read_exact(&mut ping)).await.unwrap().unwrap();
        assert_eq!(&ping, b"\r\n\r\n");
    }
    stream.write_all(b"\r\n").await.unwrap();
    let (input, _) = tokio::join!(side.input(), closes(&mut stream));
    assert!(matches!(input, Input::SipFailed { .. }), "{input:?}");
}

#[tokio::test]
async fn a_peers_keep_alive_is_answered_by_one_crlf() {
    let mut side = Side::new(quick());
    let at = side.listen(quick(), None).await;
    let mut peer = TcpStream::connect(at).await.unwrap();
    peer.write_all(b"\r\n\r\n").await.unwrap();
    let mut pong = [0; 2];
    let read = async { timeout(PATIENCE, peer.read_exact(&mut pong)).await.unwrap().unwrap() };
    tokio::select! {
        _ = read => {}
        input = side.input() => panic!("{input:?}"),
    }
    assert_eq!(&pong, b"\r\n");
}

/// RFC 5923: an accepted connection whose Via says `alias` is taken for requests to that Via's port.
#[tokio::test]
async fn a_connection_is_reused_for_requests_to_its_peer() {
    let mut side = Side::new(quick());
    let at = side.listen(quick(), None).await;
    let mut peer = TcpStream::connect(at).await.unwrap();
    peer.write_all(REQUEST).await.unwrap();
    let Input::Sip { .. } = side.input().await else { panic!("the request") };
    assert!(side.send(flow(Transport::Tcp, "127.0.0.1:5099".parse().unwrap(), 0), b"INVITE"));
    let mut request = [0; 6];
    timeout(PATIENCE, peer.read_exact(&mut request)).await.unwrap().unwrap();
    assert_eq!((&request, side.connections.by_id.len()), (b"INVITE", 1));
    // Nothing of it stays when it ends.
    drop(peer);
    let Input::SipClosed { .. } = side.input().await else { panic!("its end") };
    assert!(side.connections.by_peer.is_empty());
}

#[tokio::test]
async fn what_nothing_uses_is_closed_after_a_time_and_what_leads_to_a_trunk_stays() {
    let mut side = Side::new(quick());
    let at = side.listen(quick(), None).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let trunk = listener.local_addr().unwrap();
    let target = Target { transport: Transport::Tcp, remote: trunk, local: at, server_name: None };
    side.connections.resolved("carrier", [&target].into_iter());
    side.send(flow(Transport::Tcp, trunk, 0), b"x");
    let (mut used, mut unused) = (TcpStream::connect(at).await.unwrap(), TcpStream::connect(at).await.unwrap());
    used.write_all(REQUEST).await.unwrap();
    let Input::Sip { flow: in_use, .. } = side.input().await else { panic!("the request") };
    unused.write_all(REQUEST).await.unwrap();
    let Input::Sip { .. } = side.input().await else { panic!("the request") };
    assert_eq!(side.connections.by_id.len(), 3);
    let now = Instant::now();
    let using = |flow| flow == in_use;
    side.connections.sweep(now, using);
    assert_eq!(side.connections.by_id.len(), 3);
    side.connections.sweep(now + Limits::default().idle, using);
    assert_eq!(side.connections.by_id.len(), 2);
    assert!(closes(&mut unused).await);
    side.connections.sweep(now + Limits::default().idle, |_| false);
    assert!(closes(&mut used).await);
    assert_eq!(side.connections.by_id.len(), 1);
}

struct Certificates {
    server: TlsServer,
    client: TlsClient,
    _folder: tempfile::TempDir,
}

fn certificates(name: &str) -> Certificates {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = TlsServer::new(Identity::read(&chain, &key).unwrap(), None).unwrap();
    let roots = crate::net::tls::read_certificates(&chain).unwrap();
    let client = TlsClient::new(Trust::Own(roots), None, None).unwrap();
    Certificates { server, client, _folder: folder }
}

#[tokio::test]
async fn tls_carries_messages_both_ways() {
    let made = certificates("127.0.0.1");
    let mut server = Side::new(quick());
    let at = server.listen(quick(), Some(made.server.clone())).await;
    let mut client = Side::with(Limits { keep_alive: PATIENCE, ..quick() }, Some(made.client.clone()));
    let to = flow(Transport::Tls, at, 0);
    assert!(client.send(to, REQUEST));
    let Input::Sip { flow: came, bytes } = server.input().await else { panic!("the request") };
    assert_eq!((bytes.as_slice(), came.transport, came.local), (REQUEST, Transport::Tls, at));
    // A long one, so that TLS needs several records and several writes.
    let long = [b"SIP/2.0 200 OK\r\nContent-Length: 60000\r\n\r\n".as_slice(), &[b'x'; 60_000]].concat();
    assert!(server.send(came, &long));
    let Input::Sip { bytes, .. } = client.input().await else { panic!("the response") };
    assert_eq!(bytes, long);
    // Unless clients show who they are, `alias` means nothing over TLS (RFC 5923 section 9).
    assert!(server.connections.by_peer.is_empty());
}

#[tokio::test]
async fn a_certificate_that_is_not_good_fails_the_flow() {
    let (made, other) = (certificates("127.0.0.1"), certificates("127.0.0.1"));
    let mut server = Side::new(quick());
    let at = server.listen(quick(), Some(made.server)).await;
    let mut client = Side::with(quick(), Some(other.client));
    let wanted = flow(Transport::Tls, at, 0);
    assert!(client.send(wanted, REQUEST));
    let (input, at_server) = tokio::join!(client.input(), server.input());
    assert!(matches!(input, Input::SipFailed { flow } if flow == wanted), "{input:?}");
    assert!(matches!(at_server, Input::SipFailed { .. }), "{at_server:?}");
    assert!(server.connections.by_id.is_empty());
    // Nothing to verify by at all: nothing is opened.
    assert!(!Side::new(quick()).send(wanted, REQUEST));
}

#[tokio::test]
async fn a_handshake_has_its_time() {
    let made = certificates("127.0.0.1");
    let limits = Limits { within: Duration::from_millis(200), ..quick() };
    let mut server = Side::new(limits);
    let at = server.listen(limits, Some(made.server)).await;
    let mut silent = TcpStream::connect(at).await.unwrap();
    let (input, closed) = tokio::join!(server.input(), closes(&mut silent));
    assert!(closed && matches!(input, Input::SipFailed { .. }), "{input:?}");
    // A server that never answers the handshake.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let wanted = flow(Transport::Tls, listener.local_addr().unwrap(), 0);
    let mut client = Side::with(limits, Some(made.client));
    assert!(client.send(wanted, REQUEST));
    let (_held, _) = listener.accept().await.unwrap();
    let input = client.input().await;
    assert!(matches!(input, Input::SipFailed { flow } if flow == wanted), "{input:?}");
}

#[tokio::test]
async fn garbage_ends_its_own_tls_connection_only() {
    let made = certificates("127.0.0.1");
    let mut server = Side::new(quick());
    let at = server.listen(quick(), Some(made.server)).await;
    let mut plain = TcpStream::connect(at).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let (input, _) = tokio::join!(server.input(), closes(&mut plain));
    assert!(matches!(input, Input::SipFailed { .. }), "{input:?}");
    let stream = TcpStream::connect(at).await.unwrap();
    let name = made.client.server_name("127.0.0.1").unwrap();
    let connect = async {
        let mut stream = TlsConnector::from(made.client.config()).connect(name, stream).await.unwrap();
        stream.write_all(&[b'a'; 70_000]).await.unwrap();
        stream.flush().await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    };
    let (_, input) = tokio::join!(connect, server.input());
    assert!(matches!(input, Input::SipFailed { .. }), "{input:?}");
}

/// One address cannot be verified in two ways.
#[tokio::test]
async fn two_trunks_at_one_tls_address_agree_or_the_second_is_left_out() {
    let (one, two) = (certificates("a.example"), certificates("a.example"));
    let (tasks, _queues) = Tasks::new();
    let clients = [("one", &one.client), ("same", &one.client), ("two", &two.client)];
    let clients = clients.map(|(name, client)| (name.to_owned(), client.clone())).into();
    let mut connections = Connections::new(tasks, quick(), clients, None, [7; 32]);
    let remote: SocketAddr = "192.0.2.1:5061".parse().unwrap();
    let target = |name: &str| Target {
        transport: Transport::Tls,
        remote,
        local: "192.0.2.9:0".parse().unwrap(),
        server_name: Some(name.to_owned()),
    };
    let mut resolved = |trunk, name| connections.resolved(trunk, [&target(name)].into_iter());
    assert!(resolved("one", "a.example").is_empty() && resolved("same", "a.example").is_empty());
    assert_eq!(resolved("two", "a.example"), [remote]);
    assert_eq!(resolved("same", "b.example"), [remote]);
    assert!(resolved("one", "a.example").is_empty(), "its own earlier word is no contradiction");
    assert_eq!(resolved("unknown", "a.example"), [remote]);
}

/// Two accounts with one carrier: when the DNS moved the first one away, the second was verified by the wrong name.
#[tokio::test]
async fn an_address_of_two_trunks_stays_known_when_one_moves_away() {
    let strict = TlsClient::new(Trust::Own(Vec::new()), None, None).unwrap();
    let lax = TlsClient::new(Trust::Anyone, None, None).unwrap();
    let clients = [("one", &strict), ("two", &strict), ("lax", &lax)].map(|(name, c)| (name.to_owned(), c.clone()));
    let (tasks, _queues) = Tasks::new();
    let mut connections = Connections::new(tasks, quick(), HashMap::from(clients), None, [7; 32]);
    let address = |port| SocketAddr::from(([192, 0, 2, 1], port));
    let target = |remote| Target {
        transport: Transport::Tls,
        remote,
        local: "192.0.2.9:5061".parse().unwrap(),
        server_name: Some("a.example".into()),
    };
    for (trunk, port) in [("one", 5061), ("two", 5061), ("one", 5071), ("lax", 5081)] {
        assert!(connections.resolved(trunk, [&target(address(port))].into_iter()).is_empty());
    }
    connections.tls_peers.remove(&address(5071));
    let (client, name) = connections.tls_peer(address(5061)).unwrap();
    assert!(client.verifies() && name == "a.example");
    // Another port of the host is verified by what the trunks there ask for, not by the one that asks for nothing.
    assert!(connections.tls_peer(address(5091)).unwrap().0.verifies());
    assert!(!connections.tls_peer(address(5081)).unwrap().0.verifies());
}

fn target_at(remote: SocketAddr) -> Target {
    Target {
        transport: Transport::Tls,
        remote,
        local: "127.0.0.1:5061".parse().unwrap(),
        server_name: Some("a.example".into()),
    }
}

/// Two accounts with one carrier, and a renewed tls_ca for both: the first to be looked up again does not differ from what
/// the second was before.
#[tokio::test]
async fn a_reload_renews_both_trunks_at_one_tls_address() {
    let (before, after) = (certificates("a.example"), certificates("a.example"));
    let clients =
        |made: &Certificates| HashMap::from(["one", "two"].map(|name| (name.to_owned(), made.client.clone())));
    let (tasks, _queues) = Tasks::new();
    let mut connections = Connections::new(tasks, quick(), clients(&before), None, [7; 32]);
    let remote: SocketAddr = "192.0.2.1:5061".parse().unwrap();
    for trunk in ["one", "two"] {
        assert!(connections.resolved(trunk, [&target_at(remote)].into_iter()).is_empty());
    }
    connections.reload(clients(&after), |_| true);
    assert!(connections.tls_peer(remote).unwrap().0.is_as(&after.client), "from the next connection on");
    for trunk in ["one", "two"] {
        assert!(connections.resolved(trunk, [&target_at(remote)].into_iter()).is_empty(), "{trunk}");
    }
}

#[tokio::test]
async fn a_reload_that_verifies_closes_what_was_opened_without() {
    let made = certificates("a.example");
    let server = Side::new(quick());
    let at = server.listen(quick(), Some(made.server.clone())).await;
    let lax = TlsClient::new(Trust::Anyone, None, None).unwrap();
    let clients = |client: &TlsClient| HashMap::from([("one".to_owned(), client.clone())]);
    let mut side = Side::new(quick());
    side.connections.reload(clients(&lax), |_| true);
    assert!(side.connections.resolved("one", [&target_at(at)].into_iter()).is_empty());
    assert!(side.send(flow(Transport::Tls, at, 0), REQUEST));
    side.connections.reload(clients(&lax), |_| true);
    assert_eq!(side.connections.by_id.len(), 1, "nothing is otherwise");
    side.connections.reload(clients(&made.client), |_| true);
    assert!(side.connections.by_id.is_empty() && side.connections.by_peer.is_empty());
    assert!(side.send(flow(Transport::Tls, at, 0), REQUEST));
    side.connections.reload(clients(&made.client), |_| true);
    assert_eq!(side.connections.by_id.len(), 1, "a verified one stays");
}
