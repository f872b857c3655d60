//! The ways to a trunk, through the running program: UDP, TCP and TLS, IPv4 and IPv6, and by the DNS.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use hickory_resolver::proto::op::{Message, MessageType};
use hickory_resolver::proto::rr::rdata::{A, NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs};

use crate::support::{Gateway, PATIENCE, busy, call_is_refused, refuse_datagram};

/// A gateway with the trunk `testphone`, bound to `host` alone.
pub fn gateway(host: &str, sip: &str, trunk: &str, files: &[(&str, String)]) -> (TempDir, Gateway) {
    let sip = format!("udp = [\"{host}:0\"]\ntcp = [\"{host}:0\"]\n{sip}");
    gateway_with(&sip, host.trim_matches(['[', ']']), trunk, files)
}

/// The same with these keys in `[sip]`.
pub fn gateway_with(sip: &str, rtp: &str, trunk: &str, files: &[(&str, String)]) -> (TempDir, Gateway) {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("dialplans")).unwrap();
    fs::write(dir.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let config = format!(
        "[sip]\n{sip}\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"{rtp}\"\nrtp_ports = \"23200-23299\"\n\
         [auth]\nopen = true\n[trunk.testphone]\noptions = 0\n{trunk}\n"
    );
    let file = dir.path().join("ringback.toml");
    fs::write(&file, config).unwrap();
    let gateway = Gateway::configured(&file);
    (dir, gateway)
}

/// Reads one INVITE from a stream and refuses it.
fn refuse_on(mut stream: impl Read + Write) -> String {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let len = stream.read(&mut buffer).expect("an INVITE");
        assert!(len > 0, "closed: {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&buffer[..len]);
        let text = String::from_utf8_lossy(&read).into_owned();
        if text.contains("INVITE") && text.contains("m=audio") {
            stream.write_all(busy(&text).as_bytes()).unwrap();
            stream.flush().unwrap();
            let _ = stream.read(&mut buffer); // the ACK
            return text;
        }
    }
}

fn says(invite: &str, transport: &str, host: &str) {
    let line = |name: &str| invite.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("Via:").contains(&format!("SIP/2.0/{transport} {host}:")), "{invite}");
    assert!(line("Contact:").contains(&format!("@{host}:")), "{invite}");
    let version = if host.starts_with('[') { "IP6" } else { "IP4" };
    assert!(invite.contains(&format!("c=IN {version} {}\r\n", host.trim_matches(['[', ']']))), "{invite}");
}

#[test]
fn by_udp_over_ipv6() {
    let peer = UdpSocket::bind("[::1]:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let trunk = format!("address = \"{}\"", peer.local_addr().unwrap());
    let (_dir, gateway) = gateway("[::1]", "", &trunk, &[]);
    let phone = std::thread::spawn(move || refuse_datagram(&peer));
    call_is_refused(&gateway);
    says(&phone.join().unwrap(), "UDP", "[::1]");
}

#[test]
fn by_tcp_over_ipv6() {
    let peer = TcpListener::bind("[::1]:0").unwrap();
    let trunk = format!("address = \"{}\"\ntransport = \"tcp\"", peer.local_addr().unwrap());
    let (_dir, gateway) = gateway("[::1]", "", &trunk, &[]);
    let phone = std::thread::spawn(move || refuse_on(peer.accept().unwrap().0));
    call_is_refused(&gateway);
    let invite = phone.join().unwrap();
    says(&invite, "TCP", "[::1]");
    assert!(invite.contains(";alias"), "{invite}");
}

/// A certificate for that name and its key, both PEM, and what a server shows with them.
pub fn certificate(name: &str) -> (String, String, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (pem, secret) = (made.cert.pem(), made.signing_key.serialize_pem());
    let key = PrivateKeyDer::from_pem_slice(secret.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![made.cert.der().clone()], key).unwrap());
    (pem, secret, config)
}

/// A TLS peer that is `name`, on that address; what it was asked.
fn tls_peer(at: &str, name: &str) -> (SocketAddr, String, std::thread::JoinHandle<String>) {
    let (pem, _, config) = certificate(name);
    let listener = TcpListener::bind(at).unwrap();
    let address = listener.local_addr().unwrap();
    let phone = std::thread::spawn(move || {
        let stream = listener.accept().unwrap().0;
        refuse_on(StreamOwned::new(ServerConnection::new(config).unwrap(), stream))
    });
    (address, pem, phone)
}

#[test]
fn by_tls_over_both_families() {
    for (at, host) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "[::1]")] {
        let (address, pem, phone) = tls_peer(at, "pbx.example");
        let keys = "transport = \"tls\"\ntls_ca = \"ca.pem\"\ntls_name = \"pbx.example\"";
        let trunk = format!("address = \"{address}\"\n{keys}");
        let (_dir, gateway) = gateway(host, "", &trunk, &[("ca.pem", pem)]);
        call_is_refused(&gateway);
        says(&phone.join().unwrap(), "TLS", host);
    }
}

/// A name server for `carrier.test`: NAPTR to SRV to two servers, of which `first` comes first.
fn name_server(first: u16, second: u16) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let Ok(query) = Message::from_vec(&buffer[..len]) else { continue };
            let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
            reply.metadata.message_type = MessageType::Response;
            reply.metadata.authoritative = true;
            for question in &query.queries {
                reply.add_query(question.clone());
                for data in records(&question.name().to_string(), question.query_type(), first, second) {
                    reply.add_answer(Record::from_rdata(question.name().clone(), 60, data));
                }
            }
            let _ = socket.send_to(&reply.to_vec().unwrap(), from);
        }
    });
    address
}

fn records(name: &str, kind: RecordType, first: u16, second: u16) -> Vec<RData> {
    let text = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
    let host = |name: &str| Name::from_ascii(name).unwrap();
    match (name, kind) {
        ("carrier.test.", RecordType::NAPTR) => {
            let next = host("_sip._udp.carrier.test.");
            vec![RData::NAPTR(NAPTR::new(10, 10, text("s"), text("SIP+D2U"), text(""), next))]
        }
        ("_sip._udp.carrier.test.", RecordType::SRV) => vec![
            RData::SRV(SRV::new(20, 1, second, host("b.carrier.test."))),
            RData::SRV(SRV::new(10, 1, first, host("a.carrier.test."))),
        ],
        ("a.carrier.test." | "b.carrier.test.", RecordType::A) => vec![RData::A(A::new(127, 0, 0, 1))],
        _ => Vec::new(),
    }
}

#[test]
fn by_the_dns_and_past_a_server_that_is_dead() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    // Bound and never read: silence, as of a host that is down.
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    let dns = format!("dns = [\"{}\"]", name_server(port(&dead), port(&peer)));
    let (_dir, gateway) = gateway("127.0.0.1", &dns, "address = \"carrier.test\"", &[]);
    let phone = std::thread::spawn(move || refuse_datagram(&peer));
    call_is_refused(&gateway);
    let invite = phone.join().unwrap();
    assert!(invite.starts_with("INVITE sip:"), "{invite}");
    dead.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    let (len, from) = dead.recv_from(&mut buffer).expect("the first server was asked first");
    assert!(buffer[..len].starts_with(b"INVITE") && from.ip() == IpAddr::from([127, 0, 0, 1]));
}
