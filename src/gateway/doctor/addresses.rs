//! Whether the addresses that peers and browsers are told lead here.

use std::net::IpAddr;

use super::Finding;
use crate::config::Config;
use crate::gateway::pool::is_private;
use crate::net;
use crate::sip::Host;

/// What this machine is, as far as that can be known from inside of it.
struct Here {
    own: Vec<IpAddr>,
    /// As a STUN or TURN server sees us.
    seen: Vec<IpAddr>,
}

/// `seen`: the addresses that STUN and TURN servers have seen us at.
pub(super) async fn examine(config: &Config, seen: Vec<IpAddr>) -> Vec<Finding> {
    let here = Here { own: net::interface_addresses(), seen };
    let port = config.media.browser.port();
    let mut findings = browsers(config, &here, port);
    if let Some(ip) = config.media.rtp_advertise {
        let (first, last) = (config.media.rtp_ports.start(), config.media.rtp_ports.end());
        findings.push(here.judge("[media] rtp_advertise", ip, &format!("UDP ports {first} to {last}")));
    }
    for host in &config.sip.advertise {
        findings.push(match host {
            Host::V4(ip) => here.judge("[sip] advertise", IpAddr::V4(*ip), "the ports of [sip]"),
            Host::V6(ip) => here.judge("[sip] advertise", IpAddr::V6(*ip), "the ports of [sip]"),
            Host::Name(name) => here.judge_name(name).await,
        });
    }
    findings
}

/// The addresses of the candidates that browsers get.
fn browsers(config: &Config, here: &Here, port: u16) -> Vec<Finding> {
    let media = &config.media;
    if !media.advertise.is_empty() {
        let what = format!("UDP port {port}");
        return media.advertise.iter().map(|ip| here.judge("[media] advertise", *ip, &what)).collect();
    }
    let bound = media.browser.ip();
    let told = if bound.is_unspecified() { here.own.clone() } else { vec![bound] };
    let list = || told.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    let subject = "[media] advertise";
    if bound.is_loopback() {
        return vec![Finding::ok(
            subject,
            "browsers of this machine alone are served ([media] browser is a loopback address)",
        )];
    }
    if told.iter().any(|ip| !is_private(*ip)) {
        return vec![Finding::ok(subject, format!("browsers are told {}", list()))];
    }
    let text = format!("browsers are told {}, which other networks do not reach", list());
    match here.seen.iter().find(|ip| !is_private(**ip)) {
        Some(ip) => {
            let remedy =
                format!("a STUN server sees us at {ip}: `[media] advertise = [\"{ip}\"]`, and forward UDP port {port}");
            vec![Finding::warn(subject, text, remedy)]
        }
        None => vec![Finding::untested(subject, format!("{text}: right where all browsers are in this network"))],
    }
}

impl Here {
    fn judge(&self, key: &str, ip: IpAddr, what: &str) -> Finding {
        let subject = format!("{key} {ip}");
        if ip.is_loopback() || self.own.contains(&ip) {
            return Finding::ok(subject, "is this machine's own");
        }
        let same_family: Vec<&IpAddr> = self.seen.iter().filter(|seen| seen.is_ipv4() == ip.is_ipv4()).collect();
        match same_family.as_slice() {
            [] => {
                let text = format!(
                    "is none of this machine's: {what} must be forwarded from there, which only a call can show"
                );
                Finding::untested(subject, text)
            }
            seen if seen.contains(&&ip) => {
                Finding::ok(subject, format!("is where a STUN server sees us; {what} must be forwarded from there"))
            }
            [seen, ..] => {
                let remedy = format!("is it out of date? If {seen} is the public address, say that");
                Finding::warn(subject, format!("a STUN server sees us at {seen}"), remedy)
            }
        }
    }

    async fn judge_name(&self, name: &str) -> Finding {
        let subject = format!("[sip] advertise {name}");
        let found = tokio::net::lookup_host((name, 5060)).await.map(|all| all.map(|one| one.ip()).collect::<Vec<_>>());
        match found {
            Ok(ips) if ips.iter().any(|ip| self.own.contains(ip) || self.seen.contains(ip)) => {
                Finding::ok(subject, "leads here")
            }
            Ok(ips) if !ips.is_empty() => {
                let ips: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
                Finding::untested(subject, format!("leads to {}, which is none of this machine's", ips.join(", ")))
            }
            _ => Finding::fail(
                subject,
                "the name is not found",
                "give it an A or AAAA record: trunks send requests there",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::Verdict;
    use super::*;

    #[test]
    fn an_address_is_ours_or_the_nats_or_nobodys() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let verdict = |own: &str, seen: &[&str]| {
            let here = Here { own: vec![ip(own)], seen: seen.iter().map(|text| ip(text)).collect() };
            here.judge("[media] advertise", ip("203.0.113.5"), "UDP port 40000").verdict
        };
        assert_eq!(verdict("203.0.113.5", &[]), Verdict::Ok);
        assert_eq!(verdict("10.0.0.7", &["203.0.113.5"]), Verdict::Ok);
        assert_eq!(verdict("10.0.0.7", &["203.0.113.9"]), Verdict::Warn);
        assert_eq!(verdict("10.0.0.7", &[]), Verdict::Untested);
        assert_eq!(verdict("10.0.0.7", &["2001:db8::1"]), Verdict::Untested, "of another family");
    }
}
