//! Start: bind all there is to bind, or say what is in the way; then run.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng, TryRng};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;

use super::cdr::CdrWriter;
use super::driver::Driver;
use super::http::{self, About, App, Origins};
use super::pool::{MediaPool, Report};
use super::sip_tcp::{self, SipTcp};
use super::{GatewayError, Queues, Tasks, sip_udp};
use crate::codec::Codec;
use crate::config::{Auth, Config, ConfigError, Problem, TEST_PHONE_TRUNK, TrunkConfig};
use crate::sdp::CodecPolicy;
use crate::sip::{Advertised, Host, Target, Timers, Transport, UaConfig};
use crate::switch::{self, Network, Switch, SwitchConfig, SwitchLimits, Trunk};
use crate::testphone::TestPhone;
use crate::webrtc::Identity;
use crate::{net, testphone};

/// A gateway whose addresses are all bound.
pub struct Gateway {
    driver: Driver,
    http: TcpListener,
    app: App,
    udp: Vec<(SocketAddr, Arc<UdpSocket>)>,
    tcp: Vec<(SocketAddr, TcpListener)>,
    known: Arc<Vec<Network>>,
    test_phone: Option<TestPhone>,
    tasks: Tasks,
    grace: Duration,
    ready: Ready,
}

/// Where the gateway is reached.
#[derive(Debug, Clone)]
pub struct Ready {
    /// HTTP and WebSocket.
    pub http: SocketAddr,
    /// Browsers' media, one address a worker.
    pub media: Vec<SocketAddr>,
    /// SIP over UDP.
    pub sip_udp: Vec<SocketAddr>,
    /// SIP over TCP.
    pub sip_tcp: Vec<SocketAddr>,
    /// The test phone's SIP address, in the embedded default.
    pub test_phone: Option<SocketAddr>,
}

impl Gateway {
    /// Binds every address and starts the media workers and, in the embedded default, the test phone.
    ///
    /// # Errors
    /// [`GatewayError`]: what cannot be bound or resolved, and which key of the configuration changes it.
    pub async fn bind(config: Config) -> Result<Gateway, GatewayError> {
        let open = matches!(config.auth, Auth::Open);
        if open && !config.http.listen.ip().is_loopback() {
            return Err(GatewayError::OpenToTheWorld(config.http.listen));
        }
        let mut seeds = seeds();
        let http = TcpListener::bind(config.http.listen).await.map_err(bind_error(
            "the page and WebSockets",
            config.http.listen,
            "[http] listen",
        ))?;
        let (udp, tcp) = bind_sip(&config)?;
        let identity = Identity::generate()?;
        let (pool, reports) = MediaPool::start(&config.media, config.limits.calls, &identity)?;
        let cdr = CdrWriter::start(&config.cdr)?;
        let (tasks, queues) = Tasks::new();

        let mut trunks = resolve(&config.trunks, &udp, &tcp).await?;
        let test_phone = if config.test_phone {
            let (phone, trunk) = start_test_phone(&udp).await?;
            trunks.push(trunk);
            Some(phone)
        } else {
            None
        };
        let targets = trunks.iter().flat_map(|t| t.targets.iter()).map(|target| target.remote.ip().into());
        let known = Arc::new(trunks.iter().flat_map(|t| t.sources.clone()).chain(targets).collect::<Vec<Network>>());
        let local = |address: std::io::Result<SocketAddr>| address.map_err(GatewayError::Address);
        let ready = Ready {
            http: local(http.local_addr())?,
            media: pool.browser_addresses(),
            sip_udp: udp.iter().map(|(a, _)| *a).collect(),
            sip_tcp: tcp.iter().map(|(a, _)| *a).collect(),
            test_phone: test_phone.as_ref().map(TestPhone::sip_address),
        };
        let origins = Origins { allowed: config.http.origins.clone(), loopback_only: open };
        let about = About { testphone: config.test_phone, open };
        let app = App::new(tasks.clone(), origins, config.limits.sockets, config.http.softphone, about);
        let grace = config.grace;
        let switch = Switch::new(switch_config(config, &ready, trunks, &identity, &mut seeds)?);
        let driver = new_driver(switch, queues, reports, pool, udp.clone(), cdr, seeds, tasks.clone());
        Ok(Gateway { driver, http, app, udp, tcp, known, test_phone, tasks, grace, ready })
    }

    /// Where it is reached.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Serves until `stop` yields, then ends calls cleanly and takes everything down.
    ///
    /// Every wait of the end has its limit: see the driver and the servers.
    pub async fn run(self, stop: mpsc::Receiver<()>) {
        let tasks = self.tasks;
        for (local, socket) in self.udp {
            tasks.tracker.spawn(sip_udp::receive(socket, local, tasks.clone()));
        }
        for (local, listener) in self.tcp {
            tasks.tracker.spawn(sip_tcp::accept(listener, local, self.known.clone(), tasks.clone()));
        }
        let driver = self.driver.run(stop, self.grace);
        tokio::join!(http::serve(self.http, self.app), driver);
        if let Some(phone) = self.test_phone {
            phone.stop().await;
        }
    }
}

#[allow(clippy::too_many_arguments)] // the parts of one struct, each made by its own step of `bind`
fn new_driver(
    switch: Switch,
    queues: Queues,
    reports: mpsc::Receiver<Report>,
    pool: MediaPool,
    udp: Vec<(SocketAddr, Arc<UdpSocket>)>,
    cdr: CdrWriter,
    rng: StdRng,
    tasks: Tasks,
) -> Driver {
    let tcp = SipTcp::new(tasks.clone());
    Driver { switch, queues, reports, pool, udp, tcp, sockets: HashMap::new(), cdr, rng, tasks }
}

fn bind_error(
    what: &'static str,
    address: SocketAddr,
    key: &'static str,
) -> impl FnOnce(std::io::Error) -> GatewayError {
    move |source| GatewayError::Bind { what, address, key, source }
}

type Bound<T> = Vec<(SocketAddr, T)>;

fn bind_sip(config: &Config) -> Result<(Bound<Arc<UdpSocket>>, Bound<TcpListener>), GatewayError> {
    let mut udp = Vec::new();
    for &address in &config.sip.udp {
        let error = |e| bind_error("SIP over UDP", address, "[sip] udp")(e);
        let socket = net::bind_udp_one_family(address).and_then(UdpSocket::from_std).map_err(error)?;
        udp.push((socket.local_addr().map_err(error)?, Arc::new(socket)));
    }
    let mut tcp = Vec::new();
    for &address in &config.sip.tcp {
        let error = |e| bind_error("SIP over TCP", address, "[sip] tcp")(e);
        let listener = net::listen_tcp_one_family(address).and_then(TcpListener::from_std).map_err(error)?;
        tcp.push((listener.local_addr().map_err(error)?, listener));
    }
    Ok((udp, tcp))
}

/// The test phone, and the trunk by which the demo plan reaches it through the same stack as any other.
async fn start_test_phone(udp: &[(SocketAddr, Arc<UdpSocket>)]) -> Result<(TestPhone, Trunk), GatewayError> {
    let Some(&(local, _)) = udp.first() else { return Err(GatewayError::NoAddress("the test phone")) };
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let phone = TestPhone::start(testphone::Config { sip_bind: loopback, gateway: local })
        .await
        .map_err(GatewayError::TestPhone)?;
    let target = Target { transport: Transport::Udp, local, remote: phone.sip_address(), server_name: None };
    let number_format = switch::NumberFormat::AsDialled;
    let trunk = Trunk { targets: vec![target], number_format, ..Trunk::new(TEST_PHONE_TRUNK) };
    Ok((phone, trunk))
}

/// Trunks with their host names resolved and their listeners' true addresses.
async fn resolve(
    trunks: &[TrunkConfig],
    udp: &[(SocketAddr, Arc<UdpSocket>)],
    tcp: &[(SocketAddr, TcpListener)],
) -> Result<Vec<Trunk>, GatewayError> {
    let mut resolved = Vec::with_capacity(trunks.len());
    for trunk in trunks {
        let remote = lookup(trunk).await?;
        let bound: Vec<SocketAddr> = match trunk.transport {
            Transport::Udp => udp.iter().map(|(a, _)| *a).collect(),
            _ => tcp.iter().map(|(a, _)| *a).collect(),
        };
        // A listener on port 0 got its number at the bind; the configured one tells which it is otherwise.
        let same = |a: &&SocketAddr| **a == trunk.listener;
        let family = |a: &&SocketAddr| a.is_ipv4() == remote.is_ipv4();
        let local = bound.iter().find(same).or_else(|| bound.iter().find(family)).copied();
        let local = local.unwrap_or(trunk.listener);
        let target = Target { transport: trunk.transport, local, remote, server_name: None };
        resolved.push(Trunk { targets: vec![target], ..trunk.trunk.clone() });
    }
    Ok(resolved)
}

async fn lookup(trunk: &TrunkConfig) -> Result<SocketAddr, GatewayError> {
    let unresolved = |reason: std::io::Error| ConfigError {
        file: format!("[trunk.{}]", trunk.trunk.name),
        place: None,
        problem: Problem::Unresolved { trunk: trunk.trunk.name.clone(), address: trunk.address.clone(), reason },
    };
    let mut found = tokio::net::lookup_host(&trunk.address).await.map_err(unresolved)?;
    let family = |a: &SocketAddr| a.is_ipv4() == trunk.listener.is_ipv4();
    found.find(family).ok_or_else(|| {
        let text = "it has no address of the listener's family (IPv4 or IPv6)";
        unresolved(std::io::Error::new(std::io::ErrorKind::AddrNotAvailable, text)).into()
    })
}

fn switch_config(
    config: Config,
    ready: &Ready,
    trunks: Vec<Trunk>,
    identity: &Identity,
    seeds: &mut StdRng,
) -> Result<SwitchConfig, GatewayError> {
    let mut advertise = Vec::new();
    let listeners = [(Transport::Udp, &ready.sip_udp), (Transport::Tcp, &ready.sip_tcp)];
    for (transport, addresses) in listeners {
        for &local in addresses {
            let ip = sip_host(config.sip.advertise, local, &trunks)?;
            let host = match ip {
                IpAddr::V4(ip) => Host::V4(ip),
                IpAddr::V6(ip) => Host::V6(ip),
            };
            advertise.push(Advertised { transport, local, host, port: local.port() });
        }
    }
    let mut seed = [0; 32];
    seeds.fill_bytes(&mut seed);
    let limits = SwitchLimits {
        calls: config.limits.calls,
        sockets: config.limits.sockets,
        sockets_per_user: config.limits.sockets_per_user,
        calls_per_socket: config.limits.calls_per_socket,
        ..SwitchLimits::default()
    };
    Ok(SwitchConfig {
        trunks,
        phones: config.phones,
        plan: config.plan,
        fingerprint: identity.fingerprint(),
        auth: match config.auth {
            Auth::Open => switch::Auth::Open,
            Auth::Token { verifier, .. } => switch::Auth::Token(verifier),
        },
        ua: UaConfig {
            user_agent: concat!("Ringback/", env!("CARGO_PKG_VERSION")).into(),
            timers: Timers::default(),
            max_sessions: config.limits.calls.saturating_mul(2),
            max_transactions: config.limits.calls.saturating_mul(16).max(1024),
            registrar: false,
            advertise,
        },
        policy: CodecPolicy {
            browser: vec![Codec::Opus, Codec::Pcmu, Codec::Pcma],
            narrowband: true,
            telephone_event: true,
        },
        limits,
        hello_timeout: Duration::from_secs(5),
        seed,
    })
}

/// The address that goes into Via and Contact for a listener: as advertised, as bound, or the one by which this machine
/// reaches its first trunk.
fn sip_host(advertise: Option<IpAddr>, local: SocketAddr, trunks: &[Trunk]) -> Result<IpAddr, GatewayError> {
    if let Some(ip) = advertise.filter(|ip| ip.is_ipv4() == local.is_ipv4()) {
        return Ok(ip);
    }
    if !local.ip().is_unspecified() {
        return Ok(local.ip());
    }
    let remotes = trunks.iter().flat_map(|trunk| trunk.targets.iter()).map(|target| target.remote);
    let by_trunk = remotes.filter(|r| r.is_ipv4() == local.is_ipv4()).filter_map(net::source_address).next();
    let own = || net::interface_addresses().into_iter().find(|ip| ip.is_ipv4() == local.is_ipv4());
    by_trunk.or_else(own).ok_or(GatewayError::NoAddress("trunks ([sip] advertise)"))
}

/// Randomness for everything below: from the system, once.
fn seeds() -> StdRng {
    let mut seed = [0; 32];
    if let Err(error) = SysRng.try_fill_bytes(&mut seed) {
        // Never on Linux after boot; a fixed seed would make tags and ICE passwords guessable.
        tracing::error!(%error, "the system gives no randomness");
        std::process::abort();
    }
    StdRng::from_seed(seed)
}
