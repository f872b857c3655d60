//! What is secret is made unreadable before a message is kept or sent on: passwords' proofs, tokens, media keys, digits.
//!
//! In SIP and SDP each character of a secret becomes a star, so that lengths (Content-Length, a capture's) stay true.

use serde_json::Value;

/// Keys of the browser protocol, and the like of them, whose values are secret.
const SECRET_KEYS: [&str; 7] = ["token", "resume", "credential", "password", "digits", "digit", "secret"];
/// Parts of names of header fields whose values are: operators have fields of their own (`[trunk] headers`).
const SECRET_HEADERS: [&str; 6] = ["authorization", "token", "secret", "password", "api-key", "cookie"];
/// Attributes and lines of SDP whose values are: RFC 4568 section 9.1, RFC 8839 section 5.4, RFC 4567 section 3.1.1, RFC 4566
/// section 5.12.
const SECRET_LINES: [&str; 3] = ["a=ice-pwd:", "a=key-mgmt:", "k="];

/// A SIP message as it may be kept.
pub(super) fn sip(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut lines = text.split_inclusive('\n');
    let (mut secret, mut digits) = (false, false);
    for line in lines.by_ref() {
        if line.trim_end().is_empty() {
            out.push_str(line);
            break;
        }
        let folded = line.starts_with([' ', '\t']);
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if !folded {
            let name = name.trim().to_ascii_lowercase();
            secret = SECRET_HEADERS.iter().any(|part| name.contains(part));
            let content_type = matches!(name.as_str(), "content-type" | "c");
            digits |= content_type && value.trim_start().to_ascii_lowercase().starts_with("application/dtmf");
        }
        match (secret, folded) {
            (false, _) => out.push_str(line),
            (true, true) => out.push_str(&starred(line)),
            (true, false) => {
                // The scheme tells what it is: `Digest`, `Bearer`.
                let scheme = value.trim_start().split_inclusive(' ').next().filter(|scheme| scheme.ends_with(' '));
                let kept = name.len() + 1 + (value.len() - value.trim_start().len()) + scheme.map_or(0, str::len);
                let (kept, hidden) = line.split_at_checked(kept).unwrap_or((line, ""));
                out.push_str(kept);
                out.push_str(&starred(hidden));
            }
        }
    }
    for line in lines {
        match digits {
            true => out.push_str(&pressed(line)),
            false => out.push_str(&sdp_line(line)),
        }
    }
    out
}

/// A message of the browser protocol as it may be kept.
pub(super) fn json(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if SECRET_KEYS.contains(&key.as_str()) {
                    *value = Value::from("***");
                } else if let (true, Some(text)) = (key == "sdp", value.as_str()) {
                    *value = Value::from(sdp(text));
                } else {
                    json(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(json),
        _ => {}
    }
}

fn sdp(text: &str) -> String {
    text.split_inclusive('\n').map(sdp_line).collect()
}

fn sdp_line(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let plain = if lower.starts_with("a=crypto:") {
        // The suite stays; keys are what stands behind `inline:`, of which there may be several.
        lower.find("inline:").map(|at| at + "inline:".len())
    } else {
        SECRET_LINES.iter().find(|start| lower.starts_with(**start)).map(|start| start.len())
    };
    match plain.and_then(|plain| line.split_at_checked(plain)) {
        Some((plain, secret)) => format!("{plain}{}", starred(secret)),
        None => line.to_owned(),
    }
}

/// A line of a body that tells a digit: `Signal=5` and `Duration=160`, or the digit alone (RFC 2976's habits).
fn pressed(line: &str) -> String {
    match line.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("signal") => format!("{name}={}", starred(value)),
        Some(_) => line.to_owned(),
        None => starred(line),
    }
}

/// As many stars as the text has bytes, its end of line but kept.
fn starred(text: &str) -> String {
    let plain = text.trim_end_matches(['\r', '\n']);
    format!("{}{}", "*".repeat(plain.len()), &text[plain.len()..])
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::*;

    #[test]
    fn secrets_of_a_sip_message_are_stars_of_the_same_length() {
        let message = "INVITE sip:600@192.0.2.9 SIP/2.0\r\nCall-ID: a\r\n\
            Proxy-Authorization: Digest username=\"s3cret\", response=\"s3cret\"\r\n\
            Authorization: Digest\r\n realm=\"s3cret\",\r\n\tnonce=\"s3cret\"\r\n\
            x-api-key:s3cret\r\nX-Carrier-Token: s3cret\r\nWWW-Authenticate: Digest realm=\"shown\"\r\n\
            Content-Type: application/sdp\r\nContent-Length: 99\r\n\r\n\
            v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nk=clear:s3cret\r\na=ice-ufrag:shown\r\na=ice-pwd:s3cret\r\n\
            a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:s3cret|2^20;inline:s3cret\r\na=key-mgmt:mikey s3cret\r\na=sendrecv";
        let shown = sip(message.as_bytes());
        assert_eq!(shown.len(), message.len());
        assert!(!shown.contains("s3cret"), "{shown}");
        for kept in [
            "Call-ID: a\r\nProxy-Authorization: Digest ***",
            "WWW-Authenticate: Digest realm=\"shown\"\r\n",
            "a=ice-ufrag:shown\r\na=ice-pwd:******\r\n",
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:***",
            "\r\na=sendrecv",
        ] {
            assert!(shown.contains(kept), "{kept:?} is not in {shown}");
        }
    }

    #[test]
    fn digits_in_info_are_not_shown() {
        let info = |kind: &str, body: &str| sip(format!("INFO sip:a SIP/2.0\r\nc: {kind}\r\n\r\n{body}").as_bytes());
        assert!(
            info("application/dtmf-relay", "Signal= 5\r\nDuration= 160\r\n")
                .ends_with("Signal=**\r\nDuration= 160\r\n")
        );
        assert!(info("application/dtmf", "5").ends_with("\r\n\r\n*"));
    }

    /// Nothing of this may panic, whatever the network brings.
    #[test]
    fn what_is_no_message_is_taken_as_well() {
        for bytes in
            [&b""[..], b"\r\n", b"Authorization", b"Authorization:\xff\xff \xff", b"\xff: \xff", b"INVITE\n\n\xffk="]
        {
            sip(bytes);
        }
        assert_eq!(sip("Authorization: \u{e9}\u{e9} x".as_bytes()), "Authorization: \u{e9}\u{e9} *");
    }

    #[test]
    fn secrets_of_the_browser_protocol_are_not_shown() {
        let mut message = value!({
            "type": "welcome", "resume": "s3cret", "token": "s3cret", "user": "alice",
            "ice_servers": [{"urls": ["turn:shown"], "credential": "s3cret"}],
            "sdp": "v=0\r\na=ice-pwd:s3cret\r\na=mid:0\r\n", "digits": "1234", "digit": "1",
        });
        json(&mut message);
        let shown = message.to_string();
        assert!(!shown.contains("s3cret") && !shown.contains('1'), "{shown}");
        assert!(shown.contains("turn:shown") && shown.contains("a=mid:0") && shown.contains("alice"), "{shown}");
    }
}
