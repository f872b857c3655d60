//! `[cdr]`: where call detail records go.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};
use toml::Spanned;

use super::{ConfigError, Problem, Reader, raw};
use crate::net::tls::{TlsClient, Trust, read_certificates};

/// Records that may wait for one place, unless told.
const QUEUE: usize = 10_000;
/// How long PostgreSQL may take to be reached, unless its URL says so.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Where call detail records go: to each place that is given.
#[derive(Debug, Clone)]
pub struct CdrConfig {
    /// JSON lines.
    pub lines: Option<CdrLines>,
    /// The file of an SQLite database.
    pub sqlite: Option<PathBuf>,
    /// A PostgreSQL database.
    pub postgres: Option<CdrPostgres>,
    /// Records that may wait for each of them.
    pub queue: usize,
    /// How long records stand in the databases; `None`: for ever.
    pub keep: Option<Duration>,
    /// What no place has taken when the gateway ends is written here and taken up at the next start; `None`: to the log.
    pub waiting: Option<PathBuf>,
}

/// Where JSON lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CdrLines {
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// A PostgreSQL database; its Debug shows no password.
#[derive(Debug, Clone)]
pub struct CdrPostgres {
    /// How it is reached.
    pub database: tokio_postgres::Config,
    /// By what its certificate is judged, where there is TLS.
    pub tls: TlsClient,
}

impl CdrConfig {
    /// JSON lines on standard output alone.
    pub(super) fn stdout() -> CdrConfig {
        CdrConfig {
            lines: Some(CdrLines::Stdout),
            sqlite: None,
            postgres: None,
            queue: QUEUE,
            keep: None,
            waiting: None,
        }
    }
}

impl Reader<'_> {
    /// The whole section. Where it names no place, that is SQLite in the folder which the service manager made for the
    /// gateway's state, else standard output.
    pub(super) fn cdr(&self, raw: &raw::Cdr) -> Result<CdrConfig, ConfigError> {
        let lines = raw.file.as_deref().map(|file| match file {
            "-" => CdrLines::Stdout,
            file => CdrLines::File(self.beside(file)),
        });
        let postgres = raw.postgres.as_ref().map(|url| self.cdr_postgres(url, raw)).transpose()?;
        if let (None, Some(at)) = (&postgres, raw.postgres_password_file.as_ref().or(raw.postgres_ca.as_ref())) {
            return Err(self.error(at, Problem::NoCdrPostgres));
        }
        let named = lines.is_some() || postgres.is_some();
        let sqlite = match &raw.sqlite {
            Some(file) => Some(self.beside(file)),
            None if named => None,
            None => self.own_file(None, "STATE_DIRECTORY", "cdr.sqlite"),
        };
        let lines = lines.or((!named && sqlite.is_none()).then_some(CdrLines::Stdout));
        let queue = self.number("queue", &raw.queue, QUEUE, 100..=1_000_000, "100 to 1000000 records")?;
        let days = self.number("keep_days", &raw.keep_days, 0, 0..=36_500, "days, 1 to 36500; 0 keeps all")?;
        let keep = (days > 0).then(|| Duration::from_secs(days as u64 * 24 * 3600));
        let waiting = self.own_file(raw.waiting.as_deref(), "STATE_DIRECTORY", "cdr.waiting");
        Ok(CdrConfig { lines, sqlite, postgres, queue, keep, waiting })
    }

    fn cdr_postgres(&self, url: &Spanned<String>, raw: &raw::Cdr) -> Result<CdrPostgres, ConfigError> {
        let wrong = |why: String| self.error(url, Problem::CdrPostgres(why));
        let mut database: tokio_postgres::Config =
            url.get_ref().parse().map_err(|error: tokio_postgres::Error| wrong(in_words(&error)))?;
        if database.get_hosts().is_empty() {
            return Err(wrong("it names no host".into()));
        }
        if let Some(file) = &raw.postgres_password_file {
            database.password(self.secret_file(file)?);
        }
        if database.get_application_name().is_none() {
            database.application_name("ringback");
        }
        if database.get_connect_timeout().is_none() {
            database.connect_timeout(CONNECT_WITHIN);
        }
        if database.get_ssl_mode() == SslMode::Prefer {
            // Numbers and a password do not leave this machine in the clear, unless told so.
            let stays = raw.postgres_ca.is_none() && database.get_hosts().iter().all(is_here);
            database.ssl_mode(if stays { SslMode::Disable } else { SslMode::Require });
        }
        let trust = match &raw.postgres_ca {
            None => Trust::System,
            Some(file) => {
                let found = read_certificates(&self.beside(file.get_ref()));
                Trust::Own(found.map_err(|error| self.tls_error(file, error))?)
            }
        };
        // What is never used need not be there: a machine without certificates may have its database beside it.
        let trust = if database.get_ssl_mode() == SslMode::Disable { Trust::Own(Vec::new()) } else { trust };
        let tls = TlsClient::new(trust, None, None).map_err(|error| self.tls_error(url, error))?;
        Ok(CdrPostgres { database, tls })
    }
}

/// What is wrong with a URL; never its password.
fn in_words(error: &tokio_postgres::Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
            name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
        }
    }
}
