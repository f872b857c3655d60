//! Whether the addresses of the configuration can be bound, or are bound by the gateway that runs.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use serde_json::Value;

use super::{Finding, Running};
use crate::config::Config;
use crate::net;

/// One address of the configuration.
struct Wanted {
    key: &'static str,
    address: SocketAddr,
    bind: fn(SocketAddr) -> io::Result<()>,
    /// Where the running gateway says what it has bound for this key.
    told: &'static str,
}

pub(super) fn examine(config: &Config, running: Option<&Running>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = wanted(config).into_iter().map(|wanted| port(&wanted, running)).collect();
    findings.push(rtp_ports(config, running.is_some()));
    findings
}

fn wanted(config: &Config) -> Vec<Wanted> {
    let tcp = |address| TcpListener::bind(address).map(drop);
    let sip_udp = |address| net::bind_udp_one_family(address).map(drop);
    let sip_stream = |address| net::listen_tcp_one_family(address).map(drop);
    let media = |address| net::bind_udp(address, None).map(drop);
    let mut all = vec![Wanted { key: "[http] listen", address: config.http.listen, bind: tcp, told: "http" }];
    let mut add = |key, address, bind, told| all.push(Wanted { key, address, bind, told });
    if let Some(api) = &config.api {
        add("[api] listen", api.listen, tcp, "api");
    }
    let sip = &config.sip;
    sip.udp.iter().for_each(|address| add("[sip] udp", *address, sip_udp, "sip_udp"));
    sip.tcp.iter().for_each(|address| add("[sip] tcp", *address, sip_stream, "sip_tcp"));
    sip.tls.iter().for_each(|address| add("[sip] tls", *address, sip_stream, "sip_tls"));
    add("[media] browser", config.media.browser, media, "media");
    all
}

fn port(wanted: &Wanted, running: Option<&Running>) -> Finding {
    let Wanted { key, address, bind, told } = wanted;
    let subject = format!("{key} {address}");
    if address.port() == 0 && running.is_none() {
        return match bind(*address) {
            Ok(()) => Finding::ok(subject, "any free port"),
            Err(error) => refused(subject, key, &error),
        };
    }
    if running.is_some_and(|running| is_among(&running.listening[*told], *address)) {
        return Finding::ok(subject, "bound by the running gateway");
    }
    match (bind(*address), running) {
        (Ok(()), None) => Finding::ok(subject, "free"),
        (Ok(()), Some(_)) => {
            let text = "not bound by the running gateway, which was started with another address";
            Finding::warn(subject, text, "addresses are taken at a start only: restart it")
        }
        (Err(error), _) => refused(subject, key, &error),
    }
}

/// Whether the running gateway has bound this address; port 0 stands for any.
fn is_among(bound: &Value, wanted: SocketAddr) -> bool {
    let all = bound.as_array().map_or(std::slice::from_ref(bound), Vec::as_slice);
    let is_it = |bound: SocketAddr| match wanted.port() {
        0 => bound.is_ipv4() == wanted.is_ipv4(),
        port => bound.port() == port && (bound.ip() == wanted.ip() || bound.ip().is_unspecified()),
    };
    all.iter().filter_map(|bound| bound.as_str()?.parse().ok()).any(is_it)
}

fn refused(subject: String, key: &str, error: &io::Error) -> Finding {
    let port = subject.rsplit(':').next().unwrap_or_default().to_owned();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let remedy = format!("`ss -lntup 'sport = :{port}'` names it: end it, or give {key} another port");
            Finding::fail(subject, "another program has it", remedy)
        }
        io::ErrorKind::AddrNotAvailable => {
            let own: Vec<String> = net::interface_addresses().iter().map(IpAddr::to_string).collect();
            let remedy = format!("give {key} one of this machine's ({}), or 0.0.0.0", own.join(", "));
            Finding::fail(subject, "this machine has no such address", remedy)
        }
        io::ErrorKind::PermissionDenied => {
            let remedy = format!("ports below 1024 want CAP_NET_BIND_SERVICE; or give {key} a higher one");
            Finding::fail(subject, "this user may not bind it", remedy)
        }
        _ => Finding::fail(subject, format!("cannot be bound: {error}"), format!("see {key}")),
    }
}

/// How many pairs of RTP ports there are, and how many can be had now.
fn rtp_ports(config: &Config, runs: bool) -> Finding {
    let media = &config.media;
    let range = &media.rtp_ports;
    let subject = format!("[media] rtp_ports {}-{}", range.start(), range.end());
    let even = range.clone().filter(|port| port % 2 == 0 && *port > 0 && range.contains(&port.saturating_add(1)));
    let is_free = |port: &u16| {
        let at = |port| SocketAddr::new(media.rtp_address, port);
        net::bind_udp(at(*port), None).is_ok() && net::bind_udp(at(port.saturating_add(1)), None).is_ok()
    };
    let (free, taken): (Vec<u16>, Vec<u16>) = even.partition(is_free);
    let all = free.len() + taken.len();
    let calls = config.limits.calls;
    let text = format!("{all} legs with trunks and phones at once ([limits] calls = {calls})");
    let remedy = "see whose they are (`ss -lnup`), or give other ports; and open them in the firewall";
    match (free.len(), taken.len()) {
        (0, _) => Finding::fail(subject, format!("{text}, and none of the ports is free"), remedy),
        (_, 0) => Finding::ok(subject, text),
        (_, taken) if runs => Finding::ok(subject, format!("{text}; {taken} in use now")),
        (_, taken) => {
            Finding::warn(subject, format!("{text}; other programs hold {taken}, which are passed over"), remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn what_is_bound_is_told_from_what_another_has() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let bind = |address| TcpListener::bind(address).map(drop);
        let wanted = |address| Wanted { key: "[http] listen", address, bind, told: "http" };
        let found = port(&wanted(address), None);
        assert_eq!(found.verdict, Verdict::Fail);
        let remedy = found.remedy.unwrap();
        assert!(remedy.contains(&address.port().to_string()) && remedy.contains("[http] listen"), "{remedy}");
        let running = |http: String| Running {
            listening: json!({ "http": http }),
            trunks: json!({}),
            status: json!({}),
            pid: None,
        };
        assert_eq!(port(&wanted(address), Some(&running(address.to_string()))).verdict, Verdict::Ok);
        assert_eq!(port(&wanted(address), Some(&running("127.0.0.1:1".to_owned()))).verdict, Verdict::Fail);
        drop(taken);
        assert_eq!(port(&wanted(address), None).verdict, Verdict::Ok);
        assert_eq!(port(&wanted(address), Some(&running("127.0.0.1:1".to_owned()))).verdict, Verdict::Warn);
        let elsewhere = port(&wanted("192.0.2.1:8080".parse().unwrap()), None);
        assert_eq!((elsewhere.verdict, elsewhere.text.as_str()), (Verdict::Fail, "this machine has no such address"));
    }

    #[test]
    fn an_address_is_bound_also_by_all_of_its_family() {
        let at = |text: &str| text.parse().unwrap();
        assert!(is_among(&json!(["0.0.0.0:5060"]), at("192.0.2.7:5060")));
        assert!(!is_among(&json!(["0.0.0.0:5060"]), at("192.0.2.7:5062")));
        assert!(is_among(&json!("127.0.0.1:41234"), at("127.0.0.1:0")));
        assert!(!is_among(&Value::Null, at("127.0.0.1:0")));
    }
}
