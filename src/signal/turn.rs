//! Time-limited credentials for TURN servers: the "TURN REST API", as coturn checks them with `use-auth-secret`
//! ([draft-uberti-behave-turn-rest-00](https://datatracker.ietf.org/doc/html/draft-uberti-behave-turn-rest-00) section 2.2).

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::IceServer;

/// The TURN servers that browsers are told of, and the secret that they share with us.
#[derive(Clone, PartialEq, Eq)]
pub struct Turn {
    urls: Vec<String>,
    secret: Vec<u8>,
    ttl: Duration,
}

impl fmt::Debug for Turn {
    /// The secret never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("urls", &self.urls).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

impl Turn {
    /// Servers at `urls` (`turn:`, `turns:` or `stun:`; see [`valid_url`]), which know `secret`. Credentials are good for
    /// `ttl`.
    pub fn new(urls: Vec<String>, secret: Vec<u8>, ttl: Duration) -> Turn {
        Turn { urls, secret, ttl }
    }

    /// When those who stay are told anew: half of what their credentials are good for, so that a call that begins now, and a
    /// restart of ICE in it, meet a server that still knows them.
    pub fn renew_after(&self) -> Duration {
        self.ttl / 2
    }

    /// What `user` is told at `unix_now` (seconds): STUN servers without credentials, then TURN servers with those of its
    /// own. The user name is `END:USER`, the password the HMAC-SHA1 of it under the secret, in base64.
    pub fn ice_servers(&self, user: &str, unix_now: u64) -> Vec<IceServer> {
        let (stun, turn): (Vec<String>, Vec<String>) = self.urls.iter().cloned().partition(|url| is_stun(url));
        let username = format!("{}:{user}", unix_now.saturating_add(self.ttl.as_secs()));
        let credential = self.credential(&username);
        let mut servers = Vec::with_capacity(2);
        if !stun.is_empty() {
            servers.push(IceServer { urls: stun, username: None, credential: None });
        }
        if !turn.is_empty() {
            servers.push(IceServer { urls: turn, username: Some(username), credential: Some(credential) });
        }
        servers
    }

    fn credential(&self, username: &str) -> String {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(&self.secret) else { return String::new() };
        mac.update(username.as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }
}

fn is_stun(url: &str) -> bool {
    url.starts_with("stun:") || url.starts_with("stuns:")
}

/// Whether this is the URI of a STUN or TURN server: `stun:` and `stuns:`
/// ([RFC 7064](https://www.rfc-editor.org/rfc/rfc7064#section-3.1) section 3.1), `turn:` and `turns:` with or without
/// `?transport=udp` or `tcp` ([RFC 7065](https://www.rfc-editor.org/rfc/rfc7065#section-3.1) section 3.1).
pub fn valid_url(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once(':') else { return false };
    let (authority, transport) = rest.split_once('?').map_or((rest, None), |(at, query)| (at, Some(query)));
    let known = match scheme {
        "stun" | "stuns" => transport.is_none(),
        "turn" | "turns" => matches!(transport, None | Some("transport=udp" | "transport=tcp")),
        _ => false,
    };
    known && valid_authority(authority)
}

/// `host`, `host:port` or `[v6]:port`.
fn valid_authority(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, port)) if ip.parse::<std::net::Ipv6Addr>().is_ok() => (ip, port.strip_prefix(':').or(Some(port))),
        Some(_) => return false,
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = port.filter(|port| !port.is_empty());
    let named = host.contains(':')
        || (!host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')));
    let numbered = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    named && numbered && !authority.ends_with(':')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    /// The password that `openssl dgst -sha1 -hmac north -binary | base64` gives.
    #[test]
    fn credentials_are_those_that_coturn_computes() {
        let urls =
            ["turn:turn.example:3478?transport=udp", "stun:turn.example", "turns:turn.example:443?transport=tcp"];
        let turn = Turn::new(urls.map(str::to_owned).to_vec(), b"north".to_vec(), Duration::from_secs(600));
        let servers = turn.ice_servers("alice", 1_400_000_000);
        assert_eq!(servers.len(), 2);
        assert_eq!((servers[0].urls.as_slice(), &servers[0].username), (&["stun:turn.example".to_owned()][..], &None));
        assert_eq!(servers[1].urls, [urls[0], urls[2]]);
        assert_eq!(servers[1].username.as_deref(), Some("1400000600:alice"));
        assert_eq!(servers[1].credential.as_deref(), Some(KNOWN));
        let shown = format!("{turn:?} {servers:?}");
        assert!(!shown.contains("north") && !shown.contains(KNOWN), "{shown}");
    }

    const KNOWN: &str = "/QDtqJc+pJcPoRlq+lNCrH4oWbw=";

    #[test]
    fn urls_are_those_of_rfc_7064_and_rfc_7065() {
        for good in [
            "stun:stun.example",
            "stuns:192.0.2.1:5349",
            "turn:turn.example",
            "turn:[2001:db8::1]:3478?transport=tcp",
            "turn:[2001:db8::1]",
            "turns:turn.example:443?transport=tcp",
        ] {
            assert!(valid_url(good), "{good}");
        }
        for bad in [
            "",
            "turn",
            "turn:",
            "turn:turn.example:",
            "turn:turn.example:0",
            "turn:turn.example:99999",
            "turn:turn.example:+1",
            "turn://turn.example",
            "turn:turn.example?transport=sctp",
            "stun:stun.example?transport=udp",
            "http:turn.example",
            "turn:[2001:db8::1]:x",
            "turn:[nowhere]:3478",
            "turn:turn.example>; rel=\"x\"",
        ] {
            assert!(!valid_url(bad), "{bad}");
        }
    }
}
