//! Whose connection it is, where a proxy stands in front of the gateway: the proxies that are known say for whom they come
//! (`X-Forwarded-For`), and nobody else is believed.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use crate::sdp::Network;

/// The header field in which a proxy says for whom it comes; each adds to it at the end.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// Hops that are looked at, from ours on.
const MOST_HOPS: usize = 16;

/// The proxies that are believed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Proxies(pub(super) Vec<Network>);

impl Proxies {
    /// Who has sent the request that came from `peer`: the last in the row whom no known proxy is. The port is the
    /// connection's own.
    pub(super) fn source(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        // A line that cannot be read whole is none to be passed over: what a proxy added stands at its end.
        let lines = headers.get_all(FORWARDED_FOR).iter().rev().take(MOST_HOPS);
        let lines: Vec<_> = lines.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        let mut hops = lines.iter().flat_map(|line| line.rsplit(',')).map(str::trim).take(MOST_HOPS);
        let mut source = peer.ip();
        while self.knows(source)
            && let Some(before) = hops.next().and_then(address)
        {
            source = before;
        }
        SocketAddr::new(source, peer.port())
    }

    fn knows(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(ip.to_canonical()))
    }
}

/// An address as proxies write it: with a port or without, IPv6 in brackets or without.
fn address(text: &str) -> Option<IpAddr> {
    let whole = text.parse::<SocketAddr>().map(|address| address.ip()).ok();
    let bare = || text.trim_start_matches('[').trim_end_matches(']').parse().ok();
    whole.or_else(bare).map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::HeaderValue;

    use super::*;

    fn source(proxies: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let proxies = Proxies(proxies.iter().map(|network| network.parse().unwrap()).collect());
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        proxies.source(peer.parse().unwrap(), &headers).ip().to_string()
    }

    #[test]
    fn a_known_proxy_says_for_whom_it_comes_and_nobody_else_does() {
        let known = ["10.0.0.0/24", "127.0.0.1"];
        for (peer, forwarded, expected) in [
            ("127.0.0.1:9", vec!["203.0.113.7"], "203.0.113.7"),
            ("[::ffff:127.0.0.1]:9", vec!["203.0.113.7:4000"], "203.0.113.7"),
            ("127.0.0.1:9", vec!["[2001:db8::1]:4000"], "2001:db8::1"),
            ("127.0.0.1:9", vec!["2001:db8::1"], "2001:db8::1"),
            // What the sender himself wrote stands before what the proxies added.
            ("127.0.0.1:9", vec!["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
            ("127.0.0.1:9", vec!["198.51.100.1", "203.0.113.7, 10.0.0.9"], "203.0.113.7"),
            ("127.0.0.1:9", vec!["unknown, 10.0.0.9"], "10.0.0.9"),
            ("127.0.0.1:9", vec![], "127.0.0.1"),
            ("192.0.2.1:9", vec!["203.0.113.7"], "192.0.2.1"),
        ] {
            assert_eq!(source(&known, peer, &forwarded), expected, "{peer} {forwarded:?}");
        }
        assert_eq!(source(&[], "127.0.0.1:9", &["203.0.113.7"]), "127.0.0.1");
    }

    #[test]
    fn a_byte_that_is_no_text_does_not_hide_what_the_proxy_added() {
        let proxies = Proxies(vec!["127.0.0.1".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_FOR, HeaderValue::from_bytes(b"\xff, 203.0.113.7").unwrap());
        let source = proxies.source("127.0.0.1:9".parse().unwrap(), &headers);
        assert_eq!(source.ip().to_string(), "203.0.113.7");
    }
}
