//! The SIP listeners: bound at the start, and by which address peers are told to reach each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use super::GatewayError;
use super::sip_stream::StreamListener;
use crate::config::{Config, Sip};
use crate::net;
use crate::net::tls::{Identity, TlsServer};
use crate::sip::{Advertised, Host, Listener, Transport};

/// A certificate that runs out so soon is spoken of at the start.
pub(super) const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// All of them, bound.
pub(super) struct Listeners {
    pub(super) udp: Vec<(SocketAddr, Arc<UdpSocket>)>,
    pub(super) streams: Vec<StreamListener>,
    /// What TLS listeners show.
    pub(super) tls: Option<Arc<watch::Sender<TlsServer>>>,
}

impl Listeners {
    /// # Errors
    /// [`GatewayError::Bind`]
    pub(super) fn bind(sip: &Sip) -> Result<Listeners, GatewayError> {
        let mut udp = Vec::new();
        for &address in &sip.udp {
            let error = |e| bind_error("SIP over UDP", address, "[sip] udp", e);
            let socket = net::bind_udp_one_family(address).and_then(UdpSocket::from_std).map_err(error)?;
            udp.push((socket.local_addr().map_err(error)?, Arc::new(socket)));
        }
        let mut streams = Vec::new();
        for &address in &sip.tcp {
            let (local, listener) = listen(address, "SIP over TCP", "[sip] tcp")?;
            streams.push(StreamListener { local, listener, tls: None });
        }
        let tls = sip.tls_server.clone().map(|server| Arc::new(watch::Sender::new(server)));
        for &address in &sip.tls {
            let (local, listener) = listen(address, "SIP over TLS", "[sip] tls")?;
            streams.push(StreamListener { local, listener, tls: tls.as_ref().map(|tls| tls.subscribe()) });
        }
        Ok(Listeners { udp, streams, tls })
    }

    /// The addresses of one transport's listeners.
    pub(super) fn of(&self, transport: Transport) -> Vec<SocketAddr> {
        match transport {
            Transport::Udp => self.udp.iter().map(|(local, _)| *local).collect(),
            _ => self.streams.iter().filter(|s| s.transport() == transport).map(|s| s.local).collect(),
        }
    }

    /// What requests can be sent from. TLS needs no listener: without one it is opened from the address of another of the
    /// family, port 0.
    pub(super) fn reach(&self) -> Vec<Listener> {
        let mut reach = Vec::new();
        for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
            reach.extend(self.of(transport).into_iter().map(|local| Listener { transport, local }));
        }
        for ipv4 in [true, false] {
            let mut same = reach.iter().filter(|listener| listener.local.is_ipv4() == ipv4);
            let any = same.clone().next().map(|listener| listener.local.ip());
            if let Some(ip) = any.filter(|_| !same.any(|listener| listener.transport == Transport::Tls)) {
                reach.push(Listener { transport: Transport::Tls, local: SocketAddr::new(ip, 0) });
            }
        }
        reach
    }
}

/// What Via and Contact say for each of these.
///
/// # Errors
/// [`GatewayError::NoAddress`]
pub(super) fn advertised(reach: &[Listener], config: &Config) -> Result<Vec<Advertised>, GatewayError> {
    let peers = config.trunks.iter().filter_map(|trunk| trunk.trunk.dns.as_ref()?.host.parse().ok());
    let peers: Vec<IpAddr> = peers.collect();
    let advertised = |&Listener { transport, local }: &Listener| {
        let host = sip_host(&config.sip.advertise, local, &peers)?;
        let port = if local.port() == 0 { transport.default_port() } else { local.port() };
        Ok(Advertised { transport, local, host, port })
    };
    reach.iter().map(advertised).collect()
}

fn listen(
    address: SocketAddr,
    what: &'static str,
    key: &'static str,
) -> Result<(SocketAddr, TcpListener), GatewayError> {
    let error = |e| bind_error(what, address, key, e);
    let listener = net::listen_tcp_one_family(address).and_then(TcpListener::from_std).map_err(error)?;
    Ok((listener.local_addr().map_err(error)?, listener))
}

/// What was not bound, and which key changes it.
pub(super) fn bind_error(
    what: &'static str,
    address: SocketAddr,
    key: &'static str,
    source: std::io::Error,
) -> GatewayError {
    GatewayError::Bind { what, address, key, source }
}

/// The address that goes into Via and Contact for a listener: as advertised for its family, as bound, or the one by which
/// this machine reaches its first trunk, the world, or itself.
fn sip_host(advertise: &[Host], local: SocketAddr, peers: &[IpAddr]) -> Result<Host, GatewayError> {
    let fits = |host: &&Host| match host {
        Host::V4(_) => local.is_ipv4(),
        Host::V6(_) => local.is_ipv6(),
        Host::Name(_) => true,
    };
    if let Some(host) = advertise.iter().find(fits) {
        return Ok(host.clone());
    }
    if !local.ip().is_unspecified() {
        return Ok(Host::from(local.ip()));
    }
    let family = |ip: &&IpAddr| ip.is_ipv4() == local.is_ipv4();
    // Addresses for documentation: nothing is sent, the way there is the default route.
    let world: IpAddr = match local {
        SocketAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        SocketAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let ways = peers.iter().filter(family).chain([&world]);
    let by_way = ways.filter_map(|ip| net::source_address(SocketAddr::new(*ip, 5060))).next();
    let own = || net::interface_addresses().into_iter().find(|ip| ip.is_ipv4() == local.is_ipv4());
    by_way.or_else(own).map(Host::from).ok_or(GatewayError::NoAddress("trunks ([sip] advertise)"))
}

/// Says at the start what is not safe, or soon will not be.
pub(super) fn warn_of_tls(config: &Config, now: SystemTime) {
    if let Some(server) = &config.sip.tls_server {
        warn_of_certificate("[sip]", server.identity(), now);
    }
    if let Some(server) = &config.http.tls {
        warn_of_certificate("[http]", server.identity(), now);
    }
    for trunk in &config.trunks {
        let (name, Some(tls)) = (&trunk.trunk.name, &trunk.tls) else { continue };
        if !tls.verifies() {
            tracing::warn!(
                trunk = name,
                "TLS WITHOUT VERIFICATION (`tls_verify = false`): whoever is in between can listen to this trunk's calls \
                 and make calls in its name. Say `tls_ca` instead"
            );
        }
        if let Some(identity) = tls.identity() {
            warn_of_certificate(name, identity, now);
        }
    }
}

fn warn_of_certificate(whose: &str, identity: &Identity, now: SystemTime) {
    let file = identity.file().display();
    match identity.expires().duration_since(now) {
        Err(_) => tracing::warn!(whose, %file, "the certificate HAS EXPIRED: peers will refuse it"),
        Ok(left) if left < EXPIRES_SOON => {
            tracing::warn!(whose, %file, days = left.as_secs() / 86_400, "the certificate expires soon");
        }
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_address_to_tell_is_of_the_listeners_own_family() {
        let host = |text: &str| text.parse::<Host>().unwrap();
        let (v4, v6, name) = (host("203.0.113.5"), host("[2001:db8::5]"), host("sbc.example"));
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let table = [
            (vec![v4.clone(), v6.clone()], "0.0.0.0:5060", v4),
            (vec![v6.clone()], "[::]:5060", v6.clone()),
            (vec![v6.clone()], "192.0.2.9:5060", host("192.0.2.9")),
            (vec![], "[2001:db8::9]:5060", host("[2001:db8::9]")),
            (vec![v6.clone()], "[2001:db8::9]:5060", v6),
            (vec![name.clone()], "[2001:db8::9]:5061", name),
        ];
        for (advertise, local, expected) in table {
            assert_eq!(sip_host(&advertise, at(local), &[]).unwrap(), expected, "{local}");
        }
        // A trunk on this machine is reached by loopback.
        let loopback = sip_host(&[], at("0.0.0.0:5060"), &["127.0.0.9".parse().unwrap()]).unwrap();
        assert!(matches!(loopback, Host::V4(ip) if ip.is_loopback()));
    }

    #[tokio::test]
    async fn tls_is_opened_from_any_listeners_address() {
        let sip = Sip {
            udp: vec!["127.0.0.1:0".parse().unwrap()],
            tcp: vec!["[::1]:0".parse().unwrap()],
            tls: Vec::new(),
            tls_server: None,
            advertise: Vec::new(),
            dns: Vec::new(),
        };
        let reach = Listeners::bind(&sip).unwrap().reach();
        let tls: Vec<SocketAddr> = reach.iter().filter(|l| l.transport == Transport::Tls).map(|l| l.local).collect();
        assert_eq!(tls, ["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]);
        assert_eq!(reach.len(), 4);
    }
}
