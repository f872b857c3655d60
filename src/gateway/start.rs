//! Start: bind all there is to bind, or say what is in the way; then run.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng, TryRng};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, mpsc, watch};

use super::api::Api;
use super::canary::Canaries;
use super::cdr::{Prepared, Records};
use super::dashboard::Keys;
use super::dns::Dns;
use super::driver::{self, Driver, Phase};
use super::events::Events;
use super::hooks::Hooks;
use super::http::{self, About, App, Door, Origins};
use super::journal::{Journal, Standing};
use super::lately::Lately;
use super::left::LeftCalls;
use super::life::{Life, Teller};
use super::listeners::{Listeners, advertised, bind_error, warn_of_tls};
use super::metrics::Metrics;
use super::notify::Notifier;
use super::otlp::Otlp;
use super::pool::MediaPool;
use super::proxies::Proxies;
use super::reload::{self, Bound};
use super::sip::Sip;
use super::sip_stream::{self, Connections};
use super::store::Store;
use super::trace::Trace;
use super::{Ask, GatewayError, Source, Tasks, control, sip_udp};
use crate::config::{ApiToken, Auth, Config, TEST_PHONE_TRUNK, TrunkConfig};
use crate::net::tls::{TlsClient, TlsServer, Trust};
use crate::sdp::CodecPolicy;
use crate::sip::{Advertised, Flow, Listener, Target, Timers, Transport, UaConfig};
use crate::switch::{self, EMERGENCY_ROOM, PROBE_ROOM, Room, Row, Switch, SwitchConfig, SwitchLimits, Trunk};
use crate::testphone;
use crate::testphone::TestPhone;
use crate::webrtc::Identity;

/// A gateway whose addresses are all bound.
pub struct Gateway {
    driver: Driver,
    http: TcpListener,
    /// What it shows to those who connect by https.
    https: Option<Arc<watch::Sender<TlsServer>>>,
    app: App,
    operators: Operators,
    listeners: Listeners,
    test_phone: Option<TestPhone>,
    tasks: Tasks,
    control: Option<control::Door>,
    reloads: mpsc::Receiver<reload::Request>,
    notifier: Arc<Notifier>,
    ready: Ready,
}

/// Where the gateway is reached.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Ready {
    /// HTTP and WebSocket.
    pub http: SocketAddr,
    /// Whether that is https and wss.
    pub https: bool,
    /// Call control, where it is on.
    pub api: Option<SocketAddr>,
    /// Browsers' media: one address.
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

/// What operators and their programs come to.
struct Operators {
    /// Call control's own door, where it has one.
    listener: Option<TcpListener>,
    api: Arc<Api>,
    keys: Keys,
    /// Calls that test trunks.
    canaries: Canaries,
}

/// What is kept on disks, or in databases, and what an earlier run left there.
struct Kept {
    cdr: Records,
    journal: Option<Journal>,
    left: Standing,
    store: Option<Store>,
    stored: Vec<Row>,
}

impl Kept {
    fn open(config: &Config) -> Result<Self, GatewayError> {
        let cdr = Records::start(Prepared::open(&config.cdr)?)?;
        let longest_call = SwitchLimits::default().longest_call;
        let opened = config.journal.as_deref().map(|path| Journal::open(path, driver::now().unix_ms, longest_call));
        let (journal, left) = opened.transpose().or_else(without_journal)?.unzip();
        let opened = config.store.as_deref().map(|path| Store::open(path, driver::now().unix_ms)).transpose()?;
        let (store, stored) = opened.unzip();
        Ok(Self { cdr, journal, left: left.unwrap_or_default(), store, stored: stored.unwrap_or_default() })
    }
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
        let api = bind_api(&config).await?;
        let listeners = Listeners::bind(&config.sip)?;
        warn_of_tls(&config, SystemTime::now());
        let identity = Identity::generate()?;
        let (pool, reports) = MediaPool::start(&config.media, media_calls(config.limits.calls), &identity)?;
        let Kept { cdr, journal, left: Standing { dialogs, records }, store, stored } = Kept::open(&config)?;
        let control = config.control.as_deref().map(control::Door::open).transpose()?;
        let (tasks, queues) = Tasks::new();

        let mut trunks: Vec<Trunk> = config.trunks.iter().map(|trunk| trunk.trunk.clone()).collect();
        let mut test_phone = None;
        if config.test_phone {
            let (phone, trunk) = start_test_phone(&listeners.udp).await?;
            trunks.push(trunk);
            test_phone = Some(phone);
        }
        let https = config.http.tls.is_some();
        let ready = ready(
            &http,
            https,
            api.as_ref(),
            pool.browser_address().into_iter().collect(),
            &listeners,
            test_phone.as_ref(),
        )?;
        let now = driver::now().instant;
        let notifier = Arc::new(Notifier::from_environment());
        let (life, watched) = watch::channel(Life::starting(now));
        let teller = Teller::new(now, life, notifier.clone());
        let https = config.http.tls.clone().map(|tls| Arc::new(watch::Sender::new(tls)));
        let (settings, door) = Settings::new(&config, &listeners, https.clone());
        let (reload, reloads) = mpsc::channel(reload::QUEUE);
        let boot = driver::now().unix_ms;
        let (metrics, counted) = Metrics::new(boot);
        let app = App::new(tasks.clone(), door, settings.sockets.clone(), watched, metrics.clone());
        let events = Events::new(boot, &config.webhooks, config.spool.clone(), tasks.clone());
        let canaries = Canaries::new(tasks.clone(), events.stream(), ready.sip_udp.clone(), config.media.rtp_address);
        let tokens = settings.api_tokens.subscribe();
        let keys = Keys::default();
        let asked = Arc::new(Api::new(tasks.clone(), tokens, events.stream(), metrics, keys.clone()));
        let operators = Operators { listener: api, api: asked, keys, canaries };
        let sip = sip(&config, &listeners, &tasks, &mut seeds);
        let advertise = advertised(&listeners.reach(), &config)?;
        let trace = Trace::new(&config);
        let lately = Lately::new(boot, config.trace.calls);
        let otlp = Otlp::new(config.otlp.clone(), &tasks);
        let mut switch = Switch::new(switch_config(config, advertise, trunks, &identity, &mut seeds));
        switch.restore_limits(driver::now(), stored);
        let sockets = HashMap::new();
        let driver = Driver {
            switch,
            queues,
            reports,
            pool,
            sip,
            sockets,
            cdr,
            metrics: counted,
            hooks: Hooks::new(tasks.clone()),
            rng: seeds,
            tasks: tasks.clone(),
            settings,
            teller,
            phase: Phase::Serving,
            journal,
            store,
            left: LeftCalls::new(now, dialogs),
            unwritten: records,
            events,
            commands: HashMap::new(),
            next_command: 0,
            trace,
            lately,
            otlp,
            reloads: reload,
        };
        Ok(Gateway {
            driver,
            http,
            https,
            app,
            operators,
            listeners,
            test_phone,
            tasks,
            control,
            reloads,
            notifier,
            ready,
        })
    }

    /// Where it is reached.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Serves until it is asked to stop, then ends calls cleanly and takes everything down. Reloads come from `source`.
    ///
    /// Every wait of the end has its limit: see the driver and the servers.
    pub async fn run(self, asks: mpsc::Receiver<Ask>, source: Option<Source>) {
        let tasks = self.tasks;
        let Operators { listener, api, keys, canaries } = self.operators;
        if let Some(door) = self.control {
            tasks.tracker.spawn(door.serve(
                self.driver.reloads.clone(),
                self.ready.clone(),
                keys,
                canaries,
                tasks.clone(),
            ));
        }
        tasks.tracker.spawn(reload::serve(source, self.reloads, tasks.clone(), self.notifier));
        let https = self.https.as_ref().map(|shown| shown.subscribe());
        for shown in [self.listeners.tls, self.https].into_iter().flatten() {
            tasks.tracker.spawn(reload::watch_certificate(shown, tasks.clone()));
        }
        for (local, socket) in self.listeners.udp {
            tasks.tracker.spawn(sip_udp::receive(socket, local, tasks.clone()));
        }
        let limits = sip_stream::Limits::default();
        let places = sip_stream::places(&limits);
        for listener in self.listeners.streams {
            tasks.tracker.spawn(sip_stream::accept(listener, places.clone(), limits, tasks.clone()));
        }
        if let Some(listener) = listener {
            tasks.tracker.spawn(super::api::serve(listener, api.clone()));
        }
        // In a task of its own: a driver that stands still must not hold up the answer to who asks whether it does.
        tasks.tracker.spawn(http::serve(self.http, https, self.app, api));
        self.driver.run(asks).await;
        if let Some(phone) = self.test_phone {
            phone.stop().await;
        }
    }
}

/// Calls that the media path has room for.
fn media_calls(calls: usize) -> usize {
    calls.saturating_add(EMERGENCY_ROOM + PROBE_ROOM)
}

/// Where a gateway with these is reached.
fn ready(
    http: &TcpListener,
    https: bool,
    api: Option<&TcpListener>,
    media: Vec<SocketAddr>,
    listeners: &Listeners,
    test_phone: Option<&TestPhone>,
) -> Result<Ready, GatewayError> {
    let local = |listener: &TcpListener| listener.local_addr().map_err(GatewayError::Address);
    Ok(Ready {
        http: local(http)?,
        https,
        api: api.map(local).transpose()?,
        media,
        sip_udp: listeners.of(Transport::Udp),
        sip_tcp: listeners.of(Transport::Tcp),
        sip_tls: listeners.of(Transport::Tls),
        test_phone: test_phone.map(TestPhone::sip_address),
    })
}

/// A full disk does not stop the start.
fn without_journal<T>(error: GatewayError) -> Result<Option<T>, GatewayError> {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match &error {
        GatewayError::Journal { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded) => {
            tracing::error!("{error}: calls left behind by a crash would not be ended");
            Ok(None)
        }
        _ => Err(error),
    }
}

/// How trunks that say so are verified, by their names.
pub(super) fn tls_clients(config: &Config) -> HashMap<String, TlsClient> {
    let own = |trunk: &TrunkConfig| Some((trunk.trunk.name.clone(), trunk.tls.clone()?));
    config.trunks.iter().filter_map(own).collect()
}

/// What a reload changes outside of the switch, and what it cannot change.
pub(super) struct Settings {
    pub(super) bound: Bound,
    /// The most calls there ever was room for: what has grown does not shrink.
    room: usize,
    /// How long calls may take to end by themselves.
    pub(super) grace: Duration,
    /// The places of WebSockets.
    pub(super) sockets: Arc<Semaphore>,
    places: usize,
    door: watch::Sender<Door>,
    /// Who may control calls.
    api_tokens: watch::Sender<Vec<ApiToken>>,
    shown: Option<Arc<watch::Sender<TlsServer>>>,
    /// The same of `[http]`.
    https: Option<Arc<watch::Sender<TlsServer>>>,
    http: SocketAddr,
    /// What requests can be sent from.
    reach: Vec<Listener>,
    /// The names that trunks are looked up by.
    names: HashMap<String, String>,
    /// When the certificates run out that trunks are shown.
    to_trunks: Vec<(String, SystemTime)>,
}

impl Settings {
    fn new(
        config: &Config,
        listeners: &Listeners,
        https: Option<Arc<watch::Sender<TlsServer>>>,
    ) -> (Settings, watch::Receiver<Door>) {
        let (door, opened) = watch::channel(door(config));
        let name = |trunk: &TrunkConfig| Some((trunk.trunk.name.clone(), trunk.trunk.dns.as_ref()?.host.clone()));
        let places = config.limits.sockets;
        let settings = Settings {
            bound: Bound::of(config),
            room: config.limits.calls,
            grace: config.grace,
            sockets: Arc::new(Semaphore::new(places)),
            places,
            door,
            api_tokens: watch::Sender::new(api_tokens(config)),
            shown: listeners.tls.clone(),
            https,
            http: config.http.listen,
            reach: listeners.reach(),
            names: config.trunks.iter().filter_map(name).collect(),
            to_trunks: certificates_of_trunks(config),
        };
        (settings, opened)
    }

    /// A flow of an earlier gateway from where it can be had now: its listener, or another that is alike.
    pub(super) fn way(&self, flow: Flow) -> Option<Flow> {
        let like =
            |reach: &&Listener| reach.transport == flow.transport && reach.local.is_ipv4() == flow.remote.is_ipv4();
        let same = self.reach.iter().filter(like).find(|reach| reach.local == flow.local);
        let found = same.or_else(|| self.reach.iter().find(like))?;
        Some(Flow { local: found.local, ..flow })
    }

    /// The name that a trunk's certificate is looked for by.
    pub(super) fn tls_name(&self, trunk: &str) -> Option<&str> {
        self.names.get(trunk).map(String::as_str)
    }

    /// The certificates that others are shown at present, and when each runs out.
    pub(super) fn certificates(&self) -> Vec<(String, SystemTime)> {
        let listeners = [("http", &self.https), ("sip", &self.shown)];
        let listeners = listeners.into_iter().filter_map(|(of, shown)| {
            let shown = shown.as_ref()?.borrow().identity().expires();
            Some((of.to_owned(), shown))
        });
        listeners.chain(self.to_trunks.iter().cloned()).collect()
    }

    /// What is right in itself may not suit what is bound. Gives what peers are told of our addresses.
    pub(super) fn check(&self, config: &Config) -> Result<Vec<Advertised>, GatewayError> {
        match config.auth {
            Auth::Open if !self.http.ip().is_loopback() => Err(GatewayError::OpenToTheWorld(self.http)),
            _ => advertised(&self.reach, config),
        }
    }

    /// Calls that the media path is to have room for.
    pub(super) fn media_calls(&self) -> usize {
        media_calls(self.room)
    }

    pub(super) fn take(&mut self, config: &Config) {
        warn_of_tls(config, SystemTime::now());
        self.grace = config.grace;
        self.room = self.room.max(config.limits.calls);
        self.to_trunks = certificates_of_trunks(config);
        self.door.send_replace(door(config));
        self.api_tokens.send_replace(api_tokens(config));
        let wanted = config.limits.sockets;
        if wanted > self.places {
            self.sockets.add_permits(wanted - self.places);
            self.places = wanted;
        } else {
            // Those in use stay; the switch counts all the same.
            self.places -= self.sockets.forget_permits(self.places - wanted);
        }
        let tls = [(&self.shown, &config.sip.tls_server), (&self.https, &config.http.tls)];
        for (shown, new) in tls {
            if let (Some(shown), Some(new)) = (shown, new) {
                shown.send_replace(new.clone());
            }
        }
    }

    /// What the switch is told.
    pub(super) fn switch(&self, config: Config, advertise: Vec<Advertised>) -> switch::Reload {
        let limits = switch_limits(&config);
        switch::Reload {
            trunks: config.trunks.into_iter().map(|trunk| trunk.trunk).collect(),
            phones: config.phones,
            plan: config.plan,
            auth: switch_auth(config.auth),
            turn: config.turn,
            limits,
            quotas: config.quotas,
            advertise,
            redundancy: config.media.redundancy,
            room: Room::for_calls(self.room),
        }
    }
}

/// The listener of call control. It has no TLS: off this machine something has to stand in front.
async fn bind_api(config: &Config) -> Result<Option<TcpListener>, GatewayError> {
    let Some(api) = &config.api else { return Ok(None) };
    if !api.listen.ip().is_loopback() {
        tracing::warn!(listen = %api.listen, "[api] is reached without TLS: whoever is in between reads its tokens");
    }
    let bound = TcpListener::bind(api.listen).await;
    bound.map(Some).map_err(|error| bind_error("call control", api.listen, "[api] listen", error))
}

fn api_tokens(config: &Config) -> Vec<ApiToken> {
    config.api.as_ref().map(|api| api.tokens.clone()).unwrap_or_default()
}

fn certificates_of_trunks(config: &Config) -> Vec<(String, SystemTime)> {
    let shown = |trunk: &TrunkConfig| Some((trunk.trunk.name.clone(), trunk.tls.as_ref()?.identity()?.expires()));
    config.trunks.iter().filter_map(shown).collect()
}

fn door(config: &Config) -> Door {
    let open = matches!(config.auth, Auth::Open);
    Door {
        origins: Origins { allowed: config.http.origins.clone(), loopback_only: open },
        proxies: Proxies(config.http.proxies.clone()),
        softphone: config.http.softphone,
        sip: config.http.sip_over_websocket,
        about: About { testphone: config.test_phone, open },
    }
}

fn switch_auth(auth: Auth) -> switch::Auth {
    match auth {
        Auth::Open => switch::Auth::Open,
        Auth::Token { verifier, .. } => switch::Auth::Token(verifier),
    }
}

fn switch_limits(config: &Config) -> SwitchLimits {
    let limits = &config.limits;
    SwitchLimits {
        resume_within: config.resume_within,
        plain_numbers: config.log.numbers,
        calls: limits.calls,
        sockets: limits.sockets,
        sockets_per_user: limits.sockets_per_user,
        calls_per_socket: limits.calls_per_socket,
        ..SwitchLimits::default()
    }
}

/// The driver's side of the SIP transports. Trunks are reached only where their media can go as well.
fn sip(config: &Config, listeners: &Listeners, tasks: &Tasks, seeds: &mut StdRng) -> Sip {
    // For a trunk that the DNS says is reached by TLS, and for the parties of its calls.
    let default_client = TlsClient::new(Trust::System, None, None)
        .inspect_err(|error| tracing::debug!(%error, "TLS to peers that no trunk describes"))
        .ok();
    let mut seed = [0; 32];
    seeds.fill_bytes(&mut seed);
    let connections =
        Connections::new(tasks.clone(), sip_stream::Limits::default(), tls_clients(config), default_client, seed);
    let mut reach = listeners.reach();
    reach.retain(|listener| config.media.serves(listener.local.ip()));
    let dns = Dns::new(&config.sip.dns, reach, tasks.clone());
    Sip::new(Instant::now(), listeners.udp.clone(), connections, dns)
}

/// The test phone, and the trunk by which the demo plan reaches it through the same stack as any other.
async fn start_test_phone(udp: &[(SocketAddr, Arc<UdpSocket>)]) -> Result<(TestPhone, Trunk), GatewayError> {
    let Some(&(local, _)) = udp.first() else { return Err(GatewayError::NoAddress("the test phone")) };
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let phone = TestPhone::start(testphone::Config { sip_bind: loopback, gateway: local, canary: None })
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
    let limits = switch_limits(&config);
    let room = Room::for_calls(limits.calls);
    SwitchConfig {
        trunks,
        phones: config.phones,
        plan: config.plan,
        fingerprint: identity.fingerprint(),
        auth: switch_auth(config.auth),
        turn: config.turn,
        ua: UaConfig {
            user_agent: concat!("Ringback/", env!("CARGO_PKG_VERSION")).into(),
            timers: Timers::default(),
            max_sessions: room.sessions,
            max_transactions: room.transactions,
            registrar: false,
            advertise,
        },
        policy: CodecPolicy { red: config.media.redundancy, ..CodecPolicy::default() },
        limits,
        quotas: config.quotas,
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
