//! Start: bind all there is to bind, or say what is in the way; then run.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng, TryRng};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;

use super::cdr::CdrWriter;
use super::dns::Dns;
use super::driver::Driver;
use super::http::{self, About, App, Origins};
use super::listeners::{Listeners, bind_error, warn_of_tls};
use super::pool::MediaPool;
use super::sip::Sip;
use super::sip_stream::{self, Connections};
use super::{GatewayError, Tasks, sip_udp};
use crate::codec::Codec;
use crate::config::{Auth, Config, TEST_PHONE_TRUNK, TrunkConfig};
use crate::net::tls::{TlsClient, Trust};
use crate::sdp::{Band, CodecPolicy};
use crate::sip::{Advertised, Target, Timers, Transport, UaConfig};
use crate::switch::{self, Switch, SwitchConfig, SwitchLimits, Trunk};
use crate::testphone;
use crate::testphone::TestPhone;
use crate::webrtc::Identity;

/// A gateway whose addresses are all bound.
pub struct Gateway {
    driver: Driver,
    http: TcpListener,
    app: App,
    listeners: Listeners,
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
    /// SIP over TLS.
    pub sip_tls: Vec<SocketAddr>,
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
        let http = TcpListener::bind(config.http.listen)
            .await
            .map_err(|error| bind_error("the page and WebSockets", config.http.listen, "[http] listen", error))?;
        let listeners = Listeners::bind(&config.sip)?;
        warn_of_tls(&config, SystemTime::now());
        let identity = Identity::generate()?;
        let (pool, reports) = MediaPool::start(&config.media, config.limits.calls, &identity)?;
        let cdr = CdrWriter::start(&config.cdr)?;
        let (tasks, queues) = Tasks::new();

        let mut trunks: Vec<Trunk> = config.trunks.iter().map(|trunk| trunk.trunk.clone()).collect();
        let test_phone = if config.test_phone {
            let (phone, trunk) = start_test_phone(&listeners.udp).await?;
            trunks.push(trunk);
            Some(phone)
        } else {
            None
        };
        let local = |address: std::io::Result<SocketAddr>| address.map_err(GatewayError::Address);
        let ready = Ready {
            http: local(http.local_addr())?,
            media: pool.browser_addresses(),
            sip_udp: listeners.of(Transport::Udp),
            sip_tcp: listeners.of(Transport::Tcp),
            sip_tls: listeners.of(Transport::Tls),
            test_phone: test_phone.as_ref().map(TestPhone::sip_address),
        };
        let origins = Origins { allowed: config.http.origins.clone(), loopback_only: open };
        let about = About { testphone: config.test_phone, open };
        let app = App::new(tasks.clone(), origins, config.limits.sockets, config.http.softphone, about);
        let grace = config.grace;
        let sip = sip(&config, &listeners, &tasks, &mut seeds);
        let advertise = listeners.advertised(&config)?;
        let switch = Switch::new(switch_config(config, advertise, trunks, &identity, &mut seeds));
        let sockets = HashMap::new();
        let driver = Driver { switch, queues, reports, pool, sip, sockets, cdr, rng: seeds, tasks: tasks.clone() };
        Ok(Gateway { driver, http, app, listeners, test_phone, tasks, grace, ready })
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
        for (local, socket) in self.listeners.udp {
            tasks.tracker.spawn(sip_udp::receive(socket, local, tasks.clone()));
        }
        let limits = sip_stream::Limits::default();
        let places = sip_stream::places(&limits);
        for listener in self.listeners.streams {
            tasks.tracker.spawn(sip_stream::accept(listener, places.clone(), limits, tasks.clone()));
        }
        let driver = self.driver.run(stop, self.grace);
        tokio::join!(http::serve(self.http, self.app), driver);
        if let Some(phone) = self.test_phone {
            phone.stop().await;
        }
    }
}

/// The driver's side of the SIP transports. Trunks are reached only where their media can go as well.
fn sip(config: &Config, listeners: &Listeners, tasks: &Tasks, seeds: &mut StdRng) -> Sip {
    let own = |trunk: &TrunkConfig| Some((trunk.trunk.name.clone(), trunk.tls.clone()?));
    let clients = config.trunks.iter().filter_map(own).collect();
    // For a trunk that the DNS says is reached by TLS, and for the parties of its calls.
    let default_client = TlsClient::new(Trust::System, None, None)
        .inspect_err(|error| tracing::debug!(%error, "TLS to peers that no trunk describes"))
        .ok();
    let mut seed = [0; 32];
    seeds.fill_bytes(&mut seed);
    let connections = Connections::new(tasks.clone(), sip_stream::Limits::default(), clients, default_client, seed);
    let mut reach = listeners.reach();
    reach.retain(|listener| config.media.serves(listener.local.ip()));
    let dns = Dns::new(&config.sip.dns, reach, tasks.clone());
    Sip::new(Instant::now(), listeners.udp.clone(), connections, dns)
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

fn switch_config(
    config: Config,
    advertise: Vec<Advertised>,
    trunks: Vec<Trunk>,
    identity: &Identity,
    seeds: &mut StdRng,
) -> SwitchConfig {
    let mut seed = [0; 32];
    seeds.fill_bytes(&mut seed);
    let limits = SwitchLimits {
        calls: config.limits.calls,
        sockets: config.limits.sockets,
        sockets_per_user: config.limits.sockets_per_user,
        calls_per_socket: config.limits.calls_per_socket,
        ..SwitchLimits::default()
    };
    SwitchConfig {
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
            band: Band::Narrow,
            telephone_event: true,
        },
        limits,
        hello_timeout: Duration::from_secs(5),
        seed,
    }
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
