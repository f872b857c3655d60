//! A TLS terminator beside a SIPp, which speaks no TLS itself: bytes are passed on as they are. Both certificates are
//! verified: the gateway does so by `tls_ca` and `tls_name`, the terminator by the gateway's own certificate.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::peer::gateway::free_port;

const PEER: &str = "pbx.example";
const GATEWAY: &str = "gateway.example";

/// What is decided before anything runs: certificates and addresses.
pub struct Tls {
    folder: TempDir,
    listener: std::net::TcpListener,
    /// Where the terminator listens.
    pub address: SocketAddr,
    /// Where the gateway listens for TLS.
    gateway: SocketAddr,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

/// A terminator that works until this is dropped.
pub struct Terminator {
    _tasks: JoinSet<()>,
    _folder: TempDir,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A certificate and its key, as files too.
fn identity(folder: &TempDir, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    std::fs::write(folder.path().join(format!("{name}.pem")), certificate).expect("a file");
    std::fs::write(folder.path().join(format!("{name}.key")), &key).expect("a file");
    (made.cert.der().clone(), PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key"))
}

impl Tls {
    pub fn new(ip: IpAddr) -> Tls {
        let folder = tempfile::tempdir().expect("a folder");
        let (peer, key) = identity(&folder, PEER);
        let (gateway, _) = identity(&folder, GATEWAY);
        let server = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let server = server.expect("TLS").with_no_client_auth().with_single_cert(vec![peer], key).expect("an identity");
        let mut roots = RootCertStore::empty();
        roots.add(gateway).expect("a certificate");
        let client = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let client = client.expect("TLS").with_root_certificates(roots).with_no_client_auth();
        let listener = std::net::TcpListener::bind((ip, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a listener");
        Tls {
            address: listener.local_addr().expect("an address"),
            gateway: SocketAddr::new(ip, free_port()),
            acceptor: Arc::new(server).into(),
            connector: Arc::new(client).into(),
            folder,
            listener,
        }
    }

    fn file(&self, name: &str, kind: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.{kind}"))
    }

    /// Further keys of `[sip]`.
    pub fn sip_keys(&self) -> String {
        let (certificate, key) = (self.file(GATEWAY, "pem"), self.file(GATEWAY, "key"));
        format!("tls = [\"{}\"]\ntls_certificate = {certificate:?}\ntls_key = {key:?}\n", self.gateway)
    }

    /// Further keys of the trunk.
    pub fn trunk_keys(&self) -> String {
        format!("tls_name = \"{PEER}\"\ntls_ca = {:?}\n", self.file(PEER, "pem"))
    }

    /// The gateway connects by TLS, the phone is reached by TCP.
    pub fn before_phone(self, phone: SocketAddr) -> Terminator {
        let (listener, acceptor) = (self.listener, self.acceptor);
        terminator(self.folder, async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let mut secured = acceptor.accept(stream).await.expect("the gateway takes our certificate");
                let mut plain = TcpStream::connect(phone).await.expect("the phone listens");
                let _ = copy_bidirectional(&mut secured, &mut plain).await; // closed by either
            }
        })
    }

    /// The caller connects by TCP, the gateway is reached by TLS.
    pub fn behind_caller(self) -> Terminator {
        let (listener, connector, gateway) = (self.listener, self.connector, self.gateway);
        terminator(self.folder, async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((mut plain, _)) = listener.accept().await {
                let stream = TcpStream::connect(gateway).await.expect("the gateway listens");
                let name = ServerName::try_from(GATEWAY).expect("a name");
                let mut secured = connector.connect(name, stream).await.expect("the gateway's certificate is good");
                let _ = copy_bidirectional(&mut secured, &mut plain).await; // closed by either
            }
        })
    }
}

/// One connection after another: a SIPp in mode `t1` has one at a time.
fn terminator(folder: TempDir, work: impl Future<Output = ()> + Send + 'static) -> Terminator {
    let mut tasks = JoinSet::new();
    tasks.spawn(work);
    Terminator { _tasks: tasks, _folder: folder }
}
