//! TLS for SIP: keys and certificates as files, and what a listener or a connection of ours does with them.
//!
//! Keys are read once, are in no `Debug` and in no error.

mod judge;
mod verify;

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use thiserror::Error;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use x509_cert::der::Decode;

pub use judge::Standing;
use verify::{Good, SipServer};

/// Why certificates and keys are of no use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// which
        path: PathBuf,
        /// why
        source: std::io::Error,
    },
    /// There is no certificate in it.
    #[error("{} has no certificate in it (PEM, `-----BEGIN CERTIFICATE-----`)", .0.display())]
    NoCertificate(PathBuf),
    /// There is no key in it.
    #[error("{} has no private key in it (PEM, without a passphrase)", .0.display())]
    NoKey(PathBuf),
    /// The file is not PEM, or a certificate in it is none.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// which
        path: PathBuf,
        /// in words
        what: String,
    },
    /// The key is another one's.
    #[error("the key in {} is not that of the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// the certificate's file
        certificate: PathBuf,
        /// the key's file
        key: PathBuf,
    },
    /// The system has no certificates to verify others by.
    #[error(
        "this system has no root certificates to verify the peer by (Debian: apt-get install ca-certificates); say which \
         by `tls_ca`"
    )]
    NoRoots,
    /// Not a name that a certificate can have.
    #[error("\"{0}\" is not a host name or address that a certificate could show")]
    Name(String),
    /// rustls does not take it.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// A certificate chain with its key.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    file: PathBuf,
    key: PathBuf,
    stamp: FileStamp,
    expires: SystemTime,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("file", &self.file).field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads a chain, the own certificate first, and its key.
    ///
    /// # Errors
    /// [`TlsError`]: which file, and what is wrong with it.
    pub fn read(certificate: &Path, key: &Path) -> Result<Identity, TlsError> {
        let stamp = FileStamp::of(certificate, key); // before it is read: what is written meanwhile counts as new
        let chain = read_certificates(certificate)?;
        let damaged = |what: String| TlsError::Damaged { path: certificate.to_owned(), what };
        let own = chain.first().ok_or_else(|| TlsError::NoCertificate(certificate.to_owned()))?;
        let own = x509_cert::Certificate::from_der(own).map_err(|error| damaged(error.to_string()))?;
        let expires = SystemTime::from(own.tbs_certificate().validity().not_after);
        let certified = CertifiedKey::from_der(chain, read_key(key)?, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
            }
            error => TlsError::Rustls(error),
        })?;
        Ok(Identity {
            certified: Arc::new(certified),
            file: certificate.to_owned(),
            key: key.to_owned(),
            stamp,
            expires,
        })
    }

    /// What its two files look like now: another value than at some time means that one of them was written since.
    pub fn stamp(&self) -> FileStamp {
        FileStamp::of(&self.file, &self.key)
    }

    /// What they looked like when they were read.
    pub fn read_as(&self) -> FileStamp {
        self.stamp
    }

    /// The file of the chain.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// When the certificate runs out.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }
}

/// What a certificate's and a key's file look like: time, length and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp([Option<(SystemTime, u64, u64)>; 2]);

impl FileStamp {
    fn of(certificate: &Path, key: &Path) -> FileStamp {
        FileStamp([certificate, key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
        }))
    }
}

/// Reads every certificate in a PEM file.
///
/// # Errors
/// [`TlsError`]; a file without any is one.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| TlsError::Damaged { path: path.to_owned(), what: error.to_string() })?;
    if found.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(found) }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey(path.to_owned()),
        error => TlsError::Damaged { path: path.to_owned(), what: error.to_string() },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What a listener shows and asks for.
#[derive(Clone)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
    identity: Identity,
    client_ca: Option<Vec<CertificateDer<'static>>>,
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer")
            .field("identity", &self.identity)
            .field("authenticates", &self.authenticates())
            .finish_non_exhaustive()
    }
}

impl TlsServer {
    /// A listener with this identity. With `client_ca` every client must show a certificate that one of these signed.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn new(identity: Identity, client_ca: Option<Vec<CertificateDer<'static>>>) -> Result<TlsServer, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match client_ca.clone() {
            None => builder.with_no_client_auth(),
            Some(certificates) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store(certificates)?), provider());
                let verifier = verifier.build().map_err(|error| rustls::Error::General(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone())));
        Ok(TlsServer { config: Arc::new(config), identity, client_ca })
    }

    /// The same with the certificate and the key that are in the files now.
    ///
    /// # Errors
    /// [`TlsError`]: go on with the old ones.
    pub fn reread(&self) -> Result<TlsServer, TlsError> {
        TlsServer::new(Identity::read(&self.identity.file, &self.identity.key)?, self.client_ca.clone())
    }

    /// For the handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// What it shows.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether clients have proved who they are.
    pub fn authenticates(&self) -> bool {
        self.client_ca.is_some()
    }
}

/// By what a server's certificate is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The system's roots.
    #[default]
    System,
    /// These certificates: roots, or the server's own.
    Own(Vec<CertificateDer<'static>>),
    /// Nobody: any certificate does. Whoever is in between can read and change everything.
    Anyone,
}

/// How a connection of ours to a peer is made safe.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    trust: Trust,
    name: Option<String>,
    identity: Option<Identity>,
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient")
            .field("name", &self.name)
            .field("identity", &self.identity)
            .field("verifies", &self.verifies())
            .finish_non_exhaustive()
    }
}

impl TlsClient {
    /// Verifies by `trust`; `name` is what the certificate must show, where that is not the name that was looked up;
    /// `identity` is shown where the peer asks for one.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn new(trust: Trust, name: Option<String>, identity: Option<Identity>) -> Result<TlsClient, TlsError> {
        if let Some(name) = &name {
            server_name(name)?;
        }
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let good = match &trust {
            Trust::Anyone => Good::Any,
            Trust::System => Good::Chain { roots: system_roots()?, own: Vec::new() },
            Trust::Own(certificates) => {
                // A server's own certificate may be no root as webpki has it; then it is known by itself, and the others of
                // the file are roots all the same.
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates.iter().cloned());
                Good::Chain { roots, own: certificates.clone() }
            }
        };
        let verifier = Arc::new(SipServer::new(provider(), good));
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = match &identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone())))
            }
        };
        Ok(TlsClient { config: Arc::new(config), trust, name, identity })
    }

    /// For the handshake.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// The name that the certificate must show and that is asked for (SNI): its own, else the one that was looked up.
    ///
    /// # Errors
    /// [`TlsError::Name`]
    pub fn server_name(&self, looked_up: &str) -> Result<ServerName<'static>, TlsError> {
        server_name(self.name.as_deref().unwrap_or(looked_up))
    }

    /// What it shows where it is asked.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Whether the peer's certificate is verified.
    pub fn verifies(&self) -> bool {
        self.trust != Trust::Anyone
    }

    /// Whether the other one would show and want the same.
    pub fn is_as(&self, other: &TlsClient) -> bool {
        let shown = |client: &TlsClient| client.identity.as_ref().map(|identity| identity.certified.cert.clone());
        self.trust == other.trust && self.name == other.name && shown(self) == shown(other)
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, TlsError> {
    let plain = text.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    ServerName::try_from(plain.to_owned()).map_err(|_| TlsError::Name(text.to_owned()))
}

fn store(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

#[cfg(test)]
mod tests;
