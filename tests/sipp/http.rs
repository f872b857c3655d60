//! What a gateway answers by HTTP.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::peer::PATIENCE;

/// The JSON at a path of the gateway's own door, which is there.
pub async fn get(at: SocketAddr, path: &str) -> Value {
    ask(at, "GET", path, "", "", 200).await
}

/// A request with these further header fields, each with its line's end, and this body; gives the JSON of the answer, which has
/// the `expected` status. Null where it has no body.
pub async fn ask(at: SocketAddr, method: &str, path: &str, fields: &str, body: &str, expected: u16) -> Value {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    );
    let asked = async {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let text = timeout(PATIENCE, asked).await.expect("an answer");
    let (head, answer) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {expected} ")), "{method} {path}: {text}");
    if answer.is_empty() { Value::Null } else { serde_json::from_str(answer).unwrap() }
}
