//! What others will make of a certificate that we show.

use std::time::SystemTime;

use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, Error};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::{Identity, provider, server_name, system_roots};

/// Whether somebody who trusts the authorities that this system trusts would believe a certificate's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Trusted,
    /// The chain does not lead to any of them: the issuer is another, or the certificates in between are missing.
    Unknown,
    /// It is not good, in words.
    Bad(String),
    /// This system trusts nobody: it has no root certificates.
    NoRoots,
}

impl Identity {
    /// The host names that it is for; empty where it has none, or is damaged.
    pub fn names(&self) -> Vec<String> {
        let Some(Ok(own)) = self.certified.cert.first().map(|own| Certificate::from_der(own)) else {
            return Vec::new();
        };
        let Ok(Some((_, names))) = own.tbs_certificate().get_extension::<SubjectAltName>() else { return Vec::new() };
        let dns = |name: &GeneralName| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
            _ => None,
        };
        names.0.iter().filter_map(dns).collect()
    }

    /// Whether it is good for this host name or address.
    pub fn is_for(&self, host: &str) -> bool {
        let Some(Ok(parsed)) = self.certified.cert.first().map(ParsedCertificate::try_from) else { return false };
        server_name(host).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    }

    /// How its chain stands.
    pub fn standing(&self, now: SystemTime) -> Standing {
        let Some((own, between)) = self.certified.cert.split_first() else { return Standing::Unknown };
        let Ok(roots) = system_roots() else { return Standing::NoRoots };
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let algorithms = provider().signature_verification_algorithms.all;
        let verified = ParsedCertificate::try_from(own).and_then(|own| {
            let now = UnixTime::since_unix_epoch(since);
            verify_server_cert_signed_by_trust_anchor(&own, &roots, between, now, algorithms)
        });
        match verified {
            Ok(()) => Standing::Trusted,
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => Standing::Unknown,
            Err(error) => Standing::Bad(error.to_string()),
        }
    }
}
