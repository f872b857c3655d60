//! What can be wrong with a configuration, each with its place and what to do about it.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// What is wrong.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] std::io::Error),
    /// A file that a key names cannot be read.
    #[error("{}: cannot be read: {reason}", .file.display())]
    UnreadableFile {
        /// the file
        file: PathBuf,
        /// why not
        reason: std::io::Error,
    },
    /// It is not TOML, or a key is unknown, missing or of the wrong type.
    #[error("{0}")]
    Toml(String),
    /// Not `address:port`.
    #[error("`{key}`: \"{value}\" is not an address and port such as {example}")]
    Address {
        /// the key as written in the file
        key: &'static str,
        /// the value found
        value: String,
        /// one that would be right
        example: &'static str,
    },
    /// Not one of the words that the key knows.
    #[error("`{key}`: \"{value}\" is not known; it takes {takes}")]
    Word {
        /// the key as written in the file
        key: &'static str,
        /// the value found
        value: String,
        /// what it takes, in words
        takes: std::borrow::Cow<'static, str>,
    },
    /// A port range that is empty, odd or too small.
    #[error("`rtp_ports`: \"{0}\" is not a range such as \"20000-20999\" of at least two ports")]
    Ports(String),
    /// A number outside of its limits.
    #[error("`{key}`: {value} is out of range; it takes {takes}")]
    Number {
        /// the key as written in the file
        key: &'static str,
        /// the value found
        value: usize,
        /// what it takes, in words
        takes: &'static str,
    },
    /// Where traces go is no URL; it is not shown, as it may hold a secret.
    #[error("`endpoint` is not an http or https URL such as \"http://127.0.0.1:4318\"; /v1/traces is added to it")]
    OtlpEndpoint,
    /// A header field of `[otlp]` that cannot be sent; its value is not shown.
    #[error("a header field is `name: value` in visible ASCII characters, and none that HTTP itself sets")]
    OtlpHeader,
    /// `[hep]` without the trace that it is fed from.
    #[error("[hep] sends on what [trace] finds: [trace] calls must not be 0")]
    HepWithoutTrace,
    /// Two passwords of `[hep]`.
    #[error("[hep] takes password or password_file, and not both")]
    HepPasswordChoice,
    /// What is no PostgreSQL URL.
    #[error("`postgres` takes a URL such as \"postgres://USER@HOST/DATABASE\": {0}")]
    CdrPostgres(String),
    /// A password or certificates for a database that is not there.
    #[error("this is for `postgres = \"postgres://...\"`, which [cdr] does not have")]
    NoCdrPostgres,
    /// `[auth]` is not there.
    #[error(
        "there is no [auth] section: say `hs256_secret_file = \"...\"` or `eddsa_public_key_file = \"...\"` \
         (who signs the browsers' tokens), or `open = true` for tests on this machine alone"
    )]
    NoAuth,
    /// Not exactly one way of authentication.
    #[error("[auth] takes exactly one of hs256_secret, hs256_secret_file, eddsa_public_key_file and open")]
    AuthChoice,
    /// A key that HS256 must not use.
    #[error("the HS256 secret has {0} bytes; it takes at least 32 (RFC 7518 section 3.2), e.g. `openssl rand -hex 32`")]
    ShortSecret(usize),
    /// The key is not a PEM public key.
    #[error("`eddsa_public_key_file`: {0}")]
    PublicKey(#[source] crate::signal::TokenError),
    /// No token, and reachable from other machines.
    #[error(
        "`open = true` lets anyone call who reaches the page: it is taken only while [http] listen is a loopback address"
    )]
    OpenToTheWorld,
    /// A certificate or key that is of no use.
    #[error("{0}")]
    Tls(#[source] crate::net::tls::TlsError),
    /// A listener for TLS without a certificate, or the other way round.
    #[error("[sip] tls, tls_certificate and tls_key go together")]
    HalfTls,
    /// A certificate of `[http]` without its key, or the other way round.
    #[error("[http] tls_certificate and tls_key go together")]
    HalfHttps,
    /// `[turn]` without servers.
    #[error("[turn] names no server: say `urls = [\"turn:turn.example:3478?transport=udp\"]`")]
    NoTurn,
    /// Not exactly one way to know the secret.
    #[error("[turn] takes exactly one of secret and secret_file: what coturn has as static-auth-secret")]
    TurnSecret,
    /// A secret that can be guessed.
    #[error("the TURN secret has {0} bytes; it takes at least 16, e.g. `openssl rand -hex 32`")]
    ShortTurnSecret(usize),
    /// A certificate to show without its key, or the other way round.
    #[error("trunk \"{0}\": `tls_certificate` and `tls_key` go together")]
    HalfIdentity(String),
    /// TLS for a trunk that is not reached by it.
    #[error("trunk \"{0}\": this is of use only with `transport = \"tls\"`")]
    NotTls(String),
    /// Certificates to verify by, and the wish not to verify.
    #[error("trunk \"{0}\": with `tls_verify = false` nothing is verified, so `tls_ca` says nothing")]
    UselessCa(String),
    /// No listener for a trunk's transport.
    #[error(
        "trunk \"{trunk}\" is reached over {transport}, but [sip] {transport} has no listener of its address family"
    )]
    NoListener {
        /// the trunk
        trunk: String,
        /// udp or tcp
        transport: &'static str,
    },
    /// RTP would leave by another address family than SIP.
    #[error(
        "trunk \"{trunk}\" and [media] rtp_address = \"{rtp_address}\" are not of one address family (IPv4 or IPv6): its \
         calls would have no media"
    )]
    MediaFamily {
        /// the trunk
        trunk: String,
        /// where RTP is bound
        rtp_address: std::net::IpAddr,
    },
    /// A file that cannot be played to those on hold.
    #[error("`hold_music`: \"{value}\" cannot be played: {reason}")]
    Music {
        /// the file
        value: String,
        /// why not
        reason: crate::codec::wav::WavError,
    },
    /// A user without a password, or the other way round.
    #[error("trunk \"{0}\": `user` and `password` (or `password_file`) go together")]
    HalfCredentials(String),
    /// A trunk without an address.
    #[error("trunk \"{0}\" has no `address`, nor has its profile")]
    NoAddress(String),
    /// A registration without a user.
    #[error("trunk \"{0}\": `register = true` needs `user` and `password` (or `password_file`)")]
    RegisterWithoutUser(String),
    /// A key of registrations on a trunk that does not register.
    #[error("trunk \"{trunk}\": `{key}` is of use only with `register = true`")]
    NotRegistering {
        /// the trunk
        trunk: String,
        /// the key as written in the file
        key: &'static str,
    },
    /// Tones are to be kept out of the sound of a trunk whose digits are no tones.
    #[error("trunk \"{0}\": `dtmf_suppress = true` is of use only with `dtmf = \"inband\"` or \"auto\"")]
    SuppressWithoutTones(String),
    /// Not an address or a network.
    #[error("`{key}`: \"{value}\" is not an address or network such as \"192.0.2.1\" or \"192.0.2.0/24\": {reason}")]
    Network {
        /// the key as written in the file
        key: &'static str,
        /// the value found
        value: String,
        /// what is wrong with it
        reason: crate::switch::NetworkError,
    },
    /// A header field that is not ours to write.
    #[error("`headers`: \"{name}\" cannot be set: {reason}")]
    Header {
        /// its name
        name: String,
        /// why not
        reason: &'static str,
    },
    /// A registrar that nobody can use.
    #[error("[registrar] has no users: say [registrar.users] NAME = {{ password = \"...\" }} or `users_file`")]
    NoPhones,
    /// Not exactly one way to know a password.
    #[error("registrar user \"{0}\" takes exactly one of password, password_file and ha1 (with or without ha1_sha256)")]
    PhoneSecret(String),
    /// A password that is guessed in no time.
    #[error("registrar user \"{0}\": a password has at least 8 characters, as the whole Internet may guess at it")]
    WeakPassword(String),
    /// A name that cannot stand in logs and plans.
    #[error("trunk name \"{0}\": letters, digits, '-', '_' and '.' only, at most 64")]
    TrunkName(String),
    /// Call control that nobody could be told from anybody by.
    #[error("[api] has no token: say [[api.token]] with `name`, `scopes`, and `sha256`, `token_file` or `token_env`")]
    NoApiToken,
    /// Not exactly one way to know a token.
    #[error("[[api.token]] takes exactly one of sha256, token_file and token_env")]
    ApiTokenChoice,
    /// A token or secret that could be guessed.
    #[error("this secret has {0} bytes; it takes at least 32, e.g. `openssl rand -hex 32`")]
    ShortToken(usize),
    /// An environment variable that is not set.
    #[error("the environment has no {0}, or it is no text")]
    NoVariable(String),
    /// A web hook's URL that is none.
    #[error("`url`: this is no URL that begins with http:// or https://, without user and password")]
    HookUrl,
    /// Not exactly one secret.
    #[error("[[webhook]] takes exactly one of secret, secret_file and secret_env")]
    HookSecretChoice,
    /// Too many web hooks, or one twice.
    #[error("[[webhook]]: each URL once, and at most {0} of them")]
    TooManyHooks(usize),
    /// The dial plan folder has no plan in it.
    #[error("no dial plan: {0} has no file ending in .toml")]
    NoPlan(PathBuf),
}

/// A problem and where it stands.
#[derive(Debug, Error)]
pub struct ConfigError {
    /// The file's name.
    pub file: String,
    /// Line and column, from 1, where they are known.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.problem),
            None => write!(f, "{}: {}", self.file, self.problem),
        }
    }
}

/// Why a configuration is not taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The dial plans: every finding, one a line, each with file and line.
    #[error("the dial plan is not taken:\n{}", .0.iter().map(|e| format!("  {e}")).collect::<Vec<_>>().join("\n"))]
    Plan(Vec<crate::dialplan::PlanError>),
}

/// What the reader of TOML finds wrong with `text`, in its words; of a value of the wrong type without the value, which may be a secret.
pub(super) fn toml(file: &std::path::Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let message = error.message();
    let found = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let shown = found.and_then(|found| found.rsplit_once(", expected ")).map(|(found, expected)| {
        let kind = found.split(['`', '"']).next().unwrap_or_default().trim_end();
        format!("invalid type: {kind}, expected {expected}")
    });
    ConfigError {
        file: file.display().to_string(),
        place: error.span().map(|span| place(text, span.start)),
        problem: Problem::Toml(shown.unwrap_or_else(|| message.to_owned())),
    }
}

/// Line and column, both from 1, of byte `offset` in `text`.
pub(super) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}
