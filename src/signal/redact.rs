//! Messages without their secrets, for logs.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::{ClientMessage, ServerMessage};

/// Fields that nobody else may read: tokens, what takes a session up again, and TURN passwords.
const SECRETS: [&str; 3] = ["token", "resume", "credential"];
/// The field of session descriptions: ICE passwords stand in them.
const DESCRIPTION: &str = "sdp";

/// A text with secrets in it, such as a session description: printed, it says how long it is and nothing else.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Veiled(pub String);

impl fmt::Debug for Veiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

impl fmt::Debug for ClientMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self, f)
    }
}

impl fmt::Debug for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self, f)
    }
}

/// The message as it is sent, but for its secrets.
fn show(message: &impl Serialize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut value = serde_json::to_value(message).map_err(|_| fmt::Error)?;
    redact(&mut value);
    write!(f, "{value}")
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if SECRETS.contains(&name.as_str()) => "(secret)".clone_into(text),
                    Value::String(text) if name == DESCRIPTION => *text = format!("({} bytes)", text.len()),
                    field => redact(field),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(redact),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::IceServer;
    use super::*;

    const PLANTED: &str = "canary-7Q";

    #[test]
    fn no_secret_of_a_message_is_printed() {
        let secret = || Some(PLANTED.to_owned());
        let sdp = format!("v=0\r\na=ice-pwd:{PLANTED}\r\n");
        let hello = ClientMessage::Hello { token: secret(), user: Some("alice".into()), resume: secret() };
        let welcome = ServerMessage::Welcome {
            user: "alice".into(),
            session: "1".into(),
            version: 1,
            resume: secret(),
            grace_ms: None,
            expires: None,
            ice_servers: vec![IceServer { urls: Vec::new(), username: None, credential: secret() }],
            calls: None,
        };
        let shown = [
            format!("{hello:?}"),
            format!("{:?}", ClientMessage::Renew { token: PLANTED.into() }),
            format!("{:?}", ClientMessage::Restart { call: "c1".into(), sdp: sdp.clone() }),
            format!("{welcome:?}"),
            format!("{:#?}", ServerMessage::Answer { call: "c1".into(), id: "1".into(), sdp }),
        ];
        for text in shown {
            assert!(!text.contains(PLANTED) && text.contains("type"), "{text}");
        }
        assert!(format!("{hello:?}").contains("alice"));
        assert_eq!(format!("{:?}", Veiled("a=ice-pwd:canary-7Q".into())), "(19 bytes)");
    }
}
