//! One typed configuration, checked whole before anything is bound.
//!
//! Without a file there is [`Config::embedded`]: everything on loopback, the softphone page, the built-in test phone and
//! the demo dial plan, no tokens. With a file ([`Config::load`]) every value is checked and a wrong one is told with file
//! and line. Docs: `docs/configuration.md`.

mod api;
mod cdr;
mod error;
mod otlp;
pub mod profile;
mod quota;
mod raw;
mod registrar;
#[cfg(test)]
mod tests;
mod tls;
mod trace;
mod trunk;
mod turn;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use tracing_subscriber::EnvFilter;

use crate::dialplan::{Plan, PlanFile};
use crate::net::tls::TlsServer;
use crate::signal::{TokenVerifier, Turn};
use crate::sip::Host;
use crate::switch::{Network, PhonesConfig, Quotas};

pub use api::{Api, ApiToken, Webhook, wants};
pub use cdr::{CdrConfig, CdrLines, CdrPostgres};
pub use error::{ConfigError, LoadError, Problem};
pub use otlp::Otlp;
pub use quota::Unlimited;
pub use trace::{Hep, Trace};
pub use trunk::TrunkConfig;

/// The name under which the embedded default's trunk stands in its plan.
pub const TEST_PHONE_TRUNK: &str = "testphone";
/// The dial plan of the embedded default.
const DEMO_PLAN: &str = include_str!("../dialplans/demo.toml");

/// Everything the gateway is told.
#[derive(Debug)]
pub struct Config {
    /// Where pages and WebSockets are served.
    pub http: Http,
    /// SIP listeners.
    pub sip: Sip,
    /// Media addresses, ports and threads.
    pub media: Media,
    /// How a browser proves who it is.
    pub auth: Auth,
    /// The TURN servers that browsers are told of; `None`: none.
    pub turn: Option<Turn>,
    /// The dial plans, loaded and tested.
    pub plan: Arc<Plan>,
    /// The trunks that the plans may name.
    pub trunks: Vec<TrunkConfig>,
    /// The registrar of users' SIP phones; off where there is none.
    pub phones: Option<PhonesConfig>,
    /// Where call detail records go.
    pub cdr: CdrConfig,
    /// How to log.
    pub log: Log,
    /// What one gateway, user or socket may have at once.
    pub limits: Limits,
    /// How much may be called out by trunks: the limits against fraud.
    pub quotas: Quotas,
    /// The database of what these have counted; `None`: in memory alone.
    pub store: Option<PathBuf>,
    /// How long a call stands whose browser has lost its WebSocket; zero: not at all.
    pub resume_within: Duration,
    /// How long SIGTERM waits for calls to end by themselves before it hangs up.
    pub grace: Duration,
    /// The Unix socket by which `ringback reload` and its like reach the gateway; `None`: there is none.
    pub control: Option<PathBuf>,
    /// Where the dialogs that stand are written down, so that the next start can end those left behind; `None`: nowhere.
    pub journal: Option<PathBuf>,
    /// Call control over HTTP; off where there is none.
    pub api: Option<Api>,
    /// Who is told of what happens.
    pub webhooks: Vec<Webhook>,
    /// The folder in which what waits for a web hook is kept; `None`: in memory alone.
    pub spool: Option<PathBuf>,
    /// What of calls' signalling is kept.
    pub trace: Trace,
    /// Who else is sent their SIP messages.
    pub hep: Option<Hep>,
    /// Who is sent calls as traces.
    pub otlp: Option<Otlp>,
    /// The embedded default: run the test phone beside the gateway.
    pub test_phone: bool,
}

/// `[http]`
#[derive(Debug, Clone)]
pub struct Http {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Origins whose pages may open a WebSocket; `None`: only pages of this gateway itself.
    pub origins: Option<Vec<String>>,
    /// Serve the softphone page.
    pub softphone: bool,
    /// Let browsers in that speak SIP, at `/sip`.
    pub sip_over_websocket: bool,
    /// The proxies that are believed when they say for whom they come (`X-Forwarded-For`).
    pub proxies: Vec<Network>,
    /// What is shown to those who connect: then it is https and wss alone.
    pub tls: Option<TlsServer>,
}

/// `[sip]`
#[derive(Debug, Clone)]
pub struct Sip {
    /// UDP listeners.
    pub udp: Vec<SocketAddr>,
    /// TCP listeners.
    pub tcp: Vec<SocketAddr>,
    /// TLS listeners.
    pub tls: Vec<SocketAddr>,
    /// What they show; there whenever there is a TLS listener.
    pub tls_server: Option<TlsServer>,
    /// What to write into Via and Contact, where it differs from the listeners' addresses: a host name, or at most one
    /// address of each family.
    pub advertise: Vec<Host>,
    /// The name servers to ask; empty: the system's.
    pub dns: Vec<SocketAddr>,
}

/// `[media]`
#[derive(Debug, Clone)]
pub struct Media {
    /// The UDP address that browsers reach, whatever the number of workers.
    pub browser: SocketAddr,
    /// Where RTP sockets towards trunks are bound.
    pub rtp_address: IpAddr,
    /// The ports they may take: even ones for RTP, the odd one above for RTCP.
    pub rtp_ports: RangeInclusive<u16>,
    /// The addresses to write into candidates, and into `c=` lines for trunks outside of private networks, where they
    /// differ from the bound ones.
    pub advertise: Vec<IpAddr>,
    /// The address to write into `c=` lines, whatever the trunk.
    pub rtp_advertise: Option<IpAddr>,
    /// Media threads.
    pub workers: usize,
    /// The processors that they are kept to, one after the other and then from the first again; empty: to none.
    pub cpus: Vec<usize>,
    /// The share of a processor's time, in percent, above which a media thread takes no new calls, as when it is late; 0: it
    /// takes them all the same.
    pub busy_at: u8,
    /// What those on hold hear: 8 kHz PCM, over and over. `None`: a comfort tone.
    pub hold_music: Option<Arc<[i16]>>,
    /// Whether browsers that can are asked to send each packet of Opus twice.
    pub redundancy: bool,
}

impl Media {
    /// Whether media can go to peers of this address's family: `[::]` serves both.
    pub fn serves(&self, ip: IpAddr) -> bool {
        let both_families = self.rtp_address.is_ipv6() && self.rtp_address.is_unspecified();
        both_families || self.rtp_address.is_ipv4() == ip.is_ipv4()
    }
}

/// `[auth]`
#[derive(Debug)]
pub enum Auth {
    /// A session names its user itself; loopback only.
    Open,
    /// A session brings a signed token.
    Token {
        /// Checks it.
        verifier: TokenVerifier,
        /// The HS256 secret, with which `ringback token` can sign; none where only a public key is known.
        secret: Option<Secret>,
    },
}

/// A secret that never shows in a log.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// These bytes.
    pub fn of(bytes: &[u8]) -> Secret {
        Secret(bytes.to_vec())
    }

    /// The secret itself.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// One JSON object a line instead of text.
    pub json: bool,
    /// A filter as `RUST_LOG` takes it; that variable goes first.
    pub level: String,
    /// Numbers that are called stand in it as they are, instead of with stars.
    pub numbers: bool,
}

/// Seconds of `[calls] resume_within` unless told.
const RESUME_WITHIN: usize = 30;
/// Percent of `[media] busy_at` unless told.
const BUSY_AT: u8 = 85;

/// `[limits]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Calls at once.
    pub calls: usize,
    /// WebSockets at once.
    pub sockets: usize,
    /// WebSockets of one user at once.
    pub sockets_per_user: usize,
    /// Calls of one WebSocket at once.
    pub calls_per_socket: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { calls: 1000, sockets: 10_000, sockets_per_user: 16, calls_per_socket: 8 }
    }
}

impl Config {
    /// The configuration of `ringback` started with none: loopback only, test phone, demo plan, no tokens.
    ///
    /// # Errors
    /// Only if the embedded plan is broken, which a test rules out.
    pub fn embedded() -> Result<Config, LoadError> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let files = [PlanFile { name: "dialplans/demo.toml (embedded)".into(), text: DEMO_PLAN.into() }];
        let plan = Plan::load(&files, &[TEST_PHONE_TRUNK.to_owned()]).map_err(LoadError::Plan)?;
        Ok(Config {
            http: Http {
                listen: SocketAddr::new(loopback, 8080),
                proxies: Vec::new(),
                origins: None,
                softphone: true,
                sip_over_websocket: true,
                tls: None,
            },
            sip: Sip {
                udp: vec![SocketAddr::new(loopback, 0)],
                tcp: Vec::new(),
                tls: Vec::new(),
                tls_server: None,
                advertise: Vec::new(),
                dns: Vec::new(),
            },
            media: Media {
                browser: SocketAddr::new(loopback, 0),
                rtp_address: loopback,
                rtp_ports: 20_000..=20_999,
                advertise: Vec::new(),
                rtp_advertise: None,
                workers: 1,
                cpus: Vec::new(),
                busy_at: BUSY_AT,
                hold_music: None,
                redundancy: true,
            },
            auth: Auth::Open,
            turn: None,
            plan: Arc::new(plan),
            trunks: Vec::new(),
            phones: None,
            cdr: CdrConfig::stdout(),
            log: Log { json: false, level: "info".into(), numbers: false },
            trace: Trace::default(),
            hep: None,
            otlp: None,
            limits: Limits::default(),
            quotas: Quotas::default(),
            store: None,
            resume_within: Duration::from_secs(RESUME_WITHIN as u64),
            grace: Duration::ZERO,
            control: None,
            journal: None,
            api: None,
            webhooks: Vec::new(),
            spool: None,
            test_phone: true,
        })
    }

    /// Reads `path` and the dial plans that it names (relative to its own folder) and checks all of it.
    ///
    /// # Errors
    /// [`LoadError`] with file and line.
    pub fn load(path: &Path) -> Result<Config, LoadError> {
        let text = std::fs::read_to_string(path).map_err(|e| whole_file(path, Problem::Unreadable(e)))?;
        let raw: raw::File = toml::from_str(&text).map_err(|e| error::toml(path, &text, &e))?;
        Reader { path, text: &text }.config(raw)
    }
}

/// An error about a file as a whole.
fn whole_file(path: &Path, problem: Problem) -> ConfigError {
    ConfigError { file: path.display().to_string(), place: None, problem }
}

/// Turns the raw file into a [`Config`]; knows the text, so that an error can name its line.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn error<T>(&self, at: &Spanned<T>, problem: Problem) -> ConfigError {
        ConfigError {
            file: self.path.display().to_string(),
            place: Some(error::place(self.text, at.span().start)),
            problem,
        }
    }

    /// A path of the file, relative to the folder of the file itself.
    fn beside(&self, name: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new(".")).join(name)
    }

    fn address(
        &self,
        key: &'static str,
        example: &'static str,
        value: &Spanned<String>,
    ) -> Result<SocketAddr, ConfigError> {
        let text = value.get_ref();
        text.parse().map_err(|_| self.error(value, Problem::Address { key, value: text.clone(), example }))
    }

    fn addresses(
        &self,
        key: &'static str,
        example: &'static str,
        values: &Option<Vec<Spanned<String>>>,
    ) -> Result<Vec<SocketAddr>, ConfigError> {
        values.iter().flatten().map(|v| self.address(key, example, v)).collect()
    }

    fn ip(&self, key: &'static str, value: &Spanned<String>) -> Result<IpAddr, ConfigError> {
        let text = value.get_ref();
        text.parse().map_err(|_| {
            self.error(value, Problem::Word { key, value: text.clone(), takes: "an IPv4 or IPv6 address".into() })
        })
    }

    fn number(
        &self,
        key: &'static str,
        value: &Option<Spanned<usize>>,
        default: usize,
        range: RangeInclusive<usize>,
        takes: &'static str,
    ) -> Result<usize, ConfigError> {
        match value {
            None => Ok(default),
            Some(v) if range.contains(v.get_ref()) => Ok(*v.get_ref()),
            Some(v) => Err(self.error(v, Problem::Number { key, value: *v.get_ref(), takes })),
        }
    }

    /// A file that `name` names cannot be read: the place is where it is named.
    fn unreadable(&self, name: &Spanned<String>, file: &Path, reason: std::io::Error) -> ConfigError {
        self.error(name, Problem::UnreadableFile { file: file.to_owned(), reason })
    }

    fn secret_file(&self, name: &Spanned<String>) -> Result<String, ConfigError> {
        let path = self.beside(name.get_ref());
        let text = std::fs::read_to_string(&path).map_err(|e| self.unreadable(name, &path, e))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn config(&self, raw: raw::File) -> Result<Config, LoadError> {
        let http = self.http(&raw.http)?;
        let sip = self.sip(&raw.sip)?;
        let profiles = self.beside(raw.profiles.dir.as_deref().unwrap_or("profiles"));
        let trunks = raw.trunk.iter().map(|(name, section)| self.profiled_trunk(name, section, &profiles, &sip));
        let trunks = trunks.collect::<Result<Vec<_>, _>>()?;
        let media = self.media(&raw.media)?;
        let literal = |t: &&TrunkConfig| t.trunk.dns.as_ref().and_then(|dns| dns.host.parse::<IpAddr>().ok());
        let unserved = |t: &&TrunkConfig| literal(t).is_some_and(|ip| !media.serves(ip));
        if let Some(TrunkConfig { trunk, .. }) = trunks.iter().find(unserved) {
            let problem = Problem::MediaFamily { trunk: trunk.name.clone(), rtp_address: media.rtp_address };
            let place = raw.trunk.get(&trunk.name).map(|section| error::place(self.text, section.span().start));
            return Err(ConfigError { file: self.path.display().to_string(), place, problem }.into());
        }
        let trace = self.trace(&raw.trace)?;
        let names: Vec<String> = trunks.iter().map(|t| t.trunk.name.clone()).collect();
        let phones = raw.registrar.as_ref().map(|section| self.registrar(section)).transpose()?;
        let auth = self.auth(raw.auth.as_ref(), http.listen)?;
        let turn = raw.turn.as_ref().map(|section| self.turn(section)).transpose()?;
        let plan = self.plan(&raw.dialplan, &names)?;
        Ok(Config {
            media,
            phones,
            auth,
            turn,
            quotas: self.quotas(&raw.limits, &plan, &names)?,
            store: self.own_file(raw.store.path.as_deref(), "STATE_DIRECTORY", "store.db"),
            plan: Arc::new(plan),
            cdr: self.cdr(&raw.cdr)?,
            log: self.log(&raw.log)?,
            trace,
            hep: raw.hep.as_ref().map(|section| self.hep(section, trace)).transpose()?,
            otlp: raw.otlp.as_ref().map(|section| self.otlp(section)).transpose()?,
            limits: self.limits(&raw.limits)?,
            resume_within: self.resume_within(&raw.calls)?,
            grace: Duration::from_secs(raw.shutdown.grace_seconds.unwrap_or(0)),
            control: self.own_file(raw.control.socket.as_deref(), "RUNTIME_DIRECTORY", "control.sock"),
            journal: self.own_file(raw.journal.file.as_deref(), "STATE_DIRECTORY", "calls.journal"),
            api: raw.api.as_ref().map(|section| self.api(section)).transpose()?,
            webhooks: self.webhooks(&raw.webhook)?,
            spool: self.own_file(raw.events.spool.as_deref(), "STATE_DIRECTORY", "events"),
            test_phone: false,
            http,
            sip,
            trunks,
        })
    }

    /// A file of the gateway's own: as configured, else in the folder that the service manager made for such.
    fn own_file(&self, configured: Option<&str>, folder: &str, name: &str) -> Option<PathBuf> {
        let managed = || {
            let folders = std::env::var(folder).ok()?;
            let first = folders.split(':').next().filter(|first| !first.is_empty())?;
            Some(Path::new(first).join(name))
        };
        configured.map(|file| self.beside(file)).or_else(managed)
    }

    fn http(&self, raw: &raw::Http) -> Result<Http, ConfigError> {
        let listen = match &raw.listen {
            Some(v) => self.address("listen", "\"127.0.0.1:8080\"", v)?,
            None => SocketAddr::from(([127, 0, 0, 1], 8080)),
        };
        let origin = |v: &Spanned<String>| {
            let text = v.get_ref().trim_end_matches('/');
            let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
            match host {
                Some(h) if !h.is_empty() && !h.contains('/') => Ok(text.to_ascii_lowercase()),
                _ => Err(self.error(
                    v,
                    Problem::Word {
                        key: "origins",
                        value: v.get_ref().clone(),
                        takes: "origins such as \"https://shop.example\", without a path".into(),
                    },
                )),
            }
        };
        let origins = raw.origins.as_ref().map(|list| list.iter().map(origin).collect::<Result<_, _>>()).transpose()?;
        let (softphone, sip_over_websocket) = (raw.softphone.unwrap_or(true), raw.sip_over_websocket.unwrap_or(true));
        let proxies = self.networks("proxies", raw.proxies.as_deref())?;
        Ok(Http { listen, origins, softphone, sip_over_websocket, proxies, tls: self.https(raw)? })
    }

    fn sip(&self, raw: &raw::Sip) -> Result<Sip, ConfigError> {
        let example = "\"192.0.2.1:5060\" or \"[2001:db8::1]:5060\"";
        let mut sip = Sip {
            udp: self.addresses("udp", example, &raw.udp)?,
            tcp: self.addresses("tcp", example, &raw.tcp)?,
            tls: self.addresses("tls", example, &raw.tls)?,
            tls_server: self.tls_server(raw)?,
            advertise: self.sip_advertise(raw)?,
            dns: self.addresses("dns", "\"192.0.2.53:53\"", &raw.dns)?,
        };
        if raw.udp.is_none() && raw.tcp.is_none() {
            sip.udp = vec![SocketAddr::from(([0, 0, 0, 0], 5060))];
            sip.tcp = sip.udp.clone();
        }
        Ok(sip)
    }

    /// A host name (some peers know us by our certificate's alone), one address, or one of each family.
    fn sip_advertise(&self, raw: &raw::Sip) -> Result<Vec<Host>, ConfigError> {
        let Some(value) = &raw.advertise else { return Ok(Vec::new()) };
        let texts = match value.get_ref() {
            raw::OneOrMore::One(text) => std::slice::from_ref(text),
            raw::OneOrMore::More(texts) => texts,
        };
        let wrong = |text: &str| {
            let takes = "an IPv4 or IPv6 address, a list of one of each, or a host name with a dot".into();
            self.error(value, Problem::Word { key: "advertise", value: text.to_owned(), takes })
        };
        let mut found: Vec<Host> = Vec::new();
        for text in texts {
            let host = match text.parse::<IpAddr>() {
                Ok(ip) if !ip.is_unspecified() => Host::from(ip),
                Ok(_) => return Err(wrong(text)),
                Err(_) => text.parse().map_err(|_| wrong(text))?,
            };
            // A name stands for every listener; a single word or a misspelt address is none.
            let alone = match &host {
                Host::Name(name) => {
                    found.is_empty()
                        && texts.len() == 1
                        && name.contains('.')
                        && name.ends_with(|last: char| last.is_ascii_alphabetic())
                }
                ip => found.iter().all(|other| std::mem::discriminant(other) != std::mem::discriminant(ip)),
            };
            if !alone {
                return Err(wrong(text));
            }
            found.push(host);
        }
        Ok(found)
    }

    fn media(&self, raw: &raw::Media) -> Result<Media, ConfigError> {
        let browser = match &raw.browser {
            Some(v) => self.address("browser", "\"0.0.0.0:40000\"", v)?,
            None => SocketAddr::from(([0, 0, 0, 0], 40_000)),
        };
        let rtp_address = match &raw.rtp_address {
            Some(v) => self.ip("rtp_address", v)?,
            None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let rtp_ports = match &raw.rtp_ports {
            Some(v) => parse_ports(v.get_ref()).ok_or_else(|| self.error(v, Problem::Ports(v.get_ref().clone())))?,
            None => 20_000..=20_999,
        };
        let advertise =
            raw.advertise.iter().flatten().map(|v| self.ip("advertise", v)).collect::<Result<Vec<_>, _>>()?;
        let rtp_advertise = raw.rtp_advertise.as_ref().map(|v| self.ip("rtp_advertise", v)).transpose()?;
        let workers = self.number("workers", &raw.workers, 1, 1..=64, "1 to 64")?;
        let cpus = raw.cpus.iter().flatten().map(|cpu| self.cpu(cpu)).collect::<Result<_, _>>()?;
        let busy_at = self.number("busy_at", &raw.busy_at, usize::from(BUSY_AT), 0..=100, "0 to 100")? as u8;
        let hold_music = raw.hold_music.as_ref().map(|name| self.music(name)).transpose()?;
        let redundancy = raw.redundancy.unwrap_or(true);
        Ok(Media {
            browser,
            rtp_address,
            rtp_ports,
            advertise,
            rtp_advertise,
            workers,
            cpus,
            busy_at,
            hold_music,
            redundancy,
        })
    }

    /// The number of a processor; whether there is one, the system says at the start.
    fn cpu(&self, number: &Spanned<usize>) -> Result<usize, ConfigError> {
        match *number.get_ref() {
            cpu @ 0..=1023 => Ok(cpu),
            value => Err(self.error(number, Problem::Number { key: "cpus", value, takes: "0 to 1023" })),
        }
    }

    fn music(&self, name: &Spanned<String>) -> Result<Arc<[i16]>, ConfigError> {
        let path = self.beside(name.get_ref());
        let file = std::fs::read(&path).map_err(|e| self.unreadable(name, &path, e))?;
        let pcm = crate::codec::wav::read(&file);
        pcm.map(Arc::from).map_err(|reason| self.error(name, Problem::Music { value: name.get_ref().clone(), reason }))
    }

    fn auth(&self, raw: Option<&Spanned<raw::Auth>>, listen: SocketAddr) -> Result<Auth, ConfigError> {
        let Some(section) = raw else { return Err(whole_file(self.path, Problem::NoAuth)) };
        let auth = section.get_ref();
        match (&auth.hs256_secret, &auth.hs256_secret_file, &auth.eddsa_public_key_file, &auth.open) {
            (Some(secret), None, None, None) => self.hs256(secret, secret.get_ref()),
            (None, Some(file), None, None) => self.hs256(file, &self.secret_file(file)?),
            (None, None, Some(file), None) => {
                let pem = self.secret_file(file)?;
                TokenVerifier::ed_dsa(pem.as_bytes())
                    .map(|verifier| Auth::Token { verifier, secret: None })
                    .map_err(|e| self.error(file, Problem::PublicKey(e)))
            }
            (None, None, None, Some(open)) if *open.get_ref() => {
                if listen.ip().is_loopback() {
                    Ok(Auth::Open)
                } else {
                    Err(self.error(open, Problem::OpenToTheWorld))
                }
            }
            _ => Err(self.error(section, Problem::AuthChoice)),
        }
    }

    fn hs256<T>(&self, at: &Spanned<T>, secret: &str) -> Result<Auth, ConfigError> {
        if secret.len() < 32 {
            return Err(self.error(at, Problem::ShortSecret(secret.len())));
        }
        let verifier = TokenVerifier::hs256(secret.as_bytes());
        Ok(Auth::Token { verifier, secret: Some(Secret(secret.as_bytes().to_vec())) })
    }

    fn log(&self, raw: &raw::Log) -> Result<Log, ConfigError> {
        let json = self.one_of("format", &raw.format, ["text", "json"], "\"text\" or \"json\"")?;
        let numbers = self.one_of("numbers", &raw.numbers, ["masked", "plain"], "\"masked\" or \"plain\"")?;
        let level = raw.level.as_ref().map_or("info", |level| level.get_ref());
        if let (Err(_), Some(at)) = (EnvFilter::try_new(level), &raw.level) {
            let takes = "a level, or a filter such as \"info,ringback::sip=debug\"".into();
            return Err(self.error(at, Problem::Word { key: "level", value: level.into(), takes }));
        }
        Ok(Log { json, level: level.to_owned(), numbers })
    }

    /// Whether a key has the second of two words, of which the first holds unless told.
    fn one_of(
        &self,
        key: &'static str,
        value: &Option<Spanned<String>>,
        words: [&str; 2],
        takes: &'static str,
    ) -> Result<bool, ConfigError> {
        let Some(found) = value else { return Ok(false) };
        match words.iter().position(|word| word == found.get_ref()) {
            Some(at) => Ok(at == 1),
            None => {
                let value = found.get_ref().clone();
                Err(self.error(found, Problem::Word { key, value, takes: takes.into() }))
            }
        }
    }

    fn limits(&self, raw: &raw::Limits) -> Result<Limits, ConfigError> {
        let d = Limits::default();
        let many = "1 to 1000000";
        Ok(Limits {
            calls: self.number("calls", &raw.calls, d.calls, 1..=1_000_000, many)?,
            sockets: self.number("sockets", &raw.sockets, d.sockets, 1..=1_000_000, many)?,
            sockets_per_user: self.number(
                "sockets_per_user",
                &raw.sockets_per_user,
                d.sockets_per_user,
                1..=1000,
                "1 to 1000",
            )?,
            calls_per_socket: self.number(
                "calls_per_socket",
                &raw.calls_per_socket,
                d.calls_per_socket,
                1..=1000,
                "1 to 1000",
            )?,
        })
    }

    fn resume_within(&self, raw: &raw::Calls) -> Result<Duration, ConfigError> {
        let seconds = self.number("resume_within", &raw.resume_within, RESUME_WITHIN, 0..=600, "0 to 600 seconds")?;
        Ok(Duration::from_secs(seconds.try_into().unwrap_or(u64::MAX)))
    }

    fn plan(&self, raw: &raw::DialPlan, trunks: &[String]) -> Result<Plan, LoadError> {
        let dir = self.beside(raw.dir.as_ref().map_or("dialplans", |d| d.get_ref()));
        let unreadable = |path: &Path, e| LoadError::from(whole_file(path, Problem::Unreadable(e)));
        let mut paths = Vec::new();
        if dir.is_file() {
            paths.push(dir.clone());
        } else {
            for entry in std::fs::read_dir(&dir).map_err(|e| unreadable(&dir, e))? {
                let path = entry.map_err(|e| unreadable(&dir, e))?.path();
                if path.extension().is_some_and(|e| e == "toml") {
                    paths.push(path);
                }
            }
        }
        if paths.is_empty() {
            return Err(whole_file(self.path, Problem::NoPlan(dir)).into());
        }
        paths.sort();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let text = std::fs::read_to_string(&path).map_err(|e| unreadable(&path, e))?;
            files.push(PlanFile { name: path.display().to_string(), text });
        }
        // A table's name is a path relative to the file that names it.
        let mut read = |file: &str, name: &str| {
            std::fs::read_to_string(Path::new(file).parent().unwrap_or(Path::new(".")).join(name))
        };
        Plan::load_with(&files, trunks, &mut read).map_err(LoadError::Plan)
    }
}

/// `"20000-20999"`; `None` unless it holds at least one even port and the odd one above.
fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let even = first.checked_next_multiple_of(2)?;
    (first > 0 && even < last).then_some(first..=last)
}
