//! HTTPS by the gateway itself.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use crate::reload::{Folder, connect};
use crate::support::{Gateway, OFFER, PATIENCE};
use crate::uas::Uas;

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

/// A page's session goes on over the connection that it has, whatever certificate is shown from then on.
#[test]
fn a_certificate_is_rotated_under_a_page_that_is_in_a_call() {
    let uas = Uas::udp();
    let folder = Folder::new(uas.address, "", 25_700);
    let tls = "tls_certificate = \"cert.pem\"\ntls_key = \"key.pem\"\n[sip]";
    let put = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        folder.write("key.pem", &made.signing_key.serialize_pem());
        folder.write("cert.pem", &made.cert.pem());
        made.cert.der().to_vec()
    };
    let first = put();
    folder.write("ringback.toml", &folder.config.replace("[sip]", tls));
    let gateway = Gateway::configured(&folder.file());
    let door = SocketAddr::from(([127, 0, 0, 1], gateway.port()));
    let (stream, shown) = connect(door);
    assert_eq!(shown, first);
    let mut request = format!("wss://localhost:{}/phone", gateway.port()).into_client_request().unwrap();
    for (name, value) in
        [("Origin", format!("https://localhost:{}", gateway.port())), ("Sec-WebSocket-Protocol", "ringback.v1".into())]
    {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (mut page, _) = client(request, stream).expect("a WebSocket");
    page.send(Message::text(r#"{"type":"hello","user":"alice"}"#)).unwrap();
    page.send(Message::text(json!({"type": "call", "call": "c1", "to": "600", "sdp": OFFER}).to_string())).unwrap();
    hears(&mut page, "answered");

    // By a reload, and by the file alone.
    let second = put();
    assert_eq!(folder.reload().0, Some(0));
    assert_eq!(connect(door).1, second);
    let third = put();
    gateway.logged(|line| line.contains("the certificate was renewed"));
    assert_eq!(connect(door).1, third);
    // One that does not fit its key is not shown, and nobody is sent away for it.
    folder.write("key.pem", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    assert_eq!(folder.reload().0, Some(1));
    assert_eq!(connect(door).1, third);

    page.send(Message::text(r#"{"type":"ping","n":7}"#)).unwrap();
    assert_eq!(hears(&mut page, "pong")["n"], 7);
    page.send(Message::text(r#"{"type":"hangup","call":"c1"}"#)).unwrap();
    assert_eq!(hears(&mut page, "ended")["by"], "us");
    uas.request("BYE");
}

/// The next message of that kind; the call's end is none that may come before it.
fn hears<S: Read + Write>(page: &mut WebSocket<S>, kind: &str) -> Value {
    loop {
        let Message::Text(text) = page.read().expect("the socket stays") else { continue };
        let message: Value = serde_json::from_str(text.as_str()).unwrap();
        if message["type"] == kind {
            return message;
        }
        assert!(message["type"] != "ended" && message["type"] != "error", "{message}");
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}
