#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// A root that signs.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    params.distinguished_name.push(DnType::CommonName, format!("root {:02x?}", &key.public_key_raw()[1..9]));
    CertifiedIssuer::self_signed(params, key).unwrap()
}

/// What a server's certificate says of it.
#[derive(Default)]
struct Says {
    dns: &'static [&'static str],
    uri: &'static [&'static str],
    common_name: &'static str,
    expired: bool,
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A certificate signed by `ca`, read back from files.
    fn identity(&self, ca: &CertifiedIssuer<'static, KeyPair>, says: &Says) -> Identity {
        let mut params =
            CertificateParams::new(says.dns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        for uri in says.uri {
            params.subject_alt_names.push(SanType::URI(Ia5String::try_from(*uri).unwrap()));
        }
        params.distinguished_name.push(DnType::CommonName, says.common_name);
        if says.expired {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, ca).unwrap();
        let chain = self.write("chain.pem", &certificate.pem());
        Identity::read(&chain, &self.write("key.pem", &key.serialize_pem())).unwrap()
    }

    fn roots(&self, ca: &CertifiedIssuer<'static, KeyPair>) -> Vec<CertificateDer<'static>> {
        read_certificates(&self.write("ca.pem", &ca.pem())).unwrap()
    }
}

/// One handshake and one byte each way; what the client says to it.
async fn shake(server: &TlsServer, client: &TlsClient, looked_up: &str) -> Result<(), String> {
    let (near, far) = duplex(64 * 1024);
    let name = client.server_name(looked_up).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(client.config());
    let acceptor = TlsAcceptor::from(server.config());
    let serve = async {
        let mut stream = acceptor.accept(far).await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        let _ = stream.read(&mut [0]).await; // until the client is done
        std::io::Result::Ok(())
    };
    let call = async {
        let mut stream = connector.connect(name, near).await?;
        stream.read_exact(&mut [0]).await.map(|_| ())
    };
    let (served, called) = tokio::join!(serve, call);
    called.map_err(|error| error.to_string())?;
    served.map_err(|error| error.to_string())
}

/// RFC 5922 section 7: which certificates are those of `sip.example.com`.
#[tokio::test]
async fn a_server_must_be_the_domain_that_was_called() {
    let dns = |dns| Says { dns, ..Says::default() };
    let uri = |uri| Says { uri, ..Says::default() };
    let table = [
        (dns(&["sip.example.com"]), true),
        (dns(&["other.example.com", "SIP.Example.com"]), true),
        (dns(&["*.example.com"]), true),
        (dns(&["example.com"]), false),
        (dns(&["sip.example.com.evil.example"]), false),
        (uri(&["sip:sip.example.com"]), true),
        (uri(&["sip:SIP.example.com"]), true),
        (uri(&["sip:alice@sip.example.com"]), false),
        (uri(&["sips:sip.example.com"]), false),
        (uri(&["https://sip.example.com"]), false),
        // The common name counts only where there is no alternative name at all.
        (Says { common_name: "sip.example.com", ..Says::default() }, true),
        (Says { common_name: "sip.example.com", dns: &["other.example.com"], ..Says::default() }, false),
        (Says { common_name: "*.example.com", ..Says::default() }, false),
        (Says { dns: &["sip.example.com"], expired: true, ..Says::default() }, false),
    ];
    let ca = authority();
    for (says, good) in table {
        let folder = Folder::new();
        let server = TlsServer::new(folder.identity(&ca, &says), None).unwrap();
        let client = TlsClient::new(Trust::Own(folder.roots(&ca)), None, None).unwrap();
        let result = shake(&server, &client, "sip.example.com").await;
        assert_eq!(result.is_ok(), good, "{:?} {:?} {}: {result:?}", says.dns, says.uri, says.common_name);
    }
}

#[tokio::test]
async fn an_unknown_root_is_refused_unless_nothing_is_verified() {
    let (folder, other) = (Folder::new(), Folder::new());
    let server = TlsServer::new(folder.identity(&authority(), &Says { dns: &["a.example"], ..Says::default() }), None);
    let server = server.unwrap();
    let strict = TlsClient::new(Trust::Own(other.roots(&authority())), None, None).unwrap();
    let refused = shake(&server, &strict, "a.example").await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    assert!(strict.verifies());
    let lax = TlsClient::new(Trust::Anyone, None, None).unwrap();
    assert_eq!(shake(&server, &lax, "whoever.example").await, Ok(()));
    assert!(!lax.verifies());
}

/// `tls_ca` may be the peer's own certificate, as many a PBX has made one for itself.
#[tokio::test]
async fn a_certificate_that_was_named_itself_is_known_by_its_key() {
    let folder = Folder::new();
    let says = Says { common_name: "pbx", expired: true, ..Says::default() };
    let server = TlsServer::new(folder.identity(&authority(), &says), None).unwrap();
    let own = read_certificates(&folder.0.path().join("chain.pem")).unwrap();
    let client = TlsClient::new(Trust::Own(own), None, None).unwrap();
    assert_eq!(shake(&server, &client, "192.0.2.1").await, Ok(()));
}

/// One certificate in `tls_ca` that webpki does not take as a root made the others of no use, and nobody said so.
#[tokio::test]
async fn a_certificate_that_is_no_root_does_not_spoil_the_others() {
    let (folder, ca) = (Folder::new(), authority());
    let server = TlsServer::new(folder.identity(&ca, &Says { dns: &["a.example"], ..Says::default() }), None).unwrap();
    let mut trusted = vec![CertificateDer::from(vec![0x30, 0])];
    trusted.extend(folder.roots(&ca));
    let client = TlsClient::new(Trust::Own(trusted), None, None).unwrap();
    assert_eq!(shake(&server, &client, "a.example").await, Ok(()));
    assert!(shake(&server, &client, "b.example").await.is_err());
}

#[tokio::test]
async fn another_name_may_be_said_and_addresses_are_names_too() {
    let ca = authority();
    let folder = Folder::new();
    let server =
        TlsServer::new(folder.identity(&ca, &Says { dns: &["pbx.example"], ..Says::default() }), None).unwrap();
    let roots = || Trust::Own(folder.roots(&ca));
    let named = TlsClient::new(roots(), Some("pbx.example".into()), None).unwrap();
    assert_eq!(shake(&server, &named, "192.0.2.1").await, Ok(()));
    let plain = TlsClient::new(roots(), None, None).unwrap();
    assert!(shake(&server, &plain, "192.0.2.1").await.is_err());
    for address in ["192.0.2.1", "2001:db8::1", "[2001:db8::1]", "sip.example.com."] {
        assert!(plain.server_name(address).is_ok(), "{address}");
    }
    assert!(matches!(plain.server_name("not a name"), Err(TlsError::Name(_))));
    assert!(TlsClient::new(roots(), Some("not a name".into()), None).is_err());
}

#[tokio::test]
async fn a_listener_that_asks_lets_in_only_whom_its_authority_signed() {
    let (ours, theirs) = (authority(), authority());
    let (folder, friend, stranger) = (Folder::new(), Folder::new(), Folder::new());
    let identity = folder.identity(&ours, &Says { dns: &["gw.example"], ..Says::default() });
    let server = TlsServer::new(identity, Some(friend.roots(&theirs))).unwrap();
    assert!(server.authenticates());
    let client = |identity| TlsClient::new(Trust::Own(folder.roots(&ours)), None, identity).unwrap();
    let friendly = friend.identity(&theirs, &Says { dns: &["peer.example"], ..Says::default() });
    assert_eq!(shake(&server, &client(Some(friendly)), "gw.example").await, Ok(()));
    assert!(shake(&server, &client(None), "gw.example").await.is_err());
    let strange = stranger.identity(&authority(), &Says { dns: &["peer.example"], ..Says::default() });
    assert!(shake(&server, &client(Some(strange)), "gw.example").await.is_err());
}

#[test]
fn files_that_are_of_no_use_are_told_by_name() {
    let folder = Folder::new();
    let ca = authority();
    let says = Says { dns: &["a.example"], ..Says::default() };
    folder.identity(&ca, &says);
    let path = |name: &str| folder.0.path().join(name);
    let other = folder.write("other.pem", &KeyPair::generate().unwrap().serialize_pem());
    let empty = folder.write("empty.pem", "nothing here\n");
    let broken = folder.write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let table = [
        (path("none.pem"), path("key.pem"), "none.pem cannot be read"),
        (empty.clone(), path("key.pem"), "empty.pem has no certificate"),
        (broken, path("key.pem"), "broken.pem is damaged"),
        (path("chain.pem"), empty, "empty.pem has no private key"),
        (path("chain.pem"), other, "other.pem is not that of the certificate in"),
    ];
    for (certificate, key, words) in table {
        let error = Identity::read(&certificate, &key).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// Keys never in a log.
#[test]
fn debug_shows_no_key() {
    let folder = Folder::new();
    let identity = folder.identity(&authority(), &Says { dns: &["a.example"], ..Says::default() });
    let shown = format!("{identity:?} {:?}", TlsServer::new(identity.clone(), None).unwrap());
    assert!(shown.contains("chain.pem") && !shown.contains("key"), "{shown}");
    let client = TlsClient::new(Trust::Anyone, None, Some(identity)).unwrap();
    assert!(!format!("{client:?}").contains("key"), "{client:?}");
}
