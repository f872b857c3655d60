//! `ringback.toml` as it is written: names, strings and their places in the file. What the values mean is decided in
//! [`super`], which can say on which line a wrong one stands.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// The whole file.
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(default)]
    pub http: Http,
    #[serde(default)]
    pub sip: Sip,
    #[serde(default)]
    pub media: Media,
    pub auth: Option<Spanned<Auth>>,
    pub turn: Option<Spanned<Turn>>,
    #[serde(default)]
    pub dialplan: DialPlan,
    #[serde(default)]
    pub cdr: Cdr,
    #[serde(default)]
    pub log: Log,
    #[serde(default)]
    pub trace: Trace,
    pub hep: Option<Spanned<Hep>>,
    pub otlp: Option<Spanned<Otlp>>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub store: Store,
    #[serde(default)]
    pub calls: Calls,
    #[serde(default)]
    pub shutdown: Shutdown,
    #[serde(default)]
    pub trunk: BTreeMap<String, Spanned<Trunk>>,
    pub registrar: Option<Spanned<Registrar>>,
    #[serde(default)]
    pub profiles: Profiles,
    #[serde(default)]
    pub control: Control,
    #[serde(default)]
    pub journal: Journal,
    pub api: Option<Spanned<Api>>,
    #[serde(default)]
    pub webhook: Vec<Spanned<Webhook>>,
    #[serde(default)]
    pub events: Events,
}

/// `[api]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    pub listen: Spanned<String>,
    #[serde(default)]
    pub token: Vec<Spanned<ApiToken>>,
}

/// `[[api.token]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiToken {
    pub name: String,
    pub sha256: Option<Spanned<String>>,
    pub token_file: Option<Spanned<String>>,
    pub token_env: Option<Spanned<String>>,
    pub scopes: Option<Vec<Spanned<String>>>,
}

/// `[[webhook]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    pub url: Spanned<String>,
    pub secret: Option<Spanned<String>>,
    pub secret_file: Option<Spanned<String>>,
    pub secret_env: Option<Spanned<String>>,
    pub events: Option<Vec<Spanned<String>>>,
}

/// `[events]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Events {
    pub spool: Option<String>,
}

/// `[registrar]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registrar {
    pub realm: Spanned<String>,
    #[serde(default)]
    pub users: BTreeMap<String, Spanned<PhoneUser>>,
    pub users_file: Option<Spanned<String>>,
    pub max_bindings: Option<Spanned<usize>>,
    pub min_expires: Option<Spanned<usize>>,
    pub max_expires: Option<Spanned<usize>>,
    pub calls_per_user: Option<Spanned<usize>>,
    pub codecs: Option<Vec<Spanned<String>>>,
}

/// A user in `[registrar.users]` or in its file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhoneUser {
    pub password: Option<Spanned<String>>,
    pub password_file: Option<Spanned<String>>,
    pub ha1: Option<Spanned<String>>,
    pub ha1_sha256: Option<Spanned<String>>,
    pub class: Option<String>,
    pub caller_id: Option<Spanned<String>>,
    pub destinations: Option<Vec<String>>,
    pub max_duration: Option<u64>,
}

/// `[http]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub listen: Option<Spanned<String>>,
    pub origins: Option<Vec<Spanned<String>>>,
    pub softphone: Option<bool>,
    pub sip_over_websocket: Option<bool>,
    pub proxies: Option<Vec<Spanned<String>>>,
    pub tls_certificate: Option<Spanned<String>>,
    pub tls_key: Option<Spanned<String>>,
}

/// `[sip]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Sip {
    pub udp: Option<Vec<Spanned<String>>>,
    pub tcp: Option<Vec<Spanned<String>>>,
    pub tls: Option<Vec<Spanned<String>>>,
    pub tls_certificate: Option<Spanned<String>>,
    pub tls_key: Option<Spanned<String>>,
    pub tls_client_ca: Option<Spanned<String>>,
    pub advertise: Option<Spanned<OneOrMore>>,
    pub dns: Option<Vec<Spanned<String>>>,
}

/// A string, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// `[media]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Media {
    pub browser: Option<Spanned<String>>,
    pub rtp_address: Option<Spanned<String>>,
    pub rtp_ports: Option<Spanned<String>>,
    pub advertise: Option<Vec<Spanned<String>>>,
    pub rtp_advertise: Option<Spanned<String>>,
    pub workers: Option<Spanned<usize>>,
    pub cpus: Option<Vec<Spanned<usize>>>,
    pub busy_at: Option<Spanned<usize>>,
    pub hold_music: Option<Spanned<String>>,
    pub redundancy: Option<bool>,
}

/// `[auth]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub hs256_secret: Option<Spanned<String>>,
    pub hs256_secret_file: Option<Spanned<String>>,
    pub eddsa_public_key_file: Option<Spanned<String>>,
    pub open: Option<Spanned<bool>>,
}

/// `[turn]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    pub urls: Vec<Spanned<String>>,
    pub secret: Option<Spanned<String>>,
    pub secret_file: Option<Spanned<String>>,
    pub ttl: Option<Spanned<usize>>,
}

/// `[dialplan]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct DialPlan {
    pub dir: Option<Spanned<String>>,
}

/// `[cdr]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Cdr {
    pub file: Option<String>,
    pub sqlite: Option<String>,
    pub postgres: Option<Spanned<String>>,
    pub postgres_password_file: Option<Spanned<String>>,
    pub postgres_ca: Option<Spanned<String>>,
    pub queue: Option<Spanned<usize>>,
    pub keep_days: Option<Spanned<usize>>,
    pub waiting: Option<String>,
}

/// `[control]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Control {
    pub socket: Option<String>,
}

/// `[journal]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    pub file: Option<String>,
}

/// `[log]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: Option<Spanned<String>>,
    pub level: Option<Spanned<String>>,
    pub numbers: Option<Spanned<String>>,
}

/// `[trace]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    pub calls: Option<Spanned<usize>>,
    pub messages: Option<Spanned<usize>>,
    pub memory_mb: Option<Spanned<usize>>,
}

/// `[hep]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hep {
    pub address: Spanned<String>,
    pub password: Option<Spanned<String>>,
    pub password_file: Option<Spanned<String>>,
    pub capture_id: Option<Spanned<usize>>,
}

/// `[otlp]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    pub endpoint: Spanned<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, Spanned<String>>,
    pub headers_file: Option<Spanned<String>>,
    pub service: Option<String>,
    pub numbers: Option<Spanned<String>>,
}

/// `[limits]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub calls: Option<Spanned<usize>>,
    pub sockets: Option<Spanned<usize>>,
    pub sockets_per_user: Option<Spanned<usize>>,
    pub calls_per_socket: Option<Spanned<usize>>,
    pub gateway: Option<Quota>,
    pub user: Option<Quota>,
    pub token: Option<Quota>,
    #[serde(default)]
    pub class: BTreeMap<String, Spanned<ClassQuota>>,
    #[serde(default)]
    pub trunk: BTreeMap<String, Spanned<Quota>>,
}

/// `[limits.gateway]`, `[limits.user]`, `[limits.token]`, `[limits.trunk.NAME]`
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    pub calls: Option<Spanned<usize>>,
    pub calls_per_minute: Option<Spanned<usize>>,
    pub minutes_per_day: Option<Spanned<usize>>,
    pub longest_call: Option<Spanned<usize>>,
    pub new_countries_per_day: Option<Spanned<usize>>,
}

/// `[limits.class.NAME]`
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct ClassQuota {
    pub user: Option<Quota>,
    pub address: Option<Quota>,
    pub calls: Option<Spanned<usize>>,
    pub calls_per_minute: Option<Spanned<usize>>,
    pub minutes_per_day: Option<Spanned<usize>>,
    pub longest_call: Option<Spanned<usize>>,
    pub new_countries_per_day: Option<Spanned<usize>>,
}

/// `[store]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Store {
    pub path: Option<String>,
}

/// `[calls]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    pub resume_within: Option<Spanned<usize>>,
}

/// `[shutdown]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    pub grace_seconds: Option<u64>,
}

/// Defines a section all of whose keys may be left out, and how one section's values fill the gaps of another.
macro_rules! section {
    ($(#[$about:meta])* $name:ident { $(pub $key:ident: Option<$value:ty>,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $(pub $key: Option<$value>,)*
        }

        impl $name {
            /// With `base`'s values where it has none of its own.
            pub fn or(self, base: &$name) -> $name {
                $name { $($key: self.$key.or_else(|| base.$key.clone()),)* }
            }
        }
    };
}

section! {
    /// `[trunk.NAME]`
    Trunk {
        pub profile: Option<Spanned<String>>,
        pub address: Option<Spanned<String>>,
        pub transport: Option<Spanned<String>>,
        pub domain: Option<Spanned<String>>,
        pub from_domain: Option<Spanned<String>>,
        pub user: Option<Spanned<String>>,
        pub password: Option<Spanned<String>>,
        pub password_file: Option<Spanned<String>>,
        pub realm: Option<String>,
        pub codecs: Option<Vec<Spanned<String>>>,
        pub ptime: Option<Spanned<usize>>,
        pub pass: Option<Spanned<String>>,
        pub number_format: Option<Spanned<String>>,
        pub dtmf: Option<Spanned<String>>,
        pub dtmf_suppress: Option<Spanned<bool>>,
        pub srtp: Option<Spanned<String>>,
        pub sources: Option<Vec<Spanned<String>>>,
        pub media_sources: Option<Vec<Spanned<String>>>,
        pub outbound_proxy: Option<Spanned<String>>,
        pub identity: Option<Spanned<String>>,
        pub from: Option<Spanned<String>>,
        pub main_number: Option<Spanned<String>>,
        pub privacy: Option<bool>,
        pub user_phone: Option<bool>,
        pub trust_identity: Option<bool>,
        pub headers: Option<BTreeMap<String, Spanned<String>>>,
        pub params: Option<bool>,
        pub reliable: Option<Spanned<String>>,
        pub session_expires: Option<Spanned<usize>>,
        pub min_se: Option<Spanned<usize>>,
        pub refresher: Option<Spanned<String>>,
        pub udp_only: Option<bool>,
        pub tls_name: Option<Spanned<String>>,
        pub tls_ca: Option<Spanned<String>>,
        pub tls_certificate: Option<Spanned<String>>,
        pub tls_key: Option<Spanned<String>>,
        pub tls_verify: Option<Spanned<bool>>,
        pub refer: Option<Spanned<String>>,
        pub refer_in: Option<Spanned<String>>,
        pub redirects: Option<Spanned<String>>,
        pub calls: Option<Spanned<usize>>,
        pub calls_per_second: Option<Spanned<usize>>,
        pub options: Option<Spanned<usize>>,
        pub register: Option<Spanned<bool>>,
        pub expires: Option<Spanned<usize>>,
        pub contact_user: Option<Spanned<String>>,
    }
}

/// `profiles/NAME.toml`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub title: String,
    pub verified: String,
    pub source: Vec<String>,
    pub needs: Vec<String>,
    pub trunk: Trunk,
}

/// `[profiles]`
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    pub dir: Option<String>,
}
