//! HTTPS by the gateway itself.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use tempfile::TempDir;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{Gateway, PATIENCE};

#[test]
fn with_a_certificate_it_is_https_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(folder.path().join("chain.pem"), made.cert.pem()).unwrap();
    fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::create_dir(folder.path().join("dialplans")).unwrap();
    fs::write(folder.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
    let file = folder.path().join("ringback.toml");
    let config = "[http]\ntls_certificate = \"chain.pem\"\ntls_key = \"key.pem\"\n[sip]\nudp = [\"127.0.0.1:0\"]\n\
        [media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\nrtp_ports = \"24100-24199\"\n[auth]\nopen = true\n\
        [trunk.testphone]\naddress = \"127.0.0.1:5070\"\noptions = 0\n";
    fs::write(&file, config).unwrap();
    let gateway = Gateway::configured(&file);
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let ask = |stream: &mut dyn ReadWrite| {
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer); // the end of a TLS stream may be told or not
        String::from_utf8_lossy(&answer).into_owned()
    };
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let session = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
    let answer = ask(&mut StreamOwned::new(session, connect()));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
    assert!(!ask(&mut connect()).contains("HTTP/1.1"), "nothing is told in the clear");
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}
