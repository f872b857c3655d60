//! What of the configuration concerns TLS: the certificates of the `[http]` and `[sip]` listeners, and how trunks are verified.

use toml::Spanned;

use super::{ConfigError, Problem, Reader, raw};
use crate::net::tls::{Identity, TlsClient, TlsError, TlsServer, Trust, read_certificates};
use crate::sip::Transport;

impl Reader<'_> {
    /// The `tls_*` keys of `[sip]`; they go together with `tls`.
    pub(super) fn tls_server(&self, raw: &raw::Sip) -> Result<Option<TlsServer>, ConfigError> {
        let listener = raw.tls.iter().flatten().next();
        let (certificate, key) = match (&raw.tls_certificate, &raw.tls_key, listener) {
            (Some(certificate), Some(key), Some(_)) => (certificate, key),
            (None, None, None) if raw.tls_client_ca.is_none() => return Ok(None),
            (Some(at), ..) | (None, Some(at), _) | (None, None, Some(at)) => {
                return Err(self.error(at, Problem::HalfTls));
            }
            (None, None, None) => return Err(super::whole_file(self.path, Problem::HalfTls)),
        };
        let identity = self.identity_files(certificate, key)?;
        let client_ca = match &raw.tls_client_ca {
            None => None,
            Some(file) => Some(read_certificates(&self.beside(file.get_ref())).map_err(|e| self.tls_error(file, e))?),
        };
        TlsServer::new(identity, client_ca).map(Some).map_err(|error| self.tls_error(certificate, error))
    }

    /// The `tls_*` keys of `[http]`.
    pub(super) fn https(&self, raw: &raw::Http) -> Result<Option<TlsServer>, ConfigError> {
        match (&raw.tls_certificate, &raw.tls_key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                let identity = self.identity_files(certificate, key)?;
                TlsServer::new(identity, None).map(Some).map_err(|error| self.tls_error(certificate, error))
            }
            (Some(at), None) | (None, Some(at)) => Err(self.error(at, Problem::HalfHttps)),
        }
    }

    /// The `tls_*` keys of a trunk. Without any of them there is something to say only where it is reached by TLS.
    pub(super) fn tls_client(
        &self,
        name: &str,
        section: &Spanned<raw::Trunk>,
        transport: Option<Transport>,
    ) -> Result<Option<TlsClient>, ConfigError> {
        let raw = section.get_ref();
        let files = [&raw.tls_name, &raw.tls_ca, &raw.tls_certificate, &raw.tls_key];
        let said = files.into_iter().flatten().next();
        match (transport, said, &raw.tls_verify) {
            (Some(Transport::Tls), ..) => {}
            (None, None, None) => return Ok(None),
            (None, ..) => {}
            (Some(_), Some(at), _) => return Err(self.error(at, Problem::NotTls(name.into()))),
            (Some(_), None, Some(at)) => return Err(self.error(at, Problem::NotTls(name.into()))),
            (Some(_), None, None) => return Ok(None),
        }
        let trust = match (raw.tls_verify.as_ref().map(|verify| (*verify.get_ref(), verify)), &raw.tls_ca) {
            (Some((false, at)), Some(_)) => return Err(self.error(at, Problem::UselessCa(name.into()))),
            (Some((false, _)), None) => Trust::Anyone,
            (_, None) => Trust::System,
            (_, Some(file)) => {
                let found = read_certificates(&self.beside(file.get_ref()));
                Trust::Own(found.map_err(|error| self.tls_error(file, error))?)
            }
        };
        let identity = match (&raw.tls_certificate, &raw.tls_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(self.identity_files(certificate, key)?),
            (Some(at), None) | (None, Some(at)) => return Err(self.error(at, Problem::HalfIdentity(name.into()))),
        };
        let wanted = raw.tls_name.as_ref().map(|name| name.get_ref().clone());
        let client = TlsClient::new(trust, wanted, identity);
        client.map(Some).map_err(|error| match &raw.tls_name {
            Some(at) if matches!(error, TlsError::Name(_)) => self.tls_error(at, error),
            _ => self.error(section, Problem::Tls(error)),
        })
    }

    fn identity_files(&self, certificate: &Spanned<String>, key: &Spanned<String>) -> Result<Identity, ConfigError> {
        let read = Identity::read(&self.beside(certificate.get_ref()), &self.beside(key.get_ref()));
        read.map_err(|error| match error {
            TlsError::NoKey(_) | TlsError::Mismatch { .. } => self.tls_error(key, error),
            TlsError::Unreadable { ref path, .. } | TlsError::Damaged { ref path, .. }
                if *path == self.beside(key.get_ref()) =>
            {
                self.tls_error(key, error)
            }
            error => self.tls_error(certificate, error),
        })
    }

    pub(super) fn tls_error(&self, at: &Spanned<String>, error: TlsError) -> ConfigError {
        self.error(at, Problem::Tls(error))
    }
}
