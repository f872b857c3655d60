//! Whether a server's certificate is good, and whether it is that of the SIP domain that was called:
//! [RFC 5922](https://www.rfc-editor.org/rfc/rfc5922#section-7).

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Whose certificates are good.
#[derive(Debug)]
pub(super) enum Good {
    /// Any: `tls_verify = false`. The handshake's signature is checked all the same.
    Any,
    /// Those with a chain to one of these roots, when they are the domain's.
    Chain {
        roots: RootCertStore,
        /// Certificates that are good as they are, when the server shows one of them itself.
        own: Vec<CertificateDer<'static>>,
    },
}

/// Verifies the chain, then that the certificate is the domain's.
#[derive(Debug)]
pub(super) struct SipServer {
    provider: Arc<CryptoProvider>,
    good: Good,
}

impl SipServer {
    pub(super) fn new(provider: Arc<CryptoProvider>, good: Good) -> SipServer {
        SipServer { provider, good }
    }
}

impl ServerCertVerifier for SipServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Good::Chain { roots, own } = &self.good else { return Ok(ServerCertVerified::assertion()) };
        // The very certificate that the operator named: its key is the proof, whatever its names and dates.
        if own.iter().any(|own| own == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        match verify_server_name(&parsed, server_name) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(_) if is_sip_identity(end_entity, server_name) => Ok(ServerCertVerified::assertion()),
            Err(error) => Err(error),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// RFC 5922 section 7.1, beyond DNS names: a `sip:` URI among the alternative names; the common name only where there are
/// no alternative names at all. Compared without regard to case, and never by wildcard (section 7.2).
fn is_sip_identity(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let ServerName::DnsName(domain) = name else { return false };
    let Ok(certificate) = Certificate::from_der(certificate) else { return false };
    let tbs = certificate.tbs_certificate();
    match tbs.get_extension::<SubjectAltName>() {
        Ok(Some((_, names))) => names.0.iter().any(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => is_uri_of(uri.as_str(), domain.as_ref()),
            _ => false,
        }),
        Ok(None) => {
            let common = tbs.subject().common_name().ok().flatten();
            common.is_some_and(|common| common.value().eq_ignore_ascii_case(domain.as_ref()))
        }
        Err(_) => false,
    }
}

/// `sip:example.com`, without a user: RFC 5922 section 7.1 takes no others for a domain's.
fn is_uri_of(uri: &str, domain: &str) -> bool {
    let host = match uri.split_once(':') {
        Some((scheme, host)) if scheme.eq_ignore_ascii_case("sip") => host,
        _ => return false,
    };
    host.eq_ignore_ascii_case(domain)
}
