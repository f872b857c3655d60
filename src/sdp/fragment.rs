//! ICE by itself, apart from the description that it belongs to: `application/trickle-ice-sdpfrag`
//! ([RFC 8840](https://www.rfc-editor.org/rfc/rfc8840#section-9) section 9), as WHIP uses it.

use super::browser::ice_credentials;
use super::keys::IceCredentials;
use super::session::{MAX_LINES, SdpError};

/// A fragment that a peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceFragment {
    /// Whose candidates these are, or what the next ICE session is to use. All media are bundled, so the first ones
    /// stand for all (RFC 8840 section 4.4).
    pub ice: Option<IceCredentials>,
    /// How many candidates it brings.
    pub candidates: usize,
}

impl IceFragment {
    /// Reads a fragment.
    ///
    /// # Errors
    /// [`SdpError::TooLong`]; [`SdpError::Ice`] for credentials of which one is missing or malformed;
    /// [`SdpError::Fragment`] for lines that no fragment has.
    pub fn read(text: &str) -> Result<IceFragment, SdpError> {
        if text.lines().count() > MAX_LINES {
            return Err(SdpError::TooLong);
        }
        let (mut ufrag, mut pwd, mut candidates, mut lines) = (None, None, 0usize, 0usize);
        for line in text.lines().filter(|line| !line.is_empty()) {
            lines = lines.saturating_add(1);
            let (name, value) = attribute(line)?;
            match name {
                "ice-ufrag" => ufrag = ufrag.or(Some(value)),
                "ice-pwd" => pwd = pwd.or(Some(value)),
                "candidate" => candidates = candidates.saturating_add(1),
                _ => {}
            }
        }
        if lines == 0 {
            return Err(SdpError::Fragment);
        }
        let ice = match (ufrag, pwd) {
            (None, None) => None,
            (ufrag, pwd) => {
                Some(ice_credentials(ufrag.unwrap_or_default(), pwd.unwrap_or_default()).ok_or(SdpError::Ice)?)
            }
        };
        Ok(IceFragment { ice, candidates })
    }
}

/// Name and value of an attribute's line; the pseudo `m=` line that begins a medium has none.
fn attribute(line: &str) -> Result<(&str, &str), SdpError> {
    match line.split_once('=') {
        Some(("a", rest)) if !rest.is_empty() => Ok(rest.split_once(':').unwrap_or((rest, ""))),
        Some(("m", rest)) if !rest.is_empty() => Ok(("", "")),
        _ => Err(SdpError::Fragment),
    }
}

/// The ICE credentials of a whole description, first ones first.
///
/// # Errors
/// [`SdpError::Ice`]
pub fn credentials_of(description: &str) -> Result<IceCredentials, SdpError> {
    let value = |name: &str| description.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    ice_credentials(value("a=ice-ufrag:"), value("a=ice-pwd:")).ok_or(SdpError::Ice)
}

/// The same offer for an ICE session of its own (RFC 8445 section 9): other credentials, no candidates of the old one.
pub fn restarted(offer: &str, ice: &IceCredentials) -> String {
    let mut out = String::with_capacity(offer.len().saturating_add(64));
    for line in offer.lines() {
        if line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
            continue;
        }
        match line {
            line if line.starts_with("a=ice-ufrag:") => out.push_str(&format!("a=ice-ufrag:{}", ice.ufrag)),
            line if line.starts_with("a=ice-pwd:") => out.push_str(&format!("a=ice-pwd:{}", ice.pwd)),
            line => out.push_str(line),
        }
        out.push_str("\r\n");
    }
    out
}

/// What of our own description concerns ICE: the session's part, then each medium with its candidates.
pub fn fragment_of(description: &str) -> String {
    let (mut session, mut media) = (String::new(), String::new());
    for line in description.lines() {
        let of_session = line == "a=ice-lite"
            || ["a=ice-options:", "a=ice-ufrag:", "a=ice-pwd:"].iter().any(|name| line.starts_with(name));
        let of_medium =
            line == "a=end-of-candidates" || ["m=", "a=mid:", "a=candidate:"].iter().any(|name| line.starts_with(name));
        // Ours stand with the one medium that is used, and mean all that are bundled.
        if of_session && !session.contains(line) {
            session.push_str(&format!("{line}\r\n"));
        } else if of_medium {
            media.push_str(&format!("{line}\r\n"));
        }
    }
    session + &media
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The example of RFC 9725 section 4.3.2.
    #[test]
    fn trickled_candidates_are_read() {
        let text = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
            a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
            a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0 ufrag EsAw network-id 1\r\n\
            a=end-of-candidates\r\n";
        let read = IceFragment::read(text).unwrap();
        assert_eq!(
            read,
            IceFragment { ice: Some(IceCredentials::new("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1")), candidates: 2 }
        );
        assert_eq!(IceFragment::read("a=end-of-candidates\n").unwrap(), IceFragment { ice: None, candidates: 0 });
    }

    #[test]
    fn what_is_no_fragment_is_refused() {
        let table = [
            ("", SdpError::Fragment),
            ("\r\n\r\n", SdpError::Fragment),
            ("{\"candidate\":1}", SdpError::Fragment),
            ("a=", SdpError::Fragment),
            ("v=0\r\na=ice-ufrag:EsAw", SdpError::Fragment),
            ("a=ice-ufrag:EsAw", SdpError::Ice),
            ("a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1", SdpError::Ice),
            ("a=ice-ufrag:E\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1", SdpError::Ice),
            ("a=ice-ufrag:EsAw\r\na=ice-pwd:short", SdpError::Ice),
            ("a=ice-ufrag:Es w\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1", SdpError::Ice),
        ];
        for (text, error) in table {
            assert_eq!(IceFragment::read(text), Err(error), "{text:?}");
        }
        assert_eq!(IceFragment::read(&"a=x\n".repeat(MAX_LINES + 1)), Err(SdpError::TooLong));
    }

    #[test]
    fn a_restart_changes_the_credentials_and_nothing_else() {
        let offer = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
            a=ice-ufrag:4ZcD\r\na=ice-pwd:2/1muCWoOi3uLifh0NuRHlIz\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n\
            a=end-of-candidates\r\na=fingerprint:sha-256 00:11\r\na=mid:0\r\n";
        let new = IceCredentials::new("ysXw", "vw5LmwG4y/e6dPP/zAP9Gp5k");
        let restarted = restarted(offer, &new);
        assert_eq!(credentials_of(&restarted).unwrap(), new);
        let expected = offer.replace("4ZcD", "ysXw").replace("2/1muCWoOi3uLifh0NuRHlIz", "vw5LmwG4y/e6dPP/zAP9Gp5k");
        let expected = expected.replace("a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=end-of-candidates\r\n", "");
        assert_eq!(restarted, expected);
    }

    #[test]
    fn our_own_fragment_is_one_that_can_be_read() {
        let answer = "v=0\r\no=- 7 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=group:BUNDLE 0\r\n\
            m=audio 40000 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 192.0.2.1\r\na=mid:0\r\na=sendrecv\r\na=ice-ufrag:289b\r\n\
            a=ice-pwd:0b66f472495ef0ccac7bda65\r\na=candidate:1 1 udp 2130706431 192.0.2.1 40000 typ host\r\n\
            a=end-of-candidates\r\na=setup:passive\r\n";
        let fragment = fragment_of(answer);
        assert_eq!(
            fragment,
            "a=ice-lite\r\na=ice-ufrag:289b\r\na=ice-pwd:0b66f472495ef0ccac7bda65\r\n\
             m=audio 40000 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
             a=candidate:1 1 udp 2130706431 192.0.2.1 40000 typ host\r\na=end-of-candidates\r\n"
        );
        assert_eq!(IceFragment::read(&fragment).unwrap().candidates, 1);
    }
}
