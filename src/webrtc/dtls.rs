//! The process's certificate, and one DTLS association over it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, DtlsCertificate, Output};
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::rtp::srtp::{Profile, SrtpContext};
use crate::sdp::{DtlsRole, Fingerprint};

/// First wait for an answer to a flight; it doubles. Short, for the peer has just answered a STUN check.
const FIRST_RETRANSMISSION: Duration = Duration::from_millis(150);
/// Retransmissions of one flight: with the doubling these outlast [`HANDSHAKE`].
const RETRANSMISSIONS: usize = 8;
/// How long a handshake may take.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(30);
/// The longest output that is worth a second try with a buffer of its own: a peer's certificate.
const MAX_OUTPUT: usize = 16 * 1024;

/// Why an [`Identity`] could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The key or the certificate could not be generated.
    #[error("no certificate could be generated: {0}")]
    Certificate(#[source] dimpl::certificate::CertificateError),
    /// The cryptographic provider failed its own checks.
    #[error("the DTLS configuration is not usable: {0}")]
    Config(#[source] dimpl::Error),
}

/// The gateway's certificate and DTLS settings: made once per process, shared by all browsers. A clone is a reference.
///
/// Making one is slow (the cryptographic provider checks itself, the first random numbers are drawn): do it at start.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    config: Arc<Config>,
    certificate: DtlsCertificate,
    fingerprint: Fingerprint,
}

impl Identity {
    /// A new self-signed ECDSA P-256 certificate, valid for a year.
    pub fn generate() -> Result<Self, IdentityError> {
        let certificate = dimpl::certificate::generate_self_signed_certificate().map_err(IdentityError::Certificate)?;
        let config = Config::builder()
            // A STUN check with our password has already shown that the peer is where it says: a cookie would only
            // cost a round trip.
            .use_server_cookie(false)
            .flight_start_rto(FIRST_RETRANSMISSION)
            .flight_retries(RETRANSMISSIONS)
            .handshake_timeout(HANDSHAKE)
            .build()
            .map_err(IdentityError::Config)?;
        let digest = Sha256::digest(&certificate.certificate).to_vec();
        let fingerprint = Fingerprint { algorithm: "sha-256".into(), digest };
        Ok(Self(Arc::new(Inner { config: Arc::new(config), certificate, fingerprint })))
    }

    /// The SHA-256 fingerprint of the certificate, for `a=fingerprint`.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint.clone()
    }
}

impl fmt::Debug for Identity {
    /// The private key never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.0.fingerprint.to_string()).finish()
    }
}

/// What came out of an association.
pub(super) enum DtlsOutput {
    /// A datagram of this length lies in the buffer.
    Packet(usize),
    /// The handshake is complete and the peer is who its description said.
    Connected(Box<Keys>),
    /// The association is over.
    Failed(DtlsFailure),
    /// Nothing more for now.
    Idle,
}

/// The SRTP contexts of both directions.
pub(super) struct Keys {
    /// For what we receive.
    pub inbound: SrtpContext,
    /// For what we send.
    pub outbound: SrtpContext,
}

/// How an association ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DtlsFailure {
    Handshake,
    Fingerprint,
    /// The peer said close_notify.
    Closed,
}

/// One association: the handshake, the check of the peer's certificate, the keys.
pub(super) struct Association {
    dtls: Dtls,
    role: DtlsRole,
    expected: Vec<Fingerprint>,
    peer_is_right: bool,
    keys: Option<Box<Keys>>,
    established: bool,
    deadline: Option<Instant>,
}

impl Association {
    /// A new association; `expected` are the fingerprints of the peer's description.
    pub fn new(identity: &Identity, role: DtlsRole, expected: &[Fingerprint], now: Instant) -> Self {
        let Inner { config, certificate, .. } = &*identity.0;
        let mut dtls = Dtls::new_auto(config.clone(), certificate.clone(), now);
        dtls.set_active(role == DtlsRole::Active);
        Self {
            dtls,
            role,
            expected: expected.to_vec(),
            peer_is_right: false,
            keys: None,
            established: false,
            deadline: None,
        }
    }

    /// Takes a datagram. An error is the end of the association.
    pub fn handle(&mut self, now: Instant, packet: &[u8]) -> Result<(), DtlsFailure> {
        use dimpl::UnexpectedMessageError::UnrecognizedAutoServerResponse;
        match self.dtls.handle_timeout(now).and_then(|()| self.dtls.handle_packet(packet)) {
            // A client that waits for its ServerHello is left as it was by anything else: noise is not the end of it.
            Ok(()) | Err(dimpl::Error::UnexpectedMessage(UnrecognizedAutoServerResponse)) => Ok(()),
            Err(_) => Err(DtlsFailure::Handshake),
        }
    }

    /// Lets time pass. An error is the end of the association.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsFailure> {
        self.dtls.handle_timeout(now).map_err(|_| DtlsFailure::Handshake)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; known once polled until idle.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Says goodbye to the peer: the next poll yields a close_notify, where there is a connection.
    pub fn close(&mut self) {
        // An association that cannot be closed is one that has already ended.
        let _ = self.dtls.close();
    }

    /// The next output. Packets are written into `buf`, which should take 1500 bytes.
    pub fn poll(&mut self, buf: &mut [u8]) -> DtlsOutput {
        loop {
            let step = match Self::step(&mut self.dtls, buf) {
                Step::TooSmall(needed) if needed <= MAX_OUTPUT => {
                    match Self::step(&mut self.dtls, &mut vec![0; needed]) {
                        // Our own packets fit an MTU; a caller with less room than that loses them, as a network might.
                        Step::Packet(_) => continue,
                        step => step,
                    }
                }
                step => step,
            };
            match step {
                Step::Packet(len) => return DtlsOutput::Packet(len),
                Step::Idle(at) => {
                    self.deadline = Some(at);
                    return DtlsOutput::Idle;
                }
                Step::Certificate(digests) => {
                    self.peer_is_right = digests.match_any(&self.expected);
                    if !self.peer_is_right {
                        return DtlsOutput::Failed(DtlsFailure::Fingerprint);
                    }
                }
                Step::Keys(profile, material) => match self.split(profile, &material) {
                    Some(keys) => self.keys = Some(Box::new(keys)),
                    None => return DtlsOutput::Failed(DtlsFailure::Handshake),
                },
                Step::Connected => self.established = true,
                Step::Closed => return DtlsOutput::Failed(DtlsFailure::Closed),
                Step::TooSmall(_) => return DtlsOutput::Failed(DtlsFailure::Handshake),
                Step::Other => {}
            }
            if self.established
                && self.peer_is_right
                && let Some(keys) = self.keys.take()
            {
                return DtlsOutput::Connected(keys);
            }
        }
    }

    fn step(dtls: &mut Dtls, buf: &mut [u8]) -> Step {
        match dtls.poll_output(buf) {
            Output::Packet(packet) => Step::Packet(packet.len()),
            Output::BufferTooSmall { needed } => Step::TooSmall(needed),
            Output::Timeout(at) => Step::Idle(at),
            Output::Connected => Step::Connected,
            Output::PeerCert(der) => Step::Certificate(Digests::of(der)),
            Output::KeyingMaterial(material, profile) => match profile {
                dimpl::SrtpProfile::AES128_CM_SHA1_80 => Step::Keys(Profile::Aes128CmSha1_80, material.to_vec()),
                dimpl::SrtpProfile::AEAD_AES_128_GCM => Step::Keys(Profile::AeadAes128Gcm, material.to_vec()),
                dimpl::SrtpProfile::AEAD_AES_256_GCM => Step::Keys(Profile::AeadAes256Gcm, material.to_vec()),
                _ => Step::Closed,
            },
            Output::CloseNotify => Step::Closed,
            // Application data (nobody talks SCTP to us) and what later versions may add.
            _ => Step::Other,
        }
    }

    /// Cuts the exported keys in four: client key, server key, client salt, server salt
    /// ([RFC 5764, section 4.2](https://www.rfc-editor.org/rfc/rfc5764#section-4.2)).
    fn split(&self, profile: Profile, material: &[u8]) -> Option<Keys> {
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let (client_key, rest) = material.split_at_checked(key)?;
        let (server_key, rest) = rest.split_at_checked(key)?;
        let (client_salt, rest) = rest.split_at_checked(salt)?;
        let server_salt = rest.get(..salt)?;
        let client = SrtpContext::new(profile, client_key, client_salt).ok()?;
        let server = SrtpContext::new(profile, server_key, server_salt).ok()?;
        Some(match self.role {
            DtlsRole::Passive => Keys { inbound: client, outbound: server },
            DtlsRole::Active => Keys { inbound: server, outbound: client },
        })
    }
}

/// One output of the DTLS engine without its borrow of the buffer.
enum Step {
    Packet(usize),
    TooSmall(usize),
    Idle(Instant),
    Connected,
    Certificate(Digests),
    Keys(Profile, Vec<u8>),
    Closed,
    Other,
}

/// A certificate's digests by the hashes that we accept.
struct Digests {
    sha256: Vec<u8>,
    sha384: Vec<u8>,
    sha512: Vec<u8>,
}

impl Digests {
    fn of(der: &[u8]) -> Self {
        Self {
            sha256: Sha256::digest(der).to_vec(),
            sha384: Sha384::digest(der).to_vec(),
            sha512: Sha512::digest(der).to_vec(),
        }
    }

    /// Whether the certificate is one of those described: of the fingerprints told, the strongest hash that we accept
    /// decides alone ([RFC 8122, section 5.1](https://www.rfc-editor.org/rfc/rfc8122#section-5.1)).
    fn match_any(&self, expected: &[Fingerprint]) -> bool {
        let by_strength = [("sha-512", &self.sha512), ("sha-384", &self.sha384), ("sha-256", &self.sha256)];
        let strongest = by_strength.into_iter().find(|(name, _)| expected.iter().any(|told| told.algorithm == *name));
        strongest
            .is_some_and(|(name, digest)| expected.iter().any(|told| told.algorithm == name && told.digest == *digest))
    }
}

/// Whether at least one of these fingerprints is by a hash that we accept.
pub(super) fn usable(fingerprints: &[Fingerprint]) -> bool {
    fingerprints.iter().any(|told| matches!(told.algorithm.as_str(), "sha-256" | "sha-384" | "sha-512"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_fingerprint_told_decides() {
        let digests = Digests::of(b"certificate");
        let told =
            |algorithm: &str, digest: &[u8]| Fingerprint { algorithm: algorithm.into(), digest: digest.to_vec() };
        let right = |algorithm: &str| match algorithm {
            "sha-512" => told(algorithm, &digests.sha512),
            "sha-384" => told(algorithm, &digests.sha384),
            _ => told(algorithm, &digests.sha256),
        };
        let wrong = |algorithm| told(algorithm, &[0; 32]);
        let table: [(Vec<Fingerprint>, bool); 9] = [
            (vec![right("sha-256")], true),
            (vec![right("sha-384")], true),
            (vec![right("sha-512")], true),
            (vec![wrong("sha-256")], false),
            (vec![wrong("sha-256"), right("sha-256")], true),
            (vec![right("sha-256"), wrong("sha-512")], false),
            (vec![wrong("sha-256"), right("sha-512")], true),
            (vec![told("sha-1", &[0; 20]), right("sha-256")], true),
            (vec![told("sha-1", &[0; 20])], false),
        ];
        for (expected, verdict) in table {
            assert_eq!(digests.match_any(&expected), verdict, "{expected:?}");
        }
        assert!(!digests.match_any(&[]) && !usable(&[told("sha-1", &[0; 20])]) && usable(&[right("sha-384")]));
    }
}
